"""The command line: `python -m tests.harness.store NAME`, see `tests.harness.store`.

Prints a line of figures for each subject, and before it what is broken. The exit code is 0 if
nothing is, 1 if something is, 77 if the harness cannot run here.
"""

from __future__ import annotations

import argparse
import errno
import random
import sys
from collections.abc import Callable

from tests.harness.store import (
    bad,
    failing,
    kill,
    model,
    mounts,
    power,
    restarts,
    space,
    strace,
)
from tests.harness.store.figures import SKIPPED, Figures, FoundError, SkippedError
from tests.harness.store.planted import PLANTED
from tests.harness.store.subjects import SUBJECTS, Subject

Run = Callable[[Subject, argparse.Namespace], list[Figures]]
SPARSE = 29  # in the short form, of so many flips and truncations one is tried
STRIDE = 5  # in the short form, of so many system calls one is meddled with


def _kill(subject: Subject, given: argparse.Namespace) -> list[Figures]:
    steps = kill.SHORT if given.short else kill.STEPS
    return [kill.sweep(subject, planted=given.planted, steps=steps, every=not given.short)]


def _model(subject: Subject, given: argparse.Namespace) -> list[Figures]:
    return [model.explore(subject, planted=given.planted, whole=not given.short)]


def _power(subject: Subject, given: argparse.Namespace) -> list[Figures]:
    mounts.own_mounts()
    kinds = power.file_systems()
    if not kinds:
        raise SkippedError("there is no mkfs for ext4 or xfs")
    return [
        power.cut(subject, kind, cuts=given.cuts, seed=given.seed, planted=given.planted)
        for kind in kinds
    ]


def _restarts(subject: Subject, given: argparse.Namespace) -> list[Figures]:
    kills = 100 if given.short else given.kills
    if given.planted:  # which not each hundred hits
        kills = 2_000
    return [restarts.run(subject, kills=kills, seed=given.seed, planted=given.planted)]


def _errors(subject: Subject, given: argparse.Namespace) -> list[Figures]:
    if not given.short:
        return [failing.sweep(subject, planted=given.planted)]
    errors = (errno.ENOSPC, errno.EIO)
    return [failing.sweep(subject, planted=given.planted, steps=kill.SHORT, errors=errors)]


def _strace_kill(subject: Subject, given: argparse.Namespace) -> list[Figures]:
    if not given.short:
        return [strace.sweep_kills(subject)]
    return [strace.sweep_kills(subject, steps=kill.SHORT, stride=STRIDE)]


def _strace_errors(subject: Subject, given: argparse.Namespace) -> list[Figures]:
    if not given.short:
        return [strace.sweep_errors(subject)]
    errors = (errno.EIO, errno.EINTR)
    return [strace.sweep_errors(subject, steps=kill.SHORT, errors=errors, stride=2 * STRIDE)]


def _space(subject: Subject, given: argparse.Namespace) -> list[Figures]:
    return [space.mounts(subject, planted=given.planted)]


def _limits(subject: Subject, given: argparse.Namespace) -> list[Figures]:
    return [space.limits(subject, planted=given.planted)]


def _bad(subject: Subject, given: argparse.Namespace) -> list[Figures]:
    stride = SPARSE if given.short else 1
    return [bad.read_all(subject, unchecked=given.unchecked, stride=stride)]


HARNESSES: dict[str, Run] = {
    "kill": _kill,
    "errors": _errors,
    "strace-kill": _strace_kill,
    "strace-errors": _strace_errors,
    "model": _model,
    "power": _power,
    "restarts": _restarts,
    "limits": _limits,
    "space": _space,
    "bad": _bad,
}


def main() -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser("python -m tests.harness.store", description=__doc__)
    parser.add_argument("name", choices=HARNESSES)
    parser.add_argument("--subject", choices=SUBJECTS, action="append")
    parser.add_argument("--cuts", type=int, default=1000, help="power cuts")
    parser.add_argument("--kills", type=int, default=10_000, help="kills at random (restarts)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--planted", choices=PLANTED, help="plant this bug")
    parser.add_argument("--unchecked", action="store_true", help="plant: no seal is checked (bad)")
    parser.add_argument("--short", action="store_true", help="what takes a few seconds")
    given = parser.parse_args()
    Figures.stop_at_first = given.short and bool(given.planted or given.unchecked)
    broken = 0
    print(f"seed {given.seed}")
    for name in given.subject or [*SUBJECTS]:
        try:
            found = HARNESSES[given.name](SUBJECTS[name], given)
        except SkippedError as error:
            print(f"skipped: {error}")
            return SKIPPED
        except FoundError as error:
            print(f"BROKEN {error}")
            return 1
        for figures in found:
            for what in figures.broken[:20]:
                print(f"BROKEN {what}")
            print(figures.line(), flush=True)
            broken += len(figures.broken)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
