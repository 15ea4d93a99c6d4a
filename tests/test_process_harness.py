"""Do components in processes of their own hold, whatever dies? Short forms of the harnesses.

Each runs as a program of its own: it counts what is left in its process. The long forms:
`python -m tests.harness.process NAME`.
"""

from __future__ import annotations

import sys

import pytest

from kompyct.processes.memory import HAS_MEMFD
from tests.programs import catches, holds

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not HAS_MEMFD, reason="the harnesses are for Linux"
)


def test_nothing_acknowledged_is_lost_whatever_dies() -> None:
    """RELIABILITY.md 2, "random kill and restart": signals, exits, exceptions at random moments
    over a mixed system: no number lost or counted twice, nothing left."""
    holds("process soak")


def test_nothing_is_left_of_a_system_whose_process_is_killed() -> None:
    """B-87: SIGKILL of the system's process; its children are busy, hung, stopped, being made."""
    holds("process orphans")


def test_all_come_back_when_the_zygote_is_killed() -> None:
    """S-32: each with its last save, once, and only when its predecessor is gone."""
    holds("process zygotes")


@pytest.mark.slow
def test_very_many_come_back_when_the_zygote_is_killed() -> None:
    """S-32: the same with more children than the zygote can hear of at once."""
    holds("process crowd")


def test_a_save_that_is_interrupted_leaves_the_one_before() -> None:
    """RELIABILITY.md 1: SIGKILL in the middle of saves of 10 bytes to 1 MB."""
    holds("process midsave")


def test_a_death_beside_anything_else_hangs_nothing() -> None:
    """RELIABILITY.md 3, "races"; B-88: kill during start, stop, shutdown, registration, storms."""
    holds("process races")


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
    catches(f"process {name}", "--planted", planted)
