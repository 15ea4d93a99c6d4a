"""How does pykka do the same? Supervision, which it has not, is written by hand."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Mapping
from itertools import count
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any

import pykka

from benchmarks.measure import bytes_each, check, round_trips, wait_for


class _Counter(pykka.ThreadingActor):
    use_daemon_thread = True

    def __init__(self, done: threading.Event) -> None:
        super().__init__()
        self.count = 0
        self.done = done

    def on_receive(self, message: int | None) -> None:
        self.count += 1
        if message is None:
            self.done.set()


def tell(size: int) -> Mapping[str, float]:
    """See `messages.tell`."""
    done = threading.Event()
    ref = _Counter.start(done)
    start = perf_counter()
    for number in range(size - 1):
        ref.tell(number)
    ref.tell(None)
    wait_for(done)
    elapsed = perf_counter() - start
    check(ref.proxy().count.get(), size)
    return {"rate": size / elapsed}


class _Answerer(pykka.ThreadingActor):
    use_daemon_thread = True

    def on_receive(self, message: object) -> int:
        return 1


def ask(size: int) -> Mapping[str, float]:
    """See `messages.ask`."""
    ref = _Answerer.start()
    request = object()
    return {"p50": round_trips(lambda: ref.ask(request), size)}


class _Player(pykka.ThreadingActor):
    use_daemon_thread = True

    def __init__(self, done: threading.Event) -> None:
        super().__init__()
        self.next: Any = None
        self.done = done

    def on_receive(self, message: int) -> None:
        if message:
            self.next.tell(message - 1)
        else:
            self.done.set()


def ring(size: int, players: int) -> Mapping[str, float]:
    """See `messages.ring`."""
    done = threading.Event()
    refs = [_Player.start(done) for _ in range(players)]
    for ref, following in zip(refs, (*refs[1:], refs[0]), strict=True):
        # `next` is set by a call inside the actor, as pykka has it.
        ref.proxy().next = following
    refs[0].tell(players)
    wait_for(done)
    done.clear()
    start = perf_counter()
    refs[0].tell(size - 1)
    wait_for(done)
    return {"rate": size / (perf_counter() - start)}


class _Passer(pykka.ThreadingActor):
    use_daemon_thread = True

    def __init__(self, sink: Any) -> None:
        super().__init__()
        self.sink = sink

    def on_receive(self, message: object) -> None:
        self.sink.tell(message)


class _FanIn(pykka.ThreadingActor):
    use_daemon_thread = True

    def __init__(self, total: int, done: threading.Event) -> None:
        super().__init__()
        self.left = total
        self.done = done

    def on_receive(self, message: object) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()


def fan(size: int, passers: int) -> Mapping[str, float]:
    """See `messages.fan`."""
    rounds = size // 2 // passers
    done = threading.Event()
    sink = _FanIn.start(rounds * passers, done)
    refs = [_Passer.start(sink) for _ in range(passers)]
    start = perf_counter()
    for number in range(rounds):
        for ref in refs:
            ref.tell(number)
    wait_for(done)
    return {"rate": 2 * rounds * passers / (perf_counter() - start)}


def start(size: int) -> Mapping[str, float]:
    """See `components.start`."""
    done = threading.Event()
    numbers = count(1)

    class Starter(pykka.ThreadingActor):
        use_daemon_thread = True

        def on_start(self) -> None:
            if next(numbers) == size:
                done.set()

    begin = perf_counter()
    refs = [Starter.start() for _ in range(size)]
    wait_for(done)
    return {"rate": len(refs) / (perf_counter() - begin)}


def memory(size: int) -> Mapping[str, float]:
    """See `components.memory`; threads take as much again in the kernel, which is not counted."""
    return {"bytes": bytes_each(lambda _: _Answerer.start(), size)}


class _Supervisor(pykka.ThreadingActor):
    """Supervision by hand: starts a replacement from the last snapshot."""

    use_daemon_thread = True

    def on_receive(self, message: tuple[_Faulty, BaseException]) -> None:
        faulty, _ = message
        _Faulty.start(self.actor_ref, faulty.samples, faulty.done, pickle.loads(faulty.snapshot))


class _Faulty(pykka.ThreadingActor):
    """Faults until there are no faults left, each time as soon as it has started."""

    use_daemon_thread = True

    def __init__(
        self, supervisor: Any, samples: list[int], done: threading.Event, state: dict[str, int]
    ) -> None:
        super().__init__()
        self.supervisor = supervisor
        self.samples = samples
        self.done = done
        self.left = state["left"]
        self.raised_at = state["raised at"]

    def on_start(self) -> None:
        if self.raised_at:
            self.samples.append(perf_counter_ns() - self.raised_at)
        if not self.left:
            self.done.set()
            return
        self.actor_ref.tell("fault")

    def on_receive(self, message: str) -> None:
        state = {"left": self.left - 1, "raised at": perf_counter_ns()}
        self.snapshot = pickle.dumps(state, 5)
        raise ValueError(message)

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.supervisor.tell((self, exception_value))


def restart(size: int) -> Mapping[str, float]:
    """See `faults.restart`."""
    logging.getLogger("pykka").addHandler(logging.NullHandler())
    done = threading.Event()
    samples: list[int] = []
    _Faulty.start(_Supervisor.start(), samples, done, {"left": size, "raised at": 0})
    wait_for(done)
    check(len(samples), size)
    return {"p50": median(samples) / 1e3}
