"""In which orders may two threads meet in the core, and does each of them end well?

A scenario says what two *players* do with one cell, or with one pool. They are threads, but only
one moves at a time: `sys.settrace` stops a player before the n-th opcode that it executes in
kompyct, and the other one goes on from there. The plan `0:12 1:7` stops player 0 before its 12th
opcode, then player 1 before its 7th; then player 0 goes on to its end, and player 1 after it. All
plans of that form are tried, with either player as the first.

A switch before an opcode that touches nothing but its own frame (`LOAD_FAST`, a jump) equals a
switch before the next opcode, so only the others are counted. Locks of kompyct are replaced by
locks that hand over to the other player instead of blocking; when neither can move, and what
the scenario does about it (run what is ready, answer a fault) frees none, the scenario's checks
are made. Who still waits then waits for ever. A lock with a timeout that is held has timed out
at once: a switch before it stands for every longer wait.

    python -m tests.harness.explore [--whole] [--scenario NAME] [--seed N] [--plan "0:12 1:7"]

Without `--whole`: the plans of one switch (`0:12`; the other player runs to its end), and a
sample of those of two, drawn with the seed. Limits: two threads; two switches, and in the whole
also drawn plans of five; the memory model of the GIL; nothing is switched within a C function or
in the standard library.
"""

from __future__ import annotations

import argparse
import dis
import os
import random
import sys
import threading
import time
import traceback
from _thread import allocate_lock
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from itertools import count
from types import CodeType, FrameType, ModuleType
from typing import Any, ClassVar

import kompyct
import kompyct.backends.manual
import kompyct.backends.pool
import kompyct.backends.thread
import kompyct.component
import kompyct.runtime
from kompyct import events, signals
from kompyct.backends import Graveyard
from kompyct.backends.pool import PoolBackend, _Status, _Worker
from kompyct.cell import Cell
from kompyct.clock import ManualClock
from kompyct.component import Component
from kompyct.deadline import AbandonedError, Deadline
from kompyct.errors import (
    AskTimeoutError,
    ComponentDestroyedError,
    IncarnationEndedError,
    MailboxFullError,
    NotStartedError,
    RestartingError,
)
from kompyct.faults import FaultContext, RecoveryHandler
from kompyct.lifecycle import State
from kompyct.options import Options
from kompyct.recovery import Decision, LateRecovery, RecoveryJob
from kompyct.ref import ComponentRef, InlineRef
from kompyct.registration import Registration
from kompyct.runtime import LateReplies
from kompyct.supervisor import EndAll
from kompyct.system import ComponentSystem
from kompyct.timers import Timer
from kompyct.waiting import here

Plan = tuple[tuple[int, int], ...]
"""Steps (player, opcodes it moves before the other one goes on)."""

Place = tuple[int, CodeType, int]
"""A player, and before which offset in which code it was stopped."""

STUCK_AFTER = 20.0
"""Seconds without a move after which the harness itself is taken to be stuck."""

SAMPLE = 60
"""Plans of two switches that the cheap half draws for each scenario."""

ENDLESS = 10**9
"""More opcodes than any player has."""

FIVE_SWITCHES = 400
"""Plans of five switches that the whole draws for each scenario."""

# -- the stage --------------------------------------------------------------------------------

_CORE = (
    "backends/__init__", "backends/pool", "cell", "component", "deadline", "ending", "faulting",
    "mailbox", "messages", "recovery", "ref", "runtime", "signals", "supervisor", "timers",
    "waiting",
)  # fmt: skip
"""Modules in which players are stopped; the others touch nothing that threads share."""

_PRIVATE = frozenset((
    "BINARY_OP", "BUILD_LIST", "BUILD_MAP", "BUILD_TUPLE", "CACHE", "CHECK_EXC_MATCH",
    "COPY", "COPY_FREE_VARS", "EXTENDED_ARG", "IS_OP", "JUMP_BACKWARD",
    "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_FORWARD", "KW_NAMES", "LIST_TO_TUPLE",
    "LOAD_CLOSURE", "LOAD_CONST", "LOAD_DEREF", "LOAD_FAST", "LOAD_FAST_LOAD_FAST",
    "LOAD_GLOBAL", "MAKE_CELL", "MAKE_FUNCTION", "NOP", "POP_EXCEPT",
    "POP_JUMP_BACKWARD_IF_NONE", "POP_JUMP_BACKWARD_IF_NOT_NONE",
    "POP_JUMP_FORWARD_IF_NONE", "POP_JUMP_FORWARD_IF_NOT_NONE", "POP_JUMP_IF_NONE",
    "POP_JUMP_IF_NOT_NONE", "POP_TOP", "PRECALL", "PUSH_EXC_INFO", "PUSH_NULL",
    "RAISE_VARARGS", "RERAISE", "RESUME", "RETURN_CONST", "RETURN_VALUE",
    "SETUP_ANNOTATIONS", "STORE_DEREF", "STORE_FAST", "SWAP", "UNPACK_SEQUENCE",
))  # fmt: skip
"""Opcodes that touch their own frame, or objects only it knows. `BINARY_OP` reads numbers here."""


_ACCESS = frozenset((
    "LOAD_ATTR", "LOAD_FAST", "LOAD_METHOD", "STORE_ATTR",
))  # fmt: skip

_HOT = frozenset((
    "_closed", "_deadlines", "_resting", "_running", "append", "asleep", "box", "control",
    "flag", "has_asks", "idle", "ready",
))  # fmt: skip
"""What the protocols between senders, turns and workers are made of."""


class Unwound(BaseException):
    """The schedule is over and judged; this player waits for nothing any more."""


class StuckError(Exception):
    """The harness itself has come to a halt."""


class Lock:
    """Stands for kompyct's locks: who must wait hands over to the other player."""

    __slots__ = ("_stage", "held", "timeouts")

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.held = False
        self.timeouts = -1  # waits with a limit that time out; after them time stands still

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self.held:
            if not blocking:
                return False
            if timeout >= 0 and self.timeouts:
                self.timeouts -= 1
                return False
            self._stage.block(self)
        self.held = True
        return True

    def release(self) -> None:
        if not self.held:
            raise RuntimeError("release unlocked lock")
        self.held = False

    def locked(self) -> bool:
        return self.held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Player(threading.Thread):
    """One of the two threads; it moves only while it has the turn."""

    def __init__(self, stage: Stage, number: int) -> None:
        super().__init__(name=f"player-{number}", daemon=True)
        self.number = number
        self.turn = allocate_lock()
        self.turn.acquire()
        self.body: Callable[[], object] | None = None
        self.step = 0  # of the plan, in which it moves
        self.left = 0  # opcodes until the next forced switch; 0: none
        self.moves = 0  # opcodes so far, while it was watched
        self.ended = True
        self.waits_for: Lock | None = None
        self.error: BaseException | None = None
        self._stage = stage
        self._trace = stage.tracer(self)

    def can_move(self) -> bool:
        return not self.ended and (self.waits_for is None or not self.waits_for.held)

    def run(self) -> None:
        while True:
            self.turn.acquire()
            body = self.body
            if body is None:
                return
            here.runner = None
            if self.left:
                sys.settrace(self._trace)
            try:
                body()
            except Unwound:
                pass
            except BaseException as error:
                self.error = error
            finally:
                sys.settrace(None)
            self.ended = True
            self._stage.pass_on(None)


