"""What makes children quickly, however big and threaded the process is that wants them?

The zygote: a small process of one thread that has everything loaded a child needs, the program's
main module included, and forks when it is told to. It ends with its parent; its children end with
it. For Linux (S-32).

Its connection carries packets. To it: first PREPARE, with a file of what to load, then for each
child FORK with the descriptors it inherits, and REAP or TELL_END when its pidfd says that it has
ended: until then it is a zombie, of which the parent can read how. From it: first READY, THREADED,
or what went wrong as text; then STARTED with a pidfd, and ENDED, which answers TELL_END.

A spawned child is the same without the fork: it becomes the first child it is asked for.
"""

from __future__ import annotations

import array
import faulthandler
import gc
import importlib
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn

from kompyct.processes.parent import end_with_parent

PREPARE = b"prepare"
READY = b"ready"
THREADED = b"threaded"
"""Importing the main module started threads, so this process must not fork."""

UNPREPARED = "kompyct.unprepared:answer"
"""What a spawned child calls, with its descriptors and the error, if it could not be prepared."""

STARTED, ENDED, FAILED = b"S", b"E", b"F"

PACKET = struct.Struct("<cQqq")
"""Kind, number of the child, pid or errno, wait status."""

FORK, REAP, TELL_END = b"f", b"r", b"t"

ORDER = struct.Struct("<cQ")
"""Kind, and number of the child."""

RETRY = 0.1
"""Seconds until the next try to reap what another process has still to look at."""

MAX_PACKET = 1 << 16
MAX_DESCRIPTORS = 8


class Preparation(NamedTuple):
    """What a new process loads and sets before it serves.

    Attributes:
        main: what `multiprocessing` needs to load the main module; see `prepare`.
        entry: `module:function`, which loads the rest, and returns what is called in each child
            with its descriptors.
    """

    main: dict[str, object]
    entry: str

    def load(self) -> Callable[[Sequence[int]], None]:
        """Call the function that `entry` names."""
        module, _, name = self.entry.partition(":")
        return getattr(importlib.import_module(module), name)()  # type: ignore[no-any-return]


def preparation(entry: str) -> Preparation:
    """What a child of this process needs; in the process that wants it."""
    from multiprocessing import spawn

    main: dict[str, object]
    try:
        main = dict(spawn.get_preparation_data("kompyct"))
    except FileNotFoundError:  # the current directory has been removed
        main = {"sys_path": list(sys.path), "sys_argv": list(sys.argv)}
        name = getattr(sys.modules["__main__"].__spec__, "name", None)
        path = getattr(sys.modules["__main__"], "__file__", None)
        if name is not None:
            main["init_main_from_name"] = name
        elif path is not None and os.path.isabs(path):
            main["init_main_from_path"] = path
    if not has_main():
        main.pop("init_main_from_path", None)
    # What concerns multiprocessing's own children only.
    for name in ("name", "authkey", "log_to_stderr", "start_method", "dir", "orig_dir"):
        main.pop(name, None)
    return Preparation(main, entry)


def has_main() -> bool:
    """Whether a child of this process can import its main module."""
    module = sys.modules["__main__"]
    if getattr(module, "__spec__", None) is not None:
        return True
    path = getattr(module, "__file__", None)
    return path is not None and os.path.exists(path)  # not "<stdin>"


def prepare(preparation: Preparation) -> Callable[[Sequence[int]], None]:
    """Load what a child needs; in the new process.

    While the main module is imported, `multiprocessing` marks the process as one that inherits:
    a program that then goes on to start its systems has no `__main__` guard, see
    `checks.refuse_while_inheriting`.
    """
    from multiprocessing import process, spawn

    mark = process.current_process()
    mark._inheriting = True  # type: ignore[attr-defined]
    try:
        spawn.prepare(preparation.main)
    finally:
        del mark._inheriting  # type: ignore[attr-defined]
    return preparation.load()


