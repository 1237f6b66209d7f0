"""Run MCP's conformance suite, two versions of it, on our server and on uvicorn, and compare.

`make mcp` installs what is needed and runs this; `--times 5` runs each suite so often, and `--suite stable`
only one. It fails if uvicorn passes a check that ours does not pass as often, if a call with 3 MB of
arguments fails, or if a stream that is open delays the end of ours by more than that of uvicorn's.
"""

from __future__ import annotations

import argparse
import http.client
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..support.programs import Program, running
from .environment import APP, PYTHON, set_up
from .session import Session
from .suite import Outcome, Suite

SUITES = ("stable", "newest")
SERVERS = ("trio_sse", "uvicorn")

_LARGE = 3_000_000  # characters of an argument
_TOLERANCE = 2.0  # seconds by which the end of ours may be later: a drain that waits takes ten


@contextmanager
def serving(server: str) -> Iterator[tuple[Program, str]]:
    """Serve the app; yield the program and its URL."""
    app = ["everything:app", "--app-dir", str(APP)]
    if server == "trio_sse":
        command = [str(PYTHON), "-m", "trio_sse", "serve", *app, "--bind", "127.0.0.1:0"]
    else:
        command = [str(PYTHON), "-m", "uvicorn", *app, "--port", "0"]
    with running(command, env={"PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"}) as program:
        output = program.stdout if server == "trio_sse" else program.stderr
        yield program, output.expect(r"(?:Serving|Uvicorn running) on (http://\S+) \(")[1]


def main() -> None:
    """Run the suites and the two other tries; exit with 1 if ours is behind."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mcp", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--times", type=int, default=1, help="how often to run each suite")
    parser.add_argument("--suite", choices=SUITES, action="append", help="run this suite only")
    options = parser.parse_args()
    set_up()
    behind: list[str] = []
    for name in options.suite or SUITES:
        behind += compare(Suite(name), options.times)
    behind += try_large_call()
    behind += try_end()
    for fault in behind:
        print(f"BEHIND: {fault}")
    sys.exit(bool(behind))


def compare(suite: Suite, times: int) -> list[str]:
    """Run a suite on both servers, print a table, and return in what ours is behind."""
    results: dict[str, dict[str, Outcome]] = {server: {} for server in SERVERS}
    for server in SERVERS:
        for _ in range(times):
            with serving(server) as (_, url):
                for scenario, outcome in suite.run(url).items():
                    results[server].setdefault(scenario, Outcome()).add(outcome)
    ours, theirs = (results[server] for server in SERVERS)
    print(f"\n{suite.version:52}{SERVERS[0]:>15}{SERVERS[1]:>15}")
    behind: list[str] = []
    totals = {server: Outcome() for server in SERVERS}
    for scenario in sorted(ours.keys() | theirs.keys()):
        outcomes = [results[server].get(scenario, Outcome()) for server in SERVERS]
        print(f"{scenario:52}{outcomes[0]!s:>15}{outcomes[1]!s:>15}")
        for server, outcome in zip(SERVERS, outcomes, strict=True):
            totals[server].add(outcome)
        for check, name in outcomes[1].passed - outcomes[0].passed:
            behind.append(f"{suite.version}, {scenario}: {check} ({name})")
    print(f"{'total':52}{totals[SERVERS[0]]!s:>15}{totals[SERVERS[1]]!s:>15}")
    return behind


def try_large_call() -> list[str]:
    """Call a tool with a large argument on both servers; return in what ours is behind."""
    answers: dict[str, tuple[int, str]] = {}
    for server in SERVERS:
        with serving(server) as (_, url):
            answers[server] = Session(url).call("length", text="x" * _LARGE)
    ours, theirs = (f"{status}, {text[:40]}" for status, text in answers.values())
    print(f"\n{f'a call with {_LARGE:,} characters':52}{ours:>15}{theirs:>15}")
    return [] if answers["trio_sse"] == (200, str(_LARGE)) else [f"a large call is answered with {ours}"]


def try_end() -> list[str]:
    """Stop both servers while a client listens to each; return in what ours is behind."""
    seconds: dict[str, float] = {}
    for server in SERVERS:
        with serving(server) as (program, url):
            stream = Session(url).listen()
            began_at = time.monotonic()
            program.send(signal.SIGTERM)
            try:
                stream.read()
                end = "complete"
            except (http.client.IncompleteRead, ConnectionError):
                end = "cut"
            program.wait()
            seconds[server] = time.monotonic() - began_at
        print(
            f"{f'SIGTERM while a client listens, {server}':52}{seconds[server]:10.1f} s, its stream is {end}"
        )
    is_late = seconds["trio_sse"] > seconds["uvicorn"] + _TOLERANCE
    return [f"SIGTERM takes {seconds['trio_sse']:.1f} s"] if is_late else []


if __name__ == "__main__":
    main()
