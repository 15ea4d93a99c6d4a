"""Which scenarios are there?"""

from __future__ import annotations

from tests.harness import (
    scenarios_asks,
    scenarios_cell,
    scenarios_claims,
    scenarios_faults,
    scenarios_owned,
    scenarios_pool,
    scenarios_ports,
    scenarios_store,
    scenarios_system,
    scenarios_watching,
)
from tests.harness.explorer import Scenario

_MODULES = (
    scenarios_cell,
    scenarios_asks,
    scenarios_faults,
    scenarios_owned,
    scenarios_pool,
    scenarios_system,
    scenarios_store,
    scenarios_claims,
    scenarios_watching,
    scenarios_ports,
)

SCENARIOS: dict[str, type[Scenario]] = {
    name: value
    for module in _MODULES
    for name, value in vars(module).items()
    # What only others build on (`World`, `Pool`) leaves the players nothing to do.
    if isinstance(value, type) and issubclass(value, Scenario) and value.one is not Scenario.one
}
"""Every scenario by its name."""
