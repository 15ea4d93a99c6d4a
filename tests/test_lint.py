"""Does lint find what will not do what its author believes, and is what it says true?

Where a finding says what would happen, the tree is run in virtual time and does it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from kompyct import (
    Backoff,
    ChildSpec,
    Component,
    ComponentRef,
    ComponentSupervisor,
    CountChildren,
    KompyctError,
    Restart,
    RestartLimit,
    State,
    WhichChildren,
)
from kompyct.budgets import EVER, loop_of
from kompyct.commands import main
from kompyct.declared import supervisors
from kompyct.errors import ArgumentError
from kompyct.events import ComponentFaulted, RestartLimitReached
from kompyct.findings import CODES, Finding
from kompyct.lint import lint
from kompyct.simulation import simulate
from kompyct.testing import TestSystem
from tests.conftest import LIMIT

MANY = RestartLimit(1000, 5.0)


class Idle(Component[Any]):
    """Does nothing."""


class Failing(Component[Any]):
    """Faults as soon as it has started; `every`: so many seconds later."""

    every = 0.0

    def on_start(self) -> None:
        self.schedule_once(self.every, self.fault)

    def fault(self) -> None:
        raise OSError


class FailingEvery20(Failing):
    every = 20.0


class Leaving(Component[Any]):
    """Ends by itself after a second."""

    def on_start(self) -> None:
        self.schedule_once(1.0, self.kill_self)


def child(name: str, factory: Any = Idle, **options: Any) -> ChildSpec:
    return ChildSpec(id=name, factory=factory, **options)


def nested(name: str, *children: ChildSpec, spec: Any = None, **options: Any) -> ChildSpec:
    return ChildSpec(id=name, factory=ComponentSupervisor(children, **options), **(spec or {}))


def found(tree: ComponentSupervisor, **options: Any) -> list[tuple[str, str]]:
    return [(finding.path, finding.code) for finding in lint(tree, **options)]


def the_one(tree: ComponentSupervisor, **options: Any) -> Finding:
    (finding,) = lint(tree, **options)
    return finding


def run(tree: ComponentSupervisor, seconds: float) -> tuple[TestSystem, ComponentRef[Any]]:
    """A system in which the tree has run for so long; its end is left to the test's."""
    system = TestSystem()
    top = system.create(tree, name="top")
    system.start(top).result()
    system.advance(seconds)
    return system, top


def end(system: TestSystem) -> None:
    try:
        system.shutdown()
        system.wait()
    except (KompyctError, OSError):
        pass  # what the top gave up with


def faults(system: TestSystem) -> int:
    return sum(event.error == "OSError" for event in system.events.of(ComponentFaulted))


def test_a_tree_without_mistakes_has_no_findings() -> None:
    """Given a tree as `docs/trees.md` recommends it, then there is nothing to say."""
    tree = ComponentSupervisor(
        [
            child("store"),
            nested("workers", child("a"), child("b", restart="transient")),
            nested("pool", strategy="dynamic", restart_limit=RestartLimit(100, 10.0)),
        ],
        "rest_for_one",
        restart_limit=RestartLimit(3, 60.0),
    )
    assert lint(tree) == []


# -- limits ------------------------------------------------------------------------------------


def three_levels(most: int) -> ComponentSupervisor:
    limit = RestartLimit(most, 60.0)
    inner = nested("inner", child("leaf", Failing), restart_limit=limit)
    outer = nested("outer", inner, restart_limit=limit)
    return ComponentSupervisor([outer], restart_limit=limit)


def test_nested_limits_multiply() -> None:
    """Issue, scope 7. By hand: a supervisor with a limit of 4 starts its child 5 times, so three
    of them start a leaf 125 times: 124 restarts. With 3 it is 4 x 4 x 4 - 1 = 63."""
    finding = the_one(three_levels(4))
    assert (finding.path, finding.code) == ("outer/inner/leaf", "multiplied-limits")
    assert "is restarted 124 times before the top gives up" in finding.what
    assert "(4 + 1) x (4 + 1) x (4 + 1) - 1" in finding.why
    assert found(three_levels(3)) == []
    assert "63 times" in the_one(three_levels(3), most=62).what


