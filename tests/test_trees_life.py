"""How do children of supervisors live and end: in which order and time, told by which events?

Expected values are derived from OTP's documentation of `supervisor`, from the rules S-02 to S-23,
and from the behaviours named in the docstrings, never from what comes out.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kompyct import (
    Backoff,
    ChildCounts,
    ChildSpec,
    ComponentSupervisor,
    CountChildren,
    DeleteChild,
    RestartChild,
    RestartLimit,
    StartChild,
    State,
    TerminateChild,
)
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    ChildAlreadyStartedError,
    ComponentCreateError,
    ComponentDestroyedError,
    ComponentFaultError,
    RestartingError,
    RestartLimitError,
)
from kompyct.events import (
    Abandoned,
    ComponentEnded,
    ComponentFaulted,
    ComponentRecovered,
    CreateFailed,
    DeadLetters,
    Escalated,
    FallbackApplied,
    FaultIgnored,
    ProcessForced,
    RestartFailed,
    RestartLimitReached,
)
from tests.conftest import LIMIT
from tests.every_backend import gate, notes
from tests.every_tree import (
    MakeBench,
    backend,
    bench,
    make_bench,
    no_bugs,
    process_bench,
    processes,
    reached,
    switch,
)
from tests.process.components import Do, Gate, Get, echo, pid
from tests.process.conftest import spare_of
from tests.tree_bench import PLENTY, TreeBench
from tests.tree_deeds import (
    add_hook,
    ask_supervisor,
    go_on,
    ignores,
    note,
    note_after,
    raises,
    save,
    save_late,
    wait_in_handler,
)
from tests.tree_parts import Switch, fail_if, fail_once, raise_it

__all__ = [
    "backend",
    "bench",
    "gate",
    "make_bench",
    "no_bugs",
    "notes",
    "process_bench",
    "processes",
    "reached",
    "switch",
]

RUNNING = "running"
STOPPED = "stopped"
RESTARTING = "restarting"

FORCE = 0.5  # seconds a child has that was told to end without any hook, see `offspring`
SLACK = 1.5  # seconds that a loaded machine may add

NO_HANG = "nothing hangs in virtual time: the handler would hold up the test itself"


def do(ref: Any, action: Callable[..., object], *arguments: Any) -> Any:
    """Have a component do something, and wait for what that returns."""
    return ref.ask(Do(action, arguments), timeout=LIMIT)


def below(children: Any, strategy: Any = "one_for_one", **options: Any) -> ComponentSupervisor:
    """A supervisor for a spec."""
    options.setdefault("restart_limit", PLENTY)
    return ComponentSupervisor(children, strategy, **options)


# -- the window, and what is above ---------------------------------------------------------------


def test_the_window_of_a_supervisor_does_not_look_at_the_wall_clock(
    bench: TreeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B-49: set forward by an hour, a restart within 60 s counts; set back, an older does not."""
    wall = time.time
    children = [
        bench.spec("long", factory=below(bench.specs("a"), restart_limit=RestartLimit(1, 60.0))),
        bench.spec("short", factory=below(bench.specs("b"), restart_limit=RestartLimit(1, 0.1))),
    ]
    bench.tree(children)
    bench.fail("long/a")
    bench.fail("short/b")
    bench.up("long/a", 2)
    bench.up("short/b", 2)
    monkeypatch.setattr(time, "time", lambda: wall() + 3600)
    bench.fail("long/a")
    bench.event_of(RestartLimitReached, "long")
    monkeypatch.setattr(time, "time", lambda: wall() - 3600)
    bench.pass_time(0.12)
    bench.fail("short/b")
    bench.up("short/b", 3)
    assert not bench.of(RestartLimitReached, "short")


def test_the_end_of_a_supervisor_is_a_fault_to_the_one_above(bench: TreeBench) -> None:
    """B-50: which applies its own strategy: with one_for_all the sibling of the supervisor, and
    with it all children of that, come back."""
    sub = bench.spec("s", factory=below(bench.specs("xy"), restart_limit=RestartLimit(0, 5.0)))
    bench.tree([*bench.specs("a"), sub], "one_for_all")
    bench.fail("s/y")
    bench.stands({"a": (RUNNING, 2), "s": (RUNNING, 2)})
    bench.stands({"x": (RUNNING, 2), "y": (RUNNING, 2)}, "s")
    fault = bench.event_of(ComponentFaulted, "s")
    assert (fault.error, fault.incarnation) == ("RestartLimitError", 1)
    assert bench.infos()["s"].restarts == 1


