"""What few streams have: made when it is first set, since a server has many streams."""

from __future__ import annotations

import math
from typing import final

from .._hub.tracing import RequestSpan


@final
class StreamExtras:
    """The identity, the expiry and the like of one stream.

    Attributes:
        identity: whose stream it is.
        expires_at: when its credentials expire, in seconds since 1970.
        max_deadline: when its maximum duration is over.
        span: what traces it.
        close_frame: how a WebSocket is closed, where the reason alone is not enough.
    """

    __slots__ = ("close_frame", "expires_at", "identity", "max_deadline", "span")

    def __init__(self, max_deadline: float) -> None:
        self.identity: str | None = None
        self.expires_at: float | None = None
        self.max_deadline = max_deadline
        self.span: RequestSpan | None = None
        self.close_frame: bytes | None = None


def check_expiry(expires_at: object) -> float:
    """Return a time if it can be one in seconds since 1970.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not a time.
    """
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
        raise TypeError(f"expires_at must be seconds since 1970, not {type(expires_at).__name__}")
    try:
        seconds = float(expires_at)
    except OverflowError:
        raise ValueError("expires_at must be seconds since 1970, and is too large") from None
    if math.isnan(seconds):
        raise ValueError("expires_at must be seconds since 1970, not nan")
    return seconds
