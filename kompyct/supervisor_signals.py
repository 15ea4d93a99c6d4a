"""What does a supervisor do when it is told to start, stop, end, or come back?

Functions of a supervisor's cell, in the place of those of `signals`: what they begin is over when
its children have started, or are down.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from kompyct import creation, signals
from kompyct.ending import settle
from kompyct.errors import ArgumentError
from kompyct.faulting import fault
from kompyct.lifecycle import Ending, Phase, State, Status
from kompyct.offspring import Manner

if TYPE_CHECKING:
    from kompyct.component import Component
    from kompyct.faults import FaultContext
    from kompyct.supervising import SupervisorCell

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
PASSIVE = State.PASSIVE
FAULTY = State.FAULTY
DESTROYED = State.DESTROYED

KILL = "kill"
SUSPEND = "suspend"
"""What becomes of a supervisor when its children are down, besides what an `Outcome` says."""


def _begin(cell: SupervisorCell) -> None:
    try:
        cell.component = cell.make(cell.factory)
    except BaseException as error:
        creation.refuse_in_turn(cell, error)
        return
    cell.begin_children()


def _start(cell: SupervisorCell, future: Future[None] | None) -> None:
    supervision = cell.supervision
    if cell.state is not PASSIVE and (supervision is None or supervision.is_ready):
        signals.start(cell, future)
        return
    if future is not None:
        cell.history.waiters += ((future, True),)
    if cell.state is PASSIVE:
        cell.begin_children()


def _stop(cell: SupervisorCell, future: Future[None] | None) -> None:
    error = ArgumentError(
        f"component {cell.path!r} is a supervisor, which cannot be paused; stop its children, "
        "or end it by kill"
    )
    settle(future, error)


def _kill(
    cell: SupervisorCell,
    future: Future[None] | None,
    brutal: bool,
    after_messages: bool = False,
    by_shutdown: bool = False,
    _: Ending = Ending.ASKED,
) -> None:
    if cell.state is DESTROYED:
        settle(future)
        return
    history = cell.history
    history.killed = history.killed or not by_shutdown
    history.left_as = Status.CLEAN
    if future is not None:
        history.waiters += ((future, False),)
    why = Ending.SHUTDOWN if by_shutdown else Ending.PARENT
    cell.end_children(KILL, Manner(why, brutal, after_messages, by_shutdown))


def _suspend(cell: SupervisorCell, _: Ending, brutal: bool, ticket: int) -> None:
    if cell.state is not DESTROYED:
        cell.ticket = ticket
        cell.end_children(SUSPEND, Manner(Ending.PARENT, brutal))


def _begin_afresh(cell: SupervisorCell) -> None:
    if cell.state is not FAULTY:
        return
    if _declare(cell, None):
        cell.begin_children(afresh=True)


def _rebuild(
    cell: SupervisorCell,
    context: FaultContext[Any],
    factory: Callable[[], Component[Any]] | None,
) -> None:
    history = cell._history
    if cell.state is not FAULTY or history is None or history.fault is not context:
        return  # it was ended meanwhile
    if _declare(cell, factory):
        cell.begin_children(again=context)


def _declare(cell: SupervisorCell, factory: Callable[[], Component[Any]] | None) -> bool:
    """Make the next incarnation, without its children; whether it is there."""
    cell.incarnation += 1
    try:
        cell.component = cell.make(factory or cell.factory)
    except BaseException as exception:
        fault(cell, exception, Phase.CREATE)
        return False
    return True


def _end(
    cell: SupervisorCell,
    context: FaultContext[Any],
    reason: str,
    left_as: Status = Status.RETIRED,
) -> None:
    if cell.state is FAULTY and cell.history.fault is context:
        cell.history.left_as = left_as
        cell.end_with(reason, type(context.exception).__qualname__)
        cell.end_children(KILL, Manner(Ending.PARENT, brutal=True))


INSTEAD: dict[Callable[..., None], Callable[..., None]] = {
    creation.begin: _begin,
    signals.start: _start,
    signals.stop: _stop,
    signals.kill: _kill,
    signals.suspend: _suspend,
    signals.begin_afresh: _begin_afresh,
    signals.rebuild: _rebuild,
    signals.end: _end,
}
"""What a supervisor does when it is told what any component may be told."""
