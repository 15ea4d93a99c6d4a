"""Does recovery hold over processes: B-12 to B-29, B-80, S-09 to S-14, and whatever the fault?"""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kompyct import (
    Component,
    FaultContext,
    FaultKind,
    Phase,
    RecoveryHandler,
    State,
    events,
)
from kompyct.backends.process import ProcessBackend
from kompyct.errors import (
    ComponentCreateError,
    ComponentDestroyedError,
    ComponentFaultError,
    ProcessExitError,
    ProcessStartError,
    RestartingError,
    SnapshotError,
    SystemShutdownError,
)
from tests.conftest import LIMIT
from tests.process import components
from tests.process.components import (
    FAULTS,
    Add,
    Do,
    Gate,
    Get,
    Holder,
    Mutable,
    Notes,
    again,
    from_snapshot,
)
from tests.process.conftest import ProcessBench, do, new_name

MakeGate = Callable[[], Gate]
ENDS = {
    "exception": Do(components.fail),
    "segfault": Do(components.segfault),
    "kill": Do(components.die, (signal.SIGKILL,)),
    "exit": Do(components.leave, (0,)),
}
"""Ways for an incarnation to end; the recovery function must not need to know which."""
whatever_happens = pytest.mark.parametrize("end", ENDS)


# -- fault classes ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [components.BenignProblem, KeyError])
def test_a_benign_error_is_no_fault(bench: ProcessBench, kind: type[Exception]) -> None:
    """B-12, S-14 (process): it is reported, and the same instance goes on; also what the class
    of the component declares benign, which is known in the child only."""
    ref = bench.started(1, recovery=again)
    do(ref, components.save, 2)
    ref.tell(Do(components.fail, (kind,)))
    assert ref.ask(Get()) == 2
    assert bench.event_of(events.BenignError, ref).error == kind.__qualname__
    assert ref.incarnation == 1
    assert ref.path not in FAULTS


def test_a_benign_error_in_an_ask_is_the_askers(bench: ProcessBench) -> None:
    """B-12, S-14 (process): it goes to the asker only, as itself."""
    ref = bench.started(1)
    with pytest.raises(components.BenignProblem, match="yours"):
        do(ref, components.fail, components.BenignProblem, "yours")
    assert ref.ask(Get()) == 1
    assert bench.events_of(events.BenignError, ref) == []


@pytest.mark.parametrize("hook", ["start", "stop", "kill"])
def test_a_benign_error_in_a_hook_is_no_fault(bench: ProcessBench, hook: str) -> None:
    """B-12 (process): from a hook as well; the component becomes what it was to become."""
    benign = partial(_raise_in_hook, components.BenignProblem)
    ref = bench.started(1, hooks={hook: benign})
    assert ref.ask(Get()) == 1
    bench.system.stop(ref).result(LIMIT)
    bench.system.start(ref).result(LIMIT)
    assert ref.ask(Get()) == 1
    bench.system.kill(ref).result(LIMIT)
    assert ref.state is State.DESTROYED
    assert bench.event_of(events.BenignError, ref).phase == hook
    assert ref.incarnation == 1


def _raise_in_hook(kind: type[BaseException], component: Any) -> None:
    raise kind("in a hook")


@pytest.mark.parametrize("kind", [components.UnrecoverableProblem, BufferError])
def test_an_unrecoverable_error_ends_the_component(
    bench: ProcessBench, kind: type[Exception]
) -> None:
    """B-13, S-14 (process): destroyed, and the recovery function is not called."""
    ref = bench.started(recovery=again)
    with pytest.raises(kind):
        do(ref, components.fail, kind)
    bench.ended(ref)
    assert ref.path not in FAULTS
    with pytest.raises(ComponentDestroyedError, match=f"unrecoverable {kind.__qualname__}"):
        ref.ask(Get())


def test_an_unrecoverable_error_in_a_start_releases_who_waits(bench: ProcessBench) -> None:
    """B-13 (process): start, stop and kill that are pending end with it."""
    hooks = {"start": partial(_raise_in_hook, components.UnrecoverableProblem)}
    ref = bench.system.create(partial(Holder, hooks=hooks))
    futures = [bench.system.start(ref), bench.system.stop(ref), bench.system.kill(ref)]
    with pytest.raises(ComponentFaultError):
        futures[0].result(LIMIT)
    for future in futures[1:]:
        future.exception(LIMIT)
    bench.ended(ref)


def _act_once(gate: Gate, action: Callable[[Any], object], component: Any) -> None:
    if not gate.is_open:
        gate.open()
        action(component)


def _kill_oneself(component: Any) -> None:
    components.die(component, signal.SIGKILL)


