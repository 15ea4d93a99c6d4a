"""Where do components run?

A backend is told by `wake(item)` that something is ready: a cell, whose flag the caller holds, or
anything else with `run() -> bool`. It sets `item.asleep = False` and has `item.run()` called until
that returns False. `take_over(cell)` has it do the same for a cell whose turn was abandoned.
`close(timeout)` ends its threads.

A `wake` that raises RuntimeError, for want of a thread or of stack, has not taken the item: the
caller gives the flag back.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

from kompyct.deadline import AbandonedError
from kompyct.errors import ProcessStartError
from kompyct.options import check_kind


class Graveyard:
    """Where cells run that have ended: on the thread of whoever sends them something."""

    kind = "none"

    def wake(self, item: Any) -> None:
        item.asleep = False
        with suppress(AbandonedError):
            while item.run():
                pass

    def take_over(self, cell: Any) -> None:
        self.wake(cell)


_BACKENDS = {
    "thread": ("kompyct.backends.thread", "ThreadBackend"),
    "pool": ("kompyct.backends.pool", "PoolBackend"),
    "process": ("kompyct.backends.process", "ProcessBackend"),
    "manual": ("kompyct.backends.manual", "ManualBackend"),
}


def make_backend(kind: str, system_name: str, clock: Any, pool: Any = None) -> Any:
    """A new backend of `kind`; "process" needs the pool of the same system.

    Raises:
        UnknownBackendError: there is none of that kind.
        ProcessStartError: it is "process", and this is not Linux.
    """
    check_kind(kind)
    if kind == "process" and sys.platform != "linux":
        raise ProcessStartError(
            f"components in processes of their own need Linux, and this is {sys.platform!r}; "
            "use backend='thread', and kompyct.guard for the whole program"
        )
    module, name = _BACKENDS[kind]
    needs = clock if pool is None else pool
    return getattr(import_module(module), name)(system_name, needs)
