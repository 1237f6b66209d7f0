"""Event streams: decoded by WHATWG's algorithm, in pieces as at once; what is encoded is decoded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

from trio_sse import ServerSentEvent
from trio_sse._wire.decoder import EventDecoder
from trio_sse._wire.event import MAX_RETRY, encode_comment
from trio_sse._wire.message import Framing, frame_event

from ..source import Source, pieces

Fields = tuple[str, str | None, str | None, int | None, str | None]


def seeds() -> Iterator[bytes]:
    yield b"data: a\n\n"
    yield b"\xef\xbb\xbfid: 1\nevent: e\ndata: a\ndata:b\r\n\r\nretry: 10\r\rdata\n\n"
    yield b"id: a\0b\n: comment\ntopic: t\ndata:  two\n\nid\n\ndata: \xff\xc3\n\r\n"
    yield b"retry: 9007199254740992\nretry: 0017\ndata: \xe2\x80\xa8\n\nid: 7\n\ndata: unended"
    yield b"\xff\x00\x00\x05hello\x03evt\x02id\x05\x04note"


def check(data: bytes) -> None:
    found = _decode([data], len(data))
    assert found == _decode(pieces(data), len(data))
    assert found == _reference(data)
    assert sum(len(event[0]) for event in found[0]) <= len(data)
    with suppress(ValueError):  # of a bound
        _decode(pieces(data), 20)
    _check_round_trip(Source(data))


def _decode(parts: Iterable[bytes], most: int) -> tuple[list[Fields], str, int | None]:
    decoder = EventDecoder(max_size=most)
    events = [
        (str(event.data), event.event, event.id, event.retry, event.topic)
        for part in parts
        for event in decoder.feed(part)
    ]
    return events, decoder.last_event_id, decoder.retry


def _reference(data: bytes) -> tuple[list[Fields], str, int | None]:
    """Do what HTML, 9.2.6 says, word for word; `topic` is a field like `event`."""
    text = data.decode("utf-8", "replace")
    lines = re.split("\r\n|\r|\n", text.removeprefix("\ufeff"))[:-1]
    events: list[Fields] = []
    buffer, last_id, retry = "", "", None
    block: dict[str, str] = {}
    own_retry: int | None = None
    for line in lines:
        if not line:
            last_id = buffer
            if "data" in block:
                found = block["data"].removesuffix("\n")
                events.append(
                    (found, block.get("event") or None, block.get("id"), own_retry, block.get("topic"))
                )
            block, own_retry = {}, None
            continue
        name, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name and colon:
            continue
        if name == "data":
            block["data"] = block.get("data", "") + value + "\n"
        elif name in ("event", "topic"):
            block[name] = value
        elif name == "id" and "\0" not in value:
            buffer = block["id"] = value
        elif name == "retry" and re.fullmatch("0*[0-9]{1,16}", value) and int(value) <= MAX_RETRY:
            retry = own_retry = int(value)
    return events, last_id, retry


def _check_round_trip(source: Source) -> None:
    try:
        event = ServerSentEvent(
            source.text(),
            event=source.choice((None, source.text())),
            id=source.choice((None, source.text())),
            retry=source.choice((None, int.from_bytes(source.take(7)))),
            comment=source.choice((None, source.text())),
            topic=source.choice((None, source.text())),
        )
    except ValueError:
        return
    encoded = frame_event(event, Framing.PLAIN, json.dumps)
    decoder = EventDecoder()
    assert decoder.feed(encoded) == [event]
    assert decoder.last_event_id == (event.id or "")
    if event.comment is not None:
        assert decoder.feed(encode_comment(event.comment) + b"\n") == []
    framed = frame_event(event, Framing.WEBSOCKET, json.dumps)
    start = {126: 4, 127: 10}.get(framed[1], 2)
    sent = json.loads(framed[start:])
    assert sent["data"] == event.data and sent.get("id") == event.id and sent.get("topic") == event.topic
