"""How do a few threads run very many components, and go on when some of them block?

Ready items wait in a queue; workers run one turn of each and put it back if it has more. Under
the GIL a second worker makes nothing faster, so one is enough while it makes progress. More come
when a blocking ask or a durable save from inside a component announces itself, and when the
watchdog, which looks every 10 ms while anything runs, finds items waiting and a worker still in
the turn it was in before. Such a worker counts as blocked; when it returns and another one runs,
it parks.

`idle` says that no worker is running. As with a mailbox's `asleep`, who makes an item ready looks
at it afterwards, and the last worker looks at the queue after setting it: no item is forgotten.
"""

from __future__ import annotations

import logging
import threading
from _thread import allocate_lock
from collections import deque
from contextlib import suppress
from enum import Enum
from typing import Any

from kompyct.clock import SECOND, Clock
from kompyct.deadline import AbandonedError, Deadline
from kompyct.messages import Ask
from kompyct.waiting import here, wait_for

_logger = logging.getLogger("kompyct")

TICK = 0.010
"""Seconds between two looks of the watchdog."""

QUIET_TICKS = 100
"""Looks without anything to see after which the watchdog sleeps until there is work."""

MAX_WORKERS = 512
"""Threads of a pool at most: as many components may block at once before others must wait."""

SPARE_WORKERS = 8
"""Parked workers that stay; others end after a second without work."""

STACK_OF_START = 20
"""Frames that the start of a thread may take at most, with room to spare."""


class _Status(Enum):
    RUNNING = "running"
    BLOCKED = "blocked"
    PARKED = "parked"


# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
_RUNNING = _Status.RUNNING
_BLOCKED = _Status.BLOCKED
_PARKED = _Status.PARKED


