"""What does a supervisor do when it hears of a child?

One function for each kind of `News`, in the supervisor's turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kompyct import events
from kompyct.children import Restart, decided_by
from kompyct.errors import ChildEndedError, ChildError, ComponentCreateError
from kompyct.faults import Answer, FaultContext
from kompyct.lifecycle import State
from kompyct.news import Gone, News, Verdict
from kompyct.offspring import Nobody, Overdue, key_of
from kompyct.ref import ref_to
from kompyct.reports import identity
from kompyct.signals import end
from kompyct.strategy import Exit, Key, Standing

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.children import ChildSpec
    from kompyct.supervising import SupervisorCell


def _started(parent: SupervisorCell, cell: Cell, _: object) -> None:
    supervision = parent.supervision
    if parent.offspring.has(cell) and supervision is not None:
        key = key_of(cell)
        if not _is_stopping(parent, key):
            parent.replies.give(key, lambda: ref_to(cell))
        parent.do(supervision.started(key, parent.now))


def _not_needed(parent: SupervisorCell, cell: Cell, _: object) -> None:
    if not parent.offspring.has(cell):
        return
    key = key_of(cell)
    if cell.state is State.DESTROYED:
        del parent.offspring.cells[key]
    parent.replies.give(key, lambda: None)
    if parent.supervision is not None:
        parent.do(parent.supervision.not_needed(key, parent.now))


def _failed(
    parent: SupervisorCell, cell: Cell | Nobody, detail: BaseException | FaultContext[Any]
) -> None:
    key = key_of(cell)
    if not isinstance(cell, Nobody) and not parent.offspring.has(cell):
        return
    if isinstance(detail, FaultContext) and not isinstance(
        cell, Nobody
    ):  # its `on_start` raised: first it has to end
        history = cell._history
        if history is None or history.fault is not detail or _is_stopping(parent, key):
            return  # it was told to go down meanwhile
        parent.offspring.failures[key] = detail.exception
        parent.offspring.leaving.add(key)
        name = type(detail.exception).__qualname__
        cell.signal(end, detail, f"{name} in its first start")
        return
    assert not isinstance(detail, FaultContext)
    parent.offspring.is_gone(key)
    _did_not_start(parent, key, detail)


def _did_not_start(parent: SupervisorCell, key: Key, error: BaseException) -> None:
    parent.note_cause(error)
    parent.failed_child = key
    refused = ComponentCreateError(
        f"child {key!r} of supervisor {parent.path!r} could not be started: "
        f"{type(error).__qualname__}; see the cause"
    )
    refused.__cause__ = error
    parent.replies.refuse(key, refused)
    supervision = parent.supervision
    if supervision is not None:
        if _is_stopping(parent, key):
            parent.do(supervision.stopped(key, parent.now))
        else:
            parent.do(supervision.failed(key, parent.now))
    parent.conclude()


def _left(parent: SupervisorCell, cell: Cell, _: object) -> None:
    supervision = parent.supervision
    key = key_of(cell)
    if not parent.offspring.has(cell) or supervision is None or _is_stopping(parent, key):
        return  # what it was told meanwhile comes next
    parent.offspring.ended_by_themselves.add(key)
    ended = f"child {key!r} of supervisor {parent.path!r} has ended by itself"
    parent.note_cause(ChildEndedError(ended))
    parent.do(supervision.went_down(key, Exit.NORMAL, parent.now))


def _kept(parent: SupervisorCell, cell: Cell, ticket: int) -> None:
    key = key_of(cell)
    if not parent.offspring.has(cell) or not parent.offspring.is_down(key, ticket):
        return
    parent.offspring.silence(key)
    parent.offspring.ended_by_themselves.discard(key)
    parent.offspring.answers.pop(key, None)
    supervision = parent.supervision
    if supervision is not None:
        parent.do(supervision.stopped(key, parent.now))
        if key not in supervision.members:
            parent.replies.refuse(key, _ended_early(parent, key))


def _ended_early(parent: SupervisorCell, key: Key) -> ChildError:
    return ChildError(
        f"child {key!r} of supervisor {parent.path!r} was ended before it had started"
    )


def _gone(parent: SupervisorCell, cell: Cell | Nobody, detail: Gone) -> None:
    key = key_of(cell)
    offspring = parent.offspring
    if not isinstance(cell, Nobody) and not offspring.has(cell):
        return
    offspring.is_gone(key)
    failure = offspring.failures.pop(key, None) or detail.cause
    supervision = parent.supervision
    if failure is not None:
        _did_not_start(parent, key, failure)
        return
    is_awaited = key in offspring.later
    offspring.later.discard(key)
    member = None if supervision is None else supervision.members.get(key)
    if is_awaited and member is not None:
        parent.replies.give_terminated(key)
        offspring.create(key, member.spec)
        return
    parent.replies.refuse(key, _ended_early(parent, key))
    if supervision is None:
        parent.conclude()
    elif detail.killed or _is_stopping(parent, key):
        parent.do(supervision.stopped(key, parent.now))
    else:
        parent.do(supervision.went_down(key, Exit.FINAL, parent.now))


def _decided(parent: SupervisorCell, cell: Cell, verdict: Verdict) -> None:
    key = key_of(cell)
    context = verdict.fault
    history = cell._history
    supervision = parent.supervision
    if (
        not parent.offspring.has(cell)
        or supervision is None
        or history is None
        or history.fault is not context
        or key not in supervision.members
        or _is_stopping(parent, key)
    ):
        return  # it was ended meanwhile, or is told to go down with others
    exception = context.exception
    parent.note_cause(exception)
    parent.offspring.answers[key] = verdict
    answer = _answer(parent, cell, supervision.members[key].spec, verdict)
    if answer == "escalate":
        parent.do(supervision.escalate(key, parent.now))
    elif answer == "end":
        parent.do(supervision.went_down(key, Exit.FINAL, parent.now))
    else:
        # As in OTP, where a supervisor that gives up exits with `shutdown`, like one that was
        # asked to: it comes back if it is permanent.
        gave_up = getattr(cell, "gave_up_with", None) is exception
        exit = Exit.NORMAL if gave_up else Exit.FAULT
        parent.do(supervision.went_down(key, exit, parent.now))


def _answer(parent: SupervisorCell, cell: Cell, spec: ChildSpec, verdict: Verdict) -> str | None:
    """What is to be done: "restart", "end" or "escalate"; None: as its spec has it."""
    exception = verdict.fault.exception
    emit = parent.runtime.emit
    if verdict.answer is not None:
        if verdict.answer is Answer.RESTART and spec.restart is Restart.TEMPORARY:
            emit(events.RestartRefused(*identity(cell), "it is temporary"))
        return verdict.answer.value
    answer = decided_by(spec.policy or {}, exception)
    answer = answer or decided_by(parent.declared.policy, exception)
    if answer == "escalate":
        emit(events.Escalated(*identity(cell), type(exception).__qualname__))
    elif answer != "end" and not _charge(parent, cell, exception):
        return "end"
    return answer


def _charge(parent: SupervisorCell, cell: Cell, exception: BaseException) -> bool:
    """Charge a restart to the child's own budget; whether that allows it."""
    budget = cell.options.budget
    charged = budget.charge(cell.history.restarts, parent.now)
    if charged is not None:
        cell.history.restarts = charged
        return True
    reached = (type(exception).__qualname__, budget.max_restarts, budget.within)
    parent.runtime.emit(events.RestartLimitReached(*identity(cell), *reached))
    return False


def _due(parent: SupervisorCell, key: Key, ticket: int) -> None:
    supervision = parent.supervision
    member = None if supervision is None else supervision.members.get(key)
    if supervision is not None and member is not None and member.ticket == ticket:
        parent.offspring.silence(key)
        parent.do(supervision.due(key, ticket, parent.now))


def _overdue(parent: SupervisorCell, key: Key, overdue: Overdue) -> None:
    if _is_stopping(parent, key):
        parent.offspring.is_overdue(key, overdue)


def _is_stopping(parent: SupervisorCell, key: Key) -> bool:
    supervision = parent.supervision
    member = None if supervision is None else supervision.members.get(key)
    return member is not None and member.standing is Standing.STOPPING


TAKE_UP: dict[News, Callable[[SupervisorCell, Any, Any], None]] = {
    News.STARTED: _started,
    News.NOT_NEEDED: _not_needed,
    News.FAILED: _failed,
    News.LEFT: _left,
    News.KEPT: _kept,
    News.GONE: _gone,
    News.DECIDED: _decided,
    News.DUE: _due,
    News.OVERDUE: _overdue,
}
