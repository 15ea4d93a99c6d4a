"""Does a program written for Resiliparse's process guards 2.0 work after changing the import?

What is expected comes from running the ancestor itself beside `kompyct.limits` (S-36). What is
interrupted runs in a process of its own, since the guards send signals. Where the two differ on
purpose, a test at the end shows both.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import inspect
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy  # noqa: F401  # for the tables of settings
import pytest

import kompyct.limits
from kompyct.errors import KompyctError

THEIRS, OURS = "resiliparse.process_guard", "kompyct.limits"
INSTALLED = importlib.util.find_spec("resiliparse") is not None
LIMIT = 30.0  # seconds

NAMES = {
    "ExecutionTimeout", "InterruptType", "MemGuard", "MemoryLimitExceeded",
    "ResiliparseGuardException", "TimeGuard", "mem_guard", "progress", "progress_loop",
    "time_guard",
}  # fmt: skip


@pytest.fixture(params=[THEIRS, OURS], ids=["resiliparse", "kompyct"])
def module(request: pytest.FixtureRequest) -> str:
    """The name of the ancestor, then that of ours."""
    name: str = request.param
    if name == THEIRS and not INSTALLED:
        pytest.skip("the ancestor is not installed")
    return name


@pytest.fixture
def guards(module: str) -> Any:
    """The ancestor, then ours."""
    return importlib.import_module(module)


@pytest.fixture
def theirs() -> Any:
    """The ancestor."""
    return pytest.importorskip(THEIRS, reason="the ancestor is not installed")


PRELUDE = """
import contextlib, json, mmap, os, signal, sys, threading, time
import {module} as guards

END = time.monotonic() + 20  # whatever happens
exception, by_signal = guards.InterruptType.exception, guards.InterruptType.signal
results = {{}}

def wait(until=lambda: False, seconds=2):
    end = min(time.monotonic() + seconds, END)
    while not until() and time.monotonic() < end:
        time.sleep(0.001)

def case(block):
    try:
        results[block.__name__] = block()
    except BaseException as error:
        results[block.__name__] = type(error).__name__

def soon(**given):
    return guards.time_guard(timeout_ms=150, check_interval=2, **given)

def large():
    return guards.mem_guard(10**9, check_interval=2)
"""

FINALE = """
print(json.dumps(results))
"""


@functools.cache
def start(program: str) -> dict[str, subprocess.Popen[str]]:
    """A process for each module, in which `program` runs with that module as `guards`."""
    return {
        module: subprocess.Popen(
            [sys.executable, "-c", PRELUDE.format(module=module) + program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for module in ([THEIRS, OURS] if INSTALLED else [OURS])
    }


@functools.cache
def run(program: str) -> dict[str, tuple[str, int, str]]:
    """What `program` prints, its return code, and its errors, for each module."""
    ended = {}
    for module, one in start(program).items():
        with one:
            try:
                output, errors = one.communicate(timeout=LIMIT)
            finally:
                one.kill()
        ended[module] = output, one.returncode, errors
    return ended


@pytest.fixture(autouse=True, scope="module")
def ahead() -> Iterator[None]:
    """Three of the programs run while the tests begin: they mostly wait."""
    programs = [BLOCKS + FINALE, PROGRESS + FINALE, MEMORY + FINALE]
    processes = [one for program in programs for one in start(program).values()]
    yield
    for one in processes:
        with one:
            one.kill()


def result(name: str, program: str, module: str) -> Any:
    """The result of that name of a program which does not die."""
    output, code, errors = run(program + FINALE)[module]
    assert code == 0, errors
    return json.loads(output)[name]


# -- names ----------------------------------------------------------------------------------


def test_every_public_name_is_there(theirs: Any) -> None:
    """S-36: every name that the ancestor says is public."""
    assert set(theirs.__all__) == NAMES
    assert set(kompyct.limits.__all__) >= NAMES


@pytest.mark.parametrize("name", ["time_guard", "mem_guard", "progress", "progress_loop"])
def test_every_parameter_has_its_name_place_and_default(theirs: Any, name: str) -> None:
    """S-36: the same parameters in the same order; what is new is by keyword only.

    Two defaults are None. For `check_interval` it says that the time between two looks follows
    from how much is left (S-34). For `interrupt_type` the ancestor takes None as well, as what it
    has by default; ours has to know the steps that were asked for by name (S-34).
    """

    def by_position(module: Any) -> list[tuple[str, Any]]:
        return [
            (one.name, None if one.name in ("check_interval", "interrupt_type") else one.default)
            for one in inspect.signature(getattr(module, name)).parameters.values()
            if one.kind is not inspect.Parameter.KEYWORD_ONLY
        ]

    assert by_position(kompyct.limits) == by_position(theirs)


def test_the_guards_have_what_the_ancestors_have(theirs: Any) -> None:
    """S-36: the public methods of both classes, and what makes them decorators and contexts."""
    for name in ("TimeGuard", "MemGuard"):
        public = {one for one in dir(getattr(theirs, name)) if one[0] != "_"}
        public |= {"__call__", "__enter__", "__exit__"}
        assert public <= set(dir(getattr(kompyct.limits, name)))


def test_the_interrupts_are_no_exceptions(guards: Any) -> None:
    """The ancestor's classes: one base, below BaseException, so that no `except Exception`
    swallows them."""
    assert issubclass(guards.ResiliparseGuardException, BaseException)
    assert not issubclass(guards.ResiliparseGuardException, Exception)
    for interrupt in (guards.ExecutionTimeout, guards.MemoryLimitExceeded):
        assert issubclass(interrupt, guards.ResiliparseGuardException)
        assert interrupt("a", 1).args == ("a", 1)


def test_there_are_three_interrupt_types(guards: Any) -> None:
    """The ancestor's members and their texts; each equals itself only."""
    names = ["exception", "signal", "exception_then_signal"]
    members = [getattr(guards.InterruptType, name) for name in names]
    assert list(map(str, members)) == [f"InterruptType.{name}" for name in names]
    for name, one in zip(names, members, strict=True):
        assert isinstance(one, guards.InterruptType)
        assert one is getattr(guards.InterruptType, name)
        assert [one == other for other in members].count(True) == 1


