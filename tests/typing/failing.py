"""Lines that a type checker must refuse, each marked with `# E:` and the reason.

Checked by tests/test_typing.py and left out of the ordinary runs; never run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Never

from kompyct import (
    Broadcast,
    ByKey,
    Component,
    ComponentRef,
    ComponentSystem,
    FaultContext,
    Port,
    Provided,
    RecoveryHandler,
    Request,
    Required,
    RestartLimit,
    RoundRobin,
    adopt,
    handles,
)


@dataclass(frozen=True)
class GetCount(Request[int]):
    pass


@dataclass(frozen=True)
class Add:
    number: int


class Counter(Component[GetCount | Add]):
    def __init__(self, count: int = 0) -> None:
        self.count = count

    def on_start(self) -> None:
        self.ref.tell("text")  # E: not a message it takes
        self.schedule_once("soon", self.save)  # E: a delay is a number
        self.schedule_once(1.0, self.take)  # E: an action has no arguments
        self.schedule_periodic(1.0, 1.0, self.save, missed="some")  # E: no such choice
        self.schedule_periodic(1.0, 1.0, self.save, "skip")  # E: keyword only
        self.set_recovery_function(recover, self.count)  # E: keyword only
        self.set_recovery_function(no_handler)  # E: returns no handler

    def on_receive(self, message: GetCount | Add) -> object:
        return self.count

    def save(self) -> None:
        pass

    def take(self, number: int) -> None:
        pass


class Narrow(Component[GetCount | Add]):
    def on_receive(self, message: GetCount) -> int:  # E: takes less than it says
        return 0


class NeedsCount(Component[GetCount]):
    def __init__(self, count: int) -> None:
        self.count = count


def recover(fault: FaultContext[int]) -> RecoveryHandler:
    text: str = fault.snapshot  # E: the snapshot is an int
    texts: tuple[str, ...] = fault.older_snapshots  # E: they are ints
    fault.snapshot.upper()  # E: the snapshot is an int
    fault.restart(NeedsCount)  # E: it needs an argument
    fault.restart(lambda: fault.snapshot)  # E: makes no component
    fault.restart_default(int)  # E: makes no component
    fault.recover_with(act_on_text)  # E: for another snapshot
    fault.attempt = 3  # E: immutable
    return fault.snapshot  # E: no handler


def act_on_text(fault: FaultContext[str], system: Any, log: Any) -> None:
    pass


def no_handler(fault: FaultContext[int]) -> int:
    return fault.snapshot


def use(system: ComponentSystem) -> None:
    counter = system.create(Counter)
    counter.tell("text")  # E: not a message it takes
    counter.tell(3)  # E: not a message it takes
    text: str = counter.ask(GetCount())  # E: the reply is an int
    counter.ask(Add(1))  # E: no request
    counter.ask(GetCount(), 1.0, False)  # E: keyword only
    counter.ask(GetCount(), block=False).result().upper()  # E: the reply is an int
    wider: ComponentRef[GetCount | Add | str] = counter  # E: it takes no str
    system.create(Counter())  # E: no factory
    system.create(int)  # E: makes no component
    system.create(NeedsCount)  # E: it needs an argument
    system.create(partial(Counter, "three"))  # E: its count is an int
    system.create(Counter, backend="fork")  # E: no such backend
    system.create(Counter, "counter")  # E: keyword only
    system.create(Counter, budget=3)  # E: no RestartLimit
    system.create(Counter, fallback="ignore")  # E: no such fallback
    system.start(counter).result().upper()  # E: the future has no value
    system.start("counter")  # E: no ref
    system.find("counter").tell(Add(1))  # E: it may be None
    system.create(adopt(Counter))  # E: no pykka actor
    ComponentSystem(on_event=print_two)  # E: takes one event
    RestartLimit("three")  # E: a number
    RoundRobin([counter]).tell("text")  # E: not a message they take
    RoundRobin(counter)  # E: no group, and no list
    text = RoundRobin([counter]).ask(GetCount())  # E: the reply is an int
    Broadcast([counter]).ask(GetCount()).upper()  # E: the replies are a list
    ByKey([counter])  # E: it needs a key
    ByKey([counter], key=lambda message: 1.5)  # E: no such key
    system.whereis("counter").tell(Add(1))  # E: it may be None
    system.ended("counter")  # E: no ref
    system.group("counters").join("counter")  # E: no ref


async def use_async(counter: ComponentRef[GetCount | Add]) -> None:
    text: str = await counter.ask_async(GetCount())  # E: the reply is an int


def print_two(first: int, second: int) -> None:
    pass


class Batches(Port[Add | GetCount, int]):
    pass


class Ticks(Port[Never, str]):
    pass


class Buncher(Component[Add]):
    batches = Provided(Batches)
    ticks = Required(Ticks)
    adds = Provided(Add)  # E: no port

    @handles(batches)  # E: takes less than may come
    def on_request(self, event: Add) -> None:
        self.batches.trigger("text")  # E: no event of this port
        self.batches.trigger(Add(1))  # E: an event of the other direction
        self.ticks.trigger("tick")  # E: no event in this direction
        Buncher.batches.trigger(1)  # E: not from outside

    @handles(ticks)  # E: takes something else
    def on_tick(self, event: int) -> None:
        pass

    @handles(Batches)  # E: no declaration
    def on_other(self, event: Add | GetCount) -> None:
        pass


class Printer(Component[Add]):
    batches = Required(Batches)

    @handles(batches)  # E: takes something else
    def on_batch(self, event: str) -> None:
        self.batches.trigger(3)  # E: an event of the other direction

    @handles(batches)  # E: there is nobody to reply to
    def on_ask(self, event: int) -> int:
        return event


class Quiet(Component[Add]):
    batches = Required(Batches)

    @handles(batches)
    def on_batch(self, event: int) -> None:
        pass


class Loud(Quiet):
    def on_batch(self, event: str) -> None:  # E: takes something else
        pass


def connect(system: ComponentSystem, ref: ComponentRef[Add]) -> None:
    system.connect(Buncher.batches.of(ref), Buncher.ticks.of(ref))  # E: of another type
    system.connect(Buncher.batches.of(ref), Buncher.batches.of(ref))  # E: provided twice
    system.connect(Printer.batches.of(ref), Buncher.batches.of(ref))  # E: the wrong way round
    system.connect(Printer.batches.of(ref), Printer.batches.of(ref))  # E: required twice
    system.connect(ref, ref)  # E: no ports
    system.disconnect(ref)  # E: no channel
    Printer.batches.of(3)  # E: no ref
