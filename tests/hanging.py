"""What do components do in the tests of limits and stalls? Found by name in child processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from kompyct import ComponentRef, FaultClass
from kompyct.errors import ExecutionTimeout
from kompyct.processes.usage import memory_use
from tests.process.components import PATIENCE, Do, Gate, Holder, Notes, from_snapshot


class BenignWhenLate(Holder):
    """For which a hang is no fault, where it can be interrupted."""

    fault_classes: ClassVar[Mapping[type[BaseException], FaultClass]] = {
        ExecutionTimeout: FaultClass.BENIGN
    }


def spin(component: Any, seconds: float) -> str:
    """Compute in Python for that long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return "spun"


def nap(component: Any, seconds: float) -> str:
    """Be in a system call for that long: it cannot be interrupted."""
    time.sleep(seconds)
    return "slept"


def hold(component: Any, seconds: float = 60.0) -> None:
    """Compute in C without ever giving the interpreter back: for minutes, whatever is asked."""
    sum(range(10**11))


def swallow(component: Any, seconds: float) -> str:
    """Go on whatever is raised."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            spin(component, until - time.monotonic())
        except BaseException:
            continue
    return "swallowed"


def clean_up(component: Any, notes: Notes) -> None:
    """Compute, and leave in order when interrupted."""
    try:
        spin(component, 10.0)
    finally:
        notes.add("cleaned up")


def go_on(component: Any, seconds: float, times: int) -> str:
    """Compute again and again, and tell of progress each time."""
    for _ in range(times):
        spin(component, seconds)
        component.progress()
    return "done"


def go_on_once(component: Any, seconds: float) -> None:
    """Tell of progress once, then compute for ever."""
    component.progress()
    spin(component, seconds)
    component.progress()
    spin(component, 10.0)


def nap_the_first_time(component: Any, notes: Notes, seconds: float) -> str:
    """Hang if this was not done before."""
    if notes.lines():
        return "second time"
    notes.add("first time")
    time.sleep(seconds)
    return "first time"


def note(component: Any, notes: Notes, line: object) -> None:
    """Add a line."""
    notes.add(line)


def save(component: Any, state: Any) -> None:
    """Set the state, and save it."""
    component.state = state
    component.set_recovery_function(from_snapshot, snapshot=state)


def save_and_nap(component: Any, state: Any, seconds: float) -> None:
    """Save, hang, and try to save again."""
    save(component, state)
    time.sleep(seconds)
    save(component, "late")


def ask_other(component: Any, other: ComponentRef[Any], action: Any, *arguments: Any) -> Any:
    """Wait for what another component does."""
    return other.ask(Do(action, arguments), timeout=5.0)


def wait_for_gate(component: Any, gate: Gate) -> str:
    """Wait in Python."""
    gate.wait()
    return "open"


def spin_until_open(component: Any, gate: Gate) -> str:
    """Compute in Python until the gate is open."""
    until = time.monotonic() + PATIENCE
    while not gate.is_open:
        assert time.monotonic() < until
    return "open"


def where(component: Any) -> int:
    """The process."""
    return os.getpid()


def grow(component: Any, limit: int) -> None:
    """Take memory for ever, `limit` MiB at most."""
    taken = []
    for _ in range(limit):
        taken.append(bytearray(os.urandom(1024) * 1024))


def grow_at_once(component: Any, size: int) -> int:
    """Keep that many MiB, which one call into C takes, and return."""
    component.kept_bytes = bytes(1024) * (1024 * size)
    return len(component.kept_bytes)


def schedule(action: Callable[..., object], *arguments: Any) -> Callable[[Any], None]:
    """A hook that has a timer do that."""
    return partial(_schedule, action, arguments)


def _schedule(action: Callable[..., object], arguments: tuple[Any, ...], component: Any) -> None:
    component.schedule_once(0.0, lambda: action(component, *arguments))


def schedule_short_ticks(component: Any) -> None:
    """Have a tick of 30 ms follow the other, 40 of them."""
    component.ticks = 0

    def tick() -> None:
        component.ticks += 1
        if component.ticks > 40:
            timer.cancel()
        time.sleep(0.03)

    timer = component.schedule_periodic(0.0, 0.03, tick, missed="burst")


def deaf(component: Any, seconds: float) -> None:
    """Hang, and ignore SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(seconds)


def stopped(component: Any, seconds: float) -> None:
    """Have this process stopped."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(seconds)


def fail_in_hook(component: Any) -> None:
    """Raise."""
    raise ValueError("as planned")


def resident(component: Any) -> int:
    """The bytes that the process uses."""
    return memory_use("resident").read()


def hold_for(component: Any, seconds: float) -> None:
    """Compute in C without giving the interpreter back, for at least that long."""
    count = 1_000_000
    until = time.monotonic() + seconds + 30.0
    while True:
        begun = time.monotonic()
        sum(range(count))
        took = time.monotonic() - begun
        if took >= seconds:
            return
        assert time.monotonic() < until
        count = round(count * max(1.2 * seconds / took, 1.2))
