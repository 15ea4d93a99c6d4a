"""One contract, four backends: what a test module imports to have its tests run on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kompyct.backends.pool import PoolBackend
from tests.limit_bench import LimitBench
from tests.process.components import Gate, Notes

MakeBench = Callable[..., LimitBench]


@pytest.fixture(scope="module", params=["thread", "pool", "manual", "process"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend."""
    return str(request.param)


@pytest.fixture
def make_bench(backend: str) -> Iterator[MakeBench]:
    """Makes systems, and shuts them down afterwards."""
    made: list[LimitBench] = []

    def make(**options: Any) -> LimitBench:
        made.append(LimitBench(backend, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.system.shutdown()


@pytest.fixture
def bench(make_bench: MakeBench) -> LimitBench:
    """A system under test."""
    return make_bench()


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    """What components add lines to, wherever they are."""
    return Notes(str(tmp_path / "notes"))


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A closed gate; open at the end."""
    made = Gate(str(tmp_path / "gate"))
    yield made
    made.open()


@pytest.fixture
def hurried_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that closes waits 0.15 s for threads that hang on purpose, instead of a second."""
    close = PoolBackend.close
    monkeypatch.setattr(
        PoolBackend, "close", lambda pool, timeout: close(pool, min(timeout, 0.15))
    )
