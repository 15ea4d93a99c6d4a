"""How long may a function or a block take?"""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Iterable, Iterator
from functools import lru_cache
from time import monotonic_ns
from typing import Any, TypeVar
from weakref import ref

from kompyct.errors import ExecutionTimeout, LimitError
from kompyct.interrupts import AGAIN, NEVER, Firing, Watch, plans_of
from kompyct.limits.given import (
    SECOND,
    checked_bool,
    checked_interval,
    checked_type,
    duration,
    grace_of,
)
from kompyct.limits.guard import STEPS, Guard, Run, complain_of_thread
from kompyct.limits.ladder import InterruptType, Ladder, tell_of, tell_of_shield

T = TypeVar("T")

LONGEST_RETRY = 64 * AGAIN
"""Nanoseconds between two tries at most: of a block that is suspended, for one."""

TELL_AFTER = SECOND
"""Nanoseconds after which an interrupt that was set, and is not raised, is told of."""


class TimeGuard(Guard):
    """Interrupts what takes longer than its timeout; made by `time_guard`."""

    __slots__ = ("_firing", "_grace", "_is_told", "_retry", "_step_at", "_timeout")

    def __init__(self, ladder: Ladder, timeout: int, grace: int | None) -> None:
        super().__init__(ladder)
        self._timeout = timeout
        self._grace = grace
        self._is_told = False  # whether it was told that a step cannot be done
        self._retry = AGAIN  # nanoseconds until the next try, where a step could not be done
        self._step_at = 0  # when the next step is to be done at the earliest
        self._firing: Firing | None = None  # the last step

    def progress(self) -> None:
        """Let the time begin anew, if the block runs.

        Of a function, that of its innermost run in this thread; else the newest in another.
        """
        run = self._running() or _innermost_run(self) or _newest_run(None, self)
        if run is not None:
            run.plan._begin_anew(run)  # type: ignore[attr-defined]

    def look(self, watch: Watch, now: int) -> int:
        """Climb the ladder, a step each grace period; see `Plan.look`."""
        if now < self._step_at:
            self._tell()
            return self._step_at
        seconds = self._timeout / SECOND
        text = f"it took longer than its limit of {seconds:g} s"
        step = self._step
        # First this: the block may be interrupted, and report progress, before this goes on.
        self._step = step + 1
        self._step_at = NEVER
        if self._step < STEPS and self._grace is not None:
            self._step_at = now + self._grace
        again = min(self._step_at, now + TELL_AFTER)
        self._firing = self._ladder.climb(watch, step, self._whole, seconds, text)
        if self._firing is None:
            if self._step == step + 1:  # no progress was reported meanwhile
                self._step, self._step_at = step, 0
            if self._retry == LONGEST_RETRY and not self._is_told:
                self._is_told = True
                tell_of_shield(self._whole)
            self._retry = min(2 * self._retry, LONGEST_RETRY)
            return now + self._retry
        self._retry = AGAIN
        self._is_told = False
        return again

    def _tell(self) -> None:
        """Tell if the last step did nothing by now."""
        firing, self._firing = self._firing, None
        if firing is not None and firing.may_come():
            tell_of(firing, self._whole)

    def _again(self) -> TimeGuard:
        return TimeGuard(self._ladder, self._timeout, self._grace)

    def _enter(self, run: Run) -> None:
        self._step_at = 0
        run.begin(monotonic_ns() + self._timeout)
        ident = run.ident
        run.outer = _innermost.get(ident)
        _innermost[ident] = self._entered  # type: ignore[assignment]

    def _leave(self, run: Run) -> None:
        self._entered = None
        if self._by_hand:
            self._forget()
        ident = run.ident
        if run.outer is None:
            _innermost.pop(ident, None)
        else:
            _innermost[ident] = run.outer
        if ident != get_ident():
            complain_of_thread()

    def _begin_anew(self, run: Run) -> None:
        self._step = self._step_at = 0
        run.postpone(monotonic_ns() + self._timeout)

    def __repr__(self) -> str:
        return f"<TimeGuard of {self._timeout / SECOND:g} s>"


