"""Does memory grow while clients come and go? `python -m benchmarks.soak --minutes 60`.

A number of streams is held; each second some leave and others come, and ten events a second reach all of
them. The memory is taken each ten seconds, and its slope is what counts: about 0 is right. It is the
anonymous memory, as the part of shared libraries changes with whatever else runs on the machine. The log is
full from the start.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import trio

from benchmarks.harness import machine, subjects
from benchmarks.harness.worker import HERE, LOAD_CORE

STREAMS = 2000
COMING_AND_GOING = 200
SAMPLE_SECONDS = 10.0

#: What the hub's log holds by default, and a bit more.
LOG_EVENTS = 12_000

#: So long until all that is loaded, cached or grown once has been.
WARM_UP_SECONDS = 120.0


async def soak(minutes: float) -> dict[str, object]:
    """Run for so long; give the samples and the slope."""
    samples: list[tuple[float, float]] = []
    async with subjects.native() as (server, port), subjects.load(port, STREAMS):
        for _ in range(LOG_EVENTS // 500):
            await server.ask("burst 500")
        began_at = time.monotonic()
        rounds = 0
        while time.monotonic() < began_at + minutes * 60:
            until = time.monotonic() + SAMPLE_SECONDS
            while time.monotonic() < until:
                async with subjects.load(port, COMING_AND_GOING):
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
        "came_and_went": rounds * COMING_AND_GOING,
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
    subprocess.run(["make", "--silent", "-C", str(HERE / "native")], check=True)
    os.sched_setaffinity(0, {LOAD_CORE})
    result = trio.run(soak, arguments.minutes)
    print(f"{result['came_and_went']} streams came and went: {result['kib_an_hour']} KiB more an hour")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
