"""Does everything stay accounted for when components die all the time, of everything there is?

Components in processes, threads and a pool get messages from several senders; some messages kill
who handles them, starts die now and then, and a killer sends signals to random children, those
that are just being made included. The ledger says what was handled and saved; the recovery
functions compare it with what they are given. A round ends after so many ends of processes.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter as Count
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kompyct import ComponentSystem, RestartLimit
from kompyct.errors import ComponentFaultError, KompyctError, RestartingError
from kompyct.events import (
    ComponentEnded,
    ComponentFaulted,
    ComponentRecovered,
    Event,
    FallbackApplied,
    RestartFailed,
)
from tests.harness.process.components import (
    DEATHS,
    Counter,
    Item,
    Look,
    PlannedError,
    State,
    Ways,
)
from tests.harness.process.ledger import SAVED, TWICE, Ledger, Place
from tests.harness.process.left import GAIN, Left, own_memory, zombies
from tests.harness.store.figures import Figures

ENDLESS = RestartLimit(10**9, 0.001)
LIMIT = 15.0  # seconds for anything that is waited for
MESSAGES = 1 << 14  # of a sender to a component, in a round; it stops there
ROUND = 1_000  # ends of processes
WARM_UP = 30  # of those, before anything is measured
SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT, signal.SIGSTOP)
KINDS = ("process", "process", "process", "process", "process", "process", "thread", "pool")
NOT_SENT, TOLD, ACKNOWLEDGED, NOT_HANDLED, IN_HAND = range(5)
"""What a sender knows of a message."""
FRAIL = 40  # of so many starts, one dies


@dataclass
class Tally:
    """What the events of a system say, counted."""

    counts: Count[str] = field(default_factory=Count)
    exits: int = 0
    signals: int = 0

    def __call__(self, event: Event) -> None:
        self.counts[type(event).__name__] += 1
        if type(event) is ComponentFaulted and event.kind == "process_exit":
            self.exits += 1

    def of(self, kind: type[Event]) -> int:
        return self.counts[kind.__name__]


class Round:
    """One system, and what is done to it."""

    def __init__(self, figures: Figures, folder: str, seed: int, exits: int) -> None:
        self.figures = figures
        self.exits = exits
        self.seed = seed
        self.tally = Tally()
        self.store = os.path.join(folder, "store")
        path = os.path.join(folder, "ledger")
        self.places = Ledger.make(path, len(KINDS), MESSAGES)
        self.over = threading.Event()
        # Of each sender and component one byte for each message: nothing that grows meanwhile.
        self.outcomes = [
            [bytearray(b"\0") * MESSAGES for _ in KINDS] for _ in range(Ledger.SENDERS)
        ]
        self.refs: list[Any] = []
        self.memory: list[int] = []

    def run(self) -> None:
        """Everything; what is broken is noted in the figures."""
        with ComponentSystem(store=self.store, on_event=self.tally) as system:
            for place, kind in zip(self.places, KINDS, strict=True):
                self.refs.append(self.create(system, place, kind))
            for ref in self.refs:
                with suppress(ComponentFaultError):  # a start that dies, and is recovered from
                    system.start(ref).result(LIMIT)
            work = [partial(self.send, sender) for sender in range(Ledger.SENDERS)]
            threads = [threading.Thread(target=part) for part in work]
            threads.append(threading.Thread(target=self.kill, args=(system,)))
            for thread in threads:
                thread.start()
            self.watch()
            self.over.set()
            for thread in threads:
                thread.join(2 * LIMIT)
                self.figures.expect(not thread.is_alive(), f"{thread.name} hangs")
            self.look(system)
            self.figures.expect(not zombies(), f"{zombies()} zombies")
        self.account()
        self.reopen()

    def create(self, system: ComponentSystem, place: Place, kind: str) -> Any:
        """A component; the first of its kind that is not killed while it is made."""
        factory = partial(Counter, State(place), Ways(FRAIL, alone=True))
        name = f"counter {place.index}" if place.index % 2 else None
        options: dict[str, Any] = {"backend": kind, "name": name, "budget": ENDLESS}
        if kind != "process":  # there a death is the death of all
            factory = partial(Counter, State(place), Ways())
        while True:
            try:
                return system.create(factory, **options)
            except Exception as error:  # `_die_perhaps`
                self.figures.add("first makings that died")
                self.figures.expect(
                    isinstance(error, Exception) and "ComponentCreateError" in repr(error),
                    f"create raised {error!r}",
                )

    def watch(self) -> None:
        """Until enough processes have ended, or nothing has ended for long."""
        before, since = 0, time.monotonic()
        while self.tally.exits < self.exits:
            self.over.wait(0.1)
            if self.tally.exits != before:
                before, since = self.tally.exits, time.monotonic()
                if before > self.exits / 4:  # warmed up
                    self.memory.append(own_memory())
            elif time.monotonic() > since + LIMIT:
                self.figures.expect(False, f"nothing has ended for {LIMIT:.0f} s")
                return

    def send(self, sender: int) -> None:
        """Tell and ask, until it is over."""
        choose = random.Random(self.seed * Ledger.SENDERS + sender)
        numbers = [0] * len(self.refs)
        sent = self.outcomes[sender]
        while not self.over.is_set():
            index = choose.randrange(len(self.refs))
            if numbers[index] == MESSAGES - 1:
                continue
            numbers[index] += 1
            death = ""
            if choose.random() < 0.003:
                death = choose.choice(DEATHS) if KINDS[index] == "process" else "raise"
            item = Item(sender, numbers[index], death)
            if choose.random() < 0.7:
                self.refs[index].tell(item)
                sent[index][item.number] = TOLD
            else:
                sent[index][item.number] = self.ask(index, item)
            if choose.random() < 0.05:
                time.sleep(choose.random() * 0.005)

    def ask(self, index: int, item: Item) -> int:
        """Ask; what came of it."""
        try:
            reply = self.refs[index].ask(item, timeout=LIMIT)
        except PlannedError:
            self.figures.expect(item.death == "raise", f"{item} was made to raise")
            return IN_HAND
        except ComponentFaultError:
            return IN_HAND
        except RestartingError:
            return NOT_HANDLED
        except BaseException as error:
            self.figures.expect(False, f"{item} to component {index}: {error!r}")
            return IN_HAND
        self.figures.expect(reply == item.number, f"{item} was answered {reply}")
        return ACKNOWLEDGED

    def kill(self, system: ComponentSystem) -> None:
        """Send signals to random children, until it is over."""
        choose = random.Random(self.seed)
        backend = system._runtime.backend_of("process")
        while not self.over.is_set():
            time.sleep(choose.expovariate(1 / 0.006))
            children = tuple(backend._children.values())
            if children:
                victim = choose.choice(children)
                number = choose.choice(SIGNALS)
                victim.signal(number)
                if number == signal.SIGSTOP:
                    time.sleep(choose.random() * 0.01)
                    victim.signal(signal.SIGKILL)
                self.tally.signals += 1

    def look(self, system: ComponentSystem) -> None:
        """Ask each for its state, and compare it with the ledger."""
        expect = self.figures.expect
        for index, (ref, place) in enumerate(zip(self.refs, self.places, strict=True)):
            state = self.state_of(ref)
            if state is None:
                expect(False, f"component {index}, {KINDS[index]}: no answer")
                continue
            ledger = place.open()
            for sender in range(Ledger.SENDERS):
                fates = bytes(ledger.messages(index, sender))
                begun, saved = len(fates) - fates.count(0), fates.count(SAVED)
                where = f"component {index}, sender {sender}"
                count = state.counts[sender]
                expect(saved <= count <= begun, f"{where}: {count}, not {saved} to {begun}")
                expect(TWICE not in fates, f"{where}: {fates.count(TWICE)} handled twice")

    def state_of(self, ref: Any) -> State | None:
        """What it answers, however often its starts die."""
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            # A component that has ended for good is without an answer at the end as well.
            with suppress(KompyctError, PlannedError):
                state: State = ref.ask(Look(), timeout=LIMIT)
                return state
        return None

    def account(self) -> None:
        """Compare what the senders heard with the ledger, and the events with each other."""
        figures, tally = self.figures, self.tally
        lost = 0
        for sender, sent in enumerate(self.outcomes):
            for index, place in enumerate(self.places):
                fates = bytes(place.open().messages(index, sender))
                found = Count(zip(sent[index], fates, strict=True))
                figures.add("acknowledged", found[ACKNOWLEDGED, SAVED])
                figures.add("told", sum(found[TOLD, fate] for fate in range(256)))
                lost += found[TOLD, 0]
                strange = {
                    (outcome, fate): times
                    for (outcome, fate), times in found.items()
                    if (outcome == ACKNOWLEDGED and fate != SAVED)
                    or (outcome in (NOT_SENT, NOT_HANDLED) and fate)
                }
                where = f"component {index}, sender {sender}"
                figures.expect(not strange, f"{where}: (outcome, fate): times {strange}")
        for place in self.places:
            wrong = place.open().wrong(place.index)
            figures.expect(not wrong, f"component {place.index}, {KINDS[place.index]}: {wrong}")
        faults, came_back = tally.of(ComponentFaulted), tally.of(ComponentRecovered)
        # A message that was taken in hand by a process, and not by its handler, which was killed
        # just before: at most one at each end of a process.
        figures.expect(lost <= tally.exits, f"{lost} tells lost, with {tally.exits} ends")
        figures.add("tells in hand and not begun", lost)
        failed, ended = tally.of(RestartFailed), tally.of(ComponentEnded) - len(KINDS)
        accounted = came_back + failed + ended
        figures.expect(
            faults == accounted,
            f"{faults} faults, but {came_back} recoveries, {failed} failed, {ended} ends",
        )
        figures.expect(not tally.of(FallbackApplied), f"{tally.of(FallbackApplied)} fallbacks")
        figures.add("faults", faults)
        figures.add("ends of processes", tally.exits)
        if self.exits == ROUND:
            gained = self.memory[-1] - self.memory[0]
            figures.expect(gained <= GAIN, f"{gained} bytes gained within a round")

    def reopen(self) -> None:
        """The next run of the program: each component with a name goes on from its last save."""
        with ComponentSystem(store=self.store) as system:
            for place, kind in zip(self.places[1::2], KINDS[1::2], strict=True):
                ref = self.create(system, place, kind)
                system.start(ref)
                state = self.state_of(ref)
                self.figures.expect(state is not None, f"component {place.index}: no answer")
                self.figures.add("found in the store", state is not None and state.number > 1)
        for place in self.places[1::2]:
            wrong = place.open().wrong(place.index)
            self.figures.expect(not wrong, f"component {place.index}, the next day: {wrong}")


def run(count: int, seed: int) -> Figures:
    """Rounds until so many processes have ended; the first one is for warming up."""
    figures = Figures("soak")
    before: Left | None = None
    memory = 0
    done = -WARM_UP
    while done < count:
        exits = min(ROUND, count - done) if done >= 0 else WARM_UP
        with tempfile.TemporaryDirectory() as folder:
            one = Round(figures, folder, seed + done, exits)
            one.run()
        done += exits
        if before is None:
            before = Left.now()
        if done <= ROUND:  # what is made once is there: threads, their memory, late imports
            memory = own_memory()
        before.expect_no_more(figures)
        if len(figures.broken) > 20:
            break
    gained = own_memory() - memory
    figures.expect(gained <= GAIN, f"{gained} bytes gained")
    figures.add("bytes gained", max(gained, 0))
    return figures
