"""What of a component has reached the store, and what is still to get there?"""

from __future__ import annotations

import sys
import time
from _thread import allocate_lock
from typing import TYPE_CHECKING, NamedTuple

from kompyct.errors import IncarnationEndedError, SnapshotError
from kompyct.functions import store_function
from kompyct.lifecycle import Status
from kompyct.options import GENERATIONS
from kompyct.store.records import MAX_SNAPSHOT
from kompyct.store.snapshots import Mark, Snapshot
from kompyct.version import VERSION

if TYPE_CHECKING:
    from kompyct.registration import Registration
    from kompyct.writer import Writer

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Unsettled(NamedTuple):
    """What is to be stored of a component: `entry`, made of `registration` at touch `touched`."""

    touched: int
    entry: Snapshot | Mark | None
    registration: Registration | None
    retired: bool
    """Whether the component had ended for good by then."""


class Stored:
    """One component of a system with a store: its latest save, and how it is doing.

    The component's turn says what is to be stored; the writer, one thread at a time, stores it.
    `touched` counts what was said, `settled` how much of that is in the store.
    """

    __slots__ = (
        "_base", "_fence", "_is_anew", "_lock", "_over", "_pending", "_writer", "active",
        "generation", "kept", "marked", "path", "settled", "status", "touched", "written",
    )  # fmt: skip

    has_store = True

    def __init__(self, writer: Writer, path: str, incarnation: int) -> None:
        self.path = path
        self._base = incarnation
        self._writer = writer
        self._lock = allocate_lock()  # protects _fence, _over, _pending and touched
        self._fence = 0  # saves of earlier incarnations are refused
        self._is_anew = False  # whether what was saved so far is of no use for what comes
        self._over = False  # whether the component has ended: a late thread saves no more
        self._pending: tuple[Registration, int, float] | None = None  # with incarnation and time
        self.touched = 0
        self.status = Status.UNFINISHED  # written by the turn, and by the first save of a new life
        self.active = False  # whether it was started; written by the turn
        # Written by the writer:
        self.settled = 0
        self.written: Registration | None = None
        self.generation = 0
        self.kept: tuple[int, ...] = ()  # sequences of what the store keeps, newest first
        self.marked: Mark | None = None

    @property
    def incarnation(self) -> int:
        """The last one that may have saved, or may do so before the component has ended."""
        pending = self._pending
        return max(self._fence, self._base if pending is None else pending[1])

    @property
    def is_left(self) -> bool:
        """Whether it has ended, and what is stored of it is for whoever creates it next."""
        return self._over and self.status is not Status.RETIRED

    def end(self, status: Status) -> None:
        """Have it stored what became of the component, in its turn."""
        self.status = status
        with self._lock:
            self._over = True
            pending = self._pending
        if status is Status.CLEAN and pending is not None:
            registration = pending[0]
            # Handed out after an orderly shutdown, and no fault since: it was no attempt (S-26).
            if registration.before_shutdown is not None:
                registration.suspect = registration.before_shutdown
        self.touch()

    def begin_anew(self) -> None:
        """Have what is stored count no more: the component begins afresh, in its turn."""
        with self._lock:
            self.status = Status.RETIRED
            self._is_anew = True
        self.touch()

    def save(self, registration: Registration, incarnation: int, *, durably: bool = False) -> None:
        """Have `registration` stored, behind the caller's back or `durably`; from any thread.

        Raises:
            IncarnationEndedError: a later incarnation has saved already (S-06).
            StoreError: it is not durable; it stays to be stored, and will be tried again.
        """
        order = (incarnation, registration.sequence)
        with self._lock:
            pending = self._pending
            if self._over or incarnation < self._fence:
                raise IncarnationEndedError(
                    f"incarnation {incarnation} of component {self.path!r} has ended; "
                    "nothing was changed"
                )
            # Two threads of one incarnation: the later registration counts, whoever comes first.
            if self._is_anew:
                self.status = Status.UNFINISHED
            if pending is None or order >= (pending[1], pending[0].sequence):
                self._pending = (registration, incarnation, time.time())
                self._fence = incarnation
            touched = self._count(behind=not durably)
        if durably:
            self._writer.make_durable(self, touched)

    def fence(self, incarnation: int) -> Registration | None:
        """Refuse saves of incarnations before that one; returns what was saved last."""
        with self._lock:
            self._fence = max(self._fence, incarnation)
            return None if self._pending is None else self._pending[0]

    def forget(self) -> None:
        """Have nothing of it stored: the component could not be made."""
        with self._lock:
            self._over = True
            self._pending = None

    def touch(self, *, durably: bool = False) -> None:
        """Have stored what has changed, behind the caller's back or `durably`; from any thread.

        Raises:
            StoreError: it is not durable; it stays to be stored, and will be tried again.
        """
        with self._lock:
            touched = self._count(behind=not durably)
        if durably:
            self._writer.make_durable(self, touched)

    def continue_from(
        self, registration: Registration, newest: Snapshot, kept: tuple[int, ...]
    ) -> None:
        """Begin with what an earlier process has stored, before anybody else knows of this."""
        incarnation, _ = newest.order
        self._pending = (registration, incarnation, newest.saved_at)
        self._fence = incarnation + 1
        self.written = registration
        self.generation = newest.generation
        self.kept = kept
        self.marked = newest.mark
        self.active = newest.mark.active

    def _count(self, *, behind: bool) -> int:
        """Count a touch, and have the writer take it up; `_lock` is held.

        In one, so that who finds it counted finds it in the queue as well; and in this order, so
        that Ctrl+C in between leaves nothing counted that is in no queue.
        """
        if self.touched == self.settled:
            self._writer.enqueue(self, behind=behind)
        self.touched = touched = self.touched + 1
        return touched

    # -- for the writer ---------------------------------------------------------------------

    def unsettled(self) -> Unsettled:
        """What is to be stored now."""
        with self._lock:
            touched = self.touched
            pending = self._pending
            retired = self._over and self.status is Status.RETIRED
        if pending is None:
            return Unsettled(touched, None, None, retired)
        registration, incarnation, saved_at = pending
        mark = Mark(
            self.path,
            incarnation,
            registration.sequence,
            self.status,
            self.active,
            registration.suspect,
            registration.attempts,
            registration.tried,
        )
        if registration is self.written:
            entry = None if mark == self.marked else mark
            return Unsettled(touched, entry, registration, retired)
        keeps = () if registration.data is None or self._is_anew else self.kept
        if registration.dropped:
            keeps = tuple([number for number in keeps if registration.counts(number)])
        assert registration.stored_as is not None
        snapshot = Snapshot(
            mark,
            registration.stored_as,
            registration.data,
            saved_at,
            self.generation + 1,
            keeps[: GENERATIONS - 1],
            _PYTHON,
            VERSION,
        )
        return Unsettled(touched, snapshot, registration, retired)

    def settle(self, stored: Unsettled) -> bool:
        """Note that this is in the store; whether there is more by now."""
        entry = stored.entry
        if isinstance(entry, Snapshot):
            self.kept = () if entry.data is None else (entry.mark.sequence, *entry.keeps)
            self.generation = entry.generation
            self.marked = entry.mark
            self.written = stored.registration
            self._is_anew = False
        elif entry is not None:
            self.marked = entry
        with self._lock:
            self.settled = stored.touched
            return self.touched > stored.touched


def prepare(registration: Registration) -> None:
    """Make `registration` ready to be saved; from any thread.

    Raises:
        SnapshotError: its function cannot be stored, or its snapshot is too big.
    """
    data = registration.data
    if data is not None and len(data) > MAX_SNAPSHOT:
        raise SnapshotError(
            f"a snapshot of {len(data)} bytes is too big to be stored; {MAX_SNAPSHOT} is the limit"
        )
    registration.stored_as = store_function(registration.function)
