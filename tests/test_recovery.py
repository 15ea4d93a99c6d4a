"""What recovery functions see and may answer: B-18 to B-29, S-06 to S-12, the recovery report."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

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
    events,
)
from kompyct.errors import (
    ArgumentTypeError,
    ComponentDestroyedError,
    ComponentFaultError,
    DuplicateNameError,
    IncarnationEndedError,
    RestartingError,
    SnapshotError,
    SystemShutdownError,
)
from kompyct.testing import hang
from tests.conftest import LIMIT, Bench

MakeBench = Callable[..., Bench]
Function = Callable[[FaultContext[Any]], Any]
REAL = pytest.mark.parametrize("backend", ["thread", "pool"])  # where something can block
SHORT = 0.1  # seconds: a recovery deadline that is to be missed in real time


@dataclass(frozen=True)
class Get(Request[Any]):
    """Answered with the state."""


@dataclass(frozen=True)
class Fail(Request[None]):
    """Raises ValueError."""


class Holder(Component[Any]):
    """Holds a state; a callable message is called with the component."""

    def __init__(self, state: Any = "default", function: Function | None = None) -> None:
        self.state = state
        if function is not None:
            self.set_recovery_function(function)

    def on_receive(self, message: Any) -> object:
        if isinstance(message, Get):
            return self.state
        if isinstance(message, Fail):
            raise ValueError("fail")
        if callable(message):
            return message(self)
        self.state = message
        return None


class Other(Component[Any]):
    """Of a different type."""

    def on_receive(self, message: Any) -> object:
        return "other"


def started(bench: Bench, factory: Callable[[], Component[Any]] = Holder, **options: Any) -> Any:
    """A ref of a component that has started."""
    ref = bench.system.create(factory, **options)
    bench.system.start(ref).result(LIMIT)
    return ref


def recovering(bench: Bench, function: Function, **options: Any) -> Any:
    """A ref of a started holder that every incarnation of gives `function` for its recovery."""
    return started(bench, lambda: Holder("default", function), **options)


def get(ref: Any) -> Any:
    """The state."""
    return ref.ask(Get(), timeout=LIMIT)


def save(state: Any, function: Function) -> Callable[[Component[Any]], None]:
    """A message that saves `state`."""
    return lambda component: component.set_recovery_function(function, snapshot=state)


def from_snapshot(fault: FaultContext[Any]) -> RecoveryHandler:
    """Go on from the last snapshot."""
    return fault.restart(lambda: Holder(fault.snapshot))


def ended(bench: Bench, ref: Any) -> events.ComponentEnded:
    """Wait for the end of the component; returns its event."""
    bench.until(lambda: not ref.is_alive)
    bench.until(lambda: any(e.path == ref.path for e in bench.events.of(events.ComponentEnded)))
    return next(e for e in bench.events.of(events.ComponentEnded) if e.path == ref.path)


# -- what is registered ----------------------------------------------------------------------


def test_without_a_recovery_function_nothing_is_recreated(bench: Bench) -> None:
    """B-18: Given no recovery function, a fault ends the component and a warning names it."""
    ref = started(bench, name="plain")
    ref.tell(Fail())
    assert "no recovery function" in ended(bench, ref).reason
    warning = bench.event(events.NoRecoveryFunction)
    assert (warning.path, warning.error) == ("plain", "ValueError")
    assert warning.level == 30  # logging.WARNING
    assert "'plain'" in str(warning)
    assert ref.incarnation == 1
    assert bench.events.of(events.ComponentRecovered) == []


def test_the_last_registration_counts(bench: Bench) -> None:
    """B-19: Given two calls with states 1 and 2, recovery sees state 2."""
    ref = started(bench)
    ref.tell(save(1, from_snapshot))
    ref.tell(save(2, from_snapshot))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert get(ref) == 2


def test_the_last_closure_counts(bench: Bench) -> None:
    """B-19: The same in Kompact's form, a closure over plain values, without `snapshot=`."""

    def register(component: Component[Any], count: int) -> None:
        component.set_recovery_function(lambda fault: fault.restart(lambda: Holder(count)))

    ref = started(bench)
    ref.tell(partial(register, count=1))
    ref.tell(partial(register, count=2))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert get(ref) == 2


def test_recovery_sees_the_state_as_at_registration(bench: Bench) -> None:
    """B-20: Given a state object mutated after registration, recovery sees it as it was."""
    state = {"items": [1, 2]}
    ref = started(bench)
    ref.tell(save(state, from_snapshot))

    def mutate_and_fail(component: Component[Any]) -> None:
        state["items"].append(3)
        raise ValueError("fail")

    ref.tell(mutate_and_fail)
    bench.event(events.ComponentRecovered)
    assert get(ref) == {"items": [1, 2]}
    assert state == {"items": [1, 2, 3]}


def test_a_second_recovery_sees_the_newer_state(bench: Bench) -> None:
    """B-21: Given fault, recovery, new state registered, second fault, the second recovery sees
    the newer state, not the first fault's."""
    ref = started(bench)
    ref.tell(save("old", from_snapshot))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    ref.tell(save("new", from_snapshot))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered, 2)
    assert get(ref) == "new"


def test_function_and_snapshot_outlive_the_incarnation(bench: Bench) -> None:
    """S-09: A replacement that faults before it registers anew is recovered by the same function
    with the same snapshot, decoded anew each time; `attempt` counts."""
    seen: list[tuple[int, Any]] = []

    def recover(fault: FaultContext[list[int]]) -> RecoveryHandler:
        seen.append((fault.attempt, list(fault.snapshot)))
        fault.snapshot.append(99)  # spoils this decoded value only
        return fault.restart(Holder)

    ref = started(bench)
    ref.tell(save([1], recover))
    for count in range(3):
        ref.tell(Fail())
        bench.event(events.ComponentRecovered, count + 1)
    assert seen == [(1, [1]), (2, [1]), (3, [1])]
    assert [e.attempt for e in bench.events.of(events.ComponentRecovered)] == [1, 2, 3]


def test_a_new_registration_counts_attempts_anew(bench: Bench) -> None:
    """S-09: `attempt` is of one registration; the same function registered again starts at 1."""
    seen: list[int] = []

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        seen.append(fault.attempt)
        return fault.restart()

    ref = started(bench)
    ref.tell(save(1, recover))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    ref.tell(save(2, recover))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered, 2)
    ref.tell(Fail())
    bench.event(events.ComponentRecovered, 3)
    assert seen == [1, 1, 2]


@pytest.mark.parametrize("inside", [True, False])
def test_no_snapshot_and_a_snapshot_of_none_differ(bench: Bench, inside: bool) -> None:
    """S-09: Without `snapshot=` there is none, even if there was one before; None is a value
    like any other."""
    seen: list[tuple[bool, Any, float | None, tuple[Any, ...]]] = []

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        age = fault.snapshot_age
        seen.append((fault.has_snapshot, fault.snapshot, age and 0.0, fault.older_snapshots))
        return fault.restart()

    def register(ref: Any, **options: Any) -> None:
        if inside:
            ref.tell(lambda component: component.set_recovery_function(recover, **options))
        else:
            ref.set_recovery_function(recover, **options)

    ref = started(bench)
    register(ref, snapshot=7)
    register(ref)
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    register(ref, snapshot=None)
    bench.pass_time(0.001)
    ref.tell(Fail())
    bench.event(events.ComponentRecovered, 2)
    assert seen == [(False, None, None, ()), (True, None, 0.0, ())]


