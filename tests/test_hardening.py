"""What a sceptical user and a sceptical reader found, each as a behaviour that now holds."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from typing import Any

import pytest

from kompyct import (
    Component,
    ComponentSystem,
    FaultContext,
    RecoveryHandler,
    Request,
    State,
)
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    ComponentDestroyedError,
    ComponentFaultError,
    InvalidComponentError,
    MailboxFullError,
    ShutdownTimeoutError,
)
from kompyct.events import ComponentFaulted, DeadLetters, FallbackApplied
from kompyct.testing import TestSystem
from tests.conftest import LIMIT, Bench


class Doer(Component[Any]):
    """Calls what it is sent."""

    def on_receive(self, message: Any) -> Any:
        return message(self) if callable(message) else message


class Call(Request[Any]):
    """A request that calls `action` in the component."""

    def __init__(self, action: Any) -> None:
        self._action = action

    def __call__(self, component: Any) -> Any:
        return self._action(component)


def come_back(fault: FaultContext[Any]) -> RecoveryHandler:
    return fault.restart()


@pytest.mark.parametrize("backend", ["thread", "pool"])
def test_a_shutdown_is_bounded_though_every_handler_blocks(backend: Any) -> None:
    """S-03: `timeout` bounds the whole; what waits in a component left behind is not handled."""
    release = threading.Event()
    handled: list[int] = []
    system = ComponentSystem(backend=backend)
    for number in range(20):
        ref = system.create(Doer, start=True)
        ref.tell(lambda _: release.wait())
        ref.tell(lambda _, number=number: handled.append(number))
    began = time.monotonic()
    with pytest.raises(ShutdownTimeoutError):
        system.shutdown(0.2)
    assert time.monotonic() - began < LIMIT
    assert handled == []
    release.set()


@pytest.mark.parametrize("backend", ["thread", "pool"])
def test_at_most_eight_recoveries_run_at_once(backend: Any) -> None:
    """S-12: at most 8 hang; those that wait get the fallback, and a healthy one still recovers."""
    release = threading.Event()
    called: list[str] = []

    def hang(fault: FaultContext[Any]) -> RecoveryHandler:
        called.append(fault.path)
        release.wait()
        return fault.end()

    bench = Bench(backend, recovery_deadline=0.2)
    try:
        refs = [bench.system.create(Doer, name=f"c{n}", start=True) for n in range(30)]
        for ref in refs:
            ref.set_recovery_function(hang)
            ref.tell(lambda _: 1 / 0)
        bench.event(FallbackApplied, 30)
        assert len(called) == 8
        bench.until(lambda: not any(ref.is_alive for ref in refs))
        release.set()
        healthy = bench.system.create(Doer, name="healthy", start=True)
        healthy.set_recovery_function(come_back)

        def recovered() -> bool:
            if healthy.incarnation == 1 and healthy.state is State.ACTIVE:
                healthy.tell(lambda _: 1 / 0)
            return healthy.incarnation > 1 or not healthy.is_alive

        bench.until(recovered)
    finally:
        release.set()
        bench.system.shutdown()


def test_a_test_drives_its_system_itself() -> None:
    """S-35: `run()` waits for signals, which move no virtual time: it is refused."""
    with TestSystem() as system, pytest.raises(ArgumentError, match="advance"):
        system.run()


@pytest.mark.parametrize("hook", ["on_start", "on_stop", "on_kill", "on_receive"])
def test_hooks_that_are_coroutines_are_refused(bench: Bench, hook: str) -> None:
    """B-10 waits for a later step; until then nobody's `async def` is silently never awaited."""

    async def coroutine(*_: object) -> None:
        """Never awaited."""

    cls: Any = type("Later", (Doer,), {hook: coroutine})
    with pytest.raises(InvalidComponentError, match=f"Later.{hook}"):
        bench.system.create(cls)
    assert bench.system.tree().children == ()


def test_what_cannot_be_kept_or_found_is_named(bench: Bench) -> None:
    """Bad input: right class, the value named, nothing disturbed."""
    ref = bench.system.create(Doer, start=True)
    with pytest.raises(ArgumentTypeError, match="5"):
        ref.ask(Call(lambda component: component.keep(5)), timeout=LIMIT)
    with pytest.raises(ArgumentTypeError, match=r"\[\]"):
        bench.system.find([])  # type: ignore[arg-type]  # pyright: ignore
    with pytest.raises(ArgumentTypeError, match="clock is 3"):
        ComponentSystem(clock=3)  # type: ignore[arg-type]  # pyright: ignore


