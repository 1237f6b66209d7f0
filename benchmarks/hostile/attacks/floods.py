"""As many connections, requests and frames as fit."""

from __future__ import annotations

import os

import trio

from benchmarks.hostile.peer import UPGRADE, Peer

_STREAM = b"GET /live HTTP/1.1\r\nHost: test\r\n\r\n"
_MASK = b"\x00\x00\x00\x00"


async def connection_resets(peer: Peer) -> None:
    """Connect, and reset."""
    peer.reset()


async def stream_resets(peer: Peer) -> None:
    """Open a stream, and reset the connection when its head has come."""
    await peer.send(_STREAM)
    await peer.stream.receive_some(1)
    peer.reset()


async def bytes_after_streams(peer: Peer) -> None:
    """Open a stream, and send on and on."""
    await peer.send(_STREAM)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.read)
        while True:
            await peer.send(os.urandom(4096))


async def websocket_pings(peer: Peer) -> None:
    """Open a WebSocket, and send pings, but read no answers."""
    await peer.send(UPGRADE)
    await peer.stream.receive_some()
    while True:
        await peer.send((b"\x89\xfd" + _MASK + b"p" * 125) * 100)


async def websocket_fragments(peer: Peer) -> None:
    """Open a WebSocket, and send empty fragments of a message that never ends."""
    await peer.send(UPGRADE)
    await peer.stream.receive_some()
    await peer.send(b"\x01\x80" + _MASK)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.read)
        while True:
            await peer.send((b"\x00\x80" + _MASK) * 500)


async def requests(peer: Peer) -> None:
    """Send requests, and read their answers, as fast as they come."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.read)
        for _ in range(20):
            await peer.send(b"GET /nowhere/%b HTTP/1.1\r\nHost: test\r\n\r\n" % os.urandom(8).hex().encode())
        nursery.cancel_scope.cancel()


ATTACKS = {
    attack.__name__: attack
    for attack in (
        connection_resets,
        stream_resets,
        bytes_after_streams,
        websocket_pings,
        websocket_fragments,
        requests,
    )
}
