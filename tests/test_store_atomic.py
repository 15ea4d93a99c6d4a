"""What does a value in a file survive: exceptions, other writers, bad values, bad files?"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytest

from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    CorruptStoreError,
    StoreError,
    StoreLockedError,
    TrustError,
)
from kompyct.store import AtomicStore, DirectoryStore, open_store
from tests.conftest import LIMIT

KEY = b"a key of thirty-two random bytes"
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
NOBODY = 65534

as_root = pytest.mark.skipif(not ROOT, reason="only root may mount, chown or become nobody")


def names(folder: Path) -> list[str]:
    """All that lies in the folder, hidden or not."""
    return sorted(os.listdir(folder))


def run(program: str, *arguments: object) -> Any:
    """Run `program` in a process of its own; what it printed, as json."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=6 * LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start `program`; it has pipes to talk through."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line it prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"ended with {process.wait(LIMIT)} instead of a line"
    return line.strip()


def end(process: subprocess.Popen[str]) -> None:
    """SIGKILL it, and wait until it is gone."""
    process.kill()
    process.wait(LIMIT)
    pipes: list[IO[str] | None] = [process.stdin, process.stdout]
    for pipe in pipes:
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file in a folder of its own, not there yet."""
    folder = tmp_path / "folder"
    folder.mkdir(0o700)
    return folder / "state"


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that another user may reach; pytest's own are for their owner only."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def make_small(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts small file systems in memory, and unmounts them afterwards."""
    made: list[Path] = []

    def make(options: str) -> Path:
        folder = tmp_path / f"small{len(made)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"{options},mode=0700", "none", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount here: {done.stderr.strip()}")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# -- exceptions in `with` ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [ValueError, MemoryError, RecursionError, SystemExit, KeyboardInterrupt, GeneratorExit]
)
@pytest.mark.parametrize("ignore_inner_exits", [False, True])
def test_an_exception_in_with_writes_nothing_and_restores_the_value(
    path: Path, kind: type[BaseException], ignore_inner_exits: bool
) -> None:
    """S-30: one that leaves the outermost `with` goes back to the last committed value."""
    store = open_store(path, {"count": 0}, ignore_inner_exits=ignore_inner_exits)
    with store:
        store.value["count"] = 1
    before = path.read_bytes()

    def fail() -> None:
        with store:
            store.value["count"] = 2
            raise kind

    with pytest.raises(kind):
        fail()
    assert path.read_bytes() == before
    assert store.value == {"count": 1}
    assert store.level == 0
    with store:
        store.value["count"] += 1
    assert open_store(path).value == {"count": 2}


def test_an_exception_before_the_first_commit_restores_the_default(path: Path) -> None:
    """S-30: nothing was committed, so the value is the default as it was given, and no file."""
    default: dict[str, list[int]] = {"runs": []}
    store = open_store(path, default)

    def fail() -> None:
        with store:
            store.value["runs"].append(1)
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        fail()
    assert store.value == {"runs": []}
    assert default == {"runs": []}
    assert names(path.parent) == []


def test_a_commit_inside_with_is_what_an_exception_goes_back_to(path: Path) -> None:
    """S-30: the last committed value is restored, not the one at the entry of the `with`."""
    store = open_store(path, [])

    def fail() -> None:
        with store:
            store.value.append("kept")
            store.commit()
            store.value.append("lost")
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        fail()
    assert store.value == ["kept"]
    assert open_store(path).value == ["kept"]


def test_an_exception_through_nested_withs_commits_in_neither(path: Path) -> None:
    """S-30: an inner exit on an exception does not commit, and neither does the outer one."""
    store = open_store(path, "before")
    store.commit()

    def fail() -> None:
        with store:
            store.value = "outer"
            with store:
                store.value = "inner"
                raise SystemExit(3)

    with pytest.raises(SystemExit):
        fail()
    assert open_store(path).value == "before"
    assert (store.value, store.level) == ("before", 0)


@pytest.mark.parametrize("ignore_inner_exits", [False, True])
def test_an_exception_caught_between_two_withs_commits_at_the_outer_exit_only(
    path: Path, ignore_inner_exits: bool
) -> None:
    """S-30: the inner exit writes nothing; only one that leaves the outermost restores."""
    store = open_store(path, "before", ignore_inner_exits=ignore_inner_exits)
    store.commit()
    with store:
        try:
            with store:
                store.value = "inner"
                raise ValueError("on purpose")
        except ValueError:
            assert open_store(path).value == "before"
            assert (store.value, store.level) == ("inner", 1)
        store.value = "outer"
    assert open_store(path).value == "outer"


def test_an_inner_exit_that_committed_is_what_the_outer_exception_goes_back_to(
    path: Path,
) -> None:
    """S-30: inner exits commit as in the ancestor; that commit is the last one then."""
    store = open_store(path, "before")

    def fail() -> None:
        with store:
            with store:
                store.value = "inner"
            store.value = "outer"
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        fail()
    assert store.value == "inner"
    assert open_store(path).value == "inner"


def test_the_value_that_is_restored_shares_nothing_with_the_one_in_with(path: Path) -> None:
    """S-30: what still holds the half-changed value cannot change the restored one."""
    store = open_store(path, {"list": [1]})
    store.commit()
    held = store.value

    def fail() -> None:
        with store:
            store.value["list"].append(2)
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        fail()
    held["list"].append(3)
    assert store.value == {"list": [1]}


