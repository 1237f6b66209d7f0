"""Ctrl-C cancels a command that follows streams, wherever Python is."""

from __future__ import annotations

import os
import signal

import trio

from trio_sse._tools.interrupt import cancel_on_sigint


def send_sigint() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def test_sigint_cancels_the_block() -> None:
    before = signal.getsignal(signal.SIGINT)
    with cancel_on_sigint() as interrupt:
        send_sigint()
        await trio.sleep_forever()
    assert interrupt.was_received
    assert signal.getsignal(signal.SIGINT) is before


async def test_sigint_ends_a_blocking_call() -> None:
    reader, writer = os.pipe()
    try:
        os.set_blocking(reader, True)
        with cancel_on_sigint() as interrupt:
            with interrupt.blocking():
                send_sigint()
                os.read(reader, 1)
                raise AssertionError
            await trio.sleep_forever()
        assert interrupt.was_received
    finally:
        os.close(reader)
        os.close(writer)


async def test_a_block_without_sigint_is_not_interrupted() -> None:
    with cancel_on_sigint() as interrupt, interrupt.blocking():
        pass
    assert not interrupt.was_received