# -- what is given --------------------------------------------------------------------------


class Index:
    """A number, as far as `operator.index` knows."""

    def __index__(self) -> int:
        return 3


def settings(given: str) -> dict[str, Any]:
    """The named arguments of a call that is written so."""
    arguments: dict[str, Any] = eval(f"dict({given})")
    return arguments


@pytest.mark.parametrize(
    "given",
    [
        "",
        "timeout=0",
        "timeout=numpy.int64(3)",
        "timeout=Index()",
        "timeout=sys.maxsize",
        "timeout=None, timeout_ms=0",
        "timeout=1, timeout_ms=sys.maxsize",
        "grace_period=0",
        "grace_period=None",
        "grace_period=sys.maxsize",
        "grace_period=None, grace_period_ms=0",
        "check_interval=0",
        "check_interval=10**9",
        "interrupt_type=None",
        "send_kill=True",
    ],
)
def test_settings_of_time_that_are_taken(guards: Any, given: str) -> None:
    """Found by trying the ancestor: all integers of 64 bits, also those that are no `int`."""
    assert isinstance(guards.time_guard(**settings(given)), guards.TimeGuard)


@pytest.mark.parametrize(
    "given",
    [
        "max_memory=0",
        "max_memory=numpy.int64(3)",
        "max_memory=sys.maxsize",
        "max_memory=1, absolute=False",
        "max_memory=1, grace_period=0, secondary_grace_period=0, check_interval=0",
        "max_memory=1, grace_period_ms=0, secondary_grace_period_ms=0",
        "max_memory=1, interrupt_type=None, send_kill=True",
    ],
)
def test_settings_of_memory_that_are_taken(guards: Any, given: str) -> None:
    """Found by trying the ancestor."""
    assert isinstance(guards.mem_guard(**settings(given)), guards.MemGuard)


NUMBERS = ("timeout", "timeout_ms", "grace_period", "grace_period_ms", "check_interval")
AMOUNTS = (
    "max_memory", "grace_period", "grace_period_ms", "secondary_grace_period",
    "secondary_grace_period_ms", "check_interval",
)  # fmt: skip
NO_NUMBERS = {"-1": OverflowError, "10**30": OverflowError, "b'1'": TypeError, "[1]": TypeError}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("timeout=None", ValueError),
        *((f"{name}={no}", kind) for name in NUMBERS for no, kind in NO_NUMBERS.items()),
        *((f"{name}='1'", TypeError) for name in NUMBERS),
        ("timeout=-1, timeout_ms=1", OverflowError),  # looked at though it does not count
        ("timeout='1', timeout_ms=1", TypeError),
        *((f"interrupt_type={no}", TypeError) for no in ("0", "'exception'", "True")),
        *((f"send_kill={no}", TypeError) for no in ("None", "0", "1", "'yes'")),
    ],
)
def test_wrong_settings_of_time_raise_at_once(
    guards: Any, given: str, error: type[Exception]
) -> None:
    """Found by trying the ancestor: the same kind of error, when the guard is made."""
    with pytest.raises(error) as raised:
        guards.time_guard(**settings(given))
    assert guards is not kompyct.limits or isinstance(raised.value, KompyctError)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("", TypeError),
        ("max_memory=None", TypeError),
        ("max_memory=1.5", TypeError),
        *(
            (f"**({{'max_memory': 1}} | {{'{name}': {no}}})", kind)
            for name in AMOUNTS
            for no, kind in NO_NUMBERS.items()
        ),
        *((f"max_memory=1, absolute={no}", TypeError) for no in ("None", "0", "1", "'yes'")),
        *((f"max_memory=1, send_kill={no}", TypeError) for no in ("None", "0", "'yes'")),
        ("max_memory=1, interrupt_type=0", TypeError),
    ],
)
def test_wrong_settings_of_memory_raise_at_once(
    guards: Any, given: str, error: type[Exception]
) -> None:
    """Found by trying the ancestor."""
    with pytest.raises(error):
        guards.mem_guard(**settings(given))


