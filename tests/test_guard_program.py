"""Does the data of a guarded program outlive it, however it ends, and is nothing else left?"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from kompyct import guard
from kompyct.errors import ArgumentError, ArgumentTypeError, AutosaveError, GuardError
from kompyct.guard import GuardedDict
from kompyct.processes.memory import HAS_MEMFD

LIMIT = 20.0  # seconds within which anything must have happened
METHODS = multiprocessing.get_all_start_methods()
SHARED = Path("/dev/shm")

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each start method in turn, set as a program does."""
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(None, force=True)


@pytest.fixture
def fork() -> Iterator[None]:
    """The start method that lets the functions of a test be used."""
    multiprocessing.set_start_method("fork", force=True)
    yield
    multiprocessing.set_start_method(None, force=True)


def is_server(child: psutil.Process) -> bool:
    """Whether it is one of those that multiprocessing keeps."""
    with suppress(psutil.NoSuchProcess):
        return "multiprocessing" in " ".join(child.cmdline())
    return False


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No child, descriptor or shared memory more than before; servers of multiprocessing stay."""

    def children() -> set[int]:
        return {child.pid for child in psutil.Process().children() if not is_server(child)}

    def pipes() -> int:
        return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0

    def shared() -> set[str]:
        own = f"*kompyct_{os.getpid()}_*"  # other tests may run beside these
        return {entry.name for entry in SHARED.glob(own)} if SHARED.exists() else set()

    multiprocessing.Event()  # starts the resource tracker's and the server's own descriptors
    before = children(), shared()
    descriptors = pipes()
    yield
    assert (children(), shared()) == before
    assert pipes() <= descriptors + 4  # those of the servers, at most, if they were started


class Rescued:
    """A rescue function that remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[Any, Any], int, tuple[Any, ...]]] = []
        self.exits: list[str] = []

    def __call__(self, data: GuardedDict, exit_code: int, *args: Any) -> None:
        self.calls.append((dict(data), exit_code, args))
        self.exits.append(str(data.exit).partition(" was ")[2])


def end_as_told(data: GuardedDict, how: str) -> None:
    """Store a value and end in the given way."""
    faulthandler.disable()  # pytest's, which would print its own stack
    data["how"] = how
    data["count"] = [1, 2, 3]
    if how == "raise":
        raise ValueError("on purpose")
    if how == "exit":
        sys.exit(3)
    if how == "text":
        sys.exit("on purpose")
    if how == "_exit":
        os._exit(4)
    if how == "segv":
        ctypes.string_at(0)
    if how.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, how))
        time.sleep(LIMIT)


@pytest.mark.parametrize("named", [False, True], ids=["memfd", "named"])
@pytest.mark.parametrize(
    ("how", "exit_code"),
    [
        ("raise", 1),
        ("exit", 3),
        ("text", 1),
        ("_exit", 4),
        ("segv", -signal.SIGSEGV),
        ("SIGKILL", -signal.SIGKILL),
        ("SIGTERM", -signal.SIGTERM),
        ("SIGABRT", -signal.SIGABRT),
    ],
)
@pytest.mark.usefixtures("fork")
def test_whatever_ends_the_program_its_data_is_rescued(
    how: str, exit_code: int, named: bool
) -> None:
    """Issue 4: Given each way to end, then rescue has everything stored, and the exit code."""
    if not named and not HAS_MEMFD:
        pytest.skip("no memfd here")
    rescue = Rescued()
    assert guard.start(end_as_told, rescue, how, named_memory=named) == exit_code
    assert rescue.calls == [({"how": how, "count": [1, 2, 3]}, exit_code, (how,))]


@pytest.mark.parametrize("how", ["segv", "ok"])
def test_it_works_by_every_start_method(method: str, how: str) -> None:
    """Issue 4: Given spawn, forkserver and fork, then the results are the same."""
    rescue = Rescued()
    expected = -signal.SIGSEGV if how == "segv" else 0
    assert guard.start(end_as_told, rescue, how) == expected
    assert len(rescue.calls) == (1 if how == "segv" else 0)


