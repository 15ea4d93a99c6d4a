"""Does the state of children survive, whatever their supervisors do with them?

Expected values are derived from the rules S-06 to S-12, S-16 and S-25 to S-27, from DESIGN.md, and
from OTP's documentation of `supervisor`, never from what comes out. What is found is noted in the
docstring of each test.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kompyct import (
    Backoff,
    ComponentSupervisor,
    FaultContext,
    FaultKind,
    RecoveryHandler,
    RestartLimit,
    StartChild,
    TerminateChild,
)
from kompyct.errors import (
    ComponentCreateError,
    ComponentDestroyedError,
    ComponentFaultError,
    ProcessLostError,
    RestartingError,
    RestartLimitError,
    ShutdownTimeoutError,
    SiblingFaultError,
    SupervisorEndingError,
    SystemShutdownError,
)
from kompyct.events import (
    Abandoned,
    ComponentEnded,
    ComponentFaulted,
    ComponentRecovered,
    FallbackApplied,
    ProcessForced,
    RestartRefused,
)
from kompyct.lifecycle import Status
from kompyct.store.snapshots import MemoryStore
from kompyct.testing import hang
from tests.conftest import LIMIT
from tests.every_backend import gate, hurried_pool, notes
from tests.every_tree import (
    FORCE,
    MakeBench,
    backend,
    bench,
    hurried,
    make_bench,
    no_bugs,
    process_bench,
    processes,
    reached,
)
from tests.process.components import FAULTS, Do, Gate, Get, Notes, echo, pid
from tests.tree_bench import PLENTY, TreeBench
from tests.tree_deeds import (
    add_hook,
    answers_nothing,
    ask_sibling_to_quit,
    ends,
    escalates,
    go_on,
    ignores,
    note,
    note_after,
    raises,
    restarts,
    save,
    steps_back,
    wait_at,
    wait_in_handler,
    waits,
)
from tests.tree_parts import Leaf, quit_now, raise_it

__all__ = [
    "backend",
    "bench",
    "gate",
    "hurried",
    "hurried_pool",
    "make_bench",
    "no_bugs",
    "notes",
    "process_bench",
    "processes",
    "reached",
]

RUNNING = "running"
STOPPED = "stopped"
LOST = FaultKind.PROCESS_LOST
SHUTDOWN = FaultKind.SHUTDOWN
ROOT = Path(__file__).parent.parent

SLACK = 1.5  # seconds that a loaded machine may add
NO_HANG = "nothing hangs in virtual time: it would hold up the test itself"

OTHERS: set[threading.Thread] = set()
"""The threads that were there before a test: those of tests whose handlers hang for ever."""


@pytest.fixture(autouse=True)
def others() -> None:
    """Know which threads are not the test's, and of no fault."""
    FAULTS.clear()
    OTHERS.clear()
    OTHERS.update(threading.enumerate())


def do(ref: Any, action: Callable[..., object], *arguments: Any) -> Any:
    """Have a component do something, and wait for what that returns."""
    return ref.ask(Do(action, arguments), timeout=LIMIT)


def state(ref: Any) -> Any:
    """What a component holds."""
    return ref.ask(Get(), timeout=LIMIT)


def below(children: Any, strategy: Any = "one_for_one", **options: Any) -> ComponentSupervisor:
    """A supervisor for a spec."""
    options.setdefault("restart_limit", PLENTY)
    return ComponentSupervisor(children, strategy, **options)


def stands(bench: TreeBench, expected: dict[str, tuple[str, int]], path: str = "") -> None:
    """Wait until the children are so; their supervisor may be going down meanwhile."""

    def are_so() -> bool:
        try:
            return list(bench.states(path).items()) == list(expected.items())
        except (SupervisorEndingError, RestartingError):
            return False

    bench.until(are_so)


def faults(bench: TreeBench, path: str) -> list[FaultContext[Any]]:
    """What the recovery function of a component below `top` was called with."""
    return FAULTS.get(f"{bench.top}/{path}", [])


# -- the recovery function decides first ---------------------------------------------------------


@pytest.mark.parametrize("answer", [go_on, ends, ignores, escalates], ids=lambda it: it.__name__)
def test_the_recovery_function_decides_before_the_spec(
    bench: TreeBench, answer: Callable[..., RecoveryHandler]
) -> None:
    """S-07: of a permanent child, which without a function would be restarted by its factory."""
    bench.tree([bench.spec("s", factory=below(bench.specs("xy")))])
    do(bench.child("s/x"), save, "saved", answer)
    bench.fail("s/x")
    if answer is go_on:
        bench.up("s/x", 2)
        assert state(bench.child("s/x")) == "saved"
    elif answer is escalates:
        bench.up("s", 2)
        stands(bench, {"x": (RUNNING, 2), "y": (RUNNING, 2)}, "s")
    else:
        bench.gone("s/x")
        stands(bench, {"x": (STOPPED, 0), "y": (RUNNING, 1)}, "s")
    assert bench.infos()["s"].incarnation == (2 if answer is escalates else 1)
    (fault,) = faults(bench, "s/x")[:1]
    assert (fault.kind, fault.snapshot, fault.attempt) == (FaultKind.EXCEPTION, "saved", 1)


def test_the_answer_restart_of_a_temporary_child_is_refused_with_an_event(
    bench: TreeBench,
) -> None:
    """S-07: it never comes back, whatever its recovery function wants."""
    bench.tree([*bench.specs("a"), bench.spec("b", restart="temporary")])
    do(bench.child("b"), save, 1, go_on)
    bench.fail("b")
    stands(bench, {"a": (RUNNING, 1)})
    assert bench.event_of(RestartRefused, "b").reason == "it is temporary"
    assert len(faults(bench, "b")) == 1


