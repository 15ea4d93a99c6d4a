"""How does a component go on from what an earlier process has stored of it?

Most starts here are systems on copies of one `MemoryStore`: `crashed()` is what the loss of the
process would leave. At the end, real programs are killed with SIGKILL and started again.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kompyct import (
    Component,
    ComponentRef,
    ComponentSystem,
    FaultContext,
    FaultKind,
    Phase,
    RecoveryHandler,
    Request,
    RestartLimit,
    State,
    Unrecoverable,
)
from kompyct.codecs import encode
from kompyct.errors import (
    ComponentCreateError,
    ComponentDestroyedError,
    DuplicateNameError,
    MailboxFullError,
    ProcessLostError,
    StoreError,
    StoreLockedError,
    SystemShutdownError,
)
from kompyct.events import (
    ComponentEnded,
    ComponentFaulted,
    ComponentRecovered,
    CreateFailed,
    FallbackApplied,
    FaultIgnored,
    NotRecovered,
    RestartLimitReached,
    SnapshotDamaged,
)
from kompyct.lifecycle import Status
from kompyct.store.directory import DirectoryStore
from kompyct.store.snapshots import Mark, MemoryStore, Snapshot
from kompyct.testing import EventRecorder, TestSystem, hang
from tests.conftest import LIMIT, Bench

ROOT = Path(__file__).parent.parent
MakeBench = Callable[..., Bench]


class Seen(NamedTuple):
    """What the recovery function saw."""

    kind: FaultKind
    snapshot: Any
    suspect: int = 0
    attempt: int = 1


class Desk:
    """Where the recovery function, which is found by its name, notes and reads what to do."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.faults: list[FaultContext[Any]] = []
        self.answer: Callable[[FaultContext[Any]], RecoveryHandler] = go_on
        self.made: list[Any] = []


class Keeper(Component[Any]):
    """Holds a value; calls what it is sent; `on_each_start(self)` at its start."""

    def __init__(
        self, value: Any = "new", on_each_start: Callable[[Any], object] | None = None
    ) -> None:
        self.value = value
        self.on_each_start = on_each_start
        desk.made.append(value)

    def on_start(self) -> None:
        if self.on_each_start is not None:
            self.on_each_start(self)

    def on_receive(self, message: Any) -> Any:
        return message.action(self) if isinstance(message, Do) else message(self)


@dataclass(frozen=True)
class Do(Request[Any]):
    """Ask for `action(component)`."""

    action: Callable[[Any], Any]


def go_on(fault: FaultContext[Any]) -> RecoveryHandler:
    return fault.restart(lambda: Keeper(fault.snapshot))


def recover(fault: FaultContext[Any]) -> RecoveryHandler:
    """The recovery function of this file's components."""
    desk.faults.append(fault)
    desk.seen.append(Seen(fault.kind, fault.snapshot, fault.suspect, fault.attempt))
    return desk.answer(fault)


desk = Desk()
LOST = FaultKind.PROCESS_LOST
SHUTDOWN = FaultKind.SHUTDOWN


@pytest.fixture(autouse=True)
def _clean_desk() -> None:
    desk.__init__()  # type: ignore[misc]  # the recovery function knows this object


class Starts:
    """One program's starts, each on what the one before has left in the store."""

    def __init__(self, make: MakeBench) -> None:
        self._make = make
        self.store = MemoryStore()

    def again(self, **options: Any) -> Bench:
        """Start; what was not written yet is lost, and so is the process before."""
        self.store = self.store.crashed()
        desk.seen.clear()
        desk.faults.clear()
        desk.made.clear()
        return self._make(store=self.store, **options)


@pytest.fixture
def starts(make_bench: MakeBench) -> Starts:
    return Starts(make_bench)


@pytest.fixture
def virtual() -> Iterator[Starts]:
    """Starts in virtual time only."""
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        made.append(Bench("manual", **options))
        return made[-1]

    yield Starts(make)
    for bench in made:
        bench.system.shutdown()


def create(bench: Bench, name: str = "a", **options: Any) -> ComponentRef[Any]:
    """Create and start, and wait for that."""
    ref = bench.system.create(options.pop("factory", Keeper), name=name, **options)
    if ref.is_alive:
        bench.system.start(ref).result(LIMIT)
    return ref


def save(ref: ComponentRef[Any], value: Any, **options: Any) -> None:
    ref.ask(Do(lambda it: it.set_recovery_function(recover, snapshot=value, **options)))


def saved(bench: Bench, *values: Any, name: str = "a", **options: Any) -> ComponentRef[Any]:
    """A component that has saved these, the last of them durably for sure."""
    ref = create(bench, name, **options)
    for value in values:
        save(ref, value)
        bench.system.flush()
    return ref


def value(ref: ComponentRef[Any]) -> Any:
    return ref.ask(Do(lambda it: it.value))


def boom(component: Any) -> None:
    raise ValueError("boom")


# -- the fault that the function sees ------------------------------------------------------------


def test_after_the_loss_of_the_process_the_recovery_function_makes_the_component(
    starts: Starts,
) -> None:
    """B-83, S-25: `PROCESS_LOST` with the newest durable state, and the factory is not called."""
    saved(starts.again(), [1], [2])
    ref = create(starts.again())
    assert desk.seen == [Seen(LOST, [2])]
    assert desk.made == [[2]]
    assert value(ref) == [2]


def test_the_fault_tells_what_is_known_of_the_lost_process(starts: Starts) -> None:
    """S-25: as if the component had just faulted: the incarnation is the stored one, 1; the next
    is 2; there is no message in hand; the exception is a `ProcessLostError`.
    """
    saved(starts.again(), 1)
    bench = starts.again()
    ref = create(bench)
    fault = desk.faults[0]
    assert (fault.path, fault.name, fault.incarnation) == ("a", "a", 1)
    assert (fault.phase, fault.message, fault.restarts) == (Phase.CREATE, None, 0)
    assert (fault.has_snapshot, fault.saved_in_hand, fault.exit) == (True, False, None)
    assert isinstance(fault.exception, ProcessLostError)
    assert "ProcessLostError" in fault.traceback
    assert ref.incarnation == 2
    event = bench.event(ComponentFaulted)
    assert (event.kind, event.error, event.path) == ("process_lost", "ProcessLostError", "a")
    recovered = bench.event(ComponentRecovered)
    assert (recovered.kind, recovered.incarnation, recovered.attempt) == ("process_lost", 2, 1)


def test_what_was_not_written_yet_is_lost_and_the_one_before_is_used(virtual: Starts) -> None:
    """S-24: acknowledged by `flush()`; what was saved after it, and is not 100 ms old, may go."""
    bench = virtual.again()
    ref = saved(bench, "flushed")
    save(ref, "not yet written")
    assert virtual.store.load("a")[0].data == encode("flushed")
    create(virtual.again())
    assert desk.seen == [Seen(LOST, "flushed")]


def test_the_state_is_as_it_was_at_the_save(starts: Starts) -> None:
    """B-20, over the loss of the process: what was changed after the call does not show."""
    bench = starts.again()
    ref = create(bench)

    def save_and_change(component: Any) -> None:
        state = [1]
        component.set_recovery_function(recover, snapshot=state)
        state.append(2)

    ref.ask(Do(save_and_change))
    bench.system.flush()
    create(starts.again())
    assert desk.seen == [Seen(LOST, [1])]


