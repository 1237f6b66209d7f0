"""A published event on its way: `Message`, and `Batch`, several messages that are sent in one write.

The invariant: **a message does not change after it has been placed** in the hub's order. So the log, every
queue and every connection's write share it. Frames are made on first need, and shared as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import final

from .event import Dumps, ServerSentEvent, encode_parts, encode_topic, trusted_event
from .held_states import id_holding
from .state_change import StateChange
from .websocket_frames import event_frame


@final
class Framing(IntEnum):
    """How an event stream's bytes are wrapped for the transport under it."""

    PLAIN = 0
    """Not at all: HTTP/1.0, and hosts that frame bodies themselves."""

    CHUNKED = 1
    """As one chunk of HTTP/1.1 (RFC 9112, 7.1)."""

    CHUNKED_BY_HOST = 2
    """The same, if the host ends the body."""

    WEBSOCKET = 3
    """Each event as a JSON message (RFC 6455), without what only an event stream has, such as comments."""


_FRAMINGS = len(Framing)

# A batch is kept for readers of so many sets of states. Where each has a state of its own, none is shared.
_MOST_MARKS = 16


def frame(data: bytes, framing: Framing) -> bytes:
    """Frame bytes of an event stream, which must not be empty: an empty chunk would end the body."""
    if framing is Framing.PLAIN:
        return data
    assert framing is not Framing.WEBSOCKET, "a WebSocket carries messages"
    return b"%x\r\n%b\r\n" % (len(data), data)


def frame_event(event: ServerSentEvent, framing: Framing, dumps: Dumps) -> bytes:
    """Encode and frame an event that was not published; raise what `ServerSentEvent.encode` raises."""
    if framing is Framing.WEBSOCKET:
        return event_frame(event.text(dumps=dumps), event.event, event.id, event.retry, event.topic)
    return frame(event.encode(dumps=dumps), framing)


@final
class Message:
    """An event that was published to a topic: checked and encoded, and later placed in the hub's order.

    Attributes:
        topic: where it was published; empty for a reset, which the hub itself makes.
        key: what it is about, for `Overflow.LATEST`; may be `None`.
        sequence: its place in the hub's order, from 1; 0 until it is placed.
        id: its id; empty until it is placed.
        wire: its bytes on the wire, with its id as soon as it is placed.
        change: what it does to the state that is its topic; `None` for all other messages.
        idempotency: the digest of its idempotency key, if it has one.
        on_place: called when it is placed.
        trace: the context of the span in which it was published, as W3C's `traceparent`, if it is traced.
    """

    __slots__ = (
        "_chunk",
        "_event",
        "_websocket_frame",
        "change",
        "id",
        "idempotency",
        "key",
        "on_place",
        "sequence",
        "topic",
        "trace",
        "wire",
    )

    def __init__(self, topic: str, event: ServerSentEvent, text: str, key: str | None = None) -> None:
        """Encode an event that has no id yet; `text` is its data, encoded."""
        self.topic = topic
        self.key = key
        self.sequence = 0
        self.id = ""
        self.change: StateChange | None = None
        self.idempotency: bytes | None = None
        self.on_place: Callable[[], None] | None = None
        self.trace: str | None = None
        self.wire = encode_parts(text, event.event, None, event.retry, event.comment)
        self._event = event if event.data is text else trusted_event(text, event.event, None, event.retry)
        self._websocket_frame: bytes | None = None
        self._chunk: bytes | None = None  # empty if it is to be kept when it is made

    def place(self, sequence: int, id: str) -> None:
        """Assign the message its place in the hub's order, once."""
        self.sequence = sequence
        self.id = id
        self.wire = b"id: %b\n%b" % (id.encode(), self.wire)
        if self.on_place is not None:
            self.on_place()
            self.on_place = None

    def share_frames(self) -> None:
        """Keep the message's chunk, too, since many connections will write the message each by itself."""
        self._chunk = b""

    @property
    def shares_frames(self) -> bool:
        """Whether it is best written by itself, in a frame that all connections share."""
        return self._chunk is not None

    def framed(self, framing: Framing) -> bytes:
        """Return its bytes in this framing."""
        if framing is Framing.WEBSOCKET:
            return self.websocket_frame
        if self._chunk is None or framing is Framing.PLAIN:
            return frame(self.wire, framing)
        self._chunk = self._chunk or frame(self.wire, framing)
        return self._chunk

    @property
    def is_reset(self) -> bool:
        """Whether it announces a gap: that its reader has missed events that the log has lost."""
        return not self.topic

    @property
    def websocket_frame(self) -> bytes:
        """Its frame on a WebSocket. It is made on first need, and kept for replays and readers that lag.

        It is not kept if it is much larger than `wire`, whose size the bounds of logs and queues count.
        """
        if self._websocket_frame is not None:
            return self._websocket_frame
        event = self._event
        made = event_frame(str(event.data), event.event, self.id or None, event.retry)
        if len(made) <= 2 * len(self.wire):
            self._websocket_frame = made
        return made

    def wire_with(self, id: str) -> bytes:
        """Return its bytes on the wire with another id; it must be placed."""
        return b"id: %b\n%b" % (id.encode(), self.wire[len(f"id: {self.id}\n".encode()) :])

    def with_id(self, id: str) -> Message:
        """Return a copy with another id; it must be placed."""
        copy = object.__new__(Message)  # it is encoded already
        copy.topic, copy.key, copy.change, copy.trace = self.topic, self.key, self.change, self.trace
        copy.idempotency = copy.on_place = None
        copy.sequence, copy.id, copy.wire = self.sequence, id, self.wire_with(id)
        copy._event = self._event
        copy._websocket_frame = None
        copy._chunk = None if self._chunk is None else b""
        return copy

    def websocket_frame_with(self, id: str, *, with_topic: bool = False) -> bytes:
        """Return its frame on a WebSocket with another id."""
        event = self._event
        topic = self._named_topic if with_topic else None
        return event_frame(str(event.data), event.event, id, event.retry, topic)

    @property
    def topic_field(self) -> bytes:
        """What says its topic, before its bytes on the wire."""
        return encode_topic(self.topic) if self.topic else b""

    @property
    def _named_topic(self) -> str | None:
        return self.topic or None

    @property
    def unplaced_event(self) -> ServerSentEvent:
        """The event; before the message is placed, it has no id."""
        return self._event

    @property
    def event(self) -> ServerSentEvent:
        """The event as subscribers receive it: its data as text, its id the hub's."""
        if self._event.id != self.id:
            event = self._event
            self._event = trusted_event(str(event.data), event.event, self.id, event.retry)
        return self._event

    @property
    def event_with_topic(self) -> ServerSentEvent:
        """The event, which says its topic."""
        event = self._event
        return trusted_event(str(event.data), event.event, self.id, event.retry, self._named_topic)


