"""Do components in processes begin, pause and end as anywhere: B-01 to B-09, B-58, B-60, B-61?"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kompyct import RestartLimit, State, events, remote
from kompyct.errors import (
    ArgumentError,
    ComponentCreateError,
    ComponentDestroyedError,
    ComponentFaultError,
    MailboxFullError,
    NotStartedError,
    ReservedNameError,
)
from kompyct.processes.board import CONTROL
from kompyct.processes.identity import identity_of
from tests.conftest import LIMIT
from tests.process import components
from tests.process.components import Add, Do, Gate, Get, Holder, Notes, Plain
from tests.process.conftest import ProcessBench, do, new_name

MakeGate = Callable[[], Gate]
SHORT = 0.2  # seconds that an end in order may take, where a test is about what comes then


def announced(ref: Any) -> int:
    """How many orders the component's process has been told of: it looks there before its next
    message."""
    return int(ref._cell.component.child.board.numbers[CONTROL])


def test_a_component_is_in_another_process(bench: ProcessBench) -> None:
    """It is what the backend is for: each component has a process of its own."""
    first, second = bench.started(), bench.started()
    pids = {os.getpid(), do(first, components.pid), do(second, components.pid)}
    assert len(pids) == 3
    assert {node.backend for node in bench.system.tree().children} == {"process"}


def test_messages_wait_for_the_start(bench: ProcessBench, notes: Notes) -> None:
    """B-01 (process): nothing is handled before the start, then all in send order."""
    ref = bench.system.create(partial(Holder, None, notes))
    for number in range(300):
        ref.tell(Add(str(number)))
    assert do(bench.started(), components.pid)  # whatever was to happen has had its time
    assert notes.lines() == []
    bench.system.start(ref).result(LIMIT)
    do(ref, components.pid)
    assert notes.lines() == ["start", *map(str, range(300))]


def test_an_ask_waits_for_the_start(bench: ProcessBench) -> None:
    """B-01 (process), S-16: an ask to a passive component is queued until it is handled."""
    ref = bench.system.create(partial(Holder, 7))
    reply = ref.ask(Get(), block=False)
    assert not reply.done()
    bench.system.start(ref)
    assert reply.result(LIMIT) == 7


def test_a_stopped_component_keeps_state_and_messages(bench: ProcessBench, notes: Notes) -> None:
    """B-02 (process): what is sent after a stop waits for the next start; state is kept."""
    ref = bench.started(1, notes)
    first = do(ref, components.pid)
    do(ref, components.save, 2)
    bench.system.stop(ref).result(LIMIT)
    assert ref.state is State.PASSIVE
    ref.tell(Add("late"))
    assert do(bench.started(), components.pid)
    assert notes.lines() == ["start", "stop"]
    bench.system.start(ref).result(LIMIT)
    assert ref.ask(Get()) == 2
    assert notes.lines() == ["start", "stop", "start", "late"]
    assert do(ref, components.pid) == first
    assert ref.incarnation == 1


def test_messages_sent_on_before_a_stop_wait_as_well(
    bench: ProcessBench, notes: Notes, make_gate: MakeGate
) -> None:
    """B-02 (process): what is in the child already is not handled while the component pauses."""
    reached, gate = make_gate(), make_gate()
    ref = bench.started(None, notes)
    ref.tell(Do(components.wait_noting, (reached, gate)))
    for number in range(50):
        ref.tell(Add(str(number)))
    bench.until(lambda: reached.is_open)
    before = announced(ref)
    stopped = bench.system.stop(ref)
    bench.until(lambda: announced(ref) > before)
    gate.open()
    stopped.result(LIMIT)
    assert notes.lines() == ["start", "stop"]
    bench.system.start(ref).result(LIMIT)
    do(ref, components.pid)
    assert notes.lines() == ["start", "stop", "start", *map(str, range(50))]


def test_the_start_hook_has_returned_when_the_start_is_done(
    bench: ProcessBench, notes: Notes, make_gate: MakeGate
) -> None:
    """B-03 (process): the future of a start is not done before `on_start` has returned."""
    gate = make_gate()
    hooks = {"start": partial(_wait_and_note, gate)}
    ref = bench.system.create(partial(Holder, None, notes, hooks=hooks))
    start = bench.system.start(ref)
    bench.until(lambda: notes.lines() == ["start"])
    assert not start.done()
    gate.open()
    start.result(LIMIT)
    assert notes.lines() == ["start", "waited"]


def _wait_and_note(gate: Gate, component: Holder) -> None:
    gate.wait()
    component.note("waited")


def test_awaiting_a_start_that_faults_ends_at_once(bench: ProcessBench) -> None:
    """B-04 (process): the wait ends with the error of `on_start`, not by a timeout."""
    ref = bench.system.create(partial(Holder, hooks={"start": components.fail}))
    begun = time.monotonic()
    with pytest.raises(ComponentFaultError, match="on_start with ValueError") as caught:
        bench.system.start(ref).result(LIMIT)
    assert time.monotonic() - begun < LIMIT / 2
    assert isinstance(caught.value.__cause__, ValueError)
    bench.ended(ref)


def test_awaiting_a_start_that_crashes_ends_at_once(bench: ProcessBench) -> None:
    """B-04 (process): the same for a process that is killed in `on_start`."""
    hooks = {"start": partial(_die, signal.SIGKILL)}
    ref = bench.system.create(partial(Holder, hooks=hooks))
    with pytest.raises(ComponentFaultError, match="on_start with ProcessExitError") as caught:
        bench.system.start(ref).result(LIMIT)
    assert "SIGKILL" in str(caught.value.__cause__)
    bench.ended(ref)


def _die(number: int, component: Any) -> None:
    components.die(component, number)


def test_control_overtakes_messages(
    bench: ProcessBench, notes: Notes, make_gate: MakeGate
) -> None:
    """B-05 (process): stop and start are served before the messages that were sent first."""
    reached, gate = make_gate(), make_gate()
    ref = bench.started(None, notes)
    ref.tell(Do(components.wait_noting, (reached, gate)))
    ref.tell(Add("first"))
    ref.tell(Add("second"))
    bench.until(lambda: reached.is_open)
    before = announced(ref)
    orders = [bench.system.stop(ref), bench.system.start(ref)]
    bench.until(lambda: announced(ref) > before)
    gate.open()
    for order in orders:
        order.result(LIMIT)
    do(ref, components.pid)
    assert notes.lines() == ["start", "stop", "start", "first", "second"]


def test_a_kill_runs_its_hook_once_and_handles_nothing_more(
    bench: ProcessBench, notes: Notes, make_gate: MakeGate
) -> None:
    """B-06 (process): when the kill is done `on_kill` ran once; queued messages are letters."""
    reached, gate = make_gate(), make_gate()
    ref = bench.started(None, notes)
    ref.tell(Do(components.wait_noting, (reached, gate)))
    for number in range(20):
        ref.tell(Add(str(number)))
    bench.until(lambda: reached.is_open)
    before = announced(ref)
    kills = [bench.system.kill(ref) for _ in range(3)]
    bench.until(lambda: announced(ref) > before)
    gate.open()
    for kill in kills:
        kill.result(LIMIT)
    assert notes.lines() == ["start", "kill"]
    assert bench.event_of(events.DeadLetters, ref).count == 20
    assert sum(letters.count for letters in bench.events_of(events.DeadLetters, ref)) == 20


def test_on_kill_is_on_stop_by_default(bench: ProcessBench, notes: Notes) -> None:
    """B-06 (process): the default `on_kill` calls `on_stop`, but not of a paused component."""
    one = bench.started(factory=partial(Plain, notes))
    bench.system.kill(one).result(LIMIT)
    assert notes.lines() == ["stop"]
    other = bench.started(factory=partial(Plain, notes))
    bench.system.stop(other).result(LIMIT)
    bench.system.kill(other).result(LIMIT)
    assert notes.lines() == ["stop", "stop"]


def test_a_brutal_kill_runs_no_hook(bench: ProcessBench, notes: Notes) -> None:
    """S-01 (process): `kill(brutal=True)`; the process is gone when it is done."""
    ref = bench.started(None, notes)
    process = identity_of(do(ref, components.pid))
    bench.system.kill(ref, brutal=True).result(LIMIT)
    assert notes.lines() == ["start"]
    assert process is not None
    assert not process.is_alive()


def _end_and_note(component: Holder) -> None:
    component.kill_self()
    component.note("in hand")


def test_killing_itself_handles_nothing_more(bench: ProcessBench, notes: Notes) -> None:
    """B-07 (process): none of the queued messages is handled, and the hook runs once."""
    ref = bench.system.create(partial(Holder, None, notes))
    ref.tell(Do(_end_and_note))
    for number in range(20):
        ref.tell(Add(str(number)))
    bench.system.start(ref)
    bench.ended(ref)
    assert notes.lines() == ["start", "in hand", "kill"]


def _end_after_messages(component: Holder) -> None:
    component.kill_self(after_messages=True)


def test_killing_itself_after_messages_handles_those(bench: ProcessBench, notes: Notes) -> None:
    """B-08 (process): messages queued before are still handled."""
    ref = bench.system.create(partial(Holder, None, notes))
    ref.tell(Do(_end_after_messages))
    for number in range(20):
        ref.tell(Add(str(number)))
    bench.system.start(ref)
    bench.ended(ref)
    assert notes.lines() == ["start", *map(str, range(20)), "kill"]


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_a_kill_after_messages_handles_those(
    bench: ProcessBench, notes: Notes, count: int
) -> None:
    """S-02 (process): `kill(after_messages=True)`, also with more than are sent on at once."""
    ref = bench.started(None, notes)
    for number in range(count):
        ref.tell(Add(str(number)))
    bench.system.kill(ref, after_messages=True).result(2 * LIMIT)
    assert notes.lines() == ["start", *map(str, range(count)), "kill"]


def _pause_and_note(component: Holder) -> None:
    component.stop_self()
    component.note("in hand")


def test_stopping_itself_keeps_the_messages(bench: ProcessBench, notes: Notes) -> None:
    """S-01 (process): `stop_self()` pauses once the message in hand is handled."""
    ref = bench.started(None, notes)
    ref.tell(Do(_pause_and_note))
    bench.until(lambda: ref.state is State.PASSIVE)
    ref.tell(Add("late"))
    bench.until(lambda: notes.lines() == ["start", "in hand", "stop"])
    bench.system.start(ref).result(LIMIT)
    do(ref, components.pid)
    assert notes.lines() == ["start", "in hand", "stop", "start", "late"]


def test_stopping_itself_overtakes_what_is_queued(bench: ProcessBench, notes: Notes) -> None:
    """S-01, S-02 (process): `stop_self()` is looked at before the next queued message."""
    ref = bench.system.create(partial(Holder, None, notes))
    ref.tell(Do(_pause_and_note))
    for number in range(20):
        ref.tell(Add(str(number)))
    bench.system.start(ref)
    bench.until(lambda: "stop" in notes.lines())
    assert notes.lines() == ["start", "in hand", "stop"]
    bench.until(lambda: ref.state is State.PASSIVE)
    bench.system.start(ref).result(LIMIT)
    do(ref, components.pid)
    assert notes.lines()[3:] == ["start", *map(str, range(20))]


def test_stopping_or_killing_what_has_ended_returns(bench: ProcessBench) -> None:
    """B-09 (process): a second stop, and anything but a start after the end, is no error."""
    ref = bench.started()
    bench.system.stop(ref).result(LIMIT)
    bench.system.stop(ref).result(LIMIT)
    bench.system.kill(ref).result(LIMIT)
    bench.system.stop(ref).result(LIMIT)
    bench.system.kill(ref).result(LIMIT)
    with pytest.raises(ComponentDestroyedError):
        bench.system.start(ref)


def test_a_component_that_never_started_can_be_killed(bench: ProcessBench, notes: Notes) -> None:
    """B-09 (process): `on_kill` runs, and the process is gone."""
    ref = bench.system.create(partial(Holder, None, notes))
    bench.system.kill(ref).result(LIMIT)
    assert notes.lines() == ["kill"]


def test_a_process_that_hangs_is_ended_by_force(
    make_bench: Any, make_gate: MakeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B-58 (process): a handler that never returns holds a shutdown for its deadline, not more,
    and its process is gone afterwards."""
    monkeypatch.setattr(remote, "PATIENCE", SHORT)
    bench = make_bench()
    reached = make_gate()
    ref = bench.started()
    process = identity_of(do(ref, components.pid))
    ref.tell(Do(components.wait_noting, (reached, make_gate())))
    bench.until(lambda: reached.is_open)
    begun = time.monotonic()
    bench.system.shutdown()
    assert time.monotonic() - begun < 5.0
    assert bench.events_of(events.ProcessForced, ref)
    assert process is not None
    assert not process.is_alive()


