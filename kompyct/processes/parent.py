"""How does a child process end when its parent does, however that ended?

Two ways at once, since each has a gap: the kernel's signal is immediate, but Linux's own and
bound to the *thread* that made the child; the end of a pipe is noticed anywhere, but only by a
thread that gets to run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from _thread import start_new_thread
from contextlib import suppress
from functools import cache
from typing import Final

ORPHANED: Final = 113
"""The exit code of a child that ended since its parent had."""

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends; to be called in a child, first.

    It does nothing where the kernel cannot. The signal comes when the *thread* of the parent
    that made this process ends, even if the parent lives on: make children from a thread that
    lives as long as they may. What this process forks does not inherit it.

    Args:
        parent_pid: who was the parent when this process was made. If it is not any more, this
            process ends at once.
    """
    if sys.platform != "linux":
        return
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # It may have ended before that call: then there will be no signal any more.
    if os.getppid() != parent_pid:
        os._exit(ORPHANED)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def watch_end_of_file(descriptor: int) -> None:
    """End this process when the pipe whose other end only the parent holds reaches its end.

    What is read from it is thrown away. Should this process close the descriptor, it goes on
    watching as long as the platform lets a reader that has begun; it never ends a process merely
    because its descriptor is gone. Nobody waits until the thread runs: the one before this process
    may be dying on the CPU that it is to run on, which takes a millisecond.

    Args:
        descriptor: the reading end.
    """
    start_new_thread(_watch, (descriptor,))


def _watch(descriptor: int) -> None:
    with suppress(OSError):  # closed by this process, which is no sign of the parent's end
        while os.read(descriptor, 4096):
            pass
        os._exit(ORPHANED)
