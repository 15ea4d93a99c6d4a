"""How does the guarded program write into the memory that it shares with its launcher?

Nothing is sent: a value is copied into memory that outlives this process, without a system call.
"""

from __future__ import annotations

import os
import pickle
import time
import weakref
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import suppress
from threading import RLock, get_ident
from typing import Any
from zlib import adler32, crc32

from kompyct.guard.places import Place, Places
from kompyct.guard.table import (
    CODE,
    CODE_AT,
    DIRECTORY_AT,
    ENTRY_BYTES,
    HALF,
    HALVES_AT,
    KEY,
    KEY_AT,
    MASK,
    PAGES_AT,
    SMALL,
    Bytes,
    page_entries,
)
from kompyct.processes.memory import Block

_LARGE = 1 << 16  # bytes of a place from which on one that is far too large is given back
_POLL = 0.0001  # seconds between two looks whether another thread has written what it began
_pack_half = HALF.pack_into

# Where its header is, offset, the mark that makes it live, and capacity; in one object, so that an
# interrupt cannot part them.
_Half = tuple[int, int, int, int]


class SharedStore(MutableMapping[Any, bytes]):
    """The encoded values by key, in a table in shared memory, of which this is the one writer.

    `lock` protects it, which callers take. A handler of a signal that writes in the middle of
    another write, of the same thread, does so at once where that touches nothing which the other
    one does; else it is let through when that is done.

    `overwrite` alone needs no lock, which would take longer than the rest of it. The thread that
    made this may call it as long as no other has used the store; so each other thread calls
    `share` before it takes the lock. Invariant: where `_is_shared`, nobody is writing without the
    lock, nor ever will.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        self.pid = os.getpid()
        self.lock = RLock()  # entered again by handlers of signals
        self._buffer = block.buffer
        self._places = Places(block)
        self.slots: dict[Any, Slot] = {}
        self._free: list[int] = []  # entries
        self._sequence = 0
        self._busy = False  # while something is put, deleted, or given room
        self._under_way: list[Slot] = []  # what `put` is writing, and handlers in the midst of it
        self._deferred: list[tuple[Any, Sequence[Bytes] | None]] = []  # None to delete
        self._owner = get_ident()  # the thread that may go without the lock
        self._alone = self._owner  # 0 if it may not any more
        self._inside: Slot | None = None  # what it is writing without
        self._is_shared = False  # set once
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_NotAlone(self))

    def __getitem__(self, key: Any) -> bytes:
        slot = self.slots[key]
        mark = self._buffer[slot.at]
        if not mark:  # a delete was interrupted before it was done
            raise KeyError(key)
        offset, length, _, _ = HALF.unpack_from(self._buffer, slot.halves[mark - 1][0])
        return bytes(self._buffer[offset : offset + length])

    def __setitem__(self, key: Any, data: Bytes) -> None:
        self.put(key, (data,))

    def __delitem__(self, key: Any) -> None:
        slot = self.slots[key]
        if self._is_interrupted():
            self._deferred.append((key, None))
            return
        self._busy = True
        try:
            slot.limit = 0
            self._buffer[slot.at] = 0  # first: what follows is for the writer only
            del self.slots[key]
            for place in (slot.key, *((half[1], half[3]) for half in slot.halves)):
                self._places.give_back(place)
            self._free.append(slot.at)
        finally:
            self._busy = False
            self.let_through()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.slots)

    def __len__(self) -> int:
        return len(self.slots)

    def __contains__(self, key: object) -> bool:
        return key in self.slots

    def put(self, key: Any, parts: Sequence[Bytes]) -> None:
        """Let `parts`, one after the other, be the value of `key`.

        Raises:
            OSError: there is no memory for it; the value before is still there.
        """
        slot = self.slots.get(key)
        if self._is_interrupted():
            if slot is None or not self._can_write_now(slot, parts):
                self._deferred.append((key, parts))
            else:
                self._write_marked(slot, parts)
            return
        self._busy = True
        try:
            if slot is None:
                self._put_new(key, parts)
            else:
                self._write_marked(slot, parts)
        finally:
            self._busy = False
            self.let_through()

    def _is_interrupted(self) -> bool:
        """Whether this is a handler of a signal, in the middle of another write."""
        return self._busy or (self._inside is not None and get_ident() == self._owner)

    def _can_write_now(self, slot: Slot, parts: Sequence[Bytes]) -> bool:
        """Whether a write needs no other memory, and nobody is in the middle of that value."""
        is_free = slot is not self._inside and slot not in self._under_way
        return is_free and sum(map(len, parts)) <= slot.limit

    def _write_marked(self, slot: Slot, parts: Sequence[Bytes]) -> None:
        self._under_way.append(slot)
        try:
            self._write(slot, parts)
        finally:
            self._under_way.pop()

    def overwrite(self, key: Any, slot: Slot, data: bytes, given: dict[Any, Any]) -> bool:
        """Let `data` be the value of a key that has one, if that is simple; say whether it was.

        It is where the value before was no longer than a page, the memory for it is there
        already, nobody is writing, and the thread is the only one: then no lock is needed. What
        is `given` under the key is forgotten, before another thread can see the new value.
        """
        me = get_ident()
        if self._alone != me or self._inside is not None or self._busy:
            return False
        try:
            self._inside = slot
            length = len(data)
            # Again: another thread may have called `share` just before. Then it has not waited.
            if self._alone != me or length > slot.limit:
                return False
            buffer = self._buffer
            at = slot.at
            header, offset, mark, _ = slot.halves[buffer[at] != 2]
            self._sequence = sequence = self._sequence + 1
            check = adler32(data, hash((offset, length, sequence)))
            # As in `_write`: header, data, mark.
            _pack_half(buffer, header, offset, length, sequence, check)
            buffer[offset : offset + length] = data
            buffer[at] = mark
            if given:
                given.pop(key, None)
        finally:
            self._inside = None
            if self._deferred:
                with self.lock:
                    self.let_through()
        return True

    def let_through(self) -> None:
        """Do what handlers of signals wanted to be done while a write was under way.

        With the lock.
        """
        while self._deferred:
            key, parts = self._deferred.pop(0)
            if parts is not None:
                self.put(key, parts)
            else:
                with suppress(KeyError):
                    del self[key]

    def share(self) -> None:
        """Let another thread use the store from now on: none goes without the lock any more.

        Without the lock, or by who has called it before.
        """
        if self._is_shared:
            return
        if get_ident() == self._owner:  # it is not inside, or this is a handler in its write
            return
        self._alone = 0
        while self._inside is not None:  # less than a microsecond, if it runs
            time.sleep(_POLL)
        self._is_shared = True

    def make_room(self, length: int) -> tuple[int, memoryview]:
        """A place of zeros for good, and the memory there: for an array that lives in it.

        Raises:
            OSError: there is no memory for it.
        """
        before, self._busy = self._busy, True
        try:
            offset = self._places.never_used(length)
            self._buffer = self.block.buffer
        finally:
            self._busy = before
        if not before:
            self.let_through()
        return offset, self._buffer[offset : offset + length]

    def leave_code(self, code: int) -> None:
        """Say with which exit code this process is about to end, in case nobody else can."""
        if self.pid != os.getpid():
            return  # a forked child that returns where its parent will
        CODE.pack_into(self._buffer, CODE_AT, 1, code)

    def _write(self, slot: Slot, parts: Sequence[Bytes]) -> None:
        """Fill the half that is not live, and make it live."""
        buffer = self._buffer
        at = slot.at
        half = 0 if buffer[at] == 2 else 1  # the mark itself: it is never wrong
        length = sum(map(len, parts))
        freed = None
        header, offset, mark, capacity = slot.halves[half]
        if length > capacity or (capacity > _LARGE and length < capacity >> 4):
            freed = offset, capacity
            slot.limit = 0
            offset, capacity = self._place(length)
            slot.halves[half] = header, offset, mark, capacity
            buffer = self._buffer
        self._sequence = sequence = self._sequence + 1
        check = hash((offset, length, sequence)) & MASK
        if length <= SMALL:
            check = adler32(b"".join(parts), check)
        # The header before the data, so that a reader in the middle of either notices.
        _pack_half(buffer, header, offset, length, sequence, check)
        for part in parts:
            buffer[offset : offset + len(part)] = part
            offset += len(part)
        buffer[at] = mark  # last: from here on it is this half that counts
        least, most = sorted(half[3] for half in slot.halves)
        slot.limit = min(least, SMALL) if length <= SMALL and most <= _LARGE else 0
        if freed is not None:
            self._places.give_back(freed)

    def _put_new(self, key: Any, parts: Sequence[Bytes]) -> None:
        if not self._free:
            self._add_page()
        name = pickle.dumps(key, 5)
        place = self._place(len(name))
        buffer = self._buffer
        at = self._free.pop()
        slot = Slot(at, place)
        self._sequence = order = self._sequence + 1
        buffer[place[0] : place[0] + len(name)] = name
        KEY.pack_into(buffer, at + KEY_AT, place[0], len(name), crc32(name), order)
        self.slots[key] = slot
        try:
            length = sum(map(len, parts))
            if length <= SMALL:  # so that from now on it can be written in place
                header, _, mark, _ = slot.halves[0]
                offset, capacity = self._place(length)
                slot.halves[0] = header, offset, mark, capacity
            self._write(slot, parts)
        except BaseException:
            if not self._buffer[at]:
                del self.slots[key]
            raise

    def _place(self, length: int) -> Place:
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


class Slot:
    """The entry of a key: where it is, and the places of its key and its two halves.

    Attributes:
        limit: bytes of a value that `overwrite` may put there; 0 where it may not.
    """

    __slots__ = ("at", "halves", "key", "limit")

    def __init__(self, at: int, key: Place) -> None:
        self.at = at
        self.key = key
        self.halves: list[_Half] = [
            (at + header, 0, half + 1, 0) for half, header in enumerate(HALVES_AT)
        ]
        self.limit = 0


class _NotAlone:
    """Run in a forked child, which must not write: `overwrite` does not look whose process it is.

    What is to be run in a forked child cannot be taken back, so it does not keep the store.
    """

    def __init__(self, store: SharedStore) -> None:
        self._store = weakref.ref(store)

    def __call__(self) -> None:
        store = self._store()
        if store is not None:
            store._alone = 0
