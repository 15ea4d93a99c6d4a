"""Is one value published to another process whole, or not at all?"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from kompyct.errors import ArgumentError, CorruptStoreError
from kompyct.processes.halves import Halves
from kompyct.processes.memory import HAS_MEMFD, Block

Create = Callable[..., Halves]
SIZES = (0, 1, 100, 4096, 4097, 30_000, 1_000_000)


@pytest.fixture(
    params=[
        pytest.param(False, marks=pytest.mark.skipif(not HAS_MEMFD, reason="no memfd here")),
        True,
    ],
    ids=["memfd", "named"],
)
def create(request: pytest.FixtureRequest) -> Iterator[Create]:
    """Makes halves in memory of either kind, and closes it."""
    made: list[Halves] = []

    def create(capacity: int = 1000) -> Halves:
        made.append(Halves.create(capacity, named=request.param))
        return made[-1]

    yield create
    for halves in made:
        halves.block.close()


def reader_of(halves: Halves) -> Halves:
    """What another process has of it."""
    handle = halves.block.handle
    return Halves(Block.attach(os.dup(handle) if isinstance(handle, int) else handle))


def test_nothing_written_is_none(create: Create) -> None:
    """Given no write, then there is no value: None, not an empty one."""
    assert create().read() is None


def test_what_was_written_last_is_read(create: Create) -> None:
    """Given writes of many sizes, then each is read with its sequence, by this side and by the
    other, which maps again when the writer has grown the memory."""
    halves = create()
    other = reader_of(halves)
    for sequence, size in enumerate((*SIZES, *reversed(SIZES))):
        data = random.Random(sequence).randbytes(size)
        halves.write(data, sequence)
        assert other.read() == (sequence, data)
        assert halves.read() == (sequence, data)
    other.block.close()


def test_any_contiguous_bytes_can_be_written(create: Create) -> None:
    """Given a bytearray, or a memoryview of larger items, then its bytes are written."""
    halves = create()
    halves.write(bytearray(b"abc"), 1)
    assert halves.read() == (1, b"abc")
    halves.write(memoryview(b"abcdefgh").cast("I").cast("B"), 2)
    assert halves.read() == (2, b"abcdefgh")


def test_a_sequence_out_of_range_is_refused(create: Create) -> None:
    """Given a sequence that does not fit, then the error names it and the value stays."""
    halves = create()
    halves.write(b"old", 2**64 - 1)
    for sequence in (-1, 2**64):
        with pytest.raises(ArgumentError, match=str(sequence)):
            halves.write(b"new", sequence)
    assert halves.read() == (2**64 - 1, b"old")


def test_values_that_change_size_do_not_grow_the_memory_for_ever(create: Create) -> None:
    """Given sizes up to 100 KB at random, then the memory stays below 8 times that."""
    halves = create()
    sizes = random.Random(1)
    for sequence in range(2_000):
        halves.write(bytes(sizes.randrange(100_000)), sequence)
    assert halves.block.size < 800_000


def test_a_new_writer_goes_on_after_one_that_died(create: Create) -> None:
    """Given a writer that is gone, then its value stays until the next one's first, and that
    does not touch the half which is live."""
    halves = create()
    halves.write(b"a" * 3000, 1)
    halves.write(b"b" * 5000, 2)
    second = reader_of(halves)
    assert second.read() == (2, b"b" * 5000)
    for sequence, size in ((3, 9), (4, 70_000), (5, 1)):
        second.write(b"c" * size, sequence)
        assert halves.read() == (sequence, b"c" * size)
    second.block.close()


def test_many_writers_one_after_the_other_need_no_more_memory(create: Create) -> None:
    """Given writers that take over from each other, then the memory does not grow with them."""
    halves = create(10_000)
    halves.write(bytes(10_000), 0)
    for sequence in range(1, 20):
        Halves(halves.block).write(bytes(9_000), sequence)
        Halves(halves.block).write(bytes(10_000), sequence)
    assert halves.block.size < 100_000


def test_a_damaged_live_half_is_passed_over(create: Create) -> None:
    """S-33: Given a byte of the newest value flipped by a stray write, then the one before it is
    read; given both, then that is an error and not a value."""
    halves = create()
    halves.write(b"first " * 10, 1)
    halves.write(b"second" * 10, 2)
    raw = bytes(halves.block.buffer)
    halves.block.buffer[raw.index(b"second") + 5] ^= 1
    assert halves.read() == (1, b"first " * 10)
    halves.block.buffer[raw.index(b"first ") + 5] ^= 1
    with pytest.raises(CorruptStoreError, match="both halves"):
        halves.read()


@pytest.mark.parametrize("byte", range(36))
def test_a_damaged_header_is_noticed(create: Create, byte: int) -> None:
    """S-33: Given any byte of the live half's header changed, then the one before is read."""
    halves = create()
    halves.write(b"first", 1)
    halves.write(b"second", 2)
    live = 64 * halves.block.buffer[0]
    halves.block.buffer[live + byte] ^= 0x10
    assert halves.read() == (1, b"first")


