"""A server under attack: one handler of each kind, which records what reaches it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from trio_sse import Connection, Request, Response, Server

from .cases import Cases
from .client import Client, Head
from .serving import in_memory, on_sockets
from .waiting import SECONDS

PATIENCE = SECONDS  # of a fake clock as a rule


@dataclass
class Answer:
    """What the server said to a request, up to the connection's end."""

    head: Head
    body: bytes
    after: bytes

    @property
    def status(self) -> int:
        return self.head.status


class Target:
    """A server with a stream, a stream that takes a body, one whose topic is in the path, and an endpoint."""

    def __init__(self, make_server: Callable[..., Server], **options: object) -> None:
        self.server = make_server(**options)
        self.entered: list[str] = []
        self.bodies: list[bytes] = []

        @self.server.route("/stream", methods=["GET"])
        async def stream(connection: Connection) -> None:
            self.entered.append("/stream")
            await connection.send("streamed")

        @self.server.route("/body", methods=["POST"])
        async def body(connection: Connection) -> None:
            self.entered.append("/body")
            self.bodies.append(connection.request.body)
            await connection.send(connection.request.body.decode("latin-1"))

        @self.server.route("/topics/{topic:path}")
        async def topics(connection: Connection, topic: str) -> None:
            self.entered.append("/topics")
            await connection.subscribe(topic)

        @self.server.endpoint("/echo/{text}", methods=["GET", "POST"])
        async def echo(request: Request, text: str) -> Response:
            self.entered.append("/echo")
            self.bodies.append(request.body)
            await self.server.hub.publish("echoed", text)
            return Response(text)

    async def answer(self, raw: bytes, *, by: int | None = None) -> Answer:
        """Send bytes, `by` this many at a time, and read the answer and all that follows it."""
        with trio.fail_after(PATIENCE):
            async with in_memory(self.server) as serving, serving.connect() as client:
                await send_in_pieces(client, raw, by)
                head = await client.head()
                body = await client.sized_body(head)
                return Answer(head, body, await client.closed())

    def assert_untouched(self) -> None:
        """Fail if a handler was entered or anything was published."""
        assert not self.entered
        assert self.server.hub.statistics().published == 0
        assert self.server.statistics().opened == 0


@asynccontextmanager
async def connected(server: Server, over: str) -> AsyncIterator[Client]:
    """Serve, and connect a client, over "memory" or over "sockets"."""
    if over == "memory":
        async with in_memory(server) as in_process, in_process.connect() as client:
            yield client
    else:
        async with on_sockets(server) as listening, await listening.connect() as client:
            yield client


async def send_in_pieces(client: Client, raw: bytes, by: int | None) -> None:
    """Send `by` bytes at a time, and let the server work on each piece; or all at once."""
    if by is None:
        await client.send(raw)
        return
    for start in range(0, len(raw), by):
        await client.send(raw[start : start + by])
        await trio.testing.wait_all_tasks_blocked()


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines that the server has logged, but those about a machine that is overloaded."""
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("trio_sse")]
    return [line for line in lines if "blocked the event loop" not in line]


async def assert_refused(target: Target, caplog: pytest.LogCaptureFixture, raw: bytes, status: int) -> Answer:
    """Send a request that must be refused with `status`, and close the connection, and do nothing else."""
    caplog.set_level("INFO", logger="trio_sse")
    answer = await target.answer(raw)
    assert answer.status == status, answer
    assert answer.head.get("Connection") == ("close, Upgrade" if status == 426 else "close")
    assert answer.after == b""
    assert not any(word in answer.body for word in (b"Traceback", b"h11", b"trio", b".py", b"Error("))
    target.assert_untouched()
    (line,) = logged(caplog)
    assert f"status={status}" in line
    assert all(record.exc_info is None for record in caplog.records)
    return answer


async def assert_all_refused(
    make_server: Callable[..., Server],
    caplog: pytest.LogCaptureFixture,
    requests: Mapping[str, bytes],
    status: int,
) -> None:
    """Send requests that must be refused, each to a server of its own."""
    with Cases() as cases:
        for name, raw in requests.items():
            caplog.clear()
            with cases.case(name):
                await assert_refused(Target(make_server), caplog, raw, status)
