"""Ctrl-C cancels what follows streams, wherever Python happens to be."""

from __future__ import annotations

import os
import signal

import trio

from trio_sse._tools.interrupt import interruptible


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def test_it_cancels_what_waits() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as interruption:
        interrupt()
        await trio.sleep_forever()
    assert interruption.has_come
    assert signal.getsignal(signal.SIGINT) is before


async def test_it_ends_what_waits_without_trio() -> None:
    reader, writer = os.pipe()
    try:
        os.set_blocking(reader, True)
        with interruptible() as interruption:
            with interruption.raises():
                interrupt()
                os.read(reader, 1)
                raise AssertionError
            await trio.sleep_forever()
        assert interruption.has_come
    finally:
        os.close(reader)
        os.close(writer)


async def test_a_block_that_was_not_interrupted_says_so() -> None:
    with interruptible() as interruption, interruption.raises():
        pass
    assert not interruption.has_come
