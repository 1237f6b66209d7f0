"""Where a request comes from: decided once for each request, before anything else looks at it.

A proxy sends the requests of many clients on one connection, so the decision concerns one request. The
transport has it until the next one: whatever asks for the client's address gets the one that counts. Where
proxies say which host the client has asked for, that replaces the `Host` field, too.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import final

from .._http.request import replace_field
from .._http.request_head import RequestHead
from .._proxies.forwarded import ForwardedReader, meant_host
from .._transport.base import RequestOrigin, Transport
from .options import ProxyOptions

_CACHE_SIZE = 64


@final
class OriginResolver:
    """Decides where requests come from, if the server trusts any proxy."""

    def __init__(self, options: ProxyOptions) -> None:
        # Most requests come from the few addresses of the proxies.
        self._trusts = lru_cache(maxsize=_CACHE_SIZE)(options.proxies.trusts)
        self._reader = ForwardedReader(options.proxies, options.forwarded_headers)

    def resolve(self, transport: Transport, head: RequestHead) -> RequestHead:
        """Set the origin of a transport's request; return the head as the client has meant it."""
        speaker = transport.speaker
        if speaker is None or not self._trusts(speaker):
            return head
        forwarded = self._reader.read(head.headers)
        if forwarded is None:
            return head
        is_secure = None if forwarded.scheme is None else forwarded.scheme == "https"
        field, server = meant_host(
            forwarded,
            head.headers.get("host") or "",
            is_secure=transport.is_secure if is_secure is None else is_secure,
        )
        if field is not None:
            headers = replace_field(head.headers, b"host", field.encode("ascii"))
            head = replace(head, host=forwarded.host or head.host, headers=headers)
        transport.origin = RequestOrigin(forwarded.client, server, is_secure, forwarded.prefix)
        return head
