"""One contract, three backends on which time is real, and one system for a module's tests.

What a test module imports for that, beside what it takes from `tests/every_backend.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kompyct import limited, overdue
from tests.limit_bench import LimitBench


@pytest.fixture(scope="module", params=["thread", "pool", "process"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend on which time is real."""
    return str(request.param)


@pytest.fixture(scope="module")
def shared_bench(backend: str) -> Iterator[LimitBench]:
    """One system for the tests of a module."""
    made = LimitBench(backend)
    yield made
    made.system.shutdown()


@pytest.fixture
def bench(shared_bench: LimitBench) -> Iterator[LimitBench]:
    """The system of the module; what the test created there is ended."""
    yield shared_bench
    shared_bench.end_all()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was interrupted has time to end, however loaded the machine: 20 s."""
    monkeypatch.setattr(limited, "grace_of", lambda limit: 20_000_000_000)
    monkeypatch.setattr(overdue, "_grace_of", lambda limit: 20_000_000_000)
