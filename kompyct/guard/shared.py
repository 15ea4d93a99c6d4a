"""How does the guarded program write into the memory that it shares with its launcher?

Nothing is sent: a value is copied into memory that outlives this process, without a system call.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any
from zlib import crc32

from kompyct.guard.table import (
    CODE,
    CODE_AT,
    DIRECTORY_AT,
    ENTRY_BYTES,
    HALF,
    HALVES_AT,
    HEADER_BYTES,
    KEY,
    KEY_AT,
    MASK,
    PAGES_AT,
    SMALL,
    Bytes,
    page_entries,
)
from kompyct.processes.memory import Block

_LEAST = 64  # bytes of a place; places lie at multiples of it, as arrays like it
_LARGE = 1 << 16  # bytes of a place from which on one that is far too large is given back
_pack_half = HALF.pack_into
_HALVES = HALVES_AT

_Place = tuple[
    int, int
]  # offset and capacity; in one object, so that an interrupt cannot part them


class SharedStore(MutableMapping[Any, bytes]):
    """The encoded values by key, in a table in shared memory, of which this is the one writer.

    Not thread-safe: the caller's lock protects it. A handler of a signal that writes in the
    middle of another write is let through when that is done.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        self.pid = os.getpid()
        self._buffer = block.buffer
        self._places = _Places(block)
        self._slots: dict[Any, _Slot] = {}
        self._free: list[int] = []  # entries
        self._sequence = 0
        self._busy = False
        self._deferred: list[tuple[Any, Sequence[Bytes]]] = []

    def __getitem__(self, key: Any) -> bytes:
        slot = self._slots[key]
        mark = self._buffer[slot.at]
        if not mark:  # a delete was interrupted before it was done
            raise KeyError(key)
        offset, length, _, _ = HALF.unpack_from(self._buffer, slot.at + _HALVES[mark - 1])
        return bytes(self._buffer[offset : offset + length])

    def __setitem__(self, key: Any, data: Bytes) -> None:
        self.put(key, (data,))

    def __delitem__(self, key: Any) -> None:
        slot = self._slots[key]
        self._buffer[slot.at] = 0  # first: what follows is for the writer only
        del self._slots[key]
        for place in (slot.key, *slot.places):
            self._places.give_back(place)
        self._free.append(slot.at)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: object) -> bool:
        return key in self._slots

    def put(self, key: Any, parts: Sequence[Bytes]) -> None:
        """Let `parts`, one after the other, be the value of `key`.

        Raises:
            OSError: there is no memory for it; the value before is still there.
        """
        if self._busy:
            self._deferred.append((key, parts))
            return
        self._busy = True
        try:
            slot = self._slots.get(key)
            if slot is None:
                self._put_new(key, parts)
            else:
                self._write(slot, parts)
        finally:
            self._busy = False
        while self._deferred:
            self.put(*self._deferred.pop(0))

    def make_room(self, length: int) -> tuple[int, memoryview]:
        """A place of zeros for good, and the memory there: for an array that lives in it.

        Raises:
            OSError: there is no memory for it.
        """
        offset = self._places.never_used(length)
        self._buffer = self.block.buffer
        return offset, self._buffer[offset : offset + length]

    def leave_code(self, code: int) -> None:
        """Say with which exit code this process is about to end, in case nobody else can."""
        if self.pid != os.getpid():
            return  # a forked child that returns where its parent will
        CODE.pack_into(self._buffer, CODE_AT, 1, code)

    def _write(self, slot: _Slot, parts: Sequence[Bytes]) -> None:
        """Fill the half that is not live, and make it live."""
        buffer = self._buffer
        at = slot.at
        half = 0 if buffer[at] == 2 else 1  # the mark itself: it is never wrong
        data = parts[0]
        one = len(parts) == 1
        length = len(data) if one else sum(map(len, parts))
        freed = None
        offset, capacity = slot.places[half]
        if length > capacity or (capacity > _LARGE and length < capacity >> 4):
            freed = slot.places[half]
            slot.places[half] = self._place(length)
            offset = slot.places[half][0]
            buffer = self._buffer
        self._sequence = sequence = self._sequence + 1
        crc = hash((offset, length, sequence)) & MASK
        if length <= SMALL:
            for part in parts:
                crc = crc32(part, crc)
        # The header before the data, so that a reader in the middle of either notices.
        _pack_half(buffer, at + _HALVES[half], offset, length, sequence, crc)
        if one:
            buffer[offset : offset + length] = data
        else:
            for part in parts:
                buffer[offset : offset + len(part)] = part
                offset += len(part)
        buffer[at] = half + 1  # last: from here on it is this half that counts
        if freed is not None:
            self._places.give_back(freed)

    def _put_new(self, key: Any, parts: Sequence[Bytes]) -> None:
        if not self._free:
            self._add_page()
        name = pickle.dumps(key, 5)
        place = self._place(len(name))
        buffer = self._buffer
        at = self._free.pop()
        slot = _Slot(at, place)
        self._sequence = order = self._sequence + 1
        buffer[place[0] : place[0] + len(name)] = name
        KEY.pack_into(buffer, at + KEY_AT, place[0], len(name), crc32(name), order)
        self._slots[key] = slot
        try:
            self._write(slot, parts)
        except BaseException:
            if not self._buffer[at]:
                del self._slots[key]
            raise

    def _place(self, length: int) -> _Place:
        place = self._places.take(length)
        self._buffer = self.block.buffer
        return place

    def _add_page(self) -> None:
        page = self._buffer[PAGES_AT]
        entries = page_entries(page)
        start = self._places.never_used(entries * ENTRY_BYTES)
        self._buffer = buffer = self.block.buffer
        at = DIRECTORY_AT + 8 * page
        buffer[at : at + 8] = start.to_bytes(8, "little")
        buffer[PAGES_AT] = page + 1  # last: from here on readers look there
        ends = range(start, start + entries * ENTRY_BYTES, ENTRY_BYTES)
        self._free.extend(reversed(ends))


class _Slot:
    """The entry of a key: where it is, and the places of its key and its two halves."""

    __slots__ = ("at", "key", "places")

    def __init__(self, at: int, key: _Place) -> None:
        self.at = at
        self.key = key
        self.places: list[_Place] = [(0, 0), (0, 0)]


class _Places:
    """What is free in a block, by size: powers of two."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._end = HEADER_BYTES
        self._free: dict[int, list[int]] = {}

    def take(self, length: int) -> _Place:
        """A place for `length` bytes."""
        capacity = max(_LEAST, 1 << (length - 1).bit_length()) if length else _LEAST
        free = self._free.get(capacity)
        if free:
            return free.pop(), capacity
        return self.never_used(capacity), capacity

    def give_back(self, place: _Place) -> None:
        """Let it be taken again, if it is one: a half that was never used has none."""
        offset, capacity = place
        if capacity:
            self._free.setdefault(capacity, []).append(offset)

    def never_used(self, length: int) -> int:
        """The offset of a place that is all zeros."""
        size = -(-length // _LEAST) * _LEAST
        if self._end + size > self._block.size:
            self._block.grow(max(self._end + size, 2 * self._block.size))
        offset = self._end
        self._end += size
        return offset
