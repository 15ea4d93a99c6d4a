"""How do bytes reach the disk, so that a crash leaves the old or the new, whole?

The only module that makes system calls on durable files, so that the fault harnesses see every
one; `locks` has those on files that exist for being locked only. Each error names the phase it
happened in. Every function is for any thread.

A careful rename is: write a temporary beside the target, sync it, rename it over the target, sync
the folder. A temporary is locked by whoever writes it, and the lock ends with its process, so
that `sweep` can tell those of the dead from those in use.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b

from kompyct.errors import DurabilityError, StoreError
from kompyct.store.failures import (
    errno_of,
    folder_not_synced,
    kind_of,
    not_synced,
    phase,
    refuse,
    too_big,
    translated,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".kompyct-tmp"
"""How the names of temporaries end."""

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO must not block
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_MAX_NAME = 200  # bytes of the target's name that a temporary's may repeat

FOLDER_MODE = 0o700
FILE_MODE = 0o600


# -- reading --------------------------------------------------------------------------------


def read(path: str, max_bytes: int, *, follow: bool = True) -> tuple[bytes, os.stat_result] | None:
    """The whole of the regular file `path` and what `fstat` says of it; None if there is none.

    Raises:
        StoreError: it cannot be opened or read, is no regular file, or is a dangling link.
        CorruptStoreError: it has more than `max_bytes`.
    """
    descriptor = open_to_read(path, follow=follow)
    if descriptor is None:
        return None
    try:
        status = status_of_open(descriptor, path)
        if status.st_size > max_bytes:
            raise too_big(path, status.st_size, max_bytes)
        with phase("read", path):
            data = b""
            parts = []
            left = max_bytes + 1
            while left and (data := os.read(descriptor, min(left, max(status.st_size, 4096) + 1))):
                parts.append(data)
                left -= len(data)
        if not left:
            raise too_big(path, max_bytes + 1, max_bytes)
        return b"".join(parts), status
    finally:
        _close(descriptor)


def open_to_read(path: str, *, follow: bool = True) -> int | None:
    """A descriptor of the regular file `path`, to be closed by `close`; None if there is none.

    Raises:
        StoreError: it cannot be opened, is no regular file, or is a dangling link.
    """
    try:
        descriptor = os.open(path, _READ | (0 if follow else flag("O_NOFOLLOW")))
    except FileNotFoundError as error:
        if os.path.islink(path):
            refuse(path, "is a link to nothing", errno.ENOENT, error)
        return None
    except OSError as error:
        if error.errno == errno.ELOOP and not follow and os.path.islink(path):
            refuse(path, "is a link", errno.ELOOP, error)
        if error.errno == errno.ENXIO and (found := status_of(path)) is not None:
            refuse(path, f"is {kind_of(found.st_mode)}", errno.ENXIO, error)  # a socket
        raise translated(error, path, "open") from error
    try:
        kind = status_of_open(descriptor, path).st_mode
        if not stat.S_ISREG(kind):
            refuse(path, f"is {kind_of(kind)}", errno_of(kind))
    except BaseException:
        _close(descriptor)
        raise
    return descriptor


def read_at(descriptor: int, size: int, offset: int, path: str) -> bytes:
    """Up to `size` bytes of an open file from `offset` on.

    Raises:
        StoreError: it cannot be read.
    """
    with phase("read", path):
        return os.pread(descriptor, size, offset)


def status_of_open(descriptor: int, path: str) -> os.stat_result:
    """What the operating system says of an open file.

    Raises:
        StoreError: it cannot be looked at.
    """
    with phase("read", path):
        return os.fstat(descriptor)


def close(descriptor: int) -> None:
    """Close; what is to be durable was synced before."""
    _close(descriptor)


def status_of(path: str, *, follow: bool = True) -> os.stat_result | None:
    """What the operating system says of `path`; None if there is nothing.

    Raises:
        StoreError: it cannot be looked at.
    """
    try:
        return os.stat(path, follow_symlinks=follow)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise translated(error, path, "open") from error


# -- replacing a file -----------------------------------------------------------------------


def replace(
    path: str, *parts: bytes, previous: str | None = None, found: os.stat_result | None = None
) -> bool:
    """Replace the file `path` by one that holds `parts`, by a careful rename.

    Mode and owner of an existing file are kept; a new one has mode 0600. A link stays, and its
    target is replaced.

    Args:
        previous: where the file that is replaced is kept.
        found: what `status_of(path, follow=False)` has just said, if somebody has looked.

    Returns: whether the file system could sync; False where it knows no such thing.

    Raises:
        StoreError: it could not be written; the old file is whole, and no temporary is left.
        DurabilityError: it could not be synced. After the phase "sync" the old file is there,
            after "sync-folder" it is unknown which one a power cut would leave.
    """
    target = path
    old = found or status_of(path, follow=False)
    if old is not None and stat.S_ISLNK(old.st_mode):
        target = os.path.realpath(path)
        old = status_of(target)
    if old is not None and not stat.S_ISREG(old.st_mode):
        refuse(target, f"is {kind_of(old.st_mode)}", errno_of(old.st_mode))
    folder, start = _place_of(target)
    # Opened before anything is changed: afterwards there may be no handle left for it.
    folder_descriptor = _open_folder(folder, target)
    descriptor = None
    try:
        descriptor, temporary, new = _make_temporary(target, start)
        step = "write"  # few calls: back from the disk, with cold caches, each costs a microsecond
        try:
            for part in parts:
                if (written := os.write(descriptor, part)) != len(part):
                    _write_all(descriptor, part[written:], target)
            if old is not None:
                _take_over_owner(descriptor, old, new)
            synced = True
            try:
                wait_for_disk(descriptor)
            except OSError as error:
                synced = not_synced(error, target)
            step = "rename"
            if previous is not None:
                _keep_previous(target, previous)
            os.replace(temporary, target)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(temporary)
            if isinstance(error, OSError) and not isinstance(error, StoreError):
                raise translated(error, target, step) from error
            raise
        if folder_descriptor is None:
            return False
        try:
            os.fsync(folder_descriptor)
        except OSError as error:
            return folder_not_synced(error, folder, "the new file or the old one")
        return synced
    finally:
        # The temporary not before the rename: without its lock it could be swept.
        _close(descriptor, folder_descriptor)


def wait_for_disk(descriptor: int) -> None:
    """Sync a temporary. It may be interrupted here: there is nothing yet that would stay."""
    os.fsync(descriptor)


def sweep(folder: str, name: str | None = None) -> None:
    """Remove the temporaries of dead writers, of the file `name` or of all files in `folder`.

    What cannot be removed is left: a folder may be there for reading only.
    """
    start = "." if name is None else _temporary_start(name)
    with suppress(OSError):
        for entry in os.listdir(folder):
            if entry.startswith(start) and entry.endswith(TEMPORARY):
                _sweep_one(os.path.join(folder, entry))


def _make_temporary(target: str, start: str) -> tuple[int, str, os.stat_result]:
    """Create and lock a temporary of `target`; (descriptor, path, what fstat says)."""
    while True:
        path = start + os.urandom(8).hex() + TEMPORARY
        try:
            descriptor = os.open(path, _CREATE, FILE_MODE)
        except OSError as error:
            raise translated(error, target, "open") from error
        if fcntl is None:
            return descriptor, path, os.fstat(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            new = os.fstat(descriptor)
            if new.st_nlink:
                return descriptor, path, new
        except BlockingIOError:
            pass  # somebody sweeps and has just found it, not locked yet: make another
        except OSError:
            # A file system without locks: nobody can sweep it either.
            return descriptor, path, os.fstat(descriptor)
        _close(descriptor)


def _sweep_one(path: str) -> None:
    if fcntl is None:
        return
    with suppress(OSError):
        descriptor = os.open(path, _READ | flag("O_NOFOLLOW"))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        finally:
            _close(descriptor)


@lru_cache
def _place_of(target: str) -> tuple[str, str]:
    """The folder of `target`, and how the paths of its temporaries start."""
    folder, name = os.path.split(target)
    return folder, target[: len(target) - len(name)] + _temporary_start(name)


def _temporary_start(name: str) -> str:
    raw = os.fsencode(name)
    if len(raw) > _MAX_NAME:
        return f".{blake2b(raw, digest_size=16).hexdigest()}."
    return f".{name}."


def _take_over_owner(descriptor: int, old: os.stat_result, new: os.stat_result) -> None:
    """Give the new file mode and owner of the one it will replace."""
    if new.st_uid != old.st_uid or new.st_gid != old.st_gid:
        os.fchown(descriptor, old.st_uid, old.st_gid)
    if new.st_mode != old.st_mode:  # both are regular files
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _keep_previous(target: str, previous: str) -> None:
    """Let `previous` be the file that is `target` now."""
    folder, name = os.path.split(target)
    for _ in range(3):
        link = os.path.join(folder, _temporary_start(name)) + os.urandom(8).hex() + TEMPORARY
        try:
            os.link(target, link)
            os.replace(link, previous)
            return
        except FileNotFoundError:
            if not os.path.exists(target):
                return  # there is no previous one
            # otherwise somebody has swept the link, whose lock nobody holds: once more
        except OSError as error:
            if error.errno not in _NO_LINKS or os.path.exists(link):
                raise translated(error, previous, "rename") from error
            break
        finally:
            # It is there still if it was not renamed, for whatever reason; and rename does
            # nothing where both names are the same file already.
            with suppress(OSError):
                os.unlink(link)
    found = read(target, 1 << 62)
    if found is not None:
        replace(previous, found[0])


# -- appending to a log ---------------------------------------------------------------------


def create_log(path: str) -> int:
    """A descriptor of a new empty file to append to; to be closed by `close`.

    Raises:
        StoreError: it cannot be created, or is there already.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | flag("O_NOFOLLOW")
    with phase("open", path):
        return os.open(path, flags, FILE_MODE)


