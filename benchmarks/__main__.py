"""The command line: `python -m benchmarks [--only ROW ...]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.folders import IN_MEMORY, a_folder, file_system_of
from benchmarks.groups import GROUPS, ROWS
from benchmarks.report import as_json, table, write_between_marks
from benchmarks.runner import run

_CHECKOUT = Path(__file__).parents[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure kompyct beside its peers."
    )
    names = [row.name for row in ROWS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="ROW", default=names)
    parser.add_argument("--repeats", type=int, default=5, help="of each case; the median counts")
    parser.add_argument("--unpinned", action="store_true", help="use every CPU; for information")
    parser.add_argument("--scale", type=float, default=1.0, help="by which to multiply all sizes")
    parser.add_argument(
        "--folder", type=Path, help="on a disk, for the files; by default beside the checkout"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
    parser.add_argument("--list", action="store_true", help="name the rows, and measure nothing")
    options = parser.parse_args(arguments)
    if options.repeats < 1 or not options.scale > 0:
        parser.error("--repeats must be at least 1, and --scale more than 0")
    folder = (options.folder or _CHECKOUT.parent).resolve()
    if not folder.is_dir():
        parser.error(f"--folder {folder} is no folder")
    if options.list:
        for row in ROWS:
            print(f"{row.name:14} {row.what}")
        return
    rows = [row for row in ROWS if row.name in options.only]
    began = perf_counter()
    with a_folder(folder) as files:
        samples = run(
            rows,
            repeats=options.repeats,
            scale=options.scale,
            pinned=not options.unpinned,
            folder=files,
            progress=lambda experiment: print(f"{experiment} ...", file=sys.stderr, flush=True),
        )
        facts = _facts(options, files, everything=len(rows) == len(ROWS))
    text = f"{_preface(facts)}\n\n{table(GROUPS, rows, samples, judged=not options.unpinned)}"
    print(text)
    print(f"{perf_counter() - began:.0f} s", file=sys.stderr)
    if options.json is not None:
        content = as_json(facts, rows, samples)
        options.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if options.write is not None:
        name = "pinned" if facts["pinned"] else "unpinned"
        write_between_marks(options.write, name, text)


def _facts(options: argparse.Namespace, files: Path, *, everything: bool) -> dict[str, Any]:
    """How this was measured, and on what."""
    command = ["python -m benchmarks"]
    if options.unpinned:
        command.append("--unpinned")
    if not everything:
        command.append(f"--only {' '.join(options.only)}")
    if options.repeats != 5:
        command.append(f"--repeats {options.repeats}")
    if options.scale != 1:
        command.append(f"--scale {options.scale:g}")
    versions = {}
    for package in ("kompyct", "pykka", "xoscar", "atomic_store"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "command": " ".join(command),
        "pinned": not options.unpinned,
        "repeats": options.repeats,
        "scale": options.scale,
        "system": platform.system(),
        "cores": os.cpu_count(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "file_system": file_system_of(files),
        "versions": versions,
    }


def _preface(facts: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    files = f"files on {facts['file_system']}"
    if facts["file_system"] in IN_MEMORY:
        files += ", where nothing reaches a disk: give a --folder that is on one"
    where = "each process pinned to one of them" if facts["pinned"] else "not pinned"
    return (
        f"Made by `{facts['command']}`: {facts['system']}, {facts['cores']} cores, {where}; "
        f"{files}; {facts['python']}; {packages}, SQLite {facts['sqlite']}. "
        f"Medians of {facts['repeats']} repeats, fewer for what takes long."
    )


if __name__ == "__main__":
    main()
