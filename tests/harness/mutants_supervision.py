"""Would the search over `Supervision` find a bug? Bugs planted on purpose, each to be caught.

`planting` says what a mutant is; `supervision` what searches for them.
"""

from __future__ import annotations

from kompyct.restart import Backoff, RestartLimit
from kompyct.supervision import Supervision
from tests.harness.planting import Mutant


def _mutant(what: str, name: str, before: str, after: str, owner: type = Supervision) -> Mutant:
    return Mutant(what, owner, name, before, after, ())


MUTANTS: tuple[Mutant, ...] = (
    # -- orders
    _mutant(
        "an end in start order", "_end",
        "self._plan.extend((_Step('stop', key) for key in reversed(self.members)))",
        "self._plan.extend((_Step('stop', key) for key in self.members))",
    ),
    _mutant(
        "a group stopped in start order", "_restart",
        "self._plan = deque((_Step('stop', other) for other in reversed(keys) if other != key))",
        "self._plan = deque((_Step('stop', other) for other in keys if other != key))",
    ),
    _mutant(
        "a group started in stop order", "_restart",
        "self._plan.extend((_Step('start', other) for other in keys))",
        "self._plan.extend((_Step('start', other) for other in reversed(keys)))",
    ),
    _mutant(
        "the next start without waiting for the one before", "_take_step",
        """
        member.standing = Standing.STARTING
        self._actions.append(Start(key))
        return False
        """,
        """
        member.standing = Standing.STARTING
        self._actions.append(Start(key))
        self._plan.popleft()
        return True
        """,
    ),
    _mutant(
        "over before those stopped side by side are down", "_finish",
        "if self._plan or self._side_by_side:",
        "if self._plan:",
    ),
    # -- who comes back
    _mutant(
        "a transient child comes back after its own end", "_comes_back",
        "return exit is Exit.NORMAL and restart is PERMANENT",
        "return exit is Exit.NORMAL and restart is not TEMPORARY",
    ),
    _mutant(
        "a temporary child comes back after a fault", "_comes_back",
        "return restart is not TEMPORARY",
        "return True",
    ),
    _mutant(
        "a temporary child comes back with its group", "_lie_with_others",
        "if member.spec.restart is TEMPORARY:",
        "if False:",
    ),
    _mutant(
        "rest for one leaves those after it", "_group",
        "return keys[keys.index(key):] if self._strategy is Strategy.REST_FOR_ONE else keys",
        "return keys[:keys.index(key) + 1] if self._strategy is Strategy.REST_FOR_ONE else keys",
    ),
    # -- what counts
    _mutant(
        "restarts are not counted", "_restart",
        "self.restarts = charged",
        "pass",
    ),
    _mutant(
        "a restart one window ago does not count", "recent",
        "return restarts[bisect_left(restarts, now - round(self.within * SECOND)):]",
        "return restarts[bisect_left(restarts, now - round(self.within * SECOND) + 1):]",
        RestartLimit,
    ),
    _mutant(
        "one restart too many", "charge",
        "return charged if len(charged) <= self.max_restarts else None",
        "return charged if len(charged) <= self.max_restarts + 1 else None",
        RestartLimit,
    ),
    _mutant(
        "restarts in a row do not wait longer", "_delay",
        "member.earlier += 1",
        "pass",
    ),
    _mutant(
        "a delay is never short again", "is_over",
        "return running >= quiet * SECOND",
        "return False",
        Backoff,
    ),
    _mutant(
        "all significant: those that wait to come back do not count", "_is_last_that_counts",
        "return not any((member.spec.significant and "
        "(member.standing is not Standing.STOPPED or self.is_planned(key)) "
        "for key, member in self.members.items()))",
        "return not any((member.spec.significant and member.standing is Standing.RUNNING "
        "for member in self.members.values()))",
    ),
    # -- one thing after another
    _mutant(
        "what goes down during a plan is dealt with at once", "_deal_with",
        "elif self._plan and (self.is_busy or "
        "(comes_back and (not self._is_plan_in_group(key)))):",
        "elif False:",
    ),
    _mutant(
        "a plan that waits is lost to another one", "_is_plan_in_group",
        "return all((step.key in group for step in self._plan if step.what == 'start'))",
        "return True",
    ),
    _mutant(
        "what has waited is dealt with twice", "_take_step",
        "member.ticket = next(self._tickets)",
        "pass",
    ),
    _mutant(
        "a child that ends while its supervisor ends is brought back", "_deal_with",
        "if self.outcome is not None:",
        "if False:",
    ),
    _mutant(
        "a delay that was cancelled starts the child", "due",
        "if member is None or member.ticket != ticket or member.standing is not "
        "Standing.RESTARTING or (self.outcome is not None):",
        "if member is None or member.standing is not Standing.RESTARTING or "
        "(self.outcome is not None):",
    ),
    _mutant(
        "a child that is being stopped runs again", "started",
        "if member is None or member.standing is not Standing.STARTING:",
        "if member is None or member.standing is Standing.RUNNING:",
    ),
    # -- what is kept, and what is answered
    _mutant(
        "a first start that fails is tried again", "failed",
        "elif not self.is_ready:",
        "elif False:",
    ),
    _mutant(
        "a spec is forgotten when it cannot be restarted", "failed",
        "self._lay_down(key, member, forget=by_request == 'add')",
        "self._lay_down(key, member, forget=True)",
    ),
    _mutant(
        "children are kept for nobody", "end",
        "self._keep = self._keep and keep",
        "self._keep = self._keep or keep",
    ),
    _mutant(
        "a temporary child is kept for another incarnation", "_take_step",
        "self._actions.append(Stop(key, keep=not temporary and self._is_kept))",
        "self._actions.append(Stop(key, keep=self._is_kept))",
    ),
)  # fmt: skip
