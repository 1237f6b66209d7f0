"""Models whose clients need asyncio, called from Trio as docs/models.md says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator

import pytest
import trio

from examples.asyncio_model import from_asyncio

from ..support.waiting import SECONDS


class Model:
    """A client on asyncio: it yields numbers, stalls or fails, and notes how it ends."""

    def __init__(self, items: int = 3, *, stalls: bool = False, fails: bool = False) -> None:
        self.items, self.stalls, self.fails = items, stalls, fails
        self.ended = threading.Event()

    async def __call__(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(self.items):
                await asyncio.sleep(0)
                yield number
            if self.fails:
                raise ValueError("the model is overloaded")
            if self.stalls:
                await asyncio.Event().wait()
        finally:
            self.ended.set()


@pytest.mark.parametrize("items", [0, 3, 100])
async def test_all_items_arrive_and_its_thread_ends(items: int) -> None:
    model = Model(items)
    with trio.fail_after(SECONDS):
        async with from_asyncio(model) as received:
            assert [item async for item in received] == list(range(items))
    assert model.ended.is_set()


async def test_what_it_raises_is_raised_in_trio() -> None:
    with trio.fail_after(SECONDS), pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        async with from_asyncio(Model(fails=True)) as received:
            assert [item async for item in received] == [0, 1, 2]


async def test_a_model_that_cancels_itself_has_failed() -> None:
    async def model() -> AsyncGenerator[int, None]:
        yield 0
        raise asyncio.CancelledError

    with trio.fail_after(SECONDS), pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        async with from_asyncio(model) as received:
            assert [item async for item in received] == [0]


async def test_a_block_that_is_left_before_its_thread_starts_leaves_no_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loops: list[object] = []
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: loops.append(None))
    with trio.CancelScope() as scope:
        scope.cancel()
        async with from_asyncio(Model()):
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert not loops


@pytest.mark.parametrize(("items", "stalls"), [(1, True), (1000, False)])
async def test_it_is_cancelled_while_it_stalls_or_waits_for_trio(items: int, stalls: bool) -> None:
    model = Model(items, stalls=stalls)
    with trio.fail_after(SECONDS):
        async with from_asyncio(model) as received:
            assert await received.receive() == 0
    assert model.ended.is_set()
    with trio.fail_after(SECONDS):
        model = Model(items, stalls=stalls)
        with trio.CancelScope() as scope:
            async with from_asyncio(model) as received:
                await received.receive()
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
    assert model.ended.is_set()
