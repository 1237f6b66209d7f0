"""The subprotocol "trio-sse.v1": a client of a WebSocket that says itself what it subscribes to.

`docs/websocket.md` specifies it. A connection has one subscription, whose topics change: so its events come
in the hub's one order, and the id of the last one that came is all that a client needs to resume, however
many topics it takes. With a subscription for each request, the ids of two that lag would come in any order,
and a client that resumes from the highest would lose what the other had not sent.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Protocol, final

import trio

from .._hub.feed import Feed
from .._hub.hub import Hub, engine_of
from .._hub.subscription import Subscription, feed_of
from .._log.protocol import LogUnavailable
from .._wire.event import ServerSentEvent
from .._wire.topic import check_topic, check_topics

#: Which topics: these, or those for which a function says so.
Allowed = Collection[str] | Callable[[str], bool | Awaitable[bool]]


class TopicsSocket(Protocol):
    """A WebSocket by which topics are served, on whichever host."""

    @property
    def hub(self) -> Hub: ...

    @property
    def last_event_id(self) -> str | None:
        """The id to resume from, by the handshake."""

    def __aiter__(self) -> AsyncIterator[str | bytes]: ...

    async def send_json(self, value: object) -> None: ...

    async def forward(self, subscription: Subscription) -> None:
        """Send all events of an entered subscription until the connection ends."""


class Refused(Exception):
    """A frame asks for what can't be done, and says why."""


async def serve_topics(websocket: TopicsSocket, *, topics: Allowed, publish: Allowed = ()) -> None:
    """Let the client subscribe and publish by frames of "trio-sse.v1", until the connection ends.

    What is not allowed, or can't be understood, is answered by a frame of the type `error`.

    Args:
        topics: which the client may subscribe to: a collection of names, or a function, plain or async, that
            is given a name and says whether.
        publish: which it may publish to, likewise; by default none.
    """
    await _Session(websocket, topics, publish).run()


@final
class _Session:
    def __init__(self, websocket: TopicsSocket, topics: Allowed, publish: Allowed) -> None:
        self._websocket = websocket
        self._may_subscribe = topics
        self._may_publish = publish
        self._feed: Feed | None = None
        self._is_live = trio.Event()
        self._nursery: trio.Nursery

    @property
    def _hub(self) -> Hub:
        return self._websocket.hub

    async def run(self) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                async for message in self._websocket:
                    try:
                        await self._answer(_parse(message))
                    except Refused as error:
                        await self._websocket.send_json({"type": "error", "error": str(error)})
        finally:
            if self._feed is not None:
                self._feed.leave()

    async def _answer(self, frame: dict[str, object]) -> None:
        match frame.get("type"):
            case "subscribe":
                await self._subscribe(_topics(frame), _text(frame, "last_event_id"))
            case "unsubscribe":
                gone = _topics(frame)
                await self._change(tuple(topic for topic in self._topics if topic not in gone))
            case "publish":
                await self._publish(frame)
            case other:
                raise Refused(f"the type must be subscribe, unsubscribe or publish, not {_shown(other)}")

    @property
    def _topics(self) -> tuple[str, ...]:
        return () if self._feed is None else self._feed.topics

    async def _subscribe(self, topics: tuple[str, ...], last_event_id: str | None) -> None:
        for topic in topics:
            if not await _is_allowed(self._may_subscribe, topic):
                raise Refused(f"you may not subscribe to {_shown(topic)}")
        if self._feed is not None:
            if last_event_id is not None:
                raise Refused("last_event_id goes with the first subscribe of a connection, for all topics")
            await self._change(_checked((*self._topics, *topics)))
            return
        last_event_id = self._websocket.last_event_id if last_event_id is None else last_event_id
        subscription = self._hub.subscribe(*topics, last_event_id=last_event_id)
        feed = feed_of(subscription)
        feed.on_live = self._is_live.set
        feed.enter()
        self._feed = feed
        await self._say_topics(topics)
        self._nursery.start_soon(self._websocket.forward, subscription)

    async def _change(self, topics: tuple[str, ...]) -> None:
        """Take other topics: once the replay is over, and between two batches."""
        if self._feed is not None:
            await self._is_live.wait()
            is_done = trio.Event()
            engine_of(self._hub).when_settled(lambda: self._take(topics, is_done))
            await is_done.wait()
        await self._say_topics(topics)

    def _take(self, topics: tuple[str, ...], is_done: trio.Event) -> None:
        assert self._feed is not None
        self._feed.change_topics(topics)
        is_done.set()

    async def _say_topics(self, topics: tuple[str, ...]) -> None:
        await self._websocket.send_json({"type": "topics", "topics": topics})

    async def _publish(self, frame: dict[str, object]) -> None:
        topic = frame.get("topic")
        if "data" not in frame:
            raise Refused("a publish needs data")
        try:
            topic = check_topic(topic)
            event = ServerSentEvent(frame["data"], event=_text(frame, "event"))
        except (TypeError, ValueError) as error:
            raise Refused(str(error)) from None
        if not await _is_allowed(self._may_publish, topic):
            raise Refused(f"you may not publish to {_shown(topic)}")
        try:
            await self._hub.publish(topic, event.data, event=event.event)
        except (TypeError, ValueError) as error:
            raise Refused(str(error)) from None
        except RecursionError:
            raise Refused("data is nested too deeply") from None
        except LogUnavailable:  # why, is none of the client's business
            raise Refused("it may not have been published: the log is away") from None


async def _is_allowed(allowed: Allowed, topic: str) -> bool:
    if not callable(allowed):
        return topic in allowed
    result = allowed(topic)
    return await result if inspect.isawaitable(result) else result


def _parse(message: str | bytes) -> dict[str, object]:
    if isinstance(message, bytes):
        raise Refused("a frame must be text, not binary")
    try:
        frame = json.loads(message)
    except (ValueError, RecursionError):
        raise Refused("a frame must be JSON") from None
    if not isinstance(frame, dict):
        raise Refused("a frame must be a JSON object")
    return frame


def _topics(frame: dict[str, object]) -> tuple[str, ...]:
    topics = frame.get("topics")
    if not isinstance(topics, list):
        raise Refused("topics must be a list of names")
    return _checked(topics)


def _checked(topics: Collection[object]) -> tuple[str, ...]:
    try:
        return check_topics(topics)
    except (TypeError, ValueError) as error:
        raise Refused(str(error)) from None


def _text(frame: dict[str, object], name: str) -> str | None:
    value = frame.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused(f"{name} must be a string")
    return value


def _shown(value: object) -> str:
    """Give a value of the client's back to it, cut to a length that tells."""
    return repr(value)[:80]