# -- the steps ------------------------------------------------------------------------------

LADDER = """
steps = []
signal.signal(signal.SIGTERM, lambda *_: steps.append(("SIGTERM", time.monotonic())))

def ladder(guard, number=3):
    def enough():
        return len(steps) >= number and time.monotonic() > steps[-1][1] + 0.2
    steps.clear()
    began = time.monotonic()
    with guard:
        while not enough() and time.monotonic() < END:
            try:
                wait(enough)
            except BaseException as step:
                steps.append((type(step).__name__, time.monotonic()))
    return [(step, when - began) for step, when in steps]

SETTINGS = {
    "default": {},
    "by name": {"interrupt_type": guards.InterruptType.exception_then_signal},
    "exception": {"interrupt_type": exception, "send_kill": True},  # there is nothing to kill
    "signal": {"interrupt_type": by_signal},
}
"""

TIME_LADDER = (
    LADDER
    + """
for name, given in SETTINGS.items():
    results[name] = ladder(guards.time_guard(60, 150, 15, 80, check_interval=2, **given))
results["one"] = ladder(soon(interrupt_type=exception, grace_period=None), 1)
"""
)

MEMORY_LADDER = (
    LADDER
    + """
for name in ("default", "exception", "signal"):
    given = SETTINGS[name]
    results[name] = ladder(guards.mem_guard(1, True, 15, 150, 15, 80, check_interval=2, **given))
"""
)


def came_in_time(steps: list[tuple[str, float]]) -> bool:
    """Whether no step came before 150 ms and 80 ms for each step before it.

    10 ms are left for clocks that differ.
    """
    return all(when > 0.140 + 0.080 * number for number, (_, when) in enumerate(steps))


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("default", "ExecutionTimeout KeyboardInterrupt SIGTERM"),
        ("by name", "ExecutionTimeout KeyboardInterrupt SIGTERM"),
        ("exception", "ExecutionTimeout ExecutionTimeout ExecutionTimeout"),
        ("signal", "KeyboardInterrupt SIGTERM SIGTERM"),
        ("one", "ExecutionTimeout"),
    ],
)
def test_three_steps_follow_and_then_nothing(module: str, name: str, steps: str) -> None:
    """The ancestor's steps: Given a block that swallows each, then these come, after the timeout
    and a grace period each, where milliseconds count if both are given; without one it is one."""
    came = result(name, TIME_LADDER, module)
    assert [step for step, _ in came] == steps.split()
    assert came_in_time(came)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("default", "MemoryLimitExceeded KeyboardInterrupt SIGTERM"),
        ("exception", "MemoryLimitExceeded MemoryLimitExceeded MemoryLimitExceeded"),
        ("signal", "KeyboardInterrupt SIGTERM SIGTERM"),
    ],
)
def test_the_same_steps_follow_for_memory(module: str, name: str, steps: str) -> None:
    """The ancestor's steps: Given a process of more than 1 KiB, then the first one comes after
    the grace period, and the others after the secondary one each."""
    came = result(name, MEMORY_LADDER, module)
    assert [step for step, _ in came] == steps.split()
    assert came_in_time(came)


DEADLY = """
if {handled}:
    signal.signal(signal.SIGTERM, lambda *_: print("SIGTERM", flush=True))
with guards.{guard}, check_interval=2):
    while time.monotonic() < END:
        try:
            wait()
        except BaseException as step:
            print(type(step).__name__, flush=True)
"""
TIMED = "time_guard(timeout_ms=150, grace_period_ms=80"


