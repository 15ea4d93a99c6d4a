"""What does wrong use get, and does it disturb anybody?

Every error names the thing, the value and the way out, comes at once, and changes nothing: each
test has a bystander that must go on, and the tree must be as before.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest

from kompyct import (
    Component,
    ComponentRef,
    ComponentSystem,
    FaultContext,
    KompyctError,
    RecoveryHandler,
    Request,
    RestartLimit,
)
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    ComponentCreateError,
    ComponentDestroyedError,
    DuplicateNameError,
    InvalidComponentError,
    NotStartedError,
    ReservedNameError,
    SystemShutdownError,
    UnboundComponentError,
    UnhandledMessageError,
    UnknownBackendError,
)
from kompyct.events import (
    ComponentEnded,
    ComponentFaulted,
    ComponentRecovered,
    CreateFailed,
    DeadLetters,
    FallbackApplied,
)
from tests.conftest import LIMIT, Bench

BAD_SECONDS: list[tuple[object, type[KompyctError]]] = [
    (-1, ArgumentError),
    (-0.001, ArgumentError),
    (math.nan, ArgumentError),
    (-math.inf, ArgumentError),
    ("1", ArgumentTypeError),
    (True, ArgumentTypeError),
]


@dataclass(frozen=True)
class Ping(Request[str]):
    """Ask for a sign of life."""


@dataclass(frozen=True)
class Call(Request[Any]):
    """Ask for `action(component)`."""

    action: Callable[[Any], Any]


class Willing(Component[Any]):
    """Answers, calls what it is sent, and restarts when it faults."""

    def on_start(self) -> None:
        self.set_recovery_function(restart)

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Ping):
            return "pong"
        return message.action(self) if isinstance(message, Call) else self.unhandled(message)


def restart(fault: FaultContext[Any]) -> RecoveryHandler:
    return fault.restart()


@pytest.fixture
def bystander(bench: Bench) -> Iterator[ComponentRef[Any]]:
    """Somebody who must not notice anything, during the test and after it."""
    ref = started(bench, name="bystander")
    yield ref
    assert ref.incarnation == 1
    assert ref.ask(Ping(), timeout=2.0) == "pong"


def started(
    bench: Bench, factory: Callable[[], Component[Any]] = Willing, **options: Any
) -> ComponentRef[Any]:
    ref = bench.system.create(factory, **options)
    bench.system.start(ref).result(LIMIT)
    return ref


@contextmanager
def refused(bench: Bench, error: type[BaseException], *words: str) -> Iterator[None]:
    """The block raises exactly `error`, with each of `words`, and leaves everything as it was."""
    before = picture(bench)
    threads = threading.active_count()
    with pytest.raises(error) as raised:
        yield
    assert type(raised.value) is error
    assert isinstance(raised.value, KompyctError)
    for word in words:
        assert word in str(raised.value)
    assert len(str(raised.value)) < 1000
    assert picture(bench) == before
    if bench.backend != "pool":  # whose threads come and go
        assert threading.active_count() <= threads


def picture(bench: Bench) -> list[tuple[int, str, str]]:
    return [(node.component_id, node.path, node.status) for node in bench.system.tree().children]


# -- making systems and components -------------------------------------------------------------


@pytest.mark.parametrize("backend_given", ["threads", "", None, 3, ["pool"]])
def test_an_unknown_backend_is_refused(backend_given: Any) -> None:
    """Bad input: unknown backend: names the value and what there is."""
    with pytest.raises(UnknownBackendError, match=r"thread, pool, process, manual") as raised:
        ComponentSystem(backend=backend_given)
    assert repr(backend_given) in str(raised.value)
    assert isinstance(raised.value, ValueError)


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("backend_given", ["threads", "", 3])
def test_an_unknown_backend_of_a_component_is_refused(bench: Bench, backend_given: Any) -> None:
    """Bad input: unknown backend, in `create`; the name is not taken."""
    with refused(bench, UnknownBackendError, repr(backend_given), "thread, pool, process, manual"):
        bench.system.create(Willing, name="new", backend=backend_given)
    assert bench.system.find("new") is None


@pytest.mark.usefixtures("bystander")
def test_a_component_for_another_kind_of_driving_is_refused(bench: Bench) -> None:
    """Bad input: "manual" in a real system, or the other way round: says which system."""
    other = "thread" if bench.manual else "manual"
    with refused(bench, UnknownBackendError, repr(other), repr(bench.system.name)):
        bench.system.create(Willing, backend=cast("Any", other))


def test_a_duplicate_name_is_refused(bench: Bench, bystander: ComponentRef[Any]) -> None:
    """Bad input: duplicate name: says whose and in which state; the holder keeps it."""
    made: list[int] = []

    def factory() -> Component[Any]:
        made.append(1)
        return Willing()

    with refused(bench, DuplicateNameError, "'bystander'", "active", "another name"):
        bench.system.create(factory, name="bystander")
    assert bench.system.find("bystander") == bystander
    assert made == []


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("a/b", ArgumentError, ("'a/b'", "'/'")),
        ("", ArgumentError, ("''", "1 to 200")),
        ("n" * 10_240, ArgumentError, ("10240 characters", "1 to 200")),
        ("n" * 201, ArgumentError, ("201 characters", "1 to 200")),
        ("a\nb", ArgumentError, ("control character",)),
        ("a\x00", ArgumentError, ("control character",)),
        ("a\x7f", ArgumentError, ("control character",)),
        ("a\x85b", ArgumentError, ("control character",)),
        (7, ArgumentTypeError, ("name is 7", "text")),
        (b"name", ArgumentTypeError, ("b'name'", "text")),
    ],
)
def test_a_name_that_is_none_is_refused(
    bench: Bench, name: Any, error: type[BaseException], words: tuple[str, ...]
) -> None:
    """Bad input: name with `/`, empty or 10 KB long (S-23): 1 to 200 characters without `/` and
    control characters, of which Unicode has some above 127 too.
    """
    with refused(bench, error, "name", *words):
        bench.system.create(Willing, name=name)


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("name", ["n" * 200, "#7", "a.b", "Müller", "a b", "日本"])
def test_other_names_are_taken(bench: Bench, name: str) -> None:
    """S-23: any text of 1 to 200 characters without `/` and control characters."""
    ref = bench.system.create(Willing, name=name)
    assert (ref.name, ref.path) == (name, name)
    assert bench.system.find(name) == ref


@pytest.mark.parametrize("name", ["", "a/b", "n" * 10_240])
def test_a_system_name_that_is_none_is_refused(name: str, backend: Any) -> None:
    """Bad input: the name of a system is a name too."""
    with pytest.raises(ArgumentError, match="name"):
        ComponentSystem(name, backend=backend)


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("factory", [None, 3, "Willing", Willing()])
def test_a_factory_that_is_not_callable_is_refused(bench: Bench, factory: Any) -> None:
    """Bad input: factory that is not callable: names it, and what to give."""
    with refused(bench, ArgumentTypeError, "factory is", "give a class or a function"):
        bench.system.create(factory, name="new")
    assert bench.system.find("new") is None


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("made", [None, 3, Willing, object()])
def test_a_factory_that_returns_no_component_is_refused(bench: Bench, made: Any) -> None:
    """Bad input: factory that returns no component: says what it returned instead."""
    with refused(bench, InvalidComponentError, "'new'", type(made).__qualname__, "return a new"):
        bench.system.create(lambda: made, name="new")
    assert bench.system.find("new") is None
    assert started(bench, name="new").ask(Ping()) == "pong"


@pytest.mark.usefixtures("bystander")
def test_a_factory_that_returns_the_same_object_twice_is_refused(bench: Bench) -> None:
    """Bad input: one object is one incarnation: names both components."""
    component = Willing()
    first = started(bench, lambda: component, name="first")
    with refused(bench, InvalidComponentError, "'second'", "'first'", "a new one at each call"):
        bench.system.create(lambda: component, name="second")
    assert first.ask(Ping()) == "pong"


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("cls", [ValueError, SystemExit, GeneratorExit])
def test_a_factory_that_raises_leaves_nothing(bench: Bench, cls: type[BaseException]) -> None:
    """B-60's rule, S-13: `ComponentCreateError` with the cause; no name, no thread, no entry."""
    error = cls("no")

    def fail() -> Component[Any]:
        raise error

    with refused(bench, ComponentCreateError, "'new'", cls.__name__):
        bench.system.create(fail, name="new")
    assert bench.event(CreateFailed).error == cls.__name__
    assert started(bench, name="new").ask(Ping()) == "pong"


