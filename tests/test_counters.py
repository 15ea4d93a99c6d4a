"""Do the workers of the counters hear of every text, also of those counted before a fault?"""

from __future__ import annotations

import re

import pytest

from examples.counters.__main__ import texts
from examples.counters.counters import Counts, GetCounts, Tally, Total, Worker
from kompyct.events import ComponentRecovered
from kompyct.testing import TestSystem
from tests.programs import example


def test_messages_and_events_are_counted_apart() -> None:
    """By hand: three texts of 1, 2 and 3 words to one of two workers are three messages of that
    one, and three events for everybody; the total is 6."""
    with TestSystem() as system:
        tally = system.create(Tally, start=True)
        busy, idle = (system.create(Worker, start=True) for _ in range(2))
        for worker in (busy, idle):
            system.connect(Tally.totals.of(tally), Worker.totals.of(worker))
        for text in ("one", "one two", "one two three"):
            busy.tell(text)
        system.run_until_idle()
        total = Total(3, 6)
        assert busy.ask(GetCounts()) == Counts(3, 3, total)
        assert idle.ask(GetCounts()) == Counts(0, 3, total)
        assert tally.ask(GetCounts()) == Counts(0, 3, total)


def test_a_worker_that_faults_goes_on_counting() -> None:
    """Given a text with nothing in it, then its worker faults, keeps its counts, and goes on."""
    with TestSystem() as system:
        tally, worker = system.create(Tally, start=True), system.create(Worker, start=True)
        system.connect(Tally.totals.of(tally), Worker.totals.of(worker))
        for text in ("one", "", "one two"):
            worker.tell(text)
        system.run_until_idle()
        assert len(system.events.of(ComponentRecovered)) == 1
        assert worker.ask(GetCounts()) == Counts(2, 2, Total(2, 3))


@pytest.mark.parametrize("backend", ["pool", "process"])
def test_the_demo_counts_all(backend: str) -> None:
    """Given a real run, then each worker has its share of the texts, and everybody the total.

    By hand: text n has n % 7 + 1 words, that is 57 rounds of 28 and 1 for n = 399, 1597; without
    n = 99, 199, 299, 399, which would have had 2, 4, 6 and 1, it is 1584 words in 396 texts.
    These four are the last worker's, as n % 4 is 3.
    """
    assert sum(len(text.split()) for text in texts()) == 1584
    said = example("counters", backend)
    found = re.findall(r"^(.+): (\d+) messages, (\d+) events; .*of (.+)$", said, re.M)
    known = "1584 words in 396 texts"
    assert found == [
        ("tally", "0", "396", known),
        *((f"worker {n}", "100", "396", known) for n in range(3)),
        ("worker 3", "96", "396", known),
    ]
    assert said.endswith("4 faults, and each worker went on from its last snapshot\n")
