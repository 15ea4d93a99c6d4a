"""Is what `simulate` says would happen what a real tree does?

The oracle is the real thing: a tree of components in a `TestSystem` that fault at the very moments
at which the simulated ones do. Both draw them from sources of the same seeds, at every start; so a
restart too many or too few on either side shows in all later faults.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

import pytest

from kompyct import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    Component,
    ComponentSupervisor,
    KompyctError,
    RestartLimit,
    StartChild,
)
from kompyct.children import OnFault
from kompyct.commands import main
from kompyct.errors import ArgumentError
from kompyct.events import ComponentFaulted, RestartLimitReached
from kompyct.simulated import Run
from kompyct.simulation import simulate
from kompyct.testing import TestSystem

Moments = list[tuple[float, str, str]]


class Chancy(Component[Any]):
    """Faults by chance, with the same chances as the simulated child of its path."""

    sources: dict[str, Random] = {}  # noqa: RUF012  # emptied by each test
    rates: dict[str, float] = {}  # noqa: RUF012
    seed = 0

    def on_start(self) -> None:
        path = self.ref.path.partition("/")[2]
        rate = self.rates.get(path, 0.0)
        if rate:
            source = self.sources.setdefault(path, Random(f"{self.seed}:{path}"))
            self.schedule_once(max(round(source.expovariate(rate) * 1e9), 1) / 1e9, self.fault)

    def fault(self) -> None:
        raise OSError


def child(name: str, **options: Any) -> ChildSpec:
    return ChildSpec(id=name, factory=Chancy, **options)


def tree(name: str, *children: ChildSpec, spec: dict[str, Any], **options: Any) -> ChildSpec:
    """A nested supervisor."""
    return ChildSpec(id=name, factory=ComponentSupervisor(children, **options), **spec)


def happened_for_real(
    top: ComponentSupervisor,
    rates: dict[str, float],
    seed: int,
    seconds: float,
    dynamic: dict[str, int],
) -> Moments:
    """When which child faulted, and which limit was reached."""
    Chancy.sources, Chancy.rates, Chancy.seed = {}, rates, seed
    system = TestSystem()
    try:
        ref = system.create(top, name="top")
        system.start(ref).result()
        for path, count in dynamic.items():
            found = system.find(f"top/{path}") if path else ref
            assert found is not None
            for number in range(1, count + 1):
                found.ask(StartChild(child(str(number))))
        system.advance(seconds)
    finally:
        try:
            system.shutdown()
            system.wait()
        except (KompyctError, OSError):
            pass  # what the top gave up with
    moments = []
    for event in system.events:
        path = getattr(event, "path", "").partition("/")[2]
        if isinstance(event, ComponentFaulted) and event.error == "OSError":
            if event.phase == "timer" and event.time < seconds:
                moments.append((event.time, path, "faults"))
        elif isinstance(event, RestartLimitReached):
            moments.append((event.time, path, "limit"))
    return moments


def happened_in_simulation(run: Run) -> Moments:
    moments = []
    for time, path, what in run.timeline:
        if what == "faults":
            moments.append((time, path, "faults"))
        elif "budget" in what or "its restart limit is reached" in what:
            moments.append((time, path, "limit"))
    assert run.left_out == 0
    return moments


def random_trees(chance: Random, depth: int) -> ComponentSupervisor:
    """A tree of at most that depth, and of any sort."""
    if depth == 0 and chance.random() < 0.3:
        return ComponentSupervisor(strategy="dynamic", restart_limit=RestartLimit(3, 2.0))
    shutdown = chance.choice(list(AutoShutdown))
    children = []
    for number in range(chance.randint(1, 3)):
        restart = chance.choice(["permanent", "permanent", "transient", "temporary"])
        policy: dict[type[BaseException], OnFault] = {}
        if chance.random() < 0.2:
            policy = {Exception: chance.choice(["restart", "end", "escalate"])}
        options: dict[str, Any] = {
            "restart": restart,
            "significant": restart != "permanent" and shutdown is not AutoShutdown.NEVER,
            "budget": RestartLimit(chance.randint(0, 4), 3.0) if chance.random() < 0.3 else None,
            "backoff": Backoff(0.1, 1.0, 0.0) if chance.random() < 0.2 else None,
            "policy": policy,
        }
        if depth and chance.random() < 0.6:
            inner = random_trees(chance, depth - 1)
            children.append(ChildSpec(id=f"s{number}", factory=inner, **options))
        else:
            children.append(child(f"c{number}", **options))
    return ComponentSupervisor(
        children,
        chance.choice(["one_for_one", "one_for_all", "rest_for_one"]),
        restart_limit=RestartLimit(chance.randint(0, 5), chance.uniform(0.5, 10.0)),
        backoff=Backoff(0.05, 0.4, 0.0) if chance.random() < 0.3 else None,
        auto_shutdown=shutdown,
    )


def compare(
    top: ComponentSupervisor,
    rates: dict[str, float],
    seed: int,
    seconds: float,
    dynamic: dict[str, int],
) -> Run:
    run = simulate(top, rates, seconds=seconds, seed=seed, children=dynamic, lines=100_000)
    expected = happened_for_real(top, rates, seed, seconds, dynamic)
    simulated = happened_in_simulation(run)
    rounded = [(round(time, 6), path, what) for time, path, what in simulated]
    assert rounded == [(round(time, 6), path, what) for time, path, what in expected]
    return run


def leaves_of(top: ComponentSupervisor) -> Iterator[str]:
    for path, spec in top.walk():
        if not spec.is_supervisor:
            yield path


@pytest.mark.parametrize("seed", range(60))
def test_a_simulated_tree_does_what_a_real_one_does(seed: int) -> None:
    """Issue, scope 7: "with the real engine". Given any tree, then faults, restarts and limits
    come at the same moments as in a tree of components."""
    chance = Random(seed)
    top = random_trees(chance, 2)
    dynamic = {
        path: 2
        for path, spec in top.walk()
        if isinstance(spec.factory, ComponentSupervisor)
        and spec.factory.strategy.value == "dynamic"
    }
    paths = [*leaves_of(top), *(f"{path}/{number}" for path in dynamic for number in (1, 2))]
    rates = {path: chance.choice([0.0, 0.3, 1.0, 3.0]) for path in paths}
    compare(top, rates, seed, 20.0, dynamic)
