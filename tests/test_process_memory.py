"""Is a block the same memory in two processes, and nothing of it left when both are gone?"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest

from kompyct.errors import ArgumentError
from kompyct.processes.memory import HAS_MEMFD, Block

Create = Callable[[int], Block]
SHARED = Path("/dev/shm")


@pytest.fixture(
    params=[
        pytest.param(False, marks=pytest.mark.skipif(not HAS_MEMFD, reason="no memfd here")),
        True,
    ],
    ids=["memfd", "named"],
)
def create(request: pytest.FixtureRequest) -> Iterator[Create]:
    """Makes blocks of either kind, and closes them."""
    made: list[Block] = []

    def create(size: int) -> Block:
        made.append(Block.create(size, named=request.param))
        return made[-1]

    yield create
    for block in made:
        block.close()


def attached(block: Block) -> Block:
    """Another mapping of it, as another process has."""
    handle = block.handle
    return Block.attach(os.dup(handle) if isinstance(handle, int) else handle)


def leftovers(pid: int = 0) -> set[str]:
    own = f"*kompyct_{pid or os.getpid()}_*"  # other tests may run beside these
    return {entry.name for entry in SHARED.glob(own)} if SHARED.exists() else set()


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_block_is_zero_and_as_large_as_asked(create: Create) -> None:
    """Given a new block, then it has that many bytes, all zero, and can be written to."""
    block = create(1000)
    assert block.size == 1000
    assert bytes(block.buffer) == bytes(1000)
    block.buffer[999] = 7
    assert block.buffer[999] == 7


@pytest.mark.parametrize("size", [0, -1])
def test_a_block_of_nothing_is_refused(create: Create, size: int) -> None:
    """Given no size, then the error names it."""
    with pytest.raises(ArgumentError, match=f"a block of {size} bytes"):
        create(size)


def test_what_one_side_writes_the_other_reads(create: Create) -> None:
    """Given two mappings of a block, then they are the same memory."""
    block = create(5000)
    other = attached(block)
    block.buffer[4000:4003] = b"abc"
    assert bytes(other.buffer[4000:4003]) == b"abc"
    other.buffer[0] = 1
    assert block.buffer[0] == 1
    other.close()


def test_what_a_forked_child_wrote_outlives_it(create: Create) -> None:
    """S-33: Given a writer killed right after, then what it wrote and grew is there."""
    block = create(100)
    child = os.fork()
    if child == 0:
        block.grow(100_000)
        block.buffer[99_990:99_993] = b"abc"
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    block.refresh()
    assert block.size >= 100_000
    assert bytes(block.buffer[99_990:99_993]) == b"abc"


def test_growing_keeps_what_is_there(create: Create) -> None:
    """Given a block that grows twice, then both sides see the old bytes and the new room."""
    block = create(100)
    other = attached(block)
    block.buffer[:3] = b"abc"
    for size in (5_000, 70_000):
        block.grow(size)
        block.buffer[size - 1] = 9
        other.refresh()
        assert other.size == block.size >= size
        assert bytes(other.buffer[:3]) == b"abc"
        assert other.buffer[size - 1] == 9
    other.close()


def test_growing_to_less_changes_nothing(create: Create) -> None:
    """Given a smaller size, then the block stays as it is."""
    block = create(100)
    block.grow(50)
    assert block.size == 100


def test_a_view_that_is_still_there_does_not_hinder_closing(create: Create) -> None:
    """Given an array on the memory, then close does not raise, and the array stays readable."""
    block = create(800)
    array = np.frombuffer(block.buffer, dtype=np.int64)
    array[5] = 42
    block.grow(100_000)
    assert array[5] == 42
    grown = np.frombuffer(block.buffer[:800], dtype=np.int64)
    block.close()
    block.close()
    assert grown[5] == 42
    del array, grown
    gc.collect()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_closing_leaves_no_descriptor_and_no_name(create: Create) -> None:
    """Given blocks that grew and were closed, then nothing of them is left."""
    create(10).close()  # the resource tracker stays, if it was started
    before = descriptors(), leftovers()
    for _ in range(5):
        block = create(100)
        other = attached(block)
        block.grow(9_000)
        other.refresh()
        other.close()
        block.close()
    gc.collect()
    assert (descriptors(), leftovers()) == before


@pytest.mark.skipif(not HAS_MEMFD, reason="no memfd here")
def test_a_file_that_took_the_descriptors_number_is_left_alone(tmp_path: Path) -> None:
    """Given a program that closes descriptors it does not know, then its own file is not cut."""
    block = Block.create(100)
    assert isinstance(block.handle, int)
    path = tmp_path / "own"
    path.write_bytes(b"own")
    own = os.open(path, os.O_RDWR)
    os.dup2(own, block.handle)
    with pytest.raises(OSError, match="closed by somebody else"):
        block.grow(1000)
    number = block.handle
    block.close()
    assert os.fstat(number).st_size == 3
    os.close(number)
    os.close(own)


def make_the_next(block: Block) -> None:
    """What growing a named block does first."""
    name = str(block.handle)
    SharedMemory(f"{name[:-1]}1", create=True, size=5_000)


@pytest.mark.skipif(not SHARED.exists(), reason="needs /dev/shm")
@pytest.mark.parametrize("done", ["moved", "made", "without a size"])
def test_a_name_whose_maker_was_killed_is_removed_by_the_owner(done: str) -> None:
    """Given a child killed while it grows a named block, then the old one counts, or the new;
    and the owner removes both."""
    before = leftovers()
    block = Block.create(100, named=True)
    block.buffer[:3] = b"abc"
    child = os.fork()
    if child == 0:
        if done == "moved":
            block.grow(5_000)
        elif done == "made":
            make_the_next(block)
        else:
            (SHARED / f"{str(block.handle)[:-1]}1").touch()
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    block.refresh()
    assert block.size == (5_000 if done == "moved" else 100)
    assert bytes(block.buffer[:3]) == b"abc"
    block.close()
    assert leftovers() == before


@pytest.mark.skipif(not SHARED.exists(), reason="needs /dev/shm")
def test_names_of_processes_that_were_both_killed_are_removed() -> None:
    """S-33: Given owner and writer killed, then the resource tracker removes the names."""
    program = """
        import os
        from kompyct.processes.memory import Block
        block = Block.create(100, named=True)
        reader, writer = os.pipe()
        if os.fork() == 0:
            block.grow(10_000)
            os.write(writer, b"x")
            os.kill(os.getpid(), 9)
        os.read(reader, 1)
        os.kill(os.getpid(), 9)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    # The tracker holds the pipes: they end when it does.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as owner:
        said, _ = owner.communicate(timeout=20)
    assert owner.returncode == -9, said
    assert b"leaked shared_memory" in said
    assert leftovers(owner.pid) == set()
