"""How do pykka's actors and proxies work with kompyct?"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pykka
from pykka import messages
from pykka._introspection import get_attr_directly

from kompyct.backends.manual import ManualBackend
from kompyct.component import Component
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    ComponentDestroyedError,
    as_raised,
)
from kompyct.fault_classes import FaultClass, classify
from kompyct.lifecycle import State
from kompyct.messages import NOBODY, Envelope
from kompyct.ref import ComponentRef
from kompyct.waiting import here


def adopt(
    actor_class: type[pykka.Actor],
    *args: Any,
    benign: tuple[type[BaseException], ...] = (),
    **kwargs: Any,
) -> Callable[[], Component[Any]]:
    """A factory for `create` that runs a plain pykka actor as a component (S-22).

    Its messages, proxies, `on_start`, `on_stop` and `on_failure` work as under pykka, but its
    faults reach the supervisor: those in asks and in `on_start` too. `self.actor_ref` is a ref of
    ours with pykka's interface; `self.stop()` ends the component after what is waiting. The actor
    has no thread or inbox of its own, and `pykka.ActorRegistry` does not know it.

    Args:
        actor_class: a subclass of `pykka.ThreadingActor`.
        args, kwargs: given to it, at a restart as well.
        benign: exception types that are no fault; an asker gets them.

    Raises:
        ArgumentTypeError: `actor_class` is no actor class, or `benign` no tuple of exceptions.
    """
    if not (isinstance(actor_class, type) and issubclass(actor_class, pykka.Actor)):
        raise ArgumentTypeError(f"adopt was given {actor_class!r}; give a pykka actor class")
    if not (
        isinstance(benign, tuple)
        and all(isinstance(cls, type) and issubclass(cls, BaseException) for cls in benign)
    ):
        raise ArgumentTypeError(f"benign is {benign!r}; give a tuple of exception types")
    classes = dict.fromkeys(benign, FaultClass.BENIGN)

    class Adopted(AdoptedActor):
        fault_classes = classes

    Adopted.__qualname__ = Adopted.__name__ = f"Adopted{actor_class.__name__}"
    return lambda: Adopted(actor_class(*args, **kwargs))


class AdoptedActor(Component[Any]):
    """The component that runs a pykka actor."""

    def __init__(self, actor: pykka.Actor) -> None:
        if not hasattr(actor, "_actor_ref"):
            raise ArgumentError(
                f"{type(actor).__qualname__}.__init__ does not call super().__init__(); "
                "pykka needs that"
            )
        self.actor = actor
        # The very object, since the actor's `__init__` may have made proxies with it.
        _ActorRef.take_over(actor.actor_ref, ComponentRef(here.creating))

    def on_start(self) -> None:
        self._as_pykka(self.actor.on_start)

    def on_stop(self) -> None:
        """Nothing: pykka knows no pause."""

    def on_kill(self) -> None:
        self.actor.actor_stopped.set()
        self._as_pykka(self.actor.on_stop)

    def on_receive(self, message: Any) -> object:
        return self._as_pykka(lambda: self.actor.on_receive(message))

    def _as_pykka(self, call: Callable[[], Any]) -> Any:
        """`call()`; a fault is shown to `on_failure` before recovery sees it."""
        try:
            return call()
        except BaseException as exception:
            if not self._is_benign(exception):
                self.actor.actor_stopped.set()
                self._tell_of_failure()
            raise

    def _tell_of_failure(self) -> None:
        try:
            self.actor.on_failure(*sys.exc_info())
        except BaseException as error:  # it must not hide the fault
            self.log.error("on_failure raised %s", type(error).__qualname__)

    def _is_benign(self, exception: BaseException) -> bool:
        return classify(exception, self.fault_classes) is FaultClass.BENIGN


class _ActorRef(pykka.ActorRef[Any]):
    """A component's ref with the interface of pykka's, for `actor_ref` and for proxies."""

    def __init__(self, actor: Any, ref: ComponentRef[Any]) -> None:
        self._first = weakref.ref(actor)
        self.actor_class = type(actor)
        self.actor_urn = getattr(actor, "actor_urn", f"urn:kompyct:{ref.path}")
        self._ref = ref

    @classmethod
    def take_over(cls, pykkas: pykka.ActorRef[Any], ref: ComponentRef[Any]) -> None:
        """Make pykka's ref one of ours, with what was sent through it so far."""
        inbox = pykkas.actor_inbox
        own: Any = pykkas
        own.__class__ = cls
        own._ref = ref
        own._first = own.__dict__["_actor_weakref"]
        while not inbox.empty():
            envelope = inbox.get()
            own._send(envelope.message, envelope.reply_to)

    @property
    def _actor_weakref(self) -> Callable[[], Any]:  # type: ignore[override]  # a call is all
        """Called by proxies: the present incarnation, or the first one while there is none."""
        component = self._ref._cell.component
        if component is None:
            return self._first
        return lambda: component.actor if isinstance(component, AdoptedActor) else component

    def is_alive(self) -> bool:
        return self._ref.state is not State.DESTROYED

    def tell(self, message: Any) -> None:
        if not self.is_alive():
            raise pykka.ActorDeadError(f"{self} not found")
        if isinstance(message, messages._ActorStop):  # what an actor's `self.stop()` sends
            self._kill()
        else:
            self._send(message, None)

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        backend = self._ref._cell.runtime.backend
        future: pykka.ThreadingFuture[Any] = (
            _ManualPykkaFuture(backend)
            if isinstance(backend, ManualBackend)
            else pykka.ThreadingFuture()
        )
        self._send(message, future)
        return future.get(timeout=timeout) if block else future

    def stop(self, *, block: bool = True, timeout: float | None = None) -> Any:
        alive = self.is_alive()
        ended = self._kill()
        stopped: pykka.ThreadingFuture[bool] = pykka.ThreadingFuture()

        def wait(timeout: float | None) -> bool:
            try:
                ended.result(timeout)
            except TimeoutError:
                raise pykka.Timeout(f"{timeout} seconds") from None
            return alive

        stopped.set_get_hook(wait)
        return stopped.get(timeout=timeout) if block else stopped

    def _kill(self) -> Future[None]:
        return self._ref._cell.runtime.system.kill(self._ref, after_messages=True)

    def _send(self, message: Any, future: pykka.ThreadingFuture[Any] | None) -> None:
        action = None
        if isinstance(message, messages.ProxyCall | messages.ProxyGetAttr | messages.ProxySetAttr):
            action = _Proxied(message)
        cell = self._ref._cell
        if future is not None:
            envelope = Envelope(message, action)
            envelope.done = _ToPykkaFuture(envelope, future, self._ref.path)
            cell.send_ask(envelope)
        else:
            cell.send(message if action is None else Envelope(message, action, NOBODY))


