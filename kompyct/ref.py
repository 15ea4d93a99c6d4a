"""How does anybody reach a component?

A ref names the logical component, not an incarnation: it works after a recovery, and never
reaches a later component of the same path (S-17).
"""

from __future__ import annotations

import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from kompyct.clock import lock_timeout
from kompyct.errors import (
    AskTimeoutError,
    ComponentFaultError,
    NotStartedError,
    as_raised,
)
from kompyct.futures import complete
from kompyct.lifecycle import State
from kompyct.lost import LostCell, LostRuntime
from kompyct.messages import Ask, Envelope, Request, new_ask
from kompyct.waiting import InlineTurn, ask_inside, here, wait_for

if TYPE_CHECKING:
    import pykka

    from kompyct.cell import Cell
    from kompyct.faults import RecoveryFunction

M = TypeVar("M", contravariant=True)
R = TypeVar("R")

ASK_TIMEOUT = 5.0
"""Seconds an ask waits unless told otherwise."""

living_systems: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""The systems of this process by their key, for refs that are unpickled (S-37)."""


class ComponentRef(Generic[M]):
    """The address of a component; for any thread. Equal refs name the same component."""

    __slots__ = ("_cell",)

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def tell(self, message: M) -> None:
        """Send `message` and go on.

        It is handled once, in the order sent, while the component is active. Sent to one that
        has ended it becomes a dead letter.

        Raises:
            MailboxFullError: the mailbox is bounded, full, and made to refuse.
        """
        cell = self._cell
        cell.box.append(message)
        # The one place that leans on the GIL, see mailbox.py: without it, drop `cell.asleep and`.
        if cell.asleep and cell.flag.acquire(False):
            try:
                cell.backend.wake(cell)
            except RuntimeError:  # no thread, or no stack left: no call of ours fits either
                cell.asleep = True
                cell.flag.release()
                raise

    @overload
    def ask(
        self, request: Request[R], timeout: float | None = ..., *, block: Literal[True] = ...
    ) -> R: ...
    @overload
    def ask(
        self, request: Request[R], timeout: float | None = ..., *, block: Literal[False]
    ) -> Future[R]: ...

    def ask(
        self, request: Request[Any], timeout: float | None = ASK_TIMEOUT, *, block: bool = True
    ) -> Any:
        """Send `request` and wait for what `on_receive` returns for it.

        Args:
            request: what to ask; its type says the type of the reply.
            timeout: seconds, >= 0; None waits for ever.
            block: False returns a `concurrent.futures.Future` at once and ignores the timeout.

        Raises:
            AskTimeoutError: no reply in time. The request is still handled, its reply dropped.
            AskCircleError: called in a component that its target waits for.
            ComponentDestroyedError: the component has ended, or ends before it handles this.
            RestartingError: the component faulted while the request was queued.
            ComponentFaultError: handling it raised something that is no `Exception`.
            Exception: what handling it raised, as itself.
            MailboxFullError: as in `tell`.
        """
        limit = ASK_TIMEOUT if timeout is ASK_TIMEOUT else lock_timeout(timeout)
        if not block:
            return self._ask_later(request)
        cell = self._cell
        envelope = new_ask(request)
        runner = here.runner
        if runner is None:
            cell.box.append(envelope)
            cell.has_asks = True  # after the append: the turn clears it before it looks
            if cell.asleep and cell.flag.acquire(False):
                try:
                    cell.backend.wake(cell)
                except RuntimeError:
                    cell.asleep = True
                    cell.flag.release()
                    raise
            answered = wait_for(envelope.done, limit)
        else:
            answered = ask_inside(runner, cell, envelope, limit)
        if answered and envelope.error is None:
            return envelope.value
        return self._reply(envelope, limit)

    async def ask_async(self, request: Request[R], timeout: float | None = ASK_TIMEOUT) -> R:
        """`ask` for a coroutine; it blocks no thread.

        Raises: as `ask`.
        """
        import asyncio  # 19 ms that programs without an event loop need not spend

        limit = lock_timeout(timeout)
        if here.runner is self._cell.runtime.backend:
            return self.ask(request, timeout)  # a test, which runs the component on this thread
        future = asyncio.wrap_future(self._ask_later(request, for_asyncio=True))
        try:
            return await asyncio.wait_for(future, None if limit == -1 else limit)
        except TimeoutError as error:
            if future.cancelled():
                raise AskTimeoutError(
                    f"component {self.path!r} did not reply to {type(request).__qualname__} "
                    f"within {timeout:g} s; give it more time"
                ) from error
            raise

    def proxy(self) -> pykka.ActorProxy[Any]:
        """A pykka proxy: attributes and methods of the component as futures.

        Calls through it are messages; those that raise are faults like any other.

        Raises:
            ComponentDestroyedError: the component has ended.
        """
        cell = self._cell
        cell.incarnation_now()
        return cell.runtime.proxy(self)

    def set_recovery_function(self, function: RecoveryFunction, *, snapshot: Any = ...) -> None:
        """`Component.set_recovery_function` from outside, taken up before the next message.

        Raises:
            ArgumentTypeError: `function` is not callable.
            SnapshotError: the snapshot cannot be encoded.
            ComponentDestroyedError: the component has ended.
        """
        cell = self._cell
        if cell.state is State.DESTROYED:
            raise cell.gone()
        cell.register_from_outside(function, None if snapshot is ... else (snapshot,))

    @property
    def name(self) -> str | None:
        """The name given to `create`, or None."""
        return self._cell.name

    @property
    def path(self) -> str:
        """Where the component stands in its system: its name, or `#` and its number."""
        return self._cell.path

    @property
    def state(self) -> State:
        """What the component is doing, as far as this thread can know."""
        return self._cell.state

    @property
    def incarnation(self) -> int:
        """Which incarnation is running; the first is 1."""
        return self._cell.incarnation

    @property
    def is_alive(self) -> bool:
        """Whether the component has not ended for good."""
        return self._cell.state is not State.DESTROYED

    def __repr__(self) -> str:
        return f"<ComponentRef {self.path!r} in {self._cell.runtime.name!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ComponentRef):
            return False
        cell, others = self._cell, other._cell
        # What a pickled ref leads to after the end is another object, see `LostCell`.
        return cell is others or (cell.id == others.id and key_of(cell) == key_of(others))

    def __hash__(self) -> int:
        return hash(self._cell.id)

    def __reduce__(self) -> tuple[Any, ...]:
        cell = self._cell
        return _find, (cell.runtime.key, cell.path, cell.id)

    def _await_reply(self, envelope: Ask, timeout: float | None) -> Any:
        """Wait for the reply to an ask that has been sent, as `ask` does."""
        limit = lock_timeout(timeout)
        runner = here.runner
        if runner is None:
            wait_for(envelope.done, limit)
        else:
            runner.wait(self._cell, envelope, limit)
        return self._reply(envelope, limit)

    def _reply(self, envelope: Ask, limit: float) -> Any:
        """The value or the error of `envelope`, whose asker waits no longer."""
        cell = self._cell
        if not envelope.settled():
            envelope.done = cell.runtime.late_replies  # from here on a reply is only counted
        if envelope.error is not None:
            raise as_raised(envelope.error, cell.path)
        if envelope.settled():
            return envelope.value
        # Without a limit only virtual time gives up, when nothing is left that could happen.
        waited = "ever" if limit == -1 else f"within {limit:g} s"
        raise AskTimeoutError(
            f"component {cell.path!r} ({cell.state.value}) did not reply to "
            f"{type(envelope.message).__qualname__} {waited}; give it more time, "
            "or see what it is doing in system.tree()"
        )

    def _ask_later(self, request: Request[R], *, for_asyncio: bool = False) -> Future[R]:
        cell = self._cell
        future: Future[R] = cell.runtime.new_future()
        envelope = Envelope(request)
        envelope.done = _ToFuture(envelope, future, cell, for_asyncio=for_asyncio)
        cell.send_ask(envelope)
        return future


class InlineRef(ComponentRef[M]):
    """A ref whose asks run an idle component's handler in the asking thread."""

    __slots__ = ("_turn",)

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._turn = InlineTurn(cell)  # used by one thread at a time, the holder of the flag

    def ask(
        self, request: Request[Any], timeout: float | None = ASK_TIMEOUT, *, block: bool = True
    ) -> Any:
        cell = self._cell
        if timeout is not ASK_TIMEOUT:
            lock_timeout(timeout)
        if cell.asleep and block and cell.flag.acquire(False):
            return cell.ask_inline(self, self._turn, request, timeout)
        return ComponentRef.ask(self, request, timeout, block=block)  # type: ignore[call-overload]


