"""One HTTP/2 stream as a transport, and its connection's writer, without sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse._transport.base import HandleState
from trio_sse._transport.http2_stream import Http2StreamTransport
from trio_sse._transport.http2_writer import FLUSH_SIZE
from trio_sse._transport.pending_bytes import PendingBytes

from ..support.checkpoints import Interruption, interrupt_at_each_checkpoint
from ..support.http2_wire import HEAD, Link, sized
from ..support.transport_listener import Listener

WINDOW = 65_535  # of a stream and of the connection, as long as the client says nothing else
LARGE = bytes(range(256)) * 400  # 102,400 bytes


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()


@pytest.fixture
async def link(nursery: trio.Nursery) -> Link:
    return Link(nursery)


def send(transport: Http2StreamTransport, payload: bytes) -> bool:
    return transport.send_nowait(payload, 1, trio.current_time())


async def flush_all(transport: Http2StreamTransport) -> None:
    while transport.pending is not None:
        await transport.flush_some()


# Heads and ends


@pytest.mark.parametrize(
    ("method", "payloads", "received"),
    [
        ("GET", [HEAD], "200"),
        ("GET", [HEAD + b"12345", b"678"], "200; 5 bytes; 3 bytes"),
        ("GET", [sized(b"12345")], "200; 5 bytes; end"),
        ("GET", [sized(b"", 5), b"12", b"345"], "200; 2 bytes; 3 bytes; end"),
        ("GET", [sized(b"")], "200; end"),
        ("GET", [b"HTTP/1.1 204 No Content\r\n\r\n"], "204; end"),
        ("GET", [b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"], "304; end"),
        ("GET", [b"HTTP/1.1 100 Continue\r\n\r\n", sized(b"1")], "100; 200; 1 bytes; end"),
        ("GET", [b"HTTP/1.1 103 Early Hints\r\n\r\n" + sized(b"1")], "103; 200; 1 bytes; end"),
        ("HEAD", [sized(b"", 5)], "200; end"),
        ("HEAD", [HEAD + b"not a body of HEAD"], "200; end"),
        ("GET", [b"", HEAD], "200"),
    ],
)
async def test_heads_and_bodies_become_frames(
    link: Link, method: str, payloads: list[bytes], received: str
) -> None:
    transport = link.asks(1, method)
    for payload in payloads:
        send(transport, payload)
    assert link.received() == [f"1: {text}" for text in received.split("; ")]
    assert transport.pending is None
    assert (transport.events_sent, transport.bytes_sent) == (len(payloads), sum(map(len, payloads)))
    assert (1 in link.protocol.streams) == ("end" not in received)


async def test_a_response_ends_once_and_only_with_a_head(link: Link) -> None:
    transport = link.asks(1)
    transport.end_response()
    assert link.received() == []
    send(transport, HEAD)
    transport.end_response()
    transport.end_response()
    assert link.received() == ["1: 200", "1: end"]
    await transport.aclose()
    assert link.received() == []
    assert link.is_clean


async def test_a_response_ends_after_what_is_pending(link: Link) -> None:
    transport = link.asks(1)
    assert not send(transport, HEAD + LARGE)
    transport.end_response()
    assert "1: end" not in link.received()
    transport = transport.hand_over()  # who has it from now on need not know
    link.opens_window(0, 1 << 20)
    link.opens_window(1, 1 << 20)
    await flush_all(transport)
    assert link.received()[-1] == "1: end"
    assert link.bodies[1] == LARGE
    assert link.is_clean


# Windows


@pytest.mark.parametrize("narrow", [0, 1], ids=["connection", "stream"])
async def test_what_does_not_fit_into_a_window_waits(link: Link, narrow: int) -> None:
    wide = 1 - narrow
    transport = link.asks(1)
    link.opens_window(wide, 1 << 20)
    assert not send(transport, HEAD + LARGE)
    assert link.received() == ["1: 200", *["1: 16384 bytes"] * 3, "1: 16383 bytes"]
    assert transport.pending is not None
    assert len(transport.pending) == len(LARGE) - WINDOW
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush_all, transport)
        await wait_all_tasks_blocked()
        link.opens_window(narrow, 10)
        await wait_all_tasks_blocked()
        assert link.received() == ["1: 10 bytes"]
        link.opens_window(narrow, 1 << 20)
    link.received()
    assert link.bodies[1] == LARGE
    assert send(transport, b"next")
    assert link.received() == ["1: 4 bytes"]


@pytest.mark.parametrize("narrow", [0, 1], ids=["connection", "stream"])
async def test_small_events_wait_for_a_window_too(link: Link, narrow: int) -> None:
    transport = link.asks(1)
    link.opens_window(1 - narrow, 1 << 20)
    send(transport, HEAD)
    assert all(send(transport, bytes(1000)) for _ in range(WINDOW // 1000))
    assert not send(transport, bytes(1000))
    link.received()
    assert len(link.bodies[1]) == WINDOW


async def test_a_task_that_waits_is_not_counted_as_a_disconnect_at_the_end(link: Link) -> None:
    transport = link.asks(1)
    assert not send(transport, sized(LARGE))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush_all, transport)
        await wait_all_tasks_blocked()
        link.opens_window(0, 1 << 20)
        link.opens_window(1, 1 << 20)  # all of it can be sent, and the stream ends
    assert link.received()[-1] == "1: end"
    assert link.is_clean


async def test_what_is_appended_follows_what_waits(link: Link) -> None:
    transport = link.asks(1)
    assert not send(transport, HEAD + LARGE)
    transport.append_pending(b"and more", 2)
    link.opens_window(0, 1 << 20)
    link.opens_window(1, 1 << 20)
    await flush_all(transport)
    link.received()
    assert link.bodies[1] == LARGE + b"and more"
    assert (transport.events_sent, transport.bytes_sent) == (3, len(HEAD + LARGE) + 8)


async def test_a_window_may_become_negative(link: Link) -> None:
    transport = link.asks(1)
    send(transport, HEAD + bytes(1000))
    link.client_sends(_initial_window(500))
    assert not send(transport, b"event")
    for _ in range(2):
        link.opens_window(1, 250)
        transport.flush_nowait(0.0)
        assert transport.pending is not None
    link.opens_window(1, 5)
    transport.flush_nowait(0.0)
    assert transport.pending is None
    link.received()
    assert link.bodies[1] == bytes(1000) + b"event"


def _initial_window(size: int) -> bytes:
    return b"\0\0\6\4\0\0\0\0\0" + b"\0\4" + size.to_bytes(4)


async def test_a_shut_window_holds_up_nobody_else(link: Link) -> None:
    shut, other = link.asks(1), link.asks(3)
    link.opens_window(0, 1 << 20)
    assert not send(shut, HEAD + LARGE)
    assert send(other, HEAD)
    for _ in range(10):
        assert send(other, LARGE[:5000])
    link.received()
    assert len(link.bodies[3]) == 50_000


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
async def test_streams_share_a_window_fairly(link: Link, order: tuple[int, ...]) -> None:
    transports = [link.asks(number) for number in (1, 3, 5)]
    for transport in transports:
        link.opens_window(transport._stream.id, 1 << 22)
    send(transports[0], HEAD + LARGE)
    assert [send(transport, HEAD + LARGE * 10) for transport in transports[1:]] == [False, False]
    async with trio.open_nursery() as nursery:
        for number in order:
            nursery.start_soon(flush_all, transports[number])
            await wait_all_tasks_blocked()
        for _ in range(12):
            first = next(iter(link.writer.waiting))
            wanted = first.wanted
            link.opens_window(0, 100_000)
            assert first.wanted < wanted  # in whatever order the tasks run now
            await wait_all_tasks_blocked()
        link.received()
        assert link.bodies[1] == LARGE
        sizes = [len(link.bodies[number]) for number in (3, 5)]
        assert abs(sizes[0] - sizes[1]) < 4 * FLUSH_SIZE
        assert min(sizes) > 300_000
        link.opens_window(0, 1 << 22)
    link.received()
    assert link.bodies[3] == link.bodies[5] == LARGE * 10
    assert not link.writer.waiting


# A socket that takes nothing


async def test_streams_wait_for_a_socket_that_is_full(link: Link) -> None:
    transports = [link.asks(number) for number in (1, 3)]
    for transport in transports:
        assert send(transport, HEAD)
    link.received()
    link.wire.room = 0
    assert send(transports[0], b"fits into the buffer")
    link.flush()
    assert link.writer.is_blocked
    assert [send(transport, b"event") for transport in transports] == [False, False]
    async with trio.open_nursery() as nursery:
        for transport in transports:
            nursery.start_soon(flush_all, transport)
        await wait_all_tasks_blocked()
        assert len(link.writer.waiting) == 2
        link.wire.open()
        await wait_all_tasks_blocked()
    assert not link.writer.is_blocked
    assert sorted(link.received()) == ["1: 20 bytes", "1: 5 bytes", "3: 5 bytes"]


async def test_no_more_than_one_write_is_kept_for_a_full_socket(link: Link) -> None:
    link.opens_window(0, 1 << 24)
    transports = [link.asks(number) for number in range(1, 101, 2)]
    for transport in transports:
        assert send(transport, HEAD)
    link.received()
    link.wire.room = 0
    for _ in range(20):
        for transport in transports:
            if transport.pending is None:
                send(transport, bytes(1000))
        link.flush()
    kept = len(link.wire.pending or b"") + link.protocol.output_size
    assert kept < 2 * FLUSH_SIZE
    assert all(transport.pending is not None for transport in transports)


async def test_a_client_that_takes_nothing_is_given_up(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    link = Link(nursery, write_timeout=5)
    transport, listener = link.asks(1), TimeoutListener()
    send(transport, HEAD)
    link.received()
    transport.watch(listener)
    link.wire.room = 0
    send(transport, b"event")
    link.flush()
    await trio.sleep(4.9)
    assert (link.is_lost, listener.timeouts) == (False, 0)
    await trio.sleep(0.2)
    assert (link.is_lost, listener.timeouts) == (True, 1)
    assert link.is_clean


async def test_a_connection_that_is_cut_for_what_waits_makes_slow_consumers(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    counts = PendingBytes(1000)
    links, listeners = (
        [Link(nursery, counts=counts) for _ in range(2)],
        [TimeoutListener(), TimeoutListener()],
    )
    for link, listener in zip(links, listeners, strict=True):
        transport = link.asks(1)
        send(transport, HEAD)
        link.received()
        transport.watch(listener)
        link.wire.room = 0
        send(transport, bytes(900))
        link.flush()
        await trio.sleep(1)
    assert [link.is_lost for link in links] == [True, False]
    assert [listener.cuts for listener in listeners] == [1, 0]


class TimeoutListener(Listener):
    def __init__(self) -> None:
        super().__init__()
        self.timeouts = self.cuts = 0

    def on_pending_cut(self) -> None:
        self.cuts += 1

    def on_write_timeout(self) -> None:
        self.timeouts += 1


# What the client sends


async def test_a_body_arrives_in_pieces_and_opens_the_windows(link: Link) -> None:
    transport = link.asks(1, "POST", is_whole=False)
    assert transport.receive_nowait() is None
    sent = 0
    for size in (10_000, 16_384, 16_384, 16_384):
        link.uploads(1, LARGE[sent : sent + size])
        sent += size
    assert transport.unread_bytes() == sent
    received = b""
    while data := transport.receive_nowait():
        received += data
    assert received == LARGE[:sent]
    updates = [int(text.split()[-1]) for text in link.received() if text.startswith("1: window")]
    assert 0 < sum(updates) <= sent
    link.uploads(1, b"end", is_end=True)
    assert [await transport.receive_some() for _ in range(3)] == [b"end", b"", b""]
    assert transport.unread_bytes() == 0


async def test_no_byte_opens_the_window_twice(link: Link) -> None:
    """A body that is read after the stream has ended was counted when it ended."""
    for number in range(1, 201, 2):
        transport = link.asks(number, "POST", is_whole=False)
        link.uploads(number, bytes(10_000), is_end=True)
        send(transport, sized(b"ok"))
        while transport.receive_nowait():
            pass
        await transport.aclose()
        link.received()
    window = link.protocol._receive_window + link.protocol._credit
    assert window == 1024 * 1024, "the client may send more or less than before"


# Resets, in each state

Prepare = Callable[[Http2StreamTransport], None]


def nothing(transport: Http2StreamTransport) -> None:
    pass


def head(transport: Http2StreamTransport) -> None:
    assert send(transport, HEAD)


def part(transport: Http2StreamTransport) -> None:
    assert not send(transport, HEAD + LARGE)


def part_of_announced(transport: Http2StreamTransport) -> None:
    assert not send(transport, sized(LARGE))


def ending(transport: Http2StreamTransport) -> None:
    part(transport)
    transport.end_response()


def complete(transport: Http2StreamTransport) -> None:
    assert send(transport, sized(b"whole"))


BEFORE = [nothing, head, part, part_of_announced, ending, complete]


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("prepare", BEFORE)
async def test_a_reset_is_noticed_at_once(link: Link, prepare: Prepare, is_whole: bool) -> None:
    transport, listener = link.asks(1, "POST", is_whole=is_whole), Listener()
    transport.watch(listener)
    prepare(transport)
    link.received()
    is_open = 1 in link.protocol.streams
    outcomes: list[type[Exception] | None] = []

    async def wait(function: Callable[[], Awaitable[object]]) -> None:
        try:
            await function()
        except trio.BrokenResourceError as error:
            outcomes.append(type(error))

    async with trio.open_nursery() as nursery:
        if is_open:
            nursery.start_soon(wait, transport.discard_some)
            if transport.pending is not None:
                nursery.start_soon(wait, transport.flush_some)
        await wait_all_tasks_blocked()
        link.resets(1)
    assert len(outcomes) == is_open * (1 + (transport.pending is not None))
    assert listener.disconnects == is_open
    transport.end_response()
    if transport.pending is None:
        assert send(transport, b"late") is (prepare is complete and not is_open) or transport.pending
    await transport.aclose()
    assert link.received() == []
    assert link.is_clean


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("prepare", BEFORE)
async def test_closing_says_whether_the_response_was_complete(
    link: Link, prepare: Prepare, is_whole: bool, autojump_clock: MockClock
) -> None:
    transport = link.asks(1, "POST", is_whole=is_whole)
    transport.watch(Listener())
    prepare(transport)
    link.received()
    with trio.CancelScope() as scope:
        scope.cancel()
        await transport.aclose(abort=True)
    await trio.sleep(1)
    if prepare is complete:
        assert link.received() == ([] if is_whole else ["1: NO_ERROR"])
    else:
        assert link.received() == ["1: INTERNAL_ERROR"]
    assert transport.state is HandleState.CLOSED
    assert not send(transport, b"late")
    link.opens_window(1, 10)
    link.resets(1)
    assert link.received() == []
    assert link.is_clean


@pytest.mark.parametrize(("size", "is_wanted"), [(100_000, True), (2_000_000, False)])
async def test_the_rest_of_a_request_is_read_off_if_it_is_small(
    link: Link, size: int, is_wanted: bool, autojump_clock: MockClock
) -> None:
    """Clients may lose the response if its stream is reset while they send, as behind HAProxy."""
    transport = link.asks(1, "POST", is_whole=False)
    send(transport, sized(b"413"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.linger)
        for sent in range(0, size, 10_000):
            if nursery.child_tasks:
                link.uploads(1, b"x" * 10_000, is_end=sent + 10_000 == size)
            await wait_all_tasks_blocked()
    await transport.aclose()
    await trio.sleep(1)
    seen = [text for text in link.received() if text.startswith("1: ") and "window" not in text]
    assert seen[:3] == ["1: 200", "1: 3 bytes", "1: end"]
    assert seen[3:] == ([] if is_wanted else ["1: NO_ERROR"])
    assert link.is_clean


@pytest.mark.parametrize("prepare", BEFORE)
async def test_the_end_of_the_connection_is_noticed_at_once(link: Link, prepare: Prepare) -> None:
    transport, listener = link.asks(1, "POST", is_whole=False), Listener()
    transport.watch(listener)
    prepare(transport)
    link.protocol.lose_all()
    assert listener.disconnects == 1
    new = Listener()
    transport.watch(new)  # too late, and told so
    assert new.disconnects == 1
    with pytest.raises(trio.BrokenResourceError):
        await transport.receive_some()
    if transport.pending is not None:
        with pytest.raises(trio.BrokenResourceError):
            await transport.flush_some()
    await transport.aclose()
    assert link.is_clean


@pytest.mark.parametrize("opens", [True, False])
async def test_a_flush_that_is_cancelled_anywhere_leaves_no_trace(
    nursery: trio.Nursery, opens: bool, autojump_clock: MockClock
) -> None:
    async def scenario(interruption: Interruption) -> None:
        link = Link(nursery)
        first, second = link.asks(1), link.asks(3)
        for transport in (first, second):
            link.opens_window(transport._stream.id, 1 << 20)
            send(transport, HEAD + LARGE)
        with trio.CancelScope() as scope:
            task = trio.lowlevel.current_task()
            interruption.begin(scope.cancel, lambda other: other is task)
            nursery.start_soon(_open_soon, link, opens)
            with trio.move_on_after(1):
                await flush_all(first)
        interruption.end()
        await first.aclose()
        with trio.move_on_after(1):
            await flush_all(second)
        await second.aclose()
        assert link.is_clean

    assert await interrupt_at_each_checkpoint(scenario) > 0


async def _open_soon(link: Link, opens: bool) -> None:
    for _ in range(3):
        await trio.sleep(0.1)
        if opens:
            link.opens_window(0, 50_000)
