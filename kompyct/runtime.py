"""What do cells, supervisor and backends share, and how does it end?

The inside of a `ComponentSystem`, whose public face is in `system`.
"""

from __future__ import annotations

import atexit
import os
import threading
import warnings
import weakref
from _thread import allocate_lock
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from kompyct import signals
from kompyct.backends import Graveyard, make_backend
from kompyct.backends.manual import ManualBackend, ManualFuture
from kompyct.cell import Cell
from kompyct.checks import refuse_while_inheriting
from kompyct.children import is_tree
from kompyct.clock import Clock, ManualClock, SystemClock
from kompyct.codecs import PICKLE, Codec
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    ShutdownTimeoutError,
    StoreError,
    UnknownBackendError,
)
from kompyct.events import Event
from kompyct.groups import Groups
from kompyct.lost import LostCell
from kompyct.messages import LateReplies
from kompyct.names import Names
from kompyct.options import Durability, Options, check_kind
from kompyct.poison import PoisonList
from kompyct.publisher import Publisher
from kompyct.ref import ComponentRef, living_systems, ref_to
from kompyct.registry import Registry
from kompyct.reports import identity
from kompyct.root import EndAll, RootSupervisor, Undelivered
from kompyct.waiting import here, result_of
from kompyct.watching import Watches

if TYPE_CHECKING:
    import pykka

    from kompyct.channels import Channels
    from kompyct.component import Component
    from kompyct.deadline import Deadline
    from kompyct.offspring import Closing
    from kompyct.recovery import RecoveryJob
    from kompyct.restart import RestartLimit
    from kompyct.store.segments import Damage
    from kompyct.store.snapshots import SnapshotStore
    from kompyct.stored import Stored
    from kompyct.supervising import SupervisorCell
    from kompyct.system import ComponentSystem
    from kompyct.writer import Writer

T = TypeVar("T")

SHUTDOWN_TIMEOUT = 30.0
"""Seconds that leaving `with` gives a system to end."""

AT_EXIT_TIMEOUT = 5.0
"""Seconds that the end of the program gives a system that is still open."""


