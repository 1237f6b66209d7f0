"""The nodes of a shared log, in the consoles of each other."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from trio.testing import wait_all_tasks_blocked

from trio_sse import Hub, Log, LogUnavailable, NoticeSession
from trio_sse._console.nodes import MAX_NOTICE_SIZE, NODE_NUMBERS, encode_notice, parse_notice
from trio_sse._hub.hub import engine_of
from trio_sse._hub.node_requests import NodeRequests, _encode
from trio_sse._server import console_nodes
from trio_sse._server.console_nodes import ConsoleNodes

from ..support.cases import each_case
from ..support.console import BEARER, TOKEN, next_snapshot, post, send
from ..support.leaks import MakeHub, MakeServer
from ..support.list_log import ListLog
from ..support.logs import SHARED, logs
from ..support.observed_streams import forwarding, observe
from ..support.serving import OnSockets, on_sockets, running
from ..support.waiting import SECONDS, until

ID = "0123456789abcdef"


async def nodes_of(log: Log) -> set[str]:
    """Return the ids of the nodes whose notices are in a log."""
    async with log.connect() as session:
        assert isinstance(session, NoticeSession)
        return set(await session.exchange_notices(ID, b"", 1))


@asynccontextmanager
async def watching(running: OnSockets) -> AsyncIterator[Any]:
    """Look at a console; yield a function that waits for so many nodes, and returns their rows."""
    async with await running.connect() as viewer:
        await send(viewer, "/stream", BEARER)

        async def see(count: int) -> list[dict[str, Any]]:
            while len(rows := (await next_snapshot(viewer))["nodes"]) != count:
                pass
            return list(rows)

        yield see


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_nodes, "_INTERVAL", 0.1)
    monkeypatch.setattr(console_nodes, "_NOTICE_SECONDS", SECONDS)  # until a test wants a node to disappear
    monkeypatch.setattr(console_nodes, "_WATCH_SECONDS", 100 * SECONDS)  # it is asked for once
    monkeypatch.setattr("trio_sse._console.feed._INTERVAL", 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHARED)
async def test_nodes_are_side_by_side_while_somebody_watches(
    kind: str,
    make_server: MakeServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, "trio_sse.console")
    options: dict[str, Any] = {"console": True, "console_token": TOKEN}
    async with logs(kind, tmp_path) as make_log:
        first, second = (make_server(hub=Hub(log=make_log()), **options) for _ in range(2))
        stranger = make_server(hub=Hub(log=make_log()), console=True, console_token="another-token-it-is")
        observe(second, forwarding)
        async with on_sockets(first) as one, on_sockets(second) as two, on_sockets(stranger):
            await first.hub.publish("t", "x")
            await until(lambda: first.statistics().hub.log_events == 1)
            before = first.hub.last_event_id
            assert await nodes_of(make_log()) == set()  # nobody watches
            async with watching(one) as see, await two.connect() as client:
                await client.get("/")
                rows = await see(3)
                while sum(row["open_streams"] for row in rows) != 2:  # the viewer's, and the client's
                    rows = await see(3)
                assert await nodes_of(make_log()) == {row["id"] for row in rows}
                (own,) = [row for row in rows if row["is_own"]]
                (other,) = [row for row in rows if row["open_streams"] == 1 and row is not own]
                (third,) = [row for row in rows if row not in (own, other)]
                assert {*NODE_NUMBERS} <= other.keys()
                async with make_log().connect() as session:
                    assert len(await session.read(before, 10)) == 1  # all that this has cost the log
                assert first.statistics().hub.log_events == 1

                assert await post(one, "/drain", drain("0" * 16)) == (404, "no such node is there\n")
                assert (await post(one, "/drain", drain(third["id"])))[0] == 202
                await until(lambda: "has another token" in caplog.text)
                assert stranger.problems() == []

                monkeypatch.setattr(console_nodes, "_NOTICE_SECONDS", 1.0)
                patched_at = time.time()
                while min(row["at"] for row in await see(3)) < patched_at:
                    pass  # what expires later must be renewed first
                await until_asked(one, drain(other["id"]))
                await client.rest()
                await until(lambda: "not_serving" in second.problems())
                while {row["id"] for row in await see(2)} != {own["id"], third["id"]}:
                    pass  # on a busy machine, another one may be late
    (line,) = [text for text in caplog.messages if text.startswith("drain by=")]
    assert line.endswith("session=token', on another node")


async def until_asked(running: OnSockets, body: object) -> None:
    """Ask for a drain, again if the node is not there for a moment, since it is late."""
    while (await post(running, "/drain", body))[0] != 202:
        pass


def drain(node: str) -> dict[str, str]:
    return {"confirm": "drain", "node": node}


async def test_one_node_alone_and_a_log_without_notices_show_none(make_server: MakeServer) -> None:
    log = ListLog()
    servers = [make_server(hub=Hub(log=log), console=True, console_token=TOKEN) for _ in range(2)]
    async with on_sockets(servers[0]) as one, on_sockets(servers[1]), await one.connect() as viewer:
        await send(viewer, "/stream", BEARER)
        for _ in range(3):
            assert (await next_snapshot(viewer))["nodes"] == []
        assert len(log.entries) == 1
        log.publish("nodes", "is a topic like any other")
        junks: list[Any] = [{"watch": "x"}, {"drain": ID}, {"later": 1}, [], {"watch": 1e9}]
        for junk in junks:
            await engine_of(servers[0].hub).node_requests._publish(_encode(junk))
        await wait_all_tasks_blocked()
        assert all(not server.problems() for server in servers)


async def test_a_log_that_is_away_is_asked_again_later(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trio_sse.console")
    asked = 0

    async def watch(self: NodeRequests, seconds: float) -> None:
        nonlocal asked
        asked += 1
        raise LogUnavailable("it is away")

    monkeypatch.setattr(NodeRequests, "watch", watch)
    monkeypatch.setattr(console_nodes, "_ASK_AGAIN_SECONDS", 0.0)
    server = make_server(hub=Hub(log=ListLog()), console=True, console_token=TOKEN)
    async with on_sockets(server) as running, await running.connect() as viewer:
        await send(viewer, "/stream", BEARER)
        while asked < 2:
            assert (await next_snapshot(viewer))["nodes"] == []
    assert "cannot be asked" in caplog.text


def test_one_worker_reports_for_all() -> None:
    nodes = ConsoleNodes(engine_of(Hub()))
    assert [nodes._take_turn(), nodes._take_turn()] == [True, False]


GOOD = json.loads(encode_notice("a 1", 5.0, {"open_streams": 3, "memory": None}, ["log_lagging"]))


@each_case(
    ("place", "value"),
    [
        (0, ""),
        (0, "a" * 65),
        (0, "a\x1b[2J"),
        (0, 7),
        (1, float("inf")),
        (1, True),
        (2, GOOD[2][:-1]),
        (2, [*GOOD[2][:-1], "x"]),
        (2, [*GOOD[2][:-1], 1e30]),
        (2, "x"),
        (3, ["x" * 33]),
        (3, ["<b>"]),
        (3, ["x"] * 17),
        (3, [7]),
    ],
)
def test_what_is_no_notice_is_not_shown(place: int, value: object) -> None:
    found = parse_notice(ID, json.dumps(GOOD).encode())
    assert found is not None
    assert (found["name"], found["open_streams"], found["memory"]) == ("a 1", 3, None)
    assert parse_notice(ID, json.dumps([*GOOD, "of a newer node"]).encode()) is None
    bad = [*GOOD[:place], value, *GOOD[place + 1 :]]
    assert parse_notice(ID, json.dumps(bad).encode()) is None
    for junk in (b"", b"{", b"\xff", b"[" * 5000, b"[" * 3000, b"7", b" " * MAX_NOTICE_SIZE + b"[]"):
        assert parse_notice(ID, junk) is None
    assert parse_notice("x", json.dumps(GOOD).encode()) is None


class StubNode:
    """A node that can only sign."""

    def summary(self) -> Generator[None, None, console_nodes.Summary]:
        yield
        return console_nodes.Summary({}, [])

    def sign(self, text: str) -> str:
        return text

    def drain(self, pid: int | None) -> bool:
        return False


async def test_a_worker_whose_console_nobody_looks_at_drains_a_node(
    make_hub: MakeHub, tmp_path: Path
) -> None:
    """The page is another worker's, and another worker posts the notices."""
    async with logs("sqlite", tmp_path) as make_log:
        hubs = [make_hub(log=make_log()) for _ in range(2)]
        worker, node = (console_nodes.ConsoleNodes(engine_of(hub)) for hub in hubs)
        worker.node = node.node = StubNode()
        worker._posted_at[:] = console_nodes._MOMENT.pack(float("inf"))

        def has_posted() -> bool:
            node.look()
            return bool(node._rows) and worker._is_watched

        async with running(hubs[0]), running(hubs[1]):
            await until(has_posted)
            worker._take({})  # as it is where this was read before the node was there
            assert await worker.drain(node.id, "somebody")
            assert not await worker.drain(ID, "somebody")
