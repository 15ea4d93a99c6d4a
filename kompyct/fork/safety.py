"""May this process be copied?

A copy has one thread, the one that made it. What other threads had locked at that moment, in
Python or in the C library, it finds locked for ever.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from kompyct.errors import ForkMissingError, ForkUnsafeError

_SETTLING = 0.5
"""Seconds that a thread which was joined may take to be gone from the system's list."""


def refuse_unsafe(*, force: bool) -> bool:
    """Refuse to copy this process if that is not safe; return whether it has other threads.

    Raises:
        ForkMissingError: the platform has no fork, or no way to hold signals back.
        ForkUnsafeError: this is not the main thread; or there are other threads or there is a
            running event loop, and `force` is not given.
    """
    if not (hasattr(os, "fork") and hasattr(signal, "sigtimedwait")):
        raise ForkMissingError(
            f"process snapshots need os.fork and signal.sigtimedwait, which {sys.platform} has "
            "not; use a component with backend='process', or Linux"
        )
    here = threading.current_thread()
    if here is not threading.main_thread():
        raise ForkUnsafeError(
            f"thread {here.name!r} cannot take a process snapshot, since signals go to the main "
            "thread; call it there"
        )
    others, names = _other_threads(patient=not force)
    if force:
        return others
    if names:
        raise ForkUnsafeError(
            f"the process has other threads: {', '.join(names)}; a copy would keep their locks "
            "for ever; end them first, or give force=True if you know that none holds a lock"
        )
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        raise ForkUnsafeError(
            "an event loop is running in this thread, and a copy would share its selector; take "
            "the snapshot outside, or give force=True and do not go back into the loop"
        )
    return others


def _other_threads(*, patient: bool) -> tuple[bool, list[str]]:
    """Whether there are threads but this one, Python's or not; and those that are in the way.

    Args:
        patient: whether to give threads that were joined time to be gone.
    """
    until = time.monotonic() + (_SETTLING if patient else 0.0)
    while True:
        others = [one for one in threading.enumerate() if one is not threading.current_thread()]
        known = {one.native_id for one in others} | {threading.get_native_id()}
        native = _native_threads(known)
        if not native or time.monotonic() >= until:
            in_the_way = [repr(one.name) for one in others if not _steps_aside(one)]
            return bool(others or native), in_the_way + native
        time.sleep(0.001)


def _native_threads(known: set[int | None]) -> list[str]:
    """The threads that libraries have started, where the system lists them."""
    found = []
    for entry in Path("/proc/self/task").glob("*"):
        if int(entry.name) not in known:
            try:
                name = (entry / "comm").read_text().strip()
            except OSError:  # it has just ended
                continue
            found.append(f"{name!r} (native, {entry.name})")
    return found


def _steps_aside(thread: threading.Thread) -> bool:
    """Whether it ends itself before a fork: IPython's writer of the history does."""
    return type(thread).__module__ == "IPython.core.history"
