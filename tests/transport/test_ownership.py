"""Who owns a connection: every edge of the table in `_transport/base.py`, on every transport."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from trio_sse._asgi.transport import ASGITransport
from trio_sse._stream.disconnects import DisconnectWatcher
from trio_sse._transport.base import HandleState, Transport
from trio_sse._transport.socket import SocketTransport
from trio_sse._transport.stream import StreamTransport
from trio_sse._transport.tls import TLSTransport
from trio_sse._wire.message import Framing

from ..support.certificates import Contexts
from ..support.checkpoints import Interruption, interrupt_at_each_checkpoint
from ..support.http2_wire import HEAD, Link
from ..support.leaks import LeakCheck
from ..support.transport_listener import Listener
from ..support.waiting import SECONDS

OWNED, MOVED, CLOSED = HandleState

KINDS = ["socket", "tls", "stream", "asgi", "http2"]
ON_SOCKETS = KINDS[:2]


@dataclass
class Pair:
    """A transport, and what its peer sees."""

    transport: Any
    received: Callable[[int], Awaitable[bytes]]
    send: Callable[[bytes], Awaitable[None]]
    watcher: DisconnectWatcher | None = None

    @property
    def watched(self) -> int:
        return 0 if self.watcher is None else len(self.watcher)


Make = Callable[[str], Any]


async def read_exactly(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await stream.receive_some(count - len(data))
        assert piece, data
        data += piece
    return data


@pytest.fixture
def make(no_leak: LeakCheck, contexts: Contexts) -> Make:
    """Make pairs of every kind."""

    @asynccontextmanager
    async def pair(kind: str) -> AsyncIterator[Pair]:
        if kind == "asgi":
            async with asgi() as made:
                yield made
            return
        if kind == "http2":
            async with http2() as made:
                yield made
            return
        if kind == "stream":
            ours, theirs = memory_stream_pair()
            transport: Transport = StreamTransport(ours, "peer")
            yield of(transport, theirs, None)
            await transport.aclose()
            await theirs.aclose()
            return
        async with on_socket(contexts if kind == "tls" else None) as made:
            yield made

    return pair


def of(transport: Transport, theirs: trio.abc.Stream, watcher: DisconnectWatcher | None) -> Pair:
    async def received(count: int) -> bytes:
        return await read_exactly(theirs, count)

    return Pair(transport, received, theirs.send_all, watcher)


@asynccontextmanager
async def asgi() -> AsyncIterator[Pair]:
    sent = bytearray()
    gone = trio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        sent.extend(message["body"])

    async def received(count: int) -> bytes:
        return bytes(sent[:count])

    async def leave(data: bytes) -> None:
        gone.set()

    yield Pair(ASGITransport(send, gone.wait, "peer", survives=False), received, leave)


@asynccontextmanager
async def http2() -> AsyncIterator[Pair]:
    async with trio.open_nursery() as nursery:
        link = Link(nursery)
        transport = link.asks(1, "POST", is_whole=False)
        transport.send_nowait(HEAD, 0, trio.current_time())
        transport.bytes_sent = 0

        async def received(count: int) -> bytes:
            while len(link.bodies.get(1, b"")) < count:
                link.opens_window(0, count)
                link.opens_window(1, count)
                await wait_all_tasks_blocked()
                link.received()
            return link.bodies[1][:count]

        async def upload(data: bytes) -> None:
            link.uploads(1, data)

        pair = Pair(transport, received, upload)
        yield pair
        await pair.transport.aclose()
        assert link.is_clean
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def on_socket(contexts: Contexts | None) -> AsyncIterator[Pair]:
    left, right = socket.socketpair()
    for each in (left, right):
        each.setblocking(False)
    watcher = DisconnectWatcher()
    theirs: trio.abc.Stream = trio.SocketStream(trio.socket.from_stdlib_socket(right))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watcher.run)
        if contexts is None:
            transport = SocketTransport(left, ("peer", 1), watcher)
        else:
            transport = TLSTransport(left, ("peer", 1), contexts.server, ssl.MemoryBIO(), watcher)
            secured = trio.SSLStream(theirs, contexts.client, server_hostname="localhost")
            async with trio.open_nursery() as handshakes:
                handshakes.start_soon(secured.do_handshake)
                handshakes.start_soon(transport.handshake)
            theirs = secured
        pair = of(transport, theirs, watcher)
        yield pair
        await pair.transport.aclose(abort=True)
        await trio.aclose_forcefully(theirs)
        nursery.cancel_scope.cancel()


async def refuse(handle: Any, state: HandleState) -> None:
    """Check that a handle which owns nothing refuses everything, and changes nothing."""
    assert handle.state is state
    receives = (handle.receive_some, handle.discard_some, handle.receive_unless_interrupted)
    for wait in (handle.flush_some, *receives):
        with pytest.raises(trio.ClosedResourceError):
            await wait()
    if not isinstance(handle, ASGITransport):
        with pytest.raises(trio.ClosedResourceError):
            await handle.linger()
    with pytest.raises(trio.ClosedResourceError):
        handle.hand_over()
    with pytest.raises(trio.ClosedResourceError):
        handle.receive_nowait()
    assert handle.unread_bytes() == 0
    handle.watch(Listener())
    handle.watch_soon(Listener())
    handle.unwatch()
    assert not handle.send_nowait(b"smuggled", 1, trio.current_time())
    assert handle.pending == b"smuggled"
    handle.flush_nowait(trio.current_time())
    assert handle.pending is not None
    with pytest.raises(trio.ClosedResourceError):
        await handle.flush_some()
    for abort in (False, True):
        await handle.aclose(abort=abort)
    assert handle.state is state
    assert "peer" in handle.peer


async def write(transport: Any, payload: bytes) -> None:
    transport.send_nowait(payload, 1, trio.current_time())
    while transport.pending is not None:
        await transport.flush_some()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_moved_handle_refuses_everything_and_the_new_one_goes_on(make: Make, kind: str) -> None:
    with trio.fail_after(SECONDS):
        async with make(kind) as pair:
            old = pair.transport
            old.framing = Framing.CHUNKED
            await write(old, b"first")
            new = pair.transport = old.hand_over()
            assert (type(new), new.state, new.framing) == (type(old), OWNED, Framing.CHUNKED)
            assert (new.events_sent, new.bytes_sent, new.peer) == (1, 5, old.peer)
            await refuse(old, MOVED)
            await write(new, b"second")
            assert await pair.received(11) == b"firstsecond"
            assert new.events_sent == 2


@pytest.mark.parametrize("watch", ["watch", "watch_soon"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_closed_handle_refuses_everything(make: Make, kind: str, watch: str) -> None:
    async with make(kind) as pair:
        getattr(pair.transport, watch)(Listener())
        await pair.transport.aclose()
        assert pair.watched == 0
        await refuse(pair.transport, CLOSED)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_close_has_closed(make: Make, kind: str) -> None:
    async with make(kind) as pair:
        pair.transport.watch(Listener())
        with trio.CancelScope() as scope:
            scope.cancel()
            await pair.transport.aclose()
        assert pair.watched == 0
        await refuse(pair.transport, CLOSED)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_handle_in_which_a_task_waits_is_not_moved(make: Make, kind: str) -> None:
    async with make(kind) as pair, trio.open_nursery() as nursery:
        transport = pair.transport
        nursery.start_soon(transport.receive_some)
        await wait_all_tasks_blocked()
        transport.watch(Listener())
        watched = pair.watched
        with pytest.raises(trio.BusyResourceError):
            transport.hand_over()
        assert (transport.state, pair.watched) == (OWNED, watched)
        nursery.cancel_scope.cancel()
    assert transport.state is not MOVED


@pytest.mark.parametrize("kind", [*ON_SOCKETS, "http2"])
async def test_what_is_pending_moves_with_the_connection(make: Make, kind: str) -> None:
    async with make(kind) as pair:
        old = pair.transport
        payload = bytes(range(256)) * 8192
        assert not old.send_nowait(payload, 1, trio.current_time())
        new = pair.transport = old.hand_over()
        assert old.pending is None
        async with trio.open_nursery() as nursery:

            async def flush() -> None:
                while new.pending is not None:
                    await new.flush_some()

            nursery.start_soon(flush)
            assert await pair.received(len(payload)) == payload


async def test_what_is_buffered_moves_with_the_connection(make: Make) -> None:
    async with make("stream") as pair:
        old = pair.transport
        old.send_nowait(b"buffered", 1, trio.current_time())
        new = pair.transport = old.hand_over()
        assert old.pending is None
        await new.flush_some()
        assert await pair.received(8) == b"buffered"


@pytest.mark.parametrize("watch", ["watch", "watch_soon"])
@pytest.mark.parametrize("kind", ON_SOCKETS)
async def test_moving_ends_the_watch_and_the_new_handle_may_watch(make: Make, kind: str, watch: str) -> None:
    async with make(kind) as pair:
        old, former, latter = pair.transport, Listener(), Listener()
        for each in ("watch", watch, "watch"):
            getattr(old, each)(former)
        getattr(old, watch)(former)
        assert pair.watched == 1
        new = pair.transport = old.hand_over()
        assert pair.watched == 0
        old.unwatch()
        getattr(new, watch)(latter)
        old.unwatch()  # it is no longer its to end
        assert pair.watched == 1
        new.socket.shutdown(socket.SHUT_RDWR)
        with trio.fail_after(SECONDS):
            while not latter.disconnects:  # noqa: ASYNC110  # the kernel, or a moment later
                await trio.sleep(0.001)
        assert not former.disconnects
        await new.aclose()
        assert pair.watched == 0


async def test_a_descriptor_that_is_used_again_is_watched_for_its_new_owner(no_leak: LeakCheck) -> None:
    watcher = DisconnectWatcher()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watcher.run)
        for _ in range(3):
            left, right = socket.socketpair()
            left.setblocking(False)
            listener = Listener()
            transport = SocketTransport(left, "", watcher)
            transport.watch(listener)
            right.close()
            await wait_all_tasks_blocked(0.01)
            assert listener.disconnects == 1
            await transport.aclose()
            assert len(watcher) == 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wait_that_is_cancelled_anywhere_leaves_a_handle_that_can_be_moved(
    make: Make, kind: str
) -> None:
    async def scenario(interruption: Interruption) -> None:
        async with make(kind) as pair:
            with trio.CancelScope() as scope:
                task = trio.lowlevel.current_task()
                interruption.begin(scope.cancel, lambda other: other is task)
                with trio.move_on_after(0.01):
                    await pair.transport.receive_some()
                await write(pair.transport, b"payload")
            interruption.end()
            old = pair.transport
            new = pair.transport = old.hand_over()
            await refuse(old, MOVED)
            await new.aclose(abort=True)
            assert pair.watched == 0

    assert await interrupt_at_each_checkpoint(scenario) > 0


@pytest.mark.parametrize("kind", ["socket", "tls", "stream"])
async def test_a_wait_can_be_interrupted_any_number_of_times(make: Make, kind: str) -> None:
    received: list[bytes | type[Exception] | None] = []

    async def receive() -> None:
        try:
            received.append(await transport.receive_unless_interrupted())
        except (trio.ClosedResourceError, trio.BrokenResourceError) as error:
            received.append(type(error))

    async with make(kind) as pair:
        transport = pair.transport
        transport.interrupt()  # nobody waits
        for step in ("interrupt", "interrupt", "send", "interrupt", "close"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await wait_all_tasks_blocked()
                with pytest.raises(trio.BusyResourceError):
                    transport.hand_over()
                if step == "send":
                    await pair.send(b"bytes")
                elif step == "interrupt":
                    transport.interrupt()
                else:
                    await transport.aclose()

    closed = trio.BrokenResourceError if kind == "stream" else trio.ClosedResourceError
    assert received == [None, None, b"bytes", None, closed]


async def test_other_tasks_run_where_bytes_are_there_already(make: Make) -> None:
    async with make("tls") as pair:
        await pair.send(b"bytes")
        while not pair.transport.unread_bytes():
            await trio.lowlevel.checkpoint()
        with trio.testing.assert_checkpoints():
            assert await pair.transport.receive_unless_interrupted() == b"bytes"
