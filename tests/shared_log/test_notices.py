"""Notices beside a shared log, for the consoles of its nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio

from trio_sse import NoticeSession

from ..support.logs import MakeLog, skip_without
from ..support.waiting import SECONDS


@asynccontextmanager
async def session_of(make_shared: MakeLog) -> AsyncIterator[NoticeSession]:
    """Return a session of the log, with notices."""
    await skip_without(make_shared(), NoticeSession)
    with trio.fail_after(SECONDS):
        async with make_shared().connect() as session:
            assert isinstance(session, NoticeSession)
            yield session


async def test_a_notice_is_seen_by_all_until_it_expires(make_shared: MakeLog) -> None:
    async with session_of(make_shared) as one, session_of(make_shared) as other:
        assert await one.exchange_notices("a", b"", 60) == {}
        assert await one.exchange_notices("a", b"first\xff", 60) == {"a": b"first\xff"}
        assert await other.exchange_notices("b", b"second", 0.05) == {"a": b"first\xff", "b": b"second"}
        found: Mapping[str, bytes] = {"b": b""}
        while "b" in found:
            found = await one.exchange_notices("a", b"newer", 60)
            await trio.sleep(0.02)
        assert found == {"a": b"newer"}
        assert await other.exchange_notices("b", b"", 60) == {"a": b"newer"}


async def test_notices_are_bounded(make_shared: MakeLog) -> None:
    async with session_of(make_shared) as session:
        for number in range(260):
            await session.exchange_notices(f"{number}", b"x", 60)
        assert len(await session.exchange_notices("0", b"y", 60)) == 256
