"""May a component be restarted once more, and when?"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from kompyct.errors import ArgumentError, ArgumentTypeError

SECOND = 1_000_000_000  # nanoseconds
MAX_SECONDS = 1e10
"""What is no sensible time any more: three hundred years."""

UNCOUNTED = 2**62
"""Restarts that a component may have which has no budget of its own: its supervisor counts."""


@dataclass(frozen=True, slots=True)
class RestartLimit:
    """At most `max_restarts` restarts in any `within` seconds.

    Args:
        max_restarts: restarts, >= 0; with 0 the first fault is the end.
        within: seconds, > 0.

    Raises:
        ArgumentError, ArgumentTypeError: for other values.

    Source: OTP's supervisor, `intensity` and `period`, a sliding window on the monotonic clock.
    """

    max_restarts: int = 10
    within: float = 10.0

    def __post_init__(self) -> None:
        if isinstance(self.max_restarts, bool) or not isinstance(self.max_restarts, int):
            raise ArgumentTypeError(
                f"max_restarts is {self.max_restarts!r}; give a whole number >= 0"
            )
        if isinstance(self.within, bool) or not isinstance(self.within, int | float):
            raise ArgumentTypeError(f"within is {self.within!r}; give a number of seconds > 0")
        if self.max_restarts < 0:
            raise ArgumentError(f"max_restarts is {self.max_restarts}; give a whole number >= 0")
        if not 0 < self.within <= MAX_SECONDS:  # false for NaN as well
            raise ArgumentError(
                f"within is {_shown(self.within)}; give a number of seconds > 0, at most "
                f"{MAX_SECONDS:g}"
            )

    def recent(self, restarts: tuple[int, ...], now: int) -> tuple[int, ...]:
        """The times of `restarts` that still count at `now`; times are nanoseconds, ascending."""
        return restarts[bisect_left(restarts, now - round(self.within * SECOND)) :]

    def charge(self, restarts: tuple[int, ...], now: int) -> tuple[int, ...] | None:
        """The window with a restart at `now` added, or None if that is one too many.

        A restart exactly `within` ago still counts, as in OTP.
        """
        charged = (*self.recent(restarts, now), now)
        return charged if len(charged) <= self.max_restarts else None


@dataclass(frozen=True, slots=True)
class Backoff:
    """Restarts in a row wait longer and longer: `min`, 2 x `min`, 4 x `min`, ... up to `max`.

    Each is lengthened by a random share of at most `jitter`, so that what went down together
    does not come back at once. A child that has run for `reset_after` begins with `min` again.

    Args:
        min: seconds, > 0.
        max: seconds, >= `min`.
        jitter: a share, 0 to 1.
        reset_after: seconds, > 0; None: as long as `max`.

    Raises:
        ArgumentError, ArgumentTypeError: for other values.

    Source: Akka's `restartWithBackoff`. OTP has none.
    """

    min: float = 0.1
    max: float = 30.0
    jitter: float = 0.2
    reset_after: float | None = None

    def __post_init__(self) -> None:
        for name in ("min", "max", "jitter", "reset_after"):
            value = getattr(self, name)
            if name == "reset_after" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ArgumentTypeError(f"{name} of a backoff is {value!r}; give a number")
            if name == "jitter":
                if not 0 <= value <= 1:
                    raise ArgumentError(
                        f"jitter of a backoff is {_shown(value)}; give a share, 0 to 1"
                    )
            elif not 0 < value <= MAX_SECONDS:
                raise ArgumentError(
                    f"{name} of a backoff is {_shown(value)}; give a number of seconds > 0, at "
                    f"most {MAX_SECONDS:g}"
                )
        if self.max < self.min:
            raise ArgumentError(f"max of a backoff is {self.max:g}, below its min of {self.min:g}")

    def delay(self, earlier: int, random: float) -> int:
        """Nanoseconds until a restart that `earlier` ones have come before, in a row.

        Args:
            random: 0 to 1, which share of the jitter is taken.
        """
        # 2 ** 1100 is no float any more; a thousand doublings reach any maximum.
        seconds = min(self.min * 2.0 ** min(earlier, 1000), self.max)
        return round(seconds * (1 + self.jitter * random) * SECOND)

    def is_over(self, running: int) -> bool:
        """Whether a child that has run for so many nanoseconds begins with `min` again."""
        quiet = self.max if self.reset_after is None else self.reset_after
        return running >= quiet * SECOND


def _shown(value: float) -> str:
    """For a message; Python refuses to print whole numbers of thousands of digits."""
    return repr(value) if isinstance(value, float) or abs(value) < 10**30 else "enormous"
