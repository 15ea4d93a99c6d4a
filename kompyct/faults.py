"""What is known of a fault, and what may be answered to it?"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kompyct.clock import SECOND
from kompyct.errors import ArgumentTypeError
from kompyct.facts import UNREAD, Elsewhere, Facts, FaultKind, Saved, Text, location_in
from kompyct.lifecycle import Phase
from kompyct.processes.travel import pack_exception, unpack_exception
from kompyct.ref import living_systems

if TYPE_CHECKING:
    from kompyct.component import Component
    from kompyct.processes.exits import ProcessExit

S = TypeVar("S")

REPORT_WAIT = 1.0
"""Seconds to wait at most for the whole stack of a process that crashes: until it is gone."""

LOCATION_WAIT = 0.02
"""Seconds for its innermost frame, which it writes first, with the next few system calls."""

PROBATION = 30 * SECOND
"""A restored snapshot under which a component has run this long is no longer suspect."""


class Answer(Enum):
    """What a recovery handler does."""

    RESTART = "restart"
    RECOVER_WITH = "recover_with"
    IGNORE = "ignore"
    END = "end"
    ESCALATE = "escalate"


@dataclass(frozen=True, slots=True)
class RecoveryHandler:
    """What is to be done about a fault; made by the methods of `FaultContext`.

    `call` is the factory of a restart (None: the one given to `create`), or the action of
    `recover_with`.
    """

    answer: Answer
    call: Callable[..., Any] | None = None


RecoveryFunction = Callable[["FaultContext[Any]"], RecoveryHandler]
"""Called at a fault, in the system's process, off the supervisor's thread, with a deadline."""


class FaultContext(Generic[S]):
    """What is known of a fault; `S` is the type of the snapshot. Immutable, for any thread.

    It keeps the exception, and so the frames of its traceback, alive as long as it lives.
    Source: Kompact's `FaultContext`, with everything from `phase` on added.
    """

    __slots__ = ("_facts",)
    _facts: Facts

    def __init__(self, facts: Facts) -> None:
        object.__setattr__(self, "_facts", facts)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a fault context is immutable; {name!r} cannot be set")

    def __reduce__(self) -> tuple[Any, ...]:
        """Into the process that makes the next incarnation, with what its factory may look at."""
        facts = self._facts
        cell = facts.cell
        registration = facts.registration
        saved = None
        if registration is not None:
            saved = (registration.data, registration.saved_at, registration.older)
        plain = {
            name: getattr(facts, name)
            for name in Facts.__slots__
            if name not in ("cell", "registration", "exception", "traceback", "message")
            and not name.startswith(("decoded", "older_decoded", "elsewhere"))
        }
        try:
            message = pickle.dumps(facts.message, 5)
        except Exception:  # it need not be picklable for this component
            message = pickle.dumps(None)
        # A process that crashes may still be writing its stack: no time for that here.
        text = self.traceback if facts.elsewhere is None else facts.elsewhere.report(0.0)
        told = (pack_exception(facts.exception), text, self.location, self.exit)
        whose = (cell.runtime.key, cell.id, cell.name, cell.path)
        return _arrived, (whose, plain, saved, message, told)

    def __repr__(self) -> str:
        return (
            f"<FaultContext of {self.path!r}: {type(self.exception).__qualname__} "
            f"in {self.phase.value}, incarnation {self.incarnation}>"
        )

    @property
    def component_id(self) -> int:
        """The component's number, unique in its system."""
        return self._facts.cell.id

    @property
    def name(self) -> str | None:
        """The component's name; None if it was given none."""
        return self._facts.cell.name

    @property
    def path(self) -> str:
        """Where the component stands in the system, as in `find`."""
        return self._facts.cell.path

    @property
    def incarnation(self) -> int:
        """Which incarnation faulted; the first is 1."""
        return self._facts.incarnation

    @property
    def kind(self) -> FaultKind:
        """What kind of fault it is."""
        return self._facts.kind

    @property
    def phase(self) -> Phase:
        """Which of the component's own code was running."""
        return self._facts.phase

    @property
    def exception(self) -> BaseException:
        """What was raised."""
        return self._facts.exception

    @property
    def traceback(self) -> str:
        """The traceback as text, with the chain of causes; made when read.

        Of a component in another process it is that process's; of a native crash there, the
        Python stack at that moment.
        """
        facts = self._facts
        if facts.elsewhere is not None and (report := facts.elsewhere.report(REPORT_WAIT)):
            return report
        try:
            lines = traceback.format_exception(
                type(facts.exception), facts.exception, facts.traceback
            )
        except Exception as error:  # the exception's own __str__ or __cause__ misbehaves
            lines = traceback.format_tb(facts.traceback)
            lines.append(f"{type(facts.exception).__qualname__}: <{type(error).__name__} in str>")
        return "".join(lines)

    @property
    def location(self) -> str:
        """Where it was raised, as `file:line in function`; without values."""
        elsewhere = self._facts.elsewhere
        if elsewhere is not None:
            found = elsewhere.location
            if found is None:
                found = location_in(elsewhere.report(LOCATION_WAIT, innermost=True))
            return found
        frame = self._facts.traceback
        if frame is None:
            return "unknown place"
        while frame.tb_next is not None:
            frame = frame.tb_next
        code = frame.tb_frame.f_code
        return f"{code.co_filename}:{frame.tb_lineno} in {code.co_name}"

    @property
    def message(self) -> Any:
        """The message in hand; None outside `on_receive`."""
        return self._facts.message

    @property
    def has_snapshot(self) -> bool:
        """Whether the recovery function was registered with a snapshot."""
        registration = self._facts.registration
        return registration is not None and registration.data is not None

    @property
    def snapshot(self) -> S:
        """The last snapshot, decoded at the first look, anew for each fault.

        None where there is none, which `has_snapshot` tells from a snapshot of None.

        Raises:
            SnapshotError: it cannot be decoded.
        """
        facts = self._facts
        if facts.decoded is UNREAD:
            registration = facts.registration
            if registration is None or registration.data is None:
                facts.decoded = None
            else:
                facts.decoded = facts.cell.runtime.decode(registration.data)
        snapshot: S = facts.decoded
        return snapshot

    @property
    def snapshot_age(self) -> float | None:
        """Seconds from the save to the fault; None without a snapshot."""
        registration = self._facts.registration
        if registration is None or registration.data is None:
            return None
        return (self._facts.time - registration.saved_at) / SECOND

    @property
    def saved_in_hand(self) -> bool:
        """Whether the snapshot was saved by the very handler that then faulted (S-10)."""
        return self._facts.in_hand

    @property
    def older_snapshots(self) -> tuple[S, ...]:
        """The snapshots before the last one, newest first; at most GENERATIONS - 1.

        Raises:
            SnapshotError: one of them cannot be decoded.
        """
        facts = self._facts
        if facts.older_decoded is UNREAD:
            registration = facts.registration
            older = registration.older if registration is not None else ()
            decode = facts.cell.runtime.decode
            facts.older_decoded = tuple(decode(data) for data, _, _ in older)
        older_snapshots: tuple[S, ...] = facts.older_decoded
        return older_snapshots

    @property
    def suspect(self) -> int:
        """Faults since this snapshot was restored, with no newer one saved (S-27).

        0 at the first fault. A component that ran 30 s after a recovery starts from 0 again.
        """
        return self._facts.suspect

    @property
    def attempt(self) -> int:
        """Which call with this very registration this is; the first is 1 (S-09)."""
        return self._facts.attempt

    @property
    def pending(self) -> int:
        """Messages that wait for the next incarnation."""
        return self._facts.pending

    @property
    def restarts(self) -> int:
        """Restarts within the window of the component's budget, before this one."""
        return self._facts.restarts

    @property
    def exit(self) -> ProcessExit | None:
        """How the process that held the component ended, if that was the fault."""
        elsewhere = self._facts.elsewhere
        return None if elsewhere is None else elsewhere.exit

    @property
    def time(self) -> float:
        """When it happened: seconds on the system's clock."""
        return self._facts.time / SECOND

    # -- the handlers -----------------------------------------------------------------------

    def restart(self, factory: Callable[[], Component[Any]] | None = None) -> RecoveryHandler:
        """Go on with a new incarnation made by `factory`, or as `create` made the first.

        Ref, name and waiting messages stay. Charged to the component's budget.

        Raises:
            ArgumentTypeError: `factory` is not callable.
        """
        if factory is not None and not callable(factory):
            raise ArgumentTypeError(
                f"restart was given {factory!r}; give a callable that makes a component"
            )
        return RecoveryHandler(Answer.RESTART, factory)

    def step_back(
        self,
        make: Callable[[S], Component[Any]],
        fresh: Callable[[], Component[Any]] | None = None,
    ) -> RecoveryHandler:
        """A ready answer for suspect snapshots: the newest, then each older one, then afresh.

        At the first fault the component is restarted from the newest snapshot. If that leads into
        a fault before a newer one is saved, from the one before, and so on; then from `fresh`;
        and when that faults as well, the fault is escalated. After an orderly shutdown it goes on
        from what it had. The count survives the process if the component is stored (S-27).

        Args:
            make: makes the component of a snapshot.
            fresh: makes it without one; None: as `create` made the first.

        Raises:
            ArgumentTypeError: one of them is not callable.
        """
        for factory in (make, fresh):
            if factory is not None and not callable(factory):
                raise ArgumentTypeError(
                    f"step_back was given {factory!r}; give callables that make a component"
                )
        registration = self._facts.registration
        if registration is None or registration.data is None:
            return self.restart(fresh)
        tried = registration.tried if self._facts.suspect else None
        is_fault = self._facts.kind not in (FaultKind.SHUTDOWN, FaultKind.SIBLING)
        if tried is not None and tried < 0:  # it was begun afresh, when -tried was the newest
            if is_fault:
                return self.escalate()
            if registration.sequence == -tried:
                return self.restart(fresh)
            tried = None  # what has been saved since is no worse than that
        newest = (registration.data, 0, registration.sequence)
        chain = (newest, *registration.older)
        if not is_fault:
            # What it had: the one tried last, or what it has saved in the place of that.
            data = next((data for data, _, sequence in chain if sequence == tried), newest[0])
            return self.restart(Restored(make, self, data))
        for older, _, sequence in chain:
            if tried is None or sequence < tried:
                registration.tried = sequence
                return self.restart(Restored(make, self, older))
        registration.tried = -registration.sequence
        return self.restart(fresh)

    def restart_default(self, cls: Callable[[], Component[Any]]) -> RecoveryHandler:
        """Kompact's name for `restart(cls)`."""
        return self.restart(cls)

    def recover_with(
        self, action: Callable[[FaultContext[S], Any, Any], RecoveryHandler | None]
    ) -> RecoveryHandler:
        """Call `action(fault, system, log)`; it may return another handler.

        While it runs the component still holds its name and its mailbox. If it returns None the
        component ends, and what the action created may have taken over its name (S-11).

        Raises:
            ArgumentTypeError: `action` is not callable.
        """
        if not callable(action):
            raise ArgumentTypeError(f"recover_with was given {action!r}; give a callable")
        return RecoveryHandler(Answer.RECOVER_WITH, action)

    def ignore(self) -> RecoveryHandler:
        """End the component, with a warning."""
        return RecoveryHandler(Answer.IGNORE)

    def end(self) -> RecoveryHandler:
        """End the component."""
        return RecoveryHandler(Answer.END)

    def escalate(self) -> RecoveryHandler:
        """Let the parent decide; under the root, the system stops with this fault as the cause."""
        return RecoveryHandler(Answer.ESCALATE)


