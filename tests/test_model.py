"""Does a system do what a simple model of it says, whatever is done to it in whatever order?

A Hypothesis state machine over the manual backend. The model is written from the rules, not from
the code: a component is a count, what it last saved, the messages that wait, and the times of its
restarts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from kompyct import (
    Component,
    ComponentRef,
    FaultContext,
    RecoveryHandler,
    Request,
    RestartLimit,
    State,
)
from kompyct.errors import ComponentDestroyedError
from kompyct.events import (
    ComponentEnded,
    ComponentFaulted,
    ComponentRecovered,
    NoRecoveryFunction,
    RestartLimitReached,
)
from kompyct.testing import TestSystem

BUDGET = RestartLimit(3, 10.0)


@dataclass
class Model:
    """What the rules say of one component."""

    number: int
    state: State = State.PASSIVE
    count: int = 0
    saved: int | None = None
    registered: bool = False
    incarnation: int = 1
    waiting: list[Any] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    order: int = 0  # the how-many-th to be started first; 0: never
    told_to_end: bool = False


class Get(Request[int]):
    """Ask for the count."""


class Counter(Component[Any]):
    """Adds numbers, saves, faults or pauses as it is told."""

    def __init__(self, recover: Any, ended: Callable[[], None], count: int = 0) -> None:
        self._recover = recover
        self._ended = ended
        self._count = count

    def on_kill(self) -> None:
        self._ended()

    def on_receive(self, message: Any) -> int | None:
        match message:
            case int():
                self._count += message
            case "save":
                self.set_recovery_function(self._recover, snapshot=self._count)
            case "fault":
                raise ValueError("planned")
            case "pause":
                self.stop_self()
            case "end":
                self.kill_self()
            case Get():
                return self._count
            case _:
                self.unhandled(message)
        return None


class SystemMachine(RuleBasedStateMachine):
    """Random operations on a system and on its model."""

    components = Bundle("components")

    def __init__(self) -> None:
        super().__init__()
        self.system = TestSystem()
        self.models: list[Model] = []
        self.refs: list[ComponentRef[Any]] = []
        self.seen: list[tuple[int, int]] = []  # what recovery functions were given
        self.expected: list[tuple[int, int]] = []
        self.killed: list[int] = []
        self.faults = self.recoveries = self.limits = self.without = 0
        self.starts = 0

    # -- operations -------------------------------------------------------------------------

    @rule(target=components)
    def create(self) -> int:
        number = len(self.models)
        model = Model(number)

        def recover(fault: FaultContext[int]) -> RecoveryHandler:
            count = fault.snapshot
            self.seen.append((number, count))
            return fault.restart(lambda: Counter(recover, ended, count))

        def ended() -> None:
            self.killed.append(number)

        ref = self.system.create(lambda: Counter(recover, ended), name=f"c{number}", budget=BUDGET)
        self.models.append(model)
        self.refs.append(ref)
        return number

    @rule(number=components)
    def start(self, number: int) -> None:
        model = self.models[number]
        if model.state is State.PASSIVE:
            model.state = State.ACTIVE
            if not model.order:
                self.starts += 1
                model.order = self.starts
            self._handle(model)
        self.system.start(self.refs[number]) if self.refs[number].is_alive else None
        self.system.run_until_idle()

    @rule(number=components)
    def stop(self, number: int) -> None:
        model = self.models[number]
        if model.state is State.ACTIVE:
            model.state = State.PASSIVE
        self.system.stop(self.refs[number]).result(1)

    @rule(number=consumes(components), brutal=st.booleans())
    def kill(self, number: int, brutal: bool) -> None:
        model = self.models[number]
        if model.state is not State.DESTROYED:
            model.state = State.DESTROYED
            model.told_to_end = not brutal
        self.system.kill(self.refs[number], brutal=brutal).result(1)
        self.system.run_until_idle()  # its last event is on the way

    @rule(
        number=components,
        messages=st.lists(
            st.integers(1, 9) | st.sampled_from(["save", "fault", "pause", "end"]), max_size=6
        ),
    )
    def tell(self, number: int, messages: list[Any]) -> None:
        model = self.models[number]
        if model.state is not State.DESTROYED:
            model.waiting += messages
            self._handle(model)
        for message in messages:
            self.refs[number].tell(message)
        self.system.run_until_idle()

    @rule(seconds=st.sampled_from([0.5, 3.0, 10.5]))
    def advance(self, seconds: float) -> None:
        self.system.advance(seconds)

    # -- the model --------------------------------------------------------------------------

    def _handle(self, model: Model) -> None:
        """What waits is handled, in order, as long as the component is active."""
        while model.waiting and model.state is State.ACTIVE:
            message = model.waiting.pop(0)
            if isinstance(message, int):
                model.count += message
            elif message == "save":
                model.saved, model.registered = model.count, True
            elif message == "pause":
                model.state = State.PASSIVE
            elif message == "end":
                model.state = State.DESTROYED
                model.told_to_end = True
            else:
                self._fault(model)

    def _fault(self, model: Model) -> None:
        self.faults += 1
        if not model.registered or model.saved is None:
            self.without += 1
            model.state = State.DESTROYED
            return
        self.expected.append((model.number, model.saved))
        now = self.system.time
        model.restarts = [time for time in model.restarts if time >= now - BUDGET.within]
        if len(model.restarts) == BUDGET.max_restarts:
            self.limits += 1
            model.state = State.DESTROYED
            return
        model.restarts.append(now)
        self.recoveries += 1
        model.incarnation += 1
        model.count = model.saved

    # -- what must hold ---------------------------------------------------------------------

    @invariant()
    def components_are_as_the_model_says(self) -> None:
        for model, ref in zip(self.models, self.refs, strict=True):
            assert ref.state is model.state, model
            assert ref.incarnation == model.incarnation, model
            if model.state is State.ACTIVE:
                assert ref.ask(Get()) == model.count, model

    @invariant()
    def each_fault_has_one_decision(self) -> None:
        events = self.system.events
        assert self.seen == self.expected  # S-09: the last state set, once for each fault
        assert len(events.of(ComponentFaulted)) == self.faults
        assert len(events.of(ComponentRecovered)) == self.recoveries
        assert len(events.of(RestartLimitReached)) == self.limits
        assert len(events.of(NoRecoveryFunction)) == self.without
        dead = [model for model in self.models if model.state is State.DESTROYED]
        assert len(events.of(ComponentEnded)) == len(dead)

    @invariant()
    def the_tree_agrees(self) -> None:
        alive = {f"c{m.number}" for m in self.models if m.state is not State.DESTROYED}
        tree = self.system.tree()
        assert {node.path for node in tree.children} == alive
        assert sum(tree.counts().values()) == len(alive)
        for name in alive:
            assert self.system.find(name) is not None

    def teardown(self) -> None:
        """S-03: at the shutdown, what was started last ends first; each end was orderly once."""
        left = [model for model in self.models if model.state is not State.DESTROYED]
        told = [model.number for model in self.models if model.told_to_end]
        assert sorted(self.killed) == sorted(told)
        before = len(self.killed)
        self.system.shutdown()
        started = sorted((m for m in left if m.order), key=lambda m: -m.order)
        orders = [n for n in self.killed[before:] if self.models[n].order]
        assert orders == [model.number for model in started]
        assert len(self.killed) - before == len(left)
        for ref in self.refs:
            assert not ref.is_alive
            try:
                ref.ask(Get(), timeout=0)
            except ComponentDestroyedError:
                continue
            raise AssertionError("an ask to an ended component must fail")


def test_a_system_does_what_its_model_says() -> None:
    """S-01, S-02, S-03, S-07, S-08, S-09, B-89, B-90 over random operations."""
    run_state_machine_as_test(
        SystemMachine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
