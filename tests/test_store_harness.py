"""Does a store hold whatever hits it? Short forms of the harnesses of `tests.harness.store`.

Each runs as a program of its own: it forks, and a child must have one thread. The long forms:
`python -m tests.harness.store NAME`.
"""

from __future__ import annotations

import sys

import pytest

from tests.harness.store.model import explore
from tests.harness.store.subjects import SUBJECTS
from tests.programs import catches, holds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the harnesses are for Linux")


SAMPLE = [  # the formats differ little here; all of them are in the slow tests
    name if name in ("json", "directory") else pytest.param(name, marks=pytest.mark.slow)
    for name in SUBJECTS
]


@pytest.mark.parametrize("subject", SAMPLE)
def test_a_kill_at_any_call_loses_nothing_acknowledged(subject: str) -> None:
    """B-76: SIGKILL at every call, then again while opening: the old number or the new."""
    holds("store kill", "--subject", subject)


@pytest.mark.parametrize("planted", ["in-place", "unlink-first", "temporaries-left"])
def test_the_kill_harness_catches(planted: str) -> None:
    """RELIABILITY.md 3: a harness that catches no planted bug proves nothing."""
    catches("store kill", "--subject", "json", "--planted", planted)


@pytest.mark.parametrize("subject", SAMPLE)
def test_a_call_that_fails_is_told_and_can_be_tried_again(subject: str) -> None:
    """RELIABILITY.md 1: `StoreError` with errno, path and phase; a later retry works."""
    holds("store errors", "--subject", subject)


@pytest.mark.parametrize("planted", ["temporaries-left", "swallowed-write-error"])
def test_the_harness_of_failing_calls_catches(planted: str) -> None:
    """As above: planted bugs that only show when a call fails."""
    catches("store errors", "--subject", "json", "--planted", planted)


@pytest.mark.parametrize("name", ["strace-kill", "strace-errors"])
@pytest.mark.parametrize("subject", ["json", "directory"])
def test_real_system_calls_may_end_in_a_kill_or_an_error(name: str, subject: str) -> None:
    """B-76: the same, done to the system calls themselves; in the short form to some of them."""
    holds(f"store {name}", "--subject", subject)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_state_that_a_power_cut_may_leave_is_whole(subject: str) -> None:
    """RELIABILITY.md 2: no state of any three steps is broken, nothing acknowledged missing."""
    figures = explore(SUBJECTS[subject])
    assert not figures.broken, "\n".join([*figures.broken[:9], figures.line()])
    assert figures.counts["states"] > 50


@pytest.mark.parametrize(
    "planted",
    ["no-file-sync", "no-folder-sync", "in-place", "unlink-first", "swallowed-sync-error"],
)
@pytest.mark.parametrize("subject", ["json", "directory"])
def test_the_model_catches(subject: str, planted: str) -> None:
    """As above: those that a kill does not show included.

    Not in the directory store: "unlink-first". What it writes by a careful rename is a new
    segment, whose name nobody has; there is nothing to unlink.
    """
    if (subject, planted) == ("directory", "unlink-first"):
        pytest.skip("harmless there: it never replaces a file")
    figures = explore(SUBJECTS[subject], planted=planted, most_broken=1)
    assert figures.broken, f"survived: {planted}"


@pytest.mark.parametrize("subject", ["json", "directory"])
def test_kills_at_random_lose_nothing_and_leave_nothing(subject: str) -> None:
    """RELIABILITY.md 2: 100 kills; 10,000 in the long form."""
    holds("store restarts", "--subject", subject)


def test_kills_at_random_catch() -> None:
    """As above: a store that writes in place is torn."""
    catches("store restarts", "--subject", "json", "--planted", "in-place")


@pytest.mark.parametrize("subject", ["json", "directory"])
def test_a_power_cut_loses_nothing_acknowledged(subject: str) -> None:
    """RELIABILITY.md 2: three real cuts; a thousand in the long form."""
    holds("store power", "--subject", subject, "--cuts=3")


@pytest.mark.parametrize("planted", ["no-file-sync", "no-folder-sync"])
def test_the_power_harness_catches(planted: str) -> None:
    """As above: 30 cuts, of which about every third shows it."""
    catches("store power", "--subject", "json", "--cuts=30", "--planted", planted)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_limits_of_a_process_hurt_no_store(subject: str) -> None:
    """RELIABILITY.md 1: too few descriptors, files too big; the old value stays, retry works."""
    holds("store limits", "--subject", subject)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_full_or_read_only_disk_hurts_no_store(subject: str) -> None:
    """RELIABILITY.md 1: full, nearly full, no inodes, read-only; the same."""
    holds("store space", "--subject", subject)


@pytest.mark.parametrize("planted", ["temporaries-left", "short-write"])
def test_the_space_harness_catches(planted: str) -> None:
    """As above: with a disk that is nearly full a write is short."""
    catches("store space", "--subject", "json", "--planted", planted)


@pytest.mark.parametrize("subject", [name for name in SUBJECTS if name != "sealed"])
def test_a_damaged_file_gives_no_wrong_value(subject: str) -> None:
    """RELIABILITY.md 2: all found, but in plain files, which have no checksum."""
    holds("store bad", "--subject", subject)


@pytest.mark.parametrize("subject", ["signed", "directory"])
def test_the_harness_of_bad_files_catches(subject: str) -> None:
    """As above: seals and signatures that are not checked."""
    catches("store bad", "--subject", subject, "--unchecked")