@pytest.mark.parametrize("action", [components.fail, _kill_oneself])
@pytest.mark.parametrize("phase", ["start", "stop", "receive", "timer"])
def test_a_fault_in_any_phase_calls_the_recovery_function_once(
    bench: ProcessBench, make_gate: MakeGate, phase: str, action: Callable[[Any], object]
) -> None:
    """B-14 (process): exactly once, with the phase, whether it raises or its process ends."""
    once = partial(_act_once, make_gate(), action)
    hooks: dict[str, Any] = {phase: once}
    if phase == "timer":
        hooks = {"start": partial(_schedule, once)}
    ref = bench.system.create(partial(Holder, recovery=again, hooks=hooks), name=new_name())
    start = bench.system.start(ref)
    if phase == "stop":
        start.result(LIMIT)
        with pytest.raises(ComponentFaultError, match="on_stop"):
            bench.system.stop(ref).result(LIMIT)
    elif phase == "receive":
        ref.tell(Do(once))
    bench.event_of(events.ComponentRecovered, ref)
    (fault,) = FAULTS[ref.path]
    assert fault.phase is Phase(phase)
    assert fault.message == (Do(once) if phase == "receive" else None)
    assert ref.incarnation == 2
    assert ref.state is (State.PASSIVE if phase == "stop" else State.ACTIVE)


def _schedule(action: Callable[[Any], object], component: Any) -> None:
    component.schedule_once(0.0, partial(action, component))


def test_a_fault_in_a_kill_calls_no_handler(bench: ProcessBench) -> None:
    """B-14 (process): phase kill; its answer "restart" is refused, for it is being killed."""
    ref = bench.started(recovery=again, hooks={"kill": components.fail})
    with pytest.raises(ComponentFaultError, match="on_kill"):
        bench.system.kill(ref).result(LIMIT)
    bench.ended(ref)
    assert [fault.phase for fault in FAULTS[ref.path]] == [Phase.KILL]
    assert bench.event_of(events.RestartRefused, ref)


def test_asker_and_supervision_see_the_exception(bench: ProcessBench) -> None:
    """B-15 (process): the asker gets it, with its type and text; the function is called."""
    ref = bench.started(recovery=again)
    with pytest.raises(ZeroDivisionError, match="by nothing"):
        do(ref, components.fail, ZeroDivisionError, "by nothing")
    fault = bench.fault(ref)
    assert isinstance(fault.exception, ZeroDivisionError)
    assert fault.kind is FaultKind.EXCEPTION
    assert "components.py" in fault.traceback
    assert "raise kind(*arguments)" in fault.traceback
    assert "in fail" in fault.location
    assert fault.exit is None


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_no_exception_ends_more_than_its_component(
    bench: ProcessBench, kind: type[BaseException]
) -> None:
    """B-16 (process): only that component faults; its sibling answers; the asker's own thread
    is not ended by it (S-16)."""
    sibling = bench.started(3)
    ref = bench.started(1, recovery=again)
    expected = kind if issubclass(kind, Exception) else ComponentFaultError
    with pytest.raises(expected) as caught:
        do(ref, components.fail, kind)
    if expected is ComponentFaultError:
        assert isinstance(caught.value.__cause__, kind)
    fault = bench.fault(ref)
    assert type(fault.exception) is kind
    assert fault.kind is FaultKind.EXCEPTION
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == 1
    assert sibling.ask(Get()) == 3
    assert sibling.incarnation == 1


def _recurse(component: Any) -> None:
    _recurse(component)


def test_a_real_recursion_error_is_a_fault_like_any_other(bench: ProcessBench) -> None:
    """B-16 (process), RELIABILITY: `RecursionError` included."""
    ref = bench.started(1, recovery=again)
    with pytest.raises(RecursionError):
        do(ref, _recurse)
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == 1


@whatever_happens
def test_a_faulty_instance_handles_nothing_more(
    bench: ProcessBench, notes: Notes, make_gate: MakeGate, end: str
) -> None:
    """B-17, B-65 (process): what is queued goes to the replacement, in order, once each."""
    reached, gate = make_gate(), make_gate()
    ref = bench.started("old", notes)
    do(ref, components.save, "new", partial(components.from_snapshot_noting, notes))
    ref.tell(Do(components.wait_noting, (reached, gate)))
    bench.until(lambda: reached.is_open)
    for number in range(50):
        ref.tell(Do(_note_state, (number,)))
    ref.tell(ENDS[end])
    for number in range(50, 100):
        ref.tell(Do(_note_state, (number,)))
    gate.open()
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == "new"
    assert notes.lines() == [
        "start",
        *(f"{number} 1" for number in range(50)),
        "start",
        *(f"{number} 2" for number in range(50, 100)),
    ]
    assert bench.fault(ref).message == ENDS[end]


def _note_state(component: Holder, number: int) -> None:
    component.note(f"{number} {component.ref.incarnation}")


# -- recovery functions ----------------------------------------------------------------------


@whatever_happens
def test_without_a_recovery_function_nothing_is_recreated(bench: ProcessBench, end: str) -> None:
    """B-18 (process): the component ends, and a warning names it."""
    ref = bench.started()
    ref.tell(ENDS[end])
    bench.ended(ref)
    assert bench.event_of(events.NoRecoveryFunction, ref)
    assert ref.incarnation == 1


