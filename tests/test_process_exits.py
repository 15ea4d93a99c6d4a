"""Is the end of a process told as it was, and "oom" on evidence only?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kompyct.processes.exits import OomWitness, ProcessExit, from_code, from_status


def ended(*command: str) -> tuple[int, int]:
    """Run a program of Python; its pid, and what `os.waitpid` said."""
    child = subprocess.Popen([sys.executable, "-c", *command])
    pid, status = os.waitpid(child.pid, 0)
    child.returncode = 0  # it has been waited for
    return pid, status


def test_an_exit_has_its_code() -> None:
    """Given a child that exits with 3, then the code is 3 and there is no signal."""
    pid, status = ended("import os; os._exit(3)")
    found = from_status(pid, status)
    assert found == ProcessExit(pid, 3, None, "exit")
    assert str(found) == f"process {pid} exited with code 3"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM", "SIGABRT"])
def test_a_signal_has_its_number_and_name(name: str) -> None:
    """B-86: Given a child ended by signal n, then n is told, and there is no exit code."""
    pid, status = ended(f"import os, signal; os.kill(os.getpid(), signal.{name})")
    found = from_status(pid, status)
    assert found == ProcessExit(pid, None, getattr(signal, name), "signal")
    assert str(found) == f"process {pid} was ended by {name}"


def test_a_real_time_signal_has_its_number() -> None:
    """Given a signal without a name of its own, then its number is told."""
    assert str(from_code(7, -40)) == "process 7 was ended by signal 40"


def test_an_end_that_nobody_saw_is_told_as_such() -> None:
    """Given neither code nor signal, then no guess is made."""
    assert str(ProcessExit(7, None, None, "exit")) == "process 7 has ended, nobody knows how"


def test_out_of_memory_is_believed_of_a_kill_only() -> None:
    """RELIABILITY 1: Given a counter that has grown, then only SIGKILL may have been that."""
    killed = from_code(7, -signal.SIGKILL, oom=True)
    assert killed.cause == "oom"
    assert str(killed) == "process 7 was killed for want of memory"
    assert from_code(7, -signal.SIGSEGV, oom=True).cause == "signal"
    assert from_code(7, 137, oom=True).cause == "exit"
    assert from_code(7, -signal.SIGKILL).cause == "signal"


@pytest.mark.parametrize(
    "text",
    [
        "low 0\nhigh 3\nmax 9\noom 5\noom_kill {}\n",
        "oom_kill_disable 0\nunder_oom 1\noom_kill {}\n",
    ],
    ids=["version 2", "version 1"],
)
def test_a_witness_sees_the_counter_grow_once(tmp_path: Path, text: str) -> None:
    """Given the files of either version, then each growth of `oom_kill` is told at one look."""
    counter = tmp_path / "counter"
    counter.write_text(text.format(4))
    witness = OomWitness([str(counter)])
    assert not witness.saw_a_kill()
    counter.write_text(text.format(5))
    assert witness.saw_a_kill()
    assert not witness.saw_a_kill()


def test_a_witness_without_a_counter_sees_nothing(tmp_path: Path) -> None:
    """Given a counter that is not there, or says something else, then nothing is claimed."""
    counter = tmp_path / "counter"
    witness = OomWitness([str(counter)])
    assert not witness.saw_a_kill()
    counter.write_text("oom_kill many\n")
    assert not witness.saw_a_kill()
    assert not OomWitness([]).saw_a_kill()


def test_the_counter_of_this_process_is_found() -> None:
    """Given control groups for memory, then there is a counter, and nobody was killed just now."""
    groups = Path("/proc/self/cgroup").read_text() if Path("/proc/self/cgroup").exists() else ""
    if ":memory:" not in groups:
        pytest.skip("there is no control group for memory of version 1 here")
    witness = OomWitness()
    assert witness._counters
    assert not witness.saw_a_kill()
