"""How does a supervisor run?

It is a cell like any other, whose turns do no users' work: they take up what its children tell
(`hear`), have `Supervision` say what is to be done, and do it. Nothing here waits: a start, a stop
or a delay is begun, and the turn ends; what comes of it is told later. So a supervisor answers,
and can be ended, at any time.

What is told of a child by its own turn comes in order. A child's cell stays when its incarnation
goes down, until the supervisor lets it go: ref, mailbox and snapshot are there for the next one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

from kompyct import events, supervisor_replies, supervisor_signals, tidings
from kompyct.cell import Cell, Signal
from kompyct.children import Restart
from kompyct.ending import destroy, settle
from kompyct.errors import (
    ComponentFaultError,
    RestartLimitError,
)
from kompyct.faulting import fault
from kompyct.lifecycle import Ending, Phase, State
from kompyct.news import News
from kompyct.offspring import Manner, Offspring, key_of
from kompyct.reports import identity, recovered, restarted
from kompyct.strategy import (
    Action,
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
    Wait,
)
from kompyct.supervision import Supervision
from kompyct.supervisor import ComponentSupervisor, Supervising, check_placement
from kompyct.supervisor_signals import KILL, SUSPEND

if TYPE_CHECKING:
    from kompyct.component import Component
    from kompyct.faults import FaultContext
    from kompyct.messages import Envelope

_logger = logging.getLogger("kompyct")

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
ACTIVE = State.ACTIVE
PASSIVE = State.PASSIVE
FAULTY = State.FAULTY
DESTROYED = State.DESTROYED

NEWS_AT_ONCE = 1024
"""News that a turn takes up at most: the bound on fairness."""

ACTIONS_AT_ONCE = 64
"""Actions of one `_act` when it ends, also a bound on fairness.

