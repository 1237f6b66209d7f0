"""Random bytes: the server answers or closes, and never hangs or breaks."""

from __future__ import annotations

import contextlib
import random

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trio_sse import Server

from ..support.hostile import PATIENCE, Target
from ..support.raw_requests import VALID, get, request
from ..support.serving import in_memory
from ..support.shares import examples

PIECES = st.sampled_from(
    [
        *(b"GET", b"POST", b"HEAD", b"OPTIONS", b" ", b"\t", b"/stream", b"/body", b"/echo/a", b"/topics/a"),
        *(b"*", b"http://test/", b"?a=b", b"#", b"%00", b"%", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0"),
        *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"Host: test", b"Host", b":", b"X: y", b"X", b"\x00", b"\xff"),
        *(
            b"Content-Length: ",
            b"5",
            b"0",
            b"Transfer-Encoding: ",
            b"chunked",
            b"5\r\n12345\r\n",
            b"0\r\n\r\n",
        ),
        *(b"Connection: close", b"Expect: 100-continue", b"Upgrade: websocket", b"Last-Event-ID: x"),
    ]
)
VALID_REQUESTS = st.sampled_from(
    [
        VALID,
        get("/topics/a?last_event_id=b", "Origin: http://a"),
        request("POST", "/body", "Content-Length: 5") + b"12345",
        request("POST", "/body", "Transfer-Encoding: chunked") + b"5\r\n12345\r\n0\r\n\r\n",
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a valid request with some bytes removed, inserted or replaced."""
    raw = bytearray(draw(VALID_REQUESTS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 4)))
        raw[start:end] = draw(st.binary(max_size=4) | PIECES)
    return bytes(raw)


@pytest.mark.slow
@given(
    raw=st.binary(max_size=200) | st.lists(PIECES, max_size=20).map(b"".join) | mutated(),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=examples(200), suppress_health_check=list(HealthCheck))
def test_no_bytes_can_hang_or_break_the_server(raw: bytes, seed: int) -> None:
    trio.run(_answer_to_noise, raw, seed, clock=trio.testing.MockClock(autojump_threshold=0))


async def _answer_to_noise(raw: bytes, seed: int) -> None:
    target = Target(Server, max_duration=20, keep_alive=20)
    split = random.Random(seed).randint(0, len(raw))
    with trio.fail_after(PATIENCE):
        async with in_memory(target.server) as serving, serving.connect() as client:
            await client.send(raw[:split])
            await trio.testing.wait_all_tasks_blocked()
            with contextlib.suppress(trio.BrokenResourceError):  # refused already
                await client.send(raw[split:])
            reply = await client.closed()
    if reply:
        assert int(reply.split(b" ")[1]) in {100, 200, 204, *range(400, 500), 501, 505}, reply
    assert target.server.statistics().open_streams == 0
