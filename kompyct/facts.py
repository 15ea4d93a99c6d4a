"""What is there to be known of a fault?

Plain fields, without behaviour; `faults` is what recovery functions see of them.
"""

from __future__ import annotations

import re
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kompyct.fault_classes import FaultClass
from kompyct.lifecycle import Phase

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.processes.exits import ProcessExit
    from kompyct.registration import Registration


class FaultKind(Enum):
    """What kind of thing went wrong."""

    EXCEPTION = "exception"
    HANG = "hang"
    MEMORY = "memory"
    PROCESS_EXIT = "process_exit"
    PROCESS_LOST = "process_lost"
    SHUTDOWN = "shutdown"
    SIBLING = "sibling"


class Report(Protocol):
    """Gives what is known of the stack of a process by now; see `Crash.report`."""

    def __call__(self, wait: float, *, innermost: bool = False) -> str: ...


class Elsewhere(NamedTuple):
    """A fault as its own process told it, or as its process's end shows it.

    Attributes:
        kind: EXCEPTION, or PROCESS_EXIT if the process has ended unasked.
        phase: which of the component's code was running.
        message: what was in hand there.
        left: what was sent and not taken in hand, oldest first.
        report: the Python stack, as text; empty if nobody knows it. A process that crashes may
            still be writing it: so it is asked for when it is looked at, see
            `Crash.report`.
        location: as `FaultContext.location`; None: it is in the report.
        exit: how the process ended, if it did unasked.
        at_rest: whether nothing of the component was running.
    """

    kind: FaultKind
    phase: Phase
    fault_class: FaultClass
    message: Any
    left: tuple[Any, ...]
    report: Report
    location: str | None
    exit: ProcessExit | None
    at_rest: bool


class Text:
    """A report that is known already; see `Elsewhere.report`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __call__(self, wait: float, *, innermost: bool = False) -> str:
        return self._text


_PLACE = re.compile(r'^ *File "(.*)", line (\d+) in (.*)$', re.MULTILINE)


def location_in(stack: str) -> str:
    """The innermost place in what `faulthandler` wrote, as `FaultContext.location`."""
    found = _PLACE.search(stack)
    return "{}:{} in {}".format(*found.groups()) if found else "unknown place"


UNREAD: Any = object()
"""Of what is decoded at the first look."""


class Facts:
    """The fields behind a `FaultContext`. Made in one go, on the way from fault to replacement."""

    __slots__ = (
        "attempt", "cell", "decoded", "dropped", "elsewhere", "exception", "failed",
        "fault_class", "in_hand",
        "incarnation", "kind", "message", "older_decoded", "pending", "phase", "registration",
        "restarts", "since_snapshot", "suspect", "time", "traceback",
    )  # fmt: skip

    cell: Cell
    incarnation: int
    kind: FaultKind
    phase: Phase
    exception: BaseException
    traceback: TracebackType | None
    fault_class: FaultClass
    registration: Registration | None
    message: Any
    restarts: int  # within the budget's window, before this one
    time: int  # nanoseconds

    def __init__(self) -> None:
        self.attempt = 1
        self.suspect = 0
        self.in_hand = False
        self.since_snapshot = 0  # messages handled since the save, the one in hand included
        self.pending = 0
        self.failed = 0  # queued asks that failed, and tells that wanted to
        self.dropped = 0  # queued tells that wanted to be, and the message in hand if it is gone
        self.decoded: Any = UNREAD
        self.older_decoded: Any = UNREAD
        self.elsewhere: Elsewhere | None = None  # of a component in another process


class Saved(NamedTuple):
    """What a registration has of its snapshots."""

    data: bytes | None
    saved_at: int
    older: tuple[tuple[bytes, int, int], ...]