def test_a_second_loss_sees_the_newer_state(starts: Starts) -> None:
    """B-21, over two losses: recovery, new state registered, loss: the newer state."""
    saved(starts.again(), "first")
    saved(starts.again(), "second")
    assert desk.seen == [Seen(LOST, "first")]
    create(starts.again())
    assert desk.seen == [Seen(LOST, "second")]


@pytest.mark.parametrize("state", [None, 0, (), {1: "one"}, {1.5, 2}, b"\0"])
def test_state_comes_back_with_its_types(virtual: Starts, state: Any) -> None:
    """S-28: the same value as after an exception; None is a value like any other (S-09)."""
    saved(virtual.again(), state)
    create(virtual.again())
    assert desk.seen == [Seen(LOST, state)]
    assert type(desk.seen[0].snapshot) is type(state)
    assert desk.faults[0].has_snapshot


def test_a_function_without_a_snapshot_is_called_without_one(starts: Starts) -> None:
    """S-09: `set_recovery_function(f)`: no snapshot; also over the loss of the process."""
    bench = starts.again()
    ref = saved(bench, "before")
    ref.ask(Do(lambda it: it.set_recovery_function(recover)))
    bench.system.flush()
    create(starts.again())
    assert desk.seen == [Seen(LOST, None)]
    fault = desk.faults[0]
    assert (fault.has_snapshot, fault.older_snapshots, fault.snapshot_age) == (False, (), None)


def test_older_snapshots_come_along(starts: Starts) -> None:
    """Defaults: 3 generations are kept, the newest included: of 1, 2, 3, 4 it is 4, and 3, 2."""
    saved(starts.again(), 1, 2, 3, 4)
    create(starts.again())
    assert desk.seen == [Seen(LOST, 4)]
    assert desk.faults[0].older_snapshots == (3, 2)


def test_a_save_of_the_same_bytes_adds_no_generation(starts: Starts) -> None:
    """S-27: it is not newer: of 1, 2, 2, 2 the older one is 1, not another 2."""
    saved(starts.again(), 1, 2, 2, 2)
    create(starts.again())
    assert desk.seen == [Seen(LOST, 2)]
    assert desk.faults[0].older_snapshots == (1,)


def test_what_init_saves_is_stored(starts: Starts) -> None:
    """`set_recovery_function`: what `__init__` saves is stored when the component is made."""

    class Early(Keeper):
        def __init__(self) -> None:
            super().__init__()
            self.set_recovery_function(recover, snapshot="early")

    bench = starts.again()
    bench.system.create(Early, name="a")
    bench.system.flush()
    create(starts.again())
    assert desk.seen == [Seen(LOST, "early")]


def test_what_was_registered_from_outside_is_stored(starts: Starts) -> None:
    """S-09: calls from inside and outside are one; taken up before the next message."""
    bench = starts.again()
    ref = create(bench)
    ref.set_recovery_function(recover, snapshot="outside")
    assert value(ref) == "new"  # a message: so it has been taken up
    bench.system.flush()
    create(starts.again())
    assert desk.seen == [Seen(LOST, "outside")]


@pytest.mark.parametrize(("ago", "age"), [(100.0, 100.0), (-1000.0, 0.0)])
def test_the_age_is_real_time_and_never_negative(ago: float, age: float) -> None:
    """RELIABILITY, clock set back: a snapshot saved 100 s ago is 100 s old; one from a clock that
    was ahead is 0 s old.
    """
    store = MemoryStore()
    store.save(
        [Snapshot(Mark("a", 1, 1), f"{__name__}:recover", encode(1), time.time() - ago)],
    )
    with TestSystem(store=store) as system:
        system.create(Keeper, name="a")
        assert desk.faults[0].snapshot_age == pytest.approx(age, abs=LIMIT)


# -- orderly ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["shutdown", "with"])
def test_after_an_orderly_end_the_function_sees_shutdown(starts: Starts, way: str) -> None:
    """B-83, S-26: marked clean: the same function, with SHUTDOWN, counted as no fault."""
    bench = starts.again()
    saved(bench, "kept")
    if way == "with":
        with bench.system:
            pass
    else:
        bench.system.shutdown()
    bench = starts.again()
    ref = create(bench)
    assert desk.seen == [Seen(SHUTDOWN, "kept")]
    assert isinstance(desk.faults[0].exception, SystemShutdownError)
    assert value(ref) == "kept"
    bench.event(ComponentRecovered)
    assert not bench.events.of(ComponentFaulted)


def test_what_on_kill_saves_at_the_shutdown_is_what_comes_back(starts: Starts) -> None:
    """S-03: components end, then the store is flushed: a save in `on_kill` is in it."""

    class Last(Keeper):
        def on_kill(self) -> None:
            self.set_recovery_function(recover, snapshot="last words")

    bench = starts.again()
    saved(bench, "before", factory=Last)
    bench.system.shutdown()
    create(starts.again())
    assert desk.seen == [Seen(SHUTDOWN, "last words")]


def test_orderly_ends_make_nothing_suspect(starts: Starts) -> None:
    """S-26: counted neither as fault nor as suspect, however often, with nothing newer saved."""
    bench = starts.again()
    saved(bench, 1)
    for _ in range(4):
        bench.system.shutdown()
        bench = starts.again()
        create(bench)
        assert [(seen.kind, seen.suspect) for seen in desk.seen] == [(SHUTDOWN, 0)]


def test_orderly_ends_do_not_clear_the_count_either(starts: Starts) -> None:
    """S-27: only a newer save or 30 s do: handed out after a loss (1), then orderly ends: 1."""
    saved(starts.again(), 1)
    bench = starts.again()
    create(bench)
    for _ in range(3):
        bench.system.shutdown()
        bench = starts.again()
        create(bench)
        assert [(seen.kind, seen.suspect) for seen in desk.seen] == [(SHUTDOWN, 1)]


def test_starting_after_a_shutdown_is_not_charged(starts: Starts) -> None:
    """S-26: no fault, so also a budget of one restart is whole after it: one fault is survived,
    the second in 10 s ends the component.
    """
    bench = starts.again()
    saved(bench, 1)
    bench.system.shutdown()
    bench = starts.again()
    ref = create(bench, budget=RestartLimit(1, 10.0))
    ref.tell(boom)
    bench.event(ComponentRecovered, 2)
    ref.tell(boom)
    bench.event(RestartLimitReached)
    bench.event(ComponentEnded)
    assert [seen.kind for seen in desk.seen] == [
        SHUTDOWN,
        FaultKind.EXCEPTION,
        FaultKind.EXCEPTION,
    ]


@pytest.mark.parametrize("active", [True, False])
def test_recover_brings_components_back_as_they_were(starts: Starts, active: bool) -> None:
    """S-26: a component that was passive comes back passive, an active one is started."""
    bench = starts.again()
    ref = saved(bench, 1)
    if not active:
        bench.system.stop(ref).result(LIMIT)
    bench.system.shutdown()
    bench = starts.again()
    (ref,) = bench.system.recover()
    if active:
        bench.until(lambda: ref.state is State.ACTIVE)
    else:
        bench.settle()
        assert ref.state is State.PASSIVE
        bench.system.start(ref).result(LIMIT)
    assert value(ref) == 1


def _killed(bench: Bench, ref: ComponentRef[Any]) -> None:
    bench.system.kill(ref).result(LIMIT)


