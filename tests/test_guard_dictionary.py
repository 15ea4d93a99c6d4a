"""Does the guarded dictionary behave as one, and say what it does not keep?"""

from __future__ import annotations

import array
import linecache
import os
import pickle
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import numpy as np
import pytest

from kompyct.errors import ArgumentError, ArgumentTypeError, GuardError, SnapshotError
from kompyct.guard import GuardedDict, LostChangeWarning
from kompyct.guard.handed import REMEMBERED
from kompyct.guard.mirror import Mirror, SavedStore
from kompyct.guard.places import Places
from kompyct.guard.shared import SharedStore
from kompyct.processes.memory import HAS_MEMFD
from tests.harness.guarded import MUTANTS_IN_PLACE
from tests.harness.planting import Mutant

KINDS = [
    pytest.param(False, marks=pytest.mark.skipif(not HAS_MEMFD, reason="no memfd here")),
    True,
]


@pytest.fixture(params=KINDS, ids=["memfd", "named"])
def mirror(request: pytest.FixtureRequest) -> Iterator[Mirror]:
    """What the launcher has."""
    mirror = Mirror(named=request.param)
    yield mirror
    mirror.close()


@pytest.fixture
def data(mirror: Mirror) -> GuardedDict:
    """What `launch` is given."""
    return GuardedDict(SharedStore(mirror.block))


def rescued(mirror: Mirror) -> GuardedDict:
    """What `rescue` is given."""
    return GuardedDict(SavedStore(mirror.read()[1]))


def test_it_is_a_dictionary(data: GuardedDict, mirror: Mirror) -> None:
    """Given what dictionaries do, then it does it; and the rescuer has the same."""
    data["a"] = 1
    data.update({"b": [1, 2], ("c", 3): {"d": None}})
    assert len(data) == 3
    assert "b" in data
    assert "x" not in data
    assert data.get("x", 7) == 7
    assert data.setdefault("e", 5) == 5
    assert data.pop("a") == 1
    expected = {"b": [1, 2], ("c", 3): {"d": None}, "e": 5}
    assert dict(data) == data == expected
    assert list(data) == list(expected)
    assert dict(rescued(mirror)) == expected
    del data["e"]
    with pytest.raises(KeyError, match="e"):
        data["e"]
    data.clear()
    assert not data
    assert not rescued(mirror)


def test_a_value_is_a_copy(data: GuardedDict) -> None:
    """Given a value changed after it was assigned, then the one kept is the one assigned."""
    value = [1]
    data["key"] = value
    value.append(2)
    assert data["key"] == [1]
    assert data["key"] is not data["key"]


def test_what_pickle_cannot_do_cloudpickle_does(data: GuardedDict, mirror: Mirror) -> None:
    """Given a function without a name, then it is kept; given a lock, the error says so."""
    data["key"] = lambda: 42
    assert rescued(mirror)["key"]() == 42
    with pytest.raises(SnapshotError, match="lock"):
        data["key"] = threading.Lock()
    assert data["key"]() == 42


def test_arrays_in_values_come_back_writable(data: GuardedDict, mirror: Mirror) -> None:
    """Given an array as a value, then what is read is equal and one's own."""
    data["key"] = np.arange(100_000)
    found = rescued(mirror)["key"]
    assert (found == np.arange(100_000)).all()
    found[0] = 5
    data["bytes"] = array.array("d", [1.0, 2.0])
    assert data["bytes"] == array.array("d", [1.0, 2.0])


# -- nested changes -------------------------------------------------------------------------


def test_a_change_to_what_was_read_is_told_when_the_key_is_used_next(data: GuardedDict) -> None:
    """RELIABILITY 1, "may not be inherited": Given `data[key].append`, then it is not lost in
    silence."""
    data["key"] = [1]
    data["key"].append(2)
    with pytest.warns(LostChangeWarning, match="'key' was changed after it was read"):
        assert data["key"] == [1]


