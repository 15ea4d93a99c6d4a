"""When does a child come back, and who comes back with it?

Expected values are derived from OTP's documentation of `supervisor` (and Elixir's of
`DynamicSupervisor`), from Akka's of backoff, and from rule S-07, never from what comes out.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kompyct import (
    NOT_NEEDED,
    Backoff,
    ChildSpec,
    ComponentSupervisor,
    CountChildren,
    DeleteChild,
    Restart,
    RestartChild,
    RestartLimit,
    StartChild,
    TerminateChild,
    WhichChildren,
)
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    ChildAlreadyPresentError,
    ChildAlreadyStartedError,
    ChildError,
    ChildNotFoundError,
    ChildRestartingError,
    ChildRunningError,
    ComponentCreateError,
    ComponentDestroyedError,
    ComponentFaultError,
    SupervisorEndingError,
    UnhandledMessageError,
)
from kompyct.events import (
    ComponentEnded,
    ComponentFaulted,
    ComponentRestarted,
    RestartDelayed,
    RestartLimitReached,
    RestartRefused,
)
from kompyct.testing import TestSystem
from tests.conftest import LIMIT
from tests.every_backend import notes
from tests.every_tree import backend, bench, no_bugs, process_bench, processes, switch
from tests.process.components import Do, Gate, Get, Notes, pid
from tests.tree_bench import BACKENDS, PLENTY, TreeBench
from tests.tree_parts import (
    Switch,
    again,
    ask_for,
    ended,
    escalated,
    fail_if,
    fail_now,
    fail_once,
    ignored,
    made_unless,
    meet,
    note_and_fail_if,
    quit_now,
    raise_it,
    wait_for,
    wait_if,
)

__all__ = ["backend", "bench", "no_bugs", "notes", "process_bench", "processes", "switch"]

RUNNING = "running"
STOPPED = "stopped"
RESTARTING = "restarting"


# -- restart types -------------------------------------------------------------------------------


def test_a_permanent_child_that_ends_normally_is_restarted(bench: TreeBench) -> None:
    """B-30: also a second time, and in order: `on_kill` is called, then the next one starts."""
    bench.tree(bench.specs("ab"))
    ref = bench.child("a")
    assert bench.lines() == ["a start", "b start"]
    bench.quit("a")
    bench.stands({"a": (RUNNING, 2), "b": (RUNNING, 1)})
    assert bench.lines() == ["a kill itself", "a start"]
    bench.quit("a")
    bench.stands({"a": (RUNNING, 3), "b": (RUNNING, 1)})
    assert bench.child("a") == ref
    assert ref.is_alive
    assert len(bench.of(ComponentRestarted, "a")) == 2
    assert not bench.of(ComponentFaulted, "a")


def test_a_transient_child_is_restarted_only_if_it_faults_and_its_spec_is_kept(
    bench: TreeBench,
) -> None:
    """B-31: not when it has ended normally, nor when it was told to end."""
    top = bench.tree(bench.specs("abcd", restart="transient"))
    bench.fail("a")
    bench.up("a", 2)
    bench.quit("b")
    top.ask(TerminateChild("c"), timeout=LIMIT)
    bench.system.kill(bench.child("d")).result(LIMIT)
    for name in "bcd":
        bench.gone(name)
    bench.until(lambda: bench.infos()["d"].state == STOPPED)
    infos = bench.infos()
    assert [infos[name].state for name in "abcd"] == [RUNNING, STOPPED, STOPPED, STOPPED]
    assert infos["b"].ref is None
    assert infos["b"].spec.restart is Restart.TRANSIENT
    for name in "bcd":
        assert top.ask(RestartChild(name), timeout=LIMIT) == bench.child(name)
        bench.up(name, 1)


TEMPORARY_ENDS = ("fault", "kill_self", "TerminateChild", "system.kill", "Unrecoverable")


@pytest.mark.parametrize("end", TEMPORARY_ENDS)
def test_a_temporary_child_never_comes_back_and_its_spec_goes_with_it(
    bench: TreeBench, end: str
) -> None:
    """B-32: however it ends, also if its recovery function says that it is to be restarted."""
    answers = [again] if end == "fault" else []
    given = {"recovery": answers[0]} if answers else {}
    top = bench.tree([*bench.specs("a", restart="temporary", **given), *bench.specs("b")])
    ref = bench.child("a")
    DOWN[end](bench, top, "a")
    bench.stands({"b": (RUNNING, 1)})
    bench.gone("a")
    bench.until(lambda: not ref.is_alive)
    with pytest.raises(ChildNotFoundError, match="'a'"):
        top.ask(RestartChild("a"), timeout=LIMIT)
    assert len(bench.of(RestartRefused, "a")) == len(answers)
    assert bench.lines()[:2] == ["a start", "b start"]
    # Its id is free again.
    top.ask(StartChild(bench.spec("a")), timeout=LIMIT)
    bench.stands({"b": (RUNNING, 1), "a": (RUNNING, 1)})


def test_a_permanent_child_that_was_told_to_end_stays_down_until_told_to_restart(
    bench: TreeBench,
) -> None:
    """B-33: a component that has ended is another one then, so its old ref reaches nothing."""
    top = bench.tree(bench.specs("ab"))
    old = bench.child("a")
    assert top.ask(TerminateChild("a"), timeout=LIMIT) is None
    assert not old.is_alive
    assert bench.child("a") is None
    bench.fail("b")
    bench.up("b", 2)
    assert bench.infos()["a"].state == STOPPED
    assert bench.infos()["a"].ref is None
    new = top.ask(RestartChild("a"), timeout=LIMIT)
    assert new == bench.child("a") != old
    bench.stands({"a": (RUNNING, 1), "b": (RUNNING, 2)})
    with pytest.raises(ComponentDestroyedError):
        old.ask(Get(), timeout=LIMIT)
    assert bench.lines() == ["a start", "b start", "a kill asked", "b start", "a start"]


def test_a_child_that_is_not_needed_is_kept_as_a_spec_without_a_component(
    bench: TreeBench, switch: Switch
) -> None:
    """B-34: and may be needed later; a temporary one is dropped."""

    def unless(name: str, **given: Any) -> ChildSpec:
        factory = partial(made_unless, switch, bench.leaf(name), NOT_NEEDED)
        return ChildSpec(id=name, factory=factory, **given)

    switch.on()
    top = bench.tree([unless("a"), unless("b", restart="temporary"), *bench.specs("c")])
    infos = bench.infos()
    assert list(infos) == ["a", "c"]
    assert infos["a"].state == STOPPED
    assert infos["a"].ref is None
    assert bench.child("a") is None
    assert top.ask(StartChild(unless("d")), timeout=LIMIT) is None
    assert top.ask(StartChild(unless("e", restart="temporary")), timeout=LIMIT) is None
    assert top.ask(RestartChild("a"), timeout=LIMIT) is None
    assert list(bench.infos()) == ["a", "c", "d"]
    counts = top.ask(CountChildren(), timeout=LIMIT)
    assert (counts.specs, counts.active, counts.stopped) == (3, 1, 2)
    switch.off()
    assert top.ask(RestartChild("a"), timeout=LIMIT) == bench.child("a")
    bench.stands({"a": (RUNNING, 1), "c": (RUNNING, 1), "d": (STOPPED, 0)})
    switch.on()  # in a restart, too
    bench.fail("a")
    bench.until(lambda: bench.infos()["a"].state == STOPPED)
    bench.gone("a")
    top.ask(DeleteChild("a"), timeout=LIMIT)
    assert list(bench.infos()) == ["c", "d"]


# -- strategies ----------------------------------------------------------------------------------


def test_one_for_one_gives_a_new_incarnation_only_to_the_child_that_faulted(
    bench: TreeBench,
) -> None:
    """B-35."""
    bench.tree(bench.specs("abc"), "one_for_one")
    bench.fail("a")
    bench.stands({"a": (RUNNING, 2), "b": (RUNNING, 1), "c": (RUNNING, 1)})
    assert bench.lines() == ["a start", "b start", "c start", "a start"]


def test_one_for_all_stops_the_others_in_reverse_order_and_starts_all_in_order(
    bench: TreeBench,
) -> None:
    """B-36: the one that faulted is down already, and its `on_kill` is not called."""
    bench.tree(bench.specs("abc"), "one_for_all")
    refs = [bench.child(name) for name in "abc"]
    assert bench.lines() == ["a start", "b start", "c start"]
    bench.fail("b")
    bench.stands({"a": (RUNNING, 2), "b": (RUNNING, 2), "c": (RUNNING, 2)})
    expected = ["c kill sibling", "a kill sibling", "a start", "b start", "c start"]
    assert bench.lines() == expected
    assert [bench.child(name) for name in "abc"] == refs


def test_rest_for_one_replaces_only_the_child_and_those_started_after_it(
    bench: TreeBench,
) -> None:
    """B-37."""
    bench.tree(bench.specs("abc"), "rest_for_one")
    assert bench.lines() == ["a start", "b start", "c start"]
    bench.fail("b")
    bench.stands({"a": (RUNNING, 1), "b": (RUNNING, 2), "c": (RUNNING, 2)})
    assert bench.lines() == ["c kill sibling", "b start", "c start"]


def test_rest_for_one_replaces_all_from_the_first_and_only_itself_from_the_last(
    bench: TreeBench,
) -> None:
    """B-38."""
    bench.tree(bench.specs("abc"), "rest_for_one")
    bench.fail("c")
    bench.stands({"a": (RUNNING, 1), "b": (RUNNING, 1), "c": (RUNNING, 2)})
    assert bench.lines() == ["a start", "b start", "c start", "c start"]
    bench.fail("a")
    bench.stands({"a": (RUNNING, 2), "b": (RUNNING, 2), "c": (RUNNING, 3)})
    expected = ["c kill sibling", "b kill sibling", "a start", "b start", "c start"]
    assert bench.lines() == expected


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_temporary_sibling_that_a_group_restart_takes_down_is_not_brought_back(
    bench: TreeBench, strategy: str
) -> None:
    """B-39: and its spec goes with it."""
    top = bench.tree(
        [*bench.specs("a"), *bench.specs("b", restart="temporary"), *bench.specs("c")], strategy
    )
    assert bench.lines() == ["a start", "b start", "c start"]
    ref = bench.child("b")
    bench.fail("a")
    bench.stands({"a": (RUNNING, 2), "c": (RUNNING, 2)})
    assert bench.lines() == ["c kill sibling", "b kill sibling", "a start", "c start"]
    assert not ref.is_alive
    assert bench.child("b") is None
    assert top.ask(CountChildren(), timeout=LIMIT).specs == 2


def test_rest_for_one_goes_on_at_the_child_that_did_not_start(
    bench: TreeBench, switch: Switch
) -> None:
    """B-40: what had been restarted before it is not restarted again."""
    fails_once = bench.spec("b", hooks={"start": partial(fail_once, switch)})
    bench.tree([*bench.specs("a"), fails_once, *bench.specs("c")], "rest_for_one")
    assert bench.lines() == ["a start", "b start", "c start"]
    switch.on()
    bench.fail("a")
    # b: 2 did not start, 3 does.
    bench.stands({"a": (RUNNING, 2), "b": (RUNNING, 3), "c": (RUNNING, 2)})
    expected = ["c kill sibling", "b kill sibling", "a start", "b start", "c start"]
    assert bench.lines() == expected


def test_one_for_all_begins_anew_if_a_child_does_not_start(
    bench: TreeBench, switch: Switch
) -> None:
    """B-40: with this strategy all belong together, those that had started as well (OTP)."""
    fails_once = bench.spec("b", hooks={"start": partial(fail_once, switch)})
    bench.tree([*bench.specs("a"), fails_once, *bench.specs("c")], "one_for_all")
    assert bench.lines() == ["a start", "b start", "c start"]
    switch.on()
    bench.fail("c")
    bench.stands({"a": (RUNNING, 3), "b": (RUNNING, 3), "c": (RUNNING, 2)})
    expected = ["b kill sibling", "a kill sibling", "a start", "a kill sibling"]
    assert bench.lines() == [*expected, "a start", "b start", "c start"]


@pytest.mark.parametrize("strategy", ["one_for_one", "dynamic"])
def test_of_a_restarted_supervisor_static_children_are_back_and_added_ones_are_gone(
    bench: TreeBench, strategy: str
) -> None:
    """B-41."""
    static = bench.specs("x") if strategy != "dynamic" else []
    sub = ComponentSupervisor(static, strategy, restart_limit=RestartLimit(0, 5.0))  # type: ignore[arg-type]
    bench.tree([ChildSpec(id="sub", factory=sub)])
    ref = bench.child("sub")
    added = [ref.ask(StartChild(bench.spec(name)), timeout=LIMIT) for name in "yz"]
    bench.fail("sub/z")
    bench.stands({"sub": (RUNNING, 2)})
    assert bench.child("sub") == ref
    assert list(bench.infos("sub")) == [spec.id for spec in static]
    assert all(info.state == RUNNING for info in bench.infos("sub").values())
    for gone in added:
        bench.until(lambda gone=gone: not gone.is_alive)  # type: ignore[misc]
    assert bench.child("sub/y") is bench.child("sub/z") is None
    ref.ask(StartChild(bench.spec("y")), timeout=LIMIT)  # its name is free
    bench.up("sub/y", 1)


def test_dynamic_children_are_stopped_side_by_side(bench: TreeBench, tmp_path: Path) -> None:
    """B-42: every one of them is in its `on_kill` before the first has left that."""
    if bench.manual:
        pytest.skip("one thread runs everything, so nothing is side by side")
    folder = tmp_path / "meeting"
    folder.mkdir()
    hooks = {"kill": partial(meet, folder, 8)}
    top = bench.tree(strategy="dynamic")
    for name in "abcdefgh":
        top.ask(StartChild(bench.spec(name, hooks=hooks)), timeout=LIMIT)
    begun = time.monotonic()
    bench.system.kill(top).result(LIMIT)
    assert time.monotonic() - begun < LIMIT
    assert len(os.listdir(folder)) == 8
    assert not bench.of(ComponentFaulted, "a")
    assert sorted(bench.lines()[8:]) == [f"{name} kill parent" for name in "abcdefgh"]


def test_a_group_restart_starts_also_what_had_been_told_to_end(bench: TreeBench) -> None:
    """B-33, B-36: OTP starts every spec of the group; rest_for_one those from there on."""
    top = bench.tree(bench.specs("abc"), "rest_for_one")
    for name in "ac":
        top.ask(TerminateChild(name), timeout=LIMIT)
    bench.fail("b")
    bench.stands({"a": (STOPPED, 0), "b": (RUNNING, 2), "c": (RUNNING, 1)})


def test_a_child_that_was_added_belongs_to_the_group_and_is_its_last(bench: TreeBench) -> None:
    """B-36: also if it is added again after it was deleted."""
    top = bench.tree(bench.specs("ab"), "one_for_all")
    top.ask(StartChild(bench.spec("c")), timeout=LIMIT)
    top.ask(TerminateChild("a"), timeout=LIMIT)
    top.ask(DeleteChild("a"), timeout=LIMIT)
    top.ask(StartChild(bench.spec("a")), timeout=LIMIT)
    bench.lines()
    bench.fail("c")
    bench.stands({"b": (RUNNING, 2), "c": (RUNNING, 2), "a": (RUNNING, 2)})
    expected = ["a kill sibling", "b kill sibling", "b start", "c start", "a start"]
    assert bench.lines() == expected


# -- restart limit -------------------------------------------------------------------------------


def limited(bench: TreeBench, limit: RestartLimit | None, **options: Any) -> Any:
    """A tree with one child, the supervisor "sub" of a, b and c, which does not come back."""
    children = options.pop("children", None) or bench.specs("abc")
    sub = ComponentSupervisor(children, restart_limit=limit, **options)
    top = bench.tree([ChildSpec(id="sub", factory=sub, restart="transient")])
    assert bench.lines()[:3] == ["a start", "b start", "c start"]
    return top


def test_a_supervisor_ends_at_the_fault_after_its_last_restart_in_the_window(
    bench: TreeBench,
) -> None:
    """B-43: it stops all its children in reverse order, and says why."""
    limited(bench, RestartLimit(3, 5.0))
    for number in range(3):
        bench.fail("sub/b")
        bench.up("sub/b", number + 2)
    assert bench.lines() == ["b start"] * 3
    ref = bench.child("sub")
    bench.fail("sub/b", KeyError("the last"))
    bench.until(lambda: bench.infos()["sub"].state == STOPPED)
    bench.gone("sub")
    assert bench.lines() == ["c kill parent", "a kill parent"]
    reached = bench.event_of(RestartLimitReached, "sub")
    assert (reached.error, reached.max_restarts, reached.within) == ("KeyError", 3, 5.0)
    end = bench.event_of(ComponentEnded, "sub")
    assert "RestartLimitError" in end.reason
    assert not ref.is_alive
    for name in "abc":
        assert bench.child(f"sub/{name}") is None
    assert bench.infos()["sub"].ref is None  # whose own supervisor runs


def test_faults_further_apart_than_the_window_never_reach_the_limit(bench: TreeBench) -> None:
    """B-44."""
    limited(bench, RestartLimit(1, 0.02))
    for number in range(6):
        bench.fail("sub/a")
        bench.up("sub/a", number + 2)
        bench.pass_time(0.0201)
    assert not bench.of(RestartLimitReached, "sub")


def test_the_window_includes_its_edge() -> None:
    """B-44: in OTP a restart counts that is exactly one period ago, and no older one.

    Virtual time only: a real one cannot be hit to the nanosecond.
    """
    bench = TreeBench("manual", Notes(os.devnull))
    sub = ComponentSupervisor(bench.specs("a"), restart_limit=RestartLimit(1, 5.0))
    bench.tree([ChildSpec(id="sub", factory=sub, restart="transient")])
    bench.fail("sub/a")
    bench.settle()
    bench.pass_time(5.000_000_001)
    bench.fail("sub/a")
    bench.settle()
    assert bench.states("sub") == {"a": (RUNNING, 3)}
    bench.pass_time(5.0)
    bench.fail("sub/a")
    bench.settle()
    assert bench.states() == {"sub": (STOPPED, 0)}
    bench.system.shutdown()


def test_with_limit_zero_the_first_fault_ends_the_supervisor(bench: TreeBench) -> None:
    """B-45."""
    limited(bench, RestartLimit(0, 5.0))
    bench.fail("sub/a")
    bench.until(lambda: bench.infos()["sub"].state == STOPPED)
    assert bench.lines() == ["c kill parent", "b kill parent"]


def test_a_group_restart_counts_once(bench: TreeBench) -> None:
    """B-46: however many children it restarts."""
    limited(bench, RestartLimit(2, 5.0), strategy="one_for_all")
    for number in range(2):
        bench.fail("sub/b")
        running = (RUNNING, number + 2)
        bench.stands({"a": running, "b": running, "c": running}, "sub")
    bench.fail("sub/b")
    bench.until(lambda: bench.infos()["sub"].state == STOPPED)
    assert len(bench.of(RestartLimitReached, "sub")) == 1


def test_siblings_that_fault_together_are_one_group_restart(tmp_path: Path) -> None:
    """B-46: OTP takes down the others whether or not they have fallen by themselves meanwhile.

    Virtual time only: elsewhere the second may fault in its next incarnation.
    """
    bench = TreeBench("manual", Notes(str(tmp_path / "notes")))
    limited(bench, RestartLimit(1, 60.0), strategy="one_for_all")
    for name in "abc":
        bench.fail(f"sub/{name}")
    bench.settle()
    assert bench.states() == {"sub": (RUNNING, 1)}
    assert bench.states("sub") == dict.fromkeys("abc", (RUNNING, 2))
    bench.system.shutdown()


def test_a_restart_that_fails_to_start_counts(bench: TreeBench, switch: Switch) -> None:
    """B-47: so a child that can no longer start exhausts the limit: tried as often as that."""

    def tries(hook: str) -> Any:
        return bench.spec("a", hooks={hook: partial(note_and_fail_if, switch)})

    for number, hook in enumerate(("start", "init")):
        bench.begin(bench.notes)
        bench.lines()
        limited(bench, RestartLimit(3, 5.0), children=[tries(hook), *bench.specs("bc")])
        switch.on()
        bench.fail("sub/a")
        bench.until(lambda: bench.infos()["sub"].state == STOPPED)
        assert bench.lines() == ["a tried"] * 3 + ["c kill parent", "b kill parent"], number
        switch.off()


def test_the_end_is_prompt_while_a_child_fails_to_restart_again_and_again(
    bench: TreeBench, switch: Switch
) -> None:
    """B-48: without any limit, and without a delay in between."""
    spec = bench.spec("b", hooks={"start": partial(note_and_fail_if, switch)})
    top = bench.tree([*bench.specs("a"), spec, *bench.specs("c")], restart_limit=None)
    switch.on()
    bench.fail("b")
    bench.until(lambda: bench.notes.lines().count("b tried") > 5)
    begun = time.monotonic()
    bench.system.kill(top).result(LIMIT)
    assert time.monotonic() - begun < 1.0
    bench.gone()
    lines = bench.lines()
    assert [line for line in lines if "kill" in line] == ["c kill parent", "a kill parent"]
    bench.pass_time(0.02)
    assert bench.lines() == []  # it is over


def test_only_restarts_count(bench: TreeBench) -> None:
    """B-43: not the end of what does not come back, whatever it ended by."""
    children = [
        *bench.specs("a", restart="temporary"),
        *bench.specs("b", restart="transient"),
        *bench.specs("c"),
    ]
    limited(bench, RestartLimit(0, 60.0), children=children)
    bench.fail("sub/a")
    bench.quit("sub/b")
    bench.fail("sub/c", BufferError())
    bench.stands({"b": (STOPPED, 0), "c": (STOPPED, 0)}, "sub")
    ref = bench.child("sub")
    ref.ask(RestartChild("c"), timeout=LIMIT)
    bench.system.kill(bench.child("sub/c")).result(LIMIT)
    ref.ask(RestartChild("c"), timeout=LIMIT)
    ref.ask(TerminateChild("c"), timeout=LIMIT)
    assert bench.states() == {"sub": (RUNNING, 1)}
    assert not bench.of(RestartLimitReached, "sub")


def test_a_permanent_child_that_ends_normally_again_and_again_reaches_the_limit(
    bench: TreeBench,
) -> None:
    """B-43: in OTP every restart counts; what is said of the cause is true then."""
    limited(bench, RestartLimit(1, 60.0))
    bench.quit("sub/a")
    bench.up("sub/a", 2)
    bench.quit("sub/a")
    bench.until(lambda: bench.infos()["sub"].state == STOPPED)
    assert "NoneType" not in str(bench.event_of(RestartLimitReached, "sub"))


def test_a_supervisor_that_is_told_no_limit_has_that_of_otp(bench: TreeBench) -> None:
    """B-43: one restart in five seconds."""
    sub = ComponentSupervisor(bench.specs("a"))
    bench.tree([ChildSpec(id="sub", factory=sub, restart="transient")])
    bench.fail("sub/a")
    bench.up("sub/a", 2)
    bench.fail("sub/a")
    bench.until(lambda: bench.infos()["sub"].state == STOPPED)
    reached = bench.event_of(RestartLimitReached, "sub")
    assert (reached.max_restarts, reached.within) == (1, 5.0)


def test_a_dynamic_supervisor_ends_all_its_children_at_its_limit(bench: TreeBench) -> None:
    """B-43: side by side; if it comes back it has none of them (B-41)."""
    sub = ComponentSupervisor(strategy="dynamic", restart_limit=RestartLimit(1, 60.0))
    bench.tree([ChildSpec(id="sub", factory=sub)])
    ref = bench.child("sub")
    refs = [ref.ask(StartChild(spec), timeout=LIMIT) for spec in bench.specs("abc")]
    bench.fail("sub/a")
    bench.up("sub/a", 2)
    bench.fail("sub/b")
    bench.stands({"sub": (RUNNING, 2)})
    assert bench.states("sub") == {}
    bench.until(lambda: not any(ref.is_alive for ref in refs))
    assert sorted(bench.lines()[4:]) == ["a kill parent", "c kill parent"]


# -- budgets, backoff, policies ------------------------------------------------------------------


def pass_virtual_time(bench: TreeBench, seconds: float) -> None:
    """Let time pass where that takes none: a delay that was cancelled would be over then."""
    if bench.manual:
        bench.pass_time(seconds)


def test_siblings_that_fault_once_each_do_not_use_up_each_others_budgets(
    bench: TreeBench,
) -> None:
    """B-51: a second fault is one too many for its own budget, and ends that child for good."""
    bench.tree(bench.specs("abcde", budget=RestartLimit(1, 60.0)), restart_limit=None)
    for name in "abcde":
        bench.fail(name)
    for name in "abcde":
        bench.up(name, 2)
    assert [info.restarts for info in bench.infos().values()] == [1] * 5
    bench.fail("c")
    bench.until(lambda: bench.infos()["c"].state == STOPPED)
    bench.gone("c")
    assert [info.state for info in bench.infos().values()].count(RUNNING) == 4
    reached = bench.event_of(RestartLimitReached, "c")
    assert (reached.max_restarts, reached.within) == (1, 60.0)


def test_restarts_wait_longer_and_longer_and_begin_anew_after_a_quiet_time(
    bench: TreeBench,
) -> None:
    """B-52: min, 2 min, 4 min, up to max; without jitter exactly."""
    backoff = Backoff(min=0.01, max=0.05, jitter=0.0, reset_after=0.25)
    bench.tree(bench.specs("ab"), backoff=backoff)
    for number in range(5):
        bench.fail("a")
        bench.up("a", number + 2)
    delays = [event.delay for event in bench.of(RestartDelayed, "a")]
    assert delays == [0.01, 0.02, 0.04, 0.05, 0.05]
    bench.fail("b")  # which has its own count
    bench.up("b", 2)
    assert [event.delay for event in bench.of(RestartDelayed, "b")] == [0.01]
    bench.pass_time(0.26)
    bench.fail("a")
    bench.up("a", 7)
    assert bench.of(RestartDelayed, "a")[-1].delay == 0.01


def test_a_delay_is_lengthened_by_its_share_of_jitter_at_most(bench: TreeBench) -> None:
    """B-52: and the delays differ; the spec's backoff goes before the supervisor's."""
    own = Backoff(min=0.004, max=0.004, jitter=0.5)
    bench.tree(bench.specs("a", backoff=own), backoff=Backoff(min=5.0))
    for number in range(8):
        bench.fail("a")
        bench.up("a", number + 2)
    delays = [event.delay for event in bench.of(RestartDelayed, "a")]
    assert len(delays) == 8
    assert all(0.004 <= delay <= 0.006 for delay in delays)
    assert len(set(delays)) > 1


def test_a_delay_takes_as_long_as_it_says() -> None:
    """B-52: in virtual time, to the nanosecond."""
    bench = TreeBench("manual", Notes(os.devnull))
    assert isinstance(bench.system, TestSystem)
    bench.tree(bench.specs("a"), backoff=Backoff(min=1.0, max=4.0, jitter=0.0))
    for number, delay in enumerate((1.0, 2.0, 4.0, 4.0)):
        bench.fail("a")
        bench.settle()
        bench.pass_time(delay - 1e-9)
        assert bench.states() == {"a": (RESTARTING, number + 1)}
        bench.pass_time(1e-9)
        assert bench.states() == {"a": (RUNNING, number + 2)}
    bench.pass_time(4.0)  # reset_after: as long as max
    bench.fail("a")
    bench.settle()
    bench.pass_time(1.0)
    assert bench.states() == {"a": (RUNNING, 6)}
    bench.system.shutdown()


def test_of_a_group_restart_all_wait_until_the_delay_is_over(bench: TreeBench) -> None:
    """B-52: siblings are stopped at once, and all start afterwards."""
    bench.tree(bench.specs("abc"), "one_for_all", backoff=Backoff(min=0.05, jitter=0.0))
    assert bench.lines() == ["a start", "b start", "c start"]
    bench.fail("b")
    bench.until(lambda: len(bench.of(RestartDelayed, "b")) == 1)
    assert bench.infos()["b"].state == RESTARTING
    bench.until(lambda: all(info.incarnation == 2 for info in bench.infos().values()))
    bench.stands({"a": (RUNNING, 2), "b": (RUNNING, 2), "c": (RUNNING, 2)})
    expected = ["c kill sibling", "a kill sibling", "a start", "b start", "c start"]
    assert bench.lines() == expected
    assert not bench.of(RestartDelayed, "a")


@pytest.mark.parametrize("request_type", [TerminateChild, DeleteChild])
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_request_that_cancels_a_restart_does_not_keep_the_others_down(
    bench: TreeBench, strategy: str, request_type: Any
) -> None:
    """B-53: the siblings went down for nothing, and come back without it."""
    top = bench.tree(bench.specs("abc"), strategy, backoff=Backoff(min=20.0, jitter=0.0))
    bench.fail("a")
    bench.until(lambda: [info.state for info in bench.infos().values()].count(STOPPED) == 2)
    assert top.ask(request_type("a"), timeout=LIMIT) is None
    left = {"b": (RUNNING, 2), "c": (RUNNING, 2)}
    is_kept = request_type is TerminateChild
    bench.stands({"a": (STOPPED, 0), **left} if is_kept else left)
    pass_virtual_time(bench, 30.0)
    assert bench.lines() == [
        *("a start", "b start", "c start"),
        *("c kill sibling", "b kill sibling", "b start", "c start"),
    ]


def test_a_sibling_that_is_told_to_end_while_all_wait_stays_down(bench: TreeBench) -> None:
    """B-53: and so does one that is deleted, of which nothing is left."""
    top = bench.tree(bench.specs("abcd"), "one_for_all", backoff=Backoff(min=0.25, jitter=0.0))
    refs = {name: bench.child(name) for name in "abcd"}
    bench.fail("b")
    bench.until(lambda: [info.state for info in bench.infos().values()].count(STOPPED) == 3)
    with pytest.raises(ChildRestartingError, match="'a'"):
        top.ask(RestartChild("a"), timeout=LIMIT)
    top.ask(TerminateChild("a"), timeout=LIMIT)
    with pytest.raises(ChildRestartingError, match="'c'"):  # which is about to start
        top.ask(DeleteChild("c"), timeout=LIMIT)
    top.ask(TerminateChild("c"), timeout=LIMIT)
    top.ask(DeleteChild("c"), timeout=LIMIT)
    bench.stands({"a": (STOPPED, 0), "b": (RUNNING, 2), "d": (RUNNING, 2)})
    assert [refs[name].is_alive for name in "abcd"] == [False, True, False, True]


@pytest.mark.parametrize("request_type", [TerminateChild, DeleteChild])
def test_a_child_in_backoff_is_reported_as_restarting_and_requests_cancel_it(
    bench: TreeBench, request_type: Any
) -> None:
    """B-53: its mailbox is kept until then, and its messages are dead letters afterwards."""
    top = bench.tree(bench.specs("ab"), backoff=Backoff(min=20.0, jitter=0.0))
    ref = bench.child("a")
    bench.fail("a")
    bench.event_of(RestartDelayed, "a")
    info = bench.infos()["a"]
    assert (info.state, info.incarnation, info.ref) == (RESTARTING, 1, ref)
    assert top.ask(CountChildren(), timeout=LIMIT).restarting == 1
    assert top.ask(request_type("a"), timeout=LIMIT) is None
    bench.gone("a")
    bench.until(lambda: not ref.is_alive)
    pass_virtual_time(bench, 30.0)
    assert bench.lines() == ["a start", "b start"]
    if request_type is TerminateChild:
        assert bench.infos()["a"].state == STOPPED
        top.ask(RestartChild("a"), timeout=LIMIT)
        bench.up("a", 1)
    else:
        assert list(bench.infos()) == ["b"]
        top.ask(StartChild(bench.spec("a")), timeout=LIMIT)
        bench.stands({"b": (RUNNING, 1), "a": (RUNNING, 1)})


def test_the_policy_for_the_most_specific_type_decides(bench: TreeBench) -> None:
    """B-54."""
    policy = {Exception: "end", LookupError: "restart", KeyError: "end", BaseException: "escalate"}
    bench.tree(bench.specs("abc", policy=policy))
    bench.fail("a", IndexError())  # a LookupError
    bench.up("a", 2)
    bench.fail("b", KeyError())
    bench.fail("c", ValueError())
    bench.until(lambda: [info.state for info in bench.infos().values()].count(STOPPED) == 2)
    assert [info.state for info in bench.infos().values()] == [RUNNING, STOPPED, STOPPED]
    bench.fail("a", LookupError())
    bench.up("a", 3)
    bench.gone("b")


def test_the_policy_of_the_child_is_asked_before_that_of_the_supervisor(
    bench: TreeBench,
) -> None:
    """B-54: also where the outer one is more specific; what the inner does not know it passes."""
    inner = {LookupError: "restart"}
    outer = {KeyError: "end", ValueError: "end"}
    bench.tree([*bench.specs("ab", policy=inner), *bench.specs("cd")], policy=outer)
    bench.fail("a", KeyError())
    bench.up("a", 2)
    bench.fail("b", ValueError())
    bench.until(lambda: bench.infos()["b"].state == STOPPED)
    bench.fail("c", KeyError())
    bench.until(lambda: bench.infos()["c"].state == STOPPED)
    bench.fail("d", OSError())  # of which nobody says anything: as its spec has it
    bench.up("d", 2)


def test_a_policy_that_escalates_makes_the_supervisor_fault(bench: TreeBench) -> None:
    """B-54: which its own supervisor sees, and that one's policy is asked then."""
    sub = ComponentSupervisor(bench.specs("ab"), policy={KeyError: "escalate"})
    bench.tree(
        [ChildSpec(id="sub", factory=sub, policy={KeyError: "restart"}, restart="transient")],
        policy={KeyError: "end"},
    )
    assert bench.lines() == ["a start", "b start"]
    bench.fail("sub/a", KeyError())
    bench.stands({"sub": (RUNNING, 2)})
    assert bench.states("sub") == {"a": (RUNNING, 2), "b": (RUNNING, 2)}
    assert bench.lines() == ["b kill parent", "a start", "b start"]


