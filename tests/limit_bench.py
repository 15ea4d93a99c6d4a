"""Systems of components with limits, on any backend, and what is expected of them."""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import Any

import pytest

from kompyct.errors import ComponentFaultError
from tests.conftest import LIMIT, Bench
from tests.process.components import FAULTS, Do, Holder, from_snapshot

GRACE = {"thread": 0.08, "pool": 0.08, "process": 0.25}
"""Seconds from the interrupt until a thread is left behind, or a process ended, of a short limit:
see `create` and docs/limits.md."""

_numbers = itertools.count(1)

SLACK = 1.0
"""Seconds that a loaded machine may add to any time that is promised: with two busy processes on
two cores an interrupt of a loop came up to a second late."""


class LimitBench(Bench):
    """A system of holders on any backend."""

    def started(self, *, hooks: Any = None, state: Any = "default", **options: Any) -> Any:
        """A ref of a started `Holder` that is recovered from its last snapshot."""
        notes = options.pop("notes", None)
        recovery = options.pop("recovery", from_snapshot)
        options.setdefault("name", f"limited {next(_numbers)}")
        factory = options.pop("factory", partial(Holder, state, notes, recovery, hooks))
        ref = self.system.create(factory, **options)
        self.system.start(ref).result(LIMIT)
        return ref

    def fault(self, ref: Any, count: int = 1) -> Any:
        """Wait until its recovery function has been called `count` times; the last context."""
        self.until(lambda: len(FAULTS.get(ref.path, ())) >= count)
        return FAULTS[ref.path][count - 1]

    def of(self, kind: Any, ref: Any) -> list[Any]:
        """The events of that kind about that component."""
        return [event for event in self.events.of(kind) if event.path == ref.path]

    def recovered(self, ref: Any, incarnation: int = 2) -> None:
        """Wait until that incarnation is active."""
        self.until(lambda: ref.incarnation >= incarnation and ref.state.value == "active")

    def end_all(self) -> None:
        """End every component of the system."""
        for node in self.system.tree().children:
            ref = self.system.find(node.path)
            if ref is not None:
                self.system.kill(ref, brutal=True).result(LIMIT)


def failed(ref: Any, action: Any, *arguments: Any) -> tuple[BaseException, float]:
    """Have the component do something that faults: the cause, and after how many seconds."""
    begun = time.monotonic()
    with pytest.raises(ComponentFaultError) as raised:
        ref.ask(Do(action, arguments), timeout=LIMIT)
    seconds = time.monotonic() - begun
    cause = raised.value.__cause__
    assert cause is not None
    return cause, seconds


def in_time(seconds: float, limit: float) -> bool:
    """Whether a hang was dealt with when it should be, on a loaded machine.

    RELIABILITY: seen within limit + max(100 ms, 10 %). A process has a quarter of a second to end
    by itself (docs/limits.md); that is within `SLACK`.
    """
    return limit <= seconds <= limit + max(0.1, 0.1 * limit) + SLACK