def test_a_change_in_the_depth_is_told_as_well(data: GuardedDict) -> None:
    """Given `data[key][...].append`, and an array's element, then both are told."""
    data["deep"] = {"a": [{"b": []}]}
    data["deep"]["a"][0]["b"].append(1)
    with pytest.warns(LostChangeWarning, match="deep"):
        data.check_changes()
    data["array"] = np.zeros(10_000)
    data["array"][5] = 1
    with pytest.warns(LostChangeWarning, match="array"):
        data.check_changes()


def test_a_change_is_told_after_many_other_reads(data: GuardedDict) -> None:
    """Given a changed value and reads of as many others as are remembered, then it is told."""
    for number in range(REMEMBERED + 1):
        data[number] = [number]
    data[0].append(1)
    for number in range(1, REMEMBERED):
        _ = data[number]
    with pytest.warns(LostChangeWarning, match="value of 0 was changed"):
        _ = data[REMEMBERED]


@pytest.mark.filterwarnings("error")
def test_a_change_that_is_stored_again_is_no_loss(data: GuardedDict) -> None:
    """Given read, change, assign, as programs for faultguard do, then nothing is told."""
    data["key"] = [1]
    value = data["key"]
    value.append(2)
    data["key"] = value
    data["key"] = data["key"] + [3]
    data.check_changes()
    assert data["key"] == [1, 2, 3]


@pytest.mark.filterwarnings("error")
def test_what_was_only_read_is_no_loss(data: GuardedDict) -> None:
    """Given values whose encoding is another after a round trip, then nothing is told."""
    text = "text" * 10
    data["key"] = {"a": text, "b": text, "c": {1, 2, 3}, "d": (text, [text])}
    data["twice"] = [[1]] * 2
    for _ in range(3):
        for key in data:
            _ = data[key]
    data.check_changes()


def test_edit_keeps_the_change(data: GuardedDict, mirror: Mirror) -> None:
    """Given `edit`, then what is changed in the block is stored at its end."""
    data["key"] = {"a": []}
    with data.edit("key") as value:
        value["a"].append(1)
        assert rescued(mirror)["key"] == {"a": []}
    assert rescued(mirror)["key"] == {"a": [1]}
    with data.edit("new", default=[]) as value:
        value.append(1)
    assert data["new"] == [1]
    with pytest.raises(KeyError), data.edit("none"):
        pass


