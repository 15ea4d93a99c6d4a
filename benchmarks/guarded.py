"""What does it cost to put a value where it outlives the program?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from statistics import median
from time import perf_counter

from benchmarks.guarding import encoded_state, in_a_program, plain_array
from benchmarks.peers import faultguards
from benchmarks.plan import MICROSECONDS, MILLISECONDS, Case, Group, Row, at_most
from kompyct import guard
from kompyct.guard import autosave as autosaves
from kompyct.guard.mirror import Mirror
from kompyct.guard.shared import SharedStore
from kompyct.processes.identity import identity_of


def measured(size: int, what: str) -> Mapping[str, float]:
    """The median time to store a value, in the guarded program; see `guarding`."""
    return in_a_program(guard.start, what, size)


def autosave(size: int) -> Mapping[str, float]:
    """The median time in which a launcher makes an autosave of a megabyte, the disk aside."""
    mirror = Mirror()
    store = SharedStore(mirror.block)
    for key, value in encoded_state():
        store[key] = value
    writer = identity_of(os.getpid())
    times = []
    for _ in range(size):
        start = perf_counter()
        autosaves.encode(mirror.read()[1], writer, "local")
        times.append((perf_counter() - start) * 1e3)
    mirror.close()
    return {"time": median(times)}


def _cases(name: str, what: str, ours: int, theirs: int) -> dict[str, Case]:
    return {
        f"{name}/kompyct": Case(partial(measured, what=what), ours, least=10),
        f"{name}/faultguard": Case(
            partial(faultguards.measured, what=what), theirs, least=10, max_repeats=5
        ),
    }


GROUP = Group(
    "Guarded programs",
    (
        Row(
            "guarded-small",
            "guarded dictionary, a small dict",
            "guarded-small",
            "p50",
            MICROSECONDS,
            ("kompyct",),
            ("faultguard",),
            (at_most(3, "kompyct"), at_most(1 / 15, "kompyct", "faultguard")),
        ),
        Row(
            "guarded-1MB",
            "guarded dictionary, an array of 1 MB",
            "guarded-1MB",
            "p50",
            MICROSECONDS,
            ("kompyct",),
            ("faultguard",),
            (at_most(60, "kompyct"),),
        ),
        Row(
            "guarded-100MB",
            "guarded dictionary, an array of 100 MB",
            "guarded-100MB",
            "p50",
            MILLISECONDS,
            ("kompyct",),
            ("faultguard",),
            (at_most(20, "kompyct"),),
        ),
        Row(
            "guarded-in-place",
            "an element of a guarded array",
            "guarded-in-place",
            "p50",
            MICROSECONDS,
            ("kompyct",),
            ("numpy",),
            (at_most(1.1, "kompyct", "numpy"),),
        ),
        Row(
            "autosave",
            "autosave of 1 MB of mixed state, in the launcher",
            "autosave",
            "time",
            MILLISECONDS,
            ("kompyct",),
            ("faultguard",),
            (at_most(0.05, "kompyct", "faultguard"),),
        ),
    ),
    {
        **_cases("guarded-small", "small", 50_000, 5_000),
        **_cases("guarded-1MB", "1 MB", 2_000, 200),
        **_cases("guarded-100MB", "100 MB", 20, 10),
        "guarded-in-place/kompyct": Case(partial(measured, what="in place"), 200_000, least=1_000),
        "guarded-in-place/numpy": Case(plain_array, 200_000, least=1_000),
        "autosave/kompyct": Case(autosave, 20, least=3),
        "autosave/faultguard": Case(faultguards.autosave, 5, least=2, max_repeats=3),
    },
)
