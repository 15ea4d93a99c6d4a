"""What becomes of a message with which its component faults again and again?"""

from __future__ import annotations

import pickle
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from kompyct import (
    ChildSpec,
    Component,
    ComponentRef,
    ComponentSupervisor,
    PoisonMessage,
    RestartLimit,
    events,
    poison,
)
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    ComponentDestroyedError,
    ExecutionTimeout,
    MailboxFullError,
    PoisonMessageError,
    ProcessExitError,
)
from kompyct.options import POISON_AFTER
from kompyct.testing import hang
from tests.conftest import LIMIT
from tests.every_backend import MakeBench, backend, bench, gate, make_bench, notes
from tests.hanging import nap, note, spin
from tests.limit_bench import LimitBench
from tests.poisonous import (
    discard_all,
    fail_at_the_second_start,
    fail_then_be_benign,
    fail_unless_open,
    fail_unless_third,
    resend_first,
)
from tests.process.components import (
    Add,
    Do,
    DoAgain,
    Gate,
    Get,
    Holder,
    Notes,
    again,
    die,
    fail,
    from_snapshot,
    leave,
    segfault,
)

__all__ = ["backend", "bench", "gate", "make_bench", "notes"]

PLENTY = RestartLimit(1000, 10.0)


def set_aside(bench: LimitBench, count: int = 1) -> list[events.MessageSetAside]:
    """Wait until that many messages were set aside."""
    bench.until(lambda: len(bench.events.of(events.MessageSetAside)) >= count)
    return bench.events.of(events.MessageSetAside)


def reports(bench: LimitBench, count: int) -> list[tuple[int, int, int]]:
    """Wait for that many recoveries: what was redelivered, failed and dropped at each."""
    bench.until(lambda: len(bench.events.of(events.ComponentRecovered)) == count)
    return [
        (report.redelivered, report.failed, report.dropped)
        for report in bench.events.of(events.ComponentRecovered)
    ]


def test_a_message_in_hand_at_three_faults_is_set_aside(bench: LimitBench, notes: Notes) -> None:
    """Issue 6: Given a tell with REDELIVER that faults each time, and the default, then it comes
    back twice, first of all, and is kept at the third; the message behind it is handled."""
    ref = bench.started(name="poisoned", notes=notes)
    message = DoAgain(fail, (ValueError, "of no use"))
    ref.tell(message)
    ref.tell(Do(note, (notes, "after")))
    (event,) = set_aside(bench)
    assert (event.path, event.message_type, event.faults) == ("poisoned", "DoAgain", 3)
    assert (event.error, event.number, event.incarnation) == ("ValueError", 1, 3)
    assert reports(bench, 3) == [(2, 0, 0), (2, 0, 0), (1, 0, 1)]
    bench.until(lambda: "after" in notes.lines())
    assert ref.incarnation == 4
    (kept,) = bench.system.poison()
    assert isinstance(kept, PoisonMessage)
    assert kept.message is message
    assert (kept.number, kept.path, kept.ref) == (1, "poisoned", ref)
    assert (kept.faults, kept.error) == (3, "ValueError")
    assert kept.time == pytest.approx(bench.events.of(events.ComponentFaulted)[2].time)
    assert kept.traceback.startswith("Traceback")
    assert "in fail\n" in kept.traceback
    assert kept.traceback.endswith("ValueError: of no use\n")
    assert "traceback" not in repr(kept)
    assert bench.events.of(events.DeadLetters) == []


def test_an_ask_in_hand_at_three_faults_fails(bench: LimitBench) -> None:
    """Issue 6: Given such an ask, then its asker gets `PoisonMessageError`, whose cause is what
    was raised last, and nothing is kept."""
    ref = bench.started(name="poisoned")
    with pytest.raises(PoisonMessageError, match="'poisoned' faulted 3 times with") as raised:
        ref.ask(DoAgain(fail, (ValueError, "of no use")))
    assert isinstance(raised.value.__cause__, ValueError)
    assert str(raised.value.__cause__) == "of no use"
    (event,) = set_aside(bench)
    assert (event.message_type, event.faults, event.number) == ("DoAgain", 3, None)
    assert bench.system.poison() == ()
    assert ref.ask(Get(), timeout=LIMIT) == "default"
    assert reports(bench, 3) == [(1, 0, 0), (1, 0, 0), (0, 0, 1)]


