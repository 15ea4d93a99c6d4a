"""How does a program live as long as its system?"""

from __future__ import annotations

import signal
import threading
from queue import SimpleQueue

from kompyct.errors import ArgumentError
from kompyct.runtime import Runtime


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
    news: SimpleQueue[str] = SimpleQueue()  # its put is reentrant, so handlers may call it
    found = {
        number: signal.signal(number, lambda *_: news.put("signal"))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    runtime.over.add_done_callback(lambda _: news.put("over"))
    try:
        signals = 0
        while news.get() != "over":
            signals += 1
            if signals == 1:
                runtime.begin_shutdown(limit, drain)
            else:
                runtime.cut_short()
    finally:
        for number, handler in found.items():
            signal.signal(number, handler)
    if runtime.overtime is not None:
        raise runtime.overtime
