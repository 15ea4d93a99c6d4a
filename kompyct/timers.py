"""When does a component's scheduled action run?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kompyct.clock import Alarm
from kompyct.messages import Envelope


class Timer(Alarm):
    """The handle of a scheduled action: hashable, and cancelled by `cancel()`.

    It rings on the clock's thread, which puts a tick into the mailbox, and it ticks in the
    component's turn. At most one tick is in the mailbox. It belongs to one active period of the
    component (S-04): after that it neither rings nor ticks, not even a tick already queued.

    `_rung` is written by the clock's thread only and `_ticked` by the turn only, so their
    difference needs no lock. The clock counts, then looks at `_queued`; the turn clears
    `_queued`, then looks at the count: whichever is second sees the other.
    """

    __slots__ = (
        "_action", "_burst", "_cell", "_envelope", "_number", "_period", "_queued", "_rung",
        "_ticked",
    )  # fmt: skip

    def __init__(
        self, cell: Any, due: int, period: int, action: Callable[[], object], *, burst: bool
    ) -> None:
        super().__init__(due, self._ring)
        self._cell = cell
        self._number = cell.active_period
        self._period = period  # nanoseconds; 0: once
        self._action: Callable[[], object] | None = action
        self._burst = burst
        self._rung = 0
        self._ticked = 0
        self._queued = False
        self._envelope = Envelope(self, self._tick)

    def cancel(self) -> None:
        """Never run the action again; from any thread. What runs just now runs to its end."""
        self.silence()
        self._action = None
        timers = self._cell.timers
        if timers is not None:
            timers.discard(self)

    def wrap(self, call: Callable[[Callable[[], object]], object]) -> None:
        """Run `call(action)` instead of the action; for the injection of faults."""
        action = self._action
        if action is not None:
            self._action = lambda: call(action)

    def __repr__(self) -> str:
        state = "cancelled" if self._action is None else "scheduled"
        return f"<Timer of {self._cell.path!r}, {state}>"

    def _ring(self) -> None:
        cell = self._cell
        if cell.active_period != self._number:
            self.cancel()
            return
        self._rung += 1
        period = self._period
        if period:
            clock = cell.runtime.clock
            self.due += period
            late = clock.now() - self.due
            if late >= 0:  # the clock itself fell behind, by this many further ticks
                missed = late // period + 1
                self._rung += missed
                self.due += missed * period
            clock.set(self)
        if not self._queued:
            self._queued = True
            cell.send(self._envelope)

    def _tick(self, component: object) -> None:
        self._queued = False
        action = self._action
        cell = self._cell
        if action is None or cell.active_period != self._number:
            return
        if self._ticked == self._rung:
            return
        if self._burst:
            self._ticked += 1
        else:
            self._ticked = self._rung
        if not self._period:
            self.cancel()
        try:
            action()
        finally:  # a benign exception ends this tick, not the timer
            if self._ticked != self._rung and not self._queued and self._burst:
                self._queued = True
                cell.send(self._envelope)
