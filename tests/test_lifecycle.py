"""How components and systems begin, pause and end: B-01 to B-09, B-60, S-02, S-05, S-13, S-21."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pytest

from kompyct import (
    Component,
    ComponentRef,
    ComponentSystem,
    FaultContext,
    RecoveryHandler,
    Request,
    State,
    ending,
    events,
    root,
)
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    AskTimeoutError,
    ComponentCreateError,
    ComponentDestroyedError,
    ComponentFaultError,
    DuplicateNameError,
    IncarnationEndedError,
    InvalidComponentError,
    KompyctError,
    NotStartedError,
    ReservedNameError,
    ShutdownTimeoutError,
    SystemShutdownError,
    UnboundComponentError,
    UnknownBackendError,
)
from kompyct.testing import TestSystem, hang
from tests.conftest import LIMIT, Bench

MakeBench = Callable[..., Bench]
SHORT = 50_000_000  # nanoseconds: a deadline that is to be missed in real time
REAL = pytest.mark.parametrize("backend", ["thread", "pool"])  # where something can block


@dataclass(frozen=True)
class Ping(Request[str]):
    """Answered with "pong", to see that a component works."""


class Noting(Component[Any]):
    """Notes its hooks and messages; a callable message is called with the component."""

    def __init__(self, notes: list[Any]) -> None:
        self.notes = notes

    def on_start(self) -> None:
        self.notes.append("start")

    def on_stop(self) -> None:
        self.notes.append("stop")

    def on_receive(self, message: Any) -> object:
        if isinstance(message, Ping):
            return "pong"
        if callable(message):
            return message(self)
        self.notes.append(message)
        return None


class NotingKill(Noting):
    """Notes `on_kill` too, and does nothing else in it."""

    def on_kill(self) -> None:
        self.notes.append("kill")


class Echo(Component[Any]):
    """Answers "pong"; to see that a system works."""

    def on_receive(self, message: Any) -> object:
        return "pong"


def started(bench: Bench, factory: Callable[[], Component[Any]], **options: Any) -> Any:
    """A ref of a component that has started."""
    ref = bench.system.create(factory, **options)
    bench.system.start(ref).result(LIMIT)
    return ref


def works(bench: Bench) -> bool:
    """Whether a fresh component of the system starts and answers."""
    return bool(started(bench, Echo).ask(Ping(), timeout=LIMIT) == "pong")


def create_or_cause(
    bench: Bench, factory: Callable[[], Component[Any]], **options: Any
) -> tuple[ComponentRef[Any] | None, BaseException | None]:
    """A ref, or else why there is none."""
    try:
        return bench.system.create(factory, **options), None
    except ComponentCreateError as error:
        return None, error.__cause__


def never_return(bench: Bench, gate: threading.Event) -> None:
    """Hang: for good in virtual time, until `gate` opens in real time."""
    if bench.manual:
        hang()
    gate.wait(4 * LIMIT)


# -- start and stop --------------------------------------------------------------------------


def test_an_unstarted_component_keeps_messages_until_it_is_started(bench: Bench) -> None:
    """B-01: Given a created, unstarted component, messages wait; once it is started all are
    handled in send order."""
    notes: list[Any] = []
    ref = bench.system.create(lambda: Noting(notes))
    for number in range(600):  # more than two chunks of a turn
        ref.tell(number)
    assert works(bench)  # time enough for whoever would handle them
    assert notes == []
    assert ref.state is State.PASSIVE
    bench.system.start(ref).result(LIMIT)
    bench.until(lambda: len(notes) == 601)
    assert notes == ["start", *range(600)]


def test_an_ask_of_an_unstarted_component_is_answered_after_the_start(bench: Bench) -> None:
    """B-01, S-16: Given an ask sent to a passive component, it is queued until handled."""
    ref = bench.system.create(lambda: Noting([]))
    reply = ref.ask(Ping(), block=False)
    bench.settle()
    assert not reply.done()
    bench.system.start(ref)
    assert reply.result(LIMIT) == "pong"


def test_a_stopped_component_keeps_messages_and_state_until_the_next_start(bench: Bench) -> None:
    """B-02: Given a running component that is stopped, a message sent then is not handled until
    the next start, and its state is kept (S-01)."""
    notes: list[Any] = []
    ref = started(bench, lambda: Noting(notes))
    ref.tell("before")
    bench.until(lambda: "before" in notes)
    bench.system.stop(ref).result(LIMIT)
    ref.tell("while stopped")
    assert works(bench)
    assert ref.state is State.PASSIVE
    assert notes == ["start", "before", "stop"]
    bench.system.start(ref).result(LIMIT)
    bench.until(lambda: len(notes) == 5)
    assert notes == ["start", "before", "stop", "start", "while stopped"]
    assert ref.incarnation == 1


def test_a_start_is_over_when_on_start_has_returned(bench: Bench) -> None:
    """B-03: Given a start, when its future completes, the start hook has returned."""
    gate = threading.Event()
    returned: list[bool] = []

    class Slow(Component[Any]):
        def on_start(self) -> None:
            if not bench.manual:
                gate.wait(LIMIT)
            returned.append(True)

    ref = bench.system.create(Slow)
    future = bench.system.start_notify(ref)
    seen: list[list[bool]] = []
    future.add_done_callback(lambda _: seen.append(list(returned)))
    assert not future.done()
    gate.set()
    future.result(LIMIT)
    bench.until(lambda: bool(seen))
    assert seen == [[True]]
    assert ref.state is State.ACTIVE


@pytest.mark.parametrize("recovers", [False, True])
def test_a_fault_in_on_start_ends_the_wait_at_once(bench: Bench, recovers: bool) -> None:
    """B-04: Given a component that faults in its start hook, awaiting the start ends with an
    error promptly (within 1 s on the system's clock), whether or not it recovers later."""
    cause = ValueError("no")
    attempts: list[int] = []

    class Bad(Component[Any]):
        def on_start(self) -> None:
            if recovers:
                self.set_recovery_function(lambda fault: fault.restart())
            attempts.append(1)
            if len(attempts) == 1:
                raise cause

    ref = bench.system.create(Bad)
    before = bench.system.clock.now()
    with pytest.raises(ComponentFaultError, match="on_start") as caught:
        bench.system.start(ref).result(LIMIT)
    assert bench.system.clock.now() - before < 1_000_000_000
    assert caught.value.__cause__ is cause
    expected = State.ACTIVE if recovers else State.DESTROYED
    bench.until(lambda: ref.state is expected)


def test_control_requests_are_served_before_messages(bench: Bench) -> None:
    """B-05: Given several control requests and many queued messages, the requests are served
    first, in their order (S-02). Sent from a handler, so that all are queued."""
    notes: list[Any] = []

    def flood(component: Noting) -> None:
        for number in range(400):
            component.ref.tell(number)
        component.system.stop(component.ref)
        component.system.start(component.ref)

    ref = started(bench, lambda: Noting(notes))
    ref.tell(flood)
    bench.until(lambda: len(notes) == 403)
    assert notes == ["start", "stop", "start", *range(400)]


def test_a_stop_overtakes_messages_between_any_two(bench: Bench) -> None:
    """S-02: Control signals are looked at between any two messages: a stop asked for while the
    second of four queued messages is handled leaves the last two for the next start."""
    notes: list[Any] = []

    def flood(component: Noting) -> None:
        component.ref.tell(1)
        component.ref.tell(lambda component: component.stop_self())
        component.ref.tell(3)
        component.ref.tell(4)

    ref = started(bench, lambda: Noting(notes))
    ref.tell(flood)
    bench.until(lambda: ref.state is State.PASSIVE)
    assert notes == ["start", 1, "stop"]
    bench.system.start(ref)
    bench.until(lambda: len(notes) == 6)
    assert notes == ["start", 1, "stop", "start", 3, 4]


def test_starting_an_active_component_changes_nothing(bench: Bench) -> None:
    """S-01: Given an active component, a second start completes and runs no hook again."""
    notes: list[Any] = []
    ref = started(bench, lambda: Noting(notes))
    bench.system.start(ref).result(LIMIT)
    assert notes == ["start"]


def test_create_with_start_starts_the_component(bench: Bench) -> None:
    """Issue scope 2: `create(..., start=True)` makes the component active by itself."""
    notes: list[Any] = []
    ref = bench.system.create(lambda: Noting(notes), start=True)
    ref.tell(1)
    bench.until(lambda: len(notes) == 2)
    assert notes == ["start", 1]


# -- kill ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Noting, NotingKill])
def test_a_killed_component_handles_no_later_message(bench: Bench, kind: type[Noting]) -> None:
    """B-06: Given a kill, when its future completes, the hook ran exactly once (the default
    `on_kill` calls `on_stop`, S-01) and no later message is handled."""
    notes: list[Any] = []
    futures: list[Future[None]] = []

    def end(component: Noting) -> None:
        for number in range(3):
            component.ref.tell(number)
        futures.append(component.system.kill(component.ref))
        futures.append(component.system.kill_notify(component.ref))

    ref = started(bench, lambda: kind(notes))
    ref.tell(end)
    bench.until(lambda: len(futures) == 2)
    for future in futures:
        future.result(LIMIT)
    ref.tell("later")
    assert works(bench)
    assert notes == ["start", "kill" if kind is NotingKill else "stop"]
    assert ref.state is State.DESTROYED
    bench.until(lambda: sum(e.count for e in bench.events.of(events.DeadLetters)) == 4)


def test_many_kills_at_once_run_the_hook_once(bench: Bench) -> None:
    """B-06: Given kills from several threads, each future completes and `on_kill` ran once."""
    notes: list[Any] = []
    ref = started(bench, lambda: NotingKill(notes))
    futures: list[Future[None]] = []
    if bench.manual:
        futures = [bench.system.kill(ref) for _ in range(4)]
    else:
        barrier = threading.Barrier(4)

        def kill() -> None:
            barrier.wait(LIMIT)
            futures.append(bench.system.kill(ref))

        threads = [threading.Thread(target=kill) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
    for future in futures:
        future.result(LIMIT)
    assert len(futures) == 4
    assert notes == ["start", "kill"]
    bench.event(events.ComponentEnded)
    assert len(bench.events.of(events.ComponentEnded)) == 1


def test_a_brutal_kill_runs_no_hook(bench: Bench) -> None:
    """S-01: `kill(brutal=True)` runs no hook."""
    notes: list[Any] = []
    ref = started(bench, lambda: NotingKill(notes))
    bench.system.kill(ref, brutal=True).result(LIMIT)
    assert notes == ["start"]
    assert ref.state is State.DESTROYED


def test_killing_a_paused_component_does_not_stop_it_again(bench: Bench) -> None:
    """S-01: The default `on_kill` calls `on_stop`, which for a paused one has run already."""
    notes: list[Any] = []
    ref = started(bench, lambda: Noting(notes))
    bench.system.stop(ref).result(LIMIT)
    bench.system.kill(ref).result(LIMIT)
    assert notes == ["start", "stop"]


def test_a_self_kill_drops_what_is_queued(bench: Bench) -> None:
    """B-07: Given a self-requested immediate end in a handler with messages queued, none of
    those is handled and the kill hook runs once; they become dead letters in one event (S-02)."""
    notes: list[Any] = []

    def end(component: Noting) -> None:
        for number in range(300):
            component.ref.tell(number)
        component.kill_self()
        component.ref.tell("last")

    ref = started(bench, lambda: NotingKill(notes))
    ref.tell(end)
    bench.until(lambda: ref.state is State.DESTROYED)
    letters = bench.event(events.DeadLetters)
    assert notes == ["start", "kill"]
    assert letters.count == 301
    assert len(bench.events.of(events.DeadLetters)) == 1


def test_a_self_kill_after_messages_lets_them_be_handled(bench: Bench) -> None:
    """B-08: Given a self-kill queued as a message, messages queued before it are handled."""
    notes: list[Any] = []

    def end(component: Noting) -> None:
        for number in range(300):
            component.ref.tell(number)
        component.kill_self(after_messages=True)

    ref = started(bench, lambda: NotingKill(notes))
    ref.tell(end)
    bench.until(lambda: ref.state is State.DESTROYED)
    assert notes == ["start", *range(300), "kill"]


def test_a_kill_after_messages_lets_them_be_handled(bench: Bench) -> None:
    """S-02: `kill(after_messages=True)` from outside lets queued work finish first."""
    notes: list[Any] = []
    futures: list[Future[None]] = []

    def end(component: Noting) -> None:
        for number in range(3):
            component.ref.tell(number)
        futures.append(component.system.kill(component.ref, after_messages=True))

    ref = started(bench, lambda: NotingKill(notes))
    ref.tell(end)
    bench.until(lambda: bool(futures))
    futures[0].result(LIMIT)
    assert notes == ["start", 0, 1, 2, "kill"]


def test_a_plain_kill_overtakes_one_after_messages(bench: Bench) -> None:
    """S-02: Given a kill after messages, a plain one ends the component before them, and both
    futures complete."""
    notes: list[Any] = []
    futures: list[Future[None]] = []

    def end(component: Noting) -> None:
        component.ref.tell(1)
        futures.append(component.system.kill(component.ref, after_messages=True))
        futures.append(component.system.kill(component.ref))

    ref = started(bench, lambda: NotingKill(notes))
    ref.tell(end)
    bench.until(lambda: len(futures) == 2)
    for future in futures:
        future.result(LIMIT)
    assert notes == ["start", "kill"]


@pytest.mark.parametrize("condition", ["unstarted", "stopped", "dead"])
def test_stopping_what_is_not_running_returns_without_error(bench: Bench, condition: str) -> None:
    """B-09: Given a stopped, dead or never started component, a stop returns without error."""
    ref = bench.system.create(Echo)
    if condition != "unstarted":
        bench.system.start(ref).result(LIMIT)
        bench.system.stop(ref).result(LIMIT)
    if condition == "dead":
        bench.system.kill(ref).result(LIMIT)
    for _ in range(2):
        bench.system.stop_notify(ref).result(LIMIT)
    assert ref.state is (State.DESTROYED if condition == "dead" else State.PASSIVE)


def test_killing_a_dead_component_returns_without_error(bench: Bench) -> None:
    """B-09: The same for a kill."""
    ref = started(bench, Echo)
    for _ in range(3):
        bench.system.kill(ref).result(LIMIT)
    assert not ref.is_alive


def test_starting_a_dead_component_raises_at_once(bench: Bench) -> None:
    """Issue, bad input: start of a destroyed component names it and the way out."""
    ref = started(bench, Echo, name="gone")
    bench.system.kill(ref).result(LIMIT)
    with pytest.raises(ComponentDestroyedError, match=r"'gone' has ended: killed.*create a new"):
        bench.system.start(ref)


def test_asking_a_dead_component_fails_at_once(bench: Bench) -> None:
    """Issue, bad input; S-17: an ask to a dead one fails at once, without a wait."""
    ref = started(bench, Echo, name="gone")
    bench.system.kill(ref).result(LIMIT)
    before = bench.system.clock.now()
    with pytest.raises(ComponentDestroyedError, match="'gone'"):
        ref.ask(Ping())
    with pytest.raises(ComponentDestroyedError, match="'gone'"):
        ref.ask(Ping(), block=False).result(LIMIT)
    assert bench.system.clock.now() - before < 1_000_000_000


def test_an_ask_queued_at_a_kill_fails_at_once(bench: Bench) -> None:
    """B-66, S-02: Given asks queued when the component is killed, they fail, and never hang."""
    ref = bench.system.create(Echo)
    reply = ref.ask(Ping(), block=False)
    bench.system.kill(ref)
    with pytest.raises(ComponentDestroyedError):
        reply.result(LIMIT)


def test_a_callback_of_a_lifecycle_future_that_exits_harms_nobody(bench: Bench) -> None:
    """DESIGN, "Nothing a user writes in Python can poison the system": a callback added to the
    future of a start runs in the component's turn; `sys.exit()` in it must not end that thread."""
    gate = threading.Event()

    class Slow(Echo):
        def on_start(self) -> None:
            if not bench.manual:
                gate.wait(LIMIT)

    def leave(_: object) -> None:
        raise SystemExit(3)

    ref = bench.system.create(Slow)
    bench.system.start(ref).add_done_callback(leave)
    gate.set()
    assert ref.ask(Ping(), timeout=LIMIT) == "pong"
    assert works(bench)


def test_a_callback_of_an_ask_that_exits_is_no_fault_of_the_component(bench: Bench) -> None:
    """Issue scope 3, "a fault of that one component and of no other": the asker's callback is
    not the component's code, so its `SystemExit` does not fault the component."""
    ref = started(bench, Echo)

    def leave(_: object) -> None:
        raise SystemExit(3)

    bench.system.stop(ref).result(LIMIT)
    ref.ask(Ping(), block=False).add_done_callback(leave)
    bench.system.start(ref)
    assert ref.ask(Ping(), timeout=LIMIT) == "pong"
    assert bench.events.of(events.ComponentFaulted) == []


# -- creation and names ----------------------------------------------------------------------


class Faulty(Component[Any]):
    """Cannot be made."""

    def __init__(self) -> None:
        raise ValueError("no")


@pytest.mark.parametrize("name", ["zombie", None])
def test_a_constructor_that_raises_leaves_nothing(bench: Bench, name: str | None) -> None:
    """B-60, S-13: Given a constructor that raises, the caller gets it as the cause, and there is
    no name, no thread, no child entry; an event tells of it."""
    assert works(bench)
    children = bench.system.tree().children
    threads = set(threading.enumerate())
    with pytest.raises(ComponentCreateError, match="ValueError") as caught:
        bench.system.create(Faulty, name=name)
    assert isinstance(caught.value.__cause__, ValueError)
    assert set(threading.enumerate()) <= threads
    assert [node.path for node in bench.system.tree().children] == [node.path for node in children]
    assert bench.event(events.CreateFailed).error == "ValueError"
    if name is not None:
        assert bench.system.find(name) is None
        assert started(bench, Echo, name=name).ask(Ping(), timeout=LIMIT) == "pong"


def test_a_ref_taken_in_a_constructor_that_raises_is_dead(bench: Bench) -> None:
    """B-60, S-17: Given a constructor that gives its ref away and raises, that ref names no
    living component: a tell is a dead letter and an ask fails at once."""
    refs: list[ComponentRef[Any]] = []

    class Leaking(Component[Any]):
        def __init__(self) -> None:
            refs.append(self.ref)
            raise ValueError("no")

    with pytest.raises(ComponentCreateError):
        bench.system.create(Leaking)
    bench.settle()
    assert not refs[0].is_alive
    with pytest.raises(ComponentDestroyedError):
        refs[0].ask(Ping(), timeout=0.2)
    refs[0].tell(1)
    assert bench.event(events.DeadLetters).count == 1


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, MemoryError, RecursionError])
def test_any_exception_of_a_first_creation_goes_to_the_caller(
    bench: Bench, error: type[BaseException]
) -> None:
    """S-13: A first creation that raises anything raises `ComponentCreateError`, also where the
    thread itself would end on it."""

    def factory() -> Component[Any]:
        raise error

    with pytest.raises(ComponentCreateError) as caught:
        bench.system.create(factory, name="never")
    assert isinstance(caught.value.__cause__, error)
    assert bench.system.find("never") is None


