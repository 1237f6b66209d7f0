"""A feed whose reader receives each event's topic, too.

It is a class of its own, so that other feeds pay nothing for it. As without topics, a batch is framed
once for each framing, and all such feeds share the bytes.
"""

from __future__ import annotations

from typing import ClassVar, Self, final

from .._wire.message import Batch
from .feed import Feed


@final
class TopicFeed(Feed):
    """A feed that says where each event was published."""

    __slots__ = ()

    includes_topic: ClassVar[bool] = True

    def deliver(self, batch: Batch, now: float) -> Self | None:
        if self.mark:
            batch = batch.holding(self.mark)
        writer = self._writer
        if writer is None or writer.pending is not None:
            self._keep(batch)
            return None
        is_sent = writer.begin_send(batch.framed_with_topics(writer.framing), batch.count, now)
        return None if is_sent else self
