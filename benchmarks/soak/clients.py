"""Clients that connect and leave: `python -m benchmarks.soak.clients PLAIN TLS SHORT SHORT_TLS KIND...`.

The command `run N` on stdin opens N connections, each of a kind and with an end that are chosen at random. It
is answered when all have ended.
"""

from __future__ import annotations

import random
import socket
import ssl
import struct
import sys
from collections import Counter
from collections.abc import Sequence
from typing import final

import trio

from benchmarks.harness.control import answer, lines
from benchmarks.soak.kinds import END_SHARES, KINDS, Kind

#: How many connections are open at a time.
CONCURRENCY = 200

_ADDRESSES = 250
_IDLE_SECONDS = 0.3
_LONGEST_SECONDS = 60.0

_RESET = struct.pack("ii", 1, 0)


@final
class Clients:
    """All clients.

    Attributes:
        counts: connections by kind and end, and those that went wrong.
    """

    def __init__(self, ports: Sequence[int], kinds: Sequence[str]) -> None:
        self.counts: Counter[str] = Counter()
        self._ports = ports
        self._choices: list[tuple[str, str]] = []
        self._weights: list[int] = []
        for name in kinds:
            ends = [end for end in END_SHARES if end in KINDS[name].ends]
            total = sum(END_SHARES[end] for end in ends)
            for end in ends:
                self._choices.append((name, end))
                self._weights.append(KINDS[name].share * END_SHARES[end] * 100 // total)
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    async def run(self, count: int) -> None:
        """Open so many connections, and wait until all have ended."""
        chosen = iter(random.choices(self._choices, self._weights, k=count))

        async def repeat() -> None:
            for name, end in chosen:
                await self._connect(name, end)

        async with trio.open_nursery() as nursery:
            for _ in range(min(count, CONCURRENCY)):
                nursery.start_soon(repeat)

    async def _connect(self, name: str, end: str) -> None:
        kind = KINDS[name]
        port = self._ports[kind.tls + 2 * (end == "max_duration")]
        raw = trio.socket.socket()
        try:
            raw.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
            await raw.bind((f"127.0.2.{random.randint(1, _ADDRESSES)}", 0))
            with trio.fail_after(_LONGEST_SECONDS):
                await raw.connect(("127.0.0.1", port))
                await self._talk(kind, end, raw)
            self.counts[f"{name} {end}"] += 1
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            self.counts["wrong"] += 1
            print(f"{name} {end}: {error!r}", file=sys.stderr)
        finally:
            raw.close()

    async def _talk(self, kind: Kind, end: str, raw: trio.socket.SocketType) -> None:
        plain = trio.SocketStream(raw)
        stream: trio.abc.Stream = plain
        request = kind.request(end)
        if end == "mid_head":
            # With TLS, it is the handshake that is left in its middle.
            await plain.send_all(request[: len(request) // 2])
            if random.random() < 0.5:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            return
        if kind.tls:
            secured = trio.SSLStream(plain, self._tls, https_compatible=True)
            await secured.do_handshake()
            stream = secured
        if kind.body and end == "mid_event":
            await stream.send_all(request[:-1])  # there, it is the request that is left
            return
        await stream.send_all(request)
        received = await stream.receive_some(100 if end == "mid_event" else None)
        if not received:
            raise trio.BrokenResourceError("closed before the answer")
        if end == "rst":
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        elif end == "idle":
            await trio.sleep(_IDLE_SECONDS)
        elif end in ("max_duration", "revoke"):
            await _read_to_the_end(kind, stream, bytes(received))


async def _read_to_the_end(kind: Kind, stream: trio.abc.Stream, received: bytes) -> None:
    """Wait until the server has ended what the client reads. The connection may stay open."""
    while received and not kind.has_ended(received):
        received = bytes(await stream.receive_some())


async def main(ports: Sequence[int], kinds: Sequence[str]) -> None:
    """Obey commands until there are no more."""
    clients = Clients(ports, kinds)
    async for line in lines():
        match line.split():
            case ["run", count]:
                await clients.run(int(count))
                answer("run", **clients.counts)
            case _:
                return


if __name__ == "__main__":
    trio.run(main, [int(port) for port in sys.argv[1:5]], sys.argv[5:])
