"""`PendingStream`: the states of an app's response and a stream, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import EndReason
from trio_sse._asgi.response_stream import PendingState, PendingStream
from trio_sse._stream.lifecycle import Refused

from ..support.cases import each_case


class FakeStream:
    """Records what a `PendingStream` does to its stream."""

    def __init__(self) -> None:
        self.head: bytes | None = None
        self.end_reason: EndReason | None = None

    def set_head(self, head: bytes) -> None:
        self.head = head

    def end(self, reason: EndReason) -> None:
        if self.end_reason is None:
            self.end_reason = reason


def make() -> PendingStream:
    pending = PendingStream()
    stream: Any = FakeStream()
    pending.stream = stream
    return pending


def ask(pending: PendingStream) -> None:
    pending.request_start()


def start(pending: PendingStream) -> None:
    pending.start(b"head")


def end(pending: PendingStream) -> None:
    pending.end(None)


def abandon(pending: PendingStream) -> None:
    pending.abandon(EndReason.REFUSED)


Step = Callable[[PendingStream], None]

PREPARING, READY, STREAMING, ENDED, ABANDONED = PendingState

WAYS: dict[PendingState, list[Step]] = {
    PREPARING: [],
    READY: [ask],
    STREAMING: [ask, start],
    ENDED: [end],
    ABANDONED: [abandon],
}


@each_case(
    ("state", "step", "following"),
    [
        (PREPARING, ask, READY),
        (PREPARING, start, PREPARING),
        (PREPARING, end, ENDED),
        (PREPARING, abandon, ABANDONED),
        (READY, ask, READY),
        (READY, start, STREAMING),
        (READY, end, ENDED),
        (READY, abandon, ABANDONED),
        (STREAMING, ask, STREAMING),
        (STREAMING, start, STREAMING),
        (STREAMING, end, ENDED),
        (STREAMING, abandon, STREAMING),
        (ENDED, ask, ENDED),
        (ENDED, start, ENDED),
        (ENDED, end, ENDED),
        (ENDED, abandon, ENDED),
        (ABANDONED, ask, ABANDONED),
        (ABANDONED, start, ABANDONED),
        (ABANDONED, end, ABANDONED),
        (ABANDONED, abandon, ABANDONED),
    ],
)
def test_each_step_follows_the_table(state: PendingState, step: Step, following: PendingState) -> None:
    pending = make()
    for way in WAYS[state]:
        way(pending)
    assert pending.state is state
    step(pending)
    assert pending.state is following
    assert pending.has_started is (STREAMING in (state, following))


def test_a_stream_that_has_ended_does_not_get_the_head() -> None:
    pending = make()
    pending.request_start()
    pending.end(None)
    assert not pending.start(b"head")
    assert pending.stream.head is None  # type: ignore[attr-defined]  # of the fake


@pytest.mark.parametrize("step", [ask, end, abandon])
async def test_the_view_waits_until_the_handler_has_decided(step: Step) -> None:
    pending = make()
    results: list[bool] = []

    async def view() -> None:
        results.append(await pending.wait_ready())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(view)
        await wait_all_tasks_blocked()
        assert results == []
        step(pending)
    assert results == [step is ask]


async def test_the_view_raises_what_the_handler_has_raised() -> None:
    pending = make()
    pending.end(Refused(ValueError("from the handler")))
    with pytest.raises(ValueError, match="from the handler"):
        await pending.wait_ready()


async def test_a_view_that_is_cancelled_ends_the_stream() -> None:
    pending = make()
    with trio.CancelScope() as scope:
        scope.cancel()
        await pending.wait_ready()
    assert pending.state is ABANDONED
    assert pending.stream.end_reason is EndReason.CLIENT_DISCONNECTED


@pytest.mark.parametrize("step", [start, end, abandon])
async def test_the_handler_waits_until_the_response_begins_or_never_will(step: Step) -> None:
    pending = make()
    failures: list[Exception] = []

    async def handler() -> None:
        try:
            await pending.start_response()
        except trio.ClosedResourceError as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handler)
        await wait_all_tasks_blocked()
        assert pending.state is READY
        step(pending)
    assert bool(failures) is (step is not start)
