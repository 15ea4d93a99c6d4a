"""The kernel kills a child for want of memory: a fault that says so, on evidence."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

LIMIT = 200 * 1024 * 1024  # bytes the whole program may have

PROGRAM = textwrap.dedent(
    """
    import os
    import sys

    with open(sys.argv[1], "w") as tasks:  # before anything else: children are born there
        tasks.write(str(os.getpid()))

    from kompyct import Component, ComponentSystem
    from kompyct.errors import ComponentFaultError


    class Greedy(Component[int]):
        def on_start(self):
            self.set_recovery_function(recover, snapshot="kept")

        def on_receive(self, message):
            kept = []
            while message:
                kept.append(bytearray(b"x" * 10_000_000))
            return "small"


    def recover(fault):
        print(fault.kind.value, fault.exit.cause, fault.exit.signal, fault.exit.code)
        print(fault.message, fault.snapshot, fault.exit)
        return fault.restart()


    if __name__ == "__main__":
        with ComponentSystem() as system:
            greedy = system.create(Greedy, backend="process", start=True)
            try:
                greedy.ask(1, timeout=30)
            except ComponentFaultError:
                print(greedy.ask(0, timeout=20))
    """
)


@pytest.fixture
def limited() -> Iterator[Path]:
    """The file to write a pid to, so that the process has at most LIMIT bytes."""
    folder = _a_group(f"kompyct_{uuid.uuid4().hex}")
    if folder is None:
        pytest.skip("no control group with a memory limit can be made here")
    yield folder / "cgroup.procs"
    folder.rmdir()


def _a_group(name: str) -> Path | None:
    for root, limit in (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ):
        folder = Path(root, name)
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit).write_text(str(LIMIT))
            if (folder / "memory.swap.max").exists():
                (folder / "memory.swap.max").write_text("0")
        except OSError:
            folder.rmdir()
        else:
            return folder
    return None


def test_a_child_killed_for_want_of_memory_says_so(limited: Path, tmp_path: Path) -> None:
    """B-86 (process): Given the kernel's kill for want of memory, then the cause is "oom".

    Its evidence is the counter of the control group; SIGKILL alone would be "signal".
    """
    program = tmp_path / "greedy.py"
    program.write_text(PROGRAM)
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    ended = subprocess.run(
        [sys.executable, str(program), str(limited)],
        capture_output=True,
        text=True,
        timeout=50,
        env=environment,
        check=False,
    )
    lines = ended.stdout.splitlines()
    assert lines[0] == "process_exit oom 9 None", ended.stdout + ended.stderr
    assert lines[1].startswith("1 kept process ")
    assert lines[1].endswith(" was killed for want of memory")
    assert lines[2] == "small"
