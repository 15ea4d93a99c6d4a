"""Systems on all four backends, and ways to look at watches, names and groups."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.conftest import LIMIT, Bench
from tests.process.components import Do, Get, Holder
from tests.watching.components import Watcher, nothing

_numbers = itertools.count(1)


class WatchBench(Bench):
    """A system of holders and watchers on any backend."""

    def started(self, factory: Any = Holder, **options: Any) -> Any:
        """A ref of a component with a name, that has started."""
        options.setdefault("name", f"one {next(_numbers)}")
        ref = self.system.create(factory, **options)
        self.system.start(ref).result(LIMIT)
        return ref

    def watcher(self, *refs: Any, **options: Any) -> Any:
        """A watcher that watches `refs`."""
        return self.started(partial(Watcher, refs), **options)

    def end(self, ref: Any, **options: Any) -> None:
        """End a component, and wait for that."""
        self.system.kill(ref, **options).result(LIMIT)

    def told(self, watcher: Any, count: int) -> list[Any]:
        """What a watcher was told, once that is `count` or more; then a message to and fro, so
        that one more notice would have come."""
        self.until(lambda: len(watcher.ask(Get())) >= count)
        watcher.ask(Do(nothing))
        told: list[Any] = watcher.ask(Get())
        return told

    def end_all(self) -> None:
        """End every component of the system."""
        for node in self.system.tree().children:
            ref = self.system.find(node.path)
            if ref is not None:
                self.system.kill(ref, brutal=True).result(LIMIT)

    def tables(self) -> tuple[Any, ...]:
        """What the system keeps of watches, names and groups."""
        runtime = self.system._runtime
        watches, names, groups = runtime.watches, runtime.names, runtime.groups
        return (
            watches._on, watches._of, watches._sent, names._cells, names._names, groups._of,
        )  # fmt: skip


@pytest.fixture(scope="session")
def shared_process_bench() -> Iterator[WatchBench]:
    """One system of processes for all tests here: it takes a moment to start."""
    made = WatchBench("process")
    yield made
    made.system.shutdown()


@pytest.fixture
def process_bench(shared_process_bench: WatchBench) -> Iterator[WatchBench]:
    """The system of processes; afterwards nothing is left of its watches, names and groups."""
    yield shared_process_bench
    _clear(shared_process_bench)
    shared_process_bench.events.clear()


@pytest.fixture(params=["thread", "pool", "manual", "process"])
def bench(request: pytest.FixtureRequest) -> Iterator[WatchBench]:
    """A system on each backend in turn; afterwards nothing is left, as above."""
    if request.param == "process":
        yield request.getfixturevalue("process_bench")
        return
    made = WatchBench(request.param)
    yield made
    _clear(made)
    made.system.shutdown()


def _clear(bench: WatchBench) -> None:
    bench.end_all()
    bench.until(lambda: not any(bench.tables()))
