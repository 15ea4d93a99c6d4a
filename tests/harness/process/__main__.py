"""The command line: `python -m tests.harness.process NAME`, see `tests.harness.process`.

Prints what is broken, and a line of figures. The exit code is 0 if nothing is broken, 1 if
something is, 77 if the harness cannot run here.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import random
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from tests.harness.process import midsave, orphans, races, soak, zygotes
from tests.harness.process.planted import PLANTED, plant
from tests.harness.store.figures import SKIPPED, Figures, SkippedError

PATIENCE = 1_800  # seconds after which a harness that hangs says where, and ends

HARNESSES: dict[str, tuple[Callable[[int, int], Figures], int, int]] = {
    "soak": (soak.run, 10_000, 150),
    "midsave": (midsave.run, 3_000, 60),
    "orphans": (orphans.run, 1_000, 6),
    "zygotes": (zygotes.run, 300, 8),
    "races": (races.run, 200, 1),
    "crowd": (partial(zygotes.run, components=zygotes.MANY), 10, 1),
}
"""What runs so often with a seed; how often in the long form, and in the short one."""


def main() -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser("python -m tests.harness.process", description=__doc__)
    parser.add_argument("name", choices=HARNESSES)
    parser.add_argument("--count", type=int, help="how often something is killed")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--short", action="store_true", help="what takes a few seconds")
    parser.add_argument("--planted", choices=PLANTED, help="plant this bug")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    faulthandler.enable()
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    logging.getLogger("kompyct").setLevel(logging.CRITICAL)
    run, long, short = HARNESSES[given.name]
    count = given.count or (short if given.short else long)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        if given.planted:
            plant(stack, given.planted)
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        try:
            figures = run(count, given.seed)
        except SkippedError as error:
            print(f"skipped: {error}")
            return SKIPPED
        except Exception:
            print(f"BROKEN {traceback.format_exc()}")
            return 1
        finally:
            tempfile.tempdir = None
    for what in figures.broken[:20]:
        print(f"BROKEN {what}")
    print(figures.line(), flush=True)
    return 1 if figures.broken else 0


if __name__ == "__main__":
    sys.exit(main())
