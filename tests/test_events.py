"""What happened that somebody watching a system should know?"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from kompyct import (
    Benign,
    Component,
    ComponentRef,
    ComponentSystem,
    FaultContext,
    RecoveryHandler,
    Request,
    RestartLimit,
    State,
    Unrecoverable,
)
from kompyct.errors import ComponentCreateError, KompyctError
from kompyct.events import (
    BenignError,
    ComponentEnded,
    ComponentFaulted,
    ComponentRecovered,
    CreateFailed,
    DeadLetters,
    Escalated,
    Event,
    FallbackApplied,
    FaultIgnored,
    NoRecoveryFunction,
    RestartFailed,
    RestartLimitReached,
)
from kompyct.publisher import LINES_PER_SECOND, MAX_OBSERVER_ERRORS
from kompyct.testing import TestSystem
from kompyct.testing import hang as simulated_hang
from tests.conftest import LIMIT, Bench

SECRET = "s3cr3t"


@dataclass(frozen=True)
class Call(Request[Any]):
    """Ask for `action(component)`."""

    action: Callable[[Any], Any]


@dataclass(frozen=True)
class Letter:
    """A message with something that no log may show."""

    text: str


class Actor(Component[Any]):
    """Calls what it is sent; `recovery` is registered at each start."""

    def __init__(
        self,
        recovery: Callable[[FaultContext[Any]], Any] | None = None,
        start_error: Callable[[int], bool] | None = None,
    ) -> None:
        self.recovery = recovery
        self.start_error = start_error

    def on_start(self) -> None:
        if self.recovery is not None:
            self.set_recovery_function(self.recovery, snapshot={"state": SECRET})
        if self.start_error is not None and self.start_error(self.ref.incarnation):
            raise RuntimeError(f"cannot start with {SECRET}")

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Letter):
            raise ValueError(f"cannot handle {message.text}")
        return message.action(self) if isinstance(message, Call) else message(self)


def restart(fault: FaultContext[Any]) -> RecoveryHandler:
    return fault.restart()


def boom(component: Any) -> None:
    raise ValueError(f"boom {SECRET}")


def created(bench: Bench, *arguments: Any, **options: Any) -> ComponentRef[Any]:
    return bench.system.create(lambda: Actor(*arguments), name="subject", **options)


def started(bench: Bench, *arguments: Any, **options: Any) -> ComponentRef[Any]:
    ref = created(bench, *arguments, **options)
    bench.system.start(ref).result(LIMIT)
    return ref


def kinds(bench: Bench) -> list[str]:
    """What was published once the system had ended, by type."""
    bench.system.shutdown()
    return [type(event).__name__ for event in bench.events]


# -- one event each ----------------------------------------------------------------------------


def test_a_fault_and_its_recovery_are_one_event_each(bench: Bench) -> None:
    """B-89: Given a fault that is recovered, one event for the fault and one report, with id,
    incarnation, cause and counters.
    """
    ref = started(bench, restart)
    ref.tell(boom)
    report = bench.event(ComponentRecovered)
    (fault,) = bench.events.of(ComponentFaulted)
    assert (fault.component_id, fault.path, fault.incarnation) == (1, "subject", 1)
    assert (fault.kind, fault.phase, fault.error) == ("exception", "receive", "ValueError")
    assert (fault.attempt, fault.suspect, fault.pending, fault.restarts) == (1, 0, 0, 0)
    assert fault.location.endswith(" in boom")
    assert (report.component_id, report.path, report.incarnation) == (1, "subject", 2)
    assert (report.kind, report.phase, report.error) == ("exception", "receive", "ValueError")
    assert (report.redelivered, report.failed, report.dropped) == (0, 0, 1)
    assert (report.restarts, report.restarts_left) == (1, 9)
    assert report.downtime >= 0
    assert kinds(bench) == ["ComponentFaulted", "ComponentRecovered", "ComponentEnded"]


def test_a_failed_restart_is_one_event_and_a_fault_of_its_own(bench: Bench) -> None:
    """B-89: Given a replacement that faults in `on_start`, one event for the failed restart
    beside that of its fault (S-13); the report comes when one has started.
    """
    ref = started(bench, restart, lambda incarnation: incarnation == 2)
    ref.tell(boom)
    assert bench.event(ComponentRecovered).incarnation == 3
    (failed,) = bench.events.of(RestartFailed)
    assert (failed.component_id, failed.incarnation, failed.error) == (1, 2, "RuntimeError")
    assert failed.phase == "start"
    assert [fault.incarnation for fault in bench.events.of(ComponentFaulted)] == [1, 2]
    assert sorted(kinds(bench)) == sorted(
        [
            "ComponentFaulted",
            "RestartFailed",
            "ComponentFaulted",
            "ComponentRecovered",
            "ComponentEnded",
        ]
    )


def test_reaching_the_limit_is_one_event_and_one_final_end(bench: Bench) -> None:
    """B-89: Given a budget of 1, the second fault reaches the limit: one event with the limit,
    one for the end with the reason.
    """
    ref = started(bench, restart, budget=RestartLimit(1, 60.0))
    ref.tell(boom)
    ref.tell(boom)
    ended = bench.event(ComponentEnded)
    (limit,) = bench.events.of(RestartLimitReached)
    assert (limit.component_id, limit.incarnation, limit.error) == (1, 2, "ValueError")
    assert (limit.max_restarts, limit.within) == (1, 60.0)
    assert (ended.component_id, ended.incarnation, ended.error) == (1, 2, "ValueError")
    assert ended.restarts == 1
    assert "limit of 1 in 60 s" in ended.reason
    assert kinds(bench) == [
        "ComponentFaulted",
        "ComponentRecovered",
        "ComponentFaulted",
        "RestartLimitReached",
        "ComponentEnded",
    ]


def wrong_answer(fault: FaultContext[Any]) -> Any:
    return 42


def raise_in_recovery(fault: FaultContext[Any]) -> Any:
    raise LookupError(SECRET)


@pytest.mark.parametrize(
    ("recovery", "error"),
    [(raise_in_recovery, "LookupError"), (wrong_answer, "RecoveryFunctionError")],
)
def test_a_fallback_is_one_event_with_both_causes(
    bench: Bench, recovery: Callable[[FaultContext[Any]], Any], error: str
) -> None:
    """B-89: Given a recovery function that does not work, one event with both causes and what
    was done instead, then one for the end.
    """
    started(bench, recovery).tell(boom)
    bench.event(ComponentEnded)
    (fallback,) = bench.events.of(FallbackApplied)
    assert (fallback.component_id, fallback.incarnation) == (1, 1)
    assert (fallback.error, fallback.recovery_error) == ("ValueError", error)
    assert fallback.fallback == "end"
    assert kinds(bench) == ["ComponentFaulted", "FallbackApplied", "ComponentEnded"]


def test_a_recovery_that_hangs_is_one_fallback(make_bench: Callable[..., Bench]) -> None:
    """B-89: Given a recovery that hangs beyond its deadline, one fallback event; that it ended
    after all is told as well, and changes nothing.
    """
    bench = make_bench(recovery_deadline=0.05)
    release = threading.Event()

    def hang(fault: FaultContext[Any]) -> RecoveryHandler:
        if bench.manual:
            simulated_hang()
        release.wait(LIMIT)
        return fault.restart()

    started(bench, hang).tell(boom)
    assert bench.event(FallbackApplied).recovery_error == "RecoveryTimeoutError"
    bench.event(ComponentEnded)
    release.set()
    counted = [kind for kind in kinds(bench) if kind != "LateAnswer"]
    assert counted == ["ComponentFaulted", "FallbackApplied", "ComponentEnded"]


def test_no_recovery_function_is_one_warning_that_names_the_component(bench: Bench) -> None:
    """B-89, B-18: one fault, one warning, one end."""
    started(bench).tell(boom)
    bench.event(ComponentEnded)
    (warning,) = bench.events.of(NoRecoveryFunction)
    assert "'subject'" in str(warning)
    assert kinds(bench) == ["ComponentFaulted", "NoRecoveryFunction", "ComponentEnded"]


def test_each_answer_of_a_recovery_function_ends_in_one_event(bench: Bench) -> None:
    """B-89, S-11: `ignore()` is an end plus a warning; `end()` the same without it."""
    started(bench, lambda fault: fault.ignore()).tell(boom)
    ended = bench.event(ComponentEnded)
    assert (ended.error, ended.restarts) == ("ValueError", 0)
    assert len(bench.events.of(FaultIgnored)) == 1
    bench.events.clear()
    started(bench, lambda fault: fault.end()).tell(boom)
    bench.event(ComponentEnded)
    assert kinds(bench) == ["ComponentFaulted", "ComponentEnded"]


def test_an_escalation_is_one_event_and_stops_the_system(backend: str) -> None:
    """B-89, S-08: one event for the escalation, one end for each component; the cause is raised
    by leaving `with`.
    """
    bench = Bench(backend)

    def live() -> None:
        with bench.system:
            started(bench, lambda fault: fault.escalate()).tell(boom)
            bench.event(Escalated)

    with pytest.raises(ValueError, match="boom"):
        live()
    ended = [type(event).__name__ for event in bench.events]
    assert ended == ["ComponentFaulted", "Escalated", "ComponentEnded"]


def test_an_unrecoverable_fault_is_one_fault_and_one_end(bench: Bench) -> None:
    """B-89, B-13: nothing in between."""

    def end(component: Any) -> None:
        raise Unrecoverable("for good")

    started(bench, restart).tell(end)
    assert bench.event(ComponentEnded).error == "Unrecoverable"
    assert kinds(bench) == ["ComponentFaulted", "ComponentEnded"]


def test_a_kill_is_one_end_without_a_fault(bench: Bench) -> None:
    """B-89: a final stop is one event; `error` is None when no fault led to it."""
    ref = started(bench, restart)
    bench.system.kill(ref).result(LIMIT)
    ended = bench.event(ComponentEnded)
    assert (ended.reason, ended.error, ended.incarnation) == ("killed", None, 1)
    assert kinds(bench) == ["ComponentEnded"]


def test_a_first_creation_that_raises_is_one_event(bench: Bench) -> None:
    """B-89, S-13: it raises to the caller, leaves nothing, and emits an event."""

    def fail() -> Component[Any]:
        raise RuntimeError(SECRET)

    with pytest.raises(ComponentCreateError):
        bench.system.create(fail, name="subject")
    assert bench.event(CreateFailed).error == "RuntimeError"
    assert kinds(bench) == ["CreateFailed"]


def test_events_of_one_component_come_in_the_order_things_happened(bench: Bench) -> None:
    """Fault, report, fault, report, …, end; incarnations 1 to 6, times never going back."""
    ref = started(bench, restart)
    for _ in range(5):
        ref.tell(boom)
    bench.event(ComponentRecovered, 5)
    names = kinds(bench)
    assert names == ["ComponentFaulted", "ComponentRecovered"] * 5 + ["ComponentEnded"]
    assert [event.incarnation for event in bench.events] == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    times = [event.time for event in bench.events]
    assert times == sorted(times)


# -- a storm -----------------------------------------------------------------------------------


def storm(bench: Bench, components: int, faults: int) -> None:
    """Many components fault at once, with budgets that some exhaust."""
    refs = [
        bench.system.create(
            lambda: Actor(restart, lambda incarnation: incarnation % 7 == 3),
            budget=RestartLimit(5 + number, 60.0),
        )
        for number in range(components)
    ]
    for ref in refs:
        for _ in range(faults):
            ref.tell(boom)
        bench.system.start(ref)
    bench.until(lambda: not any(ref.is_alive for ref in refs))


def account(bench: Bench) -> tuple[int, int]:
    """How many faults there were, and how many are accounted for."""
    count = bench.events.of
    given_up = [event for event in count(ComponentEnded) if event.error is not None]
    accounted = len(count(ComponentRecovered)) + len(count(RestartFailed)) + len(given_up)
    return len(count(ComponentFaulted)), accounted


def test_in_a_storm_every_fault_is_recovered_or_given_up(bench: Bench) -> None:
    """B-89, RELIABILITY: all accounted for. Each fault leads to a replacement that starts (a
    report), to one that fails to (its own event), or to the end. A budget of n allows n restarts,
    so component number i faults 5 + i + 1 times: 20 components, 6 + … + 25 = 310 faults.
    """
    storm(bench, 20, 60)
    bench.system.shutdown()
    assert account(bench) == (310, 310)
    assert len(bench.events.of(ComponentEnded)) == 20
    assert len(bench.events.of(RestartLimitReached)) == 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_in_a_long_storm_every_fault_is_recovered_or_given_up(bench: Bench) -> None:
    """RELIABILITY: the longer form, `pytest -m slow tests/test_events.py`: 200 components,
    6 + … + 205 = 21,100 faults.
    """
    storm(bench, 200, 300)
    bench.system.shutdown()
    assert account(bench) == (21_100, 21_100)


# -- the tree ----------------------------------------------------------------------------------


def test_the_tree_shows_every_component_and_its_counts_agree(bench: Bench) -> None:
    """B-90: Given running, restarting and stopped children, the listing shows id, state,
    incarnation and restarts in the window, and the counts agree with it.
    """
    seen: list[Any] = []

    def look(fault: FaultContext[Any]) -> RecoveryHandler:
        seen.append(bench.system.tree())
        return fault.restart()

    ref = started(bench, look)
    idle = bench.system.create(lambda: Actor(), name="idle")
    ref.tell(boom)
    bench.event(ComponentRecovered)
    during = {child.path: child for child in seen[0].children}
    assert during["subject"].status == "restarting"
    assert during["subject"].state is State.FAULTY
    assert during["idle"].status == "stopped"
    assert seen[0].counts() == {"running": 0, "restarting": 1, "stopped": 1}
    after = bench.system.tree()
    assert after.counts() == {"running": 1, "restarting": 0, "stopped": 1}
    subject, other = after.children
    assert (subject.component_id, subject.name, subject.path) == (1, "subject", "subject")
    assert (subject.incarnation, subject.restarts, subject.status) == (2, 1, "running")
    assert (other.component_id, other.incarnation, other.restarts) == (2, 1, 0)
    assert subject.backend == bench.backend
    assert subject.snapshot_age is not None
    assert subject.snapshot_age >= 0
    assert other.snapshot_age is None
    bench.system.kill(idle).result(LIMIT)
    assert bench.system.tree().counts() == {"running": 1, "restarting": 0, "stopped": 0}


def test_the_tree_counts_restarts_in_the_window_only(bench: Bench) -> None:
    """B-90: restarts in window: those of the last 50 ms here; then none."""
    ref = started(bench, restart, budget=RestartLimit(1000, 0.05))
    ref.tell(boom)
    bench.event(ComponentRecovered)
    bench.pass_time(0.06)
    (child,) = bench.system.tree().children
    assert (child.incarnation, child.restarts) == (2, 0)


def test_the_tree_shows_what_waits(bench: Bench) -> None:
    """B-90's listing also says how many messages wait."""
    ref = created(bench)
    for _ in range(300):
        ref.tell(boom)
    (child,) = bench.system.tree().children
    assert child.mailbox_length == 300