def test_a_commit_that_fails_at_the_exit_keeps_the_value_in_memory(path: Path) -> None:
    """Issue 3, bad input: the value in memory is kept, the old file whole, a retry works."""
    store = open_store(path, {"count": 1})
    store.commit()
    with pytest.raises(StoreError):
        with store:
            store.value["count"] = {1, 2}
    assert store.value == {"count": {1, 2}}
    assert store.level == 0
    assert json.loads(path.read_bytes()) == {"count": 1}
    store.value["count"] = 2
    store.commit()
    assert open_store(path).value == {"count": 2}


def test_a_value_that_could_not_be_committed_is_given_up_by_reload(path: Path) -> None:
    """S-30: it stays, so the next `with` fails likewise, however well its block goes; `reload`
    takes the old value again, of the file or the default, and after that commits work."""
    for before in (None, {"count": 1}):
        store = open_store(path, before or {"count": 0})
        if before:
            store.commit()
        for change in ({"count": {1, 2}}, {"more": 1}):
            with pytest.raises(StoreError), store:
                store.value.update(change)
        assert store.value == {"count": {1, 2}, "more": 1}
        assert store.reload() == store.value == (before or {"count": 0})
        with store:
            store.value["count"] += 1
        assert json.loads(path.read_bytes()) == store.value
        path.unlink()


def test_a_commit_that_fails_in_an_inner_with_is_an_exception_of_the_outer_one(
    path: Path,
) -> None:
    """S-30: caught in the outer block the value is there still, and leaving it uncaught the value
    goes back."""
    store = open_store(path, {"count": 1})
    store.commit()
    with store:
        with pytest.raises(StoreError), store:
            store.value["count"] = {1, 2}
        assert (store.value, store.level) == ({"count": {1, 2}}, 1)
        store.value["count"] = 2
    assert json.loads(path.read_bytes()) == {"count": 2}

    def fail() -> None:
        with store, store:
            store.value["count"] = {1, 2}

    with pytest.raises(StoreError):
        fail()
    assert (store.value, store.level) == ({"count": 2}, 0)


# -- update, and the lock -------------------------------------------------------------------

INCREMENTS = """
import json, sys
from kompyct.store import open_store
store = open_store(sys.argv[1], 0)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(200):
    store.update(lambda count: count + 1, timeout=50.0)
"""

HOLDER = """
import os, subprocess, sys, time
from kompyct.store import open_store

def change(value):
    if sys.argv[2] == "forks" and os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(50)
        os._exit(0)
    elif sys.argv[2] == "spawns":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(50)"])
        print(child.pid, flush=True)
    elif sys.argv[2] == "alone":
        print(os.getpid(), flush=True)
    time.sleep(50)
    return value

open_store(sys.argv[1], 0).update(change)
"""


def test_four_processes_of_200_updates_each_make_800(path: Path) -> None:
    """RELIABILITY 1: several writers; 4 processes of 200 increments give 800."""
    processes = [start(INCREMENTS, path) for _ in range(4)]
    try:
        for process in processes:
            assert line_of(process) == "ready"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        assert [process.wait(50) for process in processes] == [0, 0, 0, 0]
    finally:
        for process in processes:
            end(process)
    assert open_store(path).value == 800
    assert names(path.parent) == ["state", "state.lock"]


def test_a_lock_that_is_held_names_its_holder_and_since_when(path: Path) -> None:
    """RELIABILITY 1: the second writer gets `StoreLockedError` (who, since when)."""
    store = open_store(path, 7)
    store.commit()
    earliest = int(time.time())
    holder = start(HOLDER, path, "alone")
    try:
        assert line_of(holder) == str(holder.pid)
        latest = int(time.time())
        with pytest.raises(StoreLockedError) as caught:
            store.update(lambda value: value + 1, timeout=0.05)
    finally:
        end(holder)
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.errno, caught.value.phase) == (errno.EAGAIN, "lock")
    assert caught.value.path == f"{path}.lock"
    found = re.search(rf"process {holder.pid} since (\S+ \S+[+-]\d{{4}})", str(caught.value))
    assert found is not None, caught.value
    since = time.mktime(time.strptime(found[1][:19], "%Y-%m-%d %H:%M:%S"))
    assert earliest <= since <= latest
    assert store.value == 7


@pytest.mark.parametrize("what", ["alone", "forks", "spawns"])
def test_the_lock_of_a_killed_process_is_free_at_once(path: Path, what: str) -> None:
    """B-82, S-29: also when a child of it lives on, forked or started; timeout 0 is no waiting."""
    store = open_store(path, 7)
    store.commit()
    holder = start(HOLDER, path, what)
    child = int(line_of(holder))
    try:
        with pytest.raises(StoreLockedError):
            store.update(lambda value: value + 1, timeout=0.0)
        holder.kill()
        holder.wait(LIMIT)
        if what != "alone":
            os.kill(child, 0)  # it lives
        assert store.update(lambda value: value + 1, timeout=0.0) == 8
    finally:
        if what != "alone":
            os.kill(child, signal.SIGKILL)
        end(holder)
    assert open_store(path).value == 8


def test_update_reads_the_file_first_and_commits_the_new_value(path: Path) -> None:
    """RELIABILITY 1: `update()` = lock, re-read, change, write."""
    one, other = open_store(path, 1), open_store(path, 1)
    other.value = 10
    other.commit()
    assert one.update(lambda value: value + 5) == 15
    assert one.value == 15
    assert open_store(path).value == 15


