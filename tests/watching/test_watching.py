"""Is a watcher told of a final end exactly once, and of nothing else?"""

from __future__ import annotations

import pickle
import random
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kompyct import (
    ChildSpec,
    Component,
    ComponentRef,
    ComponentSupervisor,
    ComponentSystem,
    RestartLimit,
    State,
    Strategy,
    TerminateChild,
    Terminated,
)
from kompyct.errors import (
    ArgumentTypeError,
    ComponentCreateError,
    IncarnationEndedError,
    MailboxFullError,
    ShutdownTimeoutError,
)
from kompyct.events import ComponentEnded, ComponentRecovered
from kompyct.ref import RestoredRef
from kompyct.testing import TestSystem
from tests.conftest import LIMIT
from tests.process import components
from tests.process.components import Do, Gate, Get, Holder, again, ending
from tests.watching.components import (
    EarlyWatcher,
    Looker,
    OnlyHere,
    Watcher,
    end_and_leave,
    end_and_unwatch,
    error_of,
    unwatch,
    watch,
    watch_itself,
    watcher_again,
)
from tests.watching.conftest import WatchBench


def failing(bench: WatchBench, ref: ComponentRef[Any]) -> None:
    """Have a component fault."""
    ref.tell(Do(components.fail))


# -- B-70: one notice ------------------------------------------------------------------------


def test_a_watcher_is_told_of_an_end_once(bench: WatchBench) -> None:
    """B-70: Given a watch, when the watched one is killed, then one notice comes, without an
    error, and naming the ref that was watched."""
    one, other = bench.started(), bench.started()
    watcher = bench.watcher(one, other)
    bench.end(one)
    assert bench.told(watcher, 1) == [Terminated(one, "killed", None)]
    bench.end(other)
    assert [notice.ref for notice in bench.told(watcher, 2)] == [one, other]


def test_a_notice_has_the_cause_of_the_end(bench: WatchBench) -> None:
    """B-70: Given an end after a fault, then the notice names the type of what was raised, and
    has the reason of the event."""
    one = bench.started()
    watcher = bench.watcher(one)
    failing(bench, one)
    (notice,) = bench.told(watcher, 1)
    assert notice.error == "ValueError"
    bench.until(lambda: bool(_ends_of(bench, one)))  # published on another thread
    assert [ended.reason for ended in _ends_of(bench, one)] == [notice.reason]
    assert type(notice.reason) is str


def _ends_of(bench: WatchBench, ref: ComponentRef[Any]) -> list[ComponentEnded]:
    return [event for event in bench.events.of(ComponentEnded) if event.path == ref.path]


def test_a_restart_gives_no_notice(bench: WatchBench) -> None:
    """B-70: Given a fault that is recovered, then no notice comes; given the end, then one."""
    one = bench.started(partial(Holder, recovery=again))
    watcher = bench.watcher(one)
    failing(bench, one)
    bench.until(lambda: one.incarnation == 2 and one.state is State.ACTIVE)
    assert bench.told(watcher, 0) == []
    bench.end(one)
    assert len(bench.told(watcher, 1)) == 1


def test_what_has_ended_before_gives_a_notice_at_once(bench: WatchBench) -> None:
    """B-70: Given a component that has ended, when it is watched, then a notice comes at once;
    it has the cause where the system still knows it, which a ref that was pickled does not."""
    killed, failed = bench.started(), bench.started()
    bench.end(killed)
    failing(bench, failed)
    bench.until(lambda: not failed.is_alive)
    notices = bench.told(bench.watcher(killed, failed), 2)
    assert [notice.ref.path for notice in notices] == [killed.path, failed.path]
    causes = [(notice.reason, notice.error) for notice in notices]
    if bench.backend == "process":
        assert causes == [("it had ended before", None)] * 2
    else:
        assert causes[0] == ("killed", None)
        assert causes[1][1] == "ValueError"


