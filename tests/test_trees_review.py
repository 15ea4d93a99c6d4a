"""What reviewers of trees found, each as a test that would find it again.

Expected values are derived by hand from docs/trees.md, docs/otp.md and the rules named.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from kompyct import (
    Backoff,
    ChildSpec,
    Component,
    ComponentSupervisor,
    ComponentSystem,
    FaultContext,
    RecoveryHandler,
    RestartLimit,
    StartChild,
    State,
    TerminateChild,
    WhichChildren,
)
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    InvalidComponentError,
    SupervisorEndingError,
)
from kompyct.events import ComponentEnded, ComponentRestarted
from kompyct.simulation import simulate
from kompyct.testing import TestSystem
from tests.conftest import LIMIT

PLENTY = RestartLimit(100, 10.0)


class Doer(Component[Callable[["Doer"], object]]):
    """Does what it is told."""

    def on_receive(self, message: Callable[[Doer], object]) -> object:
        return message(self)


def fault(component: Doer) -> None:
    raise ValueError


def quit_now(component: Doer) -> None:
    component.kill_self()


def spec(name: str, **options: Any) -> ChildSpec:
    return ChildSpec(id=name, factory=options.pop("factory", Doer), **options)


def begin(system: ComponentSystem, tree: ComponentSupervisor) -> Any:
    top = system.create(tree, name="top")
    system.start(top).result(LIMIT)
    return top


def states(top: Any) -> dict[str | None, str]:
    return {info.id: info.state for info in top.ask(WhichChildren())}


@pytest.mark.parametrize("backend", ["thread", "pool"])
def test_what_is_left_behind_keeps_no_name_and_its_watchers_are_told(backend: Any) -> None:
    """docs/otp.md: "That is its final end: its ref is dead, its names, groups and channels are
    free, watchers are told", and its heir can have them: as `on_start` of docs/names.md does it.
    """
    heir: Any = None
    hold, held = threading.Event(), threading.Event()

    class Named(Doer):
        def on_start(self) -> None:
            self.system.register("db", self.ref)
            self.system.group("all").join(self.ref)

    def hang(component: Doer) -> None:
        held.set()
        hold.wait(LIMIT)

    tree = ComponentSupervisor(
        [spec("a", factory=Named, shutdown=0.05), spec("b")], "one_for_all", restart_limit=PLENTY
    )
    with ComponentSystem(backend=backend) as system:
        begin(system, tree)
        old = system.find("top/a")
        assert old is not None
        ended = system.ended(old)
        old.tell(hang)
        assert held.wait(LIMIT)
        b = system.find("top/b")
        assert b is not None
        b.tell(fault)
        assert ended.result(LIMIT).reason == "it did not end in time"
        assert old.state is State.DESTROYED
        for _ in range(int(LIMIT / 0.001)):
            heir = system.whereis("db")
            if heir is not None and heir != old:
                break
            threading.Event().wait(0.001)
        assert system.group("all").members() == (heir,)
        assert system.find("top/a") == heir
        hold.set()


def test_a_request_that_raises_takes_no_other_with_it() -> None:
    """CONVENTIONS 11: what is wrong with one request fails that one; the next is answered."""
    with TestSystem() as system:
        top = begin(system, ComponentSupervisor([spec("a")]))
        with pytest.raises(ArgumentTypeError, match="TerminateChild was given 7"):
            TerminateChild(7)  # type: ignore[arg-type]

        class Odd(type):
            __hash__ = None  # type: ignore[assignment]

            def __eq__(cls, other: object) -> bool:
                raise ZeroDivisionError

        class Message(metaclass=Odd):
            pass

        top.tell(Message())
        assert states(top) == {"a": "running"}


def test_an_exception_class_with_a_mind_of_its_own_is_a_fault_like_any_other() -> None:
    """S-14: whatever its metaclass does; and the fault behind it is dealt with as well."""

    class Odd(type):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(cls, other: object) -> bool:
            raise ZeroDivisionError

    class OddError(Exception, metaclass=Odd):
        pass

    def raise_it(component: Doer) -> None:
        raise OddError

    with TestSystem() as system:
        policy: Any = {KeyError: "end"}
        top = begin(
            system,
            ComponentSupervisor([spec("a"), spec("b")], restart_limit=PLENTY, policy=policy),
        )
        refs = [system.find(path) for path in ("top/a", "top/b")]
        assert refs[0] is not None
        assert refs[1] is not None
        refs[0].tell(raise_it)
        refs[1].tell(fault)
        system.run_until_idle()
        assert [info.incarnation for info in top.ask(WhichChildren())] == [2, 2]


def test_a_planned_child_that_waits_counts_as_one_that_is_there() -> None:
    """OTP: all_significant shuts down when all significant children have ended by themselves; one
    that is down for the delay of a group restart has not."""
    tree = ComponentSupervisor(
        [
            spec("s", restart="transient", significant=True),
            spec("a", backoff=Backoff(1.0, 1.0, 0.0)),
            spec("b", restart="transient", significant=True),
        ],
        "rest_for_one",
        restart_limit=PLENTY,
        auto_shutdown="all_significant",
    )
    with TestSystem() as system:
        top = begin(system, tree)
        a, s = system.find("top/a"), system.find("top/s")
        assert a is not None
        assert s is not None
        a.tell(fault)
        system.run_until_idle()
        s.tell(quit_now)
        system.advance(2.0)
        assert states(top) == {"s": "stopped", "a": "running", "b": "running"}


def test_a_fault_in_on_kill_that_is_escalated_holds_nobody_up() -> None:
    """S-11, B-58: it was told to end, and does; its supervisor does not wait for an answer."""

    def escalate(context: FaultContext[None]) -> RecoveryHandler:
        return context.escalate()

    class Bad(Doer):
        def on_start(self) -> None:
            self.set_recovery_function(escalate)

        def on_kill(self) -> None:
            raise ValueError

    with TestSystem() as system:
        top = begin(system, ComponentSupervisor([spec("a", factory=Bad, shutdown=None)]))
        assert top.ask(TerminateChild("a"), timeout=1.0) is None
        assert states(top) == {"a": "stopped"}
        assert system.time < 1.0


def test_a_start_that_waits_for_a_child_that_had_ended_by_itself_is_done() -> None:
    """S-18: the future of `start` is done when `on_start` has returned."""
    limits: dict[str, Any] = {"backoff": Backoff(1.0, 1.0, 0.0), "restart_limit": PLENTY}
    with TestSystem() as system:
        begin(system, ComponentSupervisor([spec("a")], **limits))
        a = system.find("top/a")
        assert a is not None
        a.tell(quit_now)
        system.run_until_idle()
        started = system.start(a)
        system.advance(2.0)
        assert started.done()
        assert a.incarnation == 2


def test_a_supervisor_has_no_proxy_and_its_declaration_is_no_factory_to_call() -> None:
    """Wrong use raises at once, with the way out."""
    tree = ComponentSupervisor([spec("a")])
    with TestSystem() as system:
        top = begin(system, tree)
        with pytest.raises(ArgumentTypeError, match="has nothing for a proxy"):
            top.proxy()
        with pytest.raises(InvalidComponentError, match="give the tree itself"):
            system.create(lambda: tree)  # type: ignore[arg-type,return-value]
        with pytest.raises(InvalidComponentError, match="as it is"):
            system.create(lambda: tree())


def test_nothing_is_started_in_a_shutdown() -> None:
    """S-03: "Refuse new components"."""
    with TestSystem() as system:
        top = begin(system, ComponentSupervisor(strategy="dynamic"))
        later = top.ask(StartChild(ChildSpec(factory=Doer)), block=False)
        system._runtime.stopping = True
        with pytest.raises(SupervisorEndingError):
            later.result(LIMIT)
        system._runtime.stopping = False


def test_simulate_refuses_paths_that_name_nobody() -> None:
    """A test with a typo in it must not pass always."""
    with pytest.raises(ArgumentError, match="rates names 'top/x'"):
        simulate(ComponentSupervisor([spec("a")]), {"top/x": 1.0})


def test_what_has_ended_leaves_nothing_with_its_supervisor() -> None:
    """A dynamic supervisor that lives for months has no more after 100 children than after one."""
    with TestSystem() as system:
        top = begin(system, ComponentSupervisor(strategy="dynamic"))
        for _ in range(100):
            ref = top.ask(StartChild(ChildSpec(factory=Doer)))
            top.ask(TerminateChild(ref))
        offspring = top._cell.offspring
        kept = [
            name
            for name, value in vars(offspring).items()
            if isinstance(value, dict | set) and value
        ]
        assert kept == []
        assert top._cell.replies._waiting == {}


MANY = 500


class Last(Doer):
    """Tells somebody of its end."""

    def __init__(self, tell: Callable[[], object]) -> None:
        self.tell = tell

    def on_kill(self) -> None:
        self.tell()


def test_the_end_of_very_many_children_does_not_hold_up_others() -> None:
    """DESIGN, "a fair budget per turn": what another component is told while they end is handled
    before the last of them has ended."""
    ends: list[str] = []
    with TestSystem() as system:
        other = system.create(Doer, start=True)
        top = begin(system, ComponentSupervisor(strategy="dynamic"))

        def tell() -> None:
            if not ends:
                other.tell(lambda _: ends.append("other"))
            ends.append("child")

        for _ in range(MANY):
            top.ask(StartChild(ChildSpec(factory=lambda: Last(tell))))
        system.kill(top).result(LIMIT)
    assert len(ends) == MANY + 1
    assert ends.index("other") < MANY // 2


@pytest.mark.parametrize("deed", [fault, quit_now], ids=["fault", "end by itself"])
def test_of_very_many_children_one_goes_before_it_is_told(deed: Any) -> None:
    """S-07: a child that goes down by itself while its supervisor is still telling others to end
    ends once, and so does the supervisor."""
    ends: list[str] = []
    with TestSystem() as system:
        top = begin(system, ComponentSupervisor(strategy="dynamic"))
        spec = ChildSpec(factory=lambda: Last(lambda: ends.append("child")))
        refs = [top.ask(StartChild(spec)) for _ in range(MANY)]
        end = system.kill(top)
        for ref in (refs[0], refs[MANY // 2], refs[-1]):
            ref.tell(deed)
        end.result(LIMIT)
        assert top.state is State.DESTROYED
        assert {ref.state for ref in refs} == {State.DESTROYED}
    ended = [event.component_id for event in system.events.of(ComponentEnded)]
    assert len(ended) == len(set(ended)) == MANY + 1
    assert MANY - 3 <= len(ends) <= MANY


def test_a_supervisor_that_comes_back_afresh_says_so_when_its_children_run() -> None:
    """S-12, B-61: a permanent supervisor that shut itself down is restarted once all that is
    below it has been; as with a recovery."""
    inner = ComponentSupervisor(
        [spec("a", restart="transient", significant=True), spec("b")],
        auto_shutdown="any_significant",
    )
    seen: list[State | None] = []

    def on_event(event: object) -> None:
        if isinstance(event, ComponentRestarted) and event.path == "top/s":
            child = system.find("top/s/b")
            seen.append(None if child is None else child.state)

    with ComponentSystem(backend="manual", on_event=on_event) as system:
        top = begin(system, ComponentSupervisor([ChildSpec(id="s", factory=inner)]))
        child: Any = system.find("top/s/a")
        child.tell(quit_now)
        for _ in range(10):  # each ask runs everything for one more turn
            assert states(top).keys() == {"s"}
    assert seen == [State.ACTIVE]
