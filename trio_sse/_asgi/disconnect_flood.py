"""Floods of requests whose client disconnects before it is answered, such as HTTP/2's "rapid reset".

The client pays a few bytes for each, and the app a whole call. So a connection that does that too often is
refused for a while. A connection is known by its client's address and port, which ASGI gives: a proxy's other
connections are not refused. A client that opens many connections is the business of a firewall.
"""

from __future__ import annotations

from typing import final

import trio

# A browser that leaves a page with many images resets some dozens.
_MOST_DISCONNECTS = 200
_SECONDS = 10.0


@final
class DisconnectFlood:
    """Counts the requests of each connection that were not waited for."""

    def __init__(self) -> None:
        self._counts: dict[object, tuple[float, int]] = {}  # since when, and how many; the newest last

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, client: object) -> None:
        """Count one request of a client, an ASGI scope's `client`, which has not waited for the answer."""
        now = trio.current_time()
        since, count = self._counts.pop(client, (now, 0))
        self._counts[client] = (now, 1) if now >= since + _SECONDS else (since, count + 1)
        while True:
            oldest = next(iter(self._counts))
            if now < self._counts[oldest][0] + _SECONDS:
                break
            del self._counts[oldest]

    def is_refused(self, client: object) -> bool:
        """Whether the client has done so too often within some seconds."""
        if not self._counts:  # as usual
            return False
        since, count = self._counts.get(client, (0.0, 0))
        return count > _MOST_DISCONNECTS and trio.current_time() < since + _SECONDS
