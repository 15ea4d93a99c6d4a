"""Do events pass between ports as declared and connected, and is everything else refused?

The same over the process backend is in `tests/process/test_ports.py`.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import types
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Never, Protocol, cast

import pytest

from kompyct import (
    Channel,
    Component,
    ComponentRef,
    ComponentSystem,
    FaultClass,
    FaultContext,
    FaultKind,
    OnRestart,
    Phase,
    Port,
    Provided,
    RecoveryHandler,
    Request,
    Required,
    events,
    handles,
)
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    ChannelError,
    ComponentDestroyedError,
    IncarnationEndedError,
    InvalidComponentError,
    NotStartedError,
    PortAccessError,
    PortTypeError,
    ReservedNameError,
    RestartingError,
    UnboundComponentError,
)
from kompyct.testing import TestSystem, fail_event, hang
from tests.conftest import LIMIT, Bench

Make = Callable[..., Bench]


@dataclass(frozen=True)
class Flush:
    """Wants the batch that is there."""

    why: str = ""


@dataclass(frozen=True)
class Reset:
    """Throws it away."""


@dataclass(frozen=True)
class Batch:
    """Some numbers."""

    numbers: tuple[Any, ...] = ()


class BigBatch(Batch):
    """A batch as well."""


@dataclass(frozen=True)
class SureBatch(Batch):
    """Comes back to the next incarnation."""

    on_restart: ClassVar[OnRestart] = OnRestart.REDELIVER


class Batches(Port[Flush | Reset, Batch]):
    """Numbers in batches."""


class Other(Port[Flush, Batch]):
    """Of another type, though its events are nearly the same."""


@dataclass(frozen=True)
class Do(Request[Any]):
    """Has `action(component)` called; answered with what that returns."""

    action: Callable[[Any], object]


class Doer(Component[Do]):
    """Notes what comes, and does what it is told."""

    def __init__(self, recovery: Any = None) -> None:
        self.seen: list[Any] = []
        if recovery is not None:
            self.set_recovery_function(recovery)

    def on_receive(self, message: Do) -> object:
        return message.action(self)


class Source(Doer):
    """Provides batches."""

    batches = Provided(Batches)

    @handles(batches)
    def on_request(self, event: Flush | Reset) -> None:
        self.seen.append(event)


class Sink(Doer):
    """Requires batches."""

    batches = Required(Batches)

    @handles(batches)
    def on_batch(self, event: Batch) -> None:
        self.seen.append(event)
        if event.numbers and callable(event.numbers[0]):
            event.numbers[0](self)


class Link(Doer):
    """Both."""

    upstream = Required(Batches)
    downstream = Provided(Batches)

    @handles(upstream)
    def on_batch(self, event: Batch) -> None:
        self.seen.append(event)
        self.downstream.trigger(event)

    @handles(downstream)
    def on_request(self, event: Flush | Reset) -> None:
        self.seen.append(event)
        self.upstream.trigger(event)


def made(bench: Bench, factory: Callable[[], Component[Any]], **options: Any) -> Any:
    """A ref of a started component."""
    options.setdefault("start", True)
    return bench.system.create(factory, **options)


def do(ref: ComponentRef[Do], action: Callable[[Any], object]) -> Any:
    return ref.ask(Do(action), timeout=LIMIT)


def seen(ref: ComponentRef[Do]) -> list[Any]:
    """What has come to it so far."""
    return cast("list[Any]", do(ref, lambda component: list(component.seen)))


def indicate(ref: ComponentRef[Do], *batches: Batch) -> None:
    """Have a source trigger these."""
    do(ref, lambda source: [source.batches.trigger(batch) for batch in batches])


def connected(bench: Bench, sinks: int = 1, **options: Any) -> tuple[Any, ...]:
    """A source, and sinks that are connected to it."""
    source = made(bench, Source)
    refs = [made(bench, Sink, **options) for _ in range(sinks)]
    for ref in refs:
        bench.system.connect(Source.batches.of(source), Sink.batches.of(ref))
    return (source, *refs)


def again(fault: FaultContext[Any]) -> RecoveryHandler:
    return fault.restart()


# -- what passes -----------------------------------------------------------------------------


def test_indications_go_to_everyone_connected_and_requests_to_the_provider(bench: Bench) -> None:
    """Issue 6: Given two sinks of three connected, then these get what the source triggers, and
    the source gets what any of them does, and nobody gets anything else."""
    source, one, two = connected(bench, sinks=2)
    alone = made(bench, Sink)
    indicate(source, Batch((1,)))
    do(one, lambda sink: sink.batches.trigger(Flush()))
    do(two, lambda sink: sink.batches.trigger(Reset()))
    do(alone, lambda sink: sink.batches.trigger(Flush("nobody hears")))
    assert seen(one) == seen(two) == [Batch((1,))]
    assert seen(source) == [Flush(), Reset()]
    assert seen(alone) == []


def test_a_required_port_may_be_connected_to_several_providers(bench: Bench) -> None:
    """Given a sink of two sources, then both get its requests, and it both their indications."""
    sources = [made(bench, Source) for _ in range(2)]
    sink = made(bench, Sink)
    for number, source in enumerate(sources):
        bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))
        indicate(source, Batch((number,)))
    do(sink, lambda sink: sink.batches.trigger(Flush()))
    assert [seen(source) for source in sources] == [[Flush()], [Flush()]]
    assert seen(sink) == [Batch((0,)), Batch((1,))]


def test_events_and_tells_of_one_sender_arrive_in_the_order_sent(bench: Bench) -> None:
    """Given a source that tells and triggers in turns, then the sink handles them in that order,
    across several turns (a turn takes 256)."""
    source, sink = connected(bench)

    def note(number: int, sink: Any) -> None:
        sink.seen.append(Batch((number,)))

    def alternate(source: Any) -> None:
        for number in range(0, 600, 2):
            source.batches.trigger(Batch((number,)))
            sink.tell(Do(partial(note, number + 1)))

    do(source, alternate)
    assert seen(sink) == [Batch((number,)) for number in range(600)]


def test_a_subclass_of_an_event_passes(bench: Bench) -> None:
    """Given an event of a class derived from the port's, then it is one of the port's."""
    source, sink = connected(bench)
    indicate(source, BigBatch((1,)))
    assert [type(event) for event in seen(sink)] == [BigBatch]


def test_events_to_a_passive_component_wait(bench: Bench) -> None:
    """Given a sink that has not started, or is paused, then events wait for its next start."""
    source, sink = connected(bench, start=False)
    indicate(source, Batch((1,)))
    bench.settle()
    bench.system.start(sink).result(LIMIT)
    assert seen(sink) == [Batch((1,))]
    bench.system.stop(sink).result(LIMIT)
    indicate(source, Batch((2,)))
    bench.settle()
    bench.system.start(sink).result(LIMIT)
    assert seen(sink) == [Batch((1,)), Batch((2,))]


def test_events_are_triggered_from_hooks_timers_and_handlers(bench: Bench) -> None:
    """Given `on_start`, a timer, a handler, `on_stop` and `on_kill`, then each may trigger."""

    class Telling(Source):
        def on_start(self) -> None:
            self.batches.trigger(Batch(("start",)))
            self.schedule_once(0.0, lambda: self.batches.trigger(Batch(("timer",))))

        def on_stop(self) -> None:
            self.batches.trigger(Batch(("stop",)))

    source = made(bench, Telling, start=False)
    sink = made(bench, Sink)
    bench.system.connect(Telling.batches.of(source), Sink.batches.of(sink))
    bench.system.start(source).result(LIMIT)
    bench.until(lambda: len(seen(sink)) == 2)
    bench.system.stop(source).result(LIMIT)
    bench.system.start(source).result(LIMIT)
    bench.until(lambda: len(seen(sink)) == 5)
    bench.system.kill(source).result(LIMIT)
    told = [event.numbers[0] for event in seen(sink)]
    assert told == ["start", "timer", "stop", "start", "timer", "stop"]


def test_an_inline_ask_may_trigger(bench: Bench) -> None:
    """Given a handler that runs on the thread of its asker, then its events pass all the same."""
    source = made(bench, Source, inline_asks=True)
    sink = made(bench, Sink, inline_asks=True)
    bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))
    bench.system.start(source).result(LIMIT)
    indicate(source, Batch((1,)))
    bench.until(lambda: seen(sink) == [Batch((1,))])


def test_a_component_may_have_a_port_type_twice(bench: Bench) -> None:
    """Given two ports of one type, then each has its own channels and handlers."""

    class Two(Doer):
        left = Required(Batches)
        right = Required(Batches)

        @handles(left)
        def on_left(self, event: Batch) -> None:
            self.seen.append(("left", event.numbers))

        @handles(right)
        def on_right(self, event: Batch) -> None:
            self.seen.append(("right", event.numbers))

    source, two = made(bench, Source), made(bench, Two)
    bench.system.connect(Source.batches.of(source), Two.right.of(two))
    indicate(source, Batch((1,)))
    bench.system.connect(Source.batches.of(source), Two.left.of(two))
    indicate(source, Batch((2,)))
    assert seen(two) == [("right", (1,)), ("right", (2,)), ("left", (2,))]
    do(two, lambda two: two.left.trigger(Flush()))
    assert seen(source) == [Flush()]


def test_one_method_may_handle_two_ports_and_a_subclass_may_take_its_place(bench: Bench) -> None:
    """Given a handler of two ports, and an override without any decorator, then that is called."""

    class Both(Doer):
        left = Required(Batches)
        right = Required(Batches)

        @handles(left)
        @handles(right)
        def on_batch(self, event: Batch) -> None:
            raise AssertionError("overridden")

    class Louder(Both):
        def on_batch(self, event: Batch) -> None:
            self.seen.append(event)

    source, both = made(bench, Source), made(bench, Louder)
    bench.system.connect(Source.batches.of(source), Louder.left.of(both))
    bench.system.connect(Source.batches.of(source), Both.right.of(both))
    indicate(source, Batch((1,)))
    assert seen(both) == [Batch((1,)), Batch((1,))]


def test_a_subclass_may_handle_an_inherited_port_by_another_method(bench: Bench) -> None:
    """Given `@handles(Sink.batches)` in a subclass, then that method has the last word."""

    class Mine(Sink):
        @handles(Sink.batches)
        def on_mine(self, event: Batch) -> None:
            self.seen.append("mine")

    source, mine = made(bench, Source), made(bench, Mine)
    bench.system.connect(Source.batches.of(source), Mine.batches.of(mine))
    indicate(source, Batch((1,)))
    assert seen(mine) == ["mine"]


def test_ports_may_come_from_a_class_that_is_no_component(bench: Bench) -> None:
    """Given a declaration in a mixin, on either side of the component's base, then it counts."""

    class Batching:
        batches = Required(Batches)
        seen: list[Any]

        @handles(batches)
        def on_batch(self, event: Batch) -> None:
            self.seen.append(event)

    class First(Batching, Doer):
        pass

    class Last(Doer, Batching):
        pass

    source = made(bench, Source)
    refs = [made(bench, First), made(bench, Last)]
    for ref in refs:
        bench.system.connect(Source.batches.of(source), Batching.batches.of(ref))
    indicate(source, Batch((1,)))
    assert [seen(ref) for ref in refs] == [[Batch((1,))], [Batch((1,))]]


