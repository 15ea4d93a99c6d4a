"""What does a child process write when it crashes natively?

Its `faulthandler` writes the Python stack into a pipe, in some fifty small pieces, the innermost
frame first, and then the process ends. For any thread of the parent.
"""

from __future__ import annotations

import os
import re
import signal
import time
from _thread import allocate_lock

_FRAME = re.compile(rb'File ".*\n')
_FATAL = b"Fatal Python error: "

_SIGNALS = {
    "Segmentation fault": signal.SIGSEGV,
    "Aborted": signal.SIGABRT,
    "Bus error": signal.SIGBUS,
    "Illegal instruction": signal.SIGILL,
    "Floating point exception": signal.SIGFPE,
}
"""What `faulthandler` writes first, for each signal it handles."""

MAX_TEXT = 1 << 16
"""Bytes kept of what a child writes; also what fits into its pipe."""

FRAME = 0.0001
"""Seconds after which to look whether it has written a frame."""


class Crash:
    """The reading end of that pipe, and what came of it."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()  # the child's end is its own, see `Child`
        os.set_blocking(self.reading, False)
        self.is_known = False  # whether it has written that it ends by a native crash
        self._text = bytearray()
        self._lock = allocate_lock()  # protects _text, and `reading` from being closed meanwhile
        self._over = allocate_lock()  # held until nothing more can come
        self._over.acquire()
        self._is_over = False  # under _lock

    def read(self) -> bool:
        """Take up what is there; False at the end."""
        with self._lock:
            if self.reading < 0:
                return False
            try:
                data = os.read(self.reading, MAX_TEXT)
            except BlockingIOError:
                return True
            except OSError:
                data = b""
            self._text += data[: MAX_TEXT - len(self._text)]
            if not data:
                self._be_over()
            return bool(data)

    def take_note(self) -> int | None:
        """The signal that ends it, at the first look after it has written that it crashes.

        That is seen before its end: the kernel reports that only once all memory is freed.
        """
        with self._lock:
            text = bytes(self._text)
            start = text.rfind(_FATAL)
            if self.is_known or start < 0:
                return None
            del self._text[:start]  # a SIGTERM that it has survived
            first, _, _ = text[start + len(_FATAL) :].partition(b"\n")
            number = _SIGNALS.get(first.decode("ascii", "replace"))
            self.is_known = number is not None
            return None if number is None else int(number)

    def report(self, wait: float, *, innermost: bool = False) -> str:
        """What it wrote when it crashed: the Python stack. Empty if it did not crash.

        Args:
            wait: seconds, >= 0, at most, for what it may still be writing.
            innermost: wait for the innermost frame only, which comes first.
        """
        until = time.monotonic() + wait
        while self.is_known:
            if innermost and _FRAME.search(self._text):
                break
            # Here as well: the thread that looks after children looks only now and then.
            if not self.read():
                break
            left = until - time.monotonic()
            if left <= 0:
                break
            if self._over.acquire(True, min(left, FRAME) if innermost else left):
                self._over.release()
                break
        with self._lock:
            return bytes(self._text).decode("utf-8", "replace")

    def close(self) -> None:
        """Nothing more is read."""
        with self._lock:
            if self.reading >= 0:
                os.close(self.reading)
                self.reading = -1
            self._be_over()

    def _be_over(self) -> None:
        """With the lock."""
        if not self._is_over:  # `_over` itself is held for a moment by who waits for it
            self._is_over = True
            self._over.release()
