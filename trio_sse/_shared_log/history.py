"""Reading a shared log for clients that have missed more than the window holds.

A client's reading task asks for one page, waits until it has it, and asks for the next one when its peer has
received what was on it. So nothing is kept for a client that is slow. The pages are read in a few sessions
for the whole hub, which are closed when nobody asks any more. While the log is unavailable, clients wait.

Requests are served in the order of positions, beginning anew at the lowest when the highest was reached. So
thousands of clients that reconnect together go through the log side by side, and share its pages.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import final

import trio

from .._log.memory import PAGE_BYTES, Gap
from .checks import check_after, check_upto
from .entry_id import id_before, parse_id
from .history_page import HistoryPage, HistoryPages
from .protocol import Entry, LogSession, LogUnavailable
from .read_limit import ReadLimit
from .sessions import LogSessions
from .window import Window

_MOST_SESSIONS = 4
_IDLE_SECONDS = 10.0  # a session that nobody needs is closed after this time

# A log that answers, but so that nothing can be read after a place, is asked this often.
_MOST_FAILURES = 3

# When so many who wait have left, and more than still wait, they are removed at once.
_MOST_CANCELLED = 64

_MOST_FOREIGN = 10_000


@final
class Fetch:
    """One client's place in the log, from which it reads on.

    Attributes:
        cursor: the id that it has reached.
        position: that entry's number; `None` if it is not known yet.
        result: what was read after it: a page, or the reason why nothing can be read. `None` before that.
        wake: called when there is a result.
        is_wanted: the client waits for it.
        is_queued: nobody reads for it yet.
        failures: how often reading has failed, though the log is available.
    """

    __slots__ = ("cursor", "failures", "is_queued", "is_wanted", "position", "result", "wake")

    def __init__(self, cursor: str, position: int | None, wake: Callable[[], None]) -> None:
        self.cursor = cursor
        self.position = position
        self.result: HistoryPage | Gap | None = None
        self.wake = wake
        self.is_wanted = False
        self.is_queued = False
        self.failures = 0

    def advance(self, cursor: str, position: int) -> None:
        """Continue from another place."""
        self.cursor = cursor
        self.position = position
        self.result = None

    def finish(self, result: HistoryPage | Gap) -> None:
        """Wake the client, which then takes the result, if it still waits."""
        if self.is_wanted:
            self.is_wanted = False
            self.failures = 0
            self.result = result
            self.wake()


@final
class LogHistory:
    """Reads pages of a shared log for those who ask.

    Args:
        window: the part of the log that is in memory. Nothing is read beyond its end: it may be behind the
            log, and what it gets next is delivered to those who are live.

    Attributes:
        reads: how many pages were read from the log.
    """

    def __init__(self, sessions: LogSessions, window: Window) -> None:
        self.reads = 0
        self._sessions = sessions
        self._window = window
        self._pages = HistoryPages()
        self._restarts = window.restarts  # of the window, when the pages were read
        self._sessions_open = 0
        self._waiting = _Sweep()
        self._limit = ReadLimit(PAGE_BYTES)
        # Tasks that have nothing to do, those with an open session apart: these are preferred.
        self._with_session = trio.lowlevel.ParkingLot()
        self._without_session = trio.lowlevel.ParkingLot()

    @property
    def waiting(self) -> int:
        """How many clients wait for a page."""
        return len(self._waiting)

    def find(self, fetch: Fetch) -> HistoryPage | None:
        """Return the page that continues at a client's place, if it was read already."""
        if self._restarts != self._window.restarts:  # the log may have lost what is on the pages
            self._restarts = self._window.restarts
            self._pages.clear()
        if fetch.position is None:
            fetch.position = self._pages.number_of(fetch.cursor)
        return None if fetch.position is None else self._pages.find(fetch.position)

    def request(self, fetch: Fetch) -> None:
        """Let a page be read for a client, unless it has asked already."""
        if fetch.is_wanted:
            return
        fetch.is_wanted = True
        self._waiting.push(fetch)
        lot = self._with_session if len(self._with_session) else self._without_session
        lot.unpark()

    def cancel(self, fetch: Fetch) -> None:
        """Forget a client's request, if it has one: it has left, or the log's continuity is lost."""
        if fetch.is_wanted:
            fetch.is_wanted = False
            if fetch.is_queued:
                self._waiting.note_cancelled()

    def finish(self) -> None:
        """Forget who waits: the hub ends."""
        self._waiting = _Sweep()

    async def run(self) -> None:
        """Read what is asked for until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(_MOST_SESSIONS):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                await self._without_session.park()
            await self._sessions.keep(self._serve)

    async def _serve(self, session: LogSession) -> None:
        self._sessions_open += 1
        try:
            await self._serve_until_idle(session)
        finally:
            self._sessions_open -= 1
            if not self._sessions_open:
                self._pages.clear()

    async def _serve_until_idle(self, session: LogSession) -> None:
        """Read for those who wait; return when nobody did for some seconds."""
        while True:
            with trio.move_on_after(_IDLE_SECONDS):
                while not self._waiting:
                    await self._with_session.park()
            fetch = self._waiting.pop()
            if fetch is None:
                return
            try:
                await trio.lowlevel.checkpoint()  # whatever the session does
                await self._answer(session, fetch)
            except BaseException as failure:
                self._limit = ReadLimit(PAGE_BYTES)  # the link may have become slow
                if isinstance(failure, Exception) and not isinstance(failure, LogUnavailable):
                    fetch.failures += 1
                if fetch.failures >= _MOST_FAILURES:
                    fetch.finish(Gap.EXPIRED)
                elif fetch.is_wanted:
                    self._waiting.push(fetch)
                raise

    async def _answer(self, session: LogSession, fetch: Fetch) -> None:
        page = self.find(fetch)
        if page is not None:
            fetch.finish(page)
        elif fetch.position is None:
            found = await self._locate(session, fetch.cursor)
            if isinstance(found, Gap):
                fetch.finish(found)
            elif fetch.is_wanted:
                fetch.position = found
                self._waiting.push(fetch)  # its turn comes when its place does
        else:
            fetch.finish(await self._read(session, fetch.cursor, fetch.position))

    async def _locate(self, session: LogSession, cursor: str) -> int | Gap:
        """Return the number of the entry with this id, or the gap if the log does not have it."""
        epoch = self._window.epoch
        if parse_id(cursor) == (int(epoch), 0):
            return 0  # before the first entry
        upto, skipped, limit = cursor, 0, 1
        while skipped <= _MOST_FOREIGN:
            entries = check_upto(await session.read_backward(upto, limit), upto)
            if not entries or (upto == cursor and entries[0].id != cursor):
                break
            for entry in entries:
                if entry.epoch:
                    return entry.number if entry.epoch == epoch else Gap.UNKNOWN
            skipped += len(entries)  # its cursor was that of a foreign entry, at the log's end
            upto, limit = id_before(entries[-1].id), 256
        return Gap.EXPIRED

    async def _read(self, session: LogSession, cursor: str, position: int) -> HistoryPage | Gap:
        epoch, last, restarts = self._window.epoch, self._window.last, self._window.restarts
        entries = check_after(await session.read(cursor, self._limit.entries), cursor)
        self._limit.adapt(entries)
        self.reads += 1
        numbered = [entry for entry in entries if entry.epoch]
        found = _consecutive(numbered, epoch, position, last)
        if any(self._window.contradicts(entry.number, entry.record) for entry in found):
            return Gap.UNKNOWN  # the log is not what the window is a part of; the follower will notice
        if found:
            page = HistoryPage(position, found, found[-1].id)
            if restarts == self._restarts == self._window.restarts:
                self._pages.add(page)
            return page
        if entries and not numbered:  # read on after what no hub has appended
            return HistoryPage(position, (), entries[-1].id)
        return Gap.UNKNOWN if numbered and numbered[0].epoch != epoch else Gap.EXPIRED


def _consecutive(entries: Sequence[Entry], epoch: str, position: int, last: int) -> list[Entry]:
    """Return the entries that follow the one with the number `position`, up to `last`."""
    found: list[Entry] = []
    for entry in entries:
        if (entry.epoch, entry.number) != (epoch, position + 1) or entry.number > last:
            break
        found.append(entry)
        position += 1
    return found


@final
class _Sweep:
    """The requests in the order of their positions, as a lift serves floors: those behind it come later."""

    def __init__(self) -> None:
        self._unlocated: deque[Fetch] = deque()
        self._ahead: list[tuple[int, int, Fetch]] = []
        self._behind: list[tuple[int, int, Fetch]] = []
        self._place = 0
        self._numbers = count()
        self._cancelled = 0
        self._is_turn_of_unlocated = False

    def __len__(self) -> int:
        return len(self._unlocated) + len(self._ahead) + len(self._behind) - self._cancelled

    def note_cancelled(self) -> None:
        """Note that one who was added is no longer wanted; remove those if they are many."""
        self._cancelled += 1
        if self._cancelled > len(self) + _MOST_CANCELLED:
            self._unlocated = deque(fetch for fetch in self._unlocated if fetch.is_wanted)
            self._ahead = [item for item in self._ahead if item[2].is_wanted]
            self._behind = [item for item in self._behind if item[2].is_wanted]
            heapq.heapify(self._ahead)
            heapq.heapify(self._behind)
            self._cancelled = 0

    def push(self, fetch: Fetch) -> None:
        """Add one who waits."""
        fetch.is_queued = True
        if fetch.position is None:
            self._unlocated.append(fetch)
            return
        heap = self._ahead if fetch.position >= self._place else self._behind
        heapq.heappush(heap, (fetch.position, next(self._numbers), fetch))

    def pop(self) -> Fetch | None:
        """Remove and return the next one who still waits, or `None` if nobody does."""
        while (fetch := self._pop()) is not None:
            fetch.is_queued = False
            if fetch.is_wanted:
                return fetch
            self._cancelled -= 1
        return None

    def _pop(self) -> Fetch | None:
        # By turns: many who are not located yet must not hold up the others.
        self._is_turn_of_unlocated = not self._is_turn_of_unlocated
        has_located = self._ahead or self._behind
        if self._unlocated and (self._is_turn_of_unlocated or not has_located):
            return self._unlocated.popleft()
        if not self._ahead:
            self._ahead, self._behind = self._behind, []
        if not self._ahead:
            return None
        self._place, _, fetch = heapq.heappop(self._ahead)
        return fetch
