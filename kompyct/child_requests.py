"""What may be asked of a supervisor while it runs?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kompyct.children import ChildSpec
from kompyct.errors import ArgumentTypeError
from kompyct.messages import Request
from kompyct.ref import ComponentRef


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """A child as its supervisor sees it; see `WhichChildren`.

    Attributes:
        id: as in its spec.
        ref: reaches it; None if it does not run and has nothing to come back to.
        state: "starting", "running", "restarting", "stopping" or "stopped".
        incarnation: which one runs, or ran last; 0 if there is no component.
        restarts: within the window of its own budget, or of the supervisor's restart limit.
        is_supervisor: whether it is a tree of its own.
        spec: how it is made.
    """

    id: str | None
    ref: ComponentRef[Any] | None
    state: str
    incarnation: int
    restarts: int
    is_supervisor: bool
    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """How many children there are; see `CountChildren`.

    Attributes:
        specs: all of them, running or not.
        active: those that run.
        supervisors, workers: all of them by kind, running or not.
        running, restarting, stopped: by state; what is starting counts as restarting, and what
            is stopping as running.
    """

    specs: int
    active: int
    supervisors: int
    workers: int
    running: int
    restarting: int
    stopped: int


@dataclass(frozen=True, slots=True)
class StartChild(Request[ComponentRef[Any] | None]):
    """Add a child and start it; the reply is its ref, None if it is not needed.

    The asker gets these errors.

    Raises:
        ChildAlreadyStartedError, ChildAlreadyPresentError: there is one of that id.
        ComponentCreateError: its factory or its `on_start` raised, which is the cause; nothing is
            left of it.
        ChildError: it was ended before it had started.
        SupervisorEndingError: the supervisor is ending.
    """

    spec: ChildSpec

    def __post_init__(self) -> None:
        if type(self.spec) is not ChildSpec:
            raise ArgumentTypeError(f"StartChild was given {self.spec!r}; give a ChildSpec")


@dataclass(frozen=True, slots=True)
class TerminateChild(Request[None]):
    """End a child; unless it is temporary, its spec stays, for `RestartChild`.

    `child` is an id or, as children of a dynamic supervisor may have none, a ref. The reply comes
    when it is gone. A restart that is pending is cancelled.

    The asker gets these errors.

    Raises:
        ChildNotFoundError: there is none of that id.
        SupervisorEndingError: the supervisor is ending.
    """

    child: str | ComponentRef[Any]

    def __post_init__(self) -> None:
        if not isinstance(self.child, ComponentRef):
            _check_id(self, self.child)


@dataclass(frozen=True, slots=True)
class RestartChild(Request[ComponentRef[Any] | None]):
    """Start a child again that is stopped; the reply is its ref, None if it is not needed.

    The asker gets these errors.

    Raises:
        ChildNotFoundError, ChildRunningError, ChildRestartingError: as OTP's errors of that name.
        ComponentCreateError: it could not be started; its spec stays.
        ChildError: it was ended before it had started.
        ChildError: children of a dynamic supervisor are not kept to be started again.
        SupervisorEndingError: the supervisor is ending.
    """

    child: str

    def __post_init__(self) -> None:
        _check_id(self, self.child)


@dataclass(frozen=True, slots=True)
class DeleteChild(Request[None]):
    """Forget the spec of a child that is stopped, or that waits to be restarted.

    The asker gets these errors.

    Raises:
        ChildNotFoundError, ChildRunningError, ChildRestartingError: as OTP's errors of that name.
        ChildError: of a dynamic supervisor.
        SupervisorEndingError: the supervisor is ending.
    """

    child: str

    def __post_init__(self) -> None:
        _check_id(self, self.child)


@dataclass(frozen=True, slots=True)
class WhichChildren(Request[tuple[ChildInfo, ...]]):
    """Ask for all children, in start order."""


@dataclass(frozen=True, slots=True)
class CountChildren(Request[ChildCounts]):
    """Ask how many children there are."""


def _check_id(request: object, child: object) -> None:
    """Refuse what is no id: here, on the asker's thread, and not in the supervisor's turn.

    Raises:
        ArgumentTypeError: it is no text.
    """
    if type(child) is not str:
        ref = ", or its ref" if type(request) is TerminateChild else ""
        raise ArgumentTypeError(
            f"{type(request).__name__} was given {child!r}; give the id of the child{ref}"
        )
