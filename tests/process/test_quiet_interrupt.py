"""Ctrl-C ends a program that embeds a server without a traceback; everything else is shown as usual."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import pytest
import trio
import trio.lowlevel

from trio_sse._process.quiet_interrupt import exit_quietly_when_interrupted, is_interruption

from ..support.waiting import SECONDS

PROGRAM = """
import os, signal, sys, trio
from trio_sse import Server
server = Server()
async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, "127.0.0.1", 0)
        if sys.argv[1] == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            raise ValueError("on purpose")
        while True:
            await trio.sleep(0.01)
trio.run(main)
"""


@pytest.mark.integration
@pytest.mark.parametrize(("what", "status", "shown"), [("interrupt", 130, ""), ("fail", 1, "on purpose")])
def test_a_program_ends_quietly_only_when_it_is_interrupted(what: str, status: int, shown: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, what],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert finished.returncode == status
    assert shown in finished.stderr
    assert bool(shown) == bool(finished.stderr)


def own_hook(*arguments: object) -> None: ...


@pytest.mark.parametrize("hook", [own_hook, sys.__excepthook__])
def test_an_interactive_session_and_a_hook_of_the_program_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, hook: Any
) -> None:
    monkeypatch.setattr(sys, "excepthook", hook)
    if hook is sys.__excepthook__:
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    exit_quietly_when_interrupted()
    assert sys.excepthook is hook


async def _cancelled() -> trio.Cancelled:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            found = error
            raise
    return found


async def test_what_is_an_interruption() -> None:
    cancelled = await _cancelled()
    interrupted = KeyboardInterrupt()
    assert is_interruption(interrupted)
    assert is_interruption(BaseExceptionGroup("", [BaseExceptionGroup("", [interrupted]), cancelled]))
    assert not is_interruption(BaseExceptionGroup("", [interrupted, ValueError()]))
    assert not is_interruption(BaseExceptionGroup("", [cancelled]))
    assert not is_interruption(ValueError())
