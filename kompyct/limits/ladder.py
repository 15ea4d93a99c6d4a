"""What is done, one step after the other, about a block that does not end?

Source: Resiliparse, whose steps these are: an exception, then SIGINT, then SIGTERM or SIGKILL.
"""

from __future__ import annotations

import signal
import threading
from enum import Enum
from functools import cache

from kompyct.errors import LimitError, LimitInterrupt
from kompyct.interrupts import Firing, Watch, interrupt, say


class InterruptType(Enum):
    """How what has exceeded a limit is interrupted."""

    exception = "exception"
    """By an exception, three times."""
    signal = "signal"
    """By SIGINT, SIGTERM, then once more or by SIGKILL: only on the main thread."""
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
            InterruptType.signal: (signal.SIGINT, signal.SIGTERM, last),
            InterruptType.exception_then_signal: (None, signal.SIGINT, last),
        }[interrupt_type or InterruptType.exception_then_signal]

    def check_thread(self) -> None:
        """Refuse a thread that cannot receive what was asked for by name.

        Raises:
            LimitError: this is not the main thread.
        """
        if not _is_main(threading.get_ident()):
            raise LimitError(
                "only the main thread receives signals, and not on Windows; give "
                "interrupt_type=InterruptType.exception, or leave it out"
            )

    def climb(
        self, watch: Watch, step: int, source: object, limit: float, text: str
    ) -> Firing | None:
        """Do the step of that number, the last one from there on; for the watchdog.

        Returns: what was done; None if it could not be, and may be tried again.

        Raises:
            ReferenceError: the block has been left.
        """
        number = self._steps[min(step, len(self._steps) - 1)]
        ident = watch.ident
        if number is not None and not _is_main(ident):
            _say_once()
            number = None
        firing = Firing(ident, self._error, text, source, limit)
        return firing if interrupt(watch, firing, number) else None


def tell_of(firing: Firing, guard: object) -> None:
    """Tell that an interrupt was set and is not raised: the thread runs nothing of Python's."""
    say(
        "%r cannot interrupt its block at %s, which is in native code, waits, or gets no "
        "time; what must be stopped then needs a process of its own",
        guard,
        firing.stack.location,
    )


def tell_of_shield(guard: object) -> None:
    """Tell that an interrupt cannot be set for now."""
    say(
        "%r cannot interrupt its block yet: that waits in kompyct, logs, or is a generator or "
        "coroutine that is suspended",
        guard,
    )


def _is_main(ident: int | None) -> bool:
    return ident == threading.main_thread().ident and hasattr(signal, "pthread_kill")


@cache
def _say_once() -> None:
    say(
        "a guard in a thread that is not the main one stays with exceptions: signals would "
        "interrupt the main thread"
    )