@pytest.mark.parametrize(
    ("guard", "steps"),
    [
        (f"{TIMED}, send_kill=True", "ExecutionTimeout KeyboardInterrupt"),
        (f"{TIMED}, send_kill=True, interrupt_type=by_signal", "KeyboardInterrupt SIGTERM"),
    ],
)
def test_a_kill_takes_the_place_of_the_last_step(module: str, guard: str, steps: str) -> None:
    """The ancestor's steps: Given `send_kill`, then the third one is SIGKILL; the first two are
    as ever."""
    output, code, errors = run(DEADLY.format(guard=guard, handled=True))[module]
    assert (output.split(), code) == (steps.split(), -signal.SIGKILL), errors


def test_without_a_handler_the_third_step_ends_the_process(module: str) -> None:
    """The ancestor's default is SIGTERM."""
    output, code, errors = run(DEADLY.format(guard=TIMED, handled=False))[module]
    assert output.split() == ["ExecutionTimeout", "KeyboardInterrupt"], errors
    assert code == -signal.SIGTERM


# -- what is interrupted --------------------------------------------------------------------

BLOCKS = """
@case
def block():
    with soon():
        wait()

@case
def block_without_time():
    with guards.time_guard(60, 0, check_interval=2):
        wait()

@case
@soon()
def guard_wrapper():
    wait()

class Thing:
    @soon()
    def method(self):
        wait()

@case
def method():
    Thing().method()

@case
def swallowed():
    with soon():
        try:
            wait()
        except Exception:
            return "swallowed"

@case
def cleaned_up():
    events = []
    try:
        with soon():
            try:
                wait()
            finally:
                events.append("finally")
    except guards.ExecutionTimeout:
        events.append("except")
    return events

@case
def interrupt():
    try:
        with soon():
            wait()
    except BaseException as timeout:
        return str(timeout), type(timeout).__name__, type(timeout) is guards.ExecutionTimeout

@case
def suspended():
    def numbers():
        with soon():
            yield 1
    made = numbers()
    next(made)
    wait(seconds=0.5)
    return "waited"

@case
def first_look():
    began = time.monotonic()
    try:
        with guards.time_guard(timeout_ms=50, check_interval=500):
            wait()
    except guards.ExecutionTimeout:
        return time.monotonic() - began > 0.49

@case
def stack():
    with contextlib.ExitStack() as stack:
        stack.enter_context(soon())
        wait()

@case
def by_hand():
    guard = soon()
    guard.__enter__()
    try:
        wait()
    finally:
        guard.__exit__(*sys.exc_info())

@case
def again():
    guard = soon()
    said = []
    for seconds in (2, 0, 2):
        try:
            with guard:
                wait(seconds=seconds)
            said.append("left")
        except guards.ExecutionTimeout:
            said.append("interrupted")
    return said

@case
def time_in_memory():
    with large(), soon():
        wait()

@case
def memory_in_time():
    with soon(), large():
        wait()

def pages(seconds):
    for number in range(3):
        with soon():
            wait(seconds=seconds)
        yield number

@case
def generator():
    return list(pages(0))

@case
def slow_generator():
    return list(pages(2))

@contextlib.contextmanager
def limited():
    with soon():
        yield

@case
def context_manager():
    with limited():
        return "in time"

def slept(seconds, **given):
    began = time.monotonic()
    try:
        with soon(**given):
            time.sleep(seconds)
            said = "slept"
    except BaseException as step:
        said = type(step).__name__
    return said, time.monotonic() - began < seconds

@case
def sleep_by_exception():
    return slept(0.5)

@case
def sleep_by_signal():
    return slept(10, interrupt_type=by_signal)

@case
def handler():
    came = []
    before = signal.signal(signal.SIGINT, lambda *_: came.append("handled"))
    with soon(interrupt_type=by_signal):
        wait(lambda: came)
    signal.signal(signal.SIGINT, before)
    return came

@case
def thread():
    said = []
    def work():
        try:
            with soon(interrupt_type=exception):
                wait()
        except guards.ExecutionTimeout:
            said.append("interrupted")
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return said

@case
def forked():
    with soon(grace_period=None, interrupt_type=exception):
        child = os.fork()
        try:
            wait(seconds=2 if child else 0.6)
            ended = 0
        except guards.ExecutionTimeout:
            ended = 7
        if not child:
            os._exit(ended)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

@case
def stray():
    count = 0
    for _ in range(200):
        try:
            with guards.time_guard(timeout_ms=1, check_interval=1, interrupt_type=exception):
                wait(seconds=0.001)
        except guards.ExecutionTimeout:
            pass
        count += 1
    wait(seconds=0.05)
    return count
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("block", "ExecutionTimeout"),
        ("block_without_time", "ExecutionTimeout"),
        ("guard_wrapper", "ExecutionTimeout"),
        ("method", "ExecutionTimeout"),
        ("swallowed", "ExecutionTimeout"),
        ("cleaned_up", ["finally", "except"]),
        ("stack", "ExecutionTimeout"),
        ("by_hand", "ExecutionTimeout"),
        ("again", ["interrupted", "left", "interrupted"]),
        ("time_in_memory", "ExecutionTimeout"),
        ("memory_in_time", "ExecutionTimeout"),
        ("generator", [0, 1, 2]),
        ("slow_generator", "ExecutionTimeout"),
        ("context_manager", "in time"),
    ],
)
def test_what_takes_too_long_is_interrupted(module: str, name: str, expected: Any) -> None:
    """The ancestor's results: in a block and in whatever is decorated, past `except Exception`,
    through each `finally`, and again and again; what does not take too long is left alone."""
    assert result(name, BLOCKS, module) == expected


def test_only_a_signal_interrupts_a_sleep(module: str) -> None:
    """The ancestor's results: the exception comes when `time.sleep` ends, SIGINT ends it."""
    assert result("sleep_by_exception", BLOCKS, module) == ["ExecutionTimeout", False]
    assert result("sleep_by_signal", BLOCKS, module) == ["KeyboardInterrupt", True]


