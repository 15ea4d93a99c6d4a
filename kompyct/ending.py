"""How does a component end, and what becomes of its messages and resources?

Functions of a cell; those without another note are for its turn only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from kompyct import events
from kompyct.clock import SECOND
from kompyct.deadline import AbandonedError, Deadline, SimulatedHang
from kompyct.errors import MailboxFullError
from kompyct.futures import complete
from kompyct.lifecycle import State, Status
from kompyct.mailbox import ClosedBox
from kompyct.messages import NOBODY, Envelope
from kompyct.news import Gone, News
from kompyct.reports import identity
from kompyct.watching import EndReason

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.component import Component
    from kompyct.registration import Registration
# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
ACTIVE = State.ACTIVE
FAULTY = State.FAULTY
DESTROYED = State.DESTROYED
RETIRED = Status.RETIRED


KEEP_DEADLINE = 5 * SECOND
"""How long closing kept resources may take before the turn is abandoned."""


def close_box(cell: Cell) -> None:
    """Take no more messages: asks fail from here on, tells become dead letters at the end."""
    if type(cell.box) is ClosedBox:
        return
    # The history is made here, in the turn: from now on senders look at it, and two that made it
    # at once would each have their own, and one of them would replace that of the turn.
    cell.history  # noqa: B018
    waiting = cell.take_all()
    cell.box = ClosedBox(cell.refuse, cell.box)
    cell.has_asks = False
    for message in waiting:
        refuse(cell, message)


def destroy(cell: Cell, reason: str, error: str | None = None) -> None:
    """End the component for good; `error` names the fault that led to it, if one did.

    The name is free before anybody is told. What was left behind has ended already.
    """
    if cell.state is DESTROYED:
        return
    runtime = cell.runtime
    history = cell.history
    cell.reason = reason if error is None else EndReason(reason, error)
    history.fault = None
    close_box(cell)
    cell.state = DESTROYED
    cell.component = None
    cell.factory = None
    cell.recovery = None
    if cell.stored is not None:
        # Before the name is free, and before the supervisor hears of it: who creates the next one
        # looks at it, and after the last one the store is closed.
        cell.stored.end(RETIRED if history.killed else history.left_as)
        cell.stored = None
    cell.let_go()
    cell.backend = runtime.forget(cell)
    _bury_letters(cell)
    restarts = len(history.restarts)
    runtime.emit(events.ComponentEnded(*identity(cell), reason, error, restarts))
    cell._history = None
    runtime.tell_watchers(cell)
    if history.waiters:
        _settle(history.waiters, history.error, cell.gone())
    if cell.parent is not None:
        cause = history.error if history.claimed else None
        cell.parent.hear(News.GONE, cell, Gone(error, cause, history.killed))


def discard(cell: Cell) -> None:
    """Let a cell go whose first incarnation could not be made; by the holder of its flag."""
    discard_in_turn(cell)
    cell.backend.wake(cell)


def discard_in_turn(cell: Cell) -> None:
    """Let a cell go whose first incarnation could not be made.

    Somebody may have got its ref out of `__init__`; what they send becomes dead letters.
    """
    cell.reason = "it could not be created"
    close_box(cell)
    cell.state = DESTROYED
    if cell.stored is not None:  # what was stored there before stays
        cell.stored.forget()
        cell.stored = None
    cell.let_go()
    cell.backend = cell.runtime.forget(cell)
    _bury_letters(cell)
    cell.runtime.tell_watchers(cell)


def close_kept(
    cell: Cell,
    component: Component[Any] | None,
    cause: BaseException | None,
    go_on: Callable[[], None],
) -> None:
    """Leave what `component` kept, last one first, then `go_on`.

    If that takes longer than KEEP_DEADLINE, the watchdog takes the cell over and goes on
    elsewhere; this thread then finds that it was abandoned.

    Raises:
        AbandonedError: the turn is somebody else's now; touch nothing any more.
    """
    kept = None
    if component is not None:
        # Taken away: what the next active period keeps is not for a thread abandoned here.
        kept, component._kompyct_kept = component._kompyct_kept, None
    if not kept:
        go_on()
        return
    runtime = cell.runtime

    def take_over() -> None:
        late = f"not closed within {KEEP_DEADLINE // SECOND} s"
        runtime.emit(events.ResourceNotClosed(*identity(cell), late))
        cell.add_signal((lambda _: go_on(), ()), first=True)
        cell.backend.take_over(cell)

    deadline = Deadline(runtime.clock.now() + KEEP_DEADLINE, take_over)
    runtime.watch(deadline)
    errors: list[BaseException] = []
    while kept:
        try:
            resource = kept.pop()
        except IndexError:  # a late thread took it back, see Component.keep
            break
        try:
            if cause is None:
                resource.__exit__(None, None, None)
            else:
                resource.__exit__(type(cause), cause, cause.__traceback__)
        except SimulatedHang:
            raise AbandonedError from None
        except BaseException as raised:
            errors.append(raised)
    if not deadline.claim():
        raise AbandonedError
    runtime.unwatch(deadline)
    for error in errors:
        runtime.emit(events.ResourceNotClosed(*identity(cell), type(error).__qualname__))
    go_on()


class Remains(NamedTuple):
    """What there is of a component that was left behind.

    Attributes:
        recovery: what it had registered.
        waiting: its messages. Those that its turn has taken out with the one in hand stay there
            until its thread comes back.
        kept: the incarnation, for what it had kept to be closed; None: there is none.
        active: whether it was started.
    """

    recovery: Registration | None
    waiting: list[Any]
    kept: Component[Any] | None
    active: bool


def abandon(cell: Cell) -> Remains:
    """End `cell`, whose turn hangs in users' code, from outside of that; by its supervisor.

    Its names are free, its watchers are told, asks fail, and what its thread still does is
    ignored: it is no incarnation any more (S-06). See `note_return` for when that comes back.
    """
    runtime = cell.runtime
    component = cell.component
    registration = cell.recovery
    if component is not None and component._kompyct_registration is not None:
        registration = component._kompyct_registration
    history = cell.history
    paused = cell.state is not ACTIVE and not (cell.state is FAULTY and history.active)
    cell.reason = "it did not end in time"
    cell.component = None
    cell.state = DESTROYED
    if type(cell.box) is not ClosedBox:
        cell.box = ClosedBox(cell.refuse, cell.box)
    cell.backend = runtime.forget(cell)
    runtime.tell_watchers(cell)
    waiters, history.waiters = history.waiters, ()
    _settle(waiters, None, cell.gone())
    with runtime.signals:
        control, cell.control = cell.control, ((note_return, ()),)
    for _, arguments in control:  # what it was told and cannot do any more
        if arguments and isinstance(arguments[0], Future):
            settle(arguments[0], None if len(arguments) > 1 else cell.gone())
    # The turn hangs outside of its mailbox, which it looks at anew when it comes back.
    backlog, cell.backlog = cell.backlog or [], None
    waiting = [*backlog[::-1], *cell.box.take(len(cell.box))]
    return Remains(registration, waiting, component, active=not (paused and cell.order))


def note_return(cell: Cell) -> None:
    """The thread of a component that was left behind has come back; in its turn."""
    cell.runtime.note_return()


def is_left_behind(cell: Cell) -> bool:
    """Whether its supervisor has gone on without it, while users' code hung in its turn."""
    return cell.parent is not None and not cell.parent.offspring.has(cell)


