"""Does the original go on as if nothing had happened, whatever becomes of the copy?

Every program runs in processes of its own, and every fault is committed for real.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kompyct import fork
from kompyct.errors import ArgumentError, ArgumentTypeError
from tests.harness.fork_programs import lines, run

LINUX_NUMBERS = {"SEGV": 11, "KILL": 9, "ABRT": 6, "TERM": 15}


def test_the_copy_goes_on_and_then_the_original_from_the_same_line() -> None:
    """Issue 4: the result is true in the copy and false in the original, and what the copy has
    changed in memory the original does not see."""
    told = lines("""
        value = ["before"]
        here = process_snapshot()
        if here:
            value.append("changed")
            print(bool(here), here.in_copy, here.index, is_in_snapshot(), value)
            sys.exit(7)
        print(bool(here), here.in_copy, here.index, is_in_snapshot(), value, here.exit_code)
        """)
    assert told == [
        "True True 0 True ['before', 'changed']",
        "False False 0 False ['before'] 7",
    ]


@pytest.mark.parametrize("name", LINUX_NUMBERS)
def test_a_copy_that_is_killed_by_a_signal_is_survived(name: str) -> None:
    """Issue 4: SEGV, KILL, ABRT and TERM end the copy only, and the original is told which."""
    (told,) = lines(f"""
        here = snapshot()
        if here:
            os.kill(os.getpid(), signal.SIG{name})
            time.sleep(60)
        print(here.signal, int(here.signal), here.exit_code, here.reverted, str(here)[-20:])
        """)
    number = LINUX_NUMBERS[name]
    ending = f"was killed by SIG{name}"[-20:]
    assert told == f"{number} {number} None False {ending}"


def test_a_native_crash_is_survived() -> None:
    """A read from address 0, through ctypes, is a segmentation fault; the original goes on."""
    (told,) = lines("""
        here = snapshot()
        if here:
            ctypes.string_at(0)
        print(here.signal.name)
        """)
    assert told == "SIGSEGV"


def test_a_real_time_signal_without_a_name_is_told_by_its_number() -> None:
    """Linux has signals to 64, and `signal.Signals` names the first and the last real-time one."""
    (told,) = lines("""
        here = snapshot()
        if here:
            os.kill(os.getpid(), 40)
            time.sleep(60)
        print(here.signal, here)
        """)
    assert re.fullmatch(r"40 process snapshot 0: the copy \(process \d+\) was killed by 40", told)


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("os._exit(5)", 5),
        ("sys.exit()", 0),
        ("sys.exit(3)", 3),
        ("raise SystemExit(4)", 4),
        ("pass", 0),
    ],
)
def test_a_copy_that_exits_is_told_by_its_exit_code(ending: str, code: int) -> None:
    """However it exits, and also if its program just ends, the copy does not end the original."""
    assert lines(f"""
        def program():
            here = snapshot()
            if not here:
                print("original", here.exit_code, here.signal, here.reverted)
                return
            {ending}
        program()
        """) == [f"original {code} None False"]


def test_an_exception_that_leaves_the_copy_is_printed_once_and_ends_the_copy_only() -> None:
    """As for any program, the traceback is on standard error and the exit code is 1."""
    done = run("""
        here = snapshot()
        if here:
            raise RuntimeError("only in the copy")
        print(here.exit_code)
        """)
    assert done.stdout == "1\n"
    assert done.stderr.count("RuntimeError: only in the copy") == 1


@pytest.mark.parametrize("target", [0, 1, 2])
def test_nested_copies_revert_to_any_snapshot(target: int) -> None:
    """Issue 4: the originals from `target` on go on, and those further in are gone with the copy.

    By hand: three snapshots, and the innermost reverts to `target`. There it goes on with the
    snapshots before `target` still open, which it then ends one by one, by its last line.
    """
    told = lines(f"""
        trail = []
        for index in range(3):
            trail.append(index)
            here = snapshot()
            if not here:
                break
        if len(trail) == 3 and here:
            revert_to_snapshot({target})
        print(trail, here.index, here.reverted, here.exit_code)
        """)
    expected = [f"{list(range(target + 1))} {target} True 0"]
    # The copies around it then come to the end of the program, one after the other.
    expected += [f"{list(range(index + 1))} {index} False 0" for index in reversed(range(target))]
    assert told == expected


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("-1", ["to 1 True", "to 0 False"]),
        ("", ["to 1 True", "to 0 False"]),
        ("-2", ["to 0 True"]),
    ],
)
def test_a_negative_index_counts_from_the_innermost(index: str, expected: list[str]) -> None:
    """As in a list: -1 is the innermost snapshot, and without an argument it is that too."""
    told = lines(f"""
        first = snapshot()
        if first:
            second = snapshot()
            if second:
                revert_to_snapshot({index})
            print("to", second.index, second.reverted)
            sys.exit()
        print("to", first.index, first.reverted)
        """)
    assert told == expected


def test_an_index_out_of_range_is_refused_with_the_range() -> None:
    """Nothing has happened, so the copy goes on: it can still revert to what there is."""
    told = lines("""
        here = snapshot()
        if here:
            snapshot() or os._exit(1)
            for index in (2, -3):
                try:
                    revert_to_snapshot(index)
                except ArgumentError as error:
                    print(error)
            revert_to_snapshot(0)
        print(here.reverted)
        """)
    assert told == [
        "there is no process snapshot 2; give 0 to 1, or -1 for the innermost",
        "there is no process snapshot -3; give 0 to 1, or -1 for the innermost",
        "True",
    ]


def test_reverting_outside_a_snapshot_is_refused() -> None:
    """This very process is in no snapshot."""
    with pytest.raises(ArgumentError, match=r"no process snapshot.*process_snapshot\(\)"):
        fork.revert_to_snapshot(0)


@pytest.mark.parametrize("index", ["0", None, 1.0, True])
def test_an_index_that_is_no_integer_is_refused(index: object) -> None:
    """A text, a float or a truth value is a mistake."""
    with pytest.raises(ArgumentTypeError, match="is no integer"):
        fork.revert_to_snapshot(index)  # type: ignore[arg-type]


def test_a_child_of_the_copy_cannot_revert() -> None:
    """Its end would not be that of the copy; it is told which process can."""
    (told,) = lines("""
        here = snapshot()
        if here:
            child = os.fork()
            if child == 0:
                try:
                    revert_to_snapshot(0)
                except ArgumentError as error:
                    os._exit(9 if f"in process {here.pid}" in str(error) else 8)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(here.exit_code, here.reverted)
        """)
    assert told == "9 False"


def test_the_list_says_where_each_snapshot_was_taken(tmp_path: Path) -> None:
    """Issue 4: file, line and function, from the outside in, as many frames as asked for."""
    script = tmp_path / "taking.py"
    script.write_text(
        "from kompyct.fork import format_snapshot_list, print_snapshot_list, snapshot\n"
        "def outer():\n"
        "    return inner()\n"
        "def inner():\n"
        "    return snapshot()\n"
        "assert format_snapshot_list() == ''\n"
        "if outer():\n"
        "    snapshot('given\\nby hand') or exit()\n"
        "    print_snapshot_list(2)\n"
        "    print(format_snapshot_list(context_frames=1).count('File'))\n"
    )
    told = lines(f"import runpy; runpy.run_path({str(script)!r})")
    assert [re.sub(r"copy \d+", "copy N", line) for line in told] == [
        "process snapshot 0, copy N, taken at",
        f'  File "{script}", line 3, in outer',
        "    return inner()",
        f'  File "{script}", line 5, in inner',
        "    return snapshot()",
        "process snapshot 1, copy N, taken at",
        "  given",
        "  by hand",
        "1",
    ]


def test_a_context_that_is_no_text_is_refused_before_anything_is_copied() -> None:
    """Lines of text are what the list can show."""
    with pytest.raises(ArgumentTypeError, match="context holds 3"):
        fork.process_snapshot([3])  # type: ignore[list-item]


def test_a_list_without_frames_is_refused() -> None:
    """At least the place itself is shown."""
    with pytest.raises(ArgumentError, match="give 1 or more"):
        fork.format_snapshot_list(0)


def test_output_is_not_doubled() -> None:
    """Issue 4: what Python and C had buffered before is written once, and what the copy writes
    also, however the copy ends."""
    endings = ("sys.exit()", "os._exit(0)", "revert_to_snapshot()", "ctypes.string_at(0)")
    for ending in endings:
        done = run(f"""
            C = ctypes.CDLL(None)
            sys.stdout.write("python ")
            C.printf(b"native ")
            here = snapshot()
            if here:
                print("copy", end=" ", flush=True)
                {ending}
            sys.stdout.write("original ")
            sys.stdout.flush()
            C.printf(b"end")
            """)
        assert done.stdout == "python native copy original end", ending


def test_what_a_copy_has_printed_is_not_lost_when_it_reverts() -> None:
    """Reverting flushes, though it ends the copy at once; C code's output too."""
    assert lines("""
        here = snapshot()
        if here:
            ctypes.CDLL(None).printf(b"native")
            sys.stdout.write("python\\n")
            revert_to_snapshot()
        """) == ["python", "native"]


