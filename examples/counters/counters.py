"""A pool of workers: each gets texts as messages, and the counts of all as events."""

from dataclasses import dataclass
from typing import ClassVar

from kompyct import (
    Component,
    FaultContext,
    OnRestart,
    Port,
    Provided,
    RecoveryHandler,
    Request,
    Required,
    handles,
)


@dataclass(frozen=True)
class Counted:
    """So many words were in a text."""

    words: int


@dataclass(frozen=True)
class Total:
    """What all workers have counted so far."""

    texts: int
    words: int


class Totals(Port[Counted, Total]):
    """Whoever provides it adds up what it is sent, and tells everybody after each."""


@dataclass(frozen=True)
class GetCounts(Request["Counts"]):
    """Ask how much has come, and what is known of the total."""

    # Whoever restarts while this waits answers it afterwards.
    on_restart: ClassVar[OnRestart] = OnRestart.REDELIVER


@dataclass(frozen=True)
class Counts:
    """Messages and events that one component has handled, and the last total it knows."""

    messages: int = 0
    events: int = 0
    total: Total = Total(0, 0)


class Tally(Component[GetCounts]):
    totals = Provided(Totals)

    def __init__(self, counts: Counts = Counts()) -> None:
        self.counts = counts

    def on_start(self) -> None:
        self.save()

    def on_receive(self, message: GetCounts) -> Counts:
        return self.counts

    @handles(totals)
    def on_counted(self, event: Counted) -> None:
        counts = self.counts
        total = Total(counts.total.texts + 1, counts.total.words + event.words)
        self.counts = Counts(counts.messages, counts.events + 1, total)
        self.totals.trigger(total)
        self.save()

    def save(self) -> None:
        self.set_recovery_function(restore_tally, snapshot=self.counts)


class Worker(Component[str | GetCounts]):
    totals = Required(Totals)

    def __init__(self, counts: Counts = Counts()) -> None:
        self.counts = counts

    def on_start(self) -> None:
        self.save()

    def on_receive(self, message: str | GetCounts) -> Counts | None:
        if isinstance(message, GetCounts):
            return self.counts
        if not message:
            raise ValueError("there is nothing in this text")
        self.totals.trigger(Counted(len(message.split())))
        self.counts = Counts(self.counts.messages + 1, self.counts.events, self.counts.total)
        self.save()
        return None

    @handles(totals)
    def on_total(self, event: Total) -> None:
        self.counts = Counts(self.counts.messages, self.counts.events + 1, event)
        self.save()

    def save(self) -> None:
        self.set_recovery_function(restore_worker, snapshot=self.counts)


def restore_tally(fault: FaultContext[Counts]) -> RecoveryHandler:
    return fault.restart(lambda: Tally(fault.snapshot))


def restore_worker(fault: FaultContext[Counts]) -> RecoveryHandler:
    return fault.restart(lambda: Worker(fault.snapshot))
