"""How does a process get children?

From a zygote, or, where `multiprocessing` was told to spawn, each as a process of its own. Either
way a child is given a few descriptors, and how it ended is told by `news`. For one thread, which
must live as long as the children may: they end when it does.
"""

from __future__ import annotations

import errno
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_start_method
from pathlib import Path
from typing import NamedTuple

from kompyct.errors import ProcessStartError
from kompyct.processes.exits import status_of_dead
from kompyct.processes.zygote import (
    ENDED,
    FAILED,
    FORK,
    ORDER,
    PACKET,
    PREPARE,
    READY,
    REAP,
    STARTED,
    TELL_END,
    THREADED,
    preparation,
    receive,
)

_RUN = (
    "import sys; sys.path[:0] = sys.argv[5:]; from kompyct.processes.zygote import main; "
    "main(*map(int, sys.argv[1:5]))"
)
_ROOT = str(Path(__file__).parents[2])  # where the package is imported from


LAST_ORDERS = 0.2
"""Seconds that a zygote has for what it was told last, unless somebody has stopped it."""


class Started(NamedTuple):
    """The child is there; `pidfd` belongs to who hears this."""

    number: int
    pid: int
    pidfd: int


class Ended(NamedTuple):
    """The child has ended, as `os.waitpid` says; None if nobody knows how."""

    number: int
    status: int | None


class Failed(NamedTuple):
    """There will be no such child."""

    number: int
    error: ProcessStartError
    is_threaded: bool = False
    """Whether it is because the main module starts threads: then a spawner is needed."""


News = Started | Ended | Failed


class Zygote:
    """Children by fork from one small process, which is started with the first of them.

    It is started anew when it is lost; its children are lost with it.
    """

    def __init__(self, entry: str, forget: Callable[[socket.socket], None]) -> None:
        self._entry = entry
        self._forget = forget  # called with a connection before it is closed
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._ready = False
        self._waiting: dict[int, tuple[int, ...]] = {}  # asked for, with their descriptors
        # Orders for which there was no room yet.
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._living: set[int] = set()
        self._lifeline = Lifeline()
        self._news: list[News] = []

    @property
    def is_ready(self) -> bool:
        """Whether it has loaded everything, so that a child takes milliseconds."""
        return self._connection is not None and self._ready

    def give_up(self) -> None:
        """It does not answer: the next child is made by a new one."""
        if self._connection is not None:
            self._lose(None)

    @property
    def connection(self) -> socket.socket | None:
        """What becomes readable when there is news; None while there is no process."""
        return self._connection

    def start(self, number: int, descriptors: Sequence[int]) -> None:
        """Have a child made that inherits copies of `descriptors`.

        They must stay open until there is news of it.
        """
        if self._connection is None:
            self._process, self._connection = launch(self._entry, self._lifeline, forks=True)
            self._connection.setblocking(False)
            self._ready = False
        self._waiting[number] = tuple(descriptors)
        self._order(FORK, number)

    def news(self) -> list[News]:
        """What has happened since the last call."""
        while self._connection is not None:
            try:
                data, descriptors = receive(self._connection, 1)
            except BlockingIOError:
                break
            except ConnectionResetError:  # it ended with a request unread; what it said comes next
                continue
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._lose(None)
            elif self._ready:
                self._note(data, descriptors)
            elif data == READY:
                self._ready = True
            else:
                self._lose(data.decode("utf-8", "replace"), is_threaded=data == THREADED)
        self._send()  # there is room again, since it has taken what it tells of
        news, self._news = self._news, []
        return news

    def status_of(self, number: int, pid: int) -> int | None:
        """How a child ended whose pidfd says so; None if only the zygote can tell."""
        status = status_of_dead(pid) if number in self._living else None
        # Of a zygote that is gone, the children were ended with it: that is no status of theirs.
        is_sure = status is not None and self._process is not None and self._process.poll() is None
        return status if is_sure else None

    def reap(self, number: int, *, tell: bool) -> None:
        """Have the zygote reap a child that has ended; to `tell` how, if it is not known."""
        if number not in self._living:  # its zygote is gone, and so is its number
            return
        if not tell:
            self._living.discard(number)
        self._order(TELL_END if tell else REAP, number)

    def close(self) -> None:
        """End the zygote, and with it all its children."""
        if self._connection is not None and self._process is not None:
            # It reaps what it was told to before it reads the end: whoever inherits them may not.
            self._connection.settimeout(LAST_ORDERS)
            self._send()
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(LAST_ORDERS)
            self._lose(None)
        self._lifeline.close()

    def _order(self, kind: bytes, number: int) -> None:
        descriptors = self._waiting[number] if kind == FORK else ()
        self._unsent.append((ORDER.pack(kind, number), descriptors))
        self._send()

    def _send(self) -> None:
        while self._unsent and self._connection is not None:
            packet, descriptors = self._unsent[0]
            try:
                socket.send_fds(self._connection, [packet], descriptors)
            except (BlockingIOError, TimeoutError):
                return
            except OSError:  # it has just died: that is read soon
                return
            self._unsent.popleft()

    def _note(self, data: bytes, descriptors: list[int]) -> None:
        kind, number, first, second = PACKET.unpack(data)
        if kind == STARTED:
            self._waiting.pop(number, None)
            if descriptors:
                self._living.add(number)
                self._news.append(Started(number, first, descriptors[0]))
            else:  # its pidfd came, and there was no descriptor left for it
                os.kill(first, signal.SIGKILL)  # it is that process: nobody has reaped it
                self._order(REAP, number)
                self._news.append(self._failed(number, errno.EMFILE))
        elif kind == ENDED:
            self._living.discard(number)
            self._news.append(Ended(number, second))
        elif kind == FAILED:
            self._waiting.pop(number, None)
            self._news.append(self._failed(number, first))

    @staticmethod
    def _failed(number: int, code: int) -> Failed:
        error = f"no child process could be made: {os.strerror(code)}"
        return Failed(number, ProcessStartError(error))

    def _lose(self, text: str | None, *, is_threaded: bool = False) -> None:
        assert self._connection is not None
        assert self._process is not None
        self._forget(self._connection)
        self._connection.close()
        self._connection = None
        with suppress(Exception):
            self._process.kill()
            self._process.wait()
        error = not_prepared(text, self._process.returncode, is_ready=self._ready)
        for number in self._waiting:
            self._news.append(Failed(number, error, is_threaded))
        for number in self._living:
            self._news.append(Ended(number, None))
        self._waiting.clear()
        self._unsent.clear()
        self._living.clear()


