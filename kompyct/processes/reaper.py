"""What is done when a child process ends, and in which order?

Whoever relied on it is told first, as early as it is known how it ends: when it has written that
it crashes, when its main thread has died, or when its pidfd says that it is gone. Then its
successor may start; what is left of it is let go last.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import Protocol

from kompyct.processes.child import Child
from kompyct.processes.dying import DeathWatch
from kompyct.processes.exits import OomWitness, ProcessExit, from_status
from kompyct.processes.reactor import Reactor

CRASH_LOOK = 0.002
"""Seconds between two looks at what a child writes that crashes."""

WATCH_AFTER = 0.02
"""Seconds from the start of a child until its death is watched for: what it is for comes first."""

TIDY_AFTER = 0.002
"""Seconds until what nobody waits for is done of the end of a child: its successor comes first."""

UNREACHABLE = 0.5
"""Seconds a child may live on after it has closed its connection, or has begun to end."""


class Parent(Protocol):
    """Who has the children made, and holds them."""

    def status_of(self, child: Child) -> int | None:
        """How it ended, as `os.waitpid` says, if that can be seen; see `Zygote.status_of`."""

    def reap(self, child: Child, *, tell: bool) -> None:
        """Have it reaped; if `tell`, how it ended comes back by `Reaper.note_status`."""

    def forget(self, child: Child) -> None:
        """It has ended, and nothing of it is needed any more."""


class Reaper:
    """Sees children end. For the one thread that looks after them.

    Args:
        name: of the system.
        reactor: calls this when there is something to be seen.
        parent: of the children.
    """

    def __init__(self, name: str, reactor: Reactor, parent: Parent) -> None:
        self._reactor = reactor
        self._parent = parent
        self._deaths = DeathWatch(
            f"{name}-deaths", lambda child: reactor.post(lambda: self._dies(child))
        )
        self._witness: OomWitness | None = None
        self._statuses: dict[int, int | None] = {}  # of children that are still being heard
        self._buried: list[tuple[Child, bool]] = []  # with whether it was reaped
        self._in_haste = False  # whether the system is ending, and no child has a successor

    @property
    def ended(self) -> int:
        """How many children have ended, of which something is held still."""
        return len(self._buried)

    def watch(self, child: Child) -> None:
        """See this child end, which has just been started."""
        assert child.pidfd is not None
        if self._witness is None:
            self._witness = OomWitness()
        self._reactor.watch(child.crash.reading, self._crash, child)
        self._reactor.watch(child.pidfd, self._gone, child)
        self._reactor.after(WATCH_AFTER, lambda: self._watch_death(child, WATCH_AFTER))

    def note_status(self, child: Child, status: int | None) -> None:
        """How it ended, as whoever reaped it says; None: that one is lost, and nobody knows."""
        if child.is_buried:
            return  # its zygote was lost, after it had ended and before it was reaped
        self._statuses[child.number] = status
        if child.is_gone or status is not None:
            self._bury(child)
        else:  # its zygote was lost; it ends with that, which `_gone` will see
            child.signal(signal.SIGKILL)

    def end_all(self, children: Iterable[Child]) -> None:
        """Have all of them end at once: none has a successor."""
        self._in_haste = True
        self._deaths.close()
        for child in children:
            if child.is_gone:
                self._reactor.call(self._ask_how, child)
            else:
                child.signal(signal.SIGKILL)

    def tidy(self) -> None:
        """Let go of what is held of children that have ended."""
        buried, self._buried = self._buried, []
        for child, is_reaped in buried:
            self._reactor.call(self._let_go, child, is_reaped)

    # -- how it is seen ---------------------------------------------------------------------

    def _crash(self, child: Child, events: int) -> None:
        """It has written something that only a crash, or a SIGTERM, has it write."""
        goes_on = child.crash.read()
        if child.notes_crash():
            self._tell(child)
        if child.crash.is_known and goes_on:
            # It writes some fifty small pieces: to be woken by each would take the time in which
            # it could end. But its pipe must not fill up.
            self._reactor.unwatch(child.crash.reading)
            self._reactor.after(CRASH_LOOK, lambda: self._crash(child, 0))
        elif not goes_on:
            self._reactor.unwatch(child.crash.reading)

    def _watch_death(self, child: Child, waited: float) -> None:
        """Have it seen that it dies; soon, if it has not come to its memory yet."""
        if child.is_gone or child.is_buried or child.is_discarded:
            return
        if self._deaths.watch(child, child.board.holder):
            return
        if waited < 1.0:
            self._reactor.after(waited, lambda: self._watch_death(child, 2 * waited))

    def _dies(self, child: Child) -> None:
        """It has ended all but its memory; or has become another program, and lives on."""
        self._crash(child, 0)  # what it has written of that
        if child.is_over or child.is_gone:
            return
        status = self._parent.status_of(child)
        if status is not None:
            child.exit = self._exit_of(child, status)
            self._tell(child)

    def _tell(self, child: Child) -> None:
        """Tell whoever relies on a child that it ends; it has to end soon."""
        child.be_ending()
        self._reactor.after(UNREACHABLE, lambda: child.signal(signal.SIGKILL))

    def _gone(self, child: Child, events: int) -> None:
        """Its process has ended; how, the starter knows, or will tell."""
        self._reactor.unwatch(child.pidfd)
        child.is_gone = True
        if child.number in self._statuses:  # known before, see `note_status`
            self._bury(child)
        elif child.is_ending and not self._in_haste:
            # Who relied on it knows how. Its successor may wait for its end: that comes first.
            child.be_gone()
            self._reactor.after(TIDY_AFTER, lambda: self._ask_how(child, at_once=True))
        else:
            self._ask_how(child)

    # -- what is done then ------------------------------------------------------------------

    def _ask_how(self, child: Child, *, at_once: bool = False) -> None:
        """Learn how a child has ended that is gone, and bury it; let it go `at_once`, or later."""
        if child.is_asked or child.is_buried:
            return
        status = self._parent.status_of(child)
        if status is None:
            child.is_asked = True
            self._parent.reap(child, tell=True)
        else:
            self._statuses[child.number] = status
            self._bury(child, is_reaped=False)
            if at_once:
                self.tidy()

    def _bury(self, child: Child, *, is_reaped: bool = True) -> None:
        """It has ended, and how is known; what is held of it is let go soon."""
        status = self._statuses.pop(child.number)
        child.is_buried = True
        child.read_all()
        child.crash.read()
        # What it writes of its crash is not the last word; but if nobody knows, it has to do.
        if child.exit is None or (child.crash.is_known and status is not None):
            child.exit = self._exit_of(child, status)
        for watched in (child.connection.fileno(), child.crash.reading, child.pidfd):
            self._reactor.unwatch(watched)
        if not self._buried:
            self._reactor.after(TIDY_AFTER, self.tidy)
        self._buried.append((child, is_reaped))
        child.be_gone()

    def _exit_of(self, child: Child, status: int | None) -> ProcessExit:
        pid = child.pid or 0
        if status is None:
            return ProcessExit(pid, None, None, "signal")
        # Only of what was killed: the evidence must be there still when that is told.
        was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        oom = was_killed and self._witness is not None and self._witness.saw_a_kill()
        return from_status(pid, status, oom=oom)

    def _let_go(self, child: Child, is_reaped: bool) -> None:
        self._deaths.forget(child)
        self._parent.forget(child)
        if not is_reaped:
            self._parent.reap(child, tell=False)
        child.finish()
