"""Who has a child ready for whoever needs the next one?

A process takes milliseconds to be forked and to touch for the first time what every component
needs. So one is made ahead, once nothing else is being made.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable
from contextlib import suppress

from kompyct.processes.child import Child
from kompyct.processes.protocol import REHEARSAL, WARM

AFTER = 0.004
"""Seconds after the last start of a child: what that one is for comes first."""

AGAIN = 1.0
"""Seconds until one that has ended is replaced: the next one may end as quickly."""


class Spare:
    """One child that has rehearsed. `take` is for any thread, the rest for the one of `later`.

    Args:
        make: has a child made; None if it cannot be had quickly.
        later: calls something after so many seconds.
    """

    def __init__(
        self,
        make: Callable[[], Child | None],
        later: Callable[[float, Callable[[], object]], object],
    ) -> None:
        self._make = make
        self._later = later
        self._lock = allocate_lock()  # who takes _child away has it; only `_fill` gives one
        self._child: Child | None = None
        self._is_wanted = False
        self._looks = 0  # how often it will look if one is to be made

    def take(self) -> Child | None:
        """The child, if there is one; it may end, like any other, before it is told something."""
        with self._lock:
            child, self._child = self._child, None
        if child is None:
            return None
        self._is_wanted = True
        if child.is_over:  # somebody has killed it
            child.discard()
            return None
        child.was_made_ahead = True
        return child

    def want(self) -> None:
        """A child has been started: more may be needed."""
        if self._child is None:
            self._is_wanted = True

    def lost(self, child: Child) -> None:
        """A child has ended: if it is this one, another is wanted, though not at once."""
        with self._lock:
            if child is not self._child:
                return
            self._child = None
        child.discard()
        self._later(AGAIN, self.want)

    def look(self) -> None:
        """Have one made soon, if it is wanted; to be called now and then."""
        if self._is_wanted:
            self._is_wanted = False
            self._looks += 1
            self._later(AFTER, self._fill)

    def _fill(self) -> None:
        self._looks -= 1
        if self._looks or self._child is not None:
            return  # others were started meanwhile: after those
        with suppress(OSError):  # without one the next child takes longer
            child = self._make()
            if child is not None:
                child.control(WARM, REHEARSAL)
                self._child = child

    def close(self) -> None:
        """Nobody takes it any more."""
        child = self.take()
        if child is not None:
            child.discard()
