"""What limits and delays of a supervision tree do not do what their author believes?

The first half of the rules of `lint`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kompyct.budgets import EVER, Loop, exceeds, least_time, loop_of, time_to_restart
from kompyct.children import Restart
from kompyct.declared import below
from kompyct.findings import Finding, Tree, is_restarted, named, restart_of
from kompyct.restart import RestartLimit
from kompyct.strategy import Strategy
from kompyct.supervisor import OTP


def _loops(tree: Tree) -> Iterator[tuple[str, Loop]]:
    """Each leaf that is restarted, and what becomes of it if it always faults at once."""
    for path, spec in tree.top.walk():
        if not spec.is_supervisor:
            loop = loop_of(path, spec, tree.chain(path), tree.starts)
            if loop is not None:
                yield path, loop


def _multiplied(tree: Tree) -> Iterator[Finding]:
    worst: dict[tuple[tuple[str, int], ...], tuple[str, Loop]] = {}
    for path, loop in _loops(tree):
        if len(loop.levels) > 1 and tree.most < loop.restarts < EVER:
            worst.setdefault(loop.levels, (path, loop))  # one finding for all its siblings
    for path, loop in worst.values():
        product = " x ".join(f"({restarts} + 1)" for _, restarts in loop.levels)
        yield Finding(
            "multiplied-limits",
            path,
            f"a child that always faults is restarted {loop.restarts:.0f} times before "
            f"{named(loop.last)} gives up",
            f"each of {len(loop.levels)} supervisors restarts the one below as often as it may: "
            f"{product} - 1",
            "give smaller limits, at one level at least; with 3 at each of three levels it is 63",
        )


def _unreachable(tree: Tree) -> Iterator[Finding]:
    stuck: dict[tuple[str, str], Loop] = {}
    reached: set[tuple[str, str]] = set()
    for path, loop in _loops(tree):
        child = path
        for above, _ in loop.levels:
            reached.add((above, child))
            child = above
        if loop.restarts == EVER:
            known = stuck.setdefault((loop.last, loop.child), loop)
            if loop.needed < known.needed:
                stuck[loop.last, loop.child] = loop
    for (above, child), loop in stuck.items():
        limit = tree.levels[above][1].restart_limit
        if limit is not None and (above, child) not in reached:
            yield _out_of_reach(child, limit, loop.needed, f"the limit of {named(above)}")
    for path, declared, _ in tree.levels.values():
        for spec in declared.children:
            if spec.budget is None or spec.restart is Restart.TEMPORARY:
                continue
            start = time_to_restart(declared, spec, path, tree.starts)
            needed = least_time(spec.budget, start, 0.0, spec.backoff or declared.backoff)
            if exceeds(needed, spec.budget):
                yield _out_of_reach(below(path, spec.id), spec.budget, needed, "its budget")


def _out_of_reach(path: str, limit: RestartLimit, needed: float, whose: str) -> Finding:
    return Finding(
        "unreachable-limit",
        path,
        f"{whose} is {limit.max_restarts} restarts in {limit.within:g} s, and with start times "
        f"and delays {limit.max_restarts + 1} faults of this child take {needed:g} s at least",
        "if it, or a child below it, faults whenever it has started, it is restarted for ever",
        f"give that limit a `within` of more than {needed:g} s; or None, if that is meant",
    )


def _shrinking(tree: Tree) -> Iterator[Finding]:
    for path, declared, spec in tree.levels.values():
        if spec is None or spec.restart is not Restart.PERMANENT:
            continue
        above = tree.levels[path.rpartition("/")[0]]
        outer, inner = above[1].restart_limit, declared.restart_limit
        if outer is None or inner is None or not (outer.max_restarts and inner.max_restarts):
            continue
        every = inner.within / inner.max_restarts  # faults so far apart are one too many, just
        again = every * (inner.max_restarts + 1)
        if outer.within < inner.within and again * outer.max_restarts > outer.within:
            yield Finding(
                "shrinking-period",
                path,
                f"its limit counts over {inner.within:g} s, and that of {named(above[0])} over "
                f"only {outer.within:g} s",
                f"with a fault every {every:g} s it gives up every {again:g} s, of which "
                f"{named(above[0])} never sees {outer.max_restarts + 1} in {outer.within:g} s: "
                "so it goes on for ever",
                f"give {named(above[0])} a `within` of at least {again * outer.max_restarts:g} s",
            )


def _no_limit(tree: Tree) -> Iterator[Finding]:
    for path, declared, _ in tree.levels.values():
        if declared.restart_limit is not None or declared.backoff is not None:
            continue
        for spec in declared.children:
            if spec.is_supervisor and spec.restart is not Restart.PERMANENT:
                continue
            if spec.budget is None and spec.backoff is None and is_restarted(spec):
                yield Finding(
                    "no-limit",
                    below(path, spec.id),
                    f"{named(path)} has no restart limit, and neither a budget nor a backoff "
                    "holds for this child",
                    "if it faults whenever it has started, it is restarted as fast as the "
                    "machine can, for ever",
                    "give it a budget or a backoff",
                )


def _zero(tree: Tree) -> Iterator[Finding]:
    for path, declared, _ in tree.levels.values():
        limit = declared.restart_limit
        restarted = [spec for spec in declared.children if is_restarted(spec)]
        if limit is not None and not limit.max_restarts and restarted:
            yield Finding(
                "zero-limit",
                path,
                f"its restart limit is 0, and child {restarted[0].id!r} is "
                f"{restart_of(restarted[0])}",
                "the first fault ends it and all its children; nothing is ever restarted here",
                "give at least 1; if it only passes faults on to its own supervisor, leave this "
                "finding out",
            )
        for spec in declared.children:
            if spec.budget is not None and not spec.budget.max_restarts and is_restarted(spec):
                yield Finding(
                    "zero-limit",
                    below(path, spec.id),
                    f"its budget is 0, and it is {restart_of(spec)}",
                    "its first fault ends it for good",
                    "give at least 1, or say restart='temporary'",
                )


def _shared(tree: Tree) -> Iterator[Finding]:
    for path, declared, _ in tree.levels.values():
        if declared.strategy is Strategy.DYNAMIC and declared.restart_limit == OTP:
            yield Finding(
                "shared-limit",
                path,
                f"its children, however many, share a limit of {OTP.max_restarts} restart in "
                f"{OTP.within:g} s, which is the default",
                "unless they are temporary, faults of any two of them within that time end all "
                "of them",
                "give a restart_limit for as many children as there may be; or None, and each a "
                "budget",
            )


def _late_budget(tree: Tree) -> Iterator[Finding]:
    for path, declared, _ in tree.levels.values():
        limit = declared.restart_limit
        if limit is None:
            continue
        for spec in declared.children:
            budget = spec.budget
            if (
                budget is not None
                and budget.max_restarts > limit.max_restarts
                and budget.within <= limit.within
            ):
                yield Finding(
                    "late-budget",
                    below(path, spec.id),
                    f"its budget is {budget.max_restarts} restarts in {budget.within:g} s, and "
                    f"the limit of {named(path)} {limit.max_restarts} in {limit.within:g} s",
                    "that supervisor goes down, with all its children, before the budget ends "
                    "this child alone",
                    f"give a budget of at most {limit.max_restarts}, or the supervisor a larger "
                    "limit",
                )


RULES: tuple[Callable[[Tree], Iterator[Finding]], ...] = (
    _multiplied,
    _unreachable,
    _shrinking,
    _no_limit,
    _zero,
    _shared,
    _late_budget,
)