class Stage:
    """Two players, the baton between them, and the locks they share. A context manager."""

    def __init__(self, every_opcode: bool = False) -> None:
        self._every_opcode = every_opcode
        self.hot_only = False  # whether to count only opcodes that load or store what is hot
        # For hot_only or not, by the code's id, since hashing code is slow.
        self._tables: dict[bool, dict[int, tuple[CodeType, bytes]]] = {False: {}, True: {}}
        package = os.path.dirname(kompyct.__file__)
        self._files = {os.path.join(package, *f"{name}.py".split("/")) for name in _CORE}
        self._package = package
        self._driver = allocate_lock()
        self._driver.acquire()
        self._plan: Plan = ()
        self._step = 0  # the next step of the plan
        self._unwinding = False
        self._restore: list[tuple[Any, str, Any]] = []
        self._cpus: set[int] | None = None
        self.taken: set[int] = set()  # steps of the plan that ended with a forced switch
        self.places: list[Place] = []  # where those were
        self.players: tuple[Player, ...] = ()

    def __enter__(self) -> Stage:
        for module in (*sys.modules.values(),):
            ours = isinstance(module, ModuleType) and module.__name__.startswith("kompyct")
            if ours and getattr(module, "allocate_lock", None) is allocate_lock:
                self.replace(module, "allocate_lock", self.new_lock)
        self.replace(kompyct.waiting, "_edges", self.new_lock())
        self.replace(kompyct.backends.pool, "_Worker", StagedWorker)
        self.replace(kompyct.backends.pool, "PoolBackend", StagedPool)
        self.replace(kompyct.runtime, "_at_exit", lambda runtime: None)
        if hasattr(os, "sched_setaffinity"):  # one thread moves at a time: one CPU is faster
            self._cpus = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {random.choice(sorted(self._cpus))})
        self.players = (Player(self, 0), Player(self, 1))
        for player in self.players:
            player.start()
        return self

    def __exit__(self, *_: object) -> None:
        for player in self.players:
            player.body = None
            player.turn.release()
        for player in self.players:
            player.join(STUCK_AFTER)
        if self._cpus is not None:
            os.sched_setaffinity(0, self._cpus)
        while self._restore:
            setattr(*self._restore.pop())

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute until the stage is left."""
        self._restore.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def new_lock(self) -> Lock:
        return Lock(self)

    # -- one schedule ------------------------------------------------------------------------

    def play(self, bodies: tuple[Callable[[], object], ...], plan: Plan) -> None:
        """Have the players begin `bodies`, and move until neither can."""
        self._plan = plan
        self._step = 0
        self._unwinding = False
        self.taken.clear()
        self.places.clear()
        for player, body in zip(self.players, bodies, strict=True):
            player.body = body
            player.left = player.moves = 0
            player.ended = False
            player.waits_for = None
            player.error = None
        self.go_on()

    def go_on(self) -> bool:
        """Let who can move do so, until nobody can; False if nobody could."""
        player = self._next()
        if player is None:
            return False
        player.turn.release()
        if not self._driver.acquire(True, STUCK_AFTER):
            stacks = "".join(
                f"{player.name}:\n{''.join(traceback.format_stack(frame))}"
                for player in self.players
                if (frame := sys._current_frames().get(player.ident or 0)) is not None
            )
            raise StuckError(f"the harness is stuck, in a real lock?\n{stacks}")
        return True

    def unwind(self) -> None:
        """Rid the players of what they still wait for."""
        self._unwinding = True
        for player in self.players:
            if not player.ended:
                player.turn.release()
                self._driver.acquire()

    # -- on a player's thread ----------------------------------------------------------------

    def block(self, lock: Lock) -> None:
        """Wait until `lock` is free."""
        player = threading.current_thread()
        if self._unwinding or not isinstance(player, Player):
            raise Unwound
        while lock.held:
            player.waits_for = lock
            self.pass_on(player)
            player.waits_for = None

    def pass_on(self, player: Player | None) -> None:
        """Let go on who is next; `player`, if given, wants to go on later."""
        after = None if self._unwinding else self._next()
        if after is player and player is not None:
            return
        (self._driver if after is None else after.turn).release()
        if player is not None:
            player.turn.acquire()
            if self._unwinding:
                raise Unwound

    def _next(self) -> Player | None:
        plan = self._plan
        while self._step < len(plan):
            number, moves = plan[self._step]
            self._step += 1
            player = self.players[number]
            if player.can_move():
                player.left = moves
                player.step = self._step - 1
                return player
        last = plan[-1][0] if plan else 1
        for player in (self.players[1 - last], self.players[last]):
            if player.can_move():
                player.left = 0
                return player
        return None

    def tracer(self, player: Player) -> Callable[..., Any]:
        """The trace function that counts the player's opcodes and stops it."""

        def on_call(frame: FrameType, event: str, argument: Any) -> Any:
            code = frame.f_code
            known = self._tables[self.hot_only].get(id(code))
            table = known[1] if known is not None else self._table(code)
            if not table:
                return None
            frame.f_trace_lines = False
            frame.f_trace_opcodes = True

            def on_opcode(frame: FrameType, event: str, argument: Any) -> Any:
                if event == "opcode" and table[frame.f_lasti]:
                    player.moves += 1
                    player.left -= 1
                    if player.left == 0:
                        self.taken.add(player.step)
                        self.places.append((player.number, code, frame.f_lasti))
                        self.pass_on(player)
                        if player.left == 0:  # no more forced switches
                            sys.settrace(None)
                return on_opcode

            return on_opcode

        return on_call

    def _table(self, code: CodeType) -> bytes:
        """For each offset in `code` whether a switch there may matter; empty: nowhere."""
        file = code.co_filename
        table = b""
        if self.hot_only and (file in self._files or code is Ready.wake.__code__):
            hot = bytearray(len(code.co_code))
            for instruction in dis.get_instructions(code):
                name = str(instruction.argval).split(" + ")[-1]  # 3.12: "NULL|self + name"
                hot[instruction.offset] = name in _HOT and instruction.opname in _ACCESS
            table = bytes(hot)
        elif self._every_opcode and file.startswith(self._package):
            table = b"\1" * len(code.co_code)
        elif file in self._files or code is Ready.wake.__code__:
            matters = bytearray(len(code.co_code))
            for instruction in dis.get_instructions(code):
                matters[instruction.offset] = instruction.opname not in _PRIVATE
            table = bytes(matters)
        self._tables[self.hot_only][id(code)] = (code, table)
        return table


