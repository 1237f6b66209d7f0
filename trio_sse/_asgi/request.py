"""A request, made from an ASGI scope."""

from __future__ import annotations

from .._http.request import Headers, Request
from .types import STREAMS, Scope


def request_of(scope: Scope, body: bytes = b"") -> Request:
    """Return the request that an HTTP scope describes."""
    path = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    target = path.partition(b"?")[0] + (b"?" + query if query else b"")
    # The server has checked the fields. But one with a line feed in it would be read as several fields here.
    fields = [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]
    return Request(
        method=scope["method"],
        target=target.decode("latin-1"),
        path=scope["path"],
        headers=Headers([field for field in fields if b"\n" not in b"".join(field)]),
        http_version=scope["http_version"],
        peer=_peer(scope.get("client")),
        body=body,
    )


def _peer(client: object) -> str:
    if not isinstance(client, tuple | list) or not client:
        return "unknown"
    host, port = client[0], client[1] if len(client) > 1 else None
    if not port:  # it is not known
        return str(host)
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def announces_body(scope: Scope) -> bool:
    """Return whether the head of a request of HTTP/1.1 says that it has a body."""
    fields = {bytes(name).lower(): bytes(value) for name, value in scope.get("headers", ())}
    return b"transfer-encoding" in fields or fields.get(b"content-length", b"0").strip(b"0 ") != b""


def may_have_body(scope: Scope) -> bool:
    """Return whether a request may have a body, by its head and by what our server knows.

    Where it has none, nobody must wait for it: middleware that has asked whether the client has left may have
    taken the message that says so.
    """
    known: object = getattr((scope.get("extensions") or {}).get(STREAMS), "has_body", None)
    if isinstance(known, bool):
        return known
    if announces_body(scope):
        return True
    if scope.get("http_version", "1.1") < "2" or scope["method"] in ("GET", "HEAD"):
        return False
    return all(bytes(name).lower() != b"content-length" for name, _ in scope.get("headers", ()))
