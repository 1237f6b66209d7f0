"""The nodes that share a log, side by side in the consoles of all of them.

While somebody watches a console, it asks all nodes, by an entry of the log every half minute, to report. Each
then posts a notice of a hundred bytes once a second, beside the log, which expires after some seconds
unless it is renewed. Nobody watches: nothing is asked, posted or read, and no session is open.
"""

from __future__ import annotations

import hmac
import math
import mmap
import os
import secrets
import socket
import struct
import time
from collections.abc import Mapping
from typing import NamedTuple, Protocol, final

import trio

from .._console.nodes import NodeRow, encode_notice, parse_notice
from .._groups import split_failure
from .._hub.engine import HubEngine
from .._logger import get_logger
from .._pausing import Pausing, timed_in_pieces
from .._shared_log.protocol import LogSession, NoticeSession
from .._shared_log.sessions import LogSessions

logger = get_logger("trio_sse.console")

_INTERVAL = 1.0
_MOST_SHARE = 1 / 50  # of a node's CPU time
_NOTICE_SECONDS = 5.0  # until a node that has gone is not shown any more
_WATCH_SECONDS = 60.0
_ASK_AGAIN_SECONDS = 5.0
_READ_SECONDS = 10.0  # for a worker to read what another one has shown
_VIEWED_SECONDS = 10.0  # since the last snapshot
_MOST_NODES = 64

_MOMENT = struct.Struct("<d")


class Summary(NamedTuple):
    """What a node says of itself: numbers by name, and why it is not ready."""

    numbers: Mapping[str, float | None]
    problems: list[str]


class Node(Protocol):
    """What this node is asked for."""

    def summary(self) -> Pausing[Summary]:
        """Compute what the node says of itself."""

    def sign(self, text: str) -> str:
        """Return the signature of a text, which only those who have the console's token can make."""

    def drain(self, pid: int | None) -> bool:
        """Begin to drain the node."""


