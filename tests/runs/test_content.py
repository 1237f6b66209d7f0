"""A run's content: from whatever position a client continues, it ends with the same."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trio_sse import EventDecoder, RunStatus
from trio_sse._runs.content import RunContent
from trio_sse._runs.position import START, Position, format_position, parse_position
from trio_sse._runs.protocol import RunEvent, RunEvents
from trio_sse._runs.status import RunEnd
from trio_sse._runs.writing import EmitEvent, PendingChanges, SetState, apply
from trio_sse._shared_log.run_session import AttemptStart
from trio_sse._wire.message import Framing

from ..support.cases import each_case

ID = "abcdefgh-and_the_rest"


class Replica:
    """What a client makes of a run's events."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.log: list[tuple[str, Any]] = []
        self.state: Any = None
        self.ends = 0
        self.position = START

    def take(self, events: list[RunEvent] | tuple[RunEvent, ...] | Any) -> None:
        for event, data, position in events:
            value = json.loads(data)
            match event:
                case "run":
                    self.texts.clear()
                    self.log.clear()
                case "text":
                    self.texts[value.get("name", "text")] = value["text"]
                case "append":
                    name = value.get("name", "text")
                    self.texts[name] = self.texts.get(name, "") + value["text"]
                case "state":
                    self.state = value
                case "end":
                    self.ends += 1
                case _:
                    self.log.append((str(event), value))
            self.position = position


_pieces = st.text("aé💡\n", min_size=1, max_size=5)
_changes = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(["text", "plan"]), _pieces),
    st.tuples(st.just("emit"), st.sampled_from(["a", "b"]), st.integers()),
    st.tuples(st.just("state"), st.none(), st.integers()),
)


def _fill(changes: list[tuple[str, Any, Any]], *live: Replica) -> tuple[RunContent, list[Position]]:
    """Return a run of these changes and an end, with its position after each change.

    Of clients that follow it live, the first one reads each change at once, and the others less often.
    """
    content, pending, positions = RunContent(ID, 0.0), PendingChanges(), [START]
    for kind, name, value in changes:
        match kind:
            case "append":
                pending.append(name, value, len(value.encode()))
            case "emit":
                pending.add(EmitEvent(name, json.dumps(value)), 1)
            case _:
                pending.add(SetState(json.dumps(value)), 1)
        if isinstance(value, int) and value % 2:
            continue  # it becomes visible together with the next one
        apply(content, pending.take())
        positions.append(content.head)
        for number, client in enumerate(live, 1):
            if len(positions) % number == 0:
                client.take(content.since(client.position))
                assert client.position == content.head
    pending.add(RunEnd(RunStatus.FINISHED, None, "7", 1.0), 0)
    apply(content, pending.take())
    return content, positions


@given(st.lists(_changes, max_size=12))
def test_a_client_has_the_same_from_wherever_it_continues(changes: list[tuple[str, Any, Any]]) -> None:
    live = [Replica(), Replica(), Replica()]
    content, positions = _fill(changes, *live)
    expected = Replica()
    expected.take(content.since(START))
    for position in positions:
        assert content.has(position)
        assert parse_position(ID, format_position(ID, position)) == position
    anew = Replica()
    anew.take(content.whole())
    # A client that is cut after any of its events continues there.
    for events in (content.since(START), content.whole()):
        for cut in range(len(events) + 1):
            client = Replica()
            client.take(events[:cut])
            client.take(content.since(client.position))
            assert (client.texts, client.log, client.state) == (anew.texts, anew.log, anew.state)
            assert client.ends == 1
    assert (expected.texts, expected.log) == (anew.texts, anew.log)
    for client in live:
        client.take(content.since(client.position))
        assert (client.texts, client.log, client.state) == (anew.texts, anew.log, anew.state)
    assert content.since(content.head) == ()
    texts = {"text": "", "plan": ""}
    for kind, name, value in changes:
        if kind == "append":
            texts[name] += value
    assert anew.texts == {name: text for name, text in texts.items() if text}


def test_texts_and_events_come_in_the_order_in_which_they_were_made() -> None:
    content, _ = _fill([("append", "text", "a"), ("emit", "tool", 2), ("append", "text", "b")])
    in_order = [(event, json.loads(data)) for event, data, _ in content.since(START)]
    end = ("end", {"status": "finished", "result": 7})
    assert in_order == [("append", {"text": "a"}), ("tool", 2), ("append", {"text": "b"}), end]
    first, *rest = content.whole(in_order=True)
    assert first.event == "run"  # who starts anew forgets what it had
    assert rest == list(content.since(START))
    anew = [(event, json.loads(data)) for event, data, _ in content.whole()]
    assert anew[1:] == [("text", {"text": "ab"}), ("tool", 2), end]


def test_a_long_text_is_sent_in_pieces_of_whole_characters() -> None:
    content = RunContent(ID, 0.0)
    text = "é💡a" * 100_000
    content.append("text", text.encode())
    events = content.whole()
    assert len(events) > 4
    assert {event for event, _, _ in events[2:]} == {"append"}
    replica = Replica()
    replica.take(events)
    assert replica.texts == {"text": text}
    assert all(content.has(position) for _, _, position in events)


@each_case(
    "id",
    [
        "",
        "abcdefgh",
        "abcdefgh.",
        "abcdefgh.1",
        "abcdefgx.0-0",
        "abcdefgh.0-0-x",
        "abcdefgh.0-0-²",
        "abcdefgh.-1-0",
        "abcdefgh.0-0-" + "9" * 30,
        "abcdefgh.0-0" + "-1" * 300,
        "abcdefgh.0-0-end-1",
    ],
)
def test_what_is_no_cursor_of_the_run_is_refused(id: str) -> None:
    assert parse_position(ID, id) is None


@each_case(
    "position",
    [
        Position(1, 0, (), False),
        Position(0, 1, (), False),
        Position(0, 0, (0, 0), False),
        Position(0, 0, (3,), False),
        Position(0, 0, (1,), False),
        Position(0, 0, (), True),
    ],
)
def test_a_position_that_nobody_can_have_is_refused(position: Position) -> None:
    content = RunContent(ID, 0.0)
    content.append("text", "é".encode())
    assert not content.has(position)


def test_frames_are_made_once_and_parse_back() -> None:
    content, _ = _fill([("append", "text", "a\nb"), ("emit", None, 2)])
    batch = RunEvents(ID, content.since(START))
    assert batch.framed(Framing.CHUNKED) is batch.framed(Framing.CHUNKED)
    events = EventDecoder().feed(batch.framed(Framing.PLAIN))
    assert [event.event for event in events] == ["append", None, "end"]
    assert events[-1].id == "abcdefgh.1-0-3-end"
    assert batch.framed(Framing.WEBSOCKET).count(b'"id":"abcdefgh.') == 3


def test_a_run_without_output_whose_attempt_is_another_one_has_nothing_to_send() -> None:
    content = RunContent("id", 1.5)
    content.set_starts([AttemptStart("ab", 0, 0, ())])

    assert content.since(START) == []
    assert [event.event for event in content.whole()] == ["run"]
