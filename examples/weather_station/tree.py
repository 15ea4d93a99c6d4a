"""Who depends on whom: the tree of the station."""

from collections.abc import Callable
from functools import partial

from examples.weather_station.parts import Archive, Gate, Parser, Reporter, crash_natively
from kompyct import Backoff, ChildSpec, ComponentSupervisor, RestartLimit


def tree(
    backend: str | None = "process", crash: Callable[[], object] = crash_natively
) -> ComponentSupervisor:
    """The station; in virtual time there are no processes, and `crash` has to be an exception."""
    parsers = ComponentSupervisor(
        [
            ChildSpec(id=name, factory=partial(Parser, crash), backend=backend)
            for name in ("a", "b")
        ],
        "one_for_one",  # they know nothing of each other
        restart_limit=RestartLimit(15, 10.0),
    )
    sensors = ComponentSupervisor(
        strategy="dynamic",
        restart_limit=RestartLimit(20, 10.0),
        backoff=Backoff(0.2, 5.0, 0.0),  # whoever has hung up is not called again at once
    )
    return ComponentSupervisor(
        [
            ChildSpec(id="archive", factory=Archive),
            ChildSpec(id="parsers", factory=parsers),
            ChildSpec(id="sensors", factory=sensors),
            ChildSpec(id="gate", factory=Gate),
            ChildSpec(id="reporter", factory=Reporter),
        ],
        "rest_for_one",  # each needs those before it, and starts anew when one of them does
        restart_limit=RestartLimit(5, 10.0),
    )