@pytest.mark.usefixtures("fork")
def test_an_orderly_end_needs_no_rescue() -> None:
    """Given a launch that returns, or exits with 0, then rescue is not called."""
    rescue = Rescued()
    assert guard.start(lambda data: None, rescue) == 0
    assert guard.start(lambda data: sys.exit(0), rescue) == 0
    assert rescue.calls == []


@pytest.mark.usefixtures("fork")
def test_the_cause_is_told_in_full() -> None:
    """Given a signal, then the dictionary says which it was, in words."""
    rescue = Rescued()
    guard.start(end_as_told, rescue, "segv")
    assert rescue.exits == ["ended by SIGSEGV"]


@linux
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_a_kill_for_want_of_memory_is_told_on_evidence(tmp_path: Path) -> None:
    """Issue 4: Given a control group with a limit and a program beyond it, then the cause is
    "oom", and the data is there."""
    groups = Path("/sys/fs/cgroup/memory")
    if not (groups / "memory.oom_control").exists():
        pytest.skip("no control groups for memory of version 1")
    own = groups / f"kompyct-test-{os.getpid()}"
    own.mkdir()
    program = """
        import os, sys
        from kompyct import guard
        def launch(data):
            data["before"] = 1
            hog = []
            while True:
                hog.append(bytearray(b"x" * 1_000_000))
        def rescue(data, exit_code):
            print(exit_code, data.exit.cause, dict(data), flush=True)
        open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
        guard.start(launch, rescue)
    """
    try:
        (own / "memory.limit_in_bytes").write_text(str(80_000_000))
        done = run(program, str(own))
    finally:
        give_up = time.monotonic() + LIMIT
        while (own / "cgroup.procs").read_text() and time.monotonic() < give_up:
            pass
        own.rmdir()
    assert done.stdout.splitlines() == ["-9 oom {'before': 1}"]


# -- wrong use ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("launch", "rescue", "options", "message"),
    [
        (lambda data, args: None, Rescued(), {}, "launch cannot be called with 1 arguments"),
        (lambda data: None, Rescued(), {"args": 1}, "launch cannot be called with 2 arguments"),
        (lambda data: None, lambda data: None, {}, "rescue cannot be called with 2 arguments"),
        (None, Rescued(), {}, "launch is None"),
        (lambda data: None, 5, {}, "rescue is 5"),
        (lambda data: None, Rescued(), {"autosave_interval": 1}, "give both, or neither"),
        (lambda data: None, Rescued(), {"autosave_file": "x"}, "give both, or neither"),
        (
            lambda data: None,
            Rescued(),
            {"autosave_file": "x", "autosave_interval": "1"},
            "autosave_interval is '1'",
        ),
    ],
)
def test_wrong_use_is_refused_before_anything_starts(
    launch: Any, rescue: Any, options: dict[str, Any], message: str
) -> None:
    """Issue 4, "`args` forgotten" and others: TypeErrors, as its own, that say what to do."""
    with pytest.raises(ArgumentTypeError, match=message):
        guard.start(launch, rescue, **options)


@pytest.mark.parametrize("interval", [0, -1.0, float("nan")])
def test_an_interval_must_be_positive(interval: float, tmp_path: Path) -> None:
    """Given no time between two autosaves, then the error names it, and there is no file."""
    with pytest.raises(ArgumentError, match=f"autosave_interval is {interval!r}"):
        guard.start(lambda data: None, Rescued(), None, interval, tmp_path / "autosave")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_sent_is_told(tmp_path: Path) -> None:
    """Given a function inside another and a new process by spawn, then the error says what to do,
    and no autosave is left."""
    multiprocessing.set_start_method("spawn", force=True)
    try:
        with pytest.raises(GuardError, match="at the top of a module"):
            guard.start(lambda data: None, Rescued(), None, 1, tmp_path / "autosave")
    finally:
        multiprocessing.set_start_method(None, force=True)
    assert list(tmp_path.iterdir()) == []


def threads_of(data: GuardedDict) -> None:
    data["method"] = type(multiprocessing.current_process()).__name__
    os._exit(9)


