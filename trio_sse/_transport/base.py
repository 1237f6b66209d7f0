"""The `Transport` protocol: who owns a connection, and the one rule of its write side.

A `Transport` object is a handle on a connection. A connection has one owner: the code that has the handle
whose state is OWNED. The states of a handle, and what changes them. What is not listed changes nothing.

======  ===========  ======  ==============================================================================
state   step         next    what is left behind
======  ===========  ======  ==============================================================================
OWNED   `hand_over`  MOVED   a new handle, OWNED, with the socket or stream, the pending bytes, the framing,
                             the state of TLS and the counts; nobody watches the connection
OWNED   `aclose`     CLOSED  the connection is closed, and nobody watches it; also if this was cancelled
======  ===========  ======  ==============================================================================

`hand_over` has no checkpoint. It raises and changes nothing if the handle is not OWNED, or if a task waits in
it. A handle that is MOVED or CLOSED refuses everything: methods that wait raise
`trio.ClosedResourceError`, `send_nowait` keeps its payload pending as on a broken connection, `aclose`,
`watch`, `watch_soon` and `unwatch` do nothing. It still has its counts and the peer's address.

Only a handle knows its descriptor. `watch`, `watch_soon`, `unwatch`, `hand_over` and `aclose` are the only
ones that register it with a `DisconnectWatcher` or remove it. A descriptor is removed before it is closed.

The rule of the write side: `send_nowait` always takes the whole payload. It sends what it can at once and
keeps the rest as `pending`. While something is pending, nothing else may be sent. A task then calls
`flush_some` until nothing is pending. The leftover belongs to the transport. So no byte is lost or
reordered when the write side passes between the hub's pump and the connection's task.

`begin_send` and `flush_nowait` do in two steps what `send_nowait` does. There is no checkpoint between them.

After `flush_some` has failed, the transport is only fit to be closed. After it was cancelled, it goes on
where it was, or fails if nobody can know that.
"""

from __future__ import annotations

import enum
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, Self

import trio

from .._wire.message import Framing
from .losses import PendingCut, WriteTimedOut
from .pace import Progress
from .pending_bytes import PendingBytes, PendingSend

#: An address and a port; the port is `None` for a Unix socket, and 0 if it is not known.
Endpoint = tuple[str, int | None]

RECEIVE_SIZE = 16 * 1024

# If a socket is closed while bytes of a request are unread, the kernel sends RST, and the reply may be lost.
# So the rest of the request is read for a while first (RFC 9112, 9.6). Many clients read only when they have
# sent everything, so there is no bound on its bytes. The times are those of nginx.
LINGER_SECONDS = 30.0
LINGER_SILENCE_SECONDS = 5.0

# How long the peer of an encrypted stream may take to answer that it is closed.
CLOSE_SECONDS = 1.0


class HandleState(enum.Enum):
    """The states of a handle; see the table at the top of this file."""

    OWNED = enum.auto()
    MOVED = enum.auto()
    CLOSED = enum.auto()


class RequestOrigin(NamedTuple):
    """Where a request comes from, and what it is for, as trusted proxies say; `None` where they do not.

    Attributes:
        client: who has sent it.
        server: the host and port that it is for.
        is_secure: whether the client uses TLS.
        root_path: the decoded beginning of the path that a proxy has removed.
    """

    client: Endpoint | None
    server: Endpoint | None
    is_secure: bool | None
    root_path: str | None


class DisconnectListener(Protocol):
    """What a watcher calls when something happens to a connection."""

    def on_disconnect(self) -> None:
        """Called when the peer has closed its side or reset the connection."""

    def on_write_timeout(self) -> None:
        """Called when the peer accepts nothing of what others send on the same connection."""

    def on_pending_cut(self) -> None:
        """Called when the same connection was cut, since too many bytes wait for slow peers."""

    def on_excess_input(self) -> None:
        """Called when the peer has sent more than a watcher tolerates."""


class AppendableTransport:
    """The base of transports that join what is written while something is pending."""

    __slots__ = ()

    def append_pending(self, payload: bytes, events: int) -> None:
        """Append `payload` to what is pending."""
        raise NotImplementedError


