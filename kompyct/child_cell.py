"""How does a cell run when its mailbox is in another process?

In a child: the cell of its one component. What is to be handled has been sent by the parent, is
counted on the board as it is taken in hand and handled, and is answered one by one.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from kompyct import ending, faulting, signals
from kompyct.cell import Cell
from kompyct.codecs import encode
from kompyct.component import Component
from kompyct.errors import UnpicklableError
from kompyct.facts import FaultKind
from kompyct.far import FarBox, Parent
from kompyct.lifecycle import ENDINGS, Ending, State
from kompyct.limited import Handling
from kompyct.messages import Arrival, Envelope, arrival_at, arriving, new_ask
from kompyct.processes import protocol
from kompyct.processes.board import (
    ANNOUNCED,
    BEGUN,
    CONTROL,
    DONE,
    NUMBER_OF,
    ORDERED,
    PHASE,
    POSITION,
    SINCE,
    TAKEN,
)
from kompyct.processes.frames import Frame, pack, raw
from kompyct.processes.protocol import ASKED, WINDOW, Assignment, Making, PortEvent
from kompyct.processes.travel import pack_exception
from kompyct.registration import OUTSIDE, Registration
from kompyct.saved import Found, facts_of
from kompyct.stored import prepare
from kompyct.timers import Timer

if TYPE_CHECKING:
    from kompyct.child_runtime import ChildRuntime
    from kompyct.inside import Loop

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
ACTIVE = State.ACTIVE
EXCEPTION = FaultKind.EXCEPTION
IN_RECEIVE = NUMBER_OF["receive"]
IN_TIMER = NUMBER_OF["timer"]
IN_PORT = NUMBER_OF["port"]


class ChildCell(Cell):
    """The cell of the component in its own process.

    `incoming` is its mailbox; `box`, to which refs append, leads to the parent. Only the loop's
    thread runs it, so the flag plays no part.
    """

    __slots__ = (
        "_handling", "_kind", "_path", "again", "incoming", "is_limited", "loop", "missing",
        "ordered", "pausing",
    )  # fmt: skip

    def __init__(self, runtime: ChildRuntime, assignment: Assignment) -> None:
        loop = runtime.clock
        self._path = assignment.path
        Cell.__init__(
            self,
            runtime,  # type: ignore[arg-type]  # as much of one as a cell needs
            assignment.id,
            assignment.name,
            None,
            loop,
            runtime.options,
        )
        self.loop = loop
        self.incoming: deque[Any] = deque()
        self.again: deque[Any] = deque()  # what comes one by one, and goes before `incoming`
        self.ordered = 0  # the board's ORDERED when the last hook was run
        self.pausing = False  # whether it has itself asked to stop, or to end
        self.missing = 0  # how many of those are still to be handled
        self.is_limited = runtime.options.has_limits
        self._handling: Handling | None = None  # what is in hand, if there are limits
        self._kind = EXCEPTION  # of a fault
        self.box = FarBox(runtime.parent, self.id, self.path)
        self.stored = _SharedSaves(loop, self.path, has_store=assignment.has_store)  # type: ignore[assignment]

    @property
    def path(self) -> str:
        """Where the component stands in its system; those above it are not in this process."""
        return self._path

    def begin(self, making: Making, factory: Callable[[], Component[Any]]) -> None:
        """Make the component."""
        self.incarnation = making.incarnation
        self.active_period = making.active_period
        self.handled = making.position
        self.loop.board.numbers[POSITION] = self.handled
        self.component = self.make(factory)

    def obey(self, hook: str, period: int) -> None:
        """Run a hook; the parent is told when that is done, or hears of the fault.

        `period` is the active period of a start, and the number of the `Ending` of an end.
        """
        numbers = self.loop.board.numbers
        numbers[PHASE] = NUMBER_OF[hook]
        self.ordered = numbers[ORDERED]
        self.pausing = False
        done: Future[None] = Future()
        done.add_done_callback(self._tell_done)
        if hook == "start":
            self.active_period = period - 1
            signals.start(self, done)
        elif hook == "stop":
            signals.stop(self, done)
        else:
            why = ENDINGS[period] or Ending.ASKED
            signals.kill(self, done, False, False, False, why)
        numbers[PHASE] = 0

    def leave(self) -> None:
        """End without a hook, once what was kept is closed."""
        component, self.component = self.component, None
        self.end_period()
        ending.close_kept(self, component, None, self._be_over)

    def register(self, stored_as: str | bytes, data: bytes | None, saved_at: int) -> None:
        """Register what was registered from outside."""
        found = Found(stored_as, self.path, self.runtime.bound)
        registration = Registration(found, data, saved_at, 0, OUTSIDE)
        registration.stored_as = stored_as
        faulting.register(self, registration)

    def take_messages(self, frame: Frame) -> None:
        """Put what the parent has sent into the mailbox."""
        try:
            value = frame.load()
        except BaseException:  # a class that is not known here, or one that raises
            self.incoming.append(_Unreadable(frame.number, frame.messages))
            return
        if frame.kind == ASKED:
            self.incoming.append(self._envelope(value, frame.number))
            return
        if not frame.flag:
            self.incoming.extend(value)
            return
        messages, special = value
        for index in special:
            messages[index] = self._envelope(messages[index], frame.number + index)
        self.incoming.extend(messages)

    def take_again(self, frame: Frame) -> None:
        """Take one of the messages that could not be unpickled together."""
        try:
            message = frame.load()
        except BaseException as error:
            self.again.append(_Letter(frame.number, error))
            return
        self.again.append(self._envelope(message, frame.number) if frame.flag else message)

    def _envelope(self, content: Any, number: int) -> Envelope:
        """What an envelope of the parent's is here."""
        if type(content) is PortEvent:
            return arriving(content.event, self._arrival_at(content.port))
        ask = Envelope(content)
        ask.done = _Answer(self, ask, number)
        return ask

    def _arrival_at(self, port: str) -> Arrival:
        """See `arrival_at`; and the parent sees on the board that an event is in hand."""
        numbers = self.loop.board.numbers
        arrive = arrival_at(port)

        def arrive_here(event: Any, component: Any) -> None:
            numbers[PHASE] = IN_PORT
            arrive(event, component)

        arrive_here.__dict__.update(arrive.__dict__)  # it is at the same port
        return arrive_here

    @property
    def has_some(self) -> bool:
        """Whether there is something to be handled now."""
        if self.pausing or self.loop.board.numbers[ORDERED] != self.ordered:
            return False
        return bool(self.again if self.missing else self.incoming)

    def handle_some(self) -> None:
        """Handle what has come, until there is control to be looked at, or a timer is due."""
        loop = self.loop
        numbers = loop.board.numbers
        incoming = self.incoming
        heard = loop.heard
        begun = numbers[BEGUN]
        reported = begun
        component = self.component
        if self.missing:
            incoming = self.again
        while incoming:
            message = incoming.popleft()
            kind = type(message)
            if kind is _Unreadable:
                self.missing = message.count
                loop.parent.send(raw(protocol.RESEND, number=message.number, count=message.count))
                return
            if incoming is self.again:
                self.missing -= 1
            is_tick = kind is Envelope and type(message.message) is Timer
            if is_tick:
                numbers[PHASE] = IN_TIMER
            else:
                begun += 1
                numbers[PHASE] = IN_RECEIVE
                numbers[BEGUN] = begun
            self.handled += 1
            numbers[POSITION] = self.handled
            try:
                if self.is_limited and kind is not _Letter:
                    self._handle_limited(message)
                elif kind is Envelope:
                    message.deliver(component)
                elif kind is _Letter:
                    message.tell(loop.parent)
                else:
                    component.on_receive(message)  # type: ignore[union-attr]
            except BaseException as exception:
                faulting.raised(self, exception, message, ())
                self._kind = EXCEPTION
                if self.state is not ACTIVE:
                    return
            if not is_tick:
                numbers[DONE] = begun
            numbers[PHASE] = 0
            if self.control or self.pausing or numbers[CONTROL] != heard:
                break
            if numbers[ORDERED] != self.ordered:
                break
            if loop.due is not None and loop.due <= loop.now():
                break
            if incoming is self.again and not self.missing:
                break
            if begun - reported >= REPORT:
                reported = begun
                loop.parent.send(raw(protocol.AT_REST))

    def _handle_limited(self, message: Any) -> None:
        """Handle one message, watched. What cannot be interrupted, the parent ends."""
        numbers = self.loop.board.numbers
        self._handling = handling = Handling(
            self.options, self.path, self.component, message, (), None
        )
        numbers[SINCE] = self.loop.now()
        try:
            if type(message) is Envelope:
                handling.run(message.deliver, self.component)
            else:
                handling.run(self.component.on_receive, message)  # type: ignore[union-attr]
        except BaseException:
            self._kind = handling.kind
            raise
        finally:
            numbers[SINCE] = 0
            self._handling = None

    def progress(self) -> None:
        """See `Component.progress`."""
        if self._handling is not None:
            self._handling.begin_anew()
            self.loop.board.numbers[SINCE] = self.loop.now()

    @property
    def kind_of_fault(self) -> FaultKind:
        """See `Cell.kind_of_fault`."""
        return self._kind

    # -- what a cell does with its mailbox --------------------------------------------------

    def send(self, message: Any) -> None:
        """Take in a tick of a timer; on the loop's thread."""
        self.incoming.append(message)

    def take_all(self) -> list[Any]:
        """Nothing: the parent has what was not taken in hand."""
        return []

    def types(self, known: int) -> tuple[tuple[type, ...], int]:
        """None: the parent looks at what is left."""
        return (), 0

    def put_back(self, messages: Sequence[Any]) -> None:
        """Nothing: the parent sends it again."""

    def waiting(self) -> int:
        """How much has come and was not handled yet."""
        return len(self.incoming)

    def prepare(self, registration: Registration) -> None:
        """See `Cell.prepare`; its function is called in another process in any case.

        Raises:
            SnapshotError: as `Cell.prepare`.
        """
        if registration.stored_as is None:
            prepare(registration)

    def request_stop(self, incarnation: Component[Any]) -> None:
        """See `Cell.request_stop`; nothing more is taken in hand until the order is back."""
        self.pausing = True
        self.loop.parent.send(pack(protocol.REQUEST, ("stop", False)))

    def request_kill(self, incarnation: Component[Any], *, after_messages: bool) -> None:
        """See `Cell.request_kill`; unless it is for later, as `request_stop`."""
        self.pausing = self.pausing or not after_messages
        self.loop.parent.send(pack(protocol.REQUEST, ("kill", after_messages)))

    def _wake(self) -> None:
        self.loop.wake(self)

    def _tell_done(self, done: Future[None]) -> None:
        if done.exception() is None:
            self.loop.parent.send(raw(protocol.DONE_SO))

    def _be_over(self) -> None:
        self.loop.over = True