def test_a_handler_of_sigint_is_called(module: str) -> None:
    """The ancestor's result: it does what the program says; there is no KeyboardInterrupt."""
    assert result("handler", BLOCKS, module) == ["handled"]


def test_a_worker_thread_is_interrupted_itself(module: str) -> None:
    """The ancestor's result: the exception comes in the thread that entered the guard."""
    assert result("thread", BLOCKS, module) == ["interrupted"]


def test_nothing_comes_after_a_block_has_been_left(module: str) -> None:
    """The ancestor's result: Given 200 blocks that end about when their time is over, then no
    interrupt comes outside of one."""
    assert result("stray", BLOCKS, module) == 200


# -- progress -------------------------------------------------------------------------------

PROGRESS = """
def once():
    # It interrupts a second time only if there was progress after the first one.
    return soon(grace_period=None, interrupt_type=exception)

def interrupted(seconds=2):
    try:
        wait(seconds=seconds)
    except guards.ExecutionTimeout:
        return True
    return False

def twice(report, seconds=2):
    first = interrupted()
    report()
    return [first, interrupted(seconds)]

def elsewhere(report):
    thread = threading.Thread(target=report)
    thread.start()
    thread.join()

@case
def no_progress():
    with once() as guard:
        return twice(lambda: None, 0.3)

@case
def of_guard_given():
    with once() as guard:
        return twice(lambda: guards.progress(guard))

@case
def of_guard_found():
    with once() as guard:
        return twice(guards.progress)

@case
def of_guard_elsewhere():
    with once() as guard:
        return twice(lambda: elsewhere(guard.progress))

@once()
def function():
    return twice(guards.progress)

@case
def of_function_found():
    return function()

@once()
def function_given():
    return twice(lambda: guards.progress(function_given))

@case
def of_function_given():
    return function_given()

@once()
def function_elsewhere():
    return twice(lambda: elsewhere(function_elsewhere.progress))

@case
def of_function_elsewhere():
    return function_elsewhere()

@case
def of_local_function():
    @once()
    def local():
        return twice(local.progress)
    return local()

def deeper():
    return twice(guards.progress)

@once()
def caller():
    return deeper()

@case
def of_caller_found():
    return caller()

@case
def within_memory():
    @large()
    def sized():
        with once() as guard:
            return twice(guards.progress)
    return sized()

@case
def loop():
    with once() as guard:
        return [interrupted() for _ in guards.progress_loop(range(2))]

@case
def loop_given():
    with once() as guard:
        return [interrupted() for _ in guards.progress_loop(range(2), guard)]

@case
def steps():
    steps = []
    with soon(grace_period=10) as guard:
        for _ in range(3):
            try:
                wait()
            except BaseException as step:
                steps.append(type(step).__name__)
                guard.progress()
    return steps

@case
def in_time():
    while time.monotonic() < END:
        guard = guards.time_guard(timeout_ms=400, check_interval=2)
        try:
            with guard:
                for _ in range(5):
                    began = time.monotonic()
                    wait(seconds=0.15)
                    guard.progress()
            return "left"
        except guards.ExecutionTimeout:
            if time.monotonic() - began < 0.4:  # else the computer was too slow
                return "interrupted"
"""


