"""May a component be restarted once more, and in which order is it replaced?"""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kompyct import Component, FaultContext, KompyctError, RecoveryHandler, RestartLimit
from kompyct.errors import ArgumentError, ArgumentTypeError, DuplicateNameError
from kompyct.events import ComponentEnded, ComponentFaulted, ComponentRecovered
from kompyct.restart import SECOND
from tests.conftest import LIMIT, Bench

# -- the window, by hand -----------------------------------------------------------------------


def charge_all(limit: RestartLimit, *seconds: float) -> list[bool]:
    """For restarts asked for at those times, whether each is allowed; ends at the first not."""
    window: tuple[int, ...] = ()
    allowed: list[bool] = []
    for second in seconds:
        charged = limit.charge(window, round(second * SECOND))
        allowed.append(charged is not None)
        if charged is None:
            break
        window = charged
    return allowed


def test_the_limit_is_ten_in_ten_seconds_unless_told_otherwise() -> None:
    """Rules, defaults: budget outside trees 10 in 10 s."""
    assert RestartLimit() == RestartLimit(10, 10.0)
    assert charge_all(RestartLimit(), *range(10)) == [True] * 10
    assert charge_all(RestartLimit(), *[0.0] * 11) == [True] * 10 + [False]


def test_so_many_restarts_in_the_window_are_allowed_and_no_more() -> None:
    """OTP: with intensity 3 and period 5, three restarts within 5 s happen, the fourth does not.
    At 6 s the one at 0 s is out of the window, so three are in it again.
    """
    limit = RestartLimit(3, 5.0)
    assert charge_all(limit, 0, 1, 2, 4) == [True, True, True, False]
    assert charge_all(limit, 0, 1, 2, 6) == [True, True, True, True]
    assert charge_all(limit, 0, 1, 2, 6, 6.5) == [True, True, True, True, True]
    assert charge_all(limit, 0, 1, 2, 6, 6.5, 6.9) == [True, True, True, True, True, False]


def test_a_restart_exactly_one_period_ago_still_counts() -> None:
    """OTP's `add_restart` keeps what is not older than now - period; 1 ns more is out."""
    limit = RestartLimit(1, 5.0)
    first = (7,)
    assert limit.charge((), 7) == first
    assert limit.charge(first, 7 + 5 * SECOND) is None
    assert limit.charge(first, 7 + 5 * SECOND + 1) == (7 + 5 * SECOND + 1,)


def test_with_a_limit_of_zero_no_restart_is_allowed() -> None:
    """B-45's rule for a single component: the first fault is the end."""
    assert RestartLimit(0, 5.0).charge((), 0) is None


def test_faults_wider_apart_than_the_window_never_reach_the_limit() -> None:
    """B-44's rule for a single component."""
    assert charge_all(RestartLimit(1, 1.0), *[number * 1.001 for number in range(100)]) == (
        [True] * 100
    )


def test_the_window_keeps_no_more_than_it_needs() -> None:
    """What is out of the window is forgotten, so a component that faults for years stays small."""
    limit = RestartLimit(2, 1.0)
    window: tuple[int, ...] = ()
    for number in range(1000):
        charged = limit.charge(window, number * SECOND)
        assert charged is not None
        window = charged
    assert window == (998 * SECOND, 999 * SECOND)


@given(
    gaps=st.lists(st.integers(0, 40), max_size=60),
    most=st.integers(0, 5),
    within=st.integers(1, 30),
)
def test_the_window_agrees_with_a_naive_count(gaps: list[int], most: int, within: int) -> None:
    """Property: a restart at t is allowed if fewer than `most` were in [t - within, t]. The
    naive model keeps every time there was; a refused one ends the component.
    """
    limit = RestartLimit(most, within)
    window: tuple[int, ...] = ()
    times: list[int] = []
    now = 0
    for gap in gaps:
        now += gap * SECOND
        recent = [time for time in times if now - within * SECOND <= time <= now]
        assert limit.recent(window, now) == tuple(recent)
        charged = limit.charge(window, now)
        if len(recent) >= most:
            assert charged is None
            break
        times.append(now)
        assert charged == (*recent, now)
        window = (*recent, now)


@pytest.mark.parametrize(
    ("most", "error"),
    [
        (-1, ArgumentError),
        (1.5, ArgumentTypeError),
        ("3", ArgumentTypeError),
        (None, ArgumentTypeError),
        (True, ArgumentTypeError),
    ],
)
def test_a_number_of_restarts_that_is_none_is_refused(
    most: object, error: type[KompyctError]
) -> None:
    """Bad input: named, with the value and what to give."""
    with pytest.raises(error, match=r"max_restarts is .*; give a whole number >= 0"):
        RestartLimit(most)  # type: ignore[arg-type]


@pytest.mark.parametrize("within", [0, -1.0, math.nan, math.inf])
def test_a_window_that_is_no_duration_is_refused(within: float) -> None:
    """Bad input: named, with the value and what to give."""
    with pytest.raises(ArgumentError, match=r"within is .*; give a number of seconds > 0"):
        RestartLimit(1, within)


@pytest.mark.parametrize("within", ["10", None, [1]])
def test_a_window_that_is_no_number_is_refused_by_an_error_of_ours(within: object) -> None:
    """DESIGN: every error derives from `KompyctError`."""
    with pytest.raises(KompyctError, match="within"):
        RestartLimit(1, within)  # type: ignore[arg-type]


