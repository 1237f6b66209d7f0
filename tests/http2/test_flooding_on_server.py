"""Floods on a server: it ends the connection, serves others, and nothing is left."""

from __future__ import annotations

from itertools import islice

import pytest
import trio
import trio.testing

from trio_sse._http2.preface import PREFACE
from trio_sse._transport import http2_writer

from ..support.leaks import MakeServer
from ..support.serving import in_memory
from ..support.waiting import SECONDS
from .peer import Peer
from .spec import Case
from .spec.case import GET, MAX_STREAMS, post, request, setting
from .test_flooding import FLOODS, IDS
from .test_spec_on_server import app

CASE = Case("", "", (b"",))

# Some of each kind: requests, frames of the connection and of a stream, header blocks.
NAMES = [
    "requests that are reset at once",
    "requests beyond the last stream",
    "refused requests",
    "resets of a stream that is closed",
    "PING",
    "SETTINGS that change a small window",
    "WINDOW_UPDATE of a stream",
    "DATA that is only padding",
    "CONTINUATION that is empty",
    "many small fields",
]


@pytest.mark.slow
@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("name", NAMES)
async def test_a_flood_ends_its_connection_only(make_server: MakeServer, name: str, reads: bool) -> None:
    server = make_server(app=app, http2_cleartext=True, http2_max_streams=MAX_STREAMS)
    unit, acceptable = FLOODS[name]
    with trio.fail_after(SECONDS):
        async with in_memory(server) as running:
            attacker, theirs = trio.testing.memory_stream_pair()
            running.nursery.start_soon(server.serve_stream, theirs)
            other, theirs = trio.testing.memory_stream_pair()
            running.nursery.start_soon(server.serve_stream, theirs)

            flood = b"".join([unit(stream_id) for stream_id in islice(IDS, 2 * acceptable + 100)])
            await attacker.send_all(PREFACE + setting() + post(1) + flood)
            await other.send_all(PREFACE + setting() + request(1))
            peer = Peer(CASE)
            while "1: end" not in peer.seen:
                peer.receive(bytes(await other.receive_some()))
            if reads:
                peer = Peer(CASE)
                while data := await attacker.receive_some():
                    peer.receive(bytes(data))
                assert "GOAWAY ENHANCE_YOUR_CALM" in peer.seen
            else:
                await attacker.aclose()
            await other.aclose()


async def test_heads_for_a_client_that_reads_nothing_are_bounded(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each response is complete with its head, so no stream stays open, and no window holds it back."""
    monkeypatch.setattr(http2_writer, "_MOST_WAITING", 16 * 1024)
    server = make_server(app=app, http2_cleartext=True)
    with trio.fail_after(SECONDS):
        async with in_memory(server) as running:
            client, theirs = trio.testing.lockstep_stream_pair()
            running.nursery.start_soon(server.serve_stream, theirs)
            await client.send_all(PREFACE + setting())
            head = GET.replace("GET", "HEAD")
            sent = 0

            async def send_forever() -> None:
                nonlocal sent
                for first in range(1, 2**31, 20):
                    requests = [request(stream_id, head) for stream_id in range(first, first + 20, 2)]
                    await client.send_all(b"".join(requests))
                    sent += len(requests)

            with pytest.raises(trio.BrokenResourceError):
                await send_forever()
            assert sent < 1_000  # their heads have some 40 bytes each
            await client.aclose()
