"""Requests: from a header list to a checked `RequestHead` (RFC 9113, 8).

What makes a list malformed in HTTP/2 itself is checked here. What remains is written as a head of HTTP/1.1
and parsed as one. So both protocols accept and refuse the same requests, with the same statuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from .._http.exceptions import HTTPException
from .._http.fields import FIELD_VALUE, NOT_IN_TRAILERS
from .._http.request_head import HeadLimits, RequestHead, parse_head
from .error_code import ErrorCode, StreamFault

_PSEUDO_FIELDS: Final = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))

# Fields that concern one HTTP/1.1 connection (RFC 9113, 8.2.2).
_CONNECTION_FIELDS: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)

# Fields that are looked at here. All others only have to be well-formed.
_DECISIVE_FIELDS: Final = _CONNECTION_FIELDS | {b"content-length", b"cookie", b"host", b"te"}

_NAME_PATTERN: Final = rb"[!#$%&'*+\-.^_`|~0-9a-z]+"
_NAMES: Final = re.compile(rb"(?:%b:)*" % _NAME_PATTERN)
_LINES: Final = re.compile(rb"(?:[^:\r\n]+:%b\r\n)*" % FIELD_VALUE.encode())
_SPACE_AROUND_VALUE: Final = re.compile(rb"\n[^:]*:[ \t]|[ \t]\r")
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET: Final = re.compile(rb"[/*][\x21-\x7e]*")
_DIGITS: Final = re.compile(rb"[0-9]+")

_Fields = tuple[tuple[bytes, bytes], ...]

# How many lists of fields are cached that have passed, and how large they may be; as in `_http/request_head`.
_CACHE_SIZE: Final = 64
_MAX_CACHED_SIZE: Final = 4 * 1024

# What RFC 8441 leaves out of a handshake. The key is that of RFC 6455's checks, and nobody sees the answer.
_UPGRADE_LINES: Final = (
    b"upgrade:websocket",
    b"connection:Upgrade",
    b"sec-websocket-key:AAAAAAAAAAAAAAAAAAAAAA==",
)


def make_request_head(
    fields: Sequence[tuple[bytes, bytes]],
    limits: HeadLimits,
    *,
    is_complete: bool,
    allows_websocket: bool,
    stream_id: int = 0,
) -> RequestHead:
    """Return the checked head of a request.

    An extended CONNECT for a WebSocket (RFC 8441) becomes the GET request of RFC 6455's handshake. It has no
    body, whatever follows it. Otherwise, the content length is 0 if no body follows, and `None` if its length
    is not known.

    Args:
        fields: the header list.
        limits: the bounds on it, as for HTTP/1.1.
        is_complete: whether the request ends with its head.
        allows_websocket: whether the server has announced the extended CONNECT.
        stream_id: the stream, for the exception.

    Raises:
        StreamFault: PROTOCOL_ERROR, the request is malformed (RFC 9113, 8.1.1).
        HTTPException: the request is refused with a status.
    """
    try:
        return _make_head(fields, limits, is_complete, allows_websocket)
    except _Malformed as error:
        raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from None


def check_trailers(fields: Sequence[tuple[bytes, bytes]], stream_id: int) -> None:
    """Check the trailers of a request, which are not used.

    Raises:
        StreamFault: PROTOCOL_ERROR, they are malformed, or would change what the request means.
    """
    try:
        _check_fields(fields)
        if any(name in NOT_IN_TRAILERS for name, _ in fields):
            raise _Malformed("a field must not be in the trailers")
    except _Malformed as error:
        raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from None


class _Malformed(Exception):
    """The header list is not one of HTTP/2."""


def _make_head(
    fields: Sequence[tuple[bytes, bytes]], limits: HeadLimits, is_complete: bool, allows_websocket: bool
) -> RequestHead:
    count = next((i for i, (name, _) in enumerate(fields) if name[:1] != b":"), len(fields))
    pseudo = dict(fields[:count])
    if len(pseudo) != count or not _PSEUDO_FIELDS.issuperset(pseudo):
        raise _Malformed("a pseudo-header field is repeated or unknown")
    lines, decisive = _take_regular(tuple(fields[count:]))
    method, is_websocket = _check_method(pseudo, allows_websocket)
    has_length = _check_decisive(decisive, is_complete, is_websocket)
    if decisive:
        lines = _rewrite(lines, decisive)
    authority = _authority(pseudo.get(b":authority"), [value for name, value in decisive if name == b"host"])
    if is_websocket:
        lines = [line for line in lines if not line.startswith(b"sec-websocket-key:")]
        lines[:0] = _UPGRADE_LINES
    target = pseudo.get(b":path", b"*")
    head = b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), *authority, *lines])
    if len(head) > limits.size and len(target) <= limits.target_size:
        raise HTTPException(431, f"the request's head must have at most {limits.size} bytes")
    parsed = parse_head(head, limits)
    parsed.http_version = "2"
    if not (is_complete or has_length or is_websocket):
        parsed.content_length = None
    return parsed


def _take_regular(fields: _Fields) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """Return the fields after the pseudo-header fields, checked, as lines; and those that decide something.

    The lists must not be changed: a client sends the same fields with request after request.
    """
    if sum([len(name) + len(value) for name, value in fields]) > _MAX_CACHED_SIZE:
        return _check_regular(fields)
    return _check_cached(fields)


def _check_regular(fields: _Fields) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    return _check_fields(fields), [field for field in fields if field[0] in _DECISIVE_FIELDS]


_check_cached = lru_cache(maxsize=_CACHE_SIZE)(_check_regular)


def _check_fields(fields: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """Return the fields as lines; refuse names and values that are malformed (RFC 9113, 8.2.1)."""
    names = b"".join([b"%b:" % name for name, _ in fields])
    if names.count(b":") != len(fields) or not _NAMES.fullmatch(names):
        raise _Malformed("a name must be a token in lower case; pseudo-header fields come first")
    lines = [b"%b:%b" % field for field in fields]
    block = b"\r\n".join([b"", *lines, b""])
    # A value with a line's end would make another line.
    if block.count(b"\n") != len(fields) + 1 or not _LINES.fullmatch(block, 2):
        raise _Malformed("a value must not have control characters")
    if _SPACE_AROUND_VALUE.search(block):
        raise _Malformed("a value must not begin or end with a space")
    return lines


def _check_method(pseudo: dict[bytes, bytes], allows_websocket: bool) -> tuple[bytes, bool]:
    """Return the method that HTTP/1.1 has for this request, and whether it asks for a WebSocket.

    The pseudo-header fields must be those that the method needs (RFC 9113, 8.3.1 and 8.5; RFC 8441, 4).
    """
    method = pseudo.get(b":method", b"")
    if not _METHOD.fullmatch(method):
        raise _Malformed(":method must be a token")
    is_connect, protocol = method == b"CONNECT", pseudo.get(b":protocol")
    if protocol is not None and not (is_connect and allows_websocket):
        raise _Malformed(":protocol is for an extended CONNECT, where the server supports it")
    if is_connect and protocol is None:
        if pseudo.keys() != {b":method", b":authority"}:
            raise _Malformed("CONNECT must have an :authority, and neither :scheme nor :path")
        return method, False
    if pseudo.get(b":scheme", b"").lower() not in (b"http", b"https"):
        raise _Malformed(":scheme must be http or https")
    if not _TARGET.fullmatch(pseudo.get(b":path", b"")):
        raise _Malformed(":path must begin with '/', or be '*'")
    if protocol is None:
        return method, False
    if protocol.lower() != b"websocket":  # proxies pass on what an `Upgrade` of HTTP/1.1 has
        raise HTTPException(501, "the only supported :protocol is websocket")
    return b"GET", True


def _check_decisive(decisive: Iterable[tuple[bytes, bytes]], is_complete: bool, is_websocket: bool) -> bool:
    """Return whether there is a Content-Length; refuse fields that HTTP/2 does not have."""
    length = None
    for name, value in decisive:
        if name in _CONNECTION_FIELDS or (name == b"te" and value.lower() != b"trailers"):
            raise _Malformed("a field concerns an HTTP/1.1 connection")
        if name == b"content-length":
            if length is not None or not _DIGITS.fullmatch(value):
                raise _Malformed("Content-Length must be one number")
            length = value
    if is_websocket:
        return length is not None  # what follows is no body, and a length of it is refused as by HTTP/1.1
    if is_complete and length is not None and length.strip(b"0"):
        raise _Malformed("the body is not as long as Content-Length says")
    return length is not None


def _rewrite(lines: list[bytes], decisive: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Return the lines with one `Cookie` for all (RFC 9113, 8.2.3), and without `Host`, which is first."""
    lines = [line for line in lines if not line.startswith(b"host:")]
    cookies = [value for name, value in decisive if name == b"cookie"]
    if len(cookies) > 1:
        lines = [line for line in lines if not line.startswith(b"cookie:")]
        lines.append(b"cookie:" + b"; ".join(cookies))
    return lines


def _authority(authority: bytes | None, hosts: list[bytes]) -> list[bytes]:
    """Return the lines of `Host`: a client must not say two different things (RFC 9113, 8.3.1)."""
    if authority is None:
        return [b"host:" + host for host in hosts]
    if re.search(rb"[^\x21-\x7e]", authority):
        raise _Malformed(":authority must be visible ASCII")
    if any(host.lower() != authority.lower() for host in hosts):
        raise _Malformed(":authority and Host must be the same")
    return [b"host:" + authority]