@whatever_happens
def test_the_last_registration_counts(bench: ProcessBench, end: str) -> None:
    """B-19 (process): recovery sees the later of two states."""
    ref = bench.started()
    ref.tell(Do(components.save, (1,)))
    ref.tell(Do(components.save, (2,)))
    ref.tell(ENDS[end])
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == 2
    assert bench.fault(ref).older_snapshots == (1,)


@whatever_happens
def test_recovery_sees_the_state_as_at_registration(bench: ProcessBench, end: str) -> None:
    """B-20 (process): what was changed after the call does not show."""
    ref = bench.started()
    do(ref, _save_and_change)
    ref.tell(ENDS[end])
    assert bench.fault(ref).snapshot.items == [1, 2]


def _save_and_change(component: Holder) -> None:
    state = Mutable([1, 2])
    components.save_only(component, state)
    state.items.append(3)


@whatever_happens
def test_a_second_fault_sees_the_newer_state(bench: ProcessBench, end: str) -> None:
    """B-21 (process): fault, recovery, new state, second fault: the newer state, not the
    first one's; and what was registered in the process before counts until then (S-09)."""
    ref = bench.started()
    do(ref, components.save, 1)
    for count, state in ((1, 1), (2, 1), (3, 2)):
        if count == 3:
            do(ref, components.save, 2)
        ref.tell(ENDS[end])
        bench.event_of(events.ComponentRecovered, ref, count)
        assert bench.fault(ref, count).snapshot == state
        assert ref.ask(Get()) == state


@whatever_happens
def test_a_restart_of_the_default_begins_anew(bench: ProcessBench, end: str) -> None:
    """B-22 (process): `restart()` makes it as `create` did."""
    ref = bench.started("default", recovery=again)
    do(ref, components.save, "changed", again)
    ref.tell(ENDS[end])
    bench.event_of(events.ComponentRecovered, ref)
    assert bench.fault(ref).snapshot == "changed"
    assert ref.ask(Get()) == "default"


@whatever_happens
def test_a_component_of_another_type_takes_over(bench: ProcessBench, end: str) -> None:
    """B-23 (process): it runs and receives messages, under the same ref."""
    ref = bench.started(recovery=components.as_other)
    ref.tell(ENDS[end])
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == "other"


def test_a_recovery_function_that_raises_harms_nobody(bench: ProcessBench) -> None:
    """B-24 (process): the fallback is applied and told; a sibling goes on."""
    sibling = bench.started(1)
    ref = bench.started(recovery=components.raising)
    ref.tell(Do(components.segfault))
    bench.ended(ref)
    assert bench.event_of(events.FallbackApplied, ref).fallback == "end"
    assert sibling.ask(Get()) == 1


def test_the_fallback_can_be_a_restart(bench: ProcessBench) -> None:
    """B-24 (process): `fallback="restart"` makes it anew as `create` did."""
    ref = bench.started(4, recovery=components.raising, fallback="restart")
    do(ref, components.save, 5, components.raising)
    ref.tell(Do(components.segfault))
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == 4


_HELD = threading.Event()


def _hanging(fault: FaultContext[Any]) -> RecoveryHandler:
    components.remember(fault)
    _HELD.wait(LIMIT)
    return fault.restart()


def test_a_recovery_that_hangs_is_given_up(make_bench: Any) -> None:
    """B-25 (process): after its deadline the fallback is applied; others were served."""
    bench = make_bench(recovery_deadline=0.3)
    ref = bench.started(recovery=_hanging)
    other = bench.started(8, recovery=again)
    ref.tell(Do(components.segfault))
    bench.fault(ref)
    other.tell(Do(components.segfault))
    bench.event_of(events.ComponentRecovered, other)
    assert other.ask(Get()) == 8
    bench.ended(ref)
    assert bench.event_of(events.FallbackApplied, ref).recovery_error == "RecoveryTimeoutError"
    _HELD.set()


def _with_a_successor(fault: FaultContext[Any]) -> RecoveryHandler:
    components.remember(fault)
    return fault.recover_with(_make_successor)


def _make_successor(fault: FaultContext[Any], system: Any, log: Any) -> None:
    ref = system.create(partial(Holder, fault.snapshot), name=fault.name, backend="process")
    system.start(ref).result(LIMIT)
    assert ref.ask(Get()) == fault.snapshot


@whatever_happens
def test_a_handler_waits_for_what_it_starts(bench: ProcessBench, end: str) -> None:
    """B-26, S-11, S-12 (process): it starts a component of the same name, in a process of its
    own, waits for it and asks it, without deadlock."""
    ref = bench.started("state", recovery=_with_a_successor)
    ref.tell(ENDS[end])
    bench.ended(ref)
    bench.until(lambda: bench.system.find(ref.path) is not None)
    successor = bench.system.find(ref.path)
    assert successor is not None
    assert successor != ref
    bench.until(lambda: successor.state is State.ACTIVE)
    assert successor.ask(Get()) == "state"