def test_update_of_what_is_not_there_yet_starts_from_the_default(path: Path) -> None:
    """RELIABILITY 1: the same, without a file; the default stays as it was given."""
    default: list[int] = []
    assert open_store(path, default).update(lambda value: [*value, 1]) == [1]
    assert default == []
    assert open_store(path).value == [1]


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_an_update_that_raises_changes_nothing_and_gives_the_lock_back(
    path: Path, kind: type[BaseException]
) -> None:
    """Docstring of `update`: what `change` raises comes out, and nothing is written then."""
    store = open_store(path, {"count": 1})
    store.commit()
    before = path.read_bytes()

    def change(value: dict[str, int]) -> dict[str, int]:
        value["count"] = 2
        raise kind

    with pytest.raises(kind):
        store.update(change)
    assert store.value == {"count": 1}
    assert path.read_bytes() == before
    assert open_store(path).update(lambda value: {"count": 3}, timeout=0.0) == {"count": 3}


def test_an_update_to_a_bad_value_changes_nothing_and_gives_the_lock_back(path: Path) -> None:
    """Issue 3, bad input: the file is whole, the value is that of the file, a retry works."""
    store = open_store(path, {"count": 1})
    store.commit()
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        store.update(lambda value: {"count": math.nan})
    assert caught.value.phase == "encode"
    assert store.value == {"count": 1}
    assert path.read_bytes() == before
    assert store.update(lambda value: {"count": 3}, timeout=0.0) == {"count": 3}


def test_an_update_within_an_update_is_refused_instead_of_lost(path: Path) -> None:
    """RELIABILITY 1: the lock is also held against its own process."""
    store, other = open_store(path, 1), open_store(path, 1)

    def change(value: int) -> int:
        with pytest.raises(StoreLockedError, match=str(os.getpid())):
            other.update(lambda inner: inner + 1, timeout=0.01)
        return value + 10

    assert store.update(change) == 11


def test_a_plain_commit_does_not_ask_for_the_lock(path: Path) -> None:
    """Docstring of `update`: plain commits do not ask for it, as in the ancestor."""
    store, other = open_store(path, 1), open_store(path, 2)

    def change(value: int) -> int:
        other.commit()
        return value

    assert store.update(change) == 1


def test_the_lock_is_the_same_through_a_link(path: Path) -> None:
    """RELIABILITY 1: one file, one lock, whatever path leads to it."""
    store = open_store(path, 1)
    store.commit()
    link = path.parent / "link"
    link.symlink_to("state")

    def change(value: int) -> int:
        with pytest.raises(StoreLockedError):
            open_store(link).update(lambda inner: inner, timeout=0.0)
        return value + 1

    assert store.update(change) == 2
    assert names(path.parent) == ["link", "state", "state.lock"]


@pytest.mark.parametrize("obstacle", ["folder", "link"])
def test_a_lock_file_that_is_none_is_refused(path: Path, obstacle: str) -> None:
    """RELIABILITY 4: no link is followed; the error names the phase and the lock file."""
    store = open_store(path, 1)
    store.commit()
    lock = Path(f"{path}.lock")
    victim = path.parent / "victim"
    victim.write_text("whole")
    if obstacle == "folder":
        lock.mkdir()
    else:
        lock.symlink_to(victim)
    with pytest.raises(StoreError) as caught:
        store.update(lambda value: value + 1)
    assert (caught.value.path, caught.value.phase) == (str(lock), "lock")
    assert caught.value.errno == (errno.EISDIR if obstacle == "folder" else errno.ELOOP)
    assert victim.read_text() == "whole"
    assert open_store(path).value == 1


# -- reload, previous, what the file is -------------------------------------------------------


def test_reload_takes_what_another_has_committed(path: Path) -> None:
    """Issue 3, scope 1: `reload()`."""
    store, other = open_store(path, "first"), open_store(path, "second")
    store.commit()
    other.commit()
    assert store.value == "first"
    assert store.reload() == "second"
    assert store.value == "second"
    path.unlink()
    assert store.reload() == "first"  # the default again


def test_after_a_reload_an_exception_goes_back_to_what_was_reloaded(path: Path) -> None:
    """S-30: what was last read or written is the last committed value."""
    store, other = open_store(path, "first"), open_store(path, "second")
    store.commit()
    other.commit()
    store.reload()

    def fail() -> None:
        with store:
            store.value = "third"
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        fail()
    assert store.value == "second"


@pytest.mark.parametrize("trust", [None, KEY])
def test_the_previous_generation_is_kept_on_request(path: Path, trust: bytes | None) -> None:
    """S-30: it is a side file, never part of the format."""
    store = open_store(path, 0, keep_previous=True, trust=trust)
    store.value = 1
    store.commit()
    with pytest.raises(StoreError) as caught:
        store.previous()
    assert (caught.value.errno, caught.value.path) == (errno.ENOENT, f"{path}.previous")
    for value in (2, 3):
        store.value = value
        store.commit()
        assert store.previous() == value - 1
    assert store.value == 3
    assert open_store(path, trust=trust).value == 3
    assert open_store(f"{path}.previous", trust=trust).value == 2
    assert names(path.parent) == ["state", "state.previous"]


def test_without_the_request_there_is_no_previous_generation(path: Path) -> None:
    """Issue 3, scope 1: previous generation kept on request; the error says how."""
    store = open_store(path, 0)
    store.commit()
    store.commit()
    assert names(path.parent) == ["state"]
    with pytest.raises(StoreError, match="keep_previous=True"):
        store.previous()


