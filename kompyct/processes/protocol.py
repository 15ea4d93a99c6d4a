"""What do a cell and the process that runs its component say to each other?

Both read the other's board as well, see `board`. Frames marked "control" are announced there, so
that the child looks at them before its next message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from kompyct.codecs import PICKLE, encode

# To the child.
ATTACH = 0
"""The names of the shared memory, if it has names; the first frame."""
MAKE = 1
"""A `Making`: make the component. Answered by DONE_SO or RAISED; with the flag of DONE_SO the
component is then started at once, which is answered as that is. Control."""
OBEY = 2
"""(hook, arguments): start, stop or kill. Answered by DONE_SO or FAULT. Control."""
REGISTER = 3
"""(function, snapshot as encoded or None, saved at): as registered from outside. Control."""
LEAVE = 4
"""End without a hook, once what was kept is closed. Control."""
MESSAGES = 5
"""A list of messages, the first of which has the frame's number; with flag, and the indices of
those that are no plain ones: a `PortEvent`, or what is asked."""
ASKED = 35
"""One message that somebody waits for, with its number; as MESSAGES."""
AGAIN = 6
"""One message of several that could not be unpickled together; as MESSAGES."""
WARM = 7
"""A `Making`, most likely that of the next incarnation: load what it needs, and rehearse.
Control."""
REPLY = 8
"""What the question of the frame's number was answered; with flag, an exception."""

# From the child.
DONE_SO = 16
"""What was asked by a control frame has been done; after MAKE with the ports of the component, if
it has some."""
RAISED = 17
"""A `Fault`: the factory raised. A first creation is no fault yet."""
FAULT = 18
"""A `Fault`; the last frame of a child."""
ANSWER = 19
"""What the ask of the frame's number got; with flag, an exception."""
AT_REST = 20
"""Everything that had come is handled: see the board."""
SAVED = 21
"""There is a new save; its number is the frame's."""
TELL = 22
"""(path, message), for the component whose id is the frame's number."""
ASK = 23
"""(component id, path, request), with a number; answered by REPLY."""
CALL = 24
"""(method of the system, arguments, keyword arguments), with a number; answered by REPLY."""
REQUEST = 25
"""(name, arguments) of a request of the component about itself: stop or kill."""
EVENT = 26
"""An event to be published."""
LOG = 27
"""A log record."""
GAVE_UP = 28
"""The component waits no more for the reply to the ASK of that number."""
DURABLE = 29
"""Everything saved is to be durable; answered by REPLY."""
RESEND = 30
"""`count` messages from the frame's number on could not be unpickled together: one by one."""
LETTER = 31
"""The message of the frame's number could not be unpickled; what was raised."""
TAKEN = 32
"""The notice of a watch that has the frame's number is being delivered."""
ROUTE = 33
"""(group, choice, message), for the members of the group that are meant; see `routes.choose`."""

TRIGGER = 34
"""(name of a port, event), which the component has triggered there."""

WINDOW = 2048
"""Messages that may be on their way to a child, or wait there: what is sent again when it dies."""


class Assignment(NamedTuple):
    """What a child needs to know of the component whose incarnations it may run.

    Attributes:
        codec: as `codecs.encode` made it.
        has_store: whether its snapshots go into a store.
        time_limit, memory_limit: see `Options`.
    """

    key: str
    system: str
    id: int
    name: str | None
    path: str
    codec: bytes
    durability: str
    has_store: bool
    log_level: int
    time_limit: int | None = None
    memory_limit: int | None = None


class Making(NamedTuple):
    """What a child needs to know to make an incarnation.

    Attributes:
        assignment: an `Assignment`, as `codecs.encode` made it; the same for all, so that a
            standby may prepare for it.
        position: what earlier incarnations have handled, see `Cell.position`.
        start: the active period in which it is to be started at once; 0: when that is said.
        factory: as `codecs.for_child` made it.
    """

    assignment: bytes
    incarnation: int
    active_period: int
    position: int
    start: int
    factory: bytes


NOBODY = Assignment("", "", 0, None, "", encode(PICKLE), "memory", False, 0)
REHEARSAL = Making(encode(NOBODY), 0, 0, 0, 0, encode(None))
"""What a spare child makes nothing of: it serves whatever component needs it."""


@dataclass(frozen=True, slots=True)
class PortEvent:
    """An event for the port of that name, among messages.

    Attributes:
        port: its name in the component.
    """

    port: str
    event: Any


@dataclass(frozen=True, slots=True)
class Fault:
    """How a component has faulted, as far as its own process knows."""

    exception: bytes
    traceback: str
    location: str
    phase: str
    fault_class: str
    kind: str = "exception"
