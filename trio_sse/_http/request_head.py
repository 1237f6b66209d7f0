"""HTTP/1.1 request heads: which are accepted, and how they are parsed.

h11 accepts some heads that RFC 9112 forbids, or that have been used to smuggle requests past proxies. So
every head is checked here first, on its bytes. A doubtful request is refused: two parsers that disagree are
how requests are smuggled.

A head that has passed these checks and announces no body is split here. Parsing it with h11 would return the
same fields, as the tests show, but add a third to the cost of setting up a stream. Only heads that announce
a body go through h11, as a second opinion on the fields that say where the body ends.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, final
from urllib.parse import unquote_to_bytes

import h11

from .exceptions import HTTPException
from .fields import DNS_LABELS, FIELD_VALUE, SINGLE_FIELDS, TOKEN, is_token, list_of
from .request import Headers, headers_of_lines, replace_field

MAX_METHOD_SIZE = 32  # the longest that is registered has 17
MAX_QUERY_FIELDS = 100

# Thousands of clients ask for the same few things. So this many request lines, hosts and paths that have
# passed are cached, which also lets connections share their strings. And a client sends the same fields with
# request after request, so those of the last ones are cached, too, unless they are large.
_CACHE_SIZE = 64
_MAX_CACHED_LINES = 4 * 1024

_TOKEN = TOKEN.encode()
_REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])" % _TOKEN)

# RFC 9112, 3.2 allows fewer characters. Browsers leave those others unencoded (WHATWG URL, 1.3), `|` in paths
# too, so only what they never send is refused.
_NOT_IN_TARGET = re.compile(rb"""[#"<>]|^[^?]*[\\^`{}]""")
_FIELD_NAME = re.compile(_TOKEN)
_FIELD_LINES = re.compile(rb"(?:%b:%b\r\n)*" % (_TOKEN, FIELD_VALUE.encode()))
_DIGITS = re.compile(r"[0-9]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

#: A name has encoded characters, too (RFC 3986, 3.2.2), but no encoded control characters; for `re`.
HOST_NAME = DNS_LABELS + r"(?:[0-9A-Za-z._~!$&'()*+,;=-]|%(?![01][0-9A-Fa-f]|7[Ff])[0-9A-Fa-f]{2})+"
_HOST = re.compile(rf"(\[[0-9A-Fa-f:.]+\]|{HOST_NAME})(:[0-9]{{0,5}})?")
_ABSOLUTE_FORM = re.compile(r"([Hh][Tt][Tt][Pp][Ss]?)://([^/?]*)(/[^?]*)?(\?.*)?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_IN_PATH = re.compile("[\0-\x1f\x7f]")

# Most requests have few of the fields that decide something, so their names are looked for only once.
_DECISIVE_FIELDS = (
    "connection",
    "content-length",
    "expect",
    "host",
    "sec-websocket-protocol",
    "transfer-encoding",
    "upgrade",
)
_KNOWN_FIELD = re.compile(rb"\n(%b):" % "|".join(SINGLE_FIELDS + _DECISIVE_FIELDS).encode())
_SINGLE_FIELDS = frozenset(name.encode() for name in SINGLE_FIELDS)
_DECISIVE = frozenset(name.encode() for name in _DECISIVE_FIELDS)


class HeadLimits(NamedTuple):
    """The bounds on a head, in bytes and fields."""

    size: int = 16 * 1024
    target_size: int = 8 * 1024
    fields: int = 100


LIMITS = HeadLimits()

# Data tables send filters in targets, and single sign-on sends tokens in cookies. uvicorn accepts 64 KiB.
APP_LIMITS = HeadLimits(size=64 * 1024, target_size=32 * 1024, fields=256)


@final
@dataclass(slots=True)  # a NamedTuple, or a frozen one, takes much longer to make, and each stream makes one
class RequestHead:
    """A request's head, checked.

    Attributes:
        method, target, http_version: of the request line; the target is in origin-form, or `*`.
        path: the target's path, decoded.
        host: the requested host, without its port, in lower case; empty if the request names none.
        headers: the header fields. If the target was in absolute-form, its authority is the `Host` field.
        content_length: the body's length in bytes; `None` if it is chunked.
        known: the names, in lower case, of its fields that say how the request is to be answered.
    """

    method: str
    target: str
    path: str
    http_version: str
    host: str
    headers: Headers
    content_length: int | None
    known: Collection[bytes]

    @property
    def keeps_alive(self) -> bool:
        """Whether the client may send another request on this connection (RFC 9112, 9.3)."""
        if self.http_version != "1.1":
            return False
        if b"connection" not in self.known:
            return True
        options = ",".join(self.headers.get_all("connection")).lower()
        return "close" not in options or "close" not in list_of(options)


def take_head(buffer: bytearray, limits: HeadLimits = LIMITS) -> RequestHead | None:
    """Take a request's head from the start of the buffer; return `None` if it is incomplete.

    Raises:
        HTTPException: the head is refused; the connection must not carry another request.
    """
    end = buffer.find(b"\r\n\r\n")
    if 0 <= end <= limits.size - 4:
        head = bytes(buffer[:end])
        del buffer[: end + 4]
        return parse_head(head, limits)
    if buffer:
        _check_incomplete(buffer, limits)
    return None


def _check_incomplete(buffer: bytearray, limits: HeadLimits) -> None:
    """Refuse an incomplete head that can no longer become acceptable, instead of waiting for its end."""
    line, line_end, _ = buffer.partition(b"\r\n")
    if line_end:
        _check_request_line(bytes(line), limits)
    else:
        method = _FIELD_NAME.match(buffer, 0, MAX_METHOD_SIZE + 1)
        if method is None and buffer != b"\r":
            raise HTTPException(400, "a request must begin with its method")
        if method is not None and method.end() > MAX_METHOD_SIZE:
            raise _unknown_method()
        if len(buffer) > limits.target_size + 64:
            raise _target_too_long(limits)
    if len(buffer) > limits.size:
        raise HTTPException(431, f"the request's head must have at most {limits.size} bytes")
    line_ends = buffer.count(b"\r\n")
    if buffer.count(b"\n") != line_ends or buffer.count(b"\r", 0, -1) != line_ends:
        raise HTTPException(400, "lines of the head must end with CRLF")


def parse_head(head: bytes, limits: HeadLimits = LIMITS) -> RequestHead:
    """Check and parse a head, without the empty line at its end.

    Raises:
        HTTPException: the head is refused.
    """
    request_line, _, block = head.partition(b"\r\n")
    method, target, version = _check_request_line(request_line, limits)
    try:
        if block.count(b"\r\n") >= limits.fields:
            raise HTTPException(431, f"a request must have at most {limits.fields} header fields")
        parse = _parse_cached if len(block) <= _MAX_CACHED_LINES else _parse_lines
        headers, host, content_length, known = parse(block, version)
        if not target.startswith("/") and target != "*":
            host, target, headers = _use_absolute(target, headers)
        path = decode_path(target)
    except HTTPException as refusal:
        refusal.answers_head = method == "HEAD"
        raise
    return RequestHead(method, target, path, version, host, headers, content_length, known)


class _Lines(NamedTuple):
    """What the lines of a head's fields say; see `RequestHead`."""

    headers: Headers
    host: str
    content_length: int | None
    known: Collection[bytes]


def _parse_lines(block: bytes, version: str) -> _Lines:
    """Check and parse the lines of a head's fields.

    Raises:
        HTTPException: the head is refused.
    """
    if block and not _FIELD_LINES.fullmatch(block + b"\r\n"):
        raise _field_error(block)
    known: list[bytes] = _KNOWN_FIELD.findall(b"\n%b" % block.lower())
    hosts = known.count(b"host")
    if len(known) - hosts > 1 and any(known.count(name) > 1 for name in _SINGLE_FIELDS.intersection(known)):
        raise HTTPException(400, "a header field that has one value must not be repeated")
    headers = headers_of_lines(block)
    content_length: int | None = 0
    if b"content-length" in known or b"transfer-encoding" in known:
        content_length = _check_body_length(headers, version)
        headers = Headers(_parse_fields(b"POST / HTTP/%b\r\n%b" % (version.encode(), block)))
    if hosts != 1 and (hosts or version != "1.0"):
        raise HTTPException(400, "a request must have one Host field")
    host = _parse_authority(headers.get("host") or "") if hosts else ""
    if b"sec-websocket-protocol" in known and not all(
        value.isascii() for value in headers.get_all("sec-websocket-protocol")
    ):
        raise HTTPException(400, "Sec-WebSocket-Protocol must be ASCII")
    return _Lines(headers, host, content_length, tuple(_DECISIVE.intersection(known)))


_parse_cached = lru_cache(maxsize=_CACHE_SIZE)(_parse_lines)


@lru_cache(maxsize=_CACHE_SIZE)
def decode_path(target: str) -> str:
    """Return the decoded path of a target; refuse one that is not UTF-8 or has control characters."""
    path = target.partition("?")[0]
    if _BAD_ESCAPE.search(path):
        raise HTTPException(400, "the path has a malformed percent-encoding")
    if "%" not in path:
        return path
    try:
        decoded = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise HTTPException(400, "the path must be UTF-8") from None
    if _NOT_IN_PATH.search(decoded):
        raise HTTPException(400, "the path must not have control characters")
    return decoded


def _check_request_line(line: bytes, limits: HeadLimits) -> tuple[str, str, str]:
    """Return the method, the target as it was sent, and the version."""
    if len(line) > limits.target_size:
        match = _REQUEST_LINE.fullmatch(line)
        _check_method(line)
        if match is None or len(match[2]) > limits.target_size:
            raise _target_too_long(limits)
    return _parse_request_line(line)


@lru_cache(maxsize=_CACHE_SIZE)
def _parse_request_line(line: bytes) -> tuple[str, str, str]:
    """Return the method, the target as it was sent, and the version."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        _check_method(line)
        raise HTTPException(400, "the request line must be: method SP target SP HTTP/1.1")
    method, target, major, minor = match.groups()
    if (major, minor) not in ((b"1", b"0"), (b"1", b"1")):
        raise HTTPException(505, "this server supports HTTP/1.1 and HTTP/1.0")
    if len(method) > MAX_METHOD_SIZE:
        raise _unknown_method()
    if method in (b"CONNECT", b"TRACE"):
        raise HTTPException(405, headers={"Allow": "GET, HEAD, POST, OPTIONS"})
    is_acceptable = (
        target.startswith(b"/")
        or (target == b"*" and method == b"OPTIONS")
        or _ABSOLUTE_FORM.fullmatch(target.decode("ascii")) is not None
    )
    if not is_acceptable or _NOT_IN_TARGET.search(target):
        raise HTTPException(
            400, "the target must be a path that begins with '/', encoded, and without a fragment"
        )
    return method.decode("ascii"), target.decode("ascii"), "1.1" if minor == b"1" else "1.0"


def _check_method(line: bytes) -> None:
    """Refuse a request line whose method is too long; what is no method at all is not."""
    method = _FIELD_NAME.match(line)
    if method is not None and method.end() > MAX_METHOD_SIZE:
        raise _unknown_method()


def _target_too_long(limits: HeadLimits) -> HTTPException:
    return HTTPException(414, f"the target must have at most {limits.target_size} bytes")


def _unknown_method() -> HTTPException:
    return HTTPException(501, f"a method must have at most {MAX_METHOD_SIZE} bytes")


def _parse_fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """Parse a head with h11; return its fields, with names in lower case."""
    try:
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(head + b"\r\n\r\n")
        request = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise HTTPException(error.error_status_hint, "the request's head is malformed") from error
    if not isinstance(request, h11.Request):
        raise HTTPException(400, "the request's head is malformed")
    return [(name.lower(), value) for name, value in request.headers.raw_items()]


def _field_error(block: bytes) -> HTTPException:
    """Return the refusal of the first header field that is malformed."""
    for line in block.split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            return HTTPException(400, "a header field must be on one line")
        name, colon, value = line.partition(b":")
        if not colon or not _FIELD_NAME.fullmatch(name):
            return HTTPException(400, "a header field must be a name, a colon and a value")
        if _CONTROL.search(value):
            break
    return HTTPException(400, "a header field's value must not have control characters")


@lru_cache(maxsize=_CACHE_SIZE)
def _parse_authority(authority: str) -> str:
    match = _HOST.fullmatch(authority)
    if match is None or (authority[0] == "[" and not _is_ipv6(match[1][1:-1])):
        raise HTTPException(400, "the host must be a name or an address, with or without a port")
    return match[1].lower()


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _use_absolute(target: str, headers: Headers) -> tuple[str, str, Headers]:
    """Return the host, the origin-form, and the headers of a request whose target is in absolute-form.

    The target's authority counts, and not the Host field (RFC 9112, 3.2.2). A client sends the same in both;
    where they differ, somebody before us may have looked at the other one.
    """
    match = _ABSOLUTE_FORM.fullmatch(target)
    assert match is not None  # the request line has been checked
    scheme, authority, path, query = match.groups()
    host = _parse_authority(authority)
    field = headers.get("host")
    if field is not None and _normalize(field, scheme) != _normalize(authority, scheme):
        raise HTTPException(400, "the Host field must be that of the target")
    return host, (path or "/") + (query or ""), replace_field(headers, b"host", authority.encode("ascii"))


def _normalize(authority: str, scheme: str) -> tuple[str, str]:
    """Return the host in lower case, and the port."""
    match = _HOST.fullmatch(authority)
    assert match is not None  # it has been checked
    return match[1].lower(), (match[2] or ":")[1:] or _DEFAULT_PORTS[scheme.lower()]


def _check_body_length(headers: Headers, version: str) -> int | None:
    """Return the body's length, or `None` if it is chunked; refuse what two parsers may read differently.

    h11 would accept a length that is repeated or a list (RFC 9112, 6.3).
    """
    lengths = headers.get_all("content-length")
    codings = headers.get_all("transfer-encoding")
    if codings:
        if version == "1.0":
            raise HTTPException(400, "an HTTP/1.0 request must not have Transfer-Encoding")
        if lengths:
            raise HTTPException(400, "a request must not have both Content-Length and Transfer-Encoding")
        _check_codings(list_of(",".join(codings).lower()))
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
        raise HTTPException(400, "Content-Length must be one number")
    if len(lengths[0]) >= 20:
        raise HTTPException(413)
    return int(lengths[0])


def _check_codings(codings: list[str]) -> None:
    """Check that a body is chunked, and no more than that.

    Raises:
        HTTPException: 400 if nobody can tell where the body ends (RFC 9112, 6.3); 501 if it is also encoded.
    """
    if codings[-1] != "chunked" or codings.count("chunked") > 1 or not all(map(is_token, codings)):
        raise HTTPException(400, "the last Transfer-Encoding must be chunked")
    if len(codings) > 1:
        raise HTTPException(501, "the only supported Transfer-Encoding is chunked")
