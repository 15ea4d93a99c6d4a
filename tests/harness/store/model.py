"""Which states of the files may a power cut leave, and does the store open in every one?

The model of a file system: what of a file was synced stays; of what was written since, there is
nothing, a part or all, or zeros in its place. Names that were made, changed or removed since
their folder was synced may be there or not, each for itself, in order; a rename is whole. So it
allows more than any file system does in its usual mode.

Source: the contract of fsync in POSIX; that zeros may stand where data was to come is from ext4
and xfs.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import EIO
from itertools import combinations, product
from pathlib import Path
from typing import Any

from kompyct.errors import StoreError
from kompyct.store import directory, files, locks
from tests.harness.store.calls import CHANGES, Calls, put, standing_in
from tests.harness.store.figures import Figures
from tests.harness.store.mounts import in_memory
from tests.harness.store.planted import laid_over
from tests.harness.store.subjects import BrokenError, Handle, Subject, temporaries

STEPS = ("commit", "update", "keep", "reopen")
WORDS = 12  # of a value; small ones, since there are many
FOLDER = -1  # stands for the content of a folder
MAX_ALL = 6  # pending changes of names, of which all subsets are tried

Write = tuple[int, bytes]  # where, and what; a negative place: cut off there
State = frozenset[tuple[str, bytes | None]]  # what each name holds; None for a folder


class UnknownCallError(AssertionError):
    """The store makes a call that the model does not know; teach it."""


class KilledError(BaseException):
    """Stands for SIGKILL."""


@dataclass(frozen=True, slots=True)
class Op:
    """Something that changed, or may have changed, what a power cut would leave."""

    kind: str
    name: str = ""
    file: int = 0
    write: Write = (0, b"")
    source: str = ""


class Recorder(Calls):
    """Takes down what the store has the operating system do in the folder `root`.

    Syncing is taken down, and not done: nobody pulls the plug of this machine.

    Attributes:
        ops: what was done, in order.
        fail: how many calls of `fsync` succeed from now on before one fails; -1: none fails.
        kill: how many calls that change something are made before the process is as if killed:
            nothing happens any more, but that what was open is closed; -1: it is not killed.
    """

    def __init__(self, root: str, fail: int = -1, kill: int = -1) -> None:
        super().__init__()
        self.root = os.path.realpath(root)
        self.ops: list[Op] = []
        self.fail = fail
        self.failed = False
        self.kill = kill
        self._files: dict[str, int] = {}
        self._open: dict[int, tuple[int, str]] = {}
        self._random = 0
        self._last = 0
        for path, folders, names in os.walk(self.root):
            for name in folders:
                self._files[self._name(os.path.join(path, name))] = FOLDER
            for name in names:
                self._files[self._name(os.path.join(path, name))] = self._next()

    def urandom(self, size: int) -> bytes:
        """Not random: so that equal states are known to be equal."""
        self._random += 1
        return self._random.to_bytes(size, "big")

    def files(self) -> dict[str, int]:
        """The names there are, with the numbers of their files."""
        return dict(self._files)

    def call(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if name != "close" and self.kill == 0:
            raise KilledError
        taken = getattr(self, f"on_{name}", None)
        if name in CHANGES:
            self.kill -= 1
        if taken is None:
            if name in CHANGES and name not in ("fchmod", "fchown", "lseek"):
                raise UnknownCallError(name)
            return function(*args, **options)
        return taken(function, *args, **options)

    def on_open(self, function: Callable[..., Any], path: str, flags: int, *mode: Any) -> int:
        name = self._name(path)
        there = os.path.lexists(path)
        descriptor: int = function(path, flags, *mode)
        if not there:
            self._files[name] = self._next()
            self.ops.append(Op("name", name, self._files[name]))
        elif flags & os.O_TRUNC:
            self.ops.append(Op("write", file=self._files[name], write=(-1, b"")))
        file = self._files.get(name, FOLDER)  # the root is nowhere
        self._open[descriptor] = (file, name)
        return descriptor

    def on_close(self, function: Callable[..., Any], descriptor: int) -> None:
        self._open.pop(descriptor, None)
        function(descriptor)

    def on_write(self, function: Callable[..., Any], descriptor: int, data: Any) -> int:
        known = self._open.get(descriptor)
        end = os.fstat(descriptor).st_size
        written: int = function(descriptor, data)
        if known is not None:
            place = os.lseek(descriptor, 0, os.SEEK_CUR) - written
            assert place <= end
            self.ops.append(Op("write", file=known[0], write=(place, bytes(data[:written]))))
        return written

    def on_pwrite(
        self, function: Callable[..., Any], descriptor: int, data: Any, place: int
    ) -> int:
        written: int = function(descriptor, data, place)
        file, _ = self._open[descriptor]
        self.ops.append(Op("write", file=file, write=(place, bytes(data[:written]))))
        return written

    def on_ftruncate(self, function: Callable[..., Any], descriptor: int, size: int) -> None:
        function(descriptor, size)
        file, _ = self._open[descriptor]
        self.ops.append(Op("write", file=file, write=(-1 - size, b"")))

    def on_fsync(self, function: Callable[..., Any], descriptor: int) -> None:
        file, name = self._open[descriptor]
        if self.fail == 0:
            self.fail = -1
            self.failed = True
            if file != FOLDER:
                self.ops.append(Op("drop", file=file))
            raise OSError(EIO, os.strerror(EIO))
        self.fail -= 1
        if file == FOLDER:
            self.ops.append(Op("sync-folder", name))
        else:
            self.ops.append(Op("sync", file=file))

    on_fdatasync = on_fsync

    def on_replace(self, function: Callable[..., Any], source: str, target: str) -> None:
        function(source, target)
        old, new = self._name(source), self._name(target)
        if self._files.get(new) == self._files[old]:
            return  # two names of one file: rename does nothing
        self._files[new] = self._files.pop(old)
        self.ops.append(Op("name", new, self._files[new], source=old))

    on_rename = on_replace

    def on_link(self, function: Callable[..., Any], source: str, target: str) -> None:
        function(source, target)
        name = self._name(target)
        self._files[name] = self._files[self._name(source)]
        self.ops.append(Op("name", name, self._files[name]))

    def on_unlink(self, function: Callable[..., Any], path: str) -> None:
        function(path)
        name = self._name(path)
        del self._files[name]
        self.ops.append(Op("unlink", name))

    on_remove = on_unlink

    def on_mkdir(self, function: Callable[..., Any], path: str, *mode: Any) -> None:
        function(path, *mode)
        self._files[self._name(path)] = FOLDER
        self.ops.append(Op("name", self._name(path), FOLDER))

    def _name(self, path: str) -> str:
        folder, name = os.path.split(os.path.abspath(path))
        return os.path.relpath(os.path.join(os.path.realpath(folder), name), self.root)

    def _next(self) -> int:
        self._last += 1
        return self._last


@dataclass(slots=True)
class Disk:
    """What is on the disk for certain, and what may be."""

    names: dict[str, int] = field(default_factory=dict)
    pending: list[Op] = field(default_factory=list)
    files: dict[int, bytes] = field(default_factory=dict)
    writes: dict[int, list[Write]] = field(default_factory=dict)

    def take(self, op: Op) -> None:
        """Go on by one."""
        if op.kind in ("name", "unlink"):
            self.pending.append(op)
        elif op.kind == "write":
            self.writes.setdefault(op.file, []).append(op.write)
        elif op.kind == "sync":
            self.files[op.file] = _written(
                self.files.get(op.file, b""), self.writes.pop(op.file, [])
            )
        elif op.kind == "drop":
            self.writes.pop(op.file, None)
        elif op.kind == "sync-folder":
            folder = "" if op.name == "." else op.name
            done = [each for each in self.pending if os.path.dirname(each.name) == folder]
            self.pending = [each for each in self.pending if each not in done]
            _apply(self.names, done)

    def states(self) -> Iterator[State]:
        """Every state that a power cut may leave now."""
        for chosen in _subsets(self.pending):
            names = dict(self.names)
            _apply(names, chosen)
            names = {
                name: file
                for name, file in names.items()
                if not (folder := os.path.dirname(name)) or names.get(folder) == FOLDER
            }
            files = sorted({file for file in names.values() if file != FOLDER})
            for contents in product(*(self._contents(file) for file in files)):
                held = dict(zip(files, contents, strict=True))
                yield frozenset((name, held.get(file)) for name, file in names.items())

    def _contents(self, file: int) -> list[bytes]:
        synced = self.files.get(file, b"")
        writes = self.writes.get(file, [])
        found = [synced]
        for number, (place, data) in enumerate(writes):
            before = _written(synced, writes[:number])
            if place >= 0:
                found.append(_written(before, [(place, data[: len(data) // 2])]))
                found.append(_written(before, [(place, bytes(len(data)))]))
            found.append(_written(before, [(place, data)]))
        if len(writes) > 1:  # the last one came through, those before it did not
            zeros = [(place, bytes(len(data))) for place, data in writes[:-1]]
            found.append(_written(synced, [*zeros, writes[-1]]))
        return [*dict.fromkeys(found)]


def _written(content: bytes, writes: Sequence[Write]) -> bytes:
    for place, data in writes:
        if place < 0:
            content = content[: -1 - place].ljust(-1 - place, b"\0")
        else:
            content = content[:place].ljust(place, b"\0") + data + content[place + len(data) :]
    return content


def _apply(names: dict[str, int], ops: Sequence[Op]) -> None:
    for op in ops:
        if op.kind == "unlink":
            names.pop(op.name, None)
        else:
            names[op.name] = op.file
            if op.source:
                names.pop(op.source, None)


def _subsets(ops: Sequence[Op]) -> Iterator[Sequence[Op]]:
    if len(ops) <= MAX_ALL:
        for size in range(len(ops) + 1):
            yield from combinations(ops, size)
        return
    for size in range(len(ops) + 1):
        yield ops[:size]
    for left_out in range(len(ops)):
        yield [*ops[:left_out], *ops[left_out + 1 :]]


class _Clock:
    """Stands still, so that equal states are known to be equal."""

    def time(self) -> float:
        return 0.0


@contextmanager
def _steady(calls: Any) -> Iterator[None]:
    """`calls` stands in, and nothing that is written depends on chance or on the clock."""
    clock = put(directory, "time", _Clock())
    try:
        with standing_in(calls, files, directory):
            yield
    finally:
        put(directory, "time", clock)


class Explorer:
    """Tries programs on one subject, and opens whatever a power cut may leave of them.

    Attributes:
        figures: what was counted, and what is broken.
        found: what each state holds: a number, or what is wrong with it.
        bounds: from each state: the numbers that it must hold, widest.
    """

    def __init__(self, subject: Subject, planted: str | None, scratch: str) -> None:
        self.subject = subject
        self.planted = planted
        self.scratch = Path(scratch)
        self.figures = Figures(f"model {subject.name}")
        self.found: dict[State, int | str] = {}
        self.bounds: dict[State, tuple[int, int]] = {}
        self._crossed: set[tuple[State, tuple[Op, ...]]] = set()

    def run(
        self,
        steps: Sequence[str],
        start: State = frozenset(),
        fail: int = -1,
        kill: int = -1,
        bounds: tuple[int, int] = (0, 0),
    ) -> bool:
        """Try one program, from the files in `start` on.

        Args:
            steps: what it does after opening.
            fail: which `fsync` fails; -1: none.
            kill: at which call it is killed, whereupon another process opens and commits, all
                before the power cut; -1: it is not.
            bounds: what is acknowledged, and at most started, before.

        Returns: whether `fail` or `kill` came about.
        """
        folder = self._folder(start)
        recorder = Recorder(folder, fail, kill)
        disk = Disk()
        for name, file in recorder.files().items():
            disk.names[name] = file
            if file != FOLDER:
                disk.files[file] = Path(folder, name).read_bytes()
        where = ", ".join(steps)
        where += f" with fsync {fail + 1} failing" if fail >= 0 else ""
        where += f" killed after {kill} calls" if kill >= 0 else ""
        try:
            with _steady(laid_over(recorder, self.planted)):
                self._perform(steps, folder, recorder, bounds[1])
        except (StoreError, BrokenError) as error:
            self.figures.broken.append(f"{where}: cannot go on: {error!r}")
        self.figures.add("programs")
        acknowledged, started = bounds
        for number, op in enumerate(recorder.ops):
            if op.kind == "started":
                started = op.file
            elif op.kind == "done":
                acknowledged = op.file
            else:
                disk.take(op)
            moment = (start, tuple(recorder.ops[: number + 1]))
            if moment in self._crossed:
                continue
            self._crossed.add(moment)
            self.figures.add("moments")
            for state in disk.states():
                self._look(state, acknowledged, started, f"{where}: after {number + 1} ops")
        return recorder.failed

    def _perform(self, steps: Sequence[str], folder: str, recorder: Recorder, last: int) -> None:
        handle: Handle | None = None
        try:
            handle = self._opened(folder, recorder)
            for step in steps:
                if step == "reopen":
                    handle.close()
                    handle = self._opened(folder, recorder)
                else:
                    last += 1
                    self._commit(handle, step, last, recorder)
            handle.close()
        except KilledError:
            recorder.kill = -1
            recorder.failed = True
            for lock in [*locks._held]:
                lock.release()
            handle = self._opened(folder, recorder)
            self._commit(handle, "commit", last + 1, recorder)
            handle.close()

    def _opened(self, folder: str, recorder: Recorder) -> Handle:
        try:
            return self.subject.open(folder, WORDS)
        except StoreError as error:
            if not recorder.failed:
                raise AssertionError("nothing was to fail") from error
            return self.subject.open(folder, WORDS)  # what failed does so once

    def _commit(self, handle: Handle, step: str, number: int, recorder: Recorder) -> None:
        recorder.ops.append(Op("started", file=number))
        try:
            if step == "update":
                handle.update(number)
            else:
                handle.commit(number, keep=step == "keep")
        except StoreError as error:
            if not recorder.failed:
                raise AssertionError("nothing was to fail") from error
        else:
            recorder.ops.append(Op("done", file=number))

    def _look(self, state: State, at_least: int, at_most: int, where: str) -> None:
        if state not in self.found:
            self.found[state] = self._held(state)
        low, high = self.bounds.get(state, (at_least, at_most))
        self.bounds[state] = (min(low, at_least), max(high, at_most))
        held = self.found[state]
        if isinstance(held, str):
            self.figures.broken.append(f"{where}: {held} in {_told(state)}")
        elif not at_least <= held <= at_most:
            self.figures.broken.append(
                f"{where}: holds {held}, not {at_least} to {at_most}, in {_told(state)}"
            )

    def _held(self, state: State) -> int | str:
        folder = self._folder(state)
        self.figures.add("states")
        quiet = Recorder(folder)  # which does not sync
        try:
            with _steady(quiet):
                handle = self.subject.open(folder, WORDS)
                try:
                    left = temporaries(folder)
                    numbers = handle.read()
                finally:
                    handle.close()
        except (StoreError, BrokenError) as error:
            return f"{type(error).__name__}: {error}"
        return f"temporaries left: {left}" if left else numbers[0]

    def _folder(self, state: State) -> str:
        folder = self.scratch / "store"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(0o700)
        for name, content in sorted(state, key=lambda each: each[0]):
            path = folder / name
            if content is None:
                path.mkdir(0o700)
            else:
                path.write_bytes(content)
                path.chmod(0o600)
        return str(folder)


def explore(
    subject: Subject, *, planted: str | None = None, whole: bool = False, most_broken: int = 20
) -> Figures:
    """Try all sequences of three steps.

    Args:
        planted: a bug to plant.
        whole: have each `fsync` of every sequence fail as well, have the process killed at each
            call and another one go on, and have a second power cut hit whatever opens after the
            first.
        most_broken: enough is known after so many.
    """
    with tempfile.TemporaryDirectory(prefix="kompyct-harness-", dir=in_memory()) as scratch:
        explorer = Explorer(subject, planted, scratch)
        figures = explorer.figures
        failing = [("commit", "commit", "reopen"), ("commit", "keep", "update")]  # in all ways
        for steps in [*failing, *product(STEPS, repeat=3)]:
            explorer.run(steps)
            fail = 0
            while (whole or steps in failing) and explorer.run(steps, fail=fail):
                fail += 1
            kill = 1
            while (whole or steps in failing) and explorer.run(steps, kill=kill):
                kill += 1
            if len(figures.broken) >= most_broken:
                return figures
        if whole:
            for state, bounds in [*explorer.bounds.items()]:
                held = explorer.found[state]
                if isinstance(held, int):
                    figures.add("second cuts")
                    explorer.run(("commit",), state, bounds=(held, bounds[1]))
    return figures


def _told(state: State) -> str:
    return ", ".join(
        f"{name}: folder" if content is None else f"{name}: {len(content)} bytes"
        for name, content in sorted(state, key=lambda each: each[0])
    )
