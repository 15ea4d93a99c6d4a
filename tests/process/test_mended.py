"""Does what once went wrong with components in processes stay mended?

Each test is about a defect that was found by looking at the code or by using it: kills that never
ended, messages that got stuck, programs that could have no children.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from kompyct import Component, FaultContext, Phase, RecoveryHandler, Request, State, events, remote
from kompyct.errors import ComponentCreateError, UnpicklableError
from tests.conftest import LIMIT
from tests.process import components
from tests.process.components import (
    Add,
    Do,
    Gate,
    Get,
    Holder,
    Notes,
    Unwelcome,
    again,
    from_snapshot,
)
from tests.process.conftest import ProcessBench, do, new_name
from tests.process.test_programs import BODY, run_script

MakeGate = Callable[[], Gate]
KILL_TAKES = 6.0  # seconds at most, of a process that hangs: its patience, and to be forced


# -- kills -----------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [components.wait_and_fail, components.wait_and_die])
def test_a_kill_ends_what_faults_meanwhile(
    bench: ProcessBench, make_gate: MakeGate, action: Callable[..., object]
) -> None:
    """S-01 (process): the message in hand raises, or its process dies, after the kill has begun:
    the kill is done all the same, nothing is restarted, and the name is free."""
    reached, gate = make_gate(), make_gate()
    ref = bench.started(1, recovery=again)
    ref.tell(Do(action, (reached, gate)))
    bench.until(lambda: reached.is_open)
    killed = bench.system.kill(ref)
    bench.until(lambda: _is_ending(ref))
    gate.open()
    killed.exception(LIMIT)
    assert ref.state is State.DESTROYED
    assert ref.incarnation == 1
    assert bench.events_of(events.ComponentRecovered, ref) == []
    assert bench.started(2, name=ref.path).ask(Get()) == 2


def _is_ending(ref: Any) -> bool:
    """Whether it takes nothing more: an ask fails at once."""
    return bool(ref.ask(Get(), block=False).done())


def test_a_kill_ends_what_dies_before_its_hook(bench: ProcessBench) -> None:
    """S-01 (process): the process dies between the kill and its `on_kill`, nothing in hand."""
    ref = bench.started(1, recovery=again)
    child = do(ref, components.pid)
    os.kill(child, signal.SIGSTOP)
    killed = bench.system.kill(ref)
    bench.until(lambda: _is_ending(ref))
    os.kill(child, signal.SIGKILL)
    killed.exception(LIMIT)
    assert ref.state is State.DESTROYED
    assert bench.events_of(events.ComponentRecovered, ref) == []
    assert bench.started(2, name=ref.path).ask(Get()) == 2


def test_a_kill_ends_what_dies_in_its_hook(bench: ProcessBench, notes: Notes) -> None:
    """S-01 (process): the process dies in `on_kill`: the kill is done, the name is free."""
    ref = bench.started(1, notes, recovery=again, hooks={"kill": _die_now})
    bench.system.kill(ref).exception(LIMIT)
    assert ref.state is State.DESTROYED
    assert notes.lines() == ["start", "kill"]
    assert bench.started(2, name=ref.path).ask(Get()) == 2


def _die_now(component: Any) -> None:
    components.die(component, signal.SIGKILL)


def test_kills_end_what_hangs(
    bench: ProcessBench, make_gate: MakeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B-58 (process): a kill waits for no hook for ever that it comes after, nor for a factory
    that a recovery has chosen. (All at once: each waits for its process's patience to end.)"""
    monkeypatch.setattr(remote, "PATIENCE", 0.2)
    refs = [make_hang(bench, make_gate()) for make_hang in HANGING]
    begun = time.monotonic()
    for killed in [bench.system.kill(ref) for ref in refs]:
        killed.exception(2 * KILL_TAKES)
    assert time.monotonic() - begun < KILL_TAKES
    assert [ref.state for ref in refs] == [State.DESTROYED] * len(HANGING)


def _hang(gate: Gate, component: Any) -> None:
    gate.open()
    time.sleep(60)


def _hanging_in_on_start(bench: ProcessBench, gate: Gate) -> Any:
    ref = bench.system.create(partial(Holder, hooks={"start": partial(_hang, gate)}))
    bench.system.start(ref)
    bench.until(lambda: gate.is_open)
    return ref


