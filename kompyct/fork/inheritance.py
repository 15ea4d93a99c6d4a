"""What of the original must a copy leave alone, and what ends it?

A copy has every object of the original, and so every file to delete, child to stop and buffer to
write that the original will see to itself. Therefore a copy forgets the atexit functions and the
finalizers it has inherited, and no inherited object is finalized by the collector, by the return
of the functions it was in, or by the end of the copy. What the copy itself makes is treated as in
any process.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import io
import os
import signal
import sys
import weakref
from types import FrameType
from typing import Any

_PR_SET_PDEATHSIG = 1

_VARIABLES: list[dict[str, Any]] = []
"""In a copy, what the variables of the functions it was taken in refer to; grows with nesting."""


def become_copy(original: int, frame: FrameType | None) -> None:
    """Turn this process, just forked from process `original`, into a copy of it.

    Args:
        frame: that of whoever takes the snapshot.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != original:  # it died before the line above
        os._exit(1)
    atexit._clear()
    _forget_finalizers()
    while frame is not None:
        _VARIABLES.append(dict(frame.f_locals))
        frame = frame.f_back
    # Off the collector's lists in one step, whatever their number. That also spares the copying of
    # their pages, which every collection would write to.
    gc.freeze()
    atexit.register(_keep_inherited)  # the first to be registered is the last to run


def _forget_finalizers() -> None:
    """Detach every `weakref.finalize`, such as that of a `TemporaryDirectory`.

    The registry is private, but has been the same since Python 3.4, and a test would tell.
    """
    registry: dict[weakref.finalize[..., object], object] = vars(weakref.finalize)["_registry"]
    for finalizer in list(registry):
        finalizer.detach()
    # The next one is to register the atexit function anew, which has just been forgotten.
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]


def _keep_inherited() -> None:
    """Keep the interpreter, which is about to end, from finalizing objects of the original.

    It clears the dictionaries of modules, and what dies then would delete its temporary files,
    write its buffers, and so on. The exit code is known to the interpreter only, so to end by
    `os._exit` here is not possible.
    """
    own = gc.get_objects()
    own_ids = {id(thing) for thing in own}
    for thing in own:
        # An inherited object may hold it, and what is kept alive is never flushed.
        if issubclass(type(thing), io.IOBase):
            with contextlib.suppress(OSError, ValueError):
                thing.flush()
    gc.unfreeze()
    kept = [thing for thing in gc.get_objects() if id(thing) not in own_ids]
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
