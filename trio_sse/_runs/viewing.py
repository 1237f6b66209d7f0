"""How a stream shows a run: from the client's position on, then live, then the end.

There is no queue for a viewer. It has a position, and what it lacks follows from that (see `content`). While
it has everything, its task sleeps, and what is added is written to its connection by the task that added it,
in a frame that all viewers at the same position share. If the connection does not take all of it at once, the
viewer's own task continues, and catches up in few large pieces. What a viewer lacks that comes late or is
slow is also made once for all that come soon after it at the same position: after a restart, a thousand may
join a run of a megabyte at once.

The write side has one owner: the viewer's task, or `Viewers.deliver` while that task sleeps in `_wait`. It
changes only between checkpoints. What else writes to the stream, such as a keepalive, follows the
rule of the transport: nothing is sent while something is pending.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import final
from weakref import WeakValueDictionary

import trio

from .._containment import contain
from .._http.exceptions import HTTPException
from .._http.response import Response
from .._stream.live_stream import LiveStream
from .._wire.cursor import CursorForm, frame_keepalive
from .._wire.message import Framing
from .content import RunContent
from .position import Position, parse_position
from .protocol import RunEvents

# After so many writes, other tasks run.
_WRITES_PER_CHECKPOINT = 100

# For so long after a viewer has caught up, others receive the same bytes.
_SHARED_SECONDS = 1.0

# More than this is written apart from the response's head, so that its bytes are shared.
_LARGE = 16 * 1024


@final
class Viewer:
    """One stream that shows a run; `run` is called once."""

    __slots__ = ("_caught_up_by", "_content", "_is_in_order", "_position", "_stream", "_task", "_viewers")

    def __init__(
        self, viewers: Viewers, content: RunContent, stream: LiveStream, *, is_in_order: bool
    ) -> None:
        self._viewers = viewers
        self._content = content
        self._stream = stream
        self._caught_up_by: RunEvents | None = None  # it is kept for others for a moment
        self._is_in_order = is_in_order
        self._position: Position | None = None  # until something was written
        self._task: trio.lowlevel.Task | None = None  # while it sleeps with everything written

    async def run(self) -> None:
        """Write the run to the stream; return when its end was written, or the stream has ended.

        Raises:
            HTTPException: 204, since the client has received the end before.
        """
        stream = self._stream
        stream.cursor_form = CursorForm.NONE  # the client's cursor is its position in the run
        self._position = self._resumed()
        has_end = self._position is not None and self._position.has_ended
        if has_end and not stream.has_started and stream.transport.framing is not Framing.WEBSOCKET:
            raise HTTPException(Response(status=204))  # its client has everything
        while stream.end_reason is None:
            stream.serving.coalescer.flush(stream)
            if stream.transport.pending is not None:
                await stream.flush_then_write()
            elif stream.response_start is not None:
                await stream.start_response()
            else:
                await trio.lowlevel.checkpoint_if_cancelled()
                if self._write():
                    if stream.transport.pending is None:
                        await trio.lowlevel.cancel_shielded_checkpoint()
                elif self._content.end is not None:
                    return
                elif self._caught_up_by is None:
                    await self._wait()
                else:
                    with trio.move_on_after(_SHARED_SECONDS):
                        await self._wait()
                    self._caught_up_by = None

    def _resumed(self) -> Position | None:
        id = self._stream.request.last_event_id
        position = None if id is None else parse_position(self._content.id, id)
        if position is not None and self._content.has(position):
            return position
        return None

    def _write(self) -> bool:
        """Write what the client lacks, without a checkpoint; return whether there was something."""
        content, stream = self._content, self._stream
        framing, now = stream.transport.framing, trio.current_time()
        batch = self._viewers.missing_after(self._position, is_in_order=self._is_in_order)
        self._caught_up_by = batch or self._caught_up_by
        payload = b"" if batch is None else batch.framed(framing)
        if not stream.has_started and (batch is None or len(payload) > _LARGE):
            stream.transport.send_nowait(stream.with_head(frame_keepalive(framing)), 0, now)
        elif batch is not None:
            self._position = content.head
            payload = payload if stream.has_started else stream.with_head(payload)
            stream.transport.send_nowait(payload, batch.count, now)
        else:
            return False
        return True

    async def _wait(self) -> None:
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def deliver(self, before: Position, batch: RunEvents, now: float) -> None:
        """Write what follows after a position, if the viewer sleeps at it; otherwise its task does.

        Never raises for what is wrong with the connection.
        """
        if self._task is None:
            return  # its task is awake, and looks itself
        stream = self._stream
        transport = stream.transport
        if self._position == before and transport.pending is None:
            stream.serving.coalescer.flush(stream)
            if transport.pending is None:
                self._position = batch.position
                if transport.send_nowait(batch.framed(transport.framing), batch.count, now):
                    if batch.position.has_ended:
                        self.wake()
                    return
        self.wake()

    def begin_anew(self) -> None:
        """Let its client receive everything again, since what it has is void."""
        self._position = None
        self.wake()

    def wake(self) -> None:
        """Let its task look what there is to write."""
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None


@final
class Viewers:
    """The streams of this node that show one run.

    Args:
        content: the run's content.
        on_change: called when a viewer has come or gone.

    Attributes:
        beginnings: how often they had to begin anew.
    """

    def __init__(self, content: RunContent, on_change: Callable[[], None]) -> None:
        self._content = content
        self._on_change = on_change
        self._viewers: dict[Viewer, None] = {}
        self._missing = WeakValueDictionary[tuple[object, ...], RunEvents]()
        self._readers = 0
        self.beginnings = 0
        self._delivered = content.head
        self._delivery = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._viewers) + self._readers

    async def show(self, stream: LiveStream, *, is_in_order: bool) -> None:
        """Show the run on a stream until its end was written, or the stream has ended."""
        viewer = Viewer(self, self._content, stream, is_in_order=is_in_order)
        self._viewers[viewer] = None
        self._on_change()
        try:
            await viewer.run()
        finally:
            del self._viewers[viewer]
            self._on_change()

    def missing_after(self, position: Position | None, *, is_in_order: bool) -> RunEvents | None:
        """Return what a viewer lacks that has a position, or `None` if that is nothing.

        It is made once for as long as a viewer keeps it, and nothing is added.
        """
        content = self._content
        if position == content.head:
            return None
        key = (content.head, content.status, self.beginnings, position, is_in_order)
        found = self._missing.get(key)
        if found is None:
            events = content.whole(in_order=is_in_order) if position is None else content.since(position)
            if not events:
                return None
            found = self._missing[key] = RunEvents(content.id, events)
        return found

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Count as a viewer what reads the content itself, and waits by `wait_delivered`."""
        self._readers += 1
        self._on_change()
        try:
            yield
        finally:
            self._readers -= 1
            self._on_change()

    async def wait_delivered(self) -> None:
        """Wait until something was added."""
        await self._delivery.park()

    def begin_anew(self) -> None:
        """Let all viewers begin anew: the content is another one."""
        self.beginnings += 1
        self._delivered = self._content.head
        self._delivery.unpark_all()
        for viewer in self._viewers:
            viewer.begin_anew()

    async def deliver(self) -> None:
        """Write what was added since the last call to all viewers that have everything else.

        The content must not change meanwhile. If this is cancelled, `deliver_nowait` does the rest.
        """
        batch = self._next_batch()
        if batch is None:
            return
        viewers = list(self._viewers)
        self._write(viewers[:_WRITES_PER_CHECKPOINT], batch)
        for start in range(_WRITES_PER_CHECKPOINT, len(viewers), _WRITES_PER_CHECKPOINT):
            await trio.lowlevel.checkpoint()
            self._write(viewers[start : start + _WRITES_PER_CHECKPOINT], batch)
        self._delivered = batch.position

    def deliver_nowait(self) -> None:
        """Do the same without letting other tasks run."""
        if (batch := self._next_batch()) is not None:
            self._write(list(self._viewers), batch)
            self._delivered = batch.position

    def _next_batch(self) -> RunEvents | None:
        if self._delivery:
            self._delivery.unpark_all()
        events = self._content.since(self._delivered)
        if not events:
            return None
        if not self._viewers:
            self._delivered = self._content.head
            return None
        return RunEvents(self._content.id, events)

    def _write(self, viewers: Iterable[Viewer], batch: RunEvents) -> None:
        before, now = self._delivered, trio.current_time()
        for viewer in viewers:
            try:
                viewer.deliver(before, batch, now)
            except BaseException as failure:  # it ends no other viewer
                viewer.wake()  # what is wrong is an error of its handler
                contain(failure, "showing a run failed")
