"""When is the autosave written, and what happens when it cannot be?

In the launcher only: the application never waits for it. The file is replaced as a whole and
synced; the one before is kept beside it, as `path.tmp`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from kompyct.errors import AutosaveError, StoreError, StoreLockedError
from kompyct.guard import autosave
from kompyct.guard.autosave import Items
from kompyct.processes.identity import identity_of
from kompyct.store import files, trust
from kompyct.store.locks import FileLock, is_locked

LOCK: Final = ".lock"
PREVIOUS: Final = ".tmp"
"""What is appended to the path of an autosave for the files beside it."""

FIRST_RETRY: Final = 1.0
LONGEST_RETRY: Final = 60.0
"""Seconds after which a save that failed is tried again; each time twice as many."""

_log = logging.getLogger("kompyct.guard")


class Keeper:
    """Writes the autosave of one program, which it has for itself from `claim` to `release`.

    Args:
        path: the file, absolute.
        interval: seconds from one save to the next.
        read: what to save: see `Mirror.read`.
        trusted: "local", or a key to sign with.

    Attributes:
        failures: saves that could not be written, in all.
    """

    def __init__(
        self,
        path: str,
        interval: float,
        read: Callable[[], tuple[object, Items]],
        trusted: trust.Trust,
    ) -> None:
        self.failures = 0
        self._path = path
        self._interval = interval
        self._read = read
        self._trusted: trust.Trust = trusted
        self._lock = FileLock(path + LOCK)
        self._writer = identity_of(os.getpid())
        self._saved: object = None  # the state that the file holds
        self._failed_in_a_row = 0
        self._next = 0.0

    def claim(self) -> None:
        """Take the file, which must not be there yet, and write it for the first time.

        Raises:
            AutosaveError: it is there already, or belongs to a living program.
            TrustError: somebody else could write in its folder.
            StoreError: it cannot be written.
        """
        trust.check_folder(os.path.dirname(self._path))
        if not is_locked(self._lock.path):
            self._check_absent()  # before a lock is made beside what is somebody else's
        try:
            self._lock.acquire()
        except StoreLockedError as error:
            raise AutosaveError(
                f"autosave {self._path} belongs to a program that runs: {error}; give another path"
            ) from error
        try:
            self._check_absent()
            files.sweep(*os.path.split(self._path))
            files.remove(self._path + PREVIOUS)
            self._write()
        except BaseException:
            self.release()
            raise

    @property
    def due_in(self) -> float:
        """Seconds to the next save; 0 if it is due."""
        return max(0.0, self._next - time.monotonic())

    def save(self) -> None:
        """Write the file if anything has changed. What goes wrong is warned of once, and counted;
        it is tried again later."""
        try:
            self._write()
        except Exception as error:  # whatever it is, the application is not to feel it
            self.failures += 1
            if not self._failed_in_a_row:
                _log.warning("the autosave is not written; it will be tried again: %s", error)
            delay = FIRST_RETRY * 2 ** min(self._failed_in_a_row, 10)
            self._failed_in_a_row += 1
            self._next = time.monotonic() + min(delay, max(self._interval, LONGEST_RETRY))
        else:
            if self._failed_in_a_row:
                _log.warning(
                    "the autosave is written again, after %d tries", self._failed_in_a_row
                )
            self._failed_in_a_row = 0

    def remove(self) -> None:
        """Remove the file and the one before: what they hold is not needed any more."""
        for path in (self._path, self._path + PREVIOUS):
            try:
                files.remove(path)
            except StoreError as error:
                _log.warning("an autosave that is not needed any more stays: %s", error)

    def release(self) -> None:
        """Let others have the path.

        While there is an autosave the file of the lock stays, and says that nobody has it.
        """
        if self._lock.held and not os.path.lexists(self._path):
            with suppress(StoreError):  # while it is held: whoever waits for it notices
                files.remove(self._lock.path)
        self._lock.release()

    def _check_absent(self) -> None:
        if os.path.lexists(self._path):
            raise AutosaveError(
                f"autosave {self._path} exists already: recover it and remove it, or give another "
                "path"
            )

    def _write(self) -> None:
        self._next = time.monotonic() + self._interval
        state, items = self._read()
        if state == self._saved:
            return
        data = autosave.encode(items, self._writer, self._trusted)
        files.replace(self._path, data, previous=self._path + PREVIOUS)
        self._saved = state
