"""A whole response as the two messages that ASGI has for it.

They are made for each response: middleware may change them, and would change those of other requests.
"""

from __future__ import annotations

from collections.abc import Iterable

from .._http.fields import field_pairs
from .._http.response import Response, encode_body
from .types import Message


def encode_fields(fields: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return header fields as ASGI has them."""
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in fields]


def response_messages(response: Response, *, with_body: bool = True) -> tuple[Message, Message]:
    """Return the messages that send a response."""
    headers = encode_fields([*field_pairs(response.headers), ("Content-Type", response.content_type)])
    body = encode_body(response) if with_body else b""
    return (
        {"type": "http.response.start", "status": response.status, "headers": headers},
        {"type": "http.response.body", "body": body, "more_body": False},
    )


def failure_messages() -> tuple[Message, Message]:
    """Return those of a response without details, for an app that has failed."""
    return (
        {"type": "http.response.start", "status": 500, "headers": []},
        {"type": "http.response.body", "body": b"", "more_body": False},
    )
