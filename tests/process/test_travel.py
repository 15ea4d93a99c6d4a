"""How do exceptions and messages that do not travel well fare: S-15, and issue 4, "Bad input"?"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from kompyct import FaultContext, RecoveryHandler, Request, events
from kompyct.errors import (
    ComponentFaultError,
    KompyctError,
    RemoteError,
    UnpicklableError,
)
from tests.conftest import LIMIT
from tests.process import components
from tests.process.components import Add, Do, Gate, Get, Holder, Notes, Unwelcome, again
from tests.process.conftest import ProcessBench, do, new_name

MakeGate = Callable[[], Gate]


# -- exceptions ------------------------------------------------------------------------------


class Picky(Exception):
    """Cannot be unpickled: its `__init__` wants more than its `args` hold."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"{text} {number}")


class Locked(Exception):
    """Cannot be pickled: it holds a lock."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Mute(Exception):
    """Has a `__str__` that raises."""

    def __str__(self) -> str:
        raise ValueError("nothing to say")


class Misnamed(Exception):
    """Says that it is of another type when it is unpickled."""

    def __reduce__(self) -> Any:
        return ValueError, ("not me",)


class Suicidal(Exception):
    """Ends the process when it is pickled."""

    def __reduce__(self) -> NoReturn:
        raise SystemExit(3)


def _raise_picky(component: Any) -> NoReturn:
    raise Picky(4, "picky")


def _raise_local(component: Any) -> NoReturn:
    class Local(Exception):
        """Not to be found by its name."""

    raise Local("local")


def _raise_huge(component: Any) -> NoReturn:
    raise Locked("x" * 1_000_000)


@pytest.mark.parametrize(
    ("action", "name", "text"),
    [
        (_raise_picky, "test_travel.Picky", "picky 4"),
        (partial(components.fail, kind=Locked), "", ""),
        (_raise_local, "_raise_local.<locals>.Local", "local"),
        (_raise_huge, "test_travel.Locked", "x" * 8192),
    ],
)
def test_an_exception_that_cannot_travel_is_told_of(
    bench: ProcessBench, action: Any, name: str, text: str
) -> None:
    """S-15 (process): `RemoteError` with its type, text and traceback, for asker and recovery."""
    ref = bench.started(1, recovery=again)
    if not name:
        action, name, text = _raise_locked, "test_travel.Locked", "locked"
    with pytest.raises(RemoteError) as caught:
        do(ref, action)
    fault = bench.fault(ref)
    assert isinstance(fault.exception, RemoteError)
    for error in (caught.value, fault.exception):
        assert error.types[0].endswith(name)
        assert error.types[-2:] == ("builtins.BaseException", "builtins.object")
        assert error.text == text
        assert "_raise" in error.traceback
    assert "_raise" in fault.location


def _raise_locked(component: Any) -> NoReturn:
    raise Locked("locked")


@pytest.mark.parametrize("kind", [Misnamed, Suicidal])
def test_an_exception_that_is_not_itself_when_pickled_is_told_of(
    bench: ProcessBench, kind: type[Exception]
) -> None:
    """S-15 (process): the original if it survives a round trip, else `RemoteError`."""
    ref = bench.started(1, recovery=again)
    with pytest.raises(RemoteError) as caught:
        do(ref, components.fail, kind, "itself")
    assert caught.value.types[0].endswith(kind.__name__)
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == 1


def test_an_exception_without_a_text_gets_a_placeholder(bench: ProcessBench) -> None:
    """S-15 (process): a `__str__` that raises gives a placeholder; nothing else suffers."""
    ref = bench.started(1, recovery=again)
    with pytest.raises((Mute, RemoteError)):
        do(ref, components.fail, Mute)
    fault = bench.fault(ref)
    assert "Mute" in fault.traceback
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == 1


def _raise_chain(component: Any, length: int) -> None:
    error: BaseException = Locked("bottom")
    for number in range(length):
        try:
            raise ValueError(number) from error
        except ValueError as one:
            error = one
    raise error


def test_causes_travel(bench: ProcessBench) -> None:
    """S-15 (process): the chain, each as itself or as `RemoteError`, at most ten."""
    ref = bench.started(1, recovery=again)
    with pytest.raises(ValueError, match="1") as caught:
        do(ref, _raise_chain, 2)
    below = caught.value.__cause__
    assert isinstance(below, ValueError)
    assert below.args == (0,)
    assert isinstance(below.__cause__, RemoteError)
    assert below.__cause__.text == "bottom"
    bench.event_of(events.ComponentRecovered, ref)
    with pytest.raises(ValueError, match="49") as caught:
        do(ref, _raise_chain, 50)
    assert _length_of_chain(caught.value) == 10
    assert "bottom" in bench.fault(ref).traceback


def _length_of_chain(error: BaseException | None) -> int:
    return 0 if error is None else 1 + _length_of_chain(error.__cause__)


def _raise_while_handling(component: Any) -> None:
    try:
        raise KeyError("first")
    except KeyError:
        raise RuntimeError("second")  # noqa: B904  # the context is what this is about


def test_a_context_travels(bench: ProcessBench) -> None:
    """S-15 (process): what was being handled comes along, as the text of the traceback says."""
    ref = bench.started(1, recovery=again)
    with pytest.raises(RuntimeError, match="second"):
        do(ref, _raise_while_handling)
    text = bench.fault(ref).traceback
    assert "KeyError: 'first'" in text
    assert "During handling of the above exception" in text


# -- messages, replies, factories ------------------------------------------------------------


class Stubborn:
    """Cannot be pickled."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("stubborn")


