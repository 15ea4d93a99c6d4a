"""How fast is a component's process made, seen to have died, and replaced?

A program of its own, see `alone`: `python -m benchmarks.children make SIZE`, or `die SIZE HOW
SIZE_BYTES [standby] [overlap]`.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass
from functools import partial
from threading import Semaphore
from time import monotonic_ns

from benchmarks.alone import tell
from benchmarks.measure import check, wait_for
from benchmarks.stamps import Stamp, new_stamp
from kompyct import (
    Component,
    ComponentSystem,
    FaultContext,
    RecoveryHandler,
    Request,
    RestartLimit,
)
from kompyct.events import ComponentFaulted, ComponentRecovered, Event

UNLIMITED = RestartLimit(10**6, 0.001)

SETTLE = 0.05
"""Seconds until a standby has loaded what it needs, and until what a death sets going is done."""

LIMIT = 60.0  # seconds that an ask may take


@dataclass(frozen=True, slots=True)
class Prepare(Request[int]):
    """Hold so many bytes, none shared with another process; answered with the process's number."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class GetDeaths(Request[int]):
    """Ask how many incarnations there were before."""


class Crash:
    """Make the component's process crash."""


class Mortal(Component[Prepare | GetDeaths | Crash]):
    """Dies, and goes on from its snapshot."""

    def __init__(self, path: str, deaths: int) -> None:
        self.path = path
        self.deaths = deaths
        self.held = b""
        self.stamp: Stamp | None = None

    def on_start(self) -> None:
        self.set_recovery_function(_recover, snapshot={"path": self.path, "deaths": self.deaths})

    def on_receive(self, message: Prepare | GetDeaths | Crash) -> int:
        match message:
            case Prepare(size_bytes):
                self.stamp = Stamp(self.path)
                self.held = b"x" * size_bytes
                return os.getpid()
            case GetDeaths():
                return self.deaths
            case Crash():
                assert self.stamp is not None
                self.stamp.write()
                return ctypes.string_at(0)[0]


def _recover(fault: FaultContext[dict[str, int | str]]) -> RecoveryHandler:
    known = fault.snapshot
    return fault.restart(partial(Mortal, str(known["path"]), int(known["deaths"]) + 1))


class Watch:
    """When the system's events came."""

    def __init__(self) -> None:
        self.seen = 0
        self.running = 0
        self.recovered = Semaphore(0)

    def on_event(self, event: Event) -> None:
        now = monotonic_ns()
        if type(event) is ComponentFaulted:
            self.seen = now
        elif type(event) is ComponentRecovered:
            self.running = now
            self.recovered.release()


def die(size: int, how: str, size_bytes: int, *options: str) -> dict[str, list[int]]:
    """The times of `size` deaths of one component: until the fault is seen, until it runs again.

    Args:
        how: "crash" itself, timed by the child, or "kill", by who kills it.
        size_bytes: what the child holds.
        options: of `create`, that are switched on.
    """
    logging.getLogger("kompyct").addHandler(logging.NullHandler())
    watch = Watch()
    path = new_stamp()
    stamp = Stamp(path)
    chosen = dict.fromkeys(options, True)
    seen, running = [], []
    with ComponentSystem(on_event=watch.on_event) as system:
        ref = system.create(
            partial(Mortal, path, 0),
            backend="process",
            budget=UNLIMITED,
            standby=chosen.get("standby", False),
            overlap=chosen.get("overlap", False),
        )
        system.start(ref).result(LIMIT)
        for number in range(size + 1):
            pid = ref.ask(Prepare(size_bytes), timeout=LIMIT)
            time.sleep(SETTLE)
            if how == "kill":
                stamp.write()
                os.kill(pid, signal.SIGKILL)
            else:
                ref.tell(Crash())
            wait_for(watch.recovered)
            if number:  # the first has loaded something
                seen.append(watch.seen - stamp.read())
                running.append(watch.running - stamp.read())
        check(ref.ask(GetDeaths(), timeout=LIMIT), size + 1)
    return {"seen": seen, "running": running}


class Idle(Component[None]):
    """Does nothing."""

    def on_receive(self, message: None) -> None:
        pass


def make(size: int) -> dict[str, list[int]]:
    """The times until `create` returns, its component being there in a new child."""
    times = []
    with ComponentSystem(backend="process") as system:
        for number in range(size + 1):
            start = monotonic_ns()
            ref = system.create(Idle)
            if number:  # the first waits for the zygote
                times.append(monotonic_ns() - start)
            system.kill(ref).result(LIMIT)
            time.sleep(SETTLE / 5)
    return {"made": times}


if __name__ == "__main__":
    what, count, *rest = sys.argv[1:]
    if what == "make":
        tell(make(int(count)))
    else:
        manner, held, *switched = rest
        tell(die(int(count), manner, int(held), *switched))
