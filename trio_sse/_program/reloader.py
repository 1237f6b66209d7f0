"""`trio-sse serve --reload`: the program runs in a child process, which is restarted when files change.

This process never imports the app. It holds the listening sockets: clients that connect while there is no
child, or one that cannot be imported, wait for the next one. A child is asked to drain, so that its streams
end as they do at any restart, and browsers reconnect after a second. If it does not end in time, it is
killed.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import AsyncIterable, Callable, Collection, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, final

import trio

from .._logger import get_logger
from .inherited_sockets import take_socket
from .listening import ListenOptions, listening_on

logger = get_logger("trio_sse.program")

#: How long a child may take to drain, in seconds, unless its server may only take less.
DRAIN_SECONDS = 2.0

#: How long clients are asked to wait before they reconnect: the least that can be set.
RECONNECT_SECONDS = 1.0

_KILL_SECONDS = 10.0  # after it was asked to drain; it ends by itself long before
_VARIABLE = "TRIO_SSE_RELOADED"  # with the descriptors that a child inherits
_MOST_NAMES = 3

# Ctrl-C also reaches the child, which may still import the app: that would print a traceback. So it starts
# with the signal ignored, until it handles it. A shell does that: `preexec_fn` is not safe beside threads.
_WITHOUT_SIGINT = ("/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh")


class Inherited(NamedTuple):
    """What a child gets from this process.

    Attributes:
        listen: the sockets.
        parent_alive: a descriptor that becomes readable when this process has ended.
    """

    listen: ListenOptions
    parent_alive: int


def take_inherited(environment: MutableMapping[str, str]) -> Inherited | None:
    """Return what a reloaded child has inherited, or `None` in a process that is none."""
    found = environment.pop(_VARIABLE, None)
    if found is None:
        return None
    # A file that is changed twice in a second, to the same size, would be run from its first compiled form.
    sys.dont_write_bytecode = True
    alive, *numbers = map(int, found.split(","))
    os.set_inheritable(alive, False)
    sockets = {number: take_socket(number, f"the socket {number} of the parent") for number in numbers}
    return Inherited(ListenOptions(addresses={}, inherited=sockets, unix_mode=0), alive)


def own_command() -> list[str]:
    """Return the command line that has started this process."""
    return [sys.executable, *sys.orig_argv[1:]]


@final
class Reloader:
    """Runs a command as a child process, and restarts it.

    Args:
        command: its parts.
        sockets: what it inherits.
    """

    def __init__(self, command: Sequence[str], sockets: Sequence[socket.socket]) -> None:
        self._command = command
        self._sockets = sockets
        self._child: trio.Process | None = None
        self._is_stopping = False

    async def run(self, changes: Callable[[trio.Event], AsyncIterable[Collection[str]]]) -> None:
        """Restart the child on each change, until SIGTERM or SIGINT; a second SIGINT kills it.

        Args:
            changes: yields the files that have changed, until the event that it gets is set. It yields none
                once it watches, so that no change after the first start is missed.
        """
        stop = trio.Event()
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals, _pipe() as alive:
            async with trio.open_nursery() as nursery:

                async def stop_on_signal() -> None:
                    async for number in signals:
                        if not self._is_stopping:
                            self._is_stopping = True
                            stop.set()
                        elif number == signal.SIGINT and self._child is not None:
                            self._child.kill()

                nursery.start_soon(stop_on_signal)
                has_started = False
                async for changed in changes(stop):
                    if not has_started:
                        has_started = True
                        await self._start(nursery, alive)
                    if not changed:
                        continue
                    names = ", ".join(sorted(map(os.path.relpath, changed))[:_MOST_NAMES])
                    logger.info("reloading: %s changed", names)
                    await self._end_child()
                    if self._is_stopping:
                        break
                    await self._start(nursery, alive)
                self._is_stopping = True
                await self._end_child()
                nursery.cancel_scope.cancel()

    async def _start(self, nursery: trio.Nursery, alive: int) -> None:
        numbers = [alive, *(each.fileno() for each in self._sockets)]
        child = self._child = await trio.lowlevel.open_process(
            [*_WITHOUT_SIGINT, *self._command],
            env={**os.environ, _VARIABLE: ",".join(map(str, numbers))},
            pass_fds=numbers,
        )
        nursery.start_soon(self._report_end, child)

    async def _report_end(self, child: trio.Process) -> None:
        status = await child.wait()
        if self._child is child:  # nobody has asked it to end
            self._child = None
            if not self._is_stopping:
                logger.error("the program has ended with status %d: waiting for a change", status)

    async def _end_child(self) -> None:
        """Ask the child to drain, and wait until it has ended."""
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        with trio.move_on_after(_KILL_SECONDS) as scope:
            await child.wait()
        if scope.cancelled_caught:
            logger.error("the program did not end within %g s: killing it", _KILL_SECONDS)
            child.kill()
            await child.wait()


async def run_reloading(
    listen: ListenOptions, changes: Callable[[trio.Event], AsyncIterable[Collection[str]]]
) -> None:
    """Listen, and run this process's own command as a child that is restarted on changes.

    Raises:
        ProgramError: an address is not available.
    """
    with listening_on(listen) as listening:
        listening.keep_names()  # the child may fail to start, and be started again
        await Reloader(own_command(), listening.sockets).run(changes)


@contextmanager
def _pipe() -> Iterator[int]:
    """Open a pipe for the block; yield its reading end, which becomes readable when this process ends."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)
