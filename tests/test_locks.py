"""Does a lock keep the others out, and only as long as its owner lives?"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kompyct.errors import StoreError, StoreLockedError
from kompyct.store import files
from kompyct.store.locks import FileLock, is_locked
from tests.conftest import LIMIT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it needs locks of POSIX")

HOLD = """
import sys, time
from kompyct.store.locks import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(50)
"""

HOLD_AND_FORK = """
import os, sys, time
from kompyct.store.locks import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
child = os.fork()
if child == 0:
    print("held" if lock.held else "not held", os.getpid(), flush=True)
    time.sleep(50)
    os._exit(0)
time.sleep(50)
"""


@contextmanager
def program(code: str, path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that runs `code`, and the first line it writes."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait(LIMIT)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_a_second_one_is_refused_until_the_first_lets_go(path: Path) -> None:
    """S-29, B-82: one writer."""
    first, second = FileLock(str(path)), FileLock(str(path))
    first.acquire()
    assert first.held
    with pytest.raises(StoreLockedError):
        second.acquire()
    assert not second.held
    first.release()
    assert not first.held
    second.acquire()
    assert second.held
    second.release()


def test_the_refusal_says_who_has_it_and_since_when(path: Path) -> None:
    """StoreLockedError: the message says who, and since when: number of the process and time."""
    before = int(time.time())
    with program(HOLD, path) as (process, said):
        assert said == "held"
        with pytest.raises(StoreLockedError) as caught:
            FileLock(str(path)).acquire()
    found = re.search(
        r"process (\d+) since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4})", str(caught.value)
    )
    assert found is not None, str(caught.value)
    assert int(found[1]) == process.pid
    since = time.mktime(time.strptime(found[2][:19], "%Y-%m-%d %H:%M:%S"))
    assert before <= since <= time.time()
    assert caught.value.path == str(path)
    assert caught.value.phase == "lock"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff\xfe", b"x" * 10_000])
def test_a_lock_file_of_rubbish_is_told_as_another_process(path: Path, content: bytes) -> None:
    """What the file holds is for people only; the lock counts."""
    lock = FileLock(str(path))
    lock.acquire()
    path.write_bytes(content)
    with pytest.raises(StoreLockedError, match="another process"):
        FileLock(str(path)).acquire()
    lock.release()


def test_a_killed_process_lets_go_at_once(path: Path) -> None:
    """B-82: the lock of a dead process is free at once, though its file is still there."""
    with program(HOLD, path) as (process, said):
        assert said == "held"
        assert is_locked(str(path))
        process.send_signal(signal.SIGKILL)
        process.wait(LIMIT)
        lock = FileLock(str(path))
        lock.acquire()
        told = json.loads(path.read_bytes())
        lock.release()
    assert told["pid"] == os.getpid()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_have_it(path: Path) -> None:
    """The class: a lock that outlived its owner in a child would keep the next start out."""
    with program(HOLD_AND_FORK, path) as (process, said):
        state, _, child = said.rpartition(" ")
        try:
            assert state == "not held"
            with pytest.raises(StoreLockedError, match=str(process.pid)):
                FileLock(str(path)).acquire()  # the end of it in the child freed nothing
            process.send_signal(signal.SIGKILL)
            process.wait(LIMIT)
            os.kill(int(child), 0)  # the child still lives
            lock = FileLock(str(path))
            lock.acquire()
            lock.release()
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_a_started_program_does_not_have_it(path: Path) -> None:
    """The descriptor is closed on exec, so a child program keeps nobody out."""
    lock = FileLock(str(path))
    lock.acquire()
    child = subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(50)"],
        stdout=subprocess.PIPE,
        close_fds=False,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        lock.release()
        other = FileLock(str(path))
        other.acquire()
        other.release()
    finally:
        child.kill()
        child.wait(LIMIT)
        assert child.stdout is not None
        child.stdout.close()


def test_threads_of_one_process_keep_each_other_out(path: Path) -> None:
    """The class: held in a process it is held against its other threads as well.

    Ten threads add to a number 20 times each, with a look at it before: 200 if none is lost.
    """
    number = [0]
    inside: list[int] = []
    errors: list[BaseException] = []

    def adds() -> None:
        try:
            for _ in range(20):
                lock = FileLock(str(path))
                lock.acquire(20.0)
                inside.append(1)
                assert len(inside) == 1
                before = number[0]
                os.stat(path)  # lets another thread run
                number[0] = before + 1
                inside.pop()
                lock.release()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=adds) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert errors == []
    assert number == [200]


def test_who_waits_gets_it_when_it_is_free(path: Path) -> None:
    """`acquire`: timeout is how long to wait for it."""
    first, second = FileLock(str(path)), FileLock(str(path))
    first.acquire()
    waiting = threading.Event()
    got = threading.Event()

    def waits() -> None:
        waiting.set()
        second.acquire(LIMIT)
        got.set()

    thread = threading.Thread(target=waits)
    thread.start()
    assert waiting.wait(LIMIT)
    assert not got.is_set()
    first.release()
    assert got.wait(LIMIT)
    thread.join(LIMIT)
    second.release()


def test_who_waits_in_vain_is_refused_after_the_timeout(path: Path) -> None:
    """`acquire`: not before 50 ms have passed, and not much later."""
    lock = FileLock(str(path))
    lock.acquire()
    begun = time.monotonic()
    with pytest.raises(StoreLockedError):
        FileLock(str(path)).acquire(0.05)
    assert 0.05 <= time.monotonic() - begun < LIMIT
    lock.release()


def test_is_locked_tells_and_changes_nothing(path: Path) -> None:
    """`is_locked`: somebody has it or not; no file is made, none is changed."""
    assert not is_locked(str(path))
    assert not path.exists()
    lock = FileLock(str(path))
    lock.acquire()
    before = path.read_bytes()
    assert is_locked(str(path))
    assert is_locked(str(path)), "the first look let nobody in"
    with pytest.raises(StoreLockedError):
        FileLock(str(path)).acquire()
    lock.release()
    assert not is_locked(str(path))
    assert path.read_bytes() == before


def test_a_look_at_the_lock_refuses_no_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`is_locked` changes nothing: who starts while somebody looks is not refused.

    In the middle of a look another thread starts, and the look ends while that one starts.
    """
    path.touch(0o600)
    looking, look_on = threading.Event(), threading.Event()
    close = files.close
    looker_name = "looker"

    def slow_close(descriptor: int) -> None:
        if threading.current_thread().name == looker_name:
            looking.set()
            look_on.wait(LIMIT)
        close(descriptor)

    monkeypatch.setattr(files, "close", slow_close)
    looker = threading.Thread(target=is_locked, args=(str(path),), name=looker_name)
    looker.start()
    try:
        assert looking.wait(LIMIT)
        threading.Timer(0.01, look_on.set).start()
        lock = FileLock(str(path))
        lock.acquire()
        assert lock.held
        lock.release()
    finally:
        look_on.set()
        looker.join(LIMIT)


def test_a_lock_file_that_was_removed_locks_nobody_out_or_in(path: Path) -> None:
    """Two may not have it at once through a file that is gone: who comes later has the new one."""
    first = FileLock(str(path))
    first.acquire()
    path.unlink()
    second = FileLock(str(path))
    second.acquire()
    with pytest.raises(StoreLockedError):
        FileLock(str(path)).acquire()
    first.release()
    assert is_locked(str(path))
    second.release()


def test_a_link_or_a_folder_is_no_lock(tmp_path: Path, path: Path) -> None:
    """A planted link would have another file truncated; it is refused, and the file whole."""
    (tmp_path / "precious").write_bytes(b"precious")
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(StoreError):
        FileLock(str(path)).acquire()
    assert (tmp_path / "precious").read_bytes() == b"precious"
    with pytest.raises(StoreError):
        FileLock(str(tmp_path)).acquire()


def test_letting_go_twice_is_nothing(path: Path) -> None:
    """`release`: gives it back if it is held; somebody else's stays."""
    first, second = FileLock(str(path)), FileLock(str(path))
    first.release()
    first.acquire()
    first.release()
    second.acquire()
    first.release()
    assert second.held
    assert is_locked(str(path))
    second.release()
