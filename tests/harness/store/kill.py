"""What is left when the process is killed at any call on the operating system?

The old number or the new, never less than what was acknowledged, and after the next opening no
temporary. Then once more with a second kill during that opening.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import Any

from kompyct.store.files import TEMPORARY
from tests.harness.store.calls import EVERYWHERE, KillAt, Names, standing_in
from tests.harness.store.children import Outcome, Tell, in_child
from tests.harness.store.figures import Figures
from tests.harness.store.mounts import in_memory
from tests.harness.store.planted import laid_over
from tests.harness.store.subjects import Handle, Subject, temporaries

SHORT = ("commit", "keep", "update")
STEPS = ("commit", "commit", "update", "keep", "commit", "keep", "commit")


def step(handle: Handle, kind: str, number: int, tell: Tell) -> None:
    """Have the store take `number`, and tell of it."""
    tell({"start": number})
    if kind == "update":
        handle.update(number)
    else:
        handle.commit(number, keep=kind == "keep")
    tell({"done": number})


def program(subject: Subject, folder: str, tell: Tell, steps: tuple[str, ...] = STEPS) -> None:
    """What is killed: open, go on from the number there, close."""
    handle = subject.open(folder)
    for number, kind in enumerate(steps, handle.read()[0] + 1):
        step(handle, kind, number, tell)
    handle.close()


def look(subject: Subject, folder: str, tell: Tell) -> None:
    """What a fresh process sees there."""
    handle = subject.open(folder)
    tell({"left": temporaries(folder)})
    numbers = handle.read()
    tell({"numbers": numbers})
    handle.update(numbers[0] + 1)
    tell({"next": handle.read()[0]})
    handle.close()


def check(
    figures: Figures,
    subject: Subject,
    folder: str,
    bounds: tuple[int, int],
    where: str,
    planted: str | None = None,
) -> None:
    """Open in a fresh process, and say what is broken; `bounds` are those of the number."""
    at_least, at_most = bounds

    def work(tell: Tell) -> None:
        with standing_in(laid_over(os, planted)):
            look(subject, folder, tell)

    outcome = in_child(work)
    if not figures.expect(not outcome.trouble, f"{where}: {outcome.trouble}"):
        return
    seen: dict[str, Any] = {}
    for what in outcome.told:
        seen |= what
    newest, *older = seen["numbers"]
    figures.expect(
        at_least <= newest <= at_most, f"{where}: holds {newest}, not {at_least} to {at_most}"
    )
    figures.expect(all(number <= newest for number in older), f"{where}: older ones are {older}")
    figures.expect(not seen["left"], f"{where}: left {seen['left']}")
    figures.expect(seen["next"] == newest + 1, f"{where}: cannot go on after {newest}")


def sweep(
    subject: Subject,
    *,
    planted: str | None = None,
    steps: tuple[str, ...] = STEPS,
    every: bool = False,
) -> Figures:
    """Kill `program` at every call, and the reopening as well.

    Args:
        planted: a bug to plant.
        steps: what the program does after opening.
        every: kill the reopening after every first kill, not only after those that left a
            temporary and files that no other kill left.
    """
    figures = Figures(f"kill {subject.name}")
    with tempfile.TemporaryDirectory(prefix="kompyct-harness-", dir=in_memory()) as scratch:
        names = _names(subject, os.path.join(scratch, "names"), steps)
        seen: set[bytes] = set()
        for number in count(1):
            name = names[number - 1] if number <= len(names) else ""
            survived = False
            for when in ("before", "after", *(["middle"] if name == "write" else [])):
                folder = _fresh(scratch)
                work = partial(program, subject, folder, steps=steps)
                outcome = _killed(work, KillAt(number, when), planted)
                where = f"{when} call {number} ({name})"
                figures.expect(not outcome.trouble, f"{where}: {outcome.trouble}")
                survived = not outcome.killed
                figures.add("kills" if outcome.killed else "whole runs")
                state = _digest(folder)
                new = state not in seen and bool(temporaries(folder))
                seen.add(state)
                if outcome.killed and (every or new):
                    _again(figures, subject, folder, scratch, outcome, where, planted)
                bounds = (outcome.acknowledged, outcome.started)
                check(figures, subject, folder, bounds, where, planted)
            if survived:
                return figures
    raise AssertionError("the count does not end")


def _again(
    figures: Figures,
    subject: Subject,
    folder: str,
    scratch: str,
    first: Outcome,
    where: str,
    planted: str | None,
) -> None:
    """Kill the process that opens after the first kill and commits, at every call."""
    for number in count(1):
        copy = os.path.join(scratch, "copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        work = partial(program, subject, copy, steps=("commit",))
        outcome = _killed(work, KillAt(number, "after"), planted)
        again = f"{where}, then after call {number}"
        figures.expect(not outcome.trouble, f"{again}: {outcome.trouble}")
        if not outcome.killed:
            return
        figures.add("second kills")
        bounds = (
            max(first.acknowledged, outcome.acknowledged),
            max(first.started, outcome.started),
        )
        check(figures, subject, copy, bounds, again, planted)


def _killed(work: Callable[[Tell], None], calls: Any, planted: str | None) -> Outcome:
    def killed(tell: Tell) -> None:
        with standing_in(laid_over(calls, planted), *EVERYWHERE):
            work(tell)

    return in_child(killed)


def _names(subject: Subject, folder: str, steps: tuple[str, ...]) -> list[str]:
    """The calls that a whole run makes."""
    os.mkdir(folder, 0o700)

    def work(tell: Tell) -> None:
        names = Names()
        with standing_in(names, *EVERYWHERE):
            program(subject, folder, lambda what: None, steps)
        for name in names.names:
            tell({"name": name})

    return [what["name"] for what in in_child(work).told if "name" in what]


def _fresh(scratch: str) -> str:
    folder = os.path.join(scratch, "store")
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder, 0o700)
    return folder


def _digest(folder: str) -> bytes:
    """The same for folders that differ in the random names of temporaries and in locks only."""
    found = []
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), "rb") as file:
                content = b"" if name.endswith("lock") else file.read()
            found.append((TEMPORARY if TEMPORARY in name else name, content))
    return blake2b(repr(sorted(found)).encode()).digest()
