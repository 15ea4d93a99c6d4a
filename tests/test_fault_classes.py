"""Which exceptions are faults, and what becomes of them: B-12 to B-17, S-14, Kompact's matrix."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pytest

from kompyct import (
    Benign,
    Component,
    FaultClass,
    FaultContext,
    Phase,
    Recoverable,
    RecoveryHandler,
    Request,
    State,
    Unrecoverable,
    events,
)
from kompyct.errors import (
    ArgumentTypeError,
    ComponentCreateError,
    ComponentFaultError,
)
from tests.conftest import LIMIT, Bench

PLACES = ("message", "ask", "timer", "on_start", "on_stop", "on_kill")
PHASES = {
    "message": Phase.RECEIVE,
    "ask": Phase.RECEIVE,
    "timer": Phase.TIMER,
    "on_start": Phase.START,
    "on_stop": Phase.STOP,
    "on_kill": Phase.KILL,
}


@dataclass(frozen=True)
class Ping(Request[int]):
    """Answered with the number of the incarnation that handled it."""


@dataclass(frozen=True)
class Fail(Request[None]):
    """Raises the plan's error, told or asked."""


class Plan:
    """What is to be raised where, once; and what was seen of it."""

    def __init__(self, place: str, error: BaseException) -> None:
        self.place = place
        self.error = error
        self.armed = True
        self.made: list[Subject] = []
        self.faults: list[FaultContext[Any]] = []
        self.ends: list[str] = []

    def raise_in(self, place: str) -> None:
        """Raise the error if `place` is the planned one and it was not raised yet."""
        if self.armed and place in (self.place, "receive"):
            self.armed = False
            raise self.error

    def recover(self, fault: FaultContext[Any]) -> RecoveryHandler:
        """Note the fault, and restart."""
        self.faults.append(fault)
        return fault.restart()


