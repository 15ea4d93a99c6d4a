"""What in a supervision tree will not do what its author believes?

Nothing is started; only what is declared is looked at. A finding is true of the tree as it stands,
whatever its components do; whether it is meant, only the author knows, so each can be left out by
its code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from kompyct import lint_limits
from kompyct.budgets import EVER, ROUNDING, on_giving_up
from kompyct.children import Restart
from kompyct.declared import below, supervisors
from kompyct.findings import Finding, Tree, check_codes, is_restarted, named, restart_of
from kompyct.strategy import AutoShutdown, Strategy
from kompyct.supervisor import ComponentSupervisor

MOST = 100
"""Restarts of one child before the tree gives up that are too many unless told otherwise.

Source: OTP's design principles, "Tuning the Intensity and Period", where 100 are too many.
"""


def lint(
    tree: ComponentSupervisor,
    *,
    start_times: Mapping[str, float] | None = None,
    most: int = MOST,
    ignore: Iterable[str] = (),
) -> list[Finding]:
    """Look for what will not do what its author believes.

    Args:
        start_times: seconds that children take to start, by path ("workers/parser"); 0 for those
            that are not in it.
        most: how many restarts of one child before the tree gives up are not too many.
        ignore: codes of findings that are meant.

    Returns: the findings, parents first.

    Raises:
        ArgumentError: no code is called so.
    """
    left_out = check_codes(ignore)
    levels = {path: (path, declared, spec) for path, declared, spec in supervisors(tree)}
    whole = Tree(tree, start_times or {}, most, levels)
    findings = [finding for rule in (*lint_limits.RULES, *_RULES) for finding in rule(whole)]
    order = {path: number for number, (path, _) in enumerate(tree.walk(), 1)}
    findings.sort(key=lambda finding: order.get(finding.path, 0))  # the top is first
    return [finding for finding in findings if finding.code not in left_out]


# -- who comes back --------------------------------------------------------------------------


def _stays_down(tree: Tree) -> Iterator[Finding]:
    for path, declared, spec in tree.levels.values():
        if spec is None or spec.restart is Restart.PERMANENT or spec.significant:
            continue
        above = tree.levels[path.rpartition("/")[0]][1]
        if declared.restart_limit is None or on_giving_up(spec, above) == "escalate":
            continue  # it does not give up; or the one above gives up with it
        gone = "its spec is gone too" if spec.restart is Restart.TEMPORARY else "its spec stays"
        yield Finding(
            "stays-down",
            path,
            f"it is a supervisor, and {restart_of(spec)}",
            "when its restart limit is reached, that counts as an end by itself: it and all below "
            f"it stay down, {gone}, and its own supervisor goes on without it",
            "say restart='permanent'; or significant=True, if the one above is to end with it",
        )


def _comes_back(tree: Tree) -> Iterator[Finding]:
    for path, declared, spec in tree.levels.values():
        never = declared.auto_shutdown is AutoShutdown.NEVER
        if spec is not None and spec.restart is Restart.PERMANENT and not never:
            yield Finding(
                "comes-back",
                path,
                f"it has auto_shutdown={declared.auto_shutdown.value!r}, and is permanent",
                "when it has shut itself down it is started again, and that is charged to the "
                "limit of its own supervisor",
                "say restart='transient'",
            )


def _nothing_significant(tree: Tree) -> Iterator[Finding]:
    for path, declared, _ in tree.levels.values():
        never = declared.auto_shutdown is AutoShutdown.NEVER
        is_dynamic = declared.strategy is Strategy.DYNAMIC  # its children are not known here
        if never or is_dynamic or any(spec.significant for spec in declared.children):
            continue
        yield Finding(
            "nothing-significant",
            path,
            f"it has auto_shutdown={declared.auto_shutdown.value!r}, and no significant child",
            "it never shuts itself down, unless a significant child is added later",
            "give significant=True to the children whose end is to be its end",
        )


def _temporary_in_group(tree: Tree) -> Iterator[Finding]:
    for path, declared, _ in tree.levels.values():
        for number, spec in enumerate(declared.children):
            others = list(declared.children[:number])
            if declared.strategy is Strategy.ONE_FOR_ALL:
                others += declared.children[number + 1 :]
            elif declared.strategy is not Strategy.REST_FOR_ONE:
                continue
            taking = [other for other in others if is_restarted(other)]
            if spec.restart is Restart.TEMPORARY and taking:
                yield Finding(
                    "temporary-in-group",
                    below(path, spec.id),
                    f"it is temporary, and {named(path)} is {declared.strategy.value}",
                    f"when {taking[0].id!r} is restarted it is ended with it, is not started "
                    "again, and its spec is gone",
                    "say restart='transient', or let another supervisor have it",
                )


# -- the end ---------------------------------------------------------------------------------


def _short_shutdown(tree: Tree) -> Iterator[Finding]:
    for path, declared, spec in tree.levels.values():
        seconds = None if spec is None else spec.shutdown_seconds
        needed = _time_to_end(declared)
        if seconds is None or needed <= seconds * (1 + ROUNDING):
            continue
        given = "is ended brutally" if seconds == 0 else f"has {seconds:g} s to end"
        need = "as long as it takes" if needed == EVER else f"{needed:g} s"
        yield Finding(
            "short-shutdown",
            path,
            f"it {given}, and its children, one after the other, may take {need}",
            "those whose turn does not come in time are ended without on_kill and on_stop",
            "leave its shutdown to the default, which lets each child have its own time",
        )


def _time_to_end(declared: ComponentSupervisor) -> float:
    """Seconds that the children may take, each until it is forced."""
    total = 0.0
    for spec in declared.children:
        seconds = spec.shutdown_seconds
        if seconds is None and isinstance(spec.factory, ComponentSupervisor):
            seconds = _time_to_end(spec.factory)
        total += EVER if seconds is None else seconds
    return total


def _endless_shutdown(tree: Tree) -> Iterator[Finding]:
    for path, spec in tree.top.walk():
        if spec.shutdown is None and not spec.is_supervisor:
            yield Finding(
                "endless-shutdown",
                path,
                "its shutdown is None, and it is no supervisor",
                "if it hangs, its supervisor waits for it for ever: in a shutdown, and in every "
                "restart that takes this child down with others",
                "give seconds; it is ended by force after that",
            )


_RULES: tuple[Callable[[Tree], Iterator[Finding]], ...] = (
    _stays_down,
    _comes_back,
    _nothing_significant,
    _temporary_in_group,
    _short_shutdown,
    _endless_shutdown,
)
