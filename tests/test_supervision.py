"""Does the pure engine of supervision do what OTP's supervisor does, in every order of events?

`tests/harness/supervision.py` says how it is compared with a model of its own; the long form is
`make supervise`.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from kompyct import Backoff, RestartLimit
from kompyct.strategy import Forget, Outcome, Over, Ready, Release, Start, Stop, Wait
from tests.harness.mutants_supervision import MUTANTS
from tests.harness.planting import Mutant
from tests.harness.supervision import (
    PERMANENT,
    SIGNIFICANT,
    STATIC,
    TEMPORARY,
    TRANSIENT,
    Kind,
    Pair,
    Setup,
    explore,
    search,
    setups,
    special_setups,
    walk,
)

KINDS = (PERMANENT, TRANSIENT, TEMPORARY)


# -- every order ------------------------------------------------------------------------------


def test_every_order_of_a_few_events_ends_as_otp_would_have_it() -> None:
    """RELIABILITY 3: every strategy x restart types x what may happen, up to 3 children."""
    events = sum(explore(pair, 5)[0] for pair in setups((1,)))
    events += sum(explore(pair.bring_up(), 3)[0] for pair in setups((2,)))
    events += sum(explore(pair.bring_up(), 2)[0] for pair in setups((3,)))
    assert events > 10_000


def test_every_order_with_delays_and_significant_children_ends_as_otp_would_have_it() -> None:
    """RELIABILITY 3: as above, with backoff, `auto_shutdown`, and children that are added."""
    assert sum(explore(pair, 4)[0] for pair in special_setups(1)) > 3_000
    assert sum(explore(pair.bring_up(), 2)[0] for pair in special_setups(2)) > 2_000


def test_long_random_runs_end_as_otp_would_have_them() -> None:
    """RELIABILITY 3: 400 runs of up to 60 events; the seed is in what a failure says."""
    assert sum(walk(seed, 60) for seed in range(400)) > 4_000


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_planted_bug_is_caught(mutant: Mutant) -> None:
    """RELIABILITY 3: Given a seeded mutant, then the search finds it, or it proves nothing."""
    with mutant.planted():
        assert search(walks=600)


# -- in any order, and made small when it breaks -----------------------------------------------


class EngineMachine(RuleBasedStateMachine):
    """Events in any order, to the engine and to its model; see `Pair`."""

    pair: Pair

    @initialize(
        strategy=st.sampled_from((*STATIC, "dynamic")),
        kinds=st.lists(st.sampled_from((*KINDS, *SIGNIFICANT)), max_size=4),
        most=st.sampled_from((0, 1, 3, None)),
        auto=st.sampled_from(("any_significant", "all_significant")),
        backoff=st.sampled_from((None, (0.5, 4.0, 2.0))),
        keep=st.booleans(),
    )
    def declare(
        self,
        strategy: str,
        kinds: list[Kind],
        most: int | None,
        auto: str,
        backoff: tuple[float, float, float] | None,
        keep: bool,
    ) -> None:
        chosen = () if strategy == "dynamic" else tuple(kinds)
        setup = Setup(strategy, chosen, most, 5.0, auto, backoff, keep)
        self.pair = Pair(setup, {"y": PERMANENT, "z": SIGNIFICANT[1]})

    @rule(data=st.data())
    def happen(self, data: Any) -> None:
        events = list(self.pair.events())
        if events:
            self.pair.do(data.draw(st.sampled_from(events)))

    @rule(seconds=st.sampled_from((0.5, 5.0)))
    def pass_time(self, seconds: float) -> None:
        self.pair.pass_time(seconds)

    def teardown(self) -> None:
        if hasattr(self, "pair"):
            self.pair.settle()


def test_the_engine_does_what_its_model_says() -> None:
    """RELIABILITY 3: one step at a time, no start of what is not down, nothing after `Over`, never
    more restarts than the limit, stops in reverse start order, each fault decided once."""
    run_state_machine_as_test(
        EngineMachine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


# -- what was found, and what reads better in full ---------------------------------------------


def happened(setup: Setup, *events: tuple[str, str | None, Any], **spare: Kind) -> list[Any]:
    """What the engine does at the last of these events; the model agrees on all of them."""
    pair = Pair(setup, spare)
    done: list[Any] = []
    for name, key, detail in events:
        done = _done(pair, name, key, detail)
    return done


def _done(pair: Pair, name: str, key: str | None, detail: Any) -> list[Any]:
    done: list[Any] = []
    original = pair._check

    def check(event: Any, actions: list[Any], before: Any) -> None:
        done.extend(actions)
        original(event, actions, before)

    pair._check = check  # type: ignore[method-assign]  # to see what it sees
    if name == "pass":
        pair.pass_time(detail)
    else:
        pair.do((name, key, detail))
    del pair._check
    return done


UP_2 = (("started", "a", None), ("started", "b", None))
UP_3 = (*UP_2, ("started", "c", None))


def test_a_group_stops_in_reverse_order_one_at_a_time_and_starts_in_order() -> None:
    """Source: OTP, `one_for_all`: terminate_children, then start_children."""
    setup = Setup("one_for_all", (PERMANENT,) * 3)
    events: list[tuple[str, str, Any]] = [*UP_3, ("exit", "b", "fault")]
    assert happened(setup, *events) == [Stop("c", True)]
    for event, expected in (
        (("stopped", "c", None), [Stop("a", True)]),
        (("stopped", "a", None), [Start("a")]),
        (("started", "a", None), [Start("b")]),
        (("started", "b", None), [Start("c")]),
        (("started", "c", None), []),
    ):
        events.append(event)
        assert happened(setup, *events) == expected


def test_a_temporary_child_that_goes_down_with_its_group_does_not_come_back() -> None:
    """Source: OTP's terminate_children, which leaves out temporary ones."""
    setup = Setup("one_for_all", (PERMANENT, TEMPORARY, PERMANENT))
    events = [*UP_3, ("exit", "a", "fault"), ("exit", "b", "fault")]
    assert happened(setup, *events) == [Release("b"), Forget("b")]
    events += [("stopped", "c", None), ("started", "a", None)]
    assert happened(setup, *events) == [Start("c")]


