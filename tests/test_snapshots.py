"""Which snapshot does a recovery see, and what does it know about it?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from kompyct import (
    Component,
    ComponentRef,
    FaultContext,
    RecoveryHandler,
    Request,
    RestartLimit,
)
from kompyct.codecs import decode, encode
from kompyct.errors import IncarnationEndedError, SnapshotError
from kompyct.events import ComponentEnded, ComponentRecovered, FallbackApplied
from tests.conftest import LIMIT, Bench

BUDGET = RestartLimit(100, 10.0)  # so that it does not end what these tests watch


@dataclass(frozen=True)
class Call(Request[Any]):
    """Ask for `action(component)`."""

    action: Callable[[Any], Any]


class Seen(NamedTuple):
    """What a recovery function saw of its snapshot."""

    snapshot: Any
    has_snapshot: bool
    older: tuple[Any, ...]
    suspect: int
    attempt: int
    saved_in_hand: bool


class Watch:
    """A recovery function that notes what it sees, and restarts."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.ages: list[float | None] = []

    def __call__(self, fault: FaultContext[Any]) -> RecoveryHandler:
        self.ages.append(fault.snapshot_age)
        self.seen.append(
            Seen(
                fault.snapshot,
                fault.has_snapshot,
                fault.older_snapshots,
                fault.suspect,
                fault.attempt,
                fault.saved_in_hand,
            )
        )
        return fault.restart()


class Saver(Component[Any]):
    """Calls what it is sent; `on_each_start(self)` at its start."""

    def __init__(self, on_each_start: Callable[[Any], object] | None = None) -> None:
        self.on_each_start = on_each_start

    def on_start(self) -> None:
        if self.on_each_start is not None:
            self.on_each_start(self)

    def on_receive(self, message: Any) -> Any:
        return message.action(self) if isinstance(message, Call) else message(self)


def started(
    bench: Bench, on_each_start: Callable[[Any], object] | None = None
) -> ComponentRef[Any]:
    ref = bench.system.create(lambda: Saver(on_each_start), budget=BUDGET)
    bench.system.start(ref).result(LIMIT)
    return ref


def boom(component: Any) -> None:
    raise ValueError("boom")


def save(watch: Callable[[FaultContext[Any]], RecoveryHandler], value: Any) -> Call:
    return Call(lambda component: component.set_recovery_function(watch, snapshot=value))


def fault(bench: Bench, ref: ComponentRef[Any], action: Callable[[Any], Any] = boom) -> None:
    """Have `ref` run `action`, which faults, and wait for the recovery."""
    recovered = len(bench.events.of(ComponentRecovered))
    ref.tell(action)
    bench.event(ComponentRecovered, recovered + 1)


# -- which value -------------------------------------------------------------------------------


def test_recovery_sees_the_state_of_the_last_registration(bench: Bench) -> None:
    """B-19's rule, with `snapshot=`: the last call wins."""
    watch = Watch()
    ref = started(bench)
    ref.ask(save(watch, 1))
    ref.ask(save(watch, 2))
    fault(bench, ref)
    assert watch.seen[0].snapshot == 2


def test_a_snapshot_is_the_value_as_it_was_at_the_call(bench: Bench) -> None:
    """B-20: Given a state object mutated after registration, recovery sees it as registered."""
    watch = Watch()
    ref = started(bench)

    def save_and_change(component: Any) -> None:
        state = {"count": [1, 2]}
        component.set_recovery_function(watch, snapshot=state)
        state["count"].append(3)
        state["more"] = []

    ref.ask(Call(save_and_change))
    fault(bench, ref)
    assert watch.seen[0].snapshot == {"count": [1, 2]}


def test_a_snapshot_from_outside_is_the_value_as_it_was_at_the_call(bench: Bench) -> None:
    """B-20, from outside: encoded on the caller's thread, at the call."""
    watch = Watch()
    ref = started(bench)
    state = [1]
    ref.set_recovery_function(watch, snapshot=state)
    state.append(2)
    fault(bench, ref)
    assert watch.seen[0].snapshot == [1]


