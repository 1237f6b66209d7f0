"""Tasks that take turns: one after the other, in order, also if some are cancelled."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse._request.turns import Turns


async def test_tasks_take_turns_in_order_and_one_that_is_cancelled_has_none() -> None:
    turns, order = Turns(), []

    async def take(name: str, scope: trio.CancelScope) -> None:
        with scope:
            if turns.is_taken:
                await turns.wait()
            turns.is_taken = True
            try:
                order.append(name)
                await trio.lowlevel.checkpoint()
                order.append(f"{name}'")
            finally:
                turns.end()

    scopes = {name: trio.CancelScope() for name in "abcd"}
    async with trio.open_nursery() as nursery:
        turns.is_taken = True
        for name, scope in scopes.items():
            nursery.start_soon(take, name, scope)
            await wait_all_tasks_blocked()
        scopes["b"].cancel()
        await wait_all_tasks_blocked()
        turns.end()
        scopes["a"].cancel()  # it has its turn already
    assert order == ["a", "c", "c'", "d", "d'"]
    assert not turns.is_taken
