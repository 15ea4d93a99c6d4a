"""Does every store of snapshots do what `SnapshotStore` promises?"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kompyct.errors import StoreLockedError
from kompyct.lifecycle import Status
from kompyct.store import directory
from kompyct.store.directory import DirectoryStore
from kompyct.store.snapshots import Entry, Mark, MemoryStore, Removal, Snapshot, SnapshotStore
from tests.conftest import LIMIT

KEY = b"k" * 32
Kind = Literal["memory", "folder", "folder with a key"]
KINDS: tuple[Kind, ...] = (
    ("memory",) if sys.platform == "win32" else ("memory", "folder", "folder with a key")
)


class Place:
    """Where a store of one kind is: it can be opened again and again.

    Attributes:
        store: the one that is open.
    """

    store: SnapshotStore

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self._folder = folder
        self._memory = MemoryStore()
        self.open()

    def open(self) -> None:
        """Open the store."""
        self.store = self.opened()

    def opened(self) -> SnapshotStore:
        """The store, open; raises if it is open already."""
        if self.kind == "memory":
            self._memory.open()
            return self._memory
        return DirectoryStore(self._folder, trust="local" if self.kind == "folder" else KEY)

    def reopen(self) -> None:
        """Close the store and open it again."""
        self.store.close()
        self.open()

    def lose_process(self) -> None:
        """Go on with what a process that is lost now would have left."""
        if self.kind == "memory":
            self._memory = self._memory.crashed()
            self.open()
            return
        store = cast(DirectoryStore, self.store)
        store._lock.release()  # as the end of a process does; no last record is written
        store._contents.close()
        self.open()

    def compact(self) -> None:
        """Have a folder compacted."""
        if isinstance(self.store, DirectoryStore):
            self.store.compact()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return cast(Kind, request.param)


@pytest.fixture
def place(kind: Kind, tmp_path: Path) -> Iterator[Place]:
    made = Place(kind, tmp_path / "state")
    yield made
    made.store.close()


def snapshot(
    sequence: int = 1,
    *,
    path: str = "/a",
    incarnation: int = 1,
    data: bytes | None = None,
    keeps: tuple[int, ...] = (),
    **others: Any,
) -> Snapshot:
    """One whose data tells its path, incarnation and sequence."""
    if data is None:
        data = f"{path} {incarnation} {sequence}".encode("utf-8", "surrogatepass")
    mark = Mark(path, incarnation, sequence)
    return Snapshot(mark, "module:function", data, 5.0, keeps=keeps, **others)


def check(place: Place, path: str, expected: Sequence[Snapshot]) -> None:
    """That the store gives this now, and after it was opened again, compacted, and lost."""
    steps: tuple[Callable[[], None], ...] = (
        lambda: None,
        place.reopen,
        place.lose_process,
        place.compact,
        place.reopen,
    )
    for step in steps:
        step()
        assert place.store.load(path) == tuple(expected)
        assert (path in place.store.paths()) == bool(expected)


# -- one entry ------------------------------------------------------------------------------


def test_an_empty_store_has_nothing(place: Place) -> None:
    """`load` and `paths`: nothing is kept, so nothing is given; and saving nothing is nothing."""
    place.store.save([])
    assert place.store.paths() == ()
    check(place, "/a", [])


@pytest.mark.parametrize(
    "data", [None, b"", b"small", b"large" * 50_000], ids=["none", "empty", "small", "large"]
)
@pytest.mark.parametrize("function", ["module:qualname", b"", b"\x80pickled\0function"])
def test_a_snapshot_comes_back_as_it_was(
    place: Place, data: bytes | None, function: str | bytes
) -> None:
    """`save` and `load`: all of it, no data and empty data being different things."""
    saved = Snapshot(
        Mark("/a/b", 3, 14, Status.CLEAN, True, 1, 2, 0),
        function,
        data,
        1234567.125,
        7,
        (13, 11),
        "3.11",
        "0.1",
    )
    place.store.save([saved])
    check(place, "/a/b", [saved])


def test_paths_are_in_the_order_of_the_alphabet(place: Place) -> None:
    """`paths`: of all components of which something is kept, in order."""
    awkward = ["/b", "/a", "/a/c", "/B", "/ü", '/"', "/\ud800", "/ "]
    for path in awkward:
        place.store.save([snapshot(path=path)])
    assert place.store.paths() == tuple(sorted(awkward))
    place.reopen()
    assert place.store.paths() == tuple(sorted(awkward))


def test_a_store_says_where_it_is(place: Place) -> None:
    """`owner`: for people."""
    assert place.store.owner


def test_what_was_loaded_does_not_change_with_later_saves(place: Place) -> None:
    """`load` gives what is kept then: a value, no view."""
    place.store.save([snapshot(1)])
    before = place.store.load("/a")
    place.store.save([snapshot(2)])
    assert before == (snapshot(1),)


# -- generations ----------------------------------------------------------------------------


def test_a_newer_snapshot_takes_the_place_of_the_older(place: Place) -> None:
    """`Snapshot.keeps` is empty: no older generation is kept."""
    place.store.save([snapshot(1)])
    place.store.save([snapshot(2)])
    check(place, "/a", [snapshot(2)])


def test_the_generations_in_keeps_are_kept_newest_first(place: Place) -> None:
    """`Snapshot.keeps`: those with these numbers, and no others; of those that are there."""
    kept = {
        1: snapshot(1),
        2: snapshot(2, keeps=(1,)),
        3: snapshot(3, keeps=(2, 1)),
        5: snapshot(5, keeps=(3, 1, 77)),
    }
    for saved in kept.values():
        place.store.save([saved])
    check(place, "/a", [kept[5], kept[3], kept[1]])


def test_a_generation_once_dropped_does_not_come_back(place: Place) -> None:
    """2 keeps nothing, so 1 is gone, though 3 names it."""
    newest = snapshot(3, keeps=(2, 1))
    place.store.save([snapshot(1)])
    place.store.save([snapshot(2)])
    place.store.save([newest])
    check(place, "/a", [newest, snapshot(2)])


def test_generations_of_earlier_incarnations_are_kept_too(place: Place) -> None:
    """`Snapshot.keeps` counts sequences, which go on over incarnations."""
    newest = snapshot(2, incarnation=2, keeps=(1,))
    place.store.save([snapshot(1, incarnation=1)])
    place.store.save([newest])
    check(place, "/a", [newest, snapshot(1, incarnation=1)])


def test_a_snapshot_saved_again_takes_its_own_place(place: Place) -> None:
    """`save`: after an error entries may be saved again; they count once."""
    newest = snapshot(2, keeps=(1,))
    place.store.save([snapshot(1)])
    place.store.save([newest])
    place.store.save([newest])
    check(place, "/a", [newest, snapshot(1)])


def test_components_do_not_see_each_other(place: Place) -> None:
    """One's path may begin with the other's."""
    place.store.save([snapshot(1, path="/a"), snapshot(1, path="/a/b")])
    place.store.save([Removal("/a")])
    check(place, "/a", [])
    check(place, "/a/b", [snapshot(1, path="/a/b")])


# -- marks, removals, late entries ----------------------------------------------------------


def test_a_mark_changes_the_newest_snapshot_only(place: Place) -> None:
    """`Mark`: how the component that saved the snapshot is doing; the data stays."""
    first, second = snapshot(1), snapshot(2, keeps=(1,))
    mark = Mark("/a", 1, 2, Status.CLEAN, True, 3, 4, 1)
    place.store.save([first, second])
    place.store.save([mark])
    check(place, "/a", [replace(second, mark=mark), first])


def test_a_mark_stays_with_its_snapshot_as_a_generation(place: Place) -> None:
    """What was marked is not lost when a newer snapshot is saved."""
    mark = Mark("/a", 1, 1, suspect=2)
    newest = snapshot(2, keeps=(1,))
    place.store.save([snapshot(1), mark])
    place.store.save([newest])
    check(place, "/a", [newest, replace(snapshot(1), mark=mark)])


@pytest.mark.parametrize(("incarnation", "sequence"), [(1, 4), (2, 2), (2, 4), (3, 3)])
def test_a_mark_of_another_snapshot_changes_nothing(
    place: Place, incarnation: int, sequence: int
) -> None:
    """S-06: neither a late one, nor one of what the store has not."""
    saved = snapshot(3, incarnation=2)
    place.store.save([saved])
    place.store.save([Mark("/a", incarnation, sequence, Status.RETIRED)])
    check(place, "/a", [saved])


def test_a_mark_of_nothing_makes_no_component(place: Place) -> None:
    """`paths`: of which something is kept."""
    place.store.save([Mark("/a", 1, 1)])
    check(place, "/a", [])


def test_a_removal_leaves_nothing(place: Place) -> None:
    """`Removal`: nothing of the component is to be kept; removing nothing is nothing."""
    place.store.save([snapshot(1), snapshot(2, keeps=(1,))])
    place.store.save([Removal("/a"), Removal("/b")])
    check(place, "/a", [])


def test_a_component_may_come_again_after_its_removal(place: Place) -> None:
    """With lower numbers, and without the old generations that it names."""
    newest = snapshot(2, keeps=(1, 5))
    place.store.save([snapshot(5, incarnation=4)])
    place.store.save([Removal("/a")])
    place.store.save([newest])
    check(place, "/a", [newest])


@pytest.mark.parametrize(("incarnation", "sequence"), [(1, 9), (2, 4), (1, 5), (1, 1)])
def test_a_late_snapshot_changes_nothing(place: Place, incarnation: int, sequence: int) -> None:
    """S-06: fenced by (incarnation, sequence): the incarnation counts first."""
    saved = snapshot(5, incarnation=2)
    place.store.save([saved])
    place.store.save([snapshot(sequence, incarnation=incarnation, keeps=(5,))])
    check(place, "/a", [saved])


def test_a_later_incarnation_is_newer_whatever_its_sequence(place: Place) -> None:
    """S-06: (3, 1) is after (2, 5)."""
    newest = snapshot(1, incarnation=3, keeps=(5,))
    place.store.save([snapshot(5, incarnation=2)])
    place.store.save([newest])
    check(place, "/a", [newest, snapshot(5, incarnation=2)])


def test_entries_of_one_batch_take_effect_in_their_order(place: Place) -> None:
    """`save`: in this order: the mark finds its snapshot, the removal what came before it."""
    marked = Mark("/a", 1, 2, suspect=1)
    place.store.save(
        [
            snapshot(9),
            Removal("/a"),
            Mark("/a", 1, 2, suspect=7),
            snapshot(1),
            snapshot(2, keeps=(1,)),
            marked,
            snapshot(1, path="/b"),
            Removal("/b"),
        ]
    )
    check(place, "/a", [replace(snapshot(2, keeps=(1,)), mark=marked), snapshot(1)])
    assert place.store.paths() == ("/a",)


# -- opening and closing --------------------------------------------------------------------


def test_a_store_is_for_one_system_at_a_time(place: Place) -> None:
    """B-82: a second one is refused while the first has it, and let in when that closes."""
    with pytest.raises(StoreLockedError):
        place.opened()
    place.reopen()


def test_closing_twice_is_nothing(place: Place) -> None:
    """`close`: let the next writer in; it is in already."""
    place.store.close()
    place.store.close()
    place.open()


def test_all_methods_are_for_any_thread(place: Place) -> None:
    """SnapshotStore: four threads save, load and look at once, each a component of its own."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    def works(path: str) -> None:
        try:
            barrier.wait(LIMIT)
            for sequence in range(1, 21):
                place.store.save([snapshot(sequence, path=path, keeps=(sequence - 1,))])
                assert place.store.load(path)[0].mark.sequence == sequence
                assert path in place.store.paths()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=works, args=(f"/{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    for n in range(4):
        newest = snapshot(20, path=f"/{n}", keeps=(19,))
        check(place, f"/{n}", [newest, snapshot(19, path=f"/{n}", keeps=(18,))])


def test_what_a_lost_process_left_does_not_change_any_more() -> None:
    """`crashed()`: a store of its own that holds what this one holds now."""
    store = MemoryStore()
    store.open()
    store.save([snapshot(1)])
    left = store.crashed()
    store.save([snapshot(2)])
    left.open()
    left.save([snapshot(1, path="/b")])
    assert left.load("/a") == (snapshot(1),)
    assert left.paths() == ("/a", "/b")
    assert store.load("/a") == (snapshot(2),)
    assert store.paths() == ("/a",)


# -- random sequences -----------------------------------------------------------------------


class Model:
    """What a store has to hold, by the words of `SnapshotStore` and `Snapshot`."""

    def __init__(self) -> None:
        self.kept: dict[str, list[Snapshot]] = {}

    def take(self, entry: Entry) -> None:
        """Let `entry` take effect."""
        kept = self.kept.get(entry.path, [])
        if isinstance(entry, Removal):
            kept = []
        elif isinstance(entry, Mark):
            if kept and kept[0].order == (entry.incarnation, entry.sequence):
                kept = [replace(kept[0], mark=entry), *kept[1:]]
        elif not kept or entry.order >= kept[0].order:
            numbers = [number for number in entry.keeps if number != entry.mark.sequence]
            older = [found for found in kept if found.mark.sequence in numbers]
            kept = [entry, *older]
        if kept:
            self.kept[entry.path] = kept
        else:
            self.kept.pop(entry.path, None)


PATHS: tuple[str, ...] = ("/a", "/a/b", "/c")


class Machine(RuleBasedStateMachine):
    """A store and the model beside it."""

    kind: Kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.place = Place(self.kind, Path(self.folder.name) / "state")
        self.model = Model()
        self.last: dict[str, tuple[int, int]] = dict.fromkeys(PATHS, (1, 0))
        self.batch: list[Entry] = []
        self.saves = 0

    def teardown(self) -> None:
        self.place.store.close()
        self.folder.cleanup()

    @rule(
        path=st.sampled_from(PATHS),
        restarted=st.booleans(),
        back=st.lists(st.integers(1, 6), max_size=4, unique=True),
        size=st.sampled_from([0, 10, 5000]),
    )
    def snapshot(self, path: str, restarted: bool, back: list[int], size: int) -> None:
        """A component saves, perhaps in a new incarnation."""
        incarnation, sequence = self.last[path]
        incarnation += restarted
        sequence += 1
        self.last[path] = incarnation, sequence
        self.saves += 1
        data = f"{self.saves}".encode().ljust(size, b"x")
        keeps = tuple(sequence - step for step in sorted(back) if sequence > step)
        self.batch.append(
            snapshot(sequence, path=path, incarnation=incarnation, data=data, keeps=keeps)
        )

    @rule(path=st.sampled_from(PATHS), incarnations=st.integers(0, 2), sequences=st.integers(0, 3))
    def late(self, path: str, incarnations: int, sequences: int) -> None:
        """A thread of an earlier incarnation, or the same save once more; other data."""
        kept = self.model.kept.get(path)
        if kept is None or any(entry.path == path for entry in self.batch):
            return
        last_incarnation, last_sequence = kept[0].order
        order = (last_incarnation - incarnations, last_sequence - sequences)
        self.saves += 1
        self.batch.append(
            snapshot(
                order[1],
                path=path,
                incarnation=order[0],
                data=str(self.saves).encode(),
                keeps=kept[0].keeps,
            )
        )

    @rule(
        path=st.sampled_from(PATHS),
        back=st.integers(0, 1),
        status=st.sampled_from(Status),
        suspect=st.integers(0, 3),
    )
    def mark(self, path: str, back: int, status: Status, suspect: int) -> None:
        """A component's state changes, perhaps as somebody late has seen it."""
        incarnation, sequence = self.last[path]
        self.batch.append(Mark(path, incarnation, sequence - back, status, True, suspect))

    @rule(path=st.sampled_from(PATHS))
    def removal(self, path: str) -> None:
        """A component is removed."""
        self.batch.append(Removal(path))

    @precondition(lambda self: self.batch)
    @rule()
    def save(self) -> None:
        """All that has gathered is saved at once."""
        self.place.store.save(self.batch)
        for entry in self.batch:
            self.model.take(entry)
        self.batch = []

    @rule()
    def reopen(self) -> None:
        """The system ends in order and starts again; what was not saved is lost."""
        self.batch = []
        self.place.reopen()

    @rule()
    def lose_process(self) -> None:
        """The process is lost and starts again."""
        self.batch = []
        self.place.lose_process()

    @rule()
    def compact(self) -> None:
        """The folder is compacted."""
        self.place.compact()

    @invariant()
    def same(self) -> None:
        """The store holds what the model holds."""
        assert self.place.store.paths() == tuple(sorted(self.model.kept))
        for path in PATHS:
            assert self.place.store.load(path) == tuple(self.model.kept.get(path, ()))


@pytest.mark.parametrize("small", [1000, 1 << 22])
def test_random_sequences_give_what_the_model_says(
    kind: Kind, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words of `SnapshotStore` as a model of 20 lines; Hypothesis prints what failed.

    With a small bound of garbage the folder is compacted by itself every few saves.
    """
    monkeypatch.setattr(directory, "SMALL", small)
    monkeypatch.setattr(Machine, "kind", kind)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
