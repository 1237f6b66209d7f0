"""Follow an event stream, and say what happens to the connection: `python -m examples.follow URL`."""

from __future__ import annotations

import sys

import trio

from trio_sse.client import EventSource, SourceStatus


def report(status: SourceStatus, detail: str) -> None:
    """Print each change of the connection's status."""
    print(f"[{status.value}] {detail}", file=sys.stderr)


async def main(url: str) -> None:
    """Print the events of a URL until the server has no more."""
    async with EventSource(url, on_status=report) as source:
        async for event in source:
            if event.event == "reset":
                print("some events are lost: load the state anew")
            else:
                print(event.event or "message", event.data)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m examples.follow URL, such as http://127.0.0.1:8000/clock")
    trio.run(main, sys.argv[1])
