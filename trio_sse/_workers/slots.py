"""The listening sockets of the workers' slots.

The kernel spreads new connections over all sockets that listen on an address (SO_REUSEPORT), whether or not
a process accepts them. A slot without an accepting worker would swallow its share, for as long as the
worker hangs or waits for its restart. So the slot is withdrawn, after two seconds or as soon as its worker
counts as silent, unless no other worker accepts either: then connections wait in the queues.

To withdraw, the supervisor calls `shutdown` on the slot's sockets. Closing them has no effect, because a
worker that hangs has copies. After `shutdown`, the kernel gives new connections to the other slots. Those
in the queue are reset, so their clients can try again; with `net.ipv4.tcp_migrate_req=1` the kernel moves
them to the other slots. When the worker is there, `listen` on the same sockets brings the slot back, also
in the worker's copies. Of 40 connections to two slots, one of which hung, 26 were unanswered as long as it
hung, also after `close`; after `shutdown` none was.

Passing the queue to another slot's worker would lose nothing without a setting of the kernel. But that
worker would need a channel for descriptors and a second call to serve, which cannot end without its streams.

Sockets that all workers share, Unix sockets and inherited ones, stay: the first worker that accepts takes
the next client.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Collection, Sequence
from typing import final

from .._logger import get_logger
from .._program.listening import Listening

logger = get_logger("trio_sse.program")

_GRACE_SECONDS = 2.0  # a worker starts faster, also on a busy machine, and accepts what waits in the queue


@final
class WorkerSlots:
    """The sockets of each slot, which the supervisor keeps open."""

    def __init__(self, listening: Listening) -> None:
        self._listening = listening
        self._slots = listening.slots
        self._idle_since: dict[
            int, float
        ] = {}  # the slots without an accepting worker, beside those with one
        self._withdrawn: set[int] = set()

    def __len__(self) -> int:
        """Return the number of slots."""
        return len(self._slots)

    def sockets(self, slot: int) -> Sequence[socket.socket]:
        """Return a slot's sockets and those that all share, for its worker."""
        return [*self._slots[slot], *self._listening.shared]

    def update(self, accepting: Collection[int], silent: Collection[int]) -> None:
        """Withdraw the slots in which no worker accepts, after a grace; bring back the others.

        Slots whose worker is silent are withdrawn without a grace.
        """
        now = time.monotonic()
        for slot in range(len(self._slots)):
            if slot in accepting or not accepting:
                self.bring_back(slot)
            elif slot in silent or now >= self._idle_since.setdefault(slot, now) + _GRACE_SECONDS:
                self._withdraw(slot)

    def bring_back(self, slot: int) -> None:
        """Let a slot have its share of new connections again, at least until its grace is over."""
        self._idle_since.pop(slot, None)
        if slot not in self._withdrawn:
            return
        try:
            for listening in self._slots[slot]:
                listening.listen(socket.SOMAXCONN)
        except OSError as error:
            logger.error("slot %d cannot listen again: %s; trying again", slot, error.strerror)
        else:
            self._withdrawn.remove(slot)
            logger.info("slot %d listens again", slot)

    def _withdraw(self, slot: int) -> None:
        if slot in self._withdrawn or not self._slots[slot]:
            return
        self._withdrawn.add(slot)
        for listening in self._slots[slot]:
            with contextlib.suppress(OSError):  # only Linux can do it, and only Linux spreads connections
                listening.shutdown(socket.SHUT_RD)
        logger.warning("no worker accepts connections in slot %d: the other slots receive them", slot)

    def end(self) -> None:
        """Refuse new clients in all slots, and leave those that wait to the workers, which drain."""
        self._listening.refuse_new_clients()
        self._listening.close()

    def leave(self, slot: int) -> None:
        """Close what belongs to other slots, in a worker."""
        self._listening.close_copies(keep=slot)
