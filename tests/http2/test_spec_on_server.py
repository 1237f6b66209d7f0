"""RFC 9113 and RFC 7541, section by section, on a server that listens: all cases on one of them."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trio_sse._http2.preface import PREFACE

from ..support.asgi_apps import Receive, Send, answer, http_only
from ..support.leaks import MakeServer
from ..support.serving import on_sockets
from ..support.waiting import SECONDS
from .peer import Peer, probe
from .spec import ALL_CASES, Case
from .spec.case import MAX_STREAMS

# Each byte of a small case arrives alone, after the preface and SETTINGS. Large ones arrive in uneven pieces.
_BEGINNING, _SMALL, _PIECE = len(PREFACE) + 9, 400, 1021

_AT_ONCE = 10


@http_only
async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer as `spec.case` says."""
    body = b""
    if scope["path"] == "/unread":
        await trio.sleep_forever()
    elif scope["path"] == "/echo":
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
    elif scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"open", "more_body": True})
        await trio.sleep_forever()
    elif scope["path"] == "/" and scope["method"] == "GET":
        body = b"ok"
    await answer(send, body, 200 if scope["path"] in ("/", "/echo") else 404)


@pytest.mark.slow
@pytest.mark.parametrize("is_split", [False, pytest.param(True, marks=pytest.mark.integration)])
async def test_the_server_does_what_the_rfcs_say(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch, is_split: bool
) -> None:
    # Clients that wait for the end are silent: the server need not wait for them as long as usual.
    monkeypatch.setattr("trio_sse._transport.base.LINGER_SILENCE_SECONDS", 1.0)
    server = make_server(
        app=app,
        http2_cleartext=True,
        http2_max_streams=MAX_STREAMS,
        max_header_size=16 * 1024,
        max_header_fields=100,
    )
    cases, failures = iter(ALL_CASES), dict[str, object]()

    async def work(address: tuple[str, int]) -> None:
        for case in cases:
            if (failure := await run(case, address, is_split=is_split)) is not None:
                failures[f"{case.section}: {case.name}"] = failure

    async with on_sockets(server, seconds=2 * SECONDS) as running, trio.open_nursery() as nursery:
        for _ in range(_AT_ONCE):
            nursery.start_soon(work, running.address)

    assert not failures


def pieces(data: bytes) -> list[bytes]:
    """Return small pieces of what a client sends."""
    begin = _BEGINNING if data.startswith(PREFACE) else 0
    size = 1 if len(data) <= _SMALL else _PIECE
    return [data[:begin], *[data[start : start + size] for start in range(begin, len(data), size)]]


async def run(case: Case, address: tuple[str, int], *, is_split: bool) -> object:
    """Return what was received, if it is not what is expected; else `None`."""
    peer, is_open = Peer(case), True
    with trio.move_on_after(SECONDS / 2):
        async with await trio.open_tcp_stream(*address) as stream:

            async def receive_some() -> None:
                nonlocal is_open
                data = await stream.receive_some()
                is_open = bool(data)
                if case.expected != "closed":
                    peer.receive(data)

            try:
                for part in [*peer.parts(), probe()]:
                    if isinstance(part, bytes):
                        for piece in pieces(part) if is_split else [part]:
                            await stream.send_all(piece)
                        continue
                    while part not in peer.seen and is_open:
                        await receive_some()
            except trio.BrokenResourceError:
                assert case.expected.startswith(("GOAWAY", "closed")), case
            is_fatal = case.expected.startswith(("GOAWAY", "closed"))
            while is_open and (is_fatal or peer.missing or not peer.is_probed):
                await receive_some()
            if (
                is_open != is_fatal
                and not peer.surprises()
                and (case.expected == "closed" or not peer.missing)
            ):
                return None
    return peer.seen, is_open
