"""What is done about a fault, and in which order does everything end?

The root supervisor is a component, and a fault is an ordinary message to it. It never runs users'
code except `on_event` and `on_undelivered`: recovery functions are run by `RecoveryJob`.

It has every recovery function called, also those of components in a tree; of such a component it
then tells the supervisor, which charges the restart and decides who comes back with it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kompyct import errors, events, signals
from kompyct.clock import SECOND, Alarm
from kompyct.component import Component
from kompyct.errors import (
    ComponentCreateError,
    ProcessStartError,
    RecoveryTimeoutError,
    as_raised,
)
from kompyct.events import Event
from kompyct.facts import FaultKind
from kompyct.fault_classes import FaultClass
from kompyct.faults import Answer, FaultContext, RecoveryHandler
from kompyct.lifecycle import Phase, State, Status
from kompyct.news import News, Verdict
from kompyct.publisher import Publisher
from kompyct.recovery import Decision, LateRecovery, RecoveryJob
from kompyct.reports import faulted, identity
from kompyct.restart import RestartLimit

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.history import History
    from kompyct.runtime import Runtime

_logger = logging.getLogger("kompyct")
# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
DESTROYED = State.DESTROYED
KILL = Phase.KILL
UNRECOVERABLE = FaultClass.UNRECOVERABLE
RESTART = Answer.RESTART
ESCALATE = Answer.ESCALATE
IGNORE = Answer.IGNORE
SHUTDOWN = FaultKind.SHUTDOWN
SIBLING = FaultKind.SIBLING
RETIRED = Status.RETIRED


CLAIMED = RestartLimit()
"""How often a child may try to go on from what an earlier process stored of it."""

MAX_RECOVERIES = 8
"""Recoveries that run or hang at once; others wait, and when so many hang, the fallback applies to
all that come, without users' code."""

