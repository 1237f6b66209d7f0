"""`trio-sse tail`: follow an event stream from a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable

from .._client.status import STREAM_ENDED, OnStatus, SourceStatus
from .._wire.event import ServerSentEvent
from .credentials import without_credentials


def status_reporter(url: str, report: Callable[[str], None]) -> OnStatus:
    """Return what reports the status of an `EventSource`, a line of text at a time."""

    def on_status(status: SourceStatus, detail: str) -> None:
        if status is SourceStatus.OPEN:
            report(f"connected to {without_credentials(url)}{', ' * bool(detail)}{detail}")
        elif status is SourceStatus.WAITING or detail == STREAM_ENDED:
            report(detail)

    return on_status


def format_event(event: ServerSentEvent, *, as_json: bool) -> str:
    """Return an event as its fields, a line each, or as one line of JSON."""
    names = ("topic", event.topic), ("id", event.id), ("event", event.event)
    if as_json:
        fields = (*names, ("data", event.data), ("retry", event.retry))
        return json.dumps({name: value for name, value in fields if value is not None})
    lines = [f"{name}: {value}" for name, value in names if value]
    lines += [f"data: {line}" for line in str(event.data).split("\n")]
    return "\n".join([*lines, ""])
