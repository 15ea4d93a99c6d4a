"""The same as `kill` and `failing`, done by strace to the real system calls.

It is attached to a child that waits, so that the calls of a starting Python are not counted.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from tests.harness.store.children import Outcome, Tell, start
from tests.harness.store.failing import stubborn
from tests.harness.store.figures import Figures, SkippedError
from tests.harness.store.kill import STEPS, check, program
from tests.harness.store.subjects import Subject

ERRORS = (errno.ENOSPC, errno.EIO, errno.EINTR, errno.EMFILE, errno.EROFS)
NAMES = frozenset(
    {
        "openat",
        "open",
        "read",
        "pread64",
        "write",
        "pwrite64",
        "writev",
        "fsync",
        "fdatasync",
        "rename",
        "renameat",
        "renameat2",
        "unlink",
        "unlinkat",
        "link",
        "linkat",
        "mkdir",
        "mkdirat",
        "ftruncate",
        "fchmod",
        "fchown",
        "flock",
        "getdents64",
        "close",
        "newfstatat",
        "fstat",
        "stat",
        "lstat",
    }
)
LIMIT = 20.0  # seconds until strace must be attached
_PR_SET_PTRACER = 0x59616D61


def sweep_kills(subject: Subject, *, steps: tuple[str, ...] = STEPS, stride: int = 1) -> Figures:
    """SIGKILL at every `stride`-th system call of the program of `kill`."""
    figures = Figures(f"strace-kill {subject.name}")
    with tempfile.TemporaryDirectory(prefix="kompyct-harness-") as scratch:
        folder = os.path.join(scratch, "store")
        for name, number in _calls(subject, folder, scratch, steps)[::stride]:
            outcome = _traced(
                lambda tell: program(subject, folder, tell, steps),
                f"inject={name}:signal=SIGKILL:when={number}",
                folder,
            )
            where = f"SIGKILL at {name} {number}"
            figures.add("kills" if outcome.killed else "whole runs")
            figures.expect(not outcome.trouble, f"{where}: {outcome.trouble}")
            bounds = (outcome.acknowledged, outcome.started)
            check(figures, subject, folder, bounds, where)
    return figures


def sweep_errors(
    subject: Subject,
    *,
    steps: tuple[str, ...] = STEPS,
    errors: tuple[int, ...] = ERRORS,
    stride: int = 1,
) -> Figures:
    """Every `stride`-th system call of the program of `failing` fails in each of these ways."""
    figures = Figures(f"strace-errors {subject.name}")
    with tempfile.TemporaryDirectory(prefix="kompyct-harness-") as scratch:
        folder = os.path.join(scratch, "store")
        places = _calls(subject, folder, scratch, steps)
        for error in errors:
            for name, number in places[::stride]:
                told = errno.errorcode[error]
                outcome = _traced(
                    lambda tell, error=error: stubborn(  # type: ignore[misc]
                        subject, folder, _stubborn(tell), steps, error
                    ),
                    f"inject={name}:error={told}:when={number}",
                    folder,
                )
                where = f"{told} at {name} {number}"
                figures.add("failing calls")
                figures.add("raised", sum("raised" in what for what in outcome.told))
                figures.expect(not outcome.trouble, f"{where}: {outcome.trouble}")
                bounds = (outcome.acknowledged, outcome.started)
                check(figures, subject, folder, bounds, where)
    return figures


def _calls(
    subject: Subject, folder: str, scratch: str, steps: tuple[str, ...]
) -> list[tuple[str, int]]:
    """The system calls of a whole run: names, and which of that name."""
    if shutil.which("strace") is None:
        raise SkippedError("strace is not installed")
    os.mkdir(folder, 0o700)
    program(subject, folder, lambda what: None, steps)  # so that everything is imported
    log = os.path.join(scratch, "log")
    _traced(lambda tell: program(subject, folder, tell, steps), "trace=all", folder, log)
    counter: Counter[str] = Counter()
    found = []
    with open(log) as lines:
        for line in lines:
            match = re.search(r"(?:^|\s)([a-z_0-9]+)\(", line)
            if match is not None and match[1] in NAMES:
                counter[match[1]] += 1
                found.append((match[1], counter[match[1]]))
    if not any(name == "fsync" for name, _ in found):
        raise SkippedError("strace saw no fsync")
    return found


def _traced(
    work: Callable[[Tell], None], expression: str, folder: str, log: str = os.devnull
) -> Outcome:
    """What became of a child that did `work` in the emptied `folder` under strace."""
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder, 0o700)
    gate, opener = os.pipe()
    hearing, ready = os.pipe()

    def waiting(tell: Tell) -> None:
        os.close(opener)
        os.close(hearing)
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
        os.write(ready, b"x")  # what it has to do before is not to be meddled with
        try:
            os.read(gate, 1)
        except OSError:  # being attached to has it begin anew, and so counts as a call
            os.read(gate, 1)
        work(tell)

    child = start(waiting)
    os.close(gate)
    os.close(ready)
    os.read(hearing, 1)
    os.close(hearing)
    options = ["-f", "-o", log, "-e", expression, "-p", str(child.pid)]
    if expression.startswith("inject="):
        name = expression.partition("=")[2].partition(":")[0]
        options = ["-e", f"trace={name}", *options]
    tracer = subprocess.Popen(
        ["strace", *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert tracer.stderr is not None
    line = tracer.stderr.readline()  # it tells when it is attached
    if "attached" not in line:
        child.kill()
        child.outcome()
        tracer.kill()
        tracer.communicate()
        os.close(opener)
        raise SkippedError(f"strace cannot be attached: {line.strip()}")
    os.write(opener, b"x")
    os.close(opener)
    outcome = child.outcome()
    with suppress(subprocess.TimeoutExpired):
        tracer.communicate(timeout=LIMIT)
    return outcome


def _stubborn(tell: Tell) -> Tell:
    """`tell`, tried once more if the call that fails is its own."""

    def told(what: object) -> None:
        try:
            tell(what)
        except OSError:
            tell(what)

    return told
