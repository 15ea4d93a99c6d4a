"""Do plain pykka actors and pykka's proxies work with kompyct as they do with pykka?

The programs in the first part run on pykka itself and, unchanged, as adopted components; what is
expected is what pykka's documentation says. The second part is about what kompyct adds (S-22).
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import pykka
import pytest
from pykka import messages

from kompyct import (
    Benign,
    Component,
    ComponentRef,
    FaultContext,
    Phase,
    RecoveryHandler,
    Request,
    State,
    Unrecoverable,
    adopt,
)
from kompyct.errors import (
    ArgumentTypeError,
    ComponentCreateError,
    ComponentDestroyedError,
    ComponentFaultError,
)
from kompyct.events import BenignError, ComponentEnded, ComponentFaulted, ComponentRecovered
from kompyct.testing import TestSystem

from .conftest import Bench

LIMIT = 5.0  # seconds


class World(Protocol):
    """Where a program of pykka actors runs."""

    def start(self, actor_class: type[pykka.Actor], *args: Any) -> Any: ...

    def settle(self) -> None: ...

    def until(self, reached: Callable[[], bool]) -> None: ...


class PykkaWorld:
    """pykka itself."""

    def start(self, actor_class: type[pykka.Actor], *args: Any) -> Any:
        return actor_class.start(*args)

    def settle(self) -> None:
        """Actors run on their own."""

    def until(self, reached: Callable[[], bool]) -> None:
        pause = threading.Event()
        for _ in range(int(LIMIT / 0.001)):
            if reached():
                return
            pause.wait(0.001)
        raise AssertionError("not in time")


class AdoptedWorld:
    """The same actors as components of a system."""

    def __init__(self, bench: Bench) -> None:
        self.settle = bench.settle
        self.until = bench.until
        self._bench = bench

    def start(self, actor_class: type[pykka.Actor], *args: Any) -> Any:
        ref = started(self._bench, adopt(actor_class, *args))
        return ref.proxy().actor_ref


@pytest.fixture(params=["pykka", "thread", "pool", "manual"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """pykka, and a system on each backend."""
    if request.param == "pykka":
        yield PykkaWorld()
        pykka.ActorRegistry.stop_all(timeout=LIMIT)
        return
    bench = Bench(request.param)
    yield AdoptedWorld(bench)
    bench.system.shutdown()


def started(bench: Bench, factory: Callable[[], Component[Any]]) -> ComponentRef[Any]:
    ref = bench.system.create(factory)
    bench.system.start(ref).result(LIMIT)
    return ref


def ask_plainly(ref: ComponentRef[Any], message: Any) -> Any:
    """`ref.ask` of a message that is no `Request`, as pykka's actors are asked."""
    return ref.ask(message)


# -- the same programs --------------------------------------------------------------------


@pykka.traversable
class Player:
    """A part of an actor that proxies may go into."""

    def __init__(self) -> None:
        self.volume = 3

    def play(self, song: str) -> str:
        return f"playing {song} at {self.volume}"


class Calculator(pykka.ThreadingActor):
    """An actor with methods, attributes and a traversable part."""

    def __init__(self, base: int, log: list[Any] | None = None) -> None:
        super().__init__()
        self.base = base
        self.log = log if log is not None else []
        self.player = Player()

    def add(self, number: int, *, times: int = 1) -> int:
        return self.base + number * times

    def note(self, word: str) -> None:
        self.log.append(word)

    def divide(self, number: int) -> float:
        return self.base / number

    def on_start(self) -> None:
        self.log.append("on_start")

    def on_stop(self) -> None:
        self.log.append("on_stop")

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.log.append(("on_failure", exception_type, str(exception_value), traceback is None))

    def on_receive(self, message: Any) -> Any:
        self.log.append(message)
        if message == "fail":
            raise ValueError("failed")
        if message == "stop":
            self.stop()
        return ("reply to", message)


def test_a_proxy_calls_methods_with_their_arguments(world: World) -> None:
    """Given base 10, then add(5) is 15 and add(5, times=3) is 25."""
    proxy = world.start(Calculator, 10).proxy()
    assert proxy.add(5).get(timeout=LIMIT) == 15
    assert proxy.add(5, times=3).get(timeout=LIMIT) == 25