def test_a_commit_that_fails_keeps_the_previous_generation(path: Path) -> None:
    """Issue 3, bad input: the old state whole, of all generations."""
    store = open_store(path, 1, keep_previous=True)
    for value in (1, 2):
        store.value = value
        store.commit()
    store.value = {1, 2}
    with pytest.raises(StoreError):
        store.commit()
    assert store.previous() == 1


def test_a_previous_generation_that_cannot_be_kept_leaves_no_temporary(path: Path) -> None:
    """RELIABILITY 1: previous file whole, no temporary left; here a folder is in the way."""
    store = open_store(path, 1, keep_previous=True)
    store.commit()
    obstacle = Path(f"{path}.previous")
    obstacle.mkdir()
    store.value = 2
    with pytest.raises(StoreError):
        store.commit()
    assert names(path.parent) == ["state", "state.previous"]
    assert (open_store(path).value, store.value) == (1, 2)
    obstacle.rmdir()
    store.commit()
    assert (open_store(path).value, store.previous()) == (2, 1)


def test_a_new_file_is_for_its_owner_only(path: Path) -> None:
    """RELIABILITY 4: new files 0600, whatever the umask allows."""
    before = os.umask(0)
    try:
        store = open_store(path, 1, keep_previous=True)
        store.commit()
        store.update(lambda value: 2)
    finally:
        os.umask(before)
    for name in ("state", "state.lock", "state.previous"):
        assert stat.S_IMODE((path.parent / name).stat().st_mode) == 0o600, name


@pytest.mark.parametrize("mode", [0o400, 0o640, 0o666, 0o755])
def test_the_mode_of_an_existing_file_is_kept(path: Path, mode: int) -> None:
    """RELIABILITY 4: an existing file's mode is kept."""
    path.write_text("1")
    path.chmod(mode)
    store = open_store(path)
    store.value = 2
    store.commit()
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "2"


@as_root
def test_the_owner_of_an_existing_file_is_kept(path: Path) -> None:
    """RELIABILITY 4: an existing file's owner is kept, and the mode though chown changes it."""
    path.write_text("1")
    os.chown(path, 1234, 4321)
    path.chmod(0o2640)
    store = open_store(path)
    store.value = 2
    store.commit()
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 4321, 0o2640)


def test_links_stay_and_what_they_lead_to_is_replaced(tmp_path: Path, path: Path) -> None:
    """Issue 3, scope 1: symbolic links are kept; here one to one to a file elsewhere."""
    path.write_text("1")
    first, second = tmp_path / "first", tmp_path / "second"
    second.symlink_to(path)
    first.symlink_to("second")
    store = open_store(first, keep_previous=True)
    store.value = 2
    store.commit()
    assert (os.readlink(first), os.readlink(second)) == ("second", str(path))
    assert path.read_text() == "2"
    assert store.previous() == 1
    assert names(tmp_path) == ["first", "folder", "second"]


