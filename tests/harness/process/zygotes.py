"""Do all components come back when the process that makes the processes is killed?

Its children end with it. Each must come back with its last save, once, and only when its
predecessor is gone; the next zygote may be killed before it is ready. `crowd` is the same with
many components, all of which ask the new zygote for a process before it can hear them.
"""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from functools import partial
from typing import Any

from kompyct import ComponentSystem
from kompyct.errors import ComponentFaultError, RestartingError
from tests.harness.process.components import Counter, Item, Look, State, Ways
from tests.harness.process.ledger import SAVED, Ledger, Place
from tests.harness.process.left import Left
from tests.harness.process.soak import ENDLESS, Tally
from tests.harness.store.figures import Figures

FEW, MANY = 6, 400
LIMIT = 30.0  # seconds for all to be back


def run(kills: int, seed: int, components: int = FEW) -> Figures:
    """Kill so many zygotes of one system."""
    figures = Figures("zygotes")
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        places = Ledger.make(os.path.join(folder, "ledger"), components, kills + 2)
        ledger = places[0].open()  # the mapping of the last one is kept
        before = Left.now()
        tally = Tally()
        with ComponentSystem(on_event=tally) as system:
            refs = _make_all(figures, system, places)
            _ask_all(figures, refs, 1)
            for number in range(2, kills + 2):
                backend = system._runtime.backend_of("process")
                for _ in range(choose.choice((1, 1, 2, 3))):
                    process = getattr(backend._starter, "_process", None)
                    if process is not None:
                        process.kill()
                        figures.add("zygotes killed")
                    time.sleep(choose.choice((0, 0.001, 0.1, 0.3)) * choose.random())
                began = time.monotonic()
                if not _ask_all(figures, refs, number):
                    break
                back = round((time.monotonic() - began) * 1000)
                figures.counts["ms until all are back"] = max(
                    back, figures.counts.get("ms until all are back", 0)
                )
            figures.add("faults", tally.exits)
        for place in places:
            figures.expect(not ledger.wrong(place.index), f"{ledger.wrong(place.index)}")
            saved = bytes(ledger.messages(place.index, 0)).count(SAVED)
            figures.add("acknowledged", saved)
    figures.add("components", components)
    before.expect_no_more(figures)
    return figures


def _make_all(figures: Figures, system: ComponentSystem, places: list[Place]) -> list[Any]:
    """Make all components at the same time."""
    refs: list[Any] = []

    def make(place: Place) -> None:
        factory = partial(Counter, State(place), Ways(alone=True, period=len(places) / 200))
        refs.append(system.create(factory, backend="process", budget=ENDLESS, start=True))

    # Daemons: one that hangs must not keep the harness from saying so.
    threads = [threading.Thread(target=make, args=(place,), daemon=True) for place in places]
    for thread in threads:
        thread.start()
    until = time.monotonic() + LIMIT
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    figures.expect(len(refs) == len(places), f"{len(places) - len(refs)} are not made")
    return refs


def _ask_all(figures: Figures, refs: list[Any], number: int) -> bool:
    """Ask each until it answers; whether all do."""
    until = time.monotonic() + LIMIT
    for index, ref in enumerate(refs):
        answered = False
        request: Item | Look = Item(0, number)
        while not answered and time.monotonic() < until:
            try:
                ref.ask(request, timeout=LIMIT)
                answered = True
            except ComponentFaultError:
                request = Look()  # it was in hand, and may have been handled
            except RestartingError:
                pass
            except Exception as error:
                figures.expect(False, f"component {index}, asked {request}: {error!r}")
                return False
        if not figures.expect(answered, f"component {index} does not answer {number}"):
            return False
    return True
