"""Do signals reach the copy, and find the original as it was?"""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.harness.fork_programs import LIMIT, environment, lines, program


def test_an_interrupt_sent_to_the_original_alone_reaches_the_copy() -> None:
    """Issue 4: as a launcher sends it; the original is not interrupted and goes on afterwards."""
    body = """
        here = snapshot()
        if here:
            try:
                print("ready", flush=True)
                rest()
            except KeyboardInterrupt:
                print("interrupted", flush=True)
                os._exit(4)
        print(here.exit_code, signal.sigpending())
        """
    with subprocess.Popen(
        program(body),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=LIMIT)
    assert told == "interrupted\n4 set()\n"
    assert process.returncode == 0


@pytest.mark.parametrize("name", ["SIGINT", "SIGQUIT"])
def test_a_copy_that_does_not_handle_an_interrupt_ends_of_it(name: str) -> None:
    """As any program does; the original is told, and its own handlers and mask are as before."""
    told = lines(f"""
        sys.stderr = open(os.devnull, "w")
        os.dup2(sys.stderr.fileno(), 2)
        signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD, signal.SIGALRM)
        before = [signal.getsignal(number) for number in signals]
        here = snapshot()
        if here:
            os.kill(os.getppid(), signal.{name})
            rest()
        print(here.signal.name)
        print(before == [signal.getsignal(number) for number in signals])
        print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.sigpending())
        """)
    assert told == [name, "True", "set() set()"]


def test_the_copy_has_the_mask_and_the_handlers_of_the_original() -> None:
    """What was blocked before stays blocked, and nothing else is."""
    assert (
        lines("""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        for _ in range(2):
            here = snapshot()
            print([number.name for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
                  signal.getsignal(signal.SIGINT) is signal.default_int_handler)
            if here:
                sys.exit()
        """)
        == ["['SIGUSR1'] True"] * 4
    )


def test_a_handler_of_sigchld_that_reaps_every_child_does_not_take_the_copy_away() -> None:
    """Issue 4: it runs when the original goes on, for the other child, which ended meanwhile."""
    assert lines("""
        reaped = []
        def reap(number, frame):
            try:
                while True:
                    pid, _ = os.waitpid(-1, os.WNOHANG)
                    if not pid:
                        return
                    reaped.append(pid)
            except ChildProcessError:
                reaped.append("none left")
        signal.signal(signal.SIGCHLD, reap)
        reading, writing = os.pipe()
        other = os.fork()
        if other == 0:
            os.read(reading, 1)
            os._exit(0)
        here = snapshot()
        if here:
            os.write(writing, b"end")
            wait_for_zombie(other)
            os._exit(6)
        print(here.exit_code, reaped == [other, "none left"])
        """) == ["6 True"]


def test_a_handler_of_sigchld_is_not_called_for_the_copy() -> None:
    """The copy is not the user's child: a handler that waits for one would wait for ever."""
    assert lines("""
        calls = []
        signal.signal(signal.SIGCHLD, lambda number, frame: calls.append(os.wait()))
        other = subprocess.Popen(["sleep", "60"])
        here = snapshot()
        if here:
            os._exit(6)
        print(here.exit_code, calls)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        other.kill()
        print(other.wait())
        """) == ["6 []", "-9"]


def test_where_sigchld_is_ignored_the_end_of_the_copy_is_still_known() -> None:
    """The system would tell nobody. It is ignored again afterwards, in the copy at once, and what
    ended meanwhile leaves no zombie."""
    assert lines("""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.read(reading, 1)
            os._exit(0)
        here = snapshot()
        if here:
            os.write(writing, b"end")
            child = os.fork()
            if child == 0:
                os._exit(0)
            try:
                os.waitpid(child, 0)
            except ChildProcessError:
                os._exit(6)
        try:
            while True:
                os.waitpid(-1, 0)
                print("a zombie")
        except ChildProcessError:
            print(here.exit_code, signal.getsignal(signal.SIGCHLD).name)
        """) == ["6 SIG_IGN"]


def test_another_thread_that_waits_for_any_child_may_take_the_end_away() -> None:
    """Forced, with threads: the original goes on, and says that it does not know the cause."""
    (told,) = lines("""
        taken = threading.Event()
        def reap():
            while not taken.is_set():
                try:
                    os.wait()
                    taken.set()
                except ChildProcessError:
                    time.sleep(0.001)
        thread = threading.Thread(target=reap)
        thread.start()
        while True:
            here = snapshot(force=True)
            if here:
                os._exit(6)
            if here.exit_code is None:
                break
            assert here.exit_code == 6
        print(here)
        thread.join()
        """)
    assert told.endswith("ended, and something else in the original learnt how")


def test_what_came_at_the_very_end_of_the_copy_is_still_the_copys() -> None:
    """Given an interrupt and the end of the copy before the original has looked once, then neither
    the interrupt nor the SIGCHLD finds the original."""
    assert lines("""
        signal.signal(signal.SIGCHLD, lambda number, frame: print("a child"))
        waitpid = os.waitpid
        def late(pid, options):
            wait_for_zombie(pid)
            return waitpid(pid, options)
        os.waitpid = late
        here = snapshot()
        if here:
            os.kill(os.getppid(), signal.SIGINT)
            os._exit(6)
        print(here.exit_code)
        """) == ["6"]


def test_an_end_that_is_told_to_another_thread_only_is_noticed() -> None:
    """Forced, with threads: a SIGCHLD that comes while the original does not wait for it goes to
    any thread, where it is lost; here the copy ends between the look at it and the wait."""
    assert lines("""
        ended = threading.Event()
        thread = threading.Thread(target=ended.wait)
        thread.start()
        waitpid = os.waitpid
        def early(pid, options):
            told = waitpid(pid, options)
            if not told[0]:
                wait_for_zombie(pid)
            return told
        os.waitpid = early
        here = snapshot(force=True)
        if here:
            time.sleep(0.1)
            os._exit(6)
        print(here.exit_code)
        ended.set()
        """) == ["6"]


