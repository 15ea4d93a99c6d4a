"""Is what a guarded program has stored there, whole, whenever it is killed?

`python -m tests.harness.guarded --kills 10000` runs that many programs, kills each with SIGKILL at
a random moment while it writes, and looks at what `rescue` is given: for each key the value whose
assignment returned last, or the one in flight; never an older one, never a part of one. Afterwards
no process, descriptor, shared memory or file may be left. It prints its seed and its figures; the
exit code is 1 if anything is broken. `--mutants` plants a bug at a time, each of which must be
caught.

What the program has done is told by a ledger in shared memory of its own: for each key the number
that it is about to store, and the number it has stored.
"""

from __future__ import annotations

import argparse
import gc
import logging
import mmap
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from kompyct import guard
from kompyct.guard import GuardedDict
from kompyct.guard.shared import SharedStore
from tests.harness.planting import Mutant

KEYS = 6
SIZES = (0, 3, 40, 400, 4_000, 5_000, 60_000, 300_000)  # bytes of values, about
SMALL_SIZES = SIZES[:4]  # of half of the programs: most of their time they write in place
LONGEST = 0.008  # seconds that a program writes before it is killed
LIMIT = 30.0  # seconds for one program
SHARED = Path("/dev/shm")


@dataclass
class Findings:
    """What became of the programs."""

    kills: int = 0
    in_flight: int = 0
    values: int = 0
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.values} values found, {self.in_flight} of them in flight, "
            f"{len(self.broken)} broken"
        )


class Ledger:
    """Where a program is: its pid, and for each key the number begun and the number done.

    Attributes:
        sizes: of its values.
    """

    def __init__(self, sizes: Sequence[int] = SIZES) -> None:
        self.sizes = sizes
        self._memory = mmap.mmap(-1, 4096)
        self.numbers = memoryview(self._memory).cast("Q")

    def pid(self) -> int:
        return int(self.numbers[0])

    def begun(self, key: int) -> int:
        return int(self.numbers[1 + 2 * key])

    def done(self, key: int) -> int:
        return int(self.numbers[2 + 2 * key])


