"""What does the memory that the guarded program shares look like?

A table of entries, one for each key. An entry has two halves, of which one is live: a write fills
the other, and then makes it live by one byte, so that no death leaves a part of a value::

    block    header 512 bytes: magic, how many pages of entries there are, and where each is
             pages of entries, keys and values, wherever there was room

    entry    0    the commit mark: 0 free, 1 or 2 the half that is live
             8    the key: offset 8, length 4, CRC-32 4, order 8
             32   half 1 ┐  offset, length, sequence 8 each; the checksum of these; up to
             64   half 2 ┘  SMALL bytes, of the data too: Adler-32 begun with their hash

All numbers are little-endian. The writer alone knows what is free; it keeps that to itself, since
nothing has to be freed in the memory of the dead.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import adler32, crc32

from kompyct.processes.memory import Block

SMALL: Final = 4096
"""Bytes of a value up to which the checksum covers it."""

MAGIC: Final = b"kompyct\x01"
HEADER_BYTES: Final = 512
ENTRY_BYTES: Final = 96
PAGES_AT: Final = 8
CODE_AT: Final = 12
"""Where an application that ends in order leaves a mark and its exit code, five bytes."""
DIRECTORY_AT: Final = 64
MAX_PAGES: Final = 48
FIRST_PAGE: Final = 64
"""Entries of the first page; each has twice as many as the one before."""

CODE: Final = struct.Struct("<Bi")
KEY: Final = struct.Struct("<QIIQ")
HALF: Final = struct.Struct("<3QI")
KEY_AT: Final = 8
HALVES_AT: Final = (32, 64)
MASK: Final = 0xFFFFFFFF

Bytes = bytes | memoryview


class Found(NamedTuple):
    """A key and its value, as they were written."""

    order: int
    sequence: int
    key: bytes
    value: bytes


def prepare(block: Block) -> None:
    """Make a new block an empty table."""
    block.buffer[: len(MAGIC)] = MAGIC


def page_entries(page: int) -> int:
    """How many entries the page of this number has."""
    return FIRST_PAGE << page


def read_code(block: Block) -> int | None:
    """The exit code that the application has left; None if it did not end in order."""
    left, code = CODE.unpack_from(block.buffer, CODE_AT)
    return code if left else None


class Reader:
    """Reads a table that another process writes, or has written.

    Each key's value is whole: the one committed last. Keys are read one after the other, so that
    together they need not have been there at any one moment.

    It is for any moment where one processor sees the stores of another in their order, as on
    x86; elsewhere for a writer that has stopped, and for what the checksum covers.

    Attributes:
        damaged: keys whose newest value something has overwritten that had no business there, at
            the last look; the value before serves, or the key is left out if that is gone too.
    """

    def __init__(self, block: Block) -> None:
        self._block = block
        self.damaged = 0

    def found(self) -> list[Found]:
        """All keys, in the order in which they came."""
        self._block.refresh()
        self.damaged = 0
        all_found = []
        for page in range(min(self._block.buffer[PAGES_AT], MAX_PAGES)):
            at = DIRECTORY_AT + 8 * page
            start = int.from_bytes(self._block.buffer[at : at + 8], "little")
            for number in range(page_entries(page)):
                found = self._read_entry(start + number * ENTRY_BYTES)
                if found is not None:
                    all_found.append(found)
        return sorted(all_found, key=lambda found: found.order)

    def bytes_at(self, offset: int, length: int) -> memoryview:
        """A part of the memory: an array that lives in it."""
        if offset + length > self._block.size:
            self._block.refresh()
        return self._block.buffer[offset : offset + length]

    def _read_entry(self, at: int) -> Found | None:
        """What the entry at this place says; None if it is free."""
        while True:
            before = self._part(at, ENTRY_BYTES)
            mark = before[0] if before else 0
            if not mark:
                return None
            key_offset, key_length, key_crc, order = KEY.unpack_from(before, KEY_AT)
            key = self._part(key_offset, key_length)
            live = self._read_half(before, mark - 1) if mark in (1, 2) else None
            serves = live or self._read_half(before, 0 if mark == 2 else 1)
            value = bytes(serves[1]) if serves else b""
            # The header of a half, and of a key, changes before what it leads to does.
            if self._part(at, ENTRY_BYTES) == before:
                if live is None or crc32(key) != key_crc:
                    self.damaged += 1
                if serves is None or crc32(key) != key_crc:
                    return None
                return Found(order, serves[0], key, value)

    def _read_half(self, entry: bytes, half: int) -> tuple[int, memoryview] | None:
        offset, length, sequence, check = HALF.unpack_from(entry, HALVES_AT[half])
        if offset + length > self._block.size:
            self._block.refresh()
        if not sequence or offset + length > self._block.size:
            return None
        data = self._block.buffer[offset : offset + length]
        seed = hash((offset, length, sequence)) & MASK  # the same in each process of a Python
        if (adler32(data, seed) if length <= SMALL else seed) != check:
            return None
        return sequence, data

    def _part(self, offset: int, length: int) -> bytes:
        if offset + length > self._block.size:
            self._block.refresh()
        return bytes(self._block.buffer[offset : offset + length])
