"""Is a tree that makes no sense refused before anything of it starts?

Each message names the field, the value and what may be given instead.
"""

from __future__ import annotations

import copy
import datetime
import math
import pickle
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from kompyct import (
    NOT_NEEDED,
    AutoShutdown,
    Backoff,
    ChildSpec,
    Component,
    ComponentSupervisor,
    Restart,
    RestartLimit,
    StartChild,
    Strategy,
    WhichChildren,
)
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    ComponentCreateError,
    ComponentFaultError,
    InvalidComponentError,
    KompyctError,
    UnknownBackendError,
)
from kompyct.testing import TestSystem
from tests.tree_parts import Leaf

NAN = math.nan
MADE: list[str] = []
"""What has been made of the trees under test: nothing, if they are refused."""


class Noting(Component[Any]):
    """Notes that it was made."""

    def __init__(self) -> None:
        MADE.append("made")


class OfItsOwn(Component[Any]):
    """Has a word of kompyct's for something of its own."""

    is_supervisor = True

    def on_receive(self, message: Any) -> str:
        return "a worker"


def spec(**given: Any) -> ChildSpec:
    """A spec of "a" with one thing wrong."""
    return ChildSpec(**{"id": "a", "factory": Noting, **given})


def supervisor(**given: Any) -> ComponentSupervisor:
    """A supervisor with one thing wrong."""
    return ComponentSupervisor(**{"children": [spec()], **given})


