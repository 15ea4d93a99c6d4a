"""Has a component in a process of its own exceeded a limit, and is it past being interrupted?

First its own process interrupts it, as `limited` does. Where that does not help, the parent sees
it by the board, or by what the process uses, and ends the process.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from kompyct.clock import SECOND
from kompyct.facts import FaultKind
from kompyct.interrupts import NEVER
from kompyct.limited import exceeded, grace_of
from kompyct.processes.board import SINCE
from kompyct.processes.child import Child
from kompyct.processes.usage import MemoryUse, until_next_look

if TYPE_CHECKING:
    from kompyct.remote import RemoteCell

SHORTEST_GRACE = 250_000_000
"""Nanoseconds from the interrupt in the child, at which its `finally` blocks run, to SIGTERM."""

TERM_TO_KILL = 0.5
"""Seconds from SIGTERM, at which the process tells where it was, to SIGKILL."""


class LimitWatch:
    """Looks at one child when it can have exceeded a limit for the first time.

    Attributes:
        exceeded: which kind of limit, once it is being ended for that.
    """

    def __init__(self, cell: RemoteCell, child: Child) -> None:
        self._cell = cell
        self._child = child
        self._is_started = False
        self._memory: MemoryUse | None = None
        self._over_since = 0  # when it was first seen to use too much; 0: it does not
        self.exceeded: FaultKind | None = None

    def start(self) -> None:
        """Begin to look, if there are limits; in the turn."""
        if self._cell.options.has_limits and not self._is_started:
            self._is_started = True
            self._cell.backend.post(self._look)

    def error(self) -> BaseException | None:
        """The exception of the fault, if the child was ended for a limit."""
        if self.exceeded is None:
            return None
        options = self._cell.options
        hangs = self.exceeded is FaultKind.HANG
        limit = options.time_limit if hangs else options.memory_limit
        base, size, text = exceeded(self.exceeded, limit or 0, self._cell.path)
        error = base(text)
        error.source, error.limit = self._cell.path, size
        error.stack_summary = self._child.crash.report(0.0)
        error.__cause__ = self._child.end_error()
        return error

    def _look(self) -> None:
        """On the thread that looks after children."""
        child = self._child
        if child.is_over:
            if self._memory is not None:
                self._memory.close()
            return
        now = monotonic_ns()
        again = min(self._look_at_time(now), self._look_at_memory(now))
        if self.exceeded is not None:
            self._cell.backend.end(child, 0.0, TERM_TO_KILL)
        elif again < NEVER:
            self._cell.backend.later(max(again - now, 0) / SECOND, self._look)

    def _look_at_time(self, now: int) -> int:
        """See whether a handler is overdue; returns when one can be for the first time."""
        limit = self._cell.options.time_limit
        if limit is None:
            return NEVER
        try:
            since = self._child.board.numbers[SINCE]
        except ValueError:  # it was discarded
            return NEVER
        due = (since or now) + limit + _grace_of(limit)
        if since and now >= due:
            self.exceeded = FaultKind.HANG
        return due

    def _look_at_memory(self, now: int) -> int:
        limit = self._cell.options.memory_limit
        if limit is None or self._child.pid is None:
            return NEVER
        if self._memory is None:
            self._memory = MemoryUse("resident", self._child.pid)
        headroom = limit - self._memory.read()
        self._over_since = (self._over_since or now) if headroom < 0 else 0
        if self._over_since and now >= self._over_since + _grace_of(self._cell.options.time_limit):
            self.exceeded = FaultKind.MEMORY
        return now + until_next_look(headroom)


def _grace_of(time_limit: int | None) -> int:
    return max(SHORTEST_GRACE, grace_of(time_limit))
