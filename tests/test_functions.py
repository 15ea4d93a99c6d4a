"""Are recovery functions found again at the next start, or is it said which one is gone?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest

from kompyct import FaultContext, RecoveryHandler
from kompyct.codecs import encode
from kompyct.errors import RecoveryImportError, SnapshotError, VersionError
from kompyct.events import CreateFailed, NotRecovered
from kompyct.functions import find_function, store_function
from kompyct.lifecycle import Status
from kompyct.store.snapshots import MemoryStore
from kompyct.testing import TestSystem
from tests.test_claims import Do, Keeper

ROOT = Path(__file__).parent.parent
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def recover(fault: FaultContext[Any]) -> RecoveryHandler:
    return fault.restart(lambda: Keeper(("by recover", fault.snapshot)))


def recover_with_text(text: str, fault: FaultContext[Any]) -> RecoveryHandler:
    return fault.restart(lambda: Keeper((text, fault.snapshot)))


def _wrapped(function: Callable[[Any], RecoveryHandler]) -> Callable[[Any], RecoveryHandler]:
    @wraps(function)
    def wrapper(fault: FaultContext[Any]) -> RecoveryHandler:
        return function(fault)

    return wrapper


@_wrapped
def decorated(fault: FaultContext[Any]) -> RecoveryHandler:
    return fault.restart(lambda: Keeper(("decorated", fault.snapshot)))


class Holder:
    """Functions in a class, and an object that is one."""

    def __init__(self, text: str = "called") -> None:
        self.text = text

    @staticmethod
    def static(fault: FaultContext[Any]) -> RecoveryHandler:
        return fault.restart(lambda: Keeper(("static", fault.snapshot)))

    @classmethod
    def of_class(cls, fault: FaultContext[Any]) -> RecoveryHandler:
        return fault.restart(lambda: Keeper((cls.__name__, fault.snapshot)))

    def __call__(self, fault: FaultContext[Any]) -> RecoveryHandler:
        return fault.restart(lambda: Keeper((self.text, fault.snapshot)))

    class Inner:
        @staticmethod
        def static(fault: FaultContext[Any]) -> RecoveryHandler:
            return fault.restart(lambda: Keeper(("inner", fault.snapshot)))


shown = lambda fault: fault.restart(lambda: Keeper(("lambda", fault.snapshot)))  # noqa: E731


def closure(text: str) -> Callable[[FaultContext[Any]], RecoveryHandler]:
    def inner(fault: FaultContext[Any]) -> RecoveryHandler:
        return fault.restart(lambda: Keeper((text, fault.snapshot)))

    return inner


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """A module that a program may lose."""
    made = types.ModuleType("lost_and_found")
    made.recover = recover_like(made)  # type: ignore[attr-defined]
    sys.modules[made.__name__] = made
    yield made
    sys.modules.pop(made.__name__, None)


def recover_like(module: types.ModuleType) -> Callable[[Any], RecoveryHandler]:
    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        return fault.restart(lambda: Keeper(("found", fault.snapshot)))

    recover.__module__ = module.__name__
    recover.__qualname__ = "recover"
    return recover


def left_by(function: Any) -> MemoryStore:
    """The store of a lost process whose component 'a' had `function` and the snapshot 7."""
    store = MemoryStore()
    with TestSystem(store=store) as system:
        ref = system.create(Keeper, name="a", start=True)
        ref.ask(Do(lambda it: it.set_recovery_function(function, snapshot=7)))
        system.flush()
        return store.crashed()


def value_after(store: MemoryStore) -> Any:
    with TestSystem(store=store) as system:
        return system.create(Keeper, name="a", start=True).ask(Do(lambda it: it.value))


# -- by name or by value --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (recover, "recover"),
        (decorated, "decorated"),
        (Holder.static, "Holder.static"),
        (Holder.Inner.static, "Holder.Inner.static"),
    ],
)
def test_what_can_be_imported_is_stored_by_its_name(function: Any, name: str) -> None:
    """`store_function`: module:qualname, so that a program may change it between two starts."""
    assert store_function(function) == f"{__name__}:{name}"
    assert find_function(f"{__name__}:{name}", "a") is function


@pytest.mark.parametrize(
    "function",
    [
        closure("text"),
        partial(recover_with_text, "text"),
        Holder("text"),
        shown,
        Holder.of_class,
    ],
)
def test_what_cannot_is_stored_by_value(function: Any) -> None:
    """`store_function`: cloudpickle, which takes closures along."""
    stored = store_function(function)
    assert isinstance(stored, bytes)
    assert callable(find_function(stored, "a"))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (recover, "by recover"),
        (decorated, "decorated"),
        (Holder.static, "static"),
        (Holder.Inner.static, "inner"),
        (closure("closed over"), "closed over"),
        (partial(recover_with_text, "partial"), "partial"),
        (Holder("object"), "object"),
        (shown, "lambda"),
        (Holder.of_class, "Holder"),
    ],
)
def test_each_kind_of_function_recovers_after_the_loss_of_the_process(
    function: Any, expected: str
) -> None:
    """S-25: the stored function is called, with the stored snapshot, 7."""
    assert value_after(left_by(function)) == (expected, 7)


def test_a_name_that_leads_to_something_else_is_not_used() -> None:
    """A function whose name now belongs to another one is stored by value: not the other one."""

    def recover(fault: FaultContext[Any]) -> RecoveryHandler:
        return fault.restart(lambda: Keeper(("the local one", fault.snapshot)))

    recover.__qualname__ = "recover"
    assert isinstance(store_function(recover), bytes)
    assert value_after(left_by(recover)) == ("the local one", 7)


def test_what_a_closure_closes_over_is_as_it_was_at_the_save() -> None:
    """B-20 for functions: by value, at the call."""
    text = ["before"]

    def inner(fault: FaultContext[Any]) -> RecoveryHandler:
        return fault.restart(lambda: Keeper(text))

    stored = store_function(inner)
    text.append("after")
    found = find_function(stored, "a")
    assert found.__closure__ is not None
    assert found.__closure__[0].cell_contents == ["before"]


def test_a_changed_function_of_the_same_name_is_used(module: types.ModuleType) -> None:
    """By name: so a program that was mended between two starts recovers with the mended one."""
    store = left_by(module.recover)
    module.recover = recover  # type: ignore[attr-defined]
    assert value_after(store) == ("by recover", 7)


def test_a_function_that_cannot_be_stored_is_refused_at_the_call() -> None:
    """`set_recovery_function`: SnapshotError, the one before stays; and says the way out."""
    generator = (number for number in (1, 2))

    def unstorable(fault: FaultContext[Any]) -> RecoveryHandler:
        next(generator)
        return fault.restart()

    store = MemoryStore()
    with TestSystem(store=store) as system:
        ref = system.create(Keeper, name="a", start=True)
        ref.ask(Do(lambda it: it.set_recovery_function(recover, snapshot=7)))

        def register(component: Any) -> None:
            with pytest.raises(SnapshotError, match="function of a module") as raised:
                component.set_recovery_function(unstorable, snapshot=8)
            assert isinstance(raised.value.__cause__, SnapshotError)

        ref.ask(Do(register))
        with pytest.raises(SnapshotError):
            ref.set_recovery_function(unstorable, snapshot=8)
        nameless = system.create(Keeper, start=True)
        nameless.ask(Do(lambda it: it.set_recovery_function(unstorable, snapshot=8)))
    assert value_after(store) == ("by recover", 7)


# -- what is gone ---------------------------------------------------------------------------------


def _gone_module(module: types.ModuleType) -> None:
    del sys.modules[module.__name__]


def _gone_function(module: types.ModuleType) -> None:
    vars(module).pop("recover")


def _no_function(module: types.ModuleType) -> None:
    module.recover = 7  # type: ignore[attr-defined]


@pytest.mark.parametrize("lose", [_gone_module, _gone_function, _no_function])
def test_a_function_that_is_gone_leaves_the_snapshot(
    module: types.ModuleType, lose: Callable[[types.ModuleType], None]
) -> None:
    """`create`: RecoveryImportError, which names component and function and two ways out; what is
    stored is as it was, not even suspect; back where it was, it is used.
    """
    store = left_by(module.recover)
    before = store.load("a")
    found = module.recover
    lose(module)
    with TestSystem(store=store) as system:
        with pytest.raises(RecoveryImportError, match=r"'a', lost_and_found:recover.*fresh=True"):
            system.create(Keeper, name="a")
        system.run_until_idle()
        assert [event.error for event in system.events.of(CreateFailed)] == ["RecoveryImportError"]
        assert system.find("a") is None
        assert system.recover() == ()
        system.run_until_idle()
        (event,) = system.events.of(NotRecovered)
        assert "lost_and_found:recover" in event.reason
        system.flush()
    assert store.load("a") == before
    sys.modules[module.__name__] = module
    module.recover = found  # type: ignore[attr-defined]
    assert value_after(store) == ("found", 7)


def test_a_fresh_one_may_be_created_where_the_function_is_gone(module: types.ModuleType) -> None:
    """The way out that the message names."""
    store = left_by(module.recover)
    _gone_module(module)
    with TestSystem(store=store) as system:
        with pytest.raises(RecoveryImportError):
            system.create(Keeper, name="a")
        ref = system.create(Keeper, name="a", start=True, fresh=True)
        assert ref.ask(Do(lambda it: it.value)) == "new"


@pytest.mark.parametrize("raised", ["RuntimeError('no')", "SystemExit(3)", "ImportError('no')"])
def test_a_module_that_raises_when_imported_leaves_the_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: types.ModuleType, raised: str
) -> None:
    """`find_function`: an imported module may raise anything: also SystemExit ends nothing."""
    store = left_by(module.recover)
    _gone_module(module)
    (tmp_path / f"{module.__name__}.py").write_text(f"raise {raised}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with TestSystem(store=store) as system, pytest.raises(RecoveryImportError):
        system.create(Keeper, name="a")
    assert store.load("a")[0].mark.status is Status.UNFINISHED


@pytest.mark.parametrize(
    "stored", ["", ":", "json", "json:", ":recover", "no such:thing", "a..b:c"]
)
def test_nonsense_for_a_name_is_a_recovery_import_error(stored: str) -> None:
    """`find_function`: one error whatever the name."""
    with pytest.raises(RecoveryImportError):
        find_function(stored, "a")


@pytest.mark.parametrize("stored", [b"", b"junk", b"\x01", encode(7), encode("text")])
def test_nonsense_for_a_pickle_is_an_error_of_kompyct(stored: bytes) -> None:
    """`find_function`: junk, no function, or cut off, which in the version is a VersionError."""
    with pytest.raises((RecoveryImportError, VersionError)):
        find_function(stored, "a")


def test_a_function_pickled_by_another_python_leaves_the_snapshot() -> None:
    """RELIABILITY: cloudpickle of another Python minor: VersionError, not a crash, and all stays.

    Bytes 1 and 2 of what cloudpickle made are the version.
    """
    store = left_by(closure("text"))
    (snapshot,) = store.load("a")
    assert isinstance(snapshot.function, bytes)
    foreign = bytes((3, sys.version_info.minor + 1))
    other = MemoryStore()
    changed = snapshot.function[:1] + foreign + snapshot.function[3:]
    other._kept["a"] = [
        type(snapshot)(
            snapshot.mark, changed, snapshot.data, snapshot.saved_at, snapshot.generation
        )
    ]
    before = other.load("a")
    with TestSystem(store=other) as system:
        with pytest.raises(VersionError, match=rf"3\.{foreign[1]}.*{PYTHON}"):
            system.create(Keeper, name="a")
        assert system.find("a") is None
        assert system.recover() == ()
        system.run_until_idle()
        (event,) = system.events.of(NotRecovered)
        assert PYTHON in event.reason
    assert other.load("a") == before


# -- programs -------------------------------------------------------------------------------------

PROGRAM = """\
import json, os, sys
from functools import partial
from kompyct import Component, ComponentSystem

