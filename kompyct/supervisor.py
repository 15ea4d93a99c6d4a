"""How is a supervision tree written down?

A tree is data: a `ComponentSupervisor` says which children there are and what happens when one
goes down. Giving it to `ComponentSystem.create`, or to a `ChildSpec` as its factory, makes it run;
how is in `supervising`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

from kompyct.children import ChildSpec, Policy, checked_policy, one_of
from kompyct.component import Component
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    InvalidComponentError,
    UnknownBackendError,
)
from kompyct.restart import Backoff, RestartLimit
from kompyct.strategy import AutoShutdown, Strategy

MAX_DEPTH = 100
"""Levels of a tree at most."""

OTP: Final = RestartLimit(1, 5.0)
"""The restart limit of a supervisor unless told otherwise: OTP's intensity and period."""


class ComponentSupervisor:
    """Children, and what happens when one of them goes down. Immutable, for any thread.

    The children start in order, each when the one before has started, and end in reverse order,
    each when the one before is gone. A tree has at most 100 levels. What is asked of it while it
    runs: `StartChild`, `TerminateChild`, `RestartChild`, `DeleteChild`, `WhichChildren`,
    `CountChildren`.

    Args:
        children: their specs, in start order; none with "dynamic".
        strategy: "one_for_one", "one_for_all", "rest_for_one" or "dynamic", see `Strategy`.
        restart_limit: how many restarts it allows; one more and it ends its children and itself,
            which its own supervisor sees as a fault. By default OTP's 1 in 5 s. None: any number,
            so that only the budgets of the children count.
        backoff: makes restarts in a row wait longer and longer; None: they do not wait.
        auto_shutdown: "never", "any_significant" or "all_significant": whether it ends when a
            significant child, or the last of them, has ended by itself.
        policy: what to do about which exceptions, where neither the child's recovery function nor
            the policy of its spec says so.

    Raises:
        ArgumentError: two children of one id, an id that is missing, an unknown choice, a
            significant child that nobody looks at.
        ArgumentTypeError: a value of the wrong type.

    Source: OTP's `supervisor` and Elixir's `DynamicSupervisor`; backoff and policy: Akka's.
    """

    __slots__ = (
        "auto_shutdown", "backoff", "children", "depth", "policy", "restart_limit", "strategy",
    )  # fmt: skip

    children: tuple[ChildSpec, ...]
    strategy: Strategy
    restart_limit: RestartLimit | None
    backoff: Backoff | None
    auto_shutdown: AutoShutdown
    policy: Policy
    depth: int

    _kompyct_is_tree: Final = True  # see `ChildSpec.is_supervisor`

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        strategy: (
            Strategy | Literal["one_for_one", "one_for_all", "rest_for_one", "dynamic"]
        ) = Strategy.ONE_FOR_ONE,
        *,
        restart_limit: RestartLimit | None = OTP,
        backoff: Backoff | None = None,
        auto_shutdown: (
            AutoShutdown | Literal["never", "any_significant", "all_significant"]
        ) = AutoShutdown.NEVER,
        policy: Policy | None = None,
    ) -> None:
        what = "of a supervisor"
        if isinstance(children, ChildSpec) or not isinstance(children, Iterable):
            raise ArgumentTypeError(f"children {what} is {children!r}; give a list of ChildSpec")
        specs = tuple(children)
        for spec in specs:
            if not isinstance(spec, ChildSpec):
                raise ArgumentTypeError(f"children {what} has {spec!r}; give a ChildSpec")
        chosen = one_of(Strategy, strategy, f"strategy {what}")
        if restart_limit is not None and not isinstance(restart_limit, RestartLimit):
            given = restart_limit
            raise ArgumentTypeError(f"restart_limit {what} is {given!r}; give a RestartLimit")
        if backoff is not None and not isinstance(backoff, Backoff):
            raise ArgumentTypeError(f"backoff {what} is {backoff!r}; give a Backoff, or None")
        shutdown = one_of(AutoShutdown, auto_shutdown, f"auto_shutdown {what}")
        if chosen is Strategy.DYNAMIC and specs:
            raise ArgumentError(
                f"a dynamic supervisor begins without children, and was given {len(specs)}; "
                "add them with StartChild"
            )
        seen: set[str | None] = set()
        for spec in specs:
            check_significant(spec, shutdown)
            if spec.id is None:
                raise ArgumentError(
                    f"a child of {spec.factory!r} has no id; only those of a dynamic supervisor "
                    "can do without"
                )
            if spec.id in seen:
                raise ArgumentError(f"two children have the id {spec.id!r}; give each its own")
            seen.add(spec.id)
        below = (spec.factory for spec in specs)
        depths = [tree.depth for tree in below if isinstance(tree, ComponentSupervisor)]
        depth = 1 + max(depths, default=0)
        if depth > MAX_DEPTH:
            raise ArgumentError(
                f"a supervisor has {depth} levels with those below it; {MAX_DEPTH} is the limit"
            )
        for name, value in (
            ("children", specs),
            ("depth", depth),
            ("strategy", chosen),
            ("restart_limit", restart_limit),
            ("backoff", backoff),
            ("auto_shutdown", shutdown),
            ("policy", checked_policy(policy, "a supervisor")),
        ):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a supervisor is immutable; {name!r} cannot be set")

    def __reduce__(self) -> tuple[Any, ...]:
        choices = (self.restart_limit, self.backoff, self.auto_shutdown, self.policy)
        return _made_of, (self.children, self.strategy, *choices)

    def __call__(self) -> Component[Any]:
        """Refuse: a tree is given as it is, and the system makes it run.

        Raises:
            InvalidComponentError: always.
        """
        raise InvalidComponentError(
            f"{self!r} was called; give it to create or to a ChildSpec as it is"
        )

    def walk(self, path: str = "") -> Iterator[tuple[str, ChildSpec]]:
        """Every spec of the tree with its path below this supervisor, parents first."""
        for spec in self.children:
            here = f"{path}{spec.id}"
            yield here, spec
            if isinstance(spec.factory, ComponentSupervisor):
                yield from spec.factory.walk(f"{here}/")

    def __repr__(self) -> str:
        return f"<ComponentSupervisor of {len(self.children)} children, {self.strategy.value}>"


