"""What exceeds a limit is a fault, and nothing else is hurt: B-16, B-84, B-85, on all backends.

Expected values are from the docstrings of `create` and from RELIABILITY section 1, row "hang,
deadlock": seen within timeout + max(100 ms, 10 %). The tests add `SLACK` for a loaded machine.
What follows a hang is in `test_limited_recovery.py`; what is special to threads in
`test_limited_threads.py`, to virtual time in `test_limited_virtual.py`, to processes in
`test_limited_process.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from kompyct import ComponentSystem, FaultKind, Phase, State, events
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    ExecutionTimeout,
    KompyctError,
    MailboxFullError,
    MemoryLimitExceeded,
)
from kompyct.processes.usage import memory_use
from tests.conftest import LIMIT
from tests.every_backend import MakeBench, gate, make_bench, notes
from tests.hanging import (
    ask_other,
    clean_up,
    go_on,
    go_on_once,
    grow,
    nap,
    note,
    schedule,
    spin,
    swallow,
    wait_for_gate,
)
from tests.limit_bench import SLACK, LimitBench, failed, in_time
from tests.process.components import Do, Gate, Get, Notes, pid
from tests.real_time import backend, bench, patient, shared_bench

__all__ = ["backend", "bench", "gate", "make_bench", "notes", "patient", "shared_bench"]

SHORT = 0.1  # seconds: the limit that is exceeded here
LONG = 2.0  # seconds for which something that cannot be interrupted exceeds it


# -- what is known of it ---------------------------------------------------------------------


@pytest.mark.parametrize("action", [spin, nap, swallow], ids=lambda action: action.__name__)
def test_a_handler_over_its_limit_is_a_hang_with_its_stack(
    bench: LimitBench, action: Callable[..., object]
) -> None:
    """B-84, S-34: Given a handler over its deadline, in Python, in native code, or in Python that
    swallows whatever is raised, then the component has a hang fault with the stack in its context,
    in time, and the asker gets the error then, not after its own timeout."""
    ref = bench.started(state="saved", time_limit=SHORT)
    cause, seconds = failed(ref, action, LONG)
    assert in_time(seconds, SHORT)
    assert isinstance(cause, ExecutionTimeout)
    assert f"{ref.path!r} took longer than its limit of 0.1 s" in str(cause)
    fault = bench.fault(ref)
    assert (fault.kind, fault.phase) == (FaultKind.HANG, Phase.RECEIVE)
    assert isinstance(fault.exception, ExecutionTimeout)
    assert fault.message == Do(action, (LONG,))
    assert (fault.snapshot, fault.incarnation, fault.attempt) == ("saved", 1, 1)
    innermost = "spin" if action is swallow else action.__name__
    assert fault.location.partition(":")[0].endswith("hanging.py")
    assert fault.location.endswith((f"in {innermost}", f"in {action.__name__}"))
    assert "hanging.py" in fault.traceback
    assert f"in {action.__name__}" in fault.traceback
    bench.recovered(ref)
    assert [e.kind for e in bench.of(events.ComponentFaulted, ref)] == ["hang"]
    bench.until(lambda: bool(bench.of(events.ComponentRecovered, ref)))
    assert ref.ask(Get(), timeout=LIMIT) == "saved"
    assert len(bench.of(events.ComponentRecovered, ref)) == 1


@pytest.mark.usefixtures("patient")
def test_the_exception_says_whose_limit_it_was(bench: LimitBench) -> None:
    """`LimitInterrupt`: source and limit say what has interrupted; the stack where."""
    ref = bench.started(time_limit=SHORT)
    cause: Any = failed(ref, spin, LONG)[0]
    assert cause.limit == SHORT
    assert "in spin" in cause.stack


@pytest.mark.usefixtures("patient")
def test_what_ends_in_its_finally_is_not_left_behind(bench: LimitBench, notes: Notes) -> None:
    """B-84: Given a handler that ends in its `finally` within the grace, then that is run, and
    nothing had to be left behind or ended."""
    ref = bench.started(time_limit=SHORT)
    _, seconds = failed(ref, clean_up, notes)
    assert in_time(seconds, SHORT)
    assert notes.lines() == ["cleaned up"]
    fault = bench.fault(ref)
    assert (fault.kind, fault.exit) == (FaultKind.HANG, None)
    assert bench.of(events.HandlerAbandoned, ref) == []


def test_other_components_do_not_notice(bench: LimitBench) -> None:
    """B-16: Given an interrupt inside one component's handler, then only that component faults
    and siblings keep handling messages, while it hangs and afterwards."""
    hanging = bench.started(time_limit=SHORT)
    sibling = bench.started(time_limit=SHORT)
    plain = bench.started()
    hanging.tell(Do(spin, (LONG,)))
    until = time.monotonic() + 2 * SHORT
    while time.monotonic() < until:
        assert sibling.ask(Get(), timeout=LIMIT) == "default"
        assert plain.ask(Get(), timeout=LIMIT) == "default"
    hanging.tell(Do(nap, (4 * SHORT,)))
    bench.fault(hanging, 2)
    assert plain.ask(Do(spin, (2 * SHORT,)), timeout=LIMIT) == "spun"  # it has no limit
    assert (sibling.incarnation, plain.incarnation) == (1, 1)
    assert len(bench.of(events.ComponentFaulted, hanging)) == 2
    assert bench.of(events.ComponentFaulted, sibling) == []
    assert bench.of(events.ComponentFaulted, plain) == []


def test_many_short_handlers_are_within_their_limit(bench: LimitBench) -> None:
    """Docstring of `create`: The limit is of each message, not of all together, and it does not
    run while the component waits for one."""
    limit = 3 * SHORT  # six times what each takes, for a machine that has much else to do
    ref = bench.started(time_limit=limit)
    for _ in range(8):
        ref.tell(Do(nap, (limit / 6,)))
    assert ref.ask(Do(spin, (limit / 6,)), timeout=LIMIT) == "spun"
    bench.pass_time(1.3 * limit)
    assert ref.ask(Get(), timeout=LIMIT) == "default"
    assert ref.incarnation == 1


def test_two_components_hang_at_once(bench: LimitBench) -> None:
    """B-84: Given two that hang at the same time, one in native code, each is seen in time."""
    one = bench.started(time_limit=SHORT)
    two = bench.started(time_limit=2 * SHORT)
    two.tell(Do(nap, (LONG,)))
    assert in_time(failed(one, nap, LONG)[1], SHORT)
    begun = time.monotonic()
    bench.fault(two)
    assert time.monotonic() - begun <= SHORT + 0.1 + SLACK
    assert len(bench.of(events.ComponentFaulted, one)) == 1
    assert len(bench.of(events.ComponentFaulted, two)) == 1


# -- what is limited -------------------------------------------------------------------------


def test_progress_lets_the_time_begin_anew(bench: LimitBench) -> None:
    """Issue 5, point 3: `self.progress()` resets the handler's limit; without it, it counts from
    the last one."""
    ref = bench.started(time_limit=SHORT)
    assert ref.ask(Do(go_on, (0.5 * SHORT, 5)), timeout=LIMIT) == "done"
    cause, seconds = failed(ref, go_on_once, 0.5 * SHORT)
    assert isinstance(cause, ExecutionTimeout)
    assert in_time(seconds - 0.5 * SHORT, SHORT)


def test_progress_without_a_limit_does_nothing(bench: LimitBench) -> None:
    """Docstring of `Component.progress`: "if it has a `time_limit`"."""
    ref = bench.started()
    assert ref.ask(Do(go_on, (0.001, 3)), timeout=LIMIT) == "done"


@pytest.mark.parametrize("action", [spin, nap], ids=lambda action: action.__name__)
def test_ticks_are_limited_too(bench: LimitBench, action: Callable[..., object]) -> None:
    """Docstring of `create`: "seconds that each message and tick may take"."""
    ref = bench.started(time_limit=SHORT, hooks={"start": schedule(action, LONG)})
    begun = time.monotonic()  # it may have been at it already
    fault = bench.fault(ref)
    assert time.monotonic() - begun <= SHORT + 0.1 + SLACK
    assert (fault.kind, fault.phase, fault.message) == (FaultKind.HANG, Phase.TIMER, None)
    bench.recovered(ref)
    assert ref.ask(Get(), timeout=LIMIT) == "default"


def test_an_ask_inside_takes_the_time_of_the_asker(bench: LimitBench, gate: Gate) -> None:
    """B-84, B-16: Given a limited component that asks another one, which takes longer, then the
    asker faults, and the other is not hurt: it goes on when it can."""
    other = bench.started()
    ref = bench.started(time_limit=SHORT)
    _, seconds = failed(ref, ask_other, other, wait_for_gate, gate)
    assert in_time(seconds, SHORT)
    bench.recovered(ref)
    assert ref.ask(Get(), timeout=LIMIT) == "default"
    gate.open()
    assert other.ask(Get(), timeout=LIMIT) == "default"
    assert other.incarnation == 1
    # The reply that came too late is nobody's; the next one is the right one.
    assert ref.ask(Do(ask_other, (other, pid)), timeout=LIMIT) > 0


def test_inline_asks_are_not_run_in_a_thread_that_cannot_be_left(bench: LimitBench) -> None:
    """Docstring of `LimitedCell.ask_inline`: Given both options, then an asker gets its error in
    time though the handler cannot be interrupted."""
    ref = bench.started(time_limit=SHORT, inline_asks=True)
    assert ref.ask(Get(), timeout=LIMIT) == "default"
    assert in_time(failed(ref, nap, LONG)[1], SHORT)
    bench.recovered(ref)
    assert ref.ask(Get(), timeout=LIMIT) == "default"


def test_a_bounded_mailbox_keeps_its_bound_and_its_order(bench: LimitBench, notes: Notes) -> None:
    """B-84 with `mailbox_limit`: Given a full mailbox behind a handler that hangs, then one more
    message is refused, and those in it are handled in order after the recovery."""
    ref = bench.started(time_limit=2 * SHORT, mailbox_limit=4)
    ref.ask(Do(note, (notes, "before")), timeout=LIMIT)
    ref.tell(Do(nap, (LONG,)))
    sent = 0
    try:
        while sent < 20:
            ref.tell(Do(note, (notes, sent)))
            sent += 1
    except MailboxFullError:
        pass
    # On threads the mailbox may still hold the message that hangs, when the fifth comes; and of
    # a process one message more is on its way.
    assert 3 <= sent <= 5
    bench.fault(ref)
    bench.recovered(ref)
    bench.until(lambda: len(notes.lines()) == sent + 1)
    assert notes.lines() == ["before", *map(str, range(sent))]


def test_hooks_have_no_limit(bench: LimitBench) -> None:
    """Docstring of `create`: the limit is of "each message and tick"; `on_start` may take long."""
    ref = bench.started(time_limit=0.1, hooks={"start": partial(spin, seconds=0.3)})
    assert (ref.state, ref.incarnation) == (State.ACTIVE, 1)


# -- memory ----------------------------------------------------------------------------------


def test_memory_over_the_limit_is_a_fault_of_its_own_kind(bench: LimitBench) -> None:
    """B-85: Given a component exceeding its memory limit, then it faults, with its stack, and
    siblings continue."""
    sibling = bench.started()
    limit = memory_use("resident").read() + (60 << 20)
    ref = bench.started(memory_limit=limit)
    cause, _ = failed(ref, grow, 4000)
    assert isinstance(cause, MemoryLimitExceeded)
    assert f"more than its limit of {limit} bytes" in str(cause)
    del cause  # it keeps the frames, and what they had taken
    fault = bench.fault(ref)
    assert (fault.kind, fault.phase, fault.message) == (
        FaultKind.MEMORY,
        Phase.RECEIVE,
        Do(grow, (4000,)),
    )
    assert "in grow" in fault.traceback
    bench.recovered(ref)
    assert sibling.ask(Get(), timeout=LIMIT) == "default"
    assert sibling.incarnation == 1
    assert [e.kind for e in bench.of(events.ComponentFaulted, ref)] == ["memory"]


def test_memory_within_the_limit_is_none(bench: LimitBench) -> None:
    """B-85: Given one that takes 20 MiB of 2 GiB, nothing happens."""
    ref = bench.started(memory_limit="2 GiB", time_limit=LIMIT)
    ref.ask(Do(grow, (20,)), timeout=LIMIT)
    assert ref.incarnation == 1


# -- what is given ---------------------------------------------------------------------------


def test_the_limits_of_the_system_are_the_default(make_bench: MakeBench) -> None:
    """Docstring of `ComponentSystem`: "of components that are created without their own"."""
    bench = make_bench(time_limit=SHORT, memory_limit="8 GiB")
    default = bench.started()
    other_option = bench.started(mailbox_limit=100)
    own = bench.started(time_limit=4 * SHORT)
    for ref in (default, other_option):
        assert in_time(failed(ref, spin, LONG)[1], SHORT)
    assert own.ask(Do(spin, (2 * SHORT,)), timeout=LIMIT) == "spun"
    assert in_time(failed(own, spin, 2 * LONG)[1], 4 * SHORT)


BAD_TIMES = [
    (0, ArgumentError),
    (0.0, ArgumentError),
    (-1, ArgumentError),
    (-0.5, ArgumentError),
    (1e-12, ArgumentError),  # rounds to no nanosecond
    (float("nan"), ArgumentError),
    (float("inf"), ArgumentError),
    (10**400, ArgumentError),
    ("1", ArgumentTypeError),
    ("1 s", ArgumentTypeError),
    (True, ArgumentTypeError),
    (b"1", ArgumentTypeError),
    ([1], ArgumentTypeError),
]
BAD_AMOUNTS = [
    (0, ArgumentError),
    (-1, ArgumentError),
    (2**62 + 1, ArgumentError),
    ("", ArgumentError),
    ("0", ArgumentError),
    ("-5 MiB", ArgumentError),
    ("nonsense", ArgumentError),
    ("512 MiBs", ArgumentError),
    ("512 i", ArgumentError),
    ("MiB", ArgumentError),
    ("nan", ArgumentError),
    ("inf", ArgumentError),
    ("1e9", ArgumentError),
    ("5 EiB", ArgumentError),
    (True, ArgumentTypeError),
    (1.5, ArgumentTypeError),
    (float("inf"), ArgumentTypeError),
    (b"512 MiB", ArgumentTypeError),
]


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [("time_limit", *case) for case in BAD_TIMES]
    + [("memory_limit", *case) for case in BAD_AMOUNTS],
    ids=lambda value: repr(value)[:20] if not isinstance(value, type) else value.__name__,
)
def test_bad_limits_are_refused_before_anything_happens(
    option: str, value: object, error: type[KompyctError]
) -> None:
    """Issue 5, "Bad input": zero, negative, NaN, infinite, a text: refused by name, and nothing
    was made: the factory is not called, and the name stays free."""
    made: list[int] = []

    def factory() -> Any:
        made.append(1)
        raise AssertionError

    given: Any = {option: value}
    with ComponentSystem(backend="pool") as system:
        with pytest.raises(error, match=option):
            system.create(factory, name="n", **given)
        assert (made, system.find("n")) == ([], None)
    with pytest.raises(error, match=option):
        ComponentSystem(backend="pool", **given)


@pytest.mark.parametrize(("value", "error"), BAD_TIMES)
def test_bad_thresholds_of_stalls_are_refused(value: object, error: type[KompyctError]) -> None:
    """Docstring of `ComponentSystem`: `stall_after` is seconds > 0."""
    given: Any = {"stall_after": value}
    with pytest.raises(error, match="stall_after"):
        ComponentSystem(backend="pool", **given)


def test_an_amount_is_what_its_text_says(bench: LimitBench) -> None:
    """Issue 5, point 2: `"512 MiB"`; by hand: 512 * 1024 * 1024 = 536870912."""
    ref = bench.started(memory_limit="512 MiB")
    assert ref._cell.options.memory_limit == 536870912