def test_the_root_of_the_tree_is_the_system(bench: Bench) -> None:
    """DESIGN: `tree()`; the root is the supervisor, and runs."""
    root = bench.system.tree()
    bench.settle()
    bench.until(lambda: bench.system.tree().status == "running")
    assert (root.component_id, root.name, root.path) == (0, bench.system.name, "")
    assert root.children == ()
    assert root.counts() == {"running": 0, "restarting": 0, "stopped": 0}


def test_the_tree_can_be_read_while_components_come_and_go(bench: Bench) -> None:
    """Any thread may look: 200 looks while 200 components are created, fault and end."""
    wrong: list[Any] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            try:
                tree = bench.system.tree()
                assert sum(tree.counts().values()) == len(tree.children)
            except Exception as error:
                wrong.append(error)
                return

    watcher = threading.Thread(target=look)
    watcher.start()
    for number in range(100):
        ref = bench.system.create(lambda: Actor(restart), start=True)
        ref.tell(boom)
        if number % 2:
            bench.system.kill(ref).result(LIMIT)
    bench.event(ComponentRecovered)
    over.set()
    watcher.join(LIMIT)
    assert wrong == []


# -- events are facts --------------------------------------------------------------------------


def test_events_are_frozen_and_show_no_values(bench: Bench) -> None:
    """Scope 8: frozen event objects, never values of messages or state."""
    ref = started(bench, restart, lambda incarnation: incarnation == 2)
    ref.tell(Letter(SECRET))
    bench.event(ComponentRecovered)
    bench.system.kill(ref).result(LIMIT)
    ref.tell(Letter(SECRET))
    bench.event(DeadLetters)
    for event in bench.events:
        assert SECRET not in repr(event)
        assert SECRET not in str(event)
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.path = "other"  # type: ignore[misc]


