"""Does a program written for atomic_store 0.0.1 work after changing the import?

What is expected comes from running the ancestor itself beside `kompyct.store` (S-36). Where they
differ on purpose, a test below shows both.
"""

from __future__ import annotations

import inspect
import io
import json
import math
import os
import pickle
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import kompyct.store
from kompyct.errors import ArgumentError, CorruptStoreError, KompyctError, StoreError

atomic_store = pytest.importorskip("atomic_store", reason="the ancestor is not installed")

Open = Callable[..., Any]
THEIRS: Open = atomic_store.open
OURS: Open = kompyct.store.open_store
BOTH = pytest.mark.parametrize("open_store", [THEIRS, OURS], ids=["atomic_store", "kompyct"])
NAMES = {"open": "open_store"}  # the one name that is another


def ours(name: str) -> Any:
    """What is called so in kompyct.store."""
    return getattr(kompyct.store, NAMES.get(name, name))


def run_both(folder: Path, program: Callable[[Open, Path], Any]) -> Any:
    """Run `program(open, folder)` against both, in folders of their own.

    Returns what it returned, the same for both; and the files it left are the same.
    """
    results, left = [], []
    for name, open_store in (("theirs", THEIRS), ("ours", OURS)):
        own = folder / name
        own.mkdir()
        results.append(program(open_store, own))
        left.append({entry.name: entry.read_bytes() for entry in own.iterdir()})
    assert results[0] == results[1]
    assert left[0] == left[1]
    return results[1]


# -- names ----------------------------------------------------------------------------------


def parameters(function: Any) -> list[tuple[str, Any]]:
    """The names and defaults of what can be given by position."""
    found = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [(one.name, one.default) for one in found if one.kind in kinds]


def public(thing: Any) -> set[str]:
    """Its public names, and what makes it a context manager."""
    return {name for name in dir(thing) if name[0] != "_" or name in ("__enter__", "__exit__")}


def test_every_public_name_is_there() -> None:
    """S-36: every public name of the ancestor's source; `open` is `open_store`."""
    assert set(atomic_store.__all__) == {
        "AbstractFormatBstr",
        "AbstractFormatFile",
        "AtomicStore",
        "WrapBinaryFormat",
        "open",
    }
    for name in atomic_store.__all__:
        assert NAMES.get(name, name) in kompyct.store.__all__
        assert callable(ours(name))


@pytest.mark.parametrize("name", atomic_store.__all__)
def test_every_parameter_has_its_name_place_and_default(name: str) -> None:
    """S-36: the same parameters in the same order; what is new is by keyword only."""
    theirs, here = getattr(atomic_store, name), ours(name)
    assert parameters(here) == parameters(theirs)


CLASSES = [name for name in atomic_store.__all__ if inspect.isclass(getattr(atomic_store, name))]


@pytest.mark.parametrize("name", CLASSES)
def test_every_method_has_its_name_and_parameters(name: str) -> None:
    """S-36: the same methods with the same parameters, `**kwargs` included.

    Those of `__exit__` have no names to call them by.
    """
    theirs, here = getattr(atomic_store, name), ours(name)
    assert public(theirs) <= public(here)
    for method in public(theirs):
        one, other = getattr(theirs, method), getattr(here, method)
        if method == "__exit__":
            assert len(parameters(one)) == len(parameters(other)) == 4
            continue
        assert parameters(one) == parameters(other), method
        kinds = [
            [each.kind for each in inspect.signature(of).parameters.values()]
            for of in (one, other)
        ]
        assert kinds[0] == kinds[1], method


def test_every_attribute_is_there_and_has_its_value(tmp_path: Path) -> None:
    """S-36: the attributes of a store, as they were given."""
    load_kwargs: dict[str, Any] = {"parse_int": float}
    dump_kwargs: dict[str, Any] = {"indent": 1}
    path = tmp_path / "state"
    arguments = (path, [1], "json", None, load_kwargs, dump_kwargs, True)
    theirs, here = THEIRS(*arguments), OURS(*arguments)
    assert set(vars(theirs)) <= {*vars(here), *public(here)}
    for name in set(vars(theirs)) - {"format"}:
        assert getattr(theirs, name) == getattr(here, name), name
    assert {"dump", "load"} <= public(here.format)


def test_every_attribute_of_the_wrapper_is_there() -> None:
    """S-36: `format_bstr` is what was wrapped."""
    for wrapper in (atomic_store.WrapBinaryFormat, kompyct.store.WrapBinaryFormat):
        assert wrapper(format_bstr=json).format_bstr is json


