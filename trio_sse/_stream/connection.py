"""The event stream as a handler sees it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, final

from .._http.request import Request
from .._hub.hub import engine_of
from .._subscription.queue import Overflow
from .._subscription.subscription import Subscription, feed_of
from .._wire.cursor import CursorForm
from .._wire.event import ServerSentEvent, encode_comment
from .._wire.message import Framing, frame, frame_event
from .end_reason import EndReason
from .live_stream import LiveStream


@final
class Connection:
    """One live event stream, passed to its handler; created by a server.

    Any task inside the handler may call its methods. When the stream has ended, the handler is cancelled. In
    tasks that are not, `send` and the other methods raise `trio.ClosedResourceError`.
    """

    __slots__ = ("_stream",)

    def __init__(self, stream: LiveStream) -> None:
        self._stream = stream

    def __repr__(self) -> str:
        state = "open" if self.end_reason is None else self.end_reason.value
        return f"<Connection {self.id} from {self.peer} to {self.request.path}: {state}>"

    @property
    def id(self) -> int:
        """Its number in this server, as in the log."""
        return self._stream.id

    @property
    def request(self) -> Request:
        """The request that opened it."""
        return self._stream.request

    @property
    def last_event_id(self) -> str | None:
        """The id that the client resumes from; `None` if it has none."""
        return self._stream.request.last_event_id

    @property
    def peer(self) -> str:
        """The client's address."""
        return self._stream.transport.peer

    @property
    def identity(self) -> str | None:
        """Whose stream it is, such as a user's id; `None`, the default, if that is not known.

        Set it in a hook or handler, at any time. It is what `close_connections` and `Hub.revoke` find the
        stream by. One that is set after it was revoked ends a stream that was open before that.

        Raises:
            TypeError, ValueError: on setting it: it does not have 1 to 256 characters, or has control
                characters.
        """
        return self._stream.identity

    @identity.setter
    def identity(self, identity: str | None) -> None:
        self._stream.set_identity(identity)

    @property
    def expires_at(self) -> float | None:
        """When the client's credentials expire, in seconds since 1970 as of `time.time`; `None` for never.

        At that time, the stream is cut as `EXPIRED`, so that the client reconnects and is checked again. A
        time in the past ends it at once. How long that is from now is computed when it is set; what becomes
        of the wall clock later does not matter.

        Raises:
            TypeError, ValueError: on setting it: it is not a number of seconds.
        """
        return self._stream.expires_at

    @expires_at.setter
    def expires_at(self, expires_at: float | None) -> None:
        self._stream.set_expiry(expires_at)

    @property
    def events_sent(self) -> int:
        """How many events were sent, replayed ones included."""
        return self._stream.sent()[0]

    @property
    def bytes_sent(self) -> int:
        """How many bytes were sent, counted before TLS."""
        return self._stream.sent()[1]

    @property
    def duration(self) -> float:
        """Seconds since the stream was opened."""
        return self._stream.duration

    @property
    def end_reason(self) -> EndReason | None:
        """Why the stream ended; `None` while it is open.

        It is set before the handler is cancelled, so the handler's `finally` sees it. There, `None` means
        that the handler ends the stream itself: it returned, or raised its own exception.
        """
        return self._stream.end_reason

    def add_header(self, name: str, value: str) -> None:
        """Add a header field to the response, before its head is sent.

        A name may be added several times, as `Set-Cookie` is. The first time, it replaces the field of this
        name that the server sends, but `Vary` lists the values of both. A response that refuses the request
        does not have the field.

        Raises:
            TypeError, ValueError: the field cannot be sent, or is one that the server or the stream sets.
            RuntimeError: the head has been sent; see `start`.
            trio.ClosedResourceError: the stream has ended.
        """
        self._stream.add_field(name, value)

    async def start(self) -> None:
        """Send the response's head now; otherwise it goes out with the first write or keepalive."""
        await self._stream.write(b"")

    async def send(
        self,
        data: object,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: int | None = None,
    ) -> None:
        """Send one event, waiting while the client is slow.

        Args:
            data: a `ServerSentEvent`, which is sent as it is; or the data of a new one, which gets the other
                arguments.

        Raises:
            TypeError, ValueError: a field is not valid; see `ServerSentEvent`. Nothing was sent.
            trio.ClosedResourceError: the stream has ended.

        If this is cancelled before anything was sent, nothing is sent. If it is cancelled in the middle of
        the event, the stream ends with `WRITE_TIMEOUT`, since no other event can follow half an event.

        It always checks for cancellation, but does not yield to other tasks after every event: events that
        are sent back to back are written together.
        """
        if not isinstance(data, ServerSentEvent):
            data = ServerSentEvent(data, event=event, id=id, retry=retry)
        elif event is not None or id is not None or retry is not None:
            raise TypeError("a ServerSentEvent is sent as it is: pass event, id and retry to its constructor")
        stream = self._stream
        if data.id is not None:
            stream.cursor_form = CursorForm.NONE
        await stream.write(frame_event(data, stream.transport.framing, stream.options.dumps), 1)

    async def comment(self, text: str) -> None:
        """Send a comment, which receivers ignore. Raises what `send` does. A WebSocket has no comments."""
        comment = encode_comment(text)
        framing = self._stream.transport.framing
        await self._stream.write(b"" if framing is Framing.WEBSOCKET else frame(comment, framing))

    def subscribe(
        self,
        *topics: str,
        overflow: Overflow = Overflow.DISCONNECT,
        queue: int | None = None,
        queue_bytes: int | None = None,
        interval: float | None = None,
        batch: float | None = None,
        include_topic: bool = False,
    ) -> Coroutine[Any, Any, None]:
        """Subscribe to topics of the hub and forward their events, as `forward` does, until the stream ends.

        Events that the client missed since `last_event_id` come first. The arguments are those of
        `Hub.subscribe`, and so are the errors.
        """
        stream = self._stream
        feed = engine_of(stream.hub).make_feed(
            *topics,
            last_event_id=stream.request.last_event_id,
            overflow=overflow,
            queue=queue,
            queue_bytes=queue_bytes,
            interval=interval,
            batch=batch,
            include_topic=include_topic,
        )
        # Not `async def`: each stream would keep another coroutine for as long as it lives.
        return stream.forward(feed, is_own=True)

    async def forward(self, subscription: Subscription) -> None:
        """Send all events of an entered subscription until the stream ends. It does not return before.

        This is the fast path: while the client keeps up, the hub writes to the socket itself, and this task
        sleeps. Where a connection forwards several subscriptions at once, its tasks write, and its ids name
        the position of each, so that each resumes exactly.

        Raises:
            trio.ClosedResourceError: the subscription was not entered or was left, or the stream ended.
            trio.BusyResourceError: another task is waiting for an event of this subscription.

        If this is cancelled but the stream continues, no event is lost, and the subscription is still usable.
        """
        await self._stream.forward(feed_of(subscription))

    def close(self, *, reconnect: bool = False) -> None:
        """End the stream. The handler is cancelled at its next checkpoint.

        The body is completed, so a client built on `fetch` takes the stream as finished (`EventSource`
        reconnects all the same). With `reconnect`, the body is truncated instead, and every client
        reconnects.

        Raises:
            RuntimeError: this is another thread than that of the server: use `trio.from_thread.run_sync`.
        """
        self._stream.end(EndReason.RECONNECT if reconnect else EndReason.FINISHED)


def stream_of(connection: Connection) -> LiveStream:
    """Return the stream of a connection, for the other packages of trio_sse."""
    return connection._stream