def test_calls_from_inside_and_outside_are_ordered(bench: Bench) -> None:
    """S-09: Calls from inside and outside are ordered by the cell; the last wins."""
    ref = started(bench)
    ref.set_recovery_function(from_snapshot, snapshot="outside")
    ref.ask(Get(), timeout=LIMIT)
    ref.tell(save("inside", from_snapshot))
    ref.ask(Get(), timeout=LIMIT)
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert get(ref) == "inside"
    ref.set_recovery_function(from_snapshot, snapshot="outside again")
    ref.tell(Fail())
    bench.event(events.ComponentRecovered, 2)
    assert get(ref) == "outside again"


def test_a_registration_from_outside_while_a_handler_runs_counts(bench: Bench) -> None:
    """S-09: What is registered from outside before the fault is in force at the fault, though the
    component has not looked at its signals since."""

    def register_and_fail(component: Holder) -> None:
        component.set_recovery_function(from_snapshot, snapshot="inside")
        ref.set_recovery_function(from_snapshot, snapshot="outside")
        raise ValueError("fail")

    ref = started(bench)
    ref.tell(register_and_fail)
    bench.event(events.ComponentRecovered)
    assert get(ref) == "outside"


def test_a_registration_while_the_recovery_runs_is_for_the_next_fault(bench: Bench) -> None:
    """S-09: It replaces the one before, but the recovery that runs goes on as it began."""
    seen: list[Any] = []

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        seen.append(fault.snapshot)
        if len(seen) == 1:
            ref.set_recovery_function(recover, snapshot="second")
        return fault.restart()

    ref = started(bench)
    ref.set_recovery_function(recover, snapshot="first")
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    ref.tell(Fail())
    bench.event(events.ComponentRecovered, 2)
    assert seen == ["first", "second"]


def test_registering_for_a_dead_component_raises(bench: Bench) -> None:
    """CONVENTIONS 11: wrong use raises at once."""
    ref = started(bench, name="gone")
    bench.system.kill(ref).result(LIMIT)
    with pytest.raises(ComponentDestroyedError, match="'gone'"):
        ref.set_recovery_function(from_snapshot)


@pytest.mark.parametrize("function", [None, 7, "module:function"])
def test_a_recovery_function_must_be_callable(bench: Bench, function: Any) -> None:
    """CONVENTIONS 11: the error names the value, inside and outside; the component goes on."""
    ref = started(bench)
    with pytest.raises(ArgumentTypeError, match="recovery function"):
        ref.set_recovery_function(function)

    def register(component: Component[Any]) -> str:
        with pytest.raises(ArgumentTypeError, match="recovery function"):
            component.set_recovery_function(function)
        return "refused"

    assert ref.ask(register, timeout=LIMIT) == "refused"


# -- snapshots -------------------------------------------------------------------------------


class Unpicklable:
    """Cannot be encoded."""

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")


class Undecodable:
    """Can be encoded, but not decoded."""

    def __reduce__(self) -> Any:
        return _explode, ()


def _explode() -> None:
    raise RuntimeError("no decoding")


def test_a_snapshot_that_cannot_be_encoded_leaves_the_last_good_one(bench: Bench) -> None:
    """S-24, B-78: The caller gets `SnapshotError` at the call; the one before stays."""
    ref = started(bench)
    ref.tell(save("good", from_snapshot))

    def try_to_save(component: Component[Any]) -> str:
        with pytest.raises(SnapshotError, match="Unpicklable"):
            component.set_recovery_function(from_snapshot, snapshot=Unpicklable())
        return "refused"

    assert ref.ask(try_to_save, timeout=LIMIT) == "refused"
    with pytest.raises(SnapshotError, match="Unpicklable"):
        ref.set_recovery_function(from_snapshot, snapshot=Unpicklable())
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert get(ref) == "good"


def test_a_snapshot_that_cannot_be_decoded_raises_when_it_is_looked_at(bench: Bench) -> None:
    """S-12: `fault.snapshot` is decoded on first use: a function that does not look recovers, and
    one that does can step back to an older one (S-10)."""
    caught: list[BaseException | None] = []

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        with pytest.raises(SnapshotError) as error:
            _ = fault.snapshot
        caught.append(error.value.__cause__)
        older = fault.older_snapshots[0]
        return fault.restart(lambda: Holder(older))

    ref = started(bench)
    ref.tell(save("older", recover))
    ref.tell(save(Undecodable(), recover))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert get(ref) == "older"
    assert isinstance(caught[0], RuntimeError)


@pytest.mark.parametrize("kind", ["lambda", "local class", "closure"])
def test_what_pickle_cannot_take_cloudpickle_does(bench: Bench, kind: str) -> None:
    """DESIGN, "The public surface": snapshots that pickle refuses go by cloudpickle: functions
    and objects of local classes, by value."""
    factor = 3

    class Local:
        def __init__(self) -> None:
            self.number = 21

        def doubled(self) -> int:
            return 2 * self.number

    snapshot: Any = {
        "lambda": lambda: 42,
        "local class": Local(),
        "closure": lambda: 14 * factor,
    }[kind]
    ref = started(bench)
    ref.tell(save(snapshot, from_snapshot))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    restored = get(ref)
    assert restored is not snapshot
    assert (restored.doubled() if kind == "local class" else restored()) == 42


def test_a_snapshot_may_hold_refs(bench: Bench) -> None:
    """S-17, DESIGN: a ref in a snapshot names the same component after a recovery."""
    friend = started(bench, Other)
    ref = started(bench)
    ref.tell(save({"friend": friend, "self": ref}, from_snapshot))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    restored = get(ref)
    assert restored == {"friend": friend, "self": ref}
    assert restored["friend"].ask(Get(), timeout=LIMIT) == "other"


def test_a_snapshot_survives_the_end_of_a_component_it_names(bench: Bench) -> None:
    """S-17: Given a snapshot that holds the ref of a component which has ended since, it can still
    be decoded; that ref is of an unknown target: an ask fails at once, a tell is a dead letter."""
    friend = started(bench, Other, name="friend")
    ref = started(bench)
    ref.tell(save({"friend": friend, "count": 7}, from_snapshot))
    get(ref)
    bench.system.kill(friend).result(LIMIT)
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    restored = get(ref)
    assert restored["count"] == 7
    assert not restored["friend"].is_alive
    with pytest.raises(ComponentDestroyedError, match="'friend'"):
        restored["friend"].ask(Get(), timeout=LIMIT)
    restored["friend"].tell(1)
    assert bench.event(events.DeadLetters).path == "friend"


def test_older_snapshots_are_kept_newest_first(bench: Bench) -> None:
    """Defaults: three generations: of five saves the last and two older ones are left."""
    seen: list[tuple[Any, tuple[Any, ...]]] = []

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        seen.append((fault.snapshot, fault.older_snapshots))
        return fault.restart()

    ref = started(bench)
    for number in range(5):
        ref.tell(save(number, recover))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert seen == [(4, (3, 2))]


# -- closures over the component -------------------------------------------------------------


def restart_of(component: Component[Any], fault: FaultContext[Any]) -> RecoveryHandler:
    """A function that wants the component."""
    return fault.restart()


