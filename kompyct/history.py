"""What is known of a component's past, while it matters?"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from kompyct.faults import FaultContext
from kompyct.lifecycle import Ending, Status


class History:
    """What is known of a component that has faulted, is waited for, or is ending.

    Most never need one, and what has ended keeps none: the garbage collector would look at it as
    long as anybody has a ref. Written in the turn only, but for `restarts`, which the supervisor
    writes while the component is faulty, and `letters`, to which senders append while it ends.
    """

    __slots__ = (
        "active", "claimed", "ending", "error", "fault", "killed", "left_as", "letters",
        "looked_at", "ports", "recovered_at", "restarts", "waiters",
    )  # fmt: skip

    def __init__(self) -> None:
        self.waiters: tuple[tuple[Future[None], bool], ...] = ()  # (future, is it a start)
        self.restarts: tuple[int, ...] = ()  # times of those that the budget still counts
        self.error: BaseException | None = None  # what waiters get in the end, if on_kill faulted
        self.active = False  # whether the next incarnation is to be started
        self.fault: FaultContext[Any] | None = None  # the one that is being recovered from
        self.looked_at = 0  # the how-many-th message is the last whose type a fault has looked at
        self.recovered_at: int | None = None  # when the present incarnation had started
        self.claimed = False  # whether it is still to go on from what an earlier process stored
        self.ending: Ending | None = None  # why it is
        self.killed = False  # whether it was told to end for good, and so is retired
        self.left_as = Status.RETIRED  # what its end makes of what is stored of it
        self.ports: Mapping[str, tuple[bool, str]] | None = None  # of the one that faulted last
        self.letters: list[Any] | None = []  # messages that came while it was ending
