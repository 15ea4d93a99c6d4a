"""What may be chosen for the children of a supervisor, be said of one, and be done about it?

The words of `supervision`. Source: OTP's `supervisor`, see `docs/otp.md` for the differences.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

Key = str | int
"""A child's id, or a number if it has none."""


class Strategy(Enum):
    """Who comes back with a child that went down. Source: OTP."""

    ONE_FOR_ONE = "one_for_one"
    """Only that child."""
    ONE_FOR_ALL = "one_for_all"
    """All children."""
    REST_FOR_ONE = "rest_for_one"
    """That child, and those that were started after it."""
    DYNAMIC = "dynamic"
    """Only that child. All children are added later, keep no spec once they have ended, and are
    stopped side by side. Source: Elixir's `DynamicSupervisor`."""


class AutoShutdown(Enum):
    """Whether the end of significant children is the end of the supervisor. Source: OTP."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


class Standing(Enum):
    """How it stands with a child."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    """It is down, and will be started after a delay, or when its turn comes."""
    STOPPING = "stopping"
    STOPPED = "stopped"


class Exit(Enum):
    """How a child went down without having been told to."""

    FAULT = "fault"
    """It faulted, and may come back."""
    NORMAL = "normal"
    """It ended by itself; or it is a supervisor that gave up or shut itself down, which OTP calls
    `shutdown` and treats alike."""
    FINAL = "final"
    """It faulted and must not come back: it was unrecoverable, or its recovery said so."""


class Outcome(Enum):
    """Why a supervisor ends."""

    ASKED = "asked"
    START_FAILED = "start_failed"
    RESTART_LIMIT = "restart_limit"
    ESCALATED = "escalated"
    AUTO_SHUTDOWN = "auto_shutdown"


class Start(NamedTuple):
    """Have the child started. To be answered by `started`, `not_needed` or `failed`."""

    key: Key


class Stop(NamedTuple):
    """Have the child end in order. To be answered by `stopped`.

    `keep`: it may be started again, so ref, mailbox and snapshot are kept.
    """

    key: Key
    keep: bool


class Wait(NamedTuple):
    """Call `due(key, ticket)` after `delay` nanoseconds."""

    key: Key
    delay: int
    ticket: int


class Release(NamedTuple):
    """The child is down, and nothing of it is kept any more. Nothing is to be answered."""

    key: Key


class Forget(NamedTuple):
    """The child's spec is gone. Comes after the `Stop` or `Release` of the child."""

    key: Key


class Ready(NamedTuple):
    """All children have been started."""


class GiveUp(NamedTuple):
    """It is about to end because of that child; `Over` follows when all children are down."""

    key: Key
    outcome: Outcome


class Over(NamedTuple):
    """All children are down: the supervisor is to end."""

    outcome: Outcome


Action = Start | Stop | Wait | Release | Forget | Ready | GiveUp | Over