@pytest.mark.parametrize(
    "name",
    [
        "of_guard_given", "of_guard_found", "of_guard_elsewhere",
        "of_function_found", "of_function_given", "of_function_elsewhere",
        "of_local_function",
        "of_caller_found", "within_memory", "loop", "loop_given",
    ],
)  # fmt: skip
def test_progress_reaches_the_guard(module: str, name: str) -> None:
    """The ancestor's results: Given a guard that has done its only step, then it does it again
    after progress, however and in whatever thread that is reported."""
    assert result(name, PROGRESS, module) == [True, True]


def test_without_progress_a_single_step_is_not_repeated(module: str) -> None:
    """The ancestor's result; so the test above could fail."""
    assert result("no_progress", PROGRESS, module) == [True, False]


def test_after_progress_the_first_step_comes_again(module: str) -> None:
    """The ancestor's result: Given progress after each step, then it is always the first one,
    after the timeout and not after the grace period of 10 s."""
    assert result("steps", PROGRESS, module) == ["ExecutionTimeout"] * 3


def test_who_reports_in_time_is_not_interrupted(module: str) -> None:
    """The ancestor's result: Given 400 ms and a report each 150 ms, then 750 ms are left alone."""
    assert result("in_time", PROGRESS, module) == "left"


def test_progress_without_a_guard_is_an_error(guards: Any) -> None:
    """The ancestor's error: where there is no guard of time, and for what is none."""
    with pytest.raises(RuntimeError):
        guards.progress()
    for given in (guards.mem_guard(10**9), guards.mem_guard(10**9)(len), len, 3):
        with pytest.raises(RuntimeError):
            guards.progress(given)
    with guards.mem_guard(10**9, check_interval=1), pytest.raises(RuntimeError):
        guards.progress()


def test_progress_of_a_guard_that_does_not_run_is_nothing(guards: Any) -> None:
    """The ancestor's result: before its block and after it."""
    guard = guards.time_guard(check_interval=1)
    decorated = guard(len)
    for _ in range(2):
        guard.progress()
        guards.progress(guard)
        guards.progress(decorated)
        decorated.progress()
        with guard:
            pass


def items(taken: list[int]) -> Iterator[int]:
    """Three items, which are noted when they are taken, then an error."""
    for number in range(3):
        taken.append(number)
        yield number
    raise KeyError(3)


def test_a_loop_passes_on_items_one_by_one_and_errors(guards: Any) -> None:
    """The ancestor's results."""
    taken: list[int] = []
    loop = guards.progress_loop(items(taken), guards.time_guard())
    assert iter(loop) is loop
    for number in range(3):
        assert taken == list(range(number))
        assert next(loop) == number
    with pytest.raises(KeyError):
        next(loop)


def test_a_loop_looks_for_its_guard_after_the_first_item(guards: Any) -> None:
    """The ancestor's result: only going on is progress."""
    loop = guards.progress_loop([1])
    assert next(loop) == 1
    with pytest.raises(RuntimeError):
        next(loop)
    assert list(guards.progress_loop([])) == []


def test_what_cannot_be_iterated_fails_at_the_first_item(guards: Any) -> None:
    """The ancestor's error: a TypeError, and not before."""
    loop = guards.progress_loop(3)
    with pytest.raises(TypeError):
        next(loop)


# -- memory ---------------------------------------------------------------------------------

