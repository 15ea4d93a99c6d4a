"""Which ports does a component have, and what does it do with what comes there?

The type of a port says which events may pass: requests go to whoever provides the port,
indications to all who require it. A component declares its ports as class attributes; from its
own code they can be triggered (see `triggering`), from outside they can be named and connected
(see `channels`).

Source: Kompact's ports. Otherwise here: a handler is a method under a decorator in the place of a
trait, and a component may leave out handlers of events that it does not want.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from types import FunctionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Never,
    NoReturn,
    Protocol,
    Self,
    TypeVar,
    overload,
)

from kompyct.checks import HANDLES
from kompyct.errors import (
    ArgumentTypeError,
    InvalidComponentError,
    PortTypeError,
    ReservedNameError,
)
from kompyct.port_types import Port, key_of
from kompyct.ref import ComponentRef
from kompyct.triggering import OwnPort

if TYPE_CHECKING:
    from kompyct.component import Component

Q = TypeVar("Q")
N = TypeVar("N")
E = TypeVar("E")
C = TypeVar("C")
D = TypeVar("D", covariant=True)


@dataclass(frozen=True, slots=True)
class PortRef(Generic[D]):
    """A port of a component, as it is named from outside; made by `of` of its declaration.

    Attributes:
        ref: the component.
        name: of the port: the attribute that declares it.
        is_provided: whether it provides the port, or requires it.
        port: the type of the port, as `module:qualname`.
    """

    ref: ComponentRef[Any]
    name: str
    is_provided: bool
    port: str

    def __str__(self) -> str:
        return f"port {self.name!r} of component {self.ref.path!r}"


class Declared(Generic[Q, N]):
    """What `Provided` and `Required` have in common: a port that a class of components has.

    Attributes:
        port: the type of the port.
        name: of the attribute.
    """

    is_provided: ClassVar[bool]

    def __init__(self, port: type[Port[Q, N]]) -> None:
        if not (isinstance(port, type) and issubclass(port, Port)) or port is Port:
            raise PortTypeError(
                f"{type(self).__name__} was given {port!r}; give a subclass of Port[requests, "
                "indications]"
            )
        self.port = port
        self.name = ""  # until its class is complete
        self.sends = port.indications if self.is_provided else port.requests

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.name or name
        # Found by `check_class`: a class without ports has nothing to do with this module.
        owner._kompyct_plan_ports = staticmethod(plan_ports)  # type: ignore[attr-defined]

    def __get__(self, component: Any, owner: type) -> Any:
        if component is None:
            return self
        try:
            return component._kompyct_own_ports[self.name]
        except (KeyError, TypeError):  # it has not been used so far
            return self._own(component)

    def __set__(self, component: object, value: Never) -> NoReturn:
        raise ReservedNameError(
            f"{type(component).__qualname__} assigns self.{self.name}, which is its port; choose "
            "another name"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.port.__qualname__} {self.name!r}>"

    def _own(self, component: Component[Any]) -> OwnPort[Any]:
        ports = component._kompyct_own_ports
        if ports is None:
            ports = component._kompyct_own_ports = {}
        port = ports.get(self.name)
        if port is None:
            port = ports[self.name] = OwnPort(component, self)
        return port

    def of(self, ref: ComponentRef[Any]) -> PortRef[Self]:
        """This port of the component of `ref`, for `ComponentSystem.connect`.

        Raises:
            ArgumentTypeError: `ref` is no ref.
        """
        if not isinstance(ref, ComponentRef):
            raise ArgumentTypeError(f"{ref!r} is no component ref; give what create returned")
        return PortRef(ref, self.name, self.is_provided, key_of(self.port))


class Provided(Declared[Q, N]):
    """Declares, as a class attribute of a component, that it provides a port.

    In the component's own code it is an `OwnPort`: `self.batches.trigger(event)` sends an
    indication to every component that is connected to it.

    Args:
        port: the type of the port.

    Raises:
        PortTypeError: it is none.
    """

    is_provided = True

    if TYPE_CHECKING:

        @overload
        def __get__(self, component: None, owner: type) -> Self: ...
        @overload
        def __get__(self, component: object, owner: type) -> OwnPort[N]: ...
        def __get__(self, component: Any, owner: type) -> Any: ...


class Required(Declared[Q, N]):
    """Declares, as a class attribute of a component, that it requires a port.

    In the component's own code it is an `OwnPort`: `self.batches.trigger(event)` sends a request
    to every component it is connected to, which is mostly one.

    Args:
        port: the type of the port.

    Raises:
        PortTypeError: it is none.
    """

    is_provided = False

    if TYPE_CHECKING:

        @overload
        def __get__(self, component: None, owner: type) -> Self: ...
        @overload
        def __get__(self, component: object, owner: type) -> OwnPort[Q]: ...
        def __get__(self, component: Any, owner: type) -> Any: ...


class Handles(Protocol[E]):
    """What `handles` returns: takes a method that takes the port's events, and returns it."""

    def __call__(self, handler: Callable[[C, E], None], /) -> Callable[[C, E], None]: ...


