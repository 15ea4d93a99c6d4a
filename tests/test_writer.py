"""Do saves reach the store in time, in order, and whatever the store does?"""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kompyct import ComponentRef, ComponentSystem, FaultContext, RecoveryHandler, State
from kompyct.backends import pool
from kompyct.codecs import decode
from kompyct.errors import ArgumentError, IncarnationEndedError, NotStartedError, StoreError
from kompyct.events import (
    ComponentEnded,
    ComponentFaulted,
    ComponentRecovered,
    SnapshotsNotSaved,
    SnapshotsSaved,
)
from kompyct.lifecycle import Status
from kompyct.store.directory import DirectoryStore
from kompyct.store.snapshots import Entry, Mark, MemoryStore, Snapshot
from kompyct.testing import EventRecorder, TestSystem
from tests.conftest import LIMIT, Bench
from tests.test_claims import Do, Keeper

ROOT = Path(__file__).parent.parent
MakeBench = Callable[..., Bench]


class WatchedStore(MemoryStore):
    """Notes what is saved; fails on demand, before anything of a batch is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Entry]] = []
        self.error: BaseException | None = None
        self.failures = 0
        self.gate: threading.Event | None = None
        self.entered = threading.Event()

    def save(self, entries: Sequence[Entry]) -> None:
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(LIMIT)
        if self.error is not None:
            self.failures += 1
            raise self.error
        self.batches.append(list(entries))
        super().save(entries)

    def values(self, path: str = "a") -> list[Any]:
        """The values of the snapshots saved of that path, in their order."""
        return [
            decode(entry.data)
            for batch in self.batches
            for entry in batch
            if isinstance(entry, Snapshot) and entry.path == path and entry.data is not None
        ]

    def newest(self, path: str = "a") -> Any:
        """The value of what a lost process would leave; None if there is nothing."""
        kept = self.load(path)
        return decode(kept[0].data) if kept and kept[0].data is not None else None


def full() -> StoreError:
    return StoreError("no space left", path="/state", phase="write", errno=errno.ENOSPC)


def recover(fault: FaultContext[Any]) -> RecoveryHandler:
    found = fault.snapshot
    return fault.restart(lambda: Keeper(found))


def boom(component: Any) -> None:
    raise ValueError("boom")


def create(system: ComponentSystem, name: str | None = "a", **options: Any) -> ComponentRef[Any]:
    ref = system.create(options.pop("factory", Keeper), name=name, **options)
    system.start(ref).result(LIMIT)
    return ref


def save(ref: ComponentRef[Any], value: Any, **options: Any) -> None:
    ref.ask(Do(lambda it: it.set_recovery_function(recover, snapshot=value, **options)))


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore()


@pytest.fixture
def system(store: WatchedStore) -> Iterator[TestSystem]:
    """In virtual time; its store may fail to the end."""
    system = TestSystem(store=store)
    yield system
    store.error = None
    system.shutdown()


# -- behind ---------------------------------------------------------------------------------------


def test_a_save_is_in_the_store_within_100_ms(system: TestSystem, store: WatchedStore) -> None:
    """S-24: write-behind: at most 100 ms old; the caller does not wait for it."""
    ref = create(system)
    save(ref, 1)
    assert store.newest() is None
    system.advance(0.1)
    assert store.newest() == 1


def test_however_often_is_saved_the_store_is_never_100_ms_behind(
    system: TestSystem, store: WatchedStore
) -> None:
    """S-24: saves do not put off the write: one each 7 ms for 3 s; at each moment the store has
    what was the latest 100 ms before, and at most one write in 10 ms.
    """
    ref = create(system)
    for step in range(430):
        save(ref, step)
        system.advance(0.007)
        expected = step - 14  # 14 * 7 ms are the first 98 ms; 15 steps back is 105 ms ago
        if expected > 0:
            assert store.newest() >= expected
    assert len(store.values()) <= 301


def test_the_latest_of_several_saves_is_the_one_written(
    system: TestSystem, store: WatchedStore
) -> None:
    """S-24: the latest value wins per component: of 100 at one moment, one is written."""
    ref = create(system)
    for number in range(100):
        save(ref, number)
    system.advance(0.1)
    assert store.values() == [99]


def test_what_is_saved_together_is_written_together(
    system: TestSystem, store: WatchedStore
) -> None:
    """S-24: group-committed: 20 components, one call of the store for all."""
    refs = [create(system, f"c{number}") for number in range(20)]
    system.advance(1.0)
    store.batches.clear()
    for number, ref in enumerate(refs):
        save(ref, number)
    system.advance(0.1)
    assert len(store.batches) == 1
    assert [store.values(f"c{number}") for number in range(20)] == [[n] for n in range(20)]


def test_nothing_to_save_writes_nothing(system: TestSystem, store: WatchedStore) -> None:
    """An idle system is idle: no entries at all in a minute, and none of a nameless component."""
    ref = create(system)
    save(ref, 1)
    nameless = create(system, None)
    save(nameless, 2)
    system.advance(1.0)
    store.batches.clear()
    system.advance(60.0)
    system.flush()
    assert [batch for batch in store.batches if batch] == []
    assert store.paths() == ("a",)


def test_the_time_of_a_save_is_not_that_of_its_write() -> None:
    """The snapshot's `saved_at` is wall time at the call; generations are counted from 1."""
    store = WatchedStore()
    with TestSystem(store=store) as system:
        ref = create(system)
        for number in (1, 2):
            save(ref, number)
            system.flush()
        kept = store.load("a")
        assert [snapshot.generation for snapshot in kept] == [2, 1]
        assert kept[0].saved_at >= kept[1].saved_at
        assert kept[0].python == f"{sys.version_info.major}.{sys.version_info.minor}"


