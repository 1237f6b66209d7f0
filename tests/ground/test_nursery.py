"""A nursery whose block runs user code, whatever that raises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse._groups import leaf_exceptions
from trio_sse._nursery import UserCodeNursery

from ..support.raised import Panic, Unprintable, deep_group

Act = Callable[[trio.Nursery], Awaitable[None]]


async def run(act: Act, *children: Callable[[], Awaitable[None]]) -> None:
    async with UserCodeNursery() as nursery:
        for child in children:
            nursery.start_soon(child)
        await act(nursery)


async def wait(nursery: trio.Nursery) -> None:
    await trio.sleep_forever()


async def fail() -> None:
    raise ValueError("the child")


@pytest.mark.parametrize("make_error", [ValueError, Panic, Unprintable, deep_group, KeyboardInterrupt])
async def test_what_the_block_raises_ends_the_children_and_is_raised(
    make_error: Callable[[], BaseException],
) -> None:
    error, has_ended = make_error(), False

    async def child() -> None:
        nonlocal has_ended
        try:
            await trio.sleep_forever()
        finally:
            has_ended = True

    async def act(nursery: trio.Nursery) -> None:
        await wait_all_tasks_blocked()
        raise error

    with pytest.raises(type(error)) as caught:
        await run(act, child)
    assert has_ended
    assert caught.value is error or make_error is deep_group  # which was made flat


async def test_a_child_that_fails_ends_the_block() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await run(wait, fail)
    assert [str(error) for error in caught.value.exceptions] == ["the child"]


async def test_both_fail() -> None:
    async def act(nursery: trio.Nursery) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Unprintable

    with pytest.raises(ExceptionGroup) as caught:
        await run(act, fail)
    assert [type(error) for error in leaf_exceptions(caught.value)] == [Unprintable, ValueError]


async def test_cancellation_from_outside_ends_at_its_own_scope() -> None:
    async def act(nursery: trio.Nursery) -> None:
        scope.cancel()
        await trio.sleep_forever()

    with trio.CancelScope() as scope:
        await run(act, trio.sleep_forever)
    assert scope.cancelled_caught


async def test_an_error_beside_a_cancellation_from_outside_passes_alone() -> None:
    async def act(nursery: trio.Nursery) -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)
            scope.cancel()
            try:
                await trio.sleep_forever()
            finally:
                raise Panic

    scope = trio.CancelScope()
    with pytest.raises(BaseExceptionGroup) as caught, scope:
        await run(act, trio.sleep_forever)
    assert [type(error) for error in leaf_exceptions(caught.value)] == [Panic]


async def test_what_the_block_raises_is_in_no_group_if_the_task_is_cancelled_meanwhile() -> None:
    async def act(nursery: trio.Nursery) -> None:
        await wait_all_tasks_blocked()
        scope.cancel()
        raise OSError("the block")

    with pytest.raises(OSError, match="the block"), trio.CancelScope() as scope:
        await run(act, trio.sleep_forever)


async def test_its_own_cancellation_ends_it_quietly() -> None:
    async def act(nursery: trio.Nursery) -> None:
        nursery.cancel_scope.cancel()
        await trio.sleep_forever()

    await run(act, trio.sleep_forever)
