"""Does a whole tree do what its model says, whatever is done to it?

A `Tree` declares supervisors and leaves; a `Run` makes a system of it, on any backend, beside a
`TreeModel`, where each supervisor is one of `supervision_model` and each leaf is a count, what it
last saved, and which incarnation it is. Operations are data, so the same ones can be replayed
elsewhere. After each, what can be seen of the system must be what the model says.

Run it as `python -m tests.harness.trees`: the long form, and `--backend` for the others.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal
from unittest.mock import patch

from kompyct import (
    NOT_NEEDED,
    ChildSpec,
    Component,
    ComponentSupervisor,
    ComponentSystem,
    CountChildren,
    DeleteChild,
    FaultContext,
    RecoveryHandler,
    Request,
    RestartChild,
    RestartLimit,
    StartChild,
    State,
    TerminateChild,
    WhichChildren,
    supervising,
)
from kompyct.errors import (
    ChildAlreadyPresentError,
    ChildAlreadyStartedError,
    ChildError,
    ChildNotFoundError,
    ChildRestartingError,
    ChildRunningError,
    ComponentCreateError,
    KompyctError,
)
from kompyct.events import ComponentFaulted
from kompyct.testing import EventRecorder, TestSystem
from tests.harness.supervision_model import SECOND, Child, Deed, Model
from tests.process.components import Notes

Kind = Literal["manual", "thread", "pool", "process"]

LIMIT = 5.0  # seconds within which anything real must have happened

REFUSED = {
    "present": ChildAlreadyPresentError,
    "started": ChildAlreadyStartedError,
    "dynamic": ChildError,
    "not found": ChildNotFoundError,
    "running": ChildRunningError,
    "restarting": ChildRestartingError,
}


class DiffersError(AssertionError):
    """The system is not as the model says."""


# -- what is declared -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leaf:
    """A child that is a component."""

    id: str
    restart: str = "permanent"
    significant: bool = False


@dataclass(frozen=True, slots=True)
class Tree:
    """A supervisor, and what is below it."""

    id: str
    strategy: str = "one_for_one"
    children: tuple[Leaf | Tree, ...] = ()
    most: int | None = 3
    within: float = 5.0
    auto_shutdown: str = "never"
    restart: str = "permanent"
    significant: bool = False


# -- what runs --------------------------------------------------------------------------------


class Ordinary(Exception):
    """A fault that is recovered from."""


class Last(Exception):
    """A fault that ends its component."""


class Upward(Exception):
    """A fault that is escalated."""


POLICY = {Last: "end", Upward: "escalate"}
FAULTS: dict[str, type[Exception]] = {"fault": Ordinary, "last": Last, "upward": Upward}


class Count(Request[int]):
    """Ask for the count."""


@dataclass
class World:
    """What all incarnations of a run share."""

    log: list[tuple[str, str]] = field(default_factory=list)  # (path, hook)
    seen: list[tuple[str, int]] = field(default_factory=list)  # what recovery functions were given
    failing: dict[str, int] = field(default_factory=dict)  # starts that are still to fail
    unneeded: set[str] = field(default_factory=set)

    def factory(self, path: str) -> Callable[[], Any]:
        """The factory of a leaf."""
        return partial(self.make, path)

    def make(self, path: str, count: int = 0) -> Any:
        """A leaf, or that it is not needed."""
        return NOT_NEEDED if path in self.unneeded else Counter(self, path, count)

    def recover(self, fault: FaultContext[int]) -> RecoveryHandler:
        """The recovery function of all leaves that have saved."""
        path, count = fault.path, fault.snapshot
        self.seen.append((path, count))
        return _decide(fault, partial(self.make, path, count))


class Adder(Component[Any]):
    """Adds numbers, saves, faults and ends as it is told."""

    def __init__(self, recover: Any, count: int) -> None:
        self._recover = recover
        self._count = count

    def on_receive(self, message: Any) -> int | None:
        if isinstance(message, int):
            self._count += message
        elif message == "save":
            self.set_recovery_function(self._recover, snapshot=self._count)
        elif message == "end":
            self.kill_self()
        elif isinstance(message, Count):
            return self._count
        else:
            raise FAULTS[message]("told to fault")
        return None


class Counter(Adder):
    """Logs its hooks, and does not start if it is told so."""

    def __init__(self, world: World, path: str, count: int) -> None:
        super().__init__(world.recover, count)
        self._world = world
        self._path = path

    def on_start(self) -> None:
        failing = self._world.failing
        if failing.get(self._path):
            failing[self._path] -= 1
            raise Ordinary("told to fail")
        self._world.log.append((self._path, "start"))

    def on_kill(self) -> None:
        self._world.log.append((self._path, "end"))


class FileWorld(World):
    """A world whose leaves are in processes of their own: they log to a file."""

    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self.notes = notes

    def factory(self, path: str) -> Callable[[], Any]:
        """The factory of a leaf."""
        return partial(Elsewhere, self.notes, path, 0)

    def look(self) -> None:
        """Take up what the leaves have logged, and what recovery functions were given."""
        self.log = []
        for line in self.notes.lines():
            path, hook = line.split()
            self.log.append((path, hook))
        self.seen = list(SEEN.get(self.notes, ()))


SEEN: dict[Notes, list[tuple[str, int]]] = {}
"""What recovery functions were given, by the file of the world; they run in this process."""


def recover_elsewhere(notes: Notes, fault: FaultContext[int]) -> RecoveryHandler:
    """The recovery function of leaves in processes of their own."""
    SEEN.setdefault(notes, []).append((fault.path, fault.snapshot))
    return _decide(fault, partial(Elsewhere, notes, fault.path, fault.snapshot))


class Elsewhere(Adder):
    """Logs its hooks to a file."""

    def __init__(self, notes: Notes, path: str, count: int) -> None:
        super().__init__(partial(recover_elsewhere, notes), count)
        self._notes = notes
        self._path = path

    def on_start(self) -> None:
        self._notes.add(f"{self._path} start")

    def on_kill(self) -> None:
        self._notes.add(f"{self._path} end")


def _decide(fault: FaultContext[int], factory: Callable[[], Any]) -> RecoveryHandler:
    if isinstance(fault.exception, Last):
        return fault.end()
    if isinstance(fault.exception, Upward):
        return fault.escalate()
    return fault.restart(factory)


# -- the model --------------------------------------------------------------------------------


@dataclass
class LeafModel:
    """What the rules say of a leaf."""

    path: str
    leaf: Leaf
    state: str = "none"  # "up"; "kept": down, and may come back
    how: str = ""  # it is kept: "fault", "normal", "stopped"
    incarnation: int = 0
    count: int = 0
    saved: int | None = None

    def let_go(self) -> None:
        """What was kept of it is gone."""
        self.state, self.how, self.saved, self.incarnation = "none", "", None, 0


@dataclass
class SupervisorModel:
    """What the rules say of a supervisor: OTP's, and what is below it."""

    path: str
    tree: Tree
    parent: SupervisorModel | None = None
    model: Model | None = None
    below: dict[str, LeafModel | SupervisorModel] = field(default_factory=dict)
    is_first: bool = True  # its start is not that of a later incarnation
    is_kept: bool = False  # what is below it comes back with it

    def let_go(self) -> None:
        """What was kept of it is gone."""
        self.is_first = True
        self.let_go_below()

    def let_go_below(self) -> None:
        """What was kept of its children is gone."""
        self.model = None
        self.is_kept = False
        for node in self.below.values():
            node.let_go()
        self.below.clear()


