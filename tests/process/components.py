"""What do the tests run in child processes?

Everything here is found by its name in a child, and so is a recovery function in the parent: what
one of those leaves in `FAULTS` is for the test, which runs in the same process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Self

from kompyct import (
    Benign,
    Component,
    ComponentRef,
    FaultClass,
    FaultContext,
    OnRestart,
    Recoverable,
    RecoveryHandler,
    Request,
    Unrecoverable,
)

PATIENCE = 10.0  # seconds that anything in a child waits for the test

FAULTS: dict[str, list[FaultContext[Any]]] = {}
"""What recovery functions were called with, by the component's path."""

Action = Callable[..., object]


@dataclass(frozen=True, slots=True)
class Notes:
    """A file that any process adds lines to; what a process wrote stays when that is killed."""

    path: str

    def add(self, line: object) -> None:
        """Add a line, at once and as a whole."""
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, f"{line}\n".encode())
        finally:
            os.close(file)

    def lines(self) -> list[str]:
        """What was added so far."""
        try:
            with open(self.path, encoding="utf-8") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []


class Gate:
    """A file that other processes wait for."""

    def __init__(self, path: str) -> None:
        self._path = path

    def open(self) -> None:
        """Let those go on that wait."""
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600))

    @property
    def is_open(self) -> bool:
        """Whether it has been opened."""
        return os.path.exists(self._path)

    def wait(self) -> None:
        """Return when it is open."""
        until = time.monotonic() + PATIENCE
        while not self.is_open:
            if time.monotonic() > until:
                raise TimeoutError(f"{self._path} was not opened")
            time.sleep(0.001)


@dataclass(frozen=True)
class Get(Request[Any]):
    """Answered with the state."""


@dataclass(frozen=True)
class Do(Request[Any]):
    """Has `action(component, *arguments)` called; answered with what that returns."""

    action: Action
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class DoAgain(Do):
    """As `Do`, and for the next incarnation if this one faults."""

    on_restart: ClassVar[OnRestart] = OnRestart.REDELIVER


@dataclass(frozen=True)
class Unwelcome(Request[Any]):
    """Cannot be unpickled in the process it is for."""

    here: int

    def __reduce__(self) -> Any:
        return _open_unwelcome, (self.here,)


def _open_unwelcome(here: int) -> Unwelcome:
    if os.getpid() != here:
        raise RuntimeError("unwelcome")
    return Unwelcome(here)


@dataclass(frozen=True)
class Add:
    """Adds a line to the notes."""

    line: str


class Holder(Component[Any]):
    """Holds a state, notes its hooks and messages, and does what it is told.

    Args:
        state: what `Get` is answered with.
        notes: where hooks and `Add` are noted.
        recovery: what it registers on its start, with its state as the snapshot.
        hooks: what else is done in "init", "start", "stop" and "kill", with the component.
    """

    fault_classes: ClassVar[Mapping[type[BaseException], FaultClass]] = {
        LookupError: FaultClass.BENIGN,
        BufferError: FaultClass.UNRECOVERABLE,
    }

    def __init__(
        self,
        state: Any = "default",
        notes: Notes | None = None,
        recovery: Callable[[FaultContext[Any]], RecoveryHandler] | None = None,
        hooks: Mapping[str, Action] | None = None,
    ) -> None:
        self.state = state
        self.notes = notes
        self.recovery = recovery
        self.hooks = hooks or {}
        if recovery is not None:
            self.set_recovery_function(recovery, snapshot=state)
        self.do("init")

    def on_start(self) -> None:
        self.note("start")
        self.do("start")

    def on_stop(self) -> None:
        self.note("stop")
        self.do("stop")

    def on_kill(self) -> None:
        self.note("kill")
        self.do("kill")

    def on_receive(self, message: Any) -> object:
        if isinstance(message, Get):
            return self.state
        if isinstance(message, Do):
            return message.action(self, *message.arguments)
        if isinstance(message, Add):
            self.note(message.line)
            return None
        self.unhandled(message)

    def note(self, line: object) -> None:
        """Add to the notes, if there are any."""
        if self.notes is not None:
            self.notes.add(line)

    def do(self, hook: str) -> None:
        """What was given for that hook."""
        if hook in self.hooks:
            self.hooks[hook](self)