def _unknown_class() -> Any:
    """A class that is known here, and in no child that was made before."""
    name = "Unknown"
    kind = type(name, (Request,), {"__module__": __name__})
    globals()[name] = kind
    return kind()


@pytest.mark.parametrize("backlog", [0, 7])
def test_a_message_that_cannot_be_pickled_is_refused(
    bench: ProcessBench, notes: Notes, backlog: int
) -> None:
    """Bad input: a tell becomes a dead letter that says why, an ask fails; those around it
    arrive in order."""
    ref = bench.system.create(partial(Holder, 1, notes))
    for number in range(backlog):
        ref.tell(Add(str(number)))
    ref.tell(Stubborn())
    ask = ref.ask(Stubborn(), block=False)  # type: ignore[call-overload]
    ref.tell(Add("after"))
    bench.system.start(ref).result(LIMIT)
    with pytest.raises(UnpicklableError, match="Stubborn"):
        ask.result(LIMIT)
    assert ref.ask(Get()) == 1
    assert notes.lines() == ["start", *map(str, range(backlog)), "after"]
    letters = bench.event_of(events.DeadLetters, ref)
    assert letters.types == ("Stubborn",)
    assert "pickled" in letters.reason


@pytest.mark.parametrize("make", [lambda: Unwelcome(os.getpid()), _unknown_class])
@pytest.mark.parametrize("backlog", [0, 7, 3000])
def test_a_message_that_cannot_be_unpickled_is_refused(
    bench: ProcessBench, notes: Notes, make: Callable[[], Any], backlog: int
) -> None:
    """Bad input: the class is not known in the child, or raises there: as above, and the whole
    batch around it arrives in order, asks included."""
    ref = bench.system.create(partial(Holder, 1, notes))
    bad = make()
    for number in range(backlog):
        ref.tell(Add(str(number)))
    ref.tell(bad)
    asks = [ref.ask(bad, block=False), ref.ask(Do(components.echo, (5,)), block=False)]
    ref.tell(Add("between"))
    ref.tell(bad)
    ref.tell(Add("after"))
    bench.system.start(ref).result(LIMIT)
    with pytest.raises(UnpicklableError, match=type(bad).__name__):
        asks[0].result(LIMIT)
    assert asks[1].result(LIMIT) == 5
    assert ref.ask(Get()) == 1
    assert notes.lines() == ["start", *map(str, range(backlog)), "between", "after"]
    bench.until(lambda: sum(e.count for e in bench.events_of(events.DeadLetters, ref)) == 2)
    assert "unpickled" in bench.event_of(events.DeadLetters, ref).reason
    assert ref.incarnation == 1


def test_a_crash_after_an_unreadable_message_loses_nothing(
    bench: ProcessBench, notes: Notes, make_gate: MakeGate
) -> None:
    """S-31 (process): unreadable ones before, in and behind what a killed process had."""
    reached, gate = make_gate(), make_gate()
    bad = Unwelcome(os.getpid())
    ref = bench.system.create(partial(Holder, 1, notes, again))
    for message in (bad, Add("0"), Do(components.wait_and_die, (reached, gate)), Add("1"), bad):
        ref.tell(message)
    ref.tell(Add("2"))
    bench.system.start(ref).result(LIMIT)
    bench.until(lambda: reached.is_open)
    gate.open()
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == 1
    assert notes.lines() == ["start", "0", "start", "1", "2"]