So few that what is made to end a child is gone before the collector has looked at it twice: else
ending very many costs twice as much for each.
"""


class SupervisorCell(Cell):
    """A component that is a supervisor: its declaration, its children, and what is under way.

    `hear` is for any thread; everything else is for its turn.
    """

    __slots__ = (
        "_ended_with", "_fate", "_is_afresh", "_manner", "_news", "_random", "_reuse", "_to_do",
        "cause", "failed_child", "gave_up_with", "is_told", "offspring", "replies", "requests",
        "supervision", "ticket",
    )  # fmt: skip

    is_supervisor = True

    def __init__(self, *arguments: Any, backend_of_children: Any) -> None:
        self.offspring = Offspring(self, backend_of_children)
        self.supervision: Supervision | None = None  # of the incarnation that runs
        self.cause: BaseException | None = None  # what a child faulted with last
        self.gave_up_with: BaseException | None = None  # what it faulted with for its limit
        self._ended_with: str | None = None  # the type of the exception it ends for
        self.failed_child: Key | None = None  # the last one that could not be started
        self.is_told = False  # whether whoever started it has got the error
        self.replies = supervisor_replies.Replies()
        self.requests: deque[Envelope] = deque()  # those that wait for a plan to be over
        self._news: list[tuple[News, Any, Any]] = []  # appended to by any thread
        self._to_do: deque[Action] = deque()  # what `Supervision` says, and is still to be done
        self.ticket = 0  # of its being told to go down
        self._fate = ""  # what becomes of it when its children are down, once they are to be
        self._manner = Manner(Ending.PARENT)  # of their end
        self._reuse: FaultContext[Any] | None = None  # what kept children come back after
        self._is_afresh = False  # whether it starts again after it had ended by itself
        Cell.__init__(self, *arguments)
        self._random: Random | None = None  # made at the first backoff

    # -- from any thread --------------------------------------------------------------------

    def hear(self, news: News, cell: Any, detail: Any = None) -> None:
        """Take up what has become of a child, in the next turn."""
        self._news.append((news, cell, detail))
        with suppress(RuntimeError):  # there is no thread just now; the next news try again
            self._wake()

    def brings_back(self, cell: Cell) -> bool:
        """Whether a child that faults comes back without a recovery function, if it may."""
        supervision = self.supervision
        member = None if supervision is None else supervision.members.get(key_of(cell))
        return member is not None and member.spec.restart is not Restart.TEMPORARY

    def restarts_left(self, now: int) -> int | None:
        """How many restarts its limit allows at once; None: any number."""
        supervision, component = self.supervision, self.component
        limit = component.declared.restart_limit if isinstance(component, Supervising) else None
        if limit is None or supervision is None:
            return None
        return max(limit.max_restarts - len(limit.recent(supervision.restarts, now)), 0)

    def add_signal(self, signal: Signal, *, first: bool = False) -> None:
        """See `Cell.add_signal`; what means something else for a supervisor is replaced."""
        obey, arguments = signal
        Cell.add_signal(self, (supervisor_signals.INSTEAD.get(obey, obey), arguments), first=first)

    # -- the turn ---------------------------------------------------------------------------

    def run(self) -> bool:
        """Take up signals, then news, then requests; see `Cell.run`."""
        waiting = len(self.box)  # before the signals: nothing sent after a stop overtakes it
        if self.control:
            self._guarded(self._obey)
        if self._to_do:
            self._guarded(self._act)
        if self._news:
            self._take_news()
        if self.state is ACTIVE and not self.control:
            for message in self.take(min(waiting, len(self.box))):
                self._guarded(supervisor_replies.take, self, message)
        if (
            self.control
            or self._news
            or self._to_do
            or (self.state is ACTIVE and self._has_messages)
        ):
            return True
        if self.state is DESTROYED and self.box:
            for message in self.take_all():
                self.refuse(message)
        asleep = self.asleep = self.state in (ACTIVE, DESTROYED)
        self.flag.release()
        more = self.control or self._news or (asleep and self._has_messages)
        if more and self.flag.acquire(False):
            self.asleep = False
            return True
        return False

    def _guarded(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call `call`. A bug in that is logged: supervision must go on."""
        try:
            call(*arguments)
        except BaseException:
            with suppress(BaseException):  # a logging handler may raise as well
                _logger.exception("supervisor %r could not do what was to be done", self.path)

    @property
    def _has_messages(self) -> bool:
        return bool(self.box) or self.backlog is not None

    def _take_news(self) -> None:
        taken = self._news[:NEWS_AT_ONCE]
        del self._news[:NEWS_AT_ONCE]
        for number, (news, cell, detail) in enumerate(taken, 1):
            self._guarded(tidings.TAKE_UP[news], self, cell, detail)
            if self.control:
                self._news[:0] = taken[number:]
                return

    def make(self, factory: Callable[[], Component[Any]] | None) -> Component[Any]:
        """See `Cell.make`; `factory` is a `ComponentSupervisor`, see `RecoveryJob`."""
        assert isinstance(factory, ComponentSupervisor)
        for spec in factory.children:
            check_placement(spec, self.offspring.kind, self.runtime.kind)
        return Cell.make(self, lambda: Supervising(factory))

    @property
    def declared(self) -> ComponentSupervisor:
        """What its present incarnation was made of."""
        assert isinstance(self.component, Supervising)
        return self.component.declared

    @property
    def now(self) -> int:
        """Nanoseconds on the system's clock."""
        return self.runtime.clock.now()

    def do(self, actions: list[Action]) -> None:
        """Do what its `Supervision` says, in order, and what can be done then.

        When it ends, what is too much for one turn is left for the next ones: of 100,000 children
        the first are gone by the time that the last are told. Nothing but that may wait: what
        happens meanwhile could make it wrong.
        """
        is_behind = bool(self._to_do)
        self._to_do.extend(actions)
        if not is_behind:
            self._act()

    @property
    def _is_ending(self) -> bool:
        return self.supervision is not None and self.supervision.outcome is not None

    def _act(self) -> None:
        done = 0
        while self._to_do and (done < ACTIONS_AT_ONCE or not self._is_ending):
            done += 1
            action = self._to_do.popleft()
            self._guarded(_DO[type(action)], self, action)
        if self.requests and self.supervision is not None and not self.supervision.is_busy:
            waiting, self.requests = self.requests, deque()
            for envelope in waiting:
                self._guarded(supervisor_replies.take, self, envelope)
        self.conclude()

    # -- its life ---------------------------------------------------------------------------

    def begin_children(
        self, *, again: FaultContext[Any] | None = None, afresh: bool = False
    ) -> None:
        """Start all children; `again` those that have been kept, after that fault.

        `afresh`: it had ended by itself.
        """
        declared = self.declared
        self.state = ACTIVE
        self._fate = ""
        self._reuse = again
        self._is_afresh = afresh
        if again is not None:
            self.cause = again.exception
        self.supervision = Supervision(
            declared.strategy,
            declared.restart_limit,
            declared.auto_shutdown,
            declared.backoff,
            self._share,
        )
        self.offspring.adapt(declared.children)
        self.do(self.supervision.start(declared.children, self.now, keep=again is not None))

    def end_children(self, fate: str, manner: Manner) -> None:
        """End all children, then itself as `fate` says; or hurry, if that is under way."""
        if self._fate != KILL:  # than which nothing is stronger
            self._fate = fate
        self._manner = manner
        waiting, self.requests = self.requests, deque()
        for envelope in waiting:
            supervisor_replies.fail(self, envelope, supervisor_replies.is_ending(self))
        supervision = self.supervision
        if supervision is None:
            self.conclude()
            return
        is_ending = supervision.outcome is not None
        self.do(supervision.end(self.now, keep=fate == SUSPEND))
        if is_ending and not manner.drain:  # now it may be brutal, or without waiting any more
            for key, member in tuple(supervision.members.items()):
                if member.standing is Standing.STOPPING:
                    self.offspring.hurry(key, member.spec, manner)

    def _share(self) -> float:
        """A share of the jitter of a backoff; the same ones in every test."""
        if self._random is None:
            self._random = Random(0 if self.runtime.kind == "manual" else None)
        return self._random.random()

    def conclude(self) -> None:
        """End itself, once nothing of its children is under way any more."""
        supervision = self.supervision
        fate = self._fate
        if not fate or self.state is DESTROYED or self._to_do:
            return
        if supervision is not None and not supervision.is_over:
            return
        offspring = self.offspring
        is_failed_start = fate == Outcome.START_FAILED.value and self._reuse is None
        is_end = is_failed_start or fate in (KILL, Outcome.AUTO_SHUTDOWN.value)
        if is_end and len(offspring.leaving) < len(offspring.cells):
            for key in tuple(offspring.cells):
                offspring.let_go(key, "its supervisor has ended", self._manner)
        if offspring.leaving:
            return
        self._fate = ""
        self.supervision = None
        _FATES[fate](self)

    def _ready(self, _: Ready) -> None:
        """All children have started, and so has this."""
        history = self.history
        context, self._reuse = self._reuse, None
        self.is_told = False
        if not self.order:
            self.order = next(self.runtime.orders)
        if context is not None:
            history.fault = None
            history.claimed = False
            history.recovered_at = self.now
            self.runtime.emit(recovered(self, context))
        elif self._is_afresh:
            self.runtime.emit(restarted(self))
        for future in self._take_starters():
            settle(future)
        if self.parent is not None:
            self.parent.hear(News.STARTED, self)

    def _take_starters(self) -> list[Future[None]]:
        """Who waits for its start; they do so no longer."""
        waiters = self.history.waiters
        self.history.waiters = tuple(waiter for waiter in waiters if not waiter[1])
        return [future for future, is_start in waiters if is_start]

    def _start_failed(self) -> None:
        cause = self.cause
        assert cause is not None
        error = ComponentFaultError(
            f"supervisor {self.path!r} could not be started: {type(cause).__qualname__} in its "
            f"child {self.failed_child!r}; see the cause"
        )
        error.__cause__ = cause
        self._reuse = None
        starters = [] if self.history.fault is not None else self._take_starters()
        self.is_told = bool(starters)
        fault(self, error, Phase.START)
        for future in starters:
            settle(future, error)

    def _gave_up(self) -> None:
        cause = self.cause
        limit = self.declared.restart_limit
        assert limit is not None
        error = RestartLimitError(
            f"supervisor {self.path!r} has reached its limit of {limit.max_restarts} restarts in "
            f"{limit.within:g} s, last by {type(cause).__qualname__}"
        )
        error.__cause__ = cause
        self.gave_up_with = error
        fault(self, error, Phase.RECEIVE)

    def _escalated(self) -> None:
        assert self.cause is not None
        fault(self, self.cause, Phase.RECEIVE)

    def _shut_down_by_itself(self) -> None:
        if self.parent is None:
            destroy(self, "its significant children have ended")
        else:
            self._suspended(News.LEFT)

    def _suspended(self, news: News = News.KEPT) -> None:
        self.component = None
        self.state = FAULTY
        self.history.fault = None
        assert self.parent is not None
        self.parent.hear(news, self, self.ticket)

    def _killed(self) -> None:
        destroy(self, self.reason or "killed", self._ended_with)

    def end_with(self, reason: str, error: str | None) -> None:
        """Note why it is about to be ended; before it is told so."""
        self.reason = reason
        self._ended_with = error

    def note_cause(self, cause: BaseException) -> None:
        """Note what a child faulted with, unless something has led to the end already."""
        if self.supervision is None or self.supervision.outcome is None:
            self.cause = cause

    # -- what `Supervision` says --------------------------------------------------------------

    def _start(self, action: Start) -> None:
        assert self.supervision is not None
        spec = self.supervision.members[action.key].spec
        self.offspring.start(action.key, spec, self.cause)

    def _stop(self, action: Stop) -> None:
        supervision = self.supervision
        assert supervision is not None
        manner = self._manner
        if supervision.outcome is None:  # it is only this child, or some of them
            manner = Manner(Ending.SIBLING if supervision.is_busy else Ending.ASKED)
        elif self._fate not in (KILL, SUSPEND):  # it ends by itself
            manner = Manner(Ending.PARENT)
        member = supervision.members.get(action.key)
        if member is not None:  # or it has ended by itself, before its turn to be told
            self.offspring.have_end(action.key, member.spec, manner, keep=action.keep)

    def _wait(self, action: Wait) -> None:
        self.offspring.wait(*action)

    def _release(self, action: Release) -> None:
        self.offspring.let_go(action.key, "it is not restarted")

    def _forget(self, action: Forget) -> None:
        """Its spec is gone, which only `Supervision` had; its cell goes by another action."""

    def _give_up(self, action: GiveUp) -> None:
        limit = self.declared.restart_limit
        if action.outcome is Outcome.RESTART_LIMIT and limit is not None:
            name = type(self.cause).__qualname__
            reached = (name, limit.max_restarts, limit.within)
            self.runtime.emit(events.RestartLimitReached(*identity(self), *reached))

    def _over(self, action: Over) -> None:
        self._fate = self._fate or action.outcome.value


_DO: dict[type, Callable[[SupervisorCell, Any], None]] = {
    Start: SupervisorCell._start,
    Stop: SupervisorCell._stop,
    Wait: SupervisorCell._wait,
    Release: SupervisorCell._release,
    Forget: SupervisorCell._forget,
    Ready: SupervisorCell._ready,
    GiveUp: SupervisorCell._give_up,
    Over: SupervisorCell._over,
}

_FATES: dict[str, Callable[[SupervisorCell], None]] = {
    KILL: SupervisorCell._killed,
    SUSPEND: SupervisorCell._suspended,
    Outcome.START_FAILED.value: SupervisorCell._start_failed,
    Outcome.RESTART_LIMIT.value: SupervisorCell._gave_up,
    Outcome.ESCALATED.value: SupervisorCell._escalated,
    Outcome.AUTO_SHUTDOWN.value: SupervisorCell._shut_down_by_itself,
}