def test_an_exception_of_a_handler_at_any_moment_leaves_no_copy() -> None:
    """Signals whose handlers raise, in a storm: each is raised before the copy is made, or ends
    the copy; none is raised with the copy left behind."""
    (told,) = lines("""
        class Stopped(Exception):
            pass
        armed = False
        def stop(number, frame):
            global armed
            if armed:
                armed = False
                raise Stopped
        signal.signal(signal.SIGTERM, stop)
        original = os.getpid()
        storm = os.fork()
        if storm == 0:
            for number in range(1_000_000):
                if os.getppid() != original:
                    os._exit(0)
                os.kill(original, signal.SIGTERM)
                time.sleep(0.0001 * (number % 50))
        ends = time.monotonic() + 2.0
        stopped = taken = 0
        while time.monotonic() < ends:
            try:
                armed = True
                if snapshot():
                    time.sleep(0.0002 * (taken % 2))
                    os._exit(0)
                armed = False
                taken += 1
            except Stopped:
                if is_in_snapshot():
                    os._exit(0)
                stopped += 1
        os.kill(storm, signal.SIGKILL)
        os.waitpid(storm, 0)
        try:
            print("left", os.waitpid(-1, os.WNOHANG))
        except ChildProcessError:
            print(stopped > 20, taken > 0, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        """)
    assert told == "True True set()"


def test_an_alarm_of_the_original_rings_when_it_goes_on() -> None:
    """Timers are not the copy's, and no handler of the original runs while it waits."""
    assert lines(
        """
        rung = []
        signal.signal(signal.SIGALRM, lambda number, frame: rung.append(is_in_snapshot()))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        here = snapshot()
        if here:
            while signal.SIGALRM not in proc_pending(os.getppid()):
                time.sleep(0.001)
            os._exit(len(rung))
        print(here.exit_code, rung)
        """.replace(
            "rung = []",
            """rung = []
        def proc_pending(pid):
            status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
            bits = int(status["ShdPnd"], 16) | int(status["SigPnd"], 16)
            return {number for number in range(1, 65) if bits >> (number - 1) & 1}""",
        )
    ) == ["0 [False]"]


def test_an_alarm_bounds_a_copy_that_hangs() -> None:
    """As the guide says: `signal.alarm` in the copy kills it, and the original goes on."""
    assert lines("""
        here = snapshot()
        if here:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            rest()
        print(here.signal.name)
        """) == ["SIGALRM"]


def test_a_stopped_copy_is_waited_for() -> None:
    """SIGSTOP is no end: the copy goes on with SIGCONT, and the original then."""
    assert lines("""
        reading, writing = os.pipe()
        if os.fork() == 0:
            stopped = int(os.read(reading, 20))
            while " T " not in Path(f"/proc/{stopped}/stat").read_text():
                time.sleep(0.001)
            os.kill(stopped, signal.SIGCONT)
            os._exit(0)
        here = snapshot()
        if here:
            os.write(writing, b"%d" % os.getpid())
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(6)
        print(here.exit_code)
        """) == ["6"]


def test_an_orderly_end_of_the_original_ends_the_copy_first() -> None:
    """A handler of SIGTERM that exits runs in the original at once; the copy is gone before the
    exception goes on from `snapshot`, and so before any cleaning up."""
    assert lines("""
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        reading, writing = os.pipe()
        try:
            if snapshot():
                os.kill(os.getppid(), signal.SIGTERM)
                rest()
        finally:
            os.close(writing)
            print("gone", os.read(reading, 1), is_in_snapshot())
        """) == ["gone b'' False"]


def test_an_interrupt_between_two_snapshots_is_the_originals_own() -> None:
    """Only what comes while a copy runs is the copy's."""
    assert lines("""
        here = snapshot()
        if here:
            os._exit(0)
        try:
            os.kill(os.getpid(), signal.SIGINT)
            rest()
        except KeyboardInterrupt:
            print("interrupted")
        """) == ["interrupted"]


def test_interrupts_at_any_moment_never_end_the_original() -> None:
    """The terminal's Ctrl+C in a storm, here sent by a child to the original alone.

    Those that come between two snapshots are raised in the original and caught; those while a
    copy runs go to the copy, and none is ever raised from inside `snapshot` with a copy left.
    """
    (told,) = lines("""
        armed = False
        def interrupt(number, frame):
            global armed
            if armed:
                armed = False
                raise KeyboardInterrupt
        signal.signal(signal.SIGINT, interrupt)
        original = os.getpid()
        storm = os.fork()
        if storm == 0:
            while os.getppid() == original:
                os.kill(original, signal.SIGINT)
                time.sleep(0.0005)
            os._exit(0)
        ends = time.monotonic() + 2.0
        caught = taken = 0
        while time.monotonic() < ends:
            try:
                armed = True
                if snapshot():
                    time.sleep(0.001)
                    os._exit(0)
                armed = False
                taken += 1
            except KeyboardInterrupt:
                if is_in_snapshot():
                    os._exit(0)
                caught += 1
        os.kill(storm, signal.SIGKILL)
        os.waitpid(storm, 0)
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            print(taken > 20, caught > 0)
        """)
    assert told == "True True"


def test_the_tests_themselves_are_never_copied() -> None:
    """The programs above have this process as their parent, and it is no copy."""
    (told,) = lines("print(os.getppid(), is_in_snapshot())")
    assert told == f"{os.getpid()} False"