class Subject(Component[Any]):
    """Raises as planned."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        plan.made.append(self)
        self.number = len(plan.made)
        self.set_recovery_function(plan.recover)

    def on_start(self) -> None:
        self.plan.raise_in("on_start")

    def on_stop(self) -> None:
        self.plan.raise_in("on_stop")

    def on_kill(self) -> None:
        self.plan.ends.append("on_kill")
        self.plan.raise_in("on_kill")

    def on_receive(self, message: Any) -> object:
        if isinstance(message, Fail):
            self.plan.raise_in("receive")
        elif message == "schedule":
            self.schedule_once(0, lambda: self.plan.raise_in("timer"))
        elif callable(message):
            return message(self)
        return self.number


class Sibling(Component[Any]):
    """Answers."""

    def on_receive(self, message: Any) -> object:
        return 1


def interrupted(bench: Bench, error: BaseException) -> AbstractContextManager[Any]:
    """Ctrl+C in user code on the main thread is a fault and is raised again (S-35)."""
    if bench.manual and isinstance(error, KeyboardInterrupt):
        return pytest.raises(KeyboardInterrupt)
    return nullcontext()


def make(bench: Bench, plan: Plan, kind: type[Subject] = Subject) -> Any:
    """A subject, started unless its start is what is planned to fail."""
    ref = bench.system.create(lambda: kind(plan), name="subject")
    if plan.place != "on_start":
        bench.system.start(ref).result(LIMIT)
    return ref


def provoke(bench: Bench, ref: Any, place: str) -> BaseException | None:
    """Have the planned error raised; returns what whoever waited for it got."""
    if place == "message":
        ref.tell(Fail())
    elif place == "timer":
        ref.tell("schedule")
    elif place == "ask":
        future: Future[None] = ref.ask(Fail(), block=False)
        return future.exception(LIMIT)
    else:
        system = bench.system
        act = {"on_start": system.start, "on_stop": system.stop, "on_kill": system.kill}[place]
        return act(ref).exception(LIMIT)
    return None


# -- the matrix ------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_a_benign_error_is_logged_and_life_goes_on(bench: Bench, place: str) -> None:
    """B-12: Given a benign error from any handler, it is reported and the same instance handles
    the next message; from the stop hook it still stops and can be started again, from the kill
    hook it still ends. In an ask it goes to the asker only (S-14)."""
    plan = Plan(place, Benign("fine"))
    ref = make(bench, plan)
    got = provoke(bench, ref, place)
    if place == "ask":
        assert got is plan.error
        assert ref.ask(Ping(), timeout=LIMIT) == 1
        assert bench.events.of(events.BenignError) == []
    else:
        assert got is None
        event = bench.event(events.BenignError)
        assert (event.phase, event.error) == (PHASES[place].value, "Benign")
    if place == "on_kill":
        assert not ref.is_alive
        assert bench.system.find("subject") is None
        assert plan.ends == ["on_kill"]
    elif place == "on_stop":
        assert ref.state is State.PASSIVE
        bench.system.start(ref).result(LIMIT)
    if place != "on_kill":
        assert ref.ask(Ping(), timeout=LIMIT) == 1
        assert (ref.state, ref.incarnation) == (State.ACTIVE, 1)
    assert plan.faults == []
    assert len(plan.made) == 1
    assert bench.events.of(events.ComponentFaulted) == []


@pytest.mark.parametrize("place", PLACES)
def test_an_unrecoverable_error_ends_the_component(bench: Bench, place: str) -> None:
    """B-13: Given an unrecoverable error, the component is destroyed, the recovery function is
    not called, and whoever waits for a start, stop or kill is released."""
    plan = Plan(place, Unrecoverable("over"))
    ref = make(bench, plan)
    got = provoke(bench, ref, place)
    if place.startswith("on_"):
        assert isinstance(got, ComponentFaultError)
        assert got.__cause__ is plan.error
    else:
        assert got is (plan.error if place == "ask" else None)
    bench.until(lambda: ref.state is State.DESTROYED)
    ended = bench.event(events.ComponentEnded)
    assert (ended.reason, ended.error) == ("unrecoverable Unrecoverable", "Unrecoverable")
    assert bench.system.find("subject") is None
    assert plan.faults == []
    assert len(plan.made) == 1
    assert len(bench.events.of(events.ComponentFaulted)) == 1
    assert plan.ends == (["on_kill"] if place == "on_kill" else [])


def test_waiters_are_released_when_a_start_is_unrecoverable(bench: Bench) -> None:
    """B-13: Given a start, a stop and a kill all pending when `on_start` raises unrecoverably,
    each wait ends (in Kompact the start's did not): the start's with the error."""
    plan = Plan("on_start", Unrecoverable("over"))
    ref = make(bench, plan)
    system = bench.system
    futures = [system.start(ref), system.stop(ref), system.kill(ref)]
    assert isinstance(futures[0].exception(LIMIT), ComponentFaultError)
    assert futures[1].exception(LIMIT) is None
    assert futures[2].exception(LIMIT) is None
    assert not ref.is_alive
    assert plan.faults == []


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [Recoverable, ValueError])
def test_a_recoverable_error_calls_the_recovery_function_once(
    bench: Bench, place: str, error: type[Exception]
) -> None:
    """B-14: Given a recoverable error from any handler kind, lifecycle hooks included, the
    recovery function is called exactly once; anything unlisted is recoverable. A replacement
    comes in the state that was asked for: active, after a stop passive; after a kill there is
    none, since what is killed does not come back (S-01)."""
    plan = Plan(place, error("again"))
    ref = make(bench, plan)
    got = provoke(bench, ref, place)
    if place.startswith("on_"):
        assert isinstance(got, ComponentFaultError)
        assert got.__cause__ is plan.error
    else:
        assert got is (plan.error if place == "ask" else None)
    if place == "on_kill":
        bench.until(lambda: ref.state is State.DESTROYED)
        assert bench.event(events.RestartRefused).path == "subject"
        assert bench.system.find("subject") is None
        assert plan.ends == ["on_kill"]
        assert ref.incarnation == 1
    else:
        bench.event(events.ComponentRecovered)
        assert ref.state is (State.PASSIVE if place == "on_stop" else State.ACTIVE)
        assert ref.incarnation == 2
        if place == "on_stop":
            bench.system.start(ref).result(LIMIT)
        assert ref.ask(Ping(), timeout=LIMIT) == 2
        assert plan.ends == []
    assert len(plan.faults) == 1
    assert plan.faults[0].phase is PHASES[place]
    assert plan.faults[0].exception is plan.error
    assert len(bench.events.of(events.ComponentFaulted)) == 1
    assert bench.events.of(events.ComponentFaulted)[0].phase == PHASES[place].value


def test_an_incarnation_that_has_faulted_is_marked_faulty(bench: Bench) -> None:
    """B-14: While its recovery is under way the component's state is faulty."""
    states: list[State] = []
    plan = Plan("message", ValueError("again"))
    ref = make(bench, plan)

    def look(fault: FaultContext[Any]) -> RecoveryHandler:
        states.append(ref.state)
        return fault.restart()

    ref.set_recovery_function(look)
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert states == [State.FAULTY]


@pytest.mark.parametrize(
    ("error", "calls"), [(Unrecoverable, 1), (Recoverable, 2), (Benign, 2), (OSError, 2)]
)
def test_the_class_of_an_error_counts_in_a_restart_too(
    bench: Bench, error: type[Exception], calls: int
) -> None:
    """B-13, S-13: A creation that raises in a restart is a new fault, phase create. If it is
    unrecoverable the component ends without another call; a benign one is a fault as well,
    since there is no instance that could carry on."""
    faults: list[FaultContext[Any]] = []
    made: list[int] = []

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        faults.append(fault)
        return fault.restart()

    class Second(Component[Any]):
        def __init__(self) -> None:
            made.append(1)
            if len(made) == 2:
                raise error("in create")

        def on_start(self) -> None:
            self.set_recovery_function(recover)

        def on_receive(self, message: Any) -> object:
            if message == "fail":
                raise ValueError("no")
            return len(made)

    ref = bench.system.create(Second, start=True)
    ref.tell("fail")
    if calls == 1:
        bench.until(lambda: not ref.is_alive)
        assert bench.event(events.ComponentEnded).reason == "unrecoverable Unrecoverable"
    else:
        bench.event(events.ComponentRecovered)
        assert ref.ask(Ping(), timeout=LIMIT) == 3
        assert faults[1].phase is Phase.CREATE
        assert (faults[1].attempt, ref.incarnation) == (2, 3)
    assert len(faults) == calls
    assert bench.event(events.RestartFailed).phase == "create"


# -- asks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [True, False])
def test_a_fault_in_an_ask_reaches_asker_and_supervisor(bench: Bench, blocking: bool) -> None:
    """B-15: Given an exception while serving an ask, the caller gets the error itself (S-16) and
    supervision sees the fault, with the request in hand; pykka hides it."""
    plan = Plan("ask", LookupError("mine"))
    ref = make(bench, plan)
    ask = ref.ask if blocking else lambda request: ref.ask(request, block=False).result(LIMIT)
    with pytest.raises(LookupError, match="mine") as caught:
        ask(Fail())
    assert caught.value is plan.error
    bench.event(events.ComponentRecovered)
    assert plan.faults[0].message == Fail()
    assert plan.faults[0].exception is plan.error
    assert bench.event(events.ComponentFaulted).error == "LookupError"


def test_a_fault_in_an_inline_ask_reaches_asker_and_supervisor(bench: Bench) -> None:
    """B-15: The same where the handler runs on the asker's own thread."""
    plan = Plan("ask", LookupError("mine"))
    ref = bench.system.create(lambda: Subject(plan), inline_asks=True)
    bench.system.start(ref).result(LIMIT)
    with pytest.raises(LookupError, match="mine"):
        ref.ask(Fail(), timeout=LIMIT)
    bench.event(events.ComponentRecovered)
    assert plan.faults[0].message == Fail()
    assert ref.ask(Ping(), timeout=LIMIT) == 2


def test_a_benign_error_in_an_inline_ask_goes_to_the_asker_only(bench: Bench) -> None:
    """S-14: The same for a benign one, which is no fault."""
    plan = Plan("ask", Benign("fine"))
    ref = bench.system.create(lambda: Subject(plan), inline_asks=True)
    bench.system.start(ref).result(LIMIT)
    with pytest.raises(Benign, match="fine"):
        ref.ask(Fail(), timeout=LIMIT)
    assert ref.ask(Ping(), timeout=LIMIT) == 1
    assert plan.faults == []


# -- exceptions that end threads -------------------------------------------------------------


class FrozenError(Exception):
    """Cannot be changed, as a frozen dataclass that is an exception cannot."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot assign to field {name!r}")


class UnprintableError(Exception):
    """Neither its text nor its representation can be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise RuntimeError("no representation")


class ExitingTextError(Exception):
    """Its text ends the thread that wants to read it."""

    def __str__(self) -> str:
        raise SystemExit(3)


class EqualToNothingError(Exception):
    """Cannot be compared or hashed."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __hash__ = None  # type: ignore[assignment]


BASE_EXCEPTIONS = (SystemExit, KeyboardInterrupt, GeneratorExit)
ALL_EXCEPTIONS = (
    *BASE_EXCEPTIONS,
    MemoryError,
    RecursionError,
    StopIteration,
    StopAsyncIteration,
    TimeoutError,
    FrozenError,
    UnprintableError,
    ExitingTextError,
    EqualToNothingError,
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", BASE_EXCEPTIONS)
def test_what_would_end_a_thread_ends_only_that_incarnation(
    bench: Bench, place: str, error: type[BaseException]
) -> None:
    """B-16: Given `SystemExit`, `KeyboardInterrupt` or `GeneratorExit` inside one component, only
    that component faults and siblings keep handling messages; an asker gets
    `ComponentFaultError` with the cause (S-16). Under the manual backend Ctrl+C is raised again
    on the thread that it hit (S-35)."""
    sibling = bench.system.create(Sibling, name="sibling", start=True)
    plan = Plan(place, error())
    ref = make(bench, plan)
    got = None
    with interrupted(bench, plan.error):
        got = provoke(bench, ref, place)
        bench.pass_time(0)
    if place == "ask" and not (bench.manual and error is KeyboardInterrupt):
        assert isinstance(got, ComponentFaultError)
        assert got.__cause__ is plan.error
    assert sibling.ask(Ping(), timeout=LIMIT) == 1
    if place == "on_kill":
        bench.until(lambda: not ref.is_alive)
    else:
        bench.event(events.ComponentRecovered)
        bench.system.start(ref).result(LIMIT)
        assert ref.ask(Ping(), timeout=LIMIT) == 2
    assert len(plan.faults) == 1
    assert bench.event(events.ComponentFaulted).error == error.__name__
    assert (sibling.state, sibling.incarnation) == (State.ACTIVE, 1)


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("error", ALL_EXCEPTIONS)
def test_any_exception_is_a_fault_of_its_component_alone(
    bench: Bench, error: type[BaseException], asked: bool
) -> None:
    """Issue scope 3 and bad input: every exception, also one that cannot be printed, changed or
    compared, is a fault like any other: reported once, recovered from, `fault.traceback` a text
    that names its type."""
    sibling = bench.system.create(Sibling, start=True)
    plan = Plan("ask" if asked else "message", error())
    ref = make(bench, plan)
    got = None
    with interrupted(bench, plan.error):
        got = provoke(bench, ref, plan.place)
        bench.pass_time(0)
    if asked and issubclass(error, Exception):
        assert got is plan.error
    bench.event(events.ComponentRecovered)
    assert ref.ask(Ping(), timeout=LIMIT) == 2
    assert sibling.ask(Ping(), timeout=LIMIT) == 1
    assert [fault.exception is plan.error for fault in plan.faults] == [True]
    assert error.__qualname__ in plan.faults[0].traceback
    assert "raise_in" in plan.faults[0].traceback
    assert error.__qualname__ in repr(plan.faults[0])
    event = bench.event(events.ComponentFaulted)
    assert event.error == error.__qualname__
    assert error.__qualname__ in str(event)
    assert "raise_in" in event.location


@pytest.mark.parametrize("place", ["on_start", "on_stop", "on_kill", "timer"])
@pytest.mark.parametrize("error", [FrozenError, UnprintableError])
def test_hard_exceptions_are_faults_in_hooks_too(
    bench: Bench, place: str, error: type[Exception]
) -> None:
    """Issue, bad input: the same for what hooks and timers raise."""
    plan = Plan(place, error())
    ref = make(bench, plan)
    got = provoke(bench, ref, place)
    if place != "timer":
        assert isinstance(got, ComponentFaultError)
        assert got.__cause__ is plan.error
    bench.until(lambda: len(plan.faults) == 1)
    if place == "on_kill":
        bench.until(lambda: not ref.is_alive)
    else:
        bench.event(events.ComponentRecovered)


def test_a_frozen_exception_of_a_first_creation_goes_to_the_caller(bench: Bench) -> None:
    """S-13: `ComponentCreateError` is raised from whatever the constructor raised."""

    def factory() -> Component[Any]:
        raise FrozenError("frozen")

    with pytest.raises(ComponentCreateError) as caught:
        bench.system.create(factory)
    assert isinstance(caught.value.__cause__, FrozenError)


def test_a_handler_that_recurses_for_ever_is_a_fault(bench: Bench) -> None:
    """B-16: Given a real `RecursionError`, the component faults and its replacement answers."""

    def deeper(depth: int) -> int:
        return deeper(depth + 1) + 1

    plan = Plan("nowhere", ValueError("not raised"))
    ref = make(bench, plan)
    ref.tell(lambda component: deeper(0))
    assert bench.event(events.ComponentFaulted).error == "RecursionError"
    assert ref.ask(Ping(), timeout=LIMIT) == 2
    assert "deeper" in plan.faults[0].traceback


def test_an_exception_with_an_unprintable_cause_has_a_traceback(bench: Bench) -> None:
    """S-15: A `__str__` that raises gives a placeholder, also in the chain of causes."""
    error = ValueError("outer")
    error.__cause__ = UnprintableError()
    plan = Plan("message", error)
    ref = make(bench, plan)
    ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    text = plan.faults[0].traceback
    assert "ValueError: outer" in text
    assert "UnprintableError" in text


def test_a_fault_while_others_fault_is_its_own(bench: Bench) -> None:
    """B-16: Given twenty components that all exit at once, each faults and recovers once."""
    plans = [Plan("message", SystemExit(number)) for number in range(20)]
    refs = [bench.system.create(partial(Subject, plan), start=True) for plan in plans]
    for ref in refs:
        ref.tell(Fail())
    bench.event(events.ComponentRecovered, 20)
    assert [ref.ask(Ping(), timeout=LIMIT) for ref in refs] == [2] * 20
    assert [len(plan.faults) for plan in plans] == [1] * 20


# -- faulty instances ------------------------------------------------------------------------


@pytest.mark.parametrize("queued", [0, 1, 500])
def test_a_faulty_instance_never_handles_another_message(bench: Bench, queued: int) -> None:
    """B-17: Given a fault with messages queued behind it and more to come, the instance that
    faulted handles none of them: they go to its replacement, in order (B-65)."""
    seen: list[tuple[int, int]] = []
    plan = Plan("message", ValueError("again"))

    class Counting(Subject):
        def on_receive(self, message: Any) -> object:
            if isinstance(message, int):
                seen.append((self.number, message))
                return None
            return super().on_receive(message)

    def flood(component: Component[Any]) -> None:
        component.ref.tell(Fail())
        for number in range(queued):
            component.ref.tell(number)

    ref = make(bench, plan, Counting)
    ref.tell(flood)
    bench.event(events.ComponentFaulted)
    ref.tell(queued)
    bench.until(lambda: len(seen) == queued + 1)
    assert seen == [(2, number) for number in range(queued + 1)]


def test_no_message_is_handled_while_the_recovery_runs(bench: Bench) -> None:
    """B-17: Given a recovery that takes its time, messages sent meanwhile wait for its end."""
    inside = threading.Event()
    gate = threading.Event()
    seen_inside: list[int] = []
    plan = Plan("message", ValueError("again"))
    handled: list[int] = []

    class Noting(Subject):
        def on_receive(self, message: Any) -> object:
            if isinstance(message, int):
                handled.append(message)
                return None
            return super().on_receive(message)

    ref = make(bench, plan, Noting)

    def slowly(fault: FaultContext[Any]) -> RecoveryHandler:
        ref.tell(1)
        inside.set()
        if not bench.manual:
            gate.wait(LIMIT)
        seen_inside.extend(handled)
        return fault.restart()

    ref.set_recovery_function(slowly)
    ref.tell(Fail())
    bench.until(inside.is_set)
    ref.tell(2)
    gate.set()
    bench.until(lambda: handled == [1, 2])
    assert seen_inside == []


# -- fault_classes ---------------------------------------------------------------------------


class LoudBenign(Benign):
    """Benign by its class."""


class Mapped(Subject):
    """Declares foreign exceptions, general and special ones."""

    fault_classes: ClassVar[Mapping[type[BaseException], FaultClass]] = {
        Exception: FaultClass.BENIGN,
        LookupError: FaultClass.UNRECOVERABLE,
        KeyError: FaultClass.RECOVERABLE,
        LoudBenign: FaultClass.UNRECOVERABLE,
        SystemExit: FaultClass.BENIGN,
    }


class MyKeyError(KeyError):
    """More special than anything declared."""


class TwoParents(OSError, LookupError):
    """Of two declared bases, by the order of inheritance OSError's comes first."""


@pytest.mark.parametrize("place", ["message", "ask", "timer", "on_start", "on_stop", "on_kill"])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError, FaultClass.BENIGN),
        (LookupError, FaultClass.UNRECOVERABLE),
        (IndexError, FaultClass.UNRECOVERABLE),
        (KeyError, FaultClass.RECOVERABLE),
        (MyKeyError, FaultClass.RECOVERABLE),
        (Recoverable, FaultClass.RECOVERABLE),
        (Unrecoverable, FaultClass.UNRECOVERABLE),
        (Benign, FaultClass.BENIGN),
        (LoudBenign, FaultClass.UNRECOVERABLE),
        (SystemExit, FaultClass.BENIGN),
        (GeneratorExit, FaultClass.RECOVERABLE),
        (TwoParents, FaultClass.UNRECOVERABLE),
    ],
)
def test_the_most_specific_declared_class_decides(
    bench: Bench, error: type[BaseException], expected: FaultClass, place: str
) -> None:
    """S-14: `fault_classes`, most specific first. By hand: `IndexError` is a `LookupError`, which
    is more special than `Exception`; the three of kompyct are more special than `Exception`, and
    a subclass that is declared more special than they; `GeneratorExit` is no `Exception`.
    `TwoParents` finds `LookupError` in its order of inheritance before `Exception`."""
    plan = Plan(place, error())
    ref = make(bench, plan, Mapped)
    provoke(bench, ref, place)
    if expected is FaultClass.BENIGN:
        if place != "ask":
            bench.event(events.BenignError)
        assert ref.is_alive is (place != "on_kill")
        assert (ref.incarnation, len(plan.faults)) == (1, 0)
    elif expected is FaultClass.UNRECOVERABLE or place == "on_kill":
        bench.until(lambda: not ref.is_alive)
        assert len(plan.faults) == (1 if expected is FaultClass.RECOVERABLE else 0)
    else:
        bench.event(events.ComponentRecovered)
        assert (ref.incarnation, len(plan.faults)) == (2, 1)


