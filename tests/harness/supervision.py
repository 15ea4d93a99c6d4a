"""Does `Supervision` do what OTP's supervisor would, whatever happens in whatever order?

A `Pair` is kompyct's pure engine beside the model of `supervision_model`: each event goes to both,
and what they do about it must agree. Beside that, what must hold of any supervisor is checked on
the engine alone. Events come in any order that children, clocks and users can bring about.

Run it as `python -m tests.harness.supervision`: the long form of what the tests do.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from typing import Any

from kompyct import Backoff, ChildSpec, RestartLimit
from kompyct.children import Restart
from kompyct.strategy import (
    AutoShutdown,
    Exit,
    Forget,
    GiveUp,
    Outcome,
    Over,
    Ready,
    Release,
    Standing,
    Start,
    Stop,
    Strategy,
    Wait,
)
from kompyct.supervision import Supervision
from tests.harness.supervision_model import SECOND, Child, Model, Waits

Event = tuple[Any, ...]
"""(name, child or None, detail or None): a method of `Pair._EVENTS`, and what it is about."""

DOWN = (Standing.STOPPED, Standing.RESTARTING)
STATIC = ("one_for_one", "one_for_all", "rest_for_one")


class BrokenError(AssertionError):
    """Engine and model disagree, or something does not hold that always must."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a child is declared."""

    restart: str = "permanent"
    significant: bool = False


@dataclass(frozen=True, slots=True)
class Setup:
    """How a supervisor is declared.

    Attributes:
        backoff: seconds: min, max, reset_after; None: none.
    """

    strategy: str
    kinds: tuple[Kind, ...]
    max_restarts: int | None = 2
    within: float = 5.0
    auto_shutdown: str = "never"
    backoff: tuple[float, float, float] | None = None
    keep: bool = False

    @property
    def is_dynamic(self) -> bool:
        """Whether its children are added later."""
        return self.strategy == "dynamic"


def no_jitter() -> float:
    """The share of the jitter that is taken."""
    return 0.0


def _factory() -> Any:
    raise AssertionError("the engine makes nothing")


@dataclass
class Timer:
    """A delay that one of them has asked for."""

    key: str
    at: int
    ticket: int
    token: int


