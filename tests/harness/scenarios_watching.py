"""Do watches meet well with the ends of both sides?"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from kompyct import signals
from kompyct.cell import Cell
from kompyct.component import Component
from kompyct.errors import ComponentDestroyedError
from kompyct.lifecycle import State
from kompyct.notices import Terminated
from kompyct.options import Options
from tests.harness.stage import Stage
from tests.harness.world import World


class _Watched(World):
    """A second component, which watches or is to watch the first."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        shared: Any = self.shared
        self.notices: list[Any] = []
        self.watcher = Cell(shared, 2, "watcher", self.make_watcher, self.backend, Options())
        self.watcher.component = self.watcher.make(self.make_watcher)
        self.watcher.signal(signals.start, None)
        self.backend.drain()

    def make_watcher(self) -> _Watcher:
        return _Watcher(self.notices)

    def watch(self) -> None:
        self.shared.watches.watch(self.watcher, self.ref)

    def end_it(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.cell.state is State.DESTROYED
        watches = self.shared.watches
        tables = (watches._on, watches._of, watches._sent)
        assert not any(tables), f"something is left: {tables}"
        assert not self.watcher.flag.locked(), "the watcher's flag is held by nobody who runs"
        assert not self.watcher.box, "a notice was left asleep"


class WatchEnd(_Watched):
    """A watch meets the end of the watched one: exactly one notice, whoever was first (B-70)."""

    def one(self) -> None:
        self.watch()
        self.backend.drain()

    def two(self) -> None:
        self.end_it()

    def check(self) -> None:
        super().check()
        assert [(notice.reason, notice.error) for notice in self.notices] == [("killed", None)]


class WatchTwiceEnd(WatchEnd):
    """Watching again meets the end: one notice, which waits as the watcher is passive."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.watch()
        self.watcher.signal(signals.stop, None)
        self.backend.drain()

    def settle(self) -> None:
        super().settle()
        assert not self.notices
        self.watcher.signal(signals.start, None)
        self.backend.drain()


class UnwatchEnd(_Watched):
    """Taking a watch back meets the end: none is delivered after that (B-71)."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.watch()

    def one(self) -> None:
        self.watcher.send(self.ref)  # which has it take the watch back
        self.backend.drain()

    def two(self) -> None:
        self.end_it()

    def check(self) -> None:
        super().check()
        assert self.notices in ([None], [self.notices[0], None])


class WatcherEndsEnd(_Watched):
    """Both sides end at once: one notice at most, and nothing is kept of the watch."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.watch()

    def one(self) -> None:
        self.watcher.signal(signals.kill, None, False)
        self.backend.drain()

    def two(self) -> None:
        self.end_it()

    def check(self) -> None:
        super().check()
        assert len(self.notices) <= 1
        assert self.watcher.state is State.DESTROYED


class WatchWatcherEnds(_Watched):
    """A late thread's watch meets the end of its component: nothing is kept of it."""

    def one(self) -> None:
        self.watch()

    def two(self) -> None:
        self.watcher.signal(signals.kill, None, False)
        self.backend.drain()

    def settle(self) -> None:
        super().settle()
        assert not self.shared.watches._of, "a watch of an ended component is kept"
        self.end_it()


class NameEnd(World):
    """A registration meets the end of the component: the name is free afterwards (B-72)."""

    def one(self) -> None:
        with suppress(ComponentDestroyedError):
            self.shared.names.register("service", self.cell)

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        names = self.shared.names
        assert names.whereis("service") is None
        tables = (names._cells, names._names)
        assert not any(tables), f"a name of an ended component is kept: {tables}"


class JoinEnd(World):
    """Joining a group meets the end of the component: it is no member afterwards."""

    def one(self) -> None:
        with suppress(ComponentDestroyedError):
            self.shared.groups.get("workers").join(self.ref)

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        groups = self.shared.groups
        assert groups.get("workers").members() == ()
        assert not groups._of, "a member that has ended is kept"


class LeaveEnd(JoinEnd):
    """Leaving a group meets the end of the component."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.group = self.shared.groups.get("workers")
        self.group.join(self.ref)

    def one(self) -> None:
        self.group.leave(self.ref)


class _Watcher(Component[Any]):
    def __init__(self, notices: list[Any]) -> None:
        self.notices = notices

    def on_receive(self, message: Any) -> None:
        if isinstance(message, Terminated):
            self.notices.append(message)
        else:
            self.unwatch(message)
            self.notices.append(None)
