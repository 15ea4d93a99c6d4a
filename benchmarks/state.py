"""What does it cost to save state?"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from benchmarks.measure import wait_for
from benchmarks.plan import MICROSECONDS, Case, Group, Row, at_most
from kompyct import Component, ComponentSystem, FaultContext, RecoveryHandler


class Saver(Component[int]):
    """Saves a small dict as often as it is told."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"count": 0, "name": "counter"}
        self.seconds = 0.0
        self.done = threading.Event()

    def on_receive(self, message: int) -> None:
        state = self.state
        start = perf_counter()
        for number in range(message):
            state["count"] = number
            self.set_recovery_function(_recover, snapshot=state)
        self.seconds = perf_counter() - start
        self.done.set()


def _recover(fault: FaultContext[dict[str, Any]]) -> RecoveryHandler:
    return fault.restart()


def save(size: int) -> Mapping[str, float]:
    """The mean of `size` calls of `set_recovery_function` in a handler."""
    saver = Saver()
    ref = ComponentSystem(backend="pool").create(lambda: saver, start=True)
    ref.tell(size)
    wait_for(saver.done)
    return {"mean": saver.seconds / size * 1e6}


GROUP = Group(
    "State",
    (
        Row(
            "save",
            "set_recovery_function(f, snapshot=a dict of two)",
            "save",
            "mean",
            MICROSECONDS,
            ("kompyct",),
            goals=(at_most(3, "kompyct"),),
        ),
    ),
    {"save/kompyct": Case(save, 200_000)},
)
