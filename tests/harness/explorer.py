"""In which orders may two threads meet, and does each of them end well?

A scenario says what two players do with one cell, or with one pool; `stage` says how a plan makes
them switch. All plans of one switch (`0:12`; the other player runs to its end) are tried, with
either player as the first, and of longer ones as many as the depth says.

When neither player can move, and what the scenario does about it (run what is ready, answer a
fault) frees none, the scenario's checks are made. Who still waits then waits for ever.

Limits: two threads, and two bystanders on whom no switch is forced; two switches (up to five at
what is hot), and in the whole also drawn plans of five; the memory model of the GIL; nothing is
switched within a C function or in the standard library.
"""

from __future__ import annotations

import os
import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Any, ClassVar

from tests.harness.opcodes import describe
from tests.harness.stage import Lock, Plan, Stage, StuckError

SAMPLE = 60
"""Plans of two switches that the cheap half draws for each scenario."""

ENDLESS = 10**9
"""More opcodes than any player has."""

FIVE_SWITCHES = 400
"""Plans of five switches that the whole draws for each scenario."""


class Scenario:
    """What two players do; a new object is one go of it. The docstring says what must hold."""

    constants: ClassVar[tuple[tuple[Any, str, Any], ...]] = ()
    """(owner, name, value) to be set while this scenario is explored."""
    hot_switches: ClassVar[int] = 2
    """Switches at what is hot, in the cheap half; one more in the others."""
    bystanders_first: ClassVar[bool] = False
    """Whether bystanders go on before a player whose turn the plan leaves open, or after them."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        stage.bystanders_first = self.bystanders_first

    def one(self) -> None:
        """What player 0 does."""

    def two(self) -> None:
        """What player 1 does."""

    def settle(self) -> None:
        """What the rest of the world does when neither can move; may be called again."""

    def may_wait(self, lock: Lock) -> bool:
        """Whether a player may wait for `lock` at the end."""
        return False

    def check(self) -> None:
        """Raise `AssertionError` unless all is well."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A schedule that did not end well."""

    scenario: str
    plan: Plan
    places: tuple[str, ...]
    what: str
    hot_only: bool

    def __str__(self) -> str:
        plan = " ".join(f"{number}:{moves}" for number, moves in self.plan)
        places = "".join(f"\n    {place}" for place in self.places)
        again = f'--scenario {self.scenario} --plan "{plan}"{" --hot" if self.hot_only else ""}'
        return f"{self.scenario}: {self.what}\n  {again}{places}"


class Depth(Enum):
    """How far to go."""

    CHEAP = "cheap"
    """Every switch; every two at what is hot, or more; a sample of every two."""
    HOT = "hot"
    """Every switch; every three at what is hot, or more."""
    WHOLE = "whole"
    """All of that, every two, and drawn plans of five."""


class Explorer:
    """Plays one scenario on a stage, and counts the schedules."""

    def __init__(self, stage: Stage, cls: type[Scenario]) -> None:
        self._stage = stage
        self._cls = cls
        self.schedules = 0

    def go(self, plan: Plan) -> Failure | None:
        """Play one schedule; None if it ended well."""
        stage = self._stage
        self.schedules += 1
        what: str | None = None
        stage.places.clear()
        try:
            scenario = self._cls(stage)
            stage.play((scenario.one, scenario.two), plan)
            scenario.settle()
            while stage.go_on():
                scenario.settle()
            for player in stage.players:
                lock = player.waits_for
                if player.error is not None:
                    raise player.error
                if lock is not None and not scenario.may_wait(lock):
                    raise AssertionError(f"player {player.number} waits for ever")
            scenario.check()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | StuckError):
                raise
            what = _described(error)
        failure = None
        if what is not None:
            failure = Failure(
                self._cls.__name__, plan, (*map(describe, stage.places),), what, stage.hot_only
            )
        stage.unwind()
        return failure

    def every(self, switches: int) -> Iterator[Failure | None]:
        """Every plan of that many switches, with either player as the first."""
        for first in (0, 1):
            yield from self._every((), first, switches)

    def _every(self, begin: Plan, player: int, switches: int) -> Iterator[Failure | None]:
        """Every plan that begins like that and has so many switches more."""
        step = len(begin)
        for moves in count(1):
            plan = (*begin, (player, moves))
            longer = (
                self._every(plan, 1 - player, switches - 1)
                if switches > 1
                else iter([self.go(plan)])
            )
            for failure in longer:
                yield failure
                if step not in self._stage.taken:  # the player has not so many opcodes
                    return

    def drawn(self, switches: int, number: int, draw: random.Random) -> Iterator[Failure | None]:
        """`number` plans of that many switches; each player's steps fit into what it does."""
        self.go(((0, ENDLESS), (1, ENDLESS)))
        lengths = [max(player.moves, 1) for player in self._stage.players[:2]]
        for _ in range(number):
            first = draw.randrange(2)
            plan = []
            for step in range(switches):
                player = (first + step) % 2
                share = (switches - step + 1) // 2
                plan.append((player, draw.randint(1, -(-lengths[player] // share) + 1)))
            yield self.go((*plan,))


def explore(
    stage: Stage, cls: type[Scenario], *, depth: Depth = Depth.CHEAP, seed: int = 0
) -> tuple[int, Failure | None]:
    """Explore one scenario until it fails; returns the number of schedules, and the failure."""
    explorer = Explorer(stage, cls)
    draw = random.Random(f"{cls.__name__} {seed}")
    # Each part: whether only at hot opcodes, and the schedules.
    parts = [(False, explorer.every(1)), (True, explorer.every(cls.hot_switches))]
    if depth is Depth.CHEAP:
        parts += [(False, explorer.drawn(2, SAMPLE, draw))]
    else:
        parts += [(True, explorer.every(cls.hot_switches + 1))]
    if depth is Depth.WHOLE:
        parts += [(False, explorer.every(2)), (False, explorer.drawn(5, FIVE_SWITCHES, draw))]
    with constants_set(cls):
        for stage.hot_only, part in parts:
            for failure in part:
                if failure is not None:
                    return explorer.schedules, failure
    return explorer.schedules, None


@contextmanager
def constants_set(cls: type[Scenario]) -> Iterator[None]:
    """The constants of a scenario, until it is left."""
    found = [(owner, name, getattr(owner, name)) for owner, name, _ in cls.constants]
    for owner, name, value in cls.constants:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in found:
            setattr(owner, name, value)


def _described(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(frame.filename)}:{frame.lineno}: {frame.line}"
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    return f"{kind}{error}\n  at {where}"
