"""How does faultguard do the same: a dictionary whose content outlives the program?

It is optional, and so imported only when it is measured.
"""

from __future__ import annotations

import lzma
import pickle
from collections.abc import Mapping
from importlib import import_module
from io import BytesIO
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks import crashing
from benchmarks.guarding import encoded_state, in_a_program
from benchmarks.plan import PeerMissingError


def module() -> Any:
    """The peer itself.

    Raises:
        PeerMissingError: it is not installed.
    """
    try:
        return import_module("faultguard")
    except ImportError as error:
        raise PeerMissingError("faultguard") from error


def measured(size: int, what: str) -> Mapping[str, float]:
    """See `guarded.measured`."""
    return in_a_program(module().start, what, size)


def rescue(size: int) -> Mapping[str, float]:
    """See `crashing.rescue`."""
    return crashing.rescue(module().start, size)


def autosave(size: int) -> Mapping[str, float]:
    """See `guarded.autosave`: how it compresses what its manager has handed over."""
    module()
    values = dict(encoded_state())
    times = []
    for _ in range(size):
        start = perf_counter()
        with lzma.open(BytesIO(), "w") as file:
            pickle.dump(values, file)
        times.append((perf_counter() - start) * 1e3)
    return {"time": median(times)}