# -- flush and durable ----------------------------------------------------------------------------


def test_flush_returns_when_everything_is_in_the_store(make_bench: MakeBench) -> None:
    """S-24: acknowledged by `flush()`."""
    store = WatchedStore()
    bench = make_bench(store=store)
    refs = [create(bench.system, name) for name in ("a", "b")]
    for number in range(5):
        for ref in refs:
            save(ref, number)
        bench.system.flush()
        assert (store.newest("a"), store.newest("b")) == (number, number)


@pytest.mark.parametrize("way", ["call", "system"])
def test_a_durable_save_is_in_the_store_when_it_returns(make_bench: MakeBench, way: str) -> None:
    """S-24: acknowledged by the call itself: chosen for the call, or for the system."""
    store = WatchedStore()
    bench = make_bench(store=store, durability="durable" if way == "system" else "memory")
    ref = create(bench.system)

    def save_and_look(component: Any, number: int) -> Any:
        options = {"durability": "durable"} if way == "call" else {}
        component.set_recovery_function(recover, snapshot=number, **options)
        return store.newest()

    for number in range(5):
        assert ref.ask(Do(lambda it, number=number: save_and_look(it, number))) == number  # type: ignore[misc]


def test_a_call_may_choose_memory_in_a_durable_system(store: WatchedStore) -> None:
    """`set_recovery_function`, durability: "memory" is written behind."""
    with TestSystem(store=store, durability="durable") as system:
        ref = create(system)
        save(ref, 1, durability="memory")
        assert store.newest() is None
        save(ref, 2)
        assert store.newest() == 2


def test_durable_from_many_threads_is_durable_for_each() -> None:
    """S-24 under contention: 8 components save durably 30 times each; each finds its own value in
    the store as soon as its call has returned.
    """
    store = WatchedStore()
    wrong: list[int] = []

    def work(component: Any) -> str:
        for number in range(30):
            component.set_recovery_function(recover, snapshot=number, durability="durable")
            if store.newest(component.ref.path) != number:
                wrong.append(number)
        return "done"

    with ComponentSystem(store=store) as system:
        refs = [create(system, f"c{number}") for number in range(8)]
        for ref in refs:
            ref.tell(work)
        for ref in refs:
            assert ref.ask(Do(lambda it: "at the end of the queue"), LIMIT)
    assert wrong == []
    assert [store.values(ref.path)[-1] for ref in refs] == [29] * 8


