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

_GLANCE = 0.5
"""Seconds after which to look otherwise: a signal that comes between its being unblocked and the
system call that waits does not cut that short, and its handler runs only then."""


@contextmanager
def signals_held() -> Iterator[set[int]]:
    """Block all signals, and give the mask with which the original is to wait.

    They are blocked before the fork: neither a Ctrl+C nor an exception from a handler falls
    between. SIGCHLD is not ignored meanwhile, for then the system tells nobody how a child ended.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    ignored = signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    original = os.getpid()
    try:
        _block_all()  # may raise what a handler raises that was due before
        if ignored:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        yield {int(number) for number in mask} | _HELD
    finally:
        try:
            if ignored:
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)
                if os.getpid() == original:
                    _reap_ignored()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def wait_for(copy: int, mask: set[int], *, threaded: bool) -> int | None:
    """Wait until the copy has ended; None if its status was taken away.

    To be called, and left, with all signals blocked. An interrupt that was sent to this process
    alone, as by `kill`, is passed on. An exception from a handler of another signal ends the copy,
    and goes on from here.

    Args:
        copy: the number of a child that has not been waited for.
        mask: the signals that are to stay blocked while it waits.
        threaded: whether other threads might get the signal that a child has ended, or wait for
            any child.
    """
    patience = _LOOK if threaded else _GLANCE
    status: int | None = None
    try:
        while True:
            # With all signals blocked, so that whatever is raised is raised before this.
            ended, status = os.waitpid(copy, os.WNOHANG)
            if ended:
                break
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            told = signal.sigtimedwait(_AWAITED, patience)
            _block_all()
            # Codes above 0 are the kernel's: the terminal has told the copy too.
            if told is not None and told.si_signo in _INTERRUPTS and told.si_code <= 0:
                os.kill(copy, told.si_signo)
    except (ChildProcessError, ProcessLookupError):  # another thread has waited for it
        status = None
    except BaseException:
        try:
            _block_all()  # may raise once more, having blocked them
        finally:
            _end(copy)
            _settle()
        raise
    _settle()
    return status


def _block_all() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _end(copy: int) -> None:
    """Kill the copy, which has not been waited for, so that the number is still its own."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(copy, signal.SIGKILL)
        os.waitpid(copy, 0)


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