WRONG: list[tuple[Callable[..., Any], dict[str, Any], type[KompyctError], list[str]]] = [
    # make, fields, error, what the message has
    (spec, {"id": 7}, ArgumentTypeError, ["7"]),
    (spec, {"id": ""}, ArgumentError, ["''", "1 to 200"]),
    (spec, {"id": "a/b"}, ArgumentError, ["'a/b'", "/"]),
    (spec, {"id": "x" * 201}, ArgumentError, ["200"]),
    (spec, {"id": "a\n"}, ArgumentError, ["control"]),
    (spec, {"factory": None}, ArgumentTypeError, ["factory", "'a'", "None", "a class"]),
    (spec, {"factory": "Noting"}, ArgumentTypeError, ["factory", "'Noting'", "a class"]),
    (spec, {"restart": "always"}, ArgumentError, ["restart", "'always'", "'permanent', 'tr"]),
    (spec, {"restart": None}, ArgumentError, ["restart", "None", "'temporary'"]),
    (spec, {"restart": []}, ArgumentError, ["restart", "[]", "'temporary'"]),
    (spec, {"restart": Strategy.DYNAMIC}, ArgumentError, ["restart", "DYNAMIC", "'temporary'"]),
    (spec, {"shutdown": "soon"}, ArgumentError, ["shutdown", "'soon'", "'brutal'"]),
    (spec, {"shutdown": -1}, ArgumentError, ["shutdown", "-1", ">= 0"]),
    (spec, {"shutdown": NAN}, ArgumentError, ["shutdown", "nan"]),
    (spec, {"shutdown": math.inf}, ArgumentError, ["shutdown", "inf"]),
    (spec, {"shutdown": 10**400}, ArgumentError, ["shutdown", "1e+10"]),
    (spec, {"shutdown": True}, ArgumentTypeError, ["shutdown", "True", "seconds"]),
    (spec, {"shutdown": datetime.timedelta(1)}, ArgumentTypeError, ["shutdown", "timedelta"]),
    (spec, {"significant": "yes"}, ArgumentTypeError, ["significant", "'yes'", "True or False"]),
    (spec, {"significant": 1}, ArgumentTypeError, ["significant", "1", "True or False"]),
    (spec, {"significant": True}, ArgumentError, ["significant", "permanent", "'transient'"]),
    (spec, {"budget": 3}, ArgumentTypeError, ["budget", "'a'", "3", "RestartLimit"]),
    (spec, {"budget": (3, 5)}, ArgumentTypeError, ["budget", "(3, 5)", "RestartLimit"]),
    (spec, {"backoff": 0.1}, ArgumentTypeError, ["backoff", "'a'", "0.1", "Backoff"]),
    (spec, {"policy": "restart"}, ArgumentTypeError, ["policy", "'a'", "'restart'", "mapping"]),
    (spec, {"policy": {"KeyError": "end"}}, ArgumentTypeError, ["policy", "'KeyError'", "types"]),
    (spec, {"policy": {int: "end"}}, ArgumentTypeError, ["policy", "int", "types"]),
    (spec, {"policy": {KeyError: "stop"}}, ArgumentError, ["policy", "'stop'", "'escalate'"]),
    (spec, {"policy": {KeyError: []}}, ArgumentError, ["policy", "[]", "'escalate'"]),
    (spec, {"backend": "fiber"}, UnknownBackendError, ["backend", "'fiber'", "thread, pool"]),
    (spec, {"backend": []}, UnknownBackendError, ["backend", "[]", "thread, pool"]),
    (spec, {"fallback": "stop"}, ArgumentError, ["fallback", "'stop'", "'escalate'"]),
    (spec, {"overflow": "wait"}, ArgumentError, ["overflow", "'wait'", "'drop_old'"]),
    (spec, {"mailbox_limit": 0}, ArgumentError, ["mailbox_limit", "0", "> 0"]),
    (spec, {"mailbox_limit": 1.5}, ArgumentTypeError, ["mailbox_limit", "1.5", "whole"]),
    (spec, {"mailbox_limit": True}, ArgumentTypeError, ["mailbox_limit", "True", "whole"]),
    (spec, {"inline_asks": 1}, ArgumentTypeError, ["inline_asks", "1", "True or False"]),
    (spec, {"standby": None}, ArgumentTypeError, ["standby", "None", "True or False"]),
    (spec, {"overlap": "no"}, ArgumentTypeError, ["overlap", "'no'", "True or False"]),
    (spec, {"poison_after": 0}, ArgumentError, ["poison_after", "0"]),
    (spec, {"poison_after": True}, ArgumentTypeError, ["poison_after", "True", "whole"]),
    (spec, {"poison_after": "3"}, ArgumentTypeError, ["poison_after", "'3'", "whole"]),
    (spec, {"time_limit": 0}, ArgumentError, ["time_limit", "0", "> 0"]),
    (spec, {"time_limit": "1 s"}, ArgumentTypeError, ["time_limit", "'1 s'", "number"]),
    (spec, {"memory_limit": 0}, ArgumentError, ["memory_limit", "0"]),
    (spec, {"memory_limit": "much"}, ArgumentError, ["memory_limit", "'much'"]),
    (supervisor, {"children": spec()}, ArgumentTypeError, ["children", "list of ChildSpec"]),
    (supervisor, {"children": None}, ArgumentTypeError, ["children", "None", "list"]),
    (supervisor, {"children": [Noting]}, ArgumentTypeError, ["children", "Noting", "ChildSpec"]),
    (supervisor, {"children": "abc"}, ArgumentTypeError, ["children", "'a'", "ChildSpec"]),
    (supervisor, {"children": {"a": spec()}}, ArgumentTypeError, ["children", "'a'", "ChildSpec"]),
    (supervisor, {"children": [spec(), spec()]}, ArgumentError, ["two children", "'a'", "own"]),
    (supervisor, {"children": [spec(id=None)]}, ArgumentError, ["no id", "Noting", "dynamic"]),
    (supervisor, {"strategy": "all"}, ArgumentError, ["strategy", "'all'", "'rest_for_one'"]),
    (supervisor, {"strategy": None}, ArgumentError, ["strategy", "None", "'rest_for_one'"]),
    (supervisor, {"strategy": Restart.PERMANENT}, ArgumentError, ["strategy", "PERMANENT"]),
    (supervisor, {"strategy": "dynamic"}, ArgumentError, ["dynamic", "1", "StartChild"]),
    (supervisor, {"restart_limit": 3}, ArgumentTypeError, ["restart_limit", "3", "RestartLimit"]),
    (supervisor, {"restart_limit": (3, 5.0)}, ArgumentTypeError, ["restart_limit", "(3, 5.0)"]),
    (supervisor, {"backoff": RestartLimit()}, ArgumentTypeError, ["backoff", "RestartLimit"]),
    (supervisor, {"auto_shutdown": "any"}, ArgumentError, ["auto_shutdown", "'all_significant'"]),
    (supervisor, {"auto_shutdown": True}, ArgumentError, ["auto_shutdown", "True", "'never'"]),
    (supervisor, {"policy": [KeyError]}, ArgumentTypeError, ["policy", "supervisor", "mapping"]),
    (supervisor, {"policy": {KeyError: None}}, ArgumentError, ["policy", "None", "'escalate'"]),
    (
        supervisor,
        {"children": [spec(significant=True, restart="transient")]},
        ArgumentError,
        ["'a'", "significant", "auto_shutdown='never'", "'any_significant'"],
    ),
    (RestartLimit, {"max_restarts": -1}, ArgumentError, ["max_restarts", "-1", ">= 0"]),
    (RestartLimit, {"max_restarts": 1.0}, ArgumentTypeError, ["max_restarts", "1.0", "whole"]),
    (RestartLimit, {"max_restarts": True}, ArgumentTypeError, ["max_restarts", "True", "whole"]),
    (RestartLimit, {"max_restarts": None}, ArgumentTypeError, ["max_restarts", "None", "whole"]),
    (RestartLimit, {"within": 0}, ArgumentError, ["within", "0", "> 0"]),
    (RestartLimit, {"within": -5.0}, ArgumentError, ["within", "-5.0", "> 0"]),
    (RestartLimit, {"within": NAN}, ArgumentError, ["within", "nan", "> 0"]),
    (RestartLimit, {"within": math.inf}, ArgumentError, ["within", "inf", "> 0"]),
    (RestartLimit, {"within": "5"}, ArgumentTypeError, ["within", "'5'", "> 0"]),
    (RestartLimit, {"within": True}, ArgumentTypeError, ["within", "True"]),
    (RestartLimit, {"within": Decimal(5)}, ArgumentTypeError, ["within", "Decimal"]),
    (Backoff, {"min": 0}, ArgumentError, ["min", "0", "> 0"]),
    (Backoff, {"min": -0.1}, ArgumentError, ["min", "-0.1", "> 0"]),
    (Backoff, {"min": 31.0}, ArgumentError, ["max", "30", "min", "31"]),
    (Backoff, {"min": "1"}, ArgumentTypeError, ["min", "'1'", "number"]),
    (Backoff, {"min": None}, ArgumentTypeError, ["min", "None", "number"]),
    (Backoff, {"max": NAN}, ArgumentError, ["max", "nan"]),
    (Backoff, {"max": math.inf}, ArgumentError, ["max", "inf"]),
    (Backoff, {"max": True}, ArgumentTypeError, ["max", "True"]),
    (Backoff, {"jitter": -0.5}, ArgumentError, ["jitter", "-0.5"]),
    (Backoff, {"jitter": 1.5}, ArgumentError, ["jitter", "1.5", "0 to 1"]),
    (Backoff, {"jitter": None}, ArgumentTypeError, ["jitter", "None", "number"]),
    (Backoff, {"reset_after": 0}, ArgumentError, ["reset_after", "0", "> 0"]),
    (Backoff, {"reset_after": -1}, ArgumentError, ["reset_after", "-1", "> 0"]),
    (Backoff, {"reset_after": NAN}, ArgumentError, ["reset_after", "nan"]),
    (Backoff, {"reset_after": "1"}, ArgumentTypeError, ["reset_after", "'1'", "number"]),
]


