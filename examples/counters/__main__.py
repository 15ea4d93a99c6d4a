"""Show the counters: four workers share texts; one text in a hundred makes its worker fault.

`python -m examples.counters [BACKEND]`; with "process" each part has a process of its own.
"""

import argparse
import logging
import time
from itertools import cycle
from typing import Any

from examples.arguments import BACKENDS
from examples.counters.counters import GetCounts, Tally, Worker
from kompyct import ComponentRef, ComponentSystem
from kompyct.events import ComponentRecovered, Event

WORKERS = 4
TEXTS = 400
EMPTY_EVERY = 100  # texts
PATIENCE = 20.0  # seconds for all of it; far more than it takes


def texts() -> list[str]:
    """Text n has n % 7 + 1 words, but for those with nothing in them."""
    return ["" if n % EMPTY_EVERY == 99 else "word " * (n % 7 + 1) for n in range(TEXTS)]


def main(backend: Any = "pool") -> None:
    recoveries: list[Event] = []

    def note(event: Event) -> None:
        if isinstance(event, ComponentRecovered):
            recoveries.append(event)

    with ComponentSystem(backend=backend, on_event=note) as system:
        tally = system.create(Tally, name="tally", start=True)
        workers = [system.create(Worker, name=f"worker {n}", start=True) for n in range(WORKERS)]
        for worker in workers:
            system.connect(Tally.totals.of(tally), Worker.totals.of(worker))
        for worker, text in zip(cycle(workers), texts(), strict=False):
            worker.tell(text)

        expected = TEXTS - TEXTS // EMPTY_EVERY
        until = time.monotonic() + PATIENCE
        while min(worker.ask(GetCounts()).events for worker in workers) < expected:
            if time.monotonic() > until:
                raise TimeoutError("the workers have not heard of every text")
            time.sleep(0.005)
        refs: list[ComponentRef[GetCounts]] = [tally, *workers]
        for ref in refs:
            counts = ref.ask(GetCounts())
            print(
                f"{ref.path}: {counts.messages} messages, {counts.events} events; "
                f"it knows of {counts.total.words} words in {counts.total.texts} texts"
            )
    print(f"{len(recoveries)} faults, and each worker went on from its last snapshot")


if __name__ == "__main__":
    logging.getLogger("kompyct").addHandler(logging.NullHandler())  # the printed lines are enough
    parser = argparse.ArgumentParser(prog="python -m examples.counters")
    parser.add_argument("backend", nargs="?", choices=BACKENDS, default="pool")
    main(parser.parse_args().backend)
