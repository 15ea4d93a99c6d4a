"""What is refused of a program or a component's class, or warned of in a recovery function?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from inspect import iscoroutinefunction
from types import FunctionType
from typing import Any

from kompyct.errors import InvalidComponentError, ProcessStartError, ReservedNameError
from kompyct.fault_classes import FaultClass

HANDLES = "_kompyct_handles"
"""The attribute of a method that says which ports it is the handler of."""


def refuse_while_inheriting() -> None:
    """Refuse to begin in a child process that is only just importing the main module.

    Raises:
        ProcessStartError: the program has no `__main__` guard: the child would start over what
            its parent does, children included.
    """
    process = sys.modules.get("multiprocessing.process")
    if process is not None and getattr(process.current_process(), "_inheriting", False):
        raise ProcessStartError(
            "a child process imports the program's main module, and that goes on to do what only "
            "the program itself is to do; put that under `if __name__ == '__main__':`"
        )


def check_class(cls: type[Any], base: type[Any]) -> None:
    """Refuse a subclass of `base`, which is `Component`, that kompyct could not work with.

    Raises:
        ReservedNameError: it defines `ref`, `log` or `system`.
        InvalidComponentError: its `fault_classes` is no mapping from exception types, a hook is
            `async def`, or its ports and their handlers do not fit.
    """
    for name in ("ref", "log", "system"):
        if getattr(cls, name) is not base.__dict__[name]:
            raise ReservedNameError(
                f"{cls.__qualname__} defines {name!r}, which kompyct provides; choose another name"
            )
    for name in ("on_start", "on_stop", "on_kill", "on_receive"):
        if iscoroutinefunction(getattr(cls, name)):
            raise InvalidComponentError(
                f"{cls.__qualname__}.{name} is `async def`, which is not supported yet; "
                "make it a plain method"
            )
    declared = cls.fault_classes
    if not isinstance(declared, Mapping) or not all(
        isinstance(key, type) and issubclass(key, BaseException) and isinstance(value, FaultClass)
        for key, value in declared.items()
    ):
        raise InvalidComponentError(
            f"{cls.__qualname__}.fault_classes is {declared!r}; "
            "give a mapping from exception types to FaultClass"
        )
    plan_ports = getattr(cls, "_kompyct_plan_ports", None)  # see `ports.Declared`
    if plan_ports is not None:
        plan_ports(cls, base)
        return
    for part in cls.__mro__:
        for name, value in vars(part).items():
            if isinstance(value, FunctionType) and HANDLES in vars(value):
                raise InvalidComponentError(
                    f"{cls.__qualname__}.{name} handles a port, and {cls.__qualname__} declares "
                    "none; declare it above, as in batches = Provided(Batches)"
                )


def closes_over(function: Callable[..., Any], component: object) -> bool:
    """Whether `function` refers to `component` itself."""
    if isinstance(function, partial):
        given = (*function.args, *function.keywords.values())
        return closes_over(function.func, component) or any(it is component for it in given)
    if getattr(function, "__self__", None) is component:
        return True
    if any(default is component for default in getattr(function, "__defaults__", None) or ()):
        return True
    for cell in getattr(function, "__closure__", None) or ():
        try:
            if cell.cell_contents is component:
                return True
        except ValueError:  # a variable not assigned yet
            continue
    return False