class Transport(Protocol):
    """A handle on the connection to one peer, whatever carries the bytes.

    Attributes:
        framing: how the current response's body is framed.
        pending: bytes that were taken but not sent yet; `None` if there are none. Under TLS, those that are
            not encrypted yet; empty if only encrypted bytes are left.
        written_at: when bytes were last sent, in Trio's time.
        bytes_sent, events_sent: everything that was taken since the connection began.
        is_direct: whether `send_nowait` can send. Otherwise it only takes.
        connection_number: that of the connection that it shares with other streams, or 0.
        origin: where the current request comes from, if proxies say so. What it says is what `endpoints`,
            `peer`, `peer_host` and `is_secure` return.
    """

    framing: Framing
    pending: bytes | memoryview | None
    written_at: float
    bytes_sent: int
    events_sent: int

    @property
    def state(self) -> HandleState:
        """Whether this handle owns the connection."""

    @property
    def is_direct(self) -> bool: ...

    @property
    def is_watchable(self) -> bool:
        """Whether `watch` notices a disconnect. Otherwise a task has to read."""

    @property
    def origin(self) -> RequestOrigin | None: ...

    @origin.setter
    def origin(self, origin: RequestOrigin | None) -> None: ...

    @property
    def speaker(self) -> str | None:
        """The address of the HTTP client of the connection, or `unix`; `None` if that is not known."""

    @property
    def peer_host(self) -> str:
        """The client's address, without its port."""

    @property
    def is_secure(self) -> bool:
        """Whether the client uses TLS, as far as that is known."""

    @property
    def connection_number(self) -> int: ...

    @property
    def tls_session(self) -> ssl.SSLObject | None:
        """The TLS session of the connection, for what it knows of the peer."""

    @property
    def endpoints(self) -> tuple[Endpoint | None, Endpoint | None]:
        """The client's host and port, and ours; `None` where there are none."""

    @property
    def peer(self) -> str:
        """The client's address for people to read."""

    def hand_over(self) -> Self:
        """Return a new handle that owns the connection; this one is MOVED then.

        Raises:
            trio.BusyResourceError: a task waits in this handle. Nothing has changed.
            trio.ClosedResourceError: this handle does not own the connection. Nothing has changed.
        """

    def watch(self, listener: DisconnectListener) -> None:
        """Let `listener` know when the peer disconnects, instead of the former listener, without a task."""

    def watch_soon(self, listener: DisconnectListener) -> None:
        """Let `listener` know from a moment later on, which costs nothing for what takes no longer."""

    def unwatch(self) -> None:
        """Stop watching; do nothing if nobody watches."""

    def send_nowait(self, payload: bytes, events: int, now: float) -> bool:
        """Take `payload`, which holds `events` events; return whether all of it was sent.

        Nothing may be pending. It never raises: on a broken transport everything stays pending.
        """

    def begin_send(self, payload: bytes, events: int, now: float) -> bool:
        """Do the same, but maybe leave all of it to `flush_nowait`, which is to be called soon.

        So under TLS, the hub encrypts for several clients, and then sends to them: the caches of the
        processor hold what encrypts or what sends, and not both.
        """

    def flush_nowait(self, now: float) -> None:
        """Send as much of what is pending as can be sent now. Do not call it while a task flushes."""

    async def flush_some(self) -> None:
        """Wait until some of what is pending can be sent, and send it.

        Raises:
            trio.BrokenResourceError: the peer has disconnected.
        """

    def progress(self) -> Progress:
        """Return what the peer has taken."""

    def end_response(self) -> None:
        """Note that the response is complete, though its head has not announced where it ends.

        HTTP/2 says so; otherwise the bytes that were sent do, and this does nothing.
        """

    def receive_nowait(self) -> bytes | None:
        """Return bytes from the peer, as `receive_some` does; `None` if that would have to wait."""

    async def receive_some(self) -> bytes:
        """Wait for bytes from the peer. No bytes mean that the peer has closed its side.

        Raises:
            trio.BrokenResourceError: the peer has disconnected.
        """

    async def receive_unless_interrupted(self) -> bytes | None:
        """Wait for bytes, as `receive_some` does; return `None` if `interrupt` is called meanwhile.

        Other tasks run before it returns, also where bytes have arrived already.
        """

    def interrupt(self) -> None:
        """End the wait of the task that is in `receive_unless_interrupted`."""

    async def discard_some(self) -> bool:
        """Receive bytes and discard them; return whether there were any. Raises what `receive_some` does."""

    def unread_bytes(self) -> int:
        """Return how many bytes have arrived that were never parsed, as far as that is known.

        Once bytes were discarded, what follows cannot be trusted to be a request.
        """

    async def linger(self) -> None:
        """Close our side and read what the peer still sends, for a short time, so that it gets our reply."""

    async def aclose(self, *, abort: bool = False) -> None:
        """Close it; with `abort`, discard what the peer has not taken. May be called when cancelled."""


