"""kompyct keeps programs working when parts of them fail.

Programs are built from components; when one faults, its supervisor calls the recovery function
that it registered, with the last snapshot of its state, and does what that answers. Names are
loaded when they are first used, so that importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kompyct.version import VERSION

if TYPE_CHECKING:
    from kompyct.channels import Channel
    from kompyct.child_requests import (
        ChildCounts,
        ChildInfo,
        CountChildren,
        DeleteChild,
        RestartChild,
        StartChild,
        TerminateChild,
        WhichChildren,
    )
    from kompyct.children import ChildSpec, Restart
    from kompyct.component import Component
    from kompyct.errors import Benign, KompyctError, Recoverable, Unrecoverable
    from kompyct.facts import FaultKind
    from kompyct.fault_classes import FaultClass
    from kompyct.faults import FaultContext, RecoveryHandler
    from kompyct.groups import Group
    from kompyct.lifecycle import Ending, Phase, State
    from kompyct.messages import OnRestart, Request
    from kompyct.needed import NOT_NEEDED, NotNeeded
    from kompyct.notices import Terminated
    from kompyct.poison import PoisonMessage
    from kompyct.port_types import Port
    from kompyct.ports import Provided, Required, handles
    from kompyct.pykka_actors import adopt
    from kompyct.ref import ComponentRef
    from kompyct.registry import TreeNode
    from kompyct.restart import Backoff, RestartLimit
    from kompyct.routes import Broadcast, ByKey, RoundRobin
    from kompyct.strategy import AutoShutdown, Strategy
    from kompyct.supervisor import ComponentSupervisor
    from kompyct.system import ComponentSystem

_MODULES = {
    "AutoShutdown": "strategy",
    "Backoff": "restart",
    "Benign": "errors",
    "Broadcast": "routes",
    "ByKey": "routes",
    "Channel": "channels",
    "ChildCounts": "child_requests",
    "ChildInfo": "child_requests",
    "ChildSpec": "children",
    "Component": "component",
    "ComponentRef": "ref",
    "ComponentSupervisor": "supervisor",
    "ComponentSystem": "system",
    "CountChildren": "child_requests",
    "DeleteChild": "child_requests",
    "Ending": "lifecycle",
    "FaultClass": "fault_classes",
    "FaultContext": "faults",
    "FaultKind": "facts",
    "Group": "groups",
    "KompyctError": "errors",
    "NOT_NEEDED": "needed",
    "NotNeeded": "needed",
    "OnRestart": "messages",
    "Phase": "lifecycle",
    "PoisonMessage": "poison",
    "Port": "port_types",
    "Provided": "ports",
    "Recoverable": "errors",
    "RecoveryHandler": "faults",
    "Request": "messages",
    "Required": "ports",
    "Restart": "children",
    "RestartChild": "child_requests",
    "RestartLimit": "restart",
    "RoundRobin": "routes",
    "StartChild": "child_requests",
    "State": "lifecycle",
    "Strategy": "strategy",
    "TerminateChild": "child_requests",
    "Terminated": "notices",
    "TreeNode": "registry",
    "Unrecoverable": "errors",
    "WhichChildren": "child_requests",
    "adopt": "pykka_actors",
    "handles": "ports",
}

__all__ = [
    "NOT_NEEDED",
    "AutoShutdown",
    "Backoff",
    "Benign",
    "Broadcast",
    "ByKey",
    "Channel",
    "ChildCounts",
    "ChildInfo",
    "ChildSpec",
    "Component",
    "ComponentRef",
    "ComponentSupervisor",
    "ComponentSystem",
    "CountChildren",
    "DeleteChild",
    "Ending",
    "FaultClass",
    "FaultContext",
    "FaultKind",
    "Group",
    "KompyctError",
    "NotNeeded",
    "OnRestart",
    "Phase",
    "PoisonMessage",
    "Port",
    "Provided",
    "Recoverable",
    "RecoveryHandler",
    "Request",
    "Required",
    "Restart",
    "RestartChild",
    "RestartLimit",
    "RoundRobin",
    "StartChild",
    "State",
    "Strategy",
    "TerminateChild",
    "Terminated",
    "TreeNode",
    "Unrecoverable",
    "WhichChildren",
    "adopt",
    "handles",
]

__version__ = VERSION


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
