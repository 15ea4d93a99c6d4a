"""How does multiprocessing do the same?

Also a program of its own, see `alone`: `python -m benchmarks.peers.multiprocesses METHOD SIZE`.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.managers import BaseManager
from time import monotonic_ns, perf_counter
from typing import Any

from benchmarks.alone import tell as tell_samples
from benchmarks.measure import check, round_trips

_fork = multiprocessing.get_context("fork")


def _count(queue: Any, answers: Connection) -> None:
    count = 1
    while queue.get() is not None:
        count += 1
    answers.send(count)


def tell(size: int) -> Mapping[str, float]:
    """See `processes.tell`: by a `Queue`."""
    queue: Any = _fork.Queue()
    answer, answers = _fork.Pipe(duplex=False)
    process = _fork.Process(target=_count, args=(queue, answers), daemon=True)
    process.start()
    start = perf_counter()
    for number in range(size - 1):
        queue.put(number)
    queue.put(None)
    count = answer.recv()
    elapsed = perf_counter() - start
    check(count, size)
    process.join()
    return {"rate": size / elapsed}


class _Answerer:
    def answer(self) -> int:
        return 1


class _Manager(BaseManager):
    """Has an answerer in a process of its own."""


_Manager.register("Answerer", _Answerer)


def ask(size: int) -> Mapping[str, float]:
    """See `processes.ask`: a method called by the proxy of a manager."""
    with _Manager(ctx=_fork) as manager:
        answerer = manager.Answerer()  # type: ignore[attr-defined]
        return {"p50": round_trips(answerer.answer, size)}


def _say_so(running: Connection) -> None:
    running.send_bytes(b".")


def make(size: int, method: str) -> dict[str, list[int]]:
    """See `children.make`: until its function runs, by that start method."""
    context: Any = multiprocessing.get_context(method)
    times = []
    for number in range(size + 1):
        running, says = context.Pipe(duplex=False)
        process = context.Process(target=_say_so, args=(says,))
        start = monotonic_ns()
        process.start()
        running.recv_bytes()
        if number:  # the first waits for the fork server
            times.append(monotonic_ns() - start)
        process.join()
        running.close()
        says.close()
    return {"made": times}


if __name__ == "__main__":
    tell_samples(make(int(sys.argv[2]), sys.argv[1]))
