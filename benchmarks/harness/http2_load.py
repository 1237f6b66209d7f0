"""The load's requests over HTTP/2: the header blocks that Chrome would send for an `EventSource`."""

from __future__ import annotations

import hpack

_FIELDS = (
    ("sec-ch-ua-platform", '"Linux"'),
    ("cache-control", "no-cache"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/140.0.0.0 Safari/537.36",
    ),
    ("accept", "text/event-stream"),
    ("sec-ch-ua", '"Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"'),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-dest", "empty"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-US,en;q=0.9"),
    ("cookie", "session=4f6b2c1e9d8a7035b1c2d3e4f5061728"),
)


def options(port: int, connections: int, *, is_secure: bool, path: str = "/updates") -> list[str]:
    """Return the load's options for streams over HTTP/2.

    A connection's first request puts its fields into the dynamic table of the server, and further requests
    refer to them, except for the path.

    Args:
        port: the server's.
        connections: over how many connections the streams are spread.
        is_secure: use TLS.
        path: what to request.
    """
    scheme = "https" if is_secure else "http"
    fields: list[hpack.HeaderTuple] = [
        hpack.HeaderTuple(":method", "GET"),
        hpack.HeaderTuple(":authority", f"127.0.0.1:{port}"),
        hpack.HeaderTuple(":scheme", scheme),
        hpack.NeverIndexedHeaderTuple(":path", path),
        *(hpack.HeaderTuple(*field) for field in _FIELDS),
        hpack.HeaderTuple("referer", f"{scheme}://127.0.0.1:{port}/"),
    ]
    encoder = hpack.Encoder()
    first, further = encoder.encode(fields), encoder.encode(fields)
    tls = ["--tls"] if is_secure else []
    return [*tls, "--http2", f"{connections}", "--first", first.hex(), "--further", further.hex()]
