"""How does a process do for once what it will do for a component?

Whatever a forked process touches for the first time is copied for it: better before it is needed.
"""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kompyct.codecs import decode, encode
from kompyct.component import Component
from kompyct.far import Parent
from kompyct.faults import FaultContext, RecoveryHandler
from kompyct.processes import protocol
from kompyct.processes.board import BOARD_BYTES, CONTROL, Board
from kompyct.processes.frames import Frame
from kompyct.processes.memory import Block
from kompyct.processes.protocol import REHEARSAL, Assignment, Making
from kompyct.processes.saves import FIRST_BYTES, Saves

if TYPE_CHECKING:
    from kompyct.inside import Loop


def rehearse(loop: Loop, making: Making) -> None:
    """Load what the factory of `making` needs; make, start and use a component that does nothing.

    The parent hears and sees nothing of it. Then prepare for the component of `making`, if it is
    about one.
    """
    with suppress(BaseException):  # it will be raised when it is made
        decode(making.factory)
    loop.is_watching = True  # not yet: what needs a process of one thread may come to be made here
    real = loop.parent, loop.board, loop.saves
    loop.parent = Parent(_Unsent(), loop.hear_until)
    loop.board = Board(Block.create(BOARD_BYTES))
    loop.board.numbers[CONTROL] = loop.heard
    loop.saves = Saves(Block.create(FIRST_BYTES))
    try:
        assignment: Assignment = decode(making.assignment)
        assignment = assignment._replace(durability="memory", has_store=False)
        made = making._replace(assignment=encode(assignment), factory=encode(_Rehearsal))
        loop.obey(_frame(protocol.MAKE, made))
        loop.obey(_frame(protocol.OBEY, ("start", 1)))
        own = loop.own
        assert own is not None
        own.take_messages(_frame(protocol.MESSAGES, [None]))
        loop.turn(own.handle_some)
        _have_stack()
    finally:
        loop.own = None
        loop.prepared = None
        loop.is_watching = False
        loop.board.close()
        loop.saves.close()
        loop.parent, loop.board, loop.saves = real
    if making.assignment != REHEARSAL.assignment:
        with suppress(Exception):  # as above
            loop.prepare(making.assignment)


def _have_stack() -> None:
    """Have a thread begin and end: the next one, see `Loop.watch_parent`, gets its stack."""
    ended = allocate_lock()
    with ended:
        start_new_thread(ended.release, ())
        ended.acquire()


class _Rehearsal(Component[object]):
    """Stands for the component."""

    def on_start(self) -> None:
        self.set_recovery_function(_end, snapshot={"rehearsed": True})

    def on_receive(self, message: object) -> None:
        """Nothing."""


def _end(fault: FaultContext[object]) -> RecoveryHandler:
    return fault.end()


class _Unsent:
    """In the place of a sender: what is said is not for the parent."""

    def send(self, parts: Sequence[Any]) -> None:
        """Nothing."""


def _frame(kind: int, value: object) -> Frame:
    """A frame as if it had come."""
    return Frame(kind, 0, 1, 1, encode(value), [])