def test_every_kind_of_event_describes_itself_and_has_a_level() -> None:
    """CONVENTIONS (suture): every event knows its text: it names the component, or the store."""
    classes = Event.__subclasses__()
    assert len(classes) >= 12
    of_the_store = {"SnapshotsNotSaved", "SnapshotsSaved", "SnapshotDamaged"}
    for cls in classes:
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            values[field.name] = {
                "str": "text",
                "int": 1,
                "float": 1.0,
                "float | None": 1.0,
                "int | None": 1,
                "str | None": "text",
                "tuple[str, ...]": ("text",),
                "bool": True,
            }[str(field.type)]
        values["path"] = "subject"
        assert ("the store" if cls.__name__ in of_the_store else "'subject'") in str(cls(**values))
        assert logging.INFO <= cls.level <= logging.ERROR


# -- logging -----------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[list[logging.LogRecord]]:
    """What goes to the logger `kompyct` itself, at every level."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger = logging.getLogger("kompyct")
    handler = Keep()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield records
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_each_event_is_one_line_of_the_logger_kompyct(
    bench: Bench, lines: list[logging.LogRecord]
) -> None:
    """Scope 8: one log line each through `logging`, logger `kompyct`, at the event's level."""
    started(bench, restart, budget=RestartLimit(1, 60.0)).tell(boom)
    bench.event(ComponentRecovered)
    found = bench.system.find("subject")
    assert found is not None
    found.tell(boom)
    bench.event(ComponentEnded)
    bench.system.shutdown()
    assert [record.getMessage() for record in lines] == [str(event) for event in bench.events]
    assert [record.levelno for record in lines] == [event.level for event in bench.events]
    assert {record.name for record in lines} == {"kompyct"}
    assert all("\n" not in record.getMessage() for record in lines)


