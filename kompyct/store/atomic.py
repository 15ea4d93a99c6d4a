"""How is one value kept in one file, and replaced atomically?

Source: atomic_store 0.0.1, whose parameters and rules for nested `with` these are. Its list of
what it will not do holds here too: no database, no several files, nothing more advanced than a
commit. Against it: an exception that leaves the outermost `with` commits nothing (S-30).
"""

from __future__ import annotations

import copy
import errno
import os
import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

from kompyct.clock import nanoseconds
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    CorruptStoreError,
    DurabilityError,
    StoreError,
    TrustError,
)
from kompyct.store import files
from kompyct.store.formats import Format, from_bytes, resolve_format, runs_code, to_parts
from kompyct.store.locks import FileLock
from kompyct.store.trust import (
    Trust,
    check_folder,
    check_local,
    check_no_link,
    check_trust,
    is_signed,
    sign,
    verified,
)

T = TypeVar("T")

MAX_BYTES = 1 << 30
"""The largest file that is read unless `max_bytes` says otherwise."""


class AtomicStore(Generic[T]):
    """A value in a file: change `value`, then `commit()`; or do so in a `with` block.

    Made by `open_store`. Whatever happens during a commit, the file holds the old content or the
    new. One object is for one thread at a time; several objects and processes may have the same
    file, and with `update` they lose nothing.

    What holds at the end of the outermost `with`: after an exception of the block nothing is
    written, and the value goes back to the last one read or committed. If the block went well, but
    the commit raises `StoreError` (the value cannot be encoded, the disk is full), the file is as
    it was and the value stays as the block left it, since it is all that there is of that work:
    mend what the error names and `commit()`, or `reload()` to give it up. Until then each further
    `with` fails likewise. A commit that fails in an inner `with` is an exception of the outer
    block, so the value goes back if it is not caught there.

    Attributes:
        path: as it was given.
        value: what is kept; changing it changes no file yet.
        level: how many `with` blocks are open.
    """

    value: T

    def __init__(
        self,
        path: str | bytes | os.PathLike[Any],
        default: T,
        format: Format,
        is_binary: bool,
        load_kwargs: Mapping[str, Any],
        dump_kwargs: Mapping[str, Any],
        ignore_inner_exits: bool | None,
        *,
        trust: Trust | None = None,
        keep_previous: bool = False,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.path = path
        self.format = format
        self.is_binary = is_binary
        self.load_kwargs = load_kwargs
        self.dump_kwargs = dump_kwargs
        self.ignore_inner_exits = ignore_inner_exits
        self.level = 0
        self._file = checked_path(path)
        if trust is not None:
            check_trust(trust)
        elif runs_code(format):  # naming pickle means that (S-28)
            trust = "local"
        self._trust = trust
        self._keep_previous = keep_previous
        self._max_bytes = _checked_size(max_bytes)
        self._synced = True
        self._size = 0  # bytes of what was last encoded
        self._default = _copied(default)
        # The content that was last read or written, in parts that make it up.
        self._committed: tuple[bytes, ...] | None = None
        folder, name = os.path.split(os.path.realpath(self._file))
        files.sweep(folder, name)
        self.reload()

    @property
    def durability(self) -> Literal["durable", "no-fsync"]:
        """What a commit is worth: "no-fsync" where the file system cannot sync."""
        return "durable" if self._synced else "no-fsync"

    def reload(self) -> T:
        """Take the value from the file again, or the default if there is none; returns it.

        Raises:
            CorruptStoreError: the file is not what this format writes, or too big.
            TrustError: it could run code of somebody else's.
            StoreError: it cannot be read; the value stays.
        """
        content = self._read(self._file)
        value: T = self._decoded(content)
        self.value = value
        self._committed = None if content is None else (content,)
        return value

    def commit(self) -> None:
        """Write the value into the file, atomically.

        Raises:
            StoreError: it could not be encoded or written. The old file is whole, no temporary is
                left, the value stays as it is, and a later commit may work.
            DurabilityError: it could not be synced, see there.
        """
        self._write(self.value)

    def update(self, change: Callable[[T], T], *, timeout: float = 5.0) -> T:
        """Have `change` make the new value of the one in the file now, and commit it.

        Under a lock that all updates of this file share, of any process: so that nothing is lost.
        Plain commits do not ask for it. The lock is the file `path.lock`.

        Args:
            change: takes the value, returns the new one; called with the lock held.
            timeout: seconds, >= 0, to wait for the lock.

        Returns: the new value.

        Raises:
            ArgumentError, ArgumentTypeError: for bad values.
            StoreLockedError: somebody else has had the lock for so long.
            StoreError: as `reload` and `commit`.
            Exception: what `change` raises; nothing is written then.
        """
        if not callable(change):
            raise ArgumentTypeError(f"change is {change!r}; give a function of the value")
        nanoseconds(timeout, "timeout")
        lock = FileLock(os.path.realpath(self._file) + ".lock")
        lock.acquire(timeout)
        try:
            before = (self.value, self._committed)
            try:
                self._write(change(self.reload()))
            except BaseException as error:
                if getattr(error, "phase", "") != "sync-folder":  # then the new value is there
                    self.value, self._committed = before
                raise
            return self.value
        finally:
            lock.release()

    def previous(self) -> T:
        """The value before the last commit; for stores opened with `keep_previous=True`.

        Raises:
            StoreError: there is none.
            CorruptStoreError, TrustError: as `reload`.
        """
        path = self._previous
        content = self._read(path)
        if content is None:
            raise StoreError(
                f"{path}: there is no previous value; open the store with keep_previous=True",
                path=path,
                phase="open",
                errno=errno.ENOENT,
            )
        previous: T = self._decoded(content, path)
        return previous

    def __enter__(self) -> Self:
        self.level += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.level -= 1
        if error is not None:
            if self.level == 0:
                self._go_back()
        elif self.level == 0 or not self.ignore_inner_exits:
            try:
                self.commit()
            except Exception:
                raise
            except BaseException:  # Ctrl+C, or a limit: this block is left by an exception, too
                if self.level == 0 and self._committed is not None:
                    self._go_back()
                raise

    def __repr__(self) -> str:
        return f"<AtomicStore {self._file!r}>"

    @property
    def _previous(self) -> str:
        return os.path.realpath(self._file) + ".previous"

    def _read(self, path: str) -> bytes | None:
        local = self._trust == "local"
        if local:
            check_folder(os.path.dirname(os.path.abspath(path)))
            check_no_link(path)
        found = files.read(path, self._max_bytes, follow=not local)
        if found is None:
            return None
        content, status = found
        if local:
            check_local(path, status)
        if isinstance(self._trust, bytes):
            return verified(content, self._trust, path)
        if is_signed(content):
            raise TrustError(
                f"{path} is signed; give its key as trust=",
                path=path,
                phase="trust",
                errno=errno.EPERM,
            )
        return content

    def _go_back(self) -> None:
        """Let the value be what was last read or committed."""
        committed = self._committed
        self.value = self._decoded(None if committed is None else b"".join(committed))

    def _decoded(self, content: bytes | None, path: str | None = None) -> Any:
        path = path or self._file
        if content is None:
            return copy.deepcopy(self._default)
        try:
            return from_bytes(self.format, content, self.load_kwargs, is_binary=self.is_binary)
        except Exception as error:
            raise CorruptStoreError(
                f"{path}: {len(content)} bytes are not what its format writes "
                f"({type(error).__name__}: {error}); give the format and load_kwargs that it was "
                "written with, or restore the file",
                path=path,
                phase="decode",
            ) from error

    def _write(self, value: T) -> None:
        try:
            content = to_parts(
                self.format,
                value,
                self.dump_kwargs,
                is_binary=self.is_binary,
                likely_bytes=self._size,
            )
        except Exception as error:
            raise StoreError(
                f"{self._file}: a value of type {type(value).__qualname__} cannot be encoded "
                f"({type(error).__name__}: {error}); nothing was written. Give plain data",
                path=self._file,
                phase="encode",
            ) from error
        written = content
        if isinstance(self._trust, bytes):
            written = (sign(b"".join(content), self._trust),)
        self._size = size = sum(map(len, written))
        if size > self._max_bytes:
            raise StoreError(
                f"{self._file}: {size} bytes are more than the {self._max_bytes} that "
                "max_bytes= allows; nothing was written",
                path=self._file,
                phase="encode",
                errno=errno.EFBIG,
            )
        found = None
        if self._trust == "local":
            found = check_no_link(self._file)  # it may have been planted since
        kept = self._previous if self._keep_previous else None
        try:
            synced = files.replace(self._file, *written, previous=kept, found=found)
        except DurabilityError as error:
            if error.phase == "sync-folder":  # the file has it, though a power cut may undo that
                self._committed = content
                self.value = value
            raise
        self._committed = content
        self.value = value
        if self._synced and not synced:
            self._synced = False
            warnings.warn(
                f"the file system of {self._file} cannot sync: a power cut may lose commits",
                RuntimeWarning,
                stacklevel=3,
            )


def open_store(
    path: str | bytes | os.PathLike[Any],
    default: Any = None,
    format: Any = None,
    is_binary: bool | None = None,
    load_kwargs: Mapping[str, Any] | None = None,
    dump_kwargs: Mapping[str, Any] | None = None,
    ignore_inner_exits: bool | None = False,
    *,
    trust: Trust | None = None,
    keep_previous: bool = False,
    max_bytes: int = MAX_BYTES,
) -> AtomicStore[Any]:
    """Open the store in the file `path`, which need not exist yet.

    Args:
        path: the file. If it is a link, what it points to is replaced and the link stays.
        default: the value while there is no file; copied.
        format: None or "json", "pickle", "bson", or something with `dump` and `load` or `dumps`
            and `loads`.
        is_binary: whether the format works on bytes; by default all but json do.
        load_kwargs, dump_kwargs: given to the format's `load` and `dump`.
        ignore_inner_exits: commit only when the outermost `with` is left.
        trust: "local" or a key. Naming pickle means "local": the file is refused unless only
            this user can have written it. With a key the file is signed.
        keep_previous: keep the file before the last commit as `path.previous`.
        max_bytes: the largest file that is read or written.

    Raises:
        StoreError: `path` is a folder, a FIFO, a dangling link, or cannot be read.
        CorruptStoreError: its content is not what the format writes, or too big.
        TrustError: decoding it could run code of somebody else's.
        ArgumentError, ArgumentTypeError: for bad values.
        BackendMissingError: bson is not installed.
    """
    binary, resolved = resolve_format(format)
    return AtomicStore(
        path,
        default,
        resolved,
        binary if is_binary is None else is_binary,
        _checked_kwargs(load_kwargs, "load_kwargs"),
        _checked_kwargs(dump_kwargs, "dump_kwargs"),
        ignore_inner_exits,
        trust=trust,
        keep_previous=keep_previous,
        max_bytes=max_bytes,
    )


def checked_path(path: object) -> str:
    """The absolute form of `path`.

    Raises:
        ArgumentTypeError: it is no path.
        ArgumentError: it is empty, or has a NUL.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        raise ArgumentTypeError(f"path is {path!r}; give a text or a path")
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise ArgumentError(f"path is {path!r}; give the path of a file")
    return os.path.abspath(text)


def _checked_kwargs(kwargs: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise ArgumentTypeError(f"{name} is {kwargs!r}; give a mapping, or None")
    return kwargs or {}


def _checked_size(max_bytes: int) -> int:
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int):
        raise ArgumentTypeError(f"max_bytes is {max_bytes!r}; give a whole number > 0")
    if max_bytes < 1:
        raise ArgumentError(f"max_bytes is {max_bytes}; give a whole number > 0")
    return max_bytes


def _copied(default: T) -> T:
    try:
        return copy.deepcopy(default)
    except Exception as error:
        raise ArgumentTypeError(
            f"default is a {type(default).__qualname__}, which cannot be copied "
            f"({type(error).__name__}); give plain data"
        ) from error
