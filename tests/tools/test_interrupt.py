"""Ctrl-C cancels what follows streams, wherever Python happens to be."""

from __future__ import annotations

import os
import signal

import trio

from trio_sse._tools.interrupt import cancel_on_sigint


def send_sigint() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def test_it_cancels_what_waits() -> None:
    before = signal.getsignal(signal.SIGINT)
    with cancel_on_sigint() as interrupt:
        send_sigint()
        await trio.sleep_forever()
    assert interrupt.was_received
    assert signal.getsignal(signal.SIGINT) is before


async def test_it_ends_what_waits_without_trio() -> None:
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


async def test_a_block_that_was_not_interrupted_says_so() -> None:
    with cancel_on_sigint() as interrupt, interrupt.blocking():
        pass
    assert not interrupt.was_received
