"""The server's side of a WebSocket's opening handshake (RFC 6455, 4.2).

A browser lets any page open a WebSocket to any host, with that host's cookies, and only sends the page's
origin along. So the origin is checked here, by default (RFC 6455, 10.2).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection, Sequence
from typing import final

from .cors import check_origins
from .exceptions import HTTPException
from .fields import is_token, list_of
from .request import Headers
from .response import encode_head

#: The subprotocol in which a client subscribes, publishes and resumes; see `docs/websocket.md`.
SUBPROTOCOL = "trio-sse.v1"

_UPGRADE = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def asks_for_websocket(headers: Headers) -> bool:
    """Return whether a request asks for the connection to become a WebSocket."""
    return "upgrade" in headers and "websocket" in _options(headers, "upgrade")


def check_handshake(method: str, http_version: str, headers: Headers) -> None:
    """Check that a request is a handshake.

    Raises:
        HTTPException: 426 if it asks for another version or for no WebSocket; 400 if it is malformed.
    """
    if not asks_for_websocket(headers) or method != "GET" or http_version == "1.0":
        raise HTTPException(426, "this path is a WebSocket: open it with an HTTP/1.1 GET request", _UPGRADE)
    if headers.get_all("sec-websocket-version") != ["13"]:
        raise HTTPException(426, "the WebSocket version must be 13", _UPGRADE)
    if "upgrade" not in _options(headers, "connection"):
        raise HTTPException(400, "a WebSocket handshake must have Connection: Upgrade")
    keys = headers.get_all("sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        raise HTTPException(400, "a WebSocket handshake must have one key of 16 bytes, in base64")


def check_denial(status: int, http_version: str) -> None:
    """Check the status with which an app denies a handshake.

    Raises:
        ValueError: the client would take it for an acceptance: over HTTP/2, any 2xx (RFC 8441, 5).
    """
    if http_version >= "2" and 200 <= status < 300:
        raise ValueError(f"a WebSocket cannot be denied with {status}: over HTTP/2, that accepts it")


@final
class Handshake:
    """What one path requires of a handshake.

    Args:
        origins: the other origins whose pages may open the WebSocket; `*` for all.
        subprotocols: those that the path supports, the preferred one first.

    Raises:
        TypeError, ValueError: an option is not acceptable.
    """

    def __init__(self, *, origins: Collection[str], subprotocols: Sequence[str]) -> None:
        check_origins("origins", origins)
        if isinstance(subprotocols, str):
            raise TypeError("subprotocols must be a sequence of names, not one str")
        for name in subprotocols:
            if not is_token(name):
                raise ValueError(f"a subprotocol must be a token of ASCII letters and digits, not {name!r}")
        self._origins = frozenset(origins)
        self._subprotocols = tuple(map(str.__str__, subprotocols))

    def check_origin(self, headers: Headers) -> None:
        """Check the origin of the page that opens the WebSocket. Only browsers send one.

        Raises:
            HTTPException: 403 if pages of this origin may not open it.
        """
        origins = headers.get_all("origin")
        if not origins or "*" in self._origins or (len(origins) == 1 and origins[0] in self._origins):
            return
        scheme, _, authority = origins[0].partition("://")
        port = _DEFAULT_PORTS.get(scheme)
        host = (headers.get("host") or "").lower()
        if len(origins) > 1 or port is None or authority.lower() != host.removesuffix(port) or not host:
            raise HTTPException(403, "pages of this origin may not open this WebSocket")

    def subprotocol(self, headers: Headers) -> str | None:
        """Return the preferred subprotocol among those that the client offers; `None` if there is none."""
        offered = _options(headers, "sec-websocket-protocol", lower=False)
        return next((name for name in self._subprotocols if name in offered), None)


def offered_subprotocols(headers: Headers) -> list[str]:
    """Return the subprotocols that the client offers, in its order of preference."""
    return [name for name in _options(headers, "sec-websocket-protocol", lower=False) if name]


def accept_head(
    headers: Headers, subprotocol: str | None, more_fields: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """Return the head of the response that accepts a checked handshake, without any extension."""
    key = (headers.get("sec-websocket-key") or "").encode()
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept}
    if subprotocol is not None:
        fields["Sec-WebSocket-Protocol"] = subprotocol
    head = encode_head(101, fields)
    more = b"".join(b"%b: %b\r\n" % field for field in more_fields)
    return head.removesuffix(b"\r\n") + more + b"\r\n" if more else head


def _options(headers: Headers, name: str, *, lower: bool = True) -> list[str]:
    value = ",".join(headers.get_all(name))
    return list_of(value.lower() if lower else value)


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
