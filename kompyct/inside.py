"""How does a component run in a process of its own?

The child's side of `remote`. One thread reads what the parent sends, runs the component and its
timers, and answers. The component is run by a cell like any other, with the same hooks, timers
and faults; only its mailbox is elsewhere, and so is whatever concerns others (see `far`).
"""

from __future__ import annotations

import faulthandler
import logging
import os
import select
import signal
import socket
import threading
import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from kompyct.child_cell import ChildCell
from kompyct.child_runtime import ChildRuntime, told_of
from kompyct.clock import SECOND, AlarmList
from kompyct.codecs import decode, load_cloudpickle, unreadable_reply
from kompyct.deadline import AbandonedError
from kompyct.errors import SnapshotError, UnpicklableError
from kompyct.far import FarCell, Parent
from kompyct.lifecycle import State
from kompyct.messages import Ask
from kompyct.processes import protocol
from kompyct.processes.board import CONTROL, DONE, NUMBER_OF, ORDERED, PHASE, Board
from kompyct.processes.dying import hold
from kompyct.processes.exits import ProcessExit
from kompyct.processes.frames import BlockingSender, Frame, Incoming, pack, raw
from kompyct.processes.memory import Block
from kompyct.processes.parent import watch_end_of_file
from kompyct.processes.protocol import Assignment, Making
from kompyct.processes.saves import Saves
from kompyct.processes.travel import unpack_exception
from kompyct.processes.zygote import leave
from kompyct.rehearsal import rehearse
from kompyct.waiting import here, poll_for

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
ACTIVE = State.ACTIVE


LOADED = (ProcessExit,)
"""What comes with the factory of a recovery, and would be imported in each child anew."""


def ready() -> Callable[[Sequence[int]], None]:
    """Load what every child needs; returns `serve`."""
    load_cloudpickle()
    return serve


def serve(descriptors: Sequence[int]) -> None:
    """Be a child: make a component when told to, and run it until its end or the parent's."""
    connection = socket.socket(fileno=descriptors[0])
    faulthandler.enable(descriptors[1], all_threads=False)
    # What ends it when it hangs, also in native code: the parent learns where it was.
    faulthandler.register(signal.SIGTERM, descriptors[1], all_threads=False, chain=True)
    Loop(connection, descriptors[2:-1], lifeline=descriptors[-1]).serve()


LOOK_AGAIN = 10
"""Milliseconds after which who waits for a reply looks whether another thread has got it."""


def _ms(nanoseconds: int) -> float:
    return max(nanoseconds, 0) / 1_000_000


_MESSAGES = frozenset((protocol.MESSAGES, protocol.ASKED))
"""The kinds of frames that bring messages for the first time."""


