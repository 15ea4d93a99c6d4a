"""What do the harnesses hurt? A store that keeps numbers, whichever store it is.

Each number is kept in a value that can be told from every torn one.
"""

from __future__ import annotations

import errno
import os
import reprlib
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any, Protocol

from kompyct.codecs import decode, encode
from kompyct.errors import StoreError
from kompyct.store import open_store
from kompyct.store.directory import DirectoryStore
from kompyct.store.files import TEMPORARY
from kompyct.store.segments import Damage
from kompyct.store.snapshots import Mark, Snapshot
from kompyct.store.trust import Trust

KEY = b"a key for tests only"
WORDS = 300  # of 8 letters in a value, so that half of it is not nothing


class BrokenError(Exception):
    """What was read was never written."""


class Handle(Protocol):
    """A store that is open. A call that returns has acknowledged."""

    def commit(self, number: int, *, keep: bool = False) -> None:
        """Make `number` the newest; `keep` the one before, where that is not done anyway."""
        ...

    def update(self, number: int) -> None:
        """The same, by reading what is there, changing and writing it."""
        ...

    def read(self) -> list[int]:
        """The newest number as the files have it, then those before it that are kept."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class Subject(Protocol):
    """A kind of store."""

    name: str

    def open(self, folder: str, words: int = WORDS) -> Handle:
        """The store in `folder`, whose newest number is 0 while nothing was committed."""
        ...

    def files(self, folder: str) -> list[str]:
        """The paths of the files that hold what was committed."""
        ...


def value_of(number: int, words: int = WORDS) -> dict[str, Any]:
    """The value that stands for `number`; it cannot be compressed to less than half."""
    return {"number": number, "text": Random(number).randbytes(words * 4).hex()}


def number_in(value: Any, words: int = WORDS) -> int:
    """The number that `value` stands for.

    Raises:
        BrokenError: it stands for none.
    """
    number = value.get("number") if isinstance(value, dict) else None
    if type(number) is not int or value != value_of(number, words):
        raise BrokenError(f"read what was never written: {reprlib.repr(value)}")
    return number


def temporaries(folder: str) -> list[str]:
    """Names of temporaries anywhere in `folder`."""
    return [name for _, _, names in os.walk(folder) for name in names if TEMPORARY in name]


class AtomicHandle:
    """An `AtomicStore` whose values are numbers."""

    def __init__(self, path: str, options: dict[str, Any], words: int) -> None:
        self.path = path
        self.words = words
        self.options = options
        self.store = self._opened()
        self.keeping: Any = None

    def commit(self, number: int, *, keep: bool = False) -> None:
        """See `Handle`."""
        store = self.store
        if keep:
            if self.keeping is None:
                self.keeping = self._opened(keep_previous=True)
            store = self.keeping
        store.value = value_of(number, self.words)
        store.commit()

    def update(self, number: int) -> None:
        """See `Handle`."""

        def change(old: Any) -> Any:
            number_in(old, self.words)
            return value_of(number, self.words)

        self.store.update(change)

    def read(self) -> list[int]:
        """See `Handle`."""
        numbers = [number_in(self.store.reload(), self.words)]
        try:
            numbers.append(number_in(self.store.previous(), self.words))
        except StoreError as error:
            if error.errno != errno.ENOENT:
                raise
        return numbers

    def close(self) -> None:
        """See `Handle`."""

    def _opened(self, **more: Any) -> Any:
        return open_store(self.path, value_of(0, self.words), **self.options, **more)


class AtomicSubject:
    """An `AtomicStore` of one format."""

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        self.options = options

    def open(self, folder: str, words: int = WORDS) -> AtomicHandle:
        """See `Subject`."""
        return AtomicHandle(os.path.join(folder, "state"), self.options, words)

    def files(self, folder: str) -> list[str]:
        """See `Subject`."""
        return [os.path.join(folder, "state")]


PATH = "/counter"


class DirectoryHandle:
    """A `DirectoryStore` in which one component saves numbers."""

    def __init__(self, folder: str, trust: Trust, words: int) -> None:
        self.words = words
        self.damages: list[Damage] = []
        self.store = DirectoryStore(folder, trust=trust, on_damage=self.damages.append)
        try:
            self.kept = [] if self.read() == [0] else self.read()
        except BaseException:
            self.store.close()
            raise

    def commit(self, number: int, *, keep: bool = False) -> None:
        """See `Handle`; `keep` compacts, since older generations are kept anyway.

        That may fail, as when the store does it unasked: what was saved is acknowledged.
        """
        mark = Mark(PATH, 1, number)
        data = encode(value_of(number, self.words))
        keeps = tuple(self.kept[:2])
        self.store.save([Snapshot(mark, "tests:nothing", data, float(number), number, keeps)])
        self.kept = [number, *keeps]
        if keep:
            with suppress(StoreError):
                self.store.compact()

    def update(self, number: int) -> None:
        """See `Handle`; a mark for the snapshot there comes with it."""
        if self.kept:
            self.store.save([Mark(PATH, 1, self.kept[0], suspect=1)])
        self.commit(number)

    def read(self) -> list[int]:
        """See `Handle`."""
        found = self.store.load(PATH)
        numbers = [number_in(decode(snapshot.data or b""), self.words) for snapshot in found]
        for number, snapshot in zip(numbers, found, strict=True):
            if snapshot.mark.sequence != number or snapshot.saved_at != number:
                raise BrokenError(f"snapshot {snapshot.mark.sequence} holds {number}")
        return numbers or [0]

    def close(self) -> None:
        """See `Handle`."""
        self.store.close()


class DirectorySubject:
    """A `DirectoryStore`."""

    def __init__(self, name: str, trust: Trust) -> None:
        self.name = name
        self.trust: Trust = trust

    def open(self, folder: str, words: int = WORDS) -> DirectoryHandle:
        """See `Subject`."""
        return DirectoryHandle(os.path.join(folder, "snapshots"), self.trust, words)

    def files(self, folder: str) -> list[str]:
        """See `Subject`."""
        inside = os.path.join(folder, "snapshots")
        return [os.path.join(inside, name) for name in os.listdir(inside) if name.endswith("log")]


def _subjects() -> Iterator[Subject]:
    yield AtomicSubject("json", format="json")
    yield AtomicSubject("pickle", format="pickle")
    yield AtomicSubject("bson", format="bson")
    yield AtomicSubject("signed", format="pickle", trust=KEY)
    yield DirectorySubject("directory", "local")
    yield DirectorySubject("sealed", KEY)


SUBJECTS: dict[str, Subject] = {subject.name: subject for subject in _subjects()}