def test_what_is_said_of_nested_limits_is_what_happens() -> None:
    """Given three limits of 4 and a leaf that always faults, then it faults 125 times, once more
    than it was restarted, and that is the end."""
    system, top = run(three_levels(4), 1.0)
    try:
        assert faults(system) == 125
        assert top.state is State.DESTROYED
    finally:
        end(system)


def test_a_transient_supervisor_ends_the_product() -> None:
    """Given one that stays down once it has given up, then the limits above it do not count."""
    limit = RestartLimit(50, 60.0)
    inner = nested("inner", child("leaf"), restart_limit=limit, spec={"restart": "transient"})
    tree = ComponentSupervisor([inner], restart_limit=limit)
    assert found(tree) == [("inner", "stays-down")]


def slow_start(within: float) -> ComponentSupervisor:
    return ComponentSupervisor([child("a")], restart_limit=RestartLimit(3, within))


def test_a_period_shorter_than_the_starts_it_allows_is_never_reached() -> None:
    """Issue, scope 7. By hand: four faults of a child that starts in 2 s have three starts between
    them, 6 s. What is exactly 6 s ago still counts, as in OTP."""
    finding = the_one(slow_start(5.0), start_times={"a": 2.0})
    assert (finding.path, finding.code) == ("a", "unreachable-limit")
    assert "4 faults of this child take 6 s at least" in finding.what
    assert found(slow_start(6.0), start_times={"a": 2.0}) == []
    assert found(slow_start(5.0)) == []


def test_a_group_restart_takes_the_time_of_all_who_start_before() -> None:
    """By hand: with one_for_all, `a` is started, too, before `b` can fault again: 2 + 2 s, three
    times, is more than 10 s; with one_for_one or rest_for_one it is 2 s."""
    starts = {"a": 2.0, "b": 2.0}
    limit = RestartLimit(3, 10.0)
    for strategy, expected in (
        ("one_for_all", [("b", "unreachable-limit")]),
        ("rest_for_one", []),
        ("one_for_one", []),
    ):
        tree = ComponentSupervisor([child("a"), child("b")], strategy, restart_limit=limit)  # type: ignore[arg-type]  # mypy takes it for a str
        assert found(tree, start_times=starts) == expected


@pytest.mark.parametrize(
    ("backoff", "within", "expected"),
    [
        # 1 + 2 + 4 = 7 s of delays between four faults
        (Backoff(1.0, 60.0), 6.9, True),
        (Backoff(1.0, 60.0), 7.0, False),
        # 1 + 2 + 2 = 5 s
        (Backoff(1.0, 2.0), 4.9, True),
        (Backoff(1.0, 2.0), 5.0, False),
        # It may run for 0.5 s each time, so that each delay is 1 s: 1.5 + 1.5 + 1 = 4 s
        (Backoff(1.0, 60.0, reset_after=0.5), 3.9, True),
        (Backoff(1.0, 60.0, reset_after=0.5), 4.5, False),
    ],
)
def test_delays_longer_than_the_window_are_found(
    backoff: Backoff, within: float, expected: bool
) -> None:
    """The brief: backoff delays so long that the limit can never be reached. By hand, as said."""
    tree = ComponentSupervisor(
        [child("a")], restart_limit=RestartLimit(3, within), backoff=backoff
    )
    assert found(tree) == ([("a", "unreachable-limit")] if expected else [])


