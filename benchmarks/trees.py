"""What does a child of a supervisor cost, of few and of very many?"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from time import perf_counter
from typing import ClassVar

from benchmarks.measure import LIMIT, wait_for
from benchmarks.plan import MICROSECONDS, Case, Group, Row, at_most
from kompyct import (
    ChildSpec,
    Component,
    ComponentRef,
    ComponentSupervisor,
    ComponentSystem,
    StartChild,
)

HUNDRED = 100
HUNDRED_THOUSAND = 100_000

SAME = 1.25
"""What still counts as the same cost."""


class Boom(Exception):
    """What the children fault with."""


def dynamic(size: int, rounds: int, *, frozen: bool = False) -> Mapping[str, float]:
    """Start `size` dynamic children, have each fault once, end their supervisor; µs for each.

    A hundred are asked for at a time, and fault at a time. `rounds` times over, after one round
    to warm up if there are several; the sums count.

    Args:
        frozen: do as docs/backends.md advises for very many, see `components.live`.
    """
    logging.disable(logging.CRITICAL)  # a line for each fault would be most of what is measured
    started = faulted = stopped = 0.0
    with ComponentSystem(backend="pool") as system:
        for number in range(rounds + (rounds > 1)):
            supervisor = system.create(
                ComponentSupervisor(strategy="dynamic", restart_limit=None), name=f"top {number}"
            )
            system.start(supervisor).result(LIMIT)
            if frozen:
                gc.disable()
            _Child.on_starts.clear()
            begin = perf_counter()
            refs = _start(supervisor, _Child, size)
            ready = perf_counter()
            if frozen:
                gc.freeze()
                gc.enable()
            if number or rounds == 1:
                started += ready - begin
            again = threading.Event()
            _Child.on_starts[:] = [partial(_count, count(1), size, again)]
            begin = perf_counter()
            for ref in refs:
                ref.tell(None)
            wait_for(again)
            idle = perf_counter()
            system.kill(supervisor).result(LIMIT)
            end = perf_counter()
            if number or rounds == 1:
                faulted += idle - begin
                stopped += end - idle
    each = 1e6 / size / rounds
    return {"start": started * each, "fault": faulted * each, "stop": stopped * each}


class _Child(Component[None]):
    on_starts: ClassVar[list[Callable[[], object]]] = []

    def on_start(self) -> None:
        for call in self.on_starts:
            call()

    def on_receive(self, message: None) -> None:
        raise Boom


def _count(numbers: count[int], size: int, done: threading.Event) -> None:
    if next(numbers) == size:
        done.set()


def _start(
    supervisor: ComponentRef[object], factory: Callable[[], _Child], size: int
) -> list[ComponentRef[object]]:
    refs: list[ComponentRef[object]] = []
    spec = ChildSpec(factory=factory)
    for first in range(0, size, HUNDRED):
        asked = [
            supervisor.ask(StartChild(spec), block=False)
            for _ in range(min(HUNDRED, size - first))
        ]
        for future in asked:
            ref = future.result(LIMIT)
            assert ref is not None
            refs.append(ref)
    return refs


CASES: Mapping[str, Case] = {
    "tree/100,000": Case(partial(dynamic, rounds=1), HUNDRED_THOUSAND, max_repeats=3),
    "tree/100": Case(partial(dynamic, rounds=100), HUNDRED, max_repeats=3),
    "tree/100,000, frozen": Case(
        partial(dynamic, rounds=1, frozen=True), HUNDRED_THOUSAND, max_repeats=3
    ),
}


def _row(quantity: str, what: str) -> Row:
    return Row(
        f"tree-{quantity}",
        f"{what}, each of so many dynamic children of one supervisor",
        "tree",
        quantity,
        MICROSECONDS,
        ("100,000, frozen", "100,000"),
        ("100",),
        (at_most(SAME, "100,000, frozen", "100"),),
    )


GROUP = Group(
    "Trees",
    (
        _row("start", "start"),
        _row("fault", "fault and be restarted"),
        _row("stop", "stop with its supervisor"),
    ),
    CASES,
)
