"""Run one case in this process: `python -m benchmarks.case NAME SIZE [CPU]`.

Prints one line of JSON: the quantities, or null if the peer is not installed.
"""

from __future__ import annotations

import json
import os
import sys

from benchmarks.groups import find_case
from benchmarks.plan import PeerMissingError


def main(name: str, size: str, cpu: str | None = None) -> None:
    """Measure, print, and end without ado: threads of kompyct and of the peers may still run."""
    if cpu is not None:
        os.sched_setaffinity(0, {int(cpu)})
    try:
        answer = json.dumps(dict(find_case(name).measure(int(size))))
    except PeerMissingError:
        answer = "null"
    print(answer, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
