"""Does a whole tree of components do what its model says, on every backend?

`tests/harness/trees.py` has the model, `tests/harness/tree_storms.py` what must hold when many
things happen at once. The long forms: `make supervise`.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from kompyct import (
    ChildSpec,
    Component,
    ComponentSupervisor,
    RestartLimit,
    StartChild,
    WhichChildren,
)
from kompyct.errors import KompyctError
from kompyct.testing import TestSystem
from tests.harness.mutants_trees import MUTANTS
from tests.harness.planting import Mutant
from tests.harness.tree_storms import storm
from tests.harness.trees import (
    RESTARTS,
    Kind,
    Leaf,
    Run,
    Tree,
    attempt,
    paths_of,
    random_operation,
    random_run,
    random_tree,
)


class TreeMachine(RuleBasedStateMachine):
    """Operations on a tree in virtual time and on its model; `Run` compares after each."""

    run: Run

    @initialize(seed=st.integers(0, 2**32))
    def declare(self, seed: int) -> None:
        self.run = Run(random_tree(random.Random(seed)))
        self.leaves, self.supervisors = paths_of(self.run.tree)

    @rule(
        data=st.data(),
        message=st.sampled_from((1, "save", "fault", "fault", "end", "last", "upward")),
    )
    def tell(self, data: Any, message: Any) -> None:
        self.run.do(("tell", data.draw(st.sampled_from(self.leaves)), message))

    @rule(data=st.data(), request=st.sampled_from(("terminate", "restart", "delete")))
    def ask(self, data: Any, request: str) -> None:
        path, _, key = data.draw(st.sampled_from(self.leaves)).rpartition("/")
        self.run.do((request, path, key))

    @rule(data=st.data(), restart=st.sampled_from(RESTARTS))
    def add(self, data: Any, restart: str) -> None:
        self.run.do(("add", data.draw(st.sampled_from(self.supervisors)), Leaf("z", restart)))

    @rule(data=st.data())
    def kill(self, data: Any) -> None:
        self.run.do(("kill", data.draw(st.sampled_from(self.leaves))))

    @rule(data=st.data(), starts=st.integers(0, 2))
    def fail(self, data: Any, starts: int) -> None:
        self.run.do(("fail", data.draw(st.sampled_from(self.leaves)), starts))

    @rule(data=st.data(), whether=st.booleans())
    def need(self, data: Any, whether: bool) -> None:
        self.run.do(("unneeded", data.draw(st.sampled_from(self.leaves)), whether))

    @rule(seconds=st.sampled_from((0.5, 1.0, 5.0)))
    def advance(self, seconds: float) -> None:
        self.run.do(("pass", seconds))

    def teardown(self) -> None:
        if hasattr(self, "run"):
            self.run.finish()


def test_a_tree_does_what_its_model_says() -> None:
    """RELIABILITY 3: each fault one decision, recovery sees what was saved last, never more
    restarts than the limit, stops in reverse start order, nothing runs after the end."""
    run_state_machine_as_test(
        TreeMachine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def test_random_trees_do_what_their_model_says() -> None:
    """RELIABILITY 3: 60 trees with up to 60 operations each; a failure says which."""
    assert sum(random_run(seed, 60) for seed in range(60)) > 2_000


SAMPLE: dict[Kind, int] = {"thread": 10, "pool": 10, "process": 2}


@pytest.mark.parametrize("backend", SAMPLE)
def test_the_same_operations_do_the_same_on_every_backend(backend: Kind) -> None:
    """RELIABILITY 3: Given traces, then hooks, counts, incarnations and answers are those of the
    one model, in virtual time and in threads, in the pool and in processes of their own."""
    for seed in range(SAMPLE[backend]):
        chance = random.Random(seed)
        tree = random_tree(chance, in_time=False)
        places = paths_of(tree)
        operations = [random_operation(chance, *places) for _ in range(25)]
        # What depends on the clock, or on what a start finds, would differ between processes.
        left_out = ("pass", "fail", "unneeded")
        operations = [operation for operation in operations if operation[0] not in left_out]
        both: tuple[Kind, ...] = ("manual", backend)
        for each in both:
            failure, _ = attempt(tree, operations, each)
            assert not failure, f"{each}, seed {seed}: {failure}\n{tree}\n{operations}"


@pytest.mark.parametrize(("backend", "storms"), [("manual", 60), ("thread", 6), ("pool", 8)])
def test_what_must_hold_of_a_tree_holds_after_many_things_at_once(
    backend: Kind, storms: int
) -> None:
    """RELIABILITY 3: faults, requests and ends that are begun before others are over."""
    assert sum(storm(seed, 40, backend) for seed in range(storms)) > 20 * storms


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_planted_bug_is_caught(mutant: Mutant) -> None:
    """RELIABILITY 3: Given a seeded mutant outside the engine, then the runs find it."""
    with mutant.planted(), pytest.raises(AssertionError):
        _look_for_bugs()


def _look_for_bugs() -> None:
    for seed in range(200):
        random_run(seed, 40, shrink=False)


# -- what was found, made small ------------------------------------------------------------------


def test_what_a_child_saved_is_there_after_its_fault_was_escalated() -> None:
    """S-09: Given a child whose recovery function escalates, then it comes back with its siblings
    by the restart of their supervisor, and from what it had saved, as they do."""
    inner = Tree("s", "one_for_all", (Leaf("a"), Leaf("b")))
    run = Run(Tree("top", children=(inner,), most=None))
    for leaf in ("top/s/a", "top/s/b"):
        run.do(("tell", leaf, 5))
        run.do(("tell", leaf, "save"))
    run.do(("tell", "top/s/a", "upward"))
    run.finish()


class Fine(Component[str]):
    """Faults at any message."""

    def on_receive(self, message: str) -> None:
        raise ValueError(message)


class Broken(Component[str]):
    """Never starts."""

    def on_start(self) -> None:
        raise ValueError("planned")


def test_a_supervisor_ends_though_a_child_just_added_fails_to_start() -> None:
    """B-28: Given a child that is added and faults in its first start while its supervisor is
    being ended by the one above, then all of them end, and the asker is told."""
    inner = ComponentSupervisor([ChildSpec(id="a", factory=Fine)])
    middle = ComponentSupervisor(
        [ChildSpec(id="a", factory=Fine), ChildSpec(id="inner", factory=inner)],
        restart_limit=RestartLimit(0, 5.0),
    )
    child = ChildSpec(id="middle", factory=middle, restart="transient")
    system = TestSystem()
    top = system.create(ComponentSupervisor([child], restart_limit=None), name="top")
    system.start(top).result(1)
    found: list[Any] = [system.find(path) for path in ("top/middle/inner", "top/middle/a")]
    asked = found[0].ask(StartChild(ChildSpec(id="z", factory=Broken)), block=False)
    found[1].tell("fault")
    system.run_until_idle()
    assert [info.state for info in top.ask(WhichChildren())] == ["stopped"]
    assert isinstance(asked.exception(1), KompyctError)
    system.shutdown()