def test_a_proxy_reads_and_sets_attributes(world: World) -> None:
    """Given an attribute set through the proxy, then it is set when the assignment returns."""
    proxy = world.start(Calculator, 10).proxy()
    assert proxy.base.get(timeout=LIMIT) == 10
    setattr(proxy, "base", 20)  # noqa: B010  # pyright would take it for a plain attribute
    assert proxy.base.get(timeout=LIMIT) == 20
    assert proxy.add(1).get(timeout=LIMIT) == 21
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        _ = proxy.missing


def test_a_proxy_goes_into_traversable_attributes(world: World) -> None:
    """Given a traversable part, then its methods and attributes are reached through it."""
    proxy = world.start(Calculator, 0).proxy()
    assert proxy.player.play("it").get(timeout=LIMIT) == "playing it at 3"
    setattr(proxy.player, "volume", 7)  # noqa: B010  # as above
    assert proxy.player.volume.get(timeout=LIMIT) == 7
    assert proxy.player.play("it").get(timeout=LIMIT) == "playing it at 7"


def test_calls_and_messages_are_handled_in_the_order_sent(world: World) -> None:
    """Given a deferred call, a tell and a call, then all are handled in that order."""
    log: list[Any] = []
    ref = world.start(Calculator, 0, log)
    proxy = ref.proxy()
    assert proxy.note.defer("first") is None
    ref.tell("second")
    proxy.note("third").get(timeout=LIMIT)
    assert log == ["on_start", "first", "second", "third"]


def test_an_ask_gets_the_reply_at_once_or_as_a_future(world: World) -> None:
    """Given on_receive that returns something, then an ask gets it, blocking or not."""
    ref = world.start(Calculator, 0)
    assert ref.ask("a", timeout=LIMIT) == ("reply to", "a")
    assert ref.ask("b", block=False).get(timeout=LIMIT) == ("reply to", "b")


def test_an_actor_without_on_receive_replies_none(world: World) -> None:
    """Given pykka's own on_receive, then a plain message is no fault and its reply is None."""

    class Silent(pykka.ThreadingActor):
        pass

    ref = world.start(Silent)
    assert ref.ask("anything", timeout=LIMIT) is None
    assert ref.is_alive()


def test_a_call_that_raises_raises_in_the_caller(world: World) -> None:
    """Given a method that raises, then `get` of its future raises that, and not before."""
    proxy = world.start(Calculator, 1).proxy()
    future = proxy.divide(0)
    with pytest.raises(ZeroDivisionError):
        future.get(timeout=LIMIT)


def test_an_ask_that_raises_raises_in_the_asker(world: World) -> None:
    """Given on_receive that raises, then the asker gets that very exception."""
    ref = world.start(Calculator, 1)
    with pytest.raises(ValueError, match=r"^failed$"):
        ref.ask("fail", timeout=LIMIT)


def test_a_tell_that_raises_calls_on_failure_and_not_on_stop(world: World) -> None:
    """Given a tell that raises, then on_failure gets what was raised, and the actor is dead."""
    log: list[Any] = []
    ref = world.start(Calculator, 0, log)
    ref.tell("fail")
    world.until(lambda: not ref.is_alive() and len(log) == 3)
    assert log == ["on_start", "fail", ("on_failure", ValueError, "failed", False)]


def test_stop_lets_waiting_messages_be_handled_first(world: World) -> None:
    """Given messages and then a stop, then they are handled, on_stop is called, it is dead."""
    log: list[Any] = []
    ref = world.start(Calculator, 0, log)
    for number in range(3):
        ref.tell(number)
    assert ref.stop(timeout=LIMIT) is True
    assert log == ["on_start", 0, 1, 2, "on_stop"]
    assert not ref.is_alive()
    assert ref.stop(timeout=LIMIT) is False
    assert log[-2:] == [2, "on_stop"]


def test_stop_gives_a_future_if_it_is_not_to_block(world: World) -> None:
    """Given block=False, then the future says whether it was alive."""
    ref = world.start(Calculator, 0)
    stopped = ref.stop(block=False)
    assert stopped.get(timeout=LIMIT) is True
    assert not ref.is_alive()


def test_a_dead_actor_raises_actor_dead_error(world: World) -> None:
    """Given a dead actor, then tell, ask, a call and a new proxy raise ActorDeadError."""
    ref = world.start(Calculator, 0)
    proxy = ref.proxy()
    ref.stop(timeout=LIMIT)
    with pytest.raises(pykka.ActorDeadError):
        ref.tell("late")
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("late", timeout=LIMIT)
    with pytest.raises(pykka.ActorDeadError):
        proxy.add(1).get(timeout=LIMIT)
    with pytest.raises(pykka.ActorDeadError):
        ref.proxy()


