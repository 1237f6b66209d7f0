"""How the streams of the load tool are carried: each by a connection of its own, or several by one."""

from __future__ import annotations

from typing import Protocol, final

import trio

from .attempt import LoadAttempt
from .dialer import LoadDialer
from .http2 import Http2Connection
from .reader import LoadReader
from .totals import Totals

_RECEIVE_SIZE = 64 * 1024


class Carrier(Protocol):
    """Sends the requests of all clients, and receives their responses."""

    async def follow(self, number: int, attempt: LoadAttempt) -> None:
        """Send the request of a client with this number, and receive until its stream ends.

        Raises:
            LoadError: the response is not an event stream, or the stream was cut in a way that has a name.
            OSError: the connection fails.
            trio.BrokenResourceError: the connection fails.
            trio.TooSlowError: connecting takes too long.
        """


@final
class ConnectionEach:
    """HTTP/1.1: a connection for each stream.

    Without a reader, each task reads by itself.
    """

    def __init__(self, dialer: LoadDialer, reader: LoadReader | None) -> None:
        self._dialer = dialer
        self._reader = reader

    async def follow(self, number: int, attempt: LoadAttempt) -> None:
        """Connect, send the request, and receive until the stream ends."""
        bare, connected = await self._dialer.dial(number)
        try:
            await connected.send_all(self._dialer.target.request(attempt.stream.decoder.last_event_id))
            if self._reader is not None:
                await self._reader.follow(bare, attempt.receive)
                return
            while data := await connected.receive_some(_RECEIVE_SIZE):
                if attempt.receive(bytes(data)):
                    return
        finally:
            await trio.aclose_forcefully(connected)


@final
class SharedConnections:
    """HTTP/2: a connection for so many streams. When it ends, the next of its streams opens another."""

    def __init__(self, dialer: LoadDialer, streams_each: int, totals: Totals, nursery: trio.Nursery) -> None:
        self._dialer = dialer
        self._streams_each = streams_each
        self._totals = totals
        self._nursery = nursery
        self._connections: dict[int, Http2Connection] = {}

    async def follow(self, number: int, attempt: LoadAttempt) -> None:
        """Send the request over the connection of this stream, and wait until the stream ends."""
        place = number // self._streams_each
        connection = self._connections.get(place)
        if connection is None or not connection.is_open:
            connection = self._connections[place] = Http2Connection(self._dialer, self._totals)
            self._nursery.start_soon(connection.run, place)
        await connection.follow(attempt)