def _killed_brutally(bench: Bench, ref: ComponentRef[Any]) -> None:
    bench.system.kill(ref, brutal=True).result(LIMIT)


def _ended_itself(bench: Bench, ref: ComponentRef[Any]) -> None:
    ref.ask(Do(lambda it: it.kill_self()))
    bench.event(ComponentEnded)


def _ended_by_its_function(bench: Bench, ref: ComponentRef[Any]) -> None:
    desk.answer = lambda fault: fault.end()
    ref.tell(boom)
    bench.event(ComponentEnded)


def _ignored(bench: Bench, ref: ComponentRef[Any]) -> None:
    desk.answer = lambda fault: fault.ignore()
    ref.tell(boom)
    bench.event(ComponentEnded)


def _unrecoverable(bench: Bench, ref: ComponentRef[Any]) -> None:
    def fail(_: Any) -> None:
        raise Unrecoverable("no use")

    ref.tell(fail)
    bench.event(ComponentEnded)


def _escalated(bench: Bench, ref: ComponentRef[Any]) -> None:
    desk.answer = lambda fault: fault.escalate()
    ref.tell(boom)
    with pytest.raises(ValueError, match="boom"):
        bench.system.wait(LIMIT)


def _out_of_budget(bench: Bench, ref: ComponentRef[Any]) -> None:
    for _ in range(11):  # the default allows 10 in 10 s
        ref.tell(boom)
    bench.event(RestartLimitReached)
    bench.event(ComponentEnded)


@pytest.mark.parametrize(
    "end",
    [
        _killed,
        _killed_brutally,
        _ended_itself,
        _ended_by_its_function,
        _ignored,
        _unrecoverable,
        _escalated,
        _out_of_budget,
    ],
)
def test_what_ended_for_good_is_not_offered_again(
    starts: Starts, end: Callable[[Bench, ComponentRef[Any]], None]
) -> None:
    """S-26: a kill by the user, an end by itself, a final end after escalation retire the
    snapshot (generations kept, never offered again): so also the next start but one.
    """
    bench = starts.again()
    end(bench, saved(bench, "gone"))
    if not bench.system._runtime.over.done():
        bench.system.shutdown()
    desk.answer = go_on
    for _ in range(2):
        assert starts.store.load("a")[0].mark.status is Status.RETIRED
        bench = starts.again()
        assert bench.system.recover() == ()
        assert value(create(bench)) == "new"
        assert desk.seen == []
        bench.system.shutdown()


def test_a_fault_during_the_shutdown_keeps_the_snapshot(starts: Starts) -> None:
    """S-26: shutdown keeps it; the component faulted in `on_kill`, so its end was not orderly."""

    class Bad(Keeper):
        def on_kill(self) -> None:
            raise ValueError("on_kill")

    bench = starts.again()
    saved(bench, "kept", factory=Bad)
    bench.system.shutdown()
    create(starts.again())
    assert [(seen.kind, seen.snapshot) for seen in desk.seen] == [(LOST, "kept")]


# -- opting out, other names, other systems -------------------------------------------------------


def test_fresh_comes_from_the_factory_and_leaves_the_snapshot(starts: Starts) -> None:
    """S-25: `fresh=True` opts out; until the first save, the next start still goes on from it."""
    saved(starts.again(), "old")
    bench = starts.again()
    assert value(create(bench, fresh=True)) == "new"
    bench.system.flush()
    assert desk.seen == []
    bench = starts.again()
    create(bench)
    assert [seen.snapshot for seen in desk.seen] == ["old"]


def test_the_first_save_of_a_fresh_component_takes_the_place(starts: Starts) -> None:
    """`create`, fresh: the first save takes its place; nothing of the old one is gone back to."""
    saved(starts.again(), "older", "old")
    saved(starts.again(), "young", fresh=True)
    create(starts.again())
    assert desk.seen == [Seen(LOST, "young")]
    assert desk.faults[0].older_snapshots == ()


def test_components_without_a_name_are_not_stored(starts: Starts) -> None:
    """S-23: only named components are persisted."""
    bench = starts.again()
    ref = bench.system.create(Keeper)
    bench.system.start(ref).result(LIMIT)
    save(ref, 1)
    bench.system.flush()
    assert starts.store.paths() == ()


def test_each_name_goes_on_from_its_own(starts: Starts) -> None:
    """S-25: by path; a name that nobody claims stays where it is."""
    bench = starts.again()
    for name in ("a", "b", "c"):
        saved(bench, f"of {name}", name=name)
    bench = starts.again()
    assert value(create(bench, "b")) == "of b"
    assert value(create(bench, "a")) == "of a"
    assert [seen.snapshot for seen in desk.seen] == ["of b", "of a"]
    bench.system.shutdown()
    bench = starts.again()
    assert value(create(bench, "c")) == "of c"
    assert desk.seen == [Seen(LOST, "of c")]


