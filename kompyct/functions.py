"""How is a recovery function stored, and found again at the next start?

By the name of its module and its own where that leads to it, so that a program may change the
function between two starts; else by cloudpickle, which takes closures along.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from kompyct.codecs import by_cloudpickle, decode
from kompyct.errors import RecoveryImportError, SnapshotError, VersionError


def store_function(function: Callable[..., Any]) -> str | bytes:
    """`module:qualname` if `function` can be imported by it, else what cloudpickle makes of it.

    Raises:
        SnapshotError: it can be neither.
    """
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if isinstance(module, str) and isinstance(name, str):
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is function:
            return f"{module}:{name}"
    try:
        return by_cloudpickle(function)
    except SnapshotError as error:
        raise SnapshotError(
            f"the recovery function {function!r} can be neither imported nor pickled, so it "
            "cannot be stored; make it a function of a module, or create the component without "
            "a name"
        ) from error


def find_function(stored: str | bytes, path: str) -> Callable[..., Any]:
    """The recovery function of the component at `path`.

    Raises:
        RecoveryImportError: it is not where it was, or cannot be built again.
        VersionError: it was pickled under another Python.
    """
    try:
        function = _imported(stored) if isinstance(stored, str) else decode(stored)
        if callable(function):
            return function  # type: ignore[no-any-return]
        cause: Exception | None = None
    except VersionError:
        raise
    except (Exception, SystemExit) as error:  # an imported module may raise anything
        cause = error if isinstance(error, Exception) else None
    name = stored if isinstance(stored, str) else "pickled by value"
    raise RecoveryImportError(
        f"the recovery function of component {path!r}, {name}, cannot be found "
        f"({type(cause).__name__ if cause else 'it is no function'}); put it back where it was, "
        "or create the component with fresh=True. Its snapshot stays in the store"
    ) from cause


def _imported(name: str) -> Any:
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module) or importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found
