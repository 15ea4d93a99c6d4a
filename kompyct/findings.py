"""What can be found in a supervision tree, and how is it told?

The words of `lint`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from kompyct.budgets import Level
from kompyct.children import ChildSpec, Restart
from kompyct.errors import ArgumentError, KompyctError
from kompyct.supervisor import ComponentSupervisor


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a tree that its author may not have meant.

    Attributes:
        code: its kind, a key of `CODES`.
        path: of the child it is about; "" for the top.
        what, why, way_out: what is declared, what follows from it, and what to write instead.
    """

    code: str
    path: str
    what: str
    why: str
    way_out: str


CODES = {
    "refused": "the tree cannot be built",
    "multiplied-limits": "nested limits allow very many restarts before the top gives up",
    "unreachable-limit": "starts and delays take so long that the limit is never reached",
    "shrinking-period": "a supervisor forgets faster than one below it gives up",
    "no-limit": "a child that faults at once is restarted for ever, without a pause",
    "zero-limit": "the first fault is the end",
    "shared-limit": "any number of dynamic children share the default limit",
    "late-budget": "the limit of the supervisor is always reached before the child's budget",
    "stays-down": "a supervisor that gives up does not come back",
    "comes-back": "a supervisor that shuts itself down is started again",
    "nothing-significant": "auto_shutdown has no child to look at",
    "temporary-in-group": "a temporary child goes for good with the restart of a sibling",
    "short-shutdown": "a supervisor has less time to end than its children",
    "endless-shutdown": "a child that does not end holds up the end of all",
}
"""The kinds of findings."""


@dataclass(frozen=True, slots=True)
class Tree:
    """What the rules look at."""

    top: ComponentSupervisor
    starts: Mapping[str, float]
    most: int
    levels: dict[str, Level] = field(default_factory=dict)

    def chain(self, path: str) -> list[Level]:
        """The supervisors above a child, the top first."""
        above = [self.levels[""]]
        parts = path.split("/")
        return above + [self.levels["/".join(parts[:end])] for end in range(1, len(parts))]


def check_codes(codes: Iterable[str]) -> set[str]:
    """`codes`, all of which exist.

    Raises:
        ArgumentError: one does not.
    """
    chosen = set(codes)
    for code in sorted(chosen - set(CODES)):
        raise ArgumentError(f"no finding is called {code!r}; give one of {', '.join(CODES)}")
    return chosen


def refused(error: KompyctError) -> Finding:
    """The finding for a tree that kompyct refuses to build."""
    return Finding(
        "refused",
        "",
        f"the tree cannot be built: {error}",
        f"{type(error).__name__} is raised where the program builds it, before anything starts",
        "do what the error says",
    )


def as_text(findings: list[Finding]) -> Iterator[str]:
    """The lines that the command prints."""
    for finding in findings:
        yield f"{finding.path or 'top'}: {finding.code}"
        yield f"  {finding.what}"
        yield f"  why: {finding.why}"
        yield f"  way out: {finding.way_out}"
    yield f"{len(findings)} findings" if len(findings) != 1 else "1 finding"


def as_json(findings: list[Finding]) -> Iterator[str]:
    """The lines of the findings as a list of objects."""
    yield from json.dumps([asdict(finding) for finding in findings], indent=2).splitlines()


def is_restarted(spec: ChildSpec) -> bool:
    """Whether a fault of that child makes its supervisor start it again."""
    return spec.restart is not Restart.TEMPORARY


def restart_of(spec: ChildSpec) -> str:
    """How it says when it comes back."""
    assert isinstance(spec.restart, Restart)
    return spec.restart.value


def named(path: str) -> str:
    """How a supervisor is called in a sentence."""
    return f"supervisor {path!r}" if path else "the top"
