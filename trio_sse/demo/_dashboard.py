"""The dashboard's server. It publishes samples to topics; a page draws them, and can cut its own stream."""

from __future__ import annotations

import mimetypes
import time
from collections import deque
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import final

import trio

from .. import Connection, HTTPException, Hub, Request, Response, Server
from ._machine import Machine

#: The topics of the dashboard. The events of each have its name as their type.
TOPICS = ("cpu", "memory", "network", "processes", "server")

_SECONDS_BETWEEN_SAMPLES = 1.0
_HISTORY_SECONDS = 300

# How long the page waits before it reconnects. Browsers differ in their default, and the outage should be
# visible.
_RETRY_MILLISECONDS = 3000

_MAX_TOKEN = 64
_RECENT_ENDS = 8


@final
class Dashboard:
    """A server whose `run` samples the machine once a second.

    Args:
        history: how many events the log keeps; by default those of five minutes. If an outage is longer, the
            page shows a gap.
    """

    def __init__(self, *, history: int = len(TOPICS) * _HISTORY_SECONDS) -> None:
        self.server = Server(hub=Hub(history=history), console=True)
        self._machine = Machine()
        self._clients: dict[str, Connection] = {}  # by the token that each page generates
        self._recent_ends: deque[dict[str, object]] = deque(maxlen=_RECENT_ENDS)
        self._deliveries_before = 0
        self.server.route("/events")(self._events)
        self.server.endpoint("/cut", methods=["POST"])(self._cut)
        self.server.on_disconnect(self._note_end)
        self._add_files()

    async def run(self) -> None:
        """Sample the machine and publish until the server has ended. Skip samples that are late."""
        due = trio.current_time()
        while True:
            samples = await trio.to_thread.run_sync(self._machine.sample)
            samples["server"] = self._sample_server()
            try:
                await self._publish(samples)
            except trio.ClosedResourceError:
                return
            due = max(due + _SECONDS_BETWEEN_SAMPLES, trio.current_time())
            await trio.sleep_until(due)

    async def _publish(self, samples: dict[str, dict[str, object]]) -> None:
        for topic in TOPICS:
            retry = _RETRY_MILLISECONDS if topic == "server" else None
            await self.server.hub.publish(topic, samples[topic], event=topic, retry=retry)

    async def _events(self, connection: Connection) -> None:
        hub = self.server.hub
        token = connection.request.query.get("client", "")[:_MAX_TOKEN]
        # A new page receives the whole log, so its charts are full at once.
        start = connection.last_event_id or hub.first_event_id
        self._clients[token] = connection
        try:
            async with hub.subscribe(*TOPICS, last_event_id=start) as subscription:
                await connection.forward(subscription)
        finally:
            if self._clients.get(token) is connection:
                del self._clients[token]

    async def _cut(self, request: Request) -> Response:
        connection = self._clients.get(request.query.get("client", "")[:_MAX_TOKEN])
        if connection is None:
            raise HTTPException(404, "no stream of that client is open")
        connection.close(reconnect=True)
        return Response(status=204)

    def _note_end(self, connection: Connection) -> None:
        reason = connection.end_reason
        self._recent_ends.appendleft(
            {
                "id": connection.id,
                "reason": "unknown" if reason is None else reason.value,
                "seconds": round(connection.duration, 1),
                "events": connection.events_sent,
            }
        )

    def _sample_server(self) -> dict[str, object]:
        statistics = self.server.statistics()
        deliveries = statistics.hub.deliveries
        per_second = (deliveries - self._deliveries_before) / _SECONDS_BETWEEN_SAMPLES
        self._deliveries_before = deliveries
        return {
            "at": round(time.time(), 3),
            "open_streams": statistics.open_streams,
            "opened": statistics.opened,
            "deliveries": deliveries,
            "deliveries_per_second": per_second,
            "queued_events": statistics.hub.queued_events,
            "log_events": statistics.hub.log_events,
            "published": statistics.hub.published,
            "ended": {reason.value: count for reason, count in statistics.ended.items()},
            "last_ends": list(self._recent_ends),
        }

    def _add_files(self) -> None:
        own, common = files(__package__) / "static", files("trio_sse") / "static" / "common"
        for path, file in _walk(own, "/static") + _walk(common, "/static"):
            content_type = mimetypes.guess_type(path)[0] or "text/plain"
            response = Response(
                file.read_bytes(), content_type=content_type, headers={"Cache-Control": "no-cache"}
            )
            self.server.endpoint("/" if path == "/static/index.html" else path)(partial(_respond, response))


async def _respond(response: Response, request: Request) -> Response:
    return response


def _walk(folder: Traversable, path: str) -> list[tuple[str, Traversable]]:
    found = []
    for entry in folder.iterdir():
        below = f"{path}/{entry.name}"
        found += _walk(entry, below) if entry.is_dir() else [(below, entry)]
    return found
