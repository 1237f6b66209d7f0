"""The bounded inbox of a hub: what was published and has no place in the hub's order yet.

`put_nowait` does the work, and `put` waits for room around it. The sequencer takes batches, which makes room.

Publishers are served in the order in which they came. `take` puts what the first of them have, as far as
there is room, and wakes these and no others: n publishers cost n steps, whatever the bounds. While some wait,
nobody else can put anything.

The invariant: only the thread that runs the hub touches it. Trio's objects do not notice another thread until
they are half changed, so each way in checks the thread first. It compares the thread's number, which costs
25 ns; a Trio token would cost three times as much.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any, TypeVarTuple, final

import trio

from .._wire.message import Message
from .latency import PublishLatency

Ts = TypeVarTuple("Ts")

# A batch is delivered in one write. 64 KiB fit into an empty send buffer, and more would gain nothing.
_BATCH_EVENTS = 256
_BATCH_BYTES = 64 * 1024

# Making a waiting publisher's message may take long: a state computes its patch then. After this many
# seconds, what was taken is delivered first.
_LONGEST_ADMISSION = 0.002


@final
class _Waiter:
    """A publisher that waits for room, and what it does when it is its turn."""

    __slots__ = ("error", "put", "task")

    def __init__(self, put: Callable[[], None]) -> None:
        self.put = put
        self.task = trio.lowlevel.current_task()
        self.error: BaseException | None = None

    def wake(self, error: BaseException | None) -> None:
        self.error = error
        trio.lowlevel.reschedule(self.task)


@final
class Inbox:
    """A bounded queue of messages that is open while its hub runs.

    Args:
        max_events, max_bytes: both bounds hold; a message larger than `max_bytes` needs an empty inbox.

    Attributes:
        has_opened: it was open once.
        used_bytes: of the messages in it.
        latency: follows one of them.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.has_opened = False
        self.used_bytes = 0
        self.latency = PublishLatency()
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._thread = 0  # the number of the one that opened it
        self._send_channel: trio.MemorySendChannel[Message] | None = None  # there is one while it is open
        self._receive_channel: trio.MemoryReceiveChannel[Message]
        self._waiting: dict[_Waiter, None] = {}  # publishers that wait for room, in their order
        self._needed = 1  # bytes of room that the first of them needs, as far as it is known
        self._is_admitting = False

    @property
    def is_open(self) -> bool:
        """Whether messages can be put."""
        return self._send_channel is not None

    @property
    def used_events(self) -> int:
        """How many messages it holds."""
        return self._send_channel.statistics().current_buffer_used if self._send_channel is not None else 0

    @property
    def waiting_publishers(self) -> int:
        """How many tasks wait for room."""
        return len(self._waiting)

    def open(self) -> None:
        """Accept messages."""
        if self._send_channel is not None:
            raise RuntimeError("this hub is already running; only one task can run it")
        self._thread = get_ident()
        self._send_channel, self._receive_channel = trio.open_memory_channel[Message](self._max_events)
        self.has_opened = True

    def close(self) -> None:
        """Refuse messages from now on, and wake all tasks that wait."""
        self._send_channel = None
        self._receive_channel.close()
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            waiter.wake(_ended())

    def check_open(self) -> None:
        """Raise the error that says why nothing can be published or subscribed to here, unless it is open."""
        if self._send_channel is not None:
            if self._thread != get_ident():
                raise _wrong_thread()
            return
        if self.has_opened:
            raise _ended()
        raise RuntimeError(
            "this hub is not running: serve it by a Server, or run it by `await nursery.start(hub.run)`"
        )

    def check_thread(self) -> None:
        """Raise `RuntimeError` if the hub runs in another thread."""
        if self._send_channel is not None and self._thread != get_ident():
            raise _wrong_thread()

    # The publishers' side

    def check_room(self) -> None:
        """Raise `trio.WouldBlock` if there is room for no message; otherwise it depends on its size."""
        self.check_open()
        assert self._send_channel is not None
        is_full = self.used_bytes >= self._max_bytes or self.used_events >= self._max_events
        if is_full or (self._waiting and not self._is_admitting):
            raise trio.WouldBlock

    @contextmanager
    def no_turn(self) -> Iterator[None]:
        """Run code of the application, which is not one of those that wait for room, while one has its turn.

        What it published would take the room of what has its turn.
        """
        is_admitting, self._is_admitting = self._is_admitting, False
        try:
            yield
        finally:
            self._is_admitting = is_admitting

    def put_nowait(self, message: Message) -> None:
        """Add a message.

        Raises:
            trio.WouldBlock: it is full, or others wait for room.
            RuntimeError, trio.ClosedResourceError: see `check_open`. Nothing was touched.
        """
        self.check_open()
        assert self._send_channel is not None
        if self._waiting and not self._is_admitting:
            raise trio.WouldBlock
        size = len(message.wire)
        if self.used_bytes and self.used_bytes + size > self._max_bytes:
            if self._is_admitting:
                self._needed = size
            raise trio.WouldBlock
        self._send_channel.send_nowait(message)
        self.used_bytes += size
        if self.latency.is_free:
            self.latency.follow(message)

    def put(self, message: Message) -> Coroutine[Any, Any, None]:
        """Add a message, waiting for room; if this is cancelled, it was not added."""
        # Not `async def`: each extra coroutine between a checkpoint and its caller costs some percent.
        return self.retry(self.put_nowait, message)

    async def retry(self, put: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """Call `put`; if it raises `trio.WouldBlock`, wait for a turn.

        `put` is then called in the task that runs the hub, once more unless its message is too large for the
        room there is, and what it raises is raised here. If this is cancelled, it has changed nothing.
        """
        self.check_thread()  # first: without Trio in this thread, a checkpoint raises its own error
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            put(*arguments)
        except trio.WouldBlock:
            pass
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        waiter = _Waiter(partial(put, *arguments))
        self._waiting[waiter] = None

        def abort(raise_cancel: object) -> trio.lowlevel.Abort:
            del self._waiting[waiter]
            self._needed = 1  # it may have been the first, and the next may need less
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if waiter.error is not None:
            raise waiter.error

    # The sequencer's side

    async def take(self) -> list[Message]:
        """Remove and return the next batch, waiting for its first message."""
        batch = self._take_batch(await self._receive_channel.receive())
        if self._waiting:
            self._admit()
        return batch

    def take_nowait(self) -> list[Message]:
        """Remove and return the next batch; it is empty if the inbox is."""
        first = self._receive()
        return [] if first is None else self._take_batch(first)

    def clear(self) -> None:
        """Remove all messages."""
        while self.take_nowait():
            pass

    def _take_batch(self, first: Message) -> list[Message]:
        batch = [first]
        size = len(first.wire)
        while size < _BATCH_BYTES and len(batch) < _BATCH_EVENTS and (message := self._receive()):
            batch.append(message)
            size += len(message.wire)
        self.used_bytes -= size
        return batch

    def _admit(self) -> None:
        """Put what the first waiting publishers have, as far as there is room, and wake them."""
        self._is_admitting = True
        until = trio.current_time() + _LONGEST_ADMISSION
        while self._waiting and (not self.used_bytes or self.used_bytes + self._needed <= self._max_bytes):
            waiter = next(iter(self._waiting))
            self._needed = 1
            error: BaseException | None = None
            try:
                waiter.put()
            except trio.WouldBlock:
                break
            except BaseException as failure:  # it is raised in the publisher's task
                error = failure
            del self._waiting[waiter]
            waiter.wake(error)
            if self.used_bytes and trio.current_time() > until:
                break
        self._is_admitting = False

    def _receive(self) -> Message | None:
        try:
            return self._receive_channel.receive_nowait()
        except trio.WouldBlock:
            return None


def _ended() -> trio.ClosedResourceError:
    return trio.ClosedResourceError("this hub has ended: nothing can be published or subscribed to")


def _wrong_thread() -> RuntimeError:
    return RuntimeError(
        "this hub belongs to the Trio run of another thread: call trio.from_thread.run_sync("
        "hub.publish_nowait, ...) or trio.from_thread.run(hub.publish, ...), with trio_token=... if Trio has "
        "not started this thread"
    )
