"""In which states is a component, and in which phase of its work?"""

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


class Phase(Enum):
    """Which of a component's own code was running."""

    CREATE = "create"
    START = "start"
    RECEIVE = "receive"
    TIMER = "timer"
    PORT = "port"
    STOP = "stop"
    KILL = "kill"
