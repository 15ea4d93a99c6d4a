"""How are two threads made to switch exactly where a plan says?

The two *players* are threads, but only one moves at a time: `sys.settrace` stops a player before
the n-th opcode that it executes in kompyct, and the other one goes on from there. The plan
`0:12 1:7` stops player 0 before its 12th opcode, then player 1 before its 7th; then player 0 goes
on to its end, and player 1 after it. `opcodes` says which are counted.

Locks of kompyct are replaced by locks that hand over to the other player instead of blocking, and
so are the conditions, locks and threads of the store's writer. A lock with a timeout that is held
has timed out at once: a switch before it stands for every longer wait.

Two *bystanders* are threads as well. One begins where a scenario says so, moves until it must
wait, and later goes on where the plan's player cannot move. No switch is forced on it.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import traceback
from _thread import allocate_lock
from collections.abc import Callable
from types import CodeType, FrameType, ModuleType
from typing import Any

import kompyct
import kompyct.backends.manual
import kompyct.backends.pool
import kompyct.backends.thread
import kompyct.claims
import kompyct.component
import kompyct.runtime
import kompyct.store.snapshots
import kompyct.watching
import kompyct.writer
from kompyct.waiting import here
from tests.harness.opcodes import Place, switches
from tests.harness.stand_ins import StagedPool, StagedThread, StagedWorker

Plan = tuple[tuple[int, int], ...]
"""Steps (player, opcodes it moves before the other one goes on)."""

STUCK_AFTER = 20.0
"""Seconds without a move after which the harness itself is taken to be stuck."""


SPINS = 3000
"""Locks that one may take while nobody else moves; who takes more waits by trying."""


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
        self._stage.note_acquire()
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


class Condition:
    """Stands for `threading.Condition`: a wait ends when it is notified, or over at once.

    A wait with a limit of `patience` seconds or more never times out; all others do at once.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.lock = Lock(stage)
        self.waits: list[Lock] = []  # one for each who waits, held until he is notified
        self.patience = float("inf")

    def __enter__(self) -> bool:
        return self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def wait_for(self, predicate: Callable[[], object], timeout: float | None = None) -> object:
        if not self.lock.held:
            raise RuntimeError("cannot wait on un-acquired lock")
        while not (result := predicate()):
            if timeout is not None and timeout < self.patience:
                # Whoever wants the lock may have it meanwhile.
                self.lock.release()
                self.lock.acquire()
                return predicate()
            wait = Lock(self._stage)
            wait.held = True
            self.waits.append(wait)
            self.lock.release()
            try:
                self._stage.block(wait)
                self.lock.acquire()
            except Unwound:
                self.lock.held = True  # for `__exit__`, which releases it
                raise
        return result

    def notify_all(self) -> None:
        if not self.lock.held:
            raise RuntimeError("cannot notify on un-acquired lock")
        for wait in self.waits:
            wait.held = False
        self.waits.clear()


class _Threading:
    """Stands for the module `threading` in the store's writer."""

    def __init__(self, stage: Stage) -> None:
        self.Lock = stage.new_lock
        self.Condition = lambda: Condition(stage)
        self.Thread = StagedThread


class Player(threading.Thread):
    """One of the threads; it moves only while it has the turn."""

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

    def begin(self, body: Callable[[], object]) -> None:
        """Have something to do; on any thread."""
        self.body = body
        self.left = self.moves = 0
        self.ended = False
        self.waits_for = None
        self.error = None

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
    """Players, the baton between them, and the locks they share. A context manager."""

    def __init__(self, every_opcode: bool = False) -> None:
        self._every_opcode = every_opcode
        self.hot_only = False  # whether to count only opcodes that load or store what is hot
        # For hot_only or not, by the code's id, since hashing code is slow.
        self._tables: dict[bool, dict[int, tuple[CodeType, bytes]]] = {False: {}, True: {}}
        self.bystanders_first = False  # whether they go on before the players do, not after
        self._acquires = 0  # locks that were taken since somebody else has moved
        self._driver = allocate_lock()
        self._driver.acquire()
        self._plan: Plan = ()
        self._step = 0  # the next step of the plan
        self._unwinding = False
        self._return_to: Player | None = None  # who goes on when a bystander's first move ends
        self._restore: list[tuple[Any, str, Any]] = []
        self._cpus: set[int] | None = None
        self.taken: set[int] = set()  # steps of the plan that ended with a forced switch
        self.places: list[Place] = []  # where those were
        self.players: tuple[Player, ...] = ()
        """The two that plans are about, and the bystanders."""

    def __enter__(self) -> Stage:
        for module in (*sys.modules.values(),):
            ours = isinstance(module, ModuleType) and module.__name__.startswith("kompyct")
            if ours and getattr(module, "allocate_lock", None) is allocate_lock:
                self.replace(module, "allocate_lock", self.new_lock)
        self.replace(kompyct.waiting, "_edges", self.new_lock())
        self.replace(kompyct.watching, "_lock", self.new_lock())
        self.replace(kompyct.backends.pool, "_Worker", StagedWorker)
        self.replace(kompyct.backends.pool, "PoolBackend", StagedPool)
        self.replace(kompyct.runtime, "_at_exit", lambda runtime: None)
        self.replace(kompyct.writer, "threading", _Threading(self))
        self.replace(kompyct.store.snapshots, "Lock", self.new_lock)
        if hasattr(os, "sched_setaffinity"):  # one thread moves at a time: one CPU is faster
            self._cpus = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {random.choice(sorted(self._cpus))})
        self.players = (*(Player(self, number) for number in range(4)),)
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
        for player, body in zip(self.players[:2], bodies, strict=True):
            player.begin(body)
        self.go_on()

    def spawn(self, body: Callable[[], object]) -> None:
        """Have a bystander do `body` until it must wait; on a player's thread."""
        player = threading.current_thread()
        assert isinstance(player, Player)
        bystander = next(each for each in self.players[2:] if each.ended)
        bystander.begin(body)
        self._return_to = player
        bystander.turn.release()
        player.turn.acquire()

    def go_on(self) -> bool:
        """Let who can move do so, until nobody can; False if nobody could."""
        self._acquires = 0
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

    def note_acquire(self) -> None:
        """Refuse to let somebody try again and again what only another one can bring about."""
        self._acquires += 1
        if self._acquires > SPINS:
            self._acquires = 0
            raise AssertionError("a player spins: it tries again and again, and nobody else moves")

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
        self._acquires = 0
        after = None if self._unwinding else self._next()
        if after is player and player is not None:
            return
        (self._driver if after is None else after.turn).release()
        if player is not None:
            player.turn.acquire()
            if self._unwinding:
                raise Unwound

    def _next(self) -> Player | None:
        if self._return_to is not None:
            player, self._return_to = self._return_to, None
            return player
        plan = self._plan
        bystanders = self.players[2:]
        while self._step < len(plan):
            number, moves = plan[self._step]
            self._step += 1
            player = self.players[number]
            if player.can_move():
                player.left = moves
                player.step = self._step - 1
                return player
        last = plan[-1][0] if plan else 1
        pair = (self.players[1 - last], self.players[last])
        for player in (*bystanders, *pair) if self.bystanders_first else (*pair, *bystanders):
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
        table = switches(code, hot_only=self.hot_only, every_opcode=self._every_opcode)
        self._tables[self.hot_only][id(code)] = (code, table)
        return table