def test_there_are_no_zombies_or_descriptors_after_a_thousand_reverts() -> None:
    """Issue 4: every second copy takes a snapshot of its own, and both end at once."""
    assert lines("""
        before = len(os.listdir("/proc/self/fd"))
        for number in range(500):
            here = snapshot()
            if here:
                if snapshot():
                    revert_to_snapshot(number % 2)
                revert_to_snapshot(0)
            assert here.reverted
        print(len(os.listdir("/proc/self/fd")) - before)
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            print("no child")
        """) == ["0", "no child"]


@pytest.mark.parametrize("depth", [1, 3])
def test_copies_end_within_a_second_of_their_original(depth: int) -> None:
    """When the root is killed, every copy ends too; all of them held the pipe that is read here.

    The copies ignore SIGTERM and SIGHUP, so nothing gentler would do.
    """
    (told,) = lines(f"""
        reading, writing = os.pipe()
        root = os.fork()
        if root == 0:
            os.close(reading)
            signal.alarm(0)
            for _ in range({depth}):
                if not snapshot():
                    os._exit(1)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            os.write(writing, b"r")
            time.sleep(60)
        os.close(writing)
        assert os.read(reading, 1) == b"r"
        os.kill(root, signal.SIGKILL)
        began = time.monotonic()
        assert os.read(reading, 1) == b""
        print(time.monotonic() - began)
        os.waitpid(root, 0)
        """)
    assert float(told) < 1.0