def test_a_group_that_waits_for_its_delay_is_not_lost_to_another_fault() -> None:
    """Given rest_for_one, where a waits and a child added meanwhile faults, then that waits until
    all of the first group are up."""
    setup = Setup("rest_for_one", (PERMANENT, PERMANENT), 5, 5.0, "never", (1.0, 1.0, 9.0))
    events: list[tuple[str, str | None, Any]] = [
        *UP_2, ("exit", "a", "fault"), ("stopped", "b", None),
        ("add", "z", PERMANENT), ("started", "z", None), ("exit", "z", "fault"),
    ]  # fmt: skip
    assert happened(setup, *events, z=PERMANENT) == []
    events += [("pass", None, 1.0), ("due", "a", 1)]
    assert happened(setup, *events, z=PERMANENT) == [Start("a")]
    events += [("started", "a", None), ("started", "b", None)]
    (wait,) = happened(setup, *events, z=PERMANENT)
    assert isinstance(wait, Wait)
    assert (wait.key, wait.delay) == ("z", 1_000_000_000)


def test_the_delay_of_a_deleted_child_is_not_that_of_a_new_one_of_its_id() -> None:
    """Given a child that waits, is deleted and added again, then the old delay starts nothing."""
    setup = Setup("one_for_one", (), 5, 5.0, "never", (1.0, 1.0, 9.0))
    events: list[tuple[str, str | None, Any]] = [
        ("add", "z", PERMANENT), ("started", "z", None), ("exit", "z", "fault"),
        ("delete", "z", None), ("pass", None, 0.9),
        ("add", "z", PERMANENT), ("started", "z", None), ("exit", "z", "fault"),
        ("pass", None, 0.1), ("due", "z", 1),
    ]  # fmt: skip
    assert happened(setup, *events, z=PERMANENT) == []
    events += [("pass", None, 0.9), ("due", "z", 2)]
    assert happened(setup, *events, z=PERMANENT) == [Start("z")]


def test_a_supervisor_without_children_left_shuts_itself_down_after_its_start() -> None:
    """Given all significant children gone while the last child was starting, then `Over`."""
    kinds = (Kind("temporary", True), TEMPORARY)
    setup = Setup("one_for_all", kinds, auto_shutdown="all_significant")
    events = [("started", "a", None), ("exit", "a", "normal"), ("stopped", "b", None)]
    done = happened(setup, *events)
    assert done[0] == Forget("b")
    assert Ready() in done
    assert done[-1] == Over(Outcome.AUTO_SHUTDOWN)


# -- delays and limits ------------------------------------------------------------------------


def test_delays_double_up_to_the_longest() -> None:
    """Source: Akka: minBackoff x 2^n, at most maxBackoff; by hand."""
    backoff = Backoff(0.5, 3.0, jitter=0)
    delays = [backoff.delay(earlier, 0.7) / 1e9 for earlier in range(6)]
    assert delays == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]


def test_the_jitter_lengthens_by_its_share_at_most() -> None:
    """Source: Akka: calculatedDelay x (1 + random x randomFactor); by hand."""
    backoff = Backoff(1.0, 8.0, jitter=0.25)
    assert [backoff.delay(1, random) / 1e9 for random in (0.0, 0.5, 1.0)] == [2.0, 2.25, 2.5]
    assert backoff.delay(9, 1.0) / 1e9 == 10.0  # of the longest as well


@given(
    st.floats(1e-6, 1e3), st.floats(1, 1e6), st.floats(0, 1), st.integers(0, 10**9),
    st.floats(0, 1),
)  # fmt: skip
def test_a_delay_is_never_below_the_one_before_nor_above_the_longest(
    least: float, factor: float, jitter: float, earlier: int, random: float
) -> None:
    """Given any backoff, however many restarts came before, then it stays within its bounds."""
    backoff = Backoff(least, least * factor, jitter)
    delay = backoff.delay(earlier, random)
    assert round(least * 1e9) <= delay
    assert delay <= least * factor * (1 + jitter) * 1e9 * (1 + 1e-9) + 1
    assert backoff.delay(earlier + 1, random) >= delay


def test_a_child_that_has_run_as_long_as_the_longest_delay_begins_anew() -> None:
    """Given reset_after or, without, max, then exactly that long is enough."""
    assert not Backoff(1.0, 4.0).is_over(3_999_999_999)
    assert Backoff(1.0, 4.0).is_over(4_000_000_000)
    assert Backoff(1.0, 4.0, reset_after=2.0).is_over(2_000_000_000)


def test_a_limit_of_one_in_five_seconds_is_otps() -> None:
    """Source: OTP, intensity 1, period 5: the second restart within the period is too many, and
    inPeriod counts one exactly a period ago."""
    limit, second = RestartLimit(1, 5.0), 1_000_000_000
    charged = limit.charge((), 0)
    assert charged == (0,)
    assert limit.charge((0,), 5 * second) is None
    assert limit.charge((0,), 5 * second + 1) == (5 * second + 1,)
