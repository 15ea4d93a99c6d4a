"""What is done, one step after the other, about a block that does not end?

Source: Resiliparse, whose steps these are: an exception, then SIGINT, then SIGTERM or SIGKILL.
"""

from __future__ import annotations

import logging
import signal
import threading
from enum import Enum
from functools import cache

from kompyct.errors import LimitError, LimitInterrupt
from kompyct.interrupts import Firing, Watch, interrupt

_logger = logging.getLogger("kompyct")


class InterruptType(Enum):
    """How what has exceeded a limit is interrupted."""

    exception = "exception"
    """By an exception, three times."""
    signal = "signal"
    """By SIGINT, then twice by SIGTERM or SIGKILL: only on the main thread."""
    exception_then_signal = "exception_then_signal"
    """By an exception, SIGINT, then SIGTERM or SIGKILL: only on the main thread."""


class Ladder:
    """The steps for one kind of guard; it keeps nothing of a single run."""

    def __init__(
        self,
        interrupt_type: InterruptType | None,
        error: type[LimitInterrupt],
        *,
        send_kill: bool,
    ) -> None:
        last = getattr(signal, "SIGKILL", signal.SIGTERM) if send_kill else signal.SIGTERM
        # Whether signals were asked for by name.
        self.needs_main = interrupt_type not in (None, InterruptType.exception)
        self._error = error
        self._steps: tuple[signal.Signals | None, ...] = {  # None is the exception
            InterruptType.exception: (None,),
            InterruptType.signal: (signal.SIGINT, last),
            InterruptType.exception_then_signal: (None, signal.SIGINT, last),
        }[interrupt_type or InterruptType.exception_then_signal]

    def check_thread(self) -> None:
        """Refuse a thread that cannot receive what was asked for by name.

        Raises:
            LimitError: this is not the main thread.
        """
        if not _is_main(threading.get_ident()):
            raise LimitError(
                "only the main thread receives signals, and this is another one; give "
                "interrupt_type=InterruptType.exception, or leave it out"
            )

    def climb(self, watch: Watch, step: int, source: object, limit: float, text: str) -> bool:
        """Do the step of that number, the last one from there on; for the watchdog.

        Returns: whether it was done; if not, it may be tried again.

        Raises:
            ReferenceError: the block has been left.
        """
        number = self._steps[min(step, len(self._steps) - 1)]
        ident = watch.ident
        if number is not None and not _is_main(ident):
            _say_once()
            number = None
        return interrupt(watch, Firing(ident, self._error, text, source, limit), number)


def _is_main(ident: int | None) -> bool:
    return ident == threading.main_thread().ident


@cache
def _say_once() -> None:
    _logger.warning(
        "a guard in a thread that is not the main one stays with exceptions: signals would "
        "interrupt the main thread"
    )