# -- siblings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", ["fault", "quit"])
def test_a_sibling_goes_on_from_its_snapshot_without_having_faulted(
    bench: TreeBench, trigger: str
) -> None:
    """S-07, S-10: its function is called with SIBLING and the newest snapshot; no fault is
    counted or reported; the exception leads to that of the sibling, if there was one.
    """
    bench.tree(bench.specs("ab"), "one_for_all")
    ref = bench.child("b")
    for number in (1, 2, 3):
        do(ref, save, number, go_on)
    for incarnation in (2, 3, 4):
        if trigger == "fault":
            bench.fail("a", KeyError("first"))
        else:
            bench.quit("a")
        stands(bench, {"a": (RUNNING, incarnation), "b": (RUNNING, incarnation)})
    seen = [(it.kind, it.snapshot, it.suspect, it.restarts) for it in faults(bench, "b")]
    assert seen == [(FaultKind.SIBLING, 3, 0, 0)] * 3
    assert faults(bench, "b")[0].older_snapshots == (2, 1)
    error = faults(bench, "b")[0].exception
    assert isinstance(error, SiblingFaultError)
    assert isinstance(error.__cause__, KeyError) == (trigger == "fault")
    assert state(ref) == 3
    assert not bench.of(ComponentFaulted, "b")
    assert [event.kind for event in bench.of(ComponentRecovered, "b")] == ["sibling"] * 3
    assert bench.infos()["b"].restarts == 0


def test_step_back_of_a_sibling_goes_on_from_what_it_had(bench: TreeBench) -> None:
    """S-27: after its own fault it has gone back from 3 to 2; with a sibling it stays at 2, and
    only its next own fault takes it to 1."""
    bench.tree(bench.specs("ab"), "one_for_all")
    ref = bench.child("b")
    for number in (1, 2, 3):
        do(ref, save, number, steps_back)
    expected = []
    incarnation = 1
    for faulting, is_left in (("a", 3), ("b", 3), ("b", 2), ("a", 2), ("b", 1), ("a", 1)):
        bench.fail(faulting)
        incarnation += 1
        stands(bench, {"a": (RUNNING, incarnation), "b": (RUNNING, incarnation)})
        expected.append(is_left)
        assert state(ref) == is_left, faulting
    suspects = [it.suspect for it in faults(bench, "b")]
    assert suspects == [0, 0, 1, 2, 2, 3]  # those with a kind of their own count: after b's


@pytest.mark.parametrize(
    "function", [ends, ignores, escalates, raises, answers_nothing], ids=lambda it: it.__name__
)
def test_of_the_answers_of_a_sibling_only_a_restart_counts(
    bench: TreeBench, function: Callable[..., Any]
) -> None:
    """S-07: it has not faulted, so it comes back in any case: then as its spec makes it."""
    bench.tree([*bench.specs("a"), bench.spec("b", state="made")], "one_for_all")
    ref = bench.child("b")
    do(ref, save, "saved", function)
    bench.fail("a")
    stands(bench, {"a": (RUNNING, 2), "b": (RUNNING, 2)})
    assert state(ref) == "made"
    assert bench.child("b") == ref
    assert len(faults(bench, "b")) == 1
    failed = function in (raises, answers_nothing)
    assert len(bench.of(FallbackApplied, "b")) == failed


def test_two_that_fault_at_once_come_back_together(bench: TreeBench) -> None:
    """Finding 1: the second is a sibling of the first, or the other way round; either way both
    run, with their state, and both come back once more."""
    bench.tree(bench.specs("abc"), "one_for_all")
    for name in "abc":
        do(bench.child(name), save, name, go_on)
    for _ in range(3):
        for name in "cab":
            bench.fail(name)
        bench.until(lambda: all(answers(bench, name) for name in "abc"))
        bench.until(lambda: {info.state for info in bench.infos().values()} == {RUNNING})
        assert [state(bench.child(name)) for name in "abc"] == [*"abc"]


# -- what survives -------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["group", "supervisor", "parent", "quit"])
def test_state_survives_the_restart_of_others(bench: TreeBench, what: str) -> None:
    """S-09: the restart of a sibling, of the supervisor, and of the supervisor above that."""
    limit = RestartLimit(0, 5.0) if what == "supervisor" else PLENTY
    inner = below([*bench.specs("xy")], "one_for_all", restart_limit=limit)
    bench.tree([*bench.specs("a"), bench.spec("s", factory=inner)], "one_for_all")
    refs = {name: bench.child(f"s/{name}") for name in "xy"}
    for name, ref in refs.items():
        do(ref, save, f"{name} saved", go_on)
    if what == "parent":
        bench.fail("a")
    elif what == "quit":
        bench.quit("a")
    else:
        bench.fail("s/x")
    stands(bench, {"x": (RUNNING, 2), "y": (RUNNING, 2)}, "s")
    stands(bench, {"a": (RUNNING, 1 + (what != "group")), "s": (RUNNING, 1 + (what != "group"))})
    for name, ref in refs.items():
        assert bench.child(f"s/{name}") == ref
        assert state(ref) == f"{name} saved"
    (fault,) = faults(bench, "s/y")
    assert (fault.kind, fault.snapshot) == (FaultKind.SIBLING, "y saved")


def test_added_children_of_a_restarted_supervisor_are_gone(bench: TreeBench) -> None:
    """As in OTP: only those it is declared with come back; with their state."""
    inner = below(bench.specs("x"))
    bench.tree([*bench.specs("a"), bench.spec("s", factory=inner)], "one_for_all")
    added = bench.child("s").ask(StartChild(bench.spec("y")), timeout=LIMIT)
    do(bench.child("s/x"), save, "kept", go_on)
    bench.fail("a")
    stands(bench, {"a": (RUNNING, 2), "s": (RUNNING, 2)})
    stands(bench, {"x": (RUNNING, 2)}, "s")
    assert state(bench.child("s/x")) == "kept"
    assert bench.child("s/y") is None
    bench.until(lambda: not added.is_alive)


