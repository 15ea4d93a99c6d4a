"""What is special to limits in the system's own process: threads that are left behind, B-84, S-06.

Expected values are from
RELIABILITY section 1, row "hang, deadlock" ("the thread is abandoned, counted, replaced; cap on
abandoned threads, then escalate; its late results are ignored"), S-06, and "Defaults" of the rules
(8 abandoned threads). Nothing here is timed but by limits: what hangs waits for an event.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kompyct import Component, FaultKind, RestartLimit, State, events
from kompyct.backends.thread import _Host
from kompyct.errors import (
    ComponentDestroyedError,
    ComponentFaultError,
    ExecutionTimeout,
    MemoryLimitExceeded,
    ShutdownTimeoutError,
)
from kompyct.limits import time_guard
from kompyct.processes.usage import memory_use
from tests.conftest import LIMIT
from tests.every_backend import MakeBench, bench, hurried_pool, make_bench
from tests.hanging import spin
from tests.limit_bench import LimitBench, failed, in_time
from tests.process.components import Do, Get, from_snapshot

__all__ = ["bench", "hurried_pool", "make_bench"]

MAX_ABANDONED = 8  # "Defaults" of the rules
SHORT = 0.1  # seconds: the limit that is exceeded here


class Hang:
    """What a handler waits for in native code, until the test lets it go on."""

    def __init__(self) -> None:
        self._gate = threading.Event()
        self._back = threading.Semaphore(0)

    def __call__(self, component: Any, then: Callable[[], object] | None = None) -> str:
        """Wait; then do `then`, and say that it is done."""
        try:
            self._gate.wait(30.0)
        finally:
            try:
                if then is not None:
                    then()
            finally:
                self._back.release()
        return "late"

    def end(self, count: int = 1) -> None:
        """Let those go on that wait, and wait until `count` have done so."""
        self._gate.set()
        for _ in range(count):
            assert self._back.acquire(timeout=LIMIT)


@pytest.fixture(params=["thread", "pool"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend of threads."""
    return str(request.param)


@pytest.fixture
def stuck() -> Iterator[Hang]:
    """Something to hang in; it ends with the test."""
    made = Hang()
    yield made
    made._gate.set()


def all_are_back(bench: LimitBench) -> None:
    """Wait until no thread counts as left behind."""
    bench.until(lambda: bench.system._runtime._abandoned == 0)


# -- the thread that is left behind ----------------------------------------------------------


def test_a_thread_that_cannot_be_interrupted_is_left_behind_and_counted(
    bench: LimitBench, stuck: Hang
) -> None:
    """B-84: Given a handler in native code, then its thread is left, which an event tells, with
    the place; the component goes on elsewhere while it hangs."""
    ref = bench.started(time_limit=SHORT)
    cause, seconds = failed(ref, stuck)
    assert isinstance(cause, ExecutionTimeout)
    assert in_time(seconds, SHORT)
    bench.until(lambda: bool(bench.of(events.HandlerAbandoned, ref)))
    (event,) = bench.of(events.HandlerAbandoned, ref)
    assert (event.error, event.incarnation, event.abandoned) == ("ExecutionTimeout", 1, 1)
    assert "threading.py" in event.location
    assert "1 by now" in str(event)
    bench.recovered(ref)
    assert ref.ask(Get(), timeout=LIMIT) == "default"
    assert "in __call__" in bench.fault(ref).traceback
    stuck.end()


def test_the_thread_that_comes_back_is_counted_back(bench: LimitBench, stuck: Hang) -> None:
    """RELIABILITY: the cap is on threads that hang, not on hangs: given more than eight hangs,
    one after the other, each of which ends, then each is the first by now, and nothing stops."""
    ref = bench.started(time_limit=0.02, budget=RestartLimit(100, 60.0))
    for number in range(MAX_ABANDONED + 2):
        once = Hang()
        failed(ref, once)
        bench.recovered(ref, number + 2)
        once.end()
        all_are_back(bench)
    bench.until(lambda: len(bench.of(events.HandlerAbandoned, ref)) == MAX_ABANDONED + 2)
    assert {e.abandoned for e in bench.of(events.HandlerAbandoned, ref)} == {1}
    assert ref.ask(Get(), timeout=LIMIT) == "default"