def test_the_log_shows_no_values_of_messages_or_state(
    bench: Bench, lines: list[logging.LogRecord]
) -> None:
    """Scope 8: never values of messages or state, nor the texts of exceptions, which may hold
    them: through faults, failed restarts, benign errors, fallbacks and dead letters.
    """

    def refuse(component: Any) -> None:
        raise Benign(SECRET)

    ref = started(bench, restart, lambda incarnation: incarnation == 2)
    ref.tell(refuse)
    ref.tell(Letter(SECRET))
    bench.event(ComponentRecovered)
    bench.system.kill(ref).result(LIMIT)
    ref.tell(Letter(SECRET))
    started(bench, raise_in_recovery).tell(Letter(SECRET))
    bench.event(FallbackApplied)
    bench.system.shutdown()
    assert len(lines) >= 8
    formatter = logging.Formatter()
    assert not [record for record in lines if SECRET in formatter.format(record)]


def test_a_storm_writes_a_bounded_number_of_lines(lines: list[logging.LogRecord]) -> None:
    """Scope 8: bounded in a storm: of 300 events within one virtual second, LINES_PER_SECOND are
    logged; the next second says how many were not: 300 - 50 = 250.
    """
    with TestSystem() as system:
        ref: ComponentRef[Any] = system.create(Actor, start=True)

        def refuse(component: Any) -> None:
            raise Benign

        for _ in range(300):
            ref.tell(refuse)
        system.run_until_idle()
        assert len(system.events.of(BenignError)) == 300
        assert len(lines) == LINES_PER_SECOND == 50
        system.advance(1.0)
        ref.tell(refuse)
        system.run_until_idle()
        assert len(lines) == 52
        assert lines[50].getMessage() == "250 more events were not logged"


