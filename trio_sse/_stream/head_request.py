"""Answering HEAD on the path of a stream: as GET would be answered, without its body (RFC 9110, 9.3.2).

The same hooks and the same handler run, until the handler refuses the request, answers it, or has something
to send. Then the status and the header fields are known, and the stream ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import final

import trio

from .._http.request import Request
from .connection import Connection
from .end_reason import EndReason
from .lifecycle import Handle, Refused, run_stream
from .live_stream import LiveStream
from .manager import StreamManager
from .scope import ServeScope
from .stream_kind import in_route
from .unconnected import UnconnectedTransport, WatchDisconnect


@final
@dataclass(frozen=True, slots=True)
class StreamHead:
    """The answer is the head of a stream, with these fields besides its own."""

    fields: tuple[tuple[str, str], ...]


async def run_head(
    manager: StreamManager,
    serving: ServeScope,
    request: Request,
    handle: Handle,
    *,
    peer: str,
    discard: Callable[[], Awaitable[bool]],
    is_disconnected: Callable[[], bool] = lambda: False,
    watch_disconnect: WatchDisconnect | None = None,
    route: str | None = None,
    is_secure: bool = False,
    identity: str | None = None,
) -> StreamHead | Refused | None:
    """Run a handler until its stream would begin, or it answers otherwise.

    Return the stream's head; or `Refused`, if the handler or a hook has raised or returned something else; or
    `None`, if the client has disconnected. The arguments are those of `run_poll`.
    """
    start = _HeadOnly()
    start.stream = stream = manager.new_stream(serving, UnconnectedTransport(peer, discard), request, start)
    stream.kind = in_route(stream.kind, route, is_secure=is_secure)
    stream.set_identity(identity)
    if watch_disconnect is not None:
        watch_disconnect(stream.on_disconnect)

    async def handle_until_cancelled(connection: Connection) -> object:
        try:
            return await handle(connection)
        finally:
            if is_disconnected():
                stream.on_disconnect()

    outcome = await run_stream(manager, serving, stream, handle_until_cancelled)
    if isinstance(outcome, Refused):
        return outcome
    if stream.end_reason is EndReason.CLIENT_DISCONNECTED:
        return None
    return StreamHead(tuple(stream.added_fields or ()))


@final
class _HeadOnly:
    """Ends the stream where its response would start; see `ResponseStart`."""

    stream: LiveStream
    watches_peer = False
    is_head_final = False
    waits_for_body = False

    async def start_response(self) -> None:
        if self.stream.end_reason is None:
            self.request_start()
            await self.stream.leave()
        self.stream.set_head(b"")  # the handler is over, and there is nothing to complete

    async def wait_started(self) -> None:
        await trio.sleep_forever()

    def request_start(self) -> None:
        self.stream.end(EndReason.FINISHED)
