"""What is around a cell that is explored, and what must hold of every cell?

A tiny backend runs it, a recorder stands for its runtime, and a noter is its component.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import count
from typing import Any, ClassVar

from kompyct import events, signals
from kompyct.backends import Graveyard
from kompyct.cell import Cell
from kompyct.clock import ManualClock
from kompyct.component import Component
from kompyct.deadline import Deadline
from kompyct.errors import ComponentDestroyedError, MailboxFullError, RestartingError
from kompyct.faults import FaultContext, RecoveryHandler
from kompyct.groups import Groups
from kompyct.lifecycle import State
from kompyct.messages import LateReplies
from kompyct.names import Names
from kompyct.options import Options
from kompyct.ref import ComponentRef
from kompyct.registration import Registration
from kompyct.watching import Watches
from tests.harness.explorer import Scenario
from tests.harness.stage import Stage
from tests.harness.stand_ins import Ready


class World(Scenario):
    """A cell with a noter in it; `waiting` is in its mailbox, and it is ready if it must be."""

    options: ClassVar[Options] = Options()
    begins_active: ClassVar[bool] = True
    waiting: ClassVar[tuple[str, ...]] = ()
    sent: ClassVar[str] = ""
    """Every message that is sent, told or asked, `waiting` included; separated by spaces."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.notes: list[str] = []
        self.answers: dict[str, Any] = {}  # of asks: value, or the exception
        self.refused: list[str] = []
        self.killed: Future[None] = Future()
        self.shared = Shared(stage)
        self.backend = Ready()
        shared: Any = self.shared
        self.cell = Cell(shared, 1, "noter", self.make, self.backend, self.options)
        self.cell.component = self.cell.make(self.make)
        self.ref: ComponentRef[Any] = ComponentRef(self.cell)
        if self.begins_active:
            self.cell.signal(signals.start, None)
            self.backend.drain()
        for message in self.waiting:
            self.ref.tell(message)

    def make(self) -> Noter:
        noter = Noter(self)
        noter._kompyct_registration = Registration(recover, None, 0, 0, 0)
        return noter

    def started(self, noter: Noter) -> None:
        """Called in on_start."""

    # -- what players do

    def tell(self, *messages: str) -> None:
        for message in messages:
            try:
                self.ref.tell(message)
            except MailboxFullError:
                self.refused.append(message)

    def ask(self, message: Any, timeout: float | None = None) -> None:
        try:
            self.answers[message] = self.ref.ask(message, timeout)
        except Exception as error:
            self.answers[message] = error

    def kill(self, *, after_messages: bool = False) -> None:
        self.cell.signal(signals.kill, self.killed, False, after_messages)

    def rebuild(self) -> None:
        """Do what the supervisor does: answer each fault with a restart."""
        shared = self.shared
        while shared.answered < len(shared.faults):
            fault = shared.faults[shared.answered]
            shared.answered += 1
            self.cell.signal(signals.rebuild, fault, None)

    def end(self) -> None:
        """Do what the supervisor does: answer each fault with the end."""
        shared = self.shared
        while shared.answered < len(shared.faults):
            fault = shared.faults[shared.answered]
            shared.answered += 1
            self.cell.signal(signals.end, fault, "ended")

    def settle(self) -> None:
        self.backend.drain()
        self.rebuild()
        self.backend.drain()

    # -- what must hold

    def handled(self) -> list[str]:
        return [note[2:] for note in self.notes if note.startswith("< ")]

    def check(self) -> None:
        cell = self.cell
        self.check_rest()
        # Each message is handled once, or a dead letter once, or refused, or its ask failed.
        failed = [
            message
            for message, answer in self.answers.items()
            if isinstance(answer, RestartingError | ComponentDestroyedError | MailboxFullError)
        ]
        met = Counter([*self.handled(), *self.shared.letters, *self.refused, *failed])
        assert met == Counter(self.sent.split()), f"sent {self.sent!r}, met {dict(met)}"
        # In order for each sender, whose letter a message begins with.
        for sender in {message[0] for message in met}:
            mine = [message for message in self.handled() if message[0] == sender]
            assert mine == sorted(mine), f"handled as {mine}"
        kills = self.notes.count("kill")
        assert kills <= 1, f"on_kill was called {kills} times"
        if kills:
            after = self.notes[self.notes.index("kill") + 1 :]
            assert not after, f"after on_kill came {after}"
        ended = self.shared.of(events.ComponentEnded)
        ends = sum(event.component_id == cell.id for event in ended)
        assert ends == (cell.state is State.DESTROYED), f"{ends} reports of the end"

    def check_rest(self) -> None:
        """What holds of every cell for which there is nothing to do."""
        cell = self.cell
        state = cell.state
        assert not self.backend.ready
        assert not cell.flag.locked(), "the flag is held by nobody who runs"
        assert not cell.control, "a signal was never obeyed"
        if state in (State.ACTIVE, State.DESTROYED):
            assert cell.asleep, "the next sender will not wake it"
            assert not cell.waiting(), f"{cell.waiting()} messages left asleep"


