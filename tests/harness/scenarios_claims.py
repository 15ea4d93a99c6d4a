"""What does the store say of a component whose end, fault or claim meets something else?

Cells as in `world`, with a place in a store. What an earlier process has left there is found again
by `make_first`, as `create` calls it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

from kompyct import signals
from kompyct.cell import Cell
from kompyct.codecs import PICKLE
from kompyct.creation import make_first
from kompyct.errors import ArgumentError, ComponentDestroyedError, IncarnationEndedError
from kompyct.lifecycle import State, Status
from kompyct.ref import ComponentRef
from kompyct.registration import Registration
from kompyct.registry import Registry
from kompyct.store.snapshots import Mark, Snapshot
from kompyct.writer import Writer
from tests.harness.scenarios_store import WatchedStore
from tests.harness.stage import Stage, Unwound
from tests.harness.world import Noter, Shared, World, recover

PATH = "noter"


class SharedStore(Shared):
    """Stands for the runtime of a system with a store."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.store = WatchedStore()
        self.registry = Registry()
        self.codec = PICKLE
        self.durability = "memory"
        self.writer = Writer(self.store, self.clock, self.emit, "explored", threaded=True)

    def bound(self, decode: Any) -> Any:
        return decode()

    def forget(self, cell: Cell) -> Any:
        self.registry.remove(cell)
        return super().forget(cell)


class StoredWorld(World):
    """A noter with a place in a store: `left` is what it was found as, None for nothing."""

    left: ClassVar[Status | None] = None
    hot_switches = 1
    begins: ClassVar[bool] = True
    """Whether it is there before the players begin."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.shared: SharedStore = SharedStore(stage)
        store = self.shared.store
        if self.left is not None:
            mark = Mark(PATH, 1, 1, self.left, active=True)
            store.save([Snapshot(mark, f"{recover.__module__}:recover", PICKLE.encode(1), 0.0)])
        shared: Any = self.shared
        self.backend.ready.clear()
        self.notes.clear()
        self.cell = Cell(shared, 1, PATH, self.make, self.backend, self.options)
        self.ref: ComponentRef[Any] = ComponentRef(self.cell)
        if self.begins:
            self.create()
            self.settle()

    def make(self) -> Noter:
        noter = Noter(self)
        made = Registration(recover, PICKLE.encode(0), 0, 0, 0)
        made.stored_as = f"{recover.__module__}:recover"
        noter._kompyct_registration = made
        return noter

    # -- what players do

    def create(self) -> None:
        """What `ComponentSystem.create` does, with a start."""
        if make_first(self.cell, fresh=False):
            self.shared.registry.add(self.cell)
            self.cell.flag.release()
            if self.cell.control and self.cell.flag.acquire(False):
                self.backend.wake(self.cell)
        with suppress(ComponentDestroyedError):
            self.cell.signal(signals.start, None)

    def found(self) -> ComponentRef[Any] | None:
        """What `ComponentSystem.find` does."""
        cell = self.shared.registry.find(PATH)
        return None if cell is None else ComponentRef(cell)

    def shut_down(self) -> None:
        """What the shutdown tells each component."""
        self.shared.stopping = True
        self.cell.signal(signals.kill, None, False, False, True)

    def settle(self) -> None:
        super().settle()
        writer = self.shared.writer
        for _ in range(9):
            if writer._behind:
                with suppress(Unwound):
                    writer._write_behind()

    # -- what must hold

    def newest(self) -> Snapshot:
        return self.shared.store.load(PATH)[0]

    def check(self) -> None:
        super().check()
        self.check_store()

    def check_store(self) -> None:
        writer = self.shared.writer
        assert not self.shared.store.wrong, self.shared.store.wrong
        assert not writer._queue
        assert not writer._waiting
        assert not writer._writing.locked()
        stored = writer.components.get(PATH)
        if stored is not None:
            assert stored.settled == stored.touched, "it is not settled, and in no queue"
        status = self.newest().mark.status
        assert (status is Status.UNFINISHED) or self.cell.state is State.DESTROYED


class KillShutdown(StoredWorld):
    """A user's kill meets a shutdown: retired if the kill came first, else clean (S-26)."""

    def one(self) -> None:
        self.kill()
        self.backend.drain()

    def two(self) -> None:
        self.shut_down()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.cell.state is State.DESTROYED
        assert self.newest().mark.status in (Status.RETIRED, Status.CLEAN)


class KillFaultShutdown(StoredWorld):
    """A user's kill whose on_kill faults meets a shutdown: retired, if the kill came first."""

    shutting_down = False
    ended_by_user = False

    def make(self) -> Noter:
        noter = super().make()
        noter.on_kill = self.fail  # type: ignore[method-assign]
        return noter

    def fail(self) -> None:
        self.notes.append("kill")
        self.ended_by_user = not self.shutting_down
        raise ValueError

    def one(self) -> None:
        self.kill()
        self.backend.drain()

    def two(self) -> None:
        if not self.cell.control and self.cell.asleep:
            return
        self.shutting_down = "kill" not in self.notes
        self.shut_down()

    def settle(self) -> None:
        self.backend.drain()
        self.end()
        super().settle()

    def check(self) -> None:
        super().check()
        if self.ended_by_user:
            status = self.newest().mark.status
            assert status is Status.RETIRED, f"the user killed it, and it is left {status}"


