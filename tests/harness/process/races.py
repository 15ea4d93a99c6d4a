"""Does anything hang, or get lost, when a process dies beside whatever else happens to it?

Each race is run many times, with the kill at a random moment around the other thing. Everything is
waited for with a limit; afterwards the system must serve a new component.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from kompyct import Component, ComponentSystem, FaultContext, RecoveryHandler, Request
from kompyct.errors import (
    ComponentCreateError,
    ComponentDestroyedError,
    ComponentFaultError,
    RestartingError,
)
from kompyct.events import ComponentEnded, ComponentFaulted, ComponentRecovered, RestartFailed
from tests.harness.process.components import Counter, Item, PlannedError, State, Ways
from tests.harness.process.ledger import LIVES, SAVED, TWICE, Ledger, Place
from tests.harness.process.left import Left, wait_until
from tests.harness.process.soak import ENDLESS, Tally
from tests.harness.store.figures import Figures

LIMIT = 15.0  # seconds for anything that is waited for
SPREAD = 0.008  # seconds around which a kill comes
STORM = 400  # messages


class Race:
    """One system with a component in a process, and who kills that at a random moment."""

    def __init__(self, figures: Figures, choose: random.Random, places: list[Place]) -> None:
        self.figures = figures
        self.choose = choose
        self.places = iter(places)
        self.tally = Tally()
        self.ended = 0  # components that were to end
        self.system = ComponentSystem(on_event=self.tally)
        self.backend = self.system._runtime.backend_of("process")

    def counter(self) -> tuple[Any, Place]:
        """A new component, which runs."""
        place = next(self.places)
        factory = partial(Counter, State(place), Ways(alone=True))
        ref = self.system.create(factory, backend="process", budget=ENDLESS)
        self.system.start(ref).result(LIMIT)
        return ref, place

    def kill_soon(self, times: int = 1) -> threading.Thread:
        """Kill all there is, at a random moment, on a thread of its own."""
        moments = [self.choose.uniform(0, SPREAD) for _ in range(times)]

        def kill() -> None:
            for moment in moments:
                time.sleep(moment)
                for child in tuple(self.backend._children.values()):
                    child.signal(signal.SIGKILL)

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        return thread

    def ends(self, what: str, call: Callable[[], Any]) -> bool:
        """Whether `call` ends in time, by one of the errors that it may, or without one."""
        done: Future[Any] = Future()

        def run() -> None:
            try:
                done.set_result(call())
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        try:
            done.result(LIMIT)
        except (ComponentFaultError, ComponentDestroyedError, ComponentCreateError):
            self.figures.add(f"{what} that failed")
        except RestartingError:
            self.figures.add(f"{what} during a restart")
        except TimeoutError:
            return self.figures.expect(False, f"{what} hangs")
        except BaseException as error:
            return self.figures.expect(False, f"{what} raised {error!r}")
        return True

    def end(self, ref: Any) -> None:
        """End a component that has played its part."""
        self.ends("end", lambda: self.system.kill(ref, brutal=True).result(LIMIT))
        self.ended += 1

    def comes_back(self, ref: Any, number: int) -> bool:
        """Whether it answers a message, in the end."""
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            with suppress(RestartingError):
                return bool(ref.ask(Item(1, number), timeout=LIMIT) == number)
        return False


def at_start(race: Race) -> None:
    """A kill while the component is made and started."""
    place = next(race.places)
    killer = race.kill_soon()
    made: list[Any] = []
    factory = partial(Counter, State(place), Ways(alone=True))

    def make() -> None:
        made.append(race.system.create(factory, backend="process", budget=ENDLESS))
        race.system.start(made[0]).result(LIMIT)

    race.ends("making", make)
    killer.join(LIMIT)
    for ref in made:
        try:
            came = race.comes_back(ref, 1)
        except ComponentDestroyedError:
            # It registers in `on_start`: killed before that, it has nothing to come back by.
            came = place.open().numbers(place.index)[LIVES] <= 1
            race.figures.add("start killed before it had registered")
        race.figures.expect(came, "start: it does not come back")
        race.end(ref)


def at_end(race: Race) -> None:
    """A kill while the component is paused and ended in order, or ended by force."""
    ref, _ = race.counter()
    brutal = race.choose.random() < 0.3
    killer = race.kill_soon()
    time.sleep(race.choose.uniform(0, SPREAD))
    if race.choose.random() < 0.5:
        race.ends("pause", lambda: race.system.stop(ref).result(LIMIT))
    race.ends("end", lambda: race.system.kill(ref, brutal=brutal).result(LIMIT))
    race.ended += 1
    killer.join(LIMIT)


def two_faults(race: Race) -> None:
    """An exception and a kill at the same time: nothing is counted twice."""
    ref, place = race.counter()
    killer = race.kill_soon(2)
    for number in range(1, 6):
        race.ends("fault", partial(_ask_to_raise, ref, number))
    killer.join(LIMIT)
    race.figures.expect(race.comes_back(ref, 1), "two faults: it does not come back")
    _expect_once(race, place)
    race.end(ref)


def _ask_to_raise(ref: Any, number: int) -> None:
    with suppress(PlannedError):
        ref.ask(Item(0, number, "raise"), timeout=LIMIT)


def from_outside(race: Race) -> None:
    """Registrations from outside while the process dies: the last one before an answer counts."""
    ref = race.system.create(Echo, backend="process", budget=ENDLESS, start=True)
    ref.set_recovery_function(come_back, snapshot=0)
    ref.ask(Ask(), timeout=LIMIT)
    killer = race.kill_soon(3)
    last = 0
    for number in range(1, 40):
        ref.set_recovery_function(come_back, snapshot=number)
        try:
            ref.ask(Ask(), timeout=LIMIT)
            last = number  # it has been taken up before that was answered
        except (RestartingError, ComponentFaultError):
            pass
        except Exception as error:
            race.figures.expect(False, f"from outside: {error!r}")
            return
    killer.join(LIMIT)
    race.kill_soon().join(LIMIT)
    came: list[int] = []

    def came_back() -> bool:
        with suppress(RestartingError, ComponentFaultError):
            came.append(ref.ask(Ask(), timeout=LIMIT))
        return bool(came) and came[-1] >= last

    race.figures.expect(
        wait_until(came_back, LIMIT), f"from outside: {came[-1:]}, but registered {last}"
    )
    race.end(ref)


def come_back(fault: FaultContext[int]) -> RecoveryHandler:
    """Go on from the number that was registered."""
    return fault.restart(partial(Echo, fault.snapshot))


@dataclass(frozen=True)
class Ask(Request[int]):
    """Ask for the number."""


class Echo(Component[Ask]):
    """Answers with what it was made of."""

    def __init__(self, number: int = 0) -> None:
        self._number = number

    def on_receive(self, message: Ask) -> int:
        return self._number


def storm(race: Race) -> None:
    """Tells as fast as can be, while the process dies: each is handled once, or was in hand."""
    ref, place = race.counter()
    exits = race.tally.exits
    killer = race.kill_soon(3)
    for number in range(1, STORM + 1):
        ref.tell(Item(0, number))
    killer.join(LIMIT)
    race.figures.expect(race.comes_back(ref, 1), "storm: it does not come back")
    fates = bytes(place.open().messages(place.index, 0))[1 : STORM + 1]
    race.figures.add("told", STORM)
    lost = fates.count(0)
    race.figures.expect(
        lost <= race.tally.exits - exits, f"storm: {lost} lost, {race.tally.exits - exits} ends"
    )
    race.figures.expect(
        STORM - fates.count(SAVED) <= race.tally.exits - exits,
        f"storm: {fates.count(SAVED)} of {STORM} handled, {race.tally.exits - exits} ends",
    )
    _expect_once(race, place)
    race.end(ref)


def time_outs(race: Race) -> None:
    """Asks with short timeouts around the death: each ends, about when it should."""
    ref, place = race.counter()
    killer = race.kill_soon(2)
    for number in range(1, 30):
        timeout = race.choose.choice((0.0001, 0.001, 0.005, 0.02))
        began = time.monotonic()
        with suppress(TimeoutError, RestartingError, ComponentFaultError):
            ref.ask(Item(0, number), timeout=timeout)
        took = time.monotonic() - began
        race.figures.expect(took < timeout + 2, f"an ask of {timeout} s took {took:.1f} s")
    killer.join(LIMIT)
    race.figures.expect(race.comes_back(ref, 1), "timeouts: it does not come back")
    _expect_once(race, place)
    race.end(ref)


def _expect_once(race: Race, place: Place) -> None:
    for sender in range(Ledger.SENDERS):
        fates = bytes(place.open().messages(place.index, sender))
        race.figures.expect(TWICE not in fates, "a message was handled twice")


def at_shutdown(race: Race) -> None:
    """A kill while the system ends: last in its round, for there is no system afterwards."""
    for _ in range(3):
        race.counter()
    killer = race.kill_soon(2)
    time.sleep(race.choose.uniform(0, SPREAD))
    began = time.monotonic()
    race.ends("shutdown", race.system.shutdown)
    race.figures.expect(time.monotonic() - began < 8, "the shutdown took long")
    killer.join(LIMIT)


RACES = (at_start, at_end, two_faults, from_outside, storm, time_outs)
EACH = 5  # times in a round


def run(rounds: int, seed: int) -> Figures:
    """Run all races so many times, each round in a system of its own."""
    figures = Figures("races")
    choose = random.Random(seed)
    before: Left | None = None
    for number in count():
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "ledger")
            places = Ledger.make(path, len(RACES) * EACH + 3, STORM + 1)
            race = Race(figures, choose, places)
            for one in choose.sample(RACES * EACH, len(RACES) * EACH):
                one(race)
                figures.add(one.__name__)
                if len(figures.broken) > 5:
                    break
            faults, tally = race.tally.of(ComponentFaulted), race.tally
            came_back, failed = tally.of(ComponentRecovered), tally.of(RestartFailed)
            at_shutdown(race)
            figures.add("at_shutdown")
            _account(figures, race, faults, came_back + failed)
            for place in places:
                wrong = place.open().wrong(place.index)
                figures.expect(not wrong, f"{wrong}")
        before = before or Left.now()
        before.expect_no_more(figures)
        if number + 1 == rounds or figures.broken:
            return figures
    raise AssertionError("the count does not end")


def _account(figures: Figures, race: Race, faults: int, came_back: int) -> None:
    """Each fault was followed by a recovery, a failed one, or an end."""
    ended = race.tally.of(ComponentEnded)
    figures.expect(
        came_back <= faults <= came_back + ended,
        f"{faults} faults, {came_back} recoveries or failed ones, {ended} ends",
    )
    figures.add("faults", faults)