@pytest.mark.parametrize(
    ("factory", "error"),
    [
        (7, ArgumentTypeError),
        (None, ArgumentTypeError),
        (dict, InvalidComponentError),
        (lambda: None, InvalidComponentError),
        (lambda: Component, InvalidComponentError),
    ],
)
def test_a_factory_that_makes_no_component_is_refused(
    bench: Bench, factory: Any, error: type[KompyctError]
) -> None:
    """Issue, bad input: a factory that is not callable or returns no component."""
    with pytest.raises(error, match="factory"):
        bench.system.create(factory, name="never")
    assert bench.system.find("never") is None
    assert bench.system.tree().children == ()


def test_an_object_can_be_one_component_only(bench: Bench) -> None:
    """DESIGN: one object is one incarnation; a factory that returns a used one is refused."""
    component = None

    def factory() -> Component[Any]:
        nonlocal component
        component = component or Echo()
        return component

    bench.system.create(factory, name="first")
    with pytest.raises(InvalidComponentError, match="already is component 'first'"):
        bench.system.create(factory, name="second")
    assert bench.system.find("second") is None


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", ArgumentError),
        ("a/b", ArgumentError),
        ("x" * 201, ArgumentError),
        ("x" * 10_240, ArgumentError),
        ("new\nline", ArgumentError),
        ("nul\0", ArgumentError),
        ("del\x7f", ArgumentError),
        (7, ArgumentTypeError),
        (b"bytes", ArgumentTypeError),
    ],
)
def test_a_bad_name_is_refused(bench: Bench, name: Any, error: type[KompyctError]) -> None:
    """S-23: Any text of 1 to 200 characters without `/` and control characters; the message of
    a refusal is short whatever the name was."""
    with pytest.raises(error) as caught:
        bench.system.create(Echo, name=name)
    assert len(str(caught.value)) < 400
    assert bench.system.tree().children == ()


