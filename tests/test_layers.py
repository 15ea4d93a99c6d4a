"""Does each module import only what its layer may, and keep to the house rules?

The layers are those of DESIGN.md, "Layout", with the modules that exist.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "kompyct"

LAYERS = (
    "errors events fault_classes lifecycle messages needed news restart version",
    "amounts checks clock codecs deadline functions futures interrupts keys mailbox options "
    "waiting processes processes.board processes.child processes.crash processes.dying "
    "processes.exits processes.frames processes.groups processes.identity processes.memory "
    "processes.parent processes.protocol processes.reactor processes.reaper processes.saves "
    "processes.spare processes.starter "
    "processes.travel processes.usage processes.zygote store store.atomic store.compression "
    "store.directory store.failures store.files store.formats store.locks store.records "
    "store.segments store.snapshots store.trust",
    "child_requests children component facts faults groups history lost names notices port_types "
    "ports ref registration registry routes saved stored strategy supervision supervisor "
    "timers triggering watching writer",
    "backends backends.manual backends.pool backends.process backends.thread cell channels ending "
    "faulting limited outgoing overdue poison probation remote reports requests signals stand_in",
    "claims creation offspring publisher pykka_actors recovery root stalls supervising "
    "supervisor_replies supervisor_signals tidings",
    "child_cell child_runtime far far_groups inside rehearsal runtime service system unprepared",
    "__main__ commands testing "
    "budgets declared findings lint lint_limits simulated simulation tree_commands virtual_tree "
    "fork fork.copies fork.debugging fork.inheritance fork.originals fork.output fork.roots "
    "fork.safety fork.terminal "
    "guard guard.application guard.arrays guard.autosave guard.dictionary guard.handed "
    "guard.keeping guard.mirror guard.places guard.program guard.recovery guard.relaying "
    "guard.shared guard.table guard.watching "
    "limits limits.given limits.guard limits.ladder limits.memory limits.times",
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names.split()}

OWNERS = {
    "bson": {"store.formats"},
    "cloudpickle": {"codecs"},
    "compression": {"store.compression"},
    "numpy": {"guard.arrays"},
    "psutil": {"processes.identity"},
    "zstandard": {"store.compression"},
    "pykka": {"backends.thread", "pykka_actors"},
}
"""The modules that may import a package from outside the standard library."""

LATE = {
    ("codecs", "cloudpickle"): "the one owner of it; most programs never need it",
    ("store.compression", "compression"): "an optional part of Python 3.14",
    ("store.compression", "zstandard"): "the one owner of it, and an extra",
    ("store.formats", "bson"): "the one owner of it, and an extra",
    ("guard.arrays", "numpy"): "the one owner of it; most programs guard no arrays",
    ("processes.identity", "psutil"): "where there is no /proc only",
    ("creation", "claims"): "with what it needs; most systems have no store",
    ("system", "claims"): "with what it needs; most systems have no store",
    ("runtime", "store.directory"): "most systems have no store",
    ("runtime", "store.snapshots"): "most systems have no store",
    ("runtime", "remote"): "with what it needs; few systems have components elsewhere",
    ("runtime", "supervising"): "with what it needs; many systems have no trees",
    ("runtime", "channels"): "with what it needs; few systems have channels",
    ("runtime", "limited"): "with what it needs; few components have limits",
    ("runtime", "stalls"): "with what it needs; few systems want to be told",
    ("processes.zygote", "multiprocessing"): "only a process that has children, or is one",
    ("runtime", "writer"): "with what it needs; most systems have no store",
    ("ref", "asyncio"): "19 ms that programs without an event loop need not spend",
    ("runtime", "pykka_actors"): "the one owner of pykka's proxies",
}
"""Imports inside functions, each with its reason (S-37)."""

BY_NAME = {"", "backends", "declared", "fork.debugging", "functions", "processes.zygote"}
"""The modules that import what a table names: the package's `__getattr__`, the backends (S-37);
and stored recovery functions, debuggers and trees on the command line, which are names."""

MAX_LINES = 330
LONGER = {
    "component": (385, "what the author of a component may call, most of it docstrings"),
    "cell": (460, "the one place that calls users' code; its turn is tuned as a whole"),
    "events": (485, "one small class for each thing that happens, nothing else"),
    "faults": (435, "what a recovery function may look at and answer, most of it docstrings"),
    "ref": (370, "the kinds of ref, each a few lines beside the one they derive from"),
    "runtime": (510, "the parts of a system and their order at the end, in one place"),
    "root": (435, "what follows a fault, and the order of the end, are one protocol"),
    "system": (680, "the public face: two thirds of it are docstrings"),
    "backends.pool": (425, "park, rouse and watchdog are one protocol, proved as one"),
    "backends.process": (350, "the thread that looks after children, and all it may hear"),
    "codecs": (370, "the one owner of cloudpickle, with all that is made by it"),
    "guard.shared": (345, "writes, with a lock and without, and what interrupts them, are one"),
    "processes.starter": (340, "two ways to have children made, and what is told of each"),
    "far": (450, "refs, system and log of the other side: each a few lines"),
    "inside": (395, "the loop, and its three faces: runner, backend, clock"),
    "signals": (400, "all that a cell may be told, each in a few lines"),
    "offspring": (390, "how a child is told to end, hurried, and left behind is one protocol"),
    "supervision": (485, "who starts and stops when: one state, and no part makes sense alone"),
    "supervising": (455, "the life of a supervisor, and what it does at each action"),
    "stand_in": (565, "what is sent, kept, heard and recalled is one protocol"),
    "child_cell": (450, "the other side of the same protocol"),
    "virtual_tree": (375, "a small world: its clock, its tree, and what happens in it"),
    "writer": (395, "who writes, who sleeps and who is woken are one protocol, proved as one"),
    "store.files": (515, "all system calls on durable files: one place for one thing"),
    "errors": (460, "all of them, in one tree"),
    "limited": (400, "a message in hand, and the turn that may lose it: one protocol"),
    "interrupts": (520, "the proof that no interrupt is late must stand beside all it is about"),
    "store.segments": (385, "the walk over records and damages is one thing"),
    "store.directory": (410, "one lock over all of it"),
    "store.atomic": (405, "what a user of a store may call, most of it docstrings"),
}
"""Modules above MAX_LINES: how long they may be, and why."""


class Import(NamedTuple):
    """What one import statement needs: a module of the package, or one from outside."""

    target: str
    own: bool
    late: bool
    line: int


def names() -> list[str]:
    """All modules, without the leading `kompyct.`; the package itself is ''."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found.append(".".join(part for part in parts if part != "__init__"))
    return found