def _hanging_in_on_stop(bench: ProcessBench, gate: Gate) -> Any:
    ref = bench.started(hooks={"stop": partial(_hang, gate)})
    bench.system.stop(ref)
    bench.until(lambda: gate.is_open)
    return ref


def _stopped_before_on_stop(bench: ProcessBench, _: Gate) -> Any:
    ref = bench.started()
    os.kill(do(ref, components.pid), signal.SIGSTOP)
    bench.system.stop(ref)
    return ref


def _hanging_in_a_factory(bench: ProcessBench, gate: Gate) -> Any:
    ref = bench.started(1, recovery=partial(_restart_with, partial(_make_never, gate)))
    ref.tell(Do(components.fail))
    bench.until(lambda: gate.is_open)
    return ref


def _restart_with(
    factory: Callable[[], Component[Any]], fault: FaultContext[Any]
) -> RecoveryHandler:
    return fault.restart(factory)


def _make_never(gate: Gate) -> Component[Any]:
    _hang(gate, None)
    raise AssertionError("it has not been ended")


HANGING = [
    _hanging_in_on_start,
    _hanging_in_on_stop,
    _stopped_before_on_stop,
    _hanging_in_a_factory,
]


# -- deaths ----------------------------------------------------------------------------------


def test_a_passive_component_comes_back_passive(bench: ProcessBench) -> None:
    """S-26 (process): also if it had faulted before, when it was active."""
    ref = bench.started(1, recovery=again)
    ref.tell(Do(components.fail))
    bench.event_of(events.ComponentRecovered, ref)
    child = do(ref, components.pid)
    bench.system.stop(ref).result(LIMIT)
    os.kill(child, signal.SIGKILL)
    bench.event_of(events.ComponentRecovered, ref, 2)
    assert ref.state is State.PASSIVE
    bench.system.start(ref).result(LIMIT)
    assert ref.ask(Get()) == 1


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_the_signal_of_an_end_is_a_number(bench: ProcessBench, number: signal.Signals) -> None:
    """`fault.exit.signal`: an `int`, whether the crash itself reported it or the kernel told."""
    ref = bench.started(1, recovery=again)
    ref.tell(Do(components.die, (int(number),)))
    fault = bench.fault(ref)
    assert fault.exit is not None
    assert type(fault.exit.signal) is int
    assert fault.exit.signal == number


def test_a_forked_copy_answers_nothing(bench: ProcessBench) -> None:
    """A handler forks and returns in both processes: the component goes on, its copy ends."""
    ref = bench.started(1, recovery=again)
    child = do(ref, components.pid)
    for _ in range(5):
        copy = do(ref, _fork)
        assert copy > 0
        assert [do(ref, components.pid) for _ in range(10)] == [child] * 10
        bench.until(partial(_has_ended, copy))
    assert ref.incarnation == 1


def _fork(component: Any) -> int:
    return os.fork()


def test_a_forked_worker_that_logs_does_its_work(bench: ProcessBench, notes: Notes) -> None:
    """What a component forks by `multiprocessing` logs a line: it goes on, up to its own end."""
    ref = bench.started()
    assert do(ref, _have_a_worker_log, notes) == 7
    assert notes.lines() == ["before", "after"]
    assert ref.ask(Get()) == "default"


def _have_a_worker_log(component: Any, notes: Notes) -> int | None:
    worker = multiprocessing.get_context("fork").Process(target=_log_in_a_worker, args=(notes,))
    worker.start()
    worker.join(components.PATIENCE)
    return worker.exitcode


def _log_in_a_worker(notes: Notes) -> None:
    notes.add("before")
    logging.getLogger("worker").warning("in a worker")
    notes.add("after")
    os._exit(7)


def _has_ended(number: int) -> bool:
    try:
        return psutil.Process(number).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# -- programs --------------------------------------------------------------------------------


def test_two_children_at_once_of_a_program_with_threads(tmp_path: Path) -> None:
    """S-32: a main module that starts threads at import cannot be forked from: each of the
    children that are wanted before that is known is spawned, not the first only."""
    import_time = """
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    """
    main = """
    def create(system, gate, pids):
        gate.wait(10)
        ref = system.create(Counter, start=True)
        pids.append(ref.ask(Get(), timeout=15))

    if __name__ == "__main__":
        counts = []
        gate = threading.Barrier(3)
        with ComponentSystem(backend="process") as system:
            creators = [
                threading.Thread(target=create, args=(system, gate, counts)) for _ in range(3)
            ]
            for one in creators:
                one.start()
            for one in creators:
                one.join(20)
        print(counts)
    """
    done = run_script(tmp_path, BODY + import_time + main, limit=30.0)
    assert (done.stdout, done.returncode) == ("[1, 1, 1]\n", 0), done.stderr