DOWN: dict[str, Callable[[TreeBench, Any, str], object]] = {
    "fault": lambda bench, top, name: bench.fail(name),
    "kill_self": lambda bench, top, name: bench.quit(name),
    "TerminateChild": lambda bench, top, name: top.ask(TerminateChild(name[-1]), timeout=LIMIT),
    "system.kill": lambda bench, top, name: bench.system.kill(bench.child(name)).result(LIMIT),
    "Unrecoverable": lambda bench, top, name: bench.fail(name, BufferError()),
    "end": lambda bench, top, name: bench.fail(name),
    "ignore": lambda bench, top, name: bench.fail(name),
    "escalate": lambda bench, top, name: bench.fail(name),
}
"""How a child goes down; the last three by what its recovery function answers."""

ANSWERS = {"end": ended, "ignore": ignored, "escalate": escalated}
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one", "dynamic")
TABLE = [
    (backend, strategy)
    for backend in BACKENDS
    for strategy in STRATEGIES
    if backend != "process" or strategy == "rest_for_one"  # the others would be 10 s more
]
COMES_BACK = {
    ("permanent", "fault"),
    ("permanent", "kill_self"),
    ("transient", "fault"),
}
"""OTP's table: a permanent child always comes back, a transient one if it ended abnormally, a
temporary one never. What was told to end stays down (B-33), and what its recovery function or the
class of its fault ends does so for good, as if it had been told (S-07)."""

