"""Which bugs planted in channels must be caught? See `mutants`."""

from __future__ import annotations

from kompyct import channels, faulting
from kompyct.channels import Channels, Outlet
from tests.harness.planting import Mutant

HARMFUL: tuple[Mutant, ...] = (
    Mutant(
        "the end looks for channels without the lock", Channels, "forget",
        """
        with self.lock:
            ports = self._ports.pop(cell.id, None)
        """,
        """
        if cell.id not in self._ports:
            return
        with self.lock:
            ports = self._ports.pop(cell.id, None)
        """,
        ("ConnectEnd",),
    ),
    Mutant(
        "a component that has ended is seen before the lock only", Channels, "connect",
        """
        if cell.state is DESTROYED:
            raise cell.gone()
        """,
        "pass",
        ("ConnectEnd",),
    ),
    Mutant(
        "what has just ended is taken for restarting", channels, "_check_declared",
        """
        component, history = (cell.component, cell._history)
        ports: Mapping[str, tuple[bool, str]] | None = None
        """,
        """
        if type(cell.box) is ClosedBox or cell.state is DESTROYED:
            raise cell.gone()
        component, history = (cell.component, cell._history)
        if component is None and history is None:
            raise RestartingError
        ports = None
        """,
        ("ConnectEnd",),
    ),
    Mutant(
        "what is ending is taken for restarting", channels, "_check_declared",
        "if type(cell.box) is ClosedBox or cell.state is DESTROYED:",
        "if cell.state is DESTROYED or type(cell.box) is ClosedBox:",
        ("ConnectEnd",),
    ),
    Mutant(
        "what a component has is noted after it is taken away", faulting, "fault",
        """
        history.ports = component._kompyct_ports
        cell.component = None
        """,
        """
        cell.component = None
        history.ports = component._kompyct_ports
        """,
        ("ConnectFault",),
    ),
    Mutant(
        "targets are renewed without the lock", Outlet, "renew",
        "with self._channels.lock:",
        "if True:",
        ("TriggerConnect", "TriggerDisconnect"),
    ),
    Mutant(
        "a channel is cut without telling who triggers", Channels, "_cut_end",
        "outlet.targets = None",
        "pass",
        ("TriggerDisconnect",),
    ),
    Mutant(
        "connecting looks for the same channel without the lock", Channels, "connect",
        "with self.lock:",
        "if True:",
        ("ConnectConnect", "ConnectEnd"),
    ),
)  # fmt: skip
"""Each of these must be caught by one of its scenarios."""