@pytest.mark.parametrize("action", [components.fail, _kill_oneself])
def test_a_fault_while_shutting_down_is_not_recovered(
    make_bench: Any, action: Callable[[Any], object]
) -> None:
    """B-27, B-29 (process): the last component's fault in `on_kill` runs no recovery, and the
    shutdown completes."""
    bench = make_bench()
    ref = bench.started(recovery=again, hooks={"kill": action})
    begun = time.monotonic()
    bench.system.shutdown()
    assert time.monotonic() - begun < LIMIT
    assert ref.path not in FAULTS
    assert not ref.is_alive


def test_a_shutdown_ends_what_is_starting(make_bench: Any, make_gate: MakeGate) -> None:
    """B-28 (process): a component in `on_start` when the shutdown begins is ended at once."""
    bench = make_bench()
    reached, gate = make_gate(), make_gate()
    hooks = {"start": partial(_wait_in_hook, reached, gate)}
    ref = bench.system.create(partial(Holder, hooks=hooks))
    start = bench.system.start(ref)
    bench.until(lambda: reached.is_open)
    ending = threading.Thread(target=bench.system.shutdown)
    ending.start()
    bench.until(lambda: _refuses(bench))
    gate.open()
    ending.join(LIMIT)
    assert not ending.is_alive()
    assert not ref.is_alive
    start.exception(LIMIT)


def _wait_in_hook(reached: Gate, gate: Gate, component: Any) -> None:
    reached.open()
    gate.wait()


def _refuses(bench: ProcessBench) -> bool:
    try:
        bench.system.create(Holder, backend="thread")
    except SystemShutdownError:
        return True
    return False


def _killed_in_init(fault: FaultContext[Any]) -> RecoveryHandler:
    """At first makes one whose process is killed in `__init__`, then one that works."""
    components.remember(fault)
    if fault.attempt == 1:
        return fault.restart(partial(Holder, hooks={"init": _kill_oneself}))
    return fault.restart(partial(Holder, "at last"))


def test_a_replacement_that_crashes_is_a_fault_of_phase_create(bench: ProcessBench) -> None:
    """S-13 (process): the second attempt knows of the first; the exit is that of the second."""
    ref = bench.started(recovery=_killed_in_init)
    ref.tell(Do(components.segfault))
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == "at last"
    first, second = FAULTS[ref.path]
    assert (first.phase, second.phase) == (Phase.RECEIVE, Phase.CREATE)
    assert second.attempt == 2
    assert second.message is None
    assert first.exit is not None
    assert first.exit.signal == signal.SIGSEGV
    assert second.exit is not None
    assert second.exit.signal == signal.SIGKILL


def _as_the_snapshot_says(fault: FaultContext[Any]) -> RecoveryHandler:
    """At the first fault: do at the start what the snapshot says; later go on without that."""
    components.remember(fault)
    hooks = {"start": fault.snapshot} if len(FAULTS[fault.path]) == 1 else {}
    return fault.restart(partial(Holder, "made", recovery=_as_the_snapshot_says, hooks=hooks))


@pytest.mark.parametrize("standby", [False, True])
@pytest.mark.parametrize(
    ("name", "exit"), [("fail", None), ("segfault", (None, signal.SIGSEGV)), ("leave", (7, None))]
)
def test_a_replacement_that_faults_in_its_start_is_replaced(
    bench: ProcessBench, name: str, exit: tuple[int | None, int | None] | None, standby: bool
) -> None:
    """S-13 (process): in phase start, whether it is started with its making or told to later."""
    action: Any = {"fail": components.fail, "segfault": components.segfault}.get(name)
    ref = bench.started(
        action or partial(_leave_with, 7), recovery=_as_the_snapshot_says, standby=standby
    )
    ref.tell(Do(components.leave, (0,)))
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == "made"
    assert ref.incarnation == 3
    first, second = FAULTS[ref.path]
    assert (first.phase, second.phase) == (Phase.RECEIVE, Phase.START)
    found = second.exit and (second.exit.code, second.exit.signal)
    assert found == exit
    assert second.kind is (FaultKind.EXCEPTION if exit is None else FaultKind.PROCESS_EXIT)


def _leave_with(code: int, component: Any) -> None:
    components.leave(component, code)


@pytest.mark.parametrize(("wish", "state"), [("stop", State.PASSIVE), ("kill", State.DESTROYED)])
def test_a_replacement_may_end_in_its_start(bench: ProcessBench, wish: str, state: State) -> None:
    """S-06 (process): it may stop or kill itself there, and that counts when it has started."""
    ref = bench.started(partial(_wish, wish), recovery=_as_the_snapshot_says)
    ref.tell(Do(components.leave, (0,)))
    bench.event_of(events.ComponentRecovered, ref)
    bench.until(lambda: ref.state is state)
    assert len(FAULTS[ref.path]) == 1
    assert ref.incarnation == 2


