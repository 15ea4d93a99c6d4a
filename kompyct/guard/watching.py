"""Has the application ended, and how?

By a descriptor of the process (pidfd) where there is one: what else tells of its end can be
closed by the application itself, or be kept open by what it has started.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Final

from kompyct.processes.exits import OomWitness, ProcessExit, from_code

UNKNOWN: Final = 255
"""The exit code where somebody else has waited for the application, and nobody knows."""

_GRACE: Final = 5.0  # seconds for a process to end that has been killed


class Watched:
    """An application that has just been started.

    Args:
        process: it. Nobody else is to wait for it.
        own: whether it is a child of this process, not of a server's of `multiprocessing`.
    """

    def __init__(self, process: BaseProcess, *, own: bool) -> None:
        self._process = process
        self._own = own
        self._witness = OomWitness()
        self._descriptor = -1
        # A child of one's own keeps its number until one has waited for it; a server's may have
        # ended meanwhile, which the sentinel tells.
        if hasattr(os, "pidfd_open") and process.pid is not None:
            with suppress(OSError):
                self._descriptor = os.pidfd_open(process.pid)
        if not own and connection.wait([process.sentinel], 0):
            self._close()

    def wait(self, timeout: float | None) -> bool:
        """Wait for its end; False if it has not come after `timeout` seconds."""
        if self._descriptor >= 0 and self._own:
            return bool(connection.wait([self._descriptor], timeout))
        return bool(connection.wait([self._process.sentinel], timeout))

    def send(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        with suppress(OSError):
            if self._descriptor >= 0:
                signal.pidfd_send_signal(self._descriptor, number)
            elif self._own and self._process.is_alive() and self._process.pid is not None:
                os.kill(self._process.pid, number)

    def end(self) -> None:
        """Kill it, if it has not ended, and wait until it has."""
        self.send(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        if self._descriptor >= 0:
            connection.wait([self._descriptor], _GRACE)
        self._process.join(_GRACE)

    def result(self, left: Callable[[], int | None]) -> tuple[int, ProcessExit]:
        """The exit code, or minus a signal; and the same in full. For one that has ended.

        Args:
            left: gives the exit code that it said it would end with.
        """
        # The server of `multiprocessing` may be dead instead: then its child must not write on.
        if not self._own:
            self.end()
        # Without a limit for one's own child, which is dead: with one, `join` would watch a pipe
        # that what the application has started may still hold.
        self._process.join(None if self._own else _GRACE)
        code = self._process.exitcode
        pid = self._process.pid or 0
        oom = self._witness.saw_a_kill()
        self._close()
        if code is not None:
            return code, from_code(pid, code, oom=oom)
        # Somebody in this process has waited for all children, and so for this one.
        said = left()
        if said is not None:
            return said, ProcessExit(pid, said, None, "exit")
        return UNKNOWN, ProcessExit(pid, None, None, "exit")

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
