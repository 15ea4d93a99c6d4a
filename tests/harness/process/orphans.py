"""Is anything left of a system a second after its process was killed, whatever its children do?

A program whose components are busy, hang, sleep in native code, are stopped, have dropped their
rights, or are just being made, gets SIGKILL at a random moment, from before it has a zygote on.
This process adopts what is left of it (it is a "subreaper"), so nothing gets lost: after a second,
nothing may be alive.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import time
from collections import Counter as Count
from contextlib import suppress
from functools import partial
from itertools import count

import psutil

from kompyct import Component, ComponentSystem
from tests.harness.process.left import descendants, wait_until
from tests.harness.process.soak import ENDLESS
from tests.harness.store.children import Tell, start
from tests.harness.store.figures import Figures

PR_SET_CHILD_SUBREAPER = 36
NOBODY = 65534
SOON = 1.0  # seconds within which nothing may be alive any more
EARLY = 0.8  # seconds from its start in which a program may be killed before it is ready
LATE = 0.05  # seconds after that
MOODS = ("idle", "busy", "hung", "native", "deaf", "stopped", "making", "dropped")


class Moody(Component[str]):
    """Does something from which it never comes back."""

    def __init__(self, mood: str = "") -> None:
        if mood:
            time.sleep(60)

    def on_receive(self, message: str) -> None:
        match message:
            case "busy":
                while True:
                    pass
            case "hung":
                os.read(os.pipe()[0], 1)
            case "native":
                ctypes.PyDLL(None).sleep(60)  # without letting another thread run
            case "deaf":
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
                time.sleep(60)
            case "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "dropped":  # Linux forgets the parent-death signal at that
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                while True:
                    pass


def program(moods: list[str], tell: Tell) -> None:
    """A system with components of these moods, that makes others as long as it lives."""
    with ComponentSystem() as system:
        for mood in moods:
            if mood == "making":
                make = partial(_make_for_ever, system)
                system.create(partial(_Caller, make), start=True).tell(None)
                continue
            ref = system.create(Moody, backend="process", budget=ENDLESS)
            system.start(ref).result(30)
            ref.tell(mood)
        tell("ready")
        for _ in count():
            ref = system.create(Moody, backend="process", start=True)
            system.kill(ref, brutal=True)


class _Caller(Component[None]):
    """Calls something, on its own thread."""

    def __init__(self, call: partial[None]) -> None:
        self._call = call

    def on_receive(self, message: None) -> None:
        self._call()


def _make_for_ever(system: ComponentSystem) -> None:
    system.create(partial(Moody, "making"), backend="process")


def run(kills: int, seed: int) -> Figures:
    """Kill so many programs."""
    figures = Figures("orphans")
    choose = random.Random(seed)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    known = [mood for mood in MOODS if mood != "dropped" or os.geteuid() == 0]
    met: Count[str] = Count()
    slowest = 0.0
    for _ in range(kills):
        moods = [choose.choice(known) for _ in range(4)]
        one = start(partial(program, moods))
        early = choose.random() < 0.4
        if early:
            time.sleep(choose.uniform(0, EARLY))
        else:
            told = b""

            def is_ready() -> bool:
                nonlocal told
                told += one.so_far()  # noqa: B023 - called within this turn of the loop
                return bool(told)

            ready = wait_until(is_ready, 30) and told.startswith(b'"ready"')
            if not figures.expect(ready, f"{moods}: not ready, but {told.decode()}"):
                one.kill()
                continue
            time.sleep(choose.uniform(0, LATE))
        one.kill()
        began = time.perf_counter()
        gone = wait_until(_nothing_lives, SOON)
        slowest = max(slowest, time.perf_counter() - began)
        figures.add("killed early" if early else "killed when ready")
        met.update(() if early else moods)
        if not gone:
            left = descendants(zombies=False)
            what = [" ".join(psutil.Process(pid).cmdline()[:3])[:60] for pid in left]
            figures.expect(False, f"{moods}: {len(left)} alive after {SOON:g} s: {what}")
            for pid in left:
                os.kill(pid, signal.SIGKILL)  # of this process's own, which only it can reap
            wait_until(_nothing_lives, 5)
        os.close(one.reader)
        _reap()
    figures.add("ms for the slowest", round(slowest * 1000))
    for mood, times in met.items():
        figures.add(mood, times)
    return figures


def _nothing_lives() -> bool:
    return not descendants(zombies=False)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
