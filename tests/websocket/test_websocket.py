from __future__ import annotations

import logging
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
import trio_websocket

from trio_sse import Connection, EndReason, HTTPException, Overflow, Server
from trio_sse._wire.message import Batch, Framing, Message
from trio_sse.websocket import SUBPROTOCOL, WebSocketConnection

from ..support.certificates import Contexts
from ..support.leaks import MakeServer
from ..support.serving import OnSockets, in_memory, on_sockets
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
    encode_close,
    opened,
)


async def idle(websocket: WebSocketConnection) -> None:
    await websocket.start()
    await trio.sleep_forever()


async def news(websocket: WebSocketConnection) -> None:
    await websocket.subscribe("news")


class Ends:
    """Notes the reasons by which the streams of a server end."""

    def __init__(self, server: Server) -> None:
        self.reasons: list[EndReason | None] = []
        server.on_disconnect(lambda connection: self.reasons.append(connection.end_reason))


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
            await trio.aclose_forcefully(stream)  # it isn't always closed by the library


async def subscribed(server: Server, count: int) -> None:
    """Wait until there are so many subscriptions."""
    while server.hub.statistics().subscriptions < count:  # noqa: ASYNC110  # nothing tells
        await trio.sleep(0.01)


# The handshake


async def test_the_handshake_is_answered_as_in_the_rfc(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/idle")(idle)

    async with in_memory(server) as memory, WebSocket(memory.connect()) as websocket:
        head = await websocket.open("/idle")

    assert head.status == 101
    assert head.reason == "Switching Protocols"
    assert head.get("Sec-WebSocket-Accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert (head.get("Upgrade"), head.get("Connection")) == ("websocket", "Upgrade")
    assert head.get("Sec-WebSocket-Protocol") is None


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((), 426),
        (HANDSHAKE[1:], 400),
        ((HANDSHAKE[0], *HANDSHAKE[2:]), 426),
        ((*HANDSHAKE[:2], HANDSHAKE[3]), 426),
        ((*HANDSHAKE[:2], "Sec-WebSocket-Version: 8", HANDSHAKE[3]), 426),
        ((*HANDSHAKE, "Sec-WebSocket-Version: 13"), 426),
        (HANDSHAKE[:3], 400),
        ((*HANDSHAKE[:3], "Sec-WebSocket-Key: c2hvcnQ="), 400),
        ((*HANDSHAKE[:3], "Sec-WebSocket-Key: no base64!"), 400),
        ((*HANDSHAKE, HANDSHAKE[3]), 400),
    ],
)
async def test_what_is_no_handshake_is_refused(
    make_server: MakeServer, lines: tuple[str, ...], status: int
) -> None:
    server = make_server()
    server.websocket("/idle")(idle)

    async with in_memory(server) as memory, memory.connect() as client:
        head = await client.get("/idle", *lines)

    assert head.status == status
    assert head.get("Sec-WebSocket-Version") == ("13" if status == 426 else None)


async def test_a_handshake_is_a_get_of_http_1_1(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/idle")(idle)
    lines = "\r\n".join(["Host: test", *HANDSHAKE, "", ""])

    async with in_memory(server) as memory:
        async with memory.connect() as client:
            await client.send(f"GET /idle HTTP/1.0\r\n{lines}".encode())
            assert (await client.head()).status == 426
        async with memory.connect() as client:
            assert (await client.get("/idle", *HANDSHAKE, method="HEAD")).status == 426
        async with memory.connect() as client:
            assert (await client.get("/idle", *HANDSHAKE, "Content-Length: 0", method="POST")).status == 405


async def test_a_path_that_is_no_websocket_says_so(make_server: MakeServer) -> None:
    server = make_server()

    @server.route("/stream")
    async def stream(connection: Connection) -> None:
        await connection.start()

    async with in_memory(server) as memory:
        for path, status in (("/stream", 400), ("/nowhere", 404)):
            async with WebSocket(memory.connect()) as websocket:
                assert (await websocket.open(path)).status == status


async def test_frames_must_wait_for_the_answer_to_the_handshake(make_server: MakeServer) -> None:
    server = make_server()
    ends = Ends(server)

    @server.websocket("/thinks")
    async def thinks(websocket: WebSocketConnection) -> None:
        await trio.sleep_forever()

    async with in_memory(server) as memory:
        async with memory.connect() as client:
            request = "\r\n".join(["GET /thinks HTTP/1.1", "Host: test", *HANDSHAKE, "", ""])
            await client.send(request.encode() + encode(TEXT, b"too early"))
            assert (await client.head()).status == 400
        async with memory.connect() as client:
            await client.send(request.encode())
            await trio.testing.wait_all_tasks_blocked()
            await client.send(encode(TEXT, b"too early"))
            assert await client.closed() == b""

    assert ends.reasons == [EndReason.PROTOCOL_ERROR]


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        (None, "example.org", 101),
        ("https://example.org", "example.org", 101),
        ("http://example.org", "example.org:80", 101),
        ("https://Example.org", "example.ORG:443", 101),
        ("http://example.org:8000", "example.org:8000", 101),
        ("http://[::1]:8000", "[::1]:8000", 101),
        ("https://friend.example", "example.org", 101),
        ("https://evil.example", "example.org", 403),
        ("https://example.org.evil.example", "example.org", 403),
        ("https://example.org:444", "example.org", 403),
        ("http://example.org:8000", "example.org:8001", 403),
        ("http://friend.example", "example.org", 403),
        ("null", "example.org", 403),
        ("", "example.org", 403),
        ("file://", "example.org", 403),
        ("https://example.org\r\nOrigin: https://example.org", "example.org", 403),
    ],
)
async def test_pages_of_other_origins_are_refused(
    make_server: MakeServer, origin: str | None, host: str, status: int
) -> None:
    server = make_server()
    server.websocket("/idle", origins=["https://friend.example"])(idle)
    lines = ["GET /idle HTTP/1.1", f"Host: {host}", *HANDSHAKE]

    async with in_memory(server) as memory, memory.connect() as client:
        await client.send(
            "\r\n".join([*lines, *([] if origin is None else [f"Origin: {origin}"]), "", ""]).encode()
        )
        assert (await client.head()).status == status