@pytest.mark.skipif(METHODS[0] != "fork", reason="fork is not the default here")
def test_a_program_with_threads_is_not_forked() -> None:
    """Given threads, whose locks a copy would keep for ever, then the application is spawned."""
    multiprocessing.set_start_method(None, force=True)
    over = threading.Event()
    thread = threading.Thread(target=over.wait, args=(LIMIT,))
    thread.start()
    try:
        rescue = Rescued()
        guard.start(threads_of, rescue)
    finally:
        over.set()
        thread.join()
    assert rescue.calls[0][0] == {"method": "SpawnProcess"}


# -- programs of their own ------------------------------------------------------------------


def run(program: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program as a file, since a start by spawn imports it."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        **options,
    )


def run_file(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = folder / "program.py"
    path.write_text(textwrap.dedent(program))
    return subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=folder,
    )


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_program_without_a_main_guard_is_told_so(tmp_path: Path, method: str) -> None:
    """Issue 4: Given no `if __name__ == "__main__":`, then there is a clear error and an end, not
    process after process."""
    program = f"""
        import multiprocessing
        from kompyct import guard
        def launch(data):
            print("launched")
        def rescue(data, exit_code):
            print("rescued", exit_code)
        multiprocessing.set_start_method("{method}", force=True)
        guard.start(launch, rescue)
    """
    done = run_file(tmp_path, program)
    assert '`if __name__ == "__main__":`' in done.stderr
    assert done.stdout == "rescued 1\n"


def test_a_program_that_dies_at_import_is_rescued(tmp_path: Path) -> None:
    """Issue 4: Given a program that cannot be imported again, then rescue is called with nothing,
    and the reason is printed."""
    program = """
        import multiprocessing
        from kompyct import guard
        def launch(data):
            print("launched")
        def rescue(data, exit_code):
            print("rescued", exit_code, dict(data))
        if __name__ == "__main__":
            multiprocessing.set_start_method("spawn")
            guard.start(launch, rescue)
        else:
            raise OSError("cannot be imported again")
    """
    done = run_file(tmp_path, program)
    assert done.stdout == "rescued 1 {}\n"
    assert "cannot be imported again" in done.stderr


CLOSES_EVERYTHING = """
    import os, sys, time
    from kompyct import guard
    def launch(data):
        os.closerange(0, 200)
        sys.stdout = sys.stderr = None
        for number in range(200):
            data[number] = bytes(10)
        os.kill(os.getpid(), 11)
    def rescue(data, exit_code):
        print(exit_code, len(data), flush=True)
    guard.start(launch, rescue)
"""


@linux
def test_a_program_that_closes_all_descriptors_is_rescued() -> None:
    """Issue 4: Given an application without descriptors, the launcher's pipes included, then what
    it stores in the memory there is, is rescued."""
    done = run(CLOSES_EVERYTHING)
    assert done.stdout == "-11 200\n"


def test_a_program_without_standard_streams_is_rescued(tmp_path: Path) -> None:
    """Issue 4: Given no standard streams at all, and a current folder that is gone, then the data
    is rescued."""
    program = """
        import os, sys
        from kompyct import guard
        def launch(data):
            data["key"] = 1
            os._exit(5)
        def rescue(data, exit_code):
            with open(result, "w") as file:
                file.write(f"{exit_code} {dict(data)}")
        result = sys.argv[1]
        os.mkdir(gone := sys.argv[2])
        os.chdir(gone)
        os.rmdir(gone)
        os.closerange(0, 3)
        sys.stdin = sys.stdout = sys.stderr = None
        guard.start(launch, rescue, None, 0.05, result + ".autosave")
    """
    run(program, str(tmp_path / "result"), str(tmp_path / "gone"))
    assert (tmp_path / "result").read_text() == "5 {'key': 1}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result"]


@linux
@pytest.mark.parametrize(
    "theirs",
    [
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "signal.signal(signal.SIGCHLD, lambda *_: os.wait())",
    ],
    ids=["ignored", "a handler that waits"],
)
def test_a_handler_of_the_users_for_children_does_not_hide_the_end(theirs: str) -> None:
    """Issue 4: Given one's own handling of SIGCHLD, then the exit code is known; and the handling
    is there again afterwards, and in the application."""
    program = f"""
        import os, signal
        from kompyct import guard
        def launch(data):
            data["own"] = signal.getsignal(signal.SIGCHLD) == before
            os.kill(os.getpid(), 11)
        def rescue(data, exit_code):
            print(exit_code, dict(data), signal.getsignal(signal.SIGCHLD) == before, flush=True)
        {theirs}
        before = signal.getsignal(signal.SIGCHLD)
        guard.start(launch, rescue)
    """
    assert run(program).stdout == "-11 {'own': True} True\n"


