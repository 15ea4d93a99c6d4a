"""What does a component in a process of its own reach, and how?

Here are the other side's refs, system and events, as the child sees them: everything becomes a
frame to the parent. For any thread of the child.
"""

from __future__ import annotations

import logging
from _thread import LockType, allocate_lock
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

from kompyct.clock import Clock, lock_timeout
from kompyct.codecs import for_child
from kompyct.errors import (
    ArgumentTypeError,
    ComponentDestroyedError,
    IncarnationEndedError,
    SnapshotError,
    UnpicklableError,
)
from kompyct.futures import complete
from kompyct.lifecycle import State
from kompyct.lost import name_in
from kompyct.messages import Ask, Envelope, arrival_at, new_ask
from kompyct.names import check_not_made
from kompyct.processes import protocol
from kompyct.processes.frames import Sender, pack, raw
from kompyct.processes.zygote import has_main
from kompyct.ref import ComponentRef
from kompyct.waiting import here
from kompyct.watching import target_of

if TYPE_CHECKING:
    from kompyct.channels import Channel
    from kompyct.component import Component
    from kompyct.far_groups import FarGroup, FarGroups
    from kompyct.notices import Terminated


class Parent:
    """The way to the parent: sends frames, and knows who waits for which answer.

    `hear(reached, timeout)` hears what the parent sends until `reached()`, at most `timeout`
    seconds, -1 for ever; on any thread.
    """

    def __init__(self, sender: Sender, hear: Callable[[Callable[[], bool], float], bool]) -> None:
        self._sender: Sender = sender
        self.hear = hear
        self._numbers = count(1)
        self._lock = allocate_lock()  # protects _questions
        self._questions: dict[int, Envelope] = {}

    def send(self, parts: Sequence[Any]) -> None:
        """Write a frame."""
        self._sender.send(parts)

    def ask(self, make: Callable[[int], Sequence[Any]], question: Envelope) -> None:
        """Send the frame that `make` makes for a number; `question` is settled by the reply.

        Raises:
            Exception: what `make` raises; nothing was sent.
        """
        number = next(self._numbers)
        parts = make(number)
        with self._lock:
            self._questions[number] = question
        self._sender.send(parts)

    def give_up(self, question: Envelope) -> None:
        """Nobody waits for that reply any more: the parent need not count it as waited for."""
        with self._lock:
            numbers = [number for number, one in self._questions.items() if one is question]
        for number in numbers:
            self.send(raw(protocol.GAVE_UP, number=number))

    def cut(self) -> None:
        """In a copy of this process: it has no parent there."""
        self._sender = _Cut()

    def taken(self, number: int) -> Envelope | None:
        """The question of that number, which is being answered."""
        with self._lock:
            return self._questions.pop(number, None)

    def call(self, name: str, /, *arguments: Any, **options: Any) -> Any:
        """Call a method of the system in its own process, and wait.

        Raises:
            BaseException: what it raises.
        """
        question = new_ask(None)
        self._begin(name, arguments, options, question)
        return self.answer(question)

    def answer(self, question: Ask) -> Any:
        """Wait for the reply to `question`.

        Raises:
            BaseException: what it was answered with.
        """
        self.hear(lambda: question.done.acquire(False), -1)
        if question.error is not None:
            raise question.error
        return question.value

    def call_later(self, name: str, /, *arguments: Any, **options: Any) -> Future[Any]:
        """`call` without waiting."""
        future = FarFuture(self.hear)
        question = Envelope(None)
        question.done = _ToFuture(question, future)
        self._begin(name, arguments, options, question)
        return future

    def _begin(
        self, name: str, arguments: tuple[Any, ...], options: dict[str, Any], question: Envelope
    ) -> None:
        try:
            data = for_child((name, arguments, options), main_by_name=has_main())
        except SnapshotError as error:
            raise UnpicklableError(
                f"what {name}() was given cannot go to the system's process "
                f"({type(error.__cause__).__name__}); give functions of a module, and plain data"
            ) from error
        self.ask(lambda number: raw(protocol.CALL, data, number=number), question)


class _Cut:
    """In the place of a sender: a copy of the component's process is not the component."""

    def send(self, parts: Sequence[Any]) -> NoReturn:
        raise IncarnationEndedError(
            "this process was forked by a component, and is not the component: it can send and "
            "save nothing"
        )