def test_watching_twice_gives_one_notice(bench: WatchBench) -> None:
    """B-70: Given a watch that was made twice, living or ended, then one notice comes."""
    one = bench.started()
    watcher = bench.watcher(one, one)
    watcher.ask(Do(watch, (one, one)))
    bench.end(one)
    assert len(bench.told(watcher, 1)) == 1
    watcher.ask(Do(watch, (one, one)))  # after the notice, a new watch; the second one is none
    assert len(bench.told(watcher, 2)) == 2


def test_every_watcher_is_told(bench: WatchBench) -> None:
    """B-70: Given three watchers of one component, then each gets one notice."""
    one = bench.started()
    watchers = [bench.watcher(one) for _ in range(3)]
    bench.end(one)
    assert [len(bench.told(watcher, 1)) for watcher in watchers] == [1, 1, 1]


def test_a_notice_is_a_message_like_any_other(bench: WatchBench) -> None:
    """Given messages before and after the end, then the notice comes between them."""
    one = bench.started()
    watcher = bench.watcher(one)
    bench.system.stop(watcher).result(LIMIT)
    watcher.tell("before")
    bench.end(one)
    watcher.tell("after")
    bench.system.start(watcher).result(LIMIT)
    assert [getattr(told, "reason", told) for told in bench.told(watcher, 3)] == [
        "before", "killed", "after",
    ]  # fmt: skip


def test_names_are_free_when_the_notice_comes(bench: WatchBench) -> None:
    """B-72: Given a notice, then path, service name and groups have nobody of that name."""
    one = bench.started()
    bench.system.register("service", one)
    bench.system.group("workers").join(one)
    watcher = bench.started(partial(Looker, (one,)))
    bench.end(one)
    assert bench.told(watcher, 1) == [(None, None, ())]


def test_a_ref_never_means_the_later_one(bench: WatchBench) -> None:
    """S-17: Given a name that was used again, when the old ref is watched, then a notice comes at
    once, and none when the later one ends."""
    old = bench.started(name="again")
    bench.end(old)
    later = bench.started(name="again")
    watcher = bench.watcher(old)
    assert len(bench.told(watcher, 1)) == 1
    bench.end(later)
    assert len(bench.told(watcher, 1)) == 1


def test_a_watch_may_be_made_in_init(bench: WatchBench) -> None:
    """Given a component that watches while it is made, then the notice comes after its start."""
    one = bench.started()
    watcher = bench.system.create(partial(EarlyWatcher, one), name="early")
    bench.end(one)
    bench.system.start(watcher).result(LIMIT)
    assert len(bench.told(watcher, 1)) == 1


def test_the_end_of_a_component_that_is_faulty_is_told_once(bench: WatchBench) -> None:
    """B-70: Given a component that is being recovered, when it is killed, one notice comes."""
    one = bench.started(partial(Holder, recovery=again))
    watcher = bench.watcher(one)
    failing(bench, one)
    bench.end(one)
    assert len(bench.told(watcher, 1)) == 1


def test_a_recovery_that_answers_end_is_told(bench: WatchBench) -> None:
    """B-70: Given a recovery function that ends the component, then the notice says so."""
    one = bench.started(partial(Holder, recovery=ending))
    watcher = bench.watcher(one)
    failing(bench, one)
    (notice,) = bench.told(watcher, 1)
    assert (notice.reason, notice.error) == ("ValueError, ended by its recovery", "ValueError")


def test_a_component_in_a_process_that_is_killed_is_told_of(
    process_bench: WatchBench,
) -> None:
    """B-70 (process): Given the end of its process, recovered or not, a thread's watcher hears of
    the final end only; and the other way round, a component in a process of one in a thread."""
    bench = process_bench
    one = bench.started(partial(Holder, recovery=again))
    watcher = bench.watcher(one, backend="thread")
    one.tell(Do(components.die, (signal.SIGKILL,)))
    bench.until(lambda: one.incarnation == 2 and one.state is State.ACTIVE)
    assert bench.told(watcher, 0) == []
    without = bench.started()
    watcher.ask(Do(watch, (without,)))
    without.tell(Do(components.die, (signal.SIGKILL,)))
    (notice,) = bench.told(watcher, 1)
    assert (notice.ref, notice.error) == (without, "ProcessExitError")
    in_thread = bench.started(backend="thread")
    far = bench.watcher(in_thread)
    bench.end(in_thread)
    assert bench.told(far, 1) == [Terminated(in_thread, "killed", None)]


