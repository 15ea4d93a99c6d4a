"""What does a guarded program do while it is measured?

The same function is given to kompyct's `start` and to the peer's.
"""

from __future__ import annotations

import multiprocessing
import pickle
import random
import sys
from collections.abc import Callable, Mapping, MutableMapping
from importlib import import_module
from itertools import cycle
from typing import Any

from benchmarks.measure import round_trips, state_of

BIG = 1_000_000
LARGE = 100_000_000
"""Bytes of the arrays."""

Data = MutableMapping[Any, Any]


def in_a_program(start: Callable[..., int], what: str, size: int) -> Mapping[str, float]:
    """Have `what` measured in a program that `start` guards, and get the figure by its rescue."""
    multiprocessing.set_start_method("fork", force=True)
    args: dict[str, Any] = {"what": what, "size": size, "found": {}}
    start(_launch, _rescue, args)
    return {"p50": args["found"]["p50"]}


def _launch(data: Data, args: Mapping[str, Any]) -> None:
    data["p50"] = MEASURES[args["what"]](data, args["size"])
    sys.exit(3)  # so that the rescue is called


def _rescue(data: Data, _: int, args: Mapping[str, Any]) -> None:
    args["found"]["p50"] = data["p50"]


def _small(data: Data, size: int) -> float:
    values = cycle([state_of(count) for count in range(100)])

    def store() -> None:
        data["key"] = next(values)

    return round_trips(store, size, batch=10)


def _array(data: Data, size: int, size_bytes: int) -> float:
    # Not at the top: it takes as long to load as all the rest, for every case.
    array = import_module("numpy").zeros(size_bytes // 8)
    places = cycle(range(0, len(array), len(array) // 100))

    def store() -> None:
        array[next(places)] += 1.0  # as programs have it: one array, changed and assigned again
        data["key"] = array

    for _ in range(3):
        store()  # both halves have their memory then
    return round_trips(store, size)


def _in_place(data: Any, size: int) -> float:
    numbers = data.array("key", BIG // 8)
    return _assign(numbers, size)


def plain_array(size: int) -> Mapping[str, float]:
    """An element of an array that nobody guards."""
    return {"p50": _assign(import_module("numpy").zeros(BIG // 8), size)}


def _assign(numbers: Any, size: int) -> float:
    def store() -> None:
        numbers[1000] = 1.5

    return round_trips(store, size, batch=100)


MEASURES: Mapping[str, Callable[[Any, int], float]] = {
    "small": _small,
    "1 MB": lambda data, size: _array(data, size, BIG),
    "100 MB": lambda data, size: _array(data, size, LARGE) / 1e3,  # in ms
    "in place": _in_place,
}


def encoded_state() -> list[tuple[str, bytes]]:
    """A megabyte of mixed state, each value pickled: text, numbers, and noise."""
    choose = random.Random(1)
    words = ["".join(choose.choices("abcdefghij", k=6)) for _ in range(500)]
    state: dict[str, Any] = {}
    for number in range(40):
        state[f"rows-{number}"] = [
            {"id": choose.randrange(10**6), "name": choose.choice(words), "value": choose.random()}
            for _ in range(400)
        ]
        state[f"text-{number}"] = " ".join(choose.choices(words, k=700))
        state[f"noise-{number}"] = choose.randbytes(3_000)
    return [(key, pickle.dumps(value, 5)) for key, value in state.items()]
