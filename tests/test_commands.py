"""What do the commands on stores of snapshots print, and with which exit code do they end?"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import pytest

from kompyct import Component, ComponentSystem, FaultContext, RecoveryHandler, Request
from kompyct.commands import KEY, main
from tests.conftest import LIMIT

SECRET = b"sixteen bytes of" * 2


class Keeper(Component["str | Request[str]"]):
    """Saves what it is told."""

    def __init__(self, value: str = "") -> None:
        self.value = value

    def on_start(self) -> None:
        if self.value:
            self.save()

    def on_receive(self, message: str | Request[str]) -> str:
        if isinstance(message, str):
            self.value = message
            self.save()
        return self.value

    def save(self) -> None:
        self.set_recovery_function(recover, snapshot=self.value, durability="durable")


def recover(fault: FaultContext[str]) -> RecoveryHandler:
    return fault.restart(lambda: Keeper(fault.snapshot))


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key is set where the tests are run."""
    monkeypatch.delenv(KEY, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with four saves of `cook` and one of `baker`, which has ended."""
    folder = tmp_path / "state"
    with ComponentSystem(store=folder) as system:
        cook = system.create(Keeper, name="cook", start=True)
        for value in ("a", "bb", "ccc", "dddd"):
            cook.tell(value)
        baker = system.create(Keeper, name="baker", start=True)
        baker.tell("x")
        assert baker.ask(Request(), timeout=LIMIT) == "x"
        system.kill(baker).result(LIMIT)
        assert cook.ask(Request(), timeout=LIMIT) == "dddd"
    return folder


def table(text: str) -> list[list[str]]:
    """The cells of each line; those of a table are at least two blanks apart."""
    return [[cell.strip() for cell in line.split("  ") if cell] for line in text.splitlines()]


def run(
    *arguments: object, stdout: int | IO[str] = subprocess.PIPE, unbuffered: str = ""
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, whose output is buffered, as it usually is."""
    return subprocess.run(
        [sys.executable, "-m", "kompyct", "snapshots", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        text=True,
        timeout=4 * LIMIT,
        check=False,
    )


def log_of(store: Path) -> Path:
    """The one segment of the store."""
    (log,) = store.glob("snapshots-*.log")
    return log


def flip(log: Path, needle: bytes) -> None:
    """Change a bit of the first place in the file where `needle` stands."""
    data = bytearray(log.read_bytes())
    data[data.index(needle)] ^= 1
    log.write_bytes(data)


# -- ls ----------------------------------------------------------------------------------------


def test_ls_lists_each_generation_of_each_component(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Issue, scope 6: a table with component, generation, age, size, codec, state of health.

    By hand: three generations are kept (S-24's default), the newest first. A pickle of protocol 5
    of n ASCII letters, n < 256, has 15 bytes beside them: protocol 2, frame 9, the length 2, a
    memo 1, the stop 1. Frames are left out below 4 bytes of content, which none of these has.
    """
    assert main(["snapshots", "ls", str(store)]) == 0
    rows = table(capsys.readouterr().out)
    assert rows[0] == ["COMPONENT", "GENERATION", "AGE", "SIZE", "CODEC", "STATUS", "HEALTH"]
    assert [[cell for cell in row if not cell.endswith(" s")] for row in rows[1:]] == [
        ["baker", "1", "16 B", "pickle", "retired", "whole"],
        ["cook", "4", "19 B", "pickle", "clean", "whole"],
        ["3", "18 B", "pickle", "whole"],
        ["2", "17 B", "pickle", "whole"],
    ]


def test_ls_says_of_a_running_component_that_it_is_unfinished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """S-29: Reading needs no lock, so a store may be looked at while a program has it."""
    with ComponentSystem(store=tmp_path / "state") as system:
        keeper = system.create(lambda: Keeper("a"), name="cook", start=True)
        keeper.ask(Request(), timeout=LIMIT)
        assert main(["snapshots", "ls", str(tmp_path / "state")]) == 0
    assert table(capsys.readouterr().out)[1][-2:] == ["unfinished", "whole"]


def test_ls_says_how_suspect_a_snapshot_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """S-27: By hand: restored at the fault, and nothing newer saved since: 1."""
    with ComponentSystem(store=tmp_path / "state") as system:
        keeper = system.create(lambda: Keeper("a"), name="cook", start=True)
        keeper.ask(Request(), timeout=LIMIT)
        keeper.tell(7)  # type: ignore[arg-type]  # on purpose: it faults on what it cannot save
        keeper.tell("b")
        keeper.ask(Request(), timeout=LIMIT)
        keeper.set_recovery_function(recover, snapshot="c")
        system.flush()
    with ComponentSystem(store=tmp_path / "state") as system:
        system.create(Keeper, name="cook")
        assert main(["snapshots", "ls", str(tmp_path / "state")]) == 0
    assert table(capsys.readouterr().out)[1][-1] == "whole, suspect 1"


def test_ls_shows_a_store_that_it_would_not_trust(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """S-28: Given a folder that the world may write to, then it is shown: nothing is decoded."""
    store.chmod(0o777)
    assert main(["snapshots", "ls", str(store)]) == 0
    assert "cook" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["ls", "verify", "show", "rm"])
def test_a_folder_that_is_no_store_is_an_error_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Given somebody's folder with files of other names, then the command says so in a line."""
    (tmp_path / "letter.txt").write_text("dear reader")
    component = ["counter"] if command in ("show", "rm") else []
    assert main(["snapshots", command, str(tmp_path), *component]) == 2
    assert "is no store" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("command", ["ls", "show", "verify", "rm"])
@pytest.mark.parametrize("kind", ["nothing", "file", "link"])
def test_what_is_no_folder_is_an_error_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, kind: str
) -> None:
    """Issue, "Bad input": Given no folder, a file or a dangling link, then the exit code is 2."""
    place = tmp_path / "state"
    if kind == "file":
        place.write_bytes(b"")
    elif kind == "link":
        place.symlink_to(tmp_path / "gone")
    arguments = ["snapshots", command, str(place)]
    assert main([*arguments, "cook"] if command in ("show", "rm") else arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"kompyct: {place}")
    assert len(told.err.splitlines()) == 1
    assert not (tmp_path / "gone").exists()


# -- show --------------------------------------------------------------------------------------


def test_show_tells_all_but_the_values(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RELIABILITY 4: types, sizes and names, never values. By hand: as in `store`."""
    assert main(["snapshots", "show", str(store), "cook"]) == 0
    text = capsys.readouterr().out
    newest, *older = [
        dict(line.split(":", 1) for line in part.splitlines()) for part in text.split("\n\n")
    ]
    facts = {name: value.strip() for name, value in newest.items()}
    assert facts["component"] == "cook"
    assert facts["generation"] == "4"
    assert facts["size"] == "19 B"
    assert facts["codec"] == "pickle"
    assert facts["function"] == f"{__name__}:recover"
    assert facts["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert facts["record"].startswith(log_of(store).name)
    assert (facts["status"], facts["started"], facts["suspect"]) == ("clean", "yes", "0")
    assert [part["generation"].strip() for part in older] == ["3", "2"]
    assert "dddd" not in text


@pytest.mark.parametrize("command", ["show", "rm"])
def test_a_component_that_is_not_there_is_exit_code_1(
    store: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Given a path that nothing is kept of, then one line says so, and nothing is changed."""
    before = log_of(store).read_bytes()
    assert main(["snapshots", command, str(store), "waiter"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"kompyct: nothing of 'waiter' in {store}\n"
    assert log_of(store).read_bytes().startswith(before)


# -- verify ------------------------------------------------------------------------------------


def test_verify_of_a_whole_store_is_exit_code_0(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand: two components, three generations of one and one of the other, one segment."""
    assert main(["snapshots", "verify", str(store)]) == 0
    assert capsys.readouterr().out == ("2 components, 4 snapshots, 1 segments, 0 damaged places\n")


def test_verify_finds_every_flipped_byte(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RELIABILITY 2: Given any byte of the store flipped, then the exit code is 1, and the file
    with it is left as it is."""
    log = log_of(store)
    whole = log.read_bytes()
    for at in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        log.write_bytes(damaged)
        assert main(["snapshots", "verify", str(store)]) == 1, at
        assert capsys.readouterr().out.startswith(f"damaged: {log.name}, "), at
        assert log.read_bytes() == damaged
    assert not (store / "damaged").exists()


def test_verify_finds_what_was_cut_off(store: Path) -> None:
    """RELIABILITY 1: truncation. Given half of the file, or all but its last byte."""
    log = log_of(store)
    whole = log.read_bytes()
    for size in (len(whole) // 2, len(whole) - 1):
        log.write_bytes(whole[:size])
        assert main(["snapshots", "verify", str(store)]) == 1


def test_the_other_commands_tell_of_damage_and_show_what_is_whole(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """S-29: Given a damaged newest record, then `ls` has the older ones, and says so."""
    flip(log_of(store), b"dddd")
    assert main(["snapshots", "ls", str(store)]) == 0
    text = capsys.readouterr().out
    assert "19 B" not in text
    assert "18 B" in text
    assert text.splitlines()[-1].startswith(f"damaged: {log_of(store).name}, ")


def test_verify_beside_a_living_writer_finds_nothing(tmp_path: Path) -> None:
    """S-29: Given a program that saves all the while, then each `verify` is exit code 0: a record
    that is being written is no damage."""
    folder = tmp_path / "state"
    over = threading.Event()
    with ComponentSystem(store=folder) as system:
        keeper = system.create(lambda: Keeper("a"), name="cook", start=True)
        keeper.ask(Request(), timeout=LIMIT)

        def write() -> None:
            while not over.is_set():
                keeper.tell("z" * 3000)
                keeper.ask(Request(), timeout=LIMIT)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            codes = [main(["snapshots", "verify", str(folder)]) for _ in range(50)]
        finally:
            over.set()
            writer.join(LIMIT)
    assert codes == [0] * 50


# -- rm ----------------------------------------------------------------------------------------


def test_rm_removes_all_generations_of_one_component(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given `rm` of one, then its bytes are gone from the folder, and the other one is there."""
    assert main(["snapshots", "rm", str(store), "cook"]) == 0
    assert b"ccc" not in log_of(store).read_bytes()
    assert main(["snapshots", "ls", str(store)]) == 0
    assert [row[0] for row in table(capsys.readouterr().out)[1:]] == ["baker"]
    with ComponentSystem(store=store) as system:
        keeper = system.create(lambda: Keeper("new"), name="cook", start=True)
        assert keeper.ask(Request(), timeout=LIMIT) == "new"
    assert main(["snapshots", "verify", str(store)]) == 0


def test_rm_is_refused_while_a_program_has_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """S-29: one writer per folder. The message says who has it; nothing is removed."""
    folder = tmp_path / "state"
    with ComponentSystem(store=folder) as system:
        keeper = system.create(lambda: Keeper("a"), name="cook", start=True)
        keeper.ask(Request(), timeout=LIMIT)
        assert main(["snapshots", "rm", str(folder), "cook"]) == 2
        assert f"locked by process {os.getpid()} since " in capsys.readouterr().err
    with ComponentSystem(store=folder) as system:
        keeper = system.create(Keeper, name="cook", start=True)
        assert keeper.ask(Request(), timeout=LIMIT) == "a"


# -- keys --------------------------------------------------------------------------------------


@pytest.fixture
def keyed(tmp_path: Path) -> Path:
    """A store sealed with SECRET."""
    folder = tmp_path / "keyed"
    with ComponentSystem(store=folder, trust=SECRET) as system:
        keeper = system.create(lambda: Keeper("a"), name="cook", start=True)
        keeper.ask(Request(), timeout=LIMIT)
    return folder


def test_a_key_is_read_from_a_file(
    keyed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RELIABILITY 4: keys are never in an argument list; the file is named there, or in the
    environment."""
    key = tmp_path / "key"
    key.write_bytes(SECRET)
    assert main(["snapshots", "verify", str(keyed), "--key-file", str(key)]) == 0
    monkeypatch.setenv(KEY, str(key))
    assert main(["snapshots", "ls", str(keyed)]) == 0
    assert "cook" in capsys.readouterr().out
    assert main(["snapshots", "rm", str(keyed), "cook"]) == 0


@pytest.mark.parametrize("key", [None, b"another sixteen bytes", b"short", "no file"])
@pytest.mark.parametrize("command", ["ls", "verify", "rm"])
def test_without_the_key_nothing_is_shown_or_removed(
    keyed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    key: bytes | str | None,
    command: str,
) -> None:
    """S-28: Given no key, another one, a short one, or none in the file's place: exit code 2."""
    arguments = ["snapshots", command, str(keyed), *(["cook"] if command == "rm" else [])]
    if key is not None:
        file = tmp_path / "key"
        if isinstance(key, bytes):
            file.write_bytes(key)
        arguments += ["--key-file", str(file)]
    before = log_of(keyed).read_bytes()
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert "sixteen" not in told.err
    assert log_of(keyed).read_bytes() == before


# -- as a program ------------------------------------------------------------------------------


def test_the_commands_work_as_a_program(store: Path) -> None:
    """Given `python -m kompyct`, then output and exit codes are those of above."""
    whole = run("verify", store)
    assert (whole.returncode, whole.stderr) == (0, "")
    flip(log_of(store), b"dddd")
    damaged = run("verify", store)
    assert (damaged.returncode, damaged.stderr) == (1, "")
    missing = run("show", store, "waiter")
    assert (missing.returncode, missing.stdout) == (1, "")


@pytest.mark.parametrize("arguments", [[], ["snapshots"], ["snapshots", "mend", "state"]])
def test_a_command_that_does_not_exist_is_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Given wrong arguments, then argparse says how they are used, as for every program."""
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert "usage: kompyct" in capsys.readouterr().err


def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("command", ["ls", "verify"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_no_error(store: Path, command: str, unbuffered: str) -> None:
    """Given a reader that has gone, as with `| head`, then the command ends without a word;
    also when the pipe is noticed as late as at the program's end, since its output is short."""
    writing = closed_pipe()
    try:
        done = run(command, store, stdout=writing, unbuffered=unbuffered)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_an_error_in_one_line(store: Path) -> None:
    """Given a full disk behind the output, then the exit code is 2, with no traceback."""
    with open("/dev/full", "w") as full:
        done = run("ls", store, stdout=full)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