def _wish(wish: str, component: Any) -> None:
    getattr(component, f"{wish}_self")()


@pytest.mark.parametrize("overlap", [False, True])
def test_a_kill_meets_a_replacement_in_its_start(
    bench: ProcessBench, make_gate: MakeGate, overlap: bool
) -> None:
    """S-32 (process): what hangs in the start of the next incarnation is ended by force."""
    reached = make_gate()
    hang = partial(_hang_noting, reached)
    ref = bench.started(hang, recovery=_as_the_snapshot_says, overlap=overlap)
    ref.tell(Do(components.segfault))
    reached.wait()
    bench.system.kill(ref, brutal=True).result(LIMIT)
    assert ref.state is State.DESTROYED
    assert bench.events_of(events.ComponentRecovered, ref) == []


def _hang_noting(reached: Gate, component: Any) -> None:
    reached.open()
    threading.Event().wait()


# -- messages and asks at a fault ------------------------------------------------------------


def test_a_ref_reaches_the_next_incarnation(bench: ProcessBench, notes: Notes) -> None:
    """B-64 (process): tell, ask, stop, start and kill, by a ref from before the restart."""
    ref = bench.started(1, recovery=again)
    ref.tell(Do(components.segfault))
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.incarnation == 2
    ref.tell(Do(components.save, (2,)))
    assert ref.ask(Get()) == 2
    bench.system.stop(ref).result(LIMIT)
    bench.system.start(ref).result(LIMIT)
    assert ref.ask(Get()) == 2
    bench.system.kill(ref).result(LIMIT)
    assert not ref.is_alive


@pytest.mark.parametrize("action", [components.wait_and_fail, components.wait_and_die])
def test_asks_at_a_fault_end_promptly(
    bench: ProcessBench, make_gate: MakeGate, action: Callable[..., object]
) -> None:
    """B-66, S-16 (process): the one in hand gets the exception, or `ComponentFaultError` with
    the end of the process as its cause; queued ones get `RestartingError`; none hangs."""
    reached, gate = make_gate(), make_gate()
    ref = bench.started(1, recovery=again)
    in_hand = ref.ask(Do(action, (reached, gate)), block=False)
    bench.until(lambda: reached.is_open)
    queued = [ref.ask(Get(), block=False) for _ in range(20)]
    gate.open()
    error = in_hand.exception(LIMIT)
    if action is components.wait_and_fail:
        assert isinstance(error, ValueError)
        assert str(error) == "as planned"
    else:
        assert isinstance(error, ComponentFaultError)
        assert isinstance(error.__cause__, ProcessExitError)
        assert "SIGKILL" in str(error.__cause__)
    for ask in queued:
        assert isinstance(ask.exception(LIMIT), RestartingError)
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == 1


def _fail_once(component: Holder, gate: Gate, action: Callable[[Any], object]) -> int:
    _act_once(gate, action, component)
    return component.ref.incarnation


@pytest.mark.parametrize("action", [components.fail, components.segfault, _kill_oneself])
def test_what_asks_to_be_redelivered_is(
    bench: ProcessBench, notes: Notes, make_gate: MakeGate, action: Callable[[Any], object]
) -> None:
    """B-65, B-66 (process): in hand or queued, tells and asks whose type declares it meet the
    next incarnation, the one in hand first."""
    reached, gate = make_gate(), make_gate()
    ref = bench.started(1, notes, recovery=again)
    ref.tell(Do(components.wait_noting, (reached, gate)))
    bench.until(lambda: reached.is_open)
    in_hand = ref.ask(components.DoAgain(_fail_once, (make_gate(), action)), block=False)
    ref.tell(Add("told"))
    queued = ref.ask(components.DoAgain(_incarnation), block=False)
    gate.open()
    assert in_hand.result(LIMIT) == 2
    assert queued.result(LIMIT) == 2
    assert notes.lines() == ["start", "start", "told"]


def _incarnation(component: Holder) -> int:
    return component.ref.incarnation


def test_replies_before_a_crash_arrive(bench: ProcessBench) -> None:
    """S-06 (process): replies already sent are not recalled: of 200 asks before the crash each
    is answered, or says that it was handled; none hangs, none is answered wrongly."""
    ref = bench.started(1, recovery=again)
    asks = [ref.ask(Do(components.echo, (number,)), block=False) for number in range(200)]
    ref.tell(Do(components.die, (signal.SIGKILL,)))
    for number, ask in enumerate(asks):
        assert ask.result(LIMIT) == number


def test_an_ended_component_takes_nothing(bench: ProcessBench) -> None:
    """B-69 (process): a tell is a dead letter, an ask fails at once."""
    ref = bench.started()
    bench.system.kill(ref).result(LIMIT)
    ref.tell(Add("late"))
    assert bench.event_of(events.DeadLetters, ref).types == ("Add",)
    with pytest.raises(ComponentDestroyedError):
        ref.ask(Get())


