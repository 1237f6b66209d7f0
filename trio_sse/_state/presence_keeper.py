"""Keeps the presence lists of a hub: reports its members to the other nodes, and removes those who have left.

Each node appends an entry to the log, four times in the shortest `ttl`, with the names that it holds. A name
of which nothing was heard for its `ttl` has left, since its node has died.

While the log is away, nothing is heard of anybody. So the time of presence lists passes only as far as this
node reads its own entries back: an outage of the log removes nobody.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import final

import trio

from .._containment import contained
from .._wire.event import ServerSentEvent
from .._wire.json_text import compact_json
from .._wire.message import Message
from .._wire.state_change import ChangeKind, StateChange
from .presence import Presence
from .presence_table import PresenceTable
from .state import State

SHORTEST_TTL = 0.2
LONGEST_TTL = 86_400

_TOPIC = "presence"  # of the entries; nobody receives them
_MOST_NAMES = 1000  # in one entry


@final
class PresenceKeeper:
    """The presence lists of a hub.

    Args:
        put: adds a message to the hub's inbox; raises `trio.WouldBlock`.
        is_shared: returns whether the hub has a shared log.
    """

    def __init__(self, put: Callable[[Message], None], is_shared: Callable[[], bool]) -> None:
        self._put = put
        self._is_shared = is_shared
        self._node = ""
        self._lists: dict[str, tuple[Presence, PresenceTable, State]] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._must_settle = False
        self._sent = self._echoed = 0  # the numbers of the newest entry that was sent, and read back
        self._sent_at = self._echoed_at = 0.0

    def add(self, state: State, ttl: float) -> Presence:
        """Add a list over a state."""
        table = PresenceTable(state.topic, ttl)
        presence = Presence(state, table, self._wake, self._report)
        self._lists[state.topic] = (presence, table, state)
        self._wake()
        return presence

    def _wake(self) -> None:
        self._must_settle = True
        self._changed.unpark_all()

    async def run(self) -> None:
        """Keep the lists, until cancelled."""
        self._node = secrets.token_hex(4)
        self._echoed_at = trio.current_time()
        self._sent = self._echoed = 0
        for _, table, _ in self._lists.values():
            table.seen.clear()  # nothing was heard while the hub did not run
        next_beat = trio.current_time()
        while True:
            self._drop_closed()
            if not self._lists:
                await self._changed.park()
                continue
            interval = min(table.ttl for _, table, _ in self._lists.values()) / 4
            if trio.current_time() >= next_beat:
                next_beat = trio.current_time() + interval
                self._beat(interval)
                self._must_settle = True
            while self._must_settle:
                self._must_settle = False
                self._report_left()
                async with trio.open_nursery() as nursery:
                    for presence, _, _ in self._lists.values():
                        nursery.start_soon(presence.settle)
            with trio.move_on_at(next_beat):
                await self._changed.park()

    def _drop_closed(self) -> None:
        for topic in [topic for topic, (_, _, state) in self._lists.items() if state.is_closed]:
            del self._lists[topic]

    # What nodes tell one another

    def _beat(self, interval: float) -> None:
        """Report who is here, and let the time pass up to the last such entry that was read back."""
        if not self._is_shared():
            self._pass_time()
            return
        if self._echoed < self._sent and trio.current_time() < self._sent_at + 4 * interval:
            return  # the log does not answer
        self._sent_at = trio.current_time()
        names = [(topic, name) for topic, (_, table, _) in self._lists.items() for name in table.held]
        has_members = any(presence.members for presence, _, _ in self._lists.values())
        if not names and not has_members:
            self._echoed_at = trio.current_time()
            return
        for start in range(0, max(1, len(names)), _MOST_NAMES):
            held: dict[str, list[str]] = {}
            for topic, name in names[start : start + _MOST_NAMES]:
                held.setdefault(topic, []).append(name)
            self._send(held, {})

    def _report(self, topic: str, names: list[str]) -> None:
        if self._is_shared():
            self._send({topic: names}, {})

    def _report_left(self) -> None:
        left = {topic: list(table.leaving) for topic, (_, table, _) in self._lists.items() if table.leaving}
        if left and self._is_shared():
            self._send({}, left)

    def _send(self, held: dict[str, list[str]], left: dict[str, list[str]]) -> None:
        text = compact_json([self._node, self._sent + 1, held, left])
        with contained("the members of presence lists could not be reported"):
            message = Message(_TOPIC, ServerSentEvent(text), text)
            message.change = StateChange(ChangeKind.PRESENCE)
            try:
                self._put(message)
            except trio.WouldBlock:
                return  # the next one says the same
            self._sent += 1

    def read(self, message: Message) -> None:
        """Read what a node has reported."""
        try:
            node, number, held, left = json.loads(str(message.unplaced_event.data))
            if node == self._node:
                self._echoed = max(self._echoed, int(number))
                if self._echoed == self._sent:
                    self._pass_time()
                return
            for topic, names in held.items():
                if topic in self._lists:
                    self._lists[topic][1].hear(node, names)
            for topic, names in left.items():
                if topic in self._lists:
                    self._lists[topic][1].hear_left(node, names)
        except (ValueError, TypeError, AttributeError):
            return  # another program has put it there

    def _pass_time(self) -> None:
        """Let the time of the lists pass, at most as far as one entry follows the other."""
        now = trio.current_time()
        for _, table, _ in self._lists.values():
            table.now += min(now - self._echoed_at, table.ttl / 3)
        self._echoed_at = now
        self._must_settle = True
        self._changed.unpark_all()
