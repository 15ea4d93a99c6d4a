"""Does the pool run each item once, whatever its workers and its watchdog do meanwhile?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kompyct.backends.pool
from kompyct.backends.pool import _Status
from kompyct.clock import ManualClock
from kompyct.deadline import Deadline
from kompyct.waiting import here
from tests.harness.explorer import Scenario
from tests.harness.stage import Lock, Stage, Unwound
from tests.harness.stand_ins import StagedPool, StagedWorker
from tests.harness.world import World


class Item:
    """Something for a pool to run, once."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self.asleep = True
        self.act = act
        self.runs = 0

    def run(self) -> bool:
        self.runs += 1
        self.act()
        return False


class Pool(Scenario):
    """A pool whose watchdog never looks, unless a player is it. Each item is run once."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        pool: Any = StagedPool("explored", ManualClock())
        self.pool = pool
        self.items: list[Item] = []
        self.parked: set[StagedWorker] = set()  # that ran in `settle` and wait for their bells

    def item(self, act: Callable[[], object] = lambda: None) -> Item:
        item = Item(act)
        self.items.append(item)
        return item

    def worker(self) -> StagedWorker:
        """A worker that runs; a player calls its `run`."""
        worker: StagedWorker = self.pool._add_runner()
        worker.turns_seen = 0  # the watchdog has looked before
        worker.begun = True
        return worker

    def settle(self) -> None:
        pool = self.pool
        while True:
            # Those started run, and those parked by an earlier go of this, if roused, again.
            roused = [
                worker
                for worker in pool._workers
                if worker in self.parked and worker.bell.acquire(False)
            ]
            runs = pool.started + roused
            pool.started = []
            if not runs:
                return
            for worker in runs:
                try:
                    worker.run()
                except Unwound:
                    self.parked.add(worker)
                here.runner = None

    def may_wait(self, lock: Lock) -> bool:
        pool = self.pool
        return lock is pool._watchdog_bell or any(
            lock is worker.bell and worker.status is _Status.PARKED for worker in pool._workers
        )

    def check(self) -> None:
        pool = self.pool
        assert not pool.ready, "an item is forgotten"
        assert [item.runs for item in self.items] == [1] * len(self.items)
        running = sum(worker.status is _Status.RUNNING for worker in pool._workers)
        assert pool._running == running == 0, f"{running} run, {pool._running} are counted"
        assert pool.idle
        assert len(set(pool._parked)) == len(pool._parked)
        parked = {worker for worker in pool._workers if worker.status is _Status.PARKED}
        assert parked == {*pool._parked}


class WakePark(Pool):
    """An item made ready while the last worker parks is run."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.pool.ready.append(self.item())
        self.only = self.worker()

    def one(self) -> None:
        self.pool.wake(self.item())

    def two(self) -> None:
        self.only.run()


class WakeParkTimed(WakePark):
    """The same with a worker that ends when it is not roused in time."""

    constants = ((kompyct.backends.pool, "SPARE_WORKERS", 0),)


class WakeWake(Pool):
    """Two items made ready in an idle pool are run, by one worker."""

    def one(self) -> None:
        self.pool.wake(self.item())

    def two(self) -> None:
        self.pool.wake(self.item())

    def settle(self) -> None:
        assert len(self.pool.started) <= 1, "more workers than needed"
        super().settle()


class ParkPark(Pool):
    """Two workers that park at once: one of them is the last."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.workers = (self.worker(), self.worker())
        self.pool.ready.append(self.item(lambda: self.pool.wake(self.item())))

    def one(self) -> None:
        self.workers[0].run()

    def two(self) -> None:
        self.workers[1].run()


class BlockWake(Pool):
    """A worker blocks while an item is made ready: another one runs that meanwhile."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.only = self.worker()
        self.pool.ready.append(self.item(self.block))

    def block(self) -> None:
        self.pool.block(self.only)
        self.pool.unblock(self.only)

    def one(self) -> None:
        self.only.run()

    def two(self) -> None:
        self.pool.wake(self.item())


