"""A network that loses, delays, reorders and cuts, between a namespace and the server.

Both ends are TUN devices, whose packets this process passes on. So it is the kernel's TCP that has to cope.
"""

from __future__ import annotations

import fcntl
import os
import random
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import final

import trio

from benchmarks.hostile.scenario import Far, Settings, Surroundings

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SERVER, _CLIENTS = "10.213.77.1", "10.213.77.2"
_PACKET = 65536

#: How long the network is cut, once in the middle of the attack.
CUT_SECONDS = 3.0

#: Clients that hear nothing for so long reconnect. It is longer than retransmissions take.
_SILENCE = 4.0


@final
@dataclass(slots=True)
class BadNetwork:
    """Passes packets on between two TUN devices: late, in another order, or not at all.

    Attributes:
        loss: the share of packets that are lost.
        delay: the seconds that each takes, at least and at most; so some overtake others.
    """

    ends: tuple[int, int]
    loss: float = 0.05
    delay: tuple[float, float] = (0.02, 0.08)
    is_cut: bool = False

    async def run(self) -> None:
        """Pass packets on, in both directions, until cancelled."""
        near, far = self.ends
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, near, far, nursery)
            nursery.start_soon(self._pass_on, far, near, nursery)

    async def _pass_on(self, source: int, target: int, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(source)
            packet = os.read(source, _PACKET)
            if not self.is_cut and random.random() >= self.loss:
                nursery.start_soon(self._deliver, target, packet)

    async def _deliver(self, target: int, packet: bytes) -> None:
        await trio.sleep(random.uniform(*self.delay))
        if not self.is_cut:
            try:
                os.write(target, packet)
            except OSError:  # the device's queue is full: the packet is lost
                return


@contextmanager
def _devices(name: str) -> Iterator[tuple[int, int]]:
    """Create two TUN devices, one of them in a new namespace; yield their descriptors."""
    near, far = _open_device(f"{name}n"), _open_device(f"{name}f")
    try:
        _ip("netns", "add", name)
        try:
            _ip("addr", "add", _SERVER, "peer", _CLIENTS, "dev", f"{name}n")
            _ip("link", "set", f"{name}n", "up")
            _ip("link", "set", f"{name}f", "netns", name)
            _ip("-n", name, "addr", "add", _CLIENTS, "peer", _SERVER, "dev", f"{name}f")
            _ip("-n", name, "link", "set", f"{name}f", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            yield near, far
        finally:
            _ip("netns", "delete", name)
    finally:
        os.close(near)
        os.close(far)


def _open_device(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@asynccontextmanager
async def bad_network(settings: Settings) -> AsyncIterator[Surroundings]:
    """Surround the server with clients behind a bad network, which is cut once for some seconds."""
    name = f"hostile{os.getpid() % 100_000}"
    with _devices(name) as ends:
        network = BadNetwork(ends)

        async def disturb() -> None:
            await trio.sleep(settings.seconds / 3)
            network.is_cut = True
            await trio.sleep(CUT_SECONDS)
            network.is_cut = False

        far = Far(["ip", "netns", "exec", name], _SERVER, CUT_SECONDS + 2 * _SILENCE, _SILENCE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(network.run)
            yield Surroundings(disturb=disturb, far=far)
            nursery.cancel_scope.cancel()
