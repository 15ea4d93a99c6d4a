"""Does the harness of races at the deadline find nothing, and would it find something?

The long form is `python -m tests.harness.limits races`.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.harness.limits import MUTANTS
from tests.harness.planting import Mutant


@pytest.mark.timeout(120)
def test_no_interrupt_comes_after_its_block() -> None:
    """RELIABILITY 2: Given blocks of all kinds that end at their deadline, on the main thread and
    in several at once, then no interrupt is late, lost or twice, and no lock stays taken."""
    # In a process of its own: what hooks there are into the collector here would lose interrupts.
    command = [sys.executable, "-m", "tests.harness.limits", "races", "--count", "1500"]
    command += ["--measured", "0"]  # of which nothing is asked here
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    last = ran.stdout.splitlines()[-1]
    found = re.match(r"1500 races, (\d+) interrupted, (\d+) of them while leaving; 0 broken", last)
    assert found is not None, ran.stdout
    assert int(found[1]) > 100
    assert int(found[2]) > 5


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_planted_bug_is_caught(mutant: Mutant) -> None:
    """RELIABILITY 3: Given a seeded mutant, then the harness catches it, or it proves nothing. In
    a process of its own, since what it makes late may come anywhere, and end it."""
    command = [sys.executable, "-m", "tests.harness.limits", "races"]
    command += ["--planted", mutant.what, "--count", "4000", "--seed", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100)
    ended = ran.returncode and ("ExecutionTimeout" in ran.stderr or "Interrupt" in ran.stderr)
    assert "caught in" in ran.stdout or ended, ran.stdout + ran.stderr