class TakesAnArgument(Willing):
    def __init__(self, value: int) -> None:
        self.value = value


@pytest.mark.usefixtures("bystander")
def test_a_class_that_needs_arguments_is_refused(bench: Bench) -> None:
    """Bad input: what `create(Class)` cannot call is a creation that raised."""
    with refused(bench, ComponentCreateError, "TypeError"):
        bench.system.create(cast("Any", TakesAnArgument))


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"budget": 3}, ArgumentTypeError, ("budget is 3", "RestartLimit")),
        ({"budget": (1, 2)}, ArgumentTypeError, ("budget is (1, 2)", "RestartLimit")),
        ({"fallback": "stop"}, ArgumentError, ("fallback is 'stop'", "'end'", "'restart'")),
        ({"overflow": "drop"}, ArgumentError, ("overflow is 'drop'", "'drop_new'")),
        ({"mailbox_limit": 0}, ArgumentError, ("mailbox_limit is 0", "> 0")),
        ({"mailbox_limit": -5}, ArgumentError, ("mailbox_limit is -5", "> 0")),
        ({"mailbox_limit": 1.5}, ArgumentTypeError, ("mailbox_limit is 1.5", "whole number")),
        ({"mailbox_limit": True}, ArgumentTypeError, ("mailbox_limit is True",)),
    ],
)
def test_options_that_mean_nothing_are_refused(
    bench: Bench, options: dict[str, Any], error: type[BaseException], words: tuple[str, ...]
) -> None:
    """Bad input, rule 11: the thing, the value, the way out."""
    with refused(bench, error, *words):
        bench.system.create(Willing, name="new", **options)
    assert bench.system.find("new") is None


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"on_event": 3}, ArgumentTypeError),
        ({"on_undelivered": "print"}, ArgumentTypeError),
        ({"recovery_deadline": 0}, ArgumentError),
        ({"recovery_deadline": -1}, ArgumentError),
        ({"recovery_deadline": math.nan}, ArgumentError),
        ({"recovery_deadline": "5"}, ArgumentTypeError),
    ],
)
def test_options_of_a_system_that_mean_nothing_are_refused(
    backend: Any, options: dict[str, Any], error: type[BaseException]
) -> None:
    """Bad input, rule 11; and no thread is left behind."""
    threads = threading.active_count()
    (name,) = options
    with pytest.raises(error, match=f"{name} is "):
        ComponentSystem(backend=backend, **options)
    assert threading.active_count() <= threads