class Closing(Component[Any]):
    """Registers functions that refer to the component in several ways; answers with warnings."""

    def __init__(self) -> None:
        self.count = 1

    def recover(self, fault: FaultContext[Any]) -> RecoveryHandler:
        """Bound to the component."""
        return fault.restart()

    def on_receive(self, message: Any) -> list[warnings.WarningMessage]:
        count = self.count

        def with_default(
            fault: FaultContext[Any], component: Component[Any] = self
        ) -> RecoveryHandler:
            return restart_of(component, fault)

        functions: dict[str, Function] = {
            "method": self.recover,
            "closure": lambda fault: self.recover(fault),
            "partial": partial(self.recover),
            "partial argument": partial(restart_of, self),
            "default": with_default,
            "plain": lambda fault: fault.restart(lambda: Holder(count)),
            "module": from_snapshot,
        }
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.set_recovery_function(functions[message])
        return caught


@pytest.mark.parametrize(
    ("how", "warned"),
    [
        ("method", True),
        ("closure", True),
        ("partial", True),
        ("partial argument", True),
        ("default", True),
        ("plain", False),
        ("module", False),
    ],
)
def test_a_function_that_closes_over_the_component_is_warned_of(
    bench: Bench, how: str, warned: bool
) -> None:
    """DESIGN, "The public surface": a function that closes over the component gets a warning that
    says why, at the line of the call; one over plain values gets none."""
    caught = started(bench, Closing).ask(how, timeout=LIMIT)
    assert len(caught) == (1 if warned else 0)
    if warned:
        assert caught[0].filename == __file__
        assert "snapshot=" in str(caught[0].message)
        assert "faulted" in str(caught[0].message)


# -- the fault context -----------------------------------------------------------------------


def test_the_fault_context_tells_all(bench: Bench) -> None:
    """DESIGN, `FaultContext`: every field, of a second fault in a row, by hand: two tells wait
    behind the failing one, one ask is failed, the snapshot was saved one handler before."""
    faults: list[FaultContext[Any]] = []

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        faults.append(fault)
        return fault.restart()

    replies: list[Future[Any]] = []

    def flood(component: Holder) -> None:
        component.ref.tell(save("snapshot", recover))
        component.ref.tell(Fail())
        replies.append(component.ref.ask(Get(), block=False))
        component.ref.tell("one")
        component.ref.tell("two")

    ref = recovering(bench, recover, name="whole")
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    bench.pass_time(0.01)
    before = bench.system.clock.now() / 1e9
    ref.tell(flood)
    bench.event(events.ComponentRecovered, 2)
    after = bench.system.clock.now() / 1e9
    fault = faults[1]
    assert fault.component_id == bench.system.tree().children[0].component_id
    assert (fault.name, fault.path) == ("whole", "whole")
    assert fault.incarnation == 2
    assert fault.kind is FaultKind.EXCEPTION
    assert fault.phase is Phase.RECEIVE
    assert type(fault.exception) is ValueError
    assert fault.traceback.startswith("Traceback")
    assert 'raise ValueError("fail")' in fault.traceback
    assert "in on_receive" in fault.traceback
    assert "kompyct/" not in fault.traceback.replace("kompyct/tests", "")
    assert fault.message == Fail()
    assert fault.has_snapshot
    assert fault.snapshot == "snapshot"
    assert fault.snapshot_age is not None
    assert 0 <= fault.snapshot_age <= after - before
    assert not fault.saved_in_hand
    assert fault.older_snapshots == ()
    assert fault.suspect == 0
    assert fault.attempt == 1
    assert fault.pending == 2
    assert fault.restarts == 1
    assert fault.exit is None
    assert before <= fault.time <= after
    assert isinstance(replies[0].exception(LIMIT), RestartingError)
    assert get(ref) == "two"


def test_the_fault_context_cannot_be_changed(bench: Bench) -> None:
    """DESIGN: `FaultContext` is frozen."""
    faults: list[Any] = []

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        faults.append(fault)
        return fault.end()

    recovering(bench, recover).tell(Fail())
    bench.until(lambda: bool(faults))
    for name in ("attempt", "snapshot", "path", "invented"):
        with pytest.raises(AttributeError):
            setattr(faults[0], name, 1)


@pytest.mark.parametrize(
    ("place", "phase", "message"),
    [
        ("message", Phase.RECEIVE, Fail()),
        ("timer", Phase.TIMER, None),
        ("on_start", Phase.START, None),
        ("on_stop", Phase.STOP, None),
        ("on_kill", Phase.KILL, None),
        ("create", Phase.CREATE, None),
    ],
)
def test_phase_and_message_say_what_was_running(
    bench: Bench, place: str, phase: Phase, message: Any
) -> None:
    """DESIGN: `phase` of each kind; `message` is the one in hand, None outside `on_receive`."""
    faults: list[FaultContext[Any]] = []
    made: list[int] = []

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        faults.append(fault)
        return fault.restart()

    class Everywhere(Component[Any]):
        def __init__(self) -> None:
            made.append(1)
            self.set_recovery_function(recover)
            if place == "create" and len(made) == 2:
                raise ValueError("create")

        def fail(self, here: str) -> None:
            if place == here and len(made) == 1:
                raise ValueError(here)

        def on_start(self) -> None:
            self.fail("on_start")
            if place == "timer":
                self.schedule_once(0, lambda: self.fail("timer"))

        def on_stop(self) -> None:
            self.fail("on_stop")

        def on_kill(self) -> None:
            self.fail("on_kill")

        def on_receive(self, message: Any) -> None:
            if place in ("message", "create") and len(made) == 1:
                raise ValueError("message")

    ref = bench.system.create(Everywhere)
    bench.system.start(ref).exception(LIMIT)
    if place == "on_stop":
        bench.system.stop(ref).exception(LIMIT)
    elif place == "on_kill":
        bench.system.kill(ref).exception(LIMIT)
    else:
        ref.tell(Fail())
    count = 2 if place == "create" else 1
    bench.until(lambda: len(faults) == count)
    assert faults[-1].phase is phase
    assert faults[-1].message == message
    assert faults[-1].incarnation == count
    assert "fail" in faults[-1].location or "on_receive" in faults[-1].location or count == 2


def test_a_save_of_the_failing_handler_is_kept_and_told(bench: Bench) -> None:
    """S-10: A save takes effect at the call and is kept even if the same handler then faults;
    `saved_in_hand` says so, and `older_snapshots` lets the function step back."""
    seen: list[tuple[Any, bool, tuple[Any, ...]]] = []

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        seen.append((fault.snapshot, fault.saved_in_hand, fault.older_snapshots))
        return fault.restart()

    def save_and_fail(component: Component[Any]) -> None:
        component.set_recovery_function(recover, snapshot="in hand")
        raise ValueError("fail")

    ref = started(bench)
    ref.tell(save("before", recover))
    ref.tell(save_and_fail)
    bench.event(events.ComponentRecovered)
    ref.tell(Fail())  # the next handler saved nothing
    bench.event(events.ComponentRecovered, 2)
    assert seen == [("in hand", True, ("before",)), ("in hand", False, ("before",))]


