"""How does atomic_store do the same: a value in a file, replaced at each commit?

It is optional, and so imported only when it is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.folders import a_folder
from benchmarks.measure import rate, state_of, values_of
from benchmarks.plan import PeerMissingError


def _module() -> Any:
    try:
        return import_module("atomic_store")
    except ImportError as error:
        raise PeerMissingError("atomic_store") from error


def committer(folder: Path, value_bytes: int) -> Callable[[], None]:
    """See `files.commits`."""
    store = _module().open(str(folder / "value"), format="pickle")
    values = cycle(values_of(value_bytes))

    def commit() -> None:
        store.value = next(values)
        store.commit()

    return commit


def durable(size: int, components: int) -> Mapping[str, float]:
    """See `files.durable`: a store for each component, one commit after the other."""
    module = _module()
    with a_folder() as folder:
        stores = [
            module.open(str(folder / f"value-{number}"), format="pickle")
            for number in range(components)
        ]
        turns = cycle(stores)
        numbers = iter(range(2 * size))

        def commit() -> None:
            store = next(turns)
            store.value = state_of(next(numbers))
            store.commit()

        return {"rate": rate(commit, size)}
