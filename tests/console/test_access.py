"""Who may use the console: peers, origins, the token, logins and CSRF."""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_sse import Connection, EndReason, HTTPException, Request, Response, Server
from trio_sse._console.credentials import SESSION_SECONDS, Credentials, make_token, session_expires_at
from trio_sse._console.peers import AllowedPeers
from trio_sse._http.request import Headers
from trio_sse._proxies.trusted_proxies import TrustedProxies

from ..support.cases import each_case
from ..support.console import BEARER, TOKEN, ask, log_in, post, send
from ..support.leaks import MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.waiting import until

DATA = ["/session", "/stream"]
FILES = ["/", "/app.js", "/style.css", "/theme.js", "/favicon.svg"]


# Peers


@each_case(
    ("peer", "fields", "is_allowed"),
    [
        ("127.0.0.1:5000", {}, True),
        ("127.8.9.1:5000", {}, True),
        ("[::1]:5000", {}, True),
        ("[::ffff:127.0.0.1]:5000", {}, True),
        ("unix", {}, True),
        ("stream", {}, False),
        ("", {}, False),
        ("192.0.2.7:5000", {}, False),
        ("[fe80::1%eth0]:5000", {}, False),
        # What a proxy on this machine passes on, whether it is trusted or not.
        ("127.0.0.1:5000", {"X-Forwarded-For": "192.0.2.7"}, False),
        ("127.0.0.1:5000", {"X-Forwarded-For": "127.0.0.1"}, True),
        ("127.0.0.1:5000", {"X-Forwarded-For": "127.0.0.1, 192.0.2.7"}, False),
        ("127.0.0.1:5000", {"X-Forwarded-For": "192.0.2.7, 127.0.0.1"}, False),
        ("127.0.0.1:5000", {"X-Forwarded-For": "127.0.0.1, 10.0.0.1"}, True),  # 10.0.0.1 is a trusted proxy
        ("127.0.0.1:5000", {"X-Forwarded-For": "nonsense"}, False),
        ("127.0.0.1:5000", {"X-Forwarded-For": ""}, False),
        ("127.0.0.1:5000", {"X-Real-IP": "192.0.2.7"}, False),
        ("127.0.0.1:5000", {"Forwarded": 'for="[2001:db8::1]:4711";proto=https'}, False),
        ("127.0.0.1:5000", {"Forwarded": "for=127.0.0.1, for=_hidden"}, False),
        ("127.0.0.1:5000", {"Forwarded": "for=127.0.0.1;by=10.0.0.1"}, True),
        ("127.0.0.1:5000", {"Forwarded": "proto=https"}, False),
        ("unix", {"X-Forwarded-For": "192.0.2.7"}, False),
        # Further networks.
        ("203.0.113.9:5000", {}, True),
        ("127.0.0.1:5000", {"X-Forwarded-For": "203.0.113.9"}, True),
        ("10.0.0.1:5000", {"X-Forwarded-For": "203.0.113.9"}, False),  # the server would say 203.0.113.9
    ],
)
def test_every_address_of_the_sender_must_be_allowed(
    peer: str, fields: dict[str, str], is_allowed: bool
) -> None:
    peers = AllowedPeers(["203.0.113.0/24"], TrustedProxies(["10.0.0.1"]))
    headers = Headers([(name.encode(), value.encode()) for name, value in fields.items()])
    assert peers.allow(Request("GET", "/", "/", headers, "1.1", peer, b"")) is is_allowed


async def test_the_client_that_a_trusted_proxy_names_counts() -> None:
    server = Server(console=True, console_token=TOKEN, trusted_proxies=["127.0.0.1"])
    async with on_sockets(server) as running:
        for address, status in (("192.0.2.7", 403), ("127.0.0.1", 200)):
            head, text = await ask(running, "/session", BEARER, f"X-Forwarded-For: {address}")
            assert head.status == status, text


async def test_a_peer_elsewhere_is_refused_even_with_the_token(make_server: MakeServer) -> None:
    server = make_server(console=True, console_token=TOKEN)
    async with in_memory(server) as running:
        client = running.connect()  # whose address is not known
        for path in (*DATA, *FILES):
            head = await send(client, path, BEARER)
            assert (head.status, b"this machine" in await client.sized_body(head)) == (403, True)


# Credentials


def test_credentials_are_those_of_one_token_and_expire() -> None:
    now = 1_000_000.0
    own = Credentials(TOKEN, clock=lambda: now)
    again, other = Credentials(TOKEN, clock=lambda: now), Credentials(make_token(), clock=lambda: now)
    session = own.new_session()
    assert (own.is_token(TOKEN), own.is_token(TOKEN + "x"), own.is_token("é")) == (True, False, False)
    assert (again.is_session(session), other.is_session(session)) == (True, False)
    assert (own.cookie_name == again.cookie_name, own.cookie_name == other.cookie_name) == (True, False)
    assert TOKEN not in session
    for changed in ("", "1.2.3", session[:-1], "9" + session, session.replace(".", "..", 1), "é.é"):
        assert not own.is_session(changed)
    csrf = own.csrf_token(session)
    assert again.is_csrf_token(session, csrf)
    assert not own.is_csrf_token(own.new_session(), csrf)
    now += SESSION_SECONDS
    assert not own.is_session(session)