def test_fault_classes_are_inherited_and_replaced(bench: Bench) -> None:
    """S-14: `fault_classes` is a class attribute: a subclass inherits it, or declares its own."""

    class Inheriting(Mapped):
        pass

    class Replacing(Mapped):
        fault_classes: ClassVar[Mapping[type[BaseException], FaultClass]] = {}

    plans = [Plan("message", ValueError("x")), Plan("message", ValueError("x"))]
    first = bench.system.create(lambda: Inheriting(plans[0]), start=True)
    second = bench.system.create(lambda: Replacing(plans[1]), start=True)
    for ref in (first, second):
        ref.tell(Fail())
    bench.event(events.ComponentRecovered)
    assert first.ask(Ping(), timeout=LIMIT) == 1
    assert second.ask(Ping(), timeout=LIMIT) == 2


@pytest.mark.parametrize(
    "declared",
    [
        {ValueError: "benign"},
        {"ValueError": FaultClass.BENIGN},
        {int: FaultClass.BENIGN},
        {ValueError(): FaultClass.BENIGN},
        [ValueError],
        None,
    ],
)
def test_a_bad_map_is_refused_at_creation(bench: Bench, declared: Any) -> None:
    """CONVENTIONS 11: wrong use raises at once, not at the first fault."""
    cls = type("Wrong", (Sibling,), {"fault_classes": declared})
    with pytest.raises(ArgumentTypeError, match=r"Wrong\.fault_classes"):
        bench.system.create(cls, name="wrong")
    assert bench.system.find("wrong") is None