def endpoint_host(endpoint: Endpoint | None) -> str:
    """Return an endpoint's address, or `unix`."""
    return "unix" if endpoint is None or endpoint[1] is None else endpoint[0]


def describe_endpoint(endpoint: Endpoint | None) -> str:
    """Return an endpoint's address and port, as far as it has them, for people to read."""
    if endpoint is None or endpoint[1] is None:
        return "unix"
    host, port = endpoint
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def not_free(state: HandleState) -> trio.ClosedResourceError | trio.BusyResourceError:
    """Return what `hand_over` raises of a handle that owns nothing, or in which a task waits."""
    if state is not HandleState.OWNED:
        return not_owned(state)
    return trio.BusyResourceError("a task still waits in the transport")


def not_owned(state: HandleState) -> trio.ClosedResourceError:
    """Return what a handle raises that owns nothing."""
    what = "the connection has another owner" if state is HandleState.MOVED else "the connection is closed"
    return trio.ClosedResourceError(what)


async def read_to_end(receive: Callable[[], Awaitable[bytes]]) -> None:
    """Receive and discard bytes until the peer closes its side, is silent for a while, or takes too long."""
    with trio.move_on_after(LINGER_SECONDS):
        has_more = True
        while has_more:
            await trio.lowlevel.checkpoint()  # a peer that sends without a pause must not starve the others
            has_more = False
            with trio.move_on_after(LINGER_SILENCE_SECONDS):
                has_more = bool(await receive())


# Parts that are smaller together are sent as one. Larger ones are not copied: what is pending for a client
# that reads slowly is the caller's object.
_MAX_JOINED = 16 * 1024


async def send_all(
    transport: Transport,
    *payloads: bytes,
    write_timeout: float,
    counts: PendingBytes,
) -> None:
    """Send the payloads, waiting up to `write_timeout` seconds each time for the peer to take some bytes.

    If this is cancelled, something stays pending, or the caller was cancelled before, and nothing was sent.

    Raises:
        trio.BrokenResourceError: the peer has disconnected, or took nothing for that time, or too much waits
            for slow peers.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    pieces = send_at_once(transport, payloads)
    if pieces:
        await send_rest(transport, pieces, write_timeout=write_timeout, counts=counts)
    else:
        # A peer that sends request after request must not block the event loop.
        await trio.lowlevel.cancel_shielded_checkpoint()


def send_at_once(transport: Transport, payloads: Sequence[bytes]) -> Sequence[bytes]:
    """Send payloads without waiting. If some are left, call `send_rest` with those, and do nothing else."""
    now = trio.current_time()
    if len(payloads) == 1:
        return () if transport.send_nowait(payloads[0], 0, now) else payloads
    if sum(map(len, payloads)) <= _MAX_JOINED:
        return send_at_once(transport, (b"".join(payloads),))
    pieces = [piece for piece in payloads if piece]
    while pieces and transport.send_nowait(pieces[0], 0, now):
        del pieces[0]
    return pieces


async def send_rest(
    transport: Transport, pieces: Sequence[bytes], *, write_timeout: float, counts: PendingBytes
) -> None:
    """Send what `send_at_once` has left; see `send_all`."""
    with PendingSend(counts, transport, *pieces) as send:
        await _flush(transport, write_timeout)
        for piece in pieces[1:]:
            transport.send_nowait(piece, 0, trio.current_time())
            await _flush(transport, write_timeout)
    if send.is_cut:
        raise PendingCut


async def _flush(transport: Transport, write_timeout: float) -> None:
    while transport.pending is not None:
        with trio.move_on_after(write_timeout) as scope:
            await transport.flush_some()
        if scope.cancelled_caught:
            raise WriteTimedOut(f"the peer accepted no bytes for {write_timeout} s")
