"""Show the unstable counter.

`python -m examples.unstable_counter [SECONDS]` shows all of it, with its snapshots in a temporary
folder: faults, a real `kill -9`, an orderly end, and a minute in virtual time.
`python -m examples.unstable_counter SECONDS STORE` runs the counter only, with the folder STORE.
"""

import argparse
import logging
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from examples.arguments import DAY, number
from examples.unstable_counter import counter
from examples.unstable_counter.careful import CarefulCounter
from examples.unstable_counter.counter import GetCount, UnstableCounter, show
from kompyct.errors import ArgumentError, ComponentDestroyedError, StoreError
from kompyct.events import ComponentEnded, ComponentFaulted, ComponentRecovered, Event
from kompyct.testing import TestSystem

MINUTE = 60.0  # seconds
UNTIL_KILL = 2.3  # seconds; the second save is 2 s after the start
UNTIL_END = 0.3  # seconds


def showing_since(began: float) -> Callable[[Event], None]:
    """What prints a line for each fault and each recovery; `began` as `time.monotonic`."""

    def show_event(event: Event) -> None:
        at = f"{event.time - began:6.2f} s"
        if isinstance(event, ComponentFaulted) and event.kind == "exception":
            show(f"{at}  fault: {event.error}; suspect {event.suspect}")
        elif isinstance(event, ComponentRecovered):
            cause = "" if event.kind == "exception" else f" from {event.kind.upper()}"
            show(
                f"{at}  recovered{cause}: incarnation {event.incarnation}, from a snapshot "
                f"{event.snapshot_age:.2f} s old, in {event.downtime * 1000:.2f} ms"
            )

    return show_event


def run(seconds: float, store: str | Path) -> None:
    """The counter itself, with a line for each event."""
    try:
        counter.main(seconds, store, on_event=showing_since(time.monotonic()))
    except ComponentDestroyedError as error:  # from about 8 s on
        show(str(error))


def run_and_kill(store: Path) -> None:
    """The counter in a process of its own, which gets SIGKILL."""
    with start_process(MINUTE, store) as process:
        assert process.stdout is not None
        print(process.stdout.readline(), end="", flush=True)  # it has started
        time.sleep(UNTIL_KILL)
        process.kill()
        print(process.stdout.read(), end="")
    print(f"{UNTIL_KILL:6.2f} s  killed by {signal.Signals(-process.returncode).name}", flush=True)


def run_to_the_end(store: Path) -> None:
    """The counter in a process of its own, which ends in order."""
    with start_process(UNTIL_END, store) as process:
        assert process.stdout is not None
        print(process.stdout.read(), end="", flush=True)


def start_process(seconds: float, store: Path) -> subprocess.Popen[str]:
    """A process that runs the counter."""
    command = [sys.executable, "-m", "examples.unstable_counter", str(seconds), str(store)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def a_minute_of(factory: type[UnstableCounter]) -> str:
    """What becomes of a counter in a minute; virtual time, so that nobody waits."""
    with TestSystem() as system:
        component = system.create(factory, name="counter")
        system.start(component)
        system.advance(MINUTE)
        faults = len(system.events.of(ComponentFaulted))
        ends = system.events.of(ComponentEnded)
        if ends:
            return f"{faults} faults, and the end at {ends[0].time:.2f} s: {ends[0].reason}"
        return f"{faults} faults, and it goes on: it stands at {component.ask(GetCount())}"


def main(seconds: float = 5.0) -> None:
    """Run all parts; the first takes `seconds`."""
    print(f"A counter of one byte for {seconds:g} s: it counts every 10 ms, saves every second.")
    with tempfile.TemporaryDirectory(prefix="unstable-counter-") as folder:
        run(seconds, Path(folder, "faults"))
        print()
        print("The same in a process that is killed: its snapshots are in a folder.")
        store = Path(folder, "state")
        run_and_kill(store)
        print("Started again. After this it ends in order:")
        run_to_the_end(store)
        print("And once more:")
        run_to_the_end(store)
    print()
    print("Its snapshot is suspect: it leads into the same fault again and again.")
    print("What a minute would bring, in virtual time:")
    print("  trusting it:  ", a_minute_of(UnstableCounter))
    print("  stepping back:", a_minute_of(CarefulCounter))


if __name__ == "__main__":
    logging.getLogger("kompyct").addHandler(logging.NullHandler())  # the printed lines are enough
    parser = argparse.ArgumentParser(prog="python -m examples.unstable_counter")
    parser.add_argument("seconds", nargs="?", type=number(0.0, DAY), default=5.0)
    parser.add_argument("store", nargs="?", help="a folder; default a temporary one")
    given = parser.parse_args()
    if given.store is None:
        main(given.seconds)
    else:
        try:
            run(given.seconds, given.store)
        except (ArgumentError, StoreError) as error:
            parser.error(f"argument store: {error}")