# -- B-71: unwatch ---------------------------------------------------------------------------


def test_after_unwatch_no_notice_comes(bench: WatchBench) -> None:
    """B-71: Given a watch that was taken back, when the component ends, then nothing comes."""
    one = bench.started()
    watcher = bench.watcher(one)
    watcher.ask(Do(unwatch, (one,)))
    watcher.ask(Do(unwatch, (one,)))  # what is not watched may be unwatched
    bench.end(one)
    assert bench.told(watcher, 0) == []


def test_after_unwatch_a_queued_notice_does_not_come(bench: WatchBench) -> None:
    """B-71: Given a notice that is in the mailbox, when the watch is taken back, then it is left
    out; the handler in which that happens has the notice queued behind itself."""
    one = bench.started()
    watcher = bench.watcher(one)
    watcher.ask(Do(end_and_unwatch, (one,)), timeout=LIMIT)
    assert bench.told(watcher, 0) == []


def test_a_watch_after_unwatch_is_a_new_one(bench: WatchBench) -> None:
    """B-71: Given a notice that is queued, unwatch, and a new watch, then one notice comes."""
    one = bench.started()
    watcher = bench.watcher(one)
    watcher.ask(Do(partial(end_and_unwatch, again=True), (one,)), timeout=LIMIT)
    assert len(bench.told(watcher, 1)) == 1


def test_a_notice_that_is_in_the_childs_process_is_left_out(
    process_bench: WatchBench, tmp_path: Path
) -> None:
    """B-71 (process): Given a notice that the child has received, when its handler takes the
    watch back, then it is left out there; messages after it are handled."""
    bench = process_bench
    one = bench.started()
    watcher = bench.watcher(one)
    reached, gate = Gate(str(tmp_path / "reached")), Gate(str(tmp_path / "gate"))
    asked = watcher.ask(Do(_wait_and_unwatch, (reached, gate, one)), block=False)
    bench.until(lambda: reached.is_open)
    bench.end(one)
    watcher.tell("after")
    bench.until(lambda: bool(bench.system._runtime.watches._sent))
    gate.open()
    asked.result(LIMIT)
    assert bench.told(watcher, 1) == ["after"]


def _wait_and_unwatch(component: Watcher, reached: Gate, gate: Gate, ref: Any) -> None:
    components.wait_noting(component, reached, gate)
    component.unwatch(ref)


def test_a_notice_that_a_dying_process_has_not_handled_comes_again(
    process_bench: WatchBench, tmp_path: Path
) -> None:
    """B-70 (process): Given a notice in a process that is killed before it is handled, then the
    next incarnation gets it, once; and after that a watch is a new one."""
    bench = process_bench
    one = bench.started()
    watcher = bench.started(partial(Watcher, (one,), recovery=watcher_again))
    reached, gate = Gate(str(tmp_path / "reached")), Gate(str(tmp_path / "gate"))
    watcher.tell(Do(components.wait_and_die, (reached, gate)))
    bench.until(lambda: reached.is_open)
    bench.end(one)
    bench.until(lambda: bool(bench.system._runtime.watches._sent))
    gate.open()
    bench.until(lambda: watcher.incarnation == 2 and watcher.state is State.ACTIVE)
    assert bench.told(watcher, 1) == [Terminated(one, "killed", None)]
    assert not bench.system._runtime.watches._of
    watcher.ask(Do(watch, (one,)))
    assert len(bench.told(watcher, 2)) == 2