def main(descriptor: int, parent_pid: int, lifeline: int, forks: int) -> None:
    """Be the zygote. Unless it `forks`, be a child.

    Args:
        descriptor: this end of the connection.
        lifeline: for children: what reaches its end when the process at its other end is gone.
    """
    os.set_inheritable(lifeline, False)
    end_with_parent(parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for who started the program
    # A program that waits for signals blocks them; its children must hear of deaths, and of TERM.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    connection = socket.socket(fileno=descriptor)
    data, prepared = receive(connection, 1)
    if not data:
        return
    try:
        with open(prepared[0], "rb") as file:
            file.seek(0)
            serve = prepare(pickle.load(file))
    except BaseException as error:
        if forks:
            with suppress(OSError):
                connection.send(traceback.format_exc()[-MAX_PACKET:].encode())
            return
        serve = _excuse(error)
    if not forks:
        _, descriptors = receive(connection, MAX_DESCRIPTORS)
        connection.close()
        _serve(serve, [*descriptors, lifeline])
    if threading.active_count() > 1:
        connection.send(THREADED)
        return
    connection.send(READY)
    gc.collect()
    gc.freeze()  # a child's collections need not touch, and so copy, what is here
    _Zygote(connection, serve, lifeline).run()
    os._exit(0)  # without the end of an interpreter: somebody waits


class _Zygote:
    """Forks and reaps when it is told to. One thread; it runs nothing of the users'."""

    def __init__(
        self,
        connection: socket.socket,
        serve: Callable[[Sequence[int]], None],
        lifeline: int,
    ) -> None:
        self._connection = connection
        self._entry = serve
        self._lifeline = lifeline
        self._pid = os.getpid()
        self._pids: dict[int, int] = {}  # of the children that were not reaped, by number
        # Ordered to be reaped, and whether to tell; their tracers, as a debugger, have them still.
        self._held: dict[int, bool] = {}
        # Were it ignored, they would be gone before they are reaped.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def run(self) -> None:
        """Until the parent is gone."""
        while self._obey():
            pass

    def _obey(self) -> bool:
        try:
            self._connection.settimeout(RETRY if self._held else None)
            data, descriptors = receive(self._connection, MAX_DESCRIPTORS)
        except TimeoutError:
            for number, tell in tuple(self._held.items()):
                self._reap(number, tell=tell)
            return True
        except OSError:
            return False
        if not data:
            return False
        kind, number = ORDER.unpack(data)
        if kind == FORK:
            self._fork(number, descriptors)
        else:
            self._reap(number, tell=kind == TELL_END)
        return True

    def _fork(self, number: int, descriptors: Sequence[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            self._tell(PACKET.pack(FAILED, number, error.errno or 0, 0))
            return
        if pid == 0:
            self._be_child(descriptors)
        self._pids[number] = pid
        for descriptor in descriptors:
            os.close(descriptor)
        # Opened before the child can be reaped, so that it cannot be another process's.
        pidfd = os.pidfd_open(pid)
        self._tell(PACKET.pack(STARTED, number, pid, 0), pidfd)
        os.close(pidfd)

    def _be_child(self, descriptors: Sequence[int]) -> None:
        """Serve, and never return."""
        end_with_parent(self._pid)
        self._connection.close()
        _serve(self._entry, [*descriptors, self._lifeline])

    def _reap(self, number: int, *, tell: bool) -> None:
        """Reap a child whose pidfd says that it has ended."""
        if number not in self._pids:  # it was reaped already
            return
        pid, status = os.waitpid(self._pids[number], os.WNOHANG)
        if not pid:
            self._held[number] = tell
            return
        del self._pids[number]
        self._held.pop(number, None)
        if tell:
            self._tell(PACKET.pack(ENDED, number, pid, status))

    def _tell(self, packet: bytes, *descriptors: int) -> None:
        passed = array.array("i", descriptors)
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)] if descriptors else []
        with suppress(OSError):  # the parent is gone: the next look at the connection ends this
            self._connection.sendmsg([packet], control)


def _excuse(error: BaseException) -> Callable[[Sequence[int]], None]:
    """What a spawned child does that could not be prepared: it says so to who needs it first."""
    module, _, name = UNPREPARED.partition(":")
    answer = getattr(importlib.import_module(module), name)
    return lambda descriptors: answer(descriptors, error)


def receive(connection: socket.socket, max_descriptors: int) -> tuple[bytes, list[int]]:
    """A packet, and the descriptors that came with it: for this process, not for its children.

    Raises:
        OSError: the connection is broken; BlockingIOError: there is none, and it does not block.
    """
    data, descriptors, _, _ = socket.recv_fds(connection, MAX_PACKET, max_descriptors)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return data, descriptors


def _serve(entry: Callable[[Sequence[int]], None], descriptors: Sequence[int]) -> NoReturn:
    code = 1
    try:
        entry(descriptors)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        leave(code)


def leave(code: int) -> NoReturn:
    """End a child: what it printed is written, and nothing else of the exit is run."""
    with suppress(BaseException):
        faulthandler.disable()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