REPORT = WINDOW // 4
"""Messages after which the parent is told, so that it can send more."""


class _Answer:
    """The `done` of an ask that the parent has sent."""

    __slots__ = ("_cell", "_envelope", "_number")

    def __init__(self, cell: ChildCell, envelope: Envelope, number: int) -> None:
        self._cell = cell
        self._envelope = envelope
        self._number = number

    def release(self) -> None:
        """Send the reply. What has faulted, or was not taken in hand, the parent settles."""
        cell = self._cell
        numbers = cell.loop.board.numbers
        if cell.state is not ACTIVE or numbers[BEGUN] != self._number:
            return
        envelope = self._envelope
        error = envelope.error
        data = b""
        if error is None:
            try:
                data = encode(envelope.value)
            except Exception as cause:
                error = UnpicklableError(
                    f"the reply of component {cell.path!r}, a "
                    f"{type(envelope.value).__qualname__}, cannot be pickled; send plain data"
                )
                error.__cause__ = cause
        if error is not None:
            data = pack_exception(error)
        # First this: whoever gets the reply may rely on its being handled.
        numbers[DONE] = self._number
        cell.loop.note_told()
        flag = error is not None
        cell.loop.parent.send(raw(protocol.ANSWER, data, number=self._number, flag=flag))


class _Unreadable:
    """`count` messages from `number` on, which cannot be unpickled together."""

    def __init__(self, number: int, count: int) -> None:
        self.number = number
        self.count = count