def test_an_actor_that_stops_itself_ends_after_what_is_waiting(world: World) -> None:
    """Given self.stop() in a handler, then what is waiting is handled and on_stop is called.

    `Actor.stop` is "equivalent to calling ActorRef.stop(block=False)".
    """
    log: list[Any] = []
    ref = world.start(Calculator, 0, log)
    ref.tell("stop")
    world.until(lambda: not ref.is_alive() and "on_stop" in log)
    assert log == ["on_start", "stop", "on_stop"]


def test_an_ask_that_stops_the_actor_gets_its_reply(world: World) -> None:
    """Given self.stop() while an ask is handled, then the asker has the reply all the same."""
    log: list[Any] = []
    ref = world.start(Calculator, 0, log)
    assert ref.ask("stop", timeout=LIMIT) == ("reply to", "stop")
    world.until(lambda: not ref.is_alive() and "on_stop" in log)
    assert log == ["on_start", "stop", "on_stop"]


class Ahead(pykka.ThreadingActor):
    """Sends work to itself through a proxy made in `__init__`, as pykka's documentation shows."""

    def __init__(self) -> None:
        super().__init__()
        self._in_future: Any = self.actor_ref.proxy()
        self.done: list[int] = []

    def work(self, left: int) -> None:
        self.done.append(left)
        if left:
            self._in_future.work(left - 1)


def test_a_proxy_to_itself_made_in_init_works(world: World) -> None:
    """Given `self._in_future = self.actor_ref.proxy()` in `__init__`, then calls arrive."""
    ref = world.start(Ahead)
    proxy = ref.proxy()
    proxy.work(3).get(timeout=LIMIT)

    def done() -> bool:
        return len(proxy.done.get(timeout=LIMIT)) == 4

    world.until(done)
    assert proxy.done.get(timeout=LIMIT) == [3, 2, 1, 0]


def test_what_an_actor_sends_to_itself_in_init_is_handled_after_on_start(world: World) -> None:
    """Given a tell to itself in `__init__`, then it waits in the mailbox as any message."""
    log: list[Any] = []

    class Eager(pykka.ThreadingActor):
        def __init__(self) -> None:
            super().__init__()
            self.actor_ref.tell("from init")

        def on_start(self) -> None:
            log.append("on_start")

        def on_receive(self, message: Any) -> None:
            log.append(message)

    world.start(Eager).ask("from outside", timeout=LIMIT)
    assert log == ["on_start", "from init", "from outside"]


class AheadOnStart(Ahead):
    """The same, with the proxy made in `on_start`."""

    def on_start(self) -> None:
        self._in_future = self.actor_ref.proxy()


def test_a_proxy_to_itself_made_in_on_start_works(world: World) -> None:
    """Given `self._in_future = self.actor_ref.proxy()` in `on_start`, then calls arrive."""
    proxy = world.start(AheadOnStart).proxy()
    proxy.work(2).get(timeout=LIMIT)
    world.until(lambda: len(proxy.done.get(timeout=LIMIT)) == 3)
    assert proxy.done.get(timeout=LIMIT) == [2, 1, 0]


class Greeter(pykka.ThreadingActor):
    """Asks another actor while it handles a call."""

    def __init__(self, other: pykka.ActorRef[Any]) -> None:
        super().__init__()
        self._other = other.proxy()

    def greet(self, number: int) -> str:
        return f"hello {self._other.add(number).get(timeout=LIMIT)}"


def test_an_actor_calls_another_one(world: World) -> None:
    """Given an actor that waits for another's reply in a handler, then it gets it."""
    calculator = world.start(Calculator, 40)
    greeter = world.start(Greeter, calculator).proxy()
    assert greeter.greet(2).get(timeout=LIMIT) == "hello 42"


def test_futures_can_be_joined_mapped_and_awaited(world: World) -> None:
    """Given calls, then get_all, map and await give their values, as of any pykka future."""
    proxy = world.start(Calculator, 1).proxy()
    futures = [proxy.add(number) for number in range(3)]
    assert [*pykka.get_all(futures, timeout=LIMIT)] == [1, 2, 3]
    assert proxy.add(1).map(lambda value: value * 10).get(timeout=LIMIT) == 20

    async def wait() -> Any:
        return await proxy.add(9)

    assert asyncio.run(wait()) == 10