def test_each_attempt_gets_a_newly_decoded_snapshot(bench: Bench) -> None:
    """S-09: the same snapshot, newly decoded for each attempt: what one attempt does to it, the
    next does not see; within one attempt it is one object.
    """
    seen: list[list[int]] = []

    def spoil(context: FaultContext[list[int]]) -> RecoveryHandler:
        assert context.snapshot is context.snapshot
        seen.append([*context.snapshot])
        context.snapshot.append(99)
        return context.restart()

    ref = started(bench)
    ref.ask(save(spoil, [1]))
    fault(bench, ref)
    fault(bench, ref)
    assert seen == [[1], [1]]


@pytest.mark.parametrize("value", [None, 0, "", (), {1: "one"}, {1.5, 2}, b"\0", [None]])
def test_a_snapshot_comes_back_with_its_types(bench: Bench, value: Any) -> None:
    """S-28: pickle at every level: integer keys stay integers; None is a value (S-09)."""
    watch = Watch()
    ref = started(bench)
    ref.ask(save(watch, value))
    fault(bench, ref)
    assert watch.seen[0].snapshot == value
    assert type(watch.seen[0].snapshot) is type(value)
    assert watch.seen[0].has_snapshot


def test_without_a_snapshot_there_is_none(bench: Bench) -> None:
    """S-09: `set_recovery_function(f)` means no snapshot, also after one with; nothing is old."""
    watch = Watch()
    ref = started(bench)
    ref.ask(save(watch, 1))
    ref.ask(Call(lambda component: component.set_recovery_function(watch)))
    fault(bench, ref)
    assert watch.seen[0] == Seen(None, False, (), 0, 1, False)
    assert watch.ages == [None]
    assert bench.event(ComponentRecovered).snapshot_age is None
    assert bench.event(ComponentRecovered).handled_since_snapshot is None


def test_what_cannot_be_pickled_is_refused_at_the_call(bench: Bench) -> None:
    """DESIGN: it is known to be storable: the caller gets the error, the one before stays."""
    watch = Watch()
    ref = started(bench)
    ref.ask(save(watch, "good"))

    def save_lock(component: Any) -> str:
        with pytest.raises(SnapshotError, match=r"lock.*save plain data") as raised:
            component.set_recovery_function(watch, snapshot=threading.Lock())
        return type(raised.value.__cause__).__name__

    assert ref.ask(Call(save_lock)) == "TypeError"
    with pytest.raises(SnapshotError):
        ref.set_recovery_function(watch, snapshot=threading.Lock())
    fault(bench, ref)
    assert watch.seen[0].snapshot == "good"


def test_what_only_cloudpickle_can_pickle_is_taken(bench: Bench) -> None:
    """`encode`: by pickle, or by cloudpickle where that cannot: a lambda."""
    watch = Watch()
    ref = started(bench)
    ref.ask(save(watch, lambda number: number + 1))
    fault(bench, ref)
    assert watch.seen[0].snapshot(1) == 2


