"""A measurement whose native driver crashes: what was measured is rescued."""

from __future__ import annotations

import ctypes
import json
import random
from dataclasses import dataclass
from pathlib import Path

from kompyct import guard
from kompyct.guard import GuardedDict

BINS = 10


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        values: how many values in all.
        crash_at: at which of them the driver crashes; None for never.
        results: where they are written.
        autosave: where they are kept meanwhile.
    """

    values: int
    crash_at: int | None
    results: Path
    autosave: Path


def measure(plan: Plan) -> int:
    """Run the measurement; returns its exit code."""
    if plan.autosave.exists() and not guard.is_active(plan.autosave):
        # The last time launcher and measurement were lost together: by a power cut, say.
        guard.recover(lambda data: rescue(data, None, plan), plan.autosave)
        plan.autosave.unlink()
    return guard.start(launch, rescue, plan, autosave_interval=5.0, autosave_file=plan.autosave)


def launch(data: GuardedDict, plan: Plan) -> None:
    """The program itself, in a process of its own. What it puts into `data` outlives it."""
    source = random.Random(1)
    data["notes"] = ["started"]
    histogram = data.array("histogram", BINS, "int64")  # its memory is the guarded memory
    for number in range(plan.values):
        if number == plan.crash_at:
            with data.edit("notes") as notes:
                notes.append(f"about to read value {number}")
            ctypes.string_at(0)  # the driver: a segmentation fault
        histogram[source.randrange(BINS)] += 1
    write(data, plan)


def rescue(data: GuardedDict, exit_code: int | None, plan: Plan) -> None:
    """Called in the launcher if `launch` died, of whatever."""
    print(f"the measurement has ended with {exit_code}: {', '.join(data['notes'])}")
    write(data, plan)


def write(data: GuardedDict, plan: Plan) -> None:
    """Write what was measured."""
    counts = data["histogram"].tolist()
    plan.results.write_text(json.dumps({"histogram": counts, "values": sum(counts)}))
    print(f"{sum(counts)} values are in {plan.results.name}", flush=True)
