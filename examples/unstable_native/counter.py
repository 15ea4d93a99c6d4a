"""A counter that ends its own process, again and again, and resumes from its last snapshot."""

import ctypes
import os
import signal
from dataclasses import dataclass

from kompyct import Component, FaultContext, RecoveryHandler, Request

COUNT_EVERY = 0.010  # seconds
CRASH_EVERY = 1.5  # seconds
INVALID_ADDRESS = 0
STACK_LINES = 5  # of the report of a crash; two of them are of the stack


@dataclass(frozen=True)
class GetCount(Request[int]):
    """Ask for the current count."""


@dataclass(frozen=True)
class GetProcess(Request[int]):
    """Ask for the number of the process that counts."""


class NativeCounter(Component[GetCount | GetProcess]):
    def __init__(self, count: int = 0) -> None:
        self.count = count

    def on_start(self) -> None:
        self.schedule_periodic(COUNT_EVERY, COUNT_EVERY, self.increment)
        self.schedule_periodic(CRASH_EVERY, CRASH_EVERY, self.use_library)
        self.save()

    def on_receive(self, message: GetCount | GetProcess) -> int:
        match message:
            case GetCount():
                return self.count
            case GetProcess():
                return os.getpid()
            case _:
                self.unhandled(message)

    def increment(self) -> None:
        self.count += 1
        self.save()  # each count: it goes no further than into memory that outlives the process

    def use_library(self) -> None:
        ctypes.string_at(INVALID_ADDRESS)  # a segmentation fault

    def save(self) -> None:
        self.set_recovery_function(recover, snapshot=self.count)


def recover(fault: FaultContext[int]) -> RecoveryHandler:
    show(fault)
    return fault.restart(lambda: NativeCounter(fault.snapshot))


def show(fault: FaultContext[int]) -> None:
    """Print how its process ended, where it was, and what it leaves."""
    assert fault.exit is not None  # nothing else happens to this one
    lines = [f"fault: {fault.exit}; cause {fault.exit.cause!r}, in {fault.phase.value}"]
    if fault.exit.signal == signal.SIGSEGV:
        lines += [f"  {line}" for line in fault.traceback.splitlines()[:STACK_LINES] if line]
    lines.append(f"  last snapshot: {fault.snapshot}, suspect {fault.suspect}")
    print("\n".join(lines), flush=True)