def test_a_real_storm_writes_a_bounded_number_of_lines(
    bench: Bench, lines: list[logging.LogRecord]
) -> None:
    """Scope 8: over every backend: some 600 events give at most 51 lines in each second begun."""
    begun = bench.system.clock.now()
    storm(bench, 20, 60)
    seconds = (bench.system.clock.now() - begun) // 1_000_000_000 + 2
    assert len(bench.events) >= 600
    assert len(lines) <= 51 * seconds


# -- observers that misbehave ------------------------------------------------------------------


@pytest.mark.parametrize("cls", [ValueError, SystemExit])
def test_an_on_event_that_raises_is_logged_once_and_skipped_after_ten(
    backend: str, cls: type[BaseException], lines: list[logging.LogRecord]
) -> None:
    """Rules, defaults: an exception of `on_event` is logged once, and it is skipped after
    ten; recoveries go on meanwhile.
    """
    calls: list[Event] = []

    def observe(event: Event) -> None:
        calls.append(event)
        raise cls("no")

    with ComponentSystem(backend=backend, on_event=observe) as system:  # type: ignore[arg-type]
        ref: ComponentRef[Any] = system.create(lambda: Actor(restart), budget=RestartLimit(50, 60))
        system.start(ref).result(LIMIT)
        for count in range(1, 21):
            with pytest.raises(ValueError, match="boom"):
                ref.ask(Call(boom))
            assert ref.ask(Call(lambda component: component.ref.incarnation)) == count + 1
    assert len(calls) == MAX_OBSERVER_ERRORS == 10
    blames = [record.getMessage() for record in lines if "on_event" in record.getMessage()]
    assert blames == [
        f"on_event raised {cls.__name__}",
        "on_event raised 10 times; it is called no more",
    ]


