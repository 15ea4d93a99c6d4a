"""What do components in trees do when the tests of lives and recoveries say so?

Found by name in child processes, and so by recovery functions, which run in the parent.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from kompyct import ComponentRef, FaultContext, RecoveryHandler, WhichChildren
from tests.process.components import FAULTS, Do, Gate, Notes, remember
from tests.tree_parts import Leaf, quit_now

__all__ = ["FAULTS"]


# -- hooks -----------------------------------------------------------------------------------


def note_after(line: str, seconds: float, component: Any) -> None:
    """Take some time, then note that it is over."""
    time.sleep(seconds)
    component.note(line)


def wait_at(reached: Gate, gate: Gate, component: Any) -> None:
    """Tell the test that the hook is here, and wait."""
    wait_in_handler(component, reached, gate)


def ask_supervisor(supervisor: ComponentRef[Any], timeout: float, component: Any) -> None:
    """Ask who the children are, and note what comes of it."""
    try:
        component.note(f"got {supervisor.ask(WhichChildren(), timeout=timeout)}")
    except Exception as error:
        component.note(f"got {type(error).__name__}")


def ask_sibling_to_quit(sibling: str, component: Any) -> None:
    """Have a component end by itself, and go on when it has been told."""
    component.system.find(sibling).ask(Do(quit_now), timeout=5.0)


# -- messages --------------------------------------------------------------------------------


def note(component: Any, line: str) -> None:
    """Add a line to the notes."""
    component.note(line)


def wait_in_handler(component: Any, reached: Gate, gate: Gate) -> None:
    """Tell the test that the message is in hand, and wait."""
    reached.open()
    gate.wait()


def save(component: Any, state: Any, function: Any) -> None:
    """Set the state, and save it under that function."""
    component.state = state
    component.set_recovery_function(function, snapshot=state)


def save_late(component: Any, reached: Gate, gate: Gate, state: Any) -> str:
    """Hang in the handler, then save, and reply."""
    reached.open()
    gate.wait()
    component.state = state
    component.set_recovery_function(go_on, snapshot=state)
    return "late"


def add_hook(component: Any, hook: str, action: Any) -> None:
    """Have it do that as well in a hook of the present incarnation."""
    component.hooks = {**component.hooks, hook: action}


# -- recovery functions ----------------------------------------------------------------------


def go_on(fault: FaultContext[Any]) -> RecoveryHandler:
    """Go on from the last snapshot, without notes."""
    remember(fault)
    name = fault.path.rpartition("/")[2]
    return fault.restart(partial(Leaf, name, None, fault.snapshot, go_on))


def go_on_noting(notes: Notes, fault: FaultContext[Any]) -> RecoveryHandler:
    """Go on from the last snapshot, with notes."""
    remember(fault)
    name = fault.path.rpartition("/")[2]
    notes.add(f"{name} recovered")
    again = partial(go_on_noting, notes)
    return fault.restart(partial(Leaf, name, notes, fault.snapshot, again))


def raises(fault: FaultContext[Any]) -> RecoveryHandler:
    """Does not work."""
    remember(fault)
    raise LookupError("no recovery")


def answers_nothing(fault: FaultContext[Any]) -> Any:
    """Forgets to answer."""
    remember(fault)


def ends(fault: FaultContext[Any]) -> RecoveryHandler:
    """Wants an end."""
    remember(fault)
    return fault.end()


def ignores(fault: FaultContext[Any]) -> RecoveryHandler:
    """Does not care."""
    remember(fault)
    return fault.ignore()


def escalates(fault: FaultContext[Any]) -> RecoveryHandler:
    """Leaves it to those above."""
    remember(fault)
    return fault.escalate()


def restarts(fault: FaultContext[Any]) -> RecoveryHandler:
    """Goes on as the spec makes it."""
    remember(fault)
    return fault.restart()


def steps_back(fault: FaultContext[Any]) -> RecoveryHandler:
    """The ready policy for suspect snapshots."""
    remember(fault)
    return fault.step_back(partial(Leaf, fault.path.rpartition("/")[2], None))


def waits(gate: Gate, reached: Gate, fault: FaultContext[Any]) -> RecoveryHandler:
    """Tells the test that it is here, and waits."""
    remember(fault)
    reached.open()
    gate.wait()
    return fault.restart()
