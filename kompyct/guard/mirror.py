"""What does the launcher know of the data of the program that it guards?

Bytes: it decodes none of them. Only `rescue` does, when it looks at a key or a value.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from typing import Any

from kompyct.errors import CorruptStoreError
from kompyct.guard import arrays
from kompyct.guard.autosave import Items
from kompyct.guard.table import Reader, prepare, read_code
from kompyct.processes.memory import HAS_MEMFD, Block

_START = 1 << 26  # bytes; they cost nothing before they are used
_START_NAMED = 1 << 20  # bytes; here they may, and growing leaves the old ones behind


class Mirror:
    """The memory that launcher and application share, as the launcher sees it.

    Attributes:
        damaged: how many values something else had overwritten, at the last `read`.
    """

    def __init__(self, *, named: bool = not HAS_MEMFD) -> None:
        # Growing a memfd needs its descriptor, which some programs close with all they find: what
        # they store finds room for long without.
        self.block = Block.create(_START_NAMED if named else _START, named=named)
        prepare(self.block)
        self.damaged = 0
        self._reader = Reader(self.block)

    def read(self) -> tuple[object, Items]:
        """What tells this state from another; and all keys and values, encoded.

        Of arrays, which change without a trace, no state is the same as another.

        Raises:
            OSError: there is no memory, or no descriptor, for it.
        """
        state: list[object] = []
        items: Items = []
        all_found = self._reader.found()
        self.damaged = self._reader.damaged
        for found in all_found:
            value = found.value
            if arrays.is_array(value):
                state.append(object())
                try:
                    value = arrays.with_content(value, self._reader)
                except (CorruptStoreError, FileNotFoundError):
                    self.damaged += 1
                    continue
            state.append((found.order, found.sequence))
            items.append((found.key, value))
        return state, items

    def exit_code(self) -> int | None:
        """What the application said before it ended; None if it did not come to that."""
        return read_code(self.block)

    def close(self) -> None:
        """Give the memory back. What was read stays."""
        for found in self._reader.found():
            if arrays.is_array(found.value):
                with suppress(CorruptStoreError):
                    arrays.remove_memory(found.value)
        self.block.close()


class SavedStore(MutableMapping[Any, bytes]):
    """Encoded values whose program is gone. Keys are decoded when they are first asked for."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._decoded: dict[Any, bytes] | None = None

    def __getitem__(self, key: Any) -> bytes:
        return self._values()[key]

    def __setitem__(self, key: Any, data: bytes) -> None:
        self._values()[key] = data

    def __delitem__(self, key: Any) -> None:
        del self._values()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def _values(self) -> dict[Any, bytes]:
        if self._decoded is None:
            self._decoded = {pickle.loads(key): value for key, value in self._items}
            self._items = []
        return self._decoded
