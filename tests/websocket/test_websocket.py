"""Messages and broadcasts on WebSockets."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
import trio_websocket

from trio_sse import Connection, EndReason, Overflow, Response, Server
from trio_sse._wire.message import Batch, Framing, Message
from trio_sse.websocket import SUBPROTOCOL, WebSocketConnection

from ..support.certificates import Contexts
from ..support.leaks import MakeServer
from ..support.serving import OnSockets, in_memory, on_sockets
from ..support.waiting import SECONDS
from ..support.websocket_client import (
    BINARY,
    CONTINUATION,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    Frame,
    WebSocket,
    echo,
    encode,
    opened,
)
from ..support.websocket_handlers import Ends, idle, news

pytestmark = pytest.mark.usefixtures("protocol")


@asynccontextmanager
async def connected(
    served: OnSockets, path: str, *subprotocols: str
) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    """Open a WebSocket over a socket, by an independent client."""
    stream = (await served.connect()).stream
    assert isinstance(stream, trio.SocketStream | trio.SSLStream)
    async with trio.open_nursery() as nursery:
        try:
            websocket = await trio_websocket.wrap_client_stream(
                nursery, stream, "localhost", path, subprotocols=subprotocols
            )
            yield websocket
            await websocket.aclose()
        finally:
            await trio.aclose_forcefully(stream)  # it is not always closed by the library


async def subscribed(server: Server, count: int) -> None:
    """Wait until there are this many subscriptions."""
    while server.hub.statistics().subscriptions < count:  # noqa: ASYNC110  # nothing tells
        await trio.sleep(0.01)


# Messages


async def test_a_fragmented_message_arrives_whole_with_a_ping_in_between(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/echo")(echo)

    async with in_memory(server) as memory, opened(memory, "/echo") as websocket:
        await websocket.send(TEXT, "gr\u00fc".encode()[:-1], is_final=False)  # truncated inside a character
        await websocket.send(PING, b"still there?")
        await websocket.send(CONTINUATION, b"", is_final=False)
        await websocket.send(CONTINUATION, "\u00fc\u00df".encode()[1:])
        assert await websocket.frame() == Frame(PONG, b"still there?")
        assert await websocket.message() == "gr\u00fc\u00df"


async def test_every_length_form_is_written(make_server: MakeServer) -> None:
    server = make_server()

    @server.websocket("/sizes")
    async def sizes(websocket: WebSocketConnection) -> None:
        for size in (0, 125, 126, 65_535, 65_536):
            await websocket.send_bytes(bytes(size))
        await websocket.send_json({"n": [1, "\u00fc\ud83d"]})

    async with in_memory(server) as memory, opened(memory, "/sizes") as websocket:
        for size in (0, 125, 126, 65_535, 65_536):
            assert await websocket.message() == bytes(size)
        assert await websocket.message() == '{"n":[1,"\u00fc\\ud83d"]}'


async def test_many_small_frames_do_not_block_other_tasks(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/echo")(echo)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with in_memory(server) as memory, opened(memory, "/echo") as websocket:
        memory.nursery.start_soon(take_turns)
        await websocket.client.send(encode(PONG, b"") * 2000 + encode(PING, b"last"))
        assert await websocket.frame() == Frame(PONG, b"last")

    assert turns > 20


@pytest.mark.parametrize("is_fragmented", [False, True])
async def test_a_message_that_is_too_large_closes_with_1009(
    make_server: MakeServer, is_fragmented: bool
) -> None:
    server = make_server()
    server.websocket("/echo", max_message_size=1000)(echo)
    ends = Ends(server)

    async with in_memory(server) as memory, opened(memory, "/echo") as websocket:
        await websocket.send(BINARY, bytes(1000))
        assert await websocket.message() == bytes(1000)
        if is_fragmented:
            await websocket.send(TEXT, "\u00fc".encode() * 250, is_final=False)
            await websocket.send(CONTINUATION, "\u00fc".encode() * 251)
        else:
            await websocket.client.send(encode(BINARY, bytes(5000))[:4])  # the head is enough
        reason = "protocol_error: a message may have at most 1000 bytes"
        assert await websocket.close_code() == (1009, reason)
        assert await websocket.is_closed()

    assert ends.reasons == [EndReason.PROTOCOL_ERROR]


async def test_empty_fragments_take_no_memory(make_server: MakeServer) -> None:
    server = make_server()
    connections: list[WebSocketConnection] = []

    @server.websocket("/echo")
    async def ws(websocket: WebSocketConnection) -> None:
        connections.append(websocket)
        await echo(websocket)

    async with in_memory(server) as memory, opened(memory, "/echo") as websocket:
        await websocket.send(BINARY, b"", is_final=False)
        await websocket.client.send(encode(CONTINUATION, is_final=False) * 10_000)
        await trio.testing.wait_all_tasks_blocked()
        assert connections[0]._receiver._parser._message == b""
        await websocket.send(CONTINUATION, b"end")
        assert await websocket.message() == b"end"


@pytest.mark.http1_only
async def test_nothing_more_is_read_while_messages_wait(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server()
    wake_up = trio.Event()

    @server.websocket("/slow")
    async def slow(websocket: WebSocketConnection) -> None:
        await websocket.start()
        await wake_up.wait()
        await echo(websocket)

    async with in_memory(server) as memory, WebSocket(memory.connect_lockstep()) as websocket:
        await websocket.open("/slow")
        sent = 0
        with trio.move_on_after(1):
            while True:
                await websocket.send(TEXT, b"%d" % sent)
                sent += 1
        assert sent == 16
        wake_up.set()
        assert [await websocket.message() for _ in range(sent)] == [str(n) for n in range(sent)]


@pytest.mark.http1_only
async def test_the_bytes_of_waiting_messages_are_limited_too(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server()
    server.websocket("/idle", max_message_size=1000)(idle)

    async with in_memory(server) as memory, WebSocket(memory.connect_lockstep()) as websocket:
        await websocket.open("/idle")
        sent = 0
        with trio.move_on_after(1):
            while True:
                await websocket.send(BINARY, bytes(600))
                sent += 1
        assert sent == 2


@pytest.mark.http1_only
async def test_a_client_that_pings_and_never_reads_is_disconnected(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server()
    server.websocket("/echo")(echo)
    ends = Ends(server)

    async with in_memory(server) as memory, WebSocket(memory.connect_lockstep()) as websocket:
        await websocket.open("/echo")
        await websocket.send(PING, b"flood")  # nothing more is read while its answer waits
        with pytest.raises(trio.BrokenResourceError):
            await websocket.send(PING, b"flood")
        await trio.testing.wait_all_tasks_blocked()
        assert ends.reasons == [EndReason.WRITE_TIMEOUT]


async def test_a_cancelled_receive_loses_no_message(make_server: MakeServer) -> None:
    server = make_server()

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        await websocket.start()
        with trio.move_on_after(0):
            await websocket.receive()
        await websocket.send_text(f"got {await websocket.receive()!r}")

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        await websocket.send(TEXT, b"one")
        assert await websocket.message() == "got 'one'"


# Broadcasts


def test_a_batch_is_framed_once_and_its_messages_too() -> None:
    from trio_sse import ServerSentEvent

    messages = [
        Message("t", ServerSentEvent(text, event=kind), text)
        for text, kind in (("a\nb", "x"), ("\u00fc", None))
    ]
    for number, message in enumerate(messages, start=1):
        message.place(number, f"e.{number}")
    batch = Batch(messages)

    framed = batch.framed(Framing.WEBSOCKET)

    first, second = b'{"id":"e.1","event":"x","data":"a\\nb"}', '{"id":"e.2","data":"\u00fc"}'.encode()
    assert framed == b"\x81%c%b\x81%c%b" % (len(first), first, len(second), second)
    assert batch.framed(Framing.WEBSOCKET) is framed
    assert Batch(messages[:1]).messages[0].websocket_frame is messages[0].websocket_frame


async def test_a_published_event_reaches_streams_and_websockets(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/ws")(news)

    @server.route("/stream")
    async def stream(connection: Connection) -> None:
        await connection.subscribe("news")

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket, memory.connect() as client:
        await client.get("/stream")
        await trio.testing.wait_all_tasks_blocked()
        await server.hub.publish("news", {"n": 1}, event="update", retry=500)
        event = await client.event()
        assert await websocket.json() == {
            "id": event.id,
            "event": "update",
            "retry": 500,
            "data": '{"n":1}',
        }


async def test_a_client_resumes_by_the_id_in_its_query(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/ws")(news)

    async with in_memory(server) as memory:
        for number in range(5):
            await server.hub.publish("news", number)
        await trio.testing.wait_all_tasks_blocked()
        epoch = server.hub.last_event_id.partition(".")[0]
        async with opened(memory, f"/ws?last_event_id={epoch}.3") as websocket:
            assert [(await websocket.json())["data"] for _ in range(2)] == ["3", "4"]
        async with opened(memory, "/ws?last_event_id=unknown.1") as websocket:
            assert (await websocket.json())["event"] == "reset"


async def test_subscribe_takes_an_id_to_resume_from(make_server: MakeServer) -> None:
    server = make_server()

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        cursor = await websocket.receive()
        assert isinstance(cursor, str)
        await websocket.subscribe("news", last_event_id=cursor)

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        cursor = server.hub.last_event_id
        await server.hub.publish("news", "missed")
        await websocket.send(TEXT, cursor.encode())
        assert (await websocket.json())["data"] == "missed"


@pytest.mark.parametrize("overflow", [Overflow.DISCONNECT, Overflow.DROP_OLDEST])
@pytest.mark.http1_only
async def test_overflow_policies_apply(make_server: MakeServer, overflow: Overflow) -> None:
    server = make_server()
    ends = Ends(server)

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        await websocket.subscribe("news", overflow=overflow, queue=2)

    async with in_memory(server) as memory, WebSocket(memory.connect_lockstep()) as websocket:
        await websocket.open("/ws")
        await trio.testing.wait_all_tasks_blocked()
        for number in range(6):
            await server.hub.publish("news", number)
            await trio.testing.wait_all_tasks_blocked()
        if overflow is Overflow.DISCONNECT:
            assert ends.reasons == [EndReason.SLOW_CONSUMER]
        else:
            assert [(await websocket.json())["data"] for _ in range(3)] == ["0", "4", "5"]


# Over sockets, with an independent client


@pytest.mark.parametrize("with_tls", [False, True])
@pytest.mark.http1_only
async def test_an_independent_client_is_served(
    make_server: MakeServer, contexts: Contexts, with_tls: bool
) -> None:
    server = make_server()
    server.websocket("/echo")(echo)
    server.websocket("/news")(news)
    tls: dict[str, ssl.SSLContext] = {}
    if with_tls:
        tls = {"server_tls": contexts.server, "client_tls": contexts.client}

    async with on_sockets(server, **tls) as served:  # type: ignore[arg-type]  # the contexts only
        async with connected(served, "/echo", SUBPROTOCOL) as websocket:
            assert websocket.subprotocol == SUBPROTOCOL
            await websocket.ping(b"there?")
            for message in ("text", "\u00fc" * 100_000, b"", bytes(1024 * 1024)):
                await websocket.send_message(message)
                assert await websocket.get_message() == message
        assert websocket.closed is not None
        assert websocket.closed.code == 1000
        async with connected(served, "/news") as websocket:
            await subscribed(server, 1)
            assert '"type":"cursor"' in str(await websocket.get_message())
            await server.hub.publish("news", "all", event="said")
            assert '"event":"said","data":"all"' in str(await websocket.get_message())


@pytest.mark.http1_only
async def test_a_broadcast_reaches_many_over_sockets_while_they_ping(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/news")(news)
    got: list[int] = []

    async def client(served: OnSockets) -> None:
        async with connected(served, "/news") as websocket:
            assert '"type":"cursor"' in str(await websocket.get_message())
            for number in range(50):
                if number % 10 == 0:
                    served.nursery.start_soon(websocket.ping)
                assert f'"data":"{number} ' in str(await websocket.get_message())
            got.append(1)

    async with on_sockets(server) as served, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(client, served)
        await subscribed(server, 20)
        for number in range(50):
            await server.hub.publish("news", f"{number} " + "x" * 5000)

    assert len(got) == 20


@pytest.mark.http1_only
async def test_cancelling_the_server_closes_with_1001(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/idle")(idle)
    codes: list[object] = []

    async def client(served: OnSockets) -> None:
        with trio.CancelScope(shield=True), trio.fail_after(SECONDS):
            async with connected(served, "/idle") as websocket:
                is_open.set()
                with pytest.raises(trio_websocket.ConnectionClosed):
                    await websocket.get_message()
            assert websocket.closed is not None
            codes.append((websocket.closed.code, websocket.closed.reason))

    is_open = trio.Event()
    async with on_sockets(server) as served:
        served.nursery.start_soon(client, served)
        await is_open.wait()

    assert codes == [(1001, "server_shutdown")]


@pytest.mark.http1_only
async def test_an_oversize_message_over_a_socket_still_gets_its_1009(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/echo", max_message_size=10_000)(echo)

    async with on_sockets(server) as served, connected(served, "/echo") as websocket:
        await websocket.send_message(bytes(200_000))
        with pytest.raises(trio_websocket.ConnectionClosed):
            await websocket.get_message()
        assert websocket.closed is not None
        assert websocket.closed.code == 1009


@pytest.mark.http1_only
async def test_nothing_is_left_after_clients_reset(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/news")(news)
    all_ended = trio.Event()

    @server.on_disconnect
    def count(connection: Connection) -> None:
        if server.statistics().opened == 5 and server.statistics().open_streams <= 1:
            all_ended.set()

    async with on_sockets(server) as served:
        for _ in range(5):
            client = await served.connect()
            assert (await client.get("/news", *HANDSHAKE)).status == 101
            await trio.aclose_forcefully(client.stream)
        await all_ended.wait()

    assert server.statistics().ended == {EndReason.CLIENT_DISCONNECTED: 5}


async def test_a_handler_may_answer_the_handshake_with_a_response(make_server: MakeServer) -> None:
    server = make_server()

    @server.websocket("/no")
    async def no(websocket: WebSocketConnection) -> Response:
        return Response('{"error":1}', status=403, content_type="application/json")

    async with in_memory(server) as memory, WebSocket(memory.connect()) as websocket:
        head = await websocket.open("/no")
        body = await websocket.client.sized_body(head)

    assert (head.status, head.get("Content-Type"), body) == (403, "application/json", b'{"error":1}')


async def test_the_answer_to_a_handshake_has_the_headers_that_were_added(make_server: MakeServer) -> None:
    server = make_server()

    @server.websocket("/cookies")
    async def cookies(websocket: WebSocketConnection) -> None:
        for value in ("a=1", "b=2"):
            websocket.add_header("Set-Cookie", value)
        await websocket.send_text("text")

    async with in_memory(server) as memory, WebSocket(memory.connect()) as websocket:
        head = await websocket.open("/cookies")
        assert [value for name, value in head.fields if name.lower() == "set-cookie"] == ["a=1", "b=2"]
        assert head.get("Sec-WebSocket-Accept")
        assert await websocket.message() == "text"
