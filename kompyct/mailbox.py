"""Where do messages wait, and who may take them out?

A mailbox serves any number of senders and one turn at a time. `flag` is the right to run a turn:
held from the moment the cell becomes ready until the turn's end. `asleep` is a hint read before
trying it: "the next sender must look". It is True when the mailbox is idle, False while a turn
runs and while messages are to wait (passive, faulty). Only a holder of the flag writes it.

A sender appends to `box`, then looks at `asleep`. A turn's end sets `asleep`, gives the flag back,
then looks at `box` once more. Whichever of the two is second sees the other: no wake-up is lost.
A stale True costs a sender one try at the flag; `asleep` is never False when it must be True.
This needs the two stores and loads to be seen in order, as the GIL ensures; a free-threaded
build would have to try the flag at every send (`ComponentRef.tell`).

Senders only append and the turn only removes, so taking the first n needs no lock. A long box is
turned round once into `backlog`, a stack: taking a prefix again and again would cost O(n) each.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kompyct.errors import MailboxFullError
from kompyct.messages import Envelope

CHUNK = 256
"""Messages a turn takes at most: the bound on fairness, and on how long handled ones are kept."""


class Mailbox:
    """The waiting messages and signals of one component."""

    __slots__ = ("asleep", "backlog", "box", "control", "flag", "hand", "handled", "has_asks")

    def __init__(self) -> None:
        self.box: Any = []  # a list, a BoundedBox or a ClosedBox: all have append and len
        self.backlog: list[Any] | None = None  # older than all in the box, newest first
        self.control: tuple[Any, ...] = ()  # signals, which overtake messages; see `signal`
        self.flag = allocate_lock()
        self.asleep = False  # a new component is passive: messages are to wait
        self.has_asks = False  # set after an ask was appended, cleared before they are looked for
        self.handled = 0  # messages taken for handling so far, the one in hand included
        self.hand: Any = None  # the iterator over the chunk in hand, if it has more than one

    def take(self, waiting: int) -> list[Any]:
        """The oldest messages, at most CHUNK; `waiting` of the box may be taken.

        Of a bounded box one at a time: what a turn has taken would no longer count.
        """
        box = self.box
        backlog = self.backlog
        if backlog is None:
            if type(box) is not list:
                return box.take(min(waiting, 1))  # type: ignore[no-any-return]
            if waiting <= CHUNK:
                chunk = box[:waiting]
                del box[:waiting]
                return chunk
            backlog = box[:waiting]
            del box[:waiting]
            backlog.reverse()
        chunk = backlog[: -CHUNK - 1 : -1]
        del backlog[-CHUNK:]
        self.backlog = backlog or None
        return chunk

    def put_back(self, messages: Sequence[Any]) -> None:
        """Make `messages` the oldest again. By the holder of the flag."""
        if not messages:
            return
        if self.backlog is not None:
            self.backlog.extend(reversed(messages))
        elif type(self.box) is list:
            self.backlog = [*reversed(messages)]
        else:
            self.box.put_back(messages)

    def take_all(self) -> list[Any]:
        """Everything that waits, oldest first. By the holder of the flag."""
        messages = self.backlog[::-1] if self.backlog else []
        self.backlog = None
        while waiting := len(self.box):
            messages += self.take(waiting)
            if self.backlog:
                messages += self.backlog[::-1]
                self.backlog = None
        return messages

    def types(self, known: int) -> tuple[Iterable[type], int]:
        """The types, each once, of what waits but for the `known` oldest; and how many wait.

        By the holder of the flag. It costs 16 ns for each that is not known.
        """
        box = self.box if type(self.box) is list else self.box.every()
        backlog = self.backlog or []
        older = len(backlog)
        rest = min(max(known - older, 0), len(box))
        newer = box[rest:]  # once: senders append
        types = [*map(type, newer), *map(type, backlog[: max(older - known, 0)])]
        waiting = older + rest + len(newer)
        try:
            return set(types), waiting
        except BaseException:  # a metaclass that cannot be hashed
            return dict(zip(map(id, types), types, strict=True)).values(), waiting

    def waiting(self) -> int:
        """How many messages wait; right only for the holder of the flag, else a hint."""
        return len(self.box) + len(self.backlog or ())


class BoundedBox:
    """The box of the component at `path`, of at most `limit` messages; ticks are exempt.

    `refuse` is called, outside the lock, with the message that found no place (`drop_new`) or
    lost it (`drop_old`).
    """

    __slots__ = ("_exempt", "_lock", "_messages", "limit", "overflow", "path", "refuse")

    def __init__(
        self, limit: int, overflow: str, refuse: Callable[[Any], None], path: str = "?"
    ) -> None:
        self._lock = allocate_lock()  # protects _messages and _exempt
        self._messages: list[Any] = []
        self._exempt = 0  # how many of them are
        self.path = path
        self.limit = limit
        self.overflow = overflow
        self.refuse = refuse

    def append(self, message: Any) -> None:
        """Take `message` in.

        Raises:
            MailboxFullError: there is no place and `overflow` is "error".
        """
        messages = self._messages
        if _is_exempt(message):
            with self._lock:
                messages.append(message)
                self._exempt += 1
            return
        with self._lock:
            if len(messages) - self._exempt < self.limit:
                messages.append(message)
                return
            if self.overflow == "error":
                raise MailboxFullError(
                    f"the mailbox of component {self.path!r} holds its limit of {self.limit} "
                    "messages; send less, handle faster, or choose overflow='drop_new' "
                    "or 'drop_old'"
                )
            refused = message
            if self.overflow == "drop_old":
                oldest = next(i for i, kept in enumerate(messages) if not _is_exempt(kept))
                refused = messages.pop(oldest)
                messages.append(message)
        self.refuse(refused)

    def take(self, count: int) -> list[Any]:
        with self._lock:
            chunk = self._messages[:count]
            del self._messages[:count]
            self._exempt -= sum(map(_is_exempt, chunk))
        return chunk

    def pop(self, index: int) -> Any:
        # The turn saw at least one, and senders never make them fewer: this cannot fail.
        with self._lock:
            message = self._messages.pop(index)
            self._exempt -= _is_exempt(message)
        return message

    def every(self) -> Sequence[Any]:
        """All that wait."""
        with self._lock:
            return tuple(self._messages)

    def put_back(self, messages: Sequence[Any]) -> None:
        with self._lock:
            self._messages[:0] = messages
            self._exempt += sum(map(_is_exempt, messages))

    def __len__(self) -> int:
        return len(self._messages)


def _is_exempt(message: Any) -> bool:
    """Whether this is a tick of a timer, or the end of `kill(after_messages=True)`."""
    return type(message) is Envelope and message.done is None


class ClosedBox:
    """The box of a component that is ending or has ended: it keeps nothing.

    `refuse` is called with each message, on the sender's thread. `late` is the box from before:
    a sender may have taken hold of it just before it was replaced, and append to it still.
    """

    __slots__ = ("late", "refuse")

    def __init__(self, refuse: Callable[[Any], None], late: Any) -> None:
        self.refuse = refuse
        self.late = late

    def append(self, message: Any) -> None:
        self.refuse(message)

    def take(self, count: int) -> list[Any]:
        late = self.late
        if type(late) is not list:
            return late.take(count)  # type: ignore[no-any-return]
        chunk: list[Any] = late[:count]
        del late[:count]
        return chunk

    def every(self) -> Sequence[Any]:
        """Nothing that would meet another incarnation."""
        return ()

    def put_back(self, messages: Sequence[Any]) -> None:
        for message in messages:
            self.refuse(message)

    def __len__(self) -> int:
        return len(self.late)
