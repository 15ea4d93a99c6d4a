"""kompyct keeps programs working when parts of them fail.

Programs are built from components; when one faults, its supervisor calls the recovery function
that it registered, with the last snapshot of its state, and does what that answers. Names are
loaded when they are first used, so that importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kompyct.version import VERSION

if TYPE_CHECKING:
    from kompyct.component import Component
    from kompyct.errors import Benign, KompyctError, Recoverable, Unrecoverable
    from kompyct.facts import FaultKind
    from kompyct.fault_classes import FaultClass
    from kompyct.faults import FaultContext, RecoveryHandler
    from kompyct.groups import Group
    from kompyct.lifecycle import Phase, State
    from kompyct.messages import OnRestart, Request
    from kompyct.notices import Terminated
    from kompyct.pykka_actors import adopt
    from kompyct.ref import ComponentRef
    from kompyct.registry import TreeNode
    from kompyct.restart import RestartLimit
    from kompyct.routes import Broadcast, ByKey, RoundRobin
    from kompyct.system import ComponentSystem

_MODULES = {
    "Benign": "errors",
    "Broadcast": "routes",
    "ByKey": "routes",
    "Component": "component",
    "ComponentRef": "ref",
    "ComponentSystem": "system",
    "FaultClass": "fault_classes",
    "FaultContext": "faults",
    "FaultKind": "facts",
    "Group": "groups",
    "KompyctError": "errors",
    "OnRestart": "messages",
    "Phase": "lifecycle",
    "Recoverable": "errors",
    "RecoveryHandler": "faults",
    "Request": "messages",
    "RestartLimit": "restart",
    "RoundRobin": "routes",
    "State": "lifecycle",
    "Terminated": "notices",
    "TreeNode": "registry",
    "Unrecoverable": "errors",
    "adopt": "pykka_actors",
}

__all__ = [
    "Benign",
    "Broadcast",
    "ByKey",
    "Component",
    "ComponentRef",
    "ComponentSystem",
    "FaultClass",
    "FaultContext",
    "FaultKind",
    "Group",
    "KompyctError",
    "OnRestart",
    "Phase",
    "Recoverable",
    "RecoveryHandler",
    "Request",
    "RestartLimit",
    "RoundRobin",
    "State",
    "Terminated",
    "TreeNode",
    "Unrecoverable",
    "adopt",
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
