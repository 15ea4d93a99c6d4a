"""What does a parent hold of one child process?

Its connection, the memory both share, what it writes when it crashes, and how it ended. The
thread that looks after all children of a system calls `read`, and tells it that it has ended;
everything else is for any thread.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Protocol

from kompyct.errors import ProcessExitError, ProcessStartError
from kompyct.messages import Ask, new_ask
from kompyct.processes.board import BOARD_BYTES, CONTROL, Board
from kompyct.processes.crash import Crash
from kompyct.processes.exits import ProcessExit
from kompyct.processes.frames import Frame, Incoming, PatientSender, pack
from kompyct.processes.memory import HAS_MEMFD, Block
from kompyct.processes.protocol import ATTACH, DONE_SO, FAULT, MAKE, RAISED
from kompyct.processes.saves import FIRST_BYTES, Saves

_logger = logging.getLogger("kompyct")


_ANSWERS = frozenset((DONE_SO, RAISED, FAULT))
"""The kinds of frames that answer a question."""


class Owner(Protocol):
    """Who is told what a child says, on the thread that looks after children."""

    def heard(self, child: Child, frame: Frame) -> None:
        """A frame that answers no question."""

    def may_send(self, child: Child) -> None:
        """It takes more again."""

    def lost(self, child: Child) -> None:
        """It has ended, and everything it had said was heard; no question was open."""


class Child:
    """One child process. It serves one incarnation of a component, then it ends."""

    def __init__(
        self, number: int, when_full: Callable[[Child], None], *, named: bool = not HAS_MEMFD
    ) -> None:
        self.number = number
        with ExitStack() as undo:  # there may be no descriptors, or no memory, for the rest
            board = Block.create(BOARD_BYTES, named=named)
            undo.callback(board.close)
            saves = Block.create(FIRST_BYTES, named=named)
            undo.callback(saves.close)
            self.connection, self.its_end = socket.socketpair()
            undo.callback(self.connection.close)
            undo.callback(self.its_end.close)
            self.crash = Crash()
            undo.pop_all()
        self.connection.setblocking(False)
        self.board = Board(board)
        self.saves = Saves(saves)
        self.sender = PatientSender(self.connection, lambda: when_full(self))
        self.owner: Owner | None = None
        self.pid: int | None = None
        self.pidfd: int | None = None
        self.exit: ProcessExit | None = None
        self.start_error: ProcessStartError | None = None
        self.was_made_ahead = False  # whether it was there before somebody needed it
        self.is_over = (
            False  # whether it has ended, or has said its last; set under _lock, for good
        )
        # Whether it is known how it ends, before it is gone: all was heard, and nothing more is.
        self.is_ending = False
        self.is_gone = False  # whether its pidfd says so
        self.is_asked = False  # whether who reaps it was asked how it has ended
        self.is_buried = False  # whether it is known how it has ended, or that nobody knows
        self.closed = False  # whether what is held of it has been let go
        self.is_discarded = False  # whether nobody looks at the shared memory any more
        self.taking = allocate_lock()  # of its saves; protects is_discarded, and the memory
        self.gone = new_ask(None)  # settled when it has ended
        # Protects _questions, is_over, and the order of control frames.
        self._lock = allocate_lock()
        self._questions: deque[Ask] = deque()  # in the order in which they will be answered
        self._incoming = Incoming()
        handles = (self.board.handle, self.saves.handle)
        self.sender.send(pack(ATTACH, [name for name in handles if isinstance(name, str)]))

    # -- from any thread --------------------------------------------------------------------

    def control(self, kind: int, value: Any = None) -> None:
        """Send a control frame that is not answered.

        Raises:
            Exception: what pickling `value` raises.
        """
        parts = pack(kind, value)
        with self._lock:
            self._announce(parts)

    def ask(self, kind: int, value: Any, answers: int = 1) -> list[Ask]:
        """Send a control frame; returns what is settled with the frames that answer it, in order.

        If the child ends instead, they fail with `end_error`.

        Raises:
            Exception: what pickling `value` raises.
        """
        parts = pack(kind, value)
        questions = [new_ask(kind), *(new_ask(None) for _ in range(1, answers))]
        with self._lock:
            if not self.is_over:
                self._questions += questions
                self._announce(parts)
                return questions
        for question in questions:
            question.fail(self.end_error())
        return questions

    def end_error(self) -> Exception:
        """The error for whoever relied on it."""
        if self.start_error is not None:
            return self.start_error
        if self.exit is None:
            return ProcessExitError(f"child process {self.pid} serves no more")
        return ProcessExitError(f"child {self.exit}")

    def signal(self, number: int) -> None:
        """Send it a signal, if it is still there; never another process of its number."""
        with self._lock:
            pidfd = self.pidfd
            if pidfd is not None:
                with suppress(OSError):
                    signal.pidfd_send_signal(pidfd, number)

    # -- for the thread that looks after children -------------------------------------------

    def descriptors(self) -> list[int]:
        """What the child inherits: its connection, where it writes at a crash, and memory."""
        handles = (self.board.handle, self.saves.handle)
        memory = [handle for handle in handles if isinstance(handle, int)]
        return [self.its_end.fileno(), self.crash.writing, *memory]

    def started(self, pid: int, pidfd: int) -> None:
        """It is there."""
        with self._lock:
            self.pid, self.pidfd = pid, pidfd
        self._let_go_of_its_ends()

    def read(self) -> bool:
        """Hear what it has said, a part of it at once; False at the end."""
        try:
            frames = self._incoming.receive(self.connection)
        except BlockingIOError:
            return True
        except (OSError, ValueError):
            return False
        if frames is None:
            return False
        self._hear_all(frames)
        return True

    def read_all(self) -> None:
        """Hear what it had said before it ended."""
        while True:
            try:
                frames = self._incoming.receive(self.connection)
            except (OSError, ValueError):
                return
            if frames is None:
                return
            self._hear_all(frames)

    def notes_crash(self) -> bool:
        """Whether this is the first time that it is known to crash; see `Crash.take_note`."""
        number = self.crash.take_note()
        if number is not None:
            self.exit = ProcessExit(self.pid or 0, None, number, "signal")
        return number is not None

    def be_gone(self) -> None:
        """It has ended, and all was heard: tell whoever waits for that, or relies on it."""
        if not self.gone.settled():
            self.gone.value = None
            self.gone.done.release()
            self.settle()

    def finish(self) -> None:
        """Let go of what is held of it; it is gone."""
        self.let_go()
        with self.taking:
            discarded = self.is_discarded
        if discarded:  # looked at after it was settled, as `discard` does the other way round
            self._close_memory()

    def be_ending(self) -> None:
        """It is ending, and how is known: tell whoever relies on it, with all that it has said."""
        self.read_all()
        self.is_ending = True  # what it may still say, on other threads, comes too late
        self.settle()

    def settle(self) -> None:
        """It has ended, or is ending, and all was heard: tell whoever relies on it."""
        with self._lock:
            first = not self.is_over
            self.is_over = True
            questions, self._questions = self._questions, deque()
        for question in questions:
            question.fail(self.end_error())
        if first and not questions and self.owner is not None:
            self.owner.lost(self)

    def discard(self) -> None:
        """Nobody looks at the shared memory any more: it goes when the child does."""
        with self.taking:
            self.is_discarded = True
        if self.gone.settled():
            self._close_memory()

    def let_go(self) -> None:
        """Close what is held of it, but for the memory that is shared with it."""
        if self.closed:
            return
        self.closed = True
        self.crash.close()
        self._let_go_of_its_ends()
        with self._lock:
            pidfd, self.pidfd = self.pidfd, None
        if pidfd is not None:
            os.close(pidfd)
        self.connection.close()

    # -- private ----------------------------------------------------------------------------

    def _announce(self, parts: list[Any]) -> None:
        self.board.numbers[CONTROL] += 1
        self.sender.send(parts)

    def _hear_all(self, frames: list[Frame]) -> None:
        """Hear them; what goes wrong with one must not lose those that came with it."""
        for frame in () if self.is_ending else frames:
            try:
                self._hear(frame)
            except Exception:
                _logger.exception("what child process %s has said could not be heard", self.pid)

    def _hear(self, frame: Frame) -> None:
        if frame.kind in _ANSWERS:
            with self._lock:
                question = self._questions.popleft() if self._questions else None
                if frame.kind != DONE_SO:
                    self.is_over = True
                elif question is not None and question.message == MAKE and not frame.flag:
                    self._questions.clear()  # it does not start by itself
            if question is not None:
                question.value = frame
                question.done.release()
                return
        if self.owner is not None:
            self.owner.heard(self, frame)

    def _close_memory(self) -> None:
        with self.taking:
            self.board.close()
            self.saves.close()

    def _let_go_of_its_ends(self) -> None:
        if self.crash.writing >= 0:
            self.its_end.close()
            os.close(self.crash.writing)
            self.crash.writing = -1
