"""One contract, trees on four backends: what a test module imports to have its tests run on each.

`gate` and `notes` are those of `tests/every_backend.py`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kompyct import offspring, remote
from kompyct.clock import SECOND
from tests.process.components import Gate, Notes
from tests.tree_bench import BACKENDS, TreeBench
from tests.tree_parts import Switch

MakeBench = Callable[..., TreeBench]

FORCE = 0.15  # seconds that `hurried` gives


@pytest.fixture(scope="module")
def process_bench() -> Iterator[TreeBench]:
    """One system whose components have processes: it is a second until the first has."""
    made = TreeBench("process", Notes(os.devnull))
    yield made
    made.system.shutdown()


@pytest.fixture
def processes(process_bench: TreeBench, notes: Notes) -> Iterator[TreeBench]:
    """That system, without components."""
    process_bench.begin(notes)
    yield process_bench
    process_bench.clear()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn."""
    return str(request.param)


@pytest.fixture
def bench(backend: str, notes: Notes, request: pytest.FixtureRequest) -> Iterator[TreeBench]:
    """A system without components."""
    if backend == "process":
        yield request.getfixturevalue("processes")
        return
    made = TreeBench(backend, notes)
    yield made
    made.system.shutdown()


@pytest.fixture
def make_bench(backend: str, notes: Notes) -> Iterator[MakeBench]:
    """Makes systems of the test's own, and shuts them down afterwards."""
    made: list[TreeBench] = []

    def make(**options: Any) -> TreeBench:
        made.append(TreeBench(backend, notes, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.system.shutdown()


@pytest.fixture(autouse=True)
def no_bugs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No supervisor has met a bug of its own, which it would have logged and gone on."""
    yield
    bugs = [record for record in caplog.records if record.exc_info and record.name == "kompyct"]
    assert not bugs, [record.exc_text for record in bugs]
    assert logging.getLogger("kompyct").isEnabledFor(logging.ERROR)


@pytest.fixture
def switch(tmp_path: Path) -> Switch:
    """One that is off."""
    return Switch(tmp_path / "switch")


@pytest.fixture
def reached(tmp_path: Path) -> Gate:
    """What is opened when a component is where it waits for the gate."""
    return Gate(str(tmp_path / "reached"))


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs on purpose is given up sooner, where how long that takes is not the question.

    A thread whose child was told to end without any hook has `FORCE` instead of half a second; a
    process has twice 0.1 s until it is ended by force instead of twice 0.5 s, and then as long as
    ever to be gone.
    """
    force_of = offspring._force

    def hurried_force(cell: Any) -> int:
        return force_of(cell) if cell.backend.kind == "process" else round(FORCE * SECOND)

    monkeypatch.setattr(offspring, "_force", hurried_force)
    monkeypatch.setattr(remote, "GRACE", 0.1)
