"""Which supervision tree does the command line name, and which children of it?

Asked by `lint` and `simulate`. Naming a tree imports its module: that is code like any other.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from math import isfinite

from kompyct.children import ChildSpec
from kompyct.errors import ArgumentError, KompyctError
from kompyct.supervisor import ComponentSupervisor


def load(target: str) -> ComponentSupervisor:
    """The tree that `module:name` is, or gives when it is called.

    Raises:
        ArgumentError: there is none; its cause is a `KompyctError` if kompyct refused the tree.
    """
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        raise ArgumentError(f"the tree is {target!r}; give MODULE:TREE, as in 'shop.main:TREE'")
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # an imported module may raise anything
        raise ArgumentError(
            f"module {module!r} cannot be imported: {_told(error)}; give one that `import` finds "
            "from here"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ArgumentError(
                f"module {module!r} has no {name!r}; give the name of a tree in it"
            )
        found = getattr(found, part)
    tree: object = found
    if callable(tree) and not isinstance(tree, ComponentSupervisor):
        try:
            tree = tree()
        except (Exception, SystemExit) as error:
            raise ArgumentError(f"{target} cannot be called: {_told(error)}") from error
    if not isinstance(tree, ComponentSupervisor):
        raise ArgumentError(
            f"{target} is a {type(tree).__qualname__}; give a ComponentSupervisor, or a function "
            "without arguments that returns one"
        )
    return tree


def refusal(error: ArgumentError) -> KompyctError | None:
    """Why kompyct refused the tree that `load` was to give; None if that was not it."""
    cause = error.__cause__
    return cause if isinstance(cause, KompyctError) else None


def numbers(
    given: Iterable[str], paths: Iterable[str], option: str, *, least: float = 0.0
) -> dict[str, float]:
    """What the arguments `CHILD:NUMBER` of an option say of which child.

    CHILD is a path below the top ("workers/parser"), an id that only one child has, or a pattern
    like "workers/*". What is given later goes before what was given earlier.

    Args:
        paths: of the children that it may be said of.
        least: the smallest number that makes sense.

    Raises:
        ArgumentError: an argument of another form, or of a child that does not exist.
    """
    known = list(paths)
    said: dict[str, float] = {}
    for argument in given:
        child, colon, text = argument.rpartition(":")
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not (colon and child and isfinite(number) and number >= least):
            raise ArgumentError(
                f"{option} is {argument!r}; give CHILD:NUMBER, with a number >= {least:g}"
            )
        for path in _meant(child, known, option):
            said[path] = number
    return said


def _meant(child: str, known: list[str], option: str) -> list[str]:
    if child in known:
        return [child]
    named = [path for path in known if path.rpartition("/")[2] == child]
    if len(named) > 1:
        raise ArgumentError(f"{option} names {child!r}, which is any of {named}; give the path")
    found = named or [path for path in known if fnmatchcase(path, child)]
    if not found:
        raise ArgumentError(
            f"{option} names {child!r}; give one of {', '.join(known) or 'no child at all'}"
        )
    return found


def supervisors(
    tree: ComponentSupervisor,
) -> Iterator[tuple[str, ComponentSupervisor, ChildSpec | None]]:
    """Every supervisor of the tree with its path and its spec, parents first; the top has none."""
    yield "", tree, None
    for path, spec in tree.walk():
        if isinstance(spec.factory, ComponentSupervisor):
            yield path, spec.factory, spec


def leaves(tree: ComponentSupervisor) -> list[str]:
    """The paths of all children that are no supervisors."""
    return [path for path, spec in tree.walk() if not spec.is_supervisor]


def below(path: str, name: str | None) -> str:
    """The path of a child of the supervisor at `path`."""
    return f"{path}/{name}" if path else f"{name}"


def _told(error: BaseException) -> str:
    return f"{type(error).__qualname__}: {error}" if str(error) else type(error).__qualname__
