"""Does the native counter survive what ends its process, and say what that was?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from examples.unstable_native import counter
from tests.programs import example


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """The lines that one run of the example prints; it ends with 0 and complains of nothing."""
    return example("unstable_native").splitlines()


def line_of(code: str) -> int:
    """The number of the one line of the component that contains `code`."""
    (number,) = (
        number
        for number, line in enumerate(Path(counter.__file__).read_text().splitlines(), 1)
        if code in line
    )
    return number


def numbers_after(start: str, lines: list[str]) -> list[int]:
    """The numbers right behind `start`, of all lines that have it."""
    return [
        int(found) for line in lines for found in re.findall(re.escape(start) + r"(\d+)", line)
    ]


def test_the_native_counter_counts_on_whatever_ends_its_process(lines: list[str]) -> None:
    """Issue 4, scope 4: Given two segmentation faults, SIGKILL and SIGSTOP, then each end is told
    as it was, each of the first three is recovered from, and the count never goes back.

    By hand: the crashes are 1.5 s after a start and the counts 10 ms apart, so 150 lie between
    two of them, or fewer where the machine is busy. SIGKILL and what comes after find it as it
    was, or further. The process that was stopped hears nothing, so it is ended by force.
    """
    faults = [line for line in lines if line.startswith("fault: ")]
    assert [re.sub(r"process \d+", "process N", line) for line in faults[:2]] == [
        "fault: process N was ended by SIGSEGV; cause 'signal', in timer"
    ] * 2
    (killed,) = faults[2:]
    assert re.match(r"fault: process \d+ was ended by SIGKILL; cause 'signal', in ", killed)
    assert len(set(numbers_after("process ", faults))) == 3  # each had a process of its own
    assert numbers_after("as incarnation ", lines) == [2, 3, 4]

    first, second, third = numbers_after("  last snapshot: ", lines)
    before, after = numbers_after("it stands at ", lines)
    assert 0 < first <= 150
    assert first < second <= first + 150
    assert second <= before <= third <= after

    suspects = numbers_after(", suspect ", lines)
    assert suspects[:2] == [0, 0]  # it had counted, and so saved, since it was restored
    # The kill most often comes before the next count; the snapshot is that of the last crash then.
    assert suspects[2:] == [1 if third == second else 0]

    assert lines[-3].startswith("component 'counter' (active) did not reply to GetCount")
    assert lines[-2:] == [
        "component 'counter' did not end within 3 s; its process is killed",
        "its process is gone",
    ]


def test_the_native_counter_shows_where_it_was_when_it_crashed(lines: list[str]) -> None:
    """Issue 4, scope 2: Given a segmentation fault, then the report has the Python stack of the
    process that is gone: innermost ctypes, then the line of the component that called it."""
    at = lines.index("  Fatal Python error: Segmentation fault")
    assert lines[at + 1] == "  Stack (most recent call first):"
    assert lines[at + 2].endswith(" in string_at")
    line = line_of("ctypes.string_at(")
    assert lines[at + 3] == f'    File "{counter.__file__}", line {line} in use_library'
