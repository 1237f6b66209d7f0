"""One run as a response of OpenAI's Responses API: its events, numbered from 0, and what it is so far.

The formats are those of OpenAI's reference, `ResponseStreamEvent` and `Response`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, final

from .._runs.items import RunEmitted, RunItem, RunOutcome, RunText
from .._runs.status import RunStatus
from ._numbers import LeftOut
from ._openai import client_tool_call, token_counts
from ._protocol import Payload, ToolCall, Translation, facts_of, json_object

#: What the ids of responses begin with.
PREFIX = "resp_"

_STATUSES = {
    RunStatus.FINISHED: "completed",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
    RunStatus.LOST: "failed",
}

# No event says that a response was cancelled: it is one that is incomplete.
_LAST_EVENTS = {"completed": "response.completed", "failed": "response.failed"}


@dataclass(slots=True)
class _OpenItem:
    """An output item whose text still grows."""

    kind: str
    index: int
    id: str
    text: StringIO = field(default_factory=StringIO)  # a list of pieces takes ten times as much

    @property
    def part_kind(self) -> str:
        return "output_text" if self.kind == "message" else "reasoning_text"

    def part(self, text: str) -> dict[str, object]:
        if self.kind == "message":
            return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return {"type": "reasoning_text", "text": text}

    def as_json(self, status: str, content: list[dict[str, object]]) -> dict[str, object]:
        own: dict[str, object] = {"role": "assistant"} if self.kind == "message" else {"summary": []}
        return {"id": self.id, "type": self.kind, "status": status, **own, "content": content}


@final
class RunAsResponse(Translation):
    """Translates one run."""

    shows_further_texts = False  # they would have to share the numbers of the main one

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._number = 0
        self._facts: dict[str, Any] = {}
        self._output: list[dict[str, object]] = []  # items that are complete
        self._open: _OpenItem | None = None
        self._status = "queued"
        self._error: dict[str, object] | None = None
        self._usage: dict[str, object] | None = None

    def translate(self, item: RunItem | LeftOut) -> Iterator[Payload]:
        match item:
            case RunText(text=text):
                yield from self._grow("message", text)
            case RunEmitted():
                yield from self._emitted(item)
            case RunOutcome():
                yield from self._end(item)
            case LeftOut(count=count):
                self._number += count

    def _emitted(self, item: RunEmitted) -> Iterator[Payload]:
        if (facts := facts_of(item)) is not None:
            self._facts, self._status = facts, "in_progress"
            yield self._event("response.created", response=self.snapshot())
            yield self._event("response.in_progress", response=self.snapshot())
        elif item.event == "reasoning":
            yield from self._grow("reasoning", item.data)
        elif (call := client_tool_call(item)) is not None:
            yield from self._close_item("completed")
            yield from self._call(call)

    def _grow(self, kind: str, text: str) -> Iterator[Payload]:
        if self._open is None or self._open.kind != kind:
            yield from self._close_item("completed")
            yield from self._open_item(kind)
        opened = self._open
        assert opened is not None
        opened.text.write(text)
        more: dict[str, object] = {"logprobs": []} if kind == "message" else {}
        yield self._event(f"response.{opened.part_kind}.delta", opened, delta=text, **more)

    def _open_item(self, kind: str) -> Iterator[Payload]:
        index = len(self._output)
        prefix = "msg" if kind == "message" else "rs"
        self._open = opened = _OpenItem(kind, index, f"{prefix}_{self._run_id}_{index}")
        item = opened.as_json("in_progress", [])
        yield self._event("response.output_item.added", output_index=index, item=item)
        yield self._event("response.content_part.added", opened, part=opened.part(""))

    def _close_item(self, status: str) -> Iterator[Payload]:
        opened, self._open = self._open, None
        if opened is None:
            return
        text = opened.text.getvalue()
        part = opened.part(text)
        item = opened.as_json(status, [part])
        self._output.append(item)
        more: dict[str, object] = {"logprobs": []} if opened.kind == "message" else {}
        yield self._event(f"response.{opened.part_kind}.done", opened, text=text, **more)
        yield self._event("response.content_part.done", opened, part=part)
        yield self._event("response.output_item.done", output_index=opened.index, item=item)

    def _call(self, call: ToolCall) -> Iterator[Payload]:
        index = len(self._output)
        place = {"output_index": index, "item_id": f"fc_{self._run_id}_{index}"}
        item = {"id": place["item_id"], "type": "function_call", "call_id": call.id, "name": call.name}
        begun = {**item, "status": "in_progress", "arguments": ""}
        done = {**item, "status": "completed", "arguments": call.arguments}
        self._output.append(done)
        yield self._event("response.output_item.added", output_index=index, item=begun)
        yield self._event("response.function_call_arguments.delta", **place, delta=call.arguments)
        yield self._event(
            "response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments
        )
        yield self._event("response.output_item.done", output_index=index, item=done)

    def _end(self, outcome: RunOutcome) -> Iterator[Payload]:
        status = _STATUSES[outcome.status]
        yield from self._close_item("completed" if status == "completed" else "incomplete")
        self._status = status
        if status == "failed":
            self._error = {"code": "server_error", "message": outcome.reason or outcome.status.value}
        if (counts := token_counts(json_object(outcome.result))) is not None:
            self._usage = {
                "input_tokens": counts[0],
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": counts[1],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": sum(counts),
            }
        yield self._event(_LAST_EVENTS.get(status, "response.incomplete"), response=self.snapshot())

    def _event(self, kind: str, place: _OpenItem | None = None, /, **fields: object) -> Payload:
        data: dict[str, object] = {"type": kind, "sequence_number": self._number}
        self._number += 1
        if place is not None:
            data |= {"item_id": place.id, "output_index": place.index, "content_index": 0}
        return Payload({**data, **fields}, event=kind)

    def snapshot(self) -> dict[str, object]:
        """Return the response as it is so far."""
        facts, opened = self._facts, self._open
        output = list(self._output)
        if opened is not None:
            output.append(opened.as_json("in_progress", [opened.part(opened.text.getvalue())]))
        return {
            "id": PREFIX + self._run_id,
            "object": "response",
            "created_at": facts.get("created", 0),
            "status": self._status,
            "background": facts.get("background", False),
            "model": facts.get("model", ""),
            "metadata": facts.get("metadata"),
            "previous_response_id": facts.get("previous_response_id"),
            "output": output,
            "error": self._error,
            "incomplete_details": None,
            "usage": self._usage,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
