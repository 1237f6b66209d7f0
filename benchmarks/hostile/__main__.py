"""Run scenarios of hostile peers: `python -m benchmarks.hostile [SCENARIO...]`.

A scenario is chosen by a part of its name. Healthy clients follow a stream of events, and newcomers join,
while others attack. The exit status is 1 if they are disturbed, if the server grows too much, or if something
of the attack is left after its deadline.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from benchmarks.harness import machine
from benchmarks.harness.worker import BenchmarkError
from benchmarks.hostile import trial
from benchmarks.hostile.catalogue import SCENARIOS
from benchmarks.hostile.results import Result, table
from benchmarks.hostile.scenario import Scenario, Settings


def main() -> None:
    """Run as the command line says."""
    arguments = _arguments()
    chosen = choose(arguments.scenarios)
    if arguments.list or not chosen:
        print("\n".join(scenario.name for scenario in SCENARIOS))
        sys.exit(0 if arguments.list else "no scenario has such a name")
    settings = Settings(
        arguments.connections, arguments.healthy, arguments.seconds, arguments.within, arguments.share
    )
    results: list[Result] = []
    skipped: dict[str, str] = {}
    failed: dict[str, str] = {}
    for scenario in chosen:
        if reasons := scenario.reasons_to_skip():
            skipped[scenario.name] = "; ".join(reasons)
            print(f"{scenario.name}: SKIPPED, {skipped[scenario.name]}", flush=True)
            continue
        try:
            results.append(trio.run(trial.run, scenario, settings))
            print("  ".join(results[-1].row()), flush=True)
        except* (BenchmarkError, OSError) as group:
            failed[scenario.name] = f"{_leaf(group)}"
            print(f"{scenario.name}: FAILED, {failed[scenario.name]}", flush=True)
    print(f"\n{table(results, skipped)}")
    print("\n".join(f"{name}: FAILED, {reason}" for name, reason in failed.items()))
    if arguments.json is not None:
        values = {"results": [result.as_json() for result in results], "skipped": skipped, "failed": failed}
        arguments.json.write_text(json.dumps({"machine": machine.facts(), **values}, indent=2) + "\n")
    sys.exit(1 if failed or any(result.faults() for result in results) else 0)


def choose(names: Sequence[str]) -> list[Scenario]:
    """Return the scenarios whose names have one of these parts; all of them if there are none."""
    return [scenario for scenario in SCENARIOS if not names or any(part in scenario.name for part in names)]


def _arguments() -> argparse.Namespace:
    usual = Settings()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--list", action="store_true", help="print the names of all scenarios")
    parser.add_argument("--connections", type=int, default=usual.connections, help="of attackers")
    parser.add_argument("--healthy", type=int, default=usual.healthy, help="streams of healthy clients")
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of each attack")
    parser.add_argument("--within", type=float, default=usual.within, help="seconds that an event may take")
    parser.add_argument("--share", type=float, default=usual.share, help="percent that must be in time")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    main()
