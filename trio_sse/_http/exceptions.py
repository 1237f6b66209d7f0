"""The exception by which a handler refuses a request."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import final

from .fields import field_pairs
from .response import Response
from .status import reason_phrase

# Jittered, so that clients that were refused together do not try again together.
_RETRY_AFTER_SECONDS = (1, 10)


class HTTPException(Exception):
    """Answer a request with this status, from a handler or hook whose stream has not started.

    Args:
        status: the response's status, 200 to 599; or the whole response, as a `Response`. `EventSource`
            reconnects after a 2xx other than 204, and gives up after 204 and every error.
        detail: the response's body, as text; by default the status's phrase.
        headers: further header fields of the response. `Content-Type` is that of the detail.

    Attributes:
        response: the whole response, if it was created with one.
        answers_head: whether it answers a HEAD request, so that the response has no body. The server sets it.

    Raises:
        TypeError: there is more than a `Response`.
        ValueError: the status is unknown or out of range, or a header field cannot be sent or is set by the
            server.
    """

    def __init__(
        self,
        status: int | Response,
        detail: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.response: Response | None = None
        self.answers_head = False
        self.headers: dict[str, str] = {}
        if isinstance(status, Response):
            if detail is not None or headers is not None:
                raise TypeError("a Response is sent as it is: it has its own body and headers")
            self.response, status = status, status.status
        phrase = reason_phrase(status)
        if not 200 <= status < 600:
            raise ValueError(f"status must be 200 to 599, not {status}")
        self.status = int(status)
        self.detail = phrase if detail is None else str.__str__(detail)
        self.headers.update(field_pairs(headers or {}))
        super().__init__(f"{self.status} {self.detail}")


@final
class TemporaryRefusal(HTTPException):
    """Refuse a request for now: the server is full, or shuts down.

    Attributes:
        retry_seconds: after how long the client should try again; random, within a few seconds.
    """

    def __init__(self, status: int, detail: str) -> None:
        self.retry_seconds = random.uniform(*_RETRY_AFTER_SECONDS)
        super().__init__(status, detail, {"Retry-After": str(round(self.retry_seconds))})
