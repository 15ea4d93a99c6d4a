"""Would the runs of whole trees find a bug outside the pure engine? Bugs planted on purpose.

`planting` says what a mutant is; `trees` what searches for them.
"""

from __future__ import annotations

from typing import Any

from kompyct import signals, supervisor_replies, tidings
from kompyct.offspring import Offspring
from kompyct.supervising import SupervisorCell
from tests.harness.planting import Mutant


def _mutant(what: str, owner: Any, name: str, before: str, after: str) -> Mutant:
    return Mutant(what, owner, name, before, after, ())


MUTANTS: tuple[Mutant, ...] = (
    _mutant(
        "a child that ended by itself comes back as a sibling", Offspring, "start",
        "elif key in self.ended_by_themselves:",
        "elif False:",
    ),
    _mutant(
        "a child that faulted comes back as a sibling", Offspring, "start",
        "elif (verdict := self.answers.pop(key, None)) and verdict.answer is not Answer.ESCALATE:",
        "elif (verdict := None) is not None:",
    ),
    _mutant(
        "what is down for good is kept", Offspring, "let_go",
        "if cell is None or key in self.leaving:",
        "if True:",
    ),
    _mutant(
        "children that were added stay when their supervisor is restarted", Offspring, "adapt",
        "if spec is None or not self._fits(cell, spec):",
        "if False:",
    ),
    _mutant(
        "a group is not kept", Offspring, "_tell_to_end",
        "if keep:",
        "if False:",
    ),
    _mutant(
        "a snapshot is lost with its group", signals, "_go_down",
        "cell.recovery = component._kompyct_registration",
        "pass",
    ),
    _mutant(
        "a supervisor ends before its children", SupervisorCell, "conclude",
        "if supervision is not None and (not supervision.is_over):",
        "if False:",
    ),
    _mutant(
        "a start that fails is told to nobody", tidings, "_did_not_start",
        "parent.replies.refuse(key, refused)",
        "pass",
    ),
    _mutant(
        "a child that runs may be deleted", supervisor_replies, "_refuse_unless_stopped",
        "if standing is Standing.STOPPED and (not supervision.is_planned(key)):",
        "if True:",
    ),
)  # fmt: skip
