"""What do the figures say, as a table and as JSON?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.plan import BYTES, PER_SECOND, Goal, Group, Row
from benchmarks.runner import Samples


@dataclass(frozen=True, slots=True)
class Line:
    """One case of kompyct beside its peers.

    Attributes:
        value: the median; None if the case was not run.
        peers: the peers' medians; None for one that is not installed.
    """

    row: Row
    case: str
    value: float | None
    peers: Mapping[str, float | None]

    def goals(self) -> Iterator[tuple[Goal, float | None]]:
        """The goals of this case, each with the ratio (or figure) reached."""
        for goal in self.row.goals:
            if goal.case == self.case:
                yield goal, self.value if goal.peer is None else self.ratio(goal.peer)

    def ratio(self, peer: str) -> float | None:
        """Kompyct's figure divided by the peer's."""
        theirs = self.peers[peer]
        return self.value / theirs if self.value is not None and theirs else None


def lines(row: Row, samples: Samples) -> list[Line]:
    """The lines of `row`."""
    peers = {peer: _median(samples, row, peer) for peer in row.peers}
    return [Line(row, case, _median(samples, row, case), peers) for case in row.cases]


def _median(samples: Samples, row: Row, label: str) -> float | None:
    if row.quantity is None:
        series = (samples.get(row.experiment) or {}).get(label)
    else:
        series = (samples.get(f"{row.experiment}/{label}") or {}).get(row.quantity)
    return median(series) if series else None


def table(
    groups: Sequence[Group], rows: Sequence[Row], samples: Samples, *, judged: bool = True
) -> str:
    """The tables of `rows`, one for each group, in Markdown; with the goals if `judged`."""
    parts = []
    for group in groups:
        chosen = [row for row in group.rows if row in rows]
        if not chosen:
            continue
        heads = ["", "kompyct", "peers, and kompyct's figure ÷ theirs", "goal"]
        cells = [heads, ["---"] * 4]
        cells += [_cells(line) for row in chosen for line in lines(row, samples)]
        shown = "\n".join(f"| {' | '.join(line[: 4 if judged else 3])} |" for line in cells)
        parts.append(f"**{group.title}**\n\n{shown}")
    return "\n\n".join(parts)


def _cells(line: Line) -> list[str]:
    unit = line.row.unit
    peers = []
    for peer, theirs in line.peers.items():
        ratio = line.ratio(peer)
        if theirs is None:
            peers.append(f"{peer} not installed")
        else:
            peers.append(f"{peer} {show(theirs, unit)}" + (f": {_short(ratio)}" if ratio else ""))
    goals = []
    for goal, reached in line.goals():
        limit = f"{goal.limit:g} × {goal.peer}" if goal.peer else show(goal.limit, unit)  # noqa: RUF001
        sign = "≥" if goal.at_least else "≤"
        verdict = "not measured"
        if reached is not None:
            verdict = "met" if goal.met(reached) else "**missed**"
        figure = "" if reached is None or goal.peer is None else f"{_short(reached)}, "
        goals.append(f"{sign} {limit}: {figure}{verdict}")
    value = "not measured" if line.value is None else show(line.value, unit)
    return [line.row.what, f"{line.case}: {value}", "; ".join(peers), "; ".join(goals)]


def show(value: float, unit: str) -> str:
    """`value` to three digits, with its unit."""
    if unit == PER_SECOND:
        for size, prefix in ((1e6, " M"), (1e3, " k")):
            if value >= size:
                return f"{_short(value / size)}{prefix}{unit}"
    if unit == BYTES:
        return f"{value:,.0f} {unit}"
    return f"{_short(value)} {unit}"


def _short(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def as_json(facts: Mapping[str, Any], rows: Sequence[Row], samples: Samples) -> dict[str, Any]:
    """Everything that was measured, and what it says, as plain data."""
    return {
        **facts,
        "rows": [
            {
                "name": row.name,
                "what": row.what,
                "unit": row.unit,
                "case": line.case,
                "value": line.value,
                "peers": {
                    peer: {"value": theirs, "ratio": line.ratio(peer)}
                    for peer, theirs in line.peers.items()
                },
                "goals": [
                    {
                        "peer": goal.peer,
                        "sign": ">=" if goal.at_least else "<=",
                        "limit": goal.limit,
                        "reached": reached,
                        "met": None if reached is None else goal.met(reached),
                    }
                    for goal, reached in line.goals()
                ],
            }
            for row in rows
            for line in lines(row, samples)
        ],
        "samples": samples,
    }


def write_between_marks(path: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of `name` in the Markdown file `path` by `text`.

    Raises:
        ValueError: the file has no such marks.
    """
    begin, end = f"<!-- benchmarks: {name} -->", f"<!-- benchmarks: end of {name} -->"
    page = path.read_text(encoding="utf-8")
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"{path} has no lines {begin!r} and {end!r}; add them where the table is")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
