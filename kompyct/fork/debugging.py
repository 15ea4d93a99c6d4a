"""How does one debug in a copy, and come back to the same line?"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from types import FrameType
from typing import Any

from kompyct.errors import ArgumentError
from kompyct.fork.copies import ProcessSnapshot, process_snapshot


def set_trace(debugger: str | None = None, *, force: bool = False) -> ProcessSnapshot:
    """Take a process snapshot and stop in the debugger, in the copy and again in the original.

    Whatever happens while the copy is debugged, leaving the debugger leads back to this line.

    Args:
        debugger: the name of a module with a function `set_trace`. None takes ipdb if it is
            installed, else pdb.
        force: as in `process_snapshot`, which may raise the same errors.

    Raises:
        ArgumentError: there is no such module, or it has no `set_trace`.
    """
    caller = sys._getframe(1)
    module = _module(debugger)
    taken = process_snapshot(force=force)
    _stop(module, caller)
    return taken


def _module(name: str | None) -> Any:
    if name is None:
        try:
            return import_module("ipdb")
        except ImportError:
            return import_module("pdb")
    try:
        module = import_module(name)
    except (ImportError, ValueError) as error:
        raise ArgumentError(f"there is no debugger {name!r}; install it, or give 'pdb'") from error
    if not callable(getattr(module, "set_trace", None)):
        raise ArgumentError(f"module {name!r} is no debugger: it has no set_trace(); give 'pdb'")
    return module


def _stop(module: Any, caller: FrameType) -> None:
    """Stop in the frame of `caller`, or where the debugger cannot, on the way there."""
    if "frame" in inspect.signature(module.set_trace).parameters:
        module.set_trace(frame=caller)
    elif hasattr(module, "Pdb"):
        module.Pdb().set_trace(caller)
    else:
        module.set_trace()
