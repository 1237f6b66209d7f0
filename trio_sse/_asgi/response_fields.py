"""The header fields of an app's response, as a server that is not ours can send them."""

from __future__ import annotations

from collections.abc import Iterable

from .._http.fields import check_raw_field


def checked_fields(headers: Iterable[tuple[bytes, bytes]], http_version: str) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a response as they can be sent.

    H2 sends almost any field, and the client that gets one it does not understand closes its connection, with
    all streams. So the fields are those of our own server.

    Raises:
        ValueError: a field cannot be sent.
    """
    fields = []
    for name, value in headers:
        name, value = bytes(name), bytes(value).strip()
        check_raw_field(name, value)
        match name.lower():
            case b"content-length" if not value.isdigit():
                raise ValueError(f"a response's Content-Length must be a number, not {value!r}")
            case b"te" if http_version >= "2":
                continue  # it is for requests, and h2 refuses it when it has begun to send the head
            case b"upgrade" if http_version != "1.1":
                continue
            case b"upgrade":
                fields.append((b"connection", b"Upgrade"))  # RFC 9110, 7.8
        fields.append((name, value))
    return fields


def is_event_stream(field: tuple[bytes, bytes]) -> bool:
    name, value = field
    return name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
