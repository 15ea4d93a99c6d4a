"""How does a component run?

A cell belongs to the logical component: mailbox, name and ref stay when the incarnation, the
user's object, is replaced. Its turn is the only place that calls users' components, and has the
only `except BaseException` around them.

Everything under "the turn" is run by the holder of the mailbox's flag, so by one thread at a time.
A signal is a function of the cell that is called in its turn, ahead of messages: see `signals`.
The order in a turn (length of the box, then signals, then messages) makes sure that nothing sent
after a signal overtakes it.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import length_hint
from typing import TYPE_CHECKING, Any

from kompyct import ending, faulting, signals
from kompyct.checks import check_class
from kompyct.children import is_tree
from kompyct.component import Component
from kompyct.deadline import AbandonedError
from kompyct.errors import (
    ArgumentTypeError,
    ComponentDestroyedError,
    InvalidComponentError,
    NotNeededError,
    RestartingError,
    is_callers,
)
from kompyct.facts import FaultKind
from kompyct.history import History
from kompyct.lifecycle import Phase, State
from kompyct.mailbox import BoundedBox, Mailbox
from kompyct.messages import Envelope, new_ask
from kompyct.needed import NOT_NEEDED
from kompyct.options import Options
from kompyct.ref import ComponentRef
from kompyct.registration import OUTSIDE, Registration
from kompyct.timers import Timer
from kompyct.waiting import INLINE, InlineTurn, here

if TYPE_CHECKING:
    from kompyct.facts import Elsewhere
    from kompyct.runtime import Runtime
    from kompyct.stored import Stored
    from kompyct.supervising import SupervisorCell

Signal = tuple[Callable[..., None], tuple[Any, ...]]
"""A function of the cell, and the further arguments to call it with."""

START: tuple[Signal, ...] = ((signals.start, (None,)),)
"""The signals of a cell that is to be started as soon as it is made."""

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
ACTIVE = State.ACTIVE
PASSIVE = State.PASSIVE
DESTROYED = State.DESTROYED


class Cell(Mailbox):
    """A logical component: its mailbox, its state, and its present incarnation."""

    __slots__ = (
        "_history", "active_period", "asking", "backend", "component", "factory", "id",
        "incarnation", "name", "options", "order", "parent", "reason", "recovery",
        "runtime", "state", "stored", "timers",
    )  # fmt: skip

    is_limited = False  # whether its handlers have limits
    is_supervisor = False  # whether it has children

    def __init__(
        self,
        runtime: Runtime,
        number: int,
        name: str | None,
        factory: Callable[[], Component[Any]] | None,
        backend: Any,
        options: Options,
        parent: SupervisorCell | None = None,
    ) -> None:
        Mailbox.__init__(self)
        self.parent = parent  # its supervisor; None: the root
        self.runtime = runtime
        self.id = number
        self.name = name
        self.factory: Callable[[], Component[Any]] | None = factory
        self.backend = backend  # what wakes this cell
        self.options = options
        self.state = PASSIVE
        self.component: Component[Any] | None = None  # the incarnation; None while there is none
        self.incarnation = 1
        self.active_period = 0  # counts starts and their ends; timers belong to one value
        self.order = 0  # the how-many-th to be started in its system; 0: never
        self.recovery: Registration | None = None  # what earlier incarnations registered
        self.timers: set[Timer] | None = None
        self.reason = ""  # why it has ended
        self.stored: Stored | None = None  # its place in the store; None: it has none
        self.asking: Any = None  # (cell, envelope) that the turn waits for, see waiting.py
        self._history: History | None = None
        if options.mailbox_limit is not None:
            limit, overflow = options.mailbox_limit, options.overflow
            self.box = BoundedBox(
                limit, overflow, lambda message: ending.overflow(self, message), self.path
            )

    @property
    def path(self) -> str:
        """Where the component stands in its system."""
        name = self.name if self.name is not None else f"#{self.id}"
        return name if self.parent is None else f"{self.parent.path}/{name}"

    @property
    def is_named(self) -> bool:
        """Whether it, and all above it, have names: so that it is the same at the next start."""
        return self.name is not None and (self.parent is None or self.parent.is_named)

    @property
    def history(self) -> History:
        """What is known of its past; made at the first look."""
        history = self._history
        if history is None:
            with self.runtime.signals:  # by its turn, or by its supervisor that leaves it behind
                history = self._history
                if history is None:
                    history = self._history = History()
        return history

    @property
    def elsewhere(self) -> Elsewhere | None:
        """What is known of a fault in another process; see `RemoteCell.elsewhere`."""
        return None

    @property
    def kind_of_fault(self) -> FaultKind:
        """What kind of thing goes wrong when the turn raises; see `LimitedCell`."""
        return FaultKind.EXCEPTION

    def progress(self) -> None:
        """See `Component.progress`; here there is no limit."""

    # -- from any thread --------------------------------------------------------------------

    def send(self, message: Any) -> None:
        """Put `message` into the mailbox."""
        self.box.append(message)
        if self.asleep:
            self._wake()

    def send_ask(self, envelope: Envelope) -> None:
        """Put an ask into the mailbox."""
        self.box.append(envelope)
        self.has_asks = True  # after the append: the turn clears it before it looks
        if self.asleep:
            self._wake()

    def signal(self, obey: Callable[..., None], *arguments: Any) -> None:
        """Have the turn call `obey(cell, *arguments)` before the next message, in any state."""
        self.add_signal((obey, arguments))
        self._wake()

    def _wake(self) -> None:
        """Have the backend run it, unless it is running.

        Raises:
            RuntimeError: there is no thread for it, or no stack left; the next one tries again.
        """
        asleep = self.asleep
        if self.flag.acquire(False):
            try:
                self.backend.wake(self)
            except RuntimeError:
                self.asleep = asleep
                self.flag.release()
                raise

    def add_signal(self, signal: Signal, *, first: bool = False) -> None:
        """Enter a signal; the turn is running, or `signal` wakes it."""
        # A tuple that is replaced, since the empty tuple costs nothing: most cells have no
        # signal most of the time. The lock protects the `control` of every cell of the system.
        with self.runtime.signals:
            self.control = (signal, *self.control) if first else (*self.control, signal)

    def request_stop(self, incarnation: Component[Any]) -> None:
        """Have it pause, if it still is the incarnation that asks for it."""
        self.signal(signals.stop_self, incarnation)

    def request_kill(self, incarnation: Component[Any], *, after_messages: bool) -> None:
        """Have it end in order, if it still is the incarnation that asks for it."""
        self.signal(signals.kill_self, incarnation, after_messages)

    def leave_behind(self) -> None:
        """Have its next turn be its last, without handling anything; not for the supervisor."""
        if self.id:
            self.add_signal((signals.kill, (None, True, False, True)), first=True)

    def register_from_outside(
        self, function: Callable[..., Any], snapshot: tuple[Any] | None
    ) -> None:
        """Register `function`, and the one value in `snapshot` if given, before the next message.

        Raises:
            ArgumentTypeError, SnapshotError: as `Component.set_recovery_function`.
        """
        if not callable(function):
            raise ArgumentTypeError(
                f"the recovery function is {function!r}; give a function of the fault context"
            )
        data = None if snapshot is None else self.runtime.codec.encode(snapshot[0])
        registration = Registration(function, data, self.runtime.clock.now(), 0, OUTSIDE)
        self.prepare(registration)
        self.signal(faulting.register, registration)

    def prepare(self, registration: Registration) -> None:
        """Make `registration` ready to be stored, if this component is.

        Raises:
            SnapshotError: its function cannot be stored, or its snapshot is too big.
        """
        # Not by a look at `stored`: its creation may not be that far yet.
        if self.runtime.writer is not None and self.is_named:
            self.runtime.writer.prepare(registration)

    def let_go(self) -> None:
        """See `RemoteCell.let_go`; here nothing waits to be the next incarnation."""

    def take_up_saves(self) -> None:
        """See `RemoteCell.take_up_saves`; here they are taken up as they are made."""

    def pass_on(self, registration: Registration) -> bool:
        """See `RemoteCell.pass_on`; here nobody else is to be told."""
        return False

    def refuse(self, message: Any) -> None:
        """Deal with a message that comes when it is ending or has ended."""
        ending.refuse(self, message)

    def gone(self) -> ComponentDestroyedError:
        """The error for whoever wants something of a component that has ended, or is ending."""
        reason = self.reason
        state = "has ended" if self.state is DESTROYED else "is ending"
        return ComponentDestroyedError(
            f"component {self.path!r} {state}{f': {reason}' if reason else ''}; "
            "create a new one, or give it a recovery function that restarts it"
        )

    def incarnation_now(self) -> Component[Any]:
        """The user's object, as far as this thread can know.

        Raises:
            RestartingError: there is none just now.
            ComponentDestroyedError: the component has ended.
        """
        component = self.component
        if component is not None:
            return component
        if self.state is DESTROYED:
            raise self.gone()
        raise RestartingError(f"component {self.path!r} is restarting; try again")

    # -- the turn ---------------------------------------------------------------------------

    def run(self) -> bool:
        """Run one turn; the caller holds the flag.

        Returns: True if there is more to do, and the flag is kept; False if it was given back.
        """
        box = self.box
        waiting = len(box)  # before the signals: nothing sent after a stop overtakes it
        if self.control:
            self._obey()
            box = self.box
            if waiting > len(box):
                waiting = len(box)
        if self.state is ACTIVE:
            if waiting == 1 and self.backlog is None:
                message = box.pop(0)
                self.handled += 1
                try:
                    if type(message) is Envelope:
                        message.deliver(self.component)
                    else:
                        self.component.on_receive(message)  # type: ignore[union-attr]
                except BaseException as exception:
                    faulting.raised(self, exception, message, ())
            elif waiting or self.backlog is not None:
                self._drain(waiting)
            if self.state is ACTIVE:
                if box or self.control or self.backlog is not None:
                    return True
                self.asleep = True
                self.flag.release()
                if (box or self.control) and self.flag.acquire(False):
                    self.asleep = False
                    return True
                return False
        return self._rest()

    def _drain(self, waiting: int) -> None:
        """Handle a chunk of messages, until a signal comes or one of them faults."""
        chunk = self.take(waiting)
        self.handled += len(chunk)
        self.hand = left = iter(chunk)
        component = self.component
        for message in left:
            try:
                if type(message) is Envelope:
                    message.deliver(component)
                else:
                    # Looked up each time: it may raise, and a handler may have replaced it.
                    component.on_receive(message)  # type: ignore[union-attr]
            except BaseException as exception:
                faulting.raised(self, exception, message, left)
                if self.state is not ACTIVE:
                    return
            if self.control:
                break
        unhandled = length_hint(left)
        self.hand = None
        if unhandled:
            self.handled -= unhandled
            self.put_back(chunk[-unhandled:])

    def _rest(self) -> bool:
        """End a turn of a cell that is not active; returns as `run`."""
        destroyed = self.state is DESTROYED
        if destroyed and self.box:  # senders that took hold of the box before it was closed
            for message in self.take_all():
                ending.refuse(self, message)
        self.asleep = destroyed
        self.flag.release()
        if (self.control or (destroyed and self.box)) and self.flag.acquire(False):
            self.asleep = False
            return True
        return False

    def _obey(self) -> None:
        while self.control:
            with self.runtime.signals:
                control = self.control
                self.control = control[1:]
            obey, arguments = control[0]
            obey(self, *arguments)

    def position(self) -> int:
        """How many messages were handled so far, the one in hand included."""
        hand = self.hand
        if hand is None or type(hand) is Phase:
            return self.handled
        return self.handled - length_hint(hand)

    @property
    def hook(self) -> Phase | None:
        """The hook that is running, if one is."""
        return self.hand if type(self.hand) is Phase else None

    def ask_inline(
        self, ref: ComponentRef[Any], turn: InlineTurn, request: Any, timeout: float | None
    ) -> Any:
        """Handle `request` on the asker's thread, which has just taken the flag."""
        if self.state is not ACTIVE or self.box or self.control or self.backlog is not None:
            self.backend.wake(self)
            return ComponentRef.ask(ref, request, timeout)
        outer = here.runner
        asker = None if outer is None else outer.cell
        if asker is not None and asker.is_limited:
            # Its limit would hit this component, and leave it on a thread that hangs.
            self.backend.wake(self)
            return ComponentRef.ask(ref, request, timeout)
        self.asleep = False
        self.handled += 1
        turn.outer = outer
        here.runner = turn
        if asker is not None:
            # A circle of asks may go through here. Set without the lock of these edges: what
            # closes a circle is an ask that really waits, and that one takes the lock.
            asker.asking = (self, INLINE)
        try:
            value = self.component.on_receive(request)  # type: ignore[union-attr]
        except BaseException as exception:
            ask = new_ask(request)
            try:
                faulting.raised(self, exception, ask, ())
            except AbandonedError:
                pass  # somebody else goes on with the cell
            else:
                self.backend.wake(self)
            if is_callers(exception):
                raise
            here.runner = outer
            return ref._await_reply(ask, timeout)
        finally:
            here.runner = outer
            if asker is not None:
                asker.asking = None
        self.asleep = True
        self.flag.release()
        if (self.box or self.control) and self.flag.acquire(False):
            self.backend.wake(self)
        return value

    def make(self, factory: Callable[[], Component[Any]] | None) -> Component[Any]:
        """Call `factory` and bind what it makes to this cell.

        Raises:
            InvalidComponentError: it makes no component, or one already in use.
            ReservedNameError: the component's class cannot be used.
            BaseException: what the factory raises.
        """
        local = here.__dict__  # this thread's, looked up once
        before = local.get("creating")
        local["creating"] = self
        try:
            component = factory()  # type: ignore[misc]
        finally:
            local["creating"] = before
        if not isinstance(component, Component):
            if component is NOT_NEEDED:
                raise NotNeededError(
                    f"the factory of component {self.path!r} says that it is not needed; only a "
                    "supervisor can do without it"
                )
            way_out = "return a new instance of a Component subclass"
            if is_tree(component):
                way_out = "give the tree itself in the place of the factory"
            raise InvalidComponentError(
                f"the factory of component {self.path!r} returned a "
                f"{type(component).__qualname__}; {way_out}"
            )
        if component._kompyct_cell is not None:
            raise InvalidComponentError(
                f"the factory of component {self.path!r} returned an object that already is "
                f"component {component._kompyct_cell.path!r}; return a new one at each call"
            )
        checked = self.runtime.checked_classes
        if type(component) not in checked:
            check_class(type(component), Component)
            checked.add(type(component))
        component._kompyct_cell = self
        registration = component._kompyct_registration
        if self.stored is not None and registration is not None:  # by its __init__
            durably = self.runtime.durability == "durable"
            self.stored.save(registration, self.incarnation, durably=durably)
        return component

    def end_period(self) -> None:
        """End the active period, and its timers with it, queued ticks included (S-04)."""
        self.active_period += 1
        timers = self.timers
        if timers is not None:
            self.timers = None
            for timer in tuple(timers):
                timer.cancel()
