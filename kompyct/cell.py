"""How does a component run?

A cell belongs to the logical component: mailbox, name and ref stay when the incarnation, the
user's object, is replaced. It is the only place that calls users' components, and has the only
`except BaseException` around them.

Everything under "the turn" is run by the holder of the mailbox's flag, so by one thread at a time.
A signal is a method of the cell to be run in its turn, ahead of messages. The order in a turn
(length of the box, then signals, then messages) makes sure that nothing sent after a signal
overtakes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from operator import length_hint
from typing import TYPE_CHECKING, Any

from kompyct import events
from kompyct.clock import SECOND
from kompyct.codecs import encode
from kompyct.component import Component, check_class
from kompyct.deadline import AbandonedError, Deadline, SimulatedHang
from kompyct.errors import (
    ArgumentTypeError,
    ComponentDestroyedError,
    ComponentFaultError,
    InvalidComponentError,
    RestartingError,
    as_raised,
)
from kompyct.faults import FaultClass, FaultContext, Registration, classify
from kompyct.lifecycle import Phase, State
from kompyct.mailbox import BoundedBox, ClosedBox, Mailbox
from kompyct.messages import Envelope, OnRestart
from kompyct.options import Options
from kompyct.ref import ComponentRef
from kompyct.reports import (
    describe_fault,
    identity,
    phase_of,
    recovered,
    restart_failed,
    users_frames,
)
from kompyct.timers import Timer
from kompyct.waiting import here

if TYPE_CHECKING:
    from kompyct.system import ComponentSystem

Signal = tuple[Callable[..., None], tuple[Any, ...]]
"""A method of `Cell` and the arguments to call it with."""

ACTIVE = State.ACTIVE
FAULTY = State.FAULTY
DESTROYED = State.DESTROYED

KEEP_DEADLINE = 5 * SECOND
"""How long closing kept resources may take before the turn is abandoned."""


class History:
    """What is known of a component that has faulted, is waited for, or is ending.

    Most never need one. Written in the turn only, but for `restarts`, which the supervisor writes
    while the component is faulty, and `letters`, which senders append to while it is ending.
    """

    __slots__ = ("active", "fault", "letters", "reason", "recovered_at", "restarts", "waiters")

    def __init__(self) -> None:
        self.waiters: list[tuple[Future[None], bool]] = []  # (future, whether it is a start)
        self.restarts: tuple[int, ...] = ()  # times of those that the budget still counts
        self.active = False  # whether the next incarnation is to be started
        self.fault: FaultContext[Any] | None = None  # the one that is being recovered from
        self.recovered_at: int | None = None  # when the present incarnation had started
        self.letters: list[Any] = []  # messages that came while it was ending
        self.reason = ""  # why it has ended


class Cell(Mailbox):
    """A logical component: its mailbox, its state, and its present incarnation."""

    __slots__ = (
        "active_period", "asking", "backend", "component", "factory", "history", "id",
        "incarnation", "name", "options", "order", "recovery", "state", "system", "timers",
    )  # fmt: skip

    def __init__(
        self,
        system: ComponentSystem,
        number: int,
        name: str | None,
        factory: Callable[[], Component[Any]],
        backend: Any,
        options: Options,
    ) -> None:
        Mailbox.__init__(self)
        if options.mailbox_limit is not None:
            self.box = BoundedBox(options.mailbox_limit, options.overflow, self._overflowed)
        self.system = system
        self.id = number
        self.name = name
        self.factory: Callable[[], Component[Any]] | None = factory
        self.backend = backend  # what wakes this cell
        self.options = options
        self.state = State.PASSIVE
        self.component: Component[Any] | None = None  # the incarnation; None while there is none
        self.incarnation = 1
        self.active_period = 0  # counts starts and their ends; timers belong to one value
        self.order = 0  # the how-many-th to be started in its system; 0: never
        self.recovery: Registration | None = None  # what earlier incarnations registered
        self.timers: set[Timer] | None = None
        self.history: History | None = None
        self.asking: Any = None  # (cell, envelope) that the turn waits for, see waiting.py

    @property
    def path(self) -> str:
        """Where the component stands in its system."""
        return self.name if self.name is not None else f"#{self.id}"

    # -- from any thread --------------------------------------------------------------------

    def send(self, message: Any) -> None:
        """Put `message` into the mailbox."""
        self.box.append(message)
        if self.asleep and self.flag.acquire(False):
            self.backend.wake(self)

    def send_ask(self, envelope: Envelope) -> None:
        """Put an ask into the mailbox."""
        self.box.append(envelope)
        self.has_asks = True  # after the append: the turn clears it before it looks
        if self.asleep and self.flag.acquire(False):
            self.backend.wake(self)

    def signal(self, obey: Callable[..., None], *arguments: Any) -> None:
        """Have the turn call `obey(cell, *arguments)` before the next message, in any state."""
        self._add_signal((obey, arguments))
        if self.flag.acquire(False):
            self.backend.wake(self)

    def _add_signal(self, signal: Signal, *, first: bool = False) -> None:
        # A tuple that is replaced, since the empty tuple costs nothing: most cells have no
        # signal most of the time. The lock protects the `control` of every cell of the system.
        with self.system.signals:
            self.control = (signal, *self.control) if first else (*self.control, signal)

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
        data = None if snapshot is None else encode(snapshot[0])
        self.signal(Cell.obey_register, function, data, self.system.clock.now())

    def gone(self) -> ComponentDestroyedError:
        """The error for whoever wants something of a component that has ended."""
        reason = self.history.reason if self.history is not None else ""
        return ComponentDestroyedError(
            f"component {self.path!r} has ended{f': {reason}' if reason else ''}; "
            "create a new one, or give it a recovery function that restarts it"
        )

    def _overflowed(self, message: Any) -> None:
        self._bury([message], "its mailbox is full")

    def _refuse(self, message: Any) -> None:
        """Deal with a message to a component that is ending or has ended."""
        if type(message) is Envelope:
            self._bury([message], "")
        else:
            self._the_history().letters.append(message)
            # The end of an ending flushes the letters; what is added after that flushes itself.
            if self.state is DESTROYED:
                self._flush_letters()

    def _flush_letters(self) -> None:
        letters: list[Any] = []
        history = self._the_history()
        try:
            while True:
                letters.append(history.letters.pop(0))
        except IndexError:  # empty, here or by another thread that flushes
            pass
        self._bury(letters, history.reason)

    def _bury(self, messages: Sequence[Any], reason: str) -> None:
        """Make dead letters of `messages`; asks fail."""
        letters = []
        for message in messages:
            if type(message) is not Envelope:
                letters.append(message)
            elif message.done is not None:
                message.fail(self.gone())
        if letters:
            self.system.undelivered(self, letters, reason)

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
                    self._raised(exception, message, ())
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
        receive = component.on_receive  # type: ignore[union-attr]
        for message in left:
            try:
                if type(message) is Envelope:
                    message.deliver(component)
                else:
                    receive(message)
            except BaseException as exception:
                self._raised(exception, message, left)
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
                self._refuse(message)
        self.asleep = destroyed
        self.flag.release()
        if (self.control or (destroyed and self.box)) and self.flag.acquire(False):
            self.asleep = False
            return True
        return False

    def _obey(self) -> None:
        while self.control:
            with self.system.signals:
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

    def ask_inline(self, ref: ComponentRef[Any], request: Any, timeout: float | None) -> Any:
        """Handle `request` on the asker's thread, which has just taken the flag."""
        if self.state is not ACTIVE or self.box or self.control or self.backlog is not None:
            self.backend.wake(self)
            return ComponentRef.ask(ref, request, timeout)
        self.asleep = False
        self.handled += 1
        try:
            value = self.component.on_receive(request)  # type: ignore[union-attr]
        except BaseException as exception:
            self._raised(exception, Envelope(request), ())
            while self.run():
                pass
            if isinstance(exception, KeyboardInterrupt):
                raise  # it is the asker's as well (S-35)
            raise as_raised(exception, self.path) from exception.__cause__
        self.asleep = True
        self.flag.release()
        if (self.box or self.control) and self.flag.acquire(False):
            self.backend.wake(self)
        return value

    # -- signals ----------------------------------------------------------------------------

    def obey_start(self, future: Future[None] | None) -> None:
        """Become active."""
        if self.state is State.PASSIVE:
            if not self.order:
                self.order = next(self.system.orders)
            exception = self._activate()
            if exception is not None:
                settle(future, self._faulted_in(Phase.START, exception))
                self._fault(exception, Phase.START)
            elif future is not None:
                settle(future)
        elif self.state is FAULTY:
            history = self._the_history()
            history.active = True
            if future is not None:
                history.waiters.append((future, True))
        elif self.state is DESTROYED:
            settle(future, self.gone())
        else:
            settle(future)

    def obey_stop(self, future: Future[None] | None) -> None:
        """Become passive."""
        component = self.component
        if self.state is ACTIVE and component is not None:
            exception = self._call(Phase.STOP, component.on_stop)
            if exception is None:
                self._end_period()
                self._close_kept(component, None, lambda: self._stopped(future))
            else:
                settle(future, self._faulted_in(Phase.STOP, exception))
                self._fault(exception, Phase.STOP)
            return
        if self.state is FAULTY:
            self._the_history().active = False
        settle(future)

    def obey_kill(
        self, future: Future[None] | None, brutal: bool, after_messages: bool = False
    ) -> None:
        """End, in order unless `brutal`."""
        if self.state is DESTROYED:
            settle(future)
            return
        history = self._the_history()
        if future is not None:
            history.waiters.append((future, False))
        if after_messages and self.state is ACTIVE:
            kill = (Cell.obey_kill, (None, brutal))
            self.box.append(Envelope(None, lambda _: self._add_signal(kill)))
            return
        self._close_box()
        component = self.component
        if component is None:
            self._destroy("killed while it was faulty")
            return
        exception = None if brutal else self._call(Phase.KILL, component.on_kill)
        if exception is None:
            self._end_period()
            self._close_kept(component, None, lambda: self._destroy("killed"))
        else:
            self._settle_waiters(self._faulted_in(Phase.KILL, exception))
            self._fault(exception, Phase.KILL)

    def obey_register(self, function: Callable[..., Any], data: bytes | None, time: int) -> None:
        """Take up a registration made from outside."""
        registration = Registration(function, data, time, self.position(), self.active_period)
        component = self.component
        if component is None:
            self.recovery = registration.following(self.recovery)
        else:
            component._registration = registration.following(
                component._registration or self.recovery
            )

    def obey_rebuild(
        self, fault: FaultContext[Any], factory: Callable[[], Component[Any]] | None
    ) -> None:
        """Replace the incarnation that `fault` ended."""
        history = self._the_history()
        if self.state is not FAULTY or history.fault is not fault:
            return  # it was killed meanwhile
        self.incarnation += 1
        try:
            self.component = self.make(factory or self.factory)
        except BaseException as exception:
            self._fault(exception, Phase.CREATE)
            return
        self.state = State.PASSIVE
        if history.active:
            raised = self._activate()
            if raised is not None:
                self._fault(raised, Phase.START)
                return
        history.fault = None
        history.recovered_at = self.system.clock.now()
        self.system.emit(recovered(self, fault))
        self._settle_waiters(None)

    def obey_end(self, fault: FaultContext[Any], reason: str) -> None:
        """End for good, as the supervisor decided."""
        history = self._the_history()
        if self.state is FAULTY and history.fault is fault:
            self._destroy(reason, type(fault.exception).__qualname__)

    def obey_continue(self, go_on: Callable[[], None]) -> None:
        """Go on where a turn was abandoned."""
        go_on()

    # -- within the turn --------------------------------------------------------------------

    def make(self, factory: Callable[[], Component[Any]] | None) -> Component[Any]:
        """Call `factory` and bind what it makes to this cell.

        Raises:
            InvalidComponentError: it makes no component, or one already in use.
            ReservedNameError: the component's class cannot be used.
            BaseException: what the factory raises.
        """
        before = here.creating
        here.creating = self
        try:
            component = factory()  # type: ignore[misc]
        finally:
            here.creating = before
        if not isinstance(component, Component):
            raise InvalidComponentError(
                f"the factory of component {self.path!r} returned a "
                f"{type(component).__qualname__}; return a new instance of a Component subclass"
            )
        if component._cell is not None:
            raise InvalidComponentError(
                f"the factory of component {self.path!r} returned an object that already is "
                f"component {component._cell.path!r}; return a new one at each call"
            )
        checked = self.system.checked_classes
        if type(component) not in checked:
            check_class(type(component))
            checked.add(type(component))
        component._cell = self
        return component

    def _activate(self) -> BaseException | None:
        """Start the active period; returns what `on_start` raised, unless that is benign."""
        self.state = ACTIVE
        self.active_period += 1
        return self._call(Phase.START, self.component.on_start)  # type: ignore[union-attr]

    def _call(self, phase: Phase, hook: Callable[[], None]) -> BaseException | None:
        """Call a hook; returns what it raised, unless that is benign, which is only reported."""
        self.hand = phase
        try:
            hook()
        except BaseException as exception:
            if self._is_benign(exception):
                self.system.emit(self._benign_error(exception, phase))
            else:
                return exception
        self.hand = None
        return None

    def _stopped(self, future: Future[None] | None) -> None:
        self.state = State.PASSIVE
        settle(future)

    def _end_period(self) -> None:
        """End the active period, and its timers with it, queued ticks included (S-04)."""
        self.active_period += 1
        timers = self.timers
        if timers is not None:
            self.timers = None
            for timer in tuple(timers):
                timer.cancel()

    def _close_box(self) -> None:
        """Take no more messages: asks fail from here on, tells become dead letters at the end."""
        if type(self.box) is ClosedBox:
            return
        waiting = self.take_all()
        self.box = ClosedBox(self._refuse, self.box)
        self.has_asks = False
        for message in waiting:
            self._refuse(message)

    def _destroy(self, reason: str, error: str | None = None) -> None:
        history = self._the_history()
        history.reason = reason
        history.fault = None
        self._close_box()
        self.state = DESTROYED
        self.component = None
        self.factory = None
        self.recovery = None
        self.backend = self.system.forget(self)
        self._flush_letters()
        restarts = len(history.restarts)
        self.system.emit(events.ComponentEnded(*identity(self), reason, error, restarts))
        self._settle_waiters(None, self.gone())

    def _close_kept(
        self, component: Component[Any] | None, cause: BaseException | None,
        go_on: Callable[[], None],
    ) -> None:  # fmt: skip
        """Leave what `component` kept, last one first, then `go_on`.

        If that takes longer than KEEP_DEADLINE, the watchdog takes the cell over and goes on
        elsewhere; this thread then finds that it was abandoned.

        Raises:
            AbandonedError: the turn is somebody else's now; touch nothing any more.
        """
        kept = None if component is None else component._kept
        if not kept:
            go_on()
            return
        system = self.system

        def take_over() -> None:
            late = f"not closed within {KEEP_DEADLINE // SECOND} s"
            system.emit(events.ResourceNotClosed(*identity(self), late))
            self._add_signal((Cell.obey_continue, (go_on,)), first=True)
            self.backend.take_over(self)

        deadline = Deadline(system.clock.now() + KEEP_DEADLINE, take_over)
        system.watch(deadline)
        errors: list[BaseException] = []
        while kept:
            try:
                resource = kept.pop()
            except IndexError:
                break
            try:
                if cause is None:
                    resource.__exit__(None, None, None)
                else:
                    resource.__exit__(type(cause), cause, cause.__traceback__)
            except SimulatedHang:
                raise AbandonedError from None
            except BaseException as raised:
                errors.append(raised)
        if not deadline.claim():
            raise AbandonedError
        system.unwatch(deadline)
        for error in errors:
            name = type(error).__qualname__
            system.emit(events.ResourceNotClosed(*identity(self), name))
        go_on()

    # -- faults -----------------------------------------------------------------------------

    def _raised(self, exception: BaseException, message: Any, left: Any) -> None:
        """Deal with what handling `message` raised; `left` are those taken with it."""
        ask = message if type(message) is Envelope and message.done is not None else None
        if self._is_benign(exception):
            if ask is not None:
                ask.fail(exception)
            else:
                self.system.emit(self._benign_error(exception, phase_of(message)))
        else:
            self._fault(exception, phase_of(message), message, left)

    def _benign_error(self, exception: BaseException, phase: Phase) -> events.BenignError:
        name = type(exception).__qualname__
        return events.BenignError(*identity(self), phase.value, name)

    def _is_benign(self, exception: BaseException) -> bool:
        declared = self.component.fault_classes if self.component is not None else {}
        return classify(exception, declared) is FaultClass.BENIGN

    def _fault(
        self, exception: BaseException, phase: Phase, message: Any = None, left: Any = ()
    ) -> None:
        """End the incarnation and tell the supervisor."""
        system = self.system
        self._take_up_registrations()
        component, self.component = self.component, None
        registration = self.recovery if component is None else component._registration
        self.recovery = registration = registration or self.recovery
        history = self._the_history()
        if self.state is ACTIVE:
            history.active = phase is not Phase.STOP
        self.state = FAULTY
        fault_class = (
            FaultClass.RECOVERABLE
            if component is None
            else classify(exception, component.fault_classes)
        )
        comes_back = (
            registration is not None
            and fault_class is FaultClass.RECOVERABLE
            and phase is not Phase.KILL
            and not system.stopping
        )
        exception.__traceback__ = traceback = users_frames(exception.__traceback__)
        fault = describe_fault(self, component, exception, traceback, phase, message, fault_class)
        self.hand = None
        self._end_period()
        rest = list(left)
        self.handled -= len(rest)
        facts = fault._facts
        facts.dropped = phase is Phase.RECEIVE
        if type(message) is Envelope and message.done is not None:
            if not (comes_back and redelivered(message)):
                message.fail(exception)
        if comes_back and message is not None and redelivered(message):
            rest.insert(0, message)
            facts.dropped = False
        self.put_back(rest)
        facts.failed = self._fail_asks(comes_back)
        facts.pending = self.waiting()
        failed_restart = history.fault is not None
        history.fault = fault
        if failed_restart:
            system.emit(restart_failed(fault))
        if type(exception) is KeyboardInterrupt:
            system.note_interrupt(exception)
        self._close_kept(component, exception, lambda: system.supervise(fault))

    def _fail_asks(self, comes_back: bool) -> int:
        """Fail the asks that are queued, but for those to be redelivered; returns how many."""
        if not self.has_asks:
            return 0
        self.has_asks = False  # before the look: an ask that comes now sets it again
        error = (
            RestartingError(
                f"component {self.path!r} faulted while this ask was queued; ask again"
            )
            if comes_back
            else self.gone()
        )
        kept: list[Any] = []
        failed = 0
        for message in self.take_all():
            if type(message) is not Envelope or message.done is None:
                kept.append(message)
            elif comes_back and redelivered(message):
                kept.append(message)
                self.has_asks = True
            else:
                failed += 1
                message.fail(error)
        self.put_back(kept)
        return failed

    def _take_up_registrations(self) -> None:
        """Take up what was registered from outside before the fault."""
        if not self.control:
            return
        with self.system.signals:
            mine = [signal for signal in self.control if signal[0] is Cell.obey_register]
            self.control = tuple(signal for signal in self.control if signal not in mine)
        for _, arguments in mine:
            self.obey_register(*arguments)

    def _faulted_in(self, phase: Phase, cause: BaseException) -> ComponentFaultError:
        error = ComponentFaultError(
            f"component {self.path!r} faulted in on_{phase.value} with "
            f"{type(cause).__qualname__}; see the cause"
        )
        error.__cause__ = cause
        return error

    def _settle_waiters(
        self, error: BaseException | None, start_error: BaseException | None = None
    ) -> None:
        history = self._the_history()
        waiters, history.waiters = history.waiters, []
        for future, is_start in waiters:
            settle(future, start_error if is_start and error is None else error)

    def _the_history(self) -> History:
        if self.history is None:
            self.history = History()
        return self.history


def settle(future: Future[None] | None, error: BaseException | None = None) -> None:
    """Complete `future`, if there is one and nobody has cancelled it."""
    if future is None or not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def redelivered(message: Any) -> bool:
    """Whether the type of `message` asks to meet the next incarnation, see `OnRestart`."""
    content = message.message if type(message) is Envelope else message
    return getattr(content, "on_restart", None) is OnRestart.REDELIVER


START: tuple[Signal, ...] = ((Cell.obey_start, (None,)),)
"""The signals of a cell that is to be started as soon as it is made."""
