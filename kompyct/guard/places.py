"""Where in a guarded program's memory is there room for so many bytes?

That is known to the writer only: nothing has to be freed in the memory of the dead.
"""

from __future__ import annotations

from kompyct.guard.table import HEADER_BYTES
from kompyct.processes.memory import Block

Place = tuple[int, int]
"""Offset and capacity."""

_LEAST = 64  # bytes of a place; places lie at multiples of it, as arrays like it


class Places:
    """What is free in a block, by size: powers of two. The caller's lock protects it."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._end = HEADER_BYTES
        self._free: dict[int, list[int]] = {}

    def take(self, length: int) -> Place:
        """A place for `length` bytes."""
        capacity = max(_LEAST, 1 << (length - 1).bit_length()) if length else _LEAST
        free = self._free.get(capacity)
        if free:
            return free.pop(), capacity
        return self.never_used(capacity), capacity

    def give_back(self, place: Place) -> None:
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
