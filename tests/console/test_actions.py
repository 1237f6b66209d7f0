"""What can be done from the console, and that it is logged who did it."""

from __future__ import annotations

import json
import logging
import os
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, EventRefused, Hub, LogUnavailable
from trio_sse._console import watch
from trio_sse._server.shared_metrics import sharing_metrics

from ..support.console import BEARER, TOKEN, ask, log_in, post, send
from ..support.leaks import MakeServer
from ..support.serving import on_sockets
from ..support.waiting import until


@pytest.mark.usefixtures("protocol")
async def test_a_topic_is_watched_live_and_published_to(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    monkeypatch.setattr(watch, "_MOST_PER_SECOND", 2)
    monkeypatch.setattr(watch, "_LONGEST_TEXT", 5)
    server = make_server(console=True, console_token=TOKEN)
    async with on_sockets(server) as running, await running.connect() as client:
        cookie, csrf = await log_in(running)
        head = await send(client, "/watch", cookie, csrf, method="POST", body={"topic": "prices"})
        assert (head.status, head.get("Content-Type")) == (200, "text/event-stream")
        assert head.get("X-Content-Type-Options") == "nosniff"
        first = await client.event()
        assert (first.event, first.data) == ("watching", '{"topic": "prices"}')
        for data in ("one", {"n": 2}, "three", "four"):  # all in one second
            server.hub.publish_nowait("prices", data, event="price")
        rows = [json.loads(str((await client.event()).data)) for _ in range(2)]
        assert [(row["event"], row["data"], row["size"]) for row in rows] == [
            ("price", "one", 3),
            ("price", '{"n":', 7),
        ]
        assert rows[0]["id"] == server.hub.last_event_id.replace(".4", ".1")
        await wait_all_tasks_blocked()
        mock_clock.jump(1.05)  # the second is over
        for body in (
            {"topic": "prices", "data": "last"},
            {"topic": "prices", "data": {"n": 6}, "event": "price"},
        ):
            assert await post(running, "/publish", body) == (204, "")
        left_out, *last = await client.events(3)
        assert (left_out.event, left_out.data) == ("left_out", '{"events": 2}')
        rows = [json.loads(str(event.data)) for event in last]
        assert [(row["event"], row["data"]) for row in rows] == [("message", "last"), ("price", '{"n":')]


@pytest.mark.parametrize(
    ("path", "body", "status", "what"),
    [
        ("/publish", {"data": "x"}, 400, "topic must be a text"),
        ("/publish", {"topic": "", "data": "x"}, 400, "topic must be a text"),
        ("/publish", {"topic": "a\n", "data": "x"}, 400, "topic"),
        ("/publish", {"topic": "a", "data": "x", "event": "b\nc"}, 400, "event"),
        ("/publish", {"topic": "a", "data": "x", "event": 7}, 400, "event must be a text"),
        ("/publish", "[]", 400, "JSON object"),
        ("/end", {"id": 77}, 404, "no such stream"),
        ("/end", {"id": 77, "pid": 1}, 404, "no such stream"),
        ("/end", {"id": "7"}, 400, "id must be a number"),
        ("/end", {"id": True}, 400, "id must be a number"),
        ("/end", {"id": 7, "pid": -1}, 400, "pid must be a number"),
        ("/drain", {}, 400, "confirm"),
        ("/drain", {"confirm": "drain", "pid": "1"}, 400, "pid must be a number"),
        ("/drain", {"confirm": "drain", "pid": 1}, 404, "no such worker"),
        ("/watch", {"topic": "a\n"}, 400, "topic"),
    ],
)
async def test_what_is_not_acceptable_is_refused(
    make_server: MakeServer, path: str, body: object, status: int, what: str
) -> None:
    server = make_server(console=True, console_token=TOKEN)
    async with on_sockets(server) as running:
        found, text = await post(running, path, body)
        assert (found, what in text) == (status, True), text


@pytest.mark.parametrize(
    ("failure", "status", "what"),
    [
        (EventRefused("too large"), 400, "too large"),
        (LogUnavailable("no log"), 503, "no log"),
        (trio.ClosedResourceError(), 503, "the hub has ended"),
    ],
)
async def test_what_a_hub_does_not_take_is_reported(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch, failure: Exception, status: int, what: str
) -> None:
    async def publish(hub: Hub, *args: object, **options: object) -> None:
        raise failure

    monkeypatch.setattr(Hub, "publish", publish)
    server = make_server(console=True, console_token=TOKEN)
    async with on_sockets(server) as running:
        found, text = await post(running, "/publish", {"topic": "a", "data": "b"})
        assert (found, text.strip()) == (status, what)


async def test_a_watch_that_lags_goes_on(make_server: MakeServer) -> None:
    server = make_server(console=True, console_token=TOKEN, hub=Hub(queue=1))
    async with on_sockets(server) as running, await running.connect() as client:
        await send(client, "/watch", BEARER, method="POST", body={"topic": "a"})
        await client.event()
        for number in range(9):
            server.hub.publish_nowait("a", str(number))
        left_out, again = await client.events(2)
        assert (left_out.event, left_out.data) == ("left_out", '{"reason": "too_many"}')
        assert again.event == "watching"
        await server.hub.publish("a", "after")
        assert json.loads(str((await client.event()).data))["data"] == "after"


async def test_a_stream_is_ended_and_it_is_logged_who_did_it(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_sse.console")
    server = make_server(console=True, console_token=TOKEN)

    @server.route("/x")
    async def x(connection: Connection) -> None:
        await connection.subscribe("x")

    async with on_sockets(server) as running:
        cookie, csrf = await log_in(running)
        for reconnect, reason in ((True, EndReason.REVOKED), (False, EndReason.FINISHED)):
            async with await running.connect() as client:
                await client.get("/x")
                (info,) = server.connections(route="/x")
                body = {"id": info.id, "pid": os.getpid(), "reconnect": reconnect}
                head, _ = await ask(running, "/end", cookie, csrf, method="POST", body=body)
                assert head.status == 204
                await client.rest()
                await until(partial(lambda reason: server.statistics().ended.get(reason), reason))
    session = cookie.split(".")[1]
    (first, _) = [record for record in caplog.records if record.getMessage().startswith("end ")]
    assert f" session={session} id={info.id - 1} pid={os.getpid()} reconnect=True" in first.getMessage()
    assert first.trio_sse["event"] == "end"  # type: ignore[attr-defined]
    assert [text for text in caplog.messages if text.startswith("login ")] != []


async def test_an_action_cannot_forge_a_line_of_the_log(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_sse.console")
    server = make_server(console=True, console_token=TOKEN)
    async with on_sockets(server) as running:
        cookie, csrf = await log_in(running)
        body = {"topic": "a\ndrain peer=10.0.0.9\x1b[2K\u2028é", "data": "b"}
        assert (await ask(running, "/publish", cookie, csrf, method="POST", body=body))[0].status == 400
    (line,) = [text for text in caplog.messages if text.startswith("publish ")]
    assert line.endswith(r" topic=a\ndrain peer=10.0.0.9\x1b[2K\u2028é")


async def test_a_drain_ends_all_calls_to_serve(make_server: MakeServer) -> None:
    server = make_server(console=True, console_token=TOKEN)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            addresses = [(await nursery.start(server.serve, "127.0.0.1", 0))[0] for _ in range(2)]
            stream = await trio.open_tcp_stream(*addresses[0])
            body = b'{"confirm": "drain", "pid": %d}' % os.getpid()
            await stream.send_all(
                b"POST /_sse/drain HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
                + f"{BEARER}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 202 ")
            await stream.aclose()


async def test_a_process_drains_its_own_supervisor_only(make_server: MakeServer) -> None:
    server = make_server(console=True, console_token=TOKEN)
    with sharing_metrics(1):  # made by this process, whose parent is another one
        async with on_sockets(server) as running:
            assert (await post(running, "/drain", {"confirm": "drain"}))[0] == 202
            assert (await post(running, "/drain", {"confirm": "drain", "pid": 1}))[0] == 404
            assert (await post(running, "/drain", {"confirm": "drain", "node": "x"}))[0] == 404
            assert server.problems() == []


async def test_watchers_are_bounded(make_server: MakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_sse._console.actions._MOST_WATCHERS", 1)
    monkeypatch.setattr("trio_sse._console.console._MOST_VIEWERS", 1)
    server = make_server(console=True, console_token=TOKEN)
    async with on_sockets(server) as running:
        for path, method, body in (("/watch", "POST", {"topic": "a"}), ("/stream", "GET", None)):
            async with await running.connect() as client, await running.connect() as other:
                assert (await send(client, path, BEARER, method=method, body=body)).status == 200
                await client.event()
                assert (await send(other, path, BEARER, method=method, body=body)).status == 503
