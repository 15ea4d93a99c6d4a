"""What do the commands `lint` and `simulate` take, and what do they answer?"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from kompyct import declared, findings, lint, simulated, simulation
from kompyct.errors import ArgumentError

Answer = tuple[Iterable[str], int]
"""Lines to be printed, and the exit code."""

_START_TIME = ("--start-time", "CHILD:SECONDS", "how long a child takes to start; 0 by default")


def add_to(groups: Any, run: Callable[[argparse.Namespace], int]) -> None:
    """Add both commands; `run` is to print what `options.answer(options)` gives."""
    what = "find what in a supervision tree will not do what its author believes"
    linting = groups.add_parser("lint", help=what, description=what)
    what = "let the children of a supervision tree fault by chance, in virtual time"
    simulating = groups.add_parser("simulate", help=what, description=what)
    for command, answer in ((linting, _lint), (simulating, _simulate)):
        what = "a ComponentSupervisor, or a function that returns one; its module is imported"
        command.add_argument("tree", metavar="MODULE:TREE", help=what)
        command.set_defaults(run=run, answer=answer)
        _add_repeated(command, *_START_TIME)
    _add_repeated(linting, "--ignore", "CODE", "leave out findings of one kind, which are meant")
    what = f"restarts before the tree gives up that are not too many; {lint.MOST} by default"
    linting.add_argument("--most", metavar="COUNT", type=int, default=lint.MOST, help=what)
    linting.add_argument("--json", action="store_true", help="print the findings as JSON")
    _add_repeated(simulating, "--fault", "CHILD:RATE", "faults per second of a child that runs")
    what = "how many children a dynamic supervisor has; none by default"
    _add_repeated(simulating, "--children", "SUPERVISOR:COUNT", what)
    for option, metavar, default, what in (
        ("--for", "SECONDS", 3600.0, "virtual seconds"),
        ("--seed", "NUMBER", 0, "the same gives the same run"),
        ("--runs", "COUNT", 1, "so many runs, with seeds from that one on"),
        ("--lines", "COUNT", 40, "how much of the timeline"),
    ):
        kind, told = type(default), f"{what}; {default:g} by default"
        simulating.add_argument(option, metavar=metavar, type=kind, default=default, help=told)


def _add_repeated(command: argparse.ArgumentParser, option: str, metavar: str, what: str) -> None:
    told = f"{what}; may be given several times"
    command.add_argument(option, metavar=metavar, action="append", default=[], help=told)


def _lint(options: argparse.Namespace) -> Answer:
    """The findings; the exit code is 1 if there is one."""
    ignored = findings.check_codes(options.ignore)
    try:
        tree = declared.load(options.tree)
    except ArgumentError as error:
        refusal = declared.refusal(error)
        if refusal is None:
            raise
        found = [findings.refused(refusal)]
    else:
        starts = declared.numbers(options.start_time, declared.leaves(tree), "--start-time")
        found = lint.lint(tree, start_times=starts, most=options.most, ignore=ignored)
    lines = findings.as_json(found) if options.json else findings.as_text(found)
    return lines, 1 if found else 0


def _simulate(options: argparse.Namespace) -> Answer:
    """A run, or how several are spread; the exit code is 1 if the top ended in one."""
    runs = simulation.simulate_many(
        declared.load(options.tree),
        options.fault,
        options.start_time,
        options.children,
        seconds=getattr(options, "for"),
        seed=options.seed,
        runs=options.runs,
        lines=options.lines,
    )
    return simulated.told(runs), 1 if any(run.ended_at is not None for run in runs) else 0