def test_a_relative_path_means_the_same_file_wherever_one_goes(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 3, scope 1: a value in one file; and `path` is what was given."""
    monkeypatch.chdir(path.parent)
    store = open_store("state", 1)
    monkeypatch.chdir(tmp_path)
    store.commit()
    assert store.path == "state"
    assert names(tmp_path) == ["folder"]
    assert path.read_text() == "1"


def test_a_commit_on_a_real_disk_is_durable(path: Path) -> None:
    """RELIABILITY 1: the store says what its commits are worth."""
    store = open_store(path, 1)
    store.commit()
    assert store.durability == "durable"
    with pytest.raises(AttributeError):
        store.durability = "no-fsync"  # type: ignore[misc]


# -- signed ---------------------------------------------------------------------------------


def test_with_a_key_every_changed_bit_and_every_cut_is_found(path: Path) -> None:
    """RELIABILITY 2: all found, no wrong value ever returned."""
    store = open_store(path, {"count": 1}, trust=KEY)
    store.commit()
    whole = path.read_bytes()
    assert open_store(path, trust=KEY).value == {"count": 1}
    damaged = [whole[:size] for size in range(len(whole))]
    for bit in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(changed))
    damaged.append(whole + b"\n")
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(TrustError) as caught:
            store.reload()
        assert (caught.value.phase, caught.value.path) == ("trust", str(path))
        assert store.value == {"count": 1}
    path.write_bytes(whole)
    assert store.reload() == {"count": 1}


def test_a_signed_file_wants_its_key_and_no_other(path: Path) -> None:
    """Issue 3, scope 1: signed with a key; clear errors."""
    open_store(path, 1, trust=KEY).commit()
    with pytest.raises(TrustError, match="signed"):
        open_store(path)
    with pytest.raises(TrustError, match="key"):
        open_store(path, trust=b"another key of more than 16 bytes")
    assert open_store(path, trust=KEY).value == 1


def test_a_file_that_is_not_signed_is_refused_with_a_key(path: Path) -> None:
    """RELIABILITY 1: planted file; the signature is checked before decoding."""
    path.write_text("1")
    with pytest.raises(TrustError):
        open_store(path, trust=KEY)


@pytest.mark.parametrize("trust", [None, KEY])
def test_what_max_bytes_lets_in_it_lets_out(path: Path, trust: bytes | None) -> None:
    """Docstring of `max_bytes`: the largest file that is read or written, signed or not.

    The texts "", "x", … become 2, 3, … bytes of json, so that some come close to the bound.
    """
    store = open_store(path, "", trust=trust, max_bytes=100)
    written = 0
    told = set()
    for length in range(120):
        store.value = "x" * length
        try:
            store.commit()
            written += 1
        except StoreError as error:
            told.add((error.errno, error.phase, error.path))
        assert path.stat().st_size <= 100
        assert len(open_store(path, trust=trust, max_bytes=100).value) == written - 1
    assert 0 < written <= 99
    assert told == {(errno.EFBIG, "encode", str(path))}


# -- bad values -----------------------------------------------------------------------------


class Refuses:
    """What raises when it is pickled."""

    def __reduce__(self) -> str:
        raise ZeroDivisionError("on purpose")


def deep() -> list[Any]:
    """Far more lists in lists than there are frames."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


def circle() -> list[Any]:
    """A list in itself."""
    value: list[Any] = []
    value.append(value)
    return value


BAD_VALUES: dict[str, tuple[str, Callable[[], Any], dict[str, Any]]] = {
    "an object as json": ("json", object, {}),
    "bytes as json": ("json", lambda: {"a": b"1"}, {}),
    "NaN as json": ("json", lambda: math.nan, {}),
    "an infinity within json": ("json", lambda: {"a": [1.0, (-math.inf,)]}, {}),
    "an integer as a key": ("json", lambda: {1: "one"}, {}),
    "None as a key": ("json", lambda: [{"a": {None: 1}}], {}),
    "a truth value as a key": ("json", lambda: ({"a": {True: 1}},), {}),
    "a number as a key": ("json", lambda: {"a": [{1.5: 1}]}, {}),
    "a tuple as a key": ("json", lambda: {(1, 2): 1}, {}),
    "deep json": ("json", deep, {}),
    "a circle as json": ("json", circle, {}),
    "half a character": ("json", lambda: "\ud800", {"ensure_ascii": False}),
    "more digits than Python writes": ("json", lambda: 10**5000, {}),
    "an option that json does not know": ("json", lambda: 1, {"unknown": 1}),
    "a function as a pickle": ("pickle", lambda: lambda: None, {}),
    "an open file as a pickle": ("pickle", lambda: sys.__stderr__, {}),
    "pickling that raises": ("pickle", lambda: [Refuses()], {}),
    "a deep pickle": ("pickle", deep, {}),
    "a list as bson": ("bson", lambda: [1], {}),
    "an object as bson": ("bson", lambda: {"a": object()}, {}),
    "an integer of 65 bits as bson": ("bson", lambda: {"a": 1 << 64}, {}),
    "deep bson": ("bson", lambda: {"a": deep()}, {}),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_a_value_that_cannot_be_encoded_changes_nothing(path: Path, case: str) -> None:
    """Issue 3, bad input: `StoreError` with path and phase, old file whole, no temporary left,
    value in memory kept, a later retry works."""
    format, make, dump_kwargs = BAD_VALUES[case]
    good: dict[str, Any] = {"good": 1}
    open_store(path, good, format=format).commit()
    before = path.read_bytes()
    store = open_store(path, format=format, dump_kwargs=dump_kwargs)
    bad = make()
    store.value = bad
    with pytest.raises(StoreError) as caught:
        store.commit()
    assert type(caught.value) is StoreError
    assert (caught.value.path, caught.value.phase) == (str(path), "encode")
    assert caught.value.errno is None
    assert caught.value.__cause__ is not None
    assert path.read_bytes() == before
    assert names(path.parent) == ["state"]
    assert store.value is bad
    if dump_kwargs:
        store = open_store(path, format=format)
    store.value = {"good": 2}
    store.commit()
    assert open_store(path, format=format).value == {"good": 2}


def test_nan_and_other_keys_go_where_they_are_asked_for(path: Path) -> None:
    """Docstring of the json format: `allow_nan` and `skipkeys` are the standard library's."""
    store = open_store(path, math.inf, dump_kwargs={"allow_nan": True})
    store.commit()
    assert path.read_text() == "Infinity"
    store = open_store(path, dump_kwargs={"skipkeys": True})
    store.value = {"a": 1, (1, 2): 2}
    store.commit()
    assert path.read_text() == '{"a": 1}'


def test_an_error_shows_types_and_sizes_but_no_value(path: Path) -> None:
    """RELIABILITY 4: logs hold types, sizes and names, never values."""
    store = open_store(path, {"password": {"hunter2"}})
    with pytest.raises(StoreError) as caught:
        store.commit()
    assert "hunter2" not in str(caught.value)
    path.write_text('{"password": "hunter2"')
    with pytest.raises(CorruptStoreError) as corrupt:
        open_store(path)
    assert "hunter2" not in str(corrupt.value)


def test_a_default_that_cannot_be_copied_is_refused_at_once(path: Path) -> None:
    """CONVENTIONS 11: wrong use raises at once; the default is copied (issue 3, scope 1)."""
    with pytest.raises(ArgumentTypeError, match="default"):
        open_store(path, threading.Lock())


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"path": ""}, ArgumentError),
        ({"path": "a\0b"}, ArgumentError),
        ({"path": 0}, ArgumentTypeError),
        ({"path": None}, ArgumentTypeError),
        ({"format": "yaml"}, ArgumentError),
        ({"format": 3}, ArgumentError),
        ({"format": object()}, ArgumentError),
        ({"trust": "everybody"}, (ArgumentError, ArgumentTypeError)),
        ({"max_bytes": -1}, ArgumentError),
        ({"max_bytes": "many"}, ArgumentTypeError),
    ],
)
def test_a_wrong_argument_is_refused_at_once(path: Path, wrong: dict[str, Any], kind: Any) -> None:
    """CONVENTIONS 11, docstring of `open_store`: an error that names the argument, not later."""
    path.write_text("1")
    arguments: dict[str, Any] = {"path": path, **wrong}
    with pytest.raises(kind, match=next(iter(wrong))):
        open_store(**arguments)
    assert names(path.parent) == ["state"]


