"""Which events pass between components that share a port?"""

from __future__ import annotations

from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Any, ClassVar, Generic, Never, NoReturn, TypeVar, Union, get_args, get_origin

from kompyct.errors import PortTypeError

Q = TypeVar("Q")
N = TypeVar("N")


class Port(Generic[Q, N]):
    """The base of port types: `Q` are the requests, `N` the indications.

    Several types of events are a union; `Never` says that there are none in that direction.

    >>> class Batches(Port[Flush, Batch]):
    ...     '''Numbers in batches, which may be flushed.'''

    Attributes:
        requests: the classes of events that go to the provider.
        indications: the classes of events that go from there to all who are connected.

    Raises:
        PortTypeError: a subclass names no classes.
    """

    requests: ClassVar[tuple[type, ...]] = ()
    indications: ClassVar[tuple[type, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for base in cls.__dict__.get("__orig_bases__", ()):
            if get_origin(base) is Port:
                requests, indications = get_args(base)
                cls.requests = tuple(_classes(cls, "requests", requests))
                cls.indications = tuple(_classes(cls, "indications", indications))
                return
        if not any(issubclass(base, Port) and base is not Port for base in cls.__bases__):
            raise PortTypeError(
                f"port {cls.__qualname__} does not say which events it carries; derive it from "
                "Port[requests, indications]"
            )


def _classes(port: type, what: str, given: Any) -> Iterable[type]:
    """The classes that `given`, an argument of `Port[...]`, stands for.

    Raises:
        PortTypeError: it stands for none.
    """
    if given is Never or given is NoReturn:
        return
    if get_origin(given) in (Union, UnionType):
        for one in get_args(given):
            yield from _classes(port, what, one)
        return
    found = object if given is Any else get_origin(given) or given
    way_out = "give classes, a union of them, or Never for none"
    if found is None or found is NoneType:
        way_out = "for no events write Never"
    elif isinstance(found, type):
        try:
            isinstance(None, found)  # a protocol may refuse that
        except TypeError:
            way_out = "make that protocol runtime_checkable"
        else:
            yield found
            return
    raise PortTypeError(f"the {what} of port {port.__qualname__} are {given!r}; {way_out}")


def key_of(port: type) -> str:
    """How a type of port is named, in every process the same."""
    # The main module has another name in a child.
    module = "__main__" if port.__module__ == "__mp_main__" else port.__module__
    return f"{module}:{port.__qualname__}"
