"""Do ports work the same where components have processes of their own?"""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from kompyct import FaultKind, Phase, events
from kompyct.errors import (
    ChannelError,
    ComponentDestroyedError,
)
from tests.conftest import LIMIT
from tests.process import batches, components
from tests.process.batches import Batch, Link, Sink, Source, SureBatch
from tests.process.components import Get
from tests.process.conftest import ProcessBench, do

WHERE = [("process", "process"), ("process", "thread"), ("pool", "process")]
"""Where source and sink are."""


@pytest.fixture(params=WHERE, ids="-".join)
def where(request: pytest.FixtureRequest) -> Any:
    """See `WHERE`."""
    return request.param


def connected(bench: ProcessBench, where: Any, **options: Any) -> tuple[Any, Any, Any]:
    """A source, a sink, and the channel between them."""
    source = bench.started(factory=batches.source, backend=where[0])
    sink = bench.started(factory=batches.sink, backend=where[1], **options)
    return source, sink, connect(bench, source, sink)


def connect(bench: ProcessBench, source: Any, sink: Any) -> Any:
    return bench.system.connect(Source.batches.of(source), Sink.batches.of(sink))


def has_come(bench: ProcessBench, ref: Any, *values: Any) -> None:
    """Wait until these have come to it, and see that nothing else has."""
    bench.until(lambda: len(ref.ask(Get())) >= len(values))
    assert ref.ask(Get()) == [*values]


def test_events_pass_both_ways_in_order(bench: ProcessBench, where: Any) -> None:
    """Given a channel between processes, then a thousand indications come in the order sent, and
    requests as well, and after `disconnect` nothing more."""
    source, sink, channel = connected(bench, where)
    do(source, batches.indicate, *map(Batch, range(1000)))
    has_come(bench, sink, *range(1000))
    do(sink, batches.request, "a", "b")
    has_come(bench, source, "a", "b")
    for ref in (source, sink):  # nobody waits for a reply to an event
        bench.until(lambda: not getattr(ref._cell.component, "_asked", ()))  # noqa: B023
    channel.disconnect()
    do(source, batches.indicate, Batch("late"))
    do(sink, batches.request, "late")
    do(source, components.pid)  # whatever they sent has come before these are answered
    do(sink, components.pid)
    has_come(bench, sink, *range(1000))
    has_come(bench, source, "a", "b")


def test_events_and_tells_come_in_the_order_sent(bench: ProcessBench, where: Any) -> None:
    """Given a source that triggers and tells in turns, then the sink gets them in that order."""
    source, sink, _ = connected(bench, where)
    do(source, batches.indicate_and_tell, sink, 300)
    has_come(bench, sink, *range(300))


def test_one_indication_goes_to_all_wherever_they_are(bench: ProcessBench) -> None:
    """Given sinks in two processes and on a thread, then each gets each indication once."""
    source, one, _ = connected(bench, ("process", "process"))
    others = [bench.started(factory=batches.sink, backend=kind) for kind in ("process", "thread")]
    for other in others:
        connect(bench, source, other)
    do(source, batches.indicate, Batch(1), Batch(2))
    for ref in (one, *others):
        has_come(bench, ref, 1, 2)


def test_events_wait_for_a_paused_component(bench: ProcessBench, where: Any) -> None:
    """Given a sink that is paused, then events wait for its next start."""
    source, sink, _ = connected(bench, where)
    bench.system.stop(sink).result(LIMIT)
    do(source, batches.indicate, Batch(1))
    bench.system.start(sink).result(LIMIT)
    has_come(bench, sink, 1)


def test_a_fault_in_a_port_handler_is_in_phase_port(bench: ProcessBench, where: Any) -> None:
    """Given a handler that raises, then the fault has phase port, and the event; the channel and
    what waits are those of the next incarnation."""
    source, sink, _ = connected(bench, where)
    bad = Batch(2, components.fail)
    do(source, batches.indicate, Batch(1), bad, Batch(3))
    report = bench.event_of(events.ComponentRecovered, sink)
    has_come(bench, sink, 3)
    assert (report.phase, report.kind, report.dropped) == ("port", "exception", 1)
    fault = bench.fault(sink)
    assert (fault.phase, fault.kind, fault.message) == (Phase.PORT, FaultKind.EXCEPTION, bad)
    assert "components.py" in fault.traceback
    do(sink, batches.request, "still there")
    has_come(bench, source, "still there")
    assert source.incarnation == 1


