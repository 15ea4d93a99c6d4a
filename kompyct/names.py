"""Which component has which service name?

A service name is another one than the path: it is given to a component that is there already, and
follows that through its restarts. It is free again when the component has ended for good.
"""

from __future__ import annotations

from _thread import allocate_lock
from typing import TYPE_CHECKING, Any

from kompyct.errors import ComponentDestroyedError, DuplicateNameError, NotStartedError
from kompyct.lifecycle import State
from kompyct.registry import check_name
from kompyct.waiting import here

if TYPE_CHECKING:
    from kompyct.cell import Cell

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
DESTROYED = State.DESTROYED


class Names:
    """The service names of a system. For any thread.

    A component that ends is DESTROYED before it is struck out here: so whoever enters a name
    afterwards sees that, or is struck out with the rest.
    """

    def __init__(self) -> None:
        self._lock = allocate_lock()  # protects both
        self._cells: dict[str, Cell] = {}
        self._names: dict[Cell, list[str]] = {}

    def register(self, name: str, cell: Cell) -> None:
        """Give `name` to `cell`; that it has it already is fine.

        Raises:
            ArgumentTypeError, ArgumentError: the name cannot be one.
            NotStartedError, ComponentDestroyedError: the component is not there yet, or no more.
            DuplicateNameError: a living component has it.
        """
        check_name(name)
        check_there(cell, "named")
        with self._lock:
            holder = self._cells.get(name)
            if holder is cell:
                return
            if holder is not None and holder.state is not DESTROYED:
                raise DuplicateNameError(
                    f"the name {name!r} belongs to component {holder.path!r}, which is "
                    f"{holder.state.value}; unregister it, or choose another name"
                )
            self._cells[name] = cell
            self._names.setdefault(cell, []).append(name)
        if cell.state is DESTROYED:  # it ended meanwhile, and may have been struck out before
            self.free(cell)
            raise cell.gone()

    def unregister(self, name: str) -> bool:
        """Take `name` from whoever has it; whether somebody had.

        Raises:
            ArgumentTypeError, ArgumentError: it cannot be a name.
        """
        check_name(name)
        with self._lock:
            cell = self._cells.pop(name, None)
            if cell is None:
                return False
            self._names[cell].remove(name)
            if not self._names[cell]:
                del self._names[cell]
            return cell.state is not DESTROYED

    def whereis(self, name: str) -> Cell | None:
        """Who has `name`, if a living component has.

        Raises:
            ArgumentTypeError, ArgumentError: it cannot be a name.
        """
        check_name(name)
        cell = self._cells.get(name)
        return None if cell is None or cell.state is DESTROYED else cell

    def free(self, cell: Cell) -> None:
        """Take all its names from a component that has ended."""
        if cell not in self._names:  # without the lock: who enters one now sees that it has ended
            return
        with self._lock:
            for name in self._names.pop(cell, ()):
                if self._cells.get(name) is cell:  # else it was given on already
                    del self._cells[name]


def check_there(cell: Any, what: str) -> None:
    """Refuse a component that is being made, on this thread, or has ended.

    Raises:
        NotStartedError, ComponentDestroyedError: it is, or has.
    """
    check_not_made(cell, what)
    if cell.state is DESTROYED:
        error: ComponentDestroyedError = cell.gone()
        raise error


def check_not_made(cell: Any, what: str) -> None:
    """Refuse a component that is being made, on this thread: others cannot reach it yet.

    Raises:
        NotStartedError: it is.
    """
    if here.creating is cell:
        raise NotStartedError(
            f"component {cell.path!r} is being made; it can be {what} from on_start on"
        )
