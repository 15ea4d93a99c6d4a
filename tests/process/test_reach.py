"""What does a component in a process of its own reach: others, its system, timers, the log?"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy
import pytest

from kompyct import Component, ComponentRef, events
from kompyct.errors import (
    ArgumentTypeError,
    AskCircleError,
    AskTimeoutError,
    ComponentDestroyedError,
    DuplicateNameError,
    IncarnationEndedError,
    NotStartedError,
    UnhandledMessageError,
    UnpicklableError,
)
from tests.conftest import LIMIT
from tests.process import components
from tests.process.components import Add, Do, Gate, Get, Holder, Kept, Notes, again, from_snapshot
from tests.process.conftest import ProcessBench, do, new_name

MakeGate = Callable[[], Gate]


# -- other components ------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["thread", "pool", "process"])
def test_a_ref_is_told_and_asked_in_a_child(bench: ProcessBench, backend: Any) -> None:
    """A ref that was pickled into a message works there, wherever its component is."""
    target = bench.started(1, backend=backend)
    ref = bench.started()
    do(ref, components.tell, target, Do(components.save_only, (2,)))
    do(ref, components.tell, target, Do(_set_state, (2,)))
    assert do(ref, components.ask, target, Get()) == 2
    assert do(ref, _facts_of, target) == (target.name, target.path, 1, "active", True)
    assert do(ref, components.echo, target) == target
    assert target.ask(Get()) == 2


def _set_state(component: Holder, state: Any) -> None:
    component.state = state


def _facts_of(component: Holder, ref: Any) -> tuple[Any, ...]:
    return ref.name, ref.path, ref.incarnation, ref.state.value, ref.is_alive


def test_refs_are_equal_in_a_child(bench: ProcessBench) -> None:
    """Two refs of one component are equal and have one hash, of two they are not equal."""
    one, other = bench.started(), bench.started()
    assert do(bench.started(), _compare, one, one, other) == (True, True, False)
    assert do(one, _is_own, one) is True


def _compare(component: Holder, one: Any, same: Any, other: Any) -> tuple[bool, bool, bool]:
    copied = pickle.loads(pickle.dumps(same))
    return one == copied, hash(one) == hash(copied), one == other


def _is_own(component: Holder, ref: Any) -> bool:
    return bool(component.ref == ref)


def test_an_ask_in_a_child_gets_the_error(bench: ProcessBench) -> None:
    """S-16 (process): what the other component raises is raised at the asker in the child, and
    that one can deal with it."""
    target = bench.started(backend="thread", recovery=again)
    ref = bench.started()
    assert do(ref, _error_of_ask, target, Do(components.fail)) == "ValueError"
    assert do(ref, _error_of_ask, target, Do(components.fail, (KeyboardInterrupt,))) == (
        "ComponentFaultError"
    )
    assert do(ref, _error_of_ask, target, Add("x")) == "none"
    bench.system.kill(target).result(LIMIT)
    assert do(ref, _error_of_ask, target, Get()) == "ComponentDestroyedError"


def _error_of_ask(component: Holder, ref: Any, request: Any, timeout: float = LIMIT) -> str:
    try:
        ref.ask(request, timeout=timeout)
    except Exception as error:
        return type(error).__name__
    return "none"


def test_an_ask_in_a_child_times_out(bench: ProcessBench, make_gate: MakeGate) -> None:
    """S-16 (process): after its timeout; the message is still handled, the reply dropped."""
    gate = make_gate()
    target = bench.started(1, backend="thread")
    ref = bench.started()
    target.tell(Do(components.wait, (gate,)))
    assert do(ref, _error_of_ask, target, Get(), 0.05) == "AskTimeoutError"
    gate.open()
    assert do(ref, components.ask, target, Get()) == 1


def test_an_ask_times_out(bench: ProcessBench, make_gate: MakeGate) -> None:
    """S-16 (process): of a component in a process; its reply is dropped, the next one right."""
    gate = make_gate()
    ref = bench.started(1)
    late = bench.system.late_replies
    ref.tell(Do(components.wait, (gate,)))
    with pytest.raises(AskTimeoutError):
        do(ref, components.echo, "late", timeout=0.05)
    gate.open()
    assert ref.ask(Get()) == 1
    bench.until(lambda: bench.system.late_replies == late + 1)


@pytest.mark.parametrize("way", ["future", "async"])
def test_asks_that_do_not_block(bench: ProcessBench, way: str) -> None:
    """`ask(block=False)` and `ask_async`, from the test and in a child."""
    target = bench.started(3)
    ref = bench.started()
    assert do(ref, _ask_by, target, way) == [3] * 20
    if way == "async":
        assert asyncio.run(target.ask_async(Get())) == 3


def _ask_by(component: Holder, ref: Any, way: str) -> list[Any]:
    if way == "future":
        asks = [ref.ask(Get(), block=False) for _ in range(20)]
        return [ask.result(LIMIT) for ask in asks]

    async def ask_all() -> list[Any]:
        return list(await asyncio.gather(*(ref.ask_async(Get()) for _ in range(20))))

    return asyncio.run(ask_all())


def test_asks_from_a_thread_of_a_component(bench: ProcessBench) -> None:
    """A thread that the component has started asks and tells like any other."""
    target = bench.started(3)
    ref = bench.started()
    assert do(ref, components.in_a_thread, partial(_ask_target, target)) == "3"


def _ask_target(target: Any, component: Holder) -> Any:
    return target.ask(Get())


@pytest.mark.parametrize(
    "backends", [("process", "process"), ("process", "thread"), ("thread", "process")]
)
def test_asks_in_a_circle_are_refused(bench: ProcessBench, backends: Any) -> None:
    """S-16 (process): a blocking ask that would wait for its asker raises at once."""
    one = bench.started(backend=backends[0])
    other = bench.started(backend=backends[1])
    begun = time.monotonic()
    with pytest.raises(AskCircleError):
        do(one, components.ask, other, Do(components.ask, (one, Get(), None)), None, timeout=None)
    assert time.monotonic() - begun < LIMIT


def test_asking_oneself_is_refused(bench: ProcessBench) -> None:
    """S-16 (process): the smallest circle."""
    ref = bench.started()
    begun = time.monotonic()
    with pytest.raises(AskCircleError):
        do(ref, components.ask, ref, Get())
    assert time.monotonic() - begun < LIMIT / 2


def test_asks_to_one_while_it_asks_are_answered(bench: ProcessBench, make_gate: MakeGate) -> None:
    """No circle, no refusal: while a component waits for another, whoever asks it waits."""
    reached, gate = make_gate(), make_gate()
    slow = bench.started(1)
    ref = bench.started(2)
    slow.tell(Do(components.wait_noting, (reached, gate)))
    first = ref.ask(Do(components.ask, (slow, Get())), block=False)
    bench.until(lambda: reached.is_open)
    second = ref.ask(Get(), block=False)
    gate.open()
    assert (first.result(LIMIT), second.result(LIMIT)) == (1, 2)


def test_a_message_to_oneself_is_handled_after_those_before(
    bench: ProcessBench, notes: Notes
) -> None:
    """B-01 (process): a component that tells itself gets that as a message of its own."""
    ref = bench.started(None, notes)
    ref.tell(Do(_tell_oneself, ("later",)))
    bench.until(lambda: "later" in notes.lines())
    assert notes.lines() == ["start", "now", "later"]


def _tell_oneself(component: Holder, line: str) -> None:
    component.ref.tell(Add(line))
    component.note("now")


def test_what_a_child_told_before_it_was_killed_arrives(bench: ProcessBench, notes: Notes) -> None:
    """What was sent is sent: 500 tells just before the end of the process arrive in order."""
    target = bench.started(None, notes, backend="thread")
    ref = bench.started(recovery=again)
    ref.tell(Do(_tell_many_and_die, (target, 500)))
    bench.event_of(events.ComponentRecovered, ref)
    bench.until(lambda: len(notes.lines()) == 501)
    assert notes.lines()[1:] == [str(number) for number in range(500)]


def _tell_many_and_die(component: Holder, target: Any, count: int) -> None:
    for number in range(count):
        target.tell(Add(str(number)))
    components.leave(component, 0)


def test_an_asker_that_dies_harms_nobody(bench: ProcessBench, make_gate: MakeGate) -> None:
    """The process of an asker is killed while it waits: the target goes on."""
    reached, gate = make_gate(), make_gate()
    target = bench.started(1, backend="thread")
    ref = bench.started(recovery=again)
    child = do(ref, components.pid)
    ref.tell(Do(components.ask, (target, Do(components.wait_noting, (reached, gate)))))
    bench.until(lambda: reached.is_open)
    os.kill(child, 9)
    bench.event_of(events.ComponentRecovered, ref)
    gate.open()
    assert target.ask(Get()) == 1
    assert do(ref, components.ask, target, Get()) == 1


def test_large_buffers_travel_whole(bench: ProcessBench) -> None:
    """Issue 4: large buffers go out of band; there and back 16 MB of an array are the same."""
    array = numpy.arange(2_000_000, dtype=numpy.float64)
    back = do(bench.started(), components.echo, array, timeout=4 * LIMIT)
    assert numpy.array_equal(array, back)
    back[0] = 1.0  # it is the receiver's own


def test_messages_of_many_senders_keep_their_orders(bench: ProcessBench, notes: Notes) -> None:
    """B-01 (process): of each sender in its order, each message once."""
    ref = bench.started(None, notes)
    start = threading.Barrier(4)

    def send(sender: int) -> None:
        start.wait(LIMIT)
        for number in range(500):
            ref.tell(Add(f"{sender} {number}"))

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    do(ref, components.pid, timeout=2 * LIMIT)
    for sender in range(4):
        mine = [line for line in notes.lines() if line.startswith(f"{sender} ")]
        assert mine == [f"{sender} {number}" for number in range(500)]


# -- the system ------------------------------------------------------------------------------


def test_the_system_is_reached_in_a_child(bench: ProcessBench) -> None:
    """`self.system` there: create, start, find, tree, stop and kill what is elsewhere."""
    ref = bench.started()
    name = new_name()
    made = do(ref, _make_one, name)
    assert bench.system.find(name) == made
    assert made.ask(Get()) == "made"
    assert made.state.value == "active"
    assert do(ref, _paths) >= {ref.path, name}
    do(ref, _order, "stop", made)
    assert made.state.value == "passive"
    do(ref, _order, "kill", made)
    assert bench.system.find(name) is None
    assert do(ref, _find, name) is None
    assert do(ref, _name_of_system) == bench.system.name


def _make_one(component: Holder, name: str) -> ComponentRef[Any]:
    ref: ComponentRef[Any] = component.system.create(partial(Holder, "made"), name=name)
    component.system.start(ref).result(LIMIT)
    found = component.system.find(name)
    assert found == ref
    return ref


def _paths(component: Holder) -> set[str]:
    return {node.path for node in component.system.tree().children}


def _order(component: Holder, order: str, ref: Any) -> None:
    getattr(component.system, order)(ref).result(LIMIT)


def _find(component: Holder, name: str) -> Any:
    return component.system.find(name)


def _name_of_system(component: Holder) -> str:
    return component.system.name


def test_errors_of_the_system_are_raised_in_a_child(bench: ProcessBench) -> None:
    """A name that is taken, a factory that cannot be sent: the same errors as in the parent."""
    ref = bench.started()
    with pytest.raises(DuplicateNameError):
        do(ref, _make_one, ref.name)
    with pytest.raises(UnpicklableError):
        do(bench.started(recovery=again), _make_unpicklable)


def _make_unpicklable(component: Holder) -> None:
    lock = threading.Lock()
    component.system.create(lambda: Holder(lock))


def test_a_component_kills_itself_by_the_system(bench: ProcessBench, notes: Notes) -> None:
    """`self.system.kill(self.ref)`, as from anywhere else; not waited for."""
    ref = bench.started(None, notes)
    ref.tell(Do(_kill_by_system))
    bench.ended(ref)
    assert notes.lines() == ["start", "kill"]


def _kill_by_system(component: Holder) -> None:
    component.system.kill(component.ref)


def test_a_component_shuts_its_system_down(make_bench: Any) -> None:
    """`self.system.shutdown()` in a child sets the end of the whole system going."""
    bench = make_bench()
    ref = bench.started()
    other = bench.started()
    ref.tell(Do(_shut_down))
    bench.ended(ref)
    bench.ended(other)
    bench.system.wait(LIMIT)


def _shut_down(component: Holder) -> None:
    component.system.shutdown()


def test_a_proxy_is_refused(bench: ProcessBench) -> None:
    """Cannot hold here: a proxy needs the object itself, and says so, on both sides."""
    ref = bench.started()
    with pytest.raises(ArgumentTypeError, match="tell and ask"):
        ref.proxy()
    with pytest.raises(ArgumentTypeError, match="tell and ask"):
        do(ref, _proxy, bench.started(backend="thread"))


def _proxy(component: Holder, ref: Any) -> None:
    ref.proxy()


def test_an_unhandled_message_is_the_askers(bench: ProcessBench) -> None:
    """S-19 (process): benign, and it names class and message."""
    ref = bench.started(1)
    with pytest.raises(UnhandledMessageError, match="does not take a str"):
        ref.ask("what")
    assert ref.ask(Get()) == 1


# -- timers ----------------------------------------------------------------------------------


def _stamp(component: Holder, begun: float, name: str) -> None:
    component.note(f"{name} {time.monotonic() - begun:.6f}")


def _schedule_once(component: Holder, delays: list[float]) -> None:
    begun = time.monotonic()
    for delay in delays:
        component.schedule_once(delay, partial(_stamp, component, begun, str(delay)))


def test_timers_never_fire_early(bench: ProcessBench, notes: Notes) -> None:
    """B-73 (process): each after its delay, in the order of their times."""
    ref = bench.started(None, notes)
    delays = [0.06, 0.02, 0.04, 0.0]
    do(ref, _schedule_once, delays)
    bench.until(lambda: len(notes.lines()) == 5)
    fired = [tuple(map(float, line.split())) for line in notes.lines()[1:]]
    assert [delay for delay, _ in fired] == sorted(delays)
    assert all(at >= delay for delay, at in fired)


def _tick(component: Holder) -> None:
    component.note("tick")


def _begin_ticking(component: Holder) -> None:
    component.timer = component.schedule_periodic(  # type: ignore[attr-defined]
        0.005, 0.005, partial(_tick, component)
    )


def _cancel(component: Holder) -> None:
    component.timer.cancel()  # type: ignore[attr-defined]
    component.note("cancelled")


def test_a_cancelled_timer_fires_no_more(bench: ProcessBench, notes: Notes) -> None:
    """B-73 (process): not after `cancel()` has returned, though a tick may have been due."""
    ref = bench.started(None, notes, hooks={"start": _begin_ticking})
    bench.until(lambda: notes.lines().count("tick") >= 3)
    do(ref, _cancel)
    bench.pass_time(0.05)
    assert do(ref, components.pid)
    assert notes.lines()[-1] == "cancelled"


def test_a_stop_cancels_timers(bench: ProcessBench, notes: Notes) -> None:
    """S-04 (process): no tick while it pauses, and a second start does not double the rate."""
    ref = bench.started(None, notes, hooks={"start": _begin_ticking})
    for _ in range(3):
        bench.until(lambda: notes.lines()[-1] == "tick")
        bench.system.stop(ref).result(LIMIT)
        assert notes.lines()[-1] == "stop"
        bench.pass_time(0.03)
        assert notes.lines()[-1] == "stop"
        bench.system.start(ref).result(LIMIT)
    assert do(ref, _count_timers) == 1


def _count_timers(component: Holder) -> int:
    timers = component._kompyct_cell.timers  # type: ignore[union-attr]
    return len(timers or ())


@pytest.mark.parametrize("end", [Do(components.fail), Do(components.segfault)])
def test_no_timer_reaches_the_next_incarnation(bench: ProcessBench, notes: Notes, end: Do) -> None:
    """B-74 (process): each incarnation has its own timers only."""
    ref = bench.started(None, notes, recovery=again, hooks={"start": _begin_ticking_with_pid})
    for count in (1, 2):
        bench.until(lambda: notes.lines()[-1].startswith("tick"))
        ref.tell(end)
        bench.event_of(events.ComponentRecovered, ref, count)
    bench.until(lambda: notes.lines()[-1].startswith("tick"))
    lines = notes.lines()
    for start in (index for index, line in enumerate(lines) if line == "start"):
        later = {line for line in lines[start + 1 :] if line.startswith("tick")}
        earlier = {line for line in lines[:start] if line.startswith("tick")}
        assert not later & earlier
    assert do(ref, _count_timers) == 1


def _begin_ticking_with_pid(component: Holder) -> None:
    component.schedule_periodic(0.002, 0.002, partial(component.note, f"tick {os.getpid()}"))


# -- what is kept, and the log ---------------------------------------------------------------


def _keep_two(component: Holder) -> None:
    assert component.notes is not None
    component.keep(Kept(component.notes, "a"))
    component.keep(Kept(component.notes, "b"))


def test_what_is_kept_is_closed_in_the_child(bench: ProcessBench, notes: Notes) -> None:
    """S-05 (process): in reverse order on stop, kill and fault, before the next `on_start`."""
    ref = bench.started(None, notes, recovery=again, hooks={"start": _keep_two})
    kept, left = ["start", "enter a", "enter b"], ["leave b", "leave a"]
    bench.system.stop(ref).result(LIMIT)
    assert notes.lines() == [*kept, "stop", *left]
    bench.system.start(ref).result(LIMIT)
    ref.tell(Do(components.fail))
    bench.event_of(events.ComponentRecovered, ref)
    assert notes.lines() == [*kept, "stop", *left, *kept, *left, *kept]
    bench.system.kill(ref).result(LIMIT)
    assert notes.lines()[-3:] == ["kill", *left]


def test_a_brutal_kill_closes_what_is_kept_or_loses_it(bench: ProcessBench, notes: Notes) -> None:
    """S-01, S-05 (process): no hook runs, and what the kernel held for it is free."""
    ref = bench.started(None, notes, hooks={"start": _keep_two})
    bench.system.kill(ref, brutal=True).result(LIMIT)
    assert "kill" not in notes.lines()


def test_keeping_in_a_constructor_is_refused(bench: ProcessBench) -> None:
    """S-05 (process): what is kept belongs to an active period."""
    ref = bench.started(None, hooks={"init": _note_refusal})
    assert ref.ask(Get()) == "NotStartedError"


def _note_refusal(component: Holder) -> None:
    try:
        component.keep(threading.Lock())
    except NotStartedError as error:
        component.state = type(error).__name__


class Listener(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def _log(component: Holder, text: str) -> None:
    component.log.warning("%s of %s", text, component.ref.path)
    try:
        components.fail(component)
    except ValueError:
        component.log.exception("with a traceback")
    logging.getLogger("somebody.else").error("unpicklable: %s", threading.Lock())


def test_logging_in_a_child_reaches_the_handlers_here(bench: ProcessBench) -> None:
    """Records of a child are handled by the loggers of the same names here, tracebacks as text."""
    ref = bench.started()
    own, other = Listener(), Listener()
    logger = logging.getLogger(f"kompyct.component.{ref.path}")
    logger.addHandler(own)
    logging.getLogger("somebody.else").addHandler(other)
    try:
        do(ref, _log, "greetings")
        bench.until(lambda: len(own.records) == 2 and len(other.records) == 1)
    finally:
        logger.removeHandler(own)
        logging.getLogger("somebody.else").removeHandler(other)
    first, second = own.records
    assert first.getMessage() == f"greetings of {ref.path}"
    assert first.levelno == logging.WARNING
    assert first.process == do(ref, components.pid)
    assert second.exc_text is not None
    assert "ValueError" in second.exc_text
    assert "unpicklable" in other.records[0].getMessage()


def test_a_late_call_in_a_child_is_refused(bench: ProcessBench, notes: Notes) -> None:
    """S-06 (process): an incarnation that has ended gets `IncarnationEndedError`; here its
    process is kept for a moment by what it closes."""
    ref = bench.started(None, notes, recovery=again, hooks={"start": _keep_late_caller})
    ref.tell(Do(components.fail))
    bench.event_of(events.ComponentRecovered, ref)
    assert "late IncarnationEndedError" in notes.lines()


class _LateCaller(Kept):
    """Calls its component when it is left."""

    component: Component[Any]

    def __exit__(self, *_: object) -> None:
        try:
            components.save_only(self.component, "late")
        except IncarnationEndedError as error:
            self._notes.add(f"late {type(error).__name__}")


def _keep_late_caller(component: Holder) -> None:
    assert component.notes is not None
    caller = _LateCaller(component.notes, "caller")
    caller.component = component
    component.keep(caller)


def test_an_ended_target_is_found_out_in_a_child(bench: ProcessBench) -> None:
    """B-69 (process): a ref in a child to what has ended: dead letter, and an error at once."""
    target = bench.started(backend="thread")
    ref = bench.started(target, recovery=from_snapshot)
    bench.system.kill(target).result(LIMIT)
    do(ref, components.tell, target, Add("late"))
    assert bench.event_of(events.DeadLetters, target).types == ("Add",)
    with pytest.raises(ComponentDestroyedError):
        do(ref, components.ask, target, Get())
