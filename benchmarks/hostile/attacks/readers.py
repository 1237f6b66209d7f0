"""Clients that read slowly, or not at all."""

from __future__ import annotations

from benchmarks.hostile.peer import UPGRADE, Peer


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
        slowly_read_responses,
        unread_app_responses,
        unread_websockets,
        unread_pipelines,
    )
}
