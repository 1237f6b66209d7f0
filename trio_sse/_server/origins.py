"""Where a request comes from: decided once for each request, before anything else looks at it.

A proxy sends the requests of many clients on one connection, so the decision concerns one request. The
transport has it until the next one: whatever asks for the client's address gets the one that counts. Where
proxies say which host the client has asked for, that replaces the `Host` field, too.
"""

from __future__ import annotations

from typing import final

from .._http.request import replace_field
from .._http.request_head import RequestHead
from .._proxies.forwarded import Forwarded, ForwardedReader
from .._transport.base import RequestOrigin, Transport
from .options import ProxyOptions

_DEFAULT_PORTS = {False: 80, True: 443}


@final
class OriginResolver:
    """Decides where requests come from, if the server trusts any proxy."""

    def __init__(self, options: ProxyOptions) -> None:
        self._proxies = options.proxies
        self._reader = ForwardedReader(self._proxies, options.forwarded_headers)

    def resolve(self, transport: Transport, head: RequestHead) -> RequestHead:
        """Set the origin of a transport's request; return the head as the client has meant it."""
        speaker = transport.speaker
        if speaker is None or not self._proxies.trusts(speaker):
            return head
        forwarded = self._reader.read(head.headers)
        if forwarded is None:
            return head
        is_secure = None if forwarded.scheme is None else forwarded.scheme == "https"
        default_port = _DEFAULT_PORTS[transport.is_secure if is_secure is None else is_secure]
        server = None
        if forwarded.host is not None or forwarded.port is not None:
            head, server = _replace_host(head, forwarded, default_port)
        transport.origin = RequestOrigin(forwarded.client, server, is_secure, forwarded.prefix)
        return head


def _replace_host(
    head: RequestHead, forwarded: Forwarded, default_port: int
) -> tuple[RequestHead, tuple[str, int] | None]:
    """Return a head with the host that the client has asked for, and that host and port.

    A port that the client has written into the host counts more than one that is only named by itself.
    """
    host, port = forwarded.host, forwarded.port
    if host is None:
        host = head.host
        field = head.headers.get("host") or ""
        own_port = field[len(host) + 1 :]
        if own_port or not host:
            return head, (host.strip("[]"), int(own_port)) if own_port else None
    port = port or default_port
    if forwarded.host is not None or port != default_port:
        authority = host if port == default_port else f"{host}:{port}"
        headers = replace_field(head.headers, b"host", authority.encode("ascii"))
        head = head._replace(host=host, headers=headers)
    return head, (host.strip("[]"), port)
