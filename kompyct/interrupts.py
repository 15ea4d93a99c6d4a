"""How is a thread stopped that has been at something for too long, and never too late?

One thread of the process, the watchdog, sleeps until the next watch is due, then lets its plan
decide. To interrupt is to have CPython raise an exception in another thread, which happens at
the next check it makes between two instructions; native code and system calls are not interrupted.

Why an interrupt never comes after its block. All of this is about CPython with its global lock:
the watchdog runs only while the other thread stands at such a check, or in native code.

- Whether the block still runs is looked at and the exception set without a call in between, and
  so without a moment in which another thread could run, see `interrupt`. The first check after
  that raises it.
- Nothing is set while the other thread stands in a function of kompyct, in a helper of the
  standard library that such a function has called (see `_helpers`), or in `logging`: no lock, no
  mailbox and no file is left halfway. Where a check falls at the very beginning of a function,
  nothing has been done yet.
- A block may be left without its `__exit__` having done anything: if the exception is raised
  where that begins. So what the `with` statement keeps to leave by holds the watch, and nobody
  else does: when the block is left, however that happens, the watch is gone, and so is its
  interrupt.
- Nothing is set while an earlier interrupt of the thread has not been raised yet, so none replaces
  another one.

The state of this module is the one that rule S-37 of `docs/semantics.md` allows.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import logging
import os
import signal
import sys
import threading
import traceback
import weakref
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable, Sequence
from concurrent.futures import _base as futures
from functools import partial
from operator import methodcaller
from time import monotonic_ns
from types import CodeType, FrameType
from typing import Any, Protocol
from weakref import proxy

from kompyct.errors import LimitInterrupt

_logger = logging.getLogger("kompyct")

NEVER = 1 << 62
"""A time in nanoseconds at which nothing is due."""

AGAIN = 2_000_000
"""Nanoseconds until the next try, where an interrupt has to wait."""

MARGIN = 0.0003
"""Seconds; see `_Watchdog._run`."""

UNSEEN = 100_000_000
"""Nanoseconds after which an interrupt that was set, and never seen, is taken for lost: code
written in C may have thrown it away."""


class Plan(Protocol):
    """What is to be done about a watch that is due."""

    def look(self, watch: Watch, now: int) -> int:
        """Do what is due at `now`, on the watchdog's thread, and never wait.

        Args:
            watch: a weak proxy; it raises ReferenceError once the block has been left.

        Returns: when it is due next, or `NEVER`.
        """
        ...


class Watch:
    """One run of a block of code, by the thread that began it, which alone calls the methods.

    Attributes:
        inside: whether the block is running.
        ident: of the thread.
        due: nanoseconds on the monotonic clock.
        frame: of a generator or a coroutine, if the block is in one: what it suspends is not
            interrupted.
    """

    __slots__ = ("__weakref__", "due", "frame", "ident", "inside", "plan")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.inside = False
        self.ident = 0
        self.due = NEVER
        self.frame: FrameType | None = None

    def begin(self, due: int) -> None:
        """The block begins."""
        if not self.ident:
            self.ident = get_ident()
        self.due = due
        self.inside = True
        watchdog = _watchdog
        watchdog.living[id(self)] = proxy(self)
        if due < watchdog.target:
            watchdog.hurry(due)

    def end(self) -> None:
        """The block has ended; from here on it is not interrupted."""
        self.inside = False  # before anything else
        _watchdog.living.pop(id(self), None)

    def postpone(self, due: int) -> None:
        """Be due at another time."""
        self.due = due
        if due < _watchdog.target:
            _watchdog.hurry(due)


class Firing:
    """One interrupt that was set in a thread.

    Attributes:
        base: what is raised.
        text: what the exception says.
        source: what interrupts: a guard, or a component's limit.
        limit: which was exceeded, in seconds or bytes.
        stack: where the thread was.
        is_raised: whether the exception is there, as far as is known.
    """

    __slots__ = (
        "_place", "_set_at", "base", "ident", "is_raised", "limit", "source", "stack", "text",
        "watch",
    )  # fmt: skip

    def __init__(
        self, ident: int, base: type[LimitInterrupt], text: str, source: object, limit: float
    ) -> None:
        self.base = base
        self.ident = ident  # of the thread
        self.text = text
        self.source = source
        self.limit = limit
        self.stack = stack_of(ident)
        self.is_raised = False
        self.watch: Watch | None = None  # a proxy of what is interrupted
        self._set_at = monotonic_ns()
        self._place = _place_of(ident)

    def may_come(self) -> bool:
        """Whether it may still be raised: as long as its thread has not moved, for one."""
        if self.is_raised:
            return False
        return monotonic_ns() - self._set_at < UNSEEN or self._place == _place_of(self.ident)

    def is_inside(self) -> bool:
        """Whether the block that it interrupts has not been left yet."""
        try:
            return self.watch is not None and self.watch.inside
        except ReferenceError:
            return False

    def raised(self) -> None:
        """It is there; in the thread in which it was raised."""
        self.is_raised = True
        if _pending.get(self.ident) is self:
            del _pending[self.ident]

    def exception(self) -> type[LimitInterrupt]:
        """The class to be raised: CPython makes an object of it, in the thread it is raised in.

        That is one of `self.base`, and takes what it has to say from here.
        """
        base = self.base
        return type(base.__name__, (base,), {"__module__": base.__module__, "firing": self})


def _file_of(function: Any) -> str:
    return str(function.__code__.co_filename)


_OWN = _file_of(Watch.begin).removesuffix("interrupts.py")
_OWN_SIZE = len(_OWN)
"""How the file names of kompyct's functions begin."""


