"""What is in the store when things end otherwise than they should?

Found by reading and by the interleavings; each test was seen to fail before its defect was mended.
"""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from kompyct import Component, ComponentSystem, FaultContext, RecoveryHandler, Request
from kompyct.errors import ComponentCreateError, StoreError, StoreLockedError
from kompyct.store import DirectoryStore, MemoryStore, Removal, Snapshot
from kompyct.store.snapshots import Entry
from kompyct.testing import TestSystem

LIMIT = 20.0  # seconds


class Keeper(Component[Request[int]]):
    """Keeps a number."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def on_start(self) -> None:
        self.set_recovery_function(recover, snapshot=self.number)

    def on_receive(self, message: Request[int]) -> int:
        return self.number


broken = False


def recover(fault: FaultContext[int]) -> RecoveryHandler:
    if broken:
        raise ValueError("broken")
    return fault.restart(lambda: Keeper(fault.snapshot))


def left_with(number: int) -> MemoryStore:
    """The store that a lost process has left of a keeper of `number`."""
    store = MemoryStore()
    system = TestSystem(store=store)
    system.create(lambda: Keeper(number), name="keeper", start=True)
    system.run_until_idle()
    system.flush()
    left = store.crashed()
    system.shutdown()
    return left


def test_a_snapshot_whose_recovery_failed_is_offered_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S-25: what could not be recovered stays; once that is mended, the next `create` goes on
    from it, in the same process as well. 41 was stored."""
    with TestSystem(store=left_with(41)) as system:
        monkeypatch.setattr(sys.modules[__name__], "broken", True)
        with pytest.raises(ComponentCreateError):
            system.create(Keeper, name="keeper")
        monkeypatch.setattr(sys.modules[__name__], "broken", False)
        keeper = system.create(Keeper, name="keeper", start=True)
        assert keeper.ask(Request()) == 41


class FullStore(MemoryStore):
    """A store on a disk that is full."""

    full = True

    def save(self, entries: Sequence[Entry]) -> None:
        if self.full and entries:
            raise StoreError("full", phase="write")
        super().save(entries)


class SavesWhenMade(Component[Request[int]]):
    """Saves in its `__init__`."""

    def __init__(self) -> None:
        self.set_recovery_function(recover, snapshot=1)


def test_a_component_that_could_not_be_created_is_not_stored_later() -> None:
    """S-13: a first creation that raises leaves nothing, in the store neither."""
    store = FullStore()
    with TestSystem(store=store, durability="durable") as system:
        with pytest.raises(StoreError):
            system.create(SavesWhenMade, name="phantom")
        store.full = False
        system.advance(10)
        system.flush()
        assert store.paths() == ()


PROGRAM = """
    import os, sys, threading, time
    from kompyct import Component, ComponentSystem, Request

    class Keeper(Component):
        def on_start(self):
            self.set_recovery_function(recover, snapshot=7)
        def on_receive(self, message):
            if message == "end":
                self.system.shutdown()

    def recover(fault):
        print(fault.kind.value, fault.snapshot, flush=True)
        return fault.restart()

    system = ComponentSystem(store=sys.argv[1])
    keeper = system.create(Keeper, name="keeper")
    system.start(keeper).result()
"""


def run(folder: Path, rest: str) -> subprocess.CompletedProcess[str]:
    """Run the program, and then `rest`, with its store in `folder`."""
    source = textwrap.dedent(PROGRAM) + textwrap.dedent(rest)
    script = folder / "program.py"
    script.write_text(source)
    command = [sys.executable, "-W", "ignore", str(script), str(folder / "state")]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)


def test_a_system_that_was_shut_down_from_within_is_stored_when_the_program_ends(
    tmp_path: Path,
) -> None:
    """S-26, S-03: a shutdown keeps and flushes, also one that nobody waits for. 7 was saved."""
    run(tmp_path, 'keeper.tell("end")')
    assert run(tmp_path, "system.shutdown()").stdout == "shutdown 7\n"


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_a_forked_child_ends_without_the_system_of_its_parent(tmp_path: Path) -> None:
    """RELIABILITY 1: what the parent has is the parent's: the child neither waits for threads that
    it has not, nor takes the store's lock along."""
    rest = """
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 0
            system.flush()
            system.shutdown()
            print("ended")
        else:
            sys.exit(0)
    """
    began = run(tmp_path, rest)
    assert began.stdout == "ended\n"


