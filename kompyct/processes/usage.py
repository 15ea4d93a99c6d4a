"""How much memory does a process use? Read at a microsecond a time, from files kept open."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import cache
from typing import Literal, get_args

from kompyct.errors import ArgumentError
from kompyct.processes.groups import find_files
from kompyct.processes.identity import resident_bytes

MemoryKind = Literal["resident", "unique", "cgroup"]
"""What is counted: `resident`, the pages in memory, those shared with other processes included;
`unique`, those that no other process shares, which takes longer to find out the more there are;
`cgroup`, what the control group uses, for which the kernel kills: all its processes together."""

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)


MAX_GROWTH = 4_000_000_000
"""Bytes a second by which memory is taken to grow at most: this sets how often it is looked at."""

SHORTEST, LONGEST = 1_000_000, 500_000_000
"""Nanoseconds between two looks."""


def until_next_look(headroom: int) -> int:
    """Nanoseconds in which a process cannot have taken so many more bytes, 1 to 500 ms."""
    return min(max(headroom * 1_000_000_000 // MAX_GROWTH, SHORTEST), LONGEST)


class MemoryUse:
    """Reads how much memory a process uses.

    Args:
        pid: of the process; None for this one, also after a fork.

    Raises:
        ArgumentError: there is no such kind, or this platform does not tell.
    """

    _close = staticmethod(os.close)

    def __init__(self, kind: MemoryKind = "resident", pid: int | None = None) -> None:
        self._open = (-1, -1)  # whose file is open, and its descriptor
        if kind not in get_args(MemoryKind):
            raise ArgumentError(f"the memory kind is {kind!r}; give one of {get_args(MemoryKind)}")
        self.kind = kind
        self._parse = _PARSERS[kind]
        self._wanted = pid
        self.read()  # or say now that it cannot be

    def read(self) -> int:
        """The bytes it uses now; 0 if it has ended. For any thread.

        Raises:
            ArgumentError: this platform does not tell.
        """
        pid = self._wanted or os.getpid()
        opened, descriptor = self._open
        if opened != pid:  # a fork was here, or this is the first time
            descriptor = self._descriptor_for(pid)
            self._open = (pid, descriptor)  # what the parent had open stays so: it may be in use
        if descriptor < 0:
            return resident_bytes(pid)  # there is no /proc, as on macOS and Windows
        try:
            return self._parse(os.pread(descriptor, 4096, 0))
        except OSError as error:
            if error.errno == errno.ESRCH:
                return 0
            raise

    def close(self) -> None:
        """Let the file go; by whoever is the last to use it."""
        (_, descriptor), self._open = self._open, (-1, -1)
        if descriptor >= 0:
            # When the interpreter ends, `suppress` and `os` may be gone before this is.
            try:  # noqa: SIM105
                self._close(descriptor)
            except OSError:
                pass

    def __del__(self) -> None:
        self.close()

    def _descriptor_for(self, pid: int) -> int:
        path = f"/proc/{pid}/statm"
        if self.kind == "unique":
            path = f"/proc/{pid}/smaps_rollup"
        elif self.kind == "cgroup":
            files = find_files("memory.current", "memory.usage_in_bytes", os.path.isfile)
            if not files:
                raise ArgumentError(
                    "the control group of this process does not tell how much memory it uses; "
                    "count 'resident' instead"
                )
            path = files[0]
        try:
            return os.open(path, _FLAGS)
        except OSError as error:
            if self.kind == "unique":
                raise ArgumentError(
                    f"the memory that no other process shares is told by {path}, which cannot "
                    f"be read ({error.strerror}); count 'resident' instead"
                ) from error
            if os.path.exists("/proc/self/statm") and self._wanted is None:
                raise  # no descriptors are left
        return -1


@cache
def memory_use(kind: MemoryKind) -> MemoryUse:
    """What reads that kind of memory of this process; all who want to know share its open file."""
    return MemoryUse(kind)


def _statm(data: bytes) -> int:
    return int(data.split(None, 2)[1]) * _PAGE


def _rollup(data: bytes) -> int:
    total = 0
    for line in data.splitlines():
        if line.startswith(b"Private_"):
            total += int(line.split()[1]) * 1024
    return total


_PARSERS: dict[str, Callable[[bytes], int]] = {
    "resident": _statm,
    "unique": _rollup,
    "cgroup": int,
}
