"""Run the service until SIGTERM or Ctrl+C: `python -m examples.service --port 8080`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from functools import partial

from examples.arguments import number
from examples.service.health import health
from examples.service.tally import FlakyStorage, Reporter, Tally
from examples.service.web import Web
from kompyct import ComponentSystem, RestartLimit
from kompyct.errors import ComponentFaultError, ShutdownTimeoutError

PARTS = ("tally", "reporter", "web")  # in start order; they end in reverse
MOST = 1_000_000_000  # writes, or restarts


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 after an ordered end, 1 if that was cut short or never begun."""
    parser = argparse.ArgumentParser(prog="python -m examples.service")
    parser.add_argument("--port", type=number(0, 65_535), default=8080, help="0: any free")
    parser.add_argument(
        "--fault-every", type=number(0, MOST), default=100, help="writes; 0: never"
    )
    parser.add_argument("--max-restarts", type=number(0, MOST), default=1000, help="in 10 s")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    budget = RestartLimit(options.max_restarts, 10.0)
    storage = FlakyStorage(options.fault_every)
    try:
        with ComponentSystem("service") as system:
            tally = system.create(partial(Tally, storage), name="tally", budget=budget)
            reporter = system.create(partial(Reporter, tally), name="reporter")
            get_health = partial(health, system, PARTS)
            web = system.create(partial(Web, options.port, tally, get_health), name="web")
            for part in (tally, reporter, web):
                system.start(part).result()
            system.run()
    except ComponentFaultError as error:
        logging.error("not started: %s", error.__cause__)
        return 1
    except ShutdownTimeoutError as error:
        logging.error("cut short: %s", error)
        return 1
    logging.info("service has ended")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
