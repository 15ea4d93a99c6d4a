"""Does a store survive being killed at random and opened again, thousands of times?

A child opens the store, says what it finds, commits one number after the other and says each when
it is acknowledged; at a random moment it gets SIGKILL. The next child goes on in the same files.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from contextlib import suppress
from typing import NoReturn

from kompyct.errors import StoreError
from tests.harness.store.calls import standing_in
from tests.harness.store.figures import Figures
from tests.harness.store.planted import laid_over
from tests.harness.store.subjects import BrokenError, Subject, temporaries

LONGEST = 0.006  # seconds before a kill; an opening and some commits
MEMORY = 5_000_000  # bytes that the parent may gain
WORDS = 30  # of a value


def run(subject: Subject, *, kills: int, seed: int, planted: str | None = None) -> Figures:
    """Kill and open again `kills` times; until the first break, if a bug is planted."""
    figures = Figures(f"restarts {subject.name}")
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="restarts-") as folder:
        acknowledged = 0
        before = (_descriptors(), _memory())
        for _ in range(kills):
            found, newest = _life(subject, folder, draw.uniform(0, LONGEST), planted)
            figures.add("kills")
            if found is None:  # killed before it had opened the store
                continue
            figures.add("openings")
            figures.expect(found >= acknowledged, f"{found} found, {acknowledged} acknowledged")
            figures.add("acknowledged", max(newest - found, 0))
            acknowledged = max(newest, found)
            if len(figures.broken) > (0 if planted else 20):
                break
        after = (_descriptors(), _memory())
        try:
            handle = subject.open(folder, WORDS)
            last = handle.read()[0]
            handle.close()
            figures.expect(last >= acknowledged, f"{last} at the end, {acknowledged} acknowledged")
        except (BrokenError, StoreError) as error:
            figures.expect(False, str(error))
        figures.expect(not temporaries(folder), f"temporaries left: {temporaries(folder)}")
        figures.expect(after[0] <= before[0], f"{after[0] - before[0]} descriptors gained")
        figures.expect(after[1] - before[1] <= MEMORY, f"{after[1] - before[1]} bytes gained")
        with suppress(ChildProcessError):
            figures.expect(os.waitpid(-1, os.WNOHANG)[0] == 0, "a zombie is left")
    return figures


def _life(
    subject: Subject, folder: str, seconds: float, planted: str | None
) -> tuple[int | None, int]:
    """One child: what it found, None if it did not come to that, and its last acknowledged."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _commit(subject, folder, writing, planted)
    os.close(writing)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = b""
    while part := os.read(reading, 65536):
        told += part
    os.close(reading)
    numbers = [int(word) for word in told.split(b"\n")[:-1]]  # the last may be cut off
    if not numbers:
        return None, 0
    return numbers[0], numbers[-1]


def _commit(subject: Subject, folder: str, writing: int, planted: str | None) -> NoReturn:
    """Commit numbers until the end comes."""
    try:
        with standing_in(laid_over(os, planted)):
            handle = subject.open(folder, WORDS)
            number = handle.read()[0]
            os.write(writing, b"%d\n" % number)
            while True:
                number += 1
                handle.commit(number)
                os.write(writing, b"%d\n" % number)
    except (BrokenError, StoreError):
        os.write(writing, b"-1\n")  # less than anything acknowledged
        time.sleep(60)
    finally:
        os._exit(1)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _memory() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
