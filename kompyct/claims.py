"""How does a component go on from what an earlier process has stored of it?

By claim (S-25): who creates a component at a path gets what is unfinished there. The first
incarnation then comes from the recovery function, as if the component had just faulted: with
`PROCESS_LOST`, or with `SHUTDOWN` after an orderly end (S-26). So deadline, fallback and further
attempts are those of every recovery.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from kompyct import signals
from kompyct.cell import START, Cell
from kompyct.child_requests import StartChild
from kompyct.children import ChildSpec
from kompyct.clock import SECOND
from kompyct.creation import make_first
from kompyct.errors import (
    ComponentCreateError,
    ComponentDestroyedError,
    KompyctError,
    ProcessLostError,
    RecoveryFunctionError,
    StoreError,
    SystemShutdownError,
)
from kompyct.events import NotRecovered
from kompyct.facts import Facts, FaultKind
from kompyct.fault_classes import FaultClass
from kompyct.faults import FaultContext
from kompyct.functions import find_function
from kompyct.lifecycle import Phase, State, Status
from kompyct.messages import new_ask
from kompyct.ref import ref_to
from kompyct.registration import OUTSIDE, Registration
from kompyct.reports import identity
from kompyct.stored import Stored
from kompyct.waiting import here

if TYPE_CHECKING:
    from kompyct.runtime import Runtime
    from kompyct.store.snapshots import Snapshot
    from kompyct.writer import Writer


def attach(writer: Writer, cell: Cell, path: str, *, fresh: bool) -> tuple[Snapshot, ...]:
    """Let `cell` store under `path`; returns what it is to go on from, newest first.

    Incarnations are counted on from what the store knows, whether or not the component goes on
    from there: so late saves of earlier ones are told apart.

    Raises:
        StoreError: the store cannot be read.
    """
    earlier = writer.components.get(path)
    if earlier is not None and earlier.is_left:  # it was given up; whoever comes next goes on
        writer.flush()
        earlier = None
    snapshots = () if earlier is not None else writer.store.load(path)
    if earlier is not None:
        cell.incarnation = earlier.incarnation + 1
    elif snapshots:
        cell.incarnation = snapshots[0].mark.incarnation + 1
        if fresh or snapshots[0].mark.status is Status.RETIRED:
            snapshots = ()
        else:
            cell.incarnation -= 1  # it is the stored one that has met the fault
    cell.stored = Stored(writer, path, cell.incarnation)
    return snapshots


def go_on(cell: Cell, snapshots: tuple[Snapshot, ...]) -> Future[None]:
    """Have `cell`, whose flag is held, recovered from `snapshots`; the flag is given back.

    Returns: done when its incarnation is there, or it has ended.

    Raises:
        RecoveryImportError: the recovery function cannot be found; all is left as it was.
        VersionError: it was pickled under another Python; the same.
    """
    runtime = cell.runtime
    context = _take_up(cell, snapshots)
    history = cell.history
    history.active = False
    future: Future[None] = Future()
    history.waiters += ((future, True),)
    with runtime.signals:  # a start that `create` was asked for comes after the recovery
        cell.control = tuple(signal for signal in cell.control if signal is not START[0])
    runtime.registry.add(cell)
    cell.flag.release()
    if cell.control and cell.flag.acquire(False):  # a ref got out of it, by its name
        cell.backend.wake(cell)
    runtime.supervise(context)
    return future


def go_on_in_turn(cell: Cell, snapshots: tuple[Snapshot, ...]) -> None:
    """Have `cell`, a child whose turn this is, recovered from `snapshots` and started.

    Raises: as `go_on`.
    """
    context = _take_up(cell, snapshots)
    cell.history.active = True
    cell.runtime.supervise(context)


def _take_up(cell: Cell, snapshots: tuple[Snapshot, ...]) -> FaultContext[Any]:
    """Let `cell` be what is stored, as if it had just faulted."""
    runtime = cell.runtime
    writer, stored = runtime.writer, cell.stored
    assert writer is not None
    assert stored is not None
    newest = snapshots[0]
    kind = FaultKind.PROCESS_LOST
    if newest.mark.status is Status.CLEAN:
        kind = FaultKind.SHUTDOWN
    registration = _registration(cell, snapshots)
    context = _fault(cell, registration, kind)
    stored.continue_from(
        registration, newest, tuple(snapshot.mark.sequence for snapshot in snapshots)
    )
    # Counted before the function sees it: if that is the end of this process too, the next start
    # knows (S-27). After a shutdown it is no fault, and an orderly end takes it back.
    registration.before_shutdown = registration.suspect if kind is FaultKind.SHUTDOWN else None
    registration.attempts += 1
    if registration.data is not None:
        registration.suspect += 1
        registration.restored = registration.data
    with suppress(StoreError):  # a full disk must not stop the start; the writer reports it
        stored.touch(durably=True)
    writer.components[stored.path] = stored
    cell.recovery = registration
    cell.state = State.FAULTY
    history = cell.history
    history.fault = context
    history.claimed = True
    return context


def wait_until_recovered(cell: Cell, claimed: Future[None]) -> None:
    """Return when the component has been recovered, or has ended as its function wanted.

    Raises:
        ComponentCreateError: it could not be recovered, or the fault was escalated; what is
            stored of it stays.
    """
    envelope = new_ask(None)

    def done(_: object) -> None:
        envelope.value = None
        envelope.done.release()

    claimed.add_done_callback(done)
    runner = here.runner
    if runner is None:
        envelope.done.acquire()
    else:
        runner.wait(cell, envelope, -1)
    # `end()`, `ignore()`, or an action without another answer
    with suppress(ComponentDestroyedError):
        claimed.result(0)


def recover_unclaimed(runtime: Runtime) -> list[Cell]:
    """Go on with every component of an earlier process that nobody has created, parents first.

    Those that cannot go on are reported and stay in the store. Those that were active are started.
    """
    writer = runtime.writer
    assert writer is not None
    recovered = []
    for path in sorted(writer.store.paths(), key=lambda path: (path.count("/"), path)):
        snapshots = () if path in writer.components else writer.store.load(path)
        if not snapshots or snapshots[0].mark.status is Status.RETIRED:
            continue
        if "/" in path:
            child = _recover_child(runtime, path)
            recovered += [child] if child is not None else []
            continue
        cell = runtime.new_cell(path, None, runtime.backend, runtime.options)
        try:
            make_first(cell, fresh=False)
        except KompyctError as error:
            runtime.emit(NotRecovered(*identity(cell), str(error)))
        else:
            recovered.append(cell)
            if snapshots[0].mark.active:
                cell.signal(signals.start, None)
    return recovered


def _recover_child(runtime: Runtime, path: str) -> Cell | None:
    """Go on with a child that its supervisor does not know: it had been added while it ran."""
    above, _, name = path.rpartition("/")
    parent = runtime.registry.find(above)
    spec = ChildSpec(id=name, factory=_unknown, restart="transient")
    try:
        if parent is None or not parent.is_supervisor:
            raise ComponentCreateError(f"its parent, supervisor {above!r}, is not there")
        ref = ref_to(parent).ask(StartChild(spec), timeout=None)
    except KompyctError as error:
        now = runtime.clock.now() / SECOND
        runtime.emit(NotRecovered(0, path, 0, now, str(error)))
        return None
    return None if ref is None else ref._cell


def _unknown() -> NoReturn:
    raise RecoveryFunctionError(
        "a component that an earlier process had added to its supervisor is to begin afresh, and "
        "its factory is not known; answer fault.restart(factory), or add it by StartChild"
    )


def _registration(cell: Cell, snapshots: tuple[Snapshot, ...]) -> Registration:
    runtime = cell.runtime
    newest = snapshots[0]
    wall, now = time.time(), runtime.clock.now()

    def saved_at(snapshot: Snapshot) -> int:
        return now - round(max(wall - snapshot.saved_at, 0.0) * SECOND)

    function = runtime.bound(lambda: find_function(newest.function, cell.path))
    registration = Registration(function, newest.data, saved_at(newest), 0, OUTSIDE)
    registration.stored_as = newest.function
    registration.sequence = newest.mark.sequence
    registration.attempts = newest.mark.attempts
    registration.suspect = newest.mark.suspect
    registration.tried = newest.mark.tried
    registration.older = tuple(
        (snapshot.data, saved_at(snapshot), snapshot.mark.sequence)
        for snapshot in snapshots[1:]
        if snapshot.data is not None
    )
    return registration


def _fault(cell: Cell, registration: Registration, kind: FaultKind) -> FaultContext[Any]:
    facts = Facts()
    facts.cell = cell
    facts.incarnation = cell.incarnation
    facts.kind = kind
    facts.phase = Phase.CREATE
    if kind is FaultKind.SHUTDOWN:
        facts.exception = SystemShutdownError(
            f"the system of component {cell.path!r} was shut down in order"
        )
    else:
        facts.exception = ProcessLostError(f"the process of component {cell.path!r} was lost")
    facts.traceback = None
    facts.fault_class = FaultClass.RECOVERABLE
    facts.registration = registration
    facts.message = None
    facts.restarts = 0
    facts.time = cell.runtime.clock.now()
    facts.attempt = registration.attempts + 1
    facts.suspect = registration.suspect
    return FaultContext(facts)