class LateSave(StoredWorld):
    """A thread of the component saves while that ends: it is stored, or refused (S-06)."""

    durability: ClassVar[Any] = "durable"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        component = self.cell.component
        assert component is not None
        self.component = component
        self.accepted = False

    def one(self) -> None:
        self.shared.durability = self.durability
        with suppress(IncarnationEndedError):
            self.component.set_recovery_function(recover, snapshot=7)
            self.accepted = True
            newest = self.newest()
            assert newest.data == PICKLE.encode(7), "durable, and not in the store"

    def two(self) -> None:
        self.kill()
        self.backend.drain()


class LateSaveSaid(LateSave):
    """The same with the level of durability in the call."""

    def one(self) -> None:
        with suppress(IncarnationEndedError):
            try:
                self.component.set_recovery_function(recover, snapshot=7, durability="durable")
            except ArgumentError as error:
                raise AssertionError(f"told that it has no store: {error}") from error
            assert self.newest().data == PICKLE.encode(7), "durable, and not in the store"


class LateSaveFault(StoredWorld):
    """A thread of the component saves while that faults: store and recovery agree on it (S-06)."""

    waiting = ()
    sent = "bad1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        component = self.cell.component
        assert component is not None
        self.component = component

    def make(self) -> Noter:
        noter = super().make()
        if self.cell.incarnation > 1:
            noter._kompyct_registration = None
        return noter

    def one(self) -> None:
        with suppress(IncarnationEndedError):
            self.component.set_recovery_function(recover, snapshot=7)

    def two(self) -> None:
        self.ref.tell("bad1")
        self.backend.drain()

    def check(self) -> None:
        super().check()
        used = self.shared.faults[0]._facts.registration
        assert used is not None
        stored = self.newest().data
        assert used.data == stored, f"recovered from {used.data!r}, and stored is {stored!r}"


# -- claims --------------------------------------------------------------------------------------


class ClaimTell(StoredWorld):
    """A claim meets who finds it and tells it something: that is handled, once."""

    left: ClassVar[Status | None] = Status.UNFINISHED
    begins = False
    told = False

    def one(self) -> None:
        self.create()

    def two(self) -> None:
        ref = self.found()
        if ref is not None:
            ref.tell("a1")
            self.told = True

    def check(self) -> None:
        assert self.handled() == (["a1"] if self.told else [])
        self.check_rest()
        self.check_store()
        assert self.cell.state is State.ACTIVE
        assert self.cell.incarnation == 2


class ClaimRegister(ClaimTell):
    """A claim meets who finds it and registers a function: that is stored as well."""

    def two(self) -> None:
        ref = self.found()
        if ref is not None:
            ref.set_recovery_function(recover, snapshot=7)


class CreateRegister(ClaimRegister):
    """The same at a component that begins afresh."""

    left = None

    def check(self) -> None:
        self.check_rest()
        self.check_store()
        assert self.cell.state is State.ACTIVE


class ClaimKill(ClaimTell):
    """A claim meets who finds it and kills it: its creator is told, and it is retired."""

    killed_it = False

    def two(self) -> None:
        if self.found() is not None:
            self.kill()
            self.killed_it = True

    def check(self) -> None:
        self.check_rest()
        self.check_store()
        if self.killed_it:
            assert self.cell.state is State.DESTROYED
            assert self.killed.done()
            assert self.newest().mark.status is Status.RETIRED


class ClaimShutdown(ClaimTell):
    """A claim meets a shutdown: its creator is told, and the next start goes on from it."""

    def two(self) -> None:
        if self.shared.registry.get(1) is not None:
            self.shut_down()

    def settle(self) -> None:
        self.backend.drain()
        if self.shared.stopping:
            self.end()
        super().settle()

    def end(self) -> None:
        shared = self.shared
        while shared.answered < len(shared.faults):
            fault = shared.faults[shared.answered]
            shared.answered += 1
            self.cell.signal(signals.end, fault, "ended", Status.UNFINISHED)

    def check(self) -> None:
        self.check_rest()
        self.check_store()
        if self.shared.stopping:
            assert self.cell.state is State.DESTROYED
            assert self.newest().mark.status is not Status.RETIRED


class ClaimAfterKill(StoredWorld):
    """A component is killed while the writer writes, and created anew: not from its snapshot."""

    def one(self) -> None:
        stored = self.cell.stored
        if stored is not None:
            stored.touch()
        self.shared.writer._write_behind()

    def two(self) -> None:
        self.kill()
        self.backend.drain()
        if self.shared.registry.find(PATH) is not None:
            return  # the other one runs its turn
        shared: Any = self.shared
        self.cell = Cell(shared, 2, PATH, self.make, self.backend, self.options)
        self.create()

    def check(self) -> None:
        self.shared.store.wrong = ""  # the old one's mark and the new one's save share a batch
        self.check_store()
        assert not self.shared.faults, "it was killed, and is recovered"
