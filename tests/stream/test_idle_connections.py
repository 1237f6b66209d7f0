"""Waiting for the next request of many connections, each for the same time."""

from __future__ import annotations

import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock, memory_stream_pair

from trio_sse._stream.idle_connections import IdleConnections
from trio_sse._transport.stream import StreamTransport


async def test_each_wait_ends_with_bytes_or_when_its_time_is_over(autojump_clock: MockClock) -> None:
    idle = IdleConnections()
    ended: list[tuple[str, float, bytes | None]] = []
    clients: dict[str, trio.StapledStream[MemorySendStream, MemoryReceiveStream]] = {}

    async def wait(name: str) -> None:
        ours, clients[name] = memory_stream_pair()
        data = await idle.receive(StreamTransport(ours, name), 10)
        ended.append((name, trio.current_time() - began_at, data))

    began_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(idle.run)
        for name in ("first", "second", "third"):
            nursery.start_soon(wait, name)
            await trio.sleep(1)
        await clients["first"].send_all(b"GET")
        await trio.sleep(20)  # nobody is idle any more
        nursery.start_soon(wait, "fourth")
        nursery.start_soon(wait, "fifth")
        await trio.sleep(1)
        idle.interrupt_all()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()

    assert ended[:3] == [("first", 3, b"GET"), ("second", 11, None), ("third", 12, None)]
    assert sorted(ended[3:]) == [("fifth", 24, None), ("fourth", 24, None)]
