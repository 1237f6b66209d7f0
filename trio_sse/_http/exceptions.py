"""The exception by which a handler refuses a request."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import final

from .fields import check_fields
from .status import reason_phrase

# Jittered, so that clients that were refused together do not try again together.
_RETRY_AFTER_SECONDS = (1, 10)


class HTTPException(Exception):
    """Refuse a request with this status, from a handler or hook whose stream has not started.

    Args:
        status: the response's status, 200 to 599. `EventSource` reconnects after a 2xx other than 204, and
            gives up after 204 and every error.
        detail: the response's body, as text; by default the status's phrase.
        headers: further header fields of the response.

    Raises:
        ValueError: the status is unknown or out of range, or a header field cannot be sent or is set by the
            server.
    """

    def __init__(
        self, status: int, detail: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        phrase = reason_phrase(status)
        if not 200 <= status < 600:
            raise ValueError(f"status must be 200 to 599, not {status}")
        self.status = int(status)
        self.detail = phrase if detail is None else detail
        self.headers = dict(headers or {})
        check_fields(self.headers)
        super().__init__(f"{status} {self.detail}")


@final
class TemporaryRefusal(HTTPException):
    """Refuse a request for now: the server is full, or shuts down.

    Attributes:
        retry_seconds: after how long the client should try again; random, within a few seconds.
    """

    def __init__(self, status: int, detail: str) -> None:
        self.retry_seconds = random.uniform(*_RETRY_AFTER_SECONDS)
        super().__init__(status, detail, {"Retry-After": str(round(self.retry_seconds))})