def test_an_on_event_may_use_the_system(backend: str) -> None:
    """It runs on the supervisor's thread and must not block; telling and looking do not."""
    told: list[str] = []
    refs: list[ComponentRef[Any]] = []

    def observe(event: Event) -> None:
        system.tree()
        if isinstance(event, ComponentRecovered):
            refs[0].tell(lambda component: told.append(event.path))
            over.set()

    over = threading.Event()
    with ComponentSystem(backend=backend, on_event=observe) as system:  # type: ignore[arg-type]
        refs.append(system.create(lambda: Actor(restart), name="subject", start=True))
        with pytest.raises(ValueError, match="boom"):
            refs[0].ask(Call(boom))
        assert refs[0].ask(Call(lambda component: component.ref.incarnation)) == 2
        if backend != "manual":
            assert over.wait(LIMIT)
        refs[0].ask(Call(lambda component: None))
    assert told == ["subject"]


def test_a_log_handler_that_raises_does_not_stop_recoveries(bench: Bench) -> None:
    """DESIGN: nothing a user writes in Python can poison the system; a handler of the program's
    logging runs on the supervisor's thread.
    """

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("disk full")

    logger = logging.getLogger("kompyct")
    handler = Broken()
    logger.addHandler(handler)
    try:
        ref = started(bench, restart)
        for count in range(1, 4):
            ref.tell(boom)
            bench.event(ComponentRecovered, count)
        with pytest.raises(ValueError, match="boom"):
            ref.ask(Call(boom), timeout=1.0)
        assert ref.ask(Call(lambda component: component.ref.incarnation), timeout=1.0) == 5
    finally:
        logger.removeHandler(handler)


def test_an_undelivered_hook_that_raises_disturbs_nobody(
    make_bench: Callable[..., Bench],
) -> None:
    """`on_undelivered` is users' code on the supervisor's thread as well."""
    seen: list[Any] = []

    def refuse(path: str, message: Any) -> None:
        seen.append(message)
        raise KompyctError("no")

    bench = make_bench(on_undelivered=refuse)
    dead = started(bench)
    bench.system.kill(dead).result(LIMIT)
    for number in range(3):
        dead.tell(number)
    bench.until(lambda: seen == [0, 1, 2])
    ref = started(bench, restart)
    ref.tell(boom)
    assert bench.event(ComponentRecovered).incarnation == 2
