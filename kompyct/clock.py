"""What time is it, and what is due when?

Times are whole nanoseconds on a clock that never goes back; only intervals mean anything.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol

from kompyct.errors import ArgumentError, ArgumentTypeError

SECOND = 1_000_000_000  # nanoseconds


MAX_SECONDS = 1e10
"""The longest delay: 317 years."""


class Alarm:
    """Something to be done at a time; it can be cancelled, and then keeps nothing alive.

    `due` may be changed only between the ring and the next `Clock.set`.
    """

    __slots__ = ("due", "ring")

    def __init__(self, due: int, ring: Callable[[], None]) -> None:
        self.due = due
        self.ring: Callable[[], None] | None = ring

    def silence(self) -> None:
        """Never ring again; from any thread."""
        self.ring = None


class Clock(Protocol):
    """Tells the time and rings alarms in the order (due time, order of setting)."""

    def now(self) -> int:
        """Nanoseconds since some fixed point."""
        ...

    def set(self, alarm: Alarm) -> None:
        """Ring `alarm` when it is due, never early; from any thread."""

    def close(self) -> None:
        """Ring no more."""


class AlarmList:
    """The alarms that are set, by (due time, order of setting). Not safe for threads by itself.

    Silenced alarms are dropped when they come up, or all at once when they are the greater part,
    so that components which fault often do not fill the memory with timers of the far future.
    """

    __slots__ = ("_heap", "_numbers", "_sweep_at")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Alarm]] = []
        self._numbers = count()
        self._sweep_at = 1024

    def add(self, alarm: Alarm) -> bool:
        """Take up `alarm`; True if it is the first to ring."""
        if len(self._heap) >= self._sweep_at:
            self._heap = [entry for entry in self._heap if entry[2].ring is not None]
            heapq.heapify(self._heap)
            self._sweep_at = max(1024, 2 * len(self._heap))
        entry = (alarm.due, next(self._numbers), alarm)
        heapq.heappush(self._heap, entry)
        return self._heap[0] is entry

    def next_due(self) -> int | None:
        """When the first alarm is due; None if there is none."""
        while self._heap and self._heap[0][2].ring is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self) -> Alarm:
        """Take the first alarm."""
        return heapq.heappop(self._heap)[2]

    def clear(self) -> None:
        """Forget all alarms."""
        self._heap = []


class SystemClock:
    """Real time; one daemon thread, started by the first alarm, asleep until the next is due.

    Alarms ring on that thread, so they must neither block nor run users' code.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._agenda = AlarmList()
        self._changed = threading.Condition()  # protects every attribute of this object
        self._thread: threading.Thread | None = None
        self._closed = False

    now = staticmethod(time.monotonic_ns)

    def set(self, alarm: Alarm) -> None:
        """Ring `alarm` when it is due.

        Raises:
            RuntimeError: the operating system gives no more threads; nothing was set.
        """
        with self._changed:
            if self._closed:
                return
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                self._thread = thread  # not before: if it cannot be made, the next alarm tries
            if self._agenda.add(alarm):
                self._changed.notify()

    def close(self) -> None:
        """Forget all alarms and let the thread end; what is ringing just now rings out."""
        with self._changed:
            self._closed = True
            self._agenda.clear()
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def _run(self) -> None:
        while True:
            with self._changed:
                while True:
                    if self._closed:
                        return
                    due = self._agenda.next_due()
                    if due is not None and due <= self.now():
                        break
                    wait = None if due is None else min((due - self.now()) / SECOND, 3600.0)
                    self._changed.wait(wait)
                ring = self._agenda.pop().ring
            if ring is not None:
                ring()


class ManualClock:
    """Virtual time for tests: it stands still until `advance` moves it. For one thread only."""

    def __init__(self) -> None:
        self._now = 0
        self._agenda = AlarmList()

    def now(self) -> int:
        return self._now

    def set(self, alarm: Alarm) -> None:
        self._agenda.add(alarm)

    def close(self) -> None:
        """Forget all alarms."""
        self._agenda.clear()

    def ring_next(self, until: int) -> bool:
        """Move to the first alarm due at or before `until` and ring it; False if there is none.

        Then the time is `until`.
        """
        due = self._agenda.next_due()
        if due is None or due > until:
            self._now = max(self._now, until)
            return False
        self._now = max(self._now, due)
        ring = self._agenda.pop().ring
        if ring is not None:
            ring()
        return True

    def next_due(self) -> int | None:
        """When the first alarm is due, in nanoseconds; None if there is none."""
        return self._agenda.next_due()


def nanoseconds(seconds: float, what: str) -> int:
    """`seconds` as whole nanoseconds.

    Raises:
        ArgumentTypeError: it is no number.
        ArgumentError: it is negative, NaN or infinite; `what` names it in the message.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ArgumentTypeError(f"{what} is {seconds!r}; give a number of seconds")
    if not 0 <= seconds <= MAX_SECONDS:  # false for NaN as well
        raise ArgumentError(
            f"{what} is {_shown(seconds)}; give a finite number of seconds >= 0, "
            f"at most {MAX_SECONDS:g}"
        )
    return round(seconds * SECOND)


def _shown(seconds: float) -> str:
    """`seconds` for a message; Python refuses to print whole numbers of thousands of digits."""
    return repr(seconds) if isinstance(seconds, float) or abs(seconds) < 10**30 else "enormous"


def lock_timeout(seconds: float | None, what: str = "timeout") -> float:
    """`seconds` as a lock's `acquire` takes it: -1 for None or longer than a lock can wait.

    Raises:
        ArgumentTypeError: it is neither a number nor None.
        ArgumentError: it is negative or NaN.
    """
    if seconds is None:
        return -1
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ArgumentTypeError(f"{what} is {seconds!r}; give a number of seconds or None")
    if not seconds >= 0:
        raise ArgumentError(f"{what} is {_shown(seconds)}; give a number of seconds >= 0, or None")
    return seconds if seconds < threading.TIMEOUT_MAX else -1