class Restored(Generic[S]):
    """A factory: `make` of a snapshot, decoded in the process that makes the component."""

    def __init__(
        self, make: Callable[[S], Component[Any]], fault: FaultContext[S], data: bytes
    ) -> None:
        self._make = make
        self._fault = fault
        self._data = data

    def __call__(self) -> Component[Any]:
        return self._make(self._fault._facts.cell.runtime.decode(self._data))


class _Whose:
    """Stands for the cell of a fault context that has come from the system's process."""

    def __init__(self, key: str, number: int, name: str | None, path: str) -> None:
        self._key = key
        self.id = number
        self.name = name
        self.path = path

    @property
    def runtime(self) -> Any:
        """That of the system in this process."""
        return living_systems[self._key]


def _arrived(
    whose: tuple[str, int, str | None, str],
    plain: dict[str, Any],
    saved: tuple[bytes | None, int, Any] | None,
    message: bytes,
    told: tuple[bytes, str, str, ProcessExit | None],
) -> FaultContext[Any]:
    """The fault context that `__reduce__` was called of, as far as it travels."""
    facts = Facts()
    for name, value in plain.items():
        setattr(facts, name, value)
    facts.cell = _Whose(*whose)  # type: ignore[assignment]
    exception, text, location, process_exit = told
    facts.exception = unpack_exception(exception)
    facts.traceback = None
    facts.message = pickle.loads(message)
    facts.elsewhere = Elsewhere(
        facts.kind,
        facts.phase,
        facts.fault_class,
        None,
        (),
        Text(text),
        location,
        process_exit,
        False,
    )
    facts.registration = None
    if saved is not None:
        facts.registration = Saved(*saved)  # type: ignore[assignment]
    return FaultContext(facts)