def test_bad_requests_declared_benign_do_not_use_up_the_budget(bench: Bench) -> None:
    """S-14: A request refused for bad arguments is benign: otherwise any client could kill a
    component with eleven bad requests (the default budget is 10 in 10 s)."""
    plan = Plan("nowhere", ValueError("not raised"))
    ref = make(bench, plan, Mapped)

    def refuse(component: Component[Any]) -> None:
        raise ValueError("bad argument")

    for _ in range(30):
        assert isinstance(ref.ask(refuse, block=False).exception(LIMIT), ValueError)
    assert ref.ask(Ping(), timeout=LIMIT) == 1


def test_bad_requests_not_declared_do(bench: Bench) -> None:
    """S-08, S-14: The other half of the rule: ten are recovered from, the eleventh is the end."""
    plan = Plan("nowhere", ValueError("not raised"))
    ref = make(bench, plan)

    def refuse(component: Component[Any]) -> None:
        raise ValueError("bad argument")

    for count in range(11):
        assert isinstance(ref.ask(refuse, block=False).exception(LIMIT), ValueError)
        if count < 10:
            bench.event(events.ComponentRecovered, count + 1)
    bench.until(lambda: not ref.is_alive)
    assert len(bench.events.of(events.ComponentRecovered)) == 10
    assert bench.event(events.RestartLimitReached).max_restarts == 10


def test_a_component_that_kills_itself_and_then_faults_stays_dead(bench: Bench) -> None:
    """S-02: Given a handler that asks for its own end and then raises, the component ends: the
    kill wins over whatever the recovery function answers."""
    plan = Plan("nowhere", ValueError("not raised"))
    ref = make(bench, plan)

    def end(component: Component[Any]) -> None:
        component.kill_self()
        raise ValueError("no")

    ref.tell(end)
    bench.event(events.ComponentEnded)
    bench.settle()
    assert not ref.is_alive
    assert bench.events.of(events.ComponentRecovered) == []
    assert len(bench.events.of(events.ComponentEnded)) == 1
