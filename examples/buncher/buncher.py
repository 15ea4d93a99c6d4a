"""A component that puts numbers into batches, and goes on with what it had after a fault."""

from dataclasses import dataclass
from functools import partial

from kompyct import Component, FaultContext, Port, Provided, RecoveryHandler, handles

SIZE = 100  # numbers of a full batch
WAIT = 0.15  # seconds that the first number of a batch waits at most


@dataclass(frozen=True)
class Batch:
    """Numbers in the order of arrival, and why they come now: "full", "late" or "flushed"."""

    numbers: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class Flush:
    """Send what there is."""


class Batches(Port[Flush, Batch]):
    """Whoever provides it sends batches to all who require it; each of those may ask for one."""


class Buncher(Component[int]):
    batches = Provided(Batches)

    def __init__(self, waiting: tuple[int, ...] = ()) -> None:
        self.waiting = waiting

    def on_start(self) -> None:
        self.late = self.schedule_once(WAIT, self.on_late)
        self.save()

    def on_receive(self, message: int) -> None:
        if message < 0:
            raise ValueError(f"{message} is negative")
        if not self.waiting:
            self.late.cancel()
            self.late = self.schedule_once(WAIT, self.on_late)
        self.waiting += (message,)
        if len(self.waiting) == SIZE:
            self.send("full")
        self.save()

    @handles(batches)
    def on_flush(self, event: Flush) -> None:
        self.send("flushed")
        self.save()

    def on_late(self) -> None:
        self.send("late")
        self.save()

    def send(self, why: str) -> None:
        if self.waiting:
            self.batches.trigger(Batch(self.waiting, why))
            self.waiting = ()

    def save(self) -> None:
        self.set_recovery_function(recover, snapshot=self.waiting)


def recover(fault: FaultContext[tuple[int, ...]]) -> RecoveryHandler:
    return fault.restart(partial(Buncher, fault.snapshot))
