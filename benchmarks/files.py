"""What does it cost to have state on the disk before going on?

Each case has a folder of its own, on the disk that the command line was given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Literal

from benchmarks.folders import a_folder
from benchmarks.measure import rates_by_turns, state_of, values_of, wait_for
from benchmarks.peers import atomic_stores, bare_files, sqlite_rows
from benchmarks.plan import PER_SECOND, Case, PeerMissingError, Row, at_least
from kompyct import Component, ComponentSystem, FaultContext, RecoveryHandler
from kompyct.store import open_store

Kind = Literal["thread", "pool"]

COMPONENTS = 64
"""How many save at once."""


def _committer(folder: Path, value_bytes: int) -> Callable[[], None]:
    store = open_store(folder / "value", format="pickle")
    values = cycle(values_of(value_bytes))

    def commit() -> None:
        store.value = next(values)
        store.commit()

    return commit


_COMMITTERS: Mapping[str, Callable[[Path, int], Callable[[], None]]] = {
    "kompyct": _committer,
    "atomic_store": atomic_stores.committer,
    "careful rename": bare_files.renamer,
    "SQLite": sqlite_rows.committer,
    "disk": bare_files.in_place,
}


def commits(size: int, value_bytes: int) -> Mapping[str, float]:
    """Commits a second of a value in a file, a new one each time; of bytes, pickled.

    Each way has a folder of its own beside the others'.
    """
    calls = {}
    with a_folder() as folder:
        for name, committer in _COMMITTERS.items():
            (own := folder / name).mkdir()
            with suppress(PeerMissingError):
                calls[name] = committer(own, value_bytes)
        return rates_by_turns(calls, size)


class _DurableSaver(Component[int]):
    """Saves at each message, durably, and says when it has been told the last one."""

    def __init__(self, finished: threading.Semaphore) -> None:
        self.finished = finished

    def on_receive(self, message: int) -> None:
        self.set_recovery_function(_recover, snapshot=state_of(message), durability="durable")
        if not message:
            self.finished.release()


def _recover(fault: FaultContext[dict[str, int | str]]) -> RecoveryHandler:
    return fault.restart()


def durable(kind: Kind, size: int, components: int) -> Mapping[str, float]:
    """Saves a second of `components` that save a small dict durably at each of their messages.

    `size` saves of all together, after a tenth of that to warm up; each goes on to its next
    message when its save is on the disk.
    """
    finished = threading.Semaphore(0)
    with a_folder() as folder:
        with ComponentSystem(store=folder / "store", backend=kind) as system:
            refs = [
                system.create(partial(_DurableSaver, finished), name=f"saver-{number}", start=True)
                for number in range(components)
            ]
            elapsed = 0.0
            each = max(size // components, 1)
            for messages in (max(each // 10, 1), each):
                start = perf_counter()
                for message in range(messages - 1, -1, -1):
                    for ref in refs:
                        ref.tell(message)
                for _ in refs:
                    wait_for(finished)
                elapsed = perf_counter() - start
        return {"rate": each * components / elapsed}


def _commit_row(label: str, what: str) -> Row:
    return Row(
        f"commit-{label}",
        f"atomic commit, {what}",
        f"commit-{label}",
        None,
        PER_SECOND,
        ("kompyct",),
        tuple(name for name in _COMMITTERS if name != "kompyct"),
        (at_least(1.0, "kompyct", "atomic_store"), at_least(0.95, "kompyct", "careful rename")),
    )


_SAVERS = {"components": COMPONENTS}

CASES: Mapping[str, Case] = {
    "commit-100B": Case(partial(commits, value_bytes=100), 2_000),
    "commit-1MB": Case(partial(commits, value_bytes=1_000_000), 600),
    "durable/thread": Case(partial(durable, "thread", **_SAVERS), 20_000, least=COMPONENTS),
    "durable/pool": Case(partial(durable, "pool", **_SAVERS), 20_000, least=COMPONENTS),
    "durable/atomic_store": Case(partial(atomic_stores.durable, **_SAVERS), 2_000),
    "durable/SQLite, one writer": Case(partial(sqlite_rows.one_writer, **_SAVERS), 4_000),
    "durable/SQLite, 64 threads": Case(
        partial(sqlite_rows.threads, **_SAVERS), 4_000, least=COMPONENTS
    ),
}

ROWS = (
    _commit_row("100B", "100 bytes, pickled"),
    _commit_row("1MB", "1 MB, pickled"),
    Row(
        "durable",
        "durable snapshots, 64 components saving at once",
        "durable",
        "rate",
        PER_SECOND,
        ("thread", "pool"),
        ("atomic_store", "SQLite, one writer", "SQLite, 64 threads"),
        (at_least(15, "thread", "atomic_store"), at_least(15, "pool", "atomic_store")),
    ),
)
