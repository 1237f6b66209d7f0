"""An answer other than a stream, raised by a handler."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import final

from .fields import check_fields


@final
class HTTPException(Exception):
    """Refuse a request with this status, from a handler or hook whose stream has not begun.

    Args:
        status: the response's status, 200 to 599. `EventSource` comes back after a 2xx other than 204,
            and gives up after 204 and every error.
        detail: text for the client; by default the status's phrase.
        headers: further header fields of the response.

    Raises:
        ValueError: the status is none, or a header field would break out of its line or is the server's own.
    """

    def __init__(
        self, status: int, detail: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        phrase = HTTPStatus(status).phrase
        if not 200 <= status < 600:
            raise ValueError(f"status must be 200 to 599, not {status}")
        self.status = int(status)
        self.detail = phrase if detail is None else detail
        self.headers = dict(headers or {})
        check_fields(self.headers)
        super().__init__(f"{status} {self.detail}")