@pytest.mark.parametrize("told_first", [False, True])
def test_a_pool_goes_on_while_a_durable_save_waits_for_the_disk(
    monkeypatch: pytest.MonkeyPatch, told_first: bool
) -> None:
    """PERFORMANCE, durable: others of a pool save meanwhile, so that the next sync is for all.

    The watchdog, which would help after some looks, looks once in a long time here.
    """
    monkeypatch.setattr(pool, "TICK", 10 * LIMIT)
    saving, handled = threading.Event(), threading.Event()
    in_time: list[bool] = []

    class SlowStore(WatchedStore):
        def save(self, entries: Sequence[Entry]) -> None:
            saving.set()
            in_time.append(handled.wait(LIMIT))
            super().save(entries)

    def save_durably(component: Any) -> None:
        if told_first:
            other.tell(lambda it: handled.set())
        component.set_recovery_function(recover, snapshot=1, durability="durable")

    with ComponentSystem(store=SlowStore(), backend="pool") as system:
        saver, other = create(system, "saver"), create(system, "other")
        saver.tell(save_durably)
        assert saving.wait(LIMIT)
        if not told_first:
            other.tell(lambda it: handled.set())
        assert handled.wait(LIMIT)
    assert in_time[0]


def test_durable_needs_store_and_name(make_bench: MakeBench, store: WatchedStore) -> None:
    """`set_recovery_function`: ArgumentError: "durable" without store or name; nothing changes."""
    without = make_bench()
    with pytest.raises(ArgumentError, match="store="):
        save(create(without.system), 1, durability="durable")
    with pytest.raises(StoreError, match="store="):
        without.system.flush()
    bench = make_bench(store=store)
    with pytest.raises(ArgumentError, match="a name"):
        save(create(bench.system, None), 1, durability="durable")
    with pytest.raises(ArgumentError, match="give one of"):
        save(create(bench.system), 1, durability="eternal")
    with pytest.raises(ArgumentError, match="store="):
        ComponentSystem(durability="durable")


def test_durable_in_init_is_refused(system: TestSystem) -> None:
    """`set_recovery_function`: NotStartedError: there is nothing to be recovered yet."""

    class Early(Keeper):
        def __init__(self) -> None:
            super().__init__()
            with pytest.raises(NotStartedError):
                self.set_recovery_function(recover, snapshot=1, durability="durable")

    create(system, factory=Early)


# -- a store that fails ---------------------------------------------------------------------------


def test_a_failed_write_behind_is_an_event_and_is_retried(
    system: TestSystem, store: WatchedStore
) -> None:
    """B-78, S-24: the component is not faulted, the failure is reported with number and phase, the
    last good one stays; when the store works again the latest is written, which is reported.
    """
    ref = create(system)
    save(ref, "good")
    system.flush()
    store.error = full()
    save(ref, "late")
    system.advance(0.1)
    event = system.events.of(SnapshotsNotSaved)[0]
    assert (event.error, event.errno, event.phase) == ("StoreError", errno.ENOSPC, "write")
    assert (event.waiting, event.component_id) == (1, 0)
    assert event.retry > 0
    assert "no space left" in event.detail
    save(ref, "later")
    system.advance(10.0)
    assert store.newest() == "good"
    assert ref.state is State.ACTIVE
    assert not system.events.of(ComponentFaulted)
    store.error = None
    assert not system.events.of(SnapshotsSaved)
    system.advance(5.1)  # the longest time between two attempts, and the run itself
    assert store.newest() == "later"
    assert store.values() == ["good", "later"]
    assert len(system.events.of(SnapshotsSaved)) == 1


def test_attempts_become_rarer_while_the_store_fails(
    system: TestSystem, store: WatchedStore
) -> None:
    """writer: 0.1 s, doubled each time up to 5 s: 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, ...; in a
    minute that are 6 up to 6.3 s, and one each 5 s: at most 18. Saves in between make none more.
    """
    ref = create(system)
    system.flush()
    store.error = full()
    for number in range(600):
        save(ref, number)
        system.advance(0.1)
        assert store.failures <= 18
    retries = [event.retry for event in system.events.of(SnapshotsNotSaved)]
    assert retries[:8] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert 16 <= len(retries) <= 18
    assert store.failures == len(retries)