class Pair:
    """The engine and the model, both in the same state.

    Args:
        spare: kinds of children that may be added, by their ids.
    """

    def __init__(self, setup: Setup, spare: dict[str, Kind] | None = None) -> None:
        self.setup = setup
        self.now = 0
        self.was_ending = self.was_over = False
        self.is_frozen = False  # whether delays may be over at any time
        names = "abcdefgh"
        kinds = dict(zip(names, setup.kinds, strict=False))
        self.spare = dict(spare or {})
        self.timers: list[Timer] = []
        self.owed: dict[str, str] = {}  # "start" or "stop": what a child has still to answer
        limit = setup.max_restarts
        self.engine = Supervision(
            Strategy(setup.strategy),
            None if limit is None else RestartLimit(limit, setup.within),
            AutoShutdown(setup.auto_shutdown),
            None,
            no_jitter,
        )
        self.model = Model(
            setup.strategy,
            None if limit is None else (limit, round(setup.within * SECOND)),
            setup.auto_shutdown,
        )
        self._compare(
            ("start", None, None),
            self.engine.start(
                [self._spec(key, kind) for key, kind in kinds.items()], 0, keep=setup.keep
            ),
            self.model.start(
                [self._child(key, kind) for key, kind in kinds.items()], 0, keep=setup.keep
            ),
            {},
        )

    def clone(self) -> Pair:
        """Another one in the same state."""
        other = copy(self)
        other.model = self.model.clone()
        engine = other.engine = copy(self.engine)
        for name, value in vars(self.engine).items():
            if isinstance(value, list | dict | set | deque):
                setattr(engine, name, value.copy())
        engine.members = {key: copy(member) for key, member in self.engine.members.items()}
        other.timers = [*self.timers]
        other.owed = {**self.owed}
        return other

    @property
    def key(self) -> Any:
        """What tells one state from another; numbers of delays, which only grow, do not count."""
        model = self.model
        return (
            tuple(
                (child.key, child.state, child.row, child.asked, child.token is None)
                for child in model.children.values()
            ),
            tuple(child.key for child, _ in model.mailbox),
            repr(model.plan),
            model.outcome,
            model.is_ready,
            model.is_over,
            len(model.restarts),
            repr(self.engine._plan),
            tuple(self.engine._down),
            self.engine._keep,
            tuple(sorted(self.owed.items())),
        )

    # -- what may happen ------------------------------------------------------------------------

    def events(self) -> Iterator[Event]:
        """All that may happen next, but for the passing of time."""
        model = self.model
        for key, owed in self.owed.items():
            if owed == "stop":
                yield "stopped", key, None
                yield "started", key, None  # too late: it was told to end meanwhile
                yield "exit", key, "fault"
            else:
                yield from (("started", key, None), ("failed", key, None), ("unneeded", key, None))
                if model.is_ready:  # a recovery function has said so; `started` comes first else
                    yield "exit", key, "final"
                yield "stopped", key, None
        for key, child in model.children.items():
            if child.state == "running":
                for how in ("fault", "normal", "final"):
                    yield "exit", key, how
                yield "stopped", key, None  # somebody else has killed it
                yield "escalate", key, None
        for timer in self.timers:
            if self.is_frozen or timer.at <= self.now:
                yield "due", timer.key, timer.token
        if not model.is_over:
            yield "end", None, False
            yield "end", None, True
        if model.is_ready and not model.is_busy and not model.outcome:
            for key, kind in self.spare.items():
                if model.refusal("add", key) is None:
                    yield "add", key, kind
            for key in model.children:
                for request in ("terminate", "restart", "delete"):
                    if model.refusal(request, key) is None:
                        yield request, key, None

    def do(self, event: Event) -> None:
        """Have it happen to both.

        Raises:
            BrokenError: they do not agree.
        """
        name, key, detail = event
        engine, model, now = self.engine, self.model, self.now
        before = {key: member.standing for key, member in engine.members.items()}
        if name == "exit":
            mine = engine.went_down(key, Exit(detail), now)
            theirs = model.went_down(key, detail, now)
        elif name == "due":
            timer = next(timer for timer in self.timers if timer.token == detail)
            self.timers.remove(timer)
            mine = engine.due(key, timer.ticket, now)
            theirs = model.due(key, timer.token, now)
        elif name == "end":
            mine, theirs = engine.end(now, keep=detail), model.end(now, keep=detail)
        elif name == "add":
            mine = engine.add(key, self._spec(key, detail))
            theirs = model.add(self._child(key, detail), now)
        elif name == "restart":
            mine, theirs = engine.restart(key), model.restart(key, now)
        else:
            name = "not_needed" if name == "unneeded" else name
            mine = getattr(engine, name)(key, now)
            theirs = getattr(model, name)(key, now)
        if name in ("stopped", "failed", "not_needed") or (name, detail) in (
            ("exit", "final"),
            ("exit", "normal"),
        ):
            self.owed.pop(key, None)
        elif name == "started" and self.owed.get(key) == "start":
            del self.owed[key]
        elif name in ("delete",):
            self.owed.pop(key, None)
        self._compare(event, mine, theirs, before)

    def pass_time(self, seconds: float) -> None:
        """Let the clock go on; what falls due then may happen."""
        self.now += round(seconds * SECOND)

    def bring_up(self) -> Pair:
        """Let all children start; returns itself."""
        for key in tuple(self.engine.members):
            self.do(("started", key, None))
        return self

    def settle(self) -> None:
        """Let all that is under way come to its end.

        Raises:
            BrokenError: it does not.
        """
        for _ in range(1000):
            if self.owed:
                key, owed = next(iter(self.owed.items()))
                self.do(("stopped" if owed == "stop" else "started", key, None))
            elif self.timers:
                timer = min(self.timers, key=lambda timer: timer.at)
                self.now = max(self.now, timer.at)
                self.do(("due", timer.key, timer.token))
            else:
                break
        else:
            raise BrokenError("it does not come to rest")
        if self.engine.outcome is not None:
            self._must(self.engine.is_over, "all is down, and it is not over")
            return
        self._must(self.engine.is_ready, "nothing is under way, and it is not ready")
        self._must(not self.engine.is_busy, "nothing is under way, and it is busy")
        for name, member in self.engine.members.items():
            at_rest = member.standing in (Standing.RUNNING, Standing.STOPPED)
            self._must(at_rest, f"nothing is under way, and {name} is {member.standing}")

    # -- what must hold -------------------------------------------------------------------------

    def _compare(
        self, event: Event, mine: list[Any], theirs: list[Any], before: dict[Any, Standing]
    ) -> None:
        self._check(event, mine, before)
        # To let go twice does no harm, so of that the least counts, and that it is down.
        released = {action.key for action in mine if isinstance(action, Release)}
        one = [_plain(action) for action in mine if not isinstance(action, Release)]
        two = [deed[:3] if deed[0] == "wait" else deed for deed in theirs if deed[0] != "release"]
        missing = {deed[1] for deed in theirs if deed[0] == "release"} - released
        if one != two or missing:
            raise BrokenError(f"after {event}: kompyct does {mine}, the model {theirs}")
        for lost in released:
            member = self.engine.members.get(lost)
            down = member is None or member.standing is Standing.STOPPED
            down = down or Start(lost) in mine  # with its group, as a new one
            self._must(down, f"after {event}: let go of {lost}, which is not down")
        waits = [action for action in mine if isinstance(action, Wait)]
        tokens = [deed[3] for deed in theirs if deed[0] == "wait"]
        for wait, token in zip(waits, tokens, strict=True):
            self.timers.append(Timer(str(wait.key), self.now + wait.delay, wait.ticket, token))
        mine_now = {key: member.standing.value for key, member in self.engine.members.items()}
        theirs_now = {key: child.state for key, child in self.model.children.items()}
        if list(mine_now.items()) != list(theirs_now.items()):
            raise BrokenError(f"after {event}: kompyct has {mine_now}, the model {theirs_now}")
        for what in ("is_ready", "is_over", "is_busy"):
            one, two = getattr(self.engine, what), getattr(self.model, what)
            if one is not two and not (what == "is_busy" and self.engine.outcome):
                raise BrokenError(f"after {event}: {what} is {one} in kompyct, {two} in the model")

    def _check(self, event: Event, actions: list[Any], before: dict[Any, Standing]) -> None:
        """What holds of any supervisor, whatever the model says."""
        must = self._must
        engine = self.engine
        over = [action for action in actions if isinstance(action, Over)]
        must(not (self.was_over and actions), f"after Over it did {actions}")
        must(actions[-1:] == over or not over, f"after Over it did {actions}")
        self.was_over = self.was_over or bool(over)
        limit = self.setup.max_restarts
        if limit is not None:
            must(len(engine.restarts) <= limit, "more restarts in the window than the limit")
        stops: list[str] = []
        order = list(before)
        for action in actions:
            if isinstance(action, Start):
                key = str(action.key)
                must(key not in self.owed, f"started {key}, which still has to answer")
                must(before.get(key, Standing.STOPPED) in DOWN or key == event[1],
                     f"started {key}, which is {before.get(key)}")  # fmt: skip
                must(not self.was_ending, f"started {key} while it ends")
                self.owed[key] = "start"
            elif isinstance(action, Stop):
                key = str(action.key)
                must(self.owed.get(key) != "stop", f"stopped {key} twice")
                stops.append(key)
                self.owed[key] = "stop"
        in_order = sorted(stops, key=order.index, reverse=True)
        if not self.setup.is_dynamic:
            must(len(stops) <= 1, f"stopped {stops} at once")
            must(stops == in_order, f"stopped {stops}")
        if self.setup.strategy in ("one_for_all", "rest_for_one"):
            steps = [action for action in actions if isinstance(action, Start | Stop)]
            must(len(steps) <= 1, f"two steps at a time: {steps}")
        self.was_ending = engine.outcome is not None

    def _must(self, holds: bool, what: str) -> None:
        if not holds:
            raise BrokenError(what)

    # -- the same child, in the words of both ---------------------------------------------------

    def _spec(self, key: str, kind: Kind) -> ChildSpec:
        backoff = self.setup.backoff
        return ChildSpec(
            id=key,
            factory=_factory,
            restart=Restart(kind.restart),
            significant=kind.significant,
            backoff=None
            if backoff is None
            else Backoff(backoff[0], backoff[1], jitter=0, reset_after=backoff[2]),
        )

    def _child(self, key: str, kind: Kind) -> Child:
        backoff = self.setup.backoff
        waits = None if backoff is None else Waits(*(round(part * SECOND) for part in backoff))
        return Child(key, kind.restart, kind.significant, waits)


