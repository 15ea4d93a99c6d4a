"""Does the weather station do what was worked out by hand, and for real what its page says?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from examples.weather_station.parts import STATION, GetTotals, Totals
from examples.weather_station.tree import tree
from kompyct import ChildSpec, ComponentSupervisor, WhichChildren
from kompyct.events import ComponentFaulted, ComponentRecovered, RestartDelayed
from kompyct.lint import lint
from kompyct.simulation import simulate
from kompyct.store import MemoryStore
from kompyct.testing import TestSystem
from tests.programs import example


class CrashError(BaseException):
    """Stands for the segmentation fault: no `except Exception` stops it."""


def crash() -> None:
    raise CrashError


def start(system: TestSystem) -> None:
    top = system.create(tree(None, crash), name=STATION)
    system.start(top).result()
    system.run_until_idle()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def system(store: MemoryStore) -> Iterator[TestSystem]:
    """A station in virtual time that has just been started."""
    with TestSystem(store=store) as station:
        start(station)
        yield station


def totals(system: TestSystem) -> Totals:
    archive = system.find(f"{STATION}/archive")
    assert archive is not None
    answer = archive.ask(GetTotals())
    assert isinstance(answer, Totals)
    return answer


def faults(system: TestSystem) -> list[tuple[float, str, str]]:
    return [
        (round(event.time, 3), event.path.removeprefix("station/"), event.error)
        for event in system.events.of(ComponentFaulted)
    ]


def test_a_parser_that_crashes_loses_one_line_and_nobody_else_notices(
    system: TestSystem,
) -> None:
    """By hand: the roof's 10th line, at 1.00 s, is garbage. At 1.05 s it has had 10 lines, one of
    them lost, the cellar 9 of 0.11 s, the garden 8 of 0.13 s. Only that parser is another one."""
    system.advance(1.05)
    assert faults(system) == [(1.0, "parsers/a", "CrashError")]
    assert totals(system) == Totals({"roof": 9, "cellar": 9, "garden": 8}, 1)
    assert [event.path for event in system.events.of(ComponentRecovered)] == ["station/parsers/a"]


def test_a_sensor_that_hangs_up_is_called_again_after_a_while(system: TestSystem) -> None:
    """By hand: the cellar hangs up at 10 x 0.11 = 1.10 s and is back after 0.2 s. From 1.30 to
    2.00 s there are 6 lines of 0.11 s, after 9 before; the roof has 20 with two of them lost."""
    system.advance(2.005)
    assert faults(system)[1] == (1.1, "sensors/cellar", "ConnectionResetError")
    (delay,) = system.events.of(RestartDelayed)
    assert (delay.path, delay.delay) == ("station/sensors/cellar", 0.2)
    assert totals(system) == Totals({"roof": 18, "cellar": 15, "garden": 15}, 2)


def test_an_archive_that_faults_takes_all_others_with_it_and_keeps_its_totals(
    system: TestSystem,
) -> None:
    """By hand: the garden's 18th line, at 2.34 s, is no number. By then the roof has had 23 lines,
    2 of them lost, the garden 17, the cellar 9 and, from 1.30 s on, 9 more. All after the archive
    start anew, and the sensors count from 2.34 s: at 2.98 s 6, 4 and 5 more."""
    system.advance(2.34)
    assert faults(system)[-1] == (2.34, "archive", "ValueError")
    assert totals(system) == Totals({"roof": 21, "garden": 17, "cellar": 18}, 2)
    system.advance(0.64)
    assert totals(system) == Totals({"roof": 27, "garden": 21, "cellar": 23}, 2)
    top = system.find(STATION)
    assert top is not None
    assert [(info.id, info.incarnation) for info in top.ask(WhichChildren())] == [
        ("archive", 2), ("parsers", 2), ("sensors", 2), ("gate", 2), ("reporter", 2)
    ]  # fmt: skip


def test_the_reporter_prints_the_totals_each_second(
    system: TestSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand: at 2 s the roof's 20th line is due at the same time; it was armed at 1.9 s, later
    than the report, at 1 s, so it comes after it: 19 lines, one of them lost."""
    system.advance(2.0)
    assert capsys.readouterr().out.splitlines()[1] == (
        "  report: cellar 15, garden 15, roof 18; 1 lines lost"
    )