GOES_WITH_IT = {
    "one_for_one": "",
    "one_for_all": "ac",
    "rest_for_one": "c",
    "dynamic": "",
}
"""Which of a and c are restarted with b."""


def three(bench: TreeBench, restart: Any, end: str, strategy: Any) -> Any:
    """A supervisor "sub" of a, b and c that may fault, and what is expected of b."""
    given = {"recovery": ANSWERS[end]} if end in ANSWERS else {}
    specs = [bench.spec("a"), bench.spec("b", restart=restart, **given), bench.spec("c")]
    is_dynamic = strategy == "dynamic"
    sub = ComponentSupervisor([] if is_dynamic else specs, strategy, restart_limit=PLENTY)
    bench.tree([ChildSpec(id="sub", factory=sub)])
    ref = bench.child("sub")
    if is_dynamic:
        for spec in specs:
            ref.ask(StartChild(spec), timeout=LIMIT)
    return ref


@pytest.mark.parametrize(("backend", "strategy"), TABLE, indirect=["backend"])
@pytest.mark.parametrize("end", DOWN)
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_how_a_child_goes_down_its_restart_type_and_the_strategy_decide(
    bench: TreeBench, restart: str, end: str, strategy: str
) -> None:
    """B-30 to B-39: every combination, by OTP's table and S-07."""
    ref = three(bench, restart, end, strategy)
    old = {name: bench.child(f"sub/{name}") for name in "abc"}
    DOWN[end](bench, ref, "sub/b")
    if end == "escalate":
        # The supervisor faults, and its own restarts it: all children it was declared with.
        bench.stands({"sub": (RUNNING, 2)})
        declared = "" if strategy == "dynamic" else "abc"
        assert [info.state for info in bench.infos("sub").values()] == [RUNNING] * len(declared)
        assert list(bench.infos("sub")) == list(declared)
        if strategy == "dynamic":
            bench.until(lambda: not any(child.is_alive for child in old.values()))
        return
    expected = {}
    is_back = (restart, end) in COMES_BACK
    for name in "abc":
        if name == "b" and is_back:
            expected[name] = (RUNNING, 2)
        elif name == "b":
            if strategy == "dynamic" or restart == "temporary":
                continue  # nothing is left of it
            expected[name] = (STOPPED, 0)
        else:
            is_restarted = is_back and name in GOES_WITH_IT[strategy]
            expected[name] = (RUNNING, 2 if is_restarted else 1)
    bench.stands(expected, "sub")
    if is_back:
        assert {name: bench.child(f"sub/{name}") for name in "abc"} == old
    else:
        bench.until(lambda: not old["b"].is_alive)
        assert bench.child("sub/b") is None
    assert old["a"].is_alive
    assert old["c"].is_alive
    assert bench.states() == {"sub": (RUNNING, 1)}


