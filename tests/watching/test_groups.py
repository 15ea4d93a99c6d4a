"""Does a group have exactly those who have joined, not left, and not ended?"""

from __future__ import annotations

import gc
import pickle
import threading
from functools import partial
from typing import Any

import pytest

from kompyct import ComponentSystem, State
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    ComponentDestroyedError,
    SystemShutdownError,
)
from kompyct.testing import TestSystem
from tests.conftest import LIMIT
from tests.process import components
from tests.process.components import Do, Get, Holder, again, from_snapshot
from tests.watching.components import Watcher
from tests.watching.conftest import WatchBench


def test_members_join_and_leave(bench: WatchBench) -> None:
    """Given components that join and leave, then the members are the others, in the order in which
    they joined; who joins twice is a member once, unlike in OTP's pg."""
    ones = [bench.started() for _ in range(3)]
    group = bench.system.group("workers")
    assert group.members() == ()
    for one in (*ones, ones[0]):
        group.join(one)
    assert group.members() == (*ones,)
    group.leave(ones[0])
    group.leave(ones[0])
    assert group.members() == (ones[1], ones[2])
    group.join(ones[0])
    assert group.members() == (ones[1], ones[2], ones[0])
    assert bench.system.group("workers") is group
    assert bench.system.group("others").members() == ()


def test_a_member_that_ends_is_none_any_more(bench: WatchBench) -> None:
    """Given members that end, by a kill or a fault, then they have left every group."""
    ones = [bench.started() for _ in range(3)]
    groups = [bench.system.group(name) for name in ("workers", "others")]
    for group in groups:
        for one in ones:
            group.join(one)
    bench.end(ones[1])
    assert [group.members() for group in groups] == [(ones[0], ones[2])] * 2
    ones[0].tell(Do(components.fail))
    bench.until(lambda: groups[0].members() == (ones[2],))


def test_a_member_stays_one_through_a_restart(bench: WatchBench) -> None:
    """Given a member that faults and is recovered, then it is a member all the time."""
    one = bench.started(partial(Holder, recovery=again))
    group = bench.system.group("workers")
    group.join(one)
    one.tell(Do(components.fail))
    bench.until(lambda: one.incarnation == 2 and one.state is State.ACTIVE)
    assert group.members() == (one,)


def test_what_cannot_join_is_refused(bench: WatchBench) -> None:
    """Given one that has ended, one of another system, or what is no ref, then it is no member."""
    one = bench.started()
    group = bench.system.group("workers")
    bench.end(one)
    with pytest.raises(ComponentDestroyedError):
        group.join(one)
    for method in (group.join, group.leave):
        with pytest.raises(ArgumentTypeError, match="is no component ref"):
            method("one")  # type: ignore[arg-type]
    with TestSystem() as other, pytest.raises(ArgumentError, match="and group 'workers' to"):
        group.join(other.create(Holder))
    with pytest.raises(ArgumentTypeError, match="name is 7"):
        bench.system.group(7)  # type: ignore[arg-type]
    assert group.members() == ()


def _join(component: Any, group: Any = None) -> None:
    (component.system.group("workers") if group is None else group).join(component.ref)


def _leave(component: Any, group: Any) -> None:
    group.leave(component.ref)


def _members(component: Any, group: Any) -> Any:
    return group.members(), repr(group), pickle.loads(pickle.dumps(group)).members()


def test_a_component_joins_by_itself(bench: WatchBench) -> None:
    """Given a component that joins in its own process, by name or by a group in a message, then it
    is a member for all, and leaves in the same way."""
    one, other = bench.watcher(), bench.watcher()
    group = bench.system.group("workers")
    one.ask(Do(_join))
    other.ask(Do(_join, (group,)))
    assert group.members() == (one, other)
    seen, text, again = one.ask(Do(_members, (group,)))
    assert seen == again == (one, other)
    assert "Group 'workers'" in text
    one.ask(Do(_leave, (group,)))
    assert group.members() == (other,)
    assert "1 members" in repr(group)


def test_a_group_that_nobody_needs_is_not_kept() -> None:
    """Given a group without members that nobody refers to, then the system has nothing of it; with
    a member it stays."""
    with TestSystem() as system:
        one = system.create(Holder)
        system.group("empty")
        system.group("workers").join(one)
        gc.collect()
        assert [*system._runtime.groups._groups] == ["workers"]
        assert system.group("workers").members() == (one,)
        system.kill(one).result()
        gc.collect()
        assert [*system._runtime.groups._groups] == []


def test_a_pickled_group_of_an_ended_system_is_empty() -> None:
    """Given a group that was pickled, when its system has ended, then it has no members, and
    nobody can join."""
    with ComponentSystem(backend="pool") as system:
        data = pickle.dumps(system.group("workers"))
    with TestSystem() as other:
        one = other.create(Holder)
        del system
        gc.collect()
        lost = pickle.loads(data)
        assert lost.members() == ()
        lost.leave(one)
        with pytest.raises(SystemShutdownError, match="'workers' belongs to a system"):
            lost.join(one)


def test_a_group_in_a_snapshot_is_that_of_the_new_system() -> None:
    """S-17: Given a group in a snapshot of an earlier run, then the recovered component has the
    group of that name of its own system."""
    from kompyct.store.snapshots import MemoryStore

    store = MemoryStore()
    with TestSystem(store=store) as system:
        first = system.create(
            partial(Holder, system.group("workers"), recovery=from_snapshot), name="holder"
        )
        system.start(first).result()
    del system, first
    gc.collect()
    with TestSystem(store=store) as system:
        one = system.create(Holder, name="holder")
        system.start(one).result()
        system.group("workers").join(one)
        assert one.ask(Do(_members_of_state)) == (one,)


def _members_of_state(component: Any) -> Any:
    return component.state.members()


def test_members_that_come_and_go_at_once_are_all_right() -> None:
    """Given threads that join, leave and end components of one group, then in the end it has
    exactly those that joined last and live."""
    with ComponentSystem(backend="pool") as system:
        group = system.group("workers")
        parts = [[system.create(Watcher) for _ in range(20)] for _ in range(4)]

        def drive(part: list[Any]) -> None:
            for _ in range(10):
                for one in part:
                    group.join(one)
                for one in part[::2]:
                    group.leave(one)
            for one in part[1::4]:
                system.kill(one).result(LIMIT)

        threads = [threading.Thread(target=drive, args=(part,)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        expected = {ref for part in parts for ref in part[3::4]}
        assert set(group.members()) == expected
        assert len(group.members()) == len(expected)


def test_one_may_join_many_groups() -> None:
    """Given a component in a thousand groups, then its end takes it from all, at once."""
    with TestSystem() as system:
        one = system.create(Holder, start=True)
        groups = [system.group(f"group {number}") for number in range(1000)]
        for group in groups:
            group.join(one)
        assert one.ask(Get()) == "default"
        system.kill(one).result()
        assert not any(group.members() for group in groups)
