"""What `trio-sse load` asks for: the parts of a URL, and the bytes of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final
from urllib.parse import urlsplit


@final
class LoadTarget:
    """What is at one URL.

    Attributes:
        host: a name or an address, without brackets.
        is_secure: whether it is asked for under TLS.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """Take a URL apart.

        Raises:
            ValueError: the URL is none that can be asked for.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the URL must be like http://host:port/path, not {url!r}")
        self.host = parts.hostname
        self.is_secure = parts.scheme == "https"
        self.port = parts.port or (443 if self.is_secure else 80)
        target = parts.path or "/"
        self._target = f"{target}?{parts.query}" if parts.query else target
        self._headers = headers

    def request(self, last_event_id: str) -> bytes:
        """Give the request of a stream, to be resumed after an event unless the id is empty."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        fields = {
            "Host": f"{host}:{self.port}",
            "Accept": "text/event-stream",
            "Cache-Control": "no-store",
            "User-Agent": "trio-sse load",
            **self._headers,
            **({"Last-Event-ID": last_event_id} if last_event_id else {}),
        }
        lines = [f"GET {self._target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()