def test_a_late_thread_changes_nothing(
    bench: LimitBench, stuck: Hang, caplog: pytest.LogCaptureFixture
) -> None:
    """S-06: Every call from inside the component raises IncarnationEndedError after the end of the
    incarnation, and changes nothing; the late reply is nobody's."""
    caplog.set_level(logging.ERROR, "kompyct")
    ref = bench.started(state="saved", time_limit=SHORT)
    raised: list[str] = []

    def hang_and_try(component: Any) -> None:
        def then() -> None:
            calls: list[Callable[[], object]] = [
                lambda: component.set_recovery_function(from_snapshot, snapshot="late"),
                lambda: component.ref.tell(Get()),
                lambda: component.schedule_once(0.0, component.kill_self),
                lambda: component.keep(contextlib.nullcontext()),
                lambda: component.system,
                component.progress,
                component.stop_self,
                component.kill_self,
            ]
            for call in calls:
                try:
                    call()
                except BaseException as error:
                    raised.append(type(error).__name__)
                else:
                    raised.append("nothing")

        stuck(component, then)

    failed(ref, hang_and_try)
    bench.recovered(ref)
    stuck.end()
    all_are_back(bench)
    assert raised == ["IncarnationEndedError"] * 8
    assert ref.ask(Get(), timeout=LIMIT) == "saved"
    assert (ref.state, ref.incarnation, bench.system.late_replies) == (State.ACTIVE, 2, 0)
    failed(ref, spin, 10.0)
    assert bench.fault(ref, 2).snapshot == "saved"
    assert len(bench.of(events.ComponentFaulted, ref)) == 2
    assert not [record for record in caplog.records if "turn broke" in record.message]


@pytest.mark.xfail(strict=True, reason="a ref that it has kept still works")
def test_a_late_thread_tells_nobody(bench: LimitBench, stuck: Hang) -> None:
    """S-06: "Every call from inside a component carries its incarnation. After that incarnation's
    end it raises IncarnationEndedError and changes nothing", tells to others included."""
    other = bench.started()
    received: list[str] = []
    ref = bench.started(time_limit=SHORT)
    late = Do(lambda _: received.append("late"))
    failed(ref, lambda component: stuck(component, lambda: other.tell(late)))
    stuck.end()
    all_are_back(bench)
    other.ask(Get(), timeout=LIMIT)
    assert received == []


def test_what_the_component_kept_is_left_before_the_next_start(
    bench: LimitBench, stuck: Hang
) -> None:
    """S-05: Given a kept resource and a hang, then it is left before the next incarnation starts,
    by another thread than the one that hangs."""
    done: list[str] = []

    @contextlib.contextmanager
    def resource() -> Iterator[None]:
        try:
            yield
        finally:
            done.append("left")

    def start(component: Any) -> None:
        done.append("start")
        component.keep(resource())

    class Keeping(Component[Any]):
        def on_start(self) -> None:
            self.set_recovery_function(lambda fault: fault.restart())
            start(self)

        def on_receive(self, message: Any) -> object:
            return message.action(self, *message.arguments)

    ref = bench.started(factory=Keeping, time_limit=SHORT)
    failed(ref, stuck)
    bench.recovered(ref)
    assert done == ["start", "left", "start"]
    stuck.end()
    all_are_back(bench)
    assert done == ["start", "left", "start"]