def test_an_ask_for_a_future_fails_as_well(bench: LimitBench) -> None:
    """Issue 6: Given `block=False`, then the future has the error."""
    ref = bench.started()
    future = ref.ask(DoAgain(fail), block=False)
    assert isinstance(future.exception(LIMIT), PoisonMessageError)


def test_an_inline_ask_fails_as_well(bench: LimitBench) -> None:
    """Issue 6: Given `inline_asks`, whose first fault is in the asker's thread, then it counts."""
    ref = bench.started(inline_asks=True)
    bench.until(lambda: bool(ref._cell.asleep))
    with pytest.raises(PoisonMessageError, match="3 times"):
        ref.ask(DoAgain(fail))
    assert set_aside(bench)[0].faults == 3


@pytest.mark.parametrize("faults", [1, 4])
def test_after_how_many_faults_may_be_chosen(bench: LimitBench, faults: int) -> None:
    """Issue 6: Given `poison_after`, then that many faults, no more and no less."""
    ref = bench.started(poison_after=faults)
    ref.tell(DoAgain(fail))
    assert set_aside(bench)[0].faults == faults
    assert ref.ask(Get(), timeout=LIMIT) == "default"
    assert len(bench.events.of(events.ComponentFaulted)) == faults


def test_without_a_limit_the_budget_ends_the_component(
    make_bench: MakeBench, notes: Notes
) -> None:
    """S-08: Given `poison_after=None`, then the message comes back until the budget is used up; it
    is a dead letter as it was sent, with what waited behind it."""
    undelivered: list[Any] = []
    bench = make_bench(on_undelivered=lambda path, message: undelivered.append(message))
    ref = bench.started(poison_after=None, budget=RestartLimit(4, 60.0))
    message = DoAgain(fail)
    ref.tell(message)
    ref.tell(Add("behind"))
    bench.until(lambda: len(undelivered) == 2)
    assert undelivered[0] is message
    assert undelivered[1] == Add("behind")
    assert len(bench.events.of(events.ComponentFaulted)) == 5
    assert bench.system.poison() == ()


def test_a_message_whose_component_ends_before_its_count_is_a_dead_letter(
    make_bench: MakeBench,
) -> None:
    """B-67: Given a budget of one restart, then the message that came back once is a dead letter,
    as it was sent, and is not set aside; an ask fails as that of a dead component."""
    undelivered: list[Any] = []
    bench = make_bench(on_undelivered=lambda path, message: undelivered.append(message))
    ref = bench.started(budget=RestartLimit(1, 60.0))
    message = DoAgain(fail)
    ref.tell(message)
    bench.until(lambda: bool(undelivered))
    assert undelivered[0] is message
    assert bench.event(events.DeadLetters).types == ("DoAgain",)
    other = bench.started(budget=RestartLimit(1, 60.0))
    with pytest.raises(ComponentDestroyedError):
        other.ask(DoAgain(fail))
    assert bench.system.poison() == ()


def test_the_default_ends_the_loop_well_before_the_budget(bench: LimitBench, notes: Notes) -> None:
    """Issue 6, S-08: Given the default of three faults and the default budget of 10 restarts in
    10 s, then three poison messages in a row are set aside within it: 9 restarts, one is left, and
    the state is that of the last snapshot."""
    ref = bench.started(state="kept", notes=notes)
    for number in range(3):
        ref.tell(DoAgain(fail, (ValueError, number)))
    ref.tell(Do(note, (notes, "after")))
    assert [event.number for event in set_aside(bench, 3)] == [1, 2, 3]
    bench.until(lambda: "after" in notes.lines() or not ref.is_alive)
    assert (POISON_AFTER, ref.incarnation) == (3, 10)
    assert len(reports(bench, 9)) == 9
    assert bench.events.of(events.ComponentRecovered)[-1].restarts_left == 1
    assert ref.ask(Get(), timeout=LIMIT) == "kept"
    assert [kept.message.arguments[1] for kept in bench.system.poison()] == [0, 1, 2]


