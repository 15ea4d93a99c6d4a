"""What does a cell keep for the case of a fault, and what does it do at one?

Functions of a cell, for its turn only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kompyct.ending import bury, close_kept
from kompyct.errors import RestartingError, is_callers
from kompyct.fault_classes import FaultClass, classify
from kompyct.lifecycle import Phase, State, Status
from kompyct.messages import NOBODY, Envelope, OnRestart, on_restart
from kompyct.poison import counted, faults_of, set_aside
from kompyct.registration import Registration
from kompyct.reports import (
    benign_error,
    describe_fault,
    phase_of,
    restart_failed,
    users_frames,
)

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.facts import Facts

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
ACTIVE = State.ACTIVE
PASSIVE = State.PASSIVE
FAULTY = State.FAULTY
DESTROYED = State.DESTROYED
RECEIVE = Phase.RECEIVE
PORT = Phase.PORT
STOP = Phase.STOP
KILL = Phase.KILL
CLEAN = Status.CLEAN
UNFINISHED = Status.UNFINISHED
BENIGN = FaultClass.BENIGN
RECOVERABLE = FaultClass.RECOVERABLE
DEFAULT = OnRestart.DEFAULT
REDELIVER = OnRestart.REDELIVER
DROP = OnRestart.DROP
FAIL = OnRestart.FAIL

_TRACEBACK = BaseException.__dict__["__traceback__"].__get__


def register(cell: Cell, registration: Registration) -> None:
    """Take up a registration made from outside."""
    if cell.pass_on(registration):
        return
    cell.take_up_saves()
    registration.position = cell.position()
    component = cell.component
    if component is None:
        cell.recovery = registration.following(cell.recovery)
    else:
        before = component._kompyct_registration or cell.recovery
        component._kompyct_registration = registration.following(before)
    if cell.stored is not None:
        # Without an incarnation it is the next one's: those of the last one are refused.
        late = cell.component is None
        cell.stored.save(registration, cell.incarnation + late)


def raised(cell: Cell, exception: BaseException, message: Any, left: Any) -> None:
    """Deal with what handling `message` raised; `left` are those taken with it."""
    if not is_benign(cell, exception):
        fault(cell, exception, phase_of(message), message, left)
    elif type(message) is Envelope and message.is_asked:
        message.fail(exception)
    else:
        cell.runtime.emit(benign_error(cell, exception, phase_of(message)))


def is_benign(cell: Cell, exception: BaseException) -> bool:
    """Whether the component's class, or the exception's, says that this is no fault."""
    return _class_of(cell, exception) is BENIGN


def fault(
    cell: Cell, exception: BaseException, phase: Phase, message: Any = None, left: Any = ()
) -> None:
    """End the incarnation and tell the supervisor.

    `message` is what was in hand, `left` what the turn had taken out with it.
    """
    runtime = cell.runtime
    if cell.state is DESTROYED:  # it was left behind, and what is late changes nothing
        bury(cell, [message, *left] if message is not None else [*left], str(cell.reason))
        return
    cell.take_up_saves()
    _take_up_registrations(cell)
    elsewhere = cell.elsewhere
    if elsewhere is not None:
        message, left = elsewhere.message, elsewhere.left
    fault_class = _class_of(cell, exception)
    history = cell.history
    component = cell.component
    if component is not None:
        history.ports = component._kompyct_ports  # first: who connects it looks at either
        cell.component = None
    if component is not None and component._kompyct_registration is not None:
        cell.recovery = component._kompyct_registration
    stored = cell.stored  # once: its supervisor may leave it behind just now
    if stored is not None:
        # A late thread's save came before this, then it counts here too, or it is refused.
        cell.recovery = stored.fence(cell.incarnation + 1) or cell.recovery
    if history.left_as is CLEAN:  # on_kill faulted
        history.left_as = UNFINISHED
    if cell.state is ACTIVE:
        history.active = phase is not STOP
    elif cell.state is PASSIVE:  # in a process of its own, which may end at any time
        history.active = False
    cell.state = FAULTY
    comes_back = (
        (cell.recovery is not None or (cell.parent is not None and cell.parent.brings_back(cell)))
        and fault_class is RECOVERABLE
        and phase is not KILL
        and not runtime.stopping
    )
    # Neither read nor assigned as an attribute: an exception class may forbid that.
    traceback = users_frames(_TRACEBACK(exception))
    BaseException.with_traceback(exception, traceback)
    context = describe_fault(cell, component, exception, traceback, phase, message, fault_class)
    history.recovered_at = None
    facts = context._facts
    cell.hand = None
    cell.end_period()
    rest = list(left)
    if elsewhere is None:  # there it counts what was taken in hand
        cell.handled -= len(rest)
    redelivered = comes_back and message is not None and _wants(message) is REDELIVER
    faults = faults_of(message)
    limit = cell.options.poison_after
    if redelivered and (limit is None or faults < limit):
        rest.insert(0, message if limit is None else counted(message, faults))
    elif phase in (RECEIVE, PORT) and not (elsewhere is not None and elsewhere.at_rest):
        facts.dropped = 1
    cell.put_back(rest)
    _settle_queued(cell, facts, comes_back)
    # After the look at the queued asks: what this asker sends next is sent later (S-16).
    poisonous = None
    if redelivered:
        if limit is not None and faults >= limit:
            poisonous = set_aside(context, message, faults)
    elif type(message) is Envelope and message.is_asked:
        message.fail(exception)
    facts.pending = cell.waiting()
    failed_restart = history.fault is not None
    history.fault = context
    if failed_restart:
        runtime.emit(restart_failed(context))
    if is_callers(exception):
        runtime.note_interrupt(exception)

    def go_on() -> None:
        runtime.supervise(context)
        if poisonous is not None:
            runtime.emit(poisonous)

    close_kept(cell, component, exception, go_on)


def take_back(cell: Cell, exception: BaseException) -> None:
    """Have a component that fell in its own process, as it was told to go down, lose no message.

    What was not in hand there waits for the next incarnation, and what was as at a fault.
    """
    elsewhere = cell.elsewhere
    assert elsewhere is not None
    rest = [*elsewhere.left]
    message = elsewhere.message
    if message is not None and _wants(message) is REDELIVER:
        rest.insert(0, message)
    elif type(message) is Envelope and message.is_asked:
        message.fail(exception)
    cell.put_back(rest)


def _class_of(cell: Cell, exception: BaseException) -> FaultClass:
    if cell.elsewhere is not None:
        return cell.elsewhere.fault_class
    component = cell.component
    if component is not None:
        try:
            return classify(exception, type(component).fault_classes)
        except Exception:  # the users' mapping, or what became of it since it was checked
            return RECOVERABLE
    # A factory that raises has made nothing that could carry on.
    fault_class = classify(exception, {})
    return RECOVERABLE if fault_class is BENIGN else fault_class


def _wants(message: Any) -> OnRestart:
    """What the type of `message` wants at a fault."""
    return on_restart(type(message.message if type(message) is Envelope else message))


def _settle_queued(cell: Cell, facts: Facts, comes_back: bool) -> None:
    """Deal with what is queued and does not meet the next incarnation; `facts` counts it."""
    if not cell.waiting():  # an ask that comes now is one of after the fault, and keeps its mark
        cell.history.looked_at = cell.handled
        return
    has_asks = cell.has_asks
    if has_asks:  # else an ask that has come since would lose its mark
        cell.has_asks = False  # before the look: an ask that comes now sets it again
    history = cell.history
    refused = False
    if comes_back:
        # What the last fault has looked at waits still, but for what was handled since: so many
        # faults with many messages behind them cost no more than one. Of a process, and of a
        # bounded mailbox, messages may go unhandled, so all are looked at.
        in_order = type(cell.box) is list and cell.backend.kind != "process"
        known = max(history.looked_at - cell.handled, 0) if in_order else 0
        types, waiting = cell.types(known)
        history.looked_at = cell.handled + waiting
        refused = any(on_restart(kind) in (DROP, FAIL) for kind in types)
        refused = refused or (Envelope in types and _has_unwanted_event(cell))
    if not has_asks and not refused:
        return
    queued = cell.take_all()
    kept = fail_asks(cell, queued, comes_back=comes_back)
    facts.failed += len(queued) - len(kept)
    if comes_back:
        kept = _refuse_tells(cell, kept, facts)
    cell.put_back(kept)
    history.looked_at = cell.handled + len(kept)


def _has_unwanted_event(cell: Cell) -> bool:
    """Whether an event for a port is queued whose type wants to be refused."""
    box = cell.box if type(cell.box) is list else cell.box.every()
    return any(
        type(message) is Envelope and message.done is NOBODY and _wants(message) in (DROP, FAIL)
        for message in (*box, *(cell.backlog or ()))
    )


def _refuse_tells(cell: Cell, waiting: list[Any], facts: Facts) -> list[Any]:
    """Make dead letters of the tells in `waiting` whose types want it; returns the rest."""
    kept: list[Any] = []
    letters: dict[OnRestart, list[Any]] = {DROP: [], FAIL: []}
    for message in waiting:
        is_ask = type(message) is Envelope and message.is_asked
        letters.get(DEFAULT if is_ask else _wants(message), kept).append(message)
    facts.dropped += len(letters[DROP])
    facts.failed += len(letters[FAIL])
    for wants, unwanted in letters.items():
        bury(cell, unwanted, f"queued when it faulted, with OnRestart.{wants.name}")
    return kept


def fail_asks(cell: Cell, waiting: list[Any], *, comes_back: bool = True) -> list[Any]:
    """Fail the asks in `waiting`, but for those to be redelivered; returns the rest."""
    error: BaseException = cell.gone()
    if comes_back:
        error = RestartingError(
            f"component {cell.path!r} faulted while this ask was queued; ask again"
        )
    kept: list[Any] = []
    for message in waiting:
        if type(message) is not Envelope or not message.is_asked:
            kept.append(message)
        elif comes_back and _wants(message) is REDELIVER:
            kept.append(message)
            cell.has_asks = True
        else:
            message.fail(error)
    return kept


def _take_up_registrations(cell: Cell) -> None:
    """Take up what was registered from outside before the fault."""
    if not cell.control:
        return
    with cell.runtime.signals:
        mine = [signal for signal in cell.control if signal[0] is register]
        # By identity: `==` would compare users' functions and snapshots.
        cell.control = tuple(signal for signal in cell.control if signal[0] is not register)
    for _, arguments in mine:
        register(cell, *arguments)
