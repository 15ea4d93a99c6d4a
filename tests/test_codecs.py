"""Do snapshots come back from bytes as they were, and is refused what could not?"""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import json
import math
import pickle
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kompyct import FaultContext, RecoveryHandler
from kompyct.codecs import PICKLE, codec_for, decode, encode, name_of
from kompyct.errors import ArgumentError, ArgumentTypeError, SnapshotError, VersionError
from kompyct.events import FallbackApplied
from kompyct.store.snapshots import MemoryStore
from kompyct.testing import TestSystem
from tests.test_claims import Do, Keeper

numpy = pytest.importorskip("numpy")

CHOICES: list[Any] = ["pickle", "json"]


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


# -- pickle ---------------------------------------------------------------------------------------


@given(PLAIN | st.binary() | st.dictionaries(st.integers(), st.sets(st.integers())))
def test_plain_values_come_back(value: Any) -> None:
    """S-28: encode and decode are inverse, and what comes back has the same type."""
    found = decode(encode(value))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        Point(1, 2.5),
        Colour.RED,
        decimal.Decimal("1.10"),
        datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC),
        uuid.UUID(int=7),
        collections.deque([1], maxlen=3),
        collections.OrderedDict(b=1, a=2),
        2**200,
        -0.0,
        math.inf,
        ...,
    ],
)
def test_values_of_the_library_come_back(value: Any) -> None:
    """S-28: the same value as after an exception."""
    assert decode(encode(value)) == value
    assert repr(decode(encode(value))) == repr(value)


def test_what_is_one_object_stays_one_object() -> None:
    """Pickle keeps who is who: a list that holds itself, one list at two places."""
    itself: list[Any] = []
    itself.append(itself)
    found = decode(encode(itself))
    assert found[0] is found
    shared = [1]
    first, second = decode(encode((shared, shared)))
    assert first is second


def test_each_decoding_is_a_copy_of_its_own() -> None:
    """S-09: newly decoded for each attempt."""
    data = encode({"a": [1]})
    decode(data)["a"].append(2)
    assert decode(data) == {"a": [1]}


def test_it_is_pickle_of_protocol_5() -> None:
    """S-28: pickle 5: what Python itself can load, and loads to the same."""
    data = encode([1, "two"])
    assert data[:2] == b"\x80\x05"
    assert pickle.loads(data) == [1, "two"]
    assert name_of(data) == "pickle"


def test_what_pickle_refuses_cloudpickle_takes() -> None:
    """`encode`: by cloudpickle where pickle cannot: local functions and classes, closures."""
    factor = 3

    class Local:
        def __init__(self, number: int) -> None:
            self.number = number

        def times(self) -> int:
            return self.number * factor

    data = encode([lambda number: number * factor, Local(5)])
    assert name_of(data) == "cloudpickle"
    function, local = decode(data)
    assert (function(7), local.times()) == (21, 15)


class _Raises:
    """`__reduce__` raises `error`."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyError("no"), OSError("no")])
def test_a_reduce_that_raises_is_a_snapshot_error(error: Exception) -> None:
    """`encode`: one error whatever `__reduce__` raises, with that as its cause."""
    with pytest.raises(
        SnapshotError, match=r"a list cannot be pickled.*save plain data"
    ) as raised:
        encode([_Raises(error)])
    assert type(raised.value.__cause__) is type(error)


@pytest.mark.parametrize(
    "make",
    [
        threading.Lock,
        lambda: sys._getframe(),
        lambda: (number for number in (1, 2)),
    ],
)
def test_what_nothing_can_pickle_is_a_snapshot_error(make: Callable[[], Any]) -> None:
    """`encode`: locks, frames, generators belong to this process."""
    with pytest.raises(SnapshotError, match="save plain data"):
        encode({"state": make()})


def _deep(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("choice", CHOICES)
def test_too_deep_a_value_is_a_snapshot_error(choice: Any) -> None:
    """A hundred times the limit of recursion is a refused save, not the end of the component."""
    with pytest.raises(SnapshotError):
        codec_for(choice).encode(_deep(100 * sys.getrecursionlimit()))


def test_a_deep_value_is_a_list_within_the_limit() -> None:
    """A tenth of the limit comes back: depth 100 counted by hand."""
    found = decode(encode(_deep(100)))
    depth = 0
    while found:
        found = found[0]
        depth += 1
    assert depth == 100


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x05", b"junk", b"\x01", b"\x02", b"\x02abc", b"\x03"]
)
def test_bytes_cut_off_are_a_snapshot_error(data: bytes) -> None:
    """`decode`: one error whatever the bytes; for cloudpickle's head that is a VersionError."""
    with pytest.raises((SnapshotError, VersionError)):
        decode(data)