def test_proxy_messages_can_be_sent_without_a_proxy(world: World) -> None:
    """Given ProxyCall, ProxyGetAttr and ProxySetAttr as messages, then they are carried out."""
    ref = world.start(Calculator, 10)
    ref.tell(messages.ProxySetAttr(("base",), 30))
    assert ref.ask(messages.ProxyGetAttr(("base",)), timeout=LIMIT) == 30
    assert ref.ask(messages.ProxyCall(("add",), (5,), {"times": 2}), timeout=LIMIT) == 40


def test_a_ref_says_what_it_refers_to(world: World) -> None:
    """Given a ref, then actor_class, actor_urn and its text name the actor."""
    ref = world.start(Calculator, 0)
    assert ref.actor_class.__name__ == "Calculator"
    assert issubclass(ref.actor_class, Calculator)
    assert isinstance(ref.actor_urn, str)
    assert "Calculator" in str(ref)
    assert ref.actor_urn in repr(ref)


class Busy(pykka.ThreadingActor):
    """Waits until it is told to go on."""

    def __init__(self, entered: threading.Event, go_on: threading.Event) -> None:
        super().__init__()
        self._entered = entered
        self._go_on = go_on

    def wait(self) -> bool:
        self._entered.set()
        return self._go_on.wait(LIMIT)


@pytest.mark.parametrize("world", ["pykka", "thread", "pool"], indirect=True)
def test_waiting_for_a_busy_actor_raises_pykkas_timeout(world: World) -> None:
    """Given a busy actor, then get, ask and stop with a timeout raise pykka.Timeout.

    Not on the manual backend, where a handler that blocks blocks the test.
    """
    entered, go_on = threading.Event(), threading.Event()
    ref = world.start(Busy, entered, go_on)
    future = ref.proxy().wait()
    assert entered.wait(LIMIT)
    try:
        with pytest.raises(pykka.Timeout):
            future.get(timeout=0.01)
        with pytest.raises(pykka.Timeout):
            ref.ask("queued", timeout=0.01)
        with pytest.raises(pykka.Timeout):
            ref.stop(timeout=0.01)
    finally:
        go_on.set()
    assert future.get(timeout=LIMIT) is True
    world.until(lambda: not ref.is_alive())


# -- faults of adopted actors -------------------------------------------------------------


@pytest.mark.parametrize("way", ["tell", "ask", "call", "defer", "get"])
def test_a_fault_of_an_adopted_actor_reaches_the_supervisor(bench: Bench, way: str) -> None:
    """B-15, S-22: Given a raise in a tell, an ask, a call or a deferred call, then it is a fault.

    on_failure is called once, for asks as well, before the component ends.
    """
    log: list[Any] = []
    ref = started(bench, adopt(Calculator, 1, log))
    actor = ref.proxy().actor_ref
    if way == "tell":
        ref.tell("fail")
    elif way == "ask":
        with pytest.raises(ValueError, match="failed"):
            ask_plainly(ref, "fail")
    elif way == "call":
        with pytest.raises(ZeroDivisionError):
            actor.proxy().divide(0).get(timeout=LIMIT)
    elif way == "defer":
        actor.proxy().divide.defer(0)
    else:
        with pytest.raises(AttributeError):
            actor.ask(messages.ProxyGetAttr(("missing",)), timeout=LIMIT)
    event = bench.event(ComponentFaulted)
    expected = {"tell": "ValueError", "ask": "ValueError", "get": "AttributeError"}
    assert event.error == expected.get(way, "ZeroDivisionError")
    assert event.phase == "receive"
    bench.event(ComponentEnded)
    assert [entry[0] for entry in log if isinstance(entry, tuple)] == ["on_failure"]
    assert len(bench.events.of(ComponentFaulted)) == 1