# -- the window, in a system -------------------------------------------------------------------


def restart(fault: FaultContext[Any]) -> RecoveryHandler:
    return fault.restart()


class Order(Component[Any]):
    """Notes when its hooks begin and return, with the incarnation; `stop_error` faults on_stop."""

    def __init__(self, notes: list[str], stop_error: bool = False) -> None:
        self.notes = notes
        self.stop_error = stop_error

    def on_start(self) -> None:
        self.notes.append(f"start {self.ref.incarnation}")
        self.set_recovery_function(restart)

    def on_stop(self) -> None:
        self.notes.append(f"stop {self.ref.incarnation} begins")
        threading.Event().wait(0.005)
        self.notes.append(f"stop {self.ref.incarnation} returns")
        if self.stop_error and self.ref.incarnation == 1:
            raise ValueError("in on_stop")

    def on_receive(self, message: Any) -> None:
        raise ValueError("boom")


def test_the_stop_hook_has_returned_before_the_next_start_hook(bench: Bench) -> None:
    """B-61: Given a slow stop hook and a start ordered at once, the start hook begins after the
    stop hook has returned.
    """
    notes: list[str] = []
    ref = bench.system.create(lambda: Order(notes))
    bench.system.start(ref)
    bench.system.stop(ref)
    bench.system.start(ref).result(LIMIT)
    assert notes == ["start 1", "stop 1 begins", "stop 1 returns", "start 1"]


def test_a_stop_hook_that_faults_has_ended_before_its_replacement_starts(bench: Bench) -> None:
    """B-61: Given a stop hook that faults, the new incarnation's start hook comes after it."""
    notes: list[str] = []
    ref = bench.system.create(lambda: Order(notes, stop_error=True))
    bench.system.start(ref)
    with pytest.raises(KompyctError, match="on_stop"):
        bench.system.stop(ref).result(LIMIT)
    bench.event(ComponentRecovered)
    bench.system.start(ref).result(LIMIT)
    assert notes == ["start 1", "stop 1 begins", "stop 1 returns", "start 2"]


def test_a_name_is_taken_until_the_stop_hook_of_a_kill_has_returned(bench: Bench) -> None:
    """B-61: Given a kill and a new component of the same name, it cannot be created, and so not
    started, before the old one's hook has returned.
    """
    notes: list[str] = []
    ref = bench.system.create(lambda: Order(notes), name="one")
    bench.system.start(ref).result(LIMIT)
    killed = bench.system.kill(ref)

    def created() -> bool:
        try:
            later = bench.system.create(lambda: Order(notes), name="one")
        except DuplicateNameError:
            return False
        bench.system.start(later).result(LIMIT)
        return True

    bench.until(created)
    assert killed.done()
    assert notes == ["start 1", "stop 1 begins", "stop 1 returns", "start 1"]


def test_kept_resources_are_left_before_the_next_start_hook(bench: Bench) -> None:
    """B-61, S-05: Given a fault, what the old incarnation kept is left before `on_start`."""
    notes: list[str] = []

    class Resource:
        def __enter__(self) -> None:
            notes.append("entered")

        def __exit__(self, *error: object) -> None:
            notes.append("left")

    class Keeper(Component[Any]):
        def on_start(self) -> None:
            notes.append("start")
            self.set_recovery_function(restart)
            self.keep(Resource())

        def on_receive(self, message: Any) -> None:
            raise ValueError("boom")

    ref = bench.system.create(Keeper, start=True)
    ref.tell("go")
    bench.event(ComponentRecovered)
    assert notes == ["start", "entered", "left", "start", "entered"]


def test_a_component_that_faults_for_ever_ends_with_its_budget(bench: Bench) -> None:
    """S-08: 4 restarts are allowed, so there are 5 incarnations and 5 faults, and a clear reason;
    a neighbour is untouched.
    """
    notes: list[str] = []
    ref = bench.system.create(lambda: Order(notes), name="cursed", budget=RestartLimit(4, 60.0))
    neighbour = bench.system.create(lambda: Order([]), start=True)
    for _ in range(20):
        ref.tell("go")
    bench.system.start(ref)
    ended = bench.event(ComponentEnded)
    assert (ended.path, ended.incarnation, ended.restarts) == ("cursed", 5, 4)
    assert "restart limit of 4 in 60 s" in ended.reason
    assert len(bench.events.of(ComponentFaulted)) == 5
    assert notes == [f"start {number}" for number in range(1, 6)]
    assert neighbour.is_alive


def test_a_restart_that_fails_counts_as_one(bench: Bench) -> None:
    """S-13, B-47's rule for a single component: a replacement that cannot start uses up the
    budget instead of looping for ever: 1 + 3 faults with a budget of 3.
    """
    made: list[int] = []

    class Dud(Component[Any]):
        def __init__(self) -> None:
            made.append(1)
            if len(made) > 1:
                raise ValueError("no second one")

        def on_start(self) -> None:
            self.set_recovery_function(restart)

        def on_receive(self, message: Any) -> None:
            raise ValueError("boom")

    ref = bench.system.create(Dud, budget=RestartLimit(3, 60.0), start=True)
    ref.tell("go")
    assert bench.event(ComponentEnded).incarnation == 4
    assert [event.phase for event in bench.events.of(ComponentFaulted)] == [
        "receive",
        "create",
        "create",
        "create",
    ]
