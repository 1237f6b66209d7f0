"""Signals: entries of a shared log by which the nodes of a service tell one another something.

Nobody receives them, and nothing depends on them: a node that has lost its place in the log has missed some.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, final

from .._wire.event import ServerSentEvent
from .._wire.message import Message
from .._wire.state_change import ChangeKind, StateChange

_TOPIC = "signals"  # of the entries


class _Listener(NamedTuple):
    name: str
    read: Callable[[str], None]
    on_gap: Callable[[], None]


@final
class Signals:
    """The signals of one hub.

    Args:
        publish: stores a message in the shared log.
    """

    def __init__(self, publish: Callable[[Message], Awaitable[None]]) -> None:
        self._publish = publish
        self._listeners: list[_Listener] = []

    def listen(
        self, name: str, read: Callable[[str], None], on_gap: Callable[[], None]
    ) -> Callable[[], None]:
        """Call `read` with each signal of this name, also this node's own; return what ends that.

        Neither function may have a checkpoint, nor raise.

        Args:
            on_gap: called when signals may have been missed.
        """
        listener = _Listener(name, read, on_gap)
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def send(self, name: str, text: str) -> None:
        """Store a signal in the shared log; raises what `Hub.publish` raises."""
        message = Message(_TOPIC, ServerSentEvent(text), text)
        message.change = StateChange(ChangeKind.SIGNAL, token=name)
        await self._publish(message)

    def read(self, message: Message) -> None:
        """Read an entry of the log that is a signal."""
        assert message.change is not None
        for listener in list(self._listeners):
            if listener.name == message.change.token:
                listener.read(str(message.unplaced_event.data))

    def on_gap(self) -> None:
        """Tell all listeners: the log has lost entries that this node has not read."""
        for listener in list(self._listeners):
            listener.on_gap()
