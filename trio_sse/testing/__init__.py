"""Test your streams in memory: without ports or threads, and without waiting if the clock is a mock clock.

::

    async def test_prices(autojump_clock: trio.testing.MockClock) -> None:
        async with Client(app) as client, client.stream("/prices/ABC") as stream:
            await sse.hub.publish("prices/ABC", "42")
            assert (await stream.event()).data == "42"
            await trio.sleep(61)
            assert stream.keepalives == 4

The client reads its streams continuously, as browsers do, unless the test stalls them. An endless stream ends
with its block. What a test waits for must arrive within `timeout` seconds of Trio's clock.
"""

from .._module_metadata import set_public_module
from ._client import Client, ClientResponse
from ._interruptions import Interruption, interrupt_everywhere
from ._leaks import no_leak
from ._random_peer import Received, assert_nothing_lost, random_seed, read_at_random
from ._stream import Stream

__all__ = [
    "Client",
    "ClientResponse",
    "Interruption",
    "Received",
    "Stream",
    "assert_nothing_lost",
    "interrupt_everywhere",
    "no_leak",
    "random_seed",
    "read_at_random",
]

set_public_module(globals())
