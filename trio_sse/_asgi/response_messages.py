"""A whole response as the two messages that ASGI has for it."""

from __future__ import annotations

from .._http.response import Response, encode_body
from .types import Message


def response_messages(response: Response, *, with_body: bool = True) -> tuple[Message, Message]:
    """Return the messages that send a response."""
    fields = {**response.headers, "Content-Type": response.content_type}
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()]
    body = encode_body(response) if with_body else b""
    return (
        {"type": "http.response.start", "status": response.status, "headers": headers},
        {"type": "http.response.body", "body": body, "more_body": False},
    )
