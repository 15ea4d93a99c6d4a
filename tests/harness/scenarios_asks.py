"""Does an ask get its reply or an error, whatever it meets and whoever runs it?"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from kompyct import signals
from kompyct.errors import AskTimeoutError, ComponentDestroyedError
from kompyct.lifecycle import State
from kompyct.ref import InlineRef
from tests.harness.stage import Stage
from tests.harness.world import World


class AskKill(World):
    """An ask of a component that is being killed gets its reply or an error; it never hangs."""

    sent = "a1"

    def one(self) -> None:
        self.ask("a1")

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        answer = self.answers["a1"]
        assert answer == "a1" or isinstance(answer, ComponentDestroyedError), repr(answer)


class AskTurn(World):
    """An ask meets the end of a turn: it gets its reply."""

    waiting = ("m1",)
    sent = "m1 a1"

    def one(self) -> None:
        self.ask("a1")

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.answers == {"a1": "a1"}


class AskTimeout(World):
    """An asker that gives up meets the reply: it is received, or counted as late (S-16)."""

    sent = "a1"

    def one(self) -> None:
        self.ask("a1", 1.0)

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        super().check()
        answer = self.answers["a1"]
        if isinstance(answer, AskTimeoutError):
            assert self.shared.late_replies.count == 1, "a late reply was not counted"
        else:
            assert answer == "a1"


class AskFuture(World):
    """Asks for futures: one that its asker cancels harms nobody, the other gets its reply."""

    sent = "a1 a2"
    futures: tuple[Future[Any], ...] = ()

    def one(self) -> None:
        first = self.ref.ask("a1", block=False)  # type: ignore[call-overload]
        first.cancel()
        self.futures = (first, self.ref.ask("a2", block=False))  # type: ignore[call-overload]

    def two(self) -> None:
        self.backend.drain()

    def check(self) -> None:
        super().check()
        first, second = self.futures
        assert first.done()
        assert second.result(0) == "a2"


class InlineTell(World):
    """An ask run in the asker's thread meets a tell: neither is lost."""

    sent = "a1 c1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.ref = InlineRef(self.cell)

    def one(self) -> None:
        self.ask("a1")
        self.backend.drain()

    def two(self) -> None:
        self.tell("c1")
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.answers == {"a1": "a1"}


class InlineInline(World):
    """Two asks run inline: one of them waits for the other's thread."""

    sent = "a1 c1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.ref = InlineRef(self.cell)

    def one(self) -> None:
        self.ask("a1")
        self.backend.drain()

    def two(self) -> None:
        self.ask("c1")
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.answers == {"a1": "a1", "c1": "c1"}


class InlineStop(World):
    """An ask run inline meets a stop: it is handled, or waits for the next start."""

    sent = "a1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.ref = InlineRef(self.cell)

    def one(self) -> None:
        self.ask("a1")

    def two(self) -> None:
        self.cell.signal(signals.stop, None)
        self.backend.drain()

    def settle(self) -> None:
        self.backend.drain()
        self.cell.signal(signals.start, None)
        self.backend.drain()


class InlineKill(World):
    """An ask run inline meets a kill: it gets its reply or an error."""

    sent = "a1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.ref = InlineRef(self.cell)

    def one(self) -> None:
        self.ask("a1")

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert self.killed.done()
        answer = self.answers["a1"]
        assert answer == "a1" or isinstance(answer, ComponentDestroyedError), repr(answer)


class InlineEnd(World):
    """A fault in an inline ask that ends the component: its backend sees the end.

    The actor of the thread backend ends when it has seen that, and lives for ever otherwise.
    """

    sent = "bad1"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.ref = InlineRef(self.cell)

    def one(self) -> None:
        self.ask("bad1")

    def two(self) -> None:
        self.end()
        self.backend.drain()

    def settle(self) -> None:
        self.backend.drain()
        self.end()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        assert isinstance(self.answers["bad1"], ValueError)
        assert self.cell.state is State.DESTROYED
        assert self.backend.ended, "the end ran on the asker's thread; the backend has not seen it"
