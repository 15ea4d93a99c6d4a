"""Do messages, faults and restarts stay accounted for when everything happens at once?

Four senders tell and ask a few components, one message in a hundred faults, and a meddler stops,
starts and registers all the while. Afterwards each message must have been handled once, or been
in hand at one fault, or its asker must have been told otherwise; and those of one sender to one
component must have come in order.

``python -m tests.harness.stress [--backend pool] [--rounds 20] [--seconds 5] [--seed 0]``
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kompyct import (
    Component,
    ComponentSystem,
    FaultContext,
    RecoveryHandler,
    Request,
    RestartLimit,
)
from kompyct.errors import RestartingError
from kompyct.events import ComponentFaulted, ComponentRecovered
from kompyct.testing import EventRecorder

SENDERS = 4


class PlannedError(Exception):
    """What a message that is to fault raises."""


@dataclass(frozen=True)
class Item(Request[int]):
    """A message: whose, the how-many-th of that sender, and whether it is to fault."""

    sender: int
    number: int
    faults: bool


@dataclass
class Report:
    """What a round has shown; `problems` should be empty."""

    seed: int
    sent: int = 0
    faults: int = 0
    problems: list[str] = field(default_factory=list)


class Busy(Component[Item]):
    """Notes what it handles in a list that outlives it."""

    def __init__(self, handled: list[Item]) -> None:
        self._handled = handled

    def on_start(self) -> None:
        self.set_recovery_function(come_back, snapshot=1)
        self.schedule_periodic(0.001, 0.001, lambda: None)

    def on_receive(self, message: Item) -> int:
        self._handled.append(message)
        if message.faults:
            raise PlannedError
        return message.number


def come_back(fault: FaultContext[int]) -> RecoveryHandler:
    return fault.restart()


def stress(backend: Any, seconds: float, seed: int) -> Report:
    """One round on a system of its own."""
    report = Report(seed)
    choice = random.Random(seed)
    events = EventRecorder()
    handled: list[list[Item]] = [[] for _ in range(choice.choice([1, 2, 10, 50]))]
    with ComponentSystem(backend=backend, on_event=events) as system:
        refs = [
            system.create(
                lambda index=index: Busy(handled[index]),  # type: ignore[misc]
                budget=RestartLimit(10**9, 0.01),
                inline_asks=choice.random() < 0.3,
            )
            for index in range(len(handled))
        ]
        for ref in refs:
            system.start(ref).result(10)
        until = time.monotonic() + seconds
        sent: list[dict[int, tuple[int, str]]] = [{} for _ in range(SENDERS)]

        def send(sender: int) -> None:
            pick = random.Random(seed * SENDERS + sender)
            number = 0
            while time.monotonic() < until:
                number += 1
                index = pick.randrange(len(refs))
                item = Item(sender, number, pick.random() < 0.01)
                if pick.random() >= 0.1:
                    refs[index].tell(item)
                    sent[sender][number] = (index, "told")
                    continue
                try:
                    reply = refs[index].ask(item, timeout=30)
                    outcome = "handled" if reply == number else f"wrong reply {reply}"
                except PlannedError:
                    outcome = "handled"
                except RestartingError:
                    outcome = "not handled"
                except BaseException as error:
                    outcome = f"raised {error!r}"
                sent[sender][number] = (index, outcome)

        def meddle() -> None:
            pick = random.Random(seed + 1_000_003)
            while time.monotonic() < until:
                ref = refs[pick.randrange(len(refs))]
                system.stop(ref)
                if pick.random() < 0.5:
                    time.sleep(0.0005)
                system.start(ref)
                ref.set_recovery_function(come_back, snapshot=2)
                time.sleep(0.002)

        work: list[Callable[[], None]] = [meddle]
        work += [lambda sender=sender: send(sender) for sender in range(SENDERS)]  # type: ignore[misc]
        threads = [threading.Thread(target=part) for part in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for ref in refs:
            system.start(ref).result(30)
        system.shutdown(60, drain=50)
    report.sent = sum(len(numbers) for numbers in sent)
    report.faults = len(events.of(ComponentFaulted))
    if report.faults != len(events.of(ComponentRecovered)):
        report.problems.append(f"{report.faults} faults, but another number of recoveries")
    _check(handled, sent, report.problems)
    return report


def _check(
    handled: list[list[Item]], sent: list[dict[int, tuple[int, str]]], problems: list[str]
) -> None:
    where: dict[tuple[int, int], int] = {}
    for index, items in enumerate(handled):
        last = [0] * SENDERS
        for item in items:
            if item.number <= last[item.sender]:
                problems.append(f"component {index}: {item} after number {last[item.sender]}")
            last[item.sender] = item.number
            if (item.sender, item.number) in where:
                problems.append(f"{item} was handled twice")
            where[item.sender, item.number] = index
    for sender, numbers in enumerate(sent):
        for number, (index, outcome) in numbers.items():
            found = where.get((sender, number))
            expected = None if outcome == "not handled" else index
            if found != expected or outcome not in ("told", "handled", "not handled"):
                problems.append(
                    f"message {number} of sender {sender} to component {index}: {outcome}, "
                    f"and handled by {found}"
                )


def main() -> int:
    """Run rounds until the first that shows a problem."""
    parser = argparse.ArgumentParser(description="Stress components on a backend.")
    parser.add_argument("--backend", choices=["thread", "pool"], default="pool")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--switch", type=float, default=0.005, help="seconds between switches")
    options = parser.parse_args()
    sys.setswitchinterval(options.switch)
    for seed in range(options.seed, options.seed + options.rounds):
        report = stress(options.backend, options.seconds, seed)
        print(f"seed {seed}: {report.sent} sent, {report.faults} faults")
        for problem in report.problems[:10]:
            print("  ", problem)
        if report.problems:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
