"""How long does it take to copy a process and to come back?"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from time import perf_counter_ns

from benchmarks.measure import check
from benchmarks.plan import MILLISECONDS, Case, Group, Row, at_most
from kompyct.fork import process_snapshot

CASE_TIMEOUT = 120.0  # seconds
_ROUNDS = 21
_MEGABYTE = 2**20
_OBJECT_BYTES = 96
"""What a list of one number takes, with the collector's part and its place in the outer list."""


def _by_fork() -> int:
    copy = os.fork()
    if not copy:
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])


def _by_snapshot() -> int | None:
    here = process_snapshot()
    if here:
        os._exit(0)
    return here.exit_code


WAYS: Mapping[str, Callable[[], int | None]] = {"kompyct": _by_snapshot, "os.fork": _by_fork}


def round_trip(way: str, size: int) -> Mapping[str, float]:
    """What `measure` says in a process without the threads that other cases' packages start."""
    command = [sys.executable, "-m", "benchmarks.copies", way, str(size)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=CASE_TIMEOUT)
    return {"p50": float(done.stdout)}


def measure(way: str, size: int) -> float:
    """The median time in ms until the original goes on, the copy having ended at once.

    The process holds `size` MB, a quarter of it in small objects. Both ways are gone by turns in
    it, so that what the one does to its memory would show in the other; one is told.
    """
    gc.disable()  # while the objects are made: they are not garbage
    objects = [[number] for number in range(size * _MEGABYTE // 4 // _OBJECT_BYTES)]
    rest = b"x" * (size * _MEGABYTE * 3 // 4)
    gc.enable()
    times: dict[str, list[int]] = {name: [] for name in WAYS}
    for _ in range(_ROUNDS):
        for name, copy in WAYS.items():
            start = perf_counter_ns()
            code = copy()
            times[name].append(perf_counter_ns() - start)
            check(1 if code == 0 else 0, 1)
    check(len(objects) > 0 and len(rest) > 0, True)
    return median(times[way]) / 1e6


GROUP = Group(
    "Process snapshots",
    (
        Row(
            "copy",
            "process snapshot and back, 1 GB resident",
            "copy",
            "p50",
            MILLISECONDS,
            ("kompyct",),
            ("os.fork",),
            (at_most(1.2, "kompyct", "os.fork"),),
        ),
    ),
    {f"copy/{way}": Case(partial(round_trip, way), 1024) for way in WAYS},
)

if __name__ == "__main__":
    print(measure(sys.argv[1], int(sys.argv[2])))
