"""Does what a component owns, timers and what it keeps, act and end with it?"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, ClassVar

from kompyct import signals
from kompyct.errors import IncarnationEndedError, NotStartedError
from kompyct.lifecycle import State
from kompyct.timers import Timer
from tests.harness.stage import Stage
from tests.harness.world import Noter, World


class Ticks(World):
    """A timer that rings meets its tick: it acts for what rang, and none is lost."""

    burst: ClassVar[bool] = False

    def __init__(self, stage: Stage) -> None:
        self.actions = 0
        super().__init__(stage)
        assert self.cell.component is not None
        cell: Any = self.cell
        self.timer = Timer(cell, 0, 1, self.act, burst=self.burst)
        cell.runtime.clock.now = lambda: 0
        self.timer._ring()

    def act(self) -> None:
        self.actions += 1
        self.seen = self.timer._rung

    def one(self) -> None:
        self.timer._ring()
        self.timer._ring()

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        self.check_rest()
        assert self.seen == 3, f"rang 3 times, acted for {self.seen}"
        assert not self.timer._queued
        assert self.actions == 3 if self.burst else 1 <= self.actions <= 3


class TicksBurst(Ticks):
    """The same, with nothing left out."""

    burst = True


class TickStop(World):
    """After a stop no timer acts, though it rings meanwhile (S-04)."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        cell: Any = self.cell
        self.timer = Timer(cell, 0, 1, lambda: self.notes.append("tick"), burst=False)
        cell.timers = {self.timer}
        cell.runtime.clock.now = lambda: 0

    def one(self) -> None:
        self.timer._ring()

    def two(self) -> None:
        self.cell.signal(signals.stop, None)
        self.backend.drain()
        self.cell.signal(signals.start, None)
        self.backend.drain()

    def check(self) -> None:
        super().check()
        if "tick" in self.notes:
            assert self.notes.index("tick") < self.notes.index("stop"), "a tick after the stop"


class ScheduleStop(World):
    """A thread of the component that sets a timer meets a stop: it is refused, or it is set."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.component: Any = self.cell.component

    def one(self) -> None:
        try:
            timer = self.component.schedule_once(1.0, lambda: self.notes.append("tick"))
        except (NotStartedError, IncarnationEndedError):
            return
        timer._ring()

    def two(self) -> None:
        self.cell.signal(signals.stop, None)
        self.backend.drain()

    def settle(self) -> None:
        self.backend.drain()
        if self.cell.state is State.PASSIVE:
            self.cell.signal(signals.start, None)
            self.backend.drain()

    def check(self) -> None:
        super().check()
        if "tick" in self.notes:
            assert self.notes.index("tick") < self.notes.index("stop"), "a tick after the stop"


class Resource:
    """Something that a component keeps."""

    def __init__(self) -> None:
        self.exits = 0

    def __enter__(self) -> Resource:
        return self

    def __exit__(self, *_: object) -> None:
        self.exits += 1


class KeepStop(World):
    """Closing what was kept takes too long, or does not: one of the two goes on.

    What the next start keeps is left alone by a thread that was abandoned before.
    """

    def __init__(self, stage: Stage) -> None:
        self.resources: list[Resource] = []
        super().__init__(stage)
        self.begin()

    def begin(self) -> None:
        self.stopped: Future[None] = Future()
        self.cell.signal(signals.stop, self.stopped)

    def started(self, noter: Noter) -> None:
        for _ in range(2):
            self.resources.append(noter.keep(Resource()))

    def one(self) -> None:
        self.backend.drain()

    def two(self) -> None:
        self.shared.expire()
        self.backend.drain()
        self.cell.signal(signals.start, None)
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.stopped.done()
        assert self.cell.state is State.ACTIVE
        exits = [resource.exits for resource in self.resources]
        assert exits == [1, 1, 0, 0], f"closed {exits} times; the last two are in use"


class KeepKill(KeepStop):
    """The same at the end: it ends once."""

    def begin(self) -> None:
        self.kill()

    def two(self) -> None:
        self.shared.expire()
        self.backend.drain()

    def check(self) -> None:
        World.check(self)
        assert self.killed.done()
        assert self.cell.state is State.DESTROYED
        assert [resource.exits for resource in self.resources] == [1, 1]


class KeepFault(KeepStop):
    """The same at a fault: it is reported once, and the replacement's things are its own."""

    sent = "bad1"

    def begin(self) -> None:
        self.ref.tell("bad1")

    def two(self) -> None:
        self.shared.expire()
        self.backend.drain()
        self.rebuild()
        self.backend.drain()

    def check(self) -> None:
        World.check(self)
        assert len(self.shared.faults) == 1
        assert [resource.exits for resource in self.resources] == [1, 1, 0, 0]


class KeepLate(World):
    """A thread of the component that keeps something meets a stop: it is closed, once."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.resource = Resource()
        self.component: Any = self.cell.component

    def one(self) -> None:
        try:
            self.component.keep(self.resource)
        except (NotStartedError, IncarnationEndedError):
            self.resource.exits += 1  # refused

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.resource.exits >= 1, "nobody closes it"