def source(name: str) -> str:
    path = PACKAGE.joinpath(*name.split(".")) if name else PACKAGE
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(source(name))


@cache
def imports(name: str) -> tuple[Import, ...]:
    """What module `name` imports at run time; `if TYPE_CHECKING:` is left out."""
    found: list[Import] = []

    def visit(node: ast.AST, late: bool) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.orelse:
                visit(statement, late)
            return
        if isinstance(node, ast.Import):
            found.extend(an_import(alias.name, late, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = whole.removeprefix("kompyct.") in LAYER
                found.append(
                    an_import(whole if is_module else str(node.module), late, node.lineno)
                )
        inside = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(tree(name), False)
    return tuple(found)


def an_import(target: str, late: bool, line: int) -> Import:
    package, _, rest = target.partition(".")
    own = package == "kompyct"
    return Import(rest if own else package, own, late, line)


def needs(name: str) -> set[str]:
    """The modules of the package that are imported when `name` is."""
    return {found.target for found in imports(name) if found.own and not found.late}


def test_every_module_has_its_layer() -> None:
    """DESIGN.md, "Layout": Given the files of the package, then each is in the table above."""
    assert sorted(LAYER) == [name for name in names() if name]


def test_no_module_imports_from_a_higher_layer() -> None:
    """DESIGN.md, "Layout": Given an import at run time, then it does not go up a layer."""
    upward = [
        f"{name} (L{LAYER[name]}) imports {found.target} (L{LAYER[found.target]})"
        for name in LAYER
        for found in imports(name)
        if found.own and LAYER[found.target] > LAYER[name]
    ]
    assert upward == []


def test_no_module_imports_the_package_itself() -> None:
    """Given `kompyct/__init__.py`, which knows all modules, then no module needs it."""
    assert [name for name in LAYER if "" in {found.target for found in imports(name)}] == []
    assert needs("") == {"version"}


def test_modules_do_not_import_each_other_in_circles() -> None:
    """CONVENTIONS.md 2: Given the imports within a layer, then they have an order."""
    done: set[str] = set()

    def follow(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join((*path, name))}"
        if name not in done:
            for needed in sorted(needs(name)):
                follow(needed, (*path, name))
            done.add(name)

    for name in LAYER:
        follow(name, ())
    assert done == set(LAYER)


def test_the_vocabulary_needs_only_the_standard_library() -> None:
    """DESIGN.md, "Layout": Given layer 0, then it imports no package from outside."""
    for name in LAYERS[0].split():
        outside = {found.target for found in imports(name) if not found.own}
        assert outside <= sys.stdlib_module_names, name
    assert imports("errors") == ()  # CONVENTIONS.md 10: a leaf


def test_each_outside_package_is_imported_by_its_owners_only() -> None:
    """CONVENTIONS.md 2: Given pykka and cloudpickle, then they are imported where they belong."""
    users: dict[str, set[str]] = {}
    for name in names():
        for found in imports(name):
            if not found.own and found.target not in sys.stdlib_module_names:
                users.setdefault(found.target, set()).add(name)
    assert users == OWNERS


def test_imports_inside_functions_are_those_that_are_allowed() -> None:
    """S-37: Given an import in a function, then it is one of the listed, each with a reason."""
    late = {(name, found.target) for name in names() for found in imports(name) if found.late}
    assert late == set(LATE)


def test_modules_are_imported_by_name_in_two_places_only() -> None:
    """S-37: Given `import_module`, then it is in `__getattr__` or the table of backends."""
    users = {
        name
        for name in names()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call) and "import" in ast.unparse(node.func)
    }
    assert users == BY_NAME


def test_nothing_prints_but_the_command_line() -> None:
    """CONVENTIONS.md 3: Given any module but that of the commands, then it calls no `print`."""
    lines = [
        f"{name}:{node.lineno}"
        for name in names()
        if name != "commands"
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert lines == []


@pytest.mark.parametrize("name", [name for name in names() if name])
def test_a_module_states_the_question_it_answers(name: str) -> None:
    """CONVENTIONS.md 1: Given the first line of its docstring, then there is a question in it."""
    assert "?" in (ast.get_docstring(tree(name)) or "").split("\n")[0]


@pytest.mark.parametrize("name", names())
def test_a_module_is_no_longer_than_it_may_be(name: str) -> None:
    """CONVENTIONS.md 1: Given about 300 lines at most, then a longer one is listed with why."""
    allowed, _ = LONGER.get(name, (MAX_LINES, ""))
    assert len(source(name).splitlines()) <= allowed


def test_the_list_of_longer_modules_has_no_stale_entries() -> None:
    """Given a module that has become short enough, then it is taken off the list."""
    assert [name for name in LONGER if len(source(name).splitlines()) <= MAX_LINES] == []


DURABLE_CALLS = {
    "fchmod", "fchown", "fdatasync", "fsync", "ftruncate", "link", "mkdir", "open", "pread",
    "pwrite", "read", "remove", "rename", "replace", "rmdir", "symlink", "truncate", "unlink",
    "write",
}  # fmt: skip


def test_the_system_calls_on_durable_files_are_in_one_module() -> None:
    """Issue 3: so that the fault harnesses see every one. `store.locks` has those on files that
    exist for being locked only, the command line silences a closed pipe, and processes share
    pipes and memory that no disk has."""
    users = {
        name
        for name in names()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == "os"
        and node.func.attr in DURABLE_CALLS
    }
    durable = {name for name in users if not name.startswith("processes.")}
    assert durable == {"store.files", "store.locks", "commands"}
