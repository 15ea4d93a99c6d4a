"""What would OTP's supervisor do?

Written from OTP's documentation of `supervisor` and from what kompyct promises where it differs
elsewhere, not from kompyct's code. A restart of several children has three phases:
some are stopped, a delay passes, some are started. What goes down meanwhile and is none of them
waits in a mailbox, as OTP's supervisor would find it there.

Children answer when they like, so what the model does comes out as it does of `Supervision`: as a
list of things to be done, here tuples of plain words.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from typing import Any

Deed = tuple[Any, ...]
"""("start", key), ("stop", key, keep), ("wait", key, delay, token), ("ready",), ("over", why),
("give up", key, why), ("release", key), ("forget", key)."""

SECOND = 1_000_000_000


@dataclass
class Waits:
    """How long a child that went down waits to come back: see `Backoff`, without jitter."""

    least: int  # nanoseconds
    most: int
    quiet: int  # having run for so long, it begins with `least` again


@dataclass
class Child:
    """A child as OTP's `which_children` shows it, and what counts for its next restart."""

    key: Any
    restart: str = "permanent"
    significant: bool = False
    waits: Waits | None = None
    state: str = "stopped"
    row: int = 0  # restarts in a row
    since: int | None = None  # when the present run began
    asked: str = ""  # "add" or "restart": who waits for its start
    token: int | None = None  # of the delay that counts


@dataclass
class Plan:
    """What is done to several children, in this order."""

    to_stop: list[Any]
    culprit: Any = None
    delay: int = 0
    to_start: list[Any] = field(default_factory=list)
    waiting: bool = False
    begun: Any = None  # the one of `to_start` that is being started


