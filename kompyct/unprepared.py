"""What does a spawned child answer that could not load what it needs?

A zygote tells its parent so itself. A spawned child is on its own: it was there at once, and
whoever has it make a component would only learn that it has ended.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from traceback import format_exception_only

from kompyct.child_runtime import told_of
from kompyct.errors import ProcessStartError
from kompyct.processes.frames import BlockingSender, Incoming, pack
from kompyct.processes.protocol import LEAVE, MAKE, RAISED


def answer(descriptors: Sequence[int], error: BaseException) -> None:
    """Answer the first MAKE as if the factory had raised it, and then be over.

    Args:
        descriptors: as for `inside.serve`.
        error: what was raised when it loaded the main module, say.
    """
    text = "".join(format_exception_only(error)).strip()
    failed = ProcessStartError(f"a child process could not load what it needs: {text}")
    connection = socket.socket(fileno=descriptors[0])
    incoming = Incoming()
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    while poll.poll() and (frames := incoming.receive(connection)) is not None:
        if any(frame.kind == LEAVE for frame in frames):
            return
        if any(frame.kind == MAKE for frame in frames):
            told = told_of(failed.with_traceback(error.__traceback__))
            BlockingSender(connection).send(pack(RAISED, told))
            return
