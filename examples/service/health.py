"""Is the service well? `system.tree()` knows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kompyct import ComponentSystem


def health(system: ComponentSystem, expected: Collection[str]) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the details: 200 if every `expected` component is running, else 503."""
    found = {node.path: node for node in system.tree().children}
    missing = sorted(set(expected) - set(found))
    down = sorted(path for path, node in found.items() if node.status != "running")
    details = {
        "status": "unavailable" if missing or down else "ok",
        "missing": missing,
        "down": down,
        "components": {
            node.path: {
                "status": node.status,
                "incarnation": node.incarnation,
                "recent_restarts": node.restarts,
                "mailbox_length": node.mailbox_length,
                "snapshot_age": node.snapshot_age,
            }
            for node in found.values()
        },
    }
    return 503 if missing or down else 200, details
