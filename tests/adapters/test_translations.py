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
from trio_sse._shared_log.run_session import AttemptStart
from trio_sse.adapters._numbers import EventNumbers, LeftOut, events_had
from trio_sse.adapters._pieces import PieceSplitter
from trio_sse.adapters._protocol import REQUEST_EVENT, Payload, Translation, left_out_before
from trio_sse.adapters._response import RunAsResponse
from trio_sse.adapters._state_changes import StateChanges
from trio_sse.adapters.ag_ui import _AgentRun
from trio_sse.adapters.ai_sdk import _Message
from trio_sse.adapters.openai_chat import _Completion

from ..support.cases import each_case
from ..support.shares import examples

Change = Callable[[RunContent], None]


def begin_attempt(content: RunContent) -> None:
    head = content.head
    start = AttemptStart(f"attempt{len(content.starts)}", head.events, head.state, head.lengths)
    content.set_starts([*content.starts, start])


TEXTS = st.text(st.sampled_from("ab 。\n"), min_size=1, max_size=8)
CHANGES: st.SearchStrategy[Change] = st.one_of(
    TEXTS.map(lambda text: lambda content: content.append("text", text.encode())),
    TEXTS.map(lambda text: lambda content: content.append("plan", text.encode())),
    TEXTS.map(lambda text: lambda content: content.append("notes", text.encode())),
    TEXTS.map(lambda text: lambda content: content.emit("reasoning", text)),
    st.just(lambda content: content.set_state("1")),
    st.just(begin_attempt),
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
        self._epoch = ""
        self.cursors: list[str] = []
        self.received: list[Payload] = []  # what has a number, and was not had before
        self._has_void = False

    def read(self) -> None:
        for item in self._reader.read_now():
            left_out, self._epoch = left_out_before(item, self._epoch)
            for part in (*left_out, item):
                for piece in self._splitter.split(part):
                    if isinstance(piece, LeftOut) and self._numbers.leave_out(piece.count):
                        self._has_void = True
                    for payload in self._translation.translate(piece):
                        if payload.is_counted and (id := self._numbers.next(payload.text)) is not None:
                            self.cursors.append(id)
                            self.received.append(payload)

    @property
    def has_void(self) -> bool:
        return self._has_void or self._numbers.missing > 0


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
    assert numbers == sorted(set(numbers))
    if not content.starts and end.status in (RunStatus.FINISHED, RunStatus.FAILED):
        assert numbers == list(range(len(numbers)))
    cut = min(cut, len(always.cursors) - 1)
    resumed = Viewer(content, make, always.cursors[cut])
    resumed.read()
    assert by_text([*always.received[: cut + 1], *resumed.received]) == by_text(late.received)
    assert not resumed.has_void


@pytest.mark.parametrize("make", [_Completion, RunAsResponse, _Message, agent_run])
@settings(max_examples=examples(50))
@given(
    st.lists(CHANGES, max_size=6),
    st.lists(CHANGES, max_size=4),
    st.lists(CHANGES, max_size=4),
    ENDS,
    st.booleans(),
)
def test_who_has_what_a_store_has_lost_is_never_taken_for_one_who_has_not(
    make: Callable[[str], Translation],
    kept: list[Change],
    lost: list[Change],
    later: list[Change],
    end: RunEnd,
    is_resumed: bool,
) -> None:
    contents = (RunContent("run", 1.0), RunContent("run", 1.0))
    viewers = [Viewer(content, make) for content in contents]
    asked: Change = partial(RunContent.emit, event=REQUEST_EVENT, data="{}")
    for change in (asked, *kept):
        for content, viewer in zip(contents, viewers, strict=True):
            change(content)
            viewer.read()
    before = len(viewers[0].received)
    for change in lost:
        change(contents[0])
        viewers[0].read()
    restored = contents[1]
    head = restored.head
    if is_resumed:
        start = AttemptStart("another", head.events, head.state, head.lengths)
        restored.set_starts([*restored.starts, start])
        for change in later:
            change(restored)
    elif end.status in (RunStatus.FINISHED, RunStatus.FAILED):
        end = end._replace(status=RunStatus.LOST)  # no node was there that could end it otherwise
    restored.finish(end)
    late = Viewer(restored, make)
    late.read()
    for number, cursor in enumerate(viewers[0].cursors):
        resumed = Viewer(restored, make, cursor)
        resumed.read()
        shown = [*viewers[0].received[: number + 1], *resumed.received]
        assert resumed.has_void or by_text(shown) == by_text(late.received)
        assert not (resumed.has_void and number < before)


@each_case("cursor", [None, "", "run", "run.", "run.x", "run.1-", "other.3", "run.1" + "-1" * 17])
def test_what_is_no_cursor_of_the_run_has_nothing(cursor: str | None) -> None:
    assert events_had("run", cursor) == ()
    assert events_had("run", "run.3-0-2") == (4, 0, 2)
    assert events_had("run", "run.0" + "-1" * 16) == (1, *[1] * 16)  # no main text, and all others