def refuse(cell: Cell, message: Any) -> None:
    """Deal with a message to a component that is ending or has ended; from any thread."""
    if type(message) is Envelope and message.done is not NOBODY:
        bury(cell, [message], "")
        return
    history = cell._history  # once: the end takes it away
    letters = None if history is None else history.letters
    if letters is None:
        bury(cell, [message], cell.reason)
        return
    letters.append(message)
    # The end of an ending flushes the letters; who adds one after that flushes it himself.
    if cell.state is DESTROYED:
        _flush(cell, letters)


def overflow(cell: Cell, message: Any) -> None:
    """Deal with a message that found no place in a bounded mailbox; from any thread."""
    if type(message) is Envelope and message.is_asked:
        message.fail(
            MailboxFullError(f"the mailbox of component {cell.path!r} is full; ask again later")
        )
    else:
        bury(cell, [message], "its mailbox is full")


def bury(cell: Cell, messages: Sequence[Any], reason: str) -> None:
    """Make dead letters of `messages`; asks fail. From any thread."""
    letters = []
    for message in messages:
        if type(message) is not Envelope:
            letters.append(message)
        elif message.is_asked:
            message.fail(cell.gone())
        elif message.done is NOBODY:
            letters.append(message.message)
    if letters:
        cell.runtime.undelivered(cell, letters, reason)


def settle(future: Future[None] | None, error: BaseException | None = None) -> None:
    """Complete `future`, if there is one and nobody has cancelled it. From any thread."""
    if future is not None:
        complete(future, None, error)


def _settle(
    waiters: tuple[tuple[Future[None], bool], ...],
    error: BaseException | None,
    start_error: BaseException,
) -> None:
    """Complete what waits for the component; those that wait for a start get `start_error`."""
    for future, is_start in waiters:
        settle(future, start_error if is_start and error is None else error)


def _bury_letters(cell: Cell) -> None:
    """Make dead letters of what came while the component was ending, which is over now.

    The box is a plain one again, and what is put there is refused by a turn of its sender's: so
    what has ended keeps as little as it can, and no reference to itself.
    """
    history = cell.history
    letters, history.letters = history.letters, None
    if letters:
        _flush(cell, letters)
    cell.box = cell.box.late


def _flush(cell: Cell, waiting: list[Any]) -> None:
    """Make dead letters of `waiting`; from any thread, also from several at once."""
    letters: list[Any] = []
    try:
        while True:
            letters.append(waiting.pop())
    except IndexError:  # empty, by this thread or by another that flushes
        pass
    letters.reverse()
    bury(cell, letters, cell.reason)
