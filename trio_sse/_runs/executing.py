"""The task of one run: its function inside its scope, and how each way out becomes the run's end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .._generators import closing_generators
from .._groups import leaf_exceptions, only_exception, split_failure, stray_cancellation_fails
from .._logger import get_logger
from .._wire.event import ServerSentEvent
from .._wire.json_text import compact_json
from .content import byte_size
from .errors import RunFailed, RunTooLarge
from .flushing import RunFlusher
from .record import RunRecord
from .status import RunStatus
from .writing import Release

logger = get_logger("trio_sse.runs")

_SHUTDOWN = "the server was shut down"


async def execute(record: RunRecord, function: Callable[[], Awaitable[object]], flusher: RunFlusher) -> None:
    """Run a function as a run, and add the run's end to what is pending, whatever happens.

    It raises only what must pass: the cancellation of the run's task from outside, and `KeyboardInterrupt`.
    """
    record.content.status = RunStatus.RUNNING
    try:
        with record.scope, stray_cancellation_fails():
            result = _encode_result(await closing_generators(function()))
            if result is not None:
                await _make_room(record, byte_size(result), flusher)
        if record.scope.cancelled_caught:
            _end_cancelled(record)
        else:
            record.end(RunStatus.FINISHED, result=result)
    except BaseException as failure:
        passing, contained = split_failure(failure)
        if contained is not None:
            _end_failed(record, contained)
        else:
            end_by_shutdown(record)
        if passing is not None:
            raise passing from None
    finally:
        flusher.schedule(record, now=True)


async def _make_room(record: RunRecord, size: int, flusher: RunFlusher) -> None:
    """Check that a result has room; what is pending may replace a state."""
    while record.pending and not record.has_room(size):
        flusher.schedule(record, now=True)
        await record.wait_flushed()
    record.check_room(size)


def _encode_result(value: object) -> str | None:
    """Return what a function has returned as JSON, checked as an event's data is."""
    if value is None:
        return None
    try:
        text = compact_json(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"a run's function must return a JSON value or None: {error}") from error
    ServerSentEvent(text)
    return text


def _end_cancelled(record: RunRecord) -> None:
    """End a run whose own scope was cancelled: on purpose, or by one of its deadlines."""
    if record.is_lost:
        return
    if record.is_shut_down:
        end_by_shutdown(record)
    elif record.cancel_reason is not None:
        record.end(RunStatus.CANCELLED, record.cancel_reason)
    elif record.unwatched_at <= record.deadline:
        record.end(RunStatus.CANCELLED, "nobody watched it")
    else:
        record.end(RunStatus.FAILED, "it took too long")


def end_by_shutdown(record: RunRecord) -> None:
    """End a run whose server ends; if another node can go on with it, let it do so."""
    if record.holding is not None and record.holding.is_resumable:
        record.pending.add(Release(), 0)
    else:
        record.end(RunStatus.CANCELLED, _SHUTDOWN)


def _end_failed(record: RunRecord, failure: BaseException) -> None:
    """End a run whose function has raised; only what is meant for clients is sent to them."""
    errors = leaf_exceptions(failure) if isinstance(failure, BaseExceptionGroup) else [failure]
    for error in errors:
        if isinstance(error, RunFailed):
            record.end(RunStatus.FAILED, str(error)[:1000] or None)
            return
    only = only_exception(failure)
    logger.error("the run %s failed", record.content.id[:8], exc_info=only)
    record.end(RunStatus.FAILED, str(only) if isinstance(only, RunTooLarge) else "an internal error")
