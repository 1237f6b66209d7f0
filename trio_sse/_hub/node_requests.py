"""What the console of one node asks the others for: entries of the shared log that nobody receives.

Nothing is written while nobody watches, and one entry in half a minute while somebody does. What the nodes
answer is not in the log; see `NoticeSession`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, final
from weakref import WeakSet

from .._containment import contained
from .._wire.event import ServerSentEvent
from .._wire.json_text import compact_json
from .._wire.message import Message
from .._wire.state_change import ChangeKind, StateChange

_TOPIC = "nodes"  # of the entries; nobody receives them


class NodeListener(Protocol):
    """A node, as far as others ask it for something."""

    def on_watch(self, seconds: float) -> None:
        """Report to the others for so many seconds."""

    def on_drain(self, node: str, by: str, signature: str) -> None:
        """Drain, if this is the node and the signature is right."""


@final
class NodeRequests:
    """The requests of one hub.

    Args:
        publish: stores a message in the shared log.

    Attributes:
        listeners: who does what other nodes ask for, as long as they exist.
    """

    def __init__(self, publish: Callable[[Message], Awaitable[None]]) -> None:
        self.listeners: WeakSet[NodeListener] = WeakSet()
        self._publish = publish

    async def watch(self, seconds: float) -> None:
        """Ask all nodes, this one included, to report for some time."""
        await self._publish(_encode({"watch": seconds}))

    async def drain(self, node: str, by: str, signature: str) -> None:
        """Ask a node to drain; `by` is for its log."""
        await self._publish(_encode({"drain": node, "by": by, "signature": signature}))

    def read(self, message: Message) -> None:
        """Do what an entry of the log says. There is no checkpoint in it."""
        with contained("a request in the shared log cannot be read"):
            match json.loads(str(message.unplaced_event.data)):
                case {"watch": int() | float() as seconds}:
                    for listener in list(self.listeners):
                        listener.on_watch(seconds)
                case {"drain": str(node), "by": str(by), "signature": str(signature)}:
                    for listener in list(self.listeners):
                        listener.on_drain(node, by, signature)
                case _:
                    pass  # of a newer node


def _encode(fields: dict[str, Any]) -> Message:
    text = compact_json(fields)
    message = Message(_TOPIC, ServerSentEvent(text), text)
    message.change = StateChange(ChangeKind.NODES)
    return message
