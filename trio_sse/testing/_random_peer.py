"""A peer that behaves badly, at random and by a seed, and yet wants every event."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

import trio

from .._wire.event import ServerSentEvent
from ._client import Client
from ._stream import Stream

#: The environment variable that sets the seed.
SEED = "TRIO_SSE_SEED"


def random_seed() -> int:
    """Return the seed of the environment variable `TRIO_SSE_SEED`, or a new one."""
    return int(os.environ.get(SEED) or random.randrange(1_000_000))


@final
@dataclass
class Received:
    """What a peer has received.

    Attributes:
        seed: repeats the run.
        events: in the order in which they arrived, over all connections.
        actions: what the peer has done, for the report of a failure.
    """

    seed: int
    events: list[ServerSentEvent] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)


async def read_at_random(
    client: Client,
    path: str,
    *,
    until: Callable[[ServerSentEvent], bool],
    seed: int | None = None,
    longest: float = 5.0,
    within: float = 3600.0,
) -> Received:
    """Read a stream as a peer that stalls, resumes, leaves, half-closes and resets at random, and reconnects.

    It reconnects with the id of the last event, as an `EventSource` does. Pass what it has received to
    `assert_nothing_lost`.

    Args:
        client: the client to connect by.
        path: the stream's path.
        until: says of an event whether it is the last one.
        seed: repeats a run, together with a mock clock; by default that of `TRIO_SSE_SEED`, or a new one.
        longest: seconds of each of its actions, at most.
        within: seconds of Trio's clock within which the last event must arrive.

    Raises:
        trio.TooSlowError: it did not. The text has the seed.
    """
    seed = random_seed() if seed is None else seed
    peer = _RandomPeer(random.Random(seed), longest, until, Received(seed))
    with trio.move_on_after(within):
        while not peer.has_last:
            await peer.connect_once(client, path)
        return peer.received
    raise trio.TooSlowError(
        f"the last event did not arrive within {within:g} s ({SEED}={seed}): "
        f"{len(peer.received.events)} events, {peer.received.actions[-10:]}"
    )


@final
class _RandomPeer:
    def __init__(
        self,
        chance: random.Random,
        longest: float,
        until: Callable[[ServerSentEvent], bool],
        received: Received,
    ) -> None:
        self.has_last = False
        self.received = received
        self._chance = chance
        self._longest = longest
        self._until = until
        self._cursor: str | None = None

    async def connect_once(self, client: Client, path: str) -> None:
        """Connect, do some things, disconnect, and stay away for a while."""
        async with client.stream(path, last_event_id=self._cursor) as stream:
            for _ in range(self._chance.randint(1, 4)):
                await self._read_or_stall(stream)
            await self._leave(stream)
            for event in stream.events_nowait():
                self.received.events.append(event)
                self.has_last = self.has_last or self._until(event)
            self._cursor = stream.last_event_id or self._cursor
        await trio.sleep(self._seconds())

    async def _read_or_stall(self, stream: Stream) -> None:
        if self._note(self._chance.choice(["read", "stall"])) == "stall":
            stream.stall()
        await trio.sleep(self._seconds())
        stream.resume()

    async def _leave(self, stream: Stream) -> None:
        how = self._note(self._chance.choice(["close", "half-close", "reset"]))
        if how == "reset":
            stream.reset()
        elif how == "half-close" and not stream.is_over:
            await stream.half_close()
            await stream.wait_over()

    def _seconds(self) -> float:
        return self._chance.uniform(0, self._longest)

    def _note(self, action: str) -> str:
        self.received.actions.append(action)
        return action


def assert_nothing_lost(
    received: Received | Sequence[ServerSentEvent], published: Sequence[str], *, resets: bool = False
) -> None:
    """Check that a client has received what was published, in order, each once.

    Args:
        received: what came; events of the type `reset` are not counted.
        published: the data of the events, in their order, each different from the others.
        resets: whether events may be missing before a `reset`, which says so to the client.

    Raises:
        AssertionError: something is missing, came twice, or in another order. The text says what.
    """
    seed = f" ({SEED}={received.seed})" if isinstance(received, Received) else ""
    events = received.events if isinstance(received, Received) else received
    places = {data: place for place, data in enumerate(published)}
    expected, may_skip = 0, False
    for event in events:
        if event.event == "reset":
            may_skip = resets
            continue
        assert event.data in places, f"{event.data!r} was not published{seed}"
        place = places[str(event.data)]
        assert place >= expected, f"{event.data!r} came twice, or after what follows it{seed}"
        assert place == expected or may_skip, (
            f"{published[expected]!r} is missing before {event.data!r}{seed}"
        )
        expected, may_skip = place + 1, False
    assert expected == len(published) or may_skip, (
        f"{published[expected]!r} and what follows is missing{seed}"
    )
