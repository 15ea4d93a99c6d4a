"""What is special to limits of components in processes of their own: B-84, B-85, RELIABILITY.

"Child TERM then KILL": what the child cannot interrupt itself, the parent ends, for certain.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest

from kompyct import FaultKind, Phase, events
from kompyct.errors import ComponentFaultError, ExecutionTimeout, MemoryLimitExceeded
from kompyct.overdue import TERM_TO_KILL
from kompyct.processes.usage import memory_use
from tests.conftest import LIMIT
from tests.every_backend import notes
from tests.hanging import (
    BenignWhenLate,
    deaf,
    fail_in_hook,
    grow,
    grow_at_once,
    hold,
    nap,
    resident,
    save,
    spin,
    stopped,
    where,
)
from tests.limit_bench import GRACE, SLACK, LimitBench, failed, in_time
from tests.process.components import Do, Get, from_snapshot
from tests.real_time import bench, patient, shared_bench

__all__ = ["bench", "notes", "patient", "shared_bench"]

SHORT = 0.15  # seconds: the limit that is exceeded here


@pytest.fixture(scope="module")
def backend() -> str:
    """The backend all of this is about."""
    return "process"


def is_gone(pid: int) -> bool:
    """Whether there is no such process any more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# -- the end by force ------------------------------------------------------------------------


def test_native_code_that_holds_the_interpreter_is_ended(bench: LimitBench) -> None:
    """Issue 5, "On components": "On the process backend the child is stopped for certain": given
    a call into C that never gives the interpreter back, then its process is ended in time, the
    stack is in the context, and a sibling goes on."""
    sibling = bench.started(time_limit=SHORT)
    ref = bench.started(state="saved", time_limit=SHORT)
    pid = ref.ask(Do(where), timeout=LIMIT)
    cause, seconds = failed(ref, hold)
    assert in_time(seconds, SHORT)
    assert isinstance(cause, ExecutionTimeout)
    fault = bench.fault(ref)
    assert (fault.kind, fault.phase) == (FaultKind.HANG, Phase.RECEIVE)
    assert fault.exit is not None
    assert (fault.exit.pid, fault.exit.signal) == (pid, signal.SIGTERM)
    assert fault.location.endswith("in hold")
    assert "in hold" in fault.traceback
    assert fault.message == Do(hold)
    bench.recovered(ref)
    assert ref.ask(Get(), timeout=LIMIT) == "saved"
    assert ref.ask(Do(where), timeout=LIMIT) != pid
    bench.until(lambda: is_gone(pid))
    assert (sibling.ask(Get(), timeout=LIMIT), sibling.incarnation) == ("default", 1)
    assert bench.of(events.HandlerAbandoned, ref) == []


@pytest.mark.parametrize("action", [deaf, stopped], ids=lambda action: action.__name__)
def test_a_child_that_does_not_react_to_sigterm_is_killed(
    bench: LimitBench, action: Callable[..., object]
) -> None:
    """RELIABILITY, "child TERM then KILL": given a handler that ignores SIGTERM, or whose process
    is stopped, then SIGKILL follows half a second after SIGTERM."""
    ref = bench.started(time_limit=SHORT)
    begun = time.monotonic()
    with pytest.raises(ComponentFaultError):
        ref.ask(Do(action, (30.0,)), timeout=LIMIT)
    seconds = time.monotonic() - begun
    assert SHORT + GRACE["process"] <= seconds <= SHORT + GRACE["process"] + TERM_TO_KILL + SLACK
    fault = bench.fault(ref)
    assert (fault.kind, fault.exit.signal) == (FaultKind.HANG, signal.SIGKILL)
    bench.recovered(ref)
    assert ref.ask(Get(), timeout=LIMIT) == "default"


@pytest.mark.usefixtures("patient")
def test_what_can_be_interrupted_keeps_its_exception(bench: LimitBench) -> None:
    """B-84: Given Python code, then the child interrupts itself, and its own traceback travels."""
    ref = bench.started(time_limit=SHORT)
    cause: Any = failed(ref, spin, 10.0)[0]
    assert cause.limit == SHORT
    assert "in spin" in cause.stack
    fault = bench.fault(ref)
    assert (fault.kind, fault.exit) == (FaultKind.HANG, None)
    assert "ExecutionTimeout: a handler" in fault.traceback


def test_the_exception_of_what_was_ended_says_its_limit(bench: LimitBench) -> None:
    """`LimitInterrupt`: "source: ... the path of the component whose limit it was; limit: which
    was exceeded"."""
    ref = bench.started(time_limit=SHORT)
    cause: Any = failed(ref, nap, 1.0)[0]
    assert (cause.limit, cause.source) == (SHORT, ref.path)