@pytest.mark.parametrize("size", [90_000, 400_000])
def test_a_program_with_a_long_command_line_has_children(tmp_path: Path, size: int) -> None:
    """Issue 4, "Bad input": thousands of file names as arguments; a child may read them, too."""
    main = f"""
    if __name__ == "__main__":
        if len(sys.argv) == 1:
            names = ["a file of twenty .txt"[:20]] * ({size} // 20)
            os.execv(sys.executable, [sys.executable, __file__, *names])
        run()
    """
    done = run_script(tmp_path, BODY + main)
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


# -- messages --------------------------------------------------------------------------------


@dataclass
class Moody(Request[Any]):
    """Can be pickled at one of the attempts only, counted from 1, or at all but one."""

    attempt: int
    fails: bool
    attempts: int = 0

    def __reduce__(self) -> Any:
        self.attempts += 1
        if (self.attempts == self.attempt) is self.fails:
            raise ValueError("moody")
        return Do, (components.echo, ("moody",))


@pytest.mark.parametrize("backlog", [0, 7])
def test_a_message_that_can_be_pickled_the_second_time(bench: ProcessBench, backlog: int) -> None:
    """Bad input: it is refused or handled, and those around it are handled, in time."""
    ref = bench.system.create(partial(Holder, 1))
    for _ in range(backlog):
        ref.tell(Do(components.pid))
    ref.tell(Moody(1, fails=True))
    ask: Any = ref.ask(Moody(1, fails=True), block=False)
    bench.system.start(ref).result(LIMIT)
    assert ref.ask(Get()) == 1
    assert isinstance(ask.exception(LIMIT), UnpicklableError) or ask.result() == "moody"
    alone: Any = ref.ask(Moody(1, fails=True), block=False)
    assert isinstance(alone.exception(LIMIT), UnpicklableError) or alone.result() == "moody"
    assert ref.ask(Get()) == 1
    bench.system.kill(ref).result(LIMIT)


def test_a_message_that_can_be_pickled_once_only(bench: ProcessBench, notes: Notes) -> None:
    """Bad input: the child wants what was sent with an unreadable message again, one by one;
    one that cannot be packed anew keeps those behind it waiting no longer."""
    ref = bench.system.create(partial(Holder, 1, notes))
    once = Moody(1, fails=False)
    ref.tell(Add("before"))
    ref.tell(Unwelcome(os.getpid()))
    ask: Any = ref.ask(once, block=False)
    ref.tell(Add("after"))
    bench.system.start(ref).result(LIMIT)
    assert ref.ask(Get()) == 1
    assert once.attempts > 1
    assert isinstance(ask.exception(LIMIT), UnpicklableError)
    assert notes.lines() == ["start", "before", "after"]
    assert ref.incarnation == 1
    bench.system.kill(ref).result(LIMIT)


def test_none_is_a_dead_letter_like_any_other(make_bench: Any, make_gate: MakeGate) -> None:
    """B-67 (process): messages that are None and that nobody handled are told of at the end."""
    letters: list[Any] = []
    bench = make_bench(on_undelivered=lambda _, message: letters.append(message))
    reached, gate = make_gate(), make_gate()
    ref = bench.started()
    ref.tell(Do(components.wait_noting, (reached, gate)))
    bench.until(lambda: reached.is_open)
    for message in (None, "between", None):
        ref.tell(message)
    bench.until(lambda: not ref._cell.box)  # its process has them
    killed = bench.system.kill(ref)
    gate.open()
    killed.result(LIMIT)
    bench.until(lambda: len(letters) >= 3)
    assert letters == [None, "between", None]
    assert sum(event.count for event in bench.events_of(events.DeadLetters, ref)) == 3


# -- asks ------------------------------------------------------------------------------------


def test_an_ask_given_up_is_waited_for_no_more(bench: ProcessBench, make_gate: MakeGate) -> None:
    """S-16 (process): whom a component asked in vain may ask it, without making a circle."""
    gate = make_gate()
    target = bench.started("nothing", backend="thread")
    ref = bench.started("pong")
    request = Do(_wait_and_ask, (gate, ref))
    assert do(ref, _error_of_ask, target, request, 0.05) == "AskTimeoutError"
    gate.open()
    assert target.ask(Get()) == "pong"


