"""Is every behaviour shown by a test? Which by which says `python -m tests.behaviours`."""

from __future__ import annotations

from tests.behaviours import ALL, LATER, shown


def test_every_behaviour_is_shown_by_a_test() -> None:
    """Issue 6: all ninety behaviours but B-10 and B-11 are covered, by numbers in docstrings."""
    missing = {number for number, tests in shown().items() if not tests}
    assert missing - LATER == set()


def test_no_test_claims_a_behaviour_that_is_not_there() -> None:
    """Given the numbers in docstrings, then they are among the ninety."""
    assert shown().keys() == ALL