# -- ends and faults that come together -----------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "recovery"),
    [("system.kill", None), ("system.kill", again), ("TerminateChild", None)],
)
def test_a_child_whose_on_kill_raises_is_down_all_the_same(
    bench: TreeBench, recovery: Any, end: str
) -> None:
    """B-33: it was told to end, so it does not come back, whatever its recovery would do."""
    specs = [bench.spec("a", hooks={"kill": fail_now}, recovery=recovery), bench.spec("b")]
    top = bench.tree(specs, "one_for_all")
    ref = bench.child("a")
    begun = bench.now()
    if end == "system.kill":
        with pytest.raises(ComponentFaultError, match="OSError"):
            bench.system.kill(ref).result(1.0)
    else:
        assert top.ask(TerminateChild("a"), timeout=LIMIT) is None
    assert bench.now() - begun < 1.0
    bench.stands({"a": (STOPPED, 0), "b": (RUNNING, 1)})
    assert not ref.is_alive


def test_a_group_restart_that_waits_is_not_lost_when_another_child_faults(
    bench: TreeBench,
) -> None:
    """B-37: nor by that of a child that was added meanwhile."""
    backoff = Backoff(min=0.05, jitter=0.0)
    top = bench.tree(bench.specs("abc"), "rest_for_one", backoff=backoff)
    bench.fail("a")
    bench.until(lambda: bench.states()["b"][0] == STOPPED)
    top.ask(StartChild(bench.spec("d")), timeout=LIMIT)
    bench.fail("d")
    bench.until(lambda: bench.states()["d"][1] == 2)
    bench.until(lambda: [info.state for info in bench.infos().values()] == [RUNNING] * 4)
    assert [info.incarnation for info in bench.infos().values()][:3] == [2] * 3


