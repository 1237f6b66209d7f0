"""Records of a shared log: any bytes are a message that can be stored again, or are refused in two ways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from trio_sse import ServerSentEvent
from trio_sse._shared_log.checks import check_after, check_end, check_upto
from trio_sse._shared_log.protocol import Entry, LogEnd
from trio_sse._shared_log.record import decode_record, encode_record, may_change, topic_of
from trio_sse._wire.decoder import EventDecoder
from trio_sse._wire.message import Framing, Message
from trio_sse._wire.state_change import ChangeKind, StateChange
from trio_sse.redis import _entries

from ..source import Source

_FIELDS = (b"e", b"n", b"d", b"x")


def seeds() -> Iterator[bytes]:
    event = ServerSentEvent('{"a":1}', event="e", retry=7)
    message = Message("t", event, '{"a":1}', "k")
    yield encode_record(message, "m-1")
    message.trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for kind in ChangeKind:
        message.change = StateChange(kind, "1.2", "token", "1.1")
        yield encode_record(message, "m-1")
    yield b'["t\\u0041","\\ud800",null,null,null,"m"]'
    yield b'["t","a",null,null,1e400,"m"]'
    yield b'["t","a",null,null,true]'
    yield b"\x021-1\0\1e\0\0011\1\1n\1\x0012\2\1d\0\4" + b"data"


def check(data: bytes) -> None:
    try:
        message = decode_record(data)
    except (ValueError, TypeError, RecursionError):
        message = None
    topic = topic_of(data)
    if message is not None:
        assert topic == message.topic
        _check_message(message)
        assert may_change(data, [message.topic, "other"]) or not data.startswith(
            b'["' + message.topic.encode() + b'",'
        )
    _check_redis(Source(data))


def _check_message(message: Message) -> None:
    again = decode_record(encode_record(message, "m-2"))
    one, other = message.unplaced_event, again.unplaced_event
    assert (again.topic, again.key, again.change) == (message.topic, message.key, message.change)
    assert (one.data, one.event, one.retry) == (other.data, other.event, other.retry)
    assert again.trace == message.trace
    again.place(3, "1-3")
    (event,) = EventDecoder().feed(again.wire)
    assert (event.data, event.event, event.id, event.retry) == (one.data, one.event, "1-3", one.retry)
    for framing in Framing:
        assert again.framed(framing)
    again.websocket_frame_with("1-3", with_topic=True)
    json.loads(encode_record(again, "m-3"))


def _check_redis(source: Source) -> None:
    """What Redis can return, also of other programs' entries: ids are right, and the rest is anything."""
    found: list[list[Any]] = []
    for number in range(1, 1 + source.number(5)):
        fields: list[bytes] = []
        for _ in range(source.number(5)):
            fields.append(source.choice((*_FIELDS, source.piece())))
            fields.append(source.choice((source.piece(), b"1", b"%d" % number)))
        found.append([b"1-%d" % number, fields])
    entries = _entries(found)
    assert [entry.id for entry in entries] == [id.decode() for id, _ in found]
    for entry in check_after(entries, "1-0"):
        assert type(entry) is Entry and (entry.number > 0) == bool(entry.epoch)
    check_upto(entries[::-1], "1-9")
    try:
        end = check_end(LogEnd(source.text(), source.number(256) - 1, source.text()))
    except (TypeError, ValueError):
        return
    assert int(end.epoch) >= 0 and end.number >= 0
