"""How does a harness get between the store and the operating system?

`kompyct.store.files` makes every call on durable files, by the name `os`: there a `Calls` stands
in. One can be laid over another, so that a planted bug is seen by what watches it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from kompyct.store import files, locks

CALLS = frozenset(
    {
        "open",
        "close",
        "read",
        "pread",
        "readv",
        "preadv",
        "write",
        "pwrite",
        "writev",
        "pwritev",
        "fsync",
        "fdatasync",
        "replace",
        "rename",
        "unlink",
        "remove",
        "link",
        "symlink",
        "mkdir",
        "rmdir",
        "truncate",
        "ftruncate",
        "fchmod",
        "chmod",
        "fchown",
        "chown",
        "stat",
        "lstat",
        "fstat",
        "listdir",
        "scandir",
        "lseek",
    }
)
"""The functions of `os` that are calls on the operating system."""

CHANGES = CALLS - frozenset(
    {"close", "read", "pread", "readv", "preadv", "stat", "lstat", "fstat", "listdir", "scandir"}
)


class Calls:
    """Stands in for `os`, and does what that does; subclasses do something else."""

    def __init__(self, below: Any = os) -> None:
        self.below = below

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.below, name)
        if name not in CALLS:
            return found
        return lambda *args, **options: self.call(name, found, *args, **options)

    def call(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Called instead of `function`, which is `os.name`."""
        return function(*args, **options)


def put(module: ModuleType, name: str, value: Any) -> Any:
    """Have `name` mean `value` in `module`; returns what it meant."""
    before = vars(module)[name]
    vars(module)[name] = value
    return before


@contextmanager
def standing_in(calls: Any, *modules: ModuleType) -> Iterator[None]:
    """Have `calls` stand in for `os` in `kompyct.store.files`, or in `modules`."""
    places = modules or (files,)
    before = [put(module, "os", calls) for module in places]
    try:
        yield
    finally:
        for module, old in zip(places, before, strict=True):
            put(module, "os", old)


EVERYWHERE = (files, locks)
"""The modules that make calls on files, those for locking only included."""


class Names(Calls):
    """Notes the names of the calls."""

    def __init__(self, below: Any = os) -> None:
        super().__init__(below)
        self.names: list[str] = []

    def call(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.names.append(name)
        return function(*args, **options)


class KillAt(Calls):
    """Ends this process by SIGKILL at the call `number` (from 1).

    `when` is "before", "after", or "middle": after half of what is to be written was.
    """

    def __init__(self, number: int, when: str, below: Any = os) -> None:
        super().__init__(below)
        self.left = number
        self.when = when

    def call(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.left -= 1
        if self.left:
            return function(*args, **options)
        try:
            if self.when == "middle" and name == "write":
                return function(args[0], bytes(args[1])[: len(args[1]) // 2])
            return function(*args, **options) if self.when == "after" else None
        finally:
            os.kill(os.getpid(), signal.SIGKILL)


class FailAt(Calls):
    """Has the call `number` (from 1) fail with `error`, once."""

    def __init__(self, number: int, error: int, below: Any = os) -> None:
        super().__init__(below)
        self.left = number
        self.error = error
        self.failed = ""

    def call(self, name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.left -= 1
        if self.left:
            return function(*args, **options)
        self.failed = name
        if name == "close":
            function(*args, **options)  # Linux closes, whatever it then says
        raise OSError(self.error, os.strerror(self.error))