class BlockUntil(Pool):
    """A worker blocks until an item has run that is made ready meanwhile: another runs that."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.only = self.worker()
        self.reply = stage.new_lock()
        self.reply.acquire()
        self.pool.ready.append(self.item(self.block))

    def block(self) -> None:
        self.pool.block(self.only)
        self.reply.acquire()
        self.pool.unblock(self.only)

    def one(self) -> None:
        self.only.run()

    def two(self) -> None:
        self.pool.wake(self.item(self.reply.release))


class AskInPool(Pool):
    """A blocking ask within a turn gets its reply, whoever runs what it asks."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.world = World(stage)
        self.world.cell.backend = self.pool
        self.only = self.worker()
        self.asker = self.item(self.ask)
        self.asker.asking = None  # type: ignore[attr-defined]
        self.pool.ready.append(self.asker)

    def ask(self) -> None:
        self.world.ask("a1")

    def one(self) -> None:
        self.only.run()

    def two(self) -> None:
        self.pool.wake(self.item())

    def check(self) -> None:
        super().check()
        assert self.world.answers == {"a1": "a1"}


class StuckReturns(Pool):
    """The watchdog finds a worker stuck that returns just then: it is counted once."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.only = self.worker()
        self.only.item = self.item()  # which it was seen in before
        self.pool.ready += [self.only.item, self.item()]
        self.pool._watchdog_bell.timeouts = 2

    def one(self) -> None:
        self.only.run()

    def two(self) -> None:
        self.pool._watch()


class StuckBlocks(StuckReturns):
    """The same with a worker that asks meanwhile."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.only.item.act = self.block

    def block(self) -> None:
        self.pool.block(self.only)
        self.pool.unblock(self.only)


class StuckParks(StuckReturns):
    """The same with one that has nothing left to run."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.pool.ready.clear()
        self.items.clear()

    def one(self) -> None:
        self.only.run()

    def two(self) -> None:
        self.pool.wake(self.item())
        self.pool._watch()


class WatchRest(Pool):
    """A deadline set while the watchdog goes to rest is watched."""

    constants = ((kompyct.backends.pool, "QUIET_TICKS", 0),)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.expired = 0
        self.pool._watchdog_bell.timeouts = 3

    def expire(self) -> None:
        self.expired += 1

    def one(self) -> None:
        self.pool.watch(Deadline(0, self.expire))

    def two(self) -> None:
        self.pool._watch()

    def settle(self) -> None:
        self.pool._watchdog_bell.timeouts = 3
        super().settle()

    def check(self) -> None:
        super().check()
        assert self.expired == 1, "the deadline is not watched"


class RestRuns(Pool):
    """While a worker runs, the watchdog does not rest: it would not see that it blocks.

    One worker has waited for a reply so long that the watchdog rests, and goes on now.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.only = self.worker()
        self.pool.block(self.only)
        self.pool._resting = True
        self.pool.ready.append(self.item(self.look))
        self.starved = False

    def look(self) -> None:
        self.starved = self.starved or self.pool._resting

    def one(self) -> None:
        self.pool.unblock(self.only)
        self.look()
        self.only.run()

    def two(self) -> None:
        self.pool.wake(self.item(self.look))

    def check(self) -> None:
        super().check()
        assert not self.starved, "an item ran, and the watchdog was at rest"


class CloseWake(Pool):
    """An item made ready while the pool is closed is run all the same."""

    def one(self) -> None:
        self.pool.wake(self.item())

    def two(self) -> None:
        self.pool.close(0.0)


class CloseRuns(Pool):
    """A pool closed while a worker runs: what is ready is run, and the worker ends."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.only = self.worker()
        self.pool.ready += [self.item(), self.item()]

    def one(self) -> None:
        self.only.run()

    def two(self) -> None:
        self.pool.close(0.0)

    def check(self) -> None:
        super().check()
        assert not self.pool._workers


class CloseParked(CloseRuns):
    """The same with a worker that ends by itself after a while."""

    constants = ((kompyct.backends.pool, "SPARE_WORKERS", 0),)

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.pool.ready.clear()
        self.items.clear()
