"""What may be chosen when a component is created?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kompyct.restart import RestartLimit

Overflow = Literal["error", "drop_new", "drop_old"]
Fallback = Literal["end", "restart", "escalate"]


@dataclass(frozen=True, slots=True)
class Options:
    """What `create` was told of a component; one object serves all that were told the same.

    Attributes:
        budget: how often it may be restarted.
        fallback: what is done when its recovery function or handler raises, hangs or answers
            with something else.
        mailbox_limit: messages, > 0; None for no limit.
        overflow: what a full mailbox does.
    """

    budget: RestartLimit = RestartLimit()
    fallback: Fallback = "end"
    mailbox_limit: int | None = None
    overflow: Overflow = "error"
