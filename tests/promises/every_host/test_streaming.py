"""Streams on every host: what clients and handlers see while all is well."""

from __future__ import annotations

import logging
import re
from contextlib import AsyncExitStack
from typing import Any

import pytest

from trio_sse import EndReason

from ...support.client import Client
from ...support.hosts import Run, until_subscribed
from .observing import answer_of, values_of

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("path", ["/live", "/iterated"])
async def test_what_is_published_arrives_in_order(run: Run, path: str) -> None:
    async with run() as host, host.opened(path) as stream:
        assert stream.response.status == 200
        assert stream.response.get("content-type") == "text/event-stream"
        await until_subscribed(host)
        for number in range(100):
            await host.hub.publish("live", {"n": number}, event="tick")
        events = await stream.events(100)
        assert [event.json() for event in events] == [{"n": number} for number in range(100)]
        assert {event.event for event in events} == {"tick"}
        ids = [str(event.id).rpartition(".") for event in events]
        assert [(epoch, int(number) - int(ids[0][2])) for epoch, _, number in ids] == [
            (ids[0][0], number) for number in range(100)
        ]
        await host.hub.publish("live", "later")
        assert (await stream.event()).data == "later"


async def test_a_handler_that_returns_ends_the_body_properly(run: Run) -> None:
    async with run() as host, host.opened("/three") as stream:
        events = await stream.rest()
        assert [(event.id, event.event, event.json()) for event in events] == [
            (f"{number}", "tick", {"n": number}) for number in range(3)
        ]
        assert (stream.is_ended, stream.is_cut) == (True, False)
        assert await host.life.wait_ends(1) == [EndReason.FINISHED]


async def test_a_handler_that_sends_nothing_answers_with_an_empty_stream(run: Run) -> None:
    async with run() as host, host.opened("/returns") as stream:
        assert stream.response.status == 200
        assert await stream.rest() == []
        assert stream.is_ended


async def test_scopes_of_a_handler_may_span_the_stream_s_beginning(run: Run) -> None:
    async with run() as host, host.opened("/scoped") as stream:
        assert [event.data for event in await stream.rest()] == ["in scopes", "out of them"]
        assert stream.is_ended


async def test_a_stream_may_answer_a_post(run: Run) -> None:
    async with run() as host, await host.connect() as connection:
        if isinstance(connection, Client):
            head = "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n"
            await connection.send(head.encode() + b"hello")
            await connection.head()
            stream: Any = connection
        else:
            stream = await connection.request("POST", "/echo", body=b"hello")
        assert [event.data for event in await stream.rest()] == ["hello"]


async def test_head_answers_what_get_would(run: Run) -> None:
    answers = {
        "/live": (200, "text/event-stream", EndReason.FINISHED),
        "/quiet": (200, "text/event-stream", EndReason.FINISHED),
        "/returns": (200, "text/event-stream", EndReason.FINISHED),
        "/adds_headers": (200, "text/event-stream", EndReason.FINISHED),
        "/answers": (201, "application/json", EndReason.ANSWERED),
        "/answers_by_raising": (400, "application/json", EndReason.REFUSED),
        "/refuses_in_json": (409, "application/problem+json", EndReason.REFUSED),
        "/no_topic": (400, "text/plain; charset=utf-8", EndReason.REFUSED),
    }
    async with run() as host:
        for path, (status, kind, reason) in answers.items():
            host.life.ends.clear()
            head, body = await answer_of(host, path, method="HEAD")
            assert await host.life.wait_ends(1) == [reason]
            assert (head.status, values_of(head, "content-type"), body) == (status, [kind], b"")
            assert host.hub.statistics().subscriptions == 0
            async with host.opened(path) as stream:
                got = stream.response
            assert got.status == head.status
            for name in ("content-type", "cache-control", "set-cookie", "vary", "x-why", "x-accel-buffering"):
                assert values_of(head, name) == values_of(got, name)
            await host.life.wait_ends(2)


async def test_head_of_a_silent_handler_is_answered_when_a_keepalive_is_due(run: Run) -> None:
    async with run(keepalive=0.01) as host:
        head, _ = await answer_of(host, "/silent", method="HEAD")
        assert (head.status, head.get("content-type")) == (200, "text/event-stream")
        assert await host.life.wait_ends(1) == [EndReason.FINISHED]