END_DEADLINE = 5 * SECOND
"""How long each component may take to end in a shutdown."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Messages that nobody will handle."""

    identity: tuple[int, str, int, float]
    messages: tuple[Any, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class EndAll:
    """The order to end every component; `done` is completed when they are gone.

    `drain_until` (nanoseconds) lets them handle what is waiting until then.
    """

    done: Future[None]
    drain_until: int


@dataclass(frozen=True, slots=True)
class _Overdue:
    """The component that is being ended has used up its time."""

    component_id: int


class RootSupervisor(Component[Any]):
    """The root supervisor of a system. It has no restart limit of its own (S-08)."""

    def __init__(
        self,
        publisher: Publisher,
        on_undelivered: Callable[[str, Any], object] | None,
        runtime: Runtime,
    ) -> None:
        self._publisher = publisher
        self._on_undelivered = on_undelivered
        self._runtime = runtime
        self._abandoned = 0  # recoveries that hang
        self._running = 0  # recoveries that run, and have not passed their deadline
        self._waiting: deque[FaultContext[Any]] = deque()  # for a recovery to begin
        self._ending: EndAll | None = None
        self._to_end: list[Cell] = []  # in start order
        self._awaited: int | None = None  # the id of the component that was told to end
        self._alarm: Alarm | None = None

    def on_receive(self, message: Any) -> None:
        """Do what `message` is about. A bug in that is logged: supervision must go on."""
        try:
            self._handle(message)
        except BaseException:
            with suppress(BaseException):  # a logging handler may raise as well
                name = type(message).__qualname__
                _logger.exception("the supervisor could not handle a %s", name)

    def _handle(self, message: Any) -> None:
        if isinstance(message, Event):
            self._publisher.publish(message)
            if type(message) is events.ComponentEnded and message.component_id == self._awaited:
                self._end_next()
        elif type(message) is FaultContext:
            self._consider(message)
        elif type(message) is Decision:
            self._running -= 1
            self._abandoned += message.abandoned
            self._carry_out(message)
            self._begin_waiting()
        elif type(message) is LateRecovery:
            self._abandoned -= 1
            self._begin_waiting()
            self._publisher.publish(events.LateAnswer(*identity(message.fault._facts.cell)))
        elif isinstance(message, logging.LogRecord):  # of a component in another process
            logger = logging.getLogger(message.name)
            if logger.isEnabledFor(message.levelno):
                logger.handle(message)
        elif type(message) is Undelivered:
            self._bury(message)
        elif type(message) is EndAll:
            self._end_all(message)
        elif type(message) is _Overdue and message.component_id == self._awaited:
            self._give_up_waiting()

    # -- faults -----------------------------------------------------------------------------

    def _consider(self, fault: FaultContext[Any]) -> None:
        facts = fault._facts
        cell = facts.cell
        runtime = self._runtime
        name = type(fault.exception).__qualname__
        publish = self._publisher.publish
        parent = cell.parent
        history = cell._history
        if runtime.stopping:
            self._publish_fault(fault)
            self._end(fault, f"{name} while the system was shutting down", _unfinished(fault))
        elif parent is not None and not cell.order and history is not None and not history.claimed:
            publish(faulted(fault))  # in its first start, which has failed then
            parent.hear(News.FAILED, cell, fault)
        elif history is not None and history.claimed and _has_no_process(fault):
            publish(faulted(fault))
            self._give_up(fault, str(fault.exception), history)
        elif facts.fault_class is UNRECOVERABLE:
            publish(faulted(fault))
            if history is not None and history.claimed:
                self._give_up(fault, f"unrecoverable {name}", history)
            else:
                self._end(fault, f"unrecoverable {name}")
        elif facts.registration is None and facts.phase is KILL and parent is not None:
            publish(faulted(fault))
            self._end(fault, f"{name} in on_kill")
        elif facts.registration is None and (parent is not None or cell.is_supervisor):
            self._publish_fault(fault)
            self._ask_parent(Verdict(fault, None))
        elif facts.registration is None:
            publish(faulted(fault))
            publish(events.NoRecoveryFunction(*identity(cell), name))
            self._end(fault, f"{name}, and it has no recovery function")
        else:
            # First the job, then the telling: a log line takes longer than a recovery.
            self._waiting.append(fault)
            if self._running + self._abandoned < MAX_RECOVERIES:
                self._begin_waiting()
            self._publish_fault(fault)
            if self._abandoned >= MAX_RECOVERIES:
                self._begin_waiting()

    def _publish_fault(self, fault: FaultContext[Any]) -> None:
        if fault.kind not in (SHUTDOWN, SIBLING):  # which are none (S-26)
            self._publisher.publish(faulted(fault))

    def _begin_waiting(self) -> None:
        """Begin recoveries that wait, as many as may run; or give up on them."""
        runtime = self._runtime
        while self._waiting and self._running + self._abandoned < MAX_RECOVERIES:
            self._running += 1
            fault = self._waiting.popleft()
            runtime.run_job(RecoveryJob(runtime, fault, runtime.tell_supervisor))
        while self._waiting and self._abandoned >= MAX_RECOVERIES:
            error = RecoveryTimeoutError(f"{self._abandoned} recoveries hang already")
            self._carry_out(Decision(self._waiting.popleft(), None, error))

    def _carry_out(self, decision: Decision) -> None:
        fault = decision.fault
        cell = fault._facts.cell
        history = cell._history
        if history is None or history.fault is not fault:
            return  # it was killed meanwhile
        handler = decision.handler
        name = type(fault.exception).__qualname__
        if handler is None:
            handler = self._fallback(fault, decision.error)
        if fault.kind is SIBLING:  # what went down with others comes back with them
            call = handler.call if handler.answer is RESTART else None
            cell.signal(signals.rebuild, fault, call)
            return
        answer = handler.answer
        if decision.superseded and answer is RESTART:
            refused = (*identity(cell), "its recovery created another one of its name")
            self._publisher.publish(events.RestartRefused(*refused))
            self._end(fault, f"{name}, superseded by its recovery")
        elif self._runtime.stopping and answer is not ESCALATE:
            self._end(fault, f"{name} while the system was shutting down", _unfinished(fault))
        elif answer is RESTART:
            self._restart(fault, handler, history)
        elif answer is ESCALATE and fault.phase is KILL and cell.parent is not None:
            self._end(fault, f"{name} in on_kill")  # as its supervisor, or somebody else, wants
        elif answer is ESCALATE:
            self._publisher.publish(events.Escalated(*identity(cell), name))
            if history.claimed:  # to whoever creates it (S-25)
                self._give_up(fault, f"{name}, escalated", history)
                return
            self._ask_parent(Verdict(fault, ESCALATE))
        elif answer is IGNORE:
            self._publisher.publish(events.FaultIgnored(*identity(cell), name))
            left_as = _unfinished(fault) if history.claimed else RETIRED
            self._end(fault, f"{name}, ignored by its recovery function", left_as)
        elif history.claimed and decision.error is not None:
            raised = type(decision.error).__qualname__
            self._give_up(fault, f"its recovery did not work: {raised}", history, decision.error)
        else:
            self._end(fault, f"{name}, ended by its recovery")

    def _restart(
        self, fault: FaultContext[Any], handler: RecoveryHandler, history: History
    ) -> None:
        cell = fault._facts.cell
        # Of a child without one of its own only the restarts of its supervisor count; but nobody
        # counts those yet while it goes on from what is stored.
        budget = CLAIMED if history.claimed and cell.parent is not None else cell.options.budget
        name = type(fault.exception).__qualname__
        if fault.phase is KILL:
            reason = "it was being killed"
            self._publisher.publish(events.RestartRefused(*identity(cell), reason))
            self._end(fault, f"{name} in on_kill")
            return
        charged: tuple[int, ...] | None = history.restarts
        if fault.kind is not SHUTDOWN:  # after which a start is no restart (S-26)
            charged = budget.charge(history.restarts, self._runtime.clock.now())
        if charged is None:
            limit = (budget.max_restarts, budget.within)
            self._publisher.publish(events.RestartLimitReached(*identity(cell), name, *limit))
            reason = (
                f"restart limit of {budget.max_restarts} in {budget.within:g} s reached, "
                f"last by {name}"
            )
            if history.claimed:
                self._give_up(fault, reason, history)
            else:
                self._end(fault, reason)
            return
        history.restarts = charged
        if cell.parent is not None and not history.claimed:
            self._ask_parent(Verdict(fault, RESTART, handler.call))
        else:
            cell.signal(signals.rebuild, fault, handler.call)

    def _ask_parent(self, verdict: Verdict) -> None:
        """Let the supervisor above the component decide; above all others stands the system."""
        fault = verdict.fault
        cell = fault._facts.cell
        if cell.parent is not None:
            cell.parent.hear(News.DECIDED, cell, verdict)
            return
        name = type(fault.exception).__qualname__
        is_told = getattr(cell, "is_told", False)  # of a supervisor that could not be started
        if verdict.answer is None and not is_told:  # one without a policy has given up (S-08)
            self._publisher.publish(events.Escalated(*identity(cell), name))
        self._end(fault, f"{name}, escalated" if not is_told else f"{name} in its first start")
        if not is_told:
            self._runtime.escalate(as_raised(fault.exception, cell.path))

    def _fallback(self, fault: FaultContext[Any], error: BaseException | None) -> RecoveryHandler:
        cell = fault._facts.cell
        # What went down with others comes back, if only as it was made first.
        fallback = "restart" if fault.kind is SIBLING else cell.options.fallback
        self._publisher.publish(
            events.FallbackApplied(
                *identity(cell),
                type(fault.exception).__qualname__,
                type(error).__qualname__,
                fallback,
                _detail(error),
            )
        )
        if fallback == "restart":
            return fault.restart()
        return fault.escalate() if fallback == "escalate" else fault.end()

    def _end(self, fault: FaultContext[Any], reason: str, left_as: Status = RETIRED) -> None:
        cell = fault._facts.cell
        cell.signal(signals.end, fault, reason, left_as)

    def _give_up(
        self,
        fault: FaultContext[Any],
        reason: str,
        history: History,
        cause: BaseException | None = None,
    ) -> None:
        """End a component that could not go on from what an earlier process stored of it.

        That stays in the store, and whoever creates the component gets an error.
        """
        error = ComponentCreateError(
            f"component {fault.path!r} could not go on from its snapshot: {reason}; it stays in "
            "the store. Mend what failed, or create it with fresh=True"
        )
        error.__cause__ = cause or fault.exception
        history.error = error
        self._end(fault, reason, _unfinished(fault))

    # -- messages that nobody handles -------------------------------------------------------

    def _bury(self, undelivered: Undelivered) -> None:
        types: dict[str, None] = {}
        for message in undelivered.messages:
            types[type(message).__qualname__] = None
            if len(types) == 3:
                break
        letters = (len(undelivered.messages), tuple(types), undelivered.reason)
        self._publisher.publish(events.DeadLetters(*undelivered.identity, *letters))
        if self._on_undelivered is None:
            return
        for message in undelivered.messages:
            try:
                self._on_undelivered(undelivered.identity[1], message)
            except BaseException as error:
                self._publisher.complain("on_undelivered raised %s", error)

    # -- the end ----------------------------------------------------------------------------

    def _end_all(self, order: EndAll) -> None:
        if self._ending is not None:
            return  # under way; the system shares the future
        self._ending = order
        cells = self._runtime.registry.in_start_order()
        self._to_end = [cell for cell in cells if cell.parent is None]  # they end their children
        self._end_next()

    def _end_next(self) -> None:
        """Tell the last one started to end; the next one when it is gone (S-03)."""
        order = self._ending
        assert order is not None
        if self._alarm is not None:
            self._alarm.silence()
        while self._to_end:
            cell = self._to_end.pop()
            if cell.state is not DESTROYED:
                draining = self._runtime.clock.now() < order.drain_until
                self._await(cell, order.drain_until if draining else None)
                try:
                    cell.signal(signals.kill, None, False, draining, True)
                except RuntimeError:  # there is no thread for it
                    self._publisher.publish(events.Abandoned(*identity(cell)))
                    continue
                return
        self._awaited = None
        with suppress(InvalidStateError):  # the wait was cut short
            order.done.set_result(None)

    def _await(self, cell: Cell, until: int | None) -> None:
        self._awaited = cell.id
        if until is None and cell.is_supervisor:
            return  # it gives each of its children time, and the shutdown has its own limit
        clock = self._runtime.clock
        overdue = _Overdue(cell.id)
        tell = self._runtime.tell_supervisor
        self._alarm = Alarm(until or clock.now() + END_DEADLINE, lambda: tell(overdue))
        with suppress(RuntimeError):  # no thread for the clock: the shutdown's own limit holds
            clock.set(self._alarm)

    def _give_up_waiting(self) -> None:
        cell = self._runtime.registry.get(self._awaited)
        order = self._ending
        assert order is not None
        if cell is None:
            return  # its end is on the way here
        if order.drain_until:  # the time to drain is over; now it has the usual time to end
            order = self._ending = EndAll(order.done, 0)
            self._await(cell, None)
            cell.signal(signals.kill, None, False, False, True)
            return
        self._publisher.publish(events.Abandoned(*identity(cell)))
        self._end_next()


def _has_no_process(fault: FaultContext[Any]) -> bool:
    """Whether no process could be made for it; then its snapshot was not tried (S-27)."""
    registration = fault._facts.registration
    if not isinstance(fault.exception, ProcessStartError):
        return False
    if registration is not None and registration.suspect:
        registration.suspect -= 1  # as counted when it was claimed
    return True


def _unfinished(fault: FaultContext[Any]) -> Status:
    """How a component is left in the store that could not go on now, but may at the next start."""
    return Status.CLEAN if fault.kind is SHUTDOWN else Status.UNFINISHED


def _detail(error: BaseException | None) -> str:
    """The text of `error` if it is kompyct's own, which holds no values; else nothing."""
    return str(error) if type(error).__module__ == errors.__name__ else ""