def test_suspect_counts_faults_of_a_restored_snapshot(bench: Bench) -> None:
    """S-27: `suspect` counts the faults since the snapshot was restored with no newer one saved; a
    save of other bytes starts from 0, one of the same bytes does not."""
    seen: list[tuple[Any, int]] = []

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        seen.append((fault.snapshot, fault.suspect))
        return fault.restart(lambda: Holder(fault.snapshot))

    def fail(count: int) -> None:
        ref.tell(Fail())
        bench.event(events.ComponentRecovered, count)

    ref = started(bench)
    ref.tell(save("a", recover))
    fail(1)
    fail(2)
    ref.tell(save("a", recover))  # nothing newer
    fail(3)
    ref.tell(save("b", recover))
    fail(4)
    fail(5)
    assert seen == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]


def test_saves_during_on_start_leave_a_snapshot_suspect(bench: Bench) -> None:
    """S-27: A save made during `on_start` of the replacement is not newer, whatever its bytes."""
    seen: list[int] = []

    class Starting(Holder):
        def on_start(self) -> None:
            self.set_recovery_function(recover, snapshot=len(seen))

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        seen.append(fault.suspect)
        return fault.restart()

    ref = started(bench, Starting)
    for count in range(3):
        ref.tell(Fail())
        bench.event(events.ComponentRecovered, count + 1)
    assert seen == [0, 1, 2]


def test_a_snapshot_is_cleared_of_suspicion_after_probation() -> None:
    """S-27, Defaults: after 30 s of running a restored snapshot is not suspect any more."""
    bench = Bench("manual")
    seen: list[int] = []

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        seen.append(fault.suspect)
        return fault.restart()

    ref = started(bench)
    ref.tell(save("a", recover))
    for seconds in (0, 29.0, 30.0, 1.0):
        bench.pass_time(seconds)
        ref.tell(Fail())
        bench.settle()
    bench.system.shutdown()
    assert seen == [0, 1, 0, 1]


# -- the handlers ----------------------------------------------------------------------------


def test_restart_takes_the_factory_of_create(bench: Bench) -> None:
    """B-22: Given `restart()`, the new instance starts from defaults, as `create` made it."""
    ref = recovering(bench, lambda fault: fault.restart())
    ref.tell("changed")
    assert get(ref) == "changed"
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert get(ref) == "default"
    assert ref.incarnation == 2


def test_restart_with_a_factory_goes_on_from_saved_state(bench: Bench) -> None:
    """B-22: Given one that restarts with saved state, it starts from that; the next `restart()`
    without a factory makes what `create` made."""
    answers: list[Function] = [from_snapshot, lambda fault: fault.restart()]
    ref = started(bench, lambda: Holder("default", None))
    ref.tell(save("saved", lambda fault: answers.pop(0)(fault)))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert get(ref) == "saved"
    ref.tell(Fail())
    bench.event(events.ComponentRecovered, 2)
    assert get(ref) == "default"


def test_restart_default_is_kompacts_name(bench: Bench) -> None:
    """B-22: `restart_default(cls)` is Kompact's name for `restart(cls)`."""
    ref = started(bench, lambda: Holder("made", lambda fault: fault.restart_default(Holder)))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert get(ref) == "default"


def test_a_handler_may_build_another_type(bench: Bench) -> None:
    """B-23: Given a handler that builds a different component type, that component runs and
    receives messages at the same ref and name."""
    ref = recovering(bench, lambda fault: fault.restart(Other), name="same")
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert ref.ask(Get(), timeout=LIMIT) == "other"
    assert bench.system.find("same") == ref


def test_recover_with_a_different_component_ends_the_first(bench: Bench) -> None:
    """B-23, S-11: `recover_with(action)` without an answer: the component ends, and what the
    action created runs; the action gets fault, system and log."""
    seen: list[Any] = []

    def action(fault: FaultContext[Any], system: ComponentSystem, log: Any) -> None:
        seen.extend((fault.path, system is bench.system, log.name))
        system.create(Other, name="successor", start=True)

    ref = recovering(bench, lambda fault: fault.recover_with(action), name="first")
    ref.tell(Fail())
    assert ended(bench, ref).reason == "ValueError, ended by its recovery"
    successor = bench.system.find("successor")
    assert successor is not None
    assert successor.ask(Get(), timeout=LIMIT) == "other"
    assert seen == ["first", True, "kompyct.component.first"]
    assert bench.system.find("first") is None


def test_recover_with_may_reuse_the_name(bench: Bench) -> None:
    """S-11: The component ends before what the action created is registered, so that it may reuse
    the name; the old ref never reaches the new component (S-17)."""

    def action(fault: FaultContext[Any], system: ComponentSystem, log: Any) -> None:
        system.create(Other, name="same", start=True)

    ref = recovering(bench, lambda fault: fault.recover_with(action), name="same")
    ref.tell(Fail())
    ended(bench, ref)
    successor = bench.system.find("same")
    assert successor is not None
    assert successor != ref
    assert successor.ask(Get(), timeout=LIMIT) == "other"
    with pytest.raises(ComponentDestroyedError):
        ref.ask(Get(), timeout=LIMIT)
    assert [node.path for node in bench.system.tree().children] == ["same"]


def test_while_the_action_runs_the_component_holds_name_and_mailbox(bench: Bench) -> None:
    """S-11: `recover_with(action)` runs while the cell still holds name and mailbox: others cannot
    take the name, and a tell sent meanwhile reaches the replacement."""
    seen: list[Any] = []

    def action(fault: FaultContext[Any], system: ComponentSystem, log: Any) -> RecoveryHandler:
        seen.append(system.find("held") == ref)
        ref.tell("meanwhile")
        return fault.restart(Holder)

    ref = recovering(bench, lambda fault: fault.recover_with(action), name="held")
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert get(ref) == "meanwhile"
    assert seen == [True]


@pytest.mark.parametrize("answer", ["end", "ignore"])
def test_recover_with_may_answer_with_another_handler(bench: Bench, answer: str) -> None:
    """S-11: The action may return another handler, and one more action."""

    def second(fault: FaultContext[Any], system: ComponentSystem, log: Any) -> RecoveryHandler:
        handler: RecoveryHandler = getattr(fault, answer)()
        return handler

    def first(fault: FaultContext[Any], system: ComponentSystem, log: Any) -> RecoveryHandler:
        return fault.recover_with(second)

    ref = recovering(bench, lambda fault: fault.recover_with(first))
    ref.tell(Fail())
    ended(bench, ref)
    assert len(bench.events.of(events.FaultIgnored)) == (1 if answer == "ignore" else 0)


def test_an_action_that_supersedes_cannot_restart_as_well(bench: Bench) -> None:
    """S-11: Every handler ends in exactly one of three: an action that creates a component of the
    same name and then answers with a restart has answered wrongly; there is one of that name."""

    def action(fault: FaultContext[Any], system: ComponentSystem, log: Any) -> RecoveryHandler:
        system.create(Other, name="same", start=True)
        return fault.restart()

    ref = recovering(bench, lambda fault: fault.recover_with(action), name="same")
    ref.tell(Fail())
    ended(bench, ref)
    assert bench.event(events.FallbackApplied).recovery_error == "RecoveryFunctionError"
    assert [node.path for node in bench.system.tree().children] == ["same"]


