"""How long does it take from a fault to the replacement, and what do very many faults cost?

Everything is on: recovery function, snapshot, events to `on_event`, recovery report, logging. The
logger `kompyct` has a handler that drops its lines, since fifty a second would be printed.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections.abc import Mapping
from functools import partial
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any, Literal

from benchmarks.measure import check, resident_bytes, wait_for
from benchmarks.peers import pykka_actors
from benchmarks.plan import MEGABYTES, MICROSECONDS, SECONDS, Case, Group, Row, at_most
from kompyct import Component, ComponentSystem, FaultContext, RecoveryHandler, RestartLimit
from kompyct.events import ComponentRecovered, Event

Kind = Literal["thread", "pool"]

UNLIMITED = RestartLimit(10**9, 0.001)
"""A budget that allows every fault, and keeps few of their times."""


class Trial:
    """What the incarnations of one component share."""

    def __init__(self, faults: int) -> None:
        self.faults = faults
        # ns from just before `raise` to the replacement's on_start; of a size that is there first
        self.samples = array("q", bytes(8 * faults))
        self.recovered = 0
        self.raised_at = 0
        self.reports = 0
        self.done = threading.Event()

    def on_event(self, event: Event) -> None:
        """Count the recovery reports."""
        if type(event) is ComponentRecovered:
            self.reports += 1
            if self.reports == self.faults:
                self.done.set()


class Faulty(Component[None]):
    """Faults as soon as it has started, until there were faults enough."""

    def __init__(self, trial: Trial, state: dict[str, int]) -> None:
        self.trial = trial
        self.state = state

    def on_start(self) -> None:
        trial = self.trial
        if trial.raised_at:
            trial.samples[trial.recovered] = perf_counter_ns() - trial.raised_at
            trial.recovered += 1
        if self.state["faults"] < trial.faults:
            self.ref.tell(None)

    def on_receive(self, message: None) -> None:
        self.state["faults"] += 1
        self.set_recovery_function(partial(_recover, self.trial), snapshot=self.state)
        self.trial.raised_at = perf_counter_ns()
        raise ValueError("as the benchmark wants it")


def _recover(trial: Trial, fault: FaultContext[dict[str, int]]) -> RecoveryHandler:
    return fault.restart(partial(Faulty, trial, fault.snapshot))


def restart(kind: Kind, size: int) -> Mapping[str, float]:
    """Times of `size` recoveries of one component, driven by itself; the growth of memory.

    It does the next fault when it has started, so that no other thread disturbs.
    """
    logging.getLogger("kompyct").addHandler(logging.NullHandler())
    warm_up = Trial(max(size // 10, 1))
    _run(kind, warm_up)
    trial = Trial(size)
    before = resident_bytes()
    start = perf_counter()
    _run(kind, trial)
    elapsed = perf_counter() - start
    grown = resident_bytes() - before
    check(trial.recovered, size)
    return {"p50": median(trial.samples) / 1e3, "total": elapsed, "grown": grown / 1e6}


def _run(kind: Kind, trial: Trial) -> None:
    with ComponentSystem(backend=kind, on_event=trial.on_event) as system:
        state: dict[str, Any] = {"faults": 0}
        system.create(partial(Faulty, trial, state), budget=UNLIMITED, start=True)
        wait_for(trial.done)


CASES: Mapping[str, Case] = {
    "restart/pool": Case(partial(restart, "pool"), 20_000),
    "restart/thread": Case(partial(restart, "thread"), 10_000),
    "restart/pykka, by hand": Case(pykka_actors.restart, 5_000),
    "storm/pool": Case(partial(restart, "pool"), 100_000),
    "storm/thread": Case(partial(restart, "thread"), 100_000),
}

GROUP = Group(
    "Faults",
    (
        Row(
            "restart",
            "exception to replacement started, p50",
            "restart",
            "p50",
            MICROSECONDS,
            ("pool", "thread"),
            ("pykka, by hand",),
            (at_most(25, "pool"), at_most(60, "thread")),
        ),
        Row(
            "storm",
            "100,000 faults, one after the other",
            "storm",
            "total",
            SECONDS,
            ("pool", "thread"),
            goals=(at_most(3, "pool"), at_most(6, "thread")),
        ),
        Row(
            "storm-memory",
            "100,000 faults, growth of resident memory",
            "storm",
            "grown",
            MEGABYTES,
            ("pool", "thread"),
            goals=(at_most(20, "pool"), at_most(20, "thread")),
        ),
    ),
    CASES,
)
