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
    from kompyct.component import Component
    from kompyct.errors import Benign, KompyctError, Recoverable, Unrecoverable
    from kompyct.facts import FaultKind
    from kompyct.fault_classes import FaultClass
    from kompyct.faults import FaultContext, RecoveryHandler
    from kompyct.lifecycle import Phase, State
    from kompyct.messages import OnRestart, Request
    from kompyct.port_types import Port
    from kompyct.ports import Provided, Required, handles
    from kompyct.pykka_actors import adopt
    from kompyct.ref import ComponentRef
    from kompyct.registry import TreeNode
    from kompyct.restart import RestartLimit
    from kompyct.system import ComponentSystem

_MODULES = {
    "Benign": "errors",
    "Channel": "channels",
    "Component": "component",
    "ComponentRef": "ref",
    "ComponentSystem": "system",
    "FaultClass": "fault_classes",
    "FaultContext": "faults",
    "FaultKind": "facts",
    "KompyctError": "errors",
    "OnRestart": "messages",
    "Phase": "lifecycle",
    "Port": "port_types",
    "Provided": "ports",
    "Recoverable": "errors",
    "RecoveryHandler": "faults",
    "Request": "messages",
    "Required": "ports",
    "RestartLimit": "restart",
    "State": "lifecycle",
    "TreeNode": "registry",
    "Unrecoverable": "errors",
    "adopt": "pykka_actors",
    "handles": "ports",
}

__all__ = [
    "Benign",
    "Channel",
    "Component",
    "ComponentRef",
    "ComponentSystem",
    "FaultClass",
    "FaultContext",
    "FaultKind",
    "KompyctError",
    "OnRestart",
    "Phase",
    "Port",
    "Provided",
    "Recoverable",
    "RecoveryHandler",
    "Request",
    "Required",
    "RestartLimit",
    "State",
    "TreeNode",
    "Unrecoverable",
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
