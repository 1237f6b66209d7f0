"""A hub on a log in which anybody has written: it delivers what is right, in order, and goes on."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import trio
import trio.testing

from trio_sse import Hub, ServerSentEvent
from trio_sse._shared_log.record import decode_record, encode_record
from trio_sse._wire.message import Message
from trio_sse._wire.state_change import ChangeKind, StateChange

from ...support.list_log import ListLog
from ..source import Source

_TOPICS = ("t", "t", "state", "room", "nodes", "revocations", "signals", "presence", "")
_EVENTS = (None, "state", "merge-patch", "json-patch", "snapshot", "patch", "e", "")
_BASES = (None, "", "1.1", "1.2", "x", "1.18446744073709551616")
_LAST = "the last one"
_SECONDS = 600.0


def seeds() -> Iterator[bytes]:
    yield b"\1\0\0\0\0\2\1\4text"
    yield b'\1\2\1\0\1\7{"a":1}\1\2\2\1\0\1\7{"a":2}'
    yield b"\0\x0enot any record\2\0\0\1"
    yield bytes((1, 3, 1, 7, 1, 6)) + b'{"a"}}' + bytes((1, 4, 0, 7, 1, 13)) + b'{"watch":1e9}'


def check(data: bytes) -> None:
    logging.disable(logging.CRITICAL)
    trio.run(_check, Source(data), clock=trio.testing.MockClock(autojump_threshold=0))


async def _check(source: Source) -> None:
    log = ListLog()
    hub = Hub(log=log)
    hub.state("state", {"a": 0})
    hub.presence("room")
    expected: list[str] = []
    async with trio.open_nursery() as nursery:
        with trio.fail_after(_SECONDS):
            await nursery.start(hub.run)
            async with hub.subscribe("t") as events, hub.subscribe("state") as state:
                while source and len(log.entries) < 12:
                    _add(log, source, expected)
                last = log.publish("t", _LAST)
                expected.append(_LAST)
                found = [await anext(events) for _ in expected]
                assert [event.data for event in found] == expected
                assert found[-1].id == last[0]
                json.loads(str((await anext(state)).data))
                await hub.publish("t", "ours")
                assert (await anext(events)).data == "ours"
        nursery.cancel_scope.cancel()


def _add(log: ListLog, source: Source, expected: list[str]) -> None:
    """Let another program add an entry; note what subscribers of "t" receive of it."""
    kind = source.number(4)
    if kind == 3:
        log.add_foreign()
        return
    record = source.piece() if kind == 0 else _record(source)
    log.add(record)
    try:
        message = decode_record(record)
    except (ValueError, TypeError, RecursionError):
        return
    if message.topic == "t" and (message.change is None or message.change.is_sent):
        expected.append(str(message.unplaced_event.data))


def _record(source: Source) -> bytes:
    """Return the record of a message of any kind; not everything in it need be right."""
    topic, event = source.choice(_TOPICS), source.choice(_EVENTS)
    kind = source.choice((None, *ChangeKind))
    text = source.piece().decode("utf-8", "replace")
    try:
        message = Message(topic, ServerSentEvent(text, event=event), text)
    except ValueError:
        return b"[]"
    if kind is not None:
        message.change = StateChange(kind, source.choice(_BASES), "token", source.choice(("", "1.1")))
    return encode_record(message, "m")