def content(key: int, number: int, sizes: Sequence[int]) -> bytes:
    """A value that tells whether it is whole, and whose."""
    size = sizes[(number * 7 + key) % len(sizes)]
    return (key.to_bytes(1, "little") + number.to_bytes(7, "little")) * (size // 8 + 1)


def write_for_ever(data: GuardedDict, ledger: Ledger) -> None:
    """Store one numbered value after the other; every ninth is a deletion."""
    numbers = ledger.numbers
    choose = random.Random(os.getpid()).randrange
    numbers[0] = os.getpid()
    number = 0
    while True:
        number += 1
        key = choose(KEYS)
        numbers[1 + 2 * key] = number
        if number % 9 == 0:
            data.pop(key, None)
        else:
            data[key] = content(key, number, ledger.sizes)
        numbers[2 + 2 * key] = number


def check(data: GuardedDict, ledger: Ledger, findings: Findings) -> None:
    """Compare what is there with what should be."""
    for key in range(KEYS):
        begun, done = ledger.begun(key), ledger.done(key)
        try:
            found = data.get(key)
        except Exception as error:
            findings.broken.append(f"key {key}: cannot be read: {error!r}")
            continue
        allowed = {}
        for number in {begun, done}:
            stored = number and number % 9
            allowed[content(key, number, ledger.sizes) if stored else None] = number
        if found not in allowed:
            what = "nothing" if found is None else f"{len(found)} bytes, from {found[:8]!r}"
            findings.broken.append(f"key {key}: {what}; done {done}, begun {begun}")
        elif found is not None:
            findings.values += 1
            findings.in_flight += allowed[found] != done


def kill_once(ledger: Ledger, after: float) -> None:
    """Wait for the program to write, and kill it a moment later."""
    give_up = time.monotonic() + LIMIT
    while not ledger.pid() and time.monotonic() < give_up:
        time.sleep(0.0002)
    end = time.perf_counter() + after
    while time.perf_counter() < end:  # a sleep would hit the same few moments
        pass
    with suppress(ProcessLookupError):  # a bug that was planted has ended it
        os.kill(ledger.pid(), signal.SIGKILL)


def one_program(findings: Findings, moments: random.Random, folder: Path, named: bool) -> None:
    """Run a program until it is killed, and rescue its data; with an autosave now and then."""
    ledger = Ledger(moments.choice((SIZES, SMALL_SIZES)))
    saved: tuple[float | None, Path | None] = (None, None)
    if moments.random() < 0.25:
        saved = (0.001, folder / "autosave")
    rescued = []

    def rescue(data: GuardedDict, exit_code: int, _: Ledger) -> None:
        rescued.append(exit_code)
        check(data, ledger, findings)

    killer = threading.Thread(target=kill_once, args=(ledger, moments.uniform(0, LONGEST)))
    killer.start()
    guard.start(write_for_ever, rescue, ledger, *saved, named_memory=named)
    killer.join(LIMIT)
    findings.kills += 1
    if rescued != [-signal.SIGKILL]:
        findings.broken.append(f"rescue was called with {rescued}")


class _Damage(logging.Handler):
    """Notes what the launcher says of values that no kill may leave."""

    def __init__(self, findings: Findings) -> None:
        super().__init__()
        self._findings = findings

    def emit(self, record: logging.LogRecord) -> None:
        if "overwritten" in record.getMessage():
            self._findings.broken.append(record.getMessage())


@contextmanager
def nothing_left(findings: Findings, folder: Path) -> Iterator[None]:
    """Look for what is left of the programs."""

    def left() -> tuple[object, ...]:
        gc.collect()
        children = {child.pid for child in psutil.Process().children()}
        own = f"*kompyct_{os.getpid()}_*"  # other tests may run beside these
        shared = {entry.name for entry in SHARED.glob(own)} if SHARED.exists() else set()
        files = {entry.name for entry in folder.iterdir()}
        return children, len(os.listdir("/proc/self/fd")), shared, files, threading.active_count()

    before = left()
    yield
    if left() != before:
        findings.broken.append(f"left: {left()} instead of {before}")


def run(kills: int, seed: int, *, named: bool = False) -> Findings:
    """Kill so many programs."""
    findings = Findings()
    moments = random.Random(seed)
    logger = logging.getLogger("kompyct.guard")
    damage = _Damage(findings)
    multiprocessing.set_start_method("fork", force=True)
    with ExitStack() as stack:
        stack.callback(multiprocessing.set_start_method, None, force=True)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        logger.addHandler(damage)
        stack.callback(logger.removeHandler, damage)
        propagate, logger.propagate = logger.propagate, False
        stack.callback(setattr, logger, "propagate", propagate)
        one_program(Findings(), moments, folder, named)  # starts the resource tracker
        with nothing_left(findings, folder):
            for _ in range(kills):
                one_program(findings, moments, folder, named)
    return findings


_HEADER = "_pack_half(buffer, header, offset, length, sequence, check)"

MUTANTS = (
    Mutant(
        "the mark before the data",
        SharedStore,
        "_write",
        _HEADER,
        f"buffer[at] = mark\n{_HEADER}",
        ("kills",),
    ),
    Mutant(
        "one half only",
        SharedStore,
        "_write",
        "half = 0 if buffer[at] == 2 else 1",
        "half = 0",
        ("kills",),
    ),
    Mutant(
        "what is longer than its place, in place",
        SharedStore,
        "overwrite",
        "if self._alone != me or length > slot.limit:",
        "if self._alone != me or length > 8 * slot.limit:",
        ("kills",),
    ),
    Mutant(
        "a place is given back while it is live",
        SharedStore,
        "_write",
        "header, offset, mark, capacity = slot.halves[half]",
        "header, offset, mark, capacity = slot.halves[half]\n"
        "self._places.give_back(slot.halves[1 - half][1::2])",
        ("kills",),
    ),
    Mutant(
        "the mark is never set again",
        SharedStore,
        "_write",
        "buffer[at] = mark",
        "buffer[at] = buffer[at] or mark",
        ("kills",),
    ),
    Mutant(
        "a deletion forgets the mark",
        SharedStore,
        "__delitem__",
        "self._buffer[slot.at] = 0",
        "pass",
        ("kills",),
    ),
)

# A kill between two lines of what is done in a quarter of a microsecond: the long form finds these
# within some hundred kills. `tests/test_guard_dictionary.py` stops at each line of it.
MUTANTS_IN_PLACE = (
    Mutant(
        "the mark before the data, in place",
        SharedStore,
        "overwrite",
        _HEADER,
        f"buffer[at] = mark\n{_HEADER}",
        ("kills",),
    ),
    Mutant(
        "one half only, in place",
        SharedStore,
        "overwrite",
        "header, offset, mark, _ = slot.halves[buffer[at] != 2]",
        "header, offset, mark, _ = slot.halves[0]",
        ("kills",),
    ),
)


def caught(mutant: Mutant, kills: int, seed: int) -> int | None:
    """After how many kills, at most, a mutant was caught; None if it was not."""
    with mutant.planted():
        tried = 0
        while tried < kills:
            findings = run(20, seed + tried)
            tried += 20
            if findings.broken:
                return tried
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.guarded", description=__doc__)
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--named", action="store_true", help="over named shared memory")
    parser.add_argument("--mutants", action="store_true", help="plant bugs instead")
    given = parser.parse_args()
    print(f"seed {given.seed}")
    if given.mutants:
        missed = 0
        for mutant in (*MUTANTS, *MUTANTS_IN_PLACE):
            after = caught(mutant, given.kills, given.seed)
            print(f"{mutant.what}: {'missed' if after is None else f'caught in {after} kills'}")
            missed += after is None
        return 1 if missed else 0
    start = time.monotonic()
    findings = run(given.kills, given.seed, named=given.named)
    for line in findings.broken[:20]:
        print(line)
    print(f"{findings}, {time.monotonic() - start:.0f} s")
    return 1 if findings.broken else 0


if __name__ == "__main__":
    sys.exit(main())
