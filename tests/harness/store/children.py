"""How is work done in a process of its own, that may be killed, and that starts in a moment?

By forking, so the program that calls this must have one thread only.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Tell = Callable[[Any], None]
LIMIT = 60  # seconds after which a child ends by SIGALRM


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child ended, and what it told."""

    status: int
    told: list[Any]

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    @property
    def trouble(self) -> str:
        """What it ended by, unless it came to its end or was killed."""
        if self.status == 0 or self.killed:
            return ""
        errors = [
            what["error"] for what in self.told if isinstance(what, dict) and "error" in what
        ]
        return "".join(errors) or f"ended with status {self.status}"

    @property
    def acknowledged(self) -> int:
        """The highest number it told to be committed."""
        return max((what["done"] for what in self.told if "done" in what), default=0)

    @property
    def started(self) -> int:
        """The highest number it told to be about to commit."""
        return max((what["start"] for what in self.told if "start" in what), default=0)


@dataclass(frozen=True, slots=True)
class Child:
    """A child that runs."""

    pid: int
    reader: int

    def so_far(self) -> bytes:
        """What it has told by now and was not read yet; waits for nothing."""
        os.set_blocking(self.reader, False)
        found = b""
        try:
            while part := os.read(self.reader, 1 << 16):
                found += part
        except BlockingIOError:
            pass
        os.set_blocking(self.reader, True)
        return found

    def outcome(self, before: bytes = b"") -> Outcome:
        """Wait for its end; `before` was read already."""
        with open(self.reader, "rb") as pipe:
            lines = (before + pipe.read()).split(b"\n")
        _, status = os.waitpid(self.pid, 0)
        return Outcome(status, [json.loads(line) for line in lines if line])

    def kill(self) -> None:
        """Have it end by SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)


def start(work: Callable[[Tell], None], limit: int = LIMIT) -> Child:
    """A child that does `work`, which gets a function to tell us things by."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return Child(pid, reader)

    def tell(what: Any) -> None:
        os.write(writer, json.dumps(what).encode() + b"\n")

    code = 70
    try:
        signal.alarm(limit)
        os.close(reader)
        work(tell)
        code = 0
    except BaseException:
        tell({"error": traceback.format_exc()[-2000:]})
    finally:
        os._exit(code)


def in_child(work: Callable[[Tell], None], limit: int = LIMIT) -> Outcome:
    """Do `work` in a child, and wait for its end."""
    return start(work, limit).outcome()
