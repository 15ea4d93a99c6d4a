"""Does a service name lead to its component through restarts, and to nobody after its end?"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from kompyct import Component, ComponentSystem, State
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    ComponentDestroyedError,
    DuplicateNameError,
)
from kompyct.names import Names
from kompyct.testing import TestSystem
from tests.conftest import LIMIT
from tests.process import components
from tests.process.components import Do, Get, Holder, again
from tests.watching.components import Watcher, error_of
from tests.watching.conftest import WatchBench


def test_a_service_name_points_to_the_new_incarnation(bench: WatchBench) -> None:
    """B-72: Given a registered component that faults and is recovered, then the name leads to its
    next incarnation; nothing has to be registered anew."""
    one = bench.started(partial(Holder, 1, recovery=again))
    bench.system.register("service", one)
    assert bench.system.whereis("service") == one
    one.tell(Do(components.fail))
    bench.until(lambda: one.incarnation == 2 and one.state is State.ACTIVE)
    found: Any = bench.system.whereis("service")
    assert found == one
    assert found.incarnation == 2
    assert found.ask(Get()) == 1


def test_a_service_name_is_free_after_a_final_end(bench: WatchBench) -> None:
    """B-72: Given a registered component that ends, by a kill or a fault, then nobody has the name
    when that is done, and another one may take it."""
    one = bench.started()
    bench.system.register("service", one)
    bench.system.register("alias", one)
    bench.end(one)
    assert bench.system.whereis("service") is None
    assert bench.system.whereis("alias") is None
    other = bench.started()
    bench.system.register("service", other)
    assert bench.system.whereis("service") == other
    other.tell(Do(components.fail))
    bench.until(lambda: bench.system.whereis("service") is None)


def test_a_service_name_is_unique(bench: WatchBench) -> None:
    """Given a name that a living component has, then another one cannot have it, and the error
    says who has; the same one may register again, as its `on_start` does at each restart."""
    one, other = bench.started(), bench.started()
    bench.system.register("service", one)
    bench.system.register("service", one)
    with pytest.raises(DuplicateNameError, match=f"'service' belongs to component '{one.path}'"):
        bench.system.register("service", other)
    assert bench.system.whereis("service") == one
    assert bench.system.unregister("service") is True
    assert bench.system.unregister("service") is False
    assert bench.system.whereis("service") is None
    bench.system.register("service", other)
    assert bench.system.whereis("service") == other
    assert one.is_alive


def test_a_service_name_is_not_a_path(bench: WatchBench) -> None:
    """Given a component that was created with a name, then that is found by `find` and not by
    `whereis`, and the other way round."""
    one, other = bench.started(name="counter"), bench.started()
    assert bench.system.whereis("counter") is None
    bench.system.register("counter", other)
    assert bench.system.whereis("counter") == other
    assert bench.system.find("counter") == one
    bench.system.register("service", one)
    assert bench.system.find("service") is None


@pytest.mark.parametrize("name", ["", "x" * 201, "a/b", "a\nb"])
def test_names_that_are_none_are_refused(name: str) -> None:
    """S-23: Given a text that cannot be a name, then every method says so."""
    with TestSystem() as system:
        one = system.create(Holder)
        for call in (
            partial(system.register, name, one), partial(system.unregister, name),
            partial(system.whereis, name), partial(system.group, name),
        ):  # fmt: skip
            with pytest.raises(ArgumentError, match="name"):
                call()
        system.register("x" * 200, one)


def test_what_cannot_be_registered_is_refused(bench: WatchBench) -> None:
    """Given a component that has ended, one of another system, or what is no ref, then it gets no
    name."""
    one = bench.started()
    bench.end(one)
    with pytest.raises(ComponentDestroyedError):
        bench.system.register("service", one)
    with pytest.raises(ArgumentTypeError, match="is no component ref"):
        bench.system.register("service", "one")  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="name is 7"):
        bench.system.register(7, one)  # type: ignore[arg-type]
    with TestSystem() as other, pytest.raises(ArgumentError, match="belongs to system"):
        bench.system.register("service", other.create(Holder))
    assert bench.system.whereis("service") is None


def _register(component: Any, name: str) -> None:
    component.system.register(name, component.ref)


def _unregister(component: Any, name: str) -> tuple[bool, bool]:
    return component.system.unregister(name), component.system.unregister(name)


def _whereis(component: Any, name: str) -> Any:
    return component.system.whereis(name)


class _Registers(Watcher):
    def on_start(self) -> None:
        super().on_start()
        _register(self, "service")


class _RegistersEarly(Watcher):
    def __init__(self) -> None:
        super().__init__()
        self.state.append(error_of(self, _register, "service"))
        self.state.append(error_of(self, _join_early))


def _join_early(component: Any) -> None:
    component.system.group("workers").join(component.ref)


def _restart_registering(fault: Any) -> Any:
    return fault.restart(partial(_Registers, recovery=_restart_registering))


def test_a_component_registers_itself(bench: WatchBench) -> None:
    """Given a component that registers itself when it starts, in whichever process, then others
    find it, also after a restart, which registers once more."""
    one = bench.started(partial(_Registers, recovery=_restart_registering))
    other = bench.watcher()
    assert other.ask(Do(_whereis, ("service",))) == one
    one.tell(Do(components.fail))
    bench.until(lambda: one.incarnation == 2 and one.state is State.ACTIVE)
    assert other.ask(Do(_whereis, ("service",))) == one
    assert one.ask(Do(_unregister, ("service",))) == (True, False)
    assert other.ask(Do(_whereis, ("service",))) is None


def test_nobody_is_named_while_it_is_made(bench: WatchBench) -> None:
    """S-21: Given an `__init__` that registers or joins, then it is refused: others could not
    reach it yet."""
    one = bench.started(_RegistersEarly)
    said = one.ask(Get())
    assert [text.partition(":")[0] for text in said] == ["NotStartedError"] * 2
    assert "can be named from on_start on" in said[0]
    assert "can be a member of group 'workers' from on_start on" in said[1]


def test_a_name_whose_holder_is_just_ending_may_be_taken() -> None:
    """B-72: Given a holder that has ended and is not struck out yet, when another one takes the
    name, then it keeps it; the late striking out takes nothing from it."""
    with TestSystem() as system:
        names = Names()
        one, other = (system.create(Holder)._cell for _ in range(2))
        names.register("service", one)
        one.state, state = State.DESTROYED, one.state
        assert names.whereis("service") is None
        names.register("service", other)
        names.free(one)
        one.state = state
        assert names.whereis("service") is other
        names.free(other)
        assert not names._cells
        assert not names._names


def test_of_many_who_want_a_name_one_gets_it() -> None:
    """Given threads that register different components under one name at once, then one of them
    gets it and the others an error."""

    class Quiet(Component[Any]):
        pass

    with ComponentSystem(backend="pool") as system:
        refs = [system.create(Quiet) for _ in range(8)]
        for _ in range(20):
            barrier = threading.Barrier(len(refs))
            got: list[Any] = []

            def take(ref: Any, barrier: threading.Barrier = barrier, got: Any = got) -> None:
                barrier.wait(LIMIT)
                try:
                    system.register("service", ref)
                except DuplicateNameError:
                    return
                got.append(ref)

            threads = [threading.Thread(target=take, args=(ref,)) for ref in refs]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LIMIT)
            assert [system.whereis("service")] == got
            assert system.unregister("service")
