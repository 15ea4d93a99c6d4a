"""Does the buncher send batches by size, by time and on request, and lose no number?"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest

from examples.buncher.buncher import Batch, Batches, Buncher, Flush
from examples.buncher.reader import Hurry
from kompyct import Component, ComponentRef, Required, handles
from kompyct.events import ComponentFaulted
from kompyct.testing import TestSystem
from tests.programs import example


class Listener(Component[Hurry]):
    """Keeps each batch, and when it came."""

    batches = Required(Batches)

    def __init__(self, heard: list[tuple[float, Batch]], system: TestSystem) -> None:
        self.heard = heard
        self.test = system

    def on_receive(self, message: Hurry) -> None:
        self.batches.trigger(Flush())

    @handles(batches)
    def on_batch(self, event: Batch) -> None:
        self.heard.append((self.test.time, event))


def started(system: TestSystem) -> tuple[ComponentRef[int], ComponentRef[Hurry], Any]:
    """A buncher, a listener, and what that has heard."""
    heard: list[tuple[float, Batch]] = []
    buncher = system.create(Buncher, start=True)
    listener = system.create(partial(Listener, heard, system), start=True)
    system.connect(Buncher.batches.of(buncher), Listener.batches.of(listener))
    system.run_until_idle()
    return buncher, listener, heard


def test_a_full_batch_comes_at_once_and_the_rest_when_it_is_late() -> None:
    """By hand: 250 numbers at 1 s are two batches of 100 at once, and 50 that wait 0.15 s."""
    with TestSystem() as system:
        buncher, _, heard = started(system)
        system.advance(1.0)
        for number in range(250):
            buncher.tell(number)
        system.advance(1.0)
        assert heard == [
            (1.0, Batch(tuple(range(100)), "full")),
            (1.0, Batch(tuple(range(100, 200)), "full")),
            (1.15, Batch(tuple(range(200, 250)), "late")),
        ]


def test_each_batch_has_its_own_time() -> None:
    """By hand: 1 at 0 s and 2 at 0.1 s come at 0.15 s; 3 at 0.2 s comes at 0.35 s; without
    numbers there are no batches."""
    with TestSystem() as system:
        buncher, _, heard = started(system)
        for number, pause in ((1, 0.1), (2, 0.1), (3, 5.0)):
            buncher.tell(number)
            system.advance(pause)
        assert heard == [(0.15, Batch((1, 2), "late")), (0.35, Batch((3,), "late"))]


def test_what_there_is_comes_when_somebody_asks() -> None:
    """Given a number, when a listener asks, then it comes at once; with none there is no batch."""
    with TestSystem() as system:
        buncher, listener, heard = started(system)
        listener.tell(Hurry())
        buncher.tell(7)
        system.run_until_idle()
        listener.tell(Hurry())
        system.advance(1.0)
        assert heard == [(0.0, Batch((7,), "flushed"))]


def test_a_fault_loses_no_number_and_no_channel() -> None:
    """Given 1, 2, then -1, which is a fault, then 3, all at 0 s, then all three come in one batch,
    0.15 s after the restart, which takes no virtual time."""
    with TestSystem() as system:
        buncher, _, heard = started(system)
        for number in (1, 2, -1, 3):
            buncher.tell(number)
        system.advance(1.0)
        assert len(system.events.of(ComponentFaulted)) == 1
        assert heard == [(0.15, Batch((1, 2, 3), "late"))]


@pytest.mark.parametrize("backend", ["thread", "process"])
def test_the_demo_shows_all_numbers(backend: str) -> None:
    """Given a real run, then reader two has each number once, and reader one those before it was
    disconnected. By hand: 0 + ... + 249 = 31125; then 1 + 2 + 3 + 4, and 5."""
    said = example("buncher", backend)
    sums = {"one": [0], "two": [0]}
    for reader, total in re.findall(r"^(one|two): .*; the sum is (\d+)$", said, re.M):
        sums[reader].append(int(total))
    assert sums["one"][-1] == 31125
    assert sums["two"][-1] == 31125 + 10 + 5
    assert "the buncher has recovered from ValueError, in its phase 'receive'" in said
    # A burst as slow as that, 0.15 s for 100 numbers, would only make more of them "late".
    assert re.search(r"^two: \d+ numbers, (full|late);", said, re.M)