def test_at_the_root_the_end_of_a_supervisor_stops_the_system_with_the_cause(
    make_bench: MakeBench,
) -> None:
    """B-50: `wait()` raises it, and so does leaving `with`; its causes lead to the first fault."""
    bench = make_bench()
    sub = bench.spec("s", factory=below(bench.specs("x"), restart_limit=RestartLimit(0, 5.0)))
    waited: Any = None
    with pytest.raises(RestartLimitError, match="top") as left, bench.system:  # noqa: PT012
        bench.tree([*bench.specs("a"), sub], restart_limit=RestartLimit(0, 5.0))
        bench.fail("s/x", ValueError("the first"))
        with pytest.raises(RestartLimitError) as waited:
            bench.system.wait(LIMIT)
    assert left.value is waited.value
    middle = left.value.__cause__
    assert isinstance(middle, RestartLimitError)
    assert isinstance(middle.__cause__, ValueError)
    assert str(middle.__cause__) == "the first"
    assert bench.system.tree().children == ()


# -- starting ------------------------------------------------------------------------------------


def test_children_start_in_order_each_when_the_one_before_has_started(bench: TreeBench) -> None:
    """B-55: also when the start of one takes its time, and that of a tree below."""
    slow = {"init": partial(note, line="init"), "start": partial(note_after, "begun", 0.02)}
    inner = below([bench.spec("c", hooks=slow), bench.spec("d", hooks=slow)])
    children = [
        bench.spec("a", hooks=slow),
        bench.spec("b", hooks=slow),
        bench.spec("s", factory=inner),
        bench.spec("e", hooks=slow),
    ]
    bench.tree(children)
    expected = [f"{name} {line}" for name in "abcde" for line in ("init", "begun", "start")]
    assert bench.lines() == expected


@pytest.mark.parametrize("hook", ["init", "start"])
def test_if_a_child_fails_at_the_first_start_those_before_it_end_in_reverse(
    bench: TreeBench, switch: Switch, hook: str
) -> None:
    """B-56: starting the supervisor raises with its cause, and nothing is left: neither names nor
    children; and the system goes on."""
    switch.on()
    hooks = {hook: partial(fail_if, switch)}
    children = [*bench.specs("ab"), bench.spec("c", hooks=hooks), *bench.specs("d")]
    top = bench.create_tree(below(children))
    with pytest.raises(ComponentFaultError) as raised:
        bench.system.start(top).result(LIMIT)
    assert isinstance(raised.value.__cause__, OSError)
    assert bench.lines() == ["a start", "b start", "b kill parent", "a kill parent"]
    bench.gone()
    assert [bench.child(name) for name in "abcd"] == [None] * 4
    assert not top.is_alive
    switch.off()
    bench.run_tree(below(children))
    bench.stands(dict.fromkeys("abcd", (RUNNING, 1)))


def test_bad_declarations_are_refused_before_any_child_starts(bench: TreeBench) -> None:
    """B-57: two of one id, no id, no factory, bad values; in a tree, below, and one by one."""
    good = bench.spec("a")
    bad: list[tuple[type[Exception], Callable[[], object]]] = [
        (ArgumentError, lambda: below([good, bench.spec("a")])),
        (ArgumentError, lambda: below([good, ChildSpec(factory=bench.leaf("b"))])),
        (ArgumentTypeError, lambda: below([good, ChildSpec(id="b", factory=None)])),  # type: ignore[arg-type]
        (TypeError, lambda: below([good, ChildSpec(id="b")])),  # type: ignore[call-arg]
        (ArgumentError, lambda: below([good, bench.spec("b", shutdown=-1.0)])),
        (ArgumentError, lambda: below([good, bench.spec("b/c")])),
        (ArgumentError, lambda: below([good], "one_for_none")),
        (ArgumentTypeError, lambda: below([good], restart_limit=3)),
        (ArgumentError, lambda: below([good, bench.spec("b", restart="always")])),
        (ArgumentError, lambda: below([good, bench.spec("s", factory=below([good, good]))])),
    ]
    for kind, declare in bad:
        with pytest.raises(kind):
            bench.tree([*bench.specs("x"), bench.spec("y", factory=declare())])
    top = bench.tree([good])
    with pytest.raises(ChildAlreadyStartedError):
        top.ask(StartChild(bench.spec("a")), timeout=LIMIT)
    with pytest.raises(ArgumentTypeError):
        top.ask(StartChild("b"), timeout=LIMIT)  # type: ignore[arg-type]
    bench.stands({"a": (RUNNING, 1)})
    assert bench.lines() == ["a start"]


