"""How are times and memory taken?"""

from __future__ import annotations

import gc
import os
import random
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any


def round_trips(call: Callable[[], object], count: int, batch: int = 1) -> float:
    """The median time of `call()` in µs, over `count` calls, a tenth of it before to warm up.

    Args:
        batch: calls between two looks at the clock, for calls not much longer than a look.
    """
    samples = []
    for _ in range(count // 10):
        call()
    for _ in range(max(count // batch, 1)):
        start = perf_counter_ns()
        for _ in range(batch):
            call()
        samples.append(perf_counter_ns() - start)
    return median(samples) / batch / 1e3


def rate(call: Callable[[], object], count: int) -> float:
    """How often a second `call()` can be made: `count` times, a tenth of it before to warm up."""
    for _ in range(count // 10):
        call()
    start = perf_counter()
    for _ in range(count):
        call()
    return count / (perf_counter() - start)


def rates_by_turns(
    calls: Mapping[str, Callable[[], object]], count: int, block: int = 10
) -> dict[str, float]:
    """How often a second each of `calls` can be made: `count` times, `block` at a turn.

    For what waits for a disk, which is faster for a second and slower for the next: short turns
    share that out. One turn of each comes before, to warm up.
    """
    seconds = dict.fromkeys(calls, 0.0)
    turns = max(count // block, 1)
    order, choose = [*calls], random.Random(1)
    for turn in range(turns + 1):
        choose.shuffle(order)  # what one leaves to the disk meets another each time
        for name in order:
            call = calls[name]
            start = perf_counter()
            for _ in range(block):
                call()
            if turn:
                seconds[name] += perf_counter() - start
    return {name: turns * block / taken for name, taken in seconds.items()}


def check(handled: int, expected: int) -> None:
    """Refuse a measurement in which not everything was done.

    Raises:
        RuntimeError: it was not.
    """
    if handled != expected:
        raise RuntimeError(f"{handled} of {expected} were handled; this measures something else")


def resident_bytes() -> int:
    """The resident memory of this process, garbage aside."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def bytes_each(
    make: Callable[[int], object], count: int, settle: Callable[[list[Any]], None] | None = None
) -> float:
    """The resident bytes that each of `count` objects made by `make` adds.

    All are kept in a list, which is not counted; `settle` is given it, to wait until they idle.
    """
    kept: list[Any] = [None] * count
    kept[0] = make(0)  # whatever is loaded or allocated once
    if settle is not None:
        settle(kept[:1])
    before = resident_bytes()
    for index in range(count):
        kept[index] = make(index)
    if settle is not None:
        settle(kept)
    return (resident_bytes() - before) / count


def values_of(size_bytes: int) -> tuple[bytes, bytes]:
    """Two values of that size, to be saved by turns, so that no save finds the value it has."""
    return random.Random(1).randbytes(size_bytes), random.Random(2).randbytes(size_bytes)


def state_of(count: int) -> dict[str, int | str]:
    """A small dict to be saved, another one for each `count`."""
    return {"count": count, "name": "counter"}


LIMIT = 120.0
"""Seconds within which anything that is waited for must have happened."""


def wait_for(event: threading.Event | threading.Semaphore) -> None:
    """Wait for the end of a measurement.

    Raises:
        RuntimeError: it does not come.
    """
    wait = event.wait if isinstance(event, threading.Event) else event.acquire
    if not wait(timeout=LIMIT):
        raise RuntimeError(f"not done within {LIMIT:g} s")
