"""How does a component send events through its ports?"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from kompyct.errors import (
    IncarnationEndedError,
    MailboxFullError,
    NotStartedError,
    PortAccessError,
    PortTypeError,
)
from kompyct.messages import NOBODY, Arrival, Envelope, arriving
from kompyct.waiting import here

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.component import Component
    from kompyct.ports import Declared

T = TypeVar("T", contravariant=True)

FULL = "its mailbox is full"
"""Why an event became a dead letter, which is no business of who triggers."""

Targets = tuple[tuple[Any, Arrival], ...]
"""What an event goes to: cells, and what happens there."""


class OwnPort(Generic[T]):
    """A port of a component, as its own code sees it."""

    __slots__ = ("_cell", "_component", "_declared", "_exactly", "_incarnation", "_outlet")

    def __init__(self, component: Component[Any], declared: Declared[Any, Any]) -> None:
        self._declared = declared
        self._exactly = frozenset(declared.sends)  # the quick look; their subclasses take longer
        # The component itself only until it is complete: it refers to this, and is to go away
        # at its end without the garbage collector.
        self._component: Component[Any] | None = component
        self._cell: Cell | None = None
        self._incarnation = 0
        self._outlet: Any = None

    def trigger(self, event: T) -> None:
        """Send `event` to every component that is connected, and go on.

        It goes through their mailboxes, in order with what else this component sends them. Where
        none is connected it is dropped. A full mailbox that would refuse a message makes a dead
        letter of it.

        Raises:
            PortTypeError: the port does not carry this event in this direction.
            PortAccessError: called elsewhere than in the handlers, hooks and timers of the
                component.
            NotStartedError: called in `__init__`.
            IncarnationEndedError: this incarnation has ended.
            UnpicklableError: called in a process of its own, and the event cannot leave that.
        """
        cell = self._cell
        runner = here.runner
        if (
            runner is None
            or cell is None
            or runner.cell is not cell
            or cell.incarnation != self._incarnation
            or cell.component is None
        ):
            cell = self._checked()
        if type(event) not in self._exactly and not isinstance(event, self._declared.sends):
            _refuse_event(self._declared, cell.path, event)
        targets = self._outlet.targets
        if targets is None:
            targets = self._outlet.renew()
        if len(targets) != 1:
            deliver(event, targets)
            return
        ((target, arrival),) = targets  # mostly; as `deliver` does it, without its calls
        try:
            target.box.append(Envelope(event, MethodType(arrival, event), NOBODY))
        except MailboxFullError:
            target.runtime.undelivered(target, [event], FULL)
        if target.asleep:
            target._wake()

    def _checked(self) -> Cell:
        """The cell, if the component may trigger now.

        Raises: as `trigger`.
        """
        component = self._component
        if component is not None:
            cell = component._kompyct_living_cell()
            incarnation = cell.incarnation
            component._kompyct_living_cell()  # once more: that may be a later one (S-06)
            if component._kompyct_cell is None:
                raise NotStartedError(
                    f"component {cell.path!r} is being made; trigger its ports from on_start on"
                )
            self._outlet = cell.runtime.outlet(cell, self._declared.name)
            self._incarnation = incarnation
            self._cell = cell  # last: another thread that sees it finds the rest
            self._component = None
        found: Any = self._cell
        if found.incarnation != self._incarnation or found.component is None:
            raise IncarnationEndedError(
                f"this incarnation of component {found.path!r} has ended; nothing was triggered"
            )
        runner = here.runner
        if runner is None or runner.cell is not found:
            raise PortAccessError(
                f"port {self._declared.name!r} of component {found.path!r} is triggered from "
                "outside of its handlers, hooks and timers; tell the component, and trigger there"
            )
        return self._cell  # type: ignore[return-value]  # it has been set by now

    def __repr__(self) -> str:
        return f"<OwnPort {self._declared.name!r}>"


def deliver(event: Any, targets: Targets) -> None:
    """Put `event` into the mailboxes of `targets`."""
    envelope: Envelope | None = None
    before: Arrival | None = None
    for target, arrival in targets:
        if envelope is None or arrival is not before:  # mostly their ports have the same name
            before = arrival
            envelope = arriving(event, arrival)
        try:
            target.box.append(envelope)
        except MailboxFullError:
            target.runtime.undelivered(target, [event], FULL)
        if target.asleep:
            target._wake()


def _refuse_event(declared: Declared[Any, Any], path: str, event: object) -> NoReturn:
    what = "indications" if declared.is_provided else "requests"
    choices = ", ".join(one.__qualname__ for one in declared.sends) or "none"
    raise PortTypeError(
        f"port {declared.name!r} of component {path!r} was triggered with {event!r}, a "
        f"{type(event).__qualname__}; the {what} of {declared.port.__qualname__} are: {choices}"
    )