# -- names that kompyct provides ---------------------------------------------------------------


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("name", ["ref", "log", "system"])
def test_a_class_that_assigns_a_provided_name_is_refused(bench: Bench, name: str) -> None:
    """Bad input: a class that assigns `self.ref`: refused at creation, clearly (S-21)."""

    class Assigns(Willing):
        def __init__(self) -> None:
            setattr(self, name, None)

    with refused(bench, ReservedNameError, "Assigns", f"self.{name}", "another name"):
        bench.system.create(Assigns, name="new")
    assert bench.system.find("new") is None


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("value", [None, 3, property(lambda self: 3), lambda self: 3])
def test_a_class_that_defines_a_provided_name_is_refused(bench: Bench, value: Any) -> None:
    """S-21: a class that defines one is refused at creation, each time."""
    cls: Any = type("Defines", (Willing,), {"ref": value})
    for _ in range(2):
        with refused(bench, ReservedNameError, "Defines", "'ref'", "another name"):
            bench.system.create(cls)


def test_assigning_a_provided_name_later_is_an_ordinary_fault(
    bench: Bench, bystander: ComponentRef[Any]
) -> None:
    """S-21: these names are read-only; in a handler the error is a fault like any other."""
    ref = started(bench)
    with pytest.raises(ReservedNameError, match=r"self\.system"):
        ref.ask(Call(lambda component: setattr(component, "system", None)))
    assert bench.event(ComponentRecovered).error == "ReservedNameError"
    assert ref.ask(Ping()) == "pong"


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("declared", [3, None, {ValueError: "benign"}, {"ValueError": None}])
def test_fault_classes_that_are_no_mapping_of_exceptions_are_refused(
    bench: Bench, declared: Any
) -> None:
    """S-14: the class-level map is checked at creation."""
    cls: Any = type("Declares", (Willing,), {"fault_classes": declared})
    with refused(bench, InvalidComponentError, "Declares.fault_classes", "FaultClass"):
        bench.system.create(cls)