class _Proxied:
    """A call through a proxy, as the action of an envelope."""

    def __init__(self, message: Any) -> None:
        self._message = message

    def __call__(self, component: Any) -> Any:
        if isinstance(component, AdoptedActor):
            return component._as_pykka(lambda: self._apply(component.actor))
        return self._apply(component)

    def _apply(self, target: Any) -> Any:
        message = self._message
        if isinstance(message, messages.ProxyCall):
            return get_attr_directly(target, message.attr_path)(*message.args, **message.kwargs)
        if isinstance(message, messages.ProxyGetAttr):
            return get_attr_directly(target, message.attr_path)
        parent = get_attr_directly(target, message.attr_path[:-1])
        return setattr(parent, message.attr_path[-1], message.value)


class _ToPykkaFuture:
    """The `done` of an ask whose reply goes into one of pykka's futures."""

    def __init__(self, envelope: Envelope, future: pykka.ThreadingFuture[Any], path: str) -> None:
        self._envelope = envelope
        self._future = future
        self._path = path

    def release(self) -> None:
        error = self._envelope.error
        if error is None:
            self._future.set(self._envelope.value)
            return
        if isinstance(error, ComponentDestroyedError):
            dead = pykka.ActorDeadError(str(error))
            dead.__cause__ = error
            error = dead
        error = as_raised(error, self._path)
        self._future.set_exception((type(error), error, error.__traceback__))


class _ManualPykkaFuture(pykka.ThreadingFuture[Any]):
    """A future of pykka's whose `get` runs the components until it is set."""

    def __init__(self, backend: ManualBackend | None = None) -> None:
        super().__init__()  # pykka's `map` and its like make futures of the same class
        self._backend = backend

    def get(self, *, timeout: float | None = None) -> Any:
        if self._backend is not None and here.runner is self._backend:
            self._backend.run_until(
                lambda: self._result is not None, -1 if timeout is None else timeout
            )
            timeout = 0
        return super().get(timeout=timeout)


def proxy(ref: ComponentRef[Any]) -> pykka.ActorProxy[Any]:
    """See `ComponentRef.proxy`."""
    component = ref._cell.incarnation_now()
    actor = component.actor if isinstance(component, AdoptedActor) else component
    return pykka.ActorProxy(actor_ref=_ActorRef(actor, ref))