def test_a_copy_whose_original_died_during_the_fork_ends_at_once() -> None:
    """Before it could ask to be killed with it: it looks whose child it is."""
    (told,) = lines("""
        reading, writing = os.pipe()
        fork = os.fork
        def fork_and_die():
            original = os.getpid()
            pid = fork()
            if pid == 0:
                os.kill(original, signal.SIGKILL)
                while os.getppid() == original:
                    time.sleep(0.001)
            return pid
        root = os.fork()
        if root == 0:
            os.close(reading)
            signal.alarm(0)
            os.fork = fork_and_die
            snapshot()
            os.write(writing, b"still running")
            time.sleep(60)
        os.close(writing)
        os.waitpid(root, 0)
        print(os.read(reading, 20))
        """)
    assert told == "b''"


def test_a_thread_that_is_about_to_be_gone_is_waited_for() -> None:
    """As one that was joined just now, whose system thread may live a moment longer."""
    (told,) = lines("""
        pthread = ctypes.CDLL(None)
        thread = ctypes.c_ulong()
        nap = ctypes.cast(pthread.usleep, ctypes.c_void_p)
        assert pthread.pthread_create(ctypes.byref(thread), None, nap, ctypes.c_void_p(20000)) == 0
        assert len(os.listdir("/proc/self/task")) == 2
        here = snapshot()
        if here:
            os._exit(0)
        print(here.exit_code)
        """)
    assert told == "0"


def test_a_waiting_copy_that_is_killed_takes_those_inside_along() -> None:
    """The root is told that its copy was killed, and the copy inside holds no pipe any more."""
    assert lines("""
        reading, writing = os.pipe()
        here = snapshot()
        if here:
            if snapshot():
                signal.alarm(0)
                os.kill(here.pid, signal.SIGKILL)
                time.sleep(60)
            os._exit(1)
        os.close(writing)
        print(here.signal.name, os.read(reading, 1))
        """) == ["SIGKILL b''"]


def test_a_fork_that_fails_leaves_everything_as_it_was() -> None:
    """Given no more processes, then the system's error is raised and no signal is held back."""
    assert lines("""
        def no_fork():
            raise BlockingIOError(11, "no more processes")
        fork, os.fork = os.fork, no_fork
        try:
            snapshot()
        except OSError as error:
            print(error.errno, is_in_snapshot(), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        os.fork = fork
        if snapshot():
            os._exit(0)
        print("works again")
        """) == ["11 False set()", "works again"]


