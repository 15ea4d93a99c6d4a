"""What does a watcher get to see of an end, and how does that reach another process?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kompyct.messages import Envelope

if TYPE_CHECKING:
    from kompyct.component import Component
    from kompyct.ref import ComponentRef


@dataclass(frozen=True, slots=True)
class Terminated:
    """The notice that a component has ended for good; see `Component.watch`.

    Attributes:
        ref: the component that was watched.
        reason: why it has ended, in words, as in the event `ComponentEnded`.
        error: the type of the fault's exception that led to the end; None if no fault did, or
            nobody knows any more.
    """

    ref: ComponentRef[Any]
    reason: str
    error: str | None


class OnTheWay:
    """A notice as it goes to another process, where it becomes an envelope."""

    def __init__(self, number: int, notice: Terminated) -> None:
        self._number = number
        self._notice = notice

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self._number, self._notice)


def _arrive(number: int, notice: Terminated) -> Envelope:
    return Envelope(notice, _Arrived(number, notice))


class _Arrived:
    """The action of a notice that has come to its watcher's own process."""

    __slots__ = ("_notice", "_number")

    def __init__(self, number: int, notice: Terminated) -> None:
        self._number = number
        self._notice = notice

    def __call__(self, component: Component[Any]) -> object:
        cell = component._kompyct_cell
        assert cell is not None
        if cell.runtime.watches.take(self._number):  # type: ignore[arg-type]  # see FarWatches
            return component.on_receive(self._notice)
        return None
