"""Does the unstable counter do, to the tick, what was worked out by hand?"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from examples.unstable_counter import __main__ as demo
from examples.unstable_counter import counter as counting
from examples.unstable_counter.careful import CarefulCounter
from examples.unstable_counter.counter import GetCount, UnstableCounter
from kompyct import ComponentRef
from kompyct.errors import ComponentCreateError, ComponentDestroyedError
from kompyct.events import ComponentEnded, ComponentFaulted, ComponentRecovered
from kompyct.store import MemoryStore
from kompyct.testing import TestSystem
from tests.conftest import LIMIT
from tests.programs import ROOT, example


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
    """S-27, B-81: Given a recovery function that steps back, then a round takes 2.15 s.

    By hand: the saves are 0, 99 and 199. The fault at 2.56 s is the first with 199: trusted. The
    one at 3.13 s is the second, so it goes on from 99. From there it saves 198 after 1 s, at
    4.13 s, which is newer and so not suspect, and the 157th tick finds 255: a fault at 4.70 s.
    From 198 the 58th does, at 5.28 s: back to 99, as at 3.13 s. So the faults are 2.56 s, and
    then 3.13 + 2.15·k and 4.70 + 2.15·k s. At 5 s it is 30 ticks after 198, at 10 s, 42 ticks
    after the 99 of 9.58 s.
    """
    with TestSystem() as system:
        counter = start(system, CarefulCounter)
        system.advance(5.0)
        assert fault_times(system) == [2.56, 3.13, 4.70]
        assert counter.ask(GetCount()) == 228
        system.advance(5.0)
        assert fault_times(system) == [2.56, 3.13, 4.70, 5.28, 6.85, 7.43, 9.00, 9.58]
        assert [event.suspect for event in system.events.of(ComponentFaulted)] == [0, 1] * 4
        assert counter.ask(GetCount()) == 141


def test_the_careful_counter_is_never_ended_by_its_restart_limit() -> None:
    """S-08: Given a minute of it, then it has faulted 54 times and stands at 196.

    By hand: after the faults at 2.56 and 3.13 s, round k has two, until 3.13 + 2.15·k s. 26
    rounds end at 59.03 s, and the next fault would be at 60.60 s. 0.97 s are left: 97 ticks from
    99 on. Eleven faults in a row take five rounds, 10.75 s, longer than the 10 s of the budget.
    """
    with TestSystem() as system:
        counter = start(system, CarefulCounter)
        system.advance(60.0)
        assert len(fault_times(system)) == 54
        assert counter.ask(GetCount()) == 196
        assert not system.events.of(ComponentEnded)


def test_a_counter_whose_process_is_lost_goes_on_from_what_was_stored() -> None:
    """S-24, S-25: Given the loss of the process, then the next start goes on from 199.

    By hand: at 2.30 s the save of 199 at 2 s was written, since it is written within 100 ms. The
    next start goes on from 199, so at 0.5 s it stands at 249, and it faults at 0.57 s. That is
    the second time that 199 was handed out with nothing newer saved: suspect 1. A save which
    comes later than the loss is not there: at 1.02 s, 99 was saved at 1 s but not yet written.
    """
    store = MemoryStore()
    with TestSystem(store=store) as system:
        start(system, UnstableCounter)
        system.advance(1.02)
        too_early = store.crashed()
        system.advance(1.28)
        lost = store.crashed()
    with TestSystem(store=lost) as system:
        counter = start(system, UnstableCounter)
        (report,) = system.events.of(ComponentRecovered)
        assert (report.kind, report.incarnation) == ("process_lost", 2)
        system.advance(0.5)
        assert counter.ask(GetCount()) == 249
        system.advance(0.07)
        assert system.events.of(ComponentFaulted)[-1].suspect == 1
    with TestSystem(store=too_early) as system:
        assert start(system, UnstableCounter).ask(GetCount()) == 0


def test_orderly_ends_hold_nothing_against_a_snapshot() -> None:
    """S-26: Given orderly ends, then each next start goes on with SHUTDOWN, and suspect is 0.

    By hand: the last save before the end at 2.5 s is 199, and no later one comes before the ends
    at 0.3 s. The overflow 0.57 s after the last start is then the first fault since 199 was
    restored: suspect 1, however often it was restored in peace.
    """
    store = MemoryStore()
    with TestSystem(store=store) as system:
        start(system, UnstableCounter)
        system.advance(2.5)
    for incarnation in (2, 3, 4):
        with TestSystem(store=store) as system:
            counter = start(system, UnstableCounter)
            (report,) = system.events.of(ComponentRecovered)
            assert (report.kind, report.suspect) == ("shutdown", 0)
            assert report.incarnation == incarnation
            assert counter.ask(GetCount()) == 199
            system.advance(0.3)
            assert counter.ask(GetCount()) == 229
            if incarnation == 4:
                system.advance(0.27)
                assert system.events.of(ComponentFaulted)[-1].suspect == 1


def test_the_careful_counter_steps_back_over_the_loss_of_its_process_too() -> None:
    """S-27, B-81: Given a snapshot whose every start loses the process, then all are tried.

    By hand: the generations at 2.30 s are 199, 99 and 0. Each start below is lost at once, so
    that the starts begin with 199, 99, 0, and then afresh, which is 0 as well. The fifth is
    escalated: `create` raises, and what is stored stays.
    """
    store = MemoryStore()
    with TestSystem(store=store) as system:
        start(system, CarefulCounter)
        system.advance(2.3)
        store = store.crashed()
    counts = []
    for _ in range(4):
        with TestSystem(store=store) as system:
            counts.append(start(system, CarefulCounter).ask(GetCount()))
            system.flush()
            lost = store.crashed()
        store = lost
    assert counts == [199, 99, 0, 0]
    with TestSystem(store=store) as system, pytest.raises(ComponentCreateError):
        system.create(CarefulCounter, name="counter")
    assert store.paths() == ("counter",)


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


def number_after(start: str, lines: list[str]) -> int:
    """The number in the one line that begins with `start`."""
    (line,) = [line for line in lines if line.startswith(start)]
    return int(line.removeprefix(start))


def check_demo(lines: list[str], least_faults: int) -> None:
    """Every part of the demo says what it should."""
    first, killed, last = (part.splitlines() for part in "\n".join(lines).split("\n\n"))
    faults = [line for line in first if "fault: OverflowError; suspect" in line]
    recoveries = [line for line in first if "recovered: incarnation" in line]
    assert len(faults) >= least_faults
    assert [re.findall(r"incarnation (\d+)", line) for line in recoveries] == [
        [str(number)] for number in range(2, len(faults) + 2)
    ]
    assert 0 <= number_after("count: ", first) <= 255
    again = killed.index("Started again. After this it ends in order:")
    once_more = killed.index("And once more:")
    assert killed[again - 1].endswith("killed by SIGKILL")
    for part, kind in (
        (killed[again:once_more], "PROCESS_LOST"),
        (killed[once_more:], "SHUTDOWN"),
    ):
        assert f"recovered from {kind}: incarnation " in part[1]
        # The second save, of about 199, was on the disk. How late the start was is the machine's.
        assert 150 <= number_after("starts at: ", part) <= number_after("count: ", part) <= 255
    assert last[-2].startswith("  trusting it:   11 faults, and the end at 8.26 s: restart limit")
    assert last[-1] == "  stepping back: 54 faults, and it goes on: it stands at 196"


def test_the_demo_shows_faults_a_kill_an_orderly_end_and_the_remedy() -> None:
    """Given a real run of 3.5 s, then it prints a line for each fault, recovery, and the count.

    By hand: the first fault is due at 2.56 s, the second at 3.13 s at the latest. A busy machine
    may be late, so one is asked for. The last two lines are in virtual time: the numbers above.
    """
    check_demo(example("unstable_counter", "3.5").splitlines(), least_faults=1)


class Written(list[str]):
    """Stands for `sys.stdout`: what is written, by whichever thread, piece for piece."""

    def write(self, piece: str) -> None:
        self.append(piece)

    def flush(self) -> None:
        pass


def test_each_line_is_written_in_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given events, which another thread prints, then none gets into the midst of a line.

    By hand: two starts and two counts; the second start goes on from the first, which is told.
    """
    written = Written()
    monkeypatch.setattr(sys, "stdout", written)
    for _ in range(2):
        demo.run(0.02, tmp_path / "state")
    assert all(piece.endswith("\n") and piece.count("\n") == 1 for piece in written), written
    kinds = Counter(re.sub(r"[\d.]+.*", "", piece).strip() or "event" for piece in written)
    assert kinds == {"starts at:": 2, "count:": 2, "event": 1}