class TreeModel:
    """The whole tree, where nothing takes time but delays."""

    def __init__(self, tree: Tree) -> None:
        self.now = 0
        self.log: list[tuple[str, str]] = []
        self.seen: list[tuple[str, int]] = []
        self.failing: dict[str, int] = {}
        self.unneeded: set[str] = set()
        self.faults = 0  # of leaves
        self.side_by_side = False  # so the order of ends is not known
        self.is_over = False
        self.top = SupervisorModel(tree.id, tree)
        self._deeds: deque[tuple[SupervisorModel, Deed]] = deque()
        self._begin(self.top)
        self._settle()

    # -- what is done to it -----------------------------------------------------------------

    def node(self, path: str) -> LeafModel | SupervisorModel | None:
        """What has that path, if its supervisor knows it."""
        node: LeafModel | SupervisorModel | None = self.top
        for part in path.split("/")[1:]:
            if not isinstance(node, SupervisorModel) or node.model is None:
                return None
            node = node.below.get(part) if part in node.model.children else None
        return node

    def supervisor(self, path: str) -> SupervisorModel | None:
        """The supervisor of that path, if it runs."""
        node = self.node(path)
        runs = isinstance(node, SupervisorModel) and node.model is not None
        return node if runs and not self.is_over else None  # type: ignore[return-value]

    def tell(self, path: str, message: Any) -> None:
        """A leaf handles a message, if it runs."""
        leaf = self.node(path)
        if not isinstance(leaf, LeafModel) or leaf.state != "up" or self.is_over:
            return
        if isinstance(message, int):
            leaf.count += message
        elif message == "save":
            leaf.saved = leaf.count
        else:
            self._goes_down(leaf, message)
        self._settle()

    def kill(self, path: str) -> None:
        """Somebody ends a leaf or a supervisor for good: that is `terminate_child`."""
        parent = self.supervisor(path.rpartition("/")[0])
        if parent is not None:
            self.ask(parent.path, "terminate", path.rpartition("/")[2], None)

    def ask(self, path: str, request: str, key: str, leaf: Leaf | None) -> str | None:
        """A request to a supervisor; returns the error it gets."""
        supervisor = self.supervisor(path)
        assert supervisor is not None
        model = supervisor.model
        assert model is not None
        error = model.refusal(request, key)
        if error is not None:
            return error
        if request == "add":
            assert leaf is not None
            supervisor.below[key] = LeafModel(f"{path}/{key}", leaf)
            self._do(supervisor, model.add(_child(leaf), self.now))
        elif request == "terminate" and model.children[key].state == "stopped":
            return None
        else:
            self._do(supervisor, getattr(model, request)(key, self.now))
        self._settle()
        child = supervisor.model.children.get(key) if supervisor.model is not None else None
        if request in ("add", "restart") and (child is None or child.state != "running"):
            return "" if f"{path}/{key}" in self.unneeded else "create"
        return None

    def end(self) -> None:
        """The system ends."""
        if self.top.model is not None:
            self._do(self.top, self.top.model.end(self.now))
        self._settle()

    # -- what follows -----------------------------------------------------------------------

    def _settle(self) -> None:
        while self._deeds:
            supervisor, deed = self._deeds.popleft()
            getattr(self, "_" + deed[0].replace(" ", "_"))(supervisor, *deed[1:])

    def _do(self, supervisor: SupervisorModel, deeds: list[Deed]) -> None:
        self._deeds.extend((supervisor, deed) for deed in deeds)

    def _goes_down(self, leaf: LeafModel, how: str) -> None:
        parent = self.node(leaf.path.rpartition("/")[0])
        assert isinstance(parent, SupervisorModel)
        model = parent.model
        assert model is not None
        key = leaf.leaf.id
        if how == "end":
            self.log.append((leaf.path, "end"))
            leaf.state, leaf.how = "kept", "normal"
            self._do(parent, model.went_down(key, "normal", self.now))
            return
        leaf.state, leaf.how = "kept", "fault"
        self._faults(leaf)
        if how == "upward":
            leaf.how = "stopped"  # it comes back with the others, as they do
            self._do(parent, model.escalate(key, self.now))
        elif how == "last":
            leaf.let_go()
            self._do(parent, model.went_down(key, "final", self.now))
        else:
            self._do(parent, model.went_down(key, "fault", self.now))

    def _faults(self, leaf: LeafModel) -> None:
        self.faults += 1
        if leaf.saved is not None:
            self.seen.append((leaf.path, leaf.saved))

    def _begin(self, supervisor: SupervisorModel) -> None:
        tree = supervisor.tree
        limit = None if tree.most is None else (tree.most, round(tree.within * SECOND))
        model = supervisor.model = Model(tree.strategy, limit, tree.auto_shutdown)
        declared = {child.id: child for child in tree.children}
        for key in [key for key in supervisor.below if key not in declared]:
            supervisor.below.pop(key).let_go()
        for key, child in declared.items():
            path = f"{supervisor.path}/{key}"
            if key not in supervisor.below and isinstance(child, Tree):
                supervisor.below[key] = SupervisorModel(path, child, supervisor)
            elif key not in supervisor.below:
                assert isinstance(child, Leaf)
                supervisor.below[key] = LeafModel(path, child)
        children = [_child(child) for child in tree.children]
        self._do(supervisor, model.start(children, self.now, keep=supervisor.is_kept))

    def _start(self, supervisor: SupervisorModel, key: str) -> None:
        model = supervisor.model
        assert model is not None
        node = supervisor.below[key]
        if isinstance(node, SupervisorModel):
            self._begin(node)
            return
        if node.state == "kept" and node.how == "stopped" and node.saved is not None:
            self.seen.append((node.path, node.saved))
        if node.how == "normal":
            node.saved = None
        if node.path in self.unneeded:
            self._do(supervisor, model.not_needed(key, self.now))
            return
        was_kept = node.state == "kept"
        node.incarnation += 1
        if self.failing.get(node.path):
            self.failing[node.path] -= 1
            if was_kept:
                node.how = "fault"
                self._faults(node)
            else:
                self.faults += 1
                node.let_go()
            self._do(supervisor, model.failed(key, self.now))
            return
        node.count = node.saved or 0
        node.state, node.how = "up", ""
        self.log.append((node.path, "start"))
        self._do(supervisor, model.started(key, self.now))

    def _stop(self, supervisor: SupervisorModel, key: str, keep: bool) -> None:
        model = supervisor.model
        assert model is not None
        node = supervisor.below[key]
        if isinstance(node, SupervisorModel):
            assert node.model is not None
            self._do(node, node.model.end(self.now, keep=keep))
            return
        if node.state == "up":
            self.log.append((node.path, "end"))
        if keep:
            node.state, node.how = "kept", "stopped"
        else:
            node.let_go()
        self._do(supervisor, model.stopped(key, self.now))

    def _wait(self, *_: Any) -> None:
        raise AssertionError("trees have no backoff here")

    def _release(self, supervisor: SupervisorModel, key: str) -> None:
        supervisor.below[key].let_go()

    def _forget(self, supervisor: SupervisorModel, key: str) -> None:
        supervisor.below.pop(key).let_go()

    def _ready(self, supervisor: SupervisorModel) -> None:
        supervisor.is_first = False
        parent = supervisor.parent
        if parent is not None and parent.model is not None:
            self._do(parent, parent.model.started(supervisor.tree.id, self.now))

    def _give_up(self, *_: Any) -> None:
        """What follows comes when all children are down."""

    def _over(self, supervisor: SupervisorModel, why: str) -> None:
        parent, key = supervisor.parent, supervisor.tree.id
        model = supervisor.model
        assert model is not None
        supervisor.model, supervisor.is_kept = None, True
        if why == "asked" and not model.keeps:
            supervisor.let_go()
        elif why == "auto_shutdown":
            supervisor.let_go_below()
        elif why == "start_failed" and not model.keeps:
            supervisor.let_go_below()
            supervisor.is_kept = not supervisor.is_first
        if parent is None:
            self.is_over = True
            return
        above = parent.model
        assert above is not None
        if why == "asked":
            self._do(parent, above.stopped(key, self.now))
        elif why == "start_failed":
            self._do(parent, above.failed(key, self.now))
        elif why == "escalated":
            self._do(parent, above.went_down(key, "fault", self.now))
        else:
            self._do(parent, above.went_down(key, "normal", self.now))


