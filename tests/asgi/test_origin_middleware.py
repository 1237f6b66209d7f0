"""What trusted proxies say, on a server that is not ours: in the scope, and in the streams of an app."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypercorn.middleware import ProxyFixMiddleware

from trio_sse import Connection
from trio_sse._asgi.origin_middleware import OriginMiddleware

from ..support.client import Client
from ..support.leaks import LeakCheck
from ..support.linking_apps import make_quart as make_quart_links
from ..support.linking_apps import make_starlette as make_starlette_links
from .test_apps_on_hypercorn import make_quart, serving_app
from .test_hypercorn import connect

ALL = ("X-Forwarded-For: 203.0.113.7:80", "X-Forwarded-Proto: https", "X-Forwarded-Host: example.org")


async def resolve(*lines: str, below: str = "", **scope: Any) -> dict[str, Any]:
    """Return the scope that an app gets, where proxies remove `below` from paths."""
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)

    fields = [tuple(part.encode() for part in line.split(": ", 1)) for line in lines]
    whole = {
        "type": "http",
        "client": ("10.0.0.1", 5),
        "server": ("10.0.0.9", 8000),
        "scheme": "http",
        "path": "/x",
        "raw_path": b"/x",
        "root_path": "",
        "headers": [(b"host", b"test"), *fields],
        **scope,
    }
    middleware = OriginMiddleware(app, ["10.0.0.1", "unix"], root_path=below)
    await middleware(whole, None, None)  # type: ignore[arg-type]
    return {name: value for name, value in seen.items() if name not in ("type", "headers")} | {
        "host": [value for name, value in seen["headers"] if name == b"host"]
    }


UNCHANGED = {
    "client": ("10.0.0.1", 5),
    "server": ("10.0.0.9", 8000),
    "scheme": "http",
    "path": "/x",
    "raw_path": b"/x",
    "root_path": "",
    "host": [b"test"],
}
CHANGED = {
    **UNCHANGED,
    "client": ("203.0.113.7", 80),
    "server": ("example.org", 443),
    "scheme": "https",
    "host": [b"example.org"],
}


async def test_the_scope_has_what_a_trusted_proxy_says() -> None:
    assert await resolve(*ALL) == CHANGED
    assert await resolve(*ALL, client=None) == CHANGED  # of a Unix socket
    assert await resolve(*ALL, type="websocket", scheme="ws") == {**CHANGED, "scheme": "wss"}
    assert await resolve("Forwarded: for=1.2.3.4") == {**UNCHANGED, "client": ("1.2.3.4", 0)}
    assert await resolve("X-Forwarded-Prefix: /a%20b") == {
        **UNCHANGED,
        "root_path": "/a b",
        "path": "/a b/x",
        "raw_path": b"/a%20b/x",
    }


async def test_the_scope_of_others_is_left() -> None:
    assert await resolve(*ALL, client=("10.0.0.2", 5)) == {**UNCHANGED, "client": ("10.0.0.2", 5)}
    assert await resolve() == UNCHANGED
    assert await resolve("X-Forwarded-Prefix: /a", raw_path=None) == {
        **UNCHANGED,
        "root_path": "/a",
        "path": "/a/x",
        "raw_path": None,
    }


@pytest.mark.parametrize("field", ["X-Other: 1", "X-Forwarded-Prefix: /a"])
async def test_a_root_path_counts_where_no_trusted_proxy_names_one(field: str) -> None:
    for client, prefix in (("10.0.0.2", "/b"), ("10.0.0.1", "/a" if "Prefix" in field else "/b")):
        seen = await resolve(field, below="/b/", client=(client, 5), root_path="/of-hypercorn")
        assert (seen["root_path"], seen["path"]) == (prefix, f"{prefix}/x")
        assert seen["raw_path"] == seen["path"].encode()


@pytest.mark.parametrize("make_app", [make_quart_links, make_starlette_links])
async def test_links_of_an_app_below_a_root_path_have_it(make_app: Callable[[], Any]) -> None:
    async with serving_app(make_app(), root_path="/app") as where, Client(await connect(where)) as client:
        await client.get("/link?a=b")
        links = json.loads(await client.whole())
        assert links == ["http://test/app/sub/x", "http://test/app/link?a=b", "127.0.0.1"]


async def seen_by(app: Any, **options: Any) -> str:
    """Return what a stream of an app on hypercorn sees of its client."""
    async with serving_app(app, **options) as where, Client(await connect(where)) as client:
        await client.get("/peer", "X-Forwarded-For: 203.0.113.7", *ALL[1:])
        return str((await client.event()).data)


async def test_streams_have_the_clients_address(no_leak: LeakCheck) -> None:
    app, sse = make_quart(no_leak)

    @sse.route("/peer")
    async def peer(connection: Connection) -> None:
        await connection.send(f"{connection.peer} {connection.request.headers.get('host')}")
        await trio.sleep_forever()

    assert await seen_by(app, trusted_proxies=["127.0.0.1"]) == "203.0.113.7 example.org"
    assert (await seen_by(app, trusted_proxies=["10.0.0.1"])).startswith("127.0.0.1:")
    app.asgi_app = ProxyFixMiddleware(app.asgi_app, mode="legacy")  # type: ignore[method-assign]
    assert await seen_by(app) == "203.0.113.7 example.org"


async def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="must be an address"):
        OriginMiddleware(resolve, ["proxy"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be like /app"):
        OriginMiddleware(resolve, [], root_path="app")  # type: ignore[arg-type]