class Brittle:
    """Can be pickled, but not be built again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


def _refuse() -> None:
    raise RuntimeError("not again")


def test_a_snapshot_that_cannot_be_decoded_is_an_error_of_the_recovery(bench: Bench) -> None:
    """`FaultContext.snapshot`: `SnapshotError`; unhandled, the fallback applies (B-24)."""
    causes: list[str] = []

    def look(context: FaultContext[Any]) -> RecoveryHandler:
        try:
            return context.restart(context.snapshot)
        except SnapshotError as error:
            causes.append(repr(error.__cause__))
            raise

    ref = started(bench)
    ref.ask(save(look, Brittle()))
    ref.tell(boom)
    assert bench.event(FallbackApplied).recovery_error == "SnapshotError"
    assert causes == ["RuntimeError('not again')"]
    bench.event(ComponentEnded)


def test_encode_and_decode_are_inverse() -> None:
    """S-28: protocol 5; decoding makes a new copy at each call."""
    value = {"a": [1, 2.5, None], 3: {True}}
    data = encode(value)
    assert data[:2] == b"\x80\x05"
    first, second = decode(data), decode(data)
    assert first == second == value
    assert first is not second


def test_bytes_that_are_no_pickle_are_a_snapshot_error() -> None:
    """`decode`: one error class whatever pickle raises."""
    for data in (b"", b"\x80\x05", b"not a pickle", encode([1])[:-3]):
        with pytest.raises(SnapshotError, match=f"snapshot of {len(data)} bytes"):
            decode(data)


# -- who owns it, and for how long -------------------------------------------------------------


def test_function_and_snapshot_stay_until_they_are_replaced(bench: Bench) -> None:
    """S-09: they belong to the component, so a replacement that registers nothing is recovered
    by the same function with the same snapshot; `attempt` counts.
    """
    watch = Watch()
    ref = started(bench)
    ref.ask(save(watch, "once"))
    for _ in range(3):
        fault(bench, ref)
    assert [seen.snapshot for seen in watch.seen] == ["once"] * 3
    assert [seen.attempt for seen in watch.seen] == [1, 2, 3]


def test_a_replacement_that_cannot_start_is_recovered_with_the_same_snapshot(
    bench: Bench,
) -> None:
    """S-09: it faults before it registers anew: twice in `on_start`, then it starts."""
    watch = Watch()

    def fail_twice(component: Any) -> None:
        if component.ref.incarnation == 1:
            component.set_recovery_function(watch, snapshot="kept")
        elif component.ref.incarnation < 4:
            raise ValueError("not yet")

    ref = started(bench, fail_twice)
    fault(bench, ref)
    assert [seen.snapshot for seen in watch.seen] == ["kept"] * 3
    assert [seen.attempt for seen in watch.seen] == [1, 2, 3]
    assert [seen.suspect for seen in watch.seen] == [0, 1, 2]
    assert ref.incarnation == 4


def test_a_second_recovery_sees_the_newer_state(bench: Bench) -> None:
    """B-21's rule: new state registered after a recovery is what the next one sees."""
    watch = Watch()
    ref = started(bench)
    ref.ask(save(watch, "old"))
    fault(bench, ref)
    ref.ask(save(watch, "new"))
    fault(bench, ref)
    assert [seen.snapshot for seen in watch.seen] == ["old", "new"]
    assert watch.seen[1].attempt == 1


def test_calls_from_inside_and_outside_are_in_the_order_of_the_mailbox(bench: Bench) -> None:
    """S-09: ordered by the cell; the last wins."""
    watch = Watch()
    ref = started(bench)
    ref.ask(save(watch, "inside"))
    ref.set_recovery_function(watch, snapshot="outside")
    fault(bench, ref)
    ref.set_recovery_function(watch, snapshot="outside")
    ref.ask(save(watch, "inside"))
    fault(bench, ref)
    assert [seen.snapshot for seen in watch.seen] == ["outside", "inside"]


def test_a_function_from_outside_serves_a_component_that_has_not_started(bench: Bench) -> None:
    """Scope 4: `set_recovery_function` from outside, before the start."""
    watch = Watch()
    ref = bench.system.create(Saver)
    ref.set_recovery_function(watch, snapshot="early")
    bench.system.start(ref).result(LIMIT)
    fault(bench, ref)
    assert watch.seen[0].snapshot == "early"


# -- when a save takes effect ------------------------------------------------------------------


def test_a_save_takes_effect_at_the_call_and_is_kept_if_the_handler_then_faults(
    bench: Bench,
) -> None:
    """B-80: Given an explicit save and a fault in the same handler, the save is kept, and the
    fault says so (S-10).
    """
    watch = Watch()
    ref = started(bench)

    def save_and_fault(component: Any) -> None:
        component.set_recovery_function(watch, snapshot="half way")
        raise ValueError("boom")

    ref.ask(save(watch, "before"))
    fault(bench, ref, save_and_fault)
    assert watch.seen[0] == Seen("half way", True, ("before",), 0, 1, True)


def test_a_save_of_an_earlier_message_is_not_in_hand(bench: Bench) -> None:
    """S-10: `saved_in_hand` only for the very handler that then faulted. Also when both messages
    came in one chunk.
    """
    watch = Watch()
    ref = bench.system.create(Saver, budget=BUDGET)
    ref.tell(save(watch, "whole"))
    ref.tell(boom)
    bench.system.start(ref)
    bench.event(ComponentRecovered)
    assert not watch.seen[0].saved_in_hand
    assert bench.event(ComponentRecovered).handled_since_snapshot == 1


