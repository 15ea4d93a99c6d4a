"""How are a recovery function and its handler run without harm to the supervisor?"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kompyct.children import is_tree
from kompyct.clock import SECOND
from kompyct.deadline import Deadline, SimulatedHang
from kompyct.errors import RecoveryFunctionError, RecoveryTimeoutError
from kompyct.faults import Answer, FaultContext, RecoveryHandler

if TYPE_CHECKING:
    from kompyct.cell import Cell
    from kompyct.runtime import Runtime

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
RECOVER_WITH = Answer.RECOVER_WITH
RESTART = Answer.RESTART


@dataclass(frozen=True, slots=True)
class Decision:
    """What came of a recovery: `handler`, or the `error` that stands in its way.

    `abandoned` says that the recovery still hangs on some thread, `superseded` that its action
    has created a component of the same name.
    """

    fault: FaultContext[Any]
    handler: RecoveryHandler | None
    error: BaseException | None = None
    abandoned: bool = False
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class LateRecovery:
    """An abandoned recovery has ended; what it answered is ignored."""

    fault: FaultContext[Any]


class RecoveryJob:
    """One call of a recovery function and its handler, to be run by a backend like a cell.

    It and the watchdog race for the claim of `_deadline`: the winner's decision counts.
    """

    __slots__ = ("_deadline", "_decide", "_runtime", "asking", "asleep", "fault", "superseded")

    def __init__(
        self,
        runtime: Runtime,
        fault: FaultContext[Any],
        decide: Callable[[Decision | LateRecovery], None],
    ) -> None:
        self._runtime = runtime
        self._decide = decide
        self._deadline: Deadline | None = None
        self.fault = fault
        self.asleep = False
        self.asking: Any = None  # as `Cell.asking`: an action may ask
        self.superseded = False  # whether the action created a component of the same name

    is_limited = False  # see `Cell.is_limited`

    @property
    def cell(self) -> Cell:
        """The cell of the component that is being recovered."""
        return self.fault._facts.cell

    @property
    def is_over(self) -> bool:
        """Whether something was decided already; what runs here is late then."""
        return self._deadline is not None and self._deadline.is_claimed

    @property
    def path(self) -> str:
        """How this is named in a circle of asks."""
        return f"recovery of {self.fault.path}"

    def run(self) -> bool:
        """Call the function, then the handler; False, since there is never more."""
        runtime = self._runtime
        fault = self.fault
        due = runtime.clock.now() + runtime.recovery_deadline
        self._deadline = deadline = Deadline(due, self._expire)
        runtime.watch(deadline)
        handler: RecoveryHandler | None = None
        error: BaseException | None = None
        try:
            handler = self._answer()
        except SimulatedHang:
            return False
        except BaseException as raised:
            error = raised
            if isinstance(raised, KeyboardInterrupt):
                runtime.note_interrupt(raised)
        if deadline.claim():
            runtime.unwatch(deadline)
            self._decide(Decision(fault, handler, error, superseded=self.superseded))
        else:
            self._decide(LateRecovery(fault))
        return False

    def _answer(self) -> RecoveryHandler:
        runtime = self._runtime
        fault = self.fault
        registration = fault._facts.registration
        end = fault.end()
        if registration is None or runtime.stopping:
            return end
        stored = fault._facts.cell.stored
        if stored is not None:  # how often it was tried is on the disk before it is (S-27)
            runtime.mark(stored)
        tried = registration.tried
        handler = self._checked(registration.function(fault), "recovery function")
        if stored is not None and registration.tried != tried:
            runtime.mark(stored)
        while handler.answer is RECOVER_WITH and handler.call is not None:
            if runtime.stopping or self.is_over:
                return end
            log = logging.getLogger(f"kompyct.component.{fault.path}")
            answer = handler.call(fault, runtime.system, log)
            if answer is None:
                return end
            handler = self._checked(answer, "recovery action")
        if fault._facts.cell.is_supervisor and handler.answer is RESTART:
            handler = self._with_tree(handler)
        has_factory = handler.call is not None or fault._facts.cell.factory is not None
        if handler.answer is RESTART and not has_factory:
            raise RecoveryFunctionError(
                f"component {fault.path!r} was created by an earlier process, whose factory is "
                "not known; answer fault.restart(factory), or create it instead of recover()"
            )
        if self.superseded and handler.answer is RESTART:
            raise RecoveryFunctionError(
                f"the recovery action of {fault.path!r} created a component of that name and "
                "then answered with a restart; do one or the other"
            )
        return handler

    def _with_tree(self, handler: RecoveryHandler) -> RecoveryHandler:
        """`handler` with the tree that its factory makes: no users' code in supervisors' turns."""
        if handler.call is None or is_tree(handler.call):
            return handler
        made = handler.call()
        if not is_tree(made):
            raise RecoveryFunctionError(
                f"component {self.fault.path!r} is a supervisor, and what is to replace it is a "
                f"{type(made).__qualname__}; give a ComponentSupervisor"
            )
        return RecoveryHandler(RESTART, made)

    def _checked(self, answer: object, what: str) -> RecoveryHandler:
        if not isinstance(answer, RecoveryHandler):
            raise RecoveryFunctionError(
                f"the {what} of component {self.fault.path!r} returned "
                f"a {type(answer).__qualname__}; return fault.restart(...), fault.end() or "
                "another handler made by the fault context"
            )
        return answer

    def _expire(self) -> None:
        seconds = self._runtime.recovery_deadline / SECOND
        error = RecoveryTimeoutError(
            f"the recovery of component {self.fault.path!r} took more than {seconds:g} s "
            "and was abandoned"
        )
        self._decide(Decision(self.fault, None, error, abandoned=True, superseded=self.superseded))