def _child(declared: Leaf | Tree) -> Child:
    return Child(declared.id, declared.restart, declared.significant)


# -- the system beside it ---------------------------------------------------------------------

Operation = tuple[Any, ...]
"""("tell", path, message), ("kill", path), ("fail", path, starts), ("unneeded", path, whether),
("add", path, leaf), ("terminate" | "restart" | "delete", path, id), ("pass", seconds)."""


class Run:
    """A system, on a backend, and its model.

    Args:
        backend: of the leaves; "manual" for virtual time.
        notes: a path for a file, where leaves in processes of their own log to.
    """

    def __init__(self, tree: Tree, backend: Kind = "manual", notes: str = "") -> None:
        self.tree = tree
        self.world = FileWorld(Notes(notes)) if backend == "process" else World()
        self.model = TreeModel(tree)
        if backend == "manual":
            system = TestSystem()
            self.system: ComponentSystem = system
            self.events: EventRecorder = system.events
        else:
            self.events = EventRecorder()
            self.system = ComponentSystem(backend=backend, on_event=self.events)
        self.top = self.system.create(declare(tree, self.world, tree.id), name=tree.id)
        self.system.start(self.top).result(LIMIT)
        self._settle()

    def do(self, operation: Operation) -> None:
        """Do it to both.

        Raises:
            DiffersError: they do not agree afterwards.
        """
        what, *about = operation
        if self.model.is_over:
            return
        if what == "pass":
            self.model.now += round(about[0] * SECOND)
            if isinstance(self.system, TestSystem):
                self.system.advance(about[0])
        elif what == "fail":
            self.model.failing[about[0]] = self.world.failing[about[0]] = about[1]
        elif what == "unneeded":
            for place in (self.model.unneeded, self.world.unneeded):
                (place.add if about[1] else place.discard)(about[0])
        elif what == "tell":
            self._tell(*about)
        elif what == "kill":
            ref = self.system.find(about[0])
            self.model.kill(about[0])
            if ref is not None:
                self.system.kill(ref).result(LIMIT)
        elif self.model.supervisor(about[0]) is not None:
            self._ask(what, *about)
        self._settle()

    def _tell(self, path: str, message: Any) -> None:
        ref = self.system.find(path)
        node = self.model.node(path)
        if isinstance(node, LeafModel) and node.state == "up":
            if ref is None:
                raise DiffersError(f"{path} should run, and cannot be found")
            ref.tell(message)
        self.model.tell(path, message)

    def _ask(self, what: str, path: str, about: Any) -> None:
        leaf = about if what == "add" else None
        key = about.id if what == "add" else about
        ref = self.system.find(path)
        if ref is None:
            raise DiffersError(f"{path} should run, and cannot be found")
        request: Any
        if what == "add":
            request = StartChild(spec_of(about, self.world, f"{path}/{key}"))
        else:
            kinds = {"terminate": TerminateChild, "restart": RestartChild, "delete": DeleteChild}
            request = kinds[what](key)
        error = self.model.ask(path, what, key, leaf)
        raised: Exception | None = None
        answer: Any = None
        try:
            answer = ref.ask(request, timeout=LIMIT)
        except KompyctError as caught:
            raised = caught
        if error == "create":
            good = isinstance(raised, ComponentCreateError)
        elif error:
            good = raised is not None and isinstance(raised, REFUSED[error])
        else:
            has_ref = what in ("add", "restart") and error is None
            good = raised is None and (answer is not None) is has_ref
        if not good:
            raise DiffersError(f"{what} {key} of {path}: {error!r} expected, not {raised!r}")

    # -- what can be seen ---------------------------------------------------------------------

    def _settle(self) -> None:
        """Let all happen; then the system must be as the model says."""
        if isinstance(self.system, TestSystem):
            self.system.run_until_idle()
            wrong = self.difference()
        else:
            pause = threading.Event()
            until = time.monotonic() + LIMIT
            while (wrong := self.difference()) and time.monotonic() < until:
                pause.wait(0.001)
        if wrong:
            raise DiffersError(wrong)

    def difference(self) -> str:
        """What is not as the model says; "" if all is."""
        mine, theirs = self.world, self.model
        if isinstance(mine, FileWorld):
            mine.look()
        if _by_supervisor(mine.log, self.tree) != _by_supervisor(theirs.log, self.tree):
            return f"hooks: {mine.log[-12:]}, not {theirs.log[-12:]}"
        if sorted(mine.seen) != sorted(theirs.seen):
            return f"recovery functions saw {mine.seen[-6:]}, not {theirs.seen[-6:]}"
        paths = {path for path, _ in theirs.log} | set(mine.failing)
        faults = [event for event in self.events.of(ComponentFaulted) if event.path in paths]
        if len(faults) != theirs.faults:
            return f"{len(faults)} faults, not {theirs.faults}: {[str(f) for f in faults]}"
        if theirs.is_over:
            return "" if not self.top.is_alive else "it is to have ended"
        return self._different(self.top, theirs.top)

    def _different(self, ref: Any, node: SupervisorModel) -> str:
        assert node.model is not None
        infos = ref.ask(WhichChildren(), timeout=LIMIT)
        seen = [(info.id, info.state) for info in infos]
        expected = [(child.key, child.state) for child in node.model.children.values()]
        if seen != expected:
            return f"{node.path} has {seen}, not {expected}"
        counts = ref.ask(CountChildren(), timeout=LIMIT)
        up = sum(state == "running" for _, state in expected)
        if (counts.specs, counts.active) != (len(expected), up):
            return f"{node.path} counts {counts}"
        for info in infos:
            below = node.below[info.id]
            if info.state != "running":
                continue
            if isinstance(below, SupervisorModel):
                wrong = self._different(info.ref, below)
            elif info.ref.state is not State.ACTIVE:
                wrong = f"{below.path} is {info.ref.state}"
            else:
                now = (info.incarnation, info.ref.ask(Count(), timeout=LIMIT))
                is_as = now == (below.incarnation, below.count)
                wrong = "" if is_as else f"{below.path}: {now}, not {below}"
            if wrong:
                return wrong
        return ""

    def finish(self) -> None:
        """End the system: what runs ends in reverse start order, and then nothing runs."""
        self.model.end()
        self.system.shutdown()
        if isinstance(self.world, FileWorld):
            self.world.look()
        before = list(self.world.log)
        if isinstance(self.system, TestSystem):
            self.system.advance(60.0)
        wrong = self.difference()
        if wrong or before != self.world.log:
            raise DiffersError(f"after the end: {wrong}")


