"""A counter that overflows, faults, and resumes from its last snapshot, whatever has ended it."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from kompyct import Component, ComponentSystem, FaultContext, RecoveryHandler, Request
from kompyct.events import Event

LIMIT = 255  # counts; one byte
COUNT_EVERY = 0.010  # seconds
SAVE_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class GetCount(Request[int]):
    """Ask for the current count."""


class UnstableCounter(Component[GetCount]):
    def __init__(self, count: int = 0) -> None:
        self.count = count

    def on_start(self) -> None:
        self.schedule_periodic(COUNT_EVERY, COUNT_EVERY, self.increment, missed="burst")
        self.schedule_periodic(SAVE_EVERY, SAVE_EVERY, self.save)
        self.save()

    def on_receive(self, message: GetCount) -> int:
        return self.count

    def increment(self) -> None:
        if self.count == LIMIT:
            raise OverflowError(f"count would exceed {LIMIT}")
        self.count += 1

    def save(self) -> None:
        self.set_recovery_function(recover, snapshot=self.count)


def recover(fault: FaultContext[int]) -> RecoveryHandler:
    return fault.restart(lambda: UnstableCounter(fault.snapshot))


def main(
    seconds: float = 5.0,
    store: str | os.PathLike[str] = "state",
    on_event: Callable[[Event], object] | None = None,
) -> None:
    with ComponentSystem(store=store, on_event=on_event) as system:
        counter = system.create(UnstableCounter, name="counter")
        system.start(counter).result()
        show(f"starts at: {counter.ask(GetCount(), timeout=1.0)}")
        time.sleep(seconds)
        show(f"count: {counter.ask(GetCount(), timeout=1.0)}")


def show(line: str) -> None:
    """Print `line` in one piece; `print` would let a line of another thread in before its end."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