def test_a_temporary_sibling_that_faults_while_it_is_to_be_stopped_is_not_brought_back(
    bench: TreeBench, tmp_path: Path
) -> None:
    """B-39: it is gone before its turn to be stopped has come."""
    if bench.manual:
        pytest.skip("one thread runs everything: while a hook runs, nothing else faults")
    gate = Gate(str(tmp_path / "gate"))
    bench.tree(
        [
            *bench.specs("a"),
            *bench.specs("x", restart="temporary"),
            bench.spec("z", hooks={"kill": partial(wait_for, gate)}),
        ],
        "one_for_all",
    )
    ref = bench.child("x")
    bench.fail("a")
    bench.until(lambda: "z kill sibling" in bench.notes.lines())
    bench.fail("x")
    bench.event_of(ComponentFaulted, "x")
    bench.until(lambda: "x" not in bench.infos() or bench.infos()["x"].state == STOPPED)
    gate.open()
    bench.until(lambda: bench.infos()["z"].incarnation == 2)
    bench.until(lambda: bench.infos()["z"].state == RUNNING)
    assert bench.states() == {"a": (RUNNING, 2), "z": (RUNNING, 2)}
    assert not ref.is_alive


TOGETHER = [
    ("restart, terminate", True),
    ("restart, terminate, restart", True),  # the last is refused: it is ending
    ("delete, start, terminate", False),  # as after any start that failed
    ("delete, start, terminate, restart", False),
]


