"""How does a message find its way to one of several components, or to all?

A route chooses among the members of a group, or of a fixed list of refs. It is a plain object of
whoever sends, and takes no lock: it reads the tuple of members once.

In a component's own process nobody knows the members of a group. There a tell goes to the system's
process with what the choice depends on (a count, the digest of a key), and is chosen for there; an
ask fetches the members first. So no route sends by an old list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from itertools import count
from typing import Any, Generic, Literal, TypeVar, overload

from kompyct.clock import SECOND, lock_timeout
from kompyct.errors import ArgumentError, ArgumentTypeError, MailboxFullError, NoMembersError
from kompyct.groups import Choice, Group
from kompyct.keys import Key, digest_of, heaviest, seed_of
from kompyct.messages import Request, new_ask
from kompyct.ref import ASK_TIMEOUT, ComponentRef

M = TypeVar("M", contravariant=True)
R = TypeVar("R")
Refs = tuple[ComponentRef[Any], ...]


class _Fixed:
    """A list of refs that stays as it is."""

    def __init__(self, refs: Refs) -> None:
        self.refs = refs

    def members(self) -> Refs:
        return self.refs

    def tell_chosen(self, choice: Choice, message: Any) -> None:
        """Never called: there always are some."""


class Route(Generic[M]):
    """What the routes have in common."""

    def __init__(self, members: Group[M] | Iterable[ComponentRef[M]]) -> None:
        self._members: Any = members
        if not hasattr(members, "tell_chosen"):
            self._members = _Fixed(_checked(members))

    def members(self) -> tuple[ComponentRef[M], ...]:
        """Those among whom it chooses now."""
        found: tuple[ComponentRef[M], ...] = self._members.members()
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        members = self._members
        return type(self), (members.refs if isinstance(members, _Fixed) else members,)

    def _known(self) -> Refs:
        """The members, at least one.

        Raises:
            NoMembersError: there is none.
        """
        refs: Refs = self._members.refs or self._members.members()
        if not refs:
            raise NoMembersError(
                f"group {self._members.name!r} has no members; have somebody join it"
            )
        return refs


class _ToOne(Route[M]):
    """A route that chooses one member for each message."""

    @overload
    def ask(
        self, request: Request[R], timeout: float | None = ..., *, block: Literal[True] = ...
    ) -> R: ...
    @overload
    def ask(
        self, request: Request[R], timeout: float | None = ..., *, block: Literal[False]
    ) -> Future[R]: ...

    def ask(
        self, request: Request[Any], timeout: float | None = ASK_TIMEOUT, *, block: bool = True
    ) -> Any:
        """Ask the one it chooses; see `ComponentRef.ask`.

        Raises:
            NoMembersError: the group has no members.
            Exception: as `ComponentRef.ask`.
        """
        ref = self._choose(request)
        return ref.ask(request, timeout, block=block)  # type: ignore[call-overload]

    async def ask_async(self, request: Request[R], timeout: float | None = ASK_TIMEOUT) -> R:
        """`ask` for a coroutine; see `ComponentRef.ask_async`.

        Raises: as `ask`.
        """
        return await self._choose(request).ask_async(request, timeout)

    def _choose(self, message: Any) -> ComponentRef[Any]:
        raise NotImplementedError


class RoundRobin(_ToOne[M]):
    """Sends to one member after the other, in the order in which they have joined.

    For any thread. Each route counts by itself, a pickled copy from the beginning. Two threads
    never get the same number, so that the members get their shares whoever sends.
    """

    def __init__(self, members: Group[M] | Iterable[ComponentRef[M]]) -> None:
        """Make a route.

        Args:
            members: a group, whose members may change; or refs, to which it keeps sending when
                they have ended.

        Raises:
            ArgumentError, ArgumentTypeError: there are no refs, or something else.
        """
        Route.__init__(self, members)
        # One operation of an object of C: the GIL, or its own lock without one, makes it atomic.
        self._turns = count()

    def tell(self, message: M) -> None:
        """Send `message` to the one whose turn it is; see `ComponentRef.tell`.

        Without members it is a dead letter.

        Raises:
            MailboxFullError: as `ComponentRef.tell`.
        """
        members = self._members
        refs = members.refs
        if refs:
            refs[next(self._turns) % len(refs)].tell(message)
        else:
            members.tell_chosen(next(self._turns), message)

    def _choose(self, message: Any) -> ComponentRef[Any]:
        refs = self._known()
        return refs[next(self._turns) % len(refs)]


class ByKey(_ToOne[M]):
    """Sends all messages of one key to the same member, as long as that is one.

    By rendezvous hashing: of key and path of each member a weight is made, the heaviest is chosen.
    So when a member leaves, only its keys move, evenly to the others; one that joins takes its
    share from each. It depends on keys and paths alone: every process chooses the same, and so
    does the next run of the program if the members have names.
    """

    def __init__(
        self, members: Group[M] | Iterable[ComponentRef[M]], key: Callable[[M], Key]
    ) -> None:
        """Make a route.

        Args:
            members: as for `RoundRobin`.
            key: the key of a message; it is called by whoever sends. For routes that are pickled,
                a function of a module.

        Raises:
            ArgumentError, ArgumentTypeError: there are no refs, or something else; `key` is not
                callable.
        """
        Route.__init__(self, members)
        if not callable(key):
            raise ArgumentTypeError(f"key is {key!r}; give a function of the message")
        self._key = key
        self._seeds: tuple[Refs, list[int]] = ((), [])  # of the members, when last used

    def tell(self, message: M) -> None:
        """Send `message` to the one that its key chooses; see `ComponentRef.tell`.

        Without members it is a dead letter.

        Raises:
            ArgumentTypeError: the key is of another type than `Key`.
            MailboxFullError: as `ComponentRef.tell`.
            Exception: what the key's function raises.
        """
        digest = digest_of(self._key(message))
        members = self._members
        refs = members.refs
        if refs:
            self._heaviest(refs, digest).tell(message)
        else:
            members.tell_chosen(digest, message)

    def _choose(self, message: Any) -> ComponentRef[Any]:
        return self._heaviest(self._known(), digest_of(self._key(message)))

    def _heaviest(self, refs: Refs, digest: bytes) -> ComponentRef[Any]:
        known, seeds = self._seeds
        if known is not refs:
            seeds = [seed_of(ref.path) for ref in refs]
            self._seeds = (refs, seeds)  # in one go: others may be reading it
        return refs[heaviest(seeds, digest)]

    def __reduce__(self) -> tuple[Any, ...]:
        kind, arguments = Route.__reduce__(self)
        return kind, (*arguments, self._key)


class Broadcast(Route[M]):
    """Sends to every member."""

    def tell(self, message: M) -> None:
        """Send `message` to each member; see `ComponentRef.tell`.

        Without members it is a dead letter, one.

        Raises:
            MailboxFullError: the mailbox of at least one is full; the others have the message.
        """
        members = self._members
        refs = members.refs
        if not refs:
            members.tell_chosen(None, message)
            return
        full: MailboxFullError | None = None
        for ref in refs:
            try:
                ref.tell(message)
            except MailboxFullError as error:
                full = full or error
        if full is not None:
            raise full

    def ask(self, request: Request[R], timeout: float | None = ASK_TIMEOUT) -> list[R]:
        """Ask each member, all at once, and wait for all the replies.

        Asks that wait for each other in a circle are not found here; they time out.

        Args:
            timeout: seconds, >= 0, for all together; None waits for ever.

        Returns: the replies, in the order of `members()`.

        Raises:
            NoMembersError: the group has no members.
            MailboxFullError: the mailbox of at least one is full; the others are asked, and
                their replies are dropped.
            Exception: as `ComponentRef.ask`, of the first member whose ask fails. The others
                handle theirs, and the replies are dropped.
        """
        limit = lock_timeout(timeout)
        refs = self._known()
        sent = []
        full: MailboxFullError | None = None
        for ref in refs:
            envelope = new_ask(request)
            try:
                ref._cell.send_ask(envelope)
            except MailboxFullError as error:
                full = full or error
            else:
                sent.append((ref, envelope))
        if full is not None:
            raise full
        clock = next((ref._cell.runtime.clock for ref in refs if ref._cell.runtime.backend), None)
        until = None if clock is None or limit == -1 else clock.now() + round(limit * SECOND)
        replies: list[R] = []
        for ref, envelope in sent:
            left = timeout
            if clock is not None and until is not None:
                left = max(until - clock.now(), 0) / SECOND
            replies.append(ref._await_reply(envelope, left))
        return replies


def choose(group: Group[Any], choice: Choice) -> Sequence[ComponentRef[Any]]:
    """Those members whom a tell of a component in another process means; none if there is none."""
    refs = group.refs
    if not refs or choice is None:
        return refs
    if isinstance(choice, int):
        return (refs[choice % len(refs)],)
    return (refs[heaviest([seed_of(ref.path) for ref in refs], choice)],)


def _checked(members: Any) -> Refs:
    try:
        refs = tuple(members)
    except TypeError as error:
        raise ArgumentTypeError(
            f"members is {members!r}; give a group, or several component refs"
        ) from error
    for ref in refs:
        if not isinstance(ref, ComponentRef):
            raise ArgumentTypeError(f"members has {ref!r}; give a group, or component refs")
    if not refs:
        raise ArgumentError("members is empty; give at least one ref, or a group")
    return refs
