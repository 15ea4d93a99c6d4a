"""What has a harness left behind: processes, descriptors, threads, files, memory?"""

from __future__ import annotations

import ctypes
import gc
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.harness.store.figures import Figures

GAIN = 5_000_000
"""Bytes that this process may gain."""


@dataclass(frozen=True, slots=True)
class Left:
    """What there was at a moment; `shared` are mappings of nameless memory."""

    processes: frozenset[int]
    descriptors: int
    shared: int
    temporaries: frozenset[str]
    threads: int

    @classmethod
    def now(cls) -> Left:
        """What there is."""
        gc.collect()
        return cls(
            frozenset(descendants()),
            len(os.listdir("/proc/self/fd")),
            Path("/proc/self/maps").read_text(encoding="ascii").count("memfd:kompyct"),
            frozenset(os.listdir(tempfile.gettempdir())),
            threading.active_count(),
        )

    def expect_no_more(self, figures: Figures) -> None:
        """Note what has come to be left; threads and processes have 2 s to end."""
        until = time.monotonic() + 2
        now = Left.now()
        while not self.covers(now) and time.monotonic() < until:
            time.sleep(0.02)
            now = Left.now()
        figures.expect(self.covers(now), f"left behind: {now}, and before: {self}")

    def covers(self, other: Left) -> bool:
        """Whether `other` has nothing that this has not."""
        return (
            other.processes <= self.processes
            and other.descriptors <= self.descriptors
            and other.shared <= self.shared
            and other.temporaries <= self.temporaries
            and other.threads <= self.threads
        )


def descendants(*, zombies: bool = True) -> list[int]:
    """The numbers of all processes that come from this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if zombies or process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def zombies() -> int:
    """How many of them have ended and were not waited for."""
    return len(descendants()) - len(descendants(zombies=False))


def own_memory() -> int:
    """Bytes of this process that are its own: not of mapped files, nor kept by the allocator."""
    gc.collect()
    # Each thread has had an arena of its own: 23 MB of nothing after ten rounds of `soak`.
    ctypes.CDLL(None).malloc_trim(0)
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return psutil.Process().memory_info().rss


def wait_until(holds: Callable[[], Any], seconds: float) -> bool:
    """Look often; whether it came to hold in time."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.0005)
    return True