@pytest.mark.parametrize("name", ["ä ö", "..", "{worker}", "a:b", "x" * 200, "snapshots-1.log"])
def test_any_name_is_found_again(tmp_path: Path, name: str) -> None:
    """S-23: any text without `/` and control characters; nothing becomes a file outside."""
    for start in range(2):
        with TestSystem(store=tmp_path / "state") as system:
            ref = system.create(Keeper, name=name, start=True)
            assert value(ref) == ("new" if start == 0 else "kept")
            save(ref, "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_systems_with_their_own_stores_share_nothing() -> None:
    """Any number of systems in one process; the same name in two stores is two components."""
    stores = [MemoryStore(), MemoryStore()]
    for start in range(2):
        for number, store in enumerate(stores):
            with TestSystem(store=store) as system:
                ref = system.create(Keeper, name="a", start=True)
                assert value(ref) == ("new" if start == 0 else number)
                save(ref, number)


def test_a_store_serves_one_system_at_a_time() -> None:
    """S-29: one writer: a second system on it is refused until the first has ended."""
    store = MemoryStore()
    with TestSystem(store=store), pytest.raises(StoreLockedError, match="end that one first"):
        TestSystem(store=store)
    TestSystem(store=store).shutdown()


def test_a_name_is_used_again_in_the_same_system(starts: Starts) -> None:
    """S-26: what was killed is not offered again, in this process either; incarnations are
    counted on, so that late saves of the first are told apart (S-06).
    """
    bench = starts.again()
    first = saved(bench, "first")
    _killed(bench, first)
    second = create(bench)
    assert desk.seen == []
    assert value(second) == "new"
    assert (first.incarnation, second.incarnation) == (1, 2)
    save(second, "second")
    bench.system.flush()
    create(starts.again())
    assert desk.seen == [Seen(LOST, "second")]
    assert desk.faults[0].older_snapshots == ()


def test_a_name_is_used_again_before_anything_was_written(virtual: Starts) -> None:
    """The same with both ends within one write-behind: of the two, the second counts."""
    bench = virtual.again()
    first = create(bench)
    save(first, "first")
    _killed(bench, first)
    second = create(bench)
    save(second, "second")
    bench.system.flush()
    create(virtual.again())
    assert desk.seen == [Seen(LOST, "second")]


def test_a_name_that_is_taken_is_refused_and_nothing_is_claimed(starts: Starts) -> None:
    """S-23: unique among siblings, also when the store knows the name."""
    saved(starts.again(), 1)
    bench = starts.again()
    ref = create(bench)
    with pytest.raises(DuplicateNameError):
        bench.system.create(Keeper, name="a")
    assert len(desk.seen) == 1
    assert value(ref) == 1


# -- what was declared counts ---------------------------------------------------------------------


def test_create_with_start_starts_what_was_recovered(starts: Starts) -> None:
    """`create(start=True)`: the recovered incarnation starts once, after the recovery."""
    started: list[Any] = []
    desk.answer = lambda fault: fault.restart(
        lambda: Keeper(fault.snapshot, lambda it: started.append(it.value))
    )
    saved(starts.again(), 1)
    bench = starts.again()
    ref = bench.system.create(Keeper, name="a", start=True)
    bench.until(lambda: ref.state is State.ACTIVE)
    assert value(ref) == 1
    assert started == [1]


def test_without_start_what_was_recovered_is_passive(starts: Starts) -> None:
    """`create`: passive until `start`; messages wait."""
    saved(starts.again(), 1)
    bench = starts.again()
    ref = bench.system.create(Keeper, name="a")
    assert ref.state is State.PASSIVE
    heard: list[Any] = []
    ref.tell(lambda it: heard.append(it.value))
    bench.settle()
    assert heard == []
    bench.system.start(ref).result(LIMIT)
    bench.until(lambda: heard == [1])


def test_the_declared_budget_is_charged(starts: Starts) -> None:
    """B-83: a lost process is one restart of the declared budget: of 1 in 10 s nothing is left."""
    saved(starts.again(), 1)
    bench = starts.again()
    ref = create(bench, budget=RestartLimit(1, 10.0))
    ref.tell(boom)
    bench.event(RestartLimitReached)
    bench.event(ComponentEnded)
    assert [seen.kind for seen in desk.seen] == [LOST, FaultKind.EXCEPTION]


def test_a_budget_of_nothing_refuses_the_claim_and_keeps_the_snapshot(starts: Starts) -> None:
    """S-07, S-25: a restart that would exceed the budget is not run; the call raises, and what is
    stored stays for the next start.
    """
    saved(starts.again(), 1)
    bench = starts.again()
    with pytest.raises(ComponentCreateError, match="restart limit") as raised:
        bench.system.create(Keeper, name="a", budget=RestartLimit(0, 10.0))
    assert isinstance(raised.value.__cause__, ProcessLostError)
    bench.event(RestartLimitReached)
    assert desk.made == []
    assert bench.system.find("a") is None
    bench.system.shutdown()
    assert value(create(starts.again())) == 1


def test_the_declared_mailbox_limit_counts(starts: Starts) -> None:
    """B-83: under the declared limits: the third message to a mailbox for two is refused."""
    saved(starts.again(), 1)
    ref = starts.again().system.create(Keeper, name="a", mailbox_limit=2)
    for _ in range(2):
        ref.tell(lambda it: None)
    with pytest.raises(MailboxFullError):
        ref.tell(lambda it: None)


@pytest.mark.parametrize(("own", "other"), [("thread", "pool"), ("pool", "thread")])
def test_the_declared_backend_runs_it(own: str, other: str) -> None:
    """B-83: under the declared backend, the tree says so."""
    store = MemoryStore()
    for _ in range(2):
        bench = Bench(own, store=store)
        with bench.system:
            ref = saved(bench, 1, backend=other)
            assert bench.system.tree().children[0].backend == other
            assert ref.is_alive
    assert desk.seen == [Seen(SHUTDOWN, 1)]


# -- the handlers ---------------------------------------------------------------------------------


def test_restart_without_a_factory_uses_that_of_create(starts: Starts) -> None:
    """S-07: `restart()` makes what `create` was given."""
    desk.answer = lambda fault: fault.restart()
    saved(starts.again(), "stored")
    ref = create(starts.again(), factory=lambda: Keeper("by the factory"))
    assert desk.seen == [Seen(LOST, "stored")]
    assert value(ref) == "by the factory"


def test_ignore_leaves_the_snapshot_for_the_next_start(starts: Starts) -> None:
    """S-25: ignore leaves it; `create` returns a ref of what has ended; the name is free.

    The next start hands it out a second time with nothing newer saved: suspect 1 (S-27).
    """
    saved(starts.again(), 1)
    bench = starts.again()
    desk.answer = lambda fault: fault.ignore()
    ref = bench.system.create(Keeper, name="a", start=True)
    assert not ref.is_alive
    assert bench.system.find("a") is None
    with pytest.raises(ComponentDestroyedError):
        value(ref)
    bench.event(FaultIgnored)
    bench.system.shutdown()
    desk.answer = go_on
    assert value(create(starts.again())) == 1
    assert [(seen.kind, seen.suspect) for seen in desk.seen] == [(LOST, 1)]


def test_end_retires_the_snapshot(starts: Starts) -> None:
    """S-25: end retires it; `create` returns a ref of what has ended, the next start is new."""
    saved(starts.again(), 1)
    bench = starts.again()
    desk.answer = lambda fault: fault.end()
    assert not bench.system.create(Keeper, name="a").is_alive
    bench.system.flush()
    desk.answer = go_on
    assert value(create(starts.again())) == "new"
    assert desk.seen == []


def test_escalate_makes_the_call_raise_and_keeps_the_snapshot(starts: Starts) -> None:
    """S-25: escalate makes the call raise; the system goes on; the snapshot is there next time."""
    saved(starts.again(), 1)
    bench = starts.again()
    desk.answer = lambda fault: fault.escalate()
    with pytest.raises(ComponentCreateError, match=r"escalated.*fresh=True") as raised:
        bench.system.create(Keeper, name="a")
    assert isinstance(raised.value.__cause__, ProcessLostError)
    assert value(create(bench, "another")) == "new"
    bench.system.shutdown()
    desk.answer = go_on
    assert value(create(starts.again())) == 1


def test_a_recovery_action_may_answer_with_a_restart(starts: Starts) -> None:
    """S-11: `recover_with(action)` may return another handler and keeps name and mailbox."""
    saved(starts.again(), 1)
    desk.answer = lambda fault: fault.recover_with(
        lambda fault, system, log: fault.restart(lambda: Keeper("by the action"))
    )
    assert value(create(starts.again())) == "by the action"


def test_a_recovery_action_without_an_answer_ends_the_component(starts: Starts) -> None:
    """S-11: otherwise the component ends; what it ended of itself is retired (S-26)."""
    saved(starts.again(), 1)
    bench = starts.again()
    desk.answer = lambda fault: fault.recover_with(lambda fault, system, log: None)
    assert not bench.system.create(Keeper, name="a").is_alive
    bench.system.flush()
    assert starts.store.load("a")[0].mark.status is Status.RETIRED


def test_a_recovery_action_may_create_one_of_the_same_name(starts: Starts) -> None:
    """S-11, S-25: the component ends before the new one is registered, which is not claimed for
    again; its saves are what the next start goes on from.
    """
    saved(starts.again(), 1)
    bench = starts.again()

    def replace(fault: FaultContext[Any], system: ComponentSystem, log: Any) -> None:
        ref = system.create(lambda: Keeper("successor"), name="a", start=True)
        save(ref, "of the successor")

    desk.answer = lambda fault: fault.recover_with(replace)
    assert not bench.system.create(Keeper, name="a").is_alive
    assert len(desk.seen) == 1
    successor = bench.system.find("a")
    assert successor is not None
    assert value(successor) == "successor"
    bench.system.flush()
    desk.answer = go_on
    assert value(create(starts.again())) == "of the successor"


def test_a_recovery_action_may_claim_another_name(starts: Starts) -> None:
    """S-12: a handler may start components and wait for them: here for a claim of its own."""
    bench = starts.again()
    saved(bench, "of a")
    saved(bench, "of b", name="b")
    bench = starts.again()

    def with_b(fault: FaultContext[Any], system: ComponentSystem, log: Any) -> RecoveryHandler:
        if fault.name == "b":
            return go_on(fault)
        found = value(system.create(Keeper, name="b", start=True))
        return fault.restart(lambda: Keeper(found))

    desk.answer = lambda fault: fault.recover_with(with_b)
    assert value(create(bench)) == "of b"
    assert [seen.snapshot for seen in desk.seen] == ["of a", "of b"]


def test_a_component_may_claim(starts: Starts) -> None:
    """S-25 inside a component: `create` there waits for the recovery without a deadlock."""
    saved(starts.again(), 1, name="child")
    bench = starts.again()
    parent = create(bench, "parent")
    child = parent.ask(Do(lambda it: it.system.create(Keeper, name="child", start=True)))
    assert value(child) == 1


def test_several_threads_may_claim_at_once() -> None:
    """Every method is for any thread: 12 claims (more than the 8 recoveries that run at once) on
    as many threads, each its own.
    """
    first = TestSystem(store=(store := MemoryStore()))
    for number in range(12):
        save(first.create(Keeper, name=f"c{number}", start=True), number)
    first.shutdown()
    with ComponentSystem(store=store) as system:
        found: dict[int, Any] = {}

        def claim(number: int) -> None:
            found[number] = value(system.create(Keeper, name=f"c{number}", start=True))

        threads = [threading.Thread(target=claim, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
    assert found == {number: number for number in range(12)}


# -- a recovery that does not work ----------------------------------------------------------------


def _raise(fault: FaultContext[Any]) -> RecoveryHandler:
    raise RuntimeError("broken")


def _answer_nonsense(fault: FaultContext[Any]) -> Any:
    return "nonsense"


@pytest.mark.parametrize("bad", [_raise, _answer_nonsense])
@pytest.mark.parametrize("fallback", ["end", "escalate"])
def test_a_function_that_fails_at_a_claim_leaves_the_snapshot(
    starts: Starts, bad: Callable[[Any], Any], fallback: str
) -> None:
    """RELIABILITY: contained: event with both causes, the declared fallback; and the snapshot is
    there for a program that has been mended: suspect by 1 (S-27).
    """
    saved(starts.again(), 1)
    bench = starts.again()
    desk.answer = bad
    with pytest.raises(ComponentCreateError):
        bench.system.create(Keeper, name="a", fallback=fallback)  # type: ignore[arg-type]
    applied = bench.event(FallbackApplied)
    assert (applied.error, applied.fallback) == ("ProcessLostError", fallback)
    assert applied.recovery_error == ("RuntimeError" if bad is _raise else "RecoveryFunctionError")
    assert bench.system.find("a") is None
    bench.system.shutdown()
    desk.answer = go_on
    assert value(create(starts.again())) == 1
    assert [(seen.kind, seen.suspect) for seen in desk.seen] == [(LOST, 1)]


def test_the_fallback_restart_comes_from_the_factory(starts: Starts) -> None:
    """Fallback "restart": as `create` would have made it."""
    saved(starts.again(), 1)
    bench = starts.again()
    desk.answer = _raise
    assert value(create(bench, fallback="restart")) == "new"
    bench.event(FallbackApplied)


def test_a_function_that_hangs_at_a_claim_is_abandoned(starts: Starts) -> None:
    """S-12: a deadline (here 0.2 s), then the fallback; the snapshot stays."""
    saved(starts.again(), 1)
    bench = starts.again(recovery_deadline=0.2)
    release = threading.Event()

    def stuck(fault: FaultContext[Any]) -> RecoveryHandler:
        if bench.manual:
            hang()
        release.wait(LIMIT)
        return fault.end()

    desk.answer = stuck
    try:
        with pytest.raises(ComponentCreateError, match="did not work"):
            bench.system.create(Keeper, name="a")
        assert bench.event(FallbackApplied).recovery_error == "RecoveryTimeoutError"
    finally:
        release.set()
    bench.system.shutdown()
    desk.answer = go_on
    assert value(create(starts.again())) == 1
    assert desk.seen[0].kind is LOST


def test_a_replacement_that_cannot_be_made_is_tried_again_and_then_given_up(
    starts: Starts,
) -> None:
    """S-09, S-13: in a restart it is a new fault and counts: the budget of 2 allows two; the third
    is not run, the call raises, and the snapshot stays.
    """
    saved(starts.again(), 1)
    bench = starts.again()

    def fail() -> Keeper:
        raise RuntimeError("cannot be made")

    desk.answer = lambda fault: fault.restart(fail)
    with pytest.raises(ComponentCreateError, match="restart limit"):
        bench.system.create(Keeper, name="a", budget=RestartLimit(2, 10.0))
    assert [seen.kind for seen in desk.seen] == [LOST, FaultKind.EXCEPTION, FaultKind.EXCEPTION]
    assert [seen.attempt for seen in desk.seen] == [1, 2, 3]
    assert [seen.suspect for seen in desk.seen] == [0, 1, 2]
    bench.system.shutdown()
    desk.answer = go_on
    assert value(create(starts.again())) == 1
    assert desk.seen[0].suspect == 3


def test_an_unrecoverable_replacement_keeps_the_snapshot(starts: Starts) -> None:
    """S-25: it could not go on; the call raises, what is stored stays."""
    saved(starts.again(), 1)
    bench = starts.again()

    def fail() -> Keeper:
        raise Unrecoverable("no use")

    desk.answer = lambda fault: fault.restart(fail)
    with pytest.raises(ComponentCreateError, match="unrecoverable"):
        bench.system.create(Keeper, name="a")
    bench.system.shutdown()
    desk.answer = go_on
    assert value(create(starts.again())) == 1


def test_a_store_that_cannot_be_read_refuses_and_leaves_nothing(starts: Starts) -> None:
    """`create`: StoreError: the store cannot be read; the name is free, a later try works."""
    saved(starts.again(), 1)
    bench = starts.again()
    load = starts.store.load

    def fail(path: str) -> Any:
        raise StoreError("cannot be read", phase="read")

    starts.store.load = fail  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="cannot be read"):
        bench.system.create(Keeper, name="a")
    assert bench.event(CreateFailed).error == "StoreError"
    starts.store.load = load  # type: ignore[method-assign]
    assert value(create(bench)) == 1


def test_a_shutdown_during_a_claim_keeps_the_snapshot(starts: Starts) -> None:
    """S-03: new components are refused: the call raises; S-26: shutdown keeps the snapshot."""
    saved(starts.again(), 1)
    bench = starts.again()

    def end_all(fault: FaultContext[Any]) -> RecoveryHandler:
        bench.system.shutdown()  # inside a recovery it only sets this going
        return go_on(fault)

    desk.answer = end_all
    with pytest.raises(SystemShutdownError):
        bench.system.create(Keeper, name="a", start=True)
    bench.system.wait(LIMIT)
    desk.answer = go_on
    assert value(create(starts.again())) == 1
    assert [seen.kind for seen in desk.seen] == [LOST]  # it had not gone on yet


# -- recover() ------------------------------------------------------------------------------------


def test_recover_takes_what_nobody_claimed(starts: Starts) -> None:
    """S-25: `system.recover()` handles what nobody claimed, and only that, once."""
    bench = starts.again()
    for name in ("a", "b", "c"):
        saved(bench, f"of {name}", name=name)
    bench = starts.again()
    create(bench, "b")
    refs = bench.system.recover()
    assert [ref.path for ref in refs] == ["a", "c"]
    for ref in refs:
        bench.until(lambda ref=ref: ref.state is State.ACTIVE)  # type: ignore[misc]
    assert [value(ref) for ref in refs] == ["of a", "of c"]
    assert bench.system.recover() == ()
    assert len(desk.seen) == 3


def test_recover_knows_no_factory(starts: Starts) -> None:
    """`recover()`: a function that answers `restart()` without one cannot go on: reported, and
    the snapshot stays for a program that creates it.
    """
    desk.answer = lambda fault: fault.restart()
    saved(starts.again(), 1)
    bench = starts.again()
    assert bench.system.recover() == ()
    event = bench.event(NotRecovered)
    assert event.path == "a"
    bench.system.shutdown()
    desk.answer = go_on
    assert value(create(starts.again())) == 1


def test_what_has_no_parent_stays_in_the_store_and_is_reported() -> None:
    """S-25: what has no parent stays in the store and is reported."""
    store = MemoryStore()
    entry = Snapshot(Mark("gone/child", 1, 1), f"{__name__}:recover", encode(1), time.time())
    store.save([entry])
    with TestSystem(store=store) as system:
        assert system.recover() == ()
        system.run_until_idle()
        (event,) = system.events.of(NotRecovered)
        assert event.path == "gone/child"
        assert "parent" in event.reason
    assert store.load("gone/child") == (entry,)
    assert desk.seen == []


# -- suspect --------------------------------------------------------------------------------------


def test_the_attempt_is_in_the_store_before_the_function_runs(starts: Starts) -> None:
    """S-27: an attempt mark is durable before the snapshot is handed to its function: what a
    process leaves that dies in the function says so; three such, and the fourth sees 3.
    """
    saved(starts.again(), 1)

    def die(fault: FaultContext[Any]) -> RecoveryHandler:
        left.append(starts.store.crashed())
        return fault.ignore()

    for start in range(4):
        left: list[MemoryStore] = []
        bench = starts.again()
        desk.answer = die
        bench.system.create(Keeper, name="a")
        assert desk.seen == [Seen(LOST, 1, suspect=start, attempt=start + 1)]
        starts.store = left[0]


def test_the_attempt_after_an_exception_is_in_the_store_before_the_function_runs(
    starts: Starts,
) -> None:
    """S-27: the same at an ordinary fault: lost within its recovery function, the next start sees
    that the snapshot was handed out once.
    """
    left: list[MemoryStore] = []

    def die(fault: FaultContext[Any]) -> RecoveryHandler:
        left.append(starts.store.crashed())
        return fault.end()

    bench = starts.again()
    ref = saved(bench, 1)
    desk.answer = die
    ref.tell(boom)
    bench.event(ComponentEnded)
    starts.store = left[0]
    desk.answer = go_on
    create(starts.again())
    assert desk.seen == [Seen(LOST, 1, suspect=1, attempt=2)]


def test_a_newer_save_clears_the_count(starts: Starts) -> None:
    """S-27: cleared by the first newer save after `on_start`: lost twice, saved, lost: 0."""
    saved(starts.again(), 1)
    create(starts.again())
    bench = starts.again()
    ref = create(bench)
    assert desk.seen == [Seen(LOST, 1, suspect=1, attempt=2)]
    save(ref, 2)
    bench.system.flush()
    create(starts.again())
    assert desk.seen == [Seen(LOST, 2)]


def test_a_save_of_the_same_bytes_is_not_newer(starts: Starts) -> None:
    """S-27: a save whose bytes equal the restored ones does not clear the count."""
    saved(starts.again(), "same")
    for start in range(3):
        saved(starts.again(), "same")
        assert [seen.suspect for seen in desk.seen] == [start]


def test_a_save_during_on_start_is_not_newer(starts: Starts) -> None:
    """S-27: nor does a save made during `on_start`, though its bytes differ."""
    count = 0

    def note(component: Any) -> None:
        nonlocal count
        count += 1
        component.set_recovery_function(recover, snapshot=("started", count))

    desk.answer = lambda fault: fault.restart(lambda: Keeper(fault.snapshot, note))
    saved(starts.again(), "first")
    for start in range(3):
        bench = starts.again()
        create(bench)
        bench.system.flush()
        assert [seen.suspect for seen in desk.seen] == [start]


@pytest.mark.parametrize(("seconds", "suspect"), [(29.8, 1), (30.2, 0)])
def test_thirty_seconds_of_running_clear_the_count(
    virtual: Starts, seconds: float, suspect: int
) -> None:
    """S-27: or after 30 s of running, which the store is told (within 100 ms)."""
    saved(virtual.again(), 1)
    bench = virtual.again()
    create(bench)
    bench.pass_time(seconds)
    create(virtual.again())
    assert [seen.suspect for seen in desk.seen] == [suspect]


def test_a_fault_within_thirty_seconds_counts_on(virtual: Starts) -> None:
    """S-27: lost (handed out: 1), a fault after 10 s (2), 29 s of running, lost: the next start
    sees 2: the 30 s are of one run, not of the process.
    """
    saved(virtual.again(), 1)
    bench = virtual.again()
    ref = create(bench)
    bench.pass_time(10.0)
    ref.tell(boom)
    bench.settle()
    assert [seen.suspect for seen in desk.seen] == [0, 1]
    bench.pass_time(29.0)
    create(virtual.again())
    assert [seen.suspect for seen in desk.seen] == [2]


def test_faults_and_losses_count_together(starts: Starts) -> None:
    """S-27: the count is kept in the store: a fault in the first process, then its loss."""
    bench = starts.again()
    ref = saved(bench, 1)
    ref.tell(boom)
    bench.event(ComponentRecovered)
    bench.system.flush()
    create(starts.again())
    assert desk.seen == [Seen(LOST, 1, suspect=1, attempt=2)]


# -- step_back ------------------------------------------------------------------------------------


def _step_back(fault: FaultContext[Any]) -> RecoveryHandler:
    return fault.step_back(Keeper, lambda: Keeper("fresh"))


def test_step_back_goes_back_over_losses_of_the_process(starts: Starts) -> None:
    """B-81: newest, each older one, fresh, escalate; the count survives the loss of the process.

    Of 1, 2, 3, 4 the last three are kept; each start is lost before it saves.
    """
    saved(starts.again(), 1, 2, 3, 4)
    desk.answer = _step_back
    for expected in (4, 3, 2, "fresh"):
        assert value(create(starts.again())) == expected
        assert desk.made == [expected]
    for _ in range(2):
        bench = starts.again()
        with pytest.raises(ComponentCreateError, match="escalated"):
            bench.system.create(Keeper, name="a")
        assert desk.made == []
    desk.answer = go_on
    assert value(create(starts.again())) == 4  # still there


def test_step_back_goes_on_from_where_faults_had_got_to(starts: Starts) -> None:
    """B-81: in one process 3, then by a fault 2; the next process therefore 1."""
    saved(starts.again(), 1, 2, 3)
    desk.answer = _step_back
    bench = starts.again()
    ref = create(bench)
    assert value(ref) == 3
    ref.tell(boom)
    bench.event(ComponentRecovered, 2)
    assert value(ref) == 2
    assert value(create(starts.again())) == 1


def test_step_back_begins_anew_after_a_newer_save(starts: Starts) -> None:
    """S-27: what is saved after `on_start` is newer, is trusted, and handed out first."""
    saved(starts.again(), 1, 2)
    desk.answer = _step_back
    create(starts.again())
    bench = starts.again()
    ref = create(bench)
    assert value(ref) == 1
    save(ref, "newer")
    bench.system.flush()
    assert value(create(starts.again())) == "newer"
    assert [seen.suspect for seen in desk.seen] == [0]


def test_step_back_begins_anew_after_thirty_seconds(virtual: Starts) -> None:
    """S-27: 30 s of running prove the one that was restored; the newest is tried again."""
    saved(virtual.again(), 1, 2)
    desk.answer = _step_back
    create(virtual.again())
    bench = virtual.again()
    assert value(create(bench)) == 1
    bench.pass_time(31.0)
    assert value(create(virtual.again())) == 2


def test_step_back_is_not_moved_by_orderly_ends(starts: Starts) -> None:
    """S-26: SHUTDOWN is no fault: the newest each time."""
    bench = starts.again()
    saved(bench, 1, 2)
    bench.system.shutdown()
    desk.answer = _step_back
    for _ in range(4):
        bench = starts.again()
        assert value(create(bench)) == 2
        assert [seen.kind for seen in desk.seen] == [SHUTDOWN]
        bench.system.shutdown()


# -- the folder -----------------------------------------------------------------------------------


def _after_loss(folder: Path, copy: Path) -> Path:
    """The folder as a process leaves it that is lost now: the bytes, but nobody's lock."""
    shutil.copytree(folder, copy)
    return copy


def _segment_with(folder: Path, marker: bytes) -> tuple[Path, int]:
    """The segment that holds `marker`, and where."""
    for path in sorted(folder.glob("snapshots-*.log")):
        at = path.read_bytes().rfind(marker)
        if at >= 0:
            return path, at
    raise AssertionError(f"{marker!r} is in none of {list(folder.iterdir())}")


def test_a_damaged_newest_snapshot_gives_way_to_the_one_before(tmp_path: Path) -> None:
    """B-77: recovery uses the previous generation, says so, and keeps the bad bytes aside."""
    folder = tmp_path / "state"
    with TestSystem(store=folder) as system:
        ref = system.create(Keeper, name="a", start=True)
        for state in ("good-old-one", "good-one", "doomed-one"):
            save(ref, state)
            system.flush()
        lost = _after_loss(folder, tmp_path / "lost")
    segment, at = _segment_with(lost, b"doomed-one")
    data = bytearray(segment.read_bytes())
    data[at + 2] ^= 0x01
    segment.write_bytes(data)
    segment.chmod(0o600)
    with TestSystem(store=lost) as system:
        assert value(system.create(Keeper, name="a", start=True)) == "good-one"
        assert [seen.snapshot for seen in desk.seen] == ["good-one"]
        assert desk.faults[0].older_snapshots == ("good-old-one",)
        damages = system.events.of(SnapshotDamaged)
        assert {event.file for event in damages} == {segment.name}
        assert not any(event.torn for event in damages)
    (kept,) = (lost / "damaged").iterdir()
    assert bytes(data[at : at + 10]) in kept.read_bytes()
    with TestSystem(store=lost) as system:
        assert value(system.create(Keeper, name="a", start=True)) == "good-one"


def test_a_snapshot_that_cannot_be_decoded_does_not_get_lost() -> None:
    """RELIABILITY: found before decoding; what only decoding shows is an error of the recovery:
    the fallback, and the snapshot stays.
    """
    store = MemoryStore()
    entry = Snapshot(Mark("a", 1, 1), f"{__name__}:recover", b"\x80\x05no pickle", time.time())
    store.save([entry])
    with TestSystem(store=store) as system:
        with pytest.raises(ComponentCreateError):
            system.create(Keeper, name="a")
        (applied,) = system.events.of(FallbackApplied)
        assert applied.recovery_error == "SnapshotError"
    (kept,) = store.load("a")
    assert kept.data == entry.data
    assert kept.mark.status is Status.UNFINISHED


def test_a_second_writer_of_a_folder_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    """B-82: who has it is said; the first is not disturbed; then it is free."""
    with TestSystem(store=tmp_path / "state") as system:
        with pytest.raises(StoreLockedError, match=str(os.getpid())):
            TestSystem(store=tmp_path / "state")
        save(system.create(Keeper, name="a", start=True), "first")
    with TestSystem(store=tmp_path / "state") as system:
        assert value(system.create(Keeper, name="a", start=True)) == "first"


def test_each_worker_has_its_own_folder_and_finds_it_again(tmp_path: Path) -> None:
    """B-82, S-29: `{worker}` takes the lowest free number: 0 and 1, and after the end of both
    again in the order of the starts.
    """
    for start in range(2):
        workers = [TestSystem(store=tmp_path / "state" / "{worker}") for _ in range(2)]
        for number, worker in enumerate(workers):
            ref = worker.create(Keeper, name="a", start=True)
            assert value(ref) == ("new" if start == 0 else f"of {number}")
            save(ref, f"of {number}")
        for worker in workers:
            worker.shutdown()
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["0", "1"]


# -- real programs --------------------------------------------------------------------------------

PROGRAM = """\
import json, os, signal, sys, threading
from kompyct import Component, ComponentSystem, RestartLimit

def say(*what):
    os.write(1, json.dumps(what).encode() + b"\\n")

class Counter(Component):
    def __init__(self, count=0):
        self.count = count

    def on_start(self):
        say("started", self.count)

    def on_receive(self, message):
        self.count += 1
        self.set_recovery_function(recover, snapshot={"count": self.count}, durability=LEVEL)
        say("saved", self.count)

def recover(fault):
    say("recover", fault.kind.value, fault.snapshot["count"], fault.suspect, fault.attempt)
    if "die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    count = fault.snapshot["count"]
    return fault.restart(lambda: Counter(count))

LEVEL = "memory" if "memory" in sys.argv else "durable"

def main():
    system = ComponentSystem(backend=os.environ["BACKEND"], store=sys.argv[1])
    ref = system.create(Counter, name="counter", start=True)
    for command in sys.argv[2:]:
        if command.isdigit():
            for _ in range(int(command)):
                ref.tell("count")
            ref.ask("count")  # at the end of the queue
        elif command == "for-ever":
            while True:
                ref.ask("count")
        elif command == "flush":
            system.flush()
            say("flushed")
        elif command == "wait":
            say("waiting")
            threading.Event().wait()
        elif command == "kill-myself":
            os.kill(os.getpid(), signal.SIGKILL)
        elif command == "run":
            threading.Timer(0.01, lambda: say("running")).start()
            system.run()
        elif command == "with":
            with system:
                pass
        elif command == "shutdown":
            system.shutdown()
        elif command == "kill":
            system.kill(ref).result(5)

if __name__ == "__main__":
    main()
"""


class Program:
    """A program in a file of its own, started again and again on one folder."""

    def __init__(self, folder: Path, backend: str, *, package: bool = False) -> None:
        self.store = folder / "state"
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), "BACKEND": backend}
        self._folder = folder
        self._command = [sys.executable, str(folder / "program.py")]
        if package:
            (folder / "package").mkdir()
            (folder / "package" / "__init__.py").write_text("")
            (folder / "package" / "__main__.py").write_text(PROGRAM)
            self._command = [sys.executable, "-m", "package"]
        else:
            (folder / "program.py").write_text(PROGRAM)

    def start(self, *commands: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._command, str(self.store), *commands],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *commands: str) -> tuple[int, list[list[Any]]]:
        """Run to the end: the exit code, and what it said."""
        return self.end(self.start(*commands))

    def end(self, process: subprocess.Popen[bytes]) -> tuple[int, list[list[Any]]]:
        out, error = process.communicate(timeout=30)
        assert b"Traceback" not in error, error.decode()
        return process.returncode, [json.loads(line) for line in out.splitlines()]