_NAMES = {
    Start: "start", Stop: "stop", Wait: "wait", Ready: "ready", Over: "over", GiveUp: "give up",
    Release: "release", Forget: "forget",
}  # fmt: skip


def _plain(action: Any) -> tuple[Any, ...]:
    """An action in the words of the model."""
    parts = action[:2] if isinstance(action, Wait) else action
    plain = tuple(part.value if isinstance(part, Outcome) else part for part in parts)
    return (_NAMES[type(action)], *plain)


# -- every order ------------------------------------------------------------------------------


def explore(first: Pair, depth: int) -> tuple[int, int]:
    """Try every order of up to `depth` events from there; returns how many events and states.

    What led to a state that is the same does not matter, so each is looked at once; the clock
    stands still, and a delay may be over at any time.

    Raises:
        BrokenError: they do not agree; it names all the events.
    """
    first.is_frozen = True
    seen = {first.key}
    todo: deque[tuple[Pair, tuple[Event, ...]]] = deque([(first, ())])
    events = 0
    while todo:
        pair, path = todo.popleft()
        for event in pair.events():
            other = pair.clone()
            events += 1
            _do(other, event, path)
            if len(path) + 1 < depth and (key := other.key) not in seen:
                seen.add(key)
                todo.append((other, (*path, event)))
    return events, len(seen)