def test_a_child_that_ended_by_itself_begins_afresh(bench: TreeBench) -> None:
    """S-26: what it had registered counts no more, neither now nor at its next fault."""
    bench.tree([bench.spec("a", state="made"), *bench.specs("b")])
    do(bench.child("a"), save, "saved", go_on)
    bench.quit("a")
    stands(bench, {"a": (RUNNING, 2), "b": (RUNNING, 1)})
    assert state(bench.child("a")) == "made"
    bench.fail("a")
    stands(bench, {"a": (RUNNING, 3), "b": (RUNNING, 1)})
    assert state(bench.child("a")) == "made"
    assert not faults(bench, "a")


# -- recovery functions that do not work ---------------------------------------------------------


@pytest.mark.parametrize("fallback", ["end", "restart", "escalate"])
@pytest.mark.parametrize("function", [raises, answers_nothing], ids=lambda it: it.__name__)
def test_the_fallback_of_a_child_is_that_of_its_spec(
    bench: TreeBench, function: Callable[..., Any], fallback: Any
) -> None:
    """S-12: what is done when its recovery function raises, or forgets to answer."""
    spec = bench.spec("x", state="made", fallback=fallback)
    bench.tree([bench.spec("s", factory=below([spec, *bench.specs("y")]))])
    do(bench.child("s/x"), save, "saved", function)
    bench.fail("s/x")
    if fallback == "end":
        bench.gone("s/x")
        stands(bench, {"x": (STOPPED, 0), "y": (RUNNING, 1)}, "s")
    elif fallback == "restart":
        stands(bench, {"x": (RUNNING, 2), "y": (RUNNING, 1)}, "s")
        assert state(bench.child("s/x")) == "made"
    else:
        bench.up("s", 2)
        stands(bench, {"x": (RUNNING, 2), "y": (RUNNING, 2)}, "s")
    assert bench.event_of(FallbackApplied, "s/x").fallback == fallback


@pytest.mark.parametrize("whose", ["own", "sibling"])
def test_a_recovery_function_that_hangs_is_given_up(
    make_bench: MakeBench, gate: Gate, reached: Gate, whose: str
) -> None:
    """S-12: after the deadline the fallback applies, and a sibling comes back as its spec makes
    it; meanwhile its supervisor answers. That function comes back late, and changes nothing."""
    bench = make_bench(recovery_deadline=0.2)
    children = [*bench.specs("a"), bench.spec("b", state="made", fallback="restart")]
    top = bench.tree(children, "one_for_all")
    hanging: Any = _hangs if bench.manual else partial(waits, gate, reached)
    bench.child("b").set_recovery_function(hanging, snapshot="saved")
    assert state(bench.child("b")) == "made"
    bench.fail("b" if whose == "own" else "a")
    if not bench.manual:
        bench.until(lambda: reached.is_open)
        assert bench.infos()["b"].state in ("running", "starting", "restarting")
    stands(bench, {"a": (RUNNING, 2), "b": (RUNNING, 2)})
    gate.open()
    assert state(bench.child("b")) == "made"
    assert bench.event_of(FallbackApplied, "b").recovery_error == "RecoveryTimeoutError"
    bench.system.kill(top).result(LIMIT)
    assert bench.system.tree().children == ()


def _hangs(fault: FaultContext[Any]) -> RecoveryHandler:
    hang()


# -- up to the root ------------------------------------------------------------------------------


def test_an_escalated_fault_goes_up_through_all_supervisors_to_the_root(
    make_bench: MakeBench,
) -> None:
    """S-08: three levels that escalate it; the system stops, each in order, and the very
    exception is raised by `wait()` and by leaving `with`."""
    bench = make_bench()
    policy: Any = {ValueError: "escalate"}
    third = below(bench.specs("xy"), policy=policy)
    second = below([bench.spec("t", factory=third), *bench.specs("b")], policy=policy)
    system = bench.system
    waited: Any = None
    with pytest.raises(ValueError, match="the cause") as left, system:  # noqa: PT012
        bench.tree([*bench.specs("a"), bench.spec("s", factory=second)], policy=policy)
        bench.lines()
        bench.fail("s/t/x", ValueError("the cause"))
        with pytest.raises(ValueError, match="the cause") as waited:
            system.wait(LIMIT)
    assert waited.value is left.value
    assert bench.lines() == ["y kill parent", "b kill parent", "a kill parent"]
    assert system.tree().children == ()


def test_another_fault_does_not_change_the_cause(make_bench: MakeBench) -> None:
    """S-08: the limit is reached by a ValueError; while the others end, one of them faults with a
    KeyError, and one ends by itself (finding 11): the cause stays."""
    bench = make_bench()
    children = bench.specs("abcd")
    bench.tree(children, restart_limit=RestartLimit(0, 5.0))
    quitting = partial(ask_sibling_to_quit, bench.child("a").path)
    do(bench.child("c"), add_hook, "kill", quitting)
    do(bench.child("c"), add_hook, "kill", quitting)
    bench.fail("d", ValueError("the first"))
    bench.fail("b", KeyError("the second"))
    with pytest.raises(RestartLimitError, match=r"ValueError|KeyError") as raised:
        bench.system.wait(LIMIT)
    cause = raised.value.__cause__
    assert type(cause).__name__ in str(raised.value)
    reached = [event for event in bench.events if type(event).__name__ == "RestartLimitReached"]
    assert [event.error for event in reached] == [type(cause).__name__]  # type: ignore[attr-defined]


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("how", ["limit", "escalated"])
def test_what_becomes_of_a_child_supervisor_that_goes_down_is_as_its_spec_says(
    bench: TreeBench, restart: Any, how: str
) -> None:
    """As OTP: at its limit it exits with `shutdown`, which brings back permanent ones only; an
    escalated fault is abnormal: transient ones come back, too."""
    limit = RestartLimit(0, 5.0) if how == "limit" else PLENTY
    inner = below([bench.spec("x", policy={ValueError: "escalate"})], restart_limit=limit)
    bench.tree([*bench.specs("a"), bench.spec("s", factory=inner, restart=restart)])
    bench.fail("s/x", ValueError("up") if how == "escalated" else KeyError("down"))
    if restart == "permanent" or (restart == "transient" and how == "escalated"):
        stands(bench, {"a": (RUNNING, 1), "s": (RUNNING, 2)})
        stands(bench, {"x": (RUNNING, 2)}, "s")
        return
    bench.gone("s")
    stands(bench, {"a": (RUNNING, 1)} | ({"s": (STOPPED, 0)} if restart == "transient" else {}))
    assert bench.child("s/x") is None