def test_an_adopted_actor_is_recovered_by_a_function_set_from_outside(bench: Bench) -> None:
    """B-64, S-22: Given a recovery function set on the ref, then a new actor takes over.

    The ref still works, the new actor is made with the arguments of `adopt`, and its on_start
    runs after the old one's on_failure.
    """
    log: list[Any] = []
    ref = started(bench, adopt(Calculator, 10, log))
    ref.set_recovery_function(lambda fault: fault.restart())
    proxy = ref.proxy()
    proxy.base = 99
    ref.tell("fail")
    assert bench.event(ComponentRecovered).incarnation == 2
    assert ref.proxy().base.get(timeout=LIMIT) == 10
    kinds = [entry[0] if isinstance(entry, tuple) else entry for entry in log]
    assert kinds == ["on_start", "fail", "on_failure", "on_start"]


def test_state_of_an_adopted_actor_survives_in_a_snapshot(bench: Bench) -> None:
    """B-22: Given a snapshot set from outside, then the replacement is made from it."""

    def recover(fault: FaultContext[int]) -> RecoveryHandler:
        return fault.restart(adopt(Calculator, fault.snapshot))

    ref = started(bench, adopt(Calculator, 1))
    ref.set_recovery_function(recover, snapshot=41)
    with pytest.raises(ValueError, match="failed"):
        ask_plainly(ref, "fail")
    bench.event(ComponentRecovered)
    assert ref.proxy().add(1).get(timeout=LIMIT) == 42


def test_on_failure_runs_before_the_recovery_function(bench: Bench) -> None:
    """S-22: Given both, then on_failure is over when the recovery function is called."""
    log: list[Any] = []

    def recover(fault: FaultContext[None]) -> RecoveryHandler:
        log.append(("recover", fault.phase))
        return fault.restart()

    ref = started(bench, adopt(Calculator, 1, log))
    ref.set_recovery_function(recover)
    ref.tell("fail")
    bench.event(ComponentRecovered)
    kinds = [entry[0] if isinstance(entry, tuple) else entry for entry in log]
    assert kinds == ["on_start", "fail", "on_failure", "recover", "on_start"]
    assert ("recover", Phase.RECEIVE) in log


class BadStart(pykka.ThreadingActor):
    """Its first `on_start` raises."""

    starts = 0

    def on_start(self) -> None:
        type(self).starts += 1
        if type(self).starts == 1:
            raise OSError("no device")


def test_a_fault_in_on_start_of_an_actor_can_be_recovered(bench: Bench) -> None:
    """B-04, B-14, S-22: Given on_start that raises, then the waiter is told and recovery runs."""
    BadStart.starts = 0
    ref = bench.system.create(adopt(BadStart))
    ref.set_recovery_function(lambda fault: fault.restart())
    with pytest.raises(ComponentFaultError) as caught:
        bench.system.start(ref).result(LIMIT)
    assert isinstance(caught.value.__cause__, OSError)
    assert bench.event(ComponentFaulted).phase == "start"
    bench.event(ComponentRecovered)
    assert BadStart.starts == 2
    assert ref.state is State.ACTIVE


class BadStop(pykka.ThreadingActor):
    """Its `on_stop` raises."""

    def on_stop(self) -> None:
        raise OSError("no device")


def test_a_fault_in_on_stop_of_an_actor_reaches_the_supervisor(bench: Bench) -> None:
    """S-22: Given on_stop that raises, then it is a fault in the kill, and still the end."""
    ref = started(bench, adopt(BadStop))
    with pytest.raises(ComponentFaultError):
        bench.system.kill(ref).result(LIMIT)
    assert bench.event(ComponentFaulted).phase == "kill"
    bench.event(ComponentEnded)
    assert not ref.is_alive


def test_a_benign_exception_of_an_actor_goes_to_the_asker_only(bench: Bench) -> None:
    """S-14, S-22: Given benign=(ValueError,), then it is no fault and on_failure is not called."""
    log: list[Any] = []
    ref = started(bench, adopt(Calculator, 1, log, benign=(ValueError,)))
    with pytest.raises(ValueError, match="failed"):
        ask_plainly(ref, "fail")
    ref.tell("fail")
    assert bench.event(BenignError).error == "ValueError"
    assert ref.proxy().add(1).get(timeout=LIMIT) == 2
    assert log == ["on_start", "fail", "fail"]
    assert ref.incarnation == 1
    assert not bench.events.of(ComponentFaulted)


class Raiser(pykka.ThreadingActor):
    """Raises what it is sent."""

    def __init__(self, failures: list[type[BaseException] | None]) -> None:
        super().__init__()
        self._failures = failures

    def on_receive(self, message: Any) -> None:
        raise message

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self._failures.append(exception_type)