def time_guard(
    timeout: float | None = 60,
    timeout_ms: float | None = None,
    grace_period: float | None = 15,
    grace_period_ms: float | None = None,
    interrupt_type: InterruptType | None = None,
    send_kill: bool = False,
    check_interval: float | None = None,
) -> TimeGuard:
    """A limit of time for a function, as a decorator, or for a block, in `with`.

    What takes longer is interrupted by an `ExecutionTimeout`. If it goes on, further steps
    follow, see `interrupt_type`. Python code is interrupted within milliseconds; native code and
    waiting, `time.sleep` included, only when it returns: what must be stopped then, needs a
    process of its own, see `ComponentSystem.create`.

    Args:
        timeout: seconds, >= 0.
        timeout_ms: milliseconds, >= 0; if given it counts instead of `timeout`.
        grace_period: seconds between two steps, of which there are three; at least one second.
            None for one step only.
        grace_period_ms: milliseconds between them; if given it counts instead.
        interrupt_type: the steps. If left out, an exception, and on the main thread signals after
            it; other threads receive none, and there it stays with exceptions.
        send_kill: whether SIGKILL is the last signal, instead of SIGTERM.
        check_interval: milliseconds; taken for the ancestor's sake. The time is exact without.

    Raises:
        ArgumentTypeError: a value of the wrong type.
        ArgumentError: one out of range.
    """
    given = (timeout, timeout_ms, grace_period, grace_period_ms, interrupt_type, send_kill)
    try:
        settings = _time_settings(*given, check_interval)
    except TypeError:  # it cannot be looked up, so it is no number; or it is refused
        settings = _time_settings.__wrapped__(*given, check_interval)
    return TimeGuard(*settings)


@lru_cache(typed=True)  # the same ones come again and again
def _time_settings(
    timeout: float | None,
    timeout_ms: float | None,
    grace_period: float | None,
    grace_period_ms: float | None,
    interrupt_type: InterruptType | None,
    send_kill: bool,
    check_interval: float | None,
) -> tuple[Ladder, int, int | None]:
    checked_interval(check_interval)
    limit = duration("timeout", timeout, timeout_ms)
    grace = None
    if grace_period is not None or grace_period_ms is not None:
        grace = grace_of("grace_period", grace_period, grace_period_ms)
    kill = checked_bool(send_kill, "send_kill")
    ladder = Ladder(checked_type(interrupt_type), ExecutionTimeout, send_kill=kill)
    return ladder, limit, grace


def progress(ctx: Any = None) -> None:
    """Let the time of a guard begin anew.

    Args:
        ctx: a `TimeGuard`, or a function that one decorates; None for the innermost time guard
            of this thread, wherever its block or function was defined.

    Raises:
        LimitError: there is none; or `ctx` is none. One that does not run is left as it is.
    """
    if ctx is None:
        run = _innermost_run(None)
        if run is None:
            raise LimitError("no time guard is running in this thread, to report progress to")
        run.plan._begin_anew(run)  # type: ignore[attr-defined]
        return
    guard = getattr(ctx, "_guard_self", ctx)
    if not isinstance(guard, TimeGuard):
        raise LimitError(f"{ctx!r} is no time guard, and no function that one decorates")
    guard.progress()


_innermost: dict[int, ref[Run]] = {}
"""By thread: the run of its innermost time guard, as far as blocks were left in order."""


def _innermost_run(whole: TimeGuard | None) -> Run | None:
    """The innermost run, of this thread, of a time guard; of `whole`, if that is given."""
    ident = get_ident()
    entered = _innermost.get(ident)
    while entered is not None:
        run = entered()
        if run is None:  # left by an interrupt, without having been called: it knew the next one
            return _newest_run(ident, whole)
        if run.inside and whole in (None, run.plan._whole):  # type: ignore[attr-defined]
            return run
        entered = run.outer
    return None


def _newest_run(ident: int | None, whole: TimeGuard | None) -> Run | None:
    """As above, of the thread `ident` or of any, by a look at all that run."""
    found = None
    for guard in plans_of(ident):
        if isinstance(guard, TimeGuard) and whole in (None, guard._whole):
            found = guard._running() or found
    return found


def progress_loop(it: Iterable[T], ctx: Any = None) -> Iterator[T]:
    """The items of `it`; after each of them `progress(ctx)` is called.

    Raises:
        LimitError: as there, during the iteration.
    """
    for item in it:
        yield item
        progress(ctx)