@final
class ConsoleNodes:
    """This node among the others; a `HubService` and a `NodeListener`. Make it before the first fork.

    Attributes:
        id: the node's, for as long as its program runs; its workers have the same.
        node: what does the work; `None` as long as there is no console.
    """

    def __init__(self, engine: HubEngine) -> None:
        self.id = secrets.token_hex(8)
        self.node: Node | None = None
        self._engine = engine
        self._pid = os.getpid()
        self._posted_at = mmap.mmap(-1, _MOMENT.size)  # by any worker, by `time.monotonic`
        self._nursery: trio.Nursery | None = None
        self._changed = trio.lowlevel.ParkingLot()
        self._read = trio.lowlevel.ParkingLot()
        self._watched_until = self._viewed_at = self._read_at = -float("inf")
        self._ask_at = -float("inf")
        self._rows: list[NodeRow] = []
        engine.services.add(self)
        engine.node_requests.listeners.add(self)

    @property
    def name(self) -> str:
        """What the node is called in the consoles of all."""
        return f"{socket.gethostname()[:48]} {self._pid}"

    # For the console of this process

    def look(self) -> list[NodeRow]:
        """Return what is known of all nodes, none if this is the only one; and go on asking for it."""
        now = self._viewed_at = trio.current_time()
        is_due = now >= self._ask_at and self._watched_until < now + _WATCH_SECONDS / 2
        if is_due and self._nursery is not None:
            self._ask_at = now + _ASK_AGAIN_SECONDS
            self._nursery.start_soon(self._ask)
        is_known = now < self._read_at + _NOTICE_SECONDS and len(self._rows) > 1
        return self._rows if is_known else []

    async def drain(self, id: str, by: str) -> bool:
        """Ask a node to drain; return whether it is there.

        Raises:
            LogUnavailable, trio.ClosedResourceError: the log does not take the request.
        """
        if not await self._knows(id):
            return False
        assert self.node is not None
        by = f"{self.name} {by}"
        await self._engine.node_requests.drain(id, by, self.node.sign(_to_sign(id, by)))
        return True

    async def _knows(self, id: str) -> bool:
        """Return whether a node is there; what was read before may be from a moment before it was.

        So, unless it is known, wait for the second time from now on that the notices are read: the first
        may have begun already.
        """
        reads = 0
        with trio.move_on_after(_READ_SECONDS):
            while reads < 2 and not self._has(id) and self._nursery is not None:
                self.look()
                with trio.move_on_after(_INTERVAL) as waiting:
                    await self._read.park()
                reads += not waiting.cancelled_caught
        return self._has(id)

    def _has(self, id: str) -> bool:
        is_read = trio.current_time() < self._read_at + _NOTICE_SECONDS
        return is_read and any(row["id"] == id for row in self._rows)

    async def _ask(self) -> None:
        try:
            await self._engine.node_requests.watch(_WATCH_SECONDS)
        except BaseException as failure:  # of a log that is away, or of your own
            passing, rest = split_failure(failure)
            if passing is not None:
                raise passing from None
            logger.debug("the other nodes cannot be asked: %s", rest)

    # What other nodes ask for

    def on_watch(self, seconds: float) -> None:
        until = trio.current_time() + min(seconds, _WATCH_SECONDS)
        self._watched_until = max(self._watched_until, until)
        self._changed.unpark_all()

    def on_drain(self, node: str, by: str, signature: str) -> None:
        if node != self.id or self.node is None:
            return
        by = by[:200]
        if not hmac.compare_digest(signature.encode(), self.node.sign(_to_sign(node, by)).encode()):
            logger.warning("refused to drain: the console that asks has another token: by=%r", by)
            return
        logger.info("drain by=%r, on another node", by, fields={"event": "drain", "by": by})
        self.node.drain(None)

    # Reporting

    async def run(self) -> None:
        """Report whenever that is asked for, until cancelled."""
        log = self._engine.shared_log
        if log is None:
            return
        sessions = LogSessions(log)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                while True:
                    while not self._is_watched:
                        await self._changed.park()
                    await sessions.keep(self._exchange)
            finally:
                self._nursery = None

    async def end(self) -> None:
        """Do nothing: all has ended with `run`."""

    async def finish(self, drained_since: float) -> None:
        """Do nothing: what this node has posted expires."""

    def overdue_at(self, drained_since: float, drain_timeout: float) -> float:
        """Return that nothing is ever overdue."""
        return math.inf

    def end_overdue(self) -> None:
        """Do nothing."""

    @property
    def _is_watched(self) -> bool:
        return trio.current_time() < self._watched_until

    async def _exchange(self, session: LogSession) -> None:
        """Post this node's notice, and read all, as long as somebody watches."""
        while self._is_watched:
            seconds, notice = 0.0, b""
            if isinstance(session, NoticeSession):
                if self._take_turn() and self.node is not None:
                    summary, seconds = await timed_in_pieces(self.node.summary())
                    notice = encode_notice(self.name, round(time.time(), 3), *summary)
                if notice or trio.current_time() < self._viewed_at + _VIEWED_SECONDS:
                    lasts = max(_NOTICE_SECONDS, 3 * seconds / _MOST_SHARE)
                    self._take(await session.exchange_notices(self.id, notice, lasts))
            await trio.sleep(max(_INTERVAL, seconds / _MOST_SHARE))

    def _take_turn(self) -> bool:
        """Whether this worker reports for all of them now; the first that asks does."""
        (posted_at,) = _MOMENT.unpack(self._posted_at[:])
        if posted_at > time.monotonic() - 0.8 * _INTERVAL:
            return False
        self._posted_at[:] = _MOMENT.pack(time.monotonic())
        return True

    def _take(self, notices: Mapping[str, bytes]) -> None:
        rows = [parse_notice(id, notice) for id, notice in list(notices.items())[:_MOST_NODES]]
        known = [{**row, "is_own": row["id"] == self.id} for row in rows if row is not None]
        self._rows = sorted(known, key=lambda row: (row["name"], row["id"]))
        self._read_at = trio.current_time()
        self._read.unpark_all()


def _to_sign(node: str, by: str) -> str:
    return f"drain {node} {by}"