@each_case(
    ("options", "what"),
    [
        ({"console_token": "short"}, "at least 16"),
        ({"console_token": "with a space in it"}, "spaces"),
        ({"console_token": "a-token-with-an-é"}, "ASCII"),
        ({"console_token": 7}, "must be a str"),
        ({"console_peers": ["10.0.0.0/33"]}, "an address of console_peers must be"),
        ({"console_peers": "10.0.0.1"}, "console_peers must be a collection"),
    ],
)
def test_options_are_checked(options: dict[str, Any], what: str) -> None:
    with pytest.raises((TypeError, ValueError), match=what):
        Server(console=True, **options)


# Requests


async def test_there_is_no_console_by_default(make_server: MakeServer) -> None:
    server = make_server()
    assert server.console_token is None
    async with on_sockets(server) as running:
        for path in ("", *DATA, *FILES):
            assert (await ask(running, path, BEARER))[0].status == 404


async def test_data_needs_the_token_and_the_page_does_not(make_server: MakeServer) -> None:
    server = make_server(console=True, console_token=TOKEN)
    async with on_sockets(server) as running:
        for path in FILES:
            head, text = await ask(running, path)
            assert (head.status, bool(text)) == (200, True)
            policy = head.get("Content-Security-Policy") or ""
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "data:" not in policy
            assert head.get("X-Frame-Options") == "DENY"
            assert (await ask(running, path, method="HEAD"))[0].status == 200
        for lines, status in (((BEARER,), 200), ((), 401)):
            assert (await ask(running, "/stream", *lines, method="HEAD"))[0].status == status
        for path in DATA:
            for lines in ((), ("Authorization: Bearer no",), ("Authorization: Basic no",), ("Cookie: a=b",)):
                assert (await ask(running, path, *lines))[0].status == 401
        head, text = await ask(running, "/session", BEARER)
        assert (head.status, json.loads(text), head.get("Cache-Control")) == (200, {"csrf": ""}, "no-store")
        assert (await ask(running, ""))[0].get("Location") == "_sse/"
        for method in ("OPTIONS", "POST"):
            head, _ = await ask(running, "/session", "Origin: https://example.org", method=method)
            assert head.status == 405
            assert head.get("Access-Control-Allow-Origin") is None


@pytest.mark.parametrize(
    "lines",
    [
        ["Origin: https://example.org"],
        ["Origin: http://test:8001"],
        ["Origin: null"],
        ["Sec-Fetch-Site: cross-site"],
        ["Sec-Fetch-Site: same-site"],
    ],
)
async def test_pages_of_other_origins_are_refused(lines: list[str]) -> None:
    """Also where the server's own streams may be read by them, and with the cookie, which a browser adds."""
    server = Server(
        console=True, console_token=TOKEN, cors_origins=["https://example.org"], cors_credentials=True
    )
    async with on_sockets(server) as running:
        cookie, csrf = await log_in(running)
        for path in (*DATA, "/"):
            assert (await ask(running, path, cookie, *lines))[0].status == 403
        for path in ("/publish", "/end", "/drain", "/watch", "/login", "/logout"):
            head, _ = await ask(running, path, cookie, csrf, *lines, method="POST", body={"topic": "a"})
            assert head.status == 403
        assert server.hub.statistics().published == 0