_helpers = frozenset(
    map(
        _file_of,
        (
            contextlib.suppress.__init__,
            functools.partialmethod.__init__,
            futures.Future.result,
            threading.Thread.start,
            weakref.WeakValueDictionary.__init__,
        ),
    )
)
"""Files of functions that kompyct calls with something of its own half done."""

_LOGGING = _file_of(logging.Handler.handle)
"""It takes its locks by hand, and an interrupt could leave one locked for good."""


class _Threads:
    """Where all threads stand. It is an attribute: after a call another thread could run."""

    now = staticmethod(sys._current_frames)
    frames: Any = property(methodcaller("now"))


_threads = _Threads()
_open = frozenset(("poll_for", "result_of", "wait_for", "wait_for_disk"))
"""Functions of kompyct that wait, and may be interrupted where they do."""
_pending: dict[int, Firing] = {}  # by thread: the last one that was set

_set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_exception.argtypes = (ctypes.c_ulong, ctypes.py_object)
_set_exception.restype = ctypes.c_int


def interrupt(watch: Watch, firing: Firing, number: signal.Signals | None = None) -> bool:
    """Raise what `firing` says in the thread of `watch`, a proxy; for the watchdog.

    Args:
        number: of a signal, which is sent to the thread instead; it must be the main one.

    Returns: whether that was done; if not, it may be tried again.

    Raises:
        ReferenceError: the block has been left.
    """
    ident = watch.ident
    last = _pending.get(ident)
    if number is None and last is not None and last.may_come():
        return False
    firing.watch = watch
    caller = None
    if watch.frame is not None:
        caller = _caller_of(watch.frame, ident)
        if caller is None:
            return False
    strike: Callable[[int, Any], object] = _set_exception
    what: Any = number
    if number is None:
        what = firing.exception()
    else:
        strike = signal.pthread_kill
    collects = _collect_no_more()
    try:
        # From here to the strike there is no call, and so no loop either, see above.
        if watch.inside and (caller is None or watch.frame.f_back is caller):  # type: ignore[union-attr]
            frame = _threads.frames[ident]
            file = frame.f_code.co_filename
            if file == _LOGGING:
                return False
            if file in _helpers:
                frame = frame.f_back
                file = frame.f_code.co_filename
            if file in _helpers:
                frame = frame.f_back
                file = frame.f_code.co_filename
            if file in _helpers:
                frame = frame.f_back
                file = frame.f_code.co_filename
            if file[:_OWN_SIZE] != _OWN or frame.f_code.co_name in _open:
                if number is None:
                    _pending[ident] = firing
                strike(ident, what)
                if number is not None:
                    firing.is_raised = True  # as far as is known here
                return True
    except (KeyError, AttributeError):  # the thread has ended, or has only just begun
        pass
    finally:
        _collect_again(collects)
    return False


