"""What stands for kompyct's backends while two players have the stage?

A queue instead of a backend, where only the cell is explored; the pool itself, where that is, with
players instead of its workers' threads; and the thread of a store's writer.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from kompyct.backends.pool import PoolBackend, _Worker
from kompyct.deadline import AbandonedError
from kompyct.lifecycle import State


class Ready:
    """The backend of the scenarios: a queue, and whoever likes runs what is in it."""

    kind = "explored"

    def __init__(self) -> None:
        self.ready: deque[Any] = deque()
        self.ended: list[Any] = []  # cells whose end this backend has seen

    def wake(self, item: Any) -> None:
        item.asleep = False
        self.ready.append(item)

    take_over = wake

    def drain(self) -> None:
        """Run turns until nothing is ready."""
        while True:
            try:
                item = self.ready.popleft()
            except IndexError:
                return
            try:
                if item.run():
                    self.ready.append(item)
                elif item.state is State.DESTROYED:
                    self.ended.append(item)
            except AbandonedError:
                pass


class StagedPool(PoolBackend):
    """A pool that starts no threads."""

    def __init__(self, system_name: str, clock: Any) -> None:
        super().__init__(system_name, clock)
        self._watchdog = threading.Thread()  # which is never started
        self.started: list[StagedWorker] = []  # workers whose threads would have been started


class StagedWorker(_Worker):
    """A worker whose thread is a player, or the driver when it settles."""

    begun = False

    def start(self) -> None:
        assert isinstance(self.pool, StagedPool)
        self.pool.started.append(self)

    def join(self, timeout: float | None = None) -> None:
        if not self.begun:
            raise RuntimeError("cannot join thread before it is started")

    def run(self) -> None:
        self.begun = True
        super().run()


class StagedThread:
    """The thread of a store's writer, which a player runs, or the driver when it settles."""

    def __init__(self, **_: Any) -> None:
        pass

    def start(self) -> None:
        """Whoever runs it looks whether the writer has it."""

    def join(self, timeout: float | None = None) -> None:
        """Its time is over."""
