"""May a component be restarted once more?"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import isfinite

from kompyct.errors import ArgumentError, ArgumentTypeError

SECOND = 1_000_000_000  # nanoseconds


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
        if not (self.within > 0 and isfinite(self.within)):
            raise ArgumentError(f"within is {self.within!r}; give a number of seconds > 0")

    def recent(self, restarts: tuple[int, ...], now: int) -> tuple[int, ...]:
        """The times of `restarts` that still count at `now`; times are nanoseconds, ascending."""
        return restarts[bisect_left(restarts, now - round(self.within * SECOND)) :]

    def charge(self, restarts: tuple[int, ...], now: int) -> tuple[int, ...] | None:
        """The window with a restart at `now` added, or None if that is one too many.

        A restart exactly `within` ago still counts, as in OTP.
        """
        charged = (*self.recent(restarts, now), now)
        return charged if len(charged) <= self.max_restarts else None