@given(st.binary(max_size=40), st.sampled_from([b"", b"\x02", b"\x03", b"\x04"]))
def test_junk_is_a_snapshot_error_or_a_value(junk: bytes, tag: bytes) -> None:
    """`decode`: no other exception leaves it. Pickles made by chance are values."""
    with suppress(SnapshotError, VersionError):  # without the codes that import something
        decode(tag + junk.replace(b"c", b"").replace(b"\x93", b"").replace(b"i", b""))


def test_every_cut_of_buffers_is_a_snapshot_error() -> None:
    """Cut off at any byte the size of a buffer is wrong: never an array with less in it."""
    value = numpy.arange(20)
    data = encode(value)
    for end in range(1, len(data)):
        with pytest.raises(SnapshotError):
            decode(data[:end])


def test_a_pickle_by_another_python_is_refused() -> None:
    """RELIABILITY: cloudpickle of another Python minor: VersionError, not a crash. The two bytes
    after the tag are the version; both are named in the message, and a way out.
    """
    data = encode(lambda: 1)
    assert data[1:3] == bytes(sys.version_info[:2])
    major, minor = sys.version_info[:2]
    for version in ((major, minor + 1), (major, minor - 1), (major + 1, minor)):
        with pytest.raises(VersionError, match=rf"{version[0]}\.{version[1]}.*{major}\.{minor}"):
            decode(data[:1] + bytes(version) + b"nothing that could be loaded")


# -- buffers --------------------------------------------------------------------------------------


ARRAYS = {
    "plain": lambda: numpy.arange(24),
    "matrix": lambda: numpy.arange(24.0).reshape(4, 6),
    "fortran": lambda: numpy.asfortranarray(numpy.arange(24.0).reshape(4, 6)),
    "strided": lambda: numpy.arange(48)[::2],
    "reversed": lambda: numpy.arange(24)[::-1],
    "transposed": lambda: numpy.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "empty": lambda: numpy.zeros((0, 3)),
    "no axis": lambda: numpy.array(3.5),
    "big-endian": lambda: numpy.arange(5, dtype=">i4"),
    "records": lambda: numpy.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
    "text": lambda: numpy.array(["one", "three"]),
    "times": lambda: numpy.array(["2024-02-29"], dtype="datetime64[D]"),
    "objects": lambda: numpy.array([{"a": 1}, None], dtype=object),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_come_back(kind: str) -> None:
    """Values, shape, dtype and Fortran order as they were."""
    value = ARRAYS[kind]()
    found = decode(encode(value))
    assert (found.dtype, found.shape) == (value.dtype, value.shape)
    assert numpy.array_equal(found, value)
    assert found.flags.f_contiguous or not value.flags.f_contiguous
    assert found.flags.c_contiguous or not value.flags.c_contiguous


@pytest.mark.parametrize("kind", ["plain", "matrix", "fortran", "strided", "no axis"])
def test_decoded_arrays_can_be_written_to_and_are_independent(kind: str) -> None:
    """A component goes on with its state: it may change it, and the next attempt sees the old."""
    value = ARRAYS[kind]()
    data = encode(value)
    first, second = decode(data), decode(data)
    assert first.flags.writeable
    first[...] = 99
    assert numpy.array_equal(second, value)
    assert numpy.array_equal(decode(data), value)


def test_the_bytes_do_not_change_with_the_array() -> None:
    """B-20: the value as it was at the call, though buffers are beside the pickle."""
    for order in ("C", "F"):
        value = numpy.zeros((3, 4), order=order)
        data = encode(value)
        value += 1
        assert not decode(data).any()


def test_big_arrays_are_beside_the_pickle_and_copied_once() -> None:
    """`encode`: out of band: so the bytes are those of the arrays and little more, and decoding
    gives each its own.
    """
    value = {"a": numpy.ones(100_000), "b": [numpy.zeros((300, 300), order="F"), "text"]}
    data = encode(value)
    assert name_of(data) == "pickle with buffers"
    assert 0 < len(data) - (800_000 + 720_000) < 2000
    found = decode(data)
    assert found["a"].sum() == 100_000
    assert found["b"][0].flags.f_contiguous
    assert found["b"][1] == "text"


def test_one_array_at_two_places_stays_one() -> None:
    """As for any object: one array of two names, not two."""
    value = numpy.arange(3)
    first, second = decode(encode([value, value]))
    assert first is second


def test_arrays_with_a_lambda_beside_them_come_back() -> None:
    """The fallback takes everything: cloudpickle, buffers within; still writable."""
    data = encode({"array": numpy.arange(3), "function": lambda: 1})
    found = decode(data)
    found["array"][0] = 7
    assert found["array"].tolist() == [7, 1, 2]
    assert decode(data)["array"].tolist() == [0, 1, 2]


def test_read_only_arrays_may_be_saved() -> None:
    """What comes back is a new one that may be written to, or read-only as it was; not shared."""
    value = numpy.arange(3)
    value.flags.writeable = False
    assert decode(encode(value)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "value", [bytearray(b"abc"), array.array("d", [1.0, 2.5]), pickle.PickleBuffer(b"abc")]
)
def test_other_buffers_come_back(value: Any) -> None:
    """The bytes as they were, whatever holds them."""
    found = decode(encode(value))
    assert bytes(memoryview(found)) == bytes(memoryview(value))


# -- json -----------------------------------------------------------------------------------------


@given(PLAIN)
def test_json_gives_back_what_it_takes(value: Any) -> None:
    """Plain data with text as keys comes back equal, and the bytes are JSON for anybody."""
    codec = codec_for("json")
    data = codec.encode(value)
    assert name_of(data) == "json"
    assert json.loads(data[1:]) == value
    found = codec.decode(data)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        [-math.inf],
        {1: "one"},
        {"a": [{None: 1}]},
        {"a": ({2.5: 1},)},
        {True: 1},
        {1, 2},
        b"bytes",
        Point(1, 2.0),
        object(),
    ],
)
def test_json_refuses_what_it_would_change(value: Any) -> None:
    """S-28's reason for pickle (JSON would turn integer keys into text): so those are refused,
    as are NaN and infinities, which are no JSON.
    """
    with pytest.raises(SnapshotError, match=r"cannot be encoded by json.*save plain data"):
        codec_for("json").encode(value)