def test_the_component_may_end_before_its_thread_comes_back(
    bench: LimitBench, stuck: Hang
) -> None:
    """S-06: Given a component that was killed after a hang, then the thread that comes back finds
    nothing to be changed; the name may have been given to another one."""
    ref = bench.started(name="once", time_limit=SHORT)
    failed(ref, stuck)
    bench.system.kill(ref).result(LIMIT)
    successor = bench.started(name="once", state="other")
    stuck.end()
    all_are_back(bench)
    assert successor.ask(Get(), timeout=LIMIT) == "other"
    with pytest.raises(ComponentDestroyedError):
        ref.ask(Get(), timeout=LIMIT)


# -- too many --------------------------------------------------------------------------------


@pytest.mark.usefixtures("hurried_pool")
def test_eight_threads_may_hang_and_the_ninth_stops_the_system(
    make_bench: MakeBench, stuck: Hang
) -> None:
    """Defaults, RELIABILITY: eight abandoned threads; with one more the system escalates: it shuts
    down, and `wait` raises the cause."""
    bench = make_bench()
    refs = [bench.started(time_limit=SHORT) for _ in range(MAX_ABANDONED)]
    last = bench.started(time_limit=SHORT)
    for ref in refs:
        ref.tell(Do(stuck))
    for ref in refs:
        bench.recovered(ref)
        assert ref.ask(Get(), timeout=LIMIT) == "default"
    last.tell(Do(stuck))
    with pytest.raises((ComponentFaultError, ExecutionTimeout)) as raised:
        bench.system.wait(LIMIT)
    assert repr(last.path) in str(raised.value)
    counted = sorted(event.abandoned for event in bench.events.of(events.HandlerAbandoned))
    assert counted == list(range(1, MAX_ABANDONED + 2))
    stuck.end(MAX_ABANDONED + 1)


@pytest.mark.usefixtures("hurried_pool")
def test_the_escalation_is_told_as_any_other(make_bench: MakeBench, stuck: Hang) -> None:
    """Docstring of `wait`: "a cause that is no `Exception` comes as `ComponentFaultError`"; and
    `Escalated` says why the system stops."""
    bench = make_bench()
    refs = [bench.started(time_limit=SHORT) for _ in range(MAX_ABANDONED + 1)]
    for ref in refs:
        ref.tell(Do(stuck))
    with pytest.raises(BaseException, match=r"ExecutionTimeout|took longer") as raised:
        bench.system.wait(LIMIT)
    stuck.end(MAX_ABANDONED + 1)
    assert isinstance(raised.value, ComponentFaultError)
    assert isinstance(raised.value.__cause__, ExecutionTimeout)
    assert len(bench.events.of(events.Escalated)) == 1