class Runtime:
    """The shared parts of one system. Every method is for any thread."""

    def __init__(
        self,
        system: ComponentSystem,
        name: str | None,
        kind: str,
        clock: Clock | None,
        recovery_deadline: int,
        on_event: Callable[[Event], object] | None,
        on_undelivered: Callable[[str, Any], object] | None,
        codec: Codec = PICKLE,
        store: str | os.PathLike[str] | SnapshotStore | None = None,
        durability: Durability = "memory",
        trust: Literal["local"] | bytes = "local",
        options: Options | None = None,
    ) -> None:
        refuse_while_inheriting()
        self.system = system
        self.codec = codec  # of every snapshot
        self.durability = durability  # of saves that are not told otherwise
        self.store_error: StoreError | None = None  # of the last flush; set before `over`
        self.writer: Writer | None = None
        self._channels: Channels | None = None
        self._damages: list[Damage] = []  # found before there is a supervisor to tell
        # First of all: what raises leaves nothing behind.
        opened = None if store is None else self._open_store(store, trust)
        self.key = os.urandom(16).hex()
        self.name = name or f"kompyct-{self.key[:6]}"
        self.recovery_deadline = recovery_deadline  # nanoseconds
        if clock is None:
            clock = ManualClock() if kind == "manual" else SystemClock(f"{self.name}-clock")
        self.clock: Clock = clock
        self.registry = Registry()
        self.names = Names()
        self.groups = Groups(self)
        self.watches = Watches()
        self.numbers = count(1)  # of components
        self.orders = count(1)  # of starts
        self.options = options or Options()  # of components that are created without any
        self.late_replies = LateReplies()
        self.poison = PoisonList()
        self.checked_classes: set[type[Component[Any]]] = set()
        self._abandoned = 0  # threads that hang in handlers; under _state
        self.signals = allocate_lock()  # protects the `control` of every cell
        self.stopping = False  # set once, under _state
        self.cause: BaseException | None = None  # the first escalated fault; set under _state
        self.overtime: ShutdownTimeoutError | None = None  # set before `over`
        self.over: Future[None] = Future()  # components, clock and backends have ended
        self._ended: Future[None] = Future()  # every component has ended, or is left behind
        self._state = allocate_lock()  # protects stopping, cause and _backends
        self._graveyard = Graveyard()
        self._options_of_children: dict[RestartLimit, Options] = {}
        self.kind = kind
        self._backends: dict[str, Any] = {}
        self.backend = self.backend_of(kind)
        # Where supervisor and recoveries run; threads of its own would only add hand-offs.
        self._core = self.backend if kind in ("pool", "manual") else self.backend_of("pool")
        try:
            self._supervisor = self._make_supervisor(Publisher(on_event, clock), on_undelivered)
        except RuntimeError:  # there is no thread to be had
            if opened is not None:
                opened.close()
            raise
        if opened is not None:
            self.writer = self._make_writer(opened)
        living_systems[self.key] = self
        self._at_exit = _at_exit(self)

    # -- for cells and supervisor -----------------------------------------------------------

    def tell_supervisor(self, message: Any) -> None:
        """Send the root supervisor a fault, a decision or an event."""
        self._supervisor.send(message)

    emit = tell_supervisor
    supervise = tell_supervisor

    def undelivered(self, cell: Cell, messages: Sequence[Any], reason: str) -> None:
        """Make dead letters of `messages`."""
        self.emit(Undelivered(identity(cell), tuple(messages), reason))

    def run_job(self, job: RecoveryJob | Closing) -> None:
        """Have `job` run off the supervisor's turn."""
        self._core.wake(job)

    def watch(self, deadline: Deadline) -> None:
        """Have the watchdog look after `deadline`."""
        self._core.watch(deadline)

    def unwatch(self, deadline: Deadline) -> None:
        """The watchdog need not look after it any more."""
        self._core.unwatch(deadline)

    def decode(self, snapshot: bytes) -> Any:
        """The value of a snapshot; refs of an earlier run in it are bound to this system (S-17).

        Raises:
            SnapshotError, VersionError: it cannot be built again.
        """
        return self.bound(lambda: self.codec.decode(snapshot))

    def bound(self, decode: Callable[[], T]) -> T:
        """Call `decode`, and bind refs of an earlier run in what it decodes to this system."""
        before, here.decoding = here.decoding, self
        try:
            return decode()
        finally:
            here.decoding = before

    def mark(self, stored: Stored) -> None:
        """Have it durable how often the snapshot of `stored` was tried, if the disk goes along."""
        if self.writer is not None:
            self.writer.mark(stored)

    @property
    def channels(self) -> Channels:
        """What is connected; made at the first look."""
        if self._channels is None:
            from kompyct.channels import Channels  # with what it needs; few systems have some

            with self._state:
                self._channels = self._channels or Channels(self)
        return self._channels

    def outlet(self, cell: Cell, name: str) -> Any:
        """Where the events go that `cell` triggers at its port of that name."""
        return self.channels.outlet(cell, name)

    def forget(self, cell: Cell) -> Graveyard:
        """Strike out a component that has ended; returns where it runs from now on."""
        self.names.free(cell)
        self.groups.leave_all(cell)
        self.registry.remove(cell)
        if self._channels is not None:
            self._channels.forget(cell)
        return self._graveyard

    def tell_watchers(self, cell: Cell) -> None:
        """Tell those who watch a component that was struck out."""
        self.watches.tell(cell)

    def proxy(self, ref: ComponentRef[Any]) -> pykka.ActorProxy[Any]:
        """See `ComponentRef.proxy`.

        Raises:
            ArgumentTypeError: the component is in another process, or is a supervisor.
        """
        if ref._cell.is_supervisor:
            raise ArgumentTypeError(
                f"component {ref.path!r} is a supervisor, which has nothing for a proxy; ask it, "
                "as by WhichChildren()"
            )
        if ref._cell.backend.kind == "process":
            raise ArgumentTypeError(
                f"component {ref.path!r} is in a process of its own, and a proxy needs the "
                "object itself; use tell and ask"
            )
        from kompyct.pykka_actors import proxy  # the one owner of pykka's proxies

        return proxy(ref)

    def ref_of(self, number: int, path: str) -> ComponentRef[Any]:
        """A ref of the component of that number, which had that path; it may have ended."""
        cell = self.registry.get(number)
        if cell is None:
            return ComponentRef(LostCell(self, path, number))  # type: ignore[arg-type]
        return ref_to(cell)

    def new_future(self) -> Future[Any]:
        """A future that waits as this system's backend needs it."""
        if isinstance(self.backend, ManualBackend):
            return ManualFuture(self.backend)
        return Future()

    def note_interrupt(self, interrupt: BaseException) -> None:
        """Ctrl+C hit a component: where that ran on the main thread, it is raised again (S-35)."""
        if isinstance(self.backend, ManualBackend):
            self.backend.interrupt = interrupt

    def escalate(self, cause: BaseException) -> None:
        """Stop the system because of `cause`."""
        with self._state:
            if self.cause is None:
                self.cause = cause
        self.begin_shutdown(SHUTDOWN_TIMEOUT, 0)

    # -- for the system ---------------------------------------------------------------------

    @property
    def supervisor(self) -> Cell:
        """The cell of the root supervisor."""
        return self._supervisor

    def backend_of(self, kind: str) -> Any:
        """The backend of that kind, made at its first use.

        Raises:
            UnknownBackendError: there is none, or the system cannot mix it with its own.
        """
        check_kind(kind)
        if (kind == "manual") != (self.kind == "manual"):
            raise UnknownBackendError(
                f"backend is {kind!r}, and system {self.name!r} runs on {self.kind!r}; "
                "a test drives all components of a system or none"
            )
        pool = self.backend_of("pool") if kind == "process" else None
        with self._state:
            backend = self._backends.get(kind)
            if backend is None:
                backend = make_backend(kind, self.name, self.clock, pool)
                self._backends[kind] = backend
        return backend

    def new_cell(
        self,
        name: str | None,
        factory: Callable[[], Component[Any]] | None,
        backend: Any,
        options: Options,
        parent: SupervisorCell | None = None,
        number: int | None = None,
    ) -> Cell:
        """A cell of the kind that its factory, `backend` and `options` need.

        `number` is the next one if left out.
        """
        number = number or next(self.numbers)
        if is_tree(factory):
            from kompyct.supervising import (
                SupervisorCell,  # with what it needs, if there are trees
            )

            what = (self, number, name, factory, self._core, options, parent)
            return SupervisorCell(*what, backend_of_children=backend)
        if backend.kind == "process":
            from kompyct.remote import RemoteCell  # with what it needs; few systems have them

            return RemoteCell(self, number, name, factory, backend, options, parent)
        if options.has_limits:
            from kompyct.limited import LimitedCell  # likewise

            return LimitedCell(self, number, name, factory, backend, options, parent)
        return Cell(self, number, name, factory, backend, options, parent)

    def options_of_children(self, budget: RestartLimit) -> Options:
        """The options of children whose specs say nothing; one object for all that are alike."""
        options = self._options_of_children.get(budget)
        if options is None:
            options = self._options_of_children[budget] = replace(self.options, budget=budget)
        return options

    def watch_stalls(self, limit: int) -> None:
        """Tell of components that have been in one handler for `limit` nanoseconds.

        Under virtual time there is nothing to be told: a handler takes none.
        """
        from kompyct.stalls import StallWatch  # most systems have none

        if not isinstance(self.backend, ManualBackend):
            StallWatch(self, limit).start()

    def count_abandoned(self) -> int:
        """A thread is being left behind in a handler; returns how many there are, with it."""
        with self._state:
            self._abandoned += 1
            return self._abandoned

    def note_return(self) -> None:
        """A thread that had been left behind has come back."""
        with self._state:
            self._abandoned -= 1

    def take_up_saves(self) -> None:
        """Have what components in other processes have saved on its way to the store."""
        if "process" in self._backends:
            for cell in self.registry.in_start_order():
                cell.take_up_saves()

    def begin_shutdown(self, limit: float, drain: int) -> None:
        """Set the end going, once.

        Args:
            limit: seconds for all components to end; -1 for no limit.
            drain: nanoseconds in which they may handle what is waiting.

        Raises:
            RuntimeError: the operating system gives no more threads; nothing was changed.
        """
        ending = threading.Thread(
            target=self._end, args=(limit,), name=f"{self.name}-shutdown", daemon=True
        )
        with self._state:
            if self.stopping:
                return
            if not isinstance(self.backend, ManualBackend):
                ending.start()  # before anything is changed: there may be no thread for it
            self.stopping = True
        self._end_all(drain)

    def end_at_exit(self) -> None:
        """End on this thread: at its exit Python starts no more of them (3.12 and newer)."""
        with self._state:
            self.stopping = True
        self._end_all(0)
        if isinstance(self.backend, ManualBackend):
            self.wait_until_over(AT_EXIT_TIMEOUT)
        else:
            self._end(AT_EXIT_TIMEOUT)

    def wait_until_over(self, limit: float) -> bool:
        """Wait for the end, at most `limit` seconds, -1 for ever; whether it came."""
        if isinstance(self.backend, ManualBackend) and not self.over.done():
            self.backend.run_until(self._ended.done, limit)
            if not self._ended.done():
                return False
            self._end(0.0)
        try:
            result_of(self.over, None if limit == -1 else limit)
        except TimeoutError:
            return False
        return True

    def cut_short(self) -> None:
        """Wait no longer for components to end. Reentrant, for signal handlers."""
        with suppress(InvalidStateError):  # they have just ended
            self._ended.set_exception(TimeoutError())

    # -- private ----------------------------------------------------------------------------

    def _make_supervisor(
        self, publisher: Publisher, on_undelivered: Callable[[str, Any], object] | None
    ) -> Cell:
        def make() -> RootSupervisor:
            return RootSupervisor(publisher, on_undelivered, self)

        cell = Cell(self, 0, "supervisor", make, self._core, Options())
        cell.component = cell.make(make)
        cell.signal(signals.start, None)
        return cell

    def _make_writer(self, store: SnapshotStore) -> Writer:
        from kompyct.writer import Writer  # with what it needs; most systems have no store

        threaded = not isinstance(self.backend, ManualBackend)
        writer = Writer(store, self.clock, self.emit, f"{self.name}-store", threaded=threaded)
        for damage in self._damages:
            writer.report_damage(damage)
        return writer

    def _open_store(
        self, store: str | os.PathLike[str] | SnapshotStore, trust: Literal["local"] | bytes
    ) -> SnapshotStore:
        from kompyct.store.directory import DirectoryStore  # most systems have no store
        from kompyct.store.snapshots import MemoryStore

        if isinstance(store, str | os.PathLike):
            return DirectoryStore(store, trust=trust, on_damage=self._note_damage)
        if trust != "local":
            raise ArgumentError("trust= is for a folder; give the key to the store itself")
        if isinstance(store, MemoryStore):
            store.open()
        elif not all(callable(getattr(store, name, None)) for name in _OF_A_STORE):
            raise ArgumentTypeError(f"store is {store!r}; give a path or a SnapshotStore")
        return store

    def _note_damage(self, damage: Damage) -> None:
        if self.writer is None:
            self._damages.append(damage)
        else:
            self.writer.report_damage(damage)

    def _end_all(self, drain: int) -> None:
        self._supervisor.send(EndAll(self._ended, self.clock.now() + drain if drain else 0))

    def _end(self, limit: float) -> None:
        """Wait until every component has ended, then end clock and backends."""
        try:
            self._ended.result(None if limit == -1 else limit)
        except TimeoutError:
            self.overtime = ShutdownTimeoutError(
                f"system {self.name!r} did not end in time; "
                f"{len(self.registry)} components were left behind"
            )
            for cell in self.registry.in_start_order():  # those that can, end without any hook
                with suppress(RuntimeError):
                    cell.leave_behind()  # ahead of a gentler one
                    cell.signal(signals.kill, None, True, False, True)
        try:
            self.clock.close()
            if self.writer is not None:
                self.store_error = self.writer.close()
            with self._state:
                backends = tuple(reversed(self._backends.values()))  # children before the pool
            # From now on events are published by whoever emits them, or by the backend that has
            # the supervisor in its queue and empties that when it closes.
            self._supervisor.backend = self._graveyard
            for backend in backends:
                backend.close(1.0)
            if self._supervisor.flag.acquire(False):
                self._graveyard.wake(self._supervisor)
        finally:  # whatever a clock of the user's, or a bug, does: many may wait for this
            self.watches.close()
            self.over.set_result(None)
            atexit.unregister(self._at_exit)


_OF_A_STORE = ("save", "load", "paths", "close")


def _at_exit(runtime: Runtime) -> Callable[[], None]:
    """What the end of the program does about a system that is still open."""
    weak = weakref.ref(runtime)
    process = os.getpid()

    def end() -> None:
        left = weak()
        if left is None or os.getpid() != process:  # its threads are in the parent only
            return
        if left.stopping:  # shut down from within, and nobody waits for that
            left.wait_until_over(AT_EXIT_TIMEOUT)
        else:
            warnings.warn(
                f"system {left.name!r} was still open at exit; shut it down, or use `with`",
                ResourceWarning,
                stacklevel=1,
            )
            left.end_at_exit()

    atexit.register(end)
    return end
