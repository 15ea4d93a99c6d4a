"""What becomes of programs with components in processes: killed, ended, started wrongly?

B-83, B-87, B-88, S-25, S-26, S-32; issue 4, "Bad input"; RELIABILITY, "no orphan".
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from kompyct import ComponentSystem, FaultKind, State, events, remote
from kompyct.errors import StoreError
from kompyct.processes.identity import ProcessIdentity, identity_of
from kompyct.store.snapshots import MemoryStore
from tests.conftest import LIMIT
from tests.process import components
from tests.process.components import FAULTS, Do, Get, Holder, from_snapshot
from tests.process.conftest import ProcessBench, do, new_name, spare_of
from tests.process.program import save_durably

ROOT = Path(__file__).parents[2]
ORPHANS_LIVE = 1.0  # seconds at most after the end of their system's process


class Program:
    """`tests.process.program`, running."""

    def __init__(self, folder: str, durability: str = "memory") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.process.program", folder, durability],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        word, *pids = self.process.stdout.readline().split()
        assert word == "ready"
        found = [identity_of(int(pid)) for pid in {*pids}]
        self.others: list[ProcessIdentity] = [one for one in found if one is not None]
        assert len(self.others) == 3  # two components and the zygote

    def kill(self) -> None:
        """End it as nothing else does."""
        self.process.kill()
        self.process.wait(LIMIT)

    def leave(self) -> None:
        """Have it end in order."""
        self.process.communicate("", timeout=LIMIT)

    def living(self) -> list[ProcessIdentity]:
        """Which of its processes still are there."""
        return [one for one in self.others if one.is_alive()]


@pytest.fixture(autouse=True)
def _forget() -> None:
    """What earlier tests were told of components of the same names."""
    FAULTS.pop("one", None)
    FAULTS.pop("two", None)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Runs programs, and ends them."""
    made: list[Program] = []

    def run(durability: str = "memory") -> Program:
        made.append(Program(str(tmp_path / "store"), durability))
        return made[-1]

    yield run
    for one in made:
        one.process.kill()
        one.process.communicate()


def gone_within(seconds: float, living: Callable[[], list[Any]]) -> bool:
    """Whether what `living` finds is nothing in time."""
    until = time.monotonic() + seconds
    while living():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


# -- its end and the next start --------------------------------------------------------------


def test_a_killed_program_leaves_no_orphans(program: Callable[..., Program]) -> None:
    """B-87 (process): SIGKILL of the system's process: a second later nothing is left."""
    running = program()
    assert len(running.living()) == 3
    running.kill()
    assert gone_within(ORPHANS_LIVE, running.living)


def test_a_killed_program_leaves_no_stopped_orphans(program: Callable[..., Program]) -> None:
    """B-87 (process): not even one that was stopped by SIGSTOP, or is in a long handler."""
    running = program()
    for one in running.others:
        os.kill(one.pid, signal.SIGSTOP)
    running.kill()
    assert gone_within(ORPHANS_LIVE, running.living)


@pytest.mark.parametrize("durability", ["durable", "flush"])
def test_a_killed_program_goes_on_from_what_was_acknowledged(
    program: Callable[..., Program], make_bench: Any, tmp_path: Path, durability: str
) -> None:
    """B-83, S-25 (process): `create` calls the recovery function with `PROCESS_LOST` and the
    newest durable state, under the backend that is declared now. (Of saves that are written behind
    only the latest is sure to be written, S-24.)"""
    program(durability).kill()
    bench = make_bench(store=tmp_path / "store")
    for name in ("one", "two"):
        ref = bench.system.create(partial(Holder, "from the factory"), name=name)
        bench.system.start(ref).result(LIMIT)
        assert ref.ask(Get()) == 3
        (fault,) = FAULTS[name]
        assert (fault.kind, fault.snapshot, fault.suspect) == (FaultKind.PROCESS_LOST, 3, 0)
        assert durability == "flush" or fault.older_snapshots == (2, 1)
        assert do(ref, components.pid) != os.getpid()


