"""How fast is a process heard, and its end seen, with nothing around it?

Also a program of its own, see `alone`: `python -m benchmarks.peers.bare_processes SIZE HOW
SIZE_BYTES`.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from time import monotonic_ns
from typing import TypeVar

from benchmarks.alone import tell
from benchmarks.measure import LIMIT, round_trips
from benchmarks.stamps import Stamp, new_stamp
from kompyct import inside
from kompyct.processes.starter import Ended, Started, Zygote

SETTLE = 0.05
"""See `children.SETTLE`."""

_ENTRY = "benchmarks.peers.bare_processes:ready"
_PREPARED = b"."

_Kind = TypeVar("_Kind", Started, Ended)


def echo(size: int) -> Mapping[str, float]:
    """The median round trip of a few bytes to another process, by two pipes."""
    there, back = os.pipe(), os.pipe()
    other = os.fork()
    if not other:
        os.close(there[1])
        while data := os.read(there[0], 64):
            os.write(back[1], data)
        os._exit(0)
    os.close(there[0])

    def request() -> None:
        os.write(there[1], b"request")
        os.read(back[0], 64)

    figure = round_trips(request, size)
    os.close(there[1])
    os.waitpid(other, 0)
    return {"p50": figure}


def ready() -> Callable[[Sequence[int]], None]:
    """Load what kompyct's children load; returns what ours run."""
    inside.ready()
    return _be_told


def _be_told(descriptors: Sequence[int]) -> None:
    """Hold so many bytes, then wait for the word to crash."""
    connection = socket.socket(fileno=descriptors[0])
    faulthandler.enable(descriptors[1], all_threads=False)
    path, size_bytes = connection.recv(1024).decode().split()
    stamp = Stamp(path)
    held = b"x" * int(size_bytes)
    connection.send(_PREPARED)
    if connection.recv(1):
        stamp.write()
        ctypes.string_at(0)
    print(len(held))  # the other side is gone


def die(size: int, how: str, size_bytes: int) -> dict[str, list[int]]:
    """See `children.die`: a pidfd tells, of a child that kompyct's zygote has made.

    Args:
        how: as there; or "report": it crashes, and what tells is the pipe into which its
            `faulthandler` writes.
    """
    zygote = Zygote(_ENTRY)
    path = new_stamp()
    stamp = Stamp(path)
    seen = []
    for number in range(size + 1):
        mine, its = socket.socketpair()
        report, its_report = os.pipe()
        zygote.start(number + 1, [its.fileno(), its_report])  # none is number 0
        started = _next(zygote, Started)
        its.close()
        os.close(its_report)
        mine.send(f"{path} {size_bytes}".encode())
        mine.recv(1)
        end = select.poll()
        end.register(report if how == "report" else started.pidfd, select.POLLIN)
        time.sleep(SETTLE)
        if how == "kill":
            stamp.write()
            os.kill(started.pid, signal.SIGKILL)
        else:
            mine.send(b"crash")
        end.poll()
        now = monotonic_ns()
        if number:
            seen.append(now - stamp.read())
        _next(zygote, Ended)
        os.close(started.pidfd)
        os.close(report)
        mine.close()
    zygote.close()
    return {"seen": seen}


def _next(zygote: Zygote, kind: type[_Kind]) -> _Kind:
    """Wait for the next news, which is of that kind."""
    while True:
        for news in zygote.news():
            if isinstance(news, kind):
                return news
        if zygote.connection is not None:
            select.select([zygote.connection], [], [], LIMIT)


if __name__ == "__main__":
    count, manner, held_bytes = sys.argv[1:]
    tell(die(int(count), manner, int(held_bytes)))
