"""Where do events go?"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from kompyct.clock import SECOND, Clock
from kompyct.events import Event

LINES_PER_SECOND = 50
"""Log lines of a system in a second at most; in a storm the rest are counted."""

MAX_OBSERVER_ERRORS = 10
"""Exceptions of `on_event` after which it is called no more."""

_logger = logging.getLogger("kompyct")


class Publisher:
    """Gives each event to `on_event` and to logging; used by the supervisor only."""

    def __init__(self, on_event: Callable[[Event], object] | None, clock: Clock) -> None:
        self._on_event = on_event
        self._clock = clock
        self._observer_errors = 0
        self._second = -1
        self._lines = 0
        self._left_out = 0

    def publish(self, event: Event) -> None:
        """Make `event` known. Never raises."""
        observer = self._on_event
        if observer is not None:
            try:
                observer(event)
            except BaseException as error:
                self._blame(error)
        with suppress(BaseException):  # a logging handler may raise: that is its own affair
            if _logger.isEnabledFor(event.level):
                self._log(event)

    def complain(self, text: str, error: BaseException) -> None:
        """Log `text` with the type of `error` in it. Never raises."""
        with suppress(BaseException):
            _logger.error(text, type(error).__qualname__, exc_info=error)

    def _blame(self, error: BaseException) -> None:
        self._observer_errors += 1
        if self._observer_errors == 1:
            self.complain("on_event raised %s", error)
        if self._observer_errors == MAX_OBSERVER_ERRORS:
            self._on_event = None
            with suppress(BaseException):
                _logger.error(
                    "on_event raised %d times; it is called no more", MAX_OBSERVER_ERRORS
                )

    def _log(self, event: Event) -> None:
        second = self._clock.now() // SECOND
        if second != self._second:
            if self._left_out:
                _logger.warning("%d more events were not logged", self._left_out)
            self._second = second
            self._lines = 0
            self._left_out = 0
        if self._lines < LINES_PER_SECOND:
            self._lines += 1
            _logger.log(event.level, "%s", event)
        else:
            self._left_out += 1
