"""How are the children of a supervisor started, ended, kept and let go?

Functions of the supervisor's turn. Nothing here waits or decides: what comes of it is told to the
supervisor as `News`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from kompyct import creation, events, signals
from kompyct.clock import SECOND, Alarm
from kompyct.ending import abandon, bury, discard
from kompyct.errors import KompyctError
from kompyct.faulting import fail_asks
from kompyct.faults import Answer
from kompyct.lifecycle import Ending, State, Status
from kompyct.news import Gone, News, Verdict
from kompyct.reports import identity
from kompyct.restart import UNCOUNTED, RestartLimit

if TYPE_CHECKING:
    from kompyct.cell import Cell, Signal
    from kompyct.children import ChildSpec
    from kompyct.component import Component
    from kompyct.options import Options
    from kompyct.strategy import Key
    from kompyct.supervising import SupervisorCell

FOR_EVER = 1e6
"""Seconds that nobody waits for: eleven days. In milliseconds still a C int, as `poll` wants."""

FORCE = SECOND // 2
"""How long a child that was told to end without any hook may take before it is left behind."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How children are to end.

    Attributes:
        why: what their `on_kill` may know.
        brutal: without any hook.
        drain: once they have handled what is waiting.
        shutdown: so that what is stored of them is for the next start.
    """

    why: Ending
    brutal: bool = False
    drain: bool = False
    shutdown: bool = False


class Told(NamedTuple):
    """How a child was told to end; it answers with `ticket` if it is kept."""

    manner: Manner
    keep: bool
    ticket: int


class Overdue(NamedTuple):
    """A child that has used up its time to end in that manner."""

    cell: Cell
    spec: ChildSpec
    manner: Manner


class Closing:
    """Closes what a component kept that was left behind; to be run by the pool."""

    is_limited = False  # see `Cell.is_limited`

    def __init__(self, cell: Cell, kept: Component[Any] | None) -> None:
        self.asleep = False
        self.asking: Any = None
        self.cell = cell
        self.path = cell.path
        self._kept = kept

    def run(self) -> bool:
        """Close it; there is never more."""
        signals.inherit(self.cell, self._kept)
        return False


class Nobody:
    """Stands for the cell of a child that has none."""

    def __init__(self, key: Key) -> None:
        self.key = key


def key_of(cell: Cell | Nobody) -> Key:
    """What its supervisor knows a child by."""
    if isinstance(cell, Nobody):
        return cell.key
    return cell.name if cell.name is not None else cell.id


def _force(cell: Cell) -> int:
    # A process is ended by force, which takes its time.
    return 10 * FORCE if cell.backend.kind == "process" else FORCE


class Offspring:
    """The cells of a supervisor's children, and what is under way with each.

    `cells` has those that run, and those that are down and kept for another incarnation.
    """

    def __init__(self, parent: SupervisorCell, backend: Any) -> None:
        self.cells: dict[Key, Cell] = {}
        self.answers: dict[Key, Verdict] = {}  # how those that faulted are to come back
        self.ended_by_themselves: set[Key] = set()  # those that begin afresh, or not at all
        self.failures: dict[Key, BaseException] = {}  # why those that are going did not start
        self.leaving: set[Key] = set()  # those whose `GONE` is still to come
        self.later: set[Key] = set()  # to be created when the one before is gone
        self._told: dict[Key, Told] = {}  # how those that are to end were told so
        self._tickets = count(1)
        self._parent = parent
        self._backend = backend  # of those whose spec names none
        self._alarms: dict[Key, Alarm] = {}  # of delays, and of children that are ending

    @property
    def kind(self) -> str:
        """Of the backend of those whose spec names none."""
        return str(self._backend.kind)

    def has(self, cell: Cell) -> bool:
        """Whether that is one of them still."""
        return self.cells.get(key_of(cell)) is cell

    # -- starting ---------------------------------------------------------------------------

    def start(self, key: Key, spec: ChildSpec, cause: BaseException | None) -> None:
        """Have a child started: a new one, or one that is kept, which comes back after `cause`."""
        cell = self.cells.get(key)
        if cell is None:
            self.create(key, spec)
        elif key in self.leaving:
            self.later.add(key)
        elif (verdict := self.answers.pop(key, None)) and verdict.answer is not Answer.ESCALATE:
            cell.signal(signals.rebuild, verdict.fault, verdict.call)
        elif key in self.ended_by_themselves:
            self.ended_by_themselves.discard(key)
            cell.signal(signals.begin_afresh)
        else:
            cell.signal(signals.bring_back, cause)

    def create(self, key: Key, spec: ChildSpec) -> None:
        """Have the first incarnation of a new child made and started, in its own turn."""
        parent = self._parent
        registry = parent.runtime.registry
        try:
            cell = self._new_cell(key, spec)
        except KompyctError as error:  # there is no such backend on this platform
            parent.hear(News.FAILED, Nobody(key), error)
            return
        self.cells[key] = cell
        cell.flag.acquire()  # nobody else knows the cell yet
        try:
            if spec.id is not None:
                registry.take_name(cell, cell.path)
            registry.add(cell)
            cell.add_signal((creation.begin, ()))
            cell.backend.wake(cell)
        except (KompyctError, RuntimeError) as error:  # the name is taken; there is no thread
            discard(cell)
            parent.hear(News.FAILED, cell, error)

    def adapt(self, specs: tuple[ChildSpec, ...]) -> None:
        """Let go those that are kept and do not fit any of `specs`, for a new incarnation."""
        by_key = {spec.id: spec for spec in specs}
        for key, cell in tuple(self.cells.items()):
            spec = by_key.get(key) if isinstance(key, str) else None
            if spec is None or not self._fits(cell, spec):
                self.let_go(key, "its supervisor was restarted without it")
            else:
                cell.factory = spec.factory  # type: ignore[assignment]

    def _new_cell(self, key: Key, spec: ChildSpec) -> Cell:
        runtime = self._parent.runtime
        backend = self._backend if spec.backend is None else runtime.backend_of(spec.backend)
        cell = runtime.new_cell(
            spec.id,
            spec.factory,  # type: ignore[arg-type]  # it may say that it is not needed
            backend,
            self._options(spec),
            self._parent,
            key if isinstance(key, int) else None,
        )
        seconds = spec.shutdown_seconds
        if cell.backend.kind == "process" and seconds != 0:
            patience = FOR_EVER if seconds is None else seconds
            cell.patience = patience  # type: ignore[attr-defined]  # it is a RemoteCell
        return cell

    def _options(self, spec: ChildSpec) -> Options:
        limit = self._parent.declared.restart_limit
        # For counting the restarts of a child that has no budget of its own.
        window = RestartLimit(UNCOUNTED, limit.within if limit is not None else 10.0)
        return spec.options(self._parent.runtime.options_of_children(window))

    def _fits(self, cell: Cell, spec: ChildSpec) -> bool:
        """Whether a child that was kept can be what `spec` says."""
        return (
            cell.is_supervisor == spec.is_supervisor
            and (cell.is_supervisor or cell.backend.kind == (spec.backend or self.kind))
            and cell.options == self._options(spec)
        )

    # -- ending -----------------------------------------------------------------------------

    def have_end(self, key: Key, spec: ChildSpec, manner: Manner, *, keep: bool) -> None:
        """Tell a child to end, and see that it does so in time; `keep` it for another one."""
        cell = self.cells.get(key)
        if cell is None:
            self._parent.hear(News.GONE, Nobody(key), Gone())
            return
        if key in self.later:  # it has not been created yet: the one before is still going
            self.later.discard(key)
            return
        seconds = spec.shutdown_seconds
        if seconds == 0:
            manner = replace(manner, brutal=True)
        self.answers.pop(key, None)
        self._told[key] = Told(manner, keep, next(self._tickets))
        try:
            self._tell_to_end(key, cell)
        except RuntimeError:  # there is no thread for it
            self._leave_behind(key, cell, spec, keep=keep)
            return
        if cell.is_supervisor and manner.brutal:
            return  # it does the same to its children, and then it is gone
        if manner.brutal:
            self._set_alarm(key, _force(cell), News.OVERDUE, Overdue(cell, spec, manner))
        elif seconds is not None and not manner.drain:
            time = round(seconds * SECOND)
            self._set_alarm(key, time, News.OVERDUE, Overdue(cell, spec, manner))

    def hurry(self, key: Key, spec: ChildSpec, manner: Manner) -> None:
        """A child that was told to end is to do so in another manner, if that is faster."""
        told = self._told.get(key)
        if told is None or key not in self.cells:
            return
        before = told.manner
        if (manner.brutal and not before.brutal) or (before.drain and not manner.drain):
            shutdown = replace(manner, shutdown=manner.shutdown or before.shutdown)
            self.have_end(key, spec, shutdown, keep=told.keep)

    def is_down(self, key: Key, ticket: int) -> bool:
        """Whether a child that says it is down has been told so by that, and not before."""
        told = self._told.get(key)
        if told is None or told.ticket != ticket:
            return False
        del self._told[key]
        return True

    def _tell_to_end(self, key: Key, cell: Cell) -> None:
        manner, keep, ticket = self._told[key]
        order: Signal
        if keep:
            order = signals.suspend, (manner.why, manner.brutal, ticket)
        else:
            self.leaving.add(key)
            drain = manner.drain and not manner.brutal
            order = signals.kill, (None, manner.brutal, drain, manner.shutdown, manner.why)
        if manner.brutal:  # ahead of a gentler one, which then finds nothing left to be done
            cell.add_signal(order, first=True)
        cell.signal(order[0], *order[1])

    def is_overdue(self, key: Key, overdue: Overdue) -> None:
        """It has used up its time: have it end without a hook; or go on without it."""
        cell, spec, manner = overdue
        if self.cells.get(key) is not cell or key not in self._told:
            return
        told = self._told[key]
        if manner.brutal:
            self._leave_behind(key, cell, spec, keep=told.keep)
            return
        manner = replace(manner, brutal=True)
        self._told[key] = told._replace(manner=manner)
        self._tell_to_end(key, cell)
        if not cell.is_supervisor:
            self._set_alarm(key, _force(cell), News.OVERDUE, Overdue(cell, spec, manner))

    def _leave_behind(self, key: Key, cell: Cell, spec: ChildSpec, *, keep: bool) -> None:
        """Go on without a child that does not end; what it still does is ignored."""
        runtime = self._parent.runtime
        runtime.emit(events.Abandoned(*identity(cell)))
        runtime.count_abandoned()
        stored, cell.stored = cell.stored, None
        remains = abandon(cell)
        del self.cells[key]
        self.leaving.discard(key)
        told = self._told.pop(key, None)
        if not keep:
            if stored is not None:
                stored.end(Status.UNFINISHED if told and told.manner.shutdown else Status.RETIRED)
            bury(cell, remains.waiting, str(cell.reason))
            runtime.run_job(Closing(cell, remains.kept))
            self._parent.hear(News.GONE, Nobody(key), Gone())
            return
        heir = self._new_cell(key, spec)  # what it had saved is for another one
        heir.state = State.FAULTY
        heir.history.active = remains.active
        heir.history.restarts = cell.history.restarts
        heir.recovery = remains.recovery
        heir.incarnation = cell.incarnation
        heir.handled = cell.handled
        heir.order = cell.order
        heir.stored = stored
        if stored is not None:
            stored.fence(cell.incarnation + 1)
            if runtime.writer is not None:
                runtime.writer.components[heir.path] = stored
        with suppress(KompyctError):
            if heir.name is not None:
                runtime.registry.take_name(heir, heir.path)
        runtime.registry.add(heir)
        heir.put_back(fail_asks(heir, remains.waiting))
        heir.signal(signals.inherit, remains.kept)
        self.cells[key] = heir
        ticket = next(self._tickets)
        self._told[key] = Told(Manner(Ending.SIBLING), True, ticket)
        self._parent.hear(News.KEPT, heir, ticket)

    def let_go(self, key: Key, reason: str, manner: Manner | None = None) -> None:
        """End what is kept of a child that is down."""
        cell = self.cells.get(key)
        if cell is None or key in self.leaving:
            return
        self.silence(key)
        self.leaving.add(key)
        verdict = self.answers.pop(key, None)
        error = None
        if verdict is not None:
            error = type(verdict.fault.exception).__qualname__
            reason = f"{error}, and {reason}"
        elif key in self.ended_by_themselves:
            self.ended_by_themselves.discard(key)
            reason = "ended by itself"
        shutdown = manner is not None and manner.shutdown
        if cell.is_supervisor:
            cell.end_with(reason, error)  # type: ignore[attr-defined]  # it is a SupervisorCell
            cell.signal(signals.kill, None, True, False, shutdown, Ending.PARENT)
        else:
            left_as = Status.CLEAN if shutdown else Status.RETIRED
            cell.signal(signals.finish, reason, error, left_as)

    # -- time -------------------------------------------------------------------------------

    def wait(self, key: Key, delay: int, ticket: int) -> None:
        """Have it told when the delay (nanoseconds) of a restart is over."""
        self._set_alarm(key, delay, News.DUE, ticket)
        cell = self.cells.get(key)
        if cell is not None:
            self._parent.runtime.emit(events.RestartDelayed(*identity(cell), delay / SECOND))

    def is_gone(self, key: Key) -> None:
        """Forget all of a child that has ended for good."""
        self.silence(key)
        self.leaving.discard(key)
        self.ended_by_themselves.discard(key)
        self.cells.pop(key, None)
        self.answers.pop(key, None)
        self._told.pop(key, None)

    def silence(self, key: Key) -> None:
        """Let no time run for it any more."""
        alarm = self._alarms.pop(key, None)
        if alarm is not None:
            alarm.silence()

    def _set_alarm(self, key: Key, delay: int, news: News, detail: Any) -> None:
        self.silence(key)
        clock = self._parent.runtime.clock
        alarm = Alarm(clock.now() + delay, lambda: self._parent.hear(news, key, detail))
        self._alarms[key] = alarm
        with suppress(RuntimeError):  # there is no thread for the clock
            clock.set(alarm)