# -- disconnecting, and ends -----------------------------------------------------------------


def test_a_channel_ends_by_disconnect_once(bench: Bench) -> None:
    """Given a channel, when it is disconnected, then nothing passes any more, in either direction;
    a second time nothing happens, also if the two are connected again meanwhile."""
    source, sink, other = connected(bench, sinks=2)
    ports = (Source.batches.of(source), Sink.batches.of(sink))
    with pytest.raises(ChannelError):
        bench.system.connect(*ports)
    only = made(bench, Sink)
    channel = bench.system.connect(ports[0], Sink.batches.of(only))
    assert isinstance(channel, Channel)
    assert (channel.provided, channel.required) == (ports[0], Sink.batches.of(only))
    indicate(source, Batch((1,)))
    channel.disconnect()
    indicate(source, Batch((2,)))
    do(only, lambda sink: sink.batches.trigger(Flush()))
    channel.disconnect()
    bench.system.disconnect(channel)
    later = bench.system.connect(ports[0], Sink.batches.of(only))
    channel.disconnect()
    indicate(source, Batch((3,)))
    assert later != channel
    assert seen(only) == [Batch((1,)), Batch((3,))]
    assert seen(other) == [Batch((1,)), Batch((2,)), Batch((3,))]
    assert seen(source) == []


