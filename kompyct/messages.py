"""What may lie in a mailbox besides plain messages?"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable
from enum import Enum
from types import MethodType
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from kompyct.errors import ArgumentTypeError, UnhandledMessageError

R = TypeVar("R")


class OnRestart(Enum):
    """What becomes of a message that meets a fault of its component, in hand or queued.

    The class attribute `on_restart` of its type says it. What is sent after the fault waits for
    the next incarnation, whatever its type. If there will be none, tells become dead letters and
    asks fail with `ComponentDestroyedError`. No ask is ever left without an answer.
    """

    DEFAULT = "default"
    """Queued, a tell meets the next incarnation, and an ask fails with `RestartingError` at once.
    In hand, it is gone, and an ask fails with what was raised (S-16)."""
    REDELIVER = "redeliver"
    """Queued or in hand, told or asked, the next incarnation gets it, what was in hand first: at
    least once. In hand at too many faults it is set aside, see `ComponentSystem.poison`."""
    DROP = "drop"
    """For what is worthless when it is late. Queued, a tell becomes a dead letter, which the
    recovery report counts as dropped. Everything else as DEFAULT."""
    FAIL = "fail"
    """For what another incarnation must not do. Queued, a tell becomes a dead letter, which the
    recovery report counts as failed, as it does queued asks. Everything else as DEFAULT."""


class Request(Generic[R]):
    """The base of messages that are asked; `R` is the type of the reply.

    >>> class GetCount(Request[int]):
    ...     '''Ask for the current count.'''
    """

    __slots__ = ()

    on_restart: ClassVar[OnRestart] = OnRestart.DEFAULT

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not isinstance(cls.on_restart, OnRestart):
            raise ArgumentTypeError(
                f"{cls.__qualname__}.on_restart is {cls.on_restart!r}; give a member of OnRestart"
            )


def on_restart(kind: type) -> OnRestart:
    """What messages of that type, which may be anybody's, want at a fault."""
    try:
        wanted = getattr(kind, "on_restart", None)
    except BaseException:  # a metaclass with a mind of its own
        return OnRestart.DEFAULT
    return wanted if type(wanted) is OnRestart else OnRestart.DEFAULT


class Done(Protocol):
    """What is told that an envelope has its value or its error; called once, by any thread."""

    def release(self) -> None: ...


class _Pending:
    """The value of an envelope that nobody has answered yet."""

    def __repr__(self) -> str:
        return "PENDING"


PENDING: Final = _Pending()


class _Nobody:
    """See `NOBODY`."""

    def release(self) -> None:
        """Nobody waits for it."""


NOBODY: Final = _Nobody()
"""The `done` of an envelope that is a message like any other: told, not asked."""


class Envelope:
    """A message that needs more than being given to `on_receive`.

    With `done` it is an ask, and somebody waits for `value` or `error`. With `action` it is
    handled by calling that instead of `on_receive`: a timer's tick, a call through a proxy.

    Invariant: it is in one place at a time (mailbox, or hand of the turn), and who takes it out
    of there settles it, so `done` is released once. `value` and `error` are written before that.
    """

    __slots__ = ("action", "done", "error", "message", "value")

    def __init__(
        self, message: Any, action: Callable[[Any], Any] | None = None, done: Done | None = None
    ) -> None:
        self.message = message
        self.action = action
        self.done = done
        self.value: Any = PENDING
        self.error: BaseException | None = None

    def deliver(self, component: Any) -> None:
        """Have `component` handle the content, and settle with what it returns."""
        action = self.action
        if action is None:
            self.value = component.on_receive(self.message)
        else:
            self.value = action(component)
        if self.done is not None:
            self.done.release()

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for the reply."""
        return self.done is not None and self.done is not NOBODY

    def settled(self) -> bool:
        """Whether it has its value or its error."""
        return self.value is not PENDING or self.error is not None

    def fail(self, error: BaseException) -> None:
        """Settle with an error."""
        self.error = error
        if self.done is not None:
            self.done.release()


Arrival = Callable[[Any, Any], None]
"""Has the handler of a port take an event: called with the event and the component."""


def arrival_at(port: str) -> Arrival:
    """What happens when an event arrives at the port of that name.

    Bound to an event as its first argument it is the `action` of an envelope. A function, and not
    an object that can be called, as there is one call for each event: that would cost 70 ns more
    on CPython 3.11.
    """

    def arrive(event: Any, component: Any) -> None:
        name = component._kompyct_handlers.get(port)
        if name is None:
            raise UnhandledMessageError(
                f"component {component._kompyct_path()!r} ({type(component).__qualname__}) has no "
                f"handler for a {type(event).__qualname__} at its port {port!r}; put "
                "@handles(...) above a method"
            )
        getattr(component, name)(event)

    setattr(arrive, _PORT, port)
    return arrive


def arriving(event: Any, arrival: Arrival) -> Envelope:
    """The envelope of `event`; nobody waits for it, so it may be in several mailboxes."""
    return Envelope(event, MethodType(arrival, event), NOBODY)


def port_of(envelope: Envelope) -> str | None:
    """The name of the port that the content of `envelope` is for, if it is an event."""
    action: Any = envelope.action
    action = getattr(action, "wrapped", action)  # of one that counts its faults, see `poison`
    return getattr(action.__func__, _PORT, None) if type(action) is MethodType else None


_PORT = "_kompyct_port"
"""The attribute of an `Arrival` that says where it is."""


class Ask(Envelope):
    """Only a type: an envelope made by `new_ask`, which its sender waits for."""

    __slots__ = ()
    done: Any  # a lock while it is waited for, later what counts late replies


def new_ask(message: Any) -> Ask:
    """An envelope whose `done` is a held lock: acquiring it waits for the reply.

    It is an `Envelope`, since a turn knows those by their exact type.
    """
    done = allocate_lock()
    done.acquire()
    return Envelope(message, None, done)  # type: ignore[return-value]


class LateReplies:
    """The `done` of asks whose asker has given up: it counts the replies that nobody gets."""

    def __init__(self) -> None:
        self._lock = allocate_lock()  # protects count
        self.count = 0

    def release(self) -> None:
        """A reply came too late."""
        with self._lock:
            self.count += 1
