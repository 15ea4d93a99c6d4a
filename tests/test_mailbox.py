"""Where do messages wait, and who may take them out?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kompyct import Component, ComponentRef, Request
from kompyct.errors import ComponentDestroyedError, MailboxFullError
from kompyct.events import ComponentFaulted, DeadLetters
from kompyct.mailbox import CHUNK, BoundedBox, ClosedBox, Mailbox
from kompyct.messages import Envelope
from tests.conftest import LIMIT, Bench

# -- the mailbox by itself ---------------------------------------------------------------------


def test_a_new_mailbox_is_empty_and_lets_messages_wait() -> None:
    """A new component is passive: its mailbox is not asleep, so that no sender wakes it."""
    mailbox = Mailbox()
    assert mailbox.waiting() == 0
    assert mailbox.take_all() == []
    assert not mailbox.asleep
    assert mailbox.flag.acquire(False)


def test_a_turn_takes_a_chunk_at_most() -> None:
    """`CHUNK` bounds what one turn takes; the rest stays in order, newer messages after it."""
    mailbox = Mailbox()
    mailbox.box.extend(range(2 * CHUNK + 10))
    assert mailbox.take(len(mailbox.box)) == [*range(CHUNK)]
    mailbox.box.append("new")
    assert mailbox.waiting() == CHUNK + 11
    assert mailbox.take(len(mailbox.box)) == [*range(CHUNK, 2 * CHUNK)]
    assert mailbox.take_all() == [*range(2 * CHUNK, 2 * CHUNK + 10), "new"]


def test_a_turn_takes_no_more_than_was_waiting_when_it_began() -> None:
    """What came after the turn looked at the length stays for the next turn."""
    mailbox = Mailbox()
    mailbox.box.extend(range(5))
    assert mailbox.take(3) == [0, 1, 2]
    assert mailbox.take_all() == [3, 4]


def test_what_is_put_back_is_the_oldest_again() -> None:
    """Messages put back come before all others, in their order, also into a backlog."""
    mailbox = Mailbox()
    mailbox.box.extend(range(CHUNK + 2))
    chunk = mailbox.take(CHUNK + 2)
    mailbox.put_back(chunk[2:])
    mailbox.put_back([])
    mailbox.box.append("new")
    assert mailbox.take_all() == [*range(2, CHUNK + 2), "new"]


Operation = tuple[str, int, int]

operations = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 2 * CHUNK + 3), st.just(0)),
        # A turn: so many of the chunk are handled, and so many messages come meanwhile.
        st.tuples(st.just("turn"), st.integers(0, CHUNK), st.integers(0, 3)),
        st.tuples(st.just("all"), st.just(0), st.just(0)),
    ),
    max_size=30,
)


@pytest.mark.parametrize("bounded", [False, True])
@given(operations=operations)
def test_nothing_is_lost_or_reordered(bounded: bool, operations: list[Operation]) -> None:
    """Property: whatever is sent, taken and put back, messages are handled once and in order.

    The model is a plain sequence of numbers: handled + waiting is always 0, 1, 2, …
    """
    mailbox = Mailbox()
    if bounded:
        mailbox.box = BoundedBox(100_000, "error", lambda message: None)
    sent = 0
    handled: list[int] = []

    def send(count: int) -> int:
        for number in range(sent, sent + count):
            mailbox.box.append(number)
        return sent + count

    for operation, number, meanwhile in operations:
        if operation == "send":
            sent = send(number)
        elif operation == "turn":
            waiting = len(mailbox.box)
            sent = send(meanwhile)
            chunk = mailbox.take(waiting)
            assert len(chunk) <= CHUNK
            handled += chunk[:number]
            sent = send(meanwhile)
            mailbox.put_back(chunk[number:])
        else:
            messages = mailbox.take_all()
            assert messages == [*range(len(handled), sent)]
            mailbox.put_back(messages)
        assert mailbox.waiting() == sent - len(handled)
    assert handled + mailbox.take_all() == [*range(sent)]


def test_many_senders_lose_nothing_and_keep_their_own_order() -> None:
    """Four threads append while one takes: every message comes once, each sender's in order."""
    mailbox = Mailbox()
    taken: list[tuple[int, int]] = []

    def send(sender: int) -> None:
        for number in range(2000):
            mailbox.box.append((sender, number))

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for thread in senders:
        thread.start()
    while any(thread.is_alive() for thread in senders) or mailbox.waiting():
        chunk = mailbox.take(len(mailbox.box))
        taken += chunk[:100]
        mailbox.put_back(chunk[100:])
    for sender in range(4):
        assert [number for who, number in taken if who == sender] == [*range(2000)]


# -- the box of a component that ends ----------------------------------------------------------


def test_a_closed_box_refuses_and_still_gives_out_what_came_late() -> None:
    """A sender that took hold of the box before it was closed appends to the old one."""
    refused: list[Any] = []
    old = ["late"]
    mailbox = Mailbox()
    mailbox.box = ClosedBox(refused.append, old)
    mailbox.box.append("new")
    old.append("later")
    assert refused == ["new"]
    assert len(mailbox.box) == 2
    assert mailbox.take_all() == ["late", "later"]
    mailbox.put_back(["back"])
    assert refused == ["new", "back"]


