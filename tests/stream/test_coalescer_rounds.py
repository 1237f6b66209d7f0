"""The coalescer alone: what it buffers at most, and what it does in a round of the event loop."""

from __future__ import annotations

from collections.abc import Callable

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse._stream import coalescer
from trio_sse._stream.coalescer import WriteCoalescer


class Rounds(trio.abc.Instrument):
    """Counts the rounds of the event loop."""

    count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


class Recorder:
    """A stream, or a connection that streams share: it notes what it is given to send, and when."""

    def __init__(self, rounds: Rounds | None = None, *, is_slow: bool = False) -> None:
        self.calls: list[tuple[object, ...]] = []
        self._rounds = rounds or Rounds()
        self._is_slow = is_slow
        self.on_flush: Callable[[], object] = lambda: None

    def send_coalesced(self, payload: bytes, events: int, now: float) -> bool:
        self.calls.append((payload, events, now))
        return self._is_slow

    def flush_soon(self) -> None:
        self.calls.append(("soon",))

    def flush(self, now: float) -> None:
        self.calls.append((now, self._rounds.count))
        self.on_flush()


async def test_the_bounds_of_what_is_buffered_are_exact(autojump_clock: MockClock) -> None:
    buffer, stream = WriteCoalescer(), Recorder()
    most, largest = coalescer._MOST_EVENTS, coalescer._LARGEST_EVENT
    assert not buffer.append(stream, b"x")
    buffer.begin(stream)
    assert not buffer.append(stream, bytes(largest + 1))
    assert buffer.append(stream, bytes(largest))
    for _ in range(most - 1):
        assert buffer.append(stream, b"x")
    assert not buffer.append(stream, b"x")
    assert buffer.pending(Recorder()) is None
    assert len(buffer.pending(stream) or ()) == most
    await trio.sleep(7)
    assert buffer.flush(stream)
    assert not buffer.flush(stream)
    assert stream.calls == [(bytes(largest) + b"x" * (most - 1), most, trio.current_time())]


async def test_each_kind_of_work_alone_begins_a_round() -> None:
    buffer, stream, connection = WriteCoalescer(), Recorder(), Recorder()

    def begin(late: Recorder) -> None:
        buffer.begin(late)
        buffer.append(late, b"b")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(buffer.run)
        await wait_all_tasks_blocked()
        buffer.flush_later(connection)
        await wait_all_tasks_blocked()
        assert len(connection.calls) == 1
        buffer.begin(stream)
        buffer.append(stream, b"a")
        await wait_all_tasks_blocked()
        assert len(stream.calls) == 1
        late = Recorder()
        connection.on_flush = lambda: begin(late)
        buffer.flush_later(connection)
        await wait_all_tasks_blocked()
        assert len(late.calls) == 1  # what is added in a round is sent in the next one
        nursery.cancel_scope.cancel()


async def test_a_round_sends_what_is_buffered_and_lets_other_tasks_run(autojump_clock: MockClock) -> None:
    buffer, size = WriteCoalescer(), coalescer._FLUSHES_PER_CHECKPOINT
    slow, quick, idle = Recorder(is_slow=True), Recorder(), Recorder(is_slow=True)
    rounds = Rounds()
    shared = [Recorder(rounds) for _ in range(2 * size)]
    trio.lowlevel.add_instrument(rounds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(buffer.run)
        await wait_all_tasks_blocked()
        await trio.sleep(7)
        now = trio.current_time()
        for stream in (slow, quick, idle):
            buffer.begin(stream)
        buffer.append(slow, b"a")
        buffer.append(quick, b"b")
        buffer.append(quick, b"c")
        for connection in shared:
            buffer.flush_later(connection)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert slow.calls == [(b"a", 1, now), ("soon",)]
    assert quick.calls == [(b"bc", 2, now)]
    assert idle.calls == []
    trio.lowlevel.remove_instrument(rounds)
    first = int(str(shared[0].calls[0][1]))
    expected = [[(now, first)]] * size + [[(now, first + 1)]] * size
    assert [connection.calls for connection in shared] == expected
