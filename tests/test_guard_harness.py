"""Does the harness that kills guarded programs find nothing, and would it find something?

The long form is `python -m tests.harness.guarded`.
"""

from __future__ import annotations

import random
import sys

import pytest

from kompyct.processes.memory import HAS_MEMFD
from tests.harness.guarded import MUTANTS, caught, run
from tests.harness.planting import Mutant

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@pytest.mark.parametrize("named", [False, True], ids=["memfd", "named"])
def test_a_kill_at_any_moment_leaves_whole_values_and_nothing_else(named: bool) -> None:
    """RELIABILITY 1: Given programs killed at random while they write, then rescue sees for each
    key the last value or the one in flight, whole, and nothing is left behind."""
    if not named and not HAS_MEMFD:
        pytest.skip("no memfd here")
    seed = random.SystemRandom().randrange(1 << 32)
    findings = run(40, seed, named=named)
    assert findings.broken == [], f"seed {seed}"
    assert findings.kills == 40
    assert findings.values > 40


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_planted_bug_is_caught(mutant: Mutant) -> None:
    """RELIABILITY 3: Given a seeded mutant, then the harness catches it, or it proves nothing."""
    assert caught(mutant, kills=400, seed=1) is not None