def until_it_says(process: subprocess.Popen[bytes], word: str) -> list[list[Any]]:
    """Read what it says until that."""
    assert process.stdout is not None
    said: list[list[Any]] = []
    while not said or said[-1][0] != word:
        line = process.stdout.readline()
        assert line, f"ended before it said {word}: {said}, {process.communicate()[1]!r}"
        said.append(json.loads(line))
    return said


@pytest.fixture(params=["thread", "pool"])
def real_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def program(tmp_path: Path, real_backend: str) -> Program:
    return Program(tmp_path, real_backend)


@pytest.mark.parametrize("package", [False, True])
def test_a_killed_program_goes_on_from_its_last_durable_save(
    tmp_path: Path, real_backend: str, package: bool
) -> None:
    """B-83, as `python program.py` and `python -m package`: 4 messages, SIGKILL, and the next
    start has PROCESS_LOST with 4, and counts on: 5.
    """
    program = Program(tmp_path, real_backend, package=package)
    code, said = program.run("3", "kill-myself")
    assert code == -signal.SIGKILL
    assert said[-1] == ["saved", 4]
    code, said = program.run("0", "shutdown")
    assert code == 0
    assert said == [["recover", "process_lost", 4, 0, 1], ["started", 4], ["saved", 5]]
    code, said = program.run("kill")
    assert code == 0
    assert said[0] == ["recover", "shutdown", 5, 0, 1]
    _, said = program.run("0", "shutdown")
    assert said == [["started", 0], ["saved", 1]]  # the factory's: what was killed is over