def _by_supervisor(log: list[tuple[str, str]], tree: Tree) -> dict[str, list[tuple[str, str]]]:
    """The hooks of each supervisor's children; those of a dynamic one in any order."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path, hook in log:
        found.setdefault(path.rpartition("/")[0], []).append((path, hook))
    for path, hooks in found.items():
        if _at(tree, path).strategy == "dynamic":
            hooks.sort()
    return found


def _at(tree: Tree, path: str) -> Tree:
    for part in path.split("/")[1:]:
        tree = next(child for child in tree.children if child.id == part)  # type: ignore[assignment]
    return tree


def declare(tree: Tree, world: World, path: str) -> ComponentSupervisor:
    limit = None if tree.most is None else RestartLimit(tree.most, tree.within)
    return ComponentSupervisor(
        [spec_of(child, world, f"{path}/{child.id}") for child in tree.children],
        tree.strategy,  # type: ignore[arg-type]  # one of them
        restart_limit=limit,
        auto_shutdown=tree.auto_shutdown,  # type: ignore[arg-type]
    )


def spec_of(declared: Leaf | Tree, world: World, path: str) -> ChildSpec:
    factory: Any = world.factory(path)
    if isinstance(declared, Tree):
        factory = declare(declared, world, path)
    return ChildSpec(
        id=declared.id,
        factory=factory,
        restart=declared.restart,  # type: ignore[arg-type]
        significant=declared.significant,
        policy=POLICY if isinstance(declared, Leaf) else None,  # type: ignore[arg-type]
    )


# -- at random --------------------------------------------------------------------------------

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
RESTARTS = ("permanent", "permanent", "transient", "temporary")


def random_tree(chance: random.Random, *, in_time: bool = True) -> Tree:
    """Some tree of up to three levels; `in_time`: with limits that depend on the clock."""
    return _random_tree(chance, "top", 0, in_time=in_time)


def _random_tree(chance: random.Random, id: str, depth: int, *, in_time: bool) -> Tree:
    dynamic = depth > 0 and chance.random() < 0.15
    auto = "never"
    if depth > 0 and chance.random() < 0.3:
        auto = chance.choice(("any_significant", "all_significant"))
    children: list[Leaf | Tree] = []
    for number in range(0 if dynamic else chance.randrange(1, 4)):
        if depth < 2 and chance.random() < (0.5 if depth == 0 else 0.25):
            children.append(_random_tree(chance, f"s{number}", depth + 1, in_time=in_time))
            continue
        restart = chance.choice(RESTARTS)
        significant = auto != "never" and restart != "permanent" and chance.random() < 0.7
        children.append(Leaf(f"l{number}", restart, significant))
    most = chance.choice((0, 1, 2, 4)) if depth else None
    return Tree(
        id,
        "dynamic" if dynamic else chance.choice(STRATEGIES),
        tuple(children),
        most,
        chance.choice((1.0, 5.0)) if in_time else 1000.0,
        auto,
        chance.choice(("permanent", "permanent", "transient", "temporary")),
    )


def paths_of(tree: Tree, path: str = "") -> tuple[list[str], list[str]]:
    """The paths of the leaves and of the supervisors, those that may be added with them."""
    here = path or tree.id
    leaves, supervisors = [f"{here}/z"], [here]
    for child in tree.children:
        below = f"{here}/{child.id}"
        if isinstance(child, Tree):
            more = paths_of(child, below)
            leaves += more[0]
            supervisors += more[1]
        else:
            leaves.append(below)
    return leaves, supervisors


def random_operation(
    chance: random.Random, leaves: list[str], supervisors: list[str]
) -> Operation:
    """Something that may be done."""
    if chance.random() < 0.65:
        message = chance.choice((1, 2, "save", "save", "fault", "fault", "fault", "end", "last"))
        if chance.random() < 0.03:
            message = "upward"
        return ("tell", chance.choice(leaves), message)
    what = chance.choice(
        ("kill", "fail", "unneeded", "add", "add", "terminate", "restart", "restart", "delete",
         "pass", "pass")
    )  # fmt: skip
    if what == "pass":
        return (what, chance.choice((0.3, 1.0, 6.0)))
    path = chance.choice(leaves)
    if what == "kill":
        return (what, path)
    if what == "fail":
        return (what, path, chance.choice((0, 0, 1, 2)))
    if what == "unneeded":
        return (what, path, chance.random() < 0.3)
    if what == "add":
        return (what, chance.choice(supervisors), Leaf("z", chance.choice(RESTARTS)))
    place, _, key = path.rpartition("/")
    return (what, place, key)


def random_run(seed: int, steps: int, backend: Kind = "manual", *, shrink: bool = True) -> int:
    """One tree and so many operations; returns how many were done before it ended.

    Raises:
        DiffersError: it names the tree and the operations; `shrink`: made few.
    """
    chance = random.Random(seed)
    tree = random_tree(chance, in_time=backend == "manual")
    places = paths_of(tree)
    operations = [random_operation(chance, *places) for _ in range(steps)]
    if backend != "manual":  # where time is what it is
        operations = [operation for operation in operations if operation[0] != "pass"]
    if backend == "process":  # what happens in `on_start` there is not for the test to say
        left_out = ("fail", "unneeded")
        operations = [operation for operation in operations if operation[0] not in left_out]
    with of_a_turn(seed):
        failure, done = attempt(tree, operations, backend)
        if failure and shrink and backend == "manual":
            operations = made_few(tree, operations[: done + 1])
            failure = attempt(tree, operations, backend)[0]
    if failure:
        raise DiffersError(f"seed {seed}: {failure}\n{tree}\n{operations}")
    return done


def of_a_turn(seed: int) -> AbstractContextManager[object]:
    """In every other run a supervisor's turn takes one action, as if there were very many."""
    return patch.object(supervising, "ACTIONS_AT_ONCE", 1) if seed % 2 else nullcontext()


