"""Does a route choose whom it should, whoever sends, and tell when there is nobody?"""

from __future__ import annotations

import asyncio
import pickle
import threading
from functools import partial
from typing import Any

import pytest

from kompyct import Broadcast, ByKey, ComponentSystem, RoundRobin
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    AskTimeoutError,
    ComponentDestroyedError,
    MailboxFullError,
    NoMembersError,
    UnpicklableError,
)
from kompyct.events import DeadLetters
from kompyct.testing import TestSystem
from tests.conftest import LIMIT
from tests.process import components
from tests.process.components import Do, Get, again
from tests.watching.components import OnlyHere, Watcher
from tests.watching.conftest import WatchBench


def joined(bench: WatchBench, count: int, **options: Any) -> tuple[Any, list[Any]]:
    """A group with that many members, which keep the texts that they are told."""
    group = bench.system.group("workers")
    ones = [bench.watcher(name=f"worker {n}", **options) for n in range(count)]
    for one in ones:
        group.join(one)
    return group, ones


def texts(ones: list[Any]) -> list[list[str]]:
    """What each was told."""
    return [one.ask(Get()) for one in ones]


def key_of_text(message: Any) -> str:
    """The first letter."""
    return str(message)[:1]


def key_of_request(message: Any) -> Any:
    """The first of the arguments."""
    return message.arguments[0]


def send_all(component: Any, route: Any, messages: tuple[Any, ...]) -> None:
    """Send by a route that came in a message."""
    for message in messages:
        route.tell(message)


def ask_by(component: Any, route: Any, request: Any) -> Any:
    """Ask by a route that came in a message."""
    return route.ask(request)


def ask_later_by(component: Any, route: Any, request: Any) -> Any:
    """Ask by a route in the other two ways."""
    later = route.ask(request, block=False).result(LIMIT)
    return later, asyncio.run(route.ask_async(request, timeout=LIMIT))


def name_of(component: Any) -> str:
    """The name of the component that is asked."""
    return str(component.ref.name)


def name_for(component: Any, key: str) -> str:
    """As `name_of`, of a request with a key."""
    return str(component.ref.name)


# -- round robin -----------------------------------------------------------------------------


def test_round_robin_takes_turns(bench: WatchBench) -> None:
    """Given three members and seven messages, then each gets every third, in order."""
    group, ones = joined(bench, 3)
    route = RoundRobin(group)
    for letter in "abcdefg":
        route.tell(letter)
    bench.until(lambda: texts(ones) == [["a", "d", "g"], ["b", "e"], ["c", "f"]])
    assert [route.ask(Do(name_of)) for _ in range(3)] == ["worker 1", "worker 2", "worker 0"]


def test_round_robin_follows_the_group(bench: WatchBench) -> None:
    """Given members that end and join, then messages go to those that are there; one that is
    restarted stays."""
    group, ones = joined(bench, 2)
    route = RoundRobin(group)
    route.tell("a")
    bench.end(ones[0])
    route.tell("b")
    third = bench.started(partial(Watcher, (), recovery=again), name="third")
    group.join(third)
    route.tell("c")  # the third message: 2 % 2
    route.tell("d")
    bench.until(lambda: texts([ones[1], third]) == [["b", "c"], ["d"]])
    third.tell(Do(components.fail))
    bench.until(lambda: third.incarnation == 2 and third.state.value == "active")
    assert route.members() == (ones[1], third)


