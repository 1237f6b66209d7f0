"""The task of a hub that follows a shared log: it keeps the window in step with the log and delivers entries.

A client may bring an id that this hub has not read yet. That id was stored before the client connected here,
so a read that starts afterwards and reaches the log's end must return it, unless the log has lost it.
`follow` therefore counts the arrivals before each read, and starts those that arrived before a read that
reached the end.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import NamedTuple, Protocol, final

import trio

from .._log.memory import Gap
from .._logger import get_logger
from .._wire.message import Message
from .acknowledged import AcknowledgedNumbers
from .checks import check_after, check_end, check_upto
from .entry_id import id_before, parse_id
from .protocol import Entry, LogEnd, LogSession, RenewableSession
from .read_limit import ReadLimit
from .record import decode_record
from .state_scan import LogStates, find_states
from .window import Window

logger = get_logger("trio_sse.log")

# The pause between two reads that have returned something: a read costs some ten times what an entry does, so
# at a thousand entries a second this saves a third of a core, and it delays no single entry.
_PAUSE = 0.002

# An application's own log may return at once when it has nothing; it is not asked more often than this.
_SHORTEST_READ = 0.05

# So many entries of others in a row are read through to fill the window; older events are then not replayed.
_MOST_FOREIGN = 10_000

_PAGE_BYTES = 1024 * 1024


class LogReaders(Protocol):
    """What a follower needs of the hub's subscriptions."""

    @property
    def arrivals(self) -> int:
        """How many subscriptions have ever joined with an id that the log had not reached."""

    def start_ahead(self, arrived_before: int) -> None:
        """Start those whose ids the log has reached, and those among the first `arrived_before` arrivals."""

    def announce_gap(self, gap: Gap) -> None:
        """Deliver a reset to all subscriptions but those that are ahead: the log has lost continuity."""


class OwnEntries(Protocol):
    """What a follower needs of the task that appends what is published here.

    Attributes:
        acknowledged: the numbers of what was stored and not read yet.
        has_lost_some: the log has lost some of these, as `recall` has found.
    """

    acknowledged: AcknowledgedNumbers
    has_lost_some: bool

    def resume(self) -> None:
        """Append: the log can be read."""

    def recall(self, record: bytes) -> Message | None:
        """Note that a record was read; return its message if it was published here and is remembered."""


class ReadEntry(NamedTuple):
    """An entry and its message; the message is `None` if the record is corrupt."""

    entry: Entry
    message: Message | None