@pytest.mark.parametrize(("within", "ends"), [(6.9, False), (7.0, True)])
def test_what_is_said_of_delays_is_what_happens(within: float, ends: bool) -> None:
    """Given the first rows of above and a child that always faults, then it ends or does not; the
    jitter, which makes delays longer only, is left out."""
    tree = ComponentSupervisor(
        [child("a", Failing)],
        restart_limit=RestartLimit(3, within),
        backoff=Backoff(1.0, 60.0, 0.0),
    )
    system, top = run(tree, 10_000.0)
    try:
        assert (top.state is State.DESTROYED) == ends
        assert (faults(system) > 100) == (not ends)
    finally:
        end(system)


def test_an_outer_limit_that_inner_delays_keep_out_of_reach_is_found() -> None:
    """By hand: the inner one gives up 7 s after its start at the earliest; three times that, which
    is what four of the outer's need, is 21 s. The finding is about the inner supervisor."""

    def tree(within: float) -> ComponentSupervisor:
        backoff = Backoff(1.0, 60.0)
        limit = RestartLimit(3, 10.0)
        inner = nested("inner", child("a"), restart_limit=limit, backoff=backoff)
        return ComponentSupervisor([inner], restart_limit=RestartLimit(3, within))

    finding = the_one(tree(20.0))
    assert (finding.path, finding.code) == ("inner", "unreachable-limit")
    assert "take 21 s" in finding.what
    # Not when another child of the inner one is quicker.
    quick = nested("inner", child("a", backoff=Backoff(1.0)), child("b"), restart_limit=MANY)
    assert found(ComponentSupervisor([quick], restart_limit=RestartLimit(0, 20.0))) == [
        ("", "zero-limit"),
        ("inner/a", "unreachable-limit"),
        ("inner/b", "multiplied-limits"),
    ]
    assert found(tree(21.0)) == []


def test_a_budget_out_of_reach_is_found() -> None:
    """By hand: three starts of 2 s are 6 s."""
    tree = ComponentSupervisor(
        [child("a", budget=RestartLimit(3, 5.0))], restart_limit=RestartLimit(10, 60.0)
    )
    assert found(tree) == []
    finding = the_one(tree, start_times={"a": 2.0})
    assert (finding.path, finding.code) == ("a", "unreachable-limit")
    assert finding.what.startswith("its budget is 3 restarts in 5 s")


def shrinking() -> ComponentSupervisor:
    inner = nested("inner", child("a", FailingEvery20), restart_limit=RestartLimit(3, 60.0))
    return ComponentSupervisor([inner], restart_limit=RestartLimit(3, 5.0))


def test_a_supervisor_that_forgets_faster_than_the_one_below_is_found() -> None:
    """By hand: three gaps of 20 s are within 60 s, so a fault every 20 s is one too many each
    80 s; the top would have to remember three of those, 240 s."""
    finding = the_one(shrinking())
    assert (finding.path, finding.code) == ("inner", "shrinking-period")
    assert "with a fault every 20 s it gives up every 80 s" in finding.why
    assert "at least 240 s" in finding.way_out
    longer = nested("inner", child("a"), restart_limit=RestartLimit(3, 60.0))
    assert found(ComponentSupervisor([longer], restart_limit=RestartLimit(3, 60.0))) == []


def test_what_is_said_of_shrinking_periods_is_what_happens() -> None:
    """Given a fault every 20 s for 2000 s, then the inner one gives up 25 times, at every fourth
    fault, and the top does not."""
    system, top = run(shrinking(), 2000.5)
    try:
        assert len(system.events.of(RestartLimitReached)) == 25
        assert top.state is State.ACTIVE
    finally:
        end(system)


def test_a_child_without_any_limit_is_found() -> None:
    """Given no limit, then each child needs a budget or a backoff; temporary ones never come
    back, and supervisors that are not permanent do not either."""
    tree = ComponentSupervisor(
        [
            child("a"),
            child("b", budget=RestartLimit(3)),
            child("c", backoff=Backoff()),
            child("d", restart="temporary"),
            nested("e", child("f"), spec={"restart": "transient"}),
        ],
        restart_limit=None,
    )
    assert found(tree, ignore=["stays-down"]) == [("a", "no-limit")]
    waiting = ComponentSupervisor([child("a")], restart_limit=None, backoff=Backoff())
    assert found(waiting) == []


