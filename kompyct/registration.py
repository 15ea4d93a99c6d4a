"""What has a component registered for the case of a fault?"""

from __future__ import annotations

from kompyct.faults import RecoveryFunction
from kompyct.lifecycle import Phase

# Bound once: reading a member of an enum costs 90 ns on CPython 3.11, a global 7 ns.
START = Phase.START


GENERATIONS = 3
"""Snapshots kept of a component, the newest included."""


OUTSIDE = -1
"""The period of a registration made from outside, which is in no handler's hand."""


class Registration:
    """One call of `set_recovery_function`: the function, the snapshot, and their history.

    It belongs to the component and outlives its incarnations (S-09). Written by the component's
    turn only, once it is in use.
    """

    __slots__ = (
        "attempts", "data", "function", "hook", "older", "period", "position", "restored",
        "saved_at", "suspect",
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
        self.older: tuple[tuple[bytes, int], ...] = ()  # earlier snapshots, newest first
        self.attempts = 0  # faults that met this very registration
        self.suspect = 0  # faults since the snapshot was restored, with no newer one saved
        self.restored: bytes | None = None  # the snapshot that was restored, while suspect > 0

    def following(self, previous: Registration | None) -> Registration:
        """This registration, with what stays true of the history of `previous`.

        A snapshot saved during `on_start`, or equal to the restored one, is not newer than that
        (S-27): it stays suspect. Saved during the `on_start` of a replacement it does not add a
        generation either, but takes the place of the one it was restored from, or of the newest.
        """
        data = self.data
        if previous is None or data is None or previous.data is None:
            return self
        if data == previous.data:
            self.older = previous.older
        elif previous.suspect and self.hook is START:
            self.older = previous.older
            for index, (older, _) in enumerate(previous.older):
                if older == data:
                    self.older = previous.older[index + 1 :]
                    break
        else:
            newest = (previous.data, previous.saved_at)
            self.older = (newest, *previous.older[: GENERATIONS - 2])
        if previous.suspect and (self.hook is START or data == previous.restored):
            self.suspect = previous.suspect
            self.restored = data if self.hook is START else previous.restored
        return self