def test_saves_behind_are_kept_once_they_are_flushed(program: Program) -> None:
    """S-24: acknowledged by `flush()`: SIGKILL right after it loses nothing."""
    program.run("memory", "9", "flush", "kill-myself")
    _, said = program.run("kill-myself")
    assert said[0] == ["recover", "process_lost", 10, 0, 1]


@pytest.mark.parametrize("way", ["with", "shutdown", "run"])
def test_orderly_ends_of_programs(program: Program, way: str) -> None:
    """S-26: `with`, `shutdown()`, and SIGTERM under `system.run()`: marked clean: SHUTDOWN."""
    process = program.start("2", way)
    if way == "run":
        until_it_says(process, "running")
        deadline = time.monotonic() + LIMIT
        while not _catches_sigterm(process.pid):
            assert time.monotonic() < deadline
            threading.Event().wait(0.005)
        process.terminate()
    code, _ = program.end(process)
    assert code == 0
    _, said = program.run("kill-myself")
    assert said[0] == ["recover", "shutdown", 3, 0, 1]
    # Handed out, and lost before anything newer was saved:
    _, said = program.run("kill-myself")
    assert said[0] == ["recover", "process_lost", 3, 1, 2]


def _catches_sigterm(pid: int) -> bool:
    text = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in text.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_function_that_kills_the_process_is_counted(program: Program) -> None:
    """S-27: the mark is durable before the function runs: 4 starts that die in it see 0, 1, 2, 3,
    so a snapshot that segfaults cannot boot-loop the program unseen.
    """
    program.run("2", "kill-myself")
    for start in range(4):
        code, said = program.run("die")
        assert code == -signal.SIGKILL
        assert said == [["recover", "process_lost", 3, start, start + 1]]
    _, said = program.run("0", "kill-myself")
    assert said[0] == ["recover", "process_lost", 3, 4, 5]
    _, said = program.run("kill-myself")
    assert said[0] == ["recover", "process_lost", 4, 0, 1]  # a newer one was saved


