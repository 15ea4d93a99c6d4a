"""Which components with ports do the tests run in child processes?"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from kompyct import (
    Channel,
    ComponentRef,
    FaultContext,
    OnRestart,
    Port,
    Provided,
    RecoveryHandler,
    Required,
    handles,
)
from tests.process.components import FAULTS, PATIENCE, Action, Do, Holder


@dataclass(frozen=True)
class Flush:
    """Wants the batch that is there."""

    why: str = ""


@dataclass(frozen=True)
class Batch:
    """A value, and what the one who gets it does then."""

    value: Any = None
    action: Action | None = None
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class SureBatch(Batch):
    """Comes back to the next incarnation."""

    on_restart: ClassVar[OnRestart] = OnRestart.REDELIVER


class Batches(Port[Flush, Batch]):
    """Values in batches."""


class Source(Holder):
    """Provides batches; its state is the list of what has come."""

    batches = Provided(Batches)

    @handles(batches)
    def on_flush(self, event: Flush) -> None:
        self.state = [*self.state, event.why]


class Sink(Holder):
    """Requires batches; its state is the list of what has come."""

    batches = Required(Batches)

    @handles(batches)
    def on_batch(self, event: Batch) -> None:
        self.state = [*self.state, event.value]
        if event.action is not None:
            event.action(self, *event.arguments)


class Link(Holder):
    """Both, under other names."""

    upstream = Required(Batches)
    downstream = Provided(Batches)


def source() -> Source:
    return Source([], recovery=source_again)


def sink() -> Sink:
    return Sink([], recovery=sink_again)


def link() -> Link:
    return Link([])


def source_again(fault: FaultContext[Any]) -> RecoveryHandler:
    FAULTS.setdefault(fault.path, []).append(fault)
    return fault.restart(source)


def sink_again(fault: FaultContext[Any]) -> RecoveryHandler:
    FAULTS.setdefault(fault.path, []).append(fault)
    return fault.restart(sink)


# -- what a `Do` has done --------------------------------------------------------------------


def indicate(component: Any, *batches: Batch) -> None:
    """Trigger indications."""
    for batch in batches:
        component.batches.trigger(batch)


def indicate_and_tell(component: Any, ref: ComponentRef[Any], count: int) -> None:
    """Send numbers as an indication and by a message in turns."""
    for number in range(0, count, 2):
        component.batches.trigger(Batch(number))
        ref.tell(Do(note, (number + 1,)))


def note(component: Any, value: Any) -> None:
    """Add to the state."""
    component.state = [*component.state, value]


def request(component: Any, *whys: str) -> None:
    """Trigger requests."""
    for why in whys:
        component.batches.trigger(Flush(why))


def raised_by(component: Any, action: Callable[..., object], *arguments: Any) -> tuple[str, str]:
    """Which exception an action raises, and what that says."""
    try:
        action(component, *arguments)
    except Exception as error:
        return type(error).__name__, str(error)
    return "nothing", ""


def connect(component: Any, source: ComponentRef[Any], sink: ComponentRef[Any]) -> Channel:
    """Connect two others, from within."""
    channel: Channel = component.system.connect(Source.batches.of(source), Sink.batches.of(sink))
    return channel


def disconnect_by(component: Any, channel: Channel, by_system: bool) -> None:
    """Disconnect them, in either way."""
    if by_system:
        component.system.disconnect(channel)
    else:
        channel.disconnect()


def indicate_one(component: Any) -> None:
    """Trigger one indication."""
    component.batches.trigger(Batch(1))


def indicate_unpicklable(component: Any) -> None:
    """Trigger what cannot leave its process."""
    component.batches.trigger(Batch(threading.Lock()))


def hang(component: Any) -> None:
    """Hang in native code, which holds the interpreter."""
    libc = ctypes.PyDLL(None)
    libc.sleep(int(PATIENCE))


class Stubborn:
    """Cannot be unpickled in a child."""

    def __reduce__(self) -> Any:
        return _only_in, (os.getpid(),)


def _only_in(pid: int) -> Stubborn:
    if os.getpid() != pid:
        raise ValueError("not here")
    return Stubborn()
