"""How is a program run so that its data outlives it?

Two processes (S-33): the launcher, which is the one that calls `start`, and the application, in
which `launch` runs. They share memory; the application writes, the launcher saves and rescues.
"""

from __future__ import annotations

import inspect
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from multiprocessing import process as current
from typing import Any

from kompyct.errors import ArgumentError, ArgumentTypeError, GuardError
from kompyct.guard import application
from kompyct.guard.application import Descriptor, Launch, Start
from kompyct.guard.dictionary import GuardedDict
from kompyct.guard.keeping import Keeper
from kompyct.guard.mirror import Mirror, SavedStore
from kompyct.guard.relaying import held_back, relayed
from kompyct.guard.watching import Watched
from kompyct.processes.memory import HAS_MEMFD
from kompyct.store.trust import Trust, check_trust

_PATIENCE = 0.5  # seconds that a signal to be sent on may be late at most

_log = logging.getLogger("kompyct.guard")


def start(
    launch: Launch,
    rescue: Callable[..., object],
    args: Any = None,
    autosave_interval: float | None = None,
    autosave_file: str | os.PathLike[str] | None = None,
    *,
    trust: Trust = "local",
    named_memory: bool = not HAS_MEMFD,
) -> int:
    """Run `launch(data)` in a process of its own; if that dies, call `rescue(data, exit_code)`.

    What `launch` puts into `data` is safe from its death the moment the assignment returns,
    whatever the death: an exception, a segmentation fault, `os._exit`, a kill for want of memory.
    `rescue` runs in this process, and is called for any exit code but 0; a signal n is -n.

    With an autosave, the data also survives the loss of both processes, up to one interval: see
    `recover`. The file is removed when the program has ended with 0, or `rescue` has returned.

    If this process dies, the application is ended within a second. The application comes by the
    start method of `multiprocessing`: the one that was set, else the platform's default; but by
    spawn where that is fork and this process has threads.

    Args:
        launch: called with the dictionary, and with `args` unless that is None.
        rescue: called with the dictionary, the exit code, and with `args` unless that is None.
        autosave_interval: seconds from one autosave to the next, > 0.
        autosave_file: where; there must be nothing yet. The one before is kept as `.tmp`.
        trust: "local", or a key that the autosave is signed with.
        named_memory: share named memory, even where the kernel has better.

    Returns: the exit code of the application.

    Raises:
        ArgumentError, ArgumentTypeError: wrong use; nothing was started.
        AutosaveError: the autosave is there already, or belongs to a living program.
        TrustError: somebody else can write where the autosave is to be.
        StoreError: the autosave cannot be written to begin with. What goes wrong with it later
            is logged, and tried again.
        GuardError: `launch` and `args` cannot be sent to a new process, or this *is* the new
            process: the call is not under `if __name__ == "__main__":`.
    """
    _check(launch, rescue, args, autosave_interval, autosave_file)
    check_trust(trust)
    _check_not_inheriting()
    method = _start_method()
    with ExitStack() as stack:
        mirror = Mirror(named=named_memory)
        stack.callback(mirror.close)
        keeper = None
        if autosave_file is not None and autosave_interval is not None:
            path = os.path.abspath(os.fspath(autosave_file))
            keeper = Keeper(path, autosave_interval, mirror.read, trust)
            keeper.claim()
            stack.callback(keeper.release)
        exit_code, told = _run(launch, args, method, mirror, keeper)
        if exit_code != 0:
            _log.error("%s; its data is rescued", told)
            if keeper is not None:
                keeper.save()  # should the rescue fail as well
            _, items = mirror.read()
            if mirror.damaged:
                _log.error("%d values had been overwritten by stray writes", mirror.damaged)
            data = GuardedDict(SavedStore(items))
            data.exit = told
            rescue(data, exit_code, *(() if args is None else (args,)))
        if keeper is not None:
            keeper.remove()
        return exit_code


def _run(
    launch: Launch, args: Any, method: str, mirror: Mirror, keeper: Keeper | None
) -> tuple[int, Any]:
    """Start the application and wait for its end, saving now and then."""
    context = multiprocessing.get_context(method)
    early: list[int] = []  # signals that came before there was anybody to send them on to
    watched: Watched | None = None

    def send(number: int) -> None:
        if watched is None:
            early.append(number)
        else:
            watched.send(number)

    forked = method == "fork"
    reader, writer = os.pipe()
    try:
        with relayed(send) as handlers:
            with held_back() if forked else nullcontext() as mask:
                begin = Start(
                    launch=launch,
                    args=args,
                    block=mirror.block,
                    handle=None,
                    lifeline=Descriptor(reader),
                    # The server of forkserver is the parent of what it makes.
                    parent=0 if method == "forkserver" else os.getpid(),
                    inherited=(writer,),
                    handlers=handlers,
                    mask=mask,
                )
                try:
                    if not forked:
                        begin = begin.portable(mirror.block.handle)
                    process = context.Process(target=application.run, args=(begin,))  # type: ignore[attr-defined]
                    process.start()
                except BaseException:
                    if keeper is not None:
                        keeper.remove()  # nothing was started: there is nothing in it
                    raise
                watched = Watched(process, own=method != "forkserver")
            try:
                for number in early:
                    watched.send(number)
                # Not for ever at once: a signal that comes just before the system call that waits
                # has its handler run after it only.
                while not watched.wait(min(_PATIENCE, keeper.due_in if keeper else _PATIENCE)):
                    if keeper is not None and not keeper.due_in:
                        keeper.save()
                return watched.result(mirror.exit_code)
            except BaseException:  # raised by some handler of the user's: the autosave stays
                watched.end()
                if keeper is not None:
                    keeper.save()
                raise
    finally:
        os.close(reader)
        os.close(writer)


def _check(launch: object, rescue: object, args: object, interval: object, file: object) -> None:
    given = () if args is None else (args,)
    for name, function, arguments in (
        ("launch", launch, (None, *given)),
        ("rescue", rescue, (None, 0, *given)),
    ):
        if not callable(function):
            raise ArgumentTypeError(f"{name} is {function!r}; give a function")
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # some of those written in C have none
            continue
        try:
            signature.bind(*arguments)
        except TypeError as error:
            raise ArgumentTypeError(
                f"{name} cannot be called with {len(arguments)} arguments ({error}); give args= "
                "if it takes them, and leave it out if it does not"
            ) from error
    if (interval is None) != (file is None):
        raise ArgumentTypeError("autosave_interval and autosave_file: give both, or neither")
    if interval is not None:
        if not isinstance(interval, int | float) or isinstance(interval, bool):
            raise ArgumentTypeError(f"autosave_interval is {interval!r}; give seconds")
        if not interval > 0:
            raise ArgumentError(f"autosave_interval is {interval!r}; give more than 0 seconds")


def _check_not_inheriting() -> None:
    """Refuse to start from a process that is being started: it would start another, and so on."""
    if getattr(current.current_process(), "_inheriting", False):
        raise GuardError(
            "guard.start was called while its new process was importing the program; put the call "
            'under `if __name__ == "__main__":`'
        )


def _start_method() -> str:
    """How the application is started."""
    # The default is asked for in a way that does not fix it.
    chosen = multiprocessing.get_start_method(allow_none=True)
    default = multiprocessing.get_all_start_methods()[0]
    if chosen is None and default == "fork" and threading.active_count() > 1:
        return "spawn"  # a forked child would keep the locks that other threads hold
    return chosen or default
