"""Would the harnesses find a bug? Bugs to be planted between the store and the operating system.

Each is laid over what watches the calls, so that it is seen what the store with that bug would do.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kompyct.store.files import TEMPORARY
from tests.harness.store.calls import Calls


class NoFileSync(Calls):
    """Files are not synced."""

    def call(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if name in ("fsync", "fdatasync") and not _is_folder(args[0]):
            return None
        return function(*args, **options)


class NoFolderSync(Calls):
    """Folders are not synced."""

    def call(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if name in ("fsync", "fdatasync") and _is_folder(args[0]):
            return None
        return function(*args, **options)


class InPlace(Calls):
    """A file is overwritten instead of being replaced."""

    def call(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if name not in ("replace", "rename"):
            return function(*args, **options)
        source, target = args
        with open(source, "rb") as file:
            content = file.read()
        descriptor = self.below.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self.below.write(descriptor, content)
        self.below.fsync(descriptor)
        self.below.close(descriptor)
        return self.below.unlink(source)


class UnlinkFirst(Calls):
    """The old file is removed, and then the new one renamed."""

    def call(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if name in ("replace", "rename"):
            with suppress(FileNotFoundError):
                self.below.unlink(args[1])
        return function(*args, **options)


class SwallowedSyncError(Calls):
    """An error of syncing is taken for success."""

    def call(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if name in ("fsync", "fdatasync"):
            with suppress(OSError):
                function(*args, **options)
            return None
        return function(*args, **options)


class SwallowedWriteError(Calls):
    """An error of writing is taken for success."""

    def call(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if name in ("write", "pwrite"):
            with suppress(OSError):
                return function(*args, **options)
            return len(args[1])
        return function(*args, **options)


class TemporariesLeft(Calls):
    """Temporaries are never removed."""

    def call(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if name in ("unlink", "remove") and os.fsdecode(args[0]).endswith(TEMPORARY):
            return None
        return function(*args, **options)


class ShortWrite(Calls):
    """That a write wrote less than it was given is not looked at."""

    def call(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if name != "write":
            return function(*args, **options)
        function(*args, **options)
        return len(args[1])


PLANTED: dict[str, type[Calls]] = {
    "no-file-sync": NoFileSync,
    "no-folder-sync": NoFolderSync,
    "in-place": InPlace,
    "unlink-first": UnlinkFirst,
    "swallowed-sync-error": SwallowedSyncError,
    "swallowed-write-error": SwallowedWriteError,
    "temporaries-left": TemporariesLeft,
    "short-write": ShortWrite,
}


def laid_over(calls: Any, planted: str | None) -> Any:
    """`calls` with the bug of that name over them, if one is named."""
    return calls if planted is None else PLANTED[planted](calls)


def _is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)
