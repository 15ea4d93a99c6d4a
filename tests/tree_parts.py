"""What do the tests of supervision trees run, in child processes too?

Little is imported here: every process of a component imports it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from kompyct import Component, ComponentRef, FaultClass, FaultContext, RecoveryHandler
from tests.process.components import PATIENCE, Do, Gate, Get, Notes

Recovery = Callable[[FaultContext[Any]], RecoveryHandler]


class Switch:
    """On or off, as all processes see it."""

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)

    def on(self) -> None:
        """Switch it on."""
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600))

    def off(self) -> None:
        """Switch it off."""
        os.unlink(self._path)

    @property
    def is_on(self) -> bool:
        """Whether it is on."""
        return os.path.exists(self._path)


class Leaf(Component[Any]):
    """A worker that notes its hooks as "name start" and "name kill why".

    Args:
        name: what it calls itself in the notes.
        notes: where.
        state: what `Get` is answered with.
        recovery: what it registers when it is made, with its state as the snapshot.
        hooks: what else is done in "init", "start" and "kill", with the component.
    """

    fault_classes: ClassVar[Mapping[type[BaseException], FaultClass]] = {
        BufferError: FaultClass.UNRECOVERABLE,
    }

    def __init__(
        self,
        name: str,
        notes: Notes | None = None,
        state: Any = None,
        recovery: Recovery | None = None,
        hooks: Mapping[str, Callable[..., object]] | None = None,
    ) -> None:
        self.called = name
        self.notes = notes
        self.state = state
        self.hooks = hooks or {}
        if recovery is not None:
            self.set_recovery_function(recovery, snapshot=state)
        self._hook("init")

    def on_start(self) -> None:
        self._hook("start")
        self.note("start")

    def on_kill(self) -> None:
        self.note(f"kill {self.ending.value if self.ending is not None else None}")
        self._hook("kill")

    def on_receive(self, message: Any) -> object:
        if isinstance(message, Get):
            return self.state
        if isinstance(message, Do):
            return message.action(self, *message.arguments)
        self.unhandled(message)

    def note(self, line: object) -> None:
        """Add to the notes, after its name."""
        if self.notes is not None:
            self.notes.add(f"{self.called} {line}")

    def _hook(self, hook: str) -> None:
        if hook in self.hooks:
            self.hooks[hook](self)


def fail_if(switch: Switch, component: Any) -> None:
    """A hook that raises while the switch is on."""
    if switch.is_on:
        raise OSError("switched")


def made_unless(switch: Switch, factory: Callable[[], Any], instead: Any) -> Any:
    """A factory that returns `instead` while the switch is on, or raises it."""
    if not switch.is_on:
        return factory()
    if isinstance(instead, BaseException):
        raise instead
    return instead


def quit_now(component: Any) -> None:
    """End by itself."""
    component.kill_self()


def raise_it(component: Any, error: BaseException) -> None:
    """Raise that."""
    raise error


def fail_once(switch: Switch, component: Any) -> None:
    """A hook that raises if the switch is on, which then is off."""
    if switch.is_on:
        switch.off()
        raise OSError("switched")


def meet(folder: Path, number: int, component: Any) -> None:
    """A hook that waits until so many have come here."""
    (folder / component.called).touch()
    until = time.monotonic() + PATIENCE
    while len(os.listdir(folder)) < number:
        if time.monotonic() > until:
            raise TimeoutError("the others did not come")
        time.sleep(0.001)


def note_and_fail_if(switch: Switch, component: Any) -> None:
    """A hook that raises while the switch is on, and notes it."""
    if switch.is_on:
        component.note("tried")
        fail_if(switch, component)


def again(fault: FaultContext[Any]) -> RecoveryHandler:
    """Goes on as its spec makes it."""
    return fault.restart()


def ended(fault: FaultContext[Any]) -> RecoveryHandler:
    """Is not to come back."""
    return fault.end()


def ignored(fault: FaultContext[Any]) -> RecoveryHandler:
    """Does not matter."""
    return fault.ignore()


def escalated(fault: FaultContext[Any]) -> RecoveryHandler:
    """Is for the supervisor."""
    return fault.escalate()


def wait_for(gate: Gate, component: Any) -> None:
    """A hook that waits."""
    gate.wait()


def fail_now(component: Any) -> None:
    """A hook that raises."""
    raise OSError("as planned")


def ask_for(component: Any, ref: ComponentRef[Any], request: Any) -> Any:
    """What somebody else answers."""
    return ref.ask(request, timeout=PATIENCE)


def wait_if(switch: Switch, gate: Gate, component: Any) -> None:
    """A hook that waits while the switch is on."""
    if switch.is_on:
        gate.wait()
