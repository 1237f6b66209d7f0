"""The event streams of one server or one app: their options, hub, hooks and statistics."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import final

from .._http.exceptions import HTTPException, TemporaryRefusal
from .._http.request import Request
from .._hub.hub import Hub, engine_of
from .._hub.tracing import Tracing
from .._pausing import Pausing
from .._transport.arriving_bytes import ArrivingBytes
from .._transport.base import Transport
from .._transport.pending_bytes import MAX_PENDING_BYTES, PendingBytes
from .._transport.response_room import ResponseRoom
from .connection import Connection
from .counters import StreamCounters
from .identities import IdentityIndex
from .listing import ListedStream, StreamFilter
from .live_stream import LiveStream
from .options import StreamOptions
from .scope import ServeScope
from .statistics import StreamStatistics, stream_statistics
from .writer import ResponseStart

ConnectHook = Callable[[Connection], Awaitable[None] | None]
DisconnectHook = Callable[[Connection], None]


@final
class StreamManager:
    """All streams of one server or one app.

    Attributes:
        host: what it belongs to: `server`, `app`, `asgi`, `quart` or `console`.
        is_noted: whether the ends of its streams are among the latest ends that the console shows.
        hub: the hub that the streams subscribe to.
        options: the options of each stream.
        on_connect, on_disconnect: the hooks that are called for each stream.
        max_connections: streams that may be open at once, where the server does not limit them itself.
        refusals: the exceptions with which handlers and hooks refuse a request.
        listed: the open streams, oldest first; `None` if only the scopes of calls to serve have them.
        sockets: open WebSockets that the framework of an app serves itself.
        identities: the open streams that have an identity, and those of others that its server serves.
        serve_scopes: the calls to serve that are running.
        counters: counts of the streams that are open and of those that have ended.
        log_identities: whether the log says whose its streams were, and others that its server serves.
        id_header: the header field that has the number of each stream, and of others that its server serves.
        pending_bytes: what waits for clients that read slowly.
        response_room: where requests wait while that is too much.
        arriving_bytes: what has arrived of bodies that are received whole.
        tracing: makes spans of the streams, if the hub is traced.
    """

    def __init__(
        self,
        hub: Hub,
        options: StreamOptions,
        *,
        host: str,
        lists_streams: bool = True,
        max_connections: int | None = None,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        refusals: tuple[type[Exception], ...] = (),
    ) -> None:
        if not isinstance(hub, Hub):
            raise TypeError(f"hub must be a Hub, not {type(hub).__name__}")
        self.host = host
        self.is_noted = True
        self.hub = hub
        self.options = options
        self._max_connections = max_connections
        self.refusals: tuple[type[Exception], ...] = (HTTPException, *refusals)
        self.listed: dict[LiveStream, None] | None = {} if lists_streams else None
        self.sockets: dict[ListedStream, None] = {}
        self.identities: IdentityIndex[ListedStream] = IdentityIndex()
        engine_of(hub).revocations.add(self.identities)
        self.serve_scopes: dict[ServeScope, None] = {}
        self.counters = StreamCounters()
        self.pending_bytes = PendingBytes(max_pending_bytes)
        self.response_room = ResponseRoom(self.pending_bytes)
        self.arriving_bytes = ArrivingBytes(max_pending_bytes)
        self.log_identities = False
        self.id_header: str | None = None
        self.on_connect: list[ConnectHook] = []
        self.on_disconnect: list[DisconnectHook] = []
        self.tracing: Tracing | None = engine_of(hub).tracing
        self._ids = itertools.count(1)

    def add_disconnect_hook(self, hook: DisconnectHook) -> None:
        """Add a hook that is called when each stream has ended.

        Raises:
            TypeError: it is async, and so could not be awaited.
        """
        if inspect.iscoroutinefunction(hook):
            raise TypeError("an on_disconnect hook must be a plain function: the stream's scope is over")
        self.on_disconnect.append(hook)

    def without_hooks(self, options: StreamOptions, *, host: str = "app") -> StreamManager:
        """Return a manager of further streams with their own options, without hooks and tracing."""
        manager = StreamManager(self.hub, options, host=host, lists_streams=False)
        manager.pending_bytes = self.pending_bytes
        manager.response_room = self.response_room
        manager.tracing = None
        return manager

    def new_serve_scope(self, *, drain_timeout: float) -> ServeScope:
        """Return the scope of a new call to serve."""
        scope = ServeScope(
            self.hub,
            self.counters,
            self.serve_scopes,
            self.pending_bytes,
            self.identities,
            self._ids,
            drain_timeout=drain_timeout,
        )
        scope.response_room = self.response_room
        scope.arriving_bytes = self.arriving_bytes
        scope.log_identities = self.log_identities
        scope.id_header = self.id_header
        return scope

    def new_stream(
        self, serving: ServeScope, transport: Transport, request: Request, head: bytes | ResponseStart
    ) -> LiveStream:
        """Return a stream for `run_stream`. `head` precedes its first byte, or starts the response."""
        stream = LiveStream(
            serving, self.options, transport, head, id=next(serving.ids), request=request, home=self
        )
        if (name := serving.id_header or self.id_header) is not None:
            stream.added_fields = [(name, str(stream.id))]
        return stream

    @property
    def streams(self) -> Collection[LiveStream]:
        """The open streams, oldest first."""
        if self.listed is not None:
            return self.listed
        found = [stream for scope in self.serve_scopes for stream in scope.streams.values()]
        return [stream for stream in found if isinstance(stream, LiveStream) and stream.home is self]

    def check_room(self) -> None:
        """Raise an `HTTPException` if no further stream may be opened."""
        if self._max_connections is not None and len(self.streams) >= self._max_connections:
            raise TemporaryRefusal(503, "the app has reached its limit of open streams")

    def candidates(self, meant: StreamFilter) -> Sequence[ListedStream]:
        """Return streams among which are all that are meant; few, if those of one identity are."""
        if meant.identity is not None:
            return self.identities.streams_of(meant.identity)
        return [*self.streams, *self.sockets]

    def statistics(self) -> Pausing[StreamStatistics]:
        """Compute statistics, which visits every stream."""
        return stream_statistics(list(self.streams), self.counters, engine_of(self.hub).statistics())
