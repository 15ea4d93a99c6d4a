"""How does an error of the operating system become one of the store's?

With the path, what was being done with it, and the number that the operating system gave.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from types import TracebackType
from typing import Literal, NoReturn

from kompyct.errors import CorruptStoreError, DurabilityError, StoreError

_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}


class phase:
    """Turns an `OSError` in its `with` block into a `StoreError` that names the phase.

    A class, since a generator would take as long as the system call in it.
    """

    __slots__ = ("_name", "_path")

    def __init__(self, name: str, path: str) -> None:
        self._name = name
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, StoreError):
            raise translated(error, self._path, self._name) from error


def translated(error: OSError, path: str, name: str) -> StoreError:
    """The error for `error`, which came from what the phase `name` does with `path`."""
    kind = DurabilityError if error.errno == errno.EIO and name == "write" else StoreError
    text = f"{path}: could not {_VERBS[name]}: {error.strerror or error}"
    if error.errno == errno.ENOTDIR and not os.path.lexists(path):
        text = f"{path} lies in something that is no folder; give a path that lies in one"
    return kind(
        text,
        path=path,
        phase=name,
        errno=error.errno,
    )


_VERBS = {
    "open": "be opened",
    "read": "be read",
    "write": "be written",
    "rename": "be renamed",
    "lock": "be locked",
}


def refuse(
    path: str,
    what: str,
    number: int,
    cause: BaseException | None = None,
    *,
    wanted: str = "regular file",
) -> NoReturn:
    """Raise the `StoreError` that `path` is not what is `wanted`."""
    raise StoreError(
        f"{path} {what}; give the path of a {wanted}, or of nothing yet",
        path=path,
        phase="open",
        errno=number,
    ) from cause


def too_big(path: str, size: int, max_bytes: int) -> CorruptStoreError:
    """The error for a file of `size` bytes, which is not read."""
    return CorruptStoreError(
        f"{path}: {size} bytes are more than the {max_bytes} that max_bytes= allows",
        path=path,
        phase="read",
        errno=errno.EFBIG,
    )


def kind_of(mode: int) -> str:
    """What a file of that mode is, in words."""
    kinds: tuple[tuple[Callable[[int], bool], str], ...] = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISLNK, "a link"),
        (stat.S_ISREG, "a file"),
    )
    return next((name for test, name in kinds if test(mode)), "a device")


def errno_of(mode: int) -> int:
    """The number that the operating system would give where no file of that mode can be.

    ENXIO is what open(2) has for FIFOs, sockets and devices that it does not open.
    """
    return errno.EISDIR if stat.S_ISDIR(mode) else errno.ENXIO


def not_synced(error: OSError, path: str) -> Literal[False]:
    """False if the file system knows no such thing as to sync.

    Raises:
        DurabilityError: it does.
    """
    if error.errno in _NO_SYNC:
        return False
    raise DurabilityError(
        f"{path}: what was written may not be on the disk: {error.strerror}; "
        "what was there before is kept",
        path=path,
        phase="sync",
        errno=error.errno,
    ) from error


def folder_not_synced(error: OSError, path: str, left: str) -> Literal[False]:
    """As `not_synced` for a folder; `left` is what a power cut would leave."""
    if error.errno in _NO_SYNC:
        return False
    raise DurabilityError(
        f"{path}: the outcome is unknown, a power cut would leave {left}: {error.strerror}",
        path=path,
        phase="sync-folder",
        errno=error.errno,
    ) from error
