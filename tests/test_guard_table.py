"""Does what one side writes into the shared table come out at the other, whole and in order?"""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kompyct.guard.shared import SharedStore
from kompyct.guard.table import ENTRY_BYTES, FIRST_PAGE, HALVES_AT, KEY, KEY_AT, Reader, prepare
from kompyct.processes.memory import HAS_MEMFD, Block

Make = Callable[[], SharedStore]
KINDS = [
    pytest.param(False, marks=pytest.mark.skipif(not HAS_MEMFD, reason="no memfd here")),
    True,
]


@pytest.fixture(params=KINDS, ids=["memfd", "named"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes empty stores in memory of either kind, and gives it back."""
    made: list[Block] = []

    def make() -> SharedStore:
        made.append(Block.create(1 << 12, named=request.param))
        prepare(made[-1])
        return SharedStore(made[-1])

    yield make
    for block in made:
        block.close()


def read(store: SharedStore) -> dict[object, bytes]:
    """What the other side sees, with a mapping of its own."""
    handle = store.block.handle
    block = Block.attach(os.dup(handle) if isinstance(handle, int) else handle)
    found = {pickle.loads(found.key): bytes(found.value) for found in Reader(block).found()}
    block.close()
    return found


def entry_of(store: SharedStore, key: object) -> int:
    """Where the entry of a key is."""
    return store.slots[key].at


def test_an_empty_table_has_nothing(make: Make) -> None:
    """Given no write, then there is no key."""
    assert read(make()) == {}


def test_values_come_out_under_their_keys_in_the_order_of_the_keys(make: Make) -> None:
    """Given keys of several types, written again and deleted, then the order is a dictionary's."""
    store = make()
    model: dict[object, bytes] = {}
    for target in (store, model):
        target["b"] = b"1"
        target[("a", 2)] = b"2"
        target[7] = b"3" * 5000
        target["b"] = b"4"
        del target[7]
        target[None] = b""
        target[7] = b"5"
    assert list(read(store).items()) == list(model.items())
    assert list(store.items()) == list(model.items())


def test_equal_keys_are_one(make: Make) -> None:
    """Given 1, 1.0 and True, then they are one key, the first, as in a dictionary."""
    store = make()
    for key in (1, 1.0, True):
        store[key] = str(key).encode()
    assert list(store.items()) == [(1, b"True")]
    assert len(read(store)) == 1


def test_several_parts_are_one_value(make: Make) -> None:
    """Given parts, then they follow each other, whatever their sizes."""
    store = make()
    for big in (3, 10_000):
        store.put("key", (b"abc", memoryview(b"d" * big), b""))
        assert store["key"] == read(store)["key"] == b"abc" + b"d" * big


def test_more_keys_than_a_page_has_entries(make: Make) -> None:
    """Given ten times as many keys as the first page holds, then all are there; and the memory of
    deleted ones is used again."""
    store = make()
    for number in range(10 * FIRST_PAGE):
        store[number] = number.to_bytes(2, "little")
    assert read(store) == {n: n.to_bytes(2, "little") for n in range(10 * FIRST_PAGE)}
    size = store.block.size
    for _ in range(20):
        store.clear()
        assert read(store) == {}
        for number in range(10 * FIRST_PAGE):
            store[number] = b"again"
    assert store.block.size == size


def test_values_of_changing_size_need_bounded_memory(make: Make) -> None:
    """Given values up to 1 MB at random, then the memory stays below 8 times that for each key."""
    store = make()
    sizes = random.Random(1)
    for number in range(400):
        store[number % 2] = bytes(sizes.randrange(1_000_000))
    assert store.block.size < 16_000_000


def test_a_missing_key_is_an_error(make: Make) -> None:
    """Given no such key, then reading and deleting raise KeyError."""
    store = make()
    with pytest.raises(KeyError):
        store["key"]
    with pytest.raises(KeyError):
        del store["key"]


def test_a_damaged_value_gives_way_to_the_one_before(make: Make) -> None:
    """S-33: Given a flipped byte in the newest value, then the one before is read, and counted;
    given both, then the key is left out."""
    store = make()
    store["other"] = b"other"
    store["key"] = b"first "
    store["key"] = b"second"
    reader = Reader(store.block)
    raw = bytes(store.block.buffer)
    store.block.buffer[raw.index(b"second")] ^= 1
    assert [bytes(found.value) for found in reader.found()] == [b"other", b"first "]
    assert reader.damaged == 1
    store.block.buffer[raw.index(b"first ")] ^= 1
    assert [bytes(found.value) for found in reader.found()] == [b"other"]
    assert reader.damaged == 1


@pytest.mark.parametrize("byte", range(28))
def test_a_damaged_header_gives_way_to_the_half_before(make: Make, byte: int) -> None:
    """S-33: Given any byte of the live half's header changed, then the other half is read."""
    store = make()
    store["key"] = b"first"
    store["key"] = b"second"
    at = entry_of(store, "key")
    live = HALVES_AT[store.block.buffer[at] - 1]
    store.block.buffer[at + live + byte] ^= 0x10
    reader = Reader(store.block)
    assert [bytes(found.value) for found in reader.found()] == [b"first"]
    assert reader.damaged == 1


@pytest.mark.parametrize("byte", range(KEY.size - 8))
def test_a_damaged_key_is_left_out_and_counted(make: Make, byte: int) -> None:
    """S-33: Given any byte changed that leads to a key, then it is not taken for another."""
    store = make()
    store["key"] = b"value"
    store.block.buffer[entry_of(store, "key") + KEY_AT + byte] ^= 0x10
    reader = Reader(store.block)
    assert reader.found() == []
    assert reader.damaged == 1
    assert KEY_AT + byte < ENTRY_BYTES


def test_an_interrupt_in_the_middle_of_a_write_leaves_the_value_before(make: Make) -> None:
    """Given an exception between any two lines of a write, as Ctrl+C raises it, then the value is
    the old one or the new one, and the next writes succeed."""

    class Stop(BaseException):
        pass

    for stop_at in range(60):
        store = make()
        store["key"] = b"old" * 10
        store["key"] = b"old" * 11
        lines = 0

        def trace(frame: object, event: str, argument: object, stop_at: int = stop_at) -> object:
            nonlocal lines
            if event == "line":
                lines += 1
                if lines == stop_at:
                    raise Stop
            return trace

        interrupted = False
        before = sys.gettrace()
        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            store.put("key", (b"new" * 5000,))
        except Stop:
            interrupted = True
        finally:
            sys.settrace(before)
        assert store["key"] in (b"old" * 11, b"new" * 5000)
        assert interrupted or store["key"] == b"new" * 5000
        for value in (b"a" * 20_000, b"b", b"c" * 9_000):
            store["key"] = value
            store["another"] = value
            assert read(store) == {"key": value, "another": value}
        if not interrupted:
            return
    pytest.fail("the write has more lines than were tried")


def test_a_write_by_a_handler_in_the_middle_of_a_write_comes_after_it(make: Make) -> None:
    """Given a signal whose handler writes the same key while it is being written, then both
    succeed one after the other."""
    store = make()
    store["key"] = b"old"

    class Part(bytes):
        def __len__(self) -> int:  # in the middle of the write
            if store._busy and b"handler" not in [
                parts[0] for _, parts in store._deferred if parts
            ]:
                store["key"] = b"handler"
            return super().__len__()

    store.put("key", (Part(b"outer"), b""))
    assert store["key"] == read(store)["key"] == b"handler"


OPERATIONS = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.one_of(st.none(), st.integers(0, 300), st.integers(4000, 70_000)),
    ),
    max_size=60,
)


