"""Runs in Redis: the part of a session that implements `RunSession`."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from .._shared_log.run_session import (
    ClaimedRun,
    HeldRuns,
    NewRun,
    Outcome,
    Refusal,
    RunBounds,
    RunChanges,
    RunQuery,
    StoredRun,
    TakenOver,
    decode_starts,
    encode_starts,
)
from .readable_runs import run_or_none
from .redis_run_reads import LIST, READ
from .redis_run_scripts import CANCEL, COMMIT, CREATE, FORGET, HOLD_RUNS, TAKE_OVER
from .run_rules import LONGEST_SECONDS, WATCHED_SECONDS, key_digest

Argument = str | bytes


class RedisRuns:
    """What stores runs; the subclass runs the scripts."""

    async def _eval(self, script: str, arguments: Sequence[bytes]) -> Any:
        """Run a script, whose only key is the prefix of all keys of runs."""
        raise NotImplementedError

    async def _run_script(self, script: str, arguments: Sequence[Argument]) -> Any:
        encoded = [item if isinstance(item, bytes) else _bytes(item) for item in arguments]
        return await self._eval(script, encoded)

    async def create_run(self, holder: str, seconds: float, run: NewRun, bounds: RunBounds) -> str | Refusal:
        """See `RunSession`."""
        digest = "" if run.key is None else key_digest(run.owner, run.key).hex()
        arguments: list[Argument] = [holder, _milliseconds(seconds), run.id]
        arguments += (*_optional(run.owner), digest, repr(run.created_at))
        arguments += (_milliseconds(run.seconds), _milliseconds(run.ttl))
        arguments += (*_optional(run.function), run.arguments or "", str(run.attempts))
        arguments += ["" if bound is None else str(bound) for bound in bounds]
        reply = await self._run_script(CREATE, [*arguments, _optional(run.key)[1], encode_starts(run.starts)])
        if reply[0] is not None:
            return _text(reply[0])
        return Refusal.RUNS_OF_OWNER if reply[1] == b"owner" else Refusal.RUNS

    async def commit_runs(
        self, holder: str, seconds: float, changes: Sequence[RunChanges]
    ) -> Sequence[Outcome]:
        """See `RunSession`."""
        arguments: list[Argument] = [holder, _milliseconds(seconds)]
        for item in changes:
            arguments += (item.id, str(item.attempt), str(item.follows), str(item.number))
            arguments += ("0", "") if item.state is None else (str(item.state[0]), item.state[1])
            arguments += (*_optional(item.checkpoint), *_optional(item.end))
            arguments += ("0" if not item.is_released else "2" if item.has_failed else "1",)
            arguments += (str(item.size), str(len(item.pieces)))
            for number, name, piece in item.pieces:
                arguments += (str(number), name, piece)
            arguments += (str(len(item.events)), *item.events)
        return [Outcome(_text(found)) for found in await self._run_script(COMMIT, arguments)]

    async def hold_runs(self, holder: str, seconds: float) -> HeldRuns:
        """See `RunSession`."""
        held, cancels, watched = await self._run_script(HOLD_RUNS, [holder, _milliseconds(seconds)])
        texts = [_text(item) for item in cancels]
        return HeldRuns(_texts(held), dict(zip(texts[::2], texts[1::2], strict=True)), _texts(watched))

    async def read_runs(self, holder: str, queries: Sequence[RunQuery]) -> Sequence[StoredRun | None]:
        """See `RunSession`."""
        arguments: list[Argument] = [holder, _milliseconds(WATCHED_SECONDS)]
        for query in queries:
            lengths = query.lengths or ()
            arguments += (query.id, "1" if query.is_watched else "0", "0" if query.lengths is None else "1")
            arguments += (str(query.state), str(query.events), str(len(lengths)), *map(str, lengths))
        found = await self._run_script(READ, arguments)
        return [
            None if run is None else run_or_none(query.id, _stored, query.id, run)
            for query, run in zip(queries, found, strict=True)
        ]

    async def list_runs(self, owner: str | None, limit: int) -> Sequence[StoredRun]:
        """See `RunSession`."""
        found = await self._run_script(LIST, [*_optional(owner), str(limit)])
        runs = [run_or_none(name := _text(id), _stored, name, run) for id, run in found]
        return [run for run in runs if run is not None]

    async def cancel_run(self, id: str, reason: str, end: str) -> bool:
        """See `RunSession`."""
        return bool(await self._run_script(CANCEL, [id, reason, end]))

    async def take_over_runs(
        self,
        holder: str,
        seconds: float,
        functions: Collection[str],
        end: str,
        limit: int,
        *,
        released_only: bool = False,
    ) -> TakenOver:
        """See `RunSession`."""
        released = "1" if released_only else "0"
        arguments = [holder, _milliseconds(seconds), end, str(limit), released, secrets.token_hex(4)]
        lost, claimed, cancelled = await self._run_script(TAKE_OVER, [*arguments, *functions])
        return TakenOver(_texts(lost), [_claimed(*fields) for fields in claimed], _texts(cancelled))

    async def forget_run(self, holder: str, id: str) -> None:
        """See `RunSession`."""
        await self._run_script(FORGET, [holder, id])


def _milliseconds(seconds: float) -> str:
    return "0" if seconds <= 0 else str(max(1, round(min(seconds, LONGEST_SECONDS) * 1000)))


def _optional(value: str | None) -> tuple[str, str]:
    return ("0", "") if value is None else ("1", value)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def _texts(values: Iterable[bytes]) -> list[str]:
    return [_text(value) for value in values]


def _stored(id: str, run: Sequence[Any]) -> StoredRun:
    """Return what the scripts' `describe` has found; content follows, if there is some."""
    has_owner, owner, key, created_at, holder, attempt, number, version, end, names, size = run[:11]
    starts, lengths, events = run[11:14]
    pieces, records, state = run[14:] or ((), (), None)
    return StoredRun(
        id=id,
        owner=_text(owner) if has_owner == b"1" else None,
        key=_text(key) or None,
        created_at=float(created_at),
        is_held=bool(holder),
        attempt=int(attempt),
        number=int(number),
        size=int(size),
        lengths=[int(length) for length in lengths],
        event_count=int(events),
        state_version=int(version),
        end=_text(end) or None,
        names=_texts(names),
        pieces=list(pieces),
        events=list(records),
        state=None if state is None else _text(state),
        starts=decode_starts(_text(starts or b"")),
    )


def _claimed(
    id: bytes,
    function: bytes,
    arguments: bytes,
    attempt: int,
    number: bytes,
    checkpoint: bytes | None,
    left: int,
    reason: bytes | None,
) -> ClaimedRun:
    return ClaimedRun(
        id=_text(id),
        function=_text(function),
        arguments=_text(arguments),
        attempt=int(attempt),
        number=int(number),
        checkpoint=None if checkpoint is None else _text(checkpoint),
        seconds=int(left) / 1000,
        cancel_reason=None if reason is None else _text(reason),
    )
