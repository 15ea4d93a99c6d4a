"""Where do the files of the measurements go, and what kind of file system is that?"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "KOMPYCT_BENCHMARK_FOLDER"
"""Names to the processes of the cases the folder in which they make theirs."""

IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")
"""File systems that no sync takes any time on, so that figures of theirs say nothing."""


@contextmanager
def a_folder(inside: Path | None = None) -> Iterator[Path]:
    """A new folder that is removed afterwards, with all that is in it.

    Args:
        inside: where; by default in the folder that `VARIABLE` names, else wherever temporary
            files go.
    """
    where = inside or os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory(
        prefix="kompyct-benchmark-", dir=where, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def file_system_of(path: Path) -> str:
    """The kind of file system that `path` is on; "unknown" if the system does not tell."""
    best, kind = Path(), "unknown"
    resolved = path.resolve()
    try:
        mounts = Path("/proc/self/mounts").read_text("utf-8").splitlines()
    except OSError:
        return kind
    for line in mounts:  # a later mount on the same point hides an earlier one
        _, point, name, *_ = line.split(" ")
        at = Path(point.replace("\\040", " "))
        if resolved.is_relative_to(at) and len(at.parts) >= len(best.parts):
            best, kind = at, name
    return kind