def test_a_run_beyond_the_restart_limit_ends_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given a counter that overflows at once, so that its restart limit ends it before the time
    is up, then the last line says why, and nothing is raised.

    By hand: it faults at the second count, 2 ms after each start; the eleventh fault is the end,
    after 22 ms and ten recoveries, which take some milliseconds each.
    """
    monkeypatch.setattr(counting, "LIMIT", 1)
    monkeypatch.setattr(counting, "COUNT_EVERY", 0.001)
    demo.run(1.0, tmp_path / "state")
    lines = capsys.readouterr().out.splitlines()
    assert sum("recovered: incarnation" in line for line in lines) == 10
    assert lines[-1].startswith("component 'counter' has ended: restart limit of 10 in 10 s")


@pytest.mark.slow
def test_the_demo_shows_five_faults_in_five_seconds() -> None:
    """Given an idle machine and five real seconds, then it faults and comes back five times.

    In real time the two timers are armed some microseconds apart, the tick first, so the last
    save takes 200: the fifth fault is at 2.56 + 4·0.56 = 4.80 s, the sixth would be at 5.36 s.
    """
    lines = example("unstable_counter", "5").splitlines()
    check_demo(lines, least_faults=5)


def test_the_counter_leaves_nothing_in_the_folder_it_is_run_in(tmp_path: Path) -> None:
    """Given the counter with a folder for its snapshots, then they are there and nowhere else."""
    store = tmp_path / "state"
    done = subprocess.run(
        [sys.executable, "-m", "examples.unstable_counter", "0.05", str(store)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=LIMIT,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


# -- kill -9 -----------------------------------------------------------------------------------

TELLING = """
import itertools, os, sys
from examples.unstable_counter import counter

