"""How is the first incarnation of a component made, or nothing left behind?"""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from kompyct import events, signals
from kompyct.ending import discard, discard_in_turn, is_left_behind
from kompyct.errors import (
    ComponentCreateError,
    DuplicateNameError,
    InvalidComponentError,
    NotNeededError,
    ProcessStartError,
    RecoveryImportError,
    ReservedNameError,
    StoreError,
    UnpicklableError,
)
from kompyct.lifecycle import State
from kompyct.news import News
from kompyct.recovery import RecoveryJob
from kompyct.reports import identity
from kompyct.waiting import here

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.writer import Writer


def make_first(cell: Cell, *, fresh: bool) -> bool:
    """Reserve the name of `cell`, if it has one, and make its first incarnation.

    Args:
        fresh: whether to leave alone what an earlier process has stored of it.

    Returns: whether the caller holds the flag of the cell, which is to be registered; False if
        the component has gone on from what was stored of it, see `claims`.

    Raises:
        RecoveryImportError, VersionError, StoreError: it cannot go on from what is stored.
        DuplicateNameError: the name is taken.
        ComponentCreateError: the factory raised, which is the cause.
        InvalidComponentError, ReservedNameError: it made something that cannot be used.
        KeyboardInterrupt: Ctrl+C came meanwhile.
    """
    cell.flag.acquire()  # what reaches it through a ref from __init__ waits for what is made
    if cell.name is not None:
        return _make_named(cell, cell.path, fresh=fresh)
    try:
        cell.component = cell.make(cell.factory)
    except BaseException as error:
        _refuse(cell, error)
    return True


def begin(cell: Cell) -> None:
    """Make the first incarnation of a child and start it, in its turn; its supervisor is told.

    What is stored of it comes first, see `claims`.
    """
    parent = cell.parent
    assert parent is not None
    try:
        writer = cell.runtime.writer
        if writer is not None and cell.is_named:
            from kompyct import claims  # most systems have no store

            snapshots = claims.attach(writer, cell, cell.path, fresh=False)
            if snapshots:
                claims.go_on_in_turn(cell, snapshots)
                return
        cell.component = cell.make(cell.factory)
        if cell.stored is not None and is_left_behind(cell):
            cell.stored.forget()
            cell.stored = None
        elif cell.stored is not None and writer is not None:
            writer.components[cell.path] = cell.stored
    except NotNeededError:
        discard_in_turn(cell)
        parent.hear(News.NOT_NEEDED, cell)
        return
    except BaseException as error:
        refuse_in_turn(cell, error)
        return
    if signals.activate(cell):
        cell.order = next(cell.runtime.orders)
        parent.hear(News.STARTED, cell)


def refuse_in_turn(cell: Cell, error: BaseException) -> None:
    """Report that the first incarnation of a child could not be made."""
    discard_in_turn(cell)
    cell.runtime.emit(events.CreateFailed(*identity(cell), type(error).__qualname__))
    if cell.parent is not None:
        cell.parent.hear(News.FAILED, cell, error)


def _make_named(cell: Cell, name: str, *, fresh: bool) -> bool:
    registry = cell.runtime.registry
    recovery = _recovery_of(cell, name)
    if recovery is None:
        registry.take_name(cell, name)
    else:
        registry.pass_name_on(cell, name)
        recovery.superseded = True  # before the factory: the deadline may pass meanwhile
    claimed: Future[None] | None = None
    try:
        if cell.runtime.writer is None:
            cell.component = cell.make(cell.factory)
        else:
            claimed = _make_stored(cell.runtime.writer, cell, name, fresh=fresh)
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
    if claimed is None:
        return True
    from kompyct.claims import wait_until_recovered  # most systems have no store

    wait_until_recovered(cell, claimed)
    return False


def _make_stored(writer: Writer, cell: Cell, name: str, *, fresh: bool) -> Future[None] | None:
    """Make the first incarnation of a component with a place in the store.

    Returns: None, or what is done when it has gone on from what is stored there.
    """
    from kompyct import claims  # most systems have no store

    snapshots = claims.attach(writer, cell, name, fresh=fresh)
    if snapshots:
        return claims.go_on(cell, snapshots)
    cell.component = cell.make(cell.factory)
    assert cell.stored is not None
    writer.components[name] = cell.stored
    return None


def _recovery_of(cell: Cell, name: str) -> RecoveryJob | None:
    """The recovery on this thread whose component bears `name`, which it may pass on (S-11)."""
    runner = here.runner
    job = runner.cell if runner is not None else None
    if type(job) is not RecoveryJob:
        return None
    if job.is_over or cell.runtime.registry.find(name) is not job.cell:
        return None
    return job


_AS_THEMSELVES = (
    KeyboardInterrupt,
    InvalidComponentError,
    ReservedNameError,
    ProcessStartError,
    RecoveryImportError,
    StoreError,
    UnpicklableError,
)


def _refuse(cell: Cell, error: BaseException) -> NoReturn:
    """Report that the creation raised `error`, and raise what its caller is to get."""
    discard(cell)
    cell.runtime.emit(events.CreateFailed(*identity(cell), type(error).__qualname__))
    if isinstance(error, _AS_THEMSELVES):
        raise error
    raise ComponentCreateError(
        f"component {cell.path!r} could not be created: {type(error).__qualname__}; see the cause"
    ) from error