def test_a_constructor_that_raises_leaves_nothing(bench: TreeBench, switch: Switch) -> None:
    """B-60: no child entry, no name, no component, no thread, no process; one event."""
    top = bench.tree(bench.specs("a"))
    switch.on()
    wrong = bench.spec("b", hooks={"init": partial(fail_if, switch)})
    if bench.backend == "process":
        spare_of(bench)  # it is one of those that are counted
    before = threading.active_count()
    children = _children_of_this_process()
    for _ in range(5):
        with pytest.raises(ComponentCreateError) as raised:
            top.ask(StartChild(wrong), timeout=LIMIT)
        assert isinstance(raised.value.__cause__, OSError)
    assert list(bench.infos()) == ["a"]
    assert bench.child("b") is None
    assert top.ask(CountChildren()) == ChildCounts(1, 1, 0, 1, 1, 0, 0)
    (node,) = bench.system.tree().children
    assert [child.name for child in node.children] == ["a"]
    assert len(bench.of(CreateFailed, "b")) == 5
    bench.until(lambda: threading.active_count() <= before + 1)  # the watchdog may have come
    if bench.backend == "process":  # else those there are, are of other systems
        bench.until(lambda: _children_of_this_process() <= children)
    switch.off()
    assert top.ask(StartChild(wrong), timeout=LIMIT) == bench.child("b")


