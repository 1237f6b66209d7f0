"""What the bytes of a peer mean, for the code that serves its connection."""

from __future__ import annotations

from typing import NamedTuple

from .._http.exceptions import HTTPException
from .._http.request_head import RequestHead
from .stream import Http2Stream


class RequestReceived(NamedTuple):
    """A request has begun. Its head may be a refusal, which is then its response."""

    stream: Http2Stream
    head: RequestHead | HTTPException
    is_websocket: bool


class WindowOpened(NamedTuple):
    """The connection's window has been opened."""


class PingAnswered(NamedTuple):
    """The peer has answered a PING of ours."""

    data: bytes


Event = RequestReceived | WindowOpened | PingAnswered
