"""How are programs that fork run, so that the tests themselves never do?"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
LIMIT = 20.0  # seconds within which any program must have ended, on a busy machine

_BEGINNING = """
import atexit, ctypes, gc, os, signal, subprocess, sys, tempfile, threading, time
from pathlib import Path
from kompyct.errors import *
from kompyct.fork import *
signal.alarm({alarm})

def rest():
    for _ in range(6000):  # a signal that comes just before a system call does not cut it short
        time.sleep(0.01)

def wait_for_zombie(pid):
    while Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.001)
"""

_LAUNCHER = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes the terminal that is its standard input its own, and becomes the program."""


def environment() -> dict[str, str]:
    """That of this process, with the checkout on the path and a terminal without wonders."""
    found = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb", "PYTHON_BASIC_REPL": "1"}
    found.pop("PYTHONUNBUFFERED", None)  # without a buffer nothing can be written twice
    return found


def program(body: str) -> list[str]:
    """The command that runs `body`, which has the names of `kompyct.fork` and dies of itself."""
    return [
        sys.executable,
        "-c",
        _BEGINNING.format(alarm=int(LIMIT)) + textwrap.dedent(body),
    ]


def run(body: str, *, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `body` to its end, in a session of its own, its output through pipes."""
    with subprocess.Popen(
        program(body),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            told, errors = process.communicate(timeout=LIMIT)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == exit_code, (process.returncode, told, errors)
    return subprocess.CompletedProcess(process.args, process.returncode, told, errors)


def lines(body: str) -> list[str]:
    """What `body` prints, line by line; it must end well and write no errors."""
    done = run(body)
    assert done.stderr == ""
    return done.stdout.splitlines()


class Conversation:
    """A program on a terminal of its own, where keys can be pressed."""

    def __init__(self, command: list[str], **variables: str) -> None:
        self._keyboard, screen = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER, *command],
            env={**environment(), **variables},
            stdin=screen,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
        )
        os.close(screen)
        fcntl.fcntl(self._keyboard, fcntl.F_SETFL, os.O_NONBLOCK)
        self.seen = ""

    def __enter__(self) -> Conversation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Whoever is left in its session loses its terminal, and its copies their original.
        self.process.kill()
        self.process.wait(LIMIT)
        os.close(self._keyboard)

    def press(self, keys: str) -> None:
        """Press keys, Ctrl+C being \\x03."""
        os.write(self._keyboard, keys.encode())

    def until(self, pattern: str) -> re.Match[str]:
        """Read on until `pattern` is seen, and forget everything up to its end."""
        ends = time.monotonic() + LIMIT
        while (found := re.search(pattern, self.seen)) is None:
            left = ends - time.monotonic()
            readable = left > 0 and select.select([self._keyboard], [], [], left)[0]
            try:
                told = os.read(self._keyboard, 65536) if readable else b""
            except OSError:  # nobody has the terminal open any more
                told = b""
            assert told, f"{pattern!r} did not come; there was {self.seen!r}"
            self.seen += told.decode(errors="replace")
        self.seen = self.seen[found.end() :]
        return found

    def ends(self) -> int:
        """Wait for the end of the program, and return with what it ended."""
        ends = time.monotonic() + LIMIT
        while self.process.poll() is None and time.monotonic() < ends:
            if select.select([self._keyboard], [], [], 0.01)[0]:
                try:  # so that it never waits for a full terminal
                    self.seen += os.read(self._keyboard, 65536).decode(errors="replace")
                except OSError:
                    continue
        return self.process.wait(1.0)
