"""How does SQLite do the same: write-ahead log, synced at each transaction?"""

from __future__ import annotations

import pickle
import sqlite3
import threading
from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path
from time import perf_counter

from benchmarks.folders import a_folder
from benchmarks.measure import LIMIT, check, rate, state_of, values_of

_SAVE = "INSERT OR REPLACE INTO snapshots VALUES (?, ?)"


def _connect(folder: Path) -> sqlite3.Connection:
    """A connection on which each statement is a transaction of its own."""
    connection = sqlite3.connect(
        folder / "snapshots.db", timeout=LIMIT, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS snapshots (path TEXT PRIMARY KEY, data BLOB) WITHOUT ROWID"
    )
    return connection


def committer(folder: Path, value_bytes: int) -> Callable[[], None]:
    """See `files.commits`: one row, replaced at each transaction."""
    connection = _connect(folder)
    values = cycle(values_of(value_bytes))

    def commit() -> None:
        connection.execute(_SAVE, ("value", pickle.dumps(next(values), 5)))

    return commit


def one_writer(size: int, components: int) -> Mapping[str, float]:
    """See `files.durable`: one thread that saves for all, a transaction for each."""
    with a_folder() as folder:
        connection = _connect(folder)
        paths = cycle(f"component-{number}" for number in range(components))
        numbers = iter(range(2 * size))

        def save() -> None:
            connection.execute(_SAVE, (next(paths), pickle.dumps(state_of(next(numbers)), 5)))

        figure = rate(save, size)
        connection.close()
        return {"rate": figure}


def threads(size: int, components: int) -> Mapping[str, float]:
    """See `files.durable`: a thread and a connection for each component."""
    each = max(size // components, 1)
    with a_folder() as folder:
        connections = [_connect(folder) for _ in range(components)]
        ready = threading.Barrier(components + 1)
        saved: list[int] = []

        def run(number: int) -> None:
            connection = connections[number]
            ready.wait(LIMIT)
            for count in range(each):
                data = pickle.dumps(state_of(count), 5)
                connection.execute(_SAVE, (f"component-{number}", data))
            saved.append(each)

        savers = [threading.Thread(target=run, args=(number,)) for number in range(components)]
        for saver in savers:
            saver.start()
        ready.wait(LIMIT)
        start = perf_counter()
        for saver in savers:
            saver.join(LIMIT)
        elapsed = perf_counter() - start
        check(sum(saved), each * components)
        for connection in connections:
            connection.close()
        return {"rate": each * components / elapsed}
