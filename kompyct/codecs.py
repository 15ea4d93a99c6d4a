"""How does a snapshot become bytes, and a value again?

The bytes say themselves how they were made, so that they can be decoded wherever they turn up:
a plain pickle begins with its own mark, everything else with one of the tags below. Snapshots are
encoded in the same way at every level of durability, so that recovery sees the same value after
an exception as after a power cut (S-28).
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, Literal, Protocol

from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    SnapshotError,
    UnpicklableError,
    VersionError,
)

_CLOUDPICKLE = b"\x01"  # then the version of Python, two bytes, and a pickle
_BUFFERS = b"\x02"  # then how many buffers, the sizes of pickle and buffers, and all of them
_JSON = b"\x03"  # then json in UTF-8
_PAIR = b"\x04"  # then the length of a name, two bytes, the name, and what `dumps` made

_PYTHON = bytes(sys.version_info[:2])


class DumpsLoads(Protocol):
    """Anything that makes bytes of a value and a value of bytes: a module, an object."""

    def dumps(self, value: Any, /) -> bytes | str:
        """Encode `value`."""
        ...

    def loads(self, data: Any, /) -> Any:
        """Decode what `dumps` has made."""
        ...


class Codec(Protocol):
    """What a system encodes its snapshots with."""

    def encode(self, value: Any, /) -> bytes:
        """The bytes of `value`, which say themselves how to decode them."""
        ...

    def decode(self, data: bytes, /) -> Any:
        """The value in `data`: a new one at each call."""
        ...


def encode(value: Any) -> bytes:
    """`value` by pickle protocol 5, or by cloudpickle where that cannot.

    Buffers, such as those of arrays, are put beside the pickle, copied once.

    Raises:
        SnapshotError: neither can.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(value, 5, buffer_callback=buffers.append)
        return _with_buffers(data, buffers) if buffers else data
    except Exception as error:  # TypeError, AttributeError, whatever __reduce__ raises
        return by_cloudpickle(value, error)


def encode_in_parts(value: Any) -> tuple[bytes | memoryview, ...]:
    """What `encode` makes, in parts to be put one after the other: large buffers uncopied.

    Raises:
        SnapshotError: as `encode`.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(value, 5, buffer_callback=buffers.append)
        return _parts(data, buffers) if buffers else (data,)
    except Exception as error:
        return (by_cloudpickle(value, error),)


def by_cloudpickle(value: Any, error: Exception | None = None) -> bytes:
    """`value` by cloudpickle, which takes functions and classes along; for this Python only.

    Args:
        error: what was raised where pickle was tried.

    Raises:
        SnapshotError: it cannot.
        Exception: `error`, if it is that of a handler of a signal, and pickle can.
    """
    if error is not None and _is_of_handler(error, value):
        raise error
    import cloudpickle  # the one owner of it; 25 ms that most programs never need

    try:
        return _CLOUDPICKLE + _PYTHON + bytes(cloudpickle.dumps(value, 5))
    except Exception as error:
        raise SnapshotError(
            f"a {type(value).__qualname__} cannot be pickled ({type(error).__name__}); "
            "save plain data"
        ) from error


def _is_of_handler(error: Exception, value: Any) -> bool:
    """Whether `error` comes of Python code that was run, and there is none that must raise it."""
    traceback = error.__traceback__
    if traceback is None or traceback.tb_next is None:  # pickle itself has raised it
        return False
    try:
        pickle.dumps(value, 5)
    except Exception:
        return False
    return True


def for_child(value: Any, *, main_by_name: bool) -> bytes:
    """`value` for a child process: by pickle, or by cloudpickle where that cannot.

    Args:
        main_by_name: whether the child has this program's main module as well. What belongs to
            it is then found there by its name: cloudpickle would make a second one of it, and
            messages would be of other classes than the component knows.

    Raises:
        SnapshotError: neither can.
    """
    if not main_by_name:
        return by_cloudpickle(value)
    try:
        return pickle.dumps(value, 5)
    except Exception:  # as in `encode`
        pass
    import cloudpickle  # the one owner of it; 25 ms that most programs never need

    class ByName(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if getattr(obj, "__module__", None) == "__main__" and (
                isinstance(obj, type | FunctionType)
            ):
                name = obj.__qualname__
                if _look_up("__main__", name) is obj:
                    return _look_up, ("__main__", name)
            return super().reducer_override(obj)

    try:
        with io.BytesIO() as file:
            ByName(file, 5).dump(value)
            return _CLOUDPICKLE + _PYTHON + file.getvalue()
    except Exception as error:
        raise SnapshotError(
            f"a {type(value).__qualname__} cannot be pickled ({type(error).__name__}: {error})"
        ) from error


def _look_up(module: str, qualname: str) -> Any:
    """What has that name in a module that is loaded; None if nothing has."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def unreadable_reply(error: Exception) -> UnpicklableError:
    """The error for who asked, if what `decode` raised of the reply is `error`."""
    cause = error.__cause__ or error
    unreadable = UnpicklableError(
        f"the reply cannot be unpickled in the asker's process ({type(cause).__name__}: {cause}); "
        "reply with plain data"
    )
    unreadable.__cause__ = cause
    return unreadable


def load_cloudpickle() -> None:
    """Import it now; for a process that is to be copied."""
    import cloudpickle  # noqa: F401  # the one owner of it


