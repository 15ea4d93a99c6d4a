"""Does a program written for faultguard 1.1.1 work after changing the import?

What is expected comes from running the ancestor itself beside `kompyct.guard` (S-36), each in a
process of its own, since both take hold of signals. Where they differ on purpose, a test below
shows both.
"""

from __future__ import annotations

import inspect
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import kompyct.guard

faultguard = pytest.importorskip("faultguard", reason="the ancestor is not installed")

LIMIT = 30.0  # seconds
NAMES = ["FaultguardDict", "is_active", "recover", "start", "wrapped_launch"]


def run(program: str, module: str, folder: Path, *arguments: str) -> tuple[str, list[str]]:
    """What the program prints, importing `module` as `guard`; and the files that it leaves."""
    folder.mkdir(exist_ok=True)
    path = folder / "program.py"
    path.write_text(f"import {module} as guard\n" + textwrap.dedent(program))
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [sys.executable, str(path), *arguments]
        with subprocess.Popen(
            command, stdout=out, stderr=err, cwd=folder, start_new_session=True
        ) as program_itself:
            program_itself.wait(LIMIT)
        with suppress(ProcessLookupError):  # theirs may leave processes behind
            os.killpg(program_itself.pid, signal.SIGKILL)
        path.unlink()
        left = sorted(entry.name for entry in folder.iterdir())
        out.seek(0)
        return out.read(), left


def run_both(program: str, folder: Path, *arguments: str) -> str:
    """What it prints, the same with both; and the files it leaves are the same."""
    theirs = run(program, "faultguard", folder / "theirs", *arguments)
    ours = run(program, "kompyct.guard", folder / "ours", *arguments)
    if "int" in arguments and "rescue" in ours[0] and "rescue" not in theirs[0]:
        pytest.skip("theirs was itself ended by the signal, as happens now and then")
    assert ours == theirs
    return ours[0]


# -- names ----------------------------------------------------------------------------------


def defined() -> dict[str, Any]:
    """The public names that the ancestor's source defines."""
    return {
        name: value
        for name, value in vars(faultguard).items()
        if name[0] != "_" and getattr(value, "__module__", None) == "faultguard"
    }


def test_every_public_name_is_there() -> None:
    """S-36: every public name of the ancestor's source."""
    assert sorted(defined()) == NAMES
    for name in NAMES:
        assert name in kompyct.guard.__all__


@pytest.mark.parametrize("name", ["is_active", "recover", "start", "wrapped_launch"])
def test_every_parameter_has_its_name_place_and_default(name: str) -> None:
    """S-36: the same parameters in the same order; what is new is by keyword only."""

    def by_position(function: Any) -> list[tuple[str, Any]]:
        return [
            (one.name, one.default)
            for one in inspect.signature(function).parameters.values()
            if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]

    assert by_position(getattr(kompyct.guard, name)) == by_position(getattr(faultguard, name))


def test_the_dictionary_has_what_the_ancestors_has() -> None:
    """S-36: the methods, and the attribute, of the ancestor's dictionary."""
    theirs = {name for name in dir(faultguard.FaultguardDict) if name[0] != "_"}
    assert theirs <= set(dir(kompyct.guard.FaultguardDict))
    assert list(inspect.signature(faultguard.FaultguardDict).parameters) == ["managed_dict"]
    assert list(inspect.signature(kompyct.guard.FaultguardDict).parameters) == ["managed_dict"]
    for dictionary in (faultguard.FaultguardDict, kompyct.guard.FaultguardDict):
        data = dictionary({})
        data["key"] = [1]
        assert list(data.store) == ["key"]
        assert dictionary(data.store)["key"] == [1]


# -- the same program, the same results -----------------------------------------------------

