"""How do bytes become messages between a parent and its child, and back?

A frame is a head, of fixed size, and a body: mostly a pickle. Large buffers of the pickled value,
such as those of arrays, go beside the pickle and are not copied by the sender; the sizes of all
of them come first then.
"""

from __future__ import annotations

import mmap
import pickle
import socket
import struct
from _thread import allocate_lock
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

_HEAD = struct.Struct("<IBBHIQQ")  # mark, kind, flag, buffers, count, bytes of the body, number
_MARK = 0x79706D6B  # of every head: what somebody else has written is found out
HEAD_BYTES = _HEAD.size

OUT_OF_BAND = 4096
"""Bytes from which a buffer goes beside the pickle; below that a copy is cheaper."""

READ_BYTES = 1 << 18
"""How much is read at once: whoever floods its pipe must not keep the others waiting."""

_MAX_PARTS = 512  # of one call of sendmsg; the system's own limit is 1,024


class Frame(NamedTuple):
    """What has arrived; what its parts mean is said by its kind."""

    kind: int
    flag: int
    number: int
    messages: int
    data: bytes | bytearray | memoryview
    buffers: list[bytearray]

    def load(self) -> Any:
        """The value of a frame that was made by `pack`.

        Raises:
            Exception: whatever unpickling raises.
        """
        return pickle.loads(self.data, buffers=self.buffers)