save, number = counter.UnstableCounter.save, itertools.count()

def telling_save(self):
    os.write(1, b"saving %d\\n" % self.count)
    save(self)
    if next(number) % 3 == 0:  # the others are written behind
        self.system.flush()
        os.write(1, b"saved %d\\n" % self.count)

counter.UnstableCounter.save = telling_save
counter.LIMIT, counter.COUNT_EVERY, counter.SAVE_EVERY = 10**9, 0.0005, 0.002
counter.main(60.0, sys.argv[1])
"""
"""The counter, quicker and without its limit, which tells of each save and each flush."""

KILLS = 10


def test_killed_at_random_moments_the_counter_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """DESIGN.md, S-24, S-25: Given `kill -9` at any moment, then no flushed count is lost.

    The oracle: what a start begins with was being saved by the process before, and is no less than
    the last count whose flush had returned. The counts only grow, so lines that a kill cut off
    need no thought but that they end with a newline.
    """
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)  # noqa: T201
    moments = random.Random(seed)
    acknowledged, saving = 0, {0}
    for kill in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", TELLING, str(tmp_path / "state")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            # Every other one is killed from its first breath on, so maybe before it has recovered.
            told = process.stdout.readline() if kill % 2 else b""
            time.sleep(moments.uniform(0.0, 0.3))
            process.kill()
            told += process.stdout.read()
        assert process.returncode == -signal.SIGKILL
        saves = [int(count) for count in re.findall(rb"^saving (\d+)\n", told, re.MULTILINE)]
        flushes = [int(count) for count in re.findall(rb"^saved (\d+)\n", told, re.MULTILINE)]
        if not saves:
            continue
        assert told.startswith(b"saving %d\n" % saves[0])
        assert saves[0] >= acknowledged
        assert saves[0] in saving
        saving.update(saves)
        acknowledged = max([acknowledged, *flushes])
    assert acknowledged > 0
