"""Watching files for changes; needs the extra `reload`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import final

import trio

try:
    from watchfiles import Change, DefaultFilter, awatch
except ImportError as error:
    raise ImportError("--reload needs its extra: pip install 'trio-sse[reload]'") from error

_STEP_MILLISECONDS = 50  # a change is reported when nothing else has changed for this long
_MOST_MILLISECONDS = 1000  # or after this
_CHECK_MILLISECONDS = 200  # how long it waits for changes before it says that there were none


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Which files to watch.

    Attributes:
        folders: with everything in them, except caches, environments and the like.
        include: patterns of the names or paths that count.
        exclude: patterns of those that do not.
    """

    folders: Sequence[Path]
    include: Sequence[str]
    exclude: Sequence[str]

    def matches(self, path: str) -> bool:
        """Return whether a change of this file counts."""
        name = Path(path).name

        def is_one_of(patterns: Sequence[str]) -> bool:
            return any(fnmatch(name, pattern) or fnmatch(path, pattern) for pattern in patterns)

        return is_one_of(self.include) and not is_one_of(self.exclude)

    async def changes(self, stop: trio.Event) -> AsyncIterator[set[str]]:
        """Yield the files that have changed, or none now and then, until the event is set."""
        by_default = DefaultFilter()

        def counts(change: Change, path: str) -> bool:
            return by_default(change, path) and self.matches(path)

        async for changed in awatch(
            *self.folders,
            watch_filter=counts,
            step=_STEP_MILLISECONDS,
            debounce=_MOST_MILLISECONDS,
            rust_timeout=_CHECK_MILLISECONDS,
            yield_on_timeout=True,
            stop_event=stop,
        ):
            yield {path for _, path in changed}
