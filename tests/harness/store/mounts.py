"""How does a harness get a file system of its own, that nobody else sees and nothing outlives?

In a mount namespace of this process: whatever ends it, the mounts go with it. Needs root.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.harness.store.figures import SkippedError

_CLONE_NEWNS = 0x00020000


def in_memory() -> str | None:
    """A folder in memory; None, which is where temporaries are, if this machine has none.

    For what asks nothing of a disk: after a kill, or a call that failed, the files are what the
    kernel has, whether it is a disk's or not, and then a sync need not take its milliseconds.
    """
    folder = "/dev/shm"
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def own_mounts() -> None:
    """From now on, what this process mounts is for it and its children only.

    Raises:
        SkippedError: that cannot be done here.
    """
    if os.geteuid() != 0:
        raise SkippedError("mounting needs root")
    if shutil.which("mount") is None or shutil.which("umount") is None:
        raise SkippedError("there is no mount command")
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        raise SkippedError(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    run("mount", "--make-rprivate", "/")


def run(*command: str) -> None:
    """Run a command that mounts or makes file systems.

    Raises:
        SkippedError: it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise SkippedError(f"{' '.join(command[:3])}: {(done.stderr or done.stdout).strip()}")


@contextmanager
def mounted(*options: str, at: str) -> Iterator[str]:
    """A file system, mounted at the folder `at` while the block runs."""
    run("mount", *options, at)
    try:
        yield at
    finally:
        with suppress(SkippedError):
            run("umount", at)
