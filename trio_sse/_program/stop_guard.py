"""Ends the process when a stop takes too long.

Trio waits for threads that it cannot cancel, Python waits for threads at its exit, and code that blocks the
event loop delays everything. So a thread of the guard waits beside the event loop. When the time to stop
is over, it logs what still runs and ends the process by `os._exit`.

Signal handlers tell the thread about signals through a pipe: to start a thread there, or to take a lock,
could wait for what the signal has interrupted. Python runs the handlers between two steps of the main
thread, so code that blocks without returning to Python, in an extension, is only ended by SIGKILL.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

import trio

from .._logger import get_logger
from .._process.code_place import place_in, place_of

logger = get_logger("trio_sse.program")

#: The exit status when something was abandoned that did not end; EX_SOFTWARE in sysexits.h.
ABANDONED = 70

_EXTRA_SECONDS = 2.0  # beyond the drain timeout
_AT_ONCE_SECONDS = 0.5  # after the second SIGINT, or without a supervisor
_REPORT_SECONDS = 1.0  # the log may block, too
_LOOP_SECONDS = 0.2  # for the event loop to run a callback
_MOST_NAMES = 10


@final
class StopGuard:
    """Waits for signals, and ends the process if it still runs some time after them.

    Once a stop has begun, the guard stays until the process ends.

    Args:
        drain_timeout: seconds that a stop may take, and two more.
        supervisor_alive: a descriptor that becomes readable when the supervisor has ended.
    """

    def __init__(self, drain_timeout: float, supervisor_alive: int | None = None) -> None:
        self._drain_timeout = drain_timeout
        self._supervisor_alive = supervisor_alive
        self._reading, self._writing = os.pipe()
        self._loop: tuple[trio.lowlevel.TrioToken, trio.lowlevel.Task] | None = None
        self._is_stopping = False
        self._signals = 0
        self._thread = threading.Thread(target=self._run, name="trio_sse stop guard", daemon=True)

    def __enter__(self) -> StopGuard:
        os.set_blocking(self._writing, False)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if not self._is_stopping:
            os.close(self._writing)
            self._thread.join()
            os.close(self._reading)

    @contextmanager
    def signals(self, *numbers: signal.Signals) -> Iterator[AsyncIterator[int]]:
        """Receive signals in Trio, as `trio.open_signal_receiver` does; SIGTERM and SIGINT begin the stop."""
        root = trio.lowlevel.current_root_task()
        assert root is not None
        self._loop = (trio.lowlevel.current_trio_token(), root)
        with trio.open_signal_receiver(*numbers) as received:
            handlers = {number: signal.getsignal(number) for number in numbers}

            def handle(number: int, frame: FrameType | None) -> None:
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._is_stopping = True
                    with contextlib.suppress(BlockingIOError):
                        os.write(self._writing, bytes([number]))
                handler = handlers[signal.Signals(number)]
                assert callable(handler)
                handler(number, frame)

            for number in numbers:
                signal.signal(number, handle)
            try:
                yield received
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)

    def _run(self) -> None:
        """Wait for signals and for the end of the time that they leave."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._reading, selectors.EVENT_READ)
            if self._supervisor_alive is not None:
                selector.register(self._supervisor_alive, selectors.EVENT_READ)
            deadline = float("inf")
            while (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(None if left == float("inf") else left):
                    if key.fd != self._reading:  # the supervisor has ended
                        selector.unregister(key.fd)
                        seconds = _AT_ONCE_SECONDS
                    elif numbers := os.read(self._reading, 64):
                        seconds = self._seconds_left_after(numbers)
                    else:
                        return
                    deadline = min(deadline, time.monotonic() + seconds)
        self._exit()

    def _seconds_left_after(self, numbers: bytes) -> float:
        """Return how long the process may go on after these signals."""
        seconds = float("inf")
        for number in numbers:
            if not self._signals:
                seconds = self._drain_timeout + _EXTRA_SECONDS
            elif number == signal.SIGINT:
                seconds = _AT_ONCE_SECONDS
            self._signals += 1
        return seconds

    def _exit(self) -> None:  # pragma: no cover  # ends by os._exit
        """Log what did not end, as far as that is possible, and exit."""
        with contextlib.suppress(RuntimeError):  # no further thread can be started
            reporter = threading.Thread(target=self._report, name="trio_sse stop report", daemon=True)
            reporter.start()
            reporter.join(_REPORT_SECONDS)
        os._exit(ABANDONED)

    def _report(self) -> None:  # pragma: no cover  # see above
        logger.error("stopping without what did not end: %s", "; ".join(self._find_rest()) or "the program")
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()

    def _find_rest(self) -> list[str]:  # pragma: no cover  # see above
        """Name the threads that work, and the code that blocks the event loop or the tasks that wait."""
        frames = sys._current_frames()  # documented, in spite of its name
        rest = []
        for thread in threading.enumerate():
            is_ours = thread.name.startswith(("trio_sse ", "Trio thread "))  # or one that idles
            if not is_ours and thread is not threading.main_thread():
                rest.append(f"thread {thread.name!r}{place_in(frames.get(thread.ident or 0))}")
        if self._loop is not None:
            token, root = self._loop
            has_run = threading.Event()
            try:
                token.run_sync_soon(has_run.set)
            except trio.RunFinishedError:
                return rest[:_MOST_NAMES]
            if has_run.wait(_LOOP_SECONDS):
                with contextlib.suppress(RuntimeError, ValueError):  # the tasks change meanwhile
                    rest += itertools.islice(map(_describe_task, _leaf_tasks(root)), _MOST_NAMES)
                return rest[: 2 * _MOST_NAMES]
        main = frames.get(threading.main_thread().ident or 0)
        return [f"the main thread is blocked{place_in(main)}", *rest[:_MOST_NAMES]]


def _leaf_tasks(root: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """Yield the tasks without child tasks, but neither Trio's own nor the program's."""
    waiting = [root]
    while waiting:
        task = waiting.pop()
        children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        waiting += children
        if not children and not task.name.startswith(("trio.", "trio_sse._", "<")):
            yield task


def _describe_task(task: trio.lowlevel.Task) -> str:
    return f"task {task.name}{place_of(list(task.iter_await_frames())[::-1])}"
