"""Who decides when users' code must end in time: the code, or the watchdog?"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable


class Deadline:
    """Users' code that somebody waits for, until `due`.

    The code, when it has ended, and the watchdog, when it is due, race to `claim` it: who gets
    True decides what follows, the other changes nothing. So a hung thread is left alone, and if
    it comes back it finds that it was abandoned.
    """

    __slots__ = ("_once", "due", "expire")

    def __init__(self, due: int, expire: Callable[[], None]) -> None:
        self._once = allocate_lock()
        self.due = due  # nanoseconds on the system's clock
        self.expire = expire  # called by the watchdog, if it wins, on its thread

    @property
    def is_claimed(self) -> bool:
        """Whether it has been decided who goes on."""
        return self._once.locked()

    def claim(self) -> bool:
        """True for the first caller only; from any thread."""
        return self._once.acquire(False)


class AbandonedError(BaseException):
    """The turn on this thread was abandoned; somebody else goes on with the component."""


class SimulatedHang(BaseException):
    """Stands, under virtual time, for code that never returns: see `kompyct.testing.hang`."""
