"""Which test shows which behaviour of BEHAVIOURS.md? Run as `python -m tests.behaviours`.

A test shows those whose numbers its docstring begins with: `B-24: ...`, or `B-13, B-24: ...`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

TESTS = Path(__file__).parent
ALL = frozenset(range(1, 91))
LATER = frozenset((10, 11))
"""`async def` handlers, which are refused so far."""

_NUMBERS = re.compile(r"(?:[BS]-\d\d(?:, | and |: )?)+")
_NUMBER = re.compile(r"B-(\d\d)")


def shown() -> Mapping[int, tuple[str, ...]]:
    """For each behaviour, the tests whose docstring begins with its number."""
    found: dict[int, list[str]] = {number: [] for number in sorted(ALL)}
    for path in sorted(TESTS.rglob("test_*.py")):
        for test in _tests(ast.parse(path.read_text())):
            begin = _NUMBERS.match(ast.get_docstring(test) or "")
            for number in _NUMBER.findall(begin.group() if begin else ""):
                found[int(number)].append(f"{path.relative_to(TESTS.parent)}::{test.name}")
    return {number: tuple(tests) for number, tests in found.items()}


def _tests(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node


def main() -> None:
    """Print the table."""
    for number, tests in shown().items():
        print(f"B-{number:02}")  # noqa: T201
        for test in tests:
            print(f"    {test}")  # noqa: T201


if __name__ == "__main__":
    main()
