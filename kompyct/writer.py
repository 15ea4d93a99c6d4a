"""How do snapshots reach the store behind the components' backs?

Saves are collected and written together, with one sync for all; of several saves of a component
only the last is written (S-24). Who cannot wait for that writes all that is collected at once.
"""

from __future__ import annotations

import errno
import threading
import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from kompyct import events
from kompyct.clock import SECOND, Alarm, Clock
from kompyct.errors import StoreError
from kompyct.events import Event
from kompyct.store.segments import Damage
from kompyct.stored import Stored, Unsettled, prepare
from kompyct.waiting import blocked, here

if TYPE_CHECKING:
    from kompyct.messages import Ask
    from kompyct.store.snapshots import SnapshotStore

DELAY = 0.05
"""Seconds in which saves are collected."""

GATHER = 0.00005
"""Seconds that who writes for others sleeps, as long as more of them keep coming."""

_TOO_MUCH = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

CLOSE_PATIENCE = 5.0
"""Seconds that the end of a system waits for a disk that hangs."""

FIRST_RETRY = 0.1
LAST_RETRY = 5.0
"""Seconds between attempts while the store fails; doubled each time."""

MARK_PATIENCE = 1.0
"""Seconds that a recovery waits for its mark; a disk that hangs must not end components."""


class _Turn:
    """Somebody who sleeps until `stored` has been written up to `touched`, or it is his turn."""

    __slots__ = ("done", "stored", "touched")

    def __init__(self, stored: Stored, touched: int) -> None:
        self.stored = stored
        self.touched = touched
        self.done = allocate_lock()
        self.done.acquire()


def _sleep(turn: _Turn) -> None:
    """Wait until it is woken; a pool has others go on meanwhile, as in an ask."""
    runner = here.runner
    if runner is None or getattr(runner, "kind", "") == "manual":
        turn.done.acquire()
    else:
        runner.wait(None, cast("Ask", turn), -1)