class PoolBackend:
    """A queue of ready items, the workers that run them, and the watchdog over both."""

    kind = "pool"

    def __init__(self, system_name: str, clock: Clock) -> None:
        self.name = system_name
        self.ready: deque[Any] = deque()
        self.idle = True
        self._clock = clock
        self._mutex = allocate_lock()  # protects everything below, and each worker's status
        self._running = 0
        self._workers: list[_Worker] = []
        self._parked: list[_Worker] = []
        self._closed = False
        self._watchdog: threading.Thread | None = None
        self._watchdog_bell = allocate_lock()
        self._watchdog_bell.acquire()
        self._resting = False
        self._deadlines: set[Deadline] = set()

    # -- from any thread --------------------------------------------------------------------

    def wake(self, item: Any) -> None:
        item.asleep = False
        self.ready.append(item)
        if self.idle:
            try:
                self._rouse()
            except RuntimeError:  # no stack left, or no thread; the item is taken all the same
                if not self._workers:
                    raise

    def take_over(self, cell: Any) -> None:
        """Run `cell`, whose turn was abandoned: the worker that hangs in it runs it no more."""
        with self._mutex:
            for worker in self._workers:
                if worker.item is cell:
                    worker.is_left = True
            closed = self._closed
        if not closed:
            self.wake(cell)
            return
        cell.asleep = False
        self.ready.append(cell)  # not on this thread, which others wait for
        threading.Thread(target=self._run_left, name=f"{self.name}-left", daemon=True).start()

    def thread_of(self, cell: Any) -> int:
        """The thread that runs a turn of `cell`; 0 if it is waiting for one. A hint."""
        with self._mutex:
            workers = tuple(self._workers)
        for worker in workers:
            if worker.item is cell and not worker.is_left:
                return worker.ident or 0
        return 0

    def watch(self, deadline: Deadline) -> None:
        """Call `deadline.expire()` once it is due, unless it is claimed or unwatched before."""
        self._deadlines.add(deadline)
        if self._resting or self._watchdog is None:  # it looks for deadlines after setting that
            with self._mutex:
                self._ring_watchdog()

    def unwatch(self, deadline: Deadline) -> None:
        """Watch no more."""
        self._deadlines.discard(deadline)

    def close(self, timeout: float) -> None:
        """End the threads, but those that hang; what is left ready is run by the caller.

        Args:
            timeout: seconds to wait for the threads, all together.
        """
        with self._mutex:
            self._closed = True
            parked, self._parked = self._parked, []
            workers = tuple(self._workers)
            self._ring_watchdog()
        for worker in parked:
            worker.bell.release()
        until = self._clock.now() + round(timeout * 1e9)
        for thread in (*workers, self._watchdog):
            if thread not in (None, threading.current_thread()) and thread.ident is not None:
                thread.join(max((until - self._clock.now()) / 1e9, 0.0))
        self._run_left()

    def _run_left(self) -> None:
        """Run what is ready in a closed pool; a worker that was late may do so as well.

        By turns, and for a second at most. Components that are left end without any hook.
        """
        until = self._clock.now() + SECOND
        while self._clock.now() < until:
            try:
                item = self.ready.popleft()
            except IndexError:
                return
            leave_behind = getattr(item, "leave_behind", None)
            if leave_behind is not None:
                leave_behind()  # a component's messages are not for this thread to handle
            with suppress(AbandonedError):
                if item.run():
                    self.ready.append(item)

    def _rouse(self) -> None:
        with self._mutex:
            closed = self._closed
            worker = self._add_runner() if not self._running and self.ready else None
        if worker is not None:
            self._start(worker)
        elif closed:
            self._run_left()

    def _start(self, worker: _Worker) -> None:
        """Start a new worker's thread; not under the mutex, since it waits for the thread.

        Raises:
            RuntimeError: the operating system gives no more threads, and no worker is left that
                could do the work.
        """
        try:
            worker.start()
        except RuntimeError:
            with self._mutex:
                self._workers.remove(worker)
                self._running -= 1
                self.idle = not self._running
                alone = not self._workers
            if alone:
                raise

    def _add_runner(self) -> _Worker | None:
        """Have one more worker run; returns it if it is new and must be started."""
        if self._closed:
            return None
        if self._resting or self._watchdog is None:
            self._ring_watchdog()
        if self._parked:
            worker = self._parked[-1]
            del self._parked[-1]  # no call up to the bell: Ctrl+C comes after calls only
            worker.status = _RUNNING
            self._running += 1
            self.idle = False
            try:
                worker.bell.release()
            except RecursionError:  # the end of the caller's stack: everything is as before
                self._parked += (worker,)
                worker.status = _PARKED
                self._running -= 1
                self.idle = not self._running
                raise
            return None
        if len(self._workers) >= MAX_WORKERS:
            return None
        _need_stack(STACK_OF_START)
        worker = _Worker(self, f"{self.name}-pool-{len(self._workers)}")
        self._workers.append(worker)
        self._running += 1
        self.idle = False
        return worker

    # -- from workers -----------------------------------------------------------------------

    def park(self, worker: _Worker) -> bool:
        """Wait for work; False if the worker is to end."""
        with self._mutex:
            if worker.status is _RUNNING:
                self._running -= 1
            if not self._running:
                self.idle = True
                if self.ready:  # looked at after setting idle: nothing is forgotten
                    if self._resting:
                        self._ring_watchdog()
                    self._running += 1
                    self.idle = False
                    worker.status = _RUNNING
                    return True
            if self._closed:
                self._workers.remove(worker)
                return False
            worker.status = _PARKED
            worker.item = None
            self._parked.append(worker)
            spare = len(self._parked) <= SPARE_WORKERS
        if worker.bell.acquire(True, -1 if spare else 1.0):
            return True
        with self._mutex:
            if worker in self._parked:
                self._parked.remove(worker)
                self._workers.remove(worker)
                return False
        worker.bell.acquire()  # it was roused just now
        return True

    def block(self, worker: _Worker) -> None:
        """`worker` is about to wait within its turn."""
        starting = None
        with self._mutex:
            if worker.status is _RUNNING:
                worker.status = _BLOCKED
                self._running -= 1
            if not self._running:
                self.idle = True
                if self.ready:
                    starting = self._add_runner()
        if starting is not None:
            self._start(starting)

    def unblock(self, worker: _Worker) -> None:
        """`worker` waits no more; if others run as well, it parks at the end of its turn."""
        with self._mutex:
            if worker.status is _BLOCKED:
                worker.status = _RUNNING
                self._running += 1
                self.idle = False
            if self._resting:  # it would not see that this worker blocks
                self._ring_watchdog()
            worker.surplus = self._running > 1

    def step_aside(self, worker: _Worker) -> bool:
        """Whether `worker`, whose turn took long, is one too many and should park."""
        self.unblock(worker)
        surplus = worker.surplus
        worker.surplus = False
        return surplus

    # -- the watchdog -----------------------------------------------------------------------

    def _ring_watchdog(self) -> None:
        if self._watchdog is None:
            if not self._closed:
                _need_stack(STACK_OF_START)
                watchdog = threading.Thread(
                    target=self._watch, name=f"{self.name}-watchdog", daemon=True
                )
                watchdog.start()
                self._watchdog = watchdog  # not before: if it cannot be made, the next one tries
        elif self._resting:
            self._watchdog_bell.release()  # first: it raises at the end of the caller's stack
            self._resting = False

    def _watch(self) -> None:
        bell = self._watchdog_bell
        boost = 1
        quiet = 0
        while True:
            bell.acquire(True, TICK)
            now = self._clock.now()
            for deadline in self._deadlines.copy():
                if deadline.due <= now:
                    self._deadlines.discard(deadline)
                    if deadline.claim():
                        self._expire(deadline)
            starting: list[_Worker] = []
            with self._mutex:
                if self._closed:
                    return
                self._find_stuck()
                if self.ready and not self._running:
                    for _ in range(min(boost, len(self.ready))):
                        worker = self._add_runner()
                        if worker is not None:
                            starting.append(worker)
                    boost = min(2 * boost, MAX_WORKERS)
                elif not self.ready:  # not at the look between, when those just added run
                    boost = 1
                quiet = 0 if self._running or self.ready or self._deadlines else quiet + 1
                if quiet > QUIET_TICKS:
                    self._resting = True
                    if self._deadlines:  # looked at after setting it, as `watch` does
                        self._resting = False
                rest = self._resting
            for worker in starting:
                self._start(worker)
            if rest:
                bell.acquire()
                quiet = 0

    def _expire(self, deadline: Deadline) -> None:
        try:
            deadline.expire()
        except RuntimeError:  # no thread to go on with: the watchdog must live
            _logger.exception("what was abandoned could not be taken over")

    def _find_stuck(self) -> None:
        """Count workers as blocked that are still in the turn of the last look, if items wait."""
        for worker in self._workers:
            if worker.status is _RUNNING:
                if worker.turns == worker.turns_seen and worker.item is not None and self.ready:
                    worker.status = _BLOCKED
                    worker.surplus = True
                    self._running -= 1
                worker.turns_seen = worker.turns
        if not self._running:
            self.idle = True


