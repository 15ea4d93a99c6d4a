"""Lines that a type checker must take. Checked by tests/test_typing.py, never run."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Never, assert_type

from pykka import ThreadingActor

from kompyct import (
    Broadcast,
    ByKey,
    Channel,
    Component,
    ComponentRef,
    ComponentSystem,
    FaultClass,
    FaultContext,
    Port,
    Provided,
    RecoveryHandler,
    Request,
    Required,
    RestartLimit,
    RoundRobin,
    Terminated,
    adopt,
    handles,
)
from kompyct.events import ComponentFaulted, Event
from kompyct.testing import EventRecorder, TestSystem


@dataclass(frozen=True)
class GetCount(Request[int]):
    pass


@dataclass(frozen=True)
class GetName(Request[str]):
    pass


@dataclass(frozen=True)
class Add:
    number: int


class Counter(Component[GetCount | GetName | Add]):
    fault_classes: ClassVar[Mapping[type[BaseException], FaultClass]] = {
        OSError: FaultClass.BENIGN
    }

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def on_start(self) -> None:
        timer = self.schedule_periodic(0.1, 1.0, self.save)
        timer.cancel()
        self.schedule_once(1.0, partial(print, "late"))
        self.schedule_periodic(1.0, 1.0, self.save, missed="burst")
        self.save()
        self.ref.tell(Add(1))

    def on_receive(self, message: GetCount | GetName | Add) -> object:
        match message:
            case GetCount():
                return self.count
            case GetName():
                return "counter"
            case Add(number):
                self.count += number
                return None
            case _:
                self.unhandled(message)

    def save(self) -> None:
        self.set_recovery_function(recover, snapshot=self.count)


class Actor(ThreadingActor):
    pass


class Plain(Component[str]):
    """Its recovery function closes over plain values, as in Kompact."""

    def on_receive(self, message: str) -> None:
        count = len(message)
        self.set_recovery_function(lambda fault: fault.restart(partial(Plain.of, count)))

    @classmethod
    def of(cls, count: int) -> Plain:
        return cls() if count else Plain()


def recover(fault: FaultContext[int]) -> RecoveryHandler:
    assert_type(fault.snapshot, int)
    assert_type(fault.older_snapshots, tuple[int, ...])
    if fault.suspect > 2:
        return fault.escalate()
    if fault.attempt > 2:
        return fault.recover_with(act)
    return fault.restart(lambda: Counter(fault.snapshot + 1))


def act(fault: FaultContext[int], system: ComponentSystem, log: Any) -> RecoveryHandler | None:
    system.create(Counter, name="successor")
    return fault.restart_default(Counter) if fault.has_snapshot else None


def use(system: ComponentSystem) -> None:
    counter = system.create(Counter, name="counter")
    assert_type(counter, ComponentRef[GetCount | GetName | Add])
    system.create(partial(Counter, 3), budget=RestartLimit(3, 1.0), fallback="restart")
    system.create(lambda: Counter(4), backend="pool", mailbox_limit=10, overflow="drop_old")
    assert_type(system.start(counter), Future[None])
    counter.tell(Add(1))
    counter.tell(GetCount())
    assert_type(counter.ask(GetCount()), int)
    assert_type(counter.ask(GetName(), timeout=None), str)
    assert_type(counter.ask(GetCount(), block=False), Future[int])
    counter.set_recovery_function(recover, snapshot=0)
    adding: ComponentRef[Add] = counter  # a ref takes fewer types of messages where that is asked
    adding.tell(Add(2))
    system.create(adopt(Actor))


def send(system: ComponentSystem, counter: ComponentRef[GetCount | GetName | Add]) -> None:
    route = RoundRobin([counter])
    route.tell(Add(1))
    assert_type(route.ask(GetCount()), int)
    assert_type(route.ask(GetName(), block=False), Future[str])
    assert_type(Broadcast([counter]).ask(GetName()), list[str])
    ByKey([counter], key=lambda message: ("all", 3)).tell(GetCount())
    RoundRobin(system.group("counters")).tell(Add(1))
    adding: RoundRobin[Add] = route
    adding.tell(Add(2))
    assert_type(system.ended(counter).result(), Terminated)
    system.register("counter", counter)


async def use_async(counter: ComponentRef[GetCount]) -> None:
    assert_type(await counter.ask_async(GetCount(), 1.0), int)


def observe(recorder: EventRecorder) -> list[Event]:
    with ComponentSystem(on_event=recorder, backend="pool") as system:
        system.start(system.create(Plain))
    with TestSystem() as tested:
        tested.advance(1.0)
        assert_type(tested.events.of(ComponentFaulted), list[ComponentFaulted])
    return [*recorder]


class Batches(Port[Add | GetName, int]):
    pass


class Ticks(Port[Never, str]):
    pass


class Buncher(Component[int]):
    batches = Provided(Batches)
    ticks = Required(Ticks)

    @handles(batches)
    def on_request(self, event: Add | GetName) -> None:
        assert_type(event, Add | GetName)
        self.batches.trigger(3)

    @handles(ticks)
    def on_tick(self, event: object) -> None:  # takes more than may come
        self.on_request(Add(1))


class Printer(Component[Never]):
    batches = Required(Batches)
    ticks = Provided(Ticks)

    @handles(batches)
    def on_batch(self, event: int) -> None:
        self.batches.trigger(Add(event))
        self.batches.trigger(GetName())
        self.ticks.trigger("text")


class LoudPrinter(Printer):
    def on_batch(self, event: int) -> None:
        super().on_batch(event + 1)


def connect(system: ComponentSystem) -> None:
    buncher, printer = system.create(Buncher), system.create(LoudPrinter)
    channel = system.connect(Buncher.batches.of(buncher), LoudPrinter.batches.of(printer))
    assert_type(channel, Channel)
    assert_type(Buncher.batches, Provided[Add | GetName, int])
    assert_type(Buncher.ticks, Required[Never, str])
    system.connect(Printer.ticks.of(printer), Buncher.ticks.of(buncher)).disconnect()
    system.disconnect(channel)