class Loop:
    """Reads, runs, and waits; also the backend, the clock and the runner of the one cell."""

    kind = "process"

    def __init__(self, connection: socket.socket, memory: Sequence[int], *, lifeline: int) -> None:
        self._lifeline = lifeline
        self._connection = connection
        self._memory = list(memory)
        self._incoming = Incoming()
        self._receiving = allocate_lock()  # protects _incoming, and the order of what has come
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._bell, self._ring = socket.socketpair()
        self._bell.setblocking(False)
        self._ring.setblocking(False)
        self._poll.register(self._bell, select.POLLIN)
        self._bell_number = self._bell.fileno()
        self._alarms = AlarmList()
        self._alarms_lock = allocate_lock()  # protects _alarms
        self.due: int | None = None  # when the first alarm is, as far as this thread knows
        self.parent = Parent(BlockingSender(connection), self.hear_until)
        self.cell: Any = None  # what is being run, see `Runner`
        self.own: ChildCell | None = None
        self.prepared: tuple[bytes, ChildCell] | None = None  # what is to be its own
        self.orders: deque[Frame] = deque()  # control frames to be obeyed
        self.heard = 0  # control frames that have come
        self.over = False
        self.is_watching = False  # whether `watch_parent` has begun, or is not to begin
        self._is_copy = False  # whether this process was forked by the component
        self._told = 0  # of the board's DONE, by AT_REST or an answer
        self._thread = threading.get_ident()
        os.register_at_fork(after_in_child=self._be_copy)
        self.board: Board
        self.saves: Saves

    # -- the loop ---------------------------------------------------------------------------

    def serve(self) -> None:
        """Until there is nothing more to be done."""
        here.runner = self
        self._thread = threading.get_ident()
        while not self.over:
            own = self.own
            if self.orders:
                self.obey(self.orders.popleft())
            elif own is not None and own.control:
                self.turn(own._obey)
            elif own is not None and own.has_some and own.state is ACTIVE:
                self.turn(own.handle_some)
                if self._has_control() or (self.due is not None and self.due <= self.now()):
                    self._hear(0)
            else:
                self._tell_rest()
                self._hear(None)

    def turn(self, call: Callable[[], object]) -> None:
        """Have the cell do something."""
        self.cell = self.own
        try:
            call()
        except AbandonedError:
            # Another thread is the loop now (see `take_over`); the end of this one, the first of
            # the process, would be the end of all.
            while True:
                time.sleep(3600)
        finally:
            self.cell = None
            if self._is_copy:
                leave(0)

    def _tell_rest(self) -> None:
        if self.own is not None:
            done = self.board.numbers[DONE]
            if done != self._told:
                self._told = done
                self.parent.send(raw(protocol.AT_REST))

    def note_told(self) -> None:
        """The parent has just been sent something, and looks at the board."""
        self._told = self.board.numbers[DONE]

    def _has_control(self) -> bool:
        return self.own is not None and bool(self.board.numbers[CONTROL] != self.heard)

    def _hear(self, until: int | None) -> None:
        """Take in what has come, and ring alarms.

        Args:
            until: nanoseconds on the clock; how long to wait. None: for whatever comes first.
        """
        if self.due is not None:
            with self._alarms_lock:
                self.due = self._alarms.next_due()
            if until is None or (self.due is not None and self.due < until):
                until = self.due
        self._read(None if self._has_control() else until)  # control is on its way
        if self.due is not None:
            self._ring_alarms()

    def _read(self, until: int | None) -> None:
        wait = None if until is None else _ms(until - self.now())
        for descriptor, _ in poll_for(self._poll, wait):
            if descriptor != self._bell_number:
                self._receive()
                continue
            with suppress(BlockingIOError):
                self._bell.recv(4096)

    def _receive(self) -> None:
        """Take in what has come, if it is still there: another thread may have done so."""
        with self._receiving:
            try:
                frames = self._incoming.receive(self._connection)
            except BlockingIOError:
                return
            except OSError:  # it was reset
                frames = None
            if frames is None:
                leave(0)  # the parent is gone, or has no use for this process any more
            for frame in frames:
                self._take(frame)

    def _take(self, frame: Frame) -> None:
        kind = frame.kind
        if kind in _MESSAGES:
            assert self.own is not None
            self.own.take_messages(frame)
        elif kind == protocol.AGAIN:
            assert self.own is not None
            self.own.take_again(frame)
        elif kind == protocol.REPLY:
            self._settle(frame)
        elif kind == protocol.ATTACH:
            handles = [*frame.load(), *self._memory]
            self.board = Board(Block.attach(handles[0]))
            hold(self.board.holder)
            self.saves = Saves(Block.attach(handles[1]))
        else:
            self.heard += 1
            self.orders.append(frame)

    def _settle(self, frame: Frame) -> None:
        question = self.parent.taken(frame.number)
        if question is None:
            return
        if frame.flag:
            question.error = unpack_exception(bytes(frame.data))
        else:
            try:
                question.value = decode(bytes(frame.data))
            except Exception as error:
                question.error = unreadable_reply(error)
        if question.done is not None:
            question.done.release()

    def obey(self, frame: Frame) -> None:
        """Do what a control frame says."""
        kind = frame.kind
        if kind == protocol.MAKE:
            self._make(frame)
            return
        if kind == protocol.WARM:
            rehearse(self, frame.load())
            return
        own = self.own
        if own is None:  # a standby that nobody needs
            self.over = True
            return
        if kind == protocol.OBEY:
            hook, period = frame.load()
            self.turn(lambda: own.obey(hook, period))
        elif kind == protocol.REGISTER:
            self.turn(lambda: own.register(*frame.load()))
            self.parent.send(raw(protocol.DONE_SO))
        elif kind == protocol.LEAVE:
            self.turn(own.leave)

    @staticmethod
    def _factory(path: str, making: Making) -> Any:
        try:
            return decode(making.factory)
        except SnapshotError as error:
            raise UnpicklableError(
                f"the factory of component {path!r} cannot be unpickled in "
                f"its process ({type(error.__cause__).__name__}); import what it needs there"
            ) from error.__cause__

    def _make(self, frame: Frame) -> None:
        numbers = self.board.numbers
        numbers[PHASE] = NUMBER_OF["create"]
        try:
            making: Making = frame.load()
            own = self.own = self.prepare(making.assignment)
            factory = self._factory(own.path, making)
            self.turn(lambda: own.begin(making, factory))
        except BaseException as error:
            self.parent.send(pack(protocol.RAISED, told_of(error)))
            self.over = True
            return
        numbers[PHASE] = 0
        assert own.component is not None
        ports = own.component._kompyct_ports
        # Not what has ports, since the parent must know them first.
        starts = bool(making.start) and not ports and not numbers[ORDERED]
        done = pack(protocol.DONE_SO, ports) if ports else raw(protocol.DONE_SO, flag=starts)
        self.parent.send(done)
        self.watch_parent()  # before `on_start`, which may give up this process's rights
        if starts:
            self.turn(lambda: own.obey("start", making.start))

    def prepare(self, assignment: bytes) -> ChildCell:
        """The cell for that `Assignment`; made, if it is not there yet."""
        if self.prepared is None or self.prepared[0] != assignment:
            there: Assignment = decode(assignment)
            self.prepared = (assignment, ChildCell(ChildRuntime(self, there), there))
        return self.prepared[1]

    def watch_parent(self) -> None:
        """End when the parent does, also while this is busy.

        The kernel sees to that as well, unless this process gives up its rights.
        """
        if not self.is_watching:
            self.is_watching = True
            watch_end_of_file(self._lifeline)

    # -- as a runner, a backend and a clock -------------------------------------------------

    def wait(self, target: Any, envelope: Ask, timeout: float) -> bool:
        """See `Runner.wait`: hear what comes meanwhile; it is handled afterwards."""
        if target is not None and type(target) is not FarCell and target is not self.own:
            # Of a system that the component has made for itself, in this process.
            return bool(envelope.done.acquire(True, timeout))
        answered = self.hear_until(lambda: envelope.done.acquire(False), timeout)
        if not answered:
            self.parent.give_up(envelope)
        return answered

    def hear_until(self, reached: Callable[[], bool], timeout: float) -> bool:
        """Hear what comes until `reached()`, at most `timeout` seconds, -1 for ever."""
        until = None if timeout == -1 else self.now() + round(timeout * SECOND)
        hear = self._read if threading.get_ident() == self._thread else self._help
        while not reached():
            if until is not None and self.now() >= until:
                return False
            hear(until)
        return True

    def _help(self, until: int | None) -> None:
        """Hear on another thread than the loop's, which may be in a handler."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        # What it waits for may be heard by the loop, of which this does not learn: look again.
        if poll.poll(LOOK_AGAIN if until is None else min(LOOK_AGAIN, _ms(until - self.now()))):
            self._receive()
            self._ring_bell()

    def _be_copy(self) -> None:
        """In a process that the component has forked: should it return to the loop, it ends."""
        self._is_copy = True
        self.parent.cut()
        with suppress(Exception):  # no standard error; its crash is not the component's
            faulthandler.disable()
            faulthandler.unregister(signal.SIGTERM)
            faulthandler.enable(all_threads=False)
        logging.getLogger().handlers = []  # its warnings go to the standard error
        if self.own is not None:
            self.own.incoming.clear()
            self.own.again.clear()

    def wake(self, item: Any) -> None:
        """Have the loop look at what there is to do; it has one cell."""
        item.asleep = False
        self._ring_bell()

    def take_over(self, cell: Any) -> None:
        """Be the loop: the thread that was it hangs."""
        self.serve()
        leave(0)

    now = staticmethod(time.monotonic_ns)

    def set(self, alarm: Any) -> None:
        """See `Clock.set`."""
        with self._alarms_lock:
            if self._alarms.add(alarm):
                self.due = alarm.due
        self._ring_bell()

    def close(self) -> None:
        """See `Clock.close`."""

    def _ring_alarms(self) -> None:
        while True:
            with self._alarms_lock:
                due = self._alarms.next_due()
                self.due = due
                if due is None or due > self.now():
                    return
                ring = self._alarms.pop().ring
            if ring is not None:
                ring()

    def _ring_bell(self) -> None:
        if threading.get_ident() != self._thread:
            with suppress(OSError):  # it rings already
                self._ring.send(b"\0")
