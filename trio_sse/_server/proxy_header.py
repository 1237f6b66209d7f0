"""Receiving the header that a proxy sends before everything else on a connection.

Not a byte more is received: what follows is TLS or HTTP, and other code's. So what has arrived is looked at
first. As long as it is only a part of the header, all of it is taken; otherwise, what belongs to the header.
"""

from __future__ import annotations

import socket

import trio

from .._proxies.proxy_protocol import (
    MAX_HEADER_SIZE,
    ProxyHeader,
    ProxyHeaderError,
    Speaker,
    parse_proxy_header,
)
from .._request.request_reader import HEAD_SECONDS
from .._stream.draining import DRAIN_GRACE_SECONDS
from .._stream.scope import ServeScope
from .._transport.socket_address import ProxiedAddress, as_endpoint


async def receive_proxy_header(connected: socket.socket, address: object, serving: ServeScope) -> object:
    """Receive a header; return the address of the connection: the proxy's own, or what the proxy says.

    Raises:
        ProxyHeaderError: the peer has sent anything else, or not the whole header in time.
        trio.BrokenResourceError: the peer has disconnected, as a balancer does that only tries to connect.
    """
    received = bytearray()
    deadline = trio.current_time() + HEAD_SECONDS
    is_hurried = False
    while True:
        header = _take_available(connected, received)
        if header is not None:
            return _address_of(header, address)
        if serving.is_draining and not is_hurried:
            is_hurried = True
            deadline = min(deadline, trio.current_time() + DRAIN_GRACE_SECONDS)
        with trio.CancelScope(deadline=deadline) as scope:
            serving.waiting.add(scope)
            try:
                await trio.lowlevel.wait_readable(connected)
            finally:
                serving.waiting.discard(scope)
        if scope.cancelled_caught and (is_hurried or not serving.is_draining):
            raise ProxyHeaderError("the PROXY header did not arrive in time")


def _take_available(connected: socket.socket, received: bytearray) -> ProxyHeader | None:
    """Move what has arrived of the header to `received`; return the header if it is complete."""
    try:
        available = connected.recv(MAX_HEADER_SIZE - len(received), socket.MSG_PEEK)
    except BlockingIOError:
        return None
    except OSError as error:
        raise trio.BrokenResourceError("the peer has reset the connection") from error
    if not available:
        raise trio.BrokenResourceError("the peer has closed the connection before a PROXY header")
    header = parse_proxy_header(bytes(received + available))
    missing = len(available) if header is None else header.size - len(received)
    received += connected.recv(missing)
    return header


def _address_of(header: ProxyHeader, own: object) -> object:
    if header.speaker is Speaker.PROXY:
        return own
    if header.speaker is Speaker.UNKNOWN_CLIENT:
        return ProxiedAddress(as_endpoint(own), None, None)
    if header.speaker is Speaker.UNIX_CLIENT:
        return ProxiedAddress(None, None, "unix")
    assert header.source is not None
    return ProxiedAddress(header.source, header.destination, header.source[0])