# -- bad paths ------------------------------------------------------------------------------


def make_file_above(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("whole")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        before = os.getcwd()
        os.chdir(path.parent)  # the names of sockets are short
        try:
            server.bind(path.name)
        finally:
            os.chdir(before)


def make_device(path: Path) -> None:
    """One of its own, like /dev/null: a broken store must not get at the real one."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root may make devices")


def make_loop(path: Path) -> None:
    path.symlink_to("other")
    (path.parent / "other").symlink_to(path.name)


BAD_PATHS: dict[str, tuple[Callable[[Path], object], int | None]] = {
    "below a file": (make_file_above, errno.ENOTDIR),
    "a folder": (lambda path: path.mkdir(), errno.EISDIR),
    "a FIFO": (lambda path: os.mkfifo(path), errno.ENXIO),
    "a socket": (make_socket, errno.ENXIO),
    "a device": (make_device, errno.ENXIO),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), errno.ENOENT),
    "a link loop": (make_loop, errno.ELOOP),
}


def seen(folder: Path) -> Any:
    """What is there, to be compared with later."""
    if not folder.is_dir():
        return folder.read_bytes()
    return [(name, (folder / name).lstat().st_mode) for name in names(folder)]


@pytest.mark.parametrize("case", BAD_PATHS)
def test_a_path_that_is_no_file_is_refused_when_it_is_opened(path: Path, case: str) -> None:
    """Issue 3, bad input: `StoreError` with errno, path, phase; nothing blocks, nothing changes.

    The number is the one open(2) names; ENXIO, which it has for FIFOs, sockets and devices, also
    where it opens them all the same.
    """
    make, number = BAD_PATHS[case]
    make(path)
    before = seen(path.parent)
    with pytest.raises(StoreError) as caught:
        open_store(path, 1)
    assert type(caught.value) is StoreError
    assert (caught.value.phase, caught.value.path) == ("open", str(path))
    assert caught.value.errno == number
    assert seen(path.parent) == before


@pytest.mark.parametrize("format", ["json", "pickle", "bson"])
def test_a_path_below_a_file_is_told_alike_whatever_asks(path: Path, format: str) -> None:
    """Given a file where a folder should be, then opening, commit, update and a store of
    snapshots say the same of the path in it, with the number of open(2)."""
    store = open_store(path, {}, format=format)
    make_file_above(path)
    said = " lies in something that is no folder; give a path that lies in one"
    for refused, where in (
        (lambda: open_store(path, {}, format=format), path),
        (store.commit, path),
        (lambda: store.update(lambda value: value), f"{path}.lock"),
        (lambda: DirectoryStore(path), path),
    ):
        with pytest.raises(StoreError) as caught:
            refused()
        assert (str(caught.value), caught.value.errno) == (f"{where}{said}", errno.ENOTDIR)


@pytest.mark.parametrize("format", ["json", "pickle"])
@pytest.mark.parametrize("case", ["a folder", "a FIFO", "a socket", "a device"])
def test_what_is_in_the_way_is_named_with_the_way_out(path: Path, case: str, format: str) -> None:
    """Given what is no file, before the opening or after, then the same is said of it: the path,
    what it is, and what to give."""
    make, number = BAD_PATHS[case]
    store = open_store(path, 1, format=format)
    make(path)
    for refused in (store.commit, lambda: open_store(path, 1, format=format)):
        with pytest.raises(StoreError) as caught:
            refused()
        said = f"{path} is {case}; give the path of a regular file, or of nothing yet"
        assert (str(caught.value), caught.value.errno) == (said, number)


@pytest.mark.parametrize("case", [case for case in BAD_PATHS if case != "a link to nothing"])
def test_a_path_that_became_no_file_is_refused_when_it_is_written(path: Path, case: str) -> None:
    """Issue 3, bad input: the same after the opening: never replaced, no temporary left."""
    make, number = BAD_PATHS[case]
    store = open_store(path, {"a": 1})
    make(path)
    before = seen(path.parent)
    with pytest.raises(StoreError) as caught:
        store.commit()
    assert type(caught.value) is StoreError
    assert caught.value.phase == "open"
    assert caught.value.errno == number
    assert seen(path.parent) == before
    assert store.value == {"a": 1}


def test_a_folder_that_is_missing_is_an_error_of_the_commit(path: Path) -> None:
    """Issue 3, bad input: with errno, path, phase; a later retry works."""
    missing = path / "state"
    store = open_store(missing, 1)
    with pytest.raises(StoreError) as caught:
        store.commit()
    assert (caught.value.errno, caught.value.phase) == (errno.ENOENT, "open")
    assert caught.value.path == str(missing)
    path.mkdir()
    store.commit()
    assert open_store(missing).value == 1


# -- not writable, full, out of handles -----------------------------------------------------


@as_root
def test_a_read_only_file_system_is_an_error_of_the_commit(
    make_small: Callable[[str], Path],
) -> None:
    """RELIABILITY 1: read-only; reading works, a later retry works."""
    folder = make_small("size=64k")
    path = folder / "state"
    store = open_store(path, "old")
    store.commit()
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    assert open_store(path).value == "old"
    store.value = "new"
    with pytest.raises(StoreError) as caught:
        store.commit()
    assert (caught.value.errno, caught.value.phase) == (errno.EROFS, "open")
    assert caught.value.path == str(path)
    with pytest.raises(StoreError) as locked:
        store.update(lambda value: "new")
    assert (locked.value.errno, locked.value.phase) == (errno.EROFS, "lock")
    assert (store.value, names(folder)) == ("new", ["state"])
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    store.commit()
    assert open_store(path).value == "new"


@as_root
@pytest.mark.parametrize("keep_previous", [False, True])
def test_a_full_disk_leaves_the_old_file_whole(
    make_small: Callable[[str], Path], keep_previous: bool
) -> None:
    """RELIABILITY 1: disk full. 64 kB hold no text of 200,000 characters."""
    folder = make_small("size=64k")
    path = folder / "state"
    store = open_store(path, "old", keep_previous=keep_previous)
    store.commit()
    there = names(folder)
    big = "x" * 200_000
    store.value = big
    with pytest.raises(StoreError) as caught:
        store.commit()
    assert (caught.value.errno, caught.value.phase) == (errno.ENOSPC, "write")
    assert caught.value.path == str(path)
    assert names(folder) == there
    assert store.value is big
    assert open_store(path).value == "old"
    store.value = "new"
    store.commit()
    assert open_store(path).value == "new"


@as_root
def test_a_disk_without_inodes_leaves_the_old_file_whole(
    make_small: Callable[[str], Path],
) -> None:
    """RELIABILITY 1: out of inodes."""
    folder = make_small("size=1m,nr_inodes=8")
    path = folder / "state"
    store = open_store(path, "old")
    store.commit()
    fillers = [folder / str(number) for number in range(8)]
    with suppress(OSError):
        for filler in fillers:
            filler.touch()
    assert not fillers[-1].exists()
    store.value = "new"
    with pytest.raises(StoreError) as caught:
        store.commit()
    assert (caught.value.errno, caught.value.phase) == (errno.ENOSPC, "open")
    assert caught.value.path == str(path)
    assert open_store(path).value == "old"
    fillers[0].unlink()
    store.commit()
    assert open_store(path).value == "new"


REPORT = """
import json, os, resource, sys
from kompyct.errors import StoreError
from kompyct.store import open_store

def told(act):
    try:
        act()
    except StoreError as error:
        return [type(error).__name__, error.errno, error.phase, error.path]
    return None
"""

LIMITED = (
    REPORT
    + """
path = sys.argv[1]
store = open_store(path, "old")
store.commit()
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
store.value = "x" * 100_000
first = told(store.commit)
kept = len(store.value)
content, folder = open(path).read(), os.listdir(os.path.dirname(path))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps([first, kept, content, folder, told(store.commit)]))
"""
)


def test_a_limit_of_file_sizes_leaves_the_old_file_whole(path: Path) -> None:
    """RELIABILITY 1: quota; the write ends in its midst, with EFBIG as setrlimit(2) says."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    told, kept, content, folder, again = run(LIMITED, path)
    assert told == ["StoreError", errno.EFBIG, "write", str(path)]
    assert (kept, content, folder, again) == (100_000, '"old"', ["state"], None)
    assert len(open_store(path).value) == 100_000


