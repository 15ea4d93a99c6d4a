"""How do requests come in? By the standard library's HTTP server, owned by a component."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from examples.service.tally import GetTotal, TooManyPages, Visit
from kompyct import Component
from kompyct.errors import AskTimeoutError, ComponentDestroyedError, RestartingError
from kompyct.ref import ComponentRef

CLIENT_TIMEOUT = 10.0  # seconds that a client may take to send its request
DRAIN_TIMEOUT = 4.0  # seconds for requests in flight at the end; kept things have 5 s
MAX_RETRIES = 5
MAX_PAGE = 100  # characters

Answer = tuple[int, dict[str, Any]]  # HTTP status and body


class Web(Component[object]):
    """Owns the server: it is opened in `on_start` and closed before the component is gone."""

    def __init__(
        self,
        port: int,
        tally: ComponentRef[Visit | GetTotal],
        get_health: Callable[[], Answer],
    ) -> None:
        self._port = port
        self._tally = tally
        self._get_health = get_health

    def on_start(self) -> None:
        server = self.keep(serving(self._port, self._tally, self._get_health))
        port = server.server_port  # where it must come back after a fault
        again = partial(Web, port, self._tally, self._get_health)
        self.set_recovery_function(lambda fault: fault.restart(again))
        self.log.info("listening on http://127.0.0.1:%d", port)

    def on_kill(self) -> None:
        self.log.info("web ends")


class Server(ThreadingHTTPServer):
    """A thread for each request, and a count of those in flight."""

    daemon_threads = True

    def __init__(self, port: int, handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        self._changed = threading.Condition()  # protects _in_flight
        self._in_flight = 0
        super().__init__(("127.0.0.1", port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._in_flight += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until no request is in flight; False if some are after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._in_flight, timeout)


@contextmanager
def serving(
    port: int, tally: ComponentRef[Visit | GetTotal], get_health: Callable[[], Answer]
) -> Iterator[Server]:
    """A server on the loopback, until the end of `with`; then requests in flight are finished."""
    server = Server(port, partial(Handler, tally, get_health))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        server.wait_until_idle(DRAIN_TIMEOUT)


class Handler(BaseHTTPRequestHandler):
    """Turns `POST /visits/<page>`, `GET /total` and `GET /health` into asks."""

    timeout = CLIENT_TIMEOUT

    def __init__(
        self,
        tally: ComponentRef[Visit | GetTotal],
        get_health: Callable[[], Answer],
        *arguments: Any,
    ) -> None:
        self._tally = tally
        self._get_health = get_health
        super().__init__(*arguments)

    def do_POST(self) -> None:
        page = self.path.removeprefix("/visits/")
        if page == self.path or not 1 <= len(page) <= MAX_PAGE:
            self._answer(404, {"error": "POST /visits/<page>"})
            return
        self._answer(*answer(lambda: {"visits": self._tally.ask(Visit(page), timeout=5.0)}))

    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer(*self._get_health())
        elif self.path == "/total":
            self._answer(*answer(lambda: {"total": self._tally.ask(GetTotal(), timeout=5.0)}))
        else:
            self._answer(404, {"error": "GET /health or GET /total"})

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: one line a request is too much."""

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def answer(ask: Callable[[], dict[str, Any]]) -> Answer:
    """What `ask` gives, or what its error means to a client of HTTP.

    An ask that was queued when the component faulted was not handled: it may be sent again. The
    one in hand may have had an effect already, so the client must decide.
    """
    for _ in range(MAX_RETRIES):
        try:
            return 200, ask()
        except RestartingError:
            continue
        except TooManyPages as error:
            return 400, {"error": str(error)}
        except AskTimeoutError:
            return 504, {"error": "no answer in time"}
        except ComponentDestroyedError:
            return 503, {"error": "the tally has ended"}
        except Exception as error:
            return 500, {"error": type(error).__name__}
    return 503, {"error": "the tally is restarting"}