class _Dies(Watcher):
    """Its process is killed in the handling of a notice."""

    def on_receive(self, message: Any) -> object:
        if isinstance(message, Terminated):
            components.die(self, signal.SIGKILL)
        return super().on_receive(message)


class _DiesEarly(Watcher):
    """Its process is killed when a notice is in hand, and it has not told so yet."""

    def on_start(self) -> None:
        super().on_start()
        cell: Any = self._kompyct_cell
        cell.runtime.watches.take = lambda number: components.die(self, signal.SIGKILL)


@pytest.mark.parametrize("kind", [_Dies, _DiesEarly])
def test_a_notice_in_hand_when_the_process_dies_is_gone(
    process_bench: WatchBench, kind: Any
) -> None:
    """B-65 (process): Given a process that is killed while it handles a notice, or just before,
    then that is gone as any message, and the component may watch anew."""
    bench = process_bench
    one = bench.started()
    watcher = bench.started(partial(kind, (one,), recovery=watcher_again))
    bench.end(one)
    bench.until(lambda: watcher.incarnation == 2 and watcher.state is State.ACTIVE)
    assert bench.told(watcher, 0) == []
    assert not any(bench.tables()[:3])
    watcher.ask(Do(watch, (one,)))
    assert len(bench.told(watcher, 1)) == 1


# -- bad input -------------------------------------------------------------------------------


def test_bad_watches_are_refused(bench: WatchBench) -> None:
    """Given the component itself, or what is no ref, then watch and unwatch say what is wrong."""
    watcher = bench.watcher()
    assert watcher.ask(Do(error_of, (watch_itself,))).startswith(
        f"ArgumentError: component {watcher.path!r} cannot watch itself"
    )
    for action in (watch, unwatch):
        said = watcher.ask(Do(error_of, (action, "counter")))
        assert said.startswith("ArgumentTypeError: 'counter' is no component ref")
    assert bench.told(watcher, 0) == []
    with pytest.raises(ArgumentTypeError, match="is no component ref"):
        bench.system.ended("counter")  # type: ignore[arg-type]


def _watch_own_system(component: Watcher) -> str:
    with ComponentSystem() as system:
        own = system.create(Holder, name="own")
        return error_of(component, watch, own)


def test_a_child_cannot_watch_what_only_it_knows(process_bench: WatchBench) -> None:
    """Given a system that a component made in its own process, then a watch there is refused."""
    watcher = process_bench.watcher()
    assert watcher.ask(Do(_watch_own_system)).startswith("ArgumentError: component 'own' belongs")


def test_a_thread_of_an_ended_incarnation_cannot_watch() -> None:
    """S-06: Given a fault, when a thread of that incarnation watches, then it is refused."""
    bench = WatchBench("thread")
    made: list[Watcher] = []

    def make() -> Watcher:
        made.append(Watcher((), recovery=watcher_again))
        return made[-1]

    one, watcher = bench.started(), bench.started(make)
    failing(bench, watcher)
    bench.until(lambda: watcher.incarnation == 2 and watcher.state is State.ACTIVE)
    for late in (made[0].watch, made[0].unwatch):
        with pytest.raises(IncarnationEndedError):
            late(one)
    assert not any(bench.tables())
    bench.system.shutdown()


# -- the watcher's life ----------------------------------------------------------------------


def test_a_watch_outlives_the_recovery_of_its_watcher(bench: WatchBench) -> None:
    """Given a watcher that faults and is recovered, then its next incarnation is told."""
    one = bench.started()
    watcher = bench.started(partial(Watcher, (one,), recovery=watcher_again))
    failing(bench, watcher)
    bench.until(lambda: watcher.incarnation == 2 and watcher.state is State.ACTIVE)
    bench.end(one)
    assert bench.told(watcher, 1) == [Terminated(one, "killed", None)]


