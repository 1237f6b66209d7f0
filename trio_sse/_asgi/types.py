"""ASGI's types, as far as this project needs them.

Each framework has its own types for the same three arguments, and they are not compatible. So apps and their
arguments have no stricter types than these.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: An app of any framework.
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

#: Where a scope's `extensions` have the `StreamExtension` or `InlineStream` of the request.
STREAMS = "trio_sse.streams"


def exact_bytes(data: object) -> bytes:
    """Return what an app sends as bytes, of which nobody can change any.

    Raises:
        TypeError: it is something else. An integer would be as many zeros.
    """
    if type(data) is bytes:
        return data
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"a body must be bytes, not {type(data).__name__}")
    return bytes(data)
