"""Would `explore` find a bug in how saves reach the store?"""

from __future__ import annotations

from kompyct import signals
from kompyct.stored import Stored
from kompyct.writer import Writer
from tests.harness.planting import Mutant

HARMFUL: tuple[Mutant, ...] = (
    # -- what is counted
    Mutant(
        "touches are counted without the lock", Stored, "touch",
        "with self._lock:",
        "if True:",
        ("TouchTouch",),
    ),
    Mutant(
        "saves are fenced without the lock", Stored, "save",
        "with self._lock:",
        "if True:",
        ("SaveLate",),
    ),
    Mutant(
        "what is settled is counted without the lock", Stored, "settle",
        "with self._lock:",
        "if True:",
        ("TouchTouch", "TouchRun", "SaveWrite"),
    ),
    Mutant(
        "settled up to what was said meanwhile", Stored, "settle",
        """
        self.settled = stored.touched
        return self.touched > stored.touched
        """,
        """
        self.settled = self.touched
        return False
        """,
        ("FlushSave", "TouchTouch"),
    ),
    Mutant(
        "no look at what was said meanwhile", Stored, "settle",
        "return self.touched > stored.touched",
        "return False",
        ("FlushSave", "TouchTouch"),
    ),
    # -- the ends
    Mutant(
        "the end refuses no saves", Stored, "end",
        "self._over = True",
        "pass",
        ("EndSave",),
    ),
    Mutant(
        "the end is not stored", Stored, "end",
        "self.touch()",
        "pass",
        ("EndClean", "KillShutdown"),
    ),
    Mutant(
        "a shutdown retires what it ends", signals, "kill",
        "cell.history.left_as = UNFINISHED if brutal or lost else CLEAN",
        "pass",
        ("ClaimShutdown", "KillShutdown"),
    ),
    # -- who writes
    Mutant(
        "settled before it is saved", Writer, "_write",
        "self.store.save([found.entry for _, found in unsettled if found.entry is not None])",
        """
        self._settle(unsettled)
        self.store.save([found.entry for _, found in unsettled if found.entry is not None])
        """,
        ("FailFlush", "DurableDurable"),
    ),
    Mutant(
        "what could not be saved leaves the queue", Writer, "_write",
        """
        if isinstance(error, StoreError) or not isinstance(error, Exception):
            raise
        """,
        """
        self._forget(len(taken))
        raise
        """,
        ("FailSave",),
    ),
    Mutant(
        "what is written stays in the queue", Writer, "_forget",
        "self._queue.popleft()",
        "pass",
        ("SaveWrite",),
    ),
    Mutant(
        "what was said meanwhile is not queued", Writer, "_settle",
        "self._queue.extend(more)",
        "pass",
        ("FlushSave", "TouchTouch"),
    ),
    Mutant(
        "what was said meanwhile is written by nobody", Writer, "_settle",
        """
        if more:
            self._behind = True
            self._rouse()
        """,
        "",
        ("FlushTouch", "TouchRun"),
    ),
    Mutant(
        "what a durable save could not write is written by nobody", Writer, "_write_now",
        """
        with self._changed:
            self._behind = True
            self._rouse()
        raise
        """,
        "raise",
        ("FailDurable",),
    ),
    Mutant(
        "a flush does not wait for who writes", Writer, "flush",
        "self._writing.acquire()",
        """
        if not self._writing.acquire(False):
            return
        """,
        ("FlushWrite",),
    ),
    # -- who sleeps
    Mutant(
        "who goes to sleep does not try once more", Writer, "make_durable",
        """
        if not self._writing.acquire(False):
            _sleep(turn)
            continue
        """,
        """
        _sleep(turn)
        continue
        """,
        ("DurableDurable", "DurableWrite"),
    ),
    Mutant(
        "nobody who sleeps is woken", Writer, "_write_now",
        "turn.done.release()",
        "pass",
        ("DurableDurable", "DurableWrite"),
    ),
    Mutant(
        "a look for sleepers before the right to write is given back", Writer, "_write_now",
        """
        self._writing.release()
        with self._changed:
            self._expected += len(self._queue)
            woken: list[_Turn] = []
            asleep: list[_Turn] = []
            for turn in self._waiting:
        """,
        """
        waiting = list(self._waiting)
        self._writing.release()
        with self._changed:
            woken: list[_Turn] = []
            asleep: list[_Turn] = []
            for turn in waiting:
        """,
        ("DurableDurable", "DurableWrite"),
    ),
    # -- the thread
    Mutant(
        "a mark waits for what was said before it", Writer, "mark",
        """
        stored.touch()
        touched = stored.touched
        """,
        """
        touched = stored.touched
        stored.touch()
        """,
        ("MarkRun",),
    ),
    Mutant(
        "what is queued rouses nobody", Writer, "enqueue",
        "self._rouse()",
        "pass",
        ("TouchRun",),
    ),
    Mutant(
        "the close does not write what is left", Writer, "close",
        "self._write_now()",
        "self._writing.release()",
        ("CloseSave",),
    ),
    Mutant(
        "the close does not wake the thread", Writer, "close",
        "self._changed.notify_all()",
        "pass",
        ("CloseRun",),
    ),
)  # fmt: skip
"""Each of these must be caught by one of its scenarios."""

HARMLESS: tuple[tuple[Mutant, str], ...] = (
    (
        Mutant(
            "what is to be stored is read without the lock", Stored, "unsettled",
            "with self._lock:",
            "if True:",
            ("SaveWrite", "SaveLate", "TouchTouch", "EndSave", "FlushSave"),
        ),
        "The count is read first. What was said after that is at most newer than the count says: "
        "it is written now, and once more looked at later, when there is nothing left to write.",
    ),
)  # fmt: skip
"""Mutants that no scenario can catch, each with the reason."""
