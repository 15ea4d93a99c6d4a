"""Would `explore` find a bug? Bugs planted on purpose, each of which a scenario must catch.

`planting` says what a mutant is.
"""

from __future__ import annotations

from kompyct import ending, faulting, signals, watching
from kompyct.backends.pool import PoolBackend
from kompyct.cell import Cell
from kompyct.component import Component
from kompyct.groups import Groups
from kompyct.mailbox import BoundedBox
from kompyct.names import Names
from kompyct.recovery import RecoveryJob
from kompyct.ref import ComponentRef, InlineRef
from kompyct.timers import Timer
from kompyct.watching import Watches
from tests.harness import mutants_ports, mutants_store
from tests.harness.planting import Mutant

HARMFUL: tuple[Mutant, ...] = (
    # -- the turn's end
    Mutant(
        "no second look after an active turn", Cell, "run",
        "if (box or self.control) and self.flag.acquire(False):",
        "if False:",
        ("TellTurn", "TellTell", "TwoSignals"),
    ),
    Mutant(
        "a second look at the box only", Cell, "run",
        "if (box or self.control) and self.flag.acquire(False):",
        "if box and self.flag.acquire(False):",
        ("TwoSignals",),
    ),
    Mutant(
        "a second look at the signals only", Cell, "run",
        "if (box or self.control) and self.flag.acquire(False):",
        "if self.control and self.flag.acquire(False):",
        ("TellTurn", "TellTell"),
    ),
    Mutant(
        "the second look before the flag is given back", Cell, "run",
        """
        self.asleep = True
        self.flag.release()
        if (box or self.control) and self.flag.acquire(False):
            self.asleep = False
            return True
        return False
        """,
        """
        self.asleep = True
        if box or self.control:
            self.asleep = False
            return True
        self.flag.release()
        return False
        """,
        ("TellTurn", "TwoSignals"),
    ),
    Mutant(
        "asleep after the second look", Cell, "run",
        """
        self.asleep = True
        self.flag.release()
        if (box or self.control) and self.flag.acquire(False):
            self.asleep = False
            return True
        """,
        """
        self.flag.release()
        if (box or self.control) and self.flag.acquire(False):
            return True
        self.asleep = True
        """,
        ("TellTurn", "TellTell"),
    ),
    Mutant(
        "asleep False by a non-holder", Cell, "run",
        """
        if (box or self.control) and self.flag.acquire(False):
            self.asleep = False
            return True
        """,
        """
        if box or self.control:
            self.asleep = False
            if self.flag.acquire(False):
                return True
        """,
        ("LastLook",),
    ),
    Mutant(
        "asleep False by a non-holder at rest", Cell, "_rest",
        """
        if (self.control or (destroyed and self.box)) and self.flag.acquire(False):
            self.asleep = False
            return True
        """,
        """
        if self.control or (destroyed and self.box):
            self.asleep = False
            if self.flag.acquire(False):
                return True
        """,
        ("LastLookSignal",),
    ),
    Mutant(
        "no second look after a turn that is not active", Cell, "_rest",
        "if (self.control or (destroyed and self.box)) and self.flag.acquire(False):",
        "if False:",
        ("TwoSignals", "RegisterFault"),
    ),
    Mutant(
        "no second look at the late box of the dead", Cell, "_rest",
        "if (self.control or (destroyed and self.box)) and self.flag.acquire(False):",
        "if self.control and self.flag.acquire(False):",
        ("TellKill", "AskKill"),
    ),
    Mutant(
        "the dead are not asleep", Cell, "_rest",
        "self.asleep = destroyed",
        "self.asleep = False",
        ("TellKill", "AskKill"),
    ),
    Mutant(
        "asleep of a resting cell written after the flag is given back", Cell, "_rest",
        """
        self.asleep = destroyed
        self.flag.release()
        """,
        """
        self.flag.release()
        self.asleep = destroyed
        """,
        ("TwoSignals",),
    ),
    # -- the turn
    Mutant(
        "length of the box read after the signals", Cell, "run",
        """
        waiting = len(box)
        if self.control:
            self._obey()
            box = self.box
            if waiting > len(box):
                waiting = len(box)
        """,
        """
        if self.control:
            self._obey()
            box = self.box
        waiting = len(box)
        """,
        ("StopTell",),
    ),
    Mutant(
        "the box of before the signals", Cell, "run",
        """
        self._obey()
        box = self.box
        if waiting > len(box):
            waiting = len(box)
        """,
        "self._obey()",
        ("StartFault",),
    ),
    Mutant(
        "no look at signals between messages", Cell, "_drain",
        """
        if self.control:
            break
        """,
        "",
        ("TellDrainStop",),
    ),
    Mutant(
        "nothing put back", Cell, "_drain",
        "self.put_back(chunk[-unhandled:])",
        "pass",
        ("TellDrainStop",),
    ),
    Mutant(
        "no look after an inline ask", Cell, "ask_inline",
        "if (self.box or self.control) and self.flag.acquire(False):",
        "if False:",
        ("InlineTell", "InlineInline"),
    ),
    Mutant(
        "an inline ask without the flag", InlineRef, "ask",
        "if cell.asleep and block and cell.flag.acquire(False):",
        "if cell.asleep and block:",
        ("InlineTell", "InlineInline"),
    ),
    # -- senders
    Mutant(
        "tell looks before it appends", ComponentRef, "tell",
        """
        cell.box.append(message)
        if cell.asleep and cell.flag.acquire(False):
        """,
        """
        look = cell.asleep
        cell.box.append(message)
        if look and cell.flag.acquire(False):
        """,
        ("TellTurn", "TellTell"),
    ),
    Mutant(
        "tell wakes without the flag", ComponentRef, "tell",
        "if cell.asleep and cell.flag.acquire(False):",
        "if cell.asleep:",
        ("TellTell",),
    ),
    Mutant(
        "has_asks set before the append", ComponentRef, "ask",
        """
        cell.box.append(envelope)
        cell.has_asks = True
        """,
        """
        cell.has_asks = True
        cell.box.append(envelope)
        """,
        ("FaultAskFault",),
    ),
    Mutant(
        "has_asks set before the append of an ask for a future", Cell, "send_ask",
        """
        self.box.append(envelope)
        self.has_asks = True
        """,
        """
        self.has_asks = True
        self.box.append(envelope)
        """,
        ("FaultFutureFault",),
    ),
    Mutant(
        "has_asks cleared where it was not set", faulting, "_settle_queued",
        """
        if has_asks:
            cell.has_asks = False
        """,
        "cell.has_asks = False",
        ("FaultFirstAskFault",),
    ),
    Mutant(
        "has_asks cleared after the scan", faulting, "_settle_queued",
        "cell.put_back(kept)",
        """
        cell.put_back(kept)
        cell.has_asks = False
        """,
        ("FaultAskFault",),
    ),
    Mutant(
        "asks that are queued at a fault are left", faulting, "fault",
        "_settle_queued(cell, facts, comes_back)",
        "pass",
        ("FaultAskFault",),
    ),
    Mutant(
        "a late reply goes to nobody", ComponentRef, "_reply",
        "envelope.done = cell.runtime.late_replies",
        "pass",
        ("AskTimeout",),
    ),
    # -- signals
    Mutant(
        "a signal does not try the flag", Cell, "signal",
        "self._wake()",
        "",
        ("TwoSignals", "TellStart"),
    ),
    Mutant(
        "a signal trusts asleep", Cell, "signal",
        "self._wake()",
        "self.asleep and self._wake()",
        ("TellStart", "FaultTell"),
    ),
    Mutant(
        "signals are added without the lock", Cell, "add_signal",
        "with self.runtime.signals:",
        "if True:",
        ("TwoSignals", "TwoKills"),
    ),
    Mutant(
        "signals are taken without the lock", Cell, "_obey",
        "with self.runtime.signals:",
        "if True:",
        ("TwoSignals", "TwoKills"),
    ),
    Mutant(
        "registrations are taken up without the lock", faulting, "_take_up_registrations",
        "with cell.runtime.signals:",
        "if True:",
        ("RegisterStopFault",),
    ),
    # -- faults and ends
    Mutant(
        "a closed box without the late box", ending, "close_box",
        "cell.box = ClosedBox(cell.refuse, cell.box)",
        "cell.box = ClosedBox(cell.refuse, [])",
        ("TellKill", "AskKill"),
    ),
    Mutant(
        "what came before the end was over is not flushed", ending, "destroy",
        "_bury_letters(cell)",
        "pass",
        ("TellKill",),
    ),
    Mutant(
        "what came after the end is not flushed", ending, "refuse",
        """
        if cell.state is DESTROYED:
            _flush(cell, letters)
        """,
        "",
        ("TellKill",),
    ),
    Mutant(
        "the letters are flushed before the state says so", ending, "destroy",
        "cell.state = DESTROYED",
        """
        if history.letters:
            _flush(cell, history.letters)
            history.letters = []
        cell.state = DESTROYED
        """,
        ("TellKill",),
    ),
    # -- deadlines
    Mutant(
        "an unclaimed deadline of a recovery", RecoveryJob, "run",
        "if deadline.claim():",
        "if True:",
        ("RecoveryDeadline",),
    ),
    Mutant(
        "an unclaimed deadline of kept things", ending, "close_kept",
        """
        if not deadline.claim():
            raise AbandonedError
        """,
        "",
        ("KeepKill", "KeepFault"),
    ),
    # -- timers
    Mutant(
        "a tick that clears the mark after the action", Timer, "_tick",
        """
        self._queued = False
        action = self._action
        cell = self._cell
        if action is None or cell.active_period != self._number:
            return
        if self._ticked == self._rung:
            return
        if self._burst:
            self._ticked += 1
        else:
            self._ticked = self._rung
        if not self._period:
            self.cancel()
        try:
            action()
        """,
        """
        action = self._action
        cell = self._cell
        if action is None or cell.active_period != self._number:
            return
        if self._burst:
            self._ticked += 1
        else:
            self._ticked = self._rung
        try:
            action()
            self._queued = False
        """,
        ("Ticks",),
    ),
    Mutant(
        "a ring that looks before it counts", Timer, "_ring",
        "self._rung += 1",
        """
        queued = self._queued
        self._rung += 1
        if queued:
            return
        """,
        ("Ticks", "TicksBurst"),
    ),
    # -- bounded mailboxes
    Mutant(
        "a bounded box appends without its lock", BoundedBox, "append",
        """
        with self._lock:
            if len(messages) - self._exempt < self.limit:
        """,
        """
        if True:
            if len(messages) - self._exempt < self.limit:
        """,
        ("DropOld", "DropNew"),
    ),
    Mutant(
        "a bounded box is emptied without its lock", BoundedBox, "take",
        "with self._lock:",
        "if True:",
        ("DropOld",),
    ),
    # -- the pool
    Mutant(
        "park does not look after setting idle", PoolBackend, "park",
        "if self.ready:",
        "if False:",
        ("WakePark",),
    ),
    Mutant(
        "park looks before setting idle", PoolBackend, "park",
        """
        if not self._running:
            self.idle = True
            if self.ready:
        """,
        """
        found = bool(self.ready)
        if not self._running:
            self.idle = True
            if found:
        """,
        ("WakePark",),
    ),
    Mutant(
        "park counts down whatever the worker was", PoolBackend, "park",
        """
        if worker.status is _RUNNING:
            self._running -= 1
        """,
        "self._running -= 1",
        ("StuckReturns", "StuckParks", "CloseParked"),
    ),
    Mutant(
        "a worker that ends stays in the list of the parked", PoolBackend, "park",
        "self._parked.remove(worker)",
        "pass",
        ("WakeParkTimed",),
    ),
    Mutant(
        "a worker that was not roused in time does not look again", PoolBackend, "park",
        """
        if worker in self._parked:
            self._parked.remove(worker)
            self._workers.remove(worker)
            return False
        """,
        """
        if worker in self._parked:
            self._parked.remove(worker)
        self._workers.remove(worker)
        return False
        """,
        ("WakeParkTimed",),
    ),
    Mutant(
        "wake looks at idle before it appends", PoolBackend, "wake",
        """
        self.ready.append(item)
        if self.idle:
        """,
        """
        idle = self.idle
        self.ready.append(item)
        if idle:
        """,
        ("WakePark",),
    ),
    Mutant(
        "block does not look at what is ready", PoolBackend, "block",
        "if self.ready:",
        "if False:",
        ("AskInPool",),
    ),
    Mutant(
        "block does not say that the pool is idle", PoolBackend, "block",
        "self.idle = True",
        "pass",
        ("BlockUntil",),
    ),
    Mutant(
        "unblock counts a worker twice", PoolBackend, "unblock",
        "if worker.status is _BLOCKED:",
        "if True:",
        ("StuckBlocks",),
    ),
    Mutant(
        "block counts a worker out twice", PoolBackend, "block",
        "if worker.status is _RUNNING:",
        "if True:",
        ("StuckBlocks",),
    ),
    Mutant(
        "a deadline is added after the watchdog was rung", PoolBackend, "watch",
        """
        self._deadlines.add(deadline)
        if self._resting or self._watchdog is None:
            with self._mutex:
                self._ring_watchdog()
        """,
        """
        if self._resting or self._watchdog is None:
            with self._mutex:
                self._ring_watchdog()
        self._deadlines.add(deadline)
        """,
        ("WatchRest",),
    ),
    Mutant(
        "the watchdog rests without looking at deadlines", PoolBackend, "_watch",
        """
        if self._deadlines:
            self._resting = False
        """,
        "",
        ("WatchRest",),
    ),
    # -- threads of a component
    Mutant(
        "a late thread's resource is kept", Component, "keep",
        "if cell.component is not self or cell.active_period != number:",
        "if False:",
        ("KeepLate",),
    ),
    # -- watches, names and groups
    Mutant(
        "a watch is entered without a look whether the end has come", watching, "_enter",
        """
        if _is_gone(target):
            return False
        """,
        "",
        ("WatchEnd",),
    ),
    Mutant(
        "the end is told before a watch can see that it has come", ending, "destroy",
        """
        cell.backend = runtime.forget(cell)
        _bury_letters(cell)
        """,
        """
        runtime.forget(cell)
        runtime.tell_watchers(cell)
        cell.backend = runtime.forget(cell)
        runtime.tell_watchers = lambda cell: None
        _bury_letters(cell)
        """,
        ("WatchEnd",),
    ),
    Mutant(
        "a notice is delivered although the watch was taken back", Watches, "take",
        "if watch.is_over:",
        "if False:",
        ("UnwatchEnd",),
    ),
    Mutant(
        "the end of a watcher forgets no watches", Watches, "tell",
        "self._strike_out(watch)",
        "pass",
        ("WatcherEndsEnd",),
    ),
    Mutant(
        "a late thread's watch is kept", Watches, "watch",
        "if self._is_closed or _is_gone(watcher):",
        "if self._is_closed:",
        ("WatchWatcherEnds",),
    ),
    Mutant(
        "a name is registered without a second look", Names, "register",
        "if cell.state is DESTROYED:",
        "if False:",
        ("NameEnd",),
    ),
    Mutant(
        "a component joins without a second look", Groups, "join",
        "if cell.state is DESTROYED:",
        "if False:",
        ("JoinEnd",),
    ),
    *mutants_store.HARMFUL,
    *mutants_ports.HARMFUL,
)  # fmt: skip
"""Each of these must be caught by one of its scenarios."""