def test_after_a_failure_attempts_are_quick_again(system: TestSystem, store: WatchedStore) -> None:
    """Once it works, the next failure begins at 0.1 s again."""
    ref = create(system)
    for _ in range(2):
        system.events.clear()
        store.error = full()
        save(ref, "x")
        system.advance(3.0)
        assert system.events.of(SnapshotsNotSaved)[0].retry == pytest.approx(0.1)
        store.error = None
        system.advance(6.0)
        assert len(system.events.of(SnapshotsSaved)) == 1


def test_a_failed_flush_raises_and_the_last_good_one_stays(make_bench: MakeBench) -> None:
    """S-24: a failed `flush()` raises StoreError to its caller; a later one works."""
    store = WatchedStore()
    bench = make_bench(store=store)
    ref = create(bench.system)
    save(ref, "good")
    bench.system.flush()
    store.error = full()
    save(ref, "late")
    with pytest.raises(StoreError, match="no space left") as raised:
        bench.system.flush()
    assert raised.value.errno == errno.ENOSPC
    assert store.newest() == "good"
    assert ref.is_alive
    store.error = None
    bench.system.flush()
    assert store.newest() == "late"


def test_a_failed_durable_save_raises_in_the_component(make_bench: MakeBench) -> None:
    """S-24: StoreError to its caller; it counts all the same (recovery sees it), and is tried
    again. Caught, the component goes on.
    """
    store = WatchedStore()
    bench = make_bench(store=store)
    ref = create(bench.system)
    store.error = full()

    def save_durably(component: Any) -> str:
        with pytest.raises(StoreError):
            component.set_recovery_function(recover, snapshot="counts", durability="durable")
        return "went on"

    assert ref.ask(Do(save_durably)) == "went on"
    store.error = None
    bench.until(lambda: store.newest() == "counts")
    ref.tell(boom)
    bench.event(ComponentRecovered)
    assert ref.ask(Do(lambda it: it.value)) == "counts"


@pytest.mark.parametrize(
    "error", [RuntimeError("bug"), OSError(errno.EIO, "io"), MemoryError(), KeyError("bug")]
)
def test_whatever_a_store_raises_is_a_store_error(
    make_bench: MakeBench, error: BaseException
) -> None:
    """A store of the user's may raise anything: StoreError with that as its cause, and an event;
    the writer lives on.
    """
    store = WatchedStore()
    bench = make_bench(store=store)
    ref = create(bench.system)
    store.error = error
    save(ref, 1)
    with pytest.raises(StoreError, match=type(error).__name__) as raised:
        bench.system.flush()
    assert raised.value.__cause__ is error
    bench.event(SnapshotsNotSaved)
    store.error = None
    bench.until(lambda: store.newest() == 1, 10.0)


def test_recovery_works_while_the_store_fails(make_bench: MakeBench) -> None:
    """B-78: a full disk stops no recovery: also its mark (S-27) cannot be written."""
    store = WatchedStore()
    bench = make_bench(store=store)
    ref = create(bench.system)
    save(ref, "kept")
    store.error = full()
    ref.tell(boom)
    bench.event(ComponentRecovered)
    assert ref.ask(Do(lambda it: it.value)) == "kept"
    store.error = None


def test_a_claim_works_while_the_store_fails() -> None:
    """A full disk must not stop the start: it can be read, so the component goes on."""
    store = WatchedStore()
    with TestSystem(store=store) as system:
        save(create(system), "kept")
    store.error = full()
    again = TestSystem(store=store)
    assert create(again).ask(Do(lambda it: it.value)) == "kept"
    store.error = None
    again.shutdown()


@pytest.mark.parametrize("backend", ["thread", "pool"])
def test_a_store_that_hangs_holds_up_a_recovery_for_a_moment_only(backend: str) -> None:
    """writer: a recovery waits 1 s for its mark; a disk that hangs must not end components."""
    store = WatchedStore()
    bench = Bench(backend, store=store)
    ref = create(bench.system)
    save(ref, "kept")
    bench.system.flush()
    gate = store.gate = threading.Event()
    try:
        ref.tell(boom)
        bench.event(ComponentRecovered)
        assert ref.ask(Do(lambda it: it.value)) == "kept"
        assert not gate.is_set()
    finally:
        gate.set()
        bench.system.shutdown()