class EarlyRef(ComponentRef[M]):
    """What `self.ref` is in `__init__`: it refuses messages to oneself until that is over."""

    __slots__ = ()

    def tell(self, message: M) -> None:
        self._check()
        ComponentRef.tell(self, message)

    def ask(
        self, request: Request[Any], timeout: float | None = ASK_TIMEOUT, *, block: bool = True
    ) -> Any:
        self._check()
        return ComponentRef.ask(self, request, timeout, block=block)  # type: ignore[call-overload]

    def _check(self) -> None:
        if here.creating is self._cell:
            raise NotStartedError(
                f"component {self.path!r} is being made; send messages to itself from on_start on"
            )


class RestoredRef(ComponentRef[M]):
    """A ref that was decoded from a snapshot of an earlier run.

    It is bound by its path when it is used: to the component that has that path then, in the
    system that decoded it. From then on it is a ref like any other (S-17).
    """

    __slots__ = ("_bound", "_lost", "_origin", "_runtime")

    def __init__(self, runtime: Any, key: str, path: str, component_id: int) -> None:
        self._runtime = runtime
        self._origin = (key, path, component_id)
        self._bound: Cell | None = None
        self._lost = LostCell(runtime, path, component_id, key)  # one: the ref equals itself

    @property
    def _cell(self) -> Cell:  # type: ignore[override]  # the slot of an ordinary ref
        if self._bound is None:
            self._bound = self._runtime.registry.find(self._lost.path)
            if self._bound is None:
                return self._lost  # type: ignore[return-value]
        return self._bound

    def __reduce__(self) -> tuple[Any, ...]:
        if self._bound is None:
            return _find, self._origin
        return ComponentRef.__reduce__(self)