HARMLESS: tuple[tuple[Mutant, str], ...] = (
    (
        Mutant(
            "an inline ask of the dead", Cell, "ask_inline",
            "if self.state is not ACTIVE or self.box or self.control or "
            "(self.backlog is not None):",
            "if self.box or self.control or self.backlog is not None:",
            ("InlineKill",),
        ),
        "What has ended has no incarnation, so the call raises, and `fault` finds that it has "
        "ended: the ask fails as it should.",
    ),
    (
        Mutant(
            "a rebuild of whatever has come of the cell", signals, "rebuild",
            """
            if cell.state is not FAULTY or history is None or history.fault is not context:
                return
            """,
            "",
            ("KillFault", "AskFaultKill"),
        ),
        "What was killed meanwhile has no factory: nothing is made, and `fault` finds that it has "
        "ended. With a factory of the recovery function's own something would be made and "
        "started that nobody knows; these scenarios give none.",
    ),
    (
        Mutant(
            "asleep True by a non-holder", Cell, "run",
            """
            self.asleep = True
            self.flag.release()
            """,
            """
            self.flag.release()
            self.asleep = True
            """,
            ("LastLook", "LastLookSignal", "TellTell", "TwoSignals", "TellStop"),
        ),
        "A stale True makes a sender try the flag. If somebody holds it, that one looks again "
        "after giving it back; if nobody does, a turn is run that finds nothing it may do and "
        "sets asleep anew. It costs a turn, never a message. The sender that still sees False "
        "has appended before the store, and so before the second look, which comes after it.",
    ),
    (
        Mutant(
            "two workers for two wakes", PoolBackend, "_rouse",
            "worker = self._add_runner() if not self._running and self.ready else None",
            "worker = self._add_runner() if self.ready else None",
            ("WakePark", "BlockWake"),
        ),
        "More workers than needed run; each takes from the queue what it finds, and parks.",
    ),
    (
        Mutant(
            "the watchdog does not say that the pool is idle", PoolBackend, "_find_stuck",
            """
            if not self._running:
                self.idle = True
            """,
            "",
            ("StuckReturns", "StuckParks"),
        ),
        "It finds a worker stuck only while items wait, and then adds a runner under the same "
        "mutex, which makes idle False anyway. Where it may add none (closed, or at the most "
        "workers) it tries again at each tick.",
    ),
    (
        Mutant(
            "a stuck worker does not ask when it returns", PoolBackend, "_find_stuck",
            "worker.surplus = True",
            "pass",
            ("StuckReturns", "StuckBlocks"),
        ),
        "It goes on counted as blocked: the pool runs one worker more than it needs, until this "
        "one parks, where a worker that is not counted is not counted out.",
    ),
    *mutants_store.HARMLESS,
)  # fmt: skip
"""Mutants that no scenario can catch, each with the reason."""