def test_a_recovery_function_set_on_the_top_supervisor_keeps_the_system_going(
    make_bench: MakeBench,
) -> None:
    """S-08: it is asked when the supervisor gives up; its children come back with their state,
    and when it answers `end()` only the tree ends."""
    bench = make_bench()
    top = bench.tree(bench.specs("ab"), restart_limit=RestartLimit(0, 5.0))
    top.set_recovery_function(restarts)
    do(bench.child("b"), save, "saved", go_on)
    bench.fail("a")
    stands(bench, {"a": (RUNNING, 2), "b": (RUNNING, 2)})
    assert top.is_alive
    assert state(bench.child("b")) == "saved"
    (fault,) = FAULTS[bench.top]
    assert isinstance(fault.exception, RestartLimitError)
    assert isinstance(fault.exception.__cause__, ValueError)
    top.set_recovery_function(ends)
    bench.fail("a")
    bench.gone()
    assert bench.system.tree().children == ()
    bench.tree(bench.specs("c"))
    stands(bench, {"c": (RUNNING, 1)})


# -- what is stored ------------------------------------------------------------------------------


def stored_tree(bench: TreeBench) -> Any:
    """A tree whose children are stored under the same names at each start."""
    bench.top = "stored"
    inner = below(bench.specs("xy"), "one_for_all")
    declared = below([*bench.specs("a"), bench.spec("s", factory=inner)])
    ref = bench.system.create(declared, name="stored")
    bench.system.start(ref).result(LIMIT)
    return ref


def test_after_a_crash_children_go_on_from_what_is_stored(make_bench: MakeBench) -> None:
    """S-25: each claims its own, with PROCESS_LOST; those that have nothing stored begin."""
    store = MemoryStore()
    bench = make_bench(store=store)
    stored_tree(bench)
    do(bench.child("a"), save, "A", go_on)
    do(bench.child("s/x"), save, "X", go_on)
    bench.system.flush()
    after = make_bench(store=store.crashed())
    stored_tree(after)
    assert [state(after.child(path)) for path in ("a", "s/x", "s/y")] == ["A", "X", None]
    for path, saved in (("a", "A"), ("s/x", "X")):
        (fault,) = faults(after, path)
        assert (fault.kind, fault.snapshot, fault.suspect) == (LOST, saved, 0)
        assert isinstance(fault.exception, ProcessLostError)
    assert not faults(after, "s/y")
    after.fail("s/y")
    stands(after, {"x": (RUNNING, 3), "y": (RUNNING, 2)}, "s")
    assert state(after.child("s/x")) == "X"


def test_after_an_orderly_shutdown_children_go_on_with_shutdown(make_bench: MakeBench) -> None:
    """S-26: also those that a group restart had brought back; counted neither as fault nor as
    suspect; those that were terminated are retired and begin as new."""
    store = MemoryStore()
    bench = make_bench(store=store)
    top = stored_tree(bench)
    for path in ("a", "s/x", "s/y"):
        do(bench.child(path), save, path, go_on)
    bench.fail("s/x")
    stands(bench, {"x": (RUNNING, 2), "y": (RUNNING, 2)}, "s")
    top.ask(TerminateChild("a"), timeout=LIMIT)
    bench.system.shutdown()
    FAULTS.clear()
    after = make_bench(store=store.crashed())
    stored_tree(after)
    assert [state(after.child(path)) for path in ("a", "s/x", "s/y")] == [None, "s/x", "s/y"]
    for path in ("s/x", "s/y"):
        (fault,) = faults(after, path)
        assert fault.kind is SHUTDOWN
        assert isinstance(fault.exception, SystemShutdownError)
    assert not after.events.of(ComponentFaulted)


def test_a_child_that_ended_by_itself_begins_afresh_in_the_store_too(
    make_bench: MakeBench,
) -> None:
    """S-26: what it had is retired, so after a crash nothing is there to go on from."""
    store = MemoryStore()
    bench = make_bench(store=store)
    stored_tree(bench)
    do(bench.child("a"), save, "old", go_on)
    bench.system.flush()
    bench.quit("a")
    bench.up("a", 2)
    bench.system.flush()
    after = make_bench(store=store.crashed())
    stored_tree(after)
    assert state(after.child("a")) is None
    assert not faults(after, "a")


@pytest.mark.usefixtures("hurried", "hurried_pool")
def test_a_shutdown_keeps_what_is_stored_below_a_supervisor_that_is_overdue(
    make_bench: MakeBench, gate: Gate, reached: Gate
) -> None:
    """S-26, finding 5: y takes longer to end than its supervisor may; x had no turn to end in
    order; nothing of both is retired."""
    store = MemoryStore()
    bench = make_bench(store=store)
    if bench.manual:
        pytest.skip(NO_HANG)
    inner = below(bench.specs("xy"))
    bench.tree([bench.spec("s", factory=inner, shutdown=0.05)])
    for name in "xy":
        do(bench.child(f"s/{name}"), save, name, go_on)
    do(bench.child("s/y"), add_hook, "kill", partial(wait_at, reached, gate))
    top = bench.top
    bench.system.shutdown()
    gate.open()
    found = [store.load(f"{top}/s/{name}")[0].mark.status for name in "xy"]
    assert Status.RETIRED not in found