def test_what_is_in_the_mailbox_when_a_channel_ends_is_handled(bench: Bench) -> None:
    """Given an event that waits, when its channel ends, then it was sent before, and arrives."""
    source, sink = made(bench, Source), made(bench, Sink, start=False)
    channel = bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))
    indicate(source, Batch((1,)))
    bench.system.disconnect(channel)
    bench.system.start(sink).result(LIMIT)
    assert seen(sink) == [Batch((1,))]


@pytest.mark.parametrize("brutal", [False, True])
def test_channels_end_with_either_component(bench: Bench, brutal: bool) -> None:
    """Given a killed sink, and a killed source, then the others go on, nothing is a dead letter,
    and nothing of the channels is left; disconnecting them does nothing."""
    source, one, two = connected(bench, sinks=2)
    third = made(bench, Sink)
    channel = bench.system.connect(Source.batches.of(source), Sink.batches.of(third))
    bench.system.kill(one, brutal=brutal).result(LIMIT)
    indicate(source, Batch((1,)))
    assert seen(two) == seen(third) == [Batch((1,))]
    bench.system.kill(source, brutal=brutal).result(LIMIT)
    do(two, lambda sink: sink.batches.trigger(Flush()))
    channel.disconnect()
    bench.system.kill(two).result(LIMIT)
    bench.system.kill(third).result(LIMIT)
    bench.settle()
    assert bench.events.of(events.DeadLetters) == []
    assert bench.system._runtime.channels._ports == {}


def test_events_that_wait_at_the_end_are_dead_letters(make_bench: Make) -> None:
    """S-02: Given events in the mailbox of a component that is killed, then they are dead letters
    as themselves, and so are those that come while it is ending."""
    letters: list[tuple[str, Any]] = []
    bench = make_bench(on_undelivered=lambda path, message: letters.append((path, message)))
    source, sink = connected(bench, start=False, name="sink")
    indicate(source, Batch((1,)), Batch((2,)))
    bench.system.kill(sink).result(LIMIT)
    bench.until(lambda: letters == [("sink", Batch((1,))), ("sink", Batch((2,)))])
    told = bench.event(events.DeadLetters)
    assert (told.count, told.types) == (2, ("Batch",))


def test_a_component_that_has_ended_leaves_nothing_to_collect(bench: Bench) -> None:
    """Given a component that has used its ports, when it ends, then it goes without the garbage
    collector: its ports refer to it until it is complete, no longer."""
    source, _ = connected(bench)
    indicate(source, Batch((1,)))
    component = weakref.ref(source._cell.component)
    gc.collect()
    gc.disable()
    try:
        bench.system.kill(source).result(LIMIT)
        bench.until(lambda: component() is None)
    finally:
        gc.enable()


# -- faults ----------------------------------------------------------------------------------


def test_a_fault_in_a_port_handler_is_a_fault_in_phase_port(bench: Bench) -> None:
    """Given a handler that raises, then its component faults, with the event as the message; the
    source goes on, and the channel and what waits are those of the next incarnation."""
    faults: list[FaultContext[Any]] = []

    def remember(fault: FaultContext[Any]) -> RecoveryHandler:
        faults.append(fault)
        return fault.restart()

    def fail(sink: Any) -> None:
        raise OSError("as planned")

    source = made(bench, Source)
    sink = made(bench, lambda: Sink(remember), start=False, name="sink")
    bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))
    bad = Batch((fail,))
    indicate(source, Batch((1,)), bad, Batch((2,)))
    bench.system.start(sink)
    report = bench.event(events.ComponentRecovered)
    indicate(source, Batch((3,)))
    assert seen(sink) == [Batch((2,)), Batch((3,))]
    assert (report.phase, report.dropped, report.redelivered) == ("port", 1, 1)
    (fault,) = faults
    assert (fault.phase, fault.kind, fault.message) == (Phase.PORT, FaultKind.EXCEPTION, bad)
    assert seen(source) == []
    assert source.incarnation == 1


def test_faults_are_injected_into_port_handlers(bench: Bench) -> None:
    """Given `fail_event` for the second event, then that is a fault in phase port, the message
    between does not count, and the next incarnation is without it."""
    source, sink = made(bench, Source), made(bench, lambda: Sink(again))
    bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))
    assert seen(sink) == []
    fail_event(sink, OSError, nth=2)
    indicate(source, Batch((1,)))
    assert seen(sink) == [Batch((1,))]
    indicate(source, Batch((2,)), Batch((3,)), Batch((4,)))
    assert bench.event(events.ComponentRecovered).phase == "port"
    assert seen(sink) == [Batch((3,)), Batch((4,))]


def test_both_ends_of_a_channel_may_recover(bench: Bench) -> None:
    """Given faults of source and sink, then events pass between their next incarnations."""
    source, sink = made(bench, lambda: Source(again)), made(bench, lambda: Sink(again))
    bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))

    def fail(component: Any) -> None:
        raise OSError("as planned")

    for ref in (source, sink):
        with pytest.raises(OSError, match="as planned"):
            do(ref, fail)
    bench.until(lambda: source.incarnation == sink.incarnation == 2)
    bench.event(events.ComponentRecovered, 2)
    indicate(source, Batch((1,)))
    do(sink, lambda sink: sink.batches.trigger(Flush()))
    assert (seen(sink), seen(source)) == ([Batch((1,))], [Flush()])


def test_an_event_that_asks_to_be_redelivered_is(bench: Bench) -> None:
    """B-60: Given an event in hand at a fault whose type says so, then it comes once more."""
    failures = [OSError("the first time")]

    def fail_once(sink: Any) -> None:
        if failures:
            raise failures.pop()

    source, sink = made(bench, Source), made(bench, lambda: Sink(again))
    bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))
    indicate(source, SureBatch((fail_once,)), Batch((1,)))
    bench.event(events.ComponentRecovered)
    assert seen(sink) == [SureBatch((fail_once,)), Batch((1,))]


