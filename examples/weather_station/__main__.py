"""Show the weather station: `python -m examples.weather_station [SECONDS]`.

It runs twice, with its archive in a temporary folder, and prints what happens meanwhile.
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

from examples.arguments import DAY, number
from examples.weather_station.parts import STATION, GetTotals, Totals, show, told
from examples.weather_station.tree import tree
from kompyct import ComponentRef, ComponentSystem, WhichChildren
from kompyct.errors import RestartingError
from kompyct.events import ComponentFaulted, ComponentRecovered, Event, RestartDelayed


def show_event(event: Event) -> None:
    """Print a line for what an operator would like to know."""
    match event:
        case ComponentFaulted():
            show(f"  {event.path} faults: {event.error}")
        case ComponentRecovered():
            why = {"sibling": "with others", "shutdown": "from the last run"}.get(event.kind, "")
            show(f"  {event.path} is back {why}".rstrip())
        case RestartDelayed():
            show(f"  {event.path} waits {event.delay:g} s")


def run(seconds: float, folder: Path) -> None:
    """The station itself, for so long."""
    with ComponentSystem(store=folder, on_event=show_event) as system:
        top = system.create(tree(), name=STATION)
        system.start(top).result()
        archive = system.find(f"{STATION}/archive")
        assert archive is not None
        show(f"starts with: {told(totals_of(archive))}")
        time.sleep(seconds)
        show(f"ends with: {told(totals_of(archive))}")
        for child in top.ask(WhichChildren()):
            show(f"  {child.id}: {child.state}, incarnation {child.incarnation}")


def totals_of(archive: ComponentRef[Any]) -> Totals:
    """The totals; asked again if the archive has faulted while the question was waiting there."""
    try:
        answer = archive.ask(GetTotals())
    except RestartingError:
        answer = archive.ask(GetTotals())  # which waits until it is back
    assert isinstance(answer, Totals)
    return answer


def main(seconds: float = 3.0) -> None:
    """Run it, and run it again."""
    with tempfile.TemporaryDirectory(prefix="weather-station-") as folder:
        run(seconds, Path(folder, "state"))
        print()
        print("Started again, from what it had archived:")
        run(seconds / 3, Path(folder, "state"))


if __name__ == "__main__":
    logging.getLogger("kompyct").addHandler(logging.NullHandler())  # the printed lines are enough
    parser = argparse.ArgumentParser(prog="python -m examples.weather_station")
    parser.add_argument("seconds", nargs="?", type=number(0.0, DAY), default=3.0)
    main(parser.parse_args().seconds)