@pytest.mark.parametrize("how", ["raises", "restarts"])
def test_an_action_that_supersedes_and_fails_leaves_one_of_that_name(
    bench: Bench, how: str
) -> None:
    """S-11, S-23: The same with `fallback="restart"`: names are unique, so the component whose
    name was taken over is not restarted beside its successor."""

    def action(fault: FaultContext[Any], system: ComponentSystem, log: Any) -> RecoveryHandler:
        system.create(Other, name="same", start=True)
        if how == "raises":
            raise RuntimeError("then this")
        return fault.restart()

    ref = recovering(
        bench, lambda fault: fault.recover_with(action), name="same", fallback="restart"
    )
    ref.tell(Fail())
    bench.event(events.FallbackApplied)
    ended(bench, ref)
    assert [node.path for node in bench.system.tree().children] == ["same"]
    successor = bench.system.find("same")
    assert successor is not None
    assert successor.ask(Get(), timeout=LIMIT) == "other"


def test_an_action_whose_creation_fails_keeps_the_name(bench: Bench) -> None:
    """S-11, S-13: A creation of the same name that raises leaves nothing: the component still has
    its name, and the action may answer with a restart."""

    def bad() -> Component[Any]:
        raise RuntimeError("no")

    def action(fault: FaultContext[Any], system: ComponentSystem, log: Any) -> RecoveryHandler:
        try:
            system.create(bad, name="same")
        except Exception:
            return fault.restart(Other)
        return fault.end()

    ref = recovering(bench, lambda fault: fault.recover_with(action), name="same")
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert bench.system.find("same") == ref
    assert ref.ask(Get(), timeout=LIMIT) == "other"


def test_ignore_ends_the_component_with_a_warning(bench: Bench) -> None:
    """S-11: `ignore()` is destroyed plus a warning."""
    ref = recovering(bench, lambda fault: fault.ignore(), name="ignored")
    ref.tell(Fail())
    assert "ignored" in ended(bench, ref).reason
    warning = bench.event(events.FaultIgnored)
    assert (warning.path, warning.error, warning.level) == ("ignored", "ValueError", 30)
    assert bench.system.find("ignored") is None


def test_end_ends_the_component_without_one(bench: Bench) -> None:
    """S-11: `end()` is the same without the warning; what waits becomes dead letters, asks sent
    before and after fail (B-67)."""
    replies: list[Future[Any]] = []

    def flood(component: Holder) -> None:
        component.ref.tell(Fail())
        component.ref.tell(1)
        component.ref.tell(2)
        replies.append(component.ref.ask(Get(), block=False))

    ref = recovering(bench, lambda fault: fault.end())
    ref.tell(flood)
    assert ended(bench, ref).reason == "ValueError, ended by its recovery"
    assert bench.event(events.DeadLetters).count == 2
    assert isinstance(replies[0].exception(LIMIT), RestartingError | ComponentDestroyedError)
    assert bench.events.of(events.FaultIgnored) == []
    with pytest.raises(ComponentDestroyedError, match="ended by its recovery"):
        ref.ask(Get())


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_escalate_stops_the_system_and_wait_raises_the_cause(
    make_bench: MakeBench, error: type[BaseException]
) -> None:
    """S-08: `escalate()` stops the system; the cause is raised by `wait()`: an `Exception` as
    itself, anything else as `ComponentFaultError` with the cause (S-16)."""
    bench = make_bench()
    cause = error("mine")

    def fail(component: Component[Any]) -> None:
        raise cause

    other = started(bench, Other)
    ref = recovering(bench, lambda fault: fault.escalate(), name="escalating")
    ref.tell(fail)
    if bench.manual and error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            bench.settle()
    with pytest.raises(ValueError if error is ValueError else ComponentFaultError) as caught:
        bench.system.wait(LIMIT)
    assert (caught.value if error is ValueError else caught.value.__cause__) is cause
    assert bench.event(events.Escalated).path == "escalating"
    assert not other.is_alive
    assert not ref.is_alive
    with pytest.raises(type(caught.value)):  # again, to everybody who waits
        bench.system.wait(LIMIT)


def test_leaving_with_raises_the_cause_of_an_escalation(make_bench: MakeBench) -> None:
    """S-08: The cause is raised by leaving `with` when no other exception is in flight."""
    bench = make_bench()

    def use() -> None:
        with bench.system:
            recovering(bench, lambda fault: fault.escalate()).tell(Fail())
            bench.event(events.Escalated)

    with pytest.raises(ValueError, match="fail"):
        use()


def test_another_exception_in_flight_is_not_replaced(make_bench: MakeBench) -> None:
    """S-08: The other half: an exception of the block comes out of it, whatever was escalated."""
    bench = make_bench()

    def use() -> None:
        with bench.system:
            recovering(bench, lambda fault: fault.escalate()).tell(Fail())
            bench.event(events.Escalated)
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        use()


def test_shutdown_does_not_raise_the_cause(make_bench: MakeBench) -> None:
    """S-08: It is raised by `wait()` and by leaving `with`, not by `shutdown()`."""
    bench = make_bench()
    recovering(bench, lambda fault: fault.escalate()).tell(Fail())
    bench.event(events.Escalated)
    bench.system.shutdown()
    with pytest.raises(ValueError, match="fail"):
        bench.system.wait(0)


def test_the_first_escalation_is_the_cause(make_bench: MakeBench) -> None:
    """S-08: Of two escalations the first is the cause."""
    bench = make_bench()

    def fail(component: Component[Any], text: str) -> None:
        raise ValueError(text)

    refs = [recovering(bench, lambda fault: fault.escalate()) for _ in range(2)]
    refs[0].tell(partial(fail, text="first"))
    bench.event(events.Escalated)
    refs[1].tell(partial(fail, text="second"))
    with pytest.raises(ValueError, match="first"):
        bench.system.wait(LIMIT)


# -- order and budget ------------------------------------------------------------------------


def test_function_then_handler_then_budget(bench: Bench) -> None:
    """S-07: The function is called and the action run before the budget is looked at; only a
    restart is charged, and one that would exceed the budget is not run."""
    calls: list[str] = []

    def action(fault: FaultContext[Any], system: ComponentSystem, log: Any) -> RecoveryHandler:
        calls.append("action")
        return fault.restart(make)

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        calls.append("function")
        return fault.recover_with(action)

    def make() -> Component[Any]:
        calls.append("factory")
        return Holder("new", recover)

    ref = recovering(bench, recover, budget=RestartLimit(1, 10.0))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert calls == ["function", "action", "factory"]
    ref.tell(Fail())
    ended(bench, ref)
    assert calls == ["function", "action", "factory", "function", "action"]


@pytest.mark.parametrize("answer", ["end", "ignore"])
def test_only_restarts_are_charged(bench: Bench, answer: str) -> None:
    """S-07: With a budget of 0 a function may still end or ignore, and no limit is reported."""
    ref = recovering(bench, lambda fault: getattr(fault, answer)(), budget=RestartLimit(0, 1.0))
    ref.tell(Fail())
    assert "limit" not in ended(bench, ref).reason
    assert bench.events.of(events.RestartLimitReached) == []


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_used_up_budget_ends_the_component_and_nobody_else(bench: Bench, limit: int) -> None:
    """S-08, B-45: After `limit` restarts the next fault ends the component with a reason that says
    so; queued asks fail, tells become dead letters, the name is free, and others go on."""
    neighbour = started(bench, Other)
    calls: list[int] = []

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        calls.append(fault.restarts)
        return fault.restart()

    ref = recovering(bench, recover, name="limited", budget=RestartLimit(limit, 60.0))
    for count in range(limit):
        ref.tell(Fail())
        bench.event(events.ComponentRecovered, count + 1)

    def flood(component: Holder) -> None:
        component.ref.tell(Fail())
        component.ref.tell(1)
        component.ref.tell(2)

    ref.tell(flood)
    end = ended(bench, ref)
    assert end.reason == f"restart limit of {limit} in 60 s reached, last by ValueError"
    assert (end.error, end.restarts) == ("ValueError", limit)
    reached = bench.event(events.RestartLimitReached)
    assert (reached.max_restarts, reached.within, reached.error) == (limit, 60.0, "ValueError")
    assert bench.event(events.DeadLetters).count == 2
    assert calls == list(range(limit + 1))
    with pytest.raises(ComponentDestroyedError, match="restart limit"):
        ref.ask(Get())
    assert bench.system.find("limited") is None
    assert neighbour.ask(Get(), timeout=LIMIT) == "other"
    started(bench, name="limited")


