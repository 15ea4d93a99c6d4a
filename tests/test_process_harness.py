"""Do components in processes of their own hold, whatever dies? Short forms of the harnesses.

Each runs as a program of its own: it counts what is left in its process. The long forms:
`python -m tests.harness.process NAME`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kompyct.processes.memory import HAS_MEMFD
from tests.harness.process.__main__ import SKIPPED

SEED = 20
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not HAS_MEMFD, reason="the harnesses are for Linux"
)


def harness(name: str, *options: str) -> tuple[int, str]:
    """Exit code and output of a harness; skips the test if it cannot run here."""
    command = [sys.executable, "-m", "tests.harness.process", name, f"--seed={SEED}", *options]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.splitlines()[-1])
    return done.returncode, done.stdout + done.stderr


def holds(name: str, *options: str) -> None:
    """The harness finds nothing broken."""
    code, output = harness(name, "--short", *options)
    assert code == 0, output


def catches(name: str, planted: str, *options: str) -> None:
    """The harness finds something broken, and says what."""
    code, output = harness(name, "--short", "--planted", planted, *options)
    assert code == 1, output
    assert "BROKEN" in output


def test_nothing_acknowledged_is_lost_whatever_dies() -> None:
    """RELIABILITY.md 2, "random kill and restart": signals, exits, exceptions at random moments
    over a mixed system: no number lost or counted twice, nothing left."""
    holds("soak")


def test_nothing_is_left_of_a_system_whose_process_is_killed() -> None:
    """B-87: SIGKILL of the system's process; its children are busy, hung, stopped, being made."""
    holds("orphans")


def test_all_come_back_when_the_zygote_is_killed() -> None:
    """S-32: each with its last save, once, and only when its predecessor is gone."""
    holds("zygotes")


@pytest.mark.slow
def test_very_many_come_back_when_the_zygote_is_killed() -> None:
    """S-32: the same with more children than the zygote can hear of at once."""
    holds("crowd")


def test_a_save_that_is_interrupted_leaves_the_one_before() -> None:
    """RELIABILITY.md 1: SIGKILL in the middle of saves of 10 bytes to 1 MB."""
    holds("midsave")


def test_a_death_beside_anything_else_hangs_nothing() -> None:
    """RELIABILITY.md 3, "races"; B-88: kill during start, stop, shutdown, registration, storms."""
    holds("races")


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("soak", "sent-and-forgotten"),
        ("soak", "pidfd-not-closed"),
        ("soak", "shared-memory-not-closed"),
        ("midsave", "sequence-first"),
        ("midsave", "last-save-not-taken-up"),
        ("races", "in-hand-again"),
        ("races", "nobody-is-told-of-the-end"),
        ("orphans", "children-outlive-the-zygote"),
    ],
)
@pytest.mark.slow
def test_the_harnesses_catch(name: str, planted: str) -> None:
    """RELIABILITY.md 3: a harness that catches no planted bug proves nothing."""
    catches(name, planted)