def test_a_store_can_be_made_by_the_class(tmp_path: Path) -> None:
    """S-36: the class is public; its seven parameters by position and by name."""
    for kind in (atomic_store.AtomicStore, kompyct.store.AtomicStore):
        path = tmp_path / kind.__module__
        store = kind(path, [1], json, False, {}, {}, False)
        store.commit()
        again = kind(
            path=path,
            default=None,
            format=json,
            is_binary=False,
            load_kwargs={},
            dump_kwargs={"indent": 1},
            ignore_inner_exits=None,
        )
        assert again.value == [1]
        again.commit()
        assert path.read_text() == "[\n 1\n]"


def test_what_open_returns_is_the_public_class(tmp_path: Path) -> None:
    """S-36: for `isinstance`."""
    assert isinstance(OURS(tmp_path / "state"), kompyct.store.AtomicStore)


# -- the same programs ------------------------------------------------------------------------


def test_a_store_as_a_context_manager(tmp_path: Path) -> None:
    """S-36: entering changes no file, leaving writes what has become of the value."""

    def program(open_store: Open, folder: Path) -> Any:
        seen = []
        for entry in ("monday", "tuesday"):
            with open_store(folder / "log.json", default=[]) as store:
                seen.append(list(store.value))
                store.value.append(entry)
                seen.append(sorted(os.listdir(folder)))
        return seen

    assert run_both(tmp_path, program) == [[], [], ["monday"], ["log.json"]]
    assert (tmp_path / "ours" / "log.json").read_text() == '["monday", "tuesday"]'


def test_a_store_by_hand(tmp_path: Path) -> None:
    """S-36: only `commit()` writes, as often as it is called, and what is there then."""

    def program(open_store: Open, folder: Path) -> Any:
        path = folder / "job.json"
        store = open_store(path, default={})
        seen = []
        for step in ("begun", "ended"):
            store.value["step"] = step
            seen.append(path.read_text() if path.exists() else None)
            store.commit()
            seen.append(path.read_text())
        store.value["step"] = "never written"
        return seen

    begun, ended = '{"step": "begun"}', '{"step": "ended"}'
    assert run_both(tmp_path, program) == [None, begun, begun, ended]


def test_a_commit_within_a_context(tmp_path: Path) -> None:
    """S-36: `commit()` works there as well."""

    def program(open_store: Open, folder: Path) -> Any:
        path = folder / "state"
        with open_store(path, 0) as store:
            store.value = 1
            store.commit()
            between = path.read_text()
            store.value = 2
        return between, path.read_text()

    assert run_both(tmp_path, program) == ("1", "2")


@pytest.mark.parametrize(
    ("ignore_inner_exits", "after_inner"),
    [(None, '"inner"'), (False, '"inner"'), (True, '"before"')],
)
def test_a_store_entered_twice(
    tmp_path: Path, ignore_inner_exits: bool | None, after_inner: str
) -> None:
    """S-36, S-30: inner exits keep the ancestor's rules."""

    def program(open_store: Open, folder: Path) -> Any:
        path = folder / "state"
        path.write_text('"before"')
        store = open_store(path, ignore_inner_exits=ignore_inner_exits)
        seen = [(store.level, path.read_text())]
        with store as outer:
            outer.value = "outer"
            seen.append((store.level, path.read_text()))
            with store as inner:
                assert inner is outer is store
                inner.value = "inner"
                seen.append((store.level, path.read_text()))
            seen.append((store.level, path.read_text()))
            outer.value = "outer again"
        seen.append((store.level, path.read_text()))
        return seen

    assert run_both(tmp_path, program) == [
        (0, '"before"'),
        (1, '"before"'),
        (2, '"before"'),
        (1, after_inner),
        (0, '"outer again"'),
    ]


def test_two_stores_of_one_file(tmp_path: Path) -> None:
    """S-36: plain commits of several stores: the last one is in the file."""

    def program(open_store: Open, folder: Path) -> Any:
        with open_store(folder / "state", []) as one:
            with open_store(folder / "state", []) as other:
                other.value.append("other")
            one.value.append("one")
        return open_store(folder / "state").value

    assert run_both(tmp_path, program) == ["one"]


VALUES: list[Any] = [
    None,
    True,
    0,
    -1.5,
    10**30,
    "",
    "é\u2028😀\ud800",
    "a\r\nb\nc\r",
    [],
    [1, [2, [3]]],
    {},
    {"": {"a": [None]}},
    [0.1, 1e300, 5e-324],
]


