"""What happened that somebody watching a system should know?

Events are facts: frozen, with types, names, counts and times, never with the values of messages
or of state. Each goes to `on_event` once and to logging as one line.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """The base of all events.

    Attributes:
        component_id: the component's number, unique in its system.
        path: where it stands in the system.
        incarnation: which of its incarnations this is about; 0 where there was none.
        time: seconds on the system's clock.
    """

    level: ClassVar[int] = logging.INFO

    component_id: int
    path: str
    incarnation: int
    time: float

    def __str__(self) -> str:
        return f"component {self.path!r}"


@dataclass(frozen=True, slots=True)
class ComponentFaulted(Event):
    """A component faulted. `restarts` counts those within its budget's window."""

    level: ClassVar[int] = logging.WARNING

    kind: str
    phase: str
    error: str
    location: str
    attempt: int
    suspect: int
    pending: int
    restarts: int

    def __str__(self) -> str:
        if self.kind == "process_lost":
            return f"component {self.path!r} (incarnation {self.incarnation}) lost its process"
        return (
            f"component {self.path!r} (incarnation {self.incarnation}) faulted in {self.phase}: "
            f"{self.error} at {self.location}"
        )


@dataclass(frozen=True, slots=True)
class BenignError(Event):
    """A component raised a benign exception; it carries on."""

    level: ClassVar[int] = logging.WARNING

    phase: str
    error: str

    def __str__(self) -> str:
        return f"component {self.path!r} raised benign {self.error} in {self.phase}; it carries on"


@dataclass(frozen=True, slots=True)
class NoRecoveryFunction(Event):
    """A component faulted that has no recovery function; nothing is recreated."""

    level: ClassVar[int] = logging.WARNING

    error: str

    def __str__(self) -> str:
        return (
            f"component {self.path!r} has no recovery function and ends on {self.error}; "
            "call set_recovery_function to have it restarted"
        )


@dataclass(frozen=True, slots=True)
class ComponentRecovered(Event):
    """The recovery report: a new incarnation has started.

    Attributes:
        error: the type of what was raised.
        kind: of the fault.
        phase: in which it happened.
        snapshot_age: seconds from the save to the fault; None if there was no snapshot.
        handled_since_snapshot: messages and ticks handled since the save, the one in hand
            included; None if there was no snapshot.
        redelivered: messages that waited for the new incarnation.
        failed: asks that failed at the fault.
        dropped: messages in hand that are gone; 0 or 1.
        downtime: seconds from the fault until the new incarnation had started.
        attempt: which attempt with this registration it was.
        suspect: as in `FaultContext`.
        restarts: restarts within the window of the budget, this one included.
        restarts_left: how many more its budget allows at once, or the restart limit of its
            supervisor if it has none of its own; None: any number.
    """

    error: str
    kind: str
    phase: str
    snapshot_age: float | None
    handled_since_snapshot: int | None
    redelivered: int
    failed: int
    dropped: int
    downtime: float
    attempt: int
    suspect: int
    restarts: int
    restarts_left: int | None

    def __str__(self) -> str:
        left = "any number of" if self.restarts_left is None else self.restarts_left
        snapshot = (
            "without a snapshot"
            if self.snapshot_age is None
            else f"with a snapshot {self.snapshot_age:.3f} s old"
        )
        return (
            f"component {self.path!r} recovered from {self.error} {snapshot} "
            f"after {self.downtime * 1000:.3f} ms as incarnation {self.incarnation}; "
            f"{self.redelivered} messages waited, {left} restarts left"
        )


@dataclass(frozen=True, slots=True)
class ComponentRestarted(Event):
    """A child came back, afresh, though it had not faulted: it is permanent."""

    reason: str

    def __str__(self) -> str:
        return (
            f"component {self.path!r} was restarted as incarnation {self.incarnation}: "
            f"{self.reason}"
        )


@dataclass(frozen=True, slots=True)
class RestartDelayed(Event):
    """A child is to be restarted after `delay` seconds, since it was so before."""

    delay: float

    def __str__(self) -> str:
        return f"component {self.path!r} is restarted in {self.delay:.3f} s"


@dataclass(frozen=True, slots=True)
class RestartFailed(Event):
    """A replacement faulted before it had started; this is a fault of its own as well."""

    level: ClassVar[int] = logging.WARNING

    error: str
    phase: str
    attempt: int

    def __str__(self) -> str:
        return (
            f"component {self.path!r} failed to restart: {self.error} in {self.phase} "
            f"(attempt {self.attempt})"
        )


@dataclass(frozen=True, slots=True)
class RestartRefused(Event):
    """A recovery function answered with a restart where there is nothing to restart."""

    level: ClassVar[int] = logging.WARNING

    reason: str

    def __str__(self) -> str:
        return f"component {self.path!r} is not restarted: {self.reason}"


@dataclass(frozen=True, slots=True)
class RestartLimitReached(Event):
    """A restart more than the budget allows was due; the component ends instead."""

    level: ClassVar[int] = logging.ERROR

    error: str
    max_restarts: int
    within: float

    def __str__(self) -> str:
        return (
            f"component {self.path!r} ends: {self.max_restarts} restarts in {self.within:g} s "
            f"is its limit, and it faulted again with {self.error}"
        )


@dataclass(frozen=True, slots=True)
class FallbackApplied(Event):
    """A recovery function or handler raised, hung or answered wrongly; `fallback` was done.

    `detail` says more where kompyct itself found fault with it.
    """

    level: ClassVar[int] = logging.ERROR

    error: str
    recovery_error: str
    fallback: str
    detail: str

    def __str__(self) -> str:
        return (
            f"recovery of component {self.path!r} from {self.error} did not work: "
            f"{self.recovery_error}{f': {self.detail}' if self.detail else ''}; "
            f"fallback: {self.fallback}"
        )