def _made_of(
    children: tuple[ChildSpec, ...],
    strategy: Strategy,
    restart_limit: RestartLimit | None,
    backoff: Backoff | None,
    auto_shutdown: AutoShutdown,
    policy: Policy,
) -> ComponentSupervisor:
    """Used by pickle and copy."""
    return ComponentSupervisor(
        children,
        strategy,
        restart_limit=restart_limit,
        backoff=backoff,
        auto_shutdown=auto_shutdown,
        policy=policy,
    )


def check_significant(spec: ChildSpec, auto_shutdown: AutoShutdown) -> None:
    """Refuse a significant child of a supervisor that never shuts itself down, as OTP does.

    Raises:
        ArgumentError: it is one.
    """
    if spec.significant and auto_shutdown is AutoShutdown.NEVER:
        raise ArgumentError(
            f"child {spec.id!r} is significant, and its supervisor has auto_shutdown='never'; "
            "give 'any_significant' or 'all_significant', or significant=False"
        )


def check_placement(spec: ChildSpec, kind: str, system_kind: str) -> None:
    """Refuse a child, or one below it, that cannot be where it is to be.

    Args:
        kind: of the backend of children whose spec names none.
        system_kind: of the system's own backend.

    Raises:
        UnknownBackendError: a test drives all components of a system or none.
        ArgumentError: `standby` or `overlap` without a process.
    """
    chosen = spec.backend or kind
    if (chosen == "manual") != (system_kind == "manual"):
        raise UnknownBackendError(
            f"backend of child {spec.id!r} is {chosen!r}, and the system runs on "
            f"{system_kind!r}; a test drives all components of a system or none"
        )
    if (spec.standby or spec.overlap) and chosen != "process":
        raise ArgumentError(
            f"standby and overlap of child {spec.id!r} are for backend='process', not {chosen!r}"
        )
    if isinstance(spec.factory, ComponentSupervisor):
        for child in spec.factory.children:
            check_placement(child, chosen, system_kind)


class Supervising(Component[Any]):
    """One incarnation of a supervisor. All it does is done by its cell, see `supervising`."""

    def __init__(self, declared: ComponentSupervisor) -> None:
        self.declared = declared
