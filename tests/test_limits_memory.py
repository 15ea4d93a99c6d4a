"""Is what makes the process use too much memory interrupted, and nothing else?

Expected values are from the docstring of `mem_guard`, and from what Resiliparse 2.0.1 did where it
was run. Memory is taken by mappings of the test's own, so that it is given back at once.
"""

# What is guarded is a block, of more than a line.
# ruff: noqa: PT012

# pyright: reportPossiblyUnboundVariable=false
from __future__ import annotations

import mmap
import os
import sys
import threading
import time
from typing import Any

import pytest

from kompyct.errors import ArgumentError, ArgumentTypeError, LimitError, LimitRangeError
from kompyct.limits import (
    ExecutionTimeout,
    InterruptType,
    MemGuard,
    MemoryLimitExceeded,
    mem_guard,
    progress,
    time_guard,
)
from kompyct.processes import usage
from kompyct.processes.usage import MemoryUse

LIMIT = 10.0  # seconds, for anything that would otherwise never end
MIB = 1024 * 1024

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def small(size: int | str = 0, **options: Any) -> MemGuard:
    """A guard that interrupts by exceptions; of nothing at all, if no size is given."""
    options.setdefault("interrupt_type", InterruptType.exception)
    return mem_guard(size, **options)


def spin(seconds: float = LIMIT) -> None:
    """Compute for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def taken(mebibytes: int) -> mmap.mmap:
    """So much memory, each page of it written to."""
    memory = mmap.mmap(-1, mebibytes * MIB)
    for offset in range(0, mebibytes * MIB, mmap.PAGESIZE):
        memory[offset] = 1
    return memory


def test_a_block_above_its_limit_is_interrupted() -> None:
    """Given a block during which the process uses more than the limit, then it is left by a
    MemoryLimitExceeded that says which guard, its limit in bytes, and where the thread was."""
    with pytest.raises(MemoryLimitExceeded) as caught:
        with small(1024) as guard:  # KiB
            spin()
    assert caught.value.source is guard
    assert caught.value.limit == MIB
    assert "resident" in str(caught.value)
    assert "in spin" in caught.value.stack


def test_a_block_below_its_limit_is_left_alone() -> None:
    """Given a limit that is never reached, then nothing comes."""
    with small("4 TiB"):
        spin(0.03)
    spin(0.03)


@on_linux
def test_growth_counts_from_the_beginning() -> None:
    """Given a limit of growth, then what was taken before does not count, and what is, does."""
    before = taken(16)
    with small("64 MiB", absolute=False):
        held = taken(16)
        spin(0.05)
    held.close()
    with pytest.raises(MemoryLimitExceeded), small("32 MiB", absolute=False):
        held = taken(80)
        spin()
    before.close()


@on_linux
@pytest.mark.parametrize("kind", ["resident", "unique", "cgroup"])
def test_each_kind_of_memory_is_seen_to_grow(kind: Any) -> None:
    """Given any kind of memory, then taking 96 MiB exceeds a growth of 48."""
    try:
        guard = small("48 MiB", absolute=False, kind=kind)
    except ArgumentError as error:
        pytest.skip(str(error))
    with pytest.raises(MemoryLimitExceeded, match=kind), guard:
        held = taken(96)
        spin()
        held.close()


@on_linux
@pytest.mark.parametrize("kind", ["resident", "unique"])
def test_what_is_read_is_what_the_kernel_says(kind: Any) -> None:
    """Given a reading, then it is what /proc tells, within the 8 MiB that may come between."""
    use = MemoryUse(kind)
    expected = 0
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        for line in file:
            name = line.split(":")[0]
            if name == "Rss" if kind == "resident" else name.startswith("Private_"):
                expected += int(line.split()[1]) * 1024
    assert abs(use.read() - expected) < 8 * MIB
    use.close()


def test_a_grace_period_lets_it_be_above() -> None:
    """Given a grace period, then the interrupt comes when that is over, and not before."""
    begun = time.monotonic()
    with pytest.raises(MemoryLimitExceeded), small(grace_period_ms=120):
        spin()
    assert 0.12 <= time.monotonic() - begun < LIMIT / 2


@on_linux
def test_falling_below_begins_the_grace_anew() -> None:
    """Given memory that falls below the limit before the grace is over, then that begins anew:
    five times 250 ms above it are fewer than 1,000 at a time."""
    with small("40 MiB", absolute=False, grace_period_ms=1000, check_interval=5):
        for _ in range(5):
            held = taken(80)
            spin(0.25)
            held.close()
            spin(0.03)


@on_linux
def test_falling_below_begins_the_ladder_anew() -> None:
    """Resiliparse: after memory has fallen below, the first step comes again, with its grace."""
    seen = 0
    with small("40 MiB", absolute=False, secondary_grace_period_ms=10_000, check_interval=5):
        for _ in range(4):
            held: Any = None
            try:
                held = taken(80)
                spin()
            except MemoryLimitExceeded:
                seen += 1
            del held  # which unmaps it
            spin(0.05)
    assert seen == 4


def test_a_body_that_swallows_is_interrupted_three_times() -> None:
    """Resiliparse: three steps, the secondary grace period apart, and then nothing for ever."""
    seen = []
    with small(secondary_grace_period_ms=30, check_interval=2):
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            try:
                spin(end - time.monotonic())
            except MemoryLimitExceeded:
                seen.append(time.monotonic())
    assert len(seen) == 3
    assert seen[1] - seen[0] >= 0.02


def test_a_check_interval_is_how_often_it_looks() -> None:
    """Given an interval of 150 ms, then the first look is not before that."""
    begun = time.monotonic()
    with pytest.raises(MemoryLimitExceeded), small(check_interval=150):
        spin()
    assert time.monotonic() - begun >= 0.15


def test_guards_of_time_and_memory_nest() -> None:
    """Given a guard of each kind, then each interrupts for itself, whichever is outside, and
    `progress()` is that of the time guard."""
    kind = InterruptType.exception
    with pytest.raises(MemoryLimitExceeded) as caught:
        with small() as outer, time_guard(60, interrupt_type=kind):
            spin()
    assert caught.value.source is outer
    with pytest.raises(ExecutionTimeout):
        with time_guard(timeout_ms=50, interrupt_type=kind), small("4 TiB"):
            progress()
            spin()


def test_memory_guards_make_no_progress() -> None:
    """Resiliparse: neither a memory guard nor a function that one decorates has any."""

    @small("4 TiB")
    def function() -> None:
        with pytest.raises(LimitError):
            progress()

    function()
    assert not hasattr(function, "progress")
    for wrong in (small(), function):
        with pytest.raises(LimitError):
            progress(wrong)


def test_blocks_in_several_threads_are_all_interrupted() -> None:
    """docs/limits.md: with several guarded blocks at once, each is interrupted; a decorated
    function has a guard for each call."""
    caught: list[BaseException] = []

    @small()
    def work() -> None:
        spin()

    def run() -> None:
        try:
            work()
        except MemoryLimitExceeded as error:
            caught.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert len(caught) == 4


@on_linux
def test_looking_opens_no_files() -> None:
    """The issue: memory is read without opening files each time: one descriptor for all guards."""
    with small("4 TiB"):
        pass
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        with small("4 TiB", check_interval=1):
            spin(0.005)
            during = os.listdir("/proc/self/fd")
    assert len(during) == len(before)
    use = MemoryUse()
    held = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        use.read()
    assert len(os.listdir("/proc/self/fd")) == held
    use.close()
    assert len(os.listdir("/proc/self/fd")) == held - 1


def test_a_file_is_closed_when_the_names_of_its_module_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the interpreter ends, a module's names are None, and then what it had made is collected:
    once `suppress` and `os` were needed for that."""
    use = MemoryUse()
    _, descriptor = use._open
    with monkeypatch.context() as ending:
        for name in set(vars(usage)) - {"__builtins__"}:
            ending.setattr(usage, name, None)
        use.__del__()
        use.__del__()
    assert use._open == (-1, -1)
    if descriptor >= 0:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@pytest.mark.parametrize(
    ("size", "limit"), [(3, 3072), ("3 KiB", 3072), ("3 kB", 3000), ("0.5 MiB", 524_288)]
)
def test_a_number_is_kibibytes_and_a_text_has_a_unit(size: int | str, limit: int) -> None:
    """Resiliparse: a number is KiB. Texts have the units that they name."""
    with pytest.raises(MemoryLimitExceeded) as caught, small(size):
        spin()
    assert caught.value.limit == limit


