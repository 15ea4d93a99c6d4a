"""What does a ref reach whose component is not in this process any more?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NoReturn

from kompyct.errors import ComponentDestroyedError
from kompyct.futures import complete
from kompyct.lifecycle import State
from kompyct.mailbox import ClosedBox
from kompyct.messages import Envelope

_logger = logging.getLogger("kompyct")


def name_in(path: str) -> str | None:
    """The name of the component at `path`; None if it has none."""
    name = path.rpartition("/")[2]
    return None if name.startswith("#") else name


class LostRuntime:
    """Stands for the runtime of a system that is not in this process any more."""

    backend = None
    late_replies = None

    def __init__(self, key: str) -> None:
        self.key = key
        self.name = f"ended-{key[:6]}"

    def new_future(self) -> Future[Any]:
        """A future for an ask, which fails."""
        return Future()

    def undelivered(self, cell: LostCell, messages: Sequence[Any], reason: str) -> None:
        """Log what nobody can be told of."""
        _logger.warning(
            "%d dead letters for component %r of an ended system", len(messages), cell.path
        )


class LostCell:
    """Stands for a component that has ended: asks fail, tells become dead letters.

    `runtime` is that of its system, or a `LostRuntime` if that has gone too. `key` is that of the
    system that made it, if another one is told what becomes of messages to it.
    """

    asleep = False
    has_asks = False
    state = State.DESTROYED
    incarnation = 0
    component = None
    asking = None

    def __init__(self, runtime: Any, path: str, number: int, key: str | None = None) -> None:
        self.runtime = runtime
        self.key: str = runtime.key if key is None else key
        self.path = path
        self.id = number
        self.name = name_in(path)
        self.box = ClosedBox(self._refuse, [])

    def send(self, message: Any) -> None:
        """Refuse `message`."""
        self._refuse(message)

    send_ask = send

    def signal(self, obey: Callable[..., None], future: Future[None] | None, *_: Any) -> None:
        """There is nothing left to stop or to end."""
        if future is not None:
            complete(future)

    def gone(self) -> ComponentDestroyedError:
        """The error for whoever wants something of it."""
        return ComponentDestroyedError(
            f"component {self.path!r}, which a pickled ref names, is not in this process any more"
        )

    def incarnation_now(self) -> NoReturn:
        """Refuse: there is none.

        Raises:
            ComponentDestroyedError: always.
        """
        raise self.gone()

    def _refuse(self, message: Any) -> None:
        if type(message) is Envelope:
            message.fail(self.gone())
        else:
            self.runtime.undelivered(self, [message], "it has ended")