def test_a_save_in_on_start_that_then_faults_is_in_hand(bench: Bench) -> None:
    """S-10: for a hook as for a message; a save in `on_start` and a fault in the first message
    is not.
    """
    watch = Watch()

    def save_then_fail(component: Any) -> None:
        component.set_recovery_function(watch, snapshot=component.ref.incarnation)
        if component.ref.incarnation == 1:
            raise ValueError("boom")

    ref = bench.system.create(lambda: Saver(save_then_fail), budget=BUDGET, start=True)
    bench.event(ComponentRecovered)
    assert watch.seen[0].saved_in_hand
    fault(bench, ref)
    assert not watch.seen[1].saved_in_hand


def test_a_save_in_a_tick_that_then_faults_is_in_hand(bench: Bench) -> None:
    """S-10: for a timer's action as for a message; not for the tick after."""
    watch = Watch()

    def schedule(component: Any) -> None:
        incarnation = component.ref.incarnation

        def save_only() -> None:
            component.set_recovery_function(watch, snapshot="saved")

        def save_and_fault() -> None:
            save_only()
            raise ValueError("boom")

        if incarnation == 1:
            component.schedule_once(0.0, save_and_fault)
        elif incarnation == 2:
            component.schedule_once(0.0, save_only)
            component.schedule_once(0.002, lambda: boom(component))

    started(bench, schedule)
    bench.event(ComponentRecovered, 2)
    assert [seen.saved_in_hand for seen in watch.seen] == [True, False]


def test_a_save_from_outside_while_a_handler_runs_is_not_in_hand(bench: Bench) -> None:
    """S-10: `saved_in_hand` means saved by the very handler that then faulted, so that the
    function may step back; a save by somebody else does not speak for it.
    """
    watch = Watch()
    ref = started(bench)

    def saved_by_another(component: Any) -> None:
        saver = threading.Thread(
            target=lambda: ref.set_recovery_function(watch, snapshot="outside")
        )
        saver.start()
        saver.join(LIMIT)
        raise ValueError("boom")

    fault(bench, ref, saved_by_another)
    assert watch.seen[0].snapshot == "outside"
    assert not watch.seen[0].saved_in_hand


def test_an_ended_incarnation_saves_nothing(bench: Bench) -> None:
    """S-06: a late call raises `IncarnationEndedError` and changes nothing."""
    watch = Watch()
    ref = started(bench)
    old = ref.ask(Call(lambda component: component))
    ref.ask(save(watch, "true"))
    fault(bench, ref)
    with pytest.raises(IncarnationEndedError):
        old.set_recovery_function(watch, snapshot="late")
    fault(bench, ref)
    assert watch.seen[1].snapshot == "true"


# -- how old -----------------------------------------------------------------------------------


def test_the_age_of_a_snapshot_is_the_time_from_save_to_fault(bench: Bench) -> None:
    """Scope 4, `snapshot_age`: exact in virtual time, at least that in real time; the same in
    the report.
    """
    watch = Watch()
    ref = started(bench)
    ref.ask(save(watch, 1))
    bench.pass_time(0.02)
    fault(bench, ref)
    (age,) = watch.ages
    assert age is not None
    if bench.manual:
        assert age == 0.02
    else:
        assert 0.02 <= age < LIMIT
    assert bench.event(ComponentRecovered).snapshot_age == age


def test_the_report_counts_what_was_handled_since_the_save(bench: Bench) -> None:
    """DESIGN: messages handled since it, the one in hand included: 500 and the fault."""
    watch = Watch()
    ref = bench.system.create(Saver, budget=BUDGET)
    ref.tell(save(watch, 1))
    for _ in range(500):
        ref.tell(lambda component: None)
    ref.tell(boom)
    bench.system.start(ref)
    assert bench.event(ComponentRecovered).handled_since_snapshot == 501


# -- generations -------------------------------------------------------------------------------


def test_the_two_snapshots_before_the_last_are_kept(bench: Bench) -> None:
    """Rules, defaults: generations 3: the newest and two older, newest first."""
    watch = Watch()
    ref = started(bench)
    for value in (1, 2, 3, 4):
        ref.ask(save(watch, value))
    fault(bench, ref)
    assert (watch.seen[0].snapshot, watch.seen[0].older) == (4, (3, 2))