def test_a_queued_notice_follows_its_watcher_through_a_fault(bench: WatchBench) -> None:
    """B-65: Given a notice queued behind a message that faults, the next incarnation gets it."""
    one = bench.started()
    watcher = bench.started(partial(Watcher, (one,), recovery=watcher_again))
    bench.system.stop(watcher).result(LIMIT)
    failing(bench, watcher)
    bench.end(one)
    bench.system.start(watcher).result(LIMIT)
    bench.until(lambda: watcher.incarnation == 2 and watcher.state is State.ACTIVE)
    assert bench.told(watcher, 1) == [Terminated(one, "killed", None)]


def test_a_notice_waits_while_its_watcher_is_passive(bench: WatchBench) -> None:
    """Given a watcher that is paused, then the notice comes when it is started again."""
    one = bench.started()
    watcher = bench.watcher(one)
    bench.system.stop(watcher).result(LIMIT)
    bench.end(one)
    bench.system.start(watcher).result(LIMIT)
    assert len(bench.told(watcher, 1)) == 1


def test_a_notice_waits_while_its_watcher_is_being_recovered(make_bench: Any) -> None:
    """Given a watcher whose recovery function runs, when the watched one ends meanwhile, then the
    new incarnation is told. (In virtual time the recovery itself ends the watched one.)"""
    bench = make_bench()
    one = bench.system.create(Holder, name="one", start=True)

    def recover(fault: Any) -> Any:
        killed = bench.system.kill(one)
        if not bench.manual:
            killed.result(LIMIT)
        return fault.restart(partial(Watcher, ()))

    watcher = bench.system.create(partial(Watcher, (one,), recovery=recover), start=True)
    watcher.tell(Do(components.fail))
    bench.event(ComponentRecovered)
    bench.until(lambda: len(watcher.ask(Get())) == 1)


def test_nothing_is_kept_of_a_watcher_that_has_ended(bench: WatchBench) -> None:
    """Given a watcher that ends first, by a kill or a fault, then the watched one has no trace of
    it, and ends as ever."""
    one = bench.started()
    watchers = [bench.watcher(one) for _ in range(2)]
    assert any(bench.tables())
    bench.end(watchers[0])
    failing(bench, watchers[1])
    bench.until(lambda: not watchers[1].is_alive)
    bench.until(lambda: not any(bench.tables()))
    bench.end(one)


def test_a_notice_finds_room_in_a_full_mailbox(bench: WatchBench) -> None:
    """S-20: Given a bounded mailbox that is full, then the notice comes all the same, and takes
    no place from others."""
    ones = [bench.started() for _ in range(3)]
    watcher = bench.watcher(*ones, mailbox_limit=2)
    bench.system.stop(watcher).result(LIMIT)
    for text in ("a", "b"):
        watcher.tell(text)
    for one in ones:
        bench.end(one)
    with pytest.raises(MailboxFullError):
        watcher.tell("c")
    bench.system.start(watcher).result(LIMIT)
    bench.until(lambda: _told_despite_limit(watcher) == 5)


def _told_despite_limit(watcher: Any) -> int:
    try:
        return len(watcher.ask(Get()))
    except MailboxFullError:
        return 0


def test_a_limited_component_is_told(bench: WatchBench) -> None:
    """Given a watcher with a time limit, then a notice is handled under it like any message."""
    one = bench.started()
    watcher = bench.watcher(one, time_limit=30.0)
    bench.end(one)
    assert bench.told(watcher, 1) == [Terminated(one, "killed", None)]


def test_a_notice_comes_before_an_end_after_messages(bench: WatchBench, tmp_path: Path) -> None:
    """B-08: Given a notice that is queued, when its watcher ends after what is waiting, then it is
    told first."""
    notes = components.Notes(str(tmp_path / "notes"))
    one = bench.started()
    watcher = bench.started(partial(Watcher, (one,), notes=notes))
    watcher.tell(Do(end_and_leave, (one,)))
    bench.until(lambda: not watcher.is_alive)
    assert notes.lines() == ["start", "told", "kill"]


