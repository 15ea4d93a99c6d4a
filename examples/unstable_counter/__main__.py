"""Show the unstable counter: five seconds of it as they pass, then a minute in virtual time."""

import logging
import sys
import time
from collections.abc import Callable

from examples.unstable_counter import counter
from examples.unstable_counter.careful import CarefulCounter
from examples.unstable_counter.counter import GetCount, UnstableCounter
from kompyct.events import ComponentEnded, ComponentFaulted, ComponentRecovered, Event
from kompyct.testing import TestSystem

MINUTE = 60.0  # seconds


def show_since(began: float) -> Callable[[Event], None]:
    """What prints a line for each fault and each recovery; `began` as `time.monotonic`."""

    def show(event: Event) -> None:
        at = f"{event.time - began:6.2f} s"
        if isinstance(event, ComponentFaulted):
            print(f"{at}  fault: {event.error}; suspect {event.suspect}", flush=True)
        elif isinstance(event, ComponentRecovered):
            print(
                f"{at}  recovered: incarnation {event.incarnation}, from a snapshot "
                f"{event.snapshot_age:.2f} s old, in {event.downtime * 1000:.2f} ms",
                flush=True,
            )

    return show


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
    """Run both parts; the first takes `seconds`."""
    logging.getLogger("kompyct").addHandler(logging.NullHandler())  # the lines below are enough
    print(f"A counter of one byte for {seconds:g} s: it counts every 10 ms, saves every second.")
    counter.main(seconds, on_event=show_since(time.monotonic()))
    print()
    print("Its snapshot is suspect: it leads into the same fault again and again.")
    print("What a minute would bring, in virtual time:")
    print("  trusting it:  ", a_minute_of(UnstableCounter))
    print("  stepping back:", a_minute_of(CarefulCounter))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
