"""`trio-sse load`: many streams of any SSE endpoint, opened from many addresses, and what comes of them.

Each stream is a task that behaves like an `EventSource`: it comes back with `Last-Event-ID` after the time
that the server asks for. All are in one process and on one core; if that is what holds things up, the
report says so.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import select
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final
from urllib.parse import urlsplit

import trio

from ._load_reader import LoadReader
from ._load_stream import LoadError, LoadStream

_RECEIVE_SIZE = 64 * 1024
_CONNECT_SECONDS = 30.0
_PROBE_SECONDS = 3.0
_DEFAULT_RETRY_SECONDS = 3.0
_LONGEST_RETRY_SECONDS = 30.0
_SOURCES = 64  # addresses of the loopback network
_STAMPS = ("t", "server_time", "time")
_EARLIEST, _LATEST = 1.0e12, 1.0e13  # milliseconds since 1970, in 2001 and in 2286
_BIND_ADDRESS_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)  # of Linux; not in Python 3.11

#: Of that share of a core on, the tool itself may be what is slow.
BUSY_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What to do.

    Args:
        url: http or https.
        connections: streams to hold open.
        duration: seconds from the first stream's beginning.
        rate: streams to open each second.
        sources: addresses to connect from; by default the system's choice, and many where the target is on
            this machine.
        stamp: the member of an event's JSON that has the time at which it was sent, in seconds or
            milliseconds since 1970; by default one of "t", "server_time" and "time".
        verify: check the server's certificate.
    """

    url: str
    connections: int
    duration: float
    rate: float = 500.0
    sources: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    stamp: str | None = None
    verify: bool = True