PROGRAM = """
import json, os, signal, sys, time
from functools import partial
from kompyct import *

def say(*words):
    os.write(1, (json.dumps(words) + "\\n").encode())

class Counter(Component):
    def __init__(self, name, count=0):
        self.name = name
        self.count = count

    def on_receive(self, message):
        if message == "quit":
            return self.kill_self()
        if message == "add":
            self.count += 1
            self.set_recovery_function(recover, snapshot=self.count, durability="durable")
        return self.count

def recover(fault):
    say(fault.path, fault.kind.value, fault.snapshot)
    return fault.restart(partial(Counter, fault.name, fault.snapshot))

def counter(name):
    return ChildSpec(id=name, factory=partial(Counter, name))

def main():
    inner = ComponentSupervisor([counter("x"), counter("y")], "one_for_all")
    tree = ComponentSupervisor([counter("a"), ChildSpec(id="s", factory=inner)])
    system = ComponentSystem(backend=os.environ["BACKEND"], store=sys.argv[1])
    system.start(system.create(tree, name="top")).result(30)
    for command in sys.argv[2:]:
        if command == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif command == "shutdown":
            system.shutdown()
            os._exit(0)
        elif command == "quit":
            system.find("top/a").ask("quit")
            while system.find("top/a").incarnation < 3:
                time.sleep(0.001)
            system.find("top/a").ask("get")
            system.flush()
        else:
            path, _, what = command.partition("=")
            system.find("top/" + path).ask(what)
    say("end", *(system.find("top/" + path).ask("get") for path in ("a", "s/x", "s/y")))
    os._exit(0)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("real_backend", ["thread", "process"])
def test_a_killed_program_goes_on_with_its_whole_tree(tmp_path: Path, real_backend: str) -> None:
    """S-25, S-26: for real: SIGKILL after durable saves: PROCESS_LOST and what was saved, of each
    child on its own; after a shutdown SHUTDOWN; what ended by itself begins at 0."""
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BACKEND": real_backend}

    def run(*commands: str) -> tuple[int, list[list[Any]]]:
        process = subprocess.run(
            [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "state"), *commands],
            env=environment,
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert b"Traceback" not in process.stderr, process.stderr.decode()
        return process.returncode, [json.loads(line) for line in process.stdout.splitlines()]

    code, said = run("a=add", "s/y=add", "s/y=add", "die")
    assert (code, said) == (-signal.SIGKILL, [])
    code, said = run("s/x=add", "quit", "die")
    assert code == -signal.SIGKILL
    assert said == [["top/a", "process_lost", 1], ["top/s/y", "process_lost", 2]]
    code, said = run("s/x=add")
    assert said == [
        ["top/s/x", "process_lost", 1], ["top/s/y", "process_lost", 2], ["end", 0, 2, 2],
    ]  # fmt: skip
    code, said = run("shutdown")
    assert (code, [line[1] for line in said]) == (0, ["process_lost"] * 2)
    code, said = run()
    assert [line[1] for line in said[:-1]] == ["shutdown"] * 2
    assert said[-1] == ["end", 0, 2, 2]


# -- forced ends ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("where", ["handler", "on_kill"])
@pytest.mark.parametrize("brutal", [False, True])
def test_a_child_that_hangs_is_left_behind_in_a_group_restart(
    bench: TreeBench, gate: Gate, reached: Gate, where: str, brutal: bool
) -> None:
    """S-06, S-10: another one goes on from its snapshot, with the messages that waited, in order;
    the thread, when it comes back, changes nothing and ends (finding 3); a process is gone."""
    if bench.manual:
        pytest.skip(NO_HANG)
    if brutal and where == "on_kill":
        pytest.skip("which is not called then")
    spec = bench.spec("b", shutdown="brutal" if brutal else 0.1)
    bench.tree([*bench.specs("a"), spec], "one_for_all")
    old = bench.child("b")
    do(old, save, "saved", go_on)
    process = do(old, pid)
    if where == "handler":
        old.tell(Do(wait_in_handler, (reached, gate)))
        bench.until(lambda: reached.is_open)
    else:
        do(old, add_hook, "kill", partial(wait_at, reached, gate))
    begun = time.monotonic()
    bench.fail("a")
    bench.until(lambda: bench.states() == {"a": (RUNNING, 2), "b": (RUNNING, 2)})
    assert time.monotonic() - begun <= 0.1 + FORCE + SLACK
    new = bench.child("b")
    assert state(new) == "saved"
    assert [it.kind for it in faults(bench, "b")] == [FaultKind.SIBLING]
    if bench.backend == "process":
        assert new == old
        assert not os.path.exists(f"/proc/{process}")
        assert not bench.of(Abandoned, "b")
        return
    assert new != old
    assert len(bench.of(Abandoned, "b")) == 1
    with pytest.raises(ComponentDestroyedError):
        state(old)
    gate.open()
    bench.until(lambda: not old.is_alive)
    bench.until(lambda: bench.system._runtime._abandoned == 0)
    assert bench.states() == {"a": (RUNNING, 2), "b": (RUNNING, 2)}
    assert state(new) == "saved"


def test_children_of_a_supervisor_that_is_hurried_in_a_group_restart_keep_their_state(
    bench: TreeBench,
) -> None:
    """Finding 6: y ends too slowly for the time its supervisor has, and is kept all the same."""
    if bench.manual:
        pytest.skip(NO_HANG)
    inner = bench.spec("s", factory=below(bench.specs("xy")), shutdown=0.05)
    bench.tree([*bench.specs("a"), inner], "one_for_all")
    for name in "xy":
        do(bench.child(f"s/{name}"), save, name, go_on)
    do(bench.child("s/y"), add_hook, "kill", partial(note_after, "killed", 0.2))
    refs = {name: bench.child(f"s/{name}") for name in "xy"}
    bench.fail("a")
    stands(bench, {"a": (RUNNING, 2), "s": (RUNNING, 2)})
    for name in "xy":
        assert bench.child(f"s/{name}") == refs[name]
        assert state(bench.child(f"s/{name}")) == name


@pytest.mark.usefixtures("hurried")
def test_what_waits_for_a_child_that_is_left_behind_is_accounted_for(
    make_bench: MakeBench, gate: Gate, reached: Gate
) -> None:
    """B-67, finding 4: an ask fails when it is left behind, not after its timeout; tells are
    undelivered."""
    letters: list[Any] = []
    bench = make_bench(on_undelivered=lambda path, message: letters.append(message))
    if bench.manual:
        pytest.skip(NO_HANG)
    top = bench.tree([bench.spec("a", shutdown=0.1)])
    ref = bench.child("a")
    ref.tell(Do(wait_in_handler, (reached, gate)))
    bench.until(lambda: reached.is_open)
    reply = ref.ask(Get(), block=False)
    messages = [Do(echo, (number,)) for number in range(3)]
    for message in messages:
        ref.tell(message)
    bench.system.kill(top).result(LIMIT)
    with pytest.raises(ComponentDestroyedError):
        reply.result(LIMIT)
    bench.until(lambda: len(letters) >= 3)
    expected = [*letters[: len(letters) - 3], *messages]  # of a process also what was in hand
    assert letters == expected


@pytest.mark.usefixtures("hurried")
def test_a_child_that_is_left_behind_in_its_factory_does_not_start(
    bench: TreeBench, gate: Gate, reached: Gate
) -> None:
    """S-06, finding 9: its supervisor has ended, and its name is free, when it comes back."""
    if bench.manual:
        pytest.skip(NO_HANG)
    spec = bench.spec("b", hooks={"init": partial(wait_at, reached, gate)}, shutdown=0.05)
    top = bench.create_tree(below([*bench.specs("a"), spec]))
    starting = bench.system.start(top)
    bench.until(lambda: reached.is_open)
    old = bench.child("b")
    bench.system.kill(top).result(LIMIT)
    with pytest.raises(ComponentDestroyedError):
        starting.result(LIMIT)
    gate.open()
    bench.until(lambda: not old.is_alive)
    assert bench.lines() == ["a start", "a kill parent"]


def test_a_process_has_as_long_as_it_takes_with_shutdown_none(
    processes: TreeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docstring of ChildSpec, finding 10: the 3 s of components outside trees do not count."""
    from kompyct import remote

    monkeypatch.setattr(remote, "PATIENCE", 0.1)
    bench = processes
    hooks = {"kill": partial(note_after, "killed", 0.4)}
    top = bench.tree([bench.spec("a", hooks=hooks, shutdown=None)])
    bench.system.kill(top).result(LIMIT)
    assert bench.lines() == ["a start", "a kill parent", "a killed"]
    assert not bench.of(ProcessForced, "a")


