"""Does the concurrent core hold in every order of two threads?

`tests/harness/explorer.py` says how orders are tried; here are its cheap half and, marked slow,
the whole, which `make explore` runs as well. The seed is fixed, so that every run is the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.harness.explorer import Depth, Explorer, Scenario, explore
from tests.harness.mutants import HARMFUL, HARMLESS
from tests.harness.planting import Mutant, MutantDoesNotFitError
from tests.harness.scenarios import SCENARIOS
from tests.harness.stage import Lock, Stage

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12),
    reason="from 3.12 on opcodes are traced differently, and the explorer would see too few",
)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Two players; while there are any, kompyct's locks are the harness's."""
    with Stage() as stage:
        yield stage


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_threads_end_well_in_every_order(stage: Stage, name: str) -> None:
    """Given a scenario and every switch between its threads, then its docstring holds.

    Source: FEASIBILITY.md, "Correctness": a lost wake-up or a hung ask shows in few orders only.
    """
    schedules, failure = explore(stage, SCENARIOS[name])
    assert failure is None, str(failure)
    assert schedules > 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SCENARIOS)
def test_two_threads_end_well_with_two_switches(
    stage: Stage, name: str, request: pytest.FixtureRequest
) -> None:
    """Given every plan of two switches, and drawn ones of five, then its docstring holds."""
    if "slow" not in str(request.config.getoption("-m")):
        pytest.skip("takes minutes; run it with -m slow, or by `make explore`")
    _, failure = explore(stage, SCENARIOS[name], depth=Depth.WHOLE)
    assert failure is None, str(failure)


@pytest.mark.parametrize("mutant", HARMFUL, ids=str)
def test_a_bug_that_is_planted_is_caught(stage: Stage, mutant: Mutant) -> None:
    """Given a harmful bug in kompyct, then one of its scenarios fails.

    Source: RELIABILITY.md 3: a harness that catches no seeded mutant proves nothing.
    """
    with mutant.planted():
        failures = (
            explore(stage, SCENARIOS[name], depth=Depth.HOT)[1] for name in mutant.scenarios
        )
        assert any(failure is not None for failure in failures), f"survived: {mutant.what}"


@pytest.mark.parametrize("mutant", [mutant for mutant, _ in HARMLESS], ids=str)
def test_a_change_that_is_harmless_survives(stage: Stage, mutant: Mutant) -> None:
    """Given a change that looks like a bug and provably is none, then no scenario fails.

    Source: the reason given with it in `mutants.HARMLESS`.
    """
    with mutant.planted():
        for name in mutant.scenarios:
            _, failure = explore(stage, SCENARIOS[name])
            assert failure is None, str(failure)


class _Crossed(Scenario):
    """Two locks taken in opposite orders."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.locks = (stage.new_lock(), stage.new_lock())
        self.reached = 0

    def take(self, first: Lock, second: Lock) -> None:
        # By way of kompyct, since players are stopped only there.
        with first:
            SCENARIOS["TellTurn"](self.stage).one()
            with second:
                self.reached += 1

    def one(self) -> None:
        self.take(*self.locks)

    def two(self) -> None:
        self.take(self.locks[1], self.locks[0])


def test_a_deadlock_is_found(stage: Stage) -> None:
    """Given two locks taken in opposite orders, then the explorer says who waits for ever.

    By hand: player 0 stopped within its first lock, player 1 runs until it wants that one.
    """
    _, failure = explore(stage, _Crossed)
    assert failure is not None
    assert "waits for ever" in failure.what


def test_a_failure_can_be_played_again(stage: Stage) -> None:
    """Given the plan of a failure, when it is played again, then it fails in the same place."""
    _, failure = explore(stage, _Crossed)
    assert failure is not None
    stage.hot_only = failure.hot_only
    again = Explorer(stage, _Crossed).go(failure.plan)
    assert again == failure


def test_what_the_stage_replaces_is_put_back() -> None:
    """Given a stage that was left, then what it replaced in kompyct is as it was."""

    class Owner:
        lock = "its own"

    with Stage() as stage:
        stage.replace(Owner, "lock", "the harness's")
        assert Owner.lock == "the harness's"
    assert Owner.lock == "its own"


def test_a_mutant_of_code_that_has_changed_is_refused() -> None:
    """Given a mutant whose text is not in the function, then planting it fails aloud."""
    mutant = HARMFUL[0]
    stale = Mutant("stale", mutant.owner, mutant.name, "no such text", "", ())
    with pytest.raises(MutantDoesNotFitError, match="stale"):
        with stale.planted():
            pass