def test_killed_at_random_moments_nothing_acknowledged_is_lost(program: Program) -> None:
    """B-83, RELIABILITY: next start: last acknowledged. What was said to be saved durably is
    there; at most the one save that was under way is there as well.
    """
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    acknowledged = 0
    for start in range(6):
        process = program.start("for-ever")
        said = until_it_says(process, "saved")
        threading.Event().wait(chance.uniform(0.0, 0.05))
        process.kill()
        _, more = program.end(process)
        said += more
        if start:
            assert said[0][:2] == ["recover", "process_lost"]
            found = said[0][2]
            assert found in (acknowledged, acknowledged + 1), f"seed {seed}"
        acknowledged = max(what[1] for what in said if what[0] == "saved")


def test_the_lock_of_a_dead_process_is_free_at_once(program: Program) -> None:
    """B-82: while the program lives its folder is taken; killed, it is free at once."""
    process = program.start("0", "wait")
    until_it_says(process, "waiting")
    with pytest.raises(StoreLockedError, match=str(process.pid)):
        DirectoryStore(program.store)
    process.kill()
    process.communicate()
    store = DirectoryStore(program.store)
    assert store.load("counter")[0].mark.status is Status.UNFINISHED
    store.close()


def test_real_workers_find_their_own_folders_again(tmp_path: Path) -> None:
    """B-82, S-29: two processes at once have `0` and `1`; after SIGKILL of both, a new one has
    the lowest free again, and goes on from there.
    """
    program = Program(tmp_path, "thread")
    program.store = tmp_path / "state-{worker}"
    first = program.start("1", "wait")
    until_it_says(first, "waiting")
    second = program.start("4", "wait")
    until_it_says(second, "waiting")
    for process in (second, first):
        process.kill()
        process.communicate()
    third = program.start("wait")
    said = until_it_says(third, "waiting")
    fourth = program.start("wait")
    said += until_it_says(fourth, "waiting")
    for process in (third, fourth):
        process.kill()
        process.communicate()
    found = [what[2] for what in said if what[0] == "recover"]
    assert found == [2, 5]


def test_events_of_a_claim_are_those_of_a_recovery() -> None:
    """B-89: one event for the fault, one for the recovery, none for anything else."""
    first = TestSystem(store=(store := MemoryStore()))
    save(first.create(Keeper, name="a", start=True), 1)
    first.flush()
    lost = store.crashed()
    first.shutdown()
    events = EventRecorder()
    with ComponentSystem(store=lost, on_event=events) as system:
        system.create(Keeper, name="a")
        events.wait_for(ComponentRecovered)
        kinds = [type(event) for event in events]
    assert kinds.count(ComponentFaulted) == 1
    assert kinds.count(ComponentRecovered) == 1
    assert set(kinds) == {ComponentFaulted, ComponentRecovered}
