"""How are two threads made to switch exactly where a plan says?

The two *players* are threads, but only one moves at a time: `sys.settrace` stops a player before
the n-th opcode that it executes in kompyct, and the other one goes on from there. The plan
`0:12 1:7` stops player 0 before its 12th opcode, then player 1 before its 7th; then player 0 goes
on to its end, and player 1 after it. `opcodes` says which are counted.

Locks of kompyct are replaced by locks that hand over to the other player instead of blocking. A
lock with a timeout that is held has timed out at once: a switch before it stands for every longer
wait.
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
import kompyct.component
import kompyct.runtime
from kompyct.waiting import here
from tests.harness.opcodes import Place, switches
from tests.harness.stand_ins import StagedPool, StagedWorker

Plan = tuple[tuple[int, int], ...]
"""Steps (player, opcodes it moves before the other one goes on)."""

STUCK_AFTER = 20.0
"""Seconds without a move after which the harness itself is taken to be stuck."""


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
        table = switches(code, hot_only=self.hot_only, every_opcode=self._every_opcode)
        self._tables[self.hot_only][id(code)] = (code, table)
        return table
