"""How is one value published to another process, so that no death leaves a part of it?

Two halves: the writer fills the one that is not live, and then makes it live by one byte. A
process killed at any moment leaves the half that was live, untouched.

::

    0     the commit mark: 0 nothing yet, 1 or 2 the half that is live
    64    header of half 1 ┐  offset, length, sequence, turn: 4 x 8 bytes;
    128   header of half 2 ┘  CRC-32 of these and, up to SMALL bytes, of the data
    192   the data

All numbers are little-endian. The memory of a dead process is whole, so the mark suffices
against a kill; the checksum is against a program that writes where it must not (S-33).
"""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

from kompyct.errors import ArgumentError, CorruptStoreError
from kompyct.processes.memory import HAS_MEMFD, Block

SMALL: Final = 4096
"""Bytes of a value up to which the checksum covers it."""

_TOLD = struct.Struct("<4Q")
_CRC = struct.Struct("<I")
_HEADERS = (64, 128)
_TOLD_BYTES = _TOLD.size
_HEADER_BYTES = _TOLD.size + _CRC.size
_DATA = 192
_LEAST = 1024  # bytes a half has room for at first

_EMPTY = b""


class Halves:
    """A value of bytes that one process writes and another reads, at any moment.

    One writer at a time; a new writer may go on where one that has died has stopped. A reader
    that meets a writer in the middle reads again, never a mixture: the header of a half changes
    before its data does. (That holds where stores of one processor are seen in their order by
    another, as on x86; elsewhere while the writer is stopped or dead, and for what the checksum
    covers.) Not thread-safe.
    """

    def __init__(self, block: Block) -> None:
        """Use a block made by `create`, inherited or attached."""
        self._block = block
        self._buffer = block.buffer
        self._turn = 0
        self._offsets = [0, 0]
        self._capacities = [-1, -1]  # not even nothing fits in a half that has no place yet
        self._take_over()

    @classmethod
    def create(cls, capacity: int = _LEAST, *, named: bool = not HAS_MEMFD) -> Halves:
        """New ones without a value, in a block of their own.

        Args:
            capacity: bytes of a value that there is room for without growing.
            named: as in `Block.create`.
        """
        return cls(Block.create(_DATA + 2 * _rounded(capacity), named=named))

    @property
    def block(self) -> Block:
        """The memory they are in; whoever made it closes it."""
        return self._block

    def write(self, data: bytes | bytearray | memoryview, sequence: int) -> None:
        """Publish `data`, instead of what was published before.

        Args:
            data: contiguous bytes.
            sequence: what `read` returns with it, 0 to 2**64 - 1.

        Raises:
            ArgumentError: `sequence` is out of range.
            OSError: there is no memory for it; the value before is still there.
        """
        buffer = self._buffer
        half = 0 if buffer[0] == 2 else 1  # the mark itself: it is never wrong
        length = len(data) if type(data) is bytes else memoryview(data).nbytes
        if length > self._capacities[half]:
            self._make_room(half, length)
            buffer = self._buffer
        offset = self._offsets[half]
        self._turn = turn = self._turn + 1
        try:
            told = _TOLD.pack(offset, length, sequence, turn)
        except struct.error as error:
            raise ArgumentError(f"sequence is {sequence!r}; give 0 to 2**64 - 1") from error
        crc = crc32(data if length <= SMALL else _EMPTY, crc32(told))
        at = 128 if half else 64
        buffer[at : at + _TOLD_BYTES] = told
        _CRC.pack_into(buffer, at + _TOLD_BYTES, crc)
        buffer[offset : offset + length] = data
        buffer[0] = half + 1  # last: from here on it is this half that counts

    def read(self) -> tuple[int, bytes] | None:
        """The sequence and the data published last; None if there was nothing yet.

        A live half that is damaged is passed over for the one before it.

        Raises:
            CorruptStoreError: both are damaged.
        """
        while True:
            self._block.refresh()
            self._buffer = buffer = self._block.buffer
            mark = buffer[0]
            if mark == 0:
                return None
            headers = self._headers()
            found = self._read_half(mark - 1) if mark in (1, 2) else None
            if found is None:
                found = max(filter(None, map(self._read_half, (0, 1))), default=None)
            if self._is_as_before(mark, headers):
                if found is None:
                    raise CorruptStoreError(
                        "both halves of a value in shared memory are damaged: something has "
                        "written where it must not",
                        phase="read",
                    )
                _, sequence, data = found
                return sequence, data

    def _is_as_before(self, mark: int, headers: bytes) -> bool:
        """Whether the writer has not been at it meanwhile, nor grown the memory."""
        same = self._buffer[0] == mark and self._headers() == headers
        self._block.refresh()
        return same and self._block.buffer is self._buffer

    def _headers(self) -> bytes:
        return bytes(self._buffer[_HEADERS[0] : _DATA])

    def _read_half(self, half: int) -> tuple[int, int, bytes] | None:
        """Turn, sequence and data of a half; None if it is damaged, or holds nothing."""
        buffer = self._buffer
        at = _HEADERS[half]
        header = bytes(buffer[at : at + _HEADER_BYTES])
        told, (crc,) = header[:_TOLD_BYTES], _CRC.unpack(header[_TOLD_BYTES:])
        offset, length, sequence, turn = _TOLD.unpack(told)
        if not turn or offset < _DATA or offset + length > len(buffer):
            return None
        data = bytes(buffer[offset : offset + length])
        if crc32(data if length <= SMALL else _EMPTY, crc32(told)) != crc:
            return None
        return turn, sequence, data

    def _make_room(self, half: int, length: int) -> None:
        """Give a half that is not live another place, with room for `length` bytes."""
        size = _rounded(length)
        start = self._offsets[1 - half]  # nothing else is in use but the half that is live
        place = _DATA
        if start and start < _DATA + size:
            place = start + max(self._capacities[1 - half], 0)
        if place + size > self._block.size:
            self._block.grow(max(place + size, 2 * self._block.size))
            self._buffer = self._block.buffer
        self._offsets[half] = place
        self._capacities[half] = size

    def _take_over(self) -> None:
        """Go on after the writer before, if there was one: what is live stays where it is."""
        mark = self._buffer[0]
        if mark in (1, 2):
            told = self._buffer[_HEADERS[mark - 1] : _HEADERS[mark - 1] + _TOLD_BYTES]
            offset, length, _, self._turn = _TOLD.unpack(told)
            self._offsets[mark - 1], self._capacities[mark - 1] = offset, length


def _rounded(length: int) -> int:
    return max(_LEAST, 1 << (length - 1).bit_length() if length else _LEAST)
