"""Do process snapshots work in an interactive interpreter, with real keys on a real terminal?"""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.harness.fork_programs import Conversation, program

PLAIN = [sys.executable, "-q", "-i"]
IPYTHON = [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor"]

with_ipython = pytest.mark.skipif(
    find_spec("IPython") is None, reason="IPython is not installed; `pip install ipython`"
)


def test_control_c_reaches_the_copy_and_not_the_original() -> None:
    """Issue 4: the terminal sends it to both; the copy handles it, goes on, and hears it again."""
    body = """
        here = snapshot()
        if here:
            for _ in range(2):
                try:
                    print("ready", flush=True)
                    rest()
                except KeyboardInterrupt:
                    print("interrupted", flush=True)
            os._exit(4)
        print("original", here.exit_code, signal.sigpending(), flush=True)
        """
    with Conversation(program(body)) as terminal:
        for _ in range(2):
            terminal.until("ready")
            terminal.press("\x03")
            terminal.until("interrupted")
        terminal.until(r"original 4 set\(\)")
        assert terminal.ends() == 0
        assert "interrupted" not in terminal.seen  # each key once


@pytest.mark.parametrize(("key", "name"), [("\x03", "SIGINT"), ("\x1c", "SIGQUIT")])
def test_a_key_that_ends_the_copy_does_not_end_the_original(key: str, name: str) -> None:
    """Ctrl+C and Ctrl+backslash, without any handler but Python's own."""
    body = """
        here = snapshot()
        if here:
            print("ready", flush=True)
            rest()
        print("original", here.signal.name, flush=True)
        """
    with Conversation(program(body)) as terminal:
        terminal.until("ready")
        terminal.press(key)
        terminal.until(f"original {name}")
        assert terminal.ends() == 0


def test_the_terminal_is_as_it_was_after_a_copy_that_died_in_the_middle_of_a_password() -> None:
    """A copy that is killed without echo and in raw mode leaves neither."""
    body = """
        import termios, tty
        before = termios.tcgetattr(0)
        here = snapshot()
        if here:
            tty.setraw(0)
            os.kill(os.getpid(), signal.SIGKILL)
        print("same", termios.tcgetattr(0) == before, flush=True)
        """
    with Conversation(program(body)) as terminal:
        terminal.until("same True")
        assert terminal.ends() == 0


def test_the_original_takes_the_terminal_back_from_a_process_group_that_is_no_more() -> None:
    """A copy that made itself the foreground, as a shell does, and died; the original can read."""
    body = """
        here = snapshot()
        if here:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            os.setpgid(0, 0)
            os.tcsetpgrp(0, os.getpid())
            os.kill(os.getpid(), signal.SIGKILL)
        print("foreground", os.tcgetpgrp(0) == os.getpgrp(), flush=True)
        print("read", input(), flush=True)
        """
    with Conversation(program(body)) as terminal:
        terminal.until("foreground True")
        terminal.press("line\r")
        terminal.until("read line")
        assert terminal.ends() == 0


def test_the_original_leaves_the_terminal_to_a_group_that_lives() -> None:
    """As when the shell has put the job in the background: it is not the original's to take."""
    body = """
        reading, writing = os.pipe()
        started, start = os.pipe()
        other = os.fork()
        if other == 0:
            os.close(writing)
            os.setpgid(0, 0)
            os.write(start, b"s")
            os.read(reading, 1)
            os._exit(0)
        os.read(started, 1)
        here = snapshot()
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        if here:
            os.tcsetpgrp(0, other)
            os._exit(0)
        left, group = os.tcgetpgrp(0) == other, os.getpgrp()
        os.tcsetpgrp(0, group)
        os.close(writing)
        os.waitpid(other, 0)
        print("left", left, flush=True)
        """
    with Conversation(program(body)) as terminal:
        terminal.until("left True")
        assert terminal.ends() == 0


def plain(terminal: Conversation, line: str, answer: str) -> str:
    """Type a line at `>>>`, and wait for the answer and the next prompt; the match is returned."""
    terminal.press(f"{line}\r")
    told = terminal.until(answer).group()
    terminal.until(">>> ")
    return told


def test_the_interactive_interpreter_goes_back_to_the_line_of_the_snapshot() -> None:
    """Issue 4, `python -i`: a crash, Ctrl+C, `exit()` and a revert, all typed by hand."""
    with Conversation(PLAIN) as terminal:
        terminal.until(">>> ")
        plain(terminal, "from kompyct.fork import *; import ctypes, os, time; x = 1", "x = 1\r\n")
        plain(terminal, "print('took', snapshot())", "took process snapshot 0.*running")
        plain(terminal, "x = 2; print('x is', x)", "x is 2")
        plain(terminal, "_ = ctypes.string_at(0)", "took .* was killed by SIGSEGV")
        plain(terminal, "print('x is', x, is_in_snapshot())", "x is 1 False")

        plain(terminal, "print('took', snapshot())", "took .*running")
        terminal.press("print('a' + 'sleep'); [time.sleep(0.01) for _ in range(6000)]\r")
        terminal.until("asleep\r\n")
        terminal.press("\x03")
        terminal.until("KeyboardInterrupt")
        terminal.until(">>> ")
        plain(terminal, "print('still', is_in_snapshot())", "still True")
        plain(terminal, "print_snapshot_list()", 'File "<stdin>", line 1, in <module>')
        plain(terminal, "exit(3)", "took .* ended with exit code 3")

        plain(terminal, "print('took', snapshot())", "took .*running")
        plain(terminal, "revert_to_snapshot()", "took .* reverted")
        plain(terminal, "print('x is', x, is_in_snapshot())", "x is 1 False")
        terminal.press("exit(5)\r")
        assert terminal.ends() == 5


@with_ipython
@pytest.mark.parametrize("kind", ["dumb", "xterm"])
def test_ipython_goes_back_to_the_cell_of_the_snapshot(kind: str, tmp_path: Path) -> None:
    """Issue 4: killed at its prompt, interrupted, and left by `exit`, the copy leads back."""

    def cell(line: str, answer: str, number: int) -> str:
        terminal.press(f"{line}\r")
        told = terminal.until(answer).group()
        terminal.until(rf"In \[{number}\]:")
        return told

    with Conversation(IPYTHON, TERM=kind, IPYTHONDIR=str(tmp_path)) as terminal:
        terminal.until(r"In \[1\]:")
        cell("from kompyct.fork import *; import os, time; x = 1", "x = 1", 2)
        cell("print('took', snapshot())", "took process snapshot 0.*running", 3)
        pid = cell("x = 2; print('process', os.getpid())", r"process \d+", 4).split()[1]
        os.kill(int(pid), signal.SIGKILL)  # the copy of the interpreter above, at its prompt
        terminal.until("took .* was killed by SIGKILL")
        terminal.until(r"In \[3\]:")
        cell("print('x is', x, is_in_snapshot())", "x is 1 False", 4)

        cell("print('took', snapshot())", "took .*running", 5)
        terminal.press("print('a' + 'sleep'); [time.sleep(0.01) for _ in range(6000)]\r")
        terminal.until("asleep\r\n")
        terminal.press("\x03")
        terminal.until("KeyboardInterrupt")
        terminal.until(r"In \[6\]:")
        cell("print('still', is_in_snapshot())", "still True", 7)
        cell("exit", "took .* ended with exit code 0", 5)
        cell("print('x is', x, is_in_snapshot())", "x is 1 False", 6)
        terminal.press("exit\r")
        assert terminal.ends() == 0


def write_program(folder: Path, body: str) -> Path:
    """A file whose lines a debugger can show."""
    path = folder / "debugged.py"
    path.write_text(textwrap.dedent(body))
    return path


def test_the_debugger_stops_in_the_copy_and_again_in_the_original(tmp_path: Path) -> None:
    """Issue 4, `set_trace`: quitting the debugger leads back to the same line, and what was done
    in the copy is undone."""
    path = write_program(
        tmp_path,
        """
        from kompyct.fork import is_in_snapshot, set_trace
        def function(x):
            set_trace("pdb")
            y = x + 1
            return y
        print("result", function(1), is_in_snapshot())
        """,
    )
    with Conversation([sys.executable, str(path)], HOME=str(tmp_path)) as terminal:
        terminal.until(r"debugged.py\(5\)function\(\)\r\n-> y = x \+ 1\r\n\(Pdb\) ")
        terminal.press("x = 41\r")
        terminal.until(r"\(Pdb\) ")
        terminal.press("p x, is_in_snapshot()\r")
        terminal.until(r"\(41, True\)\r\n\(Pdb\) ")
        terminal.press("q\r")
        terminal.until(r"debugged.py\(5\)function\(\)\r\n-> y = x \+ 1\r\n\(Pdb\) ")
        terminal.press("p x, is_in_snapshot()\r")
        terminal.until(r"\(1, False\)\r\n\(Pdb\) ")
        terminal.press("c\r")
        terminal.until("result 2 False")
        assert terminal.ends() == 0