def test_a_closed_box_over_a_bounded_one_gives_out_what_came_late() -> None:
    """As above, where the box before was bounded."""
    bounded = BoundedBox(3, "error", lambda message: None)
    bounded.append("late")
    mailbox = Mailbox()
    mailbox.box = ClosedBox(lambda message: None, bounded)
    assert mailbox.take_all() == ["late"]


# -- the bounded box ---------------------------------------------------------------------------


def bounded_box(limit: int, overflow: str) -> tuple[BoundedBox, list[Any]]:
    refused: list[Any] = []
    return BoundedBox(limit, overflow, refused.append), refused


def tick() -> Envelope:
    return Envelope(None, lambda component: None)


def test_a_full_box_raises_under_error() -> None:
    """S-20: `MailboxFullError`, which names the limit and the way out."""
    box, refused = bounded_box(2, "error")
    box.append(1)
    box.append(2)
    with pytest.raises(MailboxFullError, match=r"limit of 2 .*overflow='drop_new'"):
        box.append(3)
    assert box.take(5) == [1, 2]
    assert refused == []


def test_a_full_box_drops_the_new_message_under_drop_new() -> None:
    """S-20: with `drop_new` the message that finds no place is refused."""
    box, refused = bounded_box(2, "drop_new")
    for number in range(4):
        box.append(number)
    assert refused == [2, 3]
    assert box.take(5) == [0, 1]


def test_a_full_box_drops_the_oldest_message_under_drop_old() -> None:
    """S-20: with `drop_old` the oldest gives its place."""
    box, refused = bounded_box(2, "drop_old")
    for number in range(4):
        box.append(number)
    assert refused == [0, 1]
    assert box.take(5) == [2, 3]


@pytest.mark.parametrize("overflow", ["error", "drop_new", "drop_old"])
def test_ticks_always_find_a_place(overflow: str) -> None:
    """S-20: control is exempt: a tick is taken by a full box and drops nothing."""
    box, refused = bounded_box(1, overflow)
    box.append("message")
    ticks = [tick(), tick()]
    for each in ticks:
        box.append(each)
    assert refused == []
    assert box.take(5) == ["message", *ticks]


@pytest.mark.parametrize("overflow", ["error", "drop_new", "drop_old"])
def test_ticks_take_no_place_of_messages(overflow: str) -> None:
    """S-20: exempt means not counted either: beside a tick there is room for `limit` messages."""
    box, refused = bounded_box(1, overflow)
    each = tick()
    box.append(each)
    box.append("message")
    assert refused == []
    assert box.take(5) == [each, "message"]


def test_a_tick_is_never_what_drop_old_drops() -> None:
    """S-20: control is exempt: the oldest *message* gives its place, not a tick before it."""
    box, refused = bounded_box(1, "drop_old")
    each = tick()
    box.append(each)
    box.append("old")
    box.append("new")
    assert refused == ["old"]
    assert box.take(5) == [each, "new"]


# -- bounded mailboxes of components -----------------------------------------------------------


@dataclass(frozen=True)
class Seen(Request[list[Any]]):
    """Ask what was handled so far."""


class Recorder(Component[Any]):
    """Notes what it handles; calls what can be called."""

    def __init__(self, seen: list[Any] | None = None) -> None:
        self.seen: list[Any] = [] if seen is None else seen

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Seen):
            return self.seen
        if callable(message):
            return message(self)
        self.seen.append(message)
        return None


def started(bench: Bench, ref: ComponentRef[Any]) -> ComponentRef[Any]:
    bench.system.start(ref).result(LIMIT)
    return ref


def test_a_full_mailbox_refuses_tells_and_asks(bench: Bench) -> None:
    """S-20: `mailbox_limit=2`: the third message raises `MailboxFullError` to its sender."""
    seen: list[Any] = []
    ref = bench.system.create(lambda: Recorder(seen), mailbox_limit=2)
    ref.tell(1)
    ref.tell(2)
    with pytest.raises(MailboxFullError, match="limit of 2"):
        ref.tell(3)
    with pytest.raises(MailboxFullError):
        ref.ask(Seen())
    with pytest.raises(MailboxFullError):
        ref.ask(Seen(), block=False)
    started(bench, ref)
    bench.until(lambda: seen == [1, 2])


def test_a_full_mailbox_makes_a_dead_letter_of_the_new_message(bench: Bench) -> None:
    """S-20: `overflow="drop_new"`: as dead letters."""
    seen: list[Any] = []
    ref = bench.system.create(
        lambda: Recorder(seen), name="r", mailbox_limit=2, overflow="drop_new"
    )
    for number in (1, 2, 3):
        ref.tell(number)
    letters = bench.event(DeadLetters)
    assert (letters.path, letters.count, letters.types) == ("r", 1, ("int",))
    assert "full" in letters.reason
    started(bench, ref)
    bench.until(lambda: seen == [1, 2])