def test_a_child_that_fails_to_start_as_a_group_goes_down_is_refused(
    bench: TreeBench, gate: Gate, reached: Gate
) -> None:
    """Finding 7: who had it added gets an error, nothing is left of it, and the group goes on."""
    if bench.manual:
        pytest.skip(NO_HANG)
    top = bench.tree(bench.specs("a"), "one_for_all")
    hooks = {"start": partial(_wait_and_fail, reached, gate)}
    reply = top.ask(StartChild(bench.spec("b", hooks=hooks)), block=False)
    bench.until(lambda: reached.is_open)
    cell = bench.child("b")._cell
    bench.fail("a")
    bench.until(lambda: bool(cell.control))
    gate.open()
    with pytest.raises(Exception, match="b") as raised:
        reply.result(LIMIT)
    assert not isinstance(raised.value, TimeoutError)
    stands(bench, {"a": (RUNNING, 2)})
    bench.until(lambda: bench.child("b") is None)
    with pytest.raises(ComponentCreateError):
        top.ask(StartChild(bench.spec("b", hooks=hooks)), timeout=LIMIT)


def _wait_and_fail(reached: Gate, gate: Gate, component: Any) -> None:
    wait_at(reached, gate, component)
    raise OSError("as planned")


# -- messages over group restarts ----------------------------------------------------------------


def test_messages_to_a_sibling_keep_their_order_over_a_group_restart(bench: TreeBench) -> None:
    """S-02, S-16: those that wait when it goes down are the first for its next incarnation, those
    sent meanwhile follow; none is lost or handled twice; asks are answered by it."""
    bench.tree(bench.specs("ab"), "one_for_all")
    ref = bench.child("b")
    bench.lines()
    replies = []
    for number in range(60):
        ref.tell(Do(note, (f"{number:02}",)))
        if number % 10 == 5:
            replies.append(ref.ask(Do(echo, (number,)), block=False))
        if number in (20, 40):
            bench.fail("a")
    assert [reply.result(LIMIT) for reply in replies] == [5, 15, 25, 35, 45, 55]
    bench.until(lambda: bench.infos()["a"].incarnation == 3)
    bench.until(lambda: {info.state for info in bench.infos().values()} == {RUNNING})
    do(ref, echo, "last")
    handled = [line for line in bench.lines() if line[2:].isdigit()]
    assert handled == [f"b {number:02}" for number in range(60)]


# -- mixed backends, and processes that are killed -----------------------------------------------


