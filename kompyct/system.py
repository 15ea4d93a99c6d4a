"""How do components, backends, clock and supervisor make a system?"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar

from kompyct import signals
from kompyct.cell import START, Cell
from kompyct.children import NOT_FOR_SUPERVISORS, refuse_for_supervisors
from kompyct.clock import Clock, ManualClock, lock_timeout, nanoseconds
from kompyct.codecs import DumpsLoads, codec_for
from kompyct.component import Component
from kompyct.creation import make_first
from kompyct.ending import discard
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    ShutdownTimeoutError,
    StoreError,
    SystemShutdownError,
)
from kompyct.events import Event
from kompyct.lifecycle import State
from kompyct.options import (
    POISON_AFTER,
    Durability,
    Fallback,
    Options,
    Overflow,
    check_durability,
    check_kind,
    checked_memory_limit,
    checked_options,
    checked_time_limit,
)
from kompyct.ref import ComponentRef, ref_to
from kompyct.registry import TreeNode, check_name
from kompyct.restart import RestartLimit
from kompyct.runtime import SHUTDOWN_TIMEOUT, Runtime
from kompyct.service import run_until_signalled
from kompyct.supervisor import ComponentSupervisor, check_placement
from kompyct.waiting import here

if TYPE_CHECKING:
    from kompyct.channels import Channel
    from kompyct.groups import Group
    from kompyct.notices import Terminated
    from kompyct.poison import PoisonMessage
    from kompyct.ports import PortRef, Provided, Required
    from kompyct.store.snapshots import SnapshotStore

M = TypeVar("M")
Q = TypeVar("Q")
N = TypeVar("N")


class ComponentSystem:
    """A set of components under one root supervisor.

    A context manager: leaving it shuts the system down in order. Any number of systems may live
    in one process; they share nothing. Every method is for any thread.

    Args:
        name: names the system's threads; made up if left out.
        backend: where components run unless `create` says otherwise: "thread", a thread for each;
            "pool", a few threads for all; "process", a process for each, which may crash or be
            killed; "manual", the test's own thread (see `kompyct.testing.TestSystem`).
        clock: a `Clock`; by default real time, with "manual" a `ManualClock`.
        on_event: called with each event, on the supervisor's thread; must not block. After ten
            exceptions of its own it is called no more.
        on_undelivered: called with (path, message) for each dead letter, on that thread as well.
        recovery_deadline: seconds, > 0, that a recovery function and its handler may take.
        store: where components with a name keep their snapshots beyond the process: a folder,
            with `{worker}` in its path for one of several processes, or a `SnapshotStore`. They
            go on from there at the next start, see `create`.
        durability: of saves: "memory" writes them into the store behind, at most 100 ms later;
            with "durable" each returns when it is on the disk.
        trust: in the folder: "local" refuses what others could have written; a key of bytes seals
            every record.
        codec: what snapshots are encoded with: "pickle", "json", or anything with `dumps` and
            `loads`.
        time_limit, memory_limit: of components that are created without their own, see `create`.
        stall_after: seconds > 0; a component that has been in one handler or hook for so long is
            reported, once, by `ComponentStalled`, and not interrupted. None: nobody looks.

    Raises:
        RuntimeError: the operating system gives no thread.
        StoreLockedError, TrustError, VersionError, StoreError: the store cannot be had.
        UnknownBackendError: for another backend.
        ArgumentError, ArgumentTypeError: for other bad values.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        backend: Literal["thread", "pool", "process", "manual"] = "thread",
        clock: Clock | None = None,
        on_event: Callable[[Event], object] | None = None,
        on_undelivered: Callable[[str, Any], object] | None = None,
        recovery_deadline: float = 5.0,
        store: str | os.PathLike[str] | SnapshotStore | None = None,
        durability: Durability = "memory",
        trust: Literal["local"] | bytes = "local",
        codec: Literal["pickle", "json"] | DumpsLoads = "pickle",
        time_limit: float | None = None,
        memory_limit: int | str | None = None,
        stall_after: float | None = None,
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
        if clock is not None and not all(
            callable(getattr(clock, method, None)) for method in ("now", "set", "close")
        ):
            raise ArgumentTypeError(f"clock is {clock!r}; give a Clock or None")
        if backend == "manual" and clock is not None and not isinstance(clock, ManualClock):
            raise ArgumentTypeError(f"clock is {clock!r}; the manual backend needs a ManualClock")
        chosen = codec_for(codec)
        options = Options(
            time_limit=checked_time_limit(time_limit),
            memory_limit=checked_memory_limit(memory_limit),
        )
        stall = None if stall_after is None else nanoseconds(stall_after, "stall_after")
        if stall == 0:
            raise ArgumentError(f"stall_after is {stall_after!r}; give > 0 seconds, or None")
        if trust != "local" and store is None:
            raise ArgumentError("trust= is for what is in a store; give store= as well")
        check_durability(durability, "this system", has_store=store is not None)
        self._runtime = Runtime(
            self,
            name,
            backend,
            clock,
            deadline,
            on_event,
            on_undelivered,
            chosen,
            store,
            durability,
            trust,
            options,
        )
        if stall is not None:
            try:
                self._runtime.watch_stalls(stall)
            except RuntimeError:
                self.shutdown()
                raise

    @property
    def name(self) -> str:
        """The system's name."""
        return self._runtime.name

    @property
    def clock(self) -> Clock:
        """The clock of its timers and events."""
        return self._runtime.clock

    # -- components -------------------------------------------------------------------------

    def create(
        self,
        factory: Callable[[], Component[M]],
        *,
        name: str | None = None,
        backend: Literal["thread", "pool", "process", "manual"] | None = None,
        budget: RestartLimit | None = None,
        fallback: Fallback = "end",
        mailbox_limit: int | None = None,
        overflow: Overflow = "error",
        inline_asks: bool = False,
        standby: bool = False,
        overlap: bool = False,
        time_limit: float | None = None,
        memory_limit: int | str | None = None,
        poison_after: int | None = POISON_AFTER,
        start: bool = False,
        fresh: bool = False,
    ) -> ComponentRef[M]:
        """Make a component; it is passive until `start`.

        In a system with a store, a component whose name has an unfinished snapshot there does
        not come from `factory`: its recovery function is called, with `PROCESS_LOST`, or with
        `SHUTDOWN` after an orderly end, and makes the first incarnation (S-25). If that answers
        `end()` or `ignore()` the ref names a component that has ended.

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
            standby: keep a further process that has loaded what the component needs, so that
                recovery from the end of its process takes less time; for backend "process".
            overlap: let the next incarnation start while the process before it, which has
                crashed, is still ending; it must share nothing with it but its snapshots.
            time_limit: seconds > 0 that each message and tick may take, else the component faults
                with `FaultKind.HANG`. It is interrupted by an `ExecutionTimeout`; if that does
                not help within 80 ms, or a twelfth of the limit, its thread is left behind;
                after 250 ms at least its process is ended, if it has one. None for the system's.
            memory_limit: bytes, or a text such as "512 MiB"; if its process uses more while it
                handles a message, the component faults with `FaultKind.MEMORY`, as above. In this
                process that is the memory of all components together. None for the system's.
            poison_after: faults, >= 1, with the same message in hand after which that does not
                come back but is set aside, see `poison`; None: it comes back until the budget is
                used up. For messages with `OnRestart.REDELIVER`, since others never come back.
            start: start it as well, with nobody waiting for that.
            fresh: leave alone what an earlier process has stored under the name; the first save
                takes its place.

        Raises:
            ComponentCreateError: the factory raised, which is the cause; or it could not be
                recovered from what is stored, which stays, or `escalate()` was answered.
            RecoveryImportError: its stored recovery function cannot be found.
            VersionError: that was pickled by cloudpickle under another Python.
            StoreError: the store cannot be read.
            InvalidComponentError: it made no component, or one already in use.
            ReservedNameError: the component's class defines or assigns a reserved name.
            DuplicateNameError: the name is taken.
            SystemShutdownError: the system is shutting down.
            ArgumentError, ArgumentTypeError, UnknownBackendError: for bad values.
            RuntimeError: with `start`, the operating system gives no thread; nothing is left.
        """
        runtime = self._runtime
        if runtime.stopping:
            self._refuse_new()
        if not callable(factory):
            raise ArgumentTypeError(
                f"factory is {factory!r}; give a class or a function that makes a component"
            )
        target = runtime.backend if backend is None else runtime.backend_of(backend)
        options = runtime.options
        if (
            budget is not None
            or fallback != "end"
            or mailbox_limit is not None
            or overflow != "error"
            or inline_asks
            or standby
            or overlap
            or time_limit is not None
            or memory_limit is not None
            or poison_after is not POISON_AFTER
        ):
            options = checked_options(
                budget,
                fallback,
                mailbox_limit,
                overflow,
                inline_asks=inline_asks,
                standby=standby,
                overlap=overlap,
                time_limit=checked_time_limit(time_limit) or options.time_limit,
                memory_limit=checked_memory_limit(memory_limit) or options.memory_limit,
                poison_after=poison_after,
            )
            if (standby or overlap) and target.kind != "process":
                raise ArgumentError(
                    f"standby= and overlap= are for backend='process', not {target.kind!r}"
                )
        if name is not None:
            check_name(name)
        if isinstance(factory, ComponentSupervisor):
            given = (
                inline_asks, mailbox_limit, overflow, poison_after, standby, overlap, time_limit,
                memory_limit,
            )  # fmt: skip
            what = "a component" if name is None else f"component {name!r}"
            refuse_for_supervisors(dict(zip(NOT_FOR_SUPERVISORS, given, strict=True)), what)
            for spec in factory.children:
                check_placement(spec, target.kind, runtime.kind)
        cell = runtime.new_cell(name, factory, target, options)
        if start and cell.is_supervisor:
            cell.add_signal(START[0])
        elif start:
            cell.control = START  # nobody else knows the cell yet
        if not make_first(cell, fresh=fresh):  # it has gone on from what was stored of it
            if runtime.stopping:
                self._refuse_new()
            if start:
                cell.signal(signals.start, None)
            return ref_to(cell)
        runtime.registry.add(cell)
        if runtime.stopping:  # it began meanwhile, and may not have seen this one
            cell.add_signal((signals.kill, (None, True, False, True)), first=True)
            cell.backend.wake(cell)
            self._refuse_new()
        if start:
            try:
                cell.backend.wake(cell)
            except RuntimeError:  # the flag is still ours
                discard(cell)
                raise
        else:
            cell.flag.release()
            if cell.control and cell.flag.acquire(False):  # a ref got out of __init__
                cell.backend.wake(cell)
        return ref_to(cell)

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
        return self._signal(cell, signals.start)

    def stop(self, ref: ComponentRef[Any]) -> Future[None]:
        """Pause the component: it keeps its state, messages wait for the next start.

        Returns: a future, done when `on_stop` has returned, at once if there is nothing to stop;
            it raises `ComponentFaultError` if that faulted, and `ArgumentError` for a supervisor,
            which cannot be paused.
        """
        return self._signal(self._cell(ref), signals.stop)

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
        return self._signal(self._cell(ref), signals.kill, brutal, after_messages)

    start_notify = start
    stop_notify = stop
    kill_notify = kill

    def find(self, path: str) -> ComponentRef[Any] | None:
        """The living component that was given the name `path`; None if there is none.

        Raises:
            ArgumentTypeError: `path` is no text.
        """
        if not isinstance(path, str):
            raise ArgumentTypeError(f"path is {path!r}; give a text")
        cell = self._runtime.registry.find(path)
        return None if cell is None else ref_to(cell)

    def ended(self, ref: ComponentRef[Any]) -> Future[Terminated]:
        """A future that is done when the component has ended for good, at once if it has.

        What `Component.watch` is for components this is for the rest of a program.

        Raises:
            ArgumentTypeError: `ref` is no ref.
        """
        runtime = self._runtime
        future = runtime.new_future()
        runtime.watches.ended(ref, future)
        return future

    def register(self, name: str, ref: ComponentRef[Any]) -> None:
        """Give the component a service name, for `whereis`; it may have several.

        The name follows the component through its restarts and is free when it has ended for
        good, before those who watch it are told. It has nothing to do with the name given to
        `create`. To register a component again under its own name changes nothing, so that
        `on_start` may do it.

        Args:
            name: 1 to 200 characters without `/` and control characters.

        Raises:
            DuplicateNameError: a living component has it.
            ComponentDestroyedError: the component has ended.
            NotStartedError: called in its `__init__`; register from `on_start` on.
            ArgumentError, ArgumentTypeError: for bad values, or a component of another system.
        """
        self._runtime.names.register(name, self._cell(ref))

    def unregister(self, name: str) -> bool:
        """Take a service name from the component that has it; returns whether one had.

        Raises:
            ArgumentError, ArgumentTypeError: it cannot be a name.
        """
        return self._runtime.names.unregister(name)

    def whereis(self, name: str) -> ComponentRef[Any] | None:
        """The living component that has the service name; None if there is none.

        Raises:
            ArgumentError, ArgumentTypeError: it cannot be a name.
        """
        cell = self._runtime.names.whereis(name)
        return None if cell is None else ref_to(cell)

    def group(self, name: str) -> Group[Any]:
        """The group of that name, which has those components that join it; see `Group`.

        Groups need not be made or ended, and each system has its own.

        Raises:
            ArgumentError, ArgumentTypeError: it cannot be a name.
        """
        return self._runtime.groups.get(name)

    def connect(
        self, provided: PortRef[Provided[Q, N]], required: PortRef[Required[Q, N]]
    ) -> Channel:
        """Connect two ports: `connect(Buncher.batches.of(one), Printer.batches.of(other))`.

        From then on what the first triggers comes to the second as an indication, and what the
        second triggers to the first as a request, whatever state they are in: it waits in their
        mailboxes. The channel stays through recoveries, and ends with either of them, or by
        `disconnect`. A port may have any number of channels.

        Args:
            provided: where requests go.
            required: of the same type of port.

        Raises:
            ChannelError: they are not of one type; not one provided and one required; not
                declared by these components; of one component; connected already; or what is
                required would lead back to where it began, over any number of channels.
            ComponentDestroyedError: one of them has ended.
            RestartingError: one of them has never come up, so its ports are not known.
            ArgumentError, ArgumentTypeError: they are of another system, or no ports.
        """
        return self._runtime.channels.connect(provided, required)

    def disconnect(self, channel: Channel) -> None:
        """End a channel, if it has not ended. What is in the mailboxes is handled still.

        Raises:
            ArgumentError, ArgumentTypeError: it is of another system, or no channel.
        """
        key = getattr(channel, "system_key", None)
        if key is None:
            raise ArgumentTypeError(f"{channel!r} is no channel; give what connect returned")
        if key != self._runtime.key:
            raise ArgumentError(f"the {channel} belongs to another system than {self.name!r}")
        self._runtime.channels.disconnect(channel)

    def tree(self) -> TreeNode:
        """A picture of the system: its root, with a child for each component."""
        runtime = self._runtime
        root = runtime.supervisor
        return TreeNode(
            0,
            runtime.name,
            "",
            root.state,
            root.incarnation,
            0,
            root.backend.kind,
            root.waiting(),
            None,
            runtime.registry.nodes(runtime.clock.now()),
        )

    def poison(self) -> tuple[PoisonMessage, ...]:
        """The messages that are set aside, the oldest first; also when the system has ended.

        Each was told, has `OnRestart.REDELIVER`, and was in hand at `poison_after` faults of its
        component, see `create`. An ask of which that is true has failed with `PoisonMessageError`
        and is not kept. At most 1,000 are; of more, the oldest become dead letters.
        """
        return self._runtime.poison.every()

    def resend(self, number: int) -> None:
        """Tell the message that is set aside as `number` to its component once more.

        It is no longer set aside, and its faults are counted from none.

        Raises:
            ArgumentError, ArgumentTypeError: there is none of that number.
            ComponentDestroyedError: the component has ended; the message stays set aside.
            MailboxFullError: as `tell`; the message stays set aside.
        """
        self._runtime.poison.resend(number)

    def discard_poison(self, number: int) -> None:
        """Forget the message that is set aside as `number`.

        Raises:
            ArgumentError, ArgumentTypeError: there is none of that number.
        """
        self._runtime.poison.take(number)

    def flush(self) -> None:
        """Return when everything saved so far is on the disk.

        What was registered from outside, by a ref, counts from when its component has taken it up.

        Raises:
            StoreError: it is not; it will be tried again. Or the system has no store.
        """
        writer = self._runtime.writer
        if writer is None:
            raise StoreError(f"system {self.name!r} has no store; give it store=")
        self._runtime.take_up_saves()
        writer.flush()

    def recover(self) -> tuple[ComponentRef[Any], ...]:
        """Go on with every component of an earlier process that nobody has created.

        Each by its stored recovery function, as `create` does it, on the system's own backend and
        with the default budget; those that were active are started. Call it once everything that
        the program creates by itself has been created: what had been added to a supervisor goes
        on below that, as a transient child. What cannot go on stays in the store and is reported
        by an event `NotRecovered`.

        Returns: refs of those that were recovered, or have ended as their functions wanted.

        Raises:
            StoreError: the store cannot be read, or there is none.
            SystemShutdownError: the system is shutting down.
        """
        runtime = self._runtime
        if runtime.stopping:
            self._refuse_new()
        if runtime.writer is None:
            raise StoreError(f"system {self.name!r} has no store; give it store=")
        from kompyct.claims import recover_unclaimed  # most systems have no store

        return tuple(ref_to(cell) for cell in recover_unclaimed(runtime))

    @property
    def late_replies(self) -> int:
        """Replies so far that came after their asker had given up."""
        return self._runtime.late_replies.count

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
            StoreError: the last saves could not be stored.
            ArgumentError, ArgumentTypeError: for other values.
        """
        limit = lock_timeout(timeout)
        runtime = self._runtime
        runtime.begin_shutdown(limit, nanoseconds(drain, "drain"))
        runner = here.runner
        if runner is not None and runner.cell is not None:
            return
        if not runtime.wait_until_over(limit):
            runtime.cut_short()
            runtime.wait_until_over(-1)
        if runtime.overtime is not None:
            raise runtime.overtime from runtime.cause
        if runtime.store_error is not None:
            raise runtime.store_error

    def wait(self, timeout: float | None = None) -> None:
        """Block until the system has ended.

        Args:
            timeout: seconds, >= 0; None waits for ever.

        Raises:
            TimeoutError: it has not ended in time.
            Exception: the cause, if the system stopped because a fault was escalated; a cause
                that is no `Exception` comes as `ComponentFaultError`.
        """
        if not self._runtime.wait_until_over(lock_timeout(timeout)):
            waited = "" if timeout is None else f" within {timeout:g} s"
            raise TimeoutError(f"system {self.name!r} has not ended{waited}; call shutdown()")
        if self._runtime.cause is not None:
            raise self._runtime.cause

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
            ArgumentError: not called on the main thread, or on a system that a test drives.
            ShutdownTimeoutError: as `shutdown`.
            Exception: as `wait`.
        """
        if self._runtime.kind == "manual":
            raise ArgumentError(
                f"system {self.name!r} is driven by its test; call advance() or shutdown()"
            )
        run_until_signalled(
            self._runtime, lock_timeout(shutdown_timeout), nanoseconds(drain, "drain")
        )
        self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        runtime = self._runtime
        if not runtime.over.done():
            try:
                self.shutdown()
            except (ShutdownTimeoutError, StoreError):
                if error is None:
                    raise
        if error is None and runtime.cause is not None:
            raise runtime.cause

    def __repr__(self) -> str:
        return f"<ComponentSystem {self.name!r}, {len(self._runtime.registry)} components>"

    # -- private ----------------------------------------------------------------------------

    def _cell(self, ref: ComponentRef[Any]) -> Cell:
        if not isinstance(ref, ComponentRef):
            raise ArgumentTypeError(f"{ref!r} is no component ref; give what create returned")
        cell = ref._cell
        if cell.runtime is not self._runtime:
            raise ArgumentError(
                f"component {cell.path!r} belongs to system {cell.runtime.name!r}, "
                f"not to {self.name!r}; ask that one"
            )
        return cell

    def _signal(self, cell: Cell, obey: Callable[..., None], *arguments: Any) -> Future[None]:
        future = self._runtime.new_future()
        cell.signal(obey, future, *arguments)
        return future

    def _refuse_new(self) -> NoReturn:
        raise SystemShutdownError(
            f"system {self.name!r} is shutting down; create components before that"
        )