@pytest.mark.usefixtures("bystander")
def test_a_component_outside_a_system_says_so() -> None:
    """A component that no system created has no ref: the error says how to make one."""
    for name in ("ref", "system"):
        with pytest.raises(UnboundComponentError, match=r"ComponentSystem\.create"):
            getattr(Willing(), name)


@pytest.mark.usefixtures("bystander")
def test_messages_to_oneself_before_the_start_are_refused(bench: Bench) -> None:
    """S-21: timers and tells to oneself raise until start: the creation raises with that cause."""

    class Eager(Willing):
        def __init__(self) -> None:
            self.ref.tell("hello")

    with refused(bench, ComponentCreateError, "NotStartedError"):
        bench.system.create(Eager)

    class Keeper(Willing):
        def __init__(self) -> None:
            self.keep(open("never-opened"))  # noqa: SIM115

    with refused(bench, ComponentCreateError):
        bench.system.create(Keeper)


# -- times -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "error"), BAD_SECONDS)
def test_a_delay_that_is_none_is_refused(
    bench: Bench, bystander: ComponentRef[Any], seconds: Any, error: type[BaseException]
) -> None:
    """Bad input: negative or NaN delay, and period, which must not be 0 either."""

    def schedule(component: Any) -> None:
        with refused(bench, error, f"delay is {seconds!r}", "seconds"):
            component.schedule_once(seconds, print)
        with refused(bench, error, f"delay is {seconds!r}", "seconds"):
            component.schedule_periodic(seconds, 1.0, print)
        with refused(bench, error, f"period is {seconds!r}", "seconds"):
            component.schedule_periodic(1.0, seconds, print)
        with refused(bench, ArgumentError, "period is 0", "> 0"):
            component.schedule_periodic(1.0, 0, print)

    bystander.ask(Call(schedule))


def test_an_action_or_choice_that_is_none_is_refused(
    bench: Bench, bystander: ComponentRef[Any]
) -> None:
    """Bad input, rule 11: an action that cannot be called, a way of missing that is unknown."""

    def schedule(component: Any) -> None:
        with refused(bench, ArgumentTypeError, "action is 3", "callable"):
            component.schedule_once(1.0, 3)
        with refused(bench, ArgumentError, "missed is 'drop'", "'skip'", "'burst'"):
            component.schedule_periodic(1.0, 1.0, print, missed="drop")

    bystander.ask(Call(schedule))


