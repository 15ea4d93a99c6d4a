"""How does asyncio do the same, in the standard library's way: a task and a queue for each?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any

from benchmarks.measure import check, resident_bytes


def tell(size: int) -> Mapping[str, float]:
    """See `messages.tell`; the mailbox is a queue, the component a task."""

    async def measure() -> float:
        queue: asyncio.Queue[int | None] = asyncio.Queue()

        async def consume() -> int:
            handled = 0
            while True:
                message = await queue.get()
                handled += 1
                if message is None:
                    return handled

        consumer = asyncio.create_task(consume())
        start = perf_counter()
        for number in range(size - 1):
            queue.put_nowait(number)
        queue.put_nowait(None)
        check(await consumer, size)
        return size / (perf_counter() - start)

    return {"rate": asyncio.run(measure())}


def ask(size: int) -> Mapping[str, float]:
    """See `messages.ask`; the reply is a future."""

    async def measure() -> float:
        queue: asyncio.Queue[asyncio.Future[int]] = asyncio.Queue()

        async def answer() -> None:
            while True:
                (await queue.get()).set_result(1)

        answerer = asyncio.create_task(answer())
        loop = asyncio.get_running_loop()

        async def ask() -> int:
            future: asyncio.Future[int] = loop.create_future()
            queue.put_nowait(future)
            return await future

        p50 = await round_trips(ask, size)
        answerer.cancel()
        return p50

    return {"p50": asyncio.run(measure())}


async def round_trips(call: Callable[[], Awaitable[object]], count: int) -> float:
    """`measure.round_trips` for coroutines."""
    samples = []
    for _ in range(count // 10):
        await call()
    for _ in range(count):
        start = perf_counter_ns()
        await call()
        samples.append(perf_counter_ns() - start)
    return median(samples) / 1e3


def ring(size: int, players: int) -> Mapping[str, float]:
    """See `messages.ring`."""

    async def measure() -> float:
        done = asyncio.Event()
        queues: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(players)]

        async def play(own: asyncio.Queue[int], following: asyncio.Queue[int]) -> None:
            while True:
                message = await own.get()
                if message:
                    following.put_nowait(message - 1)
                else:
                    done.set()

        pairs = zip(queues, (*queues[1:], queues[0]), strict=True)
        tasks = [asyncio.create_task(play(*pair)) for pair in pairs]
        queues[0].put_nowait(players)
        await done.wait()
        done.clear()
        start = perf_counter()
        queues[0].put_nowait(size - 1)
        await done.wait()
        elapsed = perf_counter() - start
        for task in tasks:
            task.cancel()
        return size / elapsed

    return {"rate": asyncio.run(measure())}


def fan(size: int, passers: int) -> Mapping[str, float]:
    """See `messages.fan`."""
    rounds = size // 2 // passers

    async def measure() -> float:
        sink: asyncio.Queue[int] = asyncio.Queue()
        queues: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(passers)]

        async def pass_on(own: asyncio.Queue[int]) -> None:
            while True:
                sink.put_nowait(await own.get())

        async def collect() -> None:
            for _ in range(rounds * passers):
                await sink.get()

        tasks = [asyncio.create_task(pass_on(queue)) for queue in queues]
        collector = asyncio.create_task(collect())
        start = perf_counter()
        for number in range(rounds):
            for queue in queues:
                queue.put_nowait(number)
        await collector
        elapsed = perf_counter() - start
        for task in tasks:
            task.cancel()
        return 2 * rounds * passers / elapsed

    return {"rate": asyncio.run(measure())}


def start(size: int) -> Mapping[str, float]:
    """See `components.start`."""

    async def measure() -> float:
        done = asyncio.Event()
        numbers = count(1)

        async def idle(queue: asyncio.Queue[object]) -> None:
            if next(numbers) == size:
                done.set()
            while True:
                await queue.get()

        begin = perf_counter()
        tasks = [asyncio.create_task(idle(asyncio.Queue())) for _ in range(size)]
        await done.wait()
        elapsed = perf_counter() - begin
        for task in tasks:
            task.cancel()
        return size / elapsed

    return {"rate": asyncio.run(measure())}


def memory(size: int) -> Mapping[str, float]:
    """See `components.memory`."""

    async def idle(queue: asyncio.Queue[object]) -> None:
        while True:
            await queue.get()

    async def measure() -> float:
        tasks: list[Any] = [None] * size
        before = resident_bytes()
        for index in range(size):
            tasks[index] = asyncio.create_task(idle(asyncio.Queue()))
        await asyncio.sleep(0.1)  # all have come to their `get`
        return (resident_bytes() - before) / size

    return {"bytes": asyncio.run(measure())}