@pytest.mark.parametrize("backend", ["thread"], indirect=True)
def test_a_thread_that_cannot_be_had_is_tried_again(
    backend: str, stuck: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RELIABILITY: "the thread is abandoned, counted, replaced": given that the operating system
    has no thread just then, then the component goes on when it has one again."""
    bench = LimitBench(backend)
    ref = bench.started(time_limit=SHORT)
    start = _Host._start_actor_loop
    refused: list[str] = []

    def refuse_once(host: _Host) -> None:
        if not refused:
            refused.append("once")
            raise RuntimeError("can't start new thread")
        start(host)

    monkeypatch.setattr(_Host, "_start_actor_loop", refuse_once)
    try:
        ref.tell(Do(stuck))
        bench.until(lambda: ref.incarnation == 2, 1.0)
    finally:
        stuck.end()
        with contextlib.suppress(ShutdownTimeoutError):
            bench.system.shutdown(0.2)


# -- asks ------------------------------------------------------------------------------------


def test_the_limit_of_an_asker_does_not_hurt_whom_it_asks_inline(bench: LimitBench) -> None:
    """B-16, B-84: Given a limited component that asks another one inline, which takes long, then
    the asker has a hang fault, and the other none."""
    other = bench.started(inline_asks=True)
    ref = bench.started(time_limit=SHORT)
    failed(ref, lambda _: other.ask(Do(spin, (3 * SHORT,)), timeout=LIMIT))
    bench.recovered(ref)
    bench.pass_time(3 * SHORT)
    assert bench.fault(ref).kind is FaultKind.HANG
    assert bench.of(events.ComponentFaulted, other) == []
    assert other.incarnation == 1


def test_a_late_thread_does_not_hide_a_circle_of_asks(bench: LimitBench, stuck: Hang) -> None:
    """S-06: Given an incarnation that was abandoned while it waited in an ask, and the next one
    that waits in an ask as well, then the first one's return does not hide a circle: of that,
    the ask that closes it fails at once."""
    slow = bench.started()
    other = bench.started()
    ref = bench.started(time_limit=1.0)
    go_on = threading.Event()

    def ask_back(component: Any) -> str:
        go_on.wait(LIMIT)
        try:
            ref.ask(Get(), timeout=0.3)
        except Exception as error:
            return type(error).__name__
        return "a reply"

    failed(ref, lambda _: slow.ask(Do(stuck), timeout=30.0))
    bench.recovered(ref)
    future = ref.ask(
        Do(lambda _: other.ask(Do(ask_back), timeout=LIMIT)), timeout=LIMIT, block=False
    )
    bench.until(lambda: ref._cell.asking is not None)
    stuck.end()
    all_are_back(bench)
    go_on.set()
    assert future.result(LIMIT) == "AskCircleError"


def test_a_circle_of_asks_is_found_in_limited_components(bench: LimitBench) -> None:
    """Given two limited components that ask each other, then the ask that closes the circle fails
    at once, as without limits, and nothing is interrupted."""
    one = bench.started(time_limit=LIMIT)
    two = bench.started(time_limit=LIMIT)

    def back(_: Any) -> str:
        try:
            one.ask(Get(), timeout=LIMIT)
        except Exception as error:
            return type(error).__name__
        return "a reply"

    assert one.ask(Do(lambda _: two.ask(Do(back))), timeout=LIMIT) == "AskCircleError"


# -- guards and memory -----------------------------------------------------------------------


def test_a_guard_in_a_handler_is_told_from_its_limit(bench: LimitBench) -> None:
    """docs/limits.md, "Nesting": Given a guard inside a limited handler, then each interrupts for
    itself: what the guard raises may be caught, and the limit still holds."""
    ref = bench.started(time_limit=0.3)

    def guarded(component: Any, seconds: float) -> bool:
        guard = time_guard(timeout_ms=50)
        try:
            with guard:
                spin(component, 10.0)
        except ExecutionTimeout as error:
            spin(component, seconds)
            return error.source is guard
        return False

    assert ref.ask(Do(guarded, (0.0,)), timeout=LIMIT) is True
    cause: Any
    cause, seconds = failed(ref, guarded, 10.0)
    assert cause.source == ref.path
    assert cause.limit == 0.3
    assert in_time(seconds, 0.3)


def test_memory_in_process_is_that_of_all_together(bench: LimitBench) -> None:
    """docs/limits.md: "those that are at work when the limit is exceeded, are those that fault":
    Given one without a limit that takes the memory, then a limited one faults that computes
    meanwhile, and one that is idle does not."""
    limit = memory_use("resident").read() + (40 << 20)
    at_work = bench.started(memory_limit=limit)
    idle = bench.started(memory_limit=limit)
    taken = mmap.mmap(-1, 60 << 20)  # not from the heap, which may have as much left over

    def take(component: Any) -> None:
        taken.write(b"\1" * len(taken))

    at_work.tell(Do(spin, (LIMIT,)))
    hoard = bench.started()
    hoard.ask(Do(take), timeout=LIMIT)
    fault = bench.fault(at_work)
    assert fault.kind is FaultKind.MEMORY
    assert isinstance(fault.exception, MemoryLimitExceeded)
    assert bench.of(events.ComponentFaulted, idle) == []
    assert bench.of(events.ComponentFaulted, hoard) == []
    taken.close()
