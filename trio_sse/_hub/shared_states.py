"""The states of a hub that are kept over a shared log, connected to the hub's other parts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .._shared_log.protocol import Log
from .._state.shared_states import SharedStates

if TYPE_CHECKING:
    from .engine import HubEngine


def share_states(hub: HubEngine, max_events: int, log: Log) -> SharedStates:
    """Return the states of a hub over a log, of which the hub keeps so many events."""
    kept = getattr(log, "max_events", None)
    max_age = getattr(log, "max_age", None)
    return SharedStates(
        hub.registry,
        when_settled=hub.when_settled,
        position=lambda: hub.log.last,
        epoch=lambda: hub.log.epoch,
        follows_for=lambda: hub.sequencer.follows_for,
        publish=lambda message: hub.publish(message),
        on_presence=hub.presence.read,
        keeps=min(max_events, kept) if isinstance(kept, int) else max_events,
        max_age=max_age if isinstance(max_age, int | float) else math.inf,
        timeout=log.publish_timeout,
    )