@pytest.mark.parametrize(("words", "is_kept"), TOGETHER)
def test_a_child_may_be_told_to_end_before_the_one_before_it_is_gone(
    tmp_path: Path, words: str, is_kept: bool
) -> None:
    """B-33: then it is down, and no other is made. Virtual time only: elsewhere it is a race."""
    bench = TreeBench("manual", Notes(str(tmp_path / "notes")))
    requests: list[Any] = []

    def ask_all(component: Any) -> None:
        while requests:
            top.tell(requests.pop(0))

    spec = bench.spec("a", restart="transient", hooks={"kill": ask_all})
    top = bench.tree([spec, *bench.specs("b")])
    made = {
        "restart": RestartChild("a"),
        "terminate": TerminateChild("a"),
        "delete": DeleteChild("a"),
        "start": StartChild(spec),
    }
    requests.extend(made[word] for word in words.split(", "))
    bench.quit("a")
    bench.settle()
    down = {"a": (STOPPED, 0)} if is_kept else {}
    assert bench.states() == {"b": (RUNNING, 1), **down}
    assert bench.child("a") is None
    bench.system.shutdown(timeout=10.0)


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_a_process_that_is_killed_is_a_fault_of_its_component(
    bench: TreeBench, restart: str
) -> None:
    """B-31, B-32: as one that raises: only a temporary one stays away."""
    if bench.backend != "process":
        pytest.skip("only a component in a process of its own has one that can be killed")
    bench.tree([*bench.specs("a", restart=restart), *bench.specs("b")], "rest_for_one")
    os.kill(bench.child("a").ask(Do(pid), timeout=LIMIT), signal.SIGKILL)
    if restart == "temporary":
        bench.stands({"b": (RUNNING, 1)})
    else:
        bench.stands({"a": (RUNNING, 2), "b": (RUNNING, 2)})
        assert bench.lines() == ["a start", "b start", "b kill sibling", "a start", "b start"]


# -- what is asked of a supervisor ---------------------------------------------------------------


class Asker:
    """Asks on a thread of its own; where one thread runs everything, on that."""

    def __init__(self, ref: Any, request: Any, *, bench: TreeBench) -> None:
        self.answer: Any = "none yet"
        self._thread: threading.Thread | None = None
        if bench.manual:
            self._ask(ref, request)
            return
        self._thread = threading.Thread(target=self._ask, args=(ref, request))
        self._thread.start()

    def _ask(self, ref: Any, request: Any) -> None:
        try:
            self.answer = ref.ask(request, timeout=LIMIT)
        except Exception as error:
            self.answer = error

    def result(self) -> Any:
        """What was answered, or raised."""
        if self._thread is not None:
            self._thread.join(2 * LIMIT)
        return self.answer


def absent(bench: TreeBench, gate: Gate) -> Any:
    """There is no child "a"."""
    return bench.tree(bench.specs("b"))


def stopped(bench: TreeBench, gate: Gate) -> Any:
    """It was told to end."""
    top = bench.tree(bench.specs("ab"))
    top.ask(TerminateChild("a"), timeout=LIMIT)
    return top


def running(bench: TreeBench, gate: Gate) -> Any:
    """It runs."""
    return bench.tree(bench.specs("ab"))


def restarting(bench: TreeBench, gate: Gate) -> Any:
    """It waits to be restarted."""
    top = bench.tree(bench.specs("ab"), backoff=Backoff(min=20.0))
    bench.fail("a")
    bench.until(lambda: bench.infos()["a"].state == RESTARTING)
    return top


def starting(bench: TreeBench, gate: Gate) -> Any:
    """It is in its `on_start`, for the first time."""
    top = bench.tree(bench.specs("b"))
    bench.asker = Asker(
        top, StartChild(bench.spec("a", hooks={"start": partial(wait_for, gate)})), bench=bench
    )
    bench.until(lambda: "a" in bench.infos() and bench.infos()["a"].state == "starting")
    return top


