"""How often may a child come back before a limit is reached, and how soon can that be?

Arithmetic on declarations, asked by `lint`. All times are lower bounds, in seconds: a child that
faults the moment it has started, with delays that jitter does not lengthen. So what is said to be
out of reach is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kompyct.children import ChildSpec, OnFault, Restart, decided_by
from kompyct.declared import below
from kompyct.errors import RestartLimitError
from kompyct.restart import Backoff, RestartLimit
from kompyct.strategy import Strategy
from kompyct.supervisor import ComponentSupervisor

EVER = float("inf")
ROUNDING = 1e-9  # a share; sums of decimal fractions are off by less


Level = tuple[str, ComponentSupervisor, ChildSpec | None]
"""A supervisor of a tree: its path, "" for the top, and its spec, None for that one."""


@dataclass(frozen=True, slots=True)
class Loop:
    """What becomes of a child that faults whenever it has started, while nothing else does.

    Attributes:
        restarts: how often it is restarted before that ends; infinite if it does not.
        levels: the supervisors that give up, the innermost first: paths and maximal restarts.
        last: the path of the supervisor that does not come back; or, if there is no end, of the
            one whose limit is out of reach.
        child: if there is no end, the path of the child that this one restarts again and again.
        needed: if there is no end, the seconds that one fault too many takes at least.
    """

    restarts: float
    levels: tuple[tuple[str, int], ...]
    last: str
    child: str = ""
    needed: float = 0.0


def loop_of(
    path: str, spec: ChildSpec, chain: list[Level], starts: Mapping[str, float]
) -> Loop | None:
    """What becomes of a child that faults whenever it has started.

    Args:
        chain: the supervisors above it, the top first.
        starts: seconds that children take to start, by path.

    Returns: None where other things decide: it is temporary, or has a budget of its own, or its
        supervisor has no limit.
    """
    restarts = 1.0
    levels: list[tuple[str, int]] = []
    took = 0.0  # seconds from the start of `spec` to its going down
    for above, declared, own in reversed(chain):
        limit = declared.restart_limit
        if limit is None or spec.budget is not None or spec.restart is Restart.TEMPORARY:
            break
        if spec.is_supervisor and (
            spec.restart is not Restart.PERMANENT or on_giving_up(spec, declared)
        ):
            break  # it stays down
        start = time_to_restart(declared, spec, above, starts)
        needed = least_time(limit, start, took, spec.backoff or declared.backoff)
        if exceeds(needed, limit):
            return Loop(EVER, tuple(levels), above, path, needed)
        restarts *= limit.max_restarts + 1
        levels.append((above, limit.max_restarts))
        took = needed
        if own is not None:
            path, spec = above, own
    return Loop(restarts - 1, tuple(levels), levels[-1][0]) if levels else None


def on_giving_up(spec: ChildSpec, above: ComponentSupervisor) -> OnFault | None:
    """What policies say about a supervisor that gives up, but for a restart, which is usual."""
    error = RestartLimitError("")
    answer = decided_by(spec.policy or {}, error) or decided_by(above.policy, error)
    return None if answer == "restart" else answer


def exceeds(needed: float, limit: RestartLimit) -> bool:
    """Whether what takes so many seconds is never within the window of `limit`."""
    return needed > limit.within * (1 + ROUNDING)


def time_to_restart(
    declared: ComponentSupervisor, spec: ChildSpec, path: str, starts: Mapping[str, float]
) -> float:
    """Seconds in which the supervisor at `path` starts a child again, but for its backoff."""
    if not starts:
        return 0.0
    again = [spec]
    if declared.strategy is Strategy.ONE_FOR_ALL:  # those before it start before it
        again = list(declared.children[: declared.children.index(spec) + 1])
    return sum(start_time(other, below(path, other.id), starts) for other in again)


def start_time(spec: ChildSpec, path: str, starts: Mapping[str, float]) -> float:
    """Seconds that a child takes to start; if it is a tree, all in it, one after the other."""
    if isinstance(spec.factory, ComponentSupervisor):
        return sum(
            start_time(child, below(path, child.id), starts) for child in spec.factory.children
        )
    return starts.get(path, 0.0)


def least_time(limit: RestartLimit, start: float, running: float, delays: Backoff | None) -> float:
    """Seconds between the first and the last of one fault more than `limit` allows restarts.

    Args:
        start: seconds that it takes to start.
        running: seconds from then to the next fault, at least.
    """
    count = limit.max_restarts
    if delays is None:
        return count * (start + running)
    # Now and then it may run so long that the delays begin anew. `each` is what a restart costs
    # at the best in rows of one length.
    quiet = max((delays.max if delays.reset_after is None else delays.reset_after) - running, 0.0)
    rows = range(1, min(count, 64) + 1)
    each = min(((_sum_of_delays(delays, row) + quiet) / row for row in rows), default=0.0)
    waited = min(_sum_of_delays(delays, count), max(count * each - quiet, 0.0))
    return count * (start + running) + waited


def _sum_of_delays(delays: Backoff, count: int) -> float:
    """Seconds that `count` restarts in a row wait, without jitter."""
    total, delay = 0.0, delays.min
    for number in range(count):
        if delay >= delays.max:
            return total + (count - number) * delays.max
        total += delay
        delay *= 2
    return total
