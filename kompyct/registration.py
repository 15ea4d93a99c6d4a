"""What has a component registered for the case of a fault?"""

from __future__ import annotations

from kompyct.faults import RecoveryFunction
from kompyct.lifecycle import Phase
from kompyct.options import GENERATIONS

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
STARTING = (Phase.CREATE, Phase.START)


OUTSIDE = -1
"""The period of a registration made from outside, which is in no handler's hand."""


class Registration:
    """One call of `set_recovery_function`: the function, the snapshot, and their history.

    It belongs to the component and outlives its incarnations (S-09). Written by the component's
    turn only, once it is in use, but for `tried`, which its recovery writes while the turn waits.
    """

    __slots__ = (
        "attempts", "before_shutdown", "data", "dropped", "function", "hook", "older", "period",
        "position", "restored", "saved_at", "sequence", "stored_as", "suspect", "tried",
    )  # fmt: skip

    def __init__(
        self,
        function: RecoveryFunction,
        data: bytes | None,
        saved_at: int,
        position: int,
        period: int,
        hook: Phase | None = None,
    ) -> None:
        self.function = function
        self.data = data  # the encoded snapshot; None: registered without one
        self.saved_at = saved_at  # nanoseconds
        self.position = position  # messages handled up to and including the one in hand
        self.period = period  # the active period in which it was made
        self.hook = hook  # the hook in which it was made, if in one
        self.older: tuple[
            tuple[bytes, int, int], ...
        ] = ()  # data, saved_at, sequence; newest first
        self.sequence = 1  # counts the registrations of the component
        self.dropped: tuple[tuple[int, int], ...] = ()  # sequences [from, to) that count no more
        self.attempts = 0  # faults that met this very registration
        self.suspect = 0  # faults since the snapshot was restored, with no newer one saved
        self.restored: bytes | None = None  # the snapshot that was restored, while suspect > 0
        self.tried: int | None = None  # the sequence that `step_back` handed out last; see there
        self.stored_as: str | bytes | None = None  # the function, if it goes into a store
        self.before_shutdown: int | None = None  # `suspect` before it was handed out after one

    def following(self, previous: Registration | None) -> Registration:
        """This registration, with what stays true of the history of `previous`.

        A snapshot saved in `__init__` or during `on_start`, or equal to the restored one, is not
        newer than that (S-27): it stays suspect. Saved so by a replacement it does not add a
        generation either, but takes the place of the one it was restored from, or of the newest.
        """
        if previous is None:
            return self
        data = self.data
        sequence = self.sequence = previous.sequence + 1
        if data is None or previous.data is None:
            self.dropped = ((0, sequence),)
            return self
        if data == previous.data:
            self.older = previous.older
            self._drop(previous, previous.sequence)
        elif previous.suspect and self.hook in STARTING:
            self.older = previous.older
            place = previous.sequence
            for index, (older, _, number) in enumerate(previous.older):
                if older == data:
                    self.older = previous.older[index + 1 :]
                    place = number
                    break
            self._drop(previous, place)
        else:
            newest = (previous.data, previous.saved_at, previous.sequence)
            self.older = (newest, *previous.older[: GENERATIONS - 2])
            self.dropped = previous.dropped
        if previous.suspect and (self.hook in STARTING or data == previous.restored):
            self.suspect = previous.suspect
            self.restored = data if self.hook in STARTING else previous.restored
            self.tried = previous.tried
            self.before_shutdown = previous.before_shutdown
        return self

    def counts(self, sequence: int) -> bool:
        """Whether the snapshot of that number, saved before, may still be gone back to."""
        return not any(first <= sequence < end for first, end in self.dropped)

    def _drop(self, previous: Registration, first: int) -> None:
        """Let all from `first` up to this one count no more."""
        kept = previous.dropped
        while kept and kept[-1][1] >= first:
            first = min(first, kept[-1][0])
            kept = kept[:-1]
        self.dropped = (*kept, (first, self.sequence))