def test_the_same_state_saved_again_is_no_new_generation(bench: Bench) -> None:
    """Otherwise a component that saves each second would push the useful ones out."""
    watch = Watch()
    ref = started(bench)
    for value in (1, 2, 3, 3, 3, 3):
        ref.ask(save(watch, value))
    fault(bench, ref)
    assert (watch.seen[0].snapshot, watch.seen[0].older) == (3, (2, 1))


def test_older_snapshots_outlive_a_recovery(bench: Bench) -> None:
    """S-09: the history belongs to the component; also when the replacement saves in `on_start`
    what it was given.
    """
    watch = Watch()

    def save_again(component: Any) -> None:
        if component.ref.incarnation > 1:
            component.set_recovery_function(watch, snapshot=3)

    ref = started(bench, save_again)
    for value in (1, 2, 3):
        ref.ask(save(watch, value))
    for _ in range(3):
        fault(bench, ref)
    assert [(seen.snapshot, seen.older) for seen in watch.seen] == [(3, (2, 1))] * 3


def test_stepping_back_leaves_what_is_older_still(bench: Bench) -> None:
    """A function that steps back one generation per fault reaches each once, then none is left:
    3, then 2 (older: 1), then 1 (older: none).
    """
    seen: list[tuple[int, tuple[int, ...]]] = []

    class Stepper(Saver):
        def __init__(self, value: int | None = None) -> None:
            self.value = value
            super().__init__()

        def on_start(self) -> None:
            if self.value is not None:
                self.set_recovery_function(step_back, snapshot=self.value)

    def step_back(context: FaultContext[int]) -> RecoveryHandler:
        seen.append((context.snapshot, context.older_snapshots))
        if not context.older_snapshots:
            return context.restart()
        value = context.older_snapshots[0]
        return context.restart(lambda: Stepper(value))

    ref = bench.system.create(Stepper, budget=BUDGET)
    bench.system.start(ref).result(LIMIT)
    for value in (1, 2, 3):
        ref.ask(save(step_back, value))
    for _ in range(3):
        fault(bench, ref)
    assert seen == [(3, (2, 1)), (2, (1,)), (1, ())]


def test_each_generation_is_encoded_at_its_call_and_decoded_anew(bench: Bench) -> None:
    """B-20, S-09, for older snapshots as for the last one."""
    seen: list[tuple[list[int], ...]] = []

    def spoil(context: FaultContext[list[int]]) -> RecoveryHandler:
        seen.append(tuple([*older] for older in context.older_snapshots))
        for older in context.older_snapshots:
            older.append(99)
        return context.restart()

    ref = started(bench)

    def save_all(component: Any) -> None:
        state: list[int] = []
        for number in (1, 2, 3):
            state.append(number)
            component.set_recovery_function(spoil, snapshot=state)

    ref.ask(Call(save_all))
    fault(bench, ref)
    fault(bench, ref)
    assert seen == [([1, 2], [1])] * 2


# -- suspect -----------------------------------------------------------------------------------


def suspects(watch: Watch) -> list[int]:
    return [seen.suspect for seen in watch.seen]


def test_a_snapshot_is_not_suspect_at_its_first_fault(bench: Bench) -> None:
    """DESIGN: `suspect` counts faults since this snapshot was restored: 0, then 1, 2, 3."""
    watch = Watch()
    ref = started(bench)
    ref.ask(save(watch, 1))
    for _ in range(4):
        fault(bench, ref)
    assert suspects(watch) == [0, 1, 2, 3]


def test_a_newer_snapshot_is_not_suspect(bench: Bench) -> None:
    """S-27: the count is cleared by the first newer save after `on_start`."""
    watch = Watch()
    ref = started(bench)
    ref.ask(save(watch, 1))
    fault(bench, ref)
    fault(bench, ref)
    ref.ask(save(watch, 2))
    fault(bench, ref)
    fault(bench, ref)
    assert suspects(watch) == [0, 1, 0, 1]


