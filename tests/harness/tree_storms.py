"""What holds of a tree however many things happen to it at once?

Several operations are begun before any has come to its end: faults of many children, requests,
ends. What follows depends on the order of turns, so no model says it; but when it has come to
rest, what holds of every supervisor must hold. The trees and leaves are those of `trees`.

Run it as `python -m tests.harness.tree_storms`: the long form, on any backend.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import threading
import time
from collections import Counter as Tally
from contextlib import suppress
from typing import Any

from kompyct import (
    ComponentRef,
    ComponentSystem,
    DeleteChild,
    FaultContext,
    RecoveryHandler,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChildren,
)
from kompyct.errors import KompyctError
from kompyct.events import Abandoned, ComponentFaulted
from kompyct.testing import EventRecorder, TestSystem
from tests.harness.trees import (
    LIMIT,
    Count,
    Counter,
    DiffersError,
    Kind,
    Operation,
    Ordinary,
    Tree,
    World,
    declare,
    of_a_turn,
    paths_of,
    random_operation,
    random_tree,
    spec_of,
)

REQUESTS = {"terminate": TerminateChild, "restart": RestartChild, "delete": DeleteChild}


class StormWorld(World):
    """A world whose leaves keep account of what happens to them, and find what must not be."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.up: Tally[str] = Tally()
        self.last: dict[str, int] = {}  # what each has saved last
        self.raised: Tally[str] = Tally()  # by leaves, per path
        self.decided: Tally[str] = Tally()  # calls of recovery functions for faults, per path
        self.to_decide: Tally[str] = Tally()  # faults of those that have one
        self.lock = threading.Lock()  # protects all of them

    def make(self, path: str, count: int = 0) -> Any:
        """A leaf."""
        return StormCounter(self, path, count)

    def recover(self, fault: FaultContext[int]) -> RecoveryHandler:
        """The recovery function: it is given what was saved last."""
        path = fault.path
        with self.lock:
            if fault.kind.value != "sibling":
                self.decided[path] += 1
            if fault.snapshot != self.last.get(path):
                self.wrong.append(f"{path} saw {fault.snapshot}, not {self.last.get(path)}")
        return super().recover(fault)


class StormCounter(Counter):
    """A leaf of a `StormWorld`."""

    _world: StormWorld

    def __init__(self, world: StormWorld, path: str, count: int) -> None:
        super().__init__(world, path, count)
        self._saved = False
        self._is_up = False

    def on_start(self) -> None:
        world, path = self._world, self._path
        with world.lock:
            if world.up[path]:
                world.wrong.append(f"{path} was started twice")
            if world.failing.get(path):
                world.failing[path] -= 1
                world.raised[path] += 1
                raise Ordinary("told to fail")
            world.up[path] += 1
            self._is_up = True
            world.log.append((path, "start"))

    def on_kill(self) -> None:
        self._down("end")

    def on_receive(self, message: Any) -> int | None:
        world, path = self._world, self._path
        if not self._is_up:
            world.wrong.append(f"{path} handled {message!r} while it was down")
        if message == "save":
            with world.lock:
                world.last[path] = self._count
        try:
            return super().on_receive(message)
        except Exception:
            with world.lock:
                world.raised[path] += 1
            self._down("fault")
            raise

    def _down(self, how: str) -> None:
        with self._world.lock:
            self._world.up[self._path] -= self._is_up
            self._is_up = False
            self._world.log.append((self._path, how))


def storm(seed: int, steps: int, backend: Kind = "manual") -> int:
    """One tree, and so many operations, a few at a time; returns how many.

    Raises:
        DiffersError: something does not hold; it names the tree and the seed.
    """
    with of_a_turn(seed):
        return _storm(random.Random(seed), seed, steps, backend)


def _storm(chance: random.Random, seed: int, steps: int, backend: Kind) -> int:
    tree = random_tree(chance, in_time=backend == "manual")
    world = StormWorld()
    places = paths_of(tree)
    if backend == "manual":
        system: ComponentSystem = TestSystem()
        events: EventRecorder = system.events  # type: ignore[attr-defined]  # of a TestSystem
    else:
        events = EventRecorder()
        system = ComponentSystem(backend=backend, on_event=events)
    done = 0
    try:
        top = system.create(declare(tree, world, tree.id), name=tree.id)
        system.start(top).result(LIMIT)
        while done < steps and top.is_alive:
            futures = []
            for _ in range(chance.randrange(1, 6)):
                futures.append(_begin(system, world, random_operation(chance, *places)))
                done += 1
            _settle(system, tree, top, world, events)
            for future in futures:
                with suppress(KompyctError):  # that it is answered is what counts
                    if future is not None:
                        future.result(LIMIT)
        before = len(world.log)
        running = {path for path, count in world.up.items() if count}
        system.shutdown()
        _ended(tree, world, events, before, running)
        if isinstance(system, TestSystem):
            system.advance(60.0)
        _must(sum(world.up.values()) == 0, f"still up: {world.up}")
    except Exception as error:
        with suppress(Exception):
            system.shutdown(timeout=1.0)
        what = f"seed {seed}, after {done} operations: {type(error).__name__}: {error}"
        raise DiffersError(f"{what}\n{tree}\n{world.log[-20:]}") from error
    return done


