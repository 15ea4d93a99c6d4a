"""When does a component's scheduled action run?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kompyct import Benign, Component, ComponentRef, FaultContext, RecoveryHandler, Request
from kompyct.clock import SECOND, ManualClock
from kompyct.errors import IncarnationEndedError, NotStartedError
from kompyct.events import BenignError, ComponentFaulted, ComponentRecovered
from kompyct.testing import TestSystem
from tests.conftest import LIMIT, Bench


@dataclass(frozen=True)
class Call(Request[Any]):
    """Ask for `action(component)`."""

    action: Callable[[Any], Any]


def restart(fault: FaultContext[Any]) -> RecoveryHandler:
    return fault.restart()


class Scheduler(Component[Any]):
    """Calls `on_each_start(self)` at its start, and what it is sent."""

    def __init__(self, on_each_start: Callable[[Any], object] | None = None) -> None:
        self.on_each_start = on_each_start

    def on_start(self) -> None:
        self.set_recovery_function(restart)
        if self.on_each_start is not None:
            self.on_each_start(self)

    def on_receive(self, message: Any) -> Any:
        return message.action(self) if isinstance(message, Call) else message(self)


def started(
    bench: Bench, on_each_start: Callable[[Any], object] | None = None, **options: Any
) -> ComponentRef[Any]:
    ref = bench.system.create(lambda: Scheduler(on_each_start), **options)
    bench.system.start(ref).result(LIMIT)
    return ref


def pass_time_inside(component: Any, seconds: float) -> None:
    """Let time pass while a handler runs."""
    clock = component.system.clock
    if isinstance(clock, ManualClock):
        until = clock.now() + round(seconds * SECOND)
        while clock.ring_next(until):
            pass
    else:
        threading.Event().wait(seconds)


def raise_value_error(component: Any = None) -> None:
    raise ValueError("boom")


# -- when --------------------------------------------------------------------------------------


def test_a_timer_never_fires_early(bench: Bench) -> None:
    """B-73: Given timers of 0 to 20 ms, each fires at or after its due time, as read from the
    clock before it was set.
    """
    early: list[float] = []
    fired: list[float] = []
    ref = started(bench)

    def schedule(component: Any) -> None:
        clock = component.system.clock
        for delay in (0.020, 0.0, 0.010, 0.005, 0.001):
            due = clock.now() + round(delay * SECOND)

            def action(due: int = due, delay: float = delay) -> None:
                fired.append(delay)
                if clock.now() < due:
                    early.append(delay)

            component.schedule_once(delay, action)

    ref.ask(Call(schedule))
    bench.until(lambda: len(fired) == 5)
    assert early == []
    assert fired == [0.0, 0.001, 0.005, 0.010, 0.020]


def test_a_timer_set_once_fires_once(bench: Bench) -> None:
    """`schedule_once`: once, as a message of its own."""
    fired: list[int] = []
    started(bench, lambda component: component.schedule_once(0.001, lambda: fired.append(1)))
    bench.until(lambda: bool(fired))
    bench.pass_time(0.01)
    assert fired == [1]


def test_a_cancelled_periodic_timer_does_not_fire_again(bench: Bench) -> None:
    """B-73: Given a cancel from outside, at most the tick in flight still runs."""
    fired: list[int] = []
    handles: list[Any] = []
    ref = started(
        bench,
        lambda component: handles.append(
            component.schedule_periodic(0.0, 0.001, lambda: fired.append(1))
        ),
    )
    bench.until(lambda: len(fired) >= 3)
    handles[0].cancel()
    ref.ask(Call(lambda component: None))  # what was in flight has run
    count = len(fired)
    bench.pass_time(0.02)
    ref.ask(Call(lambda component: None))
    assert len(fired) == count


def test_a_queued_tick_of_a_cancelled_timer_does_not_run(bench: Bench) -> None:
    """B-73, S-04: cancelled by its own component while the tick waits: it never runs."""
    fired: list[int] = []
    ref = started(bench)

    def set_wait_cancel(component: Any) -> None:
        handle = component.schedule_periodic(0.001, 0.001, lambda: fired.append(1))
        pass_time_inside(component, 0.01)
        handle.cancel()
        handle.cancel()

    ref.ask(Call(set_wait_cancel))
    bench.pass_time(0.01)
    ref.ask(Call(lambda component: None))
    assert fired == []


def test_a_timer_may_cancel_itself(bench: Bench) -> None:
    """B-73: the action that cancels its own timer is the last."""
    fired: list[int] = []
    handles: list[Any] = []

    def tick() -> None:
        fired.append(1)
        if len(fired) == 3:
            handles[0].cancel()

    started(
        bench, lambda component: handles.append(component.schedule_periodic(0.001, 0.001, tick))
    )
    bench.until(lambda: len(fired) == 3)
    bench.pass_time(0.02)
    assert len(fired) == 3


def test_cancelling_from_many_threads_disturbs_nobody(bench: Bench) -> None:
    """Cancels race with ticks: no fault, and nothing fires once all are cancelled."""
    fired: list[int] = []
    handles: list[Any] = []

    def schedule(component: Any) -> None:
        for _ in range(200):
            handles.append(component.schedule_periodic(0.0, 0.002, lambda: fired.append(1)))

    ref = started(bench, schedule)
    parts = [handles[number::4] for number in range(4)]

    def cancel(part: list[Any]) -> None:
        for handle in part:
            handle.cancel()

    threads = [threading.Thread(target=cancel, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    ref.ask(Call(lambda component: None))
    count = len(fired)
    bench.pass_time(0.02)
    ref.ask(Call(lambda component: None))
    assert len(fired) == count
    assert not bench.events.of(ComponentFaulted)


def test_handles_can_be_kept_in_sets(bench: Bench) -> None:
    """DESIGN: handles are hashable and have `.cancel()`; each is only equal to itself."""

    def schedule(component: Any) -> int:
        handles = [component.schedule_once(100.0, lambda: None) for _ in range(3)]
        kept = {*handles, *handles}
        assert handles[0] in kept
        for handle in kept:
            handle.cancel()
        return len(kept)

    assert started(bench).ask(Call(schedule)) == 3


# -- which active period -----------------------------------------------------------------------


def test_no_timer_of_an_old_incarnation_reaches_the_new_one(bench: Bench) -> None:
    """B-74: Given timers of the faulted incarnation, due and waiting, none reaches the next."""
    fired: list[int] = []

    def schedule(component: Any) -> None:
        incarnation = component.ref.incarnation
        if incarnation == 1:
            component.schedule_periodic(0.002, 0.002, lambda: fired.append(incarnation))
            component.schedule_once(0.010, lambda: fired.append(incarnation))

    ref = started(bench, schedule)

    def wait_and_fault(component: Any) -> None:
        pass_time_inside(component, 0.005)  # a tick waits in the mailbox now
        fired.clear()
        raise ValueError("boom")

    ref.tell(wait_and_fault)
    bench.event(ComponentRecovered)
    bench.pass_time(0.02)
    assert ref.ask(Call(lambda component: component.ref.incarnation)) == 2
    assert fired == []


def test_the_rate_does_not_double_after_a_recovery(bench: Bench) -> None:
    """B-74: Given recoveries that each start the same periodic timer, it keeps its rate: due
    times are a period apart, so in any span there are at most span / period + 1 ticks.
    """
    ticks: list[int] = []

    def schedule(component: Any) -> None:
        clock = component.system.clock
        component.schedule_periodic(0.005, 0.005, lambda: ticks.append(clock.now()))

    ref = started(bench, schedule)
    for count in range(1, 4):
        ref.tell(raise_value_error)
        bench.event(ComponentRecovered, count)
    ref.ask(Call(lambda component: ticks.clear()))
    bench.until(lambda: len(ticks) >= 10)
    span = ticks[9] - ticks[0]
    assert span >= 8 * 5_000_000  # the first of them may have come late, by less than a period
    assert ref.incarnation == 4


def test_the_rate_does_not_double_after_a_stop_and_start(bench: Bench) -> None:
    """B-74, S-04: as above, for a stop and a second `on_start`."""
    ticks: list[int] = []

    def schedule(component: Any) -> None:
        clock = component.system.clock
        component.schedule_periodic(0.005, 0.005, lambda: ticks.append(clock.now()))

    ref = started(bench, schedule)
    for _ in range(3):
        bench.system.stop(ref).result(LIMIT)
        bench.system.start(ref).result(LIMIT)
    ref.ask(Call(lambda component: ticks.clear()))
    bench.until(lambda: len(ticks) >= 10)
    assert ticks[9] - ticks[0] >= 8 * 5_000_000


def test_a_stopped_component_has_no_timers(bench: Bench) -> None:
    """S-04: stop cancels them, queued ticks included, and a start does not bring them back."""
    fired: list[int] = []
    ref = started(bench)

    def schedule_and_stop(component: Any) -> None:
        component.schedule_periodic(0.001, 0.001, lambda: fired.append(1))
        component.schedule_once(0.001, lambda: fired.append(2))
        pass_time_inside(component, 0.005)
        component.stop_self()

    ref.tell(schedule_and_stop)
    bench.until(lambda: ref.state.value == "passive")
    bench.pass_time(0.01)
    bench.system.start(ref).result(LIMIT)
    bench.pass_time(0.01)
    ref.ask(Call(lambda component: None))
    assert fired == []


def test_a_killed_component_has_no_timers(bench: Bench) -> None:
    """S-04: kill cancels them, queued ticks included."""
    fired: list[int] = []
    ref = started(bench)

    def schedule_and_end(component: Any) -> None:
        component.schedule_periodic(0.001, 0.001, lambda: fired.append(1))
        pass_time_inside(component, 0.005)
        component.kill_self()

    ref.tell(schedule_and_end)
    bench.until(lambda: not ref.is_alive)
    bench.pass_time(0.01)
    assert fired == []


def test_timers_can_only_be_set_while_active(bench: Bench) -> None:
    """S-21: timers raise until start; S-06: and after the incarnation's end."""

    class Hasty(Component[Any]):
        def __init__(self) -> None:
            with pytest.raises(NotStartedError, match=r"'hasty'.*on_start"):
                self.schedule_once(1.0, lambda: None)

    bench.system.create(Hasty, name="hasty")
    ref = started(bench)
    component = ref.ask(Call(lambda component: component))
    bench.system.stop(ref).result(LIMIT)
    with pytest.raises(NotStartedError):
        component.schedule_once(1.0, lambda: None)
    bench.system.kill(ref).result(LIMIT)
    with pytest.raises(IncarnationEndedError):
        component.schedule_once(1.0, lambda: None)