@pytest.mark.parametrize("name", ["x", "x" * 200, "Zähler 1", "a.b", " ", "#1"])
def test_any_other_text_is_a_name(bench: Bench, name: str) -> None:
    """S-23: Unicode, blanks and marks are fine."""
    ref = started(bench, Echo, name=name)
    assert bench.system.find(name) == ref
    assert (ref.name, ref.path) == (name, name)


def test_a_name_is_taken_until_its_component_has_ended(bench: Bench) -> None:
    """S-23, B-72: Names are unique among the living, and free when the kill future completes."""
    first = started(bench, Echo, name="one")
    with pytest.raises(DuplicateNameError, match=r"'one'.*active"):
        bench.system.create(Echo, name="one")
    bench.system.kill(first).result(LIMIT)
    assert bench.system.find("one") is None
    second = bench.system.create(Echo, name="one")
    assert second != first
    assert bench.system.find("one") == second


def test_find_returns_none_for_what_does_not_exist(bench: Bench) -> None:
    """S-23: `find` returns None when there is nothing."""
    assert bench.system.find("nothing") is None
    assert bench.system.find("no/such/path") is None
    assert bench.system.find("") is None


def test_an_unknown_backend_is_refused(bench: Bench) -> None:
    """Issue, bad input: the message names the value and the choices."""
    with pytest.raises(UnknownBackendError, match=r"'fibre'.*thread"):
        bench.system.create(Echo, backend="fibre")  # type: ignore[arg-type]
    with pytest.raises(UnknownBackendError, match=r"'fibre'.*thread"):
        ComponentSystem(backend="fibre")  # type: ignore[arg-type]


