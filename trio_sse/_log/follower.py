"""A hub's task that follows a shared log: it keeps the window in step with it, and delivers what comes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import final

import trio

from .._wire.message import Message
from .protocol import Entry, LogEnd, LogSession, Window, decode_record, parse_id

logger = logging.getLogger("trio_sse.log")

# Between two reads that have brought something: a read costs some ten times what an entry does, so at a
# thousand entries a second this saves a third of a core, and it delays nothing that stands alone.
_PAUSE = 0.002

_PAGE_ENTRIES = 256
_PAGE_BYTES = 1024 * 1024


@final
class _Page:
    """How many entries to ask a session for.

    One at first, so that also of large ones a slow link brings some in time; then twice as many each time,
    as long as they are small.
    """

    def __init__(self) -> None:
        self.limit = 1

    def note(self, entries: Sequence[Entry]) -> None:
        """Take note of what came."""
        if entries:
            mean = max(1, sum(len(entry.record) for entry in entries) // len(entries))
            self.limit = max(1, min(2 * self.limit, _PAGE_ENTRIES, _PAGE_BYTES // mean))


@final
class LogFollower:
    """Keeps a window on the log.

    Args:
        window: what is kept of it.
        bounds: how many events, and how many bytes, the window holds.
        deliver: is given what the log has brought, in its order.
        after_gap: is called when continuity was lost, with the reason: subscribers are to be told.
        ahead: gives the subscriptions that wait until the log has come to their ids.
        settle_ahead: begins those to whose ids it has come, and those given, which have waited enough.
        recall: gives the message of a record that comes from this hub itself.
    """

    def __init__(
        self,
        window: Window,
        *,
        bounds: tuple[int, int],
        deliver: Callable[[list[tuple[Entry, Message | None]]], Awaitable[None]],
        after_gap: Callable[[str], None],
        ahead: Callable[[], Collection[object]],
        settle_ahead: Callable[[Collection[object]], None],
        recall: Callable[[bytes], Message | None],
    ) -> None:
        self.skipped = 0  # entries that are none of a hub's, or broken
        self.is_loaded = False  # the log has been there
        self._window = window
        self._bounds = bounds
        self._deliver = deliver
        self._after_gap = after_gap
        self._ahead = ahead
        self._settle_ahead = settle_ahead
        self._recall = recall
        self._cursor = "0-0"

    async def _load(self, session: LogSession) -> None:
        """Fill the window with the log's newest entries, and follow from there."""
        end = await session.end()
        run = await self._read_back(session, end)
        if len(run) == end.number:
            self._window.restart(end.epoch, 0, f"{end.epoch}-0")
        elif run:  # the first one's id is where the window begins
            first, _ = run.pop()
            self._window.restart(end.epoch, first.number, first.id)
        else:
            self._window.restart(end.epoch, end.number, end.last)
        for entry, message in reversed(run):
            self._window.put(entry, message)
        self._cursor = end.last
        self.is_loaded = True

    async def _read_back(self, session: LogSession, end: LogEnd) -> list[tuple[Entry, Message | None]]:
        """Read the newest entries without a hole, newest first: as many as the window holds, and one more."""
        run: list[tuple[Entry, Message | None]] = []
        most, most_bytes = self._bounds
        size, upto = 0, end.last
        page = _Page()
        while len(run) <= most and size <= most_bytes:
            entries = await session.read_back(upto, page.limit)
            if not entries:
                break
            page.note(entries)
            for entry in entries:
                if not entry.epoch:
                    self._note_skipped(entry, "it is none of a hub's")
                    continue
                if (entry.epoch, entry.number) != (end.epoch, end.number - len(run)):
                    return run
                message = self._decode(entry)
                run.append((entry, message))
                size += len(message.wire) if message is not None else 0
            upto = _before(entries[-1].id)
        return run

    async def follow(self, session: LogSession) -> None:
        """Deliver what comes, for ever."""
        if not (self.is_loaded and await self._is_continued(session)):
            await self.load_anew(session)
        page = _Page()
        while True:
            # An id that a client has was in the log before any read that begins after the client has come.
            waiting = self._ahead()
            limit = page.limit
            entries = await session.read(self._cursor, limit)
            page.note(entries)
            if entries:
                await self._take(entries)
            elif await self._is_behind(session):
                logger.warning("the shared log has begun anew, with lower ids: reset")
                await self.load_anew(session)
            self._settle_ahead(waiting if len(entries) < limit else ())
            if 0 < len(entries) < limit:
                await trio.sleep(_PAUSE)

    async def load_anew(self, session: LogSession) -> None:
        """Load, and tell the subscribers who are there already: nobody knows what has come since they are."""
        waiting = self._ahead()
        await self._load(session)
        self._after_gap("unknown")
        self._settle_ahead(waiting)

    async def _is_continued(self, session: LogSession) -> bool:
        """Whether the entry that was read last is still what it was: in a copy that was put back, its place
        may be another's."""
        for entry in await session.read_back(self._cursor, 1):
            is_same = (entry.epoch, entry.number) == (self._window.epoch, self._window.last)
            if entry.epoch and not (is_same and self._window.holds(entry.number, entry.record) is not False):
                logger.warning("the shared log has lost what was read from it: reset")
                return False
        return True

    async def _is_behind(self, session: LogSession) -> bool:
        """Whether the log, which has nothing after the cursor, isn't the one that was read up to there.

        Its entries would never be seen. A log that has begun anew with higher ids is seen by its entries.
        """
        end = await session.end()
        is_other = (end.epoch, end.number) != (self._window.epoch, self._window.last)
        return is_other and (parse_id(end.last) or (0, 0)) <= (parse_id(self._cursor) or (0, 0))

    async def _take(self, entries: Sequence[Entry]) -> None:
        found: list[tuple[Entry, Message | None]] = []
        epoch, number = self._window.epoch, self._window.last
        for entry in entries:
            self._cursor = entry.id
            if not entry.epoch:
                self._note_skipped(entry, "it is none of a hub's")
                continue
            if entry.epoch == epoch and entry.number <= number and self._has_given(entry, found):
                self._note_skipped(entry, "it was there before")
                continue
            if (entry.epoch, entry.number) != (epoch, number + 1):
                if found:
                    await self._deliver(found)
                    found = []
                reason = "expired" if entry.epoch == epoch and entry.number > number else "unknown"
                logger.warning("the shared log is not continued after %s.%d: reset", epoch, number)
                self._window.restart(entry.epoch, entry.number - 1, _before(entry.id))
                self._after_gap(reason)
            epoch, number = entry.epoch, entry.number
            found.append((entry, self._decode(entry)))
        if found:
            await self._deliver(found)

    def _has_given(self, entry: Entry, found: Sequence[tuple[Entry, Message | None]]) -> bool:
        """Whether this event was delivered already, from an entry that the log has lost, say, and has again.

        Another event with its number is another matter: then the log has lost what was delivered.
        """
        for other, _ in found:
            if other.number == entry.number:
                return other.record == entry.record
        return self._window.holds(entry.number, entry.record) is True

    def _decode(self, entry: Entry) -> Message | None:
        if (own := self._recall(entry.record)) is not None:
            return own
        try:
            return decode_record(entry.record)
        except (ValueError, TypeError, RecursionError) as error:
            self._note_skipped(entry, str(error))
            return None

    def _note_skipped(self, entry: Entry, reason: str) -> None:
        self.skipped += 1
        if self.skipped == 1:
            logger.warning("the shared log's entry %s is skipped: %s (this is told once)", entry.id, reason)


def _before(entry_id: str) -> str:
    """Give the id that comes right before an entry's."""
    first, _, second = entry_id.partition("-")
    if int(second):
        return f"{first}-{int(second) - 1}"
    return f"{int(first) - 1}-{2**64 - 1}"
