"""Does the child that is made ahead serve whoever needs the next one, and nobody else?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from typing import Any

import pytest

import kompyct.processes.spare
from kompyct.processes.exits import status_of_dead
from tests.conftest import LIMIT
from tests.process import components
from tests.process.components import Get, from_snapshot
from tests.process.conftest import do, spare_of


def test_the_next_component_takes_the_spare_child(make_bench: Any) -> None:
    """Given a system with a component, then the next one runs in the process that was ready, and
    another becomes ready."""
    bench = make_bench()
    bench.started(1)
    spare = spare_of(bench)
    ref = bench.started(2)
    assert do(ref, components.pid) == spare.pid
    assert spare_of(bench) is not spare


def test_the_next_incarnation_takes_the_spare_child(make_bench: Any) -> None:
    """Given a process that is killed, then the component goes on in the spare one."""
    bench = make_bench()
    ref = bench.started(7, recovery=from_snapshot)
    spare = spare_of(bench)
    os.kill(do(ref, components.pid), signal.SIGKILL)
    bench.fault(ref)
    bench.until(lambda: ref.incarnation == 2 and ref.state.value == "active")
    assert do(ref, components.pid) == spare.pid


def test_a_standby_is_one_more_process(make_bench: Any) -> None:
    """Given `standby=True`, then there are the component's process, its standby, and a spare one,
    though nobody says anything after the standby was taken from what was ready."""
    bench = make_bench()
    bench.started(1, recovery=from_snapshot, standby=True)
    backend = bench.system._runtime.backend_of("process")
    bench.until(lambda: len(backend._children) == 3)
    assert spare_of(bench)


def test_a_child_ordered_just_before_the_end_is_not_waited_for(make_bench: Any) -> None:
    """Given a child that is there only when the system ends, then it is ended at once."""
    bench = make_bench()
    ref = bench.started(1)
    spare_of(bench)
    bench.system.kill(ref).result(LIMIT)
    backend = bench.system._runtime.backend_of("process")
    zygote = backend._starter._process.pid
    os.kill(zygote, signal.SIGSTOP)
    backend._spare.take()
    child = backend.new_child()
    threading.Timer(0.2, os.kill, (zygote, signal.SIGCONT)).start()
    began = time.monotonic()
    bench.system.shutdown()
    assert time.monotonic() - began < 0.9  # a second is what `_end_all` has for it
    assert child.pid is not None
    assert child.gone.settled()


def test_a_rehearsal_leaves_nothing_behind(make_bench: Any) -> None:
    """Given a component in the process that has rehearsed, then its messages, saves and position
    are its own: a kill finds the last save, and nothing older."""
    bench = make_bench()
    bench.started(1)
    spare = spare_of(bench)
    assert spare.saves.newest() == 0
    assert not any(spare.board.numbers[8:])
    ref = bench.started(5, recovery=from_snapshot)
    do(ref, components.save, 9)
    os.kill(do(ref, components.pid), signal.SIGKILL)
    fault = bench.fault(ref)
    assert fault.snapshot == 9
    assert fault.older_snapshots == (5,)
    assert fault.message is None


@pytest.mark.parametrize("what", ["spare", "standby"])
def test_a_child_that_dies_before_it_is_used_is_replaced(make_bench: Any, what: str) -> None:
    """Given a process that is killed while it waits to be needed, and needed before that is seen,
    then another one takes its place, and nobody has faulted."""
    bench = make_bench()
    other = bench.started(1, recovery=from_snapshot, standby=what == "standby")
    backend = bench.system._runtime.backend_of("process")
    spare = spare_of(bench)
    cell = other._cell
    if what == "standby":
        bench.until(lambda: cell._standby is not None and cell._standby.pid is not None)
        spare = cell._standby
    asleep, go_on = threading.Event(), threading.Event()

    def sleep() -> None:
        asleep.set()
        go_on.wait(LIMIT)

    backend.post(sleep)  # it sees no end meanwhile
    assert asleep.wait(LIMIT)
    os.kill(spare.pid, signal.SIGKILL)
    bench.until(lambda: status_of_dead(spare.pid) == signal.SIGKILL)
    made: list[Any] = []
    if what == "spare":
        creating = threading.Thread(target=lambda: made.append(bench.started(2)), daemon=True)
        creating.start()
        bench.until(lambda: spare.was_made_ahead)
        go_on.set()
        creating.join(LIMIT)
        assert do(made[0], components.pid) != spare.pid
    else:
        go_on.set()
        os.kill(do(other, components.pid), signal.SIGKILL)
        bench.until(lambda: other.incarnation == 2 and other.state.value == "active")
        assert do(other, components.pid) != spare.pid
        assert other.ask(Get(), timeout=LIMIT) == 1


def test_a_spare_child_that_ends_is_replaced(make_bench: Any, monkeypatch: Any) -> None:
    """docs/processes.md: Given the process in reserve is killed, then there is another, though
    nobody has needed one."""
    monkeypatch.setattr(kompyct.processes.spare, "AGAIN", 0.05)
    bench = make_bench()
    bench.started(1)
    spare = spare_of(bench)
    os.kill(spare.pid, signal.SIGKILL)
    bench.until(lambda: bench.system._runtime.backend_of("process")._spare._child is not spare)
    assert spare_of(bench).pid != spare.pid
    assert spare.is_discarded


def test_a_spare_child_has_one_thread_when_it_is_needed(make_bench: Any) -> None:
    """As a child that is made when it is needed: a factory may do what needs such a process."""
    bench = make_bench()
    bench.started(1)
    assert len(os.listdir(f"/proc/{spare_of(bench).pid}/task")) == 1
    ref = bench.started(2)
    bench.until(lambda: len(os.listdir(f"/proc/{do(ref, components.pid)}/task")) == 2)


def test_a_kill_while_the_spare_child_does_not_answer_is_no_reason_for_another(
    make_bench: Any, make_gate: Any
) -> None:
    """Given a component that is to begin in a spare process that is stopped, and is killed, then
    that is its end: its factory does not run once more."""
    bench = make_bench()
    armed, reached = make_gate(), make_gate()
    hooks = {"init": partial(components.hang_if, armed, reached)}
    ref = bench.started(1, recovery=from_snapshot, hooks=hooks)
    spare = spare_of(bench)
    armed.open()
    os.kill(spare.pid, signal.SIGSTOP)
    os.kill(do(ref, components.pid), signal.SIGKILL)
    bench.until(lambda: spare.was_made_ahead)
    bench.system.kill(ref, brutal=True).result(LIMIT)
    assert not reached.is_open


def test_the_spare_child_ends_with_its_system(make_bench: Any) -> None:
    """Given a shutdown, then the process that was ready is gone as well."""
    bench = make_bench()
    bench.started(1)
    spare = spare_of(bench)
    pid = spare.pid
    bench.system.shutdown()
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize(("code", "told"), [(0, None), (3, 3 << 8)])
def test_how_a_process_ended_can_be_read_of_its_zombie(code: int, told: int | None) -> None:
    """proc_pid_stat(5): the status as waitpid tells it; of 0 nothing is concluded."""
    pid = os.fork()
    if not pid:
        os._exit(code)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert status_of_dead(pid) == told
    finally:
        os.waitpid(pid, 0)
    assert status_of_dead(pid) is None


TRACER = """
import ctypes, sys
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
PTRACE_SEIZE = 0x4206
print(ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None), flush=True)
sys.stdin.read()
"""


def test_a_debugger_that_holds_the_dead_does_not_hold_up_the_living(make_bench: Any) -> None:
    """ptrace(2): a traced process that has ended is its tracer's until that waits for it. Given a
    component that dies so, then others are made as ever, and nobody else loses its process."""
    bench = make_bench()
    ref, other = bench.started(1), bench.started(2)
    pid, own = do(ref, components.pid), do(other, components.pid)
    with subprocess.Popen(
        [sys.executable, "-c", TRACER, str(pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as tracer:
        assert tracer.stdout is not None
        if tracer.stdout.readline() != b"0\n":
            pytest.skip("this user may not trace")
        os.kill(pid, signal.SIGKILL)
        bench.ended(ref)
        for number in range(3):
            assert do(bench.started(number), components.pid) > 0
        assert do(other, components.pid) == own
        tracer.kill()
    bench.until(lambda: not os.path.exists(f"/proc/{pid}"))
