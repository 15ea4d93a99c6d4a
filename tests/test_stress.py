"""The short form of `tests.harness.stress`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest

from tests.harness.stress import stress


@pytest.fixture(params=[0.005, 0.00001], ids=["usual switching", "constant switching"])
def switching(request: pytest.FixtureRequest) -> Iterator[float]:
    """How often the interpreter switches between threads."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(request.param)
    yield request.param
    sys.setswitchinterval(before)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No log lines for hundreds of planned faults."""
    logger = logging.getLogger("kompyct")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("backend", ["thread", "pool"])
def test_every_message_is_accounted_for_under_stress(backend: str) -> None:
    """S-02, S-16, B-65: handled once and in order, or in hand at one fault, or refused."""
    report = stress(backend, seconds=0.3, seed=1)
    assert report.problems == [], f"seed {report.seed}"
    assert report.sent > 100
