"""The subprotocol "trio-sse.v1": a WebSocket's client decides what it subscribes to.

`docs/websocket.md` specifies it. A connection has one subscription, whose topics change. So its events arrive
in the hub's one order, and the id of the last event is all that a client needs to resume, however many topics
it has. With several subscriptions, the ids of two slow ones would arrive in any order, and a client that
resumes from the highest id would lose what the other one had not sent.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Protocol, final

import trio

from .._groups import stray_cancellation_fails
from .._hub.hub import Hub
from .._nursery import UserCodeNursery
from .._shared_log.protocol import EventRefused, LogUnavailable
from .._subscription.changing import change_topics
from .._subscription.feed import Feed
from .._subscription.subscription import Subscription, feed_of
from .._wire.event import ServerSentEvent
from .._wire.topic import check_topic, check_topics

#: Which topics are allowed: a collection of names, or a function of a name.
Allowed = Collection[str] | Callable[[str], bool | Awaitable[bool]]


class TopicsSocket(Protocol):
    """A WebSocket that `serve_topics` serves, on any server."""

    @property
    def hub(self) -> Hub: ...

    @property
    def last_event_id(self) -> str | None:
        """The id to resume from, from the handshake."""

    def __aiter__(self) -> AsyncIterator[str | bytes]: ...

    async def send_json(self, value: object) -> None: ...

    async def forward(self, subscription: Subscription) -> None:
        """Send all events of an entered subscription until the connection ends."""


class RejectedFrame(Exception):
    """A frame asks for something that cannot be done; the text says why."""


async def serve_topics(
    websocket: TopicsSocket, *, topics: Allowed, publish: Allowed = (), include_topic: bool = False
) -> None:
    """Let the client subscribe and publish with frames of "trio-sse.v1", until the connection ends.

    A frame that is not allowed, or not valid, is answered with a frame of the type `error`.

    Args:
        topics: the topics that the client may subscribe to: a collection of names, or a function, plain or
            async, that takes a name and returns whether it is allowed.
        publish: the topics that it may publish to, likewise; by default none.
        include_topic: let each event say its topic.
    """
    await _Session(websocket, topics, publish, include_topic=include_topic).run()


@final
class _Session:
    def __init__(
        self, websocket: TopicsSocket, topics: Allowed, publish: Allowed, *, include_topic: bool
    ) -> None:
        self._websocket = websocket
        self._include_topic = include_topic
        self._may_subscribe = topics
        self._may_publish = publish
        self._feed: Feed | None = None
        self._nursery: trio.Nursery

    @property
    def _hub(self) -> Hub:
        return self._websocket.hub

    async def run(self) -> None:
        try:
            async with UserCodeNursery() as self._nursery:
                with stray_cancellation_fails():
                    await self._answer_all()
        finally:
            if self._feed is not None:
                self._feed.leave()

    async def _answer_all(self) -> None:
        async for message in self._websocket:
            try:
                await self._answer(_parse(message))
            except RejectedFrame as error:
                await self._websocket.send_json({"type": "error", "error": str(error)})

    async def _answer(self, frame: dict[str, object]) -> None:
        match frame.get("type"):
            case "subscribe":
                await self._subscribe(_topics(frame), _text(frame, "last_event_id"))
            case "unsubscribe":
                removed = frozenset(_topics(frame))
                await self._change(tuple(topic for topic in self._topics if topic not in removed))
            case "publish":
                await self._publish(frame)
            case other:
                raise RejectedFrame(
                    f"the type must be subscribe, unsubscribe or publish, not {_shown(other)}"
                )

    @property
    def _topics(self) -> tuple[str, ...]:
        return () if self._feed is None else self._feed.topics

    async def _subscribe(self, topics: tuple[str, ...], last_event_id: str | None) -> None:
        for topic in topics:
            if not await _is_allowed(self._may_subscribe, topic):
                raise RejectedFrame(f"you may not subscribe to {_shown(topic)}")
        if self._feed is not None:
            if last_event_id is not None:
                raise RejectedFrame(
                    "last_event_id goes with the first subscribe of a connection, for all topics"
                )
            await self._change(_checked((*self._topics, *topics)))
            return
        last_event_id = self._websocket.last_event_id if last_event_id is None else last_event_id
        subscription = self._hub.subscribe(
            *topics, last_event_id=last_event_id, include_topic=self._include_topic
        )
        feed = feed_of(subscription)
        feed.enter()
        self._feed = feed
        await self._send_topics(topics, feed.first_cursor())
        self._nursery.start_soon(self._websocket.forward, subscription)

    async def _change(self, topics: tuple[str, ...]) -> None:
        """Change the topics, after the replay is over and between two batches."""
        if self._feed is not None:
            await change_topics(self._feed, topics)
        await self._send_topics(topics)

    async def _send_topics(self, topics: tuple[str, ...], cursor: str | None = None) -> None:
        answer: dict[str, object] = {"type": "topics", "topics": topics}
        if cursor is not None:
            answer["last_event_id"] = cursor
        await self._websocket.send_json(answer)

    async def _publish(self, frame: dict[str, object]) -> None:
        topic = frame.get("topic")
        if "data" not in frame:
            raise RejectedFrame("a publish frame needs data")
        try:
            topic = check_topic(topic)
            event = ServerSentEvent(frame["data"], event=_text(frame, "event"))
            key = _text(frame, "idempotency_key")
        except (TypeError, ValueError) as error:
            raise RejectedFrame(str(error)) from None
        if not await _is_allowed(self._may_publish, topic):
            raise RejectedFrame(f"you may not publish to {_shown(topic)}")
        try:
            await self._hub.publish(topic, event.data, event=event.event, idempotency_key=key)
        except (TypeError, ValueError) as error:
            raise RejectedFrame(str(error)) from None
        except RecursionError:
            raise RejectedFrame("data is nested too deeply") from None
        except EventRefused:
            raise RejectedFrame("the log does not store this event") from None
        except LogUnavailable:  # the client does not need to know why
            raise RejectedFrame("it may not have been published: the log is unavailable") from None


async def _is_allowed(allowed: Allowed, topic: str) -> bool:
    if not callable(allowed):
        return topic in allowed
    result = allowed(topic)
    return await result if inspect.isawaitable(result) else result


def _parse(message: str | bytes) -> dict[str, object]:
    if isinstance(message, bytes):
        raise RejectedFrame("a frame must be text, not binary")
    try:
        frame = json.loads(message)
    except (ValueError, RecursionError):
        raise RejectedFrame("a frame must be JSON") from None
    if not isinstance(frame, dict):
        raise RejectedFrame("a frame must be a JSON object")
    return frame


def _topics(frame: dict[str, object]) -> tuple[str, ...]:
    topics = frame.get("topics")
    if not isinstance(topics, list):
        raise RejectedFrame("topics must be a list of names")
    return _checked(topics)


def _checked(topics: Collection[object]) -> tuple[str, ...]:
    try:
        return check_topics(topics)
    except (TypeError, ValueError) as error:
        raise RejectedFrame(str(error)) from None


def _text(frame: dict[str, object], name: str) -> str | None:
    value = frame.get(name)
    if value is not None and not isinstance(value, str):
        raise RejectedFrame(f"{name} must be a string")
    return value


def _shown(value: object) -> str:
    """Return a value from the client as text for an error, truncated."""
    return repr(value)[:80]