def decode(data: bytes) -> Any:
    """The value that `encode` was given: a new copy at each call.

    Raises:
        SnapshotError: it cannot be built again.
        VersionError: it was pickled by cloudpickle under another Python.
    """
    tag = data[:1]
    try:
        if tag == _JSON:
            return json.loads(data[1:])
        if tag == _CLOUDPICKLE:
            _check_python(data[1:3])
            return pickle.loads(data[3:])
        if tag == _BUFFERS:
            return _from_buffers(data)
        if tag == _PAIR:
            raise SnapshotError(
                f"a snapshot was encoded by {name_of(data)}; give that as codec= to the system"
            )
        return pickle.loads(data)
    except (SnapshotError, VersionError):
        raise
    except Exception as error:
        raise SnapshotError(
            f"a snapshot of {len(data)} bytes cannot be decoded ({type(error).__name__}); "
            "see the cause"
        ) from error


def name_of(data: bytes) -> str:
    """By which codec `data` was encoded."""
    if data[:1] == _PAIR:
        size = int.from_bytes(data[1:3], "little")
        return data[3 : 3 + size].decode("utf-8", "replace")
    return _NAMES.get(data[:1], "pickle")


_NAMES = {_CLOUDPICKLE: "cloudpickle", _BUFFERS: "pickle with buffers", _JSON: "json"}


def codec_for(choice: Literal["pickle", "json"] | DumpsLoads) -> Codec:
    """The codec that a system was given.

    Raises:
        ArgumentError, ArgumentTypeError: there is none of that name, or it has not both `dumps`
            and `loads`.
    """
    if choice == "pickle":
        return PICKLE
    if choice == "json":
        return _Chosen(_to_json)
    if isinstance(choice, str):
        raise ArgumentError(f"codec is {choice!r}; give 'pickle', 'json', or dumps and loads")
    if not (callable(getattr(choice, "dumps", None)) and callable(getattr(choice, "loads", None))):
        raise ArgumentTypeError(f"codec is {choice!r}; give something with dumps and loads")
    return _Pair(choice)


class _Chosen:
    """Encodes by one function, decodes whatever says how it was made."""

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        self.encode = encode
        self.decode = decode


PICKLE: Codec = _Chosen(encode)
"""What snapshots are encoded with unless the system was told otherwise."""


class _Pair:
    """Encodes by `dumps` of the user's, and decodes that by its `loads`."""

    def __init__(self, pair: DumpsLoads) -> None:
        self._pair = pair
        kind = pair if isinstance(pair, ModuleType | type) else type(pair)
        self._name = kind.__name__
        name = self._name.encode()
        self._head = _PAIR + len(name).to_bytes(2, "little") + name

    def encode(self, value: Any) -> bytes:
        """The bytes of `value`.

        Raises:
            SnapshotError: `dumps` raised, or returned neither bytes nor text.
        """
        try:
            data = self._pair.dumps(value)
            return self._head + (data.encode() if isinstance(data, str) else memoryview(data))
        except Exception as error:
            raise _cannot(value, self._name, error) from error

    def decode(self, data: bytes) -> Any:
        """The value in `data`.

        Raises:
            SnapshotError: `loads` raised.
            VersionError: as `decode` of the module.
        """
        if not data.startswith(self._head):
            return decode(data)
        try:
            return self._pair.loads(data[len(self._head) :])
        except Exception as error:
            raise SnapshotError(
                f"a snapshot of {len(data)} bytes cannot be decoded by {self._name} "
                f"({type(error).__name__}); see the cause"
            ) from error


def _to_json(value: Any) -> bytes:
    try:
        data = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
        check_keys(value)  # after it: that has found circles
        return _JSON + data
    except Exception as error:
        raise _cannot(value, "json", error) from error


def check_keys(value: Any) -> None:
    """Refuse what json would give back with other keys; `value` must not hold itself.

    Raises:
        TypeError: a key of a dict in it is no text.
    """
    left: list[Any] = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            for key in item:
                if not isinstance(key, str):
                    kind = type(key).__qualname__
                    raise TypeError(f"a key of type {kind} would become text; give text keys")
            left.extend(item.values())
        elif isinstance(item, list | tuple):
            left.extend(item)


def _cannot(value: Any, name: str, error: Exception) -> SnapshotError:
    return SnapshotError(
        f"a snapshot of type {type(value).__qualname__} cannot be encoded by {name} "
        f"({type(error).__name__}: see the cause); save plain data"
    )


def _check_python(version: bytes) -> None:
    if version != _PYTHON:
        written = ".".join(map(str, version))
        raise VersionError(
            f"pickled by cloudpickle under Python {written}, and this is "
            f"{'.'.join(map(str, _PYTHON))}; start it once under that one, or save plain data",
            phase="decode",
        )


def _with_buffers(data: bytes, buffers: list[pickle.PickleBuffer]) -> bytes:
    return b"".join(_parts(data, buffers))


def _parts(data: bytes, buffers: list[pickle.PickleBuffer]) -> tuple[bytes | memoryview, ...]:
    raws = [buffer.raw() for buffer in buffers]
    sizes = (len(data), *(raw.nbytes for raw in raws))
    head = struct.pack(f"<I{len(sizes)}Q", len(raws), *sizes)
    return (_BUFFERS + head, data, *raws)


def _from_buffers(data: bytes) -> Any:
    (count,) = struct.unpack_from("<I", data, 1)
    sizes = struct.unpack_from(f"<{count + 1}Q", data, 5)
    at = 5 + 8 * (count + 1)
    parts = []
    for size in sizes:
        # Copied: what is built on it may be written to, and each value is one of its own.
        parts.append(bytearray(data[at : at + size]))
        at += size
    return pickle.loads(parts[0], buffers=parts[1:])