def test_a_full_mailbox_makes_a_dead_letter_of_the_oldest_message(
    make_bench: Callable[..., Bench],
) -> None:
    """S-20: `overflow="drop_old"`: as dead letters, which the undelivered hook gets."""
    undelivered: list[Any] = []
    bench = make_bench(on_undelivered=lambda path, message: undelivered.append(message))
    seen: list[Any] = []
    ref = bench.system.create(lambda: Recorder(seen), mailbox_limit=2, overflow="drop_old")
    for number in (1, 2, 3):
        ref.tell(number)
    bench.event(DeadLetters)
    bench.until(lambda: undelivered == [1])
    started(bench, ref)
    bench.until(lambda: seen == [2, 3])


def test_an_ask_dropped_by_a_full_mailbox_fails_at_once_and_says_why(bench: Bench) -> None:
    """S-20: the asker is told that the mailbox is full, not that the component has ended."""
    dropped_new = bench.system.create(Recorder, mailbox_limit=1, overflow="drop_new")
    dropped_new.tell(1)
    with pytest.raises(MailboxFullError):
        dropped_new.ask(Seen())
    dropped_old = bench.system.create(Recorder, mailbox_limit=1, overflow="drop_old")
    future = dropped_old.ask(Seen(), block=False)
    dropped_old.tell(1)
    with pytest.raises(MailboxFullError):
        future.result(LIMIT)


def test_what_a_turn_has_taken_still_counts_until_it_is_handled(bench: Bench) -> None:
    """`create`: "mailbox_limit: messages that may wait". Three wait; while the first is handled
    two still do, so there is room for one more and not for three.
    """
    outcomes: list[str] = []
    ref = bench.system.create(Recorder, mailbox_limit=3)

    def fill(component: Any) -> None:
        for number in (3, 4, 5):
            try:
                component.ref.tell(number)
            except MailboxFullError:
                outcomes.append("full")
            else:
                outcomes.append("taken")

    for message in (fill, 1, 2):
        ref.tell(message)
    started(bench, ref)
    bench.until(lambda: len(outcomes) == 3)
    assert outcomes == ["taken", "full", "full"]


@pytest.mark.parametrize("overflow", ["error", "drop_new", "drop_old"])
def test_a_flood_does_not_stop_a_timer(bench: Bench, overflow: str) -> None:
    """S-20: ticks are exempt, whatever floods the mailbox; S-04: the timer ticks on."""
    ticks: list[int] = []

    class Ticking(Recorder):
        def on_start(self) -> None:
            self.schedule_periodic(0.01, 0.01, lambda: ticks.append(1))

    ref = started(bench, bench.system.create(Ticking, mailbox_limit=1, overflow=overflow))  # type: ignore[arg-type]

    def flood(component: Any) -> None:
        # Two periods pass within this handler, so that a tick waits; then messages crowd in.
        if bench.manual:
            clock = component.system.clock
            clock.ring_next(clock.now() + 20_000_000)
        else:
            threading.Event().wait(0.03)
        for number in range(3):
            try:
                component.ref.tell(number)
            except MailboxFullError:
                break

    ref.tell(flood)
    before = len(ticks)
    for _ in range(5):
        bench.pass_time(0.01)
    bench.until(lambda: len(ticks) >= before + 3)
    assert not bench.events.of(ComponentFaulted)


def test_signals_reach_a_component_whose_mailbox_is_full(bench: Bench) -> None:
    """S-20: control is exempt: start, stop and kill work over a full mailbox."""
    ref = bench.system.create(Recorder, mailbox_limit=1)
    ref.tell(1)
    bench.system.start(ref).result(LIMIT)
    bench.system.stop(ref).result(LIMIT)
    bench.until(lambda: _told(ref) is False)
    bench.system.kill(ref).result(LIMIT)
    with pytest.raises(ComponentDestroyedError):
        ref.ask(Seen())


def _told(ref: ComponentRef[Any]) -> bool:
    try:
        ref.tell(2)
    except MailboxFullError:
        return False
    return True


def test_a_kill_after_messages_works_over_a_full_mailbox(bench: Bench) -> None:
    """S-20, S-02: the order to end after the messages is control; messages that drop older ones
    do not drop it.
    """
    ref = started(bench, bench.system.create(Recorder, mailbox_limit=1, overflow="drop_old"))

    def flood(component: Any) -> None:  # the order to end waits behind this message
        for number in range(3):
            component.ref.tell(number)

    def end(component: Any) -> None:
        component.kill_self(after_messages=True)
        component.ref.tell(flood)

    ref.tell(end)
    bench.until(lambda: not ref.is_alive)


def test_a_bounded_mailbox_takes_messages_again_when_there_is_room(bench: Bench) -> None:
    """S-20: the limit is on what waits, not on how many there ever were: 500 pass through."""
    seen: list[Any] = []
    ref = started(bench, bench.system.create(lambda: Recorder(seen), mailbox_limit=3))
    for number in range(500):
        bench.until(lambda number=number: _sent(ref, number))  # type: ignore[misc]
    bench.until(lambda: len(seen) == 500)
    assert seen == [*range(500)]


def _sent(ref: ComponentRef[Any], message: Any) -> bool:
    try:
        ref.tell(message)
    except MailboxFullError:
        return False
    return True