@pytest.mark.parametrize("same", [False, True], ids=["equal messages", "the same one"])
def test_each_sending_is_counted_by_itself(bench: LimitBench, notes: Notes, same: bool) -> None:
    """Issue 6: Given two messages that are equal, or the same object sent twice, each of which
    faults twice and is handled the third time, then neither is set aside: what counts is what is
    in hand, not what it is equal to, and being handled ends the count."""
    ref = bench.started()
    first = DoAgain(fail_unless_third, (notes,))
    second = first if same else DoAgain(fail_unless_third, (notes,))
    assert first == second
    ref.tell(first)
    ref.tell(second)
    assert ref.ask(DoAgain(fail_unless_third, (notes,)), timeout=LIMIT) == 9
    assert len(bench.events.of(events.ComponentFaulted)) == 6
    assert bench.events.of(events.MessageSetAside) == []
    assert ref.is_alive


def test_faults_without_the_message_in_hand_do_not_count(bench: LimitBench, notes: Notes) -> None:
    """Issue 6: Given a replacement that faults in `on_start` while the message waits, then only
    faults with it in hand are counted: of four in all, three."""
    ref = bench.started(notes=notes, recovery=again, hooks={"start": fail_at_the_second_start})
    ref.tell(DoAgain(fail))
    assert set_aside(bench)[0].faults == 3
    bench.until(lambda: ref.incarnation == 5)
    phases = [event.phase for event in bench.events.of(events.ComponentFaulted)]
    assert phases == ["receive", "start", "receive", "receive"]


def test_a_pause_does_not_end_the_count(bench: LimitBench, notes: Notes, gate: Gate) -> None:
    """Issue 6: Given a stop and a start between two faults, then the count goes on."""
    ref = bench.started(recovery=_pausing)
    ref.tell(DoAgain(fail))
    reports(bench, 1)
    for restarts in (2, 3):
        bench.system.start(ref)
        reports(bench, restarts)
    assert set_aside(bench)[0].faults == 3


def _pausing(fault: Any) -> Any:
    """Go on, but passive."""
    return fault.recover_with(_pause)


def _pause(fault: Any, system: Any, log: object) -> Any:
    system.stop(system.find(fault.path))
    return fault.restart()


def test_a_message_that_comes_back_may_be_benign(bench: LimitBench, notes: Notes) -> None:
    """S-14: Given a tell that faults once and then raises a benign exception, then it is handled
    with that: it is reported as any benign one, and is not sent a third time."""
    ref = bench.started()
    ref.tell(DoAgain(fail_then_be_benign, (notes,)))
    assert bench.event(events.BenignError).error == "BenignProblem"
    assert ref.ask(Get(), timeout=LIMIT) == "default"
    assert notes.lines() == ["handled", "handled"]
    assert ref.incarnation == 2


# -- what is set aside -------------------------------------------------------------------------


def test_what_was_set_aside_can_be_sent_again(bench: LimitBench, notes: Notes, gate: Gate) -> None:
    """Issue 6: Given a message that was set aside, when its cause is mended and it is sent again,
    then it is handled and no longer kept."""
    ref = bench.started()
    ref.tell(DoAgain(fail_unless_open, (notes, gate)))
    (event,) = set_aside(bench)
    gate.open()
    assert event.number is not None
    bench.system.resend(event.number)
    assert bench.system.poison() == ()
    bench.until(lambda: len(notes.lines()) == 4)
    assert notes.lines() == ["closed", "closed", "closed", "open"]
    assert ref.ask(Get(), timeout=LIMIT) == "default"
    with pytest.raises(ArgumentError, match="number 1; see poison"):
        bench.system.resend(event.number)


def test_sent_again_it_is_counted_from_none(bench: LimitBench) -> None:
    """Issue 6: Given a message that is sent again and still faults, then it comes back as often as
    at first, and has a new number."""
    ref = bench.started(budget=PLENTY)
    message = DoAgain(fail)
    ref.tell(message)
    set_aside(bench)
    bench.system.resend(1)
    first, second = set_aside(bench, 2)
    assert (first.faults, second.faults) == (3, 3)
    assert len(bench.events.of(events.ComponentFaulted)) >= 5
    (kept,) = bench.system.poison()
    assert (kept.number, kept.message is message) == (2, True)
    bench.until(lambda: ref.incarnation == 7)