@pytest.mark.parametrize(("seconds", "error"), BAD_SECONDS)
def test_a_timeout_that_is_none_is_refused(
    bench: Bench, bystander: ComponentRef[Any], seconds: Any, error: type[BaseException]
) -> None:
    """Bad input: negative or NaN timeout, wherever there is one; nothing is sent."""
    handled: list[int] = []
    counted = Call(lambda component: handled.append(1))
    with refused(bench, error, "timeout", repr(seconds)):
        bystander.ask(counted, timeout=seconds)
    with refused(bench, error, "timeout", repr(seconds)):
        bystander.ask(counted, timeout=seconds, block=False)
    with refused(bench, error, "timeout", repr(seconds)):
        bystander.ask_async(counted, timeout=seconds).send(None)
    with refused(bench, error, "timeout", repr(seconds)):
        bench.system.wait(seconds)
    with refused(bench, error, "timeout", repr(seconds)):
        bench.system.shutdown(seconds)
    with refused(bench, error, "drain", repr(seconds)):
        bench.system.shutdown(drain=seconds)
    assert started(bench, name="still open").ask(Ping()) == "pong"
    assert handled == []


# -- what has ended ----------------------------------------------------------------------------


@pytest.mark.usefixtures("bystander")
def test_a_destroyed_component_cannot_be_started(bench: Bench) -> None:
    """Bad input: start of a destroyed component, ask to a dead one: named, with the way out."""
    ref = started(bench, name="gone")
    bench.system.kill(ref).result(LIMIT)
    words = ("'gone'", "has ended: killed", "create a new one")
    with refused(bench, ComponentDestroyedError, *words):
        bench.system.start(ref)
    with refused(bench, ComponentDestroyedError, *words):
        ref.ask(Ping())
    with refused(bench, ComponentDestroyedError, *words):
        ref.set_recovery_function(restart)
    with refused(bench, ComponentDestroyedError, *words):
        ref.proxy()
    bench.system.stop(ref).result(LIMIT)
    bench.system.kill(ref).result(LIMIT)


def test_a_system_that_has_ended_takes_no_new_work(backend: str) -> None:
    """Bad input: use after shutdown: each call says so at once, and none hangs."""
    bench = Bench(backend)
    ref = started(bench, name="old")
    bench.system.shutdown()
    bench.system.shutdown()
    with pytest.raises(SystemShutdownError, match=f"'{bench.system.name}'.*before"):
        bench.system.create(Willing)
    with pytest.raises(ComponentDestroyedError, match="'old'"):
        bench.system.start(ref)
    with pytest.raises(ComponentDestroyedError, match="'old'"):
        ref.ask(Ping())
    with pytest.raises(ComponentDestroyedError, match="'old'"):
        ref.ask(Ping(), block=False).result(LIMIT)
    bench.system.stop(ref).result(LIMIT)
    bench.system.kill(ref).result(LIMIT)
    ref.tell("late")
    assert [event.types for event in bench.events.of(DeadLetters)] == [("str",)]
    assert bench.system.find("old") is None
    assert bench.system.tree().children == ()
    bench.system.wait(LIMIT)


def test_what_is_no_ref_of_this_system_is_refused(
    bench: Bench, bystander: ComponentRef[Any]
) -> None:
    """Bad input, rule 11: a name instead of a ref, a ref of another system."""
    with ComponentSystem("elsewhere") as elsewhere:
        foreign = elsewhere.create(Willing, name="foreign")
        for method in (bench.system.start, bench.system.stop, bench.system.kill):
            with refused(bench, ArgumentTypeError, "'bystander'", "what create returned"):
                method(cast("Any", "bystander"))
            with refused(bench, ArgumentError, "'foreign'", "'elsewhere'"):
                method(foreign)


# -- messages ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unknown(Request[None]):
    """Nobody takes it."""


