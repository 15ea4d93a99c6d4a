"""How does a component in a process of its own watch others, and use groups?

The tables of watches and groups are in the system's process; here is what asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kompyct.errors import ArgumentError, UnpicklableError
from kompyct.groups import Choice, find_group
from kompyct.lost import LostRuntime
from kompyct.names import check_not_made
from kompyct.processes import protocol
from kompyct.processes.frames import pack, raw
from kompyct.ref import ComponentRef
from kompyct.registry import check_name
from kompyct.watching import target_of

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.far import Parent

M = TypeVar("M")


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


class FarGroup(Generic[M]):
    """See `Group`; here it has no list of members, which would be old at once."""

    refs: tuple[ComponentRef[M], ...] = ()

    def __init__(self, runtime: Any, name: str) -> None:
        self._runtime = runtime
        self.name = name

    def join(self, ref: ComponentRef[M]) -> None:
        """See `Group.join`."""
        check_not_made(target_of(ref), f"a member of group {self.name!r}")
        self._runtime.parent.call("group", self.name, "join", ref)

    def leave(self, ref: ComponentRef[M]) -> None:
        """See `Group.leave`."""
        target_of(ref)
        self._runtime.parent.call("group", self.name, "leave", ref)

    def members(self) -> tuple[ComponentRef[M], ...]:
        """See `Group.members`."""
        found: tuple[ComponentRef[M], ...]
        found = self._runtime.parent.call("group", self.name, "members")
        return found

    def tell_chosen(self, choice: Choice, message: M) -> None:
        """Have the system's process choose, and tell.

        Raises:
            UnpicklableError: the message cannot go there.
        """
        try:
            parts = pack(protocol.ROUTE, (self.name, choice, message))
        except Exception as error:
            raise UnpicklableError(
                f"a {type(message).__qualname__} for group {self.name!r} cannot be pickled "
                f"({type(error).__name__}); send plain data"
            ) from error
        self._runtime.parent.send(parts)

    def __repr__(self) -> str:
        return f"<FarGroup {self.name!r} in {self._runtime.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return find_group, (self._runtime.key, self.name)


class FarGroups:
    """See `Groups`."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def get(self, name: str) -> FarGroup[Any]:
        """See `Groups.get`."""
        check_name(name)
        return FarGroup(self._runtime, name)