class Stepper(Component[Request[int]]):
    """Steps back; saves what it is told, durably."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def on_start(self) -> None:
        self.set_recovery_function(step, snapshot=self.number)

    def on_receive(self, message: Request[int] | int) -> int:
        if isinstance(message, int):
            self.number = message
            self.set_recovery_function(step, snapshot=self.number)
        return self.number


def step(fault: FaultContext[int]) -> RecoveryHandler:
    return fault.step_back(Stepper)


def test_orderly_restarts_are_not_held_against_a_snapshot() -> None:
    """S-26, S-27: saved 1 to 4, ended in order, started (4), lost: 4 is tried again. Lost again:
    3 is. Then orderly restarts that save nothing newer: it is 3, however often."""
    store = MemoryStore()
    with TestSystem(store=store) as system:
        stepper = system.create(Stepper, name="stepper", start=True)
        for number in range(1, 5):
            stepper.ask(number)  # type: ignore[call-overload]
            system.flush()
    seen: list[int] = []
    for ends_in_order in (False, False, False, True, True, True, True):
        system = TestSystem(store=store)
        stepper = system.create(Stepper, name="stepper", start=True)
        seen.append(stepper.ask(Request()))
        system.flush()
        left = store if ends_in_order else store.crashed()
        system.shutdown()
        store = left
    assert seen == [4, 4, 3, 2, 2, 2, 2]


def keep(system: ComponentSystem, name: str, snapshot: object) -> None:
    """Have a component of that name save `snapshot` durably."""

    class Saver(Component[None]):
        def on_receive(self, message: None) -> None:
            self.set_recovery_function(recover, snapshot=snapshot, durability="durable")

    ref = system.find(name) or system.create(Saver, name=name, start=True)
    ref.ask(Request())


def test_a_removed_segment_is_written_anew(tmp_path: Path) -> None:
    """RELIABILITY 1: 0 acknowledged lost: a save does not go into a file that is not there."""
    folder = tmp_path / "state"
    with TestSystem(store=folder) as system:
        keep(system, "a", 1)
        for log in folder.glob("snapshots-*.log"):
            log.unlink()
        keep(system, "b", 2)
    store = DirectoryStore(folder)
    assert store.paths() == ("a", "b")
    store.close()


def test_a_writer_whose_lock_was_removed_writes_no_more(tmp_path: Path) -> None:
    """B-82: one writer: who has lost the lock may not be the only one."""
    folder = tmp_path / "state"
    store = DirectoryStore(folder)
    (folder / "lock").unlink()
    with pytest.raises(StoreLockedError, match="removed the lock"):
        store.save([Removal("a")])
    store.close()


class SmallStore(MemoryStore):
    """A store on a disk that has place for 100 bytes a save."""

    def save(self, entries: Sequence[Entry]) -> None:
        if sum(len(entry.data or b"") for entry in entries if isinstance(entry, Snapshot)) > 100:
            raise StoreError("full", phase="write", errno=errno.ENOSPC)
        super().save(entries)


def test_a_snapshot_that_is_too_much_does_not_hold_up_the_others() -> None:
    """RELIABILITY 1, disk full: each save for itself; only whose it is hears of it."""
    store = SmallStore()
    system = TestSystem(store=store)
    system.create(lambda: Keeper(10**400), name="big", start=True)
    system.create(lambda: Keeper(7), name="small", start=True)
    system.advance(1.0)
    assert store.paths() == ("small",)
    with pytest.raises(StoreError):
        system.shutdown()


def test_a_recovery_that_raises_at_the_start_is_the_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CONVENTIONS 11: raise from the cause: whoever creates it sees what went wrong in recover."""
    monkeypatch.setattr(sys.modules[__name__], "broken", True)
    with TestSystem(store=left_with(1)) as system:
        with pytest.raises(ComponentCreateError, match="ValueError") as caught:
            system.create(Keeper, name="keeper")
        assert str(caught.value.__cause__) == "broken"
