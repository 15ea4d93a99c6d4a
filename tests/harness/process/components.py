"""What is it that is being killed? Components that write down what they do, and how to die."""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import signal
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from kompyct import Component, FaultContext, RecoveryHandler, Request
from tests.harness.process.ledger import (
    BEGAN,
    BEGUN,
    DONE,
    LIVES,
    NUMBERS,
    SAVED,
    TWICE,
    Ledger,
    Place,
    complain,
)

SIZES = (0, 10, 300, 3_000, 5_000, 60_000)  # bytes beside the numbers of a state


class PlannedError(Exception):
    """What a message that is to fault raises."""


@dataclass(frozen=True)
class Item(Request[int]):
    """The how-many-th message of a sender, and how its handler is to die: see `die`."""

    sender: int
    number: int
    death: str = ""


@dataclass(frozen=True)
class Look(Request["State"]):
    """Ask for the state."""


@dataclass(frozen=True)
class State:
    """What is saved: the number of the save, and of each sender what was handled.

    Attributes:
        last: the last number of each sender.
        counts: how many messages of each.
        filler: bytes that tell whether they are whole, and of which save.
        trap: kills whoever pickles it, if it is one.
    """

    place: Place
    number: int = 0
    last: tuple[int, ...] = (0,) * Ledger.SENDERS
    counts: tuple[int, ...] = (0,) * Ledger.SENDERS
    filler: bytes = b""
    trap: Any = None

    def next(self, sizes: tuple[int, ...]) -> State:
        """The same, to be saved once more."""
        number = self.number + 1
        return replace(self, number=number, filler=filler(number, sizes))

    def with_message(self, message: Item) -> State:
        """The same, with one more message handled."""
        last, counts = list(self.last), list(self.counts)
        last[message.sender] = message.number
        counts[message.sender] += 1
        return replace(self, last=tuple(last), counts=tuple(counts))


def filler(number: int, sizes: tuple[int, ...]) -> bytes:
    """Bytes of which each eight say the number."""
    return number.to_bytes(8, "little") * (sizes[number % len(sizes)] // 8)


class Trap:
    """Kills the process that pickles it: so it dies within a save."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        return (Trap, ())


DEATHS = ("raise", "exit 0", "exit 3", "segv", "abort", "null", "term", "trap", "system exit")
"""The ways of a component in a process of its own; elsewhere it can only raise."""


def die(how: str) -> None:
    """End the process, or raise; return if `how` is a way that is for others to see to."""
    if how == "raise":
        raise PlannedError
    if how == "system exit":
        raise SystemExit(4)
    if how.startswith("exit"):
        os._exit(int(how[5:]))
    if how == "null":
        ctypes.string_at(0)
    numbers = {"segv": signal.SIGSEGV, "abort": signal.SIGABRT, "term": signal.SIGTERM}
    if how in numbers:
        os.kill(os.getpid(), numbers[how])


class Ways(NamedTuple):
    """How a `Counter` is.

    Attributes:
        frail: of so many starts, one dies; 0 for none.
        alone: whether it must be the only one of its kind: a lock tells if its predecessor lives.
        period: seconds between two saves without a message.
    """

    frail: int = 0
    alone: bool = False
    period: float = 0.02


class Counter(Component[Item | Look]):
    """Counts messages, saves after each, and writes into the ledger what it does."""

    def __init__(self, state: State, ways: Ways) -> None:
        self._ways = ways
        self._state = state
        place = state.place
        ledger = place.open()
        self._numbers = ledger.numbers(place.index)
        self._messages = [ledger.messages(place.index, n) for n in range(Ledger.SENDERS)]
        self._choose = random.Random(os.urandom(8))
        self._die_perhaps()

    def on_start(self) -> None:
        if self._ways.alone:
            self._lock()
        self._numbers[LIVES] += 1
        self._save()
        self.schedule_periodic(self._ways.period, self._ways.period, self._save)
        self._die_perhaps()

    def on_receive(self, message: Item | Look) -> int | State:
        match message:
            case Look():
                return self._state
            case Item():
                return self._handle(message)

    def _handle(self, message: Item) -> int:
        sender, number = message.sender, message.number
        fate = self._messages[sender]
        if number <= self._numbers[NUMBERS + sender]:
            complain(self._numbers, "out of order")
        self._numbers[NUMBERS + sender] = number
        if fate[number]:
            complain(self._numbers, "handled twice")
        fate[number] = TWICE if fate[number] else BEGAN
        die(message.death)
        self._state = self._state.with_message(message)
        self._save(Trap() if message.death == "trap" else None)
        if fate[number] == BEGAN:
            fate[number] = SAVED
        return number

    def _save(self, trap: Trap | None = None) -> None:
        state = self._state.next(SIZES)
        self._numbers[BEGUN] = state.number
        saved = replace(state, trap=trap) if trap else state
        self.set_recovery_function(partial(come_back, ways=self._ways), snapshot=saved)
        self._numbers[DONE] = state.number
        self._state = state

    def _lock(self) -> None:
        """Hold a lock that ends with this process."""
        self._lock_file = open(f"{self._state.place.path}.{self._state.place.index}", "wb")  # noqa: SIM115
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            complain(self._numbers, "overlapping lives")

    def _die_perhaps(self) -> None:
        frail = self._ways.frail
        if frail and self._choose.randrange(frail) == 0:
            die(self._choose.choice(("raise", "exit 0", "segv", "abort", "term")))


def come_back(fault: FaultContext[State], *, ways: Ways) -> RecoveryHandler:
    """Recover, once it has been looked at whether this is the last state, and whole."""
    state = fault.snapshot
    check(state, SIZES)
    return fault.restart(partial(Counter, state, ways))


def check(state: State, sizes: tuple[int, ...]) -> None:
    """Complain unless `state` is what was saved last, or what was being saved; and whole."""
    numbers = state.place.open().numbers(state.place.index)
    begun, done = numbers[BEGUN], numbers[DONE]
    if state.number < done:
        complain(numbers, "older")
    if state.number > begun:
        complain(numbers, "newer")
    if state.filler != filler(state.number, sizes):
        complain(numbers, "torn")
    # What was begun and did not take effect will have its number once more.
    numbers[DONE] = numbers[BEGUN] = state.number
