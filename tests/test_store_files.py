"""Does a careful rename leave the old or the new, whole, whatever system call fails?"""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kompyct.errors import CorruptStoreError, DurabilityError, StoreError
from kompyct.store import files, open_store
from tests.conftest import LIMIT


def names(folder: Path) -> list[str]:
    """All that lies in the folder, hidden or not."""
    return sorted(os.listdir(folder))


def temporaries(folder: Path) -> list[str]:
    """The temporaries that lie in the folder."""
    return [name for name in names(folder) if name.endswith(files.TEMPORARY)]


class Calls:
    """Stands for `os` in `kompyct.store.files`: notes the calls, and has some of them fail.

    Attributes:
        seen: (name, path) of each call of interest; descriptors as the paths they were opened by.
        flags: the flags of each opening, by path.
    """

    WATCHED = (
        "open",
        "read",
        "write",
        "fsync",
        "replace",
        "link",
        "unlink",
        "close",
        "fchmod",
        "fchown",
    )

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.flags: dict[str, int] = {}
        self._open: dict[int, str] = {}
        self._instead: dict[str, Callable[..., Any]] = {}

    def instead(self, name: str, function: Callable[..., Any]) -> None:
        """Have `function(path, *arguments)` called for `os.name`, `path` being what it is about.

        If it returns `NotImplemented`, the call is made as ever.
        """
        self._instead[name] = function

    def fail(
        self, name: str, number: int, when: Callable[[str], bool] = lambda path: True
    ) -> None:
        """Have `os.name` fail with `number` for the paths for which `when(path)`."""

        def raising(path: str, *arguments: Any) -> Any:
            if when(path):
                raise OSError(number, os.strerror(number), path)
            return NotImplemented

        self.instead(name, raising)

    def fill_up(self, when: Callable[[str], bool]) -> list[int]:
        """Have the disk be full when 50 bytes more are in a file for which `when(path)`.

        Returns:
            How many were written by then: none yet.
        """
        written: list[int] = []

        def half(path: str, descriptor: int, data: Any) -> Any:
            if not when(path):
                return NotImplemented
            if written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written.append(os.write(descriptor, bytes(data)[:50]))
            return written[0]

        self.instead("write", half)
        return written

    def heal(self) -> None:
        """Have nothing fail any more."""
        self._instead.clear()

    def count(self, name: str, path: str | None = None) -> int:
        """How often `os.name` was called, for `path` or at all."""
        return sum(1 for call in self.seen if call[0] == name and path in (None, call[1]))

    def __getattr__(self, name: str) -> Any:
        if name not in self.WATCHED:
            return getattr(os, name)
        return lambda *arguments, **options: self._call(name, *arguments, **options)

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        first = arguments[0]
        path = self._open.get(first, "?") if isinstance(first, int) else os.fspath(first)
        self.seen.append((name, path))
        result = NotImplemented
        if name in self._instead:
            result = self._instead[name](path, *arguments)
        if result is NotImplemented:
            result = getattr(os, name)(*arguments, **options)
        if name == "open":
            self._open[result] = path
            self.flags[path] = arguments[1]
        elif name == "close":
            self._open.pop(first, None)
        return result


def is_temporary(path: str) -> bool:
    return path.endswith(files.TEMPORARY)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What `kompyct.store.files` calls from now on."""
    made = Calls()
    monkeypatch.setattr(files, "os", made)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file in a folder of its own that holds "old"."""
    folder = tmp_path / "folder"
    folder.mkdir(0o700)
    (folder / "state").write_bytes(b"old")
    return folder / "state"


# -- the careful rename ---------------------------------------------------------------------


def test_a_careful_rename_is_write_sync_rename_sync(path: Path, calls: Calls) -> None:
    """B-76: write a temporary beside the target, sync it, rename, sync the folder."""
    assert files.replace(str(path), b"new") is True
    steps = [call for call in calls.seen if call[0] in ("write", "fsync", "replace")]
    temporary = steps[0][1]
    assert steps == [
        ("write", temporary),
        ("fsync", temporary),
        ("replace", temporary),
        ("fsync", str(path.parent)),
    ]
    assert os.path.dirname(temporary) == str(path.parent)
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["state"]


