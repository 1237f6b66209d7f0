"""Healthy clients: `python -m benchmarks.hostile.population HOST PORT`.

They follow numbered events, and see which of them arrive in time. Commands on stdin:

connect N          open N streams, and wait until each has received an event
newcomers on|off   open a stream every 100 ms, and leave it a second later
finish LAST JSON   wait until all have received event LAST, or patience runs out; then answer with the counts.
                   The list in JSON has the numbers of events that need not arrive
"""

from __future__ import annotations

import argparse
import json
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import final

import trio

from benchmarks.harness.control import answer, lines
from benchmarks.hostile.delivery import Deliveries, Delivery

_NEWCOMER_INTERVAL = 0.1
_NEWCOMER_SECONDS = 1.0
_RECONNECT_SECONDS = 0.2

#: How much longer than an event may take is waited for it: it may be late, and is not lost yet.
_PATIENCE = 10.0

_EVENT = re.compile(rb"id: ([^\n]*)\n(?:event: ([^\n]*)\n)?data: ([^\n]*)\n\n")
_NO_CONNECTION = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


@final
class Client:
    """One stream of a healthy client, which reconnects if it is cut."""

    def __init__(self, population: Population, *, reconnects: bool) -> None:
        self.delivery = Delivery(population.within)
        self.connections = 0
        self.head_after: float | None = None  # seconds from the first `connect` to the response's head
        self.has_event = trio.Event()
        self._population = population
        self._reconnects = reconnects
        self._cursor = b""

    async def run(self) -> None:
        """Follow the stream until cancelled, or until it is cut and the client does not reconnect."""
        began_at = trio.current_time()
        while True:
            with suppress(*_NO_CONNECTION):
                async with self._population.connection() as stream:
                    self.connections += 1
                    await self._follow(stream, began_at)
            if not self._reconnects:
                return
            await trio.sleep(_RECONNECT_SECONDS)

    async def _follow(self, stream: trio.abc.Stream, began_at: float) -> None:
        request = b"GET /live HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n"
        cursor = b"Last-Event-ID: %b\r\n" % self._cursor if self._cursor else b""
        await stream.send_all(request + cursor + b"\r\n")
        buffer = bytearray()
        while True:
            # A connection that is cut by the network says nothing; the server's keepalive comes every 15 s.
            with trio.fail_after(self._population.silence):
                received = await stream.receive_some()
            if not received:
                return
            now = time.monotonic_ns()
            buffer += received
            if self.head_after is None and b"\r\n\r\n" in buffer:
                if not buffer.startswith(b"HTTP/1.1 200"):
                    return
                self.head_after = trio.current_time() - began_at
            end = 0
            for match in _EVENT.finditer(buffer):
                end = match.end()
                self._take(match[1], match[2], match[3], now)
            del buffer[:end]

    def _take(self, id: bytes, event: bytes | None, data: bytes, now: int) -> None:
        self._cursor = id
        if event == b"reset":
            self.delivery.reset()
        elif event is None:
            number, due_at = data.split()
            self.delivery.take(int(number), int(due_at), now)
            self.has_event.set()


@final
class Population:
    """All clients."""

    def __init__(self, host: str, port: int, *, tls: bool, within: float, silence: float) -> None:
        self.within = round(within * 1e9)
        self.silence = silence
        self._address = (host, port)
        self._tls: ssl.SSLContext | None = None
        if tls:
            self._tls = ssl.create_default_context()
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE
        self._standing: list[Client] = []
        self._left: list[Client] = []
        self._newcomers = trio.CancelScope()

    def connection(self) -> _Connection:
        """Return a context that is a connection to the server."""
        return _Connection(self._address, self._tls)

    async def obey(self, commands: AsyncIterator[str]) -> None:
        """Run commands until there are no more."""
        async with trio.open_nursery() as nursery:
            async for line in commands:
                match line.split(" ", 2):
                    case ["connect", count]:
                        await self._connect(int(count), nursery)
                        answer("connect")
                    case ["newcomers", "on"]:
                        self._newcomers = trio.CancelScope()
                        nursery.start_soon(self._invite)
                        answer("newcomers")
                    case ["newcomers", "off"]:
                        self._newcomers.cancel()
                        await trio.sleep(_NEWCOMER_SECONDS)
                        answer("newcomers")
                    case ["finish", last, refused]:
                        await self._wait_for(int(last))
                        self._report(int(last), frozenset(json.loads(refused)))
                    case _:
                        break
            nursery.cancel_scope.cancel()

    async def _connect(self, count: int, nursery: trio.Nursery) -> None:
        for _ in range(count):
            client = Client(self, reconnects=True)
            self._standing.append(client)
            nursery.start_soon(client.run)
            await trio.sleep(0.005)
        for client in self._standing:
            await client.has_event.wait()

    async def _invite(self) -> None:
        async with trio.open_nursery() as nursery:
            with self._newcomers:
                while True:
                    nursery.start_soon(self._visit)
                    await trio.sleep(_NEWCOMER_INTERVAL)

    async def _visit(self) -> None:
        client = Client(self, reconnects=False)
        self._left.append(client)
        # One that is late is waited for, but not forever.
        with trio.move_on_after(max(_NEWCOMER_SECONDS, 2 * self.within / 1e9)) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.run)
                await client.has_event.wait()
                scope.deadline = trio.current_time() + _NEWCOMER_SECONDS
                await trio.sleep(_NEWCOMER_SECONDS)
                nursery.cancel_scope.cancel()

    async def _wait_for(self, last: int) -> None:
        with trio.move_on_after(self.within / 1e9 + _PATIENCE):
            while any(client.delivery.last != last for client in self._standing):  # noqa: ASYNC110  # a process
                await trio.sleep(0.05)

    def _report(self, last: int, refused: frozenset[int]) -> None:
        total = Deliveries()
        for client in self._standing:
            total.add(client.delivery, last, refused)
        for client in self._left:
            total.add(client.delivery, None, refused)
        waits = [client.head_after for client in self._left]
        in_time = sum(wait is not None and wait * 1e9 <= self.within for wait in waits)
        answer(
            "finish",
            expected=total.expected,
            in_time=total.in_time,
            lost=total.lost,
            repeated=total.repeated,
            resets=total.resets,
            longest=total.longest / 1e9,
            newcomers=len(waits),
            newcomers_in_time=in_time,
            reconnects=sum(client.connections - 1 for client in self._standing),
        )


@final
class _Connection:
    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None) -> None:
        self._address = address
        self._tls = tls
        self._opened: trio.SocketStream | None = None

    async def __aenter__(self) -> trio.abc.Stream:
        self._opened = await trio.open_tcp_stream(*self._address)
        if self._tls is None:
            return self._opened
        stream = trio.SSLStream(self._opened, self._tls, https_compatible=True)
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(self._opened)
            raise
        return stream

    async def __aexit__(self, *_: object) -> None:
        assert self._opened is not None
        await trio.aclose_forcefully(self._opened)


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--within", type=float, default=1.0, help="seconds that an event may take")
    parser.add_argument(
        "--silence", type=float, default=60.0, help="reconnect after so many seconds of silence"
    )
    arguments = parser.parse_args()
    population = Population(
        arguments.host,
        arguments.port,
        tls=arguments.tls,
        within=arguments.within,
        silence=arguments.silence,
    )
    trio.run(population.obey, lines())


if __name__ == "__main__":
    main()
