"""How does a component in a process of its own watch others?

The table of watches is in the system's process; here is what asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kompyct.errors import ArgumentError
from kompyct.lost import LostRuntime
from kompyct.processes import protocol
from kompyct.processes.frames import raw
from kompyct.ref import ComponentRef
from kompyct.watching import target_of

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.far import Parent


class FarWatches:
    """See `Watches`; those of the one component of this process."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._parent: Parent = runtime.parent
        self._unwanted: set[int] = set()  # notices that are on their way here, or have come

    def watch(self, watcher: Cell, ref: ComponentRef[Any]) -> None:
        """See `Watches.watch`."""
        self._check(ref)
        self._parent.call("watch", ref)

    def unwatch(self, watcher: Cell, ref: ComponentRef[Any]) -> None:
        """See `Watches.unwatch`."""
        self._check(ref)
        number = self._parent.call("unwatch", ref)
        if number:
            self._unwanted.add(number)

    def take(self, number: int) -> bool:
        """Whether the notice of that number, which is delivered now, is still wanted."""
        if number in self._unwanted:
            self._unwanted.discard(number)
            return False
        self._parent.send(raw(protocol.TAKEN, number=number))
        return True

    def _check(self, ref: object) -> None:
        target = target_of(ref)
        if target.runtime is not self._runtime and not isinstance(target.runtime, LostRuntime):
            raise ArgumentError(
                f"component {target.path!r} belongs to system {target.runtime.name!r}, which this "
                "component has made in its own process; watch it from a component there"
            )
