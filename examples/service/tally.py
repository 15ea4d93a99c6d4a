"""What does the service do? It counts visits to pages, on storage that fails now and then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

from kompyct import Benign, Component, FaultClass, FaultContext, RecoveryHandler, Request
from kompyct.errors import AskTimeoutError, ComponentDestroyedError, RestartingError
from kompyct.ref import ComponentRef

MAX_PAGES = 1000
REPORT_EVERY = 10.0  # seconds


@dataclass(frozen=True)
class Visit(Request[int]):
    """Count a visit to `page`; the reply is how many it has had."""

    page: str


@dataclass(frozen=True)
class GetTotal(Request[int]):
    """Ask how many visits were counted, all pages together."""


class TooManyPages(Benign):
    """The request is refused; the tally is in order."""


class FlakyStorage:
    """Stands for whatever a real service writes to; each `every`-th write raises. 0: none does."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._writes = count(1)

    def write(self, page: str) -> None:
        if self._every and next(self._writes) % self._every == 0:
            raise ConnectionResetError("the storage has dropped the connection")


class Tally(Component[Visit | GetTotal]):
    """Counts visits. The snapshot is the whole state, saved after each visit."""

    def __init__(self, storage: FlakyStorage, visits: dict[str, int] | None = None) -> None:
        self._storage = storage
        self._visits = visits or {}
        self._recover = recovery_on(storage)

    def on_start(self) -> None:
        self.set_recovery_function(self._recover, snapshot=self._visits)

    def on_kill(self) -> None:
        self.log.info("tally ends with %d visits", sum(self._visits.values()))

    def on_receive(self, message: Visit | GetTotal) -> int:
        match message:
            case Visit(page):
                return self._count(page)
            case GetTotal():
                return sum(self._visits.values())
            case _:
                self.unhandled(message)

    def _count(self, page: str) -> int:
        if page not in self._visits and len(self._visits) == MAX_PAGES:
            raise TooManyPages(f"there are {MAX_PAGES} pages already, which is the limit")
        self._storage.write(page)
        self._visits[page] = self._visits.get(page, 0) + 1
        self.set_recovery_function(self._recover, snapshot=self._visits)
        return self._visits[page]


def recovery_on(
    storage: FlakyStorage,
) -> Callable[[FaultContext[dict[str, int]]], RecoveryHandler]:
    """A recovery function that goes on from the last snapshot, on the same storage."""

    def recover(fault: FaultContext[dict[str, int]]) -> RecoveryHandler:
        return fault.restart(lambda: Tally(storage, fault.snapshot))

    return recover


class Reporter(Component[object]):
    """Logs the total now and then. That the tally is restarting is no fault of this one."""

    fault_classes: ClassVar[Mapping[type[BaseException], FaultClass]] = {
        AskTimeoutError: FaultClass.BENIGN,
        ComponentDestroyedError: FaultClass.BENIGN,
        RestartingError: FaultClass.BENIGN,
    }

    def __init__(self, tally: ComponentRef[Visit | GetTotal]) -> None:
        self._tally = tally

    def on_start(self) -> None:
        self.schedule_periodic(REPORT_EVERY, REPORT_EVERY, self.report)

    def report(self) -> None:
        self.log.info("%d visits so far", self._tally.ask(GetTotal(), timeout=1.0))

    def on_kill(self) -> None:
        self.log.info("reporter ends")
