"""How is the first incarnation of a component made, or nothing left behind?"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from kompyct import events
from kompyct.ending import discard
from kompyct.errors import (
    ComponentCreateError,
    DuplicateNameError,
    InvalidComponentError,
    ReservedNameError,
)
from kompyct.lifecycle import State
from kompyct.recovery import RecoveryJob
from kompyct.reports import identity
from kompyct.waiting import here

if TYPE_CHECKING:
    from kompyct.cell import Cell


def make_first(cell: Cell) -> None:
    """Reserve the name of `cell`, if it has one, and make its first incarnation.

    The caller holds the flag of the cell afterwards.

    Raises:
        DuplicateNameError: the name is taken.
        ComponentCreateError: the factory raised, which is the cause.
        InvalidComponentError, ReservedNameError: it made something that cannot be used.
        KeyboardInterrupt: Ctrl+C came meanwhile.
    """
    cell.flag.acquire()  # what reaches it through a ref from __init__ waits for what is made
    if cell.name is not None:
        _make_named(cell, cell.name)
        return
    try:
        cell.component = cell.make(cell.factory)
    except BaseException as error:
        _refuse(cell, error)


def _make_named(cell: Cell, name: str) -> None:
    registry = cell.runtime.registry
    recovery = _recovery_of(cell, name)
    if recovery is None:
        registry.take_name(cell, name)
    else:
        registry.pass_name_on(cell, name)
    if recovery is not None:
        recovery.superseded = True  # before the factory: the deadline may pass meanwhile
    try:
        cell.component = cell.make(cell.factory)
    except BaseException as error:
        registry.free_name(cell)
        if recovery is not None:
            recovery.superseded = False
            # The recovery may be over meanwhile, and its component have ended or end just now;
            # and somebody else may have taken the name.
            with suppress(DuplicateNameError):
                registry.take_name(recovery.cell, name)
            if recovery.cell.state is State.DESTROYED:
                registry.free_name(recovery.cell)
        _refuse(cell, error)


def _recovery_of(cell: Cell, name: str) -> RecoveryJob | None:
    """The recovery on this thread whose component bears `name`, which it may pass on (S-11)."""
    runner = here.runner
    job = runner.cell if runner is not None else None
    if type(job) is not RecoveryJob:
        return None
    if job.is_over or cell.runtime.registry.find(name) is not job.cell:
        return None
    return job


def _refuse(cell: Cell, error: BaseException) -> NoReturn:
    """Report that the creation raised `error`, and raise what its caller is to get."""
    discard(cell)
    cell.runtime.emit(events.CreateFailed(*identity(cell), type(error).__qualname__))
    if isinstance(error, KeyboardInterrupt | InvalidComponentError | ReservedNameError):
        raise error
    raise ComponentCreateError(
        f"component {cell.path!r} could not be created: {type(error).__qualname__}; see the cause"
    ) from error
