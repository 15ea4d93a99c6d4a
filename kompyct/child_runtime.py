"""What does a component in a process of its own take for the inside of its system?"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from _thread import allocate_lock
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from kompyct import events
from kompyct.backends import Graveyard
from kompyct.clock import SECOND
from kompyct.codecs import decode
from kompyct.component import Component
from kompyct.deadline import Deadline
from kompyct.far import FarCell, FarFuture, FarOutlet, FarSystem, ToParent
from kompyct.far_groups import FarGroups, FarWatches
from kompyct.fault_classes import FaultClass, classify
from kompyct.faults import FaultContext
from kompyct.lifecycle import Phase
from kompyct.messages import LateReplies
from kompyct.options import Options
from kompyct.processes import protocol
from kompyct.processes.frames import pack
from kompyct.processes.protocol import Assignment, Fault
from kompyct.processes.travel import pack_exception
from kompyct.ref import ComponentRef, living_systems, ref_to
from kompyct.reports import users_frames

if TYPE_CHECKING:
    from kompyct.inside import Loop

FORWARDED = (events.BenignError, events.ResourceNotClosed)
"""Events of the child that are not also the parent's own."""


class ChildRuntime:
    """What the one cell of a child shares with its system, as far as it needs it."""

    stopping = False
    writer = None

    def __init__(self, loop: Loop, assignment: Assignment) -> None:
        self._loop = loop
        self.parent = loop.parent
        self.backend = loop  # so that `ask_async` hears its reply
        self.key = assignment.key
        self.name = assignment.system
        self.clock = loop
        self.codec = decode(assignment.codec)
        self.durability = assignment.durability
        self.groups = FarGroups(self)
        self.watches = FarWatches(self)
        self.system = FarSystem(assignment.system, loop.parent, loop, self.groups)
        self.options = Options(
            time_limit=assignment.time_limit,
            memory_limit=assignment.memory_limit,
            poison_after=None,  # the parent counts
        )
        self.signals = allocate_lock()  # protects the `control` of the cell
        self.orders = count(1)
        self.late_replies = LateReplies()
        self._others: WeakValueDictionary[int, FarCell] = WeakValueDictionary()
        self.checked_classes: set[type[Component[Any]]] = set()
        living_systems[self.key] = self
        root = logging.getLogger()
        root.handlers = [ToParent(loop.parent)]
        root.setLevel(assignment.log_level)

    def emit(self, event: object) -> None:
        """Have an event published, unless the parent tells the same by itself."""
        if isinstance(event, FORWARDED):
            self.parent.send(pack(protocol.EVENT, event))

    def supervise(self, fault: FaultContext[Any]) -> None:
        """Tell the parent of a fault: that is the end of this process."""
        facts = fault._facts
        told = Fault(
            pack_exception(fault.exception),
            fault.traceback,
            fault.location,
            facts.phase.value,
            facts.fault_class.value,
            facts.kind.value,
        )
        self.parent.send(pack(protocol.FAULT, told))
        self._loop.over = True

    def undelivered(self, cell: Any, messages: Sequence[Any], reason: str) -> None:
        """Nothing: the parent has kept them, and makes dead letters of them."""

    def outlet(self, cell: Any, name: str) -> FarOutlet:
        """See `Runtime.outlet`; which channels there are, the parent knows."""
        return FarOutlet(self.parent, cell.path, name)

    def forget(self, cell: Any) -> Graveyard:
        """The component has ended, and so has this process."""
        self._loop.over = True
        return Graveyard()

    def tell_watchers(self, cell: Any) -> None:
        """Nothing: the parent does."""

    def watch(self, deadline: Deadline) -> None:
        """See `Runtime.watch`; each on a thread of its own, since there are few."""

        def expire() -> None:
            time.sleep(max(deadline.due - self.clock.now(), 0) / SECOND)
            if deadline.claim():
                deadline.expire()

        threading.Thread(target=expire, name="kompyct-deadline", daemon=True).start()

    def unwatch(self, deadline: Deadline) -> None:
        """It is claimed, and so does nothing."""

    def mark(self, stored: object) -> None:
        """Nothing: recoveries are the parent's."""

    def note_interrupt(self, interrupt: BaseException) -> None:
        """Nothing: Ctrl+C is for the parent."""

    def decode(self, snapshot: bytes) -> Any:
        """See `Runtime.decode`."""
        return self.codec.decode(snapshot)

    def bound(self, call: Callable[[], Any]) -> Any:
        """See `Runtime.bound`; refs of earlier runs are bound by the parent."""
        return call()

    def new_future(self) -> Future[Any]:
        """See `Runtime.new_future`."""
        return FarFuture(self._loop.hear_until)

    def proxy(self, ref: ComponentRef[Any]) -> Any:
        """Refuse: a proxy needs the component itself.

        Raises:
            ArgumentTypeError: always.
        """
        FarCell(self, 0, ref.path).incarnation_now()

    def ref_of(self, number: int, path: str) -> ComponentRef[Any]:
        """A ref of the component of that number, wherever it is."""
        own = self._loop.own
        if own is not None and own.id == number:
            return ref_to(own)
        # One object for one component, so that two refs of it are equal.
        cell = self._others.get(number)
        if cell is None:
            cell = self._others[number] = FarCell(self, number, path)
        return ComponentRef(cell)  # type: ignore[arg-type]


def told_of(error: BaseException) -> Fault:
    """What the parent is told of an exception of the factory."""
    frames = users_frames(error.__traceback__)
    lines = traceback.format_exception(type(error), error, frames)
    fault_class = classify(error, {})
    if fault_class is FaultClass.BENIGN:  # it has made nothing that could carry on
        fault_class = FaultClass.RECOVERABLE
    place = traceback.extract_tb(frames)
    location = "unknown place"
    if place:
        location = f"{place[-1].filename}:{place[-1].lineno} in {place[-1].name}"
    return Fault(
        pack_exception(error), "".join(lines), location, Phase.CREATE.value, fault_class.value
    )