def test_threads_get_their_turns_apart() -> None:
    """Given four threads that send by one route, then the shares of five members are equal."""
    with ComponentSystem(backend="pool") as system:
        ones: list[Any] = [system.create(Watcher, start=True) for _ in range(5)]
        route: RoundRobin[Any] = RoundRobin(ones)
        threads = [
            threading.Thread(target=send_all, args=(None, route, ("x",) * 250)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        assert [len(one.ask(Get())) for one in ones] == [200] * 5


# -- by key ----------------------------------------------------------------------------------


def test_messages_of_a_key_go_to_one_member_in_order(bench: WatchBench) -> None:
    """Given messages of 26 keys, then those of a key are with one member, in the order sent, and a
    route made anew, of a list of the same refs in another order, chooses the same ones."""
    group, ones = joined(bench, 4)
    route = ByKey(group, key=key_of_text)
    letters = [chr(ord("a") + n % 26) + str(n // 26) for n in range(78)]
    for text in letters[:52]:
        route.tell(text)
    other = ByKey(ones[::-1], key=key_of_text)
    for text in letters[52:]:
        other.tell(text)
    bench.until(lambda: sum(map(len, texts(ones))) == 78)
    holders: dict[str, set[int]] = {}
    for number, told in enumerate(texts(ones)):
        for text in told:
            holders.setdefault(text[0], set()).add(number)
        for letter in {text[0] for text in told}:
            of_key = [text for text in told if text[0] == letter]
            assert of_key == [f"{letter}0", f"{letter}1", f"{letter}2"]
    assert all(len(who) == 1 for who in holders.values())
    assert len({number for who in holders.values() for number in who}) > 1
    by_request = ByKey(group, key=key_of_request)
    name = by_request.ask(Do(name_for, ("a",)))
    assert name == f"worker {holders['a'].pop()}"


def test_when_a_member_leaves_only_its_keys_move() -> None:
    """Given four members of whom one ends, then the keys of the others stay where they are."""
    with TestSystem() as system:
        ones: list[Any] = [system.create(Watcher, name=f"w{n}", start=True) for n in range(4)]
        group = system.group("workers")
        for one in ones:
            group.join(one)
        route: ByKey[Any] = ByKey(group, key=key_of_request)

        def holders() -> dict[str, str]:
            return {str(n): route.ask(Do(name_for, (str(n),))) for n in range(100)}

        before = holders()
        system.kill(ones[2]).result()
        after = holders()
        moved = {key for key in before if before[key] != after[key]}
        assert moved == {key for key in before if before[key] == "w2"}
        assert {after[key] for key in moved} == {"w0", "w1", "w3"}


def test_a_key_that_is_none_is_refused() -> None:
    """Given a key of another type, or a function that raises, then the sender gets the error."""
    with TestSystem() as system:
        one: Any = system.create(Watcher, start=True)
        refused: ByKey[Any] = ByKey([one], key=lambda message: 1.5)  # type: ignore[arg-type, return-value]
        with pytest.raises(ArgumentTypeError, match="the key is a float"):
            refused.tell("a")
        raising: ByKey[Any] = ByKey([one], key=lambda message: message.missing)
        with pytest.raises(AttributeError):
            raising.ask(Get())
        assert one.ask(Get()) == []


# -- broadcast -------------------------------------------------------------------------------


def test_a_broadcast_reaches_every_member(bench: WatchBench) -> None:
    """Given three members, then each gets the message, and an ask returns all the replies."""
    group, ones = joined(bench, 3)
    route = Broadcast(group)
    route.tell("a")
    bench.until(lambda: texts(ones) == [["a"]] * 3)
    assert route.ask(Do(name_of)) == ["worker 0", "worker 1", "worker 2"]
    assert Broadcast(ones[:1]).ask(Do(name_of), timeout=None) == ["worker 0"]


def test_a_broadcast_ask_fails_as_one_of_its_asks_does(bench: WatchBench) -> None:
    """Given a member that ends, or one whose handler raises, then the ask raises that."""
    ones = [bench.watcher() for _ in range(3)]
    route = Broadcast(ones)
    with pytest.raises(ValueError, match="told so"):
        route.ask(Do(_fail_in_the_second, (ones[1].path,)))
    bench.until(lambda: not ones[1].is_alive)
    with pytest.raises(ComponentDestroyedError):
        route.ask(Get())


def _fail_in_the_second(component: Any, path: str) -> None:
    if component.ref.path == path:
        raise ValueError("told so")


def test_the_timeout_of_a_broadcast_is_for_all_together() -> None:
    """Given a member that replies after 3 s, as it is started then, and one that never does, when
    they are asked with a timeout of 4 s, then the ask gives up after 4 s, not after 7."""
    with TestSystem() as system:
        late, never = (system.create(Watcher) for _ in range(2))
        system.start(system.create(partial(_Starter, late, 3.0))).result()
        with pytest.raises(AskTimeoutError):
            Broadcast([late, never]).ask(Get(), timeout=4.0)
        assert system.time == 4.0
        with pytest.raises(ArgumentError, match="timeout"):
            Broadcast([late]).ask(Get(), timeout=-1)


class _Starter(Watcher):
    """Starts another component after a while."""

    def __init__(self, ref: Any, delay: float) -> None:
        super().__init__()
        self.late = ref
        self.delay = delay

    def on_start(self) -> None:
        self.schedule_once(self.delay, lambda: self.system.start(self.late))


def test_a_broadcast_ask_of_those_who_are_passive_times_out(make_bench: Any) -> None:
    """S-16: Given passive members, then the ask gives up."""
    bench = make_bench()
    ones = [bench.system.create(Watcher) for _ in range(3)]
    with pytest.raises(AskTimeoutError):
        Broadcast(ones).ask(Get(), timeout=0.05)


def test_a_broadcast_reaches_those_behind_a_full_mailbox(bench: WatchBench) -> None:
    """Given a member whose mailbox is full, then the others get the message, and the sender the
    error."""
    ones = [bench.watcher(mailbox_limit=1), bench.watcher()]
    bench.system.stop(ones[0]).result(LIMIT)
    route = Broadcast(ones)
    route.tell("a")
    with pytest.raises(MailboxFullError):
        route.tell("b")
    bench.until(lambda: ones[1].ask(Get()) == ["a", "b"])


# -- nobody there ----------------------------------------------------------------------------

ROUTES: list[Any] = [RoundRobin, Broadcast, partial(ByKey, key=key_of_text)]
IDS = ["round robin", "broadcast", "by key"]


@pytest.mark.parametrize("kind", ROUTES, ids=IDS)
def test_without_members_a_tell_is_a_dead_letter_and_an_ask_fails(kind: Any) -> None:
    """B-69: Given a group without members, then a tell is one dead letter, with the name of the
    group, and reaches `on_undelivered`; an ask fails at once."""
    undelivered: list[Any] = []
    with TestSystem(on_undelivered=lambda path, message: undelivered.append((path, message))) as s:
        route = kind(s.group("workers"))
        route.tell("a")
        with pytest.raises(NoMembersError, match="group 'workers' has no members"):
            route.ask(Get())
        s.run_until_idle()
        (event,) = s.events.of(DeadLetters)
        assert (event.component_id, event.path, event.count, event.types, event.reason) == (
            0, "group:workers", 1, ("str",), "the group has no members",
        )  # fmt: skip
        assert undelivered == [("group:workers", "a")]
        one: Any = s.create(Watcher, start=True)
        s.group("workers").join(one)
        route.tell("b")
        assert one.ask(Get()) == ["b"]


@pytest.mark.parametrize("kind", ROUTES, ids=IDS)
def test_what_is_no_list_of_members_is_refused(kind: Any) -> None:
    """Given no refs, or something else, then no route is made."""
    with TestSystem() as system:
        one: Any = system.create(Watcher)
        with pytest.raises(ArgumentError, match="members is empty"):
            kind([])
        for bad in ([one, "one"], one, one._cell, 7, "one"):
            with pytest.raises(ArgumentTypeError, match=r"members (is|has)"):
                kind(bad)
        assert kind(one for _ in range(2)).members() == (one, one)
        with pytest.raises(ArgumentTypeError, match="key is 7"):
            ByKey([one], key=7)  # type: ignore[arg-type]


def test_a_fixed_list_keeps_its_members() -> None:
    """Given a list of refs of which one has ended, then its turn is a dead letter, and its ask
    fails: who wants such members left out makes a group."""
    with TestSystem() as system:
        ones: list[Any] = [system.create(Watcher, start=True) for _ in range(2)]
        route: RoundRobin[Any] = RoundRobin(ones)
        system.kill(ones[0]).result()
        route.tell("a")
        route.tell("b")
        with pytest.raises(ComponentDestroyedError):
            route.ask(Get())
        assert route.ask(Get()) == ["b"]
        system.run_until_idle()
        assert system.events.of(DeadLetters)[0].count == 1


# -- in a component's own process ------------------------------------------------------------


@pytest.mark.parametrize("fixed", [False, True], ids=["group", "list"])
def test_a_route_works_in_another_process(process_bench: WatchBench, fixed: bool) -> None:
    """Given routes in messages to a component in a process of its own, then they choose there as
    here, members in any process, and keep the order of one sender."""
    bench = process_bench
    group, ones = joined(bench, 2)
    ones.append(bench.watcher(name="worker 2", backend="pool"))
    group.join(ones[2])
    members: Any = ones if fixed else group
    sender = bench.watcher()
    messages = tuple(f"{letter}{n}" for n in range(3) for letter in "abcdef")
    sender.ask(Do(send_all, (RoundRobin(members), messages)))
    bench.until(lambda: texts(ones) == [[*messages[n::3]] for n in range(3)])
    route = ByKey(members, key=key_of_text)
    by_key = ByKey(members, key=key_of_request)
    here = {letter: by_key.ask(Do(name_for, (letter,))) for letter in "abcdef"}
    sender.ask(Do(send_all, (route, messages)))
    bench.until(lambda: sum(map(len, texts(ones))) == 36)
    for number, told in enumerate(texts(ones)):
        mine = {letter for letter, name in here.items() if name == f"worker {number}"}
        assert told[6:] == [text for text in messages if text[0] in mine]
    sender.ask(Do(send_all, (Broadcast(members), ("x", "y"))))
    bench.until(lambda: all(told[-2:] == ["x", "y"] for told in texts(ones)))
    names = [f"worker {n}" for n in range(3)]
    assert sender.ask(Do(ask_by, (Broadcast(members), Do(name_of)))) == names
    assert sender.ask(Do(ask_by, (RoundRobin(members), Do(name_of)))) == names[0]
    assert sender.ask(Do(ask_later_by, (RoundRobin(members), Do(name_of)))) == (names[0], names[1])
    assert sender.ask(Do(ask_by, (by_key, Do(name_for, ("c",))))) == here["c"]


def test_a_route_in_another_process_has_no_old_list(process_bench: WatchBench) -> None:
    """Given a route in another process and members that end and join after it came there, then it
    sends to those that are there now; without any, a tell is a dead letter and an ask fails."""
    bench = process_bench
    bench.events.clear()
    group, ones = joined(bench, 2)
    sender = bench.watcher()
    route = RoundRobin(group)
    sender.ask(Do(_keep, (route,)))
    sender.ask(Do(_send_by_kept, ("a",)))
    bench.until(lambda: texts(ones) == [["a"], []])
    bench.end(ones[0])
    sender.ask(Do(_send_by_kept, ("b",)))
    sender.ask(Do(_send_by_kept, ("c",)))
    bench.until(lambda: texts(ones[1:]) == [["b", "c"]])
    bench.end(ones[1])
    sender.ask(Do(_send_by_kept, ("d",)))
    letters = bench.event(DeadLetters)
    assert (letters.path, letters.types) == ("group:workers", ("str",))
    assert sender.ask(Do(_ask_error, (Get(),))) == "NoMembersError"


def _keep(component: Any, route: Any) -> None:
    component.state = route


def _send_by_kept(component: Any, message: Any) -> None:
    component.state.tell(message)


def _ask_error(component: Any, request: Any) -> str:
    try:
        component.state.ask(request)
    except Exception as error:
        return type(error).__name__
    return "none"


def test_what_goes_wrong_behind_a_route_in_another_process(
    process_bench: WatchBench,
) -> None:
    """Given a full mailbox behind it, a message that cannot be unpickled, or one that cannot be
    pickled, then it is a dead letter, or the sender gets the error."""
    bench = process_bench
    bench.events.clear()
    group, (one,) = joined(bench, 1, mailbox_limit=1)
    sender = bench.watcher()
    bench.system.stop(one).result(LIMIT)
    sender.ask(Do(send_all, (RoundRobin(group), ("a", "b"))))
    assert bench.event(DeadLetters).reason == "its mailbox is full"
    sender.ask(Do(_send_unreadable, (RoundRobin(group),)))
    letters = bench.event(DeadLetters, 2)
    assert letters.path == "group:?"
    assert letters.reason == "it cannot be unpickled in the system's process (LookupError)"
    with pytest.raises(UnpicklableError, match="for group 'workers' cannot be pickled"):
        sender.ask(Do(_send_what_cannot_be, (RoundRobin(group),)))


def _send_unreadable(component: Any, route: Any) -> None:
    route.tell(OnlyHere())


def _send_what_cannot_be(component: Any, route: Any) -> None:
    route.tell(threading.Lock())


# -- pickled ---------------------------------------------------------------------------------


def test_routes_can_be_pickled() -> None:
    """Given routes, then copies choose among the same; each round robin counts by itself."""
    with TestSystem() as system:
        ones: list[Any] = [system.create(Watcher, name=f"w{n}", start=True) for n in range(3)]
        group = system.group("workers")
        group.join(ones[0])
        for kind in ROUTES:
            for members in (group, ones):
                copy = pickle.loads(pickle.dumps(kind(members)))
                expected = (ones[0],) if members is group else (*ones,)
                assert copy.members() == expected
        route: RoundRobin[Any] = RoundRobin(ones)
        route.tell("a")
        pickle.loads(pickle.dumps(route)).tell("b")
        route.tell("c")
        assert [one.ask(Get()) for one in ones] == [["a", "b"], ["c"], []]
        by_key: ByKey[Any] = ByKey(ones, key=key_of_request)
        copy = pickle.loads(pickle.dumps(by_key))
        for n in range(20):
            request = Do(name_for, (str(n),))
            assert copy.ask(request) == by_key.ask(request)


def test_a_route_waits_in_a_component_like_an_ask(make_bench: Any) -> None:
    """Given components of one pool that ask by routes within their handlers, then all get their
    replies: a wait for a route's replies keeps no worker from running them."""
    bench = make_bench()
    ones: Any = [bench.system.create(Watcher, start=True) for _ in range(4)]
    kinds: Any = (Broadcast, RoundRobin)
    askers = [bench.system.create(Watcher, start=True) for _ in range(12)]
    for kind in kinds:
        asked = [
            asker.ask(Do(ask_by, (kind(ones), Do(components.echo, (7,)))), block=False)
            for asker in askers
        ]
        expected = [7] * 4 if kind is Broadcast else 7
        assert [one.result(LIMIT) for one in asked] == [expected] * 12