def test_a_notice_among_messages_that_cannot_travel(process_bench: WatchBench) -> None:
    """B-70 (process): Given a notice among messages of which one cannot be pickled, or not be
    unpickled in the child, then it comes, once, in its place among the others."""
    bench = process_bench
    for bad in (threading.Lock(), OnlyHere()):
        one = bench.started()
        watcher = bench.watcher(one)
        bench.system.stop(watcher).result(LIMIT)
        watcher.tell("before")
        watcher.tell(bad)
        bench.end(one)
        watcher.tell("after")
        bench.system.start(watcher).result(LIMIT)
        told = bench.told(watcher, 3)
        assert [getattr(each, "reason", each) for each in told] == ["before", "killed", "after"]
        assert not any(bench.tables()), "its delivery was not told"


# -- creation, shutdown, other systems -------------------------------------------------------


def test_a_creation_that_fails_is_told_of_and_keeps_no_watch(make_bench: Any) -> None:
    """B-60: Given a ref that got out of an `__init__` that raises, then who watches it is told;
    and what watched in such an `__init__` leaves nothing."""
    bench = make_bench()
    one = bench.system.create(Holder, name="one", start=True)
    watcher = bench.system.create(Watcher, name="watcher", start=True)

    class Unfit(Component[Any]):
        def __init__(self) -> None:
            watcher.ask(Do(watch, (self.ref,)))
            self.watch(one)
            raise ValueError("unfit")

    with pytest.raises(ComponentCreateError):
        bench.system.create(Unfit, name="unfit")
    bench.until(lambda: len(watcher.ask(Get())) == 1)
    (notice,) = watcher.ask(Get())
    assert (notice.ref.path, notice.reason) == ("unfit", "it could not be created")
    watches = bench.system._runtime.watches
    assert not watches._on
    assert not watches._of


def test_a_shutdown_ends_watchers_and_watched_in_any_order(make_bench: Any) -> None:
    """S-03: Given components that watch each other, then a shutdown ends them as ever, and nothing
    is left; nobody who has ended is told anything."""
    bench = make_bench()
    refs = [bench.system.create(Watcher, start=True) for _ in range(5)]
    for ref in refs:
        ref.ask(Do(watch, tuple(other for other in refs if other != ref)))
    bench.system.shutdown()
    runtime = bench.system._runtime
    assert not any((runtime.watches._on, runtime.watches._of, runtime.watches._sent))


def test_a_ref_of_another_system_can_be_watched(make_bench: Any) -> None:
    """Given a component of another system in the same process, then its end is told, also by that
    system's shutdown; one of a system that has ended gives a notice at once, even if its ref was
    pickled."""
    bench = make_bench()
    with ComponentSystem(backend="pool") as other:
        one = other.create(Holder, name="one", start=True)
        dead = other.create(Holder, name="dead", start=True)
        watcher = bench.system.create(partial(Watcher, (one,)), name="watcher", start=True)
        assert watcher.ask(Get()) == []
        assert other._runtime.watches._on
    bench.until(lambda: watcher.ask(Get()) == [Terminated(one, "killed", None)])
    assert not other._runtime.watches._on
    watcher.ask(Do(watch, (dead,)))
    bench.until(lambda: len(watcher.ask(Get())) == 2)
    data = pickle.dumps(dead)
    del other
    lost = pickle.loads(data)
    watcher.ask(Do(watch, (lost, lost)))
    bench.until(lambda: len(watcher.ask(Get())) == 3)
    assert watcher.ask(Get())[2].ref.path == "dead"


