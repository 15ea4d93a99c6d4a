"""The benchmarks run and compare what they say; no time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic_ns

import pytest

from benchmarks import alone
from benchmarks.__main__ import main
from benchmarks.folders import file_system_of
from benchmarks.groups import GROUPS, ROWS, find_case
from benchmarks.measure import rates_by_turns
from benchmarks.plan import MICROSECONDS, PER_SECOND, Row, at_least, at_most
from benchmarks.report import lines, show, table, write_between_marks
from benchmarks.runner import Samples
from benchmarks.stamps import Stamp, new_stamp

RATE = Row(
    "tell",
    "tell",
    "tell",
    "rate",
    PER_SECOND,
    ("pool",),
    ("pykka", "xoscar"),
    (at_least(10, "pool", "pykka"),),
)
TIME = Row("ask", "ask", "ask", "p50", MICROSECONDS, ("pool",), goals=(at_most(3, "pool"),))


def _rates(*, pool: float, pykka: float) -> Samples:
    return {
        "tell/pool": {"rate": [pool / 2, pool, pool * 3]},
        "tell/pykka": {"rate": [pykka]},
        "tell/xoscar": None,
    }


def test_chosen_rows_are_measured_and_written_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The runner runs the cases of the rows it is given, kompyct's and the peers', and writes
    each repeat's figure, the medians, the ratios and the goals."""
    file = tmp_path / "figures.json"
    options = ["--only", "save", "fan", "--repeats", "2", "--scale", "0.001"]
    main([*options, "--json", str(file)])
    written = json.loads(file.read_text("utf-8"))
    assert written["command"] == "python -m benchmarks --only save fan --repeats 2 --scale 0.001"
    assert written["pinned"] is True
    assert set(written["versions"]) == {"kompyct", "pykka", "xoscar", "atomic_store"}
    assert {(line["name"], line["case"]) for line in written["rows"]} == {
        ("fan", "pool"),
        ("fan", "thread"),
        ("save", "kompyct"),
        ("save", "kompyct, written behind"),
    }
    for line in written["rows"]:
        assert line["value"] > 0
        for peer in line["peers"].values():
            assert peer["ratio"] == pytest.approx(line["value"] / peer["value"])
    fan = written["rows"][0]
    assert set(fan["peers"]) == {"pykka", "asyncio"}
    assert [(goal["sign"], goal["limit"]) for goal in fan["goals"]] == [(">=", 10)]
    assert fan["goals"][0]["reached"] == fan["peers"]["pykka"]["ratio"]
    assert len(written["samples"]["fan/pykka"]["rate"]) == 2
    assert "fan-out to 100 and fan-in" in capsys.readouterr().out


def test_calls_by_turns_are_all_made_as_often() -> None:
    """By hand: twenty calls in blocks of five are four turns, after one turn to warm up."""
    made: list[str] = []
    rates = rates_by_turns({name: partial(made.append, name) for name in "ab"}, 20, block=5)
    turns = {"".join(made[start : start + 10]) for start in range(0, 50, 10)}
    assert len(made) == 50
    assert turns == {"aaaaabbbbb", "bbbbbaaaaa"}  # in an order that changes
    assert set(rates) == {"a", "b"}
    assert min(rates.values()) > 0


def test_the_ways_of_one_case_are_compared_with_those_that_could_be_gone() -> None:
    """Without a quantity the labels are the quantities of the experiment's one case."""
    row = Row("a", "a", "a", None, PER_SECOND, ("ours",), ("theirs", "missing"))
    assert row.case_names() == ("a",)
    (line,) = lines(row, {"a": {"ours": [30.0, 20.0, 90.0], "theirs": [10.0]}})
    assert (line.value, line.peers) == (30.0, {"theirs": 10.0, "missing": None})


