"""A stream's lifetime: its cancel scope, and why it ended.

The handler runs in the scope `lifetime`. Whatever ends the stream from outside (the maximum duration, a
disconnect, a drain, an overflow, a failed write) records the reason, once, and cancels that scope. So a
handler is always left in the same way, and nothing outlives the scope.
"""

from __future__ import annotations

import math
import random
import time
from typing import NoReturn

import trio

from .._transport.losses import PendingCut, WriteTimedOut
from .end_reason import EndReason
from .extras import StreamExtras, check_expiry
from .scope import ServeScope


class StreamLifetime:
    """The part of a `LiveStream` that ends it.

    Attributes:
        lifetime: the scope of the handler. It has no deadline while `keep_alive` looks at the time, since
            Trio would keep 100 bytes more for each stream.
        deadline: when its maximum duration is over, or its credentials expire.
        serving: the scope of the call that serves the stream.
    """

    __slots__ = ("_end_reason", "_extras", "_opened_at", "deadline", "lifetime", "serving")

    def __init__(self, serving: ServeScope, max_duration: float) -> None:
        self.serving = serving
        self._end_reason: EndReason | None = None
        self._extras: StreamExtras | None = None  # made when something is in it
        self._opened_at = trio.current_time()
        # With jitter, so that clients that connected together do not reconnect together.
        self.deadline = self._opened_at + max_duration * (1 - 0.2 * random.random())
        self.lifetime = trio.CancelScope()

    @property
    def duration(self) -> float:
        """Seconds since the stream was opened."""
        return trio.current_time() - self._opened_at

    @property
    def end_reason(self) -> EndReason | None:
        """Why the stream ended; `None` while it is open. See `Connection.end_reason`."""
        if self._end_reason is None:
            if self.lifetime.cancel_called:
                self._end_reason = self.deadline_reason
            elif self.serving.is_cancelled:
                self._end_reason = EndReason.SERVER_SHUTDOWN
        return self._end_reason

    def end(self, reason: EndReason) -> None:
        """End the stream for this reason, unless it has ended already."""
        self.serving.check_thread()
        if self.end_reason is None:
            self._end_reason = reason
            self.lifetime.cancel()

    def override_end_reason(self, reason: EndReason) -> None:
        """Change the reason of a stream that had finished, since it was refused, or its end not delivered."""
        self._end_reason = reason

    # Expiry

    @property
    def expires_at(self) -> float | None:
        """When its credentials expire; see `Connection.expires_at`."""
        return None if self._extras is None else self._extras.expires_at

    def set_expiry(self, expires_at: float | None) -> None:
        """End the stream at this time, in seconds since 1970; see `Connection.expires_at`."""
        if expires_at is None and self._extras is None:
            return
        self.serving.check_thread()
        left = math.inf if expires_at is None else check_expiry(expires_at) - time.time()
        extras = self._make_extras()
        extras.expires_at = expires_at
        now = trio.current_time()
        self.deadline = min(extras.max_deadline, now + left)
        if self.deadline <= now:
            self.end(self.deadline_reason)
        else:
            self.lifetime.deadline = self.deadline  # `keep_alive` may be due later

    @property
    def needs_deadline(self) -> bool:
        """Whether its scope needs a deadline, since `keep_alive` may look too late."""
        return self.expires_at is not None

    @property
    def deadline_reason(self) -> EndReason:
        """Why it ends at its deadline."""
        extras = self._extras
        is_early = extras is not None and self.deadline < extras.max_deadline
        return EndReason.EXPIRED if is_early else EndReason.MAX_DURATION

    def _make_extras(self) -> StreamExtras:
        if self._extras is None:
            self._extras = StreamExtras(self.deadline)
        return self._extras

    # What happens to the transport

    def on_disconnect(self) -> None:
        """End the stream, since the peer has disconnected."""
        self.end(EndReason.CLIENT_DISCONNECTED)

    def on_write_timeout(self) -> None:
        """End the stream, since the peer accepts nothing on its connection."""
        self.end(EndReason.WRITE_TIMEOUT)

    def on_pending_cut(self) -> None:
        """End the stream, since its connection was cut for the bytes that wait."""
        self.end(EndReason.SLOW_CONSUMER)

    def on_broken(self, error: trio.BrokenResourceError) -> None:
        """End the stream, since its transport has raised this."""
        self.end(reason_of_loss(error))

    def on_excess_input(self) -> None:
        """End the stream, since the peer keeps sending."""
        self.end(EndReason.PROTOCOL_ERROR)

    async def leave(self) -> NoReturn:
        """Leave the handler of a stream that has ended."""
        await trio.lowlevel.checkpoint()
        # Only a task outside the lifetime's scope, or a shielded one, gets here.
        raise self.ended_error()

    def ended_error(self) -> trio.ClosedResourceError:
        """Return what methods raise once the stream has ended."""
        reason = "unknown" if self.end_reason is None else self.end_reason.value
        return trio.ClosedResourceError(f"the stream has ended: {reason}")


def reason_of_loss(error: trio.BrokenResourceError) -> EndReason:
    """Return why a stream has ended whose transport has raised this."""
    if isinstance(error, PendingCut):
        return EndReason.SLOW_CONSUMER
    return EndReason.WRITE_TIMEOUT if isinstance(error, WriteTimedOut) else EndReason.CLIENT_DISCONNECTED
