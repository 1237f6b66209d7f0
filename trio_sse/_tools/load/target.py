"""The target of `trio-sse load`: the parts of a URL, and the bytes of a request."""

from __future__ import annotations

from collections.abc import Sequence
from string import punctuation
from typing import final
from urllib.parse import quote, urlsplit

from ..._http2.header_block import encode_fields

#: Fields of the connection (RFC 9113, 8.2.2), and Host, which is the authority.
_NOT_IN_HTTP2 = frozenset(
    (b"host", b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)


@final
class LoadTarget:
    """A URL to request.

    Attributes:
        host: a name, in ASCII, or an address, without brackets.
        is_secure: whether to use TLS.
    """

    def __init__(self, url: str, headers: Sequence[tuple[str, str]]) -> None:
        """Parse a URL. The given headers replace the tool's own of the same name.

        Raises:
            ValueError: the URL is malformed.
        """
        try:
            parts = urlsplit(url)
            self.host = (parts.hostname or "").encode("idna").decode()
            self.is_secure = parts.scheme == "https"
            default_port = 443 if self.is_secure else 80
            self.port = default_port if parts.port is None else parts.port
            path = quote(parts.path or "/", safe=punctuation)
            query = quote(f"?{parts.query}" if parts.query else "", safe=punctuation)
            is_valid = parts.scheme in ("http", "https") and self.host and self.port
        except ValueError:
            is_valid = False
        if not is_valid:
            raise ValueError(
                "the URL must be like http://host:port/path; "
                "a port is 1 to 65535, and the parts of a host's name have 1 to 63 characters"
            )
        fields = [*self._own_fields(headers), *headers]
        self._path, self._fields = f"{path}{query}", fields
        lines = [f"GET {self._path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        self._head = "".join(f"{line}\r\n" for line in lines).encode()
        self._may_resume = "last-event-id" not in _names(headers)

    def _own_fields(self, headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        host = f"[{self.host}]" if ":" in self.host else self.host
        own = (
            ("Host", f"{host}:{self.port}"),
            ("Accept", "text/event-stream"),
            ("Cache-Control", "no-store"),
            ("User-Agent", "trio-sse load"),
        )
        return [(name, value) for name, value in own if name.lower() not in _names(headers)]

    def request(self, last_event_id: str) -> bytes:
        """Return a request that resumes after an event, unless the id is empty."""
        resume = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id and self._may_resume else ""
        return self._head + resume.encode() + b"\r\n"

    def block(self, last_event_id: str) -> bytes:
        """Return the same request as a header block of HTTP/2."""
        fields = [(name.lower().encode(), value.encode()) for name, value in self._fields]
        if last_event_id and self._may_resume:
            fields.append((b"last-event-id", last_event_id.encode()))
        authority = next(value for name, value in fields if name == b"host")
        return encode_fields(
            [
                (b":method", b"GET"),
                (b":scheme", b"https" if self.is_secure else b"http"),
                (b":authority", authority),
                (b":path", self._path.encode()),
                *(field for field in fields if field[0] not in _NOT_IN_HTTP2),
            ]
        )


def _names(headers: Sequence[tuple[str, str]]) -> set[str]:
    return {name.lower() for name, _ in headers}
