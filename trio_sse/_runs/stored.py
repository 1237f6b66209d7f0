"""A run's content as a store of runs has it: what the node that runs it stores, and what others read."""

from __future__ import annotations

from collections.abc import Iterable

from .._shared_log.run_session import RunChanges, RunQuery, StoredRun, TextPiece
from .._wire.json_text import compact_json
from .content import RunContent, byte_size, event_size
from .position import is_beyond
from .status import RunEnd, RunInfo, RunStatus
from .stored_values import check_description, check_state, check_texts, decode_end, decode_event
from .writing import AppendText, Change, EmitEvent, Release, SetCheckpoint, SetState


def encode_changes(
    content: RunContent, changes: Iterable[Change], *, attempt: int, number: int
) -> RunChanges:
    """Return changes that follow a content, with their number, as they are stored.

    If the run has ended, this is its end, to ask whether it is stored.
    """
    names, lengths = list(content.names), list(content.head.lengths)
    version, size = content.head.state, content.size
    state_size = content.state_size
    pieces: dict[int, list[bytes]] = {}
    events: list[bytes] = []
    made = RunChanges(content.id, attempt, number - 1, number, 0)
    if content.end is not None:
        made = made._replace(end=encode_end(content.end))
    for change in changes:
        match change:
            case AppendText(name, piece):
                if name not in names:
                    names.append(name)
                    lengths.append(0)
                index = names.index(name)
                lengths[index] += len(piece)
                size += len(piece)
                pieces.setdefault(index, []).append(piece)
            case EmitEvent(event, data):
                events.append(_encode_event(event, data, lengths))
                size += event_size(event, data)
            case SetState(state):
                version += 1
                size += byte_size(state) - state_size
                state_size = byte_size(state)
                made = made._replace(state=(version, state))
            case SetCheckpoint(value):
                made = made._replace(checkpoint=value)
            case Release():
                made = made._replace(is_released=True)
            case RunEnd():
                made = made._replace(end=encode_end(change))
    texts = [TextPiece(index, names[index], b"".join(parts)) for index, parts in pieces.items()]
    return made._replace(size=size, pieces=texts, events=events)


def restoring(
    content: RunContent, stored: StoredRun, changes: RunChanges, checkpoint: str | None
) -> RunChanges:
    """Return changes with all that a store lacks before them: it has lost what it had stored."""
    added = {number: piece for number, _, piece in changes.pieces}
    pieces = []
    for number, name in enumerate(content.names):
        known = stored.lengths[number] if number < len(stored.lengths) else 0
        if piece := content.text(name)[known:] + added.pop(number, b""):
            pieces.append(TextPiece(number, name, piece))
    pieces += [piece for piece in changes.pieces if piece.number in added]
    earlier = [_encode_event(*item) for item in content.emitted[stored.event_count :]]
    state = changes.state
    if state is None and content.state is not None and stored.state_version != content.head.state:
        state = (content.head.state, content.state)
    return changes._replace(
        follows=stored.number,
        pieces=pieces,
        events=[*earlier, *changes.events],
        state=state,
        checkpoint=changes.checkpoint or checkpoint,
    )


def query_of(content: RunContent, *, is_watched: bool) -> RunQuery:
    """Return the question for what follows a content."""
    head = content.head
    return RunQuery(content.id, head.lengths, head.events, head.state, is_watched)


def content_of(stored: StoredRun) -> RunContent:
    """Return the content of a run that was read from its start; raises `ValueError` as `apply_stored`."""
    content = RunContent(stored.id, stored.created_at)
    apply_stored(content, stored)
    return content


def has_lost_some(content: RunContent, stored: StoredRun) -> bool:
    """Whether a store has less of a run than was read of it."""
    return is_beyond(content.head, stored.event_count, stored.state_version, stored.lengths)


def is_void(content: RunContent, stored: StoredRun) -> bool:
    """Whether the run goes on, or has ended, without a part of what was read of it.

    The store was restored to an older state, and another attempt has begun there, or the run is lost.
    Otherwise, if the store has lost some, the node that runs the run stores it again.

    Raises:
        ValueError: no node can have stored it.
    """
    check_description(stored)
    known = len(content.starts)
    if tuple(stored.starts[:known]) != content.starts:
        return True
    if len(stored.starts) > known:
        return is_beyond(content.head, *stored.starts[known][1:])
    return stored.end is not None and has_lost_some(content, stored)


def apply_stored(content: RunContent, stored: StoredRun) -> None:
    """Add what was read after a content to it, without a checkpoint, unless the store has lost some.

    Raises:
        ValueError: no node can have stored it. The run can be shown, but nothing more can be added.
    """
    check_description(stored)
    if content.end is not None or has_lost_some(content, stored):
        return
    check_texts(stored)
    events = [decode_event(record) for record in stored.events]
    state = None if stored.state is None else check_state(stored.state)
    end = None if stored.end is None else decode_end(stored.end)
    content.set_starts(stored.starts)
    content.status = RunStatus.RUNNING if stored.is_held else RunStatus.PENDING
    for name, piece in zip(stored.names, stored.pieces, strict=True):
        if piece:
            content.append(name, piece)
    for event, data, lengths in events:
        if not content.has(content.head._replace(lengths=lengths)):
            raise ValueError("an event of the run comes after more than there is of a text")
        content.emit(event, data, lengths)
    if state is not None:
        content.set_state(state, stored.state_version)
    if end is not None:
        content.finish(end)


def info_of(stored: StoredRun, *, viewers: int) -> RunInfo:
    """Return what a run is, from what is stored; raises `ValueError` if no node can have stored it."""
    check_description(stored)
    end = None if stored.end is None else decode_end(stored.end)
    status = RunStatus.RUNNING if stored.is_held else RunStatus.PENDING
    return RunInfo(
        id=stored.id,
        owner=stored.owner,
        status=status if end is None else end.status,
        reason=None if end is None else end.reason,
        created_at=stored.created_at,
        ended_at=None if end is None else end.at,
        viewers=viewers,
        size=stored.size,
    )


def encode_end(end: RunEnd) -> str:
    """Return an end as it is stored."""
    return compact_json([end.status.value, end.reason, end.result, end.at])


def _encode_event(event: str | None, data: str, lengths: Iterable[int]) -> bytes:
    return compact_json([event, data, list(lengths)]).encode("utf-8", "surrogatepass")
