"""What trusted proxies say about a request, in the scope that another server has made of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import final

from .._http.request import Headers
from .._proxies.forwarded import ForwardedReader, encode_root_path, meant_host
from .._proxies.trusted_proxies import UNIX, TrustedProxies
from .types import ASGIApp, Receive, Scope, Send

_SECURE = ("https", "wss")


@final
class OriginMiddleware:
    """An app whose requests and WebSockets have the client, scheme, host and root path that proxies name.

    Raises:
        TypeError, ValueError: an option is not acceptable; see `trio_sse.Server`.
    """

    def __init__(
        self, app: ASGIApp, trusted_proxies: Collection[str], forwarded_headers: Collection[str]
    ) -> None:
        self._app = app
        self._proxies = TrustedProxies(trusted_proxies)
        self._reader = ForwardedReader(self._proxies, forwarded_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            client = scope.get("client")
            if self._proxies.trusts(str(client[0]) if client else UNIX):
                self._resolve(scope)
        await self._app(scope, receive, send)

    def _resolve(self, scope: Scope) -> None:
        fields = [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]
        forwarded = self._reader.read(Headers([field for field in fields if b"\n" not in b"".join(field)]))
        if forwarded is None:
            return
        if forwarded.client is not None:
            scope["client"] = forwarded.client
        if forwarded.scheme is not None:
            names = {"http": "ws", "https": "wss"} if scope["type"] == "websocket" else {}
            scope["scheme"] = names.get(forwarded.scheme, forwarded.scheme)
        hosts = [value.decode("latin-1") for name, value in fields if name == b"host"]
        host, server = meant_host(
            forwarded, hosts[0] if hosts else "", is_secure=scope.get("scheme") in _SECURE
        )
        if host is not None:
            others = [(name, value) for name, value in fields if name != b"host"]
            scope["headers"] = [(b"host", host.encode("ascii")), *others]
        if server is not None:
            scope["server"] = server
        if forwarded.prefix is not None:
            scope["root_path"] = forwarded.prefix
            scope["path"] = forwarded.prefix + scope["path"]
            if scope.get("raw_path") is not None:
                scope["raw_path"] = encode_root_path(forwarded.prefix) + scope["raw_path"]
