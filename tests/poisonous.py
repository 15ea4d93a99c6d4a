"""Which messages do the tests of redelivery and of poison send? Found by name in children."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kompyct import FaultContext, OnRestart, RecoveryHandler
from tests.hanging import note
from tests.process.components import Add, BenignProblem, Do, Gate, Notes, remember


@dataclass(frozen=True)
class DoOrDrop(Do):
    """As `Do`, and dropped if it is queued at a fault."""

    on_restart: ClassVar[OnRestart] = OnRestart.DROP


@dataclass(frozen=True)
class DoOrFail(Do):
    """As `Do`, and failed if it is queued at a fault."""

    on_restart: ClassVar[OnRestart] = OnRestart.FAIL


class Moody(type):
    """A metaclass whose classes cannot be hashed, nor asked for what they lack."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        raise TypeError("no comparison")

    def __getattr__(cls, name: str) -> Any:
        if name == "on_restart":
            raise RuntimeError("no such thing")
        raise AttributeError(name)


class MoodyNote(Add, metaclass=Moody):
    """Like any other, but for its class."""


def fail_unless_third(component: Any, notes: Notes) -> int:
    """Fault at the first, second, fourth, fifth ... time it is handled."""
    notes.add("handled")
    if len(notes.lines()) % 3:
        raise ValueError("not the third time")
    return len(notes.lines())


def fail_unless_open(component: Any, notes: Notes, gate: Gate) -> str:
    """Fault until somebody opens `gate`."""
    notes.add("open" if gate.is_open else "closed")
    if not gate.is_open:
        raise ValueError("the gate is closed")
    return "passed"


def fail_then_be_benign(component: Any, notes: Notes) -> None:
    """Fault the first time; after that it is no fault."""
    notes.add("handled")
    raise ValueError("a fault") if len(notes.lines()) == 1 else BenignProblem("no fault")


def fail_at_the_second_start(component: Any) -> None:
    """What a hook does that faults in the second incarnation only."""
    if component.ref.incarnation == 2:
        raise OSError("no start")


def tell_and_restart(fault: FaultContext[Any]) -> RecoveryHandler:
    """Send something while the component has no incarnation; the notes are the snapshot."""
    remember(fault)

    def send(fault: FaultContext[Any], system: Any, log: object) -> RecoveryHandler:
        ref = system.find(fault.path)
        ref.tell(DoOrDrop(note, (fault.snapshot, "drop")))
        ref.tell(DoOrFail(note, (fault.snapshot, "fail")))
        return fault.restart()

    return fault.recover_with(send)


def resend_first(component: Any) -> int:
    """Send what was set aside first again; from a component, wherever it is."""
    poison = component.system.poison()[0]
    assert "ValueError" in poison.traceback
    component.system.resend(poison.number)
    return int(poison.number)


def discard_all(component: Any) -> int:
    """Forget all that is set aside."""
    every = component.system.poison()
    for poison in every:
        component.system.discard_poison(poison.number)
    return len(every)
