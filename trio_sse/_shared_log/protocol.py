"""What a hub needs of a log that it shares with others: `Log`, `LogSession` and their values.

Every event is appended to the shared log and read from it, on every node in one order. The entries of a log
carry its epoch and are numbered from 1 without holes, so a node detects every loss of continuity: another
epoch (the log was emptied or replaced), a missing number (entries were dropped before this node had read
them) or a repeated number (the log has lost its newest entries). Its subscribers then receive a `reset`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, runtime_checkable


class LogUnavailable(Exception):
    """The shared log cannot be reached, or does not answer in time. A later attempt may succeed."""


class LogRefused(Exception):
    """The shared log rejects the connection, such as for wrong credentials. Another attempt does not help."""


class EventRefused(Exception):
    """The shared log never stores this event, for example because it is too large."""


class Entry(NamedTuple):
    """An entry of a shared log.

    Attributes:
        id: its id, two whole numbers joined by a hyphen; ids grow.
        epoch: a whole number, never greater than the first part of any of its entries' ids; it changes when
            the log's continuity is lost. Empty for an entry that no hub has appended.
        number: its place in its epoch, from 1, without holes.
        record: what was appended.
    """

    id: str
    epoch: str
    number: int
    record: bytes


class LogEnd(NamedTuple):
    """Where a log ends.

    Attributes:
        epoch, number: of the newest entry; the number is 0 if there was none in this epoch.
        last: the id of the newest entry. If the log is empty, an id after all past entries and before all
            future ones.
    """

    epoch: str
    number: int
    last: str


class LogSession(Protocol):
    """A connection to a shared log, used by one task.

    Each method raises `LogUnavailable` within a bounded time if the log does not answer. The hub then leaves
    the session and connects again.
    """

    async def tail(self) -> LogEnd:
        """Return where the log ends; create the log, with an epoch, if it does not exist."""

    async def read_backward(self, upto: str, limit: int) -> Sequence[Entry]:
        """Return the entries up to and including an id, newest first; none if there are no older ones."""

    async def read(self, after: str, limit: int) -> Sequence[Entry]:
        """Return the entries after an id, oldest first; wait about a second for the first one.

        Return fewer than `limit` only if the log has no more at this moment. What any session has appended
        before this is called must be among them: if a hub does not find it, it takes it for lost.
        """

    async def append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        """Append records in their order, all or none; return when they are stored.

        Each record comes with the publisher's number for it; these numbers grow. Skip a record whose number
        is not above the publisher's last one: it is stored already. So an append can be repeated when its
        reply was lost. An append of no records checks that the log stores something at present.

        Raise `EventRefused` if one of the records can never be stored; then store none.
        """


class KeyedRecord(NamedTuple):
    """A record for `IdempotentSession.append_once`.

    Attributes:
        number, record: as for `LogSession.append`.
        key: the digest of its idempotency key, 16 bytes, if it has one.
    """

    number: int
    record: bytes
    key: bytes | None


@runtime_checkable
class IdempotentSession(Protocol):
    """What a session may have besides: the log stores events with the same key once."""

    async def append_once(self, publisher: str, records: Sequence[KeyedRecord]) -> Sequence[int]:
        """Append as `append` does, but skip a record whose key the log remembers from an earlier one.

        Return the numbers of the records that were stored now, in their order: the hub then notices if the
        log loses them before it has read them. Keys are remembered in the same step in which records are
        stored, for a limited time and in a limited number.
        """


@runtime_checkable
class RenewableSession(Protocol):
    """What a session may have besides: the log can begin a new epoch."""

    async def renew(self, epoch: str) -> None:
        """Begin a new epoch, unless the log's is another one than `epoch` already.

        A hub calls this when the log has lost entries, which other hubs may not be able to notice. Older
        entries need not be kept. The new epoch is greater, and not greater than the first part of the ids of
        all later entries.
        """


@runtime_checkable
class LeaseSession(Protocol):
    """What a session may have besides: leases, so that something runs once among the hubs."""

    async def hold(self, name: str, holder: str, seconds: float) -> bool:
        """Hold a lease for this many seconds from now on; return whether `holder` has it.

        It has it if nobody else does: the time of the last holder has passed, or it has released the lease.
        The log's clock counts, and must not be one that can be set. If `holder` has the lease already, this
        renews it.
        """

    async def release(self, name: str, holder: str) -> None:
        """Release a lease, if `holder` has it."""


@runtime_checkable
class NoticeSession(Protocol):
    """What a session may have besides: short notices, so that the consoles of all nodes show each of them.

    They are beside the log, and expire. They are exchanged while somebody watches a console, once a second.
    """

    async def exchange_notices(self, name: str, notice: bytes, seconds: float) -> Mapping[str, bytes]:
        """Post a notice under a name for this many seconds, unless it is empty; return all of them by name.

        Those whose time has passed are not among them. Bound their number: some hundreds are enough.
        """


class Log(Protocol):
    """A log that hubs share.

    Attributes:
        publish_timeout: how many seconds `Hub.publish` waits until its event is stored.
    """

    publish_timeout: float

    def connect(self) -> AbstractAsyncContextManager[LogSession]:
        """Return a session as a context manager; entering it may raise `LogUnavailable` or `LogRefused`."""
