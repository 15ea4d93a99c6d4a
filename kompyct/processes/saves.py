"""How does a child keep its last saves in memory that outlives it?

A few places, each with one save: what it is (a pickle of a small tuple) and its data, as encoded.
A save goes into the place of the oldest one, whose sequence is 0 until everything is written:
a child that is killed in between leaves the saves before. So each save is copied once, and all
that are to be kept are there (S-24, level "shared").

::

    0      PLACES x 64 bytes: sequence, offset, bytes of the facts, bytes of the data + 1 (0: no
           data), room, CRC-32 of facts and small data; each u64
    4096   facts and data

All numbers are in the machine's own order. The memory of a dead process is whole, so the order
of writing suffices against a kill; the checksum is against a program that writes where it must
not (S-33).
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

from kompyct.processes.memory import Block

PLACES = 4
"""One more than the generations that are kept of a component."""

FIRST_BYTES = 1 << 16
"""Of the block at first; it grows with what is saved."""

SMALL = 4096
"""Bytes up to which data are covered by the checksum."""

_PLACE = struct.Struct("=6Q")
_SEQUENCE = struct.Struct("=Q")
_PLACE_BYTES = 64
_SEQUENCES = struct.Struct("=" + f"Q{_PLACE_BYTES - _SEQUENCE.size}x" * PLACES)
_START = 4096


class Save(NamedTuple):
    """One save, as the parent finds it."""

    sequence: int
    facts: bytes
    data: bytes | None


class Saves:
    """The last saves of one child. It writes, from any of its threads under a lock of its own;
    the parent reads, at any moment."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._sequences = [0] * PLACES
        self._offsets = [0] * PLACES
        self._room = [0] * PLACES
        self._end = _START

    @property
    def handle(self) -> int | str:
        """See `Block.handle`."""
        return self._block.handle

    def write(
        self, sequence: int, facts: bytes, data: bytes | None, *, repeats: bool = False
    ) -> None:
        """Save; `sequence` > 0, greater than all before.

        Args:
            repeats: whether the data are those of the save before: then that one gives its place
                back, so that repeated saves do not push out older ones.

        Raises:
            OSError: there is no memory for it; what was saved before stays.
        """
        size = 0 if data is None else len(data)
        needed = len(facts) + size
        before = self._sequences.index(max(self._sequences))
        place = self._sequences.index(min(self._sequences))
        if needed > self._room[place]:
            room = max(256, 1 << (needed - 1).bit_length())
            if self._end + room > self._block.size:
                self._block.grow(max(self._end + room, 2 * self._block.size))
            self._offsets[place], self._room[place] = self._end, room
            self._end += room
        buffer = self._block.buffer
        head = place * _PLACE_BYTES
        _SEQUENCE.pack_into(buffer, head, 0)
        self._sequences[place] = 0
        at = self._offsets[place]
        between = at + len(facts)
        buffer[at:between] = facts
        checksum = crc32(facts)
        if data is not None:
            buffer[between : between + size] = data
            if size <= SMALL:
                checksum = crc32(data, checksum)
        _PLACE.pack_into(
            buffer, head, 0, at, len(facts), 0 if data is None else size + 1,
            self._room[place], checksum,
        )  # fmt: skip
        _SEQUENCE.pack_into(buffer, head, sequence)  # last: from here on it counts
        self._sequences[place] = sequence
        if repeats:
            _SEQUENCE.pack_into(buffer, before * _PLACE_BYTES, 0)
            self._sequences[before] = 0

    def read(self, after: int = 0) -> list[Save]:
        """What is saved, newest first. Of a child that is writing just now, what is complete.

        What its checksum contradicts is left out: somebody has written there who must not.

        Args:
            after: only saves of a greater sequence.
        """
        newest = self.newest()
        if newest <= after:
            return []
        while True:
            found = [self._read(place) for place in range(PLACES)]
            saves = [save for save in found if save is not None and save.sequence > after]
            saves.sort(reverse=True)
            # A save that repeats the one before is in another place: both may be missed.
            if (saves and saves[0].sequence >= newest) or self._is_damaged(newest):
                return saves

    def _is_damaged(self, sequence: int) -> bool:
        """Whether that save still is the newest, and yet cannot be read."""
        return self.newest() == sequence

    def newest(self) -> int:
        """The sequence of the newest save; 0 if there is none."""
        self._block.refresh()
        return int(max(_SEQUENCES.unpack_from(self._block.buffer)))

    def close(self) -> None:
        """Let the memory go."""
        self._block.close()

    def _read(self, place: int) -> Save | None:
        buffer = self._block.buffer
        head = place * _PLACE_BYTES
        for _ in range(100):  # a writer that keeps overtaking saves faster than anybody can read
            sequence, at, facts_size, size, room, checksum = _PLACE.unpack_from(buffer, head)
            end = at + facts_size + max(size - 1, 0)
            if not sequence:
                return None
            if at < _START or end > at + room:
                return None
            if end > len(buffer):  # it has grown meanwhile
                self._block.refresh()
                buffer = self._block.buffer
                if end > len(buffer):
                    return None
            facts = bytes(buffer[at : at + facts_size])
            data = bytes(buffer[at + facts_size : end]) if size else None
            if _SEQUENCE.unpack_from(buffer, head)[0] != sequence:
                continue
            found = crc32(facts)
            if data is not None and len(data) <= SMALL:
                found = crc32(data, found)
            return Save(sequence, facts, data) if found == checksum else None
        return None
