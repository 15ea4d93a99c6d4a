"""How long does it take from the crash of a guarded program to its rescue?

The same functions are given to kompyct's `start` and to the peer's.
"""

from __future__ import annotations

import ctypes
import multiprocessing
from collections.abc import Callable, Mapping, MutableMapping
from statistics import median
from time import monotonic_ns
from typing import Any

from benchmarks.measure import check
from benchmarks.stamps import Stamp, new_stamp

Data = MutableMapping[Any, Any]


def rescue(start: Callable[..., int], size: int) -> Mapping[str, float]:
    """The median time in ms until the rescue is called, with what the program has stored."""
    multiprocessing.set_start_method("fork", force=True)
    args: dict[str, Any] = {"stamp": Stamp(new_stamp()), "times": []}  # inherited by the fork
    for _ in range(size):
        start(_launch, _rescue, args)
    check(len(args["times"]), size)
    times = sorted(args["times"])
    return {"running": median(times) / 1e6, "running p10": times[size // 10] / 1e6}


def _launch(data: Data, args: Mapping[str, Any]) -> None:
    data["state"] = {"count": 1}
    args["stamp"].write()
    ctypes.string_at(0)


def _rescue(data: Data, _: int, args: Mapping[str, Any]) -> None:
    now = monotonic_ns()
    check(data["state"]["count"], 1)
    args["times"].append(now - args["stamp"].read())
