"""Who is told when a component has ended for good?

A watch is entered in the table of the watched one's system, and taken out of it by whoever is
first: the end, which tells the watcher, or the watcher, which has lost interest. The end looks
into the table when the component's names are free; whoever enters a watch looks, with the same
lock, whether it has come to that. So each watch gets one notice, and its watcher finds the name
free. Nothing is kept in the watched one, nor in a component that watches nobody.

Until its notice is delivered, a watch is in the table of its watcher as well, which may take it
back: a notice that is queued by then is left out when its turn comes.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Hashable
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from kompyct.errors import ArgumentError, ArgumentTypeError
from kompyct.futures import complete
from kompyct.lost import LostCell
from kompyct.messages import Envelope
from kompyct.notices import Terminated
from kompyct.ref import ComponentRef, key_of

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.component import Component


class EndReason(str):
    """Why a component has ended, if a fault led to it; `error` is the type of its exception."""

    __slots__ = ("error",)
    error: str

    def __new__(cls, reason: str, error: str) -> Self:
        made = super().__new__(cls, reason)
        made.error = error
        return made


class Watch:
    """One wait for the end of one component. As the action of its notice, it delivers that.

    `watcher` gets it as a message, or `future` as its result.
    """

    __slots__ = (
        "future", "is_over", "key", "notice", "number", "ref", "target", "watcher",
    )  # fmt: skip

    def __init__(
        self,
        ref: ComponentRef[Any],
        target: Cell,
        watcher: Cell | None,
        future: Future[Terminated] | None,
    ) -> None:
        self.ref = ref
        self.target = target
        self.key = key_of(target)
        self.watcher = watcher
        self.future = future
        self.notice: Terminated | None = None  # as soon as there is one
        self.number = 0  # of the notice, once that was sent on to the watcher's own process
        self.is_over = False  # whether its notice was delivered, or is not wanted any more

    def __call__(self, component: Component[Any]) -> object:
        """Deliver the notice, unless it is not wanted any more."""
        watcher = self.watcher
        assert watcher is not None
        if watcher.runtime.watches.take(self):
            return component.on_receive(self.notice)
        return None


_lock = allocate_lock()
"""Protects the tables of every system: one may watch a component of another."""


class Watches:
    """Who watches the components of a system, and whom these watch. For any thread."""

    def __init__(self) -> None:
        self._on: dict[Cell, dict[Watch, None]] = {}  # those on a component of this system
        self._of: dict[Cell, dict[Hashable, Watch]] = {}  # those of one, by the target's key
        self._sent: dict[int, Watch] = {}  # those whose notice is in another process
        self._numbers = count(1)  # of those
        self._is_closed = False

    def watch(self, watcher: Cell, ref: ComponentRef[Any]) -> None:
        """Have `watcher` told of the end of `ref`, once.

        Raises:
            ArgumentTypeError: `ref` is no ref.
            ArgumentError: it is the watcher itself.
        """
        target = target_of(ref)
        key = key_of(target)
        if key == key_of(watcher):
            raise ArgumentError(
                f"component {watcher.path!r} cannot watch itself; do in on_kill what is to be "
                "done at its end"
            )
        with _lock:
            if self._is_closed or _is_gone(watcher):
                return  # a late thread of one that can be told nothing any more
            mine = self._of.setdefault(watcher, {})
            if key in mine:
                return
            watch = mine[key] = Watch(ref, target, watcher, None)
            if _enter(watch):
                return
        _tell_late(watch)

    def unwatch(self, watcher: Cell, ref: ComponentRef[Any]) -> int:
        """Have `watcher` not told of the end of `ref`, even if the notice is queued.

        Returns: the number of the notice if it is on its way to the watcher's own process, or
            there; else 0.

        Raises:
            ArgumentTypeError: `ref` is no ref.
        """
        key = key_of(target_of(ref))
        with _lock:
            watch = self._of.get(watcher, {}).get(key)
            if watch is None:
                return 0
            self._strike_out(watch)
            return watch.number

    def ended(self, ref: ComponentRef[Any], future: Future[Terminated]) -> None:
        """Complete `future` at the end of `ref`.

        Raises:
            ArgumentTypeError: `ref` is no ref.
        """
        watch = Watch(ref, target_of(ref), None, future)
        with _lock:
            entered = _enter(watch)
        if not entered:
            _tell_late(watch)
            return

        def forget(done: Future[Terminated]) -> None:
            if done.cancelled():
                with _lock:
                    _leave(watch)

        future.add_done_callback(forget)

    def tell(self, cell: Cell) -> None:
        """Tell those who watch `cell`, which has ended for good, and forget whom it watched."""
        with _lock:
            watches = self._on.pop(cell, None)
            if cell in self._of:
                for watch in (*self._of[cell].values(),):
                    self._strike_out(watch)
        for watch in watches or ():
            _tell(watch, *_end_of(cell))

    def close(self) -> None:
        """Tell of the components that were left behind: their system has ended."""
        with _lock:
            self._is_closed = True
            left = [watch for watches in self._on.values() for watch in watches]
            self._on.clear()
        for watch in left:
            _tell(watch, "its system has ended without it", None)

    # -- on the way of a notice -------------------------------------------------------------

    def take(self, watch: Watch) -> bool:
        """Whether the notice of `watch`, which is delivered now, is still wanted."""
        with _lock:
            if watch.is_over:
                return False
            self._strike_out(watch)
            return True

    def send(self, watch: Watch) -> bool:
        """Whether the notice of `watch` is still wanted, which is now sent to another process.

        From then on its delivery is told by `taken`.
        """
        with _lock:
            if watch.is_over:
                return False
            if not watch.number:
                watch.number = next(self._numbers)
            self._sent[watch.number] = watch
            return True

    def taken(self, number: int) -> None:
        """The notice of that number is delivered now, in another process."""
        with _lock:
            watch = self._sent.get(number)
            if watch is not None:
                self._strike_out(watch)

    def _strike_out(self, watch: Watch) -> None:
        """It is over: delivered, not wanted, or its watcher has ended. With the lock."""
        watch.is_over = True
        self._sent.pop(watch.number, None)
        watcher = watch.watcher
        assert watcher is not None
        mine = self._of.get(watcher)
        if mine is not None:
            mine.pop(watch.key, None)
            if not mine:
                del self._of[watcher]
        _leave(watch)


def is_notice(message: Any) -> bool:
    """Whether `message` is the notice of a watch."""
    return type(message) is Envelope and type(message.action) is Watch


def target_of(ref: object) -> Any:
    """The cell that `ref` leads to.

    Raises:
        ArgumentTypeError: it is no ref.
    """
    if not isinstance(ref, ComponentRef):
        raise ArgumentTypeError(f"{ref!r} is no component ref; give what create returned")
    return ref._cell


def _is_gone(cell: Any) -> bool:
    """Whether the end of `cell` has come so far that its names are free. With the lock."""
    if type(cell) is LostCell:
        return True
    return cell.backend.kind == "none" or cell.runtime.watches._is_closed  # type: ignore[no-any-return]


def _enter(watch: Watch) -> bool:
    """Have the end of its target told; False if that has ended already. With the lock."""
    target = watch.target
    if _is_gone(target):
        return False
    target.runtime.watches._on.setdefault(target, {})[watch] = None
    return True


def _leave(watch: Watch) -> None:
    """Have the end of its target not told. With the lock."""
    target: Any = watch.target
    if type(target) is LostCell:
        return
    on = target.runtime.watches._on
    watches = on.get(target)
    if watches is not None:
        watches.pop(watch, None)
        if not watches:
            del on[target]


def _end_of(cell: Cell) -> tuple[str, str | None]:
    """Why it has ended, and the type of the exception that led to it."""
    reason = cell.reason
    return str(reason), reason.error if isinstance(reason, EndReason) else None


def _tell_late(watch: Watch) -> None:
    target: Any = watch.target
    if type(target) is LostCell:
        _tell(watch, "it had ended before", None)
    elif target.backend.kind == "none":
        _tell(watch, *_end_of(target))
    else:
        _tell(watch, "its system has ended without it", None)


def _tell(watch: Watch, reason: str, error: str | None) -> None:
    notice = Terminated(watch.ref, reason, error)
    if watch.future is not None:
        complete(watch.future, notice)
        return
    watch.notice = notice
    assert watch.watcher is not None
    # If there is no thread for it, it is there all the same, and the next sender tries again.
    with suppress(RuntimeError):
        watch.watcher.send(Envelope(notice, watch))
