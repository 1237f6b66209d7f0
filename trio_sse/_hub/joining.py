"""Which messages of several topics are joined to one write, and for whom.

A batch of the pump may have messages of many topics, and each subscriber takes those of some topics. What
one subscriber takes is joined, and subscribers that take the same share it. So the first event costs a write,
and each further one next to nothing, however the topics take turns.

Two bounds keep that cheap where subscribers have different, overlapping sets of topics. The work for one of
them grows with the events that it receives, and each joined batch is made when it is delivered, and dropped
then. And what few subscribers share is joined in small pieces: a client that lags holds the bytes of one
piece at most, and of the rest the messages, which all share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import final

from .._wire.message import Batch, Message
from .pacing import Subscriber

# What fewer subscribers than this share is joined in pieces of so many bytes.
_FEW = 4
_PIECE_BYTES = 16 * 1024

# Let other tasks run after this many steps, of some 0.1 us each.
_STEPS_PER_PAUSE = 5000
_COMPARED_PER_STEP = 16

_sequence = attrgetter("sequence")


#: Messages of one topic, and the topic's live subscribers when they were placed.
Bound = tuple[list[Message], Sequence[Subscriber]]

#: A batch and those who receive it.
Delivery = tuple[Batch, Sequence[Subscriber]]


@final
class _Part:
    """Messages of one topic or more that have the same subscribers."""

    __slots__ = ("bit", "messages", "subscribers")

    def __init__(self, messages: list[Message], subscribers: Sequence[Subscriber], bit: int) -> None:
        self.messages = messages
        self.subscribers = subscribers
        self.bit = bit


def join(bound: Sequence[Bound], *, has_overlaps: bool) -> Iterable[Delivery | None]:
    """Return what is to be delivered; `None` stands where other tasks should run.

    Each subscriber receives all of its messages, in their order.

    Args:
        has_overlaps: whether a subscriber may have several of the topics.
    """
    if len(bound) == 1 or not has_overlaps or _are_disjoint(bound):
        return [(Batch(messages), subscribers) for messages, subscribers in bound]
    return _join_some([each for each in bound if each[1]])


def _join_some(bound: Sequence[Bound]) -> Iterator[Delivery | None]:
    parts: list[_Part] = []
    yield from _merge_equal(bound, parts)
    if len(parts) > 1:
        yield from _join_parts(parts)
    elif parts:
        yield Batch(parts[0].messages), parts[0].subscribers


def _are_disjoint(bound: Sequence[Bound]) -> bool:
    """Whether nobody receives messages of two topics, as far as that can be seen at once."""
    count = sum([len(subscribers) for _, subscribers in bound])
    return count <= _STEPS_PER_PAUSE and count == len(set().union(*[subscribers for _, subscribers in bound]))


def _merge_equal(bound: Sequence[Bound], parts: list[_Part]) -> Iterator[None]:
    """Fill `parts`: topics with the same subscribers become one."""
    similar: dict[tuple[int, int, int], _Part] = {}
    merged: set[_Part] = set()
    steps = 0
    for messages, subscribers in bound:
        steps += len(subscribers) // _COMPARED_PER_STEP
        if steps > _STEPS_PER_PAUSE:
            steps = 0
            yield
        new = _Part(messages, subscribers, 1 << len(parts))
        part = similar.setdefault((len(subscribers), id(subscribers[0]), id(subscribers[-1])), new)
        if part is new:
            parts.append(part)
        elif part.subscribers == subscribers:
            part.messages += messages
            merged.add(part)
        else:
            parts.append(new)
    for part in merged:
        part.messages.sort(key=_sequence)


def _join_parts(parts: Sequence[_Part]) -> Iterator[Delivery | None]:
    """Deliver to each subscriber the messages of all parts that it has."""
    largest = max(parts, key=lambda part: len(part.subscribers))
    sets: dict[Subscriber, int] = {}  # the bits of the parts that it has; not yet of the largest one
    steps = 0
    for part in parts:
        if part is largest:
            continue
        for subscriber in part.subscribers:
            sets[subscriber] = sets.get(subscriber, 0) | part.bit
            steps += 1
            if steps > _STEPS_PER_PAUSE:
                steps = 0
                yield None
    alone: dict[int, Batch] = {}  # the batches of single large messages, by sequence
    others = [subscriber for subscriber in largest.subscribers if subscriber not in sets]
    if others:
        for batch in _batches(largest.messages, len(others), alone):
            yield batch, others
    for subscriber in largest.subscribers:
        if subscriber in sets:
            sets[subscriber] |= largest.bit
    if len(sets) > _STEPS_PER_PAUSE:
        yield None
    members: dict[int, list[Subscriber]] = {}
    for subscriber, bits in sets.items():
        members.setdefault(bits, []).append(subscriber)
    if len(sets) > _STEPS_PER_PAUSE:
        yield None
    for bits, subscribers in members.items():
        for batch in _batches(_messages_of(bits, parts), len(subscribers), alone):
            yield batch, subscribers


def _messages_of(bits: int, parts: Sequence[_Part]) -> list[Message]:
    """Return the messages of the parts with these bits, in their order."""
    messages: list[Message] = []
    is_one = bits & (bits - 1) == 0
    while bits:
        part = parts[(bits & -bits).bit_length() - 1]
        if is_one:
            return part.messages
        messages += part.messages
        bits &= bits - 1
    messages.sort(key=_sequence)
    return messages


def _batches(messages: list[Message], subscribers: int, alone: dict[int, Batch]) -> Iterator[Batch]:
    """Yield the messages in batches that are as large as so many subscribers may share."""
    if subscribers >= _FEW:
        yield Batch(messages)
        return
    piece: list[Message] = []
    size = 0
    for message in messages:
        length = len(message.wire)
        if piece and size + length > _PIECE_BYTES:
            yield Batch(piece)
            piece, size = [], 0
        if length > _PIECE_BYTES:
            batch = alone.get(message.sequence)
            if batch is None:
                batch = alone[message.sequence] = Batch([message])
            yield batch
        else:
            piece.append(message)
            size += length
    if piece:
        yield Batch(piece)
