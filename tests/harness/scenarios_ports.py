"""Do channels, events and ends meet well?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kompyct.backends import Graveyard
from kompyct.cell import Cell
from kompyct.channels import Channels
from kompyct.component import Component
from kompyct.errors import ChannelError, ComponentDestroyedError
from kompyct.lifecycle import State
from kompyct.port_types import Port
from kompyct.ports import Provided, Required, handles
from kompyct.ref import ComponentRef
from kompyct.registration import Registration
from kompyct.triggering import deliver
from tests.harness.stage import Stage
from tests.harness.world import Noter, World, recover


class Texts(Port[str, str]):
    """Texts in either direction."""


class Source(Component[Any]):
    """Provides them."""

    texts = Provided(Texts)


class Sink(Noter):
    """A noter that requires them, and notes them as it notes messages."""

    texts = Required(Texts)

    @handles(texts)
    def on_text(self, event: str) -> None:
        self.on_receive(event)


class Connected(World):
    """The cell of the world is a sink's, and there is a source."""

    begins_connected = True

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        shared: Any = self.shared
        shared.key = "explored"
        shared.registry = {}
        shared.system = SimpleNamespace(_cell=lambda ref: ref._cell)
        shared.forget = self.forget
        self.channels = Channels(shared)
        self.source = Cell(shared, 2, "source", Source, self.backend, self.options)
        self.source.component = self.source.make(Source)
        self.connected = 0
        if self.begins_connected:
            self.connect()

    def make(self) -> Noter:
        sink = Sink(self)
        sink._kompyct_registration = Registration(recover, None, 0, 0, 0)
        return sink

    def forget(self, cell: Cell) -> Graveyard:
        self.channels.forget(cell)
        return self.shared.graveyard

    def connect(self) -> None:
        provided, required = Source.texts.of(ComponentRef(self.source)), Sink.texts.of(self.ref)
        try:
            self.channel = self.channels.connect(provided, required)
        except ComponentDestroyedError:
            return
        self.connected += 1

    def trigger(self, *texts: str) -> None:
        """As `OwnPort.trigger` does it, without its look at who triggers."""
        outlet = self.channels.outlet(self.source, "texts")
        for text in texts:
            targets = outlet.targets
            deliver(text, outlet.renew() if targets is None else targets)

    def check_ends(self, channels: int) -> None:
        """Each end knows of so many channels, or is gone."""
        for cell, name in ((self.source, "texts"), (self.cell, "texts")):
            ports = self.channels._ports.get(cell.id)
            ends = (
                0 if ports is None or name not in ports.outlets else len(ports.outlets[name].ends)
            )
            assert ends == channels, f"{cell.path} knows of {ends} channels"
        assert self.cell.state is not State.DESTROYED or self.cell.id not in self.channels._ports


class ConnectEnd(Connected):
    """A connection that meets the end of a component leaves nothing behind."""

    begins_connected = False

    def one(self) -> None:
        self.connect()

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        self.check_ends(0)


class ConnectFault(Connected):
    """A connection that meets a fault of the component is there for its next incarnation."""

    begins_connected = False
    waiting = ("bad",)
    sent = "bad s1"

    def one(self) -> None:
        self.connect()

    def two(self) -> None:
        self.backend.drain()

    def settle(self) -> None:
        super().settle()
        self.trigger("s1")
        super().settle()

    def check(self) -> None:
        super().check()
        self.check_ends(1)


class TriggerEnd(Connected):
    """An event that meets the end of a component is handled, a dead letter, or dropped."""

    def one(self) -> None:
        self.trigger("a1", "a2")

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        kept = sorted([*self.handled(), *self.shared.letters])
        assert kept in ([], ["a1"], ["a1", "a2"]), f"of a1 and a2 there is {kept}"
        self.sent = " ".join(kept)  # type: ignore[misc]
        super().check()
        self.check_ends(0)


class TriggerConnect(Connected):
    """An event that meets a connection passes or not, and those after both pass, once."""

    begins_connected = False

    def one(self) -> None:
        self.trigger("a1")

    def two(self) -> None:
        self.connect()

    def settle(self) -> None:
        self.trigger("s1")
        super().settle()

    def check(self) -> None:
        self.sent = "a1 s1" if "a1" in self.handled() else "s1"  # type: ignore[misc]
        super().check()
        self.check_ends(1)


class TriggerDisconnect(Connected):
    """An event that meets the end of its channel passes or not, and none after both does."""

    def one(self) -> None:
        self.trigger("a1")

    def two(self) -> None:
        self.channels.disconnect(self.channel)

    def settle(self) -> None:
        self.trigger("s1")
        super().settle()

    def check(self) -> None:
        self.sent = "a1" if "a1" in self.handled() else ""  # type: ignore[misc]
        super().check()
        self.check_ends(0)


class DisconnectEnd(Connected):
    """A disconnection that meets the end of a component leaves nothing behind."""

    def one(self) -> None:
        self.channels.disconnect(self.channel)

    def two(self) -> None:
        self.kill()
        self.backend.drain()

    def check(self) -> None:
        super().check()
        self.check_ends(0)


class ConnectConnect(Connected):
    """Of two connections of the same ports at once, one is refused."""

    begins_connected = False
    refusals = 0

    def one(self) -> None:
        self.connect_once()

    def two(self) -> None:
        self.connect_once()

    def connect_once(self) -> None:
        try:
            self.connect()
        except ChannelError:
            self.refusals += 1

    def check(self) -> None:
        assert self.refusals == 1
        super().check()
        self.check_ends(1)