def test_a_tree_of_mixed_backends_is_one_tree(processes: TreeBench) -> None:
    """S-31: threads, pool and processes side by side, `backend=` of a supervisor for what is
    below it; all go down and come back together, with their state, and end in order."""
    bench = processes
    third = below([*bench.specs("x"), bench.spec("y", backend="thread")], "one_for_all")
    second = below(
        [
            bench.spec("t", factory=third, backend="process"),
            bench.spec("p", backend="pool"),
            *bench.specs("q"),
        ],
        "one_for_all",
    )
    children = [bench.spec("a", backend="process"), bench.spec("s", factory=second)]
    declared = ComponentSupervisor(children, "one_for_all", restart_limit=PLENTY)
    bench.top = "mixed"
    top = bench.system.create(declared, name="mixed", backend="thread")
    bench.system.start(top).result(LIMIT)
    paths = ["a", "s/t/x", "s/t/y", "s/p", "s/q"]
    own = [do(bench.child(path), pid) == os.getpid() for path in paths]
    assert own == [False, False, True, True, True]
    for path in paths:
        do(bench.child(path), save, path, go_on)
    bench.fail("a")
    stands(bench, {"a": (RUNNING, 2), "s": (RUNNING, 2)})
    stands(bench, {"t": (RUNNING, 2), "p": (RUNNING, 2), "q": (RUNNING, 2)}, "s")
    held = [do(bench.child(path), pid) for path in ("a", "s/t/x")]
    os.kill(held[1], signal.SIGKILL)
    stands(bench, {"x": (RUNNING, 3), "y": (RUNNING, 3)}, "s/t")
    assert [state(bench.child(path)) for path in paths] == paths
    bench.system.kill(top).result(LIMIT)
    assert bench.system.tree().children == ()
    assert not any(os.path.exists(f"/proc/{process}") for process in held)


def test_the_process_of_a_sibling_is_killed_in_the_midst_of_a_group_restart(
    processes: TreeBench,
) -> None:
    """S-31: before, while, and after it is told to end: it comes back with its state, and so does
    everything else."""
    bench = processes
    bench.tree([bench.spec("t", backend="thread"), *bench.specs("ab")], "one_for_all")
    refs = [bench.child(name) for name in "ab"]
    for ref in refs:
        do(ref, save, ref.name, go_on)
    for turn in range(6):
        children = [do(ref, pid) for ref in refs]
        before = bench.states()
        if turn % 3 == 0:
            os.kill(children[1], signal.SIGKILL)
        bench.fail("t")
        if turn % 3:
            time.sleep(0.001 * turn)
            for process in children[turn % 2 :]:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        bench.until(
            lambda before=before: all(  # type: ignore[misc]
                it[0] == RUNNING and it[1] > before[name][1] for name, it in bench.states().items()
            )
        )
        assert [state(ref) for ref in refs] == ["a", "b"]
    top = bench.system.find(bench.top)
    assert top is not None
    bench.system.kill(top).result(LIMIT)
    assert bench.system.tree().children == ()


# -- the end in each phase -----------------------------------------------------------------------


def nothing_is_left(bench: TreeBench) -> None:
    """No name, no component, no thread of one."""
    registry = bench.system._runtime.registry
    assert len(registry) == 0
    assert registry._names == {}
    assert bench.system.tree().children == ()

    def hosts() -> set[threading.Thread]:
        return {it for it in threading.enumerate() if "_Host" in it.name} - OTHERS

    bench.until(lambda: not hosts())


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("brutal", [False, True])
@pytest.mark.parametrize("phase", ["starting", "restarting", "recovering", "waiting", "ending"])
def test_a_supervisor_can_be_ended_in_any_phase_and_leaves_nothing(
    bench: TreeBench, gate: Gate, reached: Gate, phase: str, brutal: bool
) -> None:
    """DESIGN: it never waits: it ends while its children start, while a recovery function of a
    sibling or its own is at work, in a delay, and while it is ending already."""
    if bench.manual and phase != "waiting":
        pytest.skip(NO_HANG)
    hooks: dict[str, Any] = {}
    if phase in ("starting", "ending"):
        hooks = {"start" if phase == "starting" else "kill": partial(wait_at, reached, gate)}
    options: Any = {"restart_limit": RestartLimit(0, 5.0)} if phase == "recovering" else {}
    if phase == "waiting":
        options["backoff"] = Backoff(min=60.0, max=60.0)
    inner = below([*bench.specs("x"), bench.spec("y", hooks=hooks), *bench.specs("z")],
                  "one_for_all", **options)  # fmt: skip
    top = bench.create_tree(below([*bench.specs("a"), bench.spec("s", factory=inner)]))
    starting = bench.system.start(top)
    if phase != "starting":
        starting.result(LIMIT)
    ended = None
    if phase == "restarting":
        bench.child("s/y").set_recovery_function(partial(waits, gate, reached))
        do(bench.child("s/y"), echo, 1)
        bench.fail("s/x")
    elif phase == "recovering":
        bench.child("s").set_recovery_function(partial(waits, gate, reached))
        bench.infos("s")
        bench.fail("s/x")
    elif phase == "waiting":
        bench.fail("s/x")
        bench.until(lambda: bench.infos("s")["x"].state == "restarting")
        bench.until(lambda: bench.infos("s")["y"].state == STOPPED)
    elif phase == "ending":
        ended = bench.system.kill(top)
    if phase != "waiting":
        bench.until(lambda: reached.is_open)
    killed = bench.system.kill(top, brutal=brutal)
    if phase in ("starting", "ending") and not brutal:
        gate.open()
    killed.result(LIMIT)
    if ended is not None:
        ended.result(LIMIT)
    if phase == "starting":
        with pytest.raises(ComponentDestroyedError):
            starting.result(LIMIT)
    gate.open()
    nothing_is_left(bench)
    bench.event_of(ComponentEnded)
    assert len(bench.of(ComponentEnded)) == 1


# -- the system's shutdown -----------------------------------------------------------------------


def test_shutdown_lets_children_handle_what_is_waiting(
    make_bench: MakeBench, gate: Gate, reached: Gate
) -> None:
    """S-02: `drain=`: each child handles its messages before it ends, the last one first."""
    bench = make_bench()
    inner = below(bench.specs("x"))
    bench.tree([*bench.specs("a"), bench.spec("s", factory=inner)])
    bench.lines()
    for path in ("a", "s/x"):
        for number in range(3):
            bench.child(path).tell(Do(note_slowly, (number,)))
    bench.system.shutdown(drain=LIMIT)
    lines = bench.lines()
    assert [line for line in lines if line[0] == "a"] == ["a 0", "a 1", "a 2", "a kill shutdown"]
    assert [line for line in lines if line[0] == "x"] == ["x 0", "x 1", "x 2", "x kill shutdown"]
    assert lines.index("x kill shutdown") < lines.index("a kill shutdown")