class Spawner:
    """Children each from a new interpreter. Slow, and without anything inherited by fork."""

    connection = None
    is_ready = False

    def __init__(self, entry: str) -> None:
        self._entry = entry
        self._news: list[News] = []
        self._lifeline = Lifeline()

    def start(self, number: int, descriptors: Sequence[int]) -> None:
        """See `Zygote.start`."""
        process, connection = launch(self._entry, self._lifeline, forks=False)
        with connection, suppress(OSError):
            socket.send_fds(connection, [ORDER.pack(FORK, number)], descriptors)
        self._news.append(Started(number, process.pid, os.pidfd_open(process.pid)))
        process.returncode = 0  # it is reaped here, not by subprocess

    def news(self) -> list[News]:
        """See `Zygote.news`."""
        news, self._news = self._news, []
        return news

    def give_up(self) -> None:
        """Nothing: there is nobody who could not answer."""

    def status_of(self, number: int, pid: int) -> int | None:
        """Take the status of a child that has ended; or see it of one that is about to."""
        with suppress(ChildProcessError):  # a program that waits for any child took it
            found, waited = os.waitpid(pid, os.WNOHANG)
            return waited if found else status_of_dead(pid)
        return None

    def reap(self, number: int, *, tell: bool) -> None:
        """See `Zygote.reap`; `status_of` has done so."""
        if tell:
            self._news.append(Ended(number, None))

    def close(self) -> None:
        """End the children."""
        self._lifeline.close()


def starter_for(entry: str, forget: Callable[[socket.socket], None]) -> Zygote | Spawner:
    """What makes children here, by what `multiprocessing` was told."""
    if get_start_method(allow_none=True) == "spawn":
        return Spawner(entry)
    return Zygote(entry, forget)


class Lifeline:
    """A pipe whose writing end only this process has: children see by it that this one is gone."""

    def __init__(self) -> None:
        self.reading, self._writing = os.pipe()

    def close(self) -> None:
        """End the children that watch it."""
        if self.reading >= 0:
            os.close(self.reading)
            os.close(self._writing)
            self.reading = -1


def launch(
    entry: str, lifeline: Lifeline, *, forks: bool
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A new interpreter that is preparing itself, and the connection to it."""
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        numbers = (its.fileno(), os.getpid(), lifeline.reading, int(forks))
        process = subprocess.Popen(
            [sys.executable, *flags, "-c", _RUN, *map(str, numbers), _ROOT],
            stdin=subprocess.DEVNULL,
            pass_fds=[its.fileno(), lifeline.reading],
        )
    # In a file of memory, since it may be larger than any packet: arguments may be many.
    with open(os.memfd_create("kompyct-preparation"), "w+b") as file:
        pickle.dump(preparation(entry), file, 5)
        file.flush()
        with suppress(OSError):  # it has just died: that is read soon
            socket.send_fds(mine, [PREPARE], [file.fileno()])
    return process, mine


def not_prepared(text: str | None, code: int | None, *, is_ready: bool) -> ProcessStartError:
    """The error for a child that was not there before its process ended."""
    if text is None:
        when = "" if is_ready else " while it loaded the program's main module"
        return ProcessStartError(
            f"the process that makes child processes ended with code {code}{when}"
        )
    return ProcessStartError(
        f"a child process could not load what it needs; it said:\n{text.rstrip()}"
    )
