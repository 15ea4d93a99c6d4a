"""What does the original do while its copy runs?

It waits, deaf to Ctrl+C and its like, which are for the copy.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_INTERRUPTS = {signal.SIGINT, signal.SIGQUIT}
"""What the terminal sends to the whole process group, and so to the copy as well."""

_AWAITED = _INTERRUPTS | {signal.SIGCHLD}

_HELD = _AWAITED | {signal.SIGALRM}
"""An alarm of the original rings when the original goes on; copies have none of its timers."""

_LOOK = 0.05
"""Seconds after which to look at the copy, where another thread may take its signal away."""

_FOR_EVER = 3600.0
"""Seconds, then it looks and waits on."""


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back signals, in the original until it goes on, in the copy until it has begun.

    They are blocked before the fork, so that no Ctrl+C falls between. SIGCHLD is not ignored
    meanwhile, for the system tells nobody how a child ended if it is.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    ignored = signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    original = os.getpid()
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)  # may raise a Ctrl+C that came before
        if ignored:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        yield
    finally:
        try:
            if ignored:
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)
                if os.getpid() == original:
                    _reap_ignored()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def wait_for(copy: int, *, threaded: bool) -> int | None:
    """Wait until the copy has ended, with signals held; None if its status was taken away.

    An interrupt that was sent to this process alone, as by `kill`, is passed on. An exception from
    a handler of another signal ends the copy, and goes on from here.

    Args:
        copy: the number of a child that has not been waited for.
        threaded: whether other threads might get the signal that a child has ended, or wait for
            any child.
    """
    patience = _LOOK if threaded else _FOR_EVER
    try:
        while True:
            ended, status = os.waitpid(copy, os.WNOHANG)
            if ended:
                _settle()
                return status
            told = signal.sigtimedwait(_AWAITED, patience)
            # Codes above 0 are the kernel's: the terminal has told the copy too.
            if told is not None and told.si_signo in _INTERRUPTS and told.si_code <= 0:
                os.kill(copy, told.si_signo)
    except ChildProcessError:
        _settle()
        return None
    except BaseException:
        # Not waited for yet, so the number is still the copy's.
        with suppress(ProcessLookupError):
            os.kill(copy, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(copy, 0)
        _settle()
        raise


def _settle() -> None:
    """Forget the signals that were the copy's; keep word of other children that have ended.

    A pending SIGCHLD stands for any number of children, so the children are asked.
    """
    while signal.sigtimedwait(_AWAITED, 0) is not None:
        pass
    with suppress(ChildProcessError):
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            os.kill(os.getpid(), signal.SIGCHLD)  # comes when the signals are let go


def _reap_ignored() -> None:
    """Wait for children that ended while SIGCHLD was not ignored, as the system would have."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
