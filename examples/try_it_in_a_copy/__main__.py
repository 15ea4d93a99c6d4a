"""Which of these ways to add up numbers can be trusted?

Each is tried in a copy of the process first: one works, one raises, one hangs, one exits, and one
reads an address that is not there, which is a segmentation fault. Only what was safe in the copy
is then done in the original, whose numbers none of them has touched.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kompyct.fork import process_snapshot, revert_to_snapshot, root_only

PATIENCE = 0.5  # seconds that a way may take
INVALID_ADDRESS = 0


def add(numbers: list[int]) -> int:
    """Add them up."""
    return sum(numbers)


def add_and_raise(numbers: list[int]) -> int:
    """Spoil the list, then stumble over what it has spoilt."""
    numbers[1] = None  # type: ignore[call-overload]
    return sum(numbers)


def add_for_ever(numbers: list[int]) -> int:
    """Never be done."""
    while True:
        numbers.append(0)
        time.sleep(0.01)


def add_and_exit(numbers: list[int]) -> int:
    """End the process without a word, as some libraries do."""
    numbers.clear()
    os._exit(7)


def add_natively(numbers: list[int]) -> int:
    """Ask C code, with a wrong pointer."""
    numbers.clear()
    return len(ctypes.string_at(INVALID_ADDRESS))


WAYS: tuple[Callable[[list[int]], int], ...] = (
    add_and_raise,
    add_for_ever,
    add_and_exit,
    add_natively,
    add,
)


def is_safe(way: Callable[[list[int]], int], numbers: list[int]) -> bool:
    """Try `way` in a copy, and say how that ended."""
    here = process_snapshot()
    if here:
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)  # kills the copy, and only the copy
        try:
            way(numbers)
        except Exception as error:
            print(f"  in the copy: {type(error).__name__}: {error}")
            sys.exit(1)  # unwinds, but leaves alone what is kept for the root
        revert_to_snapshot(here.index)  # it worked: leave at once, and say so
    print(f"{way.__name__}: {here}")
    return here.reverted


def main() -> int:
    """Try all ways; return with what to exit."""
    numbers = [1, 2, 3]
    with root_only(tempfile.TemporaryDirectory()) as folder:
        note = Path(folder, "note")
        note.write_text("kept")
        safe = [way for way in WAYS if is_safe(way, numbers)]
        print("safe:", ", ".join(way.__name__ for way in safe))
        print("the sum:", safe[0](numbers), "and the note is", note.read_text())
    return 0 if safe == [add] and numbers == [1, 2, 3] else 1


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m examples.try_it_in_a_copy").parse_args()  # takes none
    sys.exit(main())
