"""How is something measured in a process that has nothing else loaded?

Processes are made and mourned the faster, the less memory they have; and a spawned child loads
the main module of its parent. So what is about processes is not measured in the process of its
case, which has all of kompyct's cases and peers loaded, but by modules that are programs of their
own. They print a line for each quantity: its name, then its samples in nanoseconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from statistics import median

PROGRAM_TIMEOUT = 240.0
"""Seconds that one program may take."""


def median_ms(module: str, *arguments: object) -> Mapping[str, float]:
    """The medians in ms of what `module` prints, and the lowest tenths as `... p10`."""
    figures = {}
    for name, samples in run(module, *arguments).items():
        figures[name] = median(samples) / 1e6
        figures[f"{name} p10"] = sorted(samples)[len(samples) // 10] / 1e6
    return figures


def run(module: str, *arguments: object) -> Mapping[str, list[int]]:
    """Run `python -m module`; returns what it has printed.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} failed with {done.returncode}:\n{done.stderr}")
    lines = [line.split() for line in done.stdout.splitlines()]
    return {name: [int(sample) for sample in samples] for name, *samples in lines}


def tell(samples: Mapping[str, list[int]]) -> None:
    """Print `samples` for `run`, and end the program without ado."""
    for name, values in samples.items():
        print(name, *values)
    sys.stdout.flush()
    os._exit(0)
