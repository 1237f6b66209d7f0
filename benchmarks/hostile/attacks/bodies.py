"""Requests whose bodies take long, or never end."""

from __future__ import annotations

import trio

from benchmarks.hostile.peer import UPGRADE, Peer

_MIB = 1024 * 1024


def _head(path: str, field: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: test\r\n{field}\r\n\r\n".encode()


async def _drip(peer: Peer, head: bytes, body: bytes) -> None:
    await peer.send(head)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.drip, body)
        await peer.read()
        nursery.cancel_scope.cancel()


async def slow_bodies(peer: Peer) -> None:
    """Send a body of known length, a byte a second."""
    await _drip(peer, _head("/upload", "Content-Length: 1000"), b"a" * 1000)


async def slow_chunks(peer: Peer) -> None:
    """Send a chunked body, a byte a second."""
    await _drip(peer, _head("/upload", "Transfer-Encoding: chunked"), b"1\r\na\r\n" * 200)


async def unfinished_bodies(peer: Peer) -> None:
    """Send all of the largest body but its last byte."""
    await peer.send(_head("/upload", f"Content-Length: {_MIB}") + bytes(_MIB - 1))
    await peer.read()


async def unfinished_app_bodies(peer: Peer) -> None:
    """Send an app all of a body but its last byte."""
    await peer.send(_head("/app", f"Content-Length: {_MIB}") + bytes(_MIB - 1))
    await peer.read()


async def unfinished_messages(peer: Peer) -> None:
    """Send all of a WebSocket's largest message but its last byte."""
    await peer.send(UPGRADE)
    await peer.stream.receive_some()
    await peer.send(b"\x82\xff" + _MIB.to_bytes(8) + b"\x00\x00\x00\x00" + bytes(_MIB - 1))
    await peer.read()


async def tiny_chunks(peer: Peer) -> None:
    """Send chunks of one byte as fast as possible."""
    await peer.send(_head("/upload", "Transfer-Encoding: chunked"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.read)
        for _ in range(1000):
            await peer.send(b"1\r\na\r\n" * 1000)
        nursery.cancel_scope.cancel()


ATTACKS = {
    attack.__name__: attack
    for attack in (
        slow_bodies,
        slow_chunks,
        unfinished_bodies,
        unfinished_app_bodies,
        unfinished_messages,
        tiny_chunks,
    )
}
