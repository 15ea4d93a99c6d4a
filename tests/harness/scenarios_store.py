"""Does every save reach the store, whoever writes, fails, ends or sleeps meanwhile?

The store is one in memory, the thread of its writer the driver, or a player that runs `_run`. A
save says "accepted" when it was not refused; at the end every accepted one is in the store, or one
that came after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from kompyct.clock import ManualClock
from kompyct.errors import IncarnationEndedError, StoreError
from kompyct.events import SnapshotsNotSaved
from kompyct.lifecycle import Status
from kompyct.registration import Registration
from kompyct.store.snapshots import Entry, MemoryStore, Snapshot
from kompyct.stored import Stored
from kompyct.writer import Writer
from tests.harness.explorer import Scenario
from tests.harness.stage import Condition, Lock, Stage, Unwound
from tests.harness.stand_ins import StagedThread
from tests.harness.world import recover

CLEAN = Status.CLEAN
RETIRED = Status.RETIRED
UNFINISHED = Status.UNFINISHED


class WatchedStore(MemoryStore):
    """A store in memory that fails as it is told, and looks at who writes.

    The saves of the numbers in `failing`, from 1 on, raise; `on_save` is called in each, before
    it takes effect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failing: frozenset[int] = frozenset()
        self.saves = 0
        self.writes = False  # whether a save is under way
        self.closed = False
        self.wrong = ""
        self.on_save: Callable[[], object] = lambda: None

    def save(self, entries: Sequence[Entry]) -> None:
        if self.writes:
            self.wrong = "two threads write at once"
        paths = [entry.path for entry in entries]
        if len(paths) > len({*paths}):
            self.wrong = f"one batch holds {paths}"
        for entry in entries:
            kept = self.load(entry.path)
            if kept and isinstance(entry, Snapshot) and entry.order < kept[0].order:
                self.wrong = f"{entry.order} was written after {kept[0].order}"
        self.saves += 1
        number = self.saves
        self.writes = True
        try:
            self.on_save()
            if self.closed or number in self.failing:
                raise StoreError("the store is closed, or there is no space left")
            super().save(entries)
        finally:
            self.writes = False

    def close(self) -> None:
        self.closed = True
        super().close()

    def newest(self, path: str) -> tuple[int, int]:
        """The order of what it keeps of a component; (0, 0) for nothing."""
        kept = self.load(path)
        return kept[0].order if kept else (0, 0)


class Saves(Scenario):
    """Two components, "a" and "b", that save into one store."""

    failing: ClassVar[frozenset[int]] = frozenset()
    writer_runs: ClassVar[bool] = False
    """Whether player 1 is the thread of the writer."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.store = WatchedStore()
        self.store.failing = self.failing
        self.events: list[Any] = []
        clock = ManualClock()
        self.writer = Writer(self.store, clock, self.events.append, "explored", threaded=True)
        if self.writer_runs:
            thread: Any = StagedThread()
            self.writer._thread = thread
        self.components = {path: Stored(self.writer, path, 1) for path in "abcd"}
        self.writer.components.update(self.components)
        self.accepted: dict[str, tuple[int, int]] = dict.fromkeys("abcd", (0, 0))
        self.errors: list[BaseException] = []
        self.is_closed = False

    # -- what players do

    def save(
        self, path: str, sequence: int, incarnation: int = 1, *, durably: bool = False
    ) -> None:
        """Save as a component does; a durable one is in the store when that returns."""
        made = registration(sequence)
        order = (incarnation, sequence)
        try:
            self.components[path].save(made, incarnation, durably=durably)
        except IncarnationEndedError as error:
            self.errors.append(error)
            return
        except StoreError as error:
            self.errors.append(error)
        else:
            if durably:
                newest = self.store.newest(path)
                assert newest >= order, f"{order} of {path!r} is not durable; {newest} is"
        self.accepted[path] = max(self.accepted[path], order)

    def flush(self) -> None:
        """All that was accepted before it is in the store when it returns."""
        before = dict(self.accepted)
        try:
            self.writer.flush()
        except StoreError as error:
            self.errors.append(error)
            return
        for path, order in before.items():
            newest = self.store.newest(path)
            assert newest >= order, f"flushed, but {order} of {path!r} is not durable; {newest} is"

    def close(self) -> None:
        self.is_closed = True
        self.writer.close()

    def write_behind(self) -> None:
        """Do what the writer's thread does when its delay is over."""
        if self.writer._behind and not self.writer._closed:
            self.writer._write_behind()

    def run_writer(self) -> None:
        """Be the writer's thread; for a player."""
        self.writer._run()

    def settle(self) -> None:
        if self.writer_runs:
            return
        for _ in range(9):
            with suppress(Unwound):  # somebody else writes just now
                self.write_behind()

    def may_wait(self, lock: Lock) -> bool:
        return self.writer_runs and self.stage.players[1].waits_for is lock

    # -- what must hold

    def check(self) -> None:
        writer = self.writer
        assert not self.store.wrong, self.store.wrong
        assert not writer._writing.locked(), "the right to write is held by nobody who runs"
        assert not writer._waiting, f"{len(writer._waiting)} sleep, and nobody will wake them"
        if not self.is_closed:
            assert not writer._queue, f"{len(writer._queue)} in the queue are never written"
            for stored in self.components.values():
                assert stored.settled == stored.touched, "it is not settled, and in no queue"
            for path, order in self.accepted.items():
                newest = self.store.newest(path)
                assert newest == order, f"{order} of {path!r} was accepted; the store has {newest}"


