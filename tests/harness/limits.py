"""Does an interrupt ever come after its block has ended, or leave a lock behind?

`python -m tests.harness.limits races --count 100000` runs that many guarded blocks that end just
when their time is up, give or take a tenth of a millisecond, while threads are switched every 10
microseconds; half of them on the main thread, half in three threads at once. As the last thing
they do, they close files by dropping them, compare large values, take a lock, compress, report
progress, tell a component; they are nested, swallow an interrupt, are left by hand or by a stack.

Broken is: an interrupt that is raised outside its block, or once more after it; one that is
raised in the middle of kompyct's own code; one that is lost, or taken for another guard's; a lock
that stays taken; a message that was told and not handled. Then it measures how late interrupts
are where nothing else computes. It prints its seed and its figures; the exit code is 1 if
anything is broken. `--mutants` plants a bug at a time, each of which must be caught.
"""

from __future__ import annotations

import argparse
import dis
import inspect
import linecache
import os
import random
import select
import signal
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import perf_counter_ns
from types import CodeType, FrameType, TracebackType
from typing import Any

from kompyct import Component, ComponentSystem, Request, interrupts
from kompyct.interrupts import Watch, interrupt
from kompyct.limits import ExecutionTimeout, InterruptType, TimeGuard, time_guard
from kompyct.limits import guard as guarding
from tests.harness.planting import Mutant

MICROSECOND = 1_000  # nanoseconds
PACKAGE = os.path.dirname(interrupts.__file__)
SWITCH = 1e-5  # seconds
JITTER = 100 * MICROSECOND
SETTLE = 150 * MICROSECOND  # for which an interrupt may come late
GRACE_MS = 1.0  # the shortest there is
PATIENCE = 20.0  # seconds, until a thread of races is taken to hang
LIMIT = 5.0  # seconds in which a component has handled what it was told