def _children_of_this_process() -> int:
    """How many processes this one has begotten, and theirs."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(entry)] = int(parent)
    found = {os.getpid()}
    while True:
        more = {one for one, parent in parents.items() if parent in found} - found
        if not more:
            return len(found) - 1
        found |= more


# -- ending --------------------------------------------------------------------------------------


def test_a_child_that_ignores_its_end_holds_its_supervisor_no_longer_than_it_may(
    bench: TreeBench, gate: Gate, reached: Gate
) -> None:
    """B-58: its time, then force, then it is over. A thread that hangs is left behind and
    reported, and what it still does is ignored; a process is gone.
    """
    if bench.manual:
        pytest.skip(NO_HANG)
    top = bench.tree([*bench.specs("a"), bench.spec("b", shutdown=0.2)])
    hung = bench.child("b")
    process = do(hung, pid)
    reply = hung.ask(Do(save_late, (reached, gate, "late")), block=False)
    bench.until(lambda: reached.is_open)
    begun = time.monotonic()
    bench.system.kill(top).result(LIMIT)
    took = time.monotonic() - begun
    assert 0.2 <= took <= 0.2 + FORCE + SLACK
    bench.gone()
    assert bench.system.tree().children == ()
    assert bench.lines() == ["a start", "b start", "a kill parent"]
    if bench.backend == "process":
        assert len(bench.of(ProcessForced, "b")) == 1
        assert not bench.of(Abandoned, "b")
        bench.until(lambda: not os.path.exists(f"/proc/{process}"))  # it is reaped a little later
        with pytest.raises((ComponentFaultError, ComponentDestroyedError)):
            reply.result(LIMIT)
        return
    assert len(bench.of(Abandoned, "b")) == 1
    with pytest.raises(ComponentDestroyedError):
        hung.ask(Get(), timeout=LIMIT)
    gate.open()
    bench.until(lambda: not hung.is_alive)
    with pytest.raises(ComponentDestroyedError):  # its save was refused (S-06)
        reply.result(LIMIT)
    assert bench.lines() == []


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_children_end_in_reverse_order_each_gone_before_the_next_is_asked(
    bench: TreeBench, strategy: str
) -> None:
    """B-59: also those of a tree below, and when each takes its time."""
    slow = {"kill": partial(note_after, "killed", 0.02)}
    inner = below([bench.spec(name, hooks=slow) for name in "cd"], strategy)
    children = [
        bench.spec("a", hooks=slow),
        bench.spec("b", hooks=slow),
        bench.spec("s", factory=inner),
        bench.spec("e", hooks=slow),
    ]
    top = bench.tree(children, strategy)
    bench.lines()
    bench.system.kill(top).result(LIMIT)
    expected = [f"{name} {line}" for name in "edcba" for line in ("kill parent", "killed")]
    assert bench.lines() == expected
    wanted = [*"edc", "s", *"ba", bench.top]
    bench.until(lambda: len(bench.events.of(ComponentEnded)) >= len(wanted))
    ended = [event.path.rpartition("/")[2] for event in bench.events.of(ComponentEnded)]
    assert ended == wanted


def test_the_last_hook_of_the_old_incarnation_is_over_before_the_first_of_the_new(
    bench: TreeBench,
) -> None:
    """B-61: of a sibling in a group restart, and of a child that has ended by itself."""
    hooks = {
        "init": partial(note, line="init"),
        "kill": partial(note_after, "killed", 0.05),
    }
    bench.tree([*bench.specs("a"), bench.spec("b", hooks=hooks)], "one_for_all")
    bench.lines()
    bench.fail("a")
    bench.stands({"a": (RUNNING, 2), "b": (RUNNING, 2)})
    assert bench.lines() == ["b kill sibling", "b killed", "a start", "b init", "b start"]
    bench.quit("b")
    bench.stands({"a": (RUNNING, 3), "b": (RUNNING, 3)})
    lines = bench.lines()
    assert [line for line in lines if line[0] == "b"] == [
        "b kill itself", "b killed", "b init", "b start",
    ]  # fmt: skip
    assert lines.index("b killed") < lines.index("a start") < lines.index("b init")


def test_of_a_brutally_killed_supervisor_no_child_runs_a_hook(bench: TreeBench) -> None:
    """B-62: told by `kill(brutal=True)`, and by `shutdown="brutal"` in the specs."""
    top = bench.tree([*bench.specs("a"), bench.spec("s", factory=below(bench.specs("x")))])
    bench.lines()
    bench.system.kill(top, brutal=True).result(LIMIT)
    assert bench.lines() == []
    bench.gone()
    brutal = bench.spec("s", factory=below(bench.specs("x")), shutdown="brutal")
    top = bench.tree([bench.spec("a", shutdown="brutal"), brutal, *bench.specs("b")])
    bench.lines()
    bench.system.kill(top).result(LIMIT)
    assert bench.lines() == ["b kill parent"]
    assert bench.system.tree().children == ()


@pytest.mark.parametrize("how", ["kill", "terminate", "limit"])
def test_in_an_orderly_end_of_a_supervisor_each_child_is_told_that(
    bench: TreeBench, how: str
) -> None:
    """B-62: each child's `on_kill` runs, and its `ending` is PARENT: when the supervisor is
    killed, terminated as a child itself, or at its limit."""
    limit = RestartLimit(0, 5.0)
    inner = bench.spec("s", factory=below(bench.specs("xyz"), restart_limit=limit))
    top = bench.tree([inner])
    bench.lines()
    if how == "kill":
        bench.system.kill(bench.child("s")).result(LIMIT)
    elif how == "terminate":
        top.ask(TerminateChild("s"), timeout=LIMIT)
    else:
        bench.fail("s/x")
        bench.up("s", 2)
        assert bench.lines()[:2] == ["z kill parent", "y kill parent"]
        return
    assert bench.lines() == ["z kill parent", "y kill parent", "x kill parent"]


# -- significant children ------------------------------------------------------------------------


def significant(bench: TreeBench, strategy: str = "one_for_one") -> Any:
    """The supervisor `s` below `top`, whose child `x` is significant."""
    children = [*bench.specs("a"), bench.spec("x", restart="transient", significant=True)]
    inner = below([*children, *bench.specs("b")], strategy, auto_shutdown="any_significant")
    return bench.tree([bench.spec("s", factory=inner, restart="transient")])


def test_the_end_of_a_significant_child_by_itself_ends_its_supervisor(bench: TreeBench) -> None:
    """B-63: it stops the rest in reverse order, and then itself; that is a normal end, so a
    transient supervisor stays down."""
    significant(bench)
    bench.lines()
    bench.quit("s/x")
    bench.gone("s")
    assert bench.lines() == ["x kill itself", "b kill parent", "a kill parent"]
    bench.stands({"s": (STOPPED, 0)})
    assert [bench.child(f"s/{name}") for name in "axb"] == [None] * 3


def test_the_end_of_a_significant_child_that_was_told_to_is_not_that_of_its_supervisor(
    bench: TreeBench,
) -> None:
    """B-63: neither by TerminateChild, nor by `kill`, nor by the restart of a sibling."""
    significant(bench, "one_for_all")
    inner = bench.child("s")
    bench.fail("s/a")
    bench.stands(dict.fromkeys("axb", (RUNNING, 2)), "s")
    inner.ask(TerminateChild("x"), timeout=LIMIT)
    bench.stands({"a": (RUNNING, 2), "x": (STOPPED, 0), "b": (RUNNING, 2)}, "s")
    inner.ask(RestartChild("x"), timeout=LIMIT)
    bench.system.kill(bench.child("s/x")).result(LIMIT)
    bench.stands({"a": (RUNNING, 2), "x": (STOPPED, 0), "b": (RUNNING, 2)}, "s")
    assert inner.is_alive


# -- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["own", "supervisor"])
def test_when_the_budget_is_exhausted_tells_are_undelivered_and_asks_fail(
    make_bench: MakeBench, gate: Gate, reached: Gate, whose: str
) -> None:
    """B-67: with its own budget exhausted as with its supervisor's limit reached. Three tells and
    an ask wait behind the message that faults; all four are accounted for, and later ones."""
    letters: list[tuple[str, Any]] = []
    bench = make_bench(on_undelivered=lambda path, message: letters.append((path, message)))
    zero = RestartLimit(0, 5.0)
    spec = bench.spec("x", budget=zero if whose == "own" else None)
    limit = zero if whose == "supervisor" else PLENTY
    inner = bench.spec("s", factory=below([spec], restart_limit=limit), restart="temporary")
    bench.tree([inner])
    ref = bench.child("s/x")
    path = ref.path
    if not bench.manual:  # under which nothing is handled before the test waits
        ref.tell(Do(wait_in_handler, (reached, gate)))
        bench.until(lambda: reached.is_open)
    ref.tell(Do(raise_it, (ValueError("as planned"),)))
    for number in range(3):
        ref.tell(Do(echo, (number,)))
    reply = ref.ask(Get(), block=False)
    gate.open()
    with pytest.raises(RestartingError):  # at the fault nobody has looked at the limit yet
        reply.result(LIMIT)
    bench.until(lambda: len(letters) >= 3)
    bench.until(lambda: not ref.is_alive)
    ref.tell("late")
    bench.until(lambda: len(letters) >= 4)
    assert letters == [*((path, Do(echo, (number,))) for number in range(3)), (path, "late")]
    with pytest.raises(ComponentDestroyedError):
        ref.ask(Get(), timeout=LIMIT)
    reached_by = "s/x" if whose == "own" else "s"
    assert bench.event_of(RestartLimitReached, reached_by).max_restarts == 0
    assert sum(event.count for event in bench.of(DeadLetters, "s/x")) == 4


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_a_child_that_asks_its_supervisor_while_that_ends_gets_an_error(
    bench: TreeBench, how: str
) -> None:
    """B-68: at once, not after its timeout, so that nothing waits for itself: whether the
    supervisor ends for good, or goes down with a sibling and comes back."""
    inner = bench.spec("s", factory=below(bench.specs("x")))
    top = bench.tree([*bench.specs("a"), inner], "one_for_all")
    asking = partial(ask_supervisor, bench.child("s"), LIMIT)
    do(bench.child("s/x"), add_hook, "kill", asking)
    bench.lines()
    begun = time.monotonic()
    if how == "killed":
        bench.system.kill(top).result(LIMIT)
        expected = ["x kill parent", "x got SupervisorEndingError", "a kill parent"]
        assert bench.lines() == expected
    else:
        bench.fail("a")
        bench.stands({"a": (RUNNING, 2), "s": (RUNNING, 2)})
        expected = ["x kill parent", "x got SupervisorEndingError", "a start", "x start"]
        assert bench.lines() == expected
    assert time.monotonic() - begun < LIMIT


# -- names ---------------------------------------------------------------------------------------


def test_a_path_leads_to_the_new_incarnation_after_a_restart(bench: TreeBench) -> None:
    """B-72: its own, of a sibling, and of its supervisor; refs stay the same."""
    inner = bench.spec("s", factory=below(bench.specs("xy"), "one_for_all"))
    bench.tree([*bench.specs("a"), inner], "one_for_all")
    refs = {path: bench.child(path) for path in ("a", "s", "s/x", "s/y")}
    bench.fail("s/x")
    bench.stands({"x": (RUNNING, 2), "y": (RUNNING, 2)}, "s")
    bench.fail("a")
    bench.stands({"a": (RUNNING, 2), "s": (RUNNING, 2)})
    bench.stands({"x": (RUNNING, 3), "y": (RUNNING, 3)}, "s")
    for path, ref in refs.items():
        assert bench.child(path) == ref
        assert ref.path == f"{bench.top}/{path}"
        assert ref.is_alive
    for path in ("a", "s/x", "s/y"):
        assert do(refs[path], echo, path) == path


@pytest.mark.parametrize("how", ["terminate", "kill", "quit", "end", "unrecoverable", "budget"])
def test_a_path_is_free_after_a_final_end(bench: TreeBench, how: str) -> None:
    """B-72: the next child of that name is another component: the old ref reaches it never."""
    budget = RestartLimit(0, 5.0) if how == "budget" else None
    top = bench.tree([bench.spec("a", restart="transient", budget=budget), *bench.specs("b")])
    old = bench.child("a")
    if how == "terminate":
        top.ask(TerminateChild("a"), timeout=LIMIT)
    elif how == "kill":
        bench.system.kill(old).result(LIMIT)
    elif how == "quit":
        bench.quit("a")
    elif how == "end":
        do(old, save, 1, ignores)
        bench.fail("a")
    else:
        bench.fail("a", BufferError("never again") if how == "unrecoverable" else None)
    bench.gone("a")
    bench.stands({"a": (STOPPED, 0), "b": (RUNNING, 1)})
    assert not old.is_alive
    new = top.ask(RestartChild("a"), timeout=LIMIT)
    assert new == bench.child("a") != old
    assert new.incarnation == 1
    with pytest.raises(ComponentDestroyedError):
        old.ask(Get(), timeout=LIMIT)
    top.ask(TerminateChild("a"), timeout=LIMIT)
    top.ask(DeleteChild("a"), timeout=LIMIT)
    assert top.ask(StartChild(bench.spec("a")), timeout=LIMIT) == bench.child("a") != new


# -- events and listings -------------------------------------------------------------------------


def kinds(bench: TreeBench, path: str) -> list[str]:
    """The types of events about a component below `top` by now, but for dead letters."""
    bench.until(lambda: _is_quiet(bench))
    events = [event for event in bench.events if event.path == f"{bench.top}/{path}"]
    return [type(event).__name__ for event in events if not isinstance(event, DeadLetters)]


def _is_quiet(bench: TreeBench) -> bool:
    """Whether the root supervisor, which publishes events, has nothing more to do."""
    bench.settle()
    root = bench.system._runtime.supervisor
    return not root.box and root.backlog is None and not root.flag.locked()


def test_each_fault_restart_and_end_is_one_event(bench: TreeBench, switch: Switch) -> None:
    """B-89: of a fault, of a restart that fails, of siblings, of a fallback, and of the ends."""
    hooks = {"start": partial(fail_once, switch)}
    top = bench.tree([bench.spec("a", hooks=hooks), *bench.specs("b")], "one_for_all")
    identities = {name: bench.infos()[name].ref for name in "ab"}
    switch.on()
    do(bench.child("b"), save, 1, go_on)
    bench.fail("a", KeyError("first"))
    bench.stands({"a": (RUNNING, 3), "b": (RUNNING, 2)})
    assert kinds(bench, "a") == [
        "ComponentFaulted", "RestartFailed", "ComponentFaulted", "ComponentRecovered",
    ]  # fmt: skip
    first, second = bench.of(ComponentFaulted, "a")
    assert (first.error, first.phase, first.incarnation, first.attempt) == (
        "KeyError", "receive", 1, 1,
    )  # fmt: skip
    assert (second.error, second.phase, second.incarnation) == ("OSError", "start", 2)
    (failed,) = bench.of(RestartFailed, "a")
    assert (failed.error, failed.phase, failed.incarnation) == ("OSError", "start", 2)
    (recovered,) = bench.of(ComponentRecovered, "a")
    assert (recovered.error, recovered.incarnation) == ("OSError", 3)
    assert first.component_id == second.component_id == failed.component_id
    assert recovered.component_id == first.component_id
    assert kinds(bench, "b") == ["ComponentRecovered"]
    (sibling,) = bench.of(ComponentRecovered, "b")
    assert (sibling.kind, sibling.error, sibling.incarnation) == (
        "sibling", "SiblingFaultError", 2,
    )  # fmt: skip
    do(bench.child("b"), save, 1, raises)
    bench.fail("b")
    bench.stands({"a": (RUNNING, 3), "b": (STOPPED, 0)})
    assert kinds(bench, "b")[1:] == ["ComponentFaulted", "FallbackApplied", "ComponentEnded"]
    (fallback,) = bench.of(FallbackApplied, "b")
    assert (fallback.error, fallback.recovery_error) == ("ValueError", "LookupError")
    (ended,) = bench.of(ComponentEnded, "b")
    assert ended.error == "ValueError"
    bench.system.kill(top).result(LIMIT)
    assert kinds(bench, "a")[4:] == ["ComponentEnded"]
    assert len(bench.of(ComponentEnded)) == 1
    assert all(ref is not None and not ref.is_alive for ref in identities.values())


def test_limits_reached_are_one_event_with_their_counters(bench: TreeBench) -> None:
    """B-89: of a child's own budget, and of a supervisor: with the error that was too much."""
    limit, budget = RestartLimit(1, 5.0), RestartLimit(1, 4.0)
    inner = below([bench.spec("x", budget=budget), *bench.specs("y")], restart_limit=limit)
    bench.tree([bench.spec("s", factory=inner, restart="transient")])
    bench.fail("s/x", KeyError("one"))
    bench.up("s/x", 2)
    bench.fail("s/x", IndexError("two"))
    bench.gone("s/x")
    assert kinds(bench, "s/x") == [
        "ComponentFaulted", "ComponentRecovered", "ComponentFaulted", "RestartLimitReached",
        "ComponentEnded",
    ]  # fmt: skip
    (reached,) = bench.of(RestartLimitReached, "s/x")
    assert (reached.error, reached.max_restarts, reached.within) == ("IndexError", 1, 4.0)
    assert reached.incarnation == 2
    (ended,) = bench.of(ComponentEnded, "s/x")
    assert (ended.error, ended.restarts) == ("IndexError", 1)
    bench.fail("s/y", OSError("three"))
    bench.gone("s")
    assert kinds(bench, "s/y") == ["ComponentFaulted", "ComponentEnded"]
    assert kinds(bench, "s") == ["RestartLimitReached", "ComponentFaulted", "ComponentEnded"]
    (reached,) = bench.of(RestartLimitReached, "s")
    assert (reached.error, reached.max_restarts, reached.within) == ("OSError", 1, 5.0)
    (ended,) = bench.of(ComponentEnded, "s")
    assert ended.restarts == 1