def test_a_limit_of_zero_is_found() -> None:
    """B-45: Given 0 restarts and a permanent child, or a budget of 0, then the first fault is the
    end; for temporary children it is no mistake."""
    none = RestartLimit(0)
    assert found(ComponentSupervisor([child("a")], restart_limit=none)) == [("", "zero-limit")]
    assert found(ComponentSupervisor([child("a", budget=none)])) == [("a", "zero-limit")]
    temporary = [child("a", restart="temporary")]
    assert found(ComponentSupervisor(temporary, restart_limit=none)) == []
    assert found(ComponentSupervisor([child("a", restart="temporary", budget=none)])) == []


def test_the_default_limit_of_a_dynamic_supervisor_is_found() -> None:
    """Given any number of children and 1 restart in 5 s among them, then two faults of thousands
    end all; whoever gives a limit has thought of it."""
    assert found(ComponentSupervisor(strategy="dynamic")) == [("", "shared-limit")]
    chosen = RestartLimit(2, 5.0)
    assert found(ComponentSupervisor(strategy="dynamic", restart_limit=chosen)) == []


AT_ONCE = 1e7  # faults per second


def random_chain(chance: Random) -> tuple[ComponentSupervisor, str, dict[str, float]]:
    """A tree with one child that faults, the path of it, and start times.

    None is after the one that leads to it in start order but such as start in no time: of a fault
    in the midst of a group restart is heard when that is over, which takes longer.
    """
    path, spec = "leaf", child("leaf")
    starts = {"leaf": chance.choice([0.0, 0.13, 0.71])}
    for level in range(chance.randint(1, 3)):
        others = [child(f"other{number}") for number in range(2)]
        inner = ComponentSupervisor(
            [others[0], spec, others[1]],
            chance.choice(["one_for_one", "rest_for_one", "one_for_all"]),
            restart_limit=RestartLimit(chance.randint(0, 3), chance.uniform(0.05, 8.0)),
            backoff=Backoff(0.11, 0.9, 0.0) if chance.random() < 0.3 else None,
        )
        name = f"s{level}"
        starts = {f"{name}/{below}": seconds for below, seconds in starts.items()}
        starts[f"{name}/other0"] = chance.choice([0.0, 0.19])
        restart = Restart.TRANSIENT if chance.random() < 0.25 else Restart.PERMANENT
        path, spec = f"{name}/{path}", ChildSpec(id=name, factory=inner, restart=restart)
    assert isinstance(spec.factory, ComponentSupervisor)
    own = len(path.partition("/")[0]) + 1
    return spec.factory, path[own:], {below[own:]: starts[below] for below in starts}


@pytest.mark.parametrize("seed", range(60))
def test_what_becomes_of_a_child_that_always_faults_is_as_calculated(seed: int) -> None:
    """Given any limits, delays and start times, then the arithmetic behind `multiplied-limits` and
    `unreachable-limit` agrees with the engine: as many restarts, or no end."""
    tree, path, starts = random_chain(Random(seed))
    levels = {above: (above, declared, spec) for above, declared, spec in supervisors(tree)}
    parts = path.split("/")[:-1]
    chain = [levels["/".join(parts[:end])] for end in range(len(parts) + 1)]
    specs = dict(tree.walk())
    loop = loop_of(path, specs[path], chain, starts)
    assert loop is not None
    result = simulate(tree, {path: AT_ONCE}, seconds=100.0, seed=seed, start_times=starts)
    if loop.restarts == EVER:
        assert result.ended_at is None
        assert result.children[path].faults > 20
        assert not result.children[loop.last].give_ups
    else:
        assert result.children[path].faults == loop.restarts + 1
        assert len(result.children[loop.last].give_ups) == 1