@pytest.mark.parametrize(
    ("given", "error", "builtin"),
    [
        ({"max_memory": -1}, LimitRangeError, OverflowError),
        ({"max_memory": 1 << 64}, LimitRangeError, OverflowError),
        ({"max_memory": 1.5}, ArgumentTypeError, TypeError),
        ({"max_memory": None}, ArgumentTypeError, TypeError),
        ({"max_memory": True}, ArgumentTypeError, TypeError),
        ({"max_memory": "much"}, ArgumentError, ValueError),
        ({"max_memory": "-1 MiB"}, ArgumentError, ValueError),
        ({"absolute": 1}, ArgumentTypeError, TypeError),
        ({"grace_period": -1}, LimitRangeError, OverflowError),
        ({"grace_period": None}, ArgumentError, ValueError),
        ({"grace_period_ms": "1"}, ArgumentTypeError, TypeError),
        ({"secondary_grace_period": -1}, LimitRangeError, OverflowError),
        ({"secondary_grace_period_ms": float("inf")}, LimitRangeError, ValueError),
        ({"interrupt_type": 1}, ArgumentTypeError, TypeError),
        ({"send_kill": 0}, ArgumentTypeError, TypeError),
        ({"check_interval": float("nan")}, LimitRangeError, ValueError),
        ({"kind": "virtual"}, ArgumentError, ValueError),
        ({"kind": []}, ArgumentTypeError, TypeError),
    ],
)
def test_bad_values_are_refused_at_once(
    given: dict[str, Any], error: type[Exception], builtin: type[Exception]
) -> None:
    """Given a value of the wrong type or out of range, then making the guard raises, and the
    message names it."""
    with pytest.raises(error, match=next(iter(given))) as caught:
        mem_guard(**{"max_memory": 1024, **given})
    assert isinstance(caught.value, builtin)


def test_huge_limits_mean_none() -> None:
    """Resiliparse: whatever fits into 64 bits is taken."""
    for size in (sys.maxsize, (1 << 64) - 1):
        with small(size):
            pass
