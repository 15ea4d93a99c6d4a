"""What does it cost to limit time and memory, and how late is the interrupt?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks import limiting
from benchmarks.peers import resiliparse_guards
from benchmarks.plan import (
    MEGABYTES,
    MICROSECONDS,
    MILLISECONDS,
    PER_SECOND,
    Case,
    Group,
    Row,
    at_most,
)
from kompyct import limits

THREADS = "threads"
"""A unit."""

Measure = Callable[..., Mapping[str, float]]


def measured(size: int, what: Measure, **settings: object) -> Mapping[str, float]:
    """What a function of `limiting` finds."""
    return what(limits, size, **settings)


def again(size: int, make: Callable[[], object]) -> Mapping[str, float]:
    """The median time to enter and leave a block with a guard that was made before."""
    return limiting.enter_again(make(), size, batch=10)


def _cases(
    experiment: str, what: Measure, ours: int, theirs: int, least: int, **settings: object
) -> dict[str, Case]:
    """One of kompyct's and one of the peer's; the settings are for kompyct's."""
    own = partial(measured, what=what, **settings)  # type: ignore[arg-type]  # none is `size`
    peer = partial(resiliparse_guards.measured, what=what)
    return {
        f"{experiment}/kompyct": Case(own, ours, least),
        f"{experiment}/Resiliparse": Case(peer, theirs, least),
    }


def _looking_often(what: Measure) -> Callable[[int], Mapping[str, float]]:
    """The peer at its most exact."""
    return partial(resiliparse_guards.measured, what=what, check_interval=1)


_PEERS = ("Resiliparse", "Resiliparse, check_interval=1")
_IDLE = ("Resiliparse", "Resiliparse, mem_guard")

GROUP = Group(
    "Limits",
    (
        Row(
            "limits-enter",
            "time_guard(): make it, enter and leave the block, p50",
            "limits-enter",
            "p50",
            MICROSECONDS,
            ("kompyct", "kompyct, one for all blocks"),
            ("Resiliparse",),
            (at_most(3, "kompyct"),),
        ),
        Row(
            "limits-enter-memory",
            "mem_guard(...): make it, enter and leave the block, p50",
            "limits-enter-memory",
            "p50",
            MICROSECONDS,
            ("kompyct", "kompyct, one for all blocks"),
            ("Resiliparse",),
        ),
        Row(
            "limits-progress",
            "progress() that finds the guard itself, p50",
            "limits-progress",
            "p50",
            MICROSECONDS,
            ("kompyct",),
            ("Resiliparse",),
            (at_most(1, "kompyct"),),
        ),
        Row(
            "limits-late",
            "a loop in Python with a limit of 100 ms: how late it is left, p50",
            "limits-late",
            "p50",
            MILLISECONDS,
            ("kompyct", "kompyct, beside a thread that computes"),
            _PEERS,
            (at_most(6, "kompyct"),),
        ),
        Row(
            "limits-overshoot",
            "memory growing by 2 GB/s: how far above its limit it comes, p50",
            "limits-overshoot",
            "p50",
            MEGABYTES,
            ("kompyct",),
            _PEERS,
            (at_most(100, "kompyct"),),
        ),
        Row(
            "limits-threads",
            "threads that watch blocks far from their limits",
            "limits-idle",
            "threads",
            THREADS,
            ("kompyct", "kompyct, 100 guards", "kompyct, mem_guard"),
            _IDLE,
            (at_most(1, "kompyct"), at_most(1, "kompyct, 100 guards")),
        ),
        Row(
            "limits-wakes",
            "how often these wake in a second",
            "limits-idle",
            "wakes",
            PER_SECOND,
            ("kompyct", "kompyct, 100 guards", "kompyct, mem_guard"),
            _IDLE,
            (at_most(0, "kompyct"), at_most(0, "kompyct, 100 guards")),
        ),
        Row(
            "limits-idle",
            "for how long these run in a second",
            "limits-idle",
            "cpu",
            MICROSECONDS,
            ("kompyct", "kompyct, 100 guards", "kompyct, mem_guard"),
            _IDLE,
            (at_most(0, "kompyct"), at_most(0, "kompyct, 100 guards")),
        ),
    ),
    {
        **_cases("limits-enter", limiting.enter_time_guard, 50_000, 6, 1, batch=10),
        "limits-enter/kompyct, one for all blocks": Case(
            partial(again, make=limits.time_guard), 50_000
        ),
        **_cases("limits-enter-memory", limiting.enter_mem_guard, 50_000, 6, 1, batch=10),
        "limits-enter-memory/kompyct, one for all blocks": Case(
            partial(again, make=partial(limits.mem_guard, limiting.FAR)), 50_000
        ),
        **_cases("limits-progress", limiting.progress, 50_000, 2_000, 20),
        **_cases("limits-late", limiting.lateness, 30, 5, 1),
        "limits-late/kompyct, beside a thread that computes": Case(
            partial(measured, what=limiting.lateness, beside=True), 30, least=1
        ),
        "limits-late/Resiliparse, check_interval=1": Case(
            _looking_often(limiting.lateness), 30, least=1
        ),
        **_cases("limits-overshoot", limiting.overshoot, 5, 5, 3),
        "limits-overshoot/Resiliparse, check_interval=1": Case(
            _looking_often(limiting.overshoot), 5, least=3
        ),
        **_cases("limits-idle", limiting.idle, 6, 6, 2),
        "limits-idle/kompyct, 100 guards": Case(
            partial(measured, what=limiting.idle, guards=100), 6, least=2
        ),
        "limits-idle/kompyct, mem_guard": Case(
            partial(measured, what=limiting.idle, memory=True), 6, least=2
        ),
        "limits-idle/Resiliparse, mem_guard": Case(
            partial(resiliparse_guards.measured, what=limiting.idle, memory=True), 6, least=2
        ),
    },
)
