"""Why a stream ended: one closed enumeration for `finally`, hooks, logs and statistics."""

from __future__ import annotations

from enum import Enum
from typing import final


@final
class EndReason(Enum):
    """Why a connection's stream ended.

    How the end looks to the client follows from it. After `FINISHED` the body is ended properly, which
    tells clients that are built on `fetch` that all is said. Every other reason cuts the body before its
    end, so that every kind of client comes back.
    """

    FINISHED = "finished"
    """The handler returned, or `Connection.close` was called."""

    CLIENT_DISCONNECTED = "client_disconnected"
    """The client has ended its side, has reset the connection, or is gone."""

    MAX_DURATION = "max_duration"
    """The connection has lived as long as it may. The client comes back for another."""

    SLOW_CONSUMER = "slow_consumer"
    """The client fell so far behind that its queue overflowed. It comes back and is given the rest."""

    WRITE_TIMEOUT = "write_timeout"
    """The client took no byte for the whole write timeout."""

    RECONNECT = "reconnect"
    """`Connection.close(reconnect=True)` was called: the client is to come back."""

    SERVER_SHUTDOWN = "server_shutdown"
    """The server drains or was cancelled, or the hub ended."""

    HANDLER_ERROR = "handler_error"
    """The handler raised an exception; the log has it."""

    REFUSED = "refused"
    """The request was answered otherwise before the stream began: by a handler or hook that refused it by an
    exception, or by the app."""

    PROTOCOL_ERROR = "protocol_error"
    """The client went on sending after its request."""