def test_the_end_of_a_supervisor_at_its_limit_names_the_error(bench: TreeBench) -> None:
    """B-89: as that of a worker does."""
    inner = below(bench.specs("x"), restart_limit=RestartLimit(0, 5.0))
    bench.tree([bench.spec("s", factory=inner, restart="transient")])
    bench.fail("s/x")
    bench.gone("s")
    assert bench.event_of(ComponentEnded, "s/x").error == "ValueError"
    assert bench.event_of(ComponentEnded, "s").error == "RestartLimitError"


def test_what_is_ignored_or_escalated_is_one_event(bench: TreeBench) -> None:
    """B-89: and the supervisor that an escalated fault ends has it as its own fault, once."""
    inner = below([*bench.specs("x"), bench.spec("y", policy={ValueError: "escalate"})])
    bench.tree([bench.spec("s", factory=inner)])
    do(bench.child("s/x"), save, 1, ignores)
    bench.fail("s/x")
    bench.gone("s/x")
    assert kinds(bench, "s/x") == ["ComponentFaulted", "FaultIgnored", "ComponentEnded"]
    assert bench.of(FaultIgnored, "s/x")[0].error == "ValueError"
    bench.fail("s/y")
    bench.up("s", 2)
    assert bench.of(Escalated, "s/y")[0].error == "ValueError"
    assert kinds(bench, "s") == ["ComponentFaulted", "ComponentRecovered"]
    assert len(bench.of(Escalated, "s/y")) == len(bench.of(ComponentFaulted, "s/y")) == 1
    assert bench.of(ComponentFaulted, "s")[0].error == "ValueError"