def test_a_component_knows_its_ref_log_and_system_in_init(bench: Bench) -> None:
    """S-21: `self.ref`, `self.log` and `self.system` work in `__init__`, and the ref is the one
    that `create` returns."""
    seen: list[Any] = []

    class Curious(Echo):
        def __init__(self) -> None:
            seen.extend((self.ref, self.system, self.log.name, self.ref.path))

    ref = bench.system.create(Curious, name="curious")
    assert seen[1:] == [bench.system, "kompyct.component.curious", "curious"]
    assert seen[0] == ref
    bench.system.start(ref)
    assert seen[0].ask(Ping(), timeout=LIMIT) == "pong"


@pytest.mark.parametrize("call", ["timer", "periodic", "tell", "ask", "keep"])
def test_timers_and_messages_to_oneself_raise_in_init(bench: Bench, call: str) -> None:
    """S-21: Timers and tells to oneself raise until start; the error says where they belong."""

    class Early(Component[Any]):
        def __init__(self) -> None:
            if call == "timer":
                self.schedule_once(0, print)
            elif call == "periodic":
                self.schedule_periodic(0, 1, print)
            elif call == "tell":
                self.ref.tell(1)
            elif call == "ask":
                self.ref.ask(Ping())
            else:
                self.keep(threading.Lock())

    with pytest.raises(ComponentCreateError) as caught:
        bench.system.create(Early)
    assert isinstance(caught.value.__cause__, NotStartedError)
    assert "on_start" in str(caught.value.__cause__)


def test_a_component_that_starts_itself_in_init_harms_nobody(bench: Bench) -> None:
    """S-21, DESIGN "nothing a user writes can poison the system": `self.system.start(self.ref)`
    in `__init__` either is refused with a clear error or starts the component afterwards."""

    class Eager(Echo):
        def __init__(self) -> None:
            self.system.start(self.ref)
            if not bench.manual:  # time for another thread to go wrong
                threading.Event().wait(0.02)

    ref, cause = create_or_cause(bench, Eager)
    if ref is None:
        assert isinstance(cause, NotStartedError)
    else:
        bench.until(lambda: ref.state is State.ACTIVE)
        assert ref.ask(Ping(), timeout=LIMIT) == "pong"
    assert works(bench)


@pytest.mark.parametrize("call", ["kill_self", "stop_self"])
def test_a_component_that_ends_itself_in_init_leaves_no_zombie(bench: Bench, call: str) -> None:
    """B-60, S-21: `kill_self()` in `__init__` either is refused with a clear error or ends the
    component; no entry of a dead component stays. `stop_self()` likewise leaves it whole."""

    class Early(Echo):
        def __init__(self) -> None:
            getattr(self, call)()
            if not bench.manual:
                threading.Event().wait(0.02)

    ref, cause = create_or_cause(bench, Early, name="early")
    if ref is None:
        assert isinstance(cause, NotStartedError)
        assert bench.system.find("early") is None
    else:
        if call == "kill_self":
            bench.until(lambda: not ref.is_alive)
            assert bench.system.find("early") is None
        else:
            bench.system.start(ref).result(LIMIT)
            assert ref.ask(Ping(), timeout=LIMIT) == "pong"
            bench.system.kill(ref).result(LIMIT)
    assert [node.path for node in bench.system.tree().children] == []


@pytest.mark.parametrize("name", ["ref", "log", "system"])
def test_a_class_that_takes_a_reserved_name_is_refused(bench: Bench, name: str) -> None:
    """S-21: A class that defines or assigns `ref`, `log` or `system` is refused at creation."""
    defining = type("Defining", (Component,), {name: 1})

    class Assigning(Component[Any]):
        def __init__(self) -> None:
            setattr(self, name, 1)

    for cls in (defining, Assigning):
        with pytest.raises(ReservedNameError, match=name):
            bench.system.create(cls, name="refused")
        assert bench.system.find("refused") is None


def test_a_component_made_by_hand_belongs_to_no_system(bench: Bench) -> None:
    """S-21: What no system created says so when it is used."""
    component = Echo()
    with pytest.raises(UnboundComponentError, match=r"Echo.*create"):
        _ = component.ref
    with pytest.raises(UnboundComponentError):
        component.kill_self()


def test_a_component_can_make_and_start_others(bench: Bench) -> None:
    """DESIGN: `self.system` is for use inside: a component makes, starts and asks another."""

    class Parent(Component[Any]):
        def on_receive(self, message: Any) -> object:
            child = self.system.create(Echo, name="child")
            self.system.start(child).result(LIMIT)
            return child.ask(Ping(), timeout=LIMIT)

    assert started(bench, Parent).ask(Ping(), timeout=LIMIT) == "pong"
    assert bench.system.find("child") is not None


# -- kept resources --------------------------------------------------------------------------


class Resource:
    """Notes how it is entered and left."""

    def __init__(self, name: str, notes: list[Any], error: BaseException | None = None) -> None:
        self.name = name
        self.notes = notes
        self.error = error

    def __enter__(self) -> str:
        self.notes.append(f"open {self.name}")
        return f"value of {self.name}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.notes.append((f"close {self.name}", kind, error, traceback is not None))
        if self.error is not None:
            raise self.error
        return True  # "swallow the exception": has no effect on a fault


class Keeping(Noting):
    """Keeps two resources while it is active."""

    first_error: BaseException | None = None

    def on_start(self) -> None:
        value = self.keep(Resource("a", self.notes))
        self.keep(Resource("b", self.notes, self.first_error))
        self.notes.append(value)


KEPT = ["open a", "open b", "value of a"]


@pytest.mark.parametrize("how", ["stop", "kill", "brutal", "shutdown"])
def test_kept_resources_are_closed_in_reverse_order(bench: Bench, how: str) -> None:
    """S-05: Kept things are closed in reverse order on stop and kill, after the hook, without an
    exception."""
    notes: list[Any] = []
    ref = started(bench, lambda: Keeping(notes))
    if how == "stop":
        bench.system.stop(ref).result(LIMIT)
    elif how == "shutdown":
        bench.system.shutdown()
    else:
        bench.system.kill(ref, brutal=how == "brutal").result(LIMIT)
    closed = [("close b", None, None, False), ("close a", None, None, False)]
    assert notes == [*KEPT, *([] if how == "brutal" else ["stop"]), *closed]


def test_a_restarted_period_keeps_anew(bench: Bench) -> None:
    """S-05: Each active period has its own; stop, start, kill close what each kept, once."""
    notes: list[Any] = []
    ref = started(bench, lambda: Keeping(notes))
    bench.system.stop(ref).result(LIMIT)
    bench.system.start(ref).result(LIMIT)
    bench.system.kill(ref).result(LIMIT)
    closed = [("close b", None, None, False), ("close a", None, None, False)]
    assert notes == [*KEPT, "stop", *closed, *KEPT, "stop", *closed]


