"""How did a process end, and was it the kernel that ended it for want of memory?

"oom" is said on evidence only: the process died of SIGKILL, and the control group's own counter of
such kills has grown.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from kompyct.processes.groups import find_files

Cause = Literal["exit", "signal", "oom"]


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """The end of a process.

    Attributes:
        pid: what its number was; by now it may be another process's.
        code: its exit code, 0 to 255; None if a signal ended it, or if nobody knows.
        signal: the signal that ended it; None if it exited, or if nobody knows.
        cause: "oom" if the kernel killed it for want of memory and says so.
    """

    pid: int
    code: int | None
    signal: int | None
    cause: Cause

    def __str__(self) -> str:
        if self.cause == "oom":
            return f"process {self.pid} was killed for want of memory"
        if self.signal is not None:
            return f"process {self.pid} was ended by {_name_of(self.signal)}"
        if self.code is None:
            return f"process {self.pid} has ended, nobody knows how"
        return f"process {self.pid} exited with code {self.code}"


def from_status(pid: int, wait_status: int, *, oom: bool = False) -> ProcessExit:
    """What `os.waitpid` said.

    Args:
        wait_status: the second of what it returned, of a process that has ended.
        oom: whether an `OomWitness` saw a kill; it is believed of SIGKILL only.
    """
    return from_code(pid, os.waitstatus_to_exitcode(wait_status), oom=oom)


def from_code(pid: int, code: int, *, oom: bool = False) -> ProcessExit:
    """What `multiprocessing` and `subprocess` say: an exit code, or minus a signal."""
    if code >= 0:
        return ProcessExit(pid, code, None, "exit")
    killed = code == -signal.SIGKILL
    return ProcessExit(pid, None, -code, "oom" if oom and killed else "signal")


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def status_of_dead(pid: int) -> int | None:
    """How a process ended that nobody has reaped yet, as `os.waitpid` says; None if unknown.

    Also of one that is still being taken apart. Unknown is an exit with code 0: the kernel says 0
    as well to whom it does not want to tell, and of a process that lives on.
    """
    try:
        if not _is_own_namespace(os.getpid()):
            return None
        fields = _start_of(f"/proc/{pid}/stat").rpartition(b") ")[2].split()  # from the third on
    except OSError:
        return None
    if len(fields) <= _EXIT_CODE or fields[0] in _STOPPED:
        return None
    status = int(fields[_EXIT_CODE])
    return None if status in _STOPS else status or None


_STOPPED = (b"T", b"t")
_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
"""Of a process that is stopped, the field has the signal that did so."""


@lru_cache(maxsize=1)
def _is_own_namespace(pid: int) -> bool:
    """Whether /proc is that of this process, `pid`, and not of another namespace, where other
    processes have the numbers that are known here."""
    return os.readlink("/proc/self") == str(pid)


def _start_of(path: str) -> bytes:
    """The first bytes of a file, many more than are needed.

    Without the layers of text and buffers: a process has died, and somebody waits for this.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 1 << 14)
    finally:
        os.close(descriptor)


_EXIT_CODE = 52 - 3
"""Where that is among them; see proc_pid_stat(5)."""


class OomWitness:
    """Reads how often the kernel has killed for want of memory in this process's control group.

    Not thread-safe. Where there is no such counter it sees nothing, ever.

    Args:
        counters: files with a line `oom_kill N`; None finds those of this process.
    """

    def __init__(self, counters: Sequence[str] | None = None) -> None:
        self._counters = _own_counters() if counters is None else tuple(counters)
        self._seen = self._read()

    def saw_a_kill(self) -> bool:
        """Whether there was one since the last look, or since this witness was made."""
        before, self._seen = self._seen, self._read()
        return any(now > old for now, old in zip(self._seen, before, strict=True))

    def _read(self) -> tuple[int, ...]:
        return tuple(_kills_in(path) or 0 for path in self._counters)


def _kills_in(path: str) -> int | None:
    with suppress(OSError, ValueError):
        for line in _start_of(path).splitlines():
            name, _, count = line.partition(b" ")
            if name == b"oom_kill":
                return int(count)
    return None


def _own_counters() -> tuple[str, ...]:
    return find_files(
        "memory.events", "memory.oom_control", lambda path: _kills_in(path) is not None
    )
