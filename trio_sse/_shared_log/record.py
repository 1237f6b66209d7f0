"""A message as the record of a shared log's entry, and back."""

from __future__ import annotations

import json
from collections.abc import Collection

from .._wire.event import MAX_DATA_SIZE, ServerSentEvent, check_key
from .._wire.message import Message
from .._wire.state_change import ChangeKind, StateChange
from .._wire.topic import check_topic

# Made once: `json.dumps` with options makes one for each call. It is quicker with texts than with a list.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


# A hub's records are smaller: the data takes twice its bound at most, and the other fields are short.
_MAX_RECORD_SIZE = 3 * MAX_DATA_SIZE


def encode_record(message: Message, mark: str) -> bytes:
    """Return a message's record; `mark` distinguishes it from other messages with the same content.

    The context of the message's trace follows the mark, so that nodes that know nothing of it ignore it.
    """
    event = message.unplaced_event
    if message.trace is not None:
        mark = f"{mark} {message.trace}"
    fields: tuple[object, ...] = (message.topic, event.data, event.event, message.key, event.retry, mark)
    if (change := message.change) is not None:
        fields += ([change.kind.value, change.base, change.token, change.seen],)
    return f"[{','.join(['null' if field is None else _encode(field) for field in fields])}]".encode()


def topic_of(record: bytes) -> str | None:
    """Return the topic of a record, or `None` if the record is corrupt, as far as that is seen.

    It costs a tenth of decoding: most records of a page are for other topics than a reader's.
    """
    if record.startswith(b'["'):
        name, quote, _ = record[2:].partition(b'"')
        if quote and b"\\" not in name:
            return name.decode(errors="replace")  # what is not UTF-8 is no topic that anybody has
    try:
        return decode_record(record).topic
    except Exception:  # as for the follower
        return None


def decode_record(record: bytes) -> Message:
    """Return the message of a record.

    Raises:
        ValueError, TypeError: the record is corrupt.
    """
    if len(record) > _MAX_RECORD_SIZE:
        raise ValueError(f"the record has {len(record)} bytes, more than any event")
    fields = json.loads(record.decode())  # of bytes, it would look for their encoding
    if not isinstance(fields, list) or len(fields) < 5:
        raise ValueError("the record is not a list of five fields and a mark")
    topic, data, event, key, retry, mark, *more = [*fields, None][: max(6, len(fields))]
    if not isinstance(data, str):
        raise TypeError("the record's data is not a string")
    if key is not None:
        key = check_key(key)
    made = ServerSentEvent(data, event=event, retry=retry)
    message = Message(check_topic(topic), made, str(made.data), key)
    if type(mark) is str and " " in mark:
        message.trace = mark.partition(" ")[2]
    if more:
        message.change = _decode_change(more[0])
    return message


def may_change(record: bytes, topics: Collection[str]) -> bool:
    """Whether a record may be of one of these topics; most others are recognized without decoding them."""
    return record.startswith(tuple([f"[{_encode(topic)},".encode() for topic in topics]))


def _decode_change(field: object) -> StateChange:
    match field:
        case [str(kind), None | str() as base, str(token), str(seen)]:
            return StateChange(ChangeKind(kind), base, token, seen)
    raise ValueError("the record's change of a state is malformed")
