"""Is a process told from another one that has its number?"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

from kompyct.processes.identity import identity_of


def test_a_process_is_itself() -> None:
    """Given this process, then it is alive, and the same at each look."""
    found = identity_of(os.getpid())
    assert found is not None
    assert found == identity_of(os.getpid())
    assert found.is_alive()


def test_a_process_that_has_ended_is_not_alive() -> None:
    """Given a child, then it is alive until it has ended; a zombie is not."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = identity_of(child.pid)
    assert found is not None
    assert found.is_alive()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not found.is_alive()
    child.communicate()
    assert not found.is_alive()


def test_another_process_of_the_same_number_is_another() -> None:
    """RELIABILITY 1, pid reused: Given the number of this process, started at another time, then
    it is not taken for this one."""
    found = identity_of(os.getpid())
    assert found is not None
    assert not replace(found, started=found.started + "0").is_alive()


def test_what_does_not_exist_has_no_identity() -> None:
    """Given a number that no process has, then there is none."""
    assert identity_of(1 << 22) is None