def test_what_is_on_the_disk_is_compared_with_every_peer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each row about files, encoding and compression has a figure of kompyct's and of each peer.

    The folder, which was given, is empty afterwards. On what file system it was is told.
    """
    pytest.importorskip("atomic_store", reason="the peer is not installed; `make` does that")
    names = ["commit-1MB", "durable", "encode-objects", "compress"]
    file = tmp_path / "figures.json"
    folder = tmp_path / "files"
    folder.mkdir()
    options = ["--only", *names, "--repeats", "1", "--scale", "0.0001", "--folder", str(folder)]
    main([*options, "--json", str(file)])
    written = json.loads(file.read_text("utf-8"))
    assert {line["name"] for line in written["rows"]} == set(names)
    for line in written["rows"]:
        assert line["value"] > 0
        assert all(peer["value"] > 0 for peer in line["peers"].values())
    rows = {(line["name"], line["case"]): line for line in written["rows"]}
    commit = rows["commit-1MB", "kompyct"]
    assert set(commit["peers"]) == {"atomic_store", "careful rename", "SQLite", "disk"}
    assert [(goal["peer"], goal["sign"], goal["limit"]) for goal in commit["goals"]] == [
        ("atomic_store", ">=", 1.0),
        ("careful rename", ">=", 0.95),
    ]
    for kind in ("thread", "pool"):
        goals = rows["durable", kind]["goals"]
        assert [(goal["peer"], goal["limit"]) for goal in goals] == [("atomic_store", 15)]
    assert list(folder.iterdir()) == []
    assert f"files on {written['file_system']}" in capsys.readouterr().out


@pytest.mark.timeout(180)  # thirteen cases, each in a process of its own; five seconds or twice
def test_what_is_about_processes_is_compared_with_every_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row about child processes has a figure of kompyct's and of each peer that is there.

    A death is timed from what the child, or who kills it, wrote just before: so no time is
    negative, and running again comes after the fault was seen.
    """
    names = ["ask-process", "seen-kill", "recover", "child"]
    # The same with 500 MB would be half of the time, and all of it the kernel's.
    rows = [_without_large(row) for row in ROWS if row.name in names]
    monkeypatch.setattr(sys.modules[main.__module__], "ROWS", rows)
    file = tmp_path / "figures.json"
    options = ["--only", *names, "--repeats", "1", "--scale", "0.0001"]
    main([*options, "--json", str(file)])
    written = json.loads(file.read_text("utf-8"))
    assert {line["name"] for line in written["rows"]} == set(names)
    optional = {"xoscar", "faultguard"}
    for line in written["rows"]:
        assert line["value"] > 0
        for name, peer in line["peers"].items():
            assert (peer["value"] is None and name in optional) or peer["value"] > 0
    deaths = written["samples"]["crash/process"]
    assert deaths["running p10"][0] > deaths["seen p10"][0] > 0


