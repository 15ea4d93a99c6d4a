"""Which signals that the launcher gets are meant for the application?

The launcher must outlive it, to rescue its data. So what would end the launcher is sent on, and
ends the application, or does whatever that has a handler for. Handlers are installed for the time
of `start`, in the main thread only; those of the user are put back, and are the application's own
from its beginning.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

Handlers = dict[int, Any]
"""By signal, what `signal.getsignal` returned."""

ALWAYS: Final = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK")
"""Signals that are sent on."""

FROM_A_TERMINAL: Final = ("SIGINT", "SIGQUIT")
"""Those which a terminal sends to both processes: sent on where there is no terminal."""


@contextmanager
def relayed(send: Callable[[int], None]) -> Iterator[Handlers]:
    """Within the block, have signals sent on by `send`; gives the handlers there were before.

    In any other thread than the main one nothing is changed: the handlers there are stay.
    """
    before: Handlers = {}
    if threading.current_thread() is not threading.main_thread():
        yield before
        return

    def send_on(number: int, _frame: FrameType | None) -> None:
        if number in unless_from_terminal and _in_foreground():
            return
        send(number)

    unless_from_terminal = _existing(FROM_A_TERMINAL)
    try:
        for number in (*_existing(ALWAYS), *unless_from_terminal):
            handler = signal.getsignal(number)
            # What is ignored stays so, as SIGHUP under nohup; None is not Python's to put back.
            if handler is not None and handler is not signal.SIG_IGN:
                before[number] = handler
                signal.signal(number, send_on)
        # A handler that waits for any child, or a kernel told to forget them, would take the way
        # in which the application ended from the one who has to know.
        for number in _existing(("SIGCHLD",)):
            handler = signal.getsignal(number)
            if handler is not None and handler is not signal.SIG_DFL:
                before[number] = handler
                signal.signal(number, signal.SIG_DFL)
        yield before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[set[int]]:
    """Within the block, no signal that is sent on is delivered to this thread.

    A child forked within begins with that, and is to undo it; gives what was held back before.
    For forks only: the servers of `multiprocessing` would begin with it, and never undo it.
    """
    numbers = {*_existing(ALWAYS), *_existing(FROM_A_TERMINAL)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield set(before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _existing(names: tuple[str, ...]) -> tuple[int, ...]:
    """The signals of those names that this platform has."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


def _in_foreground() -> bool:
    """Whether this process and its children are those to whom a terminal sends its signals."""
    if not hasattr(os, "tcgetpgrp"):
        return True
    for descriptor in (0, 1, 2):
        with suppress(OSError):
            return os.tcgetpgrp(descriptor) == os.getpgrp()
    return False