ENDS = """
    import ctypes, os, signal, sys
    def launch(data, args):
        print("launch", args, flush=True)
        data["text"] = "text"
        data["list"] = [1, {"a": 2}]
        data[("a", 1)] = None
        del data["text"]
        data["text"] = "again"
        how = args["how"]
        if how == "raise":
            raise ValueError
        if how == "exit":
            sys.exit(5)
        if how == "exit text":
            sys.exit("text")
        if how == "_exit":
            os._exit(6)
        if how == "segv":
            ctypes.string_at(0)
        if how == "abort":
            os.abort()
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "int":
            os.kill(os.getpid(), signal.SIGINT)
        print("returns", flush=True)
    def rescue(data, exit_code, args):
        print("rescue", exit_code, args, len(data), list(data.items()), "x" in data, flush=True)
        data["new"] = 1
        print(data.pop("list"), dict(data), flush=True)
    if __name__ == "__main__":
        args = {"how": sys.argv[1]}
        if sys.argv[2:]:
            print(guard.start(launch, rescue, args, 0.1, "autosave.xz"), flush=True)
        else:
            print(guard.start(launch, rescue, args=args), flush=True)
"""


@pytest.mark.parametrize("saved", [(), ("saved",)], ids=["", "autosave"])
@pytest.mark.parametrize(
    "how", ["return", "raise", "exit", "exit text", "_exit", "segv", "abort", "kill", "int"]
)
def test_each_end_is_the_same(tmp_path: Path, how: str, saved: tuple[str, ...]) -> None:
    """S-36: Given each way to end, then calls, arguments, data, exit codes and files are the
    same."""
    said = run_both(ENDS, tmp_path, how, *saved)
    assert said.startswith("launch")
    assert ("rescue" in said) == (how != "return")


NO_ARGS = """
    def launch(data):
        data.update(a=1, b=2)
        raise SystemExit(3)
    def rescue(data, exit_code):
        print("rescue", exit_code, dict(data))
    if __name__ == "__main__":
        print(guard.start(launch, rescue))
"""


def test_without_args_none_are_given(tmp_path: Path) -> None:
    """S-36: Given no args, then both functions are called without."""
    assert run_both(NO_ARGS, tmp_path) == "rescue 3 {'a': 1, 'b': 2}\n3\n"


WRONG = """
    import os
    def launch(data):
        pass
    def rescue(data, exit_code):
        pass
    if __name__ == "__main__":
        open("there", "w").close()
        os.utime("there", (0, 0))
        for action in (
            lambda: guard.start(launch, rescue, None, 1),
            lambda: guard.start(launch, rescue, autosave_file="f"),
            lambda: guard.start(launch, rescue, None, 1, "there"),
            lambda: guard.start(launch, rescue, None, 1, "none/there"),
            lambda: guard.is_active("none"),
            lambda: guard.recover(rescue, "none"),
            lambda: guard.is_active("there"),
        ):
            try:
                print(action())
            except Exception as error:
                kinds = (TypeError, FileNotFoundError, RuntimeError, OSError)
                print(next(kind.__name__ for kind in kinds if isinstance(error, kind)))
"""


def test_wrong_use_raises_the_same_kinds_of_error(tmp_path: Path) -> None:
    """S-36: Given wrong use, then the errors are of the kinds that programs catch; a missing
    folder is an OSError at least."""
    theirs = run(WRONG, "faultguard", tmp_path / "theirs")
    ours = run(WRONG, "kompyct.guard", tmp_path / "ours")
    expected = ["TypeError", "TypeError", "RuntimeError", "FileNotFoundError"]
    rest = ["FileNotFoundError", "FileNotFoundError", "False"]
    assert theirs[0].split() == [*expected, *rest]
    assert ours[0].split() == [*expected[:3], "OSError", *rest]
    assert ours[1] == theirs[1]


