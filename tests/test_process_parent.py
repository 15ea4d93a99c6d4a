"""Does a child end when its parent does, in each of the two ways alone?"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap

import pytest

from kompyct.processes import protocol
from kompyct.processes.parent import ORPHANED

LIMIT = 10.0  # seconds within which anything must have happened

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

GRANDCHILD_BY_SIGNAL = """
    import os, sys, time
    from kompyct.processes.parent import end_with_parent
    parent = os.getpid()
    if os.fork() == 0:
        end_with_parent(parent)
        os.write(1, b"r")
        time.sleep(60)
    time.sleep(60)
"""
GRANDCHILD_BY_PIPE = """
    import os, sys, time
    from kompyct.processes.parent import watch_end_of_file
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(writer)
        watch_end_of_file(reader)
        os.write(1, b"r")
        time.sleep(60)
    time.sleep(60)
"""


def ends(descriptor: int) -> bool:
    """Whether every process that could write to the pipe has ended, within the limit."""
    readable, _, _ = select.select([descriptor], [], [], LIMIT)
    return bool(readable) and os.read(descriptor, 1) == b""


@linux
@pytest.mark.parametrize("program", [GRANDCHILD_BY_SIGNAL, GRANDCHILD_BY_PIPE])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_when_its_parent_is_killed(program: str, how: int) -> None:
    """B-87: Given a parent that is killed, then its child is gone: it closes what it inherited."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        descriptor = parent.stdout.fileno()
        assert select.select([descriptor], [], [], LIMIT)[0]
        assert os.read(descriptor, 1) == b"r"
        parent.send_signal(how)
        assert ends(descriptor)


@linux
def test_a_parent_that_is_gone_already_is_noticed() -> None:
    """Given a parent that ended before the call, then the child ends, with a code of its own."""
    program = "from kompyct.processes.parent import end_with_parent; end_with_parent(1 << 22)"
    done = subprocess.run([sys.executable, "-c", program], timeout=LIMIT, check=False)
    assert done.returncode == ORPHANED


def test_the_end_of_the_pipe_ends_the_process_with_a_code_of_its_own() -> None:
    """Given the last writer gone, then the reader's process exits, whatever was written before."""
    program = """
        import sys, time
        from kompyct.processes.parent import watch_end_of_file
        watch_end_of_file(0)
        time.sleep(60)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], input=b"xyz", timeout=LIMIT, check=False
    )
    assert done.returncode == ORPHANED


def test_a_descriptor_that_is_no_pipe_any_more_ends_nothing() -> None:
    """Given a closed descriptor, then the watch ends, and the process does not."""
    program = """
        import os, time, _thread
        from kompyct.processes.parent import watch_end_of_file
        reader, writer = os.pipe()
        os.close(reader)
        watch_end_of_file(reader)
        until = time.monotonic() + 5
        while _thread._count() and time.monotonic() < until:
            time.sleep(0.001)
        raise SystemExit(_thread._count())
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    assert subprocess.run(command, timeout=LIMIT, check=False).returncode == 0


def test_every_kind_of_frame_has_its_own_number() -> None:
    """Given the kinds of `protocol`, then no two of them are one on the pipe."""
    kinds = [
        value
        for name, value in vars(protocol).items()
        if name.isupper() and isinstance(value, int) and name != "WINDOW"
    ]
    assert len(kinds) == len(set(kinds))