@pytest.mark.parametrize("backend", ["thread", "pool"])
def test_what_is_saved_during_a_write_is_written_after_it(backend: str) -> None:
    """S-24: the latest wins: while the store has 1 in hand, 2 and 3 are saved; then 3 is written,
    and nothing is lost though nothing more is saved.
    """
    store = WatchedStore()
    bench = Bench(backend, store=store)
    ref = create(bench.system)
    bench.system.flush()
    gate = store.gate = threading.Event()
    store.entered.clear()
    save(ref, 1)
    assert store.entered.wait(LIMIT)
    save(ref, 2)
    save(ref, 3)
    gate.set()
    bench.until(lambda: store.newest() == 3)
    assert store.values() == [1, 3]
    bench.system.shutdown()


def test_saves_of_many_threads_all_arrive(make_bench: MakeBench) -> None:
    """S-24: whatever fails meanwhile, after the last `flush()` the store has the last of each, and
    what was written of each only ever grew (S-06).
    """
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    store = WatchedStore()
    bench = make_bench(store=store)
    refs = [create(bench.system, f"c{number}") for number in range(6)]
    for number in range(100):
        for ref in refs:
            ref.tell(lambda it, n=number: it.set_recovery_function(recover, snapshot=n))
        if chance.random() < 0.2:
            store.error = full() if chance.random() < 0.5 else None
            bench.settle()
    store.error = None
    for ref in refs:
        assert ref.ask(Do(lambda it: "at the end of the queue"))
    bench.system.flush()
    for ref in refs:
        assert store.newest(ref.path) == 99, f"seed {seed}"
        assert store.values(ref.path) == sorted(store.values(ref.path)), f"seed {seed}"


# -- the end --------------------------------------------------------------------------------------


def test_the_end_writes_what_is_left(make_bench: MakeBench) -> None:
    """S-03: store flush at shutdown; S-26: marked clean; and the store is free for the next."""
    store = WatchedStore()
    bench = make_bench(store=store)
    save(create(bench.system), "last")
    bench.system.shutdown()
    (kept,) = store.load("a")
    assert kept.data is not None
    assert (decode(kept.data), kept.mark.status, kept.mark.active) == ("last", Status.CLEAN, True)
    store.open()
    store.close()


def test_a_failed_flush_at_the_end_is_raised(make_bench: MakeBench) -> None:
    """`shutdown`: StoreError: the last saves could not be stored; an event says so too, with
    retry 0, for there is none; everything has ended all the same.
    """
    store = WatchedStore()
    bench = make_bench(store=store)
    ref = create(bench.system)
    save(ref, "good")
    bench.system.flush()
    store.error = full()
    save(ref, "lost")
    with pytest.raises(StoreError, match="no space left"):
        bench.system.shutdown()
    assert not ref.is_alive
    bench.until(lambda: any(not event.retry for event in bench.events.of(SnapshotsNotSaved)))
    assert store.newest() == "good"
    store.open()  # it was closed
    store.close()
    bench.system._runtime.store_error = None  # so that the fixture's second call is quiet


def test_leaving_with_raises_it_when_no_other_exception_is_in_flight(backend: str) -> None:
    """As S-08 has it for causes: what is in flight goes first."""
    for other in (None, KeyError("in flight")):
        store = WatchedStore()

        def program(store: WatchedStore = store, other: Exception | None = other) -> None:
            with Bench(backend, store=store).system as system:
                save(create(system), 1)
                store.error = full()
                if other is not None:
                    raise other

        with pytest.raises(KeyError if other else StoreError):
            program()


def test_a_killed_component_is_retired_in_time(system: TestSystem, store: WatchedStore) -> None:
    """S-26 with S-24: what became of it is in the store within 100 ms; kept generations stay."""
    ref = create(system)
    save(ref, 1)
    system.flush()
    system.kill(ref).result(LIMIT)
    system.advance(0.1)
    (kept,) = store.load("a")
    assert (kept.mark.status, store.newest()) == (Status.RETIRED, 1)