@final
class LogFollower:
    """Keeps a window in step with the log.

    Args:
        window: the part of the log that is kept in memory.
        bounds: how many events, and how many bytes, the window holds.
        readers: the hub's subscriptions.
        states: the hub's states.
        deliver: puts entries into the window and delivers their messages, in order.
        own: the task that appends what is published here.
        on_follow: called when a session has begun to read the log.

    Attributes:
        is_following: a session reads the log; otherwise it is unavailable.
        follows_since: when the present session began, in Trio's time.
        outages: how many sessions that could read the log have failed.
        skipped: how many entries were foreign, corrupt or repeated.
        is_loaded: the log could be read once.
    """

    def __init__(
        self,
        window: Window,
        *,
        bounds: tuple[int, int],
        readers: LogReaders,
        states: LogStates,
        deliver: Callable[[Sequence[ReadEntry]], Awaitable[None]],
        own: OwnEntries,
        on_follow: Callable[[], None],
    ) -> None:
        self.skipped = 0
        self.outages = 0
        self.is_following = False
        self.follows_since = math.inf
        self.is_loaded = False
        self._window = window
        self._bounds = bounds
        self._readers = readers
        self._states = states
        self._deliver = deliver
        self._own = own
        self._on_follow = on_follow
        self._expected: LogEnd | None = None  # where the log ended when it was last looked at
        self._behind_since = math.inf  # the log's end was not read; by a clock for all threads
        self._must_renew = False  # the log has lost entries that were read, as those after them show
        self._cursor = "0-0"

    async def _load(self, session: LogSession, end: LogEnd | None) -> None:
        """Fill the window with the log's newest entries, up to `end` if it is known; follow from there."""
        stored = self._own.acknowledged.newest
        if end is None:
            end = check_end(await session.tail())
        newest = await self._read_newest(session, end)
        if len(newest) == end.number:
            self._window.restart(end.epoch, 0, f"{end.epoch}-0")
        elif newest:  # the window starts after the oldest one's id
            oldest, _ = newest.pop()
            self._window.restart(end.epoch, oldest.number, oldest.id)
        else:
            self._window.restart(end.epoch, end.number, end.last)
        for entry, message in reversed(newest):
            is_sent = message is not None and (message.change is None or message.change.is_sent)
            self._window.put(entry, message if is_sent else None)
        self._cursor = end.last
        self._expected = end
        self._own.acknowledged.forget(stored)
        self._own.has_lost_some = False
        self.is_loaded = True

    async def _read_newest(self, session: LogSession, end: LogEnd) -> list[ReadEntry]:
        """Return the newest consecutive entries, newest first: as many as the window holds, and one more."""
        newest: list[ReadEntry] = []
        most, most_bytes = self._bounds
        size, foreign, upto = 0, 0, end.last
        limit = ReadLimit(_PAGE_BYTES)
        while len(newest) <= most and size <= most_bytes and foreign <= _MOST_FOREIGN:
            await trio.lowlevel.checkpoint()  # whatever the session does
            entries = check_upto(await session.read_backward(upto, limit.entries), upto)
            if not entries:
                break
            limit.adapt(entries)
            for entry in entries:
                if not entry.epoch:
                    foreign += 1
                    self._note_skipped(entry, "no hub has appended it")
                    continue
                foreign = 0
                if (entry.epoch, entry.number) != (end.epoch, end.number - len(newest)):
                    return newest
                message = self._decode(entry)
                newest.append(ReadEntry(entry, message))
                size += len(message.wire) if message is not None else 0
            upto = id_before(entries[-1].id)
        return newest

    @property
    def behind_for(self) -> float:
        """For how many seconds there has been more in the log than was read."""
        return max(monotonic() - self._behind_since, 0)

    async def follow(self, session: LogSession) -> None:
        """Deliver the log's entries until cancelled; if it fails, or none begins, call `note_failure`."""
        self.follows_since = trio.current_time()
        if self.is_loaded:
            await self._continue(session)
        else:
            await self.reload(session)
        self._own.resume()
        self.is_following = True
        self._on_follow()
        self._behind_since = math.inf
        limit = ReadLimit(_PAGE_BYTES)
        while True:
            arrivals, stored = self._readers.arrivals, self._own.acknowledged.newest
            asked, began = limit.entries, trio.current_time()
            await trio.lowlevel.checkpoint()  # whatever the session does
            entries = check_after(await session.read(self._cursor, asked), self._cursor)
            limit.adapt(entries)
            is_at_end = len(entries) < asked
            self._behind_since = math.inf if is_at_end else min(self._behind_since, monotonic())
            if entries:
                await self._process(entries)
            if self._must_renew:
                self._must_renew = False
                await self._renew(session)
            if is_at_end and self._own.acknowledged.is_missing(stored):
                self._own.has_lost_some = True
            if self._own.has_lost_some:
                await self._recover(session, "events that were stored are lost")
            elif not entries and (loss := await self._find_loss(session)):
                await self._recover(session, loss)
            self._readers.start_ahead(arrivals if is_at_end else 0)
            if is_at_end:
                pause = _PAUSE if entries else began + _SHORTEST_READ - trio.current_time()
                await trio.sleep(max(pause, 0))

    def note_failure(self) -> None:
        """Note that no session reads the log any more."""
        self.outages += self.is_following
        self.is_following = False

    async def reload(self, session: LogSession, end: LogEnd | None = None) -> None:
        """Load, and announce a gap to those who are subscribed already: what they have missed is unknown."""
        arrivals = self._readers.arrivals
        await self._load(session, end)
        self._states.lose()
        self._readers.announce_gap(Gap.UNKNOWN)
        self._readers.start_ahead(arrivals)

    async def find_states(self, session: LogSession) -> None:
        """Find the states that are not loaded in the log."""
        await find_states(session, self._states, look_back=0, skipped=self._note_skipped)

    async def start(self, session: LogSession) -> None:
        """Begin a run: load, and find the states as far back as the window reaches."""
        await self.reload(session)
        await find_states(session, self._states, look_back=self._bounds[0], skipped=self._note_skipped)
        self.is_following = True  # at once, unless the next session fails

    async def _recover(self, session: LogSession, loss: str) -> None:
        """Load again. Other hubs may not be able to notice the loss, so a new epoch tells them."""
        logger.warning("shared log: %s; subscribers receive a reset", loss)
        end = self._expected
        if end is not None and end.epoch != self._window.epoch:
            await self.reload(session, end)  # what was appended since is delivered
            return
        await self._renew(session)
        await self.reload(session)

    async def _renew(self, session: LogSession) -> None:
        if isinstance(session, RenewableSession):
            await session.renew(self._window.epoch)

    async def _continue(self, session: LogSession) -> None:
        """Read on in a new session, if the log still has what was read; otherwise load again."""
        self._expected = None
        loss = await self._find_loss(session)
        # In a restored backup, another entry may have the cursor's id.
        for entry in check_upto(await session.read_backward(self._cursor, 1), self._cursor):
            is_same = (entry.epoch, entry.number) == (self._window.epoch, self._window.last)
            if entry.epoch and (not is_same or self._window.contradicts(entry.number, entry.record)):
                loss = "entries that were read are lost"
        if loss:
            await self._recover(session, loss)

    async def _find_loss(self, session: LogSession) -> str:
        """Return what has become of the log, if it is not the one that was read; otherwise nothing.

        Reading on might never show that: nothing may be appended any more, or the ids may be lower.
        """
        end = check_end(await session.tail())
        expected, self._expected = self._expected, end
        if end.epoch == self._window.epoch and end.number < self._window.last:
            return "entries that were read are lost"
        if self._is_read(end):
            return ""
        if not end.number or (parse_id(end.last) or (0, 0)) <= (parse_id(self._cursor) or (0, 0)):
            return "emptied, or replaced by one with lower ids"
        if expected is not None and not self._is_read(expected):  # the read that found nothing began later
            return "entries that were not read are lost"
        return ""  # there are new entries, which show what has become of the log

    def _is_read(self, end: LogEnd) -> bool:
        return end.epoch == self._window.epoch and end.number <= self._window.last

    async def _process(self, entries: Sequence[Entry]) -> None:
        """Deliver entries in runs without a gap; announce the gap between two runs."""
        stored = self._own.acknowledged.newest
        # When the task is cancelled, what is being delivered still is. So the cursor is beyond that then, and
        # not beyond what follows.
        run: list[ReadEntry] = []
        epoch, number = self._window.epoch, self._window.last
        for entry in entries:
            if not entry.epoch:
                self._note_skipped(entry, "no hub has appended it")
                continue
            if entry.epoch == epoch and entry.number <= number and self._is_repeated(entry, run):
                self._note_skipped(entry, "it is a repetition")
                continue
            if (entry.epoch, entry.number) != (epoch, number + 1):
                if run:
                    self._cursor = run[-1].entry.id
                    await self._deliver(run)
                    run = []
                is_later = entry.epoch == epoch and entry.number > number
                self._must_renew = entry.epoch == epoch and not is_later
                logger.warning("shared log: gap after %s.%d; subscribers receive a reset", epoch, number)
                self._window.restart(entry.epoch, entry.number - 1, id_before(entry.id))
                self._states.lose()
                self._expected = None
                self._own.acknowledged.forget(stored)
                self._readers.announce_gap(Gap.EXPIRED if is_later else Gap.UNKNOWN)
            epoch, number = entry.epoch, entry.number
            run.append(ReadEntry(entry, self._decode(entry)))
        self._cursor = entries[-1].id
        if run:
            await self._deliver(run)

    def _is_repeated(self, entry: Entry, run: Sequence[ReadEntry]) -> bool:
        """Whether this event was processed already, from an entry that the log has lost and stored again.

        If another event has its number, the log has lost what was delivered.
        """
        for other, _ in run:
            if other.number == entry.number:
                return other.record == entry.record
        return self._window.holds_record(entry.number, entry.record)

    def _decode(self, entry: Entry) -> Message | None:
        if (own := self._own.recall(entry.record)) is not None:
            return own
        try:
            return decode_record(entry.record)
        except Exception as error:  # whatever another program has put there
            self._note_skipped(entry, str(error))
            return None

    def _note_skipped(self, entry: Entry, reason: str) -> None:
        self.skipped += 1
        if self.skipped == 1:
            logger.warning("the shared log's entry %s is skipped: %s (logged once)", entry.id, reason)
