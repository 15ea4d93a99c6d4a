"""What is measured about guards of time and memory?

Kompyct's guards and the peer's have the same names and parameters, so each function here is given
the module that has them.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any, NoReturn

from benchmarks.measure import round_trips

TIMEOUT_MS = 100
"""Milliseconds after which a loop is to be interrupted."""

GROWTH = 2_000_000_000
"""Bytes a second by which memory grows, or less where the machine cannot."""

PERIOD = 0.5
"""Seconds between two looks of the peer, by default."""

FAR = 64 << 20
"""KiB; a limit that is never reached."""

_STEP = 2 << 20  # bytes; pages one by one take longer than the rate allows
_FILLED = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE


def enter_time_guard(limits: Any, size: int, *, batch: int = 1) -> Mapping[str, float]:
    """The median time in which a guard is made by default, and an empty block entered and left."""
    time_guard = limits.time_guard

    def run() -> None:
        with time_guard():
            pass

    return {"p50": round_trips(run, size, batch)}


def enter_mem_guard(limits: Any, size: int, *, batch: int = 1) -> Mapping[str, float]:
    """The same for a guard of memory whose limit is far away."""
    mem_guard = limits.mem_guard

    def run() -> None:
        with mem_guard(FAR):
            pass

    return {"p50": round_trips(run, size, batch)}


def enter_again(guard: Any, size: int, *, batch: int = 1) -> Mapping[str, float]:
    """The same with one guard, made before."""

    def run() -> None:
        with guard:
            pass

    return {"p50": round_trips(run, size, batch)}


def progress(limits: Any, size: int) -> Mapping[str, float]:
    """The median time of a `progress()` that finds the guard itself, one function further out."""
    with limits.time_guard() as guard:  # the peer looks for it among the locals
        figure = round_trips(limits.progress, size, batch=10)
    del guard
    return {"p50": figure}


def lateness(
    limits: Any, size: int, *, beside: bool = False, **settings: object
) -> Mapping[str, float]:
    """How many ms after its time a program goes on behind a block that is a loop in Python.

    Args:
        beside: whether another thread computes as well.
        settings: of the guard.
    """
    samples = []
    with _another_thread() if beside else nullcontext():
        for _ in range(size):
            start = perf_counter()
            try:
                with limits.time_guard(timeout_ms=TIMEOUT_MS, **settings):
                    _compute()
            except limits.ExecutionTimeout:
                samples.append((perf_counter() - start) * 1e3 - TIMEOUT_MS)
    return {"p50": median(samples)}


def overshoot(limits: Any, size: int, **settings: object) -> Mapping[str, float]:
    """How many MB above its limit the process is when the growth has been interrupted.

    To whoever looks now and then only, it matters when the limit is reached: in each of the `size`
    rounds that is at another part of a period.
    """
    samples = []
    # Memory that a virtual machine never had, comes slowly the first time.
    mmap.mmap(-1, round(2 * GROWTH * PERIOD), flags=_FILLED).close()
    for number in range(size):
        held: list[mmap.mmap] = []
        room = round(GROWTH * PERIOD * (number + 0.5) / size)
        limit = (_resident() + room) // 1024
        try:
            with limits.mem_guard(limit, **settings):
                _grow(held, room + GROWTH)
        except limits.MemoryLimitExceeded:
            samples.append((_resident() - limit * 1024) / 1e6)
        for piece in held:
            piece.close()
    return {"p50": median(samples)}


def idle(limits: Any, size: int, *, guards: int = 1, memory: bool = False) -> Mapping[str, float]:
    """What guards cost that are far from their limits.

    Args:
        size: for how many of the peer's periods.
        guards: how many, one within the other.
        memory: whether they are guards of memory.

    Returns: `threads` they have added; `wakes`, how often these have woken in a second; and `cpu`,
    for how many µs of it they have run. The kernel counts among those what the machine takes to
    wake, which are milliseconds each time where it is a virtual one.
    """
    others = _threads()
    with ExitStack() as stack:
        for _ in range(guards):
            stack.enter_context(limits.mem_guard(FAR) if memory else limits.time_guard())
        sleep(2 * PERIOD)  # what there is to begin with is done
        own = _threads() - others
        start, computed, woken = perf_counter(), _computed(own), _woken(own)
        sleep(size * PERIOD)
        seconds = perf_counter() - start
        computed, woken = _computed(own) - computed, _woken(own) - woken
    return {
        "threads": len(own),
        "wakes": woken / seconds,
        "cpu": computed / 1e3 / seconds,
    }


def _compute() -> NoReturn:
    number = 0
    while True:
        number += 1


@contextmanager
def _another_thread() -> Iterator[None]:
    """One that computes, for as long as the block runs."""
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            sum(range(100))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    done.set()
    thread.join()


def _grow(held: list[mmap.mmap], most: int) -> NoReturn:
    """Take memory at that rate, until interrupted.

    Raises:
        RuntimeError: it was not, and there are `most` bytes of it.
    """
    one = (_STEP,)
    start = perf_counter()
    while (size := len(held) * _STEP) < most:
        if size <= (perf_counter() - start) * GROWTH:
            held.extend(map(_take, one))  # in one step, so that no interrupt loses any
    raise RuntimeError(f"not interrupted with {most} bytes more")


_take = partial(mmap.mmap, -1, flags=_FILLED)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def _threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))


def _computed(threads: set[str]) -> int:
    """Nanoseconds for which they have run."""
    files = (Path(f"/proc/self/task/{thread}/schedstat") for thread in threads)
    return sum(int(file.read_text().split()[0]) for file in files)


def _woken(threads: set[str]) -> int:
    """How often they have gone to sleep, and so have woken, but for the last time."""
    files = (Path(f"/proc/self/task/{thread}/status") for thread in threads)
    name = "\nvoluntary_ctxt_switches:"
    return sum(int(file.read_text().partition(name)[2].split()[0]) for file in files)
