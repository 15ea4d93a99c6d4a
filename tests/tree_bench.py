"""Supervision trees on any backend, and what is seen of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from kompyct import (
    ChildInfo,
    ChildSpec,
    ComponentSupervisor,
    RestartLimit,
    State,
    WhichChildren,
)
from kompyct.clock import SECOND
from kompyct.events import Event
from tests.conftest import LIMIT, Bench
from tests.process.components import Do, Notes
from tests.tree_parts import Leaf, quit_now, raise_it

E = TypeVar("E", bound=Event)

BACKENDS = ("thread", "pool", "manual", "process")
PLENTY = RestartLimit(100, 5.0)
"""A restart limit that no test reaches."""

_numbers = itertools.count(1)


class TreeBench(Bench):
    """A system, and one supervisor at a time that is named `top`."""

    def __init__(self, backend: str, notes: Notes, **options: Any) -> None:
        super().__init__(backend, **options)
        self.notes = notes
        self.top = ""
        self.asker: Any = None  # of a test

    def begin(self, notes: Notes) -> None:
        """Begin with another test."""
        self.notes = notes
        self.top = ""

    # -- making trees -------------------------------------------------------------------------

    def leaf(self, name: str, **given: Any) -> Any:
        """A factory of a `Leaf` that notes."""
        return partial(Leaf, name, self.notes, **given)

    def spec(self, name: str, /, **given: Any) -> ChildSpec:
        """A `Leaf` of that name; `state`, `recovery` and `hooks` are for that, the rest for it."""
        of_leaf = {key: given.pop(key) for key in ("state", "recovery", "hooks") if key in given}
        if "factory" not in given:
            given["factory"] = self.leaf(name, **of_leaf)
        return ChildSpec(id=name, **given)

    def specs(self, names: str, **given: Any) -> list[ChildSpec]:
        """One for each letter."""
        return [self.spec(name, **given) for name in names]

    def tree(self, children: Any = (), strategy: Any = "one_for_one", **options: Any) -> Any:
        """The ref of a new supervisor, which has started."""
        options.setdefault("restart_limit", PLENTY)
        return self.run_tree(ComponentSupervisor(children, strategy, **options))

    def run_tree(self, declared: ComponentSupervisor) -> Any:
        """The ref of a supervisor that has started."""
        ref = self.create_tree(declared)
        self.system.start(ref).result(LIMIT)
        return ref

    def create_tree(self, declared: ComponentSupervisor) -> Any:
        """The ref of a supervisor that has not started."""
        self.top = f"top {next(_numbers)}"
        return self.system.create(declared, name=self.top)

    # -- looking ------------------------------------------------------------------------------

    def child(self, path: str) -> Any:
        """The ref of a component below the supervisor; None if there is none."""
        return self.system.find(f"{self.top}/{path}")

    def infos(self, path: str = "") -> dict[str | None, ChildInfo]:
        """What a supervisor says of its children."""
        ref = self.child(path) if path else self.system.find(self.top)
        assert ref is not None
        return {info.id: info for info in self.infos_of(ref)}

    @staticmethod
    def infos_of(ref: Any) -> tuple[ChildInfo, ...]:
        """What that supervisor says of its children, some of which may have no id."""
        return ref.ask(WhichChildren(), timeout=LIMIT)  # type: ignore[no-any-return]

    def states(self, path: str = "") -> dict[str | None, tuple[str, int]]:
        """State and incarnation of each child, in start order."""
        infos = self.infos(path)
        return {key: (infos[key].state, infos[key].incarnation) for key in infos}

    def of(self, kind: type[E], path: str = "") -> list[E]:
        """The events of that kind about what is below the supervisor, or about itself."""
        wanted = f"{self.top}/{path}" if path else self.top
        return [event for event in self.events.of(kind) if event.path == wanted]

    def event_of(self, kind: type[E], path: str = "", count: int = 1) -> E:
        """Wait for the `count`-th event of that kind about that component."""
        self.until(lambda: len(self.of(kind, path)) >= count)
        return self.of(kind, path)[count - 1]

    def lines(self) -> list[str]:
        """What was noted since it was last asked; what is to be noted at once is."""
        self.settle()
        all_lines = self.notes.lines()
        new = all_lines[self._seen :] if self._notes_seen is self.notes else all_lines
        self._notes_seen = self.notes
        self._seen = len(all_lines)
        return new

    _seen = 0
    _notes_seen: Notes | None = None

    # -- doing --------------------------------------------------------------------------------

    def fail(self, path: str, error: BaseException | None = None) -> None:
        """Have a component fault; returns when the message is on its way."""
        self.child(path).tell(Do(raise_it, (error or ValueError("as planned"),)))

    def quit(self, path: str) -> None:
        """Have a component end by itself."""
        self.child(path).tell(Do(quit_now))

    def now(self) -> float:
        """Seconds on the system's clock, which in virtual time is that."""
        return self.system.clock.now() / SECOND

    def up(self, path: str, incarnation: int) -> None:
        """Wait until that incarnation runs, and its supervisor knows."""
        parent, _, name = path.rpartition("/")

        def is_up() -> bool:
            ref = self.child(path)
            if ref is None or ref.state is not State.ACTIVE or ref.incarnation != incarnation:
                return False
            return bool(self.states(parent)[name] == ("running", incarnation))

        self.until(is_up)

    def stands(self, expected: Mapping[str, tuple[str, int]], path: str = "") -> None:
        """Wait until the children are so: state and incarnation, in start order."""
        self.until(lambda: list(self.states(path).items()) == list(expected.items()))

    def gone(self, path: str = "") -> None:
        """Wait until there is nothing of that path."""
        whole = f"{self.top}/{path}" if path else self.top
        self.until(lambda: self.system.find(whole) is None)

    def clear(self) -> None:
        """End everything, so that another test finds the system empty."""
        for node in self.system.tree().children:
            ref = self.system.find(node.path)
            if ref is not None:
                self.system.kill(ref, brutal=True).result(LIMIT)
        self.events.clear()
