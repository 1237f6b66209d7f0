"""Runs: what a store has of them, what nodes say of them, and the JSON that clients send to begin them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from trio_sse._http.exceptions import HTTPException
from trio_sse._http.request import Headers, make_request
from trio_sse._log_backends.readable_runs import run_or_none
from trio_sse._log_backends.redis_runs import _stored
from trio_sse._runs.content import RunContent
from trio_sse._runs.position import START, Position
from trio_sse._runs.protocol import RunEvent, RunEvents
from trio_sse._runs.routes import value_of
from trio_sse._runs.signals import read_signal
from trio_sse._runs.stored import apply_stored, encode_changes, info_of
from trio_sse._runs.writing import AppendText, Change, EmitEvent, SetState
from trio_sse._shared_log.run_session import RunChanges, StoredRun
from trio_sse._wire.decoder import EventDecoder
from trio_sse._wire.json_text import compact_json
from trio_sse._wire.message import Framing

from ..source import Source

_ID = "b3JZ5cQwAbCdEfGh"
_KINDS = ("application/json", "text/plain", "application/json; charset=utf-8", "")


def seeds() -> Iterator[bytes]:
    yield b'\0\0{"changed":["a","b"],"watched":["c"],"cancelled":{"a":"why"},"released":true}'
    yield b'\0\0{"changed":7,"cancelled":["a"]}'
    yield b'\0\0{"a":[1,2.5,-1e300,"\\ud83d\\ude00",null,{"b":[]}]}'
    yield b"\0\0[1e999]"
    yield b'\0\0"\\ud800"'
    yield b"\0\0NaN"
    yield b"\1\x05hello\0\3abc\1\4\x02evt\x04data\2\x02{}\0\5\xc3\xa4\xf0\x9f\x98"
    parts = [b"o", b"k", b"h", b""]
    yield (
        b"\2"
        + b"".join(map(_piece, parts))
        + b"\1\x04text\1"
        + (b"".join(map(_piece, (b'["e","d",[5]]', b"hello", b"ab-0-0-3 ", b"[1]"))))
    )
    yield b"\2" + _piece(b"") * 3 + _piece(b'["finished",null,"{}",2.5]') + b"\0\1" + _piece(b'[null,"d",[]]')


def _piece(text: bytes) -> bytes:
    return bytes((len(text),)) + text


def check(data: bytes) -> None:
    source = Source(data)
    mode = source.number(3)
    if mode == 0:
        kind, body = source.choice(_KINDS), source.rest()
        _check_body(kind, body)
        _check_signal(body)
    elif mode == 1:
        _check_changes(source)
    else:
        _check_stored(source)


def _check_body(kind: str, body: bytes) -> None:
    headers = Headers([(b"content-type", kind.encode())] if kind else [])
    try:
        value = value_of(make_request("POST", "/", "/", headers, "1.1", "", body))
    except HTTPException as refusal:
        assert refusal.status == 400
        return
    if "json" not in kind:
        assert value == body.decode()
        return
    text = compact_json(value)
    text.encode()
    assert json.loads(text) == value


class _Reader:
    """Reads signals as a node does: it looks things up by them."""

    def on_changed(self, ids: Iterable[str]) -> None:
        for id in ids:
            assert hash(id) is not None

    on_watched = on_changed

    def on_cancelled(self, reasons: Mapping[str, str]) -> None:
        for id, _ in reasons.items():
            assert hash(id) is not None

    def on_released(self) -> None: ...


def _check_signal(body: bytes) -> None:
    logging.disable(logging.CRITICAL)
    read_signal(body.decode("utf-8", "replace"), _Reader())


def _check_changes(source: Source) -> None:
    """What a node stores of a run is what another one reads, however it was divided."""
    content, other = RunContent(_ID, 1.5), RunContent(_ID, 1.5)
    number = 0
    while source and number < 20:
        number += 1
        changes: list[Change] = []
        for _ in range(1 + source.number(3)):
            text = source.text().encode("utf-8", "replace").decode().replace("\r", "\n") or "x"
            kinds: tuple[Change, ...] = (
                AppendText(source.choice(("text", "name")), text.encode()),
                EmitEvent(source.choice((None, "e")), text),
                SetState('{"a":1}'),
            )
            changes.append(source.choice(kinds))
        before = content.head
        stored = _as_stored(content, encode_changes(content, changes, attempt=1, number=number))
        apply_stored(content, stored)
        _check_since(content, before)
        apply_stored(other, stored)
    assert other.head == content.head and other.size == content.size
    assert other.whole() == content.whole()
    assert other.whole(in_order=True) == content.whole(in_order=True)


def _as_stored(content: RunContent, changes: RunChanges) -> StoredRun:
    names, pieces = list(content.names), [b""] * len(content.names)
    for _, name, piece in changes.pieces:
        if name not in names:
            names.append(name)
            pieces.append(b"")
        pieces[names.index(name)] += piece
    lengths = [len(content.text(name)) + len(piece) for name, piece in zip(names, pieces, strict=True)]
    state = changes.state or (content.head.state, None)
    return StoredRun(
        *(_ID, None, None, 1.5, True, 1, changes.number, changes.size, lengths),
        *(
            content.head.events + len(changes.events),
            state[0],
            changes.end,
            names,
            pieces,
            changes.events,
            state[1],
        ),
    )


def _check_since(content: RunContent, before: Position) -> None:
    """Who has a part of a run receives the rest, and then has the whole."""
    assert content.has(before) or not all(
        _is_whole(content.text(name)[:length])
        for name, length in zip(content.names, before.lengths, strict=False)
    )
    texts = dict.fromkeys(content.names, "")
    for event in content.since(START):
        if event.event in ("text", "append"):
            fields = json.loads(event.data)
            texts[fields.get("name", "text")] += fields["text"]
    for name, text in texts.items():
        assert text.encode("utf-8", "surrogatepass") == content.text(name)
    events = content.since(START)
    assert not events or events[-1].position == content.head


def _is_whole(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_stored(source: Source) -> None:
    """What any program has stored cannot be read, or is a run that can be shown from any position."""
    fields: list[Any] = [b"1", source.piece(), source.piece(), b"1.5", source.piece(), b"1", b"1", b"2"]
    end, names = source.piece(), [source.piece() for _ in range(source.number(4))]
    events = [source.piece() for _ in range(source.number(4))]
    pieces = [source.piece() for _ in names]
    lengths = [len(piece) for piece in pieces]
    row = [
        *fields,
        end,
        names,
        b"7",
        source.piece(),
        lengths,
        len(events),
        pieces,
        events,
        source.piece() or None,
    ]
    stored = run_or_none(_ID, _stored, _ID, row)
    if stored is None:
        return
    content, lengths = RunContent(_ID, 1.5), []
    with suppress(ValueError):
        info_of(stored, viewers=0)
    with suppress(ValueError):
        apply_stored(content, stored)
    for position in (START, START._replace(lengths=tuple(lengths)), content.head):
        if content.has(position):
            _check_sent(content, content.since(position))
    _check_sent(content, content.whole())


def _check_sent(content: RunContent, events: Sequence[RunEvent]) -> None:
    """A client receives just these events."""
    if not events:
        return
    received = EventDecoder().feed(RunEvents(_ID, events).framed(Framing.PLAIN))
    assert [(event.event, event.data) for event in received] == [
        (event.event, event.data) for event in events
    ]
    assert RunEvents(_ID, events).framed(Framing.WEBSOCKET)
    assert events[-1].position == content.head