def test_saves_after_the_end_of_the_system_change_nothing(store: WatchedStore) -> None:
    """S-06: a thread of a component that has ended gets IncarnationEndedError."""
    held: list[Any] = []
    with TestSystem(store=store) as system:
        ref = create(system)
        save(ref, "last")
        ref.ask(Do(held.append))
    with pytest.raises(IncarnationEndedError):
        held[0].set_recovery_function(recover, snapshot="late")
    assert store.newest() == "last"


# -- late threads ---------------------------------------------------------------------------------


def test_a_late_thread_of_an_earlier_incarnation_saves_nothing(make_bench: MakeBench) -> None:
    """S-06: after its incarnation's end every call raises IncarnationEndedError and changes
    nothing, in the store neither: durable or not.
    """
    store = WatchedStore()
    bench = make_bench(store=store)
    held: list[Any] = []
    ref = create(bench.system)
    save(ref, "first")
    ref.ask(Do(held.append))
    ref.tell(boom)
    bench.event(ComponentRecovered)
    save(ref, "second")
    outcome: list[type[BaseException]] = []

    def late() -> None:
        for durability in ("memory", "durable"):
            try:
                held[0].set_recovery_function(recover, snapshot="late", durability=durability)
            except BaseException as error:
                outcome.append(type(error))

    thread = threading.Thread(target=late)
    thread.start()
    thread.join(LIMIT)
    assert outcome == [IncarnationEndedError] * 2
    bench.system.flush()
    assert store.newest() == "second"
    assert "late" not in store.values()


def test_threads_that_save_while_the_component_faults_are_fenced() -> None:
    """S-06, as a race: a thread of each incarnation saves its number in a tight loop; the numbers
    in the store never go back, and at the end none of an earlier incarnation counts.
    """
    store = WatchedStore()
    bench = Bench("thread", store=store)
    threads: list[threading.Thread] = []

    def begin(component: Any) -> None:
        number = component.ref.incarnation

        def save_for_ever() -> None:
            try:
                while True:
                    component.set_recovery_function(again, snapshot=number)
            except IncarnationEndedError:
                pass

        component.set_recovery_function(again, snapshot=number)
        threads.append(threading.Thread(target=save_for_ever, daemon=True))
        threads[-1].start()

    _at_start.append(begin)
    ref = create(bench.system, factory=lambda: Keeper(0, begin))
    for count in range(1, 9):
        ref.tell(boom)
        bench.event(ComponentRecovered, count)
    bench.system.flush()
    assert store.newest() == ref.incarnation == 9
    bench.system.shutdown()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert store.values() == sorted(store.values())
    assert not bench.events.of(ComponentEnded)[:-1]


_at_start: list[Callable[[Any], object]] = []  # for the function below, found by its name


def again(fault: FaultContext[Any]) -> RecoveryHandler:
    return fault.restart(lambda: Keeper(0, _at_start[-1]))


def _snapshot(incarnation: int, sequence: int, data: bytes = b"N.", **more: Any) -> Snapshot:
    return Snapshot(Mark("a", incarnation, sequence), "m:f", data, 1.0, **more)


