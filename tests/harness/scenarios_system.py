"""Does a component system end well while something still happens in it?"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from kompyct import events
from kompyct.clock import ManualClock
from kompyct.root import EndAll
from kompyct.system import ComponentSystem
from kompyct.waiting import here
from tests.harness.explorer import Scenario
from tests.harness.stage import Stage, Unwound


class EmitEnd(Scenario):
    """An event emitted while the system ends is published, then or later."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.published: list[Any] = []
        system = ComponentSystem(
            "explored", backend="pool", clock=ManualClock(), on_event=self.published.append
        )
        self.runtime = system._runtime
        pool: Any = self.runtime.backend
        pool.started.clear()  # the worker that was to start the supervisor
        pool._workers.clear()
        pool._running = 0
        pool.idle = True
        pool.ready.popleft().run()
        self.pool = pool

    def event(self) -> events.Event:
        return events.ComponentEnded(1, "path", 1, 0.0, "killed", None, 0)

    def one(self) -> None:
        self.runtime.emit(self.event())

    def two(self) -> None:
        self.runtime._ended.set_result(None)
        self.runtime._end(-1)

    def settle(self) -> None:
        for worker in (*self.pool.started,):
            self.pool.started.remove(worker)
            with suppress(Unwound):
                worker.run()
            here.runner = None

    def check(self) -> None:
        assert self.runtime.over.done()
        self.runtime.emit(self.event())
        number = len(self.published)
        assert number == 2, f"{number} of 2 events were published"


class EndCutShort(EmitEnd):
    """The last component ends while the shutdown is cut short: the order is obeyed quietly."""

    def one(self) -> None:
        supervisor: Any = self.runtime.supervisor.component
        supervisor._end_all(EndAll(self.runtime._ended, 0))

    def two(self) -> None:
        self.runtime.cut_short()

    def check(self) -> None:
        assert self.runtime._ended.done()
