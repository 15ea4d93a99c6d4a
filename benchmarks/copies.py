"""How long does it take to copy a process and to come back?"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Mapping
from time import perf_counter_ns

from benchmarks import alone
from benchmarks.measure import check
from benchmarks.plan import MILLISECONDS, Case, Group, Row, at_most
from kompyct.fork import process_snapshot

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


def round_trips(size: int) -> Mapping[str, float]:
    """What `measure` says in a process without the threads that other cases' packages start."""
    return alone.median_ms(__name__, size)


def measure(size: int) -> Mapping[str, list[int]]:
    """The times in ns until the original goes on, the copy having ended at once.

    The process holds `size` MB, a quarter of it in small objects. Both ways are gone by turns in
    it, so that what the one does to its memory would show in the other.
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
    return times


GROUP = Group(
    "Process snapshots",
    (
        Row(
            "copy",
            "process snapshot and back, 1 GB resident",
            "copy",
            None,
            MILLISECONDS,
            ("kompyct",),
            ("os.fork",),
            (at_most(1.2, "kompyct", "os.fork"),),
        ),
    ),
    {"copy": Case(round_trips, 1024)},
)

if __name__ == "__main__":
    alone.tell(measure(int(sys.argv[1])))
