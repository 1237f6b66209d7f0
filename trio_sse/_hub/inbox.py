"""The bounded inbox of a hub: what was published and has no place in the hub's order yet.

`put_nowait` does the work, and `put` waits for room around it. The sequencer takes batches, which makes room.

The invariant: only the thread that runs the hub touches it. Trio's objects do not notice another thread until
they are half changed, so each way in checks the thread first. It compares the thread's number, which costs
25 ns; a Trio token would cost three times as much.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from threading import get_ident
from typing import Any, TypeVarTuple, final

import trio

from .._wire.message import Message

Ts = TypeVarTuple("Ts")

# A batch is delivered in one write. 64 KiB fit into an empty send buffer, and more would gain nothing.
_BATCH_EVENTS = 256
_BATCH_BYTES = 64 * 1024


@final
class Inbox:
    """A bounded queue of messages that is open while its hub runs.

    Args:
        max_events, max_bytes: both bounds hold; a message larger than `max_bytes` needs an empty inbox.

    Attributes:
        has_opened: it was open once.
        used_bytes: of the messages in it.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.has_opened = False
        self.used_bytes = 0
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._thread = 0  # the number of the one that opened it
        self._send_channel: trio.MemorySendChannel[Message] | None = None  # there is one while it is open
        self._receive_channel: trio.MemoryReceiveChannel[Message]
        self._room = trio.lowlevel.ParkingLot()  # publishers that wait for room
        self._closed = trio.lowlevel.ParkingLot()  # tasks that wait until it is closed

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
        return self._room.statistics().tasks_waiting

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
        self._room.unpark_all()  # they find that the hub has ended
        self._closed.unpark_all()

    def check_open(self) -> None:
        """Raise the error that says why nothing can be published or subscribed to here, unless it is open."""
        if self._send_channel is not None:
            if self._thread != get_ident():
                raise _wrong_thread()
            return
        if self.has_opened:
            raise trio.ClosedResourceError("this hub has ended: nothing can be published or subscribed to")
        raise RuntimeError(
            "this hub is not running: serve it by a Server, or run it by `await nursery.start(hub.run)`"
        )

    def check_thread(self) -> None:
        """Raise `RuntimeError` if the hub runs in another thread."""
        if self._send_channel is not None and self._thread != get_ident():
            raise _wrong_thread()

    async def wait_closed(self) -> None:
        """Wait until it is not open; there may be no checkpoint if it is not."""
        while self._send_channel is not None:
            await self._closed.park()

    # The publishers' side

    def put_nowait(self, message: Message) -> None:
        """Add a message.

        Raises:
            trio.WouldBlock: it is full.
            RuntimeError, trio.ClosedResourceError: see `check_open`. Nothing was touched.
        """
        self.check_open()
        assert self._send_channel is not None
        size = len(message.wire)
        if self.used_bytes and self.used_bytes + size > self._max_bytes:
            raise trio.WouldBlock
        self._send_channel.send_nowait(message)
        self.used_bytes += size

    def put(self, message: Message) -> Coroutine[Any, Any, None]:
        """Add a message, waiting for room; if this is cancelled, it was not added."""
        # Not `async def`: each extra coroutine between a checkpoint and its caller costs some percent.
        return self.retry(self.put_nowait, message)

    async def retry(self, put: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """Call `put` until it does not raise `trio.WouldBlock`, waiting for room in between."""
        self.check_thread()  # first: without Trio in this thread, a checkpoint raises its own error
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                put(*arguments)
            except trio.WouldBlock:
                await self._room.park()
            else:
                break
        await trio.lowlevel.cancel_shielded_checkpoint()

    # The sequencer's side

    async def take(self) -> list[Message]:
        """Remove and return the next batch, waiting for its first message."""
        return self._take_batch(await self._receive_channel.receive())

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
        self._room.unpark_all()
        return batch

    def _receive(self) -> Message | None:
        try:
            return self._receive_channel.receive_nowait()
        except trio.WouldBlock:
            return None


def _wrong_thread() -> RuntimeError:
    return RuntimeError(
        "this hub belongs to the Trio run of another thread: call trio.from_thread.run_sync("
        "hub.publish_nowait, ...) or trio.from_thread.run(hub.publish, ...), with trio_token=... if Trio has "
        "not started this thread"
    )
