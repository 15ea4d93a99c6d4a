"""Systems whose components live in processes of their own, and ways to look at them."""

from __future__ import annotations

import fcntl
import itertools
import sys
import termios
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kompyct import FaultContext
from kompyct.events import Event
from tests.conftest import LIMIT, Bench
from tests.every_backend import notes
from tests.process.components import FAULTS, Do, Gate, Holder

__all__ = ["notes"]

E = TypeVar("E", bound=Event)
_numbers = itertools.count(1)


class ProcessBench(Bench):
    """A system of components in processes of their own; several tests may share it."""

    def __init__(self, **options: Any) -> None:
        super().__init__("process", **options)

    def started(self, *arguments: Any, **options: Any) -> Any:
        """A ref of a `Holder` made with `arguments`, that has started; it has a name."""
        given = {key: options.pop(key) for key in ("recovery", "hooks") if key in options}
        options.setdefault("name", new_name())
        factory: Any = partial(Holder, *arguments, **given)
        ref = self.system.create(options.pop("factory", factory), **options)
        self.system.start(ref).result(LIMIT)
        return ref

    def events_of(self, kind: type[E], ref: Any) -> list[E]:
        """Those about that component."""
        return [event for event in self.events.of(kind) if event.path == ref.path]

    def event_of(self, kind: type[E], ref: Any, count: int = 1) -> E:
        """Wait for the `count`-th event of that kind about that component."""
        self.until(lambda: len(self.events_of(kind, ref)) >= count)
        return self.events_of(kind, ref)[count - 1]

    def fault(self, ref: Any, count: int = 1) -> FaultContext[Any]:
        """Wait until its recovery function has been called `count` times; the last context."""
        self.until(lambda: len(FAULTS.get(ref.path, ())) >= count)
        return FAULTS[ref.path][count - 1]

    def ended(self, ref: Any) -> None:
        """Wait until it has ended."""
        self.until(lambda: not ref.is_alive)


def new_name() -> str:
    """A name that no other component of this test run has."""
    return f"holder {next(_numbers)}"


def spare_of(bench: Bench) -> Any:
    """Wait for the spare child, and until it has rehearsed."""
    backend = bench.system._runtime.backend_of("process")
    bench.until(lambda: backend._spare._child is not None)
    child = backend._spare._child
    bench.until(lambda: child.pid is not None and _has_read_all(child) and _is_asleep(child.pid))
    return child


def _has_read_all(child: Any) -> bool:
    left = fcntl.ioctl(child.connection, termios.TIOCOUTQ, bytes(4))
    return not int.from_bytes(left, sys.byteorder)


def _is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def do(ref: Any, action: Any, *arguments: Any, timeout: float | None = LIMIT) -> Any:
    """Have the component do something, and wait for what that returns."""
    return ref.ask(Do(action, arguments), timeout=timeout)


@pytest.fixture(scope="module")
def shared_bench() -> Iterator[ProcessBench]:
    """One system for the tests of a module."""
    made = ProcessBench()
    yield made
    made.system.shutdown()


@pytest.fixture
def bench(shared_bench: ProcessBench) -> Iterator[ProcessBench]:
    """The system of the module; what the test created there is ended."""
    yield shared_bench
    for node in shared_bench.system.tree().children:
        ref = shared_bench.system.find(node.path)
        if ref is not None:
            shared_bench.system.kill(ref, brutal=True).result(LIMIT)


@pytest.fixture
def make_bench() -> Iterator[Callable[..., ProcessBench]]:
    """Makes systems of the test's own, and shuts them down afterwards."""
    made: list[ProcessBench] = []

    def make(**options: Any) -> ProcessBench:
        made.append(ProcessBench(**options))
        return made[-1]

    yield make
    for one in made:
        one.system.shutdown()


@pytest.fixture
def make_gate(tmp_path: Path) -> Callable[[], Gate]:
    """Makes gates, closed."""
    return lambda: Gate(str(tmp_path / f"gate{next(_numbers)}"))
