"""A request and its header fields, as handlers see them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final
from urllib.parse import parse_qsl

# The parameters in which a client that cannot set the header puts its last event id, without case, hyphens
# and underscores: `last_event_id` is our own, and pages write it; `lastEventId` and `evs_last_event_id` are
# those of EventSource polyfills, and `Last-Event-ID` and `lastEventID` those of Mercure.
_LAST_EVENT_ID_PARAMETERS = ("lasteventid", "evslasteventid")
_OWN_PARAMETER = "last_event_id"
_IGNORED_IN_PARAMETERS = str.maketrans("", "", "-_")

# The ids of a hub end with numbers that grow: `EPOCH.NUMBER` or `NUMBER-NUMBER`. Positions of the single
# subscriptions of a connection may follow.
_COUNTED_ID = re.compile(r"((?:[0-9A-Za-z_-]+\.)?)([0-9]{1,20})(?:-([0-9]{1,20}))?(?:~.*)?", re.ASCII)

_CHUNKED_BODY_SIZE = 1024 * 1024
_MAX_CACHED_LINES = 4 * 1024


@final
class Headers:
    """A request's header fields, in order; names are case-insensitive.

    They are stored as the lines that arrived, and searched on demand. A stream lives for an hour and looks at
    its headers once, and small objects for each field would take a third of all its memory.
    """

    __slots__ = ("_block",)

    def __init__(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Store fields that have been checked."""
        self._block = b"\r\n" + b"".join([b"%b:%b\r\n" % field for field in fields])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each field, in lower case, and its value."""
        for name, value in raw_fields(self):
            yield name.decode("ascii"), value.decode("latin-1")

    def __len__(self) -> int:
        return self._block.count(b"\r\n") - 1

    def __repr__(self) -> str:
        return f"<Headers: {', '.join(name for name, _ in self)}>"  # values may be credentials

    def get_all(self, name: str) -> list[str]:
        """Return the values of all fields of this name."""
        # Search the block instead of looking at each line: most fields that are asked for are not there.
        block, before = self._block.lower(), _before_value(name)
        values: list[str] = []
        start = block.find(before)
        while start != -1:
            end = block.index(b"\r\n", start + len(before))
            values.append(self._block[start + len(before) : end].strip(b" \t").decode("latin-1"))
            start = block.find(before, end)
        return values

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of the first field of this name, or `default`."""
        before = _before_value(name)
        start = self._block.lower().find(before)
        if start == -1:
            return default
        start += len(before)
        return self._block[start : self._block.index(b"\r\n", start)].strip(b" \t").decode("latin-1")

    def __contains__(self, name: str) -> bool:
        return _before_value(name) in self._block.lower()


NO_HEADERS = Headers([])


def headers_of_lines(lines: bytes) -> Headers:
    """Return the headers of a head's lines, which have been checked and are joined by CRLF."""
    headers = object.__new__(Headers)
    headers._block = b"\r\n%b\r\n" % lines if lines else b"\r\n"
    return headers


def are_same(headers: Headers, others: Headers) -> bool:
    """Return whether two requests have the same fields, byte by byte, so that they can share them."""
    return headers._block == others._block


def mentions(headers: Headers, text: bytes) -> bool:
    """Return whether the fields contain a text in lower case, wherever that is; much faster than parsing."""
    return text in headers._block.lower()


def replace_field(headers: Headers, name: bytes, value: bytes) -> Headers:
    """Return headers with one field of this name, in lower case; its value has been checked."""
    return Headers([(name, value), *(field for field in raw_fields(headers) if field[0] != name)])


def find_lines(headers: Headers, pattern: re.Pattern[bytes]) -> list[tuple[bytes, bytes]]:
    """Return the groups of all matches of a pattern whose first match begins with a line's CRLF."""
    return pattern.findall(headers._block)


