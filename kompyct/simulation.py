"""What would become of a supervision tree whose children fault now and then?

The children are made up; who restarts, waits and gives up is decided by `Supervision`, the very
code that runs trees, in virtual time. A child that runs faults as a Poisson process does; a start
takes as long as is said, an end takes no time. Each child has a random source of its own, so what
is said of one changes nothing for the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kompyct.clock import nanoseconds
from kompyct.declared import below, leaves, numbers, supervisors
from kompyct.errors import ArgumentError
from kompyct.simulated import Run
from kompyct.strategy import Strategy
from kompyct.supervisor import ComponentSupervisor
from kompyct.virtual_tree import World


def simulate(
    tree: ComponentSupervisor,
    rates: Mapping[str, float],
    *,
    seconds: float = 3600.0,
    seed: int = 0,
    start_times: Mapping[str, float] | None = None,
    children: Mapping[str, int] | None = None,
    lines: int = 40,
) -> Run:
    """One run of a tree whose children fault by chance.

    Args:
        rates: faults per second of children that are no supervisors, by path.
        seconds: virtual seconds, > 0, that it takes.
        seed: the same gives the same run.
        start_times: seconds that children take to start, by path; 0 for those not in it.
        children: how many permanent children dynamic supervisors have, by path; they are called
            "1", "2", ..., and are gone when their supervisor is restarted, as real ones are.
        lines: how many lines of the timeline are kept.

    Raises:
        ArgumentError: more happens than can be simulated, `seconds` is not > 0, or a path is
            that of no such child.
    """
    if nanoseconds(seconds, "seconds") <= 0:
        raise ArgumentError(f"seconds is {seconds!r}; give a number > 0")
    known = set(leaves(tree))
    for path, wanted in (children or {}).items():
        known.update(below(path, str(number)) for number in range(1, wanted + 1))
    for what, paths in (("rates", rates), ("start_times", start_times or {})):
        for path in paths:
            if path not in known:
                raise ArgumentError(
                    f"{what} names {path!r}, which is no child that could fault; give one of "
                    f"{', '.join(sorted(known)[:20])}"
                )
    world = World(rates, seed, start_times or {}, children or {}, Run(seed, seconds), lines)
    return world.run(tree)


def simulate_many(
    tree: ComponentSupervisor,
    faults: Iterable[str],
    start_times: Iterable[str] = (),
    children: Iterable[str] = (),
    *,
    seconds: float,
    seed: int,
    runs: int,
    lines: int,
) -> list[Run]:
    """As many runs as asked for, with seeds from `seed` on; see the command line.

    Args:
        faults, start_times, children: arguments of the form CHILD:NUMBER.

    Raises:
        ArgumentError: as `simulate`; for bad arguments; without any fault.
    """
    for value, option, least in ((runs, "--runs", 1), (lines, "--lines", 0)):
        if value < least:
            raise ArgumentError(f"{option} is {value}; give a whole number >= {least}")
    dynamic = [path for path, top, _ in supervisors(tree) if top.strategy is Strategy.DYNAMIC]
    counts: dict[str, int] = {}
    for path, number in numbers(children, dynamic, "--children").items():
        counts[path] = int(number)
        if number != counts[path]:
            raise ArgumentError(f"--children of {path!r} is {number:g}; give a whole number")
    known = leaves(tree)
    for path, wanted in counts.items():
        known += [below(path, str(number)) for number in range(1, wanted + 1)]
    rates = numbers(faults, known, "--fault")
    if not rates:
        raise ArgumentError("nothing faults; give --fault CHILD:RATE, as in 'workers/*:0.01'")
    starts = numbers(start_times, known, "--start-time")
    return [
        simulate(
            tree,
            rates,
            seconds=seconds,
            seed=seed + number,
            start_times=starts,
            children=counts,
            lines=lines if runs == 1 else 0,
        )
        for number in range(runs)
    ]
