"""Is what `simulate` says would happen what a real tree does?

The oracle is the real thing: a tree of components in a `TestSystem` that fault at the very moments
at which the simulated ones do. Both draw them from sources of the same seeds, at every start; so a
restart too many or too few on either side shows in all later faults.
"""

from __future__ import annotations

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
from kompyct.declared import leaves
from kompyct.errors import ArgumentError, RestartLimitError
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
        is_nested = bool(depth) and chance.random() < 0.6
        policy: dict[type[BaseException], OnFault] = {}
        if chance.random() < 0.2:
            answers: tuple[OnFault, ...] = ("restart", "end", "escalate")
            policy = {Exception: chance.choice(answers)}
            if chance.random() < 0.5:
                policy[RestartLimitError] = chance.choice(answers)
        options: dict[str, Any] = {
            "restart": restart,
            "significant": restart != "permanent" and shutdown is not AutoShutdown.NEVER,
            "budget": RestartLimit(chance.randint(0, 4), 3.0) if chance.random() < 0.3 else None,
            "backoff": Backoff(0.1, 1.0, 0.0) if chance.random() < 0.2 else None,
            "policy": policy,
        }
        if is_nested:
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
    paths = [*leaves(top), *(f"{path}/{number}" for path in dynamic for number in (1, 2))]
    rates = {path: chance.choice([0.0, 0.3, 1.0, 3.0]) for path in paths}
    compare(top, rates, seed, 20.0, dynamic)


def test_a_limit_of_two_is_reached_by_the_third_fault_within_its_time() -> None:
    """S-08, B-43. By hand: of the moments at which the child faults, the first that comes with two
    others within 5 s, at a distance of exactly 5 s too, is the end; and all before it restart."""
    top = ComponentSupervisor([child("a")], restart_limit=RestartLimit(2, 5.0))
    run = simulate(top, {"a": 0.3}, seconds=10_000.0, seed=7)
    source = Random("7:a")
    faults = [source.expovariate(0.3)]
    while len(faults) < 3 or faults[-1] - faults[-3] > 5.0:
        faults.append(faults[-1] + source.expovariate(0.3))
    assert len(faults) > 3  # or it would show nothing
    assert run.ended_at == pytest.approx(faults[-1], abs=1e-6)
    assert run.reason == "its restart limit is reached"
    assert run.children["a"].restarts == len(faults) - 1
    assert run.children["a"].faults == len(faults)
    assert run.children[""].give_ups == [run.ended_at]
    assert run.down_share("") == pytest.approx(1 - faults[-1] / 10_000)


def test_down_time_is_starts_and_delays_and_what_never_came_back() -> None:
    """By hand: each start of `slow` takes 2 s and each restart of it waits 3 s more, and in a
    rest_for_one `last`, which starts after it, is down for those 5 s too; `first` never is."""
    top = ComponentSupervisor(
        [child("first"), child("slow", backoff=Backoff(3.0, 3.0, 0.0)), child("last")],
        "rest_for_one",
        restart_limit=None,
    )
    run = simulate(top, {"slow": 0.01}, seconds=20_000.0, seed=3, start_times={"slow": 2.0})
    count = run.children["slow"]
    assert count.restarts > 100
    assert count.down == pytest.approx(2.0 + 5.0 * count.restarts, abs=5.0)  # one may be cut off
    assert run.children["last"].down == pytest.approx(count.down)
    assert run.children["last"].restarts_with_others == count.restarts
    assert run.children["first"].down == 0.0
    assert run.children[""].group_restarts == count.restarts


def test_faults_come_as_often_as_was_said() -> None:
    """Given a rate of 0.5 per second, then there are about 0.5 x 20,000 of them: 10,000 with a
    standard deviation of 100, as the count of a Poisson process has."""
    top = ComponentSupervisor([child("a")], restart_limit=None)
    run = simulate(top, {"a": 0.5}, seconds=20_000.0, seed=1)
    assert run.children["a"].faults == pytest.approx(10_000, abs=400)


def test_what_is_said_of_one_child_changes_nothing_for_another() -> None:
    """Given a sibling that faults or does not, then a child alone faults at the same moments."""
    top = ComponentSupervisor([child("a"), child("b")], restart_limit=None)
    alone, both = (
        simulate(top, rates, seconds=50.0, seed=5, lines=1000)
        for rates in ({"a": 1.0}, {"a": 1.0, "b": 2.0})
    )
    of_a = [happening for happening in both.timeline if happening.path == "a"]
    assert alone.timeline == of_a
    assert len(of_a) < len(both.timeline)


def test_children_of_a_dynamic_supervisor_are_gone_after_its_restart() -> None:
    """B-41: Given two children that were added, and a limit of 0, then the first fault is their
    end; the supervisor comes back without them."""
    inner = ComponentSupervisor(strategy="dynamic", restart_limit=RestartLimit(0))
    top = ComponentSupervisor([ChildSpec(id="pool", factory=inner)], restart_limit=None)
    run = simulate(top, {"pool/1": 1.0}, seconds=100.0, seed=2, children={"pool": 2})
    (gave_up,) = run.children["pool"].give_ups
    assert run.children["pool/1"].faults == 1
    assert run.children["pool"].restarts == 1
    assert run.children["pool/2"].down == pytest.approx(100.0 - gave_up)
    assert run.ended_at is None