def registration(sequence: int) -> Registration:
    """One that can be stored."""
    made = Registration(recover, b"%d" % sequence, 0, 0, 0)
    made.sequence = sequence
    made.stored_as = "harness:recover"
    return made


# -- saves against writes ------------------------------------------------------------------------


class SaveWrite(Saves):
    """Two saves meet a write behind: the last one is stored in the end."""

    def one(self) -> None:
        self.save("a", 1)
        self.save("a", 2)

    def two(self) -> None:
        self.write_behind()
        self.write_behind()


class SaveSave(Saves):
    """Two threads of one incarnation save: neither is told that it has ended."""

    def one(self) -> None:
        self.save("a", 1)

    def two(self) -> None:
        self.save("a", 2)

    def check(self) -> None:
        super().check()
        assert not self.errors, self.errors


class SaveLate(Saves):
    """The save of a late incarnation meets one of the next: refused, or before that (S-06)."""

    def one(self) -> None:
        self.save("a", 9)

    def two(self) -> None:
        self.save("a", 1, 2)
        self.write_behind()

    def check(self) -> None:
        super().check()
        assert self.store.newest("a") == (2, 1)


class TouchTouch(Saves):
    """Two threads touch one component: nothing stays unsettled with an empty queue."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.save("a", 1)

    def one(self) -> None:
        self.components["a"].active = True
        self.components["a"].touch()

    def two(self) -> None:
        self.components["a"].touch()
        self.flush()

    def check(self) -> None:
        super().check()
        assert self.store.load("a")[0].mark.active, "the last touch is lost"


class TouchRun(Saves):
    """A touch meets the writer's thread about to rest: it does not sleep through that."""

    writer_runs = True

    def one(self) -> None:
        self.save("a", 1)
        self.save("b", 1)
        self.save("a", 2)

    def two(self) -> None:
        self.run_writer()


# -- durable saves -------------------------------------------------------------------------------