def open_log(path: str) -> int:
    """A descriptor of an existing file to append to; to be closed by `close`.

    Raises:
        StoreError: it cannot be opened.
    """
    with phase("open", path):
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flag("O_NOFOLLOW"))


def append(descriptor: int, data: bytes, path: str) -> None:
    """Append `data`; it is not durable before `sync`.

    Raises:
        StoreError, DurabilityError: it was not written, or a part of it.
    """
    _write_all(descriptor, data, path)


def cut_off(descriptor: int, size: int, path: str) -> None:
    """Cut the file off after `size` bytes.

    Raises:
        StoreError: it cannot be done.
    """
    with phase("write", path):
        os.ftruncate(descriptor, size)


def remove(path: str) -> None:
    """Remove a file, if it is there.

    Raises:
        StoreError: it cannot be removed.
    """
    with phase("write", path), suppress(FileNotFoundError):
        os.unlink(path)


def set_apart(path: str) -> None:
    """Give a damaged file, of which there is no copy, a name that nothing looks for.

    Raises:
        StoreError: it cannot be renamed.
    """
    with phase("rename", path):
        os.rename(path, f"{path}.damaged")


# -- folders --------------------------------------------------------------------------------


def make_folder(path: str) -> None:
    """Make the folder `path`, and those above that are missing, with mode 0700.

    Raises:
        StoreError: something else is there, or it cannot be made.
    """
    missing = []
    above = os.path.abspath(path)
    while status_of(above) is None:
        if os.path.islink(above):
            refuse(above, "is a link to nothing", errno.ENOENT, wanted="folder")
        missing.append(above)
        above = os.path.dirname(above)
    for folder in reversed(missing):
        with phase("open", folder), suppress(FileExistsError):
            os.mkdir(folder, FOLDER_MODE)
        sync_folder(os.path.dirname(folder))
    status = status_of(path)
    if status is None or not stat.S_ISDIR(status.st_mode):
        kind = "gone" if status is None else kind_of(status.st_mode)
        refuse(path, f"is {kind}", errno.ENOTDIR, wanted="folder")