def test_a_component_that_faults_for_ever_ends(bench: Bench) -> None:
    """S-08, Defaults: 10 restarts in 10 s: a component that faults in every `on_start` ends with
    its eleventh fault, its start's waiter is told at the first, and each restart counted."""
    starts: list[int] = []

    class Hopeless(Component[Any]):
        def __init__(self) -> None:
            self.set_recovery_function(lambda fault: fault.restart())

        def on_start(self) -> None:
            starts.append(1)
            raise ValueError("always")

    ref = bench.system.create(Hopeless)
    with pytest.raises(ComponentFaultError):
        bench.system.start(ref).result(LIMIT)
    assert ended(bench, ref).restarts == 10
    assert len(starts) == 11
    assert ref.incarnation == 11
    assert len(bench.events.of(events.ComponentFaulted)) == 11
    assert len(bench.events.of(events.RestartFailed)) == 10
    assert bench.events.of(events.ComponentRecovered) == []


def test_faults_far_apart_never_use_up_the_budget() -> None:
    """S-08, B-44: A sliding window: 2 in 10 s, with a fault each 5.1 s, has at most 2 within 10 s
    and goes on for ever; one exactly 10 s ago still counts, as in OTP."""
    bench = Bench("manual")
    ref = recovering(bench, lambda fault: fault.restart(), budget=RestartLimit(2, 10.0))
    for _ in range(20):
        ref.tell(Fail())
        bench.pass_time(5.1)
    assert ref.incarnation == 21
    other = recovering(bench, lambda fault: fault.restart(), budget=RestartLimit(2, 10.0))
    for _ in range(3):
        other.tell(Fail())
        bench.pass_time(5.0)
    assert not other.is_alive
    bench.system.shutdown()


# -- recovery functions that do wrong --------------------------------------------------------

