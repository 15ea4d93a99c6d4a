"""How is a bug planted in kompyct?

A mutant replaces text in the source of one function, as `ast.unparse` writes it, so without
comments and whatever the formatting. When the function changes and the text is no longer there,
planting it fails: then the mutant is to be written anew for the new code.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any


class MutantDoesNotFitError(Exception):
    """The function has changed, and the text to be replaced is not in it exactly once."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug: in the function `name` of `owner`, `after` instead of `before`.

    `scenarios` are those that catch it, the first of them soonest. A harmless one names those
    that look as if they could.
    """

    what: str
    owner: Any
    name: str
    before: str
    after: str
    scenarios: tuple[str, ...]

    def __str__(self) -> str:
        return self.what.replace(" ", "-")

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Have kompyct run the mutant.

        Raises:
            MutantDoesNotFitError: it must be written anew.
        """
        original = getattr(self.owner, self.name)
        mutated = _mutated(original, self)
        as_found = inspect.getattr_static(self.owner, self.name)  # a static method, maybe
        places = [(self.owner, self.name)]
        for module in (*sys.modules.values(),):  # functions are imported by name as well
            if isinstance(module, ModuleType) and module.__name__.startswith("kompyct"):
                for name, value in (*vars(module).items(),):
                    if value is original and (module, name) not in places:
                        places.append((module, name))
        for owner, name in places:
            setattr(owner, name, mutated)
        try:
            yield
        finally:
            for owner, name in places:
                setattr(owner, name, as_found if owner is self.owner else original)


def _mutated(original: Callable[..., Any], mutant: Mutant) -> Callable[..., Any]:
    source = ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(original))))
    before, after = (textwrap.dedent(text).strip("\n") for text in (mutant.before, mutant.after))
    lines = source.split("\n")
    wanted = before.split("\n")
    found = [
        (index, len(line) - len(line.lstrip()))
        for index, line in enumerate(lines)
        if [text.strip() for text in lines[index : index + len(wanted)]]
        == [text.strip() for text in wanted]
    ]
    if len(found) != 1:
        raise MutantDoesNotFitError(
            f"{mutant.what!r}: {len(found)} places in {original.__qualname__} read\n{before}\n"
            f"write the mutant anew for\n{source}"
        )
    index, indent = found[0]
    new = textwrap.indent(after, " " * indent).split("\n")
    text = "\n".join([*lines[:index], *new, *lines[index + len(wanted) :]])
    flags = __future__.annotations.compiler_flag
    code = compile(text, original.__code__.co_filename, "exec", flags, dont_inherit=True)
    names: dict[str, Any] = {}
    exec(code, original.__globals__, names)
    mutated: Callable[..., Any] = names[original.__name__]
    return mutated