def list_folder(path: str) -> list[str]:
    """The names in the folder.

    Raises:
        StoreError: it cannot be read, or is no folder.
    """
    with phase("open", path):
        return sorted(os.listdir(path))


def sync(descriptor: int, path: str) -> bool:
    """Have the disk take what was written; False where the file system knows no such thing.

    After an error it must not be tried again on the same descriptor: the kernel may have
    dropped what it could not write, and the second try would say that all is well.

    Raises:
        DurabilityError: the disk did not take it.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        return not_synced(error, path)
    return True


def sync_folder(path: str) -> bool:
    """Have the disk take the names in the folder; returns as `sync`.

    Raises:
        DurabilityError: the disk did not take them.
        StoreError: the folder cannot be opened.
    """
    descriptor = _open_folder(path, path)
    if descriptor is None:
        return False
    try:
        os.fsync(descriptor)
    except OSError as error:
        return folder_not_synced(error, path, "what was made or nothing")
    finally:
        _close(descriptor)
    return True


def sync_above(path: str) -> None:
    """Have the disk take the names of the folder `path` and of all above it.

    Whoever made them may have been killed before he could.

    Raises:
        DurabilityError: the disk did not take one of them.
    """
    above = os.path.dirname(os.path.abspath(path))
    while True:
        try:
            sync_folder(above)
        except DurabilityError:
            raise
        except StoreError:  # it cannot be read, so it was not made by this user
            return
        if above == os.path.dirname(above):
            return
        above = os.path.dirname(above)


def _open_folder(path: str, about: str) -> int | None:
    if _FOLDER is None:
        return None
    try:
        return os.open(path, _FOLDER)
    except OSError as error:
        raise translated(error, about, "open") from error


# -- private -------------------------------------------------------------------------------


def _write_all(descriptor: int, data: bytes, path: str) -> None:
    with phase("write", path):
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]


def _close(*descriptors: int | None) -> None:
    for descriptor in descriptors:
        if descriptor is not None:
            try:  # noqa: SIM105  # `suppress` takes as long as the call
                os.close(descriptor)
            except OSError:  # what counts was synced; a close must not be tried again
                pass


def flag(name: str) -> int:
    """A flag of `os.open`; 0 on a platform that does not know it."""
    return int(getattr(os, name, 0))


_FOLDER = (
    os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC if hasattr(os, "O_DIRECTORY") else None
)  # Windows cannot sync folders
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | flag("O_NOFOLLOW")
