"""Which components are there?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from unicodedata import category

from kompyct.clock import SECOND
from kompyct.errors import ArgumentError, ArgumentTypeError, DuplicateNameError
from kompyct.lifecycle import State

if TYPE_CHECKING:
    from kompyct.cell import Cell

MAX_NAME = 200
"""Characters of a name at most (S-23)."""


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A component as `system.tree()` saw it.

    Attributes:
        component_id: its number, unique in its system; 0 for the root.
        name: as given to `create`, or None.
        path: where it stands.
        state: what it does with its messages.
        incarnation: which one runs; the first is 1.
        restarts: restarts within the window of its budget.
        backend: where it runs.
        mailbox_length: messages that wait, about.
        snapshot_age: seconds since the last snapshot was saved; None without one.
        children: its components, in the order of their creation.
    """

    component_id: int
    name: str | None
    path: str
    state: State
    incarnation: int
    restarts: int
    backend: str
    mailbox_length: int
    snapshot_age: float | None
    children: tuple[TreeNode, ...] = ()

    @property
    def status(self) -> str:
        """`running`, `restarting` or `stopped`, in OTP's sense of the words."""
        return _STATUS[self.state]

    def counts(self) -> dict[str, int]:
        """How many components below this are `running`, `restarting` and `stopped`."""
        counts: dict[str, int] = {"running": 0, "restarting": 0, "stopped": 0}
        waiting = [*self.children]
        while waiting:
            node = waiting.pop()
            counts[node.status] += 1
            waiting += node.children
        return counts


_STATUS = {
    State.ACTIVE: "running",
    State.FAULTY: "restarting",
    State.PASSIVE: "stopped",
    State.DESTROYED: "stopped",
}


class Registry:
    """The living components of a system, by number and by name.

    Every change is one operation on a dict, which is atomic; names are unique since a name is
    taken by `setdefault`.
    """

    def __init__(self) -> None:
        self._cells: dict[int, Cell] = {}
        self._names: dict[str, Cell] = {}

    def take_name(self, cell: Cell, name: str) -> None:
        """Give `name` to `cell`.

        Raises:
            DuplicateNameError: a living component has it.
        """
        holder = self._names.setdefault(name, cell)
        if holder is not cell:
            raise DuplicateNameError(
                f"there is a component {name!r} already, and it is {holder.state.value}; "
                "choose another name, or end that one first"
            )

    def pass_name_on(self, cell: Cell, name: str) -> None:
        """Give `name` to `cell`, whoever has it."""
        self._names[name] = cell

    def free_name(self, cell: Cell) -> None:
        """Take the name from `cell`, unless it has passed to another."""
        if cell.name is not None and self._names.get(cell.path) is cell:
            del self._names[cell.path]

    def add(self, cell: Cell) -> None:
        """Enter `cell`."""
        self._cells[cell.id] = cell

    def remove(self, cell: Cell) -> None:
        """Strike `cell` out, and free its name."""
        self.free_name(cell)
        self._cells.pop(cell.id, None)

    def get(self, number: int | None) -> Cell | None:
        """The living component of that number."""
        return None if number is None else self._cells.get(number)

    def find(self, path: str) -> Cell | None:
        """The living component at `path`."""
        return self._names.get(path)

    def in_start_order(self) -> list[Cell]:
        """Everything, the first started first; those never started come last."""
        never = float("inf")
        return sorted(self.all(), key=lambda cell: (cell.order or never, cell.id))

    def nodes(self, now: int) -> tuple[TreeNode, ...]:
        """A picture of every component at `now`, nanoseconds, below its supervisor."""
        below: dict[Cell | None, list[Cell]] = {}
        for cell in self.all():
            below.setdefault(cell.parent, []).append(cell)
        return _nodes(None, below, now)

    def __len__(self) -> int:
        return len(self._cells)

    def all(self) -> list[Cell]:
        return [*self._cells.values()]  # one operation: others may change the dict meanwhile


def check_name(name: object, what: str = "name") -> None:
    """Refuse what cannot be a name (S-23); `what` is how a message calls it.

    Raises:
        ArgumentTypeError: it is no text.
        ArgumentError: it is empty, too long, or has a `/` or control characters.
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(f"{what} is {name!r}; give a text of 1 to {MAX_NAME} characters")
    if not 1 <= len(name) <= MAX_NAME:
        shown = name if len(name) <= 20 else f"{name[:20]}..."
        raise ArgumentError(f"{what} {shown!r} has {len(name)} characters; give 1 to {MAX_NAME}")
    if "/" in name or any(category(letter) == "Cc" for letter in name):
        raise ArgumentError(f"{what} {name!r} has a '/' or a control character; leave it out")


def _nodes(
    parent: Cell | None, below: dict[Cell | None, list[Cell]], now: int
) -> tuple[TreeNode, ...]:
    return tuple(_node(cell, _nodes(cell, below, now), now) for cell in below.get(parent, ()))


def _node(cell: Cell, children: tuple[TreeNode, ...], now: int) -> TreeNode:
    history = cell._history
    recent = cell.options.budget.recent(history.restarts, now) if history is not None else ()
    component = cell.component
    registration = cell.recovery
    if component is not None and component._kompyct_registration is not None:
        registration = component._kompyct_registration
    state = cell.state
    if history is not None and history.fault is not None:
        state = State.FAULTY  # also while the replacement is in its on_start
    age = None
    if registration is not None and registration.data is not None:
        age = (now - registration.saved_at) / SECOND
    return TreeNode(
        cell.id,
        cell.name,
        cell.path,
        state,
        cell.incarnation,
        len(recent),
        cell.backend.kind,
        cell.waiting(),
        age,
        children,
    )