def _place_of(ident: int) -> tuple[int, int]:
    frame: FrameType | None = _threads.frames.get(ident)
    return (0, 0) if frame is None else (id(frame), frame.f_lasti)


def _collect_no_more() -> bool:
    """Keep the garbage collector from running finalizers; returns what `_collect_again` is given.

    Until 3.12 it may do so at any allocation, and a finalizer lets other threads run.
    """
    if sys.version_info >= (3, 12):
        return False
    _collecting.acquire()
    collects = gc.isenabled()
    gc.disable()
    return collects


def _collect_again(collects: bool) -> None:
    if sys.version_info < (3, 12):
        if collects:
            gc.enable()
        _collecting.release()


_collecting = threading.RLock()  # held while it is off: also by a fork, whose child has it on then


def _caller_of(frame: FrameType, ident: int) -> FrameType | None:
    """What has called the generator `frame` in the thread `ident`; None if it is suspended, or
    runs in another thread."""
    found: FrameType | None = _threads.frames.get(ident)
    while found is not None and found is not frame:
        found = found.f_back
    return None if found is None else frame.f_back


def say(warning: str, *details: object) -> None:
    """Log a warning of the watchdog's, which must not wait for a log that does not take it."""
    with contextlib.suppress(RuntimeError):  # there is no thread for it
        start_new_thread(partial(_logger.warning, warning, *details), ())


class Stack:
    """Where a thread stood. To take it is quick; the text is made when it is asked for.

    Args:
        calls: functions and lines, the outermost first.
    """

    __slots__ = ("_calls",)

    def __init__(self, calls: Sequence[tuple[CodeType, int]]) -> None:
        self._calls = calls

    def of_handler(self) -> Stack:
        """Without the calls by which kompyct has got to a user's handler."""
        own = [code.co_filename.startswith(_OWN) for code, _ in self._calls]
        start = own.index(True) if True in own else 0
        while start < len(own) and own[start]:
            start += 1
        return Stack(self._calls[start:])

    @property
    def location(self) -> str:
        """The innermost line that is not kompyct's, as `file:line in function`."""
        calls = [call for call in self._calls if not call[0].co_filename.startswith(_OWN)]
        if not calls:
            return "unknown place"
        code, line = calls[-1]
        return f"{code.co_filename}:{line} in {code.co_name}"

    def __str__(self) -> str:
        calls = [
            traceback.FrameSummary(code.co_filename, line, code.co_name, lookup_line=False)
            for code, line in self._calls
        ]
        return "".join(traceback.StackSummary.from_list(calls).format())


def stack_of(ident: int) -> Stack:
    """Where the thread `ident` is; an empty one if it has ended."""
    calls = []
    collects = (
        _collect_no_more()
    )  # CPython 3.11 makes frames here, which must not change meanwhile
    try:
        frame: FrameType | None = _threads.frames.get(ident)
        while frame is not None:
            calls.append((frame.f_code, frame.f_lineno))
            frame = frame.f_back
    finally:
        _collect_again(collects)
    calls.reverse()
    return Stack(calls)


