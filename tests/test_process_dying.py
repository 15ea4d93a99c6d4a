"""Deaths of processes, seen by the mutexes that they hold; the processes are real ones."""

from __future__ import annotations

import errno
import faulthandler
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from kompyct.processes import dying
from kompyct.processes.dying import HOLDER_BYTES, MOST, DeathWatch, hold
from kompyct.processes.exits import status_of_dead
from kompyct.processes.memory import Block

LIMIT = 10.0

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or dying._library() is None, reason="needs Linux with glibc"
)


class Deaths:
    """A death watch, what it has told, and the processes that are watched."""

    def __init__(self) -> None:
        self.told: queue.Queue[Any] = queue.Queue()
        self.watch = DeathWatch("test-deaths", self.told.put)
        self.pids: list[int] = []
        self.blocks: list[Block] = []

    def memory(self) -> memoryview:
        block = Block.create(HOLDER_BYTES)
        self.blocks.append(block)
        return block.buffer

    def child(self, live: Callable[[], object], *memories: memoryview) -> int:
        """A process that holds the mutexes there, says so, and then does `live`, or waits."""
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                faulthandler.disable()  # pytest's
                for memory in memories:
                    hold(memory)
                os.write(writing, b".")
                live()
            finally:
                os._exit(7)
        self.pids.append(pid)
        assert os.read(reading, 1) == b"."
        os.close(reading)
        os.close(writing)
        return pid

    def ends(self) -> None:
        self.watch.close()
        for pid in self.pids:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            with suppress(OSError):
                os.waitpid(pid, 0)
        for block in self.blocks:
            block.close()


@pytest.fixture
def deaths() -> Iterator[Deaths]:
    deaths = Deaths()
    yield deaths
    deaths.ends()


def rest() -> None:
    time.sleep(60)


