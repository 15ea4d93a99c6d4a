"""How do components, backends, clock and supervisor make a system?"""

from __future__ import annotations

import atexit
import signal
import threading
import uuid
import warnings
import weakref
from _thread import allocate_lock
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from itertools import count
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar, get_args

from kompyct import events
from kompyct.backends import Graveyard, check_kind, make_backend
from kompyct.backends.manual import ManualBackend, ManualFuture
from kompyct.cell import START, Cell
from kompyct.clock import Clock, ManualClock, SystemClock, lock_timeout, nanoseconds
from kompyct.component import Component
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    ComponentCreateError,
    InvalidComponentError,
    ReservedNameError,
    ShutdownTimeoutError,
    SystemShutdownError,
    UnknownBackendError,
)
from kompyct.lifecycle import State
from kompyct.options import Fallback, Options, Overflow
from kompyct.publisher import Publisher
from kompyct.recovery import RecoveryJob
from kompyct.ref import ComponentRef, InlineRef, living_systems
from kompyct.registry import Registry, TreeNode, check_name
from kompyct.reports import identity
from kompyct.restart import RestartLimit
from kompyct.supervisor import ComponentSupervisor, EndAll, Undelivered
from kompyct.waiting import here

if TYPE_CHECKING:
    from kompyct.deadline import Deadline

M = TypeVar("M")

SHUTDOWN_TIMEOUT = 30.0
"""Seconds that leaving `with` gives a system to end."""

AT_EXIT_TIMEOUT = 5.0
"""Seconds that the end of the program gives a system that is still open."""


