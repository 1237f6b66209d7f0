"""What trusted proxies say, on a server that is not ours: in the scope, and in the streams of an app."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypercorn.middleware import ProxyFixMiddleware

from trio_sse import Connection
from trio_sse._asgi.origin_middleware import OriginMiddleware
from trio_sse._proxies.forwarded import FORWARDED_HEADERS

from ..support.client import Client
from ..support.leaks import LeakCheck
from .test_apps_on_hypercorn import make_quart, serving_app
from .test_hypercorn import connect

ALL = ("X-Forwarded-For: 203.0.113.7:80", "X-Forwarded-Proto: https", "X-Forwarded-Host: example.org")


async def resolve(*lines: str, **scope: Any) -> dict[str, Any]:
    """Return the scope that an app gets."""
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
    await OriginMiddleware(app, ["10.0.0.1", "unix"], FORWARDED_HEADERS)(whole, None, None)  # type: ignore[arg-type]
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
        OriginMiddleware(resolve, ["proxy"], FORWARDED_HEADERS)  # type: ignore[arg-type]
