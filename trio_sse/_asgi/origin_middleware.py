"""What proxies have changed about a request, in the scope that another server has made of it.

Trusted ones say so in header fields. Where all of them remove a prefix of the path, the root path says it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import final

from .._http.request import Headers
from .._proxies.forwarded import (
    FORWARDED_HEADERS,
    ForwardedReader,
    encode_root_path,
    meant_host,
    parse_root_path,
)
from .._proxies.trusted_proxies import UNIX, TrustedProxies
from .types import ASGIApp, Receive, Scope, Send

_SECURE = ("https", "wss")


@final
class OriginMiddleware:
    """An app whose requests and WebSockets have the client, scheme, host and root path that proxies name.

    Args:
        root_path: counts where no proxy names one, as that of `trio_sse.Server`.

    Raises:
        TypeError, ValueError: an option is not acceptable; see `trio_sse.Server`.
    """

    def __init__(
        self,
        app: ASGIApp,
        trusted_proxies: Collection[str],
        forwarded_headers: Collection[str] = FORWARDED_HEADERS,
        *,
        root_path: str = "",
    ) -> None:
        self._app = app
        self._proxies = TrustedProxies(trusted_proxies)
        self._reader = ForwardedReader(self._proxies, forwarded_headers)
        self._root_path = parse_root_path(root_path) if root_path else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            client = scope.get("client")
            is_trusted = self._proxies.trusts(str(client[0]) if client else UNIX)
            prefix = self._resolve(scope) if is_trusted else None
            if prefix is not None or self._root_path:
                _put_below(scope, self._root_path if prefix is None else prefix)
        await self._app(scope, receive, send)

    def _resolve(self, scope: Scope) -> str | None:
        """Put into the scope what the fields say; return the prefix that they name."""
        fields = [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]
        forwarded = self._reader.read(Headers([field for field in fields if b"\n" not in b"".join(field)]))
        if forwarded is None:
            return None
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
        return forwarded.prefix


def _put_below(scope: Scope, root_path: str) -> None:
    """Put the path of a scope below one that a proxy has removed."""
    scope["root_path"] = root_path
    scope["path"] = root_path + scope["path"]
    if scope.get("raw_path") is not None:
        scope["raw_path"] = encode_root_path(root_path) + scope["raw_path"]