def late_budget(restarts: int) -> ComponentSupervisor:
    return ComponentSupervisor(
        [child("a", Failing, budget=RestartLimit(restarts, 5.0)), child("b")],
        restart_limit=RestartLimit(3, 5.0),
    )


@pytest.mark.parametrize("restarts", [2, 3, 4])
def test_a_budget_that_comes_too_late_is_found_and_does(restarts: int) -> None:
    """By hand: the budget is charged before the limit, so as many as the limit has end the child
    alone; with one more the supervisor is ended first, and `b` with it."""
    is_late = restarts > 3
    assert found(late_budget(restarts)) == ([("a", "late-budget")] if is_late else [])
    system, top = run(late_budget(restarts), 1.0)
    try:
        assert (top.state is State.DESTROYED) == is_late
        assert faults(system) == (4 if is_late else restarts + 1)
    finally:
        end(system)


# -- who comes back ----------------------------------------------------------------------------


def giving_up(**spec: Any) -> ComponentSupervisor:
    inner = nested("inner", child("a", Failing), spec=spec)
    return ComponentSupervisor([inner, child("b")], restart_limit=RestartLimit(3, 60.0))


@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_a_supervisor_that_stays_down_is_found_and_does(restart: str) -> None:
    """Issue, scope 7: OTP's supervisors exit with `shutdown` when they give up, which is a normal
    end for a transient child. It stays down, and its own supervisor goes on."""
    finding = the_one(giving_up(restart=restart))
    assert (finding.path, finding.code) == ("inner", "stays-down")
    assert found(giving_up()) == []
    system, top = run(giving_up(restart=restart), 1.0)
    try:
        assert top.state is State.ACTIVE
        assert faults(system) == 2
        counts = top.ask(CountChildren())
        assert (counts.active, counts.specs) == (1, 2 if restart == "transient" else 1)
    finally:
        end(system)


def test_a_supervisor_whose_end_counts_is_no_mistake() -> None:
    """Given a transient one that is significant, or one whose giving up is escalated, then the
    supervisor above ends with it; without a limit it never gives up."""
    significant = nested("a", child("b"), spec={"restart": "transient", "significant": True})
    assert found(ComponentSupervisor([significant], auto_shutdown="any_significant")) == []
    policy = {KompyctError: "escalate"}
    escalated = nested("a", child("b"), spec={"restart": "transient", "policy": policy})
    assert found(ComponentSupervisor([escalated])) == []
    backoff = Backoff()
    for_ever = nested(
        "a", child("b"), restart_limit=None, backoff=backoff, spec={"restart": "transient"}
    )
    assert found(ComponentSupervisor([for_ever])) == []


def shutting_down(**spec: Any) -> ComponentSupervisor:
    leaving = child("a", Leaving, restart="transient", significant=True)
    inner = nested("inner", leaving, auto_shutdown="any_significant", spec=spec)
    return ComponentSupervisor([inner], restart_limit=RestartLimit(2, 60.0))


def test_a_permanent_supervisor_that_shuts_itself_down_is_found_and_comes_back() -> None:
    """Source: OTP's `supervisor`, "Automatic Shutdown": such a child should not be permanent. By
    hand: it ends each second, and the third time is one more than the limit above it."""
    finding = the_one(shutting_down())
    assert (finding.path, finding.code) == ("inner", "comes-back")
    assert found(shutting_down(restart="transient"), ignore=["stays-down"]) == []
    system, top = run(shutting_down(), 2.5)
    try:
        (info,) = top.ask(WhichChildren())
        assert info.incarnation == 3
        system.advance(1.0)
        assert top.state is State.DESTROYED
    finally:
        end(system)


def test_auto_shutdown_without_a_significant_child_is_found() -> None:
    """Given no child that is looked at, then nothing is; those of a dynamic one are not known."""
    tree = ComponentSupervisor([child("a")], auto_shutdown="any_significant")
    assert found(tree) == [("", "nothing-significant")]
    dynamic = ComponentSupervisor(
        strategy="dynamic", auto_shutdown="any_significant", restart_limit=RestartLimit(3)
    )
    assert found(dynamic) == []