@linux
@pytest.mark.parametrize(("end", "said"), [("sys.exit(7)", {"7"}), ("os._exit(7)", {"7", "255"})])
def test_a_thread_that_waits_for_all_children_does_not_hang_it(end: str, said: set[str]) -> None:
    """Issue 4: Given `os.wait()` in another thread, which takes the exit code away, then what the
    application has said of itself counts, or that it is not known; its data is rescued."""
    program = f"""
        import multiprocessing, os, sys, threading
        from kompyct import guard
        def launch(data):
            data["key"] = 1
            started.wait()
            {end}
        def rescue(data, exit_code):
            print(exit_code, data.exit.cause, dict(data), flush=True)
        def wait():
            while True:
                try:
                    pid, _ = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    continue
                if pid:
                    return
                started.set()
        multiprocessing.set_start_method("fork")
        started = multiprocessing.Event()
        threading.Thread(target=wait, daemon=True).start()
        guard.start(launch, rescue)
    """
    code, _, rest = run(program).stdout.partition(" ")
    assert code in said  # whoever of the two waits first
    assert rest == "exit {'key': 1}\n"


# -- signals --------------------------------------------------------------------------------

SIGNALLED = """
    import os, signal, sys, time
    from kompyct import guard
    def launch(data):
        def handler(number, frame):
            data["got"] = signal.Signals(number).name
            sys.exit(3)
        if sys.argv[1] == "handler":
            for name in sys.argv[2:]:
                signal.signal(getattr(signal, name), handler)
        data["key"] = 1
        print("ready", os.getpid(), flush=True)
        for _ in range(6000):
            time.sleep(0.01)  # a signal just before a sleep is handled after it only
    def rescue(data, exit_code):
        print(exit_code, dict(data), flush=True)
    print(guard.start(launch, rescue), flush=True)
"""


def source_of(program: str) -> list[str]:
    """What the interpreter is given: a file, or a program."""
    return [program] if program.endswith(".py") else ["-c", textwrap.dedent(program)]