def _name(case: Any) -> str:
    make, fields, _, _ = case
    text = "-".join(f"{key}={value!r}"[:40] for key, value in fields.items())
    return f"{make.__name__}-{text}"


@pytest.mark.parametrize("case", WRONG, ids=_name)
def test_what_makes_no_sense_is_refused_with_field_value_and_choices(case: Any) -> None:
    """Each field: a wrong type, out of range, an unknown choice, or two that contradict."""
    make, fields, error, words = case
    with pytest.raises(error) as raised:
        make(**fields)
    assert type(raised.value) is error
    message = str(raised.value)
    for word in words:
        assert word in message
    assert len(message) < 600


HUGE = [
    (RestartLimit, {"within": 1e308}, "within"),
    (RestartLimit, {"within": 10**400}, "within"),
    (Backoff, {"min": 1e300, "max": 1e300}, "min"),
    (Backoff, {"max": 1e300}, "max"),
    (Backoff, {"max": 10**400}, "max"),
    (Backoff, {"reset_after": 1e308}, "reset_after"),
]


@pytest.mark.parametrize(("make", "fields", "field"), HUGE)
def test_times_that_no_clock_can_wait_for_are_refused(
    make: Any, fields: dict[str, Any], field: str
) -> None:
    """As with any other time: what is accepted can also be waited for."""
    with pytest.raises(ArgumentError, match=field):
        make(**fields)