def test_kompycts_own_benign_is_no_failure_of_an_actor(bench: Bench) -> None:
    """S-14: Given an actor that raises Benign, then on_failure is not called and it lives on."""
    failures: list[type[BaseException] | None] = []
    ref = started(bench, adopt(Raiser, failures))
    with pytest.raises(Benign):
        ask_plainly(ref, Benign("refused"))
    assert ref.proxy().actor_stopped.get(timeout=LIMIT).is_set() is False
    assert failures == []
    assert ref.incarnation == 1


def test_the_most_specific_class_decides_whether_on_failure_is_called(bench: Bench) -> None:
    """S-14: Given benign=(Exception,) and an Unrecoverable, then on_failure runs: a fault."""
    failures: list[type[BaseException] | None] = []
    ref = started(bench, adopt(Raiser, failures, benign=(Exception,)))
    ref.tell(Unrecoverable("over"))
    bench.event(ComponentEnded)
    assert failures == [Unrecoverable]


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit])
def test_a_base_exception_of_an_actor_faults_that_actor_only(
    bench: Bench, error: type[BaseException]
) -> None:
    """B-16, S-16: Given SystemExit in an actor, then its asker gets a ComponentFaultError with
    the cause, siblings go on, and no pykka actor of the process is stopped.
    """
    plain = Calculator.start(1)
    try:
        sibling = started(bench, adopt(Calculator, 1))
        ref = started(bench, adopt(Raiser, []))
        with pytest.raises(ComponentFaultError) as caught:
            ref.proxy().actor_ref.ask(error(3), timeout=LIMIT)
        assert isinstance(caught.value.__cause__, error)
        assert bench.event(ComponentFaulted).error == error.__name__
        assert sibling.proxy().add(1).get(timeout=LIMIT) == 2
        assert plain.proxy().add(1).get(timeout=LIMIT) == 2
    finally:
        plain.stop(timeout=LIMIT)


class BadFailure(Raiser):
    """Its `on_failure` raises as well."""

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        raise KeyError("in on_failure")


def test_an_on_failure_that_raises_does_not_hide_the_fault(bench: Bench) -> None:
    """S-22: Given on_failure that raises, then asker and supervisor see the first exception.

    pykka logs what on_failure raises, and the asker has got the first one before.
    """
    ref = started(bench, adopt(BadFailure, []))
    with pytest.raises(ValueError, match="the first"):
        ask_plainly(ref, ValueError("the first"))
    assert bench.event(ComponentFaulted).error == "ValueError"


# -- life of adopted actors ---------------------------------------------------------------


def test_pykkas_registry_does_not_see_adopted_actors(bench: Bench) -> None:
    """S-22: Given adopted actors and components, then ActorRegistry knows none of them."""
    ref = started(bench, adopt(Calculator, 1))
    started(bench, Tally)
    assert ref.proxy().add(1).get(timeout=LIMIT) == 2
    assert pykka.ActorRegistry.get_all() == []
    pykka.ActorRegistry.stop_all(timeout=LIMIT)
    assert ref.proxy().add(1).get(timeout=LIMIT) == 2


def test_a_paused_actor_keeps_state_and_messages(bench: Bench) -> None:
    """B-02, S-22: Given a stop, which pykka does not know, then no hook runs; a start calls
    on_start again and what came meanwhile is handled.
    """
    log: list[Any] = []
    ref = started(bench, adopt(Calculator, 1, log))
    bench.system.stop(ref).result(LIMIT)
    ref.tell("meanwhile")
    bench.settle()
    assert log == ["on_start"]
    bench.system.start(ref).result(LIMIT)
    ref.proxy().add(1).get(timeout=LIMIT)
    assert log == ["on_start", "on_start", "meanwhile"]


def test_shutdown_calls_on_stop_of_adopted_actors(bench: Bench) -> None:
    """S-03: Given a shutdown, then on_stop of each actor runs once, the last started first."""
    log: list[Any] = []

    class Named(pykka.ThreadingActor):
        def __init__(self, name: str) -> None:
            super().__init__()
            self._name = name

        def on_stop(self) -> None:
            log.append(self._name)

    for name in ("a", "b", "c"):
        started(bench, adopt(Named, name))
    bench.system.shutdown()
    assert log == ["c", "b", "a"]


