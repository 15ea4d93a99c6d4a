"""What becomes of messages at a fault, by their types: `OnRestart`, in hand and queued?"""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import Any

import pytest

from kompyct import OnRestart, Request, RestartLimit, events
from kompyct.errors import ArgumentTypeError, ComponentDestroyedError, RestartingError
from kompyct.mailbox import Mailbox
from kompyct.messages import on_restart
from tests.conftest import LIMIT
from tests.every_backend import MakeBench, backend, bench, gate, make_bench, notes
from tests.hanging import note
from tests.limit_bench import LimitBench
from tests.poisonous import DoOrDrop, DoOrFail, Moody, MoodyNote, tell_and_restart
from tests.process.components import Add, Do, DoAgain, Holder, Notes, again, fail, save_only

__all__ = ["backend", "bench", "gate", "make_bench", "notes"]


def passive(bench: LimitBench, notes: Notes, **options: Any) -> Any:
    """A component that has registered, and waits for its next start."""
    ref = bench.started(notes=notes, recovery=again, **options)
    bench.system.stop(ref).result(LIMIT)
    return ref


def report_of(bench: LimitBench, ref: Any) -> tuple[int, int, int]:
    """What the recovery report counts: redelivered, failed, dropped."""
    bench.until(lambda: bool(bench.of(events.ComponentRecovered, ref)))
    report = bench.of(events.ComponentRecovered, ref)[0]
    return report.redelivered, report.failed, report.dropped


def test_queued_tells_meet_a_fault_as_their_types_say(make_bench: MakeBench, notes: Notes) -> None:
    """`OnRestart`: Given 400 tells of four kinds behind one that faults, then those with DROP and
    FAIL become dead letters and are counted, the others meet the next incarnation in order. By
    hand: 200 follow, 100 failed, 100 and the one in hand dropped."""
    undelivered: list[Any] = []
    bench = make_bench(on_undelivered=lambda path, message: undelivered.append(message))
    ref = passive(bench, notes)
    kinds = (Do, DoAgain, DoOrDrop, DoOrFail)
    sent = [kinds[number % 4](note, (notes, number)) for number in range(400)]
    ref.tell(Do(fail))
    for message in sent:  # more than a turn takes
        ref.tell(message)
    bench.system.start(ref)
    bench.recovered(ref)
    assert ref.ask(Do(note, (notes, "end"))) is None
    hooks = ("start", "stop")
    lines = [line for line in notes.lines() if line not in hooks]
    assert lines == [*(str(number) for number in range(400) if number % 4 < 2), "end"]
    assert report_of(bench, ref) == (200, 100, 101)
    bench.until(lambda: len(undelivered) == 200)
    assert undelivered == [*sent[2::4], *sent[3::4]]
    dropped, failed = bench.of(events.DeadLetters, ref)
    assert (dropped.count, dropped.types) == (100, ("DoOrDrop",))
    assert dropped.reason == "queued when it faulted, with OnRestart.DROP"
    assert (failed.count, failed.types) == (100, ("DoOrFail",))
    assert failed.reason == "queued when it faulted, with OnRestart.FAIL"


@pytest.mark.parametrize("kind", [DoOrDrop, DoOrFail])
def test_queued_asks_always_get_an_answer(bench: LimitBench, notes: Notes, kind: type[Do]) -> None:
    """B-66: Given queued asks with DROP or FAIL, then they fail with `RestartingError` at once, as
    those without anything; the report counts them as failed."""
    ref = passive(bench, notes)
    ref.tell(Do(fail))
    asks = [ref.ask(one(note, (notes, "never")), block=False) for one in (kind, Do, kind)]
    redelivered = ref.ask(DoAgain(note, (notes, "again")), block=False)
    bench.system.start(ref)
    for ask in asks:
        with pytest.raises(RestartingError, match="ask again"):
            ask.result(LIMIT)
    assert redelivered.result(LIMIT) is None
    assert report_of(bench, ref) == (1, 3, 1)
    assert "never" not in notes.lines()
    assert bench.of(events.DeadLetters, ref) == []


