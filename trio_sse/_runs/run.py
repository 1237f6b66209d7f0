"""A run as its function sees it."""

from __future__ import annotations

import json
from typing import Any, final

import trio

from .._validate import check_bounds
from .._wire.event import ServerSentEvent
from .._wire.json_text import compact_json
from .content import MOST_TEXTS, byte_size, event_size
from .errors import RunEnded
from .flushing import RunFlusher
from .protocol import MAIN_TEXT, RESERVED, event_text
from .record import RunRecord
from .writing import EmitEvent, SetCheckpoint, SetState

# A function that adds more than this waits for the next flush.
_MOST_PENDING_BYTES = 64 * 1024
_MOST_PENDING_CALLS = 256
_LONGEST_NAME = 64


@final
class Run:
    """The run that a function belongs to; passed as its first argument.

    Any task inside the function may call its methods. What is added becomes visible to the run's viewers in
    the order of the calls, within some milliseconds.

    Its methods check for cancellation, and wait while too much has not become visible yet. If one is
    cancelled, nothing was added.
    """

    __slots__ = ("_checkpoint", "_flusher", "_names", "_record")

    def __init__(self, record: RunRecord, flusher: RunFlusher, checkpoint: str | None = None) -> None:
        self._checkpoint = checkpoint
        self._record = record
        self._flusher = flusher
        self._names: set[str] = set(record.content.names)

    def __repr__(self) -> str:
        return f"<Run {self.id[:8]}: {self._record.content.status.value}>"

    @property
    def id(self) -> str:
        """The run's id, which lets anybody join it."""
        return self._record.content.id

    @property
    def owner(self) -> str | None:
        """Who has started it, as was passed to `Runs.start`."""
        return self._record.owner

    @property
    def attempt(self) -> int:
        """1, or more if the run was resumed after its node has died, as `Runs.resumable` says."""
        return 1 if self._record.holding is None else self._record.holding.attempt

    @property
    def checkpoint_value(self) -> Any:
        """The newest value of `checkpoint`, also of an earlier attempt; `None` if there is none."""
        return None if self._checkpoint is None else json.loads(self._checkpoint)

    async def append(self, text: str, *, name: str = MAIN_TEXT) -> None:
        """Let a text of the run grow by a piece, such as a token.

        Args:
            text: the piece.
            name: which text, if there are several: 1 to 64 characters, 16 texts at most.

        Raises:
            TypeError, ValueError: an argument is not acceptable.
            RunTooLarge: the run would have more bytes than it may.
            RunEnded: the run has ended.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, not {type(text).__name__}")
        if name not in self._names:
            self._check_name(name)
        await self._prepare(size := byte_size(text))
        if text:
            self._names.add(name)
            self._record.pending.append(name, text, size)
            self._flusher.schedule(self._record)

    async def emit(self, data: object, *, event: str | None = None) -> None:
        """Add an event, which viewers receive as it is, after what was added before.

        Args:
            data, event: as for `ServerSentEvent`, except that the types of the run protocol are refused, and
                that a `str` may have lone surrogates. Event streams have U+FFFD for them.

        Raises:
            TypeError, ValueError: an argument is not acceptable.
            RunTooLarge, RunEnded: as `append`.
        """
        if event in RESERVED:
            raise ValueError(f"{event!r} is a type of the run protocol: use another one")
        text = event_text(data, event)
        size = event_size(event, text)
        await self._prepare(size)
        self._record.pending.add(EmitEvent(event, text), size)
        self._flusher.schedule(self._record)

    async def set_state(self, value: object) -> None:
        """Replace the run's state by another JSON value. Viewers receive the newest one.

        Raises:
            TypeError, ValueError: it is not a JSON value, or is too large for an event.
            RunTooLarge, RunEnded: as `append`.
        """
        text = compact_json(value)
        ServerSentEvent(text)  # checks its size
        size = byte_size(text)
        await self._prepare(size, replaces_state=True)
        self._record.pending.add(SetState(text), size)
        self._flusher.schedule(self._record)

    async def checkpoint(self, value: object) -> None:
        """Set the value from which another node can go on, and wait until it is stored.

        What was added right before, without waiting for anything else in between, is stored in the same
        step. If this is cancelled, the value may be stored later.

        Args:
            value: a JSON value that is not too large for an event.

        Raises:
            TypeError, ValueError: it is not.
            RunTooLarge, RunEnded: as `append`. Only the newest checkpoint counts.
        """
        text = compact_json(value)
        ServerSentEvent(text)  # checks its size
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_running()
        record, size = self._record, byte_size(text)
        if not record.has_room(size - record.checkpoint_size):
            await self.flush()  # what is pending may replace a state
            record.check_room(size - record.checkpoint_size)
        record.checkpoint_size = size
        record.pending.add(SetCheckpoint(text), 0)
        self._checkpoint = text
        await self.flush()

    def text(self, *, name: str = MAIN_TEXT) -> str:
        """Return a text as far as it is visible; empty if it has not begun."""
        return self._record.content.text(name).decode("utf-8", "surrogatepass")

    async def flush(self) -> None:
        """Wait until everything that was added is visible; over a shared log, until it is stored.

        Raises:
            RunEnded: the run has ended.
        """
        await trio.lowlevel.checkpoint()
        while self._record.pending:
            self._check_running()
            self._flusher.schedule(self._record, now=True)
            await self._record.wait_flushed()

    def _check_name(self, name: object) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        check_bounds(1, name=len(name))
        if len(name) > _LONGEST_NAME:
            raise ValueError(f"a text's name must have at most {_LONGEST_NAME} characters, not {len(name)}")
        name.encode()  # raises a ValueError for half of a character
        if len(self._names) >= MOST_TEXTS:
            raise ValueError(f"a run has at most {MOST_TEXTS} texts, and {name[:20]!r} would be another one")

    async def _prepare(self, size: int, *, replaces_state: bool = False) -> None:
        """Wait for room, and check the bounds; the caller then adds what it has without a checkpoint."""
        await trio.lowlevel.checkpoint_if_cancelled()
        record = self._record
        pending, content = record.pending, record.content
        if (
            content.end is None
            and pending.size <= _MOST_PENDING_BYTES
            and pending.count < _MOST_PENDING_CALLS
            and record.has_room(size)
        ):
            return  # as most often
        while (
            pending.size > _MOST_PENDING_BYTES
            or pending.count >= _MOST_PENDING_CALLS
            # What is pending may replace a state.
            or (pending and not record.has_room(size))
        ):
            self._check_running()
            self._flusher.schedule(record, now=True)
            await record.wait_flushed()
        self._check_running()
        replaced = content.state_size if replaces_state else 0
        record.check_room(size - replaced)

    def _check_running(self) -> None:
        if self._record.is_over:
            raise RunEnded("the run has ended")


def has_emitted(run: Run) -> bool:
    """Return whether a run has an event that is visible, for the other packages of trio_sse."""
    return bool(run._record.content.emitted)