#: What an event is about: its topic and its key, or `True` for a change of the state that is its topic. So
#: the event of an ordinary topic does not replace a change of the state that it was.
Key = tuple[str, str | bool | None]


@final
class Batch:
    """Messages in their order, joined so that they cost one write for each connection.

    A batch is framed at most once for each framing, and all connections share the bytes.
    """

    __slots__ = ("_framed", "_holding", "_newest", "count", "messages", "size")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.count = len(messages)
        self.size = sum(len(message.wire) for message in messages)  # in bytes
        self._framed: list[bytes | None] = [None] * (2 * _FRAMINGS)  # without and with their topics
        self._newest: dict[Key, Message] | None = None
        self._holding: dict[str, Batch] | None = None  # by their marks

    def holding(self, mark: str) -> Batch:
        """Return the batch for readers that have the states of this mark, whose ids say so; they share it."""
        if self._holding is None:
            self._holding = {}
        batch = self._holding.get(mark)
        if batch is None:
            if len(self._holding) == _MOST_MARKS:
                del self._holding[next(iter(self._holding))]
            messages = [message.with_id(id_holding(message.id, mark)) for message in self.messages]
            batch = self._holding[mark] = Batch(messages)
        return batch

    @property
    def newest(self) -> dict[Key, Message]:
        """The newest message of each topic and key, in their order; made once, on first need."""
        if self._newest is None:
            self._newest = {}
            for message in self.messages:
                key = (message.topic, message.key if message.change is None else True)
                self._newest.pop(key, None)
                self._newest[key] = message
        return self._newest

    def framed(self, framing: Framing) -> bytes:
        """Return the batch's bytes in this framing."""
        framed = self._framed[framing]
        if framed is None:
            framed = self._framed[framing] = frame_messages(self.messages, framing)
        return framed

    def framed_with_topics(self, framing: Framing) -> bytes:
        """Return the same, where each event says its topic."""
        framed = self._framed[framing + _FRAMINGS]
        if framed is None:
            framed = self._framed[framing + _FRAMINGS] = frame_with_topics(self.messages, framing)
        return framed


def frame_messages(messages: Sequence[Message], framing: Framing) -> bytes:
    """Return the messages' bytes in this framing, one after the other."""
    if len(messages) == 1:
        return messages[0].framed(framing)
    if framing is Framing.WEBSOCKET:
        return b"".join([message.websocket_frame for message in messages])
    return frame(join(messages), framing)


def frame_with_topics(messages: Sequence[Message], framing: Framing) -> bytes:
    """Return the messages' bytes in this framing, where each says its topic."""
    if framing is Framing.WEBSOCKET:
        return b"".join([message.websocket_frame_with(message.id, with_topic=True) for message in messages])
    return frame(b"".join([message.topic_field + message.wire for message in messages]), framing)


def frame_with_ids(
    messages: Sequence[Message], ids: Sequence[str], framing: Framing, *, with_topic: bool = False
) -> bytes:
    """Return the messages' bytes in this framing, with these ids instead of their own."""
    pairs = zip(messages, ids, strict=True)
    if framing is Framing.WEBSOCKET:
        return b"".join([message.websocket_frame_with(id, with_topic=with_topic) for message, id in pairs])
    if with_topic:
        wires = [message.topic_field + message.wire_with(id) for message, id in pairs]
    else:
        wires = [message.wire_with(id) for message, id in pairs]
    return frame(b"".join(wires), framing)


def join(messages: Sequence[Message]) -> bytes:
    """Return the messages' bytes on the wire, one after the other."""
    return b"".join([message.wire for message in messages])
