"""What clients receive of a run, and under which numbers, does not depend on when the run is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_sse import RunStatus
from trio_sse._runs.content import RunContent
from trio_sse._runs.items import RunReader
from trio_sse._runs.position import START
from trio_sse._runs.status import RunEnd
from trio_sse._runs.viewing import Viewers
from trio_sse.adapters._numbers import EventNumbers, events_had
from trio_sse.adapters._pieces import PieceSplitter
from trio_sse.adapters._protocol import REQUEST_EVENT, Payload, Translation
from trio_sse.adapters._response import RunAsResponse
from trio_sse.adapters._state_changes import StateChanges
from trio_sse.adapters.ag_ui import _AgentRun
from trio_sse.adapters.ai_sdk import _Message
from trio_sse.adapters.openai_chat import _Completion

from ..support.cases import each_case
from ..support.shares import examples

Change = Callable[[RunContent], None]

TEXTS = st.text(st.sampled_from("ab 。\n"), min_size=1, max_size=8)
CHANGES: st.SearchStrategy[Change] = st.one_of(
    TEXTS.map(lambda text: lambda content: content.append("text", text.encode())),
    TEXTS.map(lambda text: lambda content: content.append("plan", text.encode())),
    TEXTS.map(lambda text: lambda content: content.append("notes", text.encode())),
    TEXTS.map(lambda text: lambda content: content.emit("reasoning", text)),
    st.just(lambda content: content.set_state("1")),
    st.sampled_from(
        [
            ("tool_call", '{"id":"c","name":"n","arguments":{}}'),
            ("tool_call", '{"id":"d","name":"n","executed":true}'),
            ("tool_call", "no object"),
            ("tool_result", '{"id":"c","result":1}'),
            ("tool_result", '{"id":"d","error":"none"}'),
            ("sources", "[1]"),
            (None, "text"),
        ]
    ).map(lambda event: lambda content: content.emit(*event)),
)
ENDS = st.builds(
    RunEnd,
    st.sampled_from([status for status in RunStatus if status.is_end]),
    st.sampled_from([None, "why"]),
    st.sampled_from(
        [None, "3", '{"usage":{"input_tokens":1,"output_tokens":2}}', '{"usage":{"input_tokens":"x"}}']
    ),
    st.just(1.0),
)


class Viewer:
    """A viewer of a run, which reads it when the test says so; it may have had a part of it before."""

    def __init__(self, content: RunContent, make: Callable[[str], Translation], cursor: str = "") -> None:
        self._reader = RunReader(content, Viewers(content, lambda: None), START)
        self._translation = make(content.id)
        self._splitter = PieceSplitter(further=self._translation.shows_further_texts)
        had = events_had(content.id, cursor)
        self._numbers = EventNumbers(content.id, self._splitter.further_texts, had)
        self.cursors: list[str] = []
        self.received: list[Payload] = []  # what has a number, and was not had before

    def read(self) -> None:
        for item in self._reader.read_now():
            for piece in self._splitter.split(item):
                for payload in self._translation.translate(piece):
                    if payload.is_counted and (id := self._numbers.next(payload.text)) is not None:
                        self.cursors.append(id)
                        self.received.append(payload)


def by_text(payloads: list[Payload]) -> dict[str, list[Payload]]:
    """Return events in the order that does not depend on when they were read."""
    texts = sorted({payload.text for payload in payloads})
    return {text: [payload for payload in payloads if payload.text == text] for text in texts}


def agent_run(id: str) -> Translation:
    return _AgentRun(id, StateChanges())


@pytest.mark.parametrize("make", [_Completion, RunAsResponse, _Message, agent_run])
@settings(max_examples=examples(50))
@given(st.lists(st.tuples(CHANGES, st.booleans()), max_size=12), ENDS, st.integers(0, 20))
def test_all_viewers_receive_the_same_events_also_if_they_resume(
    make: Callable[[str], Translation], changes: list[tuple[Change, bool]], end: RunEnd, cut: int
) -> None:
    content = RunContent("run", 1.0)
    now_and_then, always = Viewer(content, make), Viewer(content, make)
    facts = '{"model":"m","created":1,"include_usage":true,"threadId":"t","runId":"r"}'
    steps: list[Any] = [(partial(RunContent.emit, event=REQUEST_EVENT, data=facts), True), *changes]
    for change, is_read in steps:
        change(content)
        always.read()
        if is_read:
            now_and_then.read()
    content.finish(end)
    late = Viewer(content, make)
    for viewer in (always, now_and_then, late):
        viewer.read()
    assert by_text(always.received) == by_text(now_and_then.received) == by_text(late.received)
    numbers = [payload.data["sequence_number"] for payload in late.received if make is RunAsResponse]  # type: ignore[index]
    assert numbers == list(range(len(numbers)))
    cut = min(cut, len(always.cursors) - 1)
    resumed = Viewer(content, make, always.cursors[cut])
    resumed.read()
    assert by_text([*always.received[: cut + 1], *resumed.received]) == by_text(late.received)


@each_case("cursor", [None, "", "run", "run.", "run.x", "run.1-", "other.3", "run.1" + "-1" * 17])
def test_what_is_no_cursor_of_the_run_has_nothing(cursor: str | None) -> None:
    assert events_had("run", cursor) == ()
    assert events_had("run", "run.3-0-2") == (4, 0, 2)
    assert events_had("run", "run.0" + "-1" * 16) == (1, *[1] * 16)  # no main text, and all others
