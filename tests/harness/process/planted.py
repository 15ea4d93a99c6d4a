"""Would the harnesses find a bug? Bugs to be planted in the process backend."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

from kompyct.processes import starter
from kompyct.processes.child import Child
from kompyct.processes.saves import Saves
from kompyct.processes.zygote import _Zygote
from kompyct.stand_in import StandIn
from tests.harness.planting import Mutant

_MUTANTS = (
    Mutant(
        "in hand again", StandIn, "_recall",
        "if number > begun:",
        "if number > done:",
        ("soak", "races"),
    ),
    Mutant(
        "sent and forgotten", StandIn, "_recall",
        "left.append(message)",
        "pass",
        ("races", "soak"),
    ),
    Mutant(
        "sequence first", Saves, "write",
        "_SEQUENCE.pack_into(buffer, head, 0)",
        "_SEQUENCE.pack_into(buffer, head, sequence)",
        ("midsave",),
    ),
    Mutant(
        "last save not taken up", StandIn, "take_up_saves",
        "for save in reversed(child.saves.read()):",
        "for save in reversed(child.saves.read()[1:]):",
        ("midsave", "soak"),
    ),
    Mutant(
        "children outlive the zygote", _Zygote, "_be_child",
        "end_with_parent(self._pid)",
        "pass",
        ("orphans",),
    ),
    Mutant(
        "pidfd not closed", Child, "let_go",
        "os.close(pidfd)",
        "pass",
        ("soak",),
    ),
    Mutant(
        "shared memory not closed", Child, "_close_memory",
        "self.saves.close()",
        "pass",
        ("soak",),
    ),
    Mutant(
        "nobody is told of the end", Child, "settle",
        "question.fail(self.end_error())",
        "pass",
        ("races",),
    ),
)  # fmt: skip

PLANTED = {str(mutant): mutant for mutant in _MUTANTS}


def plant(stack: ExitStack, name: str) -> None:
    """Plant a bug here, and in every process that is made from here, until `stack` is closed."""
    stack.enter_context(PLANTED[name].planted())
    here = "from kompyct.processes.zygote import main"
    also = f"import tests.harness.process.planted as planted; planted.for_good({name!r})"
    stack.callback(setattr, starter, "_RUN", starter._RUN)
    assert here in starter._RUN
    starter._RUN = starter._RUN.replace(here, f"{also}; {here}")


def for_good(name: str) -> None:
    """Plant a bug in a process that has just been made."""
    _KEPT.append(PLANTED[name].planted())
    _KEPT[-1].__enter__()


_KEPT: list[AbstractContextManager[None]] = []  # it would be collected, and the bug removed