@dataclass
class Findings:
    """What became of the blocks."""

    races: int = 0
    interrupted: int = 0
    at_exit: int = 0
    by_kind: dict[str, list[int]] = field(default_factory=dict)
    overshoots: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        self.races += other.races
        self.interrupted += other.interrupted
        self.at_exit += other.at_exit
        for kind, (races, interrupted) in other.by_kind.items():
            sums = self.by_kind.setdefault(kind, [0, 0])
            sums[0] += races
            sums[1] += interrupted
        self.broken += other.broken

    def __str__(self) -> str:
        text = (
            f"{self.races} races, {self.interrupted} interrupted, {self.at_exit} of them while "
            f"leaving; {len(self.broken)} broken"
        )
        if self.overshoots:
            late = sorted(self.overshoots)
            median, most = late[len(late) // 2], late[len(late) * 99 // 100]
            text += f"; late by {median * 1e3:.2f} ms (median), {most * 1e3:.2f} ms (p99)"
        return text


@dataclass(frozen=True, slots=True)
class Count(Request[int]):
    """Ask how many messages came before this one."""


class Counter(Component[object]):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.count = 0

    def on_receive(self, message: object) -> int | None:
        if isinstance(message, Count):
            return self.count
        self.count += 1
        return None


def spin(until: int) -> None:
    while perf_counter_ns() < until:
        pass


def droppable() -> list[Any]:
    """Things that give up the global lock while they are dropped."""
    if hasattr(select, "epoll"):
        return [select.epoll() for _ in range(20)]
    return [zlib.compressobj() for _ in range(20)]


class Lane:
    """The races of one thread. A method of a name with `race_` is a kind of block.

    Each takes a guard, and when its body is to end; it raises what the guard does.
    """

    def __init__(self, seed: int, system: ComponentSystem | None) -> None:
        self.findings = Findings()
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.left = bytes(200_000)
        self.right = bytes(200_000)
        self.same = True
        self.begun = self.told = 0
        self.counter = None if system is None else system.create(Counter, start=True)
        # Nanoseconds after the deadline at which the body ends, by kind: so that about as many
        # are interrupted as are not.
        self.aims: dict[str, float] = {}

    def run(self, count: int, kinds: tuple[str, ...], *, patient: bool) -> None:
        """Run so many races, or fewer."""
        while self.findings.races < count and (patient or not self.findings.broken):
            kind = "any"
            try:
                kind = self.random.choice(kinds)
                self.one(kind)
            except (ExecutionTimeout, KeyboardInterrupt) as error:
                self.broken(kind, "late, long after", error)
        for end in (self.settle, self.check_told):
            try:
                end()
            except (ExecutionTimeout, KeyboardInterrupt) as error:
                self.broken("any", "late, at the end", error)

    def one(self, kind: str) -> None:
        """One race of that kind."""
        findings = self.findings
        findings.races += 1
        steps = kind in _STEPS
        guard = time_guard(
            timeout_ms=self.random.uniform(0.1, 0.6),
            grace_period=None,
            grace_period_ms=GRACE_MS if steps else None,
            interrupt_type=InterruptType.signal if "signal" in kind else InterruptType.exception,
        )
        aim = self.aims.get(kind, 0.0)
        ends = guard._timeout + aim + self.random.uniform(-JITTER, JITTER)
        was_interrupted = False
        settle = int(2.5 * GRACE_MS * 1e6) if steps else SETTLE
        try:
            try:
                getattr(self, f"race_{kind}")(guard, perf_counter_ns() + int(ends))
            except (ExecutionTimeout, KeyboardInterrupt) as error:
                was_interrupted = True
                self.look_at(kind, error, guard)
            spin(perf_counter_ns() + settle)
        except (ExecutionTimeout, KeyboardInterrupt) as error:
            self.broken(kind, "late", error)
        findings.interrupted += was_interrupted
        self.aims[kind] = aim + (-1 if was_interrupted else 1) * 5 * MICROSECOND
        sums = findings.by_kind.setdefault(kind, [0, 0])
        sums[0] += 1
        sums[1] += was_interrupted
        if self.lock.locked():
            self.broken(kind, "the lock stays taken")
            self.lock = threading.Lock()

    def broken(self, kind: str, what: str, error: BaseException | None = None) -> None:
        where = ""
        if error is not None and error.__traceback__ is not None:
            frame, offset = innermost(error.__traceback__)
            where = f": {error!r} at offset {offset} of {frame.f_code.co_qualname}"
        self.findings.broken.append(f"{kind}: {what}{where}")

    def look_at(self, kind: str, error: BaseException, guard: TimeGuard) -> None:
        """Was it raised where it may be, and once?"""
        traceback = error.__traceback__
        assert traceback is not None
        frame, offset = innermost(traceback)
        code = frame.f_code
        if code is guarding._leave.__code__:
            self.findings.at_exit += 1
        if code.co_filename.startswith(PACKAGE) and not is_beginning(code, offset):
            self.broken(kind, "in kompyct's own code", error)
        if isinstance(error, ExecutionTimeout):
            if error.source is not guard:
                self.broken(kind, "of another guard", error)
            earlier = error.__context__
            if (
                kind not in _STEPS
                and isinstance(earlier, ExecutionTimeout)
                and earlier.source is error.source
            ):
                self.broken(kind, "twice", error)
        # There the block has been left already.
        line = linecache.getline(code.co_filename, line_of(traceback)).strip()
        if line.startswith("with guard"):
            self.broken(kind, "late, at the end of the statement", error)

    def settle(self) -> None:
        """Let what is late come."""
        spin(perf_counter_ns() + 20_000 * MICROSECOND)

    def check_told(self) -> None:
        """Has everything been handled that was told?"""
        if self.counter is None or not self.begun:
            return
        try:
            handled = self.counter.ask(Count(), timeout=LIMIT if self.told else 1.0)
        except Exception as error:
            self.findings.broken.append(f"telling: the component is wedged: {error!r}")
            return
        if not self.told <= handled <= self.begun:
            self.findings.broken.append(
                f"telling: {handled} handled; {self.told} told, {self.begun} begun"
            )

    def race_computing(self, guard: TimeGuard, until: int) -> None:
        with guard:
            spin(until)

    def race_closing(self, guard: TimeGuard, until: int) -> None:
        files = droppable()
        with guard:
            spin(until)
            del files

    def race_closing_in_steps(self, guard: TimeGuard, until: int) -> None:
        files = droppable()
        with guard:
            spin(until)
            del files

    def race_comparing(self, guard: TimeGuard, until: int) -> None:
        with guard:
            spin(until)
            self.same = self.left == self.right

    def race_locking(self, guard: TimeGuard, until: int) -> None:
        lock = self.lock
        with guard:
            while perf_counter_ns() < until:
                with lock:
                    pass
            with lock:
                pass

    def race_compressing(self, guard: TimeGuard, until: int) -> None:
        data = self.left[:20_000]
        with guard:
            spin(until)
            zlib.compress(data, 1)

    def race_progressing(self, guard: TimeGuard, until: int) -> None:
        inner = time_guard(60)
        with guard:
            with inner:
                while perf_counter_ns() < until:
                    inner.progress()

    def race_entering(self, guard: TimeGuard, until: int) -> None:
        """Guards within, all the time: kompyct's own code, most of it."""
        with guard:
            while perf_counter_ns() < until:
                with time_guard(60):
                    pass

    def race_telling(self, guard: TimeGuard, until: int) -> None:
        tell = self.counter.tell if self.counter is not None else print
        with guard:
            while perf_counter_ns() < until:
                self.begun += 1
                tell(self.begun)
                self.told += 1
                spin(perf_counter_ns() + 3 * MICROSECOND)  # let it fall asleep

    def race_decorated(self, guard: TimeGuard, until: int) -> None:
        @guard
        def function(files: list[Any]) -> None:
            spin(until)
            files.clear()

        function(droppable())

    def race_stacked(self, guard: TimeGuard, until: int) -> None:
        with ExitStack() as stack:
            stack.enter_context(guard)
            spin(until)

    def race_stacked_in_steps(self, guard: TimeGuard, until: int) -> None:
        files = droppable()
        with ExitStack() as stack:
            stack.enter_context(guard)
            spin(until)
            del files

    def race_by_hand(self, guard: TimeGuard, until: int) -> None:
        """Left by a bound method that is kept, and the watch with it."""
        leave = guard.__exit__
        has_ended = False
        try:
            guard.__enter__()
            spin(until)
            leave(None, None, None)
            has_ended = True
            spin(perf_counter_ns() + SETTLE)
        except (ExecutionTimeout, KeyboardInterrupt) as error:
            if has_ended:
                self.broken("by_hand", "late", error)
            leave(None, None, None)
            raise

    race_by_hand_by_signal = race_by_hand
    race_computing_by_signal = race_computing
    race_closing_by_signal = race_closing
    race_entering_by_signal = race_entering
    race_telling_by_signal = race_telling

    def race_swallowing(self, guard: TimeGuard, until: int) -> None:
        """Aimed at the second step."""
        files = droppable()
        with guard:
            try:
                spin(until + 10_000 * MICROSECOND)
            except ExecutionTimeout:
                second = perf_counter_ns() + int(GRACE_MS * 1e6)
                until = second + int(self.random.uniform(-JITTER, 2 * JITTER))
            spin(until)
            del files

    def race_nested(self, guard: TimeGuard, until: int) -> None:
        """Two that are due at the same time, in native code: neither is lost, nor mistaken."""
        inner = time_guard(
            timeout_ms=guard._timeout / 1e6,
            grace_period=None,
            interrupt_type=InterruptType.exception,
        )
        with guard:
            try:
                with inner:
                    spin(until - JITTER)
                    for _ in range(10):
                        self.same = self.left == self.right
            except ExecutionTimeout as error:
                if error.source is guard:
                    raise
                if error.source is not inner:
                    self.broken("nested", "of another guard", error)
                # What is due before the inner one has not been forgotten.
                spin(perf_counter_ns() + 2_000_000 * MICROSECOND)
                self.broken("nested", "lost")


_STEPS = {"closing_in_steps", "stacked_in_steps", "swallowing"}
"""Kinds whose guards have several steps: those that follow must not come after the block."""

_ALL = tuple(name.removeprefix("race_") for name in vars(Lane) if name.startswith("race_"))
_UNPROMISED = {"stacked_in_steps"}
"""What an ExitStack holds lives as long as a traceback that has its `__exit__`; so a further step
may come while the first one's exception is held. Only where it is asked for."""
KINDS = tuple(kind for kind in _ALL if not kind.endswith("_by_signal") and kind not in _UNPROMISED)
SIGNAL_KINDS = tuple(kind for kind in _ALL if kind.endswith("_by_signal"))


def innermost(traceback: TracebackType) -> tuple[FrameType, int]:
    """The frame it was raised in, and the offset there."""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_frame, traceback.tb_lasti


def line_of(traceback: TracebackType) -> int:
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_lineno


def is_beginning(code: CodeType, offset: int) -> bool:
    """Whether a function has done nothing yet at that offset, or has just been resumed."""
    for instruction in dis.get_instructions(code):
        if instruction.offset == offset:
            return instruction.opname == "RESUME"
    return False


@contextmanager
def switching(findings: Findings) -> Iterator[None]:
    """Switch threads often, let SIGINT be a KeyboardInterrupt, and note what gets lost."""

    def note_unraisable(lost: Any) -> None:
        findings.broken.append(f"lost in {lost.object!r}: {lost.exc_value!r}")

    def note_thread(lost: threading.ExceptHookArgs) -> None:
        findings.broken.append(f"it ended {lost.thread!r}: {lost.exc_value!r}")

    before = sys.getswitchinterval()
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook, threading.excepthook = note_unraisable, note_thread
    sys.setswitchinterval(SWITCH)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        sys.unraisablehook, threading.excepthook = hooks
        signal.signal(signal.SIGINT, handler)


def run(
    count: int, seed: int, kinds: tuple[str, ...] = (), *, threads: int = 3, patient: bool = True
) -> Findings:
    """Run half of the races on this thread, the main one, and half in `threads` others.

    Args:
        kinds: of blocks; none for all.
        patient: whether it goes on when something is broken.
    """
    findings = Findings()
    seeds = random.Random(seed)
    for backend, lanes, share in (
        ("pool", 1, count // 2),
        ("thread", threads, count - count // 2),
    ):
        if not lanes or not share:
            continue
        with switching(findings), ComponentSystem(backend=backend) as system:  # type: ignore[arg-type]
            own = [Lane(seeds.randrange(1 << 32), system) for _ in range(lanes)]
            if backend == "pool":
                chosen = kinds or (KINDS + SIGNAL_KINDS if hasattr(os, "fork") else KINDS)
                own[0].run(share, chosen, patient=patient)
            else:
                chosen = tuple(kind for kind in kinds or KINDS if kind not in SIGNAL_KINDS)
                each = share // lanes
                running = [
                    threading.Thread(
                        target=lane.run,
                        args=(each, chosen),
                        kwargs={"patient": patient},
                        daemon=True,
                    )
                    for lane in own
                    if chosen
                ]
                for thread in running:
                    thread.start()
                give_up = time.monotonic() + PATIENCE + each / 10
                for thread in running:
                    thread.join(max(give_up - time.monotonic(), 0.0))
                    if thread.is_alive():
                        findings.broken.append(f"{thread!r} hangs")
        for lane in own:
            findings.add(lane.findings)
    return findings


def measure(count: int, seed: int) -> list[float]:
    """By how many seconds interrupts are late, where nothing else computes."""
    late = []
    timeouts = random.Random(seed)
    for _ in range(count):
        timeout = timeouts.uniform(0.5, 20.0)
        guard = time_guard(timeout_ms=timeout, interrupt_type=InterruptType.exception)
        due = 0
        try:
            with guard:
                due = perf_counter_ns() + int(timeout * 1e6)
                spin(due + 5_000_000 * MICROSECOND)
        except ExecutionTimeout:
            late.append((perf_counter_ns() - due) / 1e9)
        else:
            late.append(5.0)
    return late


_LINES = [line.partition("  #")[0].strip() for line in inspect.getsource(interrupt).split("\n")]
_OWN = next(line for line in _LINES if line.startswith("if file[:_OWN_SIZE] != _OWN or "))

MUTANTS = (
    Mutant(
        "whether the block still runs is not looked at",
        interrupts,
        "interrupt",
        "if watch.inside and (caller is None or watch.frame.f_back is caller):",
        "if True:",
        ("by_hand",),
    ),
    Mutant(
        "other threads may run between the look and the setting",
        interrupts,
        "interrupt",
        "strike(ident, what)",
        "__import__('time').sleep(0)\nstrike(ident, what)",
        ("computing", "closing"),
    ),
    Mutant(
        "the watch outlives its statement",
        Watch,
        "begin",
        "watchdog.living[id(self)] = proxy(self)",
        "watchdog.living[id(self)] = self",
        ("closing_in_steps",),
    ),
    Mutant(
        "kompyct's own code is interrupted",
        interrupts,
        "interrupt",
        _OWN,
        "if True:",
        ("entering", "telling", "progressing"),
    ),
    Mutant(
        "kompyct's own code is interrupted by signals",
        interrupts,
        "interrupt",
        _OWN,
        f"{_OWN[:-1]} or number is not None:",
        ("entering_by_signal", "telling_by_signal"),
    ),
    Mutant(
        "what is pending is replaced",
        interrupts,
        "interrupt",
        "if number is None and last is not None and last.may_come():",
        "if False:",
        ("nested",),
    ),
)


def caught(mutant: Mutant, count: int, seed: int) -> int | None:
    """After how many races, at most, a mutant was caught; None if it was not."""
    with mutant.planted():
        tried = 0
        while tried < count:
            findings = run(200, seed + tried, mutant.scenarios, patient=False)
            tried += 200
            if findings.broken:
                return tried
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.limits", description=__doc__)
    parser.add_argument("what", choices=["races"])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--measured", type=int, default=2_000, help="whose lateness is measured")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--kind", choices=_ALL, action="append", default=[])
    parser.add_argument("--mutants", action="store_true", help="plant bugs instead")
    parser.add_argument("--planted", help="plant this one only, by its words")
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}")
    if given.mutants or given.planted:
        missed = 0
        for mutant in MUTANTS:
            if given.planted not in (None, mutant.what):
                continue
            after = caught(mutant, given.count, given.seed)
            print(f"{mutant.what}: {'missed' if after is None else f'caught in {after} races'}")
            missed += after is None
        return 1 if missed else 0
    start = time.monotonic()
    findings = run(given.count, given.seed, tuple(given.kind))
    findings.overshoots = measure(min(given.measured, given.count), given.seed)
    for line in findings.broken[:20]:
        print(line)
    for kind, (races, interrupted) in sorted(findings.by_kind.items()):
        print(f"  {kind}: {races}, interrupted {interrupted}")
    print(f"{findings}; {time.monotonic() - start:.0f} s")
    return 1 if findings.broken else 0


if __name__ == "__main__":
    sys.exit(main())
