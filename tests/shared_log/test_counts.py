"""What a hub counts of a shared log: not what was there before it, and no end of its own."""

from __future__ import annotations

from trio_sse import Hub

from ..support.logs import MakeLog
from ..support.serving import running
from ..support.waiting import until


async def test_a_hub_counts_what_is_published_while_it_runs(make_shared: MakeLog) -> None:
    log = make_shared()
    first, second = Hub(log=log), Hub(log=log)
    async with running(first):
        for number in range(3):
            await first.publish("t", f"{number}")
        async with running(second):
            await until(lambda: second.statistics().log_problem is None)
            assert second.statistics().published == 0
            await first.publish("t", "for both")
            await first.revoke("nobody")  # an entry that no client receives
            await until(lambda: second.statistics().published == 1)
        await until(lambda: first.statistics().published == 4)
    assert [hub.statistics().log_outages for hub in (first, second)] == [0, 0]
