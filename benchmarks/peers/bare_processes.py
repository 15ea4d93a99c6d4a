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
from collections.abc import Mapping
from time import monotonic_ns
from typing import NoReturn

from benchmarks.alone import tell
from benchmarks.measure import check, round_trips
from benchmarks.stamps import Stamp, new_stamp
from kompyct import inside

SETTLE = 0.05
"""See `children.SETTLE`."""

_PREPARED = b"."


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


def die(size: int, how: str, size_bytes: int) -> dict[str, list[int]]:
    """See `children.die`: a pidfd tells, of a fork of a process with what kompyct's have loaded.

    Args:
        how: as there; or "report": it crashes, and what tells is the pipe into which its
            `faulthandler` writes.
    """
    inside.ready()
    stamp = Stamp(new_stamp())
    seen = []
    for number in range(size + 1):
        mine, its = socket.socketpair()
        report, its_report = os.pipe()
        child = os.fork()
        if not child:
            mine.close()
            _be_told(stamp, size_bytes, its, its_report)
        pidfd = os.pidfd_open(child)
        its.close()
        os.close(its_report)
        mine.recv(1)
        end = select.poll()
        end.register(report if how == "report" else pidfd, select.POLLIN)
        time.sleep(SETTLE)
        if how == "kill":
            stamp.write()
            os.kill(child, signal.SIGKILL)
        else:
            mine.send(b"crash")
        end.poll()
        now = monotonic_ns()
        if number:
            seen.append(now - stamp.read())
        _, status = os.waitpid(child, 0)
        check(os.WTERMSIG(status), signal.SIGKILL if how == "kill" else signal.SIGSEGV)
        os.close(pidfd)
        os.close(report)
        mine.close()
    return {"seen": seen}


def _be_told(stamp: Stamp, size_bytes: int, told: socket.socket, report: int) -> NoReturn:
    """Hold so many bytes, then wait for the word to crash."""
    faulthandler.enable(report, all_threads=False)
    held = b"x" * size_bytes
    told.send(_PREPARED)
    if told.recv(1):
        stamp.write()
        ctypes.string_at(0)
    os._exit(len(held) > 0)  # the other side is gone


if __name__ == "__main__":
    count, manner, held_bytes = sys.argv[1:]
    tell(die(int(count), manner, int(held_bytes)))
