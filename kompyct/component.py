"""What does the author of a component write, and what may they call?"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NoReturn, TypeVar

from kompyct.checks import closes_over
from kompyct.clock import nanoseconds
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    IncarnationEndedError,
    NotStartedError,
    ReservedNameError,
    UnboundComponentError,
    UnhandledMessageError,
)
from kompyct.fault_classes import FaultClass
from kompyct.faults import RecoveryFunction
from kompyct.lifecycle import Ending, Phase, State
from kompyct.options import Durability, check_durability
from kompyct.ref import ComponentRef, EarlyRef, ref_to
from kompyct.registration import Registration
from kompyct.timers import Timer
from kompyct.waiting import here

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.system import ComponentSystem
    from kompyct.triggering import OwnPort

M = TypeVar("M")
T = TypeVar("T")
# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
ACTIVE = State.ACTIVE
CREATE = Phase.CREATE

NO_SNAPSHOT: Any = object()
"""The default of `snapshot=`: None is a value like any other (S-09)."""


class Component(Generic[M]):
    """The base of components; `M` is the type of the messages it takes.

    A subclass needs no `super().__init__()`. Its hooks, and the actions of its timers, are called
    one at a time, on a thread that the backend chooses. It is made by `ComponentSystem.create`;
    one object is one incarnation.

    Names that begin with `_kompyct_` are its own. It has no `__slots__`: a slot in the base class
    would switch off CPython's inline attribute values in every subclass, which costs each
    `self.count += 1` 65 ns on 3.13.
    """

    fault_classes: ClassVar[Mapping[type[BaseException], FaultClass]] = {}
    """How exceptions of foreign types are treated; the most specific declared class decides."""

    _kompyct_cell: Cell | None = None
    _kompyct_registration: Registration | None = None
    _kompyct_kept: list[AbstractContextManager[Any]] | None = None
    # Of its class, see `ports.plan_ports`; and what it has of its own ports, when it uses them.
    _kompyct_ports: Mapping[str, tuple[bool, str]] = {}
    _kompyct_handlers: Mapping[str, str] = {}
    _kompyct_own_ports: dict[str, OwnPort[Any]] | None = None

    # -- hooks ------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Called when the component becomes active, before its first message."""

    def on_stop(self) -> None:
        """Called when the component is paused; state and messages are kept."""

    def on_kill(self) -> None:
        """Called when the component ends in order. By default `on_stop`, unless it is paused."""
        cell = self._kompyct_cell
        if cell is not None and cell.state is ACTIVE:
            self.on_stop()

    def on_receive(self, message: M) -> object:
        """Handle `message`; what it returns is the reply if it was asked.

        Raises:
            UnhandledMessageError: always, unless a subclass takes the message.
        """
        self.unhandled(message)

    # -- for use inside ---------------------------------------------------------------------

    @property
    def ref(self) -> ComponentRef[M]:
        """The ref of this component, to give to others."""
        cell = self._kompyct_living_cell()
        return ref_to(cell) if self._kompyct_cell is not None else EarlyRef(cell)

    @ref.setter
    def ref(self, value: object) -> NoReturn:
        self._kompyct_refuse("ref")

    @property
    def system(self) -> ComponentSystem:
        """The system this component runs in."""
        return self._kompyct_living_cell().runtime.system

    @system.setter
    def system(self, value: object) -> NoReturn:
        self._kompyct_refuse("system")

    @property
    def log(self) -> logging.Logger:
        """The logger `kompyct.component`, followed by the component's path."""
        return logging.getLogger(f"kompyct.component.{self._kompyct_path()}")

    @log.setter
    def log(self, value: object) -> NoReturn:
        self._kompyct_refuse("log")

    @property
    def ending(self) -> Ending | None:
        """Why the component is ending, for its `on_kill`; None while it is not."""
        history = self._kompyct_living_cell()._history
        return None if history is None else history.ending

    def schedule_once(self, delay: float, action: Callable[[], object]) -> Timer:
        """Call `action()` once, as a message of its own.

        Args:
            delay: seconds, >= 0; never earlier than that.

        Raises:
            ArgumentError, ArgumentTypeError: for another delay, or an action not callable.
            NotStartedError: the component is not active; schedule from `on_start`.
        """
        return self._kompyct_schedule(nanoseconds(delay, "delay"), 0, action, "skip")

    def schedule_periodic(
        self,
        delay: float,
        period: float,
        action: Callable[[], object],
        *,
        missed: Literal["skip", "burst"] = "skip",
    ) -> Timer:
        """Call `action()` after `delay`, then each `period`, until the component stops.

        Due times are multiples of the period, so that a late tick delays none after it.

        Args:
            delay: seconds, >= 0.
            period: seconds, > 0.
            missed: what becomes of ticks that fall due while one is waiting: left out, or made
                up for one after the other.

        Raises:
            ArgumentError, ArgumentTypeError: for other values.
            NotStartedError: the component is not active; schedule from `on_start`.
        """
        first = nanoseconds(delay, "delay")
        every = nanoseconds(period, "period")
        if not every:
            raise ArgumentError(f"period is {period!r}; give a number of seconds > 0")
        return self._kompyct_schedule(first, every, action, missed)

    def set_recovery_function(
        self,
        function: RecoveryFunction,
        *,
        snapshot: Any = NO_SNAPSHOT,
        durability: Durability | None = None,
    ) -> None:
        """Have `function` called at a fault, with `snapshot` as it is now.

        The snapshot is encoded at the call, so later changes of the object do not show. Both
        belong to the component and stay until they are replaced (S-09); the save takes effect at
        once and is kept even if the same handler then faults (S-10).

        Args:
            function: takes a `FaultContext`, returns a `RecoveryHandler` made by it.
            snapshot: any value that can be pickled; left out, there is no snapshot.
            durability: "memory": in a system with a store, a component with a name has its saves
                written there at most 100 ms later. "durable": the call returns when it is on the
                disk. None: as the system was told. What `__init__` saves is stored when the
                component has been made.

        Raises:
            ArgumentTypeError: `function` is not callable.
            ArgumentError: `durability` is something else, or "durable" without store or name.
            SnapshotError: the snapshot cannot be encoded, or not be stored; the one before stays.
            StoreError: it is not on the disk; it counts all the same, and will be tried again.
            NotStartedError: "durable" in `__init__`, where there is nothing to be recovered yet.
        """
        cell = self._kompyct_living_cell()
        incarnation = cell.incarnation
        stored = cell.stored
        # Once more: a late thread must not have a later number (S-06), nor find no place left.
        self._kompyct_living_cell()
        if not callable(function):
            raise ArgumentTypeError(
                f"the recovery function is {function!r}; give a function of the fault context"
            )
        if closes_over(function, self):
            warnings.warn(
                f"the recovery function {function!r} refers to the component itself, which by "
                "then has faulted and may be half changed; close over plain values, or use "
                "snapshot=",
                stacklevel=2,
            )
        runtime = cell.runtime
        data = None if snapshot is NO_SNAPSHOT else runtime.codec.encode(snapshot)
        registration = Registration(
            function,
            data,
            runtime.clock.now(),
            cell.position(),
            cell.active_period,
            CREATE if self._kompyct_cell is None else cell.hook,
        )
        if stored is None:
            if durability is not None:
                path = self._kompyct_path()
                check_durability(durability, f"component {path!r}", has_store=False)
            before = self._kompyct_registration or cell.recovery
            self._kompyct_registration = registration.following(before)
            return
        if durability is not None:
            check_durability(durability, stored.path, has_store=stored.has_store)
        if durability == "durable" and self._kompyct_cell is None:
            raise NotStartedError(
                f"component {stored.path!r} is being made; save durably from on_start on"
            )
        cell.prepare(registration)
        before = self._kompyct_registration or cell.recovery
        self._kompyct_registration = registration.following(before)
        if self._kompyct_cell is None:
            return  # stored when there is something to recover
        durably = (durability or runtime.durability) == "durable"
        stored.save(registration, incarnation, durably=durably)

    def keep(self, resource: AbstractContextManager[T]) -> T:
        """Enter `resource` and tie it to this active period.

        It is left, last one first, on stop, kill or fault, before the next `on_start`, within
        5 s: so a socket or a file lock is free again for the replacement (S-05).

        Returns: what entering it returned.

        Raises:
            ArgumentTypeError: `resource` is no context manager.
            NotStartedError: the component is not active, or no longer; keep from `on_start`.
        """
        if not (hasattr(resource, "__enter__") and hasattr(resource, "__exit__")):
            raise ArgumentTypeError(f"keep was given {resource!r}; give a context manager")
        number = self._kompyct_living_cell().active_period  # before the look: it ends after that
        cell = self._kompyct_active_cell("resources are kept")
        value = resource.__enter__()
        kept = self._kompyct_kept
        if kept is None:
            kept = self._kompyct_kept = []
        kept.append(resource)
        if cell.component is not self or cell.active_period != number:
            # A thread of an incarnation that has just ended: who removes it leaves it.
            try:
                kept.remove(resource)
            except ValueError:
                pass
            else:
                resource.__exit__(None, None, None)
            self._kompyct_active_cell("resources are kept")
        return value

    def progress(self) -> None:
        """Let the time of the handler that is running begin anew, if it has a `time_limit`.

        Raises:
            IncarnationEndedError: this incarnation has ended.
        """
        self._kompyct_living_cell().progress()

    def watch(self, ref: ComponentRef[Any]) -> None:
        """Be told by one message, a `Terminated`, when the component `ref` has ended for good.

        Not at a restart; at once if it has ended already. Watching again what is watched changes
        nothing. The watch belongs to the component and outlives its recovery; it ends with the
        notice, with `unwatch`, or with the component. The notice waits like any message, but no
        limit of the mailbox keeps it out.

        Raises:
            ArgumentTypeError: `ref` is no ref.
            ArgumentError: it is the component itself.
        """
        cell = self._kompyct_living_cell()
        cell.runtime.watches.watch(cell, ref)

    def unwatch(self, ref: ComponentRef[Any]) -> None:
        """Watch `ref` no longer: no notice arrives any more, even if it is queued already.

        Called on a thread of the component's own making, the notice may be in hand just then.

        Raises:
            ArgumentTypeError: `ref` is no ref.
        """
        cell = self._kompyct_living_cell()
        cell.runtime.watches.unwatch(cell, ref)

    def unhandled(self, message: object) -> NoReturn:
        """Refuse `message`: `case _: self.unhandled(message)`.

        Raises:
            UnhandledMessageError: always; it is benign and goes to the asker.
        """
        raise UnhandledMessageError(
            f"component {self._kompyct_path()!r} ({type(self).__qualname__}) does not take a "
            f"{type(message).__qualname__}; handle it in on_receive"
        )

    def stop_self(self) -> None:
        """Pause once the message in hand is handled; messages wait for the next start."""
        self._kompyct_living_cell().request_stop(self)

    def kill_self(self, *, after_messages: bool = False) -> None:
        """End once the message in hand is handled, or all that are waiting now."""
        self._kompyct_living_cell().request_kill(self, after_messages=after_messages)

    # -- private ----------------------------------------------------------------------------

    def _kompyct_path(self) -> str:
        cell = self._kompyct_cell or here.creating
        return "unbound" if cell is None else cell.path

    def _kompyct_living_cell(self) -> Cell:
        cell = self._kompyct_cell
        if cell is None:
            cell = here.creating
            if cell is None:
                raise UnboundComponentError(
                    f"this {type(self).__qualname__} belongs to no system; "
                    "make components with ComponentSystem.create"
                )
        elif cell.component is not self:
            raise IncarnationEndedError(
                f"this incarnation of component {cell.path!r} has ended; nothing was changed"
            )
        return cell

    def _kompyct_active_cell(self, what: str) -> Cell:
        cell = self._kompyct_living_cell()
        if cell.state is not ACTIVE or self._kompyct_cell is None:
            raise NotStartedError(
                f"component {cell.path!r} is not active; {what} from on_start on"
            )
        return cell

    def _kompyct_schedule(
        self, delay: int, period: int, action: Callable[[], object], missed: str
    ) -> Timer:
        if not callable(action):
            raise ArgumentTypeError(f"the action is {action!r}; give a callable of no arguments")
        if missed not in ("skip", "burst"):
            raise ArgumentError(f"missed is {missed!r}; give 'skip' or 'burst'")
        cell = self._kompyct_active_cell("timers are set")
        clock = cell.runtime.clock
        timer = Timer(cell, clock.now() + delay, period, action, burst=missed == "burst")
        # Once more: the timer may belong to the period of a later incarnation already (S-06).
        self._kompyct_active_cell("timers are set")
        timers = cell.timers
        if timers is None:
            timers = cell.timers = set()
        timers.add(timer)
        clock.set(timer)
        return timer

    def _kompyct_refuse(self, name: str) -> NoReturn:
        raise ReservedNameError(
            f"{type(self).__qualname__} assigns self.{name}, which kompyct provides; "
            "choose another name"
        )