def _without_large(row: Row) -> Row:
    def small(labels: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(label for label in labels if "500 MB" not in label)

    goals = tuple(goal for goal in row.goals if "500 MB" not in goal.case)
    return replace(row, cases=small(row.cases), peers=small(row.peers), goals=goals)


@pytest.mark.timeout(180)  # each case in a process of its own; Resiliparse's wait half a second
def test_guards_are_compared_with_resiliparse(tmp_path: Path) -> None:
    """Each row about limits that has a peer has a figure of both, if the peer is there."""
    names = ["limits-enter", "limits-progress", "limits-late"]
    file = tmp_path / "figures.json"
    main(["--only", *names, "--repeats", "1", "--scale", "0.0001", "--json", str(file)])
    rows = {line["name"]: line for line in json.loads(file.read_text("utf-8"))["rows"]}
    assert set(rows) == set(names)
    goals = {name: rows[name]["goals"][0]["limit"] for name in names if rows[name]["goals"]}
    assert goals.items() <= {"limits-enter": 3, "limits-progress": 1, "limits-late": 6}.items()
    for line in rows.values():
        assert line["value"] > 0
        assert all(peer["value"] is None or peer["value"] > 0 for peer in line["peers"].values())


def test_a_program_that_fails_is_named_with_what_it_says() -> None:
    """A measurement in a process of its own that ends with an error gives no figures."""
    with pytest.raises(RuntimeError, match=r"benchmarks\.children failed with 1") as raised:
        alone.run("benchmarks.children", "make", "few")
    assert "invalid literal for int() with base 10: 'few'" in str(raised.value)


def test_a_stamp_is_read_where_it_was_not_written() -> None:
    """A time that another process writes is between those taken here before and after."""
    path = new_stamp()
    stamp = Stamp(path)
    before = monotonic_ns()
    code = f"from benchmarks.stamps import Stamp; Stamp({path!r}).write()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert before < stamp.read() < monotonic_ns()


def test_the_kind_of_file_system_is_known(tmp_path: Path) -> None:
    """On Linux the table of mounts tells what every path is on; /proc is always of kind proc."""
    assert file_system_of(Path("/proc/self")) == "proc"
    assert file_system_of(tmp_path) not in ("proc", "unknown")


def test_a_folder_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is measured, and the error names the folder."""
    with pytest.raises(SystemExit):
        main(["--only", "save", "--folder", str(tmp_path / "missing")])
    assert "missing is no folder" in capsys.readouterr().err


def test_every_row_names_cases_and_goals_that_exist() -> None:
    """Each label of a row is a case of its experiment, and each goal is about such labels."""
    for row in ROWS:
        for name in row.case_names():
            assert find_case(name).size > 0
        for goal in row.goals:
            assert goal.case in row.cases
            assert goal.peer is None or goal.peer in row.peers


def test_every_case_belongs_to_a_row() -> None:
    """Nothing is defined that is never measured."""
    used = {name for row in ROWS for name in row.case_names()}
    assert used == {name for group in GROUPS for name in group.cases}


@pytest.mark.parametrize(("pool", "met"), [(1000.0, True), (999.0, False)])
def test_a_goal_is_judged_by_the_ratio_of_medians(pool: float, met: bool) -> None:
    """The median of the repeats counts, and exactly ten times the peer is at least ten times."""
    (line,) = lines(RATE, _rates(pool=pool, pykka=100.0))
    assert line.value == pool
    ((goal, reached),) = line.goals()
    assert reached is not None
    assert reached == pool / 100.0
    assert goal.met(reached) is met


def test_a_goal_without_a_peer_is_judged_by_the_figure() -> None:
    """A limit in the unit is met by the figure itself, the limit included."""
    (line,) = lines(TIME, {"ask/pool": {"p50": [3.0]}})
    ((goal, reached),) = line.goals()
    assert reached is not None
    assert reached == 3.0
    assert goal.met(reached)
    assert not goal.met(3.1)


def test_a_peer_that_is_not_installed_is_named_and_has_no_ratio() -> None:
    """Without xoscar the other comparisons stand, and the table says that it is missing."""
    samples = _rates(pool=1000.0, pykka=100.0)
    (line,) = lines(RATE, samples)
    assert line.ratio("xoscar") is None
    assert line.ratio("pykka") == 10.0
    assert "xoscar not installed" in table(GROUPS, ROWS[:1], {**samples, "tell/thread": None})


def test_goals_are_about_pinned_runs_only() -> None:
    """A table that is not judged shows figures and ratios, and no goals."""
    samples: Samples = {name: None for row in ROWS for name in row.case_names()}
    samples.update(_rates(pool=1000.0, pykka=100.0))
    judged = table(GROUPS, ROWS[:1], samples)
    assert "≥ 10 × pykka: 10.0, met" in judged  # noqa: RUF001
    shown = table(GROUPS, ROWS[:1], samples, judged=False)
    assert "pykka 100 /s: 10.0" in shown
    assert "met" not in shown


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (5_170_000.0, PER_SECOND, "5.17 M/s"),
        (578_433.0, PER_SECOND, "578 k/s"),
        (12.34, MICROSECONDS, "12.3 µs"),
        (0.0271, MICROSECONDS, "0.027 µs"),
    ],
)
def test_figures_are_shown_to_three_digits(value: float, unit: str, text: str) -> None:
    """A table shows three digits at most, with prefixes for rates."""
    assert show(value, unit) == text


def test_the_table_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """What stands between the two marks is replaced, what stands around them stays."""
    page = tmp_path / "page.md"
    marks = ("<!-- benchmarks: pinned -->", "<!-- benchmarks: end of pinned -->")
    page.write_text(f"before\n{marks[0]}\nold\n{marks[1]}\nafter\n", "utf-8")
    write_between_marks(page, "pinned", "new")
    assert page.read_text("utf-8") == f"before\n{marks[0]}\nnew\n{marks[1]}\nafter\n"


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    """There is no place for the table, so nothing is written, and the error names the marks."""
    page = tmp_path / "page.md"
    page.write_text("before\n", "utf-8")
    with pytest.raises(ValueError, match="benchmarks: pinned"):
        write_between_marks(page, "pinned", "new")
    assert page.read_text("utf-8") == "before\n"


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The command line names the rows there are."""
    with pytest.raises(SystemExit):
        main(["--only", "speed"])
    assert "ping-pong" in capsys.readouterr().err


def test_no_scale_makes_a_case_measure_nothing() -> None:
    """A fan needs one round through its hundred components, which is two hundred messages."""
    assert find_case("fan/pool").scaled(1e-9) == 200