def test_asking_one_that_is_stopping_gives_an_error(bench: ProcessBench) -> None:
    """B-68 (process): a component that waits in its `on_kill` for one in another process, which
    asks it: that one gets an error at once, and there is no deadlock."""
    ref = bench.started(hooks={"kill": _have_a_child_ask})
    begun = time.monotonic()
    bench.system.kill(ref).result(2 * LIMIT)
    assert time.monotonic() - begun < LIMIT
    child = bench.system.find(f"{ref.path} child")
    assert child is not None
    assert child.ask(Get()) in ("AskCircleError", "ComponentDestroyedError")


def _have_a_child_ask(component: Holder) -> None:
    child = component.system.create(
        Holder, name=f"{component.ref.path} child", backend="process", start=True
    )
    child.ask(Do(_ask_back, (component.ref,)))


def _ask_back(component: Holder, ref: Any) -> None:
    try:
        ref.ask(Get())
    except Exception as error:
        component.state = type(error).__name__


# -- what is saved ---------------------------------------------------------------------------


@whatever_happens
def test_a_save_in_hand_is_kept_and_told(bench: ProcessBench, end: str) -> None:
    """B-80, S-10 (process): an explicit save takes effect at the call, though the same handler
    then faults, and the fault says so."""
    ref = bench.started(1, recovery=from_snapshot)
    message = ENDS[end]
    ref.tell(Do(_save_then, (2, message.action, message.arguments)))
    bench.event_of(events.ComponentRecovered, ref)
    fault = bench.fault(ref)
    assert (fault.snapshot, fault.saved_in_hand, fault.older_snapshots) == (2, True, (1,))
    ref.tell(message)
    fault = bench.fault(ref, 2)
    assert (fault.snapshot, fault.saved_in_hand) == (2, False)


def test_a_save_in_hand_is_told_though_more_is_queued(
    bench: ProcessBench, make_gate: MakeGate
) -> None:
    """B-80, S-10 (process): `saved_in_hand` is about the handler, not about what waits behind."""
    reached, gate = make_gate(), make_gate()
    ref = bench.started(1, recovery=from_snapshot)
    ref.tell(Do(components.wait_noting, (reached, gate)))
    bench.until(lambda: reached.is_open)
    ref.tell(Do(_save_then, (2, components.segfault, ())))
    for _ in range(3):
        ref.tell(Do(components.pid))
    gate.open()
    fault = bench.fault(ref)
    assert (fault.snapshot, fault.saved_in_hand, fault.pending) == (2, True, 3)


