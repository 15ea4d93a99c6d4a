"""Does a copy leave alone what the original will see to itself?"""

from __future__ import annotations

import pytest

from kompyct.errors import ArgumentTypeError
from kompyct.fork import not_in_snapshot, root_only
from tests.harness.fork_programs import lines, run

ENDINGS = {"it exits": "sys.exit()", "it faults": "raise ValueError", "its program ends": "pass"}

of_each_ending = pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)


def told_by_original(body: str) -> list[str]:
    """What `body` prints; a copy may write its traceback."""
    return run(body).stdout.splitlines()


@of_each_ending
def test_atexit_functions_are_run_by_the_process_that_registered_them(ending: str) -> None:
    """Issue 4: those of the original once, at its end, and those of the copy at the copy's."""
    assert told_by_original(f"""
        atexit.register(print, "end of the original")
        def program():
            here = snapshot()
            if here:
                atexit.register(print, "end of the copy")
                {ending}
            else:
                print("back")
        program()
        """) == ["end of the copy", "back", "end of the original"]


@of_each_ending
def test_temporary_files_in_local_variables_are_kept(ending: str) -> None:
    """Issue 4: a function that the copy leaves, in whatever way, does not delete them."""
    assert told_by_original(f"""
        def program():
            file = tempfile.NamedTemporaryFile()
            folder = tempfile.TemporaryDirectory()
            if snapshot():
                {ending}
            else:
                print(os.path.exists(file.name), os.path.exists(folder.name))
        program()
        """) == ["True True"]


@of_each_ending
def test_temporary_folders_of_the_original_are_kept(ending: str) -> None:
    """Issue 4: also one whose object the copy drops; the copy's own are removed with it."""
    assert told_by_original(f"""
        kept, dropped = tempfile.TemporaryDirectory(), tempfile.TemporaryDirectory()
        names = [kept.name, dropped.name]
        note = Path(kept.name, "name")
        def program():
            global own, dropped
            here = snapshot()
            if here:
                dropped = None
                own = tempfile.TemporaryDirectory()
                note.write_text(own.name)
                {ending}
            else:
                print([os.path.isdir(name) for name in names], os.path.exists(note.read_text()))
        program()
        """) == ["[True, True] False"]


@of_each_ending
def test_inherited_objects_are_not_finalized_by_the_copy(ending: str) -> None:
    """A `__del__` that does something outside runs once, in the original; also that of an object
    in a cycle that was garbage already. An object of the copy runs its own when collected."""
    first, *others = told_by_original(f"""
        class Resource:
            def __init__(self, name):
                self.name, self.itself = name, self
            def __del__(self):
                os.write(1, f"end of {{self.name}}, in a copy: {{is_in_snapshot()}}\\n".encode())
        gc.disable()
        held = Resource("held")
        Resource("garbage")
        def program():
            local = Resource("local")
            here = snapshot()
            if here:
                Resource("own")
                gc.collect()
                {ending}
            else:
                gc.collect()
                del local
                gc.collect()
        program()
        """)
    assert first == "end of own, in a copy: True"
    assert others == [
        "end of garbage, in a copy: False",
        "end of local, in a copy: False",
        "end of held, in a copy: False",
    ]


@of_each_ending
def test_files_are_written_once(ending: str) -> None:
    """What the original had in a buffer is not written by the copy too; what the copy has written
    to files of its own is there, though it did not close them."""
    assert told_by_original(f"""
        folder = tempfile.TemporaryDirectory()
        ours, own = Path(folder.name, "original"), Path(folder.name, "copy")
        file, kept = open(ours, "w"), []
        file.write("once ")
        def program():
            here = snapshot()
            if here:
                kept.append(open(own, "w"))
                kept[0].write("copy")
                {ending}
            else:
                file.close()
                print(ours.read_text(), own.read_text())
        program()
        """) == ["once  copy"]


@of_each_ending
def test_context_managers_kept_for_the_root_are_left_by_the_root_only(ending: str) -> None:
    """Issue 4: around the snapshot they would be left by both. What a copy enters, it leaves,
    and a copy of that one does not."""
    told = told_by_original(f"""
        from contextlib import contextmanager
        @contextmanager
        def resource(name):
            os.write(1, f"enter {{name}}\\n".encode())
            try:
                yield name
            finally:
                os.write(1, f"leave {{name}}\\n".encode())
        def program():
            with root_only(resource("outer")) as outer:
                if snapshot():
                    with root_only(resource("inner")) as inner:
                        if snapshot():
                            assert (outer, inner) == ("outer", "inner")
                            {ending}
                            return
                else:
                    os.write(1, b"back\\n")
        program()
        """)
    assert told == ["enter outer", "enter inner", "leave inner", "back", "leave outer"]


def test_a_temporary_folder_kept_for_the_root_outlives_a_copy_that_unwinds() -> None:
    """The value that `with` gives is the manager's own, and its exceptions are handled as ever."""
    assert lines("""
        from contextlib import suppress
        with root_only(tempfile.TemporaryDirectory()) as folder:
            if snapshot():
                sys.exit()
            print(os.path.isdir(folder))
        print(os.path.isdir(folder))
        with root_only(suppress(ValueError)):
            raise ValueError
        print("suppressed")
        """) == ["True", "False", "suppressed"]


def test_a_child_process_of_the_original_is_not_waited_for_by_the_copy() -> None:
    """Issue 4: a copy that left `with Popen(…)` would close its pipes; the child answers on."""
    assert lines("""
        command = [sys.executable, "-c", "print(input())"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with root_only(subprocess.Popen(command, **pipes)) as child:
            if snapshot():
                sys.exit()
            print(child.communicate("hello")[0].strip(), child.returncode)
        """) == ["hello 0"]


@pytest.mark.parametrize("keep", ["root_only", "not_in_snapshot"])
def test_functions_kept_for_the_root_do_nothing_in_a_copy(keep: str) -> None:
    """Issue 4: they return None there, and keep their name, arguments and result elsewhere."""
    assert lines(f"""
        @{keep}
        def double(number, *, plus=0):
            "Twice."
            return 2 * number + plus
        print(double.__name__, double.__doc__, double(2, plus=1))
        if snapshot():
            print(double(2))
            sys.exit()
        print(double(3))
        """) == ["double Twice. 5", "None", "6"]


async def _coroutine() -> None:
    """What cannot be kept for the root."""


@pytest.mark.parametrize("operation", [3, _coroutine])
@pytest.mark.parametrize("keep", [root_only, not_in_snapshot])
def test_what_is_no_function_is_refused(keep: object, operation: object) -> None:
    """A number is none, and a coroutine function would return None where it is awaited."""
    assert callable(keep)
    with pytest.raises(ArgumentTypeError, match="give a plain function"):
        keep(operation)