def test_an_event_that_faults_again_and_again_is_set_aside(bench: Bench) -> None:
    """Given a redelivered event with which one of two sinks faults each time, then it is set aside
    at the third fault of that one, and the other has it once; sent again it comes to the port."""
    failures = [OSError(str(number)) for number in range(3)]

    def fail(sink: Any) -> None:
        if sink.is_weak and failures:
            raise failures.pop()

    def weakling() -> Sink:
        sink = Sink(again)
        sink.is_weak = True  # type: ignore[attr-defined]
        return sink

    class Strong(Sink):
        is_weak = False

    source, weak, strong = made(bench, Source), made(bench, weakling), made(bench, Strong)
    for ref in (weak, strong):
        bench.system.connect(Source.batches.of(source), Sink.batches.of(ref))
    event = SureBatch((fail,))
    indicate(source, event, Batch((1,)))
    told = bench.event(events.MessageSetAside)
    bench.event(events.ComponentRecovered, 3)
    assert seen(weak) == [Batch((1,))]
    assert seen(strong) == [event, Batch((1,))]
    (poison,) = bench.system.poison()
    assert (poison.message, poison.port, poison.faults) == (event, "batches", 3)
    assert (poison.path, told.path) == (weak.path, weak.path)
    bench.system.resend(poison.number)
    assert seen(weak) == [Batch((1,)), event]


@pytest.mark.parametrize("wants", [OnRestart.DROP, OnRestart.FAIL])
def test_queued_events_that_must_not_meet_a_restart_do_not(bench: Bench, wants: OnRestart) -> None:
    """Given an event that says so, queued at a fault, then it is a dead letter, others are not."""
    kind = type("Fleeting", (Batch,), {"on_restart": wants})

    def fail(sink: Any) -> None:
        raise OSError("as planned")

    source, sink = made(bench, Source), made(bench, lambda: Sink(again), start=False)
    bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))
    indicate(source, Batch((fail,)), kind((1,)), Batch((2,)))
    bench.system.start(sink)
    bench.event(events.ComponentRecovered)
    assert seen(sink) == [Batch((2,))]
    assert wants.name in bench.event(events.DeadLetters).reason


def test_a_benign_error_in_a_port_handler_is_told_and_nothing_else(bench: Bench) -> None:
    """S-14: Given an exception that the class calls benign, then there is an event, and the
    component goes on."""

    class Calm(Sink):
        fault_classes: ClassVar[Any] = {LookupError: FaultClass.BENIGN}

    def fail(sink: Any) -> None:
        raise KeyError("as planned")

    source, sink = made(bench, Source), made(bench, Calm)
    bench.system.connect(Source.batches.of(source), Calm.batches.of(sink))
    indicate(source, Batch((fail,)), Batch((1,)))
    told = bench.event(events.BenignError)
    assert (told.phase, told.error) == ("port", "KeyError")
    assert seen(sink)[1:] == [Batch((1,))]


def test_an_event_without_a_handler_is_unhandled_and_benign(bench: Bench) -> None:
    """S-19: Given a port without a handler, then an event there is told of, and no fault."""

    class Deaf(Doer):
        batches = Required(Batches)

    source, deaf = made(bench, Source), made(bench, Deaf)
    bench.system.connect(Source.batches.of(source), Deaf.batches.of(deaf))
    indicate(source, Batch((1,)))
    told = bench.event(events.BenignError)
    assert (told.phase, told.error) == ("port", "UnhandledMessageError")
    assert seen(deaf) == []


def test_a_replacement_of_another_class_takes_the_events_it_has_ports_for(bench: Bench) -> None:
    """Given a recovery with another class without that port, then events there are unhandled, and
    the channel stays for the next that has it."""

    def as_other(fault: FaultContext[Any]) -> RecoveryHandler:
        return fault.restart(lambda: Doer(as_sink))

    def as_sink(fault: FaultContext[Any]) -> RecoveryHandler:
        return fault.restart(Sink)

    def fail(component: Any) -> None:
        raise OSError("as planned")

    source, sink = made(bench, Source), made(bench, lambda: Sink(as_other))
    bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))
    sink.tell(Do(fail))
    bench.event(events.ComponentRecovered)
    indicate(source, Batch((1,)))
    assert bench.event(events.BenignError).error == "UnhandledMessageError"
    sink.tell(Do(fail))
    bench.event(events.ComponentRecovered, 2)
    indicate(source, Batch((2,)))
    assert seen(sink) == [Batch((2,))]


def test_a_component_with_limits_handles_events(bench: Bench) -> None:
    """Given a sink with a time limit, then its port handlers are watched, and raise as others."""

    def fail(sink: Any) -> None:
        raise OSError("as planned")

    source = made(bench, Source)
    sink = made(bench, lambda: Sink(again), time_limit=LIMIT)
    bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))
    indicate(source, Batch((1,)), Batch((fail,)))
    assert bench.event(events.ComponentRecovered).phase == "port"
    indicate(source, Batch((2,)))
    assert seen(sink) == [Batch((2,))]


def test_a_hang_in_a_port_handler_is_in_phase_port() -> None:
    """Given a handler that never returns, in virtual time, then it is a hang in phase port."""
    with TestSystem() as system:
        source = system.create(Source, start=True)
        sink = system.create(lambda: Sink(again), start=True, time_limit=1.0)
        system.connect(Source.batches.of(source), Sink.batches.of(sink))
        indicate(source, Batch((lambda sink: hang(),)), Batch((1,)))
        system.advance(2.0)
        (fault,) = system.events.of(events.ComponentFaulted)
        assert (fault.phase, fault.kind) == ("port", "hang")
        assert seen(sink) == [Batch((1,))]


# -- bounded mailboxes -----------------------------------------------------------------------


def letters_of(bench: Bench) -> list[tuple[str, int]]:
    bench.settle()
    return [(letters.path, letters.count) for letters in bench.events.of(events.DeadLetters)]


