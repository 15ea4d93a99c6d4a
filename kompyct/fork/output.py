"""How is output kept from being written twice, or not at all?"""

from __future__ import annotations

import contextlib
import ctypes
import sys


def flush_output() -> None:
    """Write out what is buffered for standard output and error, by Python and by C code.

    Before a fork, so that not both processes do it; and before an end that nothing else follows.
    """
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):  # its reader is gone, or it is closed
                stream.flush()
    ctypes.CDLL(None).fflush(None)