def _do(pair: Pair, event: Event, path: Iterable[Event]) -> None:
    try:
        pair.do(event)
    except Exception as error:
        raise BrokenError(f"{error}\n{pair.setup}\n{[*path, event]}") from error


PERMANENT = Kind()
TRANSIENT = Kind("transient")
TEMPORARY = Kind("temporary")
SIGNIFICANT = (Kind("transient", True), Kind("temporary", True))


def setups(sizes: Iterable[int]) -> Iterator[Pair]:
    """Every strategy with every mixture of restart types, for so many children."""
    for size in sizes:
        for strategy in STATIC:
            for kinds in itertools.product((PERMANENT, TRANSIENT, TEMPORARY), repeat=size):
                yield Pair(Setup(strategy, kinds))


def special_setups(size: int) -> Iterator[Pair]:
    """Those with a delay, with significant children, and with children that are added."""
    for strategy in STATIC:
        for kinds in itertools.product((PERMANENT, TEMPORARY), repeat=size):
            yield Pair(Setup(strategy, kinds, backoff=(1.0, 4.0, 60.0)), {"z": PERMANENT})
        for auto in ("any_significant", "all_significant"):
            for kinds in itertools.product((*SIGNIFICANT, TRANSIENT), repeat=size):
                yield Pair(Setup(strategy, kinds, auto_shutdown=auto))
    for kind in (PERMANENT, TRANSIENT, TEMPORARY):
        yield Pair(Setup("dynamic", ()), {"x": kind, "y": PERMANENT})
        yield Pair(Setup("dynamic", (), backoff=(1.0, 4.0, 60.0)), {"x": kind})