def note_slowly(component: Any, number: int) -> None:
    """Take a little time, and note it."""
    time.sleep(0.01)
    component.note(number)


@pytest.mark.usefixtures("hurried", "hurried_pool")
def test_a_drain_is_over_when_its_time_is(
    make_bench: MakeBench, gate: Gate, reached: Gate
) -> None:
    """S-02, S-03: a child that never gets to the end of its messages then has its usual time."""
    bench = make_bench()
    if bench.manual:
        pytest.skip(NO_HANG)
    bench.tree([*bench.specs("a"), bench.spec("b", shutdown=0.1)])
    bench.lines()
    bench.child("b").tell(Do(wait_in_handler, (reached, gate)))
    bench.until(lambda: reached.is_open)
    begun = time.monotonic()
    bench.system.shutdown(drain=0.2)
    assert 0.3 <= time.monotonic() - begun <= 0.3 + FORCE + SLACK
    gate.open()
    assert bench.lines() == ["a kill shutdown"]


@pytest.mark.usefixtures("hurried", "hurried_pool")
def test_the_time_of_a_shutdown_bounds_the_whole_tree(
    backend: str, notes: Notes, gate: Gate, reached: Gate
) -> None:
    """S-03: whatever the specs allow; what is left is told brutally."""
    if backend == "manual":
        pytest.skip(NO_HANG)
    if backend == "process":
        pytest.skip("a process that is told brutally is gone, which is another test")
    bench = TreeBench(backend, notes)  # whose shutdown is done here, and would raise once more
    inner = below([bench.spec("x", shutdown=None)])
    bench.tree([*bench.specs("a"), bench.spec("s", factory=inner)])
    bench.lines()
    bench.child("s/x").tell(Do(wait_in_handler, (reached, gate)))
    bench.until(lambda: reached.is_open)
    begun = time.monotonic()
    with pytest.raises(ShutdownTimeoutError):
        bench.system.shutdown(0.2)
    assert time.monotonic() - begun <= 0.2 + 1.0 + SLACK
    gate.open()
    assert "x kill shutdown" not in bench.lines()


# -- storms --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_after_a_storm_everything_runs_and_can_be_ended(bench: TreeBench, seed: int) -> None:
    """Findings 1, 11, 12: children of three levels fault, end by themselves and escalate at once;
    then all of them run, as their supervisors say, with their state or begun afresh; and the end
    of the tree leaves nothing."""
    if bench.backend == "process":
        pytest.skip("the same signals as of threads, and a hundred processes would take long")
    chance = random.Random(seed)
    strategies = ["one_for_one", "one_for_all", "rest_for_one"]
    endless: Any = RestartLimit(100_000, 5.0)

    def tree(children: Any) -> ComponentSupervisor:
        return below(children, chance.choice(strategies), restart_limit=endless)

    third = tree([lasting(bench, name) for name in "xy"])
    second = tree([lasting(bench, "c"), bench.spec("t", factory=third), lasting(bench, "d")])
    declared = tree([lasting(bench, "a"), bench.spec("s", factory=second), lasting(bench, "b")])
    bench.top = f"storm {seed}"
    top = bench.system.create(declared, name=bench.top, budget=endless)
    top.set_recovery_function(restarts)
    bench.system.start(top).result(LIMIT)
    paths = ["a", "b", "s/c", "s/d", "s/t/x", "s/t/y"]
    deeds: list[Any] = [Do(raise_it, (ValueError("storm"),))] * 4
    deeds += [Do(quit_now), Do(save_and_fail, (escalates,)), Do(save_and_fail, (go_on,))]

    def blow(chance: random.Random) -> None:
        for _ in range(25):
            ref = bench.child(chance.choice(paths))
            if ref is not None:
                ref.tell(chance.choice(deeds))
            if not bench.manual and chance.random() < 0.3:
                time.sleep(chance.random() * 0.003)

    if bench.manual:
        for _ in range(3):
            blow(chance)
            bench.settle()
    else:
        winds = [
            threading.Thread(target=blow, args=(random.Random(seed * 10 + number),))
            for number in range(3)
        ]
        for wind in winds:
            wind.start()
        for wind in winds:
            wind.join()
    bench.until(lambda: all(bench_is_calm(bench, path) for path in ("", "s", "s/t")))
    bench.until(lambda: all(answers(bench, path) for path in paths))
    assert all(bench_is_calm(bench, path) for path in ("", "s", "s/t"))
    bench.system.kill(top).result(LIMIT)
    nothing_is_left(bench)


def lasting(bench: TreeBench, name: str) -> Any:
    """The spec of a child that may be restarted again and again."""
    return bench.spec(name, shutdown=LIMIT)


def save_and_fail(component: Leaf, function: Any) -> None:
    """Save under that function, and fault."""
    component.set_recovery_function(function, snapshot=component.state)
    raise KeyError("storm")


def bench_is_calm(bench: TreeBench, path: str) -> bool:
    """Whether all children of that supervisor run."""
    ref = bench.child(path) if path else bench.system.find(bench.top)
    if ref is None or ref.state.value != "active":
        return False
    try:
        return {info.state for info in bench.infos(path).values()} == {RUNNING}
    except Exception:
        return False


def answers(bench: TreeBench, path: str) -> bool:
    """Whether that child is there and answers."""
    try:
        return bool(do(bench.child(path), echo, "yes") == "yes")
    except (ComponentFaultError, ValueError, KeyError):
        return False
    except Exception as error:
        if type(error).__name__ == "RestartingError":
            return False
        raise
