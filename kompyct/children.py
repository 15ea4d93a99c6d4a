"""What is to be said of a child of a supervisor?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypeVar, get_args

from kompyct.clock import nanoseconds
from kompyct.component import Component
from kompyct.errors import ArgumentError, ArgumentTypeError, RemoteError
from kompyct.needed import NotNeeded
from kompyct.options import (
    POISON_AFTER,
    Fallback,
    Options,
    Overflow,
    check_kind,
    checked_memory_limit,
    checked_options,
    checked_time_limit,
)
from kompyct.registry import check_name
from kompyct.restart import Backoff, RestartLimit


class Restart(Enum):
    """When a child comes back. Source: OTP's `restart` of a child specification."""

    PERMANENT = "permanent"
    """Always: when it has faulted, and when it has ended by itself."""
    TRANSIENT = "transient"
    """When it has faulted."""
    TEMPORARY = "temporary"
    """Never; its spec goes with it."""


OnFault = Literal["restart", "end", "escalate"]
Policy = Mapping[type[BaseException], OnFault]
"""What to do about faults of which type; the most specific type decides."""

SHUTDOWN = 5.0
"""Seconds a child has to end unless told otherwise, as in OTP."""


def checked_policy(policy: Policy | None, what: str) -> Policy:
    """`policy`, copied.

    Raises:
        ArgumentTypeError, ArgumentError: it is none.
    """
    if policy is None:
        return {}
    if not isinstance(policy, Mapping):
        raise ArgumentTypeError(f"policy of {what} is {policy!r}; give a mapping, or None")
    for cls, answer in policy.items():
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise ArgumentTypeError(f"policy of {what} has {cls!r}; give exception types")
        if answer not in get_args(OnFault):
            raise ArgumentError(
                f"policy of {what} has {answer!r} for {cls.__qualname__}; "
                f"give one of {get_args(OnFault)}"
            )
    return dict(policy)


