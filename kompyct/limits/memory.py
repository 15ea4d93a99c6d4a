"""How much memory may the process use while a function or a block runs?"""

from __future__ import annotations

from functools import lru_cache
from time import monotonic_ns
from typing import get_args

from kompyct.errors import ArgumentTypeError, MemoryLimitExceeded
from kompyct.interrupts import AGAIN, NEVER, Watch
from kompyct.limits.given import (
    checked_bool,
    checked_interval,
    checked_type,
    duration,
    grace_of,
    kibibytes,
)
from kompyct.limits.guard import STEPS, Guard, Run
from kompyct.limits.ladder import InterruptType, Ladder
from kompyct.processes.usage import MemoryKind, MemoryUse, memory_use, until_next_look


class MemGuard(Guard):
    """Interrupts what runs while the process uses too much memory; made by `mem_guard`."""

    __slots__ = (
        "_absolute", "_first", "_grace", "_interval", "_limit", "_over_since", "_size", "_use"
    )  # fmt: skip

    def __init__(
        self,
        ladder: Ladder,
        size: int,
        use: MemoryUse,
        first: int,
        grace: int,
        interval: int | None,
        *,
        absolute: bool,
    ) -> None:
        super().__init__(ladder)
        self._size = size
        self._use = use
        self._first = first
        self._grace = grace
        self._interval = interval
        self._absolute = absolute
        self._limit = 0  # bytes of the process
        # Since when it uses more; after a step, since that.
        self._over_since: int | None = None

    def look(self, watch: Watch, now: int) -> int:
        """Look at the memory, the more often the less is left; see `Plan.look`."""
        used = self._use.read()
        again = now + self._until_next(self._limit - used)
        if used <= self._limit:
            self._over_since = None
            self._step = 0
            return again
        if self._over_since is None:
            self._over_since = now
        step_at = self._over_since + (self._grace if self._step else self._first)
        if now < step_at:
            return min(again, step_at)
        text = f"the process uses {used} bytes ({self._use.kind}); the limit is {self._limit}"
        if self._ladder.climb(watch, self._step, self._whole, self._limit, text) is None:
            return now + AGAIN
        self._step += 1
        self._over_since = now
        return again if self._step < STEPS else NEVER

    def _again(self) -> MemGuard:
        return MemGuard(
            self._ladder, self._size, self._use, self._first, self._grace, self._interval,
            absolute=self._absolute,
        )  # fmt: skip

    def _enter(self, run: Run) -> None:
        used = self._use.read()
        self._limit = self._size if self._absolute else used + self._size
        self._over_since = None
        run.begin(monotonic_ns() + self._until_next(self._limit - used))

    def _until_next(self, headroom: int) -> int:
        """Nanoseconds in which memory cannot have reached the limit."""
        if self._interval is not None:
            return self._interval
        return until_next_look(headroom)

    def __repr__(self) -> str:
        return f"<MemGuard of {self._size} bytes>"


def mem_guard(
    max_memory: int | str,
    absolute: bool = True,
    grace_period: float | None = 0,
    grace_period_ms: float | None = None,
    secondary_grace_period: float | None = 5,
    secondary_grace_period_ms: float | None = None,
    interrupt_type: InterruptType | None = None,
    send_kill: bool = False,
    check_interval: float | None = None,
    *,
    kind: MemoryKind = "resident",
) -> MemGuard:
    """A limit of memory for a function, as a decorator, or for a block, in `with`.

    What runs while the process uses more is interrupted by a `MemoryLimitExceeded`. The memory is
    that of the process, whoever has taken it: what belongs to one block cannot be told.

    Args:
        max_memory: KiB, >= 0, as the ancestor has it; or a text such as "512 MiB".
        absolute: whether that is for the process, or for what it takes more than at the beginning.
        grace_period: seconds, >= 0, for which it may use more; the time begins anew when it has
            fallen below.
        grace_period_ms: milliseconds; if given it counts instead.
        secondary_grace_period: seconds between two further steps; at least one second.
        secondary_grace_period_ms: milliseconds between them; if given it counts instead.
        interrupt_type, send_kill: see `time_guard`.
        check_interval: milliseconds, >= 0, between two looks; by default so many that memory
            growing by 4 GB a second is seen at the limit, 1 to 500.
        kind: what is counted, see `MemoryKind`.

    Raises:
        ArgumentTypeError: a value of the wrong type.
        ArgumentError: one out of range, or this platform does not tell that kind of memory.
    """
    given = (
        max_memory, absolute, grace_period, grace_period_ms, secondary_grace_period,
        secondary_grace_period_ms, interrupt_type, send_kill, check_interval, kind,
    )  # fmt: skip
    try:
        settings, whole = _settings(*given)
    except TypeError:  # it cannot be looked up, so it is none of these; or it is refused
        settings, whole = _settings.__wrapped__(*given)
    return MemGuard(*settings, absolute=whole)


@lru_cache(typed=True)  # the same ones come again and again
def _settings(
    max_memory: int | str,
    absolute: bool,
    grace_period: float | None,
    grace_period_ms: float | None,
    secondary_grace_period: float | None,
    secondary_grace_period_ms: float | None,
    interrupt_type: InterruptType | None,
    send_kill: bool,
    check_interval: float | None,
    kind: MemoryKind,
) -> tuple[tuple[Ladder, int, MemoryUse, int, int, int | None], bool]:
    size = kibibytes(max_memory)
    first = duration("grace_period", grace_period, grace_period_ms)
    grace = grace_of("secondary_grace_period", secondary_grace_period, secondary_grace_period_ms)
    kill = checked_bool(send_kill, "send_kill")
    ladder = Ladder(checked_type(interrupt_type), MemoryLimitExceeded, send_kill=kill)
    interval = checked_interval(check_interval)
    if not isinstance(kind, str):
        raise ArgumentTypeError(f"kind is {kind!r}; give one of {get_args(MemoryKind)}")
    whole = checked_bool(absolute, "absolute")
    return (ladder, size, memory_use(kind), first, grace, interval), whole
