"""What of a child that dies, and is not gone yet: it is known early, and its successor waits."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kompyct import State, events
from kompyct.errors import ProcessExitError
from kompyct.processes.child import Child
from kompyct.processes.dying import DeathWatch
from kompyct.processes.exits import ProcessExit
from tests.conftest import LIMIT
from tests.process import components
from tests.process.components import Do, Get, Notes, again
from tests.process.conftest import ProcessBench, do

LARGE = 300_000_000
"""Bytes that it takes the kernel milliseconds to free."""


def grow(component: Any) -> int:
    """Hold that much; the number of the process."""
    component.held = b"x" * LARGE
    return os.getpid()


def become_another(component: Any, *command: str) -> None:
    os.execv(command[0], command)


def look_back(notes: Notes, component: Any) -> None:
    """Note what is left of the process noted last, its state or "gone"; and the number of this."""
    for pid in [line for line in notes.lines() if line.isdigit()][-1:]:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
            notes.add(stat.rpartition(")")[2].split()[0])
        except FileNotFoundError:
            notes.add("gone")
    notes.add(os.getpid())


def note_pid(notes: Notes, component: Any) -> None:
    """Note the number of this process."""
    notes.add(os.getpid())


def _watched(bench: ProcessBench, ref: Any) -> None:
    """Wait until the death of its process is watched."""
    deaths = bench.system._runtime.backend_of("process")._reaper._deaths
    child = ref._cell.component.child
    bench.until(lambda: any(entry[0] is child for entry in deaths._watched))


@pytest.mark.parametrize("overlap", [False, True])
def test_a_large_process_that_is_killed_is_recovered_once(
    bench: ProcessBench, overlap: bool
) -> None:
    """RELIABILITY.md 1 (process): with the exact cause, though it is not gone by then."""
    ref = bench.started(1, recovery=again, overlap=overlap)
    for count in range(1, 4):
        pid = do(ref, grow)
        _watched(bench, ref)
        os.kill(pid, signal.SIGKILL)
        fault = bench.fault(ref, count)
        assert isinstance(fault.exception, ProcessExitError)
        assert fault.exit == ProcessExit(pid, None, signal.SIGKILL, "signal")
        bench.event_of(events.ComponentRecovered, ref, count)
    assert ref.ask(Get(), timeout=LIMIT) == 1
    assert ref.incarnation == 4
    assert len(bench.events_of(events.ComponentFaulted, ref)) == 3


@pytest.mark.parametrize("standby", [False, True])
def test_a_successor_is_made_when_its_predecessor_is_gone(
    bench: ProcessBench, notes: Notes, standby: bool
) -> None:
    """S-31: never two at the same time, unless `overlap=True`; what it held may be needed, by its
    factory as well."""
    hooks = {"init": partial(look_back, notes)}
    ref = bench.started(1, recovery=again, hooks=hooks, standby=standby)
    for count in range(1, 6):
        pid = do(ref, grow)
        _watched(bench, ref)
        os.kill(pid, signal.SIGKILL)
        bench.event_of(events.ComponentRecovered, ref, count)
    states = [line for line in notes.lines() if not line.isdigit()]
    assert len(states) == 5
    assert set(states) <= {"Z", "gone"}  # a zombie holds nothing


def test_a_kill_does_not_wait_for_a_predecessor_that_does_not_go(
    make_bench: Any, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-01: as of one that writes its core to a disk that hangs; it is not waited for any more."""
    bench = make_bench()
    ref = bench.started(1, notes, recovery=again, hooks={"init": partial(note_pid, notes)})
    pid = do(ref, grow)
    _watched(bench, ref)
    child = ref._cell.component.child
    be_gone = Child.be_gone
    monkeypatch.setattr(Child, "be_gone", lambda one: None if one is child else be_gone(one))
    os.kill(pid, signal.SIGKILL)
    bench.until(lambda: ref._cell.newest.child.pid not in (None, pid))
    bench.system.kill(ref).result(LIMIT)
    assert ref.state is State.DESTROYED
    assert notes.lines() == [str(pid), "start"]  # its successor was neither made nor started


def test_a_kill_is_done_when_what_was_dying_is_gone(bench: ProcessBench, notes: Notes) -> None:
    """S-01: who hears that a component has ended may take what it held."""
    for _ in range(3):
        ref = bench.started(1)
        pid = do(ref, grow)
        _watched(bench, ref)
        os.kill(pid, signal.SIGKILL)
        bench.event_of(events.ComponentEnded, ref)
        state = Path(f"/proc/{pid}/stat")
        with suppress(FileNotFoundError):
            assert state.read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"


def cut_off(component: Any) -> None:
    """Shrink whatever can be shrunk, as with a descriptor that has become another's."""
    for descriptor in range(3, 40):
        with suppress(OSError):
            os.ftruncate(descriptor, 0)


def test_shared_memory_cannot_be_cut_off(bench: ProcessBench) -> None:
    """RELIABILITY.md 1 (process): the program would end by SIGBUS when it looks there."""
    ref = bench.started(1, recovery=again)
    do(ref, cut_off)
    assert ref.ask(Get(), timeout=LIMIT) == 1
    os.kill(do(ref, components.pid), signal.SIGKILL)
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get(), timeout=LIMIT) == 1


def test_one_that_becomes_another_program_is_ended(bench: ProcessBench) -> None:
    """It gives its mutex back, and is not taken for dead: only when it is."""
    ref = bench.started(1, recovery=again)
    _watched(bench, ref)
    ref.tell(Do(become_another, ("/bin/sleep", "60")))
    fault = bench.fault(ref)
    assert fault.exit is not None
    assert (fault.exit.signal, fault.exit.cause) == (signal.SIGKILL, "signal")
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get(), timeout=LIMIT) == 1


@pytest.mark.parametrize("action", [partial(components.leave, code=3), components.segfault])
def test_without_an_early_notice_the_cause_is_the_same(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch, action: Any
) -> None:
    """An old kernel, or another C library: the pidfd tells, later."""
    monkeypatch.setattr(DeathWatch, "watch", lambda self, about, memory: True)
    bench = make_bench()
    ref = bench.started(1, recovery=again)
    pid = do(ref, components.pid)
    ref.tell(Do(action))
    fault = bench.fault(ref)
    code, number = (None, signal.SIGSEGV) if action is components.segfault else (3, None)
    assert fault.exit is not None
    assert (fault.exit.pid, fault.exit.code, fault.exit.signal) == (pid, code, number)
    bench.event_of(events.ComponentRecovered, ref)
    os.kill(do(ref, components.pid), signal.SIGKILL)
    assert bench.fault(ref, 2).exit.signal == signal.SIGKILL
    bench.event_of(events.ComponentRecovered, ref, 2)
