"""How does the original find its terminal when its copy has ended?

A copy that is killed at a prompt leaves the terminal without echo, or in the hands of a process
group that is no more.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

if sys.platform != "win32":
    import termios


@dataclass(frozen=True, slots=True)
class Terminal:
    """The terminal as it was, or nothing if the process was not in its foreground.

    Attributes:
        descriptor: that of standard input, output or error, whichever is a terminal; or None.
        attributes: what `termios.tcgetattr` gave.
    """

    descriptor: int | None = None
    attributes: tuple[Any, ...] = ()

    @staticmethod
    def remembered() -> Terminal:
        """The terminal of this process as it is now."""
        for descriptor in (0, 1, 2):
            if os.isatty(descriptor):
                with suppress(OSError, termios.error):  # not its controlling terminal
                    if os.tcgetpgrp(descriptor) == os.getpgrp():
                        return Terminal(descriptor, tuple(termios.tcgetattr(descriptor)))
        return Terminal()

    def restore(self) -> None:
        """Make it so again, unless the shell has put this process in the background since.

        To be called with SIGTTOU blocked: who is in the background and changes the terminal is
        stopped by it.
        """
        if self.descriptor is None:
            return
        with suppress(OSError, termios.error):
            if _has_ended(os.tcgetpgrp(self.descriptor)):
                os.tcsetpgrp(self.descriptor, os.getpgrp())
            if os.tcgetpgrp(self.descriptor) == os.getpgrp():
                termios.tcsetattr(self.descriptor, termios.TCSANOW, list(self.attributes))


def _has_ended(group: int) -> bool:
    """Whether the process group has no member left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
