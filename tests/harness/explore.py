"""Does the core end well in every order of two threads? The command line that tries them.

    python -m tests.harness.explore [--whole] [--scenario NAME] [--seed N]
                                    [--plan "0:12 1:7" [--hot]] [--every-opcode]

Without `--whole`: the plans of one switch (`0:12`; the other player runs to its end), those of
two at what is hot, and a sample of those of two anywhere, drawn with the seed. `stage` says what
a plan is, `explorer` which are tried and what that cannot find.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.harness.explorer import Depth, Explorer, Failure, constants_set, explore
from tests.harness.scenarios import SCENARIOS
from tests.harness.stage import Plan, Stage


def main() -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser("python -m tests.harness.explore", description=__doc__)
    parser.add_argument("--whole", action="store_true", help="every plan of two switches")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--plan", help="play this one only, of one scenario")
    parser.add_argument("--hot", action="store_true", help="of a plan: it counts hot opcodes")
    parser.add_argument("--every-opcode", action="store_true", help="leave no opcode out")
    arguments = parser.parse_args()
    names = arguments.scenario or [*SCENARIOS]
    failures = schedules = 0
    began = time.perf_counter()
    print(f"seed {arguments.seed}")
    with Stage(arguments.every_opcode) as stage:
        for name in names:
            cls = SCENARIOS[name]
            start = time.perf_counter()
            failure: Failure | None
            if arguments.plan is not None:
                stage.hot_only = arguments.hot
                with constants_set(cls):
                    failure = Explorer(stage, cls).go(_plan(arguments.plan))
                number = 1
            else:
                depth = Depth.WHOLE if arguments.whole else Depth.CHEAP
                number, failure = explore(stage, cls, depth=depth, seed=arguments.seed)
            seconds = time.perf_counter() - start
            print(f"{name:24} {number:8} schedules {seconds:8.2f} s", flush=True)
            schedules += number
            if failure is not None:
                failures += 1
                print(failure, flush=True)
    seconds = time.perf_counter() - began
    print(f"{schedules} schedules in {seconds:.1f} s, {failures} of {len(names)} scenarios failed")
    return 1 if failures else 0


def _plan(text: str) -> Plan:
    return tuple(
        (int(number), int(moves))
        for number, _, moves in (step.partition(":") for step in text.split())
    )


if __name__ == "__main__":
    sys.exit(main())