def test_a_brutal_kill_runs_no_hook_of_an_actor(bench: Bench) -> None:
    """S-01: Given kill(brutal=True), then neither on_stop nor on_failure runs."""
    log: list[Any] = []
    ref = started(bench, adopt(Calculator, 1, log))
    bench.system.kill(ref, brutal=True).result(LIMIT)
    assert log == ["on_start"]
    assert not ref.is_alive


def test_an_actor_whose_init_raises_leaves_nothing(bench: Bench) -> None:
    """B-60, S-13: Given `__init__` that raises, then create raises with it as the cause."""

    class Bad(pykka.ThreadingActor):
        def __init__(self) -> None:
            super().__init__()
            raise OSError("no device")

    with pytest.raises(ComponentCreateError) as caught:
        bench.system.create(adopt(Bad), name="bad")
    assert isinstance(caught.value.__cause__, OSError)
    assert bench.system.find("bad") is None


def test_an_actor_that_forgets_super_is_refused_with_the_reason(bench: Bench) -> None:
    """Given `__init__` without super().__init__(), which pykka needs, then the error says so."""

    class Forgetful(pykka.ThreadingActor):
        def __init__(self) -> None:
            self.ready = True

    with pytest.raises(ComponentCreateError) as caught:
        bench.system.create(adopt(Forgetful))
    assert "super().__init__()" in str(caught.value.__cause__)


@pytest.mark.parametrize("wrong", [int, "Calculator", Calculator.on_start, None])
def test_adopt_refuses_what_is_no_actor_class(wrong: Any) -> None:
    """Given something else than an actor class, then adopt raises at once and names it."""
    with pytest.raises(ArgumentTypeError, match="pykka actor class"):
        adopt(wrong)


@pytest.mark.parametrize("wrong", [ValueError, (int,), [ValueError], ("ValueError",)])
def test_adopt_refuses_wrong_benign_types(wrong: Any) -> None:
    """Given `benign` that is no tuple of exception types, then adopt raises at once."""
    with pytest.raises(ArgumentTypeError, match="benign is"):
        adopt(Calculator, 1, benign=wrong)


# -- proxies of ordinary components -------------------------------------------------------


class GetWords(Request[tuple[str, ...]]):
    """Ask for the words."""


