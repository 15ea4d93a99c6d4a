"""What the parts of the station do: archive, parsers, sensors, gate, reporter."""

import ctypes
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from kompyct import (
    ChildSpec,
    Component,
    ComponentRef,
    FaultContext,
    RecoveryHandler,
    Request,
    StartChild,
)
from kompyct.errors import ComponentFaultError, RestartingError

STATION = "station"  # the name of the tree
REPORT_EVERY = 1.0  # seconds
INVALID_ADDRESS = 0


@dataclass(frozen=True)
class Reading:
    """A value of a sensor, in degrees Celsius."""

    sensor: str
    value: float


@dataclass(frozen=True)
class Lost:
    """A line of a sensor that cannot be parsed."""

    sensor: str


@dataclass(frozen=True)
class Totals:
    """How many readings of each sensor there are, and how many lines were lost."""

    readings: Mapping[str, int] = field(default_factory=dict)
    lost: int = 0


@dataclass(frozen=True)
class GetTotals(Request[Totals]):
    """Ask for the totals."""


class Archive(Component[Reading | Lost | GetTotals]):
    """Keeps what comes in; all others are of no use without it. Its state survives it."""

    def __init__(self, totals: Totals | None = None) -> None:
        self.totals = totals or Totals()

    def on_start(self) -> None:
        self.save()

    def on_receive(self, message: Reading | Lost | GetTotals) -> Totals | None:
        readings, lost = self.totals.readings, self.totals.lost
        match message:
            case GetTotals():
                return self.totals
            case Lost():
                self.totals = Totals(readings, lost + 1)
            case Reading(sensor, value):
                if math.isnan(value):
                    raise ValueError(f"a reading of {sensor} is no number")
                count = readings.get(sensor, 0) + 1
                self.totals = Totals({**readings, sensor: count}, lost)
            case _:
                self.unhandled(message)
        self.save()
        return None

    def save(self) -> None:
        self.set_recovery_function(recover, snapshot=self.totals)


def recover(fault: FaultContext[Totals]) -> RecoveryHandler:
    return fault.restart(lambda: Archive(fault.snapshot))


@dataclass(frozen=True)
class Parse(Request[float]):
    """Ask for the value in a line."""

    line: str


class Parser(Component[Parse]):
    """Stands for a library in C that is fast, and crashes over what it does not expect."""

    def __init__(self, crash: Callable[[], object]) -> None:
        self.crash = crash

    def on_receive(self, message: Parse) -> float:
        value = message.line.partition("=")[2]
        if not value:
            self.crash()
        return float(value)


def crash_natively() -> None:
    """A segmentation fault, which only a process of its own survives."""
    ctypes.string_at(INVALID_ADDRESS)


@dataclass(frozen=True)
class Line:
    """How a sensor behaves: everything but `every` is a fault, made on purpose.

    Attributes:
        every: seconds between its lines.
        broken, not_a_number: each of so many lines is garbage, or has the value "nan".
        hangs_up: with that line the connection is lost.
    """

    parser: str
    every: float
    broken: int | None = None
    not_a_number: int | None = None
    hangs_up: int | None = None


SENSORS = {
    "roof": Line("a", 0.10, broken=10),
    "cellar": Line("b", 0.11, hangs_up=10),
    "garden": Line("b", 0.13, not_a_number=18),
}


class Sensor(Component[object]):
    """A connection to a sensor: gets its lines, has them parsed, and passes readings on."""

    def __init__(self, name: str, line: Line) -> None:
        self.name = name
        self.line = line
        self.count = 0

    def on_start(self) -> None:
        self.archive = found(self, "archive")
        self.parser = found(self, f"parsers/{self.line.parser}")
        self.schedule_periodic(self.line.every, self.line.every, self.take_line)

    def take_line(self) -> None:
        try:
            value = self.parser.ask(Parse(self.next_line()))
        except (ComponentFaultError, RestartingError, ValueError):  # the parser comes back
            self.archive.tell(Lost(self.name))
        else:
            self.archive.tell(Reading(self.name, value))

    def next_line(self) -> str:
        """What comes over the wire."""
        self.count += 1
        if self.count == self.line.hangs_up:
            raise ConnectionResetError(f"{self.name} has hung up")
        if self.line.broken and self.count % self.line.broken == 0:
            return "\x00garbage"
        if self.line.not_a_number and self.count % self.line.not_a_number == 0:
            return f"{self.name}=nan"
        return f"{self.name}={20 + self.count / 10}"


class Gate(Component[object]):
    """Lets the sensors in. It starts after their supervisor, so whenever that was restarted, and
    had lost all it was given, they are let in again."""

    def on_start(self) -> None:
        sensors = found(self, "sensors")
        for name, line in SENSORS.items():
            spec = ChildSpec(id=name, factory=partial(Sensor, name, line), restart="transient")
            sensors.tell(StartChild(spec))


class Reporter(Component[object]):
    """Prints the totals now and then."""

    def on_start(self) -> None:
        self.archive = found(self, "archive")
        self.schedule_periodic(REPORT_EVERY, REPORT_EVERY, self.report)

    def report(self) -> None:
        show(f"  report: {told(self.archive.ask(GetTotals()))}")


def found(component: Component[object], path: str) -> ComponentRef[object]:
    """Another part of the station, which has been started before."""
    ref = component.system.find(f"{STATION}/{path}")
    assert ref is not None
    return ref


def told(totals: Totals) -> str:
    """The totals in a line."""
    readings = ", ".join(f"{name} {count}" for name, count in sorted(totals.readings.items()))
    return f"{readings or 'no readings'}; {totals.lost} lines lost"


def show(line: str) -> None:
    """Print `line` in one piece; `print` would let a line of another thread in before its end."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