def test_what_was_set_aside_can_be_forgotten(bench: LimitBench) -> None:
    """Issue 6: Given two messages that were set aside, when one is discarded, the other stays."""
    ref = bench.started()
    for number in range(2):
        ref.tell(DoAgain(fail, (ValueError, number)))
    set_aside(bench, 2)
    bench.system.discard_poison(1)
    assert [kept.number for kept in bench.system.poison()] == [2]
    with pytest.raises(ArgumentError, match="number 1"):
        bench.system.discard_poison(1)
    assert bench.events.of(events.DeadLetters) == []


def test_what_belongs_to_an_ended_component_stays(bench: LimitBench) -> None:
    """S-17: Given a component that has ended, when its message is sent again, then that is refused
    and the message stays, for another one or to be discarded; also after the system."""
    ref = bench.started(name="gone")
    ref.tell(DoAgain(fail))
    set_aside(bench)
    bench.system.kill(ref).result(LIMIT)
    bench.started(name="gone")
    with pytest.raises(ComponentDestroyedError, match="'gone' has ended"):
        bench.system.resend(1)
    bench.system.shutdown()
    with pytest.raises(ComponentDestroyedError):
        bench.system.resend(1)
    (kept,) = bench.system.poison()
    assert "ValueError" in kept.traceback
    bench.system.discard_poison(1)
    assert bench.system.poison() == ()


def test_what_finds_no_room_stays(bench: LimitBench) -> None:
    """S-20: Given a full mailbox, when a message is sent again, then that is refused and the
    message stays under its number."""
    ref = bench.started(mailbox_limit=1)
    ref.tell(DoAgain(fail))
    set_aside(bench)
    bench.until(lambda: ref.incarnation == 4)
    bench.system.stop(ref).result(LIMIT)
    ref.tell(Add("in the way"))
    with pytest.raises(MailboxFullError):
        bench.system.resend(1)
    assert [kept.number for kept in bench.system.poison()] == [1]
    bench.system.start(ref).result(LIMIT)
    assert ref.ask(Get(), timeout=LIMIT) == "default"
    bench.system.resend(1)
    assert len(set_aside(bench, 2)) == 2


@pytest.mark.parametrize("number", [0, -1, 7])
def test_a_number_that_was_not_given_is_refused(bench: LimitBench, number: int) -> None:
    """Bad input, rule 11."""
    for method in (bench.system.resend, bench.system.discard_poison):
        with pytest.raises(ArgumentError, match=f"number {number}; see poison"):
            method(number)


@pytest.mark.parametrize("number", ["1", 1.0, True, None])
def test_what_is_no_number_is_refused(bench: LimitBench, number: Any) -> None:
    """Bad input, rule 11."""
    for method in (bench.system.resend, bench.system.discard_poison):
        with pytest.raises(ArgumentTypeError, match="give that of a PoisonMessage"):
            method(number)


