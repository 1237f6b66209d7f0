"""Does memory grow while clients connect and disconnect? `python -m benchmarks.soak --minutes 60`.

Some streams stay connected. Others connect and disconnect all the time, and ten events a second reach all of
them. The memory is measured every ten seconds, and its slope is the result: it should be about 0. Only
anonymous memory counts, because the share of shared libraries depends on what else runs on the machine. The
log is full from the start.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import trio

from benchmarks.harness import machine, programs, subjects
from benchmarks.harness.cores import leave_the_servers_core

STREAMS = 2000
SHORT_STREAMS = 200
SAMPLE_SECONDS = 10.0

#: A little more than the hub's log stores by default.
LOG_EVENTS = 12_000

#: The time until everything that is loaded, cached or allocated once has been.
WARM_UP_SECONDS = 120.0


async def soak(minutes: float) -> dict[str, object]:
    """Run for `minutes`. Return the samples and the slope."""
    samples: list[tuple[float, float]] = []
    async with subjects.native() as (server, port), subjects.load(port, STREAMS):
        for _ in range(LOG_EVENTS // 500):
            await server.ask("burst 500")
        began_at = time.monotonic()
        rounds = 0
        while time.monotonic() < began_at + minutes * 60:
            until = time.monotonic() + SAMPLE_SECONDS
            while time.monotonic() < until:
                async with subjects.load(port, SHORT_STREAMS):
                    await server.ask("steady 10 100")
                rounds += 1
            own = (await server.ask("memory"))["own_bytes"] / 1024
            samples.append((time.monotonic() - began_at, own))
            print(f"{samples[-1][0]:7.0f} s  {own:10.0f} KiB", flush=True)
    settled = [sample for sample in samples if sample[0] >= min(WARM_UP_SECONDS, minutes * 30)]
    slope = (
        statistics.linear_regression(*zip(*settled, strict=True)).slope * 3600 if len(settled) > 1 else 0.0
    )
    return {
        "machine": machine.facts(),
        "minutes": minutes,
        "streams": STREAMS,
        "came_and_went": rounds * SHORT_STREAMS,
        "kib_an_hour": round(slope, 1),
        "samples": [(round(seconds), round(kib)) for seconds, kib in samples],
    }


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    programs.build()
    leave_the_servers_core()
    result = trio.run(soak, arguments.minutes)
    print(f"{result['came_and_went']} short streams: {result['kib_an_hour']} KiB more an hour")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