@pytest.mark.parametrize("sure", [False, True])
def test_a_crash_in_a_port_handler_is_in_phase_port(bench: ProcessBench, sure: bool) -> None:
    """S-31: Given SIGKILL in a port handler, then the event in hand was handled at most once,
    unless its type asks for more, and what waits comes to the next incarnation."""
    source, sink, _ = connected(bench, ("process", "process"))
    kind = SureBatch if sure else Batch
    bad = kind(2, components.die, (signal.SIGKILL,))
    if sure:  # it kills again and again, until it counts as poison
        do(source, batches.indicate, bad, Batch(4))
        bench.event_of(events.MessageSetAside, sink)
        has_come(bench, sink, 4)
        assert len(bench.events_of(events.ComponentFaulted, sink)) == 3
        (poison,) = (one for one in bench.system.poison() if one.path == sink.path)
        assert (poison.message, poison.port) == (bad, "batches")
        return
    do(source, batches.indicate, Batch(1), bad, Batch(3))
    bench.event_of(events.ComponentRecovered, sink)
    has_come(bench, sink, 3)
    fault = bench.fault(sink)
    assert (fault.phase, fault.kind) == (Phase.PORT, FaultKind.PROCESS_EXIT)
    assert fault.message == bad


def test_channels_stay_when_the_process_of_either_end_dies(
    bench: ProcessBench, where: Any
) -> None:
    """Given faults of both, by SIGKILL where they have a process, then events pass between the
    next incarnations."""
    source, sink, _ = connected(bench, where)
    for ref, kind in zip((source, sink), where, strict=True):
        action = (components.die, signal.SIGKILL) if kind == "process" else (components.fail,)
        ref.tell(components.Do(action[0], action[1:]))
        bench.event_of(events.ComponentRecovered, ref)
    do(source, batches.indicate, Batch(1))
    has_come(bench, sink, 1)
    do(sink, batches.request, "a")
    has_come(bench, source, "a")
    assert (source.incarnation, sink.incarnation) == (2, 2)


def test_channels_end_with_a_component(bench: ProcessBench, where: Any) -> None:
    """Given a sink that ends, then its channel is gone, and the source goes on; it cannot be
    connected any more."""
    source, sink, _ = connected(bench, where)
    bench.system.kill(sink).result(LIMIT)
    do(source, batches.indicate, Batch(1))
    with pytest.raises(ComponentDestroyedError):
        connect(bench, source, sink)
    assert bench.events_of(events.DeadLetters, sink) == []
    bench.system.kill(source).result(LIMIT)
    assert bench.system._runtime.channels._ports == {}


def test_what_cannot_be_connected_is_refused(bench: ProcessBench) -> None:
    """Given ports that components in processes do not declare, have connected, or that close a
    circle, then they are refused as anywhere."""
    source, sink, _ = connected(bench, ("process", "process"), name="a sink")
    link, other = (bench.started(factory=batches.link) for _ in range(2))
    with pytest.raises(ChannelError, match="already"):
        connect(bench, source, sink)
    with pytest.raises(ChannelError) as raised:
        connect(bench, source, link)
    assert "which that does not declare; it requires: 'upstream'" in str(raised.value)
    with pytest.raises(ChannelError, match="it provides: 'downstream'"):
        connect(bench, link, sink)
    bench.system.connect(Link.downstream.of(link), Link.upstream.of(other))
    with pytest.raises(ChannelError, match="would close a circle"):
        bench.system.connect(Link.downstream.of(other), Link.upstream.of(link))


def test_a_component_in_a_process_connects_and_disconnects_others(bench: ProcessBench) -> None:
    """Given `self.system.connect` in a child, then its channel is one like any other, and either
    way of disconnecting it there works; what is refused raises there."""
    source, sink = (bench.started(factory=make) for make in (batches.source, batches.sink))
    for by_system in (True, False):
        channel = do(source, batches.connect, source, sink)
        with pytest.raises(ChannelError):
            connect(bench, source, sink)
        said = do(source, batches.raised_by, batches.connect, source, sink)
        assert said[0] == "ChannelError"
        assert "already" in said[1]
        do(source, batches.indicate, Batch(by_system))
        do(sink, batches.disconnect_by, channel, by_system)
        do(source, batches.indicate, Batch("late"))
    do(source, components.pid)
    has_come(bench, sink, True, False)