@pytest.mark.parametrize("format", [None, "json", json, "pickle", pickle], ids=repr)
def test_the_named_formats_write_the_same_files(tmp_path: Path, format: Any) -> None:
    """S-36: by name and by module; the files are the same byte for byte."""

    def program(open_store: Open, folder: Path) -> Any:
        back = []
        for number, value in enumerate(VALUES):
            store = open_store(folder / str(number), format=format)
            store.value = value
            store.commit()
            back.append(open_store(folder / str(number), format=format).value)
        return back

    assert run_both(tmp_path, program) == VALUES


@BOTH
@pytest.mark.parametrize("format", [None, "pickle"])
def test_either_reads_what_the_other_has_written(
    tmp_path: Path, open_store: Open, format: Any
) -> None:
    """S-36: an existing file is taken over, and can be given back."""
    other = OURS if open_store is THEIRS else THEIRS
    value = {"a": [1, None, "é"]}
    open_store(tmp_path / "state", value, format).commit()
    assert other(tmp_path / "state", "default", format).value == value


@pytest.mark.parametrize("how", ["name", "module"])
def test_bson_by_name_and_by_module(tmp_path: Path, how: str) -> None:
    """Issue 3, scope 1: bson works with pymongo's package, named or given as it is.

    The ancestor wants the package of that name, which has `dumps` and `loads`; pymongo's has
    `encode` and `decode`. The bytes are those of bsonspec.org: length, type, name, value, NUL.
    """
    bson = pytest.importorskip("bson")
    format = "bson" if how == "name" else bson
    path = tmp_path / "state"
    OURS(path, {"a": 1}, format).commit()
    assert path.read_bytes() == b"\x0c\0\0\0\x10a\0\x01\0\0\0\0"
    assert OURS(path, format=format).value == {"a": 1}
    if not hasattr(bson, "dumps"):
        like = SimpleNamespace(dumps=bson.encode, loads=bson.decode)
        assert THEIRS(path, format=like).value == {"a": 1}


class Reversed:
    """A format with `dumps` and `loads` of bytes."""

    def dumps(self, obj: Any, *, mark: bytes = b"") -> bytes:
        return mark + repr(obj)[::-1].encode()

    def loads(self, binary_string: bytes, *, skip: int = 0) -> Any:
        return int(binary_string[skip:].decode()[::-1])


class Lines:
    """A format with `dump` and `load` of files of bytes."""

    def dump(self, obj: Any, fp: Any, *, end: bytes = b"\n") -> None:
        for item in obj:
            fp.write(item.encode() + end)

    def load(self, fp: Any, *, strip: bytes = b"\n") -> Any:
        return [line.rstrip(strip).decode() for line in fp]


class TextLines:
    """A format with `dump` and `load` of files of text."""

    def dump(self, obj: Any, fp: Any) -> None:
        for item in obj:
            print(item, file=fp)

    def load(self, fp: Any) -> Any:
        return fp.read().splitlines()


class Text:
    """A format with `dumps` and `loads` of text."""

    def dumps(self, obj: int) -> str:
        return "€" * obj

    def loads(self, binary_string: str) -> Any:
        assert isinstance(binary_string, str)
        return len(binary_string)


class All(Lines):
    """A format with all four; those of files are used."""

    def dumps(self, obj: Any) -> bytes:
        raise AssertionError

    def loads(self, binary_string: bytes) -> Any:
        raise AssertionError