def test_json_refuses_what_holds_itself() -> None:
    """A circle ends, with an error."""
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(SnapshotError):
        codec_for("json").encode({"a": itself})


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "\u2028", "é" * 1000])
def test_json_takes_any_text(text: str) -> None:
    """Text as it was, or refused: half a surrogate pair too."""
    codec = codec_for("json")
    assert codec.decode(codec.encode([text, {text: 1}])) == [text, {text: 1}]


# -- pairs of dumps and loads ---------------------------------------------------------------------


class Reversing:
    """A pair: repr, backwards; counts."""

    def dumps(self, value: Any) -> bytes:
        return repr(value).encode()[::-1]

    def loads(self, data: bytes) -> Any:
        return eval(data[::-1])


def test_a_pair_encodes_and_decodes() -> None:
    """codec=: anything with `dumps` and `loads`: its name goes into the bytes."""
    codec = codec_for(Reversing())
    data = codec.encode([1, "two"])
    assert data.endswith(b"]'owt' ,1[")
    assert name_of(data) == "Reversing"
    assert codec.decode(data) == [1, "two"]


@pytest.mark.parametrize("module", [json, pickle])
def test_modules_are_pairs(module: Any) -> None:
    """`dumps` may return bytes or text."""
    codec = codec_for(module)
    assert codec.decode(codec.encode({"a": [1]})) == {"a": [1]}
    assert name_of(codec.encode(1)) == module.__name__


def test_a_pair_also_decodes_what_others_have_made() -> None:
    """The bytes say themselves how they were made: a program may change its codec."""
    for codec in (codec_for(Reversing()), codec_for("json"), PICKLE):
        for data in (encode([1]), codec_for("json").encode([1]), encode(numpy.arange(1))):
            assert list(codec.decode(data)) in ([1], [0])


@pytest.mark.parametrize("choice", CHOICES)
def test_what_a_pair_made_needs_the_pair(choice: Any) -> None:
    """Without it: an error that names it; not junk."""
    data = codec_for(Reversing()).encode([1])
    with pytest.raises(SnapshotError, match=r"Reversing.*codec="):
        codec_for(choice).decode(data)


class Failing:
    """A pair that raises, or returns nonsense."""

    def __init__(self, dumps: Any = b"", loads: Any = None) -> None:
        self._dumps = dumps
        self._loads = loads

    def dumps(self, value: Any) -> Any:
        if isinstance(self._dumps, Exception):
            raise self._dumps
        return self._dumps

    def loads(self, data: Any) -> Any:
        if isinstance(self._loads, Exception):
            raise self._loads
        return self._loads