def test_a_temporary_stays_locked_until_it_is_renamed(path: Path, calls: Calls) -> None:
    """RELIABILITY 4: only those of dead owners are swept; unlocked, it could be taken for one."""
    files.replace(str(path), b"new")
    steps = [call[0] for call in calls.seen if is_temporary(call[1])]
    assert steps.index("replace") < steps.index("close")


def test_a_temporary_has_a_random_name_and_is_for_its_owner_only(path: Path, calls: Calls) -> None:
    """RELIABILITY 4: `O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC`, 0600, random, recognisable."""
    modes = []

    def write(opened: str, *arguments: Any) -> Any:
        modes.append(stat.S_IMODE(os.stat(opened).st_mode))
        return NotImplemented

    path.chmod(0o666)
    calls.instead("write", write)
    before = os.umask(0)
    try:
        files.replace(str(path), b"1")
        files.replace(str(path), b"2")
    finally:
        os.umask(before)
    made = [name for name in calls.flags if is_temporary(name)]
    assert len(set(made)) == 2
    wanted = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    assert all(calls.flags[name] & wanted == wanted for name in made)
    assert modes == [0o600, 0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_the_mode_is_there_before_the_sync(path: Path, calls: Calls) -> None:
    """RELIABILITY 1: what a power cut leaves has the old file's mode and owner as well."""
    path.chmod(0o640)
    files.replace(str(path), b"new")
    steps = [call[0] for call in calls.seen if is_temporary(call[1])]
    assert steps.index("fchmod") < steps.index("fsync")


def test_no_descriptor_is_left_open(path: Path, calls: Calls) -> None:
    """RELIABILITY 2: 0 descriptors gained, by commits that work and by those that fail."""
    files.replace(str(path), b"new", previous=f"{path}.previous")
    calls.fail("fsync", errno.EIO)
    with pytest.raises(DurabilityError):
        files.replace(str(path), b"newer")
    calls.heal()
    assert calls.count("open") == calls.count("close")


@pytest.mark.parametrize("most", [1, 2, 7])
def test_short_writes_are_gone_on_with(path: Path, calls: Calls, most: int) -> None:
    """write(2): it may write less than asked for; the content is whole all the same."""
    content = bytes(range(100))
    calls.instead("write", lambda opened, descriptor, data: os.write(descriptor, data[:most]))
    files.replace(str(path), content)
    assert path.read_bytes() == content
    assert calls.count("write") == -(-100 // most)


def test_a_short_write_and_then_a_full_disk_leaves_the_old_file(path: Path, calls: Calls) -> None:
    """RELIABILITY 1: disk full; a disk says so by a short write first."""

    def write(opened: str, descriptor: int, data: memoryview) -> Any:
        if calls.count("write") == 1:
            return os.write(descriptor, data[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    calls.instead("write", write)
    with pytest.raises(StoreError) as caught:
        files.replace(str(path), b"new content")
    assert (caught.value.errno, caught.value.phase) == (errno.ENOSPC, "write")
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["state"]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
def test_signals_in_the_midst_of_system_calls_change_nothing(path: Path) -> None:
    """EINTR: PEP 475 repeats the call; a signal a millisecond, through 200 commits."""
    ticks = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: ticks.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for number in range(200):
            content = number.to_bytes(2, "big") * 50_000
            assert files.replace(str(path), content) is True
            found = files.read(str(path), 1 << 20)
            assert found is not None
            assert found[0] == content
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert ticks
    assert names(path.parent) == ["state"]


def test_a_close_that_is_interrupted_is_not_repeated(path: Path, calls: Calls) -> None:
    """close(2): on Linux the descriptor is gone even after EINTR; it may be somebody else's now.

    What counts was synced before, so that the replacement is no failure either.
    """

    def close(opened: str, descriptor: int) -> Any:
        os.close(descriptor)
        raise OSError(errno.EINTR, os.strerror(errno.EINTR))

    calls.instead("close", close)
    assert files.replace(str(path), b"new") is True
    assert calls.count("close") == calls.count("open")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("name", ["write", "fsync", "fchmod", "replace"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_exception_in_the_midst_leaves_the_old_file_and_no_temporary(
    path: Path, calls: Calls, name: str, kind: type[BaseException]
) -> None:
    """RELIABILITY 1: files are untouched by any exception, one of a signal's handler included."""
    path.chmod(0o640)

    def raising(opened: str, *arguments: Any) -> Any:
        if is_temporary(opened):
            raise kind
        return NotImplemented

    calls.instead(name, raising)
    with pytest.raises(kind):
        files.replace(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["state"]


FAILURES = [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EMFILE, errno.EROFS, errno.EPERM]


@pytest.mark.parametrize("number", FAILURES, ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize(
    ("name", "phase"),
    [("open", "open"), ("write", "write"), ("fchmod", "write"), ("replace", "rename")],
)
def test_a_failed_call_leaves_the_old_file_and_no_temporary(
    path: Path, calls: Calls, name: str, phase: str, number: int
) -> None:
    """RELIABILITY 1: `StoreError` with errno, path, phase; previous file whole; a retry works."""
    path.chmod(0o640)
    calls.fail(name, number, is_temporary)
    with pytest.raises(StoreError) as caught:
        files.replace(str(path), b"new")
    assert type(caught.value) is StoreError
    assert (caught.value.errno, caught.value.phase) == (number, phase)
    assert caught.value.path == str(path)
    assert isinstance(caught.value.__cause__, OSError)
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["state"]
    calls.heal()
    assert files.replace(str(path), b"new") is True
    assert path.read_bytes() == b"new"


def test_a_temporary_that_cannot_be_removed_hides_no_error(path: Path, calls: Calls) -> None:
    """CONVENTIONS 11: the message names the thing, here the write that failed."""
    calls.fail("write", errno.ENOSPC)
    calls.fail("unlink", errno.EIO)
    with pytest.raises(StoreError) as caught:
        files.replace(str(path), b"new")
    assert (caught.value.errno, caught.value.phase) == (errno.ENOSPC, "write")
    calls.heal()
    files.sweep(str(path.parent), "state")
    assert names(path.parent) == ["state"]


# -- syncing --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_failed_fsync_is_an_error_and_never_tried_again(
    path: Path, calls: Calls, number: int
) -> None:
    """RELIABILITY 1: EIO on fsync: `DurabilityError`; never retried on the same descriptor; old
    file kept. A later retry writes a new file."""
    calls.fail("fsync", number, is_temporary)
    with pytest.raises(DurabilityError) as caught:
        files.replace(str(path), b"new")
    assert (caught.value.errno, caught.value.phase) == (number, "sync")
    assert caught.value.path == str(path)
    assert calls.count("fsync") == 1
    assert calls.count("replace") == 0
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["state"]
    calls.heal()
    assert files.replace(str(path), b"new") is True
    synced = {opened for name, opened in calls.seen if name == "fsync" and is_temporary(opened)}
    assert len(synced) == 2  # each once
    assert path.read_bytes() == b"new"


def test_a_failed_write_with_eio_is_a_durability_error(path: Path, calls: Calls) -> None:
    """RELIABILITY 1: EIO on write: `DurabilityError`; old file kept."""
    calls.fail("write", errno.EIO)
    with pytest.raises(DurabilityError) as caught:
        files.replace(str(path), b"new")
    assert (caught.value.errno, caught.value.phase) == (errno.EIO, "write")
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["state"]


def test_a_failed_fsync_of_the_folder_says_that_the_outcome_is_unknown(
    path: Path, calls: Calls
) -> None:
    """RELIABILITY 1: EIO on directory fsync after rename. Tried once, no temporary is left."""
    folder = str(path.parent)
    calls.fail("fsync", errno.EIO, lambda opened: opened == folder)
    with pytest.raises(DurabilityError, match="unknown") as caught:
        files.replace(str(path), b"new")
    assert (caught.value.errno, caught.value.phase) == (errno.EIO, "sync-folder")
    assert calls.count("fsync", folder) == 1
    assert path.read_bytes() in (b"old", b"new")
    assert names(path.parent) == ["state"]
    calls.heal()
    assert files.replace(str(path), b"newer") is True
    assert path.read_bytes() == b"newer"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_folder_that_cannot_be_opened_for_its_sync_leaves_the_old_file(
    path: Path, calls: Calls, number: int
) -> None:
    """RELIABILITY 1: out of handles: previous file whole. It can be known before the rename."""
    folder = str(path.parent)
    calls.fail("open", number, lambda opened: opened == folder)
    with pytest.raises(StoreError) as caught:
        files.replace(str(path), b"new")
    assert caught.value.errno == number
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["state"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("what", ["file", "folder", "both"])
def test_a_file_system_that_cannot_sync_gives_one_warning(
    path: Path, calls: Calls, number: int, what: str
) -> None:
    """RELIABILITY 1: fsync unsupported: one warning, and the store says `no-fsync`."""
    path.write_text("0")
    store = open_store(path)
    before = store.durability
    calls.fail(
        "fsync", number, lambda opened: what == "both" or is_temporary(opened) == (what == "file")
    )
    store.value = 1
    with pytest.warns(RuntimeWarning, match="cannot sync") as caught:
        store.commit()
    assert len(caught) == 1
    assert caught[0].filename == __file__  # it points to the commit
    assert (before, store.durability) == ("durable", "no-fsync")
    store.value = 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.commit()
        store.update(lambda value: value + 1)
    assert open_store(path).value == 3


def test_after_an_eio_the_value_is_kept_and_a_retry_works(path: Path, calls: Calls) -> None:
    """RELIABILITY 1: value in memory kept; a later retry works. The same by way of the store."""
    path.write_text("1")
    store = open_store(path)
    store.value = 2
    calls.fail("fsync", errno.EIO)
    with pytest.raises(DurabilityError):
        store.commit()
    assert (store.value, path.read_text()) == (2, "1")
    calls.heal()
    store.commit()
    assert (store.value, path.read_text()) == (2, "2")


# -- the previous generation ----------------------------------------------------------------


def test_the_previous_file_is_there_whole_at_every_moment(path: Path, calls: Calls) -> None:
    """S-30: a side file; neither it nor the file is ever missing, between any two calls."""
    previous = path.parent / "state.previous"
    previous.write_bytes(b"older")
    seen = []

    def look(opened: str, *arguments: Any) -> Any:
        seen.append((path.read_bytes(), previous.read_bytes()))
        return NotImplemented

    for name in ("open", "write", "fsync", "replace", "link", "unlink", "close"):
        calls.instead(name, look)
    files.replace(str(path), b"new", previous=str(previous))
    seen.append((path.read_bytes(), previous.read_bytes()))
    order = [(b"old", b"older"), (b"old", b"old"), (b"new", b"old")]
    assert set(seen) <= set(order)
    assert (seen[0], seen[-1]) == (order[0], order[-1])
    assert seen == sorted(seen, key=order.index)
    assert names(path.parent) == ["state", "state.previous"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_where_there_are_no_hard_links_the_previous_file_is_a_copy(
    path: Path, calls: Calls, number: int
) -> None:
    """S-30: the previous generation on a file system that knows no hard links (link(2))."""
    calls.fail("link", number)
    files.replace(str(path), b"new", previous=f"{path}.previous")
    assert (path.parent / "state.previous").read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["state", "state.previous"]


def test_of_a_file_that_is_not_there_yet_no_previous_one_is_kept(path: Path) -> None:
    """S-30: there is nothing to keep."""
    path.unlink()
    files.replace(str(path), b"new", previous=f"{path}.previous")
    assert names(path.parent) == ["state"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPERM, errno.EISDIR, errno.EIO])
@pytest.mark.parametrize("name", ["link", "replace"])
def test_a_previous_file_that_cannot_be_kept_leaves_all_as_it_was(
    path: Path, calls: Calls, name: str, number: int
) -> None:
    """RELIABILITY 1: previous file whole, no temporary left, whichever call it is.

    A `link` that is not permitted is no failure: a copy is made instead.
    """
    if name == "link" and number == errno.EPERM:
        pytest.skip("that makes a copy, see above")
    calls.fail(name, number)
    with pytest.raises(StoreError) as caught:
        files.replace(str(path), b"new", previous=f"{path}.previous")
    assert caught.value.errno == number
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["state"]


def test_a_commit_of_the_same_file_twice_leaves_no_temporary(path: Path) -> None:
    """rename(2): it does nothing where both names are the same file already."""
    (path.parent / "state.previous").hardlink_to(path)
    files.replace(str(path), b"new", previous=f"{path}.previous")
    assert (path.parent / "state.previous").read_bytes() == b"old"
    assert names(path.parent) == ["state", "state.previous"]


# -- temporaries of the dead and of the living ------------------------------------------------

STOPS = """
import os, sys
from kompyct.store import files, open_store

class Stops:
    def __init__(self, name, count):
        self.name, self.count = name, count
    def __getattr__(self, name):
        if name == self.name:
            self.count -= 1
            if self.count < 0:
                print("there", flush=True)
                sys.stdin.readline()
        return getattr(os, name)

store = open_store(sys.argv[1], keep_previous=sys.argv[4] == "True")
store.value = "new"
files.os = Stops(sys.argv[2], int(sys.argv[3]))
store.commit()
"""


@pytest.fixture
def stop_in() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that write a store and stop before some system call."""
    made: list[subprocess.Popen[str]] = []

    def start(path: Path, name: str, count: int = 0, previous: bool = False) -> Any:
        arguments = [str(path), name, str(count), str(previous)]
        process = subprocess.Popen(
            [sys.executable, "-c", STOPS, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        made.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        return process

    yield start
    for process in made:
        process.kill()
        process.communicate(timeout=LIMIT)


@pytest.mark.parametrize("name", ["write", "fsync", "replace"])
def test_the_temporary_of_a_killed_writer_is_swept_at_the_next_opening(
    path: Path, stop_in: Callable[..., subprocess.Popen[str]], name: str
) -> None:
    """RELIABILITY 2: 0 temporaries after the next open; the file is whole (B-76)."""
    path.write_text('"old"')
    process = stop_in(path, name)
    process.kill()
    process.wait(LIMIT)
    assert len(temporaries(path.parent)) == 1
    assert open_store(path).value == "old"
    assert names(path.parent) == ["state"]


def test_the_temporary_of_a_living_writer_is_left_to_it(
    path: Path, stop_in: Callable[..., subprocess.Popen[str]]
) -> None:
    """RELIABILITY 4: only those of dead owners are swept."""
    path.write_text('"old"')
    process = stop_in(path, "fsync")
    made = temporaries(path.parent)
    assert len(made) == 1
    assert open_store(path).value == "old"
    files.sweep(str(path.parent))
    assert temporaries(path.parent) == made
    process.communicate("\n", timeout=LIMIT)
    assert process.returncode == 0
    assert open_store(path).value == "new"
    assert names(path.parent) == ["state"]


@pytest.mark.parametrize("length", [5, 195, 240])
@pytest.mark.parametrize("count", [0, 1])
def test_a_writer_killed_while_it_keeps_the_previous_one_leaves_nothing(
    path: Path, stop_in: Callable[..., subprocess.Popen[str]], length: int, count: int
) -> None:
    """RELIABILITY 2: kill at every system call of a rotation: 0 temporaries after the next open.

    The first `replace` is that of the previous generation, the second that of the file.
    """
    path = path.rename(path.parent / ("s" * length))
    path.write_text('"old"')
    process = stop_in(path, "replace", count, True)
    process.kill()
    process.wait(LIMIT)
    assert temporaries(path.parent)
    assert open_store(path, keep_previous=True).value == "old"
    assert temporaries(path.parent) == []


def test_only_temporaries_of_that_file_are_swept(path: Path) -> None:
    """RELIABILITY 4: recognisable, so that nothing else is swept."""
    folder = path.parent
    kept = [
        ".other.0123456789abcdef" + files.TEMPORARY,
        "state.0123456789abcdef" + files.TEMPORARY,
        ".state.swp",
        ".state.0123456789abcdef" + files.TEMPORARY + "~",
    ]
    dead = ".state.0123456789abcdef" + files.TEMPORARY
    for name in [*kept, dead]:
        (folder / name).touch()
    files.sweep(str(folder), "state")
    assert names(folder) == sorted([*kept, "state"])
    files.sweep(str(folder))
    assert names(folder) == sorted([*kept[1:], "state"])


@pytest.mark.parametrize("what", ["folder", "link", "FIFO"])
def test_a_planted_temporary_harms_nothing(path: Path, tmp_path: Path, what: str) -> None:
    """RELIABILITY 4: no link is followed, nothing blocks, nothing but the entry itself goes."""
    victim = tmp_path / "victim"
    victim.write_text("whole")
    planted = path.parent / (".state.0123456789abcdef" + files.TEMPORARY)
    if what == "folder":
        planted.mkdir()
        (planted / "inside").touch()
    elif what == "link":
        planted.symlink_to(victim)
    else:
        os.mkfifo(planted)
    files.sweep(str(path.parent), "state")
    assert victim.read_text() == "whole"
    assert what != "folder" or (planted / "inside").exists()
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("missing", [False, True])
def test_a_sweep_of_what_cannot_be_swept_is_no_error(
    path: Path, calls: Calls, missing: bool
) -> None:
    """Docstring of `sweep`: a folder may be there for reading only, or not at all."""
    dead = path.parent / (".state.0123456789abcdef" + files.TEMPORARY)
    dead.touch()
    calls.fail("unlink", errno.EROFS)
    files.sweep(str(path.parent / "missing" if missing else path.parent), "state")
    assert dead.exists()


# -- long names -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["s" * 199, "s" * 201, "s" * 230, "s" * 255, "é" * 127])
def test_a_name_as_long_as_names_can_be_works(
    path: Path, stop_in: Callable[..., subprocess.Popen[str]], name: str
) -> None:
    """Names have up to 255 bytes on Linux; a temporary's must not be longer, and is swept."""
    path = path.rename(path.parent / name)
    path.write_text('"old"')
    process = stop_in(path, "fsync")
    process.kill()
    process.wait(LIMIT)
    assert len(temporaries(path.parent)) == 1
    store = open_store(path)
    assert store.value == "old"
    assert names(path.parent) == [name]
    store.value = "newer"
    store.commit()
    assert open_store(path).value == "newer"
    assert names(path.parent) == [name]


def test_a_name_too_long_is_an_error_with_its_path(path: Path) -> None:
    """Issue 3, bad input: `StoreError` with errno, path and phase; 256 bytes are too many."""
    long = path.parent / ("s" * 256)
    with pytest.raises(StoreError) as caught:
        open_store(long, 1).commit()
    assert (caught.value.errno, caught.value.phase) == (errno.ENAMETOOLONG, "open")
    assert caught.value.path == str(long)
    assert names(path.parent) == ["state"]


def test_a_name_too_long_for_its_previous_one_leaves_no_temporary(path: Path) -> None:
    """RELIABILITY 1: previous file whole, no temporary left; 250 bytes and ".previous" are 259."""
    path = path.rename(path.parent / ("s" * 250))
    path.write_text("1")
    store = open_store(path, keep_previous=True)
    store.value = 2
    with pytest.raises(StoreError) as caught:
        store.commit()
    assert caught.value.errno == errno.ENAMETOOLONG
    assert names(path.parent) == [path.name]
    assert path.read_text() == "1"


def test_a_name_too_long_for_its_lock_is_an_error(path: Path) -> None:
    """Issue 3, bad input: 252 bytes and ".lock" are 257; a plain commit works."""
    path = path.rename(path.parent / ("s" * 252))
    path.write_text("1")
    store = open_store(path)
    with pytest.raises(StoreError) as caught:
        store.update(lambda value: value + 1)
    assert (caught.value.errno, caught.value.phase) == (errno.ENAMETOOLONG, "lock")
    store.value = 3
    store.commit()
    assert open_store(path).value == 3


@pytest.mark.parametrize("name", ["with space", "new\nline", "-rf", "…", b"\xff\xfe"])
def test_any_name_that_a_file_can_have_works(path: Path, name: str | bytes) -> None:
    """A name is bytes without "/" and NUL, whether or not they are text."""
    odd = os.path.join(os.fsencode(path.parent), os.fsencode(name))
    store = open_store(odd, 1, keep_previous=True)
    store.commit()
    store.update(lambda value: value + 1)
    assert open_store(odd).value == 2
    plain = os.fsencode(name)
    wanted = [plain, plain + b".lock", plain + b".previous", b"state"]
    assert sorted(os.listdir(os.fsencode(path.parent))) == sorted(wanted)


# -- readers beside writers -----------------------------------------------------------------


def test_a_reader_beside_writers_sees_one_whole_version(path: Path) -> None:
    """RELIABILITY 1: always one whole version; each is a row of equal numbers."""
    path.write_text(json.dumps([0] * 2000))
    ended = threading.Event()
    failed: list[BaseException] = []

    def write(first: int) -> None:
        try:
            store = open_store(path)
            number = first
            while not ended.is_set():
                number += 1
                store.value = [number] * 2000
                store.commit()
        except BaseException as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 1_000_000)]
    for writer in writers:
        writer.start()
    try:
        different = set()
        for _ in range(200):
            value = open_store(path).value
            assert len(value) == 2000
            assert len(set(value)) == 1
            different.add(value[0])
    finally:
        ended.set()
        for writer in writers:
            writer.join(LIMIT)
    assert failed == []
    assert len(different) > 1
    assert names(path.parent) == ["state"]


# -- the rest of the module -------------------------------------------------------------------


def test_reading_gives_the_content_and_the_status_or_none(path: Path) -> None:
    """Docstring of `read`."""
    found = files.read(str(path), 3)
    assert found is not None
    assert found[0] == b"old"
    assert found[1].st_ino == path.stat().st_ino
    assert files.read(f"{path}.missing", 3) is None
    with pytest.raises(CorruptStoreError) as caught:
        files.read(str(path), 2)
    assert (caught.value.errno, caught.value.phase) == (errno.EFBIG, "read")


def test_a_file_that_is_too_big_is_not_read_at_all(path: Path, calls: Calls) -> None:
    """RELIABILITY 1: size caps; a sparse file of 1 TB would fill any memory."""
    os.truncate(path, 1 << 40)
    with pytest.raises(CorruptStoreError):
        files.read(str(path), 1 << 30)
    assert calls.count("read") == 0
    assert calls.count("close") == 1


def test_a_file_that_lies_about_its_size_is_still_bounded() -> None:
    """RELIABILITY 1: size caps; files of /proc say that they have 0 bytes."""
    found = files.read("/proc/self/stat", 1 << 20)
    assert found is not None
    assert found[1].st_size == 0 < len(found[0])
    with pytest.raises(CorruptStoreError):
        files.read("/proc/self/stat", len(found[0]) // 2)


def test_a_link_is_not_followed_where_it_must_not_be(path: Path) -> None:
    """RELIABILITY 4: `O_NOFOLLOW`; ELOOP is what open(2) says then."""
    link = path.parent / "link"
    link.symlink_to("state")
    assert files.read(str(link), 3) is not None
    with pytest.raises(StoreError) as caught:
        files.read(str(link), 3, follow=False)
    assert (caught.value.errno, caught.value.phase) == (errno.ELOOP, "open")


def test_a_log_is_appended_to_and_cut_off(path: Path, calls: Calls) -> None:
    """Docstrings of `create_log`, `append`, `cut_off`, `read_at`, `status_of_open`, `remove`."""
    log = str(path.parent / "log")
    descriptor = files.create_log(log)
    calls.instead("write", lambda opened, number, data: os.write(number, data[:2]))
    files.append(descriptor, b"12345", log)
    files.append(descriptor, b"678", log)
    assert files.status_of_open(descriptor, log).st_size == 8
    files.cut_off(descriptor, 6, log)
    files.append(descriptor, b"9", log)
    assert files.read_at(descriptor, 100, 4, log) == b"569"
    assert files.sync(descriptor, log) is True
    files.close(descriptor)
    assert stat.S_IMODE(os.stat(log).st_mode) == 0o600
    with pytest.raises(StoreError) as caught:
        files.create_log(log)
    assert (caught.value.errno, caught.value.phase) == (errno.EEXIST, "open")
    files.remove(log)
    files.remove(log)
    assert names(path.parent) == ["state"]


def test_folders_are_made_for_their_owner_only_and_synced(path: Path, calls: Calls) -> None:
    """RELIABILITY 4: folders 0700. Each new name is in a folder that was synced after."""
    deep = path.parent / "a" / "b"
    before = os.umask(0)
    try:
        files.make_folder(str(deep))
        files.make_folder(str(deep))
    finally:
        os.umask(before)
    for folder in (deep, deep.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert calls.count("fsync", str(folder.parent)) >= 1
    assert files.list_folder(str(path.parent)) == ["a", "state"]


@pytest.mark.parametrize("what", ["file", "below a file", "link to nothing"])
def test_a_folder_that_cannot_be_is_refused(path: Path, what: str) -> None:
    """Issue 3, bad input: `StoreError` with errno, path, phase."""
    wanted = path.parent / "link"
    if what == "link to nothing":
        wanted.symlink_to("nothing")
    else:
        wanted = path if what == "file" else path / "deep" / "er"
    with pytest.raises(StoreError) as caught:
        files.make_folder(str(wanted))
    assert caught.value.phase == "open"
    assert caught.value.errno == (errno.ENOENT if what == "link to nothing" else errno.ENOTDIR)
    assert path.read_bytes() == b"old"
