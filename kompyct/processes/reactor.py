"""What does one thread wait for: descriptors, points in time, and orders of other threads?

Source: the pattern Reactor of Schmidt and others (POSA2).
"""

from __future__ import annotations

import heapq
import logging
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

_logger = logging.getLogger("kompyct")

READ = select.EPOLLIN
WRITE = select.EPOLLOUT


class Reactor:
    """Calls what was asked for when it is time; `post` is for any thread, the rest for that one.

    What a call raises is a bug: it is logged, and the thread goes on.
    """

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._watched: dict[int, tuple[Callable[[Any, int], object], Any]] = {}
        self._alarms: list[tuple[float, int, Callable[[], object]]] = []  # a heap
        self._numbers = count(1)  # of alarms: those of one moment ring in the order of `after`
        self._orders: deque[Callable[[], object]] = deque()
        self._bell, self._ring = socket.socketpair()
        self._bell.setblocking(False)
        self._ring.setblocking(False)
        self.watch(self._bell.fileno(), self._take_orders, None)

    # -- from any thread --------------------------------------------------------------------

    def post(self, order: Callable[[], object]) -> None:
        """Have `order` called."""
        self._orders.append(order)
        self.wake()

    def wake(self) -> None:
        """Have `turn` return."""
        with suppress(OSError):  # it is awake, or has ended
            self._ring.send(b"\0")

    # -- for the one thread -----------------------------------------------------------------

    def watch(self, descriptor: int, call: Callable[[Any, int], object], about: Any) -> None:
        """Call `call(about, events)` whenever there is something to be read."""
        self._watched[descriptor] = (call, about)
        self._poll.register(descriptor, READ)

    def modify(self, descriptor: int, events: int) -> None:
        """Watch for `events` from now on, if it is watched still."""
        with suppress(OSError):
            self._poll.modify(descriptor, events)

    def unwatch(self, descriptor: int | None) -> None:
        """Watch it no more, if it is watched; to be called before it is closed."""
        if descriptor is not None and self._watched.pop(descriptor, None) is not None:
            with suppress(OSError):
                self._poll.unregister(descriptor)

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        """Call `call` once, after that time."""
        due = time.monotonic() + seconds
        heapq.heappush(self._alarms, (due, next(self._numbers), call))

    def turn(self) -> None:
        """Wait for what comes first, and call what is to be called."""
        alarms = self._alarms
        self.hear(max(alarms[0][0] - time.monotonic(), 0.0) if alarms else None)
        while alarms and alarms[0][0] <= time.monotonic():
            self.call(heapq.heappop(alarms)[2])

    def hear(self, wait: float | None) -> None:
        """Wait for descriptors only, so many seconds at most, and call what is to be called."""
        watched = self._watched
        polled = self._poll.poll(wait)
        if len(polled) == 1:  # mostly
            ((descriptor, events),) = polled
            entry = watched.get(descriptor)
            if entry is not None:
                self.call(entry[0], entry[1], events)
            return
        ready = [(descriptor, watched.get(descriptor), events) for descriptor, events in polled]
        # The last first: when a process ends, its pidfd comes after its connection, and makes the
        # look at that superfluous.
        for descriptor, heard, events in reversed(ready):
            entry = watched.get(descriptor)
            # Not any more, by what came before it; by then the number may be another's.
            if entry is not None and entry is heard:
                call, about = entry
                self.call(call, about, events)

    def flush(self) -> None:
        """Call what was posted so far."""
        while self._orders:
            self.call(self._orders.popleft())

    def call(self, call: Callable[..., object], *arguments: Any) -> None:
        """Call it; what it raises is logged."""
        try:
            call(*arguments)
        except Exception:  # a bug: the other children must be looked after
            _logger.exception("the thread that looks after child processes goes on")

    def close(self) -> None:
        """Watch nothing more."""
        for end in (self._poll, self._bell, self._ring):
            end.close()

    def _take_orders(self, _: object, events: int) -> None:
        with suppress(BlockingIOError):
            self._bell.recv(4096)
        self.flush()
