"""How does xoscar do the same? It is optional, and so imported only when it is measured."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from importlib import import_module
from time import perf_counter
from typing import Any

from benchmarks.measure import check, resident_bytes
from benchmarks.peers.asyncio_tasks import round_trips
from benchmarks.plan import PeerMissingError


def _with_xoscar(
    measure: Callable[[Any, str], Coroutine[Any, Any, float]], processes: int = 0
) -> float:
    """Run `measure(xoscar, address)` in an actor pool of this process, and so many others."""
    try:
        xoscar = import_module("xoscar")
    except ImportError as error:
        raise PeerMissingError("xoscar") from error

    async def run() -> float:
        pool = await xoscar.create_actor_pool("127.0.0.1:0", n_process=processes)
        async with pool:
            return await measure(xoscar, pool.external_address)

    return asyncio.run(run())


def _xoscar_counter(xoscar: Any) -> type[Any]:
    class Counter(xoscar.Actor):  # type: ignore[misc]
        def __init__(self) -> None:
            self.count = 0

        async def add(self, message: int) -> int:
            self.count += 1
            return self.count

        async def process(self) -> int:
            return os.getpid()

    return Counter


async def _in_another_process(xoscar: Any, address: str) -> Any:
    where = xoscar.allocate_strategy.ProcessIndex(1)
    actor = _xoscar_counter(xoscar)
    ref = await xoscar.create_actor(actor, address=address, allocate_strategy=where)
    check(int(await ref.process() != os.getpid()), 1)
    return ref


def tell(size: int) -> Mapping[str, float]:
    """See `messages.tell`; the last is asked, which waits for those before it."""

    async def measure(xoscar: Any, address: str) -> float:
        ref = await xoscar.create_actor(_xoscar_counter(xoscar), address=address)
        start = perf_counter()
        for number in range(size - 1):
            await ref.add.tell(number)
        check(await ref.add(size), size)
        return size / (perf_counter() - start)

    return {"rate": _with_xoscar(measure)}


def ask(size: int) -> Mapping[str, float]:
    """See `messages.ask`."""

    async def measure(xoscar: Any, address: str) -> float:
        ref = await xoscar.create_actor(_xoscar_counter(xoscar), address=address)
        return await round_trips(lambda: ref.add(1), size)

    return {"p50": _with_xoscar(measure)}


def tell_process(size: int) -> Mapping[str, float]:
    """See `processes.tell`; the last is asked, which waits for those before it."""

    async def measure(xoscar: Any, address: str) -> float:
        ref = await _in_another_process(xoscar, address)
        start = perf_counter()
        for number in range(size - 1):
            await ref.add.tell(number)
        check(await ref.add(size), size)
        return size / (perf_counter() - start)

    return {"rate": _with_xoscar(measure, processes=1)}


def ask_process(size: int) -> Mapping[str, float]:
    """See `processes.ask`."""

    async def measure(xoscar: Any, address: str) -> float:
        ref = await _in_another_process(xoscar, address)
        return await round_trips(lambda: ref.add(1), size)

    return {"p50": _with_xoscar(measure, processes=1)}


def start(size: int) -> Mapping[str, float]:
    """See `components.start`."""

    async def measure(xoscar: Any, address: str) -> float:
        actor = _xoscar_counter(xoscar)
        start = perf_counter()
        kept = [await xoscar.create_actor(actor, address=address) for _ in range(size)]
        elapsed = perf_counter() - start
        check(len(kept), size)
        return size / elapsed

    return {"rate": _with_xoscar(measure)}


def memory(size: int) -> Mapping[str, float]:
    """See `components.memory`."""

    async def measure(xoscar: Any, address: str) -> float:
        actor = _xoscar_counter(xoscar)
        refs: list[Any] = [None] * size
        await xoscar.create_actor(actor, address=address)
        before = resident_bytes()
        for index in range(size):
            refs[index] = await xoscar.create_actor(actor, address=address)
        return (resident_bytes() - before) / size

    return {"bytes": _with_xoscar(measure)}