@pytest.mark.parametrize("missing", ["del os.fork", "del signal.sigtimedwait"])
def test_where_there_is_no_fork_it_is_said(missing: str) -> None:
    """Issue 4: the error names what is missing, and what to do instead."""
    (told,) = lines(f"""
        {missing}
        try:
            snapshot()
        except ForkMissingError as error:
            print(isinstance(error, NotImplementedError), error)
        """)
    assert told.startswith("True process snapshots need os.fork and signal.sigtimedwait")
    assert "backend='process'" in told


def test_a_threaded_program_is_refused_with_the_names_of_the_threads() -> None:
    """RELIABILITY 1: unless it is forced; then the copy is made and can be reverted."""
    told = lines("""
        ended = threading.Event()
        threads = [threading.Thread(target=ended.wait, name=f"busy-{n}") for n in range(2)]
        for thread in threads:
            thread.start()
        try:
            process_snapshot()
        except ForkUnsafeError as error:
            print(error)
        here = process_snapshot(force=True)
        if here:
            print("forced", flush=True)
            revert_to_snapshot(here.index)
        print(here.reverted, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        ended.set()
        for thread in threads:
            thread.join()
        here = process_snapshot()
        if here:
            os._exit(3)
        print("unforced", here.exit_code)
        """)
    assert told[0].startswith("the process has other threads: 'busy-0', 'busy-1'; ")
    assert "force=True" in told[0]
    assert told[1:] == ["forced", "True set()", "unforced 3"]


def test_a_thread_that_python_does_not_know_is_refused_too() -> None:
    """Libraries have threads, with locks of their own; here one that C code runs."""
    (told,) = lines("""
        pthread = ctypes.CDLL(None)
        thread = ctypes.c_ulong()
        nap = ctypes.cast(pthread.pause, ctypes.c_void_p)
        assert pthread.pthread_create(ctypes.byref(thread), None, nap, None) == 0
        try:
            process_snapshot()
        except ForkUnsafeError as error:
            print(error)
        sys.stdout.flush()
        os._exit(0)
        """)
    assert re.search(r"other threads: '[^']+' \(native, \d+\); ", told)


def test_a_thread_that_is_not_the_main_one_is_refused_even_if_forced() -> None:
    """Signals go to the main thread, so it could not hold them back."""
    (told,) = lines("""
        def attempt():
            try:
                process_snapshot(force=True)
            except ForkUnsafeError as error:
                print(error)
        thread = threading.Thread(target=attempt, name="side")
        thread.start()
        thread.join()
        """)
    assert told.startswith("thread 'side' cannot take a process snapshot")


def test_a_running_event_loop_is_refused_unless_forced() -> None:
    """Its selector would be shared, so the copy would change what the original waits for."""
    told = lines("""
        import asyncio
        async def program():
            try:
                snapshot()
            except ForkUnsafeError as error:
                print(error)
            here = snapshot(force=True)
            if here:
                revert_to_snapshot()
            print(here.reverted)
        asyncio.run(program())
        if snapshot():
            os._exit(0)
        print("outside")
        """)
    assert told[0].startswith("an event loop is running in this thread")
    assert told[1:] == ["True", "outside"]


def test_missing_standard_streams_are_survived() -> None:
    """Closed descriptors, and None for the streams, as in a program without a console."""
    done = run(
        """
        told = Path(sys.argv[0] or ".").resolve()
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        sys.stdin = sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None
        here = snapshot()
        if here:
            print_snapshot_list()
            revert_to_snapshot()
        os._exit(40 + here.reverted)
        """,
        exit_code=41,
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_a_deleted_working_folder_is_survived(tmp_path: Path) -> None:
    """The list can still be shown, without the lines of files that are not found."""
    told = lines(f"""
        os.mkdir({str(tmp_path / "gone")!r})
        os.chdir({str(tmp_path / "gone")!r})
        os.rmdir({str(tmp_path / "gone")!r})
        here = snapshot()
        if here:
            print_snapshot_list()
            revert_to_snapshot()
        print(here.reverted)
        """)
    assert told[0].startswith("process snapshot 0")
    assert told[-1] == "True"


def test_the_ancestors_names_are_there() -> None:
    """S-36: `snapshot` is the alias; the others have their names."""
    names = (
        "snapshot revert_to_snapshot format_snapshot_list print_snapshot_list is_in_snapshot "
        "not_in_snapshot set_trace process_snapshot root_only"
    )
    for name in names.split():
        assert callable(getattr(fork, name))
        assert name in fork.__all__
    assert fork.snapshot is fork.process_snapshot
