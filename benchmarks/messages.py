"""How fast do messages go between components of one process?"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from time import perf_counter
from typing import Any, Literal, Never

from benchmarks.measure import check, round_trips, wait_for
from benchmarks.peers import asyncio_tasks, pykka_actors, xoscar_actors
from benchmarks.plan import MICROSECONDS, PER_SECOND, Case, Group, Row, at_least, at_most
from kompyct import (
    Component,
    ComponentRef,
    ComponentSystem,
    Port,
    Provided,
    Request,
    Required,
    handles,
)

Kind = Literal["thread", "pool"]

RING = 1_000
"""Components of the ring."""

FAN = 100
"""Components between the one that fans out and the one that fans in."""


class Counter(Component[int | None]):
    """Counts messages; None is the last."""

    def __init__(self) -> None:
        self.count = 0
        self.done = threading.Event()

    def on_receive(self, message: int | None) -> None:
        self.count += 1
        if message is None:
            self.done.set()


def tell(kind: Kind, size: int) -> Mapping[str, float]:
    """`size` messages from this thread to one component, until the last is handled."""
    counter = Counter()
    ref = ComponentSystem(backend=kind).create(lambda: counter, start=True)
    start = perf_counter()
    for number in range(size - 1):
        ref.tell(number)
    ref.tell(None)
    wait_for(counter.done)
    elapsed = perf_counter() - start
    check(counter.count, size)
    return {"rate": size / elapsed}


class GetValue(Request[int]):
    """Asks for a value."""

    __slots__ = ()


class Answerer(Component[GetValue]):
    """Answers."""

    def on_receive(self, message: GetValue) -> int:
        return 1


def ask(kind: Kind, size: int, *, inline: bool = False) -> Mapping[str, float]:
    """The median round trip of `size` asks from this thread, one after the other."""
    system = ComponentSystem(backend=kind)
    ref = system.create(Answerer, inline_asks=inline)
    system.start(ref).result(5)
    request = GetValue()
    # An inline ask takes little longer than a look at the clock.
    return {"p50": round_trips(lambda: ref.ask(request), size, 100 if inline else 1)}


def hand_off(size: int) -> Mapping[str, float]:
    """The same between two threads and two locks, with nothing else: the floor of an ask."""
    there, back = threading.Lock(), threading.Lock()
    there.acquire()
    back.acquire()

    def answer() -> None:
        while True:
            there.acquire()
            back.release()

    def request() -> None:
        there.release()
        back.acquire()

    threading.Thread(target=answer, daemon=True).start()
    return {"p50": round_trips(request, size)}


class Player(Component[int]):
    """Passes a count-down on."""

    def __init__(self) -> None:
        self.next: ComponentRef[int] | None = None
        self.done = threading.Event()

    def on_receive(self, message: int) -> None:
        if message:
            self.next.tell(message - 1)  # type: ignore[union-attr]
        else:
            self.done.set()


def ring(kind: Kind, size: int, *, players: int = RING) -> Mapping[str, float]:
    """One message that goes round `players` components, `size` hops in all."""
    members = [Player() for _ in range(players)]
    system = ComponentSystem(backend=kind)
    refs = [system.create(partial(_the_one, player), start=True) for player in members]
    for player, following in zip(members, (*refs[1:], refs[0]), strict=True):
        player.next = following
    refs[0].tell(players)  # once round, so that every thread has started
    wait_for(members[0].done)
    last = members[(size - 1) % players]
    last.done.clear()
    start = perf_counter()
    refs[0].tell(size - 1)
    wait_for(last.done)
    return {"rate": size / (perf_counter() - start)}


def _the_one(player: Player) -> Player:
    return player


class Passer(Component[int | None]):
    """Passes everything on to one other."""

    def __init__(self, sink: ComponentRef[int | None]) -> None:
        self.sink = sink

    def on_receive(self, message: int | None) -> None:
        self.sink.tell(message)


def fan(kind: Kind, size: int) -> Mapping[str, float]:
    """Messages from this thread to `FAN` components in turn, which pass them on to one more.

    `size` messages are sent in all, half of them by this thread.
    """
    rounds = size // 2 // FAN
    counter = FanIn(rounds * FAN)
    system = ComponentSystem(backend=kind)
    sink = system.create(lambda: counter, start=True)
    passers = [system.create(partial(Passer, sink), start=True) for _ in range(FAN)]
    start = perf_counter()
    for number in range(rounds):
        for passer in passers:
            passer.tell(number)
    wait_for(counter.done)
    return {"rate": 2 * rounds * FAN / (perf_counter() - start)}


class FanIn(Component[int | None]):
    """Counts until `total`."""

    def __init__(self, total: int) -> None:
        self.left = total
        self.done = threading.Event()

    def on_receive(self, message: Any) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()


class Number:
    """An event, and a message."""

    __slots__ = ()


class Numbers(Port[Never, Number]):
    """Numbers."""


class Source(Component[int]):
    """Sends as many numbers as it is told, to `target` or through its port."""

    numbers = Provided(Numbers)

    def __init__(self, target: ComponentRef[Number] | None) -> None:
        self.target = target

    def on_receive(self, message: int) -> None:
        target = self.target
        for _ in range(message):
            if target is None:
                self.numbers.trigger(Number())
            else:
                target.tell(Number())


class Sink(Component[Number]):
    """Counts numbers, however they come, until `total`."""

    numbers = Required(Numbers)

    def __init__(self, total: int) -> None:
        self.left = total
        self.done = threading.Event()

    def on_receive(self, message: Number) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()

    @handles(numbers)
    def on_number(self, event: Number) -> None:
        self.on_receive(event)


BATCH = 1_000
"""Numbers that the source sends in one handler: then they are handled before there are more."""


def trigger(kind: Kind, size: int, *, by_port: bool = True) -> Mapping[str, float]:
    """`size` numbers from one component to another, through a channel or told."""
    sink = Sink(size // BATCH * BATCH)
    system = ComponentSystem(backend=kind)
    target = system.create(lambda: sink, start=True)
    source = system.create(lambda: Source(None if by_port else target), start=True)
    system.connect(Source.numbers.of(source), Sink.numbers.of(target))
    start = perf_counter()
    for _ in range(size // BATCH):
        source.tell(BATCH)
    wait_for(sink.done)
    return {"rate": size // BATCH * BATCH / (perf_counter() - start)}


CASES: Mapping[str, Case] = {
    "tell/pool": Case(partial(tell, "pool"), 2_000_000),
    "tell/thread": Case(partial(tell, "thread"), 2_000_000),
    "tell/pykka": Case(pykka_actors.tell, 300_000),
    "tell/asyncio.Queue": Case(asyncio_tasks.tell, 1_000_000),
    "tell/xoscar": Case(xoscar_actors.tell, 20_000),
    "ask/pool": Case(partial(ask, "pool"), 40_000),
    "ask/thread": Case(partial(ask, "thread"), 40_000),
    "ask/inline": Case(partial(ask, "pool", inline=True), 500_000),
    "ask/bare hand-off": Case(hand_off, 40_000),
    "ask/pykka": Case(pykka_actors.ask, 20_000),
    "ask/asyncio": Case(asyncio_tasks.ask, 40_000),
    "ask/xoscar": Case(xoscar_actors.ask, 5_000),
    "ping-pong/pool": Case(partial(ring, "pool", players=2), 1_000_000),
    "ping-pong/thread": Case(partial(ring, "thread", players=2), 200_000),
    "ping-pong/pykka": Case(partial(pykka_actors.ring, players=2), 150_000),
    "ping-pong/asyncio": Case(partial(asyncio_tasks.ring, players=2), 250_000),
    "ring/pool": Case(partial(ring, "pool"), 1_000_000),
    "ring/thread": Case(partial(ring, "thread"), 100_000),
    "ring/pykka": Case(partial(pykka_actors.ring, players=RING), 60_000),
    "ring/asyncio": Case(partial(asyncio_tasks.ring, players=RING), 250_000),
    "fan/pool": Case(partial(fan, "pool"), 2_000_000, least=2 * FAN),
    "fan/thread": Case(partial(fan, "thread"), 2_000_000, least=2 * FAN),
    "trigger/pool": Case(partial(trigger, "pool"), 1_000_000, least=BATCH),
    "trigger/thread": Case(partial(trigger, "thread"), 1_000_000, least=BATCH),
    "trigger/tell": Case(partial(trigger, "pool", by_port=False), 1_000_000, least=BATCH),
    "fan/pykka": Case(partial(pykka_actors.fan, passers=FAN), 300_000, least=2 * FAN),
    "fan/asyncio": Case(partial(asyncio_tasks.fan, passers=FAN), 600_000, least=2 * FAN),
}

GROUP = Group(
    "Messages",
    (
        Row(
            "tell",
            "tell, one producer, one component",
            "tell",
            "rate",
            PER_SECOND,
            ("pool", "thread"),
            ("pykka", "asyncio.Queue", "xoscar"),
            (at_least(10, "pool", "pykka"), at_least(10, "thread", "pykka")),
        ),
        Row(
            "ask",
            "ask, round trip, p50",
            "ask",
            "p50",
            MICROSECONDS,
            ("pool", "thread", "inline"),
            ("bare hand-off", "pykka", "asyncio", "xoscar"),
            (
                at_most(1.5, "pool", "bare hand-off"),
                at_most(0.65, "pool", "pykka"),
                at_most(1.5, "thread", "bare hand-off"),
                at_most(0.65, "thread", "pykka"),
                at_most(0.03, "inline", "pykka"),
            ),
        ),
        Row(
            "ping-pong",
            "ping-pong of two",
            "ping-pong",
            "rate",
            PER_SECOND,
            ("pool", "thread"),
            ("pykka", "asyncio"),
            (at_least(8, "pool", "pykka"), at_least(5, "pool", "asyncio")),
        ),
        Row(
            "ring",
            f"one message round a ring of {RING:,}",
            "ring",
            "rate",
            PER_SECOND,
            ("pool", "thread"),
            ("pykka", "asyncio"),
            (at_least(20, "pool", "pykka"), at_least(5, "pool", "asyncio")),
        ),
        Row(
            "trigger",
            "trigger to one channel, and its handler",
            "trigger",
            "rate",
            PER_SECOND,
            ("pool", "thread"),
            ("tell",),
            (),
        ),
        Row(
            "fan",
            f"fan-out to {FAN} and fan-in",
            "fan",
            "rate",
            PER_SECOND,
            ("pool", "thread"),
            ("pykka", "asyncio"),
            (at_least(10, "pool", "pykka"),),
        ),
    ),
    CASES,
)
