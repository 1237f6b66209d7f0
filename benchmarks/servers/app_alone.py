"""What an app of `apps.py` costs without any server: `python -m benchmarks.servers.app_alone starlette`.

Its `/hello` is called in a loop, with a `receive` and a `send` that do nothing. The answer is the CPU time
for each call in microseconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import trio

from benchmarks.harness.control import answer
from benchmarks.servers.apps import quart_app, starlette_app
from benchmarks.servers.smallest_trio import scope_of

_CALLS = 10_000


class _NoClient:
    """The `receive` and `send` of a request without a body, whose response goes nowhere."""

    def __init__(self) -> None:
        self._has_received = False

    async def receive(self) -> dict[str, Any]:
        if self._has_received:
            await trio.sleep_forever()
        self._has_received = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Mapping[str, Any]) -> None:
        pass


async def main(name: str) -> None:
    if name == "starlette":
        app = starlette_app()
    else:
        from quart_trio import QuartTrio

        app = quart_app(QuartTrio)
    used = 0.0
    for number in range(2 * _CALLS):
        if number == _CALLS:  # the first half is to warm up
            used = time.process_time()
        client = _NoClient()
        await app(scope_of("/hello"), client.receive, client.send)
    answer("alone", microseconds=(time.process_time() - used) / _CALLS * 1e6)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