def attempt(tree: Tree, operations: list[Operation], backend: Kind = "manual") -> tuple[str, int]:
    """Do all of them; returns what differs, if anything does, and how many were done."""
    if backend == "process":
        with tempfile.TemporaryDirectory() as folder:
            return _attempt(tree, operations, backend, os.path.join(folder, "notes"))
    return _attempt(tree, operations, backend, "")


def _attempt(
    tree: Tree, operations: list[Operation], backend: Kind, notes: str
) -> tuple[str, int]:
    done = 0
    run: Run | None = None
    try:
        run = Run(tree, backend, notes)
        for operation in operations:
            run.do(operation)
            if run.model.is_over:
                break
            done += 1
        run.finish()
    except Exception as error:
        if run is not None:
            with suppress(Exception):  # the first thing that was wrong counts
                run.system.shutdown(timeout=1.0)
        return f"{type(error).__name__}: {error}", done
    return "", done


def made_few(tree: Tree, operations: list[Operation]) -> list[Operation]:
    """As few of them as still differ, taking away one after the other."""
    index = len(operations) - 1
    while index >= 0:
        fewer = operations[:index] + operations[index + 1 :]
        if attempt(tree, fewer)[0]:
            operations = fewer
        index -= 1
    return operations


def main(arguments: list[str] | None = None) -> int:
    """Runs at random; prints how many there were, and the first that differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.trees")
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--backend", choices=("manual", "thread", "pool", "process"), default="manual"
    )
    given = parser.parse_args(arguments)
    logging.getLogger("kompyct").setLevel(logging.CRITICAL)
    begun, operations = time.monotonic(), 0
    for seed in range(given.seed, given.seed + given.runs):
        operations += random_run(seed, given.steps, given.backend)
    seconds = time.monotonic() - begun
    print(f"{given.runs} runs on {given.backend}, {operations} operations, {seconds:.0f} s")
    return 0


if __name__ == "__main__":  # under its own name, which other processes know it by
    from tests.harness import trees

    sys.exit(trees.main())
