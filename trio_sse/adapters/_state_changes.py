"""How a run's state has changed, computed once for all viewers that show the run."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import final

import trio

from .._wire.json_text import compact_json
from ._json_patch import json_patch

# Viewers of different speed miss different states. So many changes are remembered.
_MOST_CHANGES = 4

# The change of a larger state is computed in a thread: it takes tens of milliseconds for a megabyte.
_LARGE = 32 * 1024

# A patch is sent if it is no longer than this, or than the state.
_SHORT_PATCH = 1024


@final
class StateChanges:
    """The changes of one run's state, as patches between the JSON texts of two states.

    It remembers the newest ones for as long as a viewer holds it.
    """

    def __init__(self) -> None:
        self._patches = OrderedDict[tuple[str, str], str | None]()
        self._lock = trio.Lock()

    async def prepare(self, before: str, after: str) -> None:
        """Compute a change, unless it is known, so that `patch` has it at once; other tasks run meanwhile."""
        async with self._lock:
            if (before, after) not in self._patches and len(before) + len(after) > _LARGE:
                self._remember(before, after, await trio.to_thread.run_sync(_patch, before, after))

    def patch(self, before: str, after: str) -> str | None:
        """Return the JSON Patch between two states, as JSON; `None` if the state itself is to be sent."""
        if (before, after) not in self._patches:
            self._remember(before, after, _patch(before, after))
        return self._patches[before, after]

    def _remember(self, before: str, after: str, patch: str | None) -> None:
        self._patches[before, after] = patch
        while len(self._patches) > _MOST_CHANGES:
            self._patches.popitem(last=False)


def _patch(before: str, after: str) -> str | None:
    """Return the patch, unless the state is shorter than a long patch."""
    operations = json_patch(json.loads(before), json.loads(after))
    if operations is None:
        return None
    patch = compact_json(operations)
    return patch if len(patch) <= max(_SHORT_PATCH, len(after)) else None