def test_saving_the_same_state_again_does_not_clear_suspicion(bench: Bench) -> None:
    """S-27: a save whose bytes equal the restored ones is not newer."""
    watch = Watch()
    ref = started(bench)
    ref.ask(save(watch, 1))
    for _ in range(3):
        fault(bench, ref)
        ref.ask(save(watch, 1))
    fault(bench, ref)
    assert suspects(watch) == [0, 1, 2, 3]


def test_saving_in_on_start_does_not_clear_suspicion(bench: Bench) -> None:
    """S-27: a save made during `on_start` is not newer, whatever its bytes."""
    watch = Watch()

    def save_incarnation(component: Any) -> None:
        component.set_recovery_function(watch, snapshot=component.ref.incarnation)

    ref = started(bench, save_incarnation)
    for _ in range(4):
        fault(bench, ref)
    assert suspects(watch) == [0, 1, 2, 3]
    assert [seen.snapshot for seen in watch.seen] == [1, 2, 3, 4]


def test_a_newer_save_after_on_start_clears_suspicion_for_good(bench: Bench) -> None:
    """S-27: also when `on_start` saved before it; the next fault finds a count of 0."""
    watch = Watch()

    def save_same(component: Any) -> None:
        component.set_recovery_function(watch, snapshot="start")

    ref = started(bench, save_same)
    fault(bench, ref)
    fault(bench, ref)
    ref.ask(save(watch, "newer"))
    fault(bench, ref)
    assert suspects(watch) == [0, 1, 0]


def test_a_snapshot_stepped_back_to_and_saved_again_stays_suspect(bench: Bench) -> None:
    """S-27: a save whose bytes equal the restored ones is not newer, where the restored ones are
    those of an older snapshot that the function chose, and that `on_start` saved: the component
    has made no step from there.
    """
    suspicions: list[int] = []

    def step_back(context: FaultContext[str]) -> RecoveryHandler:
        suspicions.append(context.suspect)
        return context.restart()

    def save_old(component: Any) -> None:
        if component.ref.incarnation > 1:
            component.set_recovery_function(step_back, snapshot="old")

    ref = started(bench, save_old)
    ref.ask(save(step_back, "old"))
    ref.ask(save(step_back, "new"))
    fault(bench, ref)
    for _ in range(3):
        ref.ask(save(step_back, "old"))
        fault(bench, ref)
    assert suspicions[0] == 0
    assert all(suspicion > 0 for suspicion in suspicions[1:])


def test_half_a_minute_of_running_clears_suspicion() -> None:
    """S-27: after 30 s of running; not after 29.9 s. In virtual time."""
    bench = Bench("manual")
    watch = Watch()
    with bench.system:
        ref = started(bench)
        ref.ask(save(watch, 1))
        fault(bench, ref)
        bench.pass_time(29.9)
        fault(bench, ref)
        bench.pass_time(30.0)
        fault(bench, ref)
        fault(bench, ref)
    assert suspects(watch) == [0, 1, 0, 1]


def test_restarts_that_fail_after_a_long_run_make_a_snapshot_suspect() -> None:
    """S-27: only the incarnation that ran 30 s clears the count: replacements that fault in
    `on_start` right after it have not run at all, so they count 1, 2, 3.
    """
    bench = Bench("manual")
    watch = Watch()
    healthy = [True]

    def maybe_fail(component: Any) -> None:
        if not healthy[0] and component.ref.incarnation < 6:
            raise ValueError("cannot start from this")

    with bench.system:
        ref = started(bench, maybe_fail)
        ref.ask(save(watch, 1))
        fault(bench, ref)
        bench.pass_time(40.0)
        healthy[0] = False
        fault(bench, ref)
    assert suspects(watch) == [0, 0, 1, 2, 3]


def test_the_report_tells_attempt_and_suspicion(bench: Bench) -> None:
    """DESIGN: every recovery is reported; the numbers are those of the fault."""
    watch = Watch()
    ref = started(bench)
    ref.ask(save(watch, 1))
    fault(bench, ref)
    fault(bench, ref)
    reports = bench.events.of(ComponentRecovered)
    assert [(report.attempt, report.suspect) for report in reports] == [(1, 0), (2, 1)]
