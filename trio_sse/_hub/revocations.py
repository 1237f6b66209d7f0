"""Revocations: all streams of an identity are ended, on every node that shares the hub's log.

A revocation is an entry of the log that nobody receives. Each node ends the streams before it delivers what
follows in the log, so no stream that was open then gets anything that was published later. Two kinds of
streams would be missed. Therefore:

- A stream may get its identity a moment after it was revoked. So the newest revocations are remembered, and a
  stream that was open before one of them ends when it gets that identity.
- A node that has lost its place in the log does not know what it has missed. It ends all streams that have an
  identity: their clients reconnect, and are checked.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Protocol, final
from weakref import WeakSet

import trio

from .._containment import contained
from .._logger import get_logger
from .._wire.event import ServerSentEvent
from .._wire.identity import check_identity
from .._wire.json_text import compact_json
from .._wire.message import Message
from .._wire.state_change import ChangeKind, StateChange

logger = get_logger("trio_sse.hub")

_TOPIC = "revocations"  # of the entries; nobody receives them
_MOST_REMEMBERED = 10_000

# After a gap in the log, so many streams are ended at once, and so many a second: their clients reconnect.
_ENDS_AT_ONCE = 10
_ENDS_PER_SECOND = 1000


class RevocableStream(Protocol):
    """What revocations need of a stream."""

    def revoke(self, *, reconnect: bool) -> bool:
        """End it, and let nothing more be written but its end; return whether it was open."""


class Identities(Protocol):
    """What revocations need of a server or app: its streams by identity."""

    def streams_of(self, identity: str) -> Sequence[RevocableStream]:
        """Return the open streams of an identity."""

    def all_streams(self) -> Sequence[RevocableStream]:
        """Return the open streams that have an identity."""


@final
class Revocations:
    """The revocations of one hub.

    Args:
        check: raises an error unless the hub runs, in this thread.
        check_thread: raises an error if the hub runs in another thread.
        publish: stores a message in the shared log; `None` without one.
        is_shared: returns whether there is a shared log.

    Attributes:
        has_unreachable_peers: other processes serve the same program, and share no log with this one.
    """

    def __init__(
        self,
        *,
        check: Callable[[], None],
        check_thread: Callable[[], None],
        publish: Callable[[Message], Awaitable[None]],
        is_shared: Callable[[], bool],
    ) -> None:
        self.has_unreachable_peers = False
        self._check = check
        self._check_thread = check_thread
        self._publish = publish
        self._is_shared = is_shared
        self._identities: WeakSet[Identities] = WeakSet()
        self._revoked_at: dict[str, float] = {}  # the oldest one first
        self._own: set[str] = set()  # the tokens of entries that were not read back yet
        self._unsure: dict[RevocableStream, None] = {}  # what to end after a gap
        self._changed = trio.lowlevel.ParkingLot()

    def add(self, identities: Identities) -> None:
        """Let the streams of a server or app be revoked, as long as it exists."""
        self._identities.add(identities)

    def is_revoked(self, identity: str, opened_at: float) -> bool:
        """Whether an identity was revoked since a stream was opened, in Trio's time."""
        return bool(self._revoked_at) and self._revoked_at.get(identity, opened_at) > opened_at

    async def revoke(self, identity: str, *, reconnect: bool) -> int:
        """End all streams of an identity; see `Hub.revoke`."""
        self._check_thread()
        is_shared = self._is_shared()
        if is_shared:
            self._check()
        elif self.has_unreachable_peers:
            raise RuntimeError(
                "a revocation would end the streams of one worker only: the workers need a shared log (--log)"
            )
        ended = self._end(identity, reconnect=reconnect)
        if not is_shared:
            await trio.lowlevel.checkpoint()
            return ended
        token = secrets.token_hex(8)
        message = _encode(identity, reconnect=reconnect, token=token)
        self._own.add(token)  # streams that are opened from now on were checked after this
        try:
            await self._publish(message)
        except BaseException:
            self._own.discard(token)
            raise
        return ended

    def read(self, message: Message) -> None:
        """Do what an entry of the log says. There is no checkpoint in it."""
        assert message.change is not None
        if message.change.token in self._own:
            self._own.discard(message.change.token)
            return
        with contained("a revocation in the shared log cannot be read"):
            fields = json.loads(str(message.unplaced_event.data))
            self._end(check_identity(fields["identity"]), reconnect=bool(fields["reconnect"]))

    def _end(self, identity: str, *, reconnect: bool) -> int:
        self._revoked_at.pop(identity, None)
        self._revoked_at[identity] = trio.current_time()
        if len(self._revoked_at) > _MOST_REMEMBERED:
            del self._revoked_at[next(iter(self._revoked_at))]
        ended = 0
        for identities in list(self._identities):
            for stream in identities.streams_of(identity):
                with contained("a stream cannot be ended"):
                    ended += stream.revoke(reconnect=reconnect)
        return ended

    # Gaps

    def on_gap(self) -> None:
        """End all streams that have an identity: the log has lost entries that this node has not read."""
        self._own.clear()
        for identities in list(self._identities):
            self._unsure.update(dict.fromkeys(identities.all_streams()))
        if self._unsure:
            text = "the shared log may have lost revocations: %d streams with an identity reconnect"
            logger.warning(text, len(self._unsure))
            self._changed.unpark_all()

    async def run(self) -> None:
        """End the streams after a gap, one after the other, until cancelled."""
        while True:
            if not self._unsure:
                await self._changed.park()
            for stream in list(islice(self._unsure, _ENDS_AT_ONCE)):
                del self._unsure[stream]
                with contained("a stream cannot be ended"):
                    stream.revoke(reconnect=True)
            await trio.sleep(_ENDS_AT_ONCE / _ENDS_PER_SECOND)


def _encode(identity: str, *, reconnect: bool, token: str) -> Message:
    text = compact_json({"identity": identity, "reconnect": reconnect})
    message = Message(_TOPIC, ServerSentEvent(text), text)
    message.change = StateChange(ChangeKind.REVOKE, token=token)
    return message