def test_a_full_sink_does_no_harm_to_the_source_or_to_others(bench: Bench) -> None:
    """S-20: Given a sink whose mailbox is full and would refuse a tell, then an event to it is a
    dead letter, the source goes on, and the other sink gets it."""
    source = made(bench, Source)
    full = made(bench, Sink, start=False, mailbox_limit=1, name="full")
    other = made(bench, Sink)
    for ref in (full, other):
        bench.system.connect(Source.batches.of(source), Sink.batches.of(ref))
    indicate(source, Batch((1,)), Batch((2,)))
    assert seen(other) == [Batch((1,)), Batch((2,))]
    bench.event(events.DeadLetters)
    assert letters_of(bench) == [("full", 1)]
    bench.system.start(full).result(LIMIT)
    bench.until(lambda: seen(full) == [Batch((1,))])


@pytest.mark.parametrize(("overflow", "kept"), [("error", 1), ("drop_new", 1), ("drop_old", 3)])
def test_events_overflow_as_tells_do(make_bench: Make, overflow: str, kept: int) -> None:
    """S-20: Given three events for a mailbox of one, then the first or the last is kept, and the
    other two are dead letters."""
    lost: list[Any] = []
    bench = make_bench(on_undelivered=lambda path, message: lost.append(message))
    options: Any = {"mailbox_limit": 1, "overflow": overflow, "start": False}
    source, sink = connected(bench, **options)
    batches = [Batch((number,)) for number in (1, 2, 3)]
    indicate(source, *batches)
    bench.until(lambda: len(lost) == 2)
    bench.system.start(sink).result(LIMIT)
    bench.until(lambda: seen(sink) == [Batch((kept,))])
    assert lost == [batch for batch in batches if batch != Batch((kept,))]


# -- who may trigger what --------------------------------------------------------------------


@pytest.mark.parametrize("event", [Flush(), None, 3, Batch], ids=repr)
def test_an_event_of_the_wrong_type_is_refused_at_once(bench: Bench, event: Any) -> None:
    """Given another event than the port's in that direction, then trigger raises and says which
    there are, and nobody gets it; connected or not."""
    source, sink = connected(bench)
    for ref in (source, made(bench, Source)):

        def wrong(component: Any) -> str:
            with pytest.raises(PortTypeError) as raised:
                component.batches.trigger(event)
            return str(raised.value)

        text = do(ref, wrong)
        assert "port 'batches'" in text
        assert repr(event) in text
        assert "the indications of Batches are: Batch" in text
    assert seen(sink) == []


def test_a_port_without_events_in_a_direction_refuses_all(bench: Bench) -> None:
    """Given `Never`, then there is nothing to trigger, and the error says so."""

    class Silent(Port[Never, Never]):
        pass

    class Mute(Doer):
        silent = Provided(Silent)

    def wrong(component: Any) -> str:
        with pytest.raises(PortTypeError) as raised:
            component.silent.trigger(3)
        return str(raised.value)

    assert do(made(bench, Mute), wrong).endswith(".Silent are: none")


def test_only_the_components_own_code_triggers(bench: Bench) -> None:
    """Given a port that has got out of its component, then triggering it elsewhere is refused: on
    any other thread, and in another component."""
    source, sink = connected(bench)
    port = do(source, lambda source: source.batches)
    with pytest.raises(PortAccessError, match="from outside of its handlers, hooks and timers"):
        port.trigger(Batch((1,)))

    def elsewhere(component: Any) -> None:
        with pytest.raises(PortAccessError):
            port.trigger(Batch((2,)))

    do(sink, elsewhere)
    said: list[str] = []

    def in_a_thread(source: Any) -> None:
        def run() -> None:
            try:
                source.batches.trigger(Batch((3,)))
            except PortAccessError as error:
                said.append(type(error).__name__)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(LIMIT)

    do(source, in_a_thread)
    assert said == ["PortAccessError"]
    assert seen(sink) == []


def test_a_port_is_not_triggered_in_init_but_may_be_kept_there(bench: Bench) -> None:
    """S-21: Given a trigger in `__init__`, then it raises NotStartedError; the port itself may be
    kept, and works from `on_start` on."""
    raised: list[str] = []

    class Early(Source):
        def __init__(self) -> None:
            super().__init__()
            self.out = self.batches
            try:
                self.out.trigger(Batch((1,)))
            except NotStartedError as error:
                raised.append(str(error))

        def on_start(self) -> None:
            self.out.trigger(Batch((2,)))

    source, sink = made(bench, Early, name="early", start=False), made(bench, Sink)
    bench.system.connect(Early.batches.of(source), Sink.batches.of(sink))
    bench.system.start(source).result(LIMIT)
    assert raised == [
        "component 'early' is being made; trigger its ports from on_start on",
    ]
    assert seen(sink) == [Batch((2,))]


def test_the_port_of_a_component_outside_of_any_system_says_so() -> None:
    """Given a component that no system made, then its port raises UnboundComponentError."""
    with pytest.raises(UnboundComponentError):
        Source().batches.trigger(Batch())


def test_after_the_end_of_its_incarnation_a_port_sends_nothing(bench: Bench) -> None:
    """S-06: Given a thread of an incarnation that has ended, whether replaced or for good, then
    trigger raises IncarnationEndedError there, used before or not, and nothing is sent."""
    source, sink = made(bench, lambda: Source(again)), made(bench, Sink)
    bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))
    for use in (lambda component: component.batches.trigger(Batch((1,))), lambda component: None):
        old = do(source, lambda component: component)
        do(source, use)
        incarnation = source.incarnation

        def fail(component: Any) -> None:
            raise OSError("as planned")

        source.tell(Do(fail))
        bench.until(lambda: source.incarnation == incarnation + 1)  # noqa: B023
        bench.event(events.ComponentRecovered, incarnation)
        with pytest.raises(IncarnationEndedError):
            old.batches.trigger(Batch((2,)))
    last = do(source, lambda component: component)
    bench.system.kill(source).result(LIMIT)
    with pytest.raises(IncarnationEndedError):
        last.batches.trigger(Batch((3,)))
    assert seen(sink) == [Batch((1,))]