def test_a_ref_of_an_earlier_run_that_leads_nowhere_gives_a_notice() -> None:
    """S-17: Given a ref decoded from a snapshot whose path nobody has, then a watch gives a notice
    at once, which names it; and it is not taken for the component with its former number."""
    with TestSystem() as system:
        one = system.create(Holder, name="one", start=True)
        restored: Any = RestoredRef(system._runtime, "earlier", "other", one._cell.id)
        assert restored == restored
        watcher = system.create(partial(Watcher, (restored, one)), name="watcher", start=True)
        system.run_until_idle()
        assert [notice.ref for notice in watcher.ask(Get())] == [restored]
        assert restored != one
        system.kill(one).result()
        system.run_until_idle()
        assert [notice.ref for notice in watcher.ask(Get())] == [restored, one]


# -- system.ended ----------------------------------------------------------------------------


def test_a_future_is_done_at_the_final_end(bench: WatchBench) -> None:
    """Given `system.ended`, then it is not done at a restart, and has the notice at the end; for
    what has ended it is done at once."""
    one = bench.started(partial(Holder, recovery=again))
    ended = bench.system.ended(one)
    failing(bench, one)
    bench.until(lambda: one.incarnation == 2 and one.state is State.ACTIVE)
    assert not ended.done()
    bench.end(one)
    assert ended.result(LIMIT) == Terminated(one, "killed", None)
    assert bench.system.ended(one).result(0) == Terminated(one, "killed", None)


def _wait_for_end(component: Watcher, ref: Any) -> Terminated:
    return component.system.ended(ref).result(LIMIT)


def test_a_component_may_wait_for_an_end(process_bench: WatchBench) -> None:
    """Given `self.system.ended` in a child process, then its future has the notice too."""
    bench = process_bench
    one, ref = bench.started(), bench.watcher()
    asked = ref.ask(Do(_wait_for_end, (one,)), block=False)
    bench.until(lambda: bool(bench.system._runtime.watches._on))
    bench.end(one)
    assert asked.result(LIMIT) == Terminated(one, "killed", None)


def test_a_future_that_is_cancelled_is_forgotten(bench: WatchBench) -> None:
    """Given a future that nobody wants any more, then the watched one keeps nothing of it."""
    one = bench.started()
    ended = bench.system.ended(one)
    assert any(bench.tables())
    assert ended.cancel()
    assert not any(bench.tables())


def test_a_future_is_done_when_its_system_ends_without_the_component() -> None:
    """S-03: Given a component that hangs and is left behind by a shutdown, then those that wait
    for its end are told, so that nobody waits for ever; also who begins to wait afterwards."""
    system = ComponentSystem(backend="thread")
    entered, release = threading.Event(), threading.Event()

    def hang(component: Holder) -> None:
        entered.set()
        release.wait(LIMIT)

    ref: Any = system.create(Holder, name="hangs", start=True)
    ref.tell(Do(hang))
    ended = system.ended(ref)
    try:
        assert entered.wait(LIMIT)
        with pytest.raises(ShutdownTimeoutError):
            system.shutdown(0.05)
        expected = Terminated(ref, "its system has ended without it", None)
        assert ended.result(LIMIT) == expected
        assert system.ended(ref).result(LIMIT) == expected
    finally:
        release.set()


def test_a_notice_can_be_pickled() -> None:
    """Given a notice, then it survives a round trip; whoever gets it may pass it on."""
    with TestSystem() as system:
        ref = system.create(Holder, name="one")
        notice = Terminated(ref, "killed", None)
        assert pickle.loads(pickle.dumps(notice)) == notice


