"""Does the example service keep serving, say how it is, and end in order?"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from examples.service.health import health
from examples.service.load import Result, apply_load
from examples.service.tally import MAX_PAGES, FlakyStorage, GetTotal, Reporter, Tally, Visit
from examples.service.tally import TooManyPages as TooMany
from examples.service.web import answer
from kompyct import Component, FaultContext, RecoveryHandler
from kompyct.errors import (
    AskTimeoutError,
    ComponentDestroyedError,
    RestartingError,
)
from kompyct.events import BenignError, ComponentFaulted, ComponentRecovered

from .conftest import Bench

ROOT = Path(__file__).parent.parent
LIMIT = 10.0  # seconds within which anything must have happened


def until(reached: Callable[[], Any], what: str) -> Any:
    """What `reached()` gives once it is true; fails after LIMIT."""
    pause = threading.Event()
    for _ in range(int(LIMIT / 0.005)):
        found = reached()
        if found:
            return found
        pause.wait(0.005)
    raise AssertionError(f"not within {LIMIT} s: {what}")


class Service:
    """The service as a process, on a loopback port that the system chose."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._log = folder / "service.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "examples.service", "--port", "0", *options],
                cwd=ROOT,
                stderr=log,
                stdout=log,
            )

    def wait_until_ready(self) -> None:
        """Until it listens, and its main thread is in `run()`, so that signals end it in order."""
        found = until(lambda: re.search(r"http://127.0.0.1:(\d+)", self.log()), "listening")
        self.port = int(found[1])
        until(self._catches_sigterm, "a handler of SIGTERM")

    def log(self) -> str:
        if self.process.poll() not in (None, 0, 1):
            raise AssertionError(f"exit code {self.process.returncode}: {self._log.read_text()}")
        return self._log.read_text()

    def get(self, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def end(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(LIMIT)

    def _catches_sigterm(self) -> bool:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = re.search(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
        assert caught
        return bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts services, and kills those that are left at the end."""
    started: list[Service] = []

    def start(*options: str) -> Service:
        started.append(Service(tmp_path, *options))
        started[-1].wait_until_ready()
        return started[-1]

    yield start
    for service in started:
        service.process.kill()
        service.process.wait()


def test_it_comes_back_from_faults_while_requests_go_on_and_ends_in_order(
    start_service: Callable[..., Service],
) -> None:
    """B-65, B-66, S-03: Given 300 requests and a storage that fails at each 50th write, then six
    requests fail, 294 are counted, and SIGTERM ends the three parts in reverse start order.

    By hand: each request is handled once, since those that were queued at a fault are sent again;
    300 / 50 = 6 writes fail, each in hand of one request. The snapshot after each visit keeps the
    other 294. Seven incarnations: the first and six replacements. Started: tally, reporter, web.
    """
    service = start_service("--fault-every", "50")
    result = apply_load(service.port, requests=300, clients=4)
    assert (result.succeeded, result.failed) == (294, 6)
    assert service.get("/total") == (200, {"total": 294})

    def well() -> dict[str, Any] | None:
        status, details = service.get("/health")
        return details if status == 200 else None

    details = until(well, "health 200")
    assert (details["status"], details["missing"], details["down"]) == ("ok", [], [])
    assert [*details["components"]] == ["tally", "reporter", "web"]
    tally = details["components"]["tally"]
    assert (tally["status"], tally["incarnation"]) == ("running", 7)
    assert details["components"]["web"]["incarnation"] == 1

    service.process.send_signal(signal.SIGTERM)
    assert service.end() == 0
    ends = re.findall(r"INFO (web|reporter|tally|service) (?:ends|has ended)", service.log())
    assert ends == ["web", "reporter", "tally", "service"]
    assert "tally ends with 294 visits" in service.log()


def test_health_is_503_once_a_component_has_used_up_its_restarts(
    start_service: Callable[..., Service],
) -> None:
    """B-67, B-90: Given a limit of two restarts and faults at every write, then the third visit
    ends the tally: visits get 503 and /health names it; the rest goes on and ends in order.
    """
    service = start_service("--fault-every", "1", "--max-restarts", "2")
    for _ in range(3):
        assert service.get("/visits/a", "POST") == (500, {"error": "ConnectionResetError"})
    until(lambda: "component 'tally' ended" in service.log(), "the end of the tally")
    assert service.get("/visits/a", "POST") == (503, {"error": "the tally has ended"})
    status, details = service.get("/health")
    assert status == 503
    assert (details["status"], details["missing"]) == ("unavailable", ["tally"])
    assert details["components"]["web"]["status"] == "running"
    service.process.send_signal(signal.SIGINT)
    assert service.end() == 0


def test_a_second_sigterm_cuts_the_end_short(start_service: Callable[..., Service]) -> None:
    """S-35: Given a request that never arrives whole, then the end waits for it; a second SIGTERM
    ends the wait: exit code 1, and the parts that were still to come run no `on_kill`.

    Alone, the first signal would end with code 0 after the 4 s that `web.py` gives to requests.
    """
    service = start_service()
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(b"POST /visits/a HTT")
        assert service.get("/health")[0] == 200  # accepted after the other, which is in flight
        service.process.send_signal(signal.SIGTERM)
        until(lambda: "web ends" in service.log(), "the end of the web component")
        service.process.send_signal(signal.SIGTERM)
        assert service.end() == 1
    assert "cut short" in service.log()
    assert "tally ends" not in service.log()


OTHER_THREAD = """
import signal, threading
from kompyct import ComponentSystem

def disturb():
    pause = threading.Event()
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        pause.wait(0.001)
    pause.wait(0.1)  # the main thread is waiting by now; if not, the test asks for less
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    pause.wait()

system = ComponentSystem()
threading.Thread(target=disturb, daemon=True).start()
system.run()
print("ended in order")
"""


def test_a_signal_that_reaches_another_thread_ends_the_program_as_well() -> None:
    """S-35: Given a SIGTERM that the kernel hands to another thread, then `run()` ends too.

    A signal to the process is for whichever thread looks first, and starting a thread looks: a
    server with a thread for each request loses one in three if the main thread only waits for a
    lock, since Python's handlers run there. `pthread_kill` makes it happen each time.
    """
    done = subprocess.run(
        [sys.executable, "-c", OTHER_THREAD],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ended in order\n"), done.stderr


def test_a_port_that_is_taken_ends_it_with_a_reason(tmp_path: Path) -> None:
    """B-04: Given a fault in `on_start` of the web component, then it ends at once, code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        service = Service(tmp_path, "--port", port)  # the last --port counts
        assert service.end() == 1
    assert "not started: [Errno" in service.log()
    assert "tally ends with 0 visits" in service.log()


def test_the_load_generator_says_how_the_requests_went() -> None:
    """Given 100 latencies of 1 to 100 ms, then p50 is the 51st of them, p99 the last."""
    result = Result(97, 3, [number / 1000 for number in range(1, 101)])
    assert str(result) == "succeeded=97 failed=3 p50=51.0 p90=91.0 p99=100.0 max=100.0 ms"


def test_the_load_generator_counts_a_service_that_is_not_there() -> None:
    """Given nobody who listens, then each request has failed and none is forgotten."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = apply_load(port, requests=5, clients=2)
    assert (result.succeeded, result.failed, len(result.latencies)) == (0, 5, 5)


def test_health_is_503_while_a_component_is_restarting(bench: Bench) -> None:
    """B-90, B-53: Given a recovery function that is at work, then health says 503 and names it.

    The recovery function itself looks, so that the component is surely restarting.
    """
    seen: list[tuple[int, dict[str, Any]]] = []

    def recover(fault: FaultContext[None]) -> RecoveryHandler:
        seen.append(health(bench.system, ["part"]))
        return fault.restart()

    class Part(Component[str]):
        def on_start(self) -> None:
            self.set_recovery_function(recover)

        def on_receive(self, message: str) -> None:
            raise OSError

    part = bench.system.create(Part, name="part")
    bench.system.start(part).result(5.0)
    assert health(bench.system, ["part"])[0] == 200
    part.tell("fault")
    bench.event(ComponentRecovered)
    ((status, details),) = seen
    assert (status, details["down"], details["missing"]) == (503, ["part"], [])
    assert details["components"]["part"]["status"] == "restarting"
    assert health(bench.system, ["part"])[0] == 200


def test_the_tally_refuses_a_page_too_many_without_a_fault(bench: Bench) -> None:
    """S-14: Given more pages than the limit, then the asker gets a benign error, nobody faults."""
    tally = bench.system.create(partial(Tally, FlakyStorage(0)), name="tally")
    bench.system.start(tally).result(5.0)
    for number in range(MAX_PAGES):
        tally.tell(Visit(f"page-{number}"))
    with pytest.raises(TooMany):
        tally.ask(Visit("one more"))
    assert tally.ask(Visit("page-0")) == 2
    assert tally.ask(GetTotal()) == MAX_PAGES + 1
    assert not bench.events.of(ComponentFaulted)


def test_the_reporter_is_no_victim_of_the_tally(bench: Bench) -> None:
    """S-14: Given a tally that has ended, then the reporter's ask is benign and it carries on."""
    tally = bench.system.create(partial(Tally, FlakyStorage(0)), name="tally")
    reporter = bench.system.create(partial(Reporter, tally), name="reporter")
    bench.system.start(reporter).result(5.0)
    bench.system.kill(tally).result(5.0)
    reporter.proxy().report.defer()
    assert bench.event(BenignError).error == "ComponentDestroyedError"
    assert reporter.incarnation == 1
    assert not bench.events.of(ComponentFaulted)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TooMany("full"), 400),
        (OSError("broken"), 500),
        (RestartingError("later"), 503),
        (ComponentDestroyedError("gone"), 503),
        (AskTimeoutError("late"), 504),
    ],
)
def test_errors_become_statuses(error: Exception, status: int) -> None:
    """Given an ask that raises, then the client gets the status for it, never an exception."""

    def ask() -> dict[str, Any]:
        raise error

    assert answer(ask)[0] == status


def test_an_ask_that_was_queued_at_a_fault_is_sent_again() -> None:
    """S-16: Given a RestartingError, which means not handled, then the request is repeated."""
    errors = [RestartingError("queued")]

    def ask() -> dict[str, Any]:
        if errors:
            raise errors.pop()
        return {"visits": 1}

    assert answer(ask) == (200, {"visits": 1})