@pytest.mark.parametrize("kind", ["thread", "pool"])
@pytest.mark.parametrize("used", [True, False])
def test_a_thread_that_was_left_behind_triggers_nothing(kind: Any, used: bool) -> None:
    """S-06: Given a handler that hangs until its component has been replaced, on the thread that
    was its own, when it goes on there, then trigger raises and nothing is sent."""
    gate = threading.Event()
    said: list[str] = []

    def hang(source: Any) -> None:
        if used:
            source.batches.trigger(Batch((1,)))
        with suppress(BaseException):  # the interrupt, which comes when the wait is over
            gate.wait(LIMIT)
        try:
            source.batches.trigger(Batch((2,)))
        except BaseException as error:
            said.append(type(error).__name__)

    with ComponentSystem(backend=kind) as system:
        source = system.create(lambda: Source(again), start=True, time_limit=0.05)
        sink = system.create(Sink, start=True)
        system.connect(Source.batches.of(source), Sink.batches.of(sink))
        source.tell(Do(hang))
        pause = threading.Event()
        for _ in range(int(LIMIT / 0.005)):
            if source.incarnation == 2:
                gate.set()
            if said:
                break
            pause.wait(0.005)
        assert said == ["IncarnationEndedError"]
        indicate(source, Batch((3,)))
        assert seen(sink) == [Batch((1,)), Batch((3,))][not used :]


def test_a_port_cannot_be_assigned_or_deleted(bench: Bench) -> None:
    """S-21: Given a component that assigns its port, then it is refused with a clear error."""

    class Assigning(Source):
        def on_receive(self, message: Do) -> object:
            with pytest.raises(ReservedNameError, match=r"assigns self\.batches, which is its"):
                self.batches = message  # type: ignore[assignment]
            with pytest.raises(AttributeError):
                del self.batches
            return "refused"

    assert do(made(bench, Assigning), str) == "refused"


# -- what cannot be connected ----------------------------------------------------------------


def refused(bench: Bench, provided: Any, required: Any, kind: Any = ChannelError) -> str:
    """How connecting them is refused; nothing is connected afterwards."""
    with pytest.raises(kind) as raised:
        bench.system.connect(provided, required)
    return str(raised.value)


def test_ports_of_different_types_are_refused(bench: Bench) -> None:
    """Given ports of two types, then the error names both."""

    class OtherSink(Doer):
        others = Required(Other)

    source = made(bench, Source, name="source")
    sink = made(bench, OtherSink, name="sink")
    text = refused(bench, Source.batches.of(source), OtherSink.others.of(sink))
    assert text == (
        "required is the port 'others' of component 'sink' of type tests.test_ports:Other, and "
        "provided the port 'batches' of component 'source' of type tests.test_ports:Batches; "
        "connect ports of one type"
    )


def test_two_provided_or_two_required_are_refused_and_so_is_the_wrong_order(bench: Bench) -> None:
    """Given provided twice, required twice, or one for the other, then that is refused."""
    sources = [made(bench, Source) for _ in range(2)]
    sinks = [made(bench, Sink) for _ in range(2)]
    provided = [Source.batches.of(ref) for ref in sources]
    required = [Sink.batches.of(ref) for ref in sinks]
    assert "required is the port" in refused(bench, provided[0], provided[1])
    for pair in ((required[0], required[1]), (required[0], provided[0])):
        text = refused(bench, *pair)
        assert "provided is the port 'batches'" in text
        assert "which that requires; give a provided port first" in text


def test_a_second_channel_between_two_ports_is_refused(bench: Bench) -> None:
    """Given two ports that are connected, then connecting them is refused; events pass once."""
    source, sink = connected(bench)
    text = refused(bench, Source.batches.of(source), Sink.batches.of(sink))
    assert text.endswith("already; disconnect that first")
    indicate(source, Batch((1,)))
    assert seen(sink) == [Batch((1,))]


def test_a_component_is_not_connected_to_itself(bench: Bench) -> None:
    """Given both ports of one component, then that is refused."""
    link = made(bench, Link, name="link")
    text = refused(bench, Link.downstream.of(link), Link.upstream.of(link))
    assert text.startswith("provided and required are both of component 'link'")


def test_a_circle_of_channels_is_refused_and_named(bench: Bench) -> None:
    """Issue 6: Given a requires b requires c, when c is to require a, then that is refused and the
    circle is named; the other way round, and a diamond, are fine; and once a channel is gone the
    way is free."""
    a, b, c, d = (made(bench, Link, name=name) for name in "abcd")

    def require(requirer: Any, provider: Any) -> Channel:
        return bench.system.connect(Link.downstream.of(provider), Link.upstream.of(requirer))

    require(a, b)
    middle = require(b, c)
    with pytest.raises(ChannelError) as raised:
        require(c, a)
    assert "a circle: 'c' requires 'a' requires 'b' requires 'c';" in str(raised.value)
    with pytest.raises(ChannelError, match="'b' requires 'a' requires 'b';"):
        require(b, a)
    require(a, c)
    require(a, d)
    require(d, c)
    with pytest.raises(ChannelError):
        require(c, d)
    middle.disconnect()
    require(c, b)
    do(b, lambda link: link.downstream.trigger(Batch((1,))))
    # By hand: a hears it from b, from c, and from d, which has it from c.
    bench.until(lambda: [len(seen(ref)) for ref in (a, b, c, d)] == [3, 0, 1, 1])


def test_each_of_two_channels_between_two_components_counts(bench: Bench) -> None:
    """Given a that requires b by two ports, then b may require a when both channels are gone, not
    before."""

    class Two(Link):
        second = Required(Batches)

    a, b = made(bench, Two), made(bench, Two)
    channels = [
        bench.system.connect(Two.downstream.of(b), port.of(a))
        for port in (Two.upstream, Two.second)
    ]
    for channel in channels:
        refused(bench, Two.downstream.of(a), Two.upstream.of(b))
        channel.disconnect()
    bench.system.connect(Two.downstream.of(a), Two.upstream.of(b))


