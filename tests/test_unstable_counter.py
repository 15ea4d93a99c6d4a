"""Does the unstable counter do, to the tick, what was worked out by hand?"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.unstable_counter.careful import CarefulCounter
from examples.unstable_counter.counter import GetCount, UnstableCounter
from kompyct import ComponentRef
from kompyct.errors import ComponentDestroyedError
from kompyct.events import ComponentEnded, ComponentFaulted, ComponentRecovered
from kompyct.testing import TestSystem

ROOT = Path(__file__).parent.parent


def start(system: TestSystem, factory: type[UnstableCounter]) -> ComponentRef[GetCount]:
    counter = system.create(factory, name="counter")
    system.start(counter).result()
    return counter


def fault_times(system: TestSystem) -> list[float]:
    return [event.time for event in system.events.of(ComponentFaulted)]


def test_the_counter_faults_five_times_in_five_seconds_and_stands_at_215() -> None:
    """S-04, DESIGN.md: Given the counter in virtual time, then it goes on from 199 each time.

    By hand: the tick at 10·n ms counts to n. At 1 s and 2 s the save was armed a second ago, the
    tick 10 ms ago, so the save goes first and takes 99, then 199. The 256th tick, at 2.56 s,
    finds 255 and faults. From 199 it takes 56 ticks to 255, so every 57th faults: at 2.56 s +
    k·0.57 s, that is 3.13, 3.70, 4.27, 4.84 and next 5.41 s. No incarnation but the first gets
    old enough to save. From 4.84 to 5.00 s there are 16 ticks: 199 + 16 = 215.
    """
    with TestSystem() as system:
        counter = start(system, UnstableCounter)
        system.advance(5.0)
        assert fault_times(system) == [2.56, 3.13, 3.70, 4.27, 4.84]
        assert counter.ask(GetCount()) == 215
        assert counter.incarnation == 6


def test_each_of_its_faults_is_reported_with_its_recovery() -> None:
    """B-89: Given the five faults, then each has one report, and the snapshot grows suspect.

    By hand: the first fault is 0.56 s after the save at 2 s, 56 ticks and the one in hand later:
    the tick of 2.00 s itself comes after the save, so 57 are handled since. The others are 0.57 s
    after the save that `on_start` makes, 57 ticks later. Suspect counts faults since the snapshot
    was restored: 0 at first, then one more each time. Restarts left: 10 less those done.
    """
    with TestSystem() as system:
        start(system, UnstableCounter)
        system.advance(5.0)
        reports = system.events.of(ComponentRecovered)
        assert [report.incarnation for report in reports] == [2, 3, 4, 5, 6]
        assert [report.snapshot_age for report in reports] == [0.56, 0.57, 0.57, 0.57, 0.57]
        assert [report.handled_since_snapshot for report in reports] == [57, 57, 57, 57, 57]
        assert [report.suspect for report in reports] == [0, 1, 2, 3, 4]
        assert [report.restarts_left for report in reports] == [9, 8, 7, 6, 5]
        assert [report.downtime for report in reports] == [0.0] * 5
        assert [event.phase for event in system.events.of(ComponentFaulted)] == ["timer"] * 5


def test_the_restart_limit_ends_a_counter_that_trusts_its_snapshot() -> None:
    """S-08: Given nobody who looks at `suspect`, then the eleventh fault is the end.

    By hand: fault k + 1 is at 2.56 + k·0.57 s, so the eleventh at 8.26 s; the ten restarts before
    it, from 2.56 s on, all lie within the 10 s of the budget.
    """
    with TestSystem() as system:
        counter = start(system, UnstableCounter)
        system.advance(8.25)
        assert counter.incarnation == 11
        system.advance(0.01)
        (end,) = system.events.of(ComponentEnded)
        assert end.time == 8.26
        assert (end.error, end.restarts) == ("OverflowError", 10)
        with pytest.raises(ComponentDestroyedError, match="restart limit of 10 in 10 s"):
            counter.ask(GetCount())


def test_the_careful_counter_steps_back_and_goes_on() -> None:
    """S-27: Given a recovery function that looks at `suspect`, then a round takes 3.13 s.

    By hand: the fault at 2.56 s is the first with 199: trusted. The one at 3.13 s is the second,
    so it starts from the oldest snapshot, the 0 of `on_start`. From 0 it is as at the beginning:
    saves of 99 and 199 after 1 and 2 s, which are newer and so not suspect, faults 2.56 s and
    3.13 s later. So: 2.56, 3.13, 5.69, 6.26, 8.82, 9.39 s, and 61 counts from 9.39 to 10 s.
    """
    with TestSystem() as system:
        counter = start(system, CarefulCounter)
        system.advance(5.0)
        assert fault_times(system) == [2.56, 3.13]
        assert counter.ask(GetCount()) == 187  # from 3.13 s to 5.00 s
        system.advance(5.0)
        assert fault_times(system) == [2.56, 3.13, 5.69, 6.26, 8.82, 9.39]
        assert [event.suspect for event in system.events.of(ComponentFaulted)] == [0, 1] * 3
        assert counter.ask(GetCount()) == 61


def test_the_careful_counter_is_never_ended_by_its_restart_limit() -> None:
    """S-08: Given a minute of it, then it has faulted 38 times and stands at 53.

    By hand: round k faults at 3.13·k + 2.56 s and 3.13·(k + 1) s; 19 rounds end at 59.47 s, and
    the next fault would be at 62.03 s. 0.53 s are left: 53 ticks. In any 10 s there are at most
    8 of them (four pairs), fewer than the budget's 10.
    """
    with TestSystem() as system:
        counter = start(system, CarefulCounter)
        system.advance(60.0)
        assert len(fault_times(system)) == 38
        assert counter.ask(GetCount()) == 53
        assert not system.events.of(ComponentEnded)


def test_two_runs_in_virtual_time_are_the_same() -> None:
    """Given the same program twice, then every event is the same (issue, "Testing kit")."""
    runs = []
    for _ in range(2):
        with TestSystem("counters") as system:
            start(system, UnstableCounter)
            system.advance(5.0)
            runs.append([str(event) for event in system.events])
    assert runs[0] == runs[1]
    assert len(runs[0]) == 10  # five faults, five recoveries


def run_demo(seconds: str) -> list[str]:
    """The lines that the demo prints when it is given `seconds`."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.unstable_counter", seconds],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def check_demo(lines: list[str], least_faults: int) -> None:
    faults = [line for line in lines if "fault: OverflowError; suspect" in line]
    recoveries = [line for line in lines if "recovered: incarnation" in line]
    assert len(faults) >= least_faults
    assert [re.findall(r"incarnation (\d+)", line) for line in recoveries] == [
        [str(number)] for number in range(2, len(faults) + 2)
    ]
    (count,) = [line for line in lines if line.startswith("count: ")]
    assert 0 <= int(count.removeprefix("count: ")) <= 255
    assert lines[-2].startswith("  trusting it:   11 faults, and the end at 8.26 s: restart limit")
    assert lines[-1] == "  stepping back: 38 faults, and it goes on: it stands at 53"


def test_the_demo_shows_each_fault_and_each_recovery() -> None:
    """Given a real run of 3.5 s, then it prints a line for each fault, recovery, and the count.

    By hand: the first fault is due at 2.56 s, the second at 3.13 s at the latest. A busy machine
    may be late, so one is asked for. The last two lines are in virtual time: the numbers above.
    """
    check_demo(run_demo("3.5"), least_faults=1)


@pytest.mark.slow
def test_the_demo_shows_five_faults_in_five_seconds() -> None:
    """Given an idle machine and five real seconds, then it faults and comes back five times.

    In real time the two timers are armed some microseconds apart, the tick first, so the last
    save takes 200: the fifth fault is at 2.56 + 4·0.56 = 4.80 s, the sixth would be at 5.36 s.
    """
    lines = run_demo("5")
    check_demo(lines, least_faults=5)
