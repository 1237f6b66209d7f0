"""A page for runs, and the run that the apps for tests in a browser have."""

from __future__ import annotations

import trio

from trio_sse import Run

PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>Runs</title>
<script src="/trio-sse.js"></script>"""


async def count(run: Run, to: int, pause: float) -> dict[str, int]:
    """Count in the main text, with a second text, an event for each tenth number, and a state."""
    for number in range(1, to + 1):
        await run.append(f"{number} ")
        if number % 10 == 0:
            await run.append("*", name="stars")
            await run.emit({"tenth": number}, event="tenth")
            await run.set_state({"at": number})
        await trio.sleep(pause)
    return {"counted": to}