def test_too_many_are_not_kept(make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 6: Given more than may be kept (3 here), then the oldest goes, as a dead letter which
    says so, and can be had there."""
    monkeypatch.setattr(poison, "MAX_SET_ASIDE", 3)
    undelivered: list[tuple[str, Any]] = []
    bench = make_bench(on_undelivered=lambda *letter: undelivered.append(letter))
    ref = bench.started(name="many", poison_after=1, budget=PLENTY)
    messages = [DoAgain(fail, (ValueError, number)) for number in range(5)]
    for message in messages:
        ref.tell(message)
    set_aside(bench, 5)
    assert [kept.message for kept in bench.system.poison()] == messages[2:]
    assert [kept.number for kept in bench.system.poison()] == [3, 4, 5]
    bench.until(lambda: len(undelivered) == 2)
    assert undelivered == [("many", messages[0]), ("many", messages[1])]
    assert "3 messages were set aside after it" in bench.event(events.DeadLetters).reason


def test_a_component_may_deal_with_what_was_set_aside(
    bench: LimitBench, notes: Notes, gate: Gate
) -> None:
    """`ComponentSystem.poison`, from inside a component, also in a process of its own."""
    ref = bench.started()
    doctor = bench.started()
    ref.tell(DoAgain(fail_unless_open, (notes, gate)))
    ref.tell(DoAgain(fail))
    set_aside(bench, 2)
    gate.open()
    assert doctor.ask(Do(resend_first), timeout=LIMIT) == 1
    bench.until(lambda: notes.lines()[-1] == "open")
    assert doctor.ask(Do(discard_all), timeout=LIMIT) == 1
    assert bench.system.poison() == ()


def test_what_was_set_aside_can_be_pickled(bench: LimitBench) -> None:
    """Given a message that was set aside, then it travels, with its traceback as text."""
    ref = bench.started()
    ref.tell(DoAgain(fail))
    set_aside(bench)
    (kept,) = bench.system.poison()
    copy = pickle.loads(pickle.dumps(kept))
    for name in ("number", "path", "ref", "message", "faults", "error", "time", "traceback"):
        assert getattr(copy, name) == getattr(kept, name)


@pytest.mark.parametrize("backend", ["thread", "pool"], indirect=True)
def test_of_many_who_send_it_again_one_does(bench: LimitBench, notes: Notes, gate: Gate) -> None:
    """Given eight threads that send the same number again at once, then one does, and the others
    are refused; the message is handled once."""
    ref = bench.started()
    ref.tell(DoAgain(fail_unless_open, (notes, gate)))
    set_aside(bench)
    gate.open()
    barrier = threading.Barrier(8)
    refused: list[ArgumentError] = []

    def send() -> None:
        barrier.wait(LIMIT)
        try:
            bench.system.resend(1)
        except ArgumentError as error:
            refused.append(error)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert len(refused) == 7
    assert ref.ask(Get(), timeout=LIMIT) == "default"
    assert notes.lines().count("open") == 1


# -- whatever the fault ------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["process"], indirect=True)
@pytest.mark.parametrize(
    ("end", "told"),
    [
        (DoAgain(segfault), "in segfault"),
        (DoAgain(die, (signal.SIGKILL,)), "SIGKILL"),
        (DoAgain(leave, (0,)), "exited with code 0"),
    ],
    ids=["segfault", "kill", "exit"],
)
def test_a_message_that_ends_its_process_each_time_is_set_aside(
    bench: LimitBench, notes: Notes, end: DoAgain, told: str
) -> None:
    """Issue 6 (process): Given a message that ends three processes, by SIGSEGV, SIGKILL or
    `os._exit(0)`, then it is kept, the very object, with what is known of the end; the next one is
    handled by the fourth process, and an ask like it fails."""
    ref = bench.started(state="kept", notes=notes)
    ref.tell(end)
    ref.tell(Do(note, (notes, "after")))
    (event,) = set_aside(bench)
    assert (event.error, event.faults) == ("ProcessExitError", 3)
    bench.until(lambda: "after" in notes.lines())
    assert (ref.incarnation, ref.ask(Get(), timeout=LIMIT)) == (4, "kept")
    (kept,) = bench.system.poison()
    assert kept.message is end
    assert told in kept.traceback
    with pytest.raises(PoisonMessageError) as raised:
        ref.ask(end, timeout=LIMIT)
    assert isinstance(raised.value.__cause__, ProcessExitError)


@pytest.mark.parametrize("backend", ["thread", "pool", "process"], indirect=True)
@pytest.mark.parametrize("hanging", [spin, nap], ids=["interrupted", "left behind"])
def test_a_message_that_hangs_each_time_is_set_aside(
    bench: LimitBench, notes: Notes, hanging: Callable[..., object]
) -> None:
    """Issue 6, B-84: Given a message over its time limit at each of two times, whether its handler
    can be interrupted or not, then it is kept, and the next message is handled."""
    ref = bench.started(notes=notes, time_limit=0.1, poison_after=2)
    message = DoAgain(hanging, (0.4,))
    ref.tell(message)
    ref.tell(Do(note, (notes, "after")))
    (event,) = set_aside(bench)
    assert (event.error, event.faults) == ("ExecutionTimeout", 2)
    bench.until(lambda: "after" in notes.lines())
    (kept,) = bench.system.poison()
    assert kept.message is message
    assert f"in {hanging.__name__}" in kept.traceback


def hanging(component: object) -> None:
    """Hang, in virtual time."""
    hang()


@pytest.mark.parametrize("backend", ["manual"], indirect=True)
def test_an_ask_that_hangs_each_time_fails_in_virtual_time(bench: LimitBench) -> None:
    """Issue 6, B-84: Given `hang()` in three incarnations, then the asker gets the error."""
    ref = bench.started(time_limit=1.0)
    with pytest.raises(PoisonMessageError) as raised:
        ref.ask(DoAgain(hanging), timeout=60.0)
    assert isinstance(raised.value.__cause__, ExecutionTimeout)


def test_an_exception_without_text_is_kept_all_the_same(bench: LimitBench) -> None:
    """S-15: Given an exception whose `__str__` raises, then the message is kept, and the component
    goes on."""
    ref = bench.started(poison_after=1)
    ref.tell(DoAgain(fail, (Silent,)))
    set_aside(bench)
    (kept,) = bench.system.poison()
    assert "Silent" in kept.traceback
    assert ref.ask(Get(), timeout=LIMIT) == "default"


class Silent(Exception):
    """An exception that has nothing to say."""

    def __str__(self) -> str:
        raise SystemExit


def test_it_holds_beside_other_options(bench: LimitBench) -> None:
    """Given `poison_after` beside other options, then those hold as well."""
    ref = bench.started(poison_after=1, budget=RestartLimit(2, 60.0))
    for _ in range(3):
        ref.tell(DoAgain(fail))
    bench.until(lambda: not ref.is_alive)
    assert bench.event(events.RestartLimitReached).max_restarts == 2
    assert len(bench.system.poison()) == 3


def test_a_child_of_a_supervisor_has_a_limit_of_its_own(bench: LimitBench) -> None:
    """Issue 6: Given `poison_after` in a child's spec, then it holds for that child, and its
    supervisor goes on; a bad value is refused when the spec is made."""
    factory = partial(Holder, "kept", None, from_snapshot)
    spec = ChildSpec(id="child", factory=factory, poison_after=2)
    tree = ComponentSupervisor([spec], restart_limit=RestartLimit(5, 60.0))
    root = bench.system.create(tree, name="tree")
    bench.system.start(root).result(LIMIT)
    child = bench.system.find("tree/child")
    assert child is not None
    child.tell(DoAgain(fail))
    (event,) = set_aside(bench)
    assert (event.path, event.faults) == ("tree/child", 2)
    assert child.ask(Get(), timeout=LIMIT) == "kept"
    bench.system.resend(1)
    assert [event.faults for event in set_aside(bench, 2)] == [2, 2]
    with pytest.raises(ArgumentError, match="poison_after is 0"):
        ChildSpec(id="child", factory=factory, poison_after=0)


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_limit_out_of_range_is_refused(bench: LimitBench, wrong: int) -> None:
    """Bad input, rule 11: the thing, the value, the way out."""
    with pytest.raises(ArgumentError, match=rf"poison_after is {wrong}; give .* >= 1, or None"):
        bench.system.create(partial(Component), poison_after=wrong)


@pytest.mark.parametrize("wrong", ["3", 3.0, True, ()])
def test_a_limit_of_another_type_is_refused(bench: LimitBench, wrong: Any) -> None:
    """Bad input, rule 11: the thing, the value, the way out."""
    with pytest.raises(ArgumentTypeError, match=r"poison_after is .*give a whole number of"):
        bench.system.create(partial(Component), poison_after=wrong)
    assert bench.system.tree().children == ()


def test_a_ref_of_it_reaches_the_component(bench: LimitBench) -> None:
    """Given `PoisonMessage.ref`, then it is a ref like any other."""
    ref = bench.started()
    ref.tell(DoAgain(fail))
    set_aside(bench)
    (kept,) = bench.system.poison()
    same: ComponentRef[Any] = kept.ref
    assert same.ask(Get(), timeout=LIMIT) == "default"