class Thing(Component):
    def __init__(self, value="new"):
        self.value = value

    def on_receive(self, message):
        if message == "value":
            return self.value
        self.set_recovery_function(FUNCTIONS[message](), snapshot=[1, 2])

DEFINITIONS

def closure(text):
    def inner(fault):
        value = (text, fault.snapshot)
        return fault.restart(lambda: Thing(value))
    return inner

def with_text(text, fault):
    value = (text, fault.snapshot)
    return fault.restart(lambda: Thing(value))

FUNCTIONS = {
    "name": lambda: recover,
    "closure": lambda: closure("closed over"),
    "partial": lambda: partial(with_text, "partial"),
    "lambda": lambda: lambda fault: fault.restart(partial(Thing, ("lambda", fault.snapshot))),
}

def main():
    with ComponentSystem(store=sys.argv[1]) as system:
        try:
            ref = system.create(Thing, name="thing", start=True)
        except Exception as error:
            print(json.dumps([type(error).__name__, str(error)]))
            return
        print(json.dumps(ref.ask("value")))
        for message in sys.argv[2:]:
            ref.ask(message)
        sys.stdout.flush()
        if sys.argv[2:]:
            system.flush()
            os._exit(0)  # lost, as far as the store knows

if __name__ == "__main__":
    main()
