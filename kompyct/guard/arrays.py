"""How does an array live in the guarded memory itself?

Nothing is written when an element is assigned: it is in the memory that outlives the program. What
is kept under the array's key is where it is. Where the memory can grow in place (a memfd) that is
a part of it; elsewhere, named memory of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from kompyct.errors import ArgumentTypeError, BackendMissingError, CorruptStoreError
from kompyct.guard.shared import SharedStore
from kompyct.guard.table import Bytes, Reader
from kompyct.processes.memory import Block

if TYPE_CHECKING:
    import numpy

TAG: Final = b"\x10"
"""How what is kept under the key of an array begins; no codec's bytes do."""


class Arrays:
    """The arrays of a program that runs, by their keys. The dictionary's lock protects it.

    Attributes:
        living: the arrays.
    """

    def __init__(self, store: SharedStore) -> None:
        self._store = store
        self.living: dict[Any, numpy.ndarray[Any, Any]] = {}
        self._blocks: dict[Any, Block] = {}  # of arrays with named memory of their own

    def get(self, key: Any) -> numpy.ndarray[Any, Any]:
        """The array under a key whose value is one."""
        return self.living[key]

    def make(self, key: Any, shape: Sequence[int], dtype: Any) -> numpy.ndarray[Any, Any]:
        """A new array of zeros under `key`.

        Raises:
            ArgumentTypeError: its elements are objects, or have fields.
            BackendMissingError: numpy is not installed.
            OSError: there is no memory for it.
        """
        kind = checked_dtype(key, dtype)
        size = math.prod(shape) * kind.itemsize
        told: dict[str, Any] = {"dtype": kind.str, "shape": list(shape), "bytes": size}
        handle = self._store.block.handle
        if isinstance(handle, int):
            told["offset"], memory = self._store.make_room(size)
        else:
            block = Block.create(max(size, 1), named=True, beside=handle)
            self._blocks[key] = block
            told["name"], memory = block.handle, block.buffer[:size]
        array = _array(memory, told)
        self._store[key] = TAG + json.dumps(told).encode()
        self.living[key] = array
        return array

    def forget(self, key: Any) -> None:
        """The key has another value now, or none. The memory stays while the array does."""
        self.living.pop(key, None)
        block = self._blocks.pop(key, None)
        if block is not None:
            block.close()


def checked_dtype(key: Any, dtype: Any) -> numpy.dtype[Any]:
    """What numpy understands by `dtype`.

    Raises:
        ArgumentTypeError: its elements are objects, or have fields.
        BackendMissingError: numpy is not installed.
    """
    kind = _numpy().dtype(dtype)
    if kind.hasobject or kind.fields is not None or kind.subdtype is not None:
        raise ArgumentTypeError(
            f"the array {key!r} has elements of {kind}, which cannot live in shared memory; give "
            "plain numbers, and one array for each field"
        )
    found: numpy.dtype[Any] = kind
    return found


def is_array(data: Bytes) -> bool:
    """Whether the bytes under a key are an array's."""
    return bytes(data[:1]) == TAG


def with_content(data: Bytes, reader: Reader) -> bytes:
    """What is kept under an array's key, with a copy of the array behind it: for a file.

    Raises:
        CorruptStoreError: the array is not where it should be.
    """
    told = _told(bytes(data[1:]))
    if "name" in told:
        block = Block.attach(told["name"])
        content = bytes(block.buffer[: told["bytes"]])
        block.close()
    else:
        content = bytes(reader.bytes_at(told["offset"], told["bytes"]))
    if len(content) != told["bytes"]:
        raise CorruptStoreError("an array leads out of the shared memory", phase="read")
    return TAG + json.dumps(told).encode() + b"\n" + content


def remove_memory(data: Bytes) -> None:
    """Remove the named memory of an array whose program has ended."""
    told = _told(bytes(data[1:]))
    if "name" in told:
        with suppress(FileNotFoundError):
            Block.attach(told["name"], own=True).close()


def from_content(data: Bytes) -> numpy.ndarray[Any, Any]:
    """The array in what `with_content` made: a copy.

    Raises:
        CorruptStoreError: it is not what that makes.
        BackendMissingError: numpy is not installed.
    """
    raw = bytes(data)
    head, newline, content = raw[1:].partition(b"\n")
    told = _told(head)
    if not newline or len(content) != told["bytes"]:
        raise CorruptStoreError("an array is not as long as it says", phase="decode")
    return _array(memoryview(bytearray(content)), told)


def _told(head: bytes) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(head)
        _ = told["dtype"], told["shape"], told["bytes"]
    except (ValueError, LookupError, TypeError) as error:
        raise CorruptStoreError("an array says nothing that is known here") from error
    return told


def _array(memory: memoryview, told: dict[str, Any]) -> numpy.ndarray[Any, Any]:
    array: numpy.ndarray[Any, Any] = _numpy().frombuffer(memory, dtype=told["dtype"])
    return array.reshape(told["shape"])


def _numpy() -> Any:
    try:
        import numpy  # the one owner of it; only programs with arrays need it
    except ImportError as error:
        raise BackendMissingError("arrays need numpy; pip install numpy") from error
    return numpy
