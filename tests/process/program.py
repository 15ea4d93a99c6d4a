"""What do the tests run as programs of their own, to be killed?

`python -m tests.process.program FOLDER DURABILITY` has two components in processes, saves their
states, says which processes there are, and shuts down in order when its input ends.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from kompyct import ComponentSystem
from tests.process import components
from tests.process.components import Do, Holder, from_snapshot


def main() -> None:
    """See above."""
    folder, durability = sys.argv[1:]
    with ComponentSystem(store=folder or None, backend="process") as system:
        pids = []
        for name in ("one", "two"):
            ref = system.create(partial(Holder, 0, recovery=from_snapshot), name=name)
            system.start(ref).result(5.0)
            for state in range(1, 4):
                if durability == "durable":
                    ref.ask(Do(save_durably, (state,)))
                else:
                    ref.ask(Do(components.save, (state,)))
            pids += [ref.ask(Do(components.pid)), ref.ask(Do(os_getppid))]
        if durability == "flush":
            system.flush()
        sys.stdout.write(f"ready {' '.join(map(str, pids))}\n")
        sys.stdout.flush()
        sys.stdin.read()


def save_durably(component: Holder, state: int) -> None:
    """Return when it is on the disk."""
    component.state = state
    component.set_recovery_function(from_snapshot, snapshot=state, durability="durable")


def os_getppid(component: Holder) -> int:
    """Who made this process."""
    return os.getppid()


if __name__ == "__main__":
    main()
