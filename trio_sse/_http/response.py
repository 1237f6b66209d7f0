"""Responses: the head of an event stream, and whole responses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, final

from .fields import HeaderFields, field_pairs, merge_fields
from .status import reason_phrase

if TYPE_CHECKING:
    from .exceptions import HTTPException

# Statuses without a body, whatever the fields say (RFC 9112, 6.3); that of 205 is empty (RFC 9110, 15.3.6).
WITHOUT_BODY = (204, 205, 304)

# Nobody may store a stream, transform it (compression would delay events), or, as nginx does, buffer it.
STREAM_FIELDS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "Vary": "Accept",  # the same URL answers long polling
}

# Texts of this size, if they were the last ones, are not encoded again for each client: the response to one
# that reads slowly may live as long as `write_timeout`.
_SMALLEST_PAGE = 4 * 1024
_LARGEST_PAGE = 1024 * 1024


@final
@dataclass(frozen=True, slots=True)
class Response:
    """A whole response, as an endpoint returns it.

    Args:
        body: text is encoded as UTF-8.
        status: 200 to 599.
        content_type: the body's type; it is not sent without a body.
        headers: further header fields, as a mapping, or as pairs where a name is repeated, such as that of
            several cookies. `Content-Type` replaces `content_type`.

    Raises:
        TypeError: the headers are neither a mapping nor pairs.
        ValueError: a header field cannot be sent or is set by the server, the status is unknown, out of
            range, or allows no body, or the text cannot be encoded.
    """

    body: str | bytes = b""
    status: int = field(default=200, kw_only=True)
    content_type: str = field(default="text/plain; charset=utf-8", kw_only=True)
    headers: HeaderFields = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        if not 200 <= HTTPStatus(self.status) < 600:
            raise ValueError(f"status must be 200 to 599, not {self.status}")
        # Of subclasses, such as enumerations, the values that are checked are those that are sent.
        object.__setattr__(self, "status", int(self.status))
        if isinstance(self.body, str):
            object.__setattr__(self, "body", str.__str__(self.body))
        if self.body and self.status in WITHOUT_BODY:
            raise ValueError(f"a response of status {self.status} must not have a body")
        encode_body(self)  # find a lone surrogate here, not when the response is sent
        headers = field_pairs(self.headers)
        given = [value for name, value in headers if name.lower() == "content-type"]
        if given:
            object.__setattr__(self, "content_type", given[-1])
            headers = tuple(pair for pair in headers if pair[0].lower() != "content-type")
        ((_, content_type),) = field_pairs({"Content-Type": self.content_type})
        object.__setattr__(self, "content_type", content_type)
        if given or not isinstance(self.headers, Mapping):
            object.__setattr__(self, "headers", headers)


def encode_body(response: Response) -> bytes:
    """Return a response's body; a page that many clients ask for is one object for all of them."""
    if isinstance(response.body, bytes):
        return response.body
    is_page = _SMALLEST_PAGE <= len(response.body) <= _LARGEST_PAGE
    return _encode_page(response.body) if is_page else response.body.encode()


@lru_cache(maxsize=4)
def _encode_page(text: str) -> bytes:
    return text.encode()


def encode_response(
    response: Response, *, fields: Mapping[str, str], with_body: bool = True
) -> tuple[bytes, bytes]:
    """Return a response's head and body; `fields` are the server's, and replace those of the same name."""
    body = encode_body(response)
    head = merge_fields(field_pairs(response.headers), fields.items())
    if response.status not in (204, 304):
        if body:
            head.append(("Content-Type", response.content_type))
        head.append(("Content-Length", str(len(body))))
    if any(name.lower() == "upgrade" for name, _ in head):  # it concerns this connection only (RFC 9110, 7.8)
        options = ["close", "Upgrade"] if "Connection" in fields else ["Upgrade"]
        head = merge_fields(head, [("Connection", ", ".join(options))])
    return encode_head(response.status, head), body if with_body else b""


def json_response(value: object, *, status: int = 200) -> Response:
    """Return a response with a JSON value, which caches must not store."""
    return Response(
        json.dumps(value),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def error_response(error: HTTPException) -> Response:
    """Return the response that an exception asks for."""
    if error.response is not None:
        return error.response
    detail = error.detail.encode("utf-8", "replace").decode()
    if not any(name.lower() == "content-type" for name in error.headers):
        detail += "\n"  # a line of text
    return Response(
        "" if error.status in WITHOUT_BODY else detail,
        status=error.status,
        headers=dict(merge_fields([("Cache-Control", "no-store")], error.headers.items())),
    )


def encode_head(status: int, fields: HeaderFields, date: str | None = None) -> bytes:
    """Return the bytes of a response's head; its date is the current time by default."""
    lines = [f"HTTP/1.1 {status} {reason_phrase(status)}", f"Date: {date or http_date()}"]
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    lines += [f"{name}: {value}" for name, value in pairs]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def encode_stream_head(fields: Mapping[str, str], *, is_chunked: bool) -> bytes:
    """Return the bytes of an event stream's head. Most streams that start in the same second share them."""
    return _encode_stream_head(tuple(fields.items()), is_chunked, http_date())


@lru_cache(maxsize=64)
def _encode_stream_head(items: tuple[tuple[str, str], ...], is_chunked: bool, date: str) -> bytes:
    fields = dict(items)
    head = {**STREAM_FIELDS, **({"Transfer-Encoding": "chunked"} if is_chunked else {}), **fields}
    if "Vary" in fields:
        head["Vary"] = f"{STREAM_FIELDS['Vary']}, {fields['Vary']}"
    return encode_head(200, head, date)


def add_fields(head: bytes, fields: Iterable[tuple[str, str]]) -> bytes:
    """Return a head, and what follows it, with further fields, which have been checked.

    A field replaces that of the same name, but `Vary` only grows.
    """
    lines, end, following = head.partition(b"\r\n\r\n")
    status_line, *old = lines.decode("latin-1").split("\r\n")
    merged = merge_fields([(line.partition(": ")[0], line.partition(": ")[2]) for line in old], fields)
    lines = "\r\n".join([status_line, *(f"{name}: {value}" for name, value in merged)]).encode("latin-1")
    return lines + end + following


def http_date() -> str:
    """Return the current time in the form of the `Date` field."""
    return _format_date(int(time.time()))


def date_line() -> bytes:
    """Return the line of the `Date` field, with its end."""
    return _encode_date_line(int(time.time()))


@lru_cache(maxsize=1)
def _encode_date_line(seconds: int) -> bytes:
    return f"Date: {_format_date(seconds)}\r\n".encode()


@lru_cache(maxsize=1)  # it changes once a second
def _format_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
