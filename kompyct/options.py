"""What may be chosen when a component is created?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from kompyct.amounts import bytes_of
from kompyct.clock import nanoseconds
from kompyct.errors import ArgumentError, ArgumentTypeError, UnknownBackendError
from kompyct.restart import RestartLimit

GENERATIONS = 3
"""Snapshots kept of a component, the newest included."""

Durability = Literal["memory", "durable"]
Overflow = Literal["error", "drop_new", "drop_old"]
Fallback = Literal["end", "restart", "escalate"]

_DURABILITIES = get_args(Durability)

BACKENDS = ("thread", "pool", "process", "manual")


def check_kind(kind: object) -> None:
    """Refuse what is no kind of backend.

    Raises:
        UnknownBackendError: there is none of that kind.
    """
    if not isinstance(kind, str) or kind not in BACKENDS:
        raise UnknownBackendError(f"backend is {kind!r}; give one of {', '.join(BACKENDS)}")


def check_durability(durability: object, what: str, *, has_store: bool) -> None:
    """Refuse a level of durability that is none, or cannot be had for `what`.

    Raises:
        ArgumentError: it is, or cannot.
    """
    if durability not in _DURABILITIES:
        raise ArgumentError(f"durability is {durability!r}; give one of {_DURABILITIES}")
    if durability == "durable" and not has_store:
        raise ArgumentError(
            f"{what} cannot save durably: that needs a system with store= and a name for the "
            "component"
        )


@dataclass(frozen=True, slots=True)
class Options:
    """What `create` was told of a component; one object serves all that were told the same.

    Attributes:
        budget: how often it may be restarted.
        fallback: what is done when its recovery function or handler raises, hangs or answers
            with something else.
        mailbox_limit: messages, > 0; None for no limit.
        overflow: what a full mailbox does.
        inline_asks: whether an ask of the idle component runs its handler in the asker's thread.
        standby: whether a further process waits to be the next incarnation.
        overlap: whether the next incarnation may start while the crashed one is still ending.
        time_limit: nanoseconds that each message may take; None for no limit.
        memory_limit: bytes its process may use while it handles a message; None for no limit.
    """

    budget: RestartLimit = field(default_factory=RestartLimit)
    fallback: Fallback = "end"
    mailbox_limit: int | None = None
    overflow: Overflow = "error"
    inline_asks: bool = False
    standby: bool = False
    overlap: bool = False
    time_limit: int | None = None
    memory_limit: int | None = None

    @property
    def has_limits(self) -> bool:
        """Whether its handlers are watched."""
        return self.time_limit is not None or self.memory_limit is not None


def checked_options(
    budget: RestartLimit | None,
    fallback: str,
    mailbox_limit: int | None,
    overflow: str,
    *,
    inline_asks: bool,
    standby: bool = False,
    overlap: bool = False,
    time_limit: int | None = None,
    memory_limit: int | None = None,
) -> Options:
    """The options for what `create` was given.

    Raises:
        ArgumentError, ArgumentTypeError: for bad values.
    """
    if budget is None:
        budget = RestartLimit()
    elif not isinstance(budget, RestartLimit):
        raise ArgumentTypeError(f"budget is {budget!r}; give a RestartLimit")
    if fallback not in get_args(Fallback):
        raise ArgumentError(f"fallback is {fallback!r}; give one of {get_args(Fallback)}")
    if overflow not in get_args(Overflow):
        raise ArgumentError(f"overflow is {overflow!r}; give one of {get_args(Overflow)}")
    if mailbox_limit is not None:
        if isinstance(mailbox_limit, bool) or not isinstance(mailbox_limit, int):
            raise ArgumentTypeError(f"mailbox_limit is {mailbox_limit!r}; give a whole number > 0")
        if mailbox_limit < 1:
            raise ArgumentError(f"mailbox_limit is {mailbox_limit}; give a whole number > 0")
    return Options(
        budget,
        fallback,  # type: ignore[arg-type]
        mailbox_limit,
        overflow,  # type: ignore[arg-type]
        inline_asks,
        standby,
        overlap,
        time_limit,
        memory_limit,
    )


def checked_time_limit(seconds: float | None) -> int | None:
    """A limit of time in nanoseconds.

    Raises:
        ArgumentTypeError, ArgumentError: it is no number of seconds > 0.
    """
    if seconds is None:
        return None
    limit = nanoseconds(seconds, "time_limit")
    if not limit:
        raise ArgumentError(f"time_limit is {seconds!r}; give seconds > 0, or None")
    return limit


def checked_memory_limit(amount: int | str | None) -> int | None:
    """A limit of memory in bytes.

    Raises:
        ArgumentTypeError, ArgumentError: it is no amount, see `bytes_of`.
    """
    return None if amount is None else bytes_of(amount, "memory_limit")
