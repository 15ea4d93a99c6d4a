"""What becomes of a message with which a component faults again and again?

One whose type asks for redelivery would come back for ever. So its faults are counted, in the
entry of the mailbox that it comes back in, and at the last it is set aside.
"""

from __future__ import annotations

import traceback
from _thread import allocate_lock
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kompyct.errors import ArgumentError, ArgumentTypeError, PoisonMessageError
from kompyct.events import MessageSetAside
from kompyct.facts import Report, Text
from kompyct.faults import REPORT_WAIT, FaultContext
from kompyct.messages import NOBODY, Envelope, arrival_at, arriving, port_of
from kompyct.ref import ComponentRef, ref_to
from kompyct.reports import identity

if TYPE_CHECKING:
    from kompyct.cell import Cell

MAX_SET_ASIDE = 1000
"""Messages that a system keeps; with one more the oldest becomes a dead letter."""


@dataclass(frozen=True, slots=True, eq=False)
class PoisonMessage:
    """A message that was set aside.

    Attributes:
        number: by which `resend` and `discard_poison` know it; unique in its system.
        path: of its component.
        ref: of its component.
        message: what was told, the very object.
        faults: at how many it was in hand.
        error: the type of what was raised at the last.
        time: of the last, in seconds on the system's clock.
        port: the name of the port that it came to, if it was an event for one.
    """

    number: int
    path: str
    ref: ComponentRef[Any]
    message: Any
    faults: int
    error: str
    time: float
    _report: Report = field(repr=False)
    port: str | None = None

    @property
    def traceback(self) -> str:
        """The traceback of the last fault, as `FaultContext.traceback`."""
        return self._report(REPORT_WAIT)

    def __reduce__(self) -> tuple[Any, ...]:
        told = (self.number, self.path, self.ref, self.message, self.faults, self.error, self.time)
        return PoisonMessage, (*told, Text(self.traceback), self.port)


class PoisonList:
    """The messages of one system that are set aside. For any thread."""

    def __init__(self) -> None:
        self._lock = allocate_lock()  # protects _kept and _last
        self._kept: dict[int, PoisonMessage] = {}
        self._last = 0  # number given

    def every(self) -> tuple[PoisonMessage, ...]:
        """All of them, the oldest first."""
        with self._lock:
            return tuple(self._kept[number] for number in sorted(self._kept))

    def keep(self, cell: Cell, make: Callable[[int], PoisonMessage]) -> int:
        """Add what `make` makes of a number; returns that."""
        oldest = None
        with self._lock:
            self._last = number = self._last + 1
            self._kept[number] = make(number)
            if len(self._kept) > MAX_SET_ASIDE:
                oldest = self._kept.pop(min(self._kept))
        if oldest is not None:
            why = f"{MAX_SET_ASIDE} messages were set aside after it"
            cell.runtime.undelivered(oldest.ref._cell, [oldest.message], why)
        return number

    def take(self, number: int) -> PoisonMessage:
        """Strike out the message of that number.

        Raises:
            ArgumentTypeError: it is no whole number.
            ArgumentError: there is none of that number.
        """
        if isinstance(number, bool) or not isinstance(number, int):
            raise ArgumentTypeError(f"number is {number!r}; give that of a PoisonMessage")
        with self._lock:
            poison = self._kept.pop(number, None)
        if poison is None:
            raise ArgumentError(
                f"no message is set aside as number {number}; see poison() for those that are"
            )
        return poison

    def resend(self, number: int) -> None:
        """Tell the message of that number to its component, and strike it out.

        Raises:
            ArgumentTypeError, ArgumentError: as `take`.
            ComponentDestroyedError: the component has ended; the message is kept.
            MailboxFullError: it takes no more just now; the message is kept.
        """
        poison = self.take(number)  # first: of two that send it again, one does
        try:
            if not poison.ref.is_alive:
                raise poison.ref._cell.gone()
            if poison.port is None:
                poison.ref.tell(poison.message)
            else:
                poison.ref._cell.send(arriving(poison.message, arrival_at(poison.port)))
        except BaseException:
            with self._lock:
                self._kept[number] = poison
            raise


class _Again:
    """Handles a message that was in hand at `faults` faults: the `action` of its envelope.

    The count is about this entry of the mailbox. An equal message, or the same one told again, has
    its own; and it goes with the entry, when that is handled.
    """

    __slots__ = ("_message", "faults", "wrapped")

    def __init__(self, message: Envelope, faults: int) -> None:
        self.wrapped = message.action
        self._message = message.message
        self.faults = faults

    def __call__(self, component: Any) -> Any:
        if self.wrapped is not None:
            return self.wrapped(component)
        return component.on_receive(self._message)


def faults_of(message: Any) -> int:
    """At how many faults this entry of a mailbox has been in hand, the present one included."""
    action: object = message.action if type(message) is Envelope else None
    return action.faults + 1 if isinstance(action, _Again) else 1


def counted(message: Any, faults: int) -> Envelope:
    """The entry in which `message` comes back after so many faults; an ask is the same one."""
    if type(message) is not Envelope:
        message = Envelope(message, None, NOBODY)
    elif message.done is NOBODY:  # it may be in other mailboxes as well, see `arriving`
        message = Envelope(message.message, message.action, NOBODY)
    envelope: Envelope = message
    action: object = envelope.action
    if isinstance(action, _Again):
        action.faults = faults
    else:
        envelope.action = _Again(envelope, faults)
    return envelope


def set_aside(fault: FaultContext[Any], message: Any, faults: int) -> MessageSetAside:
    """Keep `message`, which was in hand at that fault and does not come back; an ask fails.

    Returns: the event that says so.
    """
    facts = fault._facts
    cell = facts.cell
    exception = facts.exception
    content = message.message if type(message) is Envelope else message
    kind = type(content).__qualname__
    error = type(exception).__qualname__
    number = None
    port = port_of(message) if type(message) is Envelope else None
    if type(message) is Envelope and message.is_asked:
        poisonous = PoisonMessageError(
            f"component {cell.path!r} faulted {faults} times with this {kind} in hand, the last "
            f"time with {error}; see the cause, and mend that before you ask again"
        )
        poisonous.__cause__ = exception
        message.fail(poisonous)
    else:
        told = (
            cell.path,
            ref_to(cell),
            content,
            faults,
            error,
            fault.time,
            _report_of(fault),
            port,
        )
        number = cell.runtime.poison.keep(cell, lambda number: PoisonMessage(number, *told))
    return MessageSetAside(*identity(cell), kind, faults, error, number)


def _report_of(fault: FaultContext[Any]) -> Report:
    """The traceback, without the exception, whose frames would be kept as well."""
    elsewhere = fault._facts.elsewhere
    if elsewhere is None or elsewhere.location is not None:
        try:
            return Text(fault.traceback)
        except BaseException:  # of the exception's own `__str__`
            return Text(f"{type(fault.exception).__qualname__}: <no text>")
    # A process that crashed may still be writing its stack: no time for that here.
    return _OfProcess(elsewhere.report, fault.exception)


class _OfProcess:
    """What a process wrote at its end, or else how it ended; see `FaultContext.traceback`."""

    def __init__(self, report: Report, exception: BaseException) -> None:
        self._report = report
        self._how = "".join(traceback.format_exception(exception))

    def __call__(self, wait: float, *, innermost: bool = False) -> str:
        return self._report(wait, innermost=innermost) or self._how
