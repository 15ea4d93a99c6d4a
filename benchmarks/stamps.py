"""When did something happen in another process?

The monotonic clock is the same in all processes of a Linux machine, so that a time which one
process has written just before it died can be taken from the time at which another noticed.
"""

from __future__ import annotations

import mmap
import os
from time import monotonic_ns

_TIME_BYTES = 8


def new_stamp() -> str:
    """A path that opens the same memory in every process, as long as this one lives."""
    descriptor = os.memfd_create("stamp", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _TIME_BYTES)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


class Stamp:
    """A time in nanoseconds that is shared by all who open the same path."""

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._memory = mmap.mmap(descriptor, _TIME_BYTES)
        finally:
            os.close(descriptor)
        self.write()  # so that the page is there when it counts

    def write(self) -> None:
        """Set it to now."""
        self._memory[:] = monotonic_ns().to_bytes(_TIME_BYTES, "little")

    def read(self) -> int:
        """What was written last."""
        return int.from_bytes(self._memory[:], "little")
