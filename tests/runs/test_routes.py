"""Routes that start, join and cancel runs: `@sse.run` of Quart, and `run_endpoints` of other frameworks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import trio
from quart import request
from quart_trio import QuartTrio
from starlette.applications import Starlette
from starlette.routing import Route
from trio.testing import MockClock

from trio_sse import Connection, Hub, Request, Run, Runs, Server
from trio_sse.adapters.openai_chat import ChatCompletions
from trio_sse.asgi import RunEndpoints, event_stream, run_endpoints
from trio_sse.quart import QuartSSE
from trio_sse.testing import Client

from ..support.leaks import LeakCheck


async def count(run: Run, body: Any) -> object:
    await run.append(f"{body} ")
    if body == "wait":
        await trio.sleep_forever()
    await trio.sleep(1)
    await run.append("done")
    return None


async def answer(run: Run, body: Mapping[str, Any]) -> None:
    await trio.sleep(100)  # longer than keepalives are apart
    await run.append(str(body["messages"]))


def user_of(request: Request) -> str | None:
    return request.headers.get("x-user")


def make_quart(hub: Hub) -> Any:
    app = QuartTrio(__name__)
    sse = QuartSSE(app, hub=hub)

    @sse.on_connect
    async def identify(connection: Connection) -> None:
        connection.identity = request.headers.get("X-User")

    sse.run("/answers")(count)
    assert sse.runs is sse.runs
    sse.route("/chat", methods=["POST"])(ChatCompletions(sse.runs, answer).create)
    return app


def make_endpoints(hub: Hub) -> tuple[RunEndpoints, Any]:
    runs = Runs(hub)
    chat = event_stream(ChatCompletions(runs, answer).create, hub=hub, methods=["POST"])
    return run_endpoints(count, runs, owner=user_of), chat


def make_starlette(hub: Hub, app: Any = None) -> Any:
    endpoints, chat = make_endpoints(hub)
    app = app or Starlette()
    app.router.routes += [
        Route("/answers", endpoints.start),
        Route("/answers/{id}", endpoints.join),
        Route("/answers/{id}/cancel", endpoints.cancel),
        Route("/chat", chat),
    ]
    return app


def make_fastapi(hub: Hub) -> Any:
    from fastapi import FastAPI  # slow to import

    return make_starlette(hub, FastAPI())


def make_litestar(hub: Hub) -> Any:
    from litestar import Litestar, asgi  # slow to import

    endpoints, chat = make_endpoints(hub)
    routes = []
    for path, endpoint in (
        ("/answers", endpoints.start),
        ("/join", endpoints.join),
        ("/cancel", endpoints.cancel),
        ("/chat", chat),
    ):

        async def call(scope: Any, receive: Any, send: Any, endpoint: Any = endpoint) -> None:
            await endpoint(scope, receive, send)

        routes.append(asgi(path, copy_scope=False)(call))
    return Litestar(route_handlers=routes, logging_config=None)


@pytest.mark.slow
@pytest.mark.parametrize("make", [make_quart, make_starlette, make_fastapi, make_litestar])
async def test_runs_are_started_joined_and_cancelled(
    no_leak: LeakCheck, autojump_clock: MockClock, make: Callable[[Hub], Any]
) -> None:
    hub = no_leak.watch_hub(Hub())
    mine, others = {"X-User": "ada"}, {"X-User": "bob"}
    join, cancel = (
        ("/join?id={}", "/cancel?id={}") if make is make_litestar else ("/answers/{}", "/answers/{}/cancel")
    )
    async with Client(no_leak.watch(Server(make(hub), hub=hub)), timeout=200) as client:
        body = json.dumps({"n": 1})
        headers = {**mine, "Content-Type": "application/json"}
        async with client.stream("/answers", method="POST", headers=headers, body=body) as stream:
            first, text = await stream.events(2)
            assert first.event == "run"
            assert text.json() == {"text": "{'n': 1} "}
        begun: Any = first.json()
        id = begun["id"]
        assert (await client.get(join.format(id), headers=others)).status == 410
        async with client.stream(join.format(id), headers=mine, last_event_id=stream.last_event_id) as stream:
            assert [event.event for event in await stream.events(2)] == ["append", "end"]
        async with client.stream("/answers", method="POST", headers=mine, body="wait") as stream:
            begun = (await stream.event()).json()
            id = begun["id"]
            assert (await client.post(cancel.format(id), headers=others)).status == 410
            assert (await client.post(cancel.format(id), headers=mine)).status == 204
            assert [event.event for event in await stream.events(2)][-1] == "end"
        for broken in ("{", "[" * 50_000, "NaN", "[1e999]"):
            assert (await client.post("/answers", headers=headers, body=broken)).status == 400
        chat = await client.post("/chat", body=json.dumps({"messages": ["hi"]}))
        completion: Any = chat.json()
        assert completion["choices"][0]["message"]["content"] == "['hi']"
