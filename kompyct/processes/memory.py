"""How do two processes share memory that outlives the one that writes to it?

A `Block` is a memfd on Linux: nameless, so that nothing is left whoever dies in whatever order.
Elsewhere it is the standard library's named shared memory, which that library's resource tracker
removes when both processes are dead.
"""

from __future__ import annotations

import mmap
import os
import secrets
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory
from typing import Final

from kompyct.errors import ArgumentError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

try:
    # What `SharedMemory` uses, which cannot open what has no size. No stubs know it.
    import _posixshmem  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]
except ImportError:  # Windows
    _posixshmem = None

HAS_MEMFD: Final = hasattr(os, "memfd_create")

_HEADER_BYTES = 64  # of a named block: whether it has moved, and how large it is
_MOVED = 0
_SIZE = slice(8, 16)


class Block:
    """Memory that another process maps as well; made by `create` or `attach`.

    One process writes and may `grow` it; the other calls `refresh` before it looks. A forked
    child has the block as it is; any other attaches to its `handle`. Not thread-safe.

    Attributes:
        size: bytes of `buffer`.
        buffer: the memory. `grow` and `refresh` may replace it; views of the old one are still
            good for reading, and of a memfd they still are the shared memory.
    """

    buffer: memoryview
    size: int

    @staticmethod
    def create(size: int, *, named: bool = not HAS_MEMFD, beside: str = "") -> Block:
        """A new block of zeros, which this process owns.

        Args:
            size: bytes, > 0.
            named: use named shared memory, even where there is a memfd.
            beside: the handle of a named block, with which the name of this one is to begin.

        Raises:
            ArgumentError: `size` is not positive.
            OSError: there is no memory, or no descriptor, for it.
        """
        if size <= 0:
            raise ArgumentError(f"a block of {size} bytes cannot be shared; give more than 0")
        return _Named.made(size, beside) if named else _Nameless.made(size)

    @staticmethod
    def attach(handle: int | str, *, own: bool = False) -> Block:
        """The block with this handle, made by another process.

        Args:
            handle: a descriptor in *this* process, which belongs to the block from now on; or a
                name.
            own: own it from now on, since the one who made it is dead: `close` removes its name.

        Raises:
            OSError: there is none.
        """
        return _Nameless(handle) if isinstance(handle, int) else _Named(handle, own=own)

    @property
    def handle(self) -> int | str:
        """What another process attaches to: a descriptor to be inherited or passed, or a name."""
        raise NotImplementedError

    def grow(self, size: int) -> None:
        """Give it at least `size` bytes; what it holds is kept. For the one who writes.

        Raises:
            OSError: there is no memory for it, or the descriptor has been closed by somebody
                else; nothing has changed.
        """
        raise NotImplementedError

    def refresh(self) -> None:
        """Map again what the other side has grown, if it has."""
        raise NotImplementedError

    def close(self) -> None:
        """Unmap it, and remove its name if this process owns it.

        Views of it that still exist keep the memory mapped for as long as they do.
        """
        raise NotImplementedError


