"""What can be done from the console. Each action is logged, with who did it, before it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import trio

from .._http.exceptions import HTTPException
from .._http.request import Request
from .._http.response import Response
from .._hub.hub import Hub
from .._logger import get_logger
from .._shared_log.protocol import EventRefused, LogUnavailable
from .._stream.connection import Connection
from .._wire.topic import TopicError
from .access import Access, Viewer
from .page import SECURITY_FIELDS
from .places import Places
from .source import ConsoleSource
from .watch import watch

logger = get_logger("trio_sse.console")

_MOST_WATCHERS = 16

_DONE = Response(status=204, headers=SECURITY_FIELDS)
_ASKED = Response(status=202, headers=SECURITY_FIELDS)


@final
class Actions:
    """Watch a topic, publish an event, end a stream, drain."""

    def __init__(self, access: Access, source: ConsoleSource) -> None:
        self._access = access
        self._source = source
        self._watchers = Places(_MOST_WATCHERS, "topics are watched")

    @property
    def _hub(self) -> Hub:
        return self._source.hub

    async def watch(self, connection: Connection) -> None:
        """Send the events of a topic, until the viewer leaves."""
        viewer, given = self._access.check_action(connection.request)
        topic = _text(given, "topic")
        connection.expires_at = viewer.expires_at
        with self._watchers.take():
            for name, value in SECURITY_FIELDS.items():
                connection.add_header(name, value)
            _log(viewer, "watch", topic=topic)
            await watch(self._hub, topic, connection)

    async def publish(self, request: Request) -> Response:
        """Publish an event."""
        viewer, given = self._access.check_action(request)
        topic, data = _text(given, "topic"), given.get("data", "")
        event = _text(given, "event") if given.get("event") else None
        _log(viewer, "publish", topic=topic)
        try:
            with _log_must_take_it():
                await self._hub.publish(topic, data, event=event)
        except (TopicError, TypeError, ValueError, EventRefused) as error:
            raise HTTPException(400, str(error)) from None
        return _DONE

    async def end(self, request: Request) -> Response:
        """End a stream. Its client reconnects, unless that is not wanted."""
        viewer, given = self._access.check_action(request)
        id, reconnect = _number(given, "id"), given.get("reconnect", True) is True
        pid = _number(given, "pid") if "pid" in given else None
        _log(viewer, "end", id=id, pid=pid, reconnect=reconnect)
        if not self._source.end_stream(id, pid, reconnect=reconnect):
            raise HTTPException(404, "no such stream is open")
        return _DONE

    async def drain(self, request: Request) -> Response:
        """Begin a graceful shutdown: of all workers, of one, or of another node."""
        viewer, given = self._access.check_action(request)
        if given.get("confirm") != "drain":
            raise HTTPException(400, 'say {"confirm": "drain"}')
        if "node" in given:
            return await self._drain_node(viewer, _text(given, "node"))
        pid = _number(given, "pid") if "pid" in given else None
        _log(viewer, "drain", pid="all" if pid is None else pid)
        if not self._source.drain(pid):
            raise HTTPException(404, "no such worker is there")
        return _ASKED

    async def _drain_node(self, viewer: Viewer, node: str) -> Response:
        _log(viewer, "drain", node=node)
        with _log_must_take_it():
            is_there = await self._source.drain_node(node, f"session={viewer.name}")
        if not is_there:
            raise HTTPException(404, "no such node is there")
        return _ASKED


@contextmanager
def _log_must_take_it() -> Iterator[None]:
    """Answer with 503 if the hub or its log does not take what is published."""
    try:
        yield
    except (LogUnavailable, trio.ClosedResourceError, RuntimeError) as error:
        raise HTTPException(503, str(error) or "the hub has ended") from None


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise HTTPException(400, f"{name} must be a text")
    return value


def _number(given: dict[str, Any], name: str) -> int:
    value = given.get(name)
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise HTTPException(400, f"{name} must be a number")
    return value


def _log(viewer: Viewer, action: str, **what: object) -> None:
    text = "".join(f" {name}={_printable(str(value)[:200])}" for name, value in what.items())
    logger.info(
        "%s peer=%s session=%s%s",
        action,
        viewer.peer,
        viewer.name,
        text,
        fields={"event": action, "peer": viewer.peer, "session": viewer.name, **what},
    )


def _printable(text: str) -> str:
    """Return a text with escapes for what could end a line of the log, or change a terminal."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