def test_a_reply_that_cannot_be_pickled_is_the_askers(bench: ProcessBench) -> None:
    """Bad input: the asker gets `UnpicklableError`; the component goes on."""
    ref = bench.started(1)
    with pytest.raises(UnpicklableError, match=r"reply.*lock"):
        do(ref, _reply_with_a_lock)
    assert ref.ask(Get()) == 1
    assert ref.incarnation == 1


def _reply_with_a_lock(component: Any) -> Any:
    return threading.Lock()


def test_a_reply_that_cannot_be_unpickled_is_the_askers(bench: ProcessBench) -> None:
    """Bad input: an error at the asker, with the cause; nobody else suffers."""
    ref = bench.started(1)
    with pytest.raises(KompyctError) as caught:
        do(ref, _reply_unwelcome)
    assert "unwelcome" in str(caught.value.__cause__)
    assert ref.ask(Get()) == 1


def _reply_unwelcome(component: Any) -> Any:
    return Unwelcome(os.getpid())


def test_messages_from_a_child_that_cannot_travel(bench: ProcessBench, notes: Notes) -> None:
    """Bad input: told and asked by a component: `UnpicklableError` where it is sent; what
    cannot be unpickled here harms nobody, and what comes after it arrives."""
    target = bench.started(1, notes, backend="thread")
    ref = bench.started(1)
    assert do(ref, _send_badly, target) == ["UnpicklableError", "UnpicklableError"]
    do(ref, _tell_unwelcome, target)
    do(ref, components.tell, target, Add("after"))
    bench.until(lambda: "after" in notes.lines())
    assert do(ref, _ask_unwelcome, target) in ("RuntimeError", "UnpicklableError")
    assert target.ask(Get()) == 1
    assert do(ref, components.echo, 2) == 2


def _send_badly(component: Any, target: Any) -> list[str]:
    raised = []
    for send in (target.tell, target.ask):
        try:
            send(Stubborn())
        except UnpicklableError as error:
            raised.append(type(error).__name__)
    return raised


def _tell_unwelcome(component: Any, target: Any) -> None:
    target.tell(Unwelcome(os.getpid()))


def _ask_unwelcome(component: Any, target: Any) -> str:
    try:
        target.ask(Unwelcome(os.getpid()))
    except Exception as error:
        return type(error).__name__
    return "none"


def test_a_factory_that_cannot_be_pickled_is_refused(bench: ProcessBench) -> None:
    """Bad input: `UnpicklableError`, as itself, with the way out; the name is free."""
    lock = threading.Lock()
    name = new_name()
    with pytest.raises(UnpicklableError, match="give a class or a function of a module"):
        bench.system.create(lambda: Holder(lock), name=name)
    assert bench.started(1, name=name).ask(Get()) == 1


def test_a_factory_may_be_a_closure(bench: ProcessBench) -> None:
    """Issue 4: the factory goes by cloudpickle, so a lambda over plain values will do."""
    value = {"closed": "over"}
    ref = bench.started(factory=lambda: Holder(value))
    assert ref.ask(Get()) == value


def test_a_factory_whose_class_is_not_known_in_the_child(bench: ProcessBench) -> None:
    """Bad input: `UnpicklableError`, which names what was raised there; nothing is left."""
    name = new_name()
    with pytest.raises(UnpicklableError, match=r"factory.*RuntimeError"):
        bench.system.create(partial(Holder, Unwelcome(os.getpid())), name=name)
    assert bench.started(1, name=name).ask(Get()) == 1


def _with_a_bad_factory(fault: FaultContext[Any]) -> RecoveryHandler:
    """Answers with a factory that cannot be sent, then with one that can."""
    components.remember(fault)
    if fault.attempt == 1:
        lock = threading.Lock()
        return fault.restart(lambda: Holder(lock))
    return fault.restart(partial(Holder, "at last"))


def test_a_bad_factory_in_a_recovery_is_a_fault_of_its_own(bench: ProcessBench) -> None:
    """S-13 (process): phase create, and the function is called again."""
    ref = bench.started(1, recovery=_with_a_bad_factory)
    ref.tell(Do(components.segfault))
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == "at last"
    assert isinstance(bench.fault(ref, 2).exception, UnpicklableError)


# -- a child that breaks the contract --------------------------------------------------------


def _close_everything(component: Any) -> None:
    os.closerange(3, 4096)
    time.sleep(components.PATIENCE)


