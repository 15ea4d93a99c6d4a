"""How is a process copied, and how does one go back to the original?

A process has one chain of snapshots, as it has one parent: `_TAKEN` lists those that this process
is in, and every copy inherits the list and adds itself. Only the innermost copy runs; the others,
down to the root, each wait for the next one.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from kompyct.errors import ArgumentError, ArgumentTypeError
from kompyct.fork.inheritance import become_copy
from kompyct.fork.originals import signals_held, wait_for
from kompyct.fork.output import flush_output
from kompyct.fork.safety import refuse_unsafe
from kompyct.fork.terminal import Terminal

_NUMBER_BYTES = 8


@dataclass(frozen=True, slots=True)
class ProcessSnapshot:
    """What `process_snapshot` returns: first in the copy, and later in the original.

    It is true in the copy and false in the original.

    Attributes:
        index: what `revert_to_snapshot` takes; 0 is the one that the root took.
        pid: the process number of the copy.
        in_copy: whether this is the copy; the rest is set in the original only.
        reverted: whether the copy, or one further in, called `revert_to_snapshot`.
        exit_code: with what the copy ended by itself; 0 if it reverted.
        signal: what killed it: a `signal.Signals`, or a number that has no name. Both this and
            `exit_code` are None if another thread of the original took the end of the copy away.
    """

    index: int
    pid: int
    in_copy: bool
    reverted: bool = False
    exit_code: int | None = None
    signal: signal.Signals | int | None = None

    def __bool__(self) -> bool:
        return self.in_copy

    def __str__(self) -> str:
        copy = f"process snapshot {self.index}: the copy (process {self.pid})"
        if self.in_copy:
            return f"{copy} is running"
        if self.reverted:
            return f"{copy} reverted"
        if self.signal is not None:
            return f"{copy} was killed by {getattr(self.signal, 'name', self.signal)}"
        if self.exit_code is None:
            return f"{copy} ended, and something else in the original learnt how"
        return f"{copy} ended with exit code {self.exit_code}"


@dataclass(frozen=True, slots=True)
class _Taken:
    """A snapshot that this process is in.

    `order` is memory shared with the original that waits: 0, or one more than the index to go
    back to. It is written just before the copy ends, and read after that.
    """

    pid: int
    context: traceback.StackSummary | tuple[str, ...]
    order: mmap.mmap


_TAKEN: list[_Taken] = []
"""The snapshots that this process is in, outermost first; empty in the root."""


def process_snapshot(
    context: str | Iterable[str] | None = None, *, force: bool = False
) -> ProcessSnapshot:
    """Go on in a copy of this process, and come back here when the copy has ended.

    To be called on the main thread. The copy ends when its program does, at `revert_to_snapshot`,
    or by whatever kills it. On Linux it is killed when the original dies.

    Args:
        context: what `format_snapshot_list` is to show: lines, outermost first. None takes the
            stack of the caller.
        force: copy although there are threads, which the copy will not have, or a running event
            loop. Whatever they have locked stays locked in the copy.

    Returns:
        Something true in the copy, and something false in the original.

    Raises:
        ForkUnsafeError: there are other threads or there is a running event loop, and `force` is
            not given; or this is not the main thread.
        ForkMissingError: the platform has no fork.
        OSError: there may be no more processes; nothing was copied.
    """
    caller = sys._getframe(1)
    taken_at = _context(context, caller)
    threaded = refuse_unsafe(force=force)
    flush_output()
    terminal = Terminal.remembered()
    index, original, order = len(_TAKEN), os.getpid(), mmap.mmap(-1, _NUMBER_BYTES)
    with signals_held() as mask:
        pid = _fork()
        if not pid:
            become_copy(original, caller)
            _TAKEN.append(_Taken(os.getpid(), taken_at, order))
            return ProcessSnapshot(index, os.getpid(), in_copy=True)
        status = wait_for(pid, mask, threaded=threaded)
        target = int.from_bytes(order, "little") - 1
        if 0 <= target < index:
            _leave_for(target)
        terminal.restore()
    code = None if status is None else os.waitstatus_to_exitcode(status)
    return ProcessSnapshot(
        index,
        pid,
        in_copy=False,
        reverted=target >= 0,
        exit_code=code if code is None or code >= 0 else None,
        signal=_named(-code) if code is not None and code < 0 else None,
    )


def revert_to_snapshot(index: int = -1) -> NoReturn:
    """End this copy, and those between, and go on where snapshot `index` was taken.

    Standard output and error are flushed; nothing else of the copy runs any more: no `finally`, no
    context manager, no atexit function.

    Args:
        index: as in `ProcessSnapshot.index`; negative ones count from the innermost.

    Raises:
        ArgumentError: there is no such snapshot, this process is in none, or it is a child that
            the copy has started.
        ArgumentTypeError: `index` is no integer.
    """
    if isinstance(index, bool) or not isinstance(index, int):
        raise ArgumentTypeError(f"index {index!r} is no integer; give the one of a snapshot")
    count = len(_TAKEN)
    if not count:
        raise ArgumentError(
            "this process is in no process snapshot, so there is none to revert to; "
            "take one with process_snapshot()"
        )
    if not -count <= index < count:
        raise ArgumentError(
            f"there is no process snapshot {index}; give 0 to {count - 1}, or -1 for the innermost"
        )
    if os.getpid() != _TAKEN[-1].pid:
        raise ArgumentError(
            f"process {os.getpid()} is no copy but a child of one; "
            f"revert to snapshot {index} in process {_TAKEN[-1].pid}"
        )
    flush_output()
    _leave_for(index % count)


def is_in_snapshot() -> bool:
    """Whether this process is a copy, or the child of one."""
    return bool(_TAKEN)


def format_snapshot_list(context_frames: int = 3) -> str:
    """The snapshots that this process is in, with where each was taken; empty in the root.

    Args:
        context_frames: how many lines of the context, or frames of the stack, the innermost ones,
            are shown of each; >= 1.

    Raises:
        ArgumentError: `context_frames` is less than 1.
    """
    if context_frames < 1:
        raise ArgumentError(f"context_frames={context_frames}; give 1 or more")
    parts = []
    for index, taken in enumerate(_TAKEN):
        parts.append(f"process snapshot {index}, copy {taken.pid}, taken at\n")
        if isinstance(taken.context, traceback.StackSummary):
            frames = taken.context[-context_frames:]
            parts.extend(traceback.StackSummary.from_list(frames).format())
        else:
            parts.extend(f"  {line}\n" for line in taken.context[-context_frames:])
    return "".join(parts)


def print_snapshot_list(context_frames: int = 3) -> None:
    """Write `format_snapshot_list` to standard output."""
    if sys.stdout is not None:
        sys.stdout.write(format_snapshot_list(context_frames))


def _fork() -> int:
    """Fork; Python 3.12 and newer warn of threads, which have been refused or accepted before."""
    with warnings.catch_warnings():
        # As an error it would be raised when the copy is already running.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _leave_for(target: int) -> NoReturn:
    """End this copy, so that the original of snapshot `target` goes on, at once or in the end."""
    _TAKEN[-1].order[:_NUMBER_BYTES] = (target + 1).to_bytes(_NUMBER_BYTES, "little")
    os._exit(0)


def _context(
    given: str | Iterable[str] | None, frame: FrameType | None
) -> traceback.StackSummary | tuple[str, ...]:
    """What is to be shown of a snapshot, its lines one by one."""
    if given is None:
        while frame is not None and frame.f_globals.get("__package__") == __package__:
            frame = frame.f_back  # taken by `set_trace`, for its caller
        # The lines of the source are looked up when they are shown: most never are.
        stack = traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False)
        stack.reverse()
        return stack
    lines = (given,) if isinstance(given, str) else tuple(given)
    for line in lines:
        if not isinstance(line, str):
            raise ArgumentTypeError(f"context holds {line!r}; give a text, or lines of text")
    return tuple(line.rstrip("\n") for text in lines for line in text.splitlines())


def _named(number: int) -> signal.Signals | int:
    try:
        return signal.Signals(number)
    except ValueError:  # most of the real-time signals
        return number
