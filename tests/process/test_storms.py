"""Does the contract hold while processes are killed at moments that nobody has chosen?

Random runs say their seed.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from functools import partial
from typing import Any

import pytest

from kompyct import RestartLimit, events
from kompyct.errors import ComponentFaultError, RestartingError
from tests.conftest import LIMIT
from tests.process import components
from tests.process.components import Do, Get, Holder, Notes, again, from_snapshot
from tests.process.conftest import ProcessBench, do

MANY = RestartLimit(10_000, 1.0)


def kill_now(ref: Any) -> bool:
    """Kill the process it has just now, if it has one."""
    component = ref._cell.component
    if component is None:
        return False
    component.child.signal(signal.SIGKILL)
    return True


def _note(component: Holder, number: int) -> None:
    component.note(number)


@pytest.mark.parametrize("standby", [False, True])
def test_each_message_is_handled_in_order_and_at_most_once(
    bench: ProcessBench, notes: Notes, standby: bool
) -> None:
    """S-31: over twelve kills, of 3,000 numbered messages none is handled twice or out of order,
    and missing are at most those that were in hand: one a kill."""
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    ref = bench.started(1, notes, recovery=again, budget=MANY, standby=standby)
    sent = threading.Event()

    def send() -> None:
        for number in range(3000):
            ref.tell(Do(_note, (number,)))
            if number % 50 == 0:
                time.sleep(0.002)
        sent.set()

    sender = threading.Thread(target=send)
    sender.start()
    for count in range(1, 13):
        bench.pass_time(rng.random() * 0.02)
        bench.until(lambda: kill_now(ref))
        bench.event_of(events.ComponentRecovered, ref, count)
    sender.join(LIMIT)
    assert sent.is_set()
    do(ref, components.pid, timeout=2 * LIMIT)
    handled = [int(line) for line in notes.lines() if line != "start"]
    assert handled == sorted(set(handled)), f"seed {seed}"
    missing = set(range(3000)) - set(handled)
    in_hand = {
        fault.message.arguments[0]
        for fault in components.FAULTS[ref.path]
        if fault.message is not None
    }
    assert missing <= in_hand, f"seed {seed}"
    assert len(components.FAULTS[ref.path]) == 12


def test_every_ask_ends(bench: ProcessBench) -> None:
    """B-66: asks of four threads over ten kills: each is answered rightly, or gets one of the two
    documented errors; none hangs, none has another's reply."""
    ref = bench.started(1, recovery=again, budget=MANY)
    done = threading.Event()
    wrong: list[Any] = []
    answered = [0] * 4

    def ask(asker: int) -> None:
        number = 0
        while not done.is_set():
            number += 1
            try:
                reply = do(ref, components.echo, (asker, number))
            except (RestartingError, ComponentFaultError):
                continue
            except BaseException as error:
                wrong.append(error)
                return
            answered[asker] += 1
            if reply != (asker, number):
                wrong.append(reply)

    askers = [threading.Thread(target=ask, args=(asker,)) for asker in range(4)]
    for asker in askers:
        asker.start()
    for count in range(1, 11):
        bench.pass_time(0.01)
        bench.until(lambda: kill_now(ref))
        bench.event_of(events.ComponentRecovered, ref, count)
    done.set()
    for asker in askers:
        asker.join(2 * LIMIT)
        assert not asker.is_alive()
    assert wrong == []
    assert all(answered)


def _save_on_and_on(component: Holder, board: str, size: int) -> None:
    """Save 1, 2, 3, …; after each save its number is written into a file, as acknowledged."""
    file = os.open(board, os.O_RDWR | os.O_CREAT, 0o600)
    number = component.state[0]
    while True:
        number += 1
        component.set_recovery_function(from_snapshot, snapshot=(number, str(number) * size))
        os.pwrite(file, b"%020d" % number, 0)


@pytest.mark.parametrize("size", [1, 3_000, 300_000])
def test_no_save_is_lost_or_torn(bench: ProcessBench, tmp_path: Any, size: int) -> None:
    """RELIABILITY section 1: 0 acknowledged shared values lost: killed in a tight loop of saves
    the snapshot is whole, and the last whose call has returned, or the one after; the one
    before it is among the older ones."""
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    board = str(tmp_path / "board")
    ref = bench.started((0, ""), recovery=from_snapshot, budget=MANY)
    last = 0
    for count in range(1, 13):
        ref.tell(Do(_save_on_and_on, (board, size)))
        bench.until(partial(_is_beyond, board, last))
        bench.pass_time(rng.random() * 0.005)
        bench.until(lambda: kill_now(ref))
        fault = bench.fault(ref, count)
        number, text = fault.snapshot
        acknowledged = _number_in(board)
        assert acknowledged <= number <= acknowledged + 1, f"seed {seed}"
        assert text == str(number) * size
        assert fault.saved_in_hand
        older, its_text = fault.older_snapshots[0]
        assert older < number
        assert its_text == str(older) * size or older == 0
        bench.event_of(events.ComponentRecovered, ref, count)
        assert ref.ask(Get())[0] == number
        last = number


def _is_beyond(board: str, number: int) -> bool:
    return os.path.exists(board) and _number_in(board) > number


def _number_in(board: str) -> int:
    with open(board, "rb") as file:
        return int(file.read(20) or b"0")


def test_random_orders_among_kills_end_well(bench: ProcessBench) -> None:
    """Races: starts, stops, registrations from outside and kills of the process, all at once
    from three threads: at the end the component starts, answers, and can be killed."""
    seed = random.randrange(1 << 30)
    ref = bench.started(1, recovery=again, budget=MANY)
    until = time.monotonic() + 1.5
    wrong: list[BaseException] = []

    def disturb(number: int) -> None:
        rng = random.Random(seed + number)
        while time.monotonic() < until:
            order = rng.randrange(5)
            try:
                if order == 0:
                    bench.system.start(ref)
                elif order == 1:
                    bench.system.stop(ref)
                elif order == 2:
                    kill_now(ref)
                elif order == 3:
                    ref.set_recovery_function(again, snapshot=rng.random())
                else:
                    ref.tell(Do(components.pid))
            except BaseException as error:
                wrong.append(error)
            time.sleep(rng.random() * 0.01)

    threads = [threading.Thread(target=disturb, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert wrong == [], f"seed {seed}"

    def answers() -> bool:
        try:
            bench.system.start(ref).result(LIMIT)
            return bool(ref.ask(Get()) == 1)
        except (RestartingError, ComponentFaultError):  # the last of the kills
            return False

    bench.until(answers, 2 * LIMIT)
    bench.system.kill(ref).result(LIMIT)
    assert not ref.is_alive
