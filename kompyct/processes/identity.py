"""Is a process the one it was, or has another one taken its number?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, told from every other that has had its number or will.

    Attributes:
        pid: its number.
        started: when it started, in the words of the platform; on Linux with which boot of the
            machine, since a clock may be set but a boot cannot come back.
    """

    pid: int
    started: str

    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        return identity_of(self.pid) == self


def identity_of(pid: int) -> ProcessIdentity | None:
    """The process that has this number now; None if there is none, or it cannot be told."""
    started = _started_on_linux(pid) if os.path.exists("/proc/self/stat") else _started(pid)
    return None if started is None else ProcessIdentity(pid, started)


def _started_on_linux(pid: int) -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may hold anything; after it come the state and 18 more, then when
    # it started, in ticks since the boot.
    words = told.rpartition(")")[2].split()
    return None if words[0] in "ZX" else f"{boot}/{words[19]}"


def _started(pid: int) -> str | None:
    import psutil  # where there is no /proc only

    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def resident_bytes(pid: int) -> int:
    """The resident memory of a process, where there is no /proc; 0 if it has ended."""
    import psutil  # where there is no /proc only

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