async def test_all_origins_may_be_let_in(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/idle", origins=["*"])(idle)

    async with in_memory(server) as memory, opened(memory, "/idle", "Origin: https://anyone.example"):
        pass


@pytest.mark.parametrize(
    ("lines", "chosen"),
    [
        ((), None),
        (("Sec-WebSocket-Protocol: unknown",), None),
        (("Sec-WebSocket-Protocol: unknown, second",), "second"),
        (("Sec-WebSocket-Protocol: second", "Sec-WebSocket-Protocol: first"), "first"),
        (("Sec-WebSocket-Protocol: FIRST",), None),
    ],
)
async def test_a_subprotocol_is_chosen_in_the_server_s_order(
    make_server: MakeServer, lines: tuple[str, ...], chosen: str | None
) -> None:
    server = make_server()
    found = []

    @server.websocket("/ws", subprotocols=["first", "second"])
    async def ws(websocket: WebSocketConnection) -> None:
        found.append(websocket.subprotocol)

    async with in_memory(server) as memory, WebSocket(memory.connect()) as websocket:
        head = await websocket.open("/ws", *lines)
        assert head.get("Sec-WebSocket-Protocol") == chosen
        assert await websocket.close_code() == (1000, "finished")

    assert found == [chosen]


async def test_compression_is_not_agreed_to(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/idle")(idle)

    async with in_memory(server) as memory, WebSocket(memory.connect()) as websocket:
        head = await websocket.open("/idle", "Sec-WebSocket-Extensions: permessage-deflate")
        assert head.get("Sec-WebSocket-Extensions") is None
        await websocket.client.send(encode(TEXT, b"deflated", reserved=4))
        assert (await websocket.close_code() or (0,))[0] == 1002


async def test_a_handler_may_refuse_before_it_sends_or_receives(make_server: MakeServer) -> None:
    server = make_server()
    ends = Ends(server)

    @server.websocket("/rooms/{number:int}")
    async def room(websocket: WebSocketConnection, number: int) -> None:
        raise HTTPException(402, f"room {number} has its price")

    @server.websocket("/defect")
    async def defect(websocket: WebSocketConnection) -> None:
        raise RuntimeError("a defect")

    async with in_memory(server) as memory:
        async with WebSocket(memory.connect()) as websocket:
            head = await websocket.open("/rooms/7")
            assert (head.status, await websocket.client.sized_body(head)) == (402, b"room 7 has its price\n")
        async with WebSocket(memory.connect()) as websocket:
            assert (await websocket.open("/defect")).status == 500

    assert ends.reasons == [EndReason.REFUSED, EndReason.HANDLER_ERROR]


async def test_hooks_and_the_bound_of_connections_hold_for_websockets(make_server: MakeServer) -> None:
    server = make_server(max_connections=1)
    server.websocket("/idle")(idle)
    seen: list[str] = []
    server.on_connect(lambda connection: seen.append(connection.request.path))

    async with in_memory(server) as memory, opened(memory, "/idle"):
        assert server.statistics().open_streams == 1
        async with WebSocket(memory.connect()) as second:
            assert (await second.open("/idle")).status == 503

    assert seen == ["/idle"]


def test_options_are_checked() -> None:
    server = Server()
    with pytest.raises(TypeError, match="origins must be a collection"):
        server.websocket("/", origins="https://example.org")
    with pytest.raises(ValueError, match="an origin must be like"):
        server.websocket("/", origins=["example.org"])
    with pytest.raises(TypeError, match="subprotocols must be a sequence"):
        server.websocket("/", subprotocols="chat")
    with pytest.raises(ValueError, match="a subprotocol must be a token"):
        server.websocket("/", subprotocols=["two words"])
    with pytest.raises(ValueError, match="max_message_size"):
        server.websocket("/", max_message_size=0)
    with pytest.raises(TypeError, match="must take"):
        server.websocket("/{name}")(idle)


def test_the_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio_sse._websocket.connection", None)

    with pytest.raises(ImportError, match=r"pip install 'trio-sse\[websocket\]'"):
        Server().websocket("/ws")


# Messages


async def test_a_fragmented_message_comes_whole_with_a_ping_in_between(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/echo")(echo)

    async with in_memory(server) as memory, opened(memory, "/echo") as websocket:
        await websocket.send(TEXT, "gr\u00fc".encode()[:-1], is_final=False)  # cut inside of a character
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
        await websocket.send_json({"n": [1, "\u00fc"]})

    async with in_memory(server) as memory, opened(memory, "/sizes") as websocket:
        for size in (0, 125, 126, 65_535, 65_536):
            assert await websocket.message() == bytes(size)
        assert await websocket.message() == '{"n":[1,"\u00fc"]}'


@pytest.mark.parametrize("is_fragmented", [False, True])
async def test_a_message_that_is_too_large_ends_it_by_1009(
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
            await websocket.client.send(encode(BINARY, bytes(5000))[:1100])  # not even all of it need come
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
        assert connections[0]._receiver._parts == b""
        await websocket.send(CONTINUATION, b"end")
        assert await websocket.message() == b"end"


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


async def test_bytes_of_waiting_messages_are_bounded_too(
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


async def test_a_client_that_pings_and_never_reads_is_cut(
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


async def test_what_is_published_reaches_streams_and_websockets_alike(make_server: MakeServer) -> None:
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


async def test_an_id_may_be_given_to_subscribe(make_server: MakeServer) -> None:
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
async def test_the_policies_for_slow_readers_hold(make_server: MakeServer, overflow: Overflow) -> None:
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


# Time


async def test_an_idle_connection_is_pinged(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server(keepalive=15)
    server.websocket("/idle")(idle)

    async with in_memory(server) as memory, opened(memory, "/idle") as websocket:
        opened_at = trio.current_time()
        for number in (1, 2):
            assert await websocket.frame() == Frame(PING, b"")
            assert trio.current_time() - opened_at == pytest.approx(15 * number)
            await websocket.send(PONG)


async def test_the_longest_life_ends_it_by_4000(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server(max_duration=100)
    server.websocket("/idle")(idle)

    async with in_memory(server) as memory, opened(memory, "/idle") as websocket:
        assert await websocket.close_code() == (4000, "max_duration")
        assert 80 <= trio.current_time() <= 101


async def test_a_client_that_takes_nothing_is_cut_after_the_write_timeout(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server(write_timeout=7)
    ends = Ends(server)

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        await websocket.start()
        await websocket.send_bytes(bytes(10))

    async with in_memory(server) as memory, WebSocket(memory.connect_lockstep()) as websocket:
        await websocket.open("/ws")
        await trio.sleep(6)
        assert ends.reasons == []
        await trio.sleep(2)
        assert ends.reasons == [EndReason.WRITE_TIMEOUT]


# The end


async def test_a_handler_that_returns_ends_it_by_1000(make_server: MakeServer) -> None:
    server = make_server()
    ends = Ends(server)

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        pass

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        assert await websocket.close_code() == (1000, "finished")
        await websocket.client.send(encode_close())
        assert await websocket.is_closed()

    assert ends.reasons == [EndReason.FINISHED]


async def test_a_handler_that_fails_ends_it_by_1011(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        await websocket.start()
        raise RuntimeError("a defect")

    with caplog.at_level(logging.CRITICAL, "trio_sse"):
        async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
            assert await websocket.close_code() == (1011, "handler_error")


async def test_the_application_may_choose_the_code(make_server: MakeServer) -> None:
    server = make_server()

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        for code, reason in (
            (999, ""),
            (1005, ""),
            (1006, ""),
            (1015, ""),
            (2000, ""),
            (5000, ""),
            (1000, "x" * 124),
        ):
            with pytest.raises(ValueError, match="close"):
                websocket.close(code, reason)
        websocket.close(4321, "enough")
        await trio.sleep_forever()

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        assert await websocket.close_code() == (4321, "enough")


async def test_a_hook_may_send_the_client_back_by_4002(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/idle")(idle)
    connections: list[Connection] = []
    server.on_connect(connections.append)

    async with in_memory(server) as memory, opened(memory, "/idle") as websocket:
        connections[0].close(reconnect=True)
        assert await websocket.close_code() == (4002, "reconnect")


async def test_drain_ends_it_by_1001(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/idle")(idle)

    async with in_memory(server) as memory, opened(memory, "/idle") as websocket:
        memory.nursery.start_soon(server.drain)
        assert await websocket.close_code() == (1001, "server_shutdown")
        await websocket.client.send(encode_close(1001))
        assert await websocket.is_closed()


@pytest.mark.parametrize(("code", "answer"), [(None, 1000), (1000, 1000), (1001, 1001), (4567, 4567)])
async def test_the_client_s_close_is_answered_with_its_code(
    make_server: MakeServer, code: int | None, answer: int
) -> None:
    server = make_server()
    server.websocket("/echo")(echo)
    ends = Ends(server)

    async with in_memory(server) as memory, opened(memory, "/echo") as websocket:
        await websocket.client.send(encode_close(code))
        assert await websocket.close_code() == (answer, "")
        assert await websocket.is_closed()

    assert ends.reasons == [EndReason.CLIENT_DISCONNECTED]


async def test_what_came_before_the_close_is_given_to_the_handler_first(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server()
    taken: list[str | bytes] = []
    reasons: list[EndReason | None] = []

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        try:
            async for message in websocket:
                await trio.sleep(1)
                taken.append(message)
        finally:
            reasons.append(websocket.end_reason)

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        await websocket.client.send(encode(TEXT, b"one") + encode(TEXT, b"two") + encode_close())
        assert await websocket.close_code() == (1000, "")
        assert trio.current_time() == pytest.approx(2)

    assert taken == ["one", "two"]
    assert reasons == [EndReason.CLIENT_DISCONNECTED]


async def test_a_handler_that_is_not_done_in_time_is_cancelled(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server()

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        async for _ in websocket:
            await trio.sleep(60)

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        await websocket.client.send(encode(TEXT, b"one") + encode_close())
        assert await websocket.close_code() == (1000, "")
        assert trio.current_time() == pytest.approx(5)


async def test_a_handler_that_only_sends_is_cancelled_when_the_client_goes(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/ws")(news)
    ends = Ends(server)

    async with in_memory(server) as memory:
        async with opened(memory, "/ws") as websocket:
            await websocket.send(TEXT, b"nobody reads this")
            await websocket.client.send(encode_close())
            assert await websocket.close_code() == (1000, "")
        async with opened(memory, "/ws"):
            pass  # and without a close frame
        await trio.testing.wait_all_tasks_blocked()

    assert ends.reasons == [EndReason.CLIENT_DISCONNECTED] * 2


async def test_a_client_that_does_not_answer_the_close_is_not_waited_for_long(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server()

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        pass

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        assert await websocket.close_code() == (1000, "finished")
        for _ in range(3):
            await websocket.send(TEXT, b"and another thing")
            await trio.sleep(1)
        assert await websocket.is_closed()
        assert trio.current_time() == pytest.approx(5)


async def test_a_task_outside_of_the_connection_is_told_that_it_ended(make_server: MakeServer) -> None:
    server = make_server()
    connections: list[WebSocketConnection] = []

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        connections.append(websocket)

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        await websocket.close_code()
        for attempt in (connections[0].receive(), connections[0].send_text("x"), connections[0].send("x")):
            with pytest.raises(trio.ClosedResourceError, match="has ended"):
                await attempt


# Over sockets, with an independent client


@pytest.mark.parametrize("with_tls", [False, True])
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
            await server.hub.publish("news", "all", event="said")
            assert '"event":"said","data":"all"' in str(await websocket.get_message())


async def test_a_broadcast_reaches_many_over_sockets_while_they_ping(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/news")(news)
    got: list[int] = []

    async def client(served: OnSockets) -> None:
        async with connected(served, "/news") as websocket:
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


async def test_cancelling_the_server_says_1001(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/idle")(idle)
    codes: list[object] = []

    async def client(served: OnSockets) -> None:
        with trio.CancelScope(shield=True), trio.fail_after(5):
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


async def test_an_oversize_message_over_a_socket_still_gets_its_1009(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/echo", max_message_size=10_000)(echo)

    async with on_sockets(server) as served, connected(served, "/echo") as websocket:
        await websocket.send_message(bytes(200_000))
        with pytest.raises(trio_websocket.ConnectionClosed):
            await websocket.get_message()
        assert websocket.closed is not None
        assert websocket.closed.code == 1009


async def test_nothing_is_left_when_clients_reset(make_server: MakeServer) -> None:
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
