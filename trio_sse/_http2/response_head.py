"""Responses: from the bytes of an HTTP/1.1 head to a header block (RFC 9113, 8.2.2 and 8.3.2)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from .header_block import encode_fields

# Fields that concern one HTTP/1.1 connection; the last one answers a key that HTTP/2 does not have.
_CONNECTION_FIELDS: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"sec-websocket-accept",
    )
)

# The streams that start in one second share their head. Larger heads than this have cookies and the like, of
# which each is sent once.
_CACHE_SIZE: Final = 64
_MAX_CACHED: Final = 1024


class TranslatedHead(NamedTuple):
    """A response's head for HTTP/2.

    Attributes:
        status: of the response. That of an accepted WebSocket is 200, and not 101 (RFC 8441, 5).
        block: the header block, which depends on no connection's state.
        is_interim: whether the response's own head is still to come (1xx).
        content_length: the length that the head announces; `None` if it does not.
    """

    status: int
    block: bytes
    is_interim: bool
    content_length: int | None


def translate_head(head: bytes, *, is_websocket: bool) -> TranslatedHead:
    """Translate a head of ours: `HTTP/1.1 200 OK`, its fields, and the empty line at its end or not."""
    if len(head) > _MAX_CACHED:
        return _translate(head, is_websocket)
    return _translate_cached(head, is_websocket)


def _translate(head: bytes, is_websocket: bool) -> TranslatedHead:
    status_line, *lines = head.rstrip(b"\r\n").split(b"\r\n")
    status = status_line[9:12]
    if is_websocket and status == b"101":
        status = b"200"
    fields = [(b":status", status)]
    content_length = None
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name in _CONNECTION_FIELDS:
            continue
        if name == b"content-length":
            content_length = int(value)
        fields.append((name, value))
    return TranslatedHead(int(status), encode_fields(fields), status[:1] == b"1", content_length)


_translate_cached = lru_cache(maxsize=_CACHE_SIZE)(_translate)