def _save_then(
    component: Holder, state: Any, action: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    components.save(component, state)
    action(component, *arguments)


@whatever_happens
@pytest.mark.parametrize("size", [0, 5_000, 10_000_000])
def test_snapshots_of_any_size_survive(bench: ProcessBench, end: str, size: int) -> None:
    """S-24 (process): "shared" at once, up to 10 MB; the latest is there after any end."""
    ref = bench.started(recovery=from_snapshot)
    do(ref, _save_bytes, size, 0)
    do(ref, _save_bytes, size, 1)
    ref.tell(ENDS[end])
    bench.event_of(events.ComponentRecovered, ref)
    fault = bench.fault(ref)
    assert fault.snapshot == bytes([1]) * size
    assert not size or fault.older_snapshots[0] == bytes([0]) * size
    assert do(ref, _size_of_state) == size


def _save_bytes(component: Holder, size: int, fill: int) -> None:
    components.save_only(component, bytes([fill]) * size)


def _size_of_state(component: Holder) -> int:
    return len(component.state)


@whatever_happens
def test_generations_are_kept_over_processes(bench: ProcessBench, end: str) -> None:
    """`older_snapshots`: at most two, newest first, also such as an earlier process saved."""
    ref = bench.started(0, recovery=from_snapshot)
    for state in range(1, 6):
        do(ref, components.save, state)
    ref.tell(ENDS[end])
    bench.event_of(events.ComponentRecovered, ref)
    assert bench.fault(ref).older_snapshots == (4, 3)
    do(ref, components.save, 6)
    ref.tell(ENDS[end])
    fault = bench.fault(ref, 2)
    assert fault.snapshot == 6
    assert fault.older_snapshots[0] == 5


@whatever_happens
def test_suspects_are_counted(bench: ProcessBench, end: str) -> None:
    """S-27 (process): 0, 1, 2 for the same snapshot; 0 again after a newer one."""
    ref = bench.started(1, recovery=from_snapshot)
    for count in (1, 2, 3):
        ref.tell(ENDS[end])
        bench.event_of(events.ComponentRecovered, ref, count)
    do(ref, components.save, 2)
    ref.tell(ENDS[end])
    bench.event_of(events.ComponentRecovered, ref, 4)
    assert [fault.suspect for fault in FAULTS[ref.path]] == [0, 1, 2, 0]


@whatever_happens
def test_stepping_back(bench: ProcessBench, end: str) -> None:
    """B-81 (process): the newest, each older one, then afresh."""
    ref = bench.started("fresh")
    for state in (1, 2, 3):
        do(ref, components.save, state, components.stepping_back)
    expected: list[tuple[int, Any]] = [(1, 3), (2, 2), (3, 1), (4, "fresh")]
    for count, state in expected:
        ref.tell(ENDS[end])
        bench.event_of(events.ComponentRecovered, ref, count)
        assert ref.ask(Get()) == state


def test_a_snapshot_that_cannot_be_pickled_is_refused(bench: ProcessBench) -> None:
    """S-24 (process): `SnapshotError` at the call, in the child; the one before stays."""
    ref = bench.started(1, recovery=from_snapshot)
    assert do(ref, _save_a_thread) == "SnapshotError"
    ref.tell(Do(components.segfault))
    assert bench.fault(ref).snapshot == 1


def _save_a_thread(component: Holder) -> str:
    try:
        components.save_only(component, threading.Lock())
    except SnapshotError as error:
        return type(error).__name__
    return "nothing"


@whatever_happens
def test_a_function_registered_from_outside_counts(bench: ProcessBench, end: str) -> None:
    """S-09 (process): by the ref, with a snapshot; the last registration wins."""
    ref = bench.started(1, recovery=again)
    ref.set_recovery_function(from_snapshot, snapshot="outside")
    ref.tell(ENDS[end])
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == "outside"


@whatever_happens
def test_a_closure_can_be_registered_from_outside(bench: ProcessBench, end: str) -> None:
    """S-09 (process): a closure of the test's own, which the child cannot import."""
    ref = bench.started(1)
    value = "closed over"
    ref.set_recovery_function(lambda fault: fault.restart(partial(Holder, value)))
    ref.tell(ENDS[end])
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == "closed over"


def test_registrations_inside_and_outside_are_ordered(bench: ProcessBench) -> None:
    """S-09 (process): the last wins, wherever it was made."""
    ref = bench.started(1)
    ref.set_recovery_function(from_snapshot, snapshot="outside")
    do(ref, components.save, "inside")
    ref.tell(Do(components.segfault))
    fault = bench.fault(ref)
    assert (fault.snapshot, fault.older_snapshots) == ("inside", ("outside",))


def test_a_closure_of_the_child_is_called_in_the_parent(bench: ProcessBench) -> None:
    """S-12 (process): a closure made in the child, over a value of the child's."""
    ref = bench.started(1)
    child = do(ref, _register_closure, 77)
    ref.tell(Do(components.segfault))
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == (77, child, os.getpid())


def _register_closure(component: Holder, value: int) -> int:
    child = os.getpid()

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        return fault.restart(partial(Holder, (value, child, os.getpid())))

    component.set_recovery_function(recover)
    return child


def test_a_snapshot_of_none_is_one(bench: ProcessBench) -> None:
    """S-09 (process): None is a value like any other; without `snapshot=` there is none."""
    ref = bench.started(None, recovery=again)
    ref.tell(Do(components.segfault))
    assert bench.fault(ref).has_snapshot
    bench.event_of(events.ComponentRecovered, ref)
    do(ref, _register_without)
    ref.tell(Do(components.segfault))
    assert not bench.fault(ref, 2).has_snapshot


def _register_without(component: Holder) -> None:
    component.set_recovery_function(again)


def test_the_report_of_a_recovery_counts(bench: ProcessBench, make_gate: MakeGate) -> None:
    """The recovery report (process): by hand: 3 handled since the save, the fatal one included;
    5 tells pending; 2 queued asks failed; the one in hand dropped."""
    reached, gate = make_gate(), make_gate()
    ref = bench.started(1)
    do(ref, components.save, 2, again)
    do(ref, components.pid)
    ref.tell(Do(components.wait_noting, (reached, gate)))
    bench.until(lambda: reached.is_open)
    ref.tell(Do(components.die, (signal.SIGKILL,)))
    asks = [ref.ask(Get(), block=False) for _ in range(2)]
    for _ in range(5):
        ref.tell(Do(components.pid))
    gate.open()
    report = bench.event_of(events.ComponentRecovered, ref)
    assert (report.error, report.kind, report.phase) == (
        "ProcessExitError",
        "process_exit",
        "receive",
    )
    assert (report.handled_since_snapshot, report.redelivered) == (3, 5)
    assert (report.failed, report.dropped, report.restarts) == (2, 1, 1)
    assert 0 < report.downtime < LIMIT
    for ask in asks:
        assert isinstance(ask.exception(LIMIT), RestartingError)


def test_a_late_thread_changes_nothing(bench: ProcessBench, make_gate: MakeGate) -> None:
    """S-06 (process): a thread that outlives its incarnation dies with its process: it saves
    nothing and tells nobody."""
    gate = make_gate()
    ref = bench.started(1, recovery=from_snapshot)
    do(ref, _save_later, gate)
    ref.tell(Do(components.fail))
    bench.event_of(events.ComponentRecovered, ref)
    gate.open()
    assert do(ref, components.pid)
    ref.tell(Do(components.fail))
    assert bench.fault(ref, 2).snapshot == 1


def _save_later(component: Holder, gate: Gate) -> None:
    def save() -> None:
        gate.wait()
        components.save_only(component, "late")

    threading.Thread(target=save, daemon=True).start()


# -- the fault context in the child ----------------------------------------------------------


def _look_in_the_child(fault: FaultContext[Any]) -> RecoveryHandler:
    components.remember(fault)
    return fault.restart(lambda: Holder(_what_is_known(fault)))


def _what_is_known(fault: FaultContext[Any]) -> dict[str, Any]:
    """Everything that can be compared; made where the factory runs."""
    names = (
        "component_id", "name", "path", "incarnation", "kind", "phase", "traceback", "message",
        "snapshot", "has_snapshot", "snapshot_age", "saved_in_hand", "older_snapshots", "suspect",
        "attempt", "pending", "restarts", "exit", "time", "location",
    )  # fmt: skip
    known = {name: getattr(fault, name) for name in names}
    known["exception"] = (type(fault.exception).__name__, str(fault.exception))
    return known


@whatever_happens
def test_a_factory_sees_the_fault_in_the_child(bench: ProcessBench, end: str) -> None:
    """S-12 (process): a factory that closes over its fault context runs in the new child, and
    sees there what the recovery function sees here; of the stack of a native crash as much as
    had been written when it was sent, since a recovery does not wait for that."""
    ref = bench.started(1, recovery=_look_in_the_child)
    do(ref, components.save, 2, _look_in_the_child)
    ref.tell(ENDS[end])
    bench.event_of(events.ComponentRecovered, ref)
    known = _what_is_known(bench.fault(ref))
    assert (known["snapshot"], known["older_snapshots"]) == (2, (1,))
    assert known["message"] == ENDS[end]
    there = ref.ask(Get())
    stack = there.pop("traceback")
    assert stack
    assert known.pop("traceback").startswith(stack)
    assert there == known


def test_a_function_registered_before_the_start_counts(bench: ProcessBench) -> None:
    """S-09 (process): from outside, while the component is passive."""
    ref = bench.system.create(Holder, name=new_name())
    ref.set_recovery_function(from_snapshot, snapshot="early")
    bench.system.start(ref).result(LIMIT)
    ref.tell(Do(components.segfault))
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == "early"


class Selfish(Component[Any]):
    """Registers a method of its own, which cannot leave its process."""

    def on_start(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.set_recovery_function(self.recover)

    def recover(self, fault: FaultContext[Any]) -> RecoveryHandler:
        """Never called."""
        return fault.end()


def test_a_method_of_the_component_is_refused(bench: ProcessBench) -> None:
    """S-12: recovery functions run in the system's process, which a component cannot go to: the
    call raises, where in-process there is a warning only. A difference of this backend."""
    ref = bench.system.create(Selfish)
    with pytest.raises(ComponentFaultError) as caught:
        bench.system.start(ref).result(LIMIT)
    assert isinstance(caught.value.__cause__, SnapshotError)
    assert "Selfish.recover" in str(caught.value.__cause__)


def test_what_nobody_handled_reaches_the_hook(make_bench: Any) -> None:
    """B-67 (process): what a killed process had not taken in hand goes to `on_undelivered`, as
    it was sent, when there is no next incarnation."""
    letters: list[Any] = []
    bench = make_bench(on_undelivered=lambda path, message: letters.append((path, message)))
    ref = bench.system.create(Holder, name=new_name())
    messages = [Do(components.die, (int(signal.SIGKILL),)), Add("1"), Add("2")]
    for message in messages:
        ref.tell(message)
    bench.system.start(ref)
    bench.ended(ref)
    bench.until(lambda: len(letters) >= 2)
    assert letters == [(ref.path, message) for message in messages[1:]]


def test_a_snapshot_is_not_suspected_where_no_process_can_be_made(
    make_bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-27: nobody has looked at it. `create` fails at once, and a later one goes on."""
    store = tmp_path / "store"
    first = make_bench(store=store)
    first.started(7, name="kept", recovery=again)
    first.system.shutdown()

    def refuse(_: ProcessBackend) -> Any:
        raise ProcessStartError("there is none")

    for _ in range(3):
        bench = make_bench(store=store)
        with monkeypatch.context() as patch:
            patch.setattr(ProcessBackend, "new_child", refuse)
            with pytest.raises(ComponentCreateError, match="there is none"):
                bench.started(0, name="kept", recovery=again)
        assert len(bench.events.of(events.RestartFailed)) == 1
        bench.system.shutdown()
    last = make_bench(store=store)
    last.started(0, name="kept", recovery=again)
    (fault,) = FAULTS["kept"][-1:]
    assert fault.suspect == 0
    assert fault.snapshot == 7