@overload
def handles(port: Provided[E, Any]) -> Handles[E]: ...
@overload
def handles(port: Required[Any, E]) -> Handles[E]: ...
def handles(port: Any) -> Any:
    """Make a method the handler of what comes to `port`, which its class has declared above it.

    That is requests to a port that is provided, and indications to one that is required. There is
    one handler for all of them, which tells them apart; `self.unhandled(event)` refuses one.

    >>> class Buncher(Component[int]):
    ...     batches = Provided(Batches)
    ...
    ...     @handles(batches)
    ...     def on_flush(self, event: Flush) -> None: ...

    Raises:
        PortTypeError: `port` is no declaration, or what is under it no plain method.
    """
    if not isinstance(port, Declared):
        raise PortTypeError(
            f"handles was given {port!r}; give a port that is declared above, as in "
            "batches = Provided(Batches)"
        )

    def mark(handler: Any) -> Any:
        if not isinstance(handler, FunctionType) or iscoroutinefunction(handler):
            raise PortTypeError(
                f"the handler of port {port.name or port!r} is {handler!r}; give a plain method"
            )
        setattr(handler, HANDLES, (*handled_by(handler), port))
        return handler

    return mark


def plan_ports(cls: type[Any], base: type[Any]) -> None:
    """Find the ports and the handlers of a subclass of `base`, which is `Component`.

    They are plain facts in `_kompyct_ports`: name to (is provided, type of the port); and in
    `_kompyct_handlers`: name of the port to the name of the method.

    Raises:
        InvalidComponentError: a port has two names or two handlers, or a handler no port.
        ReservedNameError: a port has the name of something that kompyct provides.
    """
    declared: list[Declared[Any, Any]] = []
    visible: dict[str, Declared[Any, Any]] = {}
    hidden: set[str] = set()
    for part in cls.__mro__:
        for name, value in vars(part).items():
            if isinstance(value, Declared):
                _check_name(cls, base, name, value)
                declared.append(value)
                if name not in hidden:
                    visible[name] = value
        hidden.update(vars(part))
    handlers: dict[str, str] = {}
    for part in cls.__mro__:
        of_part: dict[str, str] = {}
        for name, value in vars(part).items():
            for port in handled_by(value):
                if not any(port is one for one in declared):
                    raise InvalidComponentError(
                        f"{cls.__qualname__}.{name} handles a port {port.name!r} that is not one "
                        f"of its own: {', '.join(map(repr, visible)) or 'none'}"
                    )
                if visible.get(port.name) is not port:  # a subclass has replaced it
                    continue
                other = of_part.setdefault(port.name, name)
                if other != name:
                    raise InvalidComponentError(
                        f"{cls.__qualname__} has two handlers of port {port.name!r}, {other!r} "
                        f"and {name!r}; make them one"
                    )
        handlers = of_part | handlers  # a subclass has the last word
    cls._kompyct_ports = {
        name: (port.is_provided, key_of(port.port)) for name, port in visible.items()
    }
    cls._kompyct_handlers = handlers


def handled_by(value: object) -> tuple[Declared[Any, Any], ...]:
    """The ports that `value`, an attribute of a class, is a handler of."""
    return vars(value).get(HANDLES, ()) if isinstance(value, FunctionType) else ()


def _check_name(cls: type[Any], base: type[Any], name: str, port: Declared[Any, Any]) -> None:
    if port.name != name:
        raise InvalidComponentError(
            f"{cls.__qualname__} declares one port as {port.name!r} and as {name!r}; declare each "
            "for itself"
        )
    if hasattr(base, name):
        raise ReservedNameError(
            f"{cls.__qualname__} declares a port {name!r}, which kompyct provides; choose another "
            "name"
        )