HANDLES = (
    REPORT
    + """
path, keep_previous = sys.argv[1], sys.argv[2] == "True"
store = open_store(path, 0, keep_previous=keep_previous)
store.commit()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken, seen = [], []
for free in range(5):
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for _ in range(free):
        os.close(taken.pop())
    for act in (store.commit, lambda: store.update(lambda value: value + 1)):
        if act == store.commit:
            store.value += 1
        value = store.value
        outcome = told(act)
        if free == 0:
            os.close(taken.pop())
        with open(path) as file:
            content = int(file.read())
        if free == 0:
            taken.append(os.open("/dev/null", os.O_RDONLY))
        seen.append([free, outcome, value, store.value, content])
        store.value = content
for descriptor in taken:
    os.close(descriptor)
print(json.dumps([seen, sorted(os.listdir(os.path.dirname(path)))]))
"""
)


@pytest.mark.parametrize("keep_previous", [False, True])
def test_without_handles_a_commit_is_done_or_not_begun(path: Path, keep_previous: bool) -> None:
    """RELIABILITY 1: out of handles: `StoreError`, previous file whole; with 0 to 4 handles free.

    A commit needs two at most, for the new file and its folder; an update the lock as well.
    """
    seen, folder = run(HANDLES, path, keep_previous)
    content = 0
    for number, (free, outcome, value, after, now) in enumerate(seen):
        update = number % 2 == 1
        if outcome is None:
            content += 1
            assert after == now == content, seen[number]
        else:
            assert (outcome[0], outcome[1]) == ("StoreError", errno.EMFILE), seen[number]
            assert now == content, f"not whole: {seen[number]}"
            assert update or after == value
        if free >= 3:
            assert outcome is None, seen[number]
    kept = ["state.previous"] if keep_previous else []
    assert folder == ["state", "state.lock", *kept]


AS_NOBODY = (
    REPORT
    + """
path, user = sys.argv[1], int(sys.argv[2])
open_store(os.path.dirname(path) + "/never", 0)  # everything is imported now
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
opened = told(lambda: open_store(path, "default"))
if opened is not None:
    print(json.dumps([opened, None, None, None]))
    sys.exit()
store = open_store(path, "default")
read = store.value
store.value = "new"
print(json.dumps([read, told(store.commit), told(lambda: store.update(str.upper)), store.value]))
"""
)


