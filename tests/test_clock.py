"""What time is it, and what is due when?"""

from __future__ import annotations

import gc
import heapq
import math
import threading
import weakref
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kompyct.clock import SECOND, Alarm, ManualClock, SystemClock, lock_timeout, nanoseconds
from kompyct.errors import ArgumentError, ArgumentTypeError
from tests.conftest import LIMIT

MILLISECOND = SECOND // 1000


class Tracked(Alarm):
    """An alarm whose end can be seen."""


def alarm_into(rung: list[int], number: int, due: int) -> Alarm:
    return Alarm(due, lambda: rung.append(number))


# -- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, 0), (1, 10**9), (0.010, 10**7), (1e-9, 1), (2.56, 2_560_000_000), (86400, 864 * 10**11)],
)
def test_seconds_become_whole_nanoseconds(seconds: float, expected: int) -> None:
    """DESIGN: integer nanoseconds inside, seconds as float in the API. By hand."""
    result = nanoseconds(seconds, "delay")
    assert result == expected
    assert type(result) is int


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan, math.inf, -math.inf])
def test_times_that_are_no_finite_duration_are_refused(seconds: float) -> None:
    """Bad input: negative or NaN delay: named, with value and way out."""
    with pytest.raises(ArgumentError, match=r"delay is .*; give a finite number of seconds >= 0"):
        nanoseconds(seconds, "delay")


@pytest.mark.parametrize("seconds", ["1", None, True, [], 1j])
def test_times_that_are_no_numbers_are_refused(seconds: object) -> None:
    """Bad input: the error is of the right class: also a `TypeError`."""
    with pytest.raises(ArgumentTypeError, match="period is") as raised:
        nanoseconds(seconds, "period")  # type: ignore[arg-type]
    assert isinstance(raised.value, TypeError)


@pytest.mark.parametrize("seconds", [1e300, 10**400], ids=["float", "int"])
def test_times_beyond_all_bounds_raise_no_foreign_error(seconds: float) -> None:
    """Every error derives from `KompyctError`: an enormous delay is refused, or never comes."""
    try:
        result = nanoseconds(seconds, "delay")
    except ArgumentError:
        return
    assert result > 10**30


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, -1),
        (0, 0),
        (2.5, 2.5),
        (math.inf, -1),
        (threading.TIMEOUT_MAX * 2, -1),
        (10**30, -1),
    ],
)
def test_timeouts_become_what_a_lock_takes(seconds: float | None, expected: float) -> None:
    """None, or longer than a lock can wait, is -1: no limit."""
    assert lock_timeout(seconds) == expected


@pytest.mark.parametrize("seconds", [-1, math.nan, -math.inf])
def test_timeouts_below_zero_are_refused(seconds: float) -> None:
    """Bad input: negative or NaN timeout; -1 must not mean "for ever" as in a lock."""
    with pytest.raises(ArgumentError, match=r"timeout is .*give a number of seconds >= 0"):
        lock_timeout(seconds)


@pytest.mark.parametrize("seconds", ["1", True, []])
def test_timeouts_that_are_no_numbers_are_refused(seconds: object) -> None:
    """Bad input: the error is also a `TypeError`."""
    with pytest.raises(ArgumentTypeError, match="timeout is"):
        lock_timeout(seconds)  # type: ignore[arg-type]


# -- virtual time ------------------------------------------------------------------------------


def test_virtual_time_stands_still_until_it_is_moved() -> None:
    """`ManualClock`: it moves to the next alarm, or to the limit if there is none before."""
    clock = ManualClock()
    rung: list[int] = []
    clock.set(alarm_into(rung, 1, 30))
    assert (clock.now(), clock.next_due()) == (0, 30)
    assert not clock.ring_next(29)
    assert (clock.now(), rung) == (29, [])
    assert clock.ring_next(100)
    assert (clock.now(), rung) == (30, [1])
    assert not clock.ring_next(100)
    assert (clock.now(), clock.next_due()) == (100, None)
    assert not clock.ring_next(50)
    assert clock.now() == 100


def test_an_alarm_due_in_the_past_rings_without_turning_time_back() -> None:
    """Times are on a clock that never goes back."""
    clock = ManualClock()
    clock.ring_next(100)
    rung: list[int] = []
    clock.set(alarm_into(rung, 1, 40))
    assert clock.ring_next(100)
    assert (clock.now(), rung) == (100, [1])


def test_alarms_due_together_ring_in_the_order_of_setting() -> None:
    """S-04: ties: (due time, sequence)."""
    clock = ManualClock()
    rung: list[int] = []
    for number, due in enumerate([20, 10, 20, 10, 20]):
        clock.set(alarm_into(rung, number, due))
    while clock.ring_next(20):
        pass
    assert rung == [1, 3, 0, 2, 4]


def test_an_alarm_set_again_goes_behind_those_already_set() -> None:
    """S-04: it takes a new sequence number each time it is armed again."""
    clock = ManualClock()
    rung: list[int] = []
    again = Alarm(10, lambda: rearm())

    def rearm() -> None:
        rung.append(0)
        if again.due < 20:
            again.due += 10
            clock.set(again)

    clock.set(again)
    clock.set(alarm_into(rung, 1, 20))
    while clock.ring_next(20):
        pass
    assert rung == [0, 1, 0]


def test_a_silenced_alarm_does_not_ring() -> None:
    """`Alarm.silence`: never ring again; it is not what is due next either."""
    clock = ManualClock()
    rung: list[int] = []
    first, second = alarm_into(rung, 1, 10), alarm_into(rung, 2, 20)
    clock.set(first)
    clock.set(second)
    first.silence()
    assert clock.next_due() == 20
    while clock.ring_next(30):
        pass
    assert rung == [2]


