"""How is a future completed without harm to the thread that does it?"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

_logger = logging.getLogger("kompyct")


def complete(future: Future[Any], value: Any = None, error: BaseException | None = None) -> bool:
    """Give `future` its value or its error, unless somebody has cancelled it.

    Whoever added a callback has it run on this thread, which is a component's or the
    supervisor's. `concurrent.futures` keeps to itself only what is an `Exception`; the rest is
    logged here.

    Returns: False if it was cancelled, or completed by somebody else.
    """
    try:
        if not future.set_running_or_notify_cancel():
            return False
    except RuntimeError:  # the user of the future has completed it; the turn must go on
        return False
    try:
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
    except BaseException:
        with suppress(BaseException):  # a logging handler may raise as well
            _logger.exception("a callback of a future raised")
    return True
