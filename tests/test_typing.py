"""Do type checkers refuse wrong messages, replies, snapshots and factories, and nothing else?

The lines are in `tests/typing/`; those that must be refused are marked with `# E:`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

pytest.importorskip("mypy")

ROOT = Path(__file__).parent.parent
LINES = ROOT / "tests" / "typing"


def marked() -> list[int]:
    """The numbers of the lines that must be refused."""
    text = (LINES / "failing.py").read_text()
    return [number for number, line in enumerate(text.splitlines(), 1) if "# E: " in line]


def refused_by_mypy() -> dict[str, list[int]]:
    """The numbers of the refused lines of each file."""
    files = sorted(path.relative_to(ROOT).as_posix() for path in LINES.glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert not done.stderr
    found = re.findall(r"^tests/typing/(\w+\.py):(\d+): error", done.stdout, re.MULTILINE)
    assert len(found) == done.stdout.count(": error"), done.stdout
    return by_file((name, int(number)) for name, number in found)


def refused_by_pyright(folder: Path) -> dict[str, list[int]]:
    """The numbers of the refused lines of each file, checked with the defaults in `folder`."""
    for path in LINES.glob("*.py"):
        shutil.copy(path, folder)
    options = {"include": ["."], "extraPaths": [str(ROOT)], "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(options))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pyright", "--outputjson"),
            *("--project", str(folder), "--pythonpath", sys.executable),
        ],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    diagnostics = json.loads(done.stdout)["generalDiagnostics"]
    return by_file(
        (Path(diagnostic["file"]).name, diagnostic["range"]["start"]["line"] + 1)
        for diagnostic in diagnostics
    )


def by_file(lines: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, set[int]] = {}
    for name, number in lines:
        found.setdefault(name, set()).add(number)
    return {name: sorted(numbers) for name, numbers in found.items()}


def test_the_lines_that_must_be_refused_cover_what_the_conventions_name() -> None:
    """CONVENTIONS.md 12: Given the marked lines, then there are some of each kind."""
    text = (LINES / "failing.py").read_text()
    for reason in ("not a message it takes", "the reply is an int", "the snapshot is an int"):
        assert text.count(f"# E: {reason}") >= 2
    assert len(marked()) == text.count("# E: ") >= 30


def test_mypy_refuses_the_marked_lines_and_no_other() -> None:
    """CONVENTIONS.md 12: Given mypy --strict, then each marked line is refused, no other is."""
    assert refused_by_mypy() == {"failing.py": marked()}


def test_pyright_refuses_the_marked_lines_and_no_other(tmp_path: Path) -> None:
    """CONVENTIONS.md 12: Given pyright, then each marked line is refused and no other."""
    pytest.importorskip("pyright", reason="pyright is in the extra 'lint'")
    assert refused_by_pyright(tmp_path) == {"failing.py": marked()}