class FarFuture(Future[Any]):
    """A future whose waiting hears what the parent sends: its reply comes the same way."""

    def __init__(self, hear: Callable[[Callable[[], bool], float], bool]) -> None:
        super().__init__()
        self._hear = hear

    def result(self, timeout: float | None = None) -> Any:
        self._hear(self.done, lock_timeout(timeout))
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._hear(self.done, lock_timeout(timeout))
        return super().exception(0)


class _Heard:
    """The `done` of an ask on a thread that is not the loop's: who waits for it hears as well."""

    __slots__ = ("_hear", "_lock")

    def __init__(self, hear: Callable[[Callable[[], bool], float], bool], lock: LockType) -> None:
        self._hear = hear
        self._lock = lock

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As a lock's, which is held until there is a reply."""
        if not blocking:
            return self._lock.acquire(False)
        return self._hear(lambda: self._lock.acquire(False), timeout)

    def release(self) -> None:
        """There is a reply."""
        self._lock.release()


class _ToFuture:
    """The `done` of a question whose reply goes into a future."""

    def __init__(self, envelope: Envelope, future: Future[Any]) -> None:
        self._envelope = envelope
        self._future = future

    def release(self) -> None:
        complete(self._future, self._envelope.value, self._envelope.error)


class FarBox:
    """The box of a component that is reached through the parent: it sends on what it is given."""

    __slots__ = ("_id", "_parent", "_path")

    def __init__(self, parent: Parent, number: int, path: str) -> None:
        self._parent = parent
        self._id = number
        self._path = path

    def append(self, message: Any) -> None:
        """Send `message` on.

        Raises:
            UnpicklableError: it cannot go to another process.
        """
        try:
            if type(message) is Envelope:
                if here.runner is None and isinstance(message.done, LockType):
                    message.done = _Heard(self._parent.hear, message.done)
                blocks = here.runner is not None and not hasattr(message.done, "_future")
                told = (self._id, self._path, message.message)
                self._parent.ask(
                    lambda number: pack(protocol.ASK, told, number=number, flag=blocks),
                    message,
                )
            else:
                sent = (self._path, message)
                self._parent.send(pack(protocol.TELL, sent, number=self._id))
        except OSError:
            raise
        except Exception as error:
            content = message.message if type(message) is Envelope else message
            raise UnpicklableError(
                f"a {type(content).__qualname__} for component {self._path!r} cannot be pickled "
                f"({type(error).__name__}); send plain data"
            ) from error

    def __len__(self) -> int:
        return 0


class FarOutlet:
    """Where the events go that are triggered at a port: to the parent, which has the channels.

    It is an outlet, its one target, and the box of that.
    """

    __slots__ = ("_name", "_parent", "_path", "box", "targets")

    asleep = False

    def __init__(self, parent: Parent, path: str, name: str) -> None:
        self._parent = parent
        self._path = path
        self._name = name
        self.box = self
        self.targets = ((self, arrival_at(name)),)

    def append(self, envelope: Envelope) -> None:
        """Send an event on.

        Raises:
            UnpicklableError: it cannot go to another process.
        """
        event = envelope.message
        try:
            parts = pack(protocol.TRIGGER, (self._name, event))
        except Exception as error:
            raise UnpicklableError(
                f"a {type(event).__qualname__} for port {self._name!r} of component "
                f"{self._path!r} cannot be pickled ({type(error).__name__}); send plain data"
            ) from error
        self._parent.send(parts)


class FarCell:
    """Stands for a component that is not in this process, but in the same system."""

    asleep = False
    has_asks = False
    component = None
    asking = None

    def __init__(self, runtime: Any, number: int, path: str) -> None:
        self.runtime = runtime
        self.id = number
        self.path = path
        self.name = name_in(path)
        self.box = FarBox(runtime.parent, number, path)

    @property
    def state(self) -> State:
        """What it is doing, as its own process knows."""
        return State(self.runtime.parent.call("look", self.id, self.path)[0])

    @property
    def incarnation(self) -> int:
        """Which incarnation is running."""
        return int(self.runtime.parent.call("look", self.id, self.path)[1])

    def send(self, message: Any) -> None:
        """Send `message` to it."""
        self.box.append(message)

    send_ask = send

    def gone(self) -> ComponentDestroyedError:
        """The error for whoever wants something of it that it has no longer."""
        return ComponentDestroyedError(f"component {self.path!r} has ended")

    def incarnation_now(self) -> NoReturn:
        """Refuse: it is in another process.

        Raises:
            ArgumentTypeError: always.
        """
        raise ArgumentTypeError(f"component {self.path!r} is in another process; use tell and ask")

    def register_from_outside(self, function: Any, snapshot: Any) -> NoReturn:
        """Refuse: what belongs to a component is registered where that is.

        Raises:
            ArgumentTypeError: always.
        """
        raise ArgumentTypeError(
            f"component {self.path!r} is in another process; have it register by itself"
        )