@pytest.mark.usefixtures("patient")
def test_a_benign_hang_is_not_the_kind_of_a_later_fault(bench: LimitBench) -> None:
    """B-84: Given a hang that is declared to be benign, and later an `on_stop` that raises, then
    that is an exception and no hang."""
    hooks = {"stop": fail_in_hook}
    factory = partial(BenignWhenLate, "default", None, from_snapshot, hooks)
    ref = bench.started(factory=factory, time_limit=SHORT)
    with pytest.raises(ComponentFaultError):
        ref.ask(Do(spin, (10.0,)), timeout=LIMIT)
    assert ref.incarnation == 1
    with pytest.raises(ComponentFaultError):
        bench.system.stop(ref).result(LIMIT)
    fault = bench.fault(ref)
    assert (fault.phase, fault.kind) == (Phase.STOP, FaultKind.EXCEPTION)


# -- standby and overlap ---------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"standby": True}, {"overlap": True}], ids=str)
def test_hangs_with_a_standby_or_an_overlap(bench: LimitBench, options: Mapping[str, Any]) -> None:
    """B-84: Given hangs one after the other, with a standby process or overlapping ends, then each
    is recovered from the last save, in a new process, and no process is left."""
    ref = bench.started(time_limit=SHORT, **options)
    pids = []
    for number in range(3):
        ref.ask(Do(save, (number,)), timeout=LIMIT)
        pids.append(ref.ask(Do(where), timeout=LIMIT))
        assert in_time(failed(ref, (spin, nap, hold)[number], 5.0)[1], SHORT)
        bench.recovered(ref, number + 2)
        assert ref.ask(Get(), timeout=LIMIT) == number
    assert len(set(pids)) == 3
    bench.until(lambda: all(map(is_gone, pids)))
    pid = ref.ask(Do(where), timeout=LIMIT)
    bench.system.kill(ref).result(LIMIT)
    bench.until(lambda: is_gone(pid))


def test_a_standby_that_waits_has_no_limit(bench: LimitBench) -> None:
    """Given a standby that waits for longer than the limit, then it is there when it is needed."""
    ref = bench.started(time_limit=SHORT, standby=True)
    bench.until(lambda: ref._cell._standby is not None)
    bench.pass_time(3 * SHORT)
    standby = ref._cell._standby
    failed(ref, nap, 1.0)
    bench.recovered(ref)
    assert ref.ask(Do(where), timeout=LIMIT) == standby.pid


# -- memory ----------------------------------------------------------------------------------


def test_memory_is_that_of_the_component_alone(bench: LimitBench) -> None:
    """B-85, docs/limits.md: "With `backend="process"` it is exactly the component's own": given
    this process and a sibling that use more than the limit, then the component does not fault."""
    held = b"\1" * (200 << 20)
    sibling = bench.started()
    used = sibling.ask(Do(resident), timeout=LIMIT)
    sibling.ask(Do(grow_at_once, (200,)), timeout=LIMIT)
    limit = used + (100 << 20)
    assert memory_use("resident").read() > limit
    ref = bench.started(memory_limit=limit)
    ref.ask(Do(grow, (30,)), timeout=LIMIT)
    assert ref.ask(Do(spin, (0.2,)), timeout=LIMIT) == "spun"
    assert ref.incarnation == 1
    del held
    cause, _ = failed(ref, grow, 4000)
    assert isinstance(cause, MemoryLimitExceeded)
    fault = bench.fault(ref)
    assert fault.kind is FaultKind.MEMORY
    assert fault.location.endswith("in grow")
    bench.recovered(ref)
    assert (sibling.ask(Get(), timeout=LIMIT), sibling.incarnation) == ("default", 1)


def test_memory_taken_in_native_code_ends_the_process(bench: LimitBench) -> None:
    """B-85: Given one call into C that takes far more than the limit, and longer than the grace,
    then its process is ended before that is done."""
    used = bench.started().ask(Do(resident), timeout=LIMIT)
    limit = used + (50 << 20)
    ref = bench.started(memory_limit=limit)
    cause, _ = failed(ref, grow_at_once, 1500)
    assert isinstance(cause, MemoryLimitExceeded)
    fault = bench.fault(ref)
    assert fault.kind is FaultKind.MEMORY
    assert fault.message == Do(grow_at_once, (1500,))
    bench.recovered(ref)
    assert ref.ask(Get(), timeout=LIMIT) == "default"


@pytest.mark.xfail(strict=True, reason="it is ended while it is idle")
def test_memory_is_looked_at_while_a_message_is_handled(bench: LimitBench) -> None:
    """Docstring of `create`: "if its process uses more while it handles a message": given one that
    has taken too much in `on_start`, and then is idle, nothing happens to it."""
    used = bench.started().ask(Do(resident), timeout=LIMIT)
    hooks = {"start": partial(grow_at_once, size=150)}
    ref = bench.started(memory_limit=used + (50 << 20), hooks=hooks)
    bench.pass_time(1.0)
    assert ref.incarnation == 1
    assert bench.of(events.ComponentFaulted, ref) == []
