"""`RunView.events`: a run's output as values, however it is read."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import (
    Hub,
    Run,
    RunEmitted,
    RunItem,
    RunLimitReached,
    RunOutcome,
    Runs,
    RunState,
    RunStatus,
    RunText,
    RunView,
)

from ..support.serving import running


async def write(run: Run) -> object:
    for number in range(3):
        await run.append(f"{number} ")
        await run.append("x", name="plan")
        await trio.sleep(1)
        await run.emit({"n": number}, event="tool")
        await run.set_state(number)
    return {"all": 3}


async def read(view: RunView, *, in_order: bool = True, after: str | None = None) -> list[RunItem]:
    async with view.events(in_order=in_order, after=after) as items:
        return [item async for item in items]


def text_of(items: list[RunItem], name: str = "text") -> str:
    return "".join(item.text for item in items if isinstance(item, RunText) and item.name == name)


async def test_readers_receive_everything_live_and_afterwards(autojump_clock: MockClock) -> None:
    hub = Hub()
    runs = Runs(hub, cancel_when_unwatched=5)
    async with running(hub):
        view = await runs.start(write)
        live = await read(view)
        late, texts_first = await read(view), await read(view, in_order=False)
        for items in (live, late, texts_first):
            assert text_of(items) == "0 1 2 "
            assert text_of(items, "plan") == "xxx"
            assert [item.json() for item in items if isinstance(item, RunEmitted)] == [
                {"n": 0},
                {"n": 1},
                {"n": 2},
            ]
            assert [item.json() for item in items if isinstance(item, RunState)][-1] == 2
            last = items[-1]
            assert isinstance(last, RunOutcome)
            assert (last.status, last.reason, last.result) == (RunStatus.FINISHED, None, '{"all":3}')
        assert [type(item) for item in texts_first[:3]] == [RunText, RunText, RunEmitted]
        for number, item in enumerate(live):
            rest, expected = await read(view, after=item.cursor), live[number + 1 :]
            assert text_of(rest) == text_of(expected)
            assert [i.data for i in rest if isinstance(i, RunEmitted)] == [
                i.data for i in expected if isinstance(i, RunEmitted)
            ]
        for cursor in ("nonsense", live[0].cursor.replace(".0", ".99")):
            with pytest.raises(ValueError, match="not one of this run"):
                await read(view, after=cursor)


async def test_a_reader_is_a_viewer_until_its_block_ends(autojump_clock: MockClock) -> None:
    hub = Hub()
    runs = Runs(hub, max_viewers=1, cancel_when_unwatched=5)

    async def endless(run: Run) -> None:
        await run.append("begun")
        await trio.sleep_forever()

    async with running(hub), trio.open_nursery() as nursery:
        view = await runs.start(endless)

        async def follow() -> None:
            async with view.events() as items:
                async for item in items:
                    assert isinstance(item, RunText)

        nursery.start_soon(follow)
        await trio.sleep(60)
        assert (await view.info()).viewers == 1
        with pytest.raises(RunLimitReached):
            await read(view)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            assert (await view.info()).viewers == 0
            assert (await view.wait()).reason == "nobody watched it"