def pack(
    kind: int, value: Any, *, number: int = 0, flag: bool = False, count: int = 0
) -> list[Any]:
    """The parts of a frame with `value`.

    Raises:
        Exception: whatever pickling raises; nothing was sent.
    """
    buffers: list[pickle.PickleBuffer] = []

    def beside(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < OUT_OF_BAND or len(buffers) == 0xFFFF:
            return True  # into the pickle
        buffers.append(buffer)
        return False

    data = pickle.dumps(value, 5, buffer_callback=beside)
    if not buffers:
        head = _HEAD.pack(_MARK, kind, flag, 0, count, len(data), number)
        return [head + data] if len(data) < OUT_OF_BAND else [head, data]
    raws = [buffer.raw() for buffer in buffers]
    sizes = struct.pack(f"<{len(raws)}Q", *(part.nbytes for part in raws))
    length = len(sizes) + len(data) + sum(part.nbytes for part in raws)
    head = _HEAD.pack(_MARK, kind, flag, len(raws), count, length, number)
    return [head + sizes, *raws, data]


def raw(
    kind: int, data: bytes = b"", *, number: int = 0, flag: bool = False, count: int = 0
) -> list[Any]:
    """The parts of a frame whose body is `data` as it is."""
    head = _HEAD.pack(_MARK, kind, flag, 0, count, len(data), number)
    return [head + data] if len(data) < OUT_OF_BAND else [head, data]


_DONTWAIT = socket.MSG_DONTWAIT
_frame = partial(tuple.__new__, Frame)  # without the call of a function of Python's
_NO_BUFFERS: list[bytearray] = []


class Incoming:
    """Makes frames of what arrives. For one thread."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._needed = HEAD_BYTES
        # Kept, since a new one of that size would be mapped, and unmapped, for each read; and a
        # mapping, since of that only the pages are made that are written to.
        self._read = memoryview(mmap.mmap(-1, READ_BYTES))

    def receive(self, connection: socket.socket) -> list[Frame] | None:
        """Read once, without waiting; the frames that are complete with that. None at the end.

        Raises:
            OSError: as `recv` does; BlockingIOError: there is nothing to be read.
            ValueError: as `feed`.
        """
        count = connection.recv_into(self._read, 0, _DONTWAIT)
        return self.feed(bytes(self._read[:count])) if count else None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete with `data`.

        Raises:
            ValueError: somebody has written something else into the connection.
        """
        if not self._waiting and len(data) >= HEAD_BYTES:  # mostly it is one frame, and whole
            mark, kind, flag, buffers, count, length, number = _HEAD.unpack_from(data)
            if mark == _MARK and not buffers and len(data) == HEAD_BYTES + length:
                return [_frame((kind, flag, number, count, data[HEAD_BYTES:], _NO_BUFFERS))]
        source: bytes | bytearray = data
        if self._waiting:
            self._waiting += data
            if len(self._waiting) < self._needed:
                return []
            source = self._waiting
        frames: list[Frame] = []
        at, end = 0, len(source)
        view = memoryview(source)
        self._needed = HEAD_BYTES
        while end - at >= HEAD_BYTES:
            mark, kind, flag, buffers, count, length, number = _HEAD.unpack_from(source, at)
            if mark != _MARK:
                raise ValueError("what has come is no frame")
            if end - at - HEAD_BYTES < length:
                self._needed = HEAD_BYTES + length
                break
            at += HEAD_BYTES
            body = view[at : at + length]
            at += length
            frames.append(Frame(kind, flag, number, count, *_parts(buffers, body)))
        rest = bytearray(view[at:])
        view.release()
        self._waiting = rest
        return frames


def _parts(count: int, body: memoryview) -> tuple[bytes, list[bytearray]]:
    """The pickle and the buffers of a body."""
    if not count:
        return bytes(body), []
    at = 8 * count
    buffers = []
    for size in struct.unpack_from(f"<{count}Q", body):
        buffers.append(bytearray(body[at : at + size]))
        at += size
    return bytes(body[at:]), buffers


class Sender(Protocol):
    """Takes frames to be written."""

    def send(self, parts: Sequence[Any]) -> object:
        """Write a frame."""


class BlockingSender:
    """Writes frames, waiting as long as the other side takes; for any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = allocate_lock()  # a frame is written as a whole; protects nothing else

    def send(self, parts: Sequence[Any]) -> None:
        """Write `parts`.

        Raises:
            OSError: the other side is gone.
        """
        with self._lock:
            if len(parts) == 1:  # mostly it is one small part
                self._connection.sendall(parts[0])
                return
            left = [memoryview(part).cast("B") for part in parts]
            while left:
                _drop(left, self._connection.sendmsg(left[:_MAX_PARTS]))


class PatientSender:
    """Writes frames without ever waiting; what does not fit yet is kept. For any thread.

    `when_full` is called, outside the lock, when something had to be kept: somebody has to call
    `resume` once the connection takes more.
    """

    def __init__(self, connection: socket.socket, when_full: Callable[[], None]) -> None:
        self._connection = connection
        self._when_full = when_full
        self._lock = allocate_lock()  # protects _left, and the order of writing
        self._left: list[memoryview] = []

    @property
    def is_full(self) -> bool:
        """Whether something waits for the other side to read."""
        return bool(self._left)

    def send(self, parts: Sequence[Any]) -> None:
        """Write `parts`; to a connection that is broken, nothing: its reader finds that out."""
        with self._lock:
            was_full = bool(self._left)
            sent = 0
            if not was_full and len(parts) == 1:  # mostly it is one small part, and fits
                try:  # `suppress` takes as long as the call
                    sent = self._connection.send(parts[0])
                    if sent == len(parts[0]):
                        return
                except OSError:  # full, or broken: see below
                    pass
            left = [memoryview(part).cast("B") for part in parts]
            _drop(left, sent)
            if not was_full:
                self._write(left)
            # What is kept is a copy: its owner may change it once this returns.
            self._left += [memoryview(bytes(part)) for part in left]
            full = bool(self._left)
        if full and not was_full:
            self._when_full()

    def resume(self) -> bool:
        """Write what was kept, as far as it goes; whether that was all."""
        with self._lock:
            self._write(self._left)
            return not self._left

    def _write(self, left: list[memoryview]) -> None:
        try:
            while left:
                _drop(left, self._connection.sendmsg(left[:_MAX_PARTS]))
        except BlockingIOError:
            pass
        except OSError:
            left.clear()


def _drop(left: list[memoryview], count: int) -> None:
    """Take the first `count` bytes off `left`."""
    done = 0
    for part in left:
        if count < part.nbytes:
            break
        count -= part.nbytes
        done += 1
    del left[:done]
    if count:
        left[0] = left[0][count:]
