"""How are the cases of the chosen rows run?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.folders import VARIABLE
from benchmarks.groups import find_case
from benchmarks.plan import Row

CASE_TIMEOUT = 300.0
"""Seconds that one run of one case may take."""

_ROOT = Path(__file__).parents[1]

Samples = dict[str, dict[str, list[float]] | None]
"""By case and by quantity, one figure for each repeat; None where the peer is missing."""


def run(
    rows: Sequence[Row],
    *,
    repeats: int,
    scale: float,
    pinned: bool,
    folder: Path,
    progress: Callable[[str], None],
) -> Samples:
    """Run all cases of `rows`, those of one experiment in turn, `repeats` times over.

    Args:
        scale: by which sizes are multiplied.
        folder: where the cases make their files.
        progress: called with each experiment's name before it is run.

    Raises:
        RuntimeError: a case failed.
    """
    cpu = max(os.sched_getaffinity(0)) if pinned else None
    samples: Samples = {}
    for experiment, names in _experiments(rows):
        progress(experiment)
        cases = {name: find_case(name) for name in names}
        for turn in range(repeats):
            for name, case in cases.items():
                if turn >= case.max_repeats or (turn and samples[name] is None):
                    continue
                quantities = _run_case(name, case.scaled(scale), cpu, folder)
                if quantities is None:
                    samples[name] = None
                    continue
                series = samples.setdefault(name, {})
                assert series is not None  # a peer that was there once is there again
                for quantity, value in quantities.items():
                    series.setdefault(quantity, []).append(value)
    return samples


def _experiments(rows: Sequence[Row]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The experiments of `rows`, with their cases: each once, though rows may share them."""
    for experiment, group in groupby(rows, lambda row: row.experiment):
        yield experiment, tuple(dict.fromkeys(name for row in group for name in row.case_names()))


def _run_case(name: str, size: int, cpu: int | None, folder: Path) -> dict[str, float] | None:
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), VARIABLE: str(folder)}
    # Where it is set, each process would compile every module anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "benchmarks.case", name, str(size)]
    if cpu is not None:
        command.append(str(cpu))
    done = subprocess.run(
        command,
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=CASE_TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"case {name!r} failed with {done.returncode}:\n{done.stderr}")
    answer: dict[str, float] | None = json.loads(done.stdout.splitlines()[-1])
    return answer
