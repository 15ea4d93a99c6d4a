"""Which component does this thread run, and whom does that one wait for?

The one thread-local of the project is here (`docs/decisions/0002`): a blocking ask must know
whether it was made inside a component, to keep a pool going and to find circles.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from concurrent.futures import Future
from typing import Any, Final, Protocol, TypeVar

from kompyct.errors import AskCircleError
from kompyct.messages import Ask, Envelope

R = TypeVar("R")


def wait_for(done: Any, timeout: float) -> bool:
    """Wait until the lock `done` is released; whether it was, within `timeout` seconds, -1: ever.

    This function and the next two may be interrupted where they stand, see `interrupts`.
    """
    return bool(done.acquire(True, timeout))


def result_of(future: Future[R], timeout: float | None) -> R:
    """The result of `future`; raises what that does."""
    return future.result(timeout)


def poll_for(poll: Any, milliseconds: float | None) -> Any:
    """What there is on the descriptors that `poll` knows."""
    return poll.poll(milliseconds)


class Runner(Protocol):
    """A thread, or a test's loop, that runs the turns of components."""

    @property
    def cell(self) -> Any:
        """What is being run; None between turns."""

    def wait(self, target: Any, envelope: Ask, timeout: float) -> bool:
        """Wait until `envelope`, which was sent to the cell `target`, is settled.

        Args:
            timeout: seconds; -1 waits for ever.

        Returns: whether it was settled in time.
        """
        ...


class blocked:
    """In its `with` block this thread waits for the disk; a pool has others go on meanwhile.

    A class, as it is on the way of every durable save. It does nothing where nobody else would
    be held up: on a thread of a component's own, under virtual time, and outside of components.
    """

    __slots__ = ("_runner",)

    def __enter__(self) -> None:
        runner: Any = here.runner
        while isinstance(runner, InlineTurn):
            runner = runner.outer
        self._runner = runner if hasattr(runner, "block") else None
        if self._runner is not None:
            self._runner.block()

    def __exit__(self, *_: object) -> None:
        if self._runner is not None:
            self._runner.unblock()


class _Here(threading.local):
    runner: Runner | None = None
    creating: Any = None
    decoding: Any = None

    leaving: Any = staticmethod(lambda: None)

    def __init__(self) -> None:
        self.by_hand: dict[int, Any] = {}


here = _Here()
"""`here.runner` is what runs components on this thread; None on any other thread.

`here.creating` is the cell whose factory this thread is calling, so that `self.ref` works in
`__init__`. `here.decoding` is the runtime of the system for which this thread decodes a snapshot,
so that refs in it find their components (S-17).

`here.by_hand` keeps what watches the guards that this thread has entered without `with`, and
`here.leaving` refers to what it has looked up last to leave one by.
"""

_edges = allocate_lock()  # protects every cell's `asking`, so that of a circle exactly one fails


def ask_inside(runner: Runner, target: Any, envelope: Ask, timeout: float) -> bool:
    """Send `envelope` to the cell `target` from what `runner` runs, and wait for it.

    Args:
        timeout: seconds; -1 waits for ever.

    Returns: whether it was settled in time.

    Raises:
        AskCircleError: `target` waits for the component that is asking; nothing was sent.
    """
    asker = runner.cell
    if asker is None:
        target.send_ask(envelope)
        return runner.wait(target, envelope, timeout)
    enter(asker, target, envelope)
    try:
        target.send_ask(envelope)
        return runner.wait(target, envelope, timeout)
    finally:
        asking = asker.asking
        # If this thread was left behind, it may be that of the next incarnation.
        if asking is not None and asking[1] is envelope:
            asker.asking = None


INLINE: Final = Envelope(None)
"""Stands for an inline ask in `asking`; it is never settled."""


class InlineTurn:
    """The runner while the handler of `cell` runs in the thread of its asker, run by `outer`."""

    __slots__ = ("cell", "outer")

    def __init__(self, cell: Any) -> None:
        self.cell = cell
        self.outer: Runner | None = None

    def wait(self, target: Any, envelope: Ask, timeout: float) -> bool:
        """See `Runner.wait`."""
        if self.outer is None:
            return wait_for(envelope.done, timeout)
        return self.outer.wait(target, envelope, timeout)


def enter(asker: Any, target: Any, envelope: Envelope) -> None:
    """Note that `asker`, which its turn runs or its process, waits for `target`'s `envelope`.

    Raises:
        AskCircleError: `target` waits for `asker`.
    """
    with _edges:
        circle = [asker, target]
        while circle[-1] is not asker:
            asking = circle[-1].asking
            # An edge whose ask is settled is no longer waited for, though its thread may not
            # have run yet to take it back.
            if asking is None or asking[1].settled():
                asker.asking = (target, envelope)
                return
            circle.append(asking[0])
    names = " asks ".join(repr(cell.path) for cell in circle)
    raise AskCircleError(
        f"this ask would wait for ever: {names}; use tell, or ask with block=False"
    )
