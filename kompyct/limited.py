"""How does a component run whose handlers have a limit of time or memory?

Each message gets a `Handling`, which the watchdog of `interrupts` looks after. What exceeds a
limit is interrupted first. If that does not help, in native code for one, the turn is taken away
from its thread, which is counted and left alone: the component faults, and goes on elsewhere.
Should the thread come back, what it brings is ignored.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable
from operator import length_hint
from time import monotonic_ns
from traceback import clear_frames
from typing import TYPE_CHECKING, Any

from kompyct import faulting
from kompyct.cell import Cell
from kompyct.clock import SECOND
from kompyct.deadline import AbandonedError, Deadline, SimulatedHang
from kompyct.ending import refuse
from kompyct.errors import ExecutionTimeout, LimitInterrupt, MemoryLimitExceeded, as_raised
from kompyct.events import Escalated, HandlerAbandoned
from kompyct.facts import Elsewhere, FaultKind, Text
from kompyct.fault_classes import FaultClass, classify
from kompyct.interrupts import AGAIN, NEVER, Firing, Watch, interrupt
from kompyct.lifecycle import State
from kompyct.messages import Envelope
from kompyct.processes.usage import memory_use, until_next_look
from kompyct.ref import ComponentRef
from kompyct.reports import identity, phase_of
from kompyct.waiting import InlineTurn

if TYPE_CHECKING:
    from kompyct.component import Component
    from kompyct.options import Options

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
ACTIVE = State.ACTIVE
EXCEPTION = FaultKind.EXCEPTION
HANG = FaultKind.HANG
MEMORY = FaultKind.MEMORY
RECOVERABLE = FaultClass.RECOVERABLE

SHORTEST_GRACE = 80_000_000
"""Nanoseconds from an interrupt until the turn is taken away, at least."""


MAX_ABANDONED = 8
"""Threads of a system that may hang in handlers at once; with one more it shuts down."""

LATER = SECOND // 10
"""Nanoseconds until the next try where there is no thread."""


def grace_of(time_limit: int | None) -> int:
    """Nanoseconds that what was interrupted has to end: a twelfth of its limit, or 80 ms."""
    return max(SHORTEST_GRACE, (time_limit or 0) // 12)


def exceeded(kind: FaultKind, limit: int, path: str) -> tuple[type[LimitInterrupt], float, str]:
    """Which exception says so of the component at `path`, with which limit, and how."""
    if kind is HANG:
        seconds = limit / SECOND
        text = f"a handler of component {path!r} took longer than its limit of {seconds:g} s"
        return ExecutionTimeout, seconds, text
    text = f"component {path!r} ran while its process used more than its limit of {limit} bytes"
    return MemoryLimitExceeded, limit, text


class Handling:
    """One message in the hand of a component; the plan of its watch.

    The turn, when the handler has ended, and the watchdog, when an interrupt did not help, race to
    `claim` it: who gets True goes on with the component.

    Args:
        gives_up: called by the watchdog, if it wins; None: the turn is never taken away.

    Attributes:
        kind: of a fault; another one than EXCEPTION once a limit is exceeded.
        error: the exception of the fault, once the turn has been taken away.
        abandoned: how many threads of the system were left alone then, this one included.
    """

    __slots__ = (
        "_give_up_at", "_gives_up", "_is_set", "_once", "_options", "_path", "_time_due",
        "abandoned", "component", "error", "goes_on", "kind", "left", "message",
    )  # fmt: skip

    def __init__(
        self,
        options: Options,
        path: str,
        component: Component[Any] | None,
        message: Any,
        left: Any,
        gives_up: Callable[[Handling], None] | None,
    ) -> None:
        self._options = options
        self._path = path
        self.component = component
        self.message = message
        self.left = left  # what was taken with it
        self._gives_up = gives_up
        self._once = allocate_lock()
        self._time_due = NEVER
        self._give_up_at = NEVER
        self._is_set = False  # whether the interrupt was set
        self.kind = EXCEPTION
        self.error: LimitInterrupt | None = None
        self.abandoned = 0
        self.goes_on = allocate_lock()  # held by whoever goes on with the component

    def claim(self) -> bool:
        """True for the first caller only; from any thread."""
        return self._once.acquire(False)

    def run(self, handle: Callable[[Any], Any], content: Any) -> Any:
        """Call `handle(content)`, watched; raises what it raises, or the interrupt."""
        options = self._options
        now = monotonic_ns()
        due = NEVER
        if options.time_limit is not None:
            self._time_due = due = now + options.time_limit
        if options.memory_limit is not None:
            headroom = options.memory_limit - memory_use("resident").read()
            due = min(due, now + until_next_look(headroom))
        # A local: nobody else holds it, see `kompyct.interrupts`.
        watch = Watch(self)
        watch.begin(due)
        try:
            value = handle(content)
        finally:
            watch.inside = False  # without a call: no interrupt after this line
            watch.end()
        late = monotonic_ns() - self._time_due
        if late > 0 and late > grace_of(options.time_limit):  # native code kept the watchdog away
            self.kind = HANG
            raise self._firing(watch.ident).exception()()
        return value

    def begin_anew(self) -> None:
        """Let the time begin anew; in the thread that handles the message."""
        limit = self._options.time_limit
        if limit is not None:
            self._time_due = monotonic_ns() + limit

    def look(self, watch: Watch, now: int) -> int:
        """See `Plan.look`."""
        if self.kind is EXCEPTION:
            again = self._look_at_limits(now)
            if self.kind is EXCEPTION:
                return again
            self._give_up_at = now + grace_of(self._options.time_limit)
        if now >= self._give_up_at:
            if self._gives_up is None or (self.error is None and not self.claim()):
                return NEVER
            self.fail(watch.ident)
            try:
                self._gives_up(self)
            except RuntimeError:  # the operating system gives no thread to go on with just now
                return now + LATER
            return NEVER
        if not self._is_set:
            self._is_set = interrupt(watch, self._firing(watch.ident))
            if not self._is_set:
                return min(now + AGAIN, self._give_up_at)
        return self._give_up_at

    def simulate(self, clock: Any, watch_deadline: Callable[[Deadline], None]) -> None:
        """Have the turn taken away when virtual time has come that far."""
        limit = self._options.time_limit
        assert limit is not None
        self.kind = HANG
        gives_up = self._gives_up
        assert gives_up is not None
        self.fail()
        watch_deadline(Deadline(clock.now() + limit + grace_of(limit), lambda: gives_up(self)))

    def fail(self, ident: int = 0) -> None:
        """Make the exception of the fault, unless it is there already.

        Args:
            ident: of the thread, whose stack it has.
        """
        if self.error is None:
            self.error = self._firing(ident).exception()()

    def _look_at_limits(self, now: int) -> int:
        """Note which limit is exceeded, if one is; returns when to look again."""
        if now >= self._time_due:
            self.kind = HANG
            return now
        limit = self._options.memory_limit
        if limit is None:
            return self._time_due
        used = memory_use("resident").read()
        if used > limit:
            self.kind = MEMORY
            return now
        return min(self._time_due, now + until_next_look(limit - used))

    def _firing(self, ident: int) -> Firing:
        options = self._options
        limit = options.time_limit if self.kind is HANG else options.memory_limit
        base, size, text = exceeded(self.kind, limit or 0, self._path)
        firing = Firing(ident, base, text, self._path, size)
        firing.stack = firing.stack.of_handler()
        return firing


class LimitedCell(Cell):
    """The cell of a component whose handlers have limits; it runs in this process."""

    __slots__ = ("_elsewhere", "_handling", "_kind")

    is_limited = True

    def __init__(self, *arguments: Any) -> None:
        self._handling: Handling | None = None  # what the turn has in hand
        self._kind = EXCEPTION  # of the fault that is being dealt with
        self._elsewhere: Elsewhere | None = None  # what is known of it, if its thread was left
        Cell.__init__(self, *arguments)

    @property
    def elsewhere(self) -> Elsewhere | None:
        """What is known of a fault on a thread that was left alone."""
        return self._elsewhere

    @property
    def kind_of_fault(self) -> FaultKind:
        """See `Cell.kind_of_fault`."""
        return self._kind

    def progress(self) -> None:
        """See `Component.progress`."""
        handling = self._handling
        if handling is not None:
            handling.begin_anew()

    def run(self) -> bool:
        """Run one turn, each message of it watched; see `Cell.run`."""
        waiting = len(self.box)  # before the signals: nothing sent after a stop overtakes it
        if self.control:
            self._obey()
            waiting = min(waiting, len(self.box))
        if self.state is ACTIVE and (waiting or self.backlog is not None):
            self._drain(waiting)
        if self.state is not ACTIVE:
            return self._rest()
        if self.box or self.control or self.backlog is not None:
            return True
        self.asleep = True
        self.flag.release()
        if (self.box or self.control) and self.flag.acquire(False):
            self.asleep = False
            return True
        return False

    def _drain(self, waiting: int) -> None:
        chunk = self.take(waiting)
        self.handled += len(chunk)
        self.hand = left = iter(chunk)
        for message in left:
            self._handle(message, left)
            if self.state is not ACTIVE:
                return
            if self.control:
                break
        unhandled = length_hint(left)
        self.hand = None
        if unhandled:
            self.handled -= unhandled
            self.put_back(chunk[-unhandled:])

    def _handle(self, message: Any, left: Any) -> None:
        """Handle one message.

        Raises:
            AbandonedError: the turn is somebody else's now; touch nothing any more.
        """
        component = self.component
        handling = Handling(self.options, self.path, component, message, left, self._give_up)
        self._handling = handling
        handle: Callable[[Any], Any] = component.on_receive  # type: ignore[union-attr]
        content = message
        if type(message) is Envelope:
            content = message.message
            if message.action is not None:
                handle, content = message.action, component
        error: BaseException | None = None
        value = None
        try:
            if self.backend.kind == "manual":  # in virtual time, of which a handler takes none
                value = handle(content)
            else:
                value = handling.run(handle, content)
        except BaseException as raised:
            if type(raised) is SimulatedHang and self.options.time_limit is not None:
                handling.simulate(self.runtime.clock, self.runtime.watch)
                raise AbandonedError from None
            error = raised
        if not handling.claim():
            if handling.goes_on.acquire(False):
                self._go_on_after(handling)
                return
            self.runtime.note_return()
            raise AbandonedError
        self._handling = None
        if error is not None:
            self._kind = handling.kind
            if handling.kind is MEMORY:
                clear_frames(error.__traceback__)  # what they hold is what there is too much of
            try:
                faulting.raised(self, error, message, left)
            finally:
                self._kind = EXCEPTION
        elif type(message) is Envelope:
            message.value = value
            if message.done is not None:
                message.done.release()

    def _go_on_after(self, handling: Handling) -> None:
        """Fault, since the limit was exceeded, on the thread that was to be left alone.

        There was no other one yet to go on with the component.
        """
        if handling.abandoned:
            self.runtime.note_return()
            handling.abandoned = 0
        handling.fail()
        _left_alone(self, handling)

    def _give_up(self, handling: Handling) -> None:
        """Take the turn away from its thread; on the watchdog's, which goes on at once.

        Raises:
            RuntimeError: there is no thread that could go on.
        """
        if not handling.goes_on.acquire(False):
            return  # its thread has come back, and goes on by itself
        if not handling.abandoned:  # or it is tried again
            handling.abandoned = self.runtime.count_abandoned()
            self.add_signal((_left_alone, (handling,)), first=True)
        try:
            self.backend.take_over(self)
        except RuntimeError:
            handling.goes_on.release()
            raise

    def ask_inline(
        self, ref: ComponentRef[Any], turn: InlineTurn, request: Any, timeout: float | None
    ) -> Any:
        """Ask as usual: an asker's thread cannot be left alone."""
        self.backend.wake(self)
        return ComponentRef.ask(ref, request, timeout)

    def make(self, factory: Callable[[], Component[Any]] | None) -> Component[Any]:
        """See `Cell.make`."""
        self._elsewhere = None
        return Cell.make(self, factory)


def _left_alone(cell: LimitedCell, handling: Handling) -> None:
    """The thread of the turn was left alone with `handling`; in the turn, on another thread."""
    error = handling.error
    assert error is not None
    if cell.component is not handling.component:  # it was killed meanwhile
        for message in (handling.message, *handling.left):
            refuse(cell, message)
        return
    component = cell.component
    declared = {} if component is None else type(component).fault_classes
    fault_class = classify(error, declared)
    left = tuple(handling.left)
    cell.handled -= len(left)
    cell.hand = cell.asking = cell._handling = None
    cell._elsewhere = Elsewhere(
        handling.kind,
        phase_of(handling.message),
        RECOVERABLE if fault_class is FaultClass.BENIGN else fault_class,
        handling.message,
        left,
        Text(error.stack),
        error.location,
        None,
        False,
    )
    if handling.abandoned:
        told = (type(error).__qualname__, error.location, handling.abandoned)
        cell.runtime.emit(HandlerAbandoned(*identity(cell), *told))
    faulting.fault(cell, error, phase_of(handling.message))
    if handling.abandoned > MAX_ABANDONED:
        cell.runtime.emit(Escalated(*identity(cell), type(error).__qualname__))
        cell.runtime.escalate(as_raised(error, cell.path))
