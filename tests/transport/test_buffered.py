"""Transports that buffer: what `send_nowait` keeps, and what a flush leaves behind."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from trio_sse._transport.base import read_to_end
from trio_sse._transport.stream import StreamTransport


async def test_send_nowait_buffers_and_counts() -> None:
    ours, _ = memory_stream_pair()
    transport = StreamTransport(ours, "test")
    assert not transport.send_nowait(b"three", 3, trio.current_time())
    transport.flush_nowait(trio.current_time())
    assert transport.pending == b"three"
    assert (transport.events_sent, transport.bytes_sent) == (3, 5)
    assert (transport.peer, transport.peer_host, transport.endpoints) == ("test", "test", (None, None))


async def test_a_flush_sends_what_is_pending(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    transport = StreamTransport(ours, "test")
    transport.send_nowait(b"payload", 1, trio.current_time())
    await trio.sleep(5)
    await transport.flush_some()
    assert transport.pending is None
    assert transport.written_at == trio.current_time()
    assert await theirs.receive_some() == b"payload"
    await transport.flush_some()  # nothing is pending


async def test_after_a_cancelled_flush_nothing_more_is_sent(autojump_clock: MockClock) -> None:
    ours, theirs = lockstep_stream_pair()
    transport = StreamTransport(ours, "test")
    transport.send_nowait(b"payload", 1, trio.current_time())
    with trio.move_on_after(1) as scope:
        await transport.flush_some()  # the peer does not read
    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError):
        await transport.flush_some()
    await transport.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await theirs.send_all(b"x")


async def test_a_disconnect_is_one_error() -> None:
    ours, theirs = memory_stream_pair()
    transport = StreamTransport(ours, "test")
    transport.send_nowait(b"payload", 1, trio.current_time())
    await theirs.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await transport.flush_some()
    await transport.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await transport.receive_some()


async def test_discarded_bytes_count_as_unread() -> None:
    ours, theirs = memory_stream_pair()
    transport = StreamTransport(ours, "test")
    await theirs.send_all(b"unexpected")
    assert await transport.discard_some()
    assert transport.unread_bytes() == len("unexpected")
    await theirs.aclose()
    assert not await transport.discard_some()


@pytest.mark.parametrize(("pause", "seconds"), [(1, 30), (6, 5)])
async def test_what_a_peer_still_sends_is_read_for_a_bounded_time(
    autojump_clock: MockClock, pause: float, seconds: float
) -> None:
    async def receive() -> bytes:
        await trio.sleep(pause)
        return b"more"

    with trio.fail_after(100):
        await read_to_end(receive)
    assert trio.current_time() == pytest.approx(seconds)
