"""How does what a component saves in its own process become its registration here?

The child writes each save into memory that outlives it, with what is known of it there; the
parent takes it up when it is told to, when the child has ended, and before it flushes.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kompyct.functions import find_function
from kompyct.lifecycle import Phase
from kompyct.registration import Registration

if TYPE_CHECKING:
    from kompyct.faults import FaultContext, RecoveryHandler
    from kompyct.processes.saves import Save


class Found:
    """A recovery function that is looked up when it is called, in the system's process."""

    __slots__ = ("_bound", "_path", "_stored_as")

    def __init__(
        self, stored_as: str | bytes, path: str, bound: Callable[[Callable[[], Any]], Any]
    ) -> None:
        self._stored_as = stored_as
        self._path = path
        self._bound = bound  # `Runtime.bound`

    def __call__(self, fault: FaultContext[Any]) -> RecoveryHandler:
        """Call it.

        Raises:
            RecoveryImportError, VersionError: it cannot be found here.
        """
        function = self._bound(lambda: find_function(self._stored_as, self._path))
        return function(fault)  # type: ignore[no-any-return]


def facts_of(registration: Registration) -> bytes:
    """What is to be known of a save beside its data; `stored_as` has been set."""
    hook = registration.hook
    return pickle.dumps(
        (
            registration.stored_as,
            registration.saved_at,
            registration.position,
            registration.period,
            None if hook is None else hook.value,
        ),
        5,
    )


def registration_of(
    save: Save, path: str, bound: Callable[[Callable[[], Any]], Any]
) -> Registration:
    """The registration of a save, with nothing before it yet."""
    stored_as, saved_at, position, period, hook = pickle.loads(save.facts)
    registration = Registration(
        Found(stored_as, path, bound),
        save.data,
        saved_at,
        position,
        period,
        None if hook is None else Phase(hook),
    )
    registration.stored_as = stored_as
    return registration