def _begin(system: ComponentSystem, world: StormWorld, operation: Operation) -> Any:
    what, path = operation[:2]
    about: Any = operation[2] if len(operation) > 2 else None
    if what == "pass":
        if isinstance(system, TestSystem):
            system.advance(path)
        return None
    if what in ("fail", "unneeded"):
        world.failing[path] = about if what == "fail" else 0
        return None
    ref: Any = system.find(path)
    if ref is None:
        return None
    if what == "tell":
        ref.tell(about)
    elif what == "kill":
        return system.kill(ref)
    elif what == "add":
        spec = spec_of(about, world, f"{path}/{about.id}")
        return ref.ask(StartChild(spec), block=False)
    elif what in REQUESTS:
        return ref.ask(REQUESTS[what](about), block=False)
    return None


def _settle(
    system: ComponentSystem, tree: Tree, top: ComponentRef[Any], world: StormWorld, events: Any
) -> None:
    """Let all that was begun come to its end, and see that all is well then."""
    if isinstance(system, TestSystem):
        system.run_until_idle()
        _look(tree, top, world, events)
        return
    pause = threading.Event()
    until = time.monotonic() + LIMIT
    seen = -1
    while True:  # where nothing happens twice in a row, nothing does
        try:
            before, seen = seen, len(world.log) + len(events)
            _look(tree, top, world, events)
            if before == seen:
                return
        except (DiffersError, KompyctError):
            if time.monotonic() > until:
                raise
        pause.wait(0.003)


def _is_at_rest(ref: ComponentRef[Any]) -> bool:
    """Whether all that is below runs, with nothing left to handle, or is down."""
    for info in ref.ask(WhichChildren(), timeout=LIMIT):
        if info.state == "stopped":
            continue
        if info.state != "running":
            return False
        ref_below: Any = info.ref
        if info.is_supervisor and not _is_at_rest(ref_below):
            return False
        if not info.is_supervisor and ref_below.ask(Count(), timeout=LIMIT) < 0:
            return False
    return True


def _look(tree: Tree, top: ComponentRef[Any], world: StormWorld, events: EventRecorder) -> None:
    """What holds when all has come to rest."""
    _must(not world.wrong, "; ".join(world.wrong))
    _must(not events.of(Abandoned), "something was abandoned")
    if top.is_alive:
        _must(_is_at_rest(top), "it does not come to rest")
        _limits(tree, top)
    with world.lock:
        raised = dict(world.raised)
    told = Tally(event.path for event in events.of(ComponentFaulted))
    for path, count in raised.items():
        _must(told[path] == count, f"{path} raised {count} times, told {told[path]} times")
        _must(world.decided[path] <= count, f"{path}: more decisions than faults")


def _limits(tree: Tree, ref: Any) -> None:
    """No supervisor has more restarts in its window than its limit."""
    cell = ref._cell
    supervision = cell.supervision
    if supervision is not None and tree.most is not None:
        _must(len(supervision.restarts) <= tree.most, f"{ref.path}: more restarts than its limit")
    below = {child.id: child for child in tree.children if isinstance(child, Tree)}
    for info in ref.ask(WhichChildren(), timeout=LIMIT):
        if info.id in below and info.state == "running":
            _limits(below[info.id], info.ref)


def _ended(
    tree: Tree, world: StormWorld, events: EventRecorder, before: int, running: set[str]
) -> None:
    """What was running has ended once, and under each supervisor the last one first."""
    _must(not world.wrong, "; ".join(world.wrong))
    ends = [path for path, how in world.log[before:] if how == "end"]
    _must(sorted(ends) == sorted(running), f"ended {ends}, not {sorted(running)}")
    starts = [path for path, how in world.log[:before] if how == "start"]
    _order(tree, tree.id, [path for path in ends if path in starts])


def _order(tree: Tree, path: str, ends: list[str]) -> None:
    """Declared children end in reverse, each with all that is below it."""
    declared = [f"{path}/{child.id}" for child in tree.children]
    if tree.strategy != "dynamic":
        order = [
            next(i for i, child in enumerate(declared) if f"{end}/".startswith(f"{child}/"))
            for end in ends
            if any(f"{end}/".startswith(f"{child}/") for child in declared)
        ]
        _must(order == sorted(order, reverse=True), f"{path}: ended {ends}")
    for child in tree.children:
        if isinstance(child, Tree):
            here = f"{path}/{child.id}"
            _order(child, here, [end for end in ends if end.startswith(f"{here}/")])


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise DiffersError(what)


def main(arguments: list[str] | None = None) -> int:
    """Storms at random; prints how many there were, and the first that is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.tree_storms")
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", choices=("manual", "thread", "pool"), default="manual")
    given = parser.parse_args(arguments)
    logging.getLogger("kompyct").setLevel(logging.CRITICAL)
    begun, operations = time.monotonic(), 0
    for seed in range(given.seed, given.seed + given.runs):
        operations += storm(seed, given.steps, given.backend)
    seconds = time.monotonic() - begun
    print(f"{given.runs} storms on {given.backend}, {operations} operations, {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
