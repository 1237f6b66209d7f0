"""The head of an app's response, checked and encoded."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import final

from .._asgi.types import Message
from .._http.fields import check_raw_field
from .._http.response import WITHOUT_BODY, http_date
from .._http.status import reason_phrase

# ASGI's HTTP specification, "Response Start"
_SET_BY_SERVER = frozenset({b"transfer-encoding", b"keep-alive"})


@final
class AppResponse:
    """The head of an app's response."""

    def __init__(self, message: Message) -> None:
        """Check an `http.response.start`; raises `ValueError` if it cannot be sent."""
        self.status = int(message["status"])
        if not 200 <= self.status < 600:
            raise ValueError(f"a response's status must be 200 to 599, not {self.status}")
        self.content_length: int | None = None
        self.closes = False  # the app asks for the connection to be closed
        self.upgrades = False  # it has an Upgrade field
        self._fields: list[tuple[bytes, bytes]] = []
        has_date = False
        headers: Iterable[tuple[bytes, bytes]] = message.get("headers", ())
        for name, value in headers:
            name, value = bytes(name), bytes(value).strip()
            lower = check_raw_field(name, value)
            if lower == b"content-length":
                self.content_length = int(value)
            elif lower == b"connection":
                self.closes |= b"close" in [option.strip() for option in value.lower().split(b",")]
            elif lower not in _SET_BY_SERVER:
                has_date |= lower == b"date"
                self.upgrades |= lower == b"upgrade"
                self._fields.append((name, value))
        if not has_date:
            self._fields.append((b"Date", http_date().encode()))

    @property
    def has_body(self) -> bool:
        """Whether the status allows a body."""
        return self.status not in WITHOUT_BODY

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is an event stream."""
        return any(
            name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
            for name, value in self._fields
        )

    def encode(self, fields: list[tuple[bytes, bytes]], *, without: Collection[bytes] = ()) -> bytes:
        """Return the head's bytes, with the server's own `fields`, and without those of the app's."""
        lines = [b"HTTP/1.1 %d %b" % (self.status, _phrase(self.status))]
        lines += [b"%b: %b" % field for field in self._fields if field[0].lower() not in without]
        lines += [b"%b: %b" % field for field in fields]
        return b"\r\n".join(lines) + b"\r\n\r\n"


def _phrase(status: int) -> bytes:
    try:
        return reason_phrase(status).encode()
    except ValueError:
        return b""  # one of the app's own
