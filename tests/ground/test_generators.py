"""Async generators that are left inside a nursery, and the task that began them."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse._generators import closing_generators, watching_generators

Log = list[str]
Numbers = AsyncGenerator[int, None]


async def in_a_nursery(log: Log, name: str) -> Numbers:
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            for number in range(9):
                yield number
    finally:
        log.append(name)


async def plain(log: Log) -> Numbers:
    try:
        for number in range(9):
            yield number
    finally:
        log.append("plain")


async def around(log: Log) -> Numbers:
    """A generator in a nursery that iterates another one."""
    try:
        async with trio.open_nursery():
            async for number in in_a_nursery(log, "inner"):
                yield number
    finally:
        log.append("outer")


async def take_one(numbers: Numbers) -> None:
    async for _ in numbers:
        break


async def run_guarded(act: Callable[[], Awaitable[None]]) -> None:
    """Run it in a task of its own, as a request is, and a moment longer."""

    async def guarded() -> None:
        await closing_generators(act())
        assert not trio.lowlevel.current_task().child_nurseries

    with watching_generators():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guarded)
        await wait_all_tasks_blocked()


async def test_the_newest_is_closed_first(caplog: pytest.LogCaptureFixture) -> None:
    log: Log = []

    async def act() -> None:
        first = in_a_nursery(log, "first")
        await take_one(first)
        await take_one(in_a_nursery(log, "second"))  # dropped at once
        await take_one(around(log))
        log.append("end")

    await run_guarded(act)
    assert log == ["end", "inner", "outer", "second", "first"]
    assert "the async generator in_a_nursery was left inside a nursery" in caplog.text


async def test_others_are_left_alone() -> None:
    log: Log = []
    kept = plain(log)

    async def act() -> None:
        await take_one(kept)
        await take_one(in_a_nursery(log, "in a nursery"))

    await run_guarded(act)
    assert log == ["in a nursery"]
    await kept.aclose()


async def test_one_that_is_dropped_outside_a_nursery_is_closed_by_trio_at_once() -> None:
    log: Log = []

    async def act() -> None:
        with pytest.warns(ResourceWarning, match="plain"):
            await take_one(plain(log))
        await wait_all_tasks_blocked()
        assert log == ["plain"]

    await run_guarded(act)


async def test_one_that_is_dropped_in_an_own_nursery_is_closed_by_trio() -> None:
    log: Log = []

    async def act() -> None:
        async with trio.open_nursery():
            with pytest.warns(ResourceWarning, match="plain"):
                await take_one(plain(log))

    await run_guarded(act)
    assert log == ["plain"]


async def test_one_that_was_begun_before_an_own_nursery_is_closed_by_trio_in_the_end() -> None:
    log: Log = []

    async def act() -> None:
        numbers = plain(log)
        await anext(numbers)
        async with trio.open_nursery():
            del numbers
        assert log == []

    with pytest.warns(ResourceWarning, match="plain"):
        await run_guarded(act)
    assert log == ["plain"]


async def test_what_one_raises_that_is_closed_is_raised() -> None:
    async def failing() -> Numbers:
        async with trio.open_nursery():
            try:
                yield 1
            finally:
                raise ValueError("why")

    async def act() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            await closing_generators(take_one(failing()))
        assert [str(error) for error in caught.value.exceptions] == ["why"]

    await run_guarded(act)


async def test_the_hooks_are_trios_again_afterwards() -> None:
    hooks = sys.get_asyncgen_hooks()
    with watching_generators():
        with watching_generators():
            assert sys.get_asyncgen_hooks() != hooks
        assert sys.get_asyncgen_hooks() != hooks
    assert sys.get_asyncgen_hooks() == hooks
