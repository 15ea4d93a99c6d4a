"""When has a restored snapshot proved itself?

When a newer one is saved, or when the component has run for PROBATION (S-27). The first is seen
at the save. The second matters at the next fault, which looks at the time, and to the store, which
an alarm tells, so that the loss of the process after that is not held against the snapshot.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from kompyct.clock import Alarm
from kompyct.faults import PROBATION

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.registration import Registration


def watch_probation(cell: Cell) -> None:
    """Have the snapshot from which `cell` was recovered just now proved in time; in its turn."""
    suspect = _registration(cell)
    since = cell.history.recovered_at
    if suspect is None or not suspect.suspect or since is None:
        return

    def ring() -> None:
        with suppress(RuntimeError):  # no thread to be had; at worst the snapshot stays suspect
            cell.signal(_prove, since)

    cell.runtime.clock.set(Alarm(since + PROBATION, ring))


def _prove(cell: Cell, since: int) -> None:
    """Clear the count, if the component has run since then."""
    history = cell._history
    registration = _registration(cell)
    if history is None or history.recovered_at != since or history.fault is not None:
        return
    if registration is not None and registration.suspect and cell.stored is not None:
        registration.suspect = 0
        registration.tried = None
        registration.before_shutdown = None
        cell.stored.touch()


def _registration(cell: Cell) -> Registration | None:
    component = cell.component
    if component is not None and component._kompyct_registration is not None:
        return component._kompyct_registration
    return cell.recovery