def hold_much() -> None:
    held = bytes(1) * 200_000_000
    time.sleep(60 + len(held) % 2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_death_is_told_once(deaths: Deaths, number: signal.Signals) -> None:
    """get_robust_list(2): the kernel marks what a dying thread holds, and wakes who waits."""
    memory = deaths.memory()
    pid = deaths.child(rest, memory)
    assert deaths.watch.watch("it", memory)
    os.kill(pid, number)
    assert deaths.told.get(timeout=LIMIT) == "it"
    os.waitpid(pid, 0)
    with pytest.raises(queue.Empty):
        deaths.told.get(timeout=0.05)


def test_how_it_ends_is_known_as_soon_as_its_death_is(deaths: Deaths) -> None:
    """Else nobody could be told what has happened. 200 MB take the kernel a while to free."""
    for code in range(1, 6):
        memory = deaths.memory()
        pid = deaths.child(hold_much, memory)
        assert deaths.watch.watch(code, memory)
        os.kill(pid, signal.SIGKILL)
        assert deaths.told.get(timeout=LIMIT) == code
        assert status_of_dead(pid) == signal.SIGKILL


def test_an_exit_is_told_with_its_code(deaths: Deaths) -> None:
    """As `os.waitpid` has it: the code in the second byte."""
    memory = deaths.memory()
    go_on, its = os.pipe()
    pid = deaths.child(lambda: (os.read(go_on, 1), os._exit(3)), memory)
    assert deaths.watch.watch("it", memory)
    os.write(its, b".")
    assert deaths.told.get(timeout=LIMIT) == "it"
    assert status_of_dead(pid) == 3 << 8
    os.close(its)
    os.close(go_on)


def test_many_are_told(deaths: Deaths) -> None:
    """More than the kernel can watch at once: the others when there is room."""
    memories = [deaths.memory() for _ in range(2 * MOST + 3)]
    pid = deaths.child(rest, *memories)
    assert all(deaths.watch.watch(i, memory) for i, memory in enumerate(memories))
    os.kill(pid, signal.SIGKILL)
    told = {deaths.told.get(timeout=LIMIT) for _ in memories}
    assert told == set(range(len(memories)))


def test_each_is_told_when_it_dies(deaths: Deaths) -> None:
    """In the order of the deaths, while others are added."""
    lives = []
    for number in range(20):
        memory = deaths.memory()
        lives.append((number, deaths.child(rest, memory)))
        assert deaths.watch.watch(number, memory)
        if number % 2:
            first, pid = lives.pop(0)
            os.kill(pid, signal.SIGKILL)
            assert deaths.told.get(timeout=LIMIT) == first


def test_what_nobody_holds_is_not_watched(deaths: Deaths) -> None:
    """Not yet, or not any more."""
    memory = deaths.memory()
    assert not deaths.watch.watch("it", memory)
    pid = deaths.child(rest, memory)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not deaths.watch.watch("it", memory)


def test_who_becomes_another_program_is_told_of_and_lives(deaths: Deaths) -> None:
    """execve(2) gives the mutex back as well; /proc tells the two apart."""
    memory = deaths.memory()
    go_on, its = os.pipe()

    def become_another() -> None:
        os.read(go_on, 1)
        os.execv("/bin/sleep", ["sleep", "60"])

    pid = deaths.child(become_another, memory)
    assert deaths.watch.watch("it", memory)
    os.write(its, b".")
    assert deaths.told.get(timeout=LIMIT) == "it"
    assert status_of_dead(pid) is None
    os.kill(pid, 0)
    os.close(its)
    os.close(go_on)


def test_a_copy_of_it_is_not_it(deaths: Deaths) -> None:
    """What a child forks may end: that is told of nobody. Then it ends itself."""
    memory = deaths.memory()
    go_on, its = os.pipe()
    copied, copy_ended = os.pipe()

    def fork() -> None:
        copy = os.fork()
        if not copy:
            os._exit(3)
        os.waitpid(copy, 0)
        os.write(copy_ended, b".")
        os.read(go_on, 1)

    pid = deaths.child(fork, memory)
    assert deaths.watch.watch("it", memory)
    assert os.read(copied, 1) == b"."
    with pytest.raises(queue.Empty):
        deaths.told.get(timeout=0.05)
    os.write(its, b".")
    assert deaths.told.get(timeout=LIMIT) == "it"
    assert status_of_dead(pid) == 7 << 8
    for end in (go_on, its, copied, copy_ended):
        os.close(end)


def test_what_has_overwritten_its_mutex_can_be_forgotten(deaths: Deaths) -> None:
    """The kernel does not know it any more, and marks nothing."""
    before = mappings()
    memory = deaths.memory()
    pid = deaths.child(rest, memory)
    assert deaths.watch.watch("it", memory)
    memory[:8] = bytes(8)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    deaths.watch.forget("it")
    memory.release()
    deaths.blocks.pop().close()
    assert mappings() == before
    assert deaths.told.empty()


def test_it_is_closed_at_any_moment(deaths: Deaths) -> None:
    """No ring of its bell is lost: its thread ends each time."""
    for _ in range(300):
        watch = DeathWatch("test-closed", deaths.told.put)
        memory = deaths.memory()
        hold(memory)
        assert watch.watch("it", memory)
        watch.close()
        assert "test-closed" not in [thread.name for thread in threading.enumerate()]


def test_its_thread_ends_when_it_is_closed(deaths: Deaths) -> None:
    """And what is watched later is told of nobody."""
    memory = deaths.memory()
    pid = deaths.child(rest, memory)
    assert deaths.watch.watch("it", memory)
    assert "test-deaths" in [thread.name for thread in threading.enumerate()]
    deaths.watch.close()
    assert "test-deaths" not in [thread.name for thread in threading.enumerate()]
    assert deaths.watch.watch("it", memory)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert deaths.told.empty()


def test_memory_goes_when_its_death_is_told(deaths: Deaths) -> None:
    """Nothing keeps it mapped, whoever closes it first."""
    before = mappings()
    memory = deaths.memory()
    pid = deaths.child(rest, memory)
    assert deaths.watch.watch("it", memory)
    memory.release()
    deaths.blocks.pop().close()
    os.kill(pid, signal.SIGKILL)
    assert deaths.told.get(timeout=LIMIT) == "it"
    until = time.monotonic() + LIMIT
    while mappings() > before and time.monotonic() < until:
        time.sleep(0.001)
    assert mappings() == before


def mappings() -> int:
    with open("/proc/self/maps", encoding="ascii") as maps:
        return maps.read().count("memfd:kompyct")


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_it_gives_up_where_the_kernel_refuses(
    deaths: Deaths, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """An old kernel, or a sandbox: then the thread ends, and the pidfd has to do."""
    monkeypatch.setattr(dying, "_system_call", lambda *_: code)
    memory = deaths.memory()
    deaths.child(rest, memory)
    assert deaths.watch.watch("it", memory)
    until = time.monotonic() + LIMIT
    while not deaths.watch._closed and time.monotonic() < until:
        time.sleep(0.001)
    assert deaths.watch._closed


def test_it_gives_up_where_there_is_no_thread(
    deaths: Deaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above; `watch` has nothing to complain of."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    memory = deaths.memory()
    deaths.child(rest, memory)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert deaths.watch.watch("it", memory)
    assert deaths.watch._closed


def test_how_a_living_process_ends_is_not_known() -> None:
    """Nor that of a stopped one, of which the kernel says which signal did that."""
    with subprocess.Popen(["sleep", "60"]) as process:
        assert status_of_dead(process.pid) is None
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert status_of_dead(process.pid) is None
        process.kill()
