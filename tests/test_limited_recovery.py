"""What becomes of messages, saves and the component itself after a hang: B-84, S-06, S-10.

On every backend on which time is real; how much time a hang takes to be seen is tested in
`test_limited.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kompyct import RestartLimit, State, events, overdue
from kompyct.clock import SECOND
from kompyct.errors import (
    ComponentDestroyedError,
    ComponentFaultError,
    ExecutionTimeout,
    RestartingError,
)
from tests.conftest import LIMIT
from tests.every_backend import MakeBench, gate, make_bench, notes
from tests.hanging import (
    nap,
    nap_the_first_time,
    note,
    save,
    save_and_nap,
    spin,
)
from tests.limit_bench import GRACE, SLACK, LimitBench, failed, in_time
from tests.process.components import Do, DoAgain, Get, Notes, ending
from tests.real_time import backend, bench, shared_bench

__all__ = ["backend", "bench", "gate", "make_bench", "notes", "shared_bench"]

SHORT = 0.1  # seconds: the limit that is exceeded here
LONG = 0.5  # seconds for which something that cannot be interrupted exceeds it


# -- messages, saves and recovery ------------------------------------------------------------


def test_what_was_queued_is_handled_in_order_by_the_next_one(
    bench: LimitBench, notes: Notes
) -> None:
    """S-10 and B-84: Given messages queued behind one that hangs, then each of them is handled
    once, in their order, by the next incarnation."""
    ref = bench.started(time_limit=SHORT)
    for line in range(20):
        ref.tell(Do(note, (notes, line)))
    ref.tell(Do(nap, (LONG,)))
    for line in range(20, 400):  # more than a turn takes, see `CHUNK`
        ref.tell(Do(note, (notes, line)))
    bench.fault(ref)
    for line in range(400, 420):
        ref.tell(Do(note, (notes, line)))
    expected = [str(line) for line in range(420)]
    bench.until(lambda: len(notes.lines()) >= len(expected))
    bench.recovered(ref)
    ref.ask(Get(), timeout=LIMIT)
    assert notes.lines() == expected
    bench.until(lambda: bool(bench.of(events.ComponentRecovered, ref)))
    report = bench.of(events.ComponentRecovered, ref)[0]
    assert (report.kind, report.dropped) == ("hang", 1)


def test_a_queued_ask_fails_at_once(bench: LimitBench) -> None:
    """S-16: Given an ask queued behind a handler that hangs, then it fails with RestartingError
    when that faults."""
    ref = bench.started(time_limit=SHORT)
    ref.tell(Do(nap, (2.0,)))
    begun = time.monotonic()
    with pytest.raises(RestartingError):
        ref.ask(Get(), timeout=LIMIT)
    assert time.monotonic() - begun <= SHORT + 0.1 + SLACK


def test_a_message_that_asks_for_it_meets_the_next_incarnation(
    bench: LimitBench, notes: Notes
) -> None:
    """`OnRestart.REDELIVER`: Given such an ask in hand at a hang, then the next incarnation
    answers it."""
    ref = bench.started(time_limit=SHORT)
    request = DoAgain(nap_the_first_time, (notes, LONG))
    assert ref.ask(request, timeout=LIMIT) == "second time"
    assert ref.incarnation == 2


def test_the_save_before_the_hang_counts_and_the_one_after_it_does_not(
    bench: LimitBench,
) -> None:
    """S-06, S-10: Given a handler that saves, hangs in native code, and saves again when its
    thread comes back, then recovery sees the first, and the second changes nothing."""
    ref = bench.started(time_limit=SHORT)
    failed(ref, save_and_nap, "in time", 2 * SHORT)
    fault = bench.fault(ref)
    assert (fault.snapshot, fault.saved_in_hand) == ("in time", True)
    bench.recovered(ref)
    bench.pass_time(2 * SHORT)  # the thread is back
    failed(ref, spin, LONG)
    assert bench.fault(ref, 2).snapshot == "in time"


def test_hangs_are_charged_to_the_budget(bench: LimitBench) -> None:
    """S-08: Given a budget of two restarts and a third hang, then the component ends, with the
    event that says why."""
    ref = bench.started(time_limit=0.1, budget=RestartLimit(2, 60.0))
    for incarnation in (2, 3):
        failed(ref, spin, LONG)
        bench.recovered(ref, incarnation)
    failed(ref, nap, 2 * SHORT)
    bench.until(lambda: not ref.is_alive)
    bench.until(lambda: bool(bench.of(events.RestartLimitReached, ref)))
    assert bench.of(events.RestartLimitReached, ref)[0].error == "ExecutionTimeout"
    with pytest.raises(ComponentDestroyedError):
        ref.ask(Get(), timeout=LIMIT)


def test_a_recovery_function_may_end_it(bench: LimitBench) -> None:
    """B-84: A hang is a fault like any other: what its recovery function answers is done."""
    ref = bench.started(time_limit=SHORT, recovery=ending)
    failed(ref, nap, LONG)
    bench.until(lambda: not ref.is_alive)
    bench.until(lambda: bool(bench.of(events.ComponentEnded, ref)))
    assert bench.of(events.ComponentRecovered, ref) == []


def test_what_is_stored_is_recovered_after_a_hang_and_by_the_next_system(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    """S-25, S-06: Given a stored component that saves and hangs, then it goes on from that save,
    and the next system's `recover()` from the last one; there the limit of the system holds."""
    first = make_bench(store=tmp_path / "store")
    ref = first.started(name="stored holder", time_limit=SHORT)
    failed(ref, save_and_nap, "first", 2 * SHORT)
    first.recovered(ref)
    assert ref.ask(Get(), timeout=LIMIT) == "first"
    ref.ask(Do(save, ("second",)), timeout=LIMIT)
    first.pass_time(SHORT)  # the thread is back, if it was left behind
    first.system.shutdown()
    second = make_bench(store=tmp_path / "store", time_limit=SHORT)
    (again,) = second.system.recover()
    assert again.ask(Get(), timeout=LIMIT) == "second"
    before = again.incarnation
    cause, seconds = failed(again, nap, LONG)
    assert isinstance(cause, ExecutionTimeout)
    assert in_time(seconds, SHORT)
    second.recovered(again, before + 1)
    assert again.ask(Get(), timeout=LIMIT) == "second"