KILLED = """
    import os, signal, sys, time
    def launch(data):
        data["key"] = [1, 2]
        seen = set()
        while len(seen) < 4:  # so that this and the file before have it
            data["turn"] = time.time()
            status = os.stat("autosave") if os.path.exists("autosave") else None
            if status and status.st_size:
                seen.add((status.st_ino, status.st_mtime_ns))
            time.sleep(0.01)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(5)
    def rescue(data, exit_code=None):
        print("rescue", exit_code, data["key"], flush=True)
    if __name__ == "__main__":
        if sys.argv[1] == "start":
            guard.start(launch, rescue, None, 0.1, "autosave")
        else:
            print(guard.recover(rescue, "autosave"), flush=True)
"""


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For theirs and for ours, the folder of a program whose launcher was killed."""
    folders = {}
    for module in ("faultguard", "kompyct.guard"):
        folders[module] = tmp_path_factory.mktemp("lost") / module
        run(KILLED, module, folders[module], "start")
        assert {"autosave", "autosave.tmp"} <= {path.name for path in folders[module].iterdir()}
    return folders


@pytest.mark.parametrize("damaged", [False, True])
def test_recover_after_the_launcher_was_lost(
    tmp_path: Path, lost: dict[str, Path], damaged: bool
) -> None:
    """S-36: Given a launcher killed with SIGKILL, then recover calls rescue without an exit code
    and returns 0, or 1 where only the file before is good."""
    said = []
    for module in ("faultguard", "kompyct.guard"):
        folder = tmp_path / module
        shutil.copytree(lost[module], folder)
        if damaged:
            # Theirs was in the middle of being replaced, or the disk has lost it.
            (folder / "autosave.tmp").write_bytes((folder / "autosave").read_bytes())
            (folder / "autosave").write_bytes(b"")
        out, left = run(KILLED, module, folder, "recover")
        said.append([line for line in out.splitlines() if "recover" not in line])
        assert {"autosave", "autosave.tmp"} <= set(left)
    assert said[0][-2:] == said[1] == ["rescue None [1, 2]", str(int(damaged))]


def test_ours_reads_what_theirs_has_saved(tmp_path: Path, lost: dict[str, Path]) -> None:
    """RELIABILITY 1, older format: Given a program that was changed between the crash and the
    recovery, then nothing is lost."""
    folder = shutil.copytree(lost["faultguard"], tmp_path / "program")
    said, _ = run(KILLED, "kompyct.guard", folder, "recover")
    assert said == "rescue None [1, 2]\n0\n"


# -- differences on purpose -----------------------------------------------------------------

NESTED = """
    import os, warnings
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_: print(type(message).__name__)
    def launch(data):
        data["key"] = []
        data["key"].append(1)
        print(data["key"])
    def rescue(data, exit_code):
        pass
    if __name__ == "__main__":
        guard.start(launch, rescue)
"""


def test_a_nested_change_is_lost_by_both_but_ours_says_so(tmp_path: Path) -> None:
    """Difference: theirs loses it in silence."""
    assert run(NESTED, "faultguard", tmp_path / "theirs")[0] == "[]\n"
    assert run(NESTED, "kompyct.guard", tmp_path / "ours")[0] == "LostChangeWarning\n[]\n"


FORGOTTEN = """
    def launch(data, args):
        pass
    def rescue(data, exit_code, args=None):
        print("rescue", exit_code)
    if __name__ == "__main__":
        try:
            guard.start(launch, rescue)
        except TypeError as error:
            print("launch cannot be called" in str(error))
"""


def test_forgotten_args_are_told_at_once(tmp_path: Path) -> None:
    """Difference: theirs starts a program that dies at its first step, and rescues it."""
    assert run(FORGOTTEN, "faultguard", tmp_path / "theirs")[0] == "rescue 1\n"
    assert run(FORGOTTEN, "kompyct.guard", tmp_path / "ours")[0] == "True\n"


TERMINATED = """
    import os, signal, time
    def launch(data):
        data["key"] = 1
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(1)
        print("not disturbed", flush=True)
    def rescue(data, exit_code):
        print("rescue", exit_code, dict(data), flush=True)
    if __name__ == "__main__":
        print(guard.start(launch, rescue), flush=True)
"""


def test_a_signal_to_the_launcher_is_sent_on(tmp_path: Path) -> None:
    """Difference: theirs ignores SIGTERM, so that a service manager has to kill it."""
    assert run(TERMINATED, "faultguard", tmp_path / "theirs")[0] == "not disturbed\n0\n"
    assert run(TERMINATED, "kompyct.guard", tmp_path / "ours")[0] == "rescue -15 {'key': 1}\n-15\n"
