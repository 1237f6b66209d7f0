"""Who is there, as one node knows it: the names that it holds, and when it last heard of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import final

_TOUCHED = ""  # in place of a node's name: touched on this one


@final
class PresenceTable:
    """The names of one presence list.

    Times are seconds during which this node was in touch with the others; see `PresenceKeeper`.

    Attributes:
        topic: the list's topic.
        ttl: how many seconds a name stays that is not heard of.
        now: the present time.
        held: the values of the names that have joined on this node, each as often as it has.
        seen: when each name was last heard of, by node.
        leaving: names that this node has released.
    """

    def __init__(self, topic: str, ttl: float) -> None:
        self.topic = topic
        self.ttl = ttl
        self.now = 0.0
        self.held: dict[str, list[object]] = {}
        self.seen: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self.leaving: set[str] = set()
        self._changed: set[str] = set()  # names whose value is to be another one that is held

    def hold(self, name: str, value: object) -> None:
        """Record that a name has joined on this node."""
        self.held.setdefault(name, []).append(value)
        self.leaving.discard(name)

    def release(self, name: str, value: object) -> None:
        """Record that a name has left this node, once."""
        values = self.held[name]
        del values[next(index for index, held in enumerate(values) if held is value)]
        if values:
            self._changed.add(name)
        else:
            del self.held[name]
            self.leaving.add(name)

    def touch(self, name: str) -> None:
        """Record that a name was touched on this node."""
        self.seen[name][_TOUCHED] = self.now

    def forget(self, name: str) -> None:
        """Record that a name was removed."""
        self.seen.pop(name, None)

    def hear(self, node: str, names: Collection[str]) -> None:
        """Record that names are there on another node."""
        for name in names:
            self.seen[name][node] = self.now

    def hear_left(self, node: str, names: Collection[str]) -> None:
        """Record that names have left another node."""
        for name in names:
            if name in self.seen:
                self.seen[name].pop(node, None)

    def see(self, members: Mapping[str, object]) -> None:
        """Note members that were never heard of, and forget the names that are no members."""
        for name in members:
            if not self.seen.get(name) and name not in self.held and name not in self.leaving:
                self.seen[name]["?"] = self.now
        for name in [name for name in self.seen if name not in members]:
            del self.seen[name]

    def changed(self, members: Mapping[str, object]) -> dict[str, object]:
        """Return the names that this node holds, and that others have removed, or that have another value."""
        changed, self._changed = self._changed, set()
        return {
            name: values[-1] for name, values in self.held.items() if name not in members or name in changed
        }

    def is_over(self, name: str) -> bool:
        """Whether a member is on no node any more."""
        if name in self.held:
            return False
        heard = self.seen.get(name, {})
        if name in self.leaving:
            heard = {node: time for node, time in heard.items() if node != "?"}
        elif not heard:
            return False  # it has just joined
        return all(time + self.ttl < self.now for time in heard.values())
