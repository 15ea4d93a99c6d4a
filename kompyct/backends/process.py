"""How do components run in processes of their own?

The cell stays in this process, with mailbox, name and ref, see `remote`; its turns, which only
send, are run by the pool, or by an asker that finds nothing else to do. One thread looks after
all children: it starts them, hears what they say, and learns of their ends from the kernel, by a
pidfd of each. It never waits for a child, and runs no users' code but what unpickling runs.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import threading
import time
from _thread import allocate_lock, get_ident
from collections.abc import Callable
from functools import cached_property
from itertools import count
from typing import Any

from kompyct.backends.pool import PoolBackend
from kompyct.errors import ProcessStartError
from kompyct.messages import Envelope
from kompyct.processes.child import Child
from kompyct.processes.reactor import READ, WRITE, Reactor
from kompyct.processes.reaper import TIDY_AFTER, UNREACHABLE, Reaper
from kompyct.processes.spare import Spare
from kompyct.processes.starter import Ended, Failed, News, Spawner, Started, starter_for
from kompyct.processes.zygote import has_main

_logger = logging.getLogger("kompyct")

ENTRY = "kompyct.inside:ready"
"""What a child runs."""

_MAIN = threading.main_thread().ident

DEAF = 10.0
"""Seconds without a child after which another zygote is asked for the next one."""


ROOM_WITHIN = 1.0
"""Seconds at most to wait for descriptors, or memory, of children that are ending."""

RESERVED = 24
"""Descriptors that are not for a spare child: what three children need."""


class ProcessBackend:
    """The children of one system, and the thread that looks after them."""

    kind = "process"

    def __init__(self, system_name: str, pool: PoolBackend) -> None:
        self._name = system_name
        self._pool = pool
        self._numbers = count(1)
        self._mutex = allocate_lock()  # protects _thread and _closed
        self._thread: threading.Thread | None = None
        self._closed = False
        self._reactor = Reactor()
        self._reaper = Reaper(system_name, self._reactor, self)
        self._ident = 0  # of the thread
        # For the thread only:
        self._children: dict[int, Child] = {}
        self._starter: Any = None
        self._connection: Any = None  # the starter's, as it is watched
        self._spare = Spare(self._spare_child, self._reactor.after)

    # -- as a backend -----------------------------------------------------------------------

    def wake(self, item: Any) -> None:
        # An asker waits anyway, and sending never does: so it saves a hand-off to a worker. A
        # teller goes on: what else it tells meanwhile goes into the same frame. Not on the main
        # thread, where Ctrl+C would leave a turn half done.
        if (
            get_ident() not in (self._ident, _MAIN)
            and not item.control
            and _ends_with_ask(item.box)
        ):
            item.asleep = False
            if not item.run():
                return
        self._pool.wake(item)

    def run(self, errand: Any) -> None:
        """Have `errand.run()` called by the pool."""
        self._pool.wake(errand)

    def take_over(self, cell: Any) -> None:
        self._pool.take_over(cell)

    def close(self, timeout: float) -> None:
        """End what is left of the children, and the thread.

        Args:
            timeout: seconds to wait for the thread.
        """
        with self._mutex:
            self._closed = True
            thread = self._thread
        if thread is None:
            self._reactor.close()
            return
        self._reactor.wake()
        if thread is not threading.current_thread():
            thread.join(timeout)

    @cached_property
    def main_is_known(self) -> bool:
        """Whether the children have this program's main module: not if it is typed in."""
        return has_main()

    # -- children; from any thread ----------------------------------------------------------

    def new_child(self) -> Child:
        """A child: the spare one, or else what is sent to it waits until it has been started.

        Raises:
            ProcessStartError: the system has ended.
            OSError: there are no descriptors, or no memory, for it.
        """
        spare = None if self._closed else self._spare.take()
        if spare is not None:
            return spare
        until = time.monotonic() + ROOM_WITHIN
        while True:
            try:
                child = Child(next(self._numbers), self._watch_writing)
                break
            except OSError:  # what is held of those that end is let go soon
                if not self._has_ending() or time.monotonic() > until:
                    raise
            time.sleep(2 * TIDY_AFTER)
        with self._mutex:
            if self._closed:
                _throw_away(child)
                raise ProcessStartError(f"system {self._name!r} has ended; it starts no child")
            if self._thread is None:
                # A daemon that lives until the end of the system: the children end with the
                # thread that made them, see `end_with_parent`.
                thread = threading.Thread(
                    target=self._look_after, name=f"{self._name}-children", daemon=True
                )
                thread.start()
                self._thread = thread
            # Before it closes: it is finished.
            self._reactor.post(lambda: self._start(child))
        return child

    def replace_spare(self) -> None:
        """Have another spare child made, since one was taken and the thread may not know yet."""
        self._reactor.wake()

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call `call` on the thread after that time; it must not wait for anything."""
        self.post(lambda: self._reactor.after(seconds, call))

    def end(self, child: Child, patience: float, grace: float) -> None:
        """Have `child` ended: TERM after `patience`, KILL after `grace` more (seconds).

        It returns at once; `child.gone` is settled when that is done.
        """

        def later() -> None:
            self._reactor.after(patience, lambda: child.signal(signal.SIGTERM))
            self._reactor.after(patience + grace, lambda: child.signal(signal.SIGKILL))

        self.post(later)

    def post(self, order: Callable[[], object]) -> None:
        """Have the thread call `order`."""
        self._reactor.post(order)

    # -- private ----------------------------------------------------------------------------

    def _has_ending(self) -> bool:
        """Whether a child is ending, or has ended, of which something is held still; a hint."""
        return any(child.is_ending or child.is_gone for child in tuple(self._children.values()))

    def _watch_writing(self, child: Child) -> None:
        self.post(lambda: self._register(child))

    def _register(self, child: Child) -> None:
        """Watch what there is to be watched of the connection of `child`."""
        if child.number in self._children and child.connection.fileno() >= 0:
            events = READ
            if child.sender.is_full:
                events |= WRITE
            self._reactor.modify(child.connection.fileno(), events)

    def _look_after(self) -> None:
        self._ident = get_ident()
        try:
            while not self._closed:
                self._reactor.turn()
                self._spare.look()
        finally:
            self._end_all()

    def _start(self, child: Child) -> None:
        if self._starter is None:
            self._starter = starter_for(ENTRY, self._forget_connection)
        self._children[child.number] = child
        try:
            self._starter.start(child.number, child.descriptors())
        except OSError as error:
            failed = ProcessStartError(f"no child process could be started: {error}")
            failed.__cause__ = error
            self._note(Failed(child.number, failed))
            return
        if self._starter.is_ready:  # it takes milliseconds, unless somebody has stopped it
            number = child.number  # not the child, which would be kept so long with all it holds
            self._reactor.after(DEAF, lambda: self._give_up_starter(number))
        self._hear_starter(None, 0)

    def _spare_child(self) -> Child | None:
        """A child for later; only of a zygote, which makes it without loading anything.

        There is none where descriptors run out: they are for those who need a child now.
        """
        if not self._starter.is_ready:
            return None
        child = Child(next(self._numbers), self._watch_writing)
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if child.connection.fileno() > most - RESERVED:  # the lowest that were free
            _throw_away(child)
            return None
        self._start(child)
        return child

    def _give_up_starter(self, number: int) -> None:
        child = self._children.get(number)
        if child is not None and child.pid is None:
            self._starter.give_up()
            self._hear_starter(None, 0)

    def _hear_starter(self, _: object, events: int) -> None:
        if self._starter is None:
            return
        for news in self._starter.news():
            self._note(news)
        connection = self._starter.connection
        if connection is not None and connection is not self._connection:
            self._connection = connection
            self._reactor.watch(connection.fileno(), self._hear_starter, None)

    def _forget_connection(self, connection: socket.socket) -> None:
        """It is about to be closed: after that its number may be another descriptor's."""
        if connection is self._connection:
            self._reactor.unwatch(connection.fileno())
            self._connection = None

    def _note(self, news: News) -> None:
        child = self._children.get(news.number)
        if child is None:
            if isinstance(news, Started):
                os.close(news.pidfd)
            return
        if isinstance(news, Started):
            child.started(news.pid, news.pidfd)
            if self._closed:  # it was ordered just before the end
                child.signal(signal.SIGKILL)
            self._spare.want()
            self._reactor.watch(child.connection.fileno(), self._talk, child)
            self._reaper.watch(child)
            self._register(child)
        elif isinstance(news, Ended):
            self._reaper.note_status(child, news.status)
        elif news.is_threaded:
            if not isinstance(self._starter, Spawner):
                self._starter.close()
                self._starter = Spawner(ENTRY)
            self._start(child)
        else:
            child.start_error = news.error
            del self._children[child.number]
            child.be_gone()
            child.finish()

    def _talk(self, child: Child, events: int) -> None:
        if events & WRITE and child.sender.resume():
            self._register(child)
            if child.owner is not None:
                child.owner.may_send(child)
        if events & ~WRITE and not child.read():
            self._reactor.unwatch(child.connection.fileno())
            self._reactor.after(UNREACHABLE, lambda: child.signal(signal.SIGKILL))

    # -- for the reaper ---------------------------------------------------------------------

    def status_of(self, child: Child) -> int | None:
        """See `reaper.Parent`."""
        return None if child.pid is None else self._starter.status_of(child.number, child.pid)

    def reap(self, child: Child, *, tell: bool) -> None:
        """See `reaper.Parent`."""
        self._starter.reap(child.number, tell=tell)
        self._hear_starter(None, 0)

    def forget(self, child: Child) -> None:
        """See `reaper.Parent`."""
        del self._children[child.number]
        self._spare.lost(child)

    # -- the end ----------------------------------------------------------------------------

    def _end_all(self) -> None:
        """End whatever is left: the starter's children end with it."""
        with self._mutex:
            pass  # whoever was just ordering a child has done so
        self._reactor.flush()
        self._reaper.end_all(tuple(self._children.values()))
        until = time.monotonic() + 1.0
        while len(self._children) > self._reaper.ended and time.monotonic() < until:
            self._reactor.hear(0.05)
        self._reactor.call(self._reaper.tidy)
        if self._starter is not None:
            self._starter.close()
            for news in self._starter.news():
                self._note(news)
        for child in tuple(self._children.values()):
            child.be_gone()
            child.finish()
        self._children.clear()
        self._spare.close()
        self._reactor.close()


def _throw_away(child: Child) -> None:
    """Close all of a child that was not started."""
    child.be_gone()
    child.discard()
    child.finish()


def _ends_with_ask(box: Any) -> bool:
    """Whether the last that was put there is an ask; a hint, as the box may be changing."""
    try:
        return type(box[-1]) is Envelope
    except (IndexError, TypeError):  # it is empty, or no list
        return False
