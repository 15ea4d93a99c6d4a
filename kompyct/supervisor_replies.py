"""How does a supervisor answer what it is asked?

Functions of the supervisor's turn. An answer that needs a child to start or to end is given when
that has happened; nothing waits for it meanwhile but who has asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kompyct import events
from kompyct.child_requests import (
    ChildCounts,
    ChildInfo,
    CountChildren,
    DeleteChild,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChildren,
)
from kompyct.errors import (
    ArgumentError,
    ChildAlreadyPresentError,
    ChildAlreadyStartedError,
    ChildError,
    ChildNotFoundError,
    ChildRestartingError,
    ChildRunningError,
    KompyctError,
    SupervisorEndingError,
    UnhandledMessageError,
)
from kompyct.messages import NOBODY, Envelope
from kompyct.offspring import key_of
from kompyct.ref import ComponentRef, ref_to
from kompyct.reports import identity
from kompyct.strategy import Key, Standing, Strategy
from kompyct.supervision import Supervision
from kompyct.supervisor import check_placement, check_significant

if TYPE_CHECKING:
    from kompyct.supervising import SupervisorCell


class Replies:
    """Who waits for what becomes of which child."""

    def __init__(self) -> None:
        self._waiting: dict[Key, list[Envelope]] = {}

    def promise(self, key: Key, envelope: Envelope) -> None:
        """Answer when it is known what has become of that child."""
        self._waiting.setdefault(key, []).append(envelope)

    def give(self, key: Key, value: Callable[[], Any]) -> None:
        """Answer all that wait for that child; who wanted it to end gets None."""
        for envelope in self._waiting.pop(key, ()):
            answer(envelope, None if _wants_end(envelope) else value())

    def give_terminated(self, key: Key) -> None:
        """Answer those that wait for the end of that child."""
        waiting = self._waiting.pop(key, [])
        others = [envelope for envelope in waiting if not _wants_end(envelope)]
        if others:
            self._waiting[key] = others
        for envelope in waiting:
            if _wants_end(envelope):
                answer(envelope, None)

    def refuse(self, key: Key, error: BaseException) -> None:
        """Fail all that wait for that child; who wanted it to end has it ended."""
        for envelope in self._waiting.pop(key, ()):
            if _wants_end(envelope):
                answer(envelope, None)
            elif envelope.is_asked:
                envelope.fail(error)


def _wants_end(envelope: Envelope) -> bool:
    return type(envelope.message) in (TerminateChild, DeleteChild)


def take(cell: SupervisorCell, message: Any) -> None:
    """Do what is asked, now or when nothing else is under way; or refuse it."""
    envelope = message if type(message) is Envelope else Envelope(message, None, NOBODY)
    if envelope.action is not None:
        envelope.deliver(cell.component)
        return
    supervision = cell.supervision
    request = envelope.message
    try:
        if supervision is None:
            raise is_ending(cell)
        obey = _obey(request)
        if obey is None:
            raise UnhandledMessageError(
                f"supervisor {cell.path!r} does not take a {type(request).__qualname__}; it "
                f"takes {', '.join(kind.__name__ for kind in _ASKED)}"
            )
        is_look = obey in (_which, _count)
        if supervision.outcome is not None or (cell.runtime.stopping and not is_look):
            raise is_ending(cell)
        if not is_look and (supervision.is_busy or not supervision.is_ready):
            cell.requests.append(envelope)
            return
        obey(cell, supervision, envelope)
    except KompyctError as error:
        fail(cell, envelope, error)
    except BaseException as error:  # what users' ids and specs do when they are looked at
        fail(cell, envelope, error)
        raise


def _obey(request: object) -> Callable[[SupervisorCell, Supervision, Envelope], None] | None:
    for kind, obey in _ASKED.items():  # by identity: no code of users' classes is run here
        if type(request) is kind:
            return obey
    return None


def is_ending(cell: SupervisorCell) -> SupervisorEndingError:
    """The error for whoever asks something of a supervisor that is ending."""
    return SupervisorEndingError(f"supervisor {cell.path!r} is ending; it does nothing more")


def fail(cell: SupervisorCell, envelope: Envelope, error: BaseException) -> None:
    """Refuse a request: the asker gets the error; if it was only told, there is an event."""
    if envelope.is_asked:
        envelope.fail(error)
    else:
        name = type(error).__qualname__
        cell.runtime.emit(events.BenignError(*identity(cell), "receive", name))


def answer(envelope: Envelope, value: Any) -> None:
    """Settle a request."""
    envelope.value = value
    if envelope.done is not None:
        envelope.done.release()


def _start_child(cell: SupervisorCell, supervision: Supervision, envelope: Envelope) -> None:
    spec = envelope.message.spec
    declared = cell.declared
    check_significant(spec, declared.auto_shutdown)
    check_placement(spec, cell.offspring.kind, cell.runtime.kind)
    if spec.id is None and declared.strategy is not Strategy.DYNAMIC:
        raise ArgumentError(
            f"supervisor {cell.path!r} needs an id for a child; only those of a dynamic one can "
            "do without"
        )
    key: Key = next(cell.runtime.numbers) if spec.id is None else spec.id
    member = supervision.members.get(key)
    if member is not None:
        if member.standing is Standing.STOPPED:
            raise ChildAlreadyPresentError(
                f"supervisor {cell.path!r} has a child {key!r}, which is stopped; ask "
                "RestartChild, or DeleteChild before"
            )
        raise ChildAlreadyStartedError(
            f"supervisor {cell.path!r} has a child {key!r}, which is {member.standing.value}"
        )
    cell.replies.promise(key, envelope)
    cell.do(supervision.add(key, spec))


def _terminate_child(cell: SupervisorCell, supervision: Supervision, envelope: Envelope) -> None:
    key = _known(cell, supervision, envelope.message.child)
    is_down = supervision.members[key].standing is Standing.STOPPED
    if not is_down or supervision.is_planned(key):
        cell.replies.promise(key, envelope)
        cell.do(supervision.terminate(key, cell.now))
        if key not in cell.offspring.cells:
            cell.replies.give_terminated(key)
    else:
        answer(envelope, None)


def _restart_child(cell: SupervisorCell, supervision: Supervision, envelope: Envelope) -> None:
    key = _known_static(cell, supervision, envelope.message.child)
    _refuse_unless_stopped(cell, supervision, key)
    cell.replies.promise(key, envelope)
    cell.do(supervision.restart(key))


def _delete_child(cell: SupervisorCell, supervision: Supervision, envelope: Envelope) -> None:
    key = _known_static(cell, supervision, envelope.message.child)
    if supervision.members[key].standing is not Standing.RESTARTING:
        _refuse_unless_stopped(cell, supervision, key)
    cell.replies.promise(key, envelope)
    cell.do(supervision.delete(key, cell.now))
    if key not in cell.offspring.cells:
        cell.replies.give_terminated(key)


def _known(cell: SupervisorCell, supervision: Supervision, child: object) -> Key:
    """The key of the child that an id or a ref names.

    Raises:
        ChildNotFoundError: there is none.
    """
    key: Key | None = child if isinstance(child, str) else None
    if isinstance(child, ComponentRef) and cell.offspring.has(child._cell):
        key = key_of(child._cell)
    if key is None or key not in supervision.members:
        raise ChildNotFoundError(
            f"supervisor {cell.path!r} has no child {child!r}; see WhichChildren()"
        )
    return key


def _known_static(cell: SupervisorCell, supervision: Supervision, child: object) -> Key:
    if cell.declared.strategy is Strategy.DYNAMIC:
        raise ChildError(
            f"supervisor {cell.path!r} is dynamic, and keeps no specs of children that have "
            "ended; ask StartChild for a new one"
        )
    return _known(cell, supervision, child)


def _refuse_unless_stopped(cell: SupervisorCell, supervision: Supervision, key: Key) -> None:
    standing = supervision.members[key].standing
    if standing is Standing.STOPPED and not supervision.is_planned(key):
        return
    is_running = standing in (Standing.RUNNING, Standing.STOPPING)
    error = ChildRunningError if is_running else ChildRestartingError
    doing = "about to start" if standing is Standing.STOPPED else standing.value
    raise error(f"child {key!r} of supervisor {cell.path!r} is {doing}; ask TerminateChild before")


def _which(cell: SupervisorCell, supervision: Supervision, envelope: Envelope) -> None:
    infos = []
    for key, member in supervision.members.items():
        child = cell.offspring.cells.get(key)
        restarts = 0
        if child is not None and child._history is not None:
            restarts = len(child.options.budget.recent(child._history.restarts, cell.now))
        is_down = child is None or member.standing is Standing.STOPPED
        infos.append(
            ChildInfo(
                member.spec.id,
                None if is_down else ref_to(child),  # type: ignore[arg-type]  # not down
                member.standing.value,
                0 if child is None else child.incarnation,
                restarts,
                member.spec.is_supervisor,
                member.spec,
            )
        )
    answer(envelope, tuple(infos))


def _count(_: SupervisorCell, supervision: Supervision, envelope: Envelope) -> None:
    members = supervision.members.values()
    supervisors = sum(member.spec.is_supervisor for member in members)
    standings = [member.standing for member in members]
    running = standings.count(Standing.RUNNING) + standings.count(Standing.STOPPING)
    stopped = standings.count(Standing.STOPPED)
    specs = len(standings)
    by_kind = (supervisors, specs - supervisors)
    answer(
        envelope,
        ChildCounts(specs, running, *by_kind, running, specs - running - stopped, stopped),
    )


_ASKED: dict[type, Callable[[SupervisorCell, Supervision, Envelope], None]] = {
    StartChild: _start_child,
    TerminateChild: _terminate_child,
    RestartChild: _restart_child,
    DeleteChild: _delete_child,
    WhichChildren: _which,
    CountChildren: _count,
}