def test_kept_resources_get_the_exception_and_are_free_for_the_replacement(bench: Bench) -> None:
    """S-05: On a fault `__exit__` gets the exception, before the next `on_start`; returning True
    does not make the fault undone."""
    notes: list[Any] = []
    error = ValueError("no")

    class Recovering(Keeping):
        def on_start(self) -> None:
            super().on_start()
            self.set_recovery_function(lambda fault: fault.restart())

    def fail(component: Noting) -> None:
        raise error

    ref = started(bench, lambda: Recovering(notes))
    ref.tell(fail)
    bench.event(events.ComponentRecovered)
    closed = [("close b", ValueError, error, True), ("close a", ValueError, error, True)]
    assert notes == [*KEPT, *closed, *KEPT]
    assert ref.incarnation == 2


def test_what_on_start_kept_is_closed_if_on_start_faults(bench: Bench) -> None:
    """S-05: A fault in `on_start` closes what it had kept so far."""
    notes: list[Any] = []
    error = ValueError("no")

    class Half(Noting):
        def on_start(self) -> None:
            self.keep(Resource("a", self.notes))
            raise error

    ref = bench.system.create(lambda: Half(notes))
    bench.system.start(ref)
    bench.until(lambda: not ref.is_alive)
    assert notes == ["open a", ("close a", ValueError, error, True)]