def raw_fields(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the fields as bytes, with names in lower case, as ASGI has them."""
    block = headers._block
    return list(_split_cached(block) if len(block) <= _MAX_CACHED_LINES else _split(block))


def _split(block: bytes) -> tuple[tuple[bytes, bytes], ...]:
    split = [line.partition(b":") for line in block.split(b"\r\n")[1:-1]]
    return tuple([(name.lower(), value.strip(b" \t")) for name, _, value in split])


_split_cached = lru_cache(maxsize=64)(_split)  # a client sends the same fields with request after request


@lru_cache(maxsize=256)
def _before_value(name: str) -> bytes:
    return b"\r\n%b:" % name.lower().encode("latin-1", "replace")


@final
@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """An HTTP request, checked.

    Attributes:
        method: in upper case.
        target: the path and query as they were sent. Log only its path: a query may hold credentials.
        path: the path, decoded.
        headers: the header fields.
        http_version: "1.0" or "1.1".
        peer: the client's address, as text for people to read.
        body: the whole body; empty if there is none.
    """

    method: str
    target: str
    path: str
    headers: Headers
    http_version: str
    peer: str
    body: bytes

    def __repr__(self) -> str:
        path = self.target.partition("?")[0]  # the query and the body may have credentials
        return f"<Request {self.method} {path} from {self.peer}>"

    @property
    def query_string(self) -> str:
        """The query as it was sent, without its question mark."""
        return self.target.partition("?")[2]

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, decoded; a repeated one has its last value."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    @property
    def last_event_id(self) -> str | None:
        """The id to resume from, of the header `Last-Event-ID` or of the query; `None` without one.

        A page may have put an id into the URL, to which a client adds a newer one when it reconnects. So of
        several ids of one log, the newest counts. If that is unclear, the header's comes first, then
        those of other parameters than `last_event_id`, the last one of each first.
        """
        return find_last_event_id(self.headers, self.query_string)


@final
class _UnfrozenRequest:
    """What becomes a `Request`: setting the attributes of a frozen one takes four times as long."""

    __slots__ = Request.__slots__

    def __init__(
        self,
        method: str,
        target: str,
        path: str,
        headers: Headers,
        http_version: str,
        peer: str,
        body: bytes,
    ) -> None:
        self.method = method
        self.target = target
        self.path = path
        self.headers = headers
        self.http_version = http_version
        self.peer = peer
        self.body = body


def make_request(
    method: str, target: str, path: str, headers: Headers, http_version: str, peer: str, body: bytes
) -> Request:
    """Return a `Request`, as calling the class does, but faster: a server makes one for each stream."""
    made: Any = _UnfrozenRequest(method, target, path, headers, http_version, peer, body)
    made.__class__ = Request
    request: Request = made
    return request


def announced_body_size(request: Request) -> int:
    """Return how many bytes of body may follow a request's head, beyond `request.body`.

    A chunked body has no announced size; for it, this is as much as a server accepts by default.
    """
    if "transfer-encoding" in request.headers:
        size = _CHUNKED_BODY_SIZE
    else:
        length = request.headers.get("content-length") or ""
        size = int(length) if length.isdecimal() and length.isascii() else 0
    return max(size - len(request.body), 0)


def find_last_event_id(headers: Headers, query_string: str) -> str | None:
    """Return the id to resume from; see `Request.last_event_id`."""
    header = headers.get("last-event-id")
    if header:
        header = header.encode("latin-1").decode("utf-8", "replace")  # WHATWG sends it as UTF-8
    if not query_string:
        return header or None
    ids = [header] if header else []
    own: list[str] = []
    for name, value in reversed(parse_qsl(query_string)):
        if name == _OWN_PARAMETER:
            own.append(value)
        elif name.translate(_IGNORED_IN_PARAMETERS).lower() in _LAST_EVENT_ID_PARAMETERS:
            ids.append(value)
    return _newest_id([*ids, *own])


def _newest_id(ids: list[str]) -> str | None:
    """Return the newest of the ids that have the form of the first one; of equal ones, the first."""
    if len(ids) < 2:
        return ids[0] if ids else None
    newest, found = ids[0], _count_of(ids[0])
    for id in ids[1:] if found is not None else ():
        count = _count_of(id)
        if count is not None and found is not None and count[0] == found[0] and count > found:
            newest, found = id, count
    return newest


def _count_of(id: str) -> tuple[str, int, int] | None:
    """Return an id's epoch and numbers; `None` if it is none of a hub's."""
    match = _COUNTED_ID.fullmatch(id)
    if match is None:
        return None
    return match[1] + ("-" if match[3] else ""), int(match[2]), int(match[3] or 0)
