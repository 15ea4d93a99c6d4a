"""How does a program live as long as its system?"""

from __future__ import annotations

import signal
import socket
import threading
from contextlib import suppress

from kompyct.errors import ArgumentError
from kompyct.runtime import Runtime

_ENDING = (signal.SIGINT, signal.SIGTERM)
_OVER = b"\0"  # there is no signal of number 0


def run_until_signalled(runtime: Runtime, limit: float, drain: int) -> None:
    """Wait for the end of the system; SIGINT and SIGTERM bring it about.

    The handlers that were found are restored. A second signal ends the wait for components.

    Args:
        limit: seconds for all components to end; -1 for no limit.
        drain: nanoseconds in which they may handle what is waiting.

    Raises:
        ArgumentError: not called on the main thread.
        ShutdownTimeoutError: it took longer than `limit`, or a second signal came.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ArgumentError("run() installs signal handlers; call it on the main thread")
    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.setblocking(False)

        def say_over(_: object) -> None:
            with suppress(OSError):  # nobody listens any more
                sender.send(_OVER)

        # The kernel may give a signal to any thread, and Python's handlers run on the main one,
        # which a wait for a lock would not leave for that. The byte in the socket wakes it.
        before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        found = {number: signal.signal(number, lambda *_: None) for number in _ENDING}
        runtime.over.add_done_callback(say_over)
        try:
            signals = 0
            while (news := receiver.recv(1)) != _OVER:
                if news[0] not in _ENDING:
                    continue  # another signal, which has a handler of its own
                signals += 1
                if signals == 1:
                    runtime.begin_shutdown(limit, drain)
                else:
                    runtime.cut_short()
        finally:
            for number, handler in found.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
    if runtime.overtime is not None:
        raise runtime.overtime from runtime.cause
