"""What stands for an incarnation that lives in another process?

Its hooks have the child run those of the component, and wait; messages are sent on and kept until
they are handled; what the child says is taken up.
"""

from __future__ import annotations

from _thread import LockType
from collections import deque
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kompyct import ending, events, faulting
from kompyct.cell import Cell
from kompyct.codecs import decode, unreadable_reply
from kompyct.component import Component
from kompyct.errors import (
    ComponentFaultError,
    IncarnationEndedError,
    StoreError,
)
from kompyct.facts import Elsewhere, FaultKind, Text
from kompyct.fault_classes import FaultClass
from kompyct.lifecycle import ENDINGS, Phase
from kompyct.mailbox import ClosedBox
from kompyct.messages import Ask, Envelope
from kompyct.outgoing import (
    NOT_PICKLED,
    NOT_UNPICKLED,
    content_of,
    is_plain_ask,
    is_special,
    refuse_unpicklable,
)
from kompyct.overdue import LimitWatch
from kompyct.processes import protocol
from kompyct.processes.board import BEGUN, DONE, ORDERED, PHASE, PHASES, POSITION, TAKEN
from kompyct.processes.child import Child
from kompyct.processes.frames import Frame, pack, raw
from kompyct.processes.protocol import Fault, Making
from kompyct.processes.travel import unpack_exception
from kompyct.reports import identity
from kompyct.requests import Errand, answer
from kompyct.saved import registration_of
from kompyct.waiting import here
from kompyct.watching import is_notice

if TYPE_CHECKING:
    from kompyct.remote import RemoteCell

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
RECEIVE = Phase.RECEIVE

PATIENCE = 3.0
"""Seconds a child has to run `on_kill`, and to close what its component kept, before SIGTERM."""

HURRY = 0.1
"""Seconds a child has to close what its component kept when that is killed brutally."""

SOON = 0.01
"""Seconds after a start until the next standby is made."""

LAST_BREATH = 10.0
"""Seconds at most until the kernel has taken an ending process apart, which its successor waits
for; to free much memory, or to write a core, takes long."""

LOOK = 0.1
"""Seconds between looks of a successor that waits, whether it is to end itself."""

GRACE = 0.5
"""Seconds from SIGTERM to SIGKILL."""


