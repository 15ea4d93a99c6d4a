"""What is in the store when things end otherwise than they should?

Found by reading and by the interleavings; each test was seen to fail before its defect was mended.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from kompyct import Component, FaultContext, RecoveryHandler, Request
from kompyct.errors import ComponentCreateError, StoreError
from kompyct.store import MemoryStore
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