def _close_everything_and_go_on(component: Any) -> None:
    os.closerange(3, 4096)


@pytest.mark.parametrize("action", [_close_everything, _close_everything_and_go_on])
def test_a_child_that_closes_its_pipes_is_replaced(bench: ProcessBench, action: Any) -> None:
    """Bad input: `os.closerange`: it can say nothing more, so it is ended and recovered; what
    it had saved is there."""
    ref = bench.started(1, recovery=components.from_snapshot)
    do(ref, components.save, 2)
    child = do(ref, components.pid)
    with pytest.raises(ComponentFaultError):
        do(ref, action)
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == 2
    bench.until(lambda: not os.path.exists(f"/proc/{child}"))


def _flood(component: Any, target: Any, count: int) -> None:
    for _ in range(count):
        target.tell(Add("x" * 1000))


def test_a_child_that_floods_keeps_nobody_else_waiting(bench: ProcessBench, notes: Notes) -> None:
    """Bad input: while one sends 20,000 messages of 1 KB, another is answered."""
    target = bench.started(1, backend="thread")
    flooding = bench.started(1)
    quiet = bench.started(2)
    ask = flooding.ask(Do(_flood, (target, 20_000)), block=False)
    slowest = 0.0
    while not ask.done():
        begun = time.monotonic()
        assert quiet.ask(Get()) == 2
        slowest = max(slowest, time.monotonic() - begun)
    ask.result(LIMIT)
    assert slowest < LIMIT / 2


def test_a_child_that_reads_no_more_keeps_nobody_waiting(
    bench: ProcessBench, notes: Notes
) -> None:
    """Bad input: stopped, with 20 MB sent to it: tells do not block, others are answered, and
    once it goes on everything arrives in order; then it is stopped and killed, which ends it."""
    ref = bench.started(1, notes)
    other = bench.started(2)
    child = do(ref, components.pid)
    os.kill(child, signal.SIGSTOP)
    begun = time.monotonic()
    for number in range(200):
        ref.tell(Do(_note_length, (number, b"x" * 100_000)))
    assert other.ask(Get()) == 2
    assert time.monotonic() - begun < LIMIT
    os.kill(child, signal.SIGCONT)
    assert do(ref, components.pid) == child
    assert notes.lines()[1:] == [f"{number} 100000" for number in range(200)]


def _note_length(component: Holder, number: int, data: bytes) -> None:
    component.note(f"{number} {len(data)}")


def _write_garbage(component: Any, begun: Path) -> None:
    begun.touch()
    for descriptor in range(3, 64):
        try:
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):
                os.write(descriptor, b"\xff" * 4096)
        except OSError:
            continue
    time.sleep(components.PATIENCE)


def test_a_child_that_writes_garbage_is_replaced(bench: ProcessBench, tmp_path: Path) -> None:
    """Bad input: what it says makes no sense; that must not harm the thread that listens."""
    ref = bench.started(1, recovery=again)
    other = bench.started(2)
    child = do(ref, components.pid)
    begun = tmp_path / "begun"
    ref.tell(Do(_write_garbage, (begun,)))
    bench.until(begun.exists)  # in hand, so that the next one does not get it as well
    assert other.ask(Get()) == 2
    bench.pass_time(0.2)
    assert other.ask(Get()) == 2
    os.kill(child, signal.SIGKILL)
    bench.event_of(events.ComponentRecovered, ref)
    assert ref.ask(Get()) == 1
    assert bench.started(3).ask(Get()) == 3


def _fork(component: Any) -> int:
    child = os.fork()
    if not child:
        time.sleep(0.2)
        os._exit(0)
    return child


def test_a_child_that_forks_is_still_recovered(bench: ProcessBench) -> None:
    """A copy of the child keeps its pipes open: its end is seen all the same (by pidfd)."""
    ref = bench.started(1, recovery=again)
    do(ref, _fork)
    child = do(ref, components.pid)
    sent = time.monotonic()
    os.kill(child, signal.SIGKILL)
    bench.event_of(events.ComponentRecovered, ref)
    assert time.monotonic() - sent < 2.0
    assert ref.ask(Get()) == 1


def test_a_pickle_of_a_ref_of_an_ended_system_is_lost(make_bench: Any) -> None:
    """S-17 (process): a ref that outlives its system says so when it is used."""
    bench = make_bench()
    ref = bench.started(1)
    data = pickle.dumps(ref)
    bench.system.shutdown()
    assert not pickle.loads(data).is_alive
