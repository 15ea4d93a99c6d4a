"""What does a store keep of a component, and what must every such store do?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Protocol

from kompyct.errors import StoreLockedError
from kompyct.lifecycle import Status


@dataclass(frozen=True, slots=True)
class Mark:
    """How the component that saved a snapshot is doing; changes more often than the snapshot.

    Attributes:
        path: of the component.
        incarnation: which one saved the snapshot that this is about.
        sequence: of that snapshot.
        status: what became of the component.
        active: whether it was started.
        suspect: how often the snapshot was handed out with no newer one saved (S-27).
        attempts: how often its recovery function was called with it (S-09).
        tried: the sequence of the generation that `step_back` handed out last; negative, that of
            the newest, when it began afresh.
    """

    path: str
    incarnation: int
    sequence: int
    status: Status = Status.UNFINISHED
    active: bool = False
    suspect: int = 0
    attempts: int = 0
    tried: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot with its recovery function.

    Attributes:
        mark: how the component is doing, path, incarnation and sequence included.
        function: of the recovery: `module:qualname`, or bytes by cloudpickle.
        data: encoded by a codec, see `codecs`; None if the function was registered without one.
        saved_at: seconds since the epoch.
        generation: counts the snapshots of the component that were kept; the first is 1.
        keeps: the sequence numbers of the older generations that are kept, newest first.
        python: "3.11", which saved it.
        version: of kompyct.
    """

    mark: Mark
    function: str | bytes
    data: bytes | None
    saved_at: float
    generation: int = 1
    keeps: tuple[int, ...] = ()
    python: str = ""
    version: str = ""

    @property
    def path(self) -> str:
        """Of the component."""
        return self.mark.path

    @property
    def order(self) -> tuple[int, int]:
        """A later snapshot of the component has a greater one (S-06)."""
        return self.mark.incarnation, self.mark.sequence


@dataclass(frozen=True, slots=True)
class Removal:
    """Nothing of the component at `path` is to be kept."""

    path: str


Entry = Snapshot | Mark | Removal


class SnapshotStore(Protocol):
    """Keeps the snapshots of a system's components; every method is for any thread.

    Entries older than what the store has of a component are left out: a late writer changes
    nothing (S-06).
    """

    @property
    def owner(self) -> str:
        """Where it is and who may write to it, for people."""
        ...

    def save(self, entries: Sequence[Entry]) -> None:
        """Keep `entries`, which take effect in this order; durable when it returns.

        Raises:
            StoreError: they are not durable; they may be saved again.
        """
        ...

    def load(self, path: str) -> tuple[Snapshot, ...]:
        """The kept generations of the component, newest first, but for damaged ones.

        Raises:
            StoreError: they cannot be read.
        """
        ...

    def paths(self) -> tuple[str, ...]:
        """The paths of all components of which something is kept, in the order of the alphabet."""
        ...

    def close(self) -> None:
        """Let the next writer in."""


class MemoryStore:
    """A store in memory, for tests; `crashed()` is what a lost process would have left."""

    def __init__(self) -> None:
        self._lock = Lock()  # protects _kept
        self._kept: dict[str, list[Snapshot]] = {}
        self._taken = Lock()  # locked while a system has it

    owner = "memory of this process"

    def open(self) -> None:
        """Take it for one system.

        Raises:
            StoreLockedError: another one has it.
        """
        if not self._taken.acquire(False):
            raise StoreLockedError(
                "this MemoryStore belongs to a system that has not ended; end that one first, "
                "or take crashed()",
                phase="lock",
            )

    def save(self, entries: Sequence[Entry]) -> None:
        """Keep `entries`."""
        with self._lock:
            for entry in entries:
                if isinstance(entry, Removal):
                    self._kept.pop(entry.path, None)
                else:
                    kept = with_entry(tuple(self._kept.get(entry.path, ())), entry)
                    if kept:
                        self._kept[entry.path] = list(kept)

    def load(self, path: str) -> tuple[Snapshot, ...]:
        """The kept generations of the component, newest first."""
        with self._lock:
            return tuple(self._kept.get(path, ()))

    def paths(self) -> tuple[str, ...]:
        """The paths of all components of which something is kept."""
        with self._lock:
            return tuple(sorted(self._kept))

    def close(self) -> None:
        """Let the next system have it."""
        if self._taken.locked():
            self._taken.release()

    def crashed(self) -> MemoryStore:
        """A store of its own that holds what this one holds now."""
        copy = MemoryStore()
        with self._lock:
            copy._kept = {path: list(kept) for path, kept in self._kept.items()}
        return copy


def with_entry(kept: tuple[Snapshot, ...], entry: Snapshot | Mark) -> tuple[Snapshot, ...]:
    """The generations kept of a component, newest first, once `entry` has been saved."""
    newest = kept[0] if kept else None
    if isinstance(entry, Mark):
        if newest is None or newest.order != (entry.incarnation, entry.sequence):
            return kept
        return (replace(newest, mark=entry), *kept[1:])
    mark = entry.mark
    sequence = mark.sequence
    if newest is None:
        return (entry,)
    last = newest.mark
    if mark.incarnation == last.incarnation and last.sequence < sequence:
        # As nearly always: all that is kept is older.
        keeps = entry.keeps
        return (entry, *[snapshot for snapshot in kept if snapshot.mark.sequence in keeps])
    if entry.order < newest.order:
        return kept
    older = {snapshot.mark.sequence: snapshot for snapshot in kept if snapshot.order < entry.order}
    return (entry, *(older[number] for number in entry.keeps if number in older))
