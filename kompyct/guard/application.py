"""What happens in the guarded process before, and after, `launch` is called?"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import reduction
from multiprocessing.context import get_spawning_popen
from typing import Any

from kompyct.errors import GuardError
from kompyct.guard.dictionary import GuardedDict
from kompyct.guard.relaying import Handlers
from kompyct.guard.shared import SharedStore
from kompyct.processes.memory import Block
from kompyct.processes.parent import end_with_parent, watch_end_of_file

Launch = Callable[..., object]


class Descriptor:
    """A descriptor that is passed on to a process that `multiprocessing` starts."""

    def __init__(self, number: int) -> None:
        self.number = number

    def detach(self) -> int:
        """The number in this process, which is to close it."""
        return self.number

    def __reduce__(self) -> tuple[Any, ...]:
        if get_spawning_popen() is None:
            raise GuardError("a descriptor can be passed on only to a process that is started")
        return _Passed, (reduction.DupFd(self.number),)


class _Passed:
    """A descriptor that is on its way, in the process that it was passed to."""

    def __init__(self, passed: Any) -> None:
        self._passed = passed

    def detach(self) -> int:
        return int(self._passed.detach())


@dataclass(frozen=True, slots=True)
class Start:
    """What the application is started with.

    Attributes:
        block: the shared memory, if it was inherited.
        handle: what to attach to if it was not: a descriptor or a name.
        lifeline: the reading end of a pipe whose other end only the launcher holds.
        parent: the process to end with, if it is the one that makes this one; otherwise 0.
        inherited: descriptors of the launcher's, to be closed.
        handlers: what signals did before the launcher took them.
        mask: the signals that were held back before; None to leave it alone.
    """

    launch: Launch
    args: Any
    block: Block | None
    handle: Descriptor | str | None
    lifeline: Descriptor
    parent: int
    inherited: tuple[int, ...]
    handlers: Handlers
    mask: set[int] | None

    def portable(self, handle: int | str) -> Start:
        """The same for a process that inherits nothing.

        Raises:
            GuardError: launch or args cannot be pickled.
        """
        try:
            pickle.dumps((self.launch, self.args))
        except Exception as error:
            raise GuardError(
                "launch and args are sent to a new process, and cannot be pickled: "
                f"{type(error).__name__}: {error}; define launch at the top of a module, or call "
                'multiprocessing.set_start_method("fork") and start before any thread'
            ) from error
        return replace(
            self,
            block=None,
            handle=Descriptor(handle) if isinstance(handle, int) else handle,
            inherited=(),
            handlers=_picklable(self.handlers),
        )


def wrapped_launch(
    launch: Launch, managed_dict: MutableMapping[Any, bytes], signal_handlers: Handlers, args: Any
) -> None:
    """Install the handlers and call `launch`: with the dictionary, and with `args` if not None."""
    for number, handler in signal_handlers.items():
        signal.signal(number, handler)
    data = GuardedDict(managed_dict)
    try:
        if args is None:
            launch(data)
        else:
            launch(data, args)
    finally:
        data.check_changes()


def run(start: Start) -> None:
    """The whole life of the application, in its process."""
    if start.parent:
        end_with_parent(start.parent)
    for descriptor in start.inherited:
        with suppress(OSError):
            os.close(descriptor)
    watch_end_of_file(start.lifeline.detach())
    block = start.block
    if block is None:
        handle = start.handle
        assert handle is not None  # the one or the other
        block = Block.attach(handle if isinstance(handle, str) else handle.detach())
    store = SharedStore(block)
    handlers = dict(start.handlers)
    if start.mask is not None:
        # After the handlers are in place, or a signal meanwhile would meet those of the launcher.
        for number, handler in handlers.items():
            signal.signal(number, handler)
        handlers.clear()
        signal.pthread_sigmask(signal.SIG_SETMASK, start.mask)
    code = 1
    try:
        wrapped_launch(start.launch, store, handlers, start.args)
        code = 0
    except SystemExit as error:
        code = _code_of(error)
        raise
    finally:
        store.leave_code(code)


def _code_of(error: SystemExit) -> int:
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1


def _picklable(handlers: Handlers) -> Handlers:
    """Those that a new process can have as well: what it cannot, it would not have had either."""
    found = {}
    for number, handler in handlers.items():
        with suppress(Exception):
            pickle.dumps(handler)
            found[number] = handler
    return found