def stopping(bench: TreeBench, gate: Gate) -> Any:
    """It is in its `on_kill`."""
    top = bench.tree([bench.spec("a", hooks={"kill": partial(wait_for, gate)}), bench.spec("b")])
    bench.asker = Asker(top, TerminateChild("a"), bench=bench)
    bench.until(lambda: "a kill asked" in bench.notes.lines())
    return top


REQUESTS: dict[str, Callable[[TreeBench], Any]] = {
    "start": lambda bench: StartChild(bench.spec("a")),
    "terminate": lambda bench: TerminateChild("a"),
    "restart": lambda bench: RestartChild("a"),
    "delete": lambda bench: DeleteChild("a"),
}
OTP: list[tuple[Any, str, Any]] = [
    (absent, "start", "ref"),
    (absent, "terminate", ChildNotFoundError),
    (absent, "restart", ChildNotFoundError),
    (absent, "delete", ChildNotFoundError),
    (stopped, "start", ChildAlreadyPresentError),
    (stopped, "terminate", None),
    (stopped, "restart", "ref"),
    (stopped, "delete", None),
    (running, "start", ChildAlreadyStartedError),
    (running, "terminate", None),
    (running, "restart", ChildRunningError),
    (running, "delete", ChildRunningError),
    (restarting, "start", ChildAlreadyStartedError),
    (restarting, "terminate", None),
    (restarting, "restart", ChildRestartingError),
    (restarting, "delete", None),  # unlike OTP, where nothing waits: B-53
    (starting, "start", ChildAlreadyStartedError),
    (starting, "restart", ChildRestartingError),
    (starting, "delete", ChildRestartingError),
    (stopping, "start", ChildAlreadyStartedError),
    (stopping, "restart", ChildRunningError),
    (stopping, "delete", ChildRunningError),
]
"""`start_child`, `terminate_child`, `restart_child` and `delete_child` by OTP's documentation.
OTP's supervisor does nothing else while a child starts or ends; ours says then what it is."""


@pytest.mark.parametrize(
    ("state", "request_name", "expected"),
    OTP,
    ids=[f"{state.__name__}-{name}" for state, name, _ in OTP],
)
def test_what_may_be_asked_about_a_child_depends_on_how_it_stands_with_it(
    bench: TreeBench, tmp_path: Path, state: Any, request_name: str, expected: Any
) -> None:
    """OTP's errors: `already_started`, `already_present`, `running`, `restarting`, `not_found`."""
    if bench.manual and state in (starting, stopping):
        pytest.skip("one thread runs everything: while a hook runs, nobody can ask")
    gate = Gate(str(tmp_path / "gate"))
    top = state(bench, gate)
    try:
        answer = Asker(top, REQUESTS[request_name](bench), bench=bench).result()
    finally:
        gate.open()
    if expected == "ref":
        assert answer == bench.child("a")
        bench.up("a", 1)
    elif expected is None:
        assert answer is None
        if request_name == "delete":
            bench.gone("a")
        assert bench.child("a") is None
        infos = bench.infos()
        if request_name == "delete":
            assert list(infos) == ["b"]
        else:
            assert (infos["a"].state, infos["a"].ref) == (STOPPED, None)
    else:
        assert type(answer) is expected
        assert "'a'" in str(answer)
        assert f"{bench.top!r}" in str(answer)
    if state in (starting, stopping):
        begun = bench.asker.result()
        assert begun == (bench.child("a") if state is starting else None)
    assert bench.infos()["b"].state == RUNNING


def test_ends_that_are_asked_for_twice_are_both_answered_when_the_child_is_gone(
    bench: TreeBench, tmp_path: Path
) -> None:
    """`TerminateChild` of a child that is ending waits for that."""
    if bench.manual:
        pytest.skip("one thread runs everything: while a hook runs, nobody can ask")
    gate = Gate(str(tmp_path / "gate"))
    top = stopping(bench, gate)
    second = Asker(top, TerminateChild("a"), bench=bench)
    assert bench.states()["a"] == ("stopping", 1)  # which is answered after the request
    assert second.answer == bench.asker.answer == "none yet"
    gate.open()
    assert second.result() is None
    assert bench.asker.result() is None
    assert bench.states() == {"a": (STOPPED, 0), "b": (RUNNING, 1)}


def test_an_end_that_is_asked_for_while_the_child_starts_is_answered_when_it_is_gone(
    bench: TreeBench, tmp_path: Path
) -> None:
    """`TerminateChild` of a child in its first `on_start`: whoever started it hears of it, too."""
    if bench.manual:
        pytest.skip("one thread runs everything: while a hook runs, nobody can ask")
    gate, second = Gate(str(tmp_path / "gate")), Gate(str(tmp_path / "second"))
    top = bench.tree(bench.specs("b"))
    hooks = {"start": partial(wait_for, gate), "kill": partial(wait_for, second)}
    starter = Asker(top, StartChild(bench.spec("a", hooks=hooks)), bench=bench)
    bench.until(lambda: "a" in bench.infos() and bench.infos()["a"].state == "starting")
    ender = Asker(top, TerminateChild("a"), bench=bench)
    bench.until(lambda: bench.infos()["a"].state == "stopping")
    gate.open()
    bench.until(lambda: "a kill asked" in bench.notes.lines())
    state = bench.infos()["a"].state
    answer = ender.answer
    second.open()
    assert (state, answer) == ("stopping", "none yet")
    assert ender.result() is None
    assert type(starter.result()) is ChildError
    assert "'a'" in str(starter.answer)
    assert bench.states() == {"b": (RUNNING, 1)}  # as after any start that failed


def test_a_dynamic_supervisor_takes_refs_and_keeps_no_specs(bench: TreeBench) -> None:
    """OTP's `simple_one_for_one`: `restart_child` and `delete_child` are refused."""
    top = bench.tree(strategy="dynamic")
    nameless = ChildSpec(factory=bench.leaf("x"), restart="transient")
    first = top.ask(StartChild(nameless), timeout=LIMIT)
    second = top.ask(StartChild(nameless), timeout=LIMIT)
    named = top.ask(StartChild(bench.spec("a")), timeout=LIMIT)
    assert len({first, second, named}) == 3
    for request in (RestartChild("a"), DeleteChild("a")):
        with pytest.raises(ChildError, match="is dynamic, and keeps no specs"):
            top.ask(request, timeout=LIMIT)
    first.tell(Do(raise_it, (ValueError(),)))
    bench.until(
        lambda: (
            [info.ref for info in bench.infos_of(top) if info.incarnation == 2] == [first]
            and all(info.state == RUNNING for info in bench.infos_of(top))
        )
    )
    assert second.incarnation == 1
    assert top.ask(TerminateChild(first), timeout=LIMIT) is None
    assert not first.is_alive
    with pytest.raises(ChildNotFoundError):
        top.ask(TerminateChild(first), timeout=LIMIT)
    assert top.ask(TerminateChild("a"), timeout=LIMIT) is None
    assert top.ask(CountChildren(), timeout=LIMIT).specs == 1
    second.tell(Do(quit_now))
    bench.until(lambda: top.ask(CountChildren(), timeout=LIMIT).specs == 0)
    with pytest.raises(ChildNotFoundError, match="'a'"):
        top.ask(TerminateChild("a"), timeout=LIMIT)