class ComponentSystem:
    """A set of components under one root supervisor.

    A context manager: leaving it shuts the system down in order. Any number of systems may live
    in one process; they share nothing. Every method is for any thread.

    Args:
        name: names the system's threads; made up if left out.
        backend: where components run unless `create` says otherwise: "thread", a thread for each;
            "pool", a few threads for all; "manual", the test's own thread (see
            `kompyct.testing.TestSystem`).
        clock: a `Clock`; by default real time, with "manual" a `ManualClock`.
        on_event: called with each event, on the supervisor's thread; must not block. After ten
            exceptions of its own it is called no more.
        on_undelivered: called with (path, message) for each dead letter, on that thread as well.
        recovery_deadline: seconds, > 0, that a recovery function and its handler may take.

    Raises:
        UnknownBackendError: for another backend.
        ArgumentError, ArgumentTypeError: for other bad values.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        backend: Literal["thread", "pool", "manual"] = "thread",
        clock: Clock | None = None,
        on_event: Callable[[events.Event], object] | None = None,
        on_undelivered: Callable[[str, Any], object] | None = None,
        recovery_deadline: float = 5.0,
    ) -> None:
        check_kind(backend)
        if name is not None:
            check_name(name)
        for what, observer in (("on_event", on_event), ("on_undelivered", on_undelivered)):
            if observer is not None and not callable(observer):
                raise ArgumentTypeError(f"{what} is {observer!r}; give a callable or None")
        deadline = nanoseconds(recovery_deadline, "recovery_deadline")
        if not deadline:
            raise ArgumentError(f"recovery_deadline is {recovery_deadline!r}; give > 0 seconds")
        if backend == "manual" and clock is not None and not isinstance(clock, ManualClock):
            raise ArgumentTypeError(f"clock is {clock!r}; the manual backend needs a ManualClock")
        self.key = uuid.uuid4().hex
        self.name = name or f"kompyct-{self.key[:6]}"
        self.recovery_deadline = deadline  # nanoseconds
        self.late_replies = LateReplies()
        self.checked_classes: set[type[Component[Any]]] = set()
        self.stopping = False  # set once, under _state
        self.signals = allocate_lock()  # protects the `control` of every cell
        if clock is None:
            clock = ManualClock() if backend == "manual" else SystemClock(f"{self.name}-clock")
        self.clock: Clock = clock
        self._state = allocate_lock()  # protects stopping, _cause and _backends
        self._ended: Future[None] = Future()  # every component has ended, or was left behind
        self._over: Future[None] = Future()  # so have clock and backends
        self._overtime: ShutdownTimeoutError | None = None  # set before _over
        self._cause: BaseException | None = None
        self._registry = Registry()
        self._numbers = count(1)
        self.orders = count(1)  # of starts
        self._graveyard = Graveyard()
        self._default_kind = backend
        self._backends: dict[str, Any] = {backend: make_backend(backend, self.name, clock)}
        self.backend = self._backends[backend]
        # Where supervisor and recoveries run.
        self._core = self.backend if backend != "thread" else self._backend_of("pool")
        self._options = Options()
        self._supervisor = self._make_supervisor(Publisher(on_event, clock), on_undelivered)
        living_systems[self.key] = self
        self._at_exit = _at_exit(self)

    # -- components -------------------------------------------------------------------------

    def create(
        self,
        factory: Callable[[], Component[M]],
        *,
        name: str | None = None,
        backend: Literal["thread", "pool", "manual"] | None = None,
        budget: RestartLimit | None = None,
        fallback: Fallback = "end",
        mailbox_limit: int | None = None,
        overflow: Overflow = "error",
        inline_asks: bool = False,
        start: bool = False,
    ) -> ComponentRef[M]:
        """Make a component; it is passive until `start`.

        Args:
            factory: makes the component: a class, a function, a `functools.partial`. It is called
                here, on this thread, and again at a restart.
            name: 1 to 200 characters without `/` and control characters, unique among the living.
            backend: another one than the system's.
            budget: how often it may be restarted; by default 10 times in 10 s.
            fallback: what is done when its recovery raises, hangs or answers wrongly.
            mailbox_limit: messages that may wait, > 0; None for no limit. Signals and ticks are
                exempt.
            overflow: what a full mailbox does with a message: refuse it with `MailboxFullError`,
                drop it, or drop the oldest instead.
            inline_asks: let an ask of the idle component run its handler in the asker's thread.
            start: start it as well, with nobody waiting for that.

        Raises:
            ComponentCreateError: the factory raised, which is the cause, or made no component.
            DuplicateNameError: the name is taken.
            SystemShutdownError: the system is shutting down.
            ArgumentError, ArgumentTypeError, UnknownBackendError: for bad values.
        """
        if self.stopping:
            raise SystemShutdownError(
                f"system {self.name!r} is shutting down; create components before that"
            )
        if not callable(factory):
            raise ArgumentTypeError(
                f"factory is {factory!r}; give a class or a function that makes a component"
            )
        target = self.backend if backend is None else self._backend_of(backend)
        options = self._options
        if (
            budget is not None
            or fallback != "end"
            or mailbox_limit is not None
            or overflow != "error"
        ):
            options = _checked_options(budget, fallback, mailbox_limit, overflow)
        if name is not None:
            check_name(name)
        cell = Cell(self, next(self._numbers), name, factory, target, options)
        if name is None:
            try:
                cell.component = cell.make(factory)
            except BaseException as error:
                self._refuse_creation(cell, error)
        else:
            self._make_named(cell, name)
        if start:
            cell.control = START  # nobody else knows the cell yet
        self._registry.add(cell)
        if self.stopping:  # it began meanwhile, and may not have seen this one
            cell.signal(Cell.obey_kill, None, True)
        elif start and cell.flag.acquire(False):
            target.wake(cell)
        return InlineRef(cell) if inline_asks else ComponentRef(cell)

    def start(self, ref: ComponentRef[Any]) -> Future[None]:
        """Make the component active.

        Returns: a future, done when `on_start` has returned; it raises `ComponentFaultError` if
            that faulted, and `ComponentDestroyedError` if the component ended before.

        Raises:
            ComponentDestroyedError: the component has ended.
        """
        cell = self._cell(ref)
        if cell.state is State.DESTROYED:
            raise cell.gone()
        return self._signal(cell, Cell.obey_start)

    def stop(self, ref: ComponentRef[Any]) -> Future[None]:
        """Pause the component: it keeps its state, messages wait for the next start.

        Returns: a future, done when `on_stop` has returned, at once if there is nothing to stop;
            it raises `ComponentFaultError` if that faulted.
        """
        return self._signal(self._cell(ref), Cell.obey_stop)

    def kill(
        self, ref: ComponentRef[Any], *, brutal: bool = False, after_messages: bool = False
    ) -> Future[None]:
        """End the component for good.

        Args:
            brutal: run no hook.
            after_messages: let it handle what is waiting first, if it is active.

        Returns: a future, done when `on_kill` has returned and the name is free; it raises
            `ComponentFaultError` if that faulted.
        """
        return self._signal(self._cell(ref), Cell.obey_kill, brutal, after_messages)

    start_notify = start
    stop_notify = stop
    kill_notify = kill

    def find(self, path: str) -> ComponentRef[Any] | None:
        """The living component at `path`; None if there is none."""
        cell = self._registry.find(path)
        return None if cell is None else ComponentRef(cell)

    def tree(self) -> TreeNode:
        """A picture of the system: its root, with a child for each component."""
        now = self.clock.now()
        root = self._supervisor
        children = self._registry.nodes(now)
        return TreeNode(
            0, self.name, "", root.state, 1, 0, root.backend.kind, root.waiting(), None, children
        )

    # -- the end ----------------------------------------------------------------------------

    def shutdown(self, timeout: float | None = SHUTDOWN_TIMEOUT, *, drain: float = 0.0) -> None:
        """End every component, the last one started first, then the system.

        New components are refused from the call on. Each component has 5 s, then it is left
        behind. Called inside a component, it only sets this going. A second call waits for the
        end of the first.

        Args:
            timeout: seconds, >= 0, that the whole may take; None for no limit.
            drain: seconds, >= 0, in which components may handle what is waiting before they end.

        Raises:
            ShutdownTimeoutError: it took longer; what is left was abandoned.
            ArgumentError, ArgumentTypeError: for other values.
        """
        limit = lock_timeout(timeout)
        self._begin_shutdown(limit, nanoseconds(drain, "drain"))
        runner = here.runner
        if runner is not None and runner.cell is not None:
            return
        if isinstance(self.backend, ManualBackend):
            self._end_manually(limit)
        if not self._wait_until_over(limit):
            self._cut_short()
            self._wait_until_over(-1)
        if self._overtime is not None:
            raise self._overtime

    def wait(self, timeout: float | None = None) -> None:
        """Block until the system has ended.

        Args:
            timeout: seconds, >= 0; None waits for ever.

        Raises:
            TimeoutError: it has not ended in time.
            Exception: the cause, if the system stopped because a fault was escalated; a cause
                that is no `Exception` comes as `ComponentFaultError`.
        """
        if not self._wait_until_over(lock_timeout(timeout)):
            raise TimeoutError(f"system {self.name!r} has not ended within {timeout} s")
        if self._cause is not None:
            raise self._cause

    def run(
        self, *, shutdown_timeout: float | None = SHUTDOWN_TIMEOUT, drain: float = 0.0
    ) -> None:
        """Be the life of a program: wait for SIGINT or SIGTERM, then shut down in order.

        For the main thread. It installs handlers for the two signals and restores those it found.
        A second signal ends the wait for components that take long. It also returns when the
        system is shut down from elsewhere.

        Args:
            shutdown_timeout, drain: as `shutdown` takes them.

        Raises:
            ArgumentError: not called on the main thread.
            ShutdownTimeoutError: as `shutdown`.
            Exception: as `wait`.
        """
        if threading.current_thread() is not threading.main_thread():
            raise ArgumentError("run() installs signal handlers; call it on the main thread")
        limit = lock_timeout(shutdown_timeout)
        drain_time = nanoseconds(drain, "drain")
        news: SimpleQueue[str] = SimpleQueue()  # its put is reentrant, so handlers may call it
        found = {
            number: signal.signal(number, lambda *_: news.put("signal"))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        self._over.add_done_callback(lambda _: news.put("over"))
        try:
            signals = 0
            while news.get() != "over":
                signals += 1
                if signals == 1:
                    self._begin_shutdown(limit, drain_time)
                else:
                    self._cut_short()
        finally:
            for number, handler in found.items():
                signal.signal(number, handler)
        if self._overtime is not None:
            raise self._overtime
        self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()
        if error is None and self._cause is not None:
            raise self._cause

    def __repr__(self) -> str:
        return f"<ComponentSystem {self.name!r}, {len(self._registry)} components>"

    # -- for cells and supervisor -----------------------------------------------------------

    def tell_supervisor(self, message: Any) -> None:
        """Send the root supervisor a fault, a decision or an event."""
        self._supervisor.send(message)

    emit = tell_supervisor
    supervise = tell_supervisor

    def undelivered(self, cell: Cell, messages: Sequence[Any], reason: str) -> None:
        """Make dead letters of `messages`."""
        if cell is not self._supervisor:
            self.emit(Undelivered(identity(cell), tuple(messages), reason))

    def run_job(self, job: RecoveryJob) -> None:
        """Have `job` run off the supervisor's turn."""
        self._core.wake(job)

    def watch(self, deadline: Deadline) -> None:
        """Have the watchdog look after `deadline`."""
        self._core.watch(deadline)

    def unwatch(self, deadline: Deadline) -> None:
        """The watchdog need not look after it any more."""
        self._core.unwatch(deadline)

    def forget(self, cell: Cell) -> Graveyard:
        """Strike out a component that has ended; returns where it runs from now on."""
        self._registry.remove(cell)
        return self._graveyard

    def cell_of(self, number: int | None) -> Cell | None:
        """The living component of that number."""
        return self._registry.get(number)

    def ref_of(self, number: int) -> ComponentRef[Any] | None:
        """A ref of the living component of that number."""
        cell = self._registry.get(number)
        return None if cell is None else ComponentRef(cell)

    def in_start_order(self) -> list[Cell]:
        """Every component, the first started first."""
        return self._registry.in_start_order()

    def new_future(self) -> Future[Any]:
        """A future that waits as this system's backend needs it."""
        if isinstance(self.backend, ManualBackend):
            return ManualFuture(self.backend)
        return Future()

    def note_interrupt(self, interrupt: BaseException) -> None:
        """Ctrl+C hit a component: where that ran on the main thread, it is raised again (S-35)."""
        if isinstance(self.backend, ManualBackend):
            self.backend.interrupt = interrupt

    # -- private ----------------------------------------------------------------------------

    def _make_supervisor(
        self,
        publisher: Publisher,
        on_undelivered: Callable[[str, Any], object] | None,
    ) -> Cell:
        def make() -> ComponentSupervisor:
            return ComponentSupervisor(publisher, on_undelivered, self._escalate)

        cell = Cell(self, 0, "supervisor", make, self._core, self._options)
        cell.component = cell.make(make)
        cell.signal(Cell.obey_start, None)
        return cell

    def _cell(self, ref: ComponentRef[Any]) -> Cell:
        if not isinstance(ref, ComponentRef):
            raise ArgumentTypeError(f"{ref!r} is no component ref; give what create returned")
        cell = ref._cell
        if cell.system is not self:
            raise ArgumentError(
                f"component {cell.path!r} belongs to system {cell.system.name!r}, "
                f"not to {self.name!r}; ask that one"
            )
        return cell

    def _signal(self, cell: Cell, obey: Callable[..., None], *arguments: Any) -> Future[None]:
        future = self.new_future()
        cell.signal(obey, future, *arguments)
        return future

    def _backend_of(self, kind: str) -> Any:
        check_kind(kind)
        if (kind == "manual") != (self._default_kind == "manual"):
            raise UnknownBackendError(
                f"backend is {kind!r}, and system {self.name!r} runs on {self._default_kind!r}; "
                "a test drives all components of a system or none"
            )
        with self._state:
            backend = self._backends.get(kind)
            if backend is None:
                backend = self._backends[kind] = make_backend(kind, self.name, self.clock)
        return backend

    def _make_named(self, cell: Cell, name: str) -> None:
        """Reserve the name and make the component, or leave nothing."""
        registry = self._registry
        predecessor = self._predecessor(name)
        if predecessor is None:
            registry.take_name(cell, name)
        else:
            registry.pass_name_on(cell, name)
        try:
            cell.component = cell.make(cell.factory)
        except BaseException as error:
            registry.free_name(cell)
            if predecessor is not None:
                registry.pass_name_on(predecessor.fault._facts.cell, name)
            self._refuse_creation(cell, error)
        if predecessor is not None:
            predecessor.superseded = True

    def _refuse_creation(self, cell: Cell, error: BaseException) -> NoReturn:
        """Report that a first creation raised `error`, and raise what its caller is to get."""
        self.emit(events.CreateFailed(*identity(cell), type(error).__qualname__))
        if isinstance(error, KeyboardInterrupt | InvalidComponentError | ReservedNameError):
            raise error
        raise ComponentCreateError(
            f"component {cell.path!r} could not be created: {type(error).__qualname__}; "
            "see the cause"
        ) from error

    def _predecessor(self, name: str) -> RecoveryJob | None:
        """The recovery on this thread whose component bears `name`, which it may pass on."""
        runner = here.runner
        job = runner.cell if runner is not None else None
        if type(job) is not RecoveryJob or job.fault.name != name:
            return None
        return job if self._registry.find(name) is job.fault._facts.cell else None

    def _escalate(self, cause: BaseException) -> None:
        with self._state:
            if self._cause is None:
                self._cause = cause
        self._begin_shutdown(SHUTDOWN_TIMEOUT, 0)

    def _begin_shutdown(self, limit: float, drain: int) -> None:
        with self._state:
            if self.stopping:
                return
            self.stopping = True
        atexit.unregister(self._at_exit)
        self._supervisor.send(EndAll(self._ended, self.clock.now() + drain if drain else 0))
        if not isinstance(self.backend, ManualBackend):
            threading.Thread(
                target=self._end, args=(limit,), name=f"{self.name}-shutdown", daemon=True
            ).start()

    def _end(self, limit: float) -> None:
        """Wait until every component has ended, then end clock and backends."""
        try:
            self._ended.result(None if limit == -1 else limit)
        except TimeoutError:
            self._overtime = ShutdownTimeoutError(
                f"system {self.name!r} did not end within {limit:g} s; "
                f"{len(self._registry)} components were left behind"
            )
        self.clock.close()
        with self._state:
            backends = tuple(self._backends.values())
        for backend in backends:
            backend.close(1.0)
        # From now on events are published by whoever emits them.
        self._supervisor.backend = self._graveyard
        if self._supervisor.flag.acquire(False):
            self._graveyard.wake(self._supervisor)
        self._over.set_result(None)

    def _end_manually(self, limit: float) -> None:
        if not self._over.done():
            self.backend.run_until(self._ended.done, limit)
            self._end(0.0)

    def _cut_short(self) -> None:
        """Wait no longer for components to end."""
        error = TimeoutError()
        try:
            self._ended.set_exception(error)
        except InvalidStateError:  # they have just ended
            pass

    def _wait_until_over(self, limit: float) -> bool:
        if isinstance(self.backend, ManualBackend):
            self.backend.run_until(self._over.done, limit)
        try:
            self._over.result(None if limit == -1 else limit)
        except TimeoutError:
            return False
        return True


