"""Does a fault end well, whatever meets it, its recovery or the next incarnation?"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from kompyct import events, signals
from kompyct.errors import RestartingError
from kompyct.faults import FaultContext, RecoveryHandler
from kompyct.lifecycle import State
from kompyct.options import Options
from kompyct.recovery import Decision, LateRecovery, RecoveryJob
from tests.harness.stage import Stage
from tests.harness.world import Noter, World


class FaultAsk(World):
    """An ask that meets a fault is handled, or fails; it never hangs."""

    waiting = ("bad1",)
    sent = "bad1 a1"

    def one(self) -> None:
        self.ask("a1")

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        super().check()
        answer = self.answers["a1"]
        assert answer == "a1" or isinstance(answer, RestartingError), repr(answer)


class FaultAskFault(World):
    """An ask that is queued at the second fault of two fails then, or is found at the first.

    The replacement's factory raises, and its fault is never answered: who is not failed then
    waits for ever.
    """

    waiting = ("bad1",)
    sent = "bad1 m1 a1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.before: Future[Any] = self.ref.ask("m1", block=False)  # type: ignore[call-overload]

    def one(self) -> None:
        self.ask("a1")

    def two(self) -> None:
        self.backend.drain()

    def settle(self) -> None:
        self.fault_again()

    def fault_again(self) -> None:
        """Have the replacement fault as well, once."""
        if not self.shared.answered:
            self.backend.drain()
            self.shared.answered = 1

            def fail() -> Noter:
                raise ValueError

            self.cell.signal(signals.rebuild, self.shared.faults[0], fail)
            self.backend.drain()
            self.answers["m1"] = self.before.exception(0)

    def check(self) -> None:
        super().check()
        assert self.cell.state is State.FAULTY
        assert isinstance(self.answers["a1"], RestartingError)


class FaultFirstAskFault(FaultAskFault):
    """The same where no ask is waiting yet: its mark is not lost between the two faults."""

    sent = "bad1 a1"

    def __init__(self, stage: Stage) -> None:
        World.__init__(self, stage)
        self.before = Future()
        self.before.set_exception(KeyError())  # which `check` does not count


class FaultFuture(World):
    """As a blocking ask; the envelope goes another way."""

    waiting = ("bad1",)
    sent = "bad1 a1"
    future: Future[Any] | None = None

    def one(self) -> None:
        self.future = self.ref.ask("a1", block=False)  # type: ignore[call-overload]

    def two(self) -> None:
        self.backend.drain()

    def settle(self) -> None:
        super().settle()
        if self.future is not None and self.future.done():
            self.answers["a1"] = self.future.exception() or self.future.result()

    def check(self) -> None:
        super().check()
        assert self.future is not None
        assert self.future.done()


class FaultFutureFault(FaultAskFault):
    """The same with a future."""

    future: Future[Any] | None = None

    def one(self) -> None:
        self.future = self.ref.ask("a1", block=False)  # type: ignore[call-overload]

    def settle(self) -> None:
        self.fault_again()
        if self.future is not None and self.future.done():
            self.answers["a1"] = self.future.exception() or self.future.result()


class FaultTell(World):
    """Tells that meet a fault follow the next incarnation, in order."""

    waiting = ("bad1", "m1")
    sent = "bad1 m1 a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.backend.drain()
        self.rebuild()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.handled() == ["bad1", "m1", "a1", "a2"]
        assert self.cell.incarnation == 2


class FaultEnd(World):
    """A fault that is the end makes dead letters of what waits and comes."""

    waiting = ("bad1", "m1")
    sent = "bad1 m1 a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.backend.drain()
        self.end()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.cell.state is State.DESTROYED


class StartFault(World):
    """A start that faults and is answered within the same turn; the ask that waits fails."""

    begins_active = False
    sent = "a1"
    starts = 0

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.future: Future[Any] = self.ref.ask("a1", block=False)  # type: ignore[call-overload]
        self.cell.signal(signals.start, None)

    def started(self, noter: Noter) -> None:
        self.starts += 1
        if self.starts == 1:
            raise ValueError

    def one(self) -> None:
        self.rebuild()

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        self.answers["a1"] = self.future.exception(0)
        super().check()
        assert self.cell.state is State.ACTIVE


class FaultStart(World):
    """A start asked for while the component faults and comes back ends well (S-04)."""

    waiting = ("bad1",)
    sent = "bad1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.stopped: Future[None] = Future()
        self.restarted: Future[None] = Future()

    def one(self) -> None:
        self.cell.signal(signals.stop, self.stopped)
        self.cell.signal(signals.start, self.restarted)

    def two(self) -> None:
        self.backend.drain()
        self.rebuild()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.stopped.done()
        assert self.restarted.result(0) is None
        assert self.cell.state is State.ACTIVE


class AskFaultKill(World):
    """An ask, a fault and a kill at once: the ask never hangs."""

    waiting = ("bad1",)
    sent = "bad1 a1"

    def one(self) -> None:
        self.ask("a1")

    def two(self) -> None:
        self.backend.drain()
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.killed.done()
        assert self.cell.state is State.DESTROYED


class KillFault(World):
    """A kill while a fault is being dealt with: one end, and no replacement after it."""

    waiting = ("bad1",)
    sent = "bad1 a1"

    def one(self) -> None:
        self.kill()
        self.tell("a1")

    def two(self) -> None:
        self.backend.drain()
        self.rebuild()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.killed.result(0) is None
        assert self.cell.state is State.DESTROYED


class KillAfterFault(World):
    """Who waits for a kill after the messages waits for the end, also across a fault (B-06)."""

    waiting = ("bad1",)
    sent = "bad1 a1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.shared.on_event = self.look
        self.early = False

    def look(self, event: Any) -> None:
        if isinstance(event, events.ComponentEnded):
            self.shared.on_event = lambda event: None
        self.early = self.early or self.killed.done()

    def one(self) -> None:
        self.kill(after_messages=True)
        self.tell("a1")

    def two(self) -> None:
        self.backend.drain()
        self.rebuild()
        self.backend.drain()

    def started(self, noter: Noter) -> None:
        self.early = self.early or self.killed.done()

    def check(self) -> None:
        super().check()
        assert self.killed.done()
        assert self.cell.state is State.DESTROYED
        assert not self.early, "the kill's future was done before the end"


class DropOldFault(World):
    """A full mailbox that drops the oldest meets a fault."""

    options = Options(mailbox_limit=2, overflow="drop_old")
    waiting = ("bad1", "m1")
    sent = "bad1 m1 a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.backend.drain()
        self.rebuild()
        self.backend.drain()


class RegisterFault(World):
    """A registration from outside is used at this fault or kept for the next, never lost."""

    waiting = ("bad1",)
    sent = "bad1"

    def one(self) -> None:
        self.ref.set_recovery_function(recover_newly)

    def two(self) -> None:
        self.backend.drain()

    def settle(self) -> None:
        self.backend.drain()
        registration = self.cell.recovery
        assert registration is not None
        assert registration.function is recover_newly, "the registration is lost"


class RegisterStopFault(World):
    """Taking up a registration at a fault loses no other signal."""

    waiting = ("bad1",)
    sent = "bad1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.stopped: Future[None] = Future()

    def one(self) -> None:
        self.ref.set_recovery_function(recover_newly)
        self.cell.signal(signals.stop, self.stopped)

    def two(self) -> None:
        self.backend.drain()

    def settle(self) -> None:
        super().settle()
        assert self.stopped.done(), "the stop is lost"
        if self.cell.state is State.PASSIVE:
            self.cell.signal(signals.start, None)
            super().settle()


class RegisterTurn(World):
    """A registration from outside is taken up before the next message."""

    waiting = ("m1",)
    sent = "m1 bad1"

    def one(self) -> None:
        self.ref.set_recovery_function(recover_newly)
        self.tell("bad1")

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        super().check()
        registration = self.shared.faults[0]._facts.registration
        assert registration is not None
        assert registration.function is recover_newly, "the message overtook the registration"


class RecoveryDeadline(World):
    """A recovery meets its deadline: one decision, and a late answer is told as that (S-12)."""

    waiting = ("bad1",)
    sent = "bad1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.backend.drain()
        shared: Any = self.shared
        self.job = RecoveryJob(shared, shared.faults[0], shared.tell_supervisor)
        shared.answered = 1

    def one(self) -> None:
        self.job.run()

    def two(self) -> None:
        self.shared.expire()

    def check(self) -> None:
        super().check()
        decisions = self.shared.of(Decision)
        assert len(decisions) == 1, f"{len(decisions)} decisions"
        late = len(self.shared.of(LateRecovery))
        assert late == decisions[0].abandoned, f"{late} late answers"


def recover_newly(fault: FaultContext[Any]) -> RecoveryHandler:
    """Another one."""
    return fault.restart()
