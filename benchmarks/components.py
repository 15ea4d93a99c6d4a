"""What does it cost to have components, many of them?"""

from __future__ import annotations

import gc
import threading
from collections.abc import Mapping
from functools import partial
from itertools import count
from time import perf_counter
from typing import Any, Literal

from benchmarks.measure import LIMIT, bytes_each, wait_for
from benchmarks.peers import asyncio_tasks, pykka_actors, xoscar_actors
from benchmarks.plan import BYTES, MICROSECONDS, PER_SECOND, Case, Group, Row, at_least, at_most
from kompyct import Component, ComponentRef, ComponentSystem

Kind = Literal["thread", "pool"]

MILLION = 1_000_000
THOUSAND = 1_000

SAME = 1.25
"""What still counts as the same cost."""


def start(kind: Kind, size: int) -> Mapping[str, float]:
    """Create and start `size` components, until the last `on_start` has been called."""
    done = threading.Event()
    numbers = count(1)

    class Starter(Component[None]):
        def on_start(self) -> None:
            if next(numbers) == size:
                done.set()

    system = ComponentSystem(backend=kind)
    begin = perf_counter()
    refs = [system.create(Starter, start=True) for _ in range(size)]
    wait_for(done)
    return {"rate": len(refs) / (perf_counter() - begin)}


class Idle(Component[None]):
    """Does nothing, and has nothing of its own."""

    def on_receive(self, message: None) -> None:
        pass


class UsersObject:
    """As big as an `Idle` that no system has made."""


def memory(size: int) -> Mapping[str, float]:
    """Resident bytes of each of `size` started components and its ref, the user's object aside."""
    system = ComponentSystem(backend="pool")
    users = bytes_each(lambda _: UsersObject(), size)

    def make(_: int) -> ComponentRef[None]:
        return system.create(Idle, start=True)

    def settle(refs: list[Any]) -> None:
        # The last has started, so all have: one worker starts them in order.
        system.start(refs[-1]).result(LIMIT)

    return {"bytes": bytes_each(make, size, settle) - users}


def live(size: int, rounds: int, *, frozen: bool = False) -> Mapping[str, float]:
    """Create and start `size` components, tell each once, kill each; µs for each.

    They are killed a thousand at a time, so that not a million futures wait at once. `rounds`
    times over, after one round to warm up if there are several; the sums count.

    Args:
        frozen: do as docs/backends.md advises for very many: create them with the garbage
            collector disabled, freeze them, and enable it for the rest.
    """
    if frozen:
        gc.disable()
    system = ComponentSystem(backend="pool")
    created = told = killed = 0.0
    for number in range(rounds + (rounds > 1)):
        numbers = count(1)
        started, handled = threading.Event(), threading.Event()
        live_one = _live_one(size, numbers, started, handled)
        begin = perf_counter()
        refs = [system.create(live_one, start=True) for _ in range(size)]
        wait_for(started)
        if frozen:
            gc.freeze()
            gc.enable()
        ready = perf_counter()
        for ref in refs:
            ref.tell(None)
        wait_for(handled)
        idle = perf_counter()
        for first in range(0, size, THOUSAND):
            for future in [system.kill(ref) for ref in refs[first : first + THOUSAND]]:
                future.result(LIMIT)
        end = perf_counter()
        if number or rounds == 1:
            created += ready - begin
            told += idle - ready
            killed += end - idle
    each = 1e6 / size / rounds
    return {"create": created * each, "tell": told * each, "kill": killed * each}


def _live_one(
    size: int, numbers: count[int], started: threading.Event, handled: threading.Event
) -> type[Component[None]]:
    class Live(Component[None]):
        def on_start(self) -> None:
            if next(numbers) == size:
                started.set()

        def on_receive(self, message: None) -> None:
            if next(numbers) == 2 * size:
                handled.set()

    return Live


CASES: Mapping[str, Case] = {
    "start/pool": Case(partial(start, "pool"), 10_000),
    "start/thread": Case(partial(start, "thread"), 10_000),
    "start/pykka": Case(pykka_actors.start, 10_000),
    "start/asyncio": Case(asyncio_tasks.start, 10_000),
    "start/xoscar": Case(xoscar_actors.start, 10_000),
    "memory/pool, 100,000": Case(memory, 100_000),
    "memory/pool, 1,000,000": Case(memory, MILLION, max_repeats=3),
    "memory/pykka": Case(pykka_actors.memory, 2_000),
    "memory/asyncio": Case(asyncio_tasks.memory, 20_000),
    "memory/xoscar": Case(xoscar_actors.memory, 20_000),
    "live/1,000,000": Case(partial(live, rounds=1), MILLION, max_repeats=3),
    "live/1,000": Case(partial(live, rounds=50), THOUSAND, max_repeats=3),
    "live/1,000,000, frozen": Case(partial(live, rounds=1, frozen=True), MILLION, max_repeats=3),
}


def _live_row(quantity: str, what: str) -> Row:
    return Row(
        f"live-{quantity}",
        f"{what}, each of so many that live at once",
        "live",
        quantity,
        MICROSECONDS,
        ("1,000,000, frozen", "1,000,000"),
        ("1,000",),
        (at_most(SAME, "1,000,000, frozen", "1,000"),),
    )


GROUP = Group(
    "Components",
    (
        Row(
            "start",
            "create and start 10,000",
            "start",
            "rate",
            PER_SECOND,
            ("pool", "thread"),
            ("pykka", "asyncio", "xoscar"),
            (at_least(40, "pool", "pykka"),),
        ),
        Row(
            "memory",
            "memory of an idle component, the user's object aside",
            "memory",
            "bytes",
            BYTES,
            ("pool, 100,000", "pool, 1,000,000"),
            ("pykka", "asyncio", "xoscar"),
            (at_most(800, "pool, 100,000"), at_most(800, "pool, 1,000,000")),
        ),
        _live_row("create", "create and start"),
        _live_row("tell", "tell once"),
        _live_row("kill", "kill"),
    ),
    CASES,
)