def test_a_damaged_mark_gives_the_newer_half(create: Create) -> None:
    """Given a mark that says neither half, then the one written last is read."""
    halves = create()
    halves.write(b"first", 1)
    halves.write(b"second", 2)
    halves.block.buffer[0] = 77
    assert halves.read() == (2, b"second")


def test_memory_that_grows_while_it_is_read_is_not_damage(create: Create) -> None:
    """Given a writer that grows the memory for both halves after the reader has mapped it, then
    the reader maps it again instead of passing over the newest value."""
    halves = create()
    halves.write(b"old", 1)
    other = reader_of(halves)
    refresh, left = other.block.refresh, [b"a" * 50_000, b"b" * 200_000]

    def refresh_and_fall_behind() -> None:
        refresh()
        while left:
            halves.write(left.pop(0), 5 - len(left))

    other.block.refresh = refresh_and_fall_behind  # type: ignore[method-assign]
    assert other.read() == (5, b"b" * 200_000)
    other.block.close()


def value(sequence: int) -> bytes:
    """A value that tells whether it is whole: size and content follow from its number."""
    return sequence.to_bytes(4, "little") * (sequence * 7919 % 3000)


@pytest.mark.parametrize("seed", range(10))
def test_a_writer_killed_at_random_leaves_a_whole_value(create: Create, seed: int) -> None:
    """RELIABILITY 1: Given SIGKILL while it writes, then the value is the last one it had told
    of, or the one in flight: never older, never torn."""
    halves = create()
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        sequence = 0
        while True:
            sequence += 1
            halves.write(value(sequence), sequence)
            os.write(tells, sequence.to_bytes(4, "little"))
    os.close(tells)
    last = 0
    for _ in range(random.Random(seed).randrange(1, 400)):
        last = int.from_bytes(os.read(told, 4), "little")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while rest := os.read(told, 4):
        last = int.from_bytes(rest, "little")
    os.close(told)
    found = halves.read()
    assert found is not None
    assert found[0] in (last, last + 1)
    assert found[1] == value(found[0])


def test_a_reader_beside_the_writer_sees_whole_values_in_order(create: Create) -> None:
    """Given a child that writes without a pause, then each read is a whole value, and none is
    older than the one before."""
    halves = create()
    child = os.fork()
    if child == 0:
        sequence = 0
        while True:
            sequence += 1
            halves.write(value(sequence), sequence)
    try:
        last, reads = 0, 0
        give_up = time.monotonic() + 30
        while reads < 5_000 and time.monotonic() < give_up:
            found = halves.read()
            if found is None:
                continue
            assert found[1] == value(found[0])
            assert found[0] >= last
            last, reads = found[0], reads + 1
        assert reads == 5_000
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