class Tally(Component[Any]):
    """A component with methods and attributes; `add` saves, so that recovery has the sum."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self.player = Player()

    def on_start(self) -> None:
        self.save()

    def save(self) -> None:
        self.set_recovery_function(restore, snapshot=self.total)

    def add(self, number: int) -> int:
        self.total += number
        self.save()
        return self.total

    def fail(self) -> None:
        raise ValueError("failed")


def restore(fault: FaultContext[int]) -> RecoveryHandler:
    return fault.restart(partial(Tally, fault.snapshot))


def test_a_proxy_of_a_component_calls_reads_and_sets(bench: Bench) -> None:
    """Given an ordinary component, then its proxy works as one of an actor."""
    proxy = started(bench, Tally).proxy()
    assert proxy.add(2).get(timeout=LIMIT) == 2
    proxy.add.defer(3)
    assert proxy.total.get(timeout=LIMIT) == 5
    proxy.total = 10
    assert proxy.add(1).get(timeout=LIMIT) == 11
    assert proxy.player.play("it").get(timeout=LIMIT) == "playing it at 3"
    with pytest.raises(AttributeError):
        _ = proxy.missing


def test_a_proxy_made_before_a_recovery_reaches_the_new_incarnation(bench: Bench) -> None:
    """B-15, B-64: Given a call that raises, then the caller gets it, the component is recovered
    with its snapshot, and the proxy from before reaches the new incarnation.
    """
    ref = started(bench, Tally)
    proxy = ref.proxy()
    assert proxy.add(7).get(timeout=LIMIT) == 7
    with pytest.raises(ValueError, match="failed"):
        proxy.fail().get(timeout=LIMIT)
    assert bench.event(ComponentRecovered).incarnation == 2
    assert proxy.total.get(timeout=LIMIT) == 7
    assert proxy.add(1).get(timeout=LIMIT) == 8
    proxy.total = 20
    assert ref.proxy().add(1).get(timeout=LIMIT) == 21


def test_a_proxy_of_an_adopted_actor_reaches_the_new_incarnation(bench: Bench) -> None:
    """B-64: Given an adopted actor that was recovered, then the proxy from before still works,
    once the first actor is garbage as well.
    """
    ref = started(bench, adopt(Calculator, 10))
    ref.set_recovery_function(lambda fault: fault.restart(adopt(Calculator, 20)))
    proxy = ref.proxy()
    actor_ref = proxy.actor_ref
    with pytest.raises(ValueError, match="failed"):
        actor_ref.ask("fail", timeout=LIMIT)
    bench.event(ComponentRecovered)
    gc.collect()
    assert actor_ref.is_alive()
    assert proxy.add(1).get(timeout=LIMIT) == 21
    assert actor_ref.proxy().add(2).get(timeout=LIMIT) == 22
    assert ref.proxy().add(3).get(timeout=LIMIT) == 23


def test_the_ref_in_an_actor_outlives_its_recovery(bench: Bench) -> None:
    """B-64, S-22: Given actor_ref handed out by the first incarnation, with no proxy that keeps
    that one alive, then tell, ask and a new proxy reach the second.
    """
    ref = started(bench, adopt(Calculator, 10))
    ref.set_recovery_function(lambda fault: fault.restart(adopt(Calculator, 20)))
    handed_out = ref.proxy().actor_ref
    ref.tell("fail")
    bench.event(ComponentRecovered)
    gc.collect()
    assert handed_out.ask("hello", timeout=LIMIT) == ("reply to", "hello")
    assert handed_out.proxy().add(1).get(timeout=LIMIT) == 21


def test_a_component_that_has_ended_has_no_proxy(bench: Bench) -> None:
    """B-69: Given an ended component, then proxy() raises, and calls through an old one do too."""
    ref = started(bench, Tally)
    proxy = ref.proxy()
    bench.system.kill(ref).result(LIMIT)
    with pytest.raises(ComponentDestroyedError):
        ref.proxy()
    with pytest.raises(pykka.ActorDeadError):
        proxy.add(1).get(timeout=LIMIT)


def test_a_passive_component_answers_through_its_proxy_once_it_is_started(bench: Bench) -> None:
    """B-01: Given calls before the start, then they wait, in order, and are answered after it."""
    ref = bench.system.create(Tally)
    proxy = ref.proxy()
    futures = [proxy.add(number) for number in (1, 2, 3)]
    bench.settle()
    bench.system.start(ref)
    assert [future.get(timeout=LIMIT) for future in futures] == [1, 3, 6]


def test_under_virtual_time_a_call_waits_when_it_is_looked_at_and_not_before() -> None:
    """B-75: Given a call to a passive component, then no virtual time passes by making it.

    Another component has a timer in 10 s; what waits for the call would let those pass.
    """

    class Late(Component[Any]):
        def on_start(self) -> None:
            self.schedule_once(10.0, lambda: None)

    with TestSystem() as system:
        late = system.create(Late)
        system.start(late).result()
        proxy = system.create(Tally).proxy()
        proxy.add(1)
        assert system.time == 0.0


# -- what is used of pykka ----------------------------------------------------------------

PRIVATE_NAMES = {
    "pykka._envelope": ["Envelope"],
    "pykka._introspection": ["get_attr_directly"],
}
"""Private names that kompyct imports from pykka."""


@pytest.mark.parametrize("module", PRIVATE_NAMES)
def test_the_private_modules_of_pykka_that_are_used_exist(module: str) -> None:
    """Given the installed pykka, then what `kompyct` imports from its inside is there."""
    for name in PRIVATE_NAMES[module]:
        assert callable(getattr(importlib.import_module(module), name))


def test_the_private_methods_of_pykka_that_are_used_exist() -> None:
    """Given the installed pykka, then what is called, overridden or set on actors is as assumed.

    `_start_actor_loop` starts an actor without the registry, `_create_actor_inbox` is called in
    `__init__`, `_actor_ref` is what the property `actor_ref` returns, `_actor_weakref` is what a
    proxy looks at, and the loop reads `actor_inbox` until `actor_stopped` is set.
    """
    assert inspect.signature(pykka.ThreadingActor._start_actor_loop).parameters.keys() == {"self"}
    assert not inspect.signature(pykka.ThreadingActor._create_actor_inbox).parameters
    actor = Calculator(1)
    assert actor.actor_ref is actor._actor_ref
    assert actor.actor_ref._actor_weakref() is actor
    assert hasattr(actor.actor_inbox, "put")
    assert not actor.actor_stopped.is_set()
    assert messages._ActorStop() == ()
