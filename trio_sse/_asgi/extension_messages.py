"""The messages of ASGI's extensions that hypercorn has, as an app sends them: early hints and server push.

Hypercorn checks little of them: a push of a path that is not ASCII ends it with all connections.
"""

from __future__ import annotations

import re

from .response_fields import checked_fields
from .types import Message, exact_bytes

_PATH = re.compile(r"/[!-~]*")
_MOST_PATH = 8 * 1024

# Fields of a request that HTTP/2 does not have, or that describe a body.
_NOT_PUSHED = {
    *(b"connection", b"host", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te"),
    *(b"content-length", b"expect", b"trailer"),
}


def checked_extension(message: Message, http_version: str) -> Message:
    """Return a message that is not a part of the response itself, as it can be sent.

    Raises:
        RuntimeError: nobody knows this message.
        TypeError, ValueError: it cannot be sent.
    """
    match message["type"]:
        case "http.response.early_hint":
            links = [(b"link", exact_bytes(link)) for link in message["links"]]
            return {**message, "links": [value for _, value in checked_fields(links, http_version)]}
        case "http.response.push":
            path = message["path"]
            if not isinstance(path, str):
                raise TypeError(f"a path to push must be a str, not {type(path).__name__}")
            if len(path) > _MOST_PATH or not _PATH.fullmatch(path):
                raise ValueError(f"a path to push must be ASCII and begin with a slash, not {path[:100]!r}")
            fields = checked_fields(message.get("headers", ()), http_version)
            fields = [field for field in fields if field[0].lower() not in _NOT_PUSHED]
            return {**message, "headers": fields}
        case kind:
            raise RuntimeError(f"the app sends {kind!r}, which is no part of a response")