@dataclass(frozen=True, slots=True)
class ComponentEnded(Event):
    """A component has ended for good. `error` names the fault that led to it, if one did."""

    reason: str
    error: str | None
    restarts: int

    def __str__(self) -> str:
        return f"component {self.path!r} ended: {self.reason}"


@dataclass(frozen=True, slots=True)
class FaultIgnored(Event):
    """A recovery function answered with `ignore()`; the component ends."""

    level: ClassVar[int] = logging.WARNING

    error: str

    def __str__(self) -> str:
        return f"{self.error} of component {self.path!r} is ignored, and the component ends"


@dataclass(frozen=True, slots=True)
class CreateFailed(Event):
    """A first creation raised; the caller of `create` got the error."""

    level: ClassVar[int] = logging.WARNING

    error: str

    def __str__(self) -> str:
        return f"component {self.path!r} could not be created: {self.error}"


@dataclass(frozen=True, slots=True)
class DeadLetters(Event):
    """Messages that nobody will handle; `types` names the first few of their types."""

    level: ClassVar[int] = logging.WARNING

    count: int
    types: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.count} dead letters for component {self.path!r} "
            f"({', '.join(self.types)}): {self.reason}"
        )


@dataclass(frozen=True, slots=True)
class ResourceNotClosed(Event):
    """A kept resource raised when it was closed, or did not close in time."""

    level: ClassVar[int] = logging.WARNING

    error: str

    def __str__(self) -> str:
        return f"a kept resource of component {self.path!r} did not close: {self.error}"


@dataclass(frozen=True, slots=True)
class SnapshotsNotSaved(Event):
    """The store could not save what was to be written behind; it will be tried again.

    What was saved before is whole, and components go on. Not about one component: the id is 0.

    Attributes:
        error: the type of what was raised.
        errno: the operating system's number, or None.
        phase: what was being done, as in `StoreError`.
        waiting: components whose last save is not in the store.
        retry: seconds until the next attempt; 0 if there is none.
    """

    level: ClassVar[int] = logging.ERROR

    error: str
    errno: int | None
    phase: str
    waiting: int
    retry: float
    detail: str

    def __str__(self) -> str:
        return f"the store failed, the snapshots of {self.waiting} components wait: {self.detail}"


@dataclass(frozen=True, slots=True)
class SnapshotsSaved(Event):
    """The store works again after `SnapshotsNotSaved`, and has all. The id is 0."""

    def __str__(self) -> str:
        return "the store works again and has all snapshots"


@dataclass(frozen=True, slots=True)
class SnapshotDamaged(Event):
    """A part of the store was not what had been written; an older snapshot is used. The id is 0.

    Attributes:
        file: the name of the file in the store.
        offset: where the damaged bytes begin; they are kept in the folder `damaged` of the store.
        length: how many they are.
        what: in words.
        torn: whether they are only the rest of a write that a crash had cut off.
    """

    level: ClassVar[int] = logging.WARNING

    file: str
    offset: int
    length: int
    what: str
    torn: bool

    def __str__(self) -> str:
        return (
            f"damage in the store: {self.file}, {self.length} bytes at {self.offset}: {self.what}"
        )


@dataclass(frozen=True, slots=True)
class NotRecovered(Event):
    """`recover()` left a component of an earlier process in the store."""

    level: ClassVar[int] = logging.WARNING

    reason: str

    def __str__(self) -> str:
        return f"component {self.path!r} is left in the store: {self.reason}"


@dataclass(frozen=True, slots=True)
class Escalated(Event):
    """A fault was escalated: to the supervisor, which ends, or to the system, which stops."""

    level: ClassVar[int] = logging.ERROR

    error: str

    def __str__(self) -> str:
        return f"component {self.path!r} escalated {self.error}"


@dataclass(frozen=True, slots=True)
class LateAnswer(Event):
    """An abandoned recovery ended after all; its answer was not used."""

    level: ClassVar[int] = logging.WARNING

    def __str__(self) -> str:
        return f"the abandoned recovery of component {self.path!r} has ended; it changed nothing"


@dataclass(frozen=True, slots=True)
class Abandoned(Event):
    """A component did not end before its deadline in a shutdown; it is left behind."""

    level: ClassVar[int] = logging.ERROR

    def __str__(self) -> str:
        return f"component {self.path!r} did not end in time and is left behind"


@dataclass(frozen=True, slots=True)
class HandlerAbandoned(Event):
    """A handler exceeded a limit and could not be interrupted; its thread is left behind.

    `abandoned` counts the threads of the system for which this is so now.
    """

    level: ClassVar[int] = logging.ERROR

    error: str
    location: str
    abandoned: int

    def __str__(self) -> str:
        return (
            f"component {self.path!r} did not react to {self.error} at {self.location}; "
            f"its thread is left behind ({self.abandoned} by now)"
        )


@dataclass(frozen=True, slots=True)
class ComponentStalled(Event):
    """A component has been in one handler or hook for longer than `stall_after` (seconds).

    `stack` is where its thread was, as text, the innermost line last; nothing was interrupted.
    It is empty for a component in a process of its own, and for one created with `inline_asks`.
    """

    level: ClassVar[int] = logging.WARNING

    seconds: float
    stack: str

    def __str__(self) -> str:
        return f"component {self.path!r} has been in one handler for {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class ProcessForced(Event):
    """The process of a component was ended by signals, since it did not end in time (seconds)."""

    level: ClassVar[int] = logging.WARNING

    waited: float

    def __str__(self) -> str:
        waited = f"within {self.waited:g} s"
        return f"component {self.path!r} did not end {waited}; its process is killed"