def test_who_requires_a_component_that_has_ended_keeps_nothing_of_it(bench: Bench) -> None:
    """Given a sink whose sources come and go, then it is no bigger for those that are gone."""
    sink = made(bench, Sink)
    for _ in range(3):
        source = made(bench, Source)
        bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))
        bench.system.kill(source).result(LIMIT)
    (kept,) = bench.system._runtime.channels._ports.values()
    assert kept.providers == {}
    assert [outlet.ends for outlet in kept.outlets.values()] == [{}]


def test_the_end_of_a_component_opens_its_circle(bench: Bench) -> None:
    """Given a requires b requires c, when b ends, then c may require a."""
    a, b, c = (made(bench, Link, name=name) for name in "abc")
    for requirer, provider in ((a, b), (b, c)):
        bench.system.connect(Link.downstream.of(provider), Link.upstream.of(requirer))
    bench.system.kill(b).result(LIMIT)
    bench.system.connect(Link.downstream.of(a), Link.upstream.of(c))


def test_a_port_that_the_component_does_not_declare_is_refused(bench: Bench) -> None:
    """Given a declaration of another class, then the error names the ports that there are."""
    source, sink = made(bench, Source, name="source"), made(bench, Sink, name="sink")
    link = made(bench, Link, name="link")
    text = refused(bench, Link.downstream.of(source), Sink.batches.of(sink))
    assert text == (
        "provided is the port 'downstream' of component 'source' of type "
        "tests.test_ports:Batches, which that does not declare; it provides: 'batches'"
    )
    assert refused(bench, Source.batches.of(source), Sink.batches.of(link)).endswith(
        "it requires: 'upstream'"
    )
    assert refused(bench, Source.batches.of(source), Sink.batches.of(made(bench, Doer))).endswith(
        "it requires: no port"
    )


def test_a_component_that_has_ended_is_refused(bench: Bench) -> None:
    """Given one that was killed, on either side, then ComponentDestroyedError is raised."""
    source, sink, ended = made(bench, Source), made(bench, Sink), made(bench, Sink)
    gone = made(bench, Source)
    for ref in (ended, gone):
        bench.system.kill(ref).result(LIMIT)
    provided, required = Source.batches.of(source), Sink.batches.of(sink)
    refused(bench, provided, Sink.batches.of(ended), ComponentDestroyedError)
    refused(bench, Source.batches.of(gone), required, ComponentDestroyedError)
    assert bench.system._runtime.channels._ports == {}


def test_a_component_that_is_restarting_can_be_connected(make_bench: Make) -> None:
    """Given a component between two incarnations, then it is connected by what the last was."""
    bench = make_bench()
    reached, go_on = threading.Event(), threading.Event()

    def slowly(fault: FaultContext[Any]) -> RecoveryHandler:
        reached.set()
        if not bench.manual:
            go_on.wait(LIMIT)
        else:
            connect()
        return fault.restart()

    source, sink = made(bench, Source), made(bench, lambda: Sink(slowly))

    def connect() -> None:
        bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))

    def fail(component: Any) -> None:
        raise OSError("as planned")

    sink.tell(Do(fail))
    bench.settle()
    if not bench.manual:
        assert reached.wait(LIMIT)
        connect()
        refused(bench, Source.batches.of(source), Link.upstream.of(sink))
        go_on.set()
    bench.event(events.ComponentRecovered)
    indicate(source, Batch((1,)))
    assert seen(sink) == [Batch((1,))]


def test_one_that_has_never_come_up_is_not_known(bench: Bench) -> None:
    """Given a ref out of `__init__`, before there is a component, then connecting it is refused
    for now."""
    source = made(bench, Source)
    raised: list[str] = []

    class Hasty(Sink):
        def __init__(self) -> None:
            super().__init__()
            try:
                self.system.connect(Source.batches.of(source), Sink.batches.of(self.ref))
            except RestartingError as error:
                raised.append(str(error))

        def on_start(self) -> None:
            self.system.connect(Source.batches.of(source), Sink.batches.of(self.ref))

    hasty = made(bench, Hasty)
    bench.system.start(hasty).result(LIMIT)
    assert len(raised) == 1
    indicate(source, Batch((1,)))
    assert seen(hasty) == [Batch((1,))]


def test_what_is_no_port_or_of_another_system_is_refused(bench: Bench) -> None:
    """Given refs, declarations, types of ports, or another system's, then each error says what to
    give."""
    source, sink = made(bench, Source), made(bench, Sink)
    provided, required = Source.batches.of(source), Sink.batches.of(sink)
    for wrong in (source, Source.batches, Batches, None):
        text = refused(bench, wrong, required, ArgumentTypeError)
        assert text.startswith("provided is ")
        assert "give a port of a component" in text
        assert refused(bench, provided, wrong, ArgumentTypeError).startswith("required is ")
    with pytest.raises(ArgumentTypeError, match="no component ref"):
        Source.batches.of(cast("Any", provided))
    with ComponentSystem() as other:
        foreign = Sink.batches.of(other.create(Sink))
        refused(bench, provided, foreign, ArgumentError)
        channel = other.connect(Source.batches.of(other.create(Source)), foreign)
        with pytest.raises(ArgumentError, match="belongs to another system"):
            bench.system.disconnect(channel)
    with pytest.raises(ArgumentTypeError, match="no channel"):
        bench.system.disconnect(cast("Any", provided))
    channel.disconnect()  # its system has ended
    assert bench.system._runtime.channels._ports == {}


def test_channels_and_ports_can_be_pickled(bench: Bench) -> None:
    """Given a channel and a port's ref, pickled and back, then they name the same."""
    source, sink = made(bench, Source), made(bench, Sink)
    channel = bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))
    back = pickle.loads(pickle.dumps(channel))
    assert back == channel
    assert str(back) == (
        f"channel from port 'batches' of component {sink.path!r} to port 'batches' of component "
        f"{source.path!r}"
    )
    back.disconnect()
    indicate(source, Batch((1,)))
    assert seen(sink) == []


# -- declarations that are refused -----------------------------------------------------------


class Strange(Protocol):
    """No class to look at an event with."""

    def strange(self) -> None: ...