class _Nameless(Block):
    """A memfd; its size is that of the file, so both sides can see it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self._identity = (status.st_dev, status.st_ino)
        self._map(status.st_size)

    @classmethod
    def made(cls, size: int) -> _Nameless:
        assert fcntl is not None
        descriptor = os.memfd_create("kompyct", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size)
            # To look at what the other side has cut off would be the end by SIGBUS.
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
            return cls(descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def handle(self) -> int:
        return self._descriptor

    def grow(self, size: int) -> None:
        if size <= self.size:
            return
        status = os.fstat(self._descriptor)
        # A program that closes descriptors it does not know may have opened a file of its own
        # under this number: that one must not be resized.
        if (status.st_dev, status.st_ino) != self._identity:
            raise OSError("the descriptor of shared memory was closed by somebody else")
        os.ftruncate(self._descriptor, size)
        self._map(size)

    def refresh(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size > self.size:
            self._map(size)

    def close(self) -> None:
        if self._descriptor < 0:
            return
        with suppress(OSError):
            status = os.fstat(self._descriptor)
            if (status.st_dev, status.st_ino) == self._identity:
                os.close(self._descriptor)
        self._descriptor = -1
        with suppress(BufferError):  # there are views: it is unmapped when they are gone
            self.buffer.release()
            self._mapping.close()
        del self._mapping

    def _map(self, size: int) -> None:
        mapping = mmap.mmap(self._descriptor, size)
        self._mapping = mapping
        self.buffer = memoryview(mapping)
        self.size = size


class _Named(Block):
    """Named shared memory, which cannot grow: a larger one takes its place, under a new name.

    The larger one has the next number in its name. It counts only when the old one says that it
    has moved, which it does last. The names stay until the owner closes, so that the other side
    can follow from wherever it is.
    """

    def __init__(self, name: str, *, size: int = 0, own: bool = False) -> None:
        """Make one of `size` bytes; or find the one of that name."""
        # The process that removes the names; a forked child of it does not.
        self._owner = os.getpid() if own else 0
        self._memory = _Memory(name, create=size > 0, size=size + _HEADER_BYTES if size else 0)
        self._whole = self._memory.mapped()
        if size:
            self._whole[_SIZE] = size.to_bytes(8, "little")
        self.size = int.from_bytes(self._whole[_SIZE], "little")
        self.buffer = self._whole[_HEADER_BYTES : _HEADER_BYTES + self.size]

    @classmethod
    def made(cls, size: int, beside: str) -> _Named:
        start = beside or f"kompyct_{os.getpid()}"
        return cls(f"{start}_{secrets.token_hex(4)}_0", size=size, own=True)

    @property
    def handle(self) -> str:
        return self._memory.name

    def grow(self, size: int) -> None:
        if size <= self.size:
            return
        larger = _Named(self._name_of(self._number + 1), size=size)
        larger.buffer[: self.size] = self.buffer
        self._whole[_MOVED] = 1  # last: until then the old one is the one that counts
        self._move_to(larger)

    def refresh(self) -> None:
        while self._whole[_MOVED]:
            self._move_to(_Named(self._name_of(self._number + 1)))

    def close(self) -> None:
        if self._owner == os.getpid():
            # One more than it moved to: made, when its maker was killed.
            self.refresh()
            for number in range(self._number + 2):
                _remove(self._name_of(number))
        self._owner = 0
        self._let_go()

    def _let_go(self) -> None:
        with suppress(BufferError):  # there are views: it is unmapped when they are gone
            self._whole.release()
            self.buffer.release()
            self._memory.close()

    def _move_to(self, larger: _Named) -> None:
        self._let_go()
        self._memory, self._whole = larger._memory, larger._whole
        self.buffer, self.size = larger.buffer, larger.size

    @property
    def _number(self) -> int:
        return int(self._memory.name.rpartition("_")[2])

    def _name_of(self, number: int) -> str:
        return f"{self._memory.name.rpartition('_')[0]}_{number}"


def _remove(name: str) -> None:
    """Remove named memory, if there is any of that name."""
    try:
        with suppress(FileNotFoundError):
            _Memory(name).unlink()
    except ValueError:  # its maker was killed before it had given it a size
        if _posixshmem is not None:
            with suppress(FileNotFoundError):
                _posixshmem.shm_unlink(f"/{name}")


class _Memory(SharedMemory):
    """Does not complain if there are views of it still when it is collected."""

    def mapped(self) -> memoryview:
        """All of it; to be released before `close`."""
        assert self.buf is not None  # not before it is closed
        return self.buf[:]

    def __del__(self) -> None:
        try:  # noqa: SIM105  # `suppress` may be gone when the interpreter ends
            self.close()
        except (BufferError, OSError):
            pass