def _wait_and_ask(component: Holder, gate: Gate, ref: Any) -> None:
    gate.wait()
    component.state = _state_of(ref)


def _state_of(ref: Any) -> Any:
    try:
        return ref.ask(Get())
    except Exception as error:
        return repr(error)


def _error_of_ask(component: Holder, ref: Any, request: Any, timeout: float) -> str:
    try:
        ref.ask(request, timeout=timeout)
    except Exception as error:
        return type(error).__name__
    return "none"


def test_an_asker_that_died_waits_no_more(bench: ProcessBench) -> None:
    """S-16 (process): its process dies while it asks: its target may ask the next incarnation."""
    target = bench.started("nothing", backend="thread")
    ref = bench.started("pong", recovery=again)
    child = do(ref, components.pid)
    ref.tell(Do(components.ask, (target, Do(_kill_and_ask, (child, ref)))))
    bench.event_of(events.ComponentRecovered, ref)
    assert target.ask(Get()) == "pong"


def _kill_and_ask(component: Holder, child: int, ref: Any) -> None:
    os.kill(child, signal.SIGKILL)
    until = time.monotonic() + LIMIT
    while ref.incarnation < 2 and time.monotonic() < until:
        time.sleep(0.001)
    component.state = _state_of(ref)


# -- what is told ----------------------------------------------------------------------------


def _make_badly() -> Component[Any]:
    return _divide(0)


def _divide(by: int) -> Component[Any]:
    return Holder(1 / by)


def _restart_badly_once(fault: FaultContext[Any]) -> RecoveryHandler:
    components.remember(fault)
    return fault.end() if fault.phase is Phase.CREATE else fault.restart(_make_badly)


def test_a_factory_that_raises_says_where(bench: ProcessBench) -> None:
    """S-10 (process): the fault is told with the line of the factory, as in-process."""
    ref = bench.started(recovery=_restart_badly_once)
    ref.tell(Do(components.fail))
    fault = bench.fault(ref, 2)
    line = _divide.__code__.co_firstlineno + 1
    assert fault.phase is Phase.CREATE
    assert isinstance(fault.exception, ZeroDivisionError)
    assert fault.location.endswith(f"test_mended.py:{line} in _divide")
    assert "in _make_badly" in fault.traceback
    assert "ZeroDivisionError: division by zero" in fault.traceback


def test_a_first_factory_that_raises_says_where(bench: ProcessBench) -> None:
    """S-10 (process): whoever creates sees which line of the factory has raised."""
    with pytest.raises(ComponentCreateError) as caught:
        bench.system.create(_make_badly)
    cause = caught.value.__cause__
    assert isinstance(cause, ZeroDivisionError)
    told = "".join([*getattr(cause, "__notes__", ()), *getattr(caught.value, "__notes__", ())])
    assert "in _divide" in told


@pytest.mark.parametrize(
    ("saves", "older"),
    [("ABBBBB", ("A", "start")), ("ABCBBBB", ("C", "B"))],
)
def test_saves_that_repeat_push_out_none(
    bench: ProcessBench, saves: str, older: tuple[str, ...]
) -> None:
    """S-24 (process): what equals the newest takes no place of an older one."""
    ref = bench.started("start", recovery=from_snapshot)
    for state in saves:
        do(ref, components.save, state)
    ref.tell(Do(components.fail))
    fault = bench.fault(ref)
    assert (fault.snapshot, fault.older_snapshots) == ("B", older)


class Listener(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _log(component: Holder, name: str) -> None:
    logging.getLogger(name).warning("noise")
    logging.getLogger(name).error("news")


def test_levels_set_here_hold_for_a_child(bench: ProcessBench) -> None:
    """A logger that is set to ERROR in the system's process passes on no child's warnings."""
    logger = logging.getLogger(new_name())
    listener = Listener()
    logger.addHandler(listener)
    ref = bench.started()
    do(ref, _log, logger.name)
    bench.until(lambda: "news" in listener.texts)
    logger.setLevel(logging.ERROR)
    do(ref, _log, logger.name)
    bench.until(lambda: listener.texts.count("news") == 2)
    assert listener.texts == ["noise", "news", "news"]
    logger.removeHandler(listener)
