"""Which rows and cases are there?"""

from __future__ import annotations

from benchmarks import (
    components,
    copies,
    faults,
    guarded,
    imports,
    limits,
    messages,
    processes,
    state,
    trees,
)
from benchmarks.plan import Case, Row

GROUPS = (
    messages.GROUP,
    components.GROUP,
    faults.GROUP,
    trees.GROUP,
    imports.GROUP,
    state.GROUP,
    guarded.GROUP,
    copies.GROUP,
    processes.GROUP,
    limits.GROUP,
)

ROWS: tuple[Row, ...] = tuple(row for group in GROUPS for row in group.rows)


def find_case(name: str) -> Case:
    """The case of that full name.

    Raises:
        KeyError: there is none.
    """
    for group in GROUPS:
        if name in group.cases:
            return group.cases[name]
    raise KeyError(name)