FORMATS: dict[str, tuple[Any, Any, bool | None, bytes]] = {
    "dumps": (Reversed(), 123, None, b"321"),
    "dump": (Lines(), ["a", "b"], None, b"a\nb\n"),
    "namespace": (
        SimpleNamespace(dumps=lambda obj: bytes(obj), loads=list),
        [1, 2],
        None,
        b"\1\2",
    ),
    "text file": (TextLines(), ["é", "b"], False, "é\nb\n".encode()),
    "text": (Text(), 2, False, "€€".encode()),
    "all four": (All(), ["a"], True, b"a\n"),
    "wrapped json as text": (kompyct.store.WrapBinaryFormat(json), [1], False, b"[1]"),
    "their wrapper": (atomic_store.WrapBinaryFormat(Reversed()), 12, None, b"21"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_any_object_or_module_with_the_right_functions_is_a_format(
    tmp_path: Path, name: str
) -> None:
    """S-36: `dump` and `load`, or `dumps` and `loads`; binary unless `is_binary=False`."""
    format, value, is_binary, content = FORMATS[name]

    def program(open_store: Open, folder: Path) -> Any:
        with open_store(folder / "state", value, format, is_binary) as store:
            assert store.value == value
        return open_store(folder / "state", None, format, is_binary).value

    assert run_both(tmp_path, program) == value
    assert (tmp_path / "ours" / "state").read_bytes() == content


@pytest.mark.parametrize("base", ["AbstractFormatBstr", "AbstractFormatFile"])
def test_the_abstract_classes_can_be_subclassed(tmp_path: Path, base: str) -> None:
    """S-36: each with what its kind of format has."""
    kind = Reversed if base == "AbstractFormatBstr" else Lines
    value: Any = 45 if base == "AbstractFormatBstr" else ["x"]

    def program(open_store: Open, folder: Path) -> Any:
        module = atomic_store if open_store is THEIRS else kompyct.store
        format = type("Own", (kind, getattr(module, base)), {})()
        assert isinstance(format, getattr(module, base))
        open_store(folder / "state", value, format).commit()
        return open_store(folder / "state", format=format).value

    assert run_both(tmp_path, program) == value


@pytest.mark.parametrize(
    ("base", "method", "arguments"),
    [
        ("AbstractFormatBstr", "dumps", (1,)),
        ("AbstractFormatBstr", "loads", (b"",)),
        ("AbstractFormatFile", "dump", (1, io.BytesIO())),
        ("AbstractFormatFile", "load", (io.BytesIO(),)),
    ],
)
def test_the_abstract_methods_are_not_implemented(
    base: str, method: str, arguments: tuple[Any, ...]
) -> None:
    """S-36: with any options."""
    for module in (atomic_store, kompyct.store):
        with pytest.raises(NotImplementedError):
            getattr(getattr(module, base)(), method)(*arguments, any=1)


def test_options_go_to_dump_and_load(tmp_path: Path) -> None:
    """S-36: `dump_kwargs`, `load_kwargs`, for every kind of format."""
    old_pickle = b"\x80\x02U\x01\xe9q\x00."  # Python 2's "\xe9"

    def program(open_store: Open, folder: Path) -> Any:
        back = []
        store = open_store(
            folder / "1", {"b": 1, "a": [2]}, dump_kwargs={"separators": (",", ":")}
        )
        store.commit()
        store = open_store(folder / "2", {"b": "é"}, dump_kwargs={"indent": 2, "sort_keys": True})
        store.commit()
        store = open_store(folder / "3", {"b": "é"}, dump_kwargs={"ensure_ascii": False})
        store.commit()
        back.append(open_store(folder / "1", load_kwargs={"parse_int": str}).value)
        store = open_store(folder / "4", [1], "pickle", dump_kwargs={"protocol": 0})
        store.commit()
        (folder / "5").write_bytes(old_pickle)
        back.append(open_store(folder / "5", None, "pickle", None, {"encoding": "latin-1"}).value)
        options: dict[str, Any] = {"dump_kwargs": {"mark": b">>"}, "load_kwargs": {"skip": 2}}
        open_store(folder / "6", 12, Reversed(), **options).commit()
        back.append(open_store(folder / "6", format=Reversed(), **options).value)
        return back

    assert run_both(tmp_path, program) == [{"b": "1", "a": ["2"]}, "é", 12]
    assert (tmp_path / "ours" / "1").read_text() == '{"b":1,"a":[2]}'
    assert (tmp_path / "ours" / "3").read_text("utf-8") == '{"b": "é"}'


@pytest.mark.parametrize("kind", [str, Path, os.fsencode], ids=["text", "path", "bytes"])
def test_a_path_is_text_or_a_path(tmp_path: Path, kind: Callable[[Any], Any]) -> None:
    """S-36: `path` is given in any of the forms that `open` of Python takes."""
    if kind is os.fsencode:
        store = OURS(kind(tmp_path / "state"), 1)  # the ancestor's AtomicWriter takes no bytes
        store.commit()
        assert OURS(tmp_path / "state").value == 1
        return

    def program(open_store: Open, folder: Path) -> Any:
        path = kind(folder / "state")
        open_store(path, 1).commit()
        store = open_store(path)
        return store.value, store.path == path

    assert run_both(tmp_path, program) == (1, True)


@BOTH
def test_the_default_is_for_a_missing_file_only(tmp_path: Path, open_store: Open) -> None:
    """S-36: a file that holds null has the value None; without a default it is None too."""
    (tmp_path / "state").write_text("null")
    assert open_store(tmp_path / "state", default=3).value is None
    assert open_store(tmp_path / "missing", default=3).value == 3
    assert open_store(tmp_path / "missing").value is None
    assert not (tmp_path / "missing").exists()


@BOTH
def test_a_file_of_another_user_of_text_is_read(tmp_path: Path, open_store: Open) -> None:
    """S-36: json by hand, with a line feed at its end and blanks."""
    (tmp_path / "state").write_text(' {"a" :\r\n 1}\n')
    assert open_store(tmp_path / "state").value == {"a": 1}


@BOTH
def test_a_format_that_is_none_is_a_value_error(tmp_path: Path, open_store: Open) -> None:
    """S-36: `except ValueError` still catches it."""
    for format in ("yaml", 3, object(), SimpleNamespace(dump=print)):
        with pytest.raises(ValueError, match=r"(?i)format"):
            open_store(tmp_path / "state", format=format)


@BOTH
def test_a_file_that_does_not_decode_is_a_value_error(tmp_path: Path, open_store: Open) -> None:
    """S-36: json's own is a `ValueError`, and so is `CorruptStoreError`."""
    (tmp_path / "state").write_text("{")
    with pytest.raises(ValueError):  # noqa: PT011  two libraries, two texts
        open_store(tmp_path / "state")


@BOTH
def test_a_folder_that_is_missing_is_an_os_error(tmp_path: Path, open_store: Open) -> None:
    """S-36: `except OSError` still catches it, with its number."""
    with pytest.raises(OSError, match="No such file") as caught:
        open_store(tmp_path / "missing" / "state", 1).commit()
    assert caught.value.errno == 2


@BOTH
def test_no_temporary_is_left_by_a_value_that_cannot_be_encoded(
    tmp_path: Path, open_store: Open
) -> None:
    """S-36: the old file is whole, the value stays."""
    store = open_store(tmp_path / "state", [1])
    store.commit()
    store.value = {1, 2}
    with pytest.raises((TypeError, StoreError)):
        store.commit()
    assert store.value == {1, 2}
    assert (tmp_path / "state").read_text() == "[1]"
    assert os.listdir(tmp_path) == ["state"]


# -- where they differ on purpose -------------------------------------------------------------


@pytest.mark.parametrize(
    ("open_store", "committed"), [(THEIRS, [1, 2]), (OURS, [1])], ids=["theirs", "ours"]
)
def test_difference_an_exception_commits_nothing(
    tmp_path: Path, open_store: Open, committed: list[int]
) -> None:
    """S-30: the ancestor commits the half-changed value (RELIABILITY 1, facts measured)."""
    store = open_store(tmp_path / "state", [1])
    store.commit()

    def fail() -> None:
        with store:
            store.value.append(2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.value == committed
    assert open_store(tmp_path / "state").value == committed


@pytest.mark.parametrize(
    ("open_store", "mode"), [(THEIRS, 0o600), (OURS, 0o640)], ids=["theirs", "ours"]
)
def test_difference_the_mode_is_kept(tmp_path: Path, open_store: Open, mode: int) -> None:
    """RELIABILITY 4: the ancestor's file becomes 0600."""
    path = tmp_path / "state"
    path.write_text("1")
    path.chmod(0o640)
    open_store(path).commit()
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize(
    ("open_store", "kept"), [(THEIRS, False), (OURS, True)], ids=["theirs", "ours"]
)
def test_difference_links_are_kept(tmp_path: Path, open_store: Open, kept: bool) -> None:
    """Issue 3, scope 1: the ancestor replaces a symbolic link by a file."""
    link, path = tmp_path / "link", tmp_path / "state"
    path.write_text("1")
    link.symlink_to("state")
    store = open_store(link)
    store.value = 2
    store.commit()
    assert link.is_symlink() is kept
    assert path.read_text() == ("2" if kept else "1")
    assert link.read_text() == "2"


@pytest.mark.parametrize(
    ("open_store", "after"), [(THEIRS, [1]), (OURS, [])], ids=["theirs", "ours"]
)
def test_difference_the_default_is_copied(
    tmp_path: Path, open_store: Open, after: list[int]
) -> None:
    """Issue 3, scope 1: the ancestor changes what was given as the default."""
    default: list[int] = []
    open_store(tmp_path / "state", default).value.append(1)
    assert default == after


def test_difference_a_default_must_be_one_that_can_be_copied(tmp_path: Path) -> None:
    """Issue 3, scope 1: the default is copied; the ancestor takes anything."""
    lock = threading.Lock()
    assert THEIRS(tmp_path / "state", lock).value is lock
    with pytest.raises(TypeError, match="default"):
        OURS(tmp_path / "state", lock)


@pytest.mark.parametrize(
    ("value", "back"),
    [({1: "a"}, {"1": "a"}), ({None: 1}, {"null": 1}), ({1: "a", "1": "b"}, {"1": "b"})],
    ids=repr,
)
def test_difference_json_refuses_keys_that_are_no_text(
    tmp_path: Path, value: Any, back: Any
) -> None:
    """Issue 3, bad input: with the ancestor they come back as text, or get lost."""
    THEIRS(tmp_path / "theirs", value).commit()
    assert THEIRS(tmp_path / "theirs").value == back
    with pytest.raises(StoreError):
        OURS(tmp_path / "ours", value).commit()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_difference_json_refuses_nan_and_infinities(tmp_path: Path, value: float) -> None:
    """Issue 3, bad input: RFC 8259 has no such numbers. `allow_nan` gives the ancestor's file,
    and files of the ancestor's that hold them are still read."""
    THEIRS(tmp_path / "theirs", [value]).commit()
    with pytest.raises(StoreError):
        OURS(tmp_path / "ours", [value]).commit()
    OURS(tmp_path / "ours", [value], dump_kwargs={"allow_nan": True}).commit()
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert repr(OURS(tmp_path / "theirs").value) == repr([value])


@pytest.mark.parametrize(
    ("value", "theirs"), [({1, 2}, TypeError), ({(1, 2): 3}, TypeError)], ids=repr
)
def test_difference_what_cannot_be_encoded_is_a_store_error(
    tmp_path: Path, value: Any, theirs: type[Exception]
) -> None:
    """RELIABILITY 1: one class, the format's own error as its cause."""
    with pytest.raises(theirs):
        THEIRS(tmp_path / "theirs", value).commit()
    with pytest.raises(StoreError) as caught:
        OURS(tmp_path / "ours", value).commit()
    assert isinstance(caught.value.__cause__, theirs)


def test_difference_errors_are_of_one_tree(tmp_path: Path) -> None:
    """CONVENTIONS 10: one tree; the classes that the ancestor let out are still among theirs."""
    (tmp_path / "state").write_bytes(b"not a pickle")
    with pytest.raises(pickle.UnpicklingError):
        THEIRS(tmp_path / "state", format="pickle")
    with pytest.raises(CorruptStoreError) as caught:
        OURS(tmp_path / "state", format="pickle")
    assert isinstance(caught.value.__cause__, pickle.UnpicklingError)
    with pytest.raises(ArgumentError) as wrong:
        OURS(tmp_path / "state", format="yaml")
    assert isinstance(wrong.value, KompyctError)


def test_difference_pickles_that_others_can_write_are_refused(tmp_path: Path) -> None:
    """S-28: naming pickle in a drop-in interface means `trust="local"`."""
    path = tmp_path / "state"
    THEIRS(path, 1, "pickle").commit()
    path.chmod(0o666)
    assert THEIRS(path, format="pickle").value == 1
    with pytest.raises(StoreError, match="chmod"):
        OURS(path, format="pickle")


@pytest.mark.parametrize(
    ("open_store", "where"), [(THEIRS, "second"), (OURS, "first")], ids=["theirs", "ours"]
)
def test_difference_a_relative_path_means_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_store: Open, where: str
) -> None:
    """Issue 3, scope 1: one value in one file, the one that was read, wherever one goes."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "first")
    store = open_store("state", 1)
    monkeypatch.chdir(tmp_path / "second")
    store.commit()
    assert [path.parent.name for path in tmp_path.glob("*/state")] == [where]


@pytest.mark.parametrize(
    ("open_store", "refused"), [(THEIRS, False), (OURS, True)], ids=["theirs", "ours"]
)
def test_difference_a_link_to_nothing_is_refused(
    tmp_path: Path, open_store: Open, refused: bool
) -> None:
    """Issue 3, bad input: the ancestor takes the default, and replaces the link at the commit."""
    link = tmp_path / "link"
    link.symlink_to("nothing")
    if refused:
        with pytest.raises(StoreError):
            open_store(link, 1)
    else:
        open_store(link, 1).commit()
    assert link.is_symlink() is refused
