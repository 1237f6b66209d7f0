"""How a temporary refusal is answered, and to whom."""

from __future__ import annotations

from trio_sse import HTTPException
from trio_sse._http.event_source import is_event_source, refusal_response
from trio_sse._http.exceptions import TemporaryRefusal
from trio_sse._http.request import Headers
from trio_sse._wire.decoder import EventDecoder

from ..support.cases import each_case

STREAM = (b"accept", b"text/event-stream")
NO_CACHE = (b"cache-control", b"no-cache")


@each_case(
    ("fields", "expected"),
    [
        ([STREAM, NO_CACHE], True),
        ([STREAM, NO_CACHE, (b"sec-fetch-mode", b"cors")], True),
        ([(b"accept", b"Text/Event-Stream"), (b"cache-control", b"No-Cache")], True),
        ([STREAM], True),
        ([], False),
        ([NO_CACHE], False),
        ([(b"accept", b"*/*"), NO_CACHE], False),
        ([(b"accept", b"text/event-stream, application/json"), NO_CACHE], False),
        ([STREAM, (b"accept", b"application/json"), NO_CACHE], False),
        ([STREAM, NO_CACHE, (b"cache-control", b"no-store")], False),
        ([STREAM, (b"sec-fetch-mode", b"cors")], False),  # a page's own fetch
        ([STREAM, (b"cache-control", b"no-store")], False),  # httpx-sse
    ],
)
def test_who_is_an_event_source(fields: list[tuple[bytes, bytes]], expected: bool) -> None:
    assert is_event_source(Headers(fields)) is expected


def test_an_event_source_gets_a_stream_that_ends() -> None:
    response = refusal_response(TemporaryRefusal(503, "full"), Headers([STREAM, NO_CACHE]))
    assert (response.status, response.content_type) == (200, "text/event-stream")
    decoder = EventDecoder()
    assert isinstance(response.body, str)
    assert list(decoder.feed(response.body.encode())) == []
    assert decoder.retry is not None
    assert 1000 <= decoder.retry <= 10_000


def test_its_reconnection_times_differ() -> None:
    bodies = {refusal_response(TemporaryRefusal(429, "x"), Headers([STREAM])).body for _ in range(20)}
    assert len(bodies) > 10


def test_others_and_other_refusals_get_the_status() -> None:
    assert refusal_response(TemporaryRefusal(503, "full"), Headers([])).status == 503
    own = HTTPException(503, headers={"Retry-After": "5"})
    assert refusal_response(own, Headers([STREAM, NO_CACHE])).status == 503