class Model:
    """One supervisor.

    Args:
        strategy: "one_for_one", "one_for_all", "rest_for_one" or "dynamic".
        limit: how many restarts within how many nanoseconds; None: any number.
        auto_shutdown: "never", "any_significant" or "all_significant".
    """

    def __init__(
        self, strategy: str, limit: tuple[int, int] | None, auto_shutdown: str = "never"
    ) -> None:
        self.strategy = strategy
        self.limit = limit
        self.auto_shutdown = auto_shutdown
        self.children: dict[Any, Child] = {}
        self.restarts: list[int] = []  # all, for ever
        self.plan: Plan | None = None
        self.mailbox: list[tuple[Child, str]] = []
        self.outcome = ""
        self.is_ready = False
        self.is_over = False
        self.keeps = False  # whether children are kept for another incarnation of it
        self._side_by_side = False
        self._tokens = 0
        self._deeds: list[Deed] = []

    @property
    def is_busy(self) -> bool:
        """Whether requests have to wait."""
        return self.plan is not None and not self.plan.waiting

    def clone(self) -> Model:
        """Another one like it."""
        other = copy(self)
        other._deeds = []
        other.children = {key: copy(child) for key, child in self.children.items()}
        other.restarts = [*self.restarts]
        other.mailbox = [(other.children[child.key], how) for child, how in self.mailbox]
        if self.plan is not None:
            plan = other.plan = copy(self.plan)
            plan.to_stop, plan.to_start = [*plan.to_stop], [*plan.to_start]
        return other

    # -- what may be asked, and what is refused ----------------------------------------------

    def refusal(self, request: str, key: Any) -> str | None:
        """The error that a request gets, as OTP's; None: it is done."""
        child = self.children.get(key)
        if request == "add":
            if child is None:
                return None
            return "present" if child.state == "stopped" else "started"
        if request != "terminate" and self.strategy == "dynamic":
            return "dynamic"
        if child is None:
            return "not found"
        if request == "terminate" or (request == "delete" and child.state == "restarting"):
            return None
        if child.state in ("running", "stopping"):
            return "running"
        if child.state in ("restarting", "starting") or self._is_planned(key):
            return "restarting"
        return None

    # -- what happens to the supervisor -------------------------------------------------------

    def start(self, children: Iterable[Child], now: int, *, keep: bool = False) -> list[Deed]:
        """It starts its children in order."""
        self.keeps = keep
        for child in children:
            self.children[child.key] = child
        self.plan = Plan([], to_start=list(self.children))
        return self._go_on(now)

    def end(self, now: int, *, keep: bool = False) -> list[Deed]:
        """It is told to end."""
        if self.outcome:
            self.keeps = self.keeps and keep
        else:
            self._end("asked", keep=keep)
        return self._go_on(now)

    def add(self, child: Child, now: int) -> list[Deed]:
        """`start_child`."""
        self.children[child.key] = child
        return self._ask(child, "add", now)

    def restart(self, key: Any, now: int) -> list[Deed]:
        """`restart_child`."""
        return self._ask(self.children[key], "restart", now)

    def terminate(self, key: Any, now: int) -> list[Deed]:
        """`terminate_child`."""
        child = self.children[key]
        if child.state in ("starting", "running"):
            child.state = "stopping"
            self._deeds.append(("stop", key, False))
        elif child.state == "restarting" or self._is_planned(key):
            self._leave_alone(child)
            self._stays_down(child)
        return self._go_on(now)

    def delete(self, key: Any, now: int) -> list[Deed]:
        """`delete_child`."""
        child = self.children[key]
        self._leave_alone(child)
        self._stays_down(child, forget=True)
        return self._go_on(now)

    # -- what happens to children -------------------------------------------------------------

    def started(self, key: Any, now: int) -> list[Deed]:
        """It runs."""
        child = self.children.get(key)
        if child is not None and child.state == "starting":
            child.state, child.since, child.asked = "running", now, ""
        return self._go_on(now)

    def not_needed(self, key: Any, now: int) -> list[Deed]:
        """OTP's `ignore`: it is known, and does not run."""
        child = self.children.get(key)
        if child is not None and child.state == "starting":
            child.asked = ""
            self._stays_down(child)
        return self._go_on(now)

    def failed(self, key: Any, now: int) -> list[Deed]:
        """It could not be started."""
        child = self.children.get(key)
        if child is None or child.state != "starting":
            return []
        asked, child.asked = child.asked, ""
        if asked:
            self._stays_down(child, forget=asked == "add")
        elif self.outcome:
            child.state = "stopped"
        elif not self.is_ready:
            child.state = "stopped"
            self._give_up(key, "start_failed", keep=self.keeps)
        else:  # tried again, which is a restart more
            self._bring_back(child, now)
        return self._go_on(now)

    def went_down(self, key: Any, how: str, now: int) -> list[Deed]:
        """It exits: "fault", "normal" (or OTP's `shutdown`), or "final": never to come back."""
        child = self.children.get(key)
        if child is None or child.state in ("stopping", "stopped"):
            return []
        if child.state == "starting" and how == "fault":
            return self.failed(key, now)
        child.asked = ""
        plan = self.plan
        if plan is not None and child.state == "starting" and plan.to_start == [key]:
            plan = self.plan = None  # that was all, and it is dealt with before what waits
        if self.outcome:
            child.state = "stopped"
        elif plan is not None and key in plan.to_stop:  # it would have been stopped anyway
            child.state = "stopped"
            if child.restart == "temporary":
                self._stays_down(child)
        elif plan is not None and not self._may_go_first(child, how):
            child.state = "restarting"
            self.mailbox.append((child, how))
        else:
            self._judge(child, how, now)
        return self._go_on(now)

    def stopped(self, key: Any, now: int) -> list[Deed]:
        """It has ended as it was told, or somebody else has ended it."""
        child = self.children.get(key)
        if child is not None:
            if child.state == "restarting":
                self._leave_alone(child)
            asked, child.asked = child.asked, ""
            never_ran = asked == "add"  # so whoever has added it is told that it is not there
            self._stays_down(child, release=never_ran, forget=never_ran)
        return self._go_on(now)

    def due(self, key: Any, token: int, now: int) -> list[Deed]:
        """A delay is over."""
        child = self.children.get(key)
        if child is None or child.token != token or self.outcome:
            return []
        child.token = None
        if self.plan is not None and self.plan.waiting and self.plan.culprit == key:
            self.plan.waiting = False
        else:
            self._start(child)
        return self._go_on(now)

    def escalate(self, key: Any, now: int) -> list[Deed]:
        """Its fault is to be that of the supervisor."""
        child = self.children.get(key)
        if child is None or self.outcome:
            return self.went_down(key, "final", now)
        child.state = "stopped"
        self._give_up(key, "escalated", keep=True)
        return self._go_on(now)

    # -- what follows -------------------------------------------------------------------------

    def _ask(self, child: Child, asked: str, now: int) -> list[Deed]:
        child.asked = asked
        self._start(child)
        return self._go_on(now)

    def _start(self, child: Child) -> None:
        child.state = "starting"
        child.token = None
        self._deeds.append(("start", child.key))

    def _comes_back(self, child: Child, how: str) -> bool:
        wanted = {"permanent": ("fault", "normal"), "transient": ("fault",), "temporary": ()}
        return how in wanted[child.restart]

    def _group(self, culprit: Child) -> list[Any]:
        keys = list(self.children)
        return keys if self.strategy == "one_for_all" else keys[keys.index(culprit.key) :]

    def _may_go_first(self, child: Child, how: str) -> bool:
        """Whether a plan that waits for a delay gives way: if all it would start is started."""
        assert self.plan is not None
        if not self.plan.waiting:
            return False
        if not self._comes_back(child, how):
            return True
        group = self._group(child)
        return all(key in group for key in self.plan.to_start if key in self.children)

    def _judge(self, child: Child, how: str, now: int) -> None:
        if self._comes_back(child, how):
            self._bring_back(child, now)
            return
        self._leave_alone(child)
        self._stays_down(child)
        if not child.significant or self.auto_shutdown == "never":
            return
        others = [other for other in self.children.values() if other.significant]
        are_down = all(o.state == "stopped" and not self._is_planned(o.key) for o in others)
        if self.auto_shutdown == "any_significant" or are_down:
            self._end("auto_shutdown", keep=False)

    def _bring_back(self, child: Child, now: int) -> None:
        if self.limit is not None:
            most, within = self.limit
            if sum(now - time <= within for time in self.restarts) >= most:
                child.state = "stopped"
                self._give_up(child.key, "restart_limit", keep=True)
                return
            self.restarts.append(now)
        delay = self._delay(child, now)
        if self.strategy in ("one_for_all", "rest_for_one"):
            group = self._group(child)
            child.state = "restarting"
            to_stop = [key for key in reversed(group) if key != child.key]
            self.plan = Plan(to_stop, child.key, delay, group)
        elif delay:
            self._wait(child, delay)
        else:
            self._start(child)

    def _delay(self, child: Child, now: int) -> int:
        if child.waits is None:
            return 0
        if child.since is not None and now - child.since >= child.waits.quiet:
            child.row = 0
        child.since = None
        child.row += 1
        delay = child.waits.least
        for _ in range(child.row - 1):
            delay = min(2 * delay, child.waits.most)
        return delay

    def _wait(self, child: Child, delay: int) -> None:
        self._tokens += 1
        child.state, child.token = "restarting", self._tokens
        self._deeds.append(("wait", child.key, delay, child.token))

    def _is_planned(self, key: Any) -> bool:
        return self.plan is not None and key in self.plan.to_start

    def _leave_alone(self, child: Child) -> None:
        """Nothing that is under way starts it any more."""
        child.token = None
        self.mailbox = [exit for exit in self.mailbox if exit[0] is not child]
        plan = self.plan
        if plan is not None:
            plan.to_start = [key for key in plan.to_start if key != child.key]
            plan.to_stop = [key for key in plan.to_stop if key != child.key]
            if plan.culprit == child.key:
                plan.waiting, plan.delay = False, 0

    def _stays_down(self, child: Child, *, release: bool = True, forget: bool = False) -> None:
        child.state = "stopped"
        if release:
            self._deeds.append(("release", child.key))
        if forget or self.strategy == "dynamic" or child.restart == "temporary":
            self._leave_alone(child)
            del self.children[child.key]
            self._deeds.append(("forget", child.key))

    def _give_up(self, key: Any, why: str, *, keep: bool) -> None:
        self._deeds.append(("give up", key, why))
        self._end(why, keep=keep)

    def _end(self, why: str, *, keep: bool) -> None:
        self.outcome = why
        self.keeps = keep
        self.mailbox = []
        self.plan = None
        if self.strategy != "dynamic":
            self.plan = Plan(list(reversed(self.children)))
            return
        self._side_by_side = True
        for child in self.children.values():
            child.token = None
            if child.state in ("starting", "running"):
                child.state = "stopping"
                self._deeds.append(("stop", child.key, False))
            elif child.state == "restarting":
                child.state = "stopped"
                self._deeds.append(("release", child.key))

    def _go_on(self, now: int) -> list[Deed]:
        while not self._is_blocked(now):
            if self.plan is not None:
                self.plan = None
                continue
            if self.outcome:
                if not self.is_over:
                    self.is_over = True
                    self._deeds.append(("over", self.outcome))
                break
            if not self.is_ready:
                self.is_ready = True
                self._deeds.append(("ready",))
            if not self.mailbox:
                break
            self._judge(*self.mailbox.pop(0), now)
        deeds, self._deeds = self._deeds, []
        return deeds

    def _is_blocked(self, now: int) -> bool:
        """Carry the plan out as far as it goes; whether something must happen first."""
        if self._side_by_side:
            return any(child.state == "stopping" for child in self.children.values())
        plan = self.plan
        if plan is None:
            return False
        while plan.to_stop:
            child = self.children.get(plan.to_stop[0])
            if child is not None and child.state in ("starting", "running"):
                keep = (self.keeps or not self.outcome) and child.restart != "temporary"
                child.state = "stopping"
                self._deeds.append(("stop", child.key, keep))
            if child is not None and child.state == "stopping":
                return True
            plan.to_stop.pop(0)
            if child is not None and child.state == "restarting":
                child.token = None
                child.state = "stopped"
                self.mailbox = [exit for exit in self.mailbox if exit[0] is not child]
                if child.restart == "temporary":
                    self._stays_down(child)
        if plan.delay:
            delay, plan.delay, plan.waiting = plan.delay, 0, True
            self._wait(self.children[plan.culprit], delay)
        if plan.waiting:
            return True
        while plan.to_start:
            child = self.children.get(plan.to_start[0])
            if child is not None and child.state in ("starting", "stopping"):
                return True
            if child is not None and plan.begun != child.key and child.state != "running":
                plan.begun = child.key
                self._start(child)
                return True
            plan.to_start.pop(0)
            plan.begun = None
        return False