def test_a_stopped_process_is_ended_by_force(
    bench: ProcessBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B-58 (process): SIGSTOP keeps a process from everything but SIGKILL; a kill uses that."""
    monkeypatch.setattr(remote, "PATIENCE", SHORT)
    ref = bench.started()
    number = do(ref, components.pid)
    process = identity_of(number)
    os.kill(number, signal.SIGSTOP)
    begun = time.monotonic()
    bench.system.kill(ref).result(2 * LIMIT)
    assert time.monotonic() - begun < LIMIT
    assert process is not None
    assert not process.is_alive()


def test_a_stopped_process_is_ended_at_once_by_a_brutal_kill(bench: ProcessBench) -> None:
    """S-01 (process): a brutal kill waits for nobody."""
    ref = bench.started()
    os.kill(do(ref, components.pid), signal.SIGSTOP)
    begun = time.monotonic()
    bench.system.kill(ref, brutal=True).result(LIMIT)
    assert time.monotonic() - begun < 2.0


def _ignore_terms(component: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _hang(component: Any) -> None:
    time.sleep(60)


def test_a_hook_that_hangs_is_ended_by_force(
    bench: ProcessBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B-58 (process): `on_kill` that hangs and ignores SIGTERM is ended by SIGKILL."""
    monkeypatch.setattr(remote, "PATIENCE", SHORT)
    ref = bench.started(hooks={"start": _ignore_terms, "kill": _hang})
    process = identity_of(do(ref, components.pid))
    begun = time.monotonic()
    bench.system.kill(ref).result(2 * LIMIT)
    assert time.monotonic() - begun < LIMIT
    assert process is not None
    assert not process.is_alive()
    assert bench.events_of(events.ProcessForced, ref)


def test_a_constructor_that_raises_leaves_nothing(bench: ProcessBench) -> None:
    """B-60, S-13 (process): the caller gets it as the cause; no name, no entry, no process."""
    name = new_name()
    before = len(bench.system.tree().children)
    with pytest.raises(ComponentCreateError) as caught:
        bench.system.create(partial(Holder, hooks={"init": components.fail}), name=name)
    assert isinstance(caught.value.__cause__, ValueError)
    assert bench.system.find(name) is None
    assert len(bench.system.tree().children) == before
    assert bench.started(name=name).ask(Get()) == "default"


@pytest.mark.parametrize(
    "action", [partial(_die, signal.SIGSEGV), lambda component: components.leave(component, 0)]
)
def test_a_constructor_that_crashes_leaves_nothing(bench: ProcessBench, action: Any) -> None:
    """B-60 (process): the same for a process that ends in `__init__`, however it does."""
    name = new_name()
    with pytest.raises(ComponentCreateError) as caught:
        bench.system.create(partial(Holder, hooks={"init": action}), name=name)
    assert "child process" in str(caught.value.__cause__)
    assert bench.started(name=name).ask(Get()) == "default"


class Reserved(Holder):
    """Defines what kompyct provides."""

    log = "mine"  # type: ignore[assignment]  # pyright: ignore


def test_a_class_that_takes_a_reserved_name_is_refused(bench: ProcessBench) -> None:
    """S-21 (process): as itself, at the creation."""
    with pytest.raises(ReservedNameError, match="Reserved defines 'log'"):
        bench.system.create(Reserved)


def _set_timer(component: Holder) -> None:
    component.schedule_once(1, component.on_stop)


def test_timers_in_a_constructor_are_refused(bench: ProcessBench) -> None:
    """S-21 (process): timers and tells to oneself raise until the start."""
    with pytest.raises(ComponentCreateError) as caught:
        bench.system.create(partial(Holder, hooks={"init": _set_timer}))
    assert isinstance(caught.value.__cause__, NotStartedError)


def test_the_old_stop_hook_is_over_before_the_new_start_hook(
    bench: ProcessBench, notes: Notes, make_gate: MakeGate
) -> None:
    """B-61 (process): a start ordered during a slow `on_stop` begins after that."""
    gate = make_gate()
    ref = bench.started(None, notes, hooks={"stop": partial(_wait_and_note, gate)})
    stop = bench.system.stop(ref)
    start = bench.system.start(ref)
    bench.until(lambda: "stop" in notes.lines())
    gate.open()
    stop.result(LIMIT)
    start.result(LIMIT)
    assert notes.lines() == ["start", "stop", "waited", "start"]


def test_the_old_process_is_gone_before_the_new_start_hook(
    bench: ProcessBench, notes: Notes
) -> None:
    """B-61, S-32 (process): the replacement's `on_start` waits until the process before it,
    which had crashed, is gone."""
    ref = bench.started(
        None, notes, recovery=components.again, hooks={"start": _note_whether_others_live}
    )
    ref.tell(Do(components.segfault))
    bench.event_of(events.ComponentRecovered, ref)
    pids = [line.split()[1:] for line in notes.lines() if line.startswith("pids")]
    assert [len(line) for line in pids] == [1, 1]
    assert pids[0] != pids[1]


def _note_whether_others_live(component: Holder) -> None:
    """Note the numbers of those processes that have started this component and still live."""
    assert component.notes is not None
    component.notes.add(f"mine {os.getpid()}")
    mine = [line.split()[1] for line in component.notes.lines() if line.startswith("mine")]
    component.notes.add(f"pids {' '.join(filter(_lives, mine))}")


def _lives(number: str) -> bool:
    """Whether the process is there: one that is still to be reaped is gone, as a pidfd says."""
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(") ")[2][0] != "Z"


def test_a_bounded_mailbox_is_full_where_it_says(
    bench: ProcessBench, notes: Notes, make_gate: MakeGate
) -> None:
    """S-20 (process): with a limit of 2, one is in hand and two wait; the next is refused."""
    reached, gate = make_gate(), make_gate()
    ref = bench.started(None, notes, mailbox_limit=2)
    ref.tell(Do(components.wait_noting, (reached, gate)))
    bench.until(lambda: reached.is_open)
    ref.tell(Add("1"))
    ref.tell(Add("2"))
    with pytest.raises(MailboxFullError):
        ref.tell(Add("3"))
    with pytest.raises(MailboxFullError):
        ref.ask(Get())
    gate.open()
    bench.until(lambda: notes.lines() == ["start", "1", "2"])
    ref.tell(Add("4"))
    do(ref, components.pid)
    assert notes.lines() == ["start", "1", "2", "4"]


@pytest.mark.parametrize(
    ("overflow", "handled"), [("drop_new", ["1", "2"]), ("drop_old", ["2", "3"])]
)
def test_a_bounded_mailbox_drops_what_it_was_told(
    bench: ProcessBench, notes: Notes, make_gate: MakeGate, overflow: Any, handled: list[str]
) -> None:
    """S-20 (process): what is dropped is a dead letter."""
    reached, gate = make_gate(), make_gate()
    ref = bench.started(None, notes, mailbox_limit=2, overflow=overflow)
    ref.tell(Do(components.wait_noting, (reached, gate)))
    bench.until(lambda: reached.is_open)
    for number in (1, 2, 3):
        ref.tell(Add(str(number)))
    gate.open()
    bench.until(lambda: notes.lines()[1:] == handled)
    assert bench.event_of(events.DeadLetters, ref).count == 1


def test_inline_asks_are_answered_as_usual(bench: ProcessBench) -> None:
    """Asks with `inline_asks` cannot run here; they run where the component is."""
    ref = bench.started(5, inline_asks=True)
    assert ref.ask(Get()) == 5
    assert do(ref, components.pid) != os.getpid()


def test_the_standby_takes_over(bench: ProcessBench) -> None:
    """S-32 (process): with `standby=True` the next incarnation is recovered as without."""
    ref = bench.started(1, recovery=components.from_snapshot, standby=True)
    pids = {do(ref, components.pid)}
    for count in (1, 2, 3):
        do(ref, components.save, count * 10)
        ref.tell(Do(components.die, (signal.SIGKILL,)))
        bench.event_of(events.ComponentRecovered, ref, count)
        assert ref.ask(Get()) == count * 10
        pids.add(do(ref, components.pid))
    assert len(pids) == 4


def test_options_of_processes_are_refused_elsewhere(bench: ProcessBench) -> None:
    """`standby=` and `overlap=` say what they are for."""
    for option in ({"standby": True}, {"overlap": True}):
        with pytest.raises(ArgumentError, match="for backend='process'"):
            bench.system.create(Holder, backend="thread", **option)  # type: ignore[arg-type]


def test_the_budget_ends_the_component(bench: ProcessBench) -> None:
    """S-08 (process): of two restarts in 10 s, the third end of its process is the last."""
    ref = bench.started(recovery=components.again, budget=RestartLimit(2, 10.0))
    for count in (1, 2):
        ref.tell(Do(components.die, (signal.SIGKILL,)))
        bench.event_of(events.ComponentRecovered, ref, count)
    ref.tell(Do(components.die, (signal.SIGKILL,)))
    bench.ended(ref)
    assert bench.event_of(events.RestartLimitReached, ref).max_restarts == 2
