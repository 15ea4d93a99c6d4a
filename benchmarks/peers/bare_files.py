"""How is a value replaced by hand, and how fast is the disk?"""

from __future__ import annotations

import os
import pickle
import stat
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

from benchmarks.measure import values_of

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def renamer(folder: Path, value_bytes: int) -> Callable[[], None]:
    """See `files.commits`: the careful rename, with nothing else around it.

    Pickle, write a temporary that nobody can have planted and that goes if it is not renamed,
    sync it, rename it, sync the folder; the mode of the old file is kept, which is 0600 here. No
    lock is taken, no link is minded, and no error is told of in another way.
    """
    target, temporary = str(folder / "value"), str(folder / "value.tmp")
    values = cycle(values_of(value_bytes))

    def commit() -> None:
        try:
            mode = stat.S_IMODE(os.stat(target).st_mode)
        except FileNotFoundError:
            mode = 0o600
        descriptor = os.open(temporary, _NEW, 0o600)
        try:
            if mode != 0o600:
                os.fchmod(descriptor, mode)
            os.write(descriptor, pickle.dumps(next(values)))
            os.fsync(descriptor)
            os.close(descriptor)
            os.rename(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
        folder_descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fsync(folder_descriptor)
        os.close(folder_descriptor)

    return commit


def in_place(folder: Path, value_bytes: int) -> Callable[[], None]:
    """The floor of the disk: the same bytes of one file written anew, with one fdatasync each.

    A crash in mid-write leaves neither the old value nor the new one.
    """
    descriptor = os.open(folder / "value", os.O_WRONLY | os.O_CREAT, 0o600)
    values = cycle(values_of(value_bytes))

    def write() -> None:
        os.pwrite(descriptor, next(values), 0)
        os.fdatasync(descriptor)

    return write
