"""A test that hangs says what its tasks wait for."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ..support.hangs import say_at_timeout


async def wait_for_godot(nothing: trio.Event) -> None:
    await nothing.wait()


async def test_each_task_is_named_with_the_lines_it_waits_at(capsys: pytest.CaptureFixture[str]) -> None:
    alarms: list[int] = []
    before: Any = signal.signal(signal.SIGALRM, lambda number, frame: alarms.append(number))
    try:
        say_at_timeout()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_godot, trio.Event())
            await wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGALRM)
            nursery.cancel_scope.cancel()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert alarms == [signal.SIGALRM]
    text = capsys.readouterr().err
    assert f"{__name__}.wait_for_godot\n    {__file__}:" in text
    assert " in wait_for_godot\n" in text


def test_a_test_without_trio_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    before: Any = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        say_at_timeout()
        signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert "Trio does not run" in capsys.readouterr().err
