"""How does a made-up tree live in virtual time?

Its children do nothing but run and fault. Who restarts, waits and gives up is decided by
`Supervision`. Everything that happens is an event with a time, one after the other, as what
supervisors hear is in a real tree; so nothing here happens in the midst of something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

from kompyct.children import ChildSpec, decided_by
from kompyct.clock import SECOND, nanoseconds
from kompyct.declared import below
from kompyct.errors import ArgumentError, RestartLimitError
from kompyct.simulated import ChildCount, Happening, Run
from kompyct.strategy import (
    Action,
    Exit,
    GiveUp,
    Key,
    Outcome,
    Over,
    Ready,
    Release,
    Start,
    Stop,
    Strategy,
    Wait,
)
from kompyct.supervision import Supervision
from kompyct.supervisor import ComponentSupervisor

if TYPE_CHECKING:
    from kompyct.component import Component

MAX_EVENTS = 1_000_000
"""Events of one run, some ten seconds of work; more are a mistake in a rate or in `seconds`."""

_REASONS = {
    Outcome.RESTART_LIMIT: "its restart limit is reached",
    Outcome.ESCALATED: "a fault of a child is escalated",
    Outcome.AUTO_SHUTDOWN: "its significant children have ended",
}


class _Leaf:
    """A child that is no supervisor, as long as anything of it is kept."""

    def __init__(self, path: str, spec: ChildSpec, above: _Node | None) -> None:
        self.path = path
        self.spec = spec
        self.above = above
        self.restarts: tuple[int, ...] = ()  # those that its budget counts
        self.life = 0  # what was planned for an earlier one counts no more
        self.has_faulted = False  # so that its next start is a restart of its own
        self.has_run = False


class _Node(_Leaf):
    """A supervisor; `above` of the top is None."""

    def __init__(
        self, path: str, spec: ChildSpec, above: _Node | None, declared: ComponentSupervisor
    ) -> None:
        super().__init__(path, spec, above)
        self.declared = declared
        self.below: dict[Key, _Leaf] = {}
        self.supervision: Supervision | None = None
        self.is_told = False  # to end, by the one above
        self.is_kept = True  # for another start, when it has ended
        self.has_stopped_some = False  # in a group restart
        self.cause = Exception()  # what a child faulted with last


class World:
    """The clock, what is due, and the tree."""

    def __init__(
        self,
        rates: Mapping[str, float],
        seed: int,
        start_times: Mapping[str, float],
        children: Mapping[str, int],
        run: Run,
        lines: int,
    ) -> None:
        self._rates = rates
        self._seed = seed
        self._start_times = start_times
        self._children = children
        self._run = run
        self._lines = lines
        self._now = 0
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._random: dict[str, Random] = {}
        self._down_since: dict[str, int] = {}
        self._filled: set[str] = set()

    def run(self, tree: ComponentSupervisor) -> Run:
        """Let the time pass."""
        run = self._run
        top = _Node("", ChildSpec(id="top", factory=tree), None, tree)
        self._note_children("", tree)
        self._begin(top)
        end = nanoseconds(run.seconds, "seconds")
        events = 0
        while self._due and self._due[0][0] <= end and run.ended_at is None:
            self._now, _, happen = heappop(self._due)
            happen()
            events += 1
            if events > MAX_EVENTS:
                raise ArgumentError(
                    f"more than {MAX_EVENTS} things happen within {self._now / SECOND:g} s; give "
                    "a shorter time, or smaller rates"
                )
        for path, since in self._down_since.items():
            run.children[path].down += (end - since) / SECOND
        return run

    # -- children ---------------------------------------------------------------------------

    def _note_children(self, path: str, declared: ComponentSupervisor) -> None:
        """Have all children in the summary, also those that never run."""
        self._count(path).is_supervisor = True
        for spec in declared.children:
            here = below(path, spec.id)
            self._count(here)
            if isinstance(spec.factory, ComponentSupervisor):
                self._note_children(here, spec.factory)
        for number in range(1, self._children.get(path, 0) + 1):
            self._count(below(path, str(number)))

    def _count(self, path: str) -> ChildCount:
        if path not in self._run.children:
            self._run.children[path] = ChildCount()
            self._down_since[path] = 0
        return self._run.children[path]

    def _begin(self, child: _Leaf, *, again: bool = False) -> None:
        child.life += 1
        if not isinstance(child, _Node):
            seconds = self._start_times.get(child.path, 0.0)
            self._later(round(seconds * SECOND), lambda: self._is_up(child), child)
            return
        child.is_told = child.has_stopped_some = False
        declared = child.declared
        if declared.strategy is Strategy.DYNAMIC:
            child.below.clear()  # whoever had added them has to do so again
        supervision = child.supervision = Supervision(
            declared.strategy,
            declared.restart_limit,
            declared.auto_shutdown,
            declared.backoff,
            self._random_of(f"{child.path}/").random,
        )
        self._do(child, supervision.start(declared.children, self._now, keep=again))

    def _is_up(self, child: _Leaf) -> None:
        """It has started."""
        since = self._down_since.pop(child.path, None)
        if since is not None:
            self._count(child.path).down += (self._now - since) / SECOND
        rate = self._rates.get(child.path, 0.0)
        if rate and not isinstance(child, _Node):
            wait = self._random_of(child.path).expovariate(rate)
            self._later(max(round(wait * SECOND), 1), lambda: self._fault(child), child)
        above = child.above
        if above is not None and above.supervision is not None:
            self._do(above, above.supervision.started(_key(child), self._now))

    def _is_down(self, child: _Leaf) -> None:
        """It does not run any more."""
        child.life += 1
        self._down_since.setdefault(child.path, self._now)

    def _fault(self, child: _Leaf) -> None:
        """A child that is no supervisor faults."""
        self._is_down(child)
        self._count(child.path).faults += 1
        self._say(child.path, "faults")
        self._went_down(child, Exception(), Exit.FAULT)

    def _went_down(self, child: _Leaf, error: Exception, exit: Exit) -> None:
        """Tell its supervisor, whom policies and budgets may keep from restarting it."""
        above = child.above
        supervision = None if above is None else above.supervision
        if above is None or supervision is None:
            return
        key = _key(child)
        child.has_faulted = True
        above.cause = error
        answer = decided_by(child.spec.policy or {}, error)
        answer = answer or decided_by(above.declared.policy, error)
        if answer == "escalate":
            self._do(above, supervision.escalate(key, self._now))
            return
        budget = child.spec.budget
        if answer is None or answer == "restart":
            if budget is not None:
                charged = budget.charge(child.restarts, self._now)
                if charged is None:
                    self._say(child.path, "has used up its budget, and is ended for good")
                    exit = Exit.FINAL
                else:
                    child.restarts = charged
        else:
            exit = Exit.FINAL
        self._do(above, supervision.went_down(key, exit, self._now))

    # -- what supervision says ---------------------------------------------------------------

    def _do(self, node: _Node, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Start):
                self._start(node, action.key)
            elif isinstance(action, Stop):
                self._stop(node, action)
            elif isinstance(action, Wait):
                self._wait(node, action)
            elif isinstance(action, Release):
                self._release(node, action.key)
            elif isinstance(action, Ready):
                self._later(0, lambda: self._is_ready(node), node)
            elif isinstance(action, GiveUp):
                self._say(
                    node.path, f"gives up because of {action.key!r}: {_REASONS[action.outcome]}"
                )
                gave_up = self._count(node.path)
                gave_up.faults += 1
                gave_up.give_ups.append(self._now / SECOND)
            elif isinstance(action, Over):
                self._later(0, partial(self._is_over, node, action.outcome))

    def _start(self, node: _Node, key: Key) -> None:
        child = node.below.get(key)
        if child is None:
            child = node.below[key] = self._made(node, key)
        counted = self._count(child.path)
        if not child.has_run:
            again = False
        elif child.has_faulted:
            again = True
            counted.restarts += 1
            with_others = " with others" if node.has_stopped_some else ""
            self._count(node.path).group_restarts += node.has_stopped_some
            node.has_stopped_some = False
            self._say(child.path, f"is restarted{with_others}")
        else:
            again = True
            counted.restarts_with_others += 1
        child.has_faulted, child.has_run = False, True
        self._begin(child, again=again)

    def _made(self, node: _Node, key: Key) -> _Leaf:
        assert node.supervision is not None
        spec = node.supervision.members[key].spec
        path = below(node.path, str(key))
        if isinstance(spec.factory, ComponentSupervisor):
            return _Node(path, spec, node, spec.factory)
        return _Leaf(path, spec, node)

    def _stop(self, node: _Node, action: Stop) -> None:
        child = node.below[action.key]
        if node.supervision is not None and node.supervision.outcome is None:
            node.has_stopped_some = True
        if isinstance(child, _Node) and child.supervision is not None:
            child.is_told = True
            child.is_kept = action.keep
            self._do(child, child.supervision.end(self._now, keep=action.keep))
            return
        self._is_down(child)
        if not action.keep:
            del node.below[action.key]
        self._later(0, lambda: self._has_stopped(child))

    def _has_stopped(self, child: _Leaf) -> None:
        above = child.above
        if above is not None and above.supervision is not None:
            self._do(above, above.supervision.stopped(_key(child), self._now))

    def _wait(self, node: _Node, action: Wait) -> None:
        child = node.below[action.key]
        self._say(child.path, f"waits {action.delay / SECOND:.3f} s")

        def is_over() -> None:
            if node.supervision is not None:
                self._do(node, node.supervision.due(action.key, action.ticket, self._now))

        self._later(action.delay, is_over, node)

    def _release(self, node: _Node, key: Key) -> None:
        child = node.below.pop(key, None)
        if child is not None:
            self._say(child.path, "stays down")

    def _is_ready(self, node: _Node) -> None:
        """All children have started; those of a dynamic supervisor are added, but only once."""
        supervision = node.supervision
        if supervision is None:
            return
        if node.path in self._children and node.path not in self._filled:
            self._filled.add(node.path)
            for number in range(1, self._children[node.path] + 1):
                spec = ChildSpec(id=str(number), factory=_made_up)
                self._do(node, supervision.add(str(number), spec))
        self._is_up(node)

    def _is_over(self, node: _Node, outcome: Outcome) -> None:
        """All children of a supervisor are down, and so is it."""
        self._is_down(node)
        node.supervision = None
        if node.above is None:
            self._run.ended_at = self._now / SECOND
            self._run.reason = _REASONS[outcome]
        elif node.is_told:
            if not node.is_kept:
                node.above.below.pop(_key(node), None)
            self._has_stopped(node)
        elif outcome is Outcome.RESTART_LIMIT:
            self._went_down(node, RestartLimitError(""), Exit.NORMAL)
        elif outcome is Outcome.ESCALATED:
            self._went_down(node, node.cause, Exit.FAULT)
        else:
            above = node.above.supervision
            node.has_faulted = True
            self._say(node.path, "shuts itself down")
            if above is not None:
                self._do(node.above, above.went_down(_key(node), Exit.NORMAL, self._now))

    # -- time, chance and words --------------------------------------------------------------

    def _later(self, delay: int, happen: Callable[[], None], whose: _Leaf | None = None) -> None:
        """Have it happen after so many nanoseconds, unless `whose` is down by then."""
        life = whose.life if whose is not None else 0

        def happen_still() -> None:
            if whose is None or whose.life == life:
                happen()

        heappush(self._due, (self._now + delay, next(self._order), happen_still))

    def _random_of(self, path: str) -> Random:
        if path not in self._random:
            self._random[path] = Random(f"{self._seed}:{path}")
        return self._random[path]

    def _say(self, path: str, what: str) -> None:
        if len(self._run.timeline) < self._lines:
            self._run.timeline.append(Happening(self._now / SECOND, path, what))
        else:
            self._run.left_out += 1


def _key(child: _Leaf) -> Key:
    assert child.spec.id is not None
    return child.spec.id


def _made_up() -> Component[Any]:
    raise NotImplementedError  # nothing is started here