async def test_the_streams_of_a_login_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise they would go on without end where `max_duration` is infinite."""
    server = Server(console=True, console_token=TOKEN)
    async with on_sockets(server) as running:
        cookie, csrf = await log_in(running)
        assert session_expires_at(cookie.partition("=")[2]) > time.time()
        monkeypatch.setattr("trio_sse._console.access.session_expires_at", lambda cookie: 1)  # long ago
        await ask(running, "/stream", cookie)
        await ask(running, "/watch", cookie, csrf, method="POST", body={"topic": "a"})
        await until(lambda: server.statistics().ended.get(EndReason.EXPIRED) == 2)


async def test_a_login_sets_a_cookie_and_its_actions_need_the_csrf_token(make_server: MakeServer) -> None:
    server = make_server(console=True, console_token=TOKEN)
    async with on_sockets(server) as running:
        head, _ = await ask(running, "/login", method="POST", body={"token": "a-wrong-token-it-is"})
        assert (head.status, head.get("Set-Cookie")) == (401, None)
        for body, lines, status in (
            ({"token": 7}, (), 401),
            ({"token": "x" * 5000}, (), 413),
            ("[]", (), 400),
            ("{", (), 400),
            ("[" * 4000, (), 400),
            (f"token={TOKEN}", ("Content-Type: application/x-www-form-urlencoded",), 415),
        ):
            assert (await ask(running, "/login", *lines, method="POST", body=body))[0].status == status
        for origin, is_secure in (("http://test", False), ("https://test", True)):
            head, _ = await ask(running, "/login", f"Origin: {origin}", method="POST", body={"token": TOKEN})
            cookie = head.get("Set-Cookie") or ""
            assert "; HttpOnly; SameSite=Strict" in cookie
            assert ("; Secure" in cookie) is is_secure
            assert TOKEN not in cookie
        cookie, csrf = await log_in(running)
        assert f"X-CSRF-Token: {json.loads((await ask(running, '/session', cookie))[1])['csrf']}" == csrf
        _, csrf_of_other = await log_in(running)
        for token, status in (
            (csrf, 204),
            (csrf_of_other, 403),
            ("X-CSRF-Token: no", 403),
            ("X-Other: 1", 403),
        ):
            head, text = await ask(
                running, "/publish", cookie, token, method="POST", body={"topic": "a", "data": "b"}
            )
            assert head.status == status, text
        assert server.hub.statistics().published == 1
        head, _ = await ask(running, "/logout", cookie, csrf, method="POST", body={})
        assert (head.status, "Max-Age=0" in (head.get("Set-Cookie") or "")) == (204, True)


@pytest.mark.usefixtures("protocol")
async def test_it_answers_when_the_server_is_full_and_calls_no_hooks(make_server: MakeServer) -> None:
    server = make_server(console=True, console_token=TOKEN, max_connections=1)
    called = []

    @server.on_connect
    def refuse(connection: Connection) -> None:
        called.append(connection.request.path)
        if connection.request.path != "/busy":
            raise HTTPException(401)

    @server.route("/busy")
    async def busy(connection: Connection) -> None:
        await connection.subscribe("busy")

    async with on_sockets(server) as running, await running.connect() as client:
        await client.get("/busy")
        async with await running.connect() as watching:
            assert (await watching.get("/_sse/stream", BEARER)).status == 200
            assert (await watching.event()).event == "history"
            assert (await ask(running, "/session", BEARER))[0].status == 200
    assert called == ["/busy"]


async def test_a_route_of_the_same_path_replaces_it(make_server: MakeServer) -> None:
    server = make_server(console=True, console_token=TOKEN)

    @server.endpoint("/_sse/session")
    async def mine(request: Request) -> Response:
        return Response("mine")

    async with on_sockets(server) as running:
        assert (await ask(running, "/session"))[1] == "mine"


# The token's way to the operator


async def test_a_token_that_is_made_is_printed_once_and_never_logged(
    make_server: MakeServer, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = make_server(console=True, access_log=True)
    server.configure(keep_alive=5)
    token = server.console_token
    assert token is not None
    bearer = f"Authorization: Bearer {token}"
    for _ in range(2):
        async with on_sockets(server) as running:
            assert (await ask(running, "/session", bearer))[0].status == 200
            assert (await ask(running, "/login", method="POST", body={"token": token}))[0].status == 200
            assert (await ask(running, "/login", method="POST", body={"token": token + "x"}))[0].status == 401
            head, _ = await ask(running, "/publish", bearer, method="POST", body={"topic": "a", "data": "b"})
            assert head.status == 204
    printed = capsys.readouterr().err
    assert printed.count(f"/_sse/#token={token}\n") == printed.count(token) == 1
    assert printed.startswith("Console: http://127.0.0.1:")
    text = "\n".join(record.getMessage() + str(record.__dict__) for record in caplog.records)
    assert "publish peer=127.0.0.1:" in text
    assert "wrong token" in text
    assert token not in text
    assert token[:12] not in text


@pytest.mark.parametrize(
    ("make", "host"),
    [
        (lambda path: bound(socket.AF_INET, ("0.0.0.0", 0)), r"localhost:\d+"),
        (lambda path: bound(socket.AF_INET6, ("::1", 0)), r"\[::1\]:\d+"),
        (lambda path: bound(socket.AF_UNIX, str(path / "socket")), "localhost"),
    ],
)
async def test_the_link_names_where_the_server_listens(
    make_server: MakeServer,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    make: Callable[[Path], socket.socket],
    host: str,
) -> None:
    server = make_server(console=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve_listeners, [make(tmp_path)])
        nursery.cancel_scope.cancel()
    assert re.fullmatch(rf"Console: http://{host}/_sse/#token=\S+\n", capsys.readouterr().err)


def bound(family: int, address: Any) -> socket.socket:
    made = socket.socket(family)
    made.bind(address)
    made.listen()
    return made


async def test_a_token_that_was_set_is_not_printed(
    make_server: MakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server = make_server(console=True, console_token=TOKEN)
    assert server.console_token == TOKEN
    async with on_sockets(server) as running:
        assert (await post(running, "/publish", {"topic": "a", "data": "b"}))[0] == 204
    assert capsys.readouterr() == ("", "")
