"""Show the buncher: a burst of numbers, a pause, a fault in the midst, and a hurry.

`python -m examples.buncher [BACKEND]`; with "process" each part has a process of its own.
"""

import argparse
import logging
import time
from functools import partial
from typing import Any

from examples.arguments import BACKENDS
from examples.buncher.buncher import Buncher
from examples.buncher.reader import GetSum, Hurry, Reader, show
from kompyct import ComponentRef, ComponentSystem
from kompyct.events import ComponentRecovered, Event

PATIENCE = 20.0  # seconds within which a batch must have come; far more than it takes


def show_recovery(event: Event) -> None:
    """What to print of an event."""
    if isinstance(event, ComponentRecovered):
        show(f"the buncher has recovered from {event.error}, in its phase {event.phase!r}")


def wait_for(reader: ComponentRef[GetSum], total: int) -> None:
    """Return when the reader has got all numbers of that sum."""
    until = time.monotonic() + PATIENCE
    while reader.ask(GetSum()) != total:
        if time.monotonic() > until:
            raise TimeoutError(f"the reader has got {reader.ask(GetSum())} of {total}")
        time.sleep(0.005)


def main(backend: Any = "thread") -> None:
    with ComponentSystem(backend=backend, on_event=show_recovery) as system:
        buncher = system.create(Buncher, start=True)
        readers = [system.create(partial(Reader, name), start=True) for name in ("one", "two")]
        channels = [
            system.connect(Buncher.batches.of(buncher), Reader.batches.of(reader))
            for reader in readers
        ]
        for number in range(250):
            buncher.tell(number)
        burst = sum(range(250))
        for reader in readers:
            wait_for(reader, burst)

        channels[0].disconnect()
        show("reader one is disconnected; 1, 2, 3, then -1, which is a fault, then 4")
        for number in (1, 2, 3, -1, 4):
            buncher.tell(number)
        wait_for(readers[1], burst + 10)

        show("5, and reader two is in a hurry")
        buncher.tell(5)
        readers[1].tell(Hurry())
        wait_for(readers[1], burst + 15)


if __name__ == "__main__":
    logging.getLogger("kompyct").addHandler(logging.NullHandler())  # the printed lines are enough
    parser = argparse.ArgumentParser(prog="python -m examples.buncher")
    parser.add_argument("backend", nargs="?", choices=BACKENDS, default="thread")
    main(parser.parse_args().backend)