class Program:
    """A guarded program that runs, and has said that it is ready."""

    def __init__(self, program: str, *arguments: str) -> None:
        self.launcher = subprocess.Popen(
            [sys.executable, *source_of(program), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert self.launcher.stdout is not None
        line = self.launcher.stdout.readline().split()
        assert line[0] == "ready", self.launcher.stderr and self.launcher.stderr.read()
        self.application = psutil.Process(int(line[1]))

    def rest(self) -> str:
        """What it prints from now on; it has ended then, application and all."""
        out, _ = self.launcher.communicate(timeout=LIMIT)
        return str(out)


@linux
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1"])
def test_a_signal_to_the_launcher_ends_the_application_and_its_data_is_rescued(name: str) -> None:
    """S-35: Given a signal that would end the launcher, and no terminal, then the application gets
    it, and the launcher rescues and returns."""
    program = Program(SIGNALLED, "none")
    program.launcher.send_signal(getattr(signal, name))
    code = 1 if name == "SIGINT" else -getattr(signal, name)  # KeyboardInterrupt
    assert program.rest() == f"{code} {{'key': 1}}\n{code}\n"


@linux
@pytest.mark.parametrize("method", METHODS)
def test_signals_are_sent_on_by_every_start_method(tmp_path: Path, method: str) -> None:
    """S-35: Given spawn and forkserver, then the application gets signals as well: none is held
    back in what is started."""
    program = Kept(tmp_path, method)
    blocked = [
        line.split()[1]
        for line in Path(f"/proc/{program.application.pid}/status").read_text().splitlines()
        if line.startswith("SigBlk")
    ]
    assert [int(mask, 16) for mask in blocked] == [0]
    program.launcher.terminate()
    assert program.rest().startswith("-15 {'key': [1, 2, 3]")


@linux
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_handler_of_the_applications_ends_it_in_its_way(name: str) -> None:
    """S-35: Given a handler in the application, then it is the one that decides."""
    program = Program(SIGNALLED, "handler", name)
    program.launcher.send_signal(getattr(signal, name))
    assert program.rest() == f"3 {{'key': 1, 'got': '{name}'}}\n3\n"


@linux
def test_a_child_that_the_application_forks_leaves_its_data_alone() -> None:
    """Given a forked child that returns from launch as well, then it neither writes nor speaks for
    the application."""
    program = """
        import os, sys
        from kompyct import guard
        def launch(data):
            data["key"] = [1]
            data["key"].append(2)
            if os.fork() == 0:
                return
            os.wait()
            os.kill(os.getpid(), 9)
        def rescue(data, exit_code):
            print(exit_code, dict(data), flush=True)
        guard.start(launch, rescue)
    """
    done = run(program)
    assert done.stdout == "-9 {'key': [1]}\n"
    assert "GuardError" not in done.stderr


@linux
@pytest.mark.usefixtures("fork")
def test_the_handlers_of_the_user_are_the_applications_and_come_back() -> None:
    """S-35: Given handlers from before, then the application has them, and so has the launcher
    again after; and an ignored signal stays ignored."""
    rescue = Rescued()

    def handler(number: int, frame: object) -> None:
        raise AssertionError

    def launch(data: GuardedDict) -> None:
        data["own"] = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == [
            handler,
            signal.SIG_IGN,
        ]
        data["mask"] = not signal.pthread_sigmask(signal.SIG_BLOCK, ())
        os._exit(1)

    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGHUP)]
    try:
        signal.signal(signal.SIGTERM, handler)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        guard.start(launch, rescue)
        assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for number, found in before:
            signal.signal(number, found)
    assert rescue.calls[0][0] == {"own": True, "mask": True}
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.usefixtures("fork")
def test_it_can_be_started_outside_the_main_thread() -> None:
    """Given another thread, where no handlers can be installed, then it works without them."""
    rescue = Rescued()
    results: list[int] = []
    thread = threading.Thread(
        target=lambda: results.append(guard.start(end_as_told, rescue, "SIGKILL"))
    )
    thread.start()
    thread.join(LIMIT)
    assert results == [-signal.SIGKILL]
    assert rescue.calls[0][0]["how"] == "SIGKILL"


# -- the launcher's death, autosaves --------------------------------------------------------

KEPT = """
    import multiprocessing, os, sys, time
    from kompyct import guard
    def launch(data):
        data["key"] = [1, 2, 3]
        data.array("numbers", 5)[2] = 7
        before = os.stat(sys.argv[1]).st_ino
        while os.stat(sys.argv[1]).st_ino == before:
            time.sleep(0.001)
        print("ready", os.getpid(), flush=True)
        if sys.argv[3:]:
            print(sys.argv[3], flush=True)
        time.sleep(60)
    def rescue(data, exit_code=None):
        print(exit_code, dict(data), flush=True)
    if __name__ == "__main__":
        multiprocessing.set_start_method(sys.argv[2])
        guard.start(launch, rescue, None, 0.02, sys.argv[1])
"""


def ended(process: psutil.Process) -> bool:
    """Wait for its end. Whoever inherits it may take time to notice: a zombie has ended."""
    give_up = time.monotonic() + LIMIT
    while time.monotonic() < give_up:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.005)
    return False


class Kept(Program):
    """One with an autosave, which holds what it has stored when it is ready.

    It is run as a file, which start methods other than fork need.
    """

    def __init__(self, folder: Path, method: str = "fork") -> None:
        self.path = folder / "autosave"
        source = folder / "program.py"
        source.write_text(textwrap.dedent(KEPT))
        super().__init__(str(source), str(self.path), method)


