"""How do the tests run the examples and the harnesses, each as a program of its own?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.store.figures import SKIPPED

ROOT = Path(__file__).parent.parent
LIMIT = 50.0  # seconds; less than a test has
SEED = 20


def example(name: str, *arguments: str) -> str:
    """What an example prints, which ends with 0 and complains of nothing."""
    done = _run(f"examples.{name}", arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def holds(harness: str, *options: str) -> None:
    """The short form of a harness, "store kill", finds nothing broken; skips as it says."""
    code, output = _short_form(harness, options)
    assert code == 0, output


def catches(harness: str, *options: str) -> None:
    """The short form of a harness finds something broken, and says what; skips as it says."""
    code, output = _short_form(harness, options)
    assert code == 1, output
    assert "BROKEN" in output


def _short_form(harness: str, options: tuple[str, ...]) -> tuple[int, str]:
    package, name = harness.split()
    done = _run(f"tests.harness.{package}", (name, "--short", f"--seed={SEED}", *options))
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.splitlines()[-1])
    return done.returncode, done.stdout + done.stderr


def _run(module: str, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
