"""How does one writer keep the others out?"""

from __future__ import annotations

import errno
import json
import os
import time
from contextlib import suppress
from weakref import WeakSet

from kompyct.errors import StoreLockedError
from kompyct.store import files
from kompyct.store.failures import phase, refuse

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


GRACE = 0.1
"""Seconds beyond its timeout that a lock is waited for while somebody only looks at it."""


class FileLock:
    """An exclusive lock on a file that exists for that only; it ends with the process.

    Held in a process it is held against its other threads as well. A forked child does not have
    it: its descriptor is closed there, since a lock that outlived its owner in some child would
    keep the next start out.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1

    @property
    def held(self) -> bool:
        """Whether this object has it."""
        return self._descriptor >= 0

    def acquire(self, timeout: float = 0.0) -> None:
        """Take the lock, and write into the file who has it.

        Args:
            timeout: seconds to wait for it.

        Raises:
            StoreLockedError: somebody else has it.
            StoreError: there can be no lock.
        """
        give_up = time.monotonic() + timeout
        pause = 0.001
        while not self._try():
            late = time.monotonic() - give_up
            # Who only looks, see `is_locked`, is waited for a little in any case.
            if late >= GRACE or (late >= 0 and is_locked(self.path)):
                raise StoreLockedError(
                    f"{self.path}: locked by {self._holder()}",
                    path=self.path,
                    phase="lock",
                    errno=errno.EAGAIN,
                )
            time.sleep(pause)
            pause = min(pause * 2, 0.02)

    def check(self) -> None:
        """Make sure that nobody else can have the lock: that its file is still there.

        Raises:
            StoreLockedError: it is not.
            StoreError: it cannot be looked at.
        """
        with phase("lock", self.path), suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._descriptor), os.stat(self.path)):
                return
        raise StoreLockedError(
            f"{self.path}: somebody has removed the lock that was held, and may write as well; "
            "end this writer",
            path=self.path,
            phase="lock",
            errno=errno.ENOENT,
        )

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._descriptor >= 0 and fcntl is not None:
            with suppress(OSError):  # not by closing alone, should that fail
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self.let_go()

    def let_go(self) -> None:
        """Close the file, in a forked child, whose parent has the lock still."""
        descriptor, self._descriptor = self._descriptor, -1
        _held.discard(self)
        if descriptor >= 0:
            files.close(descriptor)

    def _try(self) -> bool:
        if fcntl is None:
            refuse(self.path, "cannot be locked on this platform", errno.ENOSYS)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | files.flag("O_NOFOLLOW")
        with phase("lock", self.path):
            descriptor = os.open(self.path, flags, files.FILE_MODE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                    raise BlockingIOError  # somebody has removed the file meanwhile
            except (BlockingIOError, FileNotFoundError):
                files.close(descriptor)
                return False
            except BaseException:
                files.close(descriptor)
                raise
        self._descriptor = descriptor
        _watch_forks()
        _held.add(self)
        with suppress(OSError):  # for people only
            os.ftruncate(descriptor, 0)
            since = time.strftime("%Y-%m-%d %H:%M:%S%z")
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": since}).encode(), 0)
        return True

    def _holder(self) -> str:
        with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
            found = files.read(self.path, 4096)
            told = json.loads(found[0]) if found is not None else {}
            holder = f"process {told['pid']} since {told['since']}"
            if told["pid"] == os.getpid():
                return f"{holder}, which is this one; close it there first"
            return f"{holder}; end that one first, or wait"
        return "another process; end that one first, or wait"


def is_locked(path: str) -> bool:
    """Whether somebody has the lock of the file `path`; nothing is changed."""
    if fcntl is None:
        return False
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            files.close(descriptor)
    return False


_held: WeakSet[FileLock] = WeakSet()
"""The locks of this process, for a forked child to close (docs/decisions/0009)."""

_forks_watched: list[bool] = []


def _watch_forks() -> None:
    if not _forks_watched:
        _forks_watched.append(True)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_let_go)


def _let_go() -> None:
    for lock in list(_held):
        lock.let_go()