@dataclass
class Totals:
    """What has happened so far."""

    connected: int = 0  # now
    most_connected: int = 0
    opened: int = 0
    reconnects: int = 0
    events: int = 0
    bytes: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    gave_up: int = 0
    latencies: list[float] = field(default_factory=list)  # milliseconds
    head_milliseconds: list[float] = field(default_factory=list)

    def note_open(self, milliseconds: float) -> None:
        """Take note that a stream has begun, so long after its connection was asked for."""
        self.opened += 1
        self.connected += 1
        self.most_connected = max(self.most_connected, self.connected)
        self.head_milliseconds.append(milliseconds)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Give the median, 90 %, 99 % and the largest; nothing of nothing."""
    ordered = sorted(values)
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {
        name: round(ordered[min(last, int(part * len(ordered)))], 3)
        for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
    }


async def _first_that_answers(found: Sequence[tuple[Any, ...]]) -> tuple[int, Any] | None:
    for family, _, _, _, address in found:
        with trio.socket.socket(family, socket.SOCK_STREAM) as probe, trio.move_on_after(_PROBE_SECONDS):
            try:
                await probe.connect(address)
            except OSError:
                continue
            return family, address
    return None


@final
class Load:
    """One run of the tool."""

    def __init__(self, options: LoadOptions) -> None:
        """Check the options.

        Raises:
            ValueError: the URL is none that can be asked for.
        """
        parts = urlsplit(options.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the URL must be like http://host:port/path, not {options.url!r}")
        self.options = options
        self.totals = Totals()
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context()
            if not options.verify:
                self._tls.check_hostname = False
                self._tls.verify_mode = ssl.CERT_NONE
        target = parts.path or "/"
        self._target = f"{target}?{parts.query}" if parts.query else target
        self._reader: LoadReader | None = None
        self._address: tuple[Any, ...] = ()
        self._family = socket.AF_INET
        self._sources: Sequence[str] = ()
        self._began_at = self._cpu_at_begin = 0.0
        self.seconds = 0.0

    async def run(self, tell: Callable[[], None], *, every: float = 1.0) -> None:
        """Load until the time is over; `tell` is called each so many seconds.

        Raises:
            OSError: the host has no address.
        """
        await self._resolve()
        self._reader = LoadReader() if self._tls is None and hasattr(select, "epoll") else None
        self._began_at, self._cpu_at_begin = time.perf_counter(), time.process_time()
        try:
            with trio.move_on_after(self.options.duration):
                async with trio.open_nursery() as nursery:
                    if self._reader is not None:
                        nursery.start_soon(self._reader.run)
                    nursery.start_soon(self._tell, tell, every)
                    begin = trio.current_time()
                    for number in range(self.options.connections):
                        await trio.sleep_until(begin + number / self.options.rate)
                        nursery.start_soon(self._stream, number)
        finally:
            self.seconds = time.perf_counter() - self._began_at

    async def _tell(self, tell: Callable[[], None], every: float) -> None:
        while True:
            await trio.sleep(every)
            tell()

    async def _resolve(self) -> None:
        found = await trio.socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        chosen: tuple[int, Any] = (found[0][0], found[0][4])
        if len(found) > 1:  # localhost, say, whose servers often listen on one of its addresses
            chosen = await _first_that_answers(found) or chosen
        self._family, self._address = socket.AddressFamily(chosen[0]), chosen[1]
        self._sources = self.options.sources
        # From one address, some 28,000 connections to one port are possible.
        if not self._sources and str(self._address[0]).startswith("127."):
            self._sources = [f"127.0.0.{2 + number}" for number in range(_SOURCES)]

    # One stream

    async def _stream(self, number: int) -> None:
        last_event_id, retry, failures = "", _DEFAULT_RETRY_SECONDS, 0
        for attempt in itertools.count():
            stream = LoadStream(last_event_id)
            delay = 0.0
            try:
                await self._follow(number, stream)
                if not stream.is_ended:
                    self.totals.failures["the server cut the stream"] += 1
            except LoadError as error:
                self.totals.failures[str(error)] += 1
                if error.is_final:
                    self.totals.gave_up += 1
                    return
                delay = error.retry_after
            except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
                cause = error.__cause__ or error
                self.totals.failures[getattr(cause, "strerror", None) or str(cause) or "timed out"] += 1
            failures = 0 if stream.has_head else failures + 1
            last_event_id = stream.decoder.last_event_id
            if stream.decoder.retry is not None:
                retry = stream.decoder.retry / 1000
            backoff = min(retry * 2 ** min(failures, 5), _LONGEST_RETRY_SECONDS) * random.uniform(0.5, 1)
            await trio.sleep(max(delay, backoff if failures else retry))
            self.totals.reconnects += attempt >= 0

    async def _follow(self, number: int, stream: LoadStream) -> None:
        asked_at = time.perf_counter()

        def take(data: bytes) -> bool:
            return self._take(stream, data, asked_at)

        bare = socket.socket(self._family, socket.SOCK_STREAM)
        with trio.fail_after(_CONNECT_SECONDS):
            connected = await self._connect(number, bare)
        try:
            await connected.send_all(self._request(stream.decoder.last_event_id))
            if self._reader is not None:
                await self._reader.follow(bare, take)
                return
            while data := await connected.receive_some(_RECEIVE_SIZE):
                if take(bytes(data)):
                    return
        finally:
            self.totals.connected -= stream.has_head
            await trio.aclose_forcefully(connected)

    def _take(self, stream: LoadStream, data: bytes, asked_at: float) -> bool:
        """Count what has come; return whether it was the end."""
        totals = self.totals
        totals.bytes += len(data)
        had_head = stream.has_head
        events = stream.feed(data)
        if stream.has_head and not had_head:
            totals.note_open((time.perf_counter() - asked_at) * 1000)
        totals.events += len(events)
        for event in events:
            if (milliseconds := self._latency(event.data)) is not None:
                totals.latencies.append(milliseconds)
        return stream.is_ended

    async def _connect(self, number: int, bare: socket.socket) -> trio.abc.Stream:
        plain = trio.socket.from_stdlib_socket(bare)
        try:
            if self._sources:
                if os.name == "posix":
                    plain.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
                await plain.bind((self._sources[number % len(self._sources)], 0))
            await plain.connect(self._address)
        except BaseException:
            plain.close()
            raise
        stream = trio.SocketStream(plain)
        if self._tls is None:
            return stream
        secured = trio.SSLStream(stream, self._tls, server_hostname=self._host)
        try:
            await secured.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured

    def _request(self, last_event_id: str) -> bytes:
        host = f"[{self._host}]" if ":" in self._host else self._host
        fields = {
            "Host": f"{host}:{self._port}",
            "Accept": "text/event-stream",
            "Cache-Control": "no-store",
            "User-Agent": "trio-sse load",
            **self.options.headers,
            **({"Last-Event-ID": last_event_id} if last_event_id else {}),
        }
        lines = [f"GET {self._target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _latency(self, data: object) -> float | None:
        """Give the milliseconds since an event was sent, if it says when."""
        text = str(data)
        if not text.startswith("{"):
            return None
        try:
            fields: dict[str, object] = json.loads(text)
        except (ValueError, RecursionError):
            return None
        names = _STAMPS if self.options.stamp is None else (self.options.stamp,)
        found = (fields.get(name) for name in names)
        value = next((v for v in found if isinstance(v, int | float) and not isinstance(v, bool)), None)
        if value is None:
            return None
        for unit in (1, 1000):  # milliseconds, or seconds; another number is no time
            if _EARLIEST <= value * unit <= _LATEST:
                return time.time() * 1000 - value * unit
        return None

    # What came of it

    @property
    def cpu_share(self) -> float:
        """The share of a core that this process has taken so far."""
        seconds = self.seconds or time.perf_counter() - self._began_at
        return (time.process_time() - self._cpu_at_begin) / seconds if seconds else 0.0

    def report(self) -> dict[str, object]:
        """Give all figures, for JSON."""
        totals = self.totals
        return {
            "url": self.options.url,
            "connections": self.options.connections,
            "seconds": round(self.seconds, 3),
            "most_connected": totals.most_connected,
            "opened": totals.opened,
            "reconnects": totals.reconnects,
            "gave_up": totals.gave_up,
            "failures": dict(totals.failures.most_common()),
            "events": totals.events,
            "events_per_second": round(totals.events / self.seconds, 1) if self.seconds else 0.0,
            "bytes": totals.bytes,
            "milliseconds_to_head": percentiles(totals.head_milliseconds),
            "latency_milliseconds": percentiles(totals.latencies),
            "cpu_share": round(self.cpu_share, 3),
        }
