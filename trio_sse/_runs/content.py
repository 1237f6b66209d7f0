"""What a run has put out so far: its texts, events and state, and its end.

Texts only grow, and events are only added. So what a client lacks follows from its position alone, and a
client that is slow, reconnects or comes late costs nothing while it is away: there is no queue for it.

Each event remembers how long the texts were, so that clients receive both in the order in which the run made
them. Who starts anew receives each text as one piece, however many it was made of, and then the events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, final

from .._shared_log.run_session import AttemptStart
from .._wire.json_text import compact_json
from .position import START, Position, is_beyond
from .protocol import RunEvent, text_data
from .status import RunEnd, RunStatus

# A larger piece of a text is sent in several events, since an event has a bound.
_LARGEST_PIECE = 128 * 1024

#: As many texts a run has at most.
MOST_TEXTS = 16

#: What an event takes besides its type and data, and a run besides its content; so many small ones are
#: bounded, too.
EVENT_SIZE = 200
RUN_SIZE = 2000


class Emitted(NamedTuple):
    """An event of a run, and how long its texts were when it was emitted."""

    event: str | None
    data: str
    lengths: tuple[int, ...]


@final
class RunContent:
    """The output of one run; it changes only by its methods, and without a checkpoint.

    Attributes:
        id: the run's id.
        created_at: in seconds since 1970.
        status: the run's state.
        end: how it has ended; `None` before.
        size: the bytes of everything in it, and `EVENT_SIZE` for each event.
        names: its texts' names, in the order in which they began.
        starts: of its attempts after the first, oldest first.
    """

    def __init__(self, id: str, created_at: float, status: RunStatus = RunStatus.PENDING) -> None:
        self.id = id
        self.created_at = created_at
        self.status = status
        self.end: RunEnd | None = None
        self.size = 0
        self.names: list[str] = []
        self.starts: tuple[AttemptStart, ...] = ()
        self._texts: list[bytearray] = []
        self._emitted: list[Emitted] = []
        self._state: str | None = None
        self._state_version = 0
        self._head = START

    @property
    def head(self) -> Position:
        """The position of who knows everything."""
        return self._head

    def text(self, name: str) -> bytes:
        """Return a text as UTF-8; empty if it has not begun."""
        return bytes(self._texts[self.names.index(name)]) if name in self.names else b""

    @property
    def state(self) -> str | None:
        """The newest state as JSON."""
        return self._state

    @property
    def state_size(self) -> int:
        """The bytes of the state."""
        return byte_size(self._state or "")

    @property
    def kept_size(self) -> int:
        """The bytes that it takes when it has ended: also those of its result and reason."""
        end_size = (
            0 if self.end is None else byte_size(self.end.result or "") + byte_size(self.end.reason or "")
        )
        return self.size + end_size + RUN_SIZE

    @property
    def emitted(self) -> Sequence[Emitted]:
        """The events that were emitted."""
        return self._emitted

    # Changes

    def append(self, name: str, piece: bytes) -> None:
        """Let a text grow."""
        if name not in self.names:
            self.names.append(name)
            self._texts.append(bytearray())
        self._texts[self.names.index(name)] += piece
        self.size += len(piece)
        self._move()

    def emit(self, event: str | None, data: str, lengths: tuple[int, ...] | None = None) -> None:
        """Add an event; `lengths` is what it came after, by default all of the texts."""
        self._emitted.append(Emitted(event, data, self._head.lengths if lengths is None else lengths))
        self.size += event_size(event, data)
        self._move()

    def set_state(self, state: str, version: int | None = None) -> None:
        """Replace the state by another, as JSON."""
        self.size += byte_size(state) - self.state_size
        self._state = state
        self._state_version = self._state_version + 1 if version is None else version
        self._move()

    def finish(self, end: RunEnd) -> None:
        """Set how the run has ended, once."""
        self.end = end
        self.status = end.status
        self._move()

    def set_starts(self, starts: Sequence[AttemptStart]) -> None:
        """Set where its attempts have begun."""
        if self.starts != (starts := tuple(starts)):
            self.starts = starts
            self._move()

    def clear(self) -> None:
        """Begin anew with nothing."""
        for part in (self.names, self._texts, self._emitted):
            part.clear()
        self.size = self._state_version = 0
        self._state = None
        self.starts = ()
        self._move()

    def _move(self) -> None:
        lengths = tuple(map(len, self._texts))
        head = Position(len(self._emitted), self._state_version, lengths, self.end is not None)
        for start in self.starts:
            if not _is_reached(start, head):
                break  # a store that has lost everything has it again before the output
            head = head._replace(epoch=start.epoch)
        self._head = head

    # What clients lack

    def has(self, position: Position) -> bool:
        """Whether a client can have this position, so that it can continue there."""
        head = self._head
        lengths = position.lengths
        later = self._later_starts(position)
        return (
            later is not None
            and not (later and is_beyond(position, *later[0][1:]))
            and position.events <= head.events
            and position.state <= head.state
            and len(lengths) <= len(head.lengths)
            and position.has_ended <= head.has_ended
            and all(
                length <= len(text) and _is_boundary(text, length)
                for length, text in zip(lengths, self._texts, strict=False)
            )
        )

    def lacks(self, position: Position) -> bool:
        """Whether a client may have more than this, which was not read yet."""
        if self.end is not None:
            return False
        later, head = self._later_starts(position), self._head
        return later is None or (
            not later and (position.has_ended or is_beyond(position, head.events, head.state, head.lengths))
        )

    def _later_starts(self, position: Position) -> Sequence[AttemptStart] | None:
        """Return the starts of attempts after that of a position; `None` if that attempt is unknown."""
        epochs = ["", *(start.epoch for start in self.starts)]
        return self.starts[epochs.index(position.epoch) :] if position.epoch in epochs else None

    def whole(self, *, in_order: bool = False) -> Sequence[RunEvent]:
        """Return everything, for who starts anew: each text in one piece, and then the events.

        `in_order` has texts and events in the order in which the run made them.
        """
        info = {"id": self.id, "status": self.status.value, "created_at": round(self.created_at, 3)}
        start = START._replace(epoch=self._head.epoch)
        events = [RunEvent("run", compact_json(info), start)]
        if in_order:
            return [*events, *self.since(start)]
        lengths: list[int] = []
        for index in range(len(self._texts)):
            lengths.append(0)
            events += self._pieces(lengths, index, len(self._texts[index]), start, first="text")
        return [*events, *self.since(start._replace(lengths=tuple(lengths)))]

    def since(self, position: Position) -> Sequence[RunEvent]:
        """Return what follows after a position, in order; nothing if it is the head.

        The position of each event names the attempt that has made it, and no event has output of two.
        """
        if position == self._head:
            return ()
        if (event := self._growth_since(position)) is not None:
            return (event,)
        events: list[RunEvent] = []
        for start in self._later_starts(position) or ():
            if not _is_reached(start, self._head):
                break
            events += self._output_between(position, start.events, start.lengths)
            position = Position(start.events, position.state, start.lengths, position.has_ended, start.epoch)
        events += self._output_between(position, self._head.events, self._head.lengths)
        position = position._replace(events=self._head.events, lengths=self._head.lengths)
        if position.state != self._state_version and self._state is not None:
            position = position._replace(state=self._state_version)
            events.append(RunEvent("state", self._state, position))
        if self.end is not None and not position.has_ended:
            events.append(RunEvent("end", _end_data(self.end), position._replace(has_ended=True)))
        return events

    def _growth_since(self, position: Position) -> RunEvent | None:
        """Return what follows after a position if that is one piece of one text, as most often; or `None`."""
        events, state, lengths, has_ended, epoch = position
        head = self._head
        if events != head.events or state != head.state or has_ended != head.has_ended or epoch != head.epoch:
            return None
        grown = -1
        for index, length in enumerate(head.lengths):
            if index >= len(lengths) or lengths[index] != length:
                if grown >= 0:
                    return None
                grown = index
        if grown < 0:
            return None
        start = lengths[grown] if grown < len(lengths) else 0
        if not 0 < head.lengths[grown] - start <= _LARGEST_PIECE:
            return None
        return RunEvent("append", text_data(self.names[grown], self._texts[grown][start:]), head)

    def _output_between(
        self, position: Position, event_count: int, upto: Sequence[int]
    ) -> Iterator[RunEvent]:
        """Yield the texts and events after a position, up to so many events and bytes, in order."""
        lengths = list(position.lengths) + [0] * (len(self._texts) - len(position.lengths))
        for number in range(position.events, event_count):
            item = self._emitted[number]
            yield from self._grown(lengths, item.lengths, position)
            position = position._replace(events=number + 1, lengths=tuple(lengths))
            yield RunEvent(item.event, item.data, position)
        yield from self._grown(lengths, upto, position)

    def _grown(self, lengths: list[int], upto: Sequence[int], position: Position) -> Iterator[RunEvent]:
        for index, length in enumerate(upto):
            yield from self._pieces(lengths, index, length, position, first="append")

    def _pieces(
        self, lengths: list[int], index: int, upto: int, position: Position, *, first: str
    ) -> Iterator[RunEvent]:
        """Yield a text from `lengths[index]` up to a length, and move `lengths` there."""
        text, name = self._texts[index], self.names[index]
        while (start := lengths[index]) < upto:
            stop = min(start + _LARGEST_PIECE, upto)
            while not _is_boundary(text, stop):
                stop -= 1
            lengths[index] = stop
            position = position._replace(lengths=tuple(lengths))
            yield RunEvent(first, text_data(name, text[start:stop]), position)
            first = "append"


def byte_size(text: str) -> int:
    """Return how many bytes a text has in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def event_size(event: str | None, data: str) -> int:
    """Return what an event counts for in the size of a run."""
    return byte_size(data) + byte_size(event or "") + EVENT_SIZE


def _is_reached(start: AttemptStart, position: Position) -> bool:
    """Whether a position has all events and texts that there were when an attempt began."""
    place = Position(start.events, position.state, start.lengths, False)
    return not is_beyond(place, position.events, position.state, position.lengths)


def _is_boundary(text: bytearray, index: int) -> bool:
    """Whether a character begins there, or the text ends."""
    return index >= len(text) or text[index] & 0xC0 != 0x80


def _end_data(end: RunEnd) -> str:
    fields: dict[str, object] = {"status": end.status.value}
    if end.reason is not None:
        fields["reason"] = end.reason
    data = compact_json(fields)
    return data if end.result is None else f'{data[:-1]},"result":{end.result}}}'