def describe(place: Place) -> str:
    """A place in words."""
    player, code, offset = place
    instruction = next(i for i in dis.get_instructions(code) if i.offset == offset)
    positions = [*code.co_positions()][offset // 2]
    file = os.path.basename(code.co_filename)
    where = f"{file}:{positions[0]} in {code.co_qualname}"
    return f"player {player} before {instruction.opname} {instruction.argrepr} at {where}"


# -- scenarios: what they share ---------------------------------------------------------------


class Scenario:
    """What two players do; a new object is one go of it. The docstring says what must hold."""

    constants: ClassVar[tuple[tuple[Any, str, Any], ...]] = ()
    """(owner, name, value) to be set while this scenario is explored."""
    hot_switches: ClassVar[int] = 2
    """Switches at what is hot, in the cheap half; one more in the others."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def one(self) -> None:
        """What player 0 does."""

    def two(self) -> None:
        """What player 1 does."""

    def settle(self) -> None:
        """What the rest of the world does when neither can move; may be called again."""

    def may_wait(self, lock: Lock) -> bool:
        """Whether a player may wait for `lock` at the end."""
        return False

    def check(self) -> None:
        """Raise `AssertionError` unless all is well."""


class Ready:
    """The backend of the scenarios: a queue, and whoever likes runs what is in it."""

    kind = "explored"

    def __init__(self) -> None:
        self.ready: deque[Any] = deque()
        self.ended: list[Any] = []  # cells whose end this backend has seen

    def wake(self, item: Any) -> None:
        item.asleep = False
        self.ready.append(item)

    take_over = wake

    def drain(self) -> None:
        """Run turns until nothing is ready."""
        while True:
            try:
                item = self.ready.popleft()
            except IndexError:
                return
            try:
                if item.run():
                    self.ready.append(item)
                elif item.state is State.DESTROYED:
                    self.ended.append(item)
            except AbandonedError:
                pass


class Shared:
    """Stands for the runtime of a cell; notes what the cell tells it."""

    def __init__(self, stage: Stage) -> None:
        self.signals = stage.new_lock()
        self.clock = ManualClock()
        self.checked_classes: set[type] = set()
        self.stopping = False
        self.recovery_deadline = 1
        self.orders = count(1)
        self.late_replies = LateReplies()
        self.faults: list[FaultContext[Any]] = []
        self.answered = 0  # faults, from the first on, that were answered
        self.events: list[Any] = []
        self.letters: list[Any] = []
        self.deadlines: list[Deadline] = []
        self.graveyard = Graveyard()
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
        return self.graveyard

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


def recover_newly(fault: FaultContext[Any]) -> RecoveryHandler:
    """Another one."""
    return fault.restart()


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
        noter._registration = Registration(recover, None, 0, 0, 0)
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
        ends = len(self.shared.of(events.ComponentEnded))
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


# -- scenarios: the cell ----------------------------------------------------------------------


class TellTurn(World):
    """A tell meets the end of a turn: it is handled, now or at a wake-up."""

    waiting = ("m1",)
    sent = "m1 a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.backend.drain()


class TellTell(World):
    """Two senders, both of whom run what is ready: one of them wakes the cell."""

    sent = "a1 c1"

    def one(self) -> None:
        self.tell("a1")
        self.backend.drain()

    def two(self) -> None:
        self.tell("c1")
        self.backend.drain()


class LastLook(World):
    """A tell and the look after a turn, in more detail."""

    hot_switches = 4
    waiting = ("m1",)
    sent = "m1 a1"

    def one(self) -> None:
        self.tell("a1")
        self.backend.drain()

    def two(self) -> None:
        self.backend.drain()


class LastLookSignal(World):
    """A signal and the look after a turn that is not active, in more detail."""

    hot_switches = 4
    begins_active = False

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.cell.signal(signals.stop, None)

    def one(self) -> None:
        self.cell.signal(signals.start, None)
        self.backend.drain()

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.cell.state is State.ACTIVE


class TellDrain(World):
    """A tell meets a turn that has taken a chunk: order and number are kept."""

    waiting = ("m1", "m2")
    sent = "m1 m2 a1"

    def one(self) -> None:
        self.tell("a1")
        self.backend.drain()

    def two(self) -> None:
        self.backend.drain()


class TellStop(World):
    """What is not handled before the stop waits until the next start."""

    sent = "a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.cell.signal(signals.stop, None)
        self.backend.drain()

    def settle(self) -> None:
        self.backend.drain()
        if self.cell.state is State.PASSIVE:
            self.check_rest()
            self.cell.signal(signals.start, None)
            self.backend.drain()

    def check(self) -> None:
        super().check()
        between = self.notes[self.notes.index("stop") + 1]
        assert between == "start", f"after the stop came {between!r}"


class StopTell(World):
    """Nothing sent after a stop overtakes it (S-02)."""

    sent = "a1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.cell.signal(signals.start, None)  # changes nothing; makes it ready

    def one(self) -> None:
        self.cell.signal(signals.stop, None)
        self.tell("a1")

    def two(self) -> None:
        self.backend.drain()

    def settle(self) -> None:
        self.backend.drain()
        if self.cell.state is State.PASSIVE:
            assert "a1" not in self.handled(), "a1 overtook the stop"
            self.check_rest()
            self.cell.signal(signals.start, None)
            self.backend.drain()


class TellDrainStop(World):
    """A stop is obeyed between any two messages (S-02); the rest wait for the next start."""

    waiting = ("m1", "m2", "m3")
    sent = "m1 m2 m3"
    mark = 0

    def one(self) -> None:
        self.cell.signal(signals.stop, None)
        self.mark = len(self.notes)

    def two(self) -> None:
        self.backend.drain()

    def settle(self) -> None:
        self.backend.drain()
        if self.cell.state is State.PASSIVE:
            self.cell.signal(signals.start, None)
            self.backend.drain()

    def check(self) -> None:
        super().check()
        late = self.notes[self.mark : self.notes.index("stop")]
        assert len(late) <= 1, f"handled after stop had returned: {late}"


class TellStart(World):
    """What is sent to a component that is being started is handled."""

    begins_active = False
    waiting = ("m1",)
    sent = "m1 a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.cell.signal(signals.start, None)
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.cell.state is State.ACTIVE


class TellKill(World):
    """What is not handled before the end is a dead letter, once."""

    waiting = ("m1",)
    sent = "m1 a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.cell.state is State.DESTROYED
        assert self.killed.done()


class TellKillBounded(TellKill):
    """The same with a bounded mailbox."""

    options = Options(mailbox_limit=2, overflow="error")


class TellKillAfterMessages(World):
    """A kill after the messages handles those sent before it, and loses none."""

    waiting = ("m1", "m2")
    sent = "m1 m2 a1"

    def one(self) -> None:
        self.tell("a1")
        self.backend.drain()

    def two(self) -> None:
        self.kill(after_messages=True)
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert {"m1", "m2"} <= {*self.handled()}
        assert self.killed.done()
        assert self.cell.state is State.DESTROYED


class AskKill(World):
    """An ask of a component that is being killed gets its reply or an error; it never hangs."""

    sent = "a1"

    def one(self) -> None:
        self.ask("a1")

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        answer = self.answers["a1"]
        assert answer == "a1" or isinstance(answer, ComponentDestroyedError), repr(answer)


class AskTurn(World):
    """An ask meets the end of a turn: it gets its reply."""

    waiting = ("m1",)
    sent = "m1 a1"

    def one(self) -> None:
        self.ask("a1")

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.answers == {"a1": "a1"}


class AskTimeout(World):
    """An asker that gives up meets the reply: it is received, or counted as late (S-16)."""

    sent = "a1"

    def one(self) -> None:
        self.ask("a1", 1.0)

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        super().check()
        answer = self.answers["a1"]
        if isinstance(answer, AskTimeoutError):
            assert self.shared.late_replies.count == 1, "a late reply was not counted"
        else:
            assert answer == "a1"


class AskFuture(World):
    """Asks for futures: one that its asker cancels harms nobody, the other gets its reply."""

    sent = "a1 a2"
    futures: tuple[Future[Any], ...] = ()

    def one(self) -> None:
        first = self.ref.ask("a1", block=False)  # type: ignore[call-overload]
        first.cancel()
        self.futures = (first, self.ref.ask("a2", block=False))  # type: ignore[call-overload]

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        super().check()
        first, second = self.futures
        assert first.done()
        assert second.result(0) == "a2"


class FaultAsk(World):
    """An ask that meets a fault is handled, or fails; it never hangs."""

    waiting = ("bad1",)
    sent = "bad1 a1"

    def one(self) -> None:
        self.ask("a1")

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        super().check()
        answer = self.answers["a1"]
        assert answer == "a1" or isinstance(answer, RestartingError), repr(answer)


class FaultAskFault(World):
    """An ask that is queued at the second fault of two fails then, or is found at the first.

    The replacement's factory raises, and its fault is never answered: who is not failed then
    waits for ever.
    """

    waiting = ("bad1",)
    sent = "bad1 m1 a1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.before: Future[Any] = self.ref.ask("m1", block=False)  # type: ignore[call-overload]

    def one(self) -> None:
        self.ask("a1")

    def two(self) -> None:
        self.backend.drain()

    def settle(self) -> None:
        self.fault_again()

    def fault_again(self) -> None:
        """Have the replacement fault as well, once."""
        if not self.shared.answered:
            self.backend.drain()
            self.shared.answered = 1

            def fail() -> Noter:
                raise ValueError

            self.cell.signal(signals.rebuild, self.shared.faults[0], fail)
            self.backend.drain()
            self.answers["m1"] = self.before.exception(0)

    def check(self) -> None:
        super().check()
        assert self.cell.state is State.FAULTY
        assert isinstance(self.answers["a1"], RestartingError)


class FaultFuture(World):
    """As a blocking ask; the envelope goes another way."""

    waiting = ("bad1",)
    sent = "bad1 a1"
    future: Future[Any] | None = None

    def one(self) -> None:
        self.future = self.ref.ask("a1", block=False)  # type: ignore[call-overload]

    def two(self) -> None:
        self.backend.drain()

    def settle(self) -> None:
        super().settle()
        if self.future is not None and self.future.done():
            self.answers["a1"] = self.future.exception() or self.future.result()

    def check(self) -> None:
        super().check()
        assert self.future is not None
        assert self.future.done()


class FaultFutureFault(FaultAskFault):
    """The same with a future."""

    future: Future[Any] | None = None

    def one(self) -> None:
        self.future = self.ref.ask("a1", block=False)  # type: ignore[call-overload]

    def settle(self) -> None:
        self.fault_again()
        if self.future is not None and self.future.done():
            self.answers["a1"] = self.future.exception() or self.future.result()


class FaultTell(World):
    """Tells that meet a fault follow the next incarnation, in order."""

    waiting = ("bad1", "m1")
    sent = "bad1 m1 a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.backend.drain()
        self.rebuild()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.handled() == ["bad1", "m1", "a1", "a2"]
        assert self.cell.incarnation == 2


class FaultEnd(World):
    """A fault that is the end makes dead letters of what waits and comes."""

    waiting = ("bad1", "m1")
    sent = "bad1 m1 a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.backend.drain()
        self.end()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.cell.state is State.DESTROYED


class StartFault(World):
    """A start that faults and is answered within the same turn; the ask that waits fails."""

    begins_active = False
    sent = "a1"
    starts = 0

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.future: Future[Any] = self.ref.ask("a1", block=False)  # type: ignore[call-overload]
        self.cell.signal(signals.start, None)

    def started(self, noter: Noter) -> None:
        self.starts += 1
        if self.starts == 1:
            raise ValueError

    def one(self) -> None:
        self.rebuild()

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        self.answers["a1"] = self.future.exception(0)
        super().check()
        assert self.cell.state is State.ACTIVE


class FaultStart(World):
    """A start asked for while the component faults and comes back ends well (S-04)."""

    waiting = ("bad1",)
    sent = "bad1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.stopped: Future[None] = Future()
        self.restarted: Future[None] = Future()

    def one(self) -> None:
        self.cell.signal(signals.stop, self.stopped)
        self.cell.signal(signals.start, self.restarted)

    def two(self) -> None:
        self.backend.drain()
        self.rebuild()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.stopped.done()
        assert self.restarted.result(0) is None
        assert self.cell.state is State.ACTIVE


class AskFaultKill(World):
    """An ask, a fault and a kill at once: the ask never hangs."""

    waiting = ("bad1",)
    sent = "bad1 a1"

    def one(self) -> None:
        self.ask("a1")

    def two(self) -> None:
        self.backend.drain()
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.killed.done()
        assert self.cell.state is State.DESTROYED


class KillFault(World):
    """A kill while a fault is being dealt with: one end, and no replacement after it."""

    waiting = ("bad1",)
    sent = "bad1 a1"

    def one(self) -> None:
        self.kill()
        self.tell("a1")

    def two(self) -> None:
        self.backend.drain()
        self.rebuild()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.killed.result(0) is None
        assert self.cell.state is State.DESTROYED


class KillAfterFault(World):
    """Who waits for a kill after the messages waits for the end, also across a fault (B-06)."""

    waiting = ("bad1",)
    sent = "bad1 a1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.shared.on_event = self.look
        self.early = False

    def look(self, event: Any) -> None:
        if isinstance(event, events.ComponentEnded):
            self.shared.on_event = lambda event: None
        self.early = self.early or self.killed.done()

    def one(self) -> None:
        self.kill(after_messages=True)
        self.tell("a1")

    def two(self) -> None:
        self.backend.drain()
        self.rebuild()
        self.backend.drain()

    def started(self, noter: Noter) -> None:
        self.early = self.early or self.killed.done()

    def check(self) -> None:
        super().check()
        assert self.killed.done()
        assert self.cell.state is State.DESTROYED
        assert not self.early, "the kill's future was done before the end"


class TwoSignals(World):
    """Two signals at once are both obeyed."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.futures: tuple[Future[None], Future[None]] = (Future(), Future())

    def one(self) -> None:
        self.cell.signal(signals.stop, self.futures[0])
        self.backend.drain()

    def two(self) -> None:
        self.cell.signal(signals.start, self.futures[1])
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert all(future.done() for future in self.futures)


class TwoKills(World):
    """Two kills at once: one end, and both are told."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.other: Future[None] = Future()

    def one(self) -> None:
        self.kill()
        self.backend.drain()

    def two(self) -> None:
        self.cell.signal(signals.kill, self.other, False)
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.killed.done()
        assert self.other.done()


class StartKill(World):
    """A kill that meets the start ends the component, started or not."""

    begins_active = False
    waiting = ("m1",)
    sent = "m1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.start: Future[None] = Future()

    def one(self) -> None:
        self.cell.signal(signals.start, self.start)
        self.backend.drain()

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.start.done()
        assert self.killed.done()
        assert self.cell.state is State.DESTROYED


class RegisterFault(World):
    """A registration from outside is used at this fault or kept for the next, never lost."""

    waiting = ("bad1",)
    sent = "bad1"

    def one(self) -> None:
        self.ref.set_recovery_function(recover_newly)

    def two(self) -> None:
        self.backend.drain()

    def settle(self) -> None:
        self.backend.drain()
        registration = self.cell.recovery
        assert registration is not None
        assert registration.function is recover_newly, "the registration is lost"


class RegisterStopFault(World):
    """Taking up a registration at a fault loses no other signal."""

    waiting = ("bad1",)
    sent = "bad1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.stopped: Future[None] = Future()

    def one(self) -> None:
        self.ref.set_recovery_function(recover_newly)
        self.cell.signal(signals.stop, self.stopped)

    def two(self) -> None:
        self.backend.drain()

    def settle(self) -> None:
        super().settle()
        assert self.stopped.done(), "the stop is lost"
        if self.cell.state is State.PASSIVE:
            self.cell.signal(signals.start, None)
            super().settle()


class RegisterTurn(World):
    """A registration from outside is taken up before the next message."""

    waiting = ("m1",)
    sent = "m1 bad1"

    def one(self) -> None:
        self.ref.set_recovery_function(recover_newly)
        self.tell("bad1")

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        super().check()
        registration = self.shared.faults[0]._facts.registration
        assert registration is not None
        assert registration.function is recover_newly, "the message overtook the registration"


class InlineTell(World):
    """An ask run in the asker's thread meets a tell: neither is lost."""

    sent = "a1 c1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.ref = InlineRef(self.cell)

    def one(self) -> None:
        self.ask("a1")
        self.backend.drain()

    def two(self) -> None:
        self.tell("c1")
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.answers == {"a1": "a1"}


class InlineInline(World):
    """Two asks run inline: one of them waits for the other's thread."""

    sent = "a1 c1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.ref = InlineRef(self.cell)

    def one(self) -> None:
        self.ask("a1")
        self.backend.drain()

    def two(self) -> None:
        self.ask("c1")
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.answers == {"a1": "a1", "c1": "c1"}


class InlineStop(World):
    """An ask run inline meets a stop: it is handled, or waits for the next start."""

    sent = "a1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.ref = InlineRef(self.cell)

    def one(self) -> None:
        self.ask("a1")

    def two(self) -> None:
        self.cell.signal(signals.stop, None)
        self.backend.drain()

    def settle(self) -> None:
        self.backend.drain()
        self.cell.signal(signals.start, None)
        self.backend.drain()


class InlineKill(World):
    """An ask run inline meets a kill: it gets its reply or an error."""

    sent = "a1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.ref = InlineRef(self.cell)

    def one(self) -> None:
        self.ask("a1")

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.killed.done()
        answer = self.answers["a1"]
        assert answer == "a1" or isinstance(answer, ComponentDestroyedError), repr(answer)


class InlineEnd(World):
    """A fault in an inline ask that ends the component: its backend sees the end.

    The actor of the thread backend ends when it has seen that, and lives for ever otherwise.
    """

    sent = "bad1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.ref = InlineRef(self.cell)

    def one(self) -> None:
        self.ask("bad1")

    def two(self) -> None:
        self.end()
        self.backend.drain()

    def settle(self) -> None:
        self.backend.drain()
        self.end()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert isinstance(self.answers["bad1"], ValueError)
        assert self.cell.state is State.DESTROYED
        assert self.backend.ended, "the end ran on the asker's thread; the backend has not seen it"


class DropOld(World):
    """A full mailbox that drops the oldest meets a turn: each message has one fate."""

    options = Options(mailbox_limit=2, overflow="drop_old")
    waiting = ("m1", "m2")
    sent = "m1 m2 a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.backend.drain()


class DropNew(DropOld):
    """The same, dropping the newest."""

    options = Options(mailbox_limit=2, overflow="drop_new")


class Refuse(DropOld):
    """The same, refusing."""

    options = Options(mailbox_limit=2)


class DropOldFault(World):
    """A full mailbox that drops the oldest meets a fault."""

    options = Options(mailbox_limit=2, overflow="drop_old")
    waiting = ("bad1", "m1")
    sent = "bad1 m1 a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.backend.drain()
        self.rebuild()
        self.backend.drain()


class DropOldKill(World):
    """A full mailbox never drops a kill that waits among the messages (S-20: control)."""

    options = Options(mailbox_limit=2, overflow="drop_old")
    waiting = ("m1",)
    sent = "m1 a1 a2 a3"

    def one(self) -> None:
        self.tell("a1", "a2", "a3")

    def two(self) -> None:
        self.kill(after_messages=True)
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.killed.done(), "the kill was dropped"


class Ticks(World):
    """A timer that rings meets its tick: it acts for what rang, and none is lost."""

    burst: ClassVar[bool] = False

    def __init__(self, stage: Stage) -> None:
        self.actions = 0
        super().__init__(stage)
        assert self.cell.component is not None
        cell: Any = self.cell
        self.timer = Timer(cell, 0, 1, self.act, burst=self.burst)
        cell.runtime.clock.now = lambda: 0
        self.timer._ring()

    def act(self) -> None:
        self.actions += 1
        self.seen = self.timer._rung

    def one(self) -> None:
        self.timer._ring()
        self.timer._ring()

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        self.check_rest()
        assert self.seen == 3, f"rang 3 times, acted for {self.seen}"
        assert not self.timer._queued
        assert self.actions == 3 if self.burst else 1 <= self.actions <= 3


class TicksBurst(Ticks):
    """The same, with nothing left out."""

    burst = True


class TickStop(World):
    """After a stop no timer acts, though it rings meanwhile (S-04)."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        cell: Any = self.cell
        self.timer = Timer(cell, 0, 1, lambda: self.notes.append("tick"), burst=False)
        cell.timers = {self.timer}
        cell.runtime.clock.now = lambda: 0

    def one(self) -> None:
        self.timer._ring()

    def two(self) -> None:
        self.cell.signal(signals.stop, None)
        self.backend.drain()
        self.cell.signal(signals.start, None)
        self.backend.drain()

    def check(self) -> None:
        super().check()
        if "tick" in self.notes:
            assert self.notes.index("tick") < self.notes.index("stop"), "a tick after the stop"


class ScheduleStop(World):
    """A thread of the component that sets a timer meets a stop: it is refused, or it is set."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.component: Any = self.cell.component

    def one(self) -> None:
        try:
            timer = self.component.schedule_once(1.0, lambda: self.notes.append("tick"))
        except (NotStartedError, IncarnationEndedError):
            return
        timer._ring()

    def two(self) -> None:
        self.cell.signal(signals.stop, None)
        self.backend.drain()

    def settle(self) -> None:
        self.backend.drain()
        if self.cell.state is State.PASSIVE:
            self.cell.signal(signals.start, None)
            self.backend.drain()

    def check(self) -> None:
        super().check()
        if "tick" in self.notes:
            assert self.notes.index("tick") < self.notes.index("stop"), "a tick after the stop"


class Resource:
    """Something that a component keeps."""

    def __init__(self) -> None:
        self.exits = 0

    def __enter__(self) -> Resource:
        return self

    def __exit__(self, *_: object) -> None:
        self.exits += 1


class KeepStop(World):
    """Closing what was kept takes too long, or does not: one of the two goes on.

    What the next start keeps is left alone by a thread that was abandoned before.
    """

    def __init__(self, stage: Stage) -> None:
        self.resources: list[Resource] = []
        super().__init__(stage)
        self.begin()

    def begin(self) -> None:
        self.stopped: Future[None] = Future()
        self.cell.signal(signals.stop, self.stopped)

    def started(self, noter: Noter) -> None:
        for _ in range(2):
            self.resources.append(noter.keep(Resource()))

    def one(self) -> None:
        self.backend.drain()

    def two(self) -> None:
        self.shared.expire()
        self.backend.drain()
        self.cell.signal(signals.start, None)
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.stopped.done()
        assert self.cell.state is State.ACTIVE
        exits = [resource.exits for resource in self.resources]
        assert exits == [1, 1, 0, 0], f"closed {exits} times; the last two are in use"


class KeepKill(KeepStop):
    """The same at the end: it ends once."""

    def begin(self) -> None:
        self.kill()

    def two(self) -> None:
        self.shared.expire()
        self.backend.drain()

    def check(self) -> None:
        World.check(self)
        assert self.killed.done()
        assert self.cell.state is State.DESTROYED
        assert [resource.exits for resource in self.resources] == [1, 1]


class KeepFault(KeepStop):
    """The same at a fault: it is reported once, and the replacement's things are its own."""

    sent = "bad1"

    def begin(self) -> None:
        self.ref.tell("bad1")

    def two(self) -> None:
        self.shared.expire()
        self.backend.drain()
        self.rebuild()
        self.backend.drain()

    def check(self) -> None:
        World.check(self)
        assert len(self.shared.faults) == 1
        assert [resource.exits for resource in self.resources] == [1, 1, 0, 0]


class KeepLate(World):
    """A thread of the component that keeps something meets a stop: it is closed, once."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.resource = Resource()
        self.component: Any = self.cell.component

    def one(self) -> None:
        try:
            self.component.keep(self.resource)
        except (NotStartedError, IncarnationEndedError):
            self.resource.exits += 1  # refused

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.resource.exits >= 1, "nobody closes it"


class RecoveryDeadline(World):
    """A recovery meets its deadline: one decision, and a late answer is told as that (S-12)."""

    waiting = ("bad1",)
    sent = "bad1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.backend.drain()
        shared: Any = self.shared
        self.job = RecoveryJob(shared, shared.faults[0], shared.tell_supervisor)
        shared.answered = 1

    def one(self) -> None:
        self.job.run()

    def two(self) -> None:
        self.shared.expire()

    def check(self) -> None:
        super().check()
        decisions = self.shared.of(Decision)
        assert len(decisions) == 1, f"{len(decisions)} decisions"
        late = len(self.shared.of(LateRecovery))
        assert late == decisions[0].abandoned, f"{late} late answers"


# -- scenarios: the pool ----------------------------------------------------------------------


class StagedPool(PoolBackend):
    """A pool that starts no threads."""

    def __init__(self, system_name: str, clock: Any) -> None:
        super().__init__(system_name, clock)
        watchdog: Any = object()
        self._watchdog = watchdog
        self.started: list[StagedWorker] = []  # workers whose threads would have been started


class StagedWorker(_Worker):
    """A worker whose thread is a player, or the driver when it settles."""

    begun = False

    def start(self) -> None:
        assert isinstance(self.pool, StagedPool)
        self.pool.started.append(self)

    def join(self, timeout: float | None = None) -> None:
        if not self.begun:
            raise RuntimeError("cannot join thread before it is started")

    def run(self) -> None:
        self.begun = True
        super().run()


class Item:
    """Something for a pool to run, once."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self.asleep = True
        self.act = act
        self.runs = 0

    def run(self) -> bool:
        self.runs += 1
        self.act()
        return False


class Pool(Scenario):
    """A pool whose watchdog never looks, unless a player is it. Each item is run once."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        pool: Any = StagedPool("explored", ManualClock())
        self.pool = pool
        self.items: list[Item] = []
        self.parked: set[StagedWorker] = set()  # that ran in `settle` and wait for their bells

    def item(self, act: Callable[[], object] = lambda: None) -> Item:
        item = Item(act)
        self.items.append(item)
        return item

    def worker(self) -> StagedWorker:
        """A worker that runs; a player calls its `run`."""
        worker: StagedWorker = self.pool._add_runner()
        worker.turns_seen = 0  # the watchdog has looked before
        worker.begun = True
        return worker

    def settle(self) -> None:
        pool = self.pool
        while True:
            # Those started run, and those parked by an earlier go of this, if roused, again.
            roused = [
                worker
                for worker in pool._workers
                if worker in self.parked and worker.bell.acquire(False)
            ]
            runs = pool.started + roused
            pool.started = []
            if not runs:
                return
            for worker in runs:
                try:
                    worker.run()
                except Unwound:
                    self.parked.add(worker)
                here.runner = None

    def may_wait(self, lock: Lock) -> bool:
        pool = self.pool
        return lock is pool._watchdog_bell or any(
            lock is worker.bell and worker.status is _Status.PARKED for worker in pool._workers
        )

    def check(self) -> None:
        pool = self.pool
        assert not pool.ready, "an item is forgotten"
        assert [item.runs for item in self.items] == [1] * len(self.items)
        running = sum(worker.status is _Status.RUNNING for worker in pool._workers)
        assert pool._running == running == 0, f"{running} run, {pool._running} are counted"
        assert pool.idle
        assert len(set(pool._parked)) == len(pool._parked)
        parked = {worker for worker in pool._workers if worker.status is _Status.PARKED}
        assert parked == {*pool._parked}


class WakePark(Pool):
    """An item made ready while the last worker parks is run."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.pool.ready.append(self.item())
        self.only = self.worker()

    def one(self) -> None:
        self.pool.wake(self.item())

    def two(self) -> None:
        self.only.run()


class WakeParkTimed(WakePark):
    """The same with a worker that ends when it is not roused in time."""

    constants = ((kompyct.backends.pool, "SPARE_WORKERS", 0),)


class WakeWake(Pool):
    """Two items made ready in an idle pool are run, by one worker."""

    def one(self) -> None:
        self.pool.wake(self.item())

    def two(self) -> None:
        self.pool.wake(self.item())

    def settle(self) -> None:
        assert len(self.pool.started) <= 1, "more workers than needed"
        super().settle()


class ParkPark(Pool):
    """Two workers that park at once: one of them is the last."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.workers = (self.worker(), self.worker())
        self.pool.ready.append(self.item(lambda: self.pool.wake(self.item())))

    def one(self) -> None:
        self.workers[0].run()

    def two(self) -> None:
        self.workers[1].run()


class BlockWake(Pool):
    """A worker blocks while an item is made ready: another one runs that meanwhile."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.only = self.worker()
        self.pool.ready.append(self.item(self.block))

    def block(self) -> None:
        self.pool.block(self.only)
        self.pool.unblock(self.only)

    def one(self) -> None:
        self.only.run()

    def two(self) -> None:
        self.pool.wake(self.item())


class BlockUntil(Pool):
    """A worker blocks until an item has run that is made ready meanwhile: another runs that."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.only = self.worker()
        self.reply = stage.new_lock()
        self.reply.acquire()
        self.pool.ready.append(self.item(self.block))

    def block(self) -> None:
        self.pool.block(self.only)
        self.reply.acquire()
        self.pool.unblock(self.only)

    def one(self) -> None:
        self.only.run()

    def two(self) -> None:
        self.pool.wake(self.item(self.reply.release))


class AskInPool(Pool):
    """A blocking ask within a turn gets its reply, whoever runs what it asks."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.world = World(stage)
        self.world.cell.backend = self.pool
        self.only = self.worker()
        self.asker = self.item(self.ask)
        self.asker.asking = None  # type: ignore[attr-defined]
        self.pool.ready.append(self.asker)

    def ask(self) -> None:
        self.world.ask("a1")

    def one(self) -> None:
        self.only.run()

    def two(self) -> None:
        self.pool.wake(self.item())

    def check(self) -> None:
        super().check()
        assert self.world.answers == {"a1": "a1"}


class StuckReturns(Pool):
    """The watchdog finds a worker stuck that returns just then: it is counted once."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.only = self.worker()
        self.only.item = self.item()  # which it was seen in before
        self.pool.ready += [self.only.item, self.item()]
        self.pool._watchdog_bell.timeouts = 2

    def one(self) -> None:
        self.only.run()

    def two(self) -> None:
        self.pool._watch()


class StuckBlocks(StuckReturns):
    """The same with a worker that asks meanwhile."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.only.item.act = self.block

    def block(self) -> None:
        self.pool.block(self.only)
        self.pool.unblock(self.only)


class StuckParks(StuckReturns):
    """The same with one that has nothing left to run."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.pool.ready.clear()
        self.items.clear()

    def one(self) -> None:
        self.only.run()

    def two(self) -> None:
        self.pool.wake(self.item())
        self.pool._watch()


class WatchRest(Pool):
    """A deadline set while the watchdog goes to rest is watched."""

    constants = ((kompyct.backends.pool, "QUIET_TICKS", 0),)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.expired = 0
        self.pool._watchdog_bell.timeouts = 3

    def expire(self) -> None:
        self.expired += 1

    def one(self) -> None:
        self.pool.watch(Deadline(0, self.expire))

    def two(self) -> None:
        self.pool._watch()

    def settle(self) -> None:
        self.pool._watchdog_bell.timeouts = 3
        super().settle()

    def check(self) -> None:
        super().check()
        assert self.expired == 1, "the deadline is not watched"


class RestRuns(Pool):
    """While a worker runs, the watchdog does not rest: it would not see that it blocks.

    One worker has waited for a reply so long that the watchdog rests, and goes on now.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.only = self.worker()
        self.pool.block(self.only)
        self.pool._resting = True
        self.pool.ready.append(self.item(self.look))
        self.starved = False

    def look(self) -> None:
        self.starved = self.starved or self.pool._resting

    def one(self) -> None:
        self.pool.unblock(self.only)
        self.look()
        self.only.run()

    def two(self) -> None:
        self.pool.wake(self.item(self.look))

    def check(self) -> None:
        super().check()
        assert not self.starved, "an item ran, and the watchdog was at rest"


class CloseWake(Pool):
    """An item made ready while the pool is closed is run all the same."""

    def one(self) -> None:
        self.pool.wake(self.item())

    def two(self) -> None:
        self.pool.close(0.0)


class CloseRuns(Pool):
    """A pool closed while a worker runs: what is ready is run, and the worker ends."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.only = self.worker()
        self.pool.ready += [self.item(), self.item()]

    def one(self) -> None:
        self.only.run()

    def two(self) -> None:
        self.pool.close(0.0)

    def check(self) -> None:
        super().check()
        assert not self.pool._workers


class CloseParked(CloseRuns):
    """The same with a worker that ends by itself after a while."""

    constants = ((kompyct.backends.pool, "SPARE_WORKERS", 0),)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.pool.ready.clear()
        self.items.clear()


# -- scenarios: the system's end --------------------------------------------------------------


class EmitEnd(Scenario):
    """An event emitted while the system ends is published, then or later."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.published: list[Any] = []
        system = ComponentSystem(
            "explored", backend="pool", clock=ManualClock(), on_event=self.published.append
        )
        self.runtime = system._runtime
        pool: Any = self.runtime.backend
        pool.started.clear()  # the worker that was to start the supervisor
        pool._workers.clear()
        pool._running = 0
        pool.idle = True
        pool.ready.popleft().run()
        self.pool = pool

    def event(self) -> events.Event:
        return events.ComponentEnded(1, "path", 1, 0.0, "killed", None, 0)

    def one(self) -> None:
        self.runtime.emit(self.event())

    def two(self) -> None:
        self.runtime._ended.set_result(None)
        self.runtime._end(-1)

    def settle(self) -> None:
        for worker in (*self.pool.started,):
            self.pool.started.remove(worker)
            with suppress(Unwound):
                worker.run()
            here.runner = None

    def check(self) -> None:
        assert self.runtime.over.done()
        self.runtime.emit(self.event())
        number = len(self.published)
        assert number == 2, f"{number} of 2 events were published"


class EndCutShort(EmitEnd):
    """The last component ends while the shutdown is cut short: the order is obeyed quietly."""

    def one(self) -> None:
        supervisor: Any = self.runtime.supervisor.component
        supervisor._end_all(EndAll(self.runtime._ended, 0))

    def two(self) -> None:
        self.runtime.cut_short()

    def check(self) -> None:
        assert self.runtime._ended.done()


# -- exploring --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """A schedule that did not end well."""

    scenario: str
    plan: Plan
    places: tuple[str, ...]
    what: str
    hot_only: bool

    def __str__(self) -> str:
        plan = " ".join(f"{number}:{moves}" for number, moves in self.plan)
        places = "".join(f"\n    {place}" for place in self.places)
        again = f'--scenario {self.scenario} --plan "{plan}"{" --hot" if self.hot_only else ""}'
        return f"{self.scenario}: {self.what}\n  {again}{places}"


SCENARIOS: dict[str, type[Scenario]] = {
    name: cls
    for name, cls in (*globals().items(),)
    if isinstance(cls, type) and issubclass(cls, Scenario) and cls not in (Scenario, World, Pool)
}
"""Every scenario by its name."""


class Depth(Enum):
    """How far to go."""

    CHEAP = "cheap"
    """Every switch; every two at what is hot, or more; a sample of every two."""
    HOT = "hot"
    """Every switch; every three at what is hot, or more."""
    WHOLE = "whole"
    """All of that, every two, and drawn plans of five."""


class Explorer:
    """Plays one scenario on a stage, and counts the schedules."""

    def __init__(self, stage: Stage, cls: type[Scenario]) -> None:
        self._stage = stage
        self._cls = cls
        self.schedules = 0

    def go(self, plan: Plan) -> Failure | None:
        """Play one schedule; None if it ended well."""
        stage = self._stage
        self.schedules += 1
        what: str | None = None
        stage.places.clear()
        try:
            scenario = self._cls(stage)
            stage.play((scenario.one, scenario.two), plan)
            scenario.settle()
            while stage.go_on():
                scenario.settle()
            for player in stage.players:
                lock = player.waits_for
                if player.error is not None:
                    raise player.error
                if lock is not None and not scenario.may_wait(lock):
                    raise AssertionError(f"player {player.number} waits for ever")
            scenario.check()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | StuckError):
                raise
            what = _described(error)
        failure = None
        if what is not None:
            failure = Failure(
                self._cls.__name__, plan, (*map(describe, stage.places),), what, stage.hot_only
            )
        stage.unwind()
        return failure

    def every(self, switches: int) -> Iterator[Failure | None]:
        """Every plan of that many switches, with either player as the first."""
        for first in (0, 1):
            yield from self._every((), first, switches)

    def _every(self, begin: Plan, player: int, switches: int) -> Iterator[Failure | None]:
        """Every plan that begins like that and has so many switches more."""
        step = len(begin)
        for moves in count(1):
            plan = (*begin, (player, moves))
            longer = (
                self._every(plan, 1 - player, switches - 1)
                if switches > 1
                else iter([self.go(plan)])
            )
            for failure in longer:
                yield failure
                if step not in self._stage.taken:  # the player has not so many opcodes
                    return

    def drawn(self, switches: int, number: int, draw: random.Random) -> Iterator[Failure | None]:
        """`number` plans of that many switches; each player's steps fit into what it does."""
        self.go(((0, ENDLESS), (1, ENDLESS)))
        lengths = [max(player.moves, 1) for player in self._stage.players]
        for _ in range(number):
            first = draw.randrange(2)
            plan = []
            for step in range(switches):
                player = (first + step) % 2
                share = (switches - step + 1) // 2
                plan.append((player, draw.randint(1, -(-lengths[player] // share) + 1)))
            yield self.go((*plan,))


def explore(
    stage: Stage, cls: type[Scenario], *, depth: Depth = Depth.CHEAP, seed: int = 0
) -> tuple[int, Failure | None]:
    """Explore one scenario until it fails; returns the number of schedules, and the failure."""
    explorer = Explorer(stage, cls)
    draw = random.Random(f"{cls.__name__} {seed}")
    # Each part: whether only at hot opcodes, and the schedules.
    parts = [(False, explorer.every(1)), (True, explorer.every(cls.hot_switches))]
    if depth is Depth.CHEAP:
        parts += [(False, explorer.drawn(2, SAMPLE, draw))]
    else:
        parts += [(True, explorer.every(cls.hot_switches + 1))]
    if depth is Depth.WHOLE:
        parts += [(False, explorer.every(2)), (False, explorer.drawn(5, FIVE_SWITCHES, draw))]
    with _constants(cls):
        for stage.hot_only, part in parts:
            for failure in part:
                if failure is not None:
                    return explorer.schedules, failure
    return explorer.schedules, None


@contextmanager
def _constants(cls: type[Scenario]) -> Iterator[None]:
    found = [(owner, name, getattr(owner, name)) for owner, name, _ in cls.constants]
    for owner, name, value in cls.constants:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in found:
            setattr(owner, name, value)


def _described(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(frame.filename)}:{frame.lineno}: {frame.line}"
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    return f"{kind}{error}\n  at {where}"


def main() -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser("python -m tests.harness.explore", description=__doc__)
    parser.add_argument("--whole", action="store_true", help="every plan of two switches")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--plan", help="play this one only, of one scenario")
    parser.add_argument("--hot", action="store_true", help="of a plan: it counts hot opcodes")
    parser.add_argument("--every-opcode", action="store_true", help="leave no opcode out")
    arguments = parser.parse_args()
    names = arguments.scenario or [*SCENARIOS]
    failures = schedules = 0
    began = time.perf_counter()
    print(f"seed {arguments.seed}")
    with Stage(arguments.every_opcode) as stage:
        for name in names:
            cls = SCENARIOS[name]
            start = time.perf_counter()
            failure: Failure | None
            if arguments.plan is not None:
                stage.hot_only = arguments.hot
                with _constants(cls):
                    failure = Explorer(stage, cls).go(_plan(arguments.plan))
                number = 1
            else:
                depth = Depth.WHOLE if arguments.whole else Depth.CHEAP
                number, failure = explore(stage, cls, depth=depth, seed=arguments.seed)
            seconds = time.perf_counter() - start
            print(f"{name:24} {number:8} schedules {seconds:8.2f} s", flush=True)
            schedules += number
            if failure is not None:
                failures += 1
                print(failure, flush=True)
    seconds = time.perf_counter() - began
    print(f"{schedules} schedules in {seconds:.1f} s, {failures} of {len(names)} scenarios failed")
    return 1 if failures else 0


def _plan(text: str) -> Plan:
    return tuple(
        (int(number), int(moves))
        for number, _, moves in (step.partition(":") for step in text.split())
    )


if __name__ == "__main__":
    sys.exit(main())
