"""What does a cell do when it is told to start, stop, end, or come back?

Functions of a cell, called in its turn ahead of messages; see `Cell.signal`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from kompyct.ending import close_box, close_kept, destroy, is_left_behind, settle
from kompyct.errors import ComponentFaultError, NotNeededError, SiblingFaultError
from kompyct.facts import FaultKind
from kompyct.faulting import fault, is_benign, take_back
from kompyct.faults import FaultContext
from kompyct.lifecycle import Ending, Phase, State, Status
from kompyct.messages import Envelope
from kompyct.news import News
from kompyct.probation import watch_probation
from kompyct.reports import (
    benign_error,
    brought_back,
    faulted_going_down,
    recovered,
    restarted,
)

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.component import Component

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
ACTIVE = State.ACTIVE
PASSIVE = State.PASSIVE
FAULTY = State.FAULTY
DESTROYED = State.DESTROYED
UNFINISHED = Status.UNFINISHED
CLEAN = Status.CLEAN
SHUTDOWN = FaultKind.SHUTDOWN
CREATE = Phase.CREATE
START = Phase.START
STOP = Phase.STOP
KILL = Phase.KILL
ASKED = Ending.ASKED


def start(cell: Cell, future: Future[None] | None) -> None:
    """Become active."""
    if cell.state is PASSIVE:
        if not cell.order:
            cell.order = next(cell.runtime.orders)
        raised = _activate(cell)
        if raised is not None:
            settle(future, _faulted_in(cell, START, raised))
            fault(cell, raised, START)
        elif future is not None:
            settle(future)
    elif cell.state is FAULTY:
        history = cell.history
        history.active = True
        if future is not None:
            history.waiters += ((future, True),)
    elif cell.state is DESTROYED:
        settle(future, cell.gone())
    else:
        settle(future)


def stop(cell: Cell, future: Future[None] | None) -> None:
    """Become passive."""
    component = cell.component
    if cell.state is not ACTIVE or component is None:
        if cell.state is FAULTY:
            cell.history.active = False
        settle(future)
        return
    raised = _call(cell, STOP, "on_stop")
    if raised is not None and _fell_before(cell, STOP):
        fault(cell, raised, cell.elsewhere.phase)  # type: ignore[union-attr]
        cell.history.active = False
        settle(future)
        return
    if raised is not None:
        settle(future, _faulted_in(cell, STOP, raised))
        fault(cell, raised, STOP)
        return
    if cell.state is DESTROYED:  # it was left behind in its hook
        settle(future)
        return
    cell.state = PASSIVE  # before its things are closed: it keeps nothing more
    _note_active(cell, active=False)
    cell.end_period()
    close_kept(cell, component, None, lambda: settle(future))


def kill(
    cell: Cell,
    future: Future[None] | None,
    brutal: bool,
    after_messages: bool = False,
    by_shutdown: bool = False,
    why: Ending = Ending.ASKED,
) -> None:
    """End for good: in order unless `brutal`, and if so after what is waiting.

    What is stored is retired, unless this is `by_shutdown`: then the next start goes on from it.
    """
    if cell.state is DESTROYED:
        settle(future)
        return
    if not by_shutdown:
        cell.history.killed = True
    if future is not None:
        cell.history.waiters += ((future, False),)
    if after_messages and (cell.state is ACTIVE or (cell.state is FAULTY and cell.history.active)):
        order = (kill, (None, brutal, False, by_shutdown, why))
        cell.box.append(Envelope(None, lambda _: cell.add_signal(order)))
        return
    close_box(cell)
    component = cell.component
    cell.history.ending = Ending.SHUTDOWN if by_shutdown and why is ASKED else why
    if by_shutdown:
        met = cell.history.fault
        lost = component is None and (met is None or met.kind is not SHUTDOWN)
        cell.history.left_as = UNFINISHED if brutal or lost else CLEAN
    if component is None:
        destroy(cell, "killed while it was faulty")
        return
    raised = None if brutal else _call(cell, KILL, "on_kill")
    if raised is not None and _fell_before(cell, KILL):
        fault(cell, raised, cell.elsewhere.phase)  # type: ignore[union-attr]
        destroy(cell, "killed while it was faulty")
        return
    if raised is not None:
        cell.history.error = _faulted_in(cell, KILL, raised)  # told when the name is free
        fault(cell, raised, KILL)
        return
    cell.component = None  # before its things are closed: it keeps nothing more
    cell.end_period()
    close_kept(cell, component, None, lambda: destroy(cell, "killed"))


def stop_self(cell: Cell, incarnation: Component[Any]) -> None:
    """Become passive, as that incarnation asked; a later one is not meant (S-06)."""
    if cell.component is incarnation or cell.component is None:
        stop(cell, None)


def kill_self(cell: Cell, incarnation: Component[Any], after_messages: bool) -> None:
    """End in order, as that incarnation asked; a later one is not meant (S-06)."""
    if cell.component is not incarnation and cell.component is not None:
        return
    if cell.parent is None:
        kill(cell, None, False, after_messages, False, Ending.ITSELF)
    elif after_messages and cell.state is ACTIVE:
        order = (kill_self, (incarnation, False))
        cell.box.append(Envelope(None, lambda _: cell.add_signal(order)))
    else:
        _go_down(cell, Ending.ITSELF, False, News.LEFT)


def suspend(cell: Cell, why: Ending, brutal: bool, ticket: int) -> None:
    """End the incarnation, in order unless `brutal`; the component is kept for another one.

    Its supervisor is told with `ticket`, since it may tell this more than once.
    """
    if cell.state is not DESTROYED:
        _go_down(cell, why, brutal, News.KEPT, ticket)


def _go_down(cell: Cell, why: Ending, brutal: bool, news: News, ticket: int = 0) -> None:
    """End the incarnation and tell the supervisor, which decides what is next."""
    history = cell.history
    component = cell.component
    history.fault = None  # what was to be done about it counts no more
    parent = cell.parent
    assert parent is not None
    if component is None:
        parent.hear(news, cell, ticket)
        return
    history.ending = why
    raised = None if brutal else _call(cell, KILL, "on_kill")
    if cell.state is DESTROYED:  # it was left behind there
        return
    history.ending = None
    if raised is not None and _fell_before(cell, KILL):
        take_back(cell, raised)
    cell.take_up_saves()
    if component._kompyct_registration is not None:
        cell.recovery = component._kompyct_registration
    cell.component = None  # before its things are closed: it keeps nothing more
    stored = cell.stored  # once: its supervisor may leave it behind just now
    if stored is not None:
        cell.recovery = stored.fence(cell.incarnation + 1) or cell.recovery
    history.active = cell.state is ACTIVE  # what was paused comes back so
    cell.state = FAULTY
    if raised is not None:  # it is told; what follows was decided before
        cell.runtime.emit(faulted_going_down(cell, component, raised))
        cell.hand = None
    cell.end_period()
    close_kept(cell, component, raised, lambda: parent.hear(news, cell, ticket))


def bring_back(cell: Cell, cause: BaseException | None) -> None:
    """Make another incarnation of a component that has been kept, as its function wants.

    `cause` is what its sibling, or its supervisor, faulted with; None: that ended by itself.
    """
    if cell.state is not FAULTY:
        return
    history = cell.history
    error = SiblingFaultError(f"component {cell.path!r} is restarted with others")
    error.__cause__ = cause
    history.fault = context = brought_back(cell, error)
    if cell.recovery is not None:
        cell.runtime.supervise(context)
    else:
        cell.add_signal((rebuild, (context, None)), first=True)


def inherit(cell: Cell, kept: Component[Any] | None) -> None:
    """Close what another one kept that was left behind, before its heir comes back."""
    close_kept(cell, kept, None, lambda: None)


def finish(cell: Cell, reason: str, error: str | None, left_as: Status) -> None:
    """End a component that is down, and was kept."""
    if cell.state is FAULTY:
        cell.history.left_as = left_as
        destroy(cell, reason, error)


def begin_afresh(cell: Cell) -> None:
    """Make another incarnation of a component that has ended by itself, and is permanent."""
    if cell.state is not FAULTY:
        return
    cell.history.active = True
    cell.recovery = None
    stored = cell.stored
    if stored is not None:  # its end by itself retires what it had (S-26)
        stored.begin_anew()
    if not _replace(cell, None):
        return
    cell.runtime.emit(restarted(cell))
    _tell_started(cell)


def rebuild(
    cell: Cell, context: FaultContext[Any], factory: Callable[[], Component[Any]] | None
) -> None:
    """Replace the incarnation that faulted."""
    history = cell._history
    if cell.state is not FAULTY or history is None or history.fault is not context:
        return  # it was killed meanwhile
    if not _replace(cell, factory):
        return
    history.fault = None
    history.claimed = False
    history.recovered_at = cell.runtime.clock.now()
    if cell.stored is not None:
        watch_probation(cell)
    cell.runtime.emit(recovered(cell, context))
    _tell_started(cell)


def _replace(cell: Cell, factory: Callable[[], Component[Any]] | None) -> bool:
    """Make the next incarnation and start it, if it is to be; whether it is there.

    `factory` of None: the one that made the first.
    """
    history = cell.history
    cell.incarnation += 1
    try:
        cell.component = cell.make(factory or cell.factory)
    except NotNeededError as exception:
        if cell.parent is None:
            fault(cell, exception, CREATE)
        else:
            history.fault = None
            cell.parent.hear(News.NOT_NEEDED, cell)
        return False
    except BaseException as exception:
        fault(cell, exception, CREATE)
        return False
    if _is_too_late(cell):
        return False
    cell.state = PASSIVE
    if history.active:
        raised = _activate(cell)
        if raised is not None:
            fault(cell, raised, START)
            return False
    return cell.state is not DESTROYED  # or it was left behind in its hook


def _tell_started(cell: Cell) -> None:
    """Tell all that wait for an incarnation to have started."""
    history = cell.history
    if cell.parent is not None:
        if not cell.order:
            cell.order = next(cell.runtime.orders)
        cell.parent.hear(News.STARTED, cell)
    starts = [future for future, is_start in history.waiters if is_start]
    history.waiters = tuple(waiter for waiter in history.waiters if not waiter[1])
    for future in starts:
        settle(future)


def end(
    cell: Cell, context: FaultContext[Any], reason: str, left_as: Status = Status.RETIRED
) -> None:
    """End for good, as the supervisor decided."""
    if cell.state is FAULTY and cell.history.fault is context:
        cell.history.left_as = left_as
        destroy(cell, reason, type(context.exception).__qualname__)


def _is_too_late(cell: Cell) -> bool:
    """Whether it was left behind in its factory; then what that made is not started (S-06)."""
    if not is_left_behind(cell):
        return False
    component, cell.component = cell.component, None
    close_kept(cell, component, None, lambda: None)
    return True


def activate(cell: Cell) -> bool:
    """Start the first active period of a child; whether it did not fault."""
    if _is_too_late(cell):
        return False
    raised = _activate(cell)
    if raised is not None:
        fault(cell, raised, START)
    return raised is None


def _activate(cell: Cell) -> BaseException | None:
    """Start the active period; returns what `on_start` raised, unless that is benign."""
    cell.state = ACTIVE
    _note_active(cell, active=True)
    cell.active_period += 1
    return _call(cell, START, "on_start")


def _note_active(cell: Cell, *, active: bool) -> None:
    """Have it stored whether the component was started: an orderly start brings it back so."""
    stored = cell.stored  # once, as in `_go_down`
    if stored is not None:
        stored.active = active
        stored.touch()


def _call(cell: Cell, phase: Phase, hook: str) -> BaseException | None:
    """Call a hook; returns what it raised, unless that is benign, which is only reported."""
    cell.hand = phase
    try:
        getattr(cell.component, hook)()
    except BaseException as exception:
        if not is_benign(cell, exception):
            return exception
        cell.runtime.emit(benign_error(cell, exception, phase))
    cell.hand = None
    return None


def _fell_before(cell: Cell, phase: Phase) -> bool:
    """Whether, in a process of its own, the component had faulted before it heard of the hook."""
    return cell.elsewhere is not None and cell.elsewhere.phase is not phase


def _faulted_in(cell: Cell, phase: Phase, cause: BaseException) -> ComponentFaultError:
    error = ComponentFaultError(
        f"component {cell.path!r} faulted in on_{phase.value} with "
        f"{type(cause).__qualname__}; see the cause"
    )
    error.__cause__ = cause
    return error
