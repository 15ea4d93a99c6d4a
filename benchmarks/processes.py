"""How fast are messages to other processes, and how fast is one of those replaced?

Ray, which the goals name as well, is not among the peers: instead there are the bare mechanisms,
a pipe, a pidfd, and what multiprocessing has.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from time import perf_counter

from benchmarks import crashing
from benchmarks.alone import median_ms
from benchmarks.measure import LIMIT, check, round_trips
from benchmarks.peers import bare_processes, faultguards, multiprocesses, xoscar_actors
from benchmarks.plan import (
    MICROSECONDS,
    MILLISECONDS,
    PER_SECOND,
    Case,
    Group,
    Row,
    at_least,
    at_most,
)
from kompyct import Component, ComponentSystem, Request, guard

LARGE = 500_000_000
"""Bytes that a child holds which takes the kernel long to free."""

STANDBY = ("standby",)
OVERLAPPING = ("standby", "overlap")
"""What the large one needs: its memory is freed long after its replacement could run."""


class GetCount(Request[int]):
    """Asks how many messages were handled."""

    __slots__ = ()


class Counter(Component[int | None | GetCount]):
    """Counts messages, and answers."""

    def __init__(self) -> None:
        self.count = 0

    def on_receive(self, message: int | GetCount | None) -> int:
        if isinstance(message, GetCount):
            return self.count
        self.count += 1
        return 0


def tell(size: int) -> Mapping[str, float]:
    """`size` messages to one component in another process, until it says that it has them all."""
    with ComponentSystem(backend="process") as system:
        ref = system.create(Counter)
        system.start(ref).result(LIMIT)
        start = perf_counter()
        for number in range(size - 1):
            ref.tell(number)
        ref.tell(None)
        count = ref.ask(GetCount(), timeout=LIMIT)
        elapsed = perf_counter() - start
    check(count, size)
    return {"rate": size / elapsed}


def ask(size: int) -> Mapping[str, float]:
    """The median round trip of `size` asks of a component in another process."""
    with ComponentSystem(backend="process") as system:
        ref = system.create(Counter)
        system.start(ref).result(LIMIT)
        request = GetCount()
        return {"p50": round_trips(lambda: ref.ask(request), size)}


def die(
    size: int, how: str, size_bytes: int = 0, options: tuple[str, ...] = ()
) -> Mapping[str, float]:
    """See `children.die`."""
    return median_ms("benchmarks.children", "die", size, how, size_bytes, *options)


def die_bare(size: int, how: str, size_bytes: int = 0) -> Mapping[str, float]:
    """See `bare_processes.die`."""
    return median_ms(bare_processes.__name__, size, how, size_bytes)


def make(size: int) -> Mapping[str, float]:
    """See `children.make`."""
    return median_ms("benchmarks.children", "make", size)


def make_by(size: int, method: str) -> Mapping[str, float]:
    """See `multiprocesses.make`."""
    return median_ms(multiprocesses.__name__, method, size)


def rescue(size: int) -> Mapping[str, float]:
    """See `crashing.rescue`."""
    return crashing.rescue(guard.start, size)


CASES: Mapping[str, Case] = {
    "tell-process/process": Case(tell, 500_000),
    "tell-process/multiprocessing.Queue": Case(multiprocesses.tell, 100_000),
    "tell-process/xoscar": Case(xoscar_actors.tell_process, 5_000),
    "ask-process/process": Case(ask, 10_000),
    "ask-process/xoscar": Case(xoscar_actors.ask_process, 5_000),
    "ask-process/pipe": Case(bare_processes.echo, 20_000),
    "ask-process/Manager": Case(multiprocesses.ask, 10_000),
    "kill/process": Case(partial(die, how="kill"), 40, least=2),
    "kill/process, 500 MB": Case(partial(die, how="kill", size_bytes=LARGE), 8, least=2),
    "kill/pidfd": Case(partial(die_bare, how="kill"), 40, least=2),
    "kill/pidfd, 500 MB": Case(partial(die_bare, how="kill", size_bytes=LARGE), 8, least=2),
    "crash/process": Case(partial(die, how="crash"), 40, least=2),
    "crash/process, standby": Case(partial(die, how="crash", options=STANDBY), 40, least=2),
    "crash/process, standby and overlap": Case(
        partial(die, how="crash", options=OVERLAPPING), 40, least=2
    ),
    "crash/process, 500 MB": Case(
        partial(die, how="crash", size_bytes=LARGE, options=OVERLAPPING), 8, least=2
    ),
    "crash/guard": Case(rescue, 20, least=2),
    "crash/pidfd": Case(partial(die_bare, how="crash"), 40, least=2),
    "crash/pidfd, 500 MB": Case(partial(die_bare, how="crash", size_bytes=LARGE), 8, least=2),
    "crash/its report": Case(partial(die_bare, how="report"), 40, least=2),
    "crash/its report, 500 MB": Case(
        partial(die_bare, how="report", size_bytes=LARGE), 8, least=2
    ),
    "crash/faultguard": Case(faultguards.rescue, 20, least=2),
    "child/process": Case(make, 40, least=2),
    "child/forkserver": Case(partial(make_by, method="forkserver"), 20, least=2),
    "child/spawn": Case(partial(make_by, method="spawn"), 10, least=2),
}

GROUP = Group(
    "Processes",
    (
        Row(
            "tell-process",
            "tell to a component in another process",
            "tell-process",
            "rate",
            PER_SECOND,
            ("process",),
            ("multiprocessing.Queue", "xoscar"),
            (at_least(5, "process", "multiprocessing.Queue"),),
        ),
        Row(
            "ask-process",
            "ask of a component in another process, p50",
            "ask-process",
            "p50",
            MICROSECONDS,
            ("process",),
            ("xoscar", "pipe", "Manager"),
            (at_most(0.25, "process", "xoscar"),),
        ),
        Row(
            "seen-kill",
            "SIGKILL to fault seen, p50",
            "kill",
            "seen",
            MILLISECONDS,
            ("process", "process, 500 MB"),
            ("pidfd", "pidfd, 500 MB"),
            (
                at_most(1.2, "process", "pidfd"),
                at_most(1.2, "process, 500 MB", "pidfd, 500 MB"),
            ),
        ),
        Row(
            "seen-crash",
            "SIGSEGV to fault seen, p50",
            "crash",
            "seen",
            MILLISECONDS,
            ("process", "process, 500 MB"),
            ("its report", "pidfd", "its report, 500 MB", "pidfd, 500 MB"),
            (at_most(0.5, "process"), at_most(0.5, "process, 500 MB")),
        ),
        Row(
            "recover",
            "SIGSEGV to running again from the snapshot, p50",
            "crash",
            "running",
            MILLISECONDS,
            (
                "process",
                "process, standby",
                "process, standby and overlap",
                "process, 500 MB",
                "guard",
            ),
            ("faultguard",),
            (
                at_most(5, "process"),
                at_most(1, "process, standby"),
                at_most(1, "process, standby and overlap"),
                at_most(1, "process, 500 MB"),
            ),
        ),
        Row(
            "child",
            "a new child process, after the first, p50",
            "child",
            "made",
            MILLISECONDS,
            ("process",),
            ("forkserver", "spawn"),
            (at_most(3, "process"),),
        ),
    ),
    CASES,
)