WRONG: dict[str, tuple[Function, str]] = {
    "nothing": (lambda fault: None, "RecoveryFunctionError"),
    "text": (lambda fault: "restart", "RecoveryFunctionError"),
    "a component": (lambda fault: Other(), "RecoveryFunctionError"),
    "a class": (lambda fault: RecoveryHandler, "RecoveryFunctionError"),
    "a bad factory": (lambda fault: fault.restart(7), "ArgumentTypeError"),  # type: ignore[arg-type]
    "a bad action": (lambda fault: fault.recover_with("x"), "ArgumentTypeError"),  # type: ignore[arg-type]
    "no argument": (lambda: None, "TypeError"),  # type: ignore[misc, dict-item]
    "action answers text": (
        lambda fault: fault.recover_with(lambda *_: "restart"),  # type: ignore[arg-type]
        "RecoveryFunctionError",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_answer_that_is_no_handler_has_the_fallback_applied(bench: Bench, what: str) -> None:
    """Issue, bad input: a recovery function that returns something else than a handler, and
    handlers made of wrong values, are an error of the right class at once: the fallback."""
    function, error = WRONG[what]
    ref = recovering(bench, function, name="wrong")
    ref.tell(Fail())
    ended(bench, ref)
    applied = bench.event(events.FallbackApplied)
    assert (applied.path, applied.error, applied.fallback) == ("wrong", "ValueError", "end")
    assert applied.recovery_error == error
    assert bench.events.of(events.RestartFailed) == []


class FrozenError(Exception):
    """Cannot be changed, as a frozen dataclass that is an exception cannot."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot assign to field {name!r}")


@pytest.mark.parametrize("where", ["function", "action"])
@pytest.mark.parametrize("error", [RuntimeError, SystemExit, GeneratorExit, FrozenError])
def test_a_recovery_that_raises_harms_nobody(
    bench: Bench, where: str, error: type[BaseException]
) -> None:
    """B-24: Given a recovery function (or handler) that raises, the supervisor survives, other
    children are unaffected, and the fallback is applied and logged (in Kompact it is not)."""

    def raising(*_: object) -> Any:
        raise error("in recovery")

    neighbour = started(bench, Other)
    function = raising if where == "function" else lambda fault: fault.recover_with(raising)
    ref = recovering(bench, function, name="raising")
    ref.tell(Fail())
    assert ended(bench, ref).reason == "ValueError, ended by its recovery"
    applied = bench.event(events.FallbackApplied)
    assert (applied.recovery_error, applied.fallback) == (error.__name__, "end")
    assert applied.level == 40  # logging.ERROR
    assert neighbour.ask(Get(), timeout=LIMIT) == "other"
    later = recovering(bench, lambda fault: fault.restart())
    later.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert later.ask(Get(), timeout=LIMIT) == "default"


def raising(fault: FaultContext[Any]) -> RecoveryHandler:
    """A recovery function that does not work."""
    raise RuntimeError("in recovery")


def test_the_fallback_may_be_a_restart(bench: Bench) -> None:
    """B-24: `fallback="restart"` makes the component anew as `create` did; it is charged."""
    ref = recovering(bench, raising, fallback="restart", budget=RestartLimit(1, 60.0))
    ref.tell(Fail())
    assert bench.event(events.ComponentRecovered).restarts_left == 0
    assert get(ref) == "default"
    ref.tell(Fail())
    assert "restart limit of 1" in ended(bench, ref).reason
    assert [e.fallback for e in bench.events.of(events.FallbackApplied)] == ["restart"] * 2


def test_the_fallback_may_be_to_escalate(make_bench: MakeBench) -> None:
    """B-24: `fallback="escalate"` stops the system, with the component's fault as the cause."""
    bench = make_bench()
    ref = recovering(bench, raising, fallback="escalate")
    ref.tell(Fail())
    with pytest.raises(ValueError, match="fail"):
        bench.system.wait(LIMIT)
    assert bench.event(events.FallbackApplied).fallback == "escalate"


class Hang:
    """Recoveries that never return: for good in virtual time, until `release` in real time."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.gate = threading.Event()
        self.entered = 0
        self.left = 0
        self._lock = threading.Lock()  # protects entered and left

    def __call__(self, *_: object) -> None:
        with self._lock:
            self.entered += 1
        if self.bench.manual:
            hang()
        self.gate.wait(4 * LIMIT)
        with self._lock:
            self.left += 1

    def release(self) -> None:
        """Let them all return, and wait until they have."""
        self.gate.set()
        if not self.bench.manual:
            self.bench.until(lambda: self.left == self.entered)


def hanging_bench(make_bench: MakeBench, backend: str) -> Bench:
    """A system whose recovery deadline is short in real time, and the default in virtual time."""
    return make_bench(recovery_deadline=5.0 if backend == "manual" else SHORT)


@pytest.mark.parametrize("where", ["function", "action"])
def test_a_recovery_that_hangs_is_abandoned(
    make_bench: MakeBench, backend: str, where: str
) -> None:
    """B-25: Given a recovery (function or handler) that never returns, after its deadline (5 s;
    here 0.1 s in real time) the fallback is applied, and faults meanwhile were served."""
    bench = hanging_bench(make_bench, backend)
    stuck = Hang(bench)

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        if where == "action":
            return fault.recover_with(lambda *_: stuck())
        stuck()
        return fault.restart()

    try:
        ref = recovering(bench, recover, name="hanging")
        other = recovering(bench, lambda fault: fault.restart())
        before = bench.system.clock.now()
        ref.tell(Fail())
        bench.until(lambda: stuck.entered == 1)
        other.tell(Fail())
        bench.event(events.ComponentRecovered)
        assert ref.state is State.FAULTY  # the other was served meanwhile
        assert get(other) == "default"
        end = ended(bench, ref)
        waited = (bench.system.clock.now() - before) / 1e9
        assert waited >= (5.0 if bench.manual else SHORT)
        assert end.reason == "ValueError, ended by its recovery"
        applied = bench.event(events.FallbackApplied)
        assert (applied.path, applied.recovery_error) == ("hanging", "RecoveryTimeoutError")
    finally:
        stuck.release()
    if not bench.manual:  # what comes back late is reported and changes nothing
        assert bench.event(events.LateAnswer).path == "hanging"
    assert bench.system.find("hanging") is None
    assert len(bench.events.of(events.ComponentRecovered)) == 1


def test_after_eight_abandoned_recoveries_no_more_user_code_is_run(
    make_bench: MakeBench, backend: str
) -> None:
    """S-12: At most 8 hung recoveries are abandoned; then the fallback applies without users'
    code. When they come back there is room again."""
    bench = hanging_bench(make_bench, backend)
    stuck = Hang(bench)

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        stuck()
        return fault.restart()

    try:
        refs = [recovering(bench, recover) for _ in range(8)]
        for ref in refs:
            ref.tell(Fail())
        for ref in refs:
            ended(bench, ref)
        assert stuck.entered == 8
        calls: list[int] = []

        def count(fault: FaultContext[Any]) -> RecoveryHandler:
            calls.append(1)
            return fault.restart()

        ninth = recovering(bench, count)
        ninth.tell(Fail())
        ended(bench, ninth)
        assert calls == []
        applied = bench.event(events.FallbackApplied, 9)
        assert applied.recovery_error == "RecoveryTimeoutError"
    finally:
        stuck.release()
    if not bench.manual:
        bench.event(events.LateAnswer, 8)
        later = recovering(bench, count)
        later.tell(Fail())
        bench.event(events.ComponentRecovered)
        assert calls == [1]


@REAL
def test_an_abandoned_action_cannot_take_the_name_of_the_living(make_bench: MakeBench) -> None:
    """S-06, S-11: Given an action that hung, was abandoned, and whose component was restarted by
    the fallback: what it does late changes nothing; the name belongs to the living component."""
    bench = make_bench(recovery_deadline=SHORT)
    gate = threading.Event()
    outcome: list[Any] = []

    def action(fault: FaultContext[Any], system: ComponentSystem, log: Any) -> None:
        gate.wait(4 * LIMIT)
        try:
            outcome.append(system.create(Other, name="same"))
        except DuplicateNameError as error:
            outcome.append(error)

    ref = recovering(
        bench, lambda fault: fault.recover_with(action), name="same", fallback="restart"
    )
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    gate.set()
    bench.until(lambda: bool(outcome))
    assert isinstance(outcome[0], DuplicateNameError)
    assert bench.system.find("same") == ref
    assert [node.path for node in bench.system.tree().children] == ["same"]
    bench.event(events.LateAnswer)


def test_an_action_may_wait_for_what_it_starts(bench: Bench) -> None:
    """B-26: Given a handler that waits for the start of what it starts, and asks it, there is no
    deadlock (in Kompact there is)."""
    seen: list[Any] = []

    def action(fault: FaultContext[Any], system: ComponentSystem, log: Any) -> RecoveryHandler:
        child = system.create(Other)
        system.start(child).result(LIMIT)
        seen.append((child.state, child.ask(Get(), timeout=LIMIT)))
        system.kill(child).result(LIMIT)
        return fault.restart(Holder)

    ref = recovering(bench, lambda fault: fault.recover_with(action))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert seen == [(State.ACTIVE, "other")]
    assert get(ref) == "default"


def test_a_recovery_function_may_wait_too(bench: Bench) -> None:
    """B-26, S-12: The same in the function, for many at once: none waits for another's thread."""

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        child = bench.system.create(Other)
        bench.system.start(child).result(LIMIT)
        state = child.ask(Get(), timeout=LIMIT)
        bench.system.kill(child)
        return fault.restart(lambda: Holder(state))

    refs = [recovering(bench, recover) for _ in range(12)]
    for ref in refs:
        ref.tell(Fail())
    bench.event(events.ComponentRecovered, 12)
    assert [get(ref) for ref in refs] == ["other"] * 12


def test_a_recovery_that_raises_ctrl_c_is_a_failed_recovery(bench: Bench) -> None:
    """B-24: `KeyboardInterrupt` in a recovery function has the fallback applied; on a thread of
    the test's own it is raised again (S-35)."""

    def interrupt(fault: FaultContext[Any]) -> RecoveryHandler:
        raise KeyboardInterrupt

    ref = recovering(bench, interrupt)
    ref.tell(Fail())
    if bench.manual:
        with pytest.raises(KeyboardInterrupt):
            bench.settle()
    ended(bench, ref)
    assert bench.event(events.FallbackApplied).recovery_error == "KeyboardInterrupt"


# -- shutdown and recovery -------------------------------------------------------------------


def test_a_fault_during_shutdown_is_not_recovered(make_bench: MakeBench) -> None:
    """B-27: Given a system shutdown in progress, a child's fault (here in `on_kill`) runs neither
    recovery function nor handler, and the shutdown completes."""
    bench = make_bench()
    calls: list[str] = []

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        calls.append("function")
        return fault.restart()

    class Last(Holder):
        def on_kill(self) -> None:
            victim.tell(Fail())
            raise ValueError("while ending")

    victim = recovering(bench, recover, name="victim")
    started(bench, lambda: Last("x", recover), name="last")
    before = bench.system.clock.now()
    bench.system.shutdown()
    assert bench.system.clock.now() - before < 4_000_000_000
    assert calls == []
    assert not victim.is_alive
    faulted = {event.path for event in bench.events.of(events.ComponentFaulted)}
    assert "last" in faulted
    assert bench.events.of(events.ComponentRecovered) == []
    assert bench.events.of(events.Abandoned) == []


@REAL
def test_a_recovery_under_way_is_dropped_by_a_shutdown(make_bench: MakeBench) -> None:
    """B-27: Given a recovery function that runs when the shutdown begins, its handler is not run
    and the shutdown does not wait for it."""
    bench = make_bench()
    inside = threading.Event()
    gate = threading.Event()
    calls: list[str] = []

    def action(fault: FaultContext[Any], system: ComponentSystem, log: Any) -> None:
        calls.append("action")

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        inside.set()
        gate.wait(LIMIT)
        return fault.recover_with(action)

    ref = recovering(bench, recover)
    ref.tell(Fail())
    assert inside.wait(LIMIT)
    thread = threading.Thread(target=bench.system.shutdown)
    thread.start()
    bench.until(lambda: not ref.is_alive)
    gate.set()
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert calls == []
    assert ref.incarnation == 1


def test_a_component_created_while_the_system_ends_is_stopped_at_once(
    make_bench: MakeBench,
) -> None:
    """B-28: Given a shutdown in progress, a component whose creation began before it is ended at
    once, whether its creator gets a ref or an error; no hook of it runs."""
    bench = make_bench()
    refs: list[ComponentRef[Any]] = []
    hooks: list[str] = []

    class Late(Component[Any]):
        def __init__(self) -> None:
            refs.append(self.ref)
            bench.system.shutdown()

        def on_start(self) -> None:
            hooks.append("start")

    with suppress(SystemShutdownError):
        refs.append(bench.system.create(Late, name="late", start=True))
    bench.until(lambda: not refs[-1].is_alive)
    assert not refs[0].is_alive
    assert bench.system.find("late") is None
    assert bench.system.tree().children == ()
    with pytest.raises(ComponentDestroyedError):
        refs[0].ask(Get(), timeout=0.2)
    assert hooks == []


def test_a_component_that_is_starting_when_the_system_ends_is_stopped(
    make_bench: MakeBench,
) -> None:
    """B-28: Given a shutdown that begins during a child's `on_start`, the child is ended as soon
    as it has started, with its `on_kill`; no message is handled in between."""
    bench = make_bench()
    notes: list[str] = []

    class Starting(Component[Any]):
        def on_start(self) -> None:
            self.ref.tell("message")
            self.system.shutdown()
            notes.append("start")

        def on_kill(self) -> None:
            notes.append("kill")

        def on_receive(self, message: Any) -> None:
            notes.append(message)

    ref = bench.system.create(Starting, start=True)
    bench.until(lambda: not ref.is_alive)
    bench.system.shutdown()
    assert notes[0] == "start"
    assert notes[-1] == "kill"
    assert len(notes) <= 3


@pytest.mark.parametrize("recovers", [True, False])
def test_the_last_child_may_fault_during_shutdown(make_bench: MakeBench, recovers: bool) -> None:
    """B-29: Given the last remaining child faults during shutdown, the shutdown completes, well
    before the child's 5 s are over."""
    bench = make_bench()

    class Last(Component[Any]):
        def on_start(self) -> None:
            if recovers:
                self.set_recovery_function(lambda fault: fault.restart())

        def on_kill(self) -> None:
            raise ValueError("last")

    ref = started(bench, Last)
    before = bench.system.clock.now()
    bench.system.shutdown()
    assert bench.system.clock.now() - before < 4_000_000_000
    assert not ref.is_alive
    assert bench.events.of(events.Abandoned) == []
    assert len(bench.events.of(events.ComponentFaulted)) == 1


# -- late threads ----------------------------------------------------------------------------


def test_a_late_save_of_an_ended_incarnation_changes_nothing(bench: Bench) -> None:
    """S-06: Given a thread that the faulted incarnation left behind, its save raises
    `IncarnationEndedError` (a `BaseException`) and the snapshot stays as it was."""
    objects: list[Component[Any]] = []

    class Leaving(Holder):
        def on_start(self) -> None:
            objects.append(self)

    ref = started(bench, Leaving)
    ref.tell(save("good", lambda fault: fault.restart(lambda: Leaving(fault.snapshot))))
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    errors: list[BaseException] = []

    def late() -> None:
        try:
            objects[0].set_recovery_function(lambda fault: fault.end(), snapshot="late")
        except Exception:
            errors.append(AssertionError("a broad except caught it"))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=late)
    thread.start()
    thread.join(LIMIT)
    assert [type(error) for error in errors] == [IncarnationEndedError]
    ref.tell(Fail())
    bench.event(events.ComponentRecovered, 2)
    assert get(ref) == "good"


# -- the recovery report ---------------------------------------------------------------------


def test_the_recovery_report_by_hand() -> None:
    """DESIGN, "Every recovery is reported", by hand in virtual time: saved at 1 s; two messages
    handled and a third faults at 3 s; two tells wait, one ask fails; the recovery takes 0.5 s
    (the function waits for another component's timer); budget 5, one used."""
    bench = Bench("manual")

    class Slow(Component[Any]):
        def on_start(self) -> None:
            self.schedule_once(0.5, lambda: done.append(1))

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        slow = bench.system.create(Slow)
        bench.system.start(slow)
        bench.until(lambda: bool(done))
        return fault.restart()

    def flood(component: Holder) -> None:
        component.ref.tell(Fail())
        component.ref.tell("one")
        component.ref.ask(Get(), block=False)
        component.ref.tell("two")

    done: list[int] = []
    ref = started(bench, name="reported", budget=RestartLimit(5, 60.0))
    bench.pass_time(1.0)
    ref.tell(save("x", recover))
    bench.pass_time(2.0)
    ref.tell("handled")
    ref.tell(flood)
    report = bench.event(events.ComponentRecovered)
    assert (report.path, report.incarnation) == ("reported", 2)
    assert (report.error, report.kind, report.phase) == ("ValueError", "exception", "receive")
    assert report.time == pytest.approx(3.5)
    assert report.snapshot_age == pytest.approx(2.0)
    assert report.handled_since_snapshot == 3  # "handled", the flood, and the one in hand
    assert (report.redelivered, report.failed, report.dropped) == (2, 1, 1)
    assert report.downtime == pytest.approx(0.5)
    assert (report.attempt, report.suspect) == (1, 0)
    assert (report.restarts, report.restarts_left) == (1, 4)
    bench.system.shutdown()


def test_one_report_for_each_recovery(bench: Bench) -> None:
    """DESIGN: one recovery report per recovery, also where two restarts failed on the way."""
    made: list[int] = []

    class Third(Holder):
        def __init__(self) -> None:
            made.append(1)
            super().__init__("third", lambda fault: fault.restart())

        def on_start(self) -> None:
            if len(made) in (2, 3):
                raise ValueError("not yet")

    ref = started(bench, Third)
    ref.tell(Fail())
    report = bench.event(events.ComponentRecovered)
    assert get(ref) == "third"
    assert (ref.incarnation, report.incarnation) == (4, 4)
    assert report.restarts == 3
    assert report.snapshot_age is None
    assert report.handled_since_snapshot is None
    assert len(bench.events.of(events.ComponentRecovered)) == 1
    assert len(bench.events.of(events.ComponentFaulted)) == 3
    assert len(bench.events.of(events.RestartFailed)) == 2


def test_a_start_asked_for_while_it_recovers_ends_with_the_recovery(bench: Bench) -> None:
    """B-03, B-04: Given a start of a component that recovers, the future completes when the
    replacement has started, and with an error if there is none."""
    futures: list[Future[None]] = []
    answers = ["restart", "end"]

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        futures.append(bench.system.start(ref))
        handler: RecoveryHandler = getattr(fault, answers.pop(0))()
        return handler

    ref = recovering(bench, recover)
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    futures[0].result(LIMIT)
    ref.tell(Fail())
    bench.until(lambda: len(futures) == 2)
    with pytest.raises(ComponentDestroyedError):
        futures[1].result(LIMIT)
