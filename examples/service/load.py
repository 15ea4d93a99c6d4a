"""A small load: `python -m examples.service.load --port 8080 --requests 1000 --clients 4`."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

from examples.arguments import number

TIMEOUT = 10.0  # seconds for one request
PAGES = 10


@dataclass
class Result:
    """What became of the requests; latencies in seconds, in the order of size."""

    succeeded: int = 0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """The latency that `share` (0 to 1) of the requests did not exceed."""
        last = len(self.latencies) - 1
        return self.latencies[min(int(share * len(self.latencies)), last)]

    def __str__(self) -> str:
        shares = " ".join(
            f"p{share}={self.percentile(share / 100) * 1000:.1f}" for share in (50, 90, 99)
        )
        worst = self.latencies[-1] * 1000
        return f"succeeded={self.succeeded} failed={self.failed} {shares} max={worst:.1f} ms"


def apply_load(port: int, requests: int, clients: int) -> Result:
    """Send that many requests (>= 1) by that many threads, one after the other in each."""
    numbers = iter(range(requests))
    taking = threading.Lock()  # protects numbers and result
    result = Result()

    def client() -> None:
        while True:
            with taking:
                number = next(numbers, None)
            if number is None:
                return
            began = time.perf_counter()
            succeeded = visit(port, f"page-{number % PAGES}")
            took = time.perf_counter() - began
            with taking:
                result.succeeded += succeeded
                result.failed += not succeeded
                result.latencies.append(took)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result.latencies.sort()
    return result


def visit(port: int, page: str) -> bool:
    """Whether the service counted a visit to `page`."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("POST", f"/visits/{page}")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.service.load")
    parser.add_argument("--port", type=number(1, 65_535), default=8080)
    parser.add_argument("--requests", type=number(1, 1_000_000), default=1000)
    parser.add_argument("--clients", type=number(1, 1000), default=4)
    options = parser.parse_args(arguments)
    print(apply_load(options.port, options.requests, options.clients))


if __name__ == "__main__":
    main()