@linux
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_launcher_takes_the_application_along_and_leaves_the_autosave(
    tmp_path: Path, method: str
) -> None:
    """RELIABILITY 1: Given the launcher killed with SIGKILL, then the application ends within 1 s,
    the autosave remains, and recover gives what was stored."""
    program = Kept(tmp_path, method)
    assert guard.is_active(program.path)
    with pytest.raises(AutosaveError, match="runs still"):
        guard.recover(dict, program.path)
    program.launcher.kill()
    killed = time.monotonic()
    assert ended(program.application)
    assert time.monotonic() - killed < 1.0
    program.rest()
    assert not guard.is_active(program.path)
    found: dict[str, Any] = {}
    assert guard.recover(found.update, program.path) == 0
    assert found["key"] == [1, 2, 3]
    assert found["numbers"].tolist() == [0, 0, 7, 0, 0]
    assert program.path.exists()
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"autosave", "autosave.tmp", "program.py"}


@linux
def test_both_killed_leave_the_autosave_and_nothing_else(tmp_path: Path) -> None:
    """Issue 4: Given both killed at once, then recover gives what was stored."""
    program = Kept(tmp_path)
    program.application.suspend()  # so that it cannot end by itself
    program.launcher.kill()
    program.application.kill()
    assert ended(program.application)
    program.rest()
    found: dict[str, Any] = {}
    assert guard.recover(found.update, program.path) == 0
    assert found["key"] == [1, 2, 3]


@linux
def test_two_processes_and_no_third(tmp_path: Path) -> None:
    """S-33: Given a guarded program by fork, then launcher and application are all there is."""
    program = Kept(tmp_path)
    family = psutil.Process(program.launcher.pid).children(recursive=True)
    assert family == [program.application]
    program.application.kill()
    assert program.rest().startswith("-9 {'key': [1, 2, 3]")


@linux
def test_an_autosave_goes_when_rescue_has_returned(tmp_path: Path) -> None:
    """Issue 4: Given a rescue, then the autosave is there while it runs, with the last state, and
    not after."""
    program = Kept(tmp_path)
    program.application.kill()
    program.rest()
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


@pytest.mark.usefixtures("fork")
def test_an_autosave_stays_when_rescue_raises(tmp_path: Path) -> None:
    """Issue 4: Given a rescue that fails, then its error is raised, and the state at the end can
    be recovered."""

    def launch(data: GuardedDict) -> None:
        data["key"] = "last"
        os._exit(1)

    def rescue(data: GuardedDict, exit_code: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guard.start(launch, rescue, None, 3600, tmp_path / "autosave")
    assert not guard.is_active(tmp_path / "autosave")
    found: dict[str, Any] = {}
    assert guard.recover(found.update, tmp_path / "autosave") == 0
    assert found == {"key": "last"}


@pytest.mark.usefixtures("fork")
def test_an_autosave_that_cannot_be_written_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RELIABILITY 1, disk full: Given writes that fail, then one warning, and the application is
    not disturbed; and the autosave is right again when there is room."""
    from kompyct.guard import keeping
    from kompyct.store import failures, files

    monkeypatch.setattr(keeping, "FIRST_RETRY", 0.01)
    whole = files.replace
    tries: list[int] = []
    path = tmp_path / "autosave"
    full, room = tmp_path / "full", tmp_path / "room"

    def replace(target: str, *parts: bytes, previous: str | None = None) -> bool:
        tries.append(1)
        if 1 < len(tries) < 5:
            raise failures.translated(OSError(28, "No space left on device"), target, "write")
        if len(tries) == 5:
            room.touch()
        return whole(target, *parts, previous=previous)

    monkeypatch.setattr(files, "replace", replace)

    def launch(data: GuardedDict) -> None:
        number = 0
        while not room.exists():
            number += 1
            data["key"] = number
        os._exit(6)

    rescue = Rescued()
    with caplog.at_level(logging.WARNING, "kompyct.guard"):
        assert guard.start(launch, rescue, None, 0.01, path) == 6
    warned = [record.getMessage() for record in caplog.records]
    assert [text for text in warned if "No space left" in text] == warned[:1]
    assert "written again, after 3 tries" in warned[1]
    assert not full.exists()


def count_threads(data: GuardedDict) -> None:
    data["threads"] = threading.active_count()


@pytest.mark.usefixtures("fork")
def test_a_hundred_programs_leave_nothing() -> None:
    """Given many programs one after the other, then no thread is left (and see above)."""
    threads = threading.active_count()
    for _ in range(100):
        assert guard.start(count_threads, Rescued()) == 0
    assert threading.active_count() == threads
