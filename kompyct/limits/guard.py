"""What is a guard, and how is its block entered and left?

A guard is what the user makes, and holds the settings; a run is what watches its block.
"""

from __future__ import annotations

import inspect
import sys
from _thread import get_ident
from collections.abc import Callable
from contextlib import ExitStack, _AsyncGeneratorContextManager, _GeneratorContextManager
from functools import partial, wraps
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Self, TypeVar
from weakref import ref

from kompyct.errors import ArgumentTypeError, LimitError
from kompyct.interrupts import Watch
from kompyct.limits.ladder import Ladder
from kompyct.waiting import here

P = ParamSpec("P")
R = TypeVar("R")

STEPS = 3
"""After so many, as the ancestor has it, a block that still runs is left alone."""


class Run(Watch):
    """One run of a guarded block. Its plan is the guard, which has one run at a time."""

    __slots__ = ("outer",)

    outer: ref[Run] | None
    """The time guard's run that this one is in, of the same thread."""


class _Leaving:
    """What `with` looks up to leave the block by, before it enters.

    What it gets holds the run, and nobody else does, see `kompyct.interrupts`: not even the frame
    of `_leave`, which a traceback may keep.
    """

    def __get__(self, guard: Guard | None, owner: type) -> Callable[..., None]:
        if guard is None:  # as `contextlib.ExitStack` looks it up, and keeps it
            leave: Any = partial(_leave_of)
            here.leaving = ref(leave)
            return leave  # type: ignore[no-any-return]
        run = guard._running() if guard._entered is not None else None
        if run is None:  # not entered by hand, either
            run = Run(guard)
            run.ident = get_ident()
            guard._made = ref(run)
        leave = partial(_leave, ref(run))
        leave.run = run
        return leave  # type: ignore[no-any-return]


def _leave(reference: ref[Run], *_: object) -> None:
    # No interrupt is set while a thread is here, and one that was is raised at the first check: so
    # none comes after that.
    run = reference()
    if run is not None and run.inside:  # or it was never entered
        run.end()
        run.plan._leave(run)  # type: ignore[attr-defined]


def _leave_of(guard: Guard, *_: object) -> None:
    if guard._entered is not None:
        _leave(guard._entered)


class Guard:
    """What both kinds of guards are: to be used in `with`, or as a decorator."""

    __slots__ = ("_by_hand", "_entered", "_ladder", "_made", "_step", "_whole")

    if TYPE_CHECKING:

        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
        ) -> None: ...

    else:
        __exit__ = _Leaving()

    def __init__(self, ladder: Ladder) -> None:
        self._ladder = ladder
        self._by_hand = False  # whether it was entered by hand
        self._step = 0  # of the ladder, that comes next
        self._whole: Guard = self  # what the user has made, where this serves one call only
        self._made: ref[Run] | None = None  # the run that was made last
        self._entered: ref[Run] | None = None  # the one that is in its block

    def __enter__(self) -> Self:
        frame: FrameType | None = sys._getframe(1)
        code = frame.f_code  # type: ignore[union-attr]
        if code.co_flags & _SUSPENDED or code is _ENTER_CONTEXT:
            frame = _suspended_by(frame)
        else:
            frame = None
        if self._entered is not None and self._running() is not None:
            raise LimitError("this guard is in use; make one for each block")
        if self._ladder.needs_main:
            self._ladder.check_thread()
        made = self._made
        run = made() if made is not None else None
        if run is None:
            run = Run(self)
            made = ref(run)
            leave: Any = here.leaving()
            if leave is None:
                here.by_hand[id(self)] = run  # not here: it is to end with the thread
                self._by_hand = True
            else:
                leave.run = run
            here.leaving = _nothing
        elif run.ident != get_ident():
            raise LimitError("another thread is entering this guard; make one for each block")
        run.frame = frame
        self._made = None
        self._entered = made
        self._step = 0
        self._enter(run)
        return self

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Have each call of `function` guarded by itself, in whatever thread.

        Raises:
            ArgumentTypeError: it is no function, or one whose calls end before it does.
        """
        if not callable(function):
            raise ArgumentTypeError(f"a guard is given {function!r}; decorate a function")
        called = getattr(type(function), "__call__", None)  # noqa: B004  # not whether: which
        for is_one, what in _ENDLESS:
            if is_one(function) or is_one(called):
                raise ArgumentTypeError(
                    f"{getattr(function, '__qualname__', function)} is {what}: a call of it "
                    "ends before it has run. Guard what it calls"
                )

        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            guard = self._again()
            guard._whole = self
            with guard:
                return function(*args, **kwargs)

        guarded._guard_self = self  # type: ignore[attr-defined]
        if hasattr(self, "progress"):
            guarded.progress = self.progress  # type: ignore[attr-defined]
        return guarded

    def look(self, watch: Watch, now: int) -> int:
        """See `Plan.look`."""
        raise NotImplementedError

    def _again(self) -> Self:
        """Another one of the same settings."""
        raise NotImplementedError

    def _enter(self, run: Run) -> None:
        """Begin `run`."""
        raise NotImplementedError

    def _running(self) -> Run | None:
        """The run that is in its block."""
        entered = self._entered
        run = entered() if entered is not None else None
        return run if run is not None and run.inside else None

    def _forget(self) -> None:
        self._entered = None
        self._by_hand = False
        here.by_hand.pop(id(self), None)

    def _leave(self, run: Run) -> None:
        """`run` has ended."""
        self._forget()
        if run.ident != get_ident():
            complain_of_thread()


def complain_of_thread() -> NoReturn:
    raise LimitError("this guard was entered in another thread; it has ended all the same")


def _suspended_by(frame: FrameType | None) -> FrameType | None:
    """The generator or coroutine whose block this is; None if it is a function's."""
    while frame is not None:
        if frame.f_code.co_flags & _SUSPENDED:
            below = frame.f_back
            if below is None or below.f_code not in _MANAGERS:
                return frame
            frame = below  # it is a manager, whose `yield` is the block of whoever uses it
        elif frame.f_code is not _ENTER_CONTEXT:
            return None
        frame = frame.f_back
    return None


_ENTER_CONTEXT = ExitStack.enter_context.__code__

_MANAGERS = (
    _GeneratorContextManager.__enter__.__code__,
    _AsyncGeneratorContextManager.__aenter__.__code__,
)
"""What runs the generators of `contextlib.contextmanager` and `asynccontextmanager`."""


def _nothing() -> None:
    """A weak reference to nothing."""


_SUSPENDED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

_ENDLESS: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (inspect.isgeneratorfunction, "a generator function"),
    (inspect.iscoroutinefunction, "an async function"),
    (inspect.isasyncgenfunction, "an async generator function"),
)
