"""An app's `send` that the app cancels at any moment: what the client receives stays one response."""

from __future__ import annotations

import operator
import re
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio

import trio_sse.hypercorn
from trio_sse import Server

from ..support.certificates import make_contexts
from ..support.checkpoints import Interruption, interrupt_at_each_checkpoint
from ..support.client import Client
from ..support.hypercorn_config import make_config
from ..support.leaks import LeakCheck
from ..support.waiting import SECONDS

PIECES = [b"one", b"two", b"three"]


class App:
    """An app that answers in pieces, and cancels the send of one of its messages."""

    def __init__(self) -> None:
        self.cancelled_message = 0
        self.interruption: Interruption | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError(scope["type"])
        fields = [(b"content-length", b"11")] if scope["path"] == "/sized" else []
        messages: list[Any] = [{"type": "http.response.start", "status": 200, "headers": fields}]
        messages += [{"type": "http.response.body", "body": each, "more_body": True} for each in PIECES]
        messages += [{"type": "http.response.body", "body": b""}]
        for number, message in enumerate(messages):
            is_meant = number == self.cancelled_message and self.interruption is not None
            with trio.CancelScope() as cancelled:
                if is_meant:
                    assert self.interruption is not None
                    is_ours = partial(operator.is_, trio.lowlevel.current_task())
                    self.interruption.begin(cancelled.cancel, is_ours)
                await send(message)
            if is_meant:
                assert self.interruption is not None
                self.interruption.end()
            if cancelled.cancelled_caught and number in (0, len(messages) - 1):
                await send(message)  # nothing was sent


async def check(client: Client, path: str) -> None:
    """Ask once. A response is in order, and whole unless it is cut; the next one on the connection, too."""
    for target in (path, "/chunked"):
        with trio.move_on_after(SECONDS) as patience:
            await client.send(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            received = b""
            while not re.search(rb"\r\n\r\n.*(0\r\n\r\n|onetwothree)", received, re.DOTALL):
                data = b""
                with suppress(trio.BrokenResourceError):
                    data = bytes(await client.stream.receive_some())
                if not data:
                    break
                received += data
        assert not patience.cancelled_caught, received
        assert re.match(rb"HTTP/1.1 (200|500) ", received) or not received
        is_whole = received.endswith((b"0\r\n\r\n", b"onetwothree"))
        if not is_whole:
            return
        body = b"".join(re.findall(rb"one|two|three", received.partition(b"\r\n\r\n")[2]))
        assert re.fullmatch(rb"(one)?(two)?(three)?", body)
        assert target == "/chunked" or body == b"onetwothree"


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/chunked", "/sized"])
@pytest.mark.parametrize("host", ["tcp", "tls", "memory", "hypercorn"])
async def test_a_send_that_is_cancelled_leaves_one_response_after_the_other(
    host: str, path: str, no_leak: LeakCheck
) -> None:
    app, contexts = App(), make_contexts()
    async with trio.open_nursery() as nursery:
        if host == "hypercorn":
            config = make_config()
            (where,) = await nursery.start(partial(trio_sse.hypercorn.serve, app, config))
            port = int(where.rpartition(":")[2])
        elif host == "memory":
            connect = await nursery.start(no_leak.watch(Server(app)).serve_in_memory)
        else:
            context = contexts.server if host == "tls" else None
            serve = partial(no_leak.watch(Server(app)).serve, "127.0.0.1", 0, ssl_context=context)
            ((_, port),) = await nursery.start(serve)

        async def scenario(interruption: Interruption) -> None:
            app.interruption = interruption
            stream: trio.abc.Stream
            if host == "memory":
                stream, theirs = trio.testing.memory_stream_pair()
                connect(theirs, "memory")
            else:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            if host == "tls":
                stream = trio.SSLStream(stream, contexts.client, server_hostname="localhost")
            async with Client(stream) as client:
                await check(client, path)
            app.interruption = None

        for app.cancelled_message in range(len(PIECES) + 2):
            await interrupt_at_each_checkpoint(scenario)
        nursery.cancel_scope.cancel()