def test_a_field_that_does_not_exist_or_is_missing_is_refused() -> None:
    """By Python itself, which names it."""
    with pytest.raises(TypeError, match="factory"):
        ChildSpec(id="a")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="intensity"):
        ComponentSupervisor(intensity=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional"):
        ChildSpec("a", Noting)  # type: ignore[call-arg]


def test_what_makes_sense_is_accepted_in_every_spelling() -> None:
    """Enums and their words alike; the edges of every range."""
    assert spec(restart="transient") == spec(restart=Restart.TRANSIENT)
    for seconds in (0, 0.0, 1e10, None, "brutal"):
        assert spec(shutdown=seconds).shutdown == seconds
    assert spec(shutdown=0).shutdown_seconds == 0
    assert spec(shutdown="brutal").shutdown_seconds == 0
    assert spec().shutdown_seconds == 5.0
    assert spec(factory=ComponentSupervisor()).shutdown_seconds is None
    assert supervisor(strategy="one_for_all").strategy is Strategy.ONE_FOR_ALL
    assert supervisor(auto_shutdown=AutoShutdown.NEVER).auto_shutdown is AutoShutdown.NEVER
    assert supervisor(children=(spec(id=name) for name in "abc")).children[2].id == "c"
    assert ComponentSupervisor([], "dynamic").children == ()
    assert ComponentSupervisor().restart_limit == RestartLimit(1, 5.0)  # OTP's defaults
    assert RestartLimit(0, 5e-324).max_restarts == 0
    Backoff(min=1, max=1, jitter=0)
    Backoff(jitter=1)
    spec(significant=True, restart="temporary")
    spec(id="x" * 200)


def test_a_declaration_cannot_be_changed() -> None:
    """So that every restart makes the same."""
    given = [spec()]
    policy: Any = {KeyError: "end"}
    declared = ComponentSupervisor(given, policy=policy)
    given.append(spec(id="b"))
    policy[KeyError] = "restart"
    assert len(declared.children) == 1
    assert declared.policy == {KeyError: "end"}
    with pytest.raises(AttributeError, match="immutable; 'strategy'"):
        declared.strategy = Strategy.DYNAMIC
    with pytest.raises(AttributeError):
        declared.children[0].restart = Restart.TEMPORARY  # type: ignore[misc]


@pytest.mark.parametrize(
    "twin", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_declaration_can_be_copied_and_sent(twin: Callable[[Any], Any]) -> None:
    """A component in a process of its own may ask for a tree to be started."""
    declared = ComponentSupervisor([spec()], "rest_for_one", policy={KeyError: "end"})
    copied = twin(declared)
    assert copied.strategy is Strategy.REST_FOR_ONE
    assert copied.policy == {KeyError: "end"}
    assert [child.id for child in copied.children] == ["a"]


def test_specs_that_are_equal_have_one_hash() -> None:
    """They are frozen, and look hashable."""
    assert hash(spec(policy={KeyError: "end"})) == hash(spec(policy={KeyError: "end"}))


DEEP = [
    ({"standby": True}, ArgumentError, "standby and overlap of child 'a'.*'manual'"),
    ({"overlap": True}, ArgumentError, "standby and overlap of child 'a'.*'manual'"),
    ({"backend": "thread"}, UnknownBackendError, "backend of child 'a' is 'thread'.*'manual'"),
    ({"backend": "process"}, UnknownBackendError, "backend of child 'a' is 'process'.*'manual'"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), DEEP)
def test_a_child_deep_in_a_tree_that_cannot_be_where_it_is_refuses_the_whole_tree(
    wrong: dict[str, Any], error: type[KompyctError], message: str
) -> None:
    """Before anything starts, by `create` and by `StartChild`."""
    MADE.clear()
    with TestSystem() as system:
        tree = ComponentSupervisor([spec(**wrong)])
        for name in "xyz":
            tree = ComponentSupervisor([spec(id="before"), ChildSpec(id=name, factory=tree)])
        with pytest.raises(error, match=message):
            system.create(tree, name="top")
        assert system.tree().children == ()
        top = system.create(ComponentSupervisor(), name="top")
        system.start(top).result()
        with pytest.raises(error, match=message):
            top.ask(StartChild(ChildSpec(id="sub", factory=tree)))
        assert top.ask(WhichChildren()) == ()
    assert MADE == []


MEANINGLESS = [
    {"inline_asks": True},
    {"time_limit": 1.0},
    {"memory_limit": "1 GiB"},
    {"mailbox_limit": 1},
]


@pytest.mark.parametrize("option", MEANINGLESS, ids=str)
def test_what_means_nothing_for_a_supervisor_is_refused(option: dict[str, Any]) -> None:
    """It runs no code of users."""
    field = next(iter(option))
    with TestSystem() as system, pytest.raises(ArgumentError, match=field):
        system.create(ComponentSupervisor(), name="top", **option)
    with pytest.raises(ArgumentError, match=field):
        ChildSpec(id="sub", factory=ComponentSupervisor(), **option)


def test_a_component_may_have_an_attribute_of_that_name() -> None:
    """`is_supervisor` of a component is none of ours."""
    with TestSystem() as system:
        worker = system.create(OfItsOwn)
        assert system.start(worker).result() is None
        assert worker.ask("hello") == "a worker"  # type: ignore[call-overload]
    assert not ChildSpec(id="a", factory=OfItsOwn).is_supervisor


def _raises() -> Component[Any]:
    raise LookupError("no such thing")


FACTORIES = [
    (_raises, LookupError, "no such thing"),
    (lambda: None, InvalidComponentError, "returned a NoneType"),
    (lambda: 7, InvalidComponentError, "returned a int"),
    (lambda: Noting, InvalidComponentError, "returned a type"),
    (lambda: ComponentSupervisor(), InvalidComponentError, "returned a ComponentSupervisor"),
    (lambda missing: None, TypeError, "missing 1 required positional argument"),
    (partial(Leaf, *"abcdef"), TypeError, "positional arguments"),
]


@pytest.mark.parametrize(("factory", "error", "message"), FACTORIES)
def test_a_factory_that_makes_no_component_fails_the_start_of_the_tree(
    factory: Any, error: type[Exception], message: str
) -> None:
    """Whoever starts it gets the cause; those started before are ended, and nothing is left."""
    with TestSystem() as system:
        tree = ComponentSupervisor([spec(id="before"), spec(factory=factory), spec(id="after")])
        MADE.clear()
        top = system.create(tree, name="top")
        with pytest.raises(ComponentFaultError, match="'top' could not be started") as raised:
            system.start(top).result()
        cause = raised.value.__cause__
        assert type(cause) is error
        assert message in str(cause)
        system.run_until_idle()
        assert MADE == ["made"]
        assert not top.is_alive
        assert system.tree().children == ()
        top = system.create(ComponentSupervisor(), name="top")
        system.start(top).result()
        with pytest.raises(ComponentCreateError, match="child 'a'") as refused:
            top.ask(StartChild(spec(factory=factory)))
        assert type(refused.value.__cause__) is error
        assert top.ask(WhichChildren()) == ()


def test_only_a_supervisor_can_do_without_what_is_not_needed() -> None:
    """`create` has to give a ref of something."""
    with TestSystem() as system:
        with pytest.raises(KompyctError, match="not needed; only a supervisor"):
            system.create(lambda: NOT_NEEDED)  # type: ignore[arg-type, return-value]
        assert system.tree().children == ()


def test_a_tree_may_be_deep_and_one_too_deep_is_refused_where_it_is_written() -> None:
    """A hundred levels are more than anybody writes; the message says how many there are."""
    tree = ComponentSupervisor([spec()])
    for _ in range(99):
        tree = ComponentSupervisor([ChildSpec(id="s", factory=tree)])
    with TestSystem() as system:
        top = system.create(tree, name="top")
        system.start(top).result()
        leaf = system.find("top/" + "s/" * 99 + "a")
        assert leaf is not None
        assert leaf.is_alive
        assert leaf.path == "top" + "/s" * 99 + "/a"
        system.kill(top).result()
        assert not leaf.is_alive
    with pytest.raises(ArgumentError, match=r"101 levels.*100"):
        ComponentSupervisor([ChildSpec(id="s", factory=tree)])