def test_the_totals_survive_the_loss_of_the_process(
    system: TestSystem, store: MemoryStore
) -> None:
    """S-25: Given a loss at 2.005 s, then the next start goes on from what was written, which is
    at most 0.1 s older: one line of each sensor less, or none."""
    system.advance(2.005)
    before = totals(system)
    with TestSystem(store=store.crashed()) as again:
        start(again)
        after = totals(again)
        for name, count in before.readings.items():
            assert count - 1 <= after.readings[name] <= count
        again.advance(0.505)
        assert totals(again).readings["roof"] == after.readings["roof"] + 5


def test_its_tree_has_no_findings_as_long_as_parsers_start_quickly() -> None:
    """By hand: a parser that always faults and starts in 0.05 s takes 15 x 0.05 = 0.75 s until its
    supervisor gives up, and five starts of both make (0.75 + 0.10) x 5 = 4.25 s, which is within
    the 10 s of the top. With 0.2 s each it would be (3.0 + 0.4) x 5 = 17 s."""
    assert lint(tree(), start_times={"parsers/a": 0.05, "parsers/b": 0.05}) == []
    (finding,) = lint(tree(), start_times={"parsers/a": 0.2, "parsers/b": 0.2})
    assert (finding.path, finding.code) == ("parsers", "unreachable-limit")
    assert "take 17 s at least" in finding.what


def test_simulate_tells_whether_its_limits_fit_how_often_it_faults() -> None:
    """Given a fault of the archive each 2.34 s and of a parser each second, on average, then the
    top, 5 in 10 s, gives up in every run of ten minutes; with one in 100 s, it does in none."""
    rates = {"archive": 1 / 2.34, "parsers/a": 1.0}
    runs = [simulate(tree(), rates, seconds=600.0, seed=seed) for seed in range(20)]
    ends = [run.ended_at for run in runs if run.ended_at is not None]
    assert len(ends) == 20
    rare = [simulate(tree(), {"archive": 0.01}, seconds=600.0, seed=seed) for seed in range(20)]
    assert [run.ended_at for run in rare] == [None] * 20


def test_the_parsers_are_in_processes_of_their_own() -> None:
    """Given the tree as the program has it, then what may crash natively is out of the way."""
    specs: dict[str, ChildSpec] = dict(tree().walk())
    assert [path for path, spec in specs.items() if spec.backend == "process"] == [
        "parsers/a",
        "parsers/b",
    ]
    assert isinstance(specs["sensors"].factory, ComponentSupervisor)


def test_the_station_survives_its_faults_for_real() -> None:
    """Given a real run of 2.7 s, then a segmentation fault and a lost connection are told of,
    both parts come back, and the next start goes on from the totals of this one.

    By hand: they are due at 1.00, 1.10 and 2.34 s. Ticks that a busy machine is late for are
    skipped, so the last one is not asked for.
    """
    first, again = example("weather_station", "2.7").split("\n\n")
    lines = [line.strip() for line in first.splitlines()]
    assert lines[0] == "starts with: no readings; 0 lines lost"
    assert "station/parsers/a faults: ProcessExitError" in lines
    assert "station/sensors/cellar faults: ConnectionResetError" in lines
    assert "station/parsers/a is back" in lines
    (ends,) = (line for line in lines if line.startswith("ends with: "))
    lines = [line.strip() for line in again.splitlines()]
    assert lines[0] == "Started again, from what it had archived:"
    (starts,) = (line for line in lines if line.startswith("starts with: "))
    counts = [
        [int(word.strip(",;")) for word in line.split() if word.strip(",;").isdigit()]
        for line in (ends, starts)
    ]
    # What came between the last look and the end of the first run is in it as well.
    assert all(0 <= late - early <= 10 for early, late in zip(*counts, strict=True))
