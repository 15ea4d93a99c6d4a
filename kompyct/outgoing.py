"""What of a message goes to another process, and what becomes of it if it cannot?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kompyct.errors import UnpicklableError
from kompyct.messages import Envelope, port_of
from kompyct.notices import OnTheWay
from kompyct.processes.protocol import PortEvent
from kompyct.watching import is_notice

if TYPE_CHECKING:
    from kompyct.cell import Cell

NOT_PICKLED: Final = "cannot be pickled"
NOT_UNPICKLED: Final = "cannot be unpickled in the child process"


def is_special(message: Any) -> bool:
    """Whether the child makes an envelope of it: of what is asked, and of events of ports."""
    if type(message) is not Envelope or is_notice(message):
        return False
    return message.is_asked or port_of(message) is not None


def content_of(message: Any) -> Any:
    """What of `message` goes to the child."""
    if type(message) is not Envelope:
        return message
    if is_notice(message):
        action: Any = message.action
        return OnTheWay(action.number, message.message)
    port = port_of(message)
    return message.message if port is None else PortEvent(port, message.message)


def is_plain_ask(message: Any) -> bool:
    """Whether somebody waits for the reply to it, and nothing else is to be minded."""
    return type(message) is Envelope and message.is_asked and message.action is None


def refuse_unpicklable(cell: Cell, message: Any, why: str, cause: BaseException) -> None:
    """`message` cannot go to another process: fail the ask, or make it a dead letter."""
    why = f"{why} ({type(cause).__name__})"
    content = message.message if type(message) is Envelope else message
    if type(message) is Envelope and message.is_asked:
        error = UnpicklableError(
            f"a {type(content).__qualname__} for component {cell.path!r} {why}; send plain data, "
            "or objects whose classes are in a module"
        )
        error.__cause__ = cause
        message.fail(error)
    else:
        cell.runtime.undelivered(cell, [content], f"it {why}")