# -- long ones, at random ---------------------------------------------------------------------


def random_setup(chance: random.Random) -> Pair:
    """Some supervisor of up to five children."""
    strategy = chance.choice((*STATIC, *STATIC, "dynamic"))
    auto = chance.choice(("never", "never", "any_significant", "all_significant"))
    kinds = [PERMANENT, PERMANENT, TRANSIENT, TEMPORARY]
    if auto != "never":
        kinds += SIGNIFICANT
    count = 0 if strategy == "dynamic" else chance.randrange(6)
    backoff = chance.choice((None, (1.0, 2.0, 1.5), (0.5, 4.0, 2.0)))
    setup = Setup(
        strategy,
        tuple(chance.choice(kinds) for _ in range(count)),
        chance.choice((0, 1, 3, 10, None)),
        chance.choice((1.0, 5.0)),
        auto,
        backoff,
        chance.random() < 0.2,
    )
    return Pair(setup, {key: chance.choice(kinds) for key in "xyz"})


LIKELY = {"end": 0.1, "escalate": 0.05, "started": 4.0, "stopped": 0.3, "unneeded": 0.3}
"""How likely an event is, beside others, of which each counts 1: runs must not end too soon."""


def _weight(event: Event, pair: Pair) -> float:
    name, key, detail = event
    if name == "end" and pair.model.outcome:
        return 3.0
    if name == "stopped" and pair.owed.get(key) == "stop":
        return 3.0
    if name == "started" and pair.owed.get(key) == "stop":
        return 0.1
    if name == "exit":
        return 3.0 if detail == "fault" else 0.5
    return LIKELY.get(name, 1.0)


def walk(seed: int, steps: int) -> int:
    """Let so many things happen at random, then let it come to rest; returns how many did.

    Raises:
        BrokenError: something does not hold; it names all the events.
    """
    chance = random.Random(seed)
    pair = random_setup(chance)
    path: list[Event] = []
    for _ in range(steps):
        events = list(pair.events())
        if not events or chance.random() < 0.1:
            seconds = chance.choice((0.3, 1.0, pair.setup.within, 6.0))
            path.append(("pass", None, seconds))
            pair.pass_time(seconds)
            continue
        event = chance.choices(events, [_weight(event, pair) for event in events])[0]
        _do(pair, event, path)
        path.append(event)
        if pair.model.is_over:
            break
    try:
        pair.settle()
    except Exception as error:
        raise BrokenError(f"{error}\n{pair.setup}\n{path}, then it came to rest") from error
    return len(path)


def search(walks: int, steps: int = 60) -> str:
    """Look for a bug by so many walks, then in every order of few events; "" if there is none."""
    try:
        for seed in range(walks):
            walk(seed, steps)
        for pair in itertools.chain(setups((1, 2)), special_setups(1)):
            explore(pair, 4)
    except Exception as error:
        return str(error)
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Explore every order, then walk at random; prints what was done, and the first break."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.supervision")
    parser.add_argument("--walks", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    begun = time.monotonic()
    events = states = 0
    for pair in itertools.chain(setups((1, 2, 3)), special_setups(2)):
        one, two = explore(pair, given.depth)
        events, states = events + one, states + two
    print(f"{events} events in {states} states, {time.monotonic() - begun:.0f} s", flush=True)
    begun, events = time.monotonic(), 0
    for seed in range(given.seed, given.seed + given.walks):
        events += walk(seed, given.steps)
    print(f"{given.walks} walks, {events} events, {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
