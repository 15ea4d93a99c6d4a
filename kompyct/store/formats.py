"""How does the value of a store become the content of its file, and a value again?

Source: atomic_store 0.0.1, whose format classes and rules these are; new is that json refuses what
would come back as something else.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from typing import Any, Protocol

from kompyct.codecs import check_keys
from kompyct.errors import ArgumentError, BackendMissingError


class Format(Protocol):
    """What writes a value into a file object, and reads one from it."""

    def dump(self, obj: Any, fp: Any, **kwargs: Any) -> None:
        """Write `obj` into the file object `fp`."""

    def load(self, fp: Any, **kwargs: Any) -> Any:
        """Read a value from the file object `fp`."""


class AbstractFormatBstr:
    """The base of formats that make bytes of a value; text with `is_binary=False`."""

    def dumps(self, obj: Any, **kwargs: Any) -> Any:
        """Encode `obj`."""
        raise NotImplementedError(f"{type(self).__qualname__} has no dumps")

    def loads(self, binary_string: Any, **kwargs: Any) -> Any:
        """Decode what `dumps` has made."""
        raise NotImplementedError(f"{type(self).__qualname__} has no loads")


class AbstractFormatFile:
    """The base of formats that write into a file object; one of text with `is_binary=False`."""

    def dump(self, obj: Any, fp: Any, **kwargs: Any) -> None:
        """Encode `obj` into `fp`."""
        raise NotImplementedError(f"{type(self).__qualname__} has no dump")

    def load(self, fp: Any, **kwargs: Any) -> Any:
        """Decode from `fp`."""
        raise NotImplementedError(f"{type(self).__qualname__} has no load")


class WrapBinaryFormat:
    """Makes a format with `dump` and `load` of one with `dumps` and `loads`."""

    def __init__(self, format_bstr: Any) -> None:
        self.format_bstr = format_bstr

    def dump(self, obj: Any, fp: Any, **kwargs: Any) -> None:
        """Encode `obj` and write it into `fp`."""
        fp.write(self.format_bstr.dumps(obj, **kwargs))

    def load(self, fp: Any, **kwargs: Any) -> Any:
        """Read all of `fp` and decode it."""
        return self.format_bstr.loads(fp.read(), **kwargs)


class StrictJson:
    """The standard library's json, but for what would not come back as it was.

    NaN and infinities are no json; `allow_nan=True` in `dump_kwargs` writes them all the same.
    Keys that are no text would come back as text.
    """

    def dump(self, obj: Any, fp: Any, **kwargs: Any) -> None:
        """Encode `obj` into `fp`.

        Raises:
            ValueError, TypeError: it would not come back as it was.
        """
        kwargs.setdefault("allow_nan", False)
        text = json.dumps(obj, **kwargs)
        if not kwargs.get("skipkeys"):
            check_keys(obj)  # after it: that has found circles
        fp.write(text)

    def load(self, fp: Any, **kwargs: Any) -> Any:
        """Decode from `fp`."""
        return json.load(fp, **kwargs)


def resolve_format(format: Any) -> tuple[bool, Any]:
    """Whether `format` works on bytes, and the format itself with `dump` and `load`.

    Args:
        format: None or "json", "pickle", "bson", or anything with `dump` and `load` or `dumps`
            and `loads`, so that the modules `json` and `pickle` will do.

    Raises:
        ArgumentError: it is none of these.
        BackendMissingError: bson is not installed.
    """
    if format is None or format == "json" or format is json:
        return False, StrictJson()
    if format == "pickle":
        return True, pickle
    if format == "bson":
        return True, WrapBinaryFormat(_bson())
    if getattr(format, "__name__", None) == "bson":  # pymongo's has neither dumps nor loads
        return True, WrapBinaryFormat(_Bson(format))
    if callable(getattr(format, "dump", None)) and callable(getattr(format, "load", None)):
        return True, format
    if callable(getattr(format, "dumps", None)) and callable(getattr(format, "loads", None)):
        return True, WrapBinaryFormat(format)
    raise ArgumentError(
        f"format is {format!r}; give None, 'json', 'pickle', 'bson', or something with dump and "
        "load, or dumps and loads"
    )


def runs_code(format: Format) -> bool:
    """Whether decoding by `format` may run code that the file names, as far as is known here."""
    inner = format.format_bstr if isinstance(format, WrapBinaryFormat) else format
    name = getattr(inner, "__name__", type(inner).__module__)
    return inner is pickle or str(name).partition(".")[0] in _RUN_CODE


_RUN_CODE = ("pickle", "_pickle", "cloudpickle", "dill", "joblib", "jsonpickle")


def to_bytes(format: Format, value: Any, kwargs: Mapping[str, Any], *, is_binary: bool) -> bytes:
    """The content of a file that holds `value`; raises what the format raises."""
    if is_binary:
        content = io.BytesIO()
        format.dump(value, content, **kwargs)
        return content.getvalue()
    content = io.BytesIO()
    text = io.TextIOWrapper(content, encoding="utf-8", newline="\n")
    format.dump(value, text, **kwargs)
    text.flush()
    return content.getvalue()


def to_parts(
    format: Format, value: Any, kwargs: Mapping[str, Any], *, is_binary: bool, likely_bytes: int
) -> tuple[bytes, ...]:
    """As `to_bytes`, in parts that make it up; large bytes in a pickled value are not copied.

    Args:
        likely_bytes: what the value before it took; only what is small is pickled in one.
    """
    pickles: object = pickle
    if format is not pickles or not is_binary:
        return (to_bytes(format, value, kwargs, is_binary=is_binary),)
    if likely_bytes < _SMALL:
        return (pickle.dumps(value, **kwargs),)
    parts = _Parts()
    pickle.dump(value, parts, **kwargs)
    if len(parts) > 1 and sum(map(len, parts)) < _SMALL:
        return (b"".join(parts),)
    return tuple(parts)


_SMALL = 1 << 16  # bytes that are rather copied than written apart


class _Parts(list[bytes]):
    """What a pickler writes into: bytes are kept as they are."""

    def write(self, data: Any) -> None:
        """Take `data`, which the value may change later unless it is bytes."""
        self.append(data if type(data) is bytes else bytes(data))


def from_bytes(format: Format, data: bytes, kwargs: Mapping[str, Any], *, is_binary: bool) -> Any:
    """The value in a file of that content; raises what the format raises."""
    content = io.BytesIO(data)
    if is_binary:
        return format.load(content, **kwargs)
    return format.load(io.TextIOWrapper(content, encoding="utf-8", newline=""), **kwargs)


def _bson() -> _Bson:
    try:
        import bson  # the one owner of it; an extra that most programs do without
    except ImportError as error:
        raise BackendMissingError(
            "format 'bson' needs pymongo's package; pip install kompyct[bson]"
        ) from error
    return _Bson(bson)


class _Bson:
    """`dumps` and `loads` by the package `bson`, pymongo's or the one of that name."""

    def __init__(self, module: Any) -> None:
        self.dumps = getattr(module, "dumps", None) or module.encode
        self.loads = getattr(module, "loads", None) or module.decode