"""

RECOVER = """\
def recover(fault):
    value = ("by name", fault.snapshot)
    return fault.restart(lambda: Thing(value))
"""


def run_program(path: Path, *arguments: str, package: bool = False) -> Any:
    command = ["-m", path.name] if package else [str(path)]
    done = subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=path.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("package", [False, True])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("name", "by name"),
        ("closure", "closed over"),
        ("partial", "partial"),
        ("lambda", "lambda"),
    ],
)
def test_functions_of_a_program_itself_are_found_again(
    tmp_path: Path, kind: str, expected: str, package: bool
) -> None:
    """Those of `__main__`, as `python program.py` and as `python -m package`: the next process
    has another `__main__` of the same name, where they are found, or they were taken along.
    """
    path = tmp_path / "package" if package else tmp_path / "program.py"
    if package:
        path.mkdir()
        (path / "__init__.py").write_text("")
    source = path / "__main__.py" if package else path
    source.write_text(PROGRAM.replace("DEFINITIONS", RECOVER))
    store = str(tmp_path / "state")
    assert run_program(path, store, kind, package=package) == "new"
    assert run_program(path, store, package=package) == [expected, [1, 2]]


def test_another_program_without_the_function_leaves_the_snapshot(tmp_path: Path) -> None:
    """A program without the function gets RecoveryImportError; the one that has it goes on."""
    store = str(tmp_path / "state")
    (tmp_path / "whole.py").write_text(PROGRAM.replace("DEFINITIONS", RECOVER))
    (tmp_path / "other.py").write_text(PROGRAM.replace("DEFINITIONS", ""))
    assert run_program(tmp_path / "whole.py", store, "name") == "new"
    for _ in range(2):
        kind, text = run_program(tmp_path / "other.py", store)
        assert kind == "RecoveryImportError"
        assert "__main__:recover" in text
    assert run_program(tmp_path / "whole.py", store) == ["by name", [1, 2]]
