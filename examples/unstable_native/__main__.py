"""Show a counter whose process crashes twice by itself, is killed, and at last is stopped.

Each of the first three ends is a fault like any other: the recovery function is called with the
last snapshot, and the count goes on. A process that is merely stopped is not noticed; but neither
does it hold up the end of the system.
"""

import argparse
import logging
import os
import signal
import sys
from queue import SimpleQueue

from examples.unstable_native.counter import GetCount, GetProcess, NativeCounter
from kompyct import ComponentSystem
from kompyct.errors import AskTimeoutError
from kompyct.events import ComponentRecovered, Event, ProcessForced

CRASHES = 2  # of the counter's own
PATIENCE = 30.0  # seconds to wait for an event; far more than it takes


def show_next(events: SimpleQueue[Event], kind: type[Event]) -> None:
    """Wait for the next event of that kind, and print what it says."""
    while not isinstance(event := events.get(timeout=PATIENCE), kind):
        pass
    print(event, flush=True)


def is_there(process: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> int:
    """Show it; return with what to exit."""
    events = SimpleQueue[Event]()
    with ComponentSystem(on_event=events.put) as system:
        counter = system.create(NativeCounter, name="counter", backend="process")
        system.start(counter).result()
        for _ in range(CRASHES):
            show_next(events, ComponentRecovered)
        before = counter.ask(GetCount())
        print(f"it stands at {before}; its process gets SIGKILL", flush=True)
        os.kill(counter.ask(GetProcess()), signal.SIGKILL)
        show_next(events, ComponentRecovered)
        after, process = counter.ask(GetCount()), counter.ask(GetProcess())
        print(f"it stands at {after}; its process gets SIGSTOP", flush=True)
        os.kill(process, signal.SIGSTOP)
        try:
            counter.ask(GetCount(), timeout=0.5)
        except AskTimeoutError as error:
            print(error, flush=True)
    show_next(events, ProcessForced)
    print("its process is", "still there" if is_there(process) else "gone")
    return 0 if after >= before > 0 and not is_there(process) else 1


if __name__ == "__main__":
    logging.getLogger("kompyct").addHandler(logging.NullHandler())  # the printed lines are enough
    argparse.ArgumentParser(prog="python -m examples.unstable_native").parse_args()  # takes none
    sys.exit(main())
