"""A component that shows each batch, and may ask for one at once."""

import sys
from dataclasses import dataclass

from examples.buncher.buncher import Batch, Batches, Flush
from kompyct import Component, Request, Required, handles


@dataclass(frozen=True)
class Hurry:
    """Ask for what there is."""


@dataclass(frozen=True)
class GetSum(Request[int]):
    """Ask for the sum of all numbers so far."""


class Reader(Component[Hurry | GetSum]):
    batches = Required(Batches)

    def __init__(self, label: str) -> None:
        self.label = label
        self.sum = 0

    def on_receive(self, message: Hurry | GetSum) -> object:
        match message:
            case Hurry():
                self.batches.trigger(Flush())
                return None
            case GetSum():
                return self.sum
            case _:
                self.unhandled(message)

    @handles(batches)
    def on_batch(self, event: Batch) -> None:
        self.sum += sum(event.numbers)
        show(f"{self.label}: {len(event.numbers)} numbers, {event.why}; the sum is {self.sum}")


def show(line: str) -> None:
    """Print `line` in one piece, since several threads do."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