def test_too_much_to_simulate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a rate and a time by mistake, then it is an error, not an hour of work."""
    monkeypatch.setattr("kompyct.virtual_tree.MAX_EVENTS", 1000)
    top = ComponentSupervisor([child("a")], restart_limit=None)
    with pytest.raises(ArgumentError, match="more than 1000 things happen within"):
        simulate(top, {"a": 1e6}, seconds=3600.0)


# -- the command -------------------------------------------------------------------------------

TREE = ComponentSupervisor(
    [
        child("store"),
        ChildSpec(id="workers", factory=ComponentSupervisor([child("a"), child("b")])),
        ChildSpec(id="pool", factory=ComponentSupervisor(strategy="dynamic")),
    ],
    "rest_for_one",
)
HERE = f"{__name__}:TREE"
TWICE = ComponentSupervisor(
    [ChildSpec(id=name, factory=ComponentSupervisor([child("a")])) for name in ("x", "y")]
)


def command(*arguments: str) -> int:
    return main(["simulate", HERE, *arguments])


def test_the_command_prints_a_timeline_and_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    """Given one that faults and one that never does, then it says when and how often; with the
    default limit of 1 in 5 s and a fault a second, the top ends soon: exit code 1."""
    assert command("--fault", "store:1", "--lines", "3", "--seed", "4") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("s  store: faults")
    assert lines[1].endswith("s  store: is restarted with others")
    assert lines[3].split() == ["...", "and", lines[3].split()[-2], "more"]
    rows = {line.split()[0]: line.split() for line in lines[5:] if line}
    assert [name for name in rows if name not in ("CHILD", "the")] == [
        "top", "store", "workers", "workers/a", "workers/b", "pool"
    ]  # fmt: skip
    faults = int(rows["store"][1])
    assert rows["store"][1:4] == [str(faults), str(faults - 1), "0"]
    assert rows["workers/a"][1:4] == ["0", "0", str(faults - 1)]
    assert lines[-1].startswith("the top ends after ")
    assert lines[-1].endswith("its restart limit is reached (seed 4)")


def test_the_same_seed_is_the_same_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Issue, scope 7, "Deterministic per seed"."""
    told = []
    for seed in ("1", "1", "2"):
        assert command("--fault", "*:0.01", "--seed", seed, "--for", "1000") in (0, 1)
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] != told[2]


def test_many_runs_are_told_as_a_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    """Given 50 runs, then the share in which the top ends is that of the runs one by one."""
    ends = [
        simulate(TREE, {"store": 0.02}, seconds=600.0, seed=seed).ended_at for seed in range(50)
    ]
    ended = sorted(end for end in ends if end is not None)
    assert 0 < len(ended) < 50
    assert command("--fault", "store:0.02", "--for", "600", "--runs", "50") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == (
        f"the top ends in {len(ended)} of 50 runs of 600 s, {len(ended) / 50:.2%} (seeds 0 to 49)"
    )
    assert f"after {ended[0]:.3f} s at the earliest" in lines[-1]
    assert f"{ended[-1]:.3f} s at the latest" in lines[-1]


def test_a_tree_that_goes_on_is_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    """Given a dynamic supervisor with children that never fault, then nothing happens."""
    assert command("--fault", "pool/*:0", "--children", "pool:3", "--for", "60") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the top goes on after 60 s (seed 0)"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing faults; give --fault CHILD:RATE"),
        (["--fault", "store"], "--fault is 'store'; give CHILD:NUMBER"),
        (["--fault", "store:-1"], "--fault is 'store:-1'; give CHILD:NUMBER"),
        (["--fault", "store:nan"], "--fault is 'store:nan'"),
        (["--fault", ":1"], "--fault is ':1'"),
        (["--fault", "shop:1"], "--fault names 'shop'; give one of store, workers/a, workers/b"),
        (["--fault", "workers:1"], "--fault names 'workers'; give one of store"),
        (["--fault", "a:1", "--for", "0"], "seconds is 0.0"),
        (["--fault", "a:1", "--for", "inf"], "seconds is inf"),
        (["--fault", "a:1", "--runs", "0"], "--runs is 0"),
        (["--fault", "a:1", "--lines", "-1"], "--lines is -1"),
        (["--fault", "a:1", "--start-time", "b:x"], "--start-time is 'b:x'"),
        (["--fault", "a:1", "--children", "workers:3"], "--children names 'workers'"),
        (["--fault", "a:1", "--children", "pool:1.5"], "give a whole number"),
    ],
)
def test_bad_arguments_are_an_error_in_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Issue, "Bad input": exit code 2, and a line with the value and the way out."""
    assert command(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("kompyct: ")
    assert told in output.err
    assert len(output.err.splitlines()) == 1


def test_an_id_that_two_children_have_needs_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    """Given the same id under two supervisors, then which is meant must be said."""
    assert main(["simulate", f"{__name__}:TWICE", "--fault", "a:1"]) == 2
    assert "'a', which is any of ['x/a', 'y/a']; give the path" in capsys.readouterr().err
    assert main(["simulate", f"{__name__}:TWICE", "--fault", "x/a:0"]) == 0
