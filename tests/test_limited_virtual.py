"""How are limits tested in virtual time, where `hang()` stands for a handler that never returns?

Expected values are from the docstring of `create`: the grace is 80 ms, or a twelfth of the limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kompyct import Component, ComponentSystem, FaultKind, Phase, RestartLimit, events
from kompyct.errors import (
    ComponentDestroyedError,
    ComponentFaultError,
    ExecutionTimeout,
    RestartingError,
)
from kompyct.testing import TestSystem, hang
from tests.conftest import LIMIT
from tests.hanging import spin
from tests.limit_bench import LimitBench
from tests.process.components import Do, Get

MAX_ABANDONED = 8  # "Defaults" of the rules
SHORT = 0.1  # seconds


def hanging(component: Any) -> None:
    """Hang, in virtual time."""
    hang()


@pytest.fixture
def virtual() -> Iterator[LimitBench]:
    """A system that the test drives."""
    made = LimitBench("manual")
    yield made
    made.system.shutdown()


def test_a_hang_in_virtual_time_is_seen_after_its_grace(virtual: LimitBench) -> None:
    """B-84: Given `hang()` in a handler with a limit of 4 s, then it faults after that and a grace
    of a twelfth: at 4 + 1/3 s, which take no time."""
    system: Any = virtual.system
    ref = virtual.started(state="saved", time_limit=4.0)
    with pytest.raises(ComponentFaultError) as raised:
        ref.ask(Do(hanging), timeout=10.0)
    assert isinstance(raised.value.__cause__, ExecutionTimeout)
    assert system.time == pytest.approx(4 + 1 / 3, abs=1e-6)
    fault = virtual.fault(ref)
    assert (fault.kind, fault.phase) == (FaultKind.HANG, Phase.RECEIVE)
    assert (fault.snapshot, fault.message) == ("saved", Do(hanging))
    assert [e.abandoned for e in virtual.of(events.HandlerAbandoned, ref)] == [1]
    assert ref.ask(Get(), timeout=1.0) == "saved"


def test_a_short_limit_has_a_grace_of_80_ms_in_virtual_time(virtual: LimitBench) -> None:
    """Docstring of `create`: "within 80 ms, or a twelfth of the limit": 0.1 s and 0.08 s."""
    system: Any = virtual.system
    ref = virtual.started(time_limit=0.1)
    with pytest.raises(ComponentFaultError):
        ref.ask(Do(hanging), timeout=10.0)
    assert system.time == pytest.approx(0.18, abs=1e-6)


def test_a_tick_that_hangs_in_virtual_time(virtual: LimitBench) -> None:
    """Docstring of `create`: the limit is of ticks as well; here with the phase."""
    hooks = {"start": lambda component: component.schedule_once(1.0, hang)}
    ref = virtual.started(time_limit=1.0, hooks=hooks)
    fault = virtual.fault(ref)
    assert (fault.phase, fault.message, fault.kind) == (Phase.TIMER, None, FaultKind.HANG)


def test_queued_messages_follow_a_hang_in_virtual_time(virtual: LimitBench) -> None:
    """S-10: Tells behind a hang are handled in order by the next incarnation; asks fail."""
    done: list[int] = []
    ref = virtual.started(time_limit=1.0)
    ref.tell(Do(lambda _: done.append(0)))
    ref.tell(Do(hanging))
    for number in (1, 2, 3):
        ref.tell(Do(lambda _, number=number: done.append(number)))
    asked = ref.ask(Get(), block=False)
    with pytest.raises(RestartingError):
        asked.result(5.0)
    virtual.recovered(ref)
    virtual.settle()
    assert done == [0, 1, 2, 3]


def test_hangs_use_up_the_budget_in_virtual_time(virtual: LimitBench) -> None:
    """S-08: Given a budget of two and a third hang, the component ends."""
    ref = virtual.started(time_limit=1.0, budget=RestartLimit(2, 60.0))
    for _ in range(3):
        ref.tell(Do(hanging))
    virtual.until(lambda: not ref.is_alive)
    assert len(virtual.of(events.RestartLimitReached, ref)) == 1
    assert len(virtual.of(events.ComponentRecovered, ref)) == 2


@pytest.mark.parametrize("order", ["kill", "stop"])
def test_orders_during_a_hang_in_virtual_time(virtual: LimitBench, order: str) -> None:
    """B-84: Given a kill or a stop while it hangs, it is done when the limit has passed."""
    system: Any = virtual.system
    ref = virtual.started(time_limit=1.0)
    ref.tell(Do(hanging))
    virtual.settle()
    getattr(system, order)(ref).result(5.0)
    assert system.time == pytest.approx(1 + 1 / 12, abs=1e-6)
    assert ref.is_alive is (order == "stop")


def test_the_ninth_hang_stops_the_system_in_virtual_time(virtual: LimitBench) -> None:
    """Defaults: eight abandoned threads; here none ever comes back."""
    ref = virtual.started(time_limit=0.1, budget=RestartLimit(100, 60.0))
    for _ in range(MAX_ABANDONED):
        with pytest.raises(ComponentFaultError):
            ref.ask(Do(hanging), timeout=5.0)
    assert ref.ask(Get(), timeout=5.0) == "default"
    with pytest.raises((ComponentFaultError, ComponentDestroyedError)):
        ref.ask(Do(hanging), timeout=5.0)
    with pytest.raises((ComponentFaultError, ExecutionTimeout)):
        virtual.system.wait(60.0)


def test_an_asker_without_a_limit_hears_of_a_hang_in_virtual_time(virtual: LimitBench) -> None:
    """B-84: Given a component that asks one that hangs, then it gets the error when that does."""
    ref = virtual.started(time_limit=1.0)
    asker = virtual.started()

    def ask(component: Any) -> str:
        try:
            ref.ask(Do(hanging), timeout=4.0)
        except ComponentFaultError as error:
            return type(error.__cause__).__name__
        return "a reply"

    assert asker.ask(Do(ask), timeout=5.0) == "ExecutionTimeout"
    virtual.recovered(ref)
    assert (asker.incarnation, ref.incarnation) == (1, 2)


def test_the_limit_of_the_system_holds_in_virtual_time() -> None:
    """Docstring of `ComponentSystem`: the default of components without their own."""
    with ComponentSystem(backend="manual", time_limit=2.0) as system:
        ref = system.create(Answering, start=True)
        with pytest.raises(ComponentFaultError):
            ref.ask(Do(hanging), timeout=10.0)
        assert system.clock.now() == 2_166_666_666  # nanoseconds: 2 s and a twelfth


def test_a_test_system_takes_the_options_of_a_system() -> None:
    """Docstring of `TestSystem`: as for `ComponentSystem`."""
    options: Any = {"time_limit": 2.0, "memory_limit": "1 GiB"}
    TestSystem(**options).shutdown()


def test_real_time_does_not_count_in_virtual_time(virtual: LimitBench) -> None:
    """Docstrings of `TestSystem` ("every run gives the same result") and `watch_stalls` ("a
    handler takes none"): what a handler computes takes no virtual time."""
    ref = virtual.started(time_limit=SHORT)
    assert ref.ask(Do(spin, (2 * SHORT,)), timeout=LIMIT) == "spun"


def test_a_hang_where_no_limit_of_time_is_set_is_a_fault(virtual: LimitBench) -> None:
    """As without any limit: `hang()` that nothing ends faults the component, with a memory limit
    as well; the system goes on."""
    ref = virtual.started(memory_limit="1 GiB")
    with pytest.raises(ComponentFaultError):
        ref.ask(Do(hanging), timeout=1.0)


class Answering(Component[Any]):
    """Does what it is told."""

    def on_receive(self, message: Any) -> object:
        return message.action(self, *message.arguments)