class DurableWrite(Saves):
    """A durable save meets the write behind of another component."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.save("b", 1)

    def one(self) -> None:
        self.save("a", 1, durably=True)

    def two(self) -> None:
        self.write_behind()
        self.save("b", 2)


class DurableDurable(Saves):
    """Two durable saves of two components: one of them may write for both."""

    def one(self) -> None:
        self.save("a", 1, durably=True)

    def two(self) -> None:
        self.save("b", 1, durably=True)
        self.save("b", 2, durably=True)


class DurableSame(Saves):
    """A durable save of a component meets one of its marks that is made durable."""

    def one(self) -> None:
        self.save("a", 1, durably=True)

    def two(self) -> None:
        self.components["a"].touch(durably=True)


class DurableSleepers(Saves):
    """Who comes while others write sleeps, and is woken once, by whoever has written."""

    hot_switches = 1

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.sleepers = ["c", "d"]
        self.store.on_save = self.come

    def come(self) -> None:
        """Have others come while this one writes."""
        while self.sleepers:
            path = self.sleepers.pop()
            self.stage.spawn(lambda path=path: self.save(path, 1, durably=True))  # type: ignore[misc]

    def one(self) -> None:
        self.save("a", 1, durably=True)

    def two(self) -> None:
        self.flush()


class DurableSleepersDurable(DurableSleepers):
    """The same with a durable save as the other."""

    def two(self) -> None:
        self.save("b", 1, durably=True)


class DurableSleepersQuick(DurableSleepersDurable):
    """The same with sleepers that are up at once."""

    bystanders_first = True


# -- a store that fails --------------------------------------------------------------------------


class FailSave(Saves):
    """The store fails once while saves come: nothing is lost."""

    failing = frozenset({1})

    def one(self) -> None:
        self.save("a", 1)
        self.save("a", 2)

    def two(self) -> None:
        self.save("b", 1)
        self.write_behind()


class FailFlush(Saves):
    """The store fails once and two flush: one of them is told so, and nothing is lost."""

    failing = frozenset({1})

    def one(self) -> None:
        self.save("a", 1)
        self.flush()

    def two(self) -> None:
        self.save("b", 1)
        self.flush()

    def check(self) -> None:
        super().check()
        assert len(self.errors) <= 1


class FailDurable(Saves):
    """The store fails twice under two durable saves: each is told, or durable."""

    failing = frozenset({1, 2})

    def one(self) -> None:
        self.save("a", 1, durably=True)

    def two(self) -> None:
        self.save("b", 1, durably=True)


class FailClose(DurableSleepers):
    """A store that has failed for good is closed under durable saves: all are told."""

    hot_switches = 2
    failing = frozenset(range(99))

    def come(self) -> None:
        if self.sleepers:
            path = self.sleepers.pop()
            self.stage.spawn(lambda: self.save(path, 1, durably=True))

    def two(self) -> None:
        self.close()


class FailCloseQuick(FailClose):
    """The same with sleepers that are up at once."""

    bystanders_first = True


class FailSleepers(FailClose):
    """The same while the system lives: the writer's thread tries again, and all end."""

    hot_switches = 1
    failing = frozenset({1, 2, 3})

    def two(self) -> None:
        self.save("b", 1, durably=True)


# -- marks ---------------------------------------------------------------------------------------


class MarkRun(Saves):
    """A mark meets the writer's thread: it returns when it is durable (S-27)."""

    writer_runs = True

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.save("a", 1)
        self.writer.flush()
        changed: Any = self.writer._changed
        assert isinstance(changed, Condition)
        changed.patience = 0.5  # that of a mark is never over

    def one(self) -> None:
        stored = self.components["a"]
        pending: Any = stored._pending
        pending[0].suspect = 1
        self.writer.mark(stored)
        assert self.store.load("a")[0].mark.suspect == 1, "the mark is not durable"

    def two(self) -> None:
        self.run_writer()


class MarkHangs(Saves):
    """A mark whose patience is over returns, and is stored all the same."""

    def one(self) -> None:
        self.writer.mark(self.components["a"])

    def two(self) -> None:
        self.save("a", 1)
        self.write_behind()


class FailRun(Saves):
    """A durable save meets the failure of a write behind: that it works again is told."""

    writer_runs = True
    failing = frozenset({1})

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.save("a", 1)

    def one(self) -> None:
        self.save("b", 1, durably=True)

    def two(self) -> None:
        self.run_writer()

    def check(self) -> None:
        if self.store.saves > 1:
            super().check()
            failed = [type(event) is SnapshotsNotSaved for event in self.events]
            assert not any(failed[-1:]), "it works again, and nobody says so"


class MarkWorks(Saves):
    """A mark of a store that failed before and works again is durable (S-27)."""

    writer_runs = True

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.save("a", 1)
        self.store.failing = frozenset({1})
        self.writer._write_behind()
        changed: Any = self.writer._changed
        changed.patience = 0.5

    def one(self) -> None:
        self.writer.mark(self.components["a"])
        assert self.store.newest("a") == (1, 1), "the mark is not durable"

    def two(self) -> None:
        self.run_writer()