@pytest.fixture(params=["memory", "directory"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    store = MemoryStore() if request.param == "memory" else DirectoryStore(tmp_path / "state")
    yield store
    store.close()


@pytest.mark.parametrize("late", [(1, 9), (2, 4)])
def test_the_store_leaves_out_what_is_late(any_store: Any, late: tuple[int, int]) -> None:
    """S-06: saves are fenced by (incarnation, sequence) in the store too: after (2, 5), neither
    (1, 9) nor (2, 4), nor a mark of them.
    """
    any_store.save([_snapshot(2, 5)])
    any_store.save([_snapshot(*late, data=b"late")])
    any_store.save([Mark("a", *late, Status.RETIRED)])
    (kept,) = any_store.load("a")
    assert kept.order == (2, 5)
    assert kept.data == b"N."
    assert kept.mark.status is Status.UNFINISHED


@pytest.mark.parametrize("later", [(2, 6), (3, 1)])
def test_the_store_takes_what_is_newer(any_store: Any, later: tuple[int, int]) -> None:
    """S-06: a later incarnation may count from 1 again; what it keeps is what it says it keeps."""
    any_store.save([_snapshot(2, 5)])
    any_store.save([_snapshot(*later, keeps=(5,))])
    assert [kept.order for kept in any_store.load("a")] == [later, (2, 5)]
    any_store.save([Mark("a", *later, Status.CLEAN, suspect=2)])
    kept = any_store.load("a")[0]
    assert (kept.mark.status, kept.mark.suspect) == (Status.CLEAN, 2)


# -- a disk that is full --------------------------------------------------------------------------

ON_A_FULL_DISK = """\
import json, os, sys
from kompyct.codecs import decode
from kompyct.errors import StoreError
from kompyct.events import ComponentFaulted, SnapshotsNotSaved, SnapshotsSaved
from kompyct.store.directory import DirectoryStore
from kompyct.testing import EventRecorder
from kompyct import ComponentSystem
from tests.test_claims import Do, Keeper
from tests.test_writer import recover

def save(ref, value):
    ref.ask(Do(lambda it: it.set_recovery_function(recover, snapshot=value)))

disk = sys.argv[1]
events = EventRecorder()
found = {}
system = ComponentSystem(store=os.path.join(disk, "state"), on_event=events)
ref = system.create(Keeper, name="a", start=True)
save(ref, "good")
system.flush()
with open(os.path.join(disk, "ballast"), "wb", buffering=0) as ballast:
    try:
        while ballast.write(b"x" * 4096):
            pass
    except OSError:
        pass
    try:
        while ballast.write(b"x"):
            pass
    except OSError:
        pass
save(ref, os.urandom(60000))  # more than the last page of the segment has room for
try:
    system.flush()
except StoreError as error:
    found["flush"] = error.errno
found["events"] = events.wait_for(SnapshotsNotSaved)[0].errno
found["alive"] = ref.ask(Do(lambda it: it.value))
found["faults"] = len(events.of(ComponentFaulted))
os.unlink(os.path.join(disk, "ballast"))
save(ref, "later")
events.wait_for(SnapshotsSaved, timeout=10)
system.flush()
system.shutdown()
store = DirectoryStore(os.path.join(disk, "state"))
found["values"] = [decode(kept.data) for kept in store.load("a")]
print(json.dumps(found))
"""


def test_a_disk_that_is_really_full_stops_no_component(tmp_path: Path) -> None:
    """B-78 on a file system of 256 KB: ENOSPC to who flushes and in the event, no fault; when
    there is room again it is retried, and the last good one is still there as well.
    """
    disk = tmp_path / "disk"
    disk.mkdir()
    script = tmp_path / "script.py"
    script.write_text(ON_A_FULL_DISK)
    mount = 'mount -t tmpfs -o size=256k,mode=700 tmpfs "$0" || exit 77; exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, str(disk), sys.executable, str(script)]
    try:
        done = subprocess.run(
            [*command, str(disk)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare command")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"cannot mount a file system here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {
        "flush": errno.ENOSPC,
        "events": errno.ENOSPC,
        "alive": "new",
        "faults": 0,
        "values": ["later", "good"],
    }


def test_a_directory_that_fails_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B-78 on the directory store, without a mount: each write fails for a while; the last good
    one stays, and later the latest is there, also for the next start.
    """
    events = EventRecorder()
    with ComponentSystem(store=tmp_path / "state", on_event=events) as system:
        ref = create(system)
        save(ref, "good")
        system.flush()
        with monkeypatch.context() as patch:
            patch.setattr("kompyct.store.files.append", _no_space)
            save(ref, "later")
            with pytest.raises(StoreError):
                system.flush()
            events.wait_for(SnapshotsNotSaved)
            assert ref.state is State.ACTIVE
        events.wait_for(SnapshotsSaved)
        system.flush()
    with TestSystem(store=tmp_path / "state") as again:
        assert create(again).ask(Do(lambda it: it.value)) == "later"


def _no_space(descriptor: int, data: bytes, path: str) -> None:
    raise StoreError("no space", path=path, phase="write", errno=errno.ENOSPC)