def test_a_closed_virtual_clock_has_forgotten_its_alarms() -> None:
    """`close`: ring no more."""
    clock = ManualClock()
    rung: list[int] = []
    clock.set(alarm_into(rung, 1, 10))
    clock.close()
    assert clock.next_due() is None
    assert not clock.ring_next(20)
    assert rung == []


def test_silenced_alarms_of_the_far_future_do_not_pile_up() -> None:
    """Components that fault often must not fill the memory with their cancelled timers: of
    100,000 silenced alarms at most a few thousand are still held.
    """
    clock = ManualClock()
    kept: list[weakref.ref[Alarm]] = []
    for number in range(100_000):
        alarm = Tracked(SECOND + number, lambda: None)
        clock.set(alarm)
        kept.append(weakref.ref(alarm))
        alarm.silence()
    gc.collect()
    assert sum(reference() is not None for reference in kept) <= 4096


def test_a_sweep_of_silenced_alarms_keeps_the_others_in_order() -> None:
    """1 in 100 of 5,000 alarms stays, all due at once: they ring in the order of setting."""
    clock = ManualClock()
    rung: list[int] = []
    for number in range(5000):
        alarm = alarm_into(rung, number, 10)
        clock.set(alarm)
        if number % 100:
            alarm.silence()
    while clock.ring_next(10):
        pass
    assert rung == [*range(0, 5000, 100)]


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.integers(0, 20)),
            st.tuples(st.just("silence"), st.integers(0, 50)),
            st.tuples(st.just("ring"), st.integers(0, 20)),
        ),
        max_size=60,
    )
)
def test_alarms_ring_by_due_time_and_order_of_setting(steps: list[tuple[str, int]]) -> None:
    """Property: against a plain heap of (due, number) with a set of those silenced."""
    clock = ManualClock()
    rung: list[int] = []
    expected: list[int] = []
    model: list[tuple[int, int]] = []
    alarms: list[Alarm] = []
    now = 0
    for step, number in steps:
        if step == "set":
            heapq.heappush(model, (now + number, len(alarms)))
            alarms.append(alarm_into(rung, len(alarms), now + number))
            clock.set(alarms[-1])
        elif step == "silence":
            if number < len(alarms):
                alarms[number].silence()
                model = [entry for entry in model if entry[1] != number]
                heapq.heapify(model)
        else:
            now += number
            while clock.ring_next(now):
                pass
            while model and model[0][0] <= now:
                expected.append(heapq.heappop(model)[1])
        assert clock.now() == now
        assert rung == expected


# -- real time ---------------------------------------------------------------------------------


@pytest.fixture
def system_clock() -> object:
    clock = SystemClock("test-clock")
    yield clock
    clock.close()


def test_real_alarms_ring_in_order_and_never_early(system_clock: SystemClock) -> None:
    """B-73: a timer never fires early. Set backwards, 2 ms apart."""
    done = threading.Event()
    rung: list[tuple[int, int]] = []
    start = system_clock.now()

    def ring(number: int) -> Callable[[], None]:
        def note() -> None:
            rung.append((number, system_clock.now()))
            if number == 9:
                done.set()

        return note

    for number in reversed(range(10)):
        system_clock.set(Alarm(start + number * 2 * MILLISECOND, ring(number)))
    assert done.wait(LIMIT)
    assert [number for number, _ in rung] == [*range(10)]
    assert all(time >= start + number * 2 * MILLISECOND for number, time in rung)


def test_an_earlier_alarm_overtakes_one_the_clock_already_sleeps_for(
    system_clock: SystemClock,
) -> None:
    """The clock's thread is woken when something comes first."""
    rung = threading.Event()
    system_clock.set(Alarm(system_clock.now() + 3600 * SECOND, lambda: None))
    system_clock.set(Alarm(system_clock.now() + MILLISECOND, rung.set))
    assert rung.wait(LIMIT)


def test_an_alarm_may_set_itself_again(system_clock: SystemClock) -> None:
    """`due` may be changed between the ring and the next `set`; that is done on its thread."""
    done = threading.Event()
    alarm = Alarm(system_clock.now(), lambda: again())
    times: list[int] = []

    def again() -> None:
        times.append(system_clock.now())
        if len(times) == 5:
            done.set()
        else:
            alarm.due += MILLISECOND
            system_clock.set(alarm)

    system_clock.set(alarm)
    assert done.wait(LIMIT)
    assert len(times) == 5


def test_a_clock_without_alarms_has_no_thread() -> None:
    """`SystemClock`: one daemon thread, started by the first alarm, ended by `close`."""
    clock = SystemClock("idle-clock")
    assert "idle-clock" not in [thread.name for thread in threading.enumerate()]
    clock.set(Alarm(clock.now() + 3600 * SECOND, lambda: None))
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "idle-clock"]
    assert thread.daemon
    clock.close()
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_a_closed_clock_takes_no_more_alarms() -> None:
    """`close`: ring no more; a second close is no error."""
    clock = SystemClock("closed-clock")
    clock.close()
    clock.close()
    rung = threading.Event()
    clock.set(Alarm(clock.now(), rung.set))
    assert not rung.wait(0.02)
    assert "closed-clock" not in [thread.name for thread in threading.enumerate()]


def test_a_clock_may_be_closed_from_its_own_thread() -> None:
    """A shutdown may be begun by an alarm."""
    clock = SystemClock("self-closing")
    closed = threading.Event()

    def close() -> None:
        clock.close()
        closed.set()

    clock.set(Alarm(clock.now(), close))
    assert closed.wait(LIMIT)