MEMORY = """
def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * mmap.PAGESIZE // 1024

def hold():
    return mmap.mmap(-1, 8 * 1024**2, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)

def guard(limit, absolute, **given):
    return guards.mem_guard(limit, absolute, check_interval=2, **given)

def grow(guard):
    inside = False
    try:
        with guard:
            wait(seconds=0.1)
            inside = True
            held = hold()
            wait()
    except guards.MemoryLimitExceeded:
        return inside

@case
def absolute():
    return grow(guard(resident() + 4096, True))

@case
def growth():
    return grow(guard(4096, False))

@case
def above():
    one = guard(1, True)
    count = 0
    for _ in range(3):
        try:
            with one:
                wait()
        except guards.MemoryLimitExceeded:
            count += 1
    return count

@case
def before():
    held = hold()
    with guard(4096, False):
        wait(seconds=0.1)
    return "left"

def phase():
    began = time.monotonic()
    held = hold()
    wait(seconds=0.25)
    held.close()
    took = time.monotonic() - began
    wait(seconds=0.15)
    return took

@case
def phases():
    while time.monotonic() < END:
        times = []
        try:
            with guard(4096, False, grace_period_ms=600):
                for _ in range(3):
                    times.append(phase())
            return "left"
        except guards.MemoryLimitExceeded:
            if max(times, default=0) < 0.5 and len(times) < 3:
                return "interrupted"

@case
def anew():
    steps = []
    with guard(4096, False, grace_period_ms=100, secondary_grace_period=10):
        for _ in range(2):
            held = hold()
            try:
                wait()
            except BaseException as step:
                steps.append(type(step).__name__)
            held.close()
            wait(seconds=0.15)
    return steps
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the ancestor needs Linux")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("absolute", True),
        ("growth", True),
        ("above", 3),
        ("before", "left"),
        ("phases", "left"),
        ("anew", ["MemoryLimitExceeded", "MemoryLimitExceeded"]),
    ],
)
def test_memory_is_that_of_the_process(module: str, name: str, expected: Any) -> None:
    """The ancestor's results: KiB count, in all or since the beginning; who is above then is
    interrupted; grace periods and steps begin anew once memory has fallen below."""
    assert result(name, MEMORY, module) == expected


# -- blocks and functions -------------------------------------------------------------------


@pytest.fixture(params=["time_guard", "mem_guard"])
def make(request: pytest.FixtureRequest, guards: Any) -> Callable[[], Any]:
    """Makes a guard that does not interrupt."""
    if request.param == "time_guard":
        return lambda: guards.time_guard(check_interval=1)
    return lambda: guards.mem_guard(10**9, check_interval=1)


def test_a_block_gets_the_guard_and_keeps_its_errors(make: Callable[[], Any]) -> None:
    """The ancestor's results: `as` gives the guard itself; nothing is swallowed; a guard can be
    used again after its block, however that was left."""
    guard = make()
    for _ in range(2):
        with guard as given:
            assert given is guard
        with pytest.raises(KeyError), guard:
            raise KeyError


def test_leaving_more_often_than_entering_is_nothing(make: Callable[[], Any]) -> None:
    """The ancestor's results: something false, whether it was entered or not."""
    guard = make()
    assert not guard.__exit__(None, None, None)
    guard.__enter__()
    assert not guard.__exit__(None, None, None)
    assert not guard.__exit__(None, None, None)


def test_a_guard_is_not_entered_twice(make: Callable[[], Any]) -> None:
    """The ancestor's error; and the guard is as good as before."""
    guard = make()
    for _ in range(2):
        with guard, pytest.raises(RuntimeError):
            guard.__enter__()


def test_a_function_keeps_arguments_result_and_errors(make: Callable[[], Any]) -> None:
    """The ancestor's results, for whatever can be called."""
    assert make()(lambda *args, **options: (args, options))(1, 2, a=3) == ((1, 2), {"a": 3})
    assert make()(dict)(a=1) == {"a": 1}
    assert make()(functools.partial(int, "7"))() == 7
    with pytest.raises(KeyError):
        make()({}.__getitem__)(1)
    with pytest.raises(TypeError):
        make()(len)()


def test_a_function_has_its_guard_and_progress(guards: Any) -> None:
    """The ancestor's attributes: `progress` only where it is a guard of time."""
    timed, sized = guards.time_guard(), guards.mem_guard(1)
    assert timed(len)._guard_self is timed
    assert timed(len).progress == timed.progress
    assert sized(len)._guard_self is sized
    assert not hasattr(sized(len), "progress")


def test_what_cannot_be_called_is_no_function(guards: Any) -> None:
    """The ancestor's error comes with the call, ours at the decoration: a TypeError."""
    below_it: Any = classmethod(lambda owner: None)
    for given in (3, below_it):
        with pytest.raises(TypeError):
            guards.time_guard(check_interval=1)(given)()


# -- what differs on purpose ----------------------------------------------------------------


def entered_within(guards: Any) -> None:
    with guards.time_guard(check_interval=1), guards.time_guard(check_interval=1):
        pass


def entered_in_two_threads(guards: Any) -> None:
    errors = []

    def enter() -> None:
        try:
            with guards.time_guard(check_interval=1):
                pass
        except RuntimeError as error:
            errors.append(error)

    with guards.time_guard(check_interval=1):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join(LIMIT)
    if errors:
        raise errors[0]


def called_within_itself(guards: Any) -> None:
    @guards.time_guard(check_interval=1)  # type: ignore[untyped-decorator]  # of either module
    def function(depth: int) -> None:
        if depth:
            function(depth - 1)

    function(3)


def found_without_a_name(guards: Any) -> None:
    with guards.time_guard(check_interval=1):
        guards.progress()


def given_a_fraction(guards: Any) -> None:
    guards.time_guard(0.5)