@pytest.mark.parametrize("kind", [DoOrDrop, DoOrFail])
def test_in_hand_they_are_as_any_other_message(
    bench: LimitBench, notes: Notes, kind: type[Do]
) -> None:
    """`OnRestart`: Given DROP or FAIL in hand, then a tell is gone and no dead letter, and an ask
    fails with what was raised (S-16)."""
    ref = passive(bench, notes)
    ref.tell(kind(fail))
    bench.system.start(ref)
    assert report_of(bench, ref) == (0, 0, 1)
    with pytest.raises(MineError, match="mine"):
        ref.ask(kind(fail, (MineError, "mine")))
    bench.until(lambda: len(bench.of(events.ComponentRecovered, ref)) == 2)
    assert [report.dropped for report in bench.of(events.ComponentRecovered, ref)] == [1, 1]
    assert bench.of(events.DeadLetters, ref) == []


class MineError(Exception):
    """What an asker recognizes."""


def test_what_is_sent_after_the_fault_waits_whatever_its_type(
    bench: LimitBench, notes: Notes
) -> None:
    """`OnRestart`: Given DROP and FAIL sent while there is no incarnation, then the next one
    handles them: only what was queued at the fault is concerned."""
    ref = bench.started(notes=notes, recovery=again)
    ref.ask(Do(save_only, (notes, tell_and_restart)))
    ref.tell(Do(fail))
    bench.until(lambda: notes.lines()[-2:] == ["drop", "fail"])
    assert bench.of(events.DeadLetters, ref) == []


def test_without_recovery_all_tells_are_dead_letters_of_the_end(
    bench: LimitBench, notes: Notes
) -> None:
    """S-08: Given no recovery function, then tells of every kind are dead letters together, with
    the reason of the end, and asks fail as those of a dead component."""
    ref = bench.system.create(partial(Holder, "x", notes), name="unrecovered")
    ref.tell(Do(fail))
    for kind in (Do, DoAgain, DoOrDrop, DoOrFail):
        ref.tell(kind(note, (notes, "never")))
    asks = [ref.ask(kind(fail), block=False) for kind in (DoOrDrop, DoOrFail)]
    bench.system.start(ref)
    for ask in asks:
        with pytest.raises(ComponentDestroyedError):
            ask.result(LIMIT)
    bench.until(lambda: bool(bench.of(events.ComponentEnded, ref)))
    (letters,) = bench.of(events.DeadLetters, ref)
    assert (letters.count, "no recovery function" in letters.reason) == (4, True)
    assert notes.lines() == ["start"]


def test_a_bounded_mailbox_keeps_what_its_types_want(bench: LimitBench, notes: Notes) -> None:
    """S-20: Given a full mailbox and a fault, then what is dropped makes room, and the rest
    follows."""
    ref = passive(bench, notes, mailbox_limit=4)
    for kind in (DoOrDrop, DoAgain, DoOrFail):
        if kind is DoOrDrop:
            ref.tell(Do(fail))
        ref.tell(kind(note, (notes, kind.__name__)))
    bench.system.start(ref)
    assert report_of(bench, ref) == (1, 1, 2)
    bench.until(lambda: "DoAgain" in notes.lines())
    assert ref.ask(Do(note, (notes, "end"))) is None
    assert notes.lines()[-2:] == ["DoAgain", "end"]


@pytest.mark.parametrize("backend", ["thread", "pool", "manual"], indirect=True)
def test_a_class_that_will_not_be_looked_at_is_as_by_default(
    bench: LimitBench, notes: Notes
) -> None:
    """Bad input: Given messages whose metaclass raises when it is hashed, compared or asked for
    `on_restart`, then they meet the next incarnation beside others that are dropped."""
    ref = passive(bench, notes)
    ref.tell(Do(fail))
    ref.tell(MoodyNote("moody"))
    ref.tell(DoOrDrop(note, (notes, "never")))
    bench.system.start(ref)
    bench.until(lambda: "moody" in notes.lines())
    assert report_of(bench, ref) == (1, 0, 2)


@pytest.mark.parametrize("backend", ["process"], indirect=True)
def test_a_process_that_ends_at_rest_drops_nothing(bench: LimitBench, notes: Notes) -> None:
    """The recovery report: Given no message in hand when the process is killed, then none is
    dropped, and the queued ones are counted as their types say."""
    ref = bench.started(notes=notes, recovery=again)
    bench.system.stop(ref).result(LIMIT)
    ref.tell(DoOrDrop(note, (notes, "never")))
    os.kill(ref._cell.component.child.pid, signal.SIGKILL)
    assert report_of(bench, ref) == (0, 0, 1)


