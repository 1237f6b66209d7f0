"""A wall clock that jumps, by libfaketime."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from benchmarks.hostile.needs import faketime_library
from benchmarks.hostile.scenario import Settings, Surroundings

_JUMPS = ("+1h", "-1h", "+30d", "-2d", "+1y", "+0")


@asynccontextmanager
async def jumping_clock(settings: Settings) -> AsyncIterator[Surroundings]:
    """Surround the server with a wall clock that jumps to and fro. The monotonic clock does not."""
    with tempfile.TemporaryDirectory() as folder:
        clock = Path(folder) / "clock"
        clock.write_text("+0\n")
        variables = {
            "LD_PRELOAD": faketime_library(),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

        async def disturb() -> None:
            for jump in _JUMPS:
                await trio.sleep(settings.seconds / (len(_JUMPS) + 1))
                clock.write_text(f"{jump}\n")

        yield Surroundings(
            prefix=["env", *(f"{name}={value}" for name, value in variables.items())], disturb=disturb
        )