@pytest.mark.parametrize("dumps", [RuntimeError("no"), None, ["list"], object()])
def test_a_dumps_that_fails_is_a_snapshot_error(dumps: Any) -> None:
    """It raised, or returned neither bytes nor text: the error names pair and type."""
    with pytest.raises(SnapshotError, match=r"int cannot be encoded by Failing"):
        codec_for(Failing(dumps=dumps)).encode(1)


@pytest.mark.parametrize("dumps", [7, 0, True])
def test_a_dumps_that_returns_a_number_is_a_snapshot_error(dumps: Any) -> None:
    """A number is neither bytes nor text: `bytes(7)` would be seven zeros, a lost snapshot."""
    with pytest.raises(SnapshotError):
        codec_for(Failing(dumps=dumps)).encode({"state": 1})


def test_a_loads_that_fails_is_a_snapshot_error() -> None:
    """`decode`: one error, with the cause."""
    codec = codec_for(Failing(b"data", ValueError("no")))
    with pytest.raises(SnapshotError, match=r"cannot be decoded by Failing \(ValueError\)") as it:
        codec.decode(codec.encode(1))
    assert isinstance(it.value.__cause__, ValueError)


@pytest.mark.parametrize("choice", ["yaml", "", "PICKLE"])
def test_a_name_of_no_codec_is_refused(choice: Any) -> None:
    """The message lists what there is."""
    with pytest.raises(ArgumentError, match=r"'pickle', 'json'"):
        TestSystem(codec=choice)


@pytest.mark.parametrize("choice", [None, 1, math, object()])
def test_what_is_no_pair_is_refused(choice: Any) -> None:
    """At once, not at the first save."""
    with pytest.raises(ArgumentTypeError, match="dumps and loads"):
        TestSystem(codec=choice)


# -- in a system ----------------------------------------------------------------------------------


def restart_with_snapshot(fault: FaultContext[Any]) -> RecoveryHandler:
    """A recovery function that is found by its name."""
    found = fault.snapshot
    return fault.restart(lambda: Keeper(found))


@pytest.mark.parametrize("choice", ["pickle", "json", Reversing()])
def test_recovery_sees_the_same_after_an_exception_and_after_a_loss(choice: Any) -> None:
    """S-28: one codec at every level: so both see the very same value."""
    store = MemoryStore()
    value = {"a": [1, None, "x"]}
    system = TestSystem(store=store, codec=choice)
    ref = system.create(Keeper, name="a", start=True)
    ref.ask(Do(lambda it: it.set_recovery_function(restart_with_snapshot, snapshot=value)))
    system.flush()
    lost = store.crashed()

    def boom(component: Any) -> None:
        raise ValueError("boom")

    ref.tell(boom)
    system.run_until_idle()
    assert ref.ask(Do(lambda it: it.value)) == value
    system.shutdown()
    with TestSystem(store=lost, codec=choice) as again:
        ref = again.create(Keeper, name="a", start=True)
        assert ref.ask(Do(lambda it: it.value)) == value


@pytest.mark.parametrize("choice", CHOICES)
def test_a_refused_save_leaves_the_one_before(choice: Any) -> None:
    """`set_recovery_function`: SnapshotError: the one before stays, in the store as well."""
    store = MemoryStore()
    with TestSystem(store=store, codec=choice) as system:
        ref = system.create(Keeper, name="a", start=True)
        ref.ask(Do(lambda it: it.set_recovery_function(restart_with_snapshot, snapshot="good")))

        def save_bad(component: Any) -> None:
            with pytest.raises(SnapshotError):
                component.set_recovery_function(restart_with_snapshot, snapshot=threading.Lock())

        ref.ask(Do(save_bad))
        system.flush()
        assert ref.state.value == "active"
    (kept,) = store.load("a")
    assert kept.data is not None
    assert decode(kept.data) == "good"


def test_another_codec_at_the_next_start_says_which_is_missing() -> None:
    """A pair's snapshot without the pair: the fallback, whose event says by which it was made."""
    store = MemoryStore()
    with TestSystem(store=store, codec=Reversing()) as system:
        ref = system.create(Keeper, name="a", start=True)
        ref.ask(Do(lambda it: it.set_recovery_function(restart_with_snapshot, snapshot=[1])))
    with TestSystem(store=store) as system:
        ref = system.create(Keeper, name="a", start=True, fallback="restart")
        (applied,) = system.events.of(FallbackApplied)
        assert "Reversing" in applied.detail
    with TestSystem(store=store, codec=Reversing()) as system:
        ref = system.create(Keeper, name="a", start=True)
        assert ref.ask(Do(lambda it: it.value)) == [1]