@pytest.mark.parametrize(
    ("requests", "says"),
    [
        (None, "for no events write Never"),
        (Flush | None, "for no events write Never"),
        (3, "give classes, a union of them, or Never for none"),
        ("Flush", "give classes"),
        (Strange, "make that protocol runtime_checkable"),
    ],
    ids=repr,
)
def test_a_port_type_names_classes(requests: Any, says: str) -> None:
    """Given something else than classes for events, then the class is refused at once."""
    with pytest.raises(PortTypeError, match=says) as raised:
        types.new_class("Bad", (Port[requests, Batch],))
    assert "the requests of port Bad are" in str(raised.value)


def test_a_port_type_says_its_events() -> None:
    """Given port types, then what passes is known at run time, and a subclass has the same."""

    class Derived(Batches):
        pass

    class Anything(Port[Any, list[int]]):
        pass

    assert (Batches.requests, Batches.indications) == ((Flush, Reset), (Batch,))
    assert (Derived.requests, Derived.indications) == ((Flush, Reset), (Batch,))
    assert (Anything.requests, Anything.indications) == ((object,), (list,))
    with pytest.raises(PortTypeError, match="does not say which events it carries"):
        type("Bare", (Port,), {})


@pytest.mark.parametrize(
    "port", [Port, Batch, None, Batches()], ids=["Port", "Batch", "None", "()"]
)
@pytest.mark.parametrize("declare", [Provided, Required])
def test_only_port_types_are_declared(declare: Any, port: Any) -> None:
    """Given something else than a subclass of Port, then the declaration is refused."""
    with pytest.raises(PortTypeError, match=r"give a subclass of Port\[requests, indications\]"):
        declare(port)


def test_only_plain_methods_handle_declared_ports() -> None:
    """Given `handles` of a type, or above something else than a method, then it is refused."""
    with pytest.raises(PortTypeError, match="give a port that is declared above"):
        handles(cast("Any", Batches))

    async def later(self: Any, event: Batch) -> None: ...

    for wrong in (later, staticmethod(print), property(print), print, None):
        with pytest.raises(PortTypeError, match="give a plain method"):
            handles(Sink.batches)(cast("Any", wrong))


def class_error(cls: type[Component[Any]]) -> str:
    """How a class is refused when one is created."""
    with TestSystem() as system:
        with pytest.raises((InvalidComponentError, ReservedNameError)) as raised:
            system.create(cls)
        assert system.tree().children == ()
    return str(raised.value)


def test_classes_whose_ports_do_not_fit_are_refused_at_creation() -> None:
    """Given two handlers of one port, a handler of a foreign port, a port under two names, or
    under a name of kompyct's, then the error names it."""

    class Twice(Doer):
        batches = Required(Batches)

        @handles(batches)
        def one(self, event: Batch) -> None: ...

        @handles(batches)
        def two(self, event: Batch) -> None: ...

    class Foreign(Source):
        @handles(Sink.batches)
        def on_batch(self, event: Batch) -> None: ...

    class Without(Doer):
        @handles(Sink.batches)
        def on_batch(self, event: Batch) -> None: ...

    class Aliased(Doer):
        one = two = Required(Batches)

    class Hiding(Doer):
        keep = Required(Batches)  # type: ignore[assignment]

    class Reserved(Doer):
        ref = Required(Batches)  # type: ignore[assignment]

    assert "has two handlers of port 'batches', 'one' and 'two'" in class_error(Twice)
    assert "Foreign.on_batch handles a port 'batches' that is not one of its own: 'batches'" in (
        class_error(Foreign)
    )
    assert "Without declares none" in class_error(Without)
    assert "declares one port as 'one' and as 'two'" in class_error(Aliased)
    assert "declares a port 'keep', which kompyct provides" in class_error(Hiding)
    assert "defines 'ref'" in class_error(Reserved)


def test_a_port_that_a_subclass_replaces_takes_its_handlers_along(bench: Bench) -> None:
    """Given a subclass that declares another port of that name, then the handlers of the first
    are no handlers of the second."""

    class Another(Sink):
        batches = Required(Other)  # type: ignore[assignment]

    class OtherSource(Doer):
        others = Provided(Other)

    source, sink = made(bench, OtherSource), made(bench, Another)
    bench.system.connect(OtherSource.others.of(source), Another.batches.of(sink))
    do(source, lambda source: source.others.trigger(Batch()))
    assert bench.event(events.BenignError).error == "UnhandledMessageError"
    assert seen(sink) == []


# -- many at once ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "pool"])
def test_connecting_and_ending_at_once_leaves_nothing_behind(kind: Any) -> None:
    """Given four threads that connect, trigger and disconnect while sinks are killed, then no
    event comes twice to a sink, none comes unconnected, and in the end no channel is left."""
    rounds = 60
    with ComponentSystem(backend=kind) as system:
        source = system.create(Source, start=True)
        barrier = threading.Barrier(4)
        wrong: list[object] = []

        def churn(number: int) -> None:
            barrier.wait(LIMIT)
            for turn in range(rounds):
                sink = system.create(Sink, start=True)
                channel = system.connect(Source.batches.of(source), Sink.batches.of(sink))
                mine = Batch((f"{number} {turn}",))
                indicate(source, mine)
                got = seen(sink)
                if got.count(mine) != 1 or len(got) != len(set(got)):
                    wrong.append(got)
                ending = system.kill(sink, brutal=bool(turn % 2))
                if turn % 3:
                    channel.disconnect()
                with suppress(ComponentDestroyedError, ChannelError):
                    system.connect(Source.batches.of(source), Sink.batches.of(sink))
                ending.result(LIMIT)

        threads = [threading.Thread(target=churn, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT * 4)
        assert not any(thread.is_alive() for thread in threads)
        assert wrong == []
        assert {*system._runtime.channels._ports} <= {source._cell.id}
        assert not system._runtime.channels.outlet(source._cell, "batches").ends


def test_a_coroutine_is_no_place_to_trigger(bench: Bench) -> None:
    """Given an event loop beside the system, then it is outside of the component as well."""
    source = made(bench, Source)
    port = do(source, lambda source: source.batches)

    async def outside() -> None:
        port.trigger(Batch())

    with pytest.raises(PortAccessError):
        asyncio.run(outside())
