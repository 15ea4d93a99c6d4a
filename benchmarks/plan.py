"""What is a measurement, and what is it compared with?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

MICROSECONDS = "µs"
MILLISECONDS = "ms"
SECONDS = "s"
BYTES = "bytes"
MEGABYTES = "MB"
PER_SECOND = "/s"


class PeerMissingError(ImportError):
    """The peer is not installed; `pip install -e ".[bench]"` installs all of them."""


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement.

    Attributes:
        measure: called in a process of its own with the size; returns quantities by name.
        size: how many messages, components or faults; a round of some seconds.
        least: the size below which it would measure nothing.
        max_repeats: repeats at most, for what takes long.
    """

    measure: Callable[[int], Mapping[str, float]]
    size: int
    least: int = 20
    max_repeats: int = 1_000

    def scaled(self, scale: float) -> int:
        """The size times `scale`."""
        return max(self.least, round(self.size * scale))


@dataclass(frozen=True, slots=True)
class Goal:
    """That kompyct's `case` is at most, or at least, `limit` times `peer`.

    Without `peer` the limit is in the row's unit.
    """

    case: str
    limit: float
    peer: str | None = None
    at_least: bool = False

    def met(self, ratio: float) -> bool:
        """Whether `ratio`, or without peer the figure itself, is within the limit."""
        return ratio >= self.limit if self.at_least else ratio <= self.limit


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table for each case of kompyct.

    Attributes:
        name: for `--only`.
        what: in words.
        experiment: its cases are called `experiment/label`; without `quantity` it is the one
            case, which goes all ways by turns in one process.
        quantity: which of the cases' quantities; None if each label is a quantity of the one
            case. They are in `unit`.
        cases: the labels of kompyct's cases.
        peers: the labels of the others.
    """

    name: str
    what: str
    experiment: str
    quantity: str | None
    unit: str
    cases: tuple[str, ...]
    peers: tuple[str, ...] = ()
    goals: tuple[Goal, ...] = ()

    def case_names(self) -> tuple[str, ...]:
        """The full names of its cases, in the order in which they are run."""
        if self.quantity is None:
            return (self.experiment,)
        return tuple(f"{self.experiment}/{label}" for label in (*self.cases, *self.peers))


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that stand together, and the cases they need, by their full names."""

    title: str
    rows: tuple[Row, ...]
    cases: Mapping[str, Case]


def at_least(limit: float, case: str, peer: str) -> Goal:
    """The goal that `case` reaches `limit` times the peer."""
    return Goal(case, limit, peer, at_least=True)


def at_most(limit: float, case: str, peer: str | None = None) -> Goal:
    """The goal that `case` takes `limit` times the peer, or `limit` of the unit, at most."""
    return Goal(case, limit, peer)
