"""What `trio-sse load` prints: a line each second while it runs, and a table at the end."""

from __future__ import annotations

from typing import IO, final

from .distribution import Distribution
from .run import BUSY_SHARE, Load

_LINES_APART = 5  # seconds, if standard error is not a terminal


@final
class LiveTable:
    """A run's statistics while it lasts: one line that changes, or a line every 5 s."""

    def __init__(self, run: Load, out: IO[str]) -> None:
        self._run = run
        self._out = out
        self._is_terminal = out.isatty()
        self._shown = 0
        self._events = 0

    def show(self) -> None:
        """Show the statistics of the last second; call it once a second."""
        totals = self._run.totals
        events, self._events = totals.events - self._events, totals.events
        self._shown += 1
        if not self._is_terminal and self._shown % _LINES_APART:
            return
        line = (
            f"{self._shown:4d} s  {totals.connected:,} connected  {totals.events:,} events  {events:,}/s  "
            f"{totals.reconnects:,} reconnects  {sum(totals.failures.values()):,} failures  "
            f"{self._run.cpu_share:.0%} of a core"
        )
        self._out.write(f"\r\x1b[K{line}" if self._is_terminal else f"{line}\n")
        self._out.flush()

    def finish(self) -> None:
        """End the line that changes."""
        if self._is_terminal and self._shown:
            self._out.write("\n")
            self._out.flush()


def write_report(run: Load, out: IO[str]) -> None:
    """Write the statistics of a run that has ended."""
    totals = run.totals
    seconds = run.seconds or 1.0
    rows = [
        (
            "streams",
            f"{totals.most_connected:,} at once, {totals.opened:,} opened, of {run.options.streams:,}",
        ),
        *([("connections", f"{run.options.connections:,}, HTTP/2")] if run.options.is_http2 else []),
        ("reconnects", f"{totals.reconnects:,}"),
        ("events", f"{totals.events:,}, {totals.events / seconds:,.0f} a second"),
        ("bytes", f"{totals.bytes:,}"),
        ("time to the head", _spread(totals.head_times)),
        (
            "latency",
            _spread(totals.latencies)
            if totals.latencies.count
            else "unknown: no event says when it was sent",
        ),
        ("this tool", f"{run.cpu_share:.0%} of a core"),
    ]
    for name, value in rows:
        out.write(f"{name:18}{value}\n")
    for reason, count in totals.failures.most_common():
        out.write(f"{'failure':18}{count:,} times: {reason}\n")
    if run.cpu_share > BUSY_SHARE:
        out.write(
            "This tool used a whole core and may be the bottleneck: run several, or use fewer streams.\n"
        )


def _spread(times: Distribution) -> str:
    return ", ".join(f"{name} {value:,.1f} ms" for name, value in times.percentiles().items()) or "none"
