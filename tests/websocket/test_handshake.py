"""The handshake of a WebSocket."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_sse import Connection, EndReason, HTTPException, Server
from trio_sse.websocket import WebSocketConnection

from ..support.leaks import MakeServer
from ..support.serving import in_memory
from ..support.websocket_client import (
    HANDSHAKE,
    TEXT,
    WebSocket,
    encode,
    opened,
)
from ..support.websocket_handlers import Ends, idle


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
        ((*HANDSHAKE, "Sec-WebSocket-Version: 13"), 400),
        (HANDSHAKE[:3], 400),
        ((*HANDSHAKE[:3], "Sec-WebSocket-Key: c2hvcnQ="), 400),
        ((*HANDSHAKE[:3], "Sec-WebSocket-Key: no base64!"), 400),
        ((*HANDSHAKE, HANDSHAKE[3]), 400),
    ],
)
async def test_an_invalid_handshake_is_refused(
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


async def test_a_path_without_a_websocket_refuses_a_handshake(make_server: MakeServer) -> None:
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
        ("https://example.org\r\nOrigin: https://example.org", "example.org", 400),
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


async def test_all_origins_may_be_allowed(make_server: MakeServer) -> None:
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


async def test_compression_is_not_negotiated(make_server: MakeServer) -> None:
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


async def test_hooks_and_the_limit_of_connections_apply_to_websockets(make_server: MakeServer) -> None:
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