def test_a_handler_that_cannot_be_looked_up_is_a_fault(bench: Bench) -> None:
    """Scope 3: every exception of users' code is a fault, also with several messages waiting."""

    class Shy(Doer):
        @property
        def on_receive(self) -> Any:  # pyright: ignore
            raise LookupError("shy")

    ref = bench.system.create(Shy)
    for number in range(3):
        ref.tell(number)
    bench.system.start(ref).result(LIMIT)
    bench.event(ComponentFaulted)
    bench.until(lambda: not ref.is_alive)


def test_a_future_that_its_user_completes_harms_nobody(bench: Bench) -> None:
    """Scope 2: futures are the caller's; what he does with them does not reach the component."""
    ref = bench.system.create(Doer)
    future = ref.ask(Call(lambda _: 1), block=False)
    future.set_result(7)
    starting = bench.system.start(ref)
    bench.settle()
    assert future.result(LIMIT) == 7
    assert ref.ask(Call(lambda _: 2), timeout=LIMIT) == 2
    starting.result(LIMIT)


def test_a_ref_of_an_ended_system_can_be_handled(bench: Bench) -> None:
    """S-17: what is unknown is found out when it is used, with an error of kompyct's."""
    system = TestSystem()
    data = pickle.dumps(system.create(Doer, name="gone"))
    system.shutdown()
    del system
    lost: Any = pickle.loads(data)
    assert "gone" in repr(lost)
    assert pickle.loads(pickle.dumps(lost)).path == "gone"
    lost.tell(1)
    with pytest.raises(ComponentDestroyedError):
        lost.ask(Call(None))
    with pytest.raises(ComponentDestroyedError):
        lost.ask(Call(None), block=False).result(LIMIT)
    with pytest.raises((ArgumentError, ComponentDestroyedError)):
        bench.system.start(lost)


def test_deferred_calls_of_proxies_are_messages_like_others(bench: Bench) -> None:
    """S-02, S-20: they count for the limit of a mailbox and become dead letters at the end."""
    ref = bench.system.create(Doer, mailbox_limit=2)
    proxy: Any = ref.proxy()
    proxy.on_receive.defer(1)
    proxy.on_receive.defer(2)
    with pytest.raises(MailboxFullError):
        proxy.on_receive.defer(3)
    bench.system.kill(ref).result(LIMIT)
    assert bench.event(DeadLetters).count == 2


def test_a_kill_that_faults_is_told_when_the_name_is_free(bench: Bench) -> None:
    """B-72: when the kill's future is done, another component may take the name."""

    class Clinging(Doer):
        def on_kill(self) -> None:
            raise ValueError("no")

    for _ in range(20):
        ref = bench.system.create(Clinging, name="same", start=True)
        ref.set_recovery_function(come_back)
        with pytest.raises(ComponentFaultError):
            bench.system.kill(ref).result(LIMIT)
        assert bench.system.find("same") is None


@pytest.mark.parametrize("backend", ["thread", "pool"])
def test_a_coroutine_that_asks_gets_a_stop_iteration_wrapped(bench: Bench) -> None:
    """S-16: an asker never hangs, though asyncio's futures cannot carry this one."""

    def stop(_: Any) -> None:
        raise StopIteration

    ref = bench.system.create(Doer, start=True)
    with pytest.raises(ComponentFaultError, match="StopIteration"):
        asyncio.run(ref.ask_async(Call(stop), timeout=LIMIT))


def test_users_may_use_any_name_but_three(bench: Bench) -> None:
    """S-21: `ref`, `log` and `system` are taken; what kompyct keeps on an object is its own."""

    class Registered(Doer):
        def __init__(self) -> None:
            self._registration = self._kept = self._cell = self._schedule = "mine"

    ref = bench.system.create(Registered, start=True)
    ref.set_recovery_function(come_back)
    ref.tell(lambda _: 1 / 0)
    bench.until(lambda: ref.incarnation == 2)
    assert ref.ask(Call(lambda component: component._kept), timeout=LIMIT) == "mine"


def test_what_waits_is_handled_before_a_late_kill_though_it_faults(bench: Bench) -> None:
    """S-02: `kill(after_messages=True)` holds for a component that is just being recovered."""
    handled: list[int] = []
    hold = threading.Event()

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        if not bench.manual:
            hold.wait(LIMIT)
        return fault.restart()

    ref = bench.system.create(Doer)
    ref.set_recovery_function(recover)
    ref.tell(lambda _: 1 / 0)
    for number in range(5):
        ref.tell(lambda _, number=number: handled.append(number))
    bench.system.start(ref)
    if not bench.manual:
        bench.until(lambda: ref.state is State.FAULTY)
    ended = bench.system.kill(ref, after_messages=True)
    hold.set()
    ended.result(LIMIT)
    assert handled == [0, 1, 2, 3, 4]