def group(strategy: Any, *names: str) -> ComponentSupervisor:
    made = {
        "t": child("t", restart="temporary"),
        "u": child("u", restart="temporary"),
        "f": child("f", FailingEvery20),
    }
    limit = RestartLimit(10, 60.0)
    return ComponentSupervisor([made[name] for name in names], strategy, restart_limit=limit)


@pytest.mark.parametrize(
    ("strategy", "names", "taken"),
    [
        ("one_for_all", "tf", True),
        ("one_for_all", "ft", True),
        ("rest_for_one", "ft", True),
        ("rest_for_one", "tf", False),
        ("one_for_one", "ft", False),
        ("one_for_all", "tu", False),
    ],
)
def test_a_temporary_child_that_goes_with_a_sibling_is_found_and_does(
    strategy: str, names: str, taken: bool
) -> None:
    """B-39: Given a group restart, then a temporary child that was taken down is gone."""
    tree = group(strategy, *names)
    assert found(tree) == ([("t", "temporary-in-group")] if taken else [])
    system, top = run(tree, 20.5)
    try:
        left = {info.id for info in top.ask(WhichChildren())}
        assert left == set(names) - ({"t"} if taken else set())
    finally:
        end(system)


# -- the end -----------------------------------------------------------------------------------


def test_a_supervisor_with_less_time_than_its_children_is_found() -> None:
    """By hand: three children with the default of 5 s may take 15 s, one after the other; those of
    a supervisor in it, with the default, which is its children's time, count too."""
    three = [child("a"), child("b"), child("c")]

    def tree(shutdown: Any, *children: ChildSpec) -> ComponentSupervisor:
        return ComponentSupervisor([nested("s", *children, spec={"shutdown": shutdown})])

    assert found(tree(14.9, *three)) == [("s", "short-shutdown")]
    assert found(tree(15.0, *three)) == []
    assert found(tree(14.9, nested("inner", *three))) == [("s", "short-shutdown")]
    assert found(tree("default", *three)) == []
    assert "is ended brutally" in the_one(tree("brutal", *three)).what
    assert found(tree("brutal", child("a", shutdown="brutal"))) == []


def test_a_worker_that_may_take_for_ever_to_end_is_found() -> None:
    """Given shutdown=None, then that is right for a supervisor only."""
    tree = ComponentSupervisor(
        [child("a", shutdown=None), nested("s", child("b"), spec={"shutdown": None})]
    )
    assert found(tree) == [("a", "endless-shutdown")]


# -- the command -------------------------------------------------------------------------------

GOOD = ComponentSupervisor([child("a")])
BAD = ComponentSupervisor([child("a", shutdown=None), nested("b", strategy="dynamic")])
NOT_A_TREE = 7


def make() -> ComponentSupervisor:
    return BAD


def refused() -> ComponentSupervisor:
    return ComponentSupervisor([child("a", restart="permanent", significant=True)])


def raising() -> ComponentSupervisor:
    raise OSError("no such disk")


def command(name: str, *arguments: str) -> int:
    return main(["lint", f"{__name__}:{name}", *arguments])