def test_a_program_that_ended_in_order_goes_on(
    program: Callable[..., Program], make_bench: Any, tmp_path: Path
) -> None:
    """B-83, S-26 (process): after leaving `with`, the same function with `SHUTDOWN`."""
    running = program()
    running.leave()
    assert running.process.returncode == 0
    assert gone_within(ORPHANS_LIVE, running.living)
    bench = make_bench(store=tmp_path / "store")
    refs = bench.system.recover()
    assert sorted(ref.path for ref in refs) == ["one", "two"]
    for ref in refs:
        bench.until(lambda ref=ref: ref.state is State.ACTIVE)
        assert ref.ask(Get()) == 3
        assert [fault.kind for fault in FAULTS[ref.path]] == [FaultKind.SHUTDOWN]


@pytest.mark.parametrize("end", [Do(components.fail), Do(components.segfault)])
def test_a_fault_then_a_loss(make_bench: Any, tmp_path: Path, end: Do) -> None:
    """S-24 (process): what the child saved reached the store though its process crashed; the
    next system, after an orderly end, has it."""
    name = new_name()
    first = make_bench(store=tmp_path / "store")
    ref = first.started(1, recovery=from_snapshot, name=name)
    ref.tell(Do(components.save, (2,)))
    ref.tell(end)
    first.event_of(events.ComponentRecovered, ref)
    do(ref, components.save, 3)
    first.system.shutdown()
    second = make_bench(store=tmp_path / "store")
    ref = second.system.create(Holder, name=name, backend="thread")
    second.system.start(ref).result(LIMIT)
    assert ref.ask(Get()) == 3
    fault = second.fault(ref, 2)
    assert (fault.kind, fault.snapshot) == (FaultKind.SHUTDOWN, 3)


def test_a_killed_component_is_retired(make_bench: Any, tmp_path: Path) -> None:
    """S-26 (process): a kill by the user retires the snapshot: the next start is a first one."""
    name = new_name()
    first = make_bench(store=tmp_path / "store")
    ref = first.started(1, recovery=from_snapshot, name=name)
    first.system.kill(ref).result(LIMIT)
    first.system.shutdown()
    second = make_bench(store=tmp_path / "store")
    assert second.started("anew", name=name).ask(Get()) == "anew"
    assert name not in FAULTS


def test_a_durable_save_without_a_store_is_refused(bench: ProcessBench) -> None:
    """S-24 (process): in the child, as it would be here."""
    ref = bench.started(1, recovery=from_snapshot)
    with pytest.raises(ValueError, match="cannot save durably"):
        do(ref, save_durably, 2)


class RefusingStore(MemoryStore):
    """A store on a disk that may be full."""

    refuses = False

    def save(self, *arguments: Any, **options: Any) -> Any:
        if self.refuses:
            raise StoreError("the disk is full", errno=28, phase="write")
        return super().save(*arguments, **options)


def test_a_failed_durable_save_is_told(make_bench: Any) -> None:
    """S-24 (process): a disk that refuses: `StoreError` to whoever saves, in the child; it
    counts all the same, and a later one works."""
    store = RefusingStore()
    bench = make_bench(store=store)
    ref = bench.started(1, recovery=from_snapshot)
    bench.system.flush()
    store.refuses = True
    assert do(ref, _error_of_save, 2) == ("StoreError", 28)
    store.refuses = False
    assert do(ref, _error_of_save, 3) == ("none", None)
    ref.tell(Do(components.segfault))
    assert bench.fault(ref).snapshot == 3


def _error_of_save(component: Holder, state: int) -> tuple[str, int | None]:
    try:
        save_durably(component, state)
    except StoreError as error:
        return type(error).__name__, error.errno
    return "none", None


# -- nothing is left -------------------------------------------------------------------------


def _descriptors() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:  # the listing's own
            continue
    return found


def _shared() -> set[str]:
    """The names of kompyct's shared memory but those of a living process that is not of ours: it
    may run other tests beside these."""
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}

    def is_ours(name: str) -> bool:
        maker = re.match(r"kompyct_(\d+)_", name)
        if maker is None:
            return False
        return int(maker[1]) in ours or not psutil.pid_exists(int(maker[1]))

    return {name for name in os.listdir("/dev/shm") if is_ours(name)}