@pytest.mark.parametrize("kind", list(OnRestart))
def test_each_choice_can_be_declared(kind: OnRestart) -> None:
    """Given a request or any other class with `on_restart`, then that is what it wants."""
    assert on_restart(type("Declares", (Request,), {"on_restart": kind})) is kind
    assert on_restart(type("Declares", (), {"on_restart": kind})) is kind


@pytest.mark.parametrize("wrong", ["drop", 1, None, OnRestart])
def test_a_request_that_declares_something_else_is_refused(wrong: object) -> None:
    """Bad input, rule 11: at once, with the class, the value and the way out."""
    with pytest.raises(ArgumentTypeError, match=r"Wrong.on_restart is .*give a member of OnR"):
        type("Wrong", (Request,), {"on_restart": wrong})


@pytest.mark.parametrize("odd", ["drop", 1, None])
def test_any_other_class_may_have_an_attribute_of_that_name(odd: object) -> None:
    """Given a class that is no request and means something else by it, then that is nothing."""
    assert on_restart(type("Odd", (), {"on_restart": odd})) is OnRestart.DEFAULT
    assert on_restart(Moody("Odd", (), {})) is OnRestart.DEFAULT


def test_a_mailbox_names_each_type_once() -> None:
    """Given ten thousand messages of three types, one of which cannot be hashed, then three."""
    mailbox = Mailbox()
    mailbox.box = [Add("a"), 1, MoodyNote("m")] * 3000
    mailbox.backlog = [Add("b")] * 1000
    types, waiting = mailbox.types(0)
    assert sorted(kind.__name__ for kind in types) == ["Add", "MoodyNote", "int"]
    assert waiting == 10_000


@pytest.mark.parametrize("known", range(12))
def test_a_mailbox_leaves_out_what_is_known(known: int) -> None:
    """Given ten messages of ten types, five of them in the backlog, then all but the oldest that
    are known, each in its turn; and ten wait."""
    kinds = [type(f"Kind{number}", (), {}) for number in range(10)]
    mailbox = Mailbox()
    mailbox.backlog = [kind() for kind in reversed(kinds[:5])]
    mailbox.box = [kind() for kind in kinds[5:]]
    types, waiting = mailbox.types(known)
    assert (set(types), waiting) == (set(kinds[known:]), 10)


def test_what_comes_between_two_faults_is_seen_at_the_second(
    bench: LimitBench, notes: Notes
) -> None:
    """`OnRestart`: Given a second fault in what was queued at the first, then DROP and FAIL that
    were sent in between are refused at it; by then they were queued."""
    ref = bench.started(notes=notes, recovery=again)
    ref.ask(Do(save_only, (notes, tell_and_restart)))
    bench.system.stop(ref).result(LIMIT)
    for line in ("one", "two", "three", "four"):
        ref.tell(Do(note, (notes, line)))
        if line in ("one", "three"):
            ref.tell(Do(fail))
    bench.system.start(ref)
    bench.until(lambda: len(bench.of(events.ComponentRecovered, ref)) == 2)
    assert ref.ask(Do(note, (notes, "end"))) is None
    lines = [line for line in notes.lines() if line not in ("start", "stop")]
    assert lines == ["one", "two", "three", "four", "end"]
    counts = [(letters.types, letters.count) for letters in bench.of(events.DeadLetters, ref)]
    assert counts == [(("DoOrDrop",), 1), (("DoOrFail",), 1)]


@pytest.mark.parametrize("backend", ["thread", "pool", "manual"], indirect=True)
def test_what_one_fault_has_looked_at_the_next_does_not(
    bench: LimitBench, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PERFORMANCE, "100,000 faults": Given 300 messages that fault each, then the first fault
    looks at the 299 behind it, the others at nothing, and the last not at all."""
    ref = passive(bench, notes, budget=RestartLimit(1000, 60.0))
    looks: list[int] = []
    types = Mailbox.types

    def count(mailbox: Mailbox, known: int) -> Any:
        looks.append(mailbox.waiting() - known)
        return types(mailbox, known)

    monkeypatch.setattr(Mailbox, "types", count)
    for _ in range(300):
        ref.tell(Do(fail))
    bench.system.start(ref)
    bench.until(lambda: ref.incarnation == 301)
    assert looks == [299, *[0] * 298]