def test_a_restart_that_is_overtaken_by_an_end_leaves_the_spec(
    bench: TreeBench, switch: Switch, tmp_path: Path
) -> None:
    """`TerminateChild` of a child that `RestartChild` is starting; both are answered."""
    if bench.manual:
        pytest.skip("one thread runs everything: while a hook runs, nobody can ask")
    gate = Gate(str(tmp_path / "gate"))
    hooks = {"start": partial(wait_if, switch, gate)}
    top = bench.tree([bench.spec("a", hooks=hooks), *bench.specs("b")])
    top.ask(TerminateChild("a"), timeout=LIMIT)
    switch.on()
    starter = Asker(top, RestartChild("a"), bench=bench)
    bench.until(lambda: bench.infos()["a"].state == "starting")
    ender = Asker(top, TerminateChild("a"), bench=bench)
    bench.until(lambda: bench.infos()["a"].state == "stopping")
    gate.open()
    assert ender.result() is None
    assert type(starter.result()) is ChildError
    assert bench.states() == {"a": (STOPPED, 0), "b": (RUNNING, 1)}
    assert top.ask(RestartChild("a"), timeout=LIMIT) == bench.child("a")


def test_ids_that_are_missing_or_unknown_are_refused_by_a_running_supervisor(
    bench: TreeBench,
) -> None:
    """Nothing changes then."""
    top = bench.tree(bench.specs("a"))
    other = bench.system.create(bench.leaf("other"), name="other")
    for request in (
        TerminateChild("z"),
        TerminateChild(other),
        RestartChild("z"),
        DeleteChild(""),
    ):
        with pytest.raises(ChildNotFoundError, match=r"WhichChildren\(\)"):
            top.ask(request, timeout=LIMIT)
    with pytest.raises(ArgumentError, match="needs an id"):
        top.ask(StartChild(ChildSpec(factory=bench.leaf("x"))), timeout=LIMIT)
    with pytest.raises(ArgumentTypeError, match="StartChild was given 7"):
        top.ask(StartChild(7), timeout=LIMIT)  # type: ignore[arg-type]
    significant = bench.spec("x", significant=True, restart="transient")
    with pytest.raises(ArgumentError, match=r"'x' is significant.*auto_shutdown"):
        top.ask(StartChild(significant), timeout=LIMIT)
    backend = "manual" if bench.manual else "thread"
    sub = ComponentSupervisor([bench.spec("x", standby=True, backend=backend)])
    with pytest.raises(ArgumentError, match=rf"standby and overlap of child 'x'.*'{backend}'"):
        top.ask(StartChild(ChildSpec(id="deep", factory=sub)), timeout=LIMIT)
    with pytest.raises(UnhandledMessageError, match="does not take a Get; it takes StartChild"):
        top.ask(Get(), timeout=LIMIT)
    assert bench.states() == {"a": (RUNNING, 1)}


@pytest.mark.parametrize("hook", ["init", "start"])
def test_a_child_that_cannot_be_started_leaves_nothing_when_it_was_to_be_added(
    bench: TreeBench, switch: Switch, hook: str
) -> None:
    """OTP: `start_child` answers the error and keeps no spec, `restart_child` keeps it."""
    spec = bench.spec("b", hooks={hook: partial(fail_if, switch)})
    top = bench.tree([*bench.specs("a"), spec])
    top.ask(TerminateChild("b"), timeout=LIMIT)
    switch.on()
    with pytest.raises(ComponentCreateError, match="child 'b' of supervisor") as raised:
        top.ask(RestartChild("b"), timeout=LIMIT)
    assert type(raised.value.__cause__) is OSError
    assert bench.states() == {"a": (RUNNING, 1), "b": (STOPPED, 0)}
    top.ask(DeleteChild("b"), timeout=LIMIT)
    with pytest.raises(ComponentCreateError, match="child 'b' of supervisor"):
        top.ask(StartChild(spec), timeout=LIMIT)
    assert bench.states() == {"a": (RUNNING, 1)}
    assert bench.child("b") is None
    switch.off()
    assert top.ask(StartChild(spec), timeout=LIMIT) == bench.child("b")
    bench.stands({"a": (RUNNING, 1), "b": (RUNNING, 1)})


def test_requests_wait_until_a_group_restart_is_over(bench: TreeBench, tmp_path: Path) -> None:
    """As in OTP, whose supervisor does one thing at a time; looking is answered at once."""
    if bench.manual:
        pytest.skip("one thread runs everything: while a hook runs, nobody can ask")
    gate = Gate(str(tmp_path / "gate"))
    hooks = {"kill": partial(wait_for, gate)}
    top = bench.tree([*bench.specs("a"), bench.spec("b", hooks=hooks)], "one_for_all")
    bench.fail("a")
    bench.until(lambda: "b kill sibling" in bench.notes.lines())
    starter = Asker(top, StartChild(bench.spec("c")), bench=bench)
    ender = Asker(top, TerminateChild("a"), bench=bench)
    assert bench.states() == {"a": (RESTARTING, 1), "b": ("stopping", 1)}
    assert starter.answer == ender.answer == "none yet"
    gate.open()
    assert starter.result() == bench.child("c")
    assert ender.result() is None
    expected = {"a": (STOPPED, 0), "b": (RUNNING, 2), "c": (RUNNING, 1)}
    bench.stands(expected)
    lines = bench.lines()
    assert lines[:5] == ["a start", "b start", "b kill sibling", "a start", "b start"]
    assert sorted(lines[5:]) == ["a kill asked", "c start"]  # side by side


def test_a_supervisor_that_is_ending_does_nothing_more(bench: TreeBench, tmp_path: Path) -> None:
    """Whoever asks gets an error at once, also while it waits for its children."""
    if bench.manual:
        pytest.skip("one thread runs everything: while a hook runs, nobody can ask")
    gate = Gate(str(tmp_path / "gate"))
    top = bench.tree([bench.spec("a", hooks={"kill": partial(wait_for, gate)}), bench.spec("b")])
    killed = bench.system.kill(top)
    bench.until(lambda: "a kill parent" in bench.notes.lines())
    for request in (StartChild(bench.spec("c")), TerminateChild("b"), WhichChildren()):
        with pytest.raises((SupervisorEndingError, ComponentDestroyedError)):
            top.ask(request, timeout=LIMIT)
    gate.open()
    killed.result(LIMIT)
    with pytest.raises(ComponentDestroyedError):
        top.ask(WhichChildren(), timeout=LIMIT)
    assert bench.system.tree().children == ()


def test_a_supervisor_cannot_be_paused(bench: TreeBench) -> None:
    """It would have to say what becomes of faults meanwhile."""
    top = bench.tree(bench.specs("a"))
    with pytest.raises(ArgumentError, match="is a supervisor, which cannot be paused"):
        bench.system.stop(top).result(LIMIT)
    assert bench.states() == {"a": (RUNNING, 1)}


def test_a_child_may_ask_its_own_supervisor(bench: TreeBench) -> None:
    """Also from a process of its own: specs, trees, refs, answers and errors travel."""
    top = bench.tree(bench.specs("ab"))
    child = bench.child("a")

    def ask(request: Any) -> Any:
        return child.ask(Do(ask_for, (top, request)), timeout=LIMIT)

    tree = ComponentSupervisor(bench.specs("xy"), "one_for_all", policy={KeyError: "end"})
    assert ask(StartChild(ChildSpec(id="t", factory=tree))) == bench.child("t")
    assert ask(StartChild(bench.spec("c"))) == bench.child("c")
    with pytest.raises(ChildAlreadyStartedError, match="'c', which is running"):
        ask(StartChild(bench.spec("c")))
    assert ask(TerminateChild("c")) is None
    with pytest.raises(ChildNotFoundError, match="'z'"):
        ask(TerminateChild("z"))
    infos = ask(WhichChildren())
    assert [(info.id, info.state) for info in infos] == [
        *(("a", RUNNING), ("b", RUNNING)),
        *(("t", RUNNING), ("c", STOPPED)),
    ]
    assert [info.ref for info in infos] == [child, bench.child("b"), bench.child("t"), None]
    assert ask(CountChildren()).supervisors == 1
    bench.fail("t/x")
    bench.stands({"x": (RUNNING, 2), "y": (RUNNING, 2)}, "t")
