"""Which components have been in one handler for too long? It is told of, and nothing interrupted.

A thread of its own looks at all components four times in the time that is too long. What a
component does is told from how many messages it has taken in hand: so handlers pay nothing.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kompyct.clock import SECOND
from kompyct.events import ComponentStalled
from kompyct.interrupts import stack_of
from kompyct.processes.board import BEGUN, DONE, PHASE, POSITION
from kompyct.reports import identity

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.runtime import Runtime

_logger = logging.getLogger("kompyct")

LOOKS = 4
"""So often each component is looked at in the time after which it counts as stalled."""


class StallWatch:
    """Emits `ComponentStalled` once for each handler or hook that runs for `limit` nanoseconds."""

    def __init__(self, runtime: Runtime, limit: int) -> None:
        self._runtime = runtime
        self._limit = limit
        # By the component's number: what it was doing, since when it was seen to, and whether
        # that was told.
        self._seen: dict[int, tuple[Any, int, bool]] = {}

    def start(self) -> None:
        """Watch until the system has ended.

        Raises:
            RuntimeError: the operating system gives no thread.
        """
        name = f"{self._runtime.name}-stalls"
        threading.Thread(target=self._watch, name=name, daemon=True).start()

    def _watch(self) -> None:
        runtime = self._runtime
        while True:
            try:
                runtime.over.result(self._limit / LOOKS / SECOND)
            except TimeoutError:
                self._look(runtime.clock.now())
            else:
                return

    def _look(self, now: int) -> None:
        seen = {}
        for cell in self._runtime.registry.all():
            try:
                doing, ident = _doing(cell)
            except Exception:  # a bug: the others are to be looked at all the same
                _logger.exception("component %r could not be looked at", cell.path)
                continue
            if doing is None:
                continue
            before, since, told = self._seen.get(cell.id, (None, now, False))
            if before != doing:
                since, told = now, False
            if not told and now - since >= self._limit:
                told = True
                stack = str(stack_of(ident).of_handler()) if ident else ""
                self._runtime.emit(
                    ComponentStalled(*identity(cell), (now - since) / SECOND, stack)
                )
            seen[cell.id] = (doing, since, told)
        self._seen = seen


def _doing(cell: Cell) -> tuple[Any, int]:
    """What the component is doing, something else for each message, and its thread or 0.

    None if it does nothing.
    """
    kind = cell.backend.kind
    component: Any = cell.component
    if component is None or kind not in ("thread", "pool", "process"):  # it has ended
        return None, 0
    if kind == "process":
        with suppress(ValueError):  # its memory has been let go
            numbers = component.child.board.numbers
            if numbers[BEGUN] != numbers[DONE] or numbers[PHASE]:
                return (cell.incarnation, numbers[POSITION], numbers[PHASE]), 0
        return None, 0
    if cell.asleep or not cell.flag.locked():
        return None, 0
    if cell.options.inline_asks:  # it may run in an asker's thread, of which nobody knows
        ident = 0
    else:
        ident = cell.backend.thread_of(cell)
        if not ident:
            return None, 0
    return (cell.incarnation, cell.position(), cell.hook), ident
