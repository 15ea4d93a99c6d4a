"""What does a component tell its supervisor?"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from kompyct.component import Component
    from kompyct.faults import Answer, FaultContext


class News(Enum):
    """What has become of a child. Told by its turn, but for what another name says."""

    STARTED = "started"
    """An incarnation has started."""
    NOT_NEEDED = "not_needed"
    """Its factory says that there is nothing to run. A first incarnation was discarded."""
    FAILED = "failed"
    """Its first incarnation could not be made or started; with the exception."""
    LEFT = "left"
    """It has ended by itself, and is kept until the supervisor says what is next."""
    KEPT = "kept"
    """It is down as it was told, and is kept; with the ticket of that."""
    GONE = "gone"
    """It has ended for good; with a `Gone`."""
    DECIDED = "decided"
    """What is to be done about its fault; with a `Verdict`. By the root supervisor."""
    DUE = "due"
    """A delay before its restart is over; with its ticket. By the clock."""
    OVERDUE = "overdue"
    """It has used up its time to end. By the clock."""


class Gone(NamedTuple):
    """How a child ended.

    Attributes:
        error: the type of the exception it ended by; None: somebody has ended it.
        cause: why it could not go on from what was stored of it, if that was the reason.
        killed: whether somebody has ended it.
    """

    error: str | None = None
    cause: BaseException | None = None
    killed: bool = True


class Verdict(NamedTuple):
    """What the recovery function of a child wants.

    Attributes:
        answer: RESTART or ESCALATE; None: it has no recovery function.
        call: what makes the next incarnation; None: what made the first.
    """

    fault: FaultContext[Any]
    answer: Answer | None
    call: Callable[[], Component[Any]] | None = None