def decided_by(policy: Policy, exception: BaseException) -> OnFault | None:
    """What `policy` says of `exception`; None if nothing.

    One that could not travel from another process counts by the names of its classes (S-15).
    """
    if isinstance(exception, RemoteError):
        by_name: dict[str, OnFault] = {
            f"{cls.__module__}.{cls.__qualname__}": policy[cls] for cls in policy
        }
        for name in exception.types:
            if name in by_name:
                return by_name[name]
    for cls in type(exception).__mro__:
        for declared, answer in policy.items():
            if declared is cls:  # by identity: no code of users' classes is run here
                return answer
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How a supervisor makes a child, brings it back and ends it. Immutable, for any thread.

    Args:
        id: its name among its siblings; as names of components. With `strategy="dynamic"` None
            makes a child without a name.
        factory: makes the component: a class, a function, a `functools.partial`; or a
            `ComponentSupervisor`, whose tree it then is. It may return `NOT_NEEDED`.
        restart: "permanent", "transient" or "temporary", see `Restart`.
        shutdown: seconds >= 0 it has to end when told to, then it is forced; "brutal": it is not
            told, and runs no hook; None: as long as it takes. By default 5 s, and None for a
            supervisor.
        significant: whether its end by itself may be the end of the supervisor, see
            `auto_shutdown` there. Not for permanent children.
        budget: a restart limit of its own, beside the supervisor's: a restart more ends it for
            good. None: none.
        backoff: another one than the supervisor's.
        policy: what to do about which exceptions if it has no recovery function: "restart",
            "end" or "escalate". Asked before the supervisor's.
        backend: as for `ComponentSystem.create`, and so are `fallback`, `mailbox_limit`,
            `overflow`, `inline_asks`, `standby`, `overlap`, `time_limit`, `memory_limit` and
            `poison_after`.

    Raises:
        ArgumentError, ArgumentTypeError: for bad values.

    Source: OTP's child specification.
    """

    id: str | None = None
    factory: Callable[[], Component[Any] | NotNeeded]
    restart: Restart | Literal["permanent", "transient", "temporary"] = Restart.PERMANENT
    shutdown: float | Literal["brutal", "default"] | None = "default"
    significant: bool = False
    budget: RestartLimit | None = None
    backoff: Backoff | None = None
    policy: Policy | None = field(default=None, hash=False)
    backend: str | None = None
    fallback: Fallback = "end"
    mailbox_limit: int | None = None
    overflow: Overflow = "error"
    inline_asks: bool = False
    standby: bool = False
    overlap: bool = False
    time_limit: float | None = None
    memory_limit: int | str | None = None
    poison_after: int | None = POISON_AFTER

    def __post_init__(self) -> None:
        what = f"the spec of child {self.id!r}"
        if self.id is not None:
            check_name(self.id, "id of a child")
        if not callable(self.factory):
            raise ArgumentTypeError(
                f"factory in {what} is {self.factory!r}; give a class, a function or a "
                "ComponentSupervisor"
            )
        object.__setattr__(self, "restart", one_of(Restart, self.restart, f"restart in {what}"))
        _check_shutdown(self.shutdown, what)
        for name in ("significant", "inline_asks", "standby", "overlap"):
            if not isinstance(getattr(self, name), bool):
                given = getattr(self, name)
                raise ArgumentTypeError(f"{name} in {what} is {given!r}; give True or False")
        if self.significant and self.restart is Restart.PERMANENT:
            raise ArgumentError(
                f"{what} is significant and permanent: it always comes back, so its end never "
                "counts; give restart='transient' or 'temporary', or significant=False"
            )
        if self.budget is not None and not isinstance(self.budget, RestartLimit):
            raise ArgumentTypeError(f"budget in {what} is {self.budget!r}; give a RestartLimit")
        if self.backoff is not None and not isinstance(self.backoff, Backoff):
            raise ArgumentTypeError(f"backoff in {what} is {self.backoff!r}; give a Backoff")
        object.__setattr__(self, "policy", checked_policy(self.policy, what))
        try:
            if self.backend is not None:
                check_kind(self.backend)
            self.options(Options())
        except (ArgumentError, ArgumentTypeError) as error:
            raise type(error)(f"{what}: {error}") from error
        if isinstance(self.factory, type) and not issubclass(self.factory, Component):
            raise ArgumentTypeError(
                f"factory in {what} is {self.factory!r}, which makes no components; give a "
                "subclass of Component"
            )
        if self.is_supervisor:
            given = {name: getattr(self, name) for name in NOT_FOR_SUPERVISORS}
            refuse_for_supervisors(given, what)

    @property
    def is_supervisor(self) -> bool:
        """Whether the child is a tree of its own."""
        return is_tree(self.factory)

    def options(self, defaults: Options) -> Options:
        """The options of its cell; what it does not say is as in `defaults`.

        Raises:
            ArgumentError, ArgumentTypeError: for bad values.
        """
        if (
            self.budget is None
            and self.mailbox_limit is None
            and self.time_limit is None
            and self.memory_limit is None
            and self.poison_after is POISON_AFTER
            and self.fallback == "end"
            and self.overflow == "error"
            and not (self.inline_asks or self.standby or self.overlap)
        ):
            return defaults
        return checked_options(
            self.budget or defaults.budget,
            self.fallback,
            self.mailbox_limit,
            self.overflow,
            inline_asks=self.inline_asks,
            standby=self.standby,
            overlap=self.overlap,
            time_limit=checked_time_limit(self.time_limit) or defaults.time_limit,
            memory_limit=checked_memory_limit(self.memory_limit) or defaults.memory_limit,
            poison_after=self.poison_after,
        )

    @property
    def shutdown_seconds(self) -> float | None:
        """Seconds it has to end in order; 0 if it is not told; None for as long as it takes."""
        if self.shutdown == "default":
            return None if self.is_supervisor else SHUTDOWN
        return 0.0 if isinstance(self.shutdown, str) else self.shutdown


def is_tree(factory: object) -> bool:
    """Whether that is a `ComponentSupervisor`, which is in a module above this one."""
    return getattr(type(factory), "_kompyct_is_tree", False) is True


NOT_FOR_SUPERVISORS = (
    "inline_asks", "mailbox_limit", "overflow", "poison_after", "standby", "overlap",
    "time_limit", "memory_limit",
)  # fmt: skip


def refuse_for_supervisors(given: Mapping[str, object], what: str) -> None:
    """Refuse what means nothing for a supervisor, which handles no messages of users.

    Raises:
        ArgumentError: one of those was chosen.
    """
    for name in NOT_FOR_SUPERVISORS:
        if given[name] != getattr(Options(), name):
            raise ArgumentError(
                f"{what} is of a supervisor, and has {name}={given[name]!r}; leave that out, or "
                "give it to its children"
            )


C = TypeVar("C", bound=Enum)


def one_of(kind: type[C], given: object, what: str) -> C:
    """The choice of `kind` that `given` is, or names.

    Raises:
        ArgumentError: it is none.
    """
    try:
        return kind(given)
    except ValueError:
        choices = ", ".join(repr(choice.value) for choice in kind)
        raise ArgumentError(f"{what} is {given!r}; give one of {choices}") from None


def _check_shutdown(shutdown: object, what: str) -> None:
    if shutdown is None or (isinstance(shutdown, str) and shutdown in ("brutal", "default")):
        return
    if isinstance(shutdown, str):
        raise ArgumentError(f"shutdown in {what} is {shutdown!r}; give seconds, 'brutal' or None")
    nanoseconds(shutdown, f"shutdown in {what}")  # type: ignore[arg-type]