@pytest.mark.parametrize(
    "program",
    [
        entered_within,
        entered_in_two_threads,
        called_within_itself,
        found_without_a_name,
        given_a_fraction,
    ],
)
def test_ours_does_what_theirs_refuses(
    module: str, guards: Any, program: Callable[[Any], None]
) -> None:
    """S-34, and what can be expected of a block: any thread may have guards, as many as it
    likes; a fraction of a second is a time as well."""
    refused = contextlib.nullcontext()
    if module == THEIRS:
        refused = pytest.raises((RuntimeError, TypeError))  # type: ignore[assignment]
    with refused:
        program(guards)


@pytest.mark.parametrize("given", ["timeout=True", "grace_period_ms=False"])
def test_truth_is_no_number(module: str, guards: Any, given: str) -> None:
    """Theirs takes it for 0 or 1; to ours it is likely a mistake."""
    with contextlib.nullcontext() if module == THEIRS else pytest.raises(TypeError):
        guards.time_guard(**settings(given))


async def coroutine() -> None:
    """Guarding its calls guards nothing."""


def generator() -> Iterator[int]:
    """Guarding its calls guards nothing."""
    yield 1


@pytest.mark.parametrize("function", [coroutine, generator])
def test_a_function_that_runs_after_its_call_is_refused(
    module: str, guards: Any, function: Callable[[], Any]
) -> None:
    """Theirs guards the call, in which nothing is done yet; ours says so at the decoration."""
    if module == THEIRS:
        guards.time_guard(check_interval=1)(function)().close()
    else:
        with pytest.raises(TypeError):
            guards.time_guard()(function)


def test_signals_asked_for_by_name_are_refused_in_a_worker(module: str, guards: Any) -> None:
    """S-34: they interrupt the main thread, and so does theirs."""
    said = []

    def enter(name: str) -> None:
        kind = getattr(guards.InterruptType, name)
        try:
            with guards.time_guard(interrupt_type=kind, check_interval=1):
                said.append("entered")
        except RuntimeError:
            said.append("refused")

    for name in ("signal", "exception_then_signal", "exception"):
        thread = threading.Thread(target=enter, args=(name,))
        thread.start()
        thread.join(LIMIT)
    expected = ["refused", "refused", "entered"]
    assert said == (["entered"] * 3 if module == THEIRS else expected)


WORKER = """
came = []
def enough():
    return len(came) >= 2

def swallow(where):
    while not enough() and time.monotonic() < END:
        try:
            wait(enough)
        except BaseException as step:
            came.append(f"{type(step).__name__} in the {where}")

def work():
    with soon(grace_period_ms=80):
        swallow("worker")

@case
def steps():
    worker = threading.Thread(target=work)
    worker.start()
    swallow("main thread")
    worker.join()
    return came
"""


def test_the_steps_in_a_worker_stay_with_exceptions(module: str) -> None:
    """S-34: theirs sends SIGINT, which interrupts the main thread instead."""
    first, second = result("steps", WORKER, module)
    assert first == "ExecutionTimeout in the worker"
    if module == THEIRS:
        assert second == "KeyboardInterrupt in the main thread"
    else:
        assert second == "ExecutionTimeout in the worker"


def test_an_interrupt_says_what_was_exceeded(module: str) -> None:
    """Theirs says nothing; the class of ours is derived from the one that `except` takes."""
    expected = ["", "ExecutionTimeout", True]
    if module == OURS:
        expected = ["it took longer than its limit of 0.15 s", "ExecutionTimeout", False]
    assert result("interrupt", BLOCKS, module) == expected


def test_a_timeout_does_not_wait_for_a_look(module: str) -> None:
    """Theirs looks each 500 ms here, so that 50 ms take as long; ours is awake in time."""
    assert result("first_look", BLOCKS, module) == (module == THEIRS)


def test_a_block_in_a_suspended_generator_is_left_alone(module: str) -> None:
    """Theirs interrupts what runs then."""
    said = "ExecutionTimeout" if module == THEIRS else "waited"
    assert result("suspended", BLOCKS, module) == said


def test_a_forked_child_is_interrupted_as_well(module: str) -> None:
    """It is in the same block; theirs leaves it alone."""
    assert result("forked", BLOCKS, module) == (0 if module == THEIRS else 7)


def test_a_function_keeps_its_name(module: str, guards: Any) -> None:
    """Theirs gives all of them the same."""
    assert (guards.time_guard()(len).__name__ == "len") == (module == OURS)


def test_a_block_is_left_at_once(module: str, guards: Any) -> None:
    """Theirs waits until it would have looked again: five times 100 ms here."""
    began = time.monotonic()
    for _ in range(5):
        with guards.time_guard(check_interval=100):
            pass
    assert (time.monotonic() - began < 0.4) == (module == OURS)
