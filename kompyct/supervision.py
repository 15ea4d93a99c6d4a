"""Which children start and stop, and in which order, when something happens to one of them?

Pure: events and times go in, actions come out; no thread, no clock, no component. So it can be
tried exhaustively, and `simulate` asks the very same code what would happen.

Source: OTP's `supervisor`, where it keeps its words: see `docs/otp.md` for the differences.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from kompyct.children import Restart
from kompyct.strategy import (
    Action,
    AutoShutdown,
    Exit,
    Forget,
    GiveUp,
    Key,
    Outcome,
    Over,
    Ready,
    Release,
    Standing,
    Start,
    Stop,
    Strategy,
    Wait,
)

if TYPE_CHECKING:
    from kompyct.children import ChildSpec
    from kompyct.restart import Backoff, RestartLimit

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
PERMANENT = Restart.PERMANENT
TEMPORARY = Restart.TEMPORARY


class _Step(NamedTuple):
    """A step of a plan, one child at a time: `begin` is done first, then it is waited for."""

    what: str  # "start", "stop" or "wait"
    key: Key
    delay: int = 0


class Member:
    """A child: its spec, and how it stands with it."""

    __slots__ = ("by_request", "earlier", "spec", "standing", "started_at", "ticket")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.standing = Standing.STOPPED
        self.ticket = 0  # of the restart that waits; an older one counts no more
        self.earlier = 0  # restarts in a row, as its backoff counts them
        self.started_at: int | None = None  # nanoseconds
        self.by_request = ""  # "add" or "restart", while that is under way


class Supervision:
    """What one supervisor knows of its children, and does about them.

    Times are nanoseconds on a monotonic clock. Each method takes an event and returns what is to
    be done, in order. Invariant: of a plan (a start, a group restart, an end) only the first step
    is under way; what goes down meanwhile, and is not part of it, is dealt with afterwards.

    Args:
        limit: how many restarts it allows; None: any number.
        backoff: of children that have none of their own; None: none.
        random: 0 to 1, for the jitter of backoffs.
    """

    def __init__(
        self,
        strategy: Strategy,
        limit: RestartLimit | None,
        auto_shutdown: AutoShutdown,
        backoff: Backoff | None,
        random: Callable[[], float],
    ) -> None:
        self.members: dict[Key, Member] = {}  # in start order
        self.restarts: tuple[int, ...] = ()  # those that the limit still counts
        self.outcome: Outcome | None = None  # set when it is ending
        self.is_ready = False
        self._strategy = strategy
        self._limit = limit
        self._auto_shutdown = auto_shutdown
        self._backoff = backoff
        self._random = random
        self._plan: deque[_Step] = deque()
        self._tickets = count(1)
        self._down: deque[tuple[Key, int, Exit]] = deque()  # to be dealt with after the plan
        self._side_by_side: set[Key] = set()  # what is being stopped in parallel
        self._keep = False  # whether children are kept when it ends
        self._is_over = False
        self._actions: list[Action] = []

    @property
    def is_busy(self) -> bool:
        """Whether a plan is being carried out, and does not merely wait for a backoff."""
        return bool(self._plan) and self._plan[0].what != "wait"

    @property
    def is_over(self) -> bool:
        """Whether it is ending, and all children are down."""
        return self._is_over

    def is_planned(self, key: Key) -> bool:
        """Whether the plan under way will start that child."""
        return any(step.what == "start" and step.key == key for step in self._plan)

    # -- events: the supervisor itself ------------------------------------------------------

    def start(self, specs: Iterable[ChildSpec], now: int, *, keep: bool = False) -> list[Action]:
        """Start these children, in order; `keep` those that have started if one does not."""
        self._keep = keep
        for spec in specs:
            assert spec.id is not None
            self.members[spec.id] = Member(spec)
        self._plan.extend(_Step("start", key) for key in self.members)
        return self._go_on(now)

    def end(self, now: int, *, keep: bool = False) -> list[Action]:
        """End all children, the last one first; `keep` them if they may be started again."""
        if self.outcome is None:
            self._end(Outcome.ASKED, keep=keep)
            return self._go_on(now)
        self._keep = self._keep and keep
        return []

    # -- events: its children ---------------------------------------------------------------

    def started(self, key: Key, now: int) -> list[Action]:
        """The child runs."""
        member = self.members.get(key)
        if member is None or member.standing is not Standing.STARTING:
            return []
        member.standing = Standing.RUNNING
        member.started_at = now
        member.by_request = ""
        self._is_done("start", key)
        return self._go_on(now)

    def not_needed(self, key: Key, now: int) -> list[Action]:
        """The child's factory says that there is nothing to run."""
        member = self.members.get(key)
        if member is None or member.standing is not Standing.STARTING:
            return []
        member.by_request = ""
        self._is_done("start", key)
        self._lay_down(key, member)
        return self._go_on(now)

    def failed(self, key: Key, now: int) -> list[Action]:
        """The child could not be started."""
        member = self.members.get(key)
        if member is None or member.standing is not Standing.STARTING:
            return []
        by_request, member.by_request = member.by_request, ""
        if by_request:
            self._lay_down(key, member, forget=by_request == "add")
        elif self.outcome is not None:
            member.standing = Standing.STOPPED
        elif not self.is_ready:
            member.standing = Standing.STOPPED
            self._give_up(key, Outcome.START_FAILED, keep=self._keep)
        else:
            self._plan.clear()
            self._restart(key, member, now)
        return self._go_on(now)

    def went_down(self, key: Key, exit: Exit, now: int) -> list[Action]:
        """The child went down without having been told to."""
        member = self.members.get(key)
        if member is None or member.standing in (Standing.STOPPING, Standing.STOPPED):
            return []  # its `stopped` will come, or has come
        if member.standing is Standing.STARTING and exit is Exit.FAULT:
            return self.failed(key, now)
        self._is_done("start", key)
        if member.standing is Standing.STARTING:
            member.by_request = ""
        self._deal_with(key, member, exit, now)
        return self._go_on(now)

    def stopped(self, key: Key, now: int) -> list[Action]:
        """The child is down, as it was told; or somebody else has ended it for good."""
        member = self.members.get(key)
        if member is None:
            return []
        self._is_done("start", key)
        self._is_done("stop", key)
        if member.standing is Standing.RESTARTING:
            self._cancel(key, member)
        self._side_by_side.discard(key)
        by_request, member.by_request = member.by_request, ""
        never_ran = by_request == "add"  # it went down with others before it had started
        self._lay_down(key, member, release=never_ran, forget=never_ran)
        return self._go_on(now)

    def due(self, key: Key, ticket: int, now: int) -> list[Action]:
        """A delay is over."""
        member = self.members.get(key)
        if (
            member is None
            or member.ticket != ticket
            or member.standing is not Standing.RESTARTING
            or self.outcome is not None
        ):
            return []
        if self._is_done("wait", key):
            return self._go_on(now)
        member.standing = Standing.STARTING
        self._actions.append(Start(key))
        return self._go_on(now)

    def escalate(self, key: Key, now: int) -> list[Action]:
        """The child's fault is to be its parent's: that is the end of the supervisor."""
        member = self.members.get(key)
        if member is None or self.outcome is not None:
            return self.went_down(key, Exit.FINAL, now)
        self._plan.clear()
        member.standing = Standing.STOPPED
        self._give_up(key, Outcome.ESCALATED, keep=True)
        return self._go_on(now)

    # -- events: what users ask for; the caller has checked that it can be done --------------

    def add(self, key: Key, spec: ChildSpec) -> list[Action]:
        """Add a child and start it."""
        member = self.members[key] = Member(spec)
        return self._start_by_request(key, member, "add")

    def restart(self, key: Key) -> list[Action]:
        """Start a child that is stopped."""
        return self._start_by_request(key, self.members[key], "restart")

    def terminate(self, key: Key, now: int) -> list[Action]:
        """Have a child end; its spec stays, unless it is temporary."""
        member = self.members[key]
        if member.standing in (Standing.STARTING, Standing.RUNNING):
            member.standing = Standing.STOPPING
            self._actions.append(Stop(key, False))
        elif member.standing is Standing.RESTARTING or self.is_planned(key):
            self._cancel(key, member)
            self._lay_down(key, member)
        return self._go_on(now)

    def delete(self, key: Key, now: int) -> list[Action]:
        """Forget a child that does not run."""
        member = self.members[key]
        self._cancel(key, member)
        self._lay_down(key, member, forget=True)
        return self._go_on(now)

    # -- private ----------------------------------------------------------------------------

    def _start_by_request(self, key: Key, member: Member, request: str) -> list[Action]:
        member.by_request = request
        member.standing = Standing.STARTING
        return [Start(key)]

    def _deal_with(self, key: Key, member: Member, exit: Exit, now: int) -> None:
        comes_back = self._comes_back(member.spec.restart, exit)
        if self.outcome is not None:
            member.standing = Standing.STOPPED
        elif _Step("stop", key) in self._plan:
            self._lie_with_others(key, member)
        elif self._plan and (self.is_busy or (comes_back and not self._is_plan_in_group(key))):
            # Not what the plan is about, or it has come back in it: afterwards.
            member.standing = Standing.RESTARTING
            member.ticket = next(self._tickets)
            self._down.append((key, member.ticket, exit))
        elif comes_back:
            self._restart(key, member, now)
        else:
            self._cancel(key, member)
            self._lay_down(key, member)
            if member.spec.significant and self._is_last_that_counts():
                self._end(Outcome.AUTO_SHUTDOWN, keep=False)

    def _lie_with_others(self, key: Key, member: Member) -> None:
        """It is down already: the plan brings it back, unless it is temporary."""
        if member.spec.restart is TEMPORARY:
            self._lay_down(key, member)
        else:
            member.standing = Standing.STOPPED

    def _group(self, key: Key) -> list[Key]:
        """Who is restarted with that child, and itself, in start order."""
        if self._strategy in (Strategy.ONE_FOR_ONE, Strategy.DYNAMIC):
            return [key]
        keys = list(self.members)
        return keys[keys.index(key) :] if self._strategy is Strategy.REST_FOR_ONE else keys

    def _is_plan_in_group(self, key: Key) -> bool:
        """Whether a restart of that child's group starts all that the plan would start."""
        group = self._group(key)
        return all(step.key in group for step in self._plan if step.what == "start")

    @staticmethod
    def _comes_back(restart: object, exit: Exit) -> bool:
        if exit is Exit.FAULT:
            return restart is not TEMPORARY
        return exit is Exit.NORMAL and restart is PERMANENT

    def _restart(self, key: Key, member: Member, now: int) -> None:
        if self._limit is not None:
            charged = self._limit.charge(self.restarts, now)
            if charged is None:
                member.standing = Standing.STOPPED
                self._give_up(key, Outcome.RESTART_LIMIT, keep=True)
                return
            self.restarts = charged
        delay = self._delay(member, now)
        if self._strategy in (Strategy.ONE_FOR_ONE, Strategy.DYNAMIC):
            if delay:
                self._wait(key, member, delay)
            else:
                member.standing = Standing.STARTING
                self._actions.append(Start(key))
            return
        keys = self._group(key)
        member.standing = Standing.RESTARTING
        self._plan = deque(_Step("stop", other) for other in reversed(keys) if other != key)
        if delay:
            self._plan.append(_Step("wait", key, delay))
        self._plan.extend(_Step("start", other) for other in keys)

    def _delay(self, member: Member, now: int) -> int:
        backoff = member.spec.backoff or self._backoff
        if backoff is None:
            return 0
        if member.started_at is not None and backoff.is_over(now - member.started_at):
            member.earlier = 0
        member.started_at = None  # a start that fails is no quiet period
        delay = backoff.delay(member.earlier, self._random())
        member.earlier += 1
        return delay

    def _wait(self, key: Key, member: Member, delay: int) -> None:
        member.standing = Standing.RESTARTING
        member.ticket = next(self._tickets)
        self._actions.append(Wait(key, delay, member.ticket))

    def _cancel(self, key: Key, member: Member) -> None:
        """Let it not be started by a delay or the plan."""
        member.ticket = next(self._tickets)
        self._drop_steps(key)

    def _drop_steps(self, key: Key) -> None:
        if any(step.key == key for step in self._plan):
            self._plan = deque(step for step in self._plan if step.key != key)

    def _lay_down(
        self, key: Key, member: Member, *, release: bool = True, forget: bool = False
    ) -> None:
        """It is down and stays so; `release`: what is kept of it, if anything, is to go."""
        member.standing = Standing.STOPPED
        if release:
            self._actions.append(Release(key))
        dynamic = self._strategy is Strategy.DYNAMIC
        if forget or dynamic or member.spec.restart is TEMPORARY:
            del self.members[key]
            self._drop_steps(key)
            self._actions.append(Forget(key))

    def _is_last_that_counts(self) -> bool:
        """Whether the end of a significant child that has just ended is that of the supervisor."""
        if self._auto_shutdown is AutoShutdown.ALL_SIGNIFICANT:
            return not any(
                member.spec.significant
                and (member.standing is not Standing.STOPPED or self.is_planned(key))
                for key, member in self.members.items()
            )
        return self._auto_shutdown is AutoShutdown.ANY_SIGNIFICANT

    def _give_up(self, key: Key, outcome: Outcome, *, keep: bool) -> None:
        self._actions.append(GiveUp(key, outcome))
        self._end(outcome, keep=keep)

    def _end(self, outcome: Outcome, *, keep: bool) -> None:
        self.outcome = outcome
        self._keep = keep
        self._down.clear()
        self._plan.clear()
        if self._strategy is not Strategy.DYNAMIC:
            self._plan.extend(_Step("stop", key) for key in reversed(self.members))
            return
        for key, member in self.members.items():  # side by side: their order does not matter
            if member.standing in (Standing.STARTING, Standing.RUNNING):
                member.standing = Standing.STOPPING
                self._actions.append(Stop(key, False))
            if member.standing is Standing.STOPPING:
                self._side_by_side.add(key)
            elif member.standing is Standing.RESTARTING:
                member.standing = Standing.STOPPED
                self._actions.append(Release(key))

    def _is_done(self, what: str, key: Key) -> bool:
        """Whether that was the step under way; the next one then is."""
        if self._plan and self._plan[0][:2] == (what, key):
            self._plan.popleft()
            return True
        return False

    def _go_on(self, now: int) -> list[Action]:
        """Begin the next step, if none is under way; returns what is to be done by now."""
        while self._take_step() or self._finish(now):
            pass
        actions, self._actions = self._actions, []
        return actions

    def _take_step(self) -> bool:
        """Begin the first step of the plan; whether it was over at once."""
        if not self._plan:
            return False
        what, key, delay = self._plan[0]
        member = self.members.get(key)
        if member is None:
            self._plan.popleft()
            return True
        standing = member.standing
        if what == "stop":
            if standing in (Standing.STARTING, Standing.RUNNING):
                member.standing = Standing.STOPPING
                temporary = member.spec.restart is TEMPORARY
                self._actions.append(Stop(key, keep=not temporary and self._is_kept))
                return False
            if standing is Standing.STOPPING:
                return False
            self._plan.popleft()
            member.ticket = next(self._tickets)
            if standing is Standing.RESTARTING:
                self._lie_with_others(key, member)
            return True
        if what == "wait":
            if member.standing is Standing.RESTARTING and not delay:
                return False  # it has begun
            self._plan[0] = _Step("wait", key)
            self._wait(key, member, delay)
            return False
        if standing in (Standing.STARTING, Standing.STOPPING):
            return False
        if standing is Standing.RUNNING:
            self._plan.popleft()
            return True
        member.standing = Standing.STARTING
        self._actions.append(Start(key))
        return False

    @property
    def _is_kept(self) -> bool:
        return self.outcome is None or self._keep

    def _finish(self, now: int) -> bool:
        """Do what comes after the plan; whether that has made another one."""
        if self._plan or self._side_by_side:
            return False
        if self.outcome is not None:
            if not self._is_over:
                self._is_over = True
                self._actions.append(Over(self.outcome))
            return False
        if not self.is_ready:
            self.is_ready = True
            self._actions.append(Ready())
        while self._down and not self._plan:
            key, ticket, exit = self._down.popleft()
            member = self.members.get(key)
            if member is not None and member.ticket == ticket:
                self._deal_with(key, member, exit, now)
        return bool(self._plan) or self.outcome is not None