# -- the ends ------------------------------------------------------------------------------------


class EndSave(Saves):
    """A late save meets the end: what is stored is retired, and later saves are refused."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.save("a", 1)

    ended = False

    def one(self) -> None:
        late = self.ended
        self.save("a", 2)
        assert self.errors or not late, "a save after the end was accepted"

    def two(self) -> None:
        self.components["a"].end(RETIRED)
        self.ended = True

    def check(self) -> None:
        super().check()
        assert self.store.load("a")[0].mark.status is RETIRED


class EndClean(EndSave):
    """The same at an orderly end; what was handed out after one before is no attempt (S-26)."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        pending: Any = self.components["a"]._pending
        pending[0].suspect = 3
        pending[0].before_shutdown = 2

    def one(self) -> None:
        self.write_behind()

    def two(self) -> None:
        self.components["a"].end(CLEAN)

    def check(self) -> None:
        Saves.check(self)
        mark = self.store.load("a")[0].mark
        assert mark.status is CLEAN
        assert mark.suspect == 2


class EndWrite(Saves):
    """The end meets a write: it is forgotten only when the store knows of the end.

    Who creates it anew is then told by the store that it was retired (S-25).
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.save("a", 1)

    def one(self) -> None:
        self.write_behind()

    def two(self) -> None:
        self.components["a"].end(RETIRED)
        self.look()

    def look(self) -> None:
        """Do what `claims.attach` does."""
        if self.writer.components.get("a") is None:
            status = self.store.load("a")[0].mark.status
            assert status is RETIRED, f"it has ended, and who creates it goes on from {status}"

    def check(self) -> None:
        super().check()
        assert "a" not in self.writer.components
        self.look()


class EndAnew(Saves):
    """A component ends while another one of its name saves: that one's counts."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.save("a", 1)
        self.old = self.components["a"]
        self.components["a"] = new = Stored(self.writer, "a", 2)
        self.writer.components["a"] = new

    def one(self) -> None:
        self.old.end(RETIRED)
        self.write_behind()

    def two(self) -> None:
        self.save("a", 2, 2)
        self.write_behind()

    def check(self) -> None:
        self.store.wrong = ""  # what is late is written as well, and left out by the store
        super().check()
        assert self.old.settled == self.old.touched
        assert self.store.load("a")[0].mark.status is UNFINISHED
        assert self.writer.components["a"] is self.components["a"]


class CloseSave(Saves):
    """A save meets the close: saved before it, it is stored; later it waits for nobody."""

    def one(self) -> None:
        self.save("a", 1)
        self.before = not self.is_closed

    def two(self) -> None:
        self.close()

    def check(self) -> None:
        super().check()
        if self.before:
            assert self.store.newest("a") == (1, 1), "saved before the close, and lost"


class CloseDurable(Saves):
    """A durable save meets the close: it is durable, or told that it is not."""

    def one(self) -> None:
        self.save("a", 1, durably=True)

    def two(self) -> None:
        self.close()


class CloseRun(Saves):
    """The writer's thread meets the close: it ends, and what was saved is stored."""

    writer_runs = True

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.save("a", 1)

    def one(self) -> None:
        self.close()

    def two(self) -> None:
        self.run_writer()

    def may_wait(self, lock: Lock) -> bool:
        return False

    def check(self) -> None:
        super().check()
        assert self.store.newest("a") == (1, 1)


class FlushSave(Saves):
    """A flush meets saves of another thread: what was saved before it is durable after it."""

    def one(self) -> None:
        self.save("a", 1)
        self.flush()

    def two(self) -> None:
        self.save("a", 2)
        self.save("b", 1)

    def check(self) -> None:
        self.errors.clear()
        super().check()


class FlushTouch(Saves):
    """The same while another thread has the component touched already."""

    def one(self) -> None:
        self.save("a", 1)
        self.flush()

    def two(self) -> None:
        self.components["a"].touch()


class FlushWrite(Saves):
    """A flush meets the write behind of what it is about: it returns when that is over."""

    def one(self) -> None:
        self.save("a", 1)
        self.flush()

    def two(self) -> None:
        self.write_behind()
