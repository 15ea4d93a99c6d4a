"""In which states is a component, in which phase of its work, and what became of it?"""

from enum import Enum


class State(Enum):
    """What a component is doing with its messages.

    Source: Kompact's lifecycle states.
    """

    PASSIVE = "passive"
    """Created or stopped: messages wait in the mailbox."""
    ACTIVE = "active"
    """Started: messages are handled."""
    FAULTY = "faulty"
    """An incarnation has faulted, its recovery is under way: messages wait."""
    DESTROYED = "destroyed"
    """Ended for good: messages become dead letters."""


class Status(Enum):
    """What became of a component, as far as its store was told."""

    UNFINISHED = "unfinished"
    """It was running; if its process is gone, it was lost."""
    CLEAN = "clean"
    """Its system was shut down in order; the next start goes on from here."""
    RETIRED = "retired"
    """It ended for good; it is never offered again."""


class Ending(Enum):
    """Why a component is ending, as its `on_kill` may want to know."""

    ASKED = "asked"
    """Somebody ended it: by `kill`, or `TerminateChild`."""
    ITSELF = "itself"
    """It has asked for that: by `kill_self`."""
    SIBLING = "sibling"
    """It goes down with a sibling that faulted, and is about to come back."""
    PARENT = "parent"
    """Its supervisor is ending, or going down."""
    SHUTDOWN = "shutdown"
    """The system is shutting down."""


ENDINGS = (None, *Ending)
"""By number, as processes tell each other."""


class Phase(Enum):
    """Which of a component's own code was running."""

    CREATE = "create"
    START = "start"
    RECEIVE = "receive"
    TIMER = "timer"
    PORT = "port"
    STOP = "stop"
    KILL = "kill"
