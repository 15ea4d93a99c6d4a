"""What is left of a guarded program whose launcher was lost as well, and does it still run?"""

from __future__ import annotations

import errno
import io
import lzma
import os
import pickle
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

from kompyct.errors import AutosaveError, CorruptStoreError, StoreError, TrustError, VersionError
from kompyct.guard import autosave
from kompyct.guard.autosave import Items
from kompyct.guard.dictionary import GuardedDict
from kompyct.guard.keeping import LOCK, PREVIOUS
from kompyct.guard.mirror import SavedStore
from kompyct.store import files, trust
from kompyct.store.locks import FileLock, is_locked

Path = str | os.PathLike[str]

_XZ: Final = b"\xfd7zXZ\x00"


def recover(
    rescue: Callable[[GuardedDict], object],
    autosave_file: Path,
    *,
    trust: trust.Trust = "local",
    max_bytes: int = autosave.MAX_BYTES,
) -> int:
    """Call `rescue(data)` with what an autosave holds, whose program and launcher are gone.

    If the file is damaged, the one before serves, with a warning. Neither is changed or removed:
    remove them when what they held is safe. An autosave of faultguard is read as well.

    Args:
        rescue: called with the dictionary. It alone decodes what is in there.
        autosave_file: what was given to `start`.
        trust: "local", or the key given to `start`.
        max_bytes: of the file at most, and of what is in it.

    Returns: 0 if it was the file itself, 1 if the one before.

    Raises:
        AutosaveError: the program runs still, or there is nothing that can be recovered.
        FileNotFoundError: there is neither.
        TrustError: somebody else could have written it: it is not looked into.
        VersionError: a newer version has written it.
        ArgumentError, ArgumentTypeError: `trust` is neither.
    """
    path = _absolute(autosave_file)
    if is_active(path):
        raise AutosaveError(
            f"autosave {path} belongs to a program that runs still; end that one first"
        )
    files.sweep(*os.path.split(path))  # what a launcher was writing when it was killed
    which, items = _newest(path, trust, max_bytes)
    _remove_lock(path)
    rescue(GuardedDict(SavedStore(items)))
    return which


def is_active(autosave_file: Path) -> bool:
    """Whether the program runs whose autosave this is: its launcher has the lock, or lives.

    It does not depend on the times of files.

    Raises:
        FileNotFoundError: there is no such file, and none before it.
    """
    path = _absolute(autosave_file)
    if os.path.lexists(path + LOCK):
        return is_locked(path + LOCK)
    if not os.path.lexists(path) and not os.path.lexists(path + PREVIOUS):
        raise FileNotFoundError(errno.ENOENT, "there is no autosave", path)
    return _writer_lives(path)


def _writer_lives(path: str) -> bool:
    """Whether the process lives that says, in the file, that it has written it.

    For where somebody has removed the lock.
    """
    with suppress(StoreError):
        descriptor = files.open_to_read(path, follow=False)
        if descriptor is not None:
            try:
                start = files.read_at(descriptor, autosave.MAX_START, 0, path)
            finally:
                files.close(descriptor)
            writer = autosave.writer_of(start)
            return writer is not None and writer.is_alive()
    return False


def _absolute(path: Path) -> str:
    return os.path.abspath(os.fspath(path))


def _newest(path: str, trusted: trust.Trust, max_bytes: int) -> tuple[int, Items]:
    """0 and what the file holds, or 1 and what the one before does."""
    trust.check_trust(trusted)
    try:
        return 0, _read(path, trusted, max_bytes)
    except (TrustError, VersionError):
        raise
    except StoreError as error:
        damage = error
    try:
        items = _read(path + PREVIOUS, trusted, max_bytes)
    except (TrustError, VersionError):
        raise
    except StoreError as error:
        raise AutosaveError(
            f"nothing can be recovered: {damage}; and the one before: {error}"
        ) from damage
    warnings.warn(f"the autosave before the last is used: {damage}", stacklevel=3)
    return 1, items


def _read(path: str, trusted: trust.Trust, max_bytes: int) -> Items:
    """What the file holds.

    Raises:
        StoreError: as those of `recover`.
    """
    trust.check_folder(os.path.dirname(path))
    trust.check_no_link(path)
    found = files.read(path, max_bytes, follow=False)
    if found is None:
        raise StoreError(f"{path} is not there", path=path, phase="open", errno=errno.ENOENT)
    data, status = found
    if trusted == "local":
        trust.check_local(path, status)
        if data.startswith(_XZ):
            return _of_faultguard(data, path, max_bytes)
    return autosave.decode(data, path, trusted, max_bytes).items


class _Plain(pickle.Unpickler):
    """Builds what pickle knows by itself, and nothing else."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _of_faultguard(data: bytes, path: str, max_bytes: int) -> Items:
    """What faultguard saved: a dictionary of pickles, pickled, in the format xz."""
    try:
        decompressor = lzma.LZMADecompressor(memlimit=1 << 27)
        raw = decompressor.decompress(data, max_bytes)
        if not decompressor.eof:
            raise EOFError(f"it is cut off, or has more than {max_bytes} bytes of content")
        # Its container needs no class: what names one was planted, and is not for here to run.
        items = _Plain(io.BytesIO(raw)).load().items()
        return [(pickle.dumps(key, 5), bytes(value)) for key, value in items]
    except Exception as error:  # lzma's, and whatever unpickling raises
        raise CorruptStoreError(
            f"{path} is no autosave of faultguard that can be read ({type(error).__name__}); "
            "see the cause",
            path=path,
            phase="decode",
        ) from error


def _remove_lock(path: str) -> None:
    """Remove what a launcher that was killed has left beside its autosave.

    One that lives on, since its rescue has failed only, needs it: see `_writer_lives`.
    """
    if not os.path.exists(path + LOCK) or _writer_lives(path):
        return
    lock = FileLock(path + LOCK)
    with suppress(StoreError):
        lock.acquire()
        files.remove(lock.path)
    lock.release()