def test_a_system_leaves_nothing() -> None:
    """RELIABILITY: after crashes, kills and a shutdown there is no child, zombie, descriptor,
    thread or shared memory that was not there before."""
    psutil.Process().children(recursive=True)
    before = (
        {child.pid for child in psutil.Process().children(recursive=True)},
        _descriptors(),
        set(threading.enumerate()),
        _shared(),
    )
    bench = ProcessBench()
    ends = [Do(components.segfault), Do(components.fail), Do(components.leave, (0,))]
    for index in range(9):
        ref = bench.started(1, recovery=from_snapshot, standby=index % 2 == 0)
        do(ref, components.save, b"x" * 100_000)
        ref.tell(ends[index % 3])
        bench.event_of(events.ComponentRecovered, ref)
        do(ref, components.pid)
        if index % 3 == 0:
            bench.system.kill(ref).result(LIMIT)
    bench.system.shutdown()
    assert gone_within(
        1.0, lambda: [*{c.pid for c in psutil.Process().children(recursive=True)} - before[0]]
    )
    assert gone_within(1.0, lambda: [*_descriptors() - before[1]])
    assert gone_within(
        1.0, lambda: [one for one in {*threading.enumerate()} - before[2] if one.is_alive()]
    )
    assert _shared() <= before[3]


def test_kills_of_children_leave_nothing_behind_each(bench: ProcessBench) -> None:
    """RELIABILITY: 0 descriptors gained, over 30 kills and recoveries of one component; counted
    when the child for the next one is ready, which has some."""
    ref = bench.started(1, recovery=from_snapshot, budget=_many())
    counts = []
    for count in range(1, 31):
        ref.tell(Do(components.die, (signal.SIGKILL,)))
        bench.event_of(events.ComponentRecovered, ref, count)
        do(ref, components.pid)
        spare_of(bench)
        counts.append(len(_descriptors()))
    bench.until(lambda: len(_descriptors()) <= min(counts[:5]))


