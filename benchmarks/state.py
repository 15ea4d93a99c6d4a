"""What does it cost to save state?"""

from __future__ import annotations

import lzma
import pickle
import random
import threading
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from time import perf_counter
from typing import Any

from benchmarks import files
from benchmarks.folders import a_folder
from benchmarks.measure import round_trips, wait_for
from benchmarks.plan import (
    BYTES,
    MICROSECONDS,
    MILLISECONDS,
    Case,
    Group,
    PeerMissingError,
    Row,
    at_most,
)
from kompyct import Component, ComponentSystem, FaultContext, RecoveryHandler
from kompyct.codecs import encode
from kompyct.store.compression import ZSTD, compress


class Saver(Component[int]):
    """Saves a small dict as often as it is told."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"count": 0, "name": "counter"}
        self.seconds = 0.0
        self.done = threading.Event()

    def on_receive(self, message: int) -> None:
        state = self.state
        start = perf_counter()
        for number in range(message):
            state["count"] = number
            self.set_recovery_function(_recover, snapshot=state)
        self.seconds = perf_counter() - start
        self.done.set()


def _recover(fault: FaultContext[dict[str, Any]]) -> RecoveryHandler:
    return fault.restart()


def save(size: int) -> Mapping[str, float]:
    """The mean of `size` calls of `set_recovery_function` in a handler."""
    return _save(ComponentSystem(backend="pool"), size)


def save_behind(size: int) -> Mapping[str, float]:
    """`save` in a system with a store, which writes what is the last every 50 ms."""
    with a_folder() as folder:
        with ComponentSystem(backend="pool", store=folder / "store") as system:
            return _save(system, size)


def _save(system: ComponentSystem, size: int) -> Mapping[str, float]:
    saver = Saver()
    ref = system.create(lambda: saver, name="saver", start=True)
    ref.tell(size)
    wait_for(saver.done)
    return {"mean": saver.seconds / size * 1e6}


# -- encoding -------------------------------------------------------------------------------


def many_objects(size_bytes: int = 1_000_000) -> dict[str, Any]:
    """A dict of many small objects, about `size_bytes` when pickled: records as programs have."""
    chance = random.Random(1)
    records: dict[str, Any] = {}
    for number in range(max(size_bytes // 73, 1)):
        records[f"record-{number}"] = {
            "count": chance.randrange(1_000_000),
            "mean": chance.random(),
            "name": f"name-{chance.randrange(1_000)}",
            "tags": [chance.randrange(100), True, None],
        }
    return records


def an_array(size_bytes: int) -> Any:
    """A numpy array of floats of that size."""
    try:
        numpy = import_module("numpy")
    except ImportError as error:
        raise PeerMissingError("numpy") from error
    return numpy.random.default_rng(1).random(size_bytes // 8)


def to_bytes(
    encode: Callable[[Any], bytes], make: Callable[[], object], size: int
) -> Mapping[str, float]:
    """The median time to make bytes of what `make` returns, `size` times."""
    value = make()
    return {"p50": round_trips(lambda: encode(value), size) / 1e3}


def _pickled(value: Any) -> bytes:
    return pickle.dumps(value, 5)


def _encode_cases(label: str, make: Callable[[], object], size: int) -> dict[str, Case]:
    return {
        f"encode-{label}/{name}": Case(partial(to_bytes, function, make), size, least=1)
        for name, function in (("kompyct", encode), ("pickle 5", _pickled))
    }


def _encode_row(label: str, what: str, *, limit: float | None = None) -> Row:
    return Row(
        f"encode-{label}",
        f"encode a snapshot: {what}",
        f"encode-{label}",
        "p50",
        MILLISECONDS,
        ("kompyct",),
        ("pickle 5",),
        () if limit is None else (at_most(limit, "kompyct", "pickle 5"),),
    )


# -- compressing ----------------------------------------------------------------------------


def mixed_state() -> bytes:
    """About a megabyte, pickled: many objects, and as much again that hardly compresses."""
    chance = random.Random(2)
    state = {
        "records": many_objects(500_000),
        "samples": [chance.random() for _ in range(20_000)],
        "text": " ".join(chance.choice(_WORDS) for _ in range(30_000)),
        "noise": chance.randbytes(100_000),
    }
    return _pickled(state)


_WORDS = ("a", "state", "that", "was", "saved", "before", "its", "fault", "survives", "it")


def compressed(by: Callable[[bytes], bytes], size: int) -> Mapping[str, float]:
    """The median time to compress `mixed_state`, `size` times, and what is left of it."""
    data = mixed_state()
    return {"p50": round_trips(lambda: by(data), size) / 1e3, "left": len(by(data))}


def _by_kompyct(data: bytes) -> bytes:
    method, smaller = compress(data)
    if method != ZSTD:
        raise PeerMissingError("zstandard")
    return smaller


def _compress_row(name: str, what: str, quantity: str, unit: str) -> Row:
    return Row(name, what, "compress", quantity, unit, ("zstd level 3",), ("lzma",))


GROUP = Group(
    "State",
    (
        Row(
            "save",
            "set_recovery_function(f, snapshot=a dict of two)",
            "save",
            "mean",
            MICROSECONDS,
            ("kompyct", "kompyct, written behind"),
            goals=(at_most(3, "kompyct"),),
        ),
        *files.ROWS,
        _encode_row("objects", "a dict of many objects, 1 MB", limit=1.1),
        _encode_row("array-1MB", "an array of 1 MB"),
        _encode_row("array-100MB", "an array of 100 MB"),
        _compress_row(
            "compress", "compress 1 MB of mixed state (by the writer)", "p50", MILLISECONDS
        ),
        _compress_row("compress-size", "what is left of it", "left", BYTES),
    ),
    {
        "save/kompyct": Case(save, 200_000),
        "save/kompyct, written behind": Case(save_behind, 100_000),
        **files.CASES,
        **_encode_cases("objects", many_objects, 100),
        **_encode_cases("array-1MB", partial(an_array, 1_000_000), 1_000),
        **_encode_cases("array-100MB", partial(an_array, 100_000_000), 20),
        "compress/zstd level 3": Case(partial(compressed, _by_kompyct), 100, least=1),
        "compress/lzma": Case(partial(compressed, lzma.compress), 3, least=1),
    },
)
