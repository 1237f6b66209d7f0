"""How `tail` prints an event."""

from __future__ import annotations

import pytest

from trio_sse import ServerSentEvent
from trio_sse._tools.tail import format_event

EVENT = ServerSentEvent("a\nb", event="e", id="7", retry=5, topic="prices")


@pytest.mark.parametrize(
    ("event", "text", "json"),
    [
        (
            EVENT,
            "topic: prices\nid: 7\nevent: e\ndata: a\ndata: b\n",
            '{"topic": "prices", "id": "7", "event": "e", "data": "a\\nb", "retry": 5}',
        ),
        (ServerSentEvent(""), "data: \n", '{"data": ""}'),
    ],
)
def test_the_fields_that_an_event_has(event: ServerSentEvent, text: str, json: str) -> None:
    assert format_event(event, as_json=False) == text
    assert format_event(event, as_json=True) == json
