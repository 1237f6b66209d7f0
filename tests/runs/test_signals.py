"""What nodes say to one another of runs: seldom, as the log forgets an event for each signal."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import trio
from trio.testing import MockClock

from trio_sse._hub.signals import Signals
from trio_sse._runs.signals import RunSignals
from trio_sse._wire.message import Message


async def test_what_is_read_soon_anyway_is_seldom_said(autojump_clock: MockClock) -> None:
    sent: list[tuple[float, Any]] = []

    async def publish(message: Message) -> None:
        sent.append((trio.current_time(), json.loads(str(message.unplaced_event.data))))

    signals = RunSignals(Signals(publish))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(signals.run)
        began_at = trio.current_time()
        for number in range(1000):
            signals.changed(["a", str(number % 3)])
            await trio.sleep(0.01)
        assert 30 <= len(sent) <= 42
        assert sent[0][0] == began_at  # the first one is not late
        assert {id for _, said in sent[1:] for id in said["changed"]} == {"a", "0", "1", "2"}
        for act in (partial(signals.cancelled, "b", "why"), signals.released):
            act()
            at = trio.current_time()
            await trio.sleep(0.02)
            assert sent[-1][0] - at <= 0.01
        assert (sent[-2][1]["cancelled"], sent[-1][1]["released"]) == ({"b": "why"}, True)
        nursery.cancel_scope.cancel()