class Noter(Component[Any]):
    """Notes what it handles; texts that begin with "bad" are a fault, others are the reply."""

    def __init__(self, world: World) -> None:
        self.world = world

    def on_start(self) -> None:
        self.world.notes.append("start")
        self.world.started(self)

    def on_stop(self) -> None:
        self.world.notes.append("stop")

    def on_kill(self) -> None:
        self.world.notes.append("kill")

    def on_receive(self, message: Any) -> Any:
        self.world.notes.append(f"< {message}")
        if message.startswith("bad"):
            raise ValueError(message)
        return message


def recover(fault: FaultContext[Any]) -> RecoveryHandler:
    """The recovery function of the scenarios."""
    return fault.restart()


class Shared:
    """Stands for the runtime of a cell; notes what the cell tells it."""

    def __init__(self, stage: Stage) -> None:
        self.signals = stage.new_lock()
        self.clock = ManualClock()
        self.checked_classes: set[type] = set()
        self.stopping = False
        self.recovery_deadline = 1
        self.writer: Any = None
        self.orders = count(1)
        self.late_replies = LateReplies()
        self.faults: list[FaultContext[Any]] = []
        self.answered = 0  # faults, from the first on, that were answered
        self.events: list[Any] = []
        self.letters: list[Any] = []
        self.deadlines: list[Deadline] = []
        self.graveyard = Graveyard()
        self.key = "explored"
        self.watches = Watches()
        self.names = Names()
        self.groups = Groups(self)
        self.on_event: Callable[[Any], object] = lambda event: None

    def emit(self, event: Any) -> None:
        self.on_event(event)
        self.events.append(event)

    def tell_supervisor(self, message: Any) -> None:
        self.events.append(message)

    def supervise(self, fault: FaultContext[Any]) -> None:
        self.faults.append(fault)
        assert len(self.faults) < 9, "faults without end"

    def undelivered(self, cell: Cell, messages: Iterable[Any], reason: str) -> None:
        self.letters += messages

    def forget(self, cell: Cell) -> Graveyard:
        self.names.free(cell)
        self.groups.leave_all(cell)
        return self.graveyard

    def tell_watchers(self, cell: Cell) -> None:
        self.watches.tell(cell)

    def watch(self, deadline: Deadline) -> None:
        self.deadlines.append(deadline)

    def unwatch(self, deadline: Deadline) -> None:
        if deadline in self.deadlines:
            self.deadlines.remove(deadline)

    def expire(self) -> None:
        """Do what the watchdog does when every deadline is due."""
        for deadline in (*self.deadlines,):
            if deadline.claim():
                deadline.expire()

    def new_future(self) -> Future[Any]:
        return Future()

    def note_interrupt(self, interrupt: BaseException) -> None:
        """Nobody pressed Ctrl+C."""

    def of(self, kind: type) -> list[Any]:
        """The events of that kind."""
        return [event for event in self.events if isinstance(event, kind)]
