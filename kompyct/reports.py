"""What does a cell tell of what has happened to it?"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from kompyct import events
from kompyct.clock import SECOND
from kompyct.component import Component
from kompyct.errors import ProcessStartError
from kompyct.facts import Facts, FaultKind
from kompyct.fault_classes import FaultClass
from kompyct.faults import PROBATION, FaultContext
from kompyct.lifecycle import Phase
from kompyct.messages import Envelope, port_of
from kompyct.restart import UNCOUNTED
from kompyct.timers import Timer

if TYPE_CHECKING:
    from kompyct.cell import Cell

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
TIMER = Phase.TIMER
RECEIVE = Phase.RECEIVE
PORT = Phase.PORT

_PACKAGE = __name__.partition(".")[0] + "."


def phase_of(message: Any) -> Phase:
    """The phase of a fault in handling `message`."""
    if type(message) is Envelope:
        if type(message.message) is Timer:
            return TIMER
        if port_of(message) is not None:
            return PORT
    return RECEIVE


def users_frames(traceback: TracebackType | None) -> TracebackType | None:
    """`traceback` without the frames of kompyct at its head, which hold a chunk of messages."""
    while traceback is not None and traceback.tb_next is not None:
        if not traceback.tb_frame.f_globals.get("__name__", "").startswith(_PACKAGE):
            break
        traceback = traceback.tb_next
    return traceback


def describe_fault(
    cell: Cell,
    component: Component[Any] | None,
    exception: BaseException,
    traceback: TracebackType | None,
    phase: Phase,
    message: Any,
    fault_class: FaultClass,
) -> FaultContext[Any]:
    """The context of a fault that has just happened, with all but what becomes of the mailbox.

    It counts the fault in the registration that will be used.
    """
    now = cell.runtime.clock.now()
    history = cell._history
    registration = cell.recovery
    facts = Facts()
    facts.cell = cell
    facts.incarnation = cell.incarnation
    facts.kind = cell.kind_of_fault
    facts.phase = phase
    facts.exception = exception
    facts.traceback = traceback
    facts.fault_class = fault_class
    facts.registration = registration
    facts.time = now
    content = message.message if type(message) is Envelope else message
    facts.message = None if phase is TIMER else content
    elsewhere = cell.elsewhere
    if elsewhere is not None:
        facts.elsewhere = elsewhere
        facts.kind = elsewhere.kind
        facts.phase = elsewhere.phase
    recent = cell.options.budget.recent(history.restarts, now) if history is not None else ()
    facts.restarts = len(recent)
    if registration is not None:
        facts.since_snapshot = cell.position() - registration.position
        facts.in_hand = (
            component is not None
            and component._kompyct_registration is registration
            and registration.hook is cell.hook
            and registration.period == cell.active_period
            and (cell.hook is not None or not facts.since_snapshot)
            and not (elsewhere is not None and elsewhere.at_rest)
        )
        recovered_at = history.recovered_at if history is not None else None
        if registration.suspect and recovered_at is not None and now - recovered_at >= PROBATION:
            registration.suspect = 0
            registration.tried = None
        registration.before_shutdown = None
        registration.attempts += 1
        facts.attempt = registration.attempts
        facts.suspect = registration.suspect
        if registration.data is not None and not isinstance(exception, ProcessStartError):
            registration.suspect += 1  # else nobody has looked at it
            registration.restored = registration.data
    return FaultContext(facts)


def brought_back(cell: Cell, error: BaseException) -> FaultContext[Any]:
    """The context for a component with which nothing was wrong (`FaultKind.SIBLING`)."""
    now = cell.runtime.clock.now()
    registration = cell.recovery
    facts = Facts()
    facts.cell = cell
    facts.incarnation = cell.incarnation
    facts.kind = FaultKind.SIBLING
    facts.phase = Phase.KILL
    facts.exception = error
    facts.traceback = None
    facts.fault_class = FaultClass.RECOVERABLE
    facts.registration = registration
    facts.message = None
    facts.pending = cell.waiting()
    facts.restarts = len(cell.options.budget.recent(cell.history.restarts, now))
    facts.time = now
    if registration is not None:  # no attempt: nothing has failed
        facts.since_snapshot = cell.position() - registration.position
        facts.attempt = registration.attempts + 1
        facts.suspect = registration.suspect
    return FaultContext(facts)


def identity(cell: Cell) -> tuple[int, str, int, float]:
    """The first fields of every event about `cell`."""
    return cell.id, cell.path, cell.incarnation, cell.runtime.clock.now() / SECOND


def faulted(fault: FaultContext[Any]) -> events.ComponentFaulted:
    """The event of a fault."""
    facts = fault._facts
    cell = facts.cell
    return events.ComponentFaulted(
        cell.id,
        cell.path,
        facts.incarnation,
        facts.time / SECOND,
        facts.kind._value_,  # `.value` takes ten times as long on CPython 3.11
        facts.phase._value_,
        type(facts.exception).__qualname__,
        fault.location,
        facts.attempt,
        facts.suspect,
        facts.pending,
        facts.restarts,
    )


def faulted_going_down(
    cell: Cell, component: Component[Any], exception: BaseException
) -> events.ComponentFaulted:
    """The event of what `on_kill` raised in a component that is brought back in any case."""
    traceback = users_frames(exception.__traceback__)
    fault_class = FaultClass.RECOVERABLE
    return faulted(
        describe_fault(cell, component, exception, traceback, Phase.KILL, None, fault_class)
    )


def benign_error(cell: Cell, exception: BaseException, phase: Phase) -> events.BenignError:
    """The event of an exception that is no fault."""
    return events.BenignError(*identity(cell), phase.value, type(exception).__qualname__)


def restart_failed(fault: FaultContext[Any]) -> events.RestartFailed:
    """The event of a fault that befell a replacement before it had started."""
    return events.RestartFailed(
        fault.component_id,
        fault.path,
        fault.incarnation,
        fault.time,
        type(fault.exception).__qualname__,
        fault.phase.value,
        fault.attempt,
    )


def restarted(cell: Cell) -> events.ComponentRestarted:
    """The report that it has begun afresh."""
    return events.ComponentRestarted(*identity(cell), "it had ended by itself")


def recovered(cell: Cell, fault: FaultContext[Any]) -> events.ComponentRecovered:
    """The report of a recovery from `fault` that has just succeeded."""
    facts = fault._facts
    budget = cell.options.budget
    now = cell.runtime.clock.now()
    history = cell._history
    restarts = len(budget.recent(history.restarts, now)) if history is not None else 0
    age = fault.snapshot_age
    return events.ComponentRecovered(
        cell.id,
        cell.path,
        cell.incarnation,
        now / SECOND,
        type(facts.exception).__qualname__,
        facts.kind._value_,
        facts.phase._value_,
        age,
        None if age is None else facts.since_snapshot,
        facts.pending,
        facts.failed,
        facts.dropped,
        (now - facts.time) / SECOND,
        facts.attempt,
        facts.suspect,
        restarts,
        cell.parent.restarts_left(now)
        if cell.parent is not None and budget.max_restarts >= UNCOUNTED
        else max(budget.max_restarts - restarts, 0),
    )