@given(operations=OPERATIONS)
@settings(max_examples=60, deadline=None)
def test_any_writes_and_deletes_are_a_dictionarys(
    operations: list[tuple[int, int | None]],
) -> None:
    """Given writes of any sizes and deletes in any order, then both sides agree with a dict."""
    block = Block.create(1 << 12)
    prepare(block)
    store = SharedStore(block)
    model: dict[int, bytes] = {}
    for number, (key, size) in enumerate(operations):
        if size is None:
            assert (store.pop(key, None) is None) == (model.pop(key, None) is None)
        else:
            store[key] = model[key] = bytes([number]) * size
    assert list(store.items()) == list(model.items())
    assert list(read(store).items()) == list(model.items())
    block.close()


def test_a_reader_beside_the_writer_sees_whole_values(make: Make) -> None:
    """Given a child that writes and deletes without a pause, then each value read is whole and
    never older than the one before under its key."""
    store = make()
    child = os.fork()
    if child == 0:
        number = 0
        while True:
            number += 1
            key = number % 5
            if number % 11 == 0:
                store.pop(key, None)
            else:
                store[key] = number.to_bytes(4, "little") * (number * 7919 % 3000 + 1)
    try:
        reader = Reader(store.block)
        last: dict[bytes, int] = {}
        seen = 0
        give_up = time.monotonic() + 30
        while seen < 3_000 and time.monotonic() < give_up:
            for found in reader.found():
                data = bytes(found.value)
                number = int.from_bytes(data[:4], "little")
                assert data == data[:4] * (number * 7919 % 3000 + 1)
                assert pickle.loads(found.key) == number % 5
                assert number >= last.get(found.key, 0)
                last[found.key] = number
                seen += 1
            assert reader.damaged == 0
        assert seen >= 3_000
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