class FarSystem:
    """What `self.system` is in a child: it has done in the system's process what is asked of it.

    The methods are those of `ComponentSystem`; what they are given must be picklable.
    """

    def __init__(self, name: str, parent: Parent, clock: Clock, groups: FarGroups) -> None:
        self.name = name
        self.clock = clock
        self._parent = parent
        self._groups = groups

    def create(self, factory: Callable[[], Component[Any]], **options: Any) -> ComponentRef[Any]:
        """See `ComponentSystem.create`; the component belongs to the system, not to this one."""
        ref: ComponentRef[Any] = self._parent.call("create", factory, **options)
        return ref

    def start(self, ref: ComponentRef[Any]) -> Future[None]:
        """See `ComponentSystem.start`."""
        return self._parent.call_later("start", ref)

    def stop(self, ref: ComponentRef[Any]) -> Future[None]:
        """See `ComponentSystem.stop`."""
        return self._parent.call_later("stop", ref)

    def kill(
        self, ref: ComponentRef[Any], *, brutal: bool = False, after_messages: bool = False
    ) -> Future[None]:
        """See `ComponentSystem.kill`."""
        options = {"brutal": brutal, "after_messages": after_messages}
        return self._parent.call_later("kill", ref, **options)

    start_notify = start
    stop_notify = stop
    kill_notify = kill

    def find(self, path: str) -> ComponentRef[Any] | None:
        """See `ComponentSystem.find`."""
        found: ComponentRef[Any] | None = self._parent.call("find", path)
        return found

    def ended(self, ref: ComponentRef[Any]) -> Future[Terminated]:
        """See `ComponentSystem.ended`."""
        return self._parent.call_later("ended", ref)

    def register(self, name: str, ref: ComponentRef[Any]) -> None:
        """See `ComponentSystem.register`."""
        check_not_made(target_of(ref), "named")
        self._parent.call("register", name, ref)

    def unregister(self, name: str) -> bool:
        """See `ComponentSystem.unregister`."""
        return bool(self._parent.call("unregister", name))

    def whereis(self, name: str) -> ComponentRef[Any] | None:
        """See `ComponentSystem.whereis`."""
        found: ComponentRef[Any] | None = self._parent.call("whereis", name)
        return found

    def group(self, name: str) -> FarGroup[Any]:
        """See `ComponentSystem.group`."""
        return self._groups.get(name)

    def connect(self, provided: Any, required: Any) -> Channel:
        """See `ComponentSystem.connect`."""
        channel: Channel = self._parent.call("connect", provided, required)
        return channel

    def disconnect(self, channel: Channel) -> None:
        """See `ComponentSystem.disconnect`."""
        self._parent.call("disconnect", channel)

    def tree(self) -> Any:
        """See `ComponentSystem.tree`."""
        return self._parent.call("tree")

    def flush(self) -> None:
        """See `ComponentSystem.flush`."""
        self._parent.call("flush")

    def poison(self) -> Any:
        """See `ComponentSystem.poison`."""
        return self._parent.call("poison")

    def resend(self, number: int) -> None:
        """See `ComponentSystem.resend`."""
        self._parent.call("resend", number)

    def discard_poison(self, number: int) -> None:
        """See `ComponentSystem.discard_poison`."""
        self._parent.call("discard_poison", number)

    def shutdown(self, timeout: float | None = 30.0, *, drain: float = 0.0) -> None:
        """See `ComponentSystem.shutdown`; it only sets this going."""
        lock_timeout(timeout)
        self._parent.call_later("shutdown", timeout, drain=drain)

    def __repr__(self) -> str:
        return f"<FarSystem {self.name!r}>"


class ToParent(logging.Handler):
    """Sends log records to the system's process, whose handlers they are for."""

    def __init__(self, parent: Parent) -> None:
        super().__init__()
        self._parent = parent

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if record.exc_info:
                record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.msg, record.args = record.getMessage(), None
            record.exc_info = record.stack_info = None
            self._parent.send(pack(protocol.LOG, record))
        except Exception:
            self.handleError(record)
