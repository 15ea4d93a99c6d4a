"""Is the last save there, and whole, when a process is killed while it saves all the time?

A component saves in a tight loop, values from ten bytes to a megabyte; at a random moment its
process gets SIGKILL. Its recovery function must be given the save that was made last, or the one
that was in flight. In every other system there is a store as well, and somebody flushes all the
while, so that the parent reads what is being written.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial

from kompyct import Component, ComponentSystem, FaultContext, RecoveryHandler
from kompyct.errors import StoreError
from tests.harness.process.components import State, check
from tests.harness.process.ledger import BEGUN, DONE, LIVES, OVER, Ledger, Place
from tests.harness.process.left import Left, wait_until
from tests.harness.process.soak import ENDLESS
from tests.harness.store.figures import Figures

SIZES = (10, 100, 3_000, 4_200, 5_000, 70_000, 300_000, 1_000_000)
LONGEST = 0.01  # seconds from a start to the kill
LIMIT = 20.0
KILLS = 100  # of one system


class Saver(Component[None]):
    """Saves, and does nothing else."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._numbers = state.place.open().numbers(state.place.index)

    def on_start(self) -> None:
        self._save()
        self._numbers[LIVES] += 1
        self.schedule_once(0.0, self._save_for_ever)

    def _save_for_ever(self) -> None:
        while not self._numbers[OVER]:
            self._save()

    def _save(self) -> None:
        state = self._state.next(SIZES)
        self._numbers[BEGUN] = state.number
        self.set_recovery_function(come_back, snapshot=state)
        self._numbers[DONE] = state.number
        self._state = state


def come_back(fault: FaultContext[State]) -> RecoveryHandler:
    """Go on, once it has been looked at what is there."""
    check(fault.snapshot, SIZES)
    return fault.restart(partial(Saver, fault.snapshot))


def run(count: int, seed: int) -> Figures:
    """Kill so often."""
    figures = Figures("midsave")
    choose = random.Random(seed)
    before: Left | None = None
    done = 0
    while done < count and len(figures.broken) < 20:
        with tempfile.TemporaryDirectory() as folder:
            (place,) = Ledger.make(os.path.join(folder, "ledger"), 1, 1)
            kills = min(KILLS, count - done)
            store = os.path.join(folder, "store") if (done // KILLS) % 2 else None
            one_system(figures, choose, place, store, kills)
            done += kills
            figures.add("saves", place.open().numbers(0)[DONE])
        before = before or Left.now()
        before.expect_no_more(figures)
    return figures


def one_system(
    figures: Figures, choose: random.Random, place: Place, store: str | None, kills: int
) -> None:
    """Kill one component so often; then look at the store, if there is one."""
    numbers = place.open().numbers(0)
    over = threading.Event()
    with ComponentSystem(store=store) as system:
        saver = partial(Saver, State(place))
        system.create(saver, backend="process", name="saver", budget=ENDLESS, start=True)
        flusher = threading.Thread(target=_flush, args=(system, over))
        if store:
            flusher.start()
        backend = system._runtime.backend_of("process")
        lives = 0
        for _ in range(kills):
            came = wait_until(lambda last=lives: numbers[LIVES] > last, LIMIT)  # type: ignore[misc]
            if not figures.expect(came, "the component has not come back"):
                break
            lives = numbers[LIVES]
            end = time.perf_counter() + choose.uniform(0, LONGEST)
            while time.perf_counter() < end:  # a sleep would hit the same few moments
                pass
            for child in tuple(backend._children.values()):
                child.signal(signal.SIGKILL)
            figures.add("kills")
        over.set()
        numbers[OVER] = 1
        if store:
            flusher.join()
    if store:
        with ComponentSystem(store=store) as system:  # which calls `come_back`
            system.create(saver, name="saver")
    wrong = place.open().wrong(0)
    figures.expect(not wrong, f"{'with' if store else 'without'} a store: {wrong}")


def _flush(system: ComponentSystem, over: threading.Event) -> None:
    while not over.is_set():
        with suppress(StoreError):
            system.flush()
        over.wait(0.01)  # the disk is slower than memory