def test_an_edit_that_raises_stores_nothing(data: GuardedDict) -> None:
    """Given an exception in the block, then the value before stays."""
    data["key"] = [1]

    def change_and_raise() -> None:
        with data.edit("key") as value:
            value.append(2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_and_raise()
    assert data["key"] == [1]


# -- arrays ---------------------------------------------------------------------------------


def test_an_array_is_the_guarded_memory(data: GuardedDict, mirror: Mirror) -> None:
    """Given an element assigned, then the rescuer sees it, and nothing was stored for it."""
    numbers = data.array("numbers", (100, 3), "int32")
    assert numbers.shape == (100, 3)
    assert not numbers.any()
    numbers[5, 1] = 42
    data["numbers"][6] = 1
    found = rescued(mirror)["numbers"]
    assert found.dtype == np.int32
    assert found[5].tolist() == [0, 42, 0]
    assert found[6].tolist() == [1, 1, 1]
    assert (found == numbers).all()


def test_an_array_stays_guarded_when_the_memory_grows(data: GuardedDict, mirror: Mirror) -> None:
    """Given megabytes stored after it was made, then it still is the guarded memory."""
    numbers = data.array("numbers", 10)
    data["big"] = bytes(3_000_000)
    other = data.array("other", 500_000)
    numbers[3] = 1.5
    other[-1] = 2.5
    assert rescued(mirror)["numbers"][3] == 1.5
    assert rescued(mirror)["other"][-1] == 2.5


def test_an_array_is_the_one_that_is_there(data: GuardedDict) -> None:
    """Given the same name again, then it is the same memory; another shape or type is refused."""
    numbers = data.array("numbers", 10, "f4")
    numbers[1] = 7
    assert data.array("numbers", (10,), np.float32)[1] == 7
    for shape, dtype in ((11, "f4"), (10, "f8")):
        with pytest.raises(ArgumentError, match=r"float32 of shape \(10,\)"):
            data.array("numbers", shape, dtype)
    data["numbers"] = 5
    with pytest.raises(ArgumentError, match="there is no array"):
        data.array("numbers", 10, "f4")
    del data["numbers"]
    assert not data.array("numbers", 10, "f4").any()
    assert numbers[1] == 7


@pytest.mark.parametrize("dtype", [object, [("a", "i4"), ("b", "f8")]])
def test_an_array_of_objects_is_refused(data: GuardedDict, dtype: object) -> None:
    """Given elements that cannot live in shared memory, then the error names them."""
    with pytest.raises(ArgumentTypeError, match="one array for each field"):
        data.array("numbers", 3, dtype)
    assert "numbers" not in data


def test_an_empty_array_is_one(data: GuardedDict, mirror: Mirror) -> None:
    """Given no elements, then it is there."""
    assert data.array("numbers", (0, 3)).shape == (0, 3)
    assert rescued(mirror)["numbers"].shape == (0, 3)


# -- who may use it -------------------------------------------------------------------------


def test_several_threads_may_write(data: GuardedDict, mirror: Mirror) -> None:
    """Given threads that count in the same value by `edit`, then no count is lost."""
    data["count"] = [0]
    start = threading.Barrier(4)

    def count(own: int) -> None:
        start.wait(10)
        for number in range(300):
            with data.edit("count") as value:
                value[0] += 1
            data[own] = number

    threads = [threading.Thread(target=count, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert dict(rescued(mirror)) == {"count": [1200], 0: 299, 1: 299, 2: 299, 3: 299}


def in_the_midst(
    data: GuardedDict,
    action: Callable[[], object],
    value: object,
    function: Callable[..., object] = SharedStore.overwrite,
) -> None:
    """Assign `value` to "key" of `data`, and call `action` while it is written by `function`."""
    assert isinstance(data.store, SharedStore)
    with _once_in(function, lambda frame: "sequence" in frame.f_locals, action):
        data["key"] = value


@pytest.mark.parametrize("deletes", [False, True])
def test_a_handler_in_the_midst_of_an_assignment_comes_after_it(
    data: GuardedDict, mirror: Mirror, deletes: bool
) -> None:
    """Given a handler of a signal that assigns the key that is being assigned, or deletes it,
    then that is done afterwards, and nothing is mixed up."""
    data["key"] = data["key"] = [0]

    def handler() -> None:
        data["other"] = [2]
        if deletes:
            del data["key"]
        else:
            data["key"] = [3]

    in_the_midst(data, handler, [1])
    expected = {"other": [2]} if deletes else {"key": [3], "other": [2]}
    assert dict(rescued(mirror)) == dict(data) == expected
    data["more"] = data["key"] = [4]
    assert dict(rescued(mirror)) == {"key": [4], "other": [2], "more": [4]}


def test_another_thread_waits_for_an_assignment_without_lock(
    data: GuardedDict, mirror: Mirror
) -> None:
    """Given a second thread that comes while the first is writing, then it writes after it; and
    from then on both take the lock."""
    data["key"] = data["key"] = [0]
    came = threading.Event()
    written = threading.Event()

    def write() -> None:
        came.set()
        data["key"] = [2]
        written.set()

    other = threading.Thread(target=write)

    def meanwhile() -> None:
        other.start()
        assert came.wait(10)
        assert not written.wait(0.05)

    in_the_midst(data, meanwhile, [1])
    other.join(10)
    assert written.is_set()
    assert rescued(mirror)["key"] == [2]
    store = data.store
    assert isinstance(store, SharedStore)
    assert not store.overwrite("key", store.slots["key"], pickle.dumps([3]), {})
    with data.edit("key") as value:
        third = threading.Thread(target=data.update, kwargs={"key": [9]})
        third.start()
        value.append(3)
        data["key"] = value
    third.join(10)
    assert data["key"] == [9]


class Alarmed(Exception):
    """What a handler raises."""


def test_a_handler_in_the_midst_of_a_deletion_comes_after_it(
    data: GuardedDict, mirror: Mirror
) -> None:
    """Given a handler of a signal that assigns the key that is being deleted, then that is done
    afterwards; what the key had is not used again while it still counts."""
    data["key"] = data["key"] = [0]
    with at_line(SharedStore.__delitem__, "del self.slots", lambda: data.update(key=[1])):
        del data["key"]
    assert dict(rescued(mirror)) == dict(data) == {"key": [1]}
    data["more"] = [2]
    assert dict(rescued(mirror)) == dict(data) == {"key": [1], "more": [2]}


def test_a_handler_in_the_midst_of_making_room_for_an_array_gets_other_memory(
    data: GuardedDict, mirror: Mirror
) -> None:
    """Given a handler of a signal that assigns a new key while an array gets its memory, then
    what is written into one is not in the other."""
    with at_line(Places.never_used, "self._end += size", lambda: data.update(key=[1])):
        array = data.array("array", 8)
    array[:] = 7.0
    found = rescued(mirror)
    assert found["key"] == data["key"] == [1]
    assert list(found["array"]) == [7.0] * 8


@contextmanager
def at_line(
    function: Callable[..., object], text: str, action: Callable[[], object]
) -> Iterator[None]:
    """Within, call `action` once before the line of `function` that has `text`."""

    def is_there(frame: FrameType) -> bool:
        return text in linecache.getline(frame.f_code.co_filename, frame.f_lineno)

    with _once_in(function, is_there, action):
        yield


@contextmanager
def _once_in(
    function: Callable[..., object],
    is_there: Callable[[FrameType], bool],
    action: Callable[[], object],
) -> Iterator[None]:
    """Within, call `action` before the first line of `function` at which `is_there`; it is met."""
    done: list[bool] = []

    def trace(frame: FrameType, event: str, _: object) -> object:
        if frame.f_code is function.__code__:
            if event == "line" and not done and is_there(frame):
                done.append(True)
                sys.settrace(None)
                action()
            return trace
        return None

    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        yield
    finally:
        sys.settrace(None)
    assert done


class Interrupted:
    """Is interrupted by SIGALRM the first time that it is pickled."""

    def __init__(self) -> None:
        self.times = 0

    def __reduce__(self) -> tuple[object, ...]:
        self.times += 1
        if self.times == 1:
            signal.raise_signal(signal.SIGALRM)
        return Interrupted, ()


@pytest.mark.parametrize("small", [False, True])
def test_what_a_handler_raises_while_a_value_is_pickled_comes_out(
    data: GuardedDict, small: bool
) -> None:
    """Given a handler that raises, then that is not taken for pickle's, which would be another
    way to encode the value."""

    def handler(number: int, frame: object) -> None:
        data["handler"] = number
        raise Alarmed

    data["key"] = data["key"] = [0] if small else b"x" * 9_000
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(Alarmed):
            data["key"] = Interrupted()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert data["handler"] == signal.SIGALRM
    assert data["key"] == ([0] if small else b"x" * 9_000)


@pytest.mark.parametrize("large", [False, True])
def test_what_a_handler_assigned_before_it_raised_is_stored(
    data: GuardedDict, mirror: Mirror, large: bool
) -> None:
    """Given a handler that assigns the key which is being written, and raises, then its value is
    there when that has come out of the assignment."""
    data["key"] = data["key"] = b"x" * 9_000 if large else [0]

    def handler() -> None:
        data["key"] = data["new"] = [3]
        raise Alarmed

    function = SharedStore._write if large else SharedStore.overwrite
    with pytest.raises(Alarmed):
        in_the_midst(data, handler, b"y" * 9_000 if large else [1], function)
    assert dict(rescued(mirror)) == dict(data) == {"key": [3], "new": [3]}
    assert mirror.damaged == 0


@pytest.mark.parametrize("large", [False, True])
def test_what_a_handler_assigns_to_another_key_is_safe_at_once(
    data: GuardedDict, mirror: Mirror, large: bool
) -> None:
    """docs/guard.md: Given a handler that interrupts an assignment of another key, then what it
    has assigned is there when that returns, for itself and for the rescue; and the assignment
    that it has interrupted as well, afterwards."""
    data["last word"] = data["last word"] = [0]
    data["key"] = data["key"] = b"x" * 9_000 if large else [0]

    def handler() -> None:
        data["last word"] = [1]
        assert data["last word"] == rescued(mirror)["last word"] == [1]
        data["last word"] = [2]
        assert rescued(mirror)["last word"] == [2]
        assert rescued(mirror)["key"] == (b"x" * 9_000 if large else [0])

    value = b"y" * 9_000 if large else [3]
    in_the_midst(data, handler, value, SharedStore._write if large else SharedStore.overwrite)
    assert dict(rescued(mirror)) == dict(data) == {"key": value, "last word": [2]}
    assert mirror.damaged == 0


def test_every_thread_waits_for_an_assignment_without_lock(
    data: GuardedDict, mirror: Mirror
) -> None:
    """Given several threads that come while the first is writing, then all of them wait: the one
    that comes second finds the way barred already, and yet somebody inside."""
    data["key"] = data["key"] = [0]
    numbers: list[int] = []

    def write() -> None:
        data["key"] = [2]
        numbers.append(1)

    others = [threading.Thread(target=write) for _ in range(3)]

    def meanwhile() -> None:
        for other in others:
            other.start()
            other.join(0.05)
        assert not numbers

    in_the_midst(data, meanwhile, [1])
    for other in others:
        other.join(10)
    assert len(numbers) == 3
    assert rescued(mirror)["key"] == [2]
    assert mirror.damaged == 0


def test_a_handler_in_an_assignment_for_which_a_thread_waits(
    data: GuardedDict, mirror: Mirror
) -> None:
    """Given a thread that waits for the first to have written, and a handler that interrupts
    that and assigns as well, then nobody waits for ever, and all is stored."""
    data["key"] = data["key"] = [0]
    other = threading.Thread(target=data.update, kwargs={"other": [2]})

    def meanwhile() -> None:
        other.start()
        other.join(0.05)
        data["handler"] = [3]
        assert other.is_alive()

    in_the_midst(data, meanwhile, [1])
    other.join(10)
    assert dict(rescued(mirror)) == {"key": [1], "other": [2], "handler": [3]}


def test_what_a_handler_assigned_in_an_assignment_is_stored_with_the_lock(
    data: GuardedDict, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a handler whose assignment is let through after the write, then a thread that comes
    just then writes after it, and what it has assigned is there when that returns."""
    data["key"] = data["key"] = [0]
    store = data.store
    assert isinstance(store, SharedStore)
    seen: list[bool] = []

    def write() -> None:
        data["other"] = [2]
        seen.append("other" in rescued(mirror))

    other = threading.Thread(target=write)
    let_through = store.let_through

    def slow() -> None:
        if not seen and other.ident is None:
            other.start()
            other.join(0.05)
            assert not seen
        let_through()

    monkeypatch.setattr(store, "let_through", slow)
    in_the_midst(data, lambda: data.update(handler=[3]), [1])
    other.join(10)
    assert seen == [True]
    assert dict(rescued(mirror)) == {"key": [1], "handler": [3], "other": [2]}


def test_arrays_in_small_values_come_back_writable(data: GuardedDict, mirror: Mirror) -> None:
    """Given values that are small, then large, then small again, with arrays in them, then each
    comes back, as large as its memory is."""
    for size in (3, 3, 3, 100_000, 100_000, 3, 5, 2_000, 3, 3):
        data["key"] = {"array": np.arange(size), "none": None}
        found = rescued(mirror)["key"]["array"]
        assert (found == np.arange(size)).all()
        found[0] = 5
    data["key"] = data["key"] = lambda: 42  # what pickle cannot do
    assert rescued(mirror)["key"]() == 42
    with pytest.raises(SnapshotError, match="lock"):
        data["key"] = threading.Lock()
    assert data["key"]() == 42


def test_a_forked_child_is_refused(data: GuardedDict) -> None:
    """Given a child that the application forks, then it cannot damage what is not its own."""
    data["key"] = data["key"] = 1  # the second time is without the lock
    child = os.fork()
    if child == 0:
        refused = 0
        for action in (
            lambda: data.update(key=2),
            lambda: data["key"],
            lambda: data.pop("key"),
            lambda: data.array("a", 3),
            lambda: list(data),
        ):
            try:
                action()
            except GuardError:
                refused += 1
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    assert data["key"] == 1


def interrupted_anywhere(data: GuardedDict, mirror: Mirror) -> None:
    """Interrupt an assignment at each of its lines, and check what is there then."""

    class Stop(BaseException):
        pass

    def stopped(stop_at: int) -> bool:
        lines = 0

        def trace(frame: FrameType, event: str, _: object) -> object:
            nonlocal lines
            if event == "line" and "guard" in frame.f_code.co_filename:
                lines += 1
                text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
                # Where the interpreter looks for signals, as it does not in the midst of these.
                if lines >= stop_at and not re.search(r"= (None|True|False)$|try:", text.rstrip()):
                    raise Stop
            return trace

        before = sys.gettrace()
        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            data["key"] = ["new"]
        except Stop:
            return True
        finally:
            sys.settrace(before)
        return False

    for stop_at in range(1, 60):
        data["key"] = ["older"]
        data["key"] = ["old"]
        interrupted = stopped(stop_at)
        found = rescued(mirror)["key"]
        assert found in (["old"], ["new"])
        assert mirror.damaged == 0
        if not interrupted:
            break
        for value in ("a", "b" * 9_000, "c"):
            data["key"] = data["other"] = value
            assert dict(rescued(mirror)) == {"key": value, "other": value}
    else:
        pytest.fail("the write has more lines than were tried")
    thread = threading.Thread(target=data.update, kwargs={"key": 5})
    thread.start()
    thread.join(10)
    assert rescued(mirror)["key"] == 5


def test_an_interrupt_at_any_line_of_an_assignment_leaves_a_whole_value(
    data: GuardedDict, mirror: Mirror
) -> None:
    """Given an exception at any line but one that ends the write, then the value is the old one
    or the new one, what comes after is stored, and other threads are let in."""
    interrupted_anywhere(data, mirror)


@pytest.mark.parametrize("mutant", MUTANTS_IN_PLACE, ids=str)
def test_a_planted_bug_is_caught_between_two_lines(mutant: Mutant, mirror: Mirror) -> None:
    """RELIABILITY 3: Given a write that overwrites what counts, or lets count what is not there
    yet, then the interrupts find it."""
    with mutant.planted(), pytest.raises(AssertionError):
        interrupted_anywhere(GuardedDict(SharedStore(mirror.block)), mirror)


def test_it_cannot_be_sent_to_another_process(data: GuardedDict) -> None:
    """Given pickle, then the error says what to do instead."""
    with pytest.raises(GuardError, match="send the values"):
        pickle.dumps(data)


def test_its_text_has_no_values(data: GuardedDict) -> None:
    """RELIABILITY 4: Given a secret, then it is not in the text of the dictionary."""
    data["password"] = "secret"
    assert repr(data) == "<GuardedDict with 1 keys>"


def test_a_plain_dictionary_of_encoded_values_will_do(mirror: Mirror) -> None:
    """S-36: Given a dictionary of pickles, as the ancestor's constructor takes, then it works."""
    store = {"key": pickle.dumps([1])}
    data = GuardedDict(store)
    assert data["key"] == [1]
    data["other"] = 2
    assert pickle.loads(store["other"]) == 2
    assert data.store is store
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.check_changes()