@as_root
def test_another_users_folder_can_be_read_and_not_written(open_to_all: Path) -> None:
    """RELIABILITY 1: not writable, as seen by a user who is not root."""
    path = open_to_all / "state"
    open_store(path, "old").commit()
    path.chmod(0o644)
    read, committed, updated, _ = run(AS_NOBODY, path, NOBODY)
    assert read == "old"
    assert committed == ["StoreError", errno.EACCES, "open", str(path)]
    assert updated == ["StoreError", errno.EACCES, "lock", f"{path}.lock"]
    assert open_store(path).value == "old"
    assert names(open_to_all) == ["state"]


@as_root
def test_a_file_that_may_not_be_read_is_an_error_and_not_the_default(open_to_all: Path) -> None:
    """Issue 3, bad input: the default would overwrite it."""
    path = open_to_all / "state"
    open_store(path, "old").commit()
    opened, *_ = run(AS_NOBODY, path, NOBODY)
    assert opened == ["StoreError", errno.EACCES, "open", str(path)]


@as_root
def test_an_owner_who_cannot_be_kept_is_an_error(open_to_all: Path) -> None:
    """RELIABILITY 4: an existing file's owner is kept; so who cannot keep it does not write."""
    path = open_to_all / "state"
    open_store(path, "old").commit()
    path.chmod(0o644)
    open_to_all.chmod(0o777)
    read, committed, *_ = run(AS_NOBODY, path, NOBODY)
    assert read == "old"
    assert committed == ["StoreError", errno.EPERM, "write", str(path)]
    assert path.stat().st_uid == os.geteuid()
    assert open_store(path).value == "old"
    assert names(open_to_all) == ["state", "state.lock"]


# -- bad files ------------------------------------------------------------------------------


def refused(path: Path, store: AtomicStore[Any], content: bytes, **options: Any) -> None:
    """Neither a new store nor one that is open takes that content, and the file stays."""
    path.write_bytes(content)
    value = store.value
    for act in (lambda: open_store(path, **options), store.reload, lambda: store.update(repr)):
        with pytest.raises(CorruptStoreError) as caught:
            act()
        assert isinstance(caught.value, ValueError)
        assert (caught.value.path, caught.value.phase) == (str(path), "decode")
        assert store.value is value
    assert path.read_bytes() == content


@pytest.mark.parametrize("format", ["json", "pickle", "bson"])
def test_a_file_cut_off_anywhere_is_refused(path: Path, format: str) -> None:
    """RELIABILITY 1: truncation, zero length. An object of any of the formats has an end mark."""
    store = open_store(path, {"count": 12, "text": "abc"}, format=format)
    store.commit()
    whole = path.read_bytes()
    for size in range(len(whole)):
        refused(path, store, whole[:size], format=format)
    path.write_bytes(whole)
    assert store.reload() == {"count": 12, "text": "abc"}


@pytest.mark.parametrize("format", ["json", "pickle", "bson"])
@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 4096,
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"\xff\xfe\xfd",
        b"plain text",
        b"\x7fELF\x02\x01\x01",
        b"[" * 100_000,
        b"\x80\xff.",
        b"9" * 10_000,
    ],
    ids=["NULs", "picture", "no UTF-8", "text", "program", "deep", "newer pickle", "digits"],
)
def test_a_foreign_file_is_refused(path: Path, format: str, content: bytes) -> None:
    """RELIABILITY 1: wrong format, NULs: `CorruptStoreError`, and nothing else comes out."""
    store = open_store(path, {"a": 1}, format=format)
    refused(path, store, content, format=format)


def test_a_file_with_a_changed_bit_is_refused_or_means_something_else(path: Path) -> None:
    """RELIABILITY 1: plain files have no checksum (a key gives one), so a changed digit is a
    value; whatever does not decode is `CorruptStoreError`, never another error."""
    store = open_store(path, {"count": 12, "text": "é"}, dump_kwargs={"ensure_ascii": False})
    store.commit()
    whole = path.read_bytes()
    found = 0
    for bit in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            store.reload()
        except CorruptStoreError:
            found += 1
    assert found > len(whole)  # at least all that harm the structure


def test_a_file_that_is_too_big_is_refused_unread(path: Path) -> None:
    """RELIABILITY 1: size caps; a sparse file of 1 TB would fill any memory."""
    store = open_store(path, 1, max_bytes=10)
    path.write_bytes(b"12345678901")
    with pytest.raises(CorruptStoreError) as caught:
        store.reload()
    assert (caught.value.errno, caught.value.phase) == (errno.EFBIG, "read")
    assert caught.value.path == str(path)
    assert store.value == 1
    path.write_bytes(b"1234567890")
    assert store.reload() == 1234567890
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CorruptStoreError):
        open_store(path)


def test_a_corrupt_file_that_was_repaired_is_read_again(path: Path) -> None:
    """Issue 3, bad input: a later retry works."""
    store = open_store(path, 1)
    path.write_text("{")
    with pytest.raises(CorruptStoreError):
        store.reload()
    path.write_text("2")
    assert store.reload() == 2


def test_a_commit_over_a_corrupt_file_is_whole_again(path: Path) -> None:
    """Issue 3, bad input: what is in memory is not lost when the file is."""
    store = open_store(path, 1)
    store.commit()
    path.write_text("{")
    store.commit()
    assert open_store(path).value == 1