class Writer:
    """The one writer of a system's store; every method is for any thread.

    Args:
        store: belongs to the system until `close`.
        clock: of the system.
        emit: takes events.
        name: of its thread.
        threaded: False under virtual time, where the clock rings instead.
    """

    def __init__(
        self,
        store: SnapshotStore,
        clock: Clock,
        emit: Callable[[Event], object],
        name: str,
        *,
        threaded: bool,
    ) -> None:
        self.store = store
        self.components: dict[str, Stored] = {}  # by path, also of those that have ended
        self._clock = clock
        self._emit = emit
        self._name = name
        self._threaded = threaded
        self._writing = threading.Lock()  # held by who writes, so that entries keep their order
        self._changed = threading.Condition()  # protects all that follows
        self._queue: deque[Stored] = deque()  # what is not settled
        self._thread: threading.Thread | None = None
        self._alarm: Alarm | None = None
        self._behind = False  # whether something in the queue is to be written behind
        self._waiting: list[_Turn] = []  # who sleeps until somebody has written
        self._urgent = False
        self._closed = False
        self._failures = 0  # of writing behind
        self._marking = 0  # how many wait in `mark`
        self._expected = 0  # how many may want to save at once; of who writes
        self._retry = 0.0  # seconds; > 0 while the store fails. Of who writes behind

    def enqueue(self, stored: Stored, *, behind: bool) -> None:
        """Take up `stored`, and if `behind`, write it within the DELAY."""
        self._queue.append(stored)  # atomic, so the lock is only needed to rouse somebody
        if behind and not self._behind:  # which is cleared before the queue is taken
            with self._changed:
                self._behind = True
                self._rouse()

    def make_durable(self, stored: Stored, touched: int) -> None:
        """Return when what `stored` was told up to that touch is durable.

        One of those who want that writes for all; the others sleep until he has.

        Raises:
            StoreError: it is not durable; it will be tried again.
        """
        while stored.settled < touched:
            if not self._writing.acquire(False):
                turn = _Turn(stored, touched)
                with self._changed:
                    self._waiting.append(turn)
                try:
                    # Who writes releases first and looks for the waiting then; so if that look
                    # came before this one was there, the lock is free by now, or has its next
                    # holder.
                    if not self._writing.acquire(False):
                        _sleep(turn)
                        continue
                except BaseException:  # Ctrl+C
                    self._leave(turn)
                    with self._changed:  # it may have been his to write, for the others as well
                        self._behind = True
                        self._rouse()
                    raise
                self._leave(turn)
            try:
                self._write_now(gather=True)
            except StoreError:
                if stored.settled < touched:  # else it was another one's that could not be written
                    raise

    prepare = staticmethod(prepare)

    def mark(self, stored: Stored) -> None:
        """Return when the mark of `stored` is durable, or the patience for that is over."""
        stored.touch()
        touched = stored.touched
        if not self._threaded:
            self._write_behind()
            return
        with self._changed:
            self._behind = self._urgent = True
            self._marking += 1
            try:
                self._rouse()
                failures = self._failures
                self._changed.wait_for(
                    lambda: stored.settled >= touched or self._failures > failures or self._closed,
                    MARK_PATIENCE,
                )
            finally:
                self._marking -= 1

    def flush(self) -> None:
        """Return when all that was saved so far is durable.

        Raises:
            StoreError: it is not.
        """
        self._writing.acquire()
        self._write_now()

    def close(self) -> StoreError | None:
        """Write what is left and let the next writer in; returns what went wrong."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if self._alarm is not None:
            self._alarm.silence()
        if thread is not None:
            thread.join(1.0)
        if not self._writing.acquire(timeout=CLOSE_PATIENCE):
            problem = StoreError(
                f"{self.store.owner}: the store hangs; what was not flushed is lost"
            )
            self._complain(problem, 0.0)
            return problem  # and whoever hangs there has the store
        try:
            self._write_now()
        except StoreError as error:
            self._complain(error, 0.0)
            return error
        finally:
            self.store.close()
        return None

    def report_damage(self, damage: Damage) -> None:
        """Tell of damage that the store has found."""
        self._emit(
            events.SnapshotDamaged(
                *self._identity(),
                damage.path.rpartition("/")[2],
                damage.offset,
                damage.length,
                damage.what,
                damage.torn,
            )
        )

    # -- private ----------------------------------------------------------------------------

    def _gather(self) -> None:
        """Let those whose save has just become durable come with their next one.

        Otherwise the first of them would write alone, and the others wait for another sync.
        """
        found = len(self._queue)
        while found < self._expected:
            time.sleep(GATHER)
            before, found = found, len(self._queue)
            if found == before:
                return

    def _leave(self, turn: _Turn) -> None:
        """Take `turn` from those who sleep, lest it is chosen to write for the others."""
        with self._changed:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _write_now(self, *, gather: bool = False) -> None:
        """Write the queue, and give back the right to, `_writing`, which is held."""
        try:
            with blocked():
                if gather:
                    self._gather()
                self._write()
        except BaseException:
            with self._changed:
                self._behind = True
                self._rouse()
            raise
        finally:
            self._writing.release()
            with self._changed:
                self._expected += len(self._queue)
                # Chosen here: those that are left are for the next one, who may have them settled
                # and woken soon.
                woken: list[_Turn] = []
                asleep: list[_Turn] = []
                for turn in self._waiting:
                    is_settled = turn.stored.settled >= turn.touched
                    (woken if is_settled else asleep).append(turn)
                # One of those who came too late for this time writes for them all the next time.
                woken += asleep[:1]
                self._waiting = asleep[1:]
            for turn in woken:
                turn.done.release()

    def _rouse(self) -> None:
        """Have the queue written; the lock of `_changed` is held."""
        if not self._threaded:
            if self._alarm is None:
                delay = self._retry or DELAY
                self._alarm = Alarm(self._clock.now() + round(delay * SECOND), self._ring)
                self._clock.set(self._alarm)
        elif self._thread is None and not self._closed:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
                self._thread = thread
            except RuntimeError:  # no thread to be had: the next save tries again, or `close`
                self._behind = False
        else:
            self._changed.notify_all()

    def _ring(self) -> None:
        self._alarm = None
        self._write_behind()

    def _run(self) -> None:
        while True:
            with self._changed:
                # While the store fails also with nothing to write, to see that it works again.
                self._changed.wait_for(lambda: self._behind or self._retry or self._closed)
                if not self._urgent:
                    delay = self._retry or DELAY
                    self._changed.wait_for(lambda: self._urgent or self._closed, delay)
                self._urgent = False
                if self._closed:
                    return
            self._write_behind()

    def _write_behind(self) -> None:
        try:
            self.flush()
        except StoreError as error:
            with self._changed:
                self._retry = min(max(2 * self._retry, FIRST_RETRY), LAST_RETRY)
                self._failures += 1
                if self._alarm is not None:  # with the delay that was before this attempt
                    self._alarm.silence()
                    self._alarm = None
                self._rouse()
                self._changed.notify_all()
            self._complain(error, self._retry)
        else:
            if self._retry:
                self._retry = 0.0
                self._tell(events.SnapshotsSaved(*self._identity()))

    def _write(self) -> None:
        """Write the queue; `_writing` is held."""
        with self._changed:
            self._behind = False  # before the look: who comes after it says so again
        taken = self._queue.copy()  # it stays there until it is written: Ctrl+C loses nothing
        if not taken:
            return
        batch = tuple(dict.fromkeys(taken))  # Ctrl+C may have left what was written
        self._expected = len(batch)
        unsettled: list[tuple[Stored, Unsettled]] = []
        try:
            unsettled += [(stored, stored.unsettled()) for stored in batch]
            self.store.save([found.entry for _, found in unsettled if found.entry is not None])
            self._settle(unsettled)
        except BaseException as error:
            if isinstance(error, StoreError) and error.errno in _TOO_MUCH and len(batch) > 1:
                self._queue.extend(self._write_each(unsettled))
                self._forget(len(taken))
            if isinstance(error, StoreError) or not isinstance(error, Exception):
                raise
            raise StoreError(
                f"{self.store.owner}: the store raised {type(error).__qualname__}; see the cause"
            ) from error
        self._forget(len(taken))

    def _forget(self, count: int) -> None:
        """Take as many from the head of the queue, to whose end others add; `_writing` is held."""
        for _ in range(count):
            self._queue.popleft()

    def _write_each(self, unsettled: list[tuple[Stored, Unsettled]]) -> list[Stored]:
        """Write one after the other what is too much together; returns what could not be."""
        failed = []
        for stored, found in unsettled:
            try:
                self.store.save([] if found.entry is None else [found.entry])
                self._settle([(stored, found)])
            except StoreError:
                failed.append(stored)
        return failed

    def _settle(self, unsettled: list[tuple[Stored, Unsettled]]) -> None:
        more = [stored for stored, found in unsettled if stored.settle(found)]
        for stored, found in unsettled:
            # What has ended need not be kept in mind: the store knows it.
            if found.retired and self.components.get(stored.path) is stored:
                del self.components[stored.path]
        self._queue.extend(more)
        if more or self._marking:
            with self._changed:
                if more:
                    self._behind = True
                    self._rouse()
                self._changed.notify_all()

    def _complain(self, error: StoreError, retry: float) -> None:
        self._tell(
            events.SnapshotsNotSaved(
                *self._identity(),
                type(error).__qualname__,
                error.errno,
                error.phase,
                len(self._queue),
                retry,
                str(error),
            )
        )

    def _tell(self, event: Event) -> None:
        with suppress(RuntimeError):  # no thread for the supervisor: the writing goes on
            self._emit(event)

    def _identity(self) -> tuple[int, str, int, float]:
        return 0, "store", 0, self._clock.now() / SECOND
