"""What have components done, whoever of them was killed since?

A file that every process maps: it outlives each of them, and is written without asking kompyct for
anything. So it says what must be there after a recovery, and what must not.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from functools import lru_cache

LIVES, BEGUN, DONE, OVER, NUMBERS = 0, 1, 2, 3, 8
"""How many incarnations have started; the number of the save that is being made, and of the last
that was made; whether the harness wants no more. From NUMBERS on: the last message in
hand of each sender."""

FAULTS = ("handled twice", "out of order", "overlapping lives", "torn", "older", "newer")
"""What components, and their recovery functions, may find to be wrong: counted from FIRST on."""
FIRST = 24
_PAGE = 4096

BEGAN, SAVED, TWICE = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Place:
    """Which component of which ledger."""

    path: str
    index: int
    messages: int

    def open(self) -> Ledger:
        """The ledger, mapped once in each process."""
        return _mapped(self.path, self.messages)


class Ledger:
    """The file. Each number in it has one writer at a time.

    Args:
        messages: bytes for each component and sender: one for each message.
    """

    SENDERS = 4

    def __init__(self, path: str, messages: int) -> None:
        descriptor = os.open(path, os.O_RDWR)
        try:
            self._map = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        self._each = _PAGE + self.SENDERS * messages
        self._messages = messages

    @classmethod
    def make(cls, path: str, components: int, messages: int) -> list[Place]:
        """Make a file for so many components; returns their places."""
        messages = -(-messages // _PAGE) * _PAGE
        with open(path, "wb") as file:
            file.truncate(components * (_PAGE + cls.SENDERS * messages))
        return [Place(path, index, messages) for index in range(components)]

    def numbers(self, index: int) -> memoryview:
        """Those of a component, to be read and written as `numbers[BEGUN]`."""
        start = index * self._each
        return memoryview(self._map)[start : start + _PAGE].cast("Q")

    def messages(self, index: int, sender: int) -> memoryview:
        """What became of each message of a sender to a component: 0, BEGAN, SAVED or TWICE."""
        start = index * self._each + _PAGE + sender * self._messages
        return memoryview(self._map)[start : start + self._messages]

    def wrong(self, index: int) -> dict[str, int]:
        """What a component has found to be wrong, and how often."""
        numbers = self.numbers(index)
        found = {what: int(numbers[FIRST + at]) for at, what in enumerate(FAULTS)}
        return {what: count for what, count in found.items() if count}


def complain(numbers: memoryview, what: str) -> None:
    """Note that something is wrong."""
    numbers[FIRST + FAULTS.index(what)] += 1


@lru_cache(maxsize=1)  # the one before is unmapped: it must not look like something left behind
def _mapped(path: str, messages: int) -> Ledger:
    return Ledger(path, messages)