@pytest.mark.parametrize("raised", [OSError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("how", ["stop", "kill", "fault"])
def test_a_resource_that_raises_when_closed_is_reported_only(
    bench: Bench, how: str, raised: type[BaseException]
) -> None:
    """S-05: `__exit__` that raises is an event; the others are closed and the end goes on."""
    notes: list[Any] = []

    class Raising(Keeping):
        first_error = raised()

    def fail(component: Noting) -> None:
        raise ValueError("no")

    ref = started(bench, lambda: Raising(notes))
    if how == "stop":
        bench.system.stop(ref).result(LIMIT)
    elif how == "kill":
        bench.system.kill(ref).result(LIMIT)
    else:
        ref.tell(fail)
    event = bench.event(events.ResourceNotClosed)
    assert event.error == raised.__name__
    bench.until(lambda: ref.state is (State.PASSIVE if how == "stop" else State.DESTROYED))
    assert [note[0] for note in notes if isinstance(note, tuple)] == ["close b", "close a"]


@pytest.mark.parametrize("how", ["stop", "kill", "fault"])
def test_a_resource_that_does_not_close_is_left_behind(
    bench: Bench, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-05: Kept things are closed with a deadline (5 s; here 50 ms in real time): then the
    component goes on without them, and what comes back late changes nothing."""
    if not bench.manual:
        monkeypatch.setattr(ending, "KEEP_DEADLINE", SHORT)
    gate = threading.Event()
    entered = threading.Event()
    left = threading.Event()
    starts: list[int] = []

    class Hanging:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            entered.set()
            never_return(bench, gate)
            left.set()

    class Keeper(Echo):
        def on_start(self) -> None:
            self.set_recovery_function(lambda fault: fault.restart())
            starts.append(1)
            if len(starts) == 1:
                self.keep(Hanging())

        def on_receive(self, message: Any) -> object:
            if message == "fail":
                raise ValueError("no")
            return "pong"

    try:
        ref = started(bench, Keeper)
        before = bench.system.clock.now()
        if how == "stop":
            bench.system.stop(ref).result(2 * LIMIT)
            bench.system.start(ref).result(LIMIT)
        elif how == "kill":
            bench.system.kill(ref).result(2 * LIMIT)
            assert not ref.is_alive
        else:
            ref.tell("fail")
            bench.until(lambda: ref.incarnation == 2, 2 * LIMIT)
        waited = bench.system.clock.now() - before
        assert waited >= (5_000_000_000 if bench.manual else SHORT)
        assert "not closed" in bench.event(events.ResourceNotClosed).error
        if how != "kill":
            assert ref.ask(Ping(), timeout=LIMIT) == "pong"
        gate.set()
        if not bench.manual:
            assert left.wait(LIMIT)
        assert works(bench)
        if how != "kill":
            assert ref.ask(Ping(), timeout=LIMIT) == "pong"
        assert len(bench.events.of(events.ResourceNotClosed)) == 1
    finally:
        gate.set()
        if not bench.manual and entered.is_set():
            left.wait(LIMIT)


def test_an_inline_asker_gets_the_error_though_a_resource_does_not_close(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-05, S-16: Given an inline ask of a component that faults and whose resource hangs, the
    asker gets the exception, and no inner one of kompyct's."""
    if not bench.manual:
        monkeypatch.setattr(ending, "KEEP_DEADLINE", SHORT)
    gate = threading.Event()

    class Hanging:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            if bench.manual:
                hang()
            gate.wait(4 * SHORT / 1e9)

    class Keeper(Echo):
        def on_start(self) -> None:
            self.keep(Hanging())

        def on_receive(self, message: Any) -> object:
            raise ValueError("no")

    ref = started(bench, Keeper, inline_asks=True)
    with pytest.raises(ValueError, match="no"):
        ref.ask(Ping(), timeout=LIMIT)
    gate.set()
    bench.until(lambda: not ref.is_alive, 2 * LIMIT)
    assert works(bench)


# -- late threads ----------------------------------------------------------------------------

LATE_CALLS: dict[str, Callable[[Component[Any]], object]] = {
    "ref": lambda component: component.ref,
    "system": lambda component: component.system,
    "schedule_once": lambda component: component.schedule_once(0, print),
    "schedule_periodic": lambda component: component.schedule_periodic(0, 1, print),
    "set_recovery_function": lambda component: component.set_recovery_function(
        lambda fault: fault.end(), snapshot="late"
    ),
    "keep": lambda component: component.keep(threading.Lock()),
    "stop_self": lambda component: component.stop_self(),
    "kill_self": lambda component: component.kill_self(),
}


@pytest.mark.parametrize("call", LATE_CALLS)
@pytest.mark.parametrize("how", ["kill", "fault"])
def test_a_call_of_an_ended_incarnation_raises_and_changes_nothing(
    bench: Bench, call: str, how: str
) -> None:
    """S-06: After an incarnation's end every call from inside it raises
    `IncarnationEndedError`, and its replacement is not touched."""
    objects: list[Component[Any]] = []

    class Restarted(Echo):
        def on_start(self) -> None:
            objects.append(self)
            self.set_recovery_function(lambda fault: fault.restart(), snapshot="good")

        def on_receive(self, message: Any) -> object:
            if message == "fail":
                raise ValueError("no")
            return "pong"

    ref = started(bench, Restarted)
    if how == "kill":
        bench.system.kill(ref).result(LIMIT)
    else:
        ref.tell("fail")
        bench.event(events.ComponentRecovered)
    with pytest.raises(IncarnationEndedError, match="has ended"):
        LATE_CALLS[call](objects[0])
    if how == "fault":
        assert ref.ask(Ping(), timeout=LIMIT) == "pong"
        assert ref.incarnation == 2
        ref.tell("fail")  # the replacement's own registration is in force
        bench.event(events.ComponentRecovered, 2)


def test_a_paused_component_may_still_save_but_not_schedule(bench: Bench) -> None:
    """S-04, S-06: A pause is no end of the incarnation; timers belong to an active period."""
    objects: list[Component[Any]] = []

    class Paused(Echo):
        def on_start(self) -> None:
            objects.append(self)

    ref = started(bench, Paused)
    bench.system.stop(ref).result(LIMIT)
    objects[0].set_recovery_function(lambda fault: fault.restart(), snapshot=1)
    with pytest.raises(NotStartedError):
        objects[0].schedule_once(0, print)
    with pytest.raises(NotStartedError):
        objects[0].keep(threading.Lock())


# -- shutdown --------------------------------------------------------------------------------


def test_shutdown_ends_components_in_reverse_start_order(bench: Bench) -> None:
    """S-03: The tree ends in reverse start order (not creation order), each gone before the next
    is asked; those that were never started are ended too."""
    notes: list[Any] = []
    alive: list[list[str]] = []

    class Ending(Component[Any]):
        def on_kill(self) -> None:
            notes.append(self.ref.path)
            names = ("a", "b", "c", "never")
            alive.append([name for name in names if self.system.find(name) is not None])

    refs = {name: bench.system.create(Ending, name=name) for name in ("a", "b", "c", "never")}
    for name in ("b", "c", "a"):
        bench.system.start(refs[name]).result(LIMIT)
    bench.system.shutdown()
    assert [note for note in notes if note != "never"] == ["a", "c", "b"]
    assert [sorted(set(names) - {"never"}) for names in alive if names[-1:] != ["never"]] == [
        ["a", "b", "c"],
        ["b", "c"],
        ["b"],
    ]
    assert not any(ref.is_alive for ref in refs.values())


def test_a_component_started_again_keeps_its_place_in_the_order(bench: Bench) -> None:
    """S-03: Start order is that of first starts; a pause and a recovery do not change it."""
    notes: list[Any] = []

    class Ending(Echo):
        def on_kill(self) -> None:
            notes.append(self.ref.path)

    first = started(bench, Ending, name="first")
    started(bench, Ending, name="second")
    bench.system.stop(first).result(LIMIT)
    bench.system.start(first).result(LIMIT)
    bench.system.shutdown()
    assert notes == ["second", "first"]


def test_a_system_that_is_shut_down_refuses_new_work(bench: Bench) -> None:
    """Issue, bad input, "use after shutdown": each call gives the right error at once, and what
    only ends things returns without one (B-09)."""
    ref = started(bench, Echo, name="old")
    bench.system.shutdown()
    with pytest.raises(SystemShutdownError, match="shutting down"):
        bench.system.create(Echo)
    with pytest.raises(ComponentDestroyedError, match="'old'"):
        bench.system.start(ref)
    with pytest.raises(ComponentDestroyedError, match="'old'"):
        ref.ask(Ping())
    with pytest.raises(ComponentDestroyedError):
        ref.set_recovery_function(lambda fault: fault.end())
    bench.system.stop(ref).result(LIMIT)
    bench.system.kill(ref).result(LIMIT)
    ref.tell(1)
    assert [e.count for e in bench.events.of(events.DeadLetters)] == [1]
    assert bench.system.find("old") is None
    assert bench.system.tree().children == ()
    bench.system.wait(LIMIT)
    bench.system.shutdown()
    with bench.system:
        pass


def test_shutdown_leaves_no_threads(make_bench: MakeBench) -> None:
    """S-03: When `shutdown` returns, the threads of the system have ended or are ending."""
    before = set(threading.enumerate())
    bench = make_bench()
    for _ in range(20):
        ref = started(bench, Echo)
        ref.ask(Ping(), timeout=LIMIT)
    bench.system.shutdown()
    pause = threading.Event()
    for _ in range(500):
        if set(threading.enumerate()) <= before:
            break
        pause.wait(0.01)
    assert set(threading.enumerate()) <= before


def test_shutdown_with_drain_lets_queued_messages_be_handled(bench: Bench) -> None:
    """S-02: `shutdown(drain=seconds)` lets queued work finish first."""
    notes: list[Any] = []
    ref = started(bench, lambda: Noting(notes))
    for number in range(600):  # more than two chunks of a turn
        ref.tell(number)
    bench.system.shutdown(drain=LIMIT)
    assert notes == ["start", *range(600), "stop"]


def test_shutdown_without_drain_makes_dead_letters(bench: Bench) -> None:
    """S-02: Without drain what is left in the mailbox becomes dead letters, in one event."""
    notes: list[Any] = []
    ref = bench.system.create(lambda: Noting(notes))
    for number in range(7):
        ref.tell(number)
    bench.system.shutdown()
    assert notes == []
    assert [e.count for e in bench.events.of(events.DeadLetters)] == [7]


def test_drain_ends_when_its_time_is_over(bench: Bench) -> None:
    """S-02: A component that keeps itself busy is drained for that long only: it ends with the
    timer's next tick after 0.05 s, and the shutdown completes."""
    ticks: list[int] = []

    class Busy(Component[Any]):
        def on_start(self) -> None:
            self.ref.tell(0)

        def on_receive(self, message: int) -> None:
            ticks.append(message)
            self.ref.tell(message + 1)
            if bench.manual and message % 100 == 99:
                self.kill_self()  # in virtual time a busy loop takes none

    ref = started(bench, Busy)
    bench.until(lambda: len(ticks) > 3)
    bench.system.shutdown(drain=0.05)
    assert not ref.is_alive


def test_a_drain_that_a_hook_of_its_own_would_outlast_is_cut(bench: Bench) -> None:
    """S-02: A drained component whose kill is queued behind a pause is ended all the same: the
    stop keeps the queued kill waiting, and the end of the drain's time ends the wait."""
    notes: list[Any] = []

    def pause(component: Noting) -> None:
        component.ref.tell(1)
        component.system.shutdown(drain=0.05)
        component.ref.tell(lambda component: component.stop_self())
        component.ref.tell(2)

    ref = started(bench, lambda: Noting(notes))
    ref.tell(pause)
    bench.settle()
    bench.until(lambda: not ref.is_alive)
    assert notes[:2] == ["start", 1]
    bench.system.shutdown()


@REAL
def test_a_component_that_does_not_end_is_left_behind(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-03, B-58: A component that hangs in a handler holds the shutdown for its deadline (5 s;
    here 50 ms) only; an event names it and the others end in order."""
    monkeypatch.setattr(root, "END_DEADLINE", SHORT)
    gate = threading.Event()
    entered = threading.Event()
    left = threading.Event()
    notes: list[Any] = []

    class Stuck(Component[Any]):
        def on_receive(self, message: Any) -> None:
            entered.set()
            gate.wait(4 * LIMIT)
            left.set()

    try:
        other = started(bench, lambda: NotingKill(notes))
        ref = started(bench, Stuck, name="stuck")
        ref.tell(1)
        assert entered.wait(LIMIT)
        bench.system.shutdown(LIMIT)
        assert bench.event(events.Abandoned).path == "stuck"
        assert not other.is_alive
        assert notes == ["start", "kill"]
    finally:
        gate.set()
        left.wait(LIMIT)


@REAL
def test_a_shutdown_that_takes_too_long_raises(bench: Bench) -> None:
    """S-03: `timeout` bounds the whole; the error says what is left."""
    gate = threading.Event()
    entered = threading.Event()
    left = threading.Event()

    class Stuck(Component[Any]):
        def on_receive(self, message: Any) -> None:
            entered.set()
            gate.wait(4 * LIMIT)
            left.set()

    ref = started(bench, Stuck)
    ref.tell(1)
    assert entered.wait(LIMIT)
    try:
        before = bench.system.clock.now()
        with pytest.raises(ShutdownTimeoutError, match="1 components"):
            bench.system.shutdown(0.05)
        assert bench.system.clock.now() - before < 4_000_000_000
        with pytest.raises(ShutdownTimeoutError):  # a second call tells the same
            bench.system.shutdown()
    finally:
        gate.set()
        left.wait(LIMIT)
    bench.system._runtime.overtime = None  # for the fixture, which shuts down as well


@pytest.mark.parametrize("value", [-1, float("nan"), "1", True])
@pytest.mark.parametrize("what", ["timeout", "drain"])
def test_bad_times_of_a_shutdown_are_refused(bench: Bench, what: str, value: Any) -> None:
    """Issue, bad input: negative or NaN timeouts are refused at once, and nothing ends."""
    with pytest.raises((ArgumentError, ArgumentTypeError)):
        bench.system.shutdown(**{what: value})
    assert works(bench)


def test_a_shutdown_called_inside_a_component_sets_it_going(bench: Bench) -> None:
    """`shutdown` called inside a component does not wait for the component itself: the whole
    system ends, the caller's `on_kill` included."""
    notes: list[Any] = []
    ref = started(bench, lambda: NotingKill(notes))
    ref.tell(lambda component: component.system.shutdown())
    bench.until(lambda: not ref.is_alive)
    assert notes == ["start", "kill"]
    bench.system.wait(LIMIT)


def test_wait_ends_when_a_component_shuts_the_system_down(bench: Bench) -> None:
    """Issue scope 2, `wait`: blocks until the system has ended, whoever ended it."""
    ref = started(bench, lambda: Noting([]))
    ref.tell(lambda component: component.system.shutdown())
    bench.system.wait(LIMIT)
    assert not ref.is_alive


def test_wait_gives_up_after_its_timeout(bench: Bench) -> None:
    """`wait(timeout)` raises `TimeoutError` while the system goes on."""
    with pytest.raises(TimeoutError, match="has not ended"):
        bench.system.wait(0.01)
    with pytest.raises(TimeoutError, match="has not ended"):
        bench.system.wait(0)
    assert works(bench)


@pytest.mark.parametrize("value", [-1, float("nan"), "1"])
def test_a_bad_timeout_of_wait_is_refused(bench: Bench, value: Any) -> None:
    """Issue, bad input: negative or NaN timeout."""
    with pytest.raises((ArgumentError, ArgumentTypeError)):
        bench.system.wait(value)


def test_leaving_with_shuts_down(make_bench: MakeBench) -> None:
    """DESIGN: a system is a context manager; leaving it ends every component in order."""
    notes: list[Any] = []
    bench = make_bench()
    with bench.system as system:
        assert system is bench.system
        ref = started(bench, lambda: NotingKill(notes))
    assert notes == ["start", "kill"]
    assert not ref.is_alive


def test_an_exception_in_the_block_comes_out_of_with(make_bench: MakeBench) -> None:
    """DESIGN: an exception in the block ends the system and goes on."""
    bench = make_bench()
    refs: list[ComponentRef[Any]] = []

    def use() -> None:
        with bench.system:
            refs.append(started(bench, Echo))
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        use()
    assert not refs[0].is_alive


def test_a_keyboard_interrupt_in_the_block_shuts_down_in_order(make_bench: MakeBench) -> None:
    """S-35: `KeyboardInterrupt` unwinding `with` shuts down in order."""
    notes: list[Any] = []
    bench = make_bench()

    def use() -> None:
        with bench.system:
            started(bench, lambda: NotingKill(notes))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    assert notes == ["start", "kill"]


@REAL
def test_several_threads_may_shut_down_at_once(bench: Bench) -> None:
    """A second call waits for the end of the first: four threads, and each returns only when
    everything has ended."""
    notes: list[Any] = []
    ref = started(bench, lambda: NotingKill(notes))
    alive: list[bool] = []
    barrier = threading.Barrier(4)

    def end() -> None:
        barrier.wait(LIMIT)
        bench.system.shutdown()
        alive.append(ref.is_alive)

    threads = [threading.Thread(target=end) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert alive == [False] * 4
    assert notes == ["start", "kill"]


@REAL
def test_creations_that_race_with_a_shutdown_leave_nothing_alive(bench: Bench) -> None:
    """B-28: Each `create` beside a shutdown either is refused or makes a component that ends."""
    refs: list[ComponentRef[Any]] = []
    refused = threading.Event()
    begun = threading.Event()

    def create() -> None:
        while True:
            try:
                refs.append(bench.system.create(Echo, start=True))
            except SystemShutdownError:
                refused.set()
                return
            if len(refs) > 5:
                begun.set()

    thread = threading.Thread(target=create)
    thread.start()
    assert begun.wait(LIMIT)
    bench.system.shutdown()
    assert refused.wait(LIMIT)
    thread.join(LIMIT)
    bench.until(lambda: not any(ref.is_alive for ref in refs))
    assert bench.system.tree().children == ()


def test_messages_that_race_with_the_end_of_the_system_are_never_left_waiting(
    bench: Bench,
) -> None:
    """B-66, B-69: Asks sent while the system ends are answered or fail; none hangs."""
    refs = [started(bench, Echo) for _ in range(4)]
    replies: list[Future[Any]] = []
    if bench.manual:
        replies = [ref.ask(Ping(), block=False) for ref in refs]
        bench.system.shutdown()
    else:
        over = threading.Event()

        def ask(ref: ComponentRef[Any]) -> None:
            while not over.is_set() and len(replies) < 20_000:
                replies.append(ref.ask(Ping(), block=False))

        threads = [threading.Thread(target=ask, args=(ref,)) for ref in refs]
        for thread in threads:
            thread.start()
        bench.until(lambda: len(replies) > 100)
        bench.system.shutdown()
        over.set()
        for thread in threads:
            thread.join(LIMIT)
    for reply in replies:
        error = reply.exception(LIMIT)
        assert error is None or isinstance(error, ComponentDestroyedError)


# -- run -------------------------------------------------------------------------------------


@pytest.fixture
def harmless_signals() -> Iterator[list[Any]]:
    """SIGINT and SIGTERM do nothing but in `run()`: a stray one must not end the tests."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def ignore(number: int, frame: object) -> None: ...

    before = [signal.signal(number, ignore) for number in numbers]
    yield [ignore, ignore]  # requested before `bench`, whose end may send one more
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


class Signalling(Noting):
    """Sends the program a signal as soon as `run()` has installed its handlers."""

    def __init__(self, notes: list[Any], number: int) -> None:
        super().__init__(notes)
        self.number = number
        self.found = signal.getsignal(number)

    def on_start(self) -> None:
        pause = threading.Event()
        for _ in range(5000):
            if signal.getsignal(self.number) is not self.found:
                os.kill(os.getpid(), self.number)
                return
            pause.wait(0.001)


@REAL
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_ends_in_order_on_a_signal(
    harmless_signals: list[Any], bench: Bench, number: signal.Signals
) -> None:
    """S-35: `run()` installs handlers, waits, ends in order, and restores what it found. The
    signal comes as soon as they are installed: at no instant after that may one be missed."""
    notes: list[Any] = []
    ref = bench.system.create(lambda: Signalling(notes, number))
    bench.system.start(ref)
    bench.system.run()
    assert notes == ["stop"]
    assert not ref.is_alive
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == harmless_signals


@REAL
def test_run_returns_when_a_component_shuts_the_system_down(bench: Bench) -> None:
    """S-35: `run()` also returns when the system is shut down from elsewhere."""
    ref = started(bench, lambda: Noting([]))
    ref.tell(lambda component: component.system.shutdown())
    bench.system.run()
    assert not ref.is_alive
    bench.system.run()  # of a system that has ended: returns at once


@REAL
def test_run_raises_the_cause_of_an_escalation(bench: Bench) -> None:
    """S-08: The cause of an escalation is raised by `wait()`, and so by `run()`."""

    class Escalating(Component[Any]):
        def on_start(self) -> None:
            self.set_recovery_function(lambda fault: fault.escalate())

        def on_receive(self, message: Any) -> object:
            raise LookupError("mine")

    started(bench, Escalating).tell(1)
    with pytest.raises(LookupError, match="mine"):
        bench.system.run()


@REAL
def test_a_second_signal_ends_the_wait(harmless_signals: list[Any], bench: Bench) -> None:
    """S-35, `run`: a second signal ends the wait for components that take long, before their
    5 s are over."""
    gate = threading.Event()
    left = threading.Event()

    class Stuck(Signalling):
        def on_stop(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            gate.wait(4 * LIMIT)
            left.set()

    bench.system.create(lambda: Stuck([], signal.SIGTERM), start=True)
    before = bench.system.clock.now()
    try:
        with pytest.raises(ShutdownTimeoutError):
            bench.system.run()
        assert bench.system.clock.now() - before < 4_000_000_000
    finally:
        gate.set()
        left.wait(LIMIT)
    bench.system._runtime.overtime = None  # for the fixture, which shuts down as well


@REAL
def test_run_is_for_the_main_thread(bench: Bench) -> None:
    """S-35: Signal handlers belong to the main thread; elsewhere `run()` says so."""
    errors: list[BaseException] = []

    def call() -> None:
        try:
            bench.system.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(LIMIT)
    assert isinstance(errors[0], ArgumentError)
    assert "main thread" in str(errors[0])


# -- several systems -------------------------------------------------------------------------


def test_systems_share_nothing(make_bench: MakeBench) -> None:
    """DESIGN: any number of systems in one process: names do not clash, each answers whatever
    order they were made in, and the end of one leaves the other alone."""
    first, second = make_bench(), make_bench()
    one = started(first, Echo, name="same")
    two = started(second, Echo, name="same")
    assert one != two
    assert one.ask(Ping(), timeout=LIMIT) == "pong"
    assert two.ask(Ping(), timeout=LIMIT) == "pong"
    second.system.shutdown()
    assert not two.is_alive
    assert one.ask(Ping(), timeout=LIMIT) == "pong"
    assert first.system.find("same") == one


def test_a_component_may_ask_one_of_another_system(make_bench: MakeBench) -> None:
    """DESIGN: refs work across systems of one process, a blocking ask inside a handler too."""
    first, second = make_bench(), make_bench()
    far = started(second, Echo)

    class Asking(Component[Any]):
        def on_receive(self, message: Any) -> object:
            return far.ask(Ping(), timeout=LIMIT)

    assert started(first, Asking).ask(Ping(), timeout=2 * LIMIT) == "pong"


def test_a_ref_of_another_system_is_refused(make_bench: MakeBench) -> None:
    """S-17: A ref belongs to its system; the error names both."""
    first, second = make_bench(name="first"), make_bench(name="second")
    ref = first.system.create(Echo, name="mine")
    for call in (second.system.start, second.system.stop, second.system.kill):
        with pytest.raises(ArgumentError, match=r"'mine'.*'first'.*'second'"):
            call(ref)
    with pytest.raises(ArgumentTypeError):
        second.system.start("mine")  # type: ignore[arg-type]


def test_a_thread_and_a_pool_component_live_in_one_system() -> None:
    """DESIGN: `create(backend=...)` chooses another backend than the system's."""
    with ComponentSystem(backend="thread") as system:
        one = system.create(Echo, start=True)
        two = system.create(Echo, backend="pool", start=True)
        assert one.ask(Ping(), timeout=LIMIT) == two.ask(Ping(), timeout=LIMIT) == "pong"
        kinds = [node.backend for node in system.tree().children]
    assert kinds == ["thread", "pool"]


def test_a_manual_system_drives_all_or_none() -> None:
    """DESIGN: deterministic tests: the manual backend is not mixed with the others."""
    with TestSystem() as system, pytest.raises(UnknownBackendError, match="all components"):
        system.create(Echo, backend="thread")
    with ComponentSystem() as real, pytest.raises(UnknownBackendError, match="all components"):
        real.create(Echo, backend="manual")


def test_a_paused_component_recovers_nothing_and_times_out_asks(bench: Bench) -> None:
    """S-16: An ask of a passive component is queued until handled or timed out; the message says
    that it is passive. It is handled after the start, its reply dropped and counted."""
    handled: list[Any] = []

    class Late(Component[Any]):
        def on_receive(self, message: Any) -> object:
            handled.append(message)
            return 1

    ref = bench.system.create(Late)
    with pytest.raises(AskTimeoutError, match="passive"):
        ref.ask(Ping(), timeout=0.01)
    bench.system.start(ref).result(LIMIT)
    bench.until(lambda: handled == [Ping()])
    bench.until(lambda: bench.system.late_replies == 1)


def recover(fault: FaultContext[Any]) -> RecoveryHandler:
    """Restart."""
    return fault.restart()


def test_a_component_killed_while_it_recovers_stays_dead(bench: Bench) -> None:
    """S-11: Given a kill while the recovery function runs, the kill wins: the future completes
    and no incarnation follows; the start that was waited for fails."""
    gate = threading.Event()
    inside = threading.Event()
    futures: list[Future[None]] = []

    class Failing(Component[Any]):
        def on_start(self) -> None:
            def slowly(fault: FaultContext[Any]) -> RecoveryHandler:
                inside.set()
                if bench.manual:
                    futures.append(bench.system.start(ref))
                    futures.append(bench.system.kill(ref))
                gate.wait(0 if bench.manual else LIMIT)
                return fault.restart()

            self.set_recovery_function(slowly)

        def on_receive(self, message: Any) -> object:
            raise ValueError("no")

    ref = started(bench, Failing)
    ref.tell(1)
    bench.until(inside.is_set)
    if not bench.manual:
        bench.until(lambda: ref.state is State.FAULTY)
        futures += [bench.system.start(ref), bench.system.kill(ref)]
    futures[1].result(LIMIT)
    gate.set()
    with pytest.raises(ComponentDestroyedError):
        futures[0].result(LIMIT)
    assert works(bench)
    assert ref.incarnation == 1
    assert bench.event(events.ComponentEnded).reason == "killed while it was faulty"
    assert bench.events.of(events.ComponentRecovered) == []


def test_a_stop_while_it_recovers_makes_it_come_back_passive(bench: Bench) -> None:
    """S-01, S-02: Given a stop while the recovery function runs, the replacement is passive."""
    notes: list[Any] = []

    class Failing(Noting):
        def on_start(self) -> None:
            super().on_start()

            def stopping(fault: FaultContext[Any]) -> RecoveryHandler:
                bench.system.stop(ref)
                return fault.restart()

            self.set_recovery_function(stopping)

    def fail(component: Noting) -> None:
        raise ValueError("no")

    ref = started(bench, lambda: Failing(notes))
    ref.tell(fail)
    ref.tell("next")
    bench.event(events.ComponentRecovered)
    assert ref.state is State.PASSIVE
    assert notes == ["start"]
    bench.system.start(ref)
    bench.until(lambda: len(notes) == 3)
    assert notes == ["start", "start", "next"]
