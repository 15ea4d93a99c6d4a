"""How does a cell run a component that lives in another process?

Mailbox, name, state and recovery stay here; its turns send what is waiting to the child and keep
it until the child has handled it. The incarnation that the rest of the system sees is a stand-in:
its hooks have the child run those of the component, and wait. When the child faults or ends, what
it had not taken in hand is the oldest of the mailbox again (S-31).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kompyct import signals
from kompyct.cell import Cell
from kompyct.codecs import encode, for_child
from kompyct.component import Component
from kompyct.errors import (
    ProcessStartError,
    SnapshotError,
    UnpicklableError,
)
from kompyct.facts import Elsewhere
from kompyct.lifecycle import State
from kompyct.processes import protocol
from kompyct.processes.board import PHASE
from kompyct.processes.child import Child
from kompyct.processes.protocol import Assignment, Making
from kompyct.ref import ComponentRef
from kompyct.registration import Registration
from kompyct.stand_in import GRACE, HURRY, PATIENCE, StandIn, fell_meanwhile, wait
from kompyct.stored import prepare
from kompyct.waiting import InlineTurn

if TYPE_CHECKING:
    from kompyct.backends.process import ProcessBackend

_logger = logging.getLogger("kompyct")
# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
ACTIVE = State.ACTIVE
FAULTY = State.FAULTY


class RemoteCell(Cell):
    """A logical component each of whose incarnations has a process of its own."""

    __slots__ = (
        "_assignment", "_elsewhere", "_standby", "crashed", "newest", "parked", "patience",
    )  # fmt: skip

    backend: ProcessBackend
    # A component here, whatever it is there.
    component: StandIn | None  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, *arguments: Any) -> None:
        self._elsewhere: Elsewhere | None = None
        self._assignment: tuple[int, bytes] | None = None  # with the log level that is in it
        self._standby: Child | None = None
        self.newest: StandIn | None = None  # the incarnation, also while it is being made
        self.crashed: tuple[Child, ...] = ()  # what may not be gone yet, of earlier incarnations
        self.patience = PATIENCE  # seconds that an incarnation has to end in order
        self.parked = False  # whether its turn ended before everything was sent
        Cell.__init__(self, *arguments)

    @property
    def elsewhere(self) -> Elsewhere | None:
        """What its child told of the last fault, until the next incarnation is there."""
        return self._elsewhere

    def note(self, elsewhere: Elsewhere) -> None:
        """Keep what is known of a fault for its description, which follows."""
        self._elsewhere = elsewhere

    # -- the turn ---------------------------------------------------------------------------

    def run(self) -> bool:
        """Send what is waiting, as far as the child takes more; see `Cell.run`."""
        self.parked = False
        waiting = len(self.box)  # before the signals: nothing sent after a stop overtakes it
        if self.control:
            self._obey()
            waiting = min(waiting, len(self.box))
        if self.state is not ACTIVE:
            return self._rest()
        stand_in = self.component
        sent = stand_in is None or stand_in.send_some(waiting)
        if self.control or (sent and (self.box or self.backlog is not None)):
            return True
        self.parked = not sent
        self.asleep = sent
        self.flag.release()
        more = self.box if sent else stand_in is not None and stand_in.has_room
        if (self.control or more) and self.flag.acquire(False):
            self.asleep = False
            return True
        return False

    def signal(self, obey: Callable[..., None], *arguments: Any) -> None:
        """See `Cell.signal`; what is to end the handling of messages is seen there at once."""
        ends = _is_end(obey, arguments)
        stand_in = self.newest
        if stand_in is not None and (ends or obey is signals.stop):
            stand_in.be_ordered()
        if stand_in is not None and ends and _is_brutal(arguments):
            stand_in.patience = HURRY
        Cell.signal(self, obey, *arguments)
        stand_in = self.newest  # again: one that is newer finds the signal, see `make`
        if stand_in is not None and ends:
            self._have_end(stand_in)

    def _have_end(self, stand_in: StandIn) -> None:
        """Whatever the turn may be waiting for, a hook that hangs or the factory: it ends."""
        stand_in.is_to_end = True
        backend = self.backend
        if backend.kind == "process":  # it has not ended yet
            backend.end(stand_in.child, stand_in.patience + 2 * GRACE, GRACE)

    def ask_inline(
        self, ref: ComponentRef[Any], turn: InlineTurn, request: Any, timeout: float | None
    ) -> Any:
        """Ask as usual: the component is not in this process."""
        self.backend.wake(self)
        return ComponentRef.ask(ref, request, timeout)

    def position(self) -> int:
        """See `Cell.position`; as the child says."""
        stand_in = self.component
        return self.handled if stand_in is None else stand_in.position()

    # -- its incarnations -------------------------------------------------------------------

    def make(self, factory: Callable[[], Component[Any]] | None) -> Component[Any]:
        """Have a new child make the component; returns what stands for it here.

        Raises:
            UnpicklableError: the factory cannot be sent to a child.
            ProcessStartError: there is no child to be had.
            ProcessExitError: the child ended meanwhile.
            BaseException: what the factory raises.
        """
        self._elsewhere = None
        making = self._making(factory)
        while True:
            child = self._take_standby() or self.backend.new_child()
            stand_in = StandIn(self, child)
            self.newest = stand_in
            for obey, arguments in self.control:  # told while there was no process to be ended
                if _is_end(obey, arguments):
                    if _is_brutal(arguments):
                        stand_in.patience = HURRY
                    stand_in.be_ordered()
                    self._have_end(stand_in)
            try:
                stand_in.have_made(making)
                break
            except BaseException:
                # It may have been killed while it waited to be needed: that is no fault of this
                # component's, of which it has done nothing yet.
                is_other = (
                    child.was_made_ahead and child.is_over and not child.board.numbers[PHASE]
                )
                stand_in.end(0.0)
                if not is_other or stand_in.is_to_end:
                    raise
                self._elsewhere = None
        stand_in._kompyct_cell = self
        stand_in.take_up_saves()
        return stand_in

    def have_standby(self) -> None:
        """Have a further child that waits to be the next incarnation."""
        if self._standby is None:
            # Without one a recovery takes longer.
            with suppress(OSError, ProcessStartError, UnpicklableError):
                making = self._making(self.factory)
                self._standby = self.backend.new_child()
                self._standby.control(protocol.WARM, making)
                self.backend.replace_spare()

    def let_go(self) -> None:
        """Let the standby go: there will be no further incarnation, and the last is gone."""
        if not self.options.overlap:
            self.await_crashed(GRACE + 1.0)
        child = self._take_standby()
        if child is not None:
            child.control(protocol.LEAVE)
            self.backend.end(child, PATIENCE, GRACE)
            child.discard()

    def _take_standby(self) -> Child | None:
        child, self._standby = self._standby, None
        if child is not None and child.is_over:
            child.discard()
            return None
        if child is not None:
            child.was_made_ahead = True
        return child

    def await_crashed(self, seconds: float) -> bool:
        """Wait so long until earlier processes of it are gone; whether they are."""
        return all(wait(self, child.gone, seconds) for child in self.crashed)

    def _making(self, factory: Callable[[], Component[Any]] | None) -> Making:
        try:
            packed = for_child(factory, main_by_name=self.backend.main_is_known)
        except SnapshotError as error:
            raise UnpicklableError(
                f"the factory of component {self.path!r} cannot be sent to a child process "
                f"({type(error.__cause__).__name__}); give a class or a function of a module, or "
                "a functools.partial of plain data"
            ) from error
        starts = self.state is FAULTY and self.history.active
        return Making(
            self._packed_assignment(),
            self.incarnation,
            self.active_period,
            self.handled,
            self.active_period + 1 if starts else 0,
            packed,
        )

    def _packed_assignment(self) -> bytes:
        """Its `Assignment`, encoded; once for all incarnations until the log level changes."""
        log_level = _logger.getEffectiveLevel()
        if self._assignment is None or self._assignment[0] != log_level:
            runtime = self.runtime
            stored = runtime.writer is not None and self.is_named
            assignment = Assignment(
                runtime.key,
                runtime.name,
                self.id,
                self.name,
                self.path,
                encode(runtime.codec),
                runtime.durability if stored else "memory",
                stored,
                log_level,
                self.options.time_limit,
                self.options.memory_limit,
            )
            self._assignment = (log_level, encode(assignment))
        return self._assignment[1]

    def take_up_saves(self) -> None:
        """Take up what the component has saved in its process."""
        stand_in = self.newest  # also while it starts by itself, and the turn does not know yet
        if stand_in is not None:
            stand_in.take_up_saves()

    def pass_on(self, registration: Registration) -> bool:
        """Have the child register what was registered from outside; whether it has done so."""
        stand_in = self.component
        if stand_in is None or stand_in.child.is_over or registration.stored_as is None:
            return False
        told = (registration.stored_as, registration.data, registration.saved_at)
        try:
            stand_in.have_done(protocol.REGISTER, told)
        except BaseException as error:
            # It has faulted instead, and the question has taken the news. First this is registered
            # here, since it counts; then the fault is dealt with.
            self.add_signal((fell_meanwhile, (stand_in, error)), first=True)
            return False
        return True

    def prepare(self, registration: Registration) -> None:
        """See `Cell.prepare`; its function goes to another process in any case.

        Raises:
            SnapshotError: as `Cell.prepare`.
        """
        prepare(registration)


def _is_end(obey: Callable[..., None], arguments: tuple[Any, ...]) -> bool:
    """Whether a signal is to end the incarnation, and not once the mailbox is empty."""
    drains = obey is signals.kill and arguments[2:3] == (True,)
    return obey in (signals.kill, signals.suspend) and not drains


def _is_brutal(arguments: tuple[Any, ...]) -> bool:
    return arguments[1:2] == (True,)
