"""Do messages, starts, stops and ends of one cell meet well?"""

from __future__ import annotations

from concurrent.futures import Future

from kompyct import signals
from kompyct.lifecycle import State
from kompyct.options import Options
from tests.harness.stage import Stage
from tests.harness.world import World


class TellTurn(World):
    """A tell meets the end of a turn: it is handled, now or at a wake-up."""

    waiting = ("m1",)
    sent = "m1 a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.backend.drain()


class TellTell(World):
    """Two senders, both of whom run what is ready: one of them wakes the cell."""

    sent = "a1 c1"

    def one(self) -> None:
        self.tell("a1")
        self.backend.drain()

    def two(self) -> None:
        self.tell("c1")
        self.backend.drain()


class LastLook(World):
    """A tell and the look after a turn, in more detail."""

    hot_switches = 4
    waiting = ("m1",)
    sent = "m1 a1"

    def one(self) -> None:
        self.tell("a1")
        self.backend.drain()

    def two(self) -> None:
        self.backend.drain()


class LastLookSignal(World):
    """A signal and the look after a turn that is not active, in more detail."""

    hot_switches = 4
    begins_active = False

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.cell.signal(signals.stop, None)

    def one(self) -> None:
        self.cell.signal(signals.start, None)
        self.backend.drain()

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.cell.state is State.ACTIVE


class TellDrain(World):
    """A tell meets a turn that has taken a chunk: order and number are kept."""

    waiting = ("m1", "m2")
    sent = "m1 m2 a1"

    def one(self) -> None:
        self.tell("a1")
        self.backend.drain()

    def two(self) -> None:
        self.backend.drain()


class TellStop(World):
    """What is not handled before the stop waits until the next start."""

    sent = "a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.cell.signal(signals.stop, None)
        self.backend.drain()

    def settle(self) -> None:
        self.backend.drain()
        if self.cell.state is State.PASSIVE:
            self.check_rest()
            self.cell.signal(signals.start, None)
            self.backend.drain()

    def check(self) -> None:
        super().check()
        between = self.notes[self.notes.index("stop") + 1]
        assert between == "start", f"after the stop came {between!r}"


class StopTell(World):
    """Nothing sent after a stop overtakes it (S-02)."""

    sent = "a1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.cell.signal(signals.start, None)  # changes nothing; makes it ready

    def one(self) -> None:
        self.cell.signal(signals.stop, None)
        self.tell("a1")

    def two(self) -> None:
        self.backend.drain()

    def settle(self) -> None:
        self.backend.drain()
        if self.cell.state is State.PASSIVE:
            assert "a1" not in self.handled(), "a1 overtook the stop"
            self.check_rest()
            self.cell.signal(signals.start, None)
            self.backend.drain()


class TellDrainStop(World):
    """A stop is obeyed between any two messages (S-02); the rest wait for the next start."""

    waiting = ("m1", "m2", "m3")
    sent = "m1 m2 m3"
    mark = 0

    def one(self) -> None:
        self.cell.signal(signals.stop, None)
        self.mark = len(self.notes)

    def two(self) -> None:
        self.backend.drain()

    def settle(self) -> None:
        self.backend.drain()
        if self.cell.state is State.PASSIVE:
            self.cell.signal(signals.start, None)
            self.backend.drain()

    def check(self) -> None:
        super().check()
        late = self.notes[self.mark : self.notes.index("stop")]
        assert len(late) <= 1, f"handled after stop had returned: {late}"


class TellStart(World):
    """What is sent to a component that is being started is handled."""

    begins_active = False
    waiting = ("m1",)
    sent = "m1 a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.cell.signal(signals.start, None)
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.cell.state is State.ACTIVE


class TellKill(World):
    """What is not handled before the end is a dead letter, once."""

    waiting = ("m1",)
    sent = "m1 a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.cell.state is State.DESTROYED
        assert self.killed.done()


class TellKillBounded(TellKill):
    """The same with a bounded mailbox."""

    options = Options(mailbox_limit=2, overflow="error")


class TellKillAfterMessages(World):
    """A kill after the messages handles those sent before it, and loses none."""

    waiting = ("m1", "m2")
    sent = "m1 m2 a1"

    def one(self) -> None:
        self.tell("a1")
        self.backend.drain()

    def two(self) -> None:
        self.kill(after_messages=True)
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert {"m1", "m2"} <= {*self.handled()}
        assert self.killed.done()
        assert self.cell.state is State.DESTROYED


class TwoSignals(World):
    """Two signals at once are both obeyed."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.futures: tuple[Future[None], Future[None]] = (Future(), Future())

    def one(self) -> None:
        self.cell.signal(signals.stop, self.futures[0])
        self.backend.drain()

    def two(self) -> None:
        self.cell.signal(signals.start, self.futures[1])
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert all(future.done() for future in self.futures)


class TwoKills(World):
    """Two kills at once: one end, and both are told."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.other: Future[None] = Future()

    def one(self) -> None:
        self.kill()
        self.backend.drain()

    def two(self) -> None:
        self.cell.signal(signals.kill, self.other, False)
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.killed.done()
        assert self.other.done()


class StartKill(World):
    """A kill that meets the start ends the component, started or not."""

    begins_active = False
    waiting = ("m1",)
    sent = "m1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.start: Future[None] = Future()

    def one(self) -> None:
        self.cell.signal(signals.start, self.start)
        self.backend.drain()

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.start.done()
        assert self.killed.done()
        assert self.cell.state is State.DESTROYED


class DropOld(World):
    """A full mailbox that drops the oldest meets a turn: each message has one fate."""

    options = Options(mailbox_limit=2, overflow="drop_old")
    waiting = ("m1", "m2")
    sent = "m1 m2 a1 a2"

    def one(self) -> None:
        self.tell("a1", "a2")

    def two(self) -> None:
        self.backend.drain()


class DropNew(DropOld):
    """The same, dropping the newest."""

    options = Options(mailbox_limit=2, overflow="drop_new")


class Refuse(DropOld):
    """The same, refusing."""

    options = Options(mailbox_limit=2)


class DropOldKill(World):
    """A full mailbox never drops a kill that waits among the messages (S-20: control)."""

    options = Options(mailbox_limit=2, overflow="drop_old")
    waiting = ("m1",)
    sent = "m1 a1 a2 a3"

    def one(self) -> None:
        self.tell("a1", "a2", "a3")

    def two(self) -> None:
        self.kill(after_messages=True)
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.killed.done(), "the kill was dropped"