class LateReplies:
    """The `done` of asks whose asker has given up: it counts the replies that nobody gets."""

    def __init__(self) -> None:
        self._lock = allocate_lock()  # protects count
        self.count = 0

    def release(self) -> None:
        """A reply came too late."""
        with self._lock:
            self.count += 1


def _checked_options(
    budget: RestartLimit | None,
    fallback: str,
    mailbox_limit: int | None,
    overflow: str,
) -> Options:
    if budget is None:
        budget = RestartLimit()
    elif not isinstance(budget, RestartLimit):
        raise ArgumentTypeError(f"budget is {budget!r}; give a RestartLimit")
    if fallback not in get_args(Fallback):
        raise ArgumentError(f"fallback is {fallback!r}; give one of {get_args(Fallback)}")
    if overflow not in get_args(Overflow):
        raise ArgumentError(f"overflow is {overflow!r}; give one of {get_args(Overflow)}")
    if mailbox_limit is not None:
        if isinstance(mailbox_limit, bool) or not isinstance(mailbox_limit, int):
            raise ArgumentTypeError(f"mailbox_limit is {mailbox_limit!r}; give a whole number > 0")
        if mailbox_limit < 1:
            raise ArgumentError(f"mailbox_limit is {mailbox_limit}; give a whole number > 0")
    return Options(budget, fallback, mailbox_limit, overflow)  # type: ignore[arg-type]


def _at_exit(system: ComponentSystem) -> Callable[[], None]:
    """What the end of the program does about a system that is still open."""
    weak = weakref.ref(system)

    def end() -> None:
        left = weak()
        if left is not None and not left.stopping:
            warnings.warn(
                f"system {left.name!r} was still open at exit; shut it down, or use `with`",
                ResourceWarning,
                stacklevel=1,
            )
            left.shutdown(AT_EXIT_TIMEOUT)

    atexit.register(end)
    return end