# -- the end of what hangs -------------------------------------------------------------------


@pytest.mark.parametrize("brutal", [False, True])
def test_kill_ends_what_hangs(bench: LimitBench, brutal: bool) -> None:
    """B-84: Given a kill while a handler hangs in native code, then the component ends when its
    limit has passed, and not when the handler does."""
    ref = bench.started(time_limit=SHORT)
    ref.tell(Do(nap, (3 * LONG,)))
    bench.pass_time(0.05)
    begun = time.monotonic()
    bench.system.kill(ref, brutal=brutal).result(LIMIT)
    assert time.monotonic() - begun <= SHORT + 0.1 + SLACK
    assert not ref.is_alive
    bench.started(name=ref.path)  # the name is free


def test_stop_pauses_what_hangs(bench: LimitBench, notes: Notes) -> None:
    """B-84: Given a stop while a handler hangs, then the next incarnation is passive; messages
    wait for its start."""
    ref = bench.started(time_limit=SHORT)
    ref.tell(Do(nap, (LONG,)))
    bench.pass_time(0.05)
    bench.system.stop(ref).result(LIMIT)
    ref.tell(Do(note, (notes, "later")))
    bench.until(lambda: ref.incarnation == 2 and ref.state is State.PASSIVE)
    bench.until(lambda: bool(bench.of(events.ComponentRecovered, ref)))
    assert notes.lines() == []
    bench.system.start(ref).result(LIMIT)
    bench.until(lambda: notes.lines() == ["later"])


def test_shutdown_does_not_wait_for_what_hangs(make_bench: MakeBench) -> None:
    """Defaults: Shutdown gives 5 s to a component. One with a limit of 0.1 s that hangs for 3 s
    needs less: it is left, or ended, when its limit has passed."""
    bench = make_bench()
    ref = bench.started(time_limit=SHORT)
    left_before = bench.started(time_limit=SHORT)
    failed(left_before, nap, 3.0)
    ref.tell(Do(nap, (3.0,)))
    bench.pass_time(0.05)
    begun = time.monotonic()
    bench.system.shutdown()
    # 1 s for the backend to wait for its threads, see `Runtime._end`.
    assert time.monotonic() - begun <= SHORT + 0.1 + 1.0 + 2 * SLACK
    assert bench.events.of(events.Abandoned) == []


def test_killing_after_an_abandonment_is_final(bench: LimitBench) -> None:
    """Given a component whose thread was left behind, or whose process was ended, then a kill ends
    it in order at once."""
    ref = bench.started(time_limit=SHORT)
    failed(ref, nap, LONG)
    bench.recovered(ref)
    begun = time.monotonic()
    bench.system.kill(ref).result(LIMIT)
    assert time.monotonic() - begun <= SLACK
    bench.until(lambda: bool(bench.of(events.ComponentEnded, ref)))
    assert bench.of(events.ComponentEnded, ref)[0].reason == "killed"


# -- races -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "is_late"), [(spin, False), (nap, True)], ids=["interrupt", "abandonment"]
)
def test_at_the_deadline_each_ask_has_one_outcome(
    bench: LimitBench,
    action: Callable[..., object],
    is_late: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S-06, B-84: Given handlers that end at about the moment at which they are interrupted, or
    taken away, then each ask has either its reply or its error, each error is one fault and one
    recovery, and the component lives on."""
    limit = 0.03
    edge = 0.0
    if is_late:
        edge = GRACE["thread"]  # a process has as long here, and not 0.25 s
        monkeypatch.setattr(overdue, "_grace_of", lambda limit: round(edge * SECOND))
    ref = bench.started(time_limit=limit, budget=RestartLimit(100, 60.0))
    faults = 0
    for number in range(8):  # each moment once
        seconds = limit + edge + (number - 4) * 0.001
        try:
            assert ref.ask(Do(action, (seconds,)), timeout=LIMIT) in ("spun", "slept")
        except ComponentFaultError:
            faults += 1
            bench.recovered(ref, 1 + faults)
        assert ref.incarnation == 1 + faults
    assert ref.ask(Get(), timeout=LIMIT) == "default"
    assert len(bench.of(events.ComponentFaulted, ref)) == faults
    bench.until(lambda: len(bench.of(events.ComponentRecovered, ref)) == faults)