def _need_stack(frames: int) -> None:
    """Raise RecursionError now, rather than halfway through the start of a thread."""
    if frames:
        _need_stack(frames - 1)


class _Worker(threading.Thread):
    """A thread that runs turns."""

    def __init__(self, pool: PoolBackend, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.pool = pool
        self.item: Any = None  # what it runs
        self.is_left = False  # whether another one goes on with that
        self.turns = 0
        self.turns_seen = -1  # by the watchdog, at its last look
        self.status = _RUNNING
        self.surplus = False  # whether to ask, after this turn, if it is one too many
        self.bell = allocate_lock()
        self.bell.acquire()

    @property
    def cell(self) -> Any:
        """See `Runner.cell`."""
        return self.item

    def run(self) -> None:
        here.runner = self
        pool = self.pool
        ready = pool.ready
        while True:
            try:
                self.item = item = ready.popleft()
                self.is_left = False
            except IndexError:
                item = None
                if pool.park(self):
                    continue
                return
            try:
                if item.run():
                    ready.append(item)
            except AbandonedError:
                pass
            except BaseException:  # a bug of kompyct's: one component is stuck, not all
                with suppress(BaseException):
                    _logger.critical("a turn broke", exc_info=True)
            self.turns += 1
            if self.surplus and pool.step_aside(self) and not pool.park(self):
                return

    def wait(self, target: Any, envelope: Ask, timeout: float) -> bool:
        """See `Runner.wait`."""
        try:
            self.pool.block(self)
            return wait_for(envelope.done, timeout)
        finally:
            self.pool.unblock(self)

    def block(self) -> None:
        """See `waiting.blocked`."""
        self.pool.block(self)

    def unblock(self) -> None:
        """See `waiting.blocked`."""
        self.pool.unblock(self)