def test_the_command_tells_each_finding_and_its_way_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Given a tree, or a function that makes it, then the exit code says whether there is one."""
    assert command("GOOD") == 0
    assert capsys.readouterr().out == "0 findings\n"
    for name in ("BAD", "make"):
        assert command(name) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if not line.startswith(" ")] == [
            "a: endless-shutdown",
            "b: shared-limit",
            "2 findings",
        ]
        assert sum(line.startswith("  way out: ") for line in lines) == 2
    assert command("BAD", "--ignore", "shared-limit", "--ignore", "endless-shutdown") == 0


def test_findings_can_be_had_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("BAD", "--json") == 1
    findings = json.loads(capsys.readouterr().out)
    assert findings == [
        {field: getattr(finding, field) for field in ("code", "path", "what", "why", "way_out")}
        for finding in lint(BAD)
    ]
    assert command("GOOD", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_tree_that_is_refused_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    """Issue, scope 7: "significant + permanent" is refused where the tree is built."""
    assert command("refused", "--json") == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert finding["code"] == "refused"
    assert "child 'a' is significant and permanent" in finding["what"]


def test_start_times_and_the_threshold_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: one restart in 5 s, and two faults of a child that starts in 6 s are 6 s apart; and
    one limit of 1 does not multiply, whatever the threshold."""
    assert command("GOOD", "--start-time", "a:6") == 1
    assert capsys.readouterr().out.startswith("a: unreachable-limit\n")
    assert command("GOOD", "--most", "0") == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["shop"], "the tree is 'shop'; give MODULE:TREE"),
        ([":TREE"], "the tree is ':TREE'"),
        (["no.such.module:TREE"], "module 'no.such.module' cannot be imported"),
        ([f"{__name__}:NONE"], "has no 'NONE'; give the name of a tree"),
        ([f"{__name__}:NOT_A_TREE"], "is a int; give a ComponentSupervisor"),
        ([f"{__name__}:raising"], "cannot be called: OSError: no such disk"),
        ([f"{__name__}:child"], "cannot be called: TypeError"),
        ([f"{__name__}:GOOD", "--ignore", "typo"], "no finding is called 'typo'; give one of"),
        ([f"{__name__}:GOOD", "--start-time", "b:1"], "--start-time names 'b'; give one of a"),
        ([f"{__name__}:GOOD", "--start-time", "a:soon"], "give CHILD:NUMBER"),
    ],
)
def test_bad_arguments_are_an_error_in_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Issue, "Bad input": exit code 2, and a line with the value and the way out."""
    assert main(["lint", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("kompyct: ")
    assert told in output.err
    assert len(output.err.splitlines()) == 1


def test_a_module_that_raises_when_it_is_imported_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a module that ends the program, or builds a tree that is refused, then the first is an
    error and the second a finding."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "leaving_module.py").write_text("import sys; sys.exit(3)")
    (tmp_path / "refused_module.py").write_text(
        "from kompyct import ComponentSupervisor\nTREE = ComponentSupervisor(strategy='some')"
    )
    assert main(["lint", "leaving_module:TREE"]) == 2
    assert "cannot be imported: SystemExit" in capsys.readouterr().err
    assert main(["lint", "refused_module:TREE"]) == 1
    assert "strategy of a supervisor is 'some'" in capsys.readouterr().out


def test_the_commands_work_as_a_program(tmp_path: Path) -> None:
    """Given `python -m kompyct` in the folder of the program, then its module is found there."""
    (tmp_path / "shop.py").write_text(
        "from kompyct import ChildSpec, Component, ComponentSupervisor\n"
        "TREE = ComponentSupervisor([ChildSpec(id='a', factory=Component, shutdown=None)])\n"
    )
    root = Path(__file__).parent.parent
    for arguments, start in (
        (["lint", "shop:TREE"], "a: endless-shutdown\n"),
        (["simulate", "shop:TREE", "--fault", "a:1"], ""),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "kompyct", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            timeout=4 * LIMIT,
            check=False,
        )
        assert (done.returncode, done.stderr) == (1, "")
        assert done.stdout.startswith(start)


def test_every_kind_of_finding_has_its_row_in_the_documentation() -> None:
    """Given `docs/trees.md`, then each code is explained there."""
    page = (Path(__file__).parent.parent / "docs/trees.md").read_text()
    assert [code for code in CODES if f"| `{code}` |" not in page] == []


def test_an_unknown_code_to_leave_out_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no finding is called 'zero'"):
        lint(GOOD, ignore=["zero"])