class StandIn(Component[Any]):
    """The incarnation in a child process, as the cell sees it.

    `_sent` holds what the child has not handled, oldest first, and begins with the message of
    number `_handled + 1`. The turn appends, before it sends; the thread that looks after children
    removes, and has stopped when the child is over. So neither needs a lock.
    """

    def __init__(self, cell: RemoteCell, child: Child) -> None:
        self.child = child
        self._cell = cell
        self._backend = cell.backend  # also when its component has ended
        self.patience = cell.patience  # of its end
        self.is_to_end = False  # whether it was told so before the turn knows
        self._sent: deque[Any] = deque()
        self._asked: dict[int, Envelope] = {}
        self._again: dict[int, Any] = {}  # those that were sent one by one, by number
        self._handled = 0
        self._next = 1
        self._incarnation = cell.incarnation
        self._taken = 0  # the last save that was taken up
        self._starting: Ask | None = None  # what is settled when it has started by itself
        self._limits = LimitWatch(cell, child)
        self._at_end = False  # whether a message is waiting that is only for an idle child
        bounded = cell.options.mailbox_limit is not None
        self._window = 1 if bounded else protocol.WINDOW
        child.owner = self

    # -- in the turn ------------------------------------------------------------------------

    def on_start(self) -> None:
        """Have it started, if it does not start by itself."""
        cell = self._cell
        starting, self._starting = self._starting, None
        if starting is None:
            self.have_done(protocol.OBEY, ("start", cell.active_period))
        else:
            self._answered(starting)
        self._limits.start()
        if cell.options.standby:  # when what waits for this start has been done
            cell.backend.later(SOON, lambda: cell.signal(_have_standby))

    def on_stop(self) -> None:
        self.have_done(protocol.OBEY, ("stop", 0))

    def on_kill(self) -> None:
        """Have the component end in order; by force if that takes too long."""
        cell = self._cell
        why = cell.history.ending
        told = ("kill", ENDINGS.index(why))
        if not self.have_done(protocol.OBEY, told, timeout=cell.patience):
            cell.runtime.emit(events.ProcessForced(*identity(cell), cell.patience))
            self.end(0.0)

    def have_done(self, kind: int, value: Any, timeout: float = -1) -> bool:
        """Have the child do something and wait for that; whether it was done in time.

        Raises:
            BaseException: what was raised there; what is known of it is in `cell.elsewhere`.
        """
        (question,) = self.child.ask(kind, value)
        return self._answered(question, timeout) is not None

    def have_made(self, making: Making) -> None:
        """Have the child make the component, and perhaps start it; return when it is made.

        That begins when those before it are gone: they may hold what this one needs.

        Raises: as `have_done`.
        """
        cell = self._cell
        if not cell.options.overlap:
            until = monotonic() + LAST_BREATH
            while not cell.await_crashed(LOOK) and monotonic() < until:
                if self.is_to_end:
                    raise self.child.end_error()
        cell.crashed = ()
        questions = self.child.ask(protocol.MAKE, making, 2 if making.start else 1)
        frame = self._answered(questions[0])
        assert frame is not None  # without limit
        if frame.data:
            self._kompyct_ports = frame.load()
        if frame.flag:
            self._starting = questions[1]

    def _answered(self, question: Ask, timeout: float = -1) -> Frame | None:
        """Wait for the answer; None if it has not come in time. Raises as `have_done`."""
        if not wait(self._cell, question, timeout):
            return None
        if question.error is not None:
            self.note_end()
            raise question.error
        frame: Frame = question.value
        if frame.kind == protocol.DONE_SO:
            return frame
        raise self.note_fault(frame)

    def be_ordered(self) -> None:
        """Have the child take nothing more in hand until it hears why; from any thread."""
        with suppress(ValueError):  # it is gone, and its memory with it
            self.child.board.numbers[ORDERED] += 1

    @property
    def has_room(self) -> bool:
        """Whether the child takes what is to be sent next."""
        child = self.child
        if child.is_over or child.sender.is_full:
            return False
        try:
            waiting = self._next - 1 - child.board.numbers[DONE]
        except ValueError:  # it was discarded meanwhile, in a turn after the one that looks
            return False
        return waiting < (1 if self._at_end else self._window)

    def send_some(self, waiting: int) -> bool:
        """Send the oldest messages, `waiting` of the box at most; False if it takes no more."""
        cell = self._cell
        self._at_end = False
        while waiting or cell.backlog is not None:
            if not self.has_room:
                return False
            chunk = cell.take(waiting)
            waiting = 0  # another turn for what is left: signals come first
            if len(chunk) == 1 and is_plain_ask(chunk[0]):
                self._send_ask(chunk[0])
                continue
            room = self._window - (self._next - 1 - self.child.board.numbers[DONE])
            if len(chunk) > room:
                cell.put_back(chunk[room:])
                del chunk[room:]
            for index, message in enumerate(chunk):
                if type(message) is Envelope and message.done is None and not is_notice(message):
                    return self._send_before(message, chunk, index)
            self._send(chunk)
        return True

    def _send_before(self, last: Envelope, chunk: list[Any], index: int) -> bool:
        """`last` is for when everything before it has been handled: the end after messages."""
        cell = self._cell
        self._send(chunk[:index])
        self._at_end = True
        if not self.has_room:
            cell.put_back(chunk[index:])
            return False
        cell.put_back(chunk[index + 1 :])
        last.deliver(self)
        return True

    def _send_ask(self, ask: Envelope) -> None:
        """As `_send`, of what somebody waits for, and what is mostly alone."""
        number = self._next
        try:
            parts = pack(protocol.ASKED, ask.message, number=number, count=1)
        except Exception as error:  # whatever users' classes raise when they are pickled
            refuse_unpicklable(self._cell, ask, NOT_PICKLED, error)
            return
        self._asked[number] = ask
        self._sent.append(ask)
        self._next = number + 1
        self.child.sender.send(parts)

    def _send(self, messages: list[Any]) -> None:
        if not messages:
            return
        asks = {i: ask for i, ask in enumerate(messages) if type(ask) is Envelope}
        plain = messages
        if asks:
            if any(map(is_notice, asks.values())):
                messages = self._without_unwanted(messages)
            asks = {i: ask for i, ask in enumerate(messages) if is_special(ask)}
            plain = [*map(content_of, messages)]
        if not messages:
            return
        try:
            value = (plain, tuple(asks)) if asks else plain
            count = len(messages)
            parts = pack(protocol.MESSAGES, value, number=self._next, flag=bool(asks), count=count)
        except Exception as error:  # whatever users' classes raise when they are pickled
            if len(messages) == 1:
                refuse_unpicklable(self._cell, messages[0], NOT_PICKLED, error)
            else:  # the others can
                for message in messages:
                    self._send([message])
            return
        for index, ask in asks.items():
            if ask.is_asked:
                self._asked[self._next + index] = ask
        self._sent.extend(messages)
        self._next += len(messages)
        self.child.sender.send(parts)

    def _without_unwanted(self, messages: list[Any]) -> list[Any]:
        """`messages`, without the notices that are not wanted any more."""
        send = self._cell.runtime.watches.send
        return [m for m in messages if not is_notice(m) or send(m.action)]

    # -- what has become of it --------------------------------------------------------------

    def position(self) -> int:
        """See `Cell.position`."""
        with suppress(ValueError):  # the memory has been let go
            return int(self.child.board.numbers[POSITION])
        return self._cell.handled

    def note_fault(self, frame: Frame) -> BaseException:
        """What the child raised; what is known of it is in `cell.elsewhere`."""
        cell = self._cell
        fault: Fault = frame.load()
        exception = unpack_exception(fault.exception)
        in_hand, left = self._recall()
        if frame.kind == protocol.RAISED:  # for whoever creates it: its frames do not travel
            exception.add_note(f"In its process:\n{fault.traceback}")
        cell.note(
            Elsewhere(
                FaultKind(fault.kind),
                Phase(fault.phase),
                FaultClass(fault.fault_class),
                in_hand[0] if in_hand else None,
                left,
                Text(fault.traceback),
                fault.location,
                None,
                False,
            )
        )
        return exception

    def note_end(self) -> None:
        """The child has ended; what is known of that is in `cell.elsewhere`."""
        cell = self._cell
        child = self.child
        phase = PHASES[child.board.numbers[PHASE]]
        in_hand, left = self._recall()
        cell.note(
            Elsewhere(
                self._limits.exceeded or FaultKind.PROCESS_EXIT,
                RECEIVE if phase is None else Phase(phase),
                FaultClass.RECOVERABLE,
                in_hand[0] if in_hand else None,
                left,
                child.crash.report,
                None,
                child.exit,
                phase is None,
            )
        )

    def _recall(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """What was in hand, if something was, and what was not; replies that are lost fail."""
        numbers = self.child.board.numbers
        begun, done = numbers[BEGUN], numbers[DONE]
        self._cell.asking = None  # whatever it asked, it waits no more
        sent, self._sent = self._sent, deque()
        asked, self._asked = self._asked, {}
        first = self._handled + 1
        in_hand: tuple[Any, ...] = ()
        left = []
        for number, message in enumerate(sent, first):
            if number > begun:
                left.append(message)
            elif number > done:
                in_hand = (message,)
        if in_hand and is_notice(in_hand[0]):  # it may not have come to tell that
            self._cell.runtime.watches.taken(in_hand[0].action.number)
        for number, ask in asked.items():
            if number <= done:
                error = ComponentFaultError(
                    f"component {self._cell.path!r} has handled this, and its process ended "
                    "before the reply was there"
                )
                error.__cause__ = self.child.end_error()
                ask.fail(error)
        self._cell.handled = self.position()
        self._handled = self._next - 1
        return in_hand, tuple(left)

    def take_up_saves(self) -> None:
        """Register what was saved since the last time, in the order of the saves."""
        cell = self._cell
        child = self.child
        with child.taking:
            saves = [] if child.is_discarded else child.saves.read(self._taken)
            if not saves:
                return
            self._taken = saves[0].sequence
            before = self._kompyct_registration or cell.recovery
            for save in reversed(saves):
                made = registration_of(save, cell.path, cell.runtime.bound)
                before = made.following(before)
            self._kompyct_registration = before
            stored = cell.stored  # once: the end of the component takes it away
            # With the lock: a fault that finds nothing new finds all of it stored.
            if stored is not None and before is not None:
                with suppress(IncarnationEndedError):
                    stored.save(before, self._incarnation)

    def save_durably(self) -> None:
        """Take up what was saved, and return when it is on the disk.

        Raises:
            StoreError: it is not, or there is nowhere to put it.
        """
        self.take_up_saves()
        cell = self._cell
        registration = self._kompyct_registration
        stored = cell.stored
        if stored is None or registration is None:
            raise StoreError(f"component {cell.path!r} is not stored")
        stored.save(registration, self._incarnation, durably=True)

    # -- its end ----------------------------------------------------------------------------

    @property
    def _kompyct_kept(self) -> Any:
        """The child itself is what the incarnation keeps, but for a pause; see `close_kept`."""
        return None if self._cell.component is self else [self]

    @_kompyct_kept.setter
    def _kompyct_kept(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, value: object
    ) -> None:
        """It keeps nothing else."""

    def __enter__(self) -> StandIn:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the child; return when it is gone."""
        self.end(self.patience)

    def end(self, patience: float) -> None:
        """End the child, by force after `patience` seconds; what it was sent is dead letters."""
        cell = self._cell
        child = self.child
        if child.is_discarded:  # by `on_kill`
            return
        if child.is_ending:  # the next one may be made meanwhile, see `on_start`
            cell.crashed += (child,)
        elif not child.gone.settled():
            if patience and not child.is_over:
                child.control(protocol.LEAVE)
            self._backend.end(child, patience, GRACE)
            wait(cell, child.gone, patience + GRACE + 1.0)
        self.take_up_saves()
        in_hand, left = self._recall()
        if type(cell.box) is not ClosedBox:  # for the next incarnation
            cell.put_back(left)
            left = ()
        for message in (*in_hand, *left):
            ending.refuse(cell, message)
        child.discard()

    def end_error(self) -> BaseException:
        """The exception of the fault that the end of the child is."""
        return self._limits.error() or self.child.end_error()

    # -- on the thread that looks after children --------------------------------------------

    def heard(self, child: Child, frame: Frame) -> None:
        """See `Owner.heard`."""
        kind = frame.kind
        if kind == protocol.ANSWER:
            self._settle(frame)
            self._trim()
        elif kind == protocol.AT_REST:
            self._trim()
        elif kind == protocol.SAVED:
            child.board.numbers[TAKEN] = frame.number  # before the look, see `_SharedSaves`
            self.take_up_saves()
        elif kind == protocol.FAULT:
            self._cell.signal(_fell, self, frame)
        elif kind == protocol.LETTER:
            self._not_understood(frame)
        elif kind == protocol.RESEND:
            self._send_again(frame)
        else:
            answer(self._cell, self, child, frame)

    def may_send(self, child: Child) -> None:
        """See `Owner.may_send`."""
        cell = self._cell
        if cell.parked and self.has_room:
            cell._wake()

    def lost(self, child: Child) -> None:
        """See `Owner.lost`."""
        self._cell.signal(_died, self)

    def _settle(self, frame: Frame) -> None:
        ask = self._asked.pop(frame.number, None)
        if ask is None:
            return
        try:
            data = bytes(frame.data)
            value = unpack_exception(data) if frame.flag else decode(data)
        except Exception as error:  # a class that is not known here
            ask.error = unreadable_reply(error)
        else:
            if frame.flag:
                ask.error = value
            else:
                ask.value = value
        done: Any = ask.done
        if isinstance(done, LockType):
            done.release()
        elif done is not None:
            # It may call what somebody has added to a future: not on this thread.
            self._cell.backend.run(Errand(self._cell, done.release))

    def _trim(self) -> None:
        handled = self.child.board.numbers[DONE]
        sent = self._sent
        while self._handled < handled:
            sent.popleft()
            self._handled += 1
        if self._cell.parked:  # looked at before the call: mostly it is not
            self.may_send(self.child)

    def _send_again(self, frame: Frame) -> None:
        """Send messages one by one: one of them cannot be unpickled in the child."""
        first = frame.number - self._handled - 1
        self._again = {}  # what is told of those before has been heard by now
        for index in range(frame.messages):
            message = self._sent[first + index]
            is_ask = is_special(message)
            content = content_of(message)
            number = frame.number + index
            self._again[number] = message
            try:
                parts = pack(protocol.AGAIN, content, number=number, flag=is_ask)
            except Exception:  # it could be pickled the first time; nothing cannot be unpickled
                parts = raw(protocol.AGAIN, number=number, flag=is_ask)
            self.child.sender.send(parts)

    def _not_understood(self, frame: Frame) -> None:
        """The message of that number cannot be unpickled in the child, which left it out."""
        message = self._again.pop(frame.number)
        error = unpack_exception(bytes(frame.data))
        self._asked.pop(frame.number, None)
        refuse_unpicklable(self._cell, message, NOT_UNPICKLED, error)
        self._trim()


def wait(cell: Cell, question: Ask, timeout: float) -> bool:
    """Wait until `question` is settled; whether it was, in time."""
    runner = here.runner
    if runner is None:
        settled = question.done.acquire(True, timeout)
    else:
        settled = runner.wait(cell, question, timeout)
    if settled:
        question.done.release()  # whoever else waits for it
    return bool(settled)


def _fell(cell: RemoteCell, stand_in: StandIn, frame: Frame) -> None:
    """The component has faulted in its process; in the turn."""
    if cell.component is stand_in:
        exception = stand_in.note_fault(frame)
        faulting.fault(cell, exception, _phase_of(cell))


def _have_standby(cell: RemoteCell) -> None:
    """Have a further child wait to be the next incarnation; in the turn."""
    if cell.component is not None:
        cell.have_standby()


def fell_meanwhile(cell: RemoteCell, stand_in: StandIn, error: BaseException) -> None:
    """The component has faulted, or its process has ended, when it was asked something else."""
    if cell.component is stand_in:
        faulting.fault(cell, error, _phase_of(cell))


def _died(cell: RemoteCell, stand_in: StandIn) -> None:
    """The process of the component has ended unasked; in the turn."""
    if cell.component is stand_in:
        stand_in.note_end()
        faulting.fault(cell, stand_in.end_error(), _phase_of(cell))


def _phase_of(cell: RemoteCell) -> Phase:
    assert cell.elsewhere is not None
    return cell.elsewhere.phase
