"""How does an exception get from one process to another (S-15)?

As itself if it survives a round trip, made where it was raised; else as a `RemoteError` that says
what it was. Its causes come along, each in the same way.
"""

from __future__ import annotations

import pickle
import traceback
from itertools import pairwise

from kompyct.errors import RemoteError

MAX_TEXT = 8192
"""Characters of an exception's text, and of its traceback, at most."""

MAX_CAUSES = 10
"""How many exceptions of a chain travel."""


Packed = tuple[bytes, tuple[str, ...], str, str]
"""An exception's pickle, if it survives that, and the arguments of its `RemoteError`."""


def pack_exception(exception: BaseException) -> bytes:
    """`exception` and what it came from, for `unpack_exception`; it never raises."""
    chain: list[Packed] = []
    one: BaseException | None = exception
    seen: set[int] = set()
    while one is not None and len(chain) < MAX_CAUSES and id(one) not in seen:
        seen.add(id(one))
        chain.append((_pickle(one), *stand_in_for(one)))
        one = _cause_of(one)
    return pickle.dumps(chain, 5)


def unpack_exception(data: bytes) -> BaseException:
    """What `pack_exception` was given, or what stands for it."""
    chain = [_unpack(part) for part in pickle.loads(data)]
    for exception, cause in pairwise(chain):
        try:
            exception.__cause__ = cause
        except Exception:  # a class that forbids it
            break
    return chain[0]


def stand_in_for(exception: BaseException) -> tuple[tuple[str, ...], str, str]:
    """The arguments of the `RemoteError` that stands for `exception`."""
    own = _class_of(exception)
    kinds = tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in own.__mro__)
    try:
        lines = traceback.format_tb(exception.__traceback__)
    except BaseException:
        lines = []
    return kinds, text_of(exception), "".join(lines)[-MAX_TEXT:]


def text_of(exception: BaseException) -> str:
    """`str(exception)`, cut; a placeholder if that raises."""
    try:
        return str(exception)[:MAX_TEXT]
    except BaseException as error:
        return f"<{type(error).__name__} in str>"


def _cause_of(exception: BaseException) -> BaseException | None:
    try:
        if exception.__cause__ is not None or exception.__suppress_context__:
            return exception.__cause__
        return exception.__context__
    except BaseException:
        return None


def _pickle(exception: BaseException) -> bytes:
    """Its pickle; empty if what comes back is not the same."""
    try:
        data = pickle.dumps(exception, 5)
        back = pickle.loads(data)
        if type(back) is _class_of(exception) and text_of(back) == text_of(exception):
            return data
    except BaseException:  # users' code: __reduce__, __init__, __str__
        pass
    return b""


def _unpack(packed: Packed) -> BaseException:
    data, kinds, text, lines = packed
    if data:
        try:
            found = pickle.loads(data)
            if isinstance(found, BaseException):
                return found
        except BaseException:  # its class is not known in this process
            pass
    return RemoteError(kinds, text, lines)


def _class_of(exception: BaseException) -> type[BaseException]:
    """Its class; of an interrupt, not the one that was made for it, see `Firing.exception`."""
    firing = getattr(type(exception), "firing", None)
    base: type[BaseException] = type(exception) if firing is None else firing.base
    return base
