"""Follow a stream of Redis with coredis alone: `python -m benchmarks.servers.log_follower URL`.

It reads the command `follow N` from stdin, reads N more entries, and answers with percentiles of their ages
in milliseconds.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import trio

from benchmarks.harness.control import answer, lines
from trio_sse._tools.load.distribution import Distribution

STREAM = "floor"


async def run(url: str) -> None:
    import coredis

    client: Any = coredis.Redis.from_url(url, verify_version=False)
    last: str | bytes = "0-0"
    async with client:
        answer("ready")
        async for line in lines():
            count = int(line.split()[1])
            ages = Distribution()
            while ages.count < count:
                found = await client.xread({STREAM: last}, count=256, block=1000)
                now = time.monotonic_ns()
                for entry in (found or {}).get(STREAM.encode(), ()):
                    last = entry[0]
                    ages.add((now - int(entry[1][b"d"][:20])) / 1e6)
            percentiles = ages.percentiles()
            answer("followed", **{name: percentiles[name] for name in ("p50", "p99", "max")})


if __name__ == "__main__":
    trio.run(run, sys.argv[1])
