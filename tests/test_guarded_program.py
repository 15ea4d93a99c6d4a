"""Does the example of a guarded program rescue what it has measured?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIMIT = 30.0  # seconds


def run(folder: Path, *arguments: str) -> list[str]:
    """What the example prints."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.guarded_program", "--folder", str(folder), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        timeout=LIMIT,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="the signal has another number")
def test_a_crash_loses_nothing(tmp_path: Path) -> None:
    """Given a crash at the 300th value, then the 300 before it are in the results, in no fewer
    bins than there are, and the autosave is gone."""
    assert run(tmp_path, "--values", "1000", "--crash-at", "300") == [
        "the measurement has ended with -11: started, about to read value 300",
        "300 values are in results.json",
        "exit code: -11",
    ]
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["values"] == sum(results["histogram"]) == 300
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_without_a_crash_it_ends_as_any_program(tmp_path: Path) -> None:
    """Given no crash, then all values are in the results and rescue is not called."""
    said = run(tmp_path, "--values", "1000", "--crash-at", "-1")
    assert said == ["1000 values are in results.json", "exit code: 0"]