def test_a_timer_that_raises_is_a_fault_of_phase_timer(bench: Bench) -> None:
    """Scope 3: faults in timers reach the supervisor like any other."""

    def schedule(component: Any) -> None:
        if component.ref.incarnation == 1:
            component.schedule_once(0.001, raise_value_error)

    started(bench, schedule)
    assert bench.event(ComponentFaulted).phase == "timer"
    assert bench.event(ComponentRecovered).incarnation == 2


def test_a_timer_that_raises_a_benign_exception_goes_on(bench: Bench) -> None:
    """B-12's rule for timers: it is logged, and the next tick comes."""
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        raise Benign("never mind")

    started(bench, lambda component: component.schedule_periodic(0.001, 0.001, tick))
    bench.until(lambda: len(ticks) >= 3)
    assert bench.event(BenignError, 2).phase == "timer"
    assert not bench.events.of(ComponentFaulted)


# -- missed ticks ------------------------------------------------------------------------------


def missed_ticks(missed: Literal["skip", "burst"], then: float) -> tuple[list[float], float]:
    """A timer of 1 s; from 1.0 s to 6.5 s the component is busy, then `then` seconds pass.

    Returns: the times of the ticks, and the virtual time at the end.
    """
    ticks: list[float] = []
    with TestSystem() as system:
        ref = system.create(
            lambda: Scheduler(
                lambda component: component.schedule_periodic(
                    1.0, 1.0, lambda: ticks.append(system.time), missed=missed
                )
            ),
            start=True,
        )
        system.advance(1.0)
        ref.tell(lambda component: pass_time_inside(component, 5.5))
        system.run_until_idle()
        system.advance(then)
        return ticks, system.time