def test_the_listing_shows_each_child_and_the_counts_agree(
    bench: TreeBench, gate: Gate, reached: Gate
) -> None:
    """B-90: id, ref, state, incarnation, restarts in the window; of running, restarting, stopped,
    added and deleted ones, and of a supervisor among them."""
    inner = bench.spec("s", factory=below(bench.specs("x")))
    top = bench.tree([*bench.specs("ab"), inner, bench.spec("c", restart="transient")])
    for incarnation in (2, 3):
        bench.fail("a")
        bench.up("a", incarnation)
    top.ask(TerminateChild("b"), timeout=LIMIT)
    bench.quit("c")
    bench.gone("c")
    bench.until(lambda: bench.infos()["c"].state == STOPPED)
    infos = bench.infos()
    assert list(infos) == ["a", "b", "s", "c"]
    looks = [
        (info.state, info.incarnation, info.restarts, info.is_supervisor)
        for info in infos.values()
    ]
    assert looks == [
        (RUNNING, 3, 2, False),
        (STOPPED, 0, 0, False),
        (RUNNING, 1, 0, True),
        (STOPPED, 0, 0, False),
    ]
    refs = [info.ref for info in infos.values()]
    assert refs == [bench.child("a"), None, bench.child("s"), None]
    assert all(infos[name].spec.id == name for name in infos if name is not None)
    assert top.ask(CountChildren()) == ChildCounts(4, 2, 1, 3, 2, 0, 2)
    top.ask(DeleteChild("b"), timeout=LIMIT)
    top.ask(StartChild(bench.spec("d")), timeout=LIMIT)
    assert list(bench.infos()) == ["a", "s", "c", "d"]
    counts = top.ask(CountChildren())
    assert counts == ChildCounts(4, 3, 1, 3, 3, 0, 1)
    (node,) = bench.system.tree().children
    assert {child.name: child.status for child in node.children} == dict.fromkeys("asd", RUNNING)


def test_a_child_that_waits_for_its_restart_is_listed_as_restarting(bench: TreeBench) -> None:
    """B-90: during the delay of a backoff; state, and counts."""
    top = bench.tree([bench.spec("a", backoff=Backoff(min=0.2, jitter=0.0)), *bench.specs("b")])
    bench.fail("a")
    bench.until(lambda: bench.infos()["a"].state == RESTARTING)
    assert top.ask(CountChildren()) == ChildCounts(2, 1, 0, 2, 1, 1, 0)
    info = bench.infos()["a"]
    assert (info.incarnation, info.restarts, info.ref) == (1, 1, bench.child("a"))
    bench.up("a", 2)
    assert top.ask(CountChildren()) == ChildCounts(2, 2, 0, 2, 2, 0, 0)
    assert bench.child("a").state is State.ACTIVE