class Plain(Component[Any]):
    """Leaves its hooks as they are, but for noting `on_stop`."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    def on_stop(self) -> None:
        self.notes.add("stop")

    def on_receive(self, message: Any) -> object:
        return "pong"


class Other(Component[Any]):
    """Of a different type."""

    def on_receive(self, message: Any) -> object:
        return "other"


class BenignProblem(Benign):
    """Declared to be no fault."""


class RecoverableProblem(Recoverable):
    """A fault that is to be recovered."""


class UnrecoverableProblem(Unrecoverable):
    """A fault that ends the component."""


# -- recovery functions ----------------------------------------------------------------------


def remember(fault: FaultContext[Any]) -> None:
    """Keep `fault` for the test."""
    FAULTS.setdefault(fault.path, []).append(fault)


def again(fault: FaultContext[Any]) -> RecoveryHandler:
    """Go on as `create` made the first."""
    remember(fault)
    return fault.restart()


def from_snapshot(fault: FaultContext[Any]) -> RecoveryHandler:
    """Go on from the last snapshot, under the same function."""
    remember(fault)
    return fault.restart(partial(Holder, fault.snapshot, None, from_snapshot))


def from_snapshot_noting(notes: Notes, fault: FaultContext[Any]) -> RecoveryHandler:
    """Go on from the last snapshot, with notes."""
    remember(fault)
    return fault.restart(
        partial(Holder, fault.snapshot, notes, partial(from_snapshot_noting, notes))
    )


def as_other(fault: FaultContext[Any]) -> RecoveryHandler:
    """Go on as a component of another type."""
    remember(fault)
    return fault.restart(Other)


def ending(fault: FaultContext[Any]) -> RecoveryHandler:
    """End."""
    remember(fault)
    return fault.end()


def raising(fault: FaultContext[Any]) -> RecoveryHandler:
    """Does not work."""
    remember(fault)
    raise LookupError("no recovery")


def stepping_back(fault: FaultContext[Any]) -> RecoveryHandler:
    """The ready policy for suspect snapshots."""
    remember(fault)
    return fault.step_back(partial(_restored, partial(Holder, recovery=None)))


def _restored(make: Callable[[Any], Component[Any]], snapshot: Any) -> Component[Any]:
    return make(snapshot)


# -- what a `Do` has done --------------------------------------------------------------------


def fail(component: Any, kind: type[BaseException] = ValueError, *arguments: Any) -> None:
    """Raise."""
    raise kind(*arguments)


def die(component: Any, number: int) -> None:
    """End this process by a signal, and wait for that."""
    os.kill(os.getpid(), number)
    time.sleep(PATIENCE)


def segfault(component: Any) -> None:
    """A native crash."""
    ctypes.string_at(0)


def leave(component: Any, code: int) -> None:
    """End this process, past everything."""
    os._exit(code)


def hang_if(armed: Gate, reached: Gate, component: Any) -> None:
    """Open `reached`, and never return, once `armed` is open."""
    if armed.is_open:
        reached.open()
        threading.Event().wait()


def pid(component: Any) -> int:
    """The number of the process it runs in."""
    return os.getpid()


def echo(component: Any, value: Any) -> Any:
    """What it was given."""
    return value


def wait(component: Any, gate: Gate) -> None:
    """Wait in the handler."""
    gate.wait()


def wait_noting(component: Any, reached: Gate, gate: Gate) -> None:
    """Tell the test that the handler is here, and wait."""
    reached.open()
    gate.wait()


def wait_and_fail(component: Any, reached: Gate, gate: Gate) -> None:
    """As `wait_noting`, then raise."""
    wait_noting(component, reached, gate)
    raise ValueError("as planned")


def wait_and_die(component: Any, reached: Gate, gate: Gate) -> None:
    """As `wait_noting`, then be killed."""
    wait_noting(component, reached, gate)
    die(component, signal.SIGKILL)


def save(component: Any, state: Any, function: Any = from_snapshot) -> None:
    """Set the state and save it."""
    component.state = state
    component.set_recovery_function(function, snapshot=state)


def save_only(component: Any, state: Any, function: Any = from_snapshot) -> None:
    """Save something else than the state."""
    component.set_recovery_function(function, snapshot=state)


def in_a_thread(component: Any, action: Action) -> str:
    """What `action` does, or raises, on a thread of its own."""
    said: list[str] = []

    def run() -> None:
        try:
            said.append(repr(action(component)))
        except BaseException as error:
            said.append(type(error).__name__)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    return said[0]


def tell(component: Any, ref: ComponentRef[Any], message: Any) -> None:
    """Tell another component."""
    ref.tell(message)


def ask(component: Any, ref: ComponentRef[Any], request: Any, timeout: float = 5.0) -> Any:
    """Ask another component."""
    return ref.ask(request, timeout=timeout)


class Kept:
    """A context manager that notes when it is entered and left."""

    def __init__(self, notes: Notes, name: str) -> None:
        self._notes = notes
        self._name = name

    def __enter__(self) -> Self:
        self._notes.add(f"enter {self._name}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._notes.add(f"leave {self._name}")


@dataclass
class Mutable:
    """A snapshot that is changed after the save."""

    items: list[int] = field(default_factory=list)
