"""Connections that take long before there is a request, or never send one."""

from __future__ import annotations

import os

import trio

from benchmarks.hostile.peer import Peer

_HEAD = b"GET /live HTTP/1.1\r\nHost: test\r\nX-Slow: " + b"a" * 1000 + b"\r\n\r\n"
_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40


async def silent(peer: Peer) -> None:
    """Connect and say nothing."""
    await peer.read()


async def slow_heads(peer: Peer) -> None:
    """Send a head, a byte a second."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.drip, _HEAD)
        await peer.read()
        nursery.cancel_scope.cancel()


async def large_heads(peer: Peer) -> None:
    """Send nearly as much of a head as is allowed, and then nothing."""
    await peer.send(_HEAD[:-4] + (b"\r\nX-More: " + b"b" * 1000) * 14)
    await peer.read()


async def garbage(peer: Peer) -> None:
    """Send what is no HTTP at all."""
    await peer.send(os.urandom(200) + b"\r\n\r\n")
    await peer.read()


async def stalled_handshakes(peer: Peer) -> None:
    """Begin a TLS handshake, and go no further."""
    await peer.send(_HELLO)
    await peer.read()


async def slow_handshakes(peer: Peer) -> None:
    """Begin a TLS handshake, a byte a second."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.drip, _HELLO)
        await peer.read()
        nursery.cancel_scope.cancel()


async def silent_after_handshake(peer: Peer) -> None:
    """Do the TLS handshake, and send nothing more."""
    secured = await peer.start_tls()
    while await secured.receive_some():
        pass


ATTACKS = {
    attack.__name__: attack
    for attack in (
        silent,
        slow_heads,
        large_heads,
        garbage,
        stalled_handshakes,
        slow_handshakes,
        silent_after_handshake,
    )
}