def plans_of(ident: int | None) -> list[Plan]:
    """The plans of all that runs in the thread `ident`, or in any, in the order of beginning."""
    plans = []
    for watch in _watchdog.living.copy().values():
        with contextlib.suppress(ReferenceError):  # it has ended
            if ident in (None, watch.ident):
                plans.append(watch.plan)
    return plans


class _Watchdog:
    """The thread that looks at watches when they are due.

    `target` is when it will look. Whoever begins a watch enters it into `living` first, and then
    looks at `target`; the watchdog sets `target` to never first, and then looks at `living`. So
    none is missed. A watch that ends leaves `target` as it is: at worst the watchdog wakes once
    for nothing.
    """

    def __init__(self) -> None:
        self.living: dict[int, Watch] = {}  # proxies, by the number of the object
        self.target = NEVER
        # Protects lowering `target`, and the start of the thread. A signal handler may come here
        # while its thread already is.
        self._mutex = threading.RLock()
        self._bell = allocate_lock()
        self._bell.acquire()
        self._ident = 0  # of the thread

    def hurry(self, due: int) -> None:
        """Look at `due` already; from any thread.

        Raises:
            RuntimeError: the operating system gives no thread.
        """
        with self._mutex:
            if due >= self.target:
                return
            if not self._ident:
                start_new_thread(self._run, ())  # without a frame that could be interrupted
            self.target = due
            try:  # noqa: SIM105  # at once: Ctrl+C comes after calls only
                self._bell.release()
            except RuntimeError:  # it has been rung already
                pass

    def _run(self) -> None:
        with self._mutex:
            if self._ident:  # there is one: whoever wanted to start it did so twice
                return
            self._ident = get_ident()
        threading.current_thread().name = "kompyct-watchdog"
        while True:
            left = self.target - monotonic_ns()
            if left <= 0:
                try:
                    self._look()
                except BaseException as error:  # no memory, for one: the next look may do
                    self.target = monotonic_ns() + AGAIN
                    say("limits could not be looked at; they will be: %r", error)
                continue
            seconds = left / 1e9
            # A thread that computes gives way after this time: so it is asked for that much
            # before. If none does, there is time for a second wait.
            early = seconds - max(sys.getswitchinterval() - MARGIN, 0.0)
            # Never for longer than a lock can wait; then it just looks again.
            wait = min(early if early > 0 else seconds, threading.TIMEOUT_MAX / 2)
            self._bell.acquire(True, wait)

    def _look(self) -> None:
        self.target = NEVER
        now = monotonic_ns()
        target = NEVER
        for number, watch in self.living.copy().items():
            try:
                due = watch.due
                if due <= now:
                    # Not with the plan's lock, if it has one: it is as short as this.
                    due = self._due_after(watch, now)
                    if watch.due <= now:  # the block has not postponed it meanwhile
                        watch.due = due
                target = min(target, watch.due)
            except ReferenceError:
                # Its number may be another one's meanwhile.
                if self.living.get(number) is watch:
                    self.living.pop(number, None)
        with self._mutex:
            self.target = min(self.target, target)

    def _due_after(self, watch: Watch, now: int) -> int:
        try:
            return watch.plan.look(watch, now)
        except ReferenceError:
            raise
        except BaseException as error:
            say("a limit could not be enforced; the others are: %r", error)
            return NEVER

    def restart(self) -> None:
        """After a fork there is no thread, and a lock may be held by one that is gone."""
        _collecting.release()
        self._mutex = threading.RLock()
        self._bell = allocate_lock()
        self._bell.acquire()
        self._ident = 0
        self.target = NEVER
        _pending.clear()
        mine = get_ident()
        for number, watch in tuple(self.living.items()):
            try:
                if watch.ident != mine:
                    del self.living[number]
                elif watch.due < self.target:
                    self.hurry(watch.due)
            except ReferenceError:
                del self.living[number]


_watchdog = _Watchdog()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_collecting.acquire,
        after_in_parent=_collecting.release,
        after_in_child=_watchdog.restart,
    )