def key_of(cell: Any) -> tuple[str, int]:
    """What tells a component from all others, however it is reached."""
    return (cell.key if type(cell) is LostCell else cell.runtime.key), cell.id


def ref_to(cell: Cell) -> ComponentRef[Any]:
    """A ref of the component that `cell` runs."""
    return InlineRef(cell) if cell.options.inline_asks else ComponentRef(cell)


class _ToFuture:
    """The `done` of an ask whose reply goes into a future."""

    __slots__ = ("_envelope", "_for_asyncio", "_future", "_late_replies", "_path")

    def __init__(
        self, envelope: Envelope, future: Future[Any], cell: Cell, *, for_asyncio: bool
    ) -> None:
        self._envelope = envelope
        self._future = future
        self._path = cell.path
        self._late_replies = cell.runtime.late_replies
        self._for_asyncio = for_asyncio

    def release(self) -> None:
        envelope = self._envelope
        error = envelope.error
        if error is not None:
            error = as_raised(error, self._path)
            if self._for_asyncio and isinstance(error, StopIteration):  # its futures refuse that
                error = ComponentFaultError(f"component {self._path!r} raised StopIteration")
        if not complete(self._future, envelope.value, error):
            self._late_replies.release()


def _find(key: str, path: str, component_id: int) -> ComponentRef[Any]:
    """The ref of that component of a living system of this process; used by pickle.

    What is not there any more is found out when the ref is used (S-17).
    """
    runtime = living_systems.get(key)
    earlier = runtime is None or (runtime.stopping and runtime is not here.decoding)
    if earlier and here.decoding is not None and not path.startswith("#"):
        return RestoredRef(here.decoding, key, path, component_id)
    ref = None if runtime is None else runtime.ref_of(component_id, path)
    if ref is None:
        lost = LostCell(LostRuntime(key), path, component_id)
        return ComponentRef(lost)  # type: ignore[arg-type]
    return ref  # type: ignore[no-any-return]
