"""How are components tested, without waiting and with faults at will?

`TestSystem` runs everything on the test's own thread in virtual time: five seconds pass in
milliseconds, and every run gives the same result. `EventRecorder` and the `fail_*` functions work
with any system.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, NoReturn, TypeVar

from kompyct.backends.manual import ManualBackend
from kompyct.clock import SECOND, ManualClock, nanoseconds
from kompyct.codecs import DumpsLoads
from kompyct.component import Component
from kompyct.deadline import SimulatedHang
from kompyct.errors import ArgumentError, ArgumentTypeError
from kompyct.events import Event
from kompyct.options import Durability
from kompyct.ref import ComponentRef
from kompyct.store.snapshots import SnapshotStore
from kompyct.system import ComponentSystem

E = TypeVar("E", bound=Event)

HOOKS = ("on_start", "on_stop", "on_kill")


class EventRecorder:
    """Give it as `on_event`; it keeps the events, for any thread to look at."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # protects _events
        self._events: list[Event] = []

    def __call__(self, event: Event) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Event]:
        with self._changed:
            return iter(tuple(self._events))

    def __len__(self) -> int:
        with self._changed:
            return len(self._events)

    def of(self, kind: type[E]) -> list[E]:
        """The events of that kind so far, the first one first."""
        return [event for event in self if isinstance(event, kind)]

    def wait_for(self, kind: type[E], count: int = 1, timeout: float = 5.0) -> list[E]:
        """Wait until there are `count` events of that kind, and return them.

        Not for a `TestSystem`, where `advance` and `run_until_idle` make things happen.

        Args:
            timeout: seconds.

        Raises:
            TimeoutError: there are fewer by then; the message lists what there was.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._kept(kind)) >= count, timeout):
                raise TimeoutError(
                    f"{len(self._kept(kind))} of {count} {kind.__name__} within {timeout:g} s; "
                    f"recorded: {[str(event) for event in self._events]}"
                )
            return self._kept(kind)

    def clear(self) -> None:
        """Forget all."""
        with self._changed:
            self._events.clear()

    def _kept(self, kind: type[E]) -> list[E]:
        return [event for event in self._events if isinstance(event, kind)]


class TestSystem(ComponentSystem):
    """A system on the test's own thread, in virtual time.

    Nothing runs but while the test waits for something (`ask`, a future's `result`,
    `shutdown`), or calls `run_until_idle` or `advance`. `events` records what happened.

    Args:
        name: as for `ComponentSystem`.
        on_undelivered: as for `ComponentSystem`.
        recovery_deadline: as for `ComponentSystem`, in virtual seconds.
        store, durability, trust, codec: as for `ComponentSystem`; with a `MemoryStore`, whose
            `crashed()` is what the loss of the process would leave, no file is touched.
        time_limit: as for `ComponentSystem`, in virtual seconds: so only `hang` exceeds it.
        memory_limit: as for `ComponentSystem`; nothing looks at it.
    """

    __test__ = False  # pytest: this is no test class

    def __init__(
        self,
        name: str | None = None,
        *,
        on_undelivered: Callable[[str, Any], object] | None = None,
        recovery_deadline: float = 5.0,
        store: str | os.PathLike[str] | SnapshotStore | None = None,
        durability: Durability = "memory",
        trust: Literal["local"] | bytes = "local",
        codec: Literal["pickle", "json"] | DumpsLoads = "pickle",
        time_limit: float | None = None,
        memory_limit: int | str | None = None,
    ) -> None:
        self.events = EventRecorder()
        self._manual_clock = ManualClock()
        super().__init__(
            name,
            backend="manual",
            clock=self._manual_clock,
            on_event=self.events,
            on_undelivered=on_undelivered,
            recovery_deadline=recovery_deadline,
            store=store,
            durability=durability,
            trust=trust,
            codec=codec,
            time_limit=time_limit,
            memory_limit=memory_limit,
        )

    def run_until(self, reached: Callable[[], bool], timeout: float = 60.0) -> bool:
        """Run, and let time pass where nothing is ready, until `reached()`.

        Args:
            timeout: virtual seconds, >= 0.

        Returns: whether it was reached.
        """
        return self._backend.run_until(reached, timeout)

    @property
    def _backend(self) -> ManualBackend:
        backend = self._runtime.backend
        assert isinstance(backend, ManualBackend)
        return backend

    @property
    def time(self) -> float:
        """Virtual seconds since the system was made."""
        return self._manual_clock.now() / SECOND

    def advance(self, seconds: float) -> None:
        """Let that much time pass; everything runs in the order it falls due.

        Raises:
            ArgumentError, ArgumentTypeError: `seconds` is no finite number >= 0.
        """
        nanoseconds(seconds, "seconds")
        self._backend.advance(seconds)

    def run_until_idle(self) -> int:
        """Run all that is ready, in no time; returns how many turns that took."""
        return self._backend.run_until_idle()


def hang() -> NoReturn:
    """Stand for code that never returns, under a `TestSystem`.

    In recovery functions, and in handlers of components with a `time_limit`; elsewhere it is an
    exception like any other.

    Virtual time goes on, so the deadline passes and what is abandoned is abandoned.
    """
    raise SimulatedHang


class _Injection:
    """Counts calls and raises in one of them."""

    def __init__(self, nth: int, error: BaseException | type[BaseException]) -> None:
        if isinstance(nth, bool) or not isinstance(nth, int) or nth < 1:
            raise ArgumentError(f"nth is {nth!r}; give a whole number >= 1")
        if not (
            isinstance(error, BaseException)
            or (isinstance(error, type) and issubclass(error, BaseException))
        ):
            raise ArgumentTypeError(f"error is {error!r}; give an exception or its type")
        self._left = nth
        self._error = error

    def call(self, original: Callable[..., Any], *arguments: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            raise self._error
        return original(*arguments)


def fail_message(
    ref: ComponentRef[Any], error: BaseException | type[BaseException], *, nth: int = 1
) -> None:
    """Have the present incarnation raise `error` for the `nth` message from now on.

    Raises:
        ComponentDestroyedError: there is no incarnation.
        ArgumentError, ArgumentTypeError: `nth` is no number >= 1, or `error` no exception.
    """
    component: Any = _incarnation(ref)
    injection = _Injection(nth, error)
    original = component.on_receive
    component.on_receive = lambda message: injection.call(original, message)


def fail_tick(
    ref: ComponentRef[Any], error: BaseException | type[BaseException], *, nth: int = 1
) -> None:
    """Have the present incarnation raise `error` in the `nth` tick of its timers from now on.

    Raises: as `fail_message`.
    """
    component: Any = _incarnation(ref)
    injection = _Injection(nth, error)
    for timer in ref._cell.timers or ():
        timer.wrap(injection.call)
    schedule = component._kompyct_schedule

    def schedule_wrapped(delay: int, period: int, action: Any, missed: str) -> Any:
        timer = schedule(delay, period, action, missed)
        timer.wrap(injection.call)
        return timer

    component._kompyct_schedule = schedule_wrapped


def fail_event(
    ref: ComponentRef[Any], error: BaseException | type[BaseException], *, nth: int = 1
) -> None:
    """Have the present incarnation raise `error` for the `nth` event at its ports from now on.

    Events without a handler do not count.

    Raises: as `fail_message`.
    """
    component: Any = _incarnation(ref)
    injection = _Injection(nth, error)
    for name in {*component._kompyct_handlers.values()}:
        original = getattr(component, name)
        setattr(component, name, partial(injection.call, original))


def fail_hook(
    ref: ComponentRef[Any], hook: str, error: BaseException | type[BaseException], *, nth: int = 1
) -> None:
    """Have the present incarnation raise `error` in the `nth` call of `hook` from now on.

    Args:
        hook: "on_start", "on_stop" or "on_kill".

    Raises: as `fail_message`; ArgumentError also for another hook.
    """
    if hook not in HOOKS:
        raise ArgumentError(f"hook is {hook!r}; give one of {', '.join(HOOKS)}")
    component = _incarnation(ref)
    injection = _Injection(nth, error)
    original = getattr(component, hook)
    setattr(component, hook, lambda: injection.call(original))


def _incarnation(ref: ComponentRef[Any]) -> Component[Any]:
    return ref._cell.incarnation_now()
