"""Clients that read slowly, or not at all."""

from __future__ import annotations

import math
import random
import re

import trio

from benchmarks.hostile.peer import UPGRADE, Peer

# Those that are not hostile, and how fast they read: 320 KiB/s.
_HONEST = 0.1
_PIECE = 16 * 1024
_PIECE_SECONDS = 0.05


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


async def unread_streams(peer: Peer) -> None:
    """Open a stream of large events, and read nothing: the window is zero."""
    await peer.send(_get("/bulk"))
    await peer.hold()


async def slowly_read_streams(peer: Peer) -> None:
    """Open a stream of large events, and read a byte a second."""
    await peer.send(_get("/bulk"))
    await peer.read_slowly()


async def unread_responses(peer: Peer) -> None:
    """Ask for a large response, and read nothing."""
    await peer.send(_get("/large"))
    await peer.hold()


async def responses_that_some_read(peer: Peer) -> None:
    """Ask for a large response. One peer in ten is not hostile, and must get all of it, or a refusal."""
    await peer.send(_get("/large"))
    if random.random() >= _HONEST:
        await peer.hold()
        return
    received = b""
    try:
        while len(received) < _length(received) and (data := await peer.stream.receive_some(_PIECE)):
            received += data
            await trio.sleep(_PIECE_SECONDS)
    except trio.BrokenResourceError:
        pass
    if received:
        peer.counts["whole" if len(received) >= _length(received) else "cut"] += 1


def _length(received: bytes) -> float:
    """Return how many bytes a response has, with its head."""
    head, separator, _ = received.partition(b"\r\n\r\n")
    announced = re.search(rb"\r\nContent-Length: (\d+)", head)
    return len(head + separator) + int(announced[1]) if separator and announced else math.inf


async def slowly_read_responses(peer: Peer) -> None:
    """Ask for a large response, and read a byte a second."""
    await peer.send(_get("/large"))
    await peer.read_slowly()


async def unread_app_responses(peer: Peer) -> None:
    """Ask an app for a large response, and read nothing."""
    await peer.send(_get("/app"))
    await peer.hold()


async def unread_websockets(peer: Peer) -> None:
    """Open a WebSocket of large events, and read nothing."""
    await peer.send(UPGRADE)
    await peer.hold()


async def unread_pipelines(peer: Peer) -> None:
    """Send requests one after the other, and read none of the answers."""
    for _ in range(200):
        await peer.send(_get("/healthz") * 20)


ATTACKS = {
    attack.__name__: attack
    for attack in (
        unread_streams,
        slowly_read_streams,
        unread_responses,
        responses_that_some_read,
        slowly_read_responses,
        unread_app_responses,
        unread_websockets,
        unread_pipelines,
    )
}