def _many() -> Any:
    from kompyct import RestartLimit

    return RestartLimit(1000, 1.0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
def test_killing_a_child_during_the_shutdown_does_not_hang_it(
    make_bench: Any, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B-88 (process): whichever child dies, or stops, while the system ends."""
    monkeypatch.setattr(remote, "PATIENCE", 0.2)  # what SIGSTOP costs is tested elsewhere
    bench = make_bench()
    refs = [bench.started(index, recovery=from_snapshot) for index in range(6)]
    pids = [do(ref, components.pid) for ref in refs]
    victims = pids[:1] if number == signal.SIGSTOP else pids[::2]
    ending = threading.Thread(target=bench.system.shutdown)
    ending.start()
    for pid in victims:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    ending.join(2 * LIMIT)
    assert not ending.is_alive()
    for pid in pids:
        assert not os.path.exists(f"/proc/{pid}")


def test_many_kills_while_many_are_created(make_bench: Any) -> None:
    """RELIABILITY, races: `kill` during start, in threads; each future is done, nothing stays."""
    bench = make_bench()

    def make_and_kill() -> None:
        for _ in range(5):
            ref = bench.system.create(Holder)
            start = bench.system.start(ref)
            bench.system.kill(ref).result(LIMIT)
            start.exception(LIMIT)

    threads = [threading.Thread(target=make_and_kill) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * LIMIT)
        assert not thread.is_alive()
    assert bench.system.tree().children == ()


def test_named_shared_memory_serves_as_well(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 4: where there is no memfd; snapshots survive a crash, and no name is left."""
    from kompyct.processes import child

    before = _shared()
    init = child.Child.__init__
    monkeypatch.setattr(child.Child, "__init__", partial_init(init))
    bench = make_bench()
    ref = bench.started(1, recovery=from_snapshot)
    assert _shared() - before
    for count, size in ((1, 10), (2, 1_000_000), (3, 20)):
        do(ref, components.save, b"x" * size)
        ref.tell(Do(components.segfault))
        bench.event_of(events.ComponentRecovered, ref, count)
        assert ref.ask(Get()) == b"x" * size
    bench.system.shutdown()
    assert _shared() <= before


def partial_init(init: Callable[..., None]) -> Callable[..., None]:
    """`init` with named shared memory."""

    def made(self: Any, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **{**options, "named": True})

    return made


# -- programs that make it hard --------------------------------------------------------------


def run_script(
    tmp_path: Path, text: str, *, limit: float = 20.0, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program; it must end within `limit` seconds."""
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = {"capture_output": True, "text": True, "env": environment, **options}
    return subprocess.run([sys.executable, str(path)], timeout=limit, **options)


BODY = """
    import os, signal, sys, threading, time
    from functools import partial
    from kompyct import Component, ComponentSystem, Request

    class Get(Request):
        pass

    class Counter(Component):
        def __init__(self, count=0):
            self.count = count
            self.set_recovery_function(recover, snapshot=count)
        def on_receive(self, message):
            if isinstance(message, Get):
                self.count += 1
                self.set_recovery_function(recover, snapshot=self.count)
                return self.count
            os.kill(os.getpid(), message)

    def recover(fault):
        return fault.restart(partial(Counter, fault.snapshot))

    def run():
        with ComponentSystem(backend="process") as system:
            ref = system.create(Counter, start=True)
            assert ref.ask(Get()) == 1
            ref.tell(int(signal.SIGKILL))
            until = time.monotonic() + 10
            while ref.incarnation < 2:
                assert time.monotonic() < until
                time.sleep(0.005)
            assert ref.ask(Get()) == 2
        print("fine")
"""


def test_a_program_of_its_own_classes(tmp_path: Path) -> None:
    """Classes of the main module are found in the child, by the name they have there."""
    done = run_script(tmp_path, BODY + "\n    if __name__ == '__main__':\n        run()\n")
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


def test_a_program_without_a_guard_gets_a_clear_error(tmp_path: Path) -> None:
    """Issue 4: no `__main__` guard: an error that says so, within seconds, and no fork bomb."""
    marked = {**os.environ, "PYTHONPATH": str(ROOT), "OF_TEST": str(tmp_path)}
    begun = time.monotonic()
    done = run_script(tmp_path, BODY + "\n    run()\n", env=marked)
    assert time.monotonic() - begun < 10.0
    assert done.returncode == 1
    assert "if __name__ == '__main__'" in done.stderr
    assert "fine" not in done.stdout
    found = [one.info["environ"] or {} for one in psutil.process_iter(["environ"])]
    assert sum(one.get("OF_TEST") == str(tmp_path) for one in found) < 20


LISTENER = """
    import multiprocessing
    multiprocessing.set_start_method("{method}")
    try:
        {trouble}
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[-1])
        print(*getattr(error, "__notes__", ["nothing"]), sep="\\n")
        raise
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_the_error_itself_says_that_the_guard_is_missing(tmp_path: Path, method: str) -> None:
    """Issue 4: no `__main__` guard: `create` raises `ProcessStartError`, whose own text names the
    guard and the way out, however children are made: a program may show nothing but that."""
    trouble = LISTENER.format(method=method, trouble="run()")
    done = run_script(tmp_path, BODY + trouble)
    first = done.stdout.splitlines()[0]
    assert first.startswith("ProcessStartError "), done.stdout
    assert first.endswith("put that under `if __name__ == '__main__':`"), done.stdout
    assert done.returncode == 1
    assert "put that under" in done.stderr  # and a program that catches nothing ends with it


def test_a_main_module_that_raises_in_a_spawned_child_is_told_with_its_line(
    tmp_path: Path,
) -> None:
    """Given a main module that raises where it is imported, then the error names what was raised,
    and the note which line of the program it was."""
    done = run_script(
        tmp_path,
        BODY
        + """
    if __name__ != "__main__":
        raise KeyError("missing in the child")
    else:"""
        + textwrap.indent(LISTENER.format(method="spawn", trouble="run()"), "    "),
    )
    first, *notes = done.stdout.splitlines()
    assert first == (
        "ProcessStartError a child process could not load what it needs: "
        "KeyError: 'missing in the child'"
    ), done.stderr
    assert any("script.py" in line and ", line " in line for line in notes), notes


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_every_start_method_works(tmp_path: Path, method: str) -> None:
    """Issue 4: start methods spawn, forkserver and fork."""
    done = run_script(
        tmp_path,
        BODY
        + f"""
    if __name__ == '__main__':
        import multiprocessing
        multiprocessing.set_start_method("{method}")
        run()
    """,
    )
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


TROUBLES = {
    "a SIGCHLD handler that reaps": """
        def reap(*_):
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
        signal.signal(signal.SIGCHLD, reap)
        run()
    """,
    "SIGCHLD ignored": """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        run()
    """,
    "os.wait in a thread": """
        def wait():
            while True:
                try:
                    os.wait()
                except ChildProcessError:
                    pass
        threading.Thread(target=wait, daemon=True).start()
        run()
    """,
    "no current directory": """
        import tempfile
        folder = tempfile.mkdtemp()
        os.chdir(folder)
        os.rmdir(folder)
        run()
    """,
    "no standard input": """
        os.close(0)
        run()
    """,
    "streams that are None": """
        sys.stdin = sys.stderr = None
        run()
    """,
    "few descriptors": """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        run()
    """,
    "many threads": """
        for _ in range(50):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        run()
    """,
    "signals blocked": """
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
        run()
    """,
    "not the main thread": """
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    """,
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_program_in_trouble_survives(tmp_path: Path, trouble: str, method: str) -> None:
    """Issue 4, "Bad input": each is simply survived: a crash is recovered, and it ends."""
    text = textwrap.dedent(BODY) + "\nif __name__ == '__main__':\n"
    text += f"    import multiprocessing; multiprocessing.set_start_method('{method}')\n"
    text += textwrap.indent(textwrap.dedent(TROUBLES[trouble]), "    ")
    done = run_script(tmp_path, text)
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


def test_a_program_without_any_streams_works(tmp_path: Path) -> None:
    """Issue 4, "Bad input": descriptors 0, 1 and 2 closed from the beginning."""
    text = textwrap.dedent(BODY) + textwrap.dedent(
        f"""
        if __name__ == '__main__':
            sys.stdout = open({str(tmp_path / "said")!r}, "w")
            run()
        """
    )
    script = tmp_path / "script.py"
    script.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} {script} <&- >&- 2>&-"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=20,
    )
    assert done.returncode == 0
    assert (tmp_path / "said").read_text() == "fine\n"


def test_a_child_that_dies_at_import_says_why(tmp_path: Path) -> None:
    """Issue 4, "Bad input": the main module cannot be imported by a child: the error holds what
    the child said, within seconds."""
    done = run_script(
        tmp_path,
        """
        from kompyct import Component, ComponentSystem
        if __name__ != "__main__":
            raise RuntimeError("not in a child")
        with ComponentSystem(backend="process") as system:
            try:
                system.create(Component)
            except Exception as error:
                print(type(error).__name__, "not in a child" in str(error))
        """,
    )
    assert (done.stdout, done.returncode) == ("ProcessStartError True\n", 0), done.stderr


def test_a_program_that_starts_threads_at_import_works(tmp_path: Path) -> None:
    """S-32: a main module that has started threads cannot be forked from; it is spawned."""
    start = "\n    threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    done = run_script(tmp_path, BODY + start + "\n    if __name__ == '__main__':\n        run()\n")
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


def test_a_program_that_is_typed_in_is_told_what_does_not_work() -> None:
    """There is no main module to import: factories go by value, and so do components; messages
    of classes that were typed in cannot: they are refused, and what others know works."""
    text = textwrap.dedent(BODY) + textwrap.dedent(
        """
        class Simple(Component):
            def on_receive(self, message):
                return message + 1

        with ComponentSystem(backend="process") as system:
            assert system.create(Simple, start=True).ask(1) == 2
            try:
                system.create(Counter, start=True).ask(Get())
            except Exception as error:
                print(type(error).__name__)
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for arguments, given in ((["-c", text], None), (["-"], text)):
        done = subprocess.run(
            [sys.executable, *arguments],
            input=given,
            capture_output=True,
            text=True,
            env=environment,
            timeout=20,
        )
        assert (done.stdout, done.returncode) == ("UnpicklableError\n", 0), done.stderr


def test_a_system_left_open_at_exit_ends_its_children(tmp_path: Path) -> None:
    """S-35 (process): a program that forgets to shut down ends, bounded, and leaves nothing."""
    done = run_script(
        tmp_path,
        BODY
        + """
    if __name__ == '__main__':
        system = ComponentSystem(backend="process")
        ref = system.create(Counter, start=True)
        assert ref.ask(Get()) == 1
        print(ref._cell.component.child.pid, flush=True)
    """,
    )
    assert done.returncode == 0, done.stderr
    child = int(done.stdout)
    assert gone_within(ORPHANS_LIVE, lambda: [1] if os.path.exists(f"/proc/{child}") else [])


def test_ctrl_c_ends_a_program_in_order(tmp_path: Path) -> None:
    """S-35 (process): SIGINT to the whole group, as a terminal sends it: the children ignore it,
    and `on_kill` runs as the program leaves `with`."""
    text = textwrap.dedent(BODY) + textwrap.dedent(
        """
        class Farewell(Counter):
            def on_kill(self):
                os.write(1, b"farewell\\n")

        if __name__ == '__main__':
            try:
                with ComponentSystem(backend="process") as system:
                    system.create(Farewell, start=True).ask(Get())
                    print("ready", flush=True)
                    threading.Event().wait(20)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        """
    )
    script = tmp_path / "script.py"
    script.write_text(text, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    said, complaint = process.communicate(timeout=20)
    assert said.splitlines() == ["farewell", "interrupted"]
    assert complaint == ""
    assert process.returncode == 0


def test_a_program_that_forks_leaves_no_orphans(tmp_path: Path) -> None:
    """B-87 (process): a forked copy of the program holds its descriptors, and ends none of its
    children when it ends; killed, the program takes its children along all the same."""
    text = textwrap.dedent(BODY) + textwrap.dedent(
        """
        if __name__ == '__main__':
            system = ComponentSystem(backend="process")
            ref = system.create(Counter, start=True)
            assert ref.ask(Get()) == 1
            if os.fork() == 0:
                sys.exit(0)
            os.wait()
            if os.fork() == 0:
                time.sleep(5)
                os._exit(0)
            assert ref.ask(Get()) == 2
            print(ref._cell.component.child.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    script = tmp_path / "script.py"
    script.write_text(text, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    child = identity_of(int(process.stdout.readline()))
    assert process.wait(LIMIT) == -signal.SIGKILL
    process.stdout.close()
    assert gone_within(
        ORPHANS_LIVE, lambda: [child] if child is not None and child.is_alive() else []
    )


def test_no_descriptors_left_is_told_and_survived(tmp_path: Path) -> None:
    """RELIABILITY, "out of handles": components are made until that fails: with an error that
    says so; those there are go on, and are recovered once there is room."""
    done = run_script(
        tmp_path,
        BODY
        + """
    if __name__ == '__main__':
        import resource
        with ComponentSystem(backend="process") as system:
            refs = [system.create(Counter, start=True)]
            assert refs[0].ask(Get()) == 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (40, 200))
            try:
                while len(refs) < 100:
                    refs.append(system.create(Counter, start=True))
            except Exception as error:
                cause = error.__cause__ or error
                print(type(error).__name__, "Too many open files" in str(cause))
            for ref in refs[1:]:
                assert ref.ask(Get()) == 1
            system.kill(refs.pop()).result(5)
            system.kill(refs.pop()).result(5)
            refs[0].tell(int(signal.SIGKILL))
            until = time.monotonic() + 10
            while refs[0].incarnation < 2:
                assert time.monotonic() < until
                time.sleep(0.005)
            assert refs[0].ask(Get()) == 2
            assert system.create(Counter, start=True).ask(Get()) == 1
        print("fine")
    """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout in (
        "ComponentCreateError True\nfine\n",
        "ProcessStartError True\nfine\n",
    ), done.stdout + done.stderr


def test_two_systems_share_nothing() -> None:
    """Any number of systems in one process: the end of one leaves the other's children alone."""
    with ComponentSystem(backend="process") as one, ComponentSystem(backend="process") as other:
        first = one.create(partial(Holder, 1), start=True)
        second = other.create(partial(Holder, 2), start=True)
        assert first.ask(Get()) == 1
        one.shutdown()
        assert second.ask(Get()) == 2
