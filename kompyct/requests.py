"""What does a component in another process want of its system, and how is that done here?"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from kompyct import signals
from kompyct.codecs import decode, encode
from kompyct.errors import KompyctError, MailboxFullError, UnpicklableError
from kompyct.events import Event
from kompyct.lost import LostCell
from kompyct.messages import Envelope
from kompyct.processes import protocol
from kompyct.processes.child import Child
from kompyct.processes.frames import Frame, raw
from kompyct.processes.travel import pack_exception
from kompyct.routes import choose
from kompyct.triggering import deliver
from kompyct.waiting import enter

if TYPE_CHECKING:
    from kompyct.ref import ComponentRef
    from kompyct.remote import RemoteCell
    from kompyct.stand_in import StandIn

CALLS = frozenset(
    (
        "connect", "create", "disconnect", "discard_poison", "ended", "find", "flush", "kill",
        "poison", "recover", "register", "resend", "shutdown", "start", "stop", "tree",
        "unregister", "whereis",
    )
)  # fmt: skip
"""The methods of the system that a component in another process may call."""

OF_A_GROUP = frozenset(("join", "leave", "members"))
"""Those of a group; and of `Watches`, for the component itself, the next."""

OF_WATCHES = frozenset(("unwatch", "watch"))


UNREADABLE: Final = "a message that cannot be unpickled"
"""Stands for it where dead letters are shown."""


class Errand:
    """Something short to be run by the pool, in the name of `cell`."""

    is_limited = False  # see `Cell.is_limited`

    def __init__(self, cell: RemoteCell, call: Callable[[], object]) -> None:
        self.asleep = False
        self.asking: Any = None
        self.cell = cell
        self.path = cell.path
        self._call = call

    def run(self) -> bool:
        """Call it; there is never more."""
        self._call()
        return False


def answer(cell: RemoteCell, stand_in: StandIn, child: Child, frame: Frame) -> None:
    """Do what `frame` wants; on the thread that looks after children, so nothing long."""
    kind = frame.kind
    if kind == protocol.TELL:
        _tell(cell, frame)
    elif kind == protocol.ASK:
        _ask(cell, child, frame)
    elif kind == protocol.ROUTE:
        _route(cell, frame)
    elif kind == protocol.TAKEN:
        cell.runtime.watches.taken(frame.number)
    elif kind == protocol.TRIGGER:
        _trigger(cell, frame)
    elif kind == protocol.GAVE_UP:
        leave(cell, frame.number)
    elif kind == protocol.CALL:
        cell.backend.run(Errand(cell, lambda: _call(cell, child, frame)))
    elif kind == protocol.DURABLE:
        cell.backend.run(Errand(cell, lambda: _save(stand_in, child, frame.number)))
    elif kind == protocol.REQUEST:
        name, after_messages = frame.load()
        if name == "stop":
            cell.signal(signals.stop_self, stand_in)
        else:
            cell.signal(signals.kill_self, stand_in, after_messages)
    elif kind in (protocol.EVENT, protocol.LOG):
        told = frame.load()
        if isinstance(told, Event | logging.LogRecord):
            cell.runtime.emit(told)


def leave(cell: RemoteCell, number: int) -> None:
    """The component waits no more for the reply to its ask of that number, if it still does."""
    asking = cell.asking
    if asking is not None and getattr(asking[1].done, "number", None) == number:
        cell.asking = None


def _tell(cell: RemoteCell, frame: Frame) -> None:
    number = frame.number
    try:
        path, message = frame.load()
    except Exception as error:  # a class that is not known here
        target = cell.runtime.ref_of(number, f"#{number}")
        why = f"it cannot be unpickled in the system's process ({type(error).__name__})"
        cell.runtime.undelivered(target._cell, [UNREADABLE], why)
        return
    _give(cell, cell.runtime.ref_of(number, path), message)


def _route(cell: RemoteCell, frame: Frame) -> None:
    groups = cell.runtime.groups
    try:
        name, choice, message = frame.load()
    except Exception as error:  # as above; nobody knows which group was meant
        why = f"it cannot be unpickled in the system's process ({type(error).__name__})"
        unknown: Any = LostCell(cell.runtime, "group:?", 0)
        cell.runtime.undelivered(unknown, [UNREADABLE], why)
        return
    group = groups.get(name)
    chosen = choose(group, choice)
    if not chosen:
        group.tell_chosen(choice, message)
    for target in chosen:
        _give(cell, target, message)


def _give(cell: RemoteCell, target: ComponentRef[Any], message: Any) -> None:
    try:
        target.tell(message)
    except MailboxFullError:  # the sender cannot be told: it has long gone on
        cell.runtime.undelivered(target._cell, [message], "its mailbox is full")


def _trigger(cell: RemoteCell, frame: Frame) -> None:
    try:
        name, event = frame.load()
    except Exception as error:  # a class that is not known here
        why = f"it cannot be unpickled in the system's process ({type(error).__name__})"
        cell.runtime.undelivered(cell, [UNREADABLE], why)
        return
    outlet = cell.runtime.outlet(cell, name)
    deliver(event, outlet.targets or outlet.renew())


def _ask(cell: RemoteCell, child: Child, frame: Frame) -> None:
    try:
        number, path, request = frame.load()
        target = cell.runtime.ref_of(number, path)._cell
        envelope = Envelope(request)
        envelope.done = _Back(envelope, cell, child, frame.number, blocks=bool(frame.flag))
        if frame.flag:  # the component waits for the reply: there may be a circle
            enter(cell, target, envelope)
        target.send_ask(envelope)
    except BaseException as error:  # users' classes that cannot be unpickled, a full mailbox
        leave(cell, frame.number)
        _reply(child, frame.number, None, error)


class _Back:
    """The `done` of an ask that a component in another process has made."""

    __slots__ = ("_blocks", "_cell", "_child", "_envelope", "number")

    def __init__(
        self, envelope: Envelope, cell: RemoteCell, child: Child, number: int, *, blocks: bool
    ) -> None:
        self._envelope = envelope
        self._cell = cell
        self._child = child
        self.number = number
        self._blocks = blocks

    def release(self) -> None:
        """Send the reply."""
        if self._blocks:
            leave(self._cell, self.number)
        envelope = self._envelope
        _reply(self._child, self.number, envelope.value, envelope.error)


def _call(cell: RemoteCell, child: Child, frame: Frame) -> None:
    """Call a method of the system, on a worker of the pool."""
    try:
        name, arguments, options = decode(bytes(frame.data))
        if name == "look":
            found = cell.runtime.ref_of(*arguments)
            result: Any = (found.state.value, found.incarnation)
        elif name in OF_WATCHES:
            result = getattr(cell.runtime.watches, name)(cell, *arguments)
        elif name == "group" and arguments[1] in OF_A_GROUP:
            group = cell.runtime.groups.get(arguments[0])
            result = getattr(group, arguments[1])(*arguments[2:])
        elif name in CALLS:
            result = getattr(cell.runtime.system, name)(*arguments, **options)
        else:
            raise KompyctError(f"the system has no method {name!r} for components elsewhere")
    except BaseException as error:
        _reply(child, frame.number, None, error)
        return
    if isinstance(result, Future):
        result.add_done_callback(lambda done: _reply_with(child, frame.number, done))
    else:
        _reply(child, frame.number, result, None)


def _reply_with(child: Child, number: int, done: Future[Any]) -> None:
    error = done.exception()
    _reply(child, number, done.result() if error is None else None, error)


def _save(stand_in: StandIn, child: Child, number: int) -> None:
    try:
        stand_in.save_durably()
    except BaseException as error:
        _reply(child, number, None, error)
    else:
        _reply(child, number, None, None)


def _reply(child: Child, number: int, value: Any, error: BaseException | None) -> None:
    data = b""
    if error is None:
        try:
            data = encode(value)
        except KompyctError as cause:
            error = UnpicklableError(
                f"the reply, a {type(value).__qualname__}, cannot be pickled; send plain data"
            )
            error.__cause__ = cause
    if error is not None:
        data = pack_exception(error)
    child.sender.send(raw(protocol.REPLY, data, number=number, flag=error is not None))
