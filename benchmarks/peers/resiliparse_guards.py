"""How does Resiliparse do the same: limits of time and memory for a block of code?

It is optional, and so imported only when it is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from benchmarks.plan import PeerMissingError


def module() -> Any:
    """The peer's guards.

    Raises:
        PeerMissingError: it is not installed.
    """
    try:
        return import_module("resiliparse.process_guard")
    except ImportError as error:
        raise PeerMissingError("resiliparse") from error


def measured(
    size: int, what: Callable[..., Mapping[str, float]], **settings: object
) -> Mapping[str, float]:
    """What a function of `limiting` finds."""
    return what(module(), size, **settings)