def test_a_wrong_event_is_refused_where_it_is_triggered(bench: ProcessBench) -> None:
    """Given an event of another type, or one that cannot be pickled, then trigger raises in the
    child, and nothing comes; outside of a handler it is refused."""
    source, sink, _ = connected(bench, ("process", "process"))
    said = do(source, batches.raised_by, batches.indicate, 3)
    assert said[0] == "PortTypeError"
    assert "the indications of Batches are: Batch" in said[1]
    said = do(source, batches.raised_by, batches.indicate_unpicklable)
    assert said[0] == "UnpicklableError"
    assert "a Batch for port 'batches' of component" in said[1]
    assert do(source, components.in_a_thread, batches.indicate_one) == "PortAccessError"
    do(source, batches.indicate, Batch(1))
    has_come(bench, sink, 1)


def test_an_event_that_cannot_go_to_a_process_is_a_dead_letter_there(bench: ProcessBench) -> None:
    """Given an event with a lock in it from a source on a thread, then it is a dead letter of the
    sink in its process, and the source and the other sink go on."""
    source, sink, _ = connected(bench, ("thread", "process"))
    near = bench.started(factory=batches.sink, backend="thread")
    connect(bench, source, near)
    do(source, batches.indicate, Batch(threading.Lock()), Batch(2))
    has_come(bench, sink, 2)
    letters = bench.event_of(events.DeadLetters, sink)
    assert (letters.count, letters.types) == (1, ("Batch",))
    assert "cannot be pickled" in letters.reason
    bench.until(lambda: len(near.ask(Get())) == 2)


def test_an_event_that_cannot_be_unpickled_is_a_dead_letter(bench: ProcessBench) -> None:
    """Given an event whose class raises when it is unpickled there, then it is a dead letter, and
    those around it arrive."""
    source, sink, _ = connected(bench, ("thread", "process"))
    do(source, batches.indicate, Batch(1), Batch(batches.Stubborn()), Batch(3))
    has_come(bench, sink, 1, 3)
    assert "cannot be unpickled" in bench.event_of(events.DeadLetters, sink).reason


def test_a_full_sink_in_a_process_does_no_harm(bench: ProcessBench, where: Any) -> None:
    """S-20: Given a paused sink with a mailbox of one, then what it cannot take is a dead letter,
    and neither source nor others notice."""
    source, sink, _ = connected(bench, where, mailbox_limit=1)
    bench.system.stop(sink).result(LIMIT)
    other = bench.started(factory=batches.sink, backend=where[1])
    connect(bench, source, other)
    do(source, batches.indicate, Batch(1), Batch(2))
    has_come(bench, other, 1, 2)
    assert bench.event_of(events.DeadLetters, sink).reason == "its mailbox is full"
    bench.system.start(sink).result(LIMIT)
    has_come(bench, sink, 1)


def test_what_waits_at_the_end_is_a_dead_letter(bench: ProcessBench) -> None:
    """Given a paused sink with events, when it is killed, then these are dead letters."""
    source, sink, _ = connected(bench, ("process", "process"))
    bench.system.stop(sink).result(LIMIT)
    do(source, batches.indicate, Batch(1), Batch(2))
    bench.system.kill(sink).result(LIMIT)
    letters = bench.event_of(events.DeadLetters, sink)
    assert (letters.count, letters.types) == (2, ("Batch",))


def test_a_hang_in_a_port_handler_is_found(bench: ProcessBench) -> None:
    """Given a sink with a time limit whose port handler hangs in native code, then its process is
    ended, in phase port, and the next incarnation gets what waits."""
    source, sink, _ = connected(bench, ("process", "process"), time_limit=0.2)
    do(source, batches.indicate, Batch(1, batches.hang), Batch(2))
    report = bench.event_of(events.ComponentRecovered, sink)
    assert (report.phase, report.kind) == ("port", "hang")
    has_come(bench, sink, 2)


def test_an_event_nobody_handles_is_benign(bench: ProcessBench) -> None:
    """S-19: Given a port without a handler in a process, then that is told of, and no fault."""
    link = bench.started(factory=batches.link)
    source = bench.started(factory=batches.source)
    bench.system.connect(Source.batches.of(source), Link.upstream.of(link))
    do(source, batches.indicate, Batch(1))
    told = bench.event_of(events.BenignError, link)
    assert (told.phase, told.error) == ("port", "UnhandledMessageError")
    assert do(link, components.pid)