class _Letter:
    """A message that cannot be unpickled in this process."""

    def __init__(self, number: int, error: BaseException) -> None:
        self._number = number
        self._data = pack_exception(error)

    def tell(self, parent: Parent) -> None:
        """Tell the parent, in the place of handling it."""
        parent.send(raw(protocol.LETTER, self._data, number=self._number))


class _SharedSaves:
    """What `Cell.stored` is in a child: saves go into shared memory, at once."""

    active = False

    def __init__(self, loop: Loop, path: str, *, has_store: bool) -> None:
        self._loop = loop
        self._lock = allocate_lock()  # protects _sequence, _last and the order of writing
        self._sequence = 0
        self._last: bytes | None = None  # the data of the last save
        self.path = path
        self.has_store = has_store

    def save(self, registration: Registration, incarnation: int, *, durably: bool = False) -> None:
        """See `Stored.save`.

        Raises:
            OSError: there is no memory for it.
            StoreError: it is not durable; it stays to be stored, and will be tried again.
        """
        loop = self._loop
        numbers = loop.board.numbers
        registration.older = ()  # the parent has them
        with self._lock:
            self._sequence += 1
            sequence = self._sequence
            data = registration.data
            repeats = data is not None and data == self._last
            loop.saves.write(sequence, facts_of(registration), data, repeats=repeats)
            self._last = data
            announce = self.has_store and numbers[TAKEN] >= numbers[ANNOUNCED]
            if announce:
                numbers[ANNOUNCED] = sequence
        if durably:
            self._make_durable()
        elif announce:
            loop.parent.send(raw(protocol.SAVED, number=sequence))

    def fence(self, incarnation: int) -> None:
        """Nothing: the parent does."""

    def touch(self, *, durably: bool = False) -> None:
        """Nothing: the parent does."""

    def end(self, status: object) -> None:
        """Nothing: the parent does."""

    def _make_durable(self) -> None:
        question = new_ask(None)
        self._loop.parent.ask(lambda number: raw(protocol.DURABLE, number=number), question)
        self._loop.parent.answer(question)