# -- many at once ----------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["thread", "pool"])
def test_watches_in_a_storm_give_one_notice_each(backend: str) -> None:
    """B-70, B-71: Given threads that watch, unwatch and end the same components at once, then each
    watcher gets one notice of each it watches in the end, and none of the others."""
    bench = WatchBench(backend)
    targets = [bench.started(backend="pool") for _ in range(30)]
    watchers = [bench.watcher() for _ in range(4)]
    expected: list[set[int]] = [set() for _ in watchers]

    def drive(number: int) -> None:
        chance = random.Random(number)
        for _ in range(150):
            index = chance.randrange(len(targets))
            wanted = chance.random() < 0.6
            watchers[number].ask(Do(watch if wanted else unwatch, (targets[index],)))
            expected[number].discard(index)
            if wanted:
                expected[number].add(index)

    def end_some() -> None:
        for target in targets[::2]:
            bench.end(target)

    # Watched again after its notice, a component gives another one: so those that end meanwhile
    # are only watched at the end, when all is told.
    threads = [threading.Thread(target=drive, args=(n,)) for n in range(len(watchers))]
    threads.append(threading.Thread(target=end_some))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    for watcher in watchers:
        watcher.ask(Do(_forget_told))
    for target in targets:
        bench.end(target)
    for number, watcher in enumerate(watchers):
        alive = {index for index in expected[number] if index % 2}
        told: list[Terminated] = bench.told(watcher, len(alive))
        assert sorted(targets.index(notice.ref) for notice in told) == sorted(alive)
    assert not any(bench.tables()[:3])
    bench.system.shutdown()


def _forget_told(component: Watcher) -> None:
    component.state.clear()


def test_one_watches_many_and_many_watch_one() -> None:
    """Given 2,000 watches each way, then all are told, once: no step looks at all the others."""
    with TestSystem() as system:
        ones = [system.create(Holder, start=True) for _ in range(2000)]
        watcher = system.create(partial(Watcher, ones), start=True)
        system.run_until_idle()
        for one in ones:
            system.kill(one)
        system.run_until_idle()
        assert len(watcher.ask(Get())) == 2000
        one = system.create(Holder, start=True)
        watchers = [system.create(partial(Watcher, (one,)), start=True) for _ in range(2000)]
        system.run_until_idle()
        system.kill(one).result()
        system.run_until_idle()
        assert {len(each.ask(Get())) for each in watchers} == {1}


def test_idle_components_are_no_bigger() -> None:
    """PERFORMANCE: Given components that watch nobody and that nobody watches, then they have no
    history, and the system's tables have nothing of them."""
    with TestSystem() as system:
        refs = [system.create(Holder, start=True) for _ in range(3)]
        system.run_until_idle()
        assert [ref._cell._history for ref in refs] == [None] * 3
        watches = system._runtime.watches
        assert not any((watches._on, watches._of, watches._sent))


# -- in a supervision tree -------------------------------------------------------------------


def test_a_restart_by_a_supervisor_gives_no_notice() -> None:
    """B-70, B-72: Given supervised children that are restarted, since one has ended, has faulted,
    or a sibling takes it down, then nobody is told, and names and groups stay; when one is
    terminated, its watcher is told, and when the supervisor ends, all are."""
    with TestSystem() as system:
        specs = [ChildSpec(id=name, factory=Holder) for name in ("a", "b")]
        tree = ComponentSupervisor(
            specs, strategy=Strategy.ONE_FOR_ALL, restart_limit=RestartLimit(5, 10.0)
        )
        supervisor: Any = system.create(tree, name="tree")
        system.start(supervisor).result()
        one: Any = system.find("tree/a")
        other: Any = system.find("tree/b")
        watcher: Any = system.create(partial(Watcher, (one, other, supervisor)), start=True)
        system.run_until_idle()
        system.group("workers").join(one)
        system.register("service", other)
        one.tell(Do(_leave))
        system.run_until_idle()
        one.tell(Do(components.fail))
        system.run_until_idle()
        assert (one.incarnation, other.incarnation) == (3, 3)
        assert watcher.ask(Get()) == []
        assert system.group("workers").members() == (one,)
        assert system.whereis("service") == other
        supervisor.ask(TerminateChild("a"))
        system.run_until_idle()
        assert [notice.ref for notice in watcher.ask(Get())] == [one]
        assert system.group("workers").members() == ()
        system.kill(supervisor).result()
        system.run_until_idle()
        assert [notice.ref for notice in watcher.ask(Get())] == [one, other, supervisor]
        assert system.whereis("service") is None


def _leave(component: Holder) -> None:
    component.kill_self()
