"""How does each component get a thread of its own? As a pykka actor.

Three private names of pykka are used, which `tests/test_pykka_actors.py` checks against the
installed version: `_start_actor_loop`, since the public `start` would enter the actor into pykka's
global registry, a list whose removal is O(n), `_create_actor_inbox`, and `_envelope.Envelope`.
"""

from __future__ import annotations

import logging
from _thread import get_ident
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from pykka import ThreadingActor
from pykka._envelope import Envelope as PykkaEnvelope

from kompyct.deadline import AbandonedError
from kompyct.lifecycle import State
from kompyct.messages import Ask
from kompyct.waiting import here, wait_for

_logger = logging.getLogger("kompyct")

_WAKE: PykkaEnvelope[None] = PykkaEnvelope(None)

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
DESTROYED = State.DESTROYED


class ThreadBackend:
    """Gives each cell an actor, and so a thread, when it is first woken."""

    kind = "thread"

    def __init__(self, system_name: str, clock: Any) -> None:
        self._name = system_name

    def wake(self, item: Any) -> None:
        """Start an actor for the cell `item`, which it keeps from then on.

        Raises:
            RuntimeError: the operating system gives no more threads; the item was not taken.
        """
        host = _Host(item, self)
        host._start_actor_loop()
        item.backend = host
        host.wake(item)

    def take_over(self, cell: Any) -> None:
        self.wake(cell)

    def thread_of(self, cell: Any) -> int:
        """No thread: it has been given none yet."""
        return 0

    def close(self, timeout: float) -> None:
        """Nothing to end: an actor ends with its component."""


class _Host(ThreadingActor):
    """The actor that runs one cell; each message it gets is the request to run its turns."""

    kind = "thread"
    use_daemon_thread = True

    @staticmethod
    def _create_actor_inbox() -> SimpleQueue[PykkaEnvelope[None]]:
        return SimpleQueue()

    def __init__(self, cell: Any, backend: ThreadBackend) -> None:
        super().__init__()
        self.cell = cell
        self._backend = backend
        self._ident = 0

    def wake(self, item: Any) -> None:
        item.asleep = False
        self.actor_inbox.put(_WAKE)

    def take_over(self, cell: Any) -> None:
        self._backend.wake(cell)

    def on_start(self) -> None:
        here.runner = self
        self._ident = get_ident()

    def thread_of(self, cell: Any) -> int:
        """The thread of this actor."""
        return self._ident

    def on_receive(self, message: None) -> None:
        cell = self.cell
        try:
            while cell.run():
                pass
        except AbandonedError:
            self.actor_stopped.set()
        except BaseException:  # a bug of kompyct's; pykka would stop all actors of the process
            with suppress(BaseException):
                _logger.critical("a turn broke", exc_info=True)
        if cell.state is DESTROYED:
            self.actor_stopped.set()

    def wait(self, target: Any, envelope: Ask, timeout: float) -> bool:
        """See `Runner.wait`."""
        return wait_for(envelope.done, timeout)
