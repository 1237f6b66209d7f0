"""Why a stream ended: one closed enumeration for `finally`, hooks, logs and statistics."""

from __future__ import annotations

from enum import Enum
from typing import final


@final
class EndReason(Enum):
    """Why a connection's stream ended.

    The reason decides what the client sees. After `FINISHED` the body is complete, and clients built on
    `fetch` take that as the end. After any other reason, a body that has begun is truncated, so that every
    kind of client reconnects.
    """

    FINISHED = "finished"
    """The handler returned, or `Connection.close` was called."""

    CLIENT_DISCONNECTED = "client_disconnected"
    """The client closed its side or reset the connection."""

    MAX_DURATION = "max_duration"
    """The connection reached its maximum duration. The client reconnects."""

    SLOW_CONSUMER = "slow_consumer"
    """The client was so slow that its queue overflowed. It reconnects and receives what it missed."""

    WRITE_TIMEOUT = "write_timeout"
    """The client accepted no bytes for the whole write timeout, or a send was cancelled in the middle of an
    event."""

    RECONNECT = "reconnect"
    """`Connection.close(reconnect=True)` was called. The client reconnects."""

    REVOKED = "revoked"
    """It was closed from outside its handler, by `close_connections` or `Hub.revoke`. The client reconnects
    and is checked again."""

    EXPIRED = "expired"
    """The time of `Connection.expires_at` has come. The client reconnects and is checked again."""

    SERVER_SHUTDOWN = "server_shutdown"
    """The server is draining or was cancelled, or the hub ended."""

    HANDLER_ERROR = "handler_error"
    """The handler raised an exception, which was logged."""

    REFUSED = "refused"
    """The request was refused before the stream began: the handler or a hook answered with an error, or the
    app responded itself."""

    ANSWERED = "answered"
    """The handler or a hook answered the request before the stream began, with a `Response` or an exception
    whose status is not an error."""

    PROTOCOL_ERROR = "protocol_error"
    """The client kept sending after its request."""
