"""The subprotocol of WebSockets: each message has one answer, and no topic is opened by mistake."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator

import trio
import trio.testing

from trio_sse import Hub
from trio_sse._subscription.subscription import Subscription
from trio_sse._websocket.subprotocol import serve_topics

from ..source import Source


def seeds() -> Iterator[bytes]:
    for frame in (
        {"type": "subscribe", "topics": ["a", "b"], "last_event_id": "x.1"},
        {"type": "publish", "topic": "a", "data": {"n": 1}, "event": "e", "idempotency_key": "k"},
        {"type": "unsubscribe", "topics": ["a"]},
        {"type": "publish", "topic": "", "data": None},
        {"type": ["x"], "topics": [7, None]},
    ):
        text = json.dumps(frame).encode()
        yield bytes((1, len(text))) + text


def check(data: bytes) -> None:
    logging.disable(logging.CRITICAL)
    trio.run(_check, Source(data), clock=trio.testing.MockClock(autojump_threshold=0))


class _Socket:
    """A WebSocket in memory; it ends when its messages are used up."""

    last_event_id = None

    def __init__(self, hub: Hub, messages: list[str | bytes]) -> None:
        self.hub = hub
        self._messages = messages
        self.answers: list[dict[str, object]] = []
        self.received: list[str] = []

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        for number, message in enumerate(self._messages):
            yield message
            await trio.testing.wait_all_tasks_blocked()
            assert len(self.answers) in (number, number + 1)

    async def send_json(self, value: object) -> None:
        await trio.lowlevel.checkpoint()
        assert isinstance(value, dict)
        json.dumps(value).encode()
        self.answers.append(value)

    async def forward(self, subscription: Subscription) -> None:
        async for event in subscription:
            self.received.append(str(event.data))


async def _check(source: Source) -> None:
    hub = Hub()
    messages: list[str | bytes] = []
    while source and len(messages) < 6:
        is_binary = source.number(4) == 0
        piece = source.piece()
        messages.append(piece if is_binary else piece.decode("utf-8", "replace"))
    socket = _Socket(hub, messages)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        with trio.move_on_after(60) as scope:
            await serve_topics(socket, topics=lambda topic: topic != "secret", publish=["a", "b"])
        assert not scope.cancelled_caught or socket.received is not None
        nursery.cancel_scope.cancel()
    for answer in socket.answers:
        assert answer["type"] in ("topics", "error")
        assert "secret" not in (answer.get("topics") or ())  # type: ignore[operator]
    assert hub.statistics().subscriptions == 0
