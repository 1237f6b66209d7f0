"""Streams that share a connection are written to one after the other, so that their events share a write."""

from __future__ import annotations

from trio_sse._hub.live_subscribers import LiveSubscribers
from trio_sse._wire.message import Batch


class Reader:
    def __init__(self, connection_number: int = 0) -> None:
        self.connection_number = connection_number

    def deliver(self, batch: Batch, now: float) -> None:
        """Receive nothing: the order is asked for."""

    def cut_off(self) -> None:
        """Do nothing."""


def test_streams_of_one_connection_come_one_after_the_other() -> None:
    live = LiveSubscribers()
    readers = [Reader(number) for number in (2, 0, 1, 2, 1, 0)]
    for reader in readers:
        live.add(["a"], reader)
    assert [reader.connection_number for reader in readers if reader in live.of("a")] == [2, 0, 1, 2, 1, 0]
    alone, first, second = [1, 5], [2, 4], [0, 3]
    assert live.of("a") == [readers[index] for index in (*alone, *first, *second)]


def test_a_list_stays_as_it_is_while_subscribers_come_and_leave() -> None:
    live = LiveSubscribers()
    readers = [Reader() for _ in range(40)]
    for reader in readers:
        live.add(["a"], reader)
    listed = live.of("a")
    assert live.of("a") is listed
    live.remove(["a", "b"], readers[7])
    assert len(listed) == 40
    assert live.of("a") == [reader for reader in readers if reader is not readers[7]]
    live.add(["a"], readers[7])
    assert live.of("a")[-1] is readers[7], "a kept list lacks who came after it"
    for reader in readers:
        live.remove(["a"], reader)
    assert live.of("a") == []
    assert len(live) == 0