def test_missed_ticks_are_skipped() -> None:
    """S-04: at most one tick waits: those of 2 to 6 s become one, at 6.5 s; then 7 and 8 s."""
    assert missed_ticks("skip", 1.5) == ([1.0, 6.5, 7.0, 8.0], 8.0)


def test_missed_ticks_are_caught_up_by_choice() -> None:
    """S-04: `burst`: the five of 2 to 6 s are made up for at 6.5 s; then 7 and 8 s."""
    assert missed_ticks("burst", 1.5) == ([1.0, *[6.5] * 5, 7.0, 8.0], 8.0)


def test_a_burst_lets_messages_between_its_ticks() -> None:
    """S-04: a periodic timer has at most one tick in the mailbox, also when it makes up."""
    order: list[str] = []

    def busy(component: Any) -> None:
        pass_time_inside(component, 3.0)
        for _ in range(2):
            component.ref.tell(lambda _: order.append("message"))

    with TestSystem() as system:
        ref = system.create(
            lambda: Scheduler(
                lambda component: component.schedule_periodic(
                    1.0, 1.0, lambda: order.append("tick"), missed="burst"
                )
            ),
            start=True,
        )
        ref.tell(busy)
        system.run_until_idle()
    assert order == ["tick", "message", "message", "tick", "tick"]


