"""Components that watch others, importable in child processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from kompyct import FaultContext, RecoveryHandler, Terminated
from tests.conftest import LIMIT
from tests.process.components import Holder


class Watcher(Holder):
    """Its state is a list of what it was told; it watches `refs` from its start on."""

    def __init__(self, refs: Iterable[Any] = (), **options: Any) -> None:
        super().__init__([], **options)
        self.refs = refs

    def on_start(self) -> None:
        super().on_start()
        for ref in self.refs:
            self.watch(ref)

    def on_receive(self, message: Any) -> object:
        if isinstance(message, Terminated):
            self.state.append(message)
            self.note("told")
            return None
        if isinstance(message, str):
            self.state.append(message)
            return None
        return super().on_receive(message)


class EarlyWatcher(Watcher):
    """Watches in its `__init__`."""

    def __init__(self, ref: Any, **options: Any) -> None:
        super().__init__((), **options)
        self.watch(ref)


class OnlyHere:
    """Can be pickled, and unpickled in the process that did so only."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _read, (os.getpid(),)


def _read(made_in: int) -> Any:
    if os.getpid() != made_in:
        raise LookupError("unreadable")
    return OnlyHere()


class Looker(Watcher):
    """Notes what has the names of the one that has ended when it hears of that."""

    def on_receive(self, message: Any) -> object:
        if isinstance(message, Terminated):
            system = self.system
            self.state.append((
                system.find(message.ref.path),
                system.whereis("service"),
                system.group("workers").members(),
            ))  # fmt: skip
            return None
        return super().on_receive(message)


def watcher_again(fault: FaultContext[Any]) -> RecoveryHandler:
    """Go on as a watcher that has been told nothing and watches nobody anew."""
    return fault.restart(partial(Watcher, (), recovery=watcher_again))


def watch(component: Watcher, *refs: Any) -> None:
    """Watch others."""
    for ref in refs:
        component.watch(ref)


def unwatch(component: Watcher, ref: Any) -> None:
    """Watch another no longer."""
    component.unwatch(ref)


def end_and_unwatch(component: Watcher, ref: Any, *, again: bool = False) -> None:
    """In one handler: end another, watch it no longer, and perhaps once more."""
    component.system.kill(ref).result(LIMIT)
    component.unwatch(ref)
    if again:
        component.watch(ref)


def end_and_leave(component: Watcher, ref: Any) -> None:
    """In one handler: end another, then this one, after what is waiting by then."""
    component.system.kill(ref).result(LIMIT)
    component.kill_self(after_messages=True)


def error_of(component: Watcher, action: Callable[..., object], *arguments: Any) -> str:
    """What an action raises."""
    try:
        action(component, *arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def watch_itself(component: Watcher) -> None:
    """Watch this component."""
    component.watch(component.ref)


def nothing(component: Any) -> None:
    """Do nothing."""
