"""How long does importing take?"""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from statistics import median

from benchmarks.plan import MILLISECONDS, Case, Group, Row, at_most

_TIMED = """
from time import perf_counter
start = perf_counter()
{statement}
print(perf_counter() - start)
"""


def time_import(package: str, statement: str, size: int) -> Mapping[str, float]:
    """The median of `size` fresh interpreters that execute `statement`, .pyc files compiled."""
    spec = find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        compileall.compile_dir(folder, quiet=2)
    command = [sys.executable, "-c", _TIMED.format(statement=statement)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    samples = []
    for _ in range(size + 1):
        run = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
        samples.append(float(run.stdout))
    return {"p50": median(samples[1:]) * 1e3}  # the first fills the caches of the system


_BASIC = "kompyct, Component and ComponentSystem"

GROUP = Group(
    "Import",
    (
        Row(
            "import",
            "import, .pyc files compiled",
            "import",
            "p50",
            MILLISECONDS,
            ("kompyct", _BASIC),
            ("pykka",),
            (at_most(1.2, "kompyct", "pykka"),),
        ),
    ),
    {
        "import/kompyct": Case(partial(time_import, "kompyct", "import kompyct"), 20, least=1),
        f"import/{_BASIC}": Case(
            partial(time_import, "kompyct", "from kompyct import Component, ComponentSystem"),
            20,
            least=1,
        ),
        "import/pykka": Case(partial(time_import, "pykka", "import pykka"), 20, least=1),
    },
)
