"""What came of simulated runs of a supervision tree, and how is it told?

The words of `simulation`. Times are seconds since the start of the tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import NamedTuple


class Happening(NamedTuple):
    """A line of the timeline."""

    time: float
    path: str
    what: str


@dataclass(slots=True)
class ChildCount:
    """What happened to a child, or to the top, whose path is "".

    Attributes:
        faults: those of its own; of a supervisor, how often it has given up.
        restarts: after faults of its own.
        restarts_with_others: because of a sibling, or of its supervisor.
        group_restarts: of a supervisor: how often the fault of a child took others down.
        give_ups: of a supervisor: when it gave up.
        down: seconds in which it did not run.
        is_supervisor: whether it is one.
    """

    is_supervisor: bool = False
    faults: int = 0
    restarts: int = 0
    restarts_with_others: int = 0
    group_restarts: int = 0
    give_ups: list[float] = field(default_factory=list)
    down: float = 0.0


@dataclass(slots=True)
class Run:
    """What came of one run.

    Attributes:
        seed: the same gives the same run.
        seconds: how long it was to take.
        children: by path, parents first; "" is the top.
        timeline: the first lines of what happened.
        left_out: how many more lines there would have been.
        ended_at: when the top ended; None if it went on.
        reason: why it did.
    """

    seed: int
    seconds: float
    children: dict[str, ChildCount] = field(default_factory=dict)
    timeline: list[Happening] = field(default_factory=list)
    left_out: int = 0
    ended_at: float | None = None
    reason: str = ""

    def down_share(self, path: str) -> float:
        """The share of the time in which that child did not run, 0 to 1."""
        return self.children[path].down / self.seconds


def told(runs: Sequence[Run]) -> Iterator[str]:
    """The lines that the command prints."""
    return told_of_one(runs[0]) if len(runs) == 1 else told_of_many(runs)


def told_of_one(run: Run) -> Iterator[str]:
    """The timeline and the summary of a run."""
    for happening in run.timeline:
        yield f"{happening.time:12.3f} s  {happening.path or 'top'}: {happening.what}"
    if run.left_out:
        yield f"{'...':>14}  and {run.left_out} more"
    yield ""
    rows = [("CHILD", "FAULTS", "RESTARTS", "WITH OTHERS", "GROUPS", "GAVE UP", "DOWN")]
    for path, count in run.children.items():
        rows.append(
            (
                path or "top",
                str(count.faults),
                str(count.restarts),
                str(count.restarts_with_others),
                str(count.group_restarts) if count.is_supervisor else "",
                _times(count.give_ups) if count.is_supervisor else "",
                _share(run.down_share(path)),
            )
        )
    yield from _table(rows)
    yield ""
    if run.ended_at is None:
        yield f"the top goes on after {run.seconds:g} s (seed {run.seed})"
    else:
        yield f"the top ends after {run.ended_at:.3f} s: {run.reason} (seed {run.seed})"


def told_of_many(runs: Sequence[Run]) -> Iterator[str]:
    """How the results of several runs are spread."""
    rows = [("CHILD", "RESTARTS min/median/max", "GAVE UP min/median/max", "DOWN median/max")]
    for path, count in runs[0].children.items():
        counts = [run.children.get(path, count) for run in runs]
        restarts = [found.restarts + found.restarts_with_others for found in counts]
        downs = [run.down_share(path) for run in runs]
        rows.append(
            (
                path or "top",
                _spread(restarts),
                _spread([len(found.give_ups) for found in counts]) if count.is_supervisor else "",
                f"{_share(_median(downs))} / {_share(max(downs))}",
            )
        )
    yield from _table(rows)
    yield ""
    ends = sorted(run.ended_at for run in runs if run.ended_at is not None)
    seeds = f"seeds {runs[0].seed} to {runs[-1].seed}"
    yield (
        f"the top ends in {len(ends)} of {len(runs)} runs of {runs[0].seconds:g} s, "
        f"{_share(len(ends) / len(runs))} ({seeds})"
    )
    if ends:
        yield (
            f"when it does: after {ends[0]:.3f} s at the earliest, {_median(ends):.3f} s in the "
            f"middle, {ends[-1]:.3f} s at the latest"
        )


def _median(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else quantiles(values, n=2, method="inclusive")[0]


def _spread(values: Sequence[int]) -> str:
    return f"{min(values)} / {_median(values):g} / {max(values)}"


def _share(share: float) -> str:
    return f"{share:.2%}"


def _times(times: Sequence[float]) -> str:
    """How many, and the first of them."""
    if not times:
        return "0"
    shown = ", ".join(f"{time:.1f} s" for time in times[:3])
    return f"{len(times)}: {shown}" + (", ..." if len(times) > 3 else "")


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(map(str.ljust, row, widths)).rstrip()
