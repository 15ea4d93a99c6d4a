"""One contract, three backends: the fixtures that every test of behaviour uses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from kompyct import ComponentSystem
from kompyct.events import Event
from kompyct.testing import EventRecorder, TestSystem

E = TypeVar("E", bound=Event)
LIMIT = 5.0  # seconds within which anything real must have happened


class Bench:
    """A system under test on some backend, and ways to wait that suit it."""

    def __init__(self, backend: Any, **options: Any) -> None:
        self.backend = backend
        if backend == "manual":
            system = TestSystem(**options)
            self.system: ComponentSystem = system
            self.events: EventRecorder = system.events
        else:
            self.events = EventRecorder()
            self.system = ComponentSystem(backend=backend, on_event=self.events, **options)

    @property
    def manual(self) -> bool:
        return isinstance(self.system, TestSystem)

    def settle(self) -> None:
        """Under the manual backend, let everything that is ready happen."""
        if isinstance(self.system, TestSystem):
            self.system.run_until_idle()

    def until(self, reached: Callable[[], bool], limit: float = LIMIT) -> None:
        """Wait until `reached()`, in real or virtual time; fails after `limit` seconds."""
        if isinstance(self.system, TestSystem):
            done = self.system.run_until(reached, limit)
        else:
            pause = threading.Event()
            for _ in range(int(limit / 0.001)):
                if reached():
                    return
                pause.wait(0.001)
            done = reached()
        assert done, f"not within {limit} s; events: {[str(event) for event in self.events]}"

    def event(self, kind: type[E], count: int = 1) -> E:
        """Wait for the `count`-th event of that kind."""
        self.until(lambda: len(self.events.of(kind)) >= count)
        return self.events.of(kind)[count - 1]

    def pass_time(self, seconds: float) -> None:
        """Let time pass: virtual time, or real."""
        if isinstance(self.system, TestSystem):
            self.system.advance(seconds)
        else:
            threading.Event().wait(seconds)


@pytest.fixture(params=["thread", "pool", "manual"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each in-process backend in turn."""
    return str(request.param)


@pytest.fixture
def make_bench(backend: str) -> Iterator[Callable[..., Bench]]:
    """Makes systems with options, and shuts them down afterwards."""
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        made.append(Bench(backend, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.system.shutdown()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """A system under test."""
    return make_bench()