def test_a_message_that_the_component_does_not_take_is_refused(
    bench: Bench, bystander: ComponentRef[Any]
) -> None:
    """Bad input: a message that the component does not take (S-19): benign, to the asker."""
    with refused(bench, UnhandledMessageError, "'bystander'", "Willing", "Unknown", "on_receive"):
        bystander.ask(Unknown())
    assert not bench.events.of(ComponentFaulted)
    bystander.tell(Unknown())
    assert bystander.ask(Ping()) == "pong"
    assert not bench.events.of(ComponentFaulted)


class Grumpy:
    """A message that cannot be looked at: no attribute, no text, no comparison."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __hash__ = None  # type: ignore[assignment]


def test_a_message_that_cannot_be_looked_at_is_faulted_on_like_any_other(
    bench: Bench, bystander: ComponentRef[Any]
) -> None:
    """DESIGN: nothing a user writes can poison the system: a message whose `__getattr__` raises,
    like a closed lazy proxy, in hand at a fault and queued at it.
    """

    class Taker(Willing):
        def on_receive(self, message: Any) -> Any:
            if isinstance(message, Grumpy):
                raise ValueError("boom")
            return Willing.on_receive(self, message)

    ref = bench.system.create(Taker)
    ref.tell(Grumpy())
    ref.tell(Grumpy())
    bench.system.start(ref)
    bench.event(ComponentRecovered, 2)
    assert ref.ask(Ping(), timeout=2.0) == "pong"
    bench.system.kill(ref).result(LIMIT)
    ref.tell(Grumpy())
    assert bench.event(DeadLetters).types == ("Grumpy",)


# -- recovery functions ------------------------------------------------------------------------


@pytest.mark.parametrize("function", [None, 3, "restart"])
def test_a_recovery_function_that_is_not_callable_is_refused(
    bench: Bench, bystander: ComponentRef[Any], function: Any
) -> None:
    """Bad input: at the call, inside and outside; the one before stays."""

    def register(component: Any) -> None:
        with refused(bench, ArgumentTypeError, f"recovery function is {function!r}"):
            component.set_recovery_function(function)

    ref = started(bench)
    ref.ask(Call(register))
    with refused(bench, ArgumentTypeError, f"recovery function is {function!r}"):
        ref.set_recovery_function(function)
    with pytest.raises(ZeroDivisionError):
        ref.ask(Call(lambda component: 1 // 0))
    assert bench.event(ComponentRecovered).incarnation == 2


def give(answer: Any) -> Callable[[FaultContext[Any]], Any]:
    return lambda fault: answer


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize(
    "function",
    [
        give(None),
        give(42),
        give("restart"),
        give(Willing),
        lambda fault: fault.restart,
        lambda fault: fault.recover_with(lambda *arguments: 42),
    ],
    ids=["None", "number", "text", "class", "method", "action"],
)
def test_an_answer_that_is_no_handler_leads_to_the_fallback(
    bench: Bench, function: Callable[[FaultContext[Any]], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Bad input: a recovery function that returns something else than a handler: an error of the
    right class at once, and its text, with thing, value and way out, must be where somebody sees
    it: in the event or the log.
    """
    ref = started(bench, name="subject")
    ref.set_recovery_function(function)
    with pytest.raises(ZeroDivisionError):
        ref.ask(Call(lambda component: 1 // 0))
    fallback = bench.event(FallbackApplied)
    assert fallback.recovery_error == "RecoveryFunctionError"
    assert bench.event(ComponentEnded).path == "subject"
    seen = f"{fallback} {caplog.text}"
    assert "'subject'" in seen
    assert "return fault.restart(" in seen


@pytest.mark.usefixtures("bystander")
def test_a_replacement_factory_that_makes_no_component_is_a_fault_of_the_restart(
    bench: Bench,
) -> None:
    """S-13: in a restart, what `create` would refuse is a new fault, phase create, and counts."""
    ref = started(bench, budget=RestartLimit(2, 60.0))
    ref.set_recovery_function(lambda fault: fault.restart(cast("Any", lambda: 42)))
    with pytest.raises(ZeroDivisionError):
        ref.ask(Call(lambda component: 1 // 0))
    assert "restart limit of 2" in bench.event(ComponentEnded).reason
    faults = [(event.phase, event.error) for event in bench.events.of(ComponentFaulted)]
    assert faults == [
        ("receive", "ZeroDivisionError"),
        ("create", "InvalidComponentError"),
        ("create", "InvalidComponentError"),
    ]


# -- exceptions that misbehave -----------------------------------------------------------------


class NoTextError(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@dataclass(frozen=True)
class FrozenError(Exception):
    """An exception whose attributes cannot be set, as frozen dataclasses are."""

    code: int


@pytest.mark.parametrize("error", [NoTextError(), FrozenError(3)], ids=["no text", "frozen"])
@pytest.mark.parametrize("how", ["ask", "tell", "timer", "start"])
def test_an_exception_that_misbehaves_is_a_fault_like_any_other(
    bench: Bench, bystander: ComponentRef[Any], error: BaseException, how: str
) -> None:
    """Bad input: an exception whose `__str__` raises; and those that do not let themselves be
    touched: the fault is recovered, its traceback is text, asker and starter are told.
    """
    texts: list[str] = []

    def look(fault: FaultContext[Any]) -> RecoveryHandler:
        texts.append(fault.traceback)
        return fault.restart()

    def fail(component: Any = None) -> None:
        raise error

    class Subject(Willing):
        def on_start(self) -> None:
            self.set_recovery_function(look)
            if how == "timer" and self.ref.incarnation == 1:
                self.schedule_once(0.0, fail)
            if how == "start" and self.ref.incarnation == 1:
                raise error

    ref = bench.system.create(Subject)
    future = bench.system.start(ref)
    if how == "ask":
        future.result(LIMIT)
        with pytest.raises(type(error)) as raised:
            ref.ask(Call(fail), timeout=2.0)
        assert raised.value is error
    elif how == "tell":
        ref.tell(Call(fail))
    elif how == "start":
        with pytest.raises(KompyctError, match=type(error).__name__):
            future.result(LIMIT)
    report = bench.event(ComponentRecovered)
    assert report.error == type(error).__name__
    assert ref.ask(Ping(), timeout=2.0) == "pong"
    assert type(error).__name__ in texts[0]
    assert "in fail" in texts[0] or how == "start"


def test_fault_classes_that_an_instance_spoils_do_not_stop_the_system(
    bench: Bench, bystander: ComponentRef[Any]
) -> None:
    """DESIGN: nothing a user writes can poison the system; `fault_classes` is a class-level map,
    which is what was checked at creation.
    """

    class Spoils(Willing):
        def __init__(self) -> None:
            self.fault_classes = cast("Any", None)  # type: ignore[misc]

    ref = started(bench, Spoils)
    with pytest.raises(ZeroDivisionError):
        ref.ask(Call(lambda component: 1 // 0), timeout=2.0)
    assert bench.event(ComponentRecovered).incarnation == 2


def test_a_resource_that_is_none_is_a_fault_like_any_other(
    bench: Bench, bystander: ComponentRef[Any]
) -> None:
    """S-05: `keep` of what is no context manager raises in the handler, and nothing is kept."""
    ref = started(bench)
    with pytest.raises((AttributeError, TypeError)):
        ref.ask(Call(lambda component: component.keep(3)))
    assert bench.event(ComponentRecovered).incarnation == 2


def test_a_passive_component_keeps_nothing(bench: Bench, bystander: ComponentRef[Any]) -> None:
    """Bad input: `keep` before the start: says since when it is possible."""
    ref = bench.system.create(Willing, name="subject")
    component = ref._cell.component
    assert component is not None
    with refused(bench, NotStartedError, "'subject'", "on_start"):
        component.keep(threading.Lock())
