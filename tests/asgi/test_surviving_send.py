"""`SurvivingSend`: what becomes of a server's `send` when the app's call is cancelled or ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse._asgi.surviving_send import SurvivingSend

FIRST, SECOND = {"type": "first"}, {"type": "second"}


@dataclass
class Subject:
    send: SurvivingSend
    sent: list[Any]
    proceed: trio.Event = field(default_factory=trio.Event)
    fails: BaseException | None = None


@asynccontextmanager
async def subject() -> AsyncIterator[Subject]:
    async def send(message: Any) -> None:
        await made.proceed.wait()
        if made.fails is not None:
            raise made.fails
        made.sent.append(message)

    async with trio.open_nursery() as nursery:
        made = Subject(SurvivingSend(send, nursery), [])
        yield made


async def cancelled_send(made: Subject, message: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.send, message)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_a_send_goes_on_when_its_caller_is_cancelled() -> None:
    async with subject() as made:
        await cancelled_send(made, FIRST)
        made.proceed.set()
    assert made.sent == [FIRST]


async def test_what_is_sent_next_waits_for_it(autojump_clock: MockClock) -> None:
    async with subject() as made, trio.open_nursery() as nursery:
        await cancelled_send(made, FIRST)
        nursery.start_soon(made.send, SECOND)
        await wait_all_tasks_blocked()
        made.proceed.set()
    assert made.sent == [FIRST, SECOND]
    assert trio.current_time() < 1


async def test_what_is_sent_next_does_not_wait_for_long(autojump_clock: MockClock) -> None:
    async with subject() as made:
        await cancelled_send(made, FIRST)
        with trio.move_on_after(1.5):
            await made.send(SECOND)
        made.send.close()
    assert trio.current_time() == pytest.approx(31.5, abs=0.1)


async def test_a_send_that_never_returns_ends_some_time_after_the_call(autojump_clock: MockClock) -> None:
    async with subject() as made:
        await cancelled_send(made, FIRST)
        made.send.close()
    assert made.sent == []
    assert trio.current_time() == pytest.approx(30, abs=0.1)


async def test_what_tasks_send_at_once_is_sent_in_their_order() -> None:
    called: list[Any] = []

    async def send_one(number: int) -> None:
        called.append({"type": "part", "number": number})
        await made.send(called[-1])

    async with subject() as made, trio.open_nursery() as nursery:
        made.proceed.set()
        for number in range(20):
            nursery.start_soon(send_one, number)
    assert len(called) == 20
    assert made.sent == called


async def test_a_thread_without_trio_changes_nothing() -> None:
    async with subject() as made:
        made.proceed.set()
        with pytest.raises(RuntimeError, match="async context"):
            await trio.to_thread.run_sync(made.send(FIRST).send, None)
        await made.send.settle()
        await made.send(FIRST)
    assert made.sent == [FIRST]


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ({"type": "http.response.start"}, 5),
        ({"type": "http.response.body", "more_body": True}, 0),
        ({"type": "http.response.body"}, 1),
    ],
)
async def test_a_call_returns_after_its_head_and_soon_after_its_end(
    autojump_clock: MockClock, message: Any, seconds: float
) -> None:
    async with subject() as made:
        await cancelled_send(made, message)
        made.send.close()
        with trio.move_on_after(5) as scope:
            await made.send.settle()
        assert trio.current_time() == pytest.approx(seconds, abs=0.1)
        assert scope.cancelled_caught == (seconds == 5)
        made.proceed.set()
        await made.send.settle()
    assert made.sent == [message]


@pytest.mark.parametrize("is_abandoned", [False, True])
async def test_what_a_send_raises_is_its_caller_s_only(is_abandoned: bool) -> None:
    async with subject() as made:
        made.fails = OSError("gone")
        if is_abandoned:
            await cancelled_send(made, FIRST)
            made.proceed.set()
        else:
            made.proceed.set()
            with pytest.raises(OSError, match="gone"):
                await made.send(FIRST)