def test_a_burst_goes_on_over_benign_exceptions() -> None:
    """S-04, B-12: ticks are made up for although each raises benignly: five of them."""
    ticks: list[float] = []

    with TestSystem() as system:

        def tick() -> None:
            ticks.append(system.time)
            raise Benign("never mind")

        ref = system.create(
            lambda: Scheduler(
                lambda component: component.schedule_periodic(1.0, 1.0, tick, missed="burst")
            ),
            start=True,
        )
        ref.tell(lambda component: pass_time_inside(component, 5.5))
        system.run_until_idle()
    assert ticks == [5.5] * 5


@pytest.mark.parametrize("kind", ["thread", "pool"])
def test_a_late_real_timer_catches_up_by_choice(kind: str) -> None:
    """S-04 in real time: 50 ms of a busy component are ten ticks of 5 ms. A burst makes up for
    them, so later ticks come on time again (the best of 40 tells); a skipping timer loses at
    least eight of them for good, so later ticks are 40 ms behind their number.
    """
    bench = Bench(kind)
    ticks: dict[str, list[int]] = {"skip": [], "burst": []}
    begun: list[int] = []  # just before and just after the timers were set

    def schedule(component: Any) -> None:
        begun.append(time.monotonic_ns())
        for missed, into in ticks.items():
            component.schedule_periodic(
                0.005, 0.005, lambda into=into: into.append(time.monotonic_ns()), missed=missed
            )
        begun.append(time.monotonic_ns())

    def busy(component: Any) -> int:
        threading.Event().wait(0.05)
        return time.monotonic_ns()

    with bench.system:
        ref = started(bench, schedule)
        busy_until = ref.ask(Call(busy))
        bench.until(lambda: min(map(len, ticks.values())) >= 60)

    def lateness(missed: str, since: int) -> list[int]:
        due = enumerate(ticks[missed], 1)
        late = [(at, at - since - number * 5_000_000) for number, at in due]
        return [behind for at, behind in late if at > busy_until + 10_000_000]

    before, after = begun
    assert min(lateness("burst", before)) >= 0
    assert min(lateness("burst", after)) < 20_000_000
    assert min(lateness("skip", before)) >= 40_000_000


# -- drift -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "pool"])
def test_a_slow_action_does_not_make_its_timer_drift(kind: str) -> None:
    """Scope 5: no drift. 40 ticks, 10 ms apart, each taking 4 ms: were delays added up, the last
    ones would be 160 ms late. The least late of the last ten tells, so that one slow wake-up of
    a busy machine does not.
    """
    bench = Bench(kind)
    ticks: list[int] = []
    begun: list[int] = []  # just before and just after the timer was set

    def tick() -> None:
        ticks.append(time.monotonic_ns())
        threading.Event().wait(0.004)

    def schedule(component: Any) -> None:
        begun.append(time.monotonic_ns())
        component.schedule_periodic(0.010, 0.010, tick, missed="burst")
        begun.append(time.monotonic_ns())

    with bench.system:
        started(bench, schedule)
        bench.until(lambda: len(ticks) >= 40)
    late = [at - number * 10_000_000 for number, at in enumerate(ticks, 1)]
    assert min(late) - begun[0] >= 0
    assert min(late[30:40]) - begun[1] < 80_000_000


def test_due_times_are_multiples_of_the_period() -> None:
    """Scope 5: no drift, exactly: 10,000 periods of 0.1 s, which no binary fraction is,
    end at 1,000 s and not beside it, since times are whole nanoseconds inside.
    """
    ticks: list[int] = []
    with TestSystem() as system:
        system.create(
            lambda: Scheduler(
                lambda component: component.schedule_periodic(0.1, 0.1, lambda: ticks.append(1))
            ),
            start=True,
        )
        system.advance(1000.0)
        assert len(ticks) == 10_000


# -- virtual time ------------------------------------------------------------------------------


def test_virtual_time_takes_no_real_time_and_fires_in_due_order() -> None:
    """B-75: Given the manual clock, a day of timers passes in no time, in the order due. Without
    virtual time this would take 24 hours.
    """
    fired: list[int] = []

    def schedule(component: Any) -> None:
        for hour in (24, 1, 12, 6, 18):
            component.schedule_once(hour * 3600.0, lambda hour=hour: fired.append(hour))

    begun = time.monotonic()
    with TestSystem() as system:
        system.create(lambda: Scheduler(schedule), start=True)
        system.advance(24 * 3600.0 - 1)
        assert fired == [1, 6, 12, 18]
        system.advance(1)
        assert fired == [1, 6, 12, 18, 24]
    assert time.monotonic() - begun < LIMIT


