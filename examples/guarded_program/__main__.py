"""The command line: `python -m examples.guarded_program`; it needs numpy."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from examples.arguments import number
from examples.guarded_program.measurement import Plan, measure

MOST = 1_000_000_000  # values


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.guarded_program")
    parser.add_argument("--values", type=number(0, MOST), default=100_000)
    parser.add_argument("--crash-at", type=number(-1, MOST), default=70_000, help="-1 for never")
    parser.add_argument("--folder", type=Path, help="for the results; default a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = given.folder or Path(folder)
        crash_at = None if given.crash_at < 0 else given.crash_at
        plan = Plan(given.values, crash_at, where / "results.json", where / "autosave")
        try:
            where.mkdir(parents=True, exist_ok=True)
            print(f"exit code: {measure(plan)}")
        except OSError as error:
            parser.error(f"argument --folder: {error}; give a folder that you may write to")


if __name__ == "__main__":
    main()
