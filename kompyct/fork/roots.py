"""How is something kept for the original, so that copies do not do it too?"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, overload

from kompyct.errors import ArgumentTypeError
from kompyct.fork.copies import is_in_snapshot

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_LEFT_ALONE: list[object] = []
"""In a copy, the context managers it did not leave: a generator's `finally` runs when it dies."""


class RootOnly(Generic[T]):
    """A context manager that is left by the process that has entered it, and by no copy."""

    def __init__(self, inner: AbstractContextManager[T, bool | None]) -> None:
        self._inner = inner
        self._owner: int | None = None

    def __enter__(self) -> T:
        value = self._inner.__enter__()
        self._owner = os.getpid()
        return value

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        if os.getpid() != self._owner:
            _LEFT_ALONE.append(self._inner)
            return None
        return self._inner.__exit__(kind, error, trace)


@overload
def root_only(operation: AbstractContextManager[T, bool | None]) -> RootOnly[T]: ...
@overload
def root_only(operation: Callable[P, R]) -> Callable[P, R | None]: ...
def root_only(operation: Any) -> Any:
    """Keep an operation for the original.

    Args:
        operation: a function, which in a copy does nothing and returns None; or a context manager,
            such as a temporary file or a `subprocess.Popen`, which only the process that has
            entered it leaves.

    Raises:
        ArgumentTypeError: it is neither, or an `async def`.
    """
    if hasattr(type(operation), "__enter__") and hasattr(type(operation), "__exit__"):
        return RootOnly(operation)
    return not_in_snapshot(operation)


def not_in_snapshot(f: Callable[P, R]) -> Callable[P, R | None]:
    """The ancestor's name for `root_only` of a function: in a copy `f` does nothing.

    Raises:
        ArgumentTypeError: `f` is no function, or an `async def`.
    """
    if not callable(f) or iscoroutinefunction(f):
        raise ArgumentTypeError(f"{f!r} cannot be kept for the root; give a plain function")

    @wraps(f)
    def only_in_root(*args: P.args, **kwargs: P.kwargs) -> R | None:
        return None if is_in_snapshot() else f(*args, **kwargs)

    return only_in_root
