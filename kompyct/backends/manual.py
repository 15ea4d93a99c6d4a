"""How does a test run components itself, one turn at a time?"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from kompyct.clock import SECOND, Alarm, ManualClock
from kompyct.deadline import AbandonedError, Deadline
from kompyct.messages import Ask
from kompyct.waiting import here


class ManualBackend:
    """Runs ready items on the thread that made it, in the order they became ready.

    Whatever waits there (an ask, a future's `result`) runs items, and moves the clock when there
    are none, until what it waits for has come.
    """

    kind = "manual"

    def __init__(self, system_name: str, clock: ManualClock) -> None:
        self._clock = clock
        self._ready: deque[Any] = deque()
        self._alarms: dict[Deadline, Alarm] = {}
        self.cell: Any = None
        self.interrupt: BaseException | None = None  # Ctrl+C, to be raised again (S-35)
        self._before = here.runner
        here.runner = self

    def wake(self, item: Any) -> None:
        item.asleep = False
        self._ready.append(item)

    def take_over(self, cell: Any) -> None:
        self.wake(cell)

    def close(self, timeout: float) -> None:
        """Run what is left."""
        self.run_until_idle()
        if here.runner is self:
            here.runner = self._before

    def watch(self, deadline: Deadline) -> None:
        """Call `deadline.expire()` when the clock gets there, unless it is claimed before."""

        def ring() -> None:
            self._alarms.pop(deadline, None)
            if deadline.claim():
                deadline.expire()

        alarm = self._alarms[deadline] = Alarm(deadline.due, ring)
        self._clock.set(alarm)

    def unwatch(self, deadline: Deadline) -> None:
        """Watch no more."""
        alarm = self._alarms.pop(deadline, None)
        if alarm is not None:
            alarm.silence()

    # -- driving ----------------------------------------------------------------------------

    def step(self) -> bool:
        """Run one turn; False if nothing is ready."""
        if not self._ready:
            return False
        item = self._ready.popleft()
        outer, self.cell = self.cell, item
        runner, here.runner = here.runner, self
        try:
            if item.run():
                self._ready.append(item)
        except AbandonedError:
            pass
        finally:
            self.cell = outer
            here.runner = runner
        if self.interrupt is not None:
            interrupt, self.interrupt = self.interrupt, None
            raise interrupt
        return True

    def run_until_idle(self) -> int:
        """Run turns until nothing is ready; returns how many."""
        turns = 0
        while self.step():
            turns += 1
        return turns

    def advance(self, seconds: float) -> None:
        """Let that much virtual time pass, running everything in the order it falls due."""
        until = self._clock.now() + round(seconds * SECOND)
        self.run_until_idle()
        while self._clock.ring_next(until):
            self.run_until_idle()

    def run_until(self, reached: Callable[[], bool], timeout: float) -> bool:
        """Run, and let virtual time pass, until `reached()`; -1 for no limit of time.

        Returns: whether it was reached; False as well if nothing is left that could happen.
        """
        until = None if timeout == -1 else self._clock.now() + round(timeout * SECOND)
        while not reached():
            if self.step():
                continue
            due = self._clock.next_due()
            if due is None or (until is not None and due > until):
                if until is not None:
                    self._clock.ring_next(until)
                return bool(reached())
            self._clock.ring_next(due)
        return True

    def wait(self, target: Any, envelope: Ask, timeout: float) -> bool:
        """See `Runner.wait`; what this test drives goes on meanwhile."""
        backend = target.runtime.backend
        if isinstance(backend, ManualBackend):
            return backend.run_until(envelope.settled, timeout)
        return bool(envelope.done.acquire(True, timeout))  # it runs on threads of its own


class ManualFuture(Future[Any]):
    """A future whose `result` and `exception` run the components until it is done."""

    def __init__(self, backend: ManualBackend) -> None:
        super().__init__()
        self._backend = backend
        self._driver = threading.get_ident()

    def result(self, timeout: float | None = None) -> Any:
        self._drive(timeout)
        return super().result(0 if self._driver == threading.get_ident() else timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._drive(timeout)
        return super().exception(0 if self._driver == threading.get_ident() else timeout)

    def _drive(self, timeout: float | None) -> None:
        if self._driver == threading.get_ident():
            self._backend.run_until(self.done, -1 if timeout is None else timeout)
