"""Does the example do what it says?"""

from __future__ import annotations

import re
import subprocess
import sys

from tests.harness.fork_programs import LIMIT, ROOT, environment


def test_the_example_survives_everything_it_tries() -> None:
    """Issue 4: `python -m examples.try_it_in_a_copy` ends with 0, after a raise, a hang, an exit
    and a segmentation fault, with its numbers (1 + 2 + 3 is 6) and its temporary file."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.try_it_in_a_copy"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    assert done.stderr == ""
    assert re.sub(r"process \d+", "process N", done.stdout).splitlines() == [
        "  in the copy: TypeError: unsupported operand type(s) for +: 'int' and 'NoneType'",
        "add_and_raise: process snapshot 0: the copy (process N) ended with exit code 1",
        "add_for_ever: process snapshot 0: the copy (process N) was killed by SIGALRM",
        "add_and_exit: process snapshot 0: the copy (process N) ended with exit code 7",
        "add_natively: process snapshot 0: the copy (process N) was killed by SIGSEGV",
        "add: process snapshot 0: the copy (process N) reverted",
        "safe: add",
        "the sum: 6 and the note is kept",
    ]