async def test_head_of_a_handler_that_fails_is_a_500(run: Run) -> None:
    async with run() as host:
        assert (await answer_of(host, "/fails_before", method="HEAD"))[0].status == 500
        assert (await answer_of(host, "/answers_nonsense", method="HEAD"))[0].status == 500
        assert await host.life.wait_ends(2) == [EndReason.HANDLER_ERROR] * 2


async def test_a_handler_may_answer_with_a_response(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    answers = [
        ("/answers", 201, b'{"made":1}', EndReason.ANSWERED),
        ("/answers_by_raising", 400, b'{"error":1}', EndReason.REFUSED),
    ]
    async with run() as host:
        for accept in ("text/event-stream", "application/json"):
            for path, status, body, reason in answers:
                host.life.ends.clear()
                head, got = await answer_of(host, path, f"Accept: {accept}")
                assert await host.life.wait_ends(1) == [reason]
                assert (head.status, got) == (status, body)
                assert values_of(head, "content-type") == ["application/json"]
                assert values_of(head, "set-cookie") == ["a=1", "b=2"]
                assert values_of(head, "x-why") == ["because"]
                assert not values_of(head, "x-of-a-stream")
        refused, got = await answer_of(host, "/refuses_in_json")
        assert (refused.status, got) == (409, b'{"error":2}')
        assert values_of(refused, "content-type") == ["application/problem+json"]
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_response_after_the_first_event_cuts_the_stream(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async with run() as host, host.opened("/answers_late") as stream:
        assert [event.data for event in await stream.rest()] == ["one"]
        assert host.is_cut_or_ended(stream)
        assert await host.life.wait_ends(1) == [EndReason.HANDLER_ERROR]
    assert [record for record in caplog.records if record.exc_info]


async def test_a_stream_has_the_headers_that_were_added(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_sse.access")
    async with run(connection_id_header="X-Connection-Id") as host:
        async with host.opened("/adds_headers") as stream:
            head = stream.response
            assert [event.data for event in await stream.rest()] == [
                "one",
                "the response's head has been sent",
            ]
        polled, body = await answer_of(host, "/adds_headers", "Accept: application/json")
    assert b'"one"' in body
    assert head.status == polled.status == 200
    for each, caching in ((head, "private, no-cache"), (polled, "private, no-cache")):
        assert values_of(each, "set-cookie") == ["a=1", "b=2"]
        assert values_of(each, "x-why") == ["because"]
        assert values_of(each, "cache-control") == [caching]
        vary = {one.strip() for one in ",".join(values_of(each, "vary")).split(",")}
        assert {"Accept", "Cookie"} <= vary
        assert not values_of(each, "x-late")
    # The number of each connection is that of the log.
    ids = [values_of(each, "x-connection-id") for each in (head, polled)]
    assert ids == [[id] for id in re.findall(r"^open id=(\d+) ", "\n".join(caplog.messages), re.MULTILINE)]


async def test_headers_and_cookies_that_are_set_before_the_start_arrive(run_quart: Run) -> None:
    async with run_quart() as host, host.opened("/cookie") as stream:
        assert stream.response.get("x-mine") == "yes"
        assert stream.response.get("set-cookie") == "a=b; Path=/"
        assert [event.data for event in await stream.rest()] == ["with a cookie"]


async def test_one_connection_carries_one_stream_after_the_other(run: Run) -> None:
    async with run() as host, await host.connect() as connection:
        for _ in range(3 if host.promises("a connection carries one stream after the other") else 1):
            if isinstance(connection, Client):
                await connection.get("/three")
                stream: Any = connection
            else:
                stream = await connection.request("GET", "/three")
            assert len(await stream.rest()) == 3
            stream.is_ended = False


async def test_several_streams_are_served_at_once(run: Run) -> None:
    async with run() as host, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(host.opened("/live")) for _ in range(20)]
        await until_subscribed(host, 20)
        await host.hub.publish("live", "all")
        assert [(await stream.event()).data for stream in streams] == ["all"] * 20