@settings(deadline=None)
@given(delays=st.lists(st.integers(0, 6), max_size=20))
def test_timers_fire_by_due_time_and_then_in_the_order_set(delays: list[int]) -> None:
    """B-75, S-04: Given any delays, the order is (due time, sequence): a stable sort."""
    fired: list[int] = []

    def schedule(component: Any) -> None:
        for number, delay in enumerate(delays):
            component.schedule_once(delay, lambda number=number: fired.append(number))

    with TestSystem() as system:
        system.create(lambda: Scheduler(schedule), start=True)
        system.advance(6.0)
    assert fired == sorted(range(len(delays)), key=lambda number: delays[number])


def test_of_timers_due_together_the_one_armed_longest_ago_goes_first() -> None:
    """S-04: at 2 s, the 1 s timer was armed again at 1 s, the 2 s timer at 0 s: so the latter
    goes first, although it was set second; at 3 s only the first is due; at 4 s again so.
    """
    fired: list[str] = []

    def schedule(component: Any) -> None:
        component.schedule_periodic(1.0, 1.0, lambda: fired.append("one"))
        component.schedule_periodic(2.0, 2.0, lambda: fired.append("two"))

    with TestSystem() as system:
        system.create(lambda: Scheduler(schedule), start=True)
        system.advance(4.0)
    assert fired == ["one", "two", "one", "one", "two", "one"]


def test_ties_are_settled_across_components_as_well() -> None:
    """S-04: the sequence is the clock's, not the component's."""
    fired: list[str] = []
    with TestSystem() as system:
        for name in ("a", "b"):

            def schedule(component: Any, name: str = name) -> None:
                component.schedule_periodic(1.0, 1.0, lambda: fired.append(name))

            ref = system.create(Scheduler)
            system.start(ref).result(LIMIT)
            ref.ask(Call(schedule))
        system.advance(3.0)
    assert fired == ["a", "b"] * 3


class UnstableCounter(Component[Any]):
    """The counter of DESIGN: one byte, counted every 10 ms, saved every second."""

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def on_start(self) -> None:
        self.schedule_periodic(0.010, 0.010, self.increment)
        self.schedule_periodic(1.0, 1.0, self.save)
        self.save()

    def on_receive(self, message: Any) -> int:
        return self.count

    def increment(self) -> None:
        if self.count == 255:
            raise OverflowError("count would exceed 255")
        self.count += 1

    def save(self) -> None:
        self.set_recovery_function(recover_count, snapshot=self.count)


def recover_count(fault: FaultContext[int]) -> RecoveryHandler:
    return fault.restart(lambda: UnstableCounter(fault.snapshot))


def test_the_unstable_counter_shows_the_numbers_worked_out_by_hand() -> None:
    """S-04: saves 199 last (the save due at 2 s comes before the increment due then), faults at
    2.56, then each 0.57 s later, since 199 + 56 = 255 and the 57th increment faults: 3.13, 3.70,
    4.27 and 4.84 s; 199 + 16 increments from 4.85 to 5.00 s stand at 215.
    """
    with TestSystem() as system:
        ref: ComponentRef[Any] = system.create(UnstableCounter, start=True)
        system.advance(5.0)
        faults = system.events.of(ComponentFaulted)
        assert [event.time for event in faults] == [2.56, 3.13, 3.70, 4.27, 4.84]
        assert [event.phase for event in faults] == ["timer"] * 5
        assert ref.ask(Call(lambda component: None)) == 215
        assert system.time == 5.0


def test_the_unstable_counter_saves_just_before_it_counts() -> None:
    """S-04: every recovery starts from 199, first 0.56 s after that save."""
    snapshots: list[int] = []
    ages: list[float | None] = []

    class Watched(UnstableCounter):
        def save(self) -> None:
            self.set_recovery_function(watch, snapshot=self.count)

    def watch(fault: FaultContext[int]) -> RecoveryHandler:
        snapshots.append(fault.snapshot)
        ages.append(fault.snapshot_age)
        return fault.restart(lambda: Watched(fault.snapshot))

    with TestSystem() as system:
        system.create(Watched, start=True)
        system.advance(5.0)
    assert snapshots == [199] * 5
    assert ages == [0.56, *[0.57] * 4]
